# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Start real vLLM with exactly what the catalogue says for a class of hardware, with dummy weights, and ask it something.

    python tests/bench/start_profiles.py h200 gpt-oss-20b gpt-oss-120b gemma-3-27b gpt-oss-20b

Runs on a GPU host in the repository's root, with a Python that has vLLM. Nothing is downloaded: the architectures stand
below, and the tokenizer is made from o200k_base.tiktoken in ENCODINGS (.cache/demo/encodings-source). A model that is named
again starts with the caches of its first start. Results and logs go to OUT (.cache/profiles).
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import typing as t
import urllib.error
import urllib.request
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "plugins"), str(ROOT / "tests/rig/cpu")]

import model  # noqa: E402  # tests/rig/cpu/model.py
from module_utils._server import arguments, catalogue as server_catalogue  # noqa: E402
from module_utils._server.spec import ServerSpec  # noqa: E402

OUT = Path(os.environ.get("OUT", ROOT / ".cache" / "profiles"))
ENCODINGS = Path(os.environ.get("ENCODINGS", ROOT / ".cache" / "demo" / "encodings-source"))
PORT = 8200
PATIENCE = 900

YARN = {
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "factor": 32.0,
    "original_max_position_embeddings": 4096,
    "truncate": False,
}
COMMON = {
    "attention_dropout": 0.0,
    "eos_token_id": 200002,
    "pad_token_id": 199999,
    "use_cache": True,
    "torch_dtype": "bfloat16",
}


def gpt_oss(layers: int, experts: int) -> dict[str, t.Any]:
    unquantized = ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]
    return {
        **COMMON,
        "architectures": ["GptOssForCausalLM"],
        "model_type": "gpt_oss",
        "attention_bias": True,
        "hidden_size": 2880,
        "intermediate_size": 2880,
        "head_dim": 64,
        "hidden_act": "silu",
        "vocab_size": 201088,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "num_hidden_layers": layers,
        "rms_norm_eps": 1e-05,
        "num_local_experts": experts,
        "num_experts_per_tok": 4,
        "swiglu_limit": 7.0,
        "sliding_window": 128,
        "max_position_embeddings": 131072,
        "initial_context_length": 4096,
        "rope_theta": 150000,
        "rope_scaling": {**YARN, "rope_type": "yarn"},
        "layer_types": ["sliding_attention", "full_attention"] * (layers // 2),
        "quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": unquantized},
        "tie_word_embeddings": False,
    }


GEMMA: dict[str, t.Any] = {
    # The language model alone: the images' part has weights of 0.8 GiB more.
    **COMMON,
    "architectures": ["Gemma3ForCausalLM"],
    "model_type": "gemma3_text",
    "attention_bias": False,
    "hidden_size": 5376,
    "intermediate_size": 21504,
    "head_dim": 128,
    "hidden_activation": "gelu_pytorch_tanh",
    "num_attention_heads": 32,
    "num_key_value_heads": 16,
    "num_hidden_layers": 62,
    "vocab_size": 262208,
    "query_pre_attn_scalar": 168,
    "rms_norm_eps": 1e-06,
    "sliding_window": 1024,
    "sliding_window_pattern": 6,
    "max_position_embeddings": 131072,
    "rope_theta": 1000000.0,
    "rope_local_base_freq": 10000.0,
    "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
    "layer_types": ["sliding_attention" if (layer + 1) % 6 else "full_attention" for layer in range(62)],
    "tie_word_embeddings": True,
}
ARCHITECTURES = {"gpt-oss-20b": gpt_oss(24, 32), "gpt-oss-120b": gpt_oss(36, 128), "gemma-3-27b": GEMMA}

# What vLLM's log says about the start.
MEASURED = {
    "weights_gib": r"Model loading took ([\d.]+) GiB",
    "kv_gib": r"Available KV cache memory: ([\d.]+) GiB",
    "kv_tokens": r"KV cache size: ([\d,]+) tokens",
    "concurrency": r"Maximum concurrency for [\d,]+ tokens per request: ([\d.]+)x",
    "compile_seconds": r"torch.compile took ([\d.]+) s",
    "graph_seconds": r"Graph capturing finished in (\d+) secs",
    "attention": r"Using (\w+) attention backend",
    "experts": r"Using '(\w+)' Mxfp4 MoE",
}


def rendered(name: str, hardware_class: str) -> tuple[ServerSpec, list[str], dict[str, str]]:
    """The profile as the server's arguments and environment; only model, port and weights differ from the catalogue."""
    known = yaml.safe_load((ROOT / "playbooks" / "models" / f"{name}.yml").read_text())
    here = {
        "model": str(OUT / "models" / name),
        "port": PORT,
        "hf_token_file": None,
        "engine": {"load_format": "dummy"},
    }
    encodings = {"encodings_dir": str(ENCODINGS)} if known["needs"].get("encodings") else {}
    server = server_catalogue.process(server_catalogue.resolve(name, known, hardware_class, {**here, **encodings}))
    places = arguments.Places(str(ENCODINGS), "", str(OUT / "caches" / name))
    return server, arguments.argv(server), arguments.env(server, places)


def make_model(name: str) -> None:
    directory = OUT / "models" / name
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(ARCHITECTURES[name]))
    if not (directory / "tokenizer.json").exists():
        model.make_tokenizer(str(ENCODINGS / "o200k_base.tiktoken")).save_pretrained(directory)


def ask(path: str, body: t.Any = None) -> t.Any:
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}{path}", data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as reply:
        return json.loads(reply.read() or b"null")


def wait(process: subprocess.Popen[bytes]) -> float | None:
    start = time.monotonic()
    while process.poll() is None and time.monotonic() - start < PATIENCE:
        try:
            ask("/health")
        except (OSError, urllib.error.URLError):
            time.sleep(0.5)
        else:
            return round(time.monotonic() - start, 1)
    return None


def start(name: str, hardware_class: str, log: Path) -> dict[str, t.Any]:
    make_model(name)
    server, words, env = rendered(name, hardware_class)
    command = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", *words]
    environment = {**os.environ, **env, "HF_HUB_OFFLINE": "1"}
    with log.open("wb") as stream:
        process = subprocess.Popen(command, env=environment, stdout=stream, stderr=stream, start_new_session=True)
    try:
        seconds = wait(process)
        answer = None
        if seconds is not None:
            body = {"model": server.served_model_name, "prompt": "Hello", "max_tokens": 16, "ignore_eos": True}
            answer = ask("/v1/completions", body)["usage"]
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)
    text = log.read_text(errors="replace")
    found = {key: re.findall(pattern, text)[-1:] for key, pattern in MEASURED.items()}
    told = {key: values[0] for key, values in found.items() if values}
    return {"model": name, "arguments": words, "env": env, "seconds_to_health": seconds, "completion": answer, **told}


def main() -> None:
    hardware_class, *names = sys.argv[1:]
    OUT.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names, 1):
        result = start(name, hardware_class, OUT / f"{number}-{name}.log")
        print(json.dumps(result), flush=True)
        if result["completion"] is None:
            raise SystemExit(f"{name} did not start; its log is {OUT}/{number}-{name}.log")


if __name__ == "__main__":
    main()
