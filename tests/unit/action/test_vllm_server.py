# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action plugin: what it resolves on the controller, what it hands to which module, and what it returns."""

from __future__ import annotations

import types
import typing as t

import pytest
from ansible.errors import AnsibleActionFail
from ansible.parsing.dataloader import DataLoader
from ansible.playbook.task import Task
from ansible_collections.gpufleet.vllm.plugins.action import vllm_server
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.spec import OWN_KEYS
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._outcome import DETAILS, PUBLIC

Result = dict[str, t.Any]
CONTAINER, SERVICE = "gpufleet.vllm.vllm_container", "gpufleet.vllm.vllm_service"
FACTS = "gpufleet.vllm.gpu_facts"
OWN: Result = {
    "phi": {
        "description": "A small model.",
        "server": {"model": "microsoft/Phi-4-mini-instruct"},
        "hardware": {"h100": {"image": "vllm/vllm-openai:v0.26.0", "load_seconds": 60}},
    }
}
# All that the catalogue may say for containers, and a fallback that is nothing without it.
OF_CONTAINERS: Result = {
    "container_name": "phi",
    "network_mode": "bridge",
    "ipc_mode": "private",
    "shm_size": "16g",
    "devices": ["/dev/infiniband"],
    "entrypoint": ["numactl", "-N", "0"],
    "volumes": ["weights:/models", "/a:/b"],
    "labels": {"a": "b"},
    "pull": "never",
    "fallbacks": [
        {"causes": ["x"], "change": {"image": "i:2"}},
        {"causes": ["y"], "change": {"image": "i:2", "engine": {"max_num_seqs": 4}}},
    ],
}
WITHOUT: Result = {
    "phi": {**OWN["phi"], "hardware": {"h100": {**OWN["phi"]["hardware"]["h100"], **OF_CONTAINERS}}},
}
UNIT: Result = {"backend": "systemd", "venv": "/opt/vllm"}
SERVER: Result = {"name": "a", "model": "m/n", "image": "i:1"}
SERVED: Result = {"name": "a", "model": "m/n", **UNIT}
FOUND: Result = {
    "changed": True,
    "actions": ["start vllm-a"],
    "needs": [],
    "vllm_version": "0.26.0",
    "health": None,
    "server": {
        "container_name": "vllm-a",
        "container_id": "c1",
        "state": "absent",
        "url": "http://127.0.0.1:8000",
        "served_model_name": "n",
        "superseded": False,
    },
}
GOOD: Result = {"healthy": True, "checks": [{"detail": '"Hi."'}]}


class Plugin(vllm_server.ActionModule):
    """The plugin with modules that give these results, one a call."""

    def __init__(self, *results: Result, check_mode: bool = False, user: str | None = None, **said: t.Any) -> None:
        made = Task()
        made.args = said
        made.check_mode, made.diff = check_mode, True
        connection = types.SimpleNamespace(_shell=types.SimpleNamespace(tmpdir=None), become=user is not None or None)
        super().__init__(made, connection, None, DataLoader(), None, None)
        self.user, self.results = user, list(results)
        self.calls: list[tuple[str, Result]] = []
        self.modes: list[tuple[bool, bool]] = []

    def _execute_module(self, **said: t.Any) -> Result:
        self.calls.append((said["module_name"], said["module_args"]))
        self.modes.append((self._task.check_mode, self._task.diff))
        return dict(self.results.pop(0))

    def _get_remote_user(self) -> str | None:
        return self.user or None

    def _remote_expand_user(self, path: str, sudoable: bool = True, pathsep: str | None = None) -> str:
        assert (path, sudoable) == ("~", False)
        return "/home/of-whom-ssh-logs-in-as"

    def over(self, **task_vars: t.Any) -> Result:
        return self.run(None, {"inventory_hostname": "h", **task_vars})


# --- which server ---------------------------------------------------------------------------------------------------


def test_a_description_is_handed_on_as_it_is_without_what_only_the_role_reads() -> None:
    server = {
        **SERVER,
        "backend": "container",
        "load_seconds": 9,
        "health": {"timeout": 5},
        "port": None,
        "gpus": {"count": 2, "min_free_mib": 1},
        "fallbacks": [{"causes": ["x"], "change": {"port": 8001}}],
    }
    plugin = Plugin(FOUND, server=server)
    result = plugin.over()
    assert plugin.calls == [
        (
            CONTAINER,
            {
                **SERVER,
                "gpus": {"count": 2, "min_free_mib": 1},
                "fallbacks": server["fallbacks"],
                "state": "started",
                "health": {"timeout": 5},
            },
        )
    ]
    assert result["spec"] == {key: value for key, value in server.items() if value is not None}
    assert "alternative" not in plugin.calls[0][1]


@pytest.mark.parametrize(
    ("said", "task_vars", "image"),
    [
        pytest.param({"model": "phi"}, {"group_names": ["eu", "h100"]}, "vllm/vllm-openai:v0.26.0", id="by its group"),
        pytest.param({"model": "phi", "hardware_class": "h100"}, {"group_names": ["gb10"]}, None, id="as it was said"),
        pytest.param(
            {"model": "phi"}, {"ansible_facts": {"gpufleet": {"hardware_class": "h100"}}}, None, id="by facts"
        ),
        pytest.param({"model": {"h100": "phi", "default": "x"}}, {"group_names": ["h100"]}, None, id="a mapping"),
        pytest.param({"model": {"gb10": "x", "default": "phi"}}, {"group_names": ["h100"]}, None, id="its default"),
        pytest.param({"model": "phi", "image": "b:1", "hardware_class": "h100"}, {}, "b:1", id="another image"),
        pytest.param(
            {"model": "phi", "image": "b:1", "overrides": {"image": "c:1"}, "hardware_class": "h100"},
            {},
            "c:1",
            id="two",
        ),
        pytest.param(
            {"model": "phi", "hardware_class": "h100", "server": SERVER}, {}, None, id="the model comes first"
        ),
    ],
)
def test_a_model_is_resolved_for_the_class_of_the_host(said: Result, task_vars: Result, image: str | None) -> None:
    plugin = Plugin(FOUND, models=OWN, **said)
    result = plugin.over(**task_vars)
    ((module, arguments),) = plugin.calls
    assert (module, arguments["name"], arguments["model"]) == (CONTAINER, "phi", "microsoft/Phi-4-mini-instruct")
    assert image in (None, arguments["image"])
    assert result["probe"]["expected_seconds"] == 60


PATHS: Result = {
    **SERVER,
    "model": "~/m",
    "huggingface_dir": "~/hf",
    "env_file": "/etc/~/env",
    "volumes": ["~/a:/b:ro", "name:/c", "/d:/~/e"],
    "env": {"A": "~/not a path of ours"},
    "fallbacks": [{"causes": ["x"], "change": {"encodings_dir": "~/e", "engine": {"seed": 1}}}],
}


@pytest.mark.parametrize("check_mode", [False, True])
@pytest.mark.parametrize(
    ("user", "home"),
    [(None, "~"), ("ann", "~ann"), ("", "/home/of-whom-ssh-logs-in-as")],
    ids=["the module runs as him", "it becomes another", "and nobody said who he is"],
)
def test_a_home_is_that_of_the_user_who_connects(user: str | None, home: str, check_mode: bool) -> None:
    plugin = Plugin(FOUND, FOUND, check_mode=check_mode, user=user, server=PATHS)
    result = plugin.over()
    for said in (plugin.calls[0][1], result["spec"]):
        assert {key: said[key] for key in PATHS if key in said} == {
            **{key: value for key, value in PATHS.items() if key in said},
            "model": f"{home}/m",
            "huggingface_dir": f"{home}/hf",
            "volumes": [f"{home}/a:/b:ro", "name:/c", "/d:/~/e"],
            "fallbacks": [{"causes": ["x"], "change": {"encodings_dir": f"{home}/e", "engine": {"seed": 1}}}],
        }
    # Whoever runs a later step speaks of the same paths.
    later = Plugin(FOUND, user="bob", plan=result, state="committed")
    assert later.over()["spec"] == result["spec"]


def test_both_backends_have_the_same_home() -> None:
    plugin = Plugin(FOUND, user="ann", model="gpt-oss-120b", hardware_class="h100")
    plugin.over()
    (_module, said), (there, venv) = plugin.calls[0], ("~ann/vllm/huggingface", "~ann/venvs")
    assert said["huggingface_dir"] == there
    described = Plugin(FOUND, user="ann", server={**SERVED, "venv": {"packages": ["vllm==0.26.0"], "root": "~/venvs"}})
    described.over()
    assert described.calls[0][1]["venv"]["root"] == venv


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param({}, "/home/ops/vllm/huggingface", id="as the catalogue has it"),
        pytest.param({"huggingface_dir": "/srv/hf"}, "/srv/hf", id="where models are staged"),
        pytest.param(
            {"huggingface_dir": "/srv/hf", "overrides": {"huggingface_dir": "/data"}}, "/data", id="as an override says"
        ),
    ],
)
def test_a_server_of_the_catalogue_reads_models_where_the_host_has_them_staged(said: Result, expected: str) -> None:
    plugin = Plugin(FOUND, model="gpt-oss-120b", hardware_class="gb10", **said)
    plugin.run(None, {})
    assert plugin.calls[-1][1]["huggingface_dir"].replace("~", "/home/ops") == expected


def test_a_model_of_the_catalogue_is_a_name_too() -> None:
    plugin = Plugin(FOUND, model="gpt-oss-120b", overrides={"engine": {"max_num_seqs": 7}})
    plugin.over(group_names=["gb10"])
    ((_module, arguments),) = plugin.calls
    assert (arguments["model"], arguments["engine"]["max_num_seqs"]) == ("openai/gpt-oss-120b", 7)
    assert "health" in arguments


@pytest.mark.parametrize(
    "said",
    [
        pytest.param({"server": SERVED}, id="a description"),
        pytest.param({"model": "phi", "models": WITHOUT, "overrides": UNIT, "hardware_class": "h100"}, id="a model"),
    ],
)
def test_a_service_is_made_by_its_module_from_its_environment(said: Result) -> None:
    plugin = Plugin(FOUND, **said)
    result = plugin.over()
    ((module, arguments),) = plugin.calls
    assert (module, arguments["venv"], arguments["state"]) == (SERVICE, "/opt/vllm", "started")
    assert not {*OWN_KEYS["container"], "backend"} & set(arguments)
    assert arguments.get("volumes", []) == ["/a:/b"] * ("model" in said)
    assert arguments.get("fallbacks", []) == (
        [{"causes": ["y"], "change": {"engine": {"max_num_seqs": 4}}}] * ("model" in said)
    )
    assert (result["probe"]["unit"], "container" in result["probe"]) == ("vllm-a", False)


@pytest.mark.parametrize(
    ("health", "asked"),
    [
        ({}, {"url": "https://127.0.0.1:8000", "validate_certs": False, "runner": "pooling"}),
        ({"ca_path": "/ca"}, {"url": "https://127.0.0.1:8000", "ca_path": "/ca", "runner": "pooling"}),
        ({"url": "https://a.example:8000"}, {"url": "https://a.example:8000", "runner": "pooling"}),
    ],
)
def test_the_wait_asks_a_server_as_its_host_can(health: Result, asked: Result) -> None:
    access = {"validate_certs": False, "runner": "pooling"}
    server = {**FOUND["server"], "url": "https://127.0.0.1:8000", "access": access}
    result = Plugin({**FOUND, "server": server}, server={**SERVER, "health": health}).over()
    assert {key: result["probe"][key] for key in asked} == asked
    assert ("validate_certs" in result["probe"]) is ("url" not in health)


def test_the_class_of_a_host_is_looked_at_with_its_engine() -> None:
    facts = {"ansible_facts": {"gpufleet": {"hardware_class": "h100"}}}
    plugin = Plugin(facts, FOUND, model="phi", models=OWN, overrides={"docker_host": "unix:///run/p.sock"})
    plugin.over()
    assert plugin.calls[0] == (FACTS, {"docker_host": "unix:///run/p.sock"})


PACKAGES: Result = {"packages": ["vllm==0.26.0"], "wheelhouse": "/srv/wheels"}
BOTH: Result = {"phi": {**OWN["phi"], "hardware": {"h100": {**OWN["phi"]["hardware"]["h100"], "venv": PACKAGES}}}}


def test_a_service_is_described_by_its_packages() -> None:
    plugin = Plugin(FOUND, server={"name": "a", "model": "m/n", "venv": PACKAGES})
    result = plugin.over()
    ((module, arguments),) = plugin.calls
    assert (module, arguments["venv"], result["spec"]["backend"]) == (SERVICE, PACKAGES, "systemd")


def test_a_server_whose_environment_has_no_packages_is_refused_before_the_host_is_asked() -> None:
    plugin = Plugin(server={"name": "a", "model": "m/n", "venv": {"packages": ["torch"]}})
    assert "vllm_server.venv.packages must name vLLM" in plugin.over()["msg"]
    assert plugin.calls == []


# --- which backend ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "module", "alternative"),
    [
        pytest.param(
            {},
            SERVICE,
            {"backend": "container", "parameters": {"image": "vllm/vllm-openai:v0.26.0", "fallbacks": []}},
            id="that of the class, or what runs it",
        ),
        pytest.param({"backend": "container"}, CONTAINER, None, id="as it was said"),
        pytest.param({"overrides": {"backend": "container"}}, CONTAINER, None, id="as an override says"),
        pytest.param(
            {"overrides": {"backend": "systemd"}, "backend": "container"}, SERVICE, None, id="which comes first"
        ),
        pytest.param(
            {"image": "b:1"},
            CONTAINER,
            {
                "backend": "systemd",
                "is_default": True,
                "refusal": "Unknown key 'overrides.image' for a server with backend systemd: only backend container has "
                "it. Remove it, or set backend: container.",
            },
            id="one that the user describes for the other",
        ),
        pytest.param(
            {"overrides": {"user": "llm"}},
            SERVICE,
            {
                "backend": "container",
                "refusal": "Unknown key 'overrides.user' for a server with backend container: only backend systemd has "
                "it. Remove it, or set backend: systemd.",
            },
            id="one that the user describes for it alone",
        ),
        pytest.param(
            {"replace_unmanaged": True},
            CONTAINER,
            {
                "backend": "systemd",
                "is_default": True,
                "refusal": "replace_unmanaged is for containers: a unit that this collection did not create is never "
                "replaced. Leave it out, and remove the unit yourself or choose another name.",
            },
            id="what containers alone can do",
        ),
        pytest.param(
            {"state": "absent", "server": {"name": "a"}, "model": ""}, CONTAINER, None, id="either removes it"
        ),
    ],
)
def test_one_call_tells_of_both_backends_unless_the_user_named_one(
    said: Result, module: str, alternative: Result | None
) -> None:
    plugin = Plugin(FOUND, **{"model": "phi", "models": BOTH, "hardware_class": "h100", **said})
    plugin.over()
    assert [(called, arguments.get("alternative")) for called, arguments in plugin.calls] == [(module, alternative)]


@pytest.mark.parametrize(("backend", "source"), [("container", "image"), ("systemd", "venv")])
def test_later_steps_speak_of_the_server_as_what_runs_it_has_it(backend: str, source: str) -> None:
    look = Plugin({**FOUND, "backend": backend}, model="phi", models=BOTH, hardware_class="h100", look=True)
    plan = look.over()
    assert [key for key in ("image", "venv") if key in plan["spec"]] == [source]
    later = Plugin(FOUND, plan=plan)
    later.over()
    ((module, arguments),) = later.calls
    assert (module.endswith(backend.replace("systemd", "service")), source in arguments) == (True, True)
    assert "alternative" not in arguments


@pytest.mark.parametrize(
    ("version", "said", "told"),
    [
        ("0.8.4", {}, "a needs vLLM 0.8.5 or later, and its venv has vLLM 0.8.4. Name a newer venv."),
        ("0.8.5", {}, None),
        ("0.8.4", {"validation": "permissive"}, None),
        (None, {}, None),
    ],
)
def test_a_vllm_that_is_too_old_for_the_model_is_refused_where_it_is_found(
    version: str | None, said: Result, told: str | None
) -> None:
    model = {**OWN["phi"], "server": {**OWN["phi"]["server"], "name": "a"}, "needs": {"vllm": "0.8.5"}}
    overrides = {**UNIT, **said}
    found = {**FOUND, "vllm_version": version}
    plugin = Plugin(found, model="phi", models={"phi": model}, hardware_class="h100", overrides=overrides, look=True)
    result = plugin.over()
    assert (result["failed"], result["pending"]) == (told is not None, told is None)
    assert told is None or result["msg"].startswith(told)


def test_an_environment_of_a_container_in_the_catalogue_is_left_out() -> None:
    model = {**OWN["phi"], "server": {**OWN["phi"]["server"], "user": "llm", "allow_daemon_reload": True}}
    plugin = Plugin(FOUND, model="phi", models={"phi": model}, hardware_class="h100")
    plugin.over()
    ((module, arguments),) = plugin.calls
    assert (module, {"user", "allow_daemon_reload"} & set(arguments)) == (CONTAINER, set())


def test_a_null_of_the_user_takes_away_what_another_backend_has() -> None:
    plugin = Plugin(FOUND, server={**SERVED, "image": None})
    assert "msg" not in plugin.over()


def test_the_gpus_are_only_looked_at_where_nothing_tells_the_class() -> None:
    facts = {"ansible_facts": {"gpufleet": {"hardware_class": "h100"}}}
    plugin = Plugin(facts, FOUND, model="phi", models=OWN)
    result = plugin.over(group_names=["spare"])
    assert [module for module, _arguments in plugin.calls] == [FACTS, CONTAINER]
    assert result["ansible_facts"] == facts["ansible_facts"]


def test_gpus_that_cannot_be_looked_at_are_a_failure() -> None:
    plugin = Plugin({"failed": True, "msg": "No Python.", "reason": "backend-unavailable"}, model="phi", models=OWN)
    result = plugin.over()
    assert (result["failed"], result["message"], result["reason"]) == (True, "No Python.", "backend-unavailable")
    assert len(plugin.calls) == 1


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({}, "No model is given. Pass -e model=NAME; the catalogue holds"),
        ({"server": {**SERVER, "prot": 1}}, "Unknown key 'vllm_server.prot'. Did you mean port?"),
        (
            {"server": {**SERVER, "zzz": 1}},
            "Unknown key 'vllm_server.zzz'. Valid keys: allow_daemon_reload, allow_unauthenticated, ",
        ),
        (
            {"server": {**SERVER, "health": {"timout": 1}}},
            "Unknown key 'vllm_server.health.timout'. Did you mean timeout?",
        ),
        ({"server": {**SERVER, "health": 5}}, "vllm_server.health must be a mapping with the keys ca_path, "),
        ({"server": {**SERVER, "fallbacks": [{"cause": 1}]}}, "Unknown key 'vllm_server.fallbacks[0].cause'. Did you"),
        ({"server": {**SERVER, "fallbacks": ["x"]}}, "vllm_server.fallbacks[0] must be a mapping with the keys "),
        (
            {"server": {"name": "a", "model": "m"}},
            "vllm_server.image is missing; a server needs name, model and image.",
        ),
        ({"server": {**SERVER, "backend": "pod"}}, "vllm_server.backend must be container or systemd; got 'pod'."),
        (
            {"server": {"name": "a", "model": "m", "backend": "systemd"}},
            "vllm_server.venv is missing; a server with backend systemd needs name, model and venv: what its virtual",
        ),
        (
            {"server": {**SERVED, "image": "i:1"}},
            "Unknown key 'vllm_server.image' for a server with backend systemd: only backend container has it.",
        ),
        *(
            (
                {"server": {**SERVED, key: "x"}},
                f"Unknown key 'vllm_server.{key}' for a server with backend systemd: only backend container has it.",
            )
            for key in ("shm_size", "devices", "cap_add", "privileged", "group_add", "extra_hosts", "entrypoint")
        ),
        (
            {"server": {**SERVER, "venv": "/v"}},
            "Unknown key 'vllm_server.venv' for a server with backend container: only backend systemd has it.",
        ),
        (
            {"server": {**SERVED, "fallbacks": [{"causes": ["x"], "change": {"ipc_mode": "host"}}]}},
            "Unknown key 'vllm_server.fallbacks[0].change.ipc_mode' for a server with backend systemd",
        ),
        (
            {"server": {**SERVED, "venv": {"packages": ["vllm==0.26.0"], "sever": 1}}},
            "Unknown key 'vllm_server.venv.sever'. Valid keys: constraints, cuda_check, ",
        ),
        (
            {"server": SERVED, "replace_unmanaged": True},
            "replace_unmanaged is for containers: a unit that this collection did not create is never replaced.",
        ),
        (
            {"model": "phi", "hardware_class": "h100", "overrides": {"backend": "systemd"}},
            "overrides.venv is missing; a server with backend systemd needs",
        ),
        (
            {"model": "phi", "hardware_class": "h100", "overrides": {**UNIT, "pull": "always"}},
            "Unknown key 'overrides.pull' for a server with backend systemd: only backend container has it.",
        ),
        (
            {"model": "phi", "hardware_class": "h100", "overrides": UNIT, "image": "i:1"},
            "Unknown key 'overrides.image' for a server with backend systemd",
        ),
        ({"model": "phi", "hardware_class": "gb10"}, "phi has no settings for "),
        ({"model": "phj", "hardware_class": "gb10"}, "'phj' is neither in the catalogue nor among the models"),
        (
            {"model": {"gb10": "phi"}, "hardware_class": "h100"},
            "model has no entry for the hardware class 'h100' and none",
        ),
        ({"model": "phi", "hardware_class": "h100", "overrides": {"imge": 1}}, "overrides.imge"),
        (
            {"model": "phi", "hardware_class": "h100", "overrides": {"health": {"timout": 1}}},
            "Unknown key 'health.timout'. Did you mean timeout?",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_address_before_the_host_is_asked(said: Result, sentence: str) -> None:
    plugin = Plugin(models=OWN, **said)
    result = plugin.over()
    assert sentence in result["msg"]
    assert result["message"] == result["msg"]
    assert (result["failed"], result["reason"], plugin.calls) == (True, "invalid-parameter", [])
    assert {*PUBLIC, *DETAILS} <= set(result)


def test_a_parameter_that_does_not_exist_is_refused() -> None:
    with pytest.raises(AnsibleActionFail, match="Unsupported parameters for .* modle"):
        Plugin(modle="x").over()


# --- one step -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("check_mode", [True, False])
def test_a_look_decides_in_check_mode_and_reports_no_change(check_mode: bool) -> None:
    plugin = Plugin(FOUND, server=SERVER, look=True, check_mode=check_mode)
    result = plugin.over()
    assert (plugin.modes, plugin._task.check_mode, plugin._task.diff) == ([(True, False)], check_mode, True)
    assert (result["changed"], result["pending"]) == (False, True)
    assert result["message"] == "Nothing was changed on h. Planned: start vllm-a."


def test_a_server_that_answers_leaves_nothing_to_do() -> None:
    found = {**FOUND, "changed": False, "actions": [], "health": GOOD}
    result = Plugin(found, server=SERVER, look=True).over()
    assert (result["pending"], result["message"]) == (False, 'n answers at http://127.0.0.1:8000 on h: "Hi."')


def test_a_failed_look_leaves_nothing_to_do() -> None:
    result = Plugin({"failed": True, "msg": "No room.", "reason": "does-not-fit"}, server=SERVER, look=True).over()
    assert (result["failed"], result["pending"], result["reason"]) == (True, False, "does-not-fit")


@pytest.mark.parametrize(
    ("said", "version"),
    [
        pytest.param({}, "0.26.0", id="as it was found"),
        pytest.param({"failure_id": "x"}, None, id="a fallback may name another image"),
        pytest.param({"state": "stopped"}, None, id="a stop needs none"),
    ],
)
def test_a_plan_is_neither_resolved_nor_asked_again(said: Result, version: str | None) -> None:
    plan = Plugin(FOUND, model="phi", models=OWN, hardware_class="h100", look=True).over()
    plugin = Plugin(FOUND, plan=plan, server={}, **said)
    plugin.over()
    ((_module, arguments),) = plugin.calls
    assert arguments["name"] == "phi"
    assert ("health" in arguments, arguments.get("vllm_version")) == (False, version)


def test_each_step_has_the_wish_for_gpus_which_the_host_grants() -> None:
    plan = Plugin({**FOUND, "gpus": ["GPU-1"]}, server={**SERVER, "gpus": {"count": 1}}, look=True).over()
    for said, gpus in (({}, {"count": 1}), ({"failure_id": "x"}, {"count": 1}), ({"state": "stopped"}, None)):
        plugin = Plugin(FOUND, plan=plan, **said)
        plugin.over()
        assert plugin.calls[0][1].get("gpus") == gpus


def test_a_newer_image_has_its_own_version() -> None:
    plan = Plugin(FOUND, server={**SERVER, "pull": "always"}, look=True).over()
    plugin = Plugin(FOUND, plan=plan)
    plugin.over()
    assert "vllm_version" not in plugin.calls[0][1]


def test_what_is_waited_for_follows_from_the_server() -> None:
    server = {**SERVER, "api_key_file": "/k", "docker_host": "unix:///d", "load_seconds": 5, "health": {"timeout": 9}}
    assert Plugin(FOUND, server=server).over()["probe"] == {
        "timeout": 9,
        "url": "http://127.0.0.1:8000",
        "served_model_name": "n",
        "container": "vllm-a",
        "docker_host": "unix:///d",
        "api_key_file": "/k",
        "expected_seconds": 5,
    }


@pytest.mark.parametrize(("cold", "said"), [(True, {"cold_start": True}), (False, {}), (None, {})])
def test_the_wait_is_told_of_a_start_that_has_to_compile(cold: bool | None, said: Result) -> None:
    found = {**FOUND, "server": {**FOUND["server"], "cold_start": cold}}
    probe = Plugin(found, server=SERVER).over()["probe"]
    assert {key: value for key, value in probe.items() if key == "cold_start"} == said


def test_secrets_are_in_no_result() -> None:
    server = {**SERVER, "hf_token_file": "/t", "api_key_file": "/k"}
    plugin = Plugin(FOUND, server=server, hf_token="CANARY", api_key="CANARY")
    result = plugin.over()
    assert (plugin.calls[0][1]["hf_token"], plugin.calls[0][1]["api_key"]) == ("CANARY", "CANARY")
    assert "CANARY" not in str(result)


SECRETS: dict[str, Result] = {
    "env": {"env": {"WANDB_API_KEY": "CANARY1"}},
    "env by its looks": {"env": {"HTTPS_PROXY": "http://me:CANARY1@proxy:3128"}},
    "engine": {"engine": {"kv_transfer_config": {"a": [{"password": "CANARY1"}]}}},
    "engine as text": {"engine": {"kv_transfer_config": '{"password": "CANARY1"}'}},
    "fallback": {"fallbacks": [{"causes": ["x"], "change": {"env": {"A_TOKEN": "CANARY1"}}}]},
}


@pytest.mark.parametrize("kind", SECRETS)
@pytest.mark.parametrize("state", ["started", "absent"])
def test_a_secret_that_is_refused_is_in_no_result(kind: str, state: str) -> None:
    """The result of a task that fails is printed, with the server that it was about."""
    found = {"failed": state == "started", "msg": "no CANARY1", "invocation": {"module_args": SECRETS[kind]}}
    result = Plugin(found, server={**SERVER, **SECRETS[kind]}, state=state).over()
    assert "CANARY1" not in str(result)


def test_a_server_that_starts_is_handed_on_as_it_was_described() -> None:
    server = {**SERVER, "env": {"A": "it's a prompt: 'x'"}, "labels": {"token": "1"}}
    assert Plugin(FOUND, server=server).over()["spec"] == {**server, "backend": "container"}


def test_nothing_unprintable_is_in_a_result() -> None:
    found = {**FOUND, "failed": True, "msg": "\x1b]0;pwned\x07 serves \x1b[31mx", "server": {"state": "a\x07"}}
    result = Plugin(found, server=SERVER).over()
    assert (result["message"], result["server"]["state"]) == (" serves x", "a\\x07")


@pytest.mark.parametrize("state", ["stopped", "absent", "committed", "reverted"])
def test_a_step_that_starts_nothing_selects_no_gpus(state: str) -> None:
    plugin = Plugin(FOUND, server={"name": "a", "gpus": {"count": 1}}, state=state, container_id="c1")
    plugin.over()
    assert plugin.calls == [(CONTAINER, {"name": "a", "state": state, "container_id": "c1"})]


def test_the_fallbacks_are_reset_once() -> None:
    for failure, passed in ((None, True), ("x", None)):
        plugin = Plugin(FOUND, server=SERVER, reset_fallbacks=True, failure_id=failure)
        plugin.over()
        assert plugin.calls[0][1].get("reset_fallbacks") is passed
