"""A small SavedModel with exactly the signature of the Mask R-CNN models of TensorFlow's detection zoo."""

from pathlib import Path
from typing import Any

import numpy as np

from anonymise.models.quiet_tensorflow import import_tensorflow

N_DETECTIONS = 100
MASK_SIDE = 33


def build(folder: Path, *, masks: bool = True, drop: str | None = None, n_products: int = 0) -> Path:
    """Saves a model that finds, in every image, a car in the upper left quarter and a person in the lower right one.

    The car's mask is its left half, the person's a disc. Further slots hold a dog, a car whose score is too low, and
    boxes beyond the edge. Like the zoo's models it takes one image of any size at a time.

    Args:
        folder: to save it in.
        masks: whether it has them.
        drop: an output that is left out.
        n_products: of matrices of 2000×2000 that it works out besides, to be slow.
    """
    tf = import_tensorflow()
    boxes = np.zeros((1, N_DETECTIONS, 4), np.float32)
    scores = np.zeros((1, N_DETECTIONS), np.float32)
    classes = np.ones((1, N_DETECTIONS), np.float32)
    boxes[0, :5] = [
        (0, 0, 0.5, 0.5),
        (0.5, 0.5, 1, 1),
        (0, 0.5, 0.5, 1),
        (0.2, 0.2, 0.4, 0.4),
        (0.75, 0.75, 1.25, 1.25),
    ]
    scores[0, :5] = (0.9, 0.8, 0.95, 0.1, 0.7)
    classes[0, :5] = (3, 1, 18, 3, 8)
    y, x = np.mgrid[:MASK_SIDE, :MASK_SIDE]
    probabilities = np.zeros((1, N_DETECTIONS, MASK_SIDE, MASK_SIDE), np.float32)
    probabilities[0, 0] = x < MASK_SIDE // 2
    probabilities[0, 1] = np.hypot(y - 16, x - 16) < 14
    probabilities[0, 2:5] = 1

    class Model(tf.Module):  # type: ignore[misc, name-defined]
        @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, name="inputs")])  # type: ignore[untyped-decorator]
        def serve(self, inputs: Any) -> dict[str, Any]:
            one = tf.ones([tf.shape(inputs)[0]])  # ties the outputs to the input
            matrix = tf.fill([2000, 2000], tf.cast(inputs[0, 0, 0, 0], tf.float32) / 255)
            for _ in range(n_products):
                matrix = tf.tanh(tf.matmul(matrix, matrix) / 1000)
            if n_products:
                one *= tf.minimum(matrix[0, 0] + 2, 1)  # 1, but no optimiser knows it
            found = {
                "detection_boxes": tf.constant(boxes) * one[:, None, None],
                "detection_scores": tf.constant(scores) * one[:, None],
                "detection_classes": tf.constant(classes) * one[:, None],
                "num_detections": one * 5.0,
            }
            if masks:
                found["detection_masks"] = tf.constant(probabilities) * one[:, None, None, None]
            return {name: tensor for name, tensor in found.items() if name != drop}

    model = Model()
    tf.saved_model.save(model, str(folder), signatures={"serving_default": model.serve})
    return folder
