"""What a folder run needs around it, for commands and for programs: checks, lock, processes, database, model."""

import contextlib
import os
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from os import PathLike
from pathlib import Path

from anonymise.batch import preflight, runs
from anonymise.batch.chosen import names_in
from anonymise.batch.outcomes import Outcome, Progress, Report
from anonymise.batch.paths import Places
from anonymise.batch.runlock import RunLock, run_lock
from anonymise.batch.storage import clear_temporary_files, prepare
from anonymise.batch.workers import Executor, SerialWorkers, new_workers
from anonymise.config import Config
from anonymise.core.errors import CannotStart
from anonymise.core.resources import find_settings
from anonymise.database.client import connect
from anonymise.database.sender import Sender
from anonymise.database.settings import GeoPackageSettings, load_settings, password_for
from anonymise.database.table import load_table
from anonymise.models import Masker, load_masker

__all__ = ["anonymise", "database_sender", "redraw", "run_folder", "watched", "workers_for"]


def run_folder(
    config: Config,
    input: str | PathLike[str],  # noqa: A002 - as the command line calls it
    output: str | PathLike[str],
    archive: str | PathLike[str] | None = None,
    *,
    progress: Progress | None = None,
    model: Masker | None = None,
    create_archive: bool = False,
    only: Collection[str] | None = None,
) -> Report:
    """The main job over a folder: everything that ``anonymise -i INPUT -o OUTPUT`` does, but for log, mails and prints.

    Finished images are skipped; the journal in ``OUTPUT/.anonymise`` knows them. One run works on an output folder at a
    time. Worker processes import the caller's main module, so a script calls this below ``if __name__ == "__main__":``.

    Args:
        config: configuration, as `load_config` gives it.
        input: folder with images.
        output: folder that results go to, in the same subfolders; it is made.
        archive: folder that untouched originals are copied to; None copies none.
        progress: observer of the run, called from this thread; None is told nothing.
        model: the model; None loads the one that the configuration names.
        create_archive: whether an archive folder may be made that is not there.
        only: paths of the images that are done, below the input folder, with ``/``; None does all.

    Returns:
        What was done, and what failed and why. A run that stopped early says so in `Report.stopped`.

    Raises:
        UsageError: something is wrong that can be known before the first image, all of it at once, or another run
            works on the folder.
        StorageError: a folder cannot be written to.
        ModelError: the model is not available.
    """
    places = Places.of(Path(input), Path(output), None if archive is None else Path(archive), config.files)
    if only is not None:
        places = replace(places, only=names_in("\n".join(only), "only"))
    if found := preflight.problems(config, places, "anonymise", create_archive=create_archive):
        raise CannotStart(found)
    prepare(places, config.files)
    with run_lock(places.output) as lock, workers_for(config) as workers:
        clear_temporary_files((places.input, *places.results))
        masker = model or load_masker(config.model, progress=False)
        return anonymise(config, places, workers, watched(progress or Progress(), lock), model=masker)


def anonymise(
    config: Config,
    places: Places,
    workers: Executor,
    progress: Progress,
    *,
    model: Masker | None = None,
    ask: Callable[[str], str] | None = None,
) -> Report:
    """The main job on folders that are prepared and locked: opens the database and loads the model.

    Args:
        config: the configuration.
        places: the folders.
        workers: what does the work after the model.
        progress: observer of the run.
        model: the model; None loads the one that the configuration names.
        ask: as `database_sender` takes it.
    """
    with database_sender(config, places, ask) as sender, _new_reader(config) as reader:
        masker = model or load_masker(config.model, progress=sys.stderr is not None and sys.stderr.isatty())
        return runs.anonymise(config, places, masker, workers, progress, sender, reader)


def redraw(
    config: Config, places: Places, workers: Executor, progress: Progress, *, ask: Callable[[str], str] | None = None
) -> Report:
    """The main job with what an earlier run found. The arguments are those of `anonymise`."""
    with database_sender(config, places, ask) as sender, _new_reader(config) as reader:
        return runs.redraw(config, places, workers, progress, sender, reader)


def watched(progress: Progress, lock: RunLock) -> Progress:
    """An observer that also looks after each image whether the run still holds its lock."""
    return _Watched(progress, lock.check)


class _Watched(Progress):
    """Passes everything on, and looks after each image whether the run still holds its lock."""

    def __init__(self, progress: Progress, check_lock: Callable[[], None]) -> None:
        self._progress = progress
        self._check_lock = check_lock

    def wants_to_stop(self) -> bool:
        return self._progress.wants_to_stop()

    def found(self, n_images: int) -> None:
        self._progress.found(n_images)

    def finished(self, outcome: Outcome) -> None:
        self._check_lock()
        self._progress.finished(outcome)

    def changed(self, outcome: Outcome) -> None:
        self._progress.changed(outcome)

    def ended(self) -> None:
        self._progress.ended()


@contextlib.contextmanager
def workers_for(config: Config) -> Iterator[Executor]:
    """What does the work after the model: other processes, or this one with ``enable_async: False``."""
    run = config.run
    workers = new_workers(run.max_num_async_workers) if run.enable_async else SerialWorkers()
    with contextlib.closing(workers):
        yield workers


@contextlib.contextmanager
def _new_reader(config: Config) -> Iterator[Executor | None]:
    """A process that decodes images; None if everything is to be done in this one."""
    if not config.run.enable_async:
        yield None
        return
    with contextlib.closing(new_workers(1)) as reader:
        yield reader


@contextlib.contextmanager
def database_sender(config: Config, places: Places, ask: Callable[[str], str] | None = None) -> Iterator[Sender | None]:
    """What sends rows to the operator's database, or to a GeoPackage next to the results; None where none are sent.

    Args:
        config: the configuration.
        places: the folders.
        ask: asks somebody for a password, given a prompt; None where nobody can be asked.

    Raises:
        ConfigError: the database's or the table's configuration is not valid.
    """
    if not config.database.write_exif_to_db or config.record.table_name is None:
        yield None
        return
    table = load_table(config.record.table_name)
    if (file := find_settings("db_config.yml")) is not None:
        settings = load_settings(file)
        client = connect(settings, password_for(settings, os.environ, ask))
    else:
        client = connect(
            GeoPackageSettings(backend="geopackage", file=places.output / f"{config.record.table_name}.gpkg"), None
        )
        if not client.has_table(table):
            client.create_table(table)
    with contextlib.closing(client):
        yield Sender(client, table, config.database, flip=config.record.flip_wkt)
