# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How pip and uv are called, what of a user's environment reaches them, and what their errors mean."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._venv import installer
from ansible_collections.gpufleet.vllm.plugins.module_utils._venv.plan import Recipe
from ansible_collections.gpufleet.vllm.plugins.module_utils._venv.spec import asked

PIP = Recipe("/venvs/x", "pip", "/usr/bin/python3.12", (3, 12))
UV = Recipe("/venvs/x", "uv", "/usr/bin/python3.12", (3, 12), uv="/usr/bin/uv")
MANAGED = Recipe("/venvs/x", "uv", "3.12", (3, 12), is_managed=True, uv="/usr/bin/uv")
MIRROR, CU129 = "https://mirror/simple", "https://mirror/cu129"


@pytest.mark.parametrize(
    ("recipe", "line"),
    [
        (PIP, "/usr/bin/python3.12 -I -m venv /venvs/x"),
        (
            UV,
            "/usr/bin/uv venv --quiet --allow-existing --no-managed-python --no-python-downloads --python /usr/bin/python3.12 /venvs/x",
        ),
        (MANAGED, "/usr/bin/uv venv --quiet --allow-existing --managed-python --python 3.12 /venvs/x"),
    ],
    ids=["pip", "uv", "uv brings Python"],
)
def test_how_an_environment_is_made(recipe: Recipe, line: str) -> None:
    assert " ".join(installer.make(recipe)) == line


@pytest.mark.parametrize(
    ("recipe", "wish", "constraints", "has"),
    [
        (PIP, {}, None, "--prefer-binary -- vllm==0.26.0"),
        (PIP, {"wheelhouse": "/w"}, None, "--no-index --find-links /w -- vllm==0.26.0"),
        (
            PIP,
            {"index_url": MIRROR, "extra_index_urls": [CU129]},
            None,
            f"--index-url {MIRROR} --extra-index-url {CU129} --",
        ),
        (PIP, {"constraints": ["six>1"]}, "/c", "--constraint /c -- vllm==0.26.0"),
        (
            UV,
            {},
            None,
            "/usr/bin/uv pip install --python /venvs/x/bin/python --compile-bytecode --no-progress -- vllm==0.26.0",
        ),
        (UV, {"wheelhouse": "/w"}, None, "--no-index --find-links /w -- vllm==0.26.0"),
        (UV, {"index_url": MIRROR, "extra_index_urls": [CU129]}, None, f"--default-index {MIRROR} --index {CU129} --"),
        (UV, {"constraints": ["six>1"]}, "/c", "--constraints /c -- vllm==0.26.0"),
    ],
)
def test_how_packages_are_installed(recipe: Recipe, wish: dict[str, t.Any], constraints: str | None, has: str) -> None:
    line = " ".join(installer.install(asked({"packages": ["vllm==0.26.0"], **wish}), recipe, constraints))
    assert has in line


@pytest.mark.parametrize(
    ("name", "is_kept"),
    [
        *(
            (name, True)
            for name in ("https_proxy", "HTTP_PROXY", "no_proxy", "all_proxy", "HOME", "PATH", "LC_ALL", "NETRC")
        ),
        *(
            (name, True)
            for name in ("SSL_CERT_DIR", "PIP_CERT", "PIP_CONFIG_FILE", "PIP_INDEX_URL", "UV_DEFAULT_INDEX")
        ),
        *((name, False) for name in ("PIP_TARGET", "PIP_PREFIX", "PIP_USER_X", "UV_PROJECT", "UV_PYTHON", "UV_TARGET")),
        *(
            (name, False)
            for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "CONDA_PREFIX", "HF_TOKEN")
        ),
    ],
)
def test_what_of_the_task_reaches_an_installer(name: str, is_kept: bool) -> None:
    found = installer.environment_of({name: "x"}, "seal", "/venvs/x/.gpufleet")
    assert (found.get(name) == "x") is is_kept


def test_the_patience_of_the_host_is_that_of_pip() -> None:
    found = installer.environment_of({"PIP_RETRIES": "9"}, "seal", "/o")
    assert (found["PIP_RETRIES"], found["PIP_DEFAULT_TIMEOUT"]) == ("9", "30")


@pytest.mark.parametrize("name", installer.BUNDLES)
def test_a_ca_bundle_reaches_every_tool_under_its_name(name: str) -> None:
    found = installer.environment_of({name: "/ca.pem"}, "seal", "/o")
    assert {found[other] for other in installer.BUNDLES} == {"/ca.pem"}


def test_a_bundle_of_its_own_stays_with_its_tool() -> None:
    found = installer.environment_of({"SSL_CERT_FILE": "/a", "PIP_CERT": "/b"}, "seal", "/o")
    assert (found["SSL_CERT_FILE"], found["PIP_CERT"], found["REQUESTS_CA_BUNDLE"]) == ("/a", "/b", "/a")


def test_vllm_is_imported_without_a_home_and_an_installer() -> None:
    user = {"HOME": "/root", "PIP_INDEX_URL": "https://mirror", "https_proxy": "http://p"}
    found = installer.environment_of_vllm(installer.environment_of(user, "seal", "/o"), "/o")
    assert (found["HOME"], found["XDG_CACHE_HOME"]) == ("/o/tmp", "/o/tmp") and "CUDA_VISIBLE_DEVICES" not in found
    assert [name for name in found if name.startswith(("PIP_", "UV_"))] == []


# As the programs print it.
OUTPUTS = [
    (
        "pip, no network",
        "download-failed",
        "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError: Failed to establish a "
        "new connection: [Errno 111] Connection refused': /simple/vllm/\n"
        "ERROR: Could not find a version that satisfies the requirement vllm==0.26.0 (from versions: none)\n"
        "ERROR: No matching distribution found for vllm==0.26.0",
    ),
    (
        "uv, no network",
        "download-failed",
        "error: Request failed after 3 retries\n"
        "  Caused by: Failed to fetch: `http://127.0.0.1:9/simple/vllm/`\n"
        "  Caused by: error sending request for url\n"
        "  Caused by: tcp connect error",
    ),
    (
        "uv, no name",
        "download-failed",
        "error: Failed to fetch: `https://mirror/simple/vllm/`\n"
        "  Caused by: dns error: failed to lookup address information: Name or service not known",
    ),
    (
        "pip, proxy",
        "download-failed",
        "WARNING: Retrying after connection broken by 'ProxyError('Cannot connect to proxy.')'",
    ),
    (
        "pip, CA",
        "download-failed",
        "Caused by SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed'))",
    ),
    ("uv, CA", "download-failed", "  Caused by: invalid peer certificate: UnknownIssuer"),
    (
        "uv, credentials",
        "download-failed",
        "hint: An index URL (https://mirror/simple) could not be queried due to a lack of valid authentication credentials (401 Unauthorized).",
    ),
    (
        "pip, nothing found",
        "install-failed",
        "ERROR: Could not find a version that satisfies the requirement vllm==0.26.0 (from versions: none)",
    ),
    (
        "pip, another version",
        "install-failed",
        "ERROR: Could not find a version that satisfies the requirement torch==2.11.0 (from vllm) (from versions: "
        "2.10.0)\n"
        "ERROR: No matching distribution found for torch==2.11.0",
    ),
    (
        "uv, nothing found",
        "install-failed",
        "  × No solution found when resolving dependencies:\n"
        "  ╰─▶ Because torch was not found in the provided package locations and vllm==0.26.0 depends on "
        "torch==2.11.0",
    ),
    (
        "pip, conflict",
        "install-failed",
        "ERROR: Cannot install vllm==0.26.0 because these package versions have conflicting dependencies.\n"
        "ERROR: ResolutionImpossible: for help visit",
    ),
    (
        "pip, conflict with its causes",
        "install-failed",
        "ERROR: Cannot install vllm==0.26.0 because these package versions have conflicting dependencies.\n"
        "\n"
        "The conflict is caused by:\n"
        "    vllm 0.26.0 depends on torch==2.11.0\n"
        "    The user requested (constraint) torch<2\n"
        "\n"
        "To fix this you could try to:\n"
        "1. loosen",
    ),
    ("pip, truncated", "install-failed", "ERROR: Wheel 'vllm' located at /w/vllm-0.26.0-py3-none-any.whl is invalid."),
    (
        "pip, disk",
        "disk-full",
        "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
    ),
    (
        "uv, disk",
        "disk-full",
        "error: Failed to install: torch\n  Caused by: failed to write: No space left on device (os error 28)",
    ),
    ("pip, Python", "python-missing", "ERROR: Package 'vllm' requires a different Python: 3.9.2 not in '>=3.10'"),
    ("something else", "install-failed", "Traceback (most recent call last):\nOddError: what nobody knows"),
    ("nothing", "install-failed", ""),
]


@pytest.mark.parametrize(("reason", "output"), [pytest.param(*row[1:], id=row[0]) for row in OUTPUTS])
def test_what_an_error_means(reason: str, output: str) -> None:
    found, sentence = installer.explained(output)
    assert found == reason and sentence.endswith(".")
    assert not sentence.startswith(("ERROR", "error:", "×"))


@pytest.mark.parametrize("name", ["uv, nothing found", "pip, conflict with its causes"])
def test_who_wants_what_is_quoted(name: str) -> None:
    output = next(row[2] for row in OUTPUTS if row[0] == name)
    assert "vllm 0.26.0 depends on torch==2.11.0" in installer.explained(output)[1].replace("==0.26.0", " 0.26.0")


def test_what_is_quoted_holds_no_secret() -> None:
    output = "error: Failed to fetch: https://me:secret4711@mirror/simple/vllm/: Connection refused"
    assert "secret4711" not in installer.explained(output)[1] + "".join(installer.tail(output))


@pytest.mark.parametrize(
    ("output", "why"),
    [
        (
            "Traceback\nModuleNotFoundError: No module named 'a'\n\nTraceback\nRuntimeError: b",
            "ModuleNotFoundError: No module named 'a'",
        ),
        ("Traceback\nOSError: libcudart.so.12: cannot open", "OSError: libcudart.so.12: cannot open"),
        ("torch.cuda.CudaError: odd", "torch.cuda.CudaError: odd"),
        ("Illegal instruction", "Illegal instruction"),
        ("", "it printed nothing"),
    ],
)
def test_the_root_cause_of_an_import(output: str, why: str) -> None:
    assert installer.import_fault(output) == why
