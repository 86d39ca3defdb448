# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!

"""The container backend: one run of a server on a Docker Engine. Observe, plan, apply; on failure put back."""

from __future__ import annotations

import contextlib
import typing as t
from dataclasses import replace

from . import _preflight
from ._configuration import (
    LABEL_FINGERPRINT,
    UNKNOWN_VERSION,
    command,
    configuration,
    instance,
    server_name,
)
from ._deployment import PURGEABLE, STATES, SUFFIX, Action, Instance, Observed, Plan, Slot, Wanted, plan, recovery
from ._docker import Engine, connect, engine_failures, sentence
from ._errors import VllmError
from ._ports import PortOwner, port_owner
from ._server import SERVER_PARAMETERS, ServerSpec, default_container_name, fingerprint, from_params
from ._spec_check import check, judge
from ._versions import version_of_labels

PARAMETERS: dict[str, t.Any] = {
    "state": {"type": "str", "choices": list(STATES), "default": "started"},
    "pull": {"type": "str", "choices": ["missing", "always", "never"], "default": "missing"},
    "hf_token": {"type": "str", "no_log": True},
    "api_key": {"type": "str", "no_log": True},
    "adopt": {"type": "bool", "default": False},
    "recreate": {"type": "bool", "default": False},
    "all": {"type": "bool", "default": False},
    "purge": {"type": "list", "elements": "str", "choices": list(PURGEABLE), "default": []},
    "docker_host": {"type": "str"},
}


class Deployment:
    """One server on one engine: what is wanted, and the observing and doing around the plan."""

    def __init__(self, params: t.Mapping[str, t.Any], engine: Engine, spec: ServerSpec | None) -> None:
        self.params = params
        self.engine = engine
        self.spec = spec
        self.secrets: _preflight.Secrets | None = None
        self.stamp = ""
        self.needs: list[str] = []
        # What is odd about the spec for its version of vLLM, and stops nothing.
        self.doubts: list[str] = []
        if spec:
            given = {"hf_token_file": params["hf_token"], "api_key_file": params["api_key"]}
            self.secrets = _preflight.Secrets(spec, given)
            self.stamp = fingerprint(spec.to_dict(), self.secrets.digests)

    @property
    def wanted(self) -> Wanted:
        return Wanted(
            state=self.params["state"],
            name=self.engine.name,
            fingerprint=self.stamp,
            intent=self.spec.to_dict() if self.spec else {},
            image=self.spec.image if self.spec else "",
            adopt=self.params["adopt"],
            purge=tuple(self.params["purge"]),
            recreate=self.params["recreate"],
        )

    def observe(self, lenient: bool = False) -> Observed:
        """Look at the host. Lenient (check mode): what another role will provide does not count as a problem."""
        instances = self.engine.instances()
        if self.spec is None or self.secrets is None:
            return Observed(instances, in_use=self._in_use(), caches=tuple(self.engine.caches()))
        image = self.engine.image(self.spec.image)
        self.spec = self._with_version(self.spec, image, instances)
        faults, self.doubts = judge(check(self.spec), self.spec.validation)
        encodings = _preflight.encodings_problems(self.spec)
        self.needs = ["encodings"] if encodings else []
        problems = [*faults, *self.secrets.problems, *_preflight.problems(self.spec), *([] if lenient else encodings)]
        if image is None and self.params["pull"] == "never":
            problems.append(
                f"The image {self.spec.image} is not on the host, and pull is 'never'. Load it there first."
            )
        return Observed(
            instances=instances,
            image_id=image["Id"] if image else None,
            missing_directories=_preflight.missing_directories(self.spec),
            stale_secrets=self.secrets.stale,
            problems=tuple(problems),
            port_conflict=self._port_conflict(self.spec),
        )

    def _with_version(
        self, spec: ServerSpec, image: t.Mapping[str, t.Any] | None, instances: t.Mapping[Slot, Instance]
    ) -> ServerSpec:
        """The spec with the version its image holds, from what costs least: what was said, what the image tells of
        itself, what an earlier run recorded, and only then a look inside."""
        if spec.vllm_version or image is None:
            return spec
        config = image["Config"]
        version = version_of_labels(config.get("Labels") or {}, config.get("Env") or ())
        recorded = {one.image_id: one.vllm_version for one in instances.values() if one.vllm_version}
        if not version and image["Id"] in recorded:
            version = recorded[image["Id"]]
        elif not version:
            version = self.engine.read_version(image["Id"])
        return replace(spec, vllm_version=version) if version not in (None, UNKNOWN_VERSION) else spec

    def _pull(self, reference: str) -> None:
        """Pull, and judge the flags by the version that came if it was not known before."""
        self.engine.pull(reference)
        if self.spec is None or self.spec.vllm_version:
            return
        self.spec = self._with_version(self.spec, self.engine.image(reference), self.engine.instances())
        faults, _doubts = judge(check(self.spec), self.spec.validation)
        if faults:
            raise VllmError(" ".join(faults))

    def _in_use(self) -> frozenset[str]:
        """Paths on the host that the other servers of this collection use."""
        others = [i for i in self.engine.owned() if server_name(i) != self.engine.name]
        intents = [instance("current", self.engine.client.inspect_container(name)).intent for name in others]
        return frozenset(path for intent in intents for path in _paths(intent))

    def _port_conflict(self, spec: ServerSpec) -> str | None:
        own = {c["Id"] for c in map(self.engine.container, SUFFIX) if c}
        publishing = {container["Id"] for container in self.engine.publishing(spec.port, spec.bind)}
        if publishing - own:
            return self._conflict(spec, PortOwner("it", container_id=min(publishing - own)))
        owner = port_owner(spec.port, spec.bind)
        if owner is None or owner.container_id in own or publishing or (owner.pid is None and self._listens(spec.port)):
            return None
        return self._conflict(spec, owner)

    def _listens(self, port: int) -> bool:
        """Whether the server that runs now was told to listen there: without root nothing more is known of a port."""
        current = self.engine.instances().get("current")
        now = _recorded_spec(current.intent) if current and current.running else None
        return now is not None and now.network_mode == "host" and now.port == port

    def _conflict(self, spec: ServerSpec, owner: PortOwner) -> str:
        who, remedy = owner.description, "Stop that first, or give this server another port."
        if owner.container_id:
            name = self.engine.container_name(owner.container_id)
            who = f"the container {name}"
            if name in self.engine.owned():
                who += ", another server of this collection"
                remedy = (
                    "Remove that one first (ansible-playbook gpufleet.vllm.teardown, or vllm_container with "
                    f"container_name: {name} and state: absent), or give this server another port."
                )
        return f"Port {spec.port} is taken by {who}, which is not part of this server. {remedy}"

    def body(self) -> dict[str, t.Any]:
        """The configuration of the wanted container; before its image is there, with a plain entrypoint assumed."""
        if self.spec is None:
            return {}
        image = self.engine.image(self.spec.image)
        # A file that held the secret already is the user's own, and stays when the server goes.
        written = {self._path(key) for key in (self.secrets.stale if self.secrets else ())}
        written |= {path for one in self.engine.instances().values() for path in one.wrote}
        entrypoint = image["Config"].get("Entrypoint") if image else None
        return configuration(self.spec, self.stamp, entrypoint, written, image["Id"] if image else None)

    def commands(self, decided: Plan) -> list[str]:
        body = self.body()
        named = [
            Action("write_secret", self._path(a.target)) if a.verb == "write_secret" else a for a in decided.actions
        ]
        return [command(action, self.engine.name, body) for action in named]

    def _path(self, key: str) -> str:
        return self.secrets.files[key] if self.secrets else key

    def do(self, action: Action) -> None:
        """The one place where a plan has an effect."""
        slot = t.cast(Slot, action.target)
        effects: dict[str, t.Callable[[], None]] = {
            "create_directory": lambda: _preflight.make_directory(action.target),
            "write_secret": lambda: self.secrets.write(action.target) if self.secrets else None,
            "delete_file": lambda: _preflight.delete_file(action.target),
            "delete_directory": lambda: _preflight.delete_directory(action.target),
            "pull": lambda: self._pull(action.target),
            "create": lambda: self.engine.create(slot, self.body()),
            "try": lambda: self.engine.try_start(self.body()),
            "start": lambda: self.engine.start(slot),
            "stop": lambda: self.engine.stop(slot),
            "remove": lambda: self.engine.remove(slot),
            "rename": lambda: self.engine.rename(slot, t.cast(Slot, action.to)),
            "remove_cache": lambda: self.engine.remove_cache(action.target),
        }
        effects[action.verb]()

    def apply(self, decided: Plan) -> None:
        """Do what was decided; when a step fails, put back what served before and say so.

        Raises:
            VllmError: names the step, what Docker said, the remedy, and what serves now.
        """
        for action, words in zip(decided.actions, decided.words(self.engine.name)):
            try:
                self.do(action)
            except VllmError as error:
                raise VllmError(f"{error} {self._recover(decided, action)}") from None
            except engine_failures() as error:
                raise VllmError(f"{sentence(words, error)} {self._recover(decided, action)}") from None

    def _recover(self, decided: Plan, failed: Action) -> str:
        """After a step failed: nothing half made stays behind, and the server that was stopped serves again."""
        if self.params["state"] not in ("present", "started"):
            return "Run it again when that is put right."
        try:
            self._undo(decided, failed)
            current = self.engine.instances().get("current")
        except VllmError as error:
            return f"Putting the previous server back failed too: {error}"
        except engine_failures() as error:
            return sentence("put the previous server back", error)
        if current and current.running:
            return "The server is running." if current.fingerprint == self.stamp else "The previous server is running."
        return "No server was stopped by this."

    def _undo(self, decided: Plan, failed: Action) -> None:
        created = next((action.target for action in decided.actions if action.verb == "create"), None)
        current = self.engine.instances().get("current")
        if created == "current" and current and not current.running:
            self.engine.remove("current")
        if not self.engine.instances():
            for cache in self.engine.caches():
                self.engine.remove_cache(cache)
        left = Observed(self.engine.instances())
        back = plan(Wanted("reverted", self.engine.name, adopt=True), recovery(left))
        if not self._serves(left.instances.get("current")):
            self._restore_secrets(decided, failed)
        kept = any(action.to == "superseded" for action in decided.actions)
        # What a run that was cut short has stopped did serve.
        done = (*_before(failed, decided), failed)
        served = any(action.verb == "stop" or (action.verb, action.target) == ("remove", "next") for action in done)
        for action in back.actions:
            # A server that did not run before is put back as it was.
            if action.verb != "start" or served or not kept:
                self.do(action)

    def _serves(self, current: Instance | None) -> bool:
        """Whether the new server runs, though the engine was too slow to say so: it has read its secrets."""
        return current is not None and current.running and current.fingerprint == self.stamp

    def _restore_secrets(self, decided: Plan, failed: Action) -> None:
        for action in _before(failed, decided):
            if action.verb == "write_secret" and self.secrets:
                self.secrets.restore(action.target)

    def server(self) -> dict[str, t.Any]:
        """The server as it is now."""
        found = self.engine.container("current")
        config = found["Config"] if found else {}
        spec = _recorded_spec(instance("current", found).intent) if found else self.spec
        return {
            "container_name": self.engine.name,
            "state": found["State"]["Status"] if found else "absent",
            "container_id": found["Id"] if found else None,
            "image": config.get("Image"),
            "image_id": found["Image"] if found else None,
            "url": spec.url if spec else None,
            "served_model_name": spec.served_model_name if spec else None,
            "api_key_file": spec.api_key_file if spec else None,
            "fingerprint": (config.get("Labels") or {}).get(LABEL_FINGERPRINT),
            "started_at": found["State"]["StartedAt"] if found else None,
            "superseded": self.engine.container("superseded") is not None,
        }


def _before(action: Action, decided: Plan) -> tuple[Action, ...]:
    return decided.actions[: decided.actions.index(action)]


def _paths(intent: t.Mapping[str, t.Any]) -> list[str]:
    """The paths on the host that a server with that record uses."""
    keys = ("huggingface_dir", "encodings_dir", "hf_token_file", "api_key_file", "env_file", "model")
    volumes = [str(volume).split(":", maxsplit=1)[0] for volume in intent.get("volumes") or ()]
    return [path for path in [*(str(intent.get(key) or "") for key in keys), *volumes] if path.startswith("/")]


def _recorded_spec(intent: t.Mapping[str, t.Any]) -> ServerSpec | None:
    """The spec that a container was made from; None for a record that this version cannot read."""
    try:
        return from_params(intent)
    except VllmError:
        return None


def run(params: t.Mapping[str, t.Any], check_mode: bool, warn: t.Callable[[str], None]) -> dict[str, t.Any]:
    """Bring one server to the wanted state, or in check mode say what that would take.

    Raises:
        VllmError: when something stands in the way; then nothing that serves was stopped.
    """
    spec = None
    if params["state"] in ("present", "started"):
        spec = from_params({key: params[key] for key in SERVER_PARAMETERS})
    client = connect(params["docker_host"])
    try:
        engines = [Engine(client, name, params["stop_timeout"]) for name in _names(client, params, spec)]
        results = []
        for engine in engines:
            with contextlib.nullcontext() if check_mode else _preflight.alone(engine.name):
                results.append(_run(Deployment(params, engine, spec), check_mode, warn))
    except engine_failures() as error:
        raise VllmError(sentence("look at the servers on this host", error)) from None
    return _merged(results) if params["all"] else results[0]


def _names(client: t.Any, params: t.Mapping[str, t.Any], spec: ServerSpec | None) -> list[str]:
    """The container names of the servers that are meant."""
    if params["all"]:
        everything = Engine(client, "")
        return sorted({*map(server_name, everything.owned()), *everything.cache_owners()})
    if spec:
        return [spec.container_name]
    if not (params["container_name"] or params["name"]):
        raise VllmError("name is missing: say which server by name or container_name, or set all: true for every one.")
    return [params["container_name"] or default_container_name(params["name"])]


def _merged(results: list[dict[str, t.Any]]) -> dict[str, t.Any]:
    """The results of several servers as one."""
    servers = [result["server"] for result in results]
    return {
        "changed": any(result["changed"] for result in results),
        **{key: [line for result in results for line in result[key]] for key in ("actions", "commands", "needs")},
        "diff": [
            {**result["diff"], **dict.fromkeys(("before_header", "after_header"), server["container_name"])}
            for result, server in zip(results, servers)
        ],
        "vllm_version": None,
        "server": None,
        "servers": servers,
    }


def _run(deployment: Deployment, check_mode: bool, warn: t.Callable[[str], None]) -> dict[str, t.Any]:
    pulled = _pull_newer(deployment, check_mode)
    decided = plan(deployment.wanted, deployment.observe(lenient=check_mode))
    if decided.problems:
        several = len(decided.problems) > 1
        told = " ".join(f"({i}) {p}" if several else p for i, p in enumerate(decided.problems, 1))
        raise VllmError(f"{deployment.engine.name} is not started: {told} Nothing was stopped or changed.")
    doubts = deployment.doubts if decided.actions else []
    for warning in [*(deployment.secrets.warnings if deployment.secrets else ()), *doubts]:
        warn(warning)
    actions, commands = decided.words(deployment.engine.name), deployment.commands(decided)
    if not check_mode:
        deployment.apply(decided)
    return {
        "changed": decided.changed or bool(pulled),
        "actions": pulled + actions,
        "commands": [f"docker {words}" for words in pulled] + commands,
        "diff": {
            "before": dict(decided.before),
            "after": dict(decided.after),
            "prepared": "".join(f"{line}\n" for line in pulled + actions),
        },
        "needs": deployment.needs,
        "vllm_version": deployment.spec.vllm_version if deployment.spec else None,
        "server": deployment.server(),
    }


def _pull_newer(deployment: Deployment, check_mode: bool) -> list[str]:
    """With pull: always, ask the registry first, while everything still serves; tell it only when an image came."""
    spec = deployment.spec
    if spec is None or check_mode or deployment.params["pull"] != "always":
        return []
    before = deployment.engine.image(spec.image)
    if before is None:
        return []  # The plan pulls it.
    try:
        deployment.engine.pull(spec.image)
    except engine_failures() as error:
        raise VllmError(sentence(f"pull {spec.image}", error) + " No server was stopped by this.") from None
    after = deployment.engine.image(spec.image)
    return [f"pull {spec.image}"] if after is None or after["Id"] != before["Id"] else []
