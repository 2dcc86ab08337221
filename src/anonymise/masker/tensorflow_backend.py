"""Networks that TensorFlow runs: frozen graphs and SavedModels."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anonymise.detections import RgbImage
from anonymise.errors import ModelError
from anonymise.masker.catalog import Graph
from anonymise.masker.object_detection import InstanceNetwork, check_signature
from anonymise.masker.quiet_tensorflow import import_tensorflow
from anonymise.masker.ssd import Output, Run

__all__ = ["has_gpu", "load_graph", "load_saved_model"]


def has_gpu() -> bool:
    """Whether TensorFlow has a GPU to run on."""
    return bool(import_tensorflow().config.list_physical_devices("GPU"))


def load_graph(file: Path, graph: Graph, *, threads: int | None, batch_size: int) -> Run:
    """A frozen graph, ready to run.

    Args:
        file: the serialised GraphDef.
        graph: names in it.
        threads: of the CPU that it may use; None is all.
        batch_size: images that go through it at once.

    Raises:
        ModelError: the file is missing, or not the graph that the catalog describes.
    """
    tf = _import(threads)
    from tensorflow.core.framework import graph_pb2

    try:
        frozen = graph_pb2.GraphDef.FromString(file.read_bytes())
        imported = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(frozen, name=""), [])
        function = imported.prune(f"{graph.input}:0", [f"{graph.scores}:0", f"{graph.boxes}:0"])
    except Exception as error:  # TensorFlow raises errors of many unrelated types here
        raise ModelError(f"TensorFlow cannot load the graph {file}: {error}") from error

    def run(images: Iterable[RgbImage]) -> Iterator[Output]:
        remaining = iter(images)
        while batch := list(itertools.islice(remaining, batch_size)):
            try:
                scores, boxes = function(tf.constant(np.stack(batch)))
            except tf.errors.OpError as error:
                raise ModelError(f"TensorFlow could not run the graph {file}: {error.message}") from error
            yield from zip(scores.numpy(), boxes.numpy().reshape(len(batch), -1, 4), strict=True)

    return run


def load_saved_model(folder: Path, *, threads: int | None) -> InstanceNetwork:
    """A SavedModel with the signature of TensorFlow's Object Detection API, ready to run.

    Raises:
        ModelError: the folder holds no SavedModel, or one with another signature.
    """
    tf = _import(threads)
    try:
        signatures = tf.saved_model.load(str(folder)).signatures
    except Exception as error:  # as above
        raise ModelError(f"TensorFlow cannot load a SavedModel from {folder}: {error}") from error
    if "serving_default" not in signatures:
        raise ModelError(f"The SavedModel {folder} has no signature serving_default, only {sorted(signatures)}.")
    # The function lives only as long as its module; the signature keeps that alive.
    signature = signatures["serving_default"]
    inputs = list(signature.structured_input_signature[1])
    check_signature(folder, inputs, list(signature.structured_outputs))

    def run(batch: NDArray[np.uint8]) -> Mapping[str, NDArray[Any]]:
        try:
            outputs = signature(**{inputs[0]: tf.constant(batch)})
        except tf.errors.OpError as error:
            raise ModelError(f"TensorFlow could not run the model {folder}: {error.message}") from error
        return {name: tensor.numpy() for name, tensor in outputs.items()}

    return InstanceNetwork(run)


def _import(threads: int | None) -> Any:
    tf = import_tensorflow()
    if threads is not None and tf.config.threading.get_intra_op_parallelism_threads() != threads:
        try:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
        except RuntimeError as error:
            raise ModelError(f"model_threads cannot change once TensorFlow has run a model: {error}") from error
    return tf
