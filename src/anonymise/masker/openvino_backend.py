"""Networks that OpenVINO's CPU runtime runs: frozen graphs and SavedModels, read as they are, without TensorFlow.

Images go through a graph one by one, several at a time: on CPUs that is faster than batches (4.5 instead of 5.8 ms an
image on two cores), and the results do not depend on how many images there are. The models are compiled anew at each
start; OpenVINO's cache would save a quarter of a second of it, for a file that has to follow every update.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anonymise.detections import RgbImage
from anonymise.errors import ModelError
from anonymise.masker.catalog import Graph
from anonymise.masker.object_detection import InstanceNetwork, check_signature
from anonymise.masker.ssd import Output, Run

__all__ = ["load_graph", "load_saved_model"]


def load_graph(file: Path, graph: Graph, *, threads: int | None) -> Run:
    """A frozen graph, ready to run. What it gives is for one thread at a time.

    Args:
        file: the serialised GraphDef.
        graph: names in it.
        threads: of the CPU that it may use; None is all.

    Raises:
        ModelError: OpenVINO is not installed, the file is missing, not the graph that the catalog describes, or has
            operations that OpenVINO does not know.
    """
    ov = _import_openvino()
    core = ov.Core()
    try:
        model = core.read_model(str(file))
        outputs = [_output(model, name) for name in (graph.scores, graph.boxes)]
        model = ov.Model(outputs, model.get_parameters())
        model.reshape([1, graph.input_side, graph.input_side, 3])
        compiled = core.compile_model(model, "CPU", _settings("THROUGHPUT", threads))
        # Twice as many as run at once, so that the next is ready while the caller works on results.
        n_requests = 2 * compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        idle = deque(compiled.create_infer_request() for _ in range(n_requests))
    except Exception as error:  # OpenVINO raises RuntimeError and more
        raise ModelError(f"OpenVINO cannot load the graph {file}: {error}") from error

    def start(image: RgbImage) -> Any:
        idle[0].start_async({0: image[np.newaxis]})
        return idle.popleft()

    def finish(request: Any) -> Output:
        idle.append(request)
        request.wait()
        scores, boxes = (request.get_output_tensor(index).data[0].copy() for index in range(2))
        return scores, boxes.reshape(-1, 4)

    def run(images: Iterable[RgbImage]) -> Iterator[Output]:
        busy: deque[Any] = deque()
        try:
            for image in images:
                if not idle:
                    yield finish(busy.popleft())
                busy.append(start(image))
            while busy:
                yield finish(busy.popleft())
        except RuntimeError as error:
            raise ModelError(f"OpenVINO could not run the graph {file}: {error}") from error
        finally:
            # The caller may stop early, or an image fail.
            for request in busy:
                request.wait()
            idle.extend(busy)

    return run


def load_saved_model(folder: Path, *, threads: int | None) -> InstanceNetwork:
    """A SavedModel with the signature of TensorFlow's Object Detection API, ready to run, one image at a time.

    Raises:
        ModelError: OpenVINO is not installed, the folder holds no SavedModel, one with another signature, or one with
            operations that OpenVINO does not know or cannot run.
    """
    ov = _import_openvino()
    core = ov.Core()
    try:
        compiled = core.compile_model(core.read_model(str(folder)), "CPU", _settings("LATENCY", threads))
        inputs = [port.get_any_name() for port in compiled.inputs]
        names = [_exported_name(port) for port in compiled.outputs]
    except Exception as error:  # as above
        raise ModelError(f"OpenVINO cannot load a SavedModel from {folder}: {error}") from error
    check_signature(folder, inputs, names)
    request = compiled.create_infer_request()

    def run(batch: NDArray[np.uint8]) -> Mapping[str, NDArray[Any]]:
        try:
            request.infer({0: batch})
        except RuntimeError as error:
            raise ModelError(f"OpenVINO could not run the model {folder}: {error}") from error
        return {name: request.get_output_tensor(index).data.copy() for index, name in enumerate(names)}

    # Some operations turn out to be impossible only when they run, and then another runtime may still be chosen.
    run(np.zeros((1, 64, 64, 3), np.uint8))
    return InstanceNetwork(run)


def _import_openvino() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise ModelError(f"OpenVINO is not installed ({error}); install it or set runtime: tensorflow") from error
    return openvino


def _settings(hint: str, threads: int | None) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "PERFORMANCE_HINT": hint,
        # Where the CPU knows bfloat16 it would be used: twice as fast, but scores move by up to 0.06.
        "INFERENCE_PRECISION_HINT": "f32",
        # The worker processes run on the same cores; pinned threads would wait for them.
        "ENABLE_CPU_PINNING": False,
    }
    return settings if threads is None else settings | {"INFERENCE_NUM_THREADS": threads}


def _output(model: Any, name: str) -> Any:
    """The first output of a node of the original graph, which need not be an output of the model.

    Raises:
        ValueError: there is none.
    """
    tensor = f"{name}:0"
    for operation in model.get_ordered_ops():
        for port in operation.outputs():
            if tensor in port.get_names():
                return port
    raise ValueError(f"it has no tensor {tensor}")


def _exported_name(port: Any) -> str:
    """The name under which a SavedModel exports a tensor, which may have others besides."""
    names: list[str] = sorted(port.get_names())
    return next((name for name in names if name.startswith(("detection_", "num_detections"))), names[0])
