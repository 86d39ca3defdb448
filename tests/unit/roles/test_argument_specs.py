# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The same keys are described in modules, their documentation, the role and the filter: they agree."""

from __future__ import annotations

import importlib
import sys
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.gpufleet.vllm.plugins.action.vllm_server import ARGUMENTS
from ansible_collections.gpufleet.vllm.plugins.doc_fragments import deployment
from ansible_collections.gpufleet.vllm.plugins.doc_fragments.server import ModuleDocFragment
from ansible_collections.gpufleet.vllm.plugins.filter.vllm_argv import vllm_argv
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.plan import STATES
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.run import (
    OF_CONTAINERS,
    PARAMETERS,
    SERVICE_ONLY,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import REASONS, Reason, VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.spec import (
    ALL_KEYS,
    CONTAINER,
    OWN_KEYS,
    ROLE_ONLY_KEYS,
    SERVER_PARAMETERS,
    SERVICE,
    SERVICE_PARAMETERS,
)
from ansible_collections.gpufleet.vllm.plugins.modules import vllm_server
from ansible_collections.gpufleet.vllm.plugins.plugin_utils import _description as description
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._outcome import DETAILS, PUBLIC

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "tools"))
import docs  # noqa: E402

ROLE = ROOT / "roles" / "vllm_server"
MODULES = ("vllm_container", "vllm_health", "vllm_service", "vllm_venv")
FRAGMENTS = {
    "gpufleet.vllm.deployment": deployment.ModuleDocFragment.DOCUMENTATION,
    "gpufleet.vllm.server": ModuleDocFragment.DOCUMENTATION,
    "gpufleet.vllm.server.container": ModuleDocFragment.CONTAINER,
    "gpufleet.vllm.server.service": ModuleDocFragment.SERVICE,
}
BACKENDS = sorted(description.BACKENDS.items())
Options = t.Mapping[str, t.Mapping[str, t.Any]]


def load(path: Path) -> t.Any:
    return yaml.safe_load(path.read_text())


def argument_spec(name: str, monkeypatch: pytest.MonkeyPatch) -> Options:
    """What the module gives to AnsibleModule."""

    class Given(Exception):
        pass

    def module(**said: t.Any) -> t.NoReturn:
        raise Given(said["argument_spec"])

    plugin = importlib.import_module(f"ansible_collections.gpufleet.vllm.plugins.modules.{name}")
    monkeypatch.setattr(plugin, "AnsibleModule", module)
    with pytest.raises(Given) as caught:
        plugin.main()
    return t.cast(Options, caught.value.args[0])


def documentation(name: str) -> Options:
    """The options of the module as its documentation has them, with those of the fragment."""
    plugin = importlib.import_module(f"ansible_collections.gpufleet.vllm.plugins.modules.{name}")
    documented = yaml.safe_load(plugin.DOCUMENTATION)
    fragments = documented.get("extends_documentation_fragment", [])
    shared = [yaml.safe_load(text)["options"] for name, text in FRAGMENTS.items() if name in fragments]
    return {key: option for options in (*shared, documented["options"]) for key, option in options.items()}


def facts(option: t.Mapping[str, t.Any], keys: t.Iterable[str]) -> dict[str, t.Any]:
    return {key: option.get(key) for key in keys}


TYPES = ("type", "elements", "choices")
# `required` of a module is not compared: it depends on the state there.
ALL = (*TYPES, "default")


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_documented_as_it_is(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, documented = argument_spec(name, monkeypatch), documentation(name)
    assert {key: facts(option, ALL) for key, option in spec.items()} == {
        key: facts(option, ALL) for key, option in documented.items()
    }


@pytest.mark.parametrize("name", MODULES)
def test_no_module_logs_a_secret_and_none_hides_a_path(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, option in argument_spec(name, monkeypatch).items():
        if key in ("api_key", "hf_token"):
            assert option.get("no_log") is True
        else:
            assert not option.get("no_log")


def test_the_container_module_takes_a_server_and_how_to_run_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(argument_spec("vllm_container", monkeypatch)) == {*SERVER_PARAMETERS, *PARAMETERS}
    assert not set(SERVER_PARAMETERS) & set(PARAMETERS)


def test_the_service_module_takes_a_server_and_how_to_run_it(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = {*PARAMETERS} - {*OF_CONTAINERS}
    assert set(argument_spec("vllm_service", monkeypatch)) == {*SERVICE_PARAMETERS, *shared, *SERVICE_ONLY}
    assert set(SERVICE_PARAMETERS) - set(SERVER_PARAMETERS) == {"venv", "user"}


# --- the role -------------------------------------------------------------------------------------------------------

OPTIONS = load(ROLE / "meta" / "argument_specs.yml")["argument_specs"]["main"]["options"]
SERVER = OPTIONS["vllm_server"]["options"]
# Keys of the role's dict that do not describe the server itself.
AROUND = set(ROLE_ONLY_KEYS)


def test_the_role_takes_every_key_of_a_server_and_no_other() -> None:
    assert set(SERVER) - AROUND == {*SERVER_PARAMETERS, *SERVICE_PARAMETERS}
    assert set(SERVER) >= AROUND


def test_a_key_of_the_role_is_of_the_kind_it_has_in_the_module() -> None:
    around = {**{key: PARAMETERS[key] for key in ("docker_host", "pull")}, **SERVICE_ONLY}
    module = {**SERVER_PARAMETERS, **SERVICE_PARAMETERS, **around}
    assert {key: facts(SERVER[key], TYPES) for key in module} == {
        key: facts(option, TYPES) for key, option in module.items()
    }


def test_the_role_leaves_the_defaults_to_the_module() -> None:
    """So that a key that is not said is not said."""
    assert [key for key, option in SERVER.items() if "default" in option] == []


def test_a_server_of_the_role_needs_a_name_and_a_model_and_what_its_backend_makes_it_from() -> None:
    assert {key for key, option in SERVER.items() if option.get("required")} == {"name", "model"}
    for backend, source in description.MADE_FROM.items():
        with pytest.raises(VllmError, match=f"vllm_server.{source} is missing"):
            description.checked({"name": "a", "model": "m", "backend": backend}, "started")


def test_what_one_backend_alone_has_is_what_its_module_alone_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for what no server has a key for: what somebody else made is never taken by a unit."""
    specs = {backend: set(argument_spec(module.rpartition(".")[2], monkeypatch)) for backend, module in BACKENDS}
    container, service = specs[CONTAINER], specs[SERVICE]
    assert {CONTAINER: container - service - {"replace_unmanaged"}, SERVICE: service - container} == OWN_KEYS


def test_how_a_server_is_verified_is_described_as_in_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    module = argument_spec("vllm_health", monkeypatch)
    for key, option in SERVER["health"]["options"].items():
        assert facts(option, TYPES) == facts(module[key], TYPES), key


def test_the_states_of_the_role_are_some_of_the_module() -> None:
    assert set(OPTIONS["vllm_server_state"]["choices"]) - {"planned"} <= set(STATES)


def test_the_defaults_of_the_role_are_those_that_are_documented() -> None:
    defaults = load(ROLE / "defaults" / "main.yml")
    assert set(defaults) == set(OPTIONS) - {"vllm_server"}
    for key, option in OPTIONS.items():
        if "default" in option:
            assert defaults[key] == option["default"]


SAMPLES: dict[str, t.Any] = {"str": "x", "path": "/x", "int": 8001, "bool": True, "dict": {"a": 1}, "raw": "none"}


def sample(option: t.Mapping[str, t.Any]) -> t.Any:
    return option["choices"][0] if "choices" in option else SAMPLES.get(option["type"], ["/a:/b"])


EVERY_KEY = {
    **{key: sample(option) for key, option in SERVER.items()},
    # Each secret has a file of its own.
    **{key: f"/{key}" for key in ("hf_token_file", "api_key_file", "env_file")},
    "engine_unchecked": {"z": 1},
    "shm_size": "1g",
    "cap_add": ["IPC_LOCK"],
    "group_add": ["video"],
    "extra_hosts": ["hub:10.0.0.1"],
    "venv": "/venv",
    "vllm_version": "0.26.0",
}


def parameters(server: t.Mapping[str, t.Any], **role: t.Any) -> dict[str, t.Any]:
    """What the steps of the role hand to vllm_container."""
    said: dict[str, t.Any] = {key: option.get("default") for key, option in ARGUMENTS.items()}
    return description.parameters(server, {**said, "plan": {"vllm_version": None}, **role})


@pytest.mark.parametrize(("backend", "module"), BACKENDS)
def test_the_role_passes_every_key_on(backend: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    others = {key for other, keys in OWN_KEYS.items() if other != backend for key in keys}
    every = {**{key: value for key, value in EVERY_KEY.items() if key not in others}, "backend": backend}
    passed = parameters(description.checked({**every, "health": {}, "fallbacks": []}, "started"))
    keys = set(argument_spec(module.rpartition(".")[2], monkeypatch))
    assert {key: passed[key] for key in set(every) & (set(ALL_KEYS) | {"docker_host", *OWN_KEYS[backend]})} == {
        key: every[key] for key in set(every) & (set(ALL_KEYS) | {"docker_host", *OWN_KEYS[backend]})
    }
    assert set(passed) <= keys
    assert {*OWN_KEYS[backend], "docker_host"} <= set(passed)


def test_the_role_does_not_pass_on_what_was_not_said() -> None:
    server = description.checked({"name": "a", "model": "m", "image": "i", "port": None}, "started")
    assert set(parameters(server)) == {"name", "model", "image", "state"}


@pytest.mark.parametrize("secret", ["hf_token", "api_key"])
def test_the_role_hands_a_secret_over_only_where_there_is_a_file_for_it(secret: str) -> None:
    given = {secret: "CANARY"}
    assert parameters({f"{secret}_file": "/f"}, **given)[secret] == "CANARY"
    assert secret not in parameters({}, **given)
    assert secret not in parameters({f"{secret}_file": "/f"})


@pytest.mark.parametrize(
    ("said", "token", "keeps"),
    [("", "hf_environment", True), ("hf_said", "hf_said", False)],
    ids=["environment", "said"],
)
def test_only_a_token_that_was_said_replaces_another(
    said: str, token: str, keeps: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_environment")
    written = load(ROLE / "tasks" / "main.yml")[0]["module_defaults"]["gpufleet.vllm.vllm_server"]
    templar = Templar(loader=DataLoader(), variables={"vllm_server_hf_token": said})
    options = {key: templar.template(_trusted(written[key])) for key in ("hf_token", "keep_hf_token")}
    assert options == {"hf_token": token, "keep_hf_token": keeps}
    passed = parameters({"hf_token_file": "/t"}, **options)
    assert (passed["hf_token"], passed.get("keep_hf_token", False)) == (token, keeps)
    assert "keep_hf_token" not in parameters({}, **options)


def _trusted(text: str) -> t.Any:
    """ansible-core 2.19 only renders what somebody vouches for."""
    try:
        from ansible.template import trust_as_template
    except ImportError:
        return text
    return trust_as_template(text)


def test_the_plugin_is_documented_as_it_is() -> None:
    documented = yaml.safe_load(vllm_server.DOCUMENTATION)["options"]
    assert {key: facts(option, ALL) for key, option in ARGUMENTS.items()} == {
        key: facts(option, ALL) for key, option in documented.items()
    }
    assert set(ARGUMENTS["state"]["choices"]) == set(STATES)
    assert {key for key, option in ARGUMENTS.items() if option.get("no_log")} == {"hf_token", "api_key"}


def test_the_plugin_documents_every_key_of_its_result() -> None:
    documented = set(yaml.safe_load(vllm_server.RETURN)) - {"restored", "ansible_facts", "learned"}
    assert documented == {*PUBLIC, *DETAILS} - {"changed", "failed"}


def test_the_plugin_and_the_role_know_the_same_keys_of_a_catalogue_and_of_health() -> None:
    assert set(OPTIONS["vllm_server_catalogue"]["options"]) <= set(ARGUMENTS)
    assert set(SERVER["health"]["options"]) == set(description.HEALTH_KEYS)
    assert set(SERVER["fallbacks"]["options"]) == set(description.FALLBACK_KEYS)
    assert set(SERVER["backend"]["choices"]) == set(description.BACKENDS)


def test_the_result_of_the_role_is_documented_key_by_key() -> None:
    for page in (ROLE / "README.md", ROOT / "docs" / "user_guide.md"):
        rows = [line.split("|")[1] for line in page.read_text("utf-8").splitlines() if line.startswith("| `")]
        assert [key for key in PUBLIC if not any(f"`{key}`" in row for row in rows)] == [], page.name


def test_the_role_says_of_a_server_what_the_modules_say() -> None:
    assert (ROLE / "meta" / "argument_specs.yml").read_text("utf-8") == docs.role_specs(), "run tools/docs.py"


# --- the filter -----------------------------------------------------------------------------------------------------


def test_the_filter_takes_every_key_of_the_role() -> None:
    words = vllm_argv({**EVERY_KEY, "bind": "127.0.0.1", "restart_policy": "no", "served_model_name": ["x", "y"]})
    assert words == ["x", "--served-model-name", "x", "y", "--port", "8001", "--a", "1", "--z", "1"]


@pytest.mark.parametrize("name", ["vllm_container", "vllm_service"])
def test_every_reason_of_a_failure_is_documented_with_what_it_means(name: str) -> None:
    assert set(t.get_args(Reason)) == set(REASONS)
    plugin = importlib.import_module(f"ansible_collections.gpufleet.vllm.plugins.modules.{name}")
    returned = yaml.safe_load(plugin.RETURN)
    documented = [" ".join(line.split()) for line in returned["reason"]["description"][1:]]
    assert documented == [f"V({reason}) - {meaning}." for reason, meaning in REASONS.items()]
