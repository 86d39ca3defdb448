# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which directive of a unit an option of the spec becomes, and why each directive is there. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from .._host import boot
from .._server.spec import ServerSpec
from .._vllm.versions import parse
from .words import exec_line, path, words

# The shell of every host that runs systemd.
SHELL = "/bin/sh"
# Below /var/cache: where a server keeps what it compiles.
CACHES = "gpufleet.vllm"
HAS_EXEC = 240
# A file for each GPU, locked by a server that starts there: root's, for the services of every user to open. Which GPUs
# there are is known to whoever locks them; beyond these files they share.
TURNS, FILES = "/run/gpufleet.vllm/turns", 16
# What root runs is no program of the environment, whose owner may be anybody.
AS_ROOT = f"+{{}}{SHELL} -c 'PATH=/usr/sbin:/usr/bin:/sbin:/bin; {{}}'"
# From which release on vLLM takes UUIDs in CUDA_VISIBLE_DEVICES.
TAKES_UUIDS = "0.24.0"
# vLLM ends its drain, then the engine and its workers; only then may systemd end them.
AFTER_DRAIN = 15
# A start takes minutes: a loop of crashes is one that comes back so often within two hours.
LIMIT_SECONDS, LIMIT_STARTS = 7200, 5
# Python unlinks the shared memory of a server that ended in a process of its own, which systemd kills at that moment.
# Only what no process has mapped goes, and nothing that a server which just starts may not have mapped yet.
LEFT_IN_MEMORY = (
    'find /dev/shm -maxdepth 1 -type f -user "$$(id -u)" -mmin +5 | while read -r f; do '
    'grep -qF "$$f" /proc/[0-9]*/maps 2> /dev/null || rm -f "$$f"; done'
)
# NCCL opens a file for each pair of ranks.
NOFILE = 1048576

Value = t.Union[str, t.Sequence[str], None]


@dataclass(frozen=True)
class Given:
    """All that a unit is rendered from."""

    spec: ServerSpec
    # What nobody can know before: makes one unit differ from another one of the same server.
    seal: str
    # The command, word by word.
    command: tuple[str, ...]
    # The file with the environment.
    environment: str
    # What identifies the virtual environment.
    artifact_id: str = ""
    # What is bound read-only into the unit beside what the spec names: the interpreter of the environment.
    reads: tuple[str, ...] = ()
    # Its directory below /var/cache; none without caches.
    cache: str | None = None
    # The version of systemd on the host, and whether it hands credentials over.
    systemd: int = 252
    loads: bool = True
    # Whether its start waits for those of others.
    waits: bool = False
    # Whether it runs once: a trial or a download. Such a unit is never started again, nor at boot.
    once: bool = False
    # Who runs it instead of the spec's user, and what it may write to.
    user: str | None = None
    writes: tuple[str, ...] = ()
    # The longest time that it may take to be up, in seconds; none for as long as it takes.
    start_timeout: int | None = 90


@dataclass(frozen=True)
class Directive:
    """One row: the section and name in the unit, the fields of the spec it takes in, its value, and why it is there.

    A list becomes a line each; None leaves the directive out. C(since) is the systemd that knows it.
    """

    section: str
    name: str
    because: str
    value: t.Callable[[Given], Value]
    fields: tuple[str, ...] = ()


def restarts(spec: ServerSpec) -> tuple[str, int]:
    """How systemd restarts it, and how many starts it has before it stays down."""
    policy, _colon, most = spec.restart_policy.partition(":")
    kind = {"unless-stopped": "always", "on-failure": "on-failure"}.get(policy, "no")
    return kind, int(most) + 1 if most else LIMIT_STARTS


def _starts_at_boot(given: Given) -> bool:
    """Whether the unit is for serving, and its server is to come back by itself."""
    return not given.once and given.spec.restart_policy != "no"


def _restart(given: Given) -> str:
    return "no" if given.once else restarts(given.spec)[0]


def _limited(value: t.Callable[[ServerSpec], int]) -> t.Callable[[Given], Value]:
    return lambda given: None if given.once else str(value(given.spec))


def _stop_seconds(spec: ServerSpec) -> int:
    """How long it may take to stop: what was asked for, and never less than vLLM's own drain takes."""
    drain = {**spec.engine, **spec.engine_unchecked}.get("shutdown_timeout")
    seconds = int(drain) + AFTER_DRAIN if isinstance(drain, str) and drain.isdigit() else 0
    return max(spec.stop_timeout, seconds)


def _limits(name: str, default: int | None = None) -> t.Callable[[Given], Value]:
    def value(given: Given) -> Value:
        limit = given.spec.ulimits.get(name, default)
        return None if limit is None else "infinity" if limit < 0 else str(limit)

    return value


# Docker's names of limits are those of systemd's directives, in capitals.
LIMITS = (
    *("as", "core", "cpu", "data", "fsize", "locks", "msgqueue", "nice"),
    *("nproc", "rss", "rtprio", "rttime", "sigpending", "stack"),
)


def credentials(given: Given) -> dict[str, str]:
    """The files of secrets, by what each is called where the server finds it."""
    from .._server.arguments import SECRET_NAMES

    return {SECRET_NAMES[key]: file for key, file in given.spec.secret_files.items()}


def _load_credential(given: Given) -> Value:
    # The path is the rest of the line: systemd takes no quotes there.
    return [f"{name}:{path(file)}" for name, file in credentials(given).items()] if given.loads else None


def _copied(given: Given) -> list[str]:
    """Where systemd hands no secrets over: copies that root makes in a directory of the service, which goes with it."""
    if given.loads:
        return []
    # Its name: %N is the unit's, so that it may change.
    user = given.user or given.spec.user
    return [
        "+" + exec_line(["/usr/bin/install", "-m", "0400", "-o", user, "--", file], raw=f" %t/%N/{name}")
        for name, file in credentials(given).items()
    ]


def _device_nodes(given: Given) -> list[str]:
    if given.spec.gpus == "none":
        return []
    # A host without the program has its nodes from the driver's own service.
    return [AS_ROOT.format("-", "command -v nvidia-modprobe > /dev/null && nvidia-modprobe -u -c 0")]


def _turns(given: Given) -> list[str]:
    made = f"umask 022; mkdir -p {TURNS} && cd {TURNS} && touch {' '.join(map(str, range(FILES)))}"
    return [AS_ROOT.format("", made)] if given.waits else []


def _environment(given: Given) -> Value:
    """What has the unit's name in it, which changes: the rest of the environment is in a file."""
    if given.loads or not credentials(given):
        return None
    return "CREDENTIALS_DIRECTORY=%t/%N"


def _reads(given: Given) -> Value:
    spec = given.spec
    named = [spec.venv, *given.reads, spec.huggingface_dir, spec.model_dir]
    named += [spec.encodings_dir] if spec.reads_encodings else []
    paths = sorted({one for one in named if one} - {*given.writes})
    volumes = [volume for volume in spec.volumes if _is_read_only(volume)]
    return [*(words([one]) for one in paths), *(_volume(one) for one in volumes)]


def _writes(given: Given) -> Value:
    volumes = [_volume(one) for one in given.spec.volumes if not _is_read_only(one)]
    return [*(words([one]) for one in given.writes), *volumes]


def writable(spec: ServerSpec) -> list[str]:
    """The directories that a service may write to and that somebody else reaches, as the service sees them."""
    mounted = [volume.split(":")[1] for volume in spec.volumes if not _is_read_only(volume)]
    return [*mounted, f"/run/{spec.container_name}", "/dev/shm"]


def _is_read_only(volume: str) -> bool:
    return "ro" in ":".join(volume.split(":")[2:]).split(",")


def _volume(text: str) -> str:
    source, target = text.split(":")[:2]
    return words([f"{source}:{target}"])


def _one(text: str) -> t.Callable[[Given], Value]:
    return lambda given: text


def _start_timeout(given: Given) -> Value:
    return "infinity" if given.start_timeout is None else str(given.start_timeout)


# In the order of the file.
DIRECTIVES: tuple[Directive, ...] = (
    Directive(
        "Unit",
        "Description",
        "what systemctl and the journal call it",
        lambda g: f"vLLM server {path(g.spec.name)} (gpufleet.vllm)",
        ("name",),
    ),
    Directive(
        "Unit",
        "After",
        "the driver's daemon makes the device nodes and keeps the GPUs initialized; an address to bind to has to be up",
        _one("network-online.target nvidia-persistenced.service nvidia-fabricmanager.service"),
    ),
    Directive("Unit", "Wants", "otherwise nothing waits for the network", _one("network-online.target")),
    Directive(
        "Unit",
        "StartLimitIntervalSec",
        "a start of vLLM takes minutes, so a loop of crashes is slow",
        _limited(lambda spec: LIMIT_SECONDS),
    ),
    Directive(
        "Unit",
        "StartLimitBurst",
        "a loop of crashes ends: on unified memory an endless one takes the host down",
        _limited(lambda spec: restarts(spec)[1]),
        ("restart_policy",),
    ),
    Directive(
        "Service",
        "Type",
        "vLLM does not notify systemd; exec makes a program that cannot be run a failed start",
        lambda g: "oneshot" if g.once else "exec" if g.systemd >= HAS_EXEC else "simple",
    ),
    Directive(
        "Service",
        "User",
        "a system user: of others, logind deletes the shared memory at their last logout",
        lambda g: g.user or g.spec.user,
        ("user",),
    ),
    Directive(
        "Service",
        "UMask",
        "its files are private; a download is shared by all servers",
        lambda g: "0022" if g.user else "0077",
    ),
    Directive("Service", "RuntimeDirectory", "a place that goes when it stops", _one("%N")),
    Directive("Service", "RuntimeDirectoryMode", "secrets may be in it", _one("0700")),
    Directive(
        "Service",
        "CacheDirectory",
        "what is compiled at the first start makes later ones minutes shorter; what one environment compiled may "
        "crash another, so each has its own",
        lambda g: f"{CACHES}/{g.cache}" if g.cache else None,
        ("keep_caches",),
    ),
    Directive("Service", "CacheDirectoryMode", "what is compiled is run", lambda g: "0700" if g.cache else None),
    Directive(
        "Service",
        "EnvironmentFile",
        "a file for root alone: everybody may read what a unit says",
        lambda g: g.environment,
        ("env",),
    ),
    Directive("Service", "Environment", "where systemd hands no credentials over", _environment),
    Directive(
        "Service",
        "LoadCredential",
        "read by systemd as root, for this service alone; neither systemctl show nor /proc has them",
        _load_credential,
        ("hf_token_file", "api_key_file", "env_file"),
    ),
    Directive(
        "Service",
        "ExecStartPre",
        "run as root: the device nodes that CUDA needs, which the hardened service may not make, and the files that "
        "the starts of all users' services wait for",
        lambda g: [*_device_nodes(g), *_turns(g), *_copied(g)],
        ("gpus",),
    ),
    Directive(
        "Service",
        "ExecStart",
        "the server itself; before it, a look whether its GPUs are still free",
        lambda g: exec_line(g.command),
        ("venv", "gpus_at_start", "model", "served_model_name", "port", "bind", "engine", "engine_unchecked"),
    ),
    Directive(
        "Service",
        "ExecStopPost",
        "shared memory that servers of its user left behind; it would add up with every start",
        lambda g: None if g.once else f"-{SHELL} -c '{LEFT_IN_MEMORY}'",
    ),
    Directive(
        "Service",
        "Restart",
        "vLLM leaves with status 0 when its engine dies, so only always restarts that",
        _restart,
        ("restart_policy",),
    ),
    Directive(
        "Service",
        "RestartSec",
        "the memory of the GPUs takes a moment to come back",
        lambda g: None if g.once else "10",
    ),
    Directive("Service", "TimeoutStartSec", "what runs before the server must not hang", _start_timeout),
    Directive(
        "Service",
        "KillMode",
        "the server gets the stop signal and drains; with control-group its workers would get it at the same moment, "
        "with process they would stay and hold the GPU",
        _one("mixed"),
    ),
    Directive(
        "Service",
        "TimeoutStopSec",
        "longer than vLLM's own drain, or it is cut short",
        lambda g: str(_stop_seconds(g.spec)),
        ("stop_timeout",),
    ),
    Directive(
        "Service",
        "LimitMEMLOCK",
        "RDMA registers memory, and without it NCCL falls back to TCP in silence",
        _limits("memlock", -1),
        ("ulimits",),
    ),
    Directive("Service", "LimitNOFILE", "NCCL with many ranks", _limits("nofile", NOFILE), ("ulimits",)),
    *(
        Directive("Service", f"Limit{name.upper()}", "asked for, or as for containers", _limits(name), ("ulimits",))
        for name in LIMITS
    ),
    Directive("Service", "SyslogIdentifier", "the journal names the server, not its interpreter", _one("%N")),
    Directive("Service", "LogRateLimitIntervalSec", "a loop of errors does not push the cause out", _one("30s")),
    Directive("Service", "LogRateLimitBurst", "a start with many workers logs thousands of lines", _one("20000")),
    Directive(
        "Service",
        "BindReadOnlyPaths",
        "weights, encodings and the environment: reachable below a home, too, and never written by the server",
        _reads,
        ("huggingface_dir", "encodings_dir", "venv", "model", "volumes"),
    ),
    Directive("Service", "BindPaths", "what the user mounts to be written", _writes, ("volumes",)),
    Directive("Service", "ProtectSystem", "the host is read-only except for what is bound", _one("strict")),
    Directive(
        "Service",
        "TemporaryFileSystem",
        "homes are empty except for what is bound below them, below /root too",
        lambda g: "/home:ro /root:ro,mode=0755 /run/user:ro" if g.loads else None,
    ),
    Directive(
        "Service",
        "ProtectHome",
        "the same, except that only root can read below /root, and that the copying of secrets sees all homes",
        lambda g: None if g.loads else "tmpfs",
    ),
    Directive(
        "Service",
        "PrivateTmp",
        "a fixed name in /tmp would be open to all users; caches have their own place, and /dev/shm stays the host's",
        _one("yes"),
    ),
    Directive(
        "Service",
        "NoNewPrivileges",
        "nothing it runs becomes root; nvidia-modprobe, which would have to, ran before",
        _one("yes"),
    ),
    Directive("Service", "CapabilityBoundingSet", "CUDA and NCCL need no capability", _one("")),
    Directive("Service", "RestrictSUIDSGID", "it leaves no file behind that makes others root", _one("yes")),
    Directive("Service", "ProtectHostname", "it does not rename the host", _one("yes")),
    Directive("Service", "ProtectKernelLogs", "it does not read the kernel's log", _one("yes")),
    Directive("Service", "ProtectKernelTunables", "it changes no setting of the kernel", _one("yes")),
    Directive("Service", "ProtectKernelModules", "it loads no module; the device nodes exist already", _one("yes")),
    Directive("Service", "ProtectControlGroups", "it stays in its control group, whose end is the end", _one("yes")),
    Directive("Service", "RestrictRealtime", "it takes no processor from others", _one("yes")),
    Directive("Service", "RestrictNamespaces", "it makes no namespace of its own", _one("yes")),
    Directive("Service", "LockPersonality", "it needs one way of executing", _one("yes")),
    Directive(
        "Service",
        "RestrictAddressFamilies",
        "NCCL and Gloo list interfaces by netlink, and InfiniBand has a family of its own",
        _one("AF_INET AF_INET6 AF_UNIX AF_NETLINK AF_IB"),
    ),
    Directive(
        "Install",
        "WantedBy",
        "it serves again after a reboot",
        lambda g: boot.TARGET if _starts_at_boot(g) else None,
        ("restart_policy",),
    ),
)
# What breaks a server, so that nobody adds it for the looks of it.
FORBIDDEN = {
    "PrivateDevices": "hides all GPUs",
    "ProtectClock": "its rule for the device of the clock can shut out those of the GPUs; without capabilities no "
    "process can set it anyway",
    "MemoryDenyWriteExecute": "numba cannot compile, and vLLM imports it",
    "ProcSubset": "hides /proc/meminfo and /proc/cpuinfo",
    "PrivateNetwork": "no client could reach the server",
    "RemoveIPC": "deletes the shared memory that workers speak through",
    "DynamicUser": "implies RemoveIPC, and caches are given to another uid at each change",
    "SystemCallFilter": "several GPUs exchange memory by calls that its groups leave out",
    "WatchdogSec": "vLLM does not notify systemd, so it would be killed for that",
}
# Fields of the spec that no directive takes in: what is known or judged about the server.
NOT_DIRECTIVES = ("allow_unauthenticated", "vllm_version", "validation")


def takes_uuids(spec: ServerSpec) -> bool:
    """Whether its vLLM takes UUIDs of GPUs; one of unknown version is taken not to."""
    return bool(spec.vllm_version) and parse(str(spec.vllm_version)) >= parse(TAKES_UUIDS)


def text(given: Given) -> str:
    """The unit file."""
    lines = [
        "# Made by gpufleet.vllm, which recognizes it by every byte: what is changed here is not its own any more.",
        "# To change a setting, deploy the server again, or use 'systemctl edit' with the name of the unit.",
        f"# Virtual environment: {given.artifact_id}. Seal: {given.seal}",
    ]
    section = ""
    for directive in DIRECTIVES:
        value = directive.value(given)
        values = [value] if isinstance(value, str) else value or ()
        if values and directive.section != section:
            section = directive.section
            lines += ["", f"[{section}]"]
        lines += [f"{directive.name}={one}" for one in values]
    return "\n".join(lines) + "\n"
