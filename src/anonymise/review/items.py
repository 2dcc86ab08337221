"""What a reviewer is shown of one picture: finds of the model, and corrections."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from anonymise import images
from anonymise.anonymiser import projection_of
from anonymise.config import Config
from anonymise.core import saved_instances
from anonymise.core.classes import LABELS, label_of
from anonymise.core.detections import MODEL, Box, Detections, Instance, Size
from anonymise.core.orientation import upright_size
from anonymise.core.wraparound import wholes
from anonymise.corrections.shapes import object_of
from anonymise.corrections.store import Correction, Store
from anonymise.review.pictures import HIDDEN_ANYWAY, Picture
from anonymise.review.views import outline_of

__all__ = ["Find", "Shown", "shown"]

_SCREEN = 2048
"""Outlines are exact to a pixel of a screen this wide."""


@dataclass(frozen=True)
class Find:
    """An object that the model found; in a 360° picture with its rest at the other edge.

    Attributes:
        parts: its instances, in stored pixels.
        size: of the stored picture.
        is_hidden: False for a doubtful one.
    """

    parts: tuple[Instance, ...]
    size: Size
    is_hidden: bool

    @property
    def category(self) -> str:
        """Name of its class."""
        return LABELS[self.parts[0].label]

    @property
    def box(self) -> Box:
        """Box around it; it may go on beyond the right edge of a 360° picture."""
        first, *rest = self.parts
        return first.box if not rest else first.box.hull(rest[0].box.moved(self.size.width, 0))

    @cached_property
    def shape(self) -> str:
        """Its mask as the shape of a correction: JSON text."""
        mask = self.parts[0]
        if len(self.parts) > 1:
            union = Detections(self.size, self.parts).union()
            mask = replace(mask, box=Box(0, 0, self.size.width, self.size.height), mask=union)
        entry = json.loads(saved_instances.dumps(Detections(self.size, (mask,)), ""))["instances"][0]
        return json.dumps({"rle": entry["segmentation"]})

    @cached_property
    def id(self) -> str:
        """Digest of class and mask, so that a decision does not hit another find after a new run."""
        return hashlib.sha256(f"{self.category} {self.shape}".encode()).hexdigest()[:20]

    def as_json(self) -> dict[str, Any]:
        """As the page has it."""
        box, tolerance = self.box, max(0.5, self.size.width / _SCREEN / 2)
        rings = [
            [[x + self.size.width * part.continues, y] for x, y in ring]
            for part in self.parts
            for ring in outline_of(part, tolerance)
        ]
        described = {"id": self.id, "category": self.category, "score": round(self.parts[0].score, 4), "polygon": rings}
        return {**described, "box": _box(box), "source": MODEL, "doubtful": not self.is_hidden}


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture as it is now.

    Attributes:
        picture: the picture.
        size: of its stored pixels.
        orientation: EXIF orientation, 1 to 8.
        wraps: whether the left and right edge of the stored pixels meet.
        finds: what the model found; None where nobody wrote it down.
        corrections: those in force.
        proposed: what is said to be missed, and nobody has accepted or rejected.
    """

    picture: Picture
    size: Size
    orientation: int
    wraps: bool
    finds: tuple[Find, ...] | None
    corrections: tuple[Correction, ...]
    proposed: tuple[Correction, ...]

    def find(self, id_: str) -> Find | None:
        """The find with an id."""
        return next((find for find in self.finds or () if find.id == id_), None)

    def as_json(self) -> dict[str, Any]:
        """As the page has it, but for the claim. What is proposed is a find that one can call false."""
        upright = upright_size(self.size, self.orientation)
        proposed = ({**self._drawn(row), "score": None, "doubtful": True} for row in self.proposed)
        return {
            "width": self.size.width,
            "height": self.size.height,
            "orientation": self.orientation,
            "equirectangular": self.wraps,
            "levels": max(1, (max(upright) // 512).bit_length()),
            "version": self.picture.version,
            "finds": [*(find.as_json() for find in self.finds or ()), *proposed],
            "corrections": [{**self._drawn(row), "kind": row.kind} for row in self.corrections],
        }

    def _drawn(self, row: Correction) -> dict[str, Any]:
        instance = object_of(row.shape or "", row.size, self.size, label_of(row.category), "", wraps=self.wraps)
        shape = json.loads(row.shape or "{}")
        if row.size != self.size or "rle" in shape:
            shape = {"box": [0, 0, 1, 1] if instance is None else _box(instance.box)}
        box = [0, 0, 1, 1] if instance is None else _box(instance.box)
        return {"id": row.id, "category": row.category, "source": row.source, "shape": shape, **shape, "box": box}


def shown(picture: Picture, store: Store, config: Config) -> Shown:
    """What there is to see of a picture.

    Raises:
        ImageError: the published file, or what was found in it, cannot be read.
        StorageError: the store cannot be read.
    """
    data = picture.read()
    head = images.header(data, max_pixels=config.images.max_decoded_pixels)
    size = Size(head.width, head.height)
    wraps = projection_of(data, config)[0].wraps_as_stored(head.orientation)
    found = picture.detections(size)
    rows = store.of_image(picture.relative).in_force
    gone = {(row.category, row.shape) for row in rows if row.kind == "remove" and row.status == "drawn"}
    finds = None if found is None else tuple(f for f in _finds(found) if (f.category, f.shape) not in gone)
    proposed = tuple(row for row in store.proposed(picture.relative) if row.kind == "add")
    return Shown(picture, size, head.orientation, wraps, finds, rows, proposed)


def _finds(found: Detections) -> Iterator[Find]:
    for instances, is_hidden in ((found.instances, True), (found.doubtful, False)):
        for parts in wholes(instance for instance in instances if instance.source == MODEL):
            if is_hidden or not _is_covered(parts, found.instances):
                yield Find(parts, found.size, is_hidden)


def _is_covered(parts: tuple[Instance, ...], hidden: Sequence[Instance]) -> bool:
    wanted = HIDDEN_ANYWAY * sum(part.area() for part in parts)
    return any(sum(part.overlap(other) for part in parts) >= wanted for other in hidden)


def _box(box: Box) -> list[int]:
    return [box.left, box.top, box.width, box.height]
