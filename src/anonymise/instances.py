"""What was found in an image ↔ a JSON file, so that it can be drawn again without the model.

Objects are written as COCO's results format has them (https://cocodataset.org/#format-results): ``category_id``,
``score``, ``bbox`` [left, top, width, height] and ``segmentation``, the run-length encoded mask of the full image.
``category`` is the name of the class; besides COCO's there are face and plate (`labels.LABELS`). ``continues`` is true
for the rest of an object that crosses the left and right edge of a 360° image.
"""

import json
from typing import Any

import numpy as np
from pycocotools import mask as coco

from anonymise.detections import Box, Detections, Instance, Size, full_mask
from anonymise.errors import InstancesError
from anonymise.labels import LABELS

__all__ = ["VERSION", "dumps", "loads"]

VERSION = 1


def dumps(detections: Detections, file_name: str) -> str:
    """The file's text for one image, in pixels as they are stored in the image file."""
    size = detections.size
    content = {
        "version": VERSION,
        "image": {"file_name": file_name, "width": size.width, "height": size.height},
        "instances": [
            {
                "category_id": instance.label,
                "category": LABELS[instance.label],
                "score": round(instance.score, 4),
                "bbox": [instance.box.left, instance.box.top, instance.box.width, instance.box.height],
                "segmentation": _encoded(instance, size),
                "continues": instance.continues,
            }
            for instance in detections.instances
        ],
    }
    return json.dumps(content, ensure_ascii=False, indent=2)


def loads(text: str) -> Detections:
    """What the text of such a file says was found.

    Raises:
        InstancesError: it is no such file, of a later version, or contradicts itself.
    """
    try:
        content = json.loads(text)
        if content["version"] != VERSION:
            raise InstancesError(f"version {content['version']} of the saved instances is not known here")
        size = Size(int(content["image"]["width"]), int(content["image"]["height"]))
        return Detections(size, tuple(_decoded(entry, size) for entry in content["instances"]))
    except (ValueError, KeyError, TypeError) as error:
        raise InstancesError(f"no saved instances: {type(error).__name__}: {error}") from error


def _encoded(instance: Instance, size: Size) -> dict[str, Any]:
    """The run lengths of the mask in the full image, column by column, made from the crop alone."""
    box = instance.box
    columns = np.arange(box.left, box.right)
    padded = np.zeros((box.height + 2, box.width), np.int8)
    padded[1:-1] = instance.mask
    # Where a run begins (+1) or ends (-1): the transposition puts column after column.
    column, row = np.nonzero(np.diff(padded, axis=0).T)
    edges = columns[column] * size.height + box.top + row
    # A run that ends at the bottom of a column goes on at the top of the next one.
    begins, ends = edges[0::2], edges[1::2]
    joined = begins[1:] == ends[:-1]
    begins, ends = np.delete(begins, np.flatnonzero(joined) + 1), np.delete(ends, np.flatnonzero(joined))
    edges = np.stack([begins, ends], axis=1).ravel()
    counts = np.diff(edges, prepend=0, append=size.width * size.height).tolist()
    if counts[-1] == 0:  # the last run ends with the image
        counts.pop()
    rle = coco.frPyObjects({"size": [size.height, size.width], "counts": counts}, size.height, size.width)
    return {"size": rle["size"], "counts": rle["counts"].decode("ascii")}


def _decoded(entry: dict[str, Any], size: Size) -> Instance:
    left, top, width, height = map(int, entry["bbox"])
    box = Box(left, top, left + width, top + height)
    rle = entry["segmentation"]
    if tuple(rle["size"]) != (size.height, size.width) or entry["category_id"] not in LABELS:
        raise ValueError("an object does not belong to this image")
    n_pixels = int(coco.area(rle))
    # Only masks that are no plain box need their full frame for a moment.
    is_plain = n_pixels == box.area and list(coco.toBbox(rle)) == [left, top, width, height]
    mask = full_mask(box) if is_plain else coco.decode(rle)[box.slices].astype(bool)
    # A mask need not reach the edges of its box, as where the seam of a 360° image cuts an object.
    if np.count_nonzero(mask) != n_pixels:
        raise ValueError(f"the mask of an object does not fit its box {entry['bbox']}")
    return Instance(int(entry["category_id"]), float(entry["score"]), box, mask, bool(entry["continues"]))
