"""What really is in an image, by its annotation, and what a run hid there: values only."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from anonymise.core.detections import Box, Detections, Instance, Mask, Size

__all__ = ["Annotated", "FileIndex", "Found", "Problem", "Truth", "TruthObject", "index_files", "stem"]

_Where = TypeVar("_Where", bound=PurePath)


@dataclass(frozen=True, slots=True)
class TruthObject:
    """One annotated object.

    Attributes:
        category: its class as the ground truth names it.
        label: the class of the model that it is to be found as: a class id.
        box: whole pixels around the mask.
        mask: bool (box.height, box.width), the crop inside the box.
        bbox: [left, top, width, height] in pixels as the annotation has it, for COCO's measures.
        area: in pixels as the annotation has it, for COCO's measures.
        crowd: whether it is a region of many objects: its pixels are to be hidden, but it is not counted as an object.
        attributes: what else the annotation says of it.
    """

    category: str
    label: int
    box: Box
    mask: Mask
    bbox: tuple[float, float, float, float]
    area: float
    crowd: bool = False
    attributes: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Truth:
    """The annotation of one image.

    Attributes:
        name: name of the image, without its ending, below the folder of images.
        size: size of the image as it is stored.
        objects: what is to be hidden.
        regions: class → bool (height, width), pixels of the class. Pixels of a class need not belong to an object.
        void: bool (height, width), pixels of which nobody knows what they show; None where all are known.
    """

    name: str
    size: Size
    objects: tuple[TruthObject, ...]
    regions: Mapping[str, Mask]
    void: Mask | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What a run hid in one image.

    Attributes:
        hidden: bool (height, width).
        instances: what was found there; None if only the mask is known.
        levels: uint8 (height, width), for how many of ``evaluation_thresholds``, from the lowest on, the pixel is
            hidden; None if the scores are not known.
    """

    hidden: Mask
    instances: tuple[Instance, ...] | None = None
    levels: NDArray[np.uint8] | None = None

    @classmethod
    def of(cls, detections: Detections, thresholds: Sequence[float] = ()) -> "Found":
        """What is hidden if every object is hidden by its mask.

        A pixel counts as hidden at a threshold if an object with at least that score covers it. Where objects were
        merged from several passes this is an approximation, as their scores are means.
        """
        levels = np.zeros((detections.size.height, detections.size.width), np.uint8)
        for instance in detections.instances:
            part = levels[instance.box.slices]
            level = np.uint8(np.searchsorted(np.asarray(thresholds), instance.score, side="right"))
            np.maximum(part, level, out=part, where=instance.mask)
        return cls(detections.union(), detections.instances, levels if thresholds else None)


@dataclass(frozen=True, slots=True)
class Annotated:
    """An image that has an annotation.

    Attributes:
        name: name of the image, without its ending, as the annotation has it.
        load: reads the annotation; raises `ImageError` where it makes no sense.
    """

    name: str
    load: Callable[[], Truth]


@dataclass(frozen=True, slots=True)
class Problem:
    """An image that could not be evaluated, or not in full, and why."""

    name: str
    reason: str


class FileIndex(Generic[_Where]):
    """Files below a folder, found by the image's name: by its path below the folder, else by its last part alone."""

    def __init__(self, files: Iterable[tuple[str, _Where]]) -> None:
        self._by_path: dict[str, _Where] = {}
        self._by_name: dict[str, list[str]] = {}
        for name, file in files:
            self._by_path[name] = file
            self._by_name.setdefault(name.rpartition("/")[2], []).append(name)

    def __len__(self) -> int:
        return len(self._by_path)

    def find(self, name: str) -> _Where | None:
        """The file of an image; None where there is none, or where several have its name in different folders."""
        if name in self._by_path:
            return self._by_path[name]
        named = self._by_name.get(name.rpartition("/")[2], [])
        return self._by_path[named[0]] if len(named) == 1 else None

    def without(self, used: Collection[_Where]) -> tuple[str, ...]:
        """The names of the files that are not among ``used``."""
        taken = set(used)
        return tuple(name for name, file in self._by_path.items() if file not in taken)


def stem(path: PurePath, ending: str = "") -> str:
    """The name by which files of one image are matched: its path with forward slashes, without suffix and ending."""
    name = path.with_name(path.name.removesuffix(ending)) if ending else path.with_suffix("")
    return name.as_posix()


def index_files(root: Path, ending: str) -> FileIndex[Path]:
    """The files below a folder whose names end in ``ending``, such as ``_mask.png``."""
    found = sorted(path for path in root.rglob("*" + ending) if path.is_file())
    return FileIndex((stem(path.relative_to(root), ending), path) for path in found)
