# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The secrets of the other server are kept until the commit, and put back with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.labels import LABEL_FINGERPRINT
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.ports import PortOwner
from docker_model import Client, FailsOnce, Killed, manage, run, situation, warnings
from switches import SWITCH, cached, files_of, keyed, run_b

# --- secrets of a switch --------------------------------------------------------------------------------------------


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return tmp_path / "s" / "key"


def test_the_key_of_the_other_server_is_kept_until_the_commit(client: Client, key: Path) -> None:
    run_b(**keyed(key, "CANARY-B-of-16-or-more"))
    run(**keyed(key, "CANARY-A-of-16-or-more"))
    assert files_of(key) == {"key": "CANARY-A-of-16-or-more", "key.superseded": "CANARY-B-of-16-or-more"}
    assert (key.parent / "key.superseded").stat().st_mode & 0o777 == 0o600
    result = manage(state="committed")
    assert f"forget secret {key} (no server reads it)" in result["actions"]
    assert f"rm {key}.superseded" in result["commands"]
    assert files_of(key) == {"key": "CANARY-A-of-16-or-more"}
    manage(state="absent")
    assert not key.parent.exists()


def test_the_key_of_the_other_server_is_put_back_with_it(client: Client, key: Path) -> None:
    run_b(**keyed(key, "CANARY-B-of-16-or-more"))
    run(**keyed(key, "CANARY-A-of-16-or-more"))
    result = manage(state="reverted")
    assert f"restore secret {key} (the old server reads it)" in result["actions"]
    order = [line.split(" (")[0] for line in result["actions"]]
    assert order.index(f"restore secret {key}") < order.index("start vllm-b")
    assert files_of(key) == {"key": "CANARY-B-of-16-or-more"}
    assert run_b(**keyed(key, "CANARY-B-of-16-or-more"))["changed"] is False


@pytest.mark.parametrize("failing", SWITCH, ids=" ".join)
def test_the_key_of_the_other_server_is_put_back_when_a_step_fails(
    failing: tuple[str, str], fragile: FailsOnce, key: Path
) -> None:
    run_b(**keyed(key, "CANARY-B-of-16-or-more"))
    fragile.failing = failing
    with pytest.raises(VllmError) as caught:
        run(**keyed(key, "CANARY-A-of-16-or-more"))
    assert "CANARY" not in str(caught.value)
    assert files_of(key) == {"key": "CANARY-B-of-16-or-more"}
    assert run_b(**keyed(key, "CANARY-B-of-16-or-more"))["changed"] is False


@pytest.mark.parametrize("calls", range(len(SWITCH) + 2))
def test_the_key_of_the_other_server_is_put_back_when_a_run_was_killed(calls: int, client: Client, key: Path) -> None:
    run_b(**keyed(key, "CANARY-B-of-16-or-more"))
    client.dies_after = len(client.calls) + calls
    try:
        run(**keyed(key, "CANARY-A-of-16-or-more"))
    except Killed:
        pass
    else:
        assert calls == len(SWITCH) + 1
    client.dies_after = None
    run(**keyed(key, "CANARY-A-of-16-or-more"))
    assert files_of(key) == {"key": "CANARY-A-of-16-or-more", "key.superseded": "CANARY-B-of-16-or-more"}
    manage(state="reverted")
    assert files_of(key) == {"key": "CANARY-B-of-16-or-more"}


def test_an_older_key_is_not_lost_when_one_changes_ones_mind(client: Client, key: Path) -> None:
    run_b(**keyed(key, "CANARY-B-of-16-or-more"))
    run(**keyed(key, "CANARY-A-of-16-or-more"))
    run(**keyed(key, "CANARY-AA-of-16-or-more"))
    assert files_of(key) == {"key": "CANARY-AA-of-16-or-more", "key.superseded": "CANARY-B-of-16-or-more"}
    manage(state="reverted")
    assert files_of(key) == {"key": "CANARY-B-of-16-or-more"}


@pytest.mark.parametrize("failing", [("create", "vllm-a-next"), ("start", "vllm-a")], ids=" ".join)
def test_the_key_of_the_server_that_is_kept_stays_when_a_second_change_of_it_fails(
    failing: tuple[str, str], fragile: FailsOnce, key: Path
) -> None:
    run(**keyed(key, "CANARY-0-of-16-or-more"))
    run(**keyed(key, "CANARY-1-of-16-or-more"))
    fragile.failing = failing
    with pytest.raises(VllmError):
        run(**keyed(key, "CANARY-2-of-16-or-more"))
    assert files_of(key)["key.superseded"] == "CANARY-0-of-16-or-more"
    manage(state="reverted")
    assert files_of(key) == {"key": "CANARY-0-of-16-or-more"}
    assert run(**keyed(key, "CANARY-0-of-16-or-more"))["changed"] is False


def test_a_kept_key_goes_with_the_server(client: Client, key: Path) -> None:
    run(**keyed(key, "CANARY-1-of-16-or-more"))
    run(**keyed(key, "CANARY-2-of-16-or-more"))
    assert files_of(key) == {"key": "CANARY-2-of-16-or-more", "key.superseded": "CANARY-1-of-16-or-more"}
    manage(state="absent")
    assert not key.parent.exists()


def test_a_rotated_key_is_forgotten_by_the_commit_though_nothing_else_is_kept(client: Client, key: Path) -> None:
    run(**keyed(key, "CANARY-1-of-16-or-more"))
    run(**keyed(key, "CANARY-2-of-16-or-more"))
    manage(state="committed")
    assert files_of(key) == {"key": "CANARY-2-of-16-or-more"}


@pytest.mark.parametrize(
    ("said", "left"),
    [
        pytest.param({}, {}, id="nobody reads it"),
        pytest.param({"api_key_file": "{0}"}, {"key": "CANARY-B-of-16-or-more"}, id="the new server does"),
    ],
)
def test_the_key_that_was_written_for_the_other_server_goes_with_it(
    said: dict[str, str], left: dict[str, str], client: Client, key: Path
) -> None:
    run_b(**keyed(key, "CANARY-B-of-16-or-more"))
    run(**{name: value.replace("{0}", str(key)) for name, value in said.items()})
    assert files_of(key) == {"key": "CANARY-B-of-16-or-more"}
    manage(state="committed")
    assert files_of(key) == left
    # It was ours, whoever it was written for.
    manage(state="absent")
    assert files_of(key) == {}


def test_a_key_that_a_third_server_reads_stays(client: Client, key: Path) -> None:
    run_b(**keyed(key, "CANARY-B-of-16-or-more"))
    run(name="c", port=9000, api_key_file=str(key))
    run()
    manage(state="committed")
    assert files_of(key) == {"key": "CANARY-B-of-16-or-more"}


def test_the_commit_leaves_a_key_that_the_server_reads_though_a_killed_run_of_another_wrote_it(
    client: Client, key: Path
) -> None:
    key.parent.mkdir()
    key.write_text("CANARY-A-of-16-or-more\n")
    key.chmod(0o600)
    run(api_key_file=str(key))
    client.dies_after = len(client.calls) + 1
    with pytest.raises(Killed):
        run_b(**keyed(key, "CANARY-B-of-16-or-more"))
    client.dies_after = None
    run(**keyed(key, "CANARY-A-of-16-or-more"))
    manage(state="committed")
    assert set(client.now) == {"vllm-a"}
    assert files_of(key) == {"key": "CANARY-A-of-16-or-more"}


def test_no_secret_is_in_any_result_of_a_switch(client: Client, key: Path, tmp_path: Path) -> None:
    (tmp_path / "env").write_text("A=CANARY\n")
    (tmp_path / "env").chmod(0o600)
    said = {"hf_token_file": f"{tmp_path}/t", "hf_token": "CANARY-T", "env_file": f"{tmp_path}/env", **cached(tmp_path)}
    results = [run_b(**keyed(key, "CANARY-B-of-16-or-more"), **said)]
    for state in ("committed", "reverted"):
        for check in (True, False):
            results += [run(check, **keyed(key, "CANARY-A-of-16-or-more"), **said), manage(check, state=state)]
    results.append(manage(state="absent"))
    assert "CANARY" not in json.dumps([results, client.containers_by_name, list(warnings)])


# --- what secrets are compared with -----------------------------------------------------------------------------------


def entries(server: str = "vllm-a") -> list[Path]:
    return sorted((situation().record / "owned").glob(f"{server}.*.json"))


def salts(server: str = "vllm-a") -> set[str]:
    found = [json.loads(path.read_text()) for path in entries(server)]
    return {one["salt"] for one in found if one.get("purpose") == "server"}


def test_a_label_cannot_be_looked_up_in_a_table(client: Client, key: Path) -> None:
    """The same server with the same key has another fingerprint on each host, and after each removal."""
    seen = set()
    for _host in range(3):
        run(**keyed(key, "the-same-everywhere"))
        seen.add(client.containers_by_name["vllm-a"]["Config"]["Labels"][LABEL_FINGERPRINT])
        manage(state="absent")
    assert len(seen) == 3


def test_the_salt_is_in_the_record_alone(client: Client, key: Path) -> None:
    results = [run(**keyed(key, "a-key-of-16-or-more")), run(**keyed(key, "another-of-16-or-more"))]
    (salt,) = salts()
    assert len(salt) == 32
    assert salt not in json.dumps([results, client.containers_by_name, client.volumes_by_name, warnings])
    assert [path.stat().st_mode & 0o777 for path in entries()] == [0o600] * len(entries())


def test_the_salt_stays_as_long_as_the_server(client: Client, key: Path) -> None:
    run(**keyed(key, "a-key-of-16-or-more"))
    before = salts()
    run(**keyed(key, "a-key-of-16-or-more"), engine={"max_num_seqs": 1})
    manage(state="committed")
    assert salts() == before
    assert run(**keyed(key, "a-key-of-16-or-more"), engine={"max_num_seqs": 1})["changed"] is False


@pytest.mark.parametrize("has_key", [True, False], ids=["with a key", "without a secret"])
def test_a_salt_that_is_lost_is_told_before_anything_restarts_for_it(has_key: bool, client: Client, key: Path) -> None:
    said = keyed(key, "a-key-of-16-or-more") if has_key else {}
    run(**said)
    for path in entries():
        path.write_text(json.dumps({**json.loads(path.read_text()), "salt": ""}))
    planned = run(True, **said)
    assert planned["changed"] is has_key
    reason = "create vllm-a-next (whether a secret changed is unknown, since the record has no salt for it)"
    assert (reason in planned["actions"]) is has_key
    run(**said)
    assert run(**said)["changed"] is False


def test_a_record_that_is_lost_with_its_salt_restarts_nothing(client: Client, key: Path) -> None:
    run(**keyed(key, "a-key-of-16-or-more"))
    before = client.now
    for path in entries():
        path.unlink()
    with pytest.raises(VllmError, match="^vllm-a exists and was not created by gpufleet.vllm"):
        run(**keyed(key, "a-key-of-16-or-more"))
    assert client.now == before


# --- who gets a key -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "is_asked"),
    [
        pytest.param({"network_mode": "host"}, False, id="a stranger has the port that the server would open"),
        pytest.param({}, True, id="the engine has the port"),
    ],
)
def test_a_key_does_not_go_to_who_has_the_port_of_a_server(
    said: dict[str, str], is_asked: bool, client: Client, key: Path
) -> None:
    run(**keyed(key, "a-key-of-16-or-more"), **said)
    situation().owner = PortOwner("python3 (PID 7, uid 1001) listening on 127.0.0.1:8000", 7, uid=1001)
    result = run(**keyed(key, "a-key-of-16-or-more"), **said, health={})
    assert (result["changed"], bool(situation().probed), bool(result["health"])) == (False, is_asked, is_asked)


def test_a_key_goes_to_the_server_itself(client: Client, key: Path) -> None:
    server = run(**keyed(key, "a-key-of-16-or-more"), network_mode="host")["server"]
    situation().owner = PortOwner("vllm (PID 7, uid 0) listening on 127.0.0.1:8000", 7, server["container_id"], 0)
    assert run(**keyed(key, "a-key-of-16-or-more"), network_mode="host", health={})["health"]
