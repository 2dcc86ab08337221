"""Check the JSON records below a folder against the record's format: ``{me} FOLDER``."""

import sys
from collections.abc import Sequence
from pathlib import Path

from anonymise.commands.arguments import parser
from anonymise.commands.guard import guarded
from anonymise.core.errors import ExitCode
from anonymise.core.plaintext import plural, printable

__all__ = ["main"]

_DESCRIPTION = (
    "Checks every record (.json, but not _instances.json) below FOLDER against the record's format; names each problem "
    "with file and key."
)

_EXAMPLES = """example:
  {me} published

exit codes: 0 all records are valid, 1 some are not, 2 there is nothing to check"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    arguments = parser("validate-json", _DESCRIPTION, _EXAMPLES)
    arguments.add_argument("folder", metavar="FOLDER", type=Path, help="folder with records, or a single record")
    args = arguments.parse_args(argv)
    return guarded(lambda: _validate(args.folder), prints_result=True)


def _validate(folder: Path) -> int:
    files = (
        [folder]
        if folder.is_file()
        else sorted(f for f in folder.rglob("*.json") if not f.name.endswith("_instances.json"))
    )
    if not files:
        reason = "has no .json files" if folder.is_dir() else "does not exist"
        print(f"{folder} {reason}. Give the folder that the records were written to.", file=sys.stderr)
        return ExitCode.USAGE
    failed = 0
    for file in files:
        problems = _problems_of_file(file)
        failed += bool(problems)
        for problem in problems:
            print(printable(f"{file}: {problem}"))
    n = len(files)
    print(f"{plural(n, 'record')}, {n - failed} valid, {failed} with problems", file=sys.stderr)
    return ExitCode.IMAGES_FAILED if failed else ExitCode.OK


def _problems_of_file(file: Path) -> tuple[str, ...]:
    from anonymise.metadata.record.schema import problems_of

    try:
        return problems_of(file.read_text(encoding="utf-8"))
    except OSError as error:
        return (f"cannot be read: {error.strerror}",)
    except UnicodeDecodeError:
        return ("is not UTF-8",)
