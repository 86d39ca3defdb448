# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The unit that the role made, its files, its process, and where no secret shows."""

from __future__ import annotations

import json
import re
import typing as t

import pytest

if t.TYPE_CHECKING:
    from ...conftest import Run

UNIT = "vllm-gpt-oss"
KEY = "canary4711-of-the-service"
COMMIT = "gpufleet.vllm.vllm_server : Commit: remove the replaced server and record start-up measurements"


def environment(host: t.Any) -> str:
    """The one virtual environment of the host."""
    return t.cast(str, host.check_output("echo /opt/vllm/venvs/*"))


def pid(host: t.Any) -> str:
    """The API server."""
    return t.cast(str, host.check_output(f"systemctl show --property MainPID --value {UNIT}"))


def test_what_check_mode_said_is_what_was_done(runs: list[Run]) -> None:
    predicted, done, again = runs
    assert (predicted.check, done.check, again.check) == (True, False, False)
    assert predicted.changed
    assert done.changed == [*predicted.changed, COMMIT]
    assert again.changed == []


def test_the_environment_is_recorded_for_the_server(host: t.Any) -> None:
    entry = json.loads(host.check_output("sudo sh -c 'cat /var/lib/gpufleet.vllm/owned/environment.*.json'"))
    assert (entry["path"], entry["users"], entry["state"]) == (environment(host), [UNIT], "built")
    assert host.check_output(f"readlink -f /proc/{pid(host)}/exe").startswith("/usr/bin/python3")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ActiveState", "active"),
        ("UnitFileState", "enabled"),
        ("User", "vllm"),
        ("Restart", "always"),
        ("NRestarts", "0"),
        ("KillMode", "mixed"),
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "tmpfs"),
        ("PrivateTmp", "yes"),
        ("CapabilityBoundingSet", ""),
        ("LimitMEMLOCK", "infinity"),
        ("FragmentPath", f"/etc/systemd/system/{UNIT}.service"),
    ],
)
def test_property_of_the_unit(host: t.Any, name: str, value: str) -> None:
    assert host.check_output(f"systemctl show --property {name} --value {UNIT}") == value


@pytest.mark.parametrize(
    ("path", "modes"),
    [
        ("/etc/systemd/system/vllm-*", ["root 644"]),
        ("/etc/gpufleet.vllm", ["root 700"]),
        ("/etc/gpufleet.vllm/*", ["root 600"]),
        ("/srv/vllm/secrets", ["root 700"]),
        ("/srv/vllm/secrets/*", ["root 600", "root 600"]),
        (f"/run/{UNIT}", ["vllm 700"]),
        (f"/run/{UNIT}/*", ["vllm 400", "vllm 400"]),
        (f"/var/cache/gpufleet.vllm/{UNIT}-cache-*", ["vllm 700"]),
        ("/var/lib/gpufleet.vllm/owned", ["root 700"]),
    ],
)
def test_who_may_read_a_file(host: t.Any, path: str, modes: list[str]) -> None:
    assert host.check_output(f"sudo sh -c \"stat --format '%U %a' {path}\"").splitlines() == modes


def test_the_process_is_the_services_user_in_the_environment_it_was_given(host: t.Any) -> None:
    assert host.check_output(f"ps -o user= -p {pid(host)}") == "vllm"
    lines = host.check_output(f"sudo cat /proc/{pid(host)}/environ | tr '\\0' '\\n'").splitlines()
    found = dict(line.split("=", 1) for line in lines)
    assert {
        key: found.get(key) for key in ("VIRTUAL_ENV", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "TIKTOKEN_ENCODINGS_BASE")
    } == {
        "VIRTUAL_ENV": environment(host),
        "HF_HUB_CACHE": "/srv/vllm/huggingface/hub",
        "HF_HUB_OFFLINE": "1",
        "TIKTOKEN_ENCODINGS_BASE": "/srv/vllm/encodings",
    }
    assert re.fullmatch("GPU-[0-9a-f-]+,GPU-[0-9a-f-]+", found["CUDA_VISIBLE_DEVICES"])
    assert found["VLLM_API_KEY"] == KEY


def test_the_key_is_asked_for(host: t.Any) -> None:
    curl = "curl --silent --output /dev/null --write-out '%{http_code}' http://127.0.0.1:8000/v1/models"
    assert host.check_output(curl) == "401"
    models = host.check_output(f"{curl.replace('/dev/null', '-')} --header 'Authorization: Bearer {KEY}'")
    assert [model["id"] for model in json.loads(models[: -len("200")])["data"]] == ["gpt-oss-20b"]


@pytest.mark.parametrize(
    "command",
    [
        f"systemctl show {UNIT}",
        f"systemctl cat {UNIT}",
        f"systemctl status --full {UNIT}",
        "ps -eww -o args",
        f"sudo journalctl --no-pager --unit {UNIT}",
        "sudo journalctl --no-pager --identifier python3",
        "sudo sh -c 'cat /etc/gpufleet.vllm/* /var/lib/gpufleet.vllm/*.json /var/lib/gpufleet.vllm/owned/*'",
    ],
)
def test_no_secret_shows_on_the_host(host: t.Any, command: str) -> None:
    shown = host.run(command).stdout
    assert shown
    assert not re.search(r"hf_canary|canary4711", shown)


def test_no_secret_is_in_ansibles_output(runs: list[Run]) -> None:
    assert "write secret api_key_file" in runs[1].text
    assert not any("canary4711" in run.text for run in runs)
