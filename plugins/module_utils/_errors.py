# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!

"""The one exception of the core. main() and the filters turn it into a failure the user reads."""

from __future__ import annotations


class VllmError(Exception):
    """A foreseeable fault, told as a sentence: what was attempted, on what, what was seen, what to change."""
