# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which line of a log begins which phase of a start, and which shows that it gets on. Pure.

No pattern is compiled before a log is read: the controller imports this for words alone.
"""

from __future__ import annotations

import functools
import re

# ---------------------------------------------------------------------------------------------------------------------
# Which line begins which phase
# ---------------------------------------------------------------------------------------------------------------------

# The last line of a start; and what only a server writes that was ready: the answer to a request, and how fast it
# generates.
READY = r"Application startup complete"
SERVING = r"\"(?:GET|POST|HEAD) /\S* HTTP/[\d.]+\" \d{3}|Avg generation throughput: "
# In the order of a start. A phase begins with a line that matches.
PHASES: tuple[tuple[str, str], ...] = (
    ("pull", r"^Unable to find image '|: Pulling from |^[0-9a-f]{12}: (?:Pulling|Downloading|Extracting)"),
    (
        "init",
        r"vLLM (?:API )?server version|^[^█]*█.*\bversion \d|^non-default args: |Initializing a V[01] LLM engine",
    ),
    (
        "download",
        r"^(?:Fetching \d+ files|Downloading shards|\S*\.safetensors|Downloading \S*\.safetensors):?\s.*\d%\|",
    ),
    (
        "load",
        r"^Starting to load model |^Loading model from scratch|^Loading (?:safetensors|pt|bin)\b.*\d% Completed"
        r"|^Loading \S+ using \S+ .*\d%|^Time spent downloading weights|^Loading weights took "
        r"|^Filesystem type for checkpoints",
    ),
    (
        "compile",
        r"^(?:\S+ )?(?:Using cache directory: .* for vLLM's torch\.compile|Dynamo bytecode transform time"
        r"|Compiling a graph for |Directly load the compiled graph)",
    ),
    (
        "profile",
        r"^(?:\S+ )?(?:Model loading took |torch\.compile t(?:akes|ook) |Initial profiling/warmup run took "
        r"|Profiling CUDA graph memory|Estimated CUDA graph memory|Available KV cache memory|Explicitly set \()"
        r"|KV cache size: [\d,]+ tokens",
    ),
    (
        "capture",
        r"^Capturing (?:the )?(?:model for )?(?:CUDA|cuda)\s?graph"
        r"|Torch profiler disabled for CUDA graph capture",
    ),
    (
        "server",
        r"^Graph capturing finished|^init engine \(profile, |^Starting vLLM (?:API )?server"
        r"|^Waiting for application startup|^Supported tasks: ",
    ),
    ("ready", READY),
)
ORDER = tuple(name for name, _pattern in PHASES)
# Words that appear in every line that begins a phase, so that most lines are decided without a look at each phase.
HINT = (
    r"CUDA graph|Pull|Unable to find|ownload|Fetching|version|args:|Initializing|Starting|Loading|loading|Checkpoint"
    r"|checkpoint|compile|Dynamo|Compiling|rofiling|Estimated|KV cache|Explicitly|Capturing|Graph|init engine|Waiting"
    r"|startup|Supported|safetensors|Extracting"
)
EARLY = {"init", "download", "load"}
BAR = r"(?P<percent>\d{1,3})%(?: Completed)?\s?\|(?:[^|]*\|)?\s*(?P<n>\d{1,9})/(?P<m>\d{1,9})(?:\s|\[|$)"
# Lines that a hanging server writes too.
IDLE = (
    r"No available shared memory broadcast block|\"(?:GET|POST|HEAD) /\S* HTTP/|Engine \d+: Avg prompt throughput"
    r"|Waiting for \d+ (?:local|core)|^\s*$"
)


@functools.lru_cache(maxsize=1)
def _compiled() -> tuple[tuple[str, re.Pattern[str]], ...]:
    """The last phase first: a line that could begin two begins the later one."""
    return tuple((name, re.compile(pattern)) for name, pattern in reversed(PHASES))


def begins(text: str) -> str | None:
    """The phase that a line begins or goes on with."""
    if not re.search(HINT, text):
        return None
    return next((name for name, pattern in _compiled() if pattern.search(text)), None)


def is_progress_bar(text: str) -> bool:
    """Whether a line is one state of a progress bar."""
    return re.search(BAR, text) is not None


def is_progress(text: str) -> bool:
    """Whether a line shows that the server gets on: not what it writes while it hangs."""
    return not re.search(IDLE, text)
