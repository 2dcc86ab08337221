"""Review by people: a page in the browser on this machine, where they see what was hidden and what was missed.

What they find becomes corrections, which the next run draws. For programs, gate says whether enough was looked at and
little enough was missed. export prints the decisions.
"""

import argparse
import getpass
import hashlib
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anonymise.commands.arguments import add_config_options, parser
from anonymise.commands.guard import guarded
from anonymise.core.errors import ExitCode, UsageError
from anonymise.core.plaintext import printable

if TYPE_CHECKING:
    from anonymise.config import Config
    from anonymise.review.decisions import Decisions
    from anonymise.review.pictures import Published

_EXAMPLES = """examples:
  {me} -i published -a originals --corrections corrections --open
  {me} gate -i published --corrections corrections --max-missed 0.01
  {me} export -i published --corrections corrections --format csv > decisions.csv

exit codes: 0 done, 1 gate: too much may be missed, 2 usage or configuration, 3 journal, store or disk"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    arguments = parser("review", __doc__ or "", _EXAMPLES)
    arguments.add_argument(
        "action", nargs="?", choices=list(_ACTIONS), default="serve", help="what to do (%(default)s)"
    )
    arguments.add_argument("-i", "--output-folder", type=Path, required=True, metavar="OUT", help="published pictures")
    arguments.add_argument("-a", "--archive-folder", type=Path, metavar="ARCHIVE", help="the originals of these")
    arguments.add_argument("--corrections", type=Path, metavar="FOLDER", help="sets the key of this name; made if new")
    add_config_options(arguments)
    serve = arguments.add_argument_group("serve")
    serve.add_argument(
        "--host", default="127.0.0.1", help="address to listen at; others need review_users (%(default)s)"
    )
    serve.add_argument("--port", type=int, default=5050, help="0 takes any that is free (%(default)s)")
    serve.add_argument("--user", metavar="NAME", help="pseudonym of who reviews, without review_users")
    serve.add_argument("--open", action="store_true", help="open the page in the browser")
    serve.add_argument("--queue", type=Path, metavar="FILE", help="paths of pictures to look at, one a line")
    serve.add_argument(
        "--sample", type=int, default=400, metavar="N", help="pictures in the random sample (%(default)s)"
    )
    serve.add_argument("--seed", type=int, default=0, help="of the random sample (%(default)s)")
    serve.add_argument(
        "--second", type=float, default=0.05, metavar="SHARE", help="of the sample, seen by two people (%(default)s)"
    )
    gate = arguments.add_argument_group("gate")
    gate.add_argument(
        "--max-missed", type=float, default=0.01, metavar="SHARE",
        help="of pictures with a miss: upper limit of the 95 %% interval (%(default)s)",
    )  # fmt: skip
    export = arguments.add_argument_group("export")
    export.add_argument("--format", choices=("csv", "coco", "json"), default="csv", help="(%(default)s)")
    args = arguments.parse_args(argv)
    return guarded(lambda: _execute(args), prints_result=True)


def _execute(args: argparse.Namespace) -> int:
    from anonymise import config as configuration
    from anonymise.corrections.store import Store
    from anonymise.review.decisions import Decisions
    from anonymise.review.pictures import Published

    if args.corrections is not None:
        args.set.append(f"corrections={str(args.corrections.absolute())!r}")
    config = configuration.load(args.config, args.set, has_archive=True)
    if config.run.corrections is None:
        raise UsageError("decisions need a folder: --corrections FOLDER, or the key corrections")
    if args.archive_folder is not None and not args.archive_folder.is_dir():
        raise UsageError(f"The archive folder {args.archive_folder} does not exist (-a).")
    archive = None if args.archive_folder is None else args.archive_folder.absolute()
    published = Published(args.output_folder.absolute(), archive)
    published.check()  # before a store is made
    with Store(Path(config.run.corrections), create=args.action == "serve") as store:
        code: int = _ACTIONS[args.action](args, config, published, Decisions(store))
        return code


def _serve(args: argparse.Namespace, config: "Config", published: "Published", decisions: "Decisions") -> int:
    try:
        from anonymise.review.app import review_app
        from anonymise.service import web
    except ImportError as error:
        raise UsageError(f'{error.name} is not installed: pip install "anonymise[service]"') from error
    import webbrowser
    from functools import partial

    from anonymise.models.options import of_class
    from anonymise.review.access import ROLES, User, read_users
    from anonymise.review.drawing import Drawing
    from anonymise.review.queue import Queue, QueueOptions
    from anonymise.review.review import Review

    if args.sample < 1 or not 0 <= args.second <= 1:
        raise UsageError("--sample is a number of pictures, --second a fraction of them, 0 to 1")
    token = ""
    if config.review.review_users is not None:
        users = read_users(Path(config.review.review_users))
    else:
        if not web.is_loopback(args.host):
            raise UsageError(f"{args.host} can be reached by others: name who may review with review_users")
        token = secrets.token_urlsafe(24)
        user = User(args.user or getpass.getuser(), frozenset(ROLES))
        users = {hashlib.sha256(token.encode()).hexdigest(): user}
    listed = None if args.queue is None else _lines(args.queue)
    second = args.second if len(users) > 1 else 0.0
    options = QueueOptions(args.seed, args.sample, second, listed)
    queue = Queue(published, decisions, partial(of_class, config.model.score_threshold), options)
    for path in sorted(set(listed or ()) - queue.bases().keys()):
        print(printable(f"{args.queue}: {path} is not published"), file=sys.stderr)
    drawing = None
    if published.archive is not None:
        keys = [part for file in args.config for part in ("-k", str(file))]
        keys += [part for key in args.set for part in ("--set", key)]
        drawing = Drawing(published.archive, published.output, decisions.store, keys, queue.refresh)
    app = review_app(Review(published, decisions, queue, config, drawing), users)

    with web.listen(args.host, args.port) as listening:
        address = web.address_of(listening, args.host) + (f"/#{token}" if token else "/")
        print("Open this address in a browser; Ctrl+C ends the review.", file=sys.stderr)
        print(address, flush=True)
        if args.open:
            webbrowser.open(address)
        web.Server(app, lambda: True, lambda: None, 0).run(sockets=[listening])
    return ExitCode.OK


def _lines(file: Path) -> list[str]:
    try:
        return [line.strip() for line in file.read_text("utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read: {error} (--queue)") from error


def _gate(args: argparse.Namespace, config: "Config", published: "Published", decisions: "Decisions") -> int:
    from anonymise.review.numbers import numbers_of

    if (fault := decisions.fault()) is not None:
        raise UsageError(f"{decisions.store.file}: {fault}; its numbers prove nothing")
    bases = {picture.relative: picture.base for picture in published}
    found = numbers_of(bases, decisions, config.evaluation.evaluation_size_groups).gate()
    if not found["n"]:
        print("nobody has looked at the random sample, nor at all pictures")
        return ExitCode.IMAGES_FAILED
    is_within = found["high"] <= args.max_missed
    print(
        f"{found['k']} of {found['n']} pictures have a miss; 95 % interval {100 * found['low']:.2f} to "
        f"{100 * found['high']:.2f} %, {'within' if is_within else 'above'} the limit of {100 * args.max_missed:g} %"
    )
    return ExitCode.OK if is_within else ExitCode.IMAGES_FAILED


def _export(args: argparse.Namespace, config: "Config", published: "Published", decisions: "Decisions") -> int:
    from anonymise.review import export

    if args.format == "coco":
        text = export.as_coco(decisions, published, config)
    else:
        text = export.as_csv(decisions) if args.format == "csv" else export.as_json(decisions) + "\n"
    sys.stdout.write(text)
    return ExitCode.OK


_ACTIONS = {"serve": _serve, "gate": _gate, "export": _export}
