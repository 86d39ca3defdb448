# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What each vLLM version accepts: the table against real argument parsers, and how it is read."""

from __future__ import annotations

import json
import re
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm import versions
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.flags import ENVIRONMENT, FLAGS, VERSIONS
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.versions import (
    Release,
    choice_life,
    may_exist,
    ngc_name,
    option_kind,
    parse,
    version_of_image,
    version_of_labels,
    within,
)

# What tools/dump_vllm_parser.py printed inside that release, and the lines of `vllm serve --help=all` that name flags.
PARSERS = Path(__file__).parents[2] / "fixtures" / "vllm_parsers"
PARSED = sorted((path.stem for path in PARSERS.glob("*.json")), key=parse)
# How the parser of argparse sees the kinds of the table.
KINDS = {"switch": "switch", "flag": "flag", "list": "list", "append": "append"}
# Its choices are every combination of three words; the table has the words.
COMBINED = {"collect_detailed_traces"}
# Up to 0.9 its type is two lists of names; which of them the parser takes depends on the engine.
TWO_LISTS = {"guided_decoding_backend"}


def parser(version: str) -> dict[str, t.Any]:
    return t.cast("dict[str, t.Any]", json.loads((PARSERS / f"{version}.json").read_text()))


# --- the table against real parsers ---------------------------------------------------------------------------------


def test_several_eras_are_held_against_their_parsers() -> None:
    assert {"0.8.5", "0.10.1.1", "0.11.0", "0.26.0", "0.32.0", "0.33.0"} <= set(PARSED)


@pytest.mark.parametrize("version", PARSED)
def test_the_table_has_the_flags_that_the_parser_takes(version: str) -> None:
    # The subcommand adds it, where the parser is not built by the same function.
    assert set(Release(version).flags()) - {"config"} == set(parser(version)) - {"config"}


@pytest.mark.parametrize("version", PARSED)
def test_the_table_has_the_kinds_of_the_parser(version: str) -> None:
    kinds = {name: KINDS.get(getattr(Release(version).flag(name), "kind", ""), "value") for name in parser(version)}
    assert kinds == {name: flag["kind"] for name, flag in parser(version).items()}


@pytest.mark.parametrize("version", PARSED)
def test_a_closed_choice_of_the_table_is_one_of_the_parser(version: str) -> None:
    for name, real in parser(version).items():
        flag = Release(version).flag(name)
        if flag and flag.choices and not flag.is_open and name not in COMBINED | TWO_LISTS:
            assert sorted(flag.choices) == real.get("choices"), name


@pytest.mark.parametrize("version", PARSED)
def test_few_closed_choices_of_the_parser_are_missing_in_the_table(version: str) -> None:
    """Choices that depend on the platform are not read from the sources."""
    missing = [
        name
        for name, real in parser(version).items()
        if "choices" in real and name not in COMBINED and not getattr(Release(version).flag(name), "choices", ())
    ]
    assert set(missing) <= {"config_format", "device", "load_format", "logprobs_mode", "model_impl"}


def test_the_table_has_the_flags_that_the_help_lists() -> None:
    lines = (PARSERS / "0.32.0.help.txt").read_text().splitlines()
    listed = {word for line in lines for word in re.findall(r"(?<![\w-])--([a-z0-9-]+)", line.split("  ")[1])}
    switches = {f"no-{name}" for name in listed if f"no-{name}" in listed}
    names = {name.replace("-", "_") for name in listed - switches}
    assert names - {"help"} == set(Release("0.32.0").flags())


@pytest.mark.parametrize(
    ("flag", "choice", "life"),
    [
        ("kv_cache_dtype", "bfloat16", "0.11.0.."),
        ("kv_cache_dtype", "float16", "0.18.0.."),
        ("kv_cache_dtype", "fp8_inc", "0.10.0.."),
        ("kv_cache_dtype", "bf16", ""),
        ("quantization", "mxfp4", "0.10.1.."),
        ("reasoning_parser", "GptOss", "0.10.1..0.10.1.1"),
        ("reasoning_parser", "openai_gptoss", "0.10.2.."),
        ("distributed_executor_backend", "external_launcher", "0.7.3.."),
        ("nothing", "at all", ""),
    ],
)
def test_when_a_choice_was_one(flag: str, choice: str, life: str) -> None:
    assert choice_life(flag, choice) == life


@pytest.mark.parametrize(
    ("name", "life"),
    [
        ("attention_backend", "0.13.0.."),
        ("disable_log_requests", "0.5.5..0.16.0"),
        ("kv_cache_memory_bytes", "0.10.2.."),
        ("nnodes", "0.11.1.."),
        ("swap_space", "0.5.5..0.17.1"),
        ("task", "0.6.6..0.12.0"),
        ("guided_decoding_backend", "0.5.5..0.11.2"),
        ("moe_backend", "0.17.0.."),
        ("weight_transfer_config", "0.16.0.."),
    ],
)
def test_when_a_flag_was_one(name: str, life: str) -> None:
    assert versions.life(name) == life


@pytest.mark.parametrize(
    ("name", "life"),
    [
        ("VLLM_USE_V1", "0.6.6..0.11.0"),
        ("VLLM_ATTENTION_BACKEND", "0.5.5..0.14.1"),
        ("VLLM_SERVER_DEV_MODE", "0.7.3.."),
        ("VLLM_PORT", "0.5.5.."),
    ],
)
def test_when_a_variable_was_read(name: str, life: str) -> None:
    assert ENVIRONMENT[name] == life


@pytest.mark.parametrize(("version", "default"), [("0.19.1", "0.9"), ("0.20.0", "0.92"), ("0.33.0", "0.92")])
def test_a_default_that_changed(version: str, default: str) -> None:
    flag = Release(version).flag("gpu_memory_utilization")
    assert flag and flag.default == default
    assert Release(version).behaves("utilization_090") == (default == "0.9")


def test_every_range_of_the_table_is_made_of_known_releases() -> None:
    lives = [token.partition("@")[2] for text in FLAGS.values() for token in text.split()[1:] if "@" in token]
    lives += [text.partition(" ")[0] for text in FLAGS.values()] + list(ENVIRONMENT.values())
    words = {word for life in lives for run in life.split(",") for word in run.split("..") if word}
    assert words <= set(VERSIONS)


def test_releases_are_in_their_order() -> None:
    assert list(versions.KNOWN) == sorted(set(versions.KNOWN))


# --- reading a version ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("0.26.0", (0, 26, 0)),
        ("v0.26.0", (0, 26, 0)),
        ("0.26", (0, 26, 0)),
        ("0.10.1.1+381074ae.nv25.09", (0, 10, 1, 1)),
        ("0.32.0+cpu", (0, 32, 0)),
        ("0.12.0.post2", (0, 12, 0)),
        ("0.11.1rc2.dev5+g1234567", (0, 11, 1)),
        (" 0.9.2\n", (0, 9, 2)),
    ],
)
def test_a_version_is_its_number(text: str, version: tuple[int, ...]) -> None:
    assert parse(text) == version


@pytest.mark.parametrize("text", ["", "latest", "nightly", "7", "cu130-nightly"])
def test_what_is_no_version(text: str) -> None:
    with pytest.raises(VllmError, match="is not a version; write it as vLLM does"):
        parse(text)


@pytest.mark.parametrize(
    ("version", "ranges", "inside"),
    [
        ("0.10.0", "0.10.1..", False),
        ("0.10.1", "0.10.1..", True),
        ("0.10.1.1", "0.10.1..0.10.1.1", True),
        ("0.10.2", "0.10.1..0.10.1.1", False),
        ("0.11.0", "0.11.0", True),
        ("0.11.1", "0.11.0", False),
        ("0.9.0", "0.5.5..0.7.3,0.9.0..", True),
        ("0.8.5", "0.5.5..0.7.3,0.9.0..", False),
        ("0.26.0", "", False),
    ],
)
def test_within_a_range(version: str, ranges: str, inside: bool) -> None:
    assert within(parse(version), ranges) is inside


@pytest.mark.parametrize(
    ("version", "ranges", "has"),
    [
        pytest.param("0.26.0", "0.20.0..", True, id="a release that was read"),
        pytest.param("0.26.3", "0.20.0..", True, id="between two that have it"),
        pytest.param("0.26.3", "0.5.5..0.20.0", False, id="between two that lack it"),
        pytest.param("0.26.3", "0.27.0..", None, id="between one that lacks it and one that has it"),
        pytest.param("0.99.0", "0.27.0..", True, id="newer than all: as the newest"),
        pytest.param("0.99.0", "0.5.5..0.20.0", False, id="newer than all, and it was gone"),
        pytest.param("0.1.0", "0.5.5..", True, id="older than all: as the oldest"),
    ],
)
def test_a_release_that_was_not_read_is_judged_by_its_neighbours(version: str, ranges: str, has: bool | None) -> None:
    assert Release(version).has(ranges) is has


@pytest.mark.parametrize(("version", "covered"), [("0.5.5", True), ("0.33.0", True), ("0.5.4", False), ("1.0", False)])
def test_which_releases_are_covered(version: str, covered: bool) -> None:
    assert Release(version).is_covered is covered


def test_behaviour_that_is_not_certain_neither_holds_nor_fails_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(versions.BEHAVIOURS, "gpt_oss", "0.27.0..")
    release = Release("0.26.3")
    assert (release.behaves("gpt_oss"), release.lacks("gpt_oss")) == (False, False)


@pytest.mark.parametrize(
    ("name", "version", "kind"),
    [
        ("enforce_eager", "0.26.0", "switch"),
        ("enforce_eager", None, "switch"),
        ("disable_log_requests", "0.9.2", "flag"),
        ("disable_log_requests", "0.33.0", "switch"),
        ("swap_space", None, "float"),
        ("middleware", "0.26.0", "append"),
        ("allowed_origins", None, "json"),
        ("attention_config.backend", "0.26.0", "text"),
        ("never_heard_of", "0.26.0", "any"),
    ],
)
def test_how_an_option_is_written(name: str, version: str | None, kind: str) -> None:
    assert option_kind(name, version) == kind


# --- which version an image holds -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "version"),
    [
        ("nvcr.io/nvidia/vllm:25.09-py3", "0.10.1.1"),
        ("nvcr.io/nvidia/vllm:25.12-py3", "0.11.1"),
        ("nvcr.io/nvidia/vllm:25.12.post1-py3", "0.12.0"),
        ("nvcr.io/nvidia/vllm:26.01-py3", "0.13.0"),
        ("nvcr.io/nvidia/vllm:26.02-py3", "0.15.1"),
        ("nvcr.io/nvidia/vllm:26.05.post1-py3", "0.20.1"),
        ("nvcr.io/nvidia/vllm:26.08-py3", "0.27.1"),
        ("nvcr.io/nvidia/vllm:26.08-py3@sha256:0123", "0.27.1"),
        ("nvcr.io/nvidia/vllm:26.01.post9-py3", None),
        ("nvcr.io/nvidia/vllm:26.11-py3", None),
        ("nvcr.io/nvidia/vllm:26.01beta", None),
        ("mirror.example.com:5000/nvidia/vllm:26.10-py3", "0.31.0"),
        ("mirror.example.com:5000/nvidia/vllm", None),
        ("nvcr.io/nvidia/vllm", None),
        ("nvcr.io/notnvidia/vllm:26.01-py3", None),
        ("vllm/vllm-openai:v0.26.0", "0.26.0"),
        ("vllm/vllm-openai:v0.10.1.1", "0.10.1.1"),
        ("vllm/vllm-openai:v0.20.0-cu129-ubuntu2404", "0.20.0"),
        ("vllm/vllm-openai:v0.26.0@sha256:0123", "0.26.0"),
        ("vllm/vllm-openai:latest", None),
        ("vllm/vllm-openai:nightly-0123abc", None),
        ("vllm/vllm-openai", None),
        ("vllm/vllm-openai@sha256:0123", None),
        ("gpufleet/vllm-cpu:0.32.0", "0.32.0"),
        ("docker.io/vllm/vllm-openai:v0.26.0", "0.26.0"),
        ("registry.example/vllm/vllm-openai:v0.11.0", "0.11.0"),
        ("registry.example:5000/hub/vllm/vllm-openai:v0.11.0-x86_64", "0.11.0"),
        ("vllm/vllm-openai-rocm:v0.20.0", "0.20.0"),
        ("public.ecr.aws/q9t5s3a7/vllm-cpu-release-repo:v0.20.0", "0.20.0"),
        ("lmcache/vllm-openai:v0.5.4", None),
        ("registry.example/lmcache/vllm-openai:v0.5.4", None),
        ("rhaiis/vllm-cuda-rhel9:3.2.2", None),
        ("registry.redhat.io/rhaiis/vllm-cuda-rhel9:3.2.2", None),
        ("registry.example/team/vllm:0.11.0", None),
        ("registry.example/notvllm/vllm-openai:v0.11.0", None),
        ("registry.example/vllm-openai:v0.11.0", None),
        ("vllm-openai:v0.11.0", None),
        ("vllm:0.11.0", None),
        ("vllm:2025.11.01", None),
        ("vllm:1", None),
        ("ubuntu:24.04.1", None),
        ("localhost:5000/team/llm:1.2.3", None),
        ("", None),
    ],
)
def test_the_version_that_the_name_of_an_image_tells(reference: str, version: str | None) -> None:
    assert version_of_image(reference) == version


# Tags that people have, by who made the image: whose numbers are vLLM's, and whose are their own.
TAGS: dict[str, list[tuple[str, str | None]]] = {
    "the project's images": [
        ("vllm/vllm-openai:v0.11.2-x86_64", "0.11.2"),
        ("vllm/vllm-openai:v0.12.0-aarch64", "0.12.0"),
        ("vllm/vllm-openai:v0.14.1-cu130", "0.14.1"),
        ("vllm/vllm-openai:v0.26.0-cu129", "0.26.0"),
        ("vllm/vllm-openai:v0.9.0.1", "0.9.0.1"),
        ("vllm/vllm-openai:v0.15.0", "0.15.0"),
        ("vllm/vllm-openai:v0.8.5.post1", "0.8.5"),
        ("vllm/vllm-openai:v0.6.4.post1", "0.6.4"),
        ("vllm/vllm-openai:v0.20.2rc1-cu130", "0.20.2rc1"),
        ("vllm/vllm-openai:v0.34.0", "0.34.0"),
        ("vllm/vllm-openai-rocm:v0.16.0", "0.16.0"),
        ("vllm/vllm-openai-cpu:v0.19.0-arm64", "0.19.0"),
        ("vllm/vllm-openai:gptoss", None),
        ("vllm/vllm-openai:gemma4-cu130", None),
        ("vllm/vllm-openai:deepseekv4-cu129", None),
        ("vllm/vllm-openai:glm5", None),
        ("vllm/vllm-openai:cu130-nightly", None),
        ("vllm/vllm-openai:nightly-aarch64", None),
        ("vllm/vllm-openai:nightly-0.26.0", None),
        ("vllm/vllm-openai:latest-cu130", None),
        ("vllm/vllm-openai:v0.11", None),
    ],
    "numbers that no release has": [
        ("vllm/vllm-openai:v0.18.2", None),
        ("vllm/vllm-openai:v0.10.3", None),
        ("vllm/vllm-openai:v0.5.4.post1", None),
        ("vllm/vllm-openai:v0.11.0.post1", None),
        ("vllm/vllm-openai:v3.2.2", None),
        ("vllm/vllm-openai:v25.9.1", None),
    ],
    "mirrors that keep the name": [
        ("m.daocloud.io/docker.io/vllm/vllm-openai:v0.9.1", "0.9.1"),
        ("swr.cn-north-4.myhuaweicloud.com/ddn-k8s/docker.io/vllm/vllm-openai:v0.26.0-cu129", "0.26.0"),
        ("123456789012.dkr.ecr.eu-central-1.amazonaws.com/docker-hub/vllm/vllm-openai:v0.10.2", "0.10.2"),
        ("harbor.example:8443/proxy/vllm/vllm-openai:v0.24.0@sha256:0123", "0.24.0"),
        ("harbor.example/library/vllm-openai:v0.24.0", None),
        ("harbor.example/mirror/vllm-vllm-openai:v0.24.0", None),
    ],
    "others who put the version of vLLM into the tag": [
        ("rocm/vllm:rocm6.2_mi300_ubuntu20.04_py3.9_vllm_0.6.4", "0.6.4"),
        ("rocm/vllm:rocm6.3.1_vllm0.8.5_20250521", "0.8.5"),
        ("rocm/vllm:rocm6.4.1_vllm_0.9.0.1_20250605", "0.9.0.1"),
        ("rocm/vllm:rocm7.0.0_vllm_0.10.2_20251006", "0.10.2"),
        ("rocm/vllm:rocm7.12.0_gfx1151_ubuntu24.04_py3.12_pytorch_2.9.1_vllm_0.16.0", "0.16.0"),
        ("rocm/vllm:rocm7.14.0_cdna_ubuntu24.04_py3.14_pytorch_2.11.0_vllm_0.23.0", "0.23.0"),
        ("rocm/vllm:rocm7.0_vllm_qwen3coder_next", None),
        ("rocm/vllm:rocm7.14.0", None),
        ("rocm/vllm-dev:nightly_main_20250911", None),
        ("gpustack/runner:cuda12.8-vllm0.10.2", "0.10.2"),
        ("registry.example/gpustack/runner:cuda12.9-vllm0.25.1", "0.25.1"),
        ("gpustack/runner:cuda12.8-sglang0.5.4", None),
        ("gpustack/runner:latest", None),
        ("public.ecr.aws/deep-learning-containers/vllm:0.11.1-gpu-py312-cu129-ubuntu22.04-ec2-v1.0", "0.11.1"),
        ("763104351884.dkr.ecr.us-east-1.amazonaws.com/vllm:0.20.2-gpu-py312-cu130-ubuntu22.04-sagemaker", "0.20.2"),
        ("763104351884.dkr.ecr.us-west-2.amazonaws.com/vllm:0.9-gpu-py312-ec2", None),
        ("public.ecr.aws/deep-learning-containers/vllm:server-hyperpod-cuda-v1.1", None),
        ("123456789012.dkr.ecr.us-east-1.amazonaws.com/vllm:0.11.0", None),
        ("intel/vllm:0.17.0-xpu", "0.17.0"),
        ("intel/vllm:0.21.0-ubuntu24.04-20260625", "0.21.0"),
        ("openeuler/vllm-cpu:0.20.1-oe2403sp3", "0.20.1"),
    ],
    "numbers of a product": [
        ("lmcache/vllm-openai:v0.3.9post2", None),
        ("lmcache/vllm-openai:2025-05-27-v1", None),
        ("registry.redhat.io/rhaiis/vllm-cuda-rhel9:3.0.0", None),
        ("registry.redhat.io/rhaii/vllm-cuda-rhel9:3.4.0", None),
        ("registry.redhat.io/rhoai/odh-vllm-cuda-rhel9:v2.25.0", None),
        ("quay.io/modh/vllm:rhoai-2.20-cuda", None),
        ("nvcr.io/nvidia/ai-dynamo/vllm-runtime:0.7.0", None),
        ("nvcr.io/nvidia/tritonserver:25.08-vllm-python-py3", None),
        ("nvcr.io/nim/meta/llama-3.1-8b-instruct:1.8.4", None),
        ("763104351884.dkr.ecr.us-west-2.amazonaws.com/djl-inference:0.34.0-lmi16.0.0-cu128", None),
        ("ghcr.io/llm-d/llm-d-cuda:v0.3.0", None),
        ("kserve/huggingfaceserver:v0.15.0-gpu", None),
        ("runpod/worker-v1-vllm:v2.7.0stable-cuda12.1.0", None),
        ("intel/llm-scaler-vllm:0.14.0-b8.2", None),
        ("opea/vllm-gaudi:1.2", None),
        ("vllm/vllm-tpu:v0.11.1", None),
        ("vllm/vllm-omni:v0.12.0", None),
        ("quay.io/ascend/vllm-ascend:v0.11.0rc0", None),
        ("xprobe/xinference:v1.9.0", None),
        ("lmsysorg/sglang:v0.5.4", None),
        ("ghcr.io/huggingface/text-generation-inference:3.3.4", None),
    ],
    "somebody's own": [
        ("drikster80/vllm-gh200-openai:v0.6.4.post1", None),
        ("substratusai/vllm-gh200:v0.8.3", None),
        ("rajesh550/gh200-vllm:0.10.2", None),
        ("nalanzeyu/vllm-gfx906:v0.11.0-rocm6.3", None),
        ("ghcr.io/someone/vllm:v0.6.1", None),
        ("my-vllm:v0.26.0", None),
    ],
}


@pytest.mark.parametrize(
    ("reference", "version"),
    [pytest.param(*row, id=f"{kind}: {row[0]}") for kind, rows in TAGS.items() for row in rows],
)
def test_what_real_tags_mean(reference: str, version: str | None) -> None:
    assert version_of_image(reference) == version


@pytest.mark.parametrize(
    ("text", "exists"),
    [
        pytest.param("0.33.0", True, id="a release that was read"),
        pytest.param("0.15.0", True, id="a release that was not read"),
        pytest.param("0.26", True, id="a release, in short"),
        pytest.param("v0.8.5.post1", True, id="a fix of its packaging"),
        pytest.param("0.10.1.1+381074ae.nv25.09", True, id="somebody's build of it"),
        pytest.param("0.18.2rc1.dev73+gdb7a17ecc", True, id="a build between releases"),
        pytest.param("0.33.1", True, id="newer than all that are known"),
        pytest.param("0.41.0", True, id="much newer"),
        pytest.param("1.0.0", True, id="the next major number"),
        pytest.param("0.18.2", False, id="between two releases"),
        pytest.param("0.5.4.post1", False, id="a fix that never was"),
        pytest.param("3.2.2", False, id="a product's"),
        pytest.param("1.4.0", False, id="another product's"),
        pytest.param("26.01", False, id="a month"),
        pytest.param("3.2.2rc1", False, id="a candidate of a product"),
        pytest.param("latest", False, id="no number"),
    ],
)
def test_a_number_that_no_release_has_is_no_version(text: str, exists: bool) -> None:
    assert may_exist(text) is exists


def test_no_release_is_listed_twice() -> None:
    assert not {*versions.UNREAD_RELEASES} & {*VERSIONS}


@pytest.mark.parametrize("name", ["encodings_built_in", "gpt_oss"])
def test_the_number_of_a_product_tells_nothing_about_vllm(name: str) -> None:
    assert (Release("3.2.2").behaves(name), Release("3.2.2").lacks(name)) == (False, False)


@pytest.mark.parametrize(
    ("labels", "env", "version"),
    [
        ({"com.nvidia.vllm.version": "0.10.1.1"}, [], "0.10.1.1"),
        ({"ai.vllm.VERSION": "0.26.0+cu130"}, [], "0.26.0+cu130"),
        ({"org.opencontainers.image.version": "22.04"}, [], None),
        ({"gpufleet.vllm.version": "0.1.0"}, [], None),
        ({"com.nvidia.vllm.version": "unknown"}, [], None),
        ({}, ["PATH=/bin", "VLLM_VERSION=0.20.1"], "0.20.1"),
        ({}, ["PYTHON_VERSION=3.12.1"], None),
        pytest.param({}, ["NVIDIA_VLLM_VERSION=26.01"], None, id="NVIDIA's month"),
        pytest.param({"com.redhat.vllm.version": "3.2.2"}, [], None, id="a product's number"),
        pytest.param({}, ["VLLM_ROUTER_VERSION=0.5.4", "LMCACHE_VLLM_PLUGIN_VERSION=0.3.1"], None, id="something else"),
        pytest.param({"vllm.version": "0.1.2"}, [], None, id="no release that serves like this"),
        pytest.param({}, ["NVIDIA_VLLM_VERSION=26.01", "VLLM_VERSION=0.13.0+faa43dbf"], "0.13.0+faa43dbf", id="both"),
        pytest.param({"vllm.version": "0.18.2"}, [], None, id="a number that no release has"),
        ({}, [], None),
    ],
)
def test_the_version_that_an_image_tells_of_itself(labels: dict[str, str], env: list[str], version: str | None) -> None:
    assert version_of_labels(labels, env) == version


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("nvcr.io/nvidia/vllm:26.05-py3", "26.05"),
        ("nvcr.io/nvidia/vllm:26.05.post1-py3@sha256:0", "26.05"),
        ("nvcr.io/nvidia/vllm", None),
        ("registry.example:5000/nvidia/vllm", None),
        ("registry.example/notnvidia/vllm:26.05-py3", None),
        ("vllm/vllm-openai:v0.26.0", None),
    ],
)
def test_the_month_of_an_image_of_nvidia(reference: str, name: str | None) -> None:
    assert ngc_name(reference) == name
