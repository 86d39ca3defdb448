# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A program for hosts as one file: sources of this collection that import each other and the standard library alone."""

from __future__ import annotations

import importlib
import io
import os
import stat
import typing as t
import zipfile

from .._errors import VllmError

# For root alone to write, for all to read.
DIRECTORY = "/usr/local/lib/gpufleet.vllm"


def archive(modules: t.Iterable[str], main: str) -> bytes:
    """The program, byte for byte the same wherever it is made of the same sources.

    C(modules) are names below module_utils; that of C(main) has the function main(arguments) -> exit status.
    """
    base = __name__[: -len("_host.archive")]
    names = sorted({*modules, main})
    packages = {"", *(name.rpartition(".")[0] for name in names)}
    texts: dict[str, str | bytes] = {os.path.join("gpufleet", one, "__init__.py"): "" for one in packages}
    texts.update({f"gpufleet/{name.replace('.', '/')}.py": _source(base + name) for name in names})
    texts["__main__.py"] = f"import sys\nfrom gpufleet.{main} import main\nsys.exit(main(sys.argv[1:]))\n"
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archived:
        for path, text in sorted(texts.items()):
            archived.writestr(zipfile.ZipInfo(path), text)
    return made.getvalue()


def _source(name: str) -> bytes:
    """The file that a module is loaded from, also where that is in a zip file of Ansible's."""
    module: t.Any = importlib.import_module(name)
    return bytes(module.__loader__.get_data(module.__file__))


def refuse_unsafe(directory: str) -> None:
    """Code that others can change is nobody's to run.

    Raises:
        VllmError: when they can.
    """
    found = os.lstat(directory)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise VllmError(
            f"{directory} is to hold a program that units run, and others than this user may write there. Move it away "
            f"or run: chown root {directory}; chmod 755 {directory}",
            "permission-denied",
        )
