# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Takes secrets out of what people will pass on: log lines, command lines, environments, specs."""

from __future__ import annotations

import re
import typing as t

HIDDEN = "********"
# Shorter values would hide half of the log with them.
SHORTEST = 6

SECRET_NAME = re.compile(
    r"token|secret|passw|credential|api[_-]?key|access[_-]?key|private[_-]?key|authorization", re.IGNORECASE
)
# Names that only look like it: numbers of tokens, paths of files, what reads them.
HARMLESS_NAME = re.compile(
    r"max|num|tokens|tokenizer|token_ids?$|_file$|_path$|_dir$|parser|throughput|bos_|eos_|pad_|encoder|budget",
    re.IGNORECASE,
)

_NAME = (
    r"(?P<name>[A-Za-z][\w.-]*?(?:TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?|API[_-]?KEY|ACCESS[_-]?KEY"
    r"|PRIVATE[_-]?KEY|AUTHORIZATION)"
)
PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    # Tokens that show by themselves what they are.
    (
        re.compile(r"\b(?:hf_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|nvapi-[\w-]{16,})"),
        HIDDEN,
    ),
    (re.compile(r"\b(Bearer|Basic)\s+[A-Za-z0-9._~+/=-]{6,}"), rf"\1 {HIDDEN}"),
    # user:password@ in an address
    (re.compile(r"(?<=://)([^/\s:@]*):([^/\s@]+)@"), rf"\1:{HIDDEN}@"),
    # --api-key X, --hf-token=X: one or several words up to the next flag
    (re.compile(r"(--(?:api-key|hf-token)[ =])(?!\*)(?:'[^']*'|\"[^\"]*\"|[^\s,'\"]+)"), rf"\1{HIDDEN}"),
    # 'api_key': ['a', 'b'] and api_key=['a'] as vLLM prints its arguments
    (re.compile(r"(\b(?:api_key|hf_token)['\"]?\s*[:=]\s*)(?!None)(\[[^\]]*\]|'[^']*'|\"[^\"]*\")"), rf"\1{HIDDEN}"),
)
ASSIGNED = re.compile(_NAME + r"[\w]*)(?P<mid>['\"]?\s*[:=]\s*['\"]?)(?P<value>[^\s,'\"}\])]+)", re.IGNORECASE)


def redact(text: str, secrets: t.Iterable[str] = ()) -> str:
    """Replace the given secrets, and what looks like one."""
    for secret in sorted({s.strip() for s in secrets if len(s.strip()) >= SHORTEST}, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    for pattern, replacement in PATTERNS:
        text = pattern.sub(replacement, text)
    return ASSIGNED.sub(_assigned, text)


def _assigned(match: re.Match[str]) -> str:
    name, value = match.group("name"), match.group("value")
    # Paths of secret files, numbers and words such as None or true are no secrets.
    plain = value.startswith(("/", "~", HIDDEN[:2])) or value in (
        "None",
        "null",
        "True",
        "False",
        "true",
        "false",
        "[",
        "{",
    )
    if plain or value.replace(".", "").isdigit() or not is_secret_name(name):
        return match.group()
    return f"{name}{match.group('mid')}{HIDDEN}"


def is_secret_name(name: str) -> bool:
    return SECRET_NAME.search(name) is not None and HARMLESS_NAME.search(name) is None


def redact_value(value: t.Any, secrets: t.Sequence[str] = (), name: str = "") -> t.Any:
    """A structure (a spec, a state) with its secrets replaced, by the names of its keys and by their looks."""
    if isinstance(value, t.Mapping):
        return {str(key): redact_value(element, secrets, str(key)) for key, element in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact_value(element, secrets, name) for element in value]
    if not isinstance(value, str):
        return value
    if is_secret_name(name) and value and not value.startswith(("/", "~")):
        return HIDDEN
    return redact(value, secrets)


def secrets_in(text: str) -> list[str]:
    """The values of a secret file: a bare token, or lines of KEY=VALUE."""
    found = []
    for line in text.splitlines():
        line = line.strip()
        if line and not line.startswith("#"):
            found += [line, line.partition("=")[2].strip().strip("'\"")]
    return [value for value in found if len(value) >= SHORTEST]


def read_secrets(path: str) -> list[str]:
    """What is in a secret file; a file that may not be read shows nothing that could be hidden."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return secrets_in(stream.read(65536))
    except OSError:
        return []
