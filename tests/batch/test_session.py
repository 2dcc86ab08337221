"""What a run needs around it: its lock is looked after while it works."""

import json
import time
from dataclasses import asdict, replace
from pathlib import Path

from anonymise import config
from anonymise.batch import session
from anonymise.batch.outcomes import Done, Outcome, Progress
from anonymise.batch.paths import Places
from anonymise.batch.runlock import RunLock, lock_file, read_holder, run_lock
from anonymise.batch.storage import prepare
from anonymise.batch.workers import SerialWorkers
from anonymise.core.errors import StorageError
from tests.fakes import RedMasker, street, write_image


class Usurped(Progress):
    """Another run takes the output folder over when the first image is done."""

    def __init__(self, output: Path, lock: RunLock) -> None:
        self._output = output
        self._lock = lock
        self.done: list[str] = []

    def finished(self, outcome: Outcome) -> None:
        assert isinstance(outcome, Done)
        self.done.append(outcome.source.name)
        usurper = replace(self._lock.holder, host="elsewhere", token="another")
        lock_file(self._output).write_text(json.dumps(asdict(usurper)), "ascii")
        for _ in range(1000):
            time.sleep(0.01)
            try:
                self._lock.check()
            except StorageError:
                return


def test_a_run_stops_when_another_takes_its_folder_over(tmp_path: Path) -> None:
    for n in range(4):
        write_image(tmp_path / "in" / f"{n}.jpg", street())
    settings = config.load(overrides=["enable_async=False"])
    places = Places.of(tmp_path / "in", tmp_path / "out", None, settings.files)
    prepare(places, settings.files)
    with run_lock(places.output, heartbeat_seconds=0.02) as lock:
        progress = Usurped(places.output, lock)
        report = session.anonymise(
            settings, places, SerialWorkers(), session.watched(progress, lock), model=RedMasker()
        )
    assert isinstance(report.stopped, StorageError)
    assert "elsewhere" in str(report.stopped)
    assert len(progress.done) == 1  # whichever was decoded first
    holder = read_holder(places.output)
    assert holder is not None
    assert holder.token == "another"
