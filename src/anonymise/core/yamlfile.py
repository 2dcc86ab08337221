"""The one way in which this program reads and writes YAML: configurations, catalogs, tables, e-mail and database keys.

A value is a number, True or False, or null only where it looks like nothing else; all else is the text as it stands.
YAML 1.1, which PyYAML follows by itself, takes 0301 for 193, NO for False and 2024-13-01 for a date that is none.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import yaml
from yaml.error import Mark

from anonymise.core.errors import ConfigError

__all__ = ["Entry", "dump", "entries", "load", "read"]

_MAX_BYTES = 1 << 20
"""Of a file; the largest that comes with the program has twenty thousand."""

_MAX_DIGITS = 18
"""Of a whole number: what 64 bits hold."""

_BOOLEANS = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Entry:
    """A key and its value at the top of a YAML text.

    Attributes:
        line: line of the key, from 1.
    """

    key: str
    value: Any
    line: int


def read(file: Path) -> str:
    """The text of a YAML file.

    Raises:
        OSError: the file cannot be read.
        ConfigError: it is not UTF-8, or far too long.
    """
    with file.open("rb") as stream:
        data = stream.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise ConfigError([f"{file}: is larger than {_MAX_BYTES >> 20} MB; is it a settings file at all?"])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8-sig")
        place = _place(str(file), before.count("\n") + 1, len(before) - before.rfind("\n"))
        hint = (
            "UTF-16, as Windows PowerShell writes it; save it" if data[:2] in {b"\xff\xfe", b"\xfe\xff"} else "save it"
        )
        raise ConfigError([f"{place}: not UTF-8: {hint} as UTF-8"]) from None


def load(file: Path) -> Any:
    """The content of a YAML file: dict, list, str, int, float, bool or None; keys are always texts.

    Raises:
        OSError: the file cannot be read.
        ConfigError: it is not valid; the message has file, line and column, and quotes no value, which may be secret.
    """
    source = str(file)
    loader, root = _parsed(read(file), source)
    return None if root is None else _constructed(loader, root, source)


def entries(text: str, source: str, *, is_file: bool = True) -> list[Entry]:
    """The keys of a YAML text with their values, in order, also those that stand there twice.

    Args:
        text: the YAML.
        source: what the errors call it.
        is_file: whether the errors name line and column.

    Raises:
        ConfigError: the text is not valid, or its top is no mapping.
    """
    loader, root = _parsed(text, source, is_file=is_file)
    if root is None:
        return []
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError([f"{source}: not a configuration; it must be lines of the form key: value"])
    return [
        Entry(
            _constructed(loader, key, source, is_file=is_file, as_key=True),
            _constructed(loader, value, source, is_file=is_file),
            key.start_mark.line + 1,
        )
        for key, value in root.value
    ]


def dump(values: Mapping[str, Any], *, sort_keys: bool = False) -> str:
    """YAML that gives the same values again, in this program and in others."""
    return yaml.dump(values, Dumper=_Dumper, allow_unicode=True, sort_keys=sort_keys, default_flow_style=None)


class _Loader(yaml.SafeLoader):
    """PyYAML's, with other rules for what is a number, and nothing that repeats or refers."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - as PyYAML declares it
    yaml_constructors: ClassVar[dict[str | None, Any]] = {}

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):  # a few of them can stand for billions of values
            problem = "not valid YAML: an alias (*) is not supported; write the value out, or a text with * in quotes"
            raise _ValueError(problem=problem, problem_mark=self.peek_event().start_mark)  # type: ignore[no-untyped-call]
        return super().compose_node(parent, index)


class _Dumper(yaml.SafeDumper):
    """PyYAML's, which also quotes what `_Loader` would take for something else than a text."""


_NUMBER = re.compile(
    r"[-+]?([0-9]+)(\.[0-9]*)?([eE][-+]?[0-9]+)?$|[-+]?\.[0-9]+([eE][-+]?[0-9]+)?$|[-+]?\.(inf|nan)$", re.IGNORECASE
)
_RESOLVERS = (
    ("null", re.compile(r"~$|null$|Null$|NULL$|$"), ("~", "n", "N", "")),
    ("bool", re.compile(r"true$|True$|TRUE$|false$|False$|FALSE$"), tuple("tTfF")),
    ("float", _NUMBER, tuple("-+.0123456789")),
)
for _kind, _form, _first in _RESOLVERS:
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", _form, _first)


def _number(_: _Loader, node: yaml.Node) -> int | float:
    text = node.value
    form = _NUMBER.match(text)
    if form is None:
        raise _wrong(node, "this is no number")
    whole = form.group(1) or ""
    if len(whole) > 1 and whole.startswith("0"):
        raise _wrong(
            node, "a number with a leading zero: write it without the zero, or in quotes if it is a text and no number"
        )
    if text.lstrip("+-").isdigit():
        if len(whole) > _MAX_DIGITS:
            raise _wrong(node, f"a number of {len(whole)} digits: write it in quotes if it is a text and no number")
        return int(text)
    value = math.nan if text.lower().endswith(("inf", "nan")) else float(text)
    if not math.isfinite(value):
        raise _wrong(node, "should be a finite number; write it in quotes if it is a text")
    return value


def _boolean(_: _Loader, node: yaml.Node) -> bool:
    if (value := _BOOLEANS.get(str(node.value).lower())) is None:
        raise _wrong(node, "should be True or False")
    return value


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = _key(key_node)
        if key in found:
            raise _wrong(key_node, f"{key} is set twice")
        found[key] = loader.construct_object(value_node, deep=True)
    return found


def _key(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise _wrong(node, "a key must be a word")
    return str(node.value)


_CONSTRUCTORS: Mapping[str, tuple[type[yaml.Node], Callable[[_Loader, Any], Any]]] = {
    "null": (yaml.ScalarNode, lambda _, __: None),
    "bool": (yaml.ScalarNode, _boolean),
    "int": (yaml.ScalarNode, _number),
    "float": (yaml.ScalarNode, _number),
    "str": (yaml.ScalarNode, lambda _, node: node.value),
    "seq": (yaml.SequenceNode, lambda loader, node: [loader.construct_object(n, deep=True) for n in node.value]),
    "map": (yaml.MappingNode, _mapping),
}


def _construct(loader: _Loader, node: yaml.Node) -> Any:
    known = _CONSTRUCTORS.get(node.tag.removeprefix("tag:yaml.org,2002:"))
    if known is None:
        problem = (
            "not valid YAML: tags (!) are not supported; write a text that begins with an exclamation mark in quotes"
        )
        raise _wrong(node, problem)
    kind, construct = known
    if not isinstance(node, kind):
        raise _wrong(node, "its tag does not fit its value")
    return construct(loader, node)


_Loader.add_constructor(None, _construct)


class _ValueError(yaml.MarkedYAMLError):
    """What this module itself refuses; its text is complete."""


def _wrong(node: yaml.Node, problem: str) -> _ValueError:
    return _ValueError(problem=problem, problem_mark=node.start_mark)


def _parsed(text: str, source: str, *, is_file: bool = True) -> tuple[_Loader, yaml.Node | None]:
    try:
        loader = _Loader(text)
        return loader, loader.get_single_node()
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError([_described(error, text, source, is_file=is_file)]) from None


def _constructed(loader: _Loader, node: yaml.Node, source: str, *, is_file: bool = True, as_key: bool = False) -> Any:
    try:
        return _key(node) if as_key else loader.construct_object(node, deep=True)
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError([_described(error, "", source, is_file=is_file)]) from None


def _described(error: Exception, text: str, source: str, *, is_file: bool) -> str:
    if isinstance(error, yaml.reader.ReaderError):
        before = text[: error.position]
        place = _place(source, before.count("\n") + 1, len(before) - before.rfind("\n")) if is_file else source
        return f"{place}: not valid YAML: a character that cannot stand in a text file"
    if not isinstance(error, yaml.MarkedYAMLError):
        return f"{source}: not valid YAML: values are nested too deeply"
    mark: Mark | None = error.problem_mark or error.context_mark
    place = source if mark is None or not is_file else _place(source, mark.line + 1, mark.column + 1)
    if isinstance(error, _ValueError):
        return f"{place}: {error.problem}"
    problem = " ".join(filter(None, (error.problem, error.context and f"({error.context})"))).replace("\n", " ")
    problem = re.sub(r"'[^'<][^']{2,}'", "something", problem)  # it might be part of a password
    if "'\\t'" in problem:
        problem = "a tab, where YAML wants spaces"
    return f"{place}: not valid YAML: {problem}"


def _place(source: str, line: int, column: int) -> str:
    return f"{source}:{line}:{column}"
