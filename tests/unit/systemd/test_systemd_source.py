# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Units as sources: what systemctl and journalctl print, and what it means."""

from __future__ import annotations

import typing as t
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._health.logfile import TAIL_LINES
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.processes import ProcessState
from ansible_collections.gpufleet.vllm.plugins.module_utils._systemd import source as source_module
from ansible_collections.gpufleet.vllm.plugins.module_utils._systemd.source import UnitSource, unit_state
from ansible_collections.gpufleet.vllm.plugins.module_utils._systemd.words import environment_file, read_environment

ACTIVE = {
    "LoadState": "loaded",
    "ActiveState": "active",
    "SubState": "running",
    "Result": "success",
    "MainPID": "4242",
    "NRestarts": "1",
    "ExecMainCode": "0",
    "ExecMainStatus": "0",
    "ExecMainStartTimestampMonotonic": "100000000",
    "InvocationID": "abc",
    "FragmentPath": "/etc/systemd/system/vllm-a.service",
}
FAILED = {**ACTIVE, "ActiveState": "failed", "SubState": "failed", "MainPID": "0", "Result": "exit-code"}


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (ACTIVE, ProcessState(True, None, restarts=1)),
        ({**FAILED, "ExecMainCode": "1", "ExecMainStatus": "2"}, ProcessState(False, 2, restarts=1)),
        ({**FAILED, "ExecMainCode": "2", "ExecMainStatus": "9"}, ProcessState(False, 137, restarts=1)),
        ({**FAILED, "ExecMainCode": "3", "ExecMainStatus": "11"}, ProcessState(False, 139, restarts=1)),
        ({**FAILED, "ExecMainCode": "killed", "ExecMainStatus": "9", "Result": "oom-kill"}, ProcessState(False, 137, True, restarts=1)),
        ({**ACTIVE, "ActiveState": "activating", "SubState": "auto-restart", "MainPID": "0", "ExecMainCode": "1",
          "ExecMainStatus": "1"}, ProcessState(False, 1, restarts=1)),
        ({**FAILED, "ActiveState": "inactive", "ExecMainCode": "1", "Result": "success"}, ProcessState(False, 0, restarts=1)),
        ({**FAILED, "ExecMainCode": "0"}, ProcessState(False, None, restarts=1)),
    ],
    ids=["runs", "exited", "killed", "dumped", "killed by the kernel", "between two starts", "stopped", "never ran"],
)  # fmt: skip
def test_unit_state(shown: dict[str, str], expected: ProcessState) -> None:
    found = unit_state("vllm-a.service", shown, 100.0)
    assert found == replace(expected, name="Unit vllm-a.service", started_at="100.0")


def test_a_unit_that_failed_too_often_says_so() -> None:
    state = unit_state("u", {**FAILED, "ExecMainCode": "1", "ExecMainStatus": "1", "Result": "start-limit-hit"}, 100.0)
    assert "systemctl reset-failed" in state.error


def test_a_unit_that_runs_has_an_age() -> None:
    state = unit_state("u", ACTIVE, 130.0)
    assert (state.name, state.started_at, state.age) == ("Unit u", "100.0", 30.0)


class Systemd:
    """systemctl and journalctl, as AnsibleModule.run_command runs them."""

    def __init__(self, shown: t.Mapping[str, str] | None = None) -> None:
        self.shown = ACTIVE if shown is None else shown
        self.journal: list[str] = []
        # What systemd itself says of this start.
        self.about: list[str] = []
        self.commands: list[list[str]] = []

    def __call__(self, command: list[str], **_said: t.Any) -> tuple[int, str, str]:
        self.commands.append(command)
        if command[0] == "systemctl":
            return 0, "".join(f"{key}={value}\n" for key, value in self.shown.items()), ""
        said = dict(word.partition("=")[::2] for word in command)
        after, count = int(said.get("--after-cursor", 0)), int(said.get("--lines", len(self.journal)))
        # As journalctl does it: the first lines after a cursor, else the last.
        journal = self.about if "INVOCATION_ID" in said else self.journal
        start = after if "--after-cursor" in said else max(0, len(journal) - count)
        lines = journal[start : start + count]
        if not lines:
            return 0, "-- No entries --\n", ""
        cursor = f"-- cursor: {start + len(lines)}\n" if "--show-cursor" in command else ""
        return 0, "".join(f"{line}\n" for line in lines) + cursor, ""


def test_a_unit_tells_only_what_is_new() -> None:
    systemd = Systemd()
    source = UnitSource("vllm-a", systemd)
    source.interval = 0
    systemd.journal += ["one", "two"]
    assert source.news() == "one\ntwo\n"
    assert source.news() == ""
    systemd.journal += ["three"]
    assert source.news() == "three\n"
    assert source.tail() == "one\ntwo\nthree\n"
    assert [word for word in systemd.commands[-1] if word.startswith("_SYSTEMD")] == ["_SYSTEMD_INVOCATION_ID=abc"]
    assert source.life() == "one\ntwo\nthree\n"
    assert [word for word in systemd.commands[-1] if word.startswith("_SYSTEMD")] == ["_SYSTEMD_INVOCATION_ID=abc"]


def test_of_an_environment_that_we_wrote_only_secrets_are_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_module, "ENVIRONMENTS", str(tmp_path))
    variables = {"CUDA_HOME": "/usr/local/cuda", "MY_TOKEN": 'canary"8\\451', "LINES": "a\nMY_KEY=b"}
    (tmp_path / "0.env").write_text(environment_file(variables))
    assert read_environment(environment_file(variables)) == variables

    def run(command: list[str], **_said: t.Any) -> tuple[int, str, str]:
        shown = "LoadState=loaded\nFragmentPath=/etc/systemd/system/x.service\n"
        return 0, shown if "show" in command else f"[Service]\nEnvironmentFile={tmp_path}/0.env\n", ""

    assert UnitSource("x", run).about()["secrets"] == ['canary"8\\451']


def test_a_start_that_wrote_nothing_is_not_told_by_an_earlier_one() -> None:
    systemd = Systemd()
    source = UnitSource("vllm-a", systemd)
    assert (source.tail(), source.life(), source.news()) == ("", "", "")
    looks = [command for command in systemd.commands if command[0] == "journalctl"]
    assert not any(word.startswith("--unit") for command in looks for word in command)
    systemd.about += ["vllm-a.service: Failed at step EXEC spawning /opt/vllm/bin/vllm: No such file or directory"]
    assert source.tail().startswith("vllm-a.service: Failed at step EXEC")


def test_a_unit_that_writes_more_than_is_read_at_once_loses_no_line() -> None:
    systemd = Systemd()
    source = UnitSource("vllm-a", systemd)
    source.interval = 0
    systemd.journal += ["first"]
    assert source.news() == "first\n"
    systemd.journal += map(str, range(2 * TAIL_LINES + 1))
    looks = [source.news().split() for _look in range(4)]
    assert [len(lines) for lines in looks] == [TAIL_LINES, TAIL_LINES, 1, 0]
    assert [line for lines in looks for line in lines] == systemd.journal[1:]


@pytest.mark.parametrize("cursor", ["", "1"], ids=["the end of a log", "what is new"])
def test_no_look_at_a_journal_is_without_a_limit(cursor: str) -> None:
    systemd = Systemd()
    source = UnitSource("vllm-a", systemd)
    source.cursor = cursor
    systemd.journal += map(str, range(3 * TAIL_LINES))
    assert len(source.news().split()) <= TAIL_LINES
    assert len(source.tail().split()) <= TAIL_LINES
    looks = [command for command in systemd.commands if command[0] == "journalctl"]
    assert [f"--lines={TAIL_LINES}" in command for command in looks] == [True] * len(looks)


def test_a_unit_is_not_asked_more_often_than_needed() -> None:
    systemd = Systemd()
    source = UnitSource("vllm-a", systemd)
    for _turn in range(5):
        source.state()
    assert len(systemd.commands) == 1


def test_a_unit_that_is_not_there_is_told() -> None:
    with pytest.raises(VllmError, match=r"Systemd unit x.service does not exist on this host") as caught:
        UnitSource("x", Systemd({"LoadState": "not-found"})).state()
    assert caught.value.reason == "server-missing"


def test_a_host_without_systemd_is_told() -> None:
    def missing(*_words: t.Any, **_said: t.Any) -> t.NoReturn:
        raise OSError(2, "No such file or directory")

    with pytest.raises(VllmError, match="Cannot run systemctl: .*Is this host run by systemd?"):
        UnitSource("x", missing).state()


def test_secrets_of_a_unit_are_hidden(tmp_path: Path) -> None:
    (tmp_path / "env").write_text("VLLM_API_KEY=canary8451\n")
    unit = f"[Service]\nEnvironment=A_TOKEN=canary99\nEnvironmentFile={tmp_path}/env\nExecStart=/bin/vllm serve m\n"

    def run(command: list[str], **_said: t.Any) -> tuple[int, str, str]:
        return 0, unit if "cat" in command else "".join(f"{k}={v}\n" for k, v in ACTIVE.items()), ""

    about = UnitSource("x", run).about()
    assert {"canary8451", "canary99"} <= set(about.pop("secrets"))
    assert "canary" not in str(about)
    assert "ExecStart=/bin/vllm serve m" in about["unit"]
