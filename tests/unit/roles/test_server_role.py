# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Role vllm_server, run by ansible-playbook with stand-ins for the modules: which calls it makes, what it leaves.

Every scenario is a host. All of them run in one play, and those in check mode in another.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import typing as t
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from ansible_collections.gpufleet.vllm.plugins.module_utils._health.probe import REMEDIES
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.failures import BY_ID
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._outcome import DETAILS, PUBLIC

ROOT = Path(__file__).resolve().parents[3]
# A stand-in takes the next answer of its host's list, and writes down what it was asked.
STAND_IN = """#!/usr/bin/python
# WANT_JSON
import json, os, sys

with open(sys.argv[1]) as stream:
    asked = json.load(stream)
name = asked.get("name") or str(asked.get("container") or asked.get("unit") or asked.get("server") or "gpu_facts")[5:]
if "MODULE".startswith("model_cache"):
    name = os.path.basename(asked["huggingface_dir"])
folder = os.path.join(os.environ["STAND_IN"], name)
with open(os.path.join(folder, "calls"), "a+") as stream:
    stream.seek(0)
    number = len(stream.readlines())
    stream.write(json.dumps({"module": "MODULE", **asked}) + "\\n")
with open(os.path.join(folder, "answers")) as stream:
    answers = json.load(stream)
print(json.dumps(answers[number] if number < len(answers) else {"failed": True, "msg": "not expected: MODULE"}))
"""
PLAYBOOK = """
- hosts: all
  gather_facts: false
  connection: local
  tasks:
    - block:
        - name: Deploy
          ansible.builtin.import_role:
            name: gpufleet.vllm.vllm_server
            rolespec_validate: VALIDATE
      always:
        - ansible.builtin.copy:
            content: "{{ vllm_server_result | to_json }}"
            dest: "{{ lookup('env', 'STAND_IN') }}/{{ inventory_hostname }}/result"
          check_mode: false
          diff: false
"""
Answer = dict[str, t.Any]


def server(name: str, **differs: t.Any) -> Answer:
    return {
        "container_name": f"vllm-{name}",
        "backend": "container",
        "container_id": "c1",
        "state": "running",
        "url": "http://127.0.0.1:8000",
        "served_model_name": name,
        "superseded": False,
        **differs,
    }


GOOD: Answer = {"healthy": True, "checks": [{"name": "completion", "detail": '"Four."'}], "elapsed": 0.2}
SICK: Answer = {
    "healthy": False,
    "failed": True,
    "msg": "Out of memory.",
    "diagnosis": {"id": "mem-free-below-budget"},
    "reason": "mem-free-below-budget",
    "elapsed": 9.0,
}
# A failure that the compile caches of another host may have caused.
CRASH: Answer = {
    **SICK,
    "msg": "It crashed.",
    "diagnosis": {"id": "process-crashed", "cause": "A process of the server crashed."},
    "reason": "process-crashed",
}
STEPS = ["create vllm-x", "start vllm-x"]
STAGING = ("model_cache", "model_cache_image")


def found(name: str, *actions: str, health: Answer | None = None, **differs: t.Any) -> Answer:
    """What the module of a backend answers."""
    rest = {"needs": [], "commands": [], "vllm_version": "0.26.0", "fit": None, "fallback": None, "restored": []}
    one = {**rest, "changed": bool(actions), "actions": list(actions), "health": health, "server": server(name)}
    return {**one, **differs}


@dataclass(frozen=True)
class Scenario:
    """What the modules answer, and what the role has to call and to say: (module, state, check mode) a call."""

    name: str
    answers: list[Answer]
    calls: list[tuple[str, str, bool]]
    message: str
    failed: bool = False
    reason: str = ""
    changed: bool = False
    variables: dict[str, t.Any] = field(default_factory=dict)
    check: bool = False


def container(state: str, check: bool = False) -> tuple[str, str, bool]:
    return ("vllm_container", state, check)


def service(state: str, check: bool = False) -> tuple[str, str, bool]:
    return ("vllm_service", state, check)


def health(check: bool = False) -> tuple[str, str, bool]:
    return ("vllm_health", "", check)


PLAN = container("started", True)
UNIT: Answer = {"vllm_server": {"backend": "systemd", "venv": "/opt/vllm", "image": None}}
BUILT: Answer = {"vllm_server": {"venv": {"packages": ["vllm==0.26.0"], "wheelhouse": "/w"}, "image": None}}
RUNG = {"causes": ["mem-free-below-budget"], "change": {"port": 8001}}
OLD = {**server("old"), "away_seconds": 2.0}
FALLBACK = {
    "rung": 1,
    "rungs": 1,
    "causes": ["mem-free-below-budget"],
    "change": {"port": 8001},
    "because": None,
    "exhausted": False,
}


def scenarios() -> list[Scenario]:
    return [
        Scenario(
            "unchanged",
            [found("unchanged", health=GOOD)],
            [PLAN],
            'unchanged answers at http://127.0.0.1:8000 on unchanged: "Four."',
        ),
        Scenario(
            "deploy",
            [found("deploy", *STEPS), found("deploy", *STEPS), GOOD, found("deploy")],
            [PLAN, container("started"), health(), container("committed")],
            'deploy answers at http://127.0.0.1:8000 on deploy: "Four."',
            changed=True,
        ),
        Scenario(
            "leftover",
            [
                found("leftover", health=GOOD, server=server("leftover", superseded=True)),
                found("leftover", server=server("leftover", superseded=True)),
                GOOD,
                found("leftover", "remove vllm-leftover-superseded"),
            ],
            [PLAN, container("started"), health(), container("committed")],
            'leftover answers at http://127.0.0.1:8000 on leftover: "Four."',
            changed=True,
        ),
        Scenario(
            "planned",
            [found("planned", *STEPS)],
            [PLAN],
            "Nothing was changed on planned. Planned: create vllm-x; start vllm-x.",
            variables={"vllm_server_state": "planned"},
        ),
        Scenario(
            "uncommitted",
            [
                found("uncommitted", *STEPS),
                found("uncommitted", *STEPS, server=server("uncommitted", superseded=True)),
                GOOD,
            ],
            [PLAN, container("started"), health()],
            'uncommitted answers at http://127.0.0.1:8000 on uncommitted: "Four." The previous server is kept '
            "until the commit.",
            changed=True,
            variables={"vllm_server_commit": False},
        ),
        Scenario(
            "committed-later",
            [
                found("committed-later", "remove vllm-x-superseded"),
                found("committed-later", "remove vllm-x-superseded"),
            ],
            [container("committed", True), container("committed")],
            "vllm-committed-later on committed-later is running.",
            changed=True,
            variables={"vllm_server_state": "committed", "vllm_server_container_id": "c1"},
        ),
        Scenario(
            "put-back",
            [
                found("put-back", "start old"),
                found("put-back", "start old", restored=[{**OLD, "container_name": "vllm-put-back"}]),
                {**GOOD, "elapsed": 3.0},
            ],
            [container("reverted", True), container("reverted"), health()],
            "The previous server old is serving again at http://127.0.0.1:8000, after 5 s without an answer.",
            changed=True,
            variables={"vllm_server_state": "reverted"},
        ),
        Scenario(
            "put-back-sick",
            [
                found("put-back-sick", "start old"),
                found("put-back-sick", "start old", restored=[{**OLD, "container_name": "vllm-put-back-sick"}]),
                SICK,
            ],
            [container("reverted", True), container("reverted"), health()],
            "The previous server was restored, but it is not healthy either: Out of memory.",
            failed=True,
            reason="mem-free-below-budget",
            changed=True,
            variables={"vllm_server_state": "reverted"},
        ),
        Scenario(
            "nothing-kept",
            [found("nothing-kept")],
            [container("reverted", True)],
            "vllm-nothing-kept on nothing-kept is running.",
            variables={"vllm_server_state": "reverted"},
        ),
        Scenario(
            "newer-image",
            [found("newer-image", health=GOOD), found("newer-image"), GOOD],
            [PLAN, container("started"), health()],
            'newer-image answers at http://127.0.0.1:8000 on newer-image: "Four."',
            variables={"vllm_server": {"pull": "always"}},
        ),
        Scenario(
            "refused",
            [{"failed": True, "msg": "Port 8000 is taken.", "reason": "port-in-use"}],
            [PLAN],
            "Port 8000 is taken.",
            failed=True,
            reason="port-in-use",
        ),
        Scenario(
            "apply-fails",
            [found("apply-fails", *STEPS), {"failed": True, "msg": "Cannot pull.", "reason": "pull-failed"}],
            [PLAN, container("started")],
            "Cannot pull.",
            failed=True,
            reason="pull-failed",
        ),
        Scenario(
            "absent",
            [
                found("absent", "remove vllm-absent"),
                found("absent", "remove vllm-absent", server={"container_name": "a", "state": "absent"}),
            ],
            [container("absent", True), container("absent")],
            "a on absent is absent.",
            changed=True,
            variables={"vllm_server_state": "absent", "vllm_server": {"gpus": {"count": 1}}},
        ),
        Scenario(
            "sick-new",
            [found("sick-new", *STEPS), found("sick-new", *STEPS), SICK, found("sick-new", "stop vllm-x")],
            [PLAN, container("started"), health(), container("stopped")],
            "vllm-sick-new is not healthy. It was stopped, and its container is kept for its log. Out of memory.",
            failed=True,
            reason="mem-free-below-budget",
            changed=True,
        ),
        Scenario(
            "sick-served",
            [found("sick-served", health=SICK), found("sick-served"), SICK],
            [PLAN, container("started"), health()],
            "vllm-sick-served is not healthy. This run did not change it. Out of memory.",
            failed=True,
            reason="mem-free-below-budget",
        ),
        Scenario(
            "rolled-back",
            [
                found("rolled-back", *STEPS),
                found("rolled-back", *STEPS, server=server("rolled-back", superseded=True)),
                SICK,
                found("rolled-back", "start old", restored=[{**OLD, "container_name": "vllm-rolled-back"}]),
                {**GOOD, "elapsed": 3.0},
            ],
            [PLAN, container("started"), health(), container("reverted"), health()],
            "vllm-rolled-back is not healthy. The previous server old is serving again at http://127.0.0.1:8000, after 5 s "
            "without an answer. Out of memory.",
            failed=True,
            reason="mem-free-below-budget",
            changed=True,
        ),
        Scenario(
            "service",
            [found("service", *STEPS), found("service", *STEPS), GOOD, found("service")],
            [service("started", True), service("started"), health(), service("committed")],
            'service answers at http://127.0.0.1:8000 on service: "Four."',
            changed=True,
            variables=UNIT,
        ),
        Scenario(
            "sick-service",
            [
                found("sick-service", *STEPS),
                found("sick-service", *STEPS, server=server("sick-service", backend="systemd")),
                SICK,
                found("sick-service", "stop vllm-x", server=server("sick-service", backend="systemd")),
            ],
            [service("started", True), service("started"), health(), service("stopped")],
            "vllm-sick-service is not healthy. It was stopped, and its unit is kept for its log. Out of memory.",
            failed=True,
            reason="mem-free-below-budget",
            changed=True,
            variables=UNIT,
        ),
        Scenario(
            "service-undone",
            [
                found("service-undone", *STEPS),
                found("service-undone", *STEPS, server=server("service-undone", superseded=True)),
                SICK,
                found(
                    "service-undone",
                    "start old",
                    restored=[
                        {**OLD, "container_name": "vllm-service-undone", "backend": kind}
                        for kind in ("systemd", "container")
                    ],
                ),
                {**GOOD, "elapsed": 3.0},
                {**GOOD, "elapsed": 1.0},
            ],
            [service("started", True), service("started"), health(), service("reverted"), health(), health()],
            "vllm-service-undone is not healthy. The previous server old and old is serving again at http://127.0.0.1:8000 "
            "and http://127.0.0.1:8000, after 5 s without an answer. Out of memory.",
            failed=True,
            reason="mem-free-below-budget",
            changed=True,
            variables=UNIT,
        ),
        Scenario(
            "roll-back-fails",
            [
                found("roll-back-fails", *STEPS),
                found("roll-back-fails", *STEPS, server=server("roll-back-fails", superseded=True)),
                SICK,
                {"failed": True, "msg": "No.", "reason": "backend-failed"},
            ],
            [PLAN, container("started"), health(), container("reverted")],
            "vllm-roll-back-fails is not healthy. Restoring the previous server failed: No. Out of memory.",
            failed=True,
            reason="mem-free-below-budget",
            changed=True,
        ),
        Scenario(
            "busy",
            [
                found("busy", *STEPS),
                found("busy", *STEPS),
                {"failed": True, "busy": True, "msg": "Another run is changing busy."},
            ],
            [PLAN, container("started"), health()],
            "Another run is changing busy.",
            failed=True,
            reason="locked",
            changed=True,
        ),
        Scenario(
            "fallback",
            [
                found("fallback", *STEPS),
                found("fallback", *STEPS),
                SICK,
                found("fallback", *STEPS, fallback=FALLBACK),
                GOOD,
                found("fallback"),
            ],
            [PLAN, container("started"), health(), container("started"), health(), container("committed")],
            'fallback answers at http://127.0.0.1:8000 on fallback: "Four." (It runs with fallback 1 of 1, {"port": 8001}, '
            "because of mem-free-below-budget; -e vllm_server_reset_fallbacks=true starts over.)",
            changed=True,
            variables={"vllm_server": {"fallbacks": [RUNG]}, "vllm_server_reset_fallbacks": True},
        ),
        Scenario(
            "fallback-fails",
            [
                found("fallback-fails", *STEPS),
                found("fallback-fails", *STEPS),
                SICK,
                {"failed": True, "msg": "No flag.", "reason": "invalid-flag"},
                found("fallback-fails", "stop vllm-x"),
            ],
            [PLAN, container("started"), health(), container("started"), container("stopped")],
            "vllm-fallback-fails is not healthy. It was stopped, and its container is kept for its log. Out of memory. "
            "The next fallback could not be tried: No flag.",
            failed=True,
            reason="mem-free-below-budget",
            changed=True,
            variables={"vllm_server": {"fallbacks": [RUNG]}},
        ),
        Scenario(
            "fallbacks-end",
            [
                found("fallbacks-end", *STEPS),
                found("fallbacks-end", *STEPS, fallback=FALLBACK),
                SICK,
                found("fallbacks-end", fallback={**FALLBACK, "exhausted": True}),
                found("fallbacks-end", "stop vllm-x"),
            ],
            [PLAN, container("started"), health(), container("started"), container("stopped")],
            "vllm-fallbacks-end is not healthy. It was stopped, and its container is kept for its log. Out of memory. "
            "Fallbacks tried: 1 of 1, because of mem-free-below-budget.",
            failed=True,
            reason="mem-free-below-budget",
            changed=True,
            variables={"vllm_server": {"fallbacks": [RUNG]}},
        ),
        Scenario(
            "misspelt",
            [],
            [],
            "Unknown key 'vllm_server.prot'. Did you mean port?",
            failed=True,
            reason="invalid-parameter",
            variables={"vllm_server": {"prot": 1}},
        ),
        Scenario(
            "check-deploy",
            [found("check-deploy", *STEPS), found("check-deploy", *STEPS)],
            [PLAN, PLAN],
            "Nothing was changed on check-deploy. Planned: create vllm-x; start vllm-x.",
            changed=True,
            check=True,
        ),
        Scenario(
            "check-unchanged",
            [found("check-unchanged", health=GOOD)],
            [PLAN],
            'check-unchanged answers at http://127.0.0.1:8000 on check-unchanged: "Four."',
            check=True,
        ),
        Scenario(
            "check-sick",
            [found("check-sick", health=SICK), found("check-sick"), SICK],
            [PLAN, PLAN, health(True)],
            "vllm-check-sick is not healthy. Check mode: nothing was changed. Out of memory.",
            failed=True,
            reason="mem-free-below-budget",
            check=True,
        ),
    ]


def with_caches() -> list[Scenario]:
    """A server that starts with the compile caches of another host, and fails."""
    carried, slow = {"from": "canary", "note": ""}, {**GOOD, "elapsed": 3.0}
    undone, again, end = [container("reverted"), health()], [container("started"), health()], [container("committed")]
    restored = "The previous server old is serving again at http://127.0.0.1:8000, after 5 s without an answer."
    crashed: Answer = {"failed": True, "reason": "process-crashed"}

    def scene(name: str, message: str, answers: list[Answer], calls: list[t.Any], **more: t.Any) -> Scenario:
        made = [PLAN, container("started"), health(), *calls]
        return Scenario(name, [found(name, *STEPS), *answers], made, message, changed=True, **more)

    def switched(name: str, **differs: t.Any) -> Answer:
        return found(name, *STEPS, server=server(name, superseded=True), **differs)

    def back(name: str) -> Answer:
        old = {**OLD, "container_name": f"vllm-{name}"}
        return found(name, "start old", restored=[old], server=server(name, container_id="c0"))

    def new(name: str, **caches: t.Any) -> list[Answer]:
        """Where nothing served before."""
        return [found(name, *STEPS, caches={**carried, **caches}), CRASH, found(name, "stop vllm-x")]

    rung = {"vllm_server": {"fallbacks": [{**RUNG, "causes": ["process-crashed"]}]}}
    return [
        scene(
            name := "without-caches",
            f'{name} answers at http://127.0.0.1:8000 on {name}: "Four."',
            [switched(name, caches=carried), CRASH, back(name), GOOD, switched(name), GOOD, found(name)],
            [*undone, *again, *end],
        ),
        scene(
            name := "new-without-caches",
            f'{name} answers at http://127.0.0.1:8000 on {name}: "Four."',
            [*new(name), found(name, "remove vllm-x", *STEPS), GOOD, found(name)],
            [container("stopped"), *again, *end],
        ),
        scene(
            name := "sick-without-caches",
            f"vllm-{name} is not healthy. {restored} It crashed.",
            [switched(name, caches=carried), CRASH, back(name), GOOD, switched(name), CRASH, back(name), slow],
            [*undone, *again, *undone],
            **crashed,
        ),
        scene(
            name := "not-without-caches",
            f"vllm-{name} is not healthy. {restored} It crashed. It could not be started without the compile caches of "
            "canary: Port 8000 is taken.",
            [
                *(switched(name, caches=carried), CRASH, back(name), slow),
                {"failed": True, "msg": "Port 8000 is taken.", "reason": "port-in-use"},
            ],
            [*undone, container("started")],
            **crashed,
        ),
        scene(
            name := "nothing-serves",
            f"vllm-{name} is not healthy. The previous server was restored, but it is not healthy either: Out of memory. "
            "It crashed.",
            [switched(name, caches=carried), CRASH, back(name), SICK],
            undone,
            **crashed,
        ),
        scene(
            name := "not-the-caches",
            f"vllm-{name} is not healthy. It was stopped, and its container is kept for its log. Out of memory.",
            [found(name, *STEPS, caches=carried), SICK, found(name, "stop vllm-x")],
            [container("stopped")],
            failed=True,
            reason="mem-free-below-budget",
        ),
        scene(
            name := "caches-of-its-own",
            f"vllm-{name} is not healthy. It was stopped, and its container is kept for its log. It crashed.",
            new(name, **{"from": None}),
            [container("stopped")],
            **crashed,
        ),
        scene(
            name := "before-fallbacks",
            f'{name} answers at http://127.0.0.1:8000 on {name}: "Four." (It runs with fallback 1 of 1, {{"port": 8001}}, '
            "because of mem-free-below-budget; -e vllm_server_reset_fallbacks=true starts over.)",
            [*new(name), found(name, *STEPS), CRASH, found(name, *STEPS, fallback=FALLBACK), GOOD, found(name)],
            [container("stopped"), *again, *again, *end],
            variables=rung,
        ),
    ]


def environments() -> list[Scenario]:
    """A server whose virtual environment the role builds."""

    def needing(name: str, *actions: str, **differs: t.Any) -> Answer:
        return found(name, *actions, needs=["venv"], backend="systemd", **differs)

    look, venv = service("started", True), ("vllm_venv", "present", False)
    return [
        Scenario(
            "built",
            [needing("built", *STEPS), {"changed": True}, found("built", *STEPS), GOOD, found("built")],
            [look, venv, service("started"), health(), service("committed")],
            'built answers at http://127.0.0.1:8000 on built: "Four."',
            changed=True,
            variables=BUILT,
        ),
        Scenario(
            "rebuilt",
            [needing("rebuilt", health=GOOD), {"changed": True}, found("rebuilt", *STEPS), GOOD, found("rebuilt")],
            [look, venv, service("started"), health(), service("committed")],
            'rebuilt answers at http://127.0.0.1:8000 on rebuilt: "Four."',
            changed=True,
            variables=BUILT,
        ),
        Scenario(
            "not-built",
            [needing("not-built", *STEPS), {"failed": True, "msg": "Upgrade the driver.", "reason": "driver-too-old"}],
            [look, venv],
            "Upgrade the driver.",
            failed=True,
            reason="driver-too-old",
            variables=BUILT,
        ),
        Scenario(
            "a-directory",
            [needing("a-directory", *STEPS), {"failed": True, "msg": "Make one there.", "reason": "venv-missing"}],
            [look, service("started")],
            "Make one there.",
            failed=True,
            reason="venv-missing",
            variables=UNIT,
        ),
        Scenario(
            "check-built",
            [needing("check-built", *STEPS), {"changed": True}, needing("check-built", *STEPS)],
            [look, ("vllm_venv", "present", True), look],
            "Nothing was changed on check-built. Planned: create vllm-x; start vllm-x.",
            changed=True,
            variables=BUILT,
            check=True,
        ),
    ]


def weights() -> list[Scenario]:
    """A server whose weights are missing, on hosts that have settings for role model_cache, or for another cache."""

    def needing(name: str, *actions: str) -> Answer:
        return found(name, *actions, needs=["weights"])

    def variables(name: str, cache: str = "") -> Answer:
        drafting = {"engine": {"revision": "v2", "speculative_config": {"model": "a/draft"}}}
        return {
            "vllm_server": {"huggingface_dir": f"/srv/{name}", **drafting},
            "model_cache": {"huggingface_dir": f"/srv/{cache or name}", "endpoint": "http://hub", "models": []},
        }

    stage, two = ("model_cache", "", False), [{"changed": True}, {"changed": True}]
    return [
        Scenario(
            "staged",
            [needing("staged", *STEPS), *two, found("staged", *STEPS), GOOD, found("staged")],
            [PLAN, stage, stage, container("started"), health(), container("committed")],
            'staged answers at http://127.0.0.1:8000 on staged: "Four."',
            changed=True,
            variables=variables("staged"),
        ),
        Scenario(
            "image-staged",
            [
                found("image-staged", "pull i:1 (it is not on the host)", *STEPS),
                {"changed": True},
                found("image-staged", *STEPS),
                GOOD,
                found("image-staged"),
            ],
            [PLAN, ("model_cache_image", "", False), container("started"), health(), container("committed")],
            'image-staged answers at http://127.0.0.1:8000 on image-staged: "Four."',
            changed=True,
            variables={
                "vllm_server": {"huggingface_dir": "/srv/image-staged"},
                "model_cache": {
                    "huggingface_dir": "/srv/image-staged",
                    "models": [{"model": "x/y"}],
                    "images": ["h:1", "i:1"],
                },
            },
        ),
        Scenario(
            "not-staged",
            [
                needing("not-staged", *STEPS),
                {"failed": True, "msg": "No such model.", "reason": "download-failed"},
                two[1],
            ],
            [PLAN, stage, stage],
            "No such model.",
            failed=True,
            reason="download-failed",
            variables=variables("not-staged"),
        ),
        Scenario(
            "another-cache",
            [needing("another-cache", *STEPS), needing("another-cache", *STEPS), GOOD, found("another-cache")],
            [PLAN, container("started"), health(), container("committed")],
            'another-cache answers at http://127.0.0.1:8000 on another-cache: "Four."',
            changed=True,
            variables=variables("another-cache", "elsewhere"),
        ),
    ]


SCENARIOS = [*scenarios(), *with_caches(), *environments(), *weights()]


@dataclass(frozen=True)
class Seen:
    result: dict[str, t.Any]
    calls: list[dict[str, t.Any]]
    output: str


@pytest.fixture(name="seen", scope="module")
def _seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Seen]:
    path = tmp_path_factory.mktemp("role")
    copy = path / "ansible_collections" / "gpufleet" / "vllm"
    for part in ("plugins", "roles", "meta"):
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "playbooks" / "models", copy / "playbooks" / "models")
    shutil.copy(ROOT / "galaxy.yml", copy)
    for module in ("vllm_container", "vllm_service", "vllm_health", "vllm_venv", *STAGING, "gpu_facts"):
        (copy / "plugins" / "modules" / f"{module}.py").write_text(STAND_IN.replace("MODULE", module))
    outputs = {check: run(path, [one for one in SCENARIOS if one.check is check], check) for check in (False, True)}
    seen = {}
    for one in SCENARIOS:
        calls = path / one.name / "calls"
        seen[one.name] = Seen(
            json.loads((path / one.name / "result").read_text()),
            [json.loads(line) for line in calls.read_text().splitlines()] if calls.exists() else [],
            outputs[one.check],
        )
    return seen


def run(path: Path, hosts: list[Scenario], check: bool) -> str:
    """One play over all of them."""
    inventory: dict[str, t.Any] = {}
    for one in hosts:
        (path / one.name).mkdir()
        (path / one.name / "answers").write_text(json.dumps(one.answers))
        described = {"name": one.name, "model": "a/b", "image": "i:1", **one.variables.get("vllm_server", {})}
        inventory[one.name] = {**one.variables, "vllm_server": described, "vllm_server_hf_token": "CANARY"}
    (path / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": inventory}}))
    (path / "ansible.cfg").touch()
    # As a playbook of the collection and as a user's own: without and with the validation by the role.
    (path / "play.yml").write_text(PLAYBOOK.replace("VALIDATE", str(check).lower()))
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(path),
        "ANSIBLE_CONFIG": str(path / "ansible.cfg"),
        "ANSIBLE_FORKS": "4",
        "ANSIBLE_LOCAL_TEMP": str(path / "local"),
        "ANSIBLE_REMOTE_TEMP": str(path / "remote"),
        "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        "STAND_IN": str(path),
    }
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "hosts.yml", "play.yml"]
    command += ["--check"] if check else []
    done = subprocess.run(command, cwd=path, env=environment, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[one.name for one in SCENARIOS])
def test_a_run_makes_these_calls_and_leaves_this_result(scenario: Scenario, seen: dict[str, Seen]) -> None:
    result, calls = seen[scenario.name].result, seen[scenario.name].calls
    made = [(call["module"], call.get("state", ""), call["_ansible_check_mode"]) for call in calls]
    assert made == scenario.calls, seen[scenario.name].output
    assert result["message"] == scenario.message
    assert (result["failed"], result["reason"], result["changed"]) == (
        scenario.failed,
        scenario.reason,
        scenario.changed,
    )


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[one.name for one in SCENARIOS])
def test_the_result_has_the_same_keys_of_the_same_types_however_a_run_ends(
    scenario: Scenario, seen: dict[str, Seen]
) -> None:
    result = seen[scenario.name].result
    assert {key: type(result.get(key)) for key in PUBLIC} == {key: type(default) for key, default in PUBLIC.items()}
    assert set(DETAILS) <= set(result)


def test_the_steps_of_a_run_speak_of_the_same_container(seen: dict[str, Seen]) -> None:
    for name in ("deploy", "rolled-back", "fallback", "sick-new"):
        _plan, apply, wait, *later = seen[name].calls
        assert (apply.get("container_id"), wait["lock"]) == (None, "c1")
        tokens = [one.get("lock") or one.get("container_id") for one in later if one.get("container") != "vllm-old"]
        assert set(tokens) - {None} == {"c1"}
    assert "lock" not in seen["check-sick"].calls[2]


def test_an_id_that_is_asked_for_is_in_every_call_that_changes(seen: dict[str, Seen]) -> None:
    assert [call["container_id"] for call in seen["committed-later"].calls] == ["c1", "c1"]


def test_a_wait_names_the_unit_or_the_container_that_it_is_for(seen: dict[str, Seen]) -> None:
    waits = [one for one in seen["service-undone"].calls if one["module"] == "vllm_health"]
    named = [{key: one[key] for key in ("unit", "container") if key in one} for one in waits]
    name = "vllm-service-undone"
    assert named == [{"unit": name}, {"unit": name}, {"container": name}]


def test_the_server_is_asked_in_the_look_and_its_version_is_found_out_once(seen: dict[str, Seen]) -> None:
    plan, apply, *_rest = seen["deploy"].calls
    assert (plan["health"], "vllm_version" in plan) == ({}, False)
    assert ("health" in apply, apply["vllm_version"]) == (False, "0.26.0")
    assert "vllm_version" not in seen["newer-image"].calls[1]


def test_the_next_fallback_is_asked_for_by_the_diagnosis(seen: dict[str, Seen]) -> None:
    plan, _apply, _wait, rung, *_rest = seen["fallback"].calls
    assert (plan["reset_fallbacks"], rung.get("reset_fallbacks")) == (True, None)
    assert (rung["failure_id"], rung["container_id"]) == ("mem-free-below-budget", "c1")
    assert "vllm_version" not in rung


@pytest.mark.parametrize(("name", "there"), [("without-caches", "c0"), ("new-without-caches", "c1")])
def test_a_server_that_starts_once_more_has_no_caches_and_says_why(
    name: str, there: str, seen: dict[str, Seen]
) -> None:
    again = [call for call in seen[name].calls if call.get("state") == "started"][-1]
    assert (again["container_id"], again.get("caches"), again.get("failure_id")) == (there, None, None)
    assert seen[name].result["caches"] == {
        "from": None,
        "note": "A start with those of canary failed, so it was started once more without them. A process of the server crashed.",
    }


def test_caches_are_suspected_of_failures_that_there_are() -> None:
    suspected = yaml.safe_load((ROOT / "roles/vllm_server/vars/main.yml").read_text())[
        "__vllm_server_failures_of_caches"
    ]
    assert {*suspected} <= {*BY_ID, *REMEDIES, "stalled"}
    assert suspected == sorted(suspected)


def test_an_environment_is_built_as_the_server_describes_it_and_for_that_server(seen: dict[str, Seen]) -> None:
    asked = seen["built"].calls[1]
    assert {key: asked[key] for key in ("packages", "wheelhouse", "server")} == {
        "packages": ["vllm==0.26.0"],
        "wheelhouse": "/w",
        "server": "vllm-built",
    }


def test_a_wish_for_gpus_is_only_handed_to_a_start(seen: dict[str, Seen]) -> None:
    assert not any("gpus" in call for call in seen["absent"].calls)


def test_no_task_reads_what_is_not_there(seen: dict[str, Seen]) -> None:
    for name in ("unchanged", "check-sick"):
        assert "undefined" not in seen[name].output
        assert "DEPRECATION" not in seen[name].output
    assert not any("CANARY" in one.output for one in seen.values())


def test_the_models_of_the_server_are_staged_as_the_host_says(seen: dict[str, Seen]) -> None:
    asked = [call for call in seen["staged"].calls if call["module"] == "model_cache"]
    assert [(one["model"], one["revision"]) for one in asked] == [("a/b", "v2"), ("a/draft", "main")]
    assert {(one["huggingface_dir"], one["endpoint"]) for one in asked} == {("/srv/staged", "http://hub")}
