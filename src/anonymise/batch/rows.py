"""The JSON records below a folder → rows of the database; written records may move to a folder of their own."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from anonymise.batch.originals import write_verified_copy
from anonymise.batch.storage import prepare_root, sync_names
from anonymise.config import Config
from anonymise.core.errors import DatabaseError, ImageError, RecordError, UsageError
from anonymise.database.backend import Outcome, RowResult
from anonymise.database.client import DatabaseClient
from anonymise.database.table import Table
from anonymise.metadata.record import Record, loads

__all__ = ["Written", "record_files", "write_rows"]


class Written(NamedTuple):
    """What became of the records.

    Attributes:
        counts: outcome → number of records.
        n_stayed: number of records with a row that could not be moved.
    """

    counts: Mapping[Outcome, int]
    n_stayed: int


class _Read(NamedTuple):
    path: Path
    data: bytes
    record: Record


def write_rows(
    folder: Path,
    table: Table,
    client: DatabaseClient | None,
    config: Config,
    complain: Callable[[str], None],
    *,
    archive: Path | None = None,
) -> Written:
    """Writes a row for each record, or replaces the one that is there.

    Args:
        folder: folder with the records, in its subfolders too.
        table: the table that the rows go to.
        client: the database; None only tries which records make a row, and moves none.
        config: how many rows make a batch, and how many may fail.
        complain: takes a line about each record that makes no row or cannot be moved.
        archive: folder that records move to once their row is committed; None leaves them where they are.

    Raises:
        UsageError: one of the two folders lies in the other.
        DatabaseError: the database refuses or is away, or too many records failed.
    """
    options = config.database
    folder, archive = folder.resolve(), None if archive is None else archive.resolve()
    if archive is not None and (archive.is_relative_to(folder) or folder.is_relative_to(archive)):
        raise UsageError("the folder of --json-archive must be apart from the one with the records (-i)")
    records = _read_all(folder)
    counts, n_stayed = Counter(dict.fromkeys(Outcome, 0)), 0
    while batch := list(islice(records, options.db_max_n_accumulated_rows)):
        good = [item for item in batch if isinstance(item, _Read)]
        for failure in (item for item in batch if isinstance(item, str)):
            counts[Outcome.FAILED] += 1
            complain(failure)
        for item, result in zip(good, _results(good, table, client, flip=config.record.flip_wkt), strict=True):
            counts[result.outcome] += 1
            if result.outcome is Outcome.FAILED:
                complain(f"{item.path}: {result.reason}")
            elif client is not None and archive is not None and (problem := _move(item, folder, archive, config)):
                n_stayed += 1
                complain(problem)
        if counts[Outcome.FAILED] >= options.db_max_n_errors:
            raise DatabaseError(f"{counts[Outcome.FAILED]} records failed (db_max_n_errors: {options.db_max_n_errors})")
    return Written(counts, n_stayed)


def record_files(folder: Path) -> Iterator[Path]:
    """Every record below a folder, in a stable order; no saved instances, notes of failures or hidden folders."""
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.endswith(".json") and not name.endswith(("_instances.json", "_error.json")):
                yield Path(root, name)


def _read_all(folder: Path) -> Iterator[_Read | str]:
    """The records below a folder, and in place of those that cannot be read, why."""
    for path in record_files(folder):
        try:
            data = path.read_bytes()
            yield _Read(path, data, loads(data.decode("utf-8")))
        except OSError as error:
            yield f"{path}: cannot be read: {error.strerror}"
        except UnicodeDecodeError:
            yield f"{path}: is not UTF-8"
        except RecordError as error:
            yield f"{path}: {error}"


def _results(batch: list[_Read], table: Table, client: DatabaseClient | None, *, flip: bool) -> list[RowResult]:
    if client is not None:
        return client.upsert(table, [item.record for item in batch], flip=flip)
    results = []
    for item in batch:
        try:
            table.row(item.record, flip=flip)
            results.append(RowResult(Outcome.INSERTED))
        except RecordError as error:
            results.append(RowResult(Outcome.FAILED, str(error)))
    return results


def _move(item: _Read, folder: Path, archive: Path, config: Config) -> str | None:
    """Moves a record whose row is committed; returns what is wrong. Never over another record."""
    target = archive / item.path.relative_to(folder)
    try:
        if target.exists() and target.read_bytes() != item.data:
            return f"{item.path}: its row is written, but it stays: {target} is another record"
        prepare_root(archive)
        write_verified_copy(target, item.data, archive, config.storage, source=item.path)
        sync_names([target])
        if item.path.read_bytes() != item.data:
            return f"{item.path}: its row is written, but it stays: it has changed meanwhile"
        item.path.unlink()
    except ImageError as error:
        return f"{item.path}: its row is written, but it stays: {error}"
    except OSError as error:
        return f"{item.path}: its row is written, but it cannot be moved: {error.strerror or error}"
    return None
