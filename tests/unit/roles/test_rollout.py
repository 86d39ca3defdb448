# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Playbook rollout, run by ansible-playbook over hosts that are a file each: what serves there, and what goes wrong."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import typing as t
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
# In place of the modules: a host is a file that says what it serves and what it kept, and what is to go wrong.
STAND_IN = """#!/usr/bin/python
# WANT_JSON
import hashlib, json, os, sys

with open(sys.argv[1]) as stream:
    asked = json.load(stream)
name = asked.get("name") or (asked.get("container") or asked["container_name"])[5:]
path = os.path.join(os.environ["STAND_IN"], name + ".json")
with open(path) as stream:
    host = json.load(stream)
state, looks = asked.get("state", "MODULE"), asked.get("_ansible_check_mode")
faults, image = host["faults"], asked.get("image")


def leave(**result):
    host["calls"].append(("look " if looks else "") + state + " ".join(sorted(asked.get("learned", {}))))
    if not looks:
        with open(path, "w") as stream:
            json.dump(host, stream)
    print(json.dumps(result))
    sys.exit()


def health():
    good = not (host["serves"] and host["serves"] in faults) and not (host.get("carried") and "allergic" in faults)
    if state == "vllm_health" and "later " + str(host["serves"]) in faults:
        host["checks"] = host.get("checks", 0) + 1
        good = host["checks"] < 2
    failed = "compile-cache" if host.get("carried") else "cuda-oom"
    failure = {} if good else {"failed": True, "msg": "Out of memory.", "reason": failed,
                               "diagnosis": {"id": failed, "cause": "Out of memory.", "remedy": "Buy some."}}
    return {"healthy": good, "checks": [{"name": "completion", "detail": "Hi."}], "elapsed": 7.0,
            "phases": [{"name": "load", "seconds": 5.0}], "tokens_per_second": host.get("rate", 90.0), **failure}


if state == "vllm_health":
    leave(**health())
if state == "vllm_caches":
    content = b"compiled by " + name.encode()
    if "writes" in faults:
        leave(failed=True, msg="It still writes.")
    with open(asked["archive"], "wb") as stream:
        stream.write(content)
    broken = b"!" * ("torn" in faults)
    leave(sha256=hashlib.sha256(content + broken).hexdigest(), size=len(content + broken), settings="s", processor="p")
if state == "started" and looks and "refused" in faults:
    leave(failed=True, msg="Port 8000 is taken.", reason="port-in-use")
actions = []
before = host["serves"]
if state == "started" and host["serves"] != image:
    actions = ["stop vllm-" + name] * bool(before) + ["create vllm-" + name, "start vllm-" + name]
elif state == "committed" and host["kept"] is not None:
    actions = ["remove vllm-" + name + "-superseded"]
elif state == "reverted" and host["kept"] is not None:
    actions = ["start vllm-" + name]
elif state in ("stopped", "absent") and host["serves"]:
    actions = ["stop vllm-" + name]
if not looks:
    if state == "started" and actions:
        host.update(serves=image, kept=before, starts=host.get("starts", 0) + 1, carried=bool(asked.get("caches")))
    elif state == "committed":
        host["kept"] = None
    elif state == "reverted" and actions:
        host.update(serves=host["kept"], kept=None, carried=False)
    elif state in ("stopped", "absent"):
        host["serves"] = None
server = {
    "container_name": "vllm-" + name, "container_id": "c" + str(host["serves"]), "backend": "container",
    "state": "running" if host["serves"] else "absent", "url": "http://127.0.0.1:8000", "image": host["serves"],
    "served_model_name": "m", "superseded": host["kept"] is not None, "away_seconds": 2.0 if before else None,
    "started_at": str(host.get("starts", 0) + ("restarts" in faults and state == "started" and bool(looks) and host["serves"] == "i:2")),
}
restored = [server] if state == "reverted" and actions else []
learned = {key: {"kv_gib": 1.0} for key in ("from " + name, "same")} if state == "committed" else {}
wants = state == "started" and looks and not actions and "health" in asked
busy = "Another run is changing vllm-" + name if looks and "locked" in faults else ""
caches = None
if asked.get("caches"):
    with open(asked["caches"]["archive"], "rb") as stream:
        content = stream.read()
    caches = {"from": content.decode()[12:], "note": ""}
    assert asked["caches"] == {"host": caches["from"], "archive": asked["caches"]["archive"], "settings": "s", "processor": "p",
                               "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
leave(changed=bool(actions), busy=busy, actions=actions, server=server, restored=restored, learned=learned, needs=[], vllm_version="0.26.0", caches=caches,
      measured_on=asked.get("learned", {}).get("same", {}).get("host"),
      health=health() if wants and host["serves"] else None,
      diff={"before": {"state": "started" if before else "absent", "image": before}, "after": {"image": image}})
"""
FACTS = """#!/usr/bin/python
# WANT_JSON
print('{"ansible_facts": {"gpufleet": {"status": "ok", "gpus": [], "servers": []}}}')
"""
OLD, NEW = "i:1", "i:2"


@dataclass(frozen=True)
class Fleet:
    """A run, or several in turn: what goes wrong on which host, and what serves where afterwards."""

    name: str
    serves: dict[str, str | None]
    message: str
    rc: int = 0
    faults: dict[str, list[str]] = field(default_factory=dict)
    before: dict[str, str | None] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    settings: dict[str, t.Any] = field(default_factory=dict)
    statuses: dict[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    # Which hosts were drained and which undrained, in turn.
    hooks: tuple[str, str] | None = None
    # What the report says of some.
    why: dict[str, str] = field(default_factory=dict)


ALL_OLD: dict[str, str | None] = dict.fromkeys("abcdef", OLD)
ALL_NEW: dict[str, str | None] = dict.fromkeys("abcdef", NEW)
FLEETS = [
    Fleet(
        "everything is well",
        ALL_NEW,
        "The rollout is complete. 6 hosts: 6 changed.",
        statuses=dict.fromkeys("abcdef", "changed"),
        hooks=("adbcef", "adbcef"),
    ),
    Fleet(
        "refusals touch nothing",
        ALL_OLD,
        "3 of 6 hosts cannot be changed: b, c, e. No host may fail (vllm_rollout.max_failures). Nothing was changed on any host.",
        rc=2,
        faults={"b": ["refused"], "c": ["locked"], "e": ["down"]},
        statuses={"a": "not reached", "b": "refused", "c": "refused", "e": "unreachable"},
    ),
    Fleet(
        "a canary fails",
        ALL_OLD,
        "Canaries: 1 of 2 hosts failed (a). A canary may not fail: the rollout stops, and no other host is changed. 6 hosts: "
        "1 failed, 1 put back, 4 not reached. Run the same command again once the cause is gone.",
        rc=2,
        faults={"a": [NEW]},
        settings={"max_failures": "50%"},
        statuses={"a": "failed", "d": "put back", "b": "not reached"},
        # The one that failed is put back while it is drained, the other one is drained for it once more.
        hooks=("add", "add"),
    ),
    Fleet(
        "a host cannot be drained",
        ALL_OLD,
        "Canaries: 2 of 2 hosts failed (a, d). A canary may not fail: the rollout stops, and no other host is changed. 6 hosts: "
        "2 failed, 4 not reached. Run the same command again once the cause is gone.",
        rc=2,
        settings={"drain_command": ["sh", "-c", "echo No backend >&2; exit 3"]},
        statuses={"a": "failed", "d": "failed", "b": "not reached"},
        why={
            "a": "Its server was not changed, since the drain failed: sh -c 'echo No backend >&2; exit 3' ended with exit "
            "status 3: No backend"
        },
    ),
    Fleet(
        "a wave fails during its soak",
        {**ALL_OLD, "a": NEW, "d": NEW, "b": NEW},
        "Wave 2 of 2: 1 of 3 hosts failed (e). No host may fail (vllm_rollout.max_failures). The rollout stops, and no "
        "further host is changed. 6 hosts: 1 failed, 2 put back, 3 changed. Run the same command again once the cause is gone.",
        rc=2,
        faults={"e": [f"later {NEW}"]},
        settings={"waves": [1, 3]},
        statuses={"e": "failed", "c": "put back", "b": "changed"},
    ),
    Fleet(
        "a host is lost in the middle",
        {**ALL_OLD, "a": NEW, "d": NEW},
        "Wave 1 of 2: 1 of 2 hosts failed (b). No host may fail (vllm_rollout.max_failures). The rollout stops, and no "
        "further host is changed. 6 hosts: 1 failed, 1 put back, 2 not reached, 2 changed. Run the same command again once the "
        "cause is gone.",
        rc=2,
        faults={"b": ["lost"]},
        settings={"waves": 2},
        statuses={"b": "failed", "c": "put back", "e": "not reached"},
    ),
    Fleet(
        "the whole fleet is put back",
        ALL_OLD,
        "Wave 2 of 2: 1 of 3 hosts failed (f). No host may fail (vllm_rollout.max_failures). The rollout stops, and no "
        "further host is changed. 6 hosts: 1 failed, 5 put back. Run the same command again once the cause is gone.",
        rc=2,
        faults={"f": ["restarts"]},
        settings={"waves": [1, 3], "put_back": "fleet"},
        statuses={"f": "failed", "a": "put back", "b": "put back"},
    ),
    Fleet(
        "the whole fleet is committed at the end",
        ALL_NEW,
        "The rollout is complete. 6 hosts: 6 changed.",
        settings={"put_back": "fleet", "canaries": ["h100"]},
        before={**ALL_OLD, "c": None},
    ),
    Fleet(
        "one that is too slow is put back alone",
        {**ALL_NEW, "c": OLD},
        "The rollout is complete, except for what failed. 6 hosts: 1 failed, 5 changed.",
        rc=2,
        faults={"c": ["slow"]},
        settings={"min_tokens_per_second": 50, "max_failures": 1},
        statuses={"c": "failed"},
    ),
    Fleet(
        "a host that served nothing serves nothing again",
        {**ALL_OLD, "a": None},
        "Canaries: 1 of 1 host failed (a). A canary may not fail: the rollout stops, and no other host is changed. 6 hosts: "
        "1 failed, 5 not reached. Run the same command again once the cause is gone.",
        rc=2,
        before={**ALL_OLD, "a": None},
        faults={"a": [f"later {NEW}"]},
        settings={"canaries": "a"},
    ),
    Fleet(
        "a run that was killed is finished first",
        ALL_NEW,
        "The rollout is complete. 6 hosts: 4 changed, 2 unchanged.",
        before={**ALL_OLD, "a": NEW, "b": NEW, "d": NEW},
        kept={"b": OLD},
        statuses={"a": "unchanged", "b": "changed", "d": "unchanged"},
    ),
    Fleet(
        "check mode shows the waves",
        ALL_OLD,
        "6 of 6 hosts are to be changed: canaries (2), wave 1 of 3 (1), wave 2 of 3 (1), wave 3 of 3 (2).",
        statuses=dict.fromkeys("abcdef", "to be changed"),
        arguments=("--check",),
    ),
]


@dataclass(frozen=True)
class Seen:
    output: str
    rc: int
    hosts: dict[str, t.Any]
    report: dict[str, t.Any]
    path: Path


@pytest.fixture(name="collections", scope="module")
def _collections(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("collections")
    copy = path / "ansible_collections" / "gpufleet" / "vllm"
    for part in ("plugins", "roles", "meta", "playbooks"):
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "galaxy.yml", copy)
    for module in ("vllm_container", "vllm_health", "vllm_caches"):
        (copy / "plugins" / "modules" / f"{module}.py").write_text(STAND_IN.replace("MODULE", module))
    (copy / "plugins" / "modules" / "gpu_facts.py").write_text(FACTS)
    return path


def run(collections: Path, path: Path, fleet: Fleet, playbook: str = "gpufleet.vllm.rollout") -> Seen:
    hosts: dict[str, t.Any] = {}
    for name, serves in (fleet.before or ALL_OLD).items():
        faults = fleet.faults.get(name, [])
        state = {"serves": serves, "kept": fleet.kept.get(name), "faults": faults, "calls": []}
        (path / f"{name}.json").write_text(json.dumps({**state, **({"rate": 3.0} if "slow" in faults else {})}))
        if "stuck" in faults:
            # It can be drained once.
            (path / f"stuck-{name}").touch()
        # Nobody listens there; of one that is lost, once it was drained.
        lost = f"{{{{ 'ssh' if '{path}/drained-{name}' is exists else 'local' }}}}"
        down = {
            "ansible_connection": lost if "lost" in faults else "ssh",
            "ansible_host": "127.0.0.1",
            "ansible_port": 1,
        }
        hosts[name] = {"vllm_overrides": {"name": name}, **(down if {"down", "lost"} & {*faults} else {})}
    groups = {"gb10": dict.fromkeys(set("abc") & set(hosts)), "h100": dict.fromkeys(set("def") & set(hosts))}
    # They are a quarter of the work of a run, so only those that are about them have them.
    drain = (
        f"test ! -e {path}/stuck-$1 -o ! -e {path}/drained-$1 && echo $1 >>{path}/drained && touch {path}/drained-$1"
    )
    fails_drained = any({"lost", "stuck"} & {*faults} for faults in fleet.faults.values())
    hooks = {"drain_command": ["sh", "-c", drain, "sh", "{{ inventory_hostname }}"], "undrain_tasks": "undrain.yml"}
    variables = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "vllm_model": "x",
        "vllm_backend": "container",
        "vllm_models": {"x": MODEL},
        "vllm_report": "report",
        "vllm_rollout": {"soak": 0, **(hooks if fleet.hooks or fails_drained else {}), **fleet.settings},
    }
    inventory = {"all": {"hosts": hosts, "vars": variables, "children": {k: {"hosts": v} for k, v in groups.items()}}}
    (path / "hosts.yml").write_text(yaml.safe_dump(inventory))
    (path / "undrain.yml").write_text(
        f"- ansible.builtin.shell: echo {{{{ inventory_hostname }}}} >>{path}/undrained\n  delegate_to: localhost\n"
    )
    (path / "ansible.cfg").touch()
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(collections),
        "ANSIBLE_CONFIG": str(path / "ansible.cfg"),
        "ANSIBLE_FORKS": "4",
        "ANSIBLE_LOCAL_TEMP": str(path / "local"),
        "ANSIBLE_REMOTE_TEMP": str(path / "remote"),
        "STAND_IN": str(path),
        "PWD": str(path),
    }
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "hosts.yml", playbook]
    done = subprocess.run(
        [*command, *fleet.arguments], cwd=path, env=environment, capture_output=True, text=True, check=False
    )
    report = path / "report.json"
    return Seen(
        done.stdout + done.stderr,
        done.returncode,
        {name: json.loads((path / f"{name}.json").read_text()) for name in hosts},
        json.loads(report.read_text()) if report.exists() else {},
        path,
    )


MODEL = {
    "description": "X.", "server": {"name": "x", "model": "a/b", "image": NEW, "served_model_name": "m"},
    "hardware": {"gb10": {}, "h100": {}},
}  # fmt: skip


@pytest.mark.parametrize("fleet", FLEETS, ids=[one.name for one in FLEETS])
def test_a_rollout(fleet: Fleet, collections: Path, tmp_path: Path) -> None:
    seen = run(collections, tmp_path, fleet)
    assert seen.rc == fleet.rc, seen.output
    assert {name: host["serves"] for name, host in seen.hosts.items()} == fleet.serves, seen.output
    if fleet.message:
        assert seen.report["message"] == fleet.message
    statuses = {row["host"]: row["status"] for row in seen.report.get("rows", ())}
    assert {name: statuses.get(name) for name in fleet.statuses} == fleet.statuses
    messages = {row["host"]: row["message"] for row in seen.report.get("rows", ())}
    assert {name: messages.get(name) for name in fleet.why} == fleet.why
    # A host that was lost has no result to go on with.
    assert not re.search("undefined|has no attribute", seen.output), seen.output
    # Nothing is left half done, but where somebody has to look.
    assert [name for name, host in seen.hosts.items() if host["kept"] is not None] == []
    if fleet.hooks:
        drained, undrained = ((tmp_path / name).read_text().split() for name in ("drained", "undrained"))
        assert (sorted(drained), sorted(undrained)) == (sorted(fleet.hooks[0]), sorted(fleet.hooks[1]))


def test_a_host_that_cannot_be_drained_again_is_not_put_back(collections: Path, tmp_path: Path) -> None:
    fleet = Fleet("", {}, "", before={"a": OLD, "d": OLD}, faults={"a": [NEW], "d": ["stuck"]})
    seen = run(collections, tmp_path, fleet)
    assert seen.rc == 2 and {name: host["serves"] for name, host in seen.hosts.items()} == {"a": OLD, "d": NEW}
    rows = {row["host"]: (row["status"], row["message"]) for row in seen.report["rows"]}
    status, message = rows["d"]
    assert (status, message[:48]) == ("failed", "It was not restored, since the drain failed: sh "), seen.output


def test_later_waves_know_what_the_starts_of_earlier_ones_measured(collections: Path, tmp_path: Path) -> None:
    fleet = Fleet("", {}, "", before={"a": OLD, "b": OLD, "c": OLD}, settings={"waves": 1})
    seen = run(collections, tmp_path, fleet)
    assert seen.rc == 0, seen.output
    starts = [[call for call in host["calls"] if call.startswith("started")] for host in seen.hosts.values()]
    assert starts == [["started"], ["startedfrom a same"], ["startedfrom a from b same"]]
    rows = {row["host"]: row["measured_on"] for row in seen.report["rows"]}
    assert rows == {"a": "", "b": "a", "c": "a"}


AGAIN = "A start with those of a failed, so it was started once more without them. Out of memory."


@pytest.mark.parametrize(
    ("differs", "caches", "packs"),
    [
        pytest.param({}, ["", "a", "a"], ["a"], id="the canary's"),
        pytest.param({"settings": {"waves": 1, "carry_caches": False}}, ["", "", ""], [], id="switched off"),
        pytest.param(
            {"faults": {"a": ["writes"]}},
            ["", *["none: Those of a could not be packed: It still writes."] * 2],
            ["a"],
            id="they cannot be packed",
        ),
        pytest.param(
            {"faults": {"a": ["torn"]}},
            ["", *["none: Those of a could not be packed: The archive of a, 14 bytes with sha256"] * 2],
            ["a"],
            id="they arrive broken",
        ),
        pytest.param(
            {"faults": {"b": ["allergic"]}},
            ["", f"none: {AGAIN}", "a"],
            ["a"],
            id="a start fails with them, and one without them does not",
        ),
        pytest.param(
            {"faults": {"b": ["allergic"]}, "before": {"a": OLD, "b": None, "c": OLD}},
            ["", f"none: {AGAIN}", "a"],
            ["a"],
            id="the same on a host that served nothing",
        ),
    ],
)
def test_later_waves_start_with_what_earlier_ones_compiled(
    differs: dict[str, t.Any], caches: list[str], packs: list[str], collections: Path, tmp_path: Path
) -> None:
    fleet = Fleet("", {}, "", **{"before": {"a": OLD, "b": OLD, "c": OLD}, "settings": {"waves": 1}, **differs})
    seen = run(collections, tmp_path, fleet)
    assert seen.rc == 0, seen.output
    rows = {row["host"]: row["caches"] for row in seen.report["rows"]}
    assert [rows[name][: len(said)] if said else rows[name] for name, said in zip(fleet.before, caches)] == caches
    assert [name for name, host in seen.hosts.items() if "vllm_caches" in host["calls"]] == packs
    # Archives go with the run, from the controller and from the hosts.
    assert list(tmp_path.rglob("caches.tar.gz")) == []


def test_status_shows_what_differs_and_teardown_takes_the_server_of_a_model(collections: Path, tmp_path: Path) -> None:
    fleet = Fleet("", {}, "", before={"a": NEW, "b": OLD, "c": NEW}, faults={"c": ["down"]})
    seen = run(collections, tmp_path, fleet, "gpufleet.vllm.status")
    assert seen.rc == 0, seen.output
    statuses = {row["host"]: (row["status"], row["message"]) for row in seen.report["rows"]}
    assert statuses["a"] == ("serving", "m answers at http://127.0.0.1:8000 on a: Hi.")
    assert statuses["b"] == ("drifted", "It differs from what is wanted: image: i:1 -> i:2.")
    assert statuses["c"][0] == "unreachable"
    assert seen.report["hosts"]["a"] == {"status": "ok", "gpus": [], "servers": []}
    seen = run(
        collections,
        tmp_path,
        Fleet("", {}, "", before={"a": NEW}, arguments=("-e", "model=x")),
        "gpufleet.vllm.teardown",
    )
    assert (seen.rc, seen.hosts["a"]["serves"], seen.hosts["a"]["calls"]) == (0, None, ["absent"]), seen.output
    assert re.search(r'"msg": \[\s+"stop vllm-a"', seen.output), seen.output
