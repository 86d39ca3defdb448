# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A spec as a unit: its table of directives, its words, its environment; and systemd's own opinion of it."""

from __future__ import annotations

import datetime
import json
import mmap
import os
import shlex
import shutil
import subprocess
import typing as t
from dataclasses import fields, replace
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.backend import Making
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.ledger import Entry
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.spec import CONTAINER, ServerSpec, from_params
from ansible_collections.gpufleet.vllm.plugins.module_utils._systemd import options, unit as units
from ansible_collections.gpufleet.vllm.plugins.module_utils._systemd.options import (
    DIRECTIVES,
    FORBIDDEN,
    NOT_DIRECTIVES,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._systemd.start import Start, parsed
from ansible_collections.gpufleet.vllm.plugins.module_utils._systemd.unit import Files, Host, fetching, rendered, trial
from ansible_collections.gpufleet.vllm.plugins.module_utils._systemd.words import environment_file, exec_line, words

SEAL = "0" * 32
VENV = "/opt/vllm"
PROGRAM = "/usr/local/lib/gpufleet.vllm/start-0.pyz"
HOST = Host(252, True, "/etc/gpufleet.vllm", PROGRAM, artifact_id="a1b2c3d4e5f6a7b8")
# Every option that a service has, away from its default.
EVERYTHING: dict[str, t.Any] = {
    "served_model_name": ["gpt", "gpt-4"],
    "port": 8001,
    "bind": "0.0.0.0",
    "gpus": ["GPU-1", "GPU-2"],
    "ulimits": {"memlock": 8, "nofile": 9, "core": 0},
    "huggingface_dir": "/root/hf",
    "encodings_dir": "/root/e",
    "hf_token_file": "/etc/t",
    "api_key_file": "/etc/k",
    "env_file": "/etc/v",
    "engine": {"enforce_eager": True, "hf_overrides": {"a": "100 % of $HOME"}},
    "env": {"GREETING": 'a "b" $c `d` \\e'},
    "volumes": ["/srv/a b:/b:ro", "/c:/d"],
    "restart_policy": "on-failure:3",
    "stop_timeout": 45,
    "user": "llm",
    "gpus_at_start": {"min_free_mib": 7},
    "vllm_version": "0.26.0",
}


def spec(**said: t.Any) -> ServerSpec:
    return from_params({"name": "a", "model": "openai/gpt-oss-120b", "venv": VENV, **said})


def files(host: Host = HOST, **said: t.Any) -> Files:
    return rendered(Making(spec(**said), "v1:f", "salt"), host, SEAL)


def lines(made: Files, name: str) -> list[str]:
    return [line.partition("=")[2] for line in made.unit.splitlines() if line.startswith(f"{name}=")]


def environment(made: Files) -> dict[str, str]:
    return dict(line.partition("=")[::2] for line in shlex.split(made.environment.replace("\n", " ")) if "=" in line)


# --- the table --------------------------------------------------------------------------------------------------------


def test_every_option_of_a_service_is_taken_in_or_named_as_none() -> None:
    taken = {name for row in DIRECTIVES for name in row.fields}
    of_services = {field.name for field in fields(ServerSpec) if field.metadata["only"] != CONTAINER}
    assert taken | {*NOT_DIRECTIVES} == of_services
    assert not taken & {*NOT_DIRECTIVES}


@pytest.mark.parametrize("row", DIRECTIVES, ids=lambda row: row.name)
def test_every_directive_says_why_it_is_there(row: options.Directive) -> None:
    assert row.section in ("Unit", "Service", "Install")
    assert len(row.because) > 10
    assert row.name not in FORBIDDEN


@pytest.mark.parametrize("key", [key for key in EVERYTHING if key != "vllm_version"])
def test_an_option_changes_what_is_made(key: str) -> None:
    needed = {"api_key_file": EVERYTHING["api_key_file"]} if key == "bind" else {}
    plain, changed = files(**needed), files(**needed, **{key: EVERYTHING[key]})
    assert (plain.unit, plain.environment) != (changed.unit, changed.environment)


def test_a_unit_without_caches_keeps_none() -> None:
    made = files(keep_caches=False)
    assert (made.cache, lines(made, "CacheDirectory"), environment(made)["HOME"]) == (None, [], "/tmp")


def test_a_unit_is_the_same_in_each_place_of_its_server() -> None:
    assert "vllm-a.service" not in files().unit


def test_two_units_of_one_server_differ() -> None:
    making = Making(spec(), "v1:f", "salt")
    one, other = rendered(making, HOST, "1" * 32), rendered(making, HOST, "2" * 32)
    assert one.identity != other.identity
    assert units.seal_in(one.unit) == "1" * 32


# --- systemd's opinion ------------------------------------------------------------------------------------------------

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="This machine has no systemd.")


@needs_systemd
@pytest.mark.parametrize(
    "said",
    [
        pytest.param({}, id="a plain server"),
        pytest.param(EVERYTHING, id="every option"),
        pytest.param({"gpus": "none", "restart_policy": "no", "keep_caches": False}, id="next to nothing"),
        pytest.param({"engine": {"x": ";"}, "model": "/root/a b/%n"}, id="words that systemd reads otherwise"),
    ],
)
@pytest.mark.parametrize("loads", [True, False], ids=["credentials", "no credentials"])
def test_systemd_finds_no_fault(said: dict[str, t.Any], loads: bool, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    for name in ("vllm", "python"):
        (venv / "bin" / name).write_text("#!/bin/sh\n")
        (venv / "bin" / name).chmod(0o755)
    making = Making(spec(**{**said, "venv": str(venv)}), "v1:f", "salt")
    host = Host(252, loads, str(tmp_path))
    made = [rendered(making, host, SEAL), trial(making, host, SEAL)]
    made += [fetching(making, host, SEAL, "0")] if making.spec.huggingface_dir else []
    for number, one in enumerate(made):
        path = tmp_path / f"vllm-{number}.service"
        path.write_text(one.unit)
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(path)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        said_of_it = [line for line in done.stderr.splitlines() if f"vllm-{number}" in line]
        assert (done.returncode, said_of_it) == (0, []), done.stderr


# --- words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "written"),
    [
        pytest.param("plain-0.9_a/b:c", "plain-0.9_a/b:c", id="plain"),
        pytest.param("", '""', id="empty"),
        pytest.param("a b", '"a b"', id="a blank"),
        pytest.param("50%", '"50%%"', id="a specifier"),
        pytest.param("$HOME ${x}", '"$$HOME $${x}"', id="a variable"),
        pytest.param('{"a": "b"}', '"{\\"a\\": \\"b\\"}"', id="JSON"),
        pytest.param("a\\b", '"a\\\\b"', id="a backslash"),
        pytest.param("a\nb\tc", '"a\\nb\\tc"', id="ends of lines"),
        pytest.param("it's", '"it\'s"', id="a quote"),
        pytest.param(";", '";"', id="what would end the command"),
        pytest.param("\x1b[1m", '"\\x1b[1m"', id="what a terminal obeys"),
        pytest.param("ü", '"ü"', id="a letter outside ASCII"),
    ],
)
def test_a_word_of_a_command(word: str, written: str) -> None:
    assert exec_line(["/bin/echo", word]) == f"/bin/echo {written}"


def test_a_dollar_means_nothing_outside_of_commands() -> None:
    assert words(["A=$x %n"]) == '"A=$x %%n"'


@pytest.mark.parametrize(
    "value", ["", "plain", "a b", "it's", 'a "b"', "$HOME", "`id`", "a\\b", "a\nb", "#no comment", "50%n"]
)
def test_a_variable_reads_as_a_shell_reads_it(value: str) -> None:
    text = environment_file({"X": value})
    printed = subprocess.run(
        ["sh", "-c", f'{text}\nprintf %s. "$X"'], capture_output=True, check=True, text=True, timeout=10
    )
    assert printed.stdout == f"{value}."


# --- what matters at night --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "restart", "starts", "at_boot"),
    [
        ("unless-stopped", "always", "5", True),
        ("on-failure", "on-failure", "5", True),
        ("on-failure:3", "on-failure", "4", True),
        ("no", "no", "5", False),
    ],
)
def test_how_it_is_restarted(policy: str, restart: str, starts: str, at_boot: bool) -> None:
    made = files(restart_policy=policy)
    assert (lines(made, "Restart"), lines(made, "StartLimitBurst")) == ([restart], [starts])
    assert lines(made, "StartLimitIntervalSec") == ["7200"]
    assert (lines(made, "WantedBy") == ["multi-user.target"]) is at_boot


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ({}, "30"),
        ({"stop_timeout": 90}, "90"),
        ({"engine": {"shutdown_timeout": 60}}, "75"),
        ({"engine": {"shutdown_timeout": 60}, "stop_timeout": 120}, "120"),
        ({"engine_unchecked": {"shutdown_timeout": 60}}, "75"),
    ],
    ids=["default", "asked for", "a drain of vLLM's", "a drain that is short enough", "an unchecked drain"],
)
def test_it_may_take_longer_to_stop_than_its_drain_takes(said: dict[str, t.Any], seconds: str) -> None:
    assert lines(files(**said), "TimeoutStopSec") == [seconds]


def test_shared_memory_that_nobody_has_mapped_goes_when_a_server_ends(tmp_path: Path) -> None:
    (line,) = lines(files(), "ExecStopPost")
    program = line.partition(" -c ")[2].strip("'").replace("$$", "$").replace("/dev/shm", str(tmp_path))
    for name in ("left", "mapped", "new"):
        (tmp_path / name).write_bytes(b"x")
    for name in ("left", "mapped"):
        os.utime(tmp_path / name, (0, 0))
    with open(tmp_path / "mapped", "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ):
        subprocess.run(["/bin/sh", "-c", program], check=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mapped", "new"]
    assert lines(trial(Making(spec(), "v1:f", "salt"), HOST, SEAL), "ExecStopPost") == []


def test_no_secret_and_no_environment_is_in_a_unit() -> None:
    made = files(**EVERYTHING)
    assert "GREETING" not in made.unit
    assert lines(made, "EnvironmentFile") == [f"/etc/gpufleet.vllm/{SEAL}.env"]
    assert lines(made, "LoadCredential") == ["hf_token:/etc/t", "vllm_api_key:/etc/k", "env:/etc/v"]
    assert lines(made, "Environment") == []
    assert not {"VLLM_API_KEY", "HF_TOKEN", "HF_TOKEN_PATH"} & {*environment(made)}


def test_where_systemd_hands_nothing_over_root_copies_secrets_for_the_user() -> None:
    made = files(Host(252, False, "/e"), api_key_file="/etc/k", gpus="none", user="llm")
    assert lines(made, "LoadCredential") == []
    assert lines(made, "ExecStartPre") == [
        "+/usr/bin/install -m 0400 -o llm -- /etc/k %t/%N/vllm_api_key",
    ]
    assert lines(made, "Environment") == ["CREDENTIALS_DIRECTORY=%t/%N"]
    assert lines(made, "RuntimeDirectoryMode") == ["0700"]


def test_weights_and_encodings_are_bound_to_be_read() -> None:
    made = files(
        huggingface_dir="/root/hf", encodings_dir="/root/e", vllm_version="0.26.0", volumes=["/a:/b:ro", "/c:/d"]
    )
    assert lines(made, "BindReadOnlyPaths") == ["/opt/vllm", "/root/e", "/root/hf", "/a:/b"]
    assert lines(made, "BindPaths") == ["/c:/d"]
    seen = environment(made)
    assert (seen["HF_HUB_CACHE"], seen["HF_HUB_OFFLINE"]) == ("/root/hf/hub", "1")
    assert seen["TIKTOKEN_ENCODINGS_BASE"] == "/root/e"
    assert not seen["HF_HOME"].startswith("/root")


def test_what_the_user_sets_comes_last() -> None:
    made = files(huggingface_dir="/hf", env={"HF_HUB_OFFLINE": "0", "HOME": "/h"})
    assert (environment(made)["HF_HUB_OFFLINE"], environment(made)["HOME"]) == ("0", "/h")


@pytest.mark.parametrize(
    ("said", "start"),
    [
        pytest.param({"gpus": "none"}, None, id="no GPU"),
        pytest.param(
            {"gpus": ["GPU-1", "GPU-2"], "vllm_version": "0.26.0+cu129", "engine": {"tensor_parallel_size": 2}},
            {"gpus": ("GPU-1", "GPU-2"), "takes_uuids": True, "share": 0.92, "used": 2},
            id="UUIDs",
        ),
        pytest.param(
            {"gpus": ["1"], "vllm_version": "0.23.1", "engine": {"gpu_memory_utilization": 0.5}},
            {"gpus": ("1",), "share": 0.5},
            id="a vLLM that takes indices",
        ),
        pytest.param(
            {"gpus": ["GPU-1"], "vllm_version": None}, {"gpus": ("GPU-1",), "share": 0.92}, id="of no version"
        ),
        pytest.param(
            {"port": 8001, "bind": "0.0.0.0"}, {"port": 8001, "bind": "0.0.0.0", "share": 0.92}, id="all GPUs"
        ),
        pytest.param(
            {"engine": {"uds": "/run/vllm/a.sock"}}, {"uds": "/run/vllm/a.sock", "share": 0.92}, id="on a Unix socket"
        ),
        pytest.param(
            {"engine": {"kv_cache_memory_bytes": "20G"}}, {"share": 0.0, "turns": ""}, id="with its cache pinned"
        ),
        pytest.param(
            {"gpus": ["GPU-1"], "gpus_at_start": {"min_free_mib": 7, "at_start": "reselect", "prefer": "free"}},
            {"gpus": ("GPU-1",), "min_free_mib": 7, "at_start": "reselect", "prefer": "free", "share": 0.92},
            id="a wish to be granted again",
        ),
        pytest.param(
            {"gpus": ["MIG-1"], "gpus_at_start": {"at_start": "reselect", "prefer": "nvlink", "mig": True}},
            {"gpus": ("MIG-1",), "at_start": "reselect", "mig": True, "share": 0.92},
            id="a wish for a MIG device",
        ),
    ],
)
def test_how_a_server_starts_on_its_gpus(said: dict[str, t.Any], start: dict[str, t.Any] | None) -> None:
    made = files(**{"allow_unauthenticated": True, **said})
    (line,) = lines(made, "ExecStart")
    if start is None:
        assert line.startswith("/opt/vllm/bin/vllm serve ")
        assert environment(made)["CUDA_VISIBLE_DEVICES"] == ""
        return
    python, isolated, program, *rest = shlex.split(line)
    assert (python, isolated, program) == ("/opt/vllm/bin/python", "-I", HOST.program)
    found = parsed(rest)
    assert found == replace(Start("a", found.command, turns=options.TURNS), **start)
    assert found.command[:2] == ("/opt/vllm/bin/vllm", "serve")
    assert "CUDA_VISIBLE_DEVICES" not in environment(made)
    assert len([one for one in lines(made, "ExecStartPre") if options.TURNS in one]) == bool(found.turns)


def test_root_runs_no_program_of_the_environment() -> None:
    """Its PATH begins with the one of the environment, whose owner may be anybody."""
    shells = [one for one in lines(files(), "ExecStartPre") if "/bin/sh" in one]
    assert len(shells) == 2
    assert all(one.lstrip("+-").startswith("/bin/sh -c 'PATH=/usr/sbin:/usr/bin:/sbin:/bin; ") for one in shells)


def test_the_shell_hands_secrets_to_the_server_alone(tmp_path: Path) -> None:
    (tmp_path / "vllm_api_key").write_text("K e y\n")
    (tmp_path / "env").write_text("# no\nA=b c\n")
    (tmp_path / "hf_token").write_text("t\n")
    command = units._command(spec(hf_token_file="/t", api_key_file="/k", env_file="/e"))
    shell = [*command[:4], "sh", "-c", 'echo "$VLLM_API_KEY|$A|$HF_TOKEN_PATH"']
    done = subprocess.run(
        shell,
        env={"PATH": "/usr/bin:/bin", "CREDENTIALS_DIRECTORY": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    )
    assert done.stdout == f"K e y|b c|{tmp_path}/hf_token\n"
    (tmp_path / "vllm_api_key").unlink()
    lost = subprocess.run(
        shell, env={"CREDENTIALS_DIRECTORY": str(tmp_path), "PATH": "/usr/bin:/bin"}, capture_output=True, check=False
    )
    assert (lost.returncode, lost.stdout) == (1, b"")
    assert lost.stderr == b"vllm_api_key did not reach the server\n"
    (tmp_path / "vllm_api_key").write_text("")
    empty = subprocess.run(
        shell, env={"CREDENTIALS_DIRECTORY": str(tmp_path), "PATH": "/usr/bin:/bin"}, capture_output=True, check=False
    )
    assert empty.returncode == 1
    assert b"holds no API key" in empty.stderr


# --- a trial and a download -------------------------------------------------------------------------------------------


def test_a_trial_is_the_same_but_runs_nothing_and_once() -> None:
    making = Making(spec(**EVERYTHING), "v1:f", "salt")
    whole, once = rendered(making, HOST, SEAL), trial(making, HOST, SEAL)
    assert lines(once, "Type") == ["oneshot"]
    for name in ("Restart", "WantedBy", "StartLimitBurst", "ExecStart", "TimeoutStartSec"):
        assert lines(once, name) != lines(whole, name)
    for row in DIRECTIVES:
        if row.name in (
            "User",
            "LoadCredential",
            "BindPaths",
            "BindReadOnlyPaths",
            "TemporaryFileSystem",
            "EnvironmentFile",
        ):
            assert lines(once, row.name) == lines(whole, row.name)
    assert " serve " not in once.unit


def test_a_download_writes_the_cache_as_its_owner_and_gets_the_token_alone() -> None:
    drafting = {"speculative_config": {"model": "org/draft"}, "revision": "main"}
    making = Making(spec(**{**EVERYTHING, "engine": drafting}), "v1:f", "salt")
    made = fetching(making, HOST, SEAL, "1000")
    assert (lines(made, "User"), lines(made, "BindPaths")) == (["1000"], ["/root/hf"])
    assert "/root/hf" not in lines(made, "BindReadOnlyPaths")
    assert lines(made, "LoadCredential") == ["hf_token:/etc/t"]
    assert (lines(made, "TimeoutStartSec"), lines(made, "UMask")) == (["infinity"], ["0022"])
    assert environment(made)["HF_HUB_OFFLINE"] == "0"
    assert lines(made, "ExecStart")[0].endswith("openai/gpt-oss-120b main org/draft")


def test_a_setting_of_json_comes_through() -> None:
    made = files(engine={"hf_overrides": {"a": "100 % of $HOME"}})
    command = lines(made, "ExecStart")[0].replace("%%", "%").replace("$$", "$")
    assert json.loads(shlex.split(command)[-1]) == {"a": "100 % of $HOME"}


STARTED = {"InvocationID": "i", "InactiveExitTimestampMonotonic": "90000000"}


@pytest.mark.parametrize(
    ("shown", "told", "started_as", "away"),
    [
        pytest.param({"ActiveExitTimestampMonotonic": "80500000"}, "", "", 9.5, id="systemd remembers it"),
        pytest.param({"ActiveExitTimestampMonotonic": "0"}, "2026-11-21T12:01:18+00:00", "i", 12.0, id="it forgot"),
        pytest.param({}, "2026-11-21T12:01:18+00:00", "i", 12.0, id="it says nothing of it"),
        pytest.param({}, "2026-11-21T12:01:18+00:00", "j", None, id="this is a later start"),
        pytest.param({}, "2026-11-21T12:01:18+00:00", "", None, id="it did not start since"),
        pytest.param({}, "2026-11-21T12:01:31+00:00", "i", None, id="a clock that was set"),
        pytest.param({}, "2026-11-21T12:01:18", "i", None, id="a time of no zone"),
        pytest.param({}, "soon", "i", None, id="it cannot be read"),
        pytest.param({"InactiveExitTimestampMonotonic": "0"}, "2026-11-21T12:01:18+00:00", "i", None, id="never ran"),
    ],
)
def test_how_long_a_unit_was_away(shown: dict[str, str], told: str, started_as: str, away: float | None) -> None:
    # The host has been up for 100 s.
    now = datetime.datetime(2026, 11, 21, 12, 1, 40, tzinfo=datetime.timezone.utc)
    proof = Entry("vllm-a", "s", stopping_since=told, started_as=started_as)
    found = units.Found("vllm-a", "", {**STARTED, **shown})
    assert units.instance("current", found, proof, 100.0, now).away_seconds == away
    assert units.instance("current", found, None, 100.0, now).away_seconds == (away if away == 9.5 else None)


@pytest.mark.parametrize(
    ("active", "shown", "ended"),
    [
        ("failed", {"ActiveExitTimestampMonotonic": "80000000"}, "2026-11-21T12:01:20Z"),
        ("active", {"ActiveExitTimestampMonotonic": "80000000"}, None),
        ("failed", {}, None),
    ],
)
def test_when_a_unit_ended(active: str, shown: dict[str, str], ended: str | None) -> None:
    now = datetime.datetime(2026, 11, 21, 12, 1, 40, tzinfo=datetime.timezone.utc)
    found = units.Found("vllm-a", "", {"ActiveState": active, **shown})
    assert units.instance("current", found, None, 100.0, now).ended_at == ended


@pytest.mark.parametrize(("shown", "restarts"), [({"NRestarts": "3"}, 3), ({"NRestarts": ""}, 0), ({}, 0)])
def test_how_often_systemd_started_a_unit_again(shown: dict[str, str], restarts: int) -> None:
    now = datetime.datetime(2026, 11, 21, 12, 1, 40, tzinfo=datetime.timezone.utc)
    assert units.instance("current", units.Found("vllm-a", "", shown), None, 100.0, now).restarts == restarts
