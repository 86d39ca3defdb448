# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How an engine is reached, and what its errors mean."""

from __future__ import annotations

import gc
import json
import socketserver
import sys
import threading
import typing as t
import warnings
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import docker
import docker.errors
import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._docker import client as docker_client
from ansible_collections.gpufleet.vllm.plugins.module_utils._docker.client import explain, sentence
from ansible_collections.gpufleet.vllm.plugins.module_utils._docker.container import name_of
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError

# --- what Docker says -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        ('could not select device driver "" with capabilities: [[gpu]]', "Docker has no NVIDIA runtime"),
        (
            "OCI runtime create failed: container_linux.go:380: starting container process caused: process_linux.go:545"
            ": container init caused: process_linux.go:508: setting rlimits for ready process caused: error setting"
            " rlimit type 8: operation not permitted: unknown",
            "the Docker daemon may not raise the memlock limit",
        ),
        (
            "driver failed programming external connectivity on endpoint c (d0d3): Bind for 127.0.0.1:8000 failed: port"
            " is already allocated",
            "another program holds the port",
        ),
        (
            "Error starting userland proxy: listen tcp4 127.0.0.1:8000: bind: address already in use",
            "another program holds the port",
        ),
        (
            "Error starting userland proxy: listen tcp4 10.9.9.9:8000: bind: cannot assign requested address",
            "bind is not an address of this host",
        ),
        (
            "write /var/lib/docker/tmp/GetImageBlob1: no space left on device",
            "the disk of the Docker data directory is full",
        ),
        (
            "manifest for vllm/vllm-openai:v9 not found: manifest unknown: manifest unknown",
            "the registry does not have it",
        ),
        (
            "pull access denied for nope, repository does not exist or may require 'docker login': denied: requested "
            "access to the resource is denied",
            "the registry does not have it or requires a login",
        ),
        (
            'Head "https://nvcr.io/v2/nvidia/vllm/manifests/1": unauthorized: authentication required',
            "the registry does not",
        ),
        ("No such image: vllm:1", "the registry does not have it"),
        (
            "no matching manifest for linux/arm64/v8 in the manifest list entries",
            "the image is not built for this machine's processor",
        ),
        ("toomanyrequests: You have reached your pull rate limit.", "the registry limits downloads"),
        (
            'Get "https://registry-1.docker.io/v2/": dial tcp: lookup registry-1.docker.io: no such host',
            "the registry cannot be reached",
        ),
        (
            'Get "https://nvcr.io/v2/": dial tcp: lookup nvcr.io on 127.0.0.53:53: server misbehaving',
            "the registry cannot be reached",
        ),
        (
            'Get "https://127.0.0.1:9/v2/": dial tcp 127.0.0.1:9: connect: connection refused',
            "the registry cannot be reached",
        ),
        (
            'Get "https://nvcr.io/v2/": net/http: request canceled while waiting for connection (Client.Timeout'
            " exceeded while awaiting headers)",
            "the registry cannot be reached",
        ),
        ('Get "https://nvcr.io/v2/": context deadline exceeded', "the registry cannot be reached"),
        ('Get "https://nvcr.io/v2/": EOF', "the registry cannot be reached"),
        (
            "UnixHTTPConnectionPool(host='localhost', port=None): Read timed out. (read timeout=60)",
            "the Docker Engine did not answer in time",
        ),
        (
            'Conflict. The container name "/vllm-a-next" is already in use by container "ab12". You have to remove (or'
            " rename) that container to be able to reuse that name.",
            "another run is deploying the same server",
        ),
        (
            'invalid mount config for type "bind": bind source path does not exist: /x',
            "a mounted path is missing on the host",
        ),
        (
            "error while creating mount source path '/x': mkdir /x: read-only file system",
            "Docker cannot reach a mounted path",
        ),
        (
            "nvidia-container-cli: device error: GPU-aaaa: unknown device: unknown",
            "the host has no GPU of that UUID",
        ),
        (
            "failed to inject CDI devices: unresolvable CDI devices nvidia.com/gpu=all: unknown",
            "the NVIDIA Container Toolkit could not hand over the GPU",
        ),
        (
            "nvidia-container-cli: initialization error: nvml error: driver/library version mismatch: unknown",
            "the NVIDIA Container Toolkit could not hand over the GPU",
        ),
        (
            'OCI runtime create failed: starting container process caused: exec: "vllm": executable file not found in $PATH',
            "the image does not hold that program",
        ),
        ("something nobody has seen", ""),
    ],
)
def test_what_docker_says_is_explained(message: str, remedy: str) -> None:
    assert explain(message).startswith(remedy) and bool(explain(message)) == bool(remedy)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            docker.errors.APIError("500 Server Error", explanation="something odd."),
            "Cannot start c. Docker says: something odd.",
        ),
        (
            docker.errors.APIError("x", explanation="No such image: i"),
            "Cannot start c. Docker says: No such image: i. The registry does not have it or requires a login: check the "
            "name and tag, run docker login on the host, or load the image there with docker load.",
        ),
        (docker.errors.DockerException("plain"), "Cannot start c. Docker says: plain."),
        (OSError(5, "Input/output error"), "Cannot start c. Docker says: [Errno 5] Input/output error."),
    ],
)
def test_an_error_becomes_a_sentence(error: BaseException, text: str) -> None:
    assert sentence("start c", error) == text


# --- the way to the engine ------------------------------------------------------------------------------------------


class Engine29(BaseHTTPRequestHandler):
    """Docker Engine 29: it refuses clients that speak a version of the API below 1.44."""

    def do_GET(self) -> None:
        version = float(self.path[2:].split("/")[0]) if self.path.startswith("/v") and self.path != "/version" else 1.44
        answer: t.Any = {"ApiVersion": "1.52", "MinAPIVersion": "1.44"} if self.path.endswith("/version") else "OK"
        if version < 1.44:
            answer = {"message": f"client version {version} is too old. Minimum supported API version is 1.44"}
        content = json.dumps(answer).encode()
        self.send_response(400 if version < 1.44 else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def address_string(self) -> str:
        return "client"

    def log_message(self, *_arguments: t.Any) -> None:
        pass


@pytest.fixture
def engine29(tmp_path: Path) -> t.Iterator[str]:
    path = str(tmp_path / "docker.sock")
    with socketserver.UnixStreamServer(path, Engine29) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"unix://{path}"
        server.shutdown()
        thread.join()


def test_an_engine_that_refuses_old_clients_is_talked_to(engine29: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK that Ubuntu 24.04 and DGX OS package is of the sort that has to be told to ask."""
    asked: dict[str, t.Any] = {}
    connect = docker.from_env

    def from_env(**said: t.Any) -> t.Any:
        asked.update(said)
        return connect(**said)

    monkeypatch.setattr(docker, "from_env", from_env)
    client = docker_client.connect(engine29)
    assert (asked["version"], client.api_version) == ("auto", "1.52")
    client.close()


def connecting_to(address: str | None) -> str:
    with warnings.catch_warnings():
        # The SDK leaves the sockets open that it could not connect.
        warnings.simplefilter("ignore", ResourceWarning)
        with pytest.raises(VllmError) as caught:
            docker_client.connect(address)
        told = str(caught.value)
        del caught
        gc.collect()
    return told


@pytest.mark.parametrize(
    ("socket", "installed", "said"),
    [
        (
            "docker.sock",
            "",
            "it is not installed. Install Docker Engine (Debian, Ubuntu: docker.io), or Podman 5.4 or later (RHEL: "
            "podman) and set docker_host: unix:///run/podman/podman.sock.",
        ),
        (
            "docker.sock",
            "podman",
            "it is not installed, but Podman is. To use that, run 'sudo systemctl enable --now podman.socket' and set "
            "docker_host: unix:///run/podman/podman.sock.",
        ),
        (
            "docker.sock",
            "dockerd podman",
            "it is not running (there is no such socket). Start it: 'sudo systemctl start docker'.",
        ),
        (
            "podman.sock",
            "dockerd",
            "it is not installed. Install Podman 5.4 or later, or Docker Engine and leave docker_host out.",
        ),
        (
            "podman.sock",
            "podman",
            "its socket is not there. Start it: 'systemctl enable --now podman.socket'.",
        ),
    ],
)
def test_without_a_socket_there_is_no_engine(
    socket: str, installed: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_client.shutil, "which", lambda name, path: name if name in installed.split() else None)
    address = f"unix://{tmp_path}/{socket}"
    engine = "Podman" if socket == "podman.sock" else "the Docker Engine"
    assert connecting_to(address) == f"Cannot talk to {engine} at {address}: {said}"


def test_the_link_of_a_podman_in_dockers_place_is_podmans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_client.shutil, "which", lambda name, path: name if name == "podman" else None)
    (tmp_path / "docker.sock").symlink_to(tmp_path / "podman.sock")
    assert connecting_to(f"unix://{tmp_path}/docker.sock").endswith("'systemctl enable --now podman.socket'.")


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        ("x/y:1: manifest unknown", "check the name and tag, run podman login on the host, or load the image there with podman load."),
        ("setrlimit RLIMIT_MEMLOCK", "Podman may not raise the memlock limit"),
        ("setting up CDI devices: unresolvable CDI devices nvidia.com/gpu=all", "(nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml)."),
        ('the container name "a" is already in use by 12ab. You have to remove that container', "Another run is deploying the same"),
        ("network llm not found", "create it ('podman network create NAME')"),
        ("lookup docker.io: no such host", "Podman says: lookup docker.io: no such host"),
        ("read-only file system", "Podman cannot reach a mounted path: check that root may."),
    ],
)  # fmt: skip
def test_the_words_of_podman(seen: str, said: str) -> None:
    told = sentence("start c", docker.errors.APIError("x", explanation=seen), is_podman=True)
    assert said in told
    assert "Docker" not in told and "docker login" not in told


@pytest.mark.parametrize(("pattern", "remedy"), docker_client.EXPLANATIONS)
def test_no_remedy_of_podman_speaks_of_docker(pattern: str, remedy: str) -> None:
    told = docker_client.of_podman(remedy)
    assert "Docker" not in told and "docker" not in told.replace("docker.io", "")


def test_a_socket_that_nobody_listens_on_is_a_stopped_engine(tmp_path: Path) -> None:
    socketserver.UnixStreamServer(str(tmp_path / "docker.sock"), Engine29).server_close()
    assert connecting_to(f"unix://{tmp_path}/docker.sock").endswith(
        "it is not running (nothing listens on that socket). Start it: 'sudo systemctl start docker'."
    )


def test_the_address_may_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/other.sock")
    assert connecting_to(None).startswith(f"Cannot talk to the Docker Engine at unix://{tmp_path}/other.sock: ")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(13, "Permission denied"), "this user has no permission. Add the user to group docker"),
        (
            docker.errors.DockerException("Not supported URL scheme http+docker"),
            "the Python packages docker and requests on",
        ),
        (docker.errors.DockerException("odd."), "odd. Check DOCKER_HOST, and docker_host of the server."),
        (OSError(5, "Input/output error"), "[Errno 5] Input/output error. Check DOCKER_HOST"),
    ],
)
def test_other_reasons_not_to_reach_the_engine(error: Exception, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_said: t.Any) -> t.NoReturn:
        raise error

    monkeypatch.setattr(docker, "from_env", fail)
    assert connecting_to("unix:///").startswith(f"Cannot talk to the Docker Engine at unix:///: {said}")


def test_an_address_that_is_none_is_told() -> None:
    assert connecting_to("docker.example.com").startswith(
        "docker_host must be the Unix socket of an engine on the host"
    )


def test_without_the_sdk_there_is_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "docker", None)
    assert "). Install python3-docker (Debian" in connecting_to("unix:///")


@pytest.mark.parametrize(
    ("names", "name"),
    [
        (["/vllm-a"], "vllm-a"),
        (["/open-webui/llm", "/vllm-a"], "vllm-a"),
        (["/vllm-a", "/open-webui/llm"], "vllm-a"),
        ([], ""),
        (None, ""),
    ],
    ids=["one", "an alias first", "an alias later", "removed at this moment", "null"],
)
def test_the_name_of_a_container_is_none_of_its_aliases(names: list[str] | None, name: str) -> None:
    assert name_of({"Names": names}) == name
