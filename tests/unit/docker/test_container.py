# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The container backend: what is sent to the Docker Engine, and what its answers mean."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import typing as t
from dataclasses import fields
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.backend import Action, Making
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.effects import on_files
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.ledger import entry
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.record import (
    LABEL_CACHE,
    LABEL_FALLBACKS,
    LABEL_FETCH,
    LABEL_FINGERPRINT,
    LABEL_SPEC,
    LABEL_SUPERSEDES,
    LABEL_VERSION,
    LABEL_VLLM_VERSION,
    LABEL_WROTE,
    server_name,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._docker import backend as docker_backend
from ansible_collections.gpufleet.vllm.plugins.module_utils._docker.container import (
    SECRETS_SHELL,
    SECRETS_TARGET,
    caches_of,
    configuration,
    docker_argv,
    fetching,
    instance,
    kernels_of,
    name_of,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._docker.options import NOT_OPTIONS, OPTIONS
from ansible_collections.gpufleet.vllm.plugins.module_utils._docker.reader import Identity
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.spec import CONTAINER, ServerSpec, from_params
from ansible_collections.gpufleet.vllm.plugins.module_utils._version import COLLECTION_VERSION

# The GB10 rules of the project's first server, to the letter.
GB10: dict[str, t.Any] = {
    "name": "gpt-oss",
    "image": "nvcr.io/nvidia/vllm:25.09-py3",
    "model": "openai/gpt-oss-120b",
    "served_model_name": "gpt-oss-120b",
    "huggingface_dir": "/home/u/vllm/huggingface",
    "encodings_dir": "/home/u/vllm/encodings",
    "engine": {"quantization": "mxfp4", "gpu_memory_utilization": 0.85, "max_model_len": 32768},
}
NGC_ENTRYPOINT = ["/opt/nvidia/nvidia_entrypoint.sh"]
ARGUMENTS = [
    "openai/gpt-oss-120b",
    *("--served-model-name", "gpt-oss-120b"),
    *("--port", "8000"),
    *("--gpu-memory-utilization", "0.85"),
    *("--max-model-len", "32768"),
    *("--quantization", "mxfp4"),
]


# What every server is given, in the order of the alphabet around the variables of the examples.
COMMON_ENV = [
    "CUDA_CACHE_PATH=/var/cache/vllm/cuda",
    "FLASHINFER_WORKSPACE_BASE=/var/cache/vllm/flashinfer",
    "NO_COLOR=1",
]
CACHE_ENV = ["TRITON_CACHE_DIR=/var/cache/vllm/triton", "VLLM_CACHE_ROOT=/var/cache/vllm/vllm"]
CACHES = "vllm-gpt-oss-cache-IMAGE:/var/cache/vllm"


def making(**said: t.Any) -> Making:
    """What a server is made from; C(making_...) are fields of it that are not of the spec."""
    other = {key[len("making_") :]: said.pop(key) for key in list(said) if key.startswith("making_")}
    return Making(from_params({**GB10, **said}), "v1:stamp", "salt", **other)


def body(image: list[str] | None = None, /, **said: t.Any) -> dict[str, t.Any]:
    """What is sent for an image with that entrypoint."""
    return configuration(making(**said), image)


EMPTY_LABELS = (LABEL_CACHE, LABEL_FALLBACKS, LABEL_FETCH, LABEL_SUPERSEDES, LABEL_WROTE)


# --- the configuration ----------------------------------------------------------------------------------------------


def test_the_gb10_server_is_exactly_this() -> None:
    assert body(NGC_ENTRYPOINT) == {
        "Image": "nvcr.io/nvidia/vllm:25.09-py3",
        "Cmd": ["vllm", "serve", *ARGUMENTS],
        "Env": [*COMMON_ENV, "TIKTOKEN_ENCODINGS_BASE=/etc/encodings", *CACHE_ENV],
        "Labels": {
            LABEL_SPEC: json.dumps(
                {
                    "encodings_dir": "/home/u/vllm/encodings",
                    "engine": {"gpu_memory_utilization": "0.85", "max_model_len": "32768", "quantization": "mxfp4"},
                    "huggingface_dir": "/home/u/vllm/huggingface",
                    "image": "nvcr.io/nvidia/vllm:25.09-py3",
                    "model": "openai/gpt-oss-120b",
                    "name": "gpt-oss",
                    "served_model_name": "gpt-oss-120b",
                },
                separators=(",", ":"),
            ),
            LABEL_FINGERPRINT: "v1:stamp",
            LABEL_VERSION: COLLECTION_VERSION,
            LABEL_VLLM_VERSION: "0.10.1.1",
            **dict.fromkeys(EMPTY_LABELS, ""),
        },
        "StopTimeout": 30,
        "ExposedPorts": {"8000/tcp": {}},
        "HostConfig": {
            "Binds": [
                "/home/u/vllm/huggingface:/root/.cache/huggingface",
                "/home/u/vllm/encodings:/etc/encodings:ro",
                CACHES,
            ],
            "DeviceRequests": [
                {"Driver": "", "Count": -1, "DeviceIDs": None, "Capabilities": [["gpu"]], "Options": {}}
            ],
            "IpcMode": "host",
            "NetworkMode": "bridge",
            "PortBindings": {"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8000"}]},
            "RestartPolicy": {"Name": "unless-stopped", "MaximumRetryCount": 0},
            "Ulimits": [
                {"Name": "memlock", "Soft": -1, "Hard": -1},
                {"Name": "stack", "Soft": 67108864, "Hard": 67108864},
            ],
        },
    }


SHELL = ["sh", "-c", SECRETS_SHELL, "vllm"]
SERVE = ["vllm", "serve"]
OWN = ["sh", "-c", 'pip install "x y" && exec "$@"', "sh"]
API_SERVER = ["python3", "-m", "vllm.entrypoints.openai.api_server"]


@pytest.mark.parametrize(
    ("entrypoint", "said", "command"),
    [
        pytest.param(NGC_ENTRYPOINT, {}, {"Cmd": [*SERVE, *ARGUMENTS]}, id="NVIDIA's entrypoint is kept"),
        pytest.param([], {}, {"Cmd": [*SERVE, *ARGUMENTS]}, id="no entrypoint"),
        pytest.param(SERVE, {}, {"Cmd": ARGUMENTS}, id="an image that is vllm serve"),
        pytest.param(["/usr/bin/env", *SERVE], {}, {"Cmd": ARGUMENTS}, id="an image that ends in vllm serve"),
        pytest.param(API_SERVER, {}, {"Cmd": ["--model", *ARGUMENTS]}, id="an image that is the older API server"),
        pytest.param(
            NGC_ENTRYPOINT,
            {"api_key_file": "/k"},
            {"Cmd": [*SHELL, *SERVE, *ARGUMENTS]},
            id="NVIDIA's entrypoint is kept with a key too",
        ),
        pytest.param([], {"env_file": "/e"}, {"Cmd": [*SHELL, *SERVE, *ARGUMENTS]}, id="an env file"),
        pytest.param([], {"hf_token_file": "/t"}, {"Cmd": [*SERVE, *ARGUMENTS]}, id="a token needs no shell"),
        pytest.param(
            SERVE,
            {"api_key_file": "/k"},
            {"Entrypoint": [*SHELL, *SERVE], "Cmd": ARGUMENTS},
            id="an image that is vllm serve, with a key",
        ),
        pytest.param(
            API_SERVER,
            {"api_key_file": "/k"},
            {"Entrypoint": [*SHELL, *API_SERVER], "Cmd": ["--model", *ARGUMENTS]},
            id="an image that is the older API server, with a key",
        ),
        pytest.param(
            SERVE, {"entrypoint": OWN}, {"Entrypoint": OWN, "Cmd": [*SERVE, *ARGUMENTS]}, id="another entrypoint"
        ),
        pytest.param(
            SERVE,
            {"entrypoint": OWN, "api_key_file": "/k"},
            {"Entrypoint": OWN, "Cmd": [*SHELL, *SERVE, *ARGUMENTS]},
            id="another entrypoint, with a key",
        ),
        pytest.param(
            [],
            {"entrypoint": ["nsys", "profile", *SERVE]},
            {"Entrypoint": ["nsys", "profile", *SERVE], "Cmd": ARGUMENTS},
            id="another entrypoint that ends in vllm serve",
        ),
        pytest.param(
            [],
            {"entrypoint": ["nsys", "profile", *SERVE], "env_file": "/e"},
            {"Entrypoint": [*SHELL, "nsys", "profile", *SERVE], "Cmd": ARGUMENTS},
            id="the same, with an env file",
        ),
    ],
)
def test_the_command_is_what_follows_the_entrypoint(
    entrypoint: list[str], said: dict[str, t.Any], command: dict[str, t.Any]
) -> None:
    made = body(entrypoint, **said)
    assert {key: made[key] for key in ("Entrypoint", "Cmd") if key in made} == command


PLAIN_BINDS = ["/home/u/vllm/huggingface:/root/.cache/huggingface", "/home/u/vllm/encodings:/etc/encodings:ro"]


@pytest.mark.parametrize(
    ("said", "binds"),
    [
        pytest.param({"huggingface_dir": None, "encodings_dir": None}, [], id="none"),
        pytest.param({"model": "/m/x"}, [*PLAIN_BINDS, "/m/x:/m/x:ro"], id="a model directory at the same path"),
        pytest.param({"model": "/m/x", "volumes": ["/m:/m:ro"]}, [*PLAIN_BINDS, "/m:/m:ro"], id="mounted already"),
        pytest.param({"model": "/m", "volumes": ["/d:/m"]}, [*PLAIN_BINDS, "/d:/m"], id="mounted from elsewhere"),
        pytest.param(
            {"model": "/models", "volumes": ["/d:/m"]},
            [*PLAIN_BINDS, "/models:/models:ro", "/d:/m"],
            id="a similar name",
        ),
        pytest.param(
            {"volumes": ["/d:/d:ro,z", "/e:/e:Z"]}, [*PLAIN_BINDS, "/d:/d:ro,z", "/e:/e:Z"], id="labels of SELinux"
        ),
        pytest.param(
            {"hf_token_file": "/t", "api_key_file": "/k", "env_file": "/e"},
            [
                *PLAIN_BINDS,
                "/t:/run/secrets/hf_token:ro",
                "/k:/run/secrets/vllm_api_key:ro",
                "/e:/run/secrets/env:ro",
            ],
            id="secrets, read-only",
        ),
    ],
)
def test_what_is_mounted(said: dict[str, t.Any], binds: list[str]) -> None:
    assert body(**said)["HostConfig"]["Binds"] == [*binds, CACHES]


def test_caches_are_kept_for_each_image_and_only_when_wanted() -> None:
    kept = configuration(making(), image_id="sha256:0123456789abcdef")
    assert kept["HostConfig"]["Binds"][-1] == "vllm-gpt-oss-cache-0123456789ab:/var/cache/vllm"
    dropped = body(keep_caches=False)
    assert [bind for bind in dropped["HostConfig"]["Binds"] if "cache/vllm" in bind] == []
    assert dropped["Env"] == ["NO_COLOR=1", "TIKTOKEN_ENCODINGS_BASE=/etc/encodings"]


@pytest.mark.parametrize(
    ("said", "shared"),
    [
        pytest.param({"vllm_version": "0.26.0"}, True, id="a version that builds each kernel under a lock of its own"),
        pytest.param({"vllm_version": "0.15.1"}, False, id="one that builds all of them in one directory"),
        pytest.param({}, False, id="a version that nobody knows"),
        pytest.param({"vllm_version": "0.26.0", "gpus": "none"}, False, id="no GPU"),
        pytest.param({"vllm_version": "0.26.0", "keep_caches": False}, False, id="nothing is kept"),
    ],
)
def test_kernels_are_shared_by_the_servers_of_an_image_where_that_is_safe(said: dict[str, t.Any], shared: bool) -> None:
    made = configuration(making(**said), image_id="sha256:0123456789abcdef", user=1000)
    volume = "gpufleet-kernels-1000-0123456789ab"
    assert (f"{volume}:/var/cache/vllm-kernels" in made["HostConfig"]["Binds"]) is shared
    assert (kernels_of(made) == [volume]) is shared
    places = [one for one in made["Env"] if one.startswith(("FLASHINFER_WORKSPACE_BASE=", "CUDA_CACHE_PATH="))]
    assert all(("/var/cache/vllm-kernels/" in place) is shared for place in places)
    assert bool(places) is said.get("keep_caches", True)


@pytest.mark.parametrize(
    ("said", "mounted"),
    [
        ({}, True),
        ({"vllm_version": "0.30.0"}, True),
        ({"vllm_version": "0.31.0"}, False),
        ({"vllm_version": "0.34.0"}, False),
        ({"image": "example.com/fork:latest"}, True),
        ({"image": "vllm/vllm-openai:v0.32.0"}, False),
        ({"image": "rhaiis/vllm-cuda-rhel9:3.2.2"}, True),
        ({"image": "team/vllm:0.32.0"}, True),
        ({"image": "nvcr.io/nvidia/vllm:26.01-py3"}, True),
    ],
)
def test_encodings_are_handed_over_to_the_versions_that_read_them(said: dict[str, t.Any], mounted: bool) -> None:
    made = body(**said)
    assert ("/home/u/vllm/encodings:/etc/encodings:ro" in made["HostConfig"]["Binds"]) == mounted
    assert ("TIKTOKEN_ENCODINGS_BASE=/etc/encodings" in made["Env"]) == mounted


def test_a_server_on_the_hosts_network_has_internal_ports_of_its_own() -> None:
    assert "VLLM_PORT=28000" in body(network_mode="host")["Env"]
    assert "VLLM_PORT=28032" in body(network_mode="host", port=8001)["Env"]
    assert not [entry for entry in body()["Env"] if entry.startswith("VLLM_PORT=")]


@pytest.mark.parametrize(
    ("said", "env"),
    [
        ({"encodings_dir": None}, []),
        ({"hf_token_file": "/t"}, ["HF_TOKEN_PATH=/run/secrets/hf_token", "TIKTOKEN_ENCODINGS_BASE=/etc/encodings"]),
        ({"env": {"B": "x y", "A": True}}, ["A=true", "B=x y", "TIKTOKEN_ENCODINGS_BASE=/etc/encodings"]),
        ({"env": {"TIKTOKEN_ENCODINGS_BASE": "/e"}}, ["TIKTOKEN_ENCODINGS_BASE=/e"]),
    ],
)
def test_the_environment(said: dict[str, t.Any], env: list[str]) -> None:
    made = body(**said)["Env"]
    assert made == sorted(made) and [entry for entry in made if entry not in COMMON_ENV + CACHE_ENV] == env
    assert {*COMMON_ENV, *CACHE_ENV} < {*made, ""}


@pytest.mark.parametrize(
    ("said", "key", "value"),
    [
        ({"gpus": "none"}, "DeviceRequests", []),
        (
            {"gpus": ["GPU-1", "GPU-2"]},
            "DeviceRequests",
            [{"Driver": "", "Count": 0, "DeviceIDs": ["GPU-1", "GPU-2"], "Capabilities": [["gpu"]], "Options": {}}],
        ),
        ({"network_mode": "host"}, "PortBindings", {}),
        ({"engine": {"uds": "/run/a.sock"}}, "PortBindings", {}),
        ({"network_mode": "host"}, "NetworkMode", "host"),
        ({"bind": "::1"}, "PortBindings", {"8000/tcp": [{"HostIp": "::1", "HostPort": "8000"}]}),
        ({"port": 9}, "PortBindings", {"9/tcp": [{"HostIp": "127.0.0.1", "HostPort": "9"}]}),
        ({"restart_policy": "on-failure:3"}, "RestartPolicy", {"Name": "on-failure", "MaximumRetryCount": 3}),
        ({"restart_policy": "no"}, "RestartPolicy", {"Name": "no", "MaximumRetryCount": 0}),
        ({"ipc_mode": "private"}, "IpcMode", "private"),
        ({"shm_size": "16g"}, "ShmSize", 17179869184),
        ({"network": "llm"}, "NetworkMode", "llm"),
        ({"network": "llm"}, "PortBindings", {"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8000"}]}),
        (
            {"devices": ["/dev/infiniband", "/dev/a:/dev/b:r"]},
            "Devices",
            [
                {"PathOnHost": "/dev/a", "PathInContainer": "/dev/b", "CgroupPermissions": "r"},
                {"PathOnHost": "/dev/infiniband", "PathInContainer": "/dev/infiniband", "CgroupPermissions": "rwm"},
            ],
        ),
        ({"privileged": True}, "Privileged", True),
        ({"cap_add": ["IPC_LOCK"]}, "CapAdd", ["IPC_LOCK"]),
        ({"group_add": [44]}, "GroupAdd", ["44"]),
        ({"security_opt": ["label=disable"]}, "SecurityOpt", ["label=disable"]),
        ({"extra_hosts": ["hub=10.0.0.1"]}, "ExtraHosts", ["hub:10.0.0.1"]),
        (
            {"ulimits": {"memlock": 8388608}},
            "Ulimits",
            [
                {"Name": "memlock", "Soft": 8388608, "Hard": 8388608},
                {"Name": "stack", "Soft": 67108864, "Hard": 67108864},
            ],
        ),
    ],
)
def test_a_key_of_the_host_configuration(said: dict[str, t.Any], key: str, value: t.Any) -> None:
    assert body(**said)["HostConfig"][key] == value


def test_a_server_on_the_hosts_network_exposes_no_port() -> None:
    assert "ExposedPorts" not in body(network_mode="host")


def test_labels_of_the_user_are_added() -> None:
    assert body(labels={"team": "nlp"})["Labels"]["team"] == "nlp"


def test_every_label_is_written_so_that_none_of_the_image_shows_through() -> None:
    assert body()["Labels"][LABEL_WROTE] == ""
    written = body(making_wrote={"/t", "/k"})
    assert written["Labels"][LABEL_WROTE] == '["/k","/t"]'


# --- the same for people --------------------------------------------------------------------------------------------


def test_the_command_line_says_the_same() -> None:
    words = docker_argv("vllm-gpt-oss", body(NGC_ENTRYPOINT))
    labels = [word for word in words if word.startswith("gpufleet.vllm.")]
    assert [word for word in words if word not in labels and word != "--label"] == [
        *("docker", "create", "--name", "vllm-gpt-oss"),
        *("--gpus", "all", "--ipc", "host", "--network", "bridge"),
        *("--ulimit", "memlock=-1", "--ulimit", "stack=67108864"),
        *("--restart", "unless-stopped", "--stop-timeout", "30"),
        *("--publish", "127.0.0.1:8000:8000"),
        *("--volume", "/home/u/vllm/huggingface:/root/.cache/huggingface"),
        *("--volume", "/home/u/vllm/encodings:/etc/encodings:ro"),
        *("--volume", CACHES),
        *(word for entry in COMMON_ENV for word in ("--env", entry)),
        *("--env", "TIKTOKEN_ENCODINGS_BASE=/etc/encodings"),
        *(word for entry in CACHE_ENV for word in ("--env", entry)),
        *("nvcr.io/nvidia/vllm:25.09-py3", "vllm", "serve", *ARGUMENTS),
    ]
    own = (LABEL_FINGERPRINT, LABEL_SPEC, LABEL_VERSION, LABEL_VLLM_VERSION)
    assert [word.split("=")[0] for word in labels] == sorted([*EMPTY_LABELS, *own])


@pytest.mark.parametrize(
    ("said", "entrypoint", "words"),
    [
        ({"gpus": ["GPU-1", "GPU-2"]}, [], ["--gpus", '"device=GPU-1,GPU-2"']),
        ({"bind": "::1"}, [], ["--publish", "[::1]:8000:8000"]),
        ({"network_mode": "host"}, [], ["--network", "host"]),
        ({"restart_policy": "on-failure:3"}, [], ["--restart", "on-failure:3"]),
        (
            {"devices": ["/dev/fuse"], "privileged": True, "cap_add": ["IPC_LOCK", "ALL"], "group_add": ["video"]},
            [],
            [
                *("--device", "/dev/fuse:/dev/fuse:rwm", "--privileged", "--cap-add", "ALL", "--cap-add", "IPC_LOCK"),
                *("--group-add", "video"),
            ],
        ),
        ({"security_opt": ["label=disable"]}, [], ["--security-opt", "label=disable", "--ipc", "host"]),
        ({"volumes": ["/d:/d:ro,z"]}, [], ["--volume", "/d:/d:ro,z"]),
        (
            {"ipc_mode": "private", "shm_size": "1g", "network": "llm", "hostname": "h", "extra_hosts": ["a:::1"]},
            [],
            [
                *("--ipc", "private", "--shm-size", "1073741824", "--network", "llm", "--hostname", "h"),
                *("--add-host", "a:::1"),
            ],
        ),
        ({"entrypoint": OWN}, [], ["--entrypoint", "sh"]),
        ({"entrypoint": OWN}, [], [*OWN[1:], *SERVE, *ARGUMENTS]),
        ({"volumes": ["hf:/root/.cache/huggingface"]}, [], ["--volume", "hf:/root/.cache/huggingface"]),
        ({"api_key_file": "/k"}, SERVE, ["--entrypoint", "sh"]),
        (
            {"api_key_file": "/k"},
            SERVE,
            ["nvcr.io/nvidia/vllm:25.09-py3", "-c", SECRETS_SHELL, "vllm", *SERVE, *ARGUMENTS],
        ),
    ],
)
def test_words_of_the_command_line(said: dict[str, t.Any], entrypoint: list[str], words: list[str]) -> None:
    line = docker_argv("c", body(entrypoint, **said))
    assert any(line[i : i + len(words)] == words for i in range(len(line)))


def test_the_command_line_is_quoted_for_a_shell() -> None:
    engine = docker_backend.DockerBackend(t.cast(t.Any, NoImage()), lambda: None)
    effects = engine.effects("c", lambda: making(entrypoint=OWN))
    line = shlex.join(effects["create"].command(Action("create", "next")))
    assert "--entrypoint sh " in line and """ -c 'pip install "x y" && exec "$@"' sh vllm serve """ in line


def test_a_server_without_gpu_asks_for_none() -> None:
    assert "--gpus" not in docker_argv("c", body(gpus="none"))


@pytest.mark.parametrize(
    ("action", "line"),
    [
        (Action("create_directory", "/a b"), "mkdir -p '/a b'"),
        (Action("write_secret", "/k"), "install -m 0600 /dev/stdin /k"),
        (Action("delete_file", "/k"), "rm /k"),
        (Action("delete_directory", "/h"), "rm -r /h"),
        (Action("pull", "i:1"), "docker pull i:1"),
        (Action("start", "current"), "docker start c"),
        (Action("stop", "current"), "docker stop c"),
        (Action("remove", "trial"), "docker rm -f c-try"),
        (Action("rename", "next", "", "current"), "docker rename c-next c"),
        (Action("rename", "current", "", "superseded"), "docker rename c c-superseded"),
    ],
)
def test_an_action_as_a_command(action: Action, line: str) -> None:
    assert shlex.join(as_command(action)) == line


class NoImage:
    """An engine that holds nothing."""

    def identity(self) -> Identity:
        return Identity()

    def image(self, reference: str) -> None:
        return None


def as_command(action: Action) -> t.Sequence[str]:
    engine = docker_backend.DockerBackend(t.cast(t.Any, NoImage()), lambda: None)
    return {**engine.effects("c", making), **on_files(None)}[action.verb].command(action)


def test_every_option_names_fields_of_the_spec_and_every_field_is_an_option_or_none() -> None:
    named = [name for option in OPTIONS for name in option.fields]
    of_containers = [field.name for field in fields(ServerSpec) if field.metadata["only"] in ("", CONTAINER)]
    assert sorted([*named, *NOT_OPTIONS]) == sorted(of_containers)
    assert len({option.place for option in OPTIONS}) == len(OPTIONS)


def test_creating_and_trying_as_commands() -> None:
    create = as_command(Action("create", "next"))
    assert create == docker_argv("c-next", body())
    trial = list(as_command(Action("try", "next")))
    assert trial[:5] == ["docker", "run", "--rm", "--name", "c-try"]
    assert "--publish" not in trial and trial[trial.index("--restart") + 1] == "no"
    assert trial[-1:] == ["nvcr.io/nvidia/vllm:25.09-py3"] and trial[trial.index("--entrypoint") + 1] == "true"


# --- secrets in the container ---------------------------------------------------------------------------------------


def environment(directory: Path, *words: str) -> tuple[int, dict[str, str], str]:
    """What a command sees that is started through the wrapper: its exit status, new variables, and the log."""
    script = SECRETS_SHELL.replace(SECRETS_TARGET, str(directory))
    before = {"PATH": os.environ["PATH"]}
    done = subprocess.run(
        ["sh", "-c", script, "vllm", *(words or ("env", "-0"))], env=before, capture_output=True, text=True, check=False
    )
    pairs = (line.split("=", 1) for line in done.stdout.split("\0") if "=" in line) if not words else ()
    new = {key: value for key, value in pairs if key not in ("PATH", "PWD", "_", "SHLVL", "OLDPWD", "l")}
    return done.returncode, new, done.stdout + done.stderr if words or done.returncode else done.stderr


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        pytest.param("A=b\n", {"A": "b"}, id="one"),
        pytest.param("A=b", {"A": "b"}, id="no newline at the end"),
        pytest.param("A=1\n\n# B=2\nC=3\n", {"A": "1", "C": "3"}, id="blank lines and comments"),
        pytest.param("A=\n", {"A": ""}, id="an empty value"),
        pytest.param("A=x y  \n", {"A": "x y  "}, id="blanks in the value"),
        pytest.param("A='x' \"y\"\n", {"A": "'x' \"y\""}, id="quotes stay"),
        pytest.param("A=$HOME `id` $(id) \\n\n", {"A": "$HOME `id` $(id) \\n"}, id="nothing is expanded"),
        pytest.param("A=b=c#d\n", {"A": "b=c#d"}, id="equals and hash in the value"),
        pytest.param("A=*\n", {"A": "*"}, id="no file names"),
        pytest.param("A\nB=2\n", {"B": "2"}, id="a name alone says nothing"),
        pytest.param("A=1\nA=2\n", {"A": "2"}, id="the last one counts"),
        pytest.param("", {}, id="empty"),
    ],
)
def test_the_env_file_is_taken_literally(text: str, variables: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "env").write_text(text)
    assert environment(tmp_path) == (0, variables, "")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("secret\n", "secret"),
        ("secret", "secret"),
        ("a b'\"$x\\\n", "a b'\"$x\\"),
    ],
)
def test_the_api_key_is_taken_literally(text: str, value: str, tmp_path: Path) -> None:
    (tmp_path / "vllm_api_key").write_text(text)
    assert environment(tmp_path) == (0, {"VLLM_API_KEY": value}, "")


@pytest.mark.parametrize("text", ["", "\n"])
def test_a_server_does_not_start_with_an_empty_key(text: str, tmp_path: Path) -> None:
    (tmp_path / "vllm_api_key").write_text(text)
    status, _variables, log = environment(tmp_path)
    assert status == 1
    assert log == f"{tmp_path}/vllm_api_key holds no API key\n"


def test_a_server_does_not_start_when_the_key_is_a_directory_that_docker_made(tmp_path: Path) -> None:
    (tmp_path / "vllm_api_key").mkdir()
    assert environment(tmp_path)[0] == 1


def test_without_secrets_the_command_runs_as_it_is(tmp_path: Path) -> None:
    assert environment(tmp_path) == (0, {}, "")
    assert environment(tmp_path, "printf", "%s|", "a b", "$c")[2] == "a b|$c|"


def test_the_exit_status_is_that_of_the_server(tmp_path: Path) -> None:
    assert environment(tmp_path, "sh", "-c", "exit 7")[0] == 7


# --- what is read of a container -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("container", "server"),
    [
        ("vllm-a", "vllm-a"),
        ("vllm-a-next", "vllm-a"),
        ("vllm-a-superseded", "vllm-a"),
        ("vllm-a-try", "vllm-a"),
        ("vllm-next-a", "vllm-next-a"),
    ],
)
def test_the_server_that_a_container_belongs_to(container: str, server: str) -> None:
    assert server_name(container) == server


def inspected(labels: t.Any = None, **state: t.Any) -> dict[str, t.Any]:
    return {"Image": "sha256:1", "Config": {"Labels": labels}, "State": {"Running": False, **state}}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param(inspected(), {"owned": False, "running": False, "artifact_id": "sha256:1"}, id="no labels at all"),
        pytest.param(inspected({"a": "b"}), {"owned": False}, id="labels of somebody else"),
        pytest.param(
            inspected({LABEL_FINGERPRINT: "v1:x"}),
            {"owned": False, "fingerprint": None, "intent": {}},
            id="labels that say it is ours",
        ),
        pytest.param(inspected({LABEL_SPEC: '{"port":1}'}), {"intent": {}}, id="a label with a spec"),
        pytest.param(inspected({LABEL_WROTE: '["/k"]'}), {"wrote": ()}, id="a label with files"),
        pytest.param(inspected(Running=True), {"running": True, "restarts": 0}, id="running"),
        pytest.param({**inspected(Running=True), "RestartCount": 3}, {"restarts": 3}, id="started again"),
        pytest.param(inspected(Running=True, Paused=True), {"running": True}, id="paused"),
        pytest.param(inspected(Restarting=True), {"running": True}, id="in a crash loop"),
        pytest.param(inspected(Status="created"), {"running": False}, id="created"),
        pytest.param(inspected(Status="exited", ExitCode=1), {"running": False}, id="exited"),
    ],
)
def test_what_is_known_of_a_container(found: dict[str, t.Any], expected: dict[str, t.Any]) -> None:
    known = instance("current", found)
    assert {key: getattr(known, key) for key in expected} == expected


def test_a_container_is_what_its_record_says() -> None:
    labels = {LABEL_FINGERPRINT: "v1:theirs", LABEL_SPEC: '{"port":1}', LABEL_WROTE: '["/etc/shadow"]'}
    proof = entry("vllm-a", "server", fingerprint="v1:x", intent={"port": 2}, wrote=("/k",))
    known = instance("current", inspected(labels), proof)
    assert (known.owned, known.fingerprint, known.intent, known.wrote) == (True, "v1:x", {"port": 2}, ("/k",))


@pytest.mark.parametrize(
    ("names", "name"),
    [
        (["/vllm-a"], "vllm-a"),
        (["/open-webui/llm", "/vllm-a"], "vllm-a"),
        (["/vllm-a", "/z/llm"], "vllm-a"),
        ([], ""),
        (None, ""),
    ],
)
def test_the_name_of_a_container_that_others_are_linked_to(names: list[str] | None, name: str) -> None:
    assert name_of({"Names": names}) == name


@pytest.mark.parametrize(
    ("bind", "caches"),
    [
        ("vllm-a-cache-1:/var/cache/vllm", ["vllm-a-cache-1"]),
        ("models:/root/.cache/huggingface", []),
        ("token:/run/secrets/hf_token:ro", []),
        ("/srv/cache:/var/cache/vllm", []),
        ("odd", []),
    ],
)
def test_a_cache_is_what_is_mounted_where_caches_are(bind: str, caches: list[str]) -> None:
    assert caches_of({"HostConfig": {"Binds": [bind]}}) == caches


def test_a_download_gets_neither_the_api_key_nor_the_env_file() -> None:
    fetch = fetching(body(api_key_file="/k", env_file="/e", hf_token_file="/t", volumes=["hf:/hf"]), "m", "")
    sources = [bind.split(":")[0] for bind in fetch["HostConfig"]["Binds"]]
    assert {"/t", "hf"} < {*sources} and not {"/k", "/e", CACHES.split(":", maxsplit=1)[0]} & {*sources}
