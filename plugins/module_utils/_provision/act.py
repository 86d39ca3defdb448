# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a step is done: the commands of each, and what their errors mean. The only file that changes a host.

Each step is whole or can be made again. No command reloads systemd by itself: that takes the GPUs from containers that
were started without CDI.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import typing as t
from dataclasses import dataclass

from .._errors import ProgramError, Reason, VllmError
from .._gpu.probe import DIRECTORIES
from .._host import boot, files
from .._host.download import HttpSource, fetch
from .._host.redaction import redact
from .facts import Wish
from .plan import Step, key_file
from .verify import SSH_BYTES

KEY_BYTES = 1 << 20
# Seconds that a command may wait for another one that installs packages.
LOCK_SECONDS = 120
TAIL_LINES = 15
# What a CDI specification is written to by nvidia-cdi-refresh.service, too.
CDI_FILE = "/var/run/cdi/nvidia.yaml"
# Images in which nvidia-smi of the host can run, by the last word of their name.
PROOF_IMAGES = re.compile(r"(?:^|/)(?:vllm|vllm-openai|cuda|pytorch):(?!<none>)")
EMPTY_IMAGE = "gpufleet/empty:proof"
# What a container of an empty image takes from the host: its programs, loader and libraries.
LOAN = ("/usr", "/bin", "/lib", "/lib64")


@dataclass(frozen=True)
class Explanation:
    """What a program prints when it fails, what that means, and what to change."""

    pattern: str
    sentence: str
    reason: Reason


EXPLANATIONS = (
    Explanation(
        r"(?:Could not get lock|Unable to acquire the dpkg frontend lock|[Ff]ailed to obtain the transaction lock)"
        r"(?:.*?held by process (?P<who>\d+(?: \([^)]*\))?))?",
        "Another program installs packages on this host{who}, and was not done within {seconds} s. Run this again when "
        "it is; unattended upgrades may take some minutes after a boot",
        "locked",
    ),
    Explanation(
        r"No space left on device|You don't have enough free space|needs? \S+ more space",
        "The disk is full. Free some space ('df -h' shows where), then run this again: it continues where it stopped",
        "disk-full",
    ),
    Explanation(
        r"EXPKEYSIG|KEYEXPIRED|[Kk]ey (?:is|has) expired|expired key|NO_PUBKEY|is not signed|signatures? "
        r"(?:couldn't|were invalid)"
        r"|GPG check FAILED|Missing key|not be verified|signature verification failed",
        "The signature of the repository could not be verified: its key is expired, or another one. Name the current "
        "key as key of the repository, or remove its file in /etc/apt/keyrings to fetch it again",
        "download-failed",
    ),
    Explanation(
        r"Bad return status for module build|Error! Your kernel headers|dkms.*(?:failed|error)",
        "DKMS could not build the kernel modules. Its log is /var/lib/dkms/nvidia/*/build/make.log; most often "
        "compiler and headers do not fit the running kernel",
        "install-failed",
    ),
    Explanation(
        r"held broken packages|unmet dependencies|Unable to correct problems|conflicting requests|nothing provides"
        r"|held packages were changed",
        "The packages do not fit those that are installed or held. 'apt-mark showhold' or 'dnf versionlock list' "
        "shows what is held; packages of another repository of NVIDIA must be removed first",
        "packages-refused",
    ),
    Explanation(
        r"Key was rejected by service|Required key not available",
        "Secure Boot does not let the kernel load the module: the key that it is signed with is not enrolled. Use "
        "prebuilt modules, or enrol the key with mokutil at the console",
        "host-unsupported",
    ),
    Explanation(
        r"Could not resolve|Temporary failure|[Cc]onnection (?:timed out|refused)|Could not connect|Unable to "
        r"connect|Network is"
        r" unreachable|404 +Not Found|Failed to (?:fetch|download)|Cannot download|File not found|certificate"
        r"|Error opening \S+\.rpm",
        "A repository cannot be reached. Check network, proxy and CA bundle, or name a mirror in repositories",
        "download-failed",
    ),
)
# A line that says what went wrong; dnf's heading says nothing yet.
FAULT = re.compile(r"(?!Error:$)(?:E|Err|Error|modprobe|dpkg|Job for|Failed)\b")


@dataclass(frozen=True)
class Actor:
    """Does steps on this host. C(seconds) bounds each command."""

    wish: Wish
    manager: str
    seconds: float
    start: t.Callable[..., t.Any] = subprocess.Popen

    def do(self, step: Step) -> None:
        """Do one step.

        Raises:
            VllmError: when it fails, with what to change; the host is as before, or the next run finishes it.
        """
        actions: dict[str, t.Callable[[Step], None]] = {
            "repair": self._repair,
            "repository": self._repository,
            "refresh": self._refresh,
            "stream": self._stream,
            "file": self._file,
            "packages": self._packages,
            "build": lambda one: self._run(one, "dkms", "autoinstall", "-k", one.target),
            "module": lambda one: self._run(one, "modprobe", "nvidia"),
            "start": self._start_unit,
            "reload": lambda one: self._run(one, "systemctl", "reload", one.target),
            "restart": lambda one: self._run(one, "systemctl", "restart", one.target),
            "cdi": self._cdi,
            # Takes effect at once, and needs no reload.
            "protect": lambda one: self._run(one, "systemctl", "set-property", one.target, f"MemoryMin={SSH_BYTES}"),
        }
        actions[step.verb](step)

    # --- packages ---

    def _apt(self, step: Step, *arguments: str) -> None:
        options = [
            f"DPkg::Lock::Timeout={LOCK_SECONDS}",
            "Dpkg::Options::=--force-confdef",
            "Dpkg::Options::=--force-confold",
            "APT::Install-Recommends=false",
            "APT::Update::Error-Mode=any",
        ]
        if self.wish.proxy:
            options += [f"Acquire::http::Proxy={self.wish.proxy}", f"Acquire::https::Proxy={self.wish.proxy}"]
        if self.wish.ca_bundle:
            options.append(f"Acquire::https::CAInfo={self.wish.ca_bundle}")
        given = [word for option in options for word in ("-o", option)]
        self._run(step, "apt-get", "-q", "-y", *given, *arguments)

    def _dnf(self, step: Step, *arguments: str) -> None:
        proxy = [f"--setopt=proxy={self.wish.proxy}"] if self.wish.proxy else []
        bundle = [f"--setopt=sslcacert={self.wish.ca_bundle}"] if self.wish.ca_bundle else []
        self._run(step, "dnf", "-q", "-y", *proxy, *bundle, *arguments)

    def _repair(self, step: Step) -> None:
        if self.manager == "dnf":
            # Takes the older one of two versions away, and installs the newer one again.
            self._dnf(step, "remove", "--duplicates")
            return
        self._run(step, "dpkg", "--force-confdef", "--force-confold", "--configure", "-a")
        self._apt(step, "--fix-broken", "install")

    def _refresh(self, step: Step) -> None:
        if self.manager == "dnf":
            self._dnf(step, "makecache", "--refresh")
            return
        self._apt(step, "update")
        # Where nothing was new, apt leaves no trace of having looked.
        os.utime("/var/lib/apt/lists")

    def _stream(self, step: Step) -> None:
        self._dnf(step, "module", "reset", "nvidia-driver")
        self._dnf(step, "module", "enable", f"nvidia-driver:{step.target}")

    def _packages(self, step: Step) -> None:
        if self.manager == "dnf":
            if step.remove:
                self._dnf(step, "remove", *step.remove)
            if step.install:
                wanted = ["-".join(filter(None, one)) for one in step.install]
                self._dnf(step, "install", "--allowerasing", "--setopt=install_weak_deps=False", *wanted)
            return
        wanted = ["=".join(filter(None, one)) for one in step.install]
        self._apt(step, "install", "--allow-downgrades", *wanted, *(f"{name}-" for name in step.remove))

    # --- files ---

    def _repository(self, step: Step) -> None:
        name = re.sub(r"^gpufleet-|\.(?:list|repo)$", "", os.path.basename(step.target))
        if step.key and self.manager == "apt":
            self._write(step, key_file(name), self._key(step))
        self._write(step, step.target, step.text.encode())

    def _key(self, step: Step) -> bytes:
        if not step.key.startswith(("http://", "https://")):
            content = files.read(step.key.partition("file://")[2] or step.key, KEY_BYTES)
            if content is None:
                raise VllmError(f"Cannot {step.words()}: there is no key at {step.key}. Copy it there.", "path-missing")
            return content
        return fetch(HttpSource(step.key, ca_path=self.wish.ca_bundle or None, proxy=self.wish.proxy), KEY_BYTES)

    def _file(self, step: Step) -> None:
        if os.path.basename(step.target) == "gpufleet-nouveau.conf":
            # First the image of the early boot, then the file by which the next run knows that this was done.
            self._run(step, "dracut", "--force", "--omit-drivers", "nouveau")
        self._write(step, step.target, step.text.encode())

    def _write(self, step: Step, path: str, content: bytes) -> None:
        try:
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            files.write_whole(path, content, mode=0o644, durable=True)
        except OSError as error:
            raise files.failure(f"{step.words()}: {path}", error, "Run with become: true.") from None

    # --- what runs ---

    def _start_unit(self, step: Step) -> None:
        self._run(step, *boot.command("enable", step.target))
        self._run(step, "systemctl", "start", step.target)

    def _cdi(self, step: Step) -> None:
        try:
            os.makedirs(os.path.dirname(CDI_FILE), mode=0o755, exist_ok=True)
        except OSError as error:
            raise VllmError(f"Cannot {step.words()}: {error.strerror}.", files.reason(error)) from None
        self._run(step, "nvidia-ctk", "cdi", "generate", f"--output={CDI_FILE}")

    def prove(self) -> tuple[bool | None, str]:
        """Whether a container gets GPUs, and how that was seen; None where it cannot be tried.

        In the image that was asked for, else in one of the host that has a C library for certain, else in an empty one
        that borrows the host's libraries. No image is pulled.
        """
        status, listed = self._answer("docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}")
        if status:
            return None, f"Not proven that containers get GPUs: {_last(listed)}."
        wanted = self.wish.proof_image
        if wanted and self._answer("docker", "image", "inspect", wanted)[0] != 0:
            return None, f"Not proven that containers get GPUs: {wanted} is not on this host."
        image = wanted or next((one for one in listed.split() if PROOF_IMAGES.search(one)), None)
        if image is None:
            return self._prove_by_host()
        return self._proof(f"A container of {image}", "--entrypoint", "nvidia-smi", image)

    def _prove_by_host(self) -> tuple[bool | None, str]:
        """In an empty image. What fails there may be the loan's fault, so only a success says something."""
        with tempfile.NamedTemporaryFile(suffix=".tar") as file:
            with tarfile.open(fileobj=file, mode="w"):
                pass
            file.flush()
            status, output = self._answer("docker", "import", file.name, EMPTY_IMAGE)
        if status:
            return None, f"Not proven that containers get GPUs: {_last(output)}."
        try:
            loan = [word for path in LOAN if os.path.isdir(path) for word in ("--volume", f"{path}:{path}:ro")]
            program = shutil.which("nvidia-smi", path=DIRECTORIES) or "nvidia-smi"
            seen, words = self._proof("A container", *loan, "--entrypoint", program, EMPTY_IMAGE)
        finally:
            self._answer("docker", "image", "rm", EMPTY_IMAGE)
        hint = "Name an image with a C library as proof_image to be sure."
        return (True, words) if seen else (None, f"Not proven that containers get GPUs. {words} {hint}")

    def _proof(self, what: str, *arguments: str) -> tuple[bool, str]:
        # As the servers of this collection get theirs.
        run = ("docker", "run", "--rm", "--pull", "never", "--network", "none", "--gpus", "all")
        status, output = self._answer(*run, *arguments, "-L")
        if status == 0 and "GPU" in output:
            return True, f"{what} sees the GPUs."
        return False, f"{what} does not see the GPUs: {_last(output)}."

    # --- commands ---

    def _run(self, step: Step, *argv: str) -> None:
        status, output = self._answer(*argv)
        if status:
            raise explained(step, argv, status, output)

    def _answer(self, *argv: str) -> tuple[int, str]:
        """Exit status and output of a command. One that takes too long is left to end: it may be writing packages."""
        environment = {
            **os.environ,
            "LC_ALL": "C",
            "DEBIAN_FRONTEND": "noninteractive",
            "NEEDRESTART_SUSPEND": "1",
            "PATH": f"{os.environ.get('PATH', '')}:{DIRECTORIES}",
        }
        program = shutil.which(argv[0], path=environment["PATH"])
        if program is None:
            return 127, f"{argv[0]} is not on this host"
        child = self.start(
            (program, *argv[1:]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        try:
            output = child.communicate(timeout=self.seconds)[0]
        except subprocess.TimeoutExpired:
            raise VllmError(
                f"'{' '.join(argv[:2])}' (process {child.pid}) was not done after {self.seconds:.0f} s. It was left "
                "running: run this again when it has ended, or with a larger timeout.",
                "install-failed",
            ) from None
        return child.returncode, output.decode("utf-8", "replace")


def _last(output: str) -> str:
    """The last line that a program printed."""
    return (output.strip().splitlines() or ["it printed nothing"])[-1].strip().rstrip(".")


def explained(step: Step, argv: t.Sequence[str], status: int, output: str) -> ProgramError:
    """A command that failed, in words."""
    lines = [redact(line.rstrip()) for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if FAULT.match(line)] or lines[-1:]
    said = f" It said: {errors[0].strip().rstrip('.')}." if errors else ""
    for one in EXPLANATIONS:
        if found := re.search(one.pattern, output):
            who = found.groupdict().get("who")
            sentence = one.sentence.format(who=f" (process {who})" if who else "", seconds=LOCK_SECONDS)
            return ProgramError(f"Cannot {step.words()}. {sentence}.{said}", one.reason, lines[-TAIL_LINES:])
    return ProgramError(
        f"Cannot {step.words()}: '{' '.join(argv[:2])}' ended with exit status {status}.{said} What was done stays, "
        "and the next run continues from there.",
        "install-failed",
        lines[-TAIL_LINES:],
    )
