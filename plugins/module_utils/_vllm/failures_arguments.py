# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What vLLM says of arguments and variables it does not take (rows of the table in failures.py)."""

from __future__ import annotations

import re

from .advice import VALUES, instead_of
from .signature import PANE, Found, Signature


def _unrecognized(found: Found) -> str:
    flags = re.findall(r"--?[A-Za-z][\w.-]*", found["args"])
    known = [f"{flag}: {instead_of(flag)}" for flag in flags if instead_of(flag)]
    if known:
        return f"{'. '.join(known)}."
    return (
        f"Remove {found['args'].strip()} from engine, or correct its spelling: 'vllm serve --help=all' lists the flags "
        "of this version."
    )


def _invalid_choice(found: Found) -> str:
    choices = [c.strip(" '\"") for c in found["choices"].rstrip(") ").split(",")] if "choices" in found else []
    name = found["arg"].split("/")[-1].lstrip("-").replace("-", "_")
    if name == "kv_cache_dtype" and found["val"] in ("bf16", "bfloat16", "float16", "fp16"):
        exact = "bfloat16 or " if "bfloat16" in choices else ""
        since = "bfloat16 exists since 0.11.0"
        return f"Set kv_cache_dtype to {exact}auto, or leave it out: auto follows the model ({since})."
    meant = VALUES.get(found["val"])
    if meant in choices:
        return f"Set {name} to {meant}."
    return (
        f"Set {name} to one of: {', '.join(choices)}." if choices else f"Set {name} to a value that this version takes."
    )


def _wrong_argument(found: Found) -> str:
    """What argparse says of one argument, or of all of them, and what pydantic adds in the lines below."""
    if "arg" not in found:
        return "Correct the settings in engine that it names; 'vllm serve --help=all' lists the flags of this version."
    name = max(found["arg"].split("/"), key=len).lstrip("-").replace("-", "_")
    kind = re.search(r"Input should be (.{1,80}?) \[type=\w{1,40}, input_value=(.{1,200}?), input_type=", found.text)
    if not kind:
        return f"Correct {name} in engine: 'vllm serve --help={name.replace('_', '-')}' says what this version takes."
    such = f', such as {{"mode": {kind.group(2)}}}' if name == "compilation_config" else ""
    what = "a mapping" if "object" in kind.group(1) or "dict" in kind.group(1) else kind.group(1)
    return f"Set {name} to {what}{such}: this version does not take {kind.group(2)}."


ARGUMENTS: tuple[Signature, ...] = (
    Signature(
        "args-unrecognized",
        "root",
        ("error: unrecognized arguments",),
        r"error: unrecognized arguments: (?P<args>.+)$",
        "This version of vLLM does not know {args}.",
        _unrecognized,
    ),
    Signature(
        "args-invalid-choice",
        "root",
        ("invalid choice",),
        r"error: argument (?P<arg>\S+): invalid choice: '?(?P<val>[^'\s]+)'? \(choose from (?P<choices>[^\n]*)",
        "This version of vLLM does not take {val} for {arg}.",
        _invalid_choice,
    ),
    Signature(
        "args-invalid",
        "root",
        (": error: ",),
        r"(?:vllm(?: [a-z-]{1,30}){0,3}|[\w-]{1,60}\.py|python[\d.]{0,8} -m [\w.]{1,120}): error: "
        r"(?!unrecognized arguments|argument \S+: invalid choice)(?P<why>(?:argument (?P<arg>\S+): )?[^\n]+)$",
        lambda f: f"This version of vLLM does not take the arguments: {f['why'].rstrip(PANE).rstrip('.')[:300]}.",
        _wrong_argument,
    ),
    Signature(
        "env-unknown",
        "warn",
        ("Unknown vLLM environment variable",),
        r"Unknown vLLM environment variable detected: (?P<env>\w+)",
        "vLLM does not know the variable {env}.",
        "Remove {env} from env: it is misspelt, or went with an older version.",
        retryable=None,
        final=False,
    ),
    Signature(
        "v0-removed",
        "root",
        ("VLLM_USE_V1=False",),
        r"Using V1 AsyncLLMEngine, but envs\.VLLM_USE_V1=False",
        "VLLM_USE_V1=0 asks for an engine that this version does not have any more.",
        "Remove VLLM_USE_V1 from env. There is no fallback to V0 since vLLM 0.11.0.",
    ),
)
