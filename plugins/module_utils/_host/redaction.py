# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Takes secrets out of what people will pass on: log lines, command lines, environments, specs.

Three ways, each for what the others cannot see: by value (secrets that are known), by shape (tokens that show what
they are), and by name (what is assigned to a name that means a secret). Each is linear in the length of the text.
"""

from __future__ import annotations

import functools
import json
import re
import typing as t
import urllib.parse

from .files import read_text
from .printable import ESCAPES

HIDDEN = "********"
# Shorter values would hide half of the log with them.
SHORTEST = 6

# --- names ------------------------------------------------------------------------------------------------------------

WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
# A name that ends like this says where something is, or what reads it.
PLACES = {"file", "files", "path", "paths", "dir", "directory", "url", "uri", "parser", "plugin", "name", "type"}
# What makes a secret of any name that holds it. As parts of words: many are written together.
STRONG = re.compile(
    r"secret|passw|passphrase|passcode|credential|authoriz|api_?keys?(?![a-z])|access_?key|private_?key|auth_?key"
    r"|(?:auth|access|refresh|(?:^|_)(?:api|hf|hub|bot|app|github|gitlab|slack|personal|id))_?token(?:_|$)"
    r"|session_?(?:token|key|id)|bearer|cookie|(?:^|_)jwt(?:_|$)"
    r"|(?:encryption|signing|signature|master|account|license|service|deploy|ssh|shared|storage|subscription|admin"
    r"|root|client|webhook|registry|mirror|hub|wandb|openai|hf|s_3|aws|gcp|azure)_?key(?:_|$)"
)
# The path of a file, whatever its name says.
KNOWN_PLACES = {"google_application_credentials"}
# What makes one of the name that ends with it.
LAST = re.compile(r"(?:^|_)(?:auth|pwd|pat|dsn|pass|pgpass)$")
TOKEN = re.compile(r"(?:^|_)(?!tik|de|sub|pre|un|non|multi|per|max|num)[a-z]*token(?:_|$)")
TOKENS_OF = re.compile(r"(?:^|_)(?:auth|api|access|hf|hub|github|gitlab|secret|session|refresh|bearer)_tokens(?:_|$)")
# Numbers and kinds of tokens: what stands right before the word, and right after it.
COUNTED = (
    "max min num total per first last next new input output prompt batched bos eos pad mask sep cls unk stop start end "
    "begin special image audio video mm think thinking reasoning decode prefill draft speculative cached extra "
    "additional every each placeholder logits sampled target bonus adapter boi eoi boa eoa img vision user system "
    "assistant tool fim"
)
COUNTS = (
    "id ids index indices count counts len length limit budget size rate ratio type types position positions mask "
    "pooling classify embed embedding logprobs throughput usage number level shift threshold latency time block only"
)
NOT_COUNTED = re.compile(
    rf"(?:^|_)(?:{'|'.join(COUNTED.split())})_token(?:_|$)|(?:^|_)token_(?:{'|'.join(COUNTS.split())})(?:_|$)"
)
# Words that are no secret, whatever they are assigned to.
PLAIN = {"none", "null", "nil", "true", "false", "yes", "no", "on", "off", "auto", "default", "required", "optional"}


@functools.lru_cache(maxsize=4096)
def is_secret_name(name: str) -> bool:
    """Whether a variable, a key or a flag of that name holds a secret."""
    if _is_strong(name):
        return True
    text = _worded(name)
    return TOKEN.search(text) is not None and NOT_COUNTED.search(text) is None and not _is_place(name, text)


@functools.lru_cache(maxsize=4096)
def _is_strong(name: str) -> bool:
    """Whether nothing but a secret is called like that, even when it is a number."""
    text = _worded(name)
    found = STRONG.search(text) or LAST.search(text) or TOKENS_OF.search(text)
    return found is not None and not _is_place(name, text)


def _worded(name: str) -> str:
    return "_".join(word.lower() for word in WORDS.findall(name))


def _is_place(name: str, text: str) -> bool:
    return text.rpartition("_")[2] in PLACES or name in ("PWD", "OLDPWD") or text in KNOWN_PLACES


# --- shapes -----------------------------------------------------------------------------------------------------------

# Where a token may begin: also behind a line end or a colour that a text spells out, as the repr of one does.
BEGINS = r"(?:(?<![A-Za-z0-9])|(?<=\\[nrtbfv])|(?<=[\[0-9]m))"
SHAPES: tuple[tuple[re.Pattern[str], str], ...] = (
    # Tokens that show by themselves what they are.
    (
        re.compile(
            BEGINS + r"(?:(?:hf|api_org|gsk|npm|shpat|r8|dop_v1|tgp_v1|lin_api|sntrys|glsa|rk_live|sk_live"
            r"|sk_test|whsec)_[A-Za-z0-9]{16,}|dckr_[op]at_[\w-]{16,}|(?:sk|rk|xai|nvapi|pypi|pplx)-[\w-]{16,}"
            r"|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|gl(?:pat|dt|rt|cbt|ptt|soat|agent)-[\w.-]{16,}"
            r"|xox[a-z]-[\w-]{10,}|xapp-[\w-]{10,}|(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])|AIza[\w-]{30,}"
            r"|ya29\.[\w-]{16,}|hv[sbr]\.[\w-]{16,}|SG\.[\w-]{16,}\.[\w-]{16,}|AGE-SECRET-KEY-\w{16,}"
            # A JSON web token: its header begins as {" does.
            r"|(?:(?<![\w-])|(?<=\\[nrtbfv])|(?<=[\[0-9]m))eyJ[\w-]{6,}\.[\w-]{6,}(?:\.[\w-]*)*)"
        ),
        HIDDEN,
    ),
    # Headers, to the end of their line or quotes.
    (
        re.compile(
            r"((?:(?<![\w-])|(?<=Proxy-)|(?<=proxy-)|(?<=Set-)|(?<=set-)|(?<=X-)|(?<=x-))"
            r"(?:authorization|cookie|auth|auth-token|api-key)\\?['\"]?(?:[ \t]*[:=][ \t]*|,[ \t]*(?=[b\\'\"]))"
            r"(?:b?\\?['\"])?)(?!\*\*|(?:true|false|none|null)\b)[^\s'\"\\][^\n'\"\\]*",
            re.IGNORECASE,
        ),
        rf"\1{HIDDEN}",
    ),
    (re.compile(r"\b(bearer)[ \t]+[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE), rf"\1 {HIDDEN}"),
    (re.compile(r"\b(Basic|Digest|Negotiate)[ \t]+[A-Za-z0-9._~+/=-]{6,}"), rf"\1 {HIDDEN}"),
    # A line of ~/.netrc, and what curl is given.
    (re.compile(r"(\blogin[ \t]+\S{1,256}[ \t]+password[ \t]+)\S+"), rf"\1{HIDDEN}"),
    (re.compile(r"(?<![\w-])((?:-u|--user|--proxy-user)[ =]['\"]?[^\s:'\"]{1,256}:)[^\s'\"]+"), rf"\1{HIDDEN}"),
    # The signature in an address that was signed, and other keys in one.
    (
        re.compile(
            r"([?&;](?:[\w.-]{0,40}[_-])?(?:sig|signature|token|key|secret|password|passwd|pwd|credential|auth|code"
            r"|policy|key-pair-id|googleaccessid|awsaccesskeyid|security-token)=)[^&\s'\"<>]+",
            re.IGNORECASE,
        ),
        rf"\1{HIDDEN}",
    ),
    # What users asked and got, in vLLM's log of requests.
    (
        re.compile(
            r"(\bprompt: |\boutput: |\bcontent=)(?:'(?:\\.|[^'\\\n])*(?:'|$)|\"(?:\\.|[^\"\\\n])*(?:\"|$))",
            re.MULTILINE,
        ),
        rf"\1{HIDDEN}",
    ),
    (re.compile(r"(\b(?:prompt|output)_token_ids: )\[[\d, ]*\]?"), rf"\1{HIDDEN}"),
    (re.compile(r"(\bJSON body: |\bresponse_body=)\{(?!streaming_|<)[^\n]*"), rf"\1{HIDDEN}"),
)
KEY_BEGINS = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY[A-Z ]{0,10}-----")
KEY_ENDS = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY[A-Z ]{0,10}-----")
ADDRESS = re.compile(r"(?<=://)[^\s'\"<>`]+")


def _without_keys(text: str) -> str:
    """Private keys, from the first line to the last; one without an end goes on to the end of the text."""
    parts, position = [], 0
    cut = KEY_ENDS.search(text)
    if cut and not KEY_BEGINS.search(text, 0, cut.start()):
        parts, position = [*_head_of_cut_key(text[: cut.start()]), HIDDEN], cut.end()
    for begin in KEY_BEGINS.finditer(text):
        if begin.start() >= position:
            end = KEY_ENDS.search(text, begin.end())
            parts += [text[position : begin.start()], HIDDEN]
            position = end.end() if end else len(text)
    return "".join([*parts, text[position:]])


def _head_of_cut_key(text: str) -> list[str]:
    """What stands before the lines of a key whose beginning was cut off."""
    lines = text.split("\n")
    while lines and re.fullmatch(r"[ \t]*[A-Za-z0-9+/=]*\s*", lines[-1]):
        lines.pop()
    return [f"{line}\n" for line in lines]


def _without_user(match: re.Match[str]) -> str:
    """user:password@ or token@ in an address; a password may hold a slash or an @."""
    rest = match.group()
    head, at, tail = rest.rpartition("@")
    user, colon, _password = head.partition(":")
    if not at or ("/" in head and ":" not in head.partition("/")[0]):
        return rest
    return f"{user}:{HIDDEN}@{tail}" if colon else f"{HIDDEN}@{tail}"


# --- assignments ------------------------------------------------------------------------------------------------------

# A name and what separates it from its value: TOKEN=, "token": , \"token\": , ['token']=
NAMED = re.compile(r"(?<![\w.-])(?P<name>[\w.-]+)(?P<mid>\\?['\"]?\]?[ \t]{0,16}(?:=>|:=|[:=])[ \t]{0,16})")
# Its value: a list, quoted, or a bare word without the punctuation behind it.
VALUE = re.compile(
    r"b?(?:\[[^\]\n]*(?:\]|$)"
    r"|(?P<quote>\\?['\"])(?:(?!(?P=quote))(?:\\.|[^\\\n]))*(?:(?P=quote)|\\?$)"
    r"|[^\s'\"]*[^\s'\",;)\]}\\])",
    re.MULTILINE,
)
# A flag and its words up to the next flag: --api-key A B, '--api-key', 'A'
FLAG = re.compile(
    r"(?<![\w-])(?P<name>--?[A-Za-z][\w.-]*)"
    r"(?P<words>(?:(?:\\?['\"]?,?[ \t]+|=)(?:\\?'[^'\n]*'|\\?\"[^\"\n]*\"|(?![-'\"])[^\s'\",\]]+))+)"
)
# user:password@proxy:3128, without a scheme.
PROXY_USER = re.compile(r"['\"]?(?![a-z0-9]{1,10}://)[^\s'\"@]{1,256}@")
WORD = re.compile(r"(\\?['\"]?,?[ \t]+|=)(\\?'[^'\n]*'|\\?\"[^\"\n]*\"|(?!-)[^\s'\",\]]+)")


def redact(text: str, secrets: t.Iterable[str] = ()) -> str:
    """Replace the given secrets, and what looks like one. What a terminal would obey goes first: it hides them."""
    known = _spellings(secrets)
    if not text.isprintable():
        text = _without_controls(text, known)
    for secret in known:
        text = text.replace(secret, HIDDEN)
    text = _without_shapes(ADDRESS.sub(_without_user, _without_keys(text)))
    return _without_assigned(FLAG.sub(_without_words, text))


CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")


def _without_controls(text: str, secrets: t.Iterable[str]) -> str:
    """A token may begin, or go on, behind what is taken out."""
    marked = CONTROLS.sub("\0", ESCAPES.sub("\0", text))
    plain = marked.replace("\0", "")
    if plain == marked:
        return plain
    for secret in secrets:
        if secret in plain:
            marked = re.sub("\0*".join(map(re.escape, secret)), HIDDEN, marked)
    return _without_shapes(marked).replace("\0", "")


def _without_shapes(text: str) -> str:
    for pattern, replacement in SHAPES:
        text = pattern.sub(replacement, text)
    return text


def _spellings(secrets: t.Iterable[str]) -> list[str]:
    """The secrets as they may be written, the longest first."""
    found = {secret.strip() for secret in secrets if len(secret.strip()) >= SHORTEST}
    found |= {urllib.parse.quote(one, safe="", errors="replace") for one in found} | {
        json.dumps(one)[1:-1] for one in found
    }
    return sorted(found, key=len, reverse=True)


def _without_words(match: re.Match[str]) -> str:
    name, words = match.group("name"), match.group("words")
    if not is_secret_name(name):
        return match.group()
    # vLLM takes several API keys, a flag of anything else has one word.
    several = "key" in name.lower()
    return name + WORD.sub(lambda word: f"{word.group(1)}{HIDDEN}", words, count=0 if several else 1)


def _without_assigned(text: str) -> str:
    parts, position = [], 0
    for match in NAMED.finditer(text):
        if match.start() < position or not _names_secret(match.group("name"), text, match.end()):
            continue
        end = _end_of_value(text, match)
        if not _is_plain(match.group("name"), text[match.end() : end].strip("'\"\\[]b")):
            parts += [text[position : match.end()], HIDDEN]
            position = end
    return "".join([*parts, text[position:]])


def _names_secret(name: str, text: str, value: int) -> bool:
    # A proxy is no secret, but who may use it is.
    is_proxy = name[-5:].lower() == "proxy" and PROXY_USER.match(text, value) is not None
    return is_proxy or is_secret_name(name[-200:])


def _is_plain(name: str, value: str) -> bool:
    """Whether a value is no secret, though its name could be that of one."""
    return _is_of_a_text(name, value) or value.lower() in ("", HIDDEN, *PLAIN)


def _is_of_a_text(name: str, value: str) -> bool:
    """Whether it is a token of a text: a number, or one like <eos>."""
    is_token = re.fullmatch(r"[\d.]{1,8}|<[^<>]{0,40}>?", value) is not None
    return is_token and not name.isupper() and not _is_strong(name[-200:])


def _end_of_value(text: str, match: re.Match[str]) -> int:
    """Where the value ends that is assigned there. 'NAME=two words' ends where its quotes do."""
    before, value = text[match.start() - 1 : match.start()], match.end()
    if before and before in "'\"" and match.group("mid") == "=" and text[value : value + 1] not in ("'", '"', "["):
        quote = text.find(before, value)
        line = text.find("\n", value, quote if quote >= 0 else len(text))
        return line if line >= 0 else quote if quote >= 0 else len(text)
    found = VALUE.match(text, value)
    return found.end() if found else value


# --- structures -------------------------------------------------------------------------------------------------------

# Longer words with one dash are none of vLLM's, and a secret may begin with a dash.
A_FLAG = re.compile(r"--[A-Za-z][\w.-]*|-[A-Za-z][\w.]{0,3}")
ASSIGNMENT = re.compile(r"(?P<name>-{0,2}[\w.-]+)=(?P<value>.+)", re.DOTALL)


def redact_value(value: t.Any, secrets: t.Sequence[str] = (), name: str = "") -> t.Any:
    """A structure (a spec, a state) with its secrets replaced, by the names of its keys and by their looks."""
    try:
        return _redact_any(value, secrets, name)
    except RecursionError:
        return HIDDEN  # Nobody would read what is nested that deeply.


def _redact_any(value: t.Any, secrets: t.Sequence[str], name: str) -> t.Any:
    if isinstance(value, t.Mapping):
        return _redact_mapping(value, secrets)
    if isinstance(value, (list, tuple)):
        return _redact_list(value, secrets, name)
    if is_secret_name(name) and value not in (None, "", True, False) and not _is_of_a_text(name, str(value)):
        return HIDDEN
    if not isinstance(value, str):
        return value
    assigned = ASSIGNMENT.fullmatch(value)
    if assigned and is_secret_name(assigned.group("name")):
        return f"{assigned.group('name')}={HIDDEN}"
    # The name belongs to the value: it may say what the value alone does not.
    shown = redact(f"{name}={value}", secrets) if name.lower().endswith("proxy") else redact(value, secrets)
    return shown[len(name) + 1 :] if name.lower().endswith("proxy") else shown


def _redact_mapping(value: t.Mapping[t.Any, t.Any], secrets: t.Sequence[str]) -> dict[str, t.Any]:
    # {name: TOKEN, value: x} is another way to write {TOKEN: x}.
    named = str(value.get("name") or value.get("key") or "") if "value" in value else ""
    return {
        redact(str(key), secrets): _redact_any(element, secrets, named if key == "value" and named else str(key))
        for key, element in value.items()
    }


def _redact_list(value: t.Sequence[t.Any], secrets: t.Sequence[str], name: str) -> list[t.Any]:
    """A list, which may be a command line: the words behind a flag belong to it."""
    shown, flag, left = [], "", 0
    for element in value:
        if isinstance(element, str) and A_FLAG.fullmatch(element):
            flag, left = element, 1 << 20 if "key" in element.lower() else 1
            shown.append(redact(element, secrets))
        elif flag and left and is_secret_name(flag) and isinstance(element, (str, int, float)):
            shown.append(HIDDEN)
            left -= 1
        else:
            shown.append(_redact_any(element, secrets, name))
    return shown


# --- secrets by value -------------------------------------------------------------------------------------------------


def secrets_among(environment: t.Mapping[str, str], words: t.Sequence[str] = ()) -> list[str]:
    """The values of an environment and a command line that a name says are secrets: a log may repeat them bare."""
    found = secrets_within(environment)
    for word, shown in zip(words, redact_value(list(words))):
        found += _hidden_parts(word, str(shown))
    return [value for value in found if len(value.strip()) >= SHORTEST and value.lower() not in PLAIN]


def secrets_within(value: t.Any) -> list[str]:
    """The secrets in the texts of a structure, to be hidden wherever else they are shown."""
    try:
        return _secrets_in_any(value, "")
    except RecursionError:
        return []  # It is refused for that.


def _secrets_in_any(value: t.Any, name: str) -> list[str]:
    if isinstance(value, t.Mapping):
        return [secret for key, element in value.items() for secret in _secrets_in_any(element, str(key))]
    if isinstance(value, (list, tuple)):
        return [secret for element in value for secret in _secrets_in_any(element, name)]
    text = "" if value is None or isinstance(value, bool) else str(value)
    if text.lstrip().startswith(("{", "[")):
        try:
            return _secrets_in_any(json.loads(text), name)
        except (ValueError, RecursionError):
            pass  # Then it is looked at as text.
    return [secret for secret in _hidden_parts(text, str(redact_value(text, name=name))) if len(secret) >= SHORTEST]


def _hidden_parts(text: str, shown: str) -> list[str]:
    """What was hidden of a text, or all of it where that cannot be told."""
    if HIDDEN not in shown or HIDDEN in text:
        return []
    before, *others = shown.split(HIDDEN)
    found, position = [], len(before)
    for number, part in enumerate(others, 1):
        end = text.find(part, position) if part else len(text)
        end = len(text) - len(part) if number == len(others) else end
        if end < position or not text.startswith(before):
            return [text]
        found.append(text[position:end].strip("'\"\\"))
        position = end + len(part)
    return found


def hide(value: t.Any, secrets: t.Sequence[str]) -> t.Any:
    """A structure without these secrets; everything else in it stays as it is."""
    if isinstance(value, t.Mapping):
        return {hide(key, secrets): hide(element, secrets) for key, element in value.items()}
    if isinstance(value, (list, tuple)):
        return [hide(element, secrets) for element in value]
    if isinstance(value, str):
        for secret in _spellings(secrets):
            value = value.replace(secret, HIDDEN)
    return value


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
    return secrets_in(read_text(path, 65536))
