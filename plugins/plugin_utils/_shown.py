# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What would run a server, for those who want to do so without this collection: a command, a compose file, a unit."""

from __future__ import annotations

import shlex
import typing as t

import yaml

Spec = dict[str, t.Any]

# Labels of the collection, by which nothing but it decides anything: a container of one's own has none of them.
OURS = "gpufleet.vllm."
# What a flag of C(docker create) is in a compose file: a key with one value, or one with a list.
VALUES = {
    "--ipc": "ipc",
    "--shm-size": "shm_size",
    "--hostname": "hostname",
    "--restart": "restart",
    "--entrypoint": "entrypoint",
}
LISTS = {
    "--device": "devices",
    "--cap-add": "cap_add",
    "--group-add": "group_add",
    "--security-opt": "security_opt",
    "--add-host": "extra_hosts",
    "--publish": "ports",
    "--volume": "volumes",
    "--env": "environment",
    "--label": "labels",
}
SWITCHES = {"--privileged": "privileged"}


def shown(result: t.Mapping[str, t.Any]) -> list[str]:
    """What the plan in a result would run: files as they are, or a container as a command and as a compose file."""
    written = dict(result["files"] or {})
    if written:
        return [line for path, text in written.items() for line in (f"# {path}", *text.splitlines(), "")]
    argv = next((words for words in map(shlex.split, result["commands"]) if words[1:2] == ["create"]), None)
    if argv is None:
        return ["Nothing would be made."]
    name = str(result["server"]["container_name"])
    options, image, command = parts(argv)
    options = [(flag, value) for flag, value in options if flag != "--name" and not value.startswith(OURS)]
    words = [argv[0], "run", "--detach", "--name", name]
    words += [word for flag, value in options for word in ((flag, value) if value else (flag,))]
    return [
        shlex.join([*words, image, *command]),
        "",
        "# compose.yaml",
        *yaml.safe_dump(compose(name, options, image, command), sort_keys=False, width=10_000).splitlines(),
    ]


def parts(argv: t.Sequence[str]) -> tuple[list[tuple[str, str]], str, list[str]]:
    """The options of a C(docker create) command with their values, its image, and what comes behind it."""
    options: list[tuple[str, str]] = []
    words = list(argv[2:])
    while words and words[0].startswith("--"):
        flag = words.pop(0)
        options.append((flag, "" if flag in SWITCHES else words.pop(0)))
    return options, words[0], words[1:]


def compose(name: str, options: t.Iterable[tuple[str, str]], image: str, command: t.Sequence[str]) -> Spec:
    """The same container in a compose file."""
    service: Spec = {"image": image, "container_name": name}
    volumes: Spec = {}
    networks: Spec = {}
    for flag, value in options:
        text = value.replace("$", "$$")
        if flag in SWITCHES:
            service[SWITCHES[flag]] = True
        elif flag in VALUES:
            service[VALUES[flag]] = [text] if flag == "--entrypoint" else text
        elif flag in LISTS:
            service.setdefault(LISTS[flag], []).append(text)
        elif flag == "--gpus":
            service["deploy"] = {"resources": {"reservations": {"devices": [_gpus(value)]}}}
        elif flag == "--ulimit":
            limit, _equals, number = value.partition("=")
            service.setdefault("ulimits", {})[limit] = int(number)
        elif flag == "--stop-timeout":
            service["stop_grace_period"] = f"{value}s"
        elif flag == "--network" and value in ("host", "bridge", "none"):
            service["network_mode"] = value
        elif flag == "--network":
            service["networks"], networks[value] = [value], {"external": True}
        if flag == "--volume" and not value.startswith("/"):
            # Named as it is, for compose would put the name of the project before it.
            volumes[value.partition(":")[0]] = {"name": value.partition(":")[0]}
    service["command"] = [word.replace("$", "$$") for word in command]
    more = {key: value for key, value in (("volumes", volumes), ("networks", networks)) if value}
    return {"services": {"vllm": service}, **more}


def _gpus(value: str) -> Spec:
    ids = value.strip('"').partition("device=")[2]
    which: Spec = {"device_ids": ids.split(",")} if ids else {"count": "all"}
    return {"driver": "nvidia", **which, "capabilities": ["gpu"]}
