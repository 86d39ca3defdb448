"""Write a small gpt-oss model that answers one fixed sentence.

Usage, inside the demo's image: model.py O200K_BASE_FILE NEW_DIRECTORY

It is gpt-oss in all but size: the architecture GptOssForCausalLM, gpt-oss's own vocabulary, special tokens and Harmony
format. Nothing is trained. Attention and experts are random and stay quiet; the embedding of each token of the answer
and the output row of the token that follows it are the same direction, so that greedy and sampled decoding both walk
the answer from one token to the next, whatever the prompt says.
"""

from __future__ import annotations

import sys

import torch
from transformers import GptOssConfig, GptOssForCausalLM, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import TikTokenConverter

ANSWER = (
    "Hello from vLLM! I am a tiny gpt-oss model on your own machine, and this sentence is all that my weights know."
)

# The published split pattern of o200k_base, and the special tokens that follow its 199,998 ordinary ones.
PATTERN = "|".join(
    [
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)
FIRST_SPECIAL = 199998
NAMED_SPECIAL = {
    199998: "<|startoftext|>",
    199999: "<|endoftext|>",
    200002: "<|return|>",
    200003: "<|constrain|>",
    200005: "<|channel|>",
    200006: "<|start|>",
    200007: "<|end|>",
    200008: "<|message|>",
    200012: "<|call|>",
    200018: "<|endofprompt|>",
}
VOCABULARY = 201088

CHAT_TEMPLATE = (
    "{% for message in messages %}<|start|>{{ message['role'] }}<|message|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)


def make_tokenizer(vocabulary_file: str) -> PreTrainedTokenizerFast:
    special = [NAMED_SPECIAL.get(number, f"<|reserved_{number}|>") for number in range(FIRST_SPECIAL, VOCABULARY)]
    converter = TikTokenConverter(vocabulary_file, pattern=PATTERN, extra_special_tokens=special)
    return PreTrainedTokenizerFast(
        tokenizer_object=converter.converted(),
        bos_token="<|startoftext|>",
        eos_token="<|return|>",
        pad_token="<|endoftext|>",
        chat_template=CHAT_TEMPLATE,
    )


def make_config() -> GptOssConfig:
    return GptOssConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=128,
        num_hidden_layers=2,
        layer_types=["sliding_attention", "full_attention"],
        head_dim=64,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=4,
        num_experts_per_tok=2,
        sliding_window=128,
        tie_word_embeddings=False,
        bos_token_id=199998,
        eos_token_id=200002,
        pad_token_id=199999,
        dtype="bfloat16",
    )


def walk(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """The tokens of the whole answer in Harmony format, after the prompt's last one ("assistant")."""
    tokens = tokenizer.encode(f"assistant<|channel|>final<|message|>{ANSWER}<|return|>", add_special_tokens=False)
    repeated = {tokenizer.decode([token]) for token in tokens if tokens.count(token) > 1}
    if repeated:
        raise SystemExit(f"Each token of the answer must be the only one of its kind; more than once: {repeated}")
    return tokens


def teach(model: GptOssForCausalLM, tokens: list[int]) -> None:
    """Let each of the tokens call for the next one, and every other token for the first word."""
    size = model.config.hidden_size
    # Orthonormal rows: no token of the answer resembles another. One more for all tokens outside the answer.
    directions = torch.linalg.qr(torch.randn(size, size))[0][: len(tokens) + 1]
    outside, inside = directions[0], directions[1:]
    # Far longer than what attention and experts add, so that these do not change the answer.
    embeddings = model.get_input_embeddings().weight
    embeddings.copy_(8 * outside + torch.randn_like(embeddings) * 0.1)
    embeddings[tokens] = 8 * inside
    output = model.get_output_embeddings().weight
    output.zero_()
    output[tokens[1:]] = 4 * inside[:-1]
    first_word = tokens[4]
    output[first_word] += 4 * outside


def main() -> None:
    vocabulary_file, directory = sys.argv[1:]
    torch.manual_seed(0)
    tokenizer = make_tokenizer(vocabulary_file)
    model = GptOssForCausalLM(make_config())
    with torch.no_grad():
        teach(model, walk(tokenizer))
    model.to(torch.bfloat16).save_pretrained(directory)
    tokenizer.save_pretrained(directory)


if __name__ == "__main__":
    main()
