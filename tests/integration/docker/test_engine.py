# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the container backend does to a real Docker Engine."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import tempfile
import time
import typing as t
from pathlib import Path

import docker.errors
import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.record import LABEL_SEAL
from ansible_collections.gpufleet.vllm.plugins.module_utils._docker import client
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.labels import LABEL_FINGERPRINT
from engine_host import STUBBORN, ULIMITS, Host, Registry
from free_ports import free_ports

# A module leaves its connection to the engine to the end of its process.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

NEW = {"engine": {"max_model_len": 2}}


def failing(make: t.Callable[..., t.Any], *arguments: t.Any, **said: t.Any) -> str:
    with pytest.raises(VllmError) as caught:
        make(*arguments, **said)
    return str(caught.value)


# --- check, do, again, again in check -------------------------------------------------------------------------------

Step = t.Callable[..., t.Any]


def deploy(host: Host, check: bool = False) -> dict[str, t.Any]:
    return host.run(check)


def create(host: Host, check: bool = False) -> dict[str, t.Any]:
    return host.run(check, state="present")


def replace(host: Host, check: bool = False) -> dict[str, t.Any]:
    return host.run(check, **NEW)


def replace_present(host: Host, check: bool = False) -> dict[str, t.Any]:
    return host.run(check, state="present", **NEW)


def managed(state: str) -> Step:
    def step(host: Host, check: bool = False) -> dict[str, t.Any]:
        return host.manage(state, check)

    return step


commit, revert, stop, remove = map(managed, ("committed", "reverted", "stopped", "absent"))


@pytest.mark.parametrize(
    ("before", "step", "states"),
    [
        pytest.param([], deploy, {"": "running"}, id="deploy"),
        pytest.param([], create, {"": "created"}, id="create"),
        pytest.param([create], deploy, {"": "running"}, id="start"),
        pytest.param([deploy], replace, {"": "running", "-superseded": "exited"}, id="replace"),
        pytest.param([deploy], replace_present, {"": "running", "-superseded": "exited"}, id="replace with present"),
        pytest.param([create], replace, {"": "running", "-superseded": "created"}, id="replace what never ran"),
        pytest.param([deploy, replace], deploy, {"": "running", "-superseded": "exited"}, id="replace a replacement"),
        pytest.param([deploy, replace], commit, {"": "running"}, id="commit"),
        pytest.param([deploy, replace], revert, {"": "running"}, id="revert"),
        pytest.param([deploy], stop, {"": "exited"}, id="stop"),
        pytest.param([deploy, replace], remove, {}, id="remove"),
    ],
)
def test_check_predicts_and_changes_nothing_and_the_second_run_neither(
    before: list[Step], step: Step, states: dict[str, str], host: Host
) -> None:
    for earlier in before:
        earlier(host)
    found = host.containers()
    predicted = step(host, check=True)
    assert host.containers() == found
    done = step(host)
    assert host.states == {host.name + suffix: state for suffix, state in states.items()}
    for key in ("changed", "actions", "commands", "diff", "needs"):
        assert predicted[key] == done[key]
    assert done["changed"] is True
    after = host.containers()
    for check in (False, True):
        again = step(host, check=check)
        assert (again["changed"], again["actions"], again["commands"]) == (False, [], [])
    assert host.containers() == after


def test_the_server_is_told_as_it_is(host: Host) -> None:
    server = host.run(served_model_name="gpt")["server"]
    found = host.inspect()
    assert server == {
        "container_name": host.name,
        "backend": "container",
        "state": "running",
        "container_id": found["Id"],
        "image": host.said["image"],
        "image_id": found["Image"],
        "url": f"http://127.0.0.1:{host.said['port']}",
        "served_model_name": "gpt",
        "served_model_names": ["gpt"],
        "api_key_file": None,
        "access": {},
        "fingerprint": found["Config"]["Labels"][LABEL_FINGERPRINT],
        "started_at": found["State"]["StartedAt"],
        "restarts": 0,
        "away_seconds": None,
        "cold_start": True,
        "superseded": False,
        "stopped_for_it": [],
    }


def test_the_engine_has_what_was_asked_for(host: Host, tmp_path: Path) -> None:
    host.run(
        huggingface_dir=f"{tmp_path}/hf",
        volumes=[f"{tmp_path}:/data:ro"],
        env={"A": "b c"},
        labels={"team": "nlp"},
        restart_policy="on-failure:3",
        ipc_mode="host",
    )
    found = host.inspect()
    config, configured = found["Config"], found["HostConfig"]
    assert config["Cmd"] == ["vllm", "serve", "m", "--served-model-name", "m", "--port", str(host.said["port"])]
    assert {"A=b c", "PATH=/bin"} <= set(config["Env"])
    assert config["Labels"]["team"] == "nlp"
    assert config["StopTimeout"] == 5
    assert {f"{tmp_path}/hf:/root/.cache/huggingface", f"{tmp_path}:/data:ro"} <= set(configured["Binds"])
    assert configured["IpcMode"] == "host"
    assert configured["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
    assert {one["Name"]: one["Hard"] for one in configured["Ulimits"]} == ULIMITS
    assert not configured["DeviceRequests"]


OPTIONS: dict[str, t.Any] = {
    "entrypoint": ["sh", "-c", 'echo "before $0" && exec "$@"', "a b"],
    "hostname": "gpt",
    "extra_hosts": ["hub.example:10.9.9.9"],
    "ipc_mode": "private",
    "shm_size": "96m",
    "devices": ["/dev/null:/dev/nothing:r"],
    "cap_add": ["SYS_PTRACE"],
    "group_add": ["44"],
    "security_opt": ["seccomp=unconfined"],
}


@pytest.mark.parametrize("typed", [False, True], ids=["created", "typed"])
def test_the_engine_takes_every_option(typed: bool, host: Host) -> None:
    """From us, and from the command line that is told to people."""
    network, volume = f"{host.name}-net", f"{host.name}-mine"
    identity = host.engine.create_network(network)["Id"]
    said = {**OPTIONS, "network": network, "volumes": [f"{volume}:/mine:ro"]}
    try:
        if typed:
            for line in host.run(check=True, **said)["commands"]:
                subprocess.run(["sh", "-c", line], check=True, capture_output=True)
        else:
            host.run(**said)
        assert "before a b" in host.wait_for_log()
        found = host.inspect()
        configured = found["HostConfig"]
        assert [*found["NetworkSettings"]["Networks"]] == [network]
        assert len(found["NetworkSettings"]["Ports"]) == 1
        assert found["Config"]["Hostname"] == "gpt"
        assert configured["ExtraHosts"] == OPTIONS["extra_hosts"]
        assert configured["ShmSize"] == 96 << 20
        assert [one["PathInContainer"] for one in configured["Devices"]] == ["/dev/nothing"]
        # The command line writes it as CAP_SYS_PTRACE.
        assert [name.removeprefix("CAP_") for name in configured["CapAdd"]] == ["SYS_PTRACE"]
        assert configured["GroupAdd"] == ["44"]
        assert configured["SecurityOpt"] == ["seccomp=unconfined"]
        if not typed:
            host.manage("absent")
            assert volume in host.volumes()
    finally:
        with contextlib.suppress(docker.errors.NotFound):
            host.engine.remove_container(host.name, force=True)
        host.engine.remove_network(identity)
        host.engine.remove_volume(volume, force=True)


def test_a_network_that_is_not_there_is_told_before_anything_stops(host: Host) -> None:
    host.run()
    there = host.states
    told = failing(host.run, network=f"{host.name}-nowhere")
    assert "There is no such network on the engine: create it" in told
    assert host.states == there


@pytest.mark.parametrize("bind", ["127.0.0.1", "localhost"])
def test_loopback_is_loopback(bind: str, host: Host) -> None:
    """Docker takes a word that is no address for all addresses."""
    host.run(bind=bind)
    (published,) = host.inspect()["NetworkSettings"]["Ports"].values()
    assert [one["HostIp"] for one in published] == ["127.0.0.1"]


def test_the_command_lines_do_the_same(host: Host) -> None:
    """Where Docker has a command line, what is told can be typed."""
    predicted = host.run(check=True)
    for line in predicted["commands"]:
        subprocess.run(["sh", "-c", line], check=True, capture_output=True)
    typed = host.inspect()
    # What somebody typed is his, whatever labels it has.
    assert failing(host.run).startswith(f"{host.name} exists and was not created by gpufleet.vllm")
    host.engine.remove_container(host.name, force=True)
    host.run()
    made = host.inspect()
    assert len(made["Config"]["Labels"].pop(LABEL_SEAL)) == 32
    for key in ("Cmd", "Labels", "StopTimeout", "Image"):
        assert typed["Config"][key] == made["Config"][key]
    # The command line gives them in any order.
    assert sorted(typed["Config"]["Env"]) == sorted(made["Config"]["Env"])
    for key in ("Binds", "IpcMode", "NetworkMode", "PortBindings", "RestartPolicy", "Ulimits"):
        assert (typed["HostConfig"][key] or None) == (made["HostConfig"][key] or None)


def test_a_trial_can_be_typed_too(host: Host) -> None:
    host.run()
    (line,) = [line for line in host.run(check=True, **NEW)["commands"] if line.startswith("docker run")]
    subprocess.run(["sh", "-c", line], check=True, capture_output=True)
    assert host.states == {host.name: "running"}


# --- containers of somebody else ------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", "-next", "-try", "-superseded"])
def test_a_container_of_somebody_else_is_refused_and_untouched(suffix: str, host: Host) -> None:
    host.foreign(host.said["image"], suffix)
    before = host.containers()
    told = [failing(host.run, check) for check in (True, False)]
    told += [failing(host.manage, state) for state in ("stopped", "absent", "committed", "reverted")]
    assert all(text.startswith(f"{host.name}{suffix} exists and was not created by gpufleet.vllm") for text in told)
    assert host.containers() == before


def test_an_adopted_container_is_kept_until_the_commit(host: Host) -> None:
    theirs = host.foreign(host.said["image"])
    host.run(replace_unmanaged=True)
    assert host.inspect("-superseded")["Id"] == theirs
    host.manage("reverted", replace_unmanaged=True)
    assert host.inspect()["Id"] == theirs and host.states == {host.name: "running"}
    host.run(replace_unmanaged=True)
    host.manage("committed", replace_unmanaged=True)
    assert host.states == {host.name: "running"}
    assert host.run()["changed"] is False


LABELS = {
    "gpufleet.vllm.fingerprint": "v1:x",
    "gpufleet.vllm.cache": "x",
    "gpufleet.vllm.fetch": "m",
}


@pytest.fixture
def hostile(host: Host, tmp_path: Path) -> t.Iterator[str]:
    """An image whose labels say that it is ours, and that files of the host were written for it."""
    name = f"{host.name}-hostile"
    (tmp_path / "hub" / "models--m").mkdir(parents=True)
    (tmp_path / "shadow").write_text("root:x")
    spec = {"name": "x", "model": "m", "image": name, "huggingface_dir": str(tmp_path)}
    labels = {
        **LABELS,
        "gpufleet.vllm.wrote": json.dumps([str(tmp_path / "shadow")]),
        "gpufleet.vllm.spec": json.dumps(spec),
    }
    changes = [f"LABEL {key}={json.dumps(value)}" for key, value in labels.items()]
    parent = host.engine.create_container(host.said["image"], "x")["Id"]
    host.engine.commit(parent, repository=name, tag="1", changes=changes)
    host.engine.remove_container(parent, force=True)
    yield f"{name}:1"
    for one in host.containers():
        host.engine.remove_container(one, force=True)
    host.engine.remove_image(f"{name}:1", force=True)


@pytest.mark.parametrize("suffix", ["", "-next", "-superseded"])
def test_the_labels_of_an_image_make_nothing_ours(suffix: str, host: Host, hostile: str, tmp_path: Path) -> None:
    host.foreign(hostile, suffix)
    before = host.containers()
    for state in ("stopped", "absent", "committed", "reverted"):
        assert "was not created by gpufleet.vllm" in failing(host.manage, state, purge=["weights"])
    assert host.containers() == before
    assert (tmp_path / "shadow").exists() and (tmp_path / "hub" / "models--m").exists()


def test_the_labels_of_our_own_image_choose_no_file(host: Host, hostile: str, tmp_path: Path) -> None:
    host.run(image=hostile)
    assert host.inspect()["Config"]["Labels"]["gpufleet.vllm.wrote"] == ""
    host.manage("absent", purge=["weights"])
    assert host.states == {}
    assert (tmp_path / "shadow").exists() and (tmp_path / "hub" / "models--m").exists()


def test_a_committed_copy_of_a_server_is_left_alone(host: Host) -> None:
    host.run()
    copy = f"{host.name}-copy"
    host.engine.commit(host.name, repository=copy, tag="1")
    try:
        theirs = host.foreign(f"{copy}:1", "-notebook")
        # The copy has every label, the seal too.
        assert LABEL_SEAL in host.inspect("-notebook")["Config"]["Labels"]
        host.run(**NEW)
        host.manage("committed")
        host.manage("absent")
        assert host.inspect("-notebook")["Id"] == theirs and host.inspect("-notebook")["State"]["Running"]
    finally:
        host.engine.remove_container(f"{host.name}-notebook", force=True)
        host.engine.remove_image(f"{copy}:1", force=True)


# --- images ---------------------------------------------------------------------------------------------------------


def test_an_image_that_is_not_on_the_host_is_told(host: Host) -> None:
    host.run()
    before = host.containers()
    assert failing(host.run, image="gpufleet-unit-none:1") == (
        f"{host.name} is not started: The image gpufleet-unit-none:1 is not on the host, and pull is 'never'. Load it there "
        "first. Nothing was stopped or changed."
    )
    assert host.containers() == before


@pytest.mark.parametrize("pull", ["missing", "always"])
def test_a_registry_that_does_not_answer_is_told_soon(pull: str, host: Host) -> None:
    host.run()
    before = host.containers()
    began = time.monotonic()
    reference = f"127.0.0.1:{free_ports()[0]}/gpufleet-unit-none:1"
    text = failing(host.run, image=reference, pull=pull)
    assert time.monotonic() - began < 10
    assert text.startswith(f"Cannot pull {reference} (it is not on the host). Docker says: ")
    assert "connection refused. The registry cannot be reached from the host: check its network and proxy" in text
    assert text.endswith("The previous server is running.")
    assert host.containers() == before


def test_an_image_is_pulled_once_and_again_only_when_it_is_asked_for(host: Host, registry: Registry) -> None:
    registry.push("vllm:1", "first")
    said = {"image": f"{registry.address}/vllm:1", "pull": "missing"}
    predicted = host.run(check=True, **said)
    assert predicted["actions"][0] == f"pull {registry.address}/vllm:1 (it is not on the host)"
    assert host.run(**said)["actions"] == predicted["actions"]
    first = host.inspect()["Image"]
    registry.push("vllm:1", "second")
    asked = len(registry.asked)
    assert host.run(**said)["changed"] is False
    assert len(registry.asked) == asked
    result = host.run(**{**said, "pull": "always"})
    assert result["actions"][:2] == [
        f"pull {registry.address}/vllm:1",
        f"create {host.name}-next ({registry.address}/vllm:1 is a different image now)",
    ]
    assert host.inspect()["Image"] != first
    assert host.run(**{**said, "pull": "always"})["changed"] is False


def test_an_image_is_pulled_by_its_digest(host: Host, registry: Registry) -> None:
    digest = registry.push("vllm:1", "first")
    registry.push("vllm:1", "second")
    host.run(image=f"{registry.address}/vllm@{digest}", pull="missing")
    assert host.run(image=f"{registry.address}/vllm@{digest}")["changed"] is False
    log = host.wait_for_log(times=2)
    assert log.splitlines()[-1] == "first"


def test_an_image_that_the_registry_does_not_have_is_told(host: Host, registry: Registry) -> None:
    host.run()
    before = host.containers()
    reference = f"{registry.address}/vllm:none"
    text = failing(host.run, image=reference, pull="missing")
    assert text.startswith(f"Cannot pull {reference} (it is not on the host). Docker says: ")
    assert "manifest unknown" in text
    assert "The registry does not have it or requires a login: check the name and tag" in text
    assert host.containers() == before


def test_an_image_that_is_vllm_itself_gets_the_arguments_alone(host: Host, serving_image: str) -> None:
    host.run(image=serving_image)
    config = host.inspect()["Config"]
    assert config["Entrypoint"] == ["vllm", "serve"]
    assert config["Cmd"][:2] == ["m", "--served-model-name"]
    log = host.wait_for_log()
    assert log.startswith("called as: serve m --served-model-name m --port ")


# --- ports ----------------------------------------------------------------------------------------------------------


def test_a_port_that_a_process_holds_is_told_with_the_process(host: Host) -> None:
    host.run()
    before = host.containers()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        text = failing(host.run, port=port)
    name = Path("/proc/self/comm").read_text().strip()
    assert text == (
        f"{host.name} is not started: Port {port} is taken by {name} (PID {os.getpid()}, uid {os.getuid()}) listening on "
        f"127.0.0.1:{port}, which is not part of this server. Stop that first, or give this server another port. Nothing "
        "was stopped or changed."
    )
    assert host.containers() == before


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_a_port_that_a_container_publishes_is_told_with_the_container(address: str, host: Host) -> None:
    port = host.said["port"]
    host.foreign(
        host.said["image"], "-other", PortBindings={f"{port}/tcp": [{"HostIp": address, "HostPort": str(port)}]}
    )
    before = host.containers()
    assert f"Port {port} is taken by the container {host.name}-other, which is not part" in failing(host.run)
    assert host.containers() == before


def test_a_port_on_another_address_is_free(host: Host) -> None:
    port = host.said["port"]
    bindings = {f"{port}/tcp": [{"HostIp": "127.0.0.2", "HostPort": str(port)}]}
    host.foreign(host.said["image"], "-other", PortBindings=bindings)
    assert host.run()["changed"]


def test_an_address_that_the_host_does_not_have_is_told_and_undone(host: Host) -> None:
    host.run()
    before = host.containers()
    text = failing(host.run, bind="192.0.2.1", allow_unauthenticated=True)
    assert "cannot assign requested address. Bind is not an address of this host: 'ip address' lists" in text
    assert text.endswith("The previous server is running.")
    assert_same_but_restarted(host, before)


def assert_same_but_restarted(host: Host, before: dict[str, tuple[str, str, str]]) -> None:
    assert {name: one[:2] for name, one in host.containers().items()} == {name: one[:2] for name, one in before.items()}


# --- what the engine refuses ----------------------------------------------------------------------------------------

GPU_REMEDIES = (
    "Docker has no NVIDIA runtime: install the NVIDIA Container Toolkit",
    "The NVIDIA Container Toolkit could not hand over the GPU",
    "The host has no GPU of that UUID",
)


def test_a_gpu_that_cannot_be_had_is_told_and_stops_nothing(host: Host) -> None:
    host.run()
    before = host.containers()
    gpus = ["GPU-00000000-0000-0000-0000-000000000000"]
    assert failing(host.run, gpus=gpus).endswith("Nothing was stopped or changed.")
    text = failing(host.run, gpus=gpus, fit="off")
    assert text.startswith(
        f"Cannot try {host.name}-next (GPU access, limits and mounts, before anything stops). Docker says: "
    )
    assert any(remedy in text for remedy in GPU_REMEDIES)
    assert text.endswith("The previous server is running.")
    assert host.containers() == before


def test_a_limit_that_may_not_be_raised_is_told_and_stops_nothing(host: Host) -> None:
    """Where the engine may raise it, the server starts with it."""
    host.run()
    before = host.containers()
    try:
        host.run(ulimits={**ULIMITS, "memlock": -1})
    except VllmError as error:
        assert "error setting rlimit type 8: operation not permitted" in str(error)
        assert "set ulimits.memlock to a limit it has, in bytes, for example 8388608." in str(error)
        assert str(error).endswith("The previous server is running.")
        assert host.containers() == before
    else:
        assert {"Name": "memlock", "Soft": -1, "Hard": -1} in host.inspect()["HostConfig"]["Ulimits"]


def test_a_first_deployment_that_fails_leaves_nothing(host: Host, wrong_image: str, tmp_path: Path) -> None:
    token = tmp_path / "secrets" / "token"
    text = failing(host.run, image=wrong_image, hf_token_file=str(token), hf_token="CANARY")
    assert text.startswith(f"Cannot start {host.name}. Docker says: ")
    assert '"vllm": executable file not found in $PATH' in text
    assert "The image does not hold that program: is it an image of vLLM?" in text
    assert text.endswith("No server was stopped by this.")
    assert host.containers() == {} and host.volumes() == []
    assert not token.parent.exists()


def test_a_replacement_that_does_not_start_is_undone(host: Host, wrong_image: str) -> None:
    host.run()
    before = host.containers()
    text = failing(host.run, image=wrong_image)
    assert text.endswith("The previous server is running.")
    assert_same_but_restarted(host, before)


# --- secrets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["image", "serving_image"])
def test_secrets_reach_the_server_alone(kind: str, host: Host, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    (tmp_path / "env").write_text("FIRST=CANARY 1\n# no=1\nSECOND='$x'")
    probe = 'cat "$HF_TOKEN_PATH"; echo "$VLLM_API_KEY|$FIRST|$SECOND"'
    host.run(
        image=request.getfixturevalue(kind),
        env={"first": probe},
        hf_token_file=f"{tmp_path}/t",
        hf_token="CANARY-2",
        api_key_file=f"{tmp_path}/k",
        api_key="CANARY-3-of-16-or-more",
        env_file=f"{tmp_path}/env",
    )
    assert host.wait_for_log(times=3).splitlines()[1:] == ["CANARY-2", "CANARY-3-of-16-or-more|CANARY 1|'$x'"]
    assert "CANARY" not in str(host.inspect())


def test_a_server_whose_key_was_emptied_does_not_come_back_without_one(host: Host, tmp_path: Path) -> None:
    key = tmp_path / "k"
    host.run(api_key_file=str(key), api_key="CANARY-of-16-or-more", restart_policy="no")
    key.write_text("")
    host.engine.restart(host.name, timeout=5)
    assert host.wait_for_end() == 1
    assert host.engine.logs(host.name).decode().endswith("/run/secrets/vllm_api_key holds no API key\n")


# --- a run that is killed -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["started", "reverted"])
def test_a_run_that_was_killed_while_it_stopped_the_old_server_is_finished_or_undone(state: str, host: Host) -> None:
    host.run(**STUBBORN)
    old = host.inspect()["Id"]
    host.kill_run_while_it_stops(host, **{**STUBBORN, **NEW})
    assert set(host.states) == {host.name, f"{host.name}-next"}
    if state == "started":
        host.run(**NEW)
        assert host.states == {host.name: "running", f"{host.name}-superseded": "exited"}
        assert host.inspect("-superseded")["Id"] == old
    else:
        # The engine goes on with the stop that it was told, then nothing serves.
        host.wait_for_end()
        host.manage("reverted")
        assert host.states == {host.name: "running"}
        assert host.inspect()["Id"] == old


# --- an engine that cannot be used ----------------------------------------------------------------------------------


@contextlib.contextmanager
def as_nobody() -> t.Iterator[None]:
    """Root may open every socket."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_an_engine_that_is_closed_to_this_user_is_told(engine: t.Any) -> None:
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        path = f"{directory}/docker.sock"
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as server:
            server.bind(path)
            server.listen()
            os.chmod(path, 0)
            with as_nobody():
                text = failing(client.connect, f"unix://{path}")
    assert text == (
        f"Cannot talk to the Docker Engine at unix://{path}: this user has no permission. Add the user to group docker "
        "('sudo usermod -aG docker USER', then log in again) or run with become: true."
    )
