"""The table of all keys: name, default, type and meaning, by section, from where they are declared.

``make docs`` writes it to ``docs/configuration.md``: ``python -m anonymise.config.reference FILE``.
"""

import ast
import inspect
import sys
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from anonymise.config.config import SECTIONS
from anonymise.core import yamlfile
from anonymise.core.resources import CONFIG_FOLDER
from anonymise.core.section import Section

__all__ = ["page"]

_HEAD = """\
# All keys of the configuration

<!-- Written by `make docs` from the options classes. Edit their docstrings, not this page. -->

Write the keys that you want to change into a YAML file and name it with `-k`, or set a single key with
`--set key=value`. [config/default_config.yml](../config/default_config.yml) holds the defaults;
[README.md](../README.md#configuration) says which keys matter most.

Pairs are in the order that the type names. A value by class, such as `{default: 0.3, person: 0.2}`, has `default` for
the classes that are not named.
"""


def page() -> str:
    """The page in Markdown."""
    defaults = yamlfile.load(CONFIG_FOLDER / "default_config.yml")
    sections = ("\n".join(_section(name, section, defaults)) for name, section in SECTIONS.items())
    return "\n".join([_HEAD, *sections])


def _section(name: str, section: type[Section], defaults: Mapping[str, Any]) -> Iterator[str]:
    yield f"## {name.replace('_', ' ').capitalize()}\n"
    yield f"{(section.__doc__ or '').splitlines()[0].replace('``', '`')}\n"
    yield "| key | default | type | meaning |"
    yield "| --- | --- | --- | --- |"
    schema = section.model_json_schema()
    types = schema.get("$defs", {})
    meanings = _docstrings(section)
    for key, described in schema["properties"].items():
        meaning = " ".join(meanings.get(key, "").split())
        cells = (f"`{key}`", f"`{_yaml(defaults[key])}`", _type(described, types), meaning)
        yield "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"
    yield ""


def _docstrings(section: type[Section]) -> dict[str, str]:
    """Field → the text below it. Read here: if pydantic did it, each process would parse the source as it starts."""
    (declared,) = ast.parse(inspect.getsource(section)).body
    assert isinstance(declared, ast.ClassDef)
    return {
        field.target.id: text
        for field, below in pairwise(declared.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(below, ast.Expr) and isinstance(text := ast.literal_eval(below.value), str)
    }


def _type(schema: Mapping[str, Any], types: Mapping[str, Any]) -> str:
    """The values that a JSON schema allows, in words."""
    if "$ref" in schema:
        return _type(types[schema["$ref"].rpartition("/")[2]], types)
    if "anyOf" in schema:
        return ", or ".join(_type(one, types) for one in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{_yaml(value)}`" for value in schema.get("enum", (schema.get("const"),)))
    kind = schema["type"]
    if kind in ("integer", "number"):
        return ("whole number" if kind == "integer" else "number") + _range(schema)
    if kind == "array":
        return _array(schema, types)
    if kind == "object":
        return f"by name, {_type(schema['additionalProperties'], types)}"
    if "maxLength" in schema:
        return f"text of at most {schema['maxLength']} characters"
    return {"boolean": "True or False", "string": "text", "null": "null"}[kind]


def _array(schema: Mapping[str, Any], types: Mapping[str, Any]) -> str:
    if "items" in schema:
        return f"list of {_type(schema['items'], types)}"
    items = schema["prefixItems"]
    kinds = list(dict.fromkeys(_type(item, types) for item in items))
    names = [item["title"].lower() for item in items if "title" in item]
    return f"[{', '.join(names)}] of {kinds[0]}" if names else f"list of {len(items)}: {kinds[0]}"


def _range(schema: Mapping[str, Any]) -> str:
    words = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
    return "".join(f" {word} {schema[name]:g}" for name, word in words.items() if name in schema)


def _yaml(value: object) -> str:
    """A value as it stands in a configuration file, in one line."""
    match value:
        case None:
            return "null"
        case list():
            return f"[{', '.join(map(_yaml, value))}]"
        case dict():
            return "{" + ", ".join(f"{key}: {_yaml(item)}" for key, item in value.items()) + "}"
        case str() if not value.isidentifier():
            return f'"{value}"'
    return str(value)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), "utf-8")
