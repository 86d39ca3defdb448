# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Encodings are installed whole or not at all, and every fault is told in a sentence."""

from __future__ import annotations

import hashlib
import os
import signal
import stat
import subprocess
import time
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._host import download as host_download
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm import encodings as vllm_encodings
from encodings_rig import (
    CONTENT,
    CUT,
    HTML,
    NAMES,
    SHA256,
    Server,
    child_command,
    on_small_disk,
    run_child,
    without_privileges,
)
from pauses import pauses_of

O200K, CL100K = (f"{name}.tiktoken" for name in NAMES)
PARTIAL = f".{O200K}.partial"
ONE = {"encodings": ["o200k_base"]}
NOBODY = 65534

Run = t.Callable[..., t.Any]


@pytest.fixture(autouse=True)
def _small_encodings(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {name: vllm_encodings.Encoding(name, SHA256[name], len(CONTENT[name])) for name in NAMES}
    monkeypatch.setattr(vllm_encodings, "KNOWN", known)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(name="pauses")
def _pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    return pauses_of(monkeypatch)


@pytest.fixture(name="install")
def _install(run_module: Run, pauses: list[float]) -> Run:
    """Run the module; what it installs is checked here, whatever the outcome."""

    def run(directory: Path, check: bool = False, **arguments: t.Any) -> t.Any:
        before = contents(directory)
        done = run_module("tiktoken_encodings", {"directory": str(directory), "timeout": 5, **arguments}, check, True)
        after = contents(directory)
        assert not [name for name in after if name.endswith(".partial")] or check
        for name in NAMES:
            file_name = f"{name}.tiktoken"
            assert after.get(file_name) in (before.get(file_name), CONTENT[name])
        if check:
            assert after == before
        return done

    return run


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.glob("*") if path.is_file()}


def fill(directory: Path, **files: bytes) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        (directory / f"{name}.tiktoken").write_bytes(files.get(name, CONTENT[name]))
    return directory


def mode_of(path: Path) -> str:
    return oct(stat.S_IMODE(path.stat().st_mode))


# --- the table -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "state", "words"),
    [
        (CONTENT["o200k_base"], "ok", ""),
        (None, "missing", "is missing."),
        (b"", "truncated", "it has 0 of 200070 bytes."),
        (CONTENT["o200k_base"][:-1], "truncated", "it has 200069 of 200070 bytes."),
        (CONTENT["o200k_base"] + b"\n", "wrong", f"expected {SHA256['o200k_base']}."),
        (b"x" + CONTENT["o200k_base"][1:], "wrong", "is not the o200k_base that was published: sha256 "),
    ],
)
def test_a_file_is_judged(content: bytes | None, state: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / O200K
    if content is not None:
        path.write_bytes(content)
    finding = vllm_encodings.verify(str(path), vllm_encodings.KNOWN["o200k_base"])
    assert finding.state == state
    assert words in finding.message
    assert (str(path) in finding.message) == (state != "ok")


def test_the_published_files_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert {(known.file_name, known.size, known.sha256[:8]) for known in vllm_encodings.KNOWN.values()} == {
        ("o200k_base.tiktoken", 3613922, "446a9538"),
        ("cl100k_base.tiktoken", 1681126, "223921b7"),
    }
    assert set(vllm_encodings.DEFAULT_NAMES) == set(vllm_encodings.KNOWN)


@pytest.mark.parametrize(
    ("files", "names", "words"),
    [
        ({}, NAMES, []),
        ({"o200k_base": b"short"}, NAMES, ["o200k_base.tiktoken is truncated: it has 5 of 200070 bytes."]),
        ({"o200k_base": b"short"}, ["cl100k_base"], []),
        ({"o200k_base": b"a", "cl100k_base": b"b"}, NAMES, ["o200k_base.tiktoken is", "cl100k_base.tiktoken is"]),
    ],
)
def test_problems_are_sentences(
    files: dict[str, bytes], names: t.Sequence[str], words: list[str], tmp_path: Path
) -> None:
    found = vllm_encodings.problems(str(fill(tmp_path, **files)), names)
    assert len(found) == len(words)
    assert all(word in sentence for word, sentence in zip(words, found))


def test_problems_of_a_directory_that_is_missing(tmp_path: Path) -> None:
    assert [line[-11:] for line in vllm_encodings.problems(str(tmp_path / "none"), NAMES)] == ["is missing."] * 2


def test_an_unknown_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VllmError, match="Unknown encoding p50k_base: choose from o200k_base, cl100k_base"):
        vllm_encodings.problems(str(tmp_path), ["p50k_base"])


# --- check, do, check again, do again --------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["url", "src"])
def test_check_do_and_again(source: str, install: Run, tmp_path: Path) -> None:
    directory = tmp_path / "new" / "encodings"
    stock = fill(tmp_path / "stock")
    with Server() as server:
        origin = {"url": server.url + "/"} if source == "url" else {"src": str(stock)}
        first = [install(directory, check=check, **origin).result for check in (True, False)]
        requests = len(server.requests)
        again = [install(directory, check=check, **origin).result for check in (True, False)]
    assert requests == (2 if source == "url" else 0) == len(server.requests)
    assert first[0] == first[1]
    assert first[0]["changed"]
    assert first[0]["needed"] == list(NAMES)
    base = server.url if source == "url" else stock
    assert first[0]["actions"] == [
        f"create directory {tmp_path}/new",
        f"create directory {directory}",
        f"install {directory}/{O200K} from {base}/{O200K}",
        f"install {directory}/{CL100K} from {base}/{CL100K}",
    ]
    assert [entry["source"] for entry in first[0]["encodings"]] == [f"{base}/{O200K}", f"{base}/{CL100K}"]
    assert first[0]["diff"]["before"][f"{directory}/{O200K}"] == {"state": "missing"}
    assert first[0]["diff"]["after"][f"{directory}/{O200K}"] == {"state": "ok", "sha256": SHA256["o200k_base"]}
    for result in again:
        assert not result["changed"]
        assert result["actions"] == []
        assert result["diff"] == {"before": {}, "after": {}}
        assert [entry["source"] for entry in result["encodings"]] == ["present", "present"]
    assert contents(directory) == {f"{name}.tiktoken": CONTENT[name] for name in NAMES}
    assert (mode_of(directory), mode_of(directory / O200K)) == ("0o755", "0o644")


def test_only_what_is_wrong_is_replaced(install: Run, tmp_path: Path) -> None:
    fill(tmp_path, o200k_base=b"old")
    with Server() as server:
        result = install(tmp_path, url=server.url).result
    assert server.requests == [("o200k_base", "")]
    assert result["needed"] == ["o200k_base"]
    assert [entry["source"] for entry in result["encodings"]] == [f"{server.url}/{O200K}", "present"]
    assert result["diff"]["before"] == {f"{tmp_path}/{O200K}": {"state": "truncated"}}


def test_mode_and_owner(install: Run, tmp_path: Path) -> None:
    mine = {"owner": str(os.geteuid()), "group": str(os.getegid())}
    with Server() as server:
        install(tmp_path / "new", url=server.url, mode="0600", **mine)
        assert mode_of(tmp_path / "new" / O200K) == "0o600"
        for check in (True, False):
            result = install(tmp_path / "new", check=check, url=server.url, mode="0640", **mine).result
            assert result["actions"] == [
                f"set owner, group and mode of {tmp_path}/new/{file_name}" for file_name in (O200K, CL100K)
            ]
            assert result["diff"]["before"][f"{tmp_path}/new/{O200K}"] == {"mode": "0600"}
            assert result["diff"]["after"][f"{tmp_path}/new/{O200K}"] == {"mode": "0640"}
    assert mode_of(tmp_path / "new" / O200K) == "0o640"
    assert len(server.requests) == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_owner_of_files_and_created_directories(install: Run, tmp_path: Path) -> None:
    with Server() as server:
        install(tmp_path / "new", url=server.url, owner="nobody", group=str(NOBODY))
    seen = {path.stat().st_uid for path in (tmp_path / "new", tmp_path / "new" / O200K)}
    seen |= {path.stat().st_gid for path in (tmp_path / "new", tmp_path / "new" / O200K)}
    assert seen == {NOBODY}


# --- faults of the network -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behaviours", "ranges"),
    [
        (["503", "ok"], ["", ""]),
        (["500", "503", "ok"], ["", "", ""]),
        (["cut", "ok"], ["", f"bytes={CUT}-"]),
        (["cut", "cut", "ok"], ["", f"bytes={CUT}-", f"bytes={2 * CUT}-"]),
        (["cut", "no range"], ["", f"bytes={CUT}-"]),
        (["cut", "503", "ok"], ["", f"bytes={CUT}-", f"bytes={CUT}-"]),
        (["cut", "416", "ok"], ["", f"bytes={CUT}-", ""]),
        (["cut unannounced", "ok"], ["", f"bytes={CUT}-"]),
        (["stall", "ok"], ["", f"bytes={CUT}-"]),
        (["mute", "ok"], ["", ""]),
        (["corrupt", "ok"], ["", ""]),
        (["long", "ok"], ["", ""]),
    ],
)
def test_a_fault_that_passes_is_survived(
    behaviours: list[str], ranges: list[str], install: Run, pauses: list[float], tmp_path: Path
) -> None:
    with Server(*behaviours) as server:
        done = install(tmp_path, url=server.url, timeout=1, **ONE)
    assert done.status == 0, done.result
    assert server.requests == [("o200k_base", wanted) for wanted in ranges]
    assert pauses == [1, 2][: len(ranges) - 1]
    assert contents(tmp_path) == {O200K: CONTENT["o200k_base"]}


MIRROR = "Try another source: a mirror, or files on the controller."
CORRUPT_SHA256 = hashlib.sha256(b"x" + CONTENT["o200k_base"][1:]).hexdigest()


@pytest.mark.parametrize(
    ("behaviours", "requests", "words"),
    [
        (["404"], 1, ": the server answered 404 Not Found. Check the URL"),
        (["403"], 1, ": the server answered 403 Forbidden. Put the credentials into ~/.netrc"),
        (["401"], 1, ": the server answered 401 Unauthorized. Put the credentials into ~/.netrc"),
        (["503"], 3, f": the server answered 503 Service Unavailable. {MIRROR} Tried 3 times."),
        (["cut", "503", "404"], 3, ": the server answered 404 Not Found."),
        (["cut unannounced"], 3, f": the connection broke after {CUT} of 200070 bytes. {MIRROR} Tried 3 times."),
        (["stall", "mute"], 3, f": the server sent nothing for 1 s after {CUT} of 200070 bytes. {MIRROR} Tried 3"),
        (["mute"], 3, ": no answer within 1 s. Check firewall and proxy, or raise timeout."),
        (["truncated"], 1, f"is truncated: it has {CUT} of 200070 bytes. {MIRROR}"),
        (["corrupt"], 3, f"not what was published: sha256 {CORRUPT_SHA256}, expected {SHA256['o200k_base']}. A proxy"),
        (["long"], 3, "is not what was published"),
        (["html"], 1, "is an HTML page, probably of a proxy or a login portal"),
    ],
)
def test_a_fault_that_stays_is_told(
    behaviours: list[str], requests: int, words: str, install: Run, tmp_path: Path
) -> None:
    (tmp_path / O200K).write_bytes(b"old and wrong")
    with Server(*behaviours) as server:
        done = install(tmp_path, url=server.url, timeout=1, **ONE)
    assert done.status == 1
    assert f"{server.url}/{O200K}" in done.result["msg"]
    assert words in done.result["msg"]
    assert len(server.requests) == requests
    assert contents(tmp_path) == {O200K: b"old and wrong"}


def test_one_attempt_when_one_is_wanted(install: Run, pauses: list[float], tmp_path: Path) -> None:
    with Server("503") as server:
        done = install(tmp_path, url=server.url, attempts=1)
    assert "503 Service Unavailable" in done.result["msg"]
    assert "Tried" not in done.result["msg"]
    assert (len(server.requests), pauses) == (1, [])


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:1/e", ": nothing listens at 127.0.0.1:1. Check the address and the proxy settings."),
        ("http://none.invalid/e", ": the name none.invalid cannot be resolved. Check DNS"),
        ("ftp://127.0.0.1/e", "Cannot download from ftp://127.0.0.1/e/o200k_base.tiktoken: it is not an http:// or"),
        ("/mirror", "it is not an http:// or https:// URL."),
        (
            "ftp://me:canary@127.0.0.1/e",
            "Cannot download from 127.0.0.1/e/o200k_base.tiktoken: it is not an http:// or",
        ),
        ("http://me:canary@127.0.0.1:1/e", "from http://127.0.0.1:1/e/o200k_base.tiktoken: it holds credentials"),
        ("http://127.0.0.1:1/e?sig=canary", "from http://127.0.0.1:1/e: it holds credentials or a query"),
    ],
)
def test_an_url_that_leads_nowhere_is_told(url: str, words: str, install: Run, tmp_path: Path) -> None:
    done = install(tmp_path, url=url, **ONE)
    assert done.status == 1
    assert words in done.result["msg"]
    assert "canary" not in done.result["msg"]
    assert contents(tmp_path) == {}


def test_a_failing_tls_connection_is_told_at_once(install: Run, pauses: list[float], tmp_path: Path) -> None:
    with Server() as server:
        done = install(tmp_path, url=server.url.replace("http:", "https:"), **ONE)
    assert "the TLS connection failed (" in done.result["msg"]
    assert "A proxy that inspects TLS needs its CA installed on the host." in done.result["msg"]
    assert pauses == []


@pytest.mark.parametrize(("behaviour", "status"), [("ok", 0), ("404", 1)])
def test_the_proxy_of_the_environment_is_used_and_named_without_its_password(
    behaviour: str, status: int, install: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with Server(behaviour) as proxy:
        address = proxy.url.split("/")[2]
        monkeypatch.setenv("http_proxy", f"http://me:canary@{address}")
        done = install(tmp_path, url="http://none.invalid/encodings", **ONE)
    assert done.status == status
    assert proxy.requests == [("o200k_base", "")]
    assert "canary" not in str(done.result)
    assert status == 0 or f" through the proxy {address}: the server answered 404" in done.result["msg"]


@pytest.mark.parametrize("proxy", ["me:canary@127.0.0.1:1", "http://me:canary@127.0.0.1:1/", "me:ca/na@ry@127.0.0.1:1"])
def test_a_proxy_is_named_without_who_may_use_it(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    told = str(host_download.HttpSource("http://none.invalid/e").explain(OSError("x"), 0, 1))
    assert " through the proxy 127.0.0.1:1: " in told
    assert "canary" not in told and "me:" not in told


@pytest.fixture
def netrc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "netrc").write_text("default login mirror password s3cretmirror\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


@pytest.mark.usefixtures("netrc")
def test_credentials_do_not_follow_a_redirect(install: Run, tmp_path: Path) -> None:
    with Server(host="127.0.0.2") as store, Server(f"-> {store.url}/{O200K}?sig=x") as mirror:
        done = install(tmp_path / "e", url=mirror.url, **ONE)
    assert done.status == 0, done.result
    assert [credentials is not None for credentials in mirror.credentials] == [True]
    assert store.credentials == [None]


@pytest.mark.usefixtures("netrc")
def test_credentials_go_on_within_the_server_that_they_are_for(install: Run, tmp_path: Path) -> None:
    with Server(f"-> other/{O200K}", "ok") as mirror:
        done = install(tmp_path / "e", url=mirror.url, **ONE)
    assert done.status == 0, done.result
    assert [credentials is not None for credentials in mirror.credentials] == [True, True]


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("file:///etc/passwd", ": "),
        ("ftp://127.0.0.1/x", "it redirects to ftp://127.0.0.1, which is not encrypted or no web server"),
        ("-", "more than 10 redirects"),
    ],
)
def test_a_redirect_that_leads_elsewhere_is_told(target: str, words: str, install: Run, tmp_path: Path) -> None:
    with Server(f"-> {O200K if target == '-' else target}") as mirror:
        done = install(tmp_path, url=mirror.url, attempts=1, **ONE)
    assert done.status == 1
    assert words in done.result["msg"]
    assert contents(tmp_path) == {}


def test_a_redirect_does_not_leave_tls() -> None:
    source = host_download.HttpSource("https://mirror.example.org/e")
    assert source._allowed(source.url, "https://store/e") == "https://store/e"
    assert source._allowed(source.url, "https://me:canary@store/e") == "https://store/e"
    with pytest.raises(VllmError, match="redirects to http://store, which is not encrypted"):
        source._allowed(source.url, "http://store/e?sig=canary")


def test_check_mode_needs_no_network(install: Run, tmp_path: Path) -> None:
    done = install(tmp_path, check=True, url="http://none.invalid/encodings")
    assert (done.status, done.result["needed"]) == (0, list(NAMES))


# --- faults of the host ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize(
    ("files", "words"),
    [
        (None, "/stock/o200k_base.tiktoken is missing. "),
        ({"o200k_base": b"short"}, "/stock/o200k_base.tiktoken is truncated: it has 5 of 200070 bytes. "),
        ({"cl100k_base": HTML}, "/stock/cl100k_base.tiktoken is truncated: "),
    ],
)
def test_a_source_on_the_host_is_verified_first(
    files: dict[str, bytes] | None, words: str, check: bool, install: Run, tmp_path: Path
) -> None:
    if files is not None:
        fill(tmp_path / "stock", **files)
    done = install(tmp_path / "new", check=check, src=str(tmp_path / "stock"))
    assert done.result["msg"].startswith(f"Cannot install encodings from {tmp_path}/stock. ")
    assert words in done.result["msg"]
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("file", {}, "/file is not a directory. Choose another one."),
        ("file/below", {}, "/file is not a directory. Choose another one."),
        ("taken", {}, f"/taken/{O200K} is not a regular file. Run with become: true, or choose another directory."),
        ("new", {"owner": "nosuchuser"}, "There is no user nosuchuser on this host: create it, or name another user."),
        ("new", {"group": "nosuch"}, "There is no group nosuch on this host: create it, or name another group."),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_done(
    name: str, arguments: dict[str, str], words: str, check: bool, install: Run, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "taken" / O200K).mkdir(parents=True)
    with Server() as server:
        done = install(tmp_path / name, check=check, url=server.url, **arguments)
    assert done.status == 1
    assert words in done.result["msg"]
    assert server.requests == []
    assert not (tmp_path / "new").exists()


def test_a_relative_directory_is_refused(install: Run) -> None:
    done = install(Path("encodings"))
    assert done.result["msg"] == "The directory encodings is not an absolute path: write it from / on."


@pytest.mark.parametrize(
    ("stand", "words"),
    [
        (
            lambda path: path.symlink_to("precious"),
            "A symbolic link stands where the file is to be written: remove it.",
        ),
        (os.mkfifo, "it exists and is not a regular file. Remove it."),
        (os.mkdir, "Is a directory. "),
    ],
)
def test_what_stands_in_place_of_the_partial_file_is_told(
    stand: t.Callable[[Path], object], words: str, run_module: Run, tmp_path: Path
) -> None:
    (tmp_path / "precious").write_bytes(b"precious")
    stand(tmp_path / PARTIAL)
    with Server() as server:
        done = run_module("tiktoken_encodings", {"directory": str(tmp_path), "url": server.url, **ONE})
    assert f"Cannot write {tmp_path}/{PARTIAL}: " in done.result["msg"]
    assert words in done.result["msg"]
    assert (tmp_path / "precious").read_bytes() == b"precious"
    assert server.requests == []


def test_a_directory_without_permission_to_write_is_told(tmp_path: Path) -> None:
    directory = tmp_path / "closed"
    directory.mkdir(mode=0o555)
    arguments = {"directory": str(directory), "src": str(fill(tmp_path / "stock"))}
    result, listing = run_child(without_privileges(child_command(arguments)))
    assert result["msg"] == (
        f"Cannot install {O200K} and {CL100K} into {directory}: no permission to write to {directory}. "
        "Run with become: true, or choose another directory."
    )
    assert listing == []


@pytest.mark.parametrize(
    ("owner", "group", "refused"),
    [
        (None, None, None),
        ("1000", "1000", None),
        (None, "44", None),
        ("0", None, "0"),
        ("1000", "0", "0"),
        ("root", "1000", "root"),
    ],
)
def test_only_root_gives_files_away(
    owner: str | None, group: str | None, refused: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "getegid", lambda: 1000)
    monkeypatch.setattr(os, "getgroups", lambda: [44])
    if refused is None:
        vllm_encodings.check_owner(owner, group)
        return
    with pytest.raises(VllmError, match=f"Only root may give files to {refused}: run with become: true."):
        vllm_encodings.check_owner(owner, group)


@pytest.mark.parametrize("origin", ["url", "src"])
def test_a_full_disk_is_told_before_and_leaves_nothing(origin: str, tmp_path: Path) -> None:
    stock = fill(tmp_path / "stock")
    directory = tmp_path / "disk"
    directory.mkdir()
    with Server() as server:
        arguments = {"directory": str(directory), "attempts": 3}
        arguments.update({"url": server.url} if origin == "url" else {"src": str(stock)})
        told, listing_told = run_child(on_small_disk(directory, 128, child_command(arguments)))
        requests = len(server.requests)
        # Somebody else takes the space between the look and the writing.
        full, listing = run_child(on_small_disk(directory, 128, child_command(arguments, believes_free=1 << 30)))
    assert told["msg"] == (
        f"Cannot install {O200K} and {CL100K} into {directory}: 400147 bytes are needed, 131072 bytes are free there. "
        "Free some space, or choose a directory on another file system."
    )
    assert full["msg"] == (
        f"Cannot write {directory}/{PARTIAL}: No space left on device. "
        "The file system is full: free some space, or choose another directory."
    )
    assert (listing_told, listing, requests) == ([], [], 0)
    assert len(server.requests) == (1 if origin == "url" else 0)


def test_a_limit_on_the_size_of_files_is_told(tmp_path: Path) -> None:
    stock = fill(tmp_path / "stock")
    (tmp_path / "new").mkdir()
    command = child_command({"directory": str(tmp_path / "new"), "src": str(stock)}, file_limit=100_000)
    result, listing = run_child(command)
    assert "File too large. The file is larger than this process may write: raise its limit" in result["msg"]
    assert listing == []


# --- runs that are killed, and runs at the same time -----------------------------------------------------------------


def start_and_wait_for(command: t.Sequence[str], path: Path, size: int) -> subprocess.Popen[bytes]:
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not (path.exists() and path.stat().st_size >= size):
        if time.monotonic() > deadline or child.poll() is not None:
            kill(child)
            raise AssertionError(f"{path} did not grow to {size} bytes")
        time.sleep(0.02)
    return child


def kill(child: subprocess.Popen[bytes]) -> None:
    child.send_signal(signal.SIGKILL)
    child.wait()


@pytest.fixture(name="killed")
def _killed(tmp_path: Path) -> Path:
    """What a run leaves that is killed in the middle of a download."""
    with Server("stall") as server:
        command = child_command({"directory": str(tmp_path / "new"), "url": server.url, "timeout": 30, **ONE})
        kill(start_and_wait_for(command, tmp_path / "new" / PARTIAL, CUT))
    assert contents(tmp_path / "new") == {PARTIAL: CONTENT["o200k_base"][:CUT]}
    return tmp_path / "new"


def test_a_killed_run_is_continued(killed: Path, install: Run) -> None:
    with Server() as server:
        result = install(killed, url=server.url, **ONE).result
    assert server.requests == [("o200k_base", f"bytes={CUT}-")]
    assert result["changed"]
    assert contents(killed) == {O200K: CONTENT["o200k_base"]}


@pytest.mark.parametrize("leftover", [b"x" * CUT, CONTENT["o200k_base"] + b"x", b"x" * len(CONTENT["o200k_base"])])
def test_a_leftover_that_is_wrong_is_thrown_away(leftover: bytes, install: Run, tmp_path: Path) -> None:
    (tmp_path / PARTIAL).write_bytes(leftover)
    with Server() as server:
        assert install(tmp_path, url=server.url, attempts=1, **ONE).status == 0
    assert server.requests[-1] == ("o200k_base", "")
    assert contents(tmp_path) == {O200K: CONTENT["o200k_base"]}


def test_a_leftover_beside_an_intact_file_is_removed(killed: Path, install: Run) -> None:
    fill(killed)
    for check in (True, False):
        result = install(killed, check=check).result
        assert result["actions"] == [f"remove {killed}/{PARTIAL}, left by an interrupted run"]
        assert result["changed"]
    assert sorted(contents(killed)) == [CL100K, O200K]
    assert not install(killed).result["changed"]


def test_two_runs_at_the_same_time_both_end_well(run_module: Run, tmp_path: Path) -> None:
    with Server("stall", "ok") as server:
        arguments = {"directory": str(tmp_path), "url": server.url, **ONE}
        first = start_and_wait_for(child_command({**arguments, "timeout": 1}), tmp_path / PARTIAL, CUT)
        second = run_module("tiktoken_encodings", arguments)
        assert first.wait(30) == 0
    assert second.status == 0
    assert contents(tmp_path) == {O200K: CONTENT["o200k_base"]}


def test_a_partial_file_that_a_run_works_on_is_left_alone(install: Run, tmp_path: Path) -> None:
    fill(tmp_path)
    partial = tmp_path / PARTIAL
    with host_download.held(str(partial)):
        host_download.remove_leftover(str(partial))
        assert partial.exists()
    assert not partial.exists()
