"""What the stand-ins for vLLM and for the Hugging Face client share: the faults that are wanted, models, the cache."""

import json
import os
import sys
import typing as t
from dataclasses import dataclass, fields
from pathlib import Path

CACHE = Path(os.environ.get("HF_HOME", "/root/.cache/huggingface"))
OUT_OF_MEMORY = (
    "ValueError: Free memory on device (31.44/119.7 GiB) on startup is less than desired GPU memory utilization (0.85, "
    "101.75 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes."
)
FAULTS = (
    "exit-at-once",
    "exit-after",
    "hang-in-load",
    "slow-load",
    "health-500",
    "hang-completion",
    "hang-from-idle",
    "slow-completion",
    "freeze-metrics",
    "repeated-token",
    "null-content",
    "wrong-model-name",
    "die-on-first-completion",
    "ignore-sigterm",
    "fetch-fails",
    "fetch-truncates",
)


@dataclass(frozen=True)
class Fault:
    """What goes wrong, from $STANDIN_FAULT (NAME or NAME:SECONDS) or from the file standin.json in the model cache."""

    fault: str = ""
    seconds: float = 5
    load_seconds: float = 1
    message: str = OUT_OF_MEMORY
    status: int = 1
    only_with: str = ""


def read_fault() -> Fault:
    """The fault that is wanted of this process now: the file may change while it runs."""
    word, _colon, seconds = os.environ.get("STANDIN_FAULT", "").partition(":")
    said: dict[str, t.Any] = {"fault": word, **({"seconds": float(seconds)} if seconds else {})}
    if "STANDIN_LOAD_SECONDS" in os.environ:
        said["load_seconds"] = float(os.environ["STANDIN_LOAD_SECONDS"])
    file = CACHE / "standin.json"
    written = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    if written.get("only_with", "") in " ".join(sys.argv):
        said.update(written)
    unknown = set(said) - {f.name for f in fields(Fault)}
    if unknown or said["fault"] not in ("", *FAULTS):
        wrong = sorted(unknown) or said["fault"]
        raise SystemExit(f"stand-in: {wrong} is unknown; the faults are {', '.join(FAULTS)}.")
    return Fault(**said)


def has_token() -> bool:
    files = (Path(os.environ.get("HF_TOKEN_PATH", CACHE / "token")), CACHE / "token")
    return bool(os.environ.get("HF_TOKEN")) or any(file.exists() and file.read_text().strip() for file in files)


def is_gated(model: str) -> bool:
    return model.startswith(("google/gemma", "meta-llama/"))


def repository(model: str) -> Path:
    return Path(os.environ.get("HF_HUB_CACHE", CACHE / "hub")) / f"models--{model.replace('/', '--')}"


@dataclass(frozen=True)
class Model:
    """What a model weighs in GiB, and what its config.json holds."""

    weights_gib: float
    config: dict[str, t.Any]

    @property
    def bytes_per_token(self) -> int:
        """What a token takes in the KV cache, with a window nowhere."""
        text = self.config.get("text_config", self.config)
        head_dim = text.get("head_dim") or text["hidden_size"] // text["num_attention_heads"]
        return int(text["num_hidden_layers"] * 2 * text["num_key_value_heads"] * head_dim * 2)


def gpt_oss(layers: int, experts: int) -> dict[str, t.Any]:
    return {
        "architectures": ["GptOssForCausalLM"],
        "model_type": "gpt_oss",
        "hidden_size": 2880,
        "num_hidden_layers": layers,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "num_local_experts": experts,
        "sliding_window": 128,
        "layer_types": ["sliding_attention", "full_attention"] * (layers // 2),
        "quantization_config": {"quant_method": "mxfp4"},
    }


GEMMA_3_27B = {
    "architectures": ["Gemma3ForConditionalGeneration"],
    "model_type": "gemma3",
    "text_config": {
        "model_type": "gemma3_text",
        "hidden_size": 5376,
        "num_hidden_layers": 62,
        "num_attention_heads": 32,
        "num_key_value_heads": 16,
        "head_dim": 128,
        "sliding_window": 1024,
    },
}
QWEN_25_05B = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_size": 896,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "max_window_layers": 21,
    "sliding_window": 32768,
    "use_sliding_window": False,
}
MODELS = {
    "openai/gpt-oss-120b": Model(65.97, gpt_oss(36, 128)),
    "openai/gpt-oss-20b": Model(13.03, gpt_oss(24, 32)),
    "google/gemma-3-27b-it": Model(51.79, GEMMA_3_27B),
}
OTHER_MODEL = Model(0.95, QWEN_25_05B)


def model_of(name: str) -> Model:
    return MODELS.get(name, OTHER_MODEL)
