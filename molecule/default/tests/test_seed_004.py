# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules for gpt-oss-120b on a GB10, one by one, read from the running container and its host."""

from __future__ import annotations

import json
import typing as t

import pytest

VLLM = "/home/gpu/vllm"
O200K = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"
CL100K = "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"
URL = "http://localhost:8000"


def option(container: dict[str, t.Any], flag: str) -> str:
    """The value of a flag of "vllm serve"."""
    command: list[str] = container["Config"]["Cmd"]
    return command[command.index(flag) + 1]


def ulimit(container: dict[str, t.Any], name: str) -> tuple[int, int]:
    (limit,) = (limit for limit in container["HostConfig"]["Ulimits"] if limit["Name"] == name)
    return limit["Soft"], limit["Hard"]


def mount(container: dict[str, t.Any], destination: str) -> tuple[str, str, bool]:
    (found,) = (found for found in container["Mounts"] if found["Destination"] == destination)
    return found["Type"], found["Source"], found["RW"]


def environment(container: dict[str, t.Any]) -> dict[str, str]:
    return dict(entry.split("=", 1) for entry in container["Config"]["Env"])


RULES: list[tuple[str, t.Callable[[dict[str, t.Any]], t.Any], t.Any]] = [
    ("image", lambda c: c["Config"]["Image"], "nvcr.io/nvidia/vllm:25.09-py3"),
    ("container name", lambda c: c["Name"], "/vllm-gpt-oss"),
    (
        "--gpus all",
        lambda c: [(r["Count"], r["DeviceIDs"], r["Capabilities"]) for r in c["HostConfig"]["DeviceRequests"]],
        [(-1, None, [["gpu"]])],
    ),
    ("--ipc=host", lambda c: c["HostConfig"]["IpcMode"], "host"),
    # The default, -1, is more than a simulated host may grant: its inventory asks for 8 MiB. See the test below.
    ("--ulimit memlock", lambda c: ulimit(c, "memlock"), (8388608, 8388608)),
    ("--ulimit stack=67108864", lambda c: ulimit(c, "stack"), (67108864, 67108864)),
    ("model cache", lambda c: mount(c, "/root/.cache/huggingface"), ("bind", f"{VLLM}/huggingface", True)),
    ("encodings, read-only", lambda c: mount(c, "/etc/encodings"), ("bind", f"{VLLM}/encodings", False)),
    ("TIKTOKEN_ENCODINGS_BASE", lambda c: environment(c)["TIKTOKEN_ENCODINGS_BASE"], "/etc/encodings"),
    ("the image's entrypoint", lambda c: c["Config"]["Entrypoint"], ["/opt/nvidia/nvidia_entrypoint.sh"]),
    ("vllm serve MODEL", lambda c: c["Config"]["Cmd"][:3], ["vllm", "serve", "openai/gpt-oss-120b"]),
    ("--quantization mxfp4", lambda c: option(c, "--quantization"), "mxfp4"),
    ("--gpu-memory-utilization 0.85", lambda c: option(c, "--gpu-memory-utilization"), "0.85"),
    ("--max-model-len 32768", lambda c: option(c, "--max-model-len"), "32768"),
    ("--served-model-name gpt-oss-120b", lambda c: option(c, "--served-model-name"), "gpt-oss-120b"),
    ("--port 8000", lambda c: option(c, "--port"), "8000"),
    (
        "port 8000 of the host, on loopback",
        lambda c: c["HostConfig"]["PortBindings"],
        {"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8000"}]},
    ),
]


@pytest.mark.parametrize(("rule", "actual", "expected"), RULES, ids=[rule for rule, _actual, _expected in RULES])
def test_rule_of_the_container(container: dict[str, t.Any], rule: str, actual: t.Any, expected: t.Any) -> None:
    assert actual(container) == expected


def test_the_gpus_were_asked_for_at_start(host: t.Any) -> None:
    assert host.file("/run/sim-gpu.log").content_string.startswith("prestart")


def test_directories_exist_and_belong_to_the_user(host: t.Any) -> None:
    for name in ("", "/huggingface", "/encodings"):
        directory = host.file(VLLM + name)
        assert (directory.is_directory, directory.user, directory.mode & 0o022) == (True, "gpu", 0)


@pytest.mark.parametrize(("name", "sha256"), [("o200k_base", O200K), ("cl100k_base", CL100K)])
def test_encodings_are_there_and_right(host: t.Any, name: str, sha256: str) -> None:
    file = host.file(f"{VLLM}/encodings/{name}.tiktoken")
    assert (file.sha256sum, file.user, file.mode) == (sha256, "gpu", 0o644)


def test_the_token_reaches_the_server(host: t.Any, container: dict[str, t.Any]) -> None:
    path = environment(container)["HF_TOKEN_PATH"]
    assert host.check_output(f"docker exec vllm-gpt-oss cat {path}") == "hf_canary4711"


def test_one_server_alone_runs(host: t.Any) -> None:
    assert host.check_output("docker ps --all --format {{.Names}}").split() == ["vllm-gpt-oss"]


# The three verifications at the end, as a user would do them on the host


def test_curl_health(host: t.Any) -> None:
    assert host.check_output(f"curl --silent --show-error --write-out '%{{http_code}}' {URL}/health") == "200"


def test_curl_models(host: t.Any) -> None:
    models = json.loads(host.check_output(f"curl --silent --show-error --fail {URL}/v1/models"))
    assert [model["id"] for model in models["data"]] == ["gpt-oss-120b"]


def test_curl_chat_completion(host: t.Any) -> None:
    question = {"model": "gpt-oss-120b", "messages": [{"role": "user", "content": "Say hello"}]}
    curl = "curl --silent --show-error --fail --header 'content-type: application/json' --data %s %s"
    answer = json.loads(host.check_output(curl, json.dumps(question), f"{URL}/v1/chat/completions"))
    assert answer["choices"][0]["message"]["content"].startswith("Hello!")
