# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How pip and uv are called, with which environment, and what their errors mean. Pure."""

from __future__ import annotations

import os
import re
import typing as t

from .._errors import Reason
from .._host.redaction import redact
from .plan import Recipe
from .record import MARK
from .spec import Wish

Argv = list[str]
Environment = t.Mapping[str, str]

# Whatever these begin with stays in the environment of an installer; everything else of a user's is in nobody's wish.
KEPT = ("LANG", "LC_", "PATH", "TZ", "HOME", "USER", "LOGNAME", "XDG_CONFIG_HOME", "NETRC", "SSL_CERT_")
KEPT_OF_PIP = (
    "CERT",
    "CLIENT_CERT",
    "CONFIG_FILE",
    "INDEX_URL",
    "EXTRA_INDEX_URL",
    "FIND_LINKS",
    "TRUSTED_HOST",
    "PROXY",
)
PATIENCE_OF_PIP = {"PIP_DEFAULT_TIMEOUT": "30", "PIP_RETRIES": "2"}
KEPT_OF_UV = ("CONFIG_FILE", "DEFAULT_INDEX", "INDEX", "INSECURE_HOST", "HTTP_TIMEOUT", "PYTHON_INSTALL_MIRROR")
BUNDLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "CURL_CA_BUNDLE")


def environment_of(user: Environment, seal: str, own: str) -> dict[str, str]:
    """The environment of an installer: proxies, CA bundles, credentials' places, and nothing that changes what it does.

    C(own) is where it may write for itself.
    """
    kept = {name: value for name, value in user.items() if _is_kept(name)}
    # Each tool reads the CA bundle from a variable of its own.
    bundle = next((user[name] for name in BUNDLES if user.get(name)), "")
    if bundle:
        kept.update({name: user.get(name) or bundle for name in BUNDLES})
    temporary = os.path.join(own, "tmp")
    return {
        **kept,
        **{name: user.get(name, usual) for name, usual in PATIENCE_OF_PIP.items()},
        MARK: seal,
        # The space that was checked is there; /tmp may be small.
        "TMPDIR": temporary,
        "PIP_USER": "0",
        "PIP_NO_INPUT": "1",
        "UV_CACHE_DIR": os.path.join(temporary, "uv"),
        "UV_PYTHON_INSTALL_DIR": os.path.join(own, "python"),
        # As pip does: what the administrator of the host trusts is trusted. The second name is that of older ones.
        "UV_SYSTEM_CERTS": "1",
        "UV_NATIVE_TLS": "1",
        "NO_COLOR": "1",
    }


def _is_kept(name: str) -> bool:
    prefix, _underscore, rest = name.partition("_")
    if prefix in ("PIP", "UV"):
        return rest in (KEPT_OF_PIP if prefix == "PIP" else KEPT_OF_UV)
    return name.lower().endswith("_proxy") or name.startswith(KEPT)


def environment_of_vllm(installer: Environment, own: str) -> dict[str, str]:
    """The environment in which vLLM is imported: it writes into nobody's home. No import takes memory of a GPU."""
    home = os.path.join(own, "tmp")
    return {
        **{name: value for name, value in installer.items() if not name.startswith(("PIP_", "UV_"))},
        "HOME": home,
        "XDG_CACHE_HOME": home,
        "XDG_CONFIG_HOME": home,
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
    }


# ---------------------------------------------------------------------------------------------------------------------
# Command lines
# ---------------------------------------------------------------------------------------------------------------------


def make(recipe: Recipe) -> Argv:
    """Makes the environment, without packages, in a directory that is there."""
    if recipe.installer == "pip":
        return [recipe.python, "-I", "-m", "venv", recipe.path]
    downloads = ["--managed-python"] if recipe.is_managed else ["--no-managed-python", "--no-python-downloads"]
    return [str(recipe.uv), "venv", "--quiet", "--allow-existing", *downloads, "--python", recipe.python, recipe.path]


def install(wish: Wish, recipe: Recipe, constraints: str | None) -> Argv:
    """Installs the packages; C(constraints) is the path of a file."""
    python = os.path.join(recipe.path, "bin", "python")
    if recipe.installer == "pip":
        argv = [python, "-I", "-m", "pip", "install", "--disable-pip-version-check", "--no-cache-dir"]
        argv += ["--progress-bar", "off", "--prefer-binary"]
        primary, extra = "--index-url", "--extra-index-url"
    else:
        argv = [str(recipe.uv), "pip", "install", "--python", python, "--compile-bytecode", "--no-progress"]
        primary, extra = "--default-index", "--index"
    if wish.wheelhouse:
        argv += ["--no-index", "--find-links", wish.wheelhouse]
    if wish.index_url:
        argv += [primary, wish.index_url]
    for url in wish.extra_index_urls:
        argv += [extra, url]
    if constraints:
        argv += ["--constraint" if recipe.installer == "pip" else "--constraints", constraints]
    return [*argv, "--", *(one.line for one in wish.packages)]


def freeze(recipe: Recipe) -> Argv:
    """Lists what was installed, a requirement a line."""
    python = os.path.join(recipe.path, "bin", "python")
    if recipe.installer == "pip":
        return [python, "-I", "-m", "pip", "freeze", "--disable-pip-version-check"]
    return [str(recipe.uv), "pip", "freeze", "--python", python]


# Imports vLLM, the library in it that CUDA and torch have to fit, and what serves; its last line is what it found. A
# host without a driver has no libcuda, and nothing of it can serve, which is no fault of the environment.
PROOF = """
import importlib.util, json, platform, sys
import torch, vllm
def has(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
for name in ("vllm._C", "vllm._C_stable_libtorch"):
    try:
        if has(name):
            importlib.import_module(name)
    except ImportError as error:
        if "libcuda.so" not in str(error):
            raise
if sys.argv[1] == "serves" and has("vllm.entrypoints.openai.api_server"):
    importlib.import_module("vllm.entrypoints.openai.api_server")
cuda = getattr(getattr(torch, "version", None), "cuda", None)
found = {"vllm": vllm.__version__, "torch": getattr(torch, "__version__", None), "cuda": cuda}
print("\\n" + json.dumps({**found, "python": platform.python_version()}, default=str))
"""


def prove(path: str, serves: bool) -> Argv:
    """Imports it; what C(serves) here is imported as far as the server needs it."""
    return [os.path.join(path, "bin", "python"), "-I", "-c", PROOF, "serves" if serves else "imports"]


# ---------------------------------------------------------------------------------------------------------------------
# What their errors mean
# ---------------------------------------------------------------------------------------------------------------------


class Explanation(t.NamedTuple):
    """What an installer prints, and what that means. What is quoted is the group C(said), else the whole line."""

    pattern: str
    reason: Reason
    remedy: str


NETWORK = "Check the address, DNS, and the proxy of the host (https_proxy, no_proxy)"
SOURCE = "Check the versions, and that the index or wheelhouse has them for this Python and processor"
# The first that fits is the root cause: what comes later in the list is printed as a consequence of what comes earlier.
EXPLANATIONS = (
    Explanation(
        r"No space left on device|Disk quota exceeded", "disk-full", "Free some space on the file system of root"
    ),
    Explanation(
        r"CERTIFICATE_VERIFY_FAILED|invalid peer certificate|UnknownIssuer|SSLCertVerificationError",
        "download-failed",
        "Name the CA bundle of your network in SSL_CERT_FILE, in the environment of the task",
    ),
    Explanation(
        r"\b40[13] (?:Client Error|Error|Unauthorized|Forbidden)|HTTP status client error \(40[13]|status code 40[13]"
        r"|User for \S+:|lack of valid authentication",
        "download-failed",
        "The index requires credentials: put them into ~/.netrc of the user on the host, or into a pip configuration "
        "of mode 0600",
    ),
    Explanation(r"ProxyError|connect to proxy|tunnel(?:ing)? (?:connection failed|error)", "download-failed", NETWORK),
    Explanation(
        r"Name or service not known|name resolution|NameResolutionError|dns error|failed to lookup address"
        r"|Connection refused|NewConnectionError|No route to host|Network is unreachable|timed out|operation timed out"
        r"|tcp connect error|[Cc]onnection (?:reset|aborted|broken)|error sending request|IncompleteRead",
        "download-failed",
        NETWORK,
    ),
    Explanation(
        r"is invalid\.|BadZipFile|not a zip file|[Ii]nvalid (?:zip|Zip)|Failed to (?:extract|unzip|read)|EOCD"
        r"|end of central|corrupt|do not match the hashes|[Hh]ash mismatch",
        "install-failed",
        "A wheel is cut short or damaged: copy or upload it again",
    ),
    Explanation(r"requires a different Python|[Rr]equires-Python|does not satisfy Python", "python-missing", SOURCE),
    # pip does not say that an index refused it.
    Explanation(
        r"\(from versions: none\)",
        "install-failed",
        "There is nothing of that name for this Python and processor, or the index requires credentials: put them into "
        "~/.netrc of the user on the host",
    ),
    Explanation(r"No matching distribution found|not a supported wheel", "install-failed", SOURCE),
    # uv gives its reasons in a paragraph, pip in a list of who wants what.
    Explanation(
        r"No solution found[^\n]*\s+\S+ (?P<said>Because [\s\S]+?)(?:\n\s*\n|\n\s*hint|\Z)", "install-failed", SOURCE
    ),
    Explanation(
        r"conflict is caused by:\s*(?P<said>[\s\S]+?)(?:\n\s*\n|\Z)",
        "install-failed",
        "Change the packages or constraints that exclude each other",
    ),
    Explanation(
        r"ResolutionImpossible|conflicting dependencies|No solution found",
        "install-failed",
        "Change the packages or constraints that exclude each other",
    ),
    Explanation(
        r"Permission denied|Read-only file system", "permission-denied", "Run with become: true, or choose another root"
    ),
)
# Lines that say what happened, with the word that an installer puts before them.
TELLING = re.compile(r"^\s*(?:ERROR:|error:|x |×|╰─▶|`->|Caused by:|[A-Za-z_.]+(?:Error|Exception)\b:?)\s*(?P<said>.*)")
LONGEST = 400
SHOWN_LINES = 40


def explained(output: str) -> tuple[Reason, str]:
    """The reason of a failed installation, and what was said and what to change, for the end of a sentence."""
    for row in EXPLANATIONS:
        found = re.search(row.pattern, output)
        if found:
            quoted = found.groupdict().get("said")
            said = _short(quoted) if quoted else _line_of(output, found.start())
            return row.reason, f"{said}. {row.remedy}."
    told = [match["said"] or match[0] for match in map(TELLING.match, output.splitlines()) if match]
    last = [line for line in output.splitlines() if line.strip()][-1:]
    return "install-failed", f"{_short((told or last or ['nothing was printed'])[-1])}."


def _line_of(output: str, position: int) -> str:
    start = output.rfind("\n", 0, position) + 1
    end = output.find("\n", position)
    return _short(
        re.sub(
            r"^\s*(?:ERROR: |error: |WARNING: |x |×|╰─▶|`->|Caused by: )\s*",
            "",
            output[start : end if end >= 0 else None],
        )
    )


def _short(line: str) -> str:
    text = redact(" ".join(line.split())).rstrip(".")
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def tail(output: str) -> list[str]:
    """The last lines of an installer's output, without secrets."""
    return [redact(line) for line in output.splitlines()[-SHOWN_LINES:]]


def import_fault(output: str) -> str:
    """The root cause of a Python that could not import something: the first exception of a chain."""
    errors = [
        line for line in output.splitlines() if re.match(r"[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit)\b", line)
    ]
    return _short(errors[0]) if errors else _short((output.strip().splitlines() or ["it printed nothing"])[-1])
