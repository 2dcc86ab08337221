"""Corrections as a source of detections around another: what that finds, and what people add, less what they remove."""

import hashlib
import logging
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

from anonymise.core.classes import label_of
from anonymise.core.detections import Detections, Instance, Size
from anonymise.core.sources import CORRECTED, DetectionSource, InputImage, Source
from anonymise.core.wraparound import grown_around, split_at_seam, wholes
from anonymise.corrections.shapes import object_of
from anonymise.corrections.store import SOURCES, Correction, Rows, Store
from anonymise.detection.outlines import OutlineOptions, ellipse_around

__all__ = ["CorrectedSource", "applied", "corrected", "stale_rows"]

log = logging.getLogger(__name__)

_INSIDE = 0.9
"""Fraction of a find that lies inside a removal that means it. What reaches farther out may be somebody else."""

_RUN = "run"
"""Who sets the statuses of what was drawn."""


def corrected(inner: DetectionSource, folder: str | None, outlines: OutlineOptions) -> DetectionSource:
    """A source with the corrections of a store; the source itself where there is no store.

    Its `DetectionSource.of` takes the name that corrections know an image by: its path below the input folder.

    Args:
        inner: the other source.
        folder: folder of the store (key ``corrections``), or None.
        outlines: margins that what is added gets.

    Raises:
        UsageError: there is no store in the folder.
        StorageError: the store cannot be read.
    """
    return inner if folder is None else CorrectedSource(inner, Store(Path(folder)), outlines)


class CorrectedSource:
    """Another source, with the corrections of a store. `corrected` makes one.

    Whoever publishes what this source says calls `finished` then, and `failed` where nothing could be published.

    Args:
        inner: the other source.
        store: has the corrections.
        outlines: margins that what is added gets, as what is found does. No outline makes it smaller.

    Attributes:
        store: has the corrections.
        n_stale: number of images so far that are not the pictures that corrections were made for.
        n_drawn: number of corrections so far that were drawn.
    """

    def __init__(self, inner: DetectionSource, store: Store, outlines: OutlineOptions) -> None:
        self._inner = inner
        self.store = store
        self._outlines = outlines
        self._due: dict[str, list[str]] = {}
        self._rows: dict[str, Rows] = {}
        self.n_stale = 0
        self.n_drawn = 0

    def close(self) -> None:
        """Ends using the store."""
        self.store.close()

    def of(self, name: str) -> Source:
        """What the inner source and the corrections say about an image, as the store is now.

        Raises:
            ImageError: the inner source cannot tell.
            StorageError: the store cannot be read.
        """
        source = self._inner.of(name)
        rows = self.store.of_image(name)
        if rows.waiting:
            self._due[name] = list(rows.waiting)
        self._rows.pop(name, None)
        if rows.in_force:
            self._rows[name] = rows
        end = CORRECTED + rows.digest if rows.digest else ""
        find = partial(self._find, source, rows)
        return replace(source, fingerprint=source.fingerprint + end, find=find, corrections=end)

    def rows_of(self, name: str) -> Rows:
        """The corrections of an image as they were when `of` was last asked, for `applied` in another process."""
        return self._rows.get(name, Rows())

    def has_due(self, name: str) -> bool:
        """Whether corrections of an image wait to be drawn."""
        return name in self._due

    def finished(self, names: Iterable[str]) -> None:
        """The images are published as this source said, beyond recall: their corrections are drawn."""
        due = [id_ for name in names for id_ in self._due.pop(name, ())]
        if due:
            self.store.set_status(due, "drawn", _RUN)
            self.n_drawn += len(due)

    def failed(self, name: str, reason: str) -> None:
        """An image could not be done; its corrections wait for the next run."""
        if due := self._due.pop(name, None) or self.store.of_image(name).waiting:
            self.store.set_status(due, "failed", _RUN, reason)

    def _find(self, source: Source, rows: Rows, image: InputImage) -> Detections:
        found = source.find(image)
        if not rows.in_force and not found.removed and all(i.source not in SOURCES for i in found.instances):
            return found
        self.note(image.name, rows, stale_rows(rows, image))
        return applied(found, rows, image, self._outlines)

    def note(self, name: str, rows: Rows, stale: list[str]) -> None:
        """The corrections of an image were applied.

        Args:
            name: of the image.
            rows: its corrections.
            stale: as `stale_rows` gives them.
        """
        due = self._due.get(name, [])
        # What fits the picture again counts as drawn.
        due += [row.id for row in rows.in_force if row.status == "stale" and row.id not in stale]
        if due:
            self._due[name] = [id_ for id_ in due if id_ not in stale]
        if stale:
            self.n_stale += 1
            log.warning("%s is not the picture that corrections were made for: %s", name, ", ".join(stale))
            self.store.set_status(stale, "stale", _RUN, "another picture")


def stale_rows(rows: Rows, image: InputImage) -> list[str]:
    """The ids of the corrections in force that were made for another picture: of another size, or with other bytes."""
    return [row.id for row in rows.in_force if _is_stale(row, image)]


def _is_stale(row: Correction, image: InputImage) -> bool:
    if row.size != image.size:
        return True
    return row.sha256 is not None and row.sha256 != hashlib.sha256(image.data).hexdigest()


def applied(found: Detections, rows: Rows, image: InputImage, outlines: OutlineOptions) -> Detections:
    """What was found, with the corrections of the image: additions are added, then removals taken out.

    In doubt more is hidden: additions that were made for another picture are scaled to this one, removals not applied.
    A removal takes finds of the model only, of its own class, that lie inside it by 90 %; so it never uncovers what
    another find or an addition hides. Needs no store, so it can be done in another process.

    Args:
        found: what a model found, or saved instances of any earlier run with corrections.
        rows: the corrections of the image.
        image: the image.
        outlines: margins that additions get.
    """
    # Saved instances have what earlier corrections made of the finds.
    finds = (*(instance for instance in found.instances if instance.source not in SOURCES), *found.removed)
    removals = [
        (label_of(row.category), removal)
        for row in rows.in_force
        if row.kind == "remove" and not _is_stale(row, image)
        if (removal := _object(row, image)) is not None
    ]
    kept: list[Instance] = []
    removed: list[Instance] = []
    for parts in wholes(finds):
        is_none = any(label == parts[0].label and _covers(removal, parts, image) for label, removal in removals)
        (removed if is_none else kept).extend(parts)
    added = [part for row in rows.in_force if row.kind == "add" for part in _added(row, image, outlines)]
    return replace(found, instances=(*kept, *added), removed=tuple(removed))


def _added(row: Correction, image: InputImage, outlines: OutlineOptions) -> tuple[Instance, ...]:
    added = _object(row, image)
    if added is None:
        log.warning("%s: nothing of correction %s is in the picture", image.name, row.id)
        return ()
    if row.padding:
        grow = partial(_grown, outlines)
        added = grown_around(added, grow, image.size) if image.wraps else grow(added, image.size)
    return split_at_seam([added], image.size.width)


def _grown(outlines: OutlineOptions, instance: Instance, size: Size) -> Instance:
    grown = instance.dilated(outlines.mask_dilation_pixels, size)
    return ellipse_around(grown, size) if outlines.outline == "ellipse" else grown


def _object(row: Correction, image: InputImage) -> Instance | None:
    assert row.shape is not None  # it adds or removes something
    label = label_of(row.category)
    return object_of(row.shape, row.size, image.size, label, row.source, wraps=image.wraps)


def _covers(removal: Instance, parts: tuple[Instance, ...], image: InputImage) -> bool:
    pieces = split_at_seam([removal], image.size.width)
    inside = sum(part.overlap(piece) for part in parts for piece in pieces)
    return inside >= _INSIDE * sum(part.area() for part in parts)
