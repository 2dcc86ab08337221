"""Ground truth from label images: PNG files whose pixels are numbers of classes, such as those of CamVid."""

import io
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from PIL import PngImagePlugin

from anonymise.config import EvaluationOptions
from anonymise.core.detections import Box, Size, full_mask
from anonymise.core.errors import ImageError, UsageError
from anonymise.evaluation.synonyms import found_as
from anonymise.evaluation.truth import Annotated, Truth, TruthObject

__all__ = ["annotated_by_labels", "read_labels"]


def annotated_by_labels(folder: Path, wanted: Collection[int], options: EvaluationOptions) -> tuple[Annotated, ...]:
    """The images that have a label image.

    Args:
        folder: holds ``<image>.png`` or ``<image>_labels.png``, also in subfolders as those of the images.
        wanted: the classes that are to be hidden, by their ids; all others are background.
        options: which number is which class.

    Raises:
        UsageError: there is none, two are for one image, or nobody knows what a class is.
    """
    if not folder.is_dir():
        raise UsageError(f"The folder of label images {folder} does not exist or is no folder (--labels).")
    labels: dict[str, int] = {}
    for category in options.evaluation_label_classes:
        try:
            label = found_as(category, options.evaluation_class_synonyms)
        except KeyError:
            raise UsageError(
                f"evaluation_label_classes: {category} is no known class. Say in evaluation_class_synonyms which class "
                "the model finds it as, or null to leave it out."
            ) from None
        if label is not None and label in wanted:
            labels[category] = label
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.png")):
        name = path.relative_to(folder).with_suffix("").as_posix().removesuffix("_labels")
        if name in files:
            raise UsageError(f"{files[name]} and {path} are both label images of {name}; leave one of them (--labels).")
        files[name] = path
    if not files:
        raise UsageError(f"There are no label images (*.png) in {folder} (--labels).")
    return tuple(Annotated(name, partial(read_labels, path, name, labels, options)) for name, path in files.items())


def read_labels(path: Path, name: str, classes: Mapping[str, int], options: EvaluationOptions) -> Truth:
    """The ground truth of one label image.

    Objects are the connected areas (8 neighbours) of a class: objects of one class that touch are one object, and one
    that is seen in two parts is two. Areas below ``evaluation_min_object_pixels`` count with their pixels only.

    Args:
        path: path of the label image.
        name: name of the image.
        classes: those of ``evaluation_label_classes`` that are to be hidden → class id that the model finds them as.
        options: which number is which class.

    Raises:
        ImageError: it cannot be read, or is not of one channel with 8 bits.
    """
    try:
        # Pillow, because OpenCV turns the numbers of a palette into colours; and not Image.open, whose limit of size is
        # a global and a warning.
        with PngImagePlugin.PngImageFile(io.BytesIO(path.read_bytes())) as picture:
            mode, labels = picture.mode, np.asarray(picture)
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise ImageError(f"the label image {path} cannot be read: {error}") from error
    if mode not in ("L", "P"):
        raise ImageError(f"the label image {path} has colours or 16 bits; its pixels must be numbers of classes")
    objects: list[TruthObject] = []
    regions = {}
    for category, label in classes.items():
        regions[category] = labels == options.evaluation_label_classes[category]
        count, parts, stats, _ = cv2.connectedComponentsWithStats(regions[category].astype(np.uint8), connectivity=8)
        for number in range(1, count):
            left, top, width, height, area = (int(figure) for figure in stats[number])
            if area < options.evaluation_min_object_pixels:
                continue
            box = Box(left, top, left + width, top + height)
            mask = full_mask(box) if area == box.area else parts[box.slices] == number
            objects.append(TruthObject(category, label, box, mask, (left, top, width, height), area))
    void = np.isin(labels, options.evaluation_label_void)
    return Truth(name, Size(labels.shape[1], labels.shape[0]), tuple(objects), regions, void)
