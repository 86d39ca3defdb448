# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: model_cache_peers
short_description: Decide from which other host each host of a play fetches its models and images
version_added: 0.1.0
author:
  - gpufleet contributors (@gpufleet)
description:
  - For role P(gpufleet.vllm.model_cache#role) with C(peer_address).
  - One host with the image, or else the first of the play, is the head of the only chain for an image, since each
    engine would write another archive of it.
  - Hosts with a complete model are the heads of chains, in which each host fetches from the one before it. When
    none has it, the first host of the play fetches it from the source.
positional: _input, hosts, host, updates, images
options:
  _input:
    description:
      - The variables of each host, C(hostvars).
      - Read are C(__model_cache_here) with C(address) and C(port), C(__model_cache_token), and what the role
        registered as C(__model_cache_looked) and C(__model_cache_asked), for images as C(__model_cache_images_looked)
        and C(__model_cache_images_had). A host without the first takes no part.
    type: dict
    required: true
  hosts:
    description:
      - The names of the hosts of the play, in its order.
    type: list
    elements: str
    required: true
  host:
    description:
      - The host that the answer is for.
    type: str
    required: true
  updates:
    description:
      - Whether to ask the source for the current commits of the branches, even if a host has the models.
    type: bool
    default: false
  images:
    description:
      - Whether the answer is for images instead of models.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Show where a host fetches its first model from
  ansible.builtin.debug:
    msg: "{{ (hostvars | gpufleet.vllm.model_cache_peers(ansible_play_batch, 'gb10-3')).0.peer.sources }}"
# => ["http://10.0.0.12:8790", "http://10.0.0.11:8790"]
"""

RETURN = r"""
_value:
  description:
    - For each model of the host, in order, none for one that is to be removed, or else C(asks), whether this host
      has to ask the source what the model consists of, and C(peer), the option of M(gpufleet.vllm.model_cache).
    - For each image of the host, in order, C(first), whether this is the host that the others have it from, C(fetches),
      whether it is one of those, and C(peer), the option of M(gpufleet.vllm.model_cache_image).
  type: list
"""

import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._filter_values import plain, require_mapping
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._peers import host_of, image_peers_of, peers_of


def model_cache_peers(
    variables: t.Any, hosts: t.Any, host: str, updates: bool = False, images: bool = False
) -> list[dict[str, t.Any] | None]:
    """Where a host fetches its models from, or its images."""
    require_mapping("model_cache_peers: the input", variables)
    known = [host_of(str(name), variables[name]) for name in hosts if variables[name].get("__model_cache_here")]
    if str(host) not in [one.name for one in known]:
        raise AnsibleFilterError(f"model_cache_peers: {host} is not one of the hosts that share models.")
    answers = image_peers_of if images else peers_of
    return t.cast("list[dict[str, t.Any] | None]", plain(answers(known, str(host), bool(updates))))


class FilterModule:
    """Offers the filter to Ansible."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """The filter by its name."""
        return {"model_cache_peers": model_cache_peers}
