# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is wrong with a spec for its version of vLLM: findings with an address and a remedy. Pure.

An error would stop the start, a warning has no effect or is about to be removed, a note is good to know. Nothing is an
error for a version that was not read: there, what an older release refuses may well work.
"""

from __future__ import annotations

import difflib
import json
import math
import re
import typing as t
from dataclasses import dataclass, replace

from .._vllm import advice, versions
from .._vllm.flags import ENVIRONMENT, FLAGS
from .._vllm.versions import NEWEST, OLDEST, Flag, Release

if t.TYPE_CHECKING:
    from .keys import EngineValue
    from .spec import ServerSpec

Severity = t.Literal["error", "warning", "note"]

# Flags with open choices that end the start over a name nobody registered, with the flag that registers more of them.
# Methods of quantization are registered by packages: an image of the project brings none along.
REGISTERED = {
    "attention_backend": "",
    "mamba_backend": "",
    "quantization": "",
    "reasoning_parser": "reasoning_parser_plugin",
    "tool_call_parser": "tool_parser_plugin",
}
# Their names are looked at only when that is on.
ONLY_WITH = {"tool_call_parser": "enable_auto_tool_choice"}
# More choices than these are not listed in a sentence.
LISTED = 16
# Flags whose value vLLM compares without looking at the case, and those where - is _ as well. The former are compared
# so only where argparse does not compare them first.
CASELESS = (
    "attention_backend",
    "load_format",
    "mamba_backend",
    "mm_encoder_attn_backend",
    "quantization",
    "tokenizer_mode",
)
DASHLESS = ("linear_backend", "moe_backend", "sparse_indexer_topk_backend")
# What vLLM takes beside the choices that its sources list.
MORE_CHOICES = {"attention_backend": ("auto",), "optimization_level": ("0", "1", "2", "3")}
# Methods that weights name in words of their own; since which release vLLM takes theirs, whatever is asked for.
OF_WEIGHTS = {"auto_round": (0, 15), "autoround": (0, 15), "nvfp4": (0, 11)}
# Decimal units may have a fraction, binary ones may not.
HUMAN_NUMBER = re.compile(r"[+-]?\d+|\d+(\.\d+)?[kmgt]|\d+[KMGT]")
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Finding:
    """One thing to say about one key of the spec."""

    severity: Severity
    key: str
    message: str
    remedy: str = ""
    # The server does what was asked for all the same, or may well do so: no reason to refuse it, however strict.
    works: bool = False

    def __str__(self) -> str:
        sentence = f"{self.key}: {self.message}{'; ' if self.remedy else ''}{self.remedy}"
        return sentence if sentence.endswith("?") else f"{sentence}."

    def to_dict(self) -> dict[str, str]:
        """As the filter returns it."""
        return {"severity": self.severity, "key": self.key, "message": self.message, "remedy": self.remedy}


def _error(key: str, message: str, remedy: str) -> Finding:
    return Finding("error", key, message, remedy)


def _warning(key: str, message: str, remedy: str) -> Finding:
    return Finding("warning", key, message, remedy)


def _odd(key: str, message: str, remedy: str) -> Finding:
    return Finding("warning", key, message, remedy, works=True)


def _note(key: str, message: str, remedy: str) -> Finding:
    return Finding("note", key, message, remedy)


def check(spec: ServerSpec) -> list[Finding]:
    """Everything there is to say about a spec, the gravest first."""
    release = Release(spec.vllm_version) if spec.vllm_version else None
    # Nothing is known about the version: judge by the newest, and call nothing an error.
    judged = release or Release(NEWEST)
    # What others have made of vLLM may hold packages that register more.
    is_bare = versions.version_of_image(spec.image) is not None
    findings = [f for name in sorted(spec.engine) for f in _check_option(name, spec.engine, judged, is_bare)]
    findings += [f for name, value in sorted(spec.env.items()) for f in _check_variable(name, value, judged)]
    findings += [f for rule in RULES for f in rule(spec, judged)]
    if release is None or not release.is_covered:
        findings = [replace(f, severity="warning", works=True) if f.severity == "error" else f for f in findings]
    findings = _check_version(spec, release) + findings
    return sorted(findings, key=lambda f: ("error", "warning", "note").index(f.severity))


def judge(findings: t.Iterable[Finding], validation: str) -> tuple[list[str], list[str]]:
    """What forbids the start and what is only reported, as sentences. Notes are for those who ask."""
    refused = {"strict": ("error", "warning"), "normal": ("error",), "permissive": ()}[validation]
    grave = [(f, f.severity in refused and not f.works) for f in findings if f.severity != "note"]
    return [str(f) for f, forbids in grave if forbids], [str(f) for f, forbids in grave if not forbids]


# ---------------------------------------------------------------------------------------------------------------------
# The version itself
# ---------------------------------------------------------------------------------------------------------------------


def _check_version(spec: ServerSpec, release: Release | None) -> list[Finding]:
    if release is None:
        remedy = "set vllm_version, so that flags are checked for the version that will run"
        return [_note("vllm_version", f"it is not known which vLLM is in {spec.image or 'this server'}", remedy)]
    findings = []
    if not versions.may_exist(release.text):
        findings.append(_error("vllm_version", f"vLLM {release.text} was never released", _instead(release.text)))
    elif not release.is_covered:
        newer = release.version > versions.KNOWN[-1]
        edge = f"newer than {NEWEST}, the newest" if newer else f"older than {OLDEST}, the oldest"
        message = f"vLLM {release.text} is {edge} release known here"
        finding = Finding("note" if newer else "warning", "vllm_version", message, "its flags are judged by that one")
        findings.append(replace(finding, works=True))
    tagged = versions.version_of_image(spec.image)
    if tagged and release.version[:3] != versions.parse(tagged)[:3]:
        message = f"{release.text} is not what the name of the image {spec.image} says ({tagged})"
        findings.append(_warning("vllm_version", message, "leave it out unless the name is wrong"))
    return findings


def _instead(text: str) -> str:
    """What may be meant by a number that no release has."""
    if versions.is_of_another_product(text):
        return "it looks like the number of a product; write that of the vLLM in it, or leave it out"
    releases = sorted(versions.RELEASED, key=lambda one: (versions.parse(one), one))
    below = [one for one in releases if versions.parse(one) <= versions.parse(text)]
    above = [one for one in releases if versions.parse(one) > versions.parse(text)]
    return f"{' and '.join([*below[-1:], *above[:1]])} are its neighbours"


# ---------------------------------------------------------------------------------------------------------------------
# One flag
# ---------------------------------------------------------------------------------------------------------------------


def _check_option(
    name: str, engine: t.Mapping[str, EngineValue], release: Release, is_bare: bool = True
) -> list[Finding]:
    key, base, value = f"engine.{name}", name.partition(".")[0], engine[name]
    known = release.knows(base)
    if known is False:
        return [_unknown_option(key, base, value, release)]
    flag = t.cast(Flag, release.flag(base))
    findings = []
    if known is None:
        message = f"it is not certain that vLLM {release.text} has --{_dashed(base)} (its neighbours differ)"
        findings.append(_odd(key, message, f"it exists in {spoken(versions.life(base))}"))
    if flag.is_deprecated:
        remedy = advice.FLAGS.get(base, "leave it out before a later release refuses it")
        findings.append(_odd(key, f"--{_dashed(base)} is deprecated in vLLM {release.text}", remedy))
    if name != base:
        return findings + _check_part(key, flag)
    return findings + _check_value(key, flag, value, release, _is_closed(flag, engine, is_bare))


def _is_closed(flag: Flag, engine: t.Mapping[str, EngineValue], is_bare: bool) -> bool | None:
    """Whether vLLM takes no value beside those of the table; None where it takes what nobody can know, or does not look
    at it."""
    if not flag.is_open:
        return True
    if flag.name in ONLY_WITH and engine.get(ONLY_WITH[flag.name]) is not True:
        return None
    if flag.name not in REGISTERED or (flag.name == "quantization" and not is_bare):
        return False
    return None if engine.get(REGISTERED[flag.name]) else True


def _unknown_option(key: str, name: str, value: EngineValue, release: Release) -> Finding:
    """A flag that the release does not have: why, and what is meant."""
    absent = f"vLLM {release.text} has no --{_dashed(name)}"
    names = release.flags()
    opposite = _opposite(name)
    if opposite and release.knows(opposite) and t.cast(Flag, release.flag(opposite)).kind == "switch":
        wanted = str(not value).lower() if isinstance(value, bool) else "false"
        if name.startswith("no_") or release.behaves("opposite_pairs"):
            return _note(key, f"it is the opposite of --{_dashed(opposite)}", f"{opposite}: {wanted} says the same")
    long = next((n for n in names if name in t.cast(Flag, release.flag(n)).aliases), None)
    if long:
        return _error(key, f"-{name.replace('_', '-')} is the short form of --{_dashed(long)}", f"write {long}")
    if name in FLAGS:
        remedy = advice.FLAGS.get(name) or _did_you_mean(name, names) or "leave it out"
        return _error(key, f"{absent} ({_history(versions.life(name), release)})", remedy)
    meant = advice.MEANT.get(name, name)
    if meant in advice.FLAGS:
        return _error(key, f"{absent} (it never had)", advice.FLAGS[meant])
    extended = [n for n in names if n.startswith(name)]
    if len(extended) == 1 and len(name) > 3:
        message = f"it is short for --{_dashed(extended[0])} until another flag begins the same"
        return _odd(key, message, f"write {extended[0]}")
    hint = f"did you mean {meant}?" if meant != name else _did_you_mean(name, names)
    remedy = hint or "leave it out; a flag of a fork goes under engine_unchecked"
    return _error(key, f"{absent} (it never had)", remedy)


def _history(ranges: str, release: Release) -> str:
    runs = [run.partition("..") for run in ranges.split(",")]
    since = versions.parse(runs[0][0])
    if release.version < since:
        return f"it has it from {runs[0][0]} on"
    last = [end or ("" if dots else first) for first, dots, end in runs if versions.parse(first) <= release.version]
    return f"removed after {last[-1]}"


def spoken(ranges: str) -> str:
    """A range for people."""
    return ", ".join(_spoken_run(*run.partition("..")) for run in ranges.split(","))


def _spoken_run(first: str, dots: str, last: str) -> str:
    return f"{first} to {last}" if last else f"{first} and later" if dots else first


def _opposite(name: str) -> str | None:
    for prefix, inverse in (("no_", ""), ("disable_", "enable_"), ("enable_", "disable_")):
        if name.startswith(prefix):
            return inverse + name[len(prefix) :]
    return None


def _did_you_mean(word: str, words: t.Iterable[str]) -> str:
    folded = {one: one.lower().replace("-", "_") for one in words}
    wanted = word.lower().replace("-", "_")
    found = [one for one in folded if folded[one] == wanted] or difflib.get_close_matches(
        word, list(folded), n=3, cutoff=0.75
    )
    return f"did you mean {' or '.join(found)}?" if found else ""


def _check_part(key: str, flag: Flag) -> list[Finding]:
    """flag.part: one entry of a flag that takes JSON."""
    if flag.kind in ("json", "text"):
        return []
    return [_error(key, f"--{_dashed(flag.name)} takes no JSON, so it has no parts", "leave out what follows the dot")]


def _check_value(key: str, flag: Flag, value: EngineValue, release: Release, is_closed: bool | None) -> list[Finding]:
    wanted = _wrong_kind(flag, value)
    if wanted:
        remedy = _as_mapping(str(value)) if flag.kind == "json" else ""
        return [_error(key, f"--{_dashed(flag.name)} must be {wanted}; got {_shown(value)}", remedy)]
    if not flag.choices or isinstance(value, bool) or is_closed is None:
        return []
    values = value if isinstance(value, tuple) else value.split(",") if flag.kind == "list" else (value,)
    return [f for word in values for f in _check_choice(key, flag, word, release, is_closed)]


def _as_mapping(value: str) -> str:
    """What to write in place of the pairs that older versions took ("image=10,video=2")."""
    pairs = [part.partition("=") for part in value.split(",")]
    if not all(name.strip() and dash for name, dash, _what in pairs):
        return ""
    return f"write {{{', '.join(f'{name.strip()}: {what.strip()}' for name, _dash, what in pairs)}}}"


def _wrong_kind(flag: Flag, value: EngineValue) -> str:
    """What the value would have to be, when it is of the wrong kind; empty when it is fine."""
    is_switch = flag.kind in ("switch", "flag", "truth")
    if isinstance(value, bool):
        return "" if is_switch else "followed by a value"
    if is_switch:
        return "true or false"
    if isinstance(value, tuple):
        return "" if flag.kind in ("list", "append", "text") else "one value"
    if flag.kind == "int" and not re.fullmatch(r"\s*[+-]?\d+(_\d+)*\s*", value):
        return "a whole number"
    is_auto = flag.name == "max_model_len" and value == "auto"
    if flag.kind == "human" and not is_auto and not HUMAN_NUMBER.fullmatch(value):
        return "a whole number, such as 32768 or 32k"
    if flag.kind == "float" and not _is_number(value):
        return "a number"
    return "a mapping or JSON" if flag.kind == "json" and not _is_json(value) else ""


def _check_choice(key: str, flag: Flag, word: str, release: Release, is_closed: bool | None) -> list[Finding]:
    choices = (*flag.choices, *MORE_CHOICES.get(flag.name, ()))
    if _folded(flag, word) in {_folded(flag, choice) for choice in choices}:
        return []
    since = OF_WEIGHTS.get(word.lower().replace("-", "_")) if flag.name == "quantization" else None
    if since and release.version >= since:
        return [_note(key, "vLLM reads the method from such weights", "it may be left out")]
    invalid = f"{word!r} is not a valid value"
    meant = advice.VALUES.get(word, word)
    say = _error if is_closed else _warning
    if meant != word and meant in flag.choices:
        return [say(key, invalid, f"write {meant}")]
    accepts = f"vLLM {release.text} accepts {_listed(word, flag.choices)}"
    life, near = versions.choice_life(flag.name, meant), _did_you_mean(word, flag.choices)
    if is_closed or (flag.name in REGISTERED and (near or _comes_after(life, release))):
        return [_error(key, invalid, f"{_accept(life)} {meant!r}; {accepts}" if life else near or accepts)]
    # What the image or the environment has besides vLLM may register it.
    what = f"{word!r} is not among the values that vLLM brings along"
    if life or not near:
        return [_odd(key, what, f"{_accept(life)} {meant!r}; {accepts}" if life else accepts)]
    return [_warning(key, what, near)]


def _comes_after(life: str, release: Release) -> bool:
    """Whether what lives so long has come later than the release."""
    return bool(life) and release.version < versions.parse(life.partition("..")[0].partition(",")[0])


def _listed(word: str, choices: tuple[str, ...]) -> str:
    if len(choices) <= LISTED:
        return ", ".join(sorted(choices, key=int) if all(map(str.isdecimal, choices)) else choices)
    near = difflib.get_close_matches(word, choices, n=3, cutoff=0.3) or list(choices[:3])
    return f"{len(choices)} others, such as {', '.join(near)}"


def _accept(life: str) -> str:
    """Who accepts a choice, up to the verb."""
    first, dots, last = life.rpartition(",")[2].partition("..")
    if last:
        return f"vLLM up to {last} accepts"
    return f"vLLM {first} and later accept" if dots else f"only vLLM {first} accepts"


def _folded(flag: Flag, word: str) -> str:
    if flag.name in DASHLESS:
        return word.lower().replace("-", "_")
    return word.lower() if flag.name in CASELESS and flag.is_open else word


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _shown(value: EngineValue) -> str:
    text = (
        repr(value) if isinstance(value, str) else ", ".join(value) if isinstance(value, tuple) else str(value).lower()
    )
    return text if len(text) <= 60 else f"{text[:57]}..."


def _dashed(name: str) -> str:
    return name.replace("_", "-")


# ---------------------------------------------------------------------------------------------------------------------
# One variable
# ---------------------------------------------------------------------------------------------------------------------


# What packages beside vLLM read, whose names begin the same.
OF_OTHERS = ("VLLM_ASCEND_", "VLLM_NEURON_", "VLLM_OMNI_", "VLLM_RBLN_", "VLLM_SPYRE_")
# Variables that are gone since there is no other way any more, with the values that asked for that way.
AS_EVER = {("VLLM_USE_V1", "1"), ("VLLM_USE_V1", "true"), ("VLLM_USE_RAY_SPMD_WORKER", "1")}


def _check_variable(name: str, value: str, release: Release) -> list[Finding]:
    key = f"env.{name}"
    if name == "VLLM_USE_V1" and release.behaves("v1_variable"):
        return _check_engine_choice(key, value, release)
    if not name.startswith("VLLM_") or name.startswith(OF_OTHERS) or release.knows_variable(name) is not False:
        return []
    if (name, value.lower()) in AS_EVER:
        return [_note(key, f"vLLM {release.text} does not read it, and does what it asks for", "leave it out")]
    ranges = ENVIRONMENT.get(name)
    why = f"vLLM {release.text} does not read it ({_history(ranges, release) if ranges else 'it never did'})"
    names = [n for n in ENVIRONMENT if release.knows_variable(n)]
    # A name that another release knows is no slip.
    remedy = advice.VARIABLES.get(name) or ("" if ranges else _did_you_mean(name, names)) or "leave it out"
    if ranges and _comes_after(ranges, release):
        remedy = "leave it out, or use a release that reads it"
    if release.behaves("unknown_variables_warn"):
        remedy += "; the log would warn of it"
    return [_warning(key, why, remedy)]


def _check_engine_choice(key: str, value: str, release: Release) -> list[Finding]:
    if value not in ("0", "false"):
        return [_note(key, "the V1 engine is the default", "leave it out")]
    if release.behaves("v0_fatal"):
        message = f"vLLM {release.text} has no V0 engine and stops at this"
        return [_error(key, message, "leave it out; what helped was the second try")]
    return [_note(key, "the V0 engine is gone from 0.11.0 on, and gpt-oss never ran on it", "leave it out")]


# ---------------------------------------------------------------------------------------------------------------------
# Rules about several keys
# ---------------------------------------------------------------------------------------------------------------------

Rule = t.Callable[["ServerSpec", Release], t.Iterator[Finding]]


def is_gpt_oss(spec: ServerSpec) -> bool:
    """Whether the model is one of gpt-oss, by any of its names."""
    return any(
        "gpt-oss" in text.lower().replace("_", "-") for text in (spec.model, *spec.served_model_names, spec.name)
    )


def _rule_gpt_oss(spec: ServerSpec, release: Release) -> t.Iterator[Finding]:
    if not is_gpt_oss(spec):
        return
    if release.lacks("gpt_oss"):
        yield _error("model", f"vLLM {release.text} cannot serve gpt-oss", "0.10.1 is the first that can")
    if spec.engine.get("trust_remote_code") is True:
        yield _note("engine.trust_remote_code", "gpt-oss is part of vLLM and brings no code along", "leave it out")
    if spec.engine.get("quantization") == "mxfp4":
        yield _note("engine.quantization", "vLLM reads mxfp4 from the model's own config.json", "it may be left out")
    # An image of unknown version may hold one that reads them.
    if spec.encodings_dir and spec.vllm_version and release.behaves("encodings_built_in"):
        message = f"vLLM {release.text} has the encodings built in"
        yield _note("encodings_dir", message, "it is not used and may be left out")


def _rule_mxfp4(spec: ServerSpec, release: Release) -> t.Iterator[Finding]:
    if spec.engine.get("quantization") != "mxfp4" or is_gpt_oss(spec):
        return
    key, asked = "engine.quantization", f"mxfp4 of {spec.model}"
    if release.behaves("mxfp4_dense_fails"):
        message = f"vLLM {release.text} stops at {asked}: 'Mxfp4 linear layer is not implemented'"
        yield _error(key, message, "leave it out, or use vLLM 0.30.0 or later")
    elif release.behaves("mxfp4_dense_ignored"):
        message = f"vLLM {release.text} accepts {asked} and serves BF16 anyway, which saves no memory"
        yield _warning(key, message, "leave it out, or use vLLM 0.30.0 or later")
    elif release.behaves("mxfp4_dense"):
        message = f"vLLM {release.text} computes {asked} from the BF16 weights while they load"
        yield _note(key, message, "compare its answers with those of BF16")


# The oldest Ray that vLLM works with, with what its executor needs.
RAY = "ray[cgraph]>=2.48.0"


def _rule_ray(spec: ServerSpec, release: Release) -> t.Iterator[Finding]:
    if spec.engine.get("distributed_executor_backend") != "ray":
        return
    key, cure = (
        "engine.distributed_executor_backend",
        "mp serves all GPUs of one host; for Ray use an image that adds it",
    )
    if versions.ngc_name(spec.image) == "26.05":
        yield _error(key, f"Ray is not installed in {spec.image}", cure)
    elif release.lacks("ray_included") and not spec.venv:
        # A virtual environment shows what it holds.
        message = f"vLLM {release.text} does not bring Ray along, and stops with 'Failed to import Ray' without it"
        yield replace(_warning(key, message, cure), works=versions.version_of_image(spec.image) is None)
    yield _note(
        key, "workers hang and die with Ray as they do with mp", "watch the server and restart it when it hangs"
    )


def _rule_kv_cache_dtype(spec: ServerSpec, release: Release) -> t.Iterator[Finding]:
    asked, dtype = spec.engine.get("kv_cache_dtype"), spec.engine.get("dtype", "auto")
    if asked in ("bfloat16", "float16") and release.behaves("kv_16_bit_as_model") and dtype not in ("auto", asked):
        message = f"vLLM {release.text} takes {asked} only for a model of that dtype, and dtype is {dtype}"
        yield _error("engine.kv_cache_dtype", message, "leave it out: the KV cache follows the model")


def _rule_max_model_len(spec: ServerSpec, release: Release) -> t.Iterator[Finding]:
    asked = spec.engine.get("max_model_len")
    if asked in ("-1", "auto") and not release.behaves("auto_max_model_len"):
        message = f"vLLM {release.text} does not work out a length that fits; it does from 0.14.0 on"
        yield _error("engine.max_model_len", message, "write a number")


def _rule_utilization(spec: ServerSpec, release: Release) -> t.Iterator[Finding]:
    asked = spec.engine.get("gpu_memory_utilization")
    if isinstance(asked, str) and _is_number(asked) and not 0 < float(asked) <= 1:
        yield _error(
            "engine.gpu_memory_utilization",
            f"--gpu-memory-utilization must be a share between 0 and 1; got {asked}",
            "",
        )


def _rule_objects(spec: ServerSpec, release: Release) -> t.Iterator[Finding]:
    """A whole configuration has to be an object, though any JSON reads as a value of its flag."""
    for name, value in sorted(spec.engine.items()):
        flag = release.flag(name) if release.knows(name) else None
        if not flag or flag.kind != "json" or not name.endswith(("_config", "_kwargs")) or not isinstance(value, str):
            continue
        if not _is_json(value) or isinstance(json.loads(value), dict):
            continue
        is_level = name == "compilation_config" and value.isdigit()
        # Up to 0.10.2 a level alone was one.
        if not is_level or release.version >= (0, 11):
            remedy = (
                f"write {{mode: {value}}} (0.11.0: {{level: {value}}})"
                if is_level
                else "write what is in it by its keys"
            )
            yield _error(f"engine.{name}", f"--{_dashed(name)} must be a mapping; got {_shown(value)}", remedy)


def _rule_parallel(spec: ServerSpec, release: Release) -> t.Iterator[Finding]:
    kinds = ["tensor", "pipeline", *(["data"] if "data_parallel_size_local" not in spec.engine else [])]
    sizes = {kind: spec.engine.get(f"{kind}_parallel_size", "1") for kind in kinds}
    spans_hosts = {"nnodes", "headless", "data_parallel_address"} & {*spec.engine}
    if isinstance(spec.gpus, tuple) and spec.gpus and all(isinstance(s, str) and s.isdigit() for s in sizes.values()):
        wanted = math.prod(int(t.cast(str, size)) for size in sizes.values())
        if wanted > len(spec.gpus) and not spans_hosts:
            product = " x ".join(kind for kind in kinds if kind != "data" or sizes["data"] != "1")
            message = f"{wanted} GPUs are wanted ({product}), and gpus lists {len(spec.gpus)}"
            key = "data" if int(t.cast(str, sizes.get("data", "1"))) > len(spec.gpus) else "tensor"
            yield _error(f"engine.{key}_parallel_size", message, "lower it or list more GPUs")


def _rule_api(spec: ServerSpec, release: Release) -> t.Iterator[Finding]:
    for name, silent in (("headless", True), ("api_server_count", "0")):
        if spec.engine.get(name) == silent:
            message = "without an API server nothing answers on this host, and a run would wait for it in vain"
            yield _error(
                f"engine.{name}", message, "start such a part yourself, next to the servers of this collection"
            )


def _rule_needs(spec: ServerSpec, release: Release) -> t.Iterator[Finding]:
    """Flags that vLLM only takes together with another one."""
    for name, other in (
        ("enable_auto_tool_choice", "tool_call_parser"),
        ("enable_log_outputs", "enable_log_requests"),
        ("enable_reasoning", "reasoning_parser"),
    ):
        if spec.engine.get(name) is True and not spec.engine.get(other) and release.knows(name):
            yield _error(
                f"engine.{name}", f"vLLM takes it only together with --{_dashed(other)}", f"set {other} as well"
            )


def _rule_defaults(spec: ServerSpec, release: Release) -> t.Iterator[Finding]:
    if spec.engine.get("enable_chunked_prefill") is True:
        yield _note("engine.enable_chunked_prefill", "it is on by default", "it may be left out")
    if "config" in spec.engine:
        message = "the content of the file cannot be checked before the server starts"
        yield _odd("engine.config", message, "put its keys under engine")


def _rule_environment(spec: ServerSpec, release: Release) -> t.Iterator[Finding]:
    env = spec.env
    if env.get("VLLM_PORT") == str(spec.port):
        message = "it is the base of vLLM's internal ports, not the port of the API"
        yield _warning("env.VLLM_PORT", message, "set port alone")
    if env.get("VLLM_SERVER_DEV_MODE", "0") not in ("0", "") and spec.bind not in LOOPBACK:
        message = f"it opens administration to everyone who reaches {spec.bind}, with or without an API key"
        yield _warning("env.VLLM_SERVER_DEV_MODE", message, "bind to a private interface")
    if "TIKTOKEN_ENCODINGS_BASE" in env and spec.vllm_version and release.behaves("encodings_built_in"):
        message = f"vLLM {release.text} needs no encodings, and fails over a directory that lacks them"
        yield _warning("env.TIKTOKEN_ENCODINGS_BASE", message, "leave it out")
    if "CUDA_VISIBLE_DEVICES" in env:
        message = "inside a container it counts only the GPUs that gpus hands over"
        yield _note("env.CUDA_VISIBLE_DEVICES", message, "list the UUIDs in gpus instead")
    for name in ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"):
        if "expandable_segments:True" in env.get(name, "") and spec.engine.get("enable_sleep_mode") is True:
            yield _error(
                f"env.{name}", "expandable segments and enable_sleep_mode are mutually exclusive", "drop one of them"
            )
        if "max_split_size_mb" in env.get(name, ""):
            message = "it does not prevent 'Error in memory profiling': a neighbour that releases memory causes that"
            yield _note(f"env.{name}", message, "select GPUs that are not in use")


def _rule_container(spec: ServerSpec, release: Release) -> t.Iterator[Finding]:
    if spec.privileged:
        message = (
            "the container gets every device of the host, all GPUs too whatever gpus says, and can become root there"
        )
        yield _odd("privileged", message, "name what it needs in devices, cap_add or security_opt instead")
    if spec.uds and spec.image and not spec.on_host(spec.uds):
        message = f"the socket {spec.uds} would be inside the container, out of reach for the host"
        yield _error("engine.uds", message, "mount its directory with volumes, from a directory of the host")
    if spec.shm_size and spec.ipc_mode == "host":
        message = "with ipc_mode host the container has /dev/shm of the host, whatever its size"
        yield _warning("shm_size", message, "set ipc_mode: private, or leave it out")


RULES: tuple[Rule, ...] = (
    _rule_gpt_oss,
    _rule_mxfp4,
    _rule_ray,
    _rule_kv_cache_dtype,
    _rule_max_model_len,
    _rule_utilization,
    _rule_objects,
    _rule_parallel,
    _rule_api,
    _rule_needs,
    _rule_defaults,
    _rule_environment,
    _rule_container,
)


# ---------------------------------------------------------------------------------------------------------------------
# What is installed into a virtual environment
# ---------------------------------------------------------------------------------------------------------------------


def check_packages(requirements: t.Iterable[str], version: str | None = None) -> list[Finding]:
    """What is wrong with a list of requirements that holds vLLM, each as pip takes them."""
    return [f for line in requirements for f in _check_requirement(line, version)]


def pin_of(line: str) -> tuple[str, str | None]:
    """The distribution that a requirement names, and the version that it pins."""
    found = re.match(r"\s*([\w.-]*)(?:\[[^\]]*\])?(?:\s*==\s*([\w.+!-]+))?", line)
    return t.cast("re.Match[str]", found)[1], t.cast("re.Match[str]", found)[2]


def _check_requirement(line: str, version: str | None) -> t.Iterator[Finding]:
    name, pin = pin_of(line)
    key = f"packages.{name or line.strip()}"
    if name == "vllm" and pin and not versions.may_exist(pin):
        yield _error(key, f"vLLM {pin} was never released", _instead(pin))
    if re.search(r"cu122\b", line):
        yield _error(key, "PyTorch never had an index cu122", "leave torch out: vLLM brings the one it was built for")
    elif name in ("torch", "torchvision", "torchaudio"):
        yield _warning(key, "vLLM pins the torch it was built for", "leave it out")
    if name in ("flash-attn", "flash_attn"):
        yield _warning(key, "vLLM brings its own FlashAttention 2 and 3", "leave it out")
    if name == "trl" and pin and versions.parse(pin) < (1, 11, 0):
        message = f"TRL {pin} trains against its own 'trl vllm-serve', and gets 404 from 'vllm serve'"
        yield _warning(key, message, "use TRL 1.11.0 or later with this server")
    if name in ("openai-harmony", "gpt-oss") and version and Release(version).behaves("encodings_built_in"):
        yield _warning(key, "it overwrites the built-in encodings of gpt-oss", "leave it out")
