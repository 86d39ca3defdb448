# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How systemd is asked and told, by programs that play its part; and what a user can read."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._host import boot
from ansible_collections.gpufleet.vllm.plugins.module_utils._systemd import systemctl
from ansible_collections.gpufleet.vllm.plugins.module_utils._systemd.systemctl import Host, Place, SystemdError
from ansible_collections.gpufleet.vllm.plugins.module_utils._systemd.venv import artifact_of, interpreter_of
from systemd_model import environment_in


@pytest.fixture
def host(tmp_path: Path) -> Host:
    made = Host()
    (tmp_path / "system").mkdir()
    (tmp_path / "lib").mkdir()
    made.directory, made.elsewhere = str(tmp_path / "system"), (str(tmp_path / "lib"),)
    return made


@pytest.fixture
def plays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> t.Callable[[str, str], Path]:
    """Puts a script in place of a program; it finds its arguments in the file that is returned."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")

    def write(program: str, script: str) -> Path:
        path = tmp_path / "bin" / program
        path.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/said\n{script}\n')
        path.chmod(0o755)
        return tmp_path / "said"

    return write


def test_several_units_are_asked_for_at_once(host: Host, plays: t.Callable[[str, str], Path]) -> None:
    said = plays("systemctl", "printf 'Id=a.service\\nActiveState=active\\n\\nId=b.service\\nActiveState=failed\\n'")
    shown = host.show(["a", "b"])
    assert (shown["a"]["ActiveState"], shown["b"]["ActiveState"]) == ("active", "failed")
    assert said.read_text().endswith(" -- a.service b.service\n")
    assert len(said.read_text().splitlines()) == 1


def test_what_starts_at_boot_is_written_without_asking_systemd(host: Host, plays: t.Callable[[str, str], Path]) -> None:
    said = plays("systemctl", "exit 0")
    host.enable("a")
    host.disable("a")
    assert said.read_text() == "enable --root=/ --quiet -- a.service\ndisable --root=/ --quiet -- a.service\n"


@pytest.mark.skipif(shutil.which("systemctl") is None, reason="This machine has no systemd.")
def test_what_starts_at_boot_is_seen(host: Host, tmp_path: Path) -> None:
    host.directory = str(tmp_path / "etc" / "systemd" / "system")
    os.makedirs(host.directory)
    host.install("a", f"[Service]\nExecStart=/bin/true\n[Install]\nWantedBy={boot.TARGET}\n")
    for verb, is_enabled in (("disable", False), ("enable", True), ("disable", False)):
        subprocess.run(["systemctl", f"--root={tmp_path}", "--quiet", verb, "a.service"], check=True, timeout=60)
        assert host.is_enabled("a") is is_enabled


def test_a_look_that_fails_does_not_tell_what_it_looked_for(host: Host, plays: t.Callable[[str, str], Path]) -> None:
    plays("systemctl", "echo no bus >&2; exit 1")
    with pytest.raises(SystemdError, match="^systemctl show --no-pager -- a.service ended with status 1: no bus$"):
        host.show(["a"])


def test_nobody_is_asked_about_nothing(host: Host, plays: t.Callable[[str, str], Path]) -> None:
    said = plays("systemctl", "exit 1")
    assert host.show([]) == {}
    assert not said.exists()


@pytest.mark.parametrize(
    ("printed", "number"), [("systemd 252 (252.38-1~deb12u1)", 252), ("systemd 239", 239), ("busybox", 0)]
)
def test_the_release(printed: str, number: int, host: Host, plays: t.Callable[[str, str], Path]) -> None:
    plays("systemctl", f"echo '{printed}'; echo +PAM")
    assert host.version() == number


def test_shared_memory_of_a_user_goes_with_him(host: Host, plays: t.Callable[[str, str], Path], tmp_path: Path) -> None:
    said, left = plays("userdel", ""), tmp_path / "shm" / "psm_1"
    left.parent.mkdir()
    left.touch()
    host.shared_memory = str(left.parent)
    for uid, is_kept in ((os.getuid() + 1, True), (os.getuid(), False)):
        host.uid = lambda _user, one=uid: one  # type: ignore[method-assign]
        host.remove_user("vllm")
        assert left.exists() is is_kept
    assert said.read_text() == "vllm\nvllm\n"


def test_a_step_that_is_refused_is_quoted(host: Host, plays: t.Callable[[str, str], Path]) -> None:
    plays("systemctl", 'echo "Job for a.service failed." >&2; echo "See journalctl." >&2; exit 1')
    with pytest.raises(SystemdError) as caught:
        host.stop("a", 5)
    assert str(caught.value) == (
        "systemctl stop -- a.service ended with status 1: Job for a.service failed. See journalctl."
    )


def test_a_step_that_hangs_ends(host: Host, plays: t.Callable[[str, str], Path]) -> None:
    plays("systemctl", "exec sleep 60")
    with pytest.raises(SystemdError, match="did not end within 0.2 s"):
        host.stop("a", 0.2)


def test_a_host_without_systemd_is_told(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(VllmError, match="Cannot run systemctl: .* Is this host run by systemd?") as caught:
        host.version()
    assert caught.value.reason == "backend-unavailable"


def test_a_start_that_was_given_up_before_is_allowed_again(host: Host, plays: t.Callable[[str, str], Path]) -> None:
    said = plays("systemctl", '[ "$1" != reset-failed ]')
    host.start("a", 5)
    assert said.read_text().split("\n")[:2] == ["reset-failed -- a.service", "start -- a.service"]


def test_units_are_files_that_others_may_read(host: Host, plays: t.Callable[[str, str], Path]) -> None:
    plays("systemctl", "exit 0")
    host.install("vllm-a", "[Service]\n")
    path = Path(host.directory) / "vllm-a.service"
    assert path.stat().st_mode & 0o777 == 0o644
    host.rename("vllm-a", "vllm-b")
    (Path(host.directory) / "other.service").write_text("")
    (Path(host.directory) / "vllm-link.service").symlink_to("/dev/null")
    assert host.texts("vllm-") == {"vllm-b": "[Service]\n", "vllm-link": ""}
    host.remove("vllm-b")
    host.remove("vllm-b")
    assert list(host.texts("vllm-")) == ["vllm-link"]


def test_a_unit_of_a_package_is_seen(host: Host) -> None:
    (Path(host.elsewhere[0]) / "vllm-a.service").write_text("")
    assert (host.is_elsewhere("vllm-a"), host.is_elsewhere("vllm-b")) == (True, False)


SHARED = "22 1 0:20 / / rw shared:1 - overlay overlay rw\n23 22 0:21 / /run rw shared:5 - tmpfs tmpfs rw\n"


@pytest.mark.parametrize(
    ("mountinfo", "shared"),
    [
        pytest.param(SHARED, True, id="a host"),
        pytest.param(SHARED.replace("shared:5 ", ""), False, id="a container"),
        pytest.param(SHARED.replace("/run ", "/runs ").replace("shared:1 ", ""), False, id="no mount of its own"),
        pytest.param("", False, id="unknown"),
    ],
)
def test_whether_a_mount_reaches_the_services(mountinfo: str, shared: bool) -> None:
    assert systemctl._is_shared(mountinfo, "/run") is shared


# --- control groups ---------------------------------------------------------------------------------------------------


def test_processes_below_a_control_group_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: Host) -> None:
    below = tmp_path / "system.slice" / "vllm-a.service" / "worker"
    below.mkdir(parents=True)
    (below / "cgroup.procs").write_text("7\n8\n")
    (below.parent / "cgroup.procs").write_text("")
    monkeypatch.setattr(systemctl, "MOUNTS", (str(tmp_path),))
    monkeypatch.setattr(systemctl, "KILLED", 0)
    assert host.left_in("/system.slice/vllm-a.service") == [7, 8]
    assert host.left_in("/system.slice/vllm-b.service") == []
    # The group of the host itself is nobody's server.
    assert host.left_in("/") == host.left_in("") == []


# --- what a user can read ---------------------------------------------------------------------------------------------

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="Only root can become another user.")


@as_root
@pytest.mark.parametrize(
    ("mode", "above", "is_bound", "readable"),
    [
        (0o644, 0o755, False, True),
        (0o600, 0o755, False, False),
        (0o644, 0o700, False, False),
        (0o644, 0o700, True, True),
        (0o600, 0o700, True, False),
    ],
    ids=["open", "a closed file", "behind a closed directory", "bound over that", "closed and bound"],
)
def test_what_a_user_can_read(mode: int, above: int, is_bound: bool, readable: bool, host: Host) -> None:
    # Those of pytest are closed to others.
    with tempfile.TemporaryDirectory() as directory:
        base = Path(directory)
        base.chmod(0o755)
        weights = base / "home" / "weights"
        weights.mkdir(parents=True)
        (weights / "config.json").write_text("{}")
        (weights / "config.json").chmod(mode)
        (base / "home").chmod(above)
        place = Place(str(weights), "config.json", is_bound)
        assert host.unreadable("nobody", [place]) == ([] if readable else [f"{weights}/config.json"])
        # One who does not exist yet is like nobody.
        assert host.unreadable("does-not-exist", [place]) == ([] if readable else [f"{weights}/config.json"])


# --- a virtual environment --------------------------------------------------------------------------------------------


def test_what_identifies_an_environment(tmp_path: Path) -> None:
    venv = Path(environment_in(tmp_path))
    first = artifact_of(str(venv))
    assert first is not None and first.vllm_version == "0.26.0"
    assert artifact_of(str(venv)) == first
    (venv / "pyvenv.cfg").write_text("home = /opt/python/bin\n")
    second = artifact_of(str(venv))
    assert second is not None and second.identity != first.identity


@pytest.mark.parametrize("lacks", ["pyvenv.cfg", "bin/vllm", "lib"])
def test_half_an_environment_is_none(lacks: str, tmp_path: Path) -> None:
    venv = Path(environment_in(tmp_path))
    (venv / lacks).rename(venv / "gone")
    assert artifact_of(str(venv)) is None
    assert artifact_of(str(tmp_path / "nowhere")) is None


@pytest.mark.parametrize(
    ("home", "directory"),
    [("/usr/bin", None), ("/usr/local/bin", None), ("/root/uv/cpython-3.12/bin", "/root/uv/cpython-3.12")],
)
def test_the_interpreter_of_an_environment(home: str, directory: str | None, tmp_path: Path) -> None:
    venv = Path(environment_in(tmp_path))
    (venv / "pyvenv.cfg").write_text(f"home = {home}\nversion = 3.12\n")
    assert interpreter_of(str(venv)) == directory
