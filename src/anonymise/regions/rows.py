"""Tables of regions, in files and in databases, as rows. Columns are found by their names, wherever they stand."""

import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from anonymise.core.errors import UsageError
from anonymise.corrections.rowfiles import Row, header, rows_of

__all__ = ["Region", "checked_table", "from_table", "read", "region_of"]

_CORNERS = ("left_top", "right_top", "right_bottom", "left_bottom")
"""Corners in the order in which they go round."""

_RESULT_TYPES = {"regions_lp": "N", "regions_f": "G", "regions_fd": "G", "regions_fg": "G"}
"""Name of a result file of Amsterdam's workers, without its suffix → type of its regions."""

_FORMS: Sequence[tuple[str, ...]] = (
    tuple(f"{corner}_{axis}" for corner in _CORNERS for axis in "xy"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("x", "y", "width", "height"),
)
_OPTIONAL = ("region_type", "pano_id", "relative", "detected_by", "id", "score", "roll", "pitch")
_TABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)?")


class Region(NamedTuple):
    """A row of a table of regions.

    Attributes:
        picture: what the other system calls the picture.
        corners: (x, y) of the four corners, in the pixels of the other system's frame.
        kind: letter or word of the type of the region.
        detected_by: who found it; empty where the row does not say.
        angles: roll and pitch of the picture in degrees, where the row says them.
        in_picture: whether the corners are in the pixels of the picture itself, whatever its size.
    """

    picture: str
    corners: tuple[tuple[float, float], ...]
    kind: str
    detected_by: str
    angles: tuple[float, float] | None
    in_picture: bool


def read(path: Path, unused: dict[str, None]) -> Iterator[tuple[str, Row]]:
    """The rows of a file, or of a folder of result files, with their places.

    In a folder, every result file says by its name what its regions are, and by its path ``…/MISSION/PANO/`` of which
    picture.

    Args:
        path: of the file (`rowfiles`) or folder.
        unused: gets the names of columns that are not used.

    Raises:
        UsageError: the file cannot be read, or has no header with the columns that are wanted; names file and line.
    """
    if not path.is_dir():
        yield from rows_of(path, partial(_check, {}, unused))
        return
    files = sorted(_below(path))
    if not files:
        raise UsageError(f"{path}: there is no {', '.join(f'{name}.csv' for name in _RESULT_TYPES)} below it")
    for file in files:
        known = {"region_type": _RESULT_TYPES[file.stem], "pano_id": "_".join(file.parent.parts[-2:])}
        for place, row in rows_of(file, partial(_check, known, unused)):
            yield place, known | row if isinstance(row, dict) else row


def _below(path: Path) -> Iterator[Path]:
    def complain(error: OSError) -> None:
        raise UsageError(f"{error.filename} cannot be read: {error.strerror}") from error

    for folder, _, names in os.walk(path, onerror=complain):
        yield from (Path(folder, name) for name in names if name.endswith(".csv") and name[:-4] in _RESULT_TYPES)


def checked_table(name: str) -> str:
    """The name of a table, which may have a schema in front.

    Raises:
        UsageError: it is no name of a table.
    """
    if not _TABLE_NAME.fullmatch(name):
        raise UsageError(f"--table {name} is no name of a table")
    return name


def from_table(
    table: str, columns: Sequence[str], rows: Iterable[Sequence[object]], unused: dict[str, None]
) -> Iterator[tuple[str, Row]]:
    """The rows of a table in a database.

    Args:
        table: name of the table, for messages.
        columns: names of its columns.
        rows: values of the rows.
        unused: gets the names of columns that are not used.

    Raises:
        UsageError: a column is missing.
    """
    names = header(columns, f"table {table}")
    _check({}, unused, f"table {table}", names)
    for number, values in enumerate(rows, start=1):
        yield f"table {table}, row {number}", dict(zip(names, values, strict=True))


def _check(known: Mapping[str, str], unused: dict[str, None], place: str, names: Sequence[str]) -> None:
    """Whether the columns that are wanted are there.

    Args:
        known: what rows need not say.
        unused: gets the names of columns that are not used.
        place: of the header.
        names: of the columns.
    """
    form = next((form for form in _FORMS if {*form} <= {*names}), None)
    if form is None:
        missing = [name for name in _FORMS[0] if name not in names]
        if len(missing) == len(_FORMS[0]):
            raise UsageError(f"{place}: there is no header with the names of the columns, such as {_FORMS[0][0]}")
        raise UsageError(f"{place}: there is no column {', '.join(missing)}")
    for wanted, why in (
        ({"region_type"}, "region_type"),
        ({"pano_id", "relative"}, "pano_id or relative, so nobody knows the picture"),
    ):
        if not wanted & {*names, *known}:
            raise UsageError(f"{place}: there is no column {why}")
    unused.update((name, None) for name in names if name and name not in (*form, *_OPTIONAL))


def region_of(row: Mapping[str, Any]) -> Region:
    """A row as a region.

    Raises:
        ValueError: it is none; the words before a colon are the kind of error.
    """

    def text(name: str) -> str:
        value = row.get(name)
        if isinstance(value, list | dict):
            raise ValueError(f"no text: {name} has several values")
        return "" if value is None else str(value).strip()

    def number(name: str) -> float:
        shown = text(name)
        try:
            found = float(shown)
        except ValueError:
            found = math.nan
        if not abs(found) < 1e6 or "_" in shown:
            hint = "; decimals have a point" if "," in shown else ""
            raise ValueError(f"no number: {name} is {shown[:40] or 'empty'}{hint}")
        return found

    form = next(form for form in _FORMS if {*form} <= row.keys())
    numbers = list(map(number, form))
    if len(numbers) == 4:
        left, top, right, bottom = numbers
        if form[2] == "width":
            if right <= 0 or bottom <= 0:
                raise ValueError("no area: width and height are above 0")
            right, bottom = left + right, top + bottom
        numbers = [left, top, right, top, right, bottom, left, bottom]
    corners = tuple(zip(numbers[::2], numbers[1::2], strict=True))
    if len(set(corners)) == 1:
        raise ValueError("no area: all corners are the same")
    picture = text("relative").replace("\\", "/") or text("pano_id")
    if not picture:
        raise ValueError("no picture: pano_id is empty")
    try:
        angles = number("roll"), number("pitch")
    except ValueError:
        angles = None  # most tables have none, and most imports need none
    return Region(picture, corners, text("region_type"), text("detected_by"), angles, len(form) == 4)
