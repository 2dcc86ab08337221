"""Writes the JSON records below a folder into the database, those of earlier programs too.

A record whose row is there already replaces it, so the same command may be run again. With --json-archive each record
moves there once its row is committed.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from anonymise.commands.arguments import add_allow_empty, add_config_options, parser
from anonymise.commands.database import add_database_options, opened
from anonymise.commands.guard import guarded
from anonymise.core.errors import ExitCode, ImageError, RecordError, UsageError
from anonymise.core.plaintext import printable

if TYPE_CHECKING:
    from anonymise.config import Config
    from anonymise.database.backend import Outcome
    from anonymise.database.client import DatabaseClient
    from anonymise.database.table import Table
    from anonymise.metadata.record import Record

    _Results = tuple[list[tuple["_Read", Outcome]], list[str]]
    """Records that make a row with what became of it, and why the others do not."""

_EXAMPLES = """examples:
  {me} -i published --table VEGBILDER
  {me} -i records --table VEGBILDER --json-archive written --set flip_wkt=True
  {me} -i records --table VEGBILDER --geopackage vegbilder.gpkg --dry-run

exit codes: 0 all records are in the database, 1 some are not, 2 usage or configuration, 3 the database refuses or is
away"""


class _Read(NamedTuple):
    path: Path
    data: bytes
    record: "Record"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    arguments = parser("json-to-db", __doc__ or "", _EXAMPLES)
    arguments.add_argument("-i", "--input-folder", type=Path, required=True, metavar="IN", help="folder with records")
    add_allow_empty(arguments, "records")
    arguments.add_argument("--table", metavar="TABLE", help="the table, instead of the configuration's table_name")
    arguments.add_argument(
        "--json-archive", type=Path, metavar="FOLDER", help="move written records here, into the same subfolders"
    )
    arguments.add_argument("--dry-run", action="store_true", help="only say which records make no row")
    add_config_options(arguments)
    add_database_options(arguments)
    args = arguments.parse_args(argv)
    return guarded(lambda: _write(args))


def _write(args: argparse.Namespace) -> int:
    from anonymise import config as configuration
    from anonymise.core.errors import DatabaseError
    from anonymise.database.backend import Outcome
    from anonymise.database.table import load_table

    config = configuration.load(args.config, args.set, has_archive=True)  # no run, so the keys about it do not matter
    name = args.table or config.record.table_name
    if name is None:
        raise UsageError("which table? Give --table, or table_name in the configuration")
    table = load_table(name)
    folder = args.input_folder.resolve()
    if not folder.is_dir():
        raise UsageError(f"{args.input_folder} is no folder (-i)")
    archive = None if args.json_archive is None else args.json_archive.resolve()
    if archive is not None and (archive.is_relative_to(folder) or folder.is_relative_to(archive)):
        raise UsageError("the folder of --json-archive must be apart from the one with the records (-i)")

    counts = dict.fromkeys(Outcome, 0)
    problems = 0
    batch_rows = config.database.db_max_n_accumulated_rows
    records = _read_all(folder)
    first = next(records, None)
    if first is None and not args.allow_empty:
        raise UsageError(f"there is no record (.json) below {folder} (-i); with --allow-empty that is no error")
    records = chain([] if first is None else [first], records)
    with opened(args, dry=args.dry_run) as client:
        while batch := list(islice(records, batch_rows)):
            good = [item for item in batch if isinstance(item, _Read)]
            failures = [item for item in batch if isinstance(item, str)]
            written, failed = (_try if args.dry_run else _send)(client, table, good, config)
            for item, outcome in written:
                counts[outcome] += 1
                if archive is not None and not args.dry_run and (problem := _move(item, folder, archive, config)):
                    problems += 1
                    print(printable(problem), file=sys.stderr)
            for failure in failures + failed:
                counts[Outcome.FAILED] += 1
                print(printable(failure), file=sys.stderr)
            if counts[Outcome.FAILED] >= config.database.db_max_n_errors:
                limit = config.database.db_max_n_errors
                raise DatabaseError(f"{counts[Outcome.FAILED]} records failed (db_max_n_errors: {limit})")
    if args.dry_run:
        print(f"{counts[Outcome.INSERTED]} records make a row, {counts[Outcome.FAILED]} do not; nothing was written")
    else:
        print(", ".join(f"{n} {outcome.value}" for outcome, n in counts.items()))
    return ExitCode.IMAGES_FAILED if problems or counts[Outcome.FAILED] else ExitCode.OK


def _read_all(folder: Path) -> "Iterator[_Read | str]":
    """The records below a folder, and in place of those that cannot be read, why."""
    from anonymise.metadata.record import loads

    for path in _record_files(folder):
        try:
            data = path.read_bytes()
            yield _Read(path, data, loads(data.decode("utf-8")))
        except OSError as error:
            yield f"{path}: cannot be read: {error.strerror}"
        except UnicodeDecodeError:
            yield f"{path}: is not UTF-8"
        except RecordError as error:
            yield f"{path}: {error}"


def _record_files(folder: Path) -> Iterator[Path]:
    """Every record, in a stable order; not what else is JSON: saved instances, notes of failures, hidden folders."""
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.endswith(".json") and not name.endswith(("_instances.json", "_error.json")):
                yield Path(root, name)


def _send(client: "DatabaseClient", table: "Table", batch: list[_Read], config: "Config") -> "_Results":
    from anonymise.database.backend import Outcome

    results = client.upsert(table, [item.record for item in batch], flip=config.record.flip_wkt)
    pairs = list(zip(batch, results, strict=True))
    return (
        [(item, result.outcome) for item, result in pairs if result.outcome is not Outcome.FAILED],
        [f"{item.path}: {result.reason}" for item, result in pairs if result.outcome is Outcome.FAILED],
    )


def _try(_: "DatabaseClient", table: "Table", batch: list[_Read], config: "Config") -> "_Results":
    from anonymise.database.backend import Outcome

    written, failed = [], []
    for item in batch:
        try:
            table.row(item.record, flip=config.record.flip_wkt)
        except RecordError as error:
            failed.append(f"{item.path}: {error}")
        else:
            written.append((item, Outcome.INSERTED))
    return written, failed


def _move(item: _Read, folder: Path, archive: Path, config: "Config") -> str | None:
    """Moves a record whose row is committed; returns what is wrong. Never over another record."""
    from anonymise.batch.originals import write_verified_copy
    from anonymise.batch.storage import prepare_root, sync_names

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
