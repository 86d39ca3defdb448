# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From a server's log and how its process ended to a diagnosis: root cause, evidence, remedy.

Pure: text in, values out. A log may hold several lives of the server (a restart policy, an appended file); the last
one counts. Within it the first root cause wins over what followed from it, however often worker, engine and API
server repeat that.
"""

from __future__ import annotations

import functools
import re
import typing as t
from dataclasses import dataclass, replace

from .._host.processes import ProcessState
from .exceptions import SECONDARY, TRACEBACK, Sort, Told, beside, clip, settings_in, sort_of, told
from .failures import BY_ID, GENERIC, SIGNATURES
from .failures_process import CRASHES
from .log import QUIET, Line, Log, Words, is_quoted, lives, parse_lines, seconds_of
from .phase_lines import READY, SERVING, begins, is_progress, is_progress_bar
from .signature import HIGHER_ABOVE, PANE, Found, Signature, say

NONE, UNKNOWN = "none", "unknown"
NOT_KNOWN = ProcessState()
EVIDENCE_LINES = 12
# Nobody copies more than so many characters out of a window.
PASTED = 512 * 1024
DIGITS = "0123456789"


@dataclass(frozen=True)
class Diagnosis:
    """The root cause of a failure, with what to change and the lines that prove it."""

    id: str
    cause: str
    remedy: str = ""
    evidence: str = ""
    retryable: bool | None = None
    symptoms: tuple[str, ...] = ()
    # A process that still runs will not get over it. Not part of the result.
    final: bool = False
    # The names and numbers of it that stand in the log, without blanks. Not part of the result either.
    named: str = ""

    def to_dict(self) -> dict[str, t.Any]:
        """As results have it."""
        return {
            "id": self.id,
            "cause": self.cause,
            "remedy": self.remedy,
            "evidence": self.evidence,
            "retryable": self.retryable,
            "symptoms": list(self.symptoms),
        }

    @property
    def failed(self) -> bool:
        """Whether anything is wrong."""
        return self.id != NONE

    def sentence(self) -> str:
        """Cause, remedy and evidence, as a failure message has them."""
        sentence = f"{self.cause} {self.remedy}".strip()
        return "\n".join([sentence, *(f"  {line}" for line in self.evidence.splitlines())])


IS_READY = Words(re.compile(READY), (READY,))
# Somebody asked it to stop. A server whose engine died shuts down in the same words, after it said so.
STOPPING = Words(
    re.compile(
        r"\[shutdown\] API server: shutdown triggered|trigger received signal=|^Shutting down$|^Received SIGTERM"
        r"|^KeyboardInterrupt\b|\*\*\* SIGTERM received at time"
    ),
    (
        "shutdown triggered",
        "trigger received signal=",
        "Shutting down",
        "Received SIGTERM",
        "KeyboardInterrupt",
        "SIGTERM received",
    ),
)
SERVES = re.compile(r"Avg generation throughput: (?!0\.0 )|\"POST /v1/\S+ HTTP/[\d.]+\" 200")
# A long log may begin after the server was ready.
HAS_SERVED = Words(re.compile(SERVING), (" HTTP/", "Avg generation "))
# What is no good end of a log, in whatever a collector or a terminal put around it: an error, a usage, an exception, a
# process that was ended. The words after which a process is known to go on are those of QUIETLY.
LOUDLY = re.compile(
    r"(?:^|[\s\u2500-\u257f|])(?:usage: (?!\d)\S|(?:[\w./-]+: )?(?:[Ff]atal )?[Ee]rror:(?: |$)|(?:fatal|panic|FATAL): "
    r"|(?:ERROR|CRITICAL|FATAL)\b(?!:? *$)|Error response from daemon|Traceback \(most recent call last\)"
    r"|Segmentation fault|Bus error|Illegal instruction|terminate called|Aborted\b|Killed\s*(?:[\u2500-\u257f|]|$)"
    r"|[A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt|Failure|Fault)(?:: |$))"
    # What a shell, an interpreter and Docker say of what they could not even begin.
    r"|^(?:\S*/)?(?:ba|da|z|k|a)?sh: .*(?:not found|denied|No such file or directory|cannot execute\b.*)$"
    r"|^(?:\S*/)?python[\d.]*: |^yaml: |Docker daemon\b"
)
QUIETLY = re.compile(r"(?:^|[\s\u2500-\u257f|])(?:DEBUG|INFO|WARNING)(?::  | \d\d-\d\d )|SystemExit(?:: 0)?$")
# How a process ended, as those say it who ran it.
EXITED = Words(
    re.compile(
        r"Main process exited, code=(?:exited, status=(?P<status>\d+)|(?:killed|dumped), status=(?P<signal>\d+))"
        r"|\bexited with code (?P<code>\d+)|Reason: +OOMKilled"
    ),
    ("Main process exited", "exited with code", "OOMKilled"),
)
# What dying processes write for the last time, however calmly.
DYING = re.compile(
    r"destroy_process_group\(\) was not called|resource_tracker|leaked \w+ objects|^\[shutdown\]|[Tt]erminating"
    r"|[Tt]erminated"
    r"|Parent process exited|[Ss]hutting down"
)
# A line that says itself that nothing came of it.
DISMISSED = re.compile(
    r"\b[Ii]gnored error\b|\b[Ww]ill ignore\b|\b[Ii]gnoring\b|\b[Ss]kipping\b|\b[Ff]all(?:ing|s)? ?back to\b"
    r"|\b[Rr]etrying (?:\d+ of|in)\b"
)
# How Python's own logging says how bad a line is, and others do.
CALMLY = re.compile(r" - (?:DEBUG|INFO|WARNING) - ")
# A line of code that raises, as a traceback shows it: the message itself stands below.
CODE = re.compile(r"\s+(?:raise \w|[fr]?[\"'])")
# A library that vLLM does without, and of which only a warning tells that it could not be imported.
OPTIONAL = re.compile(r"Failed to import from vllm\._(?!(?:moe_)?C\b)")
USAGE = re.compile(r"(?:^|[\s\u2500-\u257f|])usage: (?!\d)\S", re.MULTILINE)


# ---------------------------------------------------------------------------------------------------------------------
# Diagnosis
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hit:
    """A signature, and the line of the log where it was found."""

    signature: Signature
    index: int
    groups: t.Mapping[str, str]
    is_quiet: bool = False
    # Between quotation marks, as in an exception that shows its input.
    is_quoted: bool = False


def diagnose(text: str, state: ProcessState = NOT_KNOWN, facts: t.Mapping[str, t.Any] | None = None) -> Diagnosis:
    """What is wrong with a server, from its log, how its process ended and what C(gpu_facts) says of the host."""
    text = f"{text}\n{state.error}" if state.error else text
    lines = parse_lines(text)
    found = _newest(lines, state, facts or {})
    if found.failed and len(text) <= PASTED:
        # A line that a window of an odd width broke shows by what it tells once it is whole.
        wholes = [whole for how in ("column", "blank") if (whole := parse_lines(text, how)) != lines]
        every = [_newest(whole, state, facts or {}) for whole in wholes]
        found = max([found, *(again for again in every if _tells_more(again, found))], key=_exactness)
    return found


def last_failure(text: str, facts: t.Mapping[str, t.Any] | None = None) -> Diagnosis:
    """What a server died of that was started again: the newest life that failed, of the last two that its log tells."""
    ended = [_diagnosed(life, NOT_KNOWN, facts or {}) for life in lives(parse_lines(text))[:-3:-1]]
    return next((found for found in ended if found.failed), ended[0])


def _tells_more(again: Diagnosis, found: Diagnosis) -> bool:
    is_same = again.id == found.id and "".join(again.evidence.split()).startswith("".join(found.evidence.split()))
    return _exactness(again)[0] > _exactness(found)[0] or is_same


def _exactness(found: Diagnosis) -> tuple[int, int, int]:
    """How much a diagnosis tells: that something failed, in what words, of what kind it is, or what exactly; and how
    much of that."""
    is_known = found.id in BY_ID and found.id not in GENERIC
    is_exact = is_known and not BY_ID[found.id].general and found.id != "args-invalid"
    is_told = is_known or found.id == UNKNOWN and " failed: " in found.cause
    return is_told + is_known + is_exact, len(found.named), len("".join(found.cause.split()))


def _newest(lines: list[Line], state: ProcessState, facts: t.Mapping[str, t.Any]) -> Diagnosis:
    """The diagnosis of the life that counts."""
    every = lives(lines)
    state = _with_exit(state, every[-1])
    if not state.running and "usage: " in every[-1].text:
        every = [*every[:-1], *_before_usage(every[-1])]
    found = _diagnosed(every[-1], state, facts)
    if not found.failed and state.restarts and every[-1].last(IS_READY) is None:
        # It is starting again after a failure, and will fail again. A start that has written little has no banner yet.
        ended = (_diagnosed(life, replace(state, running=None, stopped=()), facts) for life in every[:-3:-1])
        found = next((one for one in ended if one.failed), found)
    if not found.failed and state.running is None and every[-1].last(IS_READY) is None:
        # Nobody tells of restarts, but that it failed twice, one start after the other, does.
        ended = (_diagnosed(life, replace(state, running=None), facts) for life in every[:-1])
        before = list(ended)[-2:]
        found = before[-1] if len(before) == 2 and all(one.failed for one in before) else found
    return found


# What a server died of, it told no longer before, in seconds: not what failed in the morning when it died at night.
LATELY = 1800.0


def _before_end(life: Log, hits: list[Hit], ready: int, state: ProcessState) -> int:
    """Of a server that served the last line that tells nothing of its end: where it listened, or a later one."""
    ends = (hit.index for hit in hits if hit.index > ready and hit.signature.kind == "symptom" and hit.signature.final)
    end = next(ends, len(life.lines) - 1 if is_dead(state) else ready)
    times = [seconds_of(line.time) for line in life.lines[: end + 1]]
    at = next((time for time in reversed(times) if time is not None), None)
    old = (i for i in range(end, ready, -1) if (time := times[i]) is not None and at is not None and at - time > LATELY)
    return max(ready, next(old, ready))


def _with_exit(state: ProcessState, life: Log) -> ProcessState:
    """What is known of a process, and of its end what systemd, compose or Kubernetes wrote into the log."""
    last = life.last(EXITED) if state.running is None and state.exit_status is None else None
    match = EXITED.search(life.lines[last].text) if last is not None else None
    if last is None or match is None or any(_is_quiet(line) for line in life.lines[last + 1 :]):
        return state
    number = int(match.group("status") or match.group("signal") or match.group("code") or 137)
    status = number + (128 if match.group("signal") else 0)
    return replace(
        state, running=False, exit_status=status, oom_killed=state.oom_killed or "OOMKilled" in match.group()
    )


def _before_usage(life: Log) -> list[Log]:
    """A life, and the start after it that ended over its arguments: before it wrote a banner. No request does that."""
    first = _ending(life)
    is_usage = any(USAGE.search(line.text) for line in life.lines[first:])
    return [Log(life.lines[:first]), Log(life.lines[first:])] if is_usage and first else [life]


def _diagnosed(life: Log, state: ProcessState, facts: t.Mapping[str, t.Any]) -> Diagnosis:
    ready = life.last(IS_READY)
    served = ready is not None or life.first(HAS_SERVED) is not None
    # What a server that listens quotes, its users said.
    mine = [hit for hit in _hits(life) if not (served and hit.is_quoted)]
    part = life.after(_before_end(life, mine, -1 if ready is None else ready, state) if served else -1)
    stopping = part.first(STOPPING)
    begin = len(life.lines) - len(part.lines)
    hits = [replace(hit, index=hit.index - begin) for hit in mine if hit.index >= begin]
    hits = [hit for hit in hits if stopping is None or hit.index < stopping]
    symptoms = [hit for hit in hits if hit.signature.kind == "symptom" and not _healed(hit, part)]
    is_ending = any(hit.signature.final for hit in symptoms) or is_dead(state)
    roots = [hit for hit in hits if hit.signature.kind == "root"]
    if not is_ending:
        roots = [hit for hit in roots if not hit.is_quiet]
        roots = [hit for hit in roots if _stands(hit, part, served)]
    notes = _ids(hit for hit in mine if hit.signature.kind == "warn")
    chosen = _first(roots) or _by_state(state)
    if chosen and _may_be_beside(chosen, part) and _is_beside(chosen, roots, told(part, is_ending), part):
        chosen = None
    if chosen:
        found = _diagnosis_of(chosen, part, life, facts, _ids(symptoms) + notes)
        return replace(found, final=found.final or is_ending)
    if state.stopped and not is_ending:
        return _halted(state, _ids(symptoms) + notes)
    part = part if stopping is None else Log(part.lines[:stopping])
    is_suspect = is_ending or not served and state.running is None
    unnamed = told(part, is_ending) if is_suspect else None
    # That only something else failed explains nothing: so it is when a process was killed without a word.
    telling = symptoms if served or is_ending else _hangs(symptoms, part)
    named = _symptom(telling, served, unnamed is not None and not SECONDARY.search(unnamed.summary))
    if named:
        others = [symptom for symptom in symptoms if symptom.signature is not named.signature]
        found = _diagnosis_of(named, part, life, facts, _ids(others) + notes)
        return _with_exception(found, unnamed)
    # What a server that serves wrote last is the business of a request, unless it left right then by itself.
    left = state.running is False and state.exit_status not in ASKED_TO and stopping is None
    if not (unnamed or state.running) and (left or not served):
        unnamed = _end(part)
    if stopping is not None and unnamed and (SECONDARY.search(unnamed.summary) or TRACEBACK.match(unnamed.summary)):
        # What a start that is interrupted is in the middle of.
        unnamed = None
    never = left and not served and bool(life.text.strip())
    if unnamed or never or is_dead(state) and not _stopped(life, state):
        found = _unknown(unnamed, life, state, _ids(symptoms) + notes)
        return replace(found, final=found.final or is_ending)
    return Diagnosis(NONE, _quiet(life, served), symptoms=notes)


# A server says so once a minute; single kernels compiled for close to five.
WAITS = 5
# The status of a process that was asked to end (SIGTERM), and did.
ASKED_TO = (143,)


def is_dead(state: ProcessState) -> bool:
    """Whether the process is gone for a reason other than an orderly stop."""
    is_bad = state.exit_status not in (0, None, *ASKED_TO)
    return state.running is False and (is_bad or bool(state.error) or state.oom_killed)


def _stopped(life: Log, state: ProcessState) -> bool:
    # 130: by a key of the terminal (SIGINT).
    return state.exit_status in (0, 130, *ASKED_TO) and life.last(STOPPING) is not None


def _quiet(life: Log, served: bool) -> str:
    if life.last(STOPPING) is not None:
        return "The server was stopped; its log shows no failure."
    return "The server is up." if served else "The log shows no failure."


def _hits(log: Log) -> list[Hit]:
    hits, unheeded = [], beside(log)
    for signature, regex in _compiled():
        if any(literal in log.text for literal in signature.literals.split("|")):
            for match in regex.finditer(log.text):
                index = log.index(match.start())
                # A wait is told in a line of information; all else that is said so is no failure.
                is_told = signature.kind == "warn" or signature.kind == "symptom" and not signature.final
                line = log.lines[index]
                if CODE.match(line.text) or index in unheeded:
                    continue
                is_quiet = line.level in QUIET or CALMLY.search(line.text) is not None
                if is_told or not is_quiet or signature.warned and line.level == "WARNING":
                    # Names that differ in a number at their end alone are spellings of one.
                    groups = {k.rstrip(DIGITS): v for k, v in match.groupdict().items() if v is not None}
                    quoted = is_quoted(line.text, match.start() - log.starts[index])
                    is_quiet = is_quiet or not signature.final and DISMISSED.search(line.text) is not None
                    hits.append(Hit(signature, index, groups, is_quiet, quoted))
    return sorted(hits, key=lambda hit: hit.index)


@functools.lru_cache(maxsize=1)
def _compiled() -> tuple[tuple[Signature, re.Pattern[str]], ...]:
    return tuple((signature, signature.regex()) for signature in SIGNATURES)


def _ids(hits: t.Iterable[Hit]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(hit.signature.id for hit in hits))


def _stands(hit: Hit, part: Log, served: bool) -> bool:
    """Whether a root still matters to a process that seems to live: what a request ran into while serving does not,
    nor does what the start went past."""
    if served or hit.signature.serving:
        return hit.signature.serving
    return hit.signature.final or not part.went_on(hit.index)


def _healed(hit: Hit, part: Log) -> bool:
    """Whether a wait that was noticed is over: the start went on, or tokens came again."""
    if hit.signature.final:
        return False
    return any(begins(line.text) or SERVES.search(line.text) for line in part.lines[hit.index + 1 :])


def _hangs(symptoms: list[Hit], part: Log) -> list[Hit]:
    """The waits of a start that are too many in a row: kernels compile and weights load for minutes, too. A log of
    nothing else does not show a start."""
    moved = max((index for index, line in enumerate(part.lines) if is_progress(line.text)), default=-1)
    waits = [hit for hit in symptoms if hit.index > moved]
    return waits if moved < 0 or len(waits) >= WAITS else []


def _first(roots: list[Hit]) -> Hit | None:
    """The first root cause; a mere attempt that is made again comes after all others, and a mere kind after those."""
    roots = [hit for hit in roots if not hit.is_quiet] or roots
    roots = [hit for hit in roots if not hit.signature.general] or roots
    firm = [hit for hit in roots if hit.signature.final] or roots
    if not firm:
        return None
    first = min(roots, key=lambda hit: (not hit.signature.final and firm is not roots and _later(hit, firm), hit.index))
    return next((hit for hit in roots if first.signature.id in hit.signature.narrows), first)


def _may_be_beside(hit: Hit, part: Log) -> bool:
    """Whether a root is a mere kind, or what a start went past: something else may have failed."""
    text = part.lines[hit.index].text
    is_past = not hit.signature.final and (part.went_on(hit.index) or DISMISSED.search(text))
    return hit.signature.general or bool(is_past or OPTIONAL.search(text))


def _is_beside(hit: Hit, roots: list[Hit], tells: Told | None, part: Log) -> bool:
    """Whether a root is something else than the exception that tells, or, of a mere kind, than what a log ends in."""
    same = [other.index for other in roots if other.signature is hit.signature]
    is_general = hit.signature.general
    if tells is None or not is_general and SECONDARY.search(tells.summary):
        return is_general and all(index < _ending(part) for index in same)
    return not any(tells.index <= index < tells.index + EVIDENCE_LINES for index in same)


def _later(hit: Hit, firm: list[Hit]) -> bool:
    return all(hit.signature.id not in other.signature.narrows for other in firm)


def _by_state(state: ProcessState) -> Hit | None:
    if state.oom_killed:
        return Hit(BY_ID["xid-unified-oom"], -1, {})
    return None


def _symptom(symptoms: list[Hit], served: bool, explained: bool) -> Hit | None:
    """The symptom that says most, the first of its kind. One that says nothing of its own gives way to an exception,
    except that an engine which dies while it serves is news by itself."""
    telling = [hit for hit in symptoms if hit.signature.id not in GENERIC]
    if explained and not served:
        # Workers die of what the exception says, too.
        telling = [hit for hit in telling if hit.signature.id in ("rpc-timeout", "nccl-error")]
    serious = [hit for hit in telling if hit.signature.final]
    if serious:
        return serious[0]
    generic = sorted((h for h in symptoms if h.signature.id in GENERIC), key=lambda h: GENERIC.index(h.signature.id))
    if generic and (served or not explained):
        dies = served and generic[0].signature.id == "engine-fatal"
        # What the engine says as it dies, the API server says a moment later: one failure, however early one looks.
        return replace(generic[0], signature=BY_ID["engine-dead"]) if dies else generic[0]
    return telling[-1] if telling and not explained else None


def _diagnosis_of(hit: Hit, part: Log, life: Log, facts: t.Mapping[str, t.Any], symptoms: tuple[str, ...]) -> Diagnosis:
    signature = hit.signature
    found = Found(hit.groups, life.setting, facts, life.text)
    return Diagnosis(
        id=signature.id,
        cause=say(signature.cause, found),
        remedy=say(signature.remedy, found),
        evidence=clip(part.lines[hit.index].text) if hit.index >= 0 else "",
        retryable=signature.retryable,
        symptoms=symptoms,
        final=signature.final,
        named="".join("".join(hit.groups.values()).split()),
    )


# --- what no signature knows ---


def _end(log: Log) -> Told | None:
    """The error, usage or exception that a log ends in, with what belongs to it; None where something went on."""
    loud = [i for i in range(_ending(log), len(log.lines)) if log.lines[i].is_error or LOUDLY.search(log.lines[i].text)]
    if not loud:
        return None
    # What argparse says after the usage, and the exception after its traceback.
    told = [i for i in loud if not re.search(r"usage: |Traceback \(most", log.lines[i].text)] or loud
    texts = [line.text.strip(PANE) for line in log.lines[loud[0] :]]
    lines = tuple(clip(text) for text in texts if text)[-EVIDENCE_LINES:]
    return Told(clip(log.lines[told[0]].text.strip(PANE)), lines, told[0])


def _ending(log: Log) -> int:
    """Where the lines begin after the last one that shows a process going on."""
    return next((i + 1 for i in range(len(log.lines) - 1, -1, -1) if _is_quiet(log.lines[i])), 0)


def _is_quiet(line: Line) -> bool:
    """Whether a line shows that its process went on."""
    if DISMISSED.search(line.text) or CALMLY.search(line.text):
        return True
    if line.is_error or DYING.search(line.text):
        return False
    return line.level in QUIET or bool(QUIETLY.search(line.text) or begins(line.text) or HAS_SERVED.search(line.text))


STATUS_MEANING = {
    0: "it left before it listened, as if nothing had happened",
    2: "it does not take its arguments, or the shell could not run the command",
    126: "the command in the image may not be executed, or was built for another CPU architecture",
    127: "the image has no such command: check image and its entrypoint",
    130: "it was interrupted (SIGINT)",
    132: "illegal instruction",
    134: "it aborted itself (SIGABRT)",
    135: "bus error: /dev/shm is too small, so keep ipc_mode: host",
    137: "it was killed with SIGKILL, by the kernel for lack of memory or by a user (docker kill, a stop that took "
    "too long)",
    139: "segmentation fault",
    200: "systemd cannot change to the unit's WorkingDirectory",
    203: "systemd cannot execute the command of the unit: check the path in ExecStart",
    216: "systemd does not know the group of the unit",
    217: "systemd does not know the user of the unit",
    255: "the command failed before vLLM began",
}


def _unknown(unnamed: Told | None, life: Log, state: ProcessState, symptoms: tuple[str, ...]) -> Diagnosis:
    """What is known of a failure that is in no table: its own words, of what kind it is, and nothing made up."""
    evidence = list(unnamed.lines) if unnamed else _last_errors(life)
    if unnamed is None and not state.error:
        return replace(_silent(state, evidence, life), symptoms=symptoms)
    if unnamed is None:
        cause, remedy = f"{state.name} could not be started: {state.error}", state.error_remedy or LOOK_AROUND
        return Diagnosis(UNKNOWN, cause, remedy, "\n".join(evidence), None, symptoms, final=state.running is not True)
    status = f" (exit status {state.exit_status})" if state.exit_status else ""
    ending = _ended_with_stop(unnamed.summary)
    words = f"{ending.rstrip('.')}{status}." if status else ending
    cause = f"{state.name} failed: {words}"
    return Diagnosis(
        UNKNOWN,
        cause,
        _look(unnamed),
        "\n".join(evidence[:EVIDENCE_LINES]),
        _sort(unnamed).retryable,
        symptoms,
        final=state.running is not True,
    )


def _sort(unnamed: Told, served: bool = False) -> Sort:
    return sort_of(unnamed.summary, unnamed.advice, unnamed.where, unnamed.code, served)


def _look(unnamed: Told, served: bool = False) -> str:
    """What an error of a kind means, where to look, which settings it has to do with, and where it was raised."""
    sort = _sort(unnamed, served)
    where = f" It was raised in {unnamed.where}." if unnamed.where else ""
    named = settings_in(unnamed.summary, unnamed.where) or settings_in("", unnamed.code)
    about = f" It has to do with {', '.join(named)}." if named else ""
    return f"{sort.what}: {sort.look}.{about}{where}"


LOOK_AROUND = "Read the evidence; the full log has the rest."
SAYS_NOTHING = (
    "Read the evidence, its last lines. Then start the same command in a shell on the host, with VLLM_LOGGING_LEVEL: "
    "DEBUG in env, and look at dmesg and at the journal of Docker or systemd for the time of its end."
)


def _silent(state: ProcessState, evidence: list[str], life: Log) -> Diagnosis:
    """A process that ended without a word of its own; what never came to vLLM may have said why in any words."""
    killed = state.exit_status in (137, 139, 135, 134, 132)
    look = "Look at dmesg (the kernel's out-of-memory killer, Xid lines) and at coredumpctl. " if killed else ""
    crash = {132: "Illegal instruction", 135: "Bus error"}.get(state.exit_status or 0)
    remedy = CRASHES[crash] if crash else f"{look}{SAYS_NOTHING}"
    has_begun = any(line.level or begins(line.text) for line in life.lines)
    last = "" if has_begun or not evidence else f" The last line of its log is: {_ended_with_stop(evidence[-1])}"
    return Diagnosis(
        UNKNOWN, f"{_ended(state)}{last}", remedy, "\n".join(evidence[:EVIDENCE_LINES]), final=state.running is not True
    )


def _ended(state: ProcessState) -> str:
    if state.exit_status is None:
        never = " before it listened" if state.running is False else ""
        return f"{state.name} {'ended' if never else 'failed'}{never}, and its log does not say why."
    meaning = STATUS_MEANING.get(state.exit_status)
    why = f": {meaning}" if meaning else ", and its log does not say why"
    return f"{state.name} exited with status {state.exit_status}{why}."


def _last_errors(life: Log) -> list[str]:
    """The last lines that look like errors, else the last lines."""
    errors = [line.text for line in life.lines if line.is_error or "error" in line.text.lower() and not line.level]
    lines = errors or [line.text for line in life.lines if line.text.strip() and not is_progress_bar(line.text)]
    return [clip(line) for line in lines[-EVIDENCE_LINES:]]


def _with_exception(found: Diagnosis, unnamed: Told | None) -> Diagnosis:
    if unnamed is None or found.id not in GENERIC:
        return found
    cause = f"{found.cause} {_ended_with_stop(unnamed.summary)}"
    remedy = found.remedy
    # Words that only say that something else failed were raised nowhere in particular.
    if not SECONDARY.search(unnamed.summary):
        remedy = remedy.replace(HIGHER_ABOVE, _look(unnamed, served=True))
    return replace(found, cause=cause, remedy=remedy, evidence="\n".join(unnamed.lines))


def _ended_with_stop(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _halted(state: ProcessState, symptoms: tuple[str, ...]) -> Diagnosis:
    """A worker that is stopped; vLLM itself says so only after a minute."""
    who = ", ".join(state.stopped)
    return Diagnosis(
        "shm-broadcast-stall",
        f"{state.name} hangs: its process {who} is stopped (state T) and answers nothing, while /health stays 200.",
        "Continue the process (kill -CONT PID) or restart the server, and find out who stopped it (a debugger, a batch "
        "system, kill -STOP).",
        f"{who}: state T (stopped)",
        True,
        tuple(name for name in symptoms if name != "shm-broadcast-stall"),
        final=True,
    )
