"""Checks a JSON record against the published format, record.schema.json next to this module."""

import json
from functools import cache
from importlib import resources
from types import MappingProxyType

from jsonschema import Draft202012Validator, ValidationError

__all__ = ["SCHEMA_FILE", "problems_of"]

SCHEMA_FILE = "record.schema.json"

_JSON_TYPES = MappingProxyType(
    {
        type(None): "null",
        bool: "a boolean",
        int: "a number",
        float: "a number",
        str: "a string",
        list: "an array",
        dict: "an object",
    }
)


def problems_of(text: str) -> tuple[str, ...]:
    """What is wrong with a record, one line per key; nothing where it is valid.

    Nothing is repaired here: the text must be what ``record.dumps`` would write. Values are not quoted, since they
    may be long and, in a record that was not redacted, personal.

    Args:
        text: the record as it stands in its file.
    """
    try:
        record = json.loads(text)
    except json.JSONDecodeError as error:
        return (f"no JSON: {error.msg} in line {error.lineno}, column {error.colno}",)
    except (RecursionError, ValueError):
        return ("nested too deeply, or a number of too many digits",)
    errors = sorted(_validator().iter_errors(record), key=lambda error: (error.json_path, str(error.validator)))
    return tuple(dict.fromkeys(line for error in errors for line in _describe(error, record)))


def _describe(error: ValidationError, record: object) -> list[str]:
    """One line per key that an error is about."""
    rules = error.schema if isinstance(error.schema, dict) else {}
    if error.validator == "required" and isinstance(record, dict):
        return [f"{key}: missing" for key in rules["required"] if key not in record]
    if error.validator == "additionalProperties" and isinstance(record, dict) and not error.path:
        return [f"{key}: not a key of the record" for key in record if key not in rules["properties"]]
    place = ".".join(map(str, error.path)) or "record"
    if error.validator == "not":
        return [f"{place}: names a driver or a car, or holds a comment"]
    if error.validator == "type":
        allowed = rules["type"] if isinstance(rules["type"], list) else [rules["type"]]
        return [f"{place}: is {_JSON_TYPES.get(type(error.instance), 'something else')}, not {' or '.join(allowed)}"]
    if error.validator == "pattern":
        return [f"{place}: has not the form {error.validator_value}"]
    return [f"{place}: breaks the rule {error.validator} {error.validator_value}"]


@cache
def _validator() -> Draft202012Validator:
    schema = json.loads(resources.files(__package__).joinpath(SCHEMA_FILE).read_text(encoding="utf-8"))
    return Draft202012Validator(schema)
