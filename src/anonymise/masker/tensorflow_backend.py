"""Networks that TensorFlow runs: frozen graphs and SavedModels."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anonymise.detections import RgbImage
from anonymise.errors import ModelError
from anonymise.masker.catalog import Graph
from anonymise.masker.network import Found
from anonymise.masker.quiet_tensorflow import import_tensorflow
from anonymise.masker.ssd import Run

__all__ = ["InstanceNetwork", "load_graph", "load_saved_model"]

log = logging.getLogger(__name__)


def load_graph(file: Path, graph: Graph) -> Run:
    """A frozen graph, ready to run.

    Raises:
        ModelError: the file is missing, or not the graph that the catalog describes.
    """
    tf = import_tensorflow()
    from tensorflow.core.framework import graph_pb2

    try:
        frozen = graph_pb2.GraphDef.FromString(file.read_bytes())
        imported = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(frozen, name=""), [])
        function = imported.prune(f"{graph.input}:0", [f"{graph.scores}:0", f"{graph.boxes}:0"])
    except Exception as error:  # TensorFlow raises errors of many unrelated types here
        raise ModelError(f"TensorFlow cannot load the graph {file}: {error}") from error

    def run(images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        try:
            scores, boxes = function(tf.constant(images))
        except tf.errors.OpError as error:
            raise ModelError(f"TensorFlow could not run the graph {file}: {error.message}") from error
        return scores.numpy(), boxes.numpy().reshape(len(images), -1, 4)

    return run


def load_saved_model(folder: Path) -> "InstanceNetwork":
    """A SavedModel with the signature of TensorFlow's Object Detection API, ready to run.

    Raises:
        ModelError: the folder holds no SavedModel, or one with another signature.
    """
    tf = import_tensorflow()
    try:
        signatures = tf.saved_model.load(str(folder)).signatures
    except Exception as error:  # as above
        raise ModelError(f"TensorFlow cannot load a SavedModel from {folder}: {error}") from error
    if "serving_default" not in signatures:
        raise ModelError(f"The SavedModel {folder} has no signature serving_default, only {sorted(signatures)}.")
    return InstanceNetwork(signatures["serving_default"], folder)


class InstanceNetwork:
    """A model of the Object Detection API, with or without masks, one image at a time.

    Its input is a uint8 batch; its outputs are ``detection_boxes`` [ymin, xmin, ymax, xmax] in 0–1,
    ``detection_scores``, ``detection_classes``, ``num_detections``, and for instance models ``detection_masks``
    (batch, detections, mask height, mask width), probabilities relative to the box.

    Raises:
        ModelError: the signature has another input, or lacks an output.
    """

    def __init__(self, signature: Any, folder: Path) -> None:
        inputs = signature.structured_input_signature[1]
        outputs = set(signature.structured_outputs)
        required = {"detection_boxes", "detection_scores", "detection_classes", "num_detections"}
        if len(inputs) != 1 or not required <= outputs:
            raise ModelError(
                f"The SavedModel {folder} does not have the Object Detection API's signature: it takes "
                f"{sorted(inputs)} and gives {sorted(outputs)}; needed are one image batch and {sorted(required)}."
            )
        # The function lives only as long as its module; the signature keeps that alive.
        self._signature = signature
        self._input = next(iter(inputs))
        self._folder = folder

    def __call__(self, images: Sequence[RgbImage]) -> list[Found]:
        """What is in each of the images."""
        return [self._one(image) for image in images]

    def _one(self, image: RgbImage) -> Found:
        tf = import_tensorflow()
        try:
            raw = self._signature(**{self._input: tf.constant(image[np.newaxis])})
        except tf.errors.OpError as error:
            raise ModelError(f"TensorFlow could not run the model {self._folder}: {error.message}") from error
        n = int(raw["num_detections"][0])
        masks = raw.get("detection_masks")
        return Found(
            boxes=raw["detection_boxes"][0, :n].numpy(),
            scores=raw["detection_scores"][0, :n].numpy(),
            labels=raw["detection_classes"][0, :n].numpy().astype(np.int64),
            masks=None if masks is None else masks[0, :n].numpy(),
        )
