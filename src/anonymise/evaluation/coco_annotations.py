"""Ground truth from annotations in COCO's format: boxes, polygons or run lengths, with attributes.

Format: https://cocodataset.org/#format-data
"""

import json
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

import numpy as np

from anonymise.detections import Box, Mask, Size, full_mask
from anonymise.errors import ImageError, UsageError
from anonymise.evaluation.options import EvaluationOptions, found_as
from anonymise.evaluation.truth import Annotated, Truth, TruthObject, stem

__all__ = ["annotated_by_coco"]

_OF_THE_FORMAT = frozenset(
    {
        *("id", "image_id", "category_id", "segmentation", "area", "bbox", "iscrowd", "attributes"),
        *("keypoints", "num_keypoints", "caption", "score", "ignore", "track_id", "instance_id"),
    }
)
"""Keys of an annotation that are no attributes of the object."""


def annotated_by_coco(file: Path, wanted: Collection[int], options: EvaluationOptions) -> tuple[Annotated, ...]:
    """The images of an annotation file, also those without any object.

    Args:
        file: JSON with ``images``, ``annotations`` and ``categories``.
        wanted: the classes that are to be hidden, by their ids; all others are background.
        options: which class is which.

    Raises:
        UsageError: it cannot be read, is not in COCO's format, or has a category of which nobody knows what it is.
    """
    try:
        content = json.loads(file.read_text("utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The annotations {file} cannot be read: {error} (--coco).") from error
    except ValueError as error:
        raise UsageError(f"The annotations {file} are no JSON: {error} (--coco).") from error
    try:
        categories = {int(category["id"]): str(category["name"]) for category in content["categories"]}
        images = {image["id"]: image for image in content["images"]}
        names = {key: stem(PurePosixPath(str(image["file_name"]).replace("\\", "/"))) for key, image in images.items()}
        by_image: dict[Any, list[dict[str, Any]]] = {key: [] for key in images}
        for annotation in content["annotations"]:
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
    labels = _labels(file, categories, wanted, options)
    return tuple(
        Annotated(names[key], partial(_truth, names[key], image, by_image[key], categories, labels))
        for key, image in images.items()
    )


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


def _truth(
    name: str,
    image: Mapping[str, Any],
    annotations: Sequence[Mapping[str, Any]],
    categories: Mapping[int, str],
    labels: Mapping[int, int],
) -> Truth:
    """The ground truth of one image.

    Raises:
        ImageError: an annotation makes no sense.
    """
    try:
        size = Size(int(image["width"]), int(image["height"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ImageError(f"the annotations do not say how large the image is: {error}") from error
    objects = []
    for annotation in annotations:
        number = annotation["category_id"]
        if number not in labels:
            continue
        try:
            objects.append(_object(annotation, categories[number], labels[number], size))
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
            raise ImageError(f"annotation {annotation.get('id')} makes no sense: {error}") from error
    regions: dict[str, Mask] = {}
    for thing in objects:
        region = regions.setdefault(thing.category, np.zeros((size.height, size.width), np.bool_))
        region[thing.box.slices] |= thing.mask
    return Truth(name, size, tuple(objects), regions)


def _object(annotation: Mapping[str, Any], category: str, label: int, size: Size) -> TruthObject:
    """One object.

    Raises:
        ValueError: it is outside of the image, or its mask is that of an image of another size.
    """
    crowd = bool(annotation.get("iscrowd", 0))
    segmentation = annotation.get("segmentation")
    bbox: tuple[float, float, float, float]
    if segmentation:
        box, mask = _segment(segmentation, size)
        left, top, width, height = annotation.get("bbox") or (box.left, box.top, box.width, box.height)
    else:
        left, top, width, height = annotation["bbox"]
        # Outwards to whole pixels, as the boxes of the model are.
        outer = (np.floor(left), np.floor(top), np.ceil(left + width), np.ceil(top + height))
        inside = Box(0, 0, *size).intersection(Box(*(int(edge) for edge in outer)))
        if inside is None:
            raise ValueError(f"its box {annotation['bbox']} is outside of the image of {size.width}×{size.height}")
        box, mask = inside, full_mask(inside)
    bbox = float(left), float(top), float(width), float(height)
    area = float(annotation.get("area") or (np.count_nonzero(mask) if segmentation else bbox[2] * bbox[3]))
    return TruthObject(category, label, box, mask, bbox, area, crowd, _attributes(annotation))


def _segment(segmentation: Any, size: Size) -> tuple[Box, Mask]:
    """The mask in polygons or run lengths, as a crop.

    Raises:
        ValueError: it covers no pixel, or is that of an image of another size.
    """
    from pycocotools import mask as coco

    if isinstance(segmentation, list):
        if not all(
            isinstance(polygon, list) and len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in segmentation
        ):
            raise ValueError("a polygon needs three points at least, each with x and y")
        parts = coco.merge(coco.frPyObjects(segmentation, size.height, size.width))
    elif tuple(segmentation["size"]) != (size.height, size.width):
        height, width = segmentation["size"]
        raise ValueError(f"its mask is for an image of {width}×{height} pixels, not {size.width}×{size.height}")
    elif isinstance(segmentation["counts"], list):
        parts = coco.frPyObjects(segmentation, size.height, size.width)
    else:
        parts = segmentation
    # Whole numbers, as the run lengths are of pixels.
    left, top, width, height = (int(edge) for edge in coco.toBbox(parts))
    if not (width and height):
        raise ValueError("its mask covers no pixel")
    box = Box(left, top, left + width, top + height)
    if coco.area(parts) == box.area:
        return box, full_mask(box)
    return box, coco.decode(parts)[box.slices].astype(np.bool_)


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
