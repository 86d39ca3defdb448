# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one exception of the core, and the ids by which a playbook tells one failure from another."""

from __future__ import annotations

import typing as t

Reason = t.Literal[
    "invalid-parameter",
    "invalid-flag",
    "unmanaged",
    "port-in-use",
    "conflicting-server",
    "does-not-fit",
    "memory-not-released",
    "no-free-gpu",
    "image-missing",
    "pull-failed",
    "venv-missing",
    "weights-incomplete",
    "download-failed",
    "encodings-missing",
    "secret-missing",
    "secret-invalid",
    "path-missing",
    "disk-full",
    "permission-denied",
    "backend-unavailable",
    "backend-failed",
    "backend-unsupported",
    "server-missing",
    "server-not-running",
    "locked",
    "overtaken",
    "log-unreadable",
    "record-unreadable",
    "python-missing",
    "driver-too-old",
    "install-failed",
    "environment-broken",
    "environment-in-use",
    "host-unsupported",
    "packages-refused",
]

# What each means, as the documentation of the modules lists them.
REASONS: dict[Reason, str] = {
    "invalid-parameter": "a parameter, a key of the server or a fallback is not valid; the message has its address",
    "invalid-flag": "the server's version of vLLM would reject a flag, a value or a variable",
    "unmanaged": "a container or an environment of that name exists that this collection did not create",
    "port-in-use": "another program or server holds the port",
    "conflicting-server": "it cannot run together with another server of this collection, and must not replace it",
    "does-not-fit": "it does not fit in GPU memory, even after everything that it replaces has stopped",
    "memory-not-released": "a stopped server did not release its GPU memory in time",
    "no-free-gpu": "fewer GPUs are free than requested",
    "image-missing": "the image is not on the host and may not be pulled",
    "pull-failed": "the image could not be pulled",
    "venv-missing": "the virtual environment is not on the host, or has no vLLM in it",
    "weights-incomplete": "the weights of the model are missing, cut short or not readable",
    "download-failed": "a download of weights, encodings or packages failed",
    "encodings-missing": "the encodings that gpt-oss requires are missing or damaged",
    "secret-missing": "a token, an API key or an env file is not on the host and was not passed in",
    "secret-invalid": "a token, an API key or an env file has a content that no client or shell can use",
    "path-missing": "a path that the server mounts or a file that it reads does not exist",
    "disk-full": "a disk has too little space",
    "permission-denied": "the user on the host lacks the permission",
    "backend-unavailable": "the Docker Engine, systemd or a Python package that talks to them is missing",
    "backend-failed": "the Docker Engine or systemd rejected a step; the message quotes it",
    "backend-unsupported": "the engine at docker_host cannot run this server (an older Podman, userns-remap, rootless)",
    "server-missing": "no server, container or unit of that name exists",
    "server-not-running": "the server does not run, so what it replaced is kept",
    "locked": "another run is changing the same server",
    "overtaken": "another run has replaced the server that this run made",
    "log-unreadable": "a log could not be read",
    "record-unreadable": "the record of what this user's servers own is damaged, of a newer version, or not safe",
    "python-missing": "the host has no Python that this version of vLLM runs on",
    "driver-too-old": "the NVIDIA driver cannot run the CUDA that this version of vLLM was built with",
    "install-failed": "packages could not be installed; the message quotes the installer",
    "environment-broken": "packages were installed, and vLLM cannot be imported from them",
    "environment-in-use": "an environment to be removed is used by a server",
    "host-unsupported": "a host of this kind, or with this setup, cannot be provisioned",
    "packages-refused": "packages of a driver, of the toolkit or of Docker are missing, held, or do not fit together",
}


class VllmError(Exception):
    """A foreseeable fault, told as a sentence: what was attempted, on what, what was seen, what to change.

    C(reason) is one of C(REASONS): the same fault for a playbook that has to tell faults apart.
    """

    def __init__(self, message: str, reason: Reason = "invalid-parameter") -> None:
        super().__init__(message)
        self.reason: Reason = reason


class ProgramError(VllmError):
    """A program that failed, or could not be run; C(log) are the last lines that it printed."""

    def __init__(self, message: str, reason: Reason, log: t.Sequence[str] = ()) -> None:
        super().__init__(message, reason)
        self.log = list(log)


class Problem(t.NamedTuple):
    """One thing that forbids a start: the sentence for people, and its reason."""

    reason: Reason
    message: str
