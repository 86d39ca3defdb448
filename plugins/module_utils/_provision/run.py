# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The way from a bare host to one that is fit to serve: look, plan, do the first step, look again.

A host that is fit costs one look. No step is remembered: what is left is always decided from the host, so a run that
was killed at any point is finished by the next one.
"""

from __future__ import annotations

import os
import typing as t
from dataclasses import dataclass, field, fields, replace

from .._errors import VllmError
from .._gpu.probe import Host
from .._host.lock import alone
from . import look
from .act import Actor
from .facts import Facts, Wish
from .plan import Plan, Reboot, Step, plan, userland_version

Params = t.Mapping[str, t.Any]

PARAMETERS: dict[str, dict[str, t.Any]] = {
    "branch": {"type": "str", "default": Wish.branch},
    "version": {"type": "str"},
    "origin": {"type": "str", "choices": ["auto", "ubuntu", "nvidia"], "default": "auto"},
    "open_modules": {"type": "bool", "default": True},
    "kernel_modules": {"type": "str", "choices": ["auto", "prebuilt", "dkms"], "default": "auto"},
    "toolkit_version": {"type": "str"},
    "docker": {"type": "str", "choices": ["auto", "distribution", "docker", "none"], "default": "auto"},
    "cgroup_driver": {"type": "str", "choices": ["leave", "cgroupfs", "systemd"], "default": "leave"},
    "unattended_upgrades": {"type": "str", "choices": ["block", "leave"], "default": "block"},
    "restart_docker": {"type": "bool", "default": False},
    "verify_only": {"type": "bool", "default": False},
    "protect_memory": {"type": "bool", "default": False},
    "repositories": {
        "type": "dict",
        "options": {
            name: {
                "type": "dict",
                "options": {"url": {"type": "str"}, "key": {"type": "str", "no_log": False}, "suite": {"type": "str"}},
            }
            for name in ("cuda", "toolkit", "docker")
        },
    },
    "proxy": {"type": "str"},
    "ca_bundle": {"type": "path"},
    "proof_image": {"type": "str"},
    "timeout": {"type": "int", "default": 1800},
}
# More than any host needs.
MOST_STEPS = 40


@dataclass(frozen=True)
class Machine:
    """The host as a run meets it. Tests hand in another one."""

    look: t.Callable[[Wish], Facts]
    actor: t.Callable[[Wish, str, float], Actor] = Actor
    is_root: t.Callable[[], bool] = field(default=lambda: os.geteuid() == 0)


def this_machine() -> Machine:
    """The host that this runs on."""
    kernel = os.uname()
    return Machine(lambda wish: look.look(Host(), wish, kernel.release, kernel.machine))


def wish_of(params: Params) -> Wish:
    """The options of the module as a wish."""
    given = {one.name: params.get(one.name) for one in fields(Wish)}
    named = {key: {k: v for k, v in value.items() if v is not None} for key, value in _repositories(params)}
    return Wish(**{**{key: value for key, value in given.items() if value is not None}, "repositories": named})


def _repositories(params: Params) -> list[tuple[str, Params]]:
    return [(key, value) for key, value in (params.get("repositories") or {}).items() if value]


def run(params: Params, check_mode: bool, machine: Machine) -> dict[str, t.Any]:
    """Look and plan, and do it unless this is check mode.

    Raises:
        VllmError: when it cannot be done, with what to change; C(actions) are the steps that were.
    """
    wish = wish_of(params)
    facts = machine.look(wish)
    found = plan(wish, facts)
    steps = list(found.steps)
    reboot = found.reboot_after
    proof: tuple[bool | None, str] | None = None
    if steps and not check_mode:
        if not machine.is_root():
            raise VllmError(f"Cannot {steps[0].words()}: that takes root. Run with become: true.", "permission-denied")
        actor = machine.actor(wish, facts.system.manager if facts.system else "apt", params["timeout"])
        with alone("gpu-host", doing="is provisioning this host", patience=params["timeout"]):
            steps, facts, found = _carried_out(wish, machine, actor)
        reboot = found.reboot
        if not reboot.reasons and wish.docker != "none":
            proof = actor.prove()
            if proof[0] is False:
                found = replace(found, deviations=(*found.deviations, proof[1]))
    return _result(facts, found, steps, reboot, proof)


def _carried_out(wish: Wish, machine: Machine, actor: Actor) -> tuple[list[Step], Facts, Plan]:
    """The first step of what is left, until nothing is."""
    done: list[Step] = []
    try:
        while True:
            facts = machine.look(wish)
            found = plan(wish, facts)
            if not found.steps:
                return done, facts, found
            step = found.steps[0]
            if done[-1:] == [step] or len(done) > MOST_STEPS:
                raise VllmError(
                    f"This run did '{step.words()}', and the host looks as if it had not. Look at it by hand: "
                    "something else may be changing this host, such as unattended upgrades.",
                    "install-failed",
                )
            _do(actor, step, userland_version(facts))
            done.append(step)
    except VllmError as error:
        error.actions = [one.words() for one in done]  # type: ignore[attr-defined]
        raise


def _do(actor: Actor, step: Step, before: str) -> None:
    try:
        actor.do(step)
    except VllmError as error:
        if step.remove and before:
            branch = before.partition(".")[0]
            error.args = (
                f"{error} To go back to what was there, run this with branch: {branch} and version: {before}.",
            )
        raise


def _result(
    facts: Facts,
    found: Plan,
    steps: t.Sequence[Step],
    reboot: Reboot,
    proof: tuple[bool | None, str] | None,
) -> dict[str, t.Any]:
    lines = [step.words() for step in steps]
    return {
        "changed": bool(steps),
        "actions": lines,
        "fit": found.is_fit,
        "deviations": list(found.deviations),
        "reboot": {
            "required": bool(reboot.reasons),
            "reasons": list(reboot.reasons),
            "blocked_by": list(reboot.blockers),
        },
        "proof": {"proven": proof[0], "message": proof[1]} if proof else None,
        "host": _described(facts),
        "message": summary(facts, found, lines, reboot, proof[1] if proof else ""),
        "diff": {"prepared": "".join(f"{line}\n" for line in lines)},
        "warnings": list(found.warnings),
    }


def _described(facts: Facts) -> dict[str, t.Any]:
    gpus = facts.gpus
    return {
        "os": facts.os_name,
        "kernel": facts.kernel,
        "secure_boot": facts.secure_boot,
        "hardware_class": gpus.hardware,
        "gpus": gpus.count,
        "driver_loaded": gpus.loaded or None,
        "driver_installed": userland_version(facts) or None,
        "fabric_manager_version": gpus.fabric_version or None,
        "toolkit_version": facts.installed("nvidia-container-toolkit") or None,
        "docker_version": facts.docker.version or None,
    }


def summary(facts: Facts, found: Plan, actions: t.Sequence[str], reboot: Reboot, proof: str = "") -> str:
    """The host in one sentence."""
    if reboot.reasons and not (actions and found.steps):
        held = f", once these processes have ended:  {', '.join(reboot.blockers)}" if reboot.blockers else ""
        return f"Reboot needed ({'; '.join(reboot.reasons)}){held}."
    if found.steps:
        later = f", then a reboot ({'; '.join(reboot.reasons)})" if reboot.reasons else ""
        return f"Not fit to serve yet: {len(actions)} steps would be done{later}."
    if found.deviations:
        return f"Not fit to serve: {' '.join(found.deviations)}"
    proven = f" {proof}" if proof else ""
    docker = f", Docker {facts.docker.version}" if facts.docker.version else ""
    return f"Fit to serve: {facts.gpus.count} GPUs ({facts.gpus.hardware}), driver {facts.gpus.loaded}{docker}.{proven}"
