# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""loud_fault.py FLAGS SECRET...: have servers with these flags fail, and log every secret that they have, and these."""

from __future__ import annotations

import json
import pathlib
import sys

own = [pathlib.Path("/etc/gpufleet", name).read_text() for name in ("hf_token", "api_key", "env")]
words = [line.partition("=")[2] if line[:1].isupper() else line for text in own for line in text.splitlines()]
lines = [f"\x1b[31m{word}\x1b[0m x" for word in [*words, *sys.argv[2:]]]
message = "\n".join(["\x1b]0;pwned\x07\x1b[2J\u202eValueError: the cause", *lines])
fault = {"fault": "exit-at-once", "message": message, "only_with": sys.argv[1]}
pathlib.Path("/srv/huggingface/standin.json").write_text(json.dumps(fault))
