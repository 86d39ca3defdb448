# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Print the real argument parser of `vllm serve` as JSON: flag to kind and choices. To hold the table against it.

Runs where that vLLM can be imported, and needs nothing of this repository. The demo's image will do for other
releases as well, as long as its libraries are of about their age:

    docker run --rm -v $PWD/tools:/tools:ro -v SOURCES:/sources:ro -e PYTHONPATH=/sources gpufleet/vllm-cpu:0.32.0 \\
        python3 /tools/dump_vllm_parser.py > tests/fixtures/vllm_parsers/VERSION.json
"""

import argparse
import contextlib
import importlib
import json
import sys

MODULES = (
    "vllm.entrypoints.openai.cli_args",
    "vllm.entrypoints.launchers.cli_args",
    "vllm.entrypoints.common.cli_args",
)
SWITCHES = ("BooleanOptionalAction", "EnableDisableAction")


def first(*names):
    for name in names:
        with contextlib.suppress(ImportError):
            return importlib.import_module(name)
    raise SystemExit(f"none of {', '.join(names)} can be imported")


def kind(action):
    if type(action).__name__ in SWITCHES:
        return "switch"
    if isinstance(action, argparse._StoreTrueAction):
        return "flag"
    if isinstance(action, argparse._AppendAction):
        return "append"
    return "list" if action.nargs in ("+", "*") else "value"


def describe(action):
    choices = sorted(str(choice) for choice in action.choices or () if choice not in (None, "None"))
    return {**({"choices": choices} if choices else {}), "kind": kind(action)}


def flags(parser):
    for action in parser._actions:
        options = [option for option in action.option_strings if option.startswith("--")]
        # Further names of a switch are its opposites; of anything else, the same again.
        for option in options[:1] if kind(action) == "switch" else options:
            if option != "--help":
                yield option[2:].replace("-", "_"), describe(action)


def main():
    with contextlib.redirect_stdout(sys.stderr):
        parser_class = first("vllm.utils.argparse_utils", "vllm.utils").FlexibleArgumentParser
        parser = first(*MODULES).make_arg_parser(parser_class())
    lines = [f"{json.dumps(name)}: {json.dumps(described)}" for name, described in sorted(flags(parser))]
    print("{\n" + ",\n".join(lines) + "\n}")


if __name__ == "__main__":
    main()
