# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The version of the collection, and the labels that tell its containers from any other."""

from __future__ import annotations

# Recorded beside each server, never part of its fingerprint: an upgrade of the collection restarts nothing.
COLLECTION_VERSION = "0.1.0"

LABEL_SPEC = "gpufleet.vllm.spec"
LABEL_FINGERPRINT = "gpufleet.vllm.fingerprint"
