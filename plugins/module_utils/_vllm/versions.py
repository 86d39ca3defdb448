# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What each vLLM version accepts and how it behaves, and which version an image holds. Pure.

The table itself is C(_vllm/flags.py), written by C(tools/vllm_flags.py). How it is written:

* A range is C(FIRST..LAST), C(FIRST..) up to the newest release that was read, or one release; several are joined by
  commas.
* An entry of C(FLAGS) is the range of the flag's life and then its properties, each with C(@RANGE) unless it holds for
  the whole life: C(:KIND), C(-ALIAS) (a short form), C(=DEFAULT), C(?) (the choices are not the only ones), C(!)
  (deprecated), and anything else is a choice. The kinds are those of C(tools/vllm_source.py).
"""

from __future__ import annotations

import functools
import re
import typing as t
from dataclasses import dataclass

from .._errors import VllmError
from .flags import ENVIRONMENT, FLAGS, INVERSE_PAIRS, VERSIONS

Version = tuple[int, ...]

# The number at the front decides; builds (+cu129, .nv25.09), post releases, candidates and nightlies follow it.
_NUMBER = re.compile(r"v?(\d+(?:\.\d+)+)")
# A number as the project gives it to a release, a candidate of one, or a fix of its packaging.
_RELEASE = r"(\d+(?:\.\d+){2,3})(\.post\d+)?(rc\d+)?"
# A build that is no release: a candidate, or what stands between two of them.
_BUILD = re.compile(r"(?:a|b|rc|\.?dev)\d*")

# Whose tags tell the version of vLLM, and how: the project's images, wherever they are mirrored, the one that tests/rig
# builds, and those of others who put the version of vLLM into the tag, at its front or behind its name. Others number
# their product (lmcache/vllm-openai:v0.5.4 holds vLLM 0.27.1), or whatever they like: their names tell nothing.
_FRONT = re.compile(rf"v?{_RELEASE}(?:[.+_-].*)?")
_BEHIND_ITS_NAME = re.compile(rf"(?:.*[_-])?vllm_?{_RELEASE}(?:[.+_-].*)?")
TAGS_OF: t.Mapping[str, re.Pattern[str]] = {
    "vllm/vllm-openai": _FRONT,
    "vllm/vllm-openai-cpu": _FRONT,
    "vllm/vllm-openai-rocm": _FRONT,
    "vllm/vllm-openai-xpu": _FRONT,
    "q9t5s3a7/vllm-cpu-release-repo": _FRONT,
    "q9t5s3a7/vllm-release-repo": _FRONT,
    "gpufleet/vllm-cpu": _FRONT,
    "deep-learning-containers/vllm": _FRONT,
    "intel/vllm": _FRONT,
    "openeuler/vllm-cpu": _FRONT,
    "gpustack/runner": _BEHIND_ITS_NAME,
    "rocm/vllm": _BEHIND_ITS_NAME,
    "rocm/vllm-dev": _BEHIND_ITS_NAME,
}
# The same images of AWS in the registry of an account, whose repository is called vllm alone.
_DEEP_LEARNING_CONTAINERS = re.compile(r"763104351884\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(?:\.cn)?/vllm")


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# Releases beside those that were read (VERSIONS): what stands in neither list below the newest one was never released.
UNREAD_RELEASES = _words("""
    0.0.1 0.1.0 0.1.1 0.1.2 0.1.3 0.1.4 0.1.5 0.1.6 0.1.7 0.2.0 0.2.1 0.2.1.post1 0.2.2 0.2.3 0.2.4 0.2.5 0.2.6 0.2.7
    0.3.0 0.3.1 0.3.2 0.3.3 0.4.0 0.4.0.post1 0.4.1 0.4.2 0.4.3 0.5.0 0.5.0.post1 0.5.1 0.5.2 0.5.3 0.5.3.post1 0.5.4
    0.6.0 0.6.1 0.6.1.post1 0.6.1.post2 0.6.2 0.6.3 0.6.3.post1 0.6.4 0.6.4.post1 0.6.5 0.6.6.post1 0.7.0 0.7.1 0.7.2
    0.8.0 0.8.1 0.8.2 0.8.3 0.8.4 0.8.5.post1 0.9.0.1 0.15.0
""")

# NVIDIA's images are named after the month; what they print at their start is listed, since the release notes err.
# Months that are not listed exist, with a version nobody has confirmed.
NGC_VERSIONS = {
    "25.09": "0.10.1.1",
    "25.10": "0.10.2",
    "25.11": "0.11.0",
    "25.12": "0.11.1",
    "25.12.post1": "0.12.0",
    "26.01": "0.13.0",
    "26.02": "0.15.1",
    "26.03": "0.17.1",
    "26.04": "0.19.0",
    "26.05": "0.20.1",
    "26.05.post1": "0.20.1",
    "26.06": "0.22.1",
    "26.07": "0.24.0",
    "26.08": "0.27.1",
    "26.09": "0.29.0",
    "26.10": "0.31.0",
}
NGC_REPOSITORY = "nvidia/vllm"
_NGC_TAG = re.compile(r"((\d\d\.\d\d)(?:\.post\d+)?)(?:-.*)?")
# Prints the version of vLLM from its metadata: imports nothing of vLLM, needs no GPU and takes well under a second.
METADATA_PROGRAM = "import importlib.metadata as m; print(m.version('vllm'))"

# What does not show in the flags, with the versions it holds for. tools/behaviours.py says what each is.
BEHAVIOURS: t.Mapping[str, str] = {
    "opposite_pairs": INVERSE_PAIRS,
    **dict(
        line.split()
        for line in """\
gpt_oss 0.10.1..
encodings_built_in 0.31.0..
encodings_from_directory 0.10.1..0.30.0
mxfp4_dense_fails 0.10.1..0.11.0
mxfp4_dense_ignored 0.11.1..0.29.0
mxfp4_dense 0.30.0..
v0_fatal 0.11.0
v1_variable 0.8.5..0.11.0
unknown_variables_warn 0.17.0..
auto_max_model_len 0.14.0..
ray_included 0.5.5..0.17.1
kv_16_bit_as_model 0.33.0..
utilization_090 0.5.5..0.19.1
utilization_092 0.20.0..
graphs_in_budget 0.21.0..
unified_as_large 0.5.5..0.32.0
batch_of_16384 0.28.0..
unified_available 0.11.1..
groups_padded_125 0.12.0..
groups_padded_150 0.18.0..
tokens_by_concurrency 0.20.2..
batches_in_flight 0.26.0..
connectors_asked 0.23.0..
items_at_once 0.22.1..
values_of_their_size 0.20.2..
indexes_shared 0.21.0..
compressed_in_buckets 0.23.0..
compressed_densely 0.27.0..
states_checkpointed 0.32.0..
delta_checkpointed 0.33.0..
states_aligned 0.15.1..
prefix_caching_of_states 0.26.0..
kernels_shared 0.16.0..
latent_blocks_of_128 0.33.0..
health_500 0.5.5..0.10.2
health_503 0.11.0..
exit_status_0 0.8.5..
port_shared 0.7.3..0.24.0
requests_logged 0.5.5..0.10.0
config_json 0.16.0..
log_redacted 0.30.0..
""".splitlines()
    ),
}


@functools.cache
def parse(text: str) -> Version:
    """The number of a version, at least three parts long: C(0.10.1.1+381074ae.nv25.09) is (0, 10, 1, 1).

    Raises:
        VllmError: when the text does not begin with a version.
    """
    found = _NUMBER.match(str(text).strip())
    if not found:
        raise VllmError(f"vllm_version: {text!r} is not a version; write it as vLLM does, for example 0.26.0.")
    numbers = tuple(int(part) for part in found.group(1).split("."))
    return numbers + (0,) * (3 - len(numbers))


def within(version: Version, ranges: str) -> bool:
    """Whether a version lies in a range as the table writes it."""
    for run in ranges.split(",") if ranges else ():
        first, dots, last = run.partition("..")
        if parse(first) <= version and (version <= parse(last) if last else bool(dots) or version == parse(first)):
            return True
    return False


KNOWN: tuple[Version, ...] = tuple(parse(text) for text in VERSIONS)
OLDEST, NEWEST = VERSIONS[0], VERSIONS[-1]
RELEASED = {*VERSIONS, *UNREAD_RELEASES}
_RELEASED_NUMBERS = {parse(text) for text in RELEASED}


@functools.cache
def may_exist(text: str) -> bool:
    """Whether vLLM has, or may have, a version of that number: a release, a build between releases, or one that comes
    after all that are known."""
    found = _NUMBER.match(text.strip())
    if not found or is_of_another_product(text):
        return False
    if parse(text) > KNOWN[-1] or _BUILD.match(text.strip()[found.end() :]):
        return True
    packaging = re.match(r"\.post\d+", text.strip()[found.end() :])
    return f"{found.group(1)}{packaging.group()}" in RELEASED if packaging else parse(text) in _RELEASED_NUMBERS


def is_of_another_product(text: str) -> bool:
    """Whether it is a number that vLLM has not come near to, beyond the first of the next major number: that of what
    vLLM is a part of."""
    return parse(text)[:2] > (KNOWN[-1][0] + 1, 0)


@dataclass(frozen=True)
class Flag:
    """One flag of C(vllm serve) in one release."""

    name: str
    kind: str
    choices: tuple[str, ...]
    is_open: bool
    is_deprecated: bool
    default: str | None
    aliases: tuple[str, ...]


@dataclass(frozen=True)
class Release:
    """One version of vLLM, whether or not it was read."""

    text: str

    @property
    def version(self) -> Version:
        """The release as numbers."""
        return parse(self.text)

    @property
    def is_covered(self) -> bool:
        """Whether it lies between the oldest and the newest release that was read."""
        return KNOWN[0] <= self.version <= KNOWN[-1]

    @property
    def _neighbours(self) -> tuple[Version, Version]:
        """The releases that were read around this one; the nearest one twice outside of them all."""
        below = [v for v in KNOWN if v <= self.version] or [KNOWN[0]]
        above = [v for v in KNOWN if v >= self.version] or [KNOWN[-1]]
        return below[-1], above[0]

    def has(self, ranges: str) -> bool | None:
        """Whether the release lies in a range; None when it was not read and its neighbours differ."""
        if is_of_another_product(self.text):
            return None
        before, after = (within(version, ranges) for version in self._neighbours)
        return before if before == after else None

    def behaves(self, name: str) -> bool:
        """Whether a behaviour holds for the release, for certain."""
        return self.has(BEHAVIOURS[name]) is True

    def lacks(self, name: str) -> bool:
        """Whether a behaviour does not hold for the release, for certain."""
        return self.has(BEHAVIOURS[name]) is False

    def knows(self, name: str) -> bool | None:
        """Whether it has a flag of that name (underscores); None when that cannot be told."""
        return self.has(life(name)) if name in FLAGS else False

    def flag(self, name: str) -> Flag | None:
        """The flag as this release has it, or the release read last before it."""
        text = FLAGS.get(name)
        if text is None or self.knows(name) is False:
            return None
        return _flag(name, text, self._neighbours if self.has(life(name)) is None else self._neighbours[:1])

    def flags(self) -> list[str]:
        """The names of all flags it has."""
        return [name for name in FLAGS if self.knows(name)]

    def knows_variable(self, name: str) -> bool | None:
        """Whether it reads an environment variable; None when its neighbours differ."""
        ranges = ENVIRONMENT.get(name)
        return self.has(ranges) if ranges else False


def life(name: str) -> str:
    """The releases that have a flag."""
    return FLAGS[name].partition(" ")[0]


def choice_life(name: str, choice: str) -> str:
    """The releases in which a flag takes this choice; empty when it never was one."""
    lifetime, *tokens = FLAGS.get(name, "0").split()
    for token in tokens:
        word, _at, ranges = token.partition("@")
        if word == choice:
            return ranges or lifetime
    return ""


def _flag(name: str, text: str, versions: tuple[Version, ...]) -> Flag:
    lifetime, *tokens = text.split()
    words = [w for w, _at, ranges in (token.partition("@") for token in tokens) if _any(versions, ranges or lifetime)]
    kinds = [word[1:] for word in words if word[0] == ":"]
    return Flag(
        name=name,
        kind=kinds[0] if kinds else "str",
        choices=tuple(word for word in words if word[0] not in ":-=?!"),
        is_open="?" in words,
        is_deprecated="!" in words,
        default=next((word[1:] for word in words if word[0] == "="), None),
        aliases=tuple(word[1:] for word in words if word[0] == "-"),
    )


def _any(versions: tuple[Version, ...], ranges: str) -> bool:
    return any(within(version, ranges) for version in versions)


def option_kind(name: str, version: str | None) -> str:
    """How an option is written on the command line, by the newest release when the version is not known.

    A flag that the table does not have is written after its value.
    """
    base = name.partition(".")[0]
    if base not in FLAGS:
        return "any"
    releases = (Release(text) for text in (version or NEWEST, *reversed(VERSIONS)))
    flag = next(found for found in (release.flag(base) for release in releases) if found)
    return "text" if "." in name else flag.kind


# ---------------------------------------------------------------------------------------------------------------------
# Which version an image holds
# ---------------------------------------------------------------------------------------------------------------------


def version_of_image(reference: str) -> str | None:
    """The version that the name of an image tells, or None: only where its tags are known to follow vLLM's versions,
    and never a number that no release has."""
    repository, tag = _named(reference)
    if _is(repository, NGC_REPOSITORY):
        month = _NGC_TAG.fullmatch(tag)
        return NGC_VERSIONS.get(month.group(1)) if month else None
    found = next((form.fullmatch(tag) for known, form in TAGS_OF.items() if _is(repository, known)), None)
    if _DEEP_LEARNING_CONTAINERS.fullmatch(repository):
        found = _FRONT.fullmatch(tag)
    if not found or not may_exist("".join(filter(None, found.groups()))):
        return None
    return f"{found.group(1)}{found.group(3) or ''}"


def _named(reference: str) -> tuple[str, str]:
    """Repository and tag of an image; a port of its registry is no tag."""
    path, _slash, last = reference.partition("@")[0].rpartition("/")
    name, _colon, tag = last.partition(":")
    return f"{path}/{name}", tag


def _is(repository: str, known: str) -> bool:
    """Whether it is that repository, or a mirror that keeps its name."""
    return f"/{repository}".endswith(f"/{known}")


def version_of_labels(labels: t.Mapping[str, str], env: t.Iterable[str] = ()) -> str | None:
    """The version that an image's labels or environment tell: one named "vLLM version", with a number vLLM may have.

    The common label C(org.opencontainers.image.version) is no help: images inherit it from their base system. NVIDIA
    writes its month, and others their product's number, into labels of the right name.
    """
    variables = dict(entry.partition("=")[::2] for entry in env)
    told = {**{k: v for k, v in labels.items() if not k.startswith("gpufleet.vllm.")}, **variables}
    for key, value in sorted(told.items()):
        if re.split(r"[^a-z0-9]+", key.lower())[-2:] == ["vllm", "version"] and is_telling(str(value)):
            return str(value)
    return None


def is_telling(text: str) -> bool:
    """Whether what an image says of its version says anything: a build without the project's tags calls itself 0.1.dev,
    whatever is in it, and a number that no version has is that of something else."""
    return may_exist(text) and parse(text) >= KNOWN[0]


def ngc_name(reference: str) -> str | None:
    """The month of one of NVIDIA's images, such as C(26.05); None for others."""
    repository, tag = _named(reference)
    month = _NGC_TAG.fullmatch(tag) if _is(repository, NGC_REPOSITORY) else None
    return month.group(2) if month else None
