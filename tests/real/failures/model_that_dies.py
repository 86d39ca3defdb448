"""The demo's model with a head_dim that vLLM's attention on CPUs lacks: it starts, is healthy, and dies of the first
completion. Usage, inside the demo's image, with tests/rig/cpu/model.py at /: model_that_dies.py O200K_BASE_FILE NEW_DIRECTORY
"""

from __future__ import annotations

import sys

sys.path.insert(0, "/")
import model

make_config = model.make_config


def make_config_that_dies() -> object:
    config = make_config()
    config.head_dim = 16
    return config


if __name__ == "__main__":
    model.make_config = make_config_that_dies
    model.main()
