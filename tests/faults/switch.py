# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A switch from one server to another, with a fault at one of its steps, and the runs after it."""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass, field

from simulated import CACHE, TOKEN, Host, Run, Wish, eventually

GPT_OSS = Wish("deploy_gptoss.yml", "gpt-oss-120b", "vllm-gpt-oss")
GEMMA = Wish("deploy_gemma3.yml", "gemma-3-27b", "vllm-gemma3")
REGISTRY_IMAGE = "127.0.0.1:5000/nvidia/vllm:25.10-py3"
# A server that is started again by the engine, or by a module whose controller died, takes its time.
COMES_BACK = 15.0

# Steps that only a server takes that is replaced by itself, changed: two servers have names of their own.
RENAMING = ("set aside", "rename")
ANOTHER_PORT = 8001
# Where a step writes; a file system that has no room for another file takes its place.
FULL = {
    "prepare": "/home/gpu/vllm/secrets",
    "pull": "/var/lib/docker/tmp",
    "fetch": f"{CACHE}/hub",
    "create": "/var/lib/docker/containers",
}

FAILS, HANGS, RESTARTS = "fails", "hangs", "Docker Engine restarts"
CONTROLLER, BOTH = "controller killed", "controller and module killed"
DISK, TAKEN = "disk full", "port taken"
# Steps of which a failure has the old server go on as if nothing had been tried.
UNTOUCHED = ("preflight", "prepare", "pull", "fetch", "create", "try")


@dataclass(frozen=True)
class Row:
    """A fault at a step, and what is to come of it."""

    step: str
    fault: str
    # Words of the sentence that the user gets; none where the controller died.
    says: str = ""
    # Who answers afterwards: the old server, the new one, or none until the next run.
    serves: str = "old"
    # Whether the next run goes back to the old server instead.
    back: bool = False
    docker: str = ""
    stand_in: t.Mapping[str, t.Any] = field(default_factory=dict)

    @property
    def told(self) -> str:
        """The fault, and how the server that is new fails, where that is what happens."""
        how = self.stand_in.get("fault", "") if self.fault in (FAILS, HANGS) else ""
        return self.fault + (f" ({how})" if how else "")

    @property
    def name(self) -> str:
        return f"{self.step}: {self.told}{' - and back' if self.back else ''}"

    @property
    def kills(self) -> bool:
        return self.fault in (CONTROLLER, BOTH)

    @property
    def waits(self) -> bool:
        """Whether a client of the engine has to lose its patience: a minute, in which this machine does nothing."""
        return self.fault == HANGS and not self.stand_in

    def play(self, host: Host) -> Line:
        return play(self, host)


@dataclass(frozen=True)
class Line:
    """A line of the report."""

    step: str
    fault: str
    sees: str
    serves: str
    then: str

    def __str__(self) -> str:
        return f"| {self.step} | {self.fault} | {self.sees} | {self.serves} | {self.then} |"


def play(row: Row, host: Host) -> Line:
    """Switch with the fault, look, run again without it, and once more.

    Raises:
        AssertionError: when something is not as the row says.
    """
    old = served(host)
    new = changed(old) if row.step in RENAMING else another(old)
    before = host.containers()
    switching = with_fault(row, host, old, new)
    assert TOKEN not in switching.text
    told = seen(row, switching)
    serves = who_answers(row, host, old, new)
    if row.serves == "old" and not row.kills:
        # The same container with the same name, and where nothing had to stop it, the same process.
        depth = 4 if row.step in UNTOUCHED and row.fault != RESTARTS else 3
        assert [one[:depth] for one in host.containers()] == [one[:depth] for one in before]
    # A switch that left no trace is followed by one as any other, which needs no third run.
    converges(host, for_(row, old if row.back else new), twice=row.serves != "old" or row.kills)
    return Line(row.step, row.told, neutral(told, old, new), serves, "goes back to the old" if row.back else "goes on")


def served(host: Host) -> Wish:
    """What serves on the host; gpt-oss, where a row before this one left something else."""
    if host.wish is None or host.answers() != host.wish.model or host.names() != [host.wish.container]:
        host.reset()
        serving(host, GPT_OSS)
    return t.cast(Wish, host.wish)


def serving(host: Host, wish: Wish) -> None:
    """Have the host serve this."""
    if host.wish != wish or host.answers() != wish.model or host.names() != [wish.container]:
        run = host.run(wish)
        assert run.status == 0, run.text[-3000:]
        host.wish = wish


def another(old: Wish) -> Wish:
    """Another server, which cannot run beside this one."""
    return GEMMA if old.container == GPT_OSS.container else GPT_OSS


def changed(old: Wish) -> Wish:
    """The same server with another name for its model."""
    plain = another(another(old))
    return plain if old != plain else plain.answering("another-name").with_(served_model_name="another-name")


def for_(row: Row, wish: Wish) -> Wish:
    """Each row that pulls has an image of its own: one that was pulled before would not be pulled again."""
    return wish.but(vllm_image=f"{REGISTRY_IMAGE}-{row.told.replace(' ', '-')}".lower()) if row.step == "pull" else wish


def with_fault(row: Row, host: Host, old: Wish, new: Wish) -> Run:
    """The run that is to fail, up to its end and that of the module on the host."""
    wish = for_(row, new)
    if row.step == "pull":
        host.serve_images()
    if row.step == "fetch":
        host.sh(f"rm -rf {CACHE}/hub/models--*{new.model}*")
    if (row.step, row.fault) == ("preflight", TAKEN):
        wish = new.with_(port=ANOTHER_PORT)
        host.take_port(ANOTHER_PORT)
    host.stand_in(only_with=new.model, **row.stand_in)
    try:
        with host.so(*condition(row)):
            return play_with_fault(row, host, wish)
    finally:
        host.stand_in()


def condition(row: Row) -> tuple[str, str]:
    """What is so during the whole run: how it is brought about, and how it is ended."""
    if row.fault == TAKEN:
        return "true", "systemctl stop squatter"
    place = FULL.get(row.step) if row.fault == DISK else None
    if row.step == "create" and place:
        return "true", f"umount {place}"
    return (f"mount -t tmpfs -o nr_inodes=1,mode=0777 full {place}", f"umount {place}") if place else ("true", "true")


def play_with_fault(row: Row, host: Host, wish: Wish) -> Run:
    run_only = row.stand_in and not row.kills and row.fault != RESTARTS
    if run_only or row.fault == DISK and row.step != "create" or (row.step, row.fault) == ("preflight", TAKEN):
        return host.run(wish, "-vvv", "--diff").wait()
    host.proxy.arm(row.step)
    run = host.run(wish, "-vvv", "--diff")
    reached = host.proxy.reached(run)
    assert TOKEN not in host.visible()
    inject(row, host, run, reached["pid"])
    return run.wait()


def inject(row: Row, host: Host, run: Run, pid: int) -> None:
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
        host.sh(f"mount -t tmpfs -o nr_inodes=1 full {FULL['create']}")
    then = {FAILS: "fail", HANGS: "hang", BOTH: "drop", RESTARTS: "drop"}.get(row.fault, "forward")
    host.proxy.send(then=then, message=row.docker)
    if row.kills:
        # The module on the host runs to its end.
        assert eventually(lambda: not host.lives(pid), 60)


def seen(row: Row, run: Run) -> str:
    """What the user sees."""
    if row.kills:
        return "(nobody is there)"
    if row.says:
        return refused(run, row.says)
    assert run.status == 0, run.text[-3000:]
    return "(the run goes on, and succeeds)"


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


def who_answers(row: Row, host: Host, old: Wish, new: Wish) -> str:
    model = {"old": old.model, "new": new.model, "none": ""}[row.serves]
    if model:
        assert eventually(lambda: host.answers() == model, COMES_BACK), (host.answers(), host.containers())
    else:
        assert host.answers() == ""
    assert host.leaks() == []
    return {"old": "the old server", "new": "the new server", "none": "none until the next run"}[row.serves]


def converges(host: Host, wish: Wish, twice: bool = True) -> None:
    """A run gets there with nothing left over, and the one after it changes nothing."""
    run = host.run(wish)
    assert run.status == 0, run.text[-3000:]
    assert TOKEN not in run.text
    assert host.answers() == wish.model
    host.wish = wish
    after = host.containers()
    assert [one[0] for one in after] == [wish.container], after
    assert host.leaks() == []
    if twice:
        again = host.run(wish)
        assert (again.status, again.changed) == (0, []), again.text[-3000:]
        assert host.containers() == after


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
