"""Which runtime runs the model: TensorFlow is the reference, OpenVINO is faster on CPUs."""

import ctypes
import logging
import sys
from pathlib import Path

from anonymise.errors import ModelError
from anonymise.masker.catalog import Graph
from anonymise.masker.fetch import FROZEN_GRAPH
from anonymise.masker.network import Network
from anonymise.masker.options import ModelOptions
from anonymise.masker.ssd import Run, SsdNetwork

__all__ = ["load_network"]

log = logging.getLogger(__name__)


def load_network(folder: Path, graph: Graph | None, options: ModelOptions) -> Network:
    """The model in a folder on the runtime that the configuration asks for.

    ``auto`` takes TensorFlow on a GPU, else OpenVINO where it can run the model, else TensorFlow; the log says why.

    Args:
        folder: of the model.
        graph: names in its frozen graph; None for a SavedModel.
        options: which runtime, and how it is tuned.

    Raises:
        ModelError: the model cannot be loaded.
    """
    if options.runtime == "tensorflow":
        return _on_tensorflow(folder, graph, options)
    if options.runtime == "openvino":
        return _on_openvino(folder, graph, options)
    if _tensorflow_has_gpu():
        log.info("The model runs on TensorFlow, because it sees a GPU (runtime: auto)")
        return _on_tensorflow(folder, graph, options)
    try:
        network = _on_openvino(folder, graph, options)
    except ModelError as error:
        log.info("The model runs on TensorFlow (runtime: auto). %s", error)
        return _on_tensorflow(folder, graph, options)
    log.info("The model runs on OpenVINO, because there is no GPU for TensorFlow (runtime: auto)")
    return network


def _on_tensorflow(folder: Path, graph: Graph | None, options: ModelOptions) -> Network:
    # The runtimes take long to import, TensorFlow seconds, so only the one that is needed.
    from anonymise.masker import tensorflow_backend

    if graph is None:
        return tensorflow_backend.load_saved_model(folder, threads=options.model_threads)
    file = folder / FROZEN_GRAPH
    run = tensorflow_backend.load_graph(file, graph, threads=options.model_threads, batch_size=options.batch_size)
    return _ssd(run, graph, options)


def _on_openvino(folder: Path, graph: Graph | None, options: ModelOptions) -> Network:
    from anonymise.masker import openvino_backend

    if graph is None:
        return openvino_backend.load_saved_model(folder, threads=options.model_threads)
    return _ssd(
        openvino_backend.load_graph(folder / FROZEN_GRAPH, graph, threads=options.model_threads), graph, options
    )


def _ssd(run: Run, graph: Graph, options: ModelOptions) -> SsdNetwork:
    return SsdNetwork(
        run,
        side=graph.input_side,
        score_threshold=options.score_threshold,
        nms_iou_threshold=options.nms_iou_threshold,
    )


def _tensorflow_has_gpu() -> bool:
    """Whether TensorFlow has a GPU to run on; it is only asked where the driver that it would need is installed."""
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    from anonymise.masker import tensorflow_backend

    return tensorflow_backend.has_gpu()
