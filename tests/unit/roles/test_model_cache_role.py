# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Role, action plugin and module of model_cache together, run by ansible-playbook against a stand-in for the Hub."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.gpufleet.vllm.plugins.module_utils._images import run as images
from ansible_collections.gpufleet.vllm.plugins.module_utils._models import peers
from ansible_collections.gpufleet.vllm.plugins.module_utils._models.parameters import PARAMETERS
from ansible_collections.gpufleet.vllm.plugins.modules import model_cache, model_cache_image, model_cache_peer
from hub_rig import MODEL, SHARDS, WANTED, Hub, free_ports, repository, tree

ROOT = Path(__file__).resolve().parents[3]
ROLE = ROOT / "roles" / "model_cache"
PLAYBOOK = """
- hosts: all
  connection: local
  gather_facts: false
  roles:
    - role: gpufleet.vllm.model_cache
  tasks:
    - ansible.builtin.debug:
        var: model_cache_result
- ansible.builtin.import_playbook: {cache}
"""
SPEC: dict[str, t.Any] = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text("utf-8"))
OPTIONS = SPEC["argument_specs"]["main"]["options"]
# Of the module, but not of the dict: they are said for one run, or are private.
OF_A_RUN = {"update", "verify", "slice", "resume", "peer"}
# Of the dict, but not of the module: where the role has a host pass models on, and what it does with images.
OF_A_HOST = {
    "peer_address",
    "peer_port",
    "controller_address",
    "controller_port",
    "images",
    "image_mirror",
    "docker_host",
}


@pytest.fixture(name="collections", scope="module")
def _collections(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the collection whose state is not that of this machine."""
    path = tmp_path_factory.mktemp("collections")
    copy = path / "ansible_collections" / "gpufleet" / "vllm"
    for part in ("plugins", "roles", "meta", "playbooks"):
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "galaxy.yml", copy)
    (path / "state").mkdir()
    for file, name in (("_deploy/ledger.py", "SYSTEM_STATE"), ("_host/lock.py", "DIRECTORY")):
        with (copy / "plugins" / "module_utils" / file).open("a") as stream:
            stream.write(f"\n\n{name} = {str(path / 'state')!r}\n")
    return path


@pytest.fixture(name="play")
def _play(collections: Path, tmp_path: Path) -> t.Callable[..., str]:
    """Run the role, then the list, with ansible-playbook; the answer is its output."""

    def run(wish: dict[str, t.Any], *options: str, hosts: str = "localhost,", **more: t.Any) -> str:
        (tmp_path / "ansible.cfg").touch()
        (tmp_path / "play.yml").write_text(PLAYBOOK.format(cache=ROOT / "playbooks" / "cache.yml"))
        environment = {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(collections),
            "ANSIBLE_CONFIG": str(tmp_path / "ansible.cfg"),
            "ANSIBLE_LOCAL_TEMP": str(tmp_path / "local"),
            "ANSIBLE_REMOTE_TEMP": str(tmp_path / "remote"),
            "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
            "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
            "HF_HOME": str(tmp_path / "home"),
        }
        variables = {
            "model_cache": wish,
            "vllm_cache_dirs": [wish["huggingface_dir"]],
            "ansible_connection": "local",
            **more,
        }
        said = json.dumps(variables)
        command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", hosts, *options, "-e", said]
        done = subprocess.run(
            [*command, "play.yml"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        return done.stdout + done.stderr

    return run


def result(output: str) -> dict[str, t.Any]:
    """What the first model came to."""
    at = output.index('"model_cache_result": ') + len('"model_cache_result": ')
    return t.cast("dict[str, t.Any]", json.JSONDecoder().raw_decode(output, at)[0])


def test_a_model_is_staged_listed_and_removed(play: t.Callable[..., str], tmp_path: Path) -> None:
    cache = tmp_path / "huggingface"
    with Hub() as hub:
        wish = {"huggingface_dir": str(cache), "endpoint": hub.url, "disk_reserve": "1M", "models": [{"model": MODEL}]}
        planned = play(wish, "--check", "--diff")
        assert not cache.exists()
        done = play(wish)
        assert tree(cache) == {name: hub.files[name] for name in WANTED}
        hub.requests.clear()
        again = play(wish)
        assert hub.requests == []
    first, second = result(planned), result(done)
    assert (first["changed"], second["changed"], result(again)["changed"]) == (True, True, False)
    assert first["results"][0]["actions"] == second["results"][0]["actions"]
    assert '+    "revision": "c0ffee' in planned
    assert "org/small at main: complete, verified since" in done
    young = play({**wish, "models": []}, "--check", vllm_cache_remove_after_days=1)
    assert "changed=0" in young
    old = play({**wish, "models": []}, "--check", vllm_cache_remove_after_days=0)
    assert f"org/small in {cache}" in old and "changed=1" in old
    assert cache.exists()
    removed = play({**wish, "models": [{"model": MODEL, "state": "absent"}]})
    assert result(removed)["results"][0]["actions"] == [f"remove org/small from {cache} (586.3 KiB)"]
    assert "no models in the Hugging Face caches of this host" in removed


def test_one_host_fetches_a_model_and_the_others_get_it_from_there(play: t.Callable[..., str], tmp_path: Path) -> None:
    ports = dict(zip("abc", free_ports(3)))
    wish: dict[str, t.Any] = {
        "huggingface_dir": f"{tmp_path}/{{{{ inventory_hostname }}}}",
        "disk_reserve": "1M",
        "attempts": 1,
        "peer_address": "127.0.0.1",
        "peer_port": "{{ ports[inventory_hostname] }}",
        "models": [{"model": MODEL}, {"model": "org/old", "state": "absent"}],
    }
    with Hub() as hub:
        output = play({**wish, "endpoint": hub.url}, hosts="a,b,c,", ports=ports)
        assert [len(hub.asked(name, "store")) for name in SHARDS] == [1, 1], output
        files = {name: hub.files[name] for name in WANTED}
    assert [tree(tmp_path / host) == files for host in "abc"] == [True] * 3, output
    assert "Cannot" not in output.replace("Cannot write", ""), output
    shutil.rmtree(tmp_path / "a")
    # The source is closed.
    output = play({**wish, "endpoint": hub.url}, hosts="a,b,c,", ports=ports)
    assert tree(tmp_path / "a") == files, output
    assert f"from http://127.0.0.1:{ports['b']}" in output
    assert "changed=1" in output, "the host that lacked it alone"
    for port in ports.values():
        with socket.socket() as one:
            assert one.connect_ex(("127.0.0.1", port)), "nothing listens any more"


@pytest.mark.parametrize("passes_on", [True, False], ids=["from host to host", "to each host"])
def test_a_model_in_a_directory_of_the_controller_comes_to_the_hosts(
    passes_on: bool, play: t.Callable[..., str], tmp_path: Path
) -> None:
    *two, controller = free_ports(3)
    ports, directory = dict(zip("ab", two)), tmp_path / "trained"
    written = {name: content for name, content in repository().items() if "/" not in name}
    directory.mkdir()
    for name, content in written.items():
        (directory / name).write_bytes(content)
    here = {"peer_address": "127.0.0.1", "peer_port": "{{ ports[inventory_hostname] }}"} if passes_on else {}
    wish: dict[str, t.Any] = {
        "huggingface_dir": f"{tmp_path}/{{{{ inventory_hostname }}}}",
        "endpoint": "http://127.0.0.1:9",
        "disk_reserve": "1M",
        "attempts": 1,
        "controller_address": "127.0.0.1",
        "controller_port": controller,
        "models": [{"model": MODEL, "directory": str(directory)}],
        **here,
    }

    def there(host: str) -> dict[str, bytes]:
        (commit,) = [(tmp_path / host / "hub/models--org--small/refs/main").read_text()]
        snapshot = tmp_path / host / "hub/models--org--small/snapshots" / commit
        return {path.name: path.read_bytes() for path in snapshot.iterdir()}

    if passes_on:
        planned = play(wish, "--check", hosts="a,b,", ports=ports)
        assert "fetch 7 files of org/small" in planned
        assert not (tmp_path / "a").exists()
    output = play(wish, hosts="a,b,", ports=ports)
    for host in "ab":
        assert there(host) == {name: written[name] for name in WANTED}, output
    urls = [f"http://127.0.0.1:{port}" for port in (controller, ports["a"] if passes_on else controller)]
    assert [f"from {url} (" in output for url in urls] == [True, True]
    with socket.socket() as one:
        assert one.connect_ex(("127.0.0.1", controller)), "nothing listens any more"
    if not passes_on:
        return
    again = play(wish, hosts="a,b,", ports=ports)
    assert again.count("changed=0") == 2, again
    (directory / SHARDS[0]).write_bytes(repository()[SHARDS[1]])
    output = play(wish, hosts="a,b,", ports=ports)
    for host in "ab":
        assert there(host)[SHARDS[0]] == repository()[SHARDS[1]], output


def test_who_was_to_ask_the_source_and_failed_is_named(play: t.Callable[..., str], tmp_path: Path) -> None:
    ports = dict(zip("ab", free_ports(2)))
    wish: dict[str, t.Any] = {
        "huggingface_dir": f"{tmp_path}/{{{{ inventory_hostname }}}}",
        "endpoint": "http://127.0.0.1:9",
        "attempts": 1,
        "peer_address": "127.0.0.1",
        "peer_port": "{{ ports[inventory_hostname] }}",
        "models": [{"model": MODEL}],
    }
    output = play(wish, hosts="a,b,", ports=ports)
    assert "nothing listens at 127.0.0.1:9" in output
    assert "Cannot fetch org/small from other hosts: a was asked for its list of files, and failed." in output


def test_a_key_that_does_not_exist_is_refused(play: t.Callable[..., str], tmp_path: Path) -> None:
    output = play({"huggingface_dir": str(tmp_path), "models": [{"model": MODEL, "revison": "v1"}]})
    assert "revison" in output
    assert "failed=1" in output


# --- the same keys everywhere ---------------------------------------------------------------------------------------

FACTS = ("type", "elements", "choices", "default")


def facts(option: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    return {key: option.get(key) for key in FACTS}


@pytest.mark.parametrize(
    ("module", "parameters"),
    [(model_cache, PARAMETERS), (model_cache_peer, peers.PARAMETERS), (model_cache_image, images.PARAMETERS)],
    ids=["cache", "peer", "image"],
)
def test_the_module_is_documented_as_it_is(module: t.Any, parameters: dict[str, t.Any]) -> None:
    documented = yaml.safe_load(module.DOCUMENTATION)["options"]
    assert {key: facts(option) for key, option in documented.items()} == {
        key: facts(option) for key, option in parameters.items()
    }


def test_the_role_takes_every_option_of_the_module_and_no_other() -> None:
    common = OPTIONS["model_cache"]["options"]
    each = {key: option for key, option in common["models"]["options"].items() if key != "directory"}
    role = {**{key: option for key, option in common.items() if key not in {"models", *OF_A_HOST}}, **each}
    assert {key: facts(option) for key, option in role.items()} == {
        key: facts(option) for key, option in PARAMETERS.items() if key not in OF_A_RUN
    }
    for key in ("update", "verify"):
        assert facts(OPTIONS[f"model_cache_{key}"]) == facts(PARAMETERS[key])


def test_the_role_passes_every_option_on() -> None:
    (task,) = yaml.safe_load((ROLE / "tasks" / "bring.yml").read_text("utf-8"))
    assert set(task["gpufleet.vllm.model_cache"]) == set(PARAMETERS) - {"slice", "resume"}


def test_the_role_passes_every_option_of_an_image_on() -> None:
    (task,) = yaml.safe_load((ROLE / "tasks" / "image.yml").read_text("utf-8"))
    assert set(task["gpufleet.vllm.model_cache_image"]) == set(images.PARAMETERS) - {"slice", "resume"}
    common = OPTIONS["model_cache"]["options"]
    for key, name in {"docker_host": "docker_host", "image_mirror": "mirror"}.items():
        assert facts(common[key]) == facts(images.PARAMETERS[name])


def test_the_defaults_of_the_role_are_those_that_are_documented() -> None:
    defaults = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text("utf-8"))
    assert defaults == {key: option["default"] for key, option in OPTIONS.items() if "default" in option}
