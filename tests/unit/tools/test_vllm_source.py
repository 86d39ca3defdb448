# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""tools/vllm_source.py and tools/vllm_flags.py: sources of a release become lines of the table."""

from __future__ import annotations

import io
import sys
import tarfile
import textwrap
import typing as t
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "tools"))

import vllm_flags  # noqa: E402
import vllm_source  # noqa: E402
from vllm_source import Flag, has_inverse_pairs, load, read_environment, read_flags  # noqa: E402

CONFIG = """
    from typing import Annotated, Literal, Optional, Union
    CacheDType = Literal["auto", "fp8"]
    OTHER = "x"
    class Backend(Enum):
        FLASH = "a"
        TRITON = "b"
    @config
    class Sub:
        a: int = 1
    @config
    class Base:
        inherited: str = "i"
    @config
    class ModelConfig(Base):
        text: Optional[str] = None
        number: int = 3
        length: Optional[int] = None
        share: float = Field(default=0.92, gt=0)
        wide: Annotated[int, Field(ge=1)] = 4
        switch: bool = False
        choice: CacheDType = "auto"
        open_choice: CacheDType | str = "auto"
        skipped: SkipValidation[Optional[CacheDType]] = None
        skipped_switch: SkipValidation[bool] = None
        words: list[str] = field(default_factory=list)
        picks: list[Literal["one", "two"]] | None = None
        mapping: dict[str, int] = field(default_factory=dict)
        either: Union[dict, str] = ""
        sub: Optional[Sub] = None
        backend: Backend | None = None
        old: bool = False
        \"\"\"[DEPRECATED] It does nothing.\"\"\"
        only_in_class: int = 1
    """
ARGUMENTS = """
    def get_kwargs(cls):
        if name == "length": human()
    class EngineArgs:
        @staticmethod
        def add_cli_args(parser):
            model_kwargs = get_kwargs(ModelConfig)
            group = parser.add_argument_group()
            for_nothing = parser.add_mutually_exclusive_group()
            group.add_argument("--inherited", **model_kwargs["inherited"])
            group.add_argument("--text", **model_kwargs["text"])
            group.add_argument("--number", "-n", **model_kwargs["number"])
            group.add_argument("--length", **model_kwargs["length"])
            group.add_argument("--share", "--portion", **model_kwargs["share"])
            group.add_argument("--wide", **{**model_kwargs["wide"], "default": None})
            group.add_argument("--switch", **model_kwargs["switch"])
            model_kwargs["choice"]["choices"].remove("fp8")
            group.add_argument("--choice", **model_kwargs["choice"])
            group.add_argument("--open-choice", **model_kwargs["open_choice"])
            group.add_argument("--skipped", **model_kwargs["skipped"])
            group.add_argument("--skipped-switch", **model_kwargs["skipped_switch"])
            group.add_argument("--words", **model_kwargs["words"])
            group.add_argument("--picks", **model_kwargs["picks"])
            group.add_argument("--mapping", **model_kwargs["mapping"])
            group.add_argument("--either", **model_kwargs["either"])
            sub_kwargs = get_kwargs(ModelConfig)["sub"]
            group.add_argument("--sub", **sub_kwargs)
            group.add_argument("--backend", **model_kwargs["backend"])
            group.add_argument("--old", **model_kwargs["old"])
            group.add_argument("--plain", type=int, default=5)
            group.add_argument("--stored", action="store_true")
            group.add_argument("--truth", action=StoreBoolean)
            group.add_argument("--named", choices=["a", OTHER, None], deprecated=True)
            group.add_argument("--platform", choices=["cpu"] + more())
            group.add_argument("--constants", choices=[f.value for f in Backend])
            for arg, type in [("--gone-soon", str), ("--gone-too", bool)]:
                group.add_argument(arg, type=type, deprecated=True)
    """
FRONTEND = """
    class FrontendArgs:
        host: str | None = None
        origins: list[str] = ["*"]
        middleware: list[str] = []
        tool_call_parser: str | None = None
        @classmethod
        def _customize_cli_kwargs(cls, frontend_kwargs):
            frontend_kwargs["origins"]["type"] = json.loads
            del frontend_kwargs["origins"]["nargs"]
            frontend_kwargs["middleware"]["action"] = "append"
            frontend_kwargs["middleware"]["type"] = str
        @classmethod
        def add_cli_args(cls, parser):
            frontend_kwargs = get_kwargs(cls)
            for key, value in frontend_kwargs.items():
                group.add_argument(f"--{key}", **value)
    def make_arg_parser(parser):
        parser.add_argument("model_tag")
        parser.add_argument("--headless", action="store_true", default=False)
    """
ENVS = """
    environment_variables: dict[str, Callable] = {"VLLM_A": lambda: 1, "VLLM_B": lambda: 2}
    """
PARSERS = """
    _TOOL_PARSERS_TO_REGISTER = {"hermes": 1, "openai": 2}
    """


def release(root: Path, **changed: str) -> Path:
    files = {
        "config/model.py": CONFIG,
        "engine/arg_utils.py": ARGUMENTS,
        "entrypoints/openai/cli_args.py": FRONTEND,
        "envs.py": ENVS,
        "tool_parsers/__init__.py": PARSERS,
        "utils/argparse_utils.py": "",
    }
    for name, text in {**files, **changed}.items():
        path = root / "vllm" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return root


def test_every_form_in_which_vllm_declares_a_flag(tmp_path: Path) -> None:
    assert read_flags(load(release(tmp_path))) == {
        "inherited": Flag("str", default="i"),
        "text": Flag("str"),
        "number": Flag("int", aliases=("n",), default="3"),
        "length": Flag("human"),
        "share": Flag("float", default="0.92"),
        "portion": Flag("float", default="0.92"),
        "wide": Flag("int"),
        "switch": Flag("switch", default="False"),
        "choice": Flag("str", ("auto",), default="auto"),
        "open_choice": Flag("str", ("auto", "fp8"), is_open=True, default="auto"),
        "skipped": Flag("str", ("auto", "fp8"), is_open=True),
        "skipped_switch": Flag("switch"),
        "words": Flag("list"),
        "picks": Flag("list", ("one", "two")),
        "mapping": Flag("json"),
        "either": Flag("text"),
        "sub": Flag("json"),
        "backend": Flag("str", ("FLASH", "TRITON"), is_open=True),
        "old": Flag("switch", default="False", is_deprecated=True),
        "plain": Flag("int", default="5"),
        "stored": Flag("flag"),
        "truth": Flag("truth"),
        "named": Flag("str", ("a", "x"), is_deprecated=True),
        "platform": Flag("str", ("cpu",), is_open=True),
        "constants": Flag("str", ("a", "b")),
        "gone_soon": Flag(is_deprecated=True),
        "gone_too": Flag(is_deprecated=True),
        "host": Flag("str"),
        "origins": Flag("json"),
        "middleware": Flag("append"),
        "tool_call_parser": Flag("str", ("hermes", "openai"), is_open=True),
        "headless": Flag("flag", default="False"),
    }


def test_variables_are_the_keys_of_one_mapping(tmp_path: Path) -> None:
    assert read_environment(load(release(tmp_path))) == ("VLLM_A", "VLLM_B")


def test_sources_without_that_mapping_are_told_and_not_guessed_at(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="teach read_environment its new form"):
        read_environment(load(release(tmp_path, **{"envs.py": "other = {}"})))


@pytest.mark.parametrize("text", ["", "class A(B):\n    _inverse_prefixes = {}"])
def test_opposite_pairs_are_noticed(text: str, tmp_path: Path) -> None:
    assert has_inverse_pairs(load(release(tmp_path, **{"utils/argparse_utils.py": text}))) == bool(text)


# --- the table ------------------------------------------------------------------------------------------------------


def table(*versions: str) -> vllm_flags.Table:
    return vllm_flags.Table(list(versions), {}, {}, set())


def standin_in(directory: Path) -> Path:
    """The stand-in's list of flags, elsewhere."""
    path = directory / "flags.tsv"
    path.write_text(vllm_flags.STANDIN.read_text())
    return path


def test_releases_become_ranges_and_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = table()
    made.add("0.9.0", release(tmp_path / "a"))
    made.add(
        "0.11.0", release(tmp_path / "c", **{"engine/arg_utils.py": "", "envs.py": ENVS.replace("VLLM_B", "VLLM_C")})
    )
    made.add(
        "0.10.0", release(tmp_path / "b", **{"config/model.py": CONFIG.replace("number: int = 3", "number: float = 3")})
    )
    monkeypatch.setattr(vllm_flags, "TABLE", tmp_path / "table.py")
    monkeypatch.setattr(vllm_flags, "STANDIN", standin_in(tmp_path))
    made.write()
    data: dict[str, t.Any] = {}
    exec((tmp_path / "table.py").read_text(), data)  # noqa: S102  # Written by this test.
    assert data["VERSIONS"] == ("0.9.0", "0.10.0", "0.11.0")
    assert data["FLAGS"]["number"] == "0.9.0..0.10.0 :float@0.10.0 :int@0.9.0 -n =3"
    assert data["FLAGS"]["named"] == "0.9.0..0.10.0 :str ! a x"
    assert data["FLAGS"]["host"] == "0.9.0.. :str"
    assert data["ENVIRONMENT"] == {"VLLM_A": "0.9.0..", "VLLM_B": "0.9.0..0.10.0", "VLLM_C": "0.11.0.."}
    assert "changed  --number: +[kind float] -[kind int]" in vllm_flags.delta(made, "0.10.0")
    assert {"removed  --number", "added    VLLM_C", "removed  VLLM_B"} <= set(vllm_flags.delta(made, "0.11.0"))


def test_the_table_reads_back_what_it_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = vllm_flags.TABLE.read_text()
    monkeypatch.setattr(vllm_flags, "TABLE", tmp_path / "table.py")
    monkeypatch.setattr(vllm_flags, "STANDIN", standin_in(tmp_path))
    vllm_flags.Table.read().write()
    assert (tmp_path / "table.py").read_text() == written


def test_a_release_that_is_read_again_replaces_itself(tmp_path: Path) -> None:
    made = table()
    made.add("0.9.0", release(tmp_path / "a"))
    made.add("0.9.0", release(tmp_path / "b", **{"engine/arg_utils.py": ""}))
    assert made.flags["number"][""] == set() and made.versions == ["0.9.0"]


def test_a_choice_that_would_break_the_table_is_refused() -> None:
    for choice in ("", "=x", "a b", "a@b"):
        with pytest.raises(SystemExit, match="needs another encoding"):
            list(vllm_flags._tokens(Flag(choices=(choice,))))


# --- archives -------------------------------------------------------------------------------------------------------


def archive(kind: str, names: t.Iterable[str]) -> bytes:
    stream = io.BytesIO()
    if kind == "wheel":
        with zipfile.ZipFile(stream, "w") as wheel:
            for name in names:
                wheel.writestr(name, "x = 1")
    else:
        with tarfile.open(fileobj=stream, mode="w:gz") as source:
            for name in names:
                info = tarfile.TarInfo(f"vllm-0.9.0/{name}")
                info.size = 5
                source.addfile(info, io.BytesIO(b"x = 1"))
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["wheel", "source"])
def test_only_the_python_files_of_vllm_are_unpacked(kind: str, tmp_path: Path) -> None:
    names = ["vllm/envs.py", "vllm/engine/a.py", "vllm/_C.so", "setup.py", "vllm/../../escaped.py"]
    unpacked = vllm_flags.unpack(archive(kind, names), tmp_path / "0.9.0")
    found = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert unpacked == tmp_path / "0.9.0"
    assert found == ["0.9.0/vllm/engine/a.py", "0.9.0/vllm/envs.py"]


def test_an_archive_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="does not hold the sources of vLLM"):
        vllm_flags.unpack(archive("wheel", ["other/envs.py"]), tmp_path / "0.9.0")


def test_the_files_of_an_index_page_are_found_by_name() -> None:
    links = vllm_flags._Links("https://index.example.com/simple/vllm/")
    links.feed(
        '<a href="../../files/vllm-0.9.0.tar.gz#sha256=1">x</a><a href="https://f.example.com/vllm%2B1.whl">y</a>'
    )
    assert links.files == {
        "vllm-0.9.0.tar.gz": "https://index.example.com/files/vllm-0.9.0.tar.gz",
        "vllm+1.whl": "https://f.example.com/vllm%2B1.whl",
    }


def test_the_reader_says_which_kinds_there_are() -> None:
    assert {kind for _word, kind in vllm_source.CONVERTERS} | set(vllm_source.ACTIONS.values()) <= {
        *("switch", "flag", "list", "append", "int", "human", "float", "truth", "json", "text", "str")
    }


def test_the_stand_in_knows_the_flags_of_the_table() -> None:
    before = vllm_flags.STANDIN.read_text()
    assert vllm_flags.Table.read().standin(before) == before
