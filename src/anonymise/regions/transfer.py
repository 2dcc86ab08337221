"""Rows of regions into corrections, all of a batch or none."""

import functools
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from itertools import groupby
from operator import attrgetter
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from anonymise.batch.paths import SUFFIXES, Places
from anonymise.config import Config
from anonymise.config.files import FileKind
from anonymise.core import saved_instances
from anonymise.core.detections import Detections, Size
from anonymise.core.errors import InstancesError
from anonymise.core.plaintext import printable
from anonymise.core.wraparound import split_at_seam
from anonymise.corrections.correction import Correction, checked
from anonymise.corrections.rowfiles import Row
from anonymise.corrections.shapes import Point, box_around, object_of
from anonymise.corrections.store import ENDED, Store
from anonymise.regions.pictures import Picture, Pictures
from anonymise.regions.rows import Region, region_of
from anonymise.regions.shapes import shape_of

__all__ = ["TYPES", "Options", "Prepared", "match_waiting", "matched_again", "newly_hidden", "prepared"]

log = logging.getLogger(__name__)

TYPES: Mapping[str, str] = {"N": "plate", "G": "face"}
"""Letter of a type in Amsterdam's table (Nummerbord, Gezicht) → class."""

_NO_ANGLES = "no angles: --rectified needs columns roll and pitch, or the picture's record with both"


@dataclass(frozen=True, slots=True)
class Options:
    """How rows become corrections.

    Attributes:
        batch: group that they get.
        types: letter or word → class.
        frame: size of the other system's frame; None is 8000×4000 for corners, and the picture's own for the others.
        is_rectified: whether the frame is the panorama turned upright.
        is_polygon: whether the shape is the polygon of the corners, not the box around them.
        padding: whether the margins of the configuration are added.
        status: of the new corrections, "accepted" or "proposed".
    """

    batch: str
    types: Mapping[str, str] = field(default_factory=lambda: TYPES)
    frame: Size | None = None
    is_rectified: bool = False
    is_polygon: bool = False
    padding: bool = True
    status: str = "accepted"


@dataclass(slots=True)
class Prepared:
    """What an import would do.

    Attributes:
        rows: the corrections, those of unknown pictures with the status "unmatched".
        n_read: number of rows that were read.
        n_passed_over: number of rows about pictures that were not chosen.
        errors: place and reason of each row that is none; the words before a colon are the kind of error.
        warnings: place of each row that is taken although something is odd, and what.
    """

    rows: list[Correction] = field(default_factory=list)
    n_read: int = 0
    n_passed_over: int = 0
    errors: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[tuple[str, str]] = field(default_factory=list)


def prepared(
    rows: Iterable[tuple[str, Row]], pictures: Pictures, options: Options, only: str | None = None
) -> Prepared:
    """Rows as corrections; writes nothing.

    Args:
        rows: places and rows, as `rows.read` gives them.
        pictures: the images that they may be about.
        options: how rows become corrections.
        only: pattern of the paths of the pictures that the import is about, as a shell has it; None is all.
    """
    result = Prepared()
    for place, row in rows:
        result.n_read += 1
        try:
            if isinstance(row, ValueError):
                raise row
            region = region_of(row)
            picture = pictures.of(region.picture)
            if only is not None and not fnmatchcase(region.picture if picture is None else picture.relative, only):
                result.n_passed_over += 1
                continue
            correction, warning = _correction(region, pictures, picture, options)
        except ValueError as error:
            result.errors.append((place, str(error)))
            continue
        result.rows.append(correction)
        if warning:
            result.warnings.append((place, warning))
    return result


def _correction(
    region: Region, pictures: Pictures, picture: Picture | None, options: Options
) -> tuple[Correction, str]:
    if (category := options.types.get(region.kind)) is None:
        raise ValueError(f"unknown region_type: {region.kind or 'empty'}; --types {region.kind or 'X'}=CLASS names it")
    frame = options.frame or (None if region.in_picture else Size(8000, 4000))
    if frame is None and picture is None:
        raise ValueError("unknown picture: without it, or --frame, nobody knows the size that the row is about")
    width, height = frame or picture.size  # type: ignore[union-attr]  # one of them is there
    how = {
        "names": pictures.rule,
        "status": options.status,
        "angles": region.angles,
        "is_rectified": options.is_rectified,
        "is_polygon": options.is_polygon,
    }
    waiting = Correction(
        relative=region.picture,
        width=width,
        height=height,
        kind="add",
        category=category,
        shape=None,
        source="external",
        batch=options.batch,
        author=region.detected_by or options.batch,
        padding=options.padding,
    )
    if picture is not None:
        return _placed(waiting, region.corners, picture, pictures, how)
    if options.is_rectified and region.angles is None:
        raise ValueError(_NO_ANGLES)  # the record comes with the picture's first run, when it is published
    corners = region.corners
    if len(set(corners)) < 3:  # no polygon, but a line, which has pixels
        box = box_around(corners)
        corners = ((box.left, box.top), (box.right, box.top), (box.right, box.bottom), (box.left, box.bottom))
    shape, how_text = json.dumps({"polygon": corners}), json.dumps(how, sort_keys=True)
    return checked(replace(waiting, shape=shape, status="unmatched", reason=how_text)), ""


def _placed(
    row: Correction, corners: Sequence[Point], picture: Picture, pictures: Pictures, how: Mapping[str, Any]
) -> tuple[Correction, str]:
    """A correction with its shape in the pixels of its picture, and what is odd about it."""
    angles = None
    if how["is_rectified"] and (angles := how["angles"] or pictures.angles(picture.relative)) is None:
        raise ValueError(_NO_ANGLES)
    shape, note = shape_of(
        corners, row.size, picture.size, wraps=picture.wraps, is_polygon=how["is_polygon"], angles=angles
    )
    width, height = picture.size
    text, status = json.dumps(shape), how["status"]
    placed = replace(row, relative=picture.relative, width=width, height=height, shape=text, status=status, reason=None)
    return checked(placed), note


def match_waiting(config: Config, places: Places) -> int:
    """Before a run: puts unmatched corrections in force whose pictures have come; gives their number.

    Raises:
        UsageError: a folder cannot be read.
        StorageError: the store cannot be read or written.
    """
    folder = config.run.corrections
    if folder is None or not Path(folder, "corrections.sqlite").is_file():
        return 0
    roots = tuple(root for root in (places.input, places.archive) if root is not None and root.is_dir())
    with Store(Path(folder)) as store:
        return matched_again(store, lambda names: Pictures(roots, config, names, places.output), "run")


def matched_again(store: Store, pictures: Callable[[str], Pictures], who: str) -> int:
    """Puts unmatched corrections in force whose pictures are known now; gives their number.

    Args:
        store: the store.
        pictures: rule of `Pictures` → the pictures by that rule.
        who: pseudonym of who does it.
    """
    waiting = store.select(f"status = 'unmatched' AND kind IS NOT NULL AND NOT {ENDED} ORDER BY id")
    by_rule = functools.cache(pictures)
    count = 0
    with store.changing() if waiting else nullcontext():
        for row in waiting:
            try:
                how, corners = json.loads(str(row.reason)), json.loads(str(row.shape))["polygon"]
                known = by_rule(how["names"])
                if (picture := known.of(row.relative)) is None:
                    continue
                found, _ = _placed(row.fresh(), corners, picture, known, how)
            except (ValueError, KeyError, TypeError) as error:
                # Its picture is there, or nobody can tell; and it will be published as it is.
                log.warning("%s: a region of it is not hidden: %s", printable(row.relative), printable(error))
                continue
            store.add([found], who)
            store.set_status([row.id], "rejected", who, "its picture is known now")
            count += 1
    return count


def newly_hidden(rows: Iterable[Correction], trees: Sequence[Path], pictures: Pictures) -> tuple[int, int]:
    """How many pixels corrections hide that no saved instances hide, without margins.

    Args:
        rows: the corrections.
        trees: folders where saved instances may be; the first file counts.
        pictures: knows the pictures.

    Returns:
        The pixels, and the number of pictures with saved instances that they are of.
    """
    n_pixels = n_pictures = 0
    for relative, some in groupby(sorted(rows, key=attrgetter("relative")), attrgetter("relative")):
        name = PurePosixPath(relative)
        files = (tree / name.with_name(name.stem + SUFFIXES[FileKind.INSTANCES]) for tree in trees)
        picture = pictures.of(relative)
        if picture is None or (file := next((file for file in files if file.is_file()), None)) is None:
            continue
        size = picture.size
        try:
            hidden = saved_instances.load(file, size).union()
        except InstancesError:
            continue
        objects = (object_of(str(row.shape), size, size, 1, row.source, wraps=picture.wraps) for row in some)
        parts = split_at_seam([found for found in objects if found is not None], size.width)
        n_pixels += int(np.count_nonzero(Detections(size, parts).union() & ~hidden))
        n_pictures += 1
    return n_pixels, n_pictures
