# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The variables that a trainer finds its server by, and the two files that hold them. Pure."""

from __future__ import annotations

import re
import shlex
import typing as t

from .._errors import VllmError
from .._server.secret_settings import secret_at

# The file for systemd and Docker, and the one for shells, in one directory.
ENVIRONMENT_FILE, PROFILE = "environment", "profile.sh"
MARK = "# Written by gpufleet.vllm (role grpo_trainer): changes are overwritten."
NAME = re.compile(r"[A-Za-z_]\w*")
# What systemd, Docker and a shell would each read otherwise.
UNSAFE = re.compile(r"[\"'\\`$]")

# transformers fetches this kernel from the Hub. gpt-oss has attention sinks, which it has and few others do.
FLASH_ATTENTION_3 = "kernels-community/vllm-flash-attn3"
HOPPER = "9.0"

# What people set who follow older instructions, and what it comes to with this environment.
WITHOUT_EFFECT: t.Mapping[str, str] = {
    "VLLM_USE_V1": "the V1 engine is the only one",
    "TORCH_CUDA_ARCH_LIST": "nothing is compiled: the kernel of FlashAttention 3 comes from the Hub, built",
}
# These follow from the server and the split.
OURS = ("VLLM_SERVER_HOST", "VLLM_SERVER_PORT", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")


def attention(model: str, capability: str | None) -> str:
    """What C(attn_implementation) of transformers is to be for this model on GPUs of this compute capability."""
    if capability == HOPPER:
        return FLASH_ATTENTION_3
    # SDPA has no attention sinks.
    return "eager" if re.search("gpt.?oss", model, re.IGNORECASE) else "sdpa"


def variables(
    host: str, port: int, attn: str, gpus: t.Sequence[str], own: t.Mapping[str, t.Any] | None = None
) -> dict[str, str]:
    """The environment of the trainer; C(own) is what the user adds or sets otherwise.

    Raises:
        VllmError: for a variable that is no name, a value that no file can hold, a secret, or what is not the user's.
    """
    derived = {
        "VLLM_SERVER_HOST": host,
        "VLLM_SERVER_PORT": str(port),
        "ATTN_IMPLEMENTATION": attn,
        # The address at which the trainer opens the group over which weights travel: the server connects to it.
        "VLLM_HOST_IP": host,
    }
    if gpus:
        derived.update(
            CUDA_DEVICE_ORDER="PCI_BUS_ID",
            CUDA_VISIBLE_DEVICES=",".join(gpus),
            # Both sides meet on this host; NCCL would take the first network that it finds.
            NCCL_SOCKET_IFNAME="lo",
        )
    return {**derived, **_checked(own or {})}


def _checked(own: t.Mapping[str, t.Any]) -> dict[str, str]:
    found = {}
    for name, value in own.items():
        address = f"env.{name}"
        if not NAME.fullmatch(str(name)):
            raise VllmError(f"{address} must be the name of a variable, such as NCCL_DEBUG; got {name!r}.")
        if name in OURS:
            raise VllmError(
                f"{address} follows from the server and the GPUs: set gpus, or port of the server, instead."
            )
        if name in WITHOUT_EFFECT:
            raise VllmError(f"{address} has no effect: {WITHOUT_EFFECT[name]}. Leave it out.")
        if secret_at("env", str(name), value):
            raise VllmError(
                f"{address} looks like a secret, and the file is readable by everybody on the host. Log in as the user "
                "who trains (hf auth login), or export it in the script that starts the training."
            )
        text = str(value)
        if not text.isprintable() or UNSAFE.search(text):
            raise VllmError(f"{address} must be one line of text without quotes, backslashes and $; got {text!r}.")
        found[str(name)] = text
    return found


def environment_text(values: t.Mapping[str, str]) -> str:
    """For C(EnvironmentFile=) of systemd and C(--env-file) of Docker."""
    return "\n".join([MARK, *(f"{name}={value}" for name, value in values.items()), ""])


def profile_text(values: t.Mapping[str, str], venv: str, path: str) -> str:
    """For a shell that is to train, which reads it with C(.)."""
    return "\n".join(
        [
            MARK,
            f"# Use: . {path}",
            *(f"export {name}={shlex.quote(value)}" for name, value in values.items()),
            f"export VIRTUAL_ENV={shlex.quote(venv)}",
            'export PATH="$VIRTUAL_ENV/bin:$PATH"',
            "",
        ]
    )


def gpus_of(text: str) -> tuple[str, ...]:
    """The GPUs that an environment file gives to the trainer."""
    found = re.search(r"^CUDA_VISIBLE_DEVICES=(\S+)$", text, re.MULTILINE)
    return tuple(found.group(1).split(",")) if found else ()
