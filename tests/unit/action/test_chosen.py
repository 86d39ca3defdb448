# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A model that no catalogue has, by its id: who is asked for its numbers, what is chosen, what is recorded and kept."""

from __future__ import annotations

import copy
import json
import typing as t

import pytest
from hub_rig import COMMIT, MODEL, TOKEN, Hub, repository
from test_vllm_server import CONTAINER, FOUND, GOOD, SERVICE, Plugin

Result = dict[str, t.Any]
# Qwen/Qwen3-32B in its own words.
CONFIG: Result = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "num_hidden_layers": 64,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "hidden_size": 5120,
    "intermediate_size": 25600,
    "max_position_embeddings": 40960,
    "torch_dtype": "bfloat16",
}
FILES: Result = {
    "config": CONFIG,
    "tokenizer": {"auto_map": None},
    "files": ["config.json"],
    "weights_bytes": 65_524_246_528,
    "revision": "c0ffee",
    "source": "/hf/hub",
}
QWEN = "Qwen/Qwen3-32B"
UNCHOSEN: Result = {"changed": False, "unchosen": {"known": None, "files": FILES, "gpus": 8, "memory_mib": 81559}}
NOTHING: Result = {**FOUND, "changed": False, "actions": [], "health": GOOD}


def unchosen(**said: t.Any) -> Result:
    made = copy.deepcopy(UNCHOSEN)
    made["unchosen"].update(said)
    return made


def deploy(*results: Result, model: str = QWEN, **said: t.Any) -> tuple[Plugin, Result]:
    plugin = Plugin(*results, model=model, hardware_class="h100", look=True, **said)
    return plugin, plugin.over()


def recorded(result: Result) -> Result:
    """What the module tells of it when it has been written down."""
    told = {key: value for key, value in result["choice"].items() if key != "arguments"}
    return {**NOTHING, "choice": json.loads(json.dumps(told))}


def test_the_files_on_the_host_decide_and_a_second_call_asks_for_what_was_chosen() -> None:
    plugin, result = deploy(UNCHOSEN, FOUND)
    (module, first), (again, second) = plugin.calls
    assert (module, again) == (SERVICE, SERVICE)
    assert "record" not in first["choice"]
    assert second["choice"]["request"] == first["choice"]["request"]
    assert (second["engine"]["tensor_parallel_size"], second["gpus"]) == (2, {"count": 2})
    assert second["engine"]["max_model_len"] == 40960
    assert (second["name"], second["served_model_name"]) == ("qwen3-32b", QWEN)
    assert result["choice"]["revision"] == "c0ffee"
    assert any(line.startswith("tensor_parallel_size 2: ") for line in result["choice"]["reasons"])


def test_the_record_has_what_differs_from_the_first_call_and_nothing_secret() -> None:
    plugin, result = deploy(UNCHOSEN, FOUND, hf_token="hf_SECRET")
    (_module, first), (_again, second) = plugin.calls
    record = second["choice"]["record"]
    assert {**first, **record["arguments"], "choice": None, "hf_token": "hf_SECRET"} == {**second, "choice": None}
    assert "hf_SECRET" not in json.dumps(record)


def test_a_choice_that_is_recorded_costs_one_call_and_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    _plugin, before = deploy(UNCHOSEN, FOUND)
    plugin, result = deploy(recorded(before))
    assert len(plugin.calls) == 1
    assert result["spec"] == before["spec"]
    assert result["pending"] is False
    assert plugin.calls[0][1]["choice"]["request"] == before["choice"]["request"]


def test_what_is_not_recorded_yet_is_left_to_do() -> None:
    _plugin, result = deploy(UNCHOSEN, NOTHING)
    assert result["pending"] is True


def test_an_override_changes_the_request_and_keeps_the_choice() -> None:
    _plugin, before = deploy(UNCHOSEN, FOUND)
    known = recorded(before)["choice"]
    known["entry"]["hardware"]["h100"]["engine"]["max_model_len"] = 12345  # As an earlier release chose.
    plugin, result = deploy(unchosen(known=known, files=None), FOUND, overrides={"port": 8005})
    (_module, first), (_again, second) = plugin.calls
    assert (second["port"], second["engine"]["max_model_len"]) == (8005, 12345)
    assert first["choice"]["key"] == known["key"]
    assert result["choice"]["request"] != known["request"]


@pytest.mark.parametrize(
    "said",
    [
        {"context": 8192},
        {"concurrency": 16},
        {"revision": "v1"},
        {"overrides": {"engine": {"tensor_parallel_size": 8}}},
        {"image": "vllm/vllm-openai:v0.27.0"},
    ],
)
def test_another_wish_is_another_choice(said: Result) -> None:
    first, _result = deploy(UNCHOSEN, FOUND)
    other, _result = deploy(UNCHOSEN, FOUND, **said)
    assert first.calls[0][1]["choice"]["key"] != other.calls[0][1]["choice"]["key"]


def test_what_was_chosen_can_be_overridden_and_the_rest_follows() -> None:
    plugin, result = deploy(UNCHOSEN, FOUND, overrides={"engine": {"tensor_parallel_size": 8}, "port": 9000})
    arguments = plugin.calls[1][1]
    assert (arguments["engine"]["tensor_parallel_size"], arguments["port"]) == (8, 9000)
    assert arguments["gpus"] == {"count": 8}
    assert "tensor_parallel_size 8: it is wanted." in result["choice"]["reasons"]


def test_a_revision_is_served_and_looked_for() -> None:
    plugin, _result = deploy(UNCHOSEN, FOUND, revision="v2")
    (_module, first), (_again, second) = plugin.calls
    assert first["choice"]["revision"] == "v2"
    assert second["engine"]["revision"] == "v2"


def test_what_does_not_fit_is_refused_before_anything_else_is_asked() -> None:
    plugin, result = deploy(unchosen(gpus=1))
    assert len(plugin.calls) == 1
    assert result["failed"] and "2 GPUs of this class" in result["msg"]


def test_a_step_that_makes_the_server_hands_the_record_on() -> None:
    _plugin, plan = deploy(UNCHOSEN, FOUND)
    later = Plugin(FOUND, plan=plan)
    later.over()
    assert later.calls[0][1]["choice"] == {"record": plan["choice"]}
    gone = Plugin(FOUND, plan=plan, state="committed")
    gone.over()
    assert "choice" not in gone.calls[0][1]


def test_removing_such_a_server_chooses_nothing() -> None:
    plugin = Plugin(FOUND, model=QWEN, hardware_class="h100", state="absent")
    plugin.over()
    ((_module, arguments),) = plugin.calls
    assert (arguments["name"], "choice" in arguments) == ("qwen3-32b", False)


def test_a_mapping_may_name_an_id_for_one_class() -> None:
    plugin = Plugin(UNCHOSEN, FOUND, model={"gb10": "gpt-oss-120b", "default": QWEN}, hardware_class="h100")
    plugin.over()
    assert len(plugin.calls) == 2
    catalogued = Plugin(FOUND, model={"gb10": "gpt-oss-120b", "default": QWEN}, hardware_class="gb10")
    catalogued.over()
    assert "choice" not in catalogued.calls[0][1]


@pytest.mark.parametrize(
    ("model", "token", "file"),
    [
        (QWEN, "", None),
        (QWEN, TOKEN, "~/vllm/secrets/hf_token"),
        ("/srv/models/a", TOKEN, None),
    ],
)
def test_a_token_is_written_for_vllm_where_there_is_one(model: str, token: str, file: str | None) -> None:
    plugin, _result = deploy(UNCHOSEN, FOUND, model=model, hf_token=token)
    (_module, first), (_again, second) = plugin.calls
    assert (second.get("hf_token_file"), second.get("hf_token")) == (file, token if file else None)
    assert "hf_token" not in first


# --- the Hub ---------------------------------------------------------------------------------------------------------


def model_on_hub() -> dict[str, bytes]:
    return {**repository(), "config.json": json.dumps(CONFIG).encode()}


def test_the_hub_is_asked_where_the_host_has_nothing() -> None:
    with Hub(model_on_hub()) as hub:
        _plugin, result = deploy(unchosen(files=None), FOUND, model=MODEL, hub={"endpoint": hub.url}, hf_token=TOKEN)
        assert hub.asked("config.json") and not hub.asked("model-0000")
        assert {one.authorization for one in hub.requests} == {f"Bearer {TOKEN}"}
    assert (result["choice"]["revision"], result["choice"]["source"]) == (COMMIT, hub.url)
    assert result["choice"]["entry"]["architecture"]["weights_gib"] == 0.01


def test_a_revision_is_asked_for_on_the_hub() -> None:
    with Hub(model_on_hub()) as hub:
        said: Result = {"model": MODEL, "hub": {"endpoint": hub.url}, "revision": "gone"}
        _plugin, result = deploy(unchosen(files=None), **said)
    assert "has no revision gone" in result["msg"]


@pytest.mark.parametrize("model", ["org/small", "/srv/models/small"])
def test_offline_only_what_is_there_counts(model: str) -> None:
    with Hub(model_on_hub()) as hub:
        said: Result = {"model": model, "hub": {"endpoint": hub.url, "offline": True}}
        _plugin, result = deploy(unchosen(files=None), **said)
        assert hub.requests == []
    assert (result["failed"], result["reason"]) == (True, "weights-incomplete")


def test_a_directory_is_served_as_it_is() -> None:
    plugin, _result = deploy(UNCHOSEN, FOUND, model="/srv/models/Qwen3-32B")
    assert (plugin.calls[1][1]["model"], plugin.calls[1][1]["served_model_name"]) == (
        "/srv/models/Qwen3-32B",
        "Qwen3-32B",
    )


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"hub": {"url": "x"}}, "Unknown key 'hub.url'"),
        ({"revision": "../x"}, "vllm_revision must be a branch"),
        ({"context": 0}, "vllm_context must be at least 1"),
        ({"overrides": {"prot": 1}}, "Unknown key 'overrides.prot'"),
        ({"model": "gpt-oss-20b", "context": 1}, "vllm_context cannot be used with gpt-oss-20b"),
    ],
)
def test_what_cannot_be_meant_is_refused(said: Result, told: str) -> None:
    _plugin, result = deploy(unchosen(files=None), **said)
    assert told in result["msg"]


def test_no_token_travels_in_the_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    from ansible_collections.gpufleet.vllm.plugins.plugin_utils._chosen import endpoint_of

    assert endpoint_of({"endpoint": "http://mirror.example"}, TOKEN)[0].token == ""
    assert endpoint_of({"endpoint": "https://mirror.example/"}, TOKEN)[0].token == TOKEN
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert endpoint_of({}, "")[1] is True


def test_a_container_gets_the_image_that_knows_the_architecture() -> None:
    config = {**CONFIG, "architectures": ["Qwen3_5ForCausalLM"]}
    plugin, _result = deploy(unchosen(files={**FILES, "config": config}), FOUND, backend="container")
    (module, _first), (_again, second) = plugin.calls
    assert (module, second["image"]) == (CONTAINER, "vllm/vllm-openai:v0.27.0")
