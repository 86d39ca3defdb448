# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A simulated GB10 host whose Docker Engine and systemd are asked through the rig, and runs of playbooks on it."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import signal
import subprocess
import threading
import time
import typing as t
from dataclasses import dataclass, field, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
RIG = str(ROOT / "tests/rig/hosts/host")
BIN = ROOT / ".venv" / "bin"
COLLECTIONS = os.environ.get("ANSIBLE_COLLECTIONS_PATH", str(ROOT / ".ansible/collections"))
PLAYBOOKS = Path(COLLECTIONS) / "ansible_collections/gpufleet/vllm/playbooks"
# What runs servers, as the key `backend` calls it.
CONTAINER, SERVICE = "container", "systemd"
IMAGE, VERSION = "nvcr.io/nvidia/vllm:25.09-py3", "0.10.1.1"
VENV, VENV_VERSION = "/opt/vllm/0.26.0", "0.26.0"
TOKEN = "hf_canary4711"
HOME = "/home/gpu/vllm"
CACHE = f"{HOME}/huggingface"
WEIGHTS = ("openai/gpt-oss-120b", "google/gemma-3-27b-it")
PORT = 8000
ON_HOST = ("held_calls.py", "systemctl.py", "registry.py", "broken_mirror.py")
LOAD_SECONDS = 0.2
# A switch of servers takes some six seconds here, and up to three minutes more where a client has to give up; all of that
# many times over where others use the same cores.
PATIENCE = 900.0

# What differs from the catalogue: a simulated host may not raise memlock, and nobody waits long for a stand-in.
OVERRIDES: dict[str, t.Any] = {
    "ulimits": {"memlock": 8388608},
    "health": {"timeout": 8, "request_timeout": 3, "stable_for": 0.1},
    "stop_timeout": 3,
    # The disk is that of the machine that simulates; the stand-in's weights are next to none.
    "architecture": {"weights_gib": 0.01},
}
ENGINE: dict[str, t.Any] = {"docker_host": "unix:///run/fault-docker.sock"}
# Root is connected to systemd, whose home no service reads.
PLACES = {"huggingface_dir": CACHE, "encodings_dir": f"{HOME}/encodings", "hf_token_file": f"{HOME}/secrets/hf_token"}
OF_BACKEND: dict[str, dict[str, t.Any]] = {CONTAINER: ENGINE, SERVICE: {"backend": SERVICE, "venv": VENV, **PLACES}}
# Where one replaces the other: one user has both, and a service asks for containers.
OF_BOTH: dict[str, dict[str, t.Any]] = {
    CONTAINER: {**ENGINE, **PLACES, "backend": CONTAINER},
    SERVICE: {**OF_BACKEND[SERVICE], **ENGINE, "allow_daemon_reload": True},
}
# What is ours and belongs to no unit that is there.
LITTER = r"""
cd /etc/systemd/system
for file in $(ls -A /etc/gpufleet.vllm 2>/dev/null); do
    grep -qs "/$file$" vllm-*.service || echo "/etc/gpufleet.vllm/$file"
done
for link in *.wants/vllm-*; do test ! -L "$link" -o -e "$link" || echo "$link leads nowhere"; done
for unit in $(/usr/bin/systemctl list-units --all --plain --no-legend 'vllm-*' | cut -d ' ' -f 1); do
    test -e "$unit" || echo "systemd remembers $unit"
done
for place in $(ls -d /run/vllm-* 2>/dev/null); do
    /usr/bin/systemctl is-active --quiet "${place#/run/}" || echo "$place"
done
ls -A | grep '^[.]gpufleet-'
true
"""
# Name, identity, state, whether it comes back at boot, and start of each unit.
UNITS = r"""
for file in $(ls /etc/systemd/system | grep '^vllm-.*[.]service$'); do
    shown=$(/usr/bin/systemctl show --value --property ActiveState --property InvocationID "$file" | xargs)
    digest=$(sha256sum "/etc/systemd/system/$file" | cut -d ' ' -f 1)
    echo "$file $digest ${shown% *}/$(/usr/bin/systemctl is-enabled "$file") ${shown#* }"
done
"""
RESET = r"""
docker ps --all --quiet | xargs --no-run-if-empty docker rm --force
/usr/bin/systemctl stop 'vllm-*'
rm -rf /etc/systemd/system/vllm-* /etc/systemd/system/*.wants/vllm-* /etc/gpufleet.vllm /var/lib/gpufleet.vllm
/usr/bin/systemctl daemon-reload
/usr/bin/systemctl reset-failed 'vllm-*'
rm -rf /home/gpu/vllm/secrets
"""


@dataclass(frozen=True)
class Wish:
    """A server as somebody asks for it: a playbook, what it is to differ in, and the model that then answers."""

    playbook: str
    model: str
    container: str
    overrides: t.Mapping[str, t.Any] = field(default_factory=dict)
    variables: t.Mapping[str, t.Any] = field(default_factory=dict)
    backend: str = CONTAINER
    # Whether the other backend may have servers on the host too.
    beside: bool = False

    def but(self, **variables: t.Any) -> Wish:
        return replace(self, variables={**self.variables, **variables})

    def with_(self, **overrides: t.Any) -> Wish:
        return replace(self, overrides={**self.overrides, **overrides})

    def answering(self, model: str) -> Wish:
        return replace(self, model=model)

    def on(self, backend: str, beside: bool = False) -> Wish:
        """The same server on this backend."""
        user = {"ansible_become": True} if beside or backend == SERVICE else {}
        overrides = (OF_BOTH if beside else OF_BACKEND)[backend]
        return replace(self.with_(**overrides).but(**user), backend=backend, beside=beside)

    @property
    def instance(self) -> str:
        """What its container or unit is called."""
        return self.container + (".service" if self.backend == SERVICE else "")

    def arguments(self) -> list[str]:
        variables = {**self.variables, "vllm_overrides": {**OVERRIDES, **self.overrides}}
        return [str(PLAYBOOKS / self.playbook), "--extra-vars", json.dumps(variables)]


def descendants(pid: int) -> list[int]:
    """A process and all below it, topmost first."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents.setdefault(int(stat.read_text().rpartition(")")[2].split()[1]), []).append(int(stat.parent.name))
    found = [pid]
    for one in found:
        found += parents.get(one, [])
    return found


class Run:
    """One ansible-playbook, from its start to its end."""

    def __init__(self, command: list[str], env: dict[str, str], output: Path) -> None:
        # A file, since what is orphaned by a kill would keep a pipe open.
        self.output = output
        with output.open("w") as stream:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env={**os.environ, **env},
                cwd=ROOT,
                start_new_session=True,
            )

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def kill(self) -> None:
        """As a controller dies that loses its power: at once, with all that it started."""
        os.kill(self.process.pid, signal.SIGSTOP)
        for pid in descendants(self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def wait(self) -> Run:
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"not done after {PATIENCE:.0f} s: {self.text[-2000:]}") from None
        return self

    @property
    def status(self) -> int:
        return self.wait().process.returncode

    @property
    def text(self) -> str:
        return self.output.read_text(encoding="utf-8", errors="replace")

    @property
    def message(self) -> str:
        """What the last failed task says."""
        found = re.findall(r"^fatal: \[\S+\]: FAILED! => ", self.text, re.MULTILINE)
        if not found:
            return ""
        said, _end = json.JSONDecoder().raw_decode(self.text.rpartition(found[-1])[2])
        return " ".join(str(said["msg"]).split())

    @property
    def changed(self) -> list[str]:
        return re.findall(r"^changed: .*", self.text, re.MULTILINE)


class Held:
    """What holds the call that begins a chosen step, on a host."""

    def __init__(self, host: str) -> None:
        self.process = subprocess.Popen(
            ["docker", "exec", "-i", host, "python3", "/opt/held_calls.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.said: queue.Queue[dict[str, t.Any]] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.said.get(timeout=30)

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self.said.put(json.loads(line))

    def send(self, **said: str) -> None:
        if self.process.stdin:
            self.process.stdin.write(json.dumps(said) + "\n")
            self.process.stdin.flush()

    def arm(self, step: str) -> None:
        self.send(arm=step)
        self.said.get(timeout=10)

    def reached(self, run: Run) -> dict[str, t.Any]:
        """Wait for the call that begins the step; the run may not end before it."""
        while True:
            try:
                return self.said.get(timeout=0.1)
            except queue.Empty:
                if run.ended and self.said.empty():
                    raise AssertionError(f"the run ended before that step: {run.text}") from None

    def close(self) -> None:
        if self.process.stdin:
            self.process.stdin.close()
        if self.process.stdout:
            self.process.wait()
            self.process.stdout.close()


@dataclass
class Host:
    """One simulated host."""

    name: str
    key: Path
    env: dict[str, str]
    address: str = ""
    runs: int = 0
    # What the last run deployed.
    wish: Wish | None = None

    def up(self) -> None:
        self._start()
        for file in ON_HOST:
            output(["docker", "cp", "--quiet", str(HERE / file), f"{self.name}:/opt/{file}"])
        program = "/usr/local/sbin/systemctl"
        self.sh(f"echo '#!/bin/sh\nexec python3 /opt/systemctl.py \"$@\"' >{program} && chmod 0755 {program}")
        output([RIG, "image", self.name, IMAGE, VERSION])
        self.give_weights()
        self.calls = Held(self.name)

    def give_weights(self) -> None:
        """A virtual environment with the stand-in, and what it serves."""
        output([RIG, "venv", self.name, VENV, VENV_VERSION, CACHE])
        self.sh(f"install -d -o gpu -g gpu /home/gpu/vllm {CACHE}")
        self.stand_in()
        for model in WEIGHTS:
            program = f"from huggingface_hub import snapshot_download as fetch; fetch('{model}')"
            self.sh(f'HF_HUB_CACHE={CACHE}/hub HF_TOKEN=hf {VENV}/bin/python -c "{program}"', user="gpu")

    def _start(self) -> None:
        self.address = output([RIG, "up", self.name, "--key", f"{self.key}.pub", "--gpu", "gb10"])
        assert eventually(lambda: self.sh("docker version >/dev/null 2>&1 && echo up", check=False) == "up", 30)

    def reboot(self) -> None:
        self.calls.close()
        output(["docker", "restart", "--timeout", "20", self.name])
        self._start()
        self.calls = Held(self.name)

    def down(self) -> None:
        self.calls.close()
        output([RIG, "down", self.name])

    def sh(self, script: str, check: bool = True, user: str = "root") -> str:
        command = ["docker", "exec", "--user", user, self.name, "sh", "-c", script]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if check and done.returncode:
            raise AssertionError(f"{script}: {done.stdout}")
        return done.stdout.strip()

    def stand_in(self, only_with: str = "", **fault: t.Any) -> None:
        """Give the stand-in a fault, only when its command line has that text."""
        said = {"load_seconds": LOAD_SECONDS, **fault, **({"only_with": only_with} if only_with else {})}
        self.sh(f"echo '{json.dumps(said)}' > {CACHE}/standin.json")

    def reset(self) -> None:
        """Take away whatever a row left, for the next one to begin from nothing."""
        self.sh(RESET, check=False)
        self.stand_in()
        self.wish = None

    @contextlib.contextmanager
    def so(self, before: str, after: str) -> t.Iterator[None]:
        """Something that is so for as long as a run lasts."""
        self.sh(before)
        try:
            yield
        finally:
            self.sh(after)

    def serve_images(self) -> None:
        """Have a registry on this host."""
        started = f"systemd-run --quiet --unit registry --collect python3 /opt/registry.py {IMAGE}"
        self.sh(f"systemctl is-active --quiet registry || {started}")
        assert eventually(lambda: self.sh("ss -Hltn sport = 5000"), 20)

    def take_port(self, port: int = PORT) -> None:
        command = f"python3 -m http.server --bind 127.0.0.1 {port}"
        self.sh(f"systemd-run --quiet --uid gpu --unit squatter --collect {command}")
        assert eventually(lambda: self.sh(f"ss -Hltn sport = {port}"), 10)

    def restart_engine(self) -> None:
        """Begin to restart Docker Engine; back when the one that ran is gone."""
        pid = self.sh("systemctl show --value --property MainPID docker")
        self.sh("systemctl restart --no-block docker")
        assert eventually(lambda: not self.lives(int(pid)), 30)

    def lives(self, pid: int) -> bool:
        return self.sh(f"test -e /proc/{pid} && echo lives", check=False) == "lives"

    def is_asked(self) -> bool:
        """Whether the server works on a request that does not end."""
        return "num_requests_running{" in self.sh(
            f"curl --silent --max-time 2 http://127.0.0.1:{PORT}/metrics | grep 'num_requests_running{{.*1.0'",
            check=False,
        )

    def run(self, wish: Wish, *arguments: str) -> Run:
        inventory = {
            "ansible_host": "127.0.0.1",
            "ansible_port": int(self.address.rpartition(":")[2]),
            "ansible_user": "gpu",
            "ansible_ssh_private_key_file": str(self.key),
            "ansible_ssh_common_args": "-o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no",
            "ansible_python_interpreter": "/usr/bin/python3",
            "vllm_server_encodings_source": {"controller_dir": str(ROOT / ".cache/demo/encodings-source")},
        }
        file = self.key.parent / f"{self.name}.json"
        file.write_text(json.dumps({"gb10": {"hosts": {self.name: inventory}}}))
        command = [str(BIN / "ansible-playbook"), "-i", str(file), *wish.arguments(), *arguments]
        self.runs += 1
        return Run(command, self.env, self.key.parent / f"{self.name}-{self.runs}.log")

    def answers(self, port: int = PORT) -> str:
        """The name of the model that gives a correct chat completion, or nothing."""
        question = json.dumps({"messages": [{"role": "user", "content": "Say hello"}]})
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        said = self.sh(f"curl --silent --max-time 3 {url} --data '{question}'", check=False)
        try:
            answer = json.loads(said)
            sane = str(answer["choices"][0]["message"]["content"]).startswith("Hello! I am a stand-in for vLLM")
        except (ValueError, KeyError, TypeError):
            return ""
        return str(answer["model"]) if sane else ""

    def servers(self) -> list[list[str]]:
        """Name, identity, state and start of each container and unit."""
        form = "{{.Name}} {{.Id}} {{.State.Status}} {{.State.StartedAt}}"
        listed = self.sh(f"docker ps --all --quiet | xargs --no-run-if-empty docker inspect --format '{form}'")
        listed += "\n" + self.sh(UNITS, check=False)
        return sorted(line.lstrip("/").split() for line in listed.splitlines() if line)

    def names(self) -> list[str]:
        return [one[0] for one in self.servers()]

    def litter(self) -> list[str]:
        """What is left of units that are not there."""
        return self.sh(LITTER).splitlines()

    def visible(self) -> str:
        """What any user in group docker sees: processes with their arguments, and all that Docker and systemd tell."""
        shown = "/usr/bin/systemctl show 'vllm-*'; cat /etc/systemd/system/vllm-*; journalctl --quiet --lines 500"
        containers = "docker ps --all --quiet | xargs --no-run-if-empty docker inspect"
        return self.sh(f"ps -eww -o args; {containers}; {shown}", check=False)

    def leaks(self) -> list[str]:
        """Files with the token in them that others than their owner may read, or that are not the one it is meant for."""
        places = "/home /etc /root /opt /srv /tmp /var/lock /var/tmp"
        # On standard input, so that the token is in no command line.
        found = self.sh(f"printf {TOKEN} | grep --recursive --files-with-matches --file=- {places} 2>/dev/null; true")
        modes = self.sh("; ".join(f"stat --format '%n %a %U' {path}" for path in found.split()) or "true")
        meant = [f"/home/gpu/vllm/secrets/hf_token 600 {owner}" for owner in ("gpu", "root")]
        return [line for line in modes.splitlines() if line not in meant]


def output(command: list[str]) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"{' '.join(command)}: {done.stdout}")
    return done.stdout.strip()


def eventually(look: t.Callable[[], t.Any], limit: float) -> t.Any:
    """What a look brings, as soon as it is something; the last look when the time is up."""
    deadline = time.monotonic() + limit
    while True:
        found = look()
        if found or time.monotonic() > deadline:
            return found
        time.sleep(0.2)
