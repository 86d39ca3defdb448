# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real Docker Engine, and images of a few programs of this machine. All that is made is called gpufleet-unit-..."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import threading
import types
import typing as t
import uuid
import warnings
from pathlib import Path

import docker
import docker.errors
import pytest
from engine_host import ULIMITS, Host, Registry
from free_ports import free_ports

PREFIX = "gpufleet-unit-"
# Stands in for vLLM: tells how it was called, does what its variable `first` says, and runs until it is told to stop.
STAND_IN = b"""#!/bin/sh
echo "called as: $*"
eval "$first"
trap 'exit 0' TERM
while :; do sleep 1000 & wait $!; done
"""


# Stands in for the Python of an image: does not tell the version of vLLM, and when it is asked for a model, puts one into
# the cache that whoever runs the tests may delete.
FETCHES = b"""#!/bin/sh
[ "$3" ] || exit 1
umask 0
echo "fetching $3 with $(cat "$HF_TOKEN_PATH")"
[ "$3" != none ] || { echo "RepositoryNotFoundError: 404 Client Error."; exit 1; }
sleep "${seconds:-0}"
repository=/root/.cache/huggingface/hub/models--$3
mkdir -p $repository/refs $repository/snapshots/0
printf 0 > $repository/refs/main
printf {} > $repository/snapshots/0/config.json
printf '%b' 'WEIGHTS' > $repository/snapshots/0/model.safetensors
"""


def weights() -> bytes:
    """The smallest safetensors file, as printf takes it."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}).encode()
    return b"".join(b"\\0%03o" % byte for byte in len(header).to_bytes(8, "little") + header + b"1")


def root_file_system(
    programs: t.Iterable[str], vllm: bool, others: t.Mapping[str, bytes] = types.MappingProxyType({})
) -> bytes:
    """Programs of this machine with the libraries they need."""
    files = {**others, **({"/bin/vllm": STAND_IN} if vllm else {})}
    for program in programs:
        path = os.path.realpath(str(shutil.which(program)))
        listed = subprocess.run(["ldd", path], capture_output=True, text=True, check=False).stdout
        libraries = re.findall(r"(?:=> |^\t)(/\S+) \(", listed, re.MULTILINE)
        files.update({f"/bin/{program}": Path(path).read_bytes(), **{one: Path(one).read_bytes() for one in libraries}})
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name.lstrip("/"))
            info.mode, info.size = 0o755, len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def forgotten_connections() -> t.Iterator[None]:
    """Modules end with their process and close nothing: here that happens before the next test is watched for it."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="session")
def engine() -> t.Iterator[t.Any]:
    try:
        client = docker.from_env(version="auto").api
    except docker.errors.DockerException as error:
        pytest.fail(
            f"These tests ask a Docker Engine, and there is none ({error}): tests/rig/docker-engine starts one."
        )
    yield client
    client.close()


def imported(engine: t.Any, tag: str, file_system: bytes, changes: t.Sequence[str]) -> t.Iterator[str]:
    repository, tag = f"{PREFIX}image", f"{tag}-{os.getpid()}"
    engine.import_image_from_data(file_system, repository=repository, tag=tag, changes=["ENV PATH=/bin", *changes])
    yield f"{repository}:{tag}"
    engine.remove_image(f"{repository}:{tag}", force=True)


@pytest.fixture(scope="session")
def image(engine: t.Any) -> t.Iterator[str]:
    """An image without an entrypoint."""
    yield from imported(engine, "plain", root_file_system(("sh", "sleep", "true", "cat"), vllm=True), [])


@pytest.fixture(scope="session")
def serving_image(engine: t.Any) -> t.Iterator[str]:
    """An image that is vLLM itself, as newer official ones are."""
    entrypoint = 'ENTRYPOINT ["vllm", "serve"]'
    yield from imported(engine, "serves", root_file_system(("sh", "sleep", "cat"), vllm=True), [entrypoint])


@pytest.fixture(scope="session")
def wrong_image(engine: t.Any) -> t.Iterator[str]:
    """An image without vLLM: its trial passes, and its start fails."""
    yield from imported(engine, "wrong", root_file_system(("sh", "true"), vllm=False), [])


@pytest.fixture(scope="session")
def fetching_image(engine: t.Any) -> t.Iterator[str]:
    """An image that can fetch weights."""
    programs = ("sh", "sleep", "true", "cat", "mkdir")
    python = {"/bin/python3": FETCHES.replace(b"WEIGHTS", weights())}
    yield from imported(engine, "fetches", root_file_system(programs, vllm=True, others=python), [])


@pytest.fixture
def host(engine: t.Any, image: str) -> t.Iterator[Host]:
    yield from served(engine, image, "a", free_ports()[0])


@pytest.fixture
def other(engine: t.Any, image: str, host: Host) -> t.Iterator[Host]:
    """Another server on the port of the first."""
    yield from served(engine, image, "b", host.said["port"])


def served(engine: t.Any, image: str, server: str, port: int) -> t.Iterator[Host]:
    name = f"{PREFIX}{uuid.uuid4().hex[:8]}"
    said = {
        "name": server,
        "container_name": name,
        "model": "m",
        "image": image,
        "gpus": "none",
        "ipc_mode": "private",
        "ulimits": ULIMITS,
        "port": port,
        "stop_timeout": 5,
        "pull": "never",
    }
    made = Host(engine, name, said)
    yield made
    for one in made.containers():
        engine.remove_container(one, force=True)
    for volume in made.volumes():
        engine.remove_volume(volume, force=True)
    made.forgotten()


@pytest.fixture
def registry(engine: t.Any, host: Host) -> t.Iterator[Registry]:
    """Its images are removed when the test is over: the containers of the host go first."""
    made = Registry(root_file_system(("sh", "sleep", "true", "cat"), vllm=True))
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    for name in host.containers():
        engine.remove_container(name, force=True)
    for one in engine.images():
        for reference in [*(one["RepoTags"] or ()), *(one["RepoDigests"] or ())]:
            if reference.startswith(made.address):
                with contextlib.suppress(docker.errors.ImageNotFound):
                    engine.remove_image(reference, force=True)
    made.server.shutdown()
    thread.join()
    made.server.server_close()
