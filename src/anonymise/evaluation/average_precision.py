"""COCO's average precision and recall, by its own code (https://cocodataset.org/#detection-eval)."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from anonymise.core.classes import LABELS
from anonymise.core.detections import Instance, Mask, Size
from anonymise.evaluation.quiet_matplotlib import keep_matplotlib_out_of_home
from anonymise.evaluation.truth import Truth

__all__ = ["STATISTICS", "AveragePrecision", "CocoImage", "average_precision", "coco_image"]

Kind = Literal["bbox", "segm"]

STATISTICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""The twelve numbers of COCO's summary, in its order; s, m and l are COCO's own sizes: below 32², below 96², above."""


@dataclass(frozen=True, slots=True)
class CocoImage:
    """One image in COCO's terms.

    Attributes:
        name: name of the image.
        truths: annotations without ids.
        found: detections without ids.
        has_masks: whether any annotated object is more than a box.
    """

    name: str
    size: Size
    truths: tuple[Mapping[str, Any], ...]
    found: tuple[Mapping[str, Any], ...]
    has_masks: bool


@dataclass(frozen=True, slots=True)
class AveragePrecision:
    """What COCO's code makes of all images together, of one kind: ``bbox`` or ``segm``.

    Attributes:
        statistics: `STATISTICS` → value; None where nothing can be said, as for sizes that do not occur.
        by_class: class → AP and AP50.
        by_image: image → `STATISTICS` of this image alone; only if asked for.
    """

    kind: Kind
    statistics: Mapping[str, float | None]
    by_class: Mapping[str, Mapping[str, float | None]]
    by_image: Mapping[str, Mapping[str, float | None]]


def coco_image(truth: Truth, instances: Sequence[Instance]) -> CocoImage:
    """An image's annotation and what was found in it, as COCO's code takes it."""
    truths = tuple(
        {
            "category_id": thing.label,
            "bbox": list(thing.bbox),
            "area": thing.area,
            "iscrowd": int(thing.crowd),
            "segmentation": _encoded(thing.mask, thing.box.slices, truth.size),
        }
        for thing in truth.objects
    )
    found = tuple(
        {
            "category_id": instance.label,
            "bbox": [instance.box.left, instance.box.top, instance.box.width, instance.box.height],
            "mask_area": instance.area(),
            "score": instance.score,
            "segmentation": _encoded(instance.mask, instance.box.slices, truth.size),
        }
        for instance in instances
    )
    has_masks = any(not thing.mask.all() for thing in truth.objects)
    return CocoImage(truth.name, truth.size, truths, found, has_masks)


def average_precision(images: Sequence[CocoImage], *, per_image: bool) -> tuple[AveragePrecision, ...]:
    """COCO's measures of boxes, and of masks if the annotation has any.

    Only classes that the annotation has are counted, as in COCO's own summary.

    Args:
        images: all of them.
        per_image: whether each image is evaluated alone as well.
    """
    if not any(image.truths for image in images):
        return ()
    kinds: tuple[Kind, ...] = ("bbox", "segm") if any(image.has_masks for image in images) else ("bbox",)
    return tuple(_of_kind(images, kind, per_image=per_image) for kind in kinds)


def _of_kind(images: Sequence[CocoImage], kind: Kind, *, per_image: bool) -> AveragePrecision:
    statistics, by_class = _evaluated(images, kind)
    by_image = {image.name: _evaluated([image], kind)[0] for image in images if image.truths} if per_image else {}
    return AveragePrecision(kind, statistics, by_class, MappingProxyType(by_image))


def _evaluated(
    images: Sequence[CocoImage], kind: Kind
) -> tuple[Mapping[str, float | None], Mapping[str, Mapping[str, float | None]]]:
    """The summary, and AP and AP50 of each class."""
    keep_matplotlib_out_of_home()
    from pycocotools.cocoeval import COCOeval

    labels = sorted({truth["category_id"] for image in images for truth in image.truths})
    with contextlib.redirect_stdout(io.StringIO()):
        work = COCOeval(_data_set(images, labels, kind, found=False), _data_set(images, labels, kind, found=True), kind)
        work.evaluate()
        work.accumulate()
        work.summarize()
    precision = work.eval["precision"]  # (IoU threshold, recall, class, area range, detections)
    by_class = {
        LABELS[label]: {"AP": _mean(precision[:, :, k, 0, -1]), "AP50": _mean(precision[0, :, k, 0, -1])}
        for k, label in enumerate(labels)
    }
    statistics = {name: _known(value) for name, value in zip(STATISTICS, work.stats, strict=True)}
    return MappingProxyType(statistics), MappingProxyType(by_class)


def _data_set(images: Sequence[CocoImage], labels: Sequence[int], kind: Kind, *, found: bool) -> Any:
    """A data set of COCO's code with the annotations or the findings."""
    keep_matplotlib_out_of_home()
    from pycocotools.coco import COCO

    entries: list[dict[str, Any]] = []
    for number, image in enumerate(images, start=1):
        for entry in image.found if found else image.truths:
            # COCO's code writes into what it is given.
            entries.append({**entry, "id": len(entries) + 1, "image_id": number})
            if found:
                box_area = entry["bbox"][2] * entry["bbox"][3]
                entries[-1] |= {"iscrowd": 0, "area": box_area if kind == "bbox" else entry["mask_area"]}
    data = COCO()
    data.dataset = {
        "images": [{"id": n, "width": i.size.width, "height": i.size.height} for n, i in enumerate(images, start=1)],
        "categories": [{"id": label, "name": LABELS[label]} for label in labels],
        "annotations": entries,
    }
    data.createIndex()
    return data


def _encoded(mask: Mask, where: tuple[slice, slice], size: Size) -> Any:
    """Run lengths of the mask in the full image."""
    from pycocotools import mask as coco

    full = np.zeros((size.height, size.width), np.uint8, order="F")
    full[where] = mask
    return coco.encode(full)


def _mean(values: Any) -> float | None:
    known = values[values > -1]
    return float(known.mean()) if known.size else None


def _known(value: float) -> float | None:
    return None if value < 0 else float(value)
