# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wrong input, or a host that cannot serve it: seen before anything stops."""

from __future__ import annotations

import json
import time
import typing as t
from dataclasses import dataclass, field

import pytest

if t.TYPE_CHECKING:
    from ...conftest import Run

BAD = "/tmp/bad-encodings"
HOOK = "/usr/bin/nvidia-container-runtime-hook"
IMAGE = "nvcr.io/nvidia/vllm:25.09-py3"


@dataclass(frozen=True)
class Case:
    """Something wrong on the host (C(before), undone by C(after)) or in the input, and the sentences it gets."""

    name: str
    sentences: tuple[str, ...]
    overrides: dict[str, t.Any] = field(default_factory=dict)
    variables: dict[str, t.Any] = field(default_factory=dict)
    token: str = "hf_canary4711"
    before: str = "true"
    after: str = "true"


CASES = [
    Case(
        "image neither here nor in a registry",
        ("Cannot pull nvcr.io/nvidia/vllm:99.01-py3", "The registry cannot be reached from the host"),
        variables={"vllm_image": "nvcr.io/nvidia/vllm:99.01-py3"},
    ),
    Case("misspelt key", ("Unknown key 'overrides.imge'. Valid keys: ",), {"imge": IMAGE}),
    Case(
        "model directory missing",
        ("The model directory /srv/none does not exist on the host.",),
        {"model": "/srv/none"},
    ),
    Case("token missing", ("HF_TOKEN is missing: ", "/home/gpu/none"), {"hf_token_file": "~/none/hf_token"}, token=""),
    Case("offered to the network without a key", ("bind: 0.0.0.0 would offer",), {"bind": "0.0.0.0"}),
    Case(
        "container of that name is not ours",
        ("someone-elses exists and was not created by gpufleet.vllm",),
        {"container_name": "someone-elses"},
        before=f"docker run --detach --name someone-elses --network none {IMAGE} sleep 1000",
        after="docker rm --force someone-elses",
    ),
    Case(
        "port owned by something else",
        ("Port 8001 is taken by python3 (PID ",),
        {"port": 8001},
        before="sudo systemd-run -q --uid gpu --unit squatter python3 -m http.server -b 127.0.0.1 8001 && sleep 1",
        after="sudo systemctl stop squatter",
    ),
    Case(
        "encodings source is wrong",
        (f"{BAD}/o200k_base.tiktoken is truncated: it has 7 of 3613922 bytes.",),
        {"encodings_dir": "~/vllm/other-encodings"},
        {"vllm_server_encodings_source": {"src": BAD}},
        before=f"mkdir {BAD} && echo IQ== 0 | tee {BAD}/o200k_base.tiktoken {BAD}/cl100k_base.tiktoken",
        after=f"rm -r {BAD}",
    ),
    Case(
        "no permission for Docker Engine",
        ("Cannot talk to the Docker Engine", "this user has no permission. Add the user to group docker"),
        before="sudo chmod 0600 /run/docker.sock",
        after="sudo chmod 0660 /run/docker.sock",
    ),
    Case(
        "Docker Engine is stopped",
        ("Cannot talk to the Docker Engine", "it is not running", "sudo systemctl start docker"),
        before="sudo systemctl stop docker.socket docker.service",
        after="sudo systemctl start docker.socket docker.service",
    ),
    Case(
        "no GPU runtime",
        ("could not select device driver", "install the NVIDIA Container Toolkit", "No server was stopped by this."),
        before=f"sudo mv {HOOK} /root && sudo systemctl restart docker",
        after=f"sudo mv /root/{HOOK.rsplit('/', 1)[-1]} {HOOK} && sudo systemctl restart docker",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_sentence_and_no_change(
    host: t.Any, deploy: t.Callable[..., Run], serving: t.Callable[[], t.Any], case: Case
) -> None:
    unchanged = serving()
    overrides = {"ulimits": {"memlock": 8388608}, "engine": {"max_num_seqs": 7}, **case.overrides}
    host.check_output(case.before)
    try:
        variables = json.dumps({"vllm_overrides": overrides, **case.variables})
        run = deploy("--extra-vars", variables, HF_TOKEN=case.token, rc=2)
    finally:
        host.check_output(case.after)
    for sentence in case.sentences:
        assert sentence in run.text
    assert eventually(serving, unchanged)


def eventually(look: t.Callable[[], t.Any], expected: t.Any) -> bool:
    """Some cases restart Docker Engine, and a server takes its time to come back from that."""
    for _turn in range(20):
        try:
            if look() == expected:
                return True
        except AssertionError:
            pass
        time.sleep(1)
    return bool(look() == expected)
