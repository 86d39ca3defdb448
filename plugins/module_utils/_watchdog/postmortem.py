# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is kept of a server before it is put right: one bounded file without secrets, and the cause that it tells.

Everything is asked at once, with patience that ends: on a GPU that hangs, nvidia-smi may never come back.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import time
import typing as t

from .._errors import VllmError
from .._gpu.facts import host_facts
from .._gpu.probe import Host, find_program, observe, start_all
from .._health.logfile import Source
from .._health.report import redacted
from .._host import files
from .._host.http import HttpError, Server
from .._host.printable import printable
from .._host.processes import ProcessState, look_at, with_activity
from .._host.redaction import redact
from .._server.spec import ServerSpec
from .._systemd.words import JOURNALCTL, entries
from .._vllm.diagnosis import diagnose, last_failure
from .decide import Finding

Facts = t.Mapping[str, t.Any]

# Seconds for all commands together, and for the stacks of one process.
PATIENCE = 20.0
# Lines of the log, bytes of the metrics and of the whole file, and files for each server.
LINES, METRICS, SIZE, KEPT = 600, 256 << 10, 1 << 20, 5
# Processes of a server whose stacks are written.
STACKS = 4
# How far back the kernel's log is read, in seconds: what broke a server came before it stood still.
KERNEL_SINCE = 900
# After these a card has to be reset, or the host to be started again (NVIDIA, Xid catalogue).
BROKEN = ("48", "64", "74", "79", "95", "119", "120", "140", "154")
XID = re.compile(r"NVRM: Xid \(PCI:([0-9a-fA-F:.]+)\): (\d+)\b[^\n]*")
# What a log may tell that no restart heals, by the ids of diagnoses.
INCURABLE = ("disk-full", "disk-quota", "fabric-not-ready", "nvml-mismatch", "gpu-unknown", "no-gpu")
# States of GPU facts that no server can start with.
NO_GPUS = ("no_gpu", "no_driver", "driver_not_loaded", "driver_mismatch", "timeout", "error")
# With less than that, in bytes, a disk is full.
FULL = 4 << 20
DISKS = ("/", "/dev/shm", "/tmp", "/var/lib")


def examine(
    source: Source,
    spec: ServerSpec,
    why: str,
    directory: str,
    wall: float,
    ended: bool = False,
    host: Host | None = None,
) -> tuple[Finding, str, bool]:
    """Write down what is to be seen of a server, and say what it means: the finding, the path of the file (empty when
    it could not be written), and whether the GPUs share the memory of the host.

    C(ended): it is about a life before the one that runs.
    """
    host = host or Host()
    answers = start_all(_commands(source, wall))
    # While they run.
    facts = host_facts(observe(host, timeout=PATIENCE)) if spec.gpus != "none" else {"gpus": []}
    state, log, secrets = _told(source)
    metrics = "" if ended else _metrics(spec)
    found = answers(PATIENCE)
    if ended and found["journal"].out.strip():
        log = redact(_end(entries(found["journal"].out)), secrets)
    kernel = "\n".join(line for line in found["kernel"].out.splitlines() if "NVRM" in line or "oom" in line.lower())
    finding = judged(log, state, facts, kernel, spec, _full_disks(spec), secrets, why, ended)
    sections = {
        "Summary": f"{source.name}: {why}\nCause: {finding.cause}\n{finding.incurable}",
        "Process": repr(state),
        "Kernel, lines about GPUs and memory": kernel or "(none)",
        "nvidia-smi": found["nvidia-smi"].text.strip() or "(no answer)",
        **{f"Stacks of process {key}": one.text for key, one in sorted(found.items()) if key.isdigit()},
        "Metrics": metrics,
    }
    text = redact("\n\n".join(f"== {title} ==\n{body}" for title, body in sections.items()), secrets)
    text += "\n\n== Log ==\n" + "\n".join(log.splitlines()[-LINES:])
    unified = any(gpu.get("memory_kind") == "unified" for gpu in facts.get("gpus") or ())
    return finding, kept(source.name, str(printable(text)), directory, wall), unified


def _commands(source: Source, wall: float) -> dict[str, tuple[str, ...]]:
    since = f"--since=@{int(wall) - KERNEL_SINCE}"
    commands: dict[str, tuple[str, ...]] = {
        # Of a unit, all of its lives; of a container this is empty, and its log holds them.
        "journal": (*JOURNALCTL, f"--unit={source.name}", f"--lines={LINES}"),
        "kernel": ("journalctl", "--dmesg", "--no-pager", "--quiet", "--output=short-iso", since),
        "nvidia-smi": (find_program("nvidia-smi") or "nvidia-smi",),
    }
    pyspy = find_program("py-spy")
    with contextlib.suppress(VllmError):
        seen = look_at(source.root_pid()) if pyspy else None
        for pid in sorted(seen.names)[:STACKS] if seen else ():
            commands[str(pid)] = (str(pyspy), "dump", "--nonblocking", "--pid", str(pid))
    return commands


def _told(source: Source) -> tuple[ProcessState, str, list[str]]:
    """Process, log without secrets, and the secrets."""
    state, log, secrets = ProcessState(), "", []
    with contextlib.suppress(VllmError):
        secrets = list(source.about()["secrets"])
        state = with_activity(source.state(), look_at(source.root_pid()))
    try:
        log = redact(_end(source.tail()), secrets)
    except VllmError as error:
        log = str(error)
    return state, log, secrets


def _end(text: str) -> str:
    """Whole lines: to take the secrets out of more would keep the server, and other watchers, waiting."""
    return text if len(text) <= SIZE else text[text.find("\n", len(text) - SIZE) + 1 :]


def _metrics(spec: ServerSpec) -> str:
    try:
        answer = Server(spec.url, spec.access.get("uds"), None, False).request("GET", "/metrics", None, 5.0, 5.0)
    except HttpError as error:
        return f"(no answer: {error})"
    lines = answer.body[:METRICS].decode("utf-8", errors="replace").splitlines()
    return "\n".join(line for line in lines if line.startswith("vllm:"))


# --- the cause --------------------------------------------------------------------------------------------------------


def judged(
    log: str,
    state: ProcessState,
    facts: Facts,
    kernel: str,
    spec: ServerSpec,
    full: t.Sequence[str],
    secrets: t.Sequence[str] = (),
    why: str = "",
    ended: bool = False,
) -> Finding:
    """The cause, and why a restart cannot heal it. Pure."""
    incurable = _of_gpus(spec, facts, kernel)
    if not incurable and full:
        incurable = f"No space is left on {' and '.join(full)}."
    found = redacted(last_failure(log, facts) if ended else diagnose(log, state, facts), secrets)
    if not incurable and found.id in INCURABLE:
        incurable = f"{found.cause} {found.remedy}".strip()
    # A server that serves while it hangs has nothing to tell.
    cause = found.cause if found.failed and found.id != "unknown" else ""
    return Finding(incurable or cause or why, incurable)


def _of_gpus(spec: ServerSpec, facts: Facts, kernel: str) -> str:
    if spec.gpus == "none":
        return ""
    if facts.get("status") in NO_GPUS:
        return str(facts.get("message") or f"The GPUs cannot be used ({facts['status']}).")
    mine = [gpu for gpu in facts.get("gpus") or () if spec.gpus == "all" or gpu.get("uuid") in spec.gpus]
    broken = [gpu for gpu in mine if gpu.get("health") in ("lost", "reset_required")]
    if broken:
        words = {"lost": "has fallen off the bus", "reset_required": "has to be reset"}
        return " ".join(f"GPU {gpu.get('index')} {words[gpu['health']]}." for gpu in broken)
    missing = sorted(set(spec.gpus) - {gpu.get("uuid") for gpu in mine}) if isinstance(spec.gpus, tuple) else []
    # Where GPUs are named by index, or are MIG devices, only the driver knows.
    missing = [one for one in missing if one.startswith("GPU-")]
    if missing:
        return f"{' and '.join(missing)} is not on this host any more."
    for bus, number in XID.findall(kernel):
        if number in BROKEN and (spec.gpus == "all" or not mine or any(_is_at(gpu, bus) for gpu in mine)):
            return f"The kernel reports Xid {number} of the GPU at {bus}: reset it or reboot, and look at nvidia-smi."
    return ""


def _is_at(gpu: Facts, bus: str) -> bool:
    """By bus and device: the driver writes domains in two widths, and leaves out the function."""
    return (
        str(gpu.get("pci_bus_id")).lower().partition(".")[0].endswith(bus.lower().partition(":")[2].partition(".")[0])
    )


def _full_disks(spec: ServerSpec) -> list[str]:
    """Where a server writes, and nothing is left."""
    found = []
    for path in dict.fromkeys((*DISKS, spec.huggingface_dir or "/")):
        with contextlib.suppress(OSError):
            known = os.statvfs(path)
            if known.f_blocks and known.f_bavail * known.f_frsize < FULL and not os.statvfs(path).f_flag & os.ST_RDONLY:
                found.append(path)
    return found


# --- the file ---------------------------------------------------------------------------------------------------------


def kept(name: str, text: str, directory: str, wall: float) -> str:
    """Write it, and remove the oldest ones; a full disk is no reason not to go on. Its path, empty without one."""
    content = text.encode("utf-8", errors="replace")[:SIZE]
    stem = os.path.join(directory, re.sub(r"[^\w.-]", "_", name))
    path = f"{stem}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(wall))}.txt"
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        files.write_whole(path, content + b"\n")
    except OSError:
        path = ""
    for old in sorted(glob.glob(f"{glob.escape(stem)}-????????T??????Z.txt"))[:-KEPT]:
        with contextlib.suppress(OSError):
            os.unlink(old)
    return path
