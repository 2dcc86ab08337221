"""Files of reports: ScanVan's list, and what `desk.receive` takes as JSON Lines or CSV."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from anonymise.corrections.rowfiles import Row

__all__ = ["read_reports"]


def read_reports(rows: Iterable[tuple[str, Row]], convention: str | None = None) -> Iterator[tuple[str, Row]]:
    """The reports of a file with their places; in place of one that cannot be read, a ValueError.

    Args:
        rows: rows of the file, as `rowfiles` gives them. In CSV, ``shapes`` is ``yaw pitch, yaw pitch, …``, with ``;``
            between shapes.
        convention: of reports that name none.
    """
    named = {} if convention is None else {"convention": convention}
    for place, row in rows:
        try:
            yield place, row if isinstance(row, ValueError) else _of_scanvan(row, named)
        except ValueError as error:
            yield place, ValueError(f"shapes: {error}")


def _of_scanvan(row: Mapping[str, Any], named: Mapping[str, str]) -> dict[str, Any]:
    """A report, also from an entry of ScanVan's list (website-reporting.ipynb), whose corners are in clicked order."""
    corners = row.get("pitchyaworders")
    if isinstance(corners, list) and all(isinstance(corner, dict) for corner in corners):
        viewpoint = row.get("viewpointid")
        return {
            "relative": str(row.get("filepath", "")).lstrip("/"),
            "viewpoint": viewpoint if viewpoint is None else str(viewpoint),
            "issue": "blur_missing",
            "convention": "scanvan",
            **named,
            "shapes": [[[corner.get("yaw"), corner.get("pitch")] for corner in corners]],
        }
    values = {**named, **{key: value for key, value in row.items() if value != ""}}
    if isinstance(shapes := values.get("shapes"), str):
        pieces = ([corner.split() for corner in shape.split(",")] for shape in shapes.split(";"))
        values["shapes"] = [[list(map(float, corner)) for corner in shape] for shape in pieces]
    return values
