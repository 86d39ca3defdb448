# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a host is asked about its GPUs: which commands and files, in which order, and what is done about a hung one.

Only this file runs anything. C(nvidia_smi) and C(kernel) read the answers, C(facts) draws the conclusions.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
import typing as t
from dataclasses import dataclass

from .kernel import (
    Process,
    parse_driver_version,
    parse_fabric_manager,
    parse_kernel_card,
    parse_meminfo,
    parse_module_version,
    parse_process,
    parse_toolkit,
)
from .nvidia_smi import (
    APPS_ARGS,
    CORE_FIELDS,
    EXTRA_FIELDS,
    SAMPLE_FIELDS,
    App,
    Card,
    Report,
    Result,
    Table,
    bus_key,
    gpu_query,
    may_be_split,
    parse_unreachable,
    read_cards,
    read_report,
    rejected_field,
    rows_of,
    version_of,
    with_mig,
    with_samples,
)
from .observation import Observation, PciDevice
from .watchdog import STATE as WATCHDOG_STATE

Argv = tuple[str, ...]
Answers = dict[str, Result]
# Starts the commands at once and returns the function that waits for them, at most so many seconds altogether.
Runner = t.Callable[[t.Mapping[str, Argv]], t.Callable[[float], Answers]]

# Where WSL2 mounts the driver of Windows.
WSL_DRIVER = "/usr/lib/wsl/lib"
# Where programs lie on hosts whose PATH, under sudo or over SSH, does not say so.
DIRECTORIES = (
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    ":/usr/local/nvidia/bin:/opt/nvidia/bin:/usr/lib/wsl/lib"
)
# Docker Engine serves `--gpus` with it, once it is on its PATH as the engine starts.
RUNTIME_HOOK = "nvidia-container-runtime-hook"
DOCKER_SOCKET = "unix:///var/run/docker.sock"
# Seconds for a piece of an answer and for all of it, and its bytes.
DOCKER_TIMEOUT, DOCKER_PATIENCE, DOCKER_LIMIT = 2.0, 10.0, 1 << 24
# The time left for what is asked after the first answers, when those took nearly all of it.
LEAST_TIMEOUT = 5.0
FABRIC_MANAGER_UNIT = "nvidia-fabricmanager.service"


def start_all(commands: t.Mapping[str, Argv]) -> t.Callable[[float], Answers]:
    """Starts the commands side by side.

    A command that does not end is killed and left behind, never waited for: nvidia-smi on a hung GPU cannot be killed.
    """
    environment = {**os.environ, "LC_ALL": "C", "PATH": f"{os.environ.get('PATH', '')}:{DIRECTORIES}"}
    children: dict[str, subprocess.Popen[bytes] | Result] = {}
    for key, argv in commands.items():
        try:
            children[key] = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            children[key] = Result(err=str(error))

    def collect(timeout: float) -> Answers:
        deadline = time.monotonic() + timeout
        return {
            key: child if isinstance(child, Result) else _finish(child, deadline - time.monotonic())
            for key, child in children.items()
        }

    return collect


def _finish(child: subprocess.Popen[bytes], timeout: float) -> Result:
    try:
        out, err = child.communicate(timeout=max(timeout, 0.01))
    except subprocess.TimeoutExpired:
        _abandon(child)
        return Result(timed_out=True)
    return Result(child.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))


def _abandon(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):
        os.killpg(child.pid, signal.SIGKILL)
    for stream in (child.stdout, child.stderr):
        if stream is not None:
            stream.close()
    # Told so, the interpreter neither waits for the child nor warns that nobody did.
    child.returncode = -signal.SIGKILL


def docker_get(path: str, docker_host: str | None = None) -> t.Any:
    """What the Docker Engine answers to a GET, or None: it may be absent, stopped or closed to this user.

    HTTP/1.0 over the socket, for the host may have no Docker SDK, and the answer then ends where the connection does.
    """
    address = docker_host or os.environ.get("DOCKER_HOST") or DOCKER_SOCKET
    if not address.startswith("unix://"):
        return None
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(DOCKER_TIMEOUT)
        try:
            connection.connect(address[len("unix://") :])
            connection.sendall(f"GET {path} HTTP/1.0\r\nHost: docker\r\n\r\n".encode())
            answer = _received(connection)
        except OSError:
            return None
    head, _separator, body = answer.partition(b"\r\n\r\n")
    if head.split(b" ")[1:2] != [b"200"]:
        return None
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _received(connection: socket.socket) -> bytes:
    """All that is sent; nothing where that is too much or takes too long."""
    answer, deadline = bytearray(), time.monotonic() + DOCKER_PATIENCE
    for piece in iter(lambda: connection.recv(65536), b""):
        answer += piece
        if len(answer) > DOCKER_LIMIT or time.monotonic() > deadline:
            return b""
    return bytes(answer)


def find_program(name: str) -> str | None:
    """Where a program is, on PATH or where drivers put theirs; or None."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{DIRECTORIES}")


def user_name(uid: int) -> str | None:
    """The name of a user; None for a number that has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return None


@dataclass(frozen=True)
class Host:
    """The ways to ask a host. Tests put a directory and tables in their place."""

    root: str = "/"
    start: Runner = start_all
    find: t.Callable[[str], str | None] = find_program
    docker: t.Callable[[str], t.Any] = docker_get
    user: t.Callable[[int], str | None] = user_name
    sleep: t.Callable[[float], None] = time.sleep
    clock: t.Callable[[], float] = time.monotonic

    def path(self, path: str) -> str:
        """Where a path of the host is for this process."""
        return os.path.join(self.root, path.lstrip("/"))

    def read(self, path: str, limit: int = 1 << 20) -> str:
        """The text of a file; nothing where it cannot be read."""
        try:
            with open(self.path(path), "rb") as stream:
                return stream.read(limit).decode("utf-8", "replace")
        except OSError:
            return ""

    def names(self, path: str) -> list[str] | None:
        """The sorted names in a directory; None where it cannot be read."""
        try:
            return sorted(os.listdir(self.path(path)))
        except OSError:
            return None

    def matching(self, pattern: str) -> list[str]:
        """The paths below the root that fit the pattern, as seen from it."""
        found = glob.glob(self.path(pattern))
        return sorted("/" + os.path.relpath(path, self.root) for path in found)


def host_with(docker_host: str | None) -> Host:
    """This host, whose containers the engine at that address knows."""
    return Host(docker=functools.partial(docker_get, docker_host=docker_host))


@dataclass(frozen=True)
class Smi:
    """nvidia-smi on a host, with the cards it is restricted to because another one does not answer."""

    host: Host
    program: str
    deadline: float
    only: tuple[str, ...] = ()

    def argv(self, args: t.Sequence[str]) -> Argv:
        return (self.program, *(("-i", ",".join(self.only)) if self.only else ()), *args)

    def start(self, commands: t.Mapping[str, t.Sequence[str]]) -> t.Callable[[], Answers]:
        collect = self.host.start({key: self.argv(args) for key, args in commands.items()})
        return lambda: collect(max(self.deadline - self.host.clock(), LEAST_TIMEOUT))

    def ask(self, args: t.Sequence[str]) -> Result:
        return self.start({"": args})()[""]

    def settle(self, table: Table) -> Table:
        """The query again without the fields that this driver does not know, one by one as it names them."""
        while True:
            unknown = rejected_field(table.result)
            if unknown not in table.fields or unknown == "uuid":
                return table
            fields = tuple(name for name in table.fields if name != unknown)
            table = Table(fields, self.ask(gpu_query(fields)))


@dataclass(frozen=True)
class Sampling:
    """How often utilization is read, and how many seconds apart."""

    count: int = 1
    interval: float = 0.5


def observe(
    host: Host, program: str | None = None, timeout: float = 60, sampling: Sampling = Sampling()
) -> Observation:
    """Reads everything that the facts of a host need. The files are read while the commands run."""
    nvidia_smi = program or _of_windows(host) or host.find("nvidia-smi")
    pci = pci_devices(host)
    wait_tools = _start_tools(host, pci)
    if nvidia_smi is None:
        report, files = Report(), _files(host)
    else:
        smi = Smi(host, nvidia_smi, host.clock() + timeout)
        wait = smi.start(_first_questions(pci))
        files = _files(host)
        report = _report(smi, wait(), pci, sampling)
    return Observation(
        nvidia_smi=nvidia_smi,
        timeout=timeout,
        smi=report,
        pci=pci,
        processes=_processes(host, report.apps or ()),
        **files,
        **_tools(wait_tools(min(timeout, 10))),
    )


def _of_windows(host: Host) -> str | None:
    """The nvidia-smi that Windows hands to WSL2: that of the distribution, on the PATH before it, finds no driver."""
    return f"{WSL_DRIVER}/nvidia-smi" if "nvidia-smi" in (host.names(WSL_DRIVER) or ()) else None


def _start_tools(host: Host, pci: tuple[PciDevice, ...] | None) -> t.Callable[[float], Answers]:
    """The programs that need no GPU. Those that are absent are not run."""
    commands: dict[str, Argv] = {
        "modinfo": ("modinfo", "-F", "version", "nvidia"),
        "toolkit": ("nvidia-ctk", "--version"),
    }
    if any(device.is_nvswitch for device in pci or ()):
        commands["fabric_manager"] = ("nv-fabricmanager", "--version")
    return host.start({key: argv for key, argv in commands.items() if host.find(argv[0])})


def _tools(answers: Answers) -> dict[str, t.Any]:
    """What the programs answered; one that was not run answers like one that failed."""
    toolkit = answers.get("toolkit", Result())
    return {
        "driver_installed": parse_module_version(answers.get("modinfo", Result())),
        "has_toolkit": toolkit.rc is not None,
        "toolkit_version": parse_toolkit(toolkit),
        "fabric_manager_version": parse_fabric_manager(answers.get("fabric_manager", Result())),
    }


def _first_questions(pci: tuple[PciDevice, ...] | None) -> dict[str, t.Sequence[str]]:
    questions: dict[str, t.Sequence[str]] = {
        "core": gpu_query(CORE_FIELDS),
        "extras": gpu_query(EXTRA_FIELDS),
        "apps": APPS_ARGS,
        "header": ("-q", "-d", "COMPUTE"),
    }
    if len([device for device in pci or () if device.is_gpu]) != 1:
        questions["topology"] = ("topo", "-m")
    return questions


def _report(smi: Smi, answers: Answers, pci: tuple[PciDevice, ...] | None, sampling: Sampling) -> Report:
    """What nvidia-smi tells in the end, with everything that depends on its first answers."""
    smi, answers = _without_lost_cards(smi, answers, pci)
    core = smi.settle(Table(CORE_FIELDS, answers["core"]))
    cards = _cards(smi, core, answers["extras"], sampling) if rows_of(core) else ()
    return read_report(core, cards, answers)


def _cards(smi: Smi, core: Table, extras: Result, sampling: Sampling) -> tuple[Card, ...]:
    """The cards that answered, with what takes further questions."""
    cards = read_cards(core, smi.settle(Table(EXTRA_FIELDS, extras)))
    if any(map(may_be_split, cards)):
        answers = smi.start({"list": ("-L",), "xml": ("-q", "-x")})()
        cards = with_mig(cards, answers["list"].out, answers["xml"].out)
    return with_samples(cards, _samples(smi, sampling))


def _without_lost_cards(smi: Smi, answers: Answers, pci: tuple[PciDevice, ...] | None) -> tuple[Smi, Answers]:
    """Asks again for the other cards alone, when one that does not answer made nvidia-smi give up on all."""
    gpus = [device.address for device in pci or () if device.is_gpu and device.driver in (None, "nvidia")]
    said = ""
    for _attempt in gpus:
        core = answers["core"]
        lost = {bus_key(card.bus_id) for card in parse_unreachable(core.text)} & set(gpus)
        if core.rc in (0, None) or rows_of(Table(CORE_FIELDS, core)) or not lost:
            break
        said += core.text
        gpus = [address for address in gpus if address not in lost]
        if not gpus:
            break
        smi = Smi(smi.host, smi.program, smi.deadline, tuple(gpus))
        questions = {key: args for key, args in _first_questions(None).items() if key != "topology"}
        answers = {**answers, **smi.start(questions)()}
    core = answers["core"]
    return smi, {**answers, "core": Result(core.rc, core.out, f"{core.err}\n{said}", core.timed_out)}


def _samples(smi: Smi, sampling: Sampling) -> t.Iterator[Result]:
    for _sample in range(sampling.count - 1):
        smi.host.sleep(sampling.interval)
        yield smi.ask(gpu_query(SAMPLE_FIELDS))


def _processes(host: Host, apps: t.Iterable[App]) -> dict[int, Process]:
    """/proc of the compute processes. The name of each user is looked up once, for it may come over a network."""
    user = functools.lru_cache(maxsize=None)(host.user)
    return {
        app.pid: parse_process(host.read(f"/proc/{app.pid}/status"), host.read(f"/proc/{app.pid}/cgroup"), user)
        for app in apps
    }


def _files(host: Host) -> dict[str, t.Any]:
    """Everything that is read without a command of its own."""
    cards = host.names("/proc/driver/nvidia/gpus") or []
    return {
        "driver_loaded": parse_driver_version(host.read("/proc/driver/nvidia/version")),
        "kernel_cards": {
            card.lower(): parse_kernel_card(host.read(f"/proc/driver/nvidia/gpus/{card}/information")) for card in cards
        },
        "memory": parse_meminfo(host.read("/proc/meminfo")),
        "has_runtime_hook": host.find(RUNTIME_HOOK) is not None,
        "numa_nodes": host.read("/sys/devices/system/node/online"),
        "init_cgroup": host.read("/proc/1/cgroup"),
        "fabric_manager_running": unit_is_running(host, FABRIC_MANAGER_UNIT),
        "units": _server_units(host),
        "daemon_json": host.read("/etc/docker/daemon.json"),
        "cdi": {path: host.read(path, 4096) for path in cdi_specs(host)},
        "containers": host.docker("/containers/json?all=1"),
        "docker_info": host.docker("/info"),
        "watchdog": host.read(WATCHDOG_STATE),
        "watchdog_age": _age(host.path(WATCHDOG_STATE)),
    }


def _age(path: str) -> float | None:
    """Seconds since a file was written."""
    try:
        return time.time() - os.stat(path).st_mtime
    except OSError:
        return None


def pci_devices(host: Host) -> tuple[PciDevice, ...] | None:
    """The NVIDIA devices on the PCI bus; None where there is no sysfs to look at."""
    addresses = host.names("/sys/bus/pci/devices")
    if addresses is None:
        return None
    return tuple(_pci_device(host, address) for address in addresses if _is_nvidia(host, address))


def _is_nvidia(host: Host, address: str) -> bool:
    return host.read(f"/sys/bus/pci/devices/{address}/vendor", 16).strip() == "0x10de"


def _pci_device(host: Host, address: str) -> PciDevice:
    directory = f"/sys/bus/pci/devices/{address}"
    node = version_of(r"^(\d{1,5})\s*$", host.read(f"{directory}/numa_node", 16))
    try:
        driver = os.path.basename(os.readlink(host.path(f"{directory}/driver")))
    except OSError:
        driver = None
    return PciDevice(
        address=address.lower(),
        class_code=host.read(f"{directory}/class", 16).strip(),
        device=host.read(f"{directory}/device", 16).strip(),
        driver=driver,
        numa_node=None if node is None else int(node),
    )


def cdi_specs(host: Host) -> list[str]:
    """The files that describe the GPUs to container engines (CDI)."""
    paths = (
        f"{directory}/{name}" for directory in ("/etc/cdi", "/var/run/cdi") for name in host.names(directory) or ()
    )
    return [path for path in paths if path.endswith((".yaml", ".json"))]


def unit_is_running(host: Host, unit: str) -> bool | None:
    """Whether a system unit has processes, from its control group: systemctl would cost a process a unit."""
    for mount in ("/sys/fs/cgroup/system.slice", "/sys/fs/cgroup/systemd/system.slice"):
        if host.names(mount) is not None:
            own = host.read(f"{mount}/{unit}/cgroup.procs", 64).strip()
            return bool(own or host.matching(f"{mount}/{unit}/*/cgroup.procs"))
    return None


def _server_units(host: Host) -> dict[str, bool]:
    """The units of servers, by name of the server, and whether each runs."""
    paths = host.matching("/etc/systemd/system/vllm-*.service")
    units = [os.path.basename(path) for path in paths]
    return {unit[len("vllm-") : -len(".service")]: bool(unit_is_running(host, unit)) for unit in units}
