"""``anonymise``: the table of its commands, and the main job, which needs no name.

Importing this loads nothing heavy, so that ``--help`` answers at once.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from types import MappingProxyType

from anonymise.commands.arguments import add_run_options, parser
from anonymise.commands.execution import anonymise_command, execute, execute_on_cluster, preview_command
from anonymise.commands.guard import guarded
from anonymise.core.errors import UsageError
from anonymise.core.plaintext import did_you_mean

__all__ = ["COMMANDS", "main"]

COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "check-images": "find input images that cannot be read, before a run does",
        "check-folders": "count the files of every image, and name what is missing, failed, stray or stale",
        "create-preview": "cut the previews again from the anonymised images",
        "create-json": "write the JSON records only, without looking at the pixels",
        "anonymise-old": "the main job for archives of images from before 2022",
        "redraw": "draw again from the archive, with another appearance or new corrections, without the model",
        "corrections": "keep what people and other systems say must be hidden, or need not be",
        "reports": "take in what the public reports, and say what became of it",
        "regions": "take in regions that other systems found, and hand out ours",
        "serve": "anonymise pictures over HTTP",
        "evaluate": "measure what is found, hidden and missed against annotated images",
        "review": "look at what was published in the browser, say what was missed, and count it",
        "sheet": "write a contact sheet of what was published, the doubtful pictures first; needs no server",
        "validate-json": "check records against their schema",
        "fetch-models": "fetch models before they are needed",
        "create-db-config": "write db_config.yml, which says where the database is",
        "create-table": "make a table in the database as its table file says",
        "insert-geom-metadata": "enter what the database must know of a table's geometry columns",
        "json-to-db": "write records into the database",
        "execute-sql": "run an SQL statement in the database",
    }
)
"""Name of a command → what it does. The command is ``main`` of the module of that name in this package."""

_EXAMPLES = """examples:
  anonymise what lies in photos, with the small model that needs no other download:
      {main} -i photos -o published -k {config}lite_config.yml
  keep the untouched originals in an archive, and a log of the run:
      {main} -i photos -o published -a originals --create-archive -l logs
  another blur, just this once:
      {main} -i photos -o published --set blur=30 --set remote_preview=True

commands, each with --help of its own ({main} COMMAND ...):
{commands}

exit codes: 0 all images done, 1 some images failed, 2 usage or configuration (nothing was done), 3 stopped (model or
disk), 70 a fault of the program, 130 interrupted"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs ``anonymise``: a command where the first argument names one, else the main job; returns the exit code."""
    given = sys.argv[1:] if argv is None else list(argv)
    if given and not given[0].startswith("-"):
        return _named(given[0], given[1:])
    arguments = parser(
        None,
        "Finds people and vehicles in a folder of street images and 360° panoramas, hides them beyond recovery, and "
        "writes the anonymised images, previews and a JSON record of each.",
        _EXAMPLES.replace("{commands}", "\n".join(f"  {name:21} {does}" for name, does in COMMANDS.items())),
    )
    add_run_options(arguments)
    arguments.add_argument(
        "-p",
        "--preview_only",
        "--preview-only",
        action="store_true",
        help="only cut the previews again, from the anonymised images that are in OUT",
    )
    many = arguments.add_argument_group("many machines (docs/cluster.md)")
    many.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="let the workers of a Dask cluster do the images: tls://HOST:PORT, tcp://HOST:PORT, or local:N for N "
        "processes here",
    )
    many.add_argument("--trust-network", action="store_true", help="allow tcp:// also to a public address")
    arguments.add_argument("--version", action=_Version, help="print the version and exit")
    args = arguments.parse_args(given)
    if args.preview_only:
        return execute(args, preview_command, "previews")
    return execute_on_cluster(args) if args.cluster else execute(args, anonymise_command)


def _named(name: str, argv: Sequence[str]) -> int:
    """Runs the command of this name, which may be spelt with underscores."""
    if (command := name.replace("_", "-")) not in COMMANDS:
        problem = f"there is no command {name}{did_you_mean(command, COMMANDS)} (anonymise --help lists them all)"

        def complain() -> int:
            raise UsageError(problem)

        return guarded(complain)
    module = import_module(f"anonymise.commands.{command.replace('-', '_')}")
    return int(module.main(argv))


class _Version(argparse.Action):
    """Looks the version up only when it is asked for; that takes a while."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:  # noqa: A002
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        parser.exit(message=f"anonymise {version('anonymise')}\n")
