# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The watchdog on a host: there, changed, paused, gone; and the role that says so."""

from __future__ import annotations

import json
import os
import typing as t
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import yaml
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._systemd.systemctl import Host, SystemdError
from ansible_collections.gpufleet.vllm.plugins.module_utils._watchdog import publish
from ansible_collections.gpufleet.vllm.plugins.module_utils._watchdog.decide import State
from ansible_collections.gpufleet.vllm.plugins.module_utils._watchdog.install import PARAMETERS, Machine, run
from ansible_collections.gpufleet.vllm.plugins.module_utils._watchdog.program import UNIT, archive
from ansible_collections.gpufleet.vllm.plugins.module_utils._watchdog.watch import configured

ROOT = Path(__file__).parents[3]


@dataclass
class Systemd(Host):
    """A systemd that remembers what it was told."""

    directory: str = ""
    calls: list[str] = field(default_factory=list)
    runs: bool = False
    remembers: str = ""
    release: int = 257
    fails: str = ""

    def _text(self) -> str:
        path = Path(self.directory) / f"{UNIT}.service"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def _call(self, verb: str) -> None:
        self.calls.append(verb)
        if verb == self.fails:
            raise SystemdError(f"systemctl {verb} ended with status 1")

    def version(self) -> int:
        return self.release

    def show(self, names: t.Iterable[str]) -> dict[str, dict[str, str]]:
        stale = "yes" if self.remembers and self.remembers != self._text() else "no"
        state = "active" if self.runs else "inactive"
        return {name: {"ActiveState": state, "NeedDaemonReload": stale} for name in names}

    def reload(self) -> None:
        self._call("reload")
        self.remembers = self._text()

    def start(self, name: str, timeout: float | None) -> None:
        self._call("start")
        self.runs, self.remembers = True, self.remembers or self._text()

    def stop(self, name: str, timeout: float) -> None:
        self._call("stop")
        self.runs = False

    def enable(self, name: str) -> None:
        self._call("enable")

    def disable(self, name: str) -> None:
        self._call("disable")

    def remove(self, name: str) -> None:
        self._call("remove")
        os.unlink(Path(self.directory) / f"{name}.service")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    (tmp_path / "units").mkdir()
    (tmp_path / "state").mkdir()
    return Machine(
        Systemd(str(tmp_path / "units")),
        str(tmp_path / "lib/programs/watchdog.pyz"),
        str(tmp_path / "etc/gpufleet/watchdog.json"),
        str(tmp_path / "state/gpufleet/watchdog"),
        "/usr/bin/python3",
        is_root=True,
    )


DEFAULTS = {key: option.get("default") for key, option in PARAMETERS.items()}


def go(machine: Machine, check: bool = False, **params: t.Any) -> dict[str, t.Any]:
    return run({**DEFAULTS, **params}, check, machine)


def calls(machine: Machine) -> list[str]:
    systemd = t.cast("Systemd", machine.systemd)
    found, systemd.calls = systemd.calls, []
    return found


def test_it_is_installed_once(machine: Machine) -> None:
    planned = go(machine, check=True)
    assert not os.path.exists(machine.program)
    done = go(machine)
    assert (done["actions"], done["changed"], calls(machine)) == (planned["actions"], True, ["enable", "start"])
    assert done["actions"][-1] == "start the watchdog"
    assert Path(machine.program).read_bytes() == archive()
    assert (os.stat(machine.config).st_mode & 0o777, os.stat(machine.program).st_mode & 0o777) == (0o600, 0o644)
    again = go(machine)
    assert (again["changed"], again["actions"], again["diff"], calls(machine)) == (False, [], [], [])


def test_what_is_set_reaches_the_program(machine: Machine) -> None:
    go(machine, restarts=1, stall=90, hook_url="https://x/secret4711", start_timeout=600)
    found = configured(Path(machine.config).read_text(encoding="utf-8"))
    settings = found.settings
    assert (settings.restarts, settings.stall, settings.start, settings.interval) == (1, 90.0, 600.0, 5.0)
    assert (found.hook_url, found.directory) == ("https://x/secret4711", machine.directory)


def test_a_new_setting_restarts_it_without_a_reload(machine: Machine) -> None:
    go(machine)
    calls(machine)
    done = go(machine, restarts=5, hook_url="https://x/secret4711")
    assert done["actions"] == [f"write {machine.config}", "restart the watchdog"]
    assert "secret4711" not in json.dumps(done)
    assert calls(machine) == ["enable", "stop", "start"]


def test_one_that_was_stopped_is_started(machine: Machine) -> None:
    go(machine)
    t.cast("Systemd", machine.systemd).runs = False
    assert go(machine)["actions"] == ["start the watchdog"]


@pytest.mark.parametrize(("cut_off", "allowed", "reloads"), [((), False, 1), (("c1",), False, 0), (("c1",), True, 1)])
def test_a_new_unit_is_read_where_nobody_loses_a_gpu(
    machine: Machine, cut_off: tuple[str, ...], allowed: bool, reloads: int
) -> None:
    go(machine)
    calls(machine)
    warned: list[str] = []
    newer = replace(machine, python="/usr/bin/python3.13", cut_off=lambda: cut_off, warn=warned.append)
    done = go(newer, allow_daemon_reload=allowed)
    assert [one["after_header"] for one in done["diff"]] == [machine.unit]
    assert calls(machine).count("reload") == reloads
    assert ["c1" in text for text in warned] == [True] * (1 - reloads)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"restarts": -1}, "restarts must be at least 0; got -1"),
        ({"window": 0}, "window must be at least 1; got 0"),
        ({"stall": 30}, "stall must be at least 40"),
        ({"canary_timeout": 90}, "canary_timeout at most 80"),
        ({"hook_url": "ftp://x"}, "hook_url must begin with"),
        ({"hook_command": ["logger"]}, "absolute path of a program; got 'logger'"),
        ({"textfile_directory": "/nowhere"}, "/nowhere is none"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(machine: Machine, params: dict[str, t.Any], words: str) -> None:
    with pytest.raises(VllmError, match=words):
        go(machine, **params)
    assert not os.path.exists(machine.config)


def test_a_host_that_cannot_have_one_is_told(machine: Machine) -> None:
    with pytest.raises(VllmError, match="become: true"):
        go(replace(machine, is_root=False))
    t.cast("Systemd", machine.systemd).release = 0
    with pytest.raises(VllmError, match="is not run by systemd"):
        go(machine)


def test_a_start_that_fails_says_where_to_look(machine: Machine) -> None:
    t.cast("Systemd", machine.systemd).fails = "start"
    with pytest.raises(
        VllmError, match="Cannot start the watchdog: systemctl start .* journalctl -u gpufleet-vllm-watchdog"
    ):
        go(machine)


def test_a_directory_that_others_may_write_to_is_refused(machine: Machine) -> None:
    os.makedirs(os.path.dirname(machine.program))
    os.chmod(os.path.dirname(machine.program), 0o777)
    with pytest.raises(VllmError, match="others than this user may write there"):
        go(machine)


def test_it_is_paused_and_goes_on(machine: Machine) -> None:
    go(machine, paused=False)
    assert go(machine, paused=True, pause_seconds=600)["actions"] == ["pause the watchdog"]
    assert go(machine, paused=True, pause_seconds=600)["actions"] == []
    assert go(machine)["actions"] == []
    assert publish.paused_until(machine.pause) > 0
    os.utime(machine.pause, (1.0, 1.0))
    assert go(machine, paused=True, pause_seconds=600)["actions"] == ["pause the watchdog"]
    assert go(machine, check=True, paused=False)["actions"] == ["end the pause of the watchdog"]
    assert go(machine, paused=False)["actions"] == ["end the pause of the watchdog"]
    assert not os.path.exists(machine.pause)


def test_it_says_what_it_watches(machine: Machine) -> None:
    go(machine)
    os.makedirs(machine.directory)
    written = publish.written(State(status="serving"), {"name": "vllm-a"})
    content = {"version": 1, "updated": "now", "paused_until": None, "servers": {"container:vllm-a": written}}
    (Path(machine.directory) / "state.json").write_text(json.dumps(content), encoding="utf-8")
    found = go(machine)
    assert found["message"] == "The watchdog watches vllm-a (serving)."
    assert found["watchdog"]["servers"]["container:vllm-a"]["status"] == "serving"


def test_nothing_is_left_of_it(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "textfile").mkdir()
    go(machine, textfile_directory=str(tmp_path / "textfile"))
    (tmp_path / "textfile" / publish.METRICS).write_text("x", encoding="utf-8")
    os.makedirs(f"{machine.directory}/post-mortem")
    calls(machine)
    planned = go(machine, check=True, state="absent")
    done = go(machine, state="absent")
    assert planned["actions"] == done["actions"] and len(done["actions"]) == 4
    assert calls(machine) == ["stop", "disable", "remove"]
    left = sorted(path.name for path in tmp_path.rglob("*"))
    assert left == ["etc", "lib", "state", "textfile", "units"]
    assert go(machine, state="absent")["changed"] is False


def test_whoever_is_not_root_leaves_it(machine: Machine) -> None:
    go(machine)
    found = go(replace(machine, is_root=False), state="absent")
    assert (found["changed"], os.path.exists(machine.unit)) == (False, True)
    assert "become: true removes it" in found["message"]


def test_role_and_module_have_the_same_keys() -> None:
    specs = yaml.safe_load((ROOT / "roles/vllm_watchdog/meta/argument_specs.yml").read_text(encoding="utf-8"))
    options = specs["argument_specs"]["main"]["options"]
    keys = options["vllm_watchdog"]["options"]
    assert {*keys} == {*PARAMETERS} - {"state", "paused", "pause_seconds"}
    for key, option in keys.items():
        assert option.get("default") == PARAMETERS[key].get("default"), key
        assert option["type"] == PARAMETERS[key]["type"], key
    defaults = yaml.safe_load((ROOT / "roles/vllm_watchdog/defaults/main.yml").read_text(encoding="utf-8"))
    assert {key: options[key]["default"] for key in defaults} == defaults
    readme = (ROOT / "roles/vllm_watchdog/README.md").read_text(encoding="utf-8")
    assert all(f"| `{key}` |" in readme for key in (*keys, *defaults))
    tasks = yaml.safe_load((ROOT / "roles/vllm_watchdog/tasks/main.yml").read_text(encoding="utf-8"))
    assert {*tasks[0]["gpufleet.vllm.vllm_watchdog"]} == {*PARAMETERS}
