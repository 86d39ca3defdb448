# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The spec as arguments and environment of C(vllm serve): the one renderer. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from .._vllm import versions as vllm_versions

if t.TYPE_CHECKING:
    from .keys import EngineValue
    from .spec import ServerSpec


def argv(spec: ServerSpec) -> list[str]:
    """The arguments after C(vllm serve): the only place where the spec becomes flags."""
    args = [spec.model, "--served-model-name", *spec.served_model_names, "--port", str(spec.port)]
    if spec.network_mode == "host":
        # In its own network namespace vLLM listens everywhere, and what is published decides; here it decides itself.
        args += ["--host", spec.bind]
    engine = {**spec.engine, **spec.engine_unchecked}
    for name in sorted(engine):
        args += _option_argv(name, engine[name], vllm_versions.option_kind(name, spec.vllm_version))
    return args


def _option_argv(name: str, value: EngineValue, kind: str) -> list[str]:
    """One option as words. The kind, as the table of versions has it, says what the value alone does not."""
    base, dot, part = name.partition(".")
    flag = "--" + base.replace("_", "-") + dot + part
    if isinstance(value, bool):
        if kind == "truth" or dot:
            return [flag, str(value).lower()]
        return [flag] if value else [] if kind == "flag" else ["--no-" + flag[2:]]
    if isinstance(value, str):
        return [flag, value]
    if kind == "append":
        return [word for element in value for word in (flag, element)]
    return [flag, *value] if value else []


# What a secret is called where the server finds it, by the key of the spec that names its file.
SECRET_NAMES = {"hf_token_file": "hf_token", "api_key_file": "vllm_api_key", "env_file": "env"}


@dataclass(frozen=True)
class Places:
    """Where a backend puts what the server reads and writes, as the server sees it."""

    encodings: str
    hf_token: str
    caches: str | None = None
    # What is compiled for any model, where servers share it; else it is kept with the rest.
    kernels: str | None = None


# What a server compiles, by the directories in which it is kept: of any model, where servers share it, and of its own.
KERNELS = ("cuda", "flashinfer")
COMPILED = (*KERNELS, "torchinductor", "triton", "vllm")


def shares_kernels(spec: ServerSpec) -> bool:
    """Whether a server may share what FlashInfer and CUDA compile with others of its image, at the same time too."""
    known = vllm_versions.Release(spec.vllm_version) if spec.vllm_version else None
    return spec.keep_caches and spec.gpus != "none" and known is not None and known.behaves("kernels_shared")


def env(spec: ServerSpec, places: Places) -> dict[str, str]:
    """The server's environment, what the user sets last. Secrets are no part of it."""
    variables = {"NO_COLOR": "1"}
    if spec.reads_encodings:
        variables["TIKTOKEN_ENCODINGS_BASE"] = places.encodings
    if spec.hf_token_file:
        variables["HF_TOKEN_PATH"] = places.hf_token
    if places.caches:
        # What is compiled at the first start: kept, it makes later starts minutes shorter.
        variables["VLLM_CACHE_ROOT"] = f"{places.caches}/vllm"
        variables["TRITON_CACHE_DIR"] = f"{places.caches}/triton"
        # What torch.compile makes belongs to one model. Triton puts the files of a kernel in place one by one, and a
        # mixture of two that compile the same at once computes nonsense: what it makes is not shared either.
        kernels = places.kernels or places.caches
        variables["FLASHINFER_WORKSPACE_BASE"] = f"{kernels}/flashinfer"
        variables["CUDA_CACHE_PATH"] = f"{kernels}/cuda"
    if spec.network_mode == "host":
        variables["VLLM_PORT"] = str(_internal_port(spec.port))
    return {**variables, **spec.env}


def secrets_shell(directory: str) -> str:
    """The text of a shell that puts secrets from the files in a directory into the environment of the server alone.

    Not in its arguments, its log or what describes it. Lines of the env file are taken literally, as docker --env-file
    takes them. Without its key a server would let everybody in, so an empty file is an error. C(directory) is written
    as the shell reads it, with quotes where it takes any.
    """
    return (
        f'if [ -e {directory}/env ]; then while IFS= read -r l || [ -n "$l" ]; do '
        f'case "$l" in ""|"#"*) ;; *=*) export "$l";; esac; done < {directory}/env; fi; '
        f"if [ -e {directory}/vllm_api_key ]; then "
        f'VLLM_API_KEY="$(cat {directory}/vllm_api_key)" && [ -n "$VLLM_API_KEY" ] || '
        f'{{ echo {directory}/vllm_api_key "holds no API key" >&2; exit 1; }}; export VLLM_API_KEY; fi; exec "$@"'
    )


def _internal_port(port: int) -> int:
    """Where vLLM starts to look for ports of its own: apart for servers that share a network, or starts at the same
    time race for them; below the range that Linux gives to outgoing connections."""
    return 12000 + port % 625 * 32
