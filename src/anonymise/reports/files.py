"""Files of reports: ScanVan's JSON, JSON Lines of what `desk.receive` takes, and CSV with the same columns."""

import csv
import io
import json
from collections.abc import Iterator, Mapping

__all__ = ["read_reports"]


def read_reports(text: str, convention: str | None = None) -> Iterator[tuple[str, object]]:
    """The reports of a file, each with its place, such as "line 3"; in place of one that cannot be read, a ValueError.

    Args:
        text: content of the file. In CSV, ``shapes`` is ``yaw pitch, yaw pitch, …``, with ``;`` between shapes.
        convention: of reports that name none.

    Raises:
        ValueError: the file has no reports.
    """
    text = text.removeprefix("\ufeff")
    named = {} if convention is None else {"convention": convention}
    if text.lstrip().startswith("["):
        for n, entry in enumerate(json.loads(text), start=1):
            yield f"entry {n}", _of_scanvan(entry, named) if isinstance(entry, Mapping) else entry
    elif text.lstrip().startswith("{"):
        for n, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                try:
                    found = json.loads(line)
                except (ValueError, RecursionError) as error:
                    found = ValueError(f"no JSON: {error}")
                yield f"line {n}", named | found if isinstance(found, dict) else found
    else:
        reader = csv.DictReader(io.StringIO(text, newline=""))
        if "shapes" not in (reader.fieldnames or ()):
            raise ValueError("it has no reports: a JSON list, JSON Lines, or CSV with a column shapes")
        for row in reader:
            yield f"line {reader.line_num}", _of_row(row, named)


def _of_scanvan(entry: Mapping[str, object], named: Mapping[str, str]) -> object:
    """An entry of ScanVan's list (website-reporting.ipynb): its corners in the order in which they were clicked."""
    corners = entry.get("pitchYawOrders")
    if not isinstance(corners, list) or not all(isinstance(corner, dict) for corner in corners):
        return {**named, **entry}
    viewpoint = entry.get("viewpointId")
    return {
        "relative": str(entry.get("filepath", "")).lstrip("/"),
        "viewpoint": viewpoint if viewpoint is None else str(viewpoint),
        "issue": "blur_missing",
        "convention": "scanvan",
        **named,
        "shapes": [[[corner.get("yaw"), corner.get("pitch")] for corner in corners]],
    }


def _of_row(row: Mapping[str | None, object], named: Mapping[str, str]) -> object:
    if None in row or None in row.values():
        return ValueError("it has another number of cells than the first line")
    values = {str(key): value for key, value in row.items() if value}
    try:
        shapes = [
            [[float(number) for number in corner.split()] for corner in shape.split(",")]
            for shape in str(values.get("shapes", "")).split(";")
        ]
    except ValueError as error:
        return ValueError(f"shapes: {error}")
    return {**named, **values, "shapes": shapes}
