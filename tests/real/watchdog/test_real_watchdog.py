# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real vLLM on the CPU whose engine is stopped from idle, stopped under load, and killed, under the watchdog as it is.

Each is seen within the promise, a post-mortem is written, and the server answers again. The seconds are printed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
import typing as t
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "tests/rig/hosts"))
from little_engine import ADDRESS, Container  # noqa: E402
from test_standin import free_port  # noqa: E402
from watched import Watched, ask, load  # noqa: E402

FOUND_WITHIN = 150.0
NAME = "real"
MODEL = str(ROOT / ".cache/demo/model")
COMMAND = (str(ROOT / ".cache/watchdog/venv/bin/vllm"), "serve", MODEL, "--served-model-name", "gpt-oss-demo")
OPTIONS = ("--max-model-len", "1024", "--max-num-seqs", "4", "--dtype", "bfloat16", "--enforce-eager")
VARIABLES = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "TIKTOKEN_ENCODINGS_BASE": str(ROOT / ".cache/demo/encodings-source"),
    "LD_LIBRARY_PATH": str(ROOT / ".cache/service/python/lib"),
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
}
# What a start takes on a machine that does something else, too.
START = 300.0


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Watched]:
    made = Watched.over(tmp_path_factory.mktemp("watchdog"))
    try:
        (made.directory / NAME).mkdir()
        environment = {**VARIABLES, "HOME": str(made.directory)}
        served = Container(NAME, free_port(), made.directory / NAME, command=(*COMMAND, *OPTIONS, *ADDRESS))
        served.environment = environment
        made.add(served, "gpt-oss-demo")
        made.begin({})
        assert made.until(lambda: made.server(NAME).get("status") == "serving", START), served.log.read_text()[-3000:]
        yield made
    finally:
        made.end()


def engine_of(container: Container) -> int:
    """The process of the engine, below that of the API server."""
    assert container.process is not None
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    for pid in pids:
        with contextlib.suppress(OSError):
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
            name, _close, rest = stat.partition("(")[2].rpartition(")")
            if name.startswith("VLLM::EngineCor") and os.getpgid(pid) == container.process.pid:
                return pid
    raise AssertionError("there is no engine")


@pytest.mark.parametrize(
    ("number", "loaded", "event", "within"),
    [
        pytest.param(signal.SIGSTOP, False, "hung", FOUND_WITHIN, id="stopped from idle"),
        pytest.param(signal.SIGSTOP, True, "hung", FOUND_WITHIN, id="stopped under load"),
        pytest.param(signal.SIGKILL, True, "crash", 60.0, id="killed under load"),
    ],
)
def test_an_engine(watched: Watched, number: int, loaded: bool, event: str, within: float) -> None:
    container, over = watched.engine.containers[NAME], threading.Event()
    before = watched.server(NAME)["restarts"]
    if loaded:
        load(container, over)
        watched.until(lambda: False, 10)
    began = watched.began[NAME] = time.monotonic()
    os.kill(engine_of(container), number)
    times = [at for at, _one in watched.notices]

    def told(what: str) -> bool:
        return any(at >= began and one["event"] == what for at, one in watched.notices[len(times) :])

    assert watched.until(lambda: told(event), within + 10), watched.server(NAME)
    seen = watched.first(NAME, event)
    assert watched.until(lambda: told("serving"), START), watched.server(NAME)
    again = watched.first(NAME, "serving")
    over.set()
    print(f"\nseen after {seen:.0f} s, answers again after {again:.0f} s: {watched.server(NAME)['cause']}")
    assert seen <= within
    assert watched.server(NAME)["restarts"] - before == (1 if event == "hung" else 0)
    assert "Application startup complete" in Path(watched.server(NAME)["post_mortem"]).read_text(encoding="utf-8")
    ask(container, timeout=60.0)
