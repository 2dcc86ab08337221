"""The package as other programs use it."""

import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import anonymise
from anonymise import Anonymiser, Box, Config, DrawError, UnreadableImage, UsageError, load_config
from anonymise.core.detections import RgbImage
from anonymise.testing import FakeModel
from tests.fakes import read_image, street, write_image

ROOT = Path(anonymise.__file__).parents[2]
PLAIN = {"mask_dilation_pixels": 0, "outline": "box"}
CAR = (40, 40, 90, 80)


def test_the_exported_names_are_these_and_all_are_there() -> None:
    assert set(anonymise.__all__) == {
        *("Anonymiser", "AnonymisedImage", "Config", "load_config", "run_folder"),
        *("Report", "Progress", "Outcome", "Done", "Failed", "Skipped"),
        *("Box", "Detections", "DetectionSource", "InputImage", "Instance", "Size", "Source"),
        *("AnonymiseError", "ConfigError", "DatabaseError", "DrawError", "ExitCode", "ImageError", "ModelError"),
        *("RecordError", "StopError", "StorageError", "UnreadableImage", "UsageError", "WriteError"),
    }
    assert all(getattr(anonymise, name).__doc__ for name in anonymise.__all__ if name != "Outcome")
    assert set(dir(anonymise)) >= set(anonymise.__all__)
    with pytest.raises(AttributeError, match="no attribute 'anonymize'"):
        _ = anonymise.anonymize


def test_importing_loads_no_other_module_of_the_package() -> None:
    code = "import sys, anonymise; print([m for m in sys.modules if m.startswith('anonymise')], 'numpy' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "['anonymise'] False"


@pytest.fixture
def config() -> Config:
    return load_config(keys=PLAIN)


@pytest.fixture
def data(tmp_path: Path) -> bytes:
    return write_image(tmp_path / "a.jpg", street(cars=[Box(*CAR)])).read_bytes()


def pixels_of(data: bytes) -> RgbImage:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def test_bytes_go_in_and_anonymised_bytes_come_out(config: Config, data: bytes) -> None:
    found = Anonymiser(config, model=FakeModel([("car", CAR)])).anonymise(data, name="E18/2020/a.jpg")
    assert [instance.box for instance in found.detections.instances] == [Box(*CAR)]
    assert found.objects == {"car": 1}
    before, after = pixels_of(data), pixels_of(found.data)
    assert np.abs(after[40:80, 40:90].astype(int) - before[40:80, 40:90]).mean() > 30
    assert np.array_equal(after[:24], before[:24])
    mask = np.asarray(Image.open(io.BytesIO(found.mask())))
    assert set(np.unique(mask)) == {0, 255}
    assert (mask[40:80, 40:90] == 0).all()
    assert found.hidden.sum() == (mask == 0).sum()
    assert pixels_of(found.preview(anonymise.Size(50, 40), (0.5, 0.5))).shape == (40, 50, 3)
    assert found.record is not None
    assert found.record["exif_filnavn"] == "a.jpg"
    assert found.record["detekterte_objekter"] == {"car": "1"}
    json.dumps(found.record)


def test_finding_and_hiding_are_two_halves_of_it(config: Config, data: bytes) -> None:
    anonymiser = Anonymiser(config, model=FakeModel([("car", CAR)]))
    whole = anonymiser.anonymise(data, name="a.jpg")
    detections = anonymiser.detect(data)
    assert anonymiser.redact(data, detections, name="a.jpg").data == whole.data
    nothing = anonymise.Detections(detections.size)
    assert np.array_equal(pixels_of(anonymiser.redact(data, nothing).data), pixels_of(data))


def test_an_image_is_not_changed_by_being_looked_at(config: Config, data: bytes) -> None:
    anonymiser = Anonymiser(config, model=FakeModel([("car", CAR)]))
    first = anonymiser.anonymise(data)
    assert anonymiser.anonymise(data).data == first.data


def test_detections_are_in_stored_pixels(tmp_path: Path, config: Config) -> None:
    picture = street((160, 120))
    exif = Image.Exif()
    exif[274] = 6  # shown turned to the right
    Image.fromarray(picture).save(tmp_path / "a.jpg", exif=exif, quality=95)
    data = (tmp_path / "a.jpg").read_bytes()
    shown = (10, 20, 40, 60)
    found = Anonymiser(config, model=FakeModel([("person", shown)])).anonymise(data)
    assert found.detections.size == (160, 120)
    assert [instance.box for instance in found.detections.instances] == [Box(20, 80, 60, 110)]


def test_what_a_folder_run_writes_is_what_the_core_gives(tmp_path: Path) -> None:
    source = write_image(tmp_path / "in" / "a.jpg", street(cars=[Box(*CAR)]))
    config = load_config(keys={**PLAIN, "enable_async": False})
    model = FakeModel([("car", CAR)])
    report = anonymise.run_folder(config, tmp_path / "in", tmp_path / "out", model=model)
    assert (report.n_done, report.failed) == (1, ())
    assert anonymise.run_folder(config, tmp_path / "in", str(tmp_path / "out"), model=model).n_skipped == 1
    found = Anonymiser(config, model=model).anonymise(source.read_bytes(), name="a.jpg")
    assert (tmp_path / "out" / "a.jpg").read_bytes() == found.data


def test_errors_say_what_is_wrong(tmp_path: Path, config: Config, data: bytes) -> None:
    anonymiser = Anonymiser(config, model=FakeModel())
    for broken, reason in ((b"", "empty"), (b"GIF89a", "neither"), (data[:2000], "truncated")):
        with pytest.raises(UnreadableImage, match=reason):
            anonymiser.anonymise(broken)
    with pytest.raises(DrawError, match="are those of an image of 10×10"):
        anonymiser.redact(data, anonymise.Detections(anonymise.Size(10, 10)))
    with pytest.raises(anonymise.ConfigError, match="did you mean blur"):
        load_config(keys={"blurr": 3})
    with pytest.raises(UsageError, match="does not exist"):
        anonymise.run_folder(config, tmp_path / "none", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no image"):
        anonymise.run_folder(config, tmp_path / "empty", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="static_mask"):
        Anonymiser(load_config(keys={"static_mask": str(tmp_path / "none.png")}), model=FakeModel())


def test_a_folder_run_tells_its_observer_and_stops_when_that_wants_to(tmp_path: Path) -> None:
    for n in range(12):
        write_image(tmp_path / "in" / f"{n}.jpg", street(seed=n))

    class AfterTwo(anonymise.Progress):
        def __init__(self) -> None:
            self.outcomes: list[anonymise.Outcome] = []

        def finished(self, outcome: anonymise.Outcome) -> None:
            self.outcomes.append(outcome)

        def wants_to_stop(self) -> bool:
            return len(self.outcomes) >= 2

    progress = AfterTwo()
    config = load_config(keys={**PLAIN, "enable_async": False})
    report = anonymise.run_folder(config, tmp_path / "in", tmp_path / "out", progress=progress, model=FakeModel())
    assert report.interrupted
    assert 2 <= report.n_done == len(progress.outcomes) < 12
    assert report.n_left == 12 - report.n_done
    assert all(isinstance(outcome, anonymise.Done) for outcome in progress.outcomes)


def test_the_static_mask_is_hidden_too(tmp_path: Path, data: bytes) -> None:
    keep = np.full((120, 160), 255, np.uint8)
    keep[100:] = 0
    write_image(tmp_path / "mask.png", keep)
    config = load_config(keys={**PLAIN, "static_mask": str(tmp_path / "mask.png")})
    found = Anonymiser(config, model=FakeModel()).anonymise(data)
    assert found.hidden[100:].all()
    assert not found.hidden[:100].any()


def blocks(page: Path) -> Iterator[tuple[int, str]]:
    text = page.read_text("utf-8")
    for match in re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield text.count("\n", 0, match.start()) + 1, match.group(1)


def test_the_examples_of_the_page_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All blocks of docs/python.md, one after the other, as a reader would type them in."""
    monkeypatch.chdir(tmp_path)
    for n in range(2):
        write_image(tmp_path / "photos" / f"{n}.jpg", street((320, 240), seed=n))
    names: dict[str, object] = {"__name__": "__main__"}
    found = list(blocks(ROOT / "docs" / "python.md"))
    assert len(found) >= 5
    for line, code in found:
        exec(compile("\n" * line + code, str(ROOT / "docs" / "python.md"), "exec"), names)
    assert read_image(tmp_path / "published" / "0.jpg").shape == (240, 320, 3)
