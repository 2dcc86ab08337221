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
from anonymise.detections import Instance, RgbImage, Size
from anonymise.errors import ModelError
from anonymise.masker import ModelOptions, load_masker, openvino_backend, tensorflow_backend
from anonymise.masker.catalog import DetectorModel, load_catalog
from anonymise.masker.detector import Run
from anonymise.masker.fetch import FROZEN_GRAPH
from anonymise.resources import CATALOG, default_model_folder
from samples.scene import draw_street
from tests.masker import savedmodel

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
    with caplog.at_level(logging.INFO, "anonymise.masker.runtimes"):
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
    from anonymise.masker import load_masker
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
