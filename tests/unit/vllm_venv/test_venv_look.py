# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is read of a host: interpreters, uv, the driver, the disk, pip's settings; and who runs from an environment."""

from __future__ import annotations

import os
import sys
import typing as t
import zipfile
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.nvidia_smi import Result
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.probe import Host
from ansible_collections.gpufleet.vllm.plugins.module_utils._venv import look, state
from ansible_collections.gpufleet.vllm.plugins.module_utils._venv.plan import PipConfiguration

Answers = t.Mapping[str, Result]


def host(answers: Answers, root: str = "/nowhere") -> Host:
    """A host whose programs are those that answer, by their paths."""

    def start(commands: t.Mapping[str, tuple[str, ...]]) -> t.Callable[[float], dict[str, Result]]:
        return lambda _seconds: {key: answers.get(argv[0], Result(127)) for key, argv in commands.items()}

    def find(name: str) -> str | None:
        return next((path for path in answers if path.endswith(f"/{name}")), None)

    return Host(root=root, start=start, find=find)


@pytest.fixture(autouse=True)
def _no_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Pythons of the machine that tests are not those of the host."""
    monkeypatch.setattr(look, "PYTHON_PLACES", ())


def says(path: str, minor: int, makes: str = "true") -> Result:
    return Result(0, f'["{path}", [3, {minor}], {makes}]\n')


def test_each_python_of_a_host_is_found_once() -> None:
    found = look.interpreters(
        None,
        host(
            {
                "/shims/python3.12": Result(127, "", "python3.12: command not found"),
                "/usr/bin/python3.11": says("/usr/bin/python3.11", 11),
                "/usr/bin/python3.9": says("/usr/bin/python3.9", 9, "false"),
                "/usr/bin/python3": says("/usr/bin/python3.11", 11),
                "/usr/bin/python3.10": Result(0, "no JSON"),
            }
        ),
    )
    assert [(one.path, one.version, one.makes_environments) for one in found] == [
        ("/usr/bin/python3.11", (3, 11), True),
        ("/usr/bin/python3.9", (3, 9), False),
    ]


def test_a_python_that_is_named_by_its_path_is_the_only_one() -> None:
    answers = {"/opt/p": says("/opt/real", 12), "/usr/bin/python3.11": says("/usr/bin/python3.11", 11)}
    assert [one.path for one in look.interpreters("/opt/p", host(answers))] == ["/opt/real"]
    assert look.interpreters("/none", host(answers)) == ()


def test_a_python_in_the_home_of_somebody_is_not_for_all(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir(mode=0o755)
    tmp_path.chmod(0o700)
    assert not look.is_for_all(str(tmp_path / "bin" / "python3"))
    assert look.is_for_all("/usr/bin/env")


@pytest.mark.parametrize(("mode", "is_open"), [(0o755, False), (0o775, False), (0o777, True), (0o1777, True)])
def test_a_wheelhouse_that_everybody_may_write_to_is_open(tmp_path: Path, mode: int, is_open: bool) -> None:
    tmp_path.chmod(mode)
    assert look.is_open(str(tmp_path)) is is_open


def test_this_python_says_what_it_is() -> None:
    (found,) = look.interpreters(sys.executable, Host())
    assert found.version == sys.version_info[:2] and os.access(found.path, os.X_OK)


@pytest.mark.parametrize(
    ("kernel", "smi", "driver"),
    [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.161.08  Release",
            Result(0, "driver_version\n580.1\n"),
            "535.161.08",
        ),
        ("", Result(0, "driver_version\n580.95.05\n580.95.05\n"), "580.95.05"),
        ("", Result(9, "NVIDIA-SMI has failed"), None),
        ("", None, None),
    ],
    ids=["the kernel", "nvidia-smi", "nvidia-smi fails", "no driver"],
)
def test_the_driver_that_is_loaded(tmp_path: Path, kernel: str, smi: Result | None, driver: str | None) -> None:
    if kernel:
        (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
        (tmp_path / "proc/driver/nvidia/version").write_text(kernel)
    assert look.driver(host({"/usr/bin/nvidia-smi": smi} if smi else {}, str(tmp_path))) == driver


def test_a_root_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "venvs"
    assert look.root_fault(str(root)) == ""
    root.mkdir(mode=0o755)
    assert look.root_fault(str(root)) == ""
    root.chmod(0o777)
    assert (
        f"others may write to it, and so to what the servers run. Give it to this user and run: chmod 755 {root}"
        in look.root_fault(str(root))
    )


def test_a_root_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "file is not a directory. Choose another root." in look.root_fault(str(tmp_path / "file" / "venvs"))


def test_what_a_wheelhouse_unpacks_to(tmp_path: Path) -> None:
    assert look.unpacked_bytes(str(tmp_path / "none")) is None
    with zipfile.ZipFile(tmp_path / "a.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr("a", "0" * 100_000)
    (tmp_path / "cut.whl").write_bytes(b"0" * 500)
    assert look.unpacked_bytes(str(tmp_path)) == 100_500


@pytest.mark.parametrize(
    ("text", "has_credentials"),
    [
        ("[global]\nindex-url = https://me:x@mirror/simple\n", True),
        ("[install]\nextra_index_url =\n  https://mirror/a\n  https://me:x@mirror/b\n", True),
        ("[global]\nindex-url = https://mirror/simple\n", False),
        ("[global]\ncert = /ca.pem\n", False),
        ("[global]\ndisable-pip-version-check = true\n", None),
        ("[list]\nindex-url = https://mirror\n", None),
        ("no configuration", None),
        ("", None),
    ],
)
def test_a_configuration_of_pip_that_says_where_packages_come_from(
    tmp_path: Path, text: str, has_credentials: bool | None
) -> None:
    path = tmp_path / ".config" / "pip" / "pip.conf"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    path.chmod(0o640)
    found = look.pip_configuration({"HOME": str(tmp_path), "PIP_CONFIG_FILE": ""})
    expected = None if has_credentials is None else PipConfiguration(str(path), has_credentials, 0o640)
    assert found == expected or (expected is None and found is not None and found.path.startswith("/etc/"))


def test_a_variable_of_pip_is_a_configuration_too() -> None:
    found = look.pip_configuration({"PIP_INDEX_URL": "https://mirror", "PIP_CONFIG_FILE": os.devnull})
    assert found == PipConfiguration("PIP_INDEX_URL")


def packages(path: Path) -> Path:
    place = path / "lib" / "python3.12" / "site-packages"
    (place / "vllm-0.26.0.dist-info").mkdir(parents=True)
    (place / "vllm-0.26.0.dist-info" / "RECORD").write_text("vllm/__init__.py,,\n")
    (place / "vllm").mkdir()
    (path / "lib64").symlink_to("lib")
    return place


def test_what_changes_an_environment_changes_the_digest_of_its_contents(tmp_path: Path) -> None:
    place = packages(tmp_path)
    before = state.contents(str(tmp_path))
    (place / "__pycache__").mkdir()
    (place / "vllm" / "cache.pyc").touch()
    assert state.contents(str(tmp_path)) == before
    (place / "six.py").touch()
    added = state.contents(str(tmp_path))
    (place / "six.py").unlink()
    assert state.contents(str(tmp_path)) == before != added
    (place / "vllm-0.26.0.dist-info" / "RECORD").write_text("vllm/__init__.py,,\nvllm/more.py,,\n")
    assert state.contents(str(tmp_path)) != before


def test_who_runs_from_an_environment(tmp_path: Path) -> None:
    for pid, words, maps in (
        ("1", b"/sbin/init\0", b""),
        ("20", b"/venvs/x/bin/python\0-m\0vllm", b""),
        ("21", b"VLLM::Worker\0", b"7f00 r-xp /venvs/x/lib/python3.12/site-packages/torch/lib/libtorch.so\n"),
        ("22", b"/venvs/x-2/bin/python\0", b"7f00 r-xp /venvs/x-2/lib/a.so\n"),
    ):
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "cmdline").write_bytes(words)
        (tmp_path / pid / "maps").write_bytes(maps)
    assert state.runs_from("/venvs/x", str(tmp_path)) == [20, 21]
