"""Ground truth from annotations in COCO's format: boxes, polygons or run lengths, with attributes.

Format: https://cocodataset.org/#format-data
"""

import json
import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from anonymise.config import EvaluationOptions
from anonymise.core.detections import Box, Mask, Size, full_mask
from anonymise.core.errors import ImageError, UsageError
from anonymise.core.runlengths import check_size, decode
from anonymise.evaluation.synonyms import found_as
from anonymise.evaluation.truth import Annotated, Truth, TruthObject, stem

__all__ = ["annotated_by_coco"]

_OF_THE_FORMAT = frozenset(
    {
        *("id", "image_id", "category_id", "segmentation", "area", "bbox", "iscrowd", "attributes"),
        *("keypoints", "num_keypoints", "caption", "score", "ignore", "track_id", "instance_id"),
    }
)
"""Keys of an annotation that are no attributes of the object."""

_LARGEST_FRACTION = 1.01
"""A box or polygon that reaches no farther is in fractions of the image: in pixels it would be in the first one."""

_FAR = 10**9
"""Pixels. No image reaches so far."""

_MAX_POINTS = 100_000
"""Of the polygons of an object."""

_LONGEST_OUTLINE = 2_000_000
"""Pixels around the polygons of an object; COCO's code takes 120 bytes for each."""

_MAX_COVER = 64
"""The masks of all objects together may have so many times as many pixels as the image."""


class _Reading(NamedTuple):
    """How a file is read.

    Attributes:
        categories: number of a category → its name.
        labels: number of a category → class of the model.
        max_pixels: larger images are refused.
        normalised: whether boxes and polygons are fractions of the image's width and height.
    """

    categories: Mapping[int, str]
    labels: Mapping[int, int]
    max_pixels: int
    normalised: bool


def annotated_by_coco(
    file: Path, wanted: Collection[int], options: EvaluationOptions, *, max_pixels: int, normalised: bool = False
) -> tuple[Annotated, ...]:
    """The images of an annotation file, also those without any object.

    Args:
        file: JSON with ``images``, ``annotations`` and ``categories``.
        wanted: the classes that are to be hidden, by their ids; all others are background.
        options: which class is which.
        max_pixels: an image of more pixels is not evaluated.
        normalised: whether boxes and polygons are fractions of the image's width and height instead of pixels.

    Raises:
        UsageError: it cannot be read, is not in COCO's format, contradicts itself, has a category of which nobody knows
            what it is, or boxes that are fractions although they should be pixels, or the other way round.
    """
    try:
        content = json.loads(file.read_text("utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The annotations {file} cannot be read: {error} (--coco).") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"The annotations {file} are no JSON: {error} (--coco).") from error
    try:
        categories = {int(category["id"]): str(category["name"]) for category in content["categories"]}
        images = {image["id"]: image for image in content["images"]}
        names = {key: stem(PurePosixPath(str(image["file_name"]).replace("\\", "/"))) for key, image in images.items()}
        _check_unique(file, "categories", "id", [int(category["id"]) for category in content["categories"]])
        _check_unique(file, "images", "id", [image["id"] for image in content["images"]])
        _check_unique(file, "images", "file_name", [*names.values()])
        by_image: dict[Any, list[dict[str, Any]]] = {key: [] for key in images}
        for annotation in content["annotations"]:
            if annotation["image_id"] not in images:
                raise UsageError(
                    f"{file}: annotation {annotation.get('id')} is of the image {annotation['image_id']}, which is not "
                    "in the file's list of images (--coco)."
                )
            by_image[annotation["image_id"]].append(annotation)
            if annotation["category_id"] not in categories:
                raise UsageError(
                    f"{file}: annotation {annotation.get('id')} has the category {annotation['category_id']}, "
                    "which is not in the file's list of categories (--coco)."
                )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"{file} is not in COCO's format: {type(error).__name__}: {error}. It must have images (id, "
            "file_name, width, height), categories (id, name) and annotations (image_id, category_id, bbox, "
            "segmentation) (--coco)."
        ) from error
    if not images:
        raise UsageError(f"{file} lists no images (--coco).")
    _check_units(file, content["annotations"], normalised=normalised)
    reading = _Reading(categories, _labels(file, categories, wanted, options), max_pixels, normalised)
    return tuple(
        Annotated(names[key], partial(_truth, names[key], image, by_image[key], reading))
        for key, image in images.items()
    )


def _check_unique(file: Path, things: str, key: str, values: Sequence[object]) -> None:
    """Makes sure that no two entries of a list have the same value, of which only the last would count.

    Raises:
        UsageError: two have.
    """
    if twice := [str(value) for value, n in Counter(values).items() if n > 1]:
        raise UsageError(
            f"{file}: several {things} have the same {key}: {', '.join(twice[:3])}"
            f"{f' and {len(twice) - 3} more' if len(twice) > 3 else ''} (--coco)."
        )


def _check_units(file: Path, annotations: Sequence[Mapping[str, Any]], *, normalised: bool) -> None:
    """Makes sure that boxes and polygons are in pixels, or with ``normalised`` fractions of the image.

    Raises:
        UsageError: they are not.
    """
    places = [(annotation.get("id"), reach) for annotation in annotations for reach in _reaches(annotation)]
    wrong = [(number, reach) for number, reach in places if (reach <= _LARGEST_FRACTION) != normalised]
    if not wrong:
        return
    number, reach = wrong[0]
    some = f"{file}: annotation {number} reaches to {reach:g}, as {len(wrong)} of {len(places)} boxes and polygons do: "
    if normalised:
        raise UsageError(f"{some}no fraction of the image's width and height. Leave --normalised out (--coco).")
    raise UsageError(
        f"{some}that is not past the first pixel. COCO's boxes are [left, top, width, height] in pixels. If those are "
        "fractions of the image's width and height, say so with --normalised (--coco)."
    )


def _reaches(annotation: Mapping[str, Any]) -> Iterator[float]:
    """The largest coordinates of the box and of the polygons of an annotation, where these make sense."""
    bbox: Any = annotation.get("bbox")
    segmentation: Any = annotation.get("segmentation")
    if _are_numbers(bbox) and len(bbox) == 4 and bbox[2] > 0 and bbox[3] > 0:
        yield float(min(_FAR, max(bbox[0] + bbox[2], bbox[1] + bbox[3])))
    if isinstance(segmentation, list):
        edges = [max(polygon) for polygon in segmentation if _are_numbers(polygon)]
        if edges:
            yield float(min(_FAR, max(edges)))


def _are_numbers(values: Any) -> bool:
    return isinstance(values, list) and bool(values) and all(isinstance(value, int | float) for value in values)


def _labels(
    file: Path, categories: Mapping[int, str], wanted: Collection[int], options: EvaluationOptions
) -> dict[int, int]:
    """Category id → class id, of the categories that are to be hidden."""
    labels, unknown = {}, []
    for number, name in categories.items():
        try:
            label = found_as(name, options.evaluation_class_synonyms)
        except KeyError:
            unknown.append(name)
            continue
        if label is not None and label in wanted:
            labels[number] = label
    if unknown:
        raise UsageError(
            f"{file} has categories that are no known classes: {', '.join(sorted(unknown))}. Say in "
            "evaluation_class_synonyms which class the model finds them as, or null to leave them out: "
            f'evaluation_class_synonyms: {{"{min(unknown)}": person}}'
        )
    if not labels:
        raise UsageError(
            f"None of the categories of {file} is hidden with this configuration: {', '.join(categories.values())}. "
            "targets and mask_classes say what is."
        )
    return labels


def _truth(name: str, image: Mapping[str, Any], annotations: Sequence[Mapping[str, Any]], reading: _Reading) -> Truth:
    """The ground truth of one image.

    Raises:
        ImageError: an annotation makes no sense.
    """
    try:
        size = Size(int(image["width"]), int(image["height"]))
        check_size(size)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ImageError(f"the annotations do not say how large the image is: {error}") from error
    if size.width * size.height > reading.max_pixels:
        raise ImageError(
            f"the annotations are of {size.width}×{size.height} pixels, more than the limit of {reading.max_pixels} "
            "(max_decoded_pixels)"
        )
    objects = []
    left = _MAX_COVER * size.width * size.height
    for annotation in annotations:
        number = annotation["category_id"]
        if number not in reading.labels:
            continue
        try:
            category, label = reading.categories[number], reading.labels[number]
            thing = _object(annotation, category, label, size, normalised=reading.normalised)
            left -= 0 if thing.mask.strides == (0, 0) else thing.box.area
            if left < 0:
                raise ValueError(f"the masks of all objects are {_MAX_COVER} times as large as the image")
            objects.append(thing)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
            raise ImageError(f"annotation {annotation.get('id')} makes no sense: {error}") from error
    regions: dict[str, Mask] = {}
    for thing in objects:
        region = regions.setdefault(thing.category, np.zeros((size.height, size.width), np.bool_))
        region[thing.box.slices] |= thing.mask
    return Truth(name, size, tuple(objects), regions)


def _object(annotation: Mapping[str, Any], category: str, label: int, size: Size, *, normalised: bool) -> TruthObject:
    """One object.

    Raises:
        ValueError: it is outside of the image, its mask is that of an image of another size, or its numbers are none.
    """
    crowd = annotation.get("iscrowd", 0)
    if crowd not in (0, 1):
        raise ValueError(f"iscrowd is {crowd!r}, neither 0 nor 1")
    segmentation = annotation.get("segmentation")
    bbox = _bbox(annotation["bbox"], size, normalised=normalised) if annotation.get("bbox") else None
    if segmentation:
        box, mask = _segment(segmentation, size, normalised=normalised)
        bbox = bbox or (box.left, box.top, box.width, box.height)
    else:
        left, top, width, height = bbox or _bbox(annotation["bbox"], size, normalised=normalised)
        bbox = left, top, width, height
        # Outwards to whole pixels, as the boxes of the model are.
        outer = (math.floor(left), math.floor(top), math.ceil(left + width), math.ceil(top + height))
        inside = Box(0, 0, *size).intersection(Box(*outer))
        if inside is None:
            raise ValueError(f"its box {annotation['bbox']} is outside of the image of {size.width}×{size.height}")
        box, mask = inside, full_mask(inside)
    area = 0.0 if normalised else float(annotation.get("area") or 0)
    if not 0 <= area < math.inf:
        raise ValueError(f"its area is {area}")
    area = area or float(np.count_nonzero(mask) if segmentation else bbox[2] * bbox[3])
    return TruthObject(category, label, box, mask, bbox, area, bool(crowd), _attributes(annotation))


def _bbox(bbox: Any, size: Size, *, normalised: bool) -> tuple[float, float, float, float]:
    """A box as [left, top, width, height] in pixels.

    Raises:
        ValueError: it is no box.
    """
    left, top, width, height = (float(edge) for edge in bbox)
    if not all(map(math.isfinite, (left, top, width, height))):
        raise ValueError(f"its box {bbox} has numbers that are none")
    if not normalised:
        return left, top, width, height
    return left * size.width, top * size.height, width * size.width, height * size.height


def _segment(segmentation: Any, size: Size, *, normalised: bool) -> tuple[Box, Mask]:
    """The mask in polygons or run lengths, as a crop.

    Raises:
        ValueError: it covers no pixel, or is that of an image of another size.
    """
    from pycocotools import mask as coco

    if isinstance(segmentation, list):
        polygons = _polygons(segmentation, size, normalised=normalised)
        return decode(coco.merge(coco.frPyObjects(polygons, size.height, size.width))["counts"], size)
    if list(segmentation["size"]) != [size.height, size.width]:
        height, width = segmentation["size"]
        raise ValueError(f"its mask is for an image of {width}×{height} pixels, not {size.width}×{size.height}")
    return decode(segmentation["counts"], size)


def _polygons(polygons: Sequence[Any], size: Size, *, normalised: bool) -> list[list[float]]:
    """Polygons that COCO's code can fill: it believes all numbers, and takes memory for every pixel of an outline.

    Raises:
        ValueError: they are none, or are of no image of this size.
    """
    found = []
    n_points, length = 0, 0.0
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            raise ValueError("a polygon needs three points at least, each with x and y")
        n_points += len(polygon) // 2
        if n_points > _MAX_POINTS:
            raise ValueError(f"its polygons have more than {_MAX_POINTS} points")
        points = np.array(polygon, np.float64).reshape(-1, 2)
        if normalised:
            points = points * size
        if not np.isfinite(points).all():
            raise ValueError("a polygon has coordinates that are no numbers")
        if (points < np.negative(size)).any() or (points > 2 * np.array(size)).any():
            raise ValueError(f"a polygon lies far outside of the image of {size.width}×{size.height} pixels")
        length += float(abs(np.diff(points, axis=0, append=points[:1])).max(axis=1).sum())
        if length > _LONGEST_OUTLINE:
            raise ValueError(f"its outline is longer than {_LONGEST_OUTLINE} pixels")
        found.append(points.ravel().tolist())
    return found


def _attributes(annotation: Mapping[str, Any]) -> Mapping[str, str]:
    """What the annotation says besides COCO's own keys; measures and lists are no groups and are left out."""
    extra = {key: value for key, value in annotation.items() if key not in _OF_THE_FORMAT}
    named = annotation.get("attributes")
    everything = extra | (dict(named) if isinstance(named, Mapping) else {})
    return MappingProxyType(
        {str(key): _text(value) for key, value in everything.items() if isinstance(value, str | bool | int)}
    )


def _text(value: str | bool | int) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)
