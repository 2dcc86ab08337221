"""Corrections and saved instances → rows of regions for other systems."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from anonymise.batch.paths import SUFFIXES
from anonymise.config.files import FileKind
from anonymise.core import saved_instances
from anonymise.core.classes import LABELS, label_of
from anonymise.core.detections import Box, Detections, Size
from anonymise.core.errors import InstancesError, UsageError
from anonymise.core.plaintext import csv_cell
from anonymise.core.wraparound import Frame, join_seam, split_at_seam
from anonymise.corrections.shapes import box_around, object_of
from anonymise.corrections.store import Store

__all__ = ["Exported", "exported", "of_store", "of_tree", "write_table"]

_ORDER, _TEXTS = ("left_top", "right_top", "left_bottom", "right_bottom"), ("detected_by", "pano_id")
"""Order of the columns in Amsterdam's table; its workers write the corners as they go round."""


class Exported(NamedTuple):
    """A region on its way to another system.

    Attributes:
        relative: path of the picture.
        kind: letter of its type.
        box: in pixels of the other system's frame; its right edge may be beyond the frame.
        detected_by: who found it.
    """

    relative: str
    kind: str
    box: Box
    detected_by: str


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
        # In a planar picture, nothing at one edge belongs to what is at the other.
        wraps = any(instance.continues for instance in detections.instances)
        for instance in join_seam(detections.instances, Frame(size, wraps=wraps)):
            if (letter := letters.get(LABELS[instance.label])) is None:
                yield LABELS[instance.label]
                continue
            for box in _readable(instance.box, size):
                yield Exported(relative, letter, _scaled(box, size, frame), detected_by[:255])


def _readable(box: Box, size: Size) -> tuple[Box, ...]:
    """The box; in two halves where nobody could tell whether it is wide, or across the seam."""
    if 2 * (box.width + 2) <= size.width or size.width < 2 * size.height:  # scaling may add 2 pixels
        return (box,)
    middle = box.left + box.width // 2
    return replace(box, right=middle), replace(box, left=middle)


def _scaled(box: Box, size: Size, frame: Size) -> Box:
    x, y = frame.width / size.width, frame.height / size.height
    return box_around([(box.left * x, box.top * y), (box.right * x, box.bottom * y)])


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
    """What corrections in force add, with the paths of their pictures."""
    for relative, rows in store.in_force():
        objects, size = [], None
        for row in rows:
            if row.kind == "add" and batch in (None, row.batch):
                size = size or row.size
                wraps = size.width == 2 * size.height
                found = object_of(str(row.shape), row.size, size, label_of(row.category), row.source, wraps=wraps)
                objects += [] if found is None else [found]
        if size is not None:
            yield relative, Detections(size, split_at_seam(objects, size.width))


def write_table(file: Path, regions: Iterable[Exported]) -> None:
    """Writes a CSV file with the columns of Amsterdam's table ``panoramas_region``, whole or not at all.

    Raises:
        UsageError: it cannot be written.
    """
    half = file.with_name(f"{file.name}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with half.open("w", encoding="utf-8", newline="") as opened:
            writer = csv.writer(opened)
            writer.writerow(("region_type", *(f"{corner}_{axis}" for corner in _ORDER for axis in "xy"), *_TEXTS))
            for relative, kind, box, detected_by in regions:
                xs = (box.left if "left" in corner else box.right for corner in _ORDER)
                ys = (box.top if "top" in corner else box.bottom for corner in _ORDER)
                path = PurePosixPath(relative)
                texts = map(csv_cell, (detected_by, f"{path.parent.name}_{path.stem}"))
                writer.writerow((kind, *chain.from_iterable(zip(xs, ys, strict=True)), *texts))
        half.replace(file)
    except OSError as error:
        with suppress(OSError):
            half.unlink(missing_ok=True)
        raise UsageError(f"{file} cannot be written: {error.strerror or error}") from error
