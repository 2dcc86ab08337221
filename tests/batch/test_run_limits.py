"""What ends an image, and what ends a run: too much time for one, too many failures for the other."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from anonymise import config
from anonymise.batch import finishing, inputs
from anonymise.batch import loader as loading
from anonymise.batch import runs as pipeline
from anonymise.batch.inputs import check_inputs
from anonymise.batch.jobs import Job, JobOptions, finish, make_record
from anonymise.batch.journal import JournalReader, State
from anonymise.batch.paths import Paths, Places
from anonymise.batch.sharing import decode_into
from anonymise.batch.tasks import Work
from anonymise.batch.walker import TreeWalker
from anonymise.batch.workers import Executor, ProcessWorkers, SerialWorkers
from anonymise.config import Config
from tests.fakes import Ran, RedMasker, street, write_image

pytestmark = pytest.mark.slow

LIMIT = ["max_image_seconds=8", "file_access_timeout_seconds=0"]


def settings(*keys: str) -> Config:
    return config.load(overrides=["file_access_timeout_seconds=0", *keys])


def run(folder: Path, *keys: str, workers: Executor | None = None, reader: Executor | None = None) -> Ran:
    ran = Ran()
    places = Places(folder / "in", folder / "out")
    loaded = settings(f"enable_async={workers is not None}", *keys)
    ran.report = pipeline.anonymise(loaded, places, RedMasker(), workers or SerialWorkers(), ran, reader=reader)
    return ran


def in_state(folder: Path, state: State) -> set[str]:
    with JournalReader(folder / "out") as journal:
        return {entry.relative for entry in journal.entries(state)}


def broken(folder: Path, *names: str) -> None:
    (folder / "in").mkdir(exist_ok=True)
    for name in names:
        (folder / "in" / f"{name}.jpg").write_bytes(b"broken")


def good(folder: Path, *names: str) -> None:
    for seed, name in enumerate(names):
        write_image(folder / "in" / f"{name}.jpg", street(seed=seed))


@pytest.mark.parametrize("keys", [[], ["lazy_paths=True"]])
def test_every_failure_of_a_run_that_stops_is_noted_the_last_one_too(tmp_path: Path, keys: list[str]) -> None:
    broken(tmp_path, *"abcdefgh")
    ran = run(tmp_path, "max_failures_in_a_row=5", *keys)
    assert "5 images failed one after the other" in str(ran.stopped)
    failed = {failed.source.name for failed in ran.failed}
    assert len(failed) == 5
    assert in_state(tmp_path, State.FAILED) == failed
    notes = {path.name for path in (tmp_path / "out_error").glob("*_error.txt")}
    assert notes == {name.replace(".jpg", "_error.txt") for name in failed} or len(notes) == 5
    assert ran.report is not None
    assert ran.report.n_left == (None if keys else 3)


@pytest.mark.parametrize("keys", [[], ["lazy_paths=True"]])
def test_broken_images_at_the_front_do_not_keep_a_run_from_the_good_ones(tmp_path: Path, keys: list[str]) -> None:
    broken(tmp_path, *(f"a{n}" for n in range(8)))
    good(tmp_path, "b", "c")
    limit = "max_failures_in_a_row=5"
    first = run(tmp_path, limit, *keys)
    assert (first.stopped is not None, len(first.done)) == (True, 0)
    assert "start again" in str(first.stopped)
    second = run(tmp_path, limit, *keys)
    assert second.stopped is None
    assert {done.source.name for done in second.done} == {"b.jpg", "c.jpg"}
    assert len(second.failed) == 8
    third = run(tmp_path, limit, *keys)
    assert (third.stopped, len(third.skipped), len(third.failed)) == (None, 2, 8)

    broken(tmp_path, *(f"d{n}" for n in range(5)))  # these are news
    assert run(tmp_path, limit, *keys).stopped is not None
    assert run(tmp_path, limit, *keys).stopped is None


def test_images_that_the_main_job_failed_on_do_not_stop_the_other_jobs(tmp_path: Path) -> None:
    broken(tmp_path, *(f"a{n}" for n in range(8)))
    good(tmp_path, "b")
    run(tmp_path, "max_failures_in_a_row=null")
    loaded = settings("max_failures_in_a_row=5", "remote_preview=True", "enable_async=False")
    places = Places(tmp_path / "in", tmp_path / "out")
    for job in (pipeline.make_previews, pipeline.make_records):
        report = job(loaded, places, SerialWorkers())
        assert (report.stopped, report.n_done, len(report.failed)) == (None, 1, 8)


@contextmanager
def processes(n: int) -> Iterator[ProcessWorkers]:
    """Executor that have started, which on a busy machine may take longer than the limit."""
    with closing(ProcessWorkers(n)) as workers:
        workers.restart()
        yield workers


class Stuck:
    """Never comes back for one image."""

    def __init__(self, function: Callable[..., Any], name_of: Callable[..., str], name: str) -> None:
        self.function = function
        self.name_of = name_of
        self.name = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.name_of(*args) == self.name:
            time.sleep(3600)
        return self.function(*args, **kwargs)


def name_of_job(job: Job, _: JobOptions) -> str:
    return job.paths.relative.name


def name_of_paths(paths: Paths, _: JobOptions) -> str:
    return paths.relative.name


def name_of_file(path: Path, *_: object) -> str:
    return path.name


def in_worker(*args: Any) -> Any:
    return inputs.check_input(*args)  # there it is as it was


def width(shared: Any, *_: object) -> str:
    return str(shared.size.width)


def test_an_image_on_which_a_worker_is_stuck_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good(tmp_path, *"abcdefgh")
    monkeypatch.setattr(finishing, "finish", Stuck(finish, name_of_job, "c.jpg"))
    with processes(2) as workers, processes(1) as reader:
        ran = run(tmp_path, *LIMIT, workers=workers, reader=reader)
    assert [(failed.source.name, failed.reason) for failed in ran.failed] == [
        ("c.jpg", "it took longer than 8 s, so its process was ended (max_image_seconds)")
    ]
    assert len(ran.done) == 7
    assert in_state(tmp_path, State.FAILED) == {"c.jpg"}
    assert not list(tmp_path.rglob("*.part"))
    assert {path.stem for path in (tmp_path / "out").glob("*.jpg")} == set("abdefgh")


def test_an_image_on_which_the_decoder_is_stuck_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good(tmp_path, *"abd")
    write_image(tmp_path / "in" / "c.jpg", street((176, 120)))
    monkeypatch.setattr(loading, "decode_into", Stuck(decode_into, width, "176"))
    with processes(1) as workers, processes(1) as reader:
        ran = run(tmp_path, *LIMIT, workers=workers, reader=reader)
    assert [(failed.source.name, failed.stage) for failed in ran.failed] == [("c.jpg", "read")]
    assert "max_image_seconds" in ran.failed[0].reason
    assert len(ran.done) == 3


def test_the_time_limit_holds_for_records_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good(tmp_path, *"abc")
    monkeypatch.setattr(pipeline, "make_record", Stuck(make_record, name_of_paths, "b.jpg"))
    with processes(2) as workers:
        report = pipeline.make_records(settings(*LIMIT), Places(tmp_path / "in", tmp_path / "out"), workers)
    assert [failed.source.name for failed in report.failed] == ["b.jpg"]
    assert report.n_done == 2


def test_the_time_limit_holds_while_inputs_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good(tmp_path, *"abcd")
    monkeypatch.setattr("anonymise.batch.inputs.check_input", Stuck(in_worker, name_of_file, "b.jpg"))
    loaded = settings(*LIMIT)
    found = TreeWalker(Places(tmp_path / "in", tmp_path / "out"), loaded.files).walk()
    with processes(2) as workers:
        checked = list(
            check_inputs(found, workers, max_pixels=10**6, options=loaded.storage, seconds=loaded.seconds_per_image)
        )
    assert [image.path.name for image in checked if image.fault is not None] == ["b.jpg"]
    assert len(checked) == 4


def test_without_a_limit_nothing_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good(tmp_path, *"ab")
    monkeypatch.setattr(finishing, "finish", partial(_slowly, 1.0))
    with processes(1) as workers:
        ran = run(tmp_path, "max_image_seconds=null", workers=workers)
    assert len(ran.done) == 2


def _slowly(seconds: float, job: Job, options: JobOptions) -> Work:
    time.sleep(seconds)
    return finish(job, options)
