# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A switch from one server to another, with a fault at one of its steps, and the runs after it."""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass, field

from simulated import CACHE, CONTAINER, SERVICE, TOKEN, Host, Run, Wish, eventually

GPT_OSS = Wish("deploy_gptoss.yml", "gpt-oss-120b", "vllm-gpt-oss")
GEMMA = Wish("deploy_gemma3.yml", "gemma-3-27b", "vllm-gemma3")
PLAIN = {wish.container: wish for wish in (GPT_OSS, GEMMA)}
REGISTRY_IMAGE = "127.0.0.1:5000/nvidia/vllm:25.10-py3"
# A server that is started again by the engine, by systemd after a pause, or by a module whose controller died, takes its
# time.
COMES_BACK = 40.0

# For each backend its own, or the same.
Each = t.Union[str, t.Mapping[str, str]]


def of(value: Each, backend: str) -> str:
    return value if isinstance(value, str) else value[backend]


# Steps that only a server takes that is replaced by itself, changed: two servers have names of their own.
RENAMING = ("set aside", "rename", "reload", "way back: reload")
ANOTHER_PORT = 8001
# Where a step writes; a file system that has no room for another file takes its place.
FULL: dict[str, Each] = {
    "prepare": "/home/gpu/vllm/secrets",
    "pull": "/var/lib/docker/tmp",
    "fetch": f"{CACHE}/hub",
    "create": {CONTAINER: "/var/lib/docker/containers", SERVICE: "/etc/systemd/system"},
}
# What is there stays, and has no room beside it.
FILL = """
install -d /mnt/full && mount -t tmpfs -o size=2m full /mnt/full && cp -a {place}/. /mnt/full
cat /dev/zero >/mnt/full/filler; mount --bind /mnt/full {place}
"""

FAILS, HANGS, RESTARTS = "fails", "hangs", "Docker Engine restarts"
CONTROLLER, BOTH = "controller killed", "controller and module killed"
DISK, TAKEN = "disk full", "port taken"
# Steps of which a failure has the old server go on as if nothing had been tried.
WAY_BACK = "way back: "
WITH_OLD = ("disable", "stop", "set aside", "commit")
UNTOUCHED = ("preflight", "prepare", "pull", "fetch", "create", "try")


@dataclass(frozen=True)
class Ways:
    """What runs the old server, and what the new one."""

    old: str
    new: str

    def __str__(self) -> str:
        called = {CONTAINER: "container", SERVICE: "service"}
        return called[self.old] if self.old == self.new else f"{called[self.old]} to {called[self.new]}"

    @property
    def beside(self) -> bool:
        return self.old != self.new


BY_CONTAINER, BY_SERVICE = Ways(CONTAINER, CONTAINER), Ways(SERVICE, SERVICE)
ACROSS = (Ways(CONTAINER, SERVICE), Ways(SERVICE, CONTAINER))


@dataclass(frozen=True)
class Row:
    """A fault at a step, and what is to come of it."""

    step: str
    fault: str
    # Words of the sentence that the user gets, those of `answer` unless it says otherwise; none where the controller died.
    says: Each | None = None
    # Who answers afterwards: the old server, the new one, or none until the next run.
    serves: Each = "old"
    # Whether the next run goes back to the old server instead.
    back: bool = False
    # What Docker Engine, or systemctl, says to a call that fails.
    answer: Each = ""
    stand_in: t.Mapping[str, t.Any] = field(default_factory=dict)
    # Where there is that step and that fault.
    on: tuple[Ways, ...] = (BY_CONTAINER, BY_SERVICE)

    @property
    def told(self) -> str:
        """The fault, and how the server that is new fails, where that is what happens."""
        how = self.stand_in.get("fault", "") if not self.is_held else ""
        return self.fault + (f" ({how})" if how and self.fault in (FAILS, HANGS) else "")

    @property
    def name(self) -> str:
        return f"{self.step}: {self.told}{' - and back' if self.back else ''}"

    @property
    def kills(self) -> bool:
        return self.fault in (CONTROLLER, BOTH)

    @property
    def is_held(self) -> bool:
        """Whether a call is held for the fault to happen then; otherwise it is there from the beginning."""
        if self.kills or self.fault == RESTARTS or self.step.startswith(WAY_BACK):
            return True
        if self.stand_in:
            return False
        return (self.step, self.fault) != ("preflight", TAKEN) and (self.fault != DISK or self.step == "create")

    @property
    def waits(self) -> bool:
        """Whether a client of what runs servers has to lose its patience: minutes, in which this machine does nothing."""
        return self.fault == HANGS and self.is_held

    def serving(self, ways: Ways) -> str:
        return of(self.serves, ways.new)

    def words(self, ways: Ways) -> str:
        if self.kills:
            return ""
        return self.message(ways).rstrip(".") if self.says is None else of(self.says, self._asked(ways))

    def message(self, ways: Ways) -> str:
        return of(self.answer, self._asked(ways))

    def _asked(self, ways: Ways) -> str:
        """What runs the server that the step is taken with."""
        return ways.old if self.step in (*WITH_OLD, f"{WAY_BACK}start") else ways.new

    def play(self, host: Host, ways: Ways) -> Line:
        return play(self, host, ways)


class Playable(t.Protocol):
    """A row of a table."""

    @property
    def name(self) -> str: ...

    @property
    def waits(self) -> bool: ...

    @property
    def on(self) -> tuple[Ways, ...]: ...

    def play(self, host: Host, ways: Ways) -> Line: ...


class Case(t.NamedTuple):
    """A row with what runs its servers."""

    row: Playable
    ways: Ways

    @property
    def name(self) -> str:
        return f"{self.ways}: {self.row.name}"


def cases(rows: t.Iterable[Playable]) -> list[Case]:
    return [Case(row, ways) for row in rows for ways in row.on]


class Line(t.NamedTuple):
    """What was seen of a case: a cell of the report."""

    sees: str
    serves: str
    then: str

    def __str__(self) -> str:
        return f"{self.sees}<br>*{self.serves}; {self.then}*"


def play(row: Row, host: Host, ways: Ways) -> Line:
    """Switch with the fault, look, run again without it, and once more.

    Raises:
        AssertionError: when something is not as the row says.
    """
    old = served(host, ways)
    new = changed(old, ways.new) if row.step in RENAMING or ways.beside else another(old)
    before = host.servers()
    try:
        switching = with_fault(row, host, ways, old, new)
        assert TOKEN not in switching.text
        told = seen(row, ways, switching)
        # As long as nobody mends it: a service that hangs and is killed is started again.
        serves = who_answers(row, host, ways, old, new)
    finally:
        host.stand_in()
    if row.serving(ways) == "old" and not row.kills:
        # The same server with the same name, and where nothing had to stop it, the same process.
        depth = 4 if row.step in UNTOUCHED and row.fault != RESTARTS else 3
        assert [one[:depth] for one in host.servers()] == [one[:depth] for one in before]
    # A switch that left no trace is followed by one as any other, which needs no third run.
    converges(host, for_(row, old if row.back else new), twice=row.serving(ways) != "old" or row.kills)
    return Line(neutral(told, old, new), serves, "goes back to the old" if row.back else "continues")


def served(host: Host, ways: Ways) -> Wish:
    """What serves on the host; gpt-oss, where a row before this one left something else."""
    wish = host.wish
    fits = wish and (wish.backend, wish.beside) == (ways.old, ways.beside)
    if not (wish and fits and host.answers() == wish.model and host.names() == [wish.instance]):
        host.reset()
        serving(host, GPT_OSS.on(ways.old, ways.beside))
    return t.cast(Wish, host.wish)


def serving(host: Host, wish: Wish) -> None:
    """Have the host serve this."""
    if host.wish != wish or host.answers() != wish.model or host.names() != [wish.instance]:
        run = host.run(wish)
        assert run.status == 0, run.text[-3000:]
        host.wish = wish


def another(old: Wish) -> Wish:
    """Another server, which cannot run beside this one."""
    plain = GEMMA if old.container == GPT_OSS.container else GPT_OSS
    return plain.on(old.backend, old.beside)


def changed(old: Wish, backend: str) -> Wish:
    """The same server on that backend, with another name for its model."""
    plain = PLAIN[old.container].on(backend, old.beside)
    if old.model != plain.model:
        return plain
    return plain.answering("another-name").with_(served_model_name="another-name")


def for_(row: Row, wish: Wish) -> Wish:
    """Each row that pulls has an image of its own: one that was pulled before would not be pulled again."""
    return wish.but(vllm_image=f"{REGISTRY_IMAGE}-{row.told.replace(' ', '-')}".lower()) if row.step == "pull" else wish


def with_fault(row: Row, host: Host, ways: Ways, old: Wish, new: Wish) -> Run:
    """The run that is to fail, up to its end and that of the module on the host."""
    wish = for_(row, new)
    if row.step == "pull":
        host.serve_images()
    if row.step == "fetch":
        host.sh(f"rm -rf {CACHE}/hub/models--*{new.model}*")
    if (row.step, row.fault) == ("preflight", TAKEN):
        wish = new.with_(port=ANOTHER_PORT)
        host.take_port(ANOTHER_PORT)
    if row.step == "reload":
        # As after a boot: what was started then stays in systemd's memory.
        host.sh("systemctl daemon-reload")
    is_renamed = old.container == new.container
    host.stand_in(only_with=f"--served-model-name {new.model}" if is_renamed else new.model, **row.stand_in)
    with host.so(*condition(row, ways)):
        return play_with_fault(row, host, ways, wish)


def condition(row: Row, ways: Ways) -> tuple[str, str]:
    """What is so during the whole run: how it is brought about, and how it is ended."""
    if row.fault == TAKEN:
        return "true", "systemctl stop squatter"
    if row.fault != DISK or row.step not in FULL:
        return "true", "true"
    place = of(FULL[row.step], ways.new)
    if row.is_held:
        return "true", f"umount {place}; if mountpoint -q /mnt/full; then umount /mnt/full; fi"
    return f"mount -t tmpfs -o nr_inodes=1,mode=0777 full {place}", f"umount {place}"


def play_with_fault(row: Row, host: Host, ways: Ways, wish: Wish) -> Run:
    if not row.is_held:
        return host.run(wish, "-vvv", "--diff").wait()
    host.calls.arm(row.step)
    run = host.run(wish, "-vvv", "--diff")
    reached = host.calls.reached(run)
    assert TOKEN not in host.visible()
    inject(row, host, ways, run, reached["pid"])
    return run.wait()


def inject(row: Row, host: Host, ways: Ways, run: Run, pid: int) -> None:
    """Let the fault happen while the call that begins the step is held."""
    if row.kills:
        run.kill()
    if row.fault == BOTH:
        host.sh(f"kill -KILL {pid}")
    if row.fault == RESTARTS:
        host.restart_engine()
    if row.fault == TAKEN:
        host.take_port()
    if row.fault == DISK:
        place = of(FULL["create"], ways.new)
        full = FILL.format(place=place) if ways.new == SERVICE else f"mount -t tmpfs -o nr_inodes=1 full {place}"
        host.sh(full)
    then = {FAILS: "fail", HANGS: "hang", BOTH: "drop", RESTARTS: "drop"}.get(row.fault, "forward")
    host.calls.send(then=then, message=row.message(ways))
    if row.kills:
        # The module on the host runs to its end.
        assert eventually(lambda: not host.lives(pid), 60)


def seen(row: Row, ways: Ways, run: Run) -> str:
    """What the user sees."""
    if row.kills:
        return "(killed: no message)"
    if row.words(ways):
        return refused(run, row.words(ways))
    assert run.status == 0, run.text[-3000:]
    return "(the run continues, and succeeds)"


def refused(run: Run, says: str) -> str:
    """What the user sees of a failure, up to the end of the sentence that names the cause."""
    assert run.status != 0
    assert TOKEN not in run.text
    said = run.message
    assert says in said, said
    # The log of a server that died may have one of its own.
    assert not re.search(r"Traceback[^\n]*\n\s+File [^\n]*(ansible|AnsiballZ)", run.text)
    assert "Traceback" not in said
    end = re.compile(r"\. (?:[A-Z]|vllm-)|\.?$").search(said, said.index(says) + len(says))
    return said[: end.start() if end else len(said)]


def who_answers(row: Row, host: Host, ways: Ways, old: Wish, new: Wish) -> str:
    serves = row.serving(ways)
    model = {"old": old.model, "new": new.model, "none": ""}[serves]
    if model:
        assert eventually(lambda: host.answers() == model, COMES_BACK), (host.answers(), host.servers())
    else:
        assert host.answers() == ""
    assert host.leaks() == []
    return {"old": "the old server", "new": "the new server", "none": "none until the next run"}[serves]


def converges(host: Host, wish: Wish, twice: bool = True) -> None:
    """A run gets there with nothing left over, and the one after it changes nothing."""
    run = host.run(wish)
    assert run.status == 0, run.text[-3000:]
    assert TOKEN not in run.text
    assert host.answers() == wish.model
    host.wish = wish
    after = host.servers()
    state = "active/enabled" if wish.backend == SERVICE else "running"
    assert [(one[0], one[2]) for one in after] == [(wish.instance, state)], after
    assert (host.litter(), host.leaks()) == ([], [])
    if twice:
        again = host.run(wish)
        assert (again.status, again.changed) == (0, []), again.text[-3000:]
        assert host.servers() == after


def neutral(told: str, old: Wish, new: Wish) -> str:
    """A message without what differs from run to run, or depends on the row before."""
    names = (
        {old.container: "OLD", new.container: "NEW"} if old.container != new.container else {old.container: "SERVER"}
    )
    for name, neutrally in {**names, old.model: "OLD-MODEL", new.model: "NEW-MODEL"}.items():
        told = re.sub(rf"\b(?:(?:openai|google)(?:/|--))?{re.escape(name)}(?:-it)?\b", neutrally, told)
    told = re.sub(r"\b(?=\w*\d)[0-9a-f]{12}\b|\b[0-9a-f]{40}(?:[0-9a-f]{24})?\b", "ID", told.replace("|", "/"))
    told = re.sub(r" \([\w, ]+ changed\)", "", told)
    told = re.sub(r"GetImageBlob\d+", "GetImageBlob", told)
    told = re.sub(r"\bPID \d+(, since [\d:]+)?", "PID N", told)
    told = re.sub(r"\b\d+(?:\.\d+)? s\b", "N s", re.sub(r"\b\d+ attempts?\b", "N attempts", told))
    # How far a start had come is seen a little sooner or later.
    return re.sub(r" It was [\w %()/]+ N s into the wait", "", told)
