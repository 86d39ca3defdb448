# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs a server goes on to run it until somebody names another backend; that is a switch, which can go back."""

from __future__ import annotations

import json
import typing as t

import pytest

if t.TYPE_CHECKING:
    from ...conftest import Run

DEPLOY = "gpufleet.vllm.deploy"
NAMES = {"container": "systemd", "systemd": "container"}
ENVIRONMENTS = "/opt/vllm/venvs"


def backend(name: str, **more: str) -> tuple[str, str]:
    return "--extra-vars", json.dumps({"vllm_backend": name, **more})


def there(host: t.Any) -> list[str]:
    """Every container and unit of ours, by name and state."""
    containers = host.check_output("docker ps --all --format 'container {{.Names}} {{.State}}'")
    units = host.check_output("systemctl list-units --all --plain --no-legend 'vllm-*'")
    files = host.check_output("ls /etc/systemd/system").split()
    found = [f"systemd {line.split()[0]} {line.split()[3]}" for line in units.splitlines()]
    assert sorted(name for name in files if name.startswith("vllm-")) == sorted(line.split()[1] for line in found)
    return [*containers.splitlines(), *found]


def runs_in(name: str, host: t.Any) -> bool:
    """Whether that backend runs the server, which answers, and nothing is left of the other one."""
    curl = "curl --silent --show-error --fail http://127.0.0.1:8000/v1/models"
    assert json.loads(host.check_output(curl))["data"][0]["id"] == "gpt-oss-20b"
    alone = {"container": ["container vllm-gpt-oss running"], "systemd": ["systemd vllm-gpt-oss.service running"]}
    assert host.file(ENVIRONMENTS).exists or name == "container"
    return there(host) == alone[name]


# Each begins where the one before ended.
@pytest.mark.parametrize("name", NAMES)
def test_a_switch_of_the_backend(name: str, host: t.Any, deploy: t.Callable[..., Run]) -> None:
    other = NAMES[name]
    # The class of this host stands for services; what serves comes first.
    assert "changed=0" in deploy(playbook=DEPLOY).text
    assert runs_in(name, host)

    failed = deploy(*backend(other, fault="exit-at-once"), playbook=DEPLOY, rc=2).text
    assert "The previous server gpt-oss-20b is serving again at http://127.0.0.1:8000, " in failed
    assert runs_in(name, host)

    deploy(*backend(other), playbook=DEPLOY)
    assert runs_in(other, host)
    assert host.file(ENVIRONMENTS).exists is (other == "systemd")


def test_what_only_a_container_has_is_refused_by_name_where_a_service_is_usual(
    host: t.Any, deploy: t.Callable[..., Run]
) -> None:
    image = ("--extra-vars", "vllm_image=vllm/vllm-openai:v0.26.0")
    # The container takes it, since it runs already.
    assert "changed=0" in deploy(*image, playbook=DEPLOY).text
    host.check_output("docker rm --force vllm-gpt-oss")
    deploy("--extra-vars", "vllm_backend=systemd", playbook=DEPLOY)
    told = deploy(*image, playbook=DEPLOY, rc=2).text
    assert "Unknown key 'overrides.image' for a server with backend systemd: only backend container has it." in told
    assert runs_in("systemd", host)


def test_an_environment_that_was_damaged_is_replaced(host: t.Any, deploy: t.Callable[..., Run]) -> None:
    (before,) = host.check_output(f"ls {ENVIRONMENTS}").split()
    host.check_output(f"sudo sh -c 'rm {ENVIRONMENTS}/{before}/lib/python3*/site-packages/torch/version.py'")
    host.check_output(f"sudo sh -c 'rm -r {ENVIRONMENTS}/{before}/lib/python3*/site-packages/torch-*'")
    deploy(playbook=DEPLOY)
    assert host.check_output(f"ls {ENVIRONMENTS}").split() == [f"{before}-2"]
    assert runs_in("systemd", host)
    assert "changed=0" in deploy(playbook=DEPLOY).text
