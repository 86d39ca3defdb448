# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The labels by which the collection knows its own containers and volumes again, and what they record."""

from __future__ import annotations

from .._host import labels

# Recorded beside each server, never part of its fingerprint: an upgrade of the collection restarts nothing.
COLLECTION_VERSION = "0.1.0"

LABEL_SPEC = labels.LABEL_SPEC
LABEL_FINGERPRINT = labels.LABEL_FINGERPRINT
LABEL_VERSION = "gpufleet.vllm.version"
# JSON list of the secret files that were written for the server, so that they go when it goes.
LABEL_WROTE = "gpufleet.vllm.wrote"
# The version of vLLM in the container's image, so that it is looked up once.
LABEL_VLLM_VERSION = "gpufleet.vllm.vllm_version"
UNKNOWN_VERSION = "unknown"
# JSON list of the ids of the containers that ran before the server, and that were stopped for it.
LABEL_SUPERSEDES = "gpufleet.vllm.supersedes"
# JSON of the fallbacks that were taken, and of what they were taken from.
LABEL_FALLBACKS = "gpufleet.vllm.fallbacks"
# On a volume that holds caches: the container name of the server they belong to.
LABEL_CACHE = "gpufleet.vllm.cache"
# On the container of a download: the model that it fetches.
LABEL_FETCH = "gpufleet.vllm.fetch"
FETCH_SUFFIX = "-fetch"
