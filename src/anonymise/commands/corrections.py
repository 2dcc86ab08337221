"""Keeps corrections: what people and other systems say must be hidden in an image, or need not be.

They stand in a folder of their own, which the configuration names (corrections: FOLDER). Every run applies them, and
does exactly those images again that they concern.
"""

import argparse
import getpass
import io
import itertools
import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from anonymise.commands.arguments import add_config_options, parser
from anonymise.commands.guard import guarded
from anonymise.core.errors import ExitCode, UnreadableImage, UsageError
from anonymise.core.plaintext import plural, printable

if TYPE_CHECKING:
    from anonymise.config import Config
    from anonymise.core.detections import Size
    from anonymise.corrections.store import Store

__all__ = ["add_author", "main", "opened", "print_some", "print_status", "print_undone", "size", "subcommand"]

_MAX_SHOWN = 20

_EXAMPLES = """examples, where my.yml has a line such as corrections: /data/corrections
  hide a face that no model found:
      {me} add -k my.yml --image a/1.jpg --original archive/a/1.jpg --category face --box 100 200 40 50
  show a car that is none:
      {me} remove -k my.yml --image a/1.jpg --size 8192x4096 --category car --box 900 2000 300 250
  do the images again that this concerns:
      {main} -i photos -o published -a archive -k my.yml --corrected
  what is drawn, and what waits; then take a group back:
      {me} status -k my.yml --batch week-12
      {me} undo -k my.yml --batch week-12
  look whether somebody tampered with the store, and save it:
      {me} verify -k my.yml
      {me} export -k my.yml > corrections.jsonl

exit codes: 0 done, 1 verify found a fault, 2 usage or configuration, 3 the store cannot be read or written"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    arguments = parser("corrections", __doc__ or "", _EXAMPLES)
    actions = arguments.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, does in (("add", "hide a part of an image"), ("remove", "say that finds in a part of an image are none")):
        putting = subcommand(actions, name, does)
        put = putting.add_argument
        put("--image", required=True, metavar="PATH", help="path of the image below the input folder")
        frame = putting.add_mutually_exclusive_group(required=True)
        frame.add_argument("--original", type=Path, metavar="FILE", help="the original, for its size and SHA-256")
        frame.add_argument("--size", type=size, metavar="WxH", help="size of the original's pixels as they are stored")
        put("--category", required=True, help="class of the object, or other")
        shape = putting.add_mutually_exclusive_group(required=True)
        shape.add_argument("--box", nargs=4, type=float, metavar=("LEFT", "TOP", "WIDTH", "HEIGHT"), help="in pixels")
        shape.add_argument("--shape", metavar="JSON", help="box, polygon or rle, as docs/corrections.md has them")
        put("--batch", default="by-hand", metavar="NAME", help="group, for status, list and undo")
        put("--reason", metavar="CODE", help="code of the reason; no personal data")
        put("--proposed", action="store_true", help="not in force before somebody accepts it")
        add_author(putting)
    for name, does in {
        "undo": "end corrections; the next run restores the earlier bytes",
        "list": "print corrections that are not undone, a line of JSON each; with --id any, with its history",
        "status": "count the corrections in each state, and say why some are not drawn",
        "accept": "put proposed corrections in force",
        "reject": "put proposed corrections aside",
    }.items():
        some = subcommand(actions, name, does)
        chosen = some.add_mutually_exclusive_group(required=name not in ("list", "status"))
        chosen.add_argument("--batch", metavar="NAME", help="those of this group")
        if name != "status":
            chosen.add_argument("--id", action="append", default=[], help="this one; may be repeated")
        if name == "list":
            chosen.add_argument("--image", metavar="PATH", help="those of this image")
        elif name != "status":
            add_author(some)
    subcommand(actions, "verify", "look whether somebody changed the store behind its back")
    subcommand(actions, "export", "print all corrections, a line of JSON each")
    take_in = subcommand(actions, "import", "take in what export printed, here or elsewhere")
    take_in.add_argument("file", metavar="FILE", help="JSON Lines; - reads the standard input")
    add_author(take_in)
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
    try:
        user = getpass.getuser()
    except (ImportError, KeyError, OSError):  # as in a container whose user has no name
        user = "unknown"
    to.add_argument("--by", default=user, metavar="NAME", help="pseudonym of who does this (%(default)s)")


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


def size(text: str) -> "Size":
    """A size in pixels, as an argument has it: 8192x4096."""
    from anonymise.core.detections import Size

    found = re.fullmatch(r"([1-9]\d{0,6})[xX×]([1-9]\d{0,6})", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text} is not like 8192x4096")
    return Size(int(found[1]), int(found[2]))


def print_some(lines: Iterable[str], n: int, to: TextIO | None = None) -> None:
    """Prints the first of ``n`` lines."""
    for line in itertools.islice(lines, _MAX_SHOWN):
        print(printable(line), file=to)
    if n > _MAX_SHOWN:
        print(f"and {n - _MAX_SHOWN} more", file=to)


def print_status(store: "Store", batch: str | None) -> None:
    """Prints how many corrections are in each state, and of those that a run could not draw, why."""
    from anonymise.corrections.store import ENDED

    undrawn = ("unmatched", "stale", "failed")
    counts = store.counts(batch)
    print(", ".join(f"{n} {name}" for name, n in counts.items() if n) or "no corrections")
    where = f"IFNULL(?, batch) = batch AND status IN {undrawn} AND kind IS NOT NULL AND NOT {ENDED}"
    rows = store.select(f"{where} ORDER BY relative, id LIMIT ?", [batch, _MAX_SHOWN])
    # What its last event says: the state, and why.
    events = ((row, store.events(row.id)[-1]) for row in rows)
    lines = (f"{row.relative}: {detail if what == 'status' else row.status}" for row, (_, _, what, detail) in events)
    print_some(lines, sum(counts[name] for name in undrawn))
    print(f"images to be done again: {len(store.waiting())}; last event: {store.last_hash() or 'none'}")


def print_undone(args: argparse.Namespace, store: "Store", source: str | None = None) -> None:
    """Undoes the corrections that the arguments name, of one source or of all, and says how many.

    Raises:
        UsageError: there are none.
    """
    n = store.undo(args.by, ids=getattr(args, "id", ()), batch=args.batch, source=source)
    if not n:
        raise UsageError(f"--batch {args.batch}: nothing in this group is in force")
    print(f"undone: {plural(n, 'correction')}")


def _execute(args: argparse.Namespace) -> int:
    with opened(args, create=args.action in ("add", "remove", "import")) as (config, store):
        match args.action:
            case "add" | "remove":
                _put(args, store, config.images.max_decoded_pixels)
            case "undo":
                print_undone(args, store)
            case "accept" | "reject":
                ids = args.id or [row.id for row in store.select("batch = ? AND status = 'proposed'", [args.batch])]
                if not ids:
                    raise UsageError(f"--batch {args.batch}: nothing in this group is proposed")
                store.decide(args.by, ids, f"{args.action}ed")
                print(f"{args.action}ed: {plural(len(ids), 'correction')}")
            case "list":
                _list(args, store)
            case "status":
                print_status(store, args.batch)
            case "export":
                for line in store.exported():
                    print(line)
            case "import":
                print(f"new: {plural(_import(args, store), 'correction')}")
            case "verify":
                if (fault := store.fault()) is not None:
                    print(f"{store.file}: {fault}")
                    return ExitCode.IMAGES_FAILED
                print(f"in order; last event: {store.last_hash() or 'none'}")
    return ExitCode.OK


def _put(args: argparse.Namespace, store: "Store", max_pixels: int) -> None:
    import hashlib

    from anonymise import images
    from anonymise.corrections.store import Correction

    try:
        data = None if args.original is None else args.original.read_bytes()
        width, height = args.size if data is None else images.header(data, max_pixels=max_pixels)[:2]
        row = Correction(
            relative=args.image.replace("\\", "/"),
            width=width,
            height=height,
            kind=args.action,
            category=args.category,
            shape=args.shape or json.dumps({"box": args.box}),
            source="review",
            batch=args.batch,
            author=args.by,
            sha256=None if data is None else hashlib.sha256(data).hexdigest(),
            reason=args.reason,
            status="proposed" if args.proposed else "accepted",
        )
        print(*store.add([row], args.by) or ["that correction is there already"])
    except (OSError, UnreadableImage, ValueError, RecursionError) as error:
        raise UsageError(f"no correction: {error}") from error


def _list(args: argparse.Namespace, store: "Store") -> None:
    from anonymise.corrections.store import ENDED

    if args.id:
        for id_ in args.id:
            for row in store.select("? IN (id, supersedes) ORDER BY id", [id_]):  # and what undid or replaced it
                print(json.dumps(row.as_dict() | {"events": store.events(row.id)}, sort_keys=True))
        return
    for row in store.select(f"kind IS NOT NULL AND NOT {ENDED} ORDER BY id"):
        if args.batch in (None, row.batch) and args.image in (None, row.relative):
            print(json.dumps(row.as_dict(), sort_keys=True))


def _import(args: argparse.Namespace, store: "Store") -> int:
    from anonymise.corrections.rowfiles import rows_in

    def check(place: str, names: Sequence[str]) -> None:
        if "relative" not in names:
            raise UsageError(f"{place}: no corrections, as export prints them")

    try:
        data = sys.stdin.buffer.read() if args.file == "-" else Path(args.file).read_bytes()
    except OSError as error:
        raise UsageError(f"{args.file} cannot be read: {error.strerror or error}") from error
    # An empty list makes an empty store.
    rows = rows_in(io.BufferedReader(io.BytesIO(data)), args.file, check) if data.strip() else ()
    return store.imported(rows, args.by)
