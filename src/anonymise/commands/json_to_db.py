"""Writes the JSON records below a folder into the database, those of earlier programs too.

A record whose row is there already replaces it, so the same command may be run again. With --json-archive each record
moves there once its row is committed.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from anonymise.commands.arguments import add_allow_empty, add_config_options, parser
from anonymise.commands.database import add_database_options, opened
from anonymise.commands.guard import guarded
from anonymise.core.errors import ExitCode, UsageError
from anonymise.core.plaintext import printable

_EXAMPLES = """examples:
  {me} -i published --table VEGBILDER
  {me} -i records --table VEGBILDER --json-archive written --set flip_wkt=True
  {me} -i records --table VEGBILDER --geopackage vegbilder.gpkg --dry-run

exit codes: 0 all records are in the database, 1 some are not, 2 usage or configuration, 3 the database refuses or is
away"""


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
    from anonymise.batch.rows import record_files, write_rows
    from anonymise.database.backend import Outcome
    from anonymise.database.table import load_table

    config = configuration.load(args.config, args.set, has_archive=True)  # no run, so the keys about it do not matter
    name = args.table or config.record.table_name
    if name is None:
        raise UsageError("which table? Give --table, or table_name in the configuration")
    table = load_table(name)
    folder, archive = args.input_folder, args.json_archive
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder (-i)")
    if not args.allow_empty and next(record_files(folder), None) is None:
        raise UsageError(f"there is no record (.json) below {folder} (-i); with --allow-empty that is no error")

    def complain(problem: str) -> None:
        print(printable(problem), file=sys.stderr)

    with opened(args, dry=args.dry_run) as client:
        target = None if args.dry_run else client
        counts, n_stayed = write_rows(folder, table, target, config, complain, archive=archive)
    if args.dry_run:
        print(f"{counts[Outcome.INSERTED]} records make a row, {counts[Outcome.FAILED]} do not; nothing was written")
    else:
        print(", ".join(f"{n} {outcome.value}" for outcome, n in counts.items()))
    return ExitCode.IMAGES_FAILED if n_stayed or counts[Outcome.FAILED] else ExitCode.OK
