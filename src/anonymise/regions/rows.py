"""Tables of regions, in files and in databases, as rows. Columns are found by their names, wherever they stand."""

import csv
import gzip
import itertools
import json
import math
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from anonymise.core.errors import UsageError

__all__ = [
    "CORNERS",
    "RESULT_FILES",
    "RESULT_ORDER",
    "TABLE_ORDER",
    "Region",
    "RowError",
    "checked_table",
    "from_table",
    "read",
]

CORNERS = ("left_top", "right_top", "right_bottom", "left_bottom")
"""Corners in the order in which they go round."""

TABLE_ORDER = ("left_top", "right_top", "left_bottom", "right_bottom")
"""Order of the corners in Amsterdam's table ``panoramas_region``."""

RESULT_ORDER = CORNERS
"""Order of the corners in the result files of Amsterdam's workers."""

RESULT_FILES = {"N": "regions_lp", "G": "regions_f"}
"""Type of regions → name of the result file that we write for it, without its suffix."""

_RESULT_TYPES = {"regions_lp": "N", "regions_f": "G", "regions_fd": "G", "regions_fg": "G"}
"""Name of a result file without its suffix → type of its regions."""

_FORMS: Sequence[tuple[str, ...]] = (
    tuple(f"{corner}_{axis}" for corner in CORNERS for axis in "xy"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("x", "y", "width", "height"),
)
_OPTIONAL = ("region_type", "pano_id", "relative", "detected_by", "id", "score", "roll", "pitch")
_TABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)?")


@dataclass(frozen=True, slots=True)
class Region:
    """A row of a table of regions.

    Attributes:
        place: file and line, or table and row.
        picture: what the other system calls the picture.
        corners: (x, y) of the four corners, in the pixels of the other system's frame, in any order.
        kind: letter or word of the type of the region.
        detected_by: who found it; empty where the row does not say.
        angles: roll and pitch of the picture in degrees, where the row says them.
        in_picture: whether the corners are in the pixels of the picture itself, whatever its size.
    """

    place: str
    picture: str
    corners: tuple[tuple[float, float], ...]
    kind: str
    detected_by: str = ""
    angles: tuple[float, float] | None = None
    in_picture: bool = False


@dataclass(frozen=True, slots=True)
class RowError:
    """A row that is none.

    Attributes:
        place: file and line, or table and row.
        kind: what kind of error it is, the same words for all of a kind.
        reason: for people.
    """

    place: str
    kind: str
    reason: str


@dataclass(frozen=True, slots=True)
class _Header:
    """Where the wanted columns stand.

    Attributes:
        form: names of the columns with the corners.
        column: name → index.
    """

    form: tuple[str, ...]
    column: Mapping[str, int]


def read(path: Path, notes: list[str]) -> Iterator[Region | RowError]:
    """The rows of a file, or of a folder of result files.

    CSV (``,``, ``;`` or tab, as the header has it), also compressed by gzip, and JSON Lines. In a folder, every
    CSV file says by its name what its regions are, and by its path ``…/MISSION/PANO/`` of which picture.

    Args:
        path: of the file or folder.
        notes: gets what the operator should know, once a file.

    Raises:
        UsageError: the file cannot be read, or has no header with the columns that are wanted; names file and line.
    """
    if path.is_dir():
        files = sorted(_below(path))
        if not files:
            raise UsageError(f"{path}: there is no {', '.join(f'{name}.csv' for name in _RESULT_TYPES)} below it")
        for file in files:
            known = {"region_type": _RESULT_TYPES[file.stem], "pano_id": "_".join(file.parent.parts[-2:])}
            yield from _read_file(file, known, notes)
    else:
        yield from _read_file(path, {}, notes)


def _below(path: Path) -> Iterator[Path]:
    def complain(error: OSError) -> None:
        raise UsageError(f"{error.filename} cannot be read: {error.strerror}") from error

    for folder, _, names in os.walk(path, onerror=complain):
        yield from (Path(folder, name) for name in names if name.endswith(".csv") and name[:-4] in _RESULT_TYPES)


def _read_file(file: Path, known: Mapping[str, str], notes: list[str]) -> Iterator[Region | RowError]:
    try:
        unpacks = gzip.open if file.suffix.lower() == ".gz" else open
        with unpacks(file, "rt", encoding="utf-8-sig", newline="") as text:
            if ".jsonl" in file.name.lower() or ".ndjson" in file.name.lower():
                yield from _json_lines(file, text, notes)
            else:
                yield from _csv(file, text, known, notes)
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not UTF-8: {error.reason} at byte {error.start}") from error


def _csv(file: Path, text: IO[str], known: Mapping[str, str], notes: list[str]) -> Iterator[Region | RowError]:
    first = text.readline()
    delimiter = max(",;\t", key=first.count)
    lines = csv.reader(itertools.chain([first], text), delimiter=delimiter)
    try:
        names = next(lines, [])
        header = _header(names, f"{file}, line 1", known, notes)
        for values in lines:
            if not any(map(str.strip, values)):
                continue
            place = f"{file}, line {lines.line_num}"
            if sorted(map(str.casefold, values)) == sorted(map(str.casefold, names)):
                raise UsageError(f"{place}: the header is there again; import the files one by one")
            if len(values) != len(names):
                yield RowError(place, "number of columns", f"{len(values)} columns, the header has {len(names)}")
            else:
                yield _row(place, values, header, known)
    except csv.Error as error:
        raise UsageError(f"{file}, line {lines.line_num}: {error}") from error


def _json_lines(file: Path, lines: Iterable[str], notes: list[str]) -> Iterator[Region | RowError]:
    header, names = None, None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        place = f"{file}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield RowError(place, "no JSON", str(error))
            continue
        if not isinstance(row, dict):
            yield RowError(place, "no JSON", "it is no object")
            continue
        if header is None or names != list(row):
            names = list(row)
            header = _header(names, place, {}, notes)
        yield _row(place, list(row.values()), header, {})


def checked_table(name: str) -> str:
    """The name of a table, which may have a schema in front.

    Raises:
        UsageError: it is no name of a table.
    """
    if not _TABLE_NAME.fullmatch(name):
        raise UsageError(f"--table {name} is no name of a table")
    return name


def from_table(
    table: str, columns: Sequence[str], rows: Iterable[Sequence[object]], notes: list[str]
) -> Iterator[Region | RowError]:
    """The rows of a table in a database.

    Args:
        table: name of the table, for messages.
        columns: names of its columns.
        rows: values of the rows.
        notes: gets what the operator should know.

    Raises:
        UsageError: a column is missing.
    """
    header = _header(columns, f"table {table}", {}, notes)
    for number, values in enumerate(rows, start=1):
        yield _row(f"table {table}, row {number}", values, header, {})


def _header(names: Sequence[str], place: str, known: Mapping[str, str], notes: list[str]) -> _Header:
    folded = [str(name).strip().lower() for name in names]
    doubled = sorted({name for name in folded if name and folded.count(name) > 1})
    if doubled:
        raise UsageError(f"{place}: the column {doubled[0]} is there twice")
    column = {name: index for index, name in enumerate(folded)}
    form = next((form for form in _FORMS if all(name in column for name in form)), None)
    if form is None:
        missing = [name for name in _FORMS[0] if name not in column]
        if len(missing) == len(_FORMS[0]):
            raise UsageError(f"{place}: there is no header with the names of the columns, such as {_FORMS[0][0]}")
        raise UsageError(f"{place}: there is no column {', '.join(missing)}")
    if "region_type" not in column and "region_type" not in known:
        raise UsageError(f"{place}: there is no column region_type")
    if not {"pano_id", "relative"} & (column.keys() | known.keys()):
        raise UsageError(f"{place}: there is no column pano_id or relative, so nobody knows the picture")
    unknown = ", ".join(name for name in folded if name not in (*form, *_OPTIONAL))
    if unknown and not any(note.endswith(f": {unknown}") for note in notes):
        notes.append(f"{place}: not used: {unknown}")
    return _Header(form, column)


def _row(place: str, values: Sequence[Any], header: _Header, known: Mapping[str, str]) -> Region | RowError:
    def text(name: str) -> str:
        index = header.column.get(name)
        value = known.get(name, "") if index is None else values[index]
        return "" if value is None else str(value).strip()

    numbers = []
    for name in header.form:
        if (number := _number(text(name))) is None:
            return RowError(place, "no number", f"{name} is {text(name) or 'empty'}, no number")
        numbers.append(number)
    if len(numbers) == 8:
        corners = tuple(zip(numbers[::2], numbers[1::2], strict=True))
    else:
        left, top, right, bottom = numbers
        if header.form[2] == "width":
            right, bottom = left + right, top + bottom
        corners = ((left, top), (right, top), (right, bottom), (left, bottom))
    if len(set(corners)) == 1:
        return RowError(place, "no area", "all corners are the same")
    picture, kind = text("relative").replace("\\", "/") or text("pano_id"), text("region_type")
    if not picture:
        return RowError(place, "no picture", "pano_id is empty")
    if picture.startswith("/") or ".." in picture.split("/"):
        return RowError(place, "no picture", f"{picture} is no path below the input folder")
    angles = _number(text("roll")), _number(text("pitch"))
    both = None if angles[0] is None or angles[1] is None else (angles[0], angles[1])
    return Region(place, picture, corners, kind, text("detected_by"), both, len(numbers) == 4)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and "_" not in text else None
