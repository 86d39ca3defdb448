# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this doc fragment is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!

from __future__ import annotations


class ModuleDocFragment:
    """The keys that describe one vLLM server, whatever runs it."""

    DOCUMENTATION = r"""
options:
  name:
    description:
      - Name of the server. Its container or its unit is called C(vllm-NAME).
    type: str
  model:
    description:
      - What is served. Either a Hugging Face id such as V(openai/gpt-oss-120b), or a directory on the host, which the
        server then reads at the same path.
    type: str
  served_model_name:
    description:
      - The name that clients use in their requests, or a list of names, each of which they may use. vLLM puts the
        first into its answers. Without it, vLLM takes O(model).
    type: raw
  port:
    description:
      - TCP port of the OpenAI-compatible API on the host.
    type: int
    default: 8000
  bind:
    description:
      - IP address of the host to listen on, or V(localhost). An address other than loopback needs O(api_key_file) or
        O(allow_unauthenticated=true).
    type: str
    default: 127.0.0.1
  gpus:
    description:
      - V(all), a list of GPU UUIDs or indices, or V(none).
      - A mapping of C(count), C(min_free_mib) and C(prefer) selects free GPUs on the host, as
        P(gpufleet.vllm.select_gpus#filter) does; those that the running server holds already are kept. What other
        servers are still going to take counts as taken.
      - A service looks at its GPUs again whenever it starts. With C(at_start=same), the default, it waits for them
        while others hold their memory, which a deployment takes for a failure; with C(at_start=reselect), which needs
        C(count), it selects others.
    type: raw
    default: all
  ulimits:
    description:
      - Limits by name, in the unit of the limit (bytes for C(memlock) and C(stack)); V(-1) is unlimited.
      - C(memlock=-1) and C(stack=67108864) are set unless this says otherwise.
    type: dict
    default: {}
  huggingface_dir:
    description:
      - Directory on the host that keeps the Hugging Face cache. It is created when missing, and never removed.
    type: path
  encodings_dir:
    description:
      - Directory on the host with C(o200k_base.tiktoken) and C(cl100k_base.tiktoken), which gpt-oss reads at start-up.
        Role P(gpufleet.vllm.tiktoken_encodings#role) puts them there. Leave it out for other models.
    type: path
  hf_token_file:
    description:
      - File on the host that holds the Hugging Face token. vLLM is given the path of a file with it.
    type: path
  api_key_file:
    description:
      - File on the host that holds the API key that clients have to send.
    type: path
  env_file:
    description:
      - File on the host with lines of C(KEY=VALUE) for the server's environment. Unlike O(env), the values do not show
        in what describes the server (C(docker inspect)).
      - A value is used literally, quotes included. C(export) and spaces around the name are rejected.
    type: path
  allow_unauthenticated:
    description:
      - Allow a O(bind) that others can reach without an API key.
    type: bool
    default: false
  engine:
    description:
      - Any flag of C(vllm serve), with underscores. V(true) and V(false) become C(--flag) and C(--no-flag), a list
        becomes several values, a mapping becomes JSON and V(null) leaves the flag out.
      - Flags and values are checked for O(vllm_version) before anything is started or stopped.
    type: dict
    default: {}
  engine_unchecked:
    description:
      - Flags like O(engine) that are passed on without a check, for forks of vLLM and for plugins that add choices.
    type: dict
    default: {}
  env:
    description:
      - Environment of the server. Secrets are rejected here, since C(docker inspect) shows it.
    type: dict
    default: {}
  volumes:
    description:
      - Further mounts, each C(SOURCE:DESTINATION[:OPTIONS]) with absolute paths, where C(OPTIONS) may be V(ro). The
        sources have to exist.
      - Of a container, the source may be the name of a volume, which the engine makes when it is missing and which is
        never removed. Further options, such as V(ro,z) with SELinux, are the engine's.
    type: list
    elements: str
    default: []
  restart_policy:
    description:
      - V(unless-stopped), V(no), V(on-failure) or V(on-failure:N), as Docker names them.
      - A service becomes C(Restart=always), C(no) or C(on-failure), always with a limit. After five starts within two
        hours, or N restarts, it stays down.
      - Podman 5.1 to 5.7 is given C(always), which alone outlives a reboot there, and C(no) when the server is stopped.
      - vLLM leaves with status 0 when its engine dies, and V(on-failure) does not restart that, nor anything after a
        reboot.
    type: str
    default: unless-stopped
  stop_timeout:
    description:
      - Seconds that the server has to stop before it is killed. One that never answered since its last start, or whose
        engine is dead by its log, has nothing to finish and is killed at once.
    type: int
    default: 30
  keep_caches:
    description:
      - Keep what vLLM, Triton and FlashInfer compile at the first start, which makes later starts minutes shorter. A
        Docker volume for each image, or a directory below C(/var/cache/gpufleet.vllm) for each virtual environment, is
        removed with the server.
      - What FlashInfer and CUDA compile does not depend on the model. From vLLM 0.16 on, the servers of an image share
        it in a volume of its own, which is removed with the last of them.
    type: bool
    default: true
  vllm_version:
    description:
      - The version of vLLM that runs. It decides which flags are accepted, and how they are written.
      - Without it, it is read from the tag of an official image, then a label of the image, then vLLM's metadata
        inside; for a virtual environment, from its metadata.
    type: str
  validation:
    description:
      - V(normal) rejects anything that would make vLLM exit at start-up and warns about settings without effect.
        V(strict) rejects both, and V(permissive) only warns. Settings that work anyway, such as a deprecated flag, are
        never rejected, nor is a flag of a version that the collection does not know.
    type: str
    choices: [normal, strict, permissive]
    default: normal
"""

    # What only a container has.
    CONTAINER = r"""
options:
  image:
    description:
      - The image with tag or digest. Its entrypoint is kept, unless O(entrypoint) is set.
    type: str
  entrypoint:
    description:
      - Program and words that are run in place of the image's entrypoint, and are handed the command that starts the
        server, C(vllm serve MODEL ...), as further words. V([numactl, -N, "0"]) runs it below another program, and
        V([sh, -c, 'pip install mistral-common && exec "$@"', sh]) runs something before it.
      - One that ends in C(vllm serve) is handed the arguments alone.
    type: list
    elements: str
    default: []
  container_name:
    description:
      - Name of the container. C(vllm-NAME) by default, with O(name).
    type: str
  network_mode:
    description:
      - V(bridge) publishes O(port) from a network of Docker's, V(host) has vLLM listen on the host itself.
    type: str
    choices: [bridge, host]
    default: bridge
  network:
    description:
      - Name of a network on the engine that the container joins in place of the default bridge. It has to exist.
        Every container on it can reach the server as O(container_name), whatever O(bind) says; O(port) is published as
        well.
    type: str
  hostname:
    description:
      - Host name inside the container.
    type: str
  extra_hosts:
    description:
      - Further names that the container knows, each C(NAME:ADDRESS). V(host-gateway) in place of the address is the
        host.
    type: list
    elements: str
    default: []
  ipc_mode:
    description:
      - IPC namespace. Tensor parallel workers exchange data through shared memory, hence the host's by default.
    type: str
    default: host
  shm_size:
    description:
      - Size of C(/dev/shm), such as V(16g), for a container that has one of its own (O(ipc_mode=private)).
    type: str
  devices:
    description:
      - Devices of the host, each C(HOST[:CONTAINER][:rwm]), such as V(/dev/infiniband). They have to exist. GPUs are
        handed over by O(gpus).
    type: list
    elements: str
    default: []
  cap_add:
    description:
      - Capabilities that the container gets, such as V(SYS_PTRACE) or V(IPC_LOCK).
    type: list
    elements: str
    default: []
  group_add:
    description:
      - Further groups of the server's process, by name in the image or by number.
    type: list
    elements: str
    default: []
  security_opt:
    description:
      - Options of the security modules, such as V(label=disable) or V(label=type:container_runtime_t) with SELinux,
        V(seccomp=unconfined) or V(apparmor=unconfined).
      - What is rendered for SELinux is not tested on a host that enforces it.
    type: list
    elements: str
    default: []
  privileged:
    description:
      - Give the container every device of the host and all capabilities. Whoever breaks into the server is then root on
        the host, so the module warns; O(devices), O(cap_add) or O(security_opt) are usually enough.
    type: bool
    default: false
  labels:
    description:
      - Further labels. Names that start with C(gpufleet.vllm.) are the collection's own.
    type: dict
    default: {}
"""

    # What only a service has.
    SERVICE = r"""
options:
  venv:
    description:
      - The virtual environment that the server runs from, as what it holds or as the directory of one that is on the
        host, with C(bin/vllm) in it.
      - A mapping has C(packages), such as C(["vllm==0.26.0"]), and whatever else M(gpufleet.vllm.vllm_venv) takes
        except for C(server), C(state) and C(all). Role P(gpufleet.vllm.vllm_server#role) builds that environment
        while the old server serves, and a module alone refuses to start a server without it. One that is damaged is
        replaced by a new one.
      - Ray is added to C(packages) when O(engine) or a fallback sets C(distributed_executor_backend=ray) and that vLLM
        does not bring it along.
      - What changes in an environment is noticed by its list of vLLM's files, and replaces the server. One that a
        mapping describes is removed once no server uses it, by O(state=committed) when this one runs from another, else
        by O(state=absent). An environment given as a directory is never removed.
    type: raw
  user:
    description:
      - System user that runs the server. One that does not exist is made, and removed with the last server that needs
        it. A login user is rejected, since logind deletes the user's shared memory at logout.
      - He has to be able to read the virtual environment, the weights and the encodings. Below a home that he cannot
        enter they are shown to it in any case, in their own place; not below that of root, where systemd hands no
        credentials over (before release 247).
    type: str
    default: vllm
"""
