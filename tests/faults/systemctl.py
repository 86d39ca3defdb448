# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""In place of systemctl on a simulated host: ask held_calls.py what becomes of a call that speaks of our units."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time

REAL, SOCKET = "/usr/bin/systemctl", "/run/fault-systemctl.sock"
OF_ALL_UNITS = ("--version", "daemon-reload")


def decision(words: list[str]) -> dict[str, str]:
    if not any(word.startswith("vllm-") or word in OF_ALL_UNITS for word in words):
        return {"then": "forward"}
    with socket.socket(socket.AF_UNIX) as rig:
        try:
            rig.connect(SOCKET)
        except OSError:
            return {"then": "forward"}  # Nobody wants to know.
        said = {"call": " ".join(["systemctl", *words]), "pid": os.getppid()}
        rig.sendall(json.dumps(said).encode() + b"\n")
        with rig.makefile("rb") as answer:
            told: dict[str, str] = json.loads(answer.read())
            return told


def main() -> None:
    command = [REAL, *sys.argv[1:]]
    told = decision(sys.argv[1:])
    if told["then"] == "fail":
        sys.exit(told["message"])
    if told["then"] == "drop":
        sys.exit(1)
    if told["then"] == "hang":
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        # Until the caller gives up.
        time.sleep(3600)
    os.execv(REAL, command)


if __name__ == "__main__":
    main()
