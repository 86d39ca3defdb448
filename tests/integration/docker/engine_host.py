# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One server of a test on a real Docker Engine."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.server
import json
import platform
import subprocess
import sys
import time
import typing as t
from dataclasses import dataclass
from pathlib import Path

import docker.errors
from ansible_collections.gpufleet.vllm.plugins.module_utils._backends import container_backends
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy import job, run as deploy_run
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.spec import SERVER_PARAMETERS

# For free_ports, which the tests beside this file use.
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "rig"))

# An engine in a container without CAP_SYS_RESOURCE cannot raise limits; these are low enough everywhere.
ULIMITS = {"memlock": 65536, "stack": 1048576}
READY = "INFO:     Application startup complete."
# A server that is told to stop says so, and takes its time: as long as the engine gives it. Which it only does for one
# that was ready, and that is known once the engine has written down that it runs.
STUBBORN: dict[str, t.Any] = {
    "env": {"first": f"trap 'echo told to stop' TERM; sleep 0.3; echo '{READY}'; while :; do sleep 0.1; done"},
    "stop_timeout": 4,
}
# The same with more time than a test has, and it was never ready.
NEVER_READY: dict[str, t.Any] = {
    "env": {"first": "trap 'echo told to stop' TERM; echo called; while :; do sleep 0.1; done"},
    "stop_timeout": 900,
}
DEFAULTS = {key: option.get("default") for key, option in {**SERVER_PARAMETERS, **deploy_run.PARAMETERS}.items()}


def deployed(parameters: dict[str, t.Any], check: bool) -> dict[str, t.Any]:
    return deploy_run.run(parameters, check, job.Host(container_backends(parameters)))


PROGRAM = """
import sys, json
sys.path.insert(0, sys.argv[1])
from ansible_collections.gpufleet.vllm.plugins.module_utils._backends import container_backends
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy import job, run as deploy_run
parameters = json.loads(sys.argv[2])
deploy_run.run(parameters, False, job.Host(container_backends(parameters)))
"""


@dataclass
class Host:
    """This machine, as far as one server of a test is concerned."""

    engine: t.Any
    name: str
    said: dict[str, t.Any]

    def run(self, check: bool = False, **said: t.Any) -> dict[str, t.Any]:
        return deployed({**DEFAULTS, **self.said, **said}, check)

    def manage(self, state: str, check: bool = False, **said: t.Any) -> dict[str, t.Any]:
        """With a state that needs no description of the server."""
        parameters = {**DEFAULTS, "container_name": self.name, "state": state, **said}
        return deployed(parameters, check)

    @contextlib.contextmanager
    def killed(self, **said: t.Any) -> t.Iterator[None]:
        """A run in a process of its own that is killed at the end of the block."""
        root = str(Path(__file__).parents[3] / ".ansible" / "collections")
        arguments = [root, json.dumps({**DEFAULTS, **self.said, **said})]
        with subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments]) as process:
            try:
                yield
            finally:
                process.kill()

    def kill_run_while_it_stops(self, old: Host, **said: t.Any) -> None:
        """A run that is killed once the engine was told to stop the old server, which is STUBBORN."""
        old.wait_for_log(READY)
        with self.killed(**said):
            old.wait_for_log("told to stop")

    def wait_for_log(self, text: str = "\n", times: int = 1, timeout: float = 20) -> str:
        """The log of the server, once it has this text so many times."""
        deadline = time.monotonic() + timeout
        while (log := self.engine.logs(self.name).decode()).count(text) < times and time.monotonic() < deadline:
            time.sleep(0.01)
        assert log.count(text) >= times, log
        return log

    def wait_for_end(self) -> int:
        """The status that the server exits with."""
        return int(self.engine.wait(self.name, timeout=30)["StatusCode"])

    def wait_until(self, seen: t.Callable[[dict[str, str]], bool], timeout: float = 20) -> None:
        """Wait until the containers of the server, by name with their states, are as they should be."""
        deadline = time.monotonic() + timeout
        while not seen(self.states) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert seen(self.states), self.states

    def containers(self) -> dict[str, tuple[str, str, str]]:
        """Identity, state and start of all containers whose name begins with that of the server."""
        found = {}
        for one in self.engine.containers(all=True, filters={"name": f"^/{self.name}"}):
            # One that is removed at this moment is listed and gone.
            with contextlib.suppress(docker.errors.NotFound):
                inspected = self.engine.inspect_container(one["Id"])
                state = inspected["State"]
                found[inspected["Name"].lstrip("/")] = (inspected["Id"], state["Status"], state["StartedAt"])
        return found

    @property
    def states(self) -> dict[str, str]:
        return {name: state for name, (_id, state, _started) in self.containers().items()}

    def volumes(self) -> list[str]:
        """Names of all volumes that begin with that of the server."""
        found = self.engine.volumes(filters={"name": self.name})["Volumes"] or ()
        return [volume["Name"] for volume in found]

    def inspect(self, suffix: str = "") -> dict[str, t.Any]:
        return t.cast("dict[str, t.Any]", self.engine.inspect_container(self.name + suffix))

    def forgotten(self) -> None:
        """What is recorded of the server goes once the server is gone."""
        for backend in container_backends({**DEFAULTS, **self.said}).values():
            backend.tidy(self.name, gone=True)

    def foreign(self, image: str, suffix: str = "", **host: t.Any) -> str:
        """A container of somebody else, which runs."""
        config = {"Image": image, "Cmd": ["vllm"], "HostConfig": host}
        if "PortBindings" in host:
            config["ExposedPorts"] = dict.fromkeys(host["PortBindings"], {})
        made = self.engine.create_container_from_config(config, name=self.name + suffix)
        self.engine.start(made["Id"])
        return str(made["Id"])


class Registry:
    """A registry of images on this machine, as Docker asks one: over HTTP, which it permits for 127.0.0.1."""

    def __init__(self, base_layer: bytes) -> None:
        self.base_layer = base_layer
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        self.address = f"127.0.0.1:{self.server.server_address[1]}"

    def push(self, reference: str, says: str) -> str:
        """Publish an image whose server says something, and return its digest."""
        name, _colon, tag = reference.partition(":")
        config = {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": {"Env": ["PATH=/bin", f"first=echo {says}"]},
            "rootfs": {"type": "layers", "diff_ids": [_digest(self.base_layer)]},
        }
        layer, described = gzip.compress(self.base_layer, 1, mtime=0), json.dumps(config).encode()
        parts = {
            "config": ("application/vnd.docker.container.image.v1+json", described),
            "layer": ("application/vnd.docker.image.rootfs.diff.tar.gzip", layer),
        }
        entries = {
            part: {"mediaType": kind, "size": len(blob), "digest": _digest(blob)}
            for part, (kind, blob) in parts.items()
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": entries["config"],
            "layers": [entries["layer"]],
        }
        content = json.dumps(manifest).encode()
        self.blobs.update({_digest(blob): blob for _kind, blob in parts.values()})
        self.manifests.update({f"{name}/{tag}": content, f"{name}/{_digest(content)}": content})
        return _digest(content)

    def answer(self, path: str) -> tuple[int, str, bytes]:
        self.asked.append(path)
        what = path.split("/")[2:]
        if what[1:2] == ["manifests"] and f"{what[0]}/{what[2]}" in self.manifests:
            return 200, MANIFEST, self.manifests[f"{what[0]}/{what[2]}"]
        if what[1:2] == ["blobs"] and what[2] in self.blobs:
            return 200, "application/octet-stream", self.blobs[what[2]]
        if what[1:2] == ["manifests"]:
            unknown = {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}
            return 404, "application/json", json.dumps(unknown).encode()
        return (200 if what == [""] else 404), "application/json", b"{}"

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        registry = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                status, kind, content = registry.answer(self.path)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                if kind == MANIFEST:
                    self.send_header("Docker-Content-Digest", _digest(content))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(content)

            do_HEAD = do_GET

            def log_message(self, *_arguments: t.Any) -> None:
                pass

        return Handler


MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
