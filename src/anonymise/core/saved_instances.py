"""What was found in an image ↔ a JSON file, so that it can be drawn again without the model.

Objects are written as COCO's results format has them (https://cocodataset.org/#format-results): ``category_id``,
``score``, ``bbox`` [left, top, width, height] and ``segmentation``, the run-length encoded mask of the full image.
``category`` is the name of the class; besides COCO's there are face, plate and other (`classes.LABELS`). ``continues``
is true for the rest of an object that crosses the left and right edge of a 360° image. ``doubtful``, where it is there,
lists in the same way what was found and is not hidden (key ``keep_doubtful``). Since version 2 ``source`` says who
found an object, the model or a kind of correction, and ``removed`` lists what the model found and somebody said is
none. ``checksum``, the SHA-256 of everything else, tells whether somebody has edited the file; then
all objects count as finds of the model.
"""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco

from anonymise.core.classes import LABELS
from anonymise.core.detections import MODEL, Box, Detections, Instance, Size
from anonymise.core.errors import InstancesError
from anonymise.core.runlengths import check_size, mask_within

__all__ = ["VERSION", "dumps", "is_untouched", "load", "loads", "parse"]

VERSION = 2

_MAX_COVER = 64
"""The masks of all objects together may have so many times as many pixels as the image. A file of a few kilobytes could
ask for any amount of memory otherwise."""


def dumps(detections: Detections, file_name: str) -> str:
    """The file's text for one image, in pixels as they are stored in the image file."""
    size = detections.size
    content: dict[str, Any] = {
        "version": VERSION,
        "image": {"file_name": file_name, "width": size.width, "height": size.height},
        "instances": [_entry(instance, size) for instance in detections.instances],
    }
    for name, further in (("doubtful", detections.doubtful), ("removed", detections.removed)):
        if further:
            content[name] = [_entry(instance, size) for instance in further]
    return _text(content | {"checksum": _checksum(content)})


def is_untouched(data: bytes) -> bool:
    """Whether the content of a file is as `dumps` gave it, rather than edited by somebody or by another program."""
    try:
        content = json.loads(data)
        return bool(content.pop("checksum") == _checksum(content))
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        return False


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(_text(content).encode("utf-8", "backslashreplace")).hexdigest()


def _text(content: dict[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False, indent=2)


def _entry(instance: Instance, size: Size) -> dict[str, Any]:
    return {
        "category_id": instance.label,
        "category": LABELS[instance.label],
        "score": round(instance.score, 4),
        "bbox": [instance.box.left, instance.box.top, instance.box.width, instance.box.height],
        "segmentation": _encoded(instance, size),
        "continues": instance.continues,
        "source": instance.source,
    }


def load(file: Path, size: Size) -> Detections:
    """What such a file says was found in an image.

    Args:
        file: file of the image.
        size: size of the image, as it is stored.

    Raises:
        InstancesError: the file cannot be read, or as in `parse`.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InstancesError(f"{file} cannot be read: {error.strerror or error}") from error
    return parse(data, file, size)


def parse(data: bytes, file: Path, size: Size) -> Detections:
    """What the content of such a file says was found in an image.

    Args:
        data: the file's content.
        file: its path, for messages.
        size: size of the image, as it is stored.

    Raises:
        InstancesError: it is no such file or contradicts itself, or is of an image of another size. The message names
            the file.
    """
    try:
        return loads(data.decode("utf-8"), size)
    except UnicodeDecodeError as error:
        raise InstancesError(f"{file}: no saved instances: {error}") from error
    except InstancesError as error:
        raise InstancesError(f"{file}: {error}") from error


def loads(text: str, size: Size | None = None) -> Detections:
    """What the text of such a file says was found.

    Args:
        text: text of the file.
        size: size of the image that it must be of; None takes any. Masks take memory for as many pixels as it claims.

    Raises:
        InstancesError: it is no such file, of a later version, of an image of another size, or contradicts itself.
    """
    try:
        content = json.loads(text, object_pairs_hook=_without_duplicates)
        if content["version"] not in (1, VERSION):
            raise InstancesError(f"version {content['version']} of the saved instances is not known here")
        # What somebody wrote into the file is a find, whatever source it names: no store knows of it.
        is_own = content.pop("checksum", None) == _checksum(content)
        claimed = Size(_whole(content["image"]["width"]), _whole(content["image"]["height"]))
        check_size(claimed)
        lists = content["instances"], content.get("doubtful", []), content.get("removed", [])
        if not all(isinstance(entries, list) for entries in lists):
            raise TypeError("instances is no list")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InstancesError(f"no saved instances: {_described(error)}") from error
    if size not in (None, claimed):
        raise InstancesError(f"of an image of {claimed.width}×{claimed.height} pixels, not {size.width}×{size.height}")
    found: list[list[Instance]] = [[], [], []]
    left = _MAX_COVER * claimed.width * claimed.height
    numbered = enumerate(((kind, entry) for kind, entries in enumerate(lists) for entry in entries), start=1)
    for number, (kind, entry) in numbered:
        try:
            instance = _decoded(entry, claimed)
        except (ValueError, KeyError, TypeError) as error:
            raise InstancesError(f"object {number} cannot be hidden: {_described(error)}") from error
        left -= 0 if instance.fills_box else instance.box.area
        if left < 0:
            raise InstancesError(f"the masks of {number} objects are {_MAX_COVER} times as large as the image")
        found[kind].append(instance if is_own else replace(instance, source=MODEL))
    return Detections(claimed, *map(tuple, found))


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a key occurs twice")
    return content


def _described(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def _whole(value: object) -> int:
    """A whole number.

    Raises:
        ValueError: it is something else.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        raise ValueError(f"{value!r} is no whole number")
    return int(value)


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
    left, top, width, height = map(_whole, entry["bbox"])
    box = Box(left, top, left + width, top + height)
    if Box(0, 0, *size).intersection(box) != box:
        raise ValueError(f"its box {entry['bbox']} reaches beyond the image of {size.width}×{size.height} pixels")
    label, score, rle, continues = (entry[key] for key in ("category_id", "score", "segmentation", "continues"))
    if label not in LABELS:
        raise ValueError(f"its class {label} is not known here")
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
        raise ValueError(f"its score {score!r} is not between 0 and 1")
    if not isinstance(continues, bool):
        raise TypeError("continues is neither true nor false")
    if not isinstance(source := entry.get("source", MODEL), str):
        raise TypeError("its source is no text")
    if list(rle["size"]) != [size.height, size.width]:
        raise ValueError("its mask is of an image of another size")
    # A mask need not reach the edges of its box, as where the seam of a 360° image cuts an object.
    mask = mask_within(rle["counts"], size, box)
    return Instance(_whole(label), float(score), box, mask, continues, source)
