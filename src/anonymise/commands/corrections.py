"""Keeps corrections: what people and other systems say must be hidden in an image, or need not be.

They stand in a folder of their own, which the configuration names (corrections: FOLDER). Every run applies them, and
does exactly the images again that they concern.
"""

import argparse
import getpass
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from anonymise.commands.arguments import add_config_options, parser
from anonymise.commands.guard import guarded
from anonymise.core.errors import ExitCode, UsageError
from anonymise.core.plaintext import plural, printable

if TYPE_CHECKING:
    from anonymise.config import Config
    from anonymise.corrections.store import Store

__all__ = ["add_author", "main", "opened", "subcommand"]

_EXAMPLES = """examples:
  {me} add -k my.yml --image a/1.jpg --size 8192x4096 --category face --box 100 200 40 50
  {me} list -k my.yml --image a/1.jpg
  {me} undo -k my.yml --id 01JDJ8Z6Q4M1V7XW3E5R9T2Y0B
  {me} verify -k my.yml
  {me} export -k my.yml > corrections.jsonl

exit codes: 0 done, 1 verify found a fault, 2 usage or configuration, 3 the store cannot be read or written"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    arguments = parser("corrections", __doc__ or "", _EXAMPLES)
    actions = arguments.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = subcommand(actions, "add", "put one correction in")
    add.add_argument("--image", required=True, metavar="PATH", help="path of the image below the input folder")
    add.add_argument("--size", required=True, metavar="WxH", help="size of its pixels as they are stored")
    add.add_argument("--category", required=True, help="class of the object, or other")
    add.add_argument("--remove", action="store_true", help="what the model found there is none")
    shape = add.add_mutually_exclusive_group(required=True)
    shape.add_argument("--box", nargs=4, type=float, metavar=("LEFT", "TOP", "WIDTH", "HEIGHT"), help="in pixels")
    shape.add_argument("--shape", metavar="JSON", help="box, polygon or rle, as docs/corrections.md has them")
    add.add_argument("--sha256", help="of the original")
    add.add_argument("--batch", default="by-hand", metavar="NAME", help="group, for list and undo")
    add.add_argument("--reason", metavar="CODE", help="code of the reason; no personal data")
    add.add_argument("--proposed", action="store_true", help="not in force before somebody accepts it")
    listing = subcommand(actions, "list", "print corrections, a line of JSON each, and a count of each status")
    undo = subcommand(actions, "undo", "end corrections; the next run restores the earlier bytes")
    for some in (listing, undo):
        chosen = some.add_mutually_exclusive_group(required=some is undo)
        chosen.add_argument("--batch", metavar="NAME", help="those of this group")
        chosen.add_argument("--id", action="append", default=[], help="this one; may be repeated")
        if some is listing:
            chosen.add_argument("--image", metavar="PATH", help="those of this image")
    deciding = [subcommand(actions, action, f"{action} what is proposed") for action in ("accept", "reject")]
    for decide in deciding:
        decide.add_argument("--id", action="append", required=True, help="may be repeated")
    subcommand(actions, "verify", "look whether somebody changed the store behind its back")
    subcommand(actions, "export", "print all corrections, a line of JSON each")
    take_in = subcommand(actions, "import", "take in what export printed, here or elsewhere")
    take_in.add_argument("file", type=Path, metavar="FILE", help="JSON Lines; - reads the standard input")
    for changing in (add, undo, take_in, *deciding):
        add_author(changing)
    args = arguments.parse_args(argv)
    return guarded(lambda: _execute(args), prints_result=True)


def subcommand(
    actions: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, does: str
) -> "argparse.ArgumentParser":
    """A parser for one action, with the options of the configuration."""
    added: argparse.ArgumentParser = actions.add_parser(name, help=does, description=does)
    add_config_options(added)
    return added


def add_author(to: argparse.ArgumentParser) -> None:
    """The option for who is working."""
    to.add_argument("--by", default=getpass.getuser(), metavar="NAME", help="pseudonym of who does this (%(default)s)")


@contextmanager
def opened(args: argparse.Namespace, *, create: bool = False) -> Iterator[tuple["Config", "Store"]]:
    """The configuration, and the store that it names.

    Raises:
        UsageError: it names none, or there is none.
        StorageError: the store cannot be read.
    """
    from anonymise import config as configuration
    from anonymise.corrections.store import Store

    config = configuration.load(args.config, args.set, has_archive=True)
    if config.run.corrections is None:
        raise UsageError("the configuration names no folder for corrections (corrections: FOLDER)")
    with Store(Path(config.run.corrections), create=create) as store:
        yield config, store


def _execute(args: argparse.Namespace) -> int:
    with opened(args, create=args.action in ("add", "import")) as (_, store):
        code: int = _ACTIONS[args.action](args, store)
        return code


def _add(args: argparse.Namespace, store: "Store") -> int:
    from anonymise.corrections.store import Correction

    try:
        width, height = map(int, args.size.lower().split("x"))
        shape = json.loads(args.shape) if args.shape else {"box": args.box}
        row = Correction(
            relative=args.image.replace("\\", "/"),
            width=width,
            height=height,
            kind="remove" if args.remove else "add",
            category=args.category,
            shape=json.dumps(shape),
            source="review",
            batch=args.batch,
            author=args.by,
            sha256=args.sha256,
            reason=args.reason,
            status="proposed" if args.proposed else "accepted",
        )
        added = store.add([row], args.by)
    except ValueError as error:
        raise UsageError(f"no correction: {error}") from error
    print(added[0] if added else "that correction is there already")
    return ExitCode.OK


def _list(args: argparse.Namespace, store: "Store") -> int:
    from dataclasses import asdict

    conditions = {"batch": args.batch, "relative": args.image}
    where = " AND ".join(f"{column} = ?" for column, value in conditions.items() if value is not None) or "1"
    values = [value for value in conditions.values() if value is not None]
    for row in store.select(f"{where} ORDER BY id", values):
        if not args.id or row.id in args.id:
            print(json.dumps(asdict(row), sort_keys=True))
    counts = ", ".join(f"{n} {status}" for status, n in store.counts(args.batch).items() if n)
    print(f"{counts or 'no corrections'}; last event {store.last_hash() or 'none'}", file=sys.stderr)
    return ExitCode.OK


def _undo(args: argparse.Namespace, store: "Store") -> int:
    print(f"undone: {store.undo(args.by, ids=args.id, batch=args.batch)}")
    return ExitCode.OK


def _decide(args: argparse.Namespace, store: "Store") -> int:
    with store.changing():
        for id_ in args.id:
            if [row.status for row in store.select("id = ?", [id_])] != ["proposed"]:
                raise UsageError(f"{id_}: there is no such correction that is proposed")
        store.set_status(args.id, f"{args.action}ed", args.by)
    return ExitCode.OK


def _verify(_: argparse.Namespace, store: "Store") -> int:
    if (fault := store.fault()) is not None:
        print(f"{store.file}: {fault}")
        return ExitCode.IMAGES_FAILED
    print(f"in order; last event {store.last_hash() or 'none'}")
    return ExitCode.OK


def _export(_: argparse.Namespace, store: "Store") -> int:
    for line in store.exported():
        print(line)
    return ExitCode.OK


def _import(args: argparse.Namespace, store: "Store") -> int:
    try:
        text = sys.stdin.read() if str(args.file) == "-" else args.file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{args.file} cannot be read: {error}") from error
    try:
        print(f"new: {plural(store.imported(text.splitlines(), args.by), 'correction')}")
    except UsageError as error:
        raise UsageError(printable(f"{args.file}, {error}")) from error
    return ExitCode.OK


_ACTIONS = {
    "add": _add,
    "list": _list,
    "undo": _undo,
    "accept": _decide,
    "reject": _decide,
    "verify": _verify,
    "export": _export,
    "import": _import,
}
