# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read the flags and environment variables of one vLLM release from its sources, without running them.

vLLM builds most of its argument parser from the type hints of its configuration classes (its function get_kwargs).
This follows the same rules over the syntax tree, so that releases for other Pythons, and without torch, can be read.
What only exists at run time (choices that depend on the platform) is left open.
"""

from __future__ import annotations

import ast
import typing as t
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

# Paths below vllm/ that build the parser, or hold the classes and constants it is built from.
PARSER_FILES = (
    "config",
    "engine/",
    "entrypoints/",
    "envs.py",
    "model_executor/layers/quantization/__init__.py",
    "model_executor/model_loader/",
    "reasoning/",
    "scripts.py",
    "tool_parsers/",
    "utils/argparse_utils.py",
)
# Where names are registered that a flag takes.
REGISTRIES = {
    "reasoning_parser": ("reasoning/",),
    "tool_call_parser": ("entrypoints/openai/tool_parsers/", "tool_parsers/"),
}
# Functions in them that add the arguments of `vllm serve`.
PARSER_FUNCTIONS = {"add_cli_args", "make_arg_parser", "subparser_init"}
SEQUENCES = {"list", "List", "set", "Set", "tuple", "Tuple", "Sequence"}
MAPPINGS = {"dict", "Dict", "Mapping"}
WRAPPERS = {"Annotated", "SkipValidation", "InitVar", "ClassVar", "Final"}

# What an action of argparse makes of a flag.
ACTIONS = {
    "store_true": "flag",
    "StoreBoolean": "truth",
    "BooleanOptionalAction": "switch",
    "append": "append",
    "LoRAParserAction": "list",
    "PromptAdapterParserAction": "list",
}
# What a converter makes of it; the first that begins the expression wins.
CONVERTERS = (
    ("human_readable_int", "human"),
    ("json.loads", "json"),
    ("union_dict_and_str", "text"),
    ("nullable_kvs", "text"),
    ("int", "int"),
    ("float", "float"),
    ("bool", "str"),
    ("str", "str"),
)


@dataclass(frozen=True)
class Flag:
    """One long flag of C(vllm serve), named with underscores.

    The kinds: switch (--x and --no-x), flag (--x alone), list (--x A B), append (--x A --x B), int, human (an int that
    may be written 32k), float, truth (true or false as a word), json, text (JSON or a word), str. Open choices are the
    names vLLM knows where others may be added by plugins.
    """

    kind: str = "str"
    choices: tuple[str, ...] = ()
    is_open: bool = False
    aliases: tuple[str, ...] = ()
    default: str | None = None
    is_deprecated: bool = False


@dataclass
class Sources:
    """The parsed files of a release: what its classes and constants are called and hold."""

    trees: dict[str, ast.Module]
    classes: dict[str, ast.ClassDef] = field(default_factory=dict)
    configs: dict[str, ast.ClassDef] = field(default_factory=dict)
    values: dict[str, ast.expr] = field(default_factory=dict)
    human: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        # The configuration's own files last: what they define is what get_kwargs means.
        for path in sorted(self.trees, key=lambda p: (p.startswith("config") or "arg_utils" in p, p)):
            for node in self.trees[path].body:
                if isinstance(node, ast.ClassDef):
                    self.classes[node.name] = node
                    if path.startswith("config"):
                        self.configs[node.name] = node
                self.values.update(_assigned(node))
        self.human = set(_human_names(self.trees.values()))

    def nodes(self, kind: type[t.Any], prefixes: tuple[str, ...]) -> Iterator[t.Any]:
        for path, tree in self.trees.items():
            if path.startswith(prefixes):
                yield from (node for node in ast.walk(tree) if isinstance(node, kind))


def load(root: Path) -> Sources:
    """Parse what the argument parser is made of. C(root) holds the folder vllm."""
    trees = {}
    for path in sorted((root / "vllm").rglob("*.py")):
        name, text = path.relative_to(root / "vllm").as_posix(), path.read_text(encoding="utf-8")
        # Anywhere else only constants matter.
        constants = "Literal[" in text or name.endswith("backends/registry.py")
        if name.startswith(PARSER_FILES) or (constants and not name.startswith("model_executor/models/")):
            trees[name] = ast.parse(text)
    return Sources(trees)


def read_flags(sources: Sources) -> dict[str, Flag]:
    """The long flags of C(vllm serve), by name with underscores."""
    flags: dict[str, Flag] = {}
    for tree, function in _parser_functions(sources):
        flags.update(_Reader(sources, tree, function).flags())
    for name, prefixes in REGISTRIES.items():
        if name in flags:
            flags[name] = replace(flags[name], choices=tuple(sorted(set(_registered(sources, prefixes)))), is_open=True)
    return dict(sorted(flags.items()))


def read_environment(sources: Sources) -> tuple[str, ...]:
    """The variables that vLLM itself reads (the keys of envs.environment_variables)."""
    for node in sources.trees["envs.py"].body:
        for name, value in _assigned(node):
            if name == "environment_variables" and isinstance(value, ast.Dict):
                return tuple(sorted(str(k.value) for k in value.keys if isinstance(k, ast.Constant)))
    raise ValueError("vllm/envs.py has no mapping environment_variables; teach read_environment its new form.")


def has_inverse_pairs(sources: Sources) -> bool:
    """Whether --disable-x is the opposite of every switch --enable-x, and the other way round."""
    return any("_inverse_prefixes" in ast.dump(node) for node in sources.nodes(ast.ClassDef, ("utils/",)))


# ---------------------------------------------------------------------------------------------------------------------
# Where the parser is built
# ---------------------------------------------------------------------------------------------------------------------


def _parser_functions(sources: Sources) -> Iterator[tuple[ast.Module, ast.FunctionDef]]:
    for path, tree in sources.trees.items():
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        if path.endswith(("cli_args.py", "engine/arg_utils.py", "cli/serve.py")):
            yield from ((tree, node) for node in functions if node.name in PARSER_FUNCTIONS)
        elif path == "scripts.py":
            # Up to 0.7.3 all subcommands were built in one function; those of serve are added to serve_parser.
            yield from ((tree, node) for node in functions if "serve_parser" in ast.dump(node))


def _registered(sources: Sources, prefixes: tuple[str, ...]) -> Iterator[str]:
    """Names of parsers: by decorator in older releases, in one mapping in newer ones."""
    for node in sources.nodes(ast.ClassDef, prefixes):
        for call in node.decorator_list:
            if isinstance(call, ast.Call) and "register_module" in ast.unparse(call.func):
                yield from (word for argument in call.args for word in _words(argument))
    for node in sources.nodes(ast.Assign, prefixes):
        for name, value in _assigned(node):
            if name.endswith("_TO_REGISTER") and isinstance(value, ast.Dict):
                yield from (word for key in value.keys if key is not None for word in _words(key))


def _assigned(node: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    value = getattr(node, "value", None)
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    for target in targets:
        if isinstance(target, ast.Name) and value is not None:
            yield target.id, value


def _human_names(trees: Iterable[ast.Module]) -> Iterator[str]:
    """Names of the numbers that get_kwargs reads as 32k or 1M: it has a set of them, or compares one by one."""
    for tree in trees:
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef) and function.name in ("get_kwargs", "_compute_kwargs"):
                for node in ast.walk(function):
                    if isinstance(node, ast.Set) or (isinstance(node, ast.Compare) and _is_name(node.left, "name")):
                        yield from _words(node)


# ---------------------------------------------------------------------------------------------------------------------
# One function that adds arguments
# ---------------------------------------------------------------------------------------------------------------------


class _Reader:
    """Follows one function: what it takes from configuration classes, what it changes in that, what it adds."""

    def __init__(self, sources: Sources, tree: ast.Module, function: ast.FunctionDef) -> None:
        self.sources = sources
        self.tree = tree
        self.function = function
        self.hints = _HintReader(sources)
        # x_kwargs = get_kwargs(X), and y = x_kwargs["field"].
        self.groups: dict[str, dict[str, Flag]] = {}
        self.single: dict[str, Flag] = {}

    def flags(self) -> dict[str, Flag]:
        found: dict[str, Flag] = {}
        for node in _statements(self.function):
            self._follow(node)
            if isinstance(node, ast.Expr):
                for call in (n for n in ast.walk(node) if isinstance(n, ast.Call)):
                    found.update(self._argument(call))
            if isinstance(node, ast.For):
                found.update(self._loop(node))
        return found

    def _follow(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target = node.targets[0]
            if isinstance(target, ast.Name):
                self._bind(target.id, node.value)
            elif isinstance(target, ast.Subscript):
                self._change(target, node.value)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            self._remove(node.value)

    def _bind(self, name: str, value: ast.expr) -> None:
        call = _unsubscripted(value)
        if isinstance(call, ast.Call) and _is_name(call.func, "get_kwargs") and call.args:
            group, keys = self._fields(self._class_of(call.args[0])), _subscripts(value)
            if keys:
                self.single[name] = group[keys[0]]
            else:
                self.groups[name] = group
        elif isinstance(value, ast.Subscript):
            flag = self._lookup(value)
            if flag:
                self.single[name] = flag

    def _change(self, target: ast.Subscript, value: ast.expr) -> None:
        """x_kwargs["field"]["type"] = json.loads, and its like."""
        group, keys = self.groups.get(_base(target) or "", {}), _subscripts(target)
        if len(keys) == 2 and keys[0] in group:
            group[keys[0]] = self._told(group[keys[0]], {keys[1]: value})

    def _remove(self, call: ast.Call) -> None:
        """x_kwargs["field"]["choices"].remove(CONSTANT)."""
        if isinstance(call.func, ast.Attribute) and call.func.attr == "remove" and call.args:
            group, keys = self.groups.get(_base(call.func.value) or "", {}), _subscripts(call.func.value)
            if len(keys) == 2 and keys[0] in group:
                gone = set(self.hints.constants(call.args[0]))
                flag = group[keys[0]]
                group[keys[0]] = replace(flag, choices=tuple(c for c in flag.choices if c not in gone))

    def _lookup(self, node: ast.expr) -> Flag | None:
        if isinstance(node, ast.Name):
            return self.single.get(node.id)
        keys = _subscripts(node)
        return self.groups.get(_base(node) or "", {}).get(keys[0]) if len(keys) == 1 else None

    def _argument(self, call: ast.Call) -> dict[str, Flag]:
        """What add_argument adds; a flag with two long names is two flags that mean the same."""
        if not (isinstance(call.func, ast.Attribute) and call.func.attr == "add_argument"):
            return {}
        if self.tree is self.sources.trees.get("scripts.py") and not _is_name(call.func.value, "serve_parser"):
            return {}
        words = [a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        longs = [word for word in words if word.startswith("--")]
        flag = Flag()
        for keyword in call.keywords:
            if keyword.arg is None:
                flag = self._starred(keyword.value, flag)
        flag = self._told(flag, {k.arg: k.value for k in call.keywords if k.arg})
        shorts = tuple(_key(word) for word in words if word not in longs)
        return {_key(long): replace(flag, aliases=shorts) for long in longs}

    def _starred(self, node: ast.expr, flag: Flag) -> Flag:
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values):
                told = {} if key is None else {str(ast.literal_eval(key)): value}
                flag = self._starred(value, flag) if key is None else self._told(flag, told)
            return flag
        return self._lookup(node) or flag

    def _told(self, flag: Flag, said: dict[str, ast.expr]) -> Flag:
        """The flag with what add_argument is told in so many words."""
        if "type" in said:
            flag = replace(flag, kind=_converted(said["type"], flag.kind))
        if "nargs" in said and list(_words(said["nargs"])) in (["+"], ["*"]):
            flag = replace(flag, kind="list")
        if "choices" in said:
            is_open = isinstance(said["choices"], ast.BinOp)
            flag = replace(flag, choices=tuple(self.hints.constants(said["choices"])), is_open=is_open)
        if "action" in said:
            word = ast.unparse(said["action"]).strip("'\"").rsplit(".", 1)[-1]
            flag = replace(flag, kind=ACTIONS.get(word, flag.kind))
        if "default" in said:
            flag = replace(flag, default=_default(said["default"]))
        if "deprecated" in said or "DEPRECAT" in ast.unparse(said.get("help", ast.Constant(""))):
            flag = replace(flag, is_deprecated=True)
        return flag

    def _loop(self, loop: ast.For) -> dict[str, Flag]:
        """A loop over all fields of a class, or over pairs of flag and type."""
        if "add_argument" not in "".join(map(ast.dump, loop.body)):
            return {}
        if isinstance(loop.iter, ast.Call) and isinstance(loop.iter.func, ast.Attribute):
            group = dict(self.groups.get(_base(loop.iter.func.value) or "", {}))
            self._customize(group)
            return group
        flags = [word for word in _words(loop.iter) if word.startswith("--")]
        return {_key(flag): Flag(is_deprecated="deprecated" in ast.dump(loop)) for flag in flags}

    def _customize(self, group: dict[str, Flag]) -> None:
        """Special cases that newer releases keep in a method of their own."""
        for cls in self._family():
            for method in cls.body:
                if isinstance(method, ast.FunctionDef) and method.name == "_customize_cli_kwargs":
                    inner = _Reader(self.sources, self.tree, method)
                    inner.groups["frontend_kwargs"] = group
                    inner.flags()

    def _family(self) -> list[ast.ClassDef]:
        """The class around the function and those derived from it, bases first."""
        classes = [node for node in self.tree.body if isinstance(node, ast.ClassDef)]
        owners = [c for c in classes if self.function in c.body]
        return owners + [c for c in classes if owners and _derives(c, owners[0].name)]

    def _class_of(self, node: ast.expr) -> str:
        name = _base(node) or ""
        # C(cls) in a classmethod: the most derived class registers the arguments of all its bases.
        return self._family()[-1].name if name == "cls" else name

    def _fields(self, name: str) -> dict[str, Flag]:
        fields: dict[str, Flag] = {}
        cls = self.sources.classes.get(name)
        for base in cls.bases if cls else ():
            fields.update(self._fields(_base(base) or ""))
        body = cls.body if cls else []
        for item, following in zip(body, [*body[1:], None]):
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                flag = self.hints.flag(item.target.id, item.annotation)
                told = "".join(_words(following)) if isinstance(following, ast.Expr) else ""
                is_deprecated = told.lstrip().lower().startswith(("[deprecated", "deprecated"))
                default = _default(item.value) if item.value else None
                fields[item.target.id] = replace(flag, default=default, is_deprecated=is_deprecated)
        return fields


# ---------------------------------------------------------------------------------------------------------------------
# Type hints, as get_kwargs reads them
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Hints:
    """The alternatives of a type hint: plain names, and the values of its literals."""

    names: frozenset[str]
    literals: tuple[str, ...] = ()


class _HintReader:
    def __init__(self, sources: Sources) -> None:
        self.sources = sources

    def flag(self, name: str, annotation: ast.expr) -> Flag:
        """The rules of get_kwargs, in its order."""
        hints = self._read(annotation)
        names = frozenset("dict" if self._is_dict(n) else n for n in hints.names)
        if any(self._is_config(n) for n in names):
            return Flag("json")
        if "bool" in names:
            return Flag("str" if "str" in names else "switch")
        if names & SEQUENCES:
            return Flag("list", tuple(sorted(hints.literals)))
        if hints.literals:
            return Flag("str", tuple(sorted(hints.literals)), is_open=bool(names & {"str", "SkipValidation"}))
        if "int" in names:
            return Flag("human" if name in self.sources.human else "int")
        if "float" in names:
            return Flag("float")
        if names & MAPPINGS:
            return Flag("json" if names <= MAPPINGS | {"None", "SkipValidation"} else "text")
        enumerated = [member for n in names for member in self._members(n)]
        return Flag("str", tuple(sorted(enumerated)), is_open=bool(enumerated))

    def constants(self, node: ast.AST) -> Iterator[str]:
        """Constant choices, also through get_args(X), list(X), [*X, None] and names of constants."""
        if isinstance(node, ast.Constant):
            yield from () if node.value is None else (str(node.value),)
        elif isinstance(node, ast.Name) and node.id in self.sources.values:
            yield from self.constants(self.sources.values[node.id])
        elif isinstance(node, ast.Subscript) and _base(node) == "Literal":
            yield from self.constants(node.slice)
        elif isinstance(node, ast.Name) and node.id in self.sources.classes:
            for item in self.sources.classes[node.id].body:
                yield from (word for _name, value in _assigned(item) for word in self.constants(value))
        else:
            for child in _parts(node):
                yield from self.constants(child)

    def _read(self, node: ast.expr) -> _Hints:
        if isinstance(node, ast.BinOp):
            return _union([self._read(node.left), self._read(node.right)])
        if isinstance(node, ast.Constant):
            is_text = isinstance(node.value, str)
            return self._read(ast.parse(str(node.value), mode="eval").body) if is_text else _Hints(frozenset({"None"}))
        if isinstance(node, ast.Name) and node.id in self.sources.values and node.id not in self.sources.classes:
            return self._read(self.sources.values[node.id])
        if isinstance(node, ast.Subscript):
            return self._generic(node)
        return _Hints(frozenset({_base(node) or "object"}))

    def _generic(self, node: ast.Subscript) -> _Hints:
        base = _base(node) or ""
        parts = list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]
        if base == "Literal":
            return _Hints(frozenset({"Literal"}), tuple(self.constants(node.slice)))
        if base == "Optional":
            return _union([self._read(parts[0]), _Hints(frozenset({"None"}))])
        if base == "Union":
            return _union([self._read(part) for part in parts])
        if base in WRAPPERS:
            # What is not validated by type is no closed choice.
            more = [_Hints(frozenset({base}))] if base == "SkipValidation" else []
            return _union([self._read(parts[0]), *more])
        return _Hints(frozenset({base}), self._read(parts[0]).literals if base in SEQUENCES else ())

    def _is_dict(self, name: str) -> bool:
        cls = self.sources.classes.get(name)
        return cls is not None and any(_derives(cls, base) for base in MAPPINGS)

    def _is_config(self, name: str) -> bool:
        cls = self.sources.configs.get(name)
        decorators = [ast.unparse(d) for d in cls.decorator_list] if cls else []
        return any("dataclass" in d or d.startswith("config") for d in decorators)

    def _members(self, name: str) -> list[str]:
        cls = self.sources.classes.get(name)
        if cls is None or not any((_base(b) or "").endswith("Enum") for b in cls.bases):
            return []
        return [member for item in cls.body for member, _value in _assigned(item) if not member.startswith("_")]


def _union(hints: list[_Hints]) -> _Hints:
    literals = tuple(dict.fromkeys(word for h in hints for word in h.literals))
    return _Hints(frozenset().union(*(h.names for h in hints)), literals)


# ---------------------------------------------------------------------------------------------------------------------
# Small things
# ---------------------------------------------------------------------------------------------------------------------


def _converted(node: ast.expr, before: str) -> str:
    """The kind of a flag whose value goes through this callable."""
    text = ast.unparse(node)
    if before in ("append", "list", "switch", "flag") and "json.loads" not in text:
        return before  # It converts one element.
    for word, kind in CONVERTERS:
        if text == word or text.startswith(word + "_") or text in (f"optional_type({word})", f"nullable({word})"):
            return kind
    return before


def _default(node: ast.expr) -> str | None:
    """A default that is a plain number, word or truth value."""
    if isinstance(node, ast.Call) and _base(node.func) == "Field":
        given = [k.value for k in node.keywords if k.arg == "default"] or node.args[:1]
        return _default(given[0]) if given else None
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError):
        return None
    is_word = isinstance(value, (int, float)) or (isinstance(value, str) and value and not set(value) & set(" \t\n@"))
    return str(value) if is_word else None


def _statements(function: ast.FunctionDef) -> Iterator[ast.stmt]:
    """All statements in order, those of nested blocks included."""
    todo: list[ast.stmt] = list(function.body)
    while todo:
        node = todo.pop(0)
        yield node
        todo = [*getattr(node, "body", []), *getattr(node, "orelse", []), *todo]


def _parts(node: ast.AST) -> list[ast.AST]:
    if isinstance(node, ast.Call):
        keys = [node.func.value] if isinstance(node.func, ast.Attribute) and node.func.attr == "keys" else []
        return [*node.args, *keys]
    if isinstance(node, ast.Dict):
        return [key for key in node.keys if key is not None]
    if isinstance(node, ast.Starred):
        return [node.value]
    if isinstance(node, ast.BinOp):
        return [node.left]
    if isinstance(node, ast.ListComp):
        return [node.generators[0].iter]
    return list(getattr(node, "elts", []))


def _words(node: ast.AST | None) -> Iterator[str]:
    for inner in ast.walk(node) if node else ():
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            yield inner.value


def _unsubscripted(node: ast.AST) -> ast.AST:
    while isinstance(node, ast.Subscript):
        node = node.value
    return node


def _base(node: ast.AST) -> str | None:
    node = _unsubscripted(node)
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else None


def _subscripts(node: ast.AST) -> list[str]:
    words: list[str] = []
    while isinstance(node, ast.Subscript):
        words += list(_words(node.slice))
        node = node.value
    return words[::-1]


def _derives(cls: ast.ClassDef, base: str) -> bool:
    return any(_base(b) == base for b in cls.bases)


def _is_name(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _key(flag: str) -> str:
    return flag.lstrip("-").replace("-", "_")
