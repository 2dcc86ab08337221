"""Rows of regions into corrections, all of a batch or none; and corrections or saved instances into rows."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

import numpy as np

from anonymise.batch.paths import SUFFIXES
from anonymise.config.files import FileKind
from anonymise.core import saved_instances
from anonymise.core.classes import LABELS
from anonymise.core.detections import Box, Detections, Size
from anonymise.core.errors import InstancesError, UsageError
from anonymise.core.wraparound import Frame, join_seam, split_at_seam
from anonymise.corrections.shapes import canonical, object_of
from anonymise.corrections.store import Correction, Store
from anonymise.regions.pictures import Picture, Pictures
from anonymise.regions.rows import Region, RowError
from anonymise.regions.shapes import shape_of

__all__ = [
    "TYPES",
    "Exported",
    "Options",
    "Prepared",
    "exported",
    "matched_again",
    "newly_hidden",
    "of_store",
    "of_tree",
    "prepared",
]

TYPES: Mapping[str, str] = {"N": "plate", "G": "face"}
"""Letter of a type in Amsterdam's table (Nummerbord, Gezicht) → class."""


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
            row, warning = _correction(region, picture, options)
        except ValueError as error:
            result.errors.append(RowError(region.place, str(error).partition(":")[0], str(error)))
            continue
        result.rows.append(row)
        if warning:
            result.warnings.append(f"{region.place}: {warning}")
    return result


def _correction(region: Region, picture: Picture | None, options: Options) -> tuple[Correction, str]:
    if (category := options.types.get(region.kind)) is None:
        raise ValueError(f"unknown region_type: {region.kind or 'empty'}; --types {region.kind or 'X'}=CLASS names it")
    frame = options.frame or (None if region.in_picture else Size(8000, 4000))
    if picture is None:
        if frame is None:
            raise ValueError("unknown picture: without it, or --frame, nobody knows the size that the row is about")
        picture = Picture(region.picture, frame, frame.width == 2 * frame.height)
        status = "unmatched"
    else:
        status = options.status
    if options.is_rectified and region.angles is None:
        raise ValueError("no angles: --rectified needs the columns roll and pitch")
    try:
        shape, is_wide = shape_of(
            region.corners,
            frame or picture.size,
            picture.size,
            wraps=picture.wraps,
            is_polygon=options.is_polygon,
            angles=region.angles if options.is_rectified else None,
        )
        text = canonical(shape, picture.size)
    except ValueError as error:
        raise ValueError(f"outside the picture: {error}") from error
    correction = Correction(
        relative=picture.relative,
        width=picture.size.width,
        height=picture.size.height,
        kind="add",
        category=category,
        shape=text,
        source="external",
        batch=options.batch,
        author=region.detected_by or options.batch,
        padding=options.padding,
        status=status,
    )
    return correction, "wider than half the picture; the shorter way round is taken" if is_wide else ""


def matched_again(store: Store, pictures: Pictures, who: str, batch: str | None = None) -> int:
    """Puts unmatched corrections in force whose pictures are known now; gives their number.

    Raises:
        StorageError: the store cannot be written.
    """
    count = 0
    with store.changing():
        waiting = "status = 'unmatched' AND (? IS NULL OR batch = ?) ORDER BY id"
        for row in store.select(waiting, [batch, batch]):
            try:
                picture = pictures.of(row.relative)
            except ValueError:
                continue
            if picture is None:
                continue
            assert row.shape is not None  # it adds something
            corners = _corners(json.loads(row.shape))
            shape, _ = shape_of(corners, row.size, picture.size, wraps=picture.wraps, is_polygon=len(corners) != 4)
            new = replace(
                row.fresh(),
                relative=picture.relative,
                width=picture.size.width,
                height=picture.size.height,
                shape=canonical(shape, picture.size),
            )
            store.add([new], who)
            store.set_status([row.id], "rejected", who, "its picture is known now")
            count += 1
    return count


def _corners(shape: Mapping[str, list[float]] | Mapping[str, list[list[float]]]) -> list[tuple[float, float]]:
    (value,) = shape.values()
    if "box" in shape:
        left, top, width, height = value
        right, bottom = left + width, top + height  # type: ignore[operator]
        return [(left, top), (right, top), (right, bottom), (left, bottom)]  # type: ignore[list-item]
    return [(x, y) for x, y in value]  # type: ignore[misc]


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


@dataclass(frozen=True, slots=True)
class Exported:
    """A region on its way to another system.

    Attributes:
        relative: path of the picture.
        kind: letter of its type.
        left: of its box, in pixels of the other system's frame; the right edge may be beyond the frame.
        top: of the same.
        right: of the same.
        bottom: of the same.
        detected_by: who found it.
    """

    relative: str
    kind: str
    left: int
    top: int
    right: int
    bottom: int
    detected_by: str

    @property
    def pano_id(self) -> str:
        """Mission and name of the picture, as Amsterdam joins them."""
        path = PurePosixPath(self.relative)
        return f"{path.parent.name}_{path.stem}"

    def corner(self, name: str) -> tuple[int, int]:
        """(x, y) of a corner, such as ``left_top``."""
        return (self.left if "left" in name else self.right), (self.top if "top" in name else self.bottom)


def exported(
    found: Iterable[tuple[str, Detections]], letters: Mapping[str, str], frame: Size, detected_by: str
) -> Iterator[Exported | str]:
    """Objects of pictures as rows; in place of an object whose class has no letter, its class.

    Args:
        found: path of each picture, and its objects.
        letters: class → letter.
        frame: size of the other system's frame.
        detected_by: who found them, at most 255 characters.
    """
    for relative, detections in found:
        size = detections.size
        for instance in join_seam(detections.instances, Frame(size, wraps=size.width == 2 * size.height)):
            if (letter := letters.get(LABELS[instance.label])) is None:
                yield LABELS[instance.label]
            else:
                yield Exported(relative, letter, *_scaled(instance.box, size, frame), detected_by[:255])


def _scaled(box: Box, size: Size, frame: Size) -> tuple[int, int, int, int]:
    x, y = frame.width / size.width, frame.height / size.height
    return round(box.left * x), round(box.top * y), round(box.right * x), round(box.bottom * y)


def of_tree(tree: Path) -> Iterator[tuple[str, Detections]]:
    """The saved instances below a folder, with the paths of their pictures.

    Raises:
        UsageError: there is none, or one cannot be read.
    """
    ending = SUFFIXES[FileKind.INSTANCES]
    files = sorted(tree.rglob(f"*{ending}"))
    if not files:
        raise UsageError(f"{tree}: there are no saved instances (*{ending}) below it")
    for file in files:
        try:
            text = file.read_text("utf-8")
            name = json.loads(text)["image"]["file_name"]
            yield (file.relative_to(tree).parent / PurePosixPath(name).name).as_posix(), saved_instances.loads(text)
        except (OSError, ValueError, KeyError, TypeError, InstancesError) as error:
            raise UsageError(f"{file}: {error}") from error


def of_store(store: Store, batch: str | None) -> Iterator[tuple[str, Detections]]:
    """What corrections in force add, with the paths of their pictures.

    Raises:
        StorageError: the store cannot be read.
    """
    for relative in store.digests():
        objects, size = [], None
        for row in store.of_image(relative).in_force:
            if row.kind == "add" and batch in (None, row.batch):
                size = size or row.size
                label = next(number for number, name in LABELS.items() if name == row.category)
                wraps = size.width == 2 * size.height
                found = object_of(str(row.shape), row.size, size, label, row.source, wraps=wraps)
                objects += [] if found is None else [found]
        if size is not None:
            yield relative, Detections(size, split_at_seam(objects, size.width))
