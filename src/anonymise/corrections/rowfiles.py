"""Rows that other systems send, each with its place: CSV as spreadsheets write it, JSON Lines, or one JSON list."""

import codecs
import csv
import gzip
import io
import itertools
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, cast

from anonymise.core.errors import UsageError

__all__ = ["Row", "header", "rows_in", "rows_of"]

Row = dict[str, Any] | ValueError
"""Name of a column in lower case → value; or why the row is none: the kind of error, and details after a colon."""

_Check = Callable[[str, Sequence[str]], None]


def rows_of(file: Path, check: _Check | None = None) -> Iterator[tuple[str, Row]]:
    """The rows of a file, also of one that gzip compressed; as `rows_in` gives them.

    Raises:
        UsageError: the file cannot be read.
    """
    try:
        with gzip.open(file) if file.suffix.lower() == ".gz" else file.open("rb") as data:
            yield from rows_in(data, str(file), check)
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def rows_in(
    data: io.BufferedReader | gzip.GzipFile, name: str, check: _Check | None = None
) -> Iterator[tuple[str, Row]]:
    """Rows with their places, such as "regions.csv, line 3".

    Args:
        data: content of a file, which is closed at the end, in UTF-8 or, with a byte order mark, UTF-16.
        name: name of the file.
        check: called with a place and the names of the columns, for the header, and for JSON whenever they change.

    Raises:
        UsageError: the content is none of the formats, or has no header.
    """
    is_wide = data.peek(2)[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    encoding = "utf-16" if is_wide else "utf-8-sig"
    try:
        with io.TextIOWrapper(cast("IO[bytes]", data), encoding, "surrogateescape", newline="") as text:
            lines = _sound(text, name)
            first = next(lines, "")
            is_json = first.lstrip()[:1] in ("{", "[")
            yield from (_json if is_json else _csv)(first, itertools.chain([first], lines), name, check)
    except UnicodeDecodeError as error:
        raise UsageError(f"{name} is neither UTF-8 nor UTF-16: {error.reason}") from error


def header(names: Iterable[object], place: str) -> list[str]:
    """The names of columns as rows have them.

    Raises:
        UsageError: a name is there twice.
    """
    folded = list(map(_folded, names))
    if doubled := sorted(name for name in set(folded) if name and folded.count(name) > 1):
        raise UsageError(f"{place}: the column {doubled[0]} is there twice")
    return folded


def _folded(name: object) -> str:
    return str(name).strip().lower()


def _sound(lines: Iterable[str], name: str) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        if "\0" in line:
            raise UsageError(f"{name}, line {number}: there is a NUL byte in it, so this is no text")
        try:
            line.encode()
        except UnicodeEncodeError as error:
            raise UsageError(f"{name}, line {number} is not UTF-8; save the file as UTF-8") from error
        yield line


def _csv(first: str, lines: Iterable[str], name: str, check: _Check | None) -> Iterator[tuple[str, Row]]:
    # A quotation that never ends would swallow all rows after it, if it were not an error.
    reader = csv.reader(lines, delimiter=max(",;\t", key=first.count), strict=True)
    try:
        names = header(next(reader, []), f"{name}, line 1")
        while names and not names[-1]:  # spreadsheets write empty columns at the end
            names.pop()
        if not names:
            raise UsageError(f"{name}, line 1: there is no header")
        if check is not None:
            check(f"{name}, line 1", names)
        for values in reader:
            place = f"{name}, line {reader.line_num}"
            if not any(map(str.strip, values)):
                continue
            if values[0].strip().lower() in names and sorted(map(_folded, values)) == sorted(names):
                raise UsageError(f"{place}: the header is there again; import the files one by one")
            if len(values) < len(names) or any(map(str.strip, values[len(names) :])):
                yield place, ValueError(f"number of columns: {len(values)}, the header has {len(names)}")
                continue
            row = dict(zip(names, values, strict=False))
            row.pop("", None)
            yield place, row
    except csv.Error as error:
        raise UsageError(f"{name}, line {reader.line_num}: {error}") from error


def _json(first: str, lines: Iterable[str], name: str, check: _Check | None) -> Iterator[tuple[str, Row]]:
    entries: Iterable[tuple[str, str | object]]
    if first.lstrip().startswith("["):
        try:
            found = json.loads("".join(lines), object_pairs_hook=_named)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{name}: no JSON: {error}") from error
        entries = ((f"{name}, entry {n}", entry) for n, entry in enumerate(found, start=1))
    else:
        entries = ((f"{name}, line {n}", _parsed(line)) for n, line in enumerate(lines, start=1) if line.strip())
    known = None
    for place, row in entries:
        if not isinstance(row, dict | ValueError):
            row = ValueError("no JSON: it is no object")
        if check is not None and isinstance(row, dict) and known != row.keys():
            known = row.keys()
            check(place, list(known))
        yield place, row


def _parsed(line: str) -> object:
    try:
        return json.loads(line, object_pairs_hook=_named)
    except (ValueError, RecursionError) as error:
        return ValueError(f"no JSON: {error}")


def _named(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = {_folded(name): value for name, value in pairs}
    if len(row) < len(pairs):
        raise ValueError("a name is there twice")
    return row
