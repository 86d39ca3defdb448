# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The examples of the user guide for any model: each is run through the plugin, and what it makes is what it says."""

from __future__ import annotations

import re
import shlex
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.gpufleet.vllm.plugins.module_utils._server import catalogue
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.arguments import argv
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._catalogue_files import published_files
from test_vllm_server import FOUND, Plugin

GUIDE = (Path(__file__).parents[3] / "docs" / "user_guide.md").read_text("utf-8")
SECTION = GUIDE.partition("\n## Any model\n")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", SECTION.partition("### Examples")[2], re.DOTALL)
OVERRIDES = [yaml.safe_load(text)["vllm_overrides"] for kind, text in BLOCKS if kind == "yaml"]
LORA, NAMES, TEMPLATE, EMBEDDINGS = OVERRIDES


def unchosen(model: str) -> dict[str, t.Any]:
    known = published_files(model)
    assert known is not None
    files = {"config": known.config, "tokenizer": {}, "files": list(known.files)}
    read = {**files, "weights_bytes": known.weights_bytes, "revision": "c0ffee", "source": "/hf"}
    return {"unchosen": {"known": None, "files": read, "gpus": 8, "memory_mib": 81559}}


def deployed(model: str, **said: t.Any) -> tuple[dict[str, t.Any], list[str]]:
    """The spec and the arguments of C(vllm serve) that a deployment makes."""
    plugin = Plugin(unchosen(model), FOUND, model=model, hardware_class="h100", look=True, **said)
    result = plugin.over()
    assert not result["failed"], result["msg"]
    return result["spec"], argv(catalogue.process(result["spec"]))


@pytest.mark.parametrize("backend", ["container", "systemd"])
def test_adapters(backend: str) -> None:
    spec, words = deployed("Qwen/Qwen3-8B", overrides=LORA, backend=backend)
    at = words.index("--lora-modules")
    assert words[at + 1 : at + 3] == ["sql=/srv/adapters/sql", "support=/srv/adapters/support"]
    assert "--enable-lora" in words and words[words.index("--max-lora-rank") + 1] == "32"
    assert spec["volumes"] == ["/srv/adapters:/srv/adapters:ro"]


def test_several_names() -> None:
    _spec, words = deployed("Qwen/Qwen3-8B", overrides=NAMES)
    at = words.index("--served-model-name")
    assert words[at + 1 : at + 3] == ["qwen", "gpt-4o-mini"]


def test_a_chat_template() -> None:
    spec, words = deployed("Qwen/Qwen3-8B", overrides=TEMPLATE)
    assert words[words.index("--chat-template") + 1] == "/srv/templates/ours.jinja"
    assert spec["volumes"] == ["/srv/templates:/srv/templates:ro"]


def test_embeddings_of_a_model_that_is_made_to() -> None:
    spec, words = deployed("Qwen/Qwen3-8B", overrides=EMBEDDINGS)
    assert words[words.index("--runner") + 1] == "pooling"
    assert words[words.index("--convert") + 1] == "embed"
    assert not {"--tool-call-parser", "--reasoning-parser"} & {*words}
    assert spec["health"]["checks"] == ["health", "models", "embedding"]


def commands() -> list[dict[str, str]]:
    """What the commands of the section say by -e, a mapping each."""
    lines = [
        line for _kind, text in re.findall(r"```(bash)\n(.*?)```", SECTION, re.DOTALL) for line in text.splitlines()
    ]
    words = [shlex.split(line) for line in lines]
    return [dict(pair.split("=", 1) for flag, pair in zip(line, line[1:]) if flag == "-e") for line in words]


@pytest.mark.parametrize("said", [pytest.param(said, id=" ".join(said.values())) for said in commands()])
def test_the_commands_serve_the_model_that_they_name(said: dict[str, str]) -> None:
    model = said["model"]
    wishes = {key.removeprefix("vllm_"): int(value) for key, value in said.items() if key.startswith("vllm_")}
    plugin = Plugin(
        unchosen(model if published_files(model) else "Qwen/Qwen3-8B"),
        FOUND,
        model=model,
        hardware_class="h100",
        look=True,
        **wishes,
    )
    result = plugin.over()
    assert result["spec"]["model"] == model
    assert result["spec"]["engine"]["max_model_len"] == wishes.get("context", result["spec"]["engine"]["max_model_len"])


def test_the_reasons_in_the_guide_are_those_that_are_told() -> None:
    plugin = Plugin(unchosen("Qwen/Qwen3-32B"), FOUND, model="Qwen/Qwen3-32B", hardware_class="h100", look=True)
    told = plugin.over()["choice"]["reasons"]
    (shown,) = re.findall(r"```text\n(.*?)```", SECTION, re.DOTALL)
    lines = [line.partition(": ")[2] for line in shown.splitlines()]
    assert [line for line in lines[1:] if line not in told] == []
