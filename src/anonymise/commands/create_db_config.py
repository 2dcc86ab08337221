"""Writes db_config.yml, which says where the database is.

It goes to ``config`` in the current folder where there is such a folder, else to the user's configuration folder, where
the other commands look for it.

The password is asked for, or comes from the environment variable ANONYMISE_DB_PASSWORD, and is encrypted with the key
in ANONYMISE_DB_KEY. It is never an argument: those can be seen by every user of the machine.
"""

import argparse
import getpass
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from anonymise.commands.arguments import parser
from anonymise.commands.guard import guarded
from anonymise.core.errors import ExitCode, UsageError

_EXAMPLES = """examples:
  {me} geopackage --file vegbilder.gpkg
  {me} --new-key                (keep it; then, in the shell: export ANONYMISE_DB_KEY=...)
  {me} postgis --host db.example --database vegbilder --user writer
  {me} oracle --host db.example --service VEGPDB --user SVV --no-password

exit codes: 0 the file is written, 2 usage or configuration"""

_SETTINGS = ("file", "host", "port", "database", "service", "user", "schema")


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """Runs the command; returns the exit code."""
    arguments = parser("create-db-config", __doc__ or "", _EXAMPLES)
    arguments.add_argument(
        "backend", nargs="?", choices=["geopackage", "postgis", "oracle"], help="what kind of database it is"
    )
    arguments.add_argument("--file", metavar="FILE.gpkg", help="geopackage: the file")
    arguments.add_argument("--host", help="postgis, oracle: name or address of the server")
    arguments.add_argument("--port", type=int, help="postgis: 5432 if not given; oracle: 1521")
    arguments.add_argument("--database", help="postgis: name of the database")
    arguments.add_argument("--service", help="oracle: name of the service")
    arguments.add_argument("--user", help="postgis, oracle: who logs in")
    arguments.add_argument("--schema", help="postgis, oracle: where the tables are, if not in the user's own schema")
    arguments.add_argument("--no-password", action="store_true", help="put none into the file")
    arguments.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="where to write it, instead of the usual place"
    )
    arguments.add_argument("--force", action="store_true", help="replace a file that is there")
    arguments.add_argument("--dry-run", action="store_true", help="check what is given, and write nothing")
    arguments.add_argument("--new-key", action="store_true", help="only print a fresh key for ANONYMISE_DB_KEY")
    args = arguments.parse_args(argv)
    return guarded(lambda: _create(args, environ))


def _create(args: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from anonymise.database.settings import FileSettings, encrypt, new_key, parse_settings, save_settings

    if args.new_key:
        print(new_key())
        return ExitCode.OK
    if args.backend is None:
        raise UsageError("which kind of database? Give geopackage, postgis or oracle")
    output = args.output or _usual_place()
    if output.exists() and not args.force:
        raise UsageError(f"{output} is there already; give --force to replace it, or -o for another file")
    given = {name: value for name in _SETTINGS if (value := getattr(args, name)) is not None}
    if args.file is not None:  # in the file, a relative path would begin at the file's folder
        given["file"] = str(Path(args.file).absolute())
    settings = parse_settings({"backend": args.backend, **given}, "arguments")
    if not isinstance(settings, FileSettings) and not args.no_password:
        settings = settings.model_copy(update={"encrypted_password": encrypt(_password(environ), environ)})
    if args.dry_run:
        print(f"would write {output}")
    else:
        if args.output is None:
            _make_folder(output.parent)
        save_settings(settings, output)
        print(f"wrote {output}")
    return ExitCode.OK


def _usual_place() -> Path:
    """The file that commands find; where there is none, one in the first folder that can be written to.

    Raises:
        UsageError: there is no such folder.
    """
    from anonymise.core.resources import CONFIG_FOLDER, IN_CHECKOUT, find_settings, writable_settings_folder

    found = find_settings("db_config.yml")
    if found is not None and (IN_CHECKOUT or found.parent != CONFIG_FOLDER):
        return found
    if (folder := writable_settings_folder()) is None:
        raise UsageError("there is no folder of settings to write to; make a folder named config here, or give -o")
    return folder / "db_config.yml"


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder} cannot be made: {error.strerror or error}; give -o for another file") from error


def _password(environ: Mapping[str, str]) -> str:
    from anonymise.database.settings import PASSWORD_VARIABLE

    if password := environ.get(PASSWORD_VARIABLE):
        return password
    if not sys.stdin.isatty():
        raise UsageError(
            f"there is no terminal to ask for the password; set {PASSWORD_VARIABLE}, or give --no-password"
        )
    password = getpass.getpass("Password: ")
    if not password or password != getpass.getpass("The same again: "):
        raise UsageError("the password is empty, or the two are not the same")
    return password
