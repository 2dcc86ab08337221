"""Networks that OpenVINO's CPU runtime runs without TensorFlow: frozen graphs, ONNX files and SavedModels, as they are.

Images go through a detector one by one, several at a time: on CPUs that is faster than batches (Lite: 4.5 instead of
5.8 ms an image on two cores), and the results do not depend on how many images there are. Those that take pictures of
any size get one at a time (Nano: 29 instead of 34 ms for 736×544 pixels). The models are compiled
at each start; OpenVINO's cache would save a quarter of a second of it, for a file that has to follow every update.
"""

import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anonymise.core.detections import RgbImage, Size
from anonymise.core.errors import ModelError
from anonymise.models.catalog import DetectorModel, DynamicSize, ScalableSize
from anonymise.models.detector import Run
from anonymise.models.layouts import Tensors
from anonymise.models.object_detection import InstanceNetwork, check_signature

__all__ = ["load_detector", "load_saved_model"]


_N_SIZES = 8
"""Of pictures for which networks are kept compiled.

NanoDet takes 0.2 s and 50 MiB for 480×352 pixels, 0.8 s and 140 MiB for 1440×1088.
"""

_NAMES_IN_MESSAGE = 20
"""Of tensors, where a network has many more."""


def load_detector(file: Path, model: DetectorModel, *, threads: int | None) -> Run:
    """A detector, ready to run. What it gives is for one thread at a time.

    Args:
        file: a serialised GraphDef or an ONNX file.
        model: its entry in the catalog.
        threads: threads of the CPU that it may use; None is all.

    Raises:
        ModelError: OpenVINO is not installed, the file is missing, not the network that the catalog describes, or has
            operations that OpenVINO does not know.
    """
    ov = _import_openvino()
    core = ov.Core()
    wanted = model.input.size
    # All cores on one picture, where pictures are large: less memory, and none waits for one that is larger.
    settings = _settings("THROUGHPUT" if isinstance(wanted, tuple) else "LATENCY", threads)

    try:
        # Read once: what is compiled later, for pictures of another size, is what was verified at the start.
        original = core.read_model(str(file))
    except Exception as error:  # OpenVINO raises RuntimeError and more
        raise ModelError(f"OpenVINO cannot load the network {file}: {error}") from error

    # A network for each size of its pictures, which are few: where the size is left open, OpenVINO 2026.4 resizes
    # feature maps wrongly (NanoDet's scores are up to 0.2 off).
    @lru_cache(_N_SIZES)
    def idle_for(size: Size | None) -> deque[Any]:
        """The requests that are idle of the network for pictures of one size; None is any."""
        try:
            network = core.compile_model(_prepared(ov, original.clone(), model, size), "CPU", settings)
            # Twice as many as run at once, so that the next is ready while the caller works on results.
            n_requests = 2 * network.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
            return deque(network.create_infer_request() for _ in range(n_requests))
        except Exception as error:  # as above
            raise ModelError(f"OpenVINO cannot load the network {file}: {error}") from error

    match wanted:
        case ScalableSize():
            exported: Size | None = Size(*wanted.nominal)
        case DynamicSize():
            exported = None
        case _:
            exported = Size(*wanted)
    idle_for(exported)

    def start(image: RgbImage, idle: deque[Any]) -> Any:
        idle[0].start_async({0: image[np.newaxis]})
        return idle.popleft()

    def finish(request: Any, idle: deque[Any]) -> Tensors:
        idle.append(request)
        request.wait()
        return [request.get_output_tensor(index).data.copy() for index in range(len(model.output.names))]

    def run(images: Iterable[RgbImage]) -> Iterator[Tensors]:
        busy: deque[tuple[Any, deque[Any]]] = deque()
        try:
            for image in images:
                idle = idle_for(Size(image.shape[1], image.shape[0]) if isinstance(wanted, ScalableSize) else exported)
                while not idle:
                    yield finish(*busy.popleft())
                busy.append((start(image, idle), idle))
            while busy:
                yield finish(*busy.popleft())
        except RuntimeError as error:
            raise ModelError(f"OpenVINO could not run the network {file}: {error}") from error
        finally:
            # The caller may stop early, or an image fail; then what waits may fail too, and says nothing new.
            for request, idle in busy:
                with suppress(RuntimeError):
                    request.wait()
                idle.append(request)

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
    # When it is imported, OpenVINO uses this package to report to an analytics service, and to keep an id in the home
    # folder. Where the package is missing, it takes a stub of its own.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
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


def _prepared(ov: Any, network: Any, model: DetectorModel, size: Size | None) -> Any:
    """The network from uint8 (1, height, width, 3), red, green, blue, to the outputs that the catalog names.

    Raises:
        ValueError: it lacks the input or one of the outputs.
    """
    wanted = model.input
    inputs = network.get_parameters()
    (parameter,) = inputs if wanted.name is None and len(inputs) == 1 else [_named(inputs, "input", wanted.name).node]
    operations = network.outputs if model.output.names == (None,) else network.get_ordered_ops()
    network = ov.Model([_named(operations, "output", name) for name in model.output.names], [parameter])
    width, height = size or (-1, -1)
    network.reshape([1, height, width, 3] if wanted.layout == "NHWC" else [1, 3, height, width])
    # The runtime does this with several threads, and the caller's thread is free to make the next picture.
    steps = ov.preprocess.PrePostProcessor(network)
    pictures = steps.input(0)
    pictures.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    pictures.model().set_layout(ov.Layout(wanted.layout))
    if wanted.colors == "BGR":
        pictures.preprocess().reverse_channels()
    if wanted.is_normalised:
        pictures.preprocess().convert_element_type(ov.Type.f32).mean([*wanted.mean]).scale([*wanted.deviation])
    return steps.build()


def _named(nodes: Iterable[Any], what: str, name: str | None) -> Any:
    """The first output of a node by its name; a tensor of a TensorFlow graph also has the number of its output.

    Raises:
        ValueError: there is none, or without a name, not just one.
    """
    ports = [port for node in nodes for port in (node.outputs() if hasattr(node, "outputs") else [node])]
    if name is None and len(ports) == 1:
        return ports[0]
    for port in ports:
        if port.get_names() & {name, f"{name}:0"}:
            return port
    names = sorted({text for port in ports for text in port.get_names()})
    raise ValueError(f"its entry in the catalog names the {what} {name}, but there are: {_shortened(names)}")


def _shortened(names: Sequence[str]) -> str:
    """A list for a message: the network's last tensors are those that may be meant."""
    return (
        ", ".join(names)
        if len(names) <= _NAMES_IN_MESSAGE
        else f"{len(names)} others, such as " + ", ".join(names[-_NAMES_IN_MESSAGE:])
    )


def _exported_name(port: Any) -> str:
    """The name under which a SavedModel exports a tensor, which may have others besides."""
    names: list[str] = sorted(port.get_names())
    return next((name for name in names if name.startswith(("detection_", "num_detections"))), names[0])
