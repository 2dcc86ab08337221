"""Rows of regions into corrections, all of a batch or none."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

import numpy as np

from anonymise.batch.paths import SUFFIXES, Places
from anonymise.config import Config
from anonymise.config.files import FileKind
from anonymise.core import saved_instances
from anonymise.core.detections import Detections, Size
from anonymise.core.errors import InstancesError
from anonymise.core.wraparound import split_at_seam
from anonymise.corrections.correction import Correction
from anonymise.corrections.shapes import canonical, object_of
from anonymise.corrections.store import ENDED, Store
from anonymise.regions.pictures import Picture, Pictures
from anonymise.regions.rows import Region, RowError
from anonymise.regions.shapes import shape_of

__all__ = ["TYPES", "Options", "Prepared", "match_waiting", "matched_again", "newly_hidden", "prepared", "put"]

TYPES: Mapping[str, str] = {"N": "plate", "G": "face"}
"""Letter of a type in Amsterdam's table (Nummerbord, Gezicht) → class."""

_TABLES = (
    ("CREATE TABLE regions_batch (batch TEXT PRIMARY KEY, names TEXT NOT NULL, status TEXT NOT NULL) WITHOUT ROWID",),
)
"""How the pictures of a batch are named, and what its regions are once their picture is known; see `Store.tables`."""


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
        errors: rows that are none.
        warnings: what is odd about rows that are taken, a line each.
    """

    rows: list[Correction] = field(default_factory=list)
    n_read: int = 0
    n_passed_over: int = 0
    errors: list[RowError] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def unmatched(self) -> int:
        """Number of rows whose picture is not known."""
        return sum(row.status == "unmatched" for row in self.rows)

    def pictures(self) -> Counter[str]:
        """Path of each picture concerned → number of its rows."""
        return Counter(row.relative for row in self.rows if row.status != "unmatched")


def prepared(
    regions: Iterable[Region | RowError], pictures: Pictures, options: Options, only: str | None = None
) -> Prepared:
    """Rows as corrections; writes nothing.

    Args:
        regions: rows, as `rows.read` gives them.
        pictures: the images that they may be about.
        options: how rows become corrections.
        only: pattern of the paths of the pictures that the import is about, as a shell has it; None is all.
    """
    result = Prepared()
    for region in regions:
        result.n_read += 1
        if isinstance(region, RowError):
            result.errors.append(region)
            continue
        try:
            picture = pictures.of(region.picture)
        except ValueError as error:
            result.errors.append(RowError(region.place, "picture", str(error)))
            continue
        name = region.picture if picture is None else picture.relative
        if only is not None and not fnmatchcase(name, only):
            result.n_passed_over += 1
            continue
        try:
            row, warning = _correction(region, pictures, picture, options)
        except ValueError as error:
            result.errors.append(RowError(region.place, str(error).partition(":")[0], str(error)))
            continue
        result.rows.append(row)
        if warning:
            result.warnings.append(f"{region.place}: {warning}")
    return result


def _correction(
    region: Region, pictures: Pictures, picture: Picture | None, options: Options
) -> tuple[Correction, str]:
    if (category := options.types.get(region.kind)) is None:
        raise ValueError(f"unknown region_type: {region.kind or 'empty'}; --types {region.kind or 'X'}=CLASS names it")
    frame = options.frame or (None if region.in_picture else Size(8000, 4000))
    if picture is None:
        if frame is None:
            raise ValueError("unknown picture: without it, or --frame, nobody knows the size that the row is about")
        picture = Picture(region.picture, frame, frame.width >= 2 * frame.height)
        status = "unmatched"
    else:
        status = options.status
    angles = None
    if options.is_rectified and (angles := region.angles or pictures.angles(picture.relative)) is None:
        raise ValueError("no angles: --rectified needs columns roll and pitch, or the picture's record with both")
    shape, note = shape_of(
        region.corners,
        frame or picture.size,
        picture.size,
        wraps=picture.wraps,
        is_polygon=options.is_polygon,
        angles=angles,
    )
    correction = Correction(
        relative=picture.relative,
        width=picture.size.width,
        height=picture.size.height,
        kind="add",
        category=category,
        shape=canonical(shape, picture.size),
        source="external",
        batch=options.batch,
        author=region.detected_by or options.batch,
        padding=options.padding,
        status=status,
    )
    return correction, note


def put(store: Store, rows: Iterable[Correction], options: Options, names: str, who: str) -> int:
    """Puts the corrections of a batch into the store; gives the number of new ones.

    Args:
        store: the store.
        rows: the corrections, as `prepared` gives them.
        options: those that they were prepared with.
        names: the rule of `Pictures`, by which pictures are looked for that are not here yet.
        who: pseudonym of who does it.

    Raises:
        StorageError: the store cannot be written.
    """
    with store.changing() as connection:
        store.tables("regions", _TABLES)
        connection.execute(
            "INSERT OR REPLACE INTO regions_batch VALUES (?, ?, ?)", [options.batch, names, options.status]
        )
        return len(store.add(rows, who))


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
        return matched_again(store, lambda names: Pictures(roots, config, names), "run")


def matched_again(store: Store, pictures: Callable[[str], Pictures], who: str) -> int:
    """Puts unmatched corrections in force whose pictures are known now; gives their number.

    Args:
        store: the store.
        pictures: rule of `Pictures` → the pictures by that rule.
        who: pseudonym of who does it.

    Raises:
        StorageError: the store cannot be written.
    """
    waiting = store.select(f"status = 'unmatched' AND kind IS NOT NULL AND NOT {ENDED} ORDER BY id")
    if not waiting:
        return 0
    store.tables("regions", _TABLES)
    batches = {name: rest for name, *rest in store.read("SELECT batch, names, status FROM regions_batch")}
    by_rule: dict[str, Pictures] = {}
    count = 0
    with store.changing():
        for row in waiting:
            names, status = batches.get(row.batch, ("{mission}_{stem}", "accepted"))
            if names not in by_rule:
                by_rule[names] = pictures(names)
            try:
                picture = by_rule[names].of(row.relative)
            except ValueError:
                continue
            if picture is None:
                continue
            width, height = picture.size
            new = replace(row.fresh(), relative=picture.relative, width=width, height=height, status=status)
            store.add([replace(new, shape=text) for text in _fitted(row, picture)], who)
            store.set_status([row.id], "rejected", who, "its picture is known now")
            count += 1
    return count


def _fitted(row: Correction, picture: Picture) -> list[str]:
    """The shape of an unmatched correction in the pixels of its picture."""
    ((kind, value),) = json.loads(str(row.shape)).items()
    if kind == "box":
        left, top, width, height = value
        value = [(left, top), (left + width, top), (left + width, top + height), (left, top + height)]
    x, y = picture.size.width / row.width, picture.size.height / row.height
    found = []
    # Beyond the right edge of the frame is the left side of a planar picture as well.
    for turn in (0, row.width) if not picture.wraps and max(column for column, _ in value) > row.width else (0,):
        points = [(column - turn, line) for column, line in value]
        try:
            if kind == "box":
                shape, _ = shape_of(points, row.size, picture.size, wraps=picture.wraps)
            else:
                shape = {"polygon": [[column * x, line * y] for column, line in points]}
            found.append(canonical(shape, picture.size))
        except ValueError:
            continue  # this side has nothing of it
    return found


def newly_hidden(rows: Iterable[Correction], trees: Sequence[Path], pictures: Pictures) -> tuple[int, int]:
    """How many pixels corrections hide that no saved instances hide, without margins.

    Args:
        rows: the corrections.
        trees: folders where saved instances may be; the first file counts.
        pictures: knows the pictures.

    Returns:
        The pixels, and the number of pictures with saved instances that they are of.
    """
    by_picture: dict[str, list[Correction]] = {}
    for row in rows:
        by_picture.setdefault(row.relative, []).append(row)
    n_pixels = n_pictures = 0
    for relative, added in by_picture.items():
        name = PurePosixPath(relative)
        files = (tree / name.with_name(name.stem + SUFFIXES[FileKind.INSTANCES]) for tree in trees)
        file = next((file for file in files if file.is_file()), None)
        if file is None:
            continue
        size = added[0].size
        try:
            hidden = saved_instances.load(file, size).union()
        except InstancesError:
            continue
        picture = pictures.of(relative)
        wraps = picture is not None and picture.wraps
        objects = (object_of(str(row.shape), size, size, 1, row.source, wraps=wraps) for row in added)
        parts = split_at_seam([found for found in objects if found is not None], size.width)
        n_pixels += int(np.count_nonzero(Detections(size, parts).union() & ~hidden))
        n_pictures += 1
    return n_pixels, n_pictures
