"""Enters what the database must know of a table's geometry columns: coordinate system, bounds, spatial indexes.

Needed after a table was made by other means than create-table, or after its table file's spatial_metadata were
changed. In Oracle these are the rows of MDSYS.USER_SDO_GEOM_METADATA, in a GeoPackage its layers; PostGIS keeps them
in the columns' types.
"""

import argparse
from collections.abc import Sequence

from anonymise.commands.arguments import parser
from anonymise.commands.database import add_database_options, add_table_options, named_table, opened, show
from anonymise.commands.guard import guarded
from anonymise.core.errors import ExitCode, UsageError

_EXAMPLES = """examples:
  {me} VEGBILDER --insert --create
  {me} VEGBILDER --drop --insert --create     (all of it again)

exit codes: 0 done, 2 usage or configuration, 3 the database refuses or is away"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    arguments = parser("insert-geom-metadata", __doc__ or "", _EXAMPLES)
    add_table_options(arguments)
    actions = arguments.add_argument_group("what is done, in this order")
    actions.add_argument("--drop", action="store_true", help="remove the spatial indexes and the metadata")
    actions.add_argument("--insert", action="store_true", help="enter the metadata of the table file")
    actions.add_argument("--create", action="store_true", help="make the spatial indexes, which need the metadata")
    add_database_options(arguments)
    args = arguments.parse_args(argv)
    return guarded(lambda: _change(args))


def _change(args: argparse.Namespace) -> int:
    from anonymise.database.backend import GeometryAction

    actions = [action for action in GeometryAction if getattr(args, action.value)]
    if not actions:
        raise UsageError("say what to do: --drop, --insert, --create, or several of them")
    table = named_table(args)
    with opened(args, dry=args.dry_run) as client:
        if args.dry_run:
            show(statement for action in actions for statement in client.geometry_statements(table, action))
        else:
            client.change_geometry_metadata(table, actions)
            columns = ", ".join(column.name for column in table.geometry_columns) or "none"
            print(f"Done ({', '.join(action.value for action in actions)}) for the geometry columns: {columns}.")
    return ExitCode.OK
