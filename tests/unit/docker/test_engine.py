# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which engine answers, at which addresses, and which servers it is not given."""

from __future__ import annotations

import json
import os
import socketserver
import subprocess
import threading
import typing as t
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import yaml
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.backend import Making
from ansible_collections.gpufleet.vllm.plugins.module_utils._docker import client
from ansible_collections.gpufleet.vllm.plugins.module_utils._docker.container import configuration, docker_argv, trial
from ansible_collections.gpufleet.vllm.plugins.module_utils._docker.engine import (
    SEES_GPU,
    Engine,
    adapted,
    engine_doubts,
    engine_of,
    engine_problems,
    trial_for,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._docker.reader import Identity, SocketReader, reader
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.spec import ServerSpec, from_params
from docker_model import Client, installed, manage, run, situation, warnings

# --- addresses ----------------------------------------------------------------------------------------------------------


def test_an_engine_is_found_at_its_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    assert reader(None).path == "/var/run/docker.sock"
    assert reader("unix:///run/user/1000/docker.sock").path == "/run/user/1000/docker.sock"
    monkeypatch.setenv("DOCKER_HOST", "unix:///run/podman/podman.sock")
    assert reader(None).path == "/run/podman/podman.sock"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("tcp://gpu2:2376", "tcp://gpu2:2376"),
        ("ssh://root@gpu1", "ssh://gpu1"),
        ("tcp://ann:canary@gpu2:2376", "tcp://gpu2:2376"),
        ("http+unix://%2Fvar%2Frun%2Fdocker.sock", "http+unix://%2Fvar%2Frun%2Fdocker.sock"),
        ("unix://docker.sock", "unix://docker.sock"),
        ("/var/run/docker.sock", "/var/run/docker.sock"),
        ("fd://", "fd://"),
        ("UNIX:///var/run/docker.sock", "UNIX:///var/run/docker.sock"),
    ],
)
@pytest.mark.parametrize("use", [reader, client.connect], ids=["to look", "to act"])
def test_another_address_is_refused(
    address: str, shown: str, use: t.Callable[[str | None], t.Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for said, given in (("docker_host", address), ("DOCKER_HOST in the environment of the host", None)):
        monkeypatch.setenv("DOCKER_HOST", address)
        with pytest.raises(VllmError) as caught:
            use(given)
        assert str(caught.value).startswith(f"{said} must be the Unix socket of an engine on the host itself")
        assert f"got {shown!r}" in str(caught.value)
        assert caught.value.reason == "invalid-parameter"


ROOT = Path(__file__).parents[3]
ASKING = ("gpufleet.vllm.gpu_facts", "gpufleet.vllm.vllm_diagnose", "gpufleet.vllm.vllm_container")


@pytest.mark.parametrize("playbook", ["status", "diagnose", "teardown"])
def test_a_playbook_asks_the_engine_that_the_servers_run_on(playbook: str) -> None:
    (play,) = yaml.safe_load((ROOT / "playbooks" / f"{playbook}.yml").read_text("utf-8"))
    tasks = [inner for task in play["tasks"] for inner in task.get("block", [task])]
    asked = [task[module] for task in tasks for module in ASKING if module in task]
    assert asked
    for arguments in asked:
        assert "vllm_overrides" in arguments["docker_host"]


# --- who answers --------------------------------------------------------------------------------------------------------

PODMAN = {"Platform": {"Name": "linux/amd64/debian-12"}, "Version": "4.3.1", "Components": [{"Name": "Podman Engine"}]}
DOCKER = {"Platform": {"Name": "Docker Engine - Community"}, "Version": "28.5.2", "Components": [{"Name": "Engine"}]}
USERNS = {"SecurityOptions": ["name=seccomp,profile=builtin", "name=userns"]}
ROOTLESS = {"SecurityOptions": ["name=seccomp,profile=builtin", "name=rootless", "name=cgroupns"]}


@pytest.mark.parametrize(
    ("version", "info", "server", "found"),
    [
        (DOCKER, {"SecurityOptions": ["name=apparmor"]}, "Docker/28.5.2 (linux)", (False, False, False)),
        (PODMAN, {}, "", (True, False, False)),
        ({"Version": "5.4.2"}, {}, "Libpod/5.4.2 (linux)", (True, False, False)),
        ({"Platform": {"Name": "Podman"}}, ROOTLESS, "", (True, True, False)),
        (DOCKER, USERNS, "", (False, False, True)),
        (DOCKER, ROOTLESS, "", (False, True, False)),
        (None, None, "", (False, False, False)),
        ([], {"SecurityOptions": None}, "", (False, False, False)),
        ({"Components": [None, 1], "Platform": "x"}, {"SecurityOptions": [None]}, "", (False, False, False)),
    ],
)
def test_which_engine_it_is(version: t.Any, info: t.Any, server: str, found: tuple[bool, bool, bool]) -> None:
    engine = engine_of(Identity(version, info, server))
    assert (engine.is_podman, engine.is_rootless, engine.maps_users) == found


class Handler(BaseHTTPRequestHandler):
    """Podman, or a proxy in front of an engine that keeps C(/info) back."""

    server_version, sys_version = "Libpod/5.4.2 (linux)", ""
    refuses: t.ClassVar[bool] = False

    def do_GET(self) -> None:
        status, body = (403, {}) if self.refuses and self.path == "/info" else (200, {**PODMAN, **ROOTLESS})
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_arguments: t.Any) -> None:
        pass


class UnixServer(socketserver.UnixStreamServer):
    def get_request(self) -> tuple[t.Any, t.Any]:
        request, _address = super().get_request()
        return request, ("unix", 0)


@pytest.mark.parametrize("refuses", [False, True])
def test_the_engine_over_the_socket(refuses: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Handler, "refuses", refuses)
    with UnixServer(str(tmp_path / "s"), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        engine = engine_of(SocketReader(str(tmp_path / "s")).identity())
        server.shutdown()
        thread.join()
    assert str(engine) == f"Podman 4.3.1 at unix://{tmp_path}/s"
    assert (engine.is_podman, engine.is_rootless, engine.uid) == (True, not refuses, os.geteuid())


# --- what it cannot do --------------------------------------------------------------------------------------------------


def spec(**said: t.Any) -> ServerSpec:
    return from_params({"name": "a", "model": "m", "image": "i:1", **said})


ME, OTHER = os.geteuid(), os.geteuid() + 1000


@pytest.mark.parametrize(
    ("engine", "wants_gpus", "modes", "said"),
    [
        (Engine(), True, [0o600], []),
        (Engine("Podman", is_podman=True), True, [], ["drops the request for GPUs"]),
        (Engine("Podman", is_podman=True), False, [0o600], []),
        (Engine(maps_users=True), True, [], []),
        (Engine(maps_users=True), True, [0o600], ["userns-remap"]),
        (Engine(maps_users=True), True, [0o640, 0o644], ["userns-remap"]),
        (Engine(maps_users=True), True, [0o644], []),
        (Engine(maps_users=True), True, [None], ["userns-remap"]),
        (Engine(is_rootless=True, uid=OTHER), True, [0o600], ["is rootless"]),
        (Engine(is_rootless=True, uid=OTHER), True, [None], ["is rootless"]),
        (Engine(is_rootless=True, uid=OTHER), True, [], []),
        (Engine(is_rootless=True, uid=ME), True, [0o600, None], []),
        (Engine("Podman", "4.9.3", is_podman=True), True, [], ["drops the request for GPUs"]),
        (Engine("Podman", "5.4.2", is_podman=True), True, [], []),
        (Engine("Podman", "10.0", is_podman=True), True, [], []),
        (Engine("Podman", "5.4.2", is_podman=True, is_rootless=True, uid=ME), True, [], ["GPUs are not handed over"]),
        (Engine("Podman", "5.4.2", is_podman=True, is_rootless=True, uid=ME), False, [0o600], []),
        (
            Engine(is_podman=True, is_rootless=True, uid=OTHER),
            True,
            [0o600],
            ["GPUs are not handed over", "is rootless"],
        ),
    ],
)
def test_what_an_engine_is_not_given(
    engine: Engine, wants_gpus: bool, modes: list[int | None], said: list[str], tmp_path: Path
) -> None:
    paths = [tmp_path / str(number) for number in range(len(modes))]
    for path, mode in zip(paths, modes):
        if mode is not None:
            path.touch()
            path.chmod(mode)
    files = dict(zip(("api_key_file", "env_file"), map(str, paths)))
    problems = engine_problems(engine, spec(gpus="all" if wants_gpus else "none", **files))
    assert [problem.reason for problem in problems] == ["backend-unsupported"] * len(said)
    for words, problem in zip(said, problems):
        assert words in problem.message


@pytest.mark.parametrize("mode", ["bridge", "host"])
def test_an_engine_that_maps_users_gives_nobody_the_network_of_the_host(mode: str) -> None:
    problems = engine_problems(Engine(maps_users=True), spec(network_mode=mode))
    assert [problem.reason for problem in problems] == ["backend-unsupported"] * (mode == "host")


@pytest.mark.parametrize(
    ("engine", "said", "is_told"),
    [
        pytest.param(Engine(version="27.5.1"), {}, True, id="an old engine"),
        pytest.param(Engine(version="20.10.24+dfsg1"), {}, True, id="that of a distribution"),
        pytest.param(Engine(version="26.1.5"), {"bind": "127.0.0.5"}, True, id="another address of loopback"),
        pytest.param(Engine(version="26.1.5"), {"bind": "localhost"}, True, id="its name"),
        pytest.param(Engine(version="28.0.0"), {}, False, id="one that keeps loopback to itself"),
        pytest.param(Engine(version="100.1"), {}, False, id="a later one"),
        pytest.param(Engine(), {}, False, id="one that tells no version"),
        pytest.param(
            Engine("Podman", "4.3.1", is_podman=True), {"gpus": "none", "restart_policy": "no"}, False, id="Podman"
        ),
        pytest.param(Engine(version="27.0", is_rootless=True), {}, False, id="a network without neighbours"),
        pytest.param(Engine(version="27.0"), {"network_mode": "host"}, False, id="the network of the host"),
        pytest.param(Engine(version="27.0"), {"api_key_file": "/k"}, False, id="a key"),
        pytest.param(Engine(version="27.0"), {"allow_unauthenticated": True}, False, id="a network that is trusted"),
        pytest.param(
            Engine(version="27.0"), {"bind": "0.0.0.0", "api_key_file": "/k"}, False, id="an address for everybody"
        ),
    ],
)
def test_a_loopback_that_neighbours_reach_is_told(engine: Engine, said: dict[str, t.Any], is_told: bool) -> None:
    told = engine_doubts(engine, spec(**said))
    assert len(told) == is_told
    assert not is_told or f"{engine} is older than 28" in told[0] and "no API key" in told[0]


# --- what Podman is given -----------------------------------------------------------------------------------------------

OLD_PODMAN, PODMAN_54, PODMAN_58 = (
    Engine("Podman", version, is_podman=True) for version in ("4.3.1", "5.4.2", "5.8.0")
)


@pytest.mark.parametrize(
    ("engine", "said", "policy"),
    [
        (Engine(), {}, "unless-stopped"),
        # There it could not be taken back.
        (OLD_PODMAN, {}, "unless-stopped"),
        (PODMAN_54, {}, "always"),
        (PODMAN_54, {"restart_policy": "no"}, "no"),
        (PODMAN_54, {"restart_policy": "on-failure:3"}, "on-failure"),
        (PODMAN_58, {}, "unless-stopped"),
    ],
)
def test_the_policy_that_outlives_a_reboot(engine: Engine, said: dict[str, t.Any], policy: str) -> None:
    made = adapted(body(**said), engine)
    assert made["HostConfig"]["RestartPolicy"]["Name"] == policy


@pytest.mark.parametrize(
    ("gpus", "names"),
    [
        ("all", ["nvidia.com/gpu=all"]),
        (["GPU-1", "GPU-2"], ["nvidia.com/gpu=GPU-1", "nvidia.com/gpu=GPU-2"]),
        (["0"], ["nvidia.com/gpu=0"]),
        ("none", []),
    ],
)
def test_podman_is_given_gpus_as_cdi_devices(gpus: t.Any, names: list[str]) -> None:
    made = adapted(body(gpus=gpus), PODMAN_54)
    assert [name for one in made["HostConfig"]["DeviceRequests"] for name in one["DeviceIDs"]] == names
    line = docker_argv("c", made, "podman")
    assert [line[at + 1] for at, word in enumerate(line) if word == "--device"] == names
    assert line[:2] == ["podman", "create"] and "--gpus" not in line
    tried = trial_for(trial(made), PODMAN_54)
    assert tried["Entrypoint"] == (["sh", "-c", SEES_GPU] if names else ["true"])
    assert trial_for(trial(body(gpus=gpus)), Engine())["Entrypoint"] == ["true"]


def body(**said: t.Any) -> dict[str, t.Any]:
    return configuration(Making(spec(**said), "v1:stamp", "salt"))


@pytest.mark.parametrize(("devices", "status"), [(["nvidia0"], 0), (["nvidiactl"], 3), (["dxg"], 0), ([], 3)])
def test_the_trial_sees_a_gpu_by_its_device(devices: list[str], status: int, tmp_path: Path) -> None:
    for name in devices:
        (tmp_path / name).touch()
    program = SEES_GPU.replace("/dev/", f"{tmp_path}/")
    assert subprocess.run(["sh", "-c", program], check=False).returncode == status


@pytest.fixture
def podman(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Client:
    # A server that serves.
    made = installed(Client(), monkeypatch, tmp_path)
    situation().engine = Identity({**PODMAN, "Version": "5.4.2"}, path="/s")
    run()
    return made


def policies(client: Client) -> dict[str, str]:
    return {name: one["HostConfig"]["RestartPolicy"]["Name"] for name, one in client.containers_by_name.items()}


def test_what_podman_has_stopped_stays_down_after_a_reboot(podman: Client) -> None:
    assert policies(podman) == {"vllm-a": "always"}
    run(engine={"max_model_len": 2})
    assert policies(podman) == {"vllm-a": "always", "vllm-a-superseded": "no"}
    manage(state="reverted")
    assert policies(podman)["vllm-a"] == "always"
    manage(state="stopped")
    assert policies(podman)["vllm-a"] == "no"
    run()
    assert policies(podman)["vllm-a"] == "always"


def test_gpus_that_a_trial_does_not_see_are_told_before_anything_stops(podman: Client) -> None:
    before, podman.trial_status = podman.now, 3
    with pytest.raises(VllmError, match=r"Podman 5.4.2 at unix:///s started a trial of vllm-a without the GPU"):
        run(engine={"max_model_len": 2})
    assert podman.now == before


@pytest.mark.parametrize("is_enabled", [False, True])
def test_who_starts_containers_after_a_reboot_is_checked(is_enabled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def exists(path: str) -> bool:
        return is_enabled and path == "/etc/systemd/system/default.target.wants/podman-restart.service"

    monkeypatch.setattr(os.path, "lexists", exists)
    told = engine_doubts(PODMAN_54, spec())
    assert ["systemctl enable podman-restart.service" in one for one in told] == [True] * (not is_enabled)
    assert engine_doubts(PODMAN_54, spec(restart_policy="no")) == ()
    assert "does not start the server after a reboot: upgrade Podman to 5.1" in engine_doubts(OLD_PODMAN, spec())[0]
    assert engine_doubts(Engine(version="28.1"), spec()) == ()


@pytest.mark.parametrize(
    ("volume", "is_refused"),
    [
        ("mine:/var/cache/vllm", True),
        ("mine:/var/cache/vllm-kernels/", True),
        ("mine:/var/cache", False),
        ("/mine:/var/cache/vllm", False),
    ],
)
def test_a_volume_of_somebody_is_never_taken_for_ours(volume: str, is_refused: bool) -> None:
    problems = engine_problems(Engine(), spec(volumes=[volume], keep_caches=False))
    assert [problem.message.startswith(f"volumes: {volume.rstrip('/')} would lie") for problem in problems] == [
        True
    ] * is_refused


@pytest.fixture
def old(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Client:
    """A server that serves with Docker, before the engine is another one."""
    made = installed(Client(), monkeypatch, tmp_path)
    run()
    return made


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        (Identity(PODMAN, path="/s"), "Podman 4.3.1 at unix:///s drops the request for GPUs"),
        (
            Identity(DOCKER, USERNS, path="/s"),
            "Docker Engine 28.5.2 at unix:///s maps root in its containers to another",
        ),
    ],
)
@pytest.mark.parametrize("check", [False, True], ids=["", "check mode"])
def test_nothing_is_stopped_for_an_engine_that_cannot_run_it(
    engine: Identity, words: str, check: bool, old: Client, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("canary8451abcdefgh\n")
    (tmp_path / "key").chmod(0o600)
    before = old.now
    situation().engine = engine
    with pytest.raises(VllmError) as caught:
        run(check, engine={"max_model_len": 2}, api_key_file=str(tmp_path / "key"))
    assert words in str(caught.value)
    assert caught.value.reason == "backend-unsupported"
    assert old.now == before


def test_a_start_warns_of_a_loopback_that_neighbours_reach_and_a_run_without_changes_does_not(old: Client) -> None:
    situation().engine = Identity({**DOCKER, "Version": "27.5.1"}, path="/s")
    warnings.clear()
    run()
    assert list(warnings) == []
    run(engine={"max_model_len": 2})
    assert len(warnings) == 1 and "Docker Engine 27.5.1 at unix:///s is older than 28" in warnings[0]
