# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A light host for tests/bench/fleet.py: an SSH server, and a Docker Engine and its containers in one small process.

The engine only keeps books: what was created is there and can be inspected, and a started container answers on the ports
that it publishes as vLLM would, with one model and one sentence. Nothing of it takes time, so that what is measured is
Ansible and the modules. Run it in a container of the image of simulated hosts, as its first process or beside systemd:

light_host.py IMAGE VERSION     the engine; with a key in $LIGHT_HOST_KEY the SSH server too
light_host.py serve MODEL ...   what the unit of a service runs: such a server, with the arguments of vllm serve
"""

from __future__ import annotations

import datetime
import hashlib
import http.server
import json
import os
import pathlib
import re
import shutil
import signal
import socketserver
import subprocess
import sys
import threading
import typing as t
import urllib.parse

SOCKET = "/var/run/docker.sock"
# Seconds until a started server answers; without any, it was started long ago.
LOAD = float(os.environ.get("LIGHT_HOST_LOAD") or 0)
MODEL = pathlib.Path("/srv/model")
ANSWER = "Hello from a light host: this sentence is all that there is."
NEVER = "0001-01-01T00:00:00Z"
# What the engine itself fills in where a container was created without.
HOST_DEFAULTS: dict[str, t.Any] = {
    "AutoRemove": False, "Binds": None, "CapAdd": None, "CapDrop": None, "CgroupnsMode": "host", "CpuShares": 0,
    "DeviceRequests": None, "Devices": [], "Dns": [], "ExtraHosts": None, "GroupAdd": None, "IpcMode": "private",
    "Links": None, "LogConfig": {"Type": "json-file", "Config": {}}, "Memory": 0, "MemorySwap": 0, "NanoCpus": 0,
    "NetworkMode": "default", "OomScoreAdj": 0, "PidMode": "", "PortBindings": {}, "Privileged": False,
    "PublishAllPorts": False, "ReadonlyRootfs": False, "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
    "Runtime": "runc", "SecurityOpt": None, "ShmSize": 67108864, "Ulimits": None, "UTSMode": "", "VolumesFrom": None,
}  # fmt: skip
CONFIG_DEFAULTS: dict[str, t.Any] = {
    "AttachStderr": True, "AttachStdin": False, "AttachStdout": True, "Domainname": "", "ExposedPorts": None,
    "OnBuild": None, "OpenStdin": False, "StdinOnce": False, "Tty": False, "User": "", "Volumes": None, "WorkingDir": "",
}  # fmt: skip


class Failure(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Books:
    """Containers and volumes of a Docker Engine that runs nothing."""

    def __init__(self, image: str, version: str) -> None:
        config = {"Env": ["PATH=/usr/local/bin:/usr/bin", f"VLLM_VERSION={version}"], "Cmd": ["bash"], "Labels": {}}
        self.image: dict[str, t.Any] = {
            "Id": f"sha256:{hashlib.sha256(image.encode()).hexdigest()}", "RepoTags": [image], "RepoDigests": [],
            "Config": {**config, "Entrypoint": None, "ExposedPorts": None, "Volumes": None, "WorkingDir": ""},
            "Os": "linux", "Architecture": "amd64", "Size": 1, "Created": NEVER,
        }  # fmt: skip
        self.containers: dict[str, dict[str, t.Any]] = {}
        self.volumes: dict[str, dict[str, t.Any]] = {}
        self.servers: dict[str, list[http.server.ThreadingHTTPServer]] = {}
        self.lock = threading.Lock()

    def container(self, key: str) -> dict[str, t.Any]:
        for one in self.containers.values():
            if key in (one["Id"], one["Id"][:12], one["Name"][1:]):
                return one
        raise Failure(404, f"No such container: {key}")

    def create(self, name: str, body: dict[str, t.Any]) -> dict[str, t.Any]:
        if any(one["Name"] == f"/{name}" for one in self.containers.values()):
            raise Failure(409, f'Conflict. The container name "/{name}" is already in use by container "{name}".')
        identity, host = os.urandom(32).hex(), {**HOST_DEFAULTS, **body.pop("HostConfig", {})}
        networks = {"bridge": {"NetworkID": "0" * 64, "IPAddress": "", "Aliases": None}}
        self.containers[identity] = {
            "Id": identity, "Name": f"/{name or identity[:12]}", "Created": moment(), "Image": self.image["Id"],
            "RestartCount": 0, "State": state("created"), "Config": self._config(identity, body), "HostConfig": host,
            "Mounts": [mount(bind) for bind in host["Binds"] or ()], "Driver": "overlay2", "Platform": "linux",
            "NetworkSettings": {"Ports": {}, "Networks": networks},
        }  # fmt: skip
        return {"Id": identity, "Warnings": []}

    def _config(self, identity: str, body: dict[str, t.Any]) -> dict[str, t.Any]:
        body.pop("NetworkingConfig", None)
        given = {key: value for key, value in body.items() if value is not None}
        own = dict(entry.partition("=")[::2] for entry in self.image["Config"]["Env"])
        wanted = dict(entry.partition("=")[::2] for entry in given.get("Env", ()))
        return {
            **CONFIG_DEFAULTS, "Hostname": identity[:12], **self.image["Config"], **given,
            "Env": [f"{key}={value}" for key, value in {**own, **wanted}.items()],
            "Labels": given.get("Labels", {}), "Entrypoint": given.get("Entrypoint"),
        }  # fmt: skip

    def start(self, key: str) -> None:
        one = self.container(key)
        if one["State"]["Running"]:
            raise Failure(304, "")
        if (one["Config"]["Entrypoint"] or one["Config"]["Cmd"])[:1] == ["true"]:
            one["State"] = state("exited")
            return
        one["State"] = state("running")
        bindings = one["HostConfig"]["PortBindings"] or {}
        one["NetworkSettings"]["Ports"] = bindings
        ports = [int(binding["HostPort"]) for found in bindings.values() for binding in found]
        if LOAD:
            threading.Timer(LOAD, self.listen_later, (one, one["State"], ports)).start()
        else:
            self.listen(one, ports)

    def listen(self, one: dict[str, t.Any], ports: t.Sequence[int]) -> None:
        self.servers[one["Id"]] = [serve(port, served_name(one["Config"]["Cmd"])) for port in ports]

    def listen_later(self, one: dict[str, t.Any], started: dict[str, t.Any], ports: t.Sequence[int]) -> None:
        """Listen, unless the container was stopped meanwhile."""
        with self.lock:
            if one["State"] is started:
                self.listen(one, ports)

    def stop(self, key: str) -> None:
        one = self.container(key)
        for server in self.servers.pop(one["Id"], ()):
            server.shutdown()
            server.server_close()
        one["State"] = state("exited")

    def remove(self, key: str) -> None:
        self.stop(key)
        del self.containers[self.container(key)["Id"]]

    def rename(self, key: str, name: str) -> None:
        self.container(key)["Name"] = f"/{name}"

    def listed(self, everything: bool, filters: dict[str, t.Any]) -> list[dict[str, t.Any]]:
        found = [one for one in self.containers.values() if everything or one["State"]["Running"]]
        return [in_a_list(one) for one in found if fits(one["Config"]["Labels"], one["Name"], filters)]

    def find_image(self, reference: str) -> dict[str, t.Any]:
        if reference not in (self.image["Id"], *self.image["RepoTags"]):
            raise Failure(404, f"No such image: {reference}")
        return self.image

    def keep_volume(self, body: dict[str, t.Any]) -> dict[str, t.Any]:
        volume = {"Name": body["Name"], "Labels": body.get("Labels") or {}, "Driver": "local", "Scope": "local"}
        return self.volumes.setdefault(body["Name"], {**volume, "Mountpoint": "/nowhere", "Options": None})

    def find_volumes(self, filters: dict[str, t.Any]) -> dict[str, t.Any]:
        return {"Volumes": [one for one in self.volumes.values() if fits(one["Labels"], one["Name"], filters)]}


def moment(before: float = 0) -> str:
    now = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=before)
    return now.strftime("%Y-%m-%dT%H:%M:%S.%f000Z")


def state(status: str) -> dict[str, t.Any]:
    # In the past: a server that just started is asked twice, and what is measured is one that has settled.
    started = NEVER if status == "created" else moment(before=0 if LOAD else 3600)
    return {
        "Status": status, "Running": status == "running", "Paused": False, "Restarting": False, "OOMKilled": False,
        "Dead": False, "Pid": 0, "ExitCode": 0, "Error": "", "StartedAt": started,
        "FinishedAt": moment() if status == "exited" else NEVER,
    }  # fmt: skip


def mount(bind: str) -> dict[str, t.Any]:
    source, destination, mode = (bind.split(":") + ["", ""])[:3]
    kind = "bind" if source.startswith("/") else "volume"
    described = {"Type": kind, "Source": source, "Destination": destination, "Mode": mode}
    return {**described, "RW": "ro" not in mode.split(","), "Propagation": "rprivate"}


def in_a_list(one: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """A container as C(docker ps) has it."""
    ports = [
        {"IP": binding.get("HostIp") or "0.0.0.0", "PrivatePort": int(port.split("/")[0]),
         "PublicPort": int(binding["HostPort"]), "Type": port.split("/")[1]}
        for port, bindings in one["NetworkSettings"]["Ports"].items() for binding in bindings
    ]  # fmt: skip
    return {
        "Id": one["Id"], "Names": [one["Name"]], "Image": one["Config"]["Image"], "ImageID": one["Image"],
        "Command": " ".join(one["Config"]["Cmd"] or ()), "State": one["State"]["Status"], "Status": "Up 1 hour",
        "Labels": one["Config"]["Labels"], "Ports": ports, "Mounts": one["Mounts"], "Created": 0,
        "HostConfig": {"NetworkMode": one["HostConfig"]["NetworkMode"]},
        "NetworkSettings": {"Networks": one["NetworkSettings"]["Networks"]},
    }  # fmt: skip


def fits(labels: t.Mapping[str, str], name: str, filters: t.Mapping[str, t.Any]) -> bool:
    """Whether something passes the filters of a list; both forms, [value] and {value: true}, are in use."""
    wanted = [tuple(text.partition("=")[::2]) for text in filters.get("label", ())]
    named = [text.strip("^/$") for text in filters.get("name", ())]
    return all(key in labels and value in ("", labels[key]) for key, value in wanted) and (
        not named or any(text in name for text in named)
    )


def served_name(command: t.Sequence[str]) -> str:
    return command[command.index("--served-model-name") + 1] if "--served-model-name" in command else command[-1]


class Handler(http.server.BaseHTTPRequestHandler):
    """JSON in, JSON out, with the length told and the connection kept."""

    protocol_version = "HTTP/1.1"
    # An answer in one piece, at once: the rest of one that comes in two waits 40 ms for the client's acknowledgement.
    wbufsize = -1
    server_version = "Docker/26.1.5 (linux)"

    def answer(self, status: int, body: t.Any = None) -> None:
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if isinstance(body, bytes) else "application/json")
        self.send_header("Api-Version", "1.45")
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        if self.command != "HEAD" and status not in (204, 304):
            self.wfile.write(raw)

    def body(self) -> t.Any:
        return json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")

    def log_message(self, *_arguments: t.Any) -> None:
        pass


# What the engine answers to: method, path without its version, and what to do with books, match, query and body.
Answer = t.Callable[[Books, "re.Match[str]", t.Mapping[str, str], t.Any], t.Any]
VERSION = {
    "Version": "26.1.5", "ApiVersion": "1.45", "MinAPIVersion": "1.24", "Os": "linux", "Arch": "amd64",
    "KernelVersion": "6.1", "Components": [],
}  # fmt: skip
INFO = {"ID": "light", "ServerVersion": "26.1.5", "OSType": "linux", "Runtimes": {"runc": {}}, "SecurityOptions": []}
BRIDGE = {"Name": "bridge", "Id": "0" * 64, "Driver": "bridge", "Containers": {}, "Options": {}, "Labels": {}}
ROUTES: tuple[tuple[str, str, Answer], ...] = (
    ("GET", "/_ping", lambda books, m, query, body: b"OK"),
    ("GET", "/version", lambda books, m, query, body: VERSION),
    ("GET", "/info", lambda books, m, query, body: INFO),
    ("GET", "/networks", lambda books, m, query, body: [BRIDGE]),
    ("GET", "/networks/[^/]+", lambda books, m, query, body: BRIDGE),
    ("GET", "/images/json", lambda books, m, query, body: [books.image]),
    ("GET", "/images/(.+)/json", lambda books, m, query, body: books.find_image(m[1])),
    ("GET", "/volumes", lambda books, m, query, body: books.find_volumes(json.loads(query.get("filters", "{}")))),
    ("POST", "/volumes/create", lambda books, m, query, body: books.keep_volume(body)),
    ("DELETE", "/volumes/([^/]+)", lambda books, m, query, body: books.volumes.pop(m[1], None) and None),
    ("GET", "/containers/json", lambda books, m, query, body: books.listed(
        query.get("all", "0").lower() in ("1", "true"), json.loads(query.get("filters", "{}")))),
    ("POST", "/containers/create", lambda books, m, query, body: books.create(query.get("name", ""), body)),
    ("GET", "/containers/([^/]+)/json", lambda books, m, query, body: books.container(m[1])),
    ("GET", "/containers/([^/]+)/logs", lambda books, m, query, body: books.container(m[1]) and b""),
    ("POST", "/containers/([^/]+)/start", lambda books, m, query, body: books.start(m[1])),
    ("POST", "/containers/([^/]+)/(?:stop|kill)", lambda books, m, query, body: books.stop(m[1])),
    ("POST", "/containers/([^/]+)/wait", lambda books, m, query, body: {"StatusCode": 0}),
    ("POST", "/containers/([^/]+)/rename", lambda books, m, query, body: books.rename(m[1], query["name"])),
    ("DELETE", "/containers/([^/]+)", lambda books, m, query, body: books.remove(m[1])),
)  # fmt: skip


class Engine(Handler):
    """The Docker Engine's API over a Unix socket."""

    books: Books

    def address_string(self) -> str:
        return "local"

    def handle_any(self) -> None:
        parts = urllib.parse.urlsplit(self.path)
        path = re.sub(r"^/v\d+\.\d+(?=/)", "", urllib.parse.unquote(parts.path))
        query = {key: values[-1] for key, values in urllib.parse.parse_qs(parts.query).items()}
        body = self.body()
        try:
            with self.books.lock:
                found = self.reply(path, query, body)
        except Failure as failure:
            self.answer(failure.status, {"message": str(failure)})
        else:
            created = self.command == "POST" and path.endswith("/create")
            self.answer(204 if found is None else 201 if created else 200, found)

    def reply(self, path: str, query: t.Mapping[str, str], body: t.Any) -> t.Any:
        method = "GET" if self.command == "HEAD" else self.command
        for wanted, pattern, answer in ROUTES:
            match = re.fullmatch(pattern, path)
            if method == wanted and match:
                return answer(self.books, match, query, body)
        print(f"light host: nothing answers {self.command} {self.path}", file=sys.stderr, flush=True)
        raise Failure(404, f"A light host does not answer {self.command} {path}")

    do_GET = do_HEAD = do_POST = do_DELETE = handle_any


class Model(Handler):
    """The API of a server that is up."""

    name: str

    def do_GET(self) -> None:
        models = {"object": "list", "data": [{"id": self.name, "object": "model", "max_model_len": 1024}]}
        known: dict[str, t.Any] = {"/v1/models": models, "/metrics": b"", "/health": b""}
        self.answer(200 if self.path in known else 404, known.get(self.path, {"error": {"message": "Not Found"}}))

    def do_POST(self) -> None:
        self.body()
        message = {"role": "assistant", "content": ANSWER, "tool_calls": []}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 8, "completion_tokens": 12, "total_tokens": 20}
        said = {"id": "chatcmpl-0", "object": "chat.completion", "created": 0, "model": self.name, "usage": usage}
        self.answer(200, {**said, "choices": [choice]})


def serve(port: int, name: str) -> http.server.ThreadingHTTPServer:
    server = http.server.ThreadingHTTPServer(("0.0.0.0", port), type("Named", (Model,), {"name": name}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


class UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 64


def make_model() -> None:
    """A model directory that is whole: its configuration, and weights of no tensor."""
    MODEL.mkdir(parents=True, exist_ok=True)
    numbers = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64}
    config = {"architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss", "hidden_size": 256, **numbers}
    (MODEL / "config.json").write_text(json.dumps(config))
    (MODEL / "model.safetensors").write_bytes((8).to_bytes(8, "little") + b"{}      ")


def listen(key: str) -> None:
    """The SSH server; user gpu may log in with the key."""
    home = pathlib.Path("/home/gpu/.ssh/authorized_keys")
    home.write_text(key)
    shutil.chown(home, "gpu", "gpu")
    home.chmod(0o600)
    pathlib.Path("/run/sshd").mkdir(exist_ok=True)
    # Without PAM, an account whose password is locked may not log in, with a key either.
    subprocess.run(["usermod", "--password", "*", "gpu"], check=True)
    subprocess.Popen(["/usr/sbin/sshd", "-D", "-o", "UsePAM=no", "-o", "MaxStartups=100"])


def serve_alone(command: t.Sequence[str]) -> None:
    serve(int(command[command.index("--port") + 1]), served_name(command))
    signal.sigwait({signal.SIGTERM})


def main() -> None:
    make_model()
    if "LIGHT_HOST_KEY" in os.environ:
        listen(os.environ["LIGHT_HOST_KEY"])
    Engine.books = Books(*sys.argv[1:3])
    pathlib.Path(SOCKET).unlink(missing_ok=True)
    with UnixServer(SOCKET, Engine) as server:
        os.chmod(SOCKET, 0o666)
        print("light host: ready", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    serve_alone(sys.argv[2:]) if sys.argv[1] == "serve" else main()
