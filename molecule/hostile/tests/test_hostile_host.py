# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""On a host where everything is set against the operator: the tests go through a server's life, in their order."""

from __future__ import annotations

import json
import os
import re
import tarfile
import typing as t
from pathlib import Path

import pytest
import yaml

if t.TYPE_CHECKING:
    from ...conftest import Run

HERE = Path(__file__).parents[1]
DIAGNOSE = "gpufleet.vllm.diagnose"
SECRETS = "/etc/gpufleet/hf_token /etc/gpufleet/api_key /etc/gpufleet/env"
# Of the shapes that are known whoever they belong to: in no file of the server, but in its log.
SHAPES = (
    "hf_canary4711zwvutsrqponmlkji",
    "sk-canary4711-zyxwvutsrqponmlk",
    "github_pat_canary4711kjihgfedcba",
    "glpat-canary4711hgfedcba",
    "xoxb-canary4711-hgfedcba",
    "eyJhbGciOiJIUzI1NiJ9.eyJjYW5hcnki4711.c2lnbmF0dXJl",
)
MODEL = "/srv/huggingface/hub/models--Qwen--Qwen2.5-0.5B-Instruct"
# What each run printed, to be searched in the end.
printed: list[str] = []


def seen(run: Run) -> str:
    """What a run printed, on one line."""
    printed.append(run.text)
    return " ".join(run.text.split())


@pytest.fixture(scope="module")
def secrets(host: t.Any) -> list[str]:
    """The secrets of the server as its files hold them, and those in its log."""
    lines = host.check_output(f"cat {SECRETS}").splitlines()
    values = [line.partition("=")[2] if re.match(r"[A-Z_]+=", line) else line for line in lines]
    assert len(values) == 6
    return [*values, *SHAPES]


def leaks(secrets: list[str], text: str) -> list[str]:
    """The secrets that are in a text, whole or for the most part."""
    return [secret for secret in secrets for part in (secret, secret[:14], secret[-14:]) if part in text]


def changes(host: t.Any) -> str:
    """What differs of what is there of others, from what was noted."""
    return t.cast("str", host.run("of-others | diff /root/of-others.before -").stdout)


def server(host: t.Any) -> tuple[str, str]:
    found = json.loads(host.check_output("docker inspect vllm-qwen"))[0]
    return found["Id"], found["State"]["StartedAt"]


def change(deploy: t.Callable[..., Run], rc: int, **engine: t.Any) -> str:
    """Deploy with other settings, in addition to those of the inventory, and everything shown."""
    variables = yaml.safe_load((HERE / "host_vars" / "gpufleet-mol-hostile.yml").read_text("utf-8"))
    overrides = {**variables["vllm_overrides"], "engine": engine}
    return seen(deploy("-vvv", "--diff", "--extra-vars", json.dumps({"vllm_overrides": overrides}), rc=rc))


def test_the_server_serves_and_nothing_of_others_was_touched(host: t.Any, log: str) -> None:
    printed.append(log)
    assert host.check_output("docker inspect --format {{.State.Running}} vllm-qwen") == "true"
    assert changes(host) == ""


def test_a_change_goes_through_beside_a_copy_of_the_server(host: t.Any, deploy: t.Callable[..., Run]) -> None:
    """Somebody commits the server, and runs the copy with all its labels."""
    copy = "docker commit vllm-qwen snap:1 && docker create --name ann-copy --network none snap:1"
    host.check_output(f"{copy} && of-others >/root/of-others.before")
    before = server(host)
    change(deploy, 0, max_num_seqs=7)
    assert server(host)[0] != before[0]


def test_a_change_that_fails_is_told_without_secrets_and_undone(
    host: t.Any, deploy: t.Callable[..., Run], secrets: list[str]
) -> None:
    before = server(host)
    host.check_output(f"python3 /usr/local/sbin/loud_fault.py '--max-num-seqs 6' {'%s ' * len(SHAPES)}", *SHAPES)
    text = change(deploy, 2, max_num_seqs=6)
    host.check_output("rm /srv/huggingface/standin.json")
    assert "ValueError: the cause" in text
    assert "The previous server qwen2.5-0.5b-instruct is serving again" in text
    assert server(host)[0] == before[0]


def test_what_must_not_be_done_is_refused_with_a_sentence(host: t.Any, deploy: t.Callable[..., Run]) -> None:
    before = server(host)
    text = seen(deploy("-vvv", playbook=str(HERE / "refused.yml")))
    for sentence in (
        "slot-1 exists and was not created by gpufleet.vllm",
        "slot-2-next exists and was not created by gpufleet.vllm",
        "slot-3-try exists and was not created by gpufleet.vllm",
        "slot-4-superseded exists and was not created by gpufleet.vllm",
        "slot-5-fetch exists and is no download that this user's gpufleet.vllm has recorded",
        "cannot be written to /etc/gpufleet/linked: it is a link to /home/ann/precious/file",
        "Cannot trust /var/lib/gpufleet.vllm/owned, where this user's servers are recorded: its mode is 0777",
        "The server at http://127.0.0.1:9001 ",
        "The server at http://127.0.0.1:9002 did not become healthy",
        "another server answers on this port",
    ):
        assert sentence in text
    assert server(host) == before


def test_a_diagnosis_has_no_secret_and_nothing_that_a_terminal_obeys(
    deploy: t.Callable[..., Run], tmp_path: Path, secrets: list[str]
) -> None:
    bundle = tmp_path / "bundle"
    seen(deploy("-vvv", "--extra-vars", f"vllm_bundle={bundle}", playbook=DIAGNOSE))
    with tarfile.open(f"{bundle}.tar.gz") as archive:
        (member,) = archive.getmembers()
        stream = archive.extractfile(member)
        report = stream.read().decode() if stream else ""
    assert (member.mode & 0o077, os.stat(bundle).st_mode & 0o077) == (0, 0)
    assert report == (bundle / "gpufleet-mol-hostile.md").read_text("utf-8")
    assert "## vllm-qwen" in report and "## vllm-evil" in report
    assert leaks([*secrets, "hf_canary4711evilevilevilevil"], report) == []
    assert [one for one in report if not (one.isprintable() or one == "\n")] == []
    # The log of vllm-evil did not end the fence that it stands in.
    evil = report[report.index("## vllm-evil") :]
    fence = t.cast("re.Match[str]", re.search(r"`{3,}", evil)).group()
    assert len(fence) > 3 and evil.index("# not the end") < evil.rindex(fence)


def test_no_secret_is_in_what_the_host_shows_nor_in_a_file_but_its_own(host: t.Any, secrets: list[str]) -> None:
    shown = host.check_output("shown")
    assert '"gpufleet.vllm.fingerprint"' in shown and "vllm serve Qwen" in shown and '"kind": "container"' in shown
    assert leaks(secrets[:6], shown) == []
    assert host.check_output("holds-secrets").split() == sorted(SECRETS.split())


def test_a_teardown_takes_what_is_the_servers_and_tells_what_it_leaves(
    host: t.Any, deploy: t.Callable[..., Run]
) -> None:
    text = seen(deploy("-vvv", playbook=str(HERE / "teardown.yml")))
    for name in ("vllm-evil", "vllm-nested", "ann-copy"):
        assert f"The container {name} has labels of gpufleet.vllm, and this user's record does not have it" in text
    gone = f"{MODEL} /var/lib/gpufleet.vllm /etc/gpufleet/hf_token /etc/gpufleet/api_key"
    assert host.run(f"ls -d {gone}").stdout == ""
    assert host.run("docker inspect vllm-qwen").rc != 0
    assert changes(host) == ""


def test_no_run_printed_a_secret_or_what_a_terminal_obeys(host: t.Any, secrets: list[str]) -> None:
    text = "\n".join(printed)
    assert len(printed) == 6
    assert leaks(secrets, text) == []
    assert [one for one in ("\x1b", "\\u001b", "\x07", "\u202e", "\\u202e") if one in text] == []
    assert not host.file("/root/pwned").exists
