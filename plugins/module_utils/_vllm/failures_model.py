# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Failures of the model's files: vocabulary, Hugging Face, weights, disks (rows of the table in failures.py)."""

from __future__ import annotations

from .signature import Found, Signature, of


def _disk(found: Found) -> str:
    where = f" {found['path']} is on it." if "path" in found else ""
    return (
        f"Free space on the full file system (df -h shows which).{where} Put the Hugging Face cache (huggingface_dir) "
        "and VLLM_CACHE_ROOT on a large one; /dev/shm counts too (ipc_mode: host)."
    )


def _named(found: Found) -> str:
    name = found.groups.get("name") or found.groups.get("path") or found.groups.get("url") or found.settings("model")
    return f" ({name.partition('?')[0].rstrip('.')})" if name else ""


def _where(found: Found) -> str:
    model = found.settings("model")
    return f" of {model}" if model else ""


def _shape(size: str) -> str:
    return size.removeprefix("torch.Size(").rstrip(")")


MODEL: tuple[Signature, ...] = (
    Signature(
        "harmony-vocab-download",
        "HarmonyError|openaipublic.blob",
        r"HarmonyError: error downloading or loading vocab file|^\S*ConnectionError: "
        r".*openaipublic\.blob\.core\.windows\.net",
        "The model needs o200k_base.tiktoken and could not download it (openaipublic.blob.core.windows.net).",
        "Set encodings_dir: role tiktoken_encodings puts the file there, and the server gets TIKTOKEN_ENCODINGS_BASE. "
        "If it is set already, check that the directory is mounted into the container.",
        serving=True,
    ),
    Signature(
        "harmony-vocab-missing-file",
        "HarmonyError",
        r"HarmonyError: invalid tiktoken vocab file: No such file or directory",
        "TIKTOKEN_ENCODINGS_BASE names a directory without o200k_base.tiktoken.",
        "Put o200k_base.tiktoken there under exactly this name (role tiktoken_encodings does, with encodings_dir), or "
        "unset the variable with vLLM 0.31 or later, which carries the vocabulary.",
        serving=True,
    ),
    Signature(
        "harmony-vocab-corrupt",
        "HarmonyError",
        r"HarmonyError: invalid tiktoken vocab file: (?:hash mismatch: computed=(?P<got>[0-9a-f]+), "
        r"expected=(?P<want>[0-9a-f]+)|failed to decode base64)",
        "The vocabulary file is not the published one: cut short, or a web page in its place.",
        "Delete o200k_base.tiktoken from encodings_dir and run the role again: it checks the sha256 before it "
        "installs.",
        serving=True,
    ),
    # --- Hugging Face, files, disk ---
    Signature(
        "hf-gated",
        "gated|Gated|is restricted",
        r"(?:GatedRepoError|Cannot access gated repo for url|You are trying to access a gated repo"
        r"|is a gated repository\.|Access to model \S+ is restricted)",
        "The model is gated: the Hugging Face token is missing, or its account has not accepted the licence.",
        "Accept the licence on the model's page with that account and give the server the token (hf_token_file), or "
        "put the weights on the host beforehand.",
        final=False,
        narrows=("hf-repo-not-found", "hf-offline", "hf-token"),
    ),
    Signature(
        "hf-token",
        " Client Error: |Invalid credentials|Invalid user token| Forbidden: ",
        r"40[13] Client Error: \w+ for url: \S*(?:huggingface\.co|hf\.co)|(?P<why>Invalid (?:credentials in "
        r"Authorization header|user token)[^\n]*)|403 Forbidden: (?P<why2>[^\n]+)",
        lambda f: (
            f"The Hugging Face Hub rejected the token ({f['why'].rstrip('. ') if 'why' in f else 'HTTP 401 or 403'})."
        ),
        "Give the server a token that is valid and may read this model (hf_token_file; a fine-grained token needs "
        "access to public gated repositories), or put the weights on the host beforehand.",
        final=False,
    ),
    Signature(
        "hf-repo-not-found",
        "RepositoryNotFoundError|Repository Not Found|is not a local folder|HFValidationError"
        "|Invalid repository ID or local directory|does not appear to have a file named config.json"
        "|No supported config format found",
        r"(?:RepositoryNotFoundError|Repository Not Found for url: (?P<url>\S+)|(?P<name>\S+) is not a local folder "
        r"(?:and is not a valid model identifier|or a valid repository name)|HFValidationError: [^\n]*: "
        r"'(?P<path>[^']+)'|Invalid repository ID or local directory specified: '(?P<path2>[^']+)'|(?P<name2>\S+) "
        r"does not appear to have a file named config\.json|No supported config format found in (?P<name3>\S+\w))",
        lambda f: (
            f"The model does not exist{_named(f)}: a wrong id, a private repository without a token, or a directory "
            "that is not there or has no config.json."
        ),
        "Check model as the server sees it: an id of the Hugging Face Hub, or a directory that exists and is mounted "
        "into the container. A private repository needs hf_token_file.",
        final=False,
        narrows=("hf-token",),
    ),
    Signature(
        "hf-offline",
        "We couldn't connect to|LocalEntryNotFoundError|OfflineModeIsEnabled|FileMetadataError"
        "|IncompleteSnapshotError|specific connection error",
        r"We couldn't connect to '\S+' to load the files|LocalEntryNotFoundError|OfflineModeIsEnabled"
        r"|FileMetadataError: |IncompleteSnapshotError: |specific connection error when trying to load",
        "The Hugging Face Hub cannot be reached, and the model is not complete in the cache on the host.",
        "Put the weights on the host beforehand (huggingface_dir, or model as a directory), or let the host reach the "
        "Hub. HF_HUB_OFFLINE=1 keeps a complete cache from being looked up again.",
        retryable=True,
        final=False,
    ),
    Signature(
        "hf-rate-limit",
        "429 Client Error|429 Too Many Requests|rate limit you",
        r"429 Client Error: Too Many Requests for url: \S*(?:huggingface|hf\.co)|\(429 Too Many Requests\)"
        r"|had to rate limit you",
        "The Hugging Face Hub turned requests away, since too many came from this address (429).",
        "Give the server a token (hf_token_file), which has a limit of its own, and wait some minutes; weights that "
        "are on the host (huggingface_dir) need no request with HF_HUB_OFFLINE: 1 in env.",
        retryable=True,
        # It tries again by itself.
        final=False,
    ),
    Signature(
        "tokenizer-too-new",
        "of untagged enum ",
        r"data did not match any variant of untagged enum (?P<what>\w+)",
        "The model's tokenizer.json was written by a newer version of tokenizers, and the one installed cannot read it "
        "({what}).",
        "Use a newer image or vllm_version, which brings newer transformers and tokenizers, or take tokenizer.json as "
        "an older version wrote it.",
    ),
    Signature(
        "no-weights",
        "Cannot find any model weights",
        r"Cannot find any model weights with `(?P<path>[^`]+)`",
        "{path} holds no weights.",
        "Download the model again, or correct the directory: it has to hold *.safetensors where the server sees it.",
    ),
    Signature(
        "weights-damaged",
        "SafetensorError|invalid load key|PytorchStreamReader failed|failed finding central directory"
        "|Unable to load weights from|is not a valid JSON file|could not parse ModelProto|git-lfs"
        "|Consistency check failed|Exception: ",
        r"SafetensorError: (?P<why>(?!I/O error)[^\n]+)|UnpicklingError: (?P<why2>invalid load key, [^\n]+)"
        r"|PytorchStreamReader failed (?P<why3>[^\n]+)|(?P<why4>Unable to load weights from [^\n]+|the config file at "
        r"'[^']+' is not a valid JSON file|could not parse ModelProto from [^\n]+|Error parsing line b'version "
        r"https://git-lfs[^\n]*|cloned a repository without having git-lfs[^\n,.]*|Consistency check failed: [^\n]+"
        r"|(?<=^Exception: )(?:expected|EOF while|invalid|missing|unknown)[^\n]* at line \d+[^\n]*)",
        lambda f: f"A file of the model is cut short or holds something else: {f['why'].rstrip('. ')[:200]}.",
        lambda f: (
            f"Compare the sizes of the files{_where(f)} with those on the model's page, delete the ones that differ "
            "and download them again (a file of about 130 bytes is a pointer of Git LFS: git lfs pull)."
        ),
    ),
    Signature(
        "model-part-missing",
        "Can't load |Invalid type of HuggingFace processor|does not appear to have a file named",
        r"Can't load (?P<what>[\w ]+?) (?:for|of) '(?P<name>[^']+)'(?:[^\n]*directory containing (?:a |all "
        r")?(?P<file>[^\n]+))?|Invalid type of HuggingFace (?P<what2>processor)|(?P<name2>\S+) does not appear to "
        r"have a (?P<what3>file named (?!config\.json)[^\n]+?)\.(?: Checkout|$)",
        lambda f: (
            f"The model{of(f, 'name')} has no {f['what'].removeprefix('the ')} that can be read"
            f"{': ' + f['file'].rstrip('. ') + ' is asked for' if 'file' in f else ''}."
        ),
        "Copy the files that are missing from the model's publisher (tokenizer.json, tokenizer_config.json, "
        "preprocessor_config.json and others), or name another model as tokenizer; a model without images needs no "
        "processor with language_model_only: true.",
        narrows=("hf-offline",),
    ),
    Signature(
        "weights-incomplete",
        "were not initialized from checkpoint|There is no module or parameter named|No such file or directory"
        "|to load weight|loaded_weight.s|in index but missing: ",
        r"weights were not initialized from checkpoint: *\{?(?P<names>[^\n}]{0,200})|There is no module or parameter "
        r"named '(?P<name>[^']+)'|No such file or directory: '?(?P<file>/[^\s']+\.(?:safetensors|bin|gguf))"
        r"|(?:Attempted|Tried) to load weights? (?:of size )?\(?(?P<have>torch\.Size\(\[[^\])]*\]\))\)? ?(?:in)?to "
        r"(?:a )?parameter (?:of size )?\(?(?P<want>torch\.Size\(\[[^\])]*\]\))|assert \w+(?:\.data)?\.s(?:hape"
        r"|ize\(\)) == (?P<loaded>loaded_weight)\.s\w+(?:\(\))?$|referenced in index but missing: "
        r"(?P<file2>[^\n]{1,200})",
        lambda f: (
            f"The weights are not complete: {f['file']} is missing."
            if "file" in f
            else f"The weights do not go with the model's class: one has the shape {_shape(f['have'])}, and its place "
            f"has {_shape(f['want'])}."
            if "want" in f
            else "The weights do not go with the model's class: one has another shape than its place."
            if "loaded" in f
            else f"The weights do not go with the model's class: "
            f"{'nothing takes ' + f['name'] if 'name' in f else 'some are missing' + of(f, 'names')}."
        ),
        "Check that all shards of model.safetensors.index.json exist, and that config.json is the one of these "
        "weights; otherwise this vLLM does not know this form of the model (its quantization, a merged adapter): use a "
        "newer one.",
    ),
    Signature(
        "model-type-unknown",
        "does not recognize this architecture|Unrecognized model in|configuration_auto.py|Tokenizer class ",
        r"has model type `(?P<type>[^`]+)` but Transformers does not recognize this architecture|Unrecognized model "
        r"in (?P<path>\S+?)\. Should have a `model_type` key|configuration_auto\.py\", line \d+, in "
        r"[^\n]+\n(?:[^\n]*\n){1,4}?KeyError: '(?P<type2>\w+)'|Tokenizer class '?(?P<type3>\w+)'? (?:does not exist "
        r"or is|is|specified in the tokenizer config was) not (?:currently imported|found)",
        lambda f: (
            f"The transformers that is installed does not know the type of the model{of(f, 'type')}."
            if "type" in f
            else f"The config.json in {f['path']} names no type of model."
        ),
        lambda f: (
            "Use a newer image or vllm_version, which brings a transformers that knows it; a newer transformers alone "
            "may not go with this vLLM."
            if "type" in f
            else "Check that model names the directory of the model itself, with the config.json of its publisher."
        ),
        narrows=("config-invalid", "trust-remote-code"),
    ),
    Signature(
        "disk-full",
        "No space left on device|no space left on device",
        r"(?:\[Errno 28\]|(?<=os error 28)\)?|OSError: .*)\W*No space left on device(?:: '(?P<path>[^']+)')?"
        r"|No space left on device \(os error 28\)(?:.*?\"(?P<path2>/[^\"]+)\")?"
        r"|(?:write|mkdir|open|copy\S*) (?P<path3>/[^\s:]+): no space left on device|: no space left on device",
        "A disk (or /dev/shm) is full.",
        _disk,
        # A cache that cannot be written is often done without.
        final=False,
    ),
    Signature(
        "model-arch-unsupported",
        "are not supported for now|has no vLLM implementation|Cannot find model module",
        r"Model architectures (?P<arch>\[.*?\]) are not supported for now|(?P<arch2>\w+) has no vLLM implementation"
        r"|Cannot find model module\. '(?P<arch3>\w+)'",
        "This vLLM is too old for the model ({arch}), or never had a class for it.",
        "Use a newer image or vllm_version (gpt-oss needs 0.10.1 or later); vLLM's list of supported models has the "
        "class.",
        narrows=("config-invalid",),
    ),
    Signature(
        "trust-remote-code",
        "trust_remote_code=True",
        r"(?:consider setting `trust_remote_code=True` in LLM or using the `--trust-remote-code` flag"
        r"|Please (?:pass the argument|set the option) `trust_remote_code=True`)",
        "The model's configuration cannot be read without code from its repository.",
        "Read that code, then set trust_remote_code: true. gpt-oss, Gemma 3 and Qwen do not need it: for them check "
        "the model's directory and the version of vLLM.",
    ),
    Signature(
        "max-len-exceeds-model",
        "is greater than the derived max_model_len",
        r"User-specified max_model_len \((?P<want>\d+)\) is greater than the derived max_model_len"
        r"(?: \(\w+=(?P<have>\d+))?",
        lambda f: f"The max_model_len {f['want']} is more than the model was made for{of(f, 'have')}.",
        lambda f: f"Set max_model_len to {f.groups.get('have', 'what the model allows')} or less.",
    ),
    Signature(
        "quant-config-missing",
        "Cannot find the config file for",
        r"Cannot find the config file for (?P<quant>[\w-]+)",
        "The setting quantization says {quant}, and the weights are not quantized so: they hold no configuration of "
        "it.",
        "Remove quantization, or take weights that were made with {quant}.",
        narrows=("config-invalid",),
    ),
    Signature(
        "quant-mismatch",
        "Quantization method specified in the model config",
        r"Quantization method specified in the model config \((?P<cfg>\S+)\) does not match the quantization method "
        r"specified in the `quantization` argument \((?P<arg>\S+)\)",
        "The weights are quantised with {cfg}, and quantization says {arg}.",
        "Remove quantization: vLLM reads it from the weights.",
    ),
    Signature(
        "mxfp4-dense-unsupported",
        "Mxfp4 linear layer is not implemented",
        r"NotImplementedError: Mxfp4 linear layer is not implemented",
        "This version cannot use MXFP4 for a model with dense layers (Gemma 3).",
        "Remove quantization: mxfp4; to save memory take weights that are quantised (FP8, AWQ, GPTQ or QAT).",
    ),
    Signature(
        "mxfp4-silent-bf16",
        "layer is not implemented",
        r"MXFP4 (?:linear|attention) layer is not implemented",
        "MXFP4 is not used for all layers, which stay in BF16. With gpt-oss that is as it should be.",
        "With a dense model (Gemma 3) quantization: mxfp4 saves nothing: remove it.",
        retryable=None,
        final=False,
        kind="warn",
    ),
)
