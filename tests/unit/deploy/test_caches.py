# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What servers compile: each keeps its own, and kernels that do not depend on the model are kept once for an image."""

from __future__ import annotations

import json
import typing as t

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.record import LABEL_KERNELS
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._host import lock
from docker_model import IMAGE, KERNELS, NEW, Client, Killed, manage, run, situation
from switches import run_b

ONE, TWO = f"{KERNELS}-1", f"{KERNELS}-2"
BESIDE: dict[str, t.Any] = {"port": 8001}
OTHER_IMAGE: dict[str, t.Any] = {"image": "vllm:2"}
EVERYTHING: dict[str, t.Any] = {"container_name": None, "all": True, "state": "absent"}


@pytest.fixture(autouse=True)
def two_images(client: Client) -> None:
    client.images["vllm:2"] = "sha256:2"


def mounts(client: Client, name: str) -> list[str]:
    return [bind for bind in client.containers_by_name[name]["HostConfig"]["Binds"] if "vllm-kernels" in bind]


def kernels(client: Client) -> list[str]:
    return sorted(name for name in client.volumes_by_name if name.startswith(KERNELS))


def users(name: str = ONE) -> list[str]:
    """The servers that are recorded to use these kernels."""
    found = [json.loads(path.read_text()) for path in (situation().record / "owned").glob("*.json")]
    return sorted(one["server"] for one in found if one.get("purpose") == "kernels" and one["name"] == name)


# --- a server's own ---------------------------------------------------------------------------------------------------------


def test_the_caches_of_an_old_image_go_when_the_new_one_is_committed(client: Client) -> None:
    run()
    client.images[IMAGE] = "sha256:2"
    run()
    assert sorted(client.volumes_by_name) == [
        f"{name}-{image}" for name in (KERNELS, "vllm-a-cache") for image in (1, 2)
    ]
    committed = manage(state="committed")
    assert committed["actions"][-2].startswith(f"remove cache {KERNELS}-1 (it belongs to an image")
    assert committed["actions"][-1].startswith("remove cache vllm-a-cache-1 (it belongs to an image")
    assert committed["commands"][-1] == "docker volume rm vllm-a-cache-1"
    assert client.volumes_by_name == {
        "vllm-a-cache-2": {"gpufleet.vllm.cache": "vllm-a"},
        f"{KERNELS}-2": {"gpufleet.vllm.kernels": IMAGE},
    }


def test_caches_survive_a_change_of_settings_and_a_stop(client: Client) -> None:
    run()
    run(**NEW)
    manage(state="committed")
    manage(state="stopped")
    assert sorted(client.volumes_by_name) == [f"{KERNELS}-1", "vllm-a-cache-1"]


def test_caches_of_a_server_that_somebody_removed_go_with_all(client: Client) -> None:
    run()
    client.containers_by_name.clear()
    assert manage(container_name=None, all=True, state="absent")["commands"] == [
        f"docker volume rm {KERNELS}-1",
        "docker volume rm vllm-a-cache-1",
    ]


def test_a_volume_of_somebody_else_stays(client: Client) -> None:
    client.volumes_by_name["vllm-a-cache-9"] = {}
    run()
    manage(state="absent")
    assert client.volumes_by_name == {"vllm-a-cache-9": {}}


# --- the kernels of an image ---------------------------------------------------------------------------------------


def test_two_servers_of_one_image_share_its_kernels_and_nothing_else(client: Client) -> None:
    run()
    run_b(**BESIDE)
    assert mounts(client, "vllm-a") == mounts(client, "vllm-b") == [f"{ONE}:/var/cache/vllm-kernels"]
    assert sorted(client.volumes_by_name) == [ONE, "vllm-a-cache-1", "vllm-b-cache-1"]
    for name in ("vllm-a", "vllm-b"):
        variables = dict(one.partition("=")[::2] for one in client.containers_by_name[name]["Config"]["Env"])
        shared = {key for key, value in variables.items() if value.startswith("/var/cache/vllm-kernels/")}
        assert shared == {"FLASHINFER_WORKSPACE_BASE", "CUDA_CACHE_PATH"}
    assert users() == ["vllm-a", "vllm-b"]
    assert run()["changed"] is run_b(**BESIDE)["changed"] is False


@pytest.mark.parametrize(
    ("why", "said"),
    [
        pytest.param("no cache is wanted", {"keep_caches": False}, id="no caches"),
        pytest.param("no GPU, so no kernels", {"gpus": "none"}, id="no GPU"),
        pytest.param("its FlashInfer builds in one directory", {"vllm_version": "0.15.1"}, id="an old version"),
    ],
)
def test_who_does_not_share(why: str, said: dict[str, t.Any], client: Client) -> None:
    run(**said)
    assert (mounts(client, "vllm-a"), kernels(client), users()) == ([], [], []), why


def test_a_version_that_nobody_knows_does_not_share(client: Client) -> None:
    client.labels, client.probed = None, "unknown"
    run()
    assert kernels(client) == []


def test_images_do_not_share(client: Client) -> None:
    run()
    run_b(**BESIDE, **OTHER_IMAGE)
    assert kernels(client) == [ONE, TWO]


# --- they go with the last server -----------------------------------------------------------------------------------


def test_kernels_go_with_the_last_server_of_their_image(client: Client) -> None:
    run()
    run_b(**BESIDE)
    for check in (True, False):
        gone = manage(check, state="absent")["actions"]
        assert gone == ["stop vllm-a", "remove vllm-a", "remove cache vllm-a-cache-1 (its server is gone)"]
    assert (kernels(client), users()) == ([ONE], ["vllm-b"])
    for check in (True, False):
        gone = manage(check, container_name="vllm-b", state="absent")["actions"]
        assert gone[2] == f"remove cache {ONE} (its server is gone)"
    assert client.volumes_by_name == {} and not situation().record.exists()


def test_a_teardown_of_everything_predicts_that_they_go(client: Client) -> None:
    run()
    run_b(**BESIDE)
    predicted = manage(True, **EVERYTHING)
    done = manage(**EVERYTHING)
    for key in ("actions", "commands", "diff"):
        assert predicted[key] == done[key]
    assert f"docker volume rm {ONE}" in done["commands"]
    assert client.volumes_by_name == {} and not situation().record.exists()


def test_the_commit_of_another_image_takes_what_nobody_uses_any_more(client: Client) -> None:
    run()
    run(**OTHER_IMAGE)
    assert kernels(client) == [ONE, TWO]
    committed = manage(state="committed")
    assert f"docker volume rm {ONE}" in committed["commands"]
    assert (kernels(client), users(), users(TWO)) == ([TWO], [], ["vllm-a"])


def test_the_commit_of_another_image_leaves_what_another_server_uses(client: Client) -> None:
    run()
    run_b(**BESIDE)
    run(**OTHER_IMAGE)
    committed = manage(state="committed")
    assert f"docker volume rm {ONE}" not in committed["commands"]
    assert (kernels(client), users(), users(TWO)) == ([ONE, TWO], ["vllm-b"], ["vllm-a"])


def test_a_way_back_to_the_image_of_before_finds_its_kernels(client: Client) -> None:
    run()
    run(**OTHER_IMAGE)
    manage(state="reverted")
    assert ONE in kernels(client) and mounts(client, "vllm-a") == [f"{ONE}:/var/cache/vllm-kernels"]


def test_a_switch_back_to_another_server_finds_its_kernels(client: Client) -> None:
    """A commit removes the server of before; what it compiled stays, for it may come back."""
    run_b(**OTHER_IMAGE)
    run()
    manage(state="committed")
    assert (kernels(client), users(TWO)) == ([ONE, TWO], ["vllm-b"])
    manage(**EVERYTHING)
    assert client.volumes_by_name == {}


def test_a_server_that_never_came_to_be_leaves_nothing(client: Client) -> None:
    client.failing = ("start", "vllm-a")
    with pytest.raises(VllmError):
        run()
    assert (client.volumes_by_name, users()) == ({}, [])


def test_a_server_that_never_came_to_be_leaves_the_kernels_of_another_one(client: Client) -> None:
    run_b(**BESIDE)
    client.failing = ("start", "vllm-a")
    with pytest.raises(VllmError):
        run()
    assert (sorted(client.volumes_by_name), users()) == ([ONE, "vllm-b-cache-1"], ["vllm-b"])


# --- whose they are -------------------------------------------------------------------------------------------------


def test_kernels_of_somebody_else_are_used_and_stay_his(client: Client) -> None:
    client.volumes_by_name[ONE] = {LABEL_KERNELS: IMAGE}
    run()
    assert mounts(client, "vllm-a") and users() == []
    manage(state="absent")
    assert set(client.volumes_by_name) == {ONE}


def test_kernels_that_a_container_of_somebody_else_mounts_stay(client: Client) -> None:
    run()
    client.put("ann", {"HostConfig": {"Binds": [f"{ONE}:/x"]}}, running=True)
    manage(state="absent")
    assert (kernels(client), users()) == ([ONE], ["vllm-a"])
    client.remove_container("ann", force=True)
    manage(**EVERYTHING)
    assert client.volumes_by_name == {}


def test_a_record_that_cannot_be_believed_keeps_the_kernels(client: Client) -> None:
    """Nobody knows what the server of that record uses."""
    run()
    broken = situation().record / "owned" / "vllm-z.1.json"
    broken.write_text("{}")
    broken.chmod(0o600)
    manage(state="absent")
    assert (kernels(client), users()) == ([ONE], ["vllm-a"])


# --- at the same time ---------------------------------------------------------------------------------------------------


def test_a_server_that_comes_while_another_one_goes_keeps_the_kernels(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan was made when nobody else used them."""
    run()
    stop = client.stop

    def meanwhile(name: str, timeout: int) -> None:
        stop(name, timeout)
        run_b(**BESIDE)

    monkeypatch.setattr(client, "stop", meanwhile)
    planned = manage(True, state="absent")
    assert f"remove cache {ONE} (its server is gone)" in planned["actions"]
    manage(state="absent")
    assert (kernels(client), users()) == ([ONE], ["vllm-b"])
    assert mounts(client, "vllm-b")


def test_two_that_go_at_once_leave_nothing(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each was planned when the other one was there."""
    run()
    run_b(**BESIDE)
    stop, others = client.stop, ["vllm-b"]

    def meanwhile(name: str, timeout: int) -> None:
        stop(name, timeout)
        if others:
            manage(container_name=others.pop(), state="absent")

    monkeypatch.setattr(client, "stop", meanwhile)
    manage(state="absent")
    assert client.volumes_by_name == {} and client.now == {}


def test_kernels_are_recorded_and_mounted_before_anybody_may_remove_them(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[str] = []
    create = client.create_container_from_config

    def watched(config: dict[str, t.Any], name: str = "probe") -> dict[str, str]:
        with pytest.raises(lock.Busy), lock.alone(ONE, patience=0):
            pass
        held.append(name)
        return create(config, name)

    monkeypatch.setattr(client, "create_container_from_config", watched)
    run()
    assert held == ["vllm-a"]
    with lock.alone(ONE, patience=0):
        pass


@pytest.mark.parametrize("calls", [0, 1])
def test_a_run_that_is_killed_on_the_way_is_finished_by_a_teardown(calls: int, client: Client) -> None:
    client.dies_after = calls
    with pytest.raises(Killed):
        run()
    client.dies_after = None
    assert users() == ["vllm-a"]
    manage(**EVERYTHING)
    assert (client.volumes_by_name, client.now) == ({}, {}) and not situation().record.exists()


# --- cold and warm ------------------------------------------------------------------------------------------------------


def cold(result: dict[str, t.Any]) -> t.Any:
    return result["server"]["cold_start"]


def test_a_start_is_cold_until_one_of_its_image_was_committed(client: Client) -> None:
    assert cold(run()) is True
    assert cold(run(**NEW)) is True
    manage(state="committed")
    assert cold(run()) is False
    assert cold(run(**OTHER_IMAGE)) is True


def test_another_server_has_the_kernels_and_still_its_own_graphs_to_compile(client: Client) -> None:
    run()
    manage(state="committed")
    assert cold(run_b(**BESIDE)) is True


def test_a_start_that_keeps_nothing_is_always_cold(client: Client) -> None:
    run(keep_caches=False)
    manage(state="committed")
    assert cold(run(keep_caches=False)) is True


def test_caches_that_somebody_removed_are_cold_again(client: Client) -> None:
    run()
    manage(state="committed")
    client.containers_by_name.clear()
    client.volumes_by_name.clear()
    assert cold(run()) is True
