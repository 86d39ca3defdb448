# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What vLLM says when it fails, what that means and what to change: one row for each failure, all versions since 0.8.

The rows stand in failures_*.py, by subject; this is the one list of them.
"""

from __future__ import annotations

from .failures_arguments import ARGUMENTS
from .failures_build import BUILD
from .failures_host import HOST
from .failures_limits import LIMITS
from .failures_memory import MEMORY
from .failures_model import MODEL
from .failures_process import PROCESS
from .failures_ranks import RANKS
from .signature import Signature

SIGNATURES: tuple[Signature, ...] = (*MEMORY, *MODEL, *ARGUMENTS, *LIMITS, *RANKS, *HOST, *BUILD, *PROCESS)

BY_ID: dict[str, Signature] = {signature.id: signature for signature in SIGNATURES}
# They say that something failed and not what: an exception beside them says more. The most telling first.
GENERIC = ("engine-dead", "thread-died", "engine-fatal", "engine-start-failed", "worker-init-failed", "ray-actor-died")
