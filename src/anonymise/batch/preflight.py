"""What can be known before the first image: everything that would otherwise fail image by image, named all at once.

Every command that runs over folders asks `problems` before it creates anything. Nothing here changes anything.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from anonymise.batch import runs as pipeline
from anonymise.batch.notify import read_email_account
from anonymise.batch.originals import check_archive
from anonymise.batch.paths import Paths, Places
from anonymise.batch.walker import TreeWalker, WalkProblem
from anonymise.config import Config, FileKind, Place
from anonymise.core.errors import AnonymiseError, CannotStart, ConfigError, ModelError, RecordError
from anonymise.core.resources import command_line, find_settings
from anonymise.corrections.store import Store
from anonymise.database.settings import GeoPackageSettings, load_settings, password_for
from anonymise.database.table import load_table
from anonymise.metadata import record
from anonymise.models.selection import select
from anonymise.redaction.static import StaticMask

__all__ = ["JobKind", "check_models", "no_image", "problems"]

JobKind = Literal["anonymise", "redraw", "previews", "records"]


@dataclass(frozen=True, slots=True)
class _Job:
    """What the checks look at.

    Attributes:
        config: the configuration.
        places: the folders of the run; None if they make no sense together.
        kind: what the command does.
        allow_empty: whether an input folder without images is as it should be.
        create_archive: whether the operator says that the archive is new.
        is_attended: whether somebody sits at the terminal, who can be asked for a password.
        environment: the environment variables.
    """

    config: Config
    places: Places | None
    kind: JobKind
    allow_empty: bool
    create_archive: bool
    is_attended: bool
    environment: Mapping[str, str]


def problems(
    config: Config,
    places: Places | None,
    kind: JobKind,
    *,
    allow_empty: bool = False,
    create_archive: bool = False,
    is_attended: bool = False,
    environment: Mapping[str, str] = os.environ,
) -> list[str]:
    """Everything that keeps a run from succeeding and that can be known before it starts, a line each.

    Args:
        config: the configuration.
        places: the folders of the run; None leaves out what concerns them.
        kind: what the command does.
        allow_empty: whether an input folder without images is as it should be.
        create_archive: whether the operator says that the archive is new.
        is_attended: whether somebody can be asked for a password.
        environment: the environment variables.
    """
    job = _Job(config, places, kind, allow_empty, create_archive, is_attended, environment)
    found: dict[str, None] = {}
    for kinds, check in _CHECKS:
        if kind in kinds:
            try:
                found |= dict.fromkeys(check(job))
            except ConfigError as error:
                found |= dict.fromkeys(error.problems)
            except AnonymiseError as error:
                found[str(error)] = None
    return list(found)


def _files_to_write(job: _Job) -> Iterator[str]:
    """Commands for one kind of file, when no key asks for it."""
    if job.kind == "previews" and not _wants(job, FileKind.PREVIEW):
        yield (
            "nothing would be written: none of remote_preview, local_preview, archive_preview and "
            "separate_preview_directory is on; for example --set remote_preview=True"
        )
    if job.kind == "records" and not _wants(job, FileKind.JSON):
        yield "nothing would be written: none of remote_json, local_json and archive_json is on"


def _wants(job: _Job, kind: FileKind) -> bool:
    return any(job.config.files.wants(kind, place) for place in Place)


def _models(job: _Job) -> Iterator[str]:
    for model in select(job.config.model).models:  # raises what is wrong with names
        if model.entry is None and not any((model.folder / name).is_file() for name in _SAVED_MODEL):
            yield f"model_type {model.name!r}: the folder holds no SavedModel ({' or '.join(_SAVED_MODEL)})"


_SAVED_MODEL = ("saved_model.pb", "saved_model.pbtxt")


def check_models(config: Config) -> None:
    """For commands that ask for a model without being a run over folders.

    Raises:
        CannotStart: there is no such model.
    """
    try:
        select(config.model)
    except ModelError as error:
        raise CannotStart([str(error)]) from error


def _static_mask(job: _Job) -> Iterator[str]:
    mask = StaticMask.of_options(job.config.static_mask, job.config.images.max_decoded_pixels)
    if job.places is not None:
        pipeline.check_static_mask(mask, job.places, job.config.files, job.config.storage)  # raises what is wrong
    yield from ()


def _corrections(job: _Job) -> Iterator[str]:
    if job.config.run.corrections is not None:
        with Store(Path(job.config.run.corrections)) as store:  # raises what is wrong
            store.check()
    yield from ()


def _position_sidecar(job: _Job) -> Iterator[str]:
    record.read_sidecar(job.config.record)  # raises what is wrong
    yield from ()


def _email(job: _Job) -> Iterator[str]:
    if job.config.email.any_enabled:
        read_email_account(find_settings("email_config.yml"), job.environment)  # raises what is wrong
    yield from ()


def _table(job: _Job) -> Iterator[str]:
    """The table that records must fit: what it insists on and only the configuration gives."""
    options = job.config.record
    if options.table_name is None:
        return
    table = load_table(options.table_name)
    table.required_keys(options.table_primary_key)  # raises what is wrong with the key
    values = record.configured_values(options, job.config.changed)
    if not _wants(job, FileKind.PREVIEW):
        values["exif_filnavn_preview"] = "", "remote_preview, or another key for previews"
    for column in table.columns:
        if column.formatter in values:
            value, key = values[column.formatter]
            try:
                column.value({column.formatter: value})
            except RecordError as error:
                reason = f"the column {error}" if value else f"the column {column.name} must have a value"
                yield f"table_name is {table.name}: {reason}, which only the configuration gives: set {key}"


def _database(job: _Job) -> Iterator[str]:
    """Where the database is and how to log in; whether it is there is not asked, as a run waits for it."""
    if job.config.database.write_exif_to_db and (file := find_settings("db_config.yml")) is not None:
        ask: Callable[[str], str] | None = (lambda _: "asked for later") if job.is_attended else None
        settings = load_settings(file)
        password_for(settings, job.environment, ask)
        if isinstance(settings, GeoPackageSettings) and settings.file.parent.is_dir() and not settings.file.exists():
            yield f"there is no GeoPackage {settings.file}; make it with: {command_line('create-table')}"


def _archive(job: _Job) -> Iterator[str]:
    if job.places is not None and job.places.archive is not None:
        check_archive(job.places.archive, create=job.create_archive)  # raises what is wrong
    yield from ()


def _images(job: _Job) -> Iterator[str]:
    """Whether there is anything to do at all; an input that could not be looked into is the run's to report."""
    if job.places is None or job.allow_empty or job.places.only is not None:
        return
    walker = TreeWalker(replace(job.places, shard=None), job.config.files)  # a shard may have none
    if not any(isinstance(item, Paths) or item.hides_images for item in walker.walk()):
        yield no_image(walker)


def no_image(walker: TreeWalker) -> str:
    """What to say where a walk found no image."""
    left_out = ", ".join(f"{n} {suffix}" for suffix, n in walker.left_out.most_common())
    others = f" There are other files: {left_out} (key image_extensions)." if left_out else ""
    own = f" Previews and masks, which are passed over: {walker.n_passed_over}." if walker.n_passed_over else ""
    return (
        f"there is no image in {walker.root} (-i).{others}{own} Is it the right folder, and is the share there? With "
        "--allow-empty that is no error"
    )


def _earlier_results(job: _Job) -> Iterator[str]:
    """What previews are cut from, and what is drawn again, where not a single image has it."""
    if job.places is None:
        return

    def has(paths: Paths) -> bool:
        if job.kind == "previews":
            return paths.output_image.is_file()
        file = paths.file(FileKind.INSTANCES, Place.LOCAL)
        return file is not None and file.is_file()

    n_images = 0
    for item in TreeWalker(replace(job.places, shard=None), job.config.files).walk():
        if isinstance(item, WalkProblem) or has(item):
            return
        n_images += 1
    if not n_images:
        return
    if job.kind == "previews":
        yield f"there is no anonymised image in {job.places.output} (-o) to cut a preview from; anonymise first"
    else:
        yield (
            f"there is no file *_instances.json next to the images in {job.places.input} (-i); anonymise with "
            "archive_instances: True first, and give its archive as the input"
        )


_ALL: frozenset[JobKind] = frozenset({"anonymise", "redraw", "previews", "records"})
_WITH_PIXELS: frozenset[JobKind] = frozenset({"anonymise", "redraw"})
_WITH_RECORDS: frozenset[JobKind] = _WITH_PIXELS | {"records"}

_CHECKS: tuple[tuple[frozenset[JobKind], Callable[[_Job], Iterator[str]]], ...] = (
    (frozenset({"previews", "records"}), _files_to_write),
    (frozenset({"anonymise"}), _models),
    (_WITH_PIXELS, _static_mask),
    (_WITH_PIXELS, _corrections),
    (_WITH_RECORDS, _position_sidecar),
    (_ALL, _email),
    (_WITH_RECORDS, _table),
    (_WITH_PIXELS, _database),
    (_ALL, _archive),
    (_ALL, _images),
    (frozenset({"previews", "redraw"}), _earlier_results),
)
"""Which jobs a check concerns, and the check: it yields problems, or raises the error that the run would meet."""
