# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The hosts, on which rows run side by side: a test waits for its row's turn to end, and judges it."""

from __future__ import annotations

import concurrent.futures
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import typing as t
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
# What they find is told as pytest tells it.
pytest.register_assert_rewrite("simulated", "switch")

from simulated import ROOT, TOKEN, Host  # noqa: E402
from switch import Case, Line  # noqa: E402

# So many work, and the others wait for clients to lose their patience.
WORKING, WAITING = 3, 2
# Written as it goes: pytest says nothing before it is a case's turn.
LOG = ROOT / ".cache/faults/rows.log"
# What was seen, by the names of the cases: a run of some of them leaves the others as they are.
SEEN = ROOT / ".cache/faults/seen.json"


@pytest.fixture(scope="session")
def scratch() -> t.Iterator[Path]:
    # Short: the path of a socket may have 108 characters.
    path = Path(tempfile.mkdtemp(prefix="gpufleet-faults-", dir="/tmp"))
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "faults", "-f", str(path / "key")], check=True)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def lanes(request: pytest.FixtureRequest, scratch: Path) -> t.Iterator[list[tuple[Host, list[Case]]]]:
    """The hosts that are needed, each with its cases; a host that changes what runs its servers begins from nothing."""
    items = [getattr(item, "callspec", None) for item in request.session.items]
    found = [item.params["case"] for item in items if item and "case" in item.params]
    cases = sorted(found, key=lambda case: (case.ways.beside, not case.ways.beside and case.ways.old))
    waiting = [case for case in cases if case.row.waits]
    working = [case for case in cases if not case.row.waits]
    shares = [waiting[n::WAITING] for n in range(WAITING)] + [working[n::WORKING] for n in range(WORKING)]
    env = {
        "HF_TOKEN": TOKEN,
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_HOST_KEY_CHECKING": "false",
        "ANSIBLE_HOME": str(scratch / "ansible"),
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(scratch / "cp"),
    }
    hosts = [
        (Host(f"gpufleet-faults-{number}", scratch / "key", env), share)
        for number, share in enumerate(filter(None, shares), 1)
    ]
    for host, _share in hosts:
        host.up()
    yield hosts
    for host, _share in hosts:
        host.down()


@pytest.fixture(scope="session")
def played(
    lanes: list[tuple[Host, list[Case]]], report: dict[str, Line]
) -> t.Iterator[dict[str, concurrent.futures.Future[Line]]]:
    """Every case that was asked for, at work or to come, by its name."""
    futures = {case.name: concurrent.futures.Future[Line]() for _host, share in lanes for case in share}

    LOG.parent.mkdir(parents=True, exist_ok=True)
    log = LOG.open("w")
    over = threading.Event()

    def work(host: Host, share: list[Case]) -> None:
        for case in share:
            if over.is_set():
                futures[case.name].cancel()
                continue
            began = time.monotonic()
            try:
                futures[case.name].set_result(case.row.play(host, case.ways))
                report[case.name] = futures[case.name].result()
            except BaseException as error:
                report.pop(case.name, None)
                host.reset()
                futures[case.name].set_exception(error)
            failed = futures[case.name].exception()
            seconds = f"{time.monotonic() - began:5.1f} s"
            print(host.name, seconds, case.name, failed or futures[case.name].result(), sep="  ", file=log, flush=True)

    with concurrent.futures.ThreadPoolExecutor(len(lanes)) as pool:
        for host, share in lanes:
            pool.submit(work, host, share)
        yield futures
        over.set()
    log.close()


@pytest.fixture(scope="session")
def report() -> t.Iterator[dict[str, Line]]:
    """What was seen so far, by the names of the cases; of one that fails now, what was seen before is no more true."""
    before = json.loads(SEEN.read_text("utf-8")) if SEEN.exists() else {}
    seen = {name: Line(*cells) for name, cells in before.items()}
    yield seen
    SEEN.parent.mkdir(parents=True, exist_ok=True)
    SEEN.write_text(json.dumps(seen, indent=1) + "\n", "utf-8")
