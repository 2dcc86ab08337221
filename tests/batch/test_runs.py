import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from anonymise import config
from anonymise.batch import finishing, storage
from anonymise.batch import runs as pipeline
from anonymise.batch.jobs import Job, JobOptions, finish
from anonymise.batch.journal import JournalReader
from anonymise.batch.outcomes import Done, Outcome, Progress
from anonymise.batch.paths import Places
from anonymise.batch.processes import process_name
from anonymise.batch.runs import anonymise, make_previews, make_records
from anonymise.batch.sharing import SharedPixels
from anonymise.batch.tasks import Work
from anonymise.batch.workers import Executor, ProcessWorkers, SerialWorkers
from anonymise.config import Config
from anonymise.core.detections import Box, Instance, RgbImage, full_mask
from anonymise.core.errors import ModelError, StorageError
from tests.fakes import CAR, Ran, RedMasker, found_in, read_image, street, write_image

pytestmark = pytest.mark.slow


@pytest.fixture
def places(tmp_path: Path) -> Places:
    (tmp_path / "in").mkdir()
    for name in ("out", "archive"):
        storage.prepare_root(tmp_path / name)
    return Places(tmp_path / "in", tmp_path / "out", tmp_path / "archive")


def settings(*overrides: str) -> Config:
    few = ["mask_dilation_pixels=0", "enable_async=False", "file_access_timeout_seconds=0"]
    return config.load(overrides=[*few, *overrides], has_archive=True)


def run(places: Places, *overrides: str, masker: RedMasker | None = None) -> Ran:
    ran = Ran()
    ran.report = anonymise(settings(*overrides), places, masker or RedMasker(), SerialWorkers(), ran)
    return ran


def run_each(work: object, places: Places, workers: Executor, *overrides: str) -> Ran:
    ran = Ran()
    ran.report = pipeline.each_image(work, settings(*overrides), places, workers, ran)  # type: ignore[arg-type]
    return ran


def tree(folder: Path) -> dict[str, bytes]:
    """Path → content of all files but the journal."""
    files = (p for p in sorted(folder.rglob("*")) if p.is_file() and ".anonymise" not in p.parts)
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


def test_the_main_job(places: Places) -> None:
    picture = street()
    source = write_image(places.input / "a" / "1.jpg", picture)
    report = run(places, "remote_preview=True", "remote_mask=True", "preview_dim=[40, 30]")
    assert sorted(tree(places.output)) == ["a/1.jpg", "a/1.json", "a/1_mask.png", "a/1_preview.jpg"]
    assert tree(places.archive or Path()) == {"a/1.jpg": source.read_bytes()}
    assert report.objects == {"car": 1}
    assert (report.report.n_folders if report.report else 0, len(report.done), report.failed) == (1, 1, [])

    before, after = read_image(source), read_image(places.output / "a" / "1.jpg")
    mask = read_image(places.output / "a" / "1_mask.png")[..., 0]
    found = mask == 0
    assert set(np.unique(mask)) == {0, 255}
    assert found[40:80, 40:90].all()
    # Hidden inside; the same outside, beyond the reach of the blocks that the car touches.
    assert np.abs(after[found].astype(int) - before[found]).mean() > 30
    far = cv2.dilate(found.astype(np.uint8), np.ones((65, 65))) == 0
    assert np.array_equal(after[far], before[far])

    record = json.loads((places.output / "a" / "1.json").read_text("utf-8"))
    assert record["exif_imagewidth"] == "160"
    assert record["exif_imageheight"] == "120"
    assert record["exif_imagetype"] == "Planar"
    assert record["exif_filnavn"] == "1.jpg"
    assert record["exif_filnavn_preview"] == "1_preview.jpg"
    assert record["detekterte_objekter"] == {"car": "1"}
    assert record["versjon"].startswith("P0.2_K")
    preview = read_image(places.output / "a" / "1_preview.jpg")
    assert preview.shape == (30, 40, 3)


def test_previews_are_cut_from_the_anonymised_pixels(places: Places) -> None:
    write_image(places.input / "1.jpg", street())
    run(places, "remote_preview=True", "preview_dim=[160, 120]", "preview_center=[0.5, 0.5]")
    preview, after = read_image(places.output / "1_preview.jpg"), read_image(places.output / "1.jpg")
    assert np.abs(preview.astype(int) - after).mean() < 3
    (places.output / "1_preview.jpg").unlink()
    report = make_previews(settings("remote_preview=True"), places, SerialWorkers())
    assert report.n_done == 1
    again = read_image(places.output / "1_preview.jpg")
    assert np.abs(again[40:80, 40:90].astype(int) - preview[40:80, 40:90]).mean() < 3


def test_a_preview_is_never_cut_from_the_original(places: Places) -> None:
    write_image(places.input / "1.jpg", street())
    report = make_previews(settings("remote_preview=True"), places, SerialWorkers())
    assert "anonymise it first" in report.failed[0].reason
    assert tree(places.output) == {}


@pytest.mark.parametrize(("n_workers", "has_reader"), [(1, True), (2, False), (3, True)])
@pytest.mark.parametrize("override", ["blur=15", "feather=0.2", "appearance=inpaint", "jpeg_quality=80"])
def test_serial_and_parallel_give_the_same_files(
    places: Places, tmp_path: Path, n_workers: int, has_reader: bool, override: str
) -> None:
    for n in range(5):
        cars = [Box(10 * n, 20, 10 * n + 30, 50), Box(10 * n + 35, 20, 10 * n + 50, 60)]
        write_image(places.input / f"{n}.jpg", street(seed=n, cars=cars))
    run(places, override)
    other = Places(places.input, tmp_path / "other")
    storage.prepare_root(other.output)
    with ExitStack() as stack:
        workers = stack.enter_context(closing(ProcessWorkers(n_workers)))
        reader = stack.enter_context(closing(ProcessWorkers(1))) if has_reader else None
        loaded = settings("enable_async=True", override)
        report = anonymise(loaded, other, RedMasker(), workers, reader=reader)
    assert report.n_done == 5
    assert tree(other.output) == tree(places.output)


def test_doing_it_again_gives_the_same_files(places: Places) -> None:
    write_image(places.input / "1.jpg", street())
    run(places)
    expected = tree(places.output)
    run(places, "force_remask=True")
    assert tree(places.output) == expected


class CrashingReader(ProcessWorkers):
    """Decodes, but dies on one image as a damaged file may make a codec do."""

    def __init__(self, width: int) -> None:
        super().__init__(1)
        self.width = width
        self.n_restarts = 0

    def submit(self, function, *args, **kwargs):  # type: ignore[no-untyped-def]
        if function.args[0].size.width == self.width:
            function = partial(os._exit, 9)
        return super().submit(function, *args, **kwargs)

    def restart(self) -> None:
        self.n_restarts += 1
        super().restart()


def test_an_image_that_crashes_the_decoder_fails_alone(places: Places) -> None:
    for n in range(5):
        write_image(places.input / f"{n}.jpg", street((176, 120) if n == 2 else (160, 120), seed=n))
    with closing(CrashingReader(176)) as reader, closing(ProcessWorkers(2)) as workers:
        ran = Ran()
        ran.report = anonymise(settings("enable_async=True"), places, RedMasker(), workers, ran, reader=reader)
    assert [(f.source.name, f.stage, f.reason[:31]) for f in ran.failed] == [
        ("2.jpg", "read", "the process that decodes it died"[:31])
    ]
    assert len(ran.done) == 4
    assert reader.n_restarts == 2


class DiesAfterDrawing:
    """Kills the worker that finishes an image, the first time, after it drew on the shared pixels and began a file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, job: Job, options: JobOptions) -> Work:
        tried = self.folder / job.paths.relative.name
        if job.paths.relative.name == "2.jpg" and not tried.exists():
            tried.touch()
            assert isinstance(job.pixels, SharedPixels)
            job.pixels.open()[:] = 0
            name = f"{process_name()}-0.part"
            (job.paths.places.output / ".anonymise" / "tmp" / name).write_bytes(b"half")
            os._exit(9)
        return finish(job, options)


def test_what_a_dead_worker_drew_on_is_decoded_again_and_what_it_began_to_write_is_gone(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(6):
        write_image(places.input / f"{n}.jpg", street(seed=n))
    run(places)
    other = Places(places.input, tmp_path / "other")
    storage.prepare_root(other.output)
    (tmp_path / "tried").mkdir()
    monkeypatch.setattr(finishing, "finish", DiesAfterDrawing(tmp_path / "tried"))
    with closing(ProcessWorkers(2)) as workers, closing(ProcessWorkers(1)) as reader:
        report = anonymise(settings("enable_async=True"), other, RedMasker(), workers, reader=reader)
    assert (tmp_path / "tried" / "2.jpg").exists()
    assert report.n_done == 6
    assert tree(other.output) == tree(places.output)
    assert not list(other.output.rglob("*.part"))


def test_finished_images_are_skipped_unless_they_are_to_be_done_again(places: Places) -> None:
    for n in range(3):
        write_image(places.input / f"{n}.jpg", street(seed=n))
    run(places)
    (places.output / "1.json").unlink()
    masker = RedMasker()
    report = run(places, masker=masker)
    assert [o.source.name for o in report.done] == ["1.jpg"]
    assert [o.source.name for o in report.skipped] == ["0.jpg", "2.jpg"]
    assert masker.n_images == 1
    assert len(run(places, "force_remask=True").done) == 3


def test_a_kind_of_file_that_was_not_asked_for_before_makes_the_image_unfinished(places: Places) -> None:
    write_image(places.input / "1.jpg", street())
    run(places)
    assert len(run(places, "remote_mask=True").done) == 1


def bad_inputs(folder: Path) -> dict[str, str]:
    """Writes files that are no pictures; name → what the report must say."""
    jpeg = cv2.imencode(".jpg", street((640, 480)))[1].tobytes()
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "truncated.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (folder / "text.jpg").write_text("no picture at all")
    write_image(folder / "large.png", np.zeros((1100, 1000, 3), np.uint8))
    (folder / "folder.jpg").mkdir()
    reasons = {
        "empty.jpg": "empty",
        "truncated.jpg": "truncated",
        "text.jpg": "neither",
        "large.png": "max_decoded_pixels",
    }
    if os.name != "nt":
        (folder / "unreadable.jpg").symlink_to(folder / "gone.jpg")
        reasons["unreadable.jpg"] = "cannot be read"
    return reasons


def test_bad_input_fails_alone_and_leaves_nothing(places: Places) -> None:
    reasons = bad_inputs(places.input)
    write_image(places.input / "good.jpg", street())
    report = run(places, "max_decoded_pixels=1000000")
    assert {f.source.name: f.stage for f in report.failed} == dict.fromkeys(reasons, "read")
    for failed in report.failed:
        assert reasons[failed.source.name] in failed.reason
    assert [d.source.name for d in report.done] == ["good.jpg"]
    assert sorted(tree(places.output)) == ["good.jpg", "good.json"]


def _saved(path: Path, image: Image.Image) -> None:
    image.save(path)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("grey.jpg", lambda p: write_image(p, cv2.cvtColor(street(), cv2.COLOR_RGB2GRAY))),
        ("cmyk.jpg", lambda p: _saved(p, Image.fromarray(street()).convert("CMYK"))),
        ("palette.png", lambda p: _saved(p, Image.fromarray(street()).convert("P"))),
        ("alpha.png", lambda p: _saved(p, Image.fromarray(street()).convert("RGBA"))),
        ("sixteen.png", lambda p: write_image(p, street().astype(np.uint16) * 257)),
        ("one_pixel.png", lambda p: write_image(p, np.zeros((1, 1, 3), np.uint8))),
        ("one_pixel.jpg", lambda p: write_image(p, np.zeros((1, 1, 3), np.uint8))),
    ],
)
def test_unusual_pictures_are_converted_and_processed(
    places: Places, name: str, write: Callable[[Path], object]
) -> None:
    path = places.input / name
    write(path)
    report = run(places, "use_cutouts=True", "remote_mask=True")
    assert report.failed == []
    before, after = read_image(path), read_image(places.output / name)
    assert after.shape == before.shape
    if "pixel" not in name and "grey" not in name and "palette" not in name:  # RedMasker sees the car
        assert report.objects == {"car": 1}
        assert np.abs(after[45:75, 45:85].astype(int) - before[45:75, 45:85]).mean() > 20


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_image_is_shown_upright_to_the_model_and_hidden_where_it_is_stored(
    places: Places, orientation: int
) -> None:
    class UpperLeftCorner(RedMasker):
        def __init__(self) -> None:
            super().__init__()
            self.shapes: list[tuple[int, ...]] = []

        def detect(self, images: Iterable[RgbImage]) -> Iterator[tuple[tuple[Instance, ...], ...]]:
            box = Box(0, 0, 32, 16)
            for image in images:
                self.shapes.append(image.shape[:2])
                yield ((Instance(CAR, 0.9, box, full_mask(box)),),)

    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(street((160, 96), cars=[])).save(places.input / "1.jpg", exif=exif)
    masker = UpperLeftCorner()
    run(places, "remote_mask=True", masker=masker)
    assert masker.shapes == [(160, 96) if orientation > 4 else (96, 160)]
    with Image.open(places.output / "1.jpg") as after:
        assert after.getexif()[0x0112] == orientation
    with Image.open(places.output / "1_mask.png") as mask:
        hidden = np.asarray(mask) == 0
    # Where the upper left corner of the upright picture is stored, by the EXIF standard.
    rows, columns = (16, 32) if orientation <= 4 else (32, 16)
    top, left = {
        1: (True, True), 2: (True, False), 3: (False, False), 4: (False, True),
        5: (True, True), 6: (False, True), 7: (False, False), 8: (True, False),
    }[orientation]  # fmt: skip
    expected = np.zeros_like(hidden)
    expected[slice(0, rows) if top else slice(-rows, None), slice(0, columns) if left else slice(-columns, None)] = True
    assert np.array_equal(hidden, expected)


def test_windows_find_what_the_full_image_does_not_show() -> None:
    class OnlySmallImages(RedMasker):
        def detect(self, images: Iterable[RgbImage]) -> Iterator[tuple[tuple[Instance, ...], ...]]:
            return ((self._cars(image) if image.shape[1] < 100 else (),) for image in images)

    loaded = settings("use_cutouts=True", "cutout_dim_downscale=[2, 2]", "cutout_step_factor=[30, 30]")
    picture = street(cars=[Box(70, 50, 90, 70)])  # across the middle: no window of a plain 2x2 grid has it whole
    found = found_in(picture, OnlySmallImages(), loaded)
    assert [i.box for i in found.instances] == [Box(70, 50, 90, 70)]
    assert found_in(picture, OnlySmallImages(), settings()).instances == ()


def test_masks_are_grown_after_merging() -> None:
    loaded = settings("mask_dilation_pixels=3")
    picture = street(cars=[Box(10, 10, 20, 20), Box(24, 10, 34, 20)])
    found = found_in(picture, RedMasker(), loaded)
    assert [i.box for i in found.instances] == [Box(7, 7, 23, 23), Box(21, 7, 37, 23)]


def test_a_model_that_breaks_stops_the_run(places: Places) -> None:
    class Broken(RedMasker):
        def detect(self, images: Iterable[RgbImage]) -> Iterator[tuple[tuple[Instance, ...], ...]]:
            if self.n_images == 2:
                raise ModelError("out of memory")
            return super().detect(images)

    for n in range(5):
        write_image(places.input / f"{n}.jpg", street(seed=n))
    report = run(places, masker=Broken())
    assert str(report.stopped) == "out of memory"
    assert [d.source.name for d in report.done] == ["0.jpg", "1.jpg"]


def test_an_error_nobody_thought_of_fails_one_image(places: Places) -> None:
    class Odd(RedMasker):
        def detect(self, images: Iterable[RgbImage]) -> Iterator[tuple[tuple[Instance, ...], ...]]:
            for image in images:
                if image.shape[0] == 90:
                    raise ZeroDivisionError("odd")
                yield (self._cars(image),)

    write_image(places.input / "0.jpg", street((160, 90)))
    write_image(places.input / "1.jpg", street())
    report = run(places, masker=Odd())
    assert [(f.source.name, f.stage, f.reason) for f in report.failed] == [
        ("0.jpg", "model", "unexpected ZeroDivisionError: odd")
    ]
    assert len(report.done) == 1


def test_an_output_folder_that_is_lost_stops_the_run(places: Places, tmp_path: Path) -> None:
    class LosesTheShare(RedMasker):
        def detect(self, images: Iterable[RgbImage]) -> Iterator[tuple[tuple[Instance, ...], ...]]:
            if self.n_images == 1:
                places.output.rename(tmp_path / "away")
            return super().detect(images)

    for n in range(4):
        write_image(places.input / f"{n}.jpg", street(seed=n))
    access = ["file_access_timeout_seconds=0.2", "file_access_retry_seconds=0.1"]
    report = run(places, *access, masker=LosesTheShare())
    assert isinstance(report.stopped, StorageError)
    assert "out of reach" in str(report.stopped)
    assert not places.output.exists()  # made again, it would hide that the share is gone
    # When it is back, the run goes on where it stopped.
    (tmp_path / "away").rename(places.output)
    report = run(places)
    assert len(report.done) + len(report.skipped) == 4
    assert sorted(tree(places.output)) == sorted(f"{n}.{ending}" for n in range(4) for ending in ("jpg", "json"))


def test_deleting_the_input(places: Places) -> None:
    source = write_image(places.input / "a" / "1.jpg", street())
    original = source.read_bytes()
    assert run(places, "delete_input=True").failed == []
    assert list(places.input.iterdir()) == []
    assert tree(places.archive or Path()) == {"a/1.jpg": original}
    assert sorted(tree(places.output)) == ["a/1.jpg", "a/1.json"]


def test_progress_is_told_of_everything(places: Places) -> None:
    told: list[object] = []

    class Listening(Progress):
        def found(self, n_images: int) -> None:
            told.append(n_images)

        def finished(self, outcome: Outcome) -> None:
            told.append((type(outcome).__name__, outcome.source.name))

    write_image(places.input / "1.jpg", street())
    (places.input / "2.jpg").write_bytes(b"")
    anonymise(settings(), places, RedMasker(), SerialWorkers(), Listening())
    assert told == [2, ("Done", "1.jpg"), ("Failed", "2.jpg")] or told == [2, ("Failed", "2.jpg"), ("Done", "1.jpg")]
    told.clear()
    anonymise(settings("lazy_paths=True", "force_remask=True"), places, RedMasker(), SerialWorkers(), Listening())
    assert told[0] != 2


def test_records_only(places: Places) -> None:
    write_image(places.input / "FV00013_S1D1_m00014_f1.jpg", street())
    (places.input / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    report = make_records(settings(), places, SerialWorkers())
    assert [f.source.name for f in report.failed] == ["broken.jpg"]
    assert sorted(tree(places.output)) == ["FV00013_S1D1_m00014_f1.json"]
    record = json.loads((places.output / "FV00013_S1D1_m00014_f1.json").read_text("utf-8"))
    assert (record["exif_vegnr"], record["exif_meter"]) == ("13", "14")
    assert record["detekterte_objekter"] is None


def test_records_written_again_keep_what_was_found(places: Places) -> None:
    write_image(places.input / "1.jpg", street())
    run(places)
    before = json.loads((places.output / "1.json").read_text("utf-8"))
    make_records(settings("data_eier=Kommunen"), places, SerialWorkers())
    after = json.loads((places.output / "1.json").read_text("utf-8"))
    assert after == before | {"exif_dataeier": "Kommunen"}


def test_a_record_that_the_database_would_refuse_is_an_error_and_nothing_is_published(places: Places) -> None:
    write_image(places.input / "1.jpg", street())
    report = run(places, "table_name=VEGBILDER")
    assert "exif_dataeier" in report.failed[0].reason
    assert tree(places.output) == {}


class Deadly:
    """Work that kills its worker process for one image."""

    def __init__(self, victim: str) -> None:
        self.victim = victim

    def __call__(self, paths: object, config: object) -> object:
        from anonymise.batch.jobs import make_record

        if paths.relative.name == self.victim:  # type: ignore[attr-defined]
            os._exit(9)
        make_record(paths, config)  # type: ignore[arg-type]
        return Work()


def test_a_worker_that_dies_loses_only_its_image(places: Places) -> None:
    for n in range(8):
        write_image(places.input / f"{n}.jpg", street(seed=n))
    workers = ProcessWorkers(2)
    try:
        report = run_each(Deadly("3.jpg"), places, workers)
    finally:
        workers.close()
    assert [(f.source.name, f.reason[:23]) for f in report.failed] == [("3.jpg", "the worker process died")]
    assert [d.source.name for d in report.done] == [f"{n}.jpg" for n in range(8) if n != 3]


class FailsOnce:
    """Work that fails the first time for each image."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, paths: object, config: object) -> object:
        tried = self.folder / paths.relative.name  # type: ignore[attr-defined]
        if not tried.exists():
            tried.touch()
            raise OSError("a hiccup of the share")
        return Work()


def test_a_failed_worker_is_started_once_more(places: Places, tmp_path: Path) -> None:
    (tmp_path / "tried").mkdir()
    for n in range(3):
        write_image(places.input / f"{n}.jpg", street(seed=n))
    report = run_each(FailsOnce(tmp_path / "tried"), places, SerialWorkers())
    assert len(report.done) == 3


def test_only_a_few_images_are_under_way_at_a_time(places: Places) -> None:
    """Back-pressure: the model does not run ahead of slow workers."""
    for n in range(12):
        write_image(places.input / f"{n:02}.jpg", street((32, 32), cars=[], seed=n))
    started: list[float] = []
    finished: list[float] = []

    class Noting(RedMasker):
        def detect(self, images: Iterable[RgbImage]) -> Iterator[tuple[tuple[Instance, ...], ...]]:
            started.append(time.monotonic())
            return super().detect(images)

    class Listening(Progress):
        def finished(self, outcome: Outcome) -> None:
            assert isinstance(outcome, Done)
            finished.append(time.monotonic())

    workers = ProcessWorkers(1)
    try:
        anonymise(settings("enable_async=True"), places, Noting(), workers, Listening())
    finally:
        workers.close()
    for n, begin in enumerate(started):
        under_way = n - sum(end < begin for end in finished)
        assert under_way <= 2 * workers.n_parallel + 1


def journal_says(places: Places) -> dict[str, str]:
    with JournalReader(places.output) as journal:
        return {entry.relative: entry.state.value for entry in journal.entries()}


def test_the_journal_knows_what_became_of_every_image(places: Places) -> None:
    bad_inputs(places.input)
    write_image(places.input / "a" / "good.jpg", street())
    run(places, "max_decoded_pixels=1000000")
    said = journal_says(places)
    assert said["a/good.jpg"] == "finished"
    assert {name: said[name] for name in ("empty.jpg", "truncated.jpg", "text.jpg")} == dict.fromkeys(
        ("empty.jpg", "truncated.jpg", "text.jpg"), "failed"
    )


def test_a_changed_configuration_or_model_does_finished_images_again(
    places: Places, caplog: pytest.LogCaptureFixture
) -> None:
    for n in range(3):
        write_image(places.input / f"{n}.jpg", street(seed=n))
    run(places)
    assert len(run(places, "log_level=INFO", "max_num_async_workers=1").skipped) == 3
    assert len(run(places, "blur=30").done) == 3
    assert "3 finished images are done again" in caplog.text
    assert len(run(places, "blur=30").skipped) == 3
    assert len(run(places, "blur=30", masker=RedMasker("another")).done) == 3


def test_a_changed_input_is_done_again(places: Places) -> None:
    write_image(places.input / "1.jpg", street())
    without_archive = Places(places.input, places.output)
    run(without_archive)
    write_image(places.input / "1.jpg", street(seed=5))
    assert len(run(without_archive).done) == 1


@pytest.mark.parametrize("delete", ["True", "False"])
def test_the_next_card_with_the_same_names_does_not_replace_originals(places: Places, delete: str) -> None:
    assert places.archive is not None
    first = write_image(places.input / "1.jpg", street()).read_bytes()
    run(places, f"delete_input={delete}")
    published = tree(places.output)
    second = write_image(places.input / "1.jpg", street(seed=5)).read_bytes()
    (failed,) = run(places, f"delete_input={delete}").failed
    assert all(str(folder / "1.jpg") in failed.reason for folder in (places.archive, places.input))
    assert (tree(places.archive), tree(places.input)) == ({"1.jpg": first}, {"1.jpg": second})
    assert tree(places.output) == published


def test_two_inputs_that_share_an_archive_do_not_replace_each_others_originals(places: Places, tmp_path: Path) -> None:
    originals: list[bytes] = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        originals.append(write_image(tmp_path / name / "1.jpg", street(seed=len(originals))).read_bytes())
        storage.prepare_root(tmp_path / f"{name}_out")
    rans = [run(Places(tmp_path / n, tmp_path / f"{n}_out", places.archive), "delete_input=True") for n in ("a", "b")]
    assert [len(ran.failed) for ran in rans] == [0, 1]
    assert tree(places.archive or Path()) == {"1.jpg": originals[0]}
    assert tree(tmp_path / "b") == {"1.jpg": originals[1]}


def test_with_delete_input_an_archive_that_is_suddenly_empty_stops_the_run(places: Places, tmp_path: Path) -> None:
    assert places.archive is not None
    write_image(places.input / "1.jpg", street())
    run(places, "delete_input=True")
    places.archive.rename(tmp_path / "away")
    storage.prepare_root(places.archive)  # as --create-archive does
    original = write_image(places.input / "2.jpg", street(seed=2)).read_bytes()
    with pytest.raises(StorageError, match="is empty, although earlier runs wrote to it"):
        run(places, "delete_input=True")
    assert (tree(places.input), tree(places.archive)) == ({"2.jpg": original}, {})
    assert len(run(places).done) == 1  # nothing is deleted


def test_failed_images_leave_a_note_but_no_pixels_and_it_goes_when_they_succeed(places: Places) -> None:
    source = places.input / "a" / "1.jpg"
    write_image(source, street())
    whole = source.read_bytes()
    source.write_bytes(whole[: len(whole) // 2])
    run(places)
    errors = places.errors
    assert errors == places.output.with_name("out_error")
    assert sorted(tree(errors)) == ["a/1_error.txt"]
    note = (errors / "a" / "1_error.txt").read_text("utf-8").splitlines()
    assert note[:2] == [str(source), "read"]
    assert "truncated" in note[2]
    source.write_bytes(whole)
    assert len(run(places).done) == 1
    assert tree(errors) == {}


def test_an_incomplete_record_is_left_with_the_note(places: Places) -> None:
    write_image(places.input / "1.jpg", street())
    run(places, "table_name=VEGBILDER")
    assert sorted(tree(places.errors)) == ["1_error.json", "1_error.txt"]
    assert json.loads(tree(places.errors)["1_error.json"])["exif_filnavn"] == "1.jpg"


def test_originals_go_to_the_error_folder_only_when_the_key_says_so(places: Places) -> None:
    (places.input / "1.jpg").write_bytes(b"broken")
    run(places, "copy_originals_to_error_folder=True")
    assert tree(places.errors)["1.jpg"] == b"broken"


def test_a_run_in_which_everything_fails_stops(places: Places) -> None:
    for n in range(30):
        (places.input / f"{n:02}.jpg").write_bytes(b"broken")
    report = run(places, "max_failures_in_a_row=10")
    assert "10 images failed one after the other" in str(report.stopped)
    assert 10 <= len(report.failed) <= 12


def test_an_input_that_is_not_in_the_archive_as_it_is_stays(places: Places) -> None:
    class ChangesTheInput(RedMasker):
        def detect(self, images: Iterable[RgbImage]) -> Iterator[tuple[tuple[Instance, ...], ...]]:
            write_image(places.input / "1.jpg", street(seed=9))
            return super().detect(images)

    write_image(places.input / "1.jpg", street())
    report = run(places, "delete_input=True", masker=ChangesTheInput())
    assert [(f.stage, f.reason[:15]) for f in report.failed] == [("delete", "the input stays")]
    assert (places.input / "1.jpg").exists()


def test_inputs_that_an_interrupted_run_left_are_deleted_by_the_next(places: Places) -> None:
    write_image(places.input / "a" / "1.jpg", street())
    run(places)
    report = run(places, "delete_input=True")
    assert len(report.skipped) == 1
    assert list(places.input.iterdir()) == []


def test_an_object_on_the_seam_of_a_360_image_is_one_and_hidden_on_both_sides(places: Places) -> None:
    picture = street((320, 160), cars=[Box(0, 60, 20, 100), Box(290, 60, 320, 100)])
    write_image(places.input / "1.jpg", picture)
    keys = ["use_cutouts=True", "cutout_dim_downscale=[1, 2]", "cutout_overlap=0.5", "cutout_step_factor=[160, 80]"]
    report = run(places, 'image_type="360"', *keys, "remote_mask=True")
    assert report.objects == {"car": 1}
    hidden = read_image(places.output / "1_mask.png")[..., 0] == 0
    assert hidden[60:100, :20].all()
    assert hidden[60:100, 290:].all()
    assert hidden.mean() < 0.06
    record = json.loads((places.output / "1.json").read_text("utf-8"))
    assert record["detekterte_objekter"] == {"car": "1"}


@pytest.mark.slow
def test_what_workers_warn_of_reaches_the_log_of_the_run(places: Places) -> None:
    """A worker waits for an archive that is gone; the warning comes back with the image when it is there again."""
    assert places.archive is not None
    archive, away = places.archive, places.archive.with_name("away")
    access = ["file_access_timeout_seconds=600", "file_access_retry_seconds=0.2"]

    class LosesTheShare(RedMasker):
        def detect(self, images: Iterable[RgbImage]) -> Iterator[tuple[tuple[Instance, ...], ...]]:
            archive.rename(away)
            threading.Timer(seconds, away.rename, [archive]).start()
            return super().detect(images)

    for seconds in (2, 10, 60):  # on a busy machine the worker may miss that the archive was away
        image = write_image(places.input / f"{seconds}.jpg", street()).name
        ran = Ran()
        workers = ProcessWorkers(1)
        try:
            workers.submit(int).result()
            ran.report = anonymise(settings("enable_async=True", *access), places, LosesTheShare(), workers, ran)
        finally:
            workers.close()
        assert [done.source.name for done in ran.done] == [image]
        assert (archive / image).is_file()
        if any(f"{archive} is out of reach" in note for note in ran.done[0].notes):
            return
    raise AssertionError("the worker never told that the archive was out of reach")
