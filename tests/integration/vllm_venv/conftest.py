# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""For each test a user with a home of his own, and both installers."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from environments import FOREIGN, User, wheels


@pytest.fixture
def user(tmp_path: Path) -> User:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    home = tmp_path / "home"
    (home / "state").mkdir(parents=True)
    environment = {
        **kept,
        "HOME": str(home),
        "XDG_STATE_HOME": str(home / "state"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PIP_CONFIG_FILE": os.devnull,
        "PYTHONWARNINGS": "ignore",
    }
    wheels.vllm(home / "wheels", "0.26.0")
    # A tenth of what the real wheels need: these are small.
    return User(home, environment, {"python": sys.executable, "installer": "uv", "min_free_gib": 1.5})
