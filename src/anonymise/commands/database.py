"""What the commands about the database share; no command."""

import argparse
import getpass
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from anonymise.core.resources import find_settings

if TYPE_CHECKING:
    from anonymise.database.backend import Statement
    from anonymise.database.client import DatabaseClient
    from anonymise.database.table import Table

__all__ = ["add_database_options", "add_table_options", "named_table", "opened", "show"]


def add_database_options(to: argparse.ArgumentParser) -> None:
    """The options that name the database."""
    which = to.add_argument_group("database").add_mutually_exclusive_group()
    which.add_argument(
        "--db-config",
        type=Path,
        metavar="FILE",
        help="where the database is, instead of the db_config.yml that is found",
    )
    which.add_argument("--geopackage", type=Path, metavar="FILE.gpkg", help="use this GeoPackage instead")


def add_table_options(to: argparse.ArgumentParser) -> None:
    """The options that name the table."""
    to.add_argument("table", metavar="TABLE", help="the table, described in <TABLE>.yml, such as VEGBILDER")
    to.add_argument(
        "--table-folder",
        type=Path,
        metavar="FOLDER",
        help="where table files are, instead of the folders db_tables that are found",
    )
    to.add_argument("--dry-run", action="store_true", help="show the SQL, and change nothing")


def named_table(args: argparse.Namespace) -> "Table":
    """The table that the arguments name.

    Raises:
        ConfigError: there is none, or its file is not valid.
    """
    from anonymise.database.table import load_table

    return load_table(args.table, args.table_folder)


def opened(args: argparse.Namespace, *, dry: bool = False, environ: Mapping[str, str] = os.environ) -> "DatabaseClient":
    """A client of the database that the arguments name.

    Args:
        args: with the options of `add_database_options`.
        dry: whether it is never to connect, so that no password is needed.
        environ: the environment, which may hold the password or its key.

    Raises:
        ConfigError: the database's configuration is missing or not valid.
    """
    from anonymise.database.client import connect
    from anonymise.database.settings import GeoPackageSettings, load_settings, password_for

    if args.geopackage is not None:
        return connect(GeoPackageSettings(backend="geopackage", file=args.geopackage), None)
    settings = load_settings(args.db_config or find_settings("db_config.yml"))
    ask = getpass.getpass if sys.stdin.isatty() else None
    return connect(settings, None if dry else password_for(settings, environ, ask))


def show(statements: "Iterable[Statement]") -> None:
    """Prints SQL, with the values that would be bound."""
    for sql, values in statements:
        print(f"{sql};")
        if values:
            print(f"-- with {', '.join(map(repr, values))}")
