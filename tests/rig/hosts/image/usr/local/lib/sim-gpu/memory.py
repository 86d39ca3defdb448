"""Keep account of the memory of this host's simulated GPUs. tests/rig/hosts/README.md tells who holds how much.

What is held is written down for nvidia-smi, and where GPU and host share their memory, /proc/meminfo has less of it.
"""

import json
import re
import subprocess
import time
import typing as t
from dataclasses import dataclass, field
from pathlib import Path

PROFILE = Path("/etc/sim-gpu/current.json")
# What nvidia-smi adds to the profile: processes, and MiB taken by UUID.
HELD = Path("/run/sim-gpu/held.json")
# What a container finds in it as /run/gpu-memory-gib: the memory of its smallest GPU.
TOTAL = Path("/run/sim-gpu/total_gib")
MEMINFO = Path("/run/sim-gpu/meminfo")
# The name of a process has 15 letters; nvidia-smi knows the whole one.
ENGINE = "VLLM::EngineCor"
INTERVAL = 0.2
# How long after its end a process has its memory still, in seconds: a GB10 is slow to give it back.
LATE = 1.0

Taken = dict[str, int]


@dataclass(frozen=True)
class Gpus:
    """The GPUs of a profile: MiB by UUID, and the text of /proc/meminfo."""

    total: dict[str, int]
    is_unified: bool
    meminfo: str

    @classmethod
    def read(cls) -> "Gpus":
        profile = json.loads(PROFILE.read_text(encoding="utf-8"))
        meminfo = profile.get("host", {}).get("files", {}).get("/proc/meminfo", "")
        known = re.search(r"(?m)^MemTotal:\s+(\d+)", meminfo)
        is_unified = any(not gpu["memory.total"].isdigit() for gpu in profile["gpus"])
        shared = int(known[1]) // 1024 if known else 0
        total = {
            gpu["uuid"]: shared if is_unified else int(gpu["memory.free"]) + int(gpu["memory.used"])
            for gpu in profile["gpus"]
        }
        return cls(total, is_unified, meminfo)

    def visible(self, environment: dict[str, str]) -> list[str]:
        """The GPUs of a process, by the variable of containers or else of CUDA, which takes indices too."""
        named = environment.get("NVIDIA_VISIBLE_DEVICES") or environment.get("CUDA_VISIBLE_DEVICES", "")
        words = named.split(",")
        return [uuid for n, uuid in enumerate(self.total) if named == "all" or uuid in words or str(n) in words]


@dataclass
class Account:
    """Who holds what: MiB by GPU for each process, and until when those that ended still do."""

    alive: dict[int, Taken] = field(default_factory=dict)
    late: list[tuple[float, Taken]] = field(default_factory=list)

    def update(self, holders: dict[int, Taken], now: float) -> None:
        self.late = [(until, taken) for until, taken in self.late if until > now]
        self.late += [(now + LATE, taken) for pid, taken in self.alive.items() if pid not in holders]
        self.alive = holders

    @property
    def taken(self) -> Taken:
        total: Taken = {}
        for taken in [*self.alive.values(), *(taken for _until, taken in self.late)]:
            for uuid, mib in taken.items():
                total[uuid] = total.get(uuid, 0) + mib
        return total


def words(pid: str, file: str) -> list[str]:
    """The words of a process's command line or environment; none of one that ended or is about to."""
    try:
        return Path(f"/proc/{pid}/{file}").read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        return []


def option(argv: list[str], flag: str, default: str) -> str:
    return dict(zip(argv, argv[1:])).get(flag, default)


def held(gpus: Gpus, pid: str) -> Taken:
    """What a process holds: an engine what it asks for, any other what SIM_GPU_MIB says, on its first GPU."""
    is_engine = "".join(words(pid, "comm")).strip() == ENGINE
    environment = dict(word.partition("=")[::2] for word in words(pid, "environ"))
    if is_engine and (argv := words(pid, "cmdline")) != [""]:
        share = float(option(argv, "--gpu-memory-utilization", "0.9"))
        used = gpus.visible(environment)[: int(option(argv, "--tensor-parallel-size", "1"))]
        return {uuid: int(gpus.total[uuid] * share) for uuid in used}
    if "SIM_GPU_MIB" in environment:
        return dict.fromkeys((gpus.visible(environment) or list(gpus.total))[:1], int(environment["SIM_GPU_MIB"]))
    return {}


def holders(gpus: Gpus) -> dict[int, Taken]:
    found = {path.name: held(gpus, path.name) for path in Path("/proc").iterdir() if path.name.isdigit()}
    return {int(pid): taken for pid, taken in found.items() if taken}


def tell(gpus: Gpus, account: Account) -> None:
    apps = [
        {"gpu_uuid": uuid, "pid": str(pid), "used_memory": str(mib), "process_name": name_of(pid)}
        for pid, taken in account.alive.items()
        for uuid, mib in taken.items()
    ]
    partial = HELD.with_suffix(".partial")
    partial.write_text(json.dumps({"apps": apps, "taken": account.taken}), encoding="utf-8")
    partial.replace(HELD)
    if gpus.meminfo:
        tell_host(gpus, sum(account.taken.values()) if gpus.is_unified else 0)


def name_of(pid: int) -> str:
    name = "".join(words(str(pid), "comm")).strip()
    return f"{name}e" if name == ENGINE else name or "python3"


def tell_host(gpus: Gpus, mib: int) -> None:
    """Write into the file that /proc/meminfo is, which must not become another one."""

    def less(line: re.Match[str]) -> str:
        kib = int(line[2]) - (mib * 1024 if line[1] in ("MemFree", "MemAvailable") else 0)
        return f"{line[1] + ':':<16}{max(kib, 0):>12} kB"

    text = re.sub(r"(?m)^(\w+):\s+(\d+) kB$", less, gpus.meminfo)
    with MEMINFO.open("r+" if MEMINFO.exists() else "w", encoding="ascii") as stream:
        stream.write(text)
        stream.truncate()
    if " /proc/meminfo " not in Path("/proc/self/mountinfo").read_text(encoding="utf-8"):
        subprocess.run(["mount", "--bind", str(MEMINFO), "/proc/meminfo"], check=True)


def main() -> t.NoReturn:
    HELD.parent.mkdir(exist_ok=True)
    account, told = Account(), ""
    while True:
        if PROFILE.exists():
            gpus = Gpus.read()
            account.update(holders(gpus), time.monotonic())
            now = f"{gpus} {account.alive} {account.taken}"
            if now != told:
                TOTAL.write_text(f"{min(gpus.total.values(), default=0) / 1024:.2f}\n", encoding="ascii")
                tell(gpus, account)
                told = now
        time.sleep(INTERVAL)


if __name__ == "__main__":
    main()
