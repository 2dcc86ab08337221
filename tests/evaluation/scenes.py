"""Scenes with their ground truth, and the options that tests evaluate with."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from anonymise import config
from anonymise.config import EvaluationOptions
from anonymise.core.detections import Box, Detections, Instance, Mask, RgbImage, Size, full_mask
from anonymise.evaluation.truth import Truth, TruthObject
from samples.scene import PERSON, draw_scene
from tests.fakes import write_image

CAR = 3
STREET_SIZE = Size(320, 240)


def options(**changed: object) -> EvaluationOptions:
    """The defaults, but for some keys without their prefix."""
    return config.load(overrides=[f"evaluation_{key}={json.dumps(value)}" for key, value in changed.items()]).evaluation


def truth_of(
    name: str, size: Size, things: Sequence[tuple[str, Box, dict[str, str]]], void: Box | None = None
) -> Truth:
    """A ground truth of boxes: class, where, attributes."""
    labels = {"pedestrian": PERSON, "person": PERSON, "car": CAR}
    objects = tuple(
        TruthObject(c, labels[c], b, full_mask(b), (b.left, b.top, b.width, b.height), b.area, attributes=attributes)
        for c, b, attributes in things
    )
    regions: dict[str, Mask] = {}
    for thing in objects:
        regions.setdefault(thing.category, np.zeros((size.height, size.width), np.bool_))[thing.box.slices] = True
    unknown = np.zeros((size.height, size.width), np.bool_)
    if void is not None:
        unknown[void.slices] = True
    return Truth(name, size, objects, regions, unknown)


def found_in(size: Size, *found: tuple[int, float, Box]) -> Detections:
    """Detections of boxes: class id, score, where."""
    return Detections(size, tuple(Instance(label, score, box, full_mask(box)) for label, score, box in found))


def drawn(seed: int, size: Size) -> tuple[RgbImage, NDArray[np.uint8]]:
    """A drawn scene, and its label image in CamVid's numbers; the boxes of its objects stand for their pixels."""
    scene = draw_scene(seed, size, cars=2, people=2)
    labels = np.full((size.height, size.width), 3, np.uint8)
    labels[: size.height // 6] = 0
    labels[-size.height // 12 :] = 11
    for thing in scene.objects:
        labels[thing.box.slices] = 9 if thing.label == PERSON else 8
    return scene.image, labels


def write_labels(file: Path, labels: NDArray[np.uint8]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(cv2.imencode(".png", labels)[1].tobytes())


def write_street(folder: Path, n: int, size: Size = STREET_SIZE) -> None:
    """Drawn images in ``folder/images`` and their labels in ``folder/labels``."""
    for seed in range(n):
        image, labels = drawn(seed, size)
        write_image(folder / "images" / f"street_{seed}.jpg", image)
        write_labels(folder / "labels" / f"street_{seed}.png", labels)


def coco_file(file: Path, images: Sequence[dict[str, Any]], annotations: Sequence[dict[str, Any]], *names: str) -> Path:
    """An annotation file whose categories have the ids 1, 2, ..."""
    categories = [{"id": n, "name": name} for n, name in enumerate(names, start=1)]
    numbered = [{"id": n, **annotation} for n, annotation in enumerate(annotations, start=1)]
    content = {"images": list(images), "annotations": numbered, "categories": categories}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content), "utf-8")
    return file
