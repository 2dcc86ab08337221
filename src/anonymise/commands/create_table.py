"""Makes a table in the database as its table file says, with geometry metadata and spatial indexes."""

import argparse
from collections.abc import Sequence

from anonymise.commands.arguments import parser
from anonymise.commands.database import add_database_options, add_table_options, named_table, opened, show
from anonymise.commands.guard import guarded
from anonymise.core.errors import ExitCode

_EXAMPLES = """examples:
  {me} VEGBILDER
  {me} VEGBILDER --geopackage vegbilder.gpkg
  {me} VEGBILDER --dry-run

exit codes: 0 the table is made, 2 usage or configuration, 3 the database refuses or is away"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    arguments = parser("create-table", __doc__ or "", _EXAMPLES)
    add_table_options(arguments)
    add_database_options(arguments)
    args = arguments.parse_args(argv)
    return guarded(lambda: _create(args))


def _create(args: argparse.Namespace) -> int:
    table = named_table(args)
    with opened(args, dry=args.dry_run) as client:
        if args.dry_run:
            show(client.create_statements(table))
        else:
            client.create_table(table)
            print(f"Made the table {table.name} with {len(table.columns)} columns.")
    return ExitCode.OK
