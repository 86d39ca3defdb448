# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The version of the collection, and the labels of its containers."""

from __future__ import annotations

# Recorded, never part of a fingerprint: an upgrade restarts nothing.
COLLECTION_VERSION = "0.1.0"

LABEL_SPEC = "gpufleet.vllm.spec"
LABEL_FINGERPRINT = "gpufleet.vllm.fingerprint"
