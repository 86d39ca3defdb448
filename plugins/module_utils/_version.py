# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The version of the collection, for what is shipped to hosts, where galaxy.yml is not."""

from __future__ import annotations

# Recorded on each server, never part of its fingerprint: an upgrade of the collection restarts nothing.
COLLECTION_VERSION = "0.1.0"
