"""Write three small models of different families into NEW_DIRECTORY: llama and qwen3 say a sentence each, bert embeds.

Usage, inside the demo's image, with tests/rig/cpu/model.py at /: models.py O200K_BASE_FILE NEW_DIRECTORY
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, "/")
import model
import torch
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

SAYS = {
    "llama": "Hi there! Llama answers you from a directory alone; nobody described me.",
    "qwen3": "Good day! Qwen three speaks here, found by its own files and no catalogue.",
}
SHAPE = {
    "vocab_size": model.VOCABULARY,
    "hidden_size": 128,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "tie_word_embeddings": False,
    "max_position_embeddings": 8192,
    "bos_token_id": 199998,
    "eos_token_id": 200002,
    "pad_token_id": 199999,
    "dtype": "bfloat16",
}
# What tells tools of sentence-transformers, and vLLM, that the mean of all tokens is the embedding.
MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
]
POOLING = {"word_embedding_dimension": 128, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}


def write_speaker(directory: Path, network: torch.nn.Module, says: str, tokenizer: object) -> None:
    tokens = tokenizer.encode(f"assistant{says}<|return|>", add_special_tokens=False)
    if len({*tokens}) < len(tokens):
        raise SystemExit(f"Each token of the answer must be the only one of its kind: {says}")
    with torch.no_grad():
        model.teach(network, tokens)
    network.to(torch.bfloat16).save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def write_embedder(directory: Path, tokenizer: object) -> None:
    config = BertConfig(
        vocab_size=model.VOCABULARY,
        hidden_size=128,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=512,
        pad_token_id=199999,
        dtype="float32",
    )
    BertModel(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    (directory / "modules.json").write_text(json.dumps(MODULES), encoding="utf-8")
    (directory / "1_Pooling").mkdir()
    (directory / "1_Pooling" / "config.json").write_text(json.dumps(POOLING), encoding="utf-8")


def main() -> None:
    vocabulary_file, directory = sys.argv[1], Path(sys.argv[2])
    torch.manual_seed(2)
    tokenizer = model.make_tokenizer(vocabulary_file)
    write_speaker(directory / "llama", LlamaForCausalLM(LlamaConfig(**SHAPE)), SAYS["llama"], tokenizer)
    write_speaker(directory / "qwen3", Qwen3ForCausalLM(Qwen3Config(head_dim=64, **SHAPE)), SAYS["qwen3"], tokenizer)
    write_embedder(directory / "bert", tokenizer)


if __name__ == "__main__":
    main()
