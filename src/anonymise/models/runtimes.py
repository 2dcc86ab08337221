"""Which runtime runs the model: TensorFlow is the reference, OpenVINO is faster on CPUs."""

import ctypes
import logging
import sys
from collections.abc import Mapping
from pathlib import Path

from anonymise.core.classes import label_of
from anonymise.core.errors import ModelError
from anonymise.models import selftest
from anonymise.models.catalog import DetectorModel
from anonymise.models.detector import DetectorNetwork, Run
from anonymise.models.network import Network
from anonymise.models.options import ModelOptions
from anonymise.models.origin import network_file

__all__ = ["load_network"]

log = logging.getLogger(__name__)


def load_network(
    folder: Path, model: DetectorModel | None, options: ModelOptions, thresholds: Mapping[int, float]
) -> Network:
    """The model in a folder on the runtime that the configuration asks for.

    ``auto`` takes TensorFlow on a GPU, else OpenVINO where it can run the model, else TensorFlow; the log says why.
    ONNX files run on OpenVINO only.

    Args:
        folder: folder of the model.
        model: the entry of a detector in the catalog; None for a SavedModel.
        options: which runtime, and how it is tuned.
        thresholds: class id → score that detections must reach.

    Raises:
        ModelError: the model cannot be loaded.
    """
    is_onnx = model is not None and model.is_onnx
    if options.runtime == "tensorflow":
        return _on_tensorflow(folder, model, options, thresholds)
    if options.runtime == "openvino" or is_onnx:
        return _on_openvino(folder, model, options, thresholds)
    if _tensorflow_has_gpu():
        log.info("%s runs on TensorFlow, because it sees a GPU (runtime: auto)", folder.name)
        return _on_tensorflow(folder, model, options, thresholds)
    try:
        network = _on_openvino(folder, model, options, thresholds)
    except ModelError as error:
        log.info("%s runs on TensorFlow (runtime: auto). %s", folder.name, error)
        return _on_tensorflow(folder, model, options, thresholds)
    log.info("%s runs on OpenVINO, because there is no GPU for TensorFlow (runtime: auto)", folder.name)
    return network


def _on_tensorflow(
    folder: Path, model: DetectorModel | None, options: ModelOptions, thresholds: Mapping[int, float]
) -> Network:
    # The runtimes take long to import, TensorFlow seconds, so only the one that is needed.
    from anonymise.models import tensorflow_backend as backend

    if model is None:
        return _saved_model(backend.load_saved_model(folder, threads=options.model_threads), folder)
    file = network_file(folder, model)
    run = backend.load_detector(file, model, threads=options.model_threads, batch_size=options.batch_size)
    return _detector(run, folder, model, options, thresholds)


def _on_openvino(
    folder: Path, model: DetectorModel | None, options: ModelOptions, thresholds: Mapping[int, float]
) -> Network:
    from anonymise.models import openvino_backend as backend

    if model is None:
        return _saved_model(backend.load_saved_model(folder, threads=options.model_threads), folder)
    run = backend.load_detector(network_file(folder, model), model, threads=options.model_threads)
    return _detector(run, folder, model, options, thresholds)


def _saved_model(network: Network, folder: Path) -> Network:
    selftest.check_saved_model(network, folder)
    return network


def _detector(
    run: Run, folder: Path, model: DetectorModel, options: ModelOptions, thresholds: Mapping[int, float]
) -> DetectorNetwork:
    if model.self_test:
        # Whatever the operator wants to find, and how sure of it.
        lowest = dict.fromkeys(map(label_of, model.self_test), selftest.MIN_SCORE)
        tested = DetectorNetwork(run, model, thresholds=lowest, nms_iou_threshold=options.nms_iou_threshold)
        selftest.check(tested, model.self_test, folder)
    scales = (1.0,) if isinstance(model.input.size, tuple) else options.input_scales
    network = DetectorNetwork(
        run,
        model,
        thresholds=thresholds,
        nms_iou_threshold=options.nms_iou_threshold,
        scales=scales,
        band=options.largest_scale_band,
    )
    selftest.check_numbers(run, model, folder)
    return network


def _tensorflow_has_gpu() -> bool:
    """Whether TensorFlow has a GPU to run on; it is only asked where the driver that it would need is installed."""
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    from anonymise.models import tensorflow_backend

    return tensorflow_backend.has_gpu()
