# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Nothing that a model, a log or a process is called reaches the terminal as a command."""

from __future__ import annotations

import time
import typing as t

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.printable import printable
from hypothesis import given, strategies as st


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, naïve 中文 🚀", "plain text, naïve 中文 🚀"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("dos\r\nline", "dos\nline"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;pwned\x07model", "model"),
        ("\x1b]52;c;cm0gLXJm\x07model", "model"),
        ("\x1b]0;pwned\x1b\\model", "model"),
        ("\x1bP1$r\x1b\\model", "model"),
        ("\x1bcmodel", "model"),
        ("\x9b31mmodel", "model"),
        ("\x9d0;x\x9cmodel", "model"),
        ("abc\b\b\bxyz", "abc\\x08\\x08\\x08xyz"),
        ("over\rwritten", "over\\rwritten"),
        ("bell\x07", "bell\\x07"),
        ("\u202eright to left", "right to left"),
        ("lone \ud800 half", "lone \\ud800 half"),
        ("wide\u00a0blank", "wide blank"),
    ],
)
def test_what_a_terminal_obeys_is_taken_out(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_a_structure_is_printable_down_to_its_keys() -> None:
    value = {"a\x1bc": ["\x1b]0;x\x07y", ("z\x07",)], "n": 1, "none": None, "yes": True, "f": 0.5}
    assert printable(value) == {"a": ["y", ["z\\x07"]], "n": 1, "none": None, "yes": True, "f": 0.5}


def test_what_is_nested_too_deeply_is_left_out() -> None:
    value: t.Any = "x"
    for _level in range(5000):
        value = [value]
    assert printable({"a": value}) == "(nested too deeply)"


@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20))
def test_nothing_else_comes_out(value: t.Any) -> None:
    def texts(found: t.Any) -> t.Iterator[str]:
        if isinstance(found, str):
            yield found
        elif isinstance(found, dict):
            for key, element in found.items():
                yield key
                yield from texts(element)
        else:
            for element in found:
                yield from texts(element)

    assert all(c.isprintable() or c in "\n\t" for text in texts(printable(value)) for c in text)
    assert printable(printable(value)) == printable(value)


@pytest.mark.parametrize("word", ["\x1b", "\x1b]", "\x1b[", "\x9d", "\x1bP\x1b", "\x07", "\r"])
def test_the_time_it_takes_grows_with_the_length(word: str) -> None:
    began = time.process_time()
    printable(word * 100_000)
    assert time.process_time() - began < 1
