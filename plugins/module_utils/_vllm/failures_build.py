# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Failures of what is installed: compilers, packages, libraries that do not go together (rows of the table)."""

from __future__ import annotations

from .signature import Signature, of

NEW_ENVIRONMENT = (
    "make a new environment with vLLM installed alone (it brings what it was built with), or use its image"
)


BUILD: tuple[Signature, ...] = (
    Signature(
        "ninja-missing",
        "ninja",
        r"No such file or directory: '(?:\S*/)?ninja'|Ninja is required to load C\+\+ extensions|\bninja: (?:command "
        r")?not found|ninja(?: executable)? (?:was )?not found",
        "A kernel has to be compiled on the host, and the build tool ninja is not found.",
        "Put the bin directory of vLLM's environment on the PATH of the unit "
        "(Environment=PATH=VENV/bin:/usr/local/cuda/bin:/usr/bin:/bin), where ninja lies; nvcc and gcc have to be on "
        "it as well. Or install ninja, or set VLLM_USE_FLASHINFER_SAMPLER: 0 in env, which does without that kernel.",
        final=False,
    ),
    Signature(
        "nvcc-missing",
        "nvcc|CUDA_HOME|.h: No such file|cicc: not found|Cannot find ptxas",
        r"(?:Could not find nvcc and default cuda_home=|nvcc: (?:command )?not found|No such file or directory: "
        r"'(?:\S*/)?nvcc'|CUDA_HOME environment variable is not set|cicc: not found|Cannot find ptxas|fatal error: "
        r"(?:cu[a-z]\w*|cuda/\S+|nv\w+|cublas\w*)\.(?:h|hpp|cuh): No such file)",
        "A kernel has to be compiled on the host, and nvcc or the headers of CUDA are missing.",
        "Install the CUDA toolkit (nvcc and its headers) and put it on the PATH of the unit with CUDA_HOME, or install "
        "the packages flashinfer-cubin and flashinfer-jit-cache, or set VLLM_USE_FLASHINFER_SAMPLER: 0 in env.",
        final=False,
    ),
    Signature(
        "cc-missing",
        "C compiler|.h: No such file|C++ compiler|No such file or directory: '|: not found|command not found"
        "|InvalidCxxCompiler",
        r"(?:Failed to find C compiler|fatal error: (?:Python|std\w+|string|math|limits|features|bits/\S+|sys/\S+"
        r"|asm/\S+|linux/\S+)\.h: No such file|No working C\+\+ compiler found"
        r"|InvalidCxxCompiler|No such file or directory: '(?:\S*/)?(?:gcc|g\+\+|cc|c\+\+|clang|clang\+\+"
        r"|\w+-linux-gnu-g\S+)'|\b(?:gcc|g\+\+|cc|c\+\+|clang): (?:command )?not found)",
        "A kernel has to be compiled on the host, and the C compiler or Python's headers are missing.",
        "Install gcc, g++ and python3-dev for the Python of this environment and put them on the PATH of the unit, or "
        "set enforce_eager.",
        final=False,
    ),
    Signature(
        "libcuda-link",
        "cannot find -lcuda|libcuda.so cannot found",
        r"cannot find -lcuda\b|libcuda\.so cannot found",
        "A kernel has to be linked on the host, and the linker does not find libcuda.so (-lcuda).",
        "Run ldconfig where the server runs, so that it finds the driver's libcuda.so.1, or set LIBRARY_PATH: "
        "/usr/local/cuda/lib64/stubs and TRITON_LIBCUDA_PATH (the directory of libcuda.so.1) in env.",
    ),
    Signature(
        "compile-cache",
        "pickle data was truncated|Ran out of input|hash of the compiled graph|Directory not empty: '|corrupted comp"
        "|Expected tensors only",
        r"(?:BackendCompilerFailed: [^\n]* raised:|/compilation/\w+\.py|/_inductor/\w+\.py"
        r"|aot_compile)[^\n]*\n(?:[^\n]*\n){0,3}?(?:\w+\.)?(?:UnpicklingError|EOFError): (?P<why>pickle data was "
        r"truncated|Ran out of input)|AssertionError: (?P<why2>failed to get the hash of the compiled graph)"
        r"|(?P<why5>Expected tensors only, but got)|leading to a (?P<why4>corrupted compilation artifact)"
        r"|(?P<why3>Directory not empty: "
        r"'[^']*(?:torch_compile_cache|torchinductor|triton)[^']*')",
        "What an earlier start compiled and kept is damaged, or of another version: {why}.",
        "Delete the directory torch_compile_cache below VLLM_CACHE_ROOT (~/.cache/vllm in the container or of the "
        "unit's user) and start again; servers that start at the same time need one each. VLLM_DISABLE_COMPILE_CACHE: "
        "1 in env does without it.",
        retryable=None,
    ),
    Signature(
        "abi-mismatch",
        "undefined symbol|object has no attribute|operator torchvision::nms|() expected at most ",
        r"(?P<lib>[^\s/'\"(]+\.so[\w.]*): undefined symbol: (?P<symbol>\w+)|operator torchvision::nms does not exist"
        r"|'_OpNamespace' '_\w*C\w*' object has no attribute '(?P<op>\w+)|\b_\w*C::(?P<op2>\w+)\(\) expected at most ",
        lambda f: (
            f"The library {f['lib']} was built for another version of torch than the one installed (undefined symbol "
            f"{f['symbol'][:60]})."
            if "lib" in f
            else f"Compiled code of vLLM or torchvision{of(f, 'op')} was built for another version of torch than the "
            "one installed."
        ),
        f"Several packages were installed over each other: {NEW_ENVIRONMENT}.",
        warned=True,
    ),
    Signature(
        "torch-without-cuda",
        "not compiled with CUDA|_cuda.so: cannot open",
        r"[Tt]orch not compiled with CUDA enabled|lib(?:torch|c10)_cuda\.so: cannot open shared object",
        "The torch that is installed was built without CUDA.",
        f"Another package or index replaced it: {NEW_ENVIRONMENT}.",
    ),
    Signature(
        "name-hidden",
        "partially initialized module 'vllm'|partially initialized module 'torch'",
        r"partially initialized module '(?P<module>\w+)'[^\n]*?\((?P<path>/[^)]+)\)",
        "A file or directory of one's own hides the package {module}: {path}.",
        "Rename it, or start the server in another working directory.",
    ),
    Signature(
        "glibc-too-old",
        "GLIBCXX_|GLIBC_|CXXABI_",
        r"version `(?P<need>(?:GLIBCXX|GLIBC|CXXABI)_[\d.]*\d)' not found",
        "The system's C or C++ library is too old for what is installed: {need} is missing.",
        "Use vLLM's image, or a newer distribution; with conda install libstdcxx-ng in the environment, and let "
        "LD_LIBRARY_PATH name its lib directory first.",
        warned=True,
    ),
    Signature(
        "missing-cudart",
        "cannot open shared object file",
        r"(?:ImportError|OSError): (?P<lib>lib(?:cudart|cublas|nccl|cusparse|cudnn|cufft|curand|cusolver|nvrtc"
        r"|nvJitLink|cufile|cupti)[\w.-]*): cannot open shared object file",
        "{lib} is missing: torch and vLLM in this environment were built for different CUDA versions.",
        "Recreate the environment and install vLLM alone; it brings the torch it was built with.",
    ),
    Signature(
        "missing-library",
        "cannot open shared object file",
        r"(?:ImportError|OSError): (?P<lib>lib[\w.+-]+): cannot open shared object file",
        "The library {lib} is missing.",
        "Install the package of the distribution that has it (apt-file search {lib} names it) where the server runs; "
        "libcuda and libnvidia-ml come with the NVIDIA driver and the Container Toolkit.",
        general=True,
    ),
    Signature(
        "transformers-clash",
        "from 'transformers|already used by a Transformers |all_special_tokens_extended|module 'transformers"
        "|No module named 'transformers.|' object has no attribute '",
        r"(?P<what>cannot import name '\w+' from 'transformers[\w.]*'|'[\w-]+' is already used by a Transformers "
        r"(?:config|model)|(?:module 'transformers[\w.]*'|\w+) has no attribute '?all_special_tokens_extended'?"
        r"|module 'transformers[\w.]*' has no attribute '\w+'|No module named 'transformers\.[\w.]+'|'\w+Config' "
        r"object has no attribute 'rope_\w+'|'\w*(?:Tokenizer|Processor)\w*' object has no attribute '\w+')",
        "The installed transformers does not go with this vLLM: {what}.",
        "Install the version of transformers that this vLLM asks for (pip show vllm names it; transformers 5 came "
        "after vLLM 0.11, which takes 4.57), or a vLLM that is as new as transformers.",
        narrows=("module-missing",),
    ),
    Signature(
        "flashinfer-version",
        "does not match flashinfer version",
        r"(?P<package>flashinfer-[\w-]+) version \((?P<have>[^)]+)\) does not match flashinfer version "
        r"\((?P<want>[^)]+)\)",
        "The package {package} {have} does not go with flashinfer {want}.",
        "Install {package} in the version {want}.",
    ),
    Signature(
        "remote-code-name",
        "No module named 'transformers_modules.",
        r"No module named '(?P<module>transformers_modules\.[^']+)'",
        "The code of the model cannot be imported as {module}: the name of its directory has a dot, or several "
        "processes wrote the cache of such code at once.",
        "Rename the directory of the model so that its name has no dot, or delete ~/.cache/huggingface/modules and "
        "give each server its own (HF_MODULES_CACHE in env).",
        narrows=("module-missing",),
    ),
    Signature(
        "module-missing",
        "No module named|not found in your environment",
        r"ModuleNotFoundError: No module named '(?P<module>[\w.]+)'|python[\d.]*: No module named (?P<module2>[\w.]+)"
        r"|packages that were not found in your environment: (?P<module3>[\w, -]+\w)",
        lambda f: (
            f"The Python package {f['module']} is missing in the environment of the server."
            if "." not in f["module"] or f["module"].startswith("vllm._")
            else f"The Python package {f['module'].partition('.')[0]} has no part {f['module']}: it is missing, or of "
            "another version than what asks for it."
        ),
        lambda f: (
            "Bring vLLM and what asks for that part (a plugin, a script) to versions that go together, and start where "
            "no other directory is called vllm."
            if f["module"].startswith("vllm.") and "._" not in f["module"]
            else f"Install what provides {f['module']} into that environment, check that the unit starts the Python of "
            "vLLM's environment, or use an image that holds it."
        ),
        general=True,
        # Much is looked for and done without.
        final=False,
    ),
)
