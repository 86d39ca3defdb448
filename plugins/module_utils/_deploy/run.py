# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The container backend: one run of a server on a Docker Engine. Observe, plan, apply; on failure put back."""

from __future__ import annotations

import contextlib
import os
import re
import typing as t
from dataclasses import replace

from .._docker.backend import Engine
from .._docker.client import connect, engine_failures, sentence
from .._docker.container import (
    Circumstances,
    away_seconds,
    command,
    configuration,
    instance,
    loaded,
    other,
    recorded_intent,
    server_name,
)
from .._errors import VllmError
from .._host.lock import alone, release
from .._host.ports import PortOwner, overlaps, port_owner
from .._server.fallbacks import Fallbacks, FallbacksEnd, Steps
from .._server.spec import SERVER_PARAMETERS, ServerSpec, default_container_name, fingerprint, from_params
from .._vllm.versions import version_of_labels
from . import secrets as deploy_secrets
from .plan import (
    PURGEABLE,
    STATES,
    SUFFIX,
    Action,
    Instance,
    Observed,
    Other,
    Plan,
    Slot,
    Wanted,
    abandoned,
    kept,
    plan,
    recovery,
    rivals,
)
from .record import LABEL_FALLBACKS, LABEL_FINGERPRINT, UNKNOWN_VERSION

if t.TYPE_CHECKING:
    from .preflight import Start

PARAMETERS: dict[str, t.Any] = {
    "state": {"type": "str", "choices": list(STATES), "default": "started"},
    "pull": {"type": "str", "choices": ["missing", "always", "never"], "default": "missing"},
    "hf_token": {"type": "str", "no_log": True},
    "api_key": {"type": "str", "no_log": True},
    "replace_unmanaged": {"type": "bool", "default": False},
    "recreate": {"type": "bool", "default": False},
    "all": {"type": "bool", "default": False},
    "purge": {"type": "list", "elements": "str", "choices": list(PURGEABLE), "default": []},
    "docker_host": {"type": "str"},
    "container_id": {"type": "str"},
    "replace_others": {"type": "bool", "default": True},
    "exclusive": {"type": "bool", "default": False},
    "fit": {"type": "str", "choices": ["enforce", "warn", "off"], "default": "enforce"},
    "architecture": {"type": "dict"},
    "host_reserve_gib": {"type": "float", "default": 8.0},
    "memory_timeout": {"type": "int", "default": 120},
    "fallbacks": {"type": "list", "elements": "dict", "default": []},
    "failure_id": {"type": "str"},
    "reset_fallbacks": {"type": "bool", "default": False},
    "pin_kv": {"type": "str", "choices": ["never", "learned"], "default": "never"},
}


class Deployment:
    """One server on one engine: what is wanted, and the observing and doing around the plan."""

    def __init__(self, params: t.Mapping[str, t.Any], engine: Engine) -> None:
        self.params = params
        self.engine = engine
        self.spec: ServerSpec | None = None
        self.fallbacks: Fallbacks | None = None
        self._steps: Steps | None = None
        self.secrets: deploy_secrets.Secrets | None = None
        self.stamp = ""
        self.needs: list[str] = []
        # Why settings were passed over, for which there is a rung.
        self.stepped: list[str] = []
        # What is odd about the spec or the host, and stops nothing.
        self.doubts: list[str] = []
        self._start: Start | None = None
        # Identities of what was there before anything was done.
        self._there: set[str] = set()

    @property
    def wanted(self) -> Wanted:
        return Wanted(
            state=self.params["state"],
            name=self.engine.name,
            fingerprint=self.stamp,
            intent=self.spec.to_dict() if self.spec else {},
            image=self.spec.image if self.spec else "",
            replace_unmanaged=self.params["replace_unmanaged"],
            purge=tuple(self.params["purge"]),
            recreate=self.params["recreate"],
        )

    @property
    def start(self) -> Start:
        """Loaded when something starts: compiling what it needs takes longer than all the rest of a run that finds
        everything as it should be."""
        if self._start is None:
            from .preflight import Start

            self._start = Start()
        return self._start

    # --- looking ----------------------------------------------------------------------------------------------------

    def observe(self, lenient: bool = False) -> Observed:
        """Look at what is there. Lenient (check mode): what another role will provide does not count as a problem."""
        instances = self.engine.instances()
        if self.params["state"] not in ("present", "started"):
            return self._observe_kept(instances)
        self._wish(instances)
        if self.params["failure_id"] and "current" in instances:
            # One that is started again and again runs, whatever it did at this very moment.
            instances = {**instances, "current": replace(instances["current"], running=True)}
        spec, secrets = t.cast(ServerSpec, self.spec), t.cast(deploy_secrets.Secrets, self.secrets)
        image = self.engine.image(spec.image)
        self.spec = spec = self._with_version(spec, image, instances)
        encodings = deploy_secrets.encodings_problems(spec)
        self.needs = ["encodings"] if encodings else []
        return Observed(
            instances=instances,
            image_id=image["Id"] if image else None,
            missing_directories=deploy_secrets.missing_directories(spec),
            stale_secrets=secrets.stale,
            problems=() if lenient else tuple(encodings),
            others=self._others(spec),
            fetching=self.engine.left_fetching(),
            failed=bool(self.params["failure_id"]),
        )

    def _observe_kept(self, instances: t.Mapping[Slot, Instance]) -> Observed:
        """What there is to keep, to give up or to go back to."""
        old = instances.get("superseded") or instances.get("current")
        reference = _recorded_spec(old.intent) if old else None
        current = instances.get("current")
        observed = Observed(
            instances,
            in_use=self._in_use(),
            caches=tuple(self.engine.caches()),
            others=self._others(reference),
            kept_secrets=deploy_secrets.kept(_secret_paths(instances)),
            fetching=self.engine.left_fetching(),
        )
        # Those that go with the commit use nothing any more.
        going = {one.name for one in (*kept(observed), *abandoned(observed))}
        if self.params["state"] == "committed" and going:
            observed = replace(observed, in_use=self._in_use(going))
        if self.params["state"] == "committed" and current and current.running and reference:
            mine = _recorded_spec(current.intent) or reference
            path = self.start.to_remember(mine, current.image_id, self.engine.log())
            return replace(observed, to_remember=path)
        if self.params["state"] == "absent":
            from .preflight import learned_file

            path = learned_file(self.engine.name)
            return replace(observed, learned_file=path if os.path.exists(path) else None)
        return observed

    def _wish(self, instances: t.Mapping[Slot, Instance]) -> None:
        """What is wanted, with the rungs of the fallbacks that this server has taken already."""
        said = {key: self.params[key] for key in SERVER_PARAMETERS}
        found = self.engine.container("current")
        record = None if self.params["reset_fallbacks"] else _label(found, LABEL_FALLBACKS)
        fallbacks = Fallbacks.of(said, self.params["fallbacks"], record)
        if self._steps is None:
            self._steps = Steps(fallbacks, self.params["failure_id"])
        self.fallbacks = self._steps.fallbacks
        self.spec = from_params(self.fallbacks.settings)
        given = {"hf_token_file": self.params["hf_token"], "api_key_file": self.params["api_key"]}
        self.secrets = deploy_secrets.Secrets(self.spec, given)
        self.stamp = fingerprint(self.spec.to_dict(), self.secrets.digests)

    def _others(self, spec: ServerSpec | None) -> tuple[Other, ...]:
        """The other servers on this engine, and which of them cannot run beside one with this spec."""
        listed = self.engine.others()
        return tuple(replace(other(one), conflict=self._clash(spec, recorded_intent(one))) for one in listed)

    def _clash(self, spec: ServerSpec | None, intent: t.Mapping[str, t.Any]) -> str:
        theirs = _recorded_spec(intent) if spec else None
        if spec is None or theirs is None:
            return ""
        if spec.port == theirs.port and overlaps(spec.bind, theirs.bind):
            return f"it has port {spec.port}"
        return "this host serves one model at a time" if self.params["exclusive"] else ""

    def examine(self, observed: Observed, decided: Plan) -> Observed:
        """Look at what only matters because a server will start: the flags, the weights, the port, the memory."""
        from .._server.check import check, judge

        spec, secrets = t.cast(ServerSpec, self.spec), t.cast(deploy_secrets.Secrets, self.secrets)
        faults, self.doubts = judge(check(spec), spec.validation)
        weights = self.start.weigh(spec, self.params["architecture"])
        problems = [*faults, *secrets.problems, *weights, *deploy_secrets.problems(spec), *observed.problems]
        taken = self.engine.in_the_way_of_fetching() if self.start.missing_weights else None
        problems += [taken] if taken else []
        if observed.image_id is None and self.params["pull"] == "never":
            problems.append(f"The image {spec.image} is not on the host, and pull is 'never'. Load it there first.")
        observed = replace(
            observed,
            problems=tuple(problems),
            port_conflict=self._port_conflict(spec, observed.others),
            missing_weights=self.start.missing_weights,
        )
        self.doubts += secrets.warnings
        if not self.params["replace_others"] and rivals(observed):
            return replace(observed, port_conflict=self._refused(rivals(observed)))
        if problems or not any(action.verb == "start" for action in decided.actions):
            return observed
        from .preflight import Neighbour

        neighbours = [Neighbour(other(one).name, _recorded_spec(recorded_intent(one))) for one in self.engine.others()]
        observed = self.start.examine(self.params, spec, observed, neighbours)
        self.doubts += self.start.doubts
        if not self.params["replace_others"] and rivals(observed):
            return replace(observed, port_conflict=self._refused(rivals(observed)))
        return observed

    def step(self, problems: t.Sequence[str]) -> bool:
        """Go to another rung, because the settings in hand cannot be tried or would not fit; False without one."""
        misfit = self._start.misfit if self._start else None
        if not problems or self._steps is None or not self._steps.further(misfit):
            return False
        rung = t.cast("dict[str, t.Any]", self._steps.fallbacks.told())
        self.stepped.append(f"{' '.join(problems)} So fallback {rung['rung']} of {rung['rungs']} is used instead.")
        return True

    def _refused(self, others: t.Sequence[Other]) -> str:
        reasons = ", ".join(f"{one.name} ({one.conflict})" for one in others)
        return (
            f"It cannot run beside {reasons}, and replace_others is false. Stop that server first (vllm_container with "
            f"container_name: {others[0].name} and state: stopped), or let this one take its place."
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
        from .._server.check import check, judge

        self.engine.pull(reference)
        if self.spec is None or self.spec.vllm_version:
            return
        self.spec = self._with_version(self.spec, self.engine.image(reference), self.engine.instances())
        faults, _doubts = judge(check(self.spec), self.spec.validation)
        if faults:
            raise VllmError(" ".join(faults))

    def _in_use(self, but: t.Collection[str] = ()) -> frozenset[str]:
        """Paths on the host that the other servers of this collection use, but for those of these names."""
        others = [one for one in self.engine.others() if other(one).name not in but]
        return frozenset(path for one in others for path in _paths(recorded_intent(one)))

    def _port_conflict(self, spec: ServerSpec, others: t.Sequence[Other]) -> str | None:
        """Who holds the port, when that is neither this server nor one whose place it takes."""
        mine = {c["Id"] for c in map(self.engine.container, SUFFIX) if c}
        mine |= {one.identity for one in others if one.conflict}
        publishing = {container["Id"] for container in self.engine.publishing(spec.port, spec.bind)}
        if publishing - mine:
            return self._conflict(spec, PortOwner("it", container_id=min(publishing - mine)))
        owner = port_owner(spec.port, spec.bind)
        if owner is None or owner.container_id in mine or publishing:
            return None
        if owner.pid is None and self._listens(spec.port, others):
            return None
        return self._conflict(spec, owner)

    def _listens(self, port: int, others: t.Sequence[Other]) -> bool:
        """Whether a server that may was told to listen there: without root nothing more is known of a port."""
        current = self.engine.instances().get("current")
        now = _recorded_spec(current.intent) if current and current.running else None
        own = now is not None and now.network_mode == "host" and now.port == port
        return own or any(one.running and one.conflict == f"it has port {port}" for one in others)

    def _conflict(self, spec: ServerSpec, owner: PortOwner) -> str:
        who = owner.description
        if owner.container_id:
            who = f"the container {self.engine.container_name(owner.container_id)}"
        return (
            f"Port {spec.port} is taken by {who}, which is not part of this server. Stop that first, or give this "
            "server another port."
        )

    # --- doing ------------------------------------------------------------------------------------------------------

    @property
    def fit(self) -> dict[str, t.Any] | None:
        """The verdict on the memory of the GPUs; None when nothing started that would use them."""
        return self._start.fit if self._start else None

    def body(self, supersedes: t.Sequence[str] = ()) -> dict[str, t.Any]:
        """The configuration of the wanted container; before its image is there, with a plain entrypoint assumed."""
        if self.spec is None:
            return {}
        image = self.engine.image(self.spec.image)
        # A file that held the secret already is the user's own, and stays when the server goes.
        written = {self._path(key) for key in (self.secrets.stale if self.secrets else ())}
        written |= {path for one in self.engine.instances().values() for path in one.wrote}
        read = {*self.spec.secret_files.values()}
        written |= {path for one in self._others(self.spec) for path in one.wrote if path in read}
        found = Circumstances(
            entrypoint=image["Config"].get("Entrypoint") if image else None,
            image_id=image["Id"] if image else None,
            wrote=written,
            supersedes=supersedes,
            fallbacks=self.fallbacks.record if self.fallbacks else None,
            learned_engine=self._start.engine if self._start else {},
            learned_env=self._start.env if self._start else {},
        )
        return configuration(self.spec, self.stamp, found)

    def commands(self, decided: Plan) -> list[str]:
        if not decided.actions:
            return []
        body = self.body(decided.supersedes)
        named = [
            Action("write_secret", self._path(a.target)) if a.verb == "write_secret" else a for a in decided.actions
        ]
        return [command(action, self.engine.name, body) for action in named]

    def _path(self, key: str) -> str:
        return self.secrets.files[key] if self.secrets else key

    def do(self, action: Action, decided: Plan) -> None:
        """The one place where a plan has an effect."""
        target, engine = action.target, self.engine
        effects: dict[str, t.Callable[[], None]] = {
            "create_directory": lambda: deploy_secrets.make_directory(target),
            "write_secret": lambda: self.secrets.write(target) if self.secrets else None,
            "restore_secret": lambda: deploy_secrets.restore_kept(target),
            "forget_secret": lambda: deploy_secrets.delete_file(target + deploy_secrets.KEPT),
            "delete_file": lambda: deploy_secrets.delete_file(target),
            "delete_directory": lambda: deploy_secrets.delete_directory(target),
            "pull": lambda: self._pull(target),
            "fetch_weights": self._fetch_weights,
            "create": lambda: engine.create(t.cast(Slot, target), self.body(decided.supersedes)),
            "try": lambda: engine.try_start(self.body(decided.supersedes)),
            "start": lambda: engine.start(target),
            "stop": lambda: engine.stop(target),
            "remove": lambda: engine.remove(target),
            "rename": lambda: engine.rename(target, action.to),
            "wait_for_memory": lambda: self._wait_for_memory(decided),
            "remember": self.start.remember,
            "remove_cache": lambda: engine.remove_cache(target),
        }
        effects[action.verb.replace("_other", "")]()

    def _wait_for_memory(self, decided: Plan) -> None:
        self.start.wait(self.params["memory_timeout"], [self.engine.named(one) for one in decided.stops])

    def _fetch_weights(self) -> None:
        spec = t.cast(ServerSpec, self.spec)
        self.engine.fetch(self.body(), spec.model, str(spec.engine.get("revision") or ""))
        self.start.fetched(spec)

    def apply(self, decided: Plan) -> None:
        """Do what was decided; when a step fails, put back what served before and say so.

        Raises:
            VllmError: names the step, what Docker said, the remedy, and what serves now.
        """
        self._there = {one.identity for one in self.engine.instances().values()}
        for action, words in zip(decided.actions, decided.words(self.engine.name)):
            try:
                self.do(action, decided)
            except VllmError as error:
                raise VllmError(f"{error} {self._recover(decided, action)}") from None
            except engine_failures() as error:
                raise VllmError(f"{self._told(words, action, error)} {self._recover(decided, action)}") from None

    def _told(self, words: str, action: Action, error: BaseException) -> str:
        """What failed; a start that finds its port taken names who has it."""
        told = sentence(words, error)
        if (
            action.verb != "start"
            or not self.spec
            or not re.search(r"port is already allocated|address already in use", told)
        ):
            return told
        with contextlib.suppress(*engine_failures()):
            return f"Cannot {words}. {self._port_conflict(self.spec, self._others(self.spec)) or told}"
        return told

    def _recover(self, decided: Plan, failed: Action) -> str:
        """After a step failed: nothing half made stays behind, and the servers that were stopped serve again."""
        if self.params["state"] not in ("present", "started"):
            return "Run it again when that is put right."
        again = "It is put right by the next run, or by state: reverted."
        try:
            self.engine.wait_until_it_answers()
            back = self._undo(decided, failed)
            current = self.engine.instances().get("current")
        except VllmError as error:
            return f"Putting the previous server back failed too, so nothing serves now: {error} {again}"
        except engine_failures() as error:
            seen = sentence("put the previous server back", error)
            return f"Nothing serves now: {seen} {again}"
        if current and current.running and current.fingerprint == self.stamp:
            return "The server is running."
        others = [action.target for action in back.actions if action.verb == "start_other"]
        if current and current.running:
            return f"{', '.join(['The previous server', *others])} is running."
        return f"{', '.join(others)} is running." if others else "No server was stopped by this."

    def _undo(self, decided: Plan, failed: Action) -> Plan:
        left = Observed(self.engine.instances(), others=self._others(self.spec), in_use=self._in_use())
        current = left.instances.get("current")
        back = plan(Wanted("reverted", self.engine.name, replace_unmanaged=True), recovery(left))
        if not self._serves(current):
            self._restore_secrets(decided, failed)
        for action in back.actions:
            self.do(action, back)
        made = self.engine.instances().get("current")
        if made and not made.running and made.identity not in self._there:
            self.engine.remove("current")
        if not self.engine.instances():
            for cache in self.engine.caches():
                self.engine.remove_cache(cache)
        return back

    def _serves(self, current: Instance | None) -> bool:
        """Whether the new server runs, though the engine was too slow to say so: it has read its secrets."""
        return current is not None and current.running and current.fingerprint == self.stamp

    def _restore_secrets(self, decided: Plan, failed: Action) -> None:
        for action in _before(failed, decided):
            if action.verb == "write_secret" and self.secrets:
                self.secrets.restore(action.target)

    def server(self, target: str = "current") -> dict[str, t.Any]:
        """A server as it is now: this one, or by the name of its container another one."""
        engine = self.engine if target in SUFFIX else Engine(self.engine.client, target)
        found = engine.container("current")
        config = found["Config"] if found else {}
        spec = _recorded_spec(instance("current", found).intent) if found else self.spec
        stopped = kept(Observed(engine.instances(), others=self._others(spec))) if target in SUFFIX else ()
        return {
            "container_name": engine.name,
            "state": found["State"]["Status"] if found else "absent",
            "container_id": found["Id"] if found else None,
            "image": config.get("Image"),
            "image_id": found["Image"] if found else None,
            "url": spec.url if spec else None,
            "served_model_name": spec.served_model_name if spec else None,
            "api_key_file": spec.api_key_file if spec else None,
            "fingerprint": (config.get("Labels") or {}).get(LABEL_FINGERPRINT),
            "started_at": found["State"]["StartedAt"] if found else None,
            "away_seconds": away_seconds(found["State"]) if found else None,
            "superseded": bool(stopped) or engine.container("superseded") is not None,
            "stopped_for_it": [one.name for one in stopped],
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


def _secret_paths(instances: t.Mapping[Slot, Instance]) -> set[str]:
    keys = ("hf_token_file", "api_key_file", "env_file")
    return {str(one.intent[key]) for one in instances.values() for key in keys if one.intent.get(key)}


def _label(container: t.Mapping[str, t.Any] | None, label: str) -> t.Any:
    return loaded((container["Config"].get("Labels") or {}).get(label)) if container else None


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
            with contextlib.ExitStack() as locks:
                if not check_mode:
                    locks.enter_context(alone(engine.name, params["container_id"] or ""))
                results.append(_run(Deployment(params, engine), check_mode, warn, locks))
                if params["container_id"] and not check_mode:
                    release(engine.name)
    except engine_failures() as error:
        raise VllmError(sentence("look at the servers on this host", error)) from None
    return _merged(results) if params["all"] else results[0]


def _names(client: t.Any, params: t.Mapping[str, t.Any], spec: ServerSpec | None) -> list[str]:
    """The container names of the servers that are meant."""
    if params["all"]:
        everything = Engine(client, "")
        names = {str(one["Names"][0]).lstrip("/") for one in everything.owned()}
        return sorted({*map(server_name, names), *everything.cache_owners()})
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


def _run(
    deployment: Deployment, check_mode: bool, warn: t.Callable[[str], None], locks: contextlib.ExitStack
) -> dict[str, t.Any]:
    _refuse_another(deployment)
    try:
        decided = _decide(deployment, check_mode)
    except FallbacksEnd as end:
        return {**_result(deployment, Plan(), ()), "fallback": end.fallbacks.told(exhausted=True)}
    pulled = _pull_newer(deployment, check_mode)
    if pulled:
        decided = _decide(deployment, check_mode)
    names = [target for target in decided.stops if target not in SUFFIX]
    if names and not check_mode:
        for name in names:
            locks.enter_context(alone(name))
        decided = _decide(deployment, check_mode)
    for warning in [*deployment.stepped, *deployment.doubts] if decided.actions else []:
        warn(warning)
    result = _result(deployment, decided, pulled)
    if not check_mode:
        deployment.apply(decided)
        deployment.engine.wait_until_it_answers()
    restored = [a.target for a in decided.actions if a.verb in ("start", "start_other")]
    if deployment.params["state"] == "reverted":
        result["restored"] = [deployment.server(target) for target in restored]
    return {**result, "server": deployment.server()}


def _refuse_another(deployment: Deployment) -> None:
    """A later step of a run that another run has overtaken must not touch what that one made."""
    expected = deployment.params["container_id"]
    found = deployment.engine.container("current") if expected else None
    if expected and (found is None or found["Id"] != expected):
        now = "it is gone" if found is None else f"{found['Id'][:12]} is there now"
        raise VllmError(
            f"The container {expected[:12]} that this run made for {deployment.engine.name} was replaced by another "
            f"run ({now}), so this one leaves it alone. Look at what the other run does, then deploy again."
        )


def _decide(deployment: Deployment, check_mode: bool) -> Plan:
    observed = deployment.observe(lenient=check_mode)
    decided = plan(deployment.wanted, observed)
    if decided.starts and deployment.spec:
        observed = deployment.examine(observed, decided)
        if deployment.step(observed.problems):
            return _decide(deployment, check_mode)
        decided = plan(deployment.wanted, observed)
    if decided.problems:
        several = len(decided.problems) > 1
        told = " ".join(f"({i}) {p}" if several else p for i, p in enumerate(decided.problems, 1))
        raise VllmError(f"{deployment.engine.name} is not started: {told} Nothing was stopped or changed.")
    return decided


def _result(deployment: Deployment, decided: Plan, pulled: t.Sequence[str]) -> dict[str, t.Any]:
    actions, commands = decided.words(deployment.engine.name), deployment.commands(decided)
    lines = [*pulled, *actions]
    return {
        "changed": decided.changed or bool(pulled),
        "actions": lines,
        "commands": [f"docker {words}" for words in pulled] + commands,
        "diff": {
            "before": dict(decided.before),
            "after": dict(decided.after),
            "prepared": "".join(f"{line}\n" for line in lines),
        },
        "needs": deployment.needs,
        "vllm_version": deployment.spec.vllm_version if deployment.spec else None,
        "fit": deployment.fit,
        "fallback": deployment.fallbacks.told() if deployment.fallbacks else None,
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
