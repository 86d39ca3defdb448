# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a Docker Engine is reached, and what its errors mean."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import types
import typing as t

from .._errors import Reason, VllmError

SOCKET = "/var/run/docker.sock"
# Where that of root's Podman is.
PODMAN_SOCKET = "/run/podman/podman.sock"
# Seconds without a word from the engine after which a call has failed. Checking a layer of 10 GB takes a minute.
SILENCE = 300

PORT_TAKEN = r"port is already allocated|address already in use"
DISK_FULL = r"no space left on device"
# What Docker says, and what it means: (pattern, sentence with the remedy). The first hit wins.
EXPLANATIONS: tuple[tuple[str, str], ...] = (
    (
        r"could not select device driver",
        "Docker has no NVIDIA runtime: install the NVIDIA Container Toolkit, run 'nvidia-ctk runtime configure "
        "--runtime=docker' and restart Docker (a Docker installed as a snap cannot use it).",
    ),
    (
        r"error setting rlimit type 8|setrlimit.*RLIMIT_MEMLOCK",
        "the Docker daemon may not raise the memlock limit (it lacks CAP_SYS_RESOURCE, as inside an unprivileged "
        "container): set ulimits.memlock to a limit it has, in bytes, for example 8388608.",
    ),
    (
        PORT_TAKEN,
        "another program holds the port: stop it or choose another port.",
    ),
    (r"cannot assign requested address", "bind is not an address of this host: 'ip address' lists those it has."),
    (
        r"name \S+ is already in use by",
        "another run is deploying the same server at this moment: run it again when that one has ended.",
    ),
    (
        DISK_FULL,
        "the disk of the Docker data directory is full: free space there (docker system df shows what Docker uses).",
    ),
    (
        r"no matching manifest for",
        "the image is not built for this machine's processor ('uname -m' names it): choose one that is.",
    ),
    (r"toomanyrequests|rate limit", "the registry limits downloads: wait, or run docker login on the host."),
    (
        r"no such image|manifest unknown|not found: manifest|repository does not exist|\baccess\b.*\bdenied|^denied"
        r"|unauthorized|authentication required",
        "the registry does not have it or requires a login: check the name and tag, run docker login on the host, or "
        "load the image there with docker load.",
    ),
    (
        r"HTTPConnectionPool.*read timed out|^timed out$",
        "the Docker Engine did not answer in time: look at its log ('journalctl -u docker') and the load of the host.",
    ),
    (
        r"no such host|connection refused|timeout|deadline exceeded|network is unreachable|\bEOF\b|\bTLS\b"
        r"|failure in name resolution|server misbehaving",
        "the registry cannot be reached from the host: check its network and proxy, or load the image there with "
        "docker load and set pull: never.",
    ),
    (r"bind source path does not exist|invalid mount config", "a mounted path is missing on the host: create it."),
    (
        r"error while creating mount source path|error while mounting|read-only file system",
        "Docker cannot reach a mounted path: check that root may, and that Docker is not a snap.",
    ),
    (
        r"network \S+ not found|unable to find network",
        "there is no such network on the engine: create it ('docker network create NAME'), or leave network out.",
    ),
    (
        r"error gathering device information",
        "a device that devices names is not there, or is none: 'ls -l' shows what it is.",
    ),
    (r"executable file not found", "the image does not hold that program: is it an image of vLLM?"),
    (r"device error: .*unknown device", "the host has no GPU of that UUID: 'nvidia-smi -L' lists those it has."),
    (
        r"nvidia-container-cli|failed to inject CDI|unresolvable CDI|driver/library version mismatch",
        "the NVIDIA Container Toolkit could not hand over the GPU: run nvidia-smi on the host; if it works, regenerate "
        "the CDI specification (nvidia-ctk cdi generate) and restart Docker.",
    ),
)


def explain(message: str) -> str:
    """The remedy for an error message of Docker, or nothing."""
    return next((remedy for pattern, remedy in EXPLANATIONS if re.search(pattern, message, re.IGNORECASE)), "")


def socket_path(docker_host: str | None = None) -> str:
    """The socket of the engine: that of C(docker_host), else of E(DOCKER_HOST), else the usual one.

    Raises:
        VllmError: when the address is none of a Unix socket.
    """
    address = docker_host or os.environ.get("DOCKER_HOST") or f"unix://{SOCKET}"
    if not address.startswith("unix:///"):
        said = "docker_host" if docker_host else "DOCKER_HOST in the environment of the host"
        # Whoever may log in there is nobody's business.
        shown = re.sub(r"//[^/]*@", "//", address)[:100]
        raise VllmError(
            f"{said} must be the Unix socket of an engine on the host itself, such as unix://{SOCKET}; got {shown!r}. "
            "Weights, secrets and locks of a server lie where its engine runs: make that host one of the inventory."
        )
    return address[len("unix://") :]


class EngineError(Exception):
    """What an engine answered instead of what was asked, or that it answers no more (C(lost))."""

    def __init__(self, seen: str, lost: bool = False) -> None:
        super().__init__(seen)
        self.lost = lost


def sdk() -> types.ModuleType:
    """The Docker SDK for Python, loaded by who acts: to load it takes longer than to look at an engine.

    Raises:
        VllmError: when it is missing.
    """
    try:
        import docker
        import docker.errors
        import requests.exceptions  # noqa: F401
    except ImportError as error:
        raise VllmError(
            f"The Docker SDK for Python cannot be imported on this host ({error}). Install python3-docker (Debian, "
            "Ubuntu, DGX OS; EPEL for RHEL), as gpufleet.vllm.provision does, or the Python packages docker and "
            f"requests for the interpreter that Ansible uses here, {sys.executable}.",
            "backend-unavailable",
        ) from None
    return docker


def connect(docker_host: str | None = None, timeout: int = 60) -> t.Any:
    """A client of the Docker Engine on this host.

    Raises:
        VllmError: when the SDK is missing, the address is none of a Unix socket, or the engine is absent, stopped or
            closed to this user.
    """
    address = f"unix://{socket_path(docker_host)}"
    docker = sdk()
    environment = {**os.environ, "DOCKER_HOST": address}
    try:
        # The SDK before 7 speaks API 1.41 (5.0) unless it is told to ask, and Docker Engine 29 knows none below 1.44.
        client = docker.from_env(version="auto", environment=environment, timeout=timeout).api
        client.ping()
        # Not every call takes a limit of its own.
        setattr(client, "post", _not_for_ever(client.post))  # noqa: B010
    except failures() as error:
        raise unreachable(address, _kind(str(error)), str(error)) from None
    return client


def _not_for_ever(post: t.Callable[..., t.Any]) -> t.Callable[..., t.Any]:
    """Bound the silence of calls that the SDK lets wait for ever, such as a pull from a registry that hangs."""

    def bounded(*arguments: t.Any, **options: t.Any) -> t.Any:
        if options.get("timeout", SILENCE) is None:
            options["timeout"] = SILENCE
        return post(*arguments, **options)

    return bounded


# Why an engine cannot be reached, from the text of an error of the SDK.
KINDS = (
    ("permission", r"permission denied|PermissionError"),
    ("packages", r"http\+docker"),
    ("missing", r"FileNotFoundError"),
    ("refused", r"ConnectionRefusedError"),
)


def _kind(error: str) -> str:
    return next((kind for kind, pattern in KINDS if re.search(pattern, error, re.IGNORECASE)), "")


def unreachable(address: str, kind: str, seen: str) -> VllmError:
    """That the engine cannot be reached, with the remedy for the kind of the failure."""
    path = address[len("unix://") :]
    is_podman = "podman" in os.path.basename(os.path.realpath(path))
    why = REACHED.get(kind) or f"{seen.rstrip('.')}. Check DOCKER_HOST, and docker_host of the server."
    if kind in ("missing", "refused"):
        why = _not_there(path, is_podman)
    elif kind == "permission" and is_podman:
        why = (
            "this user has no permission. Run with become: true, or start a socket of the user's own ('systemctl "
            "--user start podman.socket') and name it with docker_host: unix:///run/user/UID/podman/podman.sock."
        )
    reason: Reason = "permission-denied" if kind == "permission" else "backend-unavailable"
    engine = "Podman" if is_podman else "the Docker Engine"
    return VllmError(f"Cannot talk to {engine} at {address}: {why}", reason)


REACHED = {
    "permission": "this user has no permission. Add the user to group docker ('sudo usermod -aG docker USER', then log "
    "in again) or run with become: true.",
    "packages": "the Python packages docker and requests on this host do not fit together. Upgrade docker to 7.1 or "
    "later, or use python3-docker and python3-requests of the distribution.",
}


def _not_there(path: str, is_podman: bool) -> str:
    def has(program: str) -> bool:
        return shutil.which(program, path=f"{os.defpath}:/usr/sbin:/usr/local/bin") is not None

    if not (is_podman or os.path.exists(path) or has("dockerd")):
        if has("podman"):
            return (
                "it is not installed, but Podman is. To use that, run 'sudo systemctl enable --now podman.socket' and "
                f"set docker_host: unix://{PODMAN_SOCKET}."
            )
        return (
            "it is not installed. Install Docker Engine (Debian, Ubuntu: docker.io), or Podman 5.4 or later (RHEL: "
            f"podman) and set docker_host: unix://{PODMAN_SOCKET}."
        )
    if is_podman and not has("podman"):
        return "it is not installed. Install Podman 5.4 or later, or Docker Engine and leave docker_host out."
    if is_podman:
        scope = "--user " if "/user/" in path else ""
        return f"its socket is not there. Start it: 'systemctl {scope}enable --now podman.socket'."
    seen = "nothing listens on that socket" if os.path.exists(path) else "there is no such socket"
    return f"it is not running ({seen}). Start it: 'sudo systemctl start docker'."


def failures() -> tuple[type[BaseException], ...]:
    """What reading from an engine and acting on it may raise; of the SDK only what is loaded."""
    found: list[type[BaseException]] = [OSError, EngineError]
    docker, requests = sys.modules.get("docker.errors"), sys.modules.get("requests.exceptions")
    found += [docker.DockerException] if docker else []
    found += [requests.RequestException] if requests else []
    return tuple(found)


# The id of a network's endpoint says nothing to anybody, and other ids are as good when they are short.
ENDPOINT = re.compile(r" on endpoint \S+ \([0-9a-f]{64}\)")
LONG_ID = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")


def _is_lost(error: BaseException) -> bool:
    """Whether the connection to the engine broke, as it does when that ends."""
    if isinstance(error, EngineError):
        return error.lost
    requests = sys.modules.get("requests.exceptions")
    if requests is None or "timed out" in str(error) or isinstance(error, requests.Timeout):
        return False
    return isinstance(error, requests.ConnectionError)


def words(error: BaseException) -> str:
    """What Docker says."""
    return str(getattr(error, "explanation", None) or error).strip()


def says_podman(ask: t.Callable[[], t.Any]) -> bool:
    """Whether Podman answers; one that does not answer is told of by another sentence."""
    with contextlib.suppress(VllmError, *failures()):
        return bool(ask().is_podman)
    return False


def sentence(attempt: str, error: BaseException, is_podman: bool = False) -> str:
    """The engine's error as what was attempted, what was seen and what to change."""
    if _is_lost(error):
        lost = (
            "the Docker Engine ended or was restarted meanwhile. Look at 'systemctl status docker' and its log "
            "('journalctl -u docker'), then run it again."
        )
        return f"Cannot {attempt}: {of_podman(lost) if is_podman else lost}"
    seen = LONG_ID.sub(r"\1", ENDPOINT.sub("", words(error)))
    remedy = explain(seen)
    remedy = remedy[:1].upper() + remedy[1:]
    says = "Podman" if is_podman else "Docker"
    return f"Cannot {attempt}. {says} says: {seen.rstrip('.')}. {of_podman(remedy) if is_podman else remedy}".strip()


# What is said of Docker, as it is with Podman.
PODMAN_WORDS = (
    ("run 'nvidia-ctk runtime configure --runtime=docker' and restart Docker", "run 'nvidia-ctk cdi generate'"),
    (r" \(a Docker installed as a snap cannot use it\)|, and that Docker is not a snap", ""),
    (r"\(nvidia-ctk cdi generate\) and restart Docker", "(nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml)"),
    ("'systemctl status docker'", "'systemctl status podman.socket'"),
    ("'journalctl -u docker'", "'journalctl -u podman.service'"),
    (r"\b(?:the )?Docker (?:Engine|daemon)\b|\bDocker\b(?! Engine)", "Podman"),
    (r"\bdocker (?=(?:login|load|network|system)\b)", "podman "),
)


def of_podman(text: str) -> str:
    """A sentence of ours about Docker as it is for a host with Podman."""
    for pattern, words_ in PODMAN_WORDS:
        text = re.sub(pattern, words_, text)
    return text[:1].upper() + text[1:] if text.startswith("podman") else text
