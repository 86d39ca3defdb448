# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The parameters of a model that is to be on a host, and what they may be."""

from __future__ import annotations

import os
import re
import typing as t

from .._deploy.weights import HUGGING_FACE_ID
from .._errors import VllmError
from .._host import files
from .hub import DEFAULT_ENDPOINT
from .selection import AUTO, NAMES, Wish

Params = t.Mapping[str, t.Any]

PARAMETERS: dict[str, dict[str, t.Any]] = {
    "model": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "huggingface_dir": {"type": "path", "required": True},
    "revision": {"type": "str", "default": "main"},
    "format": {"type": "str", "choices": [AUTO, *NAMES], "default": AUTO},
    "custom_code": {"type": "bool", "default": False},
    "include": {"type": "list", "elements": "str", "default": []},
    "endpoint": {"type": "str", "default": DEFAULT_ENDPOINT},
    "hf_token_file": {"type": "path", "no_log": False},
    "offline": {"type": "bool", "default": False},
    "update": {"type": "bool", "default": False},
    "verify": {"type": "str", "choices": ["changed", "full"], "default": "changed"},
    "connections": {"type": "int", "default": 4},
    "bandwidth_limit": {"type": "bytes"},
    "disk_reserve": {"type": "bytes", "default": "10G"},
    "timeout": {"type": "int", "default": 30},
    "attempts": {"type": "int", "default": 5},
    "retry_wait": {"type": "int", "default": 120},
    "validate_certs": {"type": "bool", "default": True},
    "ca_path": {"type": "path"},
    "peer": {
        "type": "dict",
        "options": {
            "address": {"type": "str"},
            "port": {"type": "int"},
            "token": {"type": "str", "required": True, "no_log": True},
            "sources": {"type": "list", "elements": "str", "default": []},
            "head": {"type": "str"},
            "commit": {"type": "str"},
            "files": {"type": "list", "elements": "dict", "default": []},
            "left_out_bytes": {"type": "int", "default": 0},
        },
    },
    "slice": {"type": "float", "default": 0},
    "resume": {"type": "dict", "default": {}},
}
TOKEN_LIMIT = 4096
TOKEN = re.compile(r"[!-~]+")
LOOPBACK = re.compile(r"http://(?:127\.[\d.]+|localhost|\[::1\])(?::\d+)?(?:/|$)")
REVISION = re.compile(r"\w[\w.-]*(?:/\w[\w.-]*)*")


def wish_of(params: Params) -> Wish:
    """What the parameters ask for.

    Raises:
        VllmError: when one of them cannot be meant.
    """
    model, _colon, quantization = params["model"].partition(":")
    if not HUGGING_FACE_ID.fullmatch(model) or set(model.split("/")) & {".", ".."}:
        raise VllmError(f"model must be the id of a model on the Hub, such as openai/gpt-oss-20b; got {model!r}.")
    if not REVISION.fullmatch(params["revision"]):
        raise VllmError(f"revision must be a branch, a tag or a commit; got {params['revision']!r}.")
    for key in ("connections", "attempts", "timeout"):
        if params[key] <= 0:
            raise VllmError(f"{key} must be at least 1; got {params[key]}.")
    if params["bandwidth_limit"] is not None and params["bandwidth_limit"] < 1:
        raise VllmError(f"bandwidth_limit must be at least 1 byte per second; got {params['bandwidth_limit']}.")
    return Wish(
        model, params["revision"], quantization, params["format"], params["custom_code"], tuple(params["include"])
    )


def directory_of(params: Params) -> str:
    """The real path of the Hugging Face cache.

    Raises:
        VllmError: when the parameter is no absolute path.
    """
    path = str(params["huggingface_dir"])
    if not os.path.isabs(path):
        raise VllmError(f"huggingface_dir must be an absolute path; got {path!r}.")
    return os.path.realpath(path)


def token_in(path: str | None, endpoint: str) -> str:
    """The token in a file of the host; empty when no file is named.

    Raises:
        VllmError: when there is none, or it would be sent in the clear.
    """
    if not path:
        return ""
    token = files.read_text(path, TOKEN_LIMIT).strip()
    if not token:
        raise VllmError(
            f"Cannot read a token from hf_token_file {path}: the file is missing, empty or not readable by this user. "
            "Write the token there, or leave hf_token_file out for a public model.",
            "secret-missing",
        )
    if not TOKEN.fullmatch(token):
        raise VllmError(
            f"Cannot use the token in hf_token_file {path}: it contains a space, a newline or a non-ASCII character. "
            "Write the token alone there.",
            "secret-invalid",
        )
    if endpoint.startswith("http://") and not LOOPBACK.match(endpoint):
        raise VllmError(
            f"Cannot send the token in {path} to {endpoint}: that connection is not encrypted. Use https, or leave "
            "hf_token_file out.",
            "secret-invalid",
        )
    return token
