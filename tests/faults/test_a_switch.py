# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whatever happens at whatever step of a switch: a server answers, and the next run gets there."""

from __future__ import annotations

import concurrent.futures

import pytest
from switch import BOTH, CONTROLLER, DISK, FAILS, HANGS, RESTARTS, TAKEN, Line, Row

CUT = "the Docker Engine ended or was restarted meanwhile"
LATE = "The Docker Engine did not answer in time"
NO_KERNEL = "RuntimeError: CUDA error: no kernel image is available for execution on the device"
SLOW = {"fault": "slow-load", "seconds": 4}

ROWS = [
    Row("preflight", FAILS, "containerd is not responding", docker="containerd is not responding"),
    Row("preflight", HANGS, LATE),
    Row("preflight", CONTROLLER),
    Row("preflight", BOTH),
    Row("preflight", RESTARTS, CUT),
    Row("preflight", TAKEN, "Port 8001 is taken by python3"),
    Row("prepare", DISK, "No space left on device"),
    Row("pull", FAILS, "toomanyrequests", docker="toomanyrequests: You have reached your pull rate limit."),
    Row("pull", CONTROLLER, serves="new"),
    Row("pull", BOTH),
    Row("pull", RESTARTS, CUT),
    Row("pull", DISK, "no space left on device"),
    Row("fetch", FAILS, "Its last line says", stand_in={"fault": "fetch-fails"}),
    Row("fetch", CONTROLLER, serves="new"),
    Row("fetch", BOTH),
    Row("fetch", RESTARTS, CUT),
    Row("fetch", DISK, "No space left on device"),
    Row("create", FAILS, "input/output error", docker="open /var/lib/docker/containers: input/output error"),
    Row("create", HANGS, LATE),
    Row("create", CONTROLLER, serves="new"),
    Row("create", BOTH),
    Row("create", DISK, "no space left on device"),
    Row("create", RESTARTS, CUT),
    Row(
        "try",
        FAILS,
        "could not select device driver",
        docker='could not select device driver "" with capabilities: [[gpu]]',
    ),
    Row("try", HANGS, LATE),
    Row("try", CONTROLLER, serves="new", back=True),
    Row("try", BOTH),
    Row("try", RESTARTS, CUT),
    Row(
        "stop",
        FAILS,
        "did not receive an exit event",
        docker="tried to kill container, but did not receive an exit event",
    ),
    Row("stop", HANGS, LATE),
    Row("stop", CONTROLLER, serves="new"),
    Row("stop", BOTH),
    Row("stop", RESTARTS, CUT),
    Row("set aside", FAILS, "input/output error", docker="open /var/lib/docker/containers: input/output error"),
    Row("set aside", HANGS, LATE),
    Row("set aside", CONTROLLER, serves="new"),
    Row("set aside", BOTH, serves="none"),
    Row("set aside", BOTH, serves="none", back=True),
    Row("set aside", RESTARTS, CUT),
    Row("rename", FAILS, "input/output error", docker="open /var/lib/docker/containers: input/output error"),
    Row("rename", CONTROLLER, serves="new", back=True),
    Row("rename", BOTH, serves="none"),
    Row("rename", BOTH, serves="none", back=True),
    Row("rename", RESTARTS, CUT),
    Row(
        "start",
        FAILS,
        "nvidia-container-cli",
        docker="OCI runtime create failed: nvidia-container-cli: initialization error: driver error",
    ),
    Row("start", HANGS, LATE, serves="new"),
    Row("start", CONTROLLER, serves="new"),
    Row("start", BOTH, serves="none"),
    Row("start", BOTH, serves="none", back=True),
    Row("start", RESTARTS, CUT),
    Row("start", TAKEN, "Port 8000 is taken by", serves="none"),
    Row("read back", FAILS, serves="new", docker="containerd is not responding"),
    Row("read back", CONTROLLER, serves="new"),
    Row("read back", BOTH, serves="new", back=True),
    Row("read back", RESTARTS, serves="new"),
    Row("warm-up", FAILS, "no kernel image", stand_in={"fault": "exit-at-once", "message": NO_KERNEL}),
    Row("warm-up", HANGS, "nothing listens behind the port yet", stand_in={"fault": "hang-in-load"}),
    Row("warm-up", CONTROLLER, serves="new", stand_in=SLOW),
    Row("warm-up", BOTH, serves="new", stand_in=SLOW, back=True),
    Row(
        "warm-up",
        DISK,
        "[Errno 28] No space left on device",
        stand_in={"fault": "exit-at-once", "message": "OSError: [Errno 28] No space left on device"},
    ),
    Row("warm-up", RESTARTS, CUT, stand_in=SLOW),
    Row("health", FAILS, "HTTP 500", stand_in={"fault": "health-500"}),
    Row("health", FAILS, "one token repeated", stand_in={"fault": "repeated-token"}),
    Row("health", FAILS, "neither content nor reasoning", stand_in={"fault": "null-content"}),
    Row("health", FAILS, "some-other-model", stand_in={"fault": "wrong-model-name"}),
    Row("health", FAILS, "CUDA error", stand_in={"fault": "die-on-first-completion"}),
    Row("health", HANGS, "completion: no answer in time", stand_in={"fault": "hang-completion"}),
    Row(
        "commit",
        FAILS,
        "failed to remove root filesystem",
        serves="new",
        docker="driver overlay2 failed to remove root filesystem: device or resource busy",
    ),
    Row("commit", HANGS, LATE, serves="new"),
    Row("commit", CONTROLLER, serves="new"),
    Row("commit", BOTH, serves="new"),
    Row("commit", BOTH, serves="new", back=True),
    Row("commit", RESTARTS, CUT, serves="new"),
]


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_a_server_answers_and_the_next_run_gets_there(
    row: Row, played: dict[str, concurrent.futures.Future[Line]], report: dict[str, Line]
) -> None:
    report[row.name] = played[row.name].result()
