"""Networks that TensorFlow runs: frozen graphs and SavedModels."""

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anonymise.core.detections import RgbImage
from anonymise.core.errors import ModelError
from anonymise.models.catalog import DetectorModel, Input
from anonymise.models.detector import Run
from anonymise.models.layouts import Tensors
from anonymise.models.object_detection import InstanceNetwork, check_signature
from anonymise.models.quiet_tensorflow import import_tensorflow

__all__ = ["Batches", "has_gpu", "load_detector", "load_saved_model"]

log = logging.getLogger(__name__)


def has_gpu() -> bool:
    """Whether TensorFlow has a GPU to run on."""
    return bool(import_tensorflow().config.list_physical_devices("GPU"))


def load_detector(file: Path, model: DetectorModel, *, threads: int | None, batch_size: int) -> Run:
    """A detector, ready to run.

    Args:
        file: the serialised GraphDef.
        model: its entry in the catalog.
        threads: threads of the CPU that it may use; None is all.
        batch_size: pictures that go through it at once, if it takes several.

    Raises:
        ModelError: the file is missing, not the network that the catalog describes, or an ONNX file.
    """
    if model.is_onnx:
        raise ModelError(
            f"{file} is an ONNX file, which TensorFlow cannot run: it needs OpenVINO. Set runtime: auto, which takes "
            "OpenVINO for such models alone, or runtime: openvino."
        )
    tf = _import(threads)
    from tensorflow.core.framework import graph_pb2

    wanted = model.input
    try:
        frozen = graph_pb2.GraphDef.FromString(file.read_bytes())
        imported = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(frozen, name=""), [])
        function = imported.prune(f"{wanted.name}:0", [f"{name}:0" for name in model.output.names])
        dtype = function.inputs[0].dtype
    except Exception as error:  # TensorFlow raises errors of many unrelated types here
        raise ModelError(f"TensorFlow cannot load the network {file}: {error}") from error

    def call(batch: Sequence[RgbImage]) -> list[Tensors]:
        try:
            outputs = function(tf.constant(_as_input(np.stack(batch), wanted), dtype))
        except tf.errors.ResourceExhaustedError as error:
            raise MemoryError(f"TensorFlow has no memory to run the network {file}: {error.message}") from error
        except tf.errors.OpError as error:
            raise ModelError(f"TensorFlow could not run the network {file}: {error.message}") from error
        arrays = [output.numpy() for output in outputs]
        return [[array.reshape(len(batch), 1, *array.shape[1:])[n] for array in arrays] for n in range(len(batch))]

    batches = Batches(batch_size if wanted.batches else 1)
    return lambda images: batches.run(images, call)


class Batches:
    """Hands pictures over in batches, which get smaller for good when one is too large for the memory."""

    def __init__(self, size: int) -> None:
        self.size = size

    def run(self, images: Iterable[RgbImage], call: Callable[[Sequence[RgbImage]], list[Tensors]]) -> Iterator[Tensors]:
        """What ``call`` gives for each of the images.

        Args:
            images: images of one size.
            call: takes a batch; raises `MemoryError` where it is too large.

        Raises:
            ModelError: one image alone is too large.
        """
        remaining = iter(images)
        while batch := list(itertools.islice(remaining, self.size)):
            try:
                results = call(batch)
            except MemoryError as error:
                if len(batch) == 1:
                    raise ModelError(str(error)) from error
                self.size = len(batch) // 2
                log.warning("%s. Batches are of %d pictures from now on (batch_size)", error, self.size)
                remaining = itertools.chain(batch, remaining)
                continue
            yield from results


def _as_input(pictures: NDArray[np.uint8], wanted: Input) -> NDArray[Any]:
    """Pictures (n, height, width, 3), red, green, blue, as the network wants them."""
    array: NDArray[Any] = pictures[..., ::-1] if wanted.colors == "BGR" else pictures
    if wanted.is_normalised:
        array = (array - np.array(wanted.mean, np.float32)) / np.array(wanted.deviation, np.float32)
    return array if wanted.layout == "NHWC" else array.transpose(0, 3, 1, 2)


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
