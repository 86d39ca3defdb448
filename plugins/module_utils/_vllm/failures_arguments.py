# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What vLLM says of arguments and variables it does not take (rows of the table in failures.py)."""

from __future__ import annotations

import re

from .advice import VALUES, instead_of
from .exceptions import advice_of, settings_in
from .signature import PANE, Found, Signature


def _unrecognized(found: Found) -> str:
    flags = re.findall(r"--?[A-Za-z][\w.-]*", found["args"])
    known = [f"{flag}: {instead_of(flag)}" for flag in flags if instead_of(flag)]
    if known:
        return f"{'. '.join(known)}."
    if re.search(r"'[{\[\"]|[}\]\"]'", found["args"]):
        return (
            f"The quotation marks of a shell reached the server: give {flags[0] if flags else 'the flag'} and its "
            "value as two arguments, the value without the marks around it; in engine as a mapping."
        )
    return (
        f"Remove {found['args'].strip()} from engine, or correct its spelling: 'vllm serve --help=all' lists the flags "
        "of this version."
    )


def _invalid_choice(found: Found) -> str:
    choices = [c.strip(" '\"") for c in found["choices"].rstrip(") ").split(",")] if "choices" in found else []
    name = _name(found["arg"])
    if name == "kv_cache_dtype" and found["val"] in ("bf16", "bfloat16", "float16", "fp16"):
        exact = "bfloat16 or " if "bfloat16" in choices else ""
        since = "bfloat16 exists since 0.11.0"
        return f"Set kv_cache_dtype to {exact}auto, or leave it out: auto follows the model ({since})."
    meant = VALUES.get(found["val"]) or found.groups.get("meant")
    if meant in choices:
        return f"Set {name} to {meant}."
    return (
        f"Set {name} to one of: {', '.join(choices)}." if choices else f"Set {name} to a value that this version takes."
    )


def _name(argument: str) -> str:
    """An argument as C(engine) names it: of several spellings the longest."""
    return max(argument.split("/"), key=len).lstrip("-").replace("-", "_")


# What argparse says after the name of an argument, and what helps. The first that matches counts.
SAYINGS: tuple[tuple[str, str], ...] = (
    (
        r"Value (?P<val>.+) cannot be converted to <function loads|invalid (?:json\.)?loads value: (?P<val2>.+)"
        r"|Invalid (?P<val3>JSON: .+)",
        "Set {name} to a mapping in engine; what arrived is not JSON: {val}. On a command line it takes single quotes "
        "around the whole and double quotes within.",
    ),
    (r"expected (?:one|at least one|\d+) arguments?", "Give {name} a value in engine, or leave it out."),
    (
        r"ignored explicit argument (?P<val>.+)",
        "Set {name} to true or false in engine: the flag is a switch and takes no value ({val} was given).",
    ),
    (
        r"not allowed with argument (?P<val>\S+)",
        "Set either {name} or {val} in engine, not both.",
    ),
    (
        r"invalid (?P<kind>\w+) value: (?P<val>.+)|Value (?P<val2>.+) cannot be converted to (?P<kind2>.+)",
        "Set {name} in engine to a value of the type {kind}; {val} is none.",
    ),
)


def _wrong_argument(found: Found) -> str:
    """What argparse says of one argument, or of all of them, and what pydantic adds in the lines below."""
    why = found["why"].rstrip(PANE).rstrip(".")
    if "need" in found:
        return f"Give the server what it requires ({found['need'].rstrip(PANE)}): model names the model to serve."
    if "could" in found:
        return f"Write the name in full: one of {found['could'].rstrip(PANE)}."
    if "arg" not in found:
        return "Correct the settings in engine that it names; 'vllm serve --help=all' lists the flags of this version."
    name, match = _name(found["arg"]), None
    for pattern, remedy in SAYINGS:
        match = re.search(pattern, why)
        if match:
            said = {key.rstrip("23"): value.strip() for key, value in match.groupdict().items() if value}
            return remedy.format_map({"name": name, **said})
    return _of_type(name, found.text)


def _of_type(name: str, text: str) -> str:
    """What pydantic wants of a setting, where it says so."""
    kind = re.search(r"Input should be (.{1,80}?) \[type=\w{1,40}, input_value=(.{1,200}?), input_type=", text)
    if not kind:
        return f"Correct {name} in engine: 'vllm serve --help={name.replace('_', '-')}' says what this version takes."
    such = f', such as {{"mode": {kind.group(2)}}}' if name == "compilation_config" else ""
    what = "a mapping" if "object" in kind.group(1) or "dict" in kind.group(1) else kind.group(1)
    return f"Set {name} to {what}{such}: this version does not take {kind.group(2)}."


def _invalid(found: Found) -> str:
    field = found.groups.get("field") or ""
    why = re.sub(r"\s+", " ", found["why"]).removeprefix("Value error, ").rstrip(". ")
    return (
        f"This version of vLLM does not take the configuration ({found['what']}{f', {field}' if field else ''}): {why}."
    )


def _correct_by_words(why: str) -> str:
    """What a check of vLLM says to do, or which settings it speaks of."""
    why = why.removeprefix("Value error, ")
    advice, named = advice_of(f": {why}"), settings_in(why)
    settings = f"Change or leave out {' or '.join(named)} in engine" if named else "Correct the settings that it names"
    if advice:
        return f"{advice.rstrip('.')}.{f' {settings}.' if named else ''}"
    if named == ["quantization"]:
        return "The weights are quantised in a way that this version does not take: use a newer one, or other weights."
    return f"{settings}; what it says tells which values go together."


def _correct(found: Found) -> str:
    field = found.groups.get("field") or ""
    if found["kind"] in ("value_error", "assertion_error") or not field:
        return _correct_by_words(re.sub(r"\s+", " ", found["why"]))
    # What vLLM checks itself is "unexpected"; this is of a library that reads the quantization of the weights.
    was_given = re.search(rf"^(?:non-default )?args: .*\b{re.escape(field)}\b", found.text, re.MULTILINE)
    if found["kind"] == "extra_forbidden" and not was_given:
        return (
            f"The model's config.json has {field}, which this version does not know: use a newer one, or remove "
            f"{field} "
            "from a copy of that file."
        )
    if found["kind"].startswith(("unexpected", "extra")):
        return f"Remove {field} from the setting in engine: this version does not know it."
    if found["kind"].startswith("json"):
        return f"Write {field} as a mapping in engine: what arrived is not JSON."
    return _of_type(field, found.text)


ARGUMENTS: tuple[Signature, ...] = (
    Signature(
        "args-unrecognized",
        "error: unrecognized arguments",
        r"error: unrecognized arguments: (?P<args>.+)$",
        "This version of vLLM does not know {args}.",
        _unrecognized,
    ),
    Signature(
        "args-invalid-choice",
        "invalid choice",
        r"error: argument (?P<arg>\S+): invalid choice: '?(?P<val>[^'\n(]*?)'?"
        r"(?:,? maybe you meant '?(?P<meant>[^'?\n]+)'?\??)? \(choose from (?P<choices>[^\n]*)",
        "This version of vLLM does not take {val} for {arg}.",
        _invalid_choice,
    ),
    Signature(
        "args-invalid",
        "error: ",
        r"(?:(?:vllm(?: [a-z-]{1,30}){0,3}|[\w-]{1,60}\.py|python[\d.]{0,8} -m [\w.]{1,120}): error: |^[^\n:]{1,160}: "
        r"error: (?=argument \S+ |the following arguments are required|ambiguous option|one of the "
        r"arg))(?!unrecognized arguments|argument \S+: invalid choice: )(?P<why>(?:argument (?P<arg>\S+?):? |the "
        r"following arguments are required: (?P<need>.+)$|ambiguous option: \S+ could match (?P<could>.+)$)?[^\n]*)$",
        lambda f: f"This version of vLLM does not take the arguments: {f['why'].rstrip(PANE).rstrip('.')[:300]}.",
        _wrong_argument,
    ),
    Signature(
        "no-model",
        "No model specified",
        r"No model specified!? Please",
        "The server was started without a model.",
        "Set model.",
    ),
    Signature(
        "config-invalid",
        "validation error",
        r"\d validation errors? for (?!\w*Request\b)(?P<what>\w[\w.\[\]]*)\s*\n(?:(?P<field>[\w.\[\]-]+) *\n)?"
        r"\s*(?P<why>(?!.*failed to be inspected)\S[^\n]*(?:\n(?!\s+For further|\w+Error)[^\n]+){0,6}?)"
        r"\s*\[type=(?P<kind>\w+)",
        _invalid,
        _correct,
        general=True,
    ),
    Signature(
        "env-refused",
        "Error: Unknown vLLM environment variable",
        r"Error: Unknown vLLM environment variable detected: (?P<env>\w+)",
        "This version of vLLM does not know the variable {env}, and fail_on_environ_validation is set.",
        "Remove {env} from env: it is misspelt or went with an older version. Or leave fail_on_environ_validation out.",
    ),
    Signature(
        "env-unknown",
        "Unknown vLLM environment variable",
        r"(?<!Error: )Unknown vLLM environment variable detected: (?P<env>\w+)",
        "vLLM does not know the variable {env}.",
        "Remove {env} from env: it is misspelt, or went with an older version.",
        retryable=None,
        final=False,
        kind="warn",
    ),
    Signature(
        "v0-removed",
        "VLLM_USE_V1=False",
        r"Using V1 AsyncLLMEngine, but envs\.VLLM_USE_V1=False",
        "VLLM_USE_V1=0 asks for an engine that this version does not have any more.",
        "Remove VLLM_USE_V1 from env. There is no fallback to V0 since vLLM 0.11.0.",
    ),
)
