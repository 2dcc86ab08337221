"""The runtimes on real models and pictures: the embedded model, and the small SavedModel of the tests."""

import logging
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from anonymise import config
from anonymise.core.detections import Box, Instance, RgbImage, Size
from anonymise.core.errors import ModelError
from anonymise.core.resources import CATALOG, default_model_folder
from anonymise.models import ModelOptions, load_masker, openvino_backend, tensorflow_backend
from anonymise.models.catalog import DetectorModel, load_catalog
from anonymise.models.detector import Run
from anonymise.models.fitting import fit_of, fitted
from anonymise.models.origin import FROZEN_GRAPH, network_file
from anonymise.models.runtimes import load_network
from samples.scene import draw_street
from tests.models import savedmodel

pytestmark = pytest.mark.slow

_TOLERANCE = 1e-4
"""Scores and box edges (as shares of the image) of the runtimes differ by less: they add in another order."""


def options(**changed: object) -> ModelOptions:
    return config.load(overrides=[f"{key}={value}" for key, value in changed.items()]).model


@pytest.fixture(scope="module")
def lite_file() -> Path:
    load_masker(options(model_type="Lite"), progress=False)  # fetches it where it is missing
    return default_model_folder() / "Lite" / FROZEN_GRAPH


@pytest.fixture(scope="module")
def graphs(lite_file: Path) -> dict[str, Run]:
    lite = load_catalog(CATALOG)["Lite"]
    assert isinstance(lite, DetectorModel)
    return {
        "openvino": openvino_backend.load_detector(lite_file, lite, threads=None),
        "tensorflow": tensorflow_backend.load_detector(lite_file, lite, threads=None, batch_size=3),
        "tensorflow one by one": tensorflow_backend.load_detector(lite_file, lite, threads=None, batch_size=1),
    }


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return savedmodel.build(tmp_path_factory.mktemp("model") / "zoo")


@pytest.fixture(scope="module")
def pictures() -> list[RgbImage]:
    """Street pictures of several sizes: drawn ones, and photographs where they are at hand."""
    from tests.conftest import SHARED

    drawn = [draw_street(seed, Size(960, 540), cars=4, people=4) for seed in range(3)]
    read = [cv2.imread(str(file)) for file in sorted(SHARED.glob("images/street/images/*"))[::8]]
    photographs: list[RgbImage] = [cv2.cvtColor(image, cv2.COLOR_BGR2RGB) for image in read]
    return [*drawn, *photographs]


def test_both_runtimes_compute_the_same(graphs: dict[str, Run], pictures: list[RgbImage]) -> None:
    inputs = [cv2.resize(image, (300, 300), interpolation=cv2.INTER_AREA) for image in pictures]
    results = [list(run(inputs)) for run in graphs.values()]
    for reference, *others in zip(*results, strict=True):
        assert reference[0].max() > 0.3, "nothing is found in the picture, so it shows nothing"
        for scores, boxes in others:
            assert np.abs(scores - reference[0]).max() < _TOLERANCE
            assert np.abs(boxes - reference[1]).max() < _TOLERANCE


def test_both_runtimes_find_the_same_objects(pictures: list[RgbImage]) -> None:
    found = [
        list(load_masker(options(model_type="Lite", runtime=runtime), progress=False).detect(pictures))
        for runtime in ("openvino", "tensorflow")
    ]
    assert sum(len(first) for (first,) in found[0]) > len(pictures)
    for (first,), (second,) in zip(*found, strict=True):
        assert_same(first, second)


@pytest.fixture(scope="module")
def nano() -> DetectorModel:
    load_masker(options(model_type="Nano"), progress=False)
    return entry("Nano")


def picture_for(model: DetectorModel, image: RgbImage, scale: float = 1.0) -> RgbImage:
    fit = fit_of(Size(image.shape[1], image.shape[0]), model.input, scale)
    return fitted(image, fit, model.input.padding)


def entry(name: str) -> DetectorModel:
    model = load_catalog(CATALOG)[name]
    assert isinstance(model, DetectorModel)
    return model


@pytest.mark.parametrize("scale", [0.7, 1, 1.5])
def test_both_runtimes_compute_the_same_for_nanodet(
    nano: DetectorModel, pictures: list[RgbImage], scale: float
) -> None:
    file = network_file(default_model_folder() / "Nano", nano)
    upright = pictures[0][:, : pictures[0].shape[0] // 2]
    inputs = [picture_for(nano, image, scale) for image in (*pictures[:6], upright)]
    assert len({picture.shape for picture in inputs}) > 1
    by_runtime = [
        openvino_backend.load_detector(file, nano, threads=None)(inputs),
        tensorflow_backend.load_detector(file, nano, threads=None, batch_size=8)(inputs),
    ]
    n_scores = len(nano.output.names) // 2
    for first, second in zip(*by_runtime, strict=True):
        assert max(scores.max() for scores in first[:n_scores]) > 0.15, "nothing is found, so it shows nothing"
        for one, other in zip(first[:n_scores], second[:n_scores], strict=True):
            assert np.abs(one - other).max() < _TOLERANCE
        for one, other in zip(first[n_scores:], second[n_scores:], strict=True):
            assert one == pytest.approx(other, rel=1e-3, abs=1e-2)


def test_both_runtimes_find_the_same_objects_with_nanodet(nano: DetectorModel, pictures: list[RgbImage]) -> None:
    found = [
        list(load_masker(options(model_type="Nano", runtime=runtime), progress=False).detect(pictures))
        for runtime in ("openvino", "tensorflow")
    ]
    assert sum(len(first) for (first,) in found[0]) > len(pictures)
    for (first,), (second,) in zip(*found, strict=True):
        assert_same(first, second)


def test_each_scale_is_a_look_of_its_own_for_networks_that_scale(pictures: list[RgbImage]) -> None:
    def passes(scales: str, image: RgbImage, model: str = "Nano") -> list[list[tuple[int, float, Box]]]:
        masker = load_masker(options(model_type=model, input_scales=scales), progress=False)
        ((*looks,),) = masker.detect([image])
        return [[(i.label, i.score, i.box) for i in one] for one in looks]

    image = pictures[0]
    alone = [passes(f"[{scale}]", image)[0] for scale in (1, 1.5)]
    assert passes("[1, 1.5]", image) == alone
    assert alone[0] != alone[1]
    assert len(passes("[1, 1.5]", image, model="Lite")) == 1
    # A small image is not magnified for nothing, and yet seen.
    small = np.ascontiguousarray(image[::4, ::4])
    assert passes("[3, 2]", small) == [[], passes("[2]", small)[0]]
    assert passes("[2]", small)[0]


def test_scalable_networks_give_the_same_bits_whatever_came_before(
    nano: DetectorModel, pictures: list[RgbImage]
) -> None:
    network = openvino_backend.load_detector(network_file(default_model_folder() / "Nano", nano), nano, threads=None)
    inputs = [picture_for(nano, image, scale) for scale in (1, 1.5) for image in pictures[:3]]
    together = list(network([*inputs, *inputs[::-1]]))
    alone = [next(network([picture])) for picture in inputs]
    for several in (together[: len(inputs)], together[len(inputs) :][::-1]):
        for first, second in zip(several, alone, strict=True):
            assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))


def test_several_models_find_what_each_of_them_finds(nano: DetectorModel, pictures: list[RgbImage]) -> None:
    alone = [load_masker(options(model_type=name), progress=False).detect(pictures) for name in ("Lite", "Nano")]
    together = load_masker(options(model_type="[Lite, Nano]"), progress=False).detect(pictures)
    for (lite,), (nanodet,), both in zip(*alone, together, strict=True):
        for one, other in zip(both, (lite, nanodet), strict=True):
            assert [(i.label, i.score, i.box) for i in one] == [(i.label, i.score, i.box) for i in other]


@pytest.fixture(scope="module")
def face_file() -> Path:
    load_masker(options(targets="[face]"), progress=False)
    return network_file(default_model_folder() / "CenterFace", entry("CenterFace"))


def test_an_onnx_file_gives_on_openvino_what_opencv_gives(face_file: Path, pictures: list[RgbImage]) -> None:
    model = entry("CenterFace")
    run = openvino_backend.load_detector(face_file, model, threads=None)
    reference = cv2.dnn.readNetFromONNX(str(face_file))
    inputs = [picture_for(model, image[::2, ::2]) for image in pictures]
    for image, tensors in zip(inputs, run(inputs), strict=True):
        reference.setInput(cv2.dnn.blobFromImage(image))
        # The fourth, the landmarks, is of no use here.
        names = [*model.output.names, "540"]
        for one, other in zip(tensors, reference.forward(names)[:3], strict=True):
            assert one == pytest.approx(other, rel=1e-3, abs=1e-3)


def test_an_onnx_file_on_tensorflow_is_refused_with_the_way_out(face_file: Path) -> None:
    with pytest.raises(ModelError, match=r"centerface\.onnx is an ONNX file.*Set runtime: auto"):
        load_masker(options(targets="[face]", runtime="tensorflow"), progress=False)


@pytest.mark.parametrize(
    ("part", "changed", "message"),
    [
        ("input", {"name": "image"}, r"names the input image, but there are: input\.1"),
        ("output", {"heatmap": "999"}, r"names the output 999, but there are: \d+ others"),
        ("output", {"scale": "540"}, r"The output 540 has the shape \(1, 10, .* centerface needs \(1, 2, "),
        ("output", {"stride": 8}, r"The output 537 has the shape"),
        ("input", {"layout": "NHWC"}, r"OpenVINO could not run the network .*centerface\.onnx"),
    ],
)
def test_entries_that_do_not_fit_the_network_are_refused(
    face_file: Path, part: str, changed: dict[str, object], message: str
) -> None:
    model = entry("CenterFace")
    other = model.model_copy(update={part: getattr(model, part).model_copy(update=changed)})
    with pytest.raises(ModelError, match=message):
        load_network(face_file.parent, other, options(), {1001: 0.3})


def assert_same(first: tuple[Instance, ...], second: tuple[Instance, ...]) -> None:
    assert [i.label for i in first] == [i.label for i in second]
    for one, other in zip(first, second, strict=True):
        assert one.score == pytest.approx(other.score, abs=_TOLERANCE)
        # An edge that lies on the border of two pixels may be rounded to either.
        assert (one.box.left, one.box.top) == pytest.approx((other.box.left, other.box.top), abs=1)
        assert (one.box.right, one.box.bottom) == pytest.approx((other.box.right, other.box.bottom), abs=1)


def test_openvino_gives_the_same_bits_alone_and_among_others(graphs: dict[str, Run], pictures: list[RgbImage]) -> None:
    inputs = [cv2.resize(image, (300, 300)) for image in pictures] * 3
    together = list(graphs["openvino"](inputs))
    alone = [next(graphs["openvino"]([image])) for image in inputs]
    for first, second in zip(together, alone, strict=True):
        assert np.array_equal(first[0], second[0])
        assert np.array_equal(first[1], second[1])


def test_a_run_that_is_given_up_does_not_disturb_the_next(graphs: dict[str, Run], pictures: list[RgbImage]) -> None:
    image, other = (cv2.resize(picture, (300, 300)) for picture in pictures[:2])
    ((expected, _),) = graphs["openvino"]([image])

    def failing() -> Iterator[RgbImage]:
        yield from [other] * 20
        raise OSError("unreadable")

    next(graphs["openvino"]([other] * 20))
    with pytest.raises(OSError, match="unreadable"):
        list(graphs["openvino"](failing()))
    ((scores, _),) = graphs["openvino"]([image])
    assert np.array_equal(scores, expected)


def test_images_are_taken_as_the_work_goes_on(graphs: dict[str, Run]) -> None:
    """Only some of the windows of a large image are in memory at a time."""
    n_taken = 0

    def images() -> Iterator[RgbImage]:
        nonlocal n_taken
        for _ in range(1000):
            n_taken += 1
            yield np.zeros((300, 300, 3), np.uint8)

    for run in graphs.values():
        n_taken = 0
        next(run(images()))
        assert n_taken < 1000


def test_nothing_gives_nothing(graphs: dict[str, Run]) -> None:
    nothing: Iterable[RgbImage] = ()
    assert [list(run(nothing)) for run in graphs.values()] == [[], [], []]


@pytest.mark.parametrize("masks", [True, False])
def test_openvino_runs_saved_models(tmp_path: Path, masks: bool) -> None:
    folder = savedmodel.build(tmp_path / "zoo", masks=masks)
    images = [np.zeros((60, 100, 3), np.uint8), np.zeros((33, 33, 3), np.uint8)]
    by_runtime = [
        load_masker(options(model_type=folder.as_posix(), runtime=runtime), progress=False).detect(images)
        for runtime in ("openvino", "tensorflow")
    ]
    for (first,), (second,) in zip(*by_runtime, strict=True):
        assert len(first) == 3
        assert_same(first, second)
        assert [i.mask.tobytes() for i in first] == [i.mask.tobytes() for i in second]


def test_openvino_refuses_another_signature(tmp_path: Path) -> None:
    folder = savedmodel.build(tmp_path / "odd", drop="num_detections")
    with pytest.raises(ModelError, match="does not have the Object Detection API's signature"):
        openvino_backend.load_saved_model(folder, threads=1)


@pytest.mark.parametrize("content", [None, b"", b"no graph"])
def test_files_that_are_no_graph_are_refused(tmp_path: Path, content: bytes | None) -> None:
    lite = load_catalog(CATALOG)["Lite"]
    assert isinstance(lite, DetectorModel)
    file = tmp_path / FROZEN_GRAPH
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ModelError, match=r"OpenVINO cannot load the network .*frozen_graph\.pb"):
        openvino_backend.load_detector(file, lite, threads=None)
    with pytest.raises(ModelError, match="OpenVINO cannot load a SavedModel"):
        openvino_backend.load_saved_model(tmp_path, threads=None)


def test_a_graph_without_the_named_outputs_is_refused(lite_file: Path) -> None:
    lite = load_catalog(CATALOG)["Lite"]
    assert isinstance(lite, DetectorModel)
    other = lite.model_copy(update={"output": lite.output.model_copy(update={"scores": "Postprocessor/Masks"})})
    with pytest.raises(ModelError, match=r"the output Postprocessor/Masks, but there are: .*Postprocessor"):
        openvino_backend.load_detector(lite_file, other, threads=None)


def test_auto_goes_on_with_tensorflow_where_openvino_cannot_and_says_why(
    saved_model: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)  # as if it were not installed
    with caplog.at_level(logging.INFO, "anonymise.models.runtimes"):
        masker = load_masker(options(model_type=saved_model.as_posix()), progress=False)
    assert "runs on TensorFlow (runtime: auto). OpenVINO is not installed" in caplog.text
    ((found,),) = masker.detect([np.zeros((60, 100, 3), np.uint8)])
    assert len(found) == 3
    with pytest.raises(ModelError, match="set runtime: tensorflow"):
        load_masker(options(model_type=saved_model.as_posix(), runtime="openvino"), progress=False)


_ALONE = """
    import sys
    connections = []
    sys.addaudithook(lambda event, _: connections.append(event) if event.startswith("socket.") else None)
    import numpy as np
    from anonymise import config
    from anonymise.models import load_masker
    options = config.load(overrides=["model_type=Lite", "runtime=openvino", "model_threads=1"]).model
    list(load_masker(options, progress=False).detect([np.zeros((50, 60, 3), np.uint8)]))
    assert "openvino" in sys.modules
    assert "tensorflow" not in sys.modules, "TensorFlow was imported"
    assert not {"socket.connect", "socket.getaddrinfo", "socket.sendto"} & {*connections}, connections
"""


def test_openvino_needs_no_tensorflow_and_reports_to_no_one(lite_file: Path) -> None:
    # In a process of its own, because the other tests import TensorFlow.
    command = [sys.executable, "-c", textwrap.dedent(_ALONE)]
    done = subprocess.run(command, env={**os.environ}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
