# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The labels that tell a container of this collection from any other, for whoever lists containers."""

from __future__ import annotations

LABEL_SPEC = "gpufleet.vllm.spec"
LABEL_FINGERPRINT = "gpufleet.vllm.fingerprint"
