"""Write two more small models beside the demo's: NEW_DIRECTORY/qwen is of another architecture and says another sentence,
and NEW_DIRECTORY/dying has a head_dim that vLLM's attention on CPUs lacks, so its engine dies of the first completion.

Usage, inside the demo's image, with tests/rig/cpu/model.py and tests/real/failures/model_that_dies.py at /:
models.py O200K_BASE_FILE NEW_DIRECTORY
"""

from __future__ import annotations

import sys

sys.path.insert(0, "/")
import model
import model_that_dies
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

ANSWER = "Greetings! You reached Qwen on the same port; nobody else is up here now."


def make_qwen(tokens: list[int]) -> Qwen2ForCausalLM:
    config = Qwen2Config(
        vocab_size=model.VOCABULARY,
        hidden_size=128,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=False,
        bos_token_id=199998,
        eos_token_id=200002,
        pad_token_id=199999,
        dtype="bfloat16",
    )
    network = Qwen2ForCausalLM(config)
    with torch.no_grad():
        model.teach(network, tokens)
    return network.to(torch.bfloat16)


def main() -> None:
    vocabulary_file, directory = sys.argv[1:]
    torch.manual_seed(1)
    tokenizer = model.make_tokenizer(vocabulary_file)
    tokens = tokenizer.encode(f"assistant{ANSWER}<|return|>", add_special_tokens=False)
    if len({*tokens}) < len(tokens):
        raise SystemExit("Each token of the answer must be the only one of its kind.")
    make_qwen(tokens).save_pretrained(f"{directory}/qwen")
    tokenizer.save_pretrained(f"{directory}/qwen")
    sys.argv[2] = f"{directory}/dying"
    model.make_config = model_that_dies.make_config_that_dies
    model.main()


if __name__ == "__main__":
    main()
