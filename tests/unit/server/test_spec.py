# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
import json
import re
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy import plan, record
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.redaction import is_secret_name
from ansible_collections.gpufleet.vllm.plugins.module_utils._server import spec as server_spec
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.arguments import argv
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.spec import (
    ServerSpec,
    fingerprint,
    from_params,
    secret_digest,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._version import COLLECTION_VERSION
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.flags import ENVIRONMENT, FLAGS
from hypothesis import configuration, given, strategies as st

ROOT = Path(__file__).parents[3]
configuration.set_hypothesis_home_dir(ROOT / ".cache" / "hypothesis")
MODEL = "openai/gpt-oss-120b"


def spec(**said: t.Any) -> ServerSpec:
    return from_params({"model": MODEL, "name": "gpt-oss", "image": "vllm:1", **said})


def stamp(**said: t.Any) -> str:
    return fingerprint(spec(**said).to_dict(), {})


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"model": None}, "model is missing: name a Hugging Face id"),
        ({"model": ""}, "model is missing"),
        ({"modle": "x"}, "Unknown key 'modle'. Valid keys: allow_unauthenticated, api_key_file, bind"),
        ({"name": "my server"}, "name must start with a letter or digit and contain only"),
        ({"name": "-x"}, "name must start with a letter or digit and contain only"),
        ({"container_name": "a/b"}, "container_name must start with a letter or digit and contain only"),
        ({"container_name": "vllm-next"}, "container_name must not end with -next, which marks"),
        ({"name": "a-superseded"}, "container_name must not end with -superseded, which marks"),
        ({"container_name": "vllm-a-try"}, "container_name must not end with -try, which marks"),
        ({"port": 0}, "port must be between 1 and 65535; got 0."),
        ({"port": 65536}, "port must be between 1 and 65535; got 65536."),
        ({"port": "http"}, "port must be a whole number; got 'http'."),
        ({"port": 8000.5}, "port must be a whole number; got 8000.5."),
        ({"port": True}, "port must be a whole number; got True."),
        ({"port": float("inf")}, "port must be a whole number; got inf."),
        ({"stop_timeout": "long"}, "stop_timeout must be a whole number; got 'long'."),
        ({"ulimits": {"memlock": "unlimited"}}, "ulimits.memlock must be a whole number; got 'unlimited'."),
        ({"ulimits": "memlock=-1"}, "ulimits must be a mapping, a line of 'KEY: VALUE'"),
        ({"engine": ["--enforce-eager"]}, "engine must be a mapping, a line of 'KEY: VALUE'"),
        ({"env": "A=b"}, "env must be a mapping, a line of 'KEY: VALUE'"),
        ({"labels": "a=b"}, "labels must be a mapping, a line of 'KEY: VALUE'"),
        ({"env": {"A=B": 1}}, "env: the name of a variable must not be empty or contain '='; got 'A=B'."),
        ({"env": {"": 1}}, "env: the name of a variable must not be empty or contain '='; got ''."),
        (
            {"labels": {"gpufleet.vllm.wrote": "[]"}},
            "labels.gpufleet.vllm.wrote: labels that start with gpufleet.vllm.",
        ),
        ({"volumes": "/a:/b"}, "volumes must be a list"),
        ({"volumes": ["/a"]}, "volumes must hold SOURCE:DESTINATION[:ro] with an absolute destination; got"),
        ({"volumes": ["/a:b"]}, "volumes must hold SOURCE:DESTINATION[:ro] with an absolute destination; got"),
        ({"volumes": ["./cache:/b"]}, "volumes must have an absolute path or the name of a volume"),
        ({"shm_size": "lots"}, "shm_size must be a size such as 16g, 512m or a number of bytes; got 'lots'."),
        ({"shm_size": 0}, "shm_size must be a size such as 16g, 512m or a number of bytes; got 0."),
        ({"devices": "/dev/fuse"}, "devices must be a list; got '/dev/fuse'."),
        ({"devices": ["fuse"]}, "devices must hold devices of the host, each HOST[:CONTAINER][:rwm]"),
        ({"devices": ["nvidia.com/gpu=all"]}, "devices must hold devices of the host"),
        ({"devices": ["/dev/a:/dev/b:/dev/c"]}, "devices must hold devices of the host"),
        ({"cap_add": ["SYS-PTRACE"]}, "cap_add must hold names of capabilities, such as SYS_PTRACE; got 'SYS-PTRACE'."),
        ({"group_add": ["a b"]}, "group_add must hold names or numbers of groups; got 'a b'."),
        ({"extra_hosts": ["hub.example"]}, "extra_hosts must hold NAME:ADDRESS with an IP address"),
        ({"extra_hosts": ["hub:example"]}, "extra_hosts must hold NAME:ADDRESS with an IP address"),
        ({"security_opt": ["label="]}, "security_opt must hold options such as label=disable"),
        ({"security_opt": ["seccomp=/etc/p.json"]}, "security_opt: seccomp must be unconfined or builtin"),
        ({"hostname": "a_b"}, "hostname must be the name of a host"),
        ({"network": "host"}, "network must be the name of a network that exists on the engine"),
        ({"network": "container:a"}, "network must be the name of a network that exists on the engine"),
        ({"network": "a", "network_mode": "host"}, "network: a and network_mode: host are mutually exclusive."),
        ({"entrypoint": [""]}, "entrypoint must begin with a program; got ['']."),
        ({"entrypoint": ["sh", "-c", "HF_TOKEN=hf_abcdefghijklmnopqrst exec $@"]}, "entrypoint: a secret in a command"),
        ({"gpus": "0"}, "gpus must be 'all', 'none' or a list of GPU UUIDs (nvidia-smi -L prints them"),
        ({"gpus": 2}, "gpus must be 'all', 'none' or a list"),
        ({"served_model_name": ["a", ""]}, "served_model_name must be a name or a list of names; got ['a', '']."),
        ({"served_model_name": {"a": 1}}, "served_model_name must be a name or a list of names; got {'a': 1}."),
        ({"served_model_name": [["a"]]}, "served_model_name must be a name or a list of names; got [['a']]."),
        ({"served_model_name": True}, "served_model_name must be a name or a list of names; got True."),
        (
            {"served_model_name": "['a', 'b']"},
            "served_model_name must be a name or a list of names, none of which starts with '['; got \"['a', 'b']\".",
        ),
        (
            {"served_model_name": ["a", "--host"]},
            "served_model_name must be a name or a list of names, none of which starts with '-'; got '--host'.",
        ),
        ({"vllm_version": "latest"}, "vllm_version: 'latest' is not a version; write it as vLLM does"),
        ({"validation": "loose"}, "validation must be one of normal, strict, permissive; got 'loose'."),
        ({"engine": {"a": 1}, "engine_unchecked": {"a": 2}}, "engine_unchecked.a: engine sets it as well"),
        ({"engine_unchecked": {"port": 1}}, "engine_unchecked.port: set the server's port instead"),
        ({"gpus": []}, "gpus must be 'all', 'none' or a list"),
        ({"gpus": {"count": 2}}, "gpus must be 'all', 'none' or a list"),
        ({"restart_policy": "always"}, "restart_policy must be no, unless-stopped, on-failure or on-failure:N"),
        ({"restart_policy": "on-failure:0"}, "restart_policy must be no, unless-stopped, on-failure or on-failure:N"),
        ({"bind": "gpu1.example.com"}, "bind must be an IP address: 127.0.0.1"),
        ({"bind": ""}, "bind must be an IP address: 127.0.0.1"),
        ({"bind": "*"}, "bind must be an IP address: 127.0.0.1"),
        *(
            ({key: path}, f"{key} must be an absolute path on the host (~ is the home there); got {path!r}.")
            for key in ("huggingface_dir", "encodings_dir", "hf_token_file", "api_key_file", "env_file")
            for path in ("models", "./models", "../models", "~nobody-of-that-name/x")
        ),
        ({"hf_token_file": "/a:b"}, "hf_token_file must be a path without a colon and without control characters"),
        ({"huggingface_dir": "/a\nb"}, "huggingface_dir must be a path without a colon and without control"),
        ({"volumes": ["~nobody-of-that-name:/b"]}, "volumes must have an absolute path or the name of a volume"),
        ({"model": "./m"}, "model must be an absolute path on the host"),
        ({"model": "../m"}, "model must be an absolute path on the host"),
        ({"model": "~nobody-of-that-name/m"}, "model must be an absolute path on the host"),
        ({"hf_token_file": "/s", "api_key_file": "/s"}, "api_key_file and hf_token_file must be different files"),
        ({"hf_token_file": "/s/", "env_file": "//s"}, "env_file and hf_token_file must be different files"),
        ({"api_key_file": "/s/k", "env_file": "/s/./k"}, "env_file and api_key_file must be different files"),
        (
            {"engine": {"max_model_len": 1, "max-model-len": 2}},
            "engine.max-model-len: vLLM's --max-model-len is given twice",
        ),
    ],
)
def test_bad_input_is_told_with_its_key(said: dict[str, t.Any], sentence: str) -> None:
    with pytest.raises(VllmError) as caught:
        spec(**said)
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize(
    ("option", "key"),
    [
        ("model", "model"),
        ("host", "bind"),
        ("port", "port"),
        ("served_model_name", "served_model_name"),
        ("api_key", "api_key_file"),
        ("hf_token", "hf_token_file"),
    ],
)
@pytest.mark.parametrize("spelling", ["{}", "--{}"])
@pytest.mark.parametrize("separator", ["_", "-"])
def test_an_option_that_the_server_has_a_key_for_is_refused(
    option: str, key: str, spelling: str, separator: str
) -> None:
    written = spelling.format(option.replace("_", separator))
    with pytest.raises(VllmError) as caught:
        spec(engine={written: "CANARY"})
    assert str(caught.value).startswith(f"engine.{written}: set the server's {key} instead")
    assert not {"CANARY", "short"} & {*re.findall(r"\w+", str(caught.value))}


@pytest.mark.parametrize(
    ("variable", "key"),
    [
        ("HF_TOKEN", "hf_token_file"),
        ("HUGGING_FACE_HUB_TOKEN", "hf_token_file"),
        ("HUGGINGFACE_TOKEN", "hf_token_file"),
        ("VLLM_API_KEY", "api_key_file"),
        ("OPENAI_API_KEY", "env_file"),
        ("AWS_SECRET_ACCESS_KEY", "env_file"),
    ],
)
def test_a_secret_in_env_is_refused_and_not_repeated(variable: str, key: str) -> None:
    with pytest.raises(VllmError) as caught:
        spec(env={variable: "CANARY"})
    assert str(caught.value).startswith(f"env.{variable}: a secret in env shows in docker inspect")
    assert str(caught.value).endswith(f"set {key}.")
    assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize("where", ["engine", "engine_unchecked"])
@pytest.mark.parametrize(
    ("option", "key"),
    [
        ("api_ke", "api_key_file"),
        ("--api-k", "api_key_file"),
        ("api", "api_key_file"),
        ("hf_tok", "hf_token_file"),
        ("mode", "model"),
        ("ho", "bind"),
        ("por", "port"),
        ("served-model", "served_model_name"),
        ("hf_token.x", "hf_token_file"),
    ],
)
def test_an_option_that_is_cut_short_is_refused_as_the_whole_one(where: str, option: str, key: str) -> None:
    with pytest.raises(VllmError) as caught:
        spec(**{where: {option: "CANARY"}})
    assert str(caught.value).startswith(f"{where}.{option}: set the server's {key} instead")
    assert " (it is short for --" in str(caught.value)
    assert "CANARY" not in str(caught.value)


URL = "http://me:CANARY1@proxy:3128"


@pytest.mark.parametrize(
    ("said", "address", "place"),
    [
        *(
            ({"env": {name: "CANARY1"}}, f"env.{name}", "env_file")
            for name in (
                *("AWS_SESSION_TOKEN", "MINIMAX_API_KEY", "WANDB_API_KEY", "AWS_ACCESS_KEY_ID", "NUM_SECRET"),
                *("ENCODER_API_KEY", "DB_PASSWORD_NUM", "PGPASS", "db_pwd", "MY_AUTH", "AZURE_STORAGE_KEY", "A_TOKEN"),
            )
        ),
        *(({"env": {name: URL}}, f"env.{name}", "env_file") for name in ("HTTPS_PROXY", "http_proxy", "ANYTHING")),
        ({"env": {"https_proxy": "me:CANARY1@proxy:3128"}}, "env.https_proxy", "env_file"),
        ({"env": {"A": "hf_CANARY1abcdefghijklmn"}}, "env.A", "env_file"),
        ({"env": {"A": {"password": "CANARY1"}}}, "env.A.password", "env_file"),
        ({"engine": {"kv_transfer_config": {"password": "CANARY1"}}}, "engine.kv_transfer_config.password", "env_file"),
        (
            {"engine": {"kv_transfer_config": {"a": [{"b": {"secret_key": "CANARY1"}}]}}},
            "engine.kv_transfer_config.a.b.secret_key",
            "env_file",
        ),
        (
            {"engine": {"kv_transfer_config": '{"password": "CANARY1"}'}},
            "engine.kv_transfer_config.password",
            "env_file",
        ),
        ({"engine": {"kv_transfer_config.password": "CANARY1"}}, "engine.kv_transfer_config.password", "env_file"),
        ({"engine": {"otlp_traces_endpoint": URL}}, "engine.otlp_traces_endpoint", "env_file"),
        ({"engine_unchecked": {"db_password": "CANARY1"}}, "engine_unchecked.db_password", "env_file"),
        ({"engine_unchecked": {"pin_password": 12345678}}, "engine_unchecked.pin_password", "env_file"),
        ({"labels": {"proxy": URL}}, "labels.proxy", "env_file"),
    ],
)
def test_a_secret_that_the_engine_would_show_is_refused_with_the_place_for_it(
    said: dict[str, t.Any], address: str, place: str
) -> None:
    with pytest.raises(VllmError) as caught:
        spec(**said)
    assert str(caught.value).startswith(f"{address}: a secret in ")
    assert place in str(caught.value)
    assert "CANARY1" not in str(caught.value)


@pytest.mark.parametrize(
    "said",
    [
        {"env": {"TIKTOKEN_ENCODINGS_BASE": "/e", "TOKENIZERS_PARALLELISM": "false", "HF_TOKEN_PATH": "/run/t"}},
        {"env": {"HF_HUB_DISABLE_IMPLICIT_TOKEN": 1, "GOOGLE_APPLICATION_CREDENTIALS": "/run/secrets/g.json"}},
        {"env": {"HTTPS_PROXY": "http://proxy:3128", "NCCL_DEBUG": "INFO", "VLLM_ATTENTION_BACKEND": "FLASH_ATTN"}},
        {"engine": {"max_num_batched_tokens": 8192, "allow_credentials": True, "tokenizer": "a/b"}},
        {"engine": {"hf_overrides": {"image_token_id": 5, "boi_token": "<b>", "pad_token": None}}},
        {
            "engine": {
                "ssl_keyfile": "/k.pem",
                "tokenizer_mode": "auto",
                "override_generation_config": {"eos_token_id": 1},
            }
        },
        {"engine": {"chat_template": "{% set turn_token = '<turn>' %}{{ bos_token }}{% set x_token = y_token %}"}},
        {"engine": {"hf_overrides": {"turn_token": "<|turn|>", "audio_token": "<audio>"}}},
        {"labels": {"team": "tokens", "traefik.http.routers.vllm.rule": "Host(`a`)"}},
    ],
    ids=str,
)
def test_what_only_sounds_like_a_secret_is_taken(said: dict[str, t.Any]) -> None:
    assert spec(**said)


def test_no_flag_or_variable_of_vllm_is_taken_for_a_secret_that_is_none() -> None:
    assert {name for name in FLAGS if is_secret_name(name)} == {"api_key", "hf_token", "allow_credentials"}
    secret = {"S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY", "VLLM_API_KEY"}
    assert {name for name in ENVIRONMENT if is_secret_name(name)} == secret


@pytest.mark.parametrize("levels", [400, 900, 5000])
def test_an_engine_that_is_nested_too_deeply_is_told(levels: int) -> None:
    text = '{"a":' * levels + "1" + "}" * levels
    try:
        spec(engine={"kv_transfer_config": text})
    except VllmError as error:
        assert "nested too deeply" in str(error)


@pytest.mark.parametrize(
    ("before", "after", "is_told"),
    [
        ("/home/ann/vllm/hf", "/root/vllm/hf", True),
        ("/root/vllm/hf", "/home/ann/vllm/hf", True),
        ("/home/ann/hf", "/home/bob/hf", True),
        ("/home/ann/hf", "/home/ann/hf", False),
        ("/home/ann/hf", "/root/other", False),
        ("/home/ann/hf", "/data/hf", False),
        (None, "/root/hf", False),
        ("/root/hf", None, False),
        (5, "/root/hf", False),
    ],
)
def test_a_path_below_another_home_is_told(before: t.Any, after: t.Any, is_told: bool) -> None:
    told = server_spec.of_another_home({"huggingface_dir": before}, {"huggingface_dir": after})
    assert len(told) == is_told
    assert not is_told or told[0].startswith(f"huggingface_dir is {after}, and was {before} before. ~ is the home")


@pytest.mark.parametrize("given", ["HF_TOKEN=CANARY1", ["HF_TOKEN=CANARY1"]])
def test_an_environment_of_another_form_is_not_repeated(given: t.Any) -> None:
    with pytest.raises(VllmError, match="^env must be a mapping") as caught:
        spec(env=given)
    assert "CANARY1" not in str(caught.value)


LOOPBACKS = ("127.0.0.1", "127.0.0.2", "::1", "localhost")
NETWORKS = ("0.0.0.0", "::", "192.168.7.4", "fe80::1")


@pytest.mark.parametrize("network_mode", ["bridge", "host"])
@pytest.mark.parametrize("bind", LOOPBACKS + NETWORKS)
@pytest.mark.parametrize("api_key_file", [None, "/etc/key"])
@pytest.mark.parametrize("allow", [False, True])
def test_only_loopback_needs_neither_key_nor_consent(
    bind: str, api_key_file: str | None, allow: bool, network_mode: str
) -> None:
    said = {"bind": bind, "api_key_file": api_key_file, "allow_unauthenticated": allow, "network_mode": network_mode}
    if bind in LOOPBACKS or api_key_file or allow:
        assert spec(**said).bind == ("127.0.0.1" if bind == "localhost" else bind)
    else:
        with pytest.raises(
            VllmError, match=rf"^bind: {bind} would offer .* Set api_key_file, bind to 127\.0\.0\.1, or"
        ):
            spec(**said)


# --- what is normalized ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "key", "value"),
    [
        pytest.param(
            {"name": None, "model": "google/gemma-3-27b-it"}, "name", "gemma-3-27b-it", id="name from a model id"
        ),
        pytest.param({"name": None, "model": "/m/my model/"}, "name", "my-model", id="name from a directory"),
        pytest.param({}, "container_name", "vllm-gpt-oss", id="container name from the name"),
        pytest.param({"container_name": "x"}, "container_name", "x", id="container name as said"),
        pytest.param({}, "served_model_name", MODEL, id="served name from the model"),
        pytest.param({"model": "~/m"}, "model", "/home/u/m", id="model below the home directory"),
        pytest.param(
            {"huggingface_dir": "~/h"}, "huggingface_dir", "/home/u/h", id="directory below the home directory"
        ),
        pytest.param({"volumes": ["~/a:/b:ro"]}, "volumes", ("/home/u/a:/b:ro",), id="mount below the home directory"),
        pytest.param(
            {"huggingface_dir": "//data/./hf/"}, "huggingface_dir", "/data/hf", id="slashes that mean nothing"
        ),
        pytest.param({"volumes": ["/b/:/y/:ro", "/a:/x"]}, "volumes", ("/a:/x", "/b:/y:ro"), id="order of mounts"),
        pytest.param(
            {"engine": {"gpu_memory_utilization": "0.90"}}, "engine", {"gpu_memory_utilization": "0.9"}, id="0.90"
        ),
        pytest.param({"huggingface_dir": ""}, "huggingface_dir", None, id="an empty path is none"),
        pytest.param({"port": "8001"}, "port", 8001, id="port as text"),
        pytest.param({"env": {"A": True, "B": 1, "C": None}}, "env", {"A": "true", "B": "1"}, id="env as text"),
        pytest.param({"env": {"A": {"b": True}}}, "env", {"A": '{"b":true}'}, id="a mapping in env is JSON"),
        pytest.param({"labels": {"a": 1}}, "labels", {"a": "1"}, id="labels as text"),
        pytest.param({"gpus": "none"}, "gpus", "none", id="no GPU"),
        pytest.param({"gpus": ["GPU-1", "GPU-2"]}, "gpus", ("GPU-1", "GPU-2"), id="GPUs by uuid"),
        pytest.param({"restart_policy": False}, "restart_policy", "no", id="an unquoted no is no"),
        pytest.param(
            {"restart_policy": "False"}, "restart_policy", "no", id="an unquoted no as Ansible turns it to text"
        ),
        pytest.param(
            {"restart_policy": "on-failure:3"}, "restart_policy", "on-failure:3", id="a bounded restart policy"
        ),
        pytest.param({"volumes": ["hf:/x", "/a:/b"]}, "volumes", ("/a:/b", "hf:/x"), id="a volume by its name"),
        *(
            pytest.param({"shm_size": size}, "shm_size", 16 << 30, id=f"shm_size {size}")
            for size in ("16g", "16GB", "16 GiB", 16 << 30, str(16 << 30), "0.015625t")
        ),
        pytest.param({"shm_size": ""}, "shm_size", None, id="no shm_size"),
        pytest.param({"entrypoint": []}, "entrypoint", (), id="no entrypoint"),
        pytest.param(
            {"devices": ["/dev/fuse:r", "/dev/a:/dev/b", "/dev/c:/dev/d:rw"]},
            "devices",
            ("/dev/a:/dev/b:rwm", "/dev/c:/dev/d:rw", "/dev/fuse:/dev/fuse:r"),
            id="devices",
        ),
        pytest.param(
            {"cap_add": ["sys_ptrace", "CAP_IPC_LOCK", "SYS_PTRACE"]}, "cap_add", ("IPC_LOCK", "SYS_PTRACE"), id="caps"
        ),
        pytest.param({"group_add": [44, "video"]}, "group_add", ("44", "video"), id="groups"),
        pytest.param(
            {"extra_hosts": ["hub=10.0.0.1", "host.docker.internal:host-gateway", "six:[::1]"]},
            "extra_hosts",
            ("host.docker.internal:host-gateway", "hub:10.0.0.1", "six:::1"),
            id="extra hosts",
        ),
        pytest.param(
            {"security_opt": ["no-new-privileges", "label:type:spc_t", "seccomp=unconfined"]},
            "security_opt",
            ("label=type:spc_t", "no-new-privileges", "seccomp=unconfined"),
            id="security options in their newer spelling",
        ),
        pytest.param({"bind": "localhost"}, "bind", "127.0.0.1", id="localhost is an address"),
        pytest.param({"bind": "0:0::1"}, "bind", "::1", id="an address in its shortest form"),
        pytest.param({}, "ulimits", {"memlock": -1, "stack": 67108864}, id="limits by default"),
        pytest.param({"ulimits": {"memlock": 8}}, "ulimits", {"memlock": 8, "stack": 67108864}, id="one limit changed"),
        pytest.param(
            {"ulimits": {"memlock": None}}, "ulimits", {"memlock": -1, "stack": 67108864}, id="limit not said"
        ),
        pytest.param(
            {"ulimits": {"nofile": "9"}}, "ulimits", {"memlock": -1, "stack": 67108864, "nofile": 9}, id="added"
        ),
    ],
)
def test_what_is_said_is_brought_to_one_form(
    said: dict[str, t.Any], key: str, value: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/u")
    assert getattr(spec(**said), key) == value


@pytest.mark.parametrize(
    ("bind", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("::1", "http://[::1]:8000"),
        ("192.168.7.4", "http://192.168.7.4:8000"),
    ],
)
def test_the_url_is_where_the_host_itself_reaches_the_server(bind: str, url: str) -> None:
    assert spec(bind=bind, allow_unauthenticated=True).url == url


@pytest.mark.parametrize(
    ("said", "url", "access"),
    [
        ({}, "http://127.0.0.1:8000", {}),
        ({"engine": {"ssl_certfile": "/c"}}, "https://127.0.0.1:8000", {"validate_certs": False}),
        ({"engine_unchecked": {"ssl_certfile": "/c"}}, "https://127.0.0.1:8000", {"validate_certs": False}),
        (
            {"engine": {"uds": "/run/vllm/a.sock"}, "volumes": ["/srv/run:/run", "/srv/a:/run/vllm"]},
            "http://127.0.0.1:8000",
            {"uds": "/srv/a/a.sock"},
        ),
        (
            {"engine": {"uds": "/run/vllm/a.sock", "ssl_certfile": "/c"}, "venv": "/v"},
            "https://127.0.0.1:8000",
            {"uds": "/run/vllm/a.sock", "validate_certs": False},
        ),
        ({"engine": {"uds": "/run/vllm/a.sock"}, "venv": "/v"}, "http://127.0.0.1:8000", {"uds": "/run/vllm/a.sock"}),
        *(
            ({"engine": engine}, "http://127.0.0.1:8000", {"runner": "pooling"})
            for engine in ({"runner": "pooling"}, {"task": "embed"}, {"task": "score"}, {"convert": "classify"})
        ),
        ({"engine": {"runner": "auto", "convert": "none", "task": "generate"}}, "http://127.0.0.1:8000", {}),
    ],
    ids=str,
)
def test_how_a_server_is_asked_follows_from_its_flags(said: dict[str, t.Any], url: str, access: t.Any) -> None:
    made = spec(**said)
    assert (made.url, made.access) == (url, access)


@pytest.mark.parametrize(
    ("health", "asked"),
    [
        ({}, {"runner": "pooling", "validate_certs": False}),
        ({"timeout": 9, "prompt": None}, {"runner": "pooling", "validate_certs": False, "timeout": 9}),
        ({"ca_path": "/ca"}, {"runner": "pooling", "validate_certs": False, "ca_path": "/ca"}),
        ({"url": "https://a.example"}, {"runner": "pooling", "url": "https://a.example"}),
    ],
)
def test_who_knows_another_way_to_a_server_says_how_it_is_trusted(health: t.Any, asked: t.Any) -> None:
    access = spec(engine={"runner": "pooling", "ssl_certfile": "/c"}).access
    assert server_spec.asked(access, health) == asked


@pytest.mark.parametrize(
    ("model", "volumes", "directory"),
    [
        (MODEL, [], None),
        ("/models/x", [], "/models/x"),
        ("/models/x", ["/srv/m:/models"], "/srv/m/x"),
        ("/models/x", ["/:/models:ro"], "/x"),
        ("/models/x", ["weights:/models"], None),
        ("/models/x", ["weights:/model"], "/models/x"),
    ],
)
def test_a_model_that_is_a_path_is_a_directory_of_the_host(
    model: str, volumes: list[str], directory: str | None
) -> None:
    made = spec(model=model, volumes=volumes)
    assert made.model_dir == directory
    assert made.model_in_volume is (volumes == ["weights:/models"])


def test_secret_files_are_named_by_their_key() -> None:
    assert spec(api_key_file="/k", env_file="/e").secret_files == {"api_key_file": "/k", "env_file": "/e"}


# --- what is recorded -----------------------------------------------------------------------------------------------

PLAIN = {"name": "gpt-oss", "model": MODEL, "image": "vllm:1"}


@pytest.mark.parametrize(
    ("said", "recorded"),
    [
        pytest.param({}, {}, id="nothing more"),
        pytest.param({"port": 8000, "gpus": "all", "engine": {}, "ulimits": {}}, {}, id="defaults"),
        pytest.param({"served_model_name": MODEL, "container_name": "vllm-gpt-oss"}, {}, id="derived values"),
        pytest.param({"served_model_name": [MODEL]}, {}, id="a list of the derived name"),
        pytest.param({"served_model_name": ["a"]}, {"served_model_name": "a"}, id="a list of one name"),
        pytest.param({"served_model_name": ("a", "b")}, {"served_model_name": ["a", "b"]}, id="several names"),
        pytest.param({"served_model_name": ["a", "b", "a"]}, {"served_model_name": ["a", "b"]}, id="a name twice"),
        pytest.param({"port": 8001}, {"port": 8001}, id="a port"),
        pytest.param({"ulimits": {"memlock": 8}}, {"ulimits": {"memlock": 8}}, id="only the limit that differs"),
        pytest.param({"gpus": ["GPU-1"]}, {"gpus": ["GPU-1"]}, id="uuids as a list"),
        pytest.param({"gpus": "none"}, {"gpus": "none"}, id="no GPU"),
        pytest.param({"volumes": ["/a:/b"]}, {"volumes": ["/a:/b"]}, id="mounts as a list"),
        pytest.param({"engine": {"enforce_eager": True}}, {"engine": {"enforce_eager": True}}, id="a switch"),
        pytest.param({"engine": {"max_model_len": 1}}, {"engine": {"max_model_len": "1"}}, id="a value as text"),
        pytest.param({"hf_token_file": "/t"}, {"hf_token_file": "/t"}, id="the path of a secret"),
    ],
)
def test_only_what_was_asked_for_is_recorded(said: dict[str, t.Any], recorded: dict[str, t.Any]) -> None:
    assert spec(**said).to_dict() == {**PLAIN, **recorded}


EVERYTHING: dict[str, t.Any] = {
    "served_model_name": "gpt",
    "container_name": "c",
    "port": 8001,
    "bind": "0.0.0.0",
    "network_mode": "host",
    "network": "llm",
    "hostname": "gpt",
    "extra_hosts": ["hub:10.0.0.1"],
    "devices": ["/dev/infiniband"],
    "shm_size": "16g",
    "entrypoint": ["numactl", "-N", "0"],
    "privileged": True,
    "cap_add": ["IPC_LOCK"],
    "group_add": ["video"],
    "security_opt": ["label=disable"],
    "gpus": ["GPU-1", "GPU-2"],
    "ipc_mode": "private",
    "ulimits": {"memlock": 8, "nofile": 9},
    "huggingface_dir": "/h",
    "encodings_dir": "/e",
    "hf_token_file": "/t",
    "api_key_file": "/k",
    "env_file": "/v",
    "allow_unauthenticated": True,
    "engine": {"a": True, "b": [1, 2], "c": {"d": None}, "e": "f", "middleware": ["g"]},
    "env": {"A": 1},
    "volumes": ["/a:/b:ro", "hf:/c"],
    "labels": {"l": "m"},
    "restart_policy": "no",
    "stop_timeout": 5,
    "engine_unchecked": {"z": 1},
    "keep_caches": False,
    "venv": "/venv",
    "user": "llm",
    "gpus_at_start": {"at_start": "reselect", "prefer": "free"},
}
# What is known about the image and how strictly to judge is no part of the wish.
UNRECORDED: dict[str, t.Any] = {"vllm_version": "0.26.0", "validation": "strict"}


def test_everything_covers_every_key() -> None:
    keys = set(EVERYTHING) | set(PLAIN) | set(UNRECORDED)
    assert keys == {field.name for field in dataclasses.fields(ServerSpec)}


def test_what_is_not_recorded_changes_no_fingerprint() -> None:
    assert stamp(**UNRECORDED) == stamp()
    assert not set(UNRECORDED) & set(spec(**UNRECORDED).to_dict())


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ({}, None),
        ({"image": "nvcr.io/nvidia/vllm:25.09-py3"}, "0.10.1.1"),
        ({"image": "vllm/vllm-openai:v0.26.0"}, "0.26.0"),
        ({"image": "vllm/vllm-openai:v0.26.0", "vllm_version": "0.26.1"}, "0.26.1"),
        ({"vllm_version": "0.10.1.1+381074ae.nv25.09"}, "0.10.1.1+381074ae.nv25.09"),
    ],
)
def test_the_version_is_what_was_said_or_what_the_image_is_called(said: dict[str, t.Any], version: str | None) -> None:
    assert spec(**said).vllm_version == version


def test_a_record_makes_the_same_server_again() -> None:
    # The two modes exclude each other.
    original = spec(**{**EVERYTHING, "network_mode": "bridge"})
    assert from_params(json.loads(json.dumps(original.to_dict()))) == original


# --- the fingerprint ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param({"env": {"A": "1", "B": "2"}}, {"env": {"B": "2", "A": "1"}}, id="order of keys"),
        pytest.param({"engine": {"a": {"x": 1, "y": 2}}}, {"engine": {"a": {"y": 2, "x": 1}}}, id="order in JSON"),
        pytest.param({"port": 8001}, {"port": "8001"}, id="port as text"),
        pytest.param({"engine": {"max_model_len": 1}}, {"engine": {"max-model-len": "1"}}, id="value as text, hyphens"),
        pytest.param({"engine": {"a": True}}, {"engine": {"a": "true"}}, id="quoted boolean"),
        pytest.param({"engine": {"a": [1, 2]}}, {"engine": {"a": ("1", "2")}}, id="elements as text"),
        pytest.param({"engine": {"a": None}}, {}, id="null"),
        pytest.param({"env": {"A": True}}, {"env": {"A": "true"}}, id="boolean in env"),
        pytest.param({"port": 8000}, {}, id="a default that was said"),
        pytest.param({"ulimits": {"memlock": -1}}, {}, id="a default limit that was said"),
        pytest.param({"bind": "localhost"}, {"bind": "127.0.0.1"}, id="localhost"),
        pytest.param({"restart_policy": False}, {"restart_policy": "no"}, id="unquoted no"),
        pytest.param({"hf_token_file": None}, {}, id="a path that was not said"),
        pytest.param({"huggingface_dir": "/data/hf/"}, {"huggingface_dir": "/data/hf"}, id="a slash at the end"),
        pytest.param(
            {"engine": {"gpu_memory_utilization": "0.90"}},
            {"engine": {"gpu_memory_utilization": 0.9}},
            id="a number in quotes",
        ),
        pytest.param(
            {"engine": {"gpu_memory_utilization": 1}}, {"engine": {"gpu_memory_utilization": 1.0}}, id="1 and 1.0"
        ),
        pytest.param(
            {"engine": {"hf_overrides": '{"b": 1, "a": [2]}'}},
            {"engine": {"hf_overrides": {"a": [2], "b": 1}}},
            id="JSON as text",
        ),
        pytest.param({"volumes": ["/a:/b", "/c:/d/"]}, {"volumes": ["/c/:/d", "/a:/b"]}, id="order of mounts"),
    ],
)
def test_the_same_wish_has_the_same_fingerprint(one: dict[str, t.Any], other: dict[str, t.Any]) -> None:
    assert stamp(**one) == stamp(**other)


@pytest.mark.parametrize("key", sorted(EVERYTHING))
def test_every_key_changes_the_fingerprint(key: str) -> None:
    # The address needs consent, which is not what is looked at here.
    consent = {"allow_unauthenticated": True} if key == "bind" else {}
    assert stamp(**consent, **{key: EVERYTHING[key]}) != stamp(**consent)


def test_the_order_of_values_changes_the_fingerprint() -> None:
    assert stamp(engine={"a": [1, 2]}) != stamp(engine={"a": [2, 1]})


def test_a_rotated_secret_changes_the_fingerprint() -> None:
    intent = spec(api_key_file="/k").to_dict()
    stamps = {fingerprint(intent, {"api_key_file": secret_digest("api_key_file", key, "s")}) for key in (b"a", b"b")}
    assert len(stamps) == 2


def test_the_fingerprint_has_a_version() -> None:
    assert stamp().startswith("v1:")


def test_an_upgrade_of_the_collection_changes_no_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    before = stamp()
    monkeypatch.setattr(record, "COLLECTION_VERSION", "9.9.9")
    assert stamp() == before


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
# Not a key that the server owns: those are refused, which has a test of its own.
ENGINES = st.dictionaries(st.from_regex(r"\Ax[a-z_]{0,8}\Z"), JSON, max_size=5)


@given(engine=ENGINES)
def test_any_engine_options_can_be_recorded_and_read_back(engine: dict[str, t.Any]) -> None:
    original = spec(engine=engine)
    assert from_params(original.to_dict()) == original
    assert all(isinstance(word, str) for word in argv(original))


# --- secrets' digests -----------------------------------------------------------------------------------------------


def test_a_digest_tells_content_and_key_apart_but_no_newline() -> None:
    digest = secret_digest("env_file", b"A=x", "salt")
    assert digest == secret_digest("env_file", b"A=x\n", "salt")
    assert digest != secret_digest("env_file", b"A=y", "salt")
    assert digest != secret_digest("api_key_file", b"A=x", "salt")
    assert digest != secret_digest("env_file", b"A=x", "another salt")
    assert "A=x" not in digest


# --- what has to agree ----------------------------------------------------------------------------------------------


def test_the_version_is_that_of_the_collection() -> None:
    assert yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"] == COLLECTION_VERSION


def test_parameters_fields_and_defaults_agree() -> None:
    written = [field for field in dataclasses.fields(ServerSpec) if field.metadata["only"] != server_spec.NOBODY]
    for field in written:
        parameter = {**server_spec.SERVICE_PARAMETERS, **server_spec.SERVER_PARAMETERS}[field.name]
        if parameter["type"] in ("dict", "list"):
            assert not parameter["default"]
        elif field.default is not dataclasses.MISSING:
            assert parameter.get("default") == field.default
    containers, services = set(server_spec.SERVER_PARAMETERS), set(server_spec.SERVICE_PARAMETERS)
    assert containers | services == {field.name for field in written} == {*server_spec.ALL_KEYS}
    assert services - containers == {"venv", "user"}
    assert containers - services == {
        *("image", "container_name", "entrypoint", "network_mode", "network", "hostname", "extra_hosts", "ipc_mode"),
        *("shm_size", "devices", "cap_add", "group_add", "security_opt", "privileged", "labels"),
    }


@pytest.mark.parametrize("name", ["Vllm", "7", "-", "a b", "", "root;", "v" * 32])
def test_a_user_that_useradd_would_not_take_is_refused(name: str) -> None:
    with pytest.raises(VllmError, match="^user must be the name of a system user"):
        spec(user=name)


def test_the_plan_appends_nothing_that_a_name_may_end_with() -> None:
    appended = {*plan.SUFFIX.values(), record.FETCH_SUFFIX} - {""}
    assert set(server_spec.RESERVED_SUFFIXES) == appended
