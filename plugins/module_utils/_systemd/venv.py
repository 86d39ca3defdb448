# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A virtual environment as what a server is made from: what identifies it, its vLLM, its interpreter. Only looks."""

from __future__ import annotations

import glob
import hashlib
import os
import re

from .._deploy.backend import Artifact
from .._host import files

DIST_INFO = re.compile(r"\w+-(\d[^-]*)\.dist-info")


def artifact_of(venv: str) -> Artifact | None:
    """What identifies an environment: its path, how it was made, and every file of its vLLM; None without a vLLM."""
    config, program = files.read(f"{venv}/pyvenv.cfg"), f"{venv}/bin/vllm"
    found = _dist_info(venv, "vllm")
    if config is None or found is None or not os.access(program, os.X_OK):
        return None
    # The list of files that pip and uv write, with a digest of each.
    listed = files.read(f"{found}/RECORD") or b""
    digest = hashlib.sha256(b"\0".join([venv.encode(), config, os.path.basename(found).encode(), listed]))
    version = DIST_INFO.fullmatch(os.path.basename(found))
    return Artifact(digest.hexdigest(), version[1] if version else None)


def holds(venv: str, distribution: str) -> bool:
    """Whether a distribution, by its name as it is written there, is installed in an environment."""
    return _dist_info(venv, distribution) is not None


def _dist_info(venv: str, distribution: str) -> str | None:
    pattern = os.path.join(glob.escape(venv), "lib*", "python3*", "site-packages", f"{distribution}-*.dist-info")
    found = sorted(path for path in glob.glob(pattern) if DIST_INFO.fullmatch(os.path.basename(path)))
    return found[0] if found else None


def interpreter_of(venv: str) -> str | None:
    """The directory of the Python that an environment was made with, when that is not one of the system's."""
    home = re.search(r"^home *= *(.+)$", files.read_text(f"{venv}/pyvenv.cfg"), re.MULTILINE)
    if not home:
        return None
    place = os.path.dirname(os.path.realpath(home[1].strip()))
    return None if place in ("/", "/usr", "/usr/local") else place
