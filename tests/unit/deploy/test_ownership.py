# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is ours is proved by the record, whatever labels say; what is somebody else's is left alone, and told."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import re
import typing as t
from pathlib import Path

import docker.errors
import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.ledger import Ledger
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.record import (
    LABEL_CACHE,
    LABEL_FETCH,
    LABEL_FINGERPRINT,
    LABEL_SPEC,
    LABEL_WROTE,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._docker import backend
from ansible_collections.gpufleet.vllm.plugins.module_utils._docker.backend import LOG_LINES
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._host import files
from ansible_collections.gpufleet.vllm.plugins.module_utils._server import spec as server_spec
from docker_model import IMAGE, NEW, Client, FailsOnce, Killed, manage, run, situation, warnings


def hostile(path: Path) -> dict[str, str]:
    """What the author of an image may write into it."""
    spec = {"name": "x", "model": "m", "image": IMAGE, "huggingface_dir": str(path), "port": 8000}
    return {
        LABEL_FINGERPRINT: "v1:x",
        LABEL_SPEC: json.dumps(spec),
        LABEL_WROTE: json.dumps([str(path / "shadow")]),
        LABEL_CACHE: "vllm-a",
        LABEL_FETCH: "m",
    }


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A directory of somebody else, with a file and a folder of weights."""
    path = tmp_path / "theirs"
    (path / "hub" / "models--m").mkdir(parents=True)
    (path / "shadow").write_text("root:x")
    return path


def record_of(server: str) -> list[dict[str, t.Any]]:
    directory = situation().record / "owned"
    found = [json.loads(path.read_text()) for path in sorted(directory.glob(f"{server}.*.json"))]
    return [one for one in found if one["kind"] == "container"]


def everything(**said: t.Any) -> dict[str, t.Any]:
    return manage(container_name=None, all=True, state="absent", purge=["weights", "encodings"], **said)


# --- labels prove nothing -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ann", "vllm-ann", "vllm-a-fetch", "vllm-a-next"])
def test_a_container_of_a_hostile_image_is_nobody_of_ours(name: str, client: Client, theirs: Path) -> None:
    client.put(name, {"Image": "evil", "Labels": hostile(theirs)}, running=True)
    before = client.now
    warnings.clear()
    everything()
    assert client.now == before
    assert (theirs / "shadow").exists() and (theirs / "hub" / "models--m").exists()
    assert len(warnings) == 1 and f"The container {name} has labels of gpufleet.vllm" in warnings[0]


@pytest.mark.parametrize("slot", ["", "-next", "-try", "-superseded"])
@pytest.mark.parametrize("state", ["started", "stopped", "absent", "committed", "reverted"])
def test_labels_make_no_slot_ours(slot: str, state: str, client: Client, theirs: Path) -> None:
    client.put(f"vllm-a{slot}", {"Image": "evil", "Labels": hostile(theirs)}, running=True)
    with pytest.raises(VllmError, match=f"^vllm-a{slot} exists and was not created by gpufleet.vllm") as caught:
        run(state=state, purge=["weights"])
    assert caught.value.reason == "unmanaged"
    assert client.now == {f"vllm-a{slot}": "id1 running"} and (theirs / "shadow").exists()


@pytest.mark.parametrize("name", ["ann-notebook", "vllm-b", "vllm-a-next"])
def test_a_committed_copy_of_a_server_is_somebody_elses(name: str, client: Client) -> None:
    """docker commit copies every label, the seal too."""
    run()
    config = copy.deepcopy(client.containers_by_name["vllm-a"]["Config"])
    client.put(name, config, running=True)
    if name == "vllm-a-next":
        with pytest.raises(VllmError, match="^vllm-a-next exists"):
            run(**NEW)
        client.remove_container(name, force=True)
        return
    run(**NEW)
    manage(state="committed")
    everything()
    assert set(client.now) == {name}


def test_labels_of_our_own_image_choose_no_file(client: Client, theirs: Path) -> None:
    client.labels = {**(client.labels or {}), **hostile(theirs)}
    run()
    # The engine adds those of the image that the create call does not have.
    mine = client.containers_by_name["vllm-a"]["Config"]["Labels"]
    client.containers_by_name["vllm-a"]["Config"]["Labels"] = {**hostile(theirs), **mine}
    assert mine[LABEL_WROTE] == "" and set(hostile(theirs)) <= set(mine)
    everything()
    assert client.now == {} and (theirs / "shadow").exists() and (theirs / "hub" / "models--m").exists()


def test_labels_that_were_changed_meanwhile_choose_no_file_either(client: Client, theirs: Path) -> None:
    run()
    client.containers_by_name["vllm-a"]["Config"]["Labels"].update(hostile(theirs))
    everything()
    assert (theirs / "shadow").exists() and (theirs / "hub" / "models--m").exists()


@pytest.mark.parametrize("spec", ['{"volumes":5}', '{"huggingface_dir":[1]}', "[" * 100000, "{", "5", '{"port":"x"}'])
def test_odd_labels_of_others_stop_nothing(spec: str, client: Client) -> None:
    client.put("vllm-x", {"Image": "evil", "Labels": {LABEL_FINGERPRINT: "v1:x", LABEL_SPEC: spec}}, running=True)
    run()
    run(**NEW)
    manage(state="committed")
    everything()
    assert set(client.now) == {"vllm-x"}


def test_a_container_that_took_the_name_of_ours_is_somebody_elses(client: Client) -> None:
    run()
    labels = client.containers_by_name["vllm-a"]["Config"]["Labels"]
    client.remove_container("vllm-a", force=True)
    client.put("vllm-a", {"Image": IMAGE, "Labels": labels}, running=True)
    with pytest.raises(VllmError, match="^vllm-a exists and was not created"):
        manage(state="absent")


def test_a_container_of_ours_that_was_renamed_is_left_alone(client: Client) -> None:
    run()
    client.rename("vllm-a", "mine")
    everything()
    assert client.now == {"mine": "id1 running"}
    client.rename("mine", "vllm-a")
    manage(state="absent")
    assert client.now == {}


def test_the_seal_counts_until_the_id_is_known_and_no_longer(client: Client) -> None:
    client.dies_after = 1
    with pytest.raises(Killed):
        run(state="present")
        run()
    client.dies_after = None
    (found,) = [one for one in record_of("vllm-a") if one["purpose"] == "server"]
    assert found["identity"] == "id1"


@pytest.mark.parametrize("fate", ["ours", "copied"])
def test_a_run_that_is_killed_before_it_knows_the_id_finds_its_container_again(
    fate: str, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = client.create_container_from_config

    def killed(config: dict[str, t.Any], name: str = "probe") -> t.NoReturn:
        create(config, name)
        raise Killed

    monkeypatch.setattr(client, "create_container_from_config", killed)
    with pytest.raises(Killed):
        run()
    monkeypatch.undo()
    assert [one["identity"] for one in record_of("vllm-a") if one["purpose"] == "server"] == [""]
    if fate == "copied":
        client.put("ann", copy.deepcopy(client.containers_by_name["vllm-a"]["Config"]), running=True)
    run_again = manage(state="absent")
    assert run_again["actions"][0] == "remove vllm-a"
    assert set(client.now) == ({"ann"} if fate == "copied" else set())


def test_a_volume_with_our_label_is_somebody_elses_too(client: Client) -> None:
    client.volumes_by_name["vllm-a-cache-9"] = {LABEL_CACHE: "vllm-a"}
    client.volumes_by_name["odd"] = {LABEL_CACHE: "team/a"}
    run()
    everything()
    assert set(client.volumes_by_name) == {"vllm-a-cache-9", "odd"}


def test_a_volume_of_that_name_that_somebody_made_is_used_and_stays_his(client: Client) -> None:
    client.volumes_by_name["vllm-a-cache-1"] = {LABEL_CACHE: "vllm-a"}
    run()
    manage(state="absent")
    assert set(client.volumes_by_name) == {"vllm-a-cache-1"}


def test_two_users_are_two_operators(client: Client, tmp_path: Path) -> None:
    run()
    mine = situation().record
    situation().record = tmp_path / "of another user"
    everything()
    with pytest.raises(VllmError, match="^vllm-a exists and was not created"):
        manage(state="stopped")
    assert client.now == {"vllm-a": "id1 running"}
    situation().record = mine
    everything()
    assert client.now == {}


def test_a_server_on_another_engine_is_not_gone(client: Client, tmp_path: Path) -> None:
    """A user may have two, and what one of them lacks the other has."""
    said = {"api_key_file": f"{tmp_path}/s/key", "api_key": "CANARY-of-16-or-more"}
    run(**said)
    here, there = dict(client.containers_by_name), situation()
    client.containers_by_name.clear()
    there.place = "unix:///run/user/1000/docker.sock"
    run(name="b", port=8001, **said)
    everything()
    assert client.now == {} and (tmp_path / "s" / "key").exists()
    client.containers_by_name.update(here)
    there.place = ""
    everything()
    assert client.now == {} and not (tmp_path / "s").exists()


# --- the record -----------------------------------------------------------------------------------------------------


def test_nobody_else_can_read_or_write_the_record(client: Client) -> None:
    run()
    directory = situation().record / "owned"
    assert directory.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o600}


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def link(path: Path) -> None:
    path.rename(path.with_suffix(".elsewhere"))
    path.symlink_to(path.with_suffix(".elsewhere"))


DAMAGES: dict[str, t.Callable[[Path], t.Any]] = {
    "empty": lambda path: path.write_text(""),
    "no JSON": lambda path: path.write_text("{"),
    "no mapping": lambda path: path.write_text("[]"),
    "deep": lambda path: path.write_text("[" * 100000),
    "binary": lambda path: path.write_bytes(b"\xff\xfe\x00"),
    "a newer version": lambda path: path.write_text('{"version": 2}'),
    "no version": lambda path: path.write_text('{"kind": "container"}'),
    "a list for a name": lambda path: path.write_text(path.read_text().replace('"server": "vllm-a"', '"server": []')),
    "no list of files": lambda path: path.write_text(path.read_text().replace('"wrote": []', '"wrote": 5')),
    "a number for a time": lambda path: path.write_text(
        path.read_text().replace('"stopping_since": ""', '"stopping_since": 5')
    ),
    "no truth value": lambda path: path.write_text(path.read_text().replace('"filled": false', '"filled": 1')),
    "no number": lambda path: path.write_text(path.read_text().replace('"start_seconds": 0', '"start_seconds": "2"')),
    "another server": lambda path: path.write_text(path.read_text().replace('"vllm-a"', '"vllm-b"')),
    "writable by others": lambda path: path.chmod(0o666),
    "a pipe": pipe,
    "a link": link,
    "a directory": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("state", ["started", "absent"])
def test_a_record_that_cannot_be_believed_stops_nothing(
    damage: t.Callable[[Path], t.Any], state: str, client: Client
) -> None:
    run()
    (path,) = [one for one in (situation().record / "owned").iterdir() if '"server",' in one.read_text()]
    damage(path)
    before = client.now
    with pytest.raises(VllmError, match=f"^Cannot read {path}, which records what") as caught:
        run(state=state, **NEW)
    assert caught.value.reason == "record-unreadable" and client.now == before


def test_a_later_kind_of_thing_in_the_record_is_none_of_our_business(client: Client) -> None:
    run()
    (situation().record / "owned" / "vllm-a.watchdog.json").write_text('{"version": 1, "kind": "lease", "unit": "x"}')
    assert run()["changed"] is False
    manage(state="absent")
    assert (situation().record / "owned" / "vllm-a.watchdog.json").exists()


@pytest.mark.parametrize(("where", "mode"), [("owned", 0o755), ("owned", 0o770), ("", 0o777), ("", 0o775)], ids=str)
def test_a_directory_that_others_can_reach_is_not_believed(where: str, mode: int, client: Client) -> None:
    run()
    (situation().record / where).chmod(mode)
    with pytest.raises(VllmError, match="^Cannot trust .* so others may have written it. Run: chmod"):
        run(**NEW)
    assert client.now == {"vllm-a": "id1 running"}


def test_another_users_record_is_not_believed(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    run()
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(VllmError, match="^Cannot trust .*: it belongs to user"):
        manage(check=True, state="absent")
    assert client.now == {"vllm-a": "id1 running"}


def full(*_: t.Any, **__: t.Any) -> t.NoReturn:
    raise OSError(28, "No space left on device")


def test_a_record_that_cannot_be_written_stops_nothing(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    run()
    before = client.now
    monkeypatch.setattr(files, "write_whole", full)
    with pytest.raises(VllmError, match="^Cannot record in .*: No space left on device. Free some space") as caught:
        run(**NEW)
    assert caught.value.reason == "disk-full" and client.now == before
    manage(state="absent")
    assert client.now == {}


def test_the_broken_record_of_one_server_keeps_no_other_from_being_removed(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, port in (("a", 8000), ("b", 8001), ("c", 8002)):
        run(name=name, port=port, api_key_file=f"{tmp_path}/{name}/key", api_key=f"CANARY-of-16-or-more-{name}")
    for path in (situation().record / "owned").glob("vllm-b.*.json"):
        path.write_text("{")
    warnings.clear()
    with pytest.raises(VllmError, match="^vllm-b: Cannot read .* Done for the others: vllm-a, vllm-c.$"):
        everything()
    assert set(client.now) == {"vllm-b"}
    # Nobody knows which files b uses.
    assert (tmp_path / "a" / "key").exists()
    assert any("are kept, since another server may use them" in one for one in warnings)


def test_one_server_that_cannot_be_removed_keeps_no_other(fragile: FailsOnce) -> None:
    run()
    run(name="b", port=8001)
    fragile.failing = ("stop", "vllm-a")
    with pytest.raises(VllmError, match="^vllm-a: Cannot stop vllm-a. .* Done for the others: vllm-b.$"):
        everything()
    assert set(fragile.now) == {"vllm-a"}
    everything()
    assert fragile.now == {}


def test_nothing_is_left_of_a_server_that_is_gone(client: Client, tmp_path: Path) -> None:
    run(api_key_file=f"{tmp_path}/s/key", api_key="CANARY-of-16-or-more")
    run(api_key_file=f"{tmp_path}/s/key", api_key="CANARY-of-16-or-more", **NEW)
    manage(state="committed")
    manage(state="absent")
    assert not situation().record.exists()


def test_what_was_written_goes_though_somebody_removed_the_container(client: Client, tmp_path: Path) -> None:
    run(api_key_file=f"{tmp_path}/s/key", api_key="CANARY-of-16-or-more")
    client.containers_by_name.clear()
    manage(state="absent")
    assert not (tmp_path / "s").exists()


def test_the_record_keeps_what_was_committed_and_what_before(client: Client) -> None:
    def committed() -> dict[str, t.Any]:
        return Ledger(str(situation().record)).committed("vllm-a")

    run()
    manage(state="committed")
    manage(state="committed")
    assert (committed()["committed"]["model"], committed()["previous"]) == ("m", None)
    run(model="n")
    manage(state="committed")
    assert (committed()["committed"]["model"], committed()["previous"]["model"]) == ("n", "m")
    manage(state="absent")
    assert committed() == {}


# --- replace_unmanaged ----------------------------------------------------------------------------------------------


def test_only_the_server_itself_is_given_away(client: Client) -> None:
    client.put("vllm-a", {"Image": "theirs"}, running=True)
    client.put("vllm-a-superseded", {"Image": "theirs"}, running=True)
    before = client.now
    with pytest.raises(VllmError, match="exists and was not created by gpufleet.vllm"):
        run(replace_unmanaged=True)
    assert client.now == before


def test_what_was_put_aside_is_known_by_the_record(client: Client) -> None:
    client.put("vllm-a", {"Image": "theirs"}, running=True)
    run(replace_unmanaged=True)
    assert client.now == {"vllm-a-superseded": "id1 exited", "vllm-a": "id2 running"}
    manage(state="reverted")
    assert client.now == {"vllm-a": "id1 running"}
    # Back in its place it is its owner's.
    for state in ("absent", "reverted", "stopped"):
        with pytest.raises(VllmError, match="^vllm-a exists and was not created"):
            manage(state=state)
    run(replace_unmanaged=True)
    manage(state="committed")
    assert set(client.now) == {"vllm-a"}


# --- acts on what it observed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("running", [True, False])
def test_a_server_that_somebody_replaced_during_the_pull_is_left_alone(running: bool, client: Client) -> None:
    run()
    client.registry["vllm:2"] = "sha256:2"
    pull = client.pull

    def meanwhile(*args: t.Any, **said: t.Any) -> t.Any:
        client.remove_container("vllm-a", force=True)
        client.put("vllm-a", {"Image": "theirs"}, running=running)
        return pull(*args, **said)

    client.pull = meanwhile  # type: ignore[method-assign]
    with pytest.raises(VllmError) as caught:
        run(image="vllm:2")
    assert caught.value.reason == "overtaken"
    assert client.now == {"vllm-a": f"id2 {'running' if running else 'created'}"}


def test_another_server_that_somebody_replaced_is_not_stopped(client: Client) -> None:
    run(name="b")
    client.registry["vllm:2"] = "sha256:2"
    pull = client.pull

    def meanwhile(*args: t.Any, **said: t.Any) -> t.Any:
        client.remove_container("vllm-b", force=True)
        client.put("vllm-b", {"Image": "theirs"}, running=True)
        return pull(*args, **said)

    client.pull = meanwhile  # type: ignore[method-assign]
    with pytest.raises(VllmError) as caught:
        run(image="vllm:2")
    assert caught.value.reason == "overtaken" and client.now == {"vllm-b": "id2 running"}


def test_what_was_replaced_is_noticed_before_another_server_stops(client: Client) -> None:
    """The server and another one give way: what stops first is as it was, and what comes after it is not."""
    run(**NEW, port=9000)
    run(name="b")
    client.registry["vllm:2"] = "sha256:2"
    pull, calls = client.pull, len(client.calls)

    def meanwhile(*args: t.Any, **said: t.Any) -> t.Any:
        client.remove_container("vllm-a", force=True)
        client.put("vllm-a", {"Image": "theirs"}, running=True)
        return pull(*args, **said)

    client.pull = meanwhile  # type: ignore[method-assign]
    with pytest.raises(VllmError, match="vllm-a was replaced by another run or user"):
        run(image="vllm:2")
    assert not [call for call in client.calls[calls:] if call[0] == "stop"]
    assert client.now["vllm-b"].endswith("running")


def test_paths_of_another_home_are_told(client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_spec, "HOME", re.compile(rf"^{re.escape(str(tmp_path))}/(?:ann|root)(?=/)"))
    run(huggingface_dir=f"{tmp_path}/ann/hf")
    warnings.clear()
    run(True, huggingface_dir=f"{tmp_path}/ann/other")
    assert list(warnings) == []
    run(True, huggingface_dir=f"{tmp_path}/root/hf")
    assert len(warnings) == 1
    assert warnings[0].startswith(f"huggingface_dir is {tmp_path}/root/hf, and was {tmp_path}/ann/hf before. ~ is the")


def test_a_container_that_is_linked_to_is_one_server(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = client.containers
    monkeypatch.setattr(
        client,
        "containers",
        lambda **said: [{**one, "Names": ["/open-webui/llm", *one["Names"]]} for one in listed(**said)],
    )
    run()
    assert run()["changed"] is False
    run(**NEW)
    everything()
    assert client.now == {}


# --- by-products ----------------------------------------------------------------------------------------------------


def test_a_look_into_an_image_that_was_cut_short_goes_with_the_server(client: Client) -> None:
    client.labels = None
    client.dies_after = 1
    with pytest.raises(Killed):
        run()
    client.dies_after = None
    (probe,) = client.now
    assert probe.startswith("vllm-a-probe-")
    everything()
    assert client.now == {}


def test_a_download_that_was_cut_short_goes_with_all(client: Client, tmp_path: Path) -> None:
    run(name="b", model="n")
    client.dies_after = len(client.calls) + 1
    with pytest.raises(Killed):
        run(huggingface_dir=str(tmp_path / "hf"), model="org/m")
    client.dies_after = None
    assert "vllm-a-fetch" in client.now
    everything()
    assert client.now == {}


def test_the_last_line_of_a_download_shows_no_secret(client: Client, tmp_path: Path) -> None:
    run(name="b")
    client.fetch_status = 1
    (tmp_path / "token").write_text("CANARY-TOKEN-1")
    client.log = "x\n\x1b]0;pwned\x07403 for https://cdn/f?X-Signature=CANARY2&a=b with CANARY-TOKEN-1 \x1b[31m\x08\n"
    with pytest.raises(VllmError, match="Its last line says: 403 for https://cdn/f") as caught:
        run(huggingface_dir=str(tmp_path / "hf"), model="org/m", hf_token_file=str(tmp_path / "token"))
    assert "CANARY" not in str(caught.value) and str(caught.value).isprintable()


def test_a_log_that_cannot_be_read_keeps_no_server_from_being_committed(client: Client) -> None:
    run()
    run(**NEW)
    client.log = docker.errors.APIError("x", explanation="configured logging driver does not support reading")
    assert manage(state="committed")["actions"] == ["remove vllm-a-superseded (the new server is healthy)"]


def test_a_commit_reads_the_end_of_a_log(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    logs = client.logs
    monkeypatch.setattr(client, "logs", lambda *args, **said: asked.append(said) or logs(*args, **said))
    run()
    manage(state="committed")
    assert asked and all(0 < said.get("tail", 0) <= LOG_LINES <= 100_000 for said in asked)


def test_a_commit_reads_no_more_of_long_lines(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "LOG_BYTES", 1000)
    client.log = f"{'x' * 3000}\nthe end\n"
    run()
    read = next(iter(situation().host().backends.values())).log("vllm-a")
    assert len(read) <= 1000 and read.endswith("the end\n")


# --- somebody's own file --------------------------------------------------------------------------------------------


@pytest.fixture
def token(tmp_path: Path) -> Path:
    """What hf auth login has written."""
    path = tmp_path / "cache" / "token"
    path.parent.mkdir()
    path.write_text("hf_mine")
    path.chmod(0o600)
    return path


def is_as_it_was(token: Path, before: os.stat_result) -> bool:
    """The same file, with its owner and its mode, and nothing beside."""
    now = token.stat()
    alone = [path.name for path in token.parent.iterdir()] == ["token"]
    return alone and token.read_text() == "hf_mine" and (now.st_ino, now.st_mode) == (before.st_ino, before.st_mode)


def with_token(token: Path, **said: t.Any) -> dict[str, t.Any]:
    return run(**{"hf_token_file": str(token), "hf_token": "CANARY", **said})


def test_a_token_of_the_user_comes_back_when_the_server_goes(client: Client, token: Path) -> None:
    before = token.stat()
    with_token(token)
    assert token.read_text() == "CANARY\n"
    with_token(token, **NEW)
    manage(state="committed")
    result = manage(state="absent")
    assert f"restore original {token} (it held that before this server)" in result["actions"]
    assert is_as_it_was(token, before)


def test_a_token_of_the_user_comes_back_when_the_server_is_reverted(client: Client, token: Path) -> None:
    before = token.stat()
    run()
    with_token(token)
    manage(state="reverted")
    assert is_as_it_was(token, before)


@pytest.mark.parametrize("failing", [("create", "vllm-a"), ("start", "vllm-a")], ids=" ".join)
def test_a_token_of_the_user_comes_back_when_the_run_fails(
    failing: tuple[str, str], fragile: FailsOnce, token: Path
) -> None:
    before = token.stat()
    fragile.failing = failing
    with pytest.raises(VllmError):
        with_token(token)
    assert is_as_it_was(token, before)
    # It is his own again: what he writes there next is kept as well.
    token.write_text("hf_newer")
    with_token(token)
    manage(state="absent")
    assert token.read_text() == "hf_newer"


@pytest.mark.parametrize("calls", range(3))
def test_a_token_of_the_user_survives_a_run_that_was_killed(calls: int, client: Client, token: Path) -> None:
    before = token.stat()
    client.dies_after = calls
    with contextlib.suppress(Killed):
        with_token(token)
    client.dies_after = None
    manage(state="absent")
    assert is_as_it_was(token, before)


def test_a_token_of_the_user_comes_back_with_the_last_server_that_reads_it(client: Client, token: Path) -> None:
    run(name="b", port=8001, hf_token_file=str(token))
    with_token(token)
    manage(state="absent")
    assert token.read_text() == "CANARY\n"
    manage(container_name="vllm-b", state="absent")
    assert token.read_text() == "hf_mine"


@pytest.mark.parametrize(("said", "kept"), [(2700, 2700), ("900", 900), (None, 0), ("soon", 0), (-1, 0), ("inf", 0)])
def test_what_a_start_may_take_is_recorded_for_the_watchdog(said: t.Any, kept: float, client: Client) -> None:
    run(health={"timeout": said})
    (made,) = (one for one in Ledger(str(situation().record)).known().entries if one.purpose == "server")
    assert made.start_seconds == kept
