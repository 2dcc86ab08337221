"""Decisions for other programs: a table, JSON, and annotations in COCO's format for ``evaluate --coco``."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from anonymise.config import Config
from anonymise.core import saved_instances
from anonymise.core.classes import LABELS
from anonymise.core.detections import Detections
from anonymise.core.plaintext import csv_cell
from anonymise.core.projection import Projection
from anonymise.core.sources import InputImage
from anonymise.corrections.source import applied
from anonymise.corrections.store import Correction
from anonymise.review.decisions import Decision, Decisions
from anonymise.review.items import shown
from anonymise.review.pictures import Published

__all__ = ["as_coco", "as_csv", "as_json"]


def _rows(decisions: Decisions) -> Iterator[tuple[Decision, list[Correction]]]:
    by_batch = decisions.corrections()
    return ((row, by_batch.get(row.batch, [])) for row in decisions.in_force())


def as_csv(decisions: Decisions) -> str:
    """The decisions in force as CSV, a line each, with the number of misses and false finds."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    names = ("id", "relative", "who", "verdict", "opened", "decided", "seconds", "queue", "seed", "version")
    table.writerow([*names, "missed", "false"])
    for row, corrections in _rows(decisions):
        kinds = [one.kind for one in corrections]
        values = ["" if (value := getattr(row, name)) is None else csv_cell(value) for name in names]
        table.writerow([*values, kinds.count("add"), kinds.count("remove")])
    return out.getvalue()


def as_json(decisions: Decisions) -> str:
    """The decisions in force with their corrections."""
    content = [{**asdict(row), "corrections": [asdict(one) for one in some]} for row, some in _rows(decisions)]
    return json.dumps(content, indent=2)


def as_coco(decisions: Decisions, published: Published, config: Config) -> str:
    """What is in the pictures that somebody looked at: finds less false ones, and what was missed.

    Raises:
        ImageError: a published picture, or what was found in it, cannot be read.
    """
    # What was found and drawn has its margins already.
    outlines = config.outlines.model_copy(update={"mask_dilation_pixels": 0, "outline": "box"})
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for relative in dict.fromkeys(row.relative for row in decisions.in_force() if row.is_look):
        if (picture := published.now(relative)) is None:
            continue
        item = shown(picture, decisions.store, config)
        size, around = item.size, Projection(wraps=item.wraps)
        blank = np.broadcast_to(np.uint8(0), (size.height, size.width, 3))
        found = picture.detections(size) or Detections(size)
        rows = decisions.store.of_image(relative)
        truth = applied(found, rows, InputImage(b"", blank, projection=around), outlines)
        images.append({"id": len(images) + 1, "file_name": relative, "width": size.width, "height": size.height})
        for entry in json.loads(saved_instances.dumps(truth, relative))["instances"]:
            left, top, width, height = entry["bbox"]
            known = {"id": len(annotations) + 1, "image_id": len(images), "iscrowd": 0, "area": width * height}
            shape = {"bbox": [left, top, width, height], "segmentation": entry["segmentation"]}
            annotations.append({**known, **shape, "category_id": entry["category_id"]})
    categories = [{"id": number, "name": name} for number, name in LABELS.items()]
    return json.dumps({"images": images, "annotations": annotations, "categories": categories})
