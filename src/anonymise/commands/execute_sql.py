"""Runs an SQL statement in the database and prints the rows that it gives.

All statements of one call are one transaction, except that Oracle commits with every CREATE and DROP. A block of PL/SQL
is one statement and ends at a line with a single slash.
"""

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from anonymise.commands.arguments import parser
from anonymise.commands.database import add_database_options, opened
from anonymise.commands.guard import guarded
from anonymise.core.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from anonymise.database.backend import ResultSet

_EXAMPLES = """examples:
  {me} "SELECT ID, Tidspunkt FROM VEGBILDER WHERE Vegnummer = 13"
  {me} --csv "SELECT * FROM VEGBILDER" > vegbilder.csv
  {me} -f changes.sql --many

exit codes: 0 done, 2 usage or configuration, 3 the database refuses or is away"""

_WIDEST_COLUMN = 60
"""Characters of a value that the table shows; --csv shows all."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    arguments = parser("execute-sql", __doc__ or "", _EXAMPLES)
    sql = arguments.add_mutually_exclusive_group(required=True)
    sql.add_argument("sql", nargs="?", metavar="SQL", help="the statement")
    sql.add_argument("-f", "--file", type=Path, metavar="FILE", help="read it from this file")
    arguments.add_argument("--many", action="store_true", help="allow more than one statement")
    arguments.add_argument("--csv", action="store_true", help="print rows as CSV instead of a table")
    arguments.add_argument("--dry-run", action="store_true", help="print the statements, and run nothing")
    add_database_options(arguments)
    args = arguments.parse_args(argv)
    return guarded(lambda: _execute(args), prints_result=True)


def _execute(args: argparse.Namespace) -> int:
    from anonymise.database.statements import split_statements

    statements = split_statements(args.sql if args.file is None else _text(args.file))
    if not statements:
        raise UsageError("there is no statement")
    if len(statements) > 1 and not args.many:
        raise UsageError(f"these are {len(statements)} statements; give --many to run them all")
    if args.dry_run:
        print(";\n".join(statements))
        return ExitCode.OK
    with opened(args) as client:
        results = client.execute(statements)
    for result in results:
        if result.columns:
            _print_csv(result) if args.csv else _print_table(result)
        else:
            print(f"{result.n_rows} rows changed" if result.n_rows >= 0 else "done", file=sys.stderr)
    return ExitCode.OK


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read: {error} (-f)") from None


def _print_csv(result: "ResultSet") -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(result.columns)
    writer.writerows([_shown(value) for value in row] for row in result.rows)


def _print_table(result: "ResultSet") -> None:
    rows = [[_line(_shown(value)) for value in row] for row in result.rows]
    widths = [max(map(len, column)) for column in zip(result.columns, *rows, strict=True)]
    for row in (result.columns, ["-" * width for width in widths], *rows):
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    print(f"{len(rows)} rows", file=sys.stderr)


def _shown(value: object) -> str:
    match value:
        case None:
            return ""
        case bytes() | bytearray() | memoryview():
            return bytes(value).hex()
        case date():
            return value.isoformat()
        case dict() | list():
            return json.dumps(value, ensure_ascii=False)
        case _:
            return str(value)


def _line(text: str) -> str:
    """A value in one line; control characters, which could play tricks on the terminal, as escapes."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return shown if len(shown) <= _WIDEST_COLUMN else shown[: _WIDEST_COLUMN - 1] + "…"
