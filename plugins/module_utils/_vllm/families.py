# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a family of models needs that its config.json does not say: parsers, and who has checked that. Pure."""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass, field

# Where the parsers come from: https://github.com/vllm-project/recipes at 8959cf6, of 2026-08-21.
RECIPES = "vllm-project/recipes 8959cf6"


@dataclass(frozen=True)
class Family:
    """A row: the first whose patterns fit a model's architecture and the last word of its id, in lower case, is it."""

    name: str
    architectures: str
    names: str = ""
    reasoning_parser: str = ""
    tool_call_parser: str = ""
    engine: t.Mapping[str, t.Any] = field(default_factory=dict)
    # A file of the model without which the row does not fit.
    file: str = ""
    # What of it is Python code that comes with the weights, beside what its config.json names.
    code: str = ""
    # Where it is said; empty for what nobody could be found to say, which is told as such.
    source: str = RECIPES


QWEN3 = r"Qwen3(?:Moe|Next)?ForCausalLM"
GLM = r"Glm4v?Moe(?:ForCausalLM|ForConditionalGeneration)"
DEEPSEEK_V3 = "DeepseekV3ForCausalLM"
MISTRAL_FORMAT = {"tokenizer_mode": "mistral", "config_format": "mistral", "load_format": "mistral"}

FAMILIES = (
    # vLLM chooses the parser of its reasoning itself.
    Family("gpt-oss", "GptOssForCausalLM", tool_call_parser="openai"),
    Family("Qwen3-Coder", QWEN3, "coder", "", "qwen3_coder"),
    Family("Qwen3 Instruct", QWEN3, "instruct", "", "hermes"),
    Family("Qwen3 Thinking", QWEN3, "thinking", "deepseek_r1", "hermes", source="the models' pages"),
    Family("Qwen3 for embeddings", QWEN3, "embedding|reranker"),
    Family("Qwen3", r"Qwen3(?:Moe)?ForCausalLM", "", "qwen3", "hermes"),
    Family("Qwen3.5", r"Qwen3_5(?:Moe)?For\w+", "", "qwen3", "qwen3_coder"),
    Family("Qwen3-VL", r"Qwen3VL(?:Moe)?ForConditionalGeneration", "instruct", "", "hermes", source=""),
    Family("Qwen2.5", r"Qwen2(?:Moe)?ForCausalLM", "instruct", "", "hermes", source="vLLM's documentation"),
    Family("DeepSeek-R1 distilled", r"(?:Qwen2|Llama)ForCausalLM", "deepseek-r1|qwq", "deepseek_r1"),
    Family("Llama 3", "LlamaForCausalLM", r"llama-?3.*instruct", "", "llama3_json", source="vLLM's documentation"),
    Family(
        "Llama 4",
        "Llama4ForConditionalGeneration",
        "instruct",
        "",
        "llama4_pythonic",
        source="vLLM's documentation",
    ),
    Family(
        "Mistral",
        r"Mistral\w*|Pixtral\w*",
        "reasoning",
        "mistral",
        "mistral",
        engine=MISTRAL_FORMAT,
        file="params.json",
    ),
    Family("Mistral", r"Mistral\w*|Pixtral\w*", "", "", "mistral", engine=MISTRAL_FORMAT, file="params.json"),
    Family("GLM-4.7", GLM, r"4\.7", "glm45", "glm47"),
    Family("GLM-4.5", GLM, "", "glm45", "glm45"),
    Family("GLM-5", "GlmMoeDsaForCausalLM", "", "glm45", "glm47"),
    Family(
        "Kimi-K2 Thinking",
        f"{DEEPSEEK_V3}|KimiK25\\w+",
        r"kimi-k2(?:-thinking|\.)",
        "kimi_k2",
        "kimi_k2",
        code="its tokenizer",
    ),
    Family("Kimi-K2", DEEPSEEK_V3, "kimi", "", "kimi_k2", code="its tokenizer"),
    # Its parsers for tools want a chat template that is in vLLM's sources alone.
    Family("DeepSeek-R1", DEEPSEEK_V3, "r1", "deepseek_r1"),
    Family("DeepSeek-V3", DEEPSEEK_V3),
    Family(
        "DeepSeek-V3.2",
        "DeepseekV32ForCausalLM",
        "",
        "deepseek_v3",
        "deepseek_v32",
        engine={"tokenizer_mode": "deepseek_v32"},
    ),
    # Its layers keep their states in 8 bits alone.
    Family(
        "DeepSeek-V4",
        "DeepseekV4ForCausalLM",
        "",
        "deepseek_v4",
        "deepseek_v4",
        engine={"tokenizer_mode": "deepseek_v4", "kv_cache_dtype": "fp8"},
    ),
    Family("MiniMax-M2", "MiniMaxM2ForCausalLM", "", "minimax_m2", "minimax_m2"),
    Family("Nemotron 3", "NemotronHForCausalLM", r"nemotron-3", "nemotron_v3", "qwen3_coder"),
    Family("Gemma 4", r"Gemma4\w*", "-it", "gemma4", "gemma4"),
    Family("Seed-OSS", "SeedOssForCausalLM", "", "", "seed_oss"),
    Family("Granite 3", r"Granite(?:Moe)?ForCausalLM", "instruct", "", "granite", source="vLLM's documentation"),
    Family("Granite 4", "GraniteMoeHybridForCausalLM", "", "", "granite4", source=""),
    Family("Phi-4-mini", "Phi3ForCausalLM", "phi-4-mini", "", "phi4_mini_json", source="vLLM's documentation"),
    Family("Step-3.5", "Step3p5ForCausalLM", "", "step3p5", "step3p5"),
    Family("Hunyuan 3", "HYV3ForCausalLM", "", "hy_v3", "hy_v3"),
)


def family_of(architecture: str, model: str, files: t.Collection[str] = ()) -> Family | None:
    """The family of a model, by its architecture and its id or directory."""
    name = model.rstrip("/").rsplit("/", 1)[-1].lower()
    for family in FAMILIES:
        is_named = re.fullmatch(family.architectures, architecture) and re.search(family.names, name)
        if is_named and (not family.file or family.file in files):
            return family
    return None
