# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The loop that provisions a host, the commands of its steps, and what is said when one of them fails."""

from __future__ import annotations

import contextlib
import http.server
import os
import subprocess
import threading
import typing as t
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._provision import act, run
from ansible_collections.gpufleet.vllm.plugins.module_utils._provision.act import Actor, explained
from ansible_collections.gpufleet.vllm.plugins.module_utils._provision.facts import Facts, Job, Wish
from ansible_collections.gpufleet.vllm.plugins.module_utils._provision.plan import Step
from provision_hosts import HGX, RUNNING, done, host, packages, provisioned, rebooted, ubuntu_archive

DEFAULTS: dict[str, t.Any] = {key: spec.get("default") for key, spec in run.PARAMETERS.items()}


@pytest.fixture(autouse=True)
def _without_a_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "alone", lambda *_name, **_more: contextlib.nullcontext())


class Played:
    """A host that changes as the steps say; the one at C(fails) does not."""

    def __init__(self, facts: Facts, fails: int = -1) -> None:
        self.facts, self.fails, self.steps = facts, fails, list[Step]()

    def look(self, _wish: Wish) -> Facts:
        return self.facts

    def do(self, step: Step) -> None:
        if len(self.steps) == self.fails:
            raise VllmError("It failed.", "install-failed")
        self.steps.append(step)
        self.facts = done(self.facts, step)

    proof: tuple[bool | None, str] = (None, "Not proven.")

    def prove(self) -> tuple[bool | None, str]:
        return self.proof

    def machine(self, is_root: bool = True) -> run.Machine:
        return run.Machine(self.look, lambda *_given: t.cast(Actor, self), lambda: is_root)


def bare() -> Facts:
    return host(offers=ubuntu_archive("24.04"), gpus=HGX)


def test_a_bare_host_becomes_fit_in_one_run() -> None:
    played = Played(bare())
    result = run.run(DEFAULTS, False, played.machine())
    assert (result["changed"], result["fit"], result["reboot"]["required"]) == (True, True, False)
    assert result["message"] == "Fit to serve: 8 GPUs (h100), driver 580.178.04, Docker 29.1.3. Not proven."
    assert result["proof"] == {"proven": None, "message": "Not proven."}
    again = run.run(DEFAULTS, False, played.machine())
    assert (again["changed"], again["actions"], again["fit"]) == (False, [], True)


def test_a_host_whose_containers_get_no_gpus_is_not_fit() -> None:
    played = Played(bare())
    played.proof = (False, "A container of i:1 does not see the GPUs: unresolvable CDI devices.")
    result = run.run(DEFAULTS, False, played.machine())
    assert (result["changed"], result["fit"], result["deviations"]) == (True, False, [played.proof[1]])
    assert result["message"] == f"Not fit to serve: {played.proof[1]}"


def test_nothing_is_proven_of_containers_that_nobody_asked_for() -> None:
    result = run.run({**DEFAULTS, "docker": "none"}, False, Played(bare()).machine())
    assert (result["fit"], result["proof"]) == (True, None)


def test_check_mode_tells_all_of_it_and_does_nothing() -> None:
    played = Played(bare())
    result = run.run(DEFAULTS, True, played.machine(is_root=False))
    assert (result["changed"], result["fit"], played.steps) == (True, False, [])
    assert result["message"] == f"Not fit to serve yet: {len(result['actions'])} steps would be done."
    assert any("install nvidia-headless-no-dkms-580-server-open" in line for line in result["actions"])


@pytest.mark.parametrize("step", range(13))
def test_a_run_that_failed_at_any_step_is_finished_by_the_next(step: int) -> None:
    whole = Played(bare())
    run.run(DEFAULTS, False, whole.machine())
    played = Played(bare(), fails=step)
    with pytest.raises(VllmError) as caught:
        run.run(DEFAULTS, False, played.machine())
    assert caught.value.actions == [one.words() for one in played.steps]  # type: ignore[attr-defined]
    played.fails = -1
    assert run.run(DEFAULTS, False, played.machine())["fit"]
    assert played.facts == whole.facts


def test_a_step_that_changes_nothing_is_not_repeated_forever() -> None:
    played = Played(bare())
    machine = replace(played.machine(), look=lambda _wish: bare())
    with pytest.raises(VllmError, match="looks as if it had not"):
        run.run(DEFAULTS, False, machine)
    assert len(played.steps) == 1


def test_it_takes_root() -> None:
    with pytest.raises(VllmError, match="become: true") as caught:
        run.run(DEFAULTS, False, Played(bare()).machine(is_root=False))
    assert caught.value.reason == "permission-denied"


def test_an_upgrade_ends_with_the_reboot_that_it_needs_and_who_stands_in_its_way() -> None:
    facts = rebooted(provisioned(bare())[0])
    gpus = replace(facts.gpus, loaded="570.211.01", jobs=(Job(41, "python", "ada"),))
    result = run.run(DEFAULTS, False, Played(replace(facts, gpus=gpus, docker=RUNNING)).machine())
    assert result["reboot"] == {
        "required": True,
        "reasons": ["driver 570.211.01 is loaded, and 580.178.04 is installed"],
        "blocked_by": ["python (process 41 of ada)"],
    }
    assert result["message"] == (
        "Reboot needed (driver 570.211.01 is loaded, and 580.178.04 is installed), once these processes have ended:  python "
        "(process 41 of ada)."
    )


def test_an_upgrade_that_fails_says_how_to_go_back() -> None:
    old = replace(provisioned(bare())[0], docker=RUNNING)
    wish = {**DEFAULTS, "branch": "570"}
    offers = ubuntu_archive("24.04", "570")
    facts = replace(old, packages={**packages(offers), **{k: v for k, v in old.packages.items() if k not in offers}})
    played = Played(facts, fails=0)
    with pytest.raises(VllmError, match="run this with branch: 580 and version: 580.178.04"):
        run.run(wish, False, played.machine())


# --- commands ---------------------------------------------------------------------------------------------------------


class Commands:
    """Programs that answer by their first words, and are remembered."""

    def __init__(self, answers: t.Mapping[str, tuple[int, str]] | None = None) -> None:
        self.answers, self.given = dict(answers or {}), list[list[str]]()

    def __call__(self, argv: t.Sequence[str], **_more: t.Any) -> t.Any:
        self.given.append([Path(argv[0]).name, *argv[1:]])
        line = " ".join(self.given[-1])
        status, output = next((reply for key, reply in self.answers.items() if key in line), (0, ""))
        commands = self

        class Child:
            pid, returncode = 77, status

            def communicate(self, timeout: float) -> tuple[bytes, None]:
                if output == "(hangs)":
                    raise subprocess.TimeoutExpired("", timeout)
                return output.encode(), None

        del commands
        return Child()


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Commands:
    monkeypatch.setattr(act.shutil, "which", lambda name, path: f"/usr/bin/{name}")
    return Commands()


GPU = "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-1)"
INSTALL = Step("packages", "Ubuntu's archive", "why", (("nvidia-utils-580-server", "580.1-1"), ("dkms", "")), ("old",))


def test_packages_come_in_one_transaction_with_what_they_replace(commands: Commands) -> None:
    Actor(Wish(proxy="http://proxy:3128", ca_bundle="/etc/ca.pem"), "apt", 60, commands).do(INSTALL)
    (line,) = commands.given
    assert line[-5:] == ["install", "--allow-downgrades", "nvidia-utils-580-server=580.1-1", "dkms", "old-"]
    assert {"Acquire::https::Proxy=http://proxy:3128", "Acquire::https::CAInfo=/etc/ca.pem"} <= set(line)
    assert "DPkg::Lock::Timeout=120" in line


def test_dnf_is_given_the_same(commands: Commands) -> None:
    actor = Actor(Wish(), "dnf", 60, commands)
    actor.do(INSTALL)
    actor.do(Step("stream", "580-open", "why"))
    actor.do(Step("repair", "", "why"))
    assert [line[3:] for line in commands.given] == [
        ["remove", "old"],
        ["install", "--allowerasing", "--setopt=install_weak_deps=False", "nvidia-utils-580-server-580.1-1", "dkms"],
        ["module", "reset", "nvidia-driver"],
        ["module", "enable", "nvidia-driver:580-open"],
        ["remove", "--duplicates"],
    ]


def test_a_unit_is_started_without_a_reload_of_systemd(commands: Commands) -> None:
    Actor(Wish(), "apt", 60, commands).do(Step("start", "nvidia-fabricmanager.service", "why"))
    assert commands.given == [
        ["systemctl", "enable", "--root=/", "--quiet", "--", "nvidia-fabricmanager.service"],
        ["systemctl", "start", "nvidia-fabricmanager.service"],
    ]


def test_a_repository_is_its_key_and_then_its_list(
    commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "key.asc"
    monkeypatch.setattr(act, "key_file", lambda name: str(tmp_path / "keyrings" / f"{name}.asc"))
    step = Step("repository", str(tmp_path / "gpufleet-cuda.list"), "why", text="deb x y\n", key=str(key))
    actor = Actor(Wish(), "apt", 60, commands)
    with pytest.raises(VllmError, match="there is no key"):
        actor.do(step)
    assert not (tmp_path / "gpufleet-cuda.list").exists()
    key.write_text("a key")
    actor.do(step)
    assert (tmp_path / "keyrings" / "cuda.asc").read_text() == "a key"
    assert (tmp_path / "gpufleet-cuda.list").read_text() == "deb x y\n"


def test_a_key_is_fetched_through_the_proxy_that_was_named(
    commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    class Proxy(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"a key")

        def log_message(self, *_said: object) -> None:
            pass

    monkeypatch.setattr(act, "key_file", lambda name: str(tmp_path / "keyrings" / f"{name}.asc"))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("https_proxy", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    step = Step(
        "repository", str(tmp_path / "gpufleet-cuda.list"), "why", text="deb x y\n", key="http://keys.invalid/k"
    )
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        Actor(Wish(proxy=f"http://127.0.0.1:{server.server_port}"), "apt", 60, commands).do(step)
        server.shutdown()
    assert (asked, (tmp_path / "keyrings" / "cuda.asc").read_text()) == (["http://keys.invalid/k"], "a key")
    assert (os.environ["http_proxy"], "https_proxy" in os.environ) == ("http://127.0.0.1:1", False)


def test_a_command_that_takes_too_long_is_left_to_end(commands: Commands) -> None:
    commands.answers["apt-get"] = (0, "(hangs)")
    with pytest.raises(VllmError, match=r"'apt-get -q' \(process 77\) was not done after 60 s. It was left running"):
        Actor(Wish(), "apt", 60, commands).do(INSTALL)


FAULTS = [
    pytest.param(
        "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 812 (unattended-upgr)",
        "locked",
        "Another program installs packages on this host (process 812 (unattended-upgr))",
        id="dpkg lock held",
    ),
    pytest.param(
        "dpkg: error processing archive x.deb (--unpack):\n cannot copy: No space left on device",
        "disk-full",
        "it continues where it stopped",
        id="disk full",
    ),
    pytest.param(
        "E: You don't have enough free space in /var/cache/apt/archives/.",
        "disk-full",
        "Free some space",
        id="too little",
    ),
    pytest.param(
        "Err:1 http://mirror.example.com noble InRelease\n  Could not resolve 'mirror.example.com'\n"
        "E: Failed to fetch http://mirror.example.com/InRelease  Could not resolve 'mirror.example.com'",
        "download-failed",
        "name a mirror in repositories",
        id="repository unreachable",
    ),
    pytest.param(
        "E: Failed to fetch http://mirror.example.com/x.deb  404  Not Found [IP: 192.0.2.1 80]",
        "download-failed",
        "cannot be reached",
        id="gone",
    ),
    pytest.param(
        "W: GPG error: http://mirror.example.com noble InRelease: The following signatures were invalid: EXPKEYSIG "
        "EB3E94ADBE1229CF\nE: The repository 'http://mirror.example.com noble InRelease' is not signed.",
        "download-failed",
        "its key is expired, or another one",
        id="key expired",
    ),
    pytest.param(
        "Error! Bad return status for module build on kernel: 6.8.0-151-generic (x86_64)",
        "install-failed",
        "compiler and headers do not fit",
        id="wrong headers",
    ),
    pytest.param(
        "E: Unable to correct problems, you have held broken packages.",
        "packages-refused",
        "apt-mark showhold",
        id="held",
    ),
    pytest.param(
        "modprobe: ERROR: could not insert 'nvidia': Key was rejected by service",
        "host-unsupported",
        "Secure Boot",
        id="Secure Boot",
    ),
    pytest.param(
        "something else", "install-failed", "ended with exit status 100. It said: something else", id="unknown"
    ),
    pytest.param(
        "Error: Failed to download metadata for repo 'cuda': Cannot download repomd.xml",
        "download-failed",
        "cannot be reached",
        id="dnf: unreachable",
    ),
    pytest.param(
        "Error opening /srv/cuda/dkms-3.3.0-noarch.rpm: No such file or directory",
        "download-failed",
        "cannot be reached",
        id="dnf: a directory that is gone",
    ),
    pytest.param("Error: GPG check FAILED", "download-failed", "could not be verified", id="dnf: key"),
    pytest.param(
        "Error: \n Problem: conflicting requests\n  - nothing provides dkms needed by kmod-nvidia-open-dkms",
        "packages-refused",
        "It said: - nothing provides dkms needed by kmod-nvidia-open-dkms.",
        id="dnf: unmet",
    ),
]


@pytest.mark.parametrize(("output", "reason", "words"), FAULTS)
def test_a_failure_is_explained(output: str, reason: str, words: str) -> None:
    error = explained(INSTALL, ("apt-get", "-q"), 100, output)
    assert error.reason == reason
    assert words in str(error)
    assert str(error).startswith(
        "Cannot install nvidia-utils-580-server 580.1-1, dkms from Ubuntu's archive and remove old"
    )
    assert error.log[-1] == output.splitlines()[-1].rstrip()


@pytest.mark.parametrize(
    ("wish", "answers", "proven", "words"),
    [
        pytest.param(
            Wish(), {"image ls": (127, "docker is not on this host")}, None, "docker is not on", id="no Docker"
        ),
        pytest.param(Wish(proof_image="i:1"), {"inspect": (1, "")}, None, "i:1 is not on this host", id="not there"),
        pytest.param(Wish(proof_image="i:1"), {"run": (0, GPU)}, True, "of i:1 sees the GPUs", id="proven"),
        pytest.param(
            Wish(proof_image="i:1"),
            {"run": (125, "docker: unresolvable CDI devices")},
            False,
            "unresolvable",
            id="refused",
        ),
        pytest.param(
            Wish(),
            {
                "image ls": (0, "alpine:3\nregistry.example/vllm/vllm-openai:<none>\nnvcr.io/nvidia/vllm:26.06\n"),
                "run": (0, GPU),
            },
            True,
            "A container of nvcr.io/nvidia/vllm:26.06 sees the GPUs.",
            id="an image that is there",
        ),
        pytest.param(
            Wish(), {"image ls": (0, "alpine:3\n"), "run": (0, GPU)}, True, "A container sees", id="an empty image"
        ),
        pytest.param(
            Wish(),
            {"run": (127, "exec: nvidia-smi: no such file or directory")},
            None,
            "no such file or directory. Name an image with a C library as proof_image",
            id="an empty image in which nothing runs proves nothing",
        ),
        pytest.param(Wish(), {"import": (1, "no space left")}, None, "no space left", id="no empty image"),
    ],
)
def test_containers_are_proven_to_get_gpus(
    commands: Commands, wish: Wish, answers: dict[str, tuple[int, str]], proven: bool | None, words: str
) -> None:
    commands.answers = answers
    said = Actor(wish, "apt", 60, commands).prove()
    assert said[0] is proven
    assert words in said[1]
    # What was made for the proof goes again.
    verbs = [argv[-2] for argv in commands.given if "gpufleet/empty:proof" in argv[-1:] and argv[-2] == "rm"]
    assert len(verbs) == sum("import" in argv for argv in commands.given) or "import" in answers
