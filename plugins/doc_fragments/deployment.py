# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this doc fragment is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!

from __future__ import annotations


class ModuleDocFragment:
    """How a server is brought to its state, whatever runs it."""

    DOCUMENTATION = r"""
options:
  state:
    description:
      - V(present) makes the server but does not start it; V(started) also starts it. A running server keeps running
        with either.
      - V(stopped) stops it and V(absent) removes it. Neither needs more than the name, and neither touches weights,
        encodings or secrets.
      - V(committed) removes the servers that were replaced, if the new one runs, and remembers what vLLM measured when
        it started; V(reverted) puts them back in their places and starts those that ran.
    type: str
    choices: [present, started, stopped, absent, committed, reverted]
    default: started
  hf_token:
    description:
      - The Hugging Face token, to be written to O(hf_token_file). Never shown, logged or passed as an argument.
      - A server is compared without it, so another token restarts nothing.
    type: str
  api_key:
    description:
      - The API key, to be written to O(api_key_file). Never shown, logged or passed as an argument.
      - It must have 16 characters or more, since a shorter one can be guessed.
    type: str
  keep_hf_token:
    description:
      - Hand O(hf_token) over only to a file that holds nothing. A file that holds another token stays as it is, so that
        operators whose own tokens differ do not change it in turn.
    type: bool
    default: false
  alternative:
    description:
      - The description of the server for the other backend, from M(gpufleet.vllm.vllm_server). It is used if the server
        already runs there and the user set no backend. Not for playbooks.
    type: dict
  choice:
    description:
      - The settings that M(gpufleet.vllm.vllm_server) chose for a model without a description, or the facts that it
        needs to choose them. Not for playbooks.
    type: dict
  recreate:
    description:
      - Replace the container or unit even when nothing changed.
    type: bool
    default: false
  all:
    description:
      - With O(state=absent) or O(state=stopped), every server of this collection on the host instead of one.
    type: bool
    default: false
  purge:
    description:
      - With O(state=absent), also delete what is kept otherwise. V(weights) is the folder of the model in
        O(huggingface_dir), V(encodings) are the two vocabularies in O(encodings_dir), as recorded when the server was
        made. What another server or an unmanaged container uses, a home, a mount, and what a link in the cache
        leads to outside of it is kept, with a warning.
    type: list
    elements: str
    choices: [weights, encodings]
    default: []
  container_id:
    description:
      - Do nothing unless the server's container or unit has this identity, as RV(server.container_id) has it. A step
        of a run that another run has overtaken then fails instead of undoing what that one did.
    type: str
  replace_others:
    description:
      - Allow the server to replace other servers of this collection that cannot run at the same time. With V(false) the
        module reports them and changes nothing.
    type: bool
    default: true
  exclusive:
    description:
      - No other server of this collection can run on the host at the same time, whatever its port. Meant for hosts
        whose memory holds one model, such as a GB10.
    type: bool
    default: false
  fit:
    description:
      - What to do when vLLM would not start in the memory that is free, or would not have the KV cache for one request
        of C(max_model_len) tokens. V(enforce) fails before anything stops, V(warn) only warns, and V(off) skips the
        check. What a server that is about to stop holds counts as free.
    type: str
    choices: [enforce, warn, 'off']
    default: enforce
  architecture:
    description:
      - The numbers of the model that the KV cache follows from, C(layers_full), C(layers_sliding), C(sliding_window),
        C(num_key_value_heads), C(head_dim) and C(weights_gib), and those that P(gpufleet.vllm.vllm_fit#filter) takes
        besides. The catalogue has them. With C(weights_gib) alone, only the weights are compared with the memory.
      - C(experts) says how many experts a layer has, V(0) for a dense model, and only matters with data parallel.
      - Without them, they are read from C(config.json) and the sizes of the weights on the host.
    type: dict
  host_reserve_gib:
    description:
      - On unified memory (GB10), the memory that must stay free for the rest of the host, in GiB.
    type: float
    default: 8.0
  memory_timeout:
    description:
      - How many seconds the memory of a server that was stopped may take to come back, before the switch is given up.
    type: int
    default: 120
  fallbacks:
    description:
      - What to change when the server fails, a list. Each entry has C(causes), the diagnosis ids that lead to it, and
        C(change), the settings it changes over those of the fallbacks used before; C(because) explains it in the
        output.
      - When the server would not fit in GPU memory (O(fit=enforce)), the fallbacks for C(mem-free-below-budget) or
        C(mem-kv-too-small) are used before anything starts.
      - The fallbacks in use are recorded with the server. As long as the server and its fallbacks stay the same, later
        runs keep to them and change nothing.
    type: list
    elements: dict
    default: []
  failure_id:
    description:
      - The diagnosis id that the server has just failed with. The next entry of O(fallbacks) with that cause is used.
        Without one, nothing is changed and RV(fallback.exhausted) is true.
    type: str
  reset_fallbacks:
    description:
      - Forget the fallbacks in use and start over with the settings as they were asked for.
    type: bool
    default: false
  pin_kv:
    description:
      - V(learned) has a later start of the same server use the size of the KV cache that the first good one measured,
        less a margin, which skips profiling. Where vLLM remembers its own start-up plan, that is used instead.
      - Setting this does not cause a restart by itself. It takes effect when the server is started or replaced anyway.
    type: str
    choices: [never, learned]
    default: never
  learned:
    description:
      - What starts on other hosts measured, as their RV(learned) has it. It counts for this host where image, model,
        GPUs and settings are the same, until this host has measured its own start. Only numbers are taken from it, and
        the memory that is free here is checked as usual. C(host) next to them names the host in RV(measured_on).
    type: dict
    default: {}
  caches:
    description:
      - What a server on another host has compiled, as M(gpufleet.vllm.vllm_caches) returns it, with C(archive) as a
        path on this host. M(gpufleet.vllm.vllm_server) brings it here.
      - A server that is created, and has no compile caches of its own yet, starts with it if image or environment,
        model, GPUs and settings are the same, and the kind of processor. The digest is compared before anything is
        unpacked. If anything is wrong with it, the server starts without; RV(caches) says why.
    type: dict
    default: {}
  health:
    description:
      - How to check a server that needs no change, as parameters of M(gpufleet.vllm.vllm_health). It is checked
        once in the same call, and RV(health) has the answers.
      - Without it, and if something changes, the server is not checked.
    type: dict
  docker_host:
    description:
      - The Docker Engine, by its Unix socket on the host, such as V(unix:///run/user/1000/docker.sock). Without it,
        E(DOCKER_HOST) and then V(unix:///var/run/docker.sock). Other addresses are rejected.
    type: str
"""
