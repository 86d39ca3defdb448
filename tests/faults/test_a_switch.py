# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whatever happens at whatever step of a switch: a server answers, and the next run gets there."""

from __future__ import annotations

import concurrent.futures

import pytest
from simulated import CONTAINER, SERVICE
from switch import (
    ACROSS,
    BOTH,
    BY_CONTAINER,
    BY_SERVICE,
    CONTROLLER,
    DISK,
    FAILS,
    HANGS,
    RESTARTS,
    TAKEN,
    Case,
    Line,
    Row,
    cases,
)

CUT = "the Docker Engine ended or was restarted meanwhile"
LATE = {CONTAINER: "The Docker Engine did not answer in time", SERVICE: "did not end within"}
NOTHING_LISTENS = {CONTAINER: "nothing listens behind the port yet", SERVICE: "nothing listens there yet"}
NO_KERNEL = "RuntimeError: CUDA error: no kernel image is available for execution on the device"
SLOW = {"fault": "slow-load", "seconds": 4}
STUCK = {"fault": "hang-in-load"}

# What they answer to a call that fails.
IO_ERROR = "open /var/lib/docker/containers: input/output error"
NO_BUS = "Failed to connect to system scope bus via local transport: Connection refused"
SILENT = {CONTAINER: "containerd is not responding", SERVICE: NO_BUS}
NO_GPU = {
    CONTAINER: 'could not select device driver "" with capabilities: [[gpu]]',
    SERVICE: "Job failed because the control process exited with error code.",
}
NO_STOP = {
    CONTAINER: "tried to kill container, but did not receive an exit event",
    SERVICE: "Failed to stop the unit: Connection timed out",
}
NO_START = {
    CONTAINER: "OCI runtime create failed: nvidia-container-cli: initialization error: driver error",
    SERVICE: "Job failed because of unavailable resources or another system error.",
}
BUSY = {
    CONTAINER: "driver overlay2 failed to remove root filesystem: device or resource busy",
    SERVICE: "Failed to disable the unit: Read-only file system",
}

CONTAINERS, SERVICES = (BY_CONTAINER,), (BY_SERVICE,)
ROWS = [
    Row("preflight", FAILS, answer=SILENT),
    Row("preflight", HANGS, LATE),
    Row("preflight", CONTROLLER),
    Row("preflight", BOTH),
    Row("preflight", RESTARTS, CUT, on=CONTAINERS),
    Row("preflight", TAKEN, "Port 8001 is taken by python3"),
    Row("prepare", DISK, "No space left on device"),
    Row("pull", FAILS, answer="toomanyrequests: You have reached your pull rate limit.", on=CONTAINERS),
    Row("pull", CONTROLLER, serves="new", on=CONTAINERS),
    Row("pull", BOTH, on=CONTAINERS),
    Row("pull", RESTARTS, CUT, on=CONTAINERS),
    Row("pull", DISK, "no space left on device", on=CONTAINERS),
    Row(
        "fetch",
        FAILS,
        {CONTAINER: "Its last line says", SERVICE: "It logged:"},
        stand_in={"fault": "fetch-fails"},
    ),
    Row("fetch", CONTROLLER, serves="new"),
    Row("fetch", BOTH),
    Row("fetch", RESTARTS, CUT, on=CONTAINERS),
    Row("fetch", DISK, "No space left on device"),
    Row("create", FAILS, answer={CONTAINER: IO_ERROR, SERVICE: "Failed to connect to bus: Connection refused"}),
    Row("create", HANGS, LATE),
    Row("create", CONTROLLER, serves="new"),
    Row("create", BOTH),
    Row("create", DISK, {CONTAINER: "no space left on device", SERVICE: "No space left on device"}),
    Row("create", RESTARTS, CUT, on=CONTAINERS),
    Row("try", FAILS, answer=NO_GPU),
    Row("try", HANGS, LATE),
    Row("try", CONTROLLER, serves="new", back=True),
    Row("try", BOTH),
    Row("try", RESTARTS, CUT, on=CONTAINERS),
    Row("disable", FAILS, answer=BUSY[SERVICE], on=SERVICES),
    Row("disable", BOTH, on=SERVICES),
    Row("disable", BOTH, back=True, on=SERVICES),
    Row("stop", FAILS, answer=NO_STOP),
    Row("stop", HANGS, LATE),
    Row("stop", CONTROLLER, serves="new"),
    Row("stop", BOTH),
    Row("stop", RESTARTS, CUT, on=CONTAINERS),
    Row("set aside", FAILS, answer={CONTAINER: IO_ERROR, SERVICE: BUSY[SERVICE]}),
    Row("set aside", HANGS, LATE),
    Row("set aside", CONTROLLER, serves="new"),
    Row("set aside", BOTH, serves="none"),
    Row("set aside", BOTH, serves="none", back=True),
    Row("set aside", RESTARTS, CUT, on=CONTAINERS),
    Row("rename", FAILS, answer=IO_ERROR, on=CONTAINERS),
    Row("rename", CONTROLLER, serves="new", back=True, on=CONTAINERS),
    Row("rename", BOTH, serves="none", on=CONTAINERS),
    Row("rename", BOTH, serves="none", back=True, on=CONTAINERS),
    Row("rename", RESTARTS, CUT, on=CONTAINERS),
    Row("reload", FAILS, answer=NO_BUS, on=SERVICES),
    Row("reload", HANGS, LATE, on=SERVICES),
    Row("reload", CONTROLLER, serves="new", on=SERVICES),
    Row("reload", BOTH, serves="none", on=SERVICES),
    Row("reload", BOTH, serves="none", back=True, on=SERVICES),
    Row("enable", FAILS, answer="Failed to enable the unit: Read-only file system", on=SERVICES),
    Row("enable", BOTH, serves="none", on=SERVICES),
    Row("start", FAILS, answer=NO_START),
    Row("start", HANGS, LATE, serves="new"),
    Row("start", CONTROLLER, serves="new"),
    Row("start", BOTH, serves="none"),
    Row("start", BOTH, serves="none", back=True),
    Row("start", RESTARTS, CUT, on=CONTAINERS),
    Row(
        "start",
        TAKEN,
        "Port 8000 is taken by",
        serves={CONTAINER: "none", SERVICE: "old"},
    ),
    Row("read back", FAILS, {CONTAINER: "", SERVICE: NO_BUS}, serves="new", answer=SILENT),
    Row("read back", CONTROLLER, serves="new"),
    Row("read back", BOTH, serves="new", back=True),
    Row("read back", RESTARTS, says="", serves="new", on=CONTAINERS),
    Row("warm-up", FAILS, "no kernel image", stand_in={"fault": "exit-at-once", "message": NO_KERNEL}),
    Row("warm-up", HANGS, NOTHING_LISTENS, stand_in=STUCK),
    Row("warm-up", CONTROLLER, serves="new", stand_in=SLOW),
    Row("warm-up", BOTH, serves="new", stand_in=SLOW, back=True),
    Row(
        "warm-up",
        DISK,
        "[Errno 28] No space left on device",
        stand_in={"fault": "exit-at-once", "message": "OSError: [Errno 28] No space left on device"},
    ),
    Row("warm-up", RESTARTS, CUT, stand_in=SLOW, on=CONTAINERS),
    Row("health", FAILS, "HTTP 500", stand_in={"fault": "health-500"}),
    Row("health", FAILS, "one token repeated", stand_in={"fault": "repeated-token"}),
    Row("health", FAILS, "neither content nor reasoning", stand_in={"fault": "null-content"}),
    Row("health", FAILS, "some-other-model", stand_in={"fault": "wrong-model-name"}),
    Row("health", FAILS, "CUDA error", stand_in={"fault": "die-on-first-completion"}),
    Row("health", HANGS, "completion: no answer in time", stand_in={"fault": "hang-completion"}),
    Row("commit", FAILS, answer=BUSY, serves="new"),
    Row("commit", HANGS, LATE, serves="new"),
    Row("commit", CONTROLLER, serves="new"),
    Row("commit", BOTH, serves="new"),
    Row("commit", BOTH, serves="new", back=True),
    Row("commit", RESTARTS, CUT, serves="new", on=CONTAINERS),
    Row("way back: stop", FAILS, answer=NO_STOP, stand_in=STUCK, serves="none", back=True),
    Row("way back: stop", BOTH, stand_in=STUCK, serves="none", back=True),
    Row("way back: start", FAILS, answer=NO_START, stand_in=STUCK, serves="none", back=True),
    Row("way back: start", CONTROLLER, stand_in=STUCK, back=True),
    Row("way back: start", BOTH, stand_in=STUCK, serves="none", back=True),
]

# The most telling of them where a service replaces a container of the same name, or the other way round.
ROWS_ACROSS = [
    Row("stop", FAILS, answer=NO_STOP, on=ACROSS),
    Row("stop", BOTH, on=ACROSS),
    Row("start", FAILS, answer=NO_START, on=ACROSS),
    Row("start", CONTROLLER, serves="new", on=ACROSS),
    Row("start", BOTH, serves="none", on=ACROSS),
    Row("start", BOTH, serves="none", back=True, on=ACROSS),
    Row("warm-up", FAILS, "no kernel image", stand_in={"fault": "exit-at-once", "message": NO_KERNEL}, on=ACROSS),
    Row("commit", BOTH, serves="new", on=ACROSS),
    Row("way back: start", BOTH, stand_in=STUCK, serves="none", back=True, on=ACROSS),
]
CASES = cases([*ROWS, *ROWS_ACROSS])


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_server_answers_and_the_next_run_gets_there(
    case: Case, played: dict[str, concurrent.futures.Future[Line]]
) -> None:
    played[case.name].result()
