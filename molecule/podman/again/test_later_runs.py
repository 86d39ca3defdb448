# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Status, switches that fail and that work, a reboot, a stop: in this order."""

from __future__ import annotations

import json
import typing as t

if t.TYPE_CHECKING:
    from ...conftest import Run

GEMMA, GPT_OSS = "gpufleet.vllm.deploy_gemma3", "gpufleet.vllm.deploy_gptoss"
FAULT = "/srv/vllm/huggingface/standin.json"
ILLEGAL_ACCESS = "RuntimeError: CUDA error: an illegal memory access was encountered"
PS = "sudo podman ps --all --no-trunc --format '{{.Names}} {{.ID}} {{.State}}'"
# What a reboot leaves: no process of a container, and no mark that Podman has seen this boot. Its marks of processes go
# first, or their end would be one that the policy sees.
REBOOT = (
    "sudo systemctl stop podman.service; sudo pkill -KILL conmon; sudo pkill -KILL -f 'vllm serve|VLLM::'; sleep 1;"
    " sudo rm -rf /run/libpod /run/containers /run/runc; sudo systemctl restart podman-restart.service"
)


def model(host: t.Any) -> str:
    """The model that answers on the port, once one does."""
    listed = host.check_output(
        "timeout 60 sh -c 'until curl --silent --fail http://127.0.0.1:8000/v1/models; do sleep 0.5; done'"
    )
    return str(json.loads(listed)["data"][0]["id"])


def policy(host: t.Any, name: str) -> str:
    return str(host.check_output(f"sudo podman inspect --format '{{{{.HostConfig.RestartPolicy.Name}}}}' {name}"))


def test_the_status_of_the_host_names_the_server(deploy: t.Callable[..., Run]) -> None:
    text = " ".join(deploy(playbook="gpufleet.vllm.status").text.split())
    assert "serves gpt-oss-120b on port 8000 (server gpt-oss, container vllm-gpt-oss, running)" in text


def test_a_switch_that_fails_is_undone(host: t.Any, deploy: t.Callable[..., Run]) -> None:
    before = host.check_output(PS)
    fault = json.dumps({"fault": "exit-at-once", "message": ILLEGAL_ACCESS, "only_with": "google/gemma"})
    host.check_output(f"printf '%s' '{fault}' | sudo tee {FAULT}")
    run = deploy(playbook=GEMMA, rc=2)
    host.check_output(f"sudo rm {FAULT}")
    told = " ".join(run.text.split())
    assert "The previous server gpt-oss-120b is serving again at http://127.0.0.1:8000" in told
    assert "an illegal memory access was encountered" in told
    assert (host.check_output(PS), model(host)) == (before, "gpt-oss-120b")


def test_a_switch_without_its_device_stops_nothing(host: t.Any, deploy: t.Callable[..., Run]) -> None:
    before = host.check_output(PS)
    host.check_output("sudo mv /etc/cdi/nvidia.yaml /root/")
    run = deploy(playbook=GEMMA, rc=2)
    host.check_output("sudo mv /root/nvidia.yaml /etc/cdi/")
    assert "nvidia-ctk cdi generate" in " ".join(run.text.split())
    assert (host.check_output(PS), model(host)) == (before, "gpt-oss-120b")


def test_a_switch_that_works_leaves_the_new_server_alone(host: t.Any, deploy: t.Callable[..., Run]) -> None:
    deploy(playbook=GEMMA)
    assert [line.split()[::2] for line in host.check_output(PS).splitlines()] == [["vllm-gemma3", "running"]]
    assert (model(host), policy(host, "vllm-gemma3")) == ("gemma-3-27b", "always")


def test_it_serves_again_after_a_reboot(host: t.Any, deploy: t.Callable[..., Run]) -> None:
    host.check_output("sudo systemctl enable podman-restart.service")
    host.check_output(REBOOT)
    assert model(host) == "gemma-3-27b"
    run = deploy(playbook=GEMMA)
    assert "changed=0" in run.text
    assert "starts no container after a reboot" not in run.text


def test_what_was_stopped_stays_down_after_a_reboot(host: t.Any, deploy: t.Callable[..., Run]) -> None:
    deploy("--extra-vars", "vllm_server_state=stopped", playbook=GEMMA)
    assert policy(host, "vllm-gemma3") == "no"
    host.check_output(REBOOT)
    assert host.check_output(PS).split()[2] != "running"


def test_it_starts_with_its_policy_again(host: t.Any, deploy: t.Callable[..., Run]) -> None:
    deploy(playbook=GEMMA)
    assert (model(host), policy(host, "vllm-gemma3")) == ("gemma-3-27b", "always")
