"""Takes in what the public reports: people who are visible, or blur where there is nobody.

Reports become proposed corrections. Somebody accepts or rejects them, here or on the page of the review; the next run
draws what was accepted; status says what became of them.
"""

import argparse
import contextlib
import io
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anonymise.commands.arguments import parser
from anonymise.commands.corrections import add_author, opened, subcommand
from anonymise.commands.guard import guarded
from anonymise.core.errors import ExitCode, UsageError
from anonymise.core.plaintext import plural, printable

if TYPE_CHECKING:
    from anonymise.config import Config
    from anonymise.corrections.store import Store

_EXAMPLES = """examples, where my.yml has corrections: FOLDER and reports_originals: FOLDER
  {me} import reports.json -k my.yml
  {me} list -k my.yml
  {me} accept -k my.yml --id 5f0c6a2e9b8d4f7a8c1e3d5b7a9f0c2d --by mari
  {me} status -k my.yml

exit codes: 0 done, 1 some reports were refused, or no convention fits, 2 usage or configuration, 3 the store cannot be
read or written"""

_TIMEOUT_SECONDS = 60
_MAX_MEGABYTES = 100


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    arguments = parser("reports", __doc__ or "", _EXAMPLES)
    actions = arguments.add_subparsers(dest="action", required=True, metavar="ACTION")
    take_in = subcommand(actions, "import", "take reports in; those that are there already stay as they are")
    take_in.add_argument("source", metavar="FILE|URL", help="ScanVan's JSON, JSON Lines or CSV; see docs/reports.md")
    take_in.add_argument("--convention", metavar="NAME", help="of reports that name none (ScanVan's: scanvan)")
    take_in.add_argument("--dry-run", action="store_true", help="only say what would be taken in")
    subcommand(actions, "list", "print the reports that nobody has decided, a line of JSON each")
    for name in ("accept", "reject"):
        deciding = subcommand(actions, name, f"{name} reports")
        deciding.add_argument("--id", action="append", required=True, help="of a report; may be repeated")
        why = "seen, nothing_there, already_hidden, no_person, spam or wrong_picture"
        deciding.add_argument("--reason", metavar="CODE", default="seen" if name == "accept" else None, help=why)
        add_author(deciding)
    status = subcommand(actions, "status", "numbers of reports, or the state of one as its reporter sees it")
    status.add_argument("--id", help="of one report")
    status.add_argument("--json", action="store_true", help="print JSON")
    calibrate = subcommand(actions, "calibrate", "find out how a viewer counts angles, from three places or more")
    calibrate.add_argument(
        "--original", type=Path, required=True, metavar="FILE", help="picture that the places are in"
    )
    calibrate.add_argument(
        "--place",
        nargs=4,
        type=float,
        action="append",
        required=True,
        metavar=("COLUMN", "ROW", "YAW", "PITCH"),
        help="where it is in the picture as it is shown, and the viewer's numbers for it; three times or more",
    )
    args = arguments.parse_args(argv)
    return guarded(lambda: _calibrate(args) if args.action == "calibrate" else _execute(args), prints_result=True)


def _execute(args: argparse.Namespace) -> int:
    from anonymise.reports.desk import decide, forget, open_reports, public_status, report_statistics

    with opened(args, create=args.action == "import") as (config, store):
        forget(store, config.reports.reports_keep_days)
        if args.action == "import":
            return _import(args, config, store)
        if args.action in ("accept", "reject"):
            with store.changing():
                for id_ in args.id:
                    decide(store, id_, args.by, f"{args.action}ed", args.reason)
            print(f"{args.action}ed: {plural(len(args.id), 'report')}")
        elif args.action == "list":
            for report in open_reports(store):
                print(json.dumps(report))
        else:
            found = report_statistics(store) if args.id is None else public_status(store, args.id)
            if found is None:
                raise UsageError(f"there is no report {args.id}")
            lines = (f"{key.replace('_', ' '):30}{_shown(value)}" for key, value in found.items())
            print(json.dumps(found) if args.json else "\n".join(lines))
    return ExitCode.OK


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {n}" for name, n in value.items()) or "none"
    return "-" if value is None else str(value)


class _DryRun(Exception):
    """Takes back what was only tried."""


def _import(args: argparse.Namespace, config: "Config", store: "Store") -> int:
    from anonymise.corrections.rowfiles import rows_in, rows_of
    from anonymise.reports.desk import public_status, receive
    from anonymise.reports.files import read_reports

    if args.source.startswith(("http://", "https://")):
        rows = rows_in(io.BufferedReader(io.BytesIO(_fetched(args.source))), args.source)
    else:
        rows = rows_of(Path(args.source))
    reports = list(read_reports(rows, args.convention))  # a file that cannot be read to its end changes nothing
    counts: Counter[str] = Counter()
    known = {id_ for (id_,) in store.read("SELECT id FROM report")}
    with contextlib.suppress(_DryRun), store.changing() if args.dry_run else contextlib.nullcontext():
        for place, report in reports:
            try:
                if isinstance(report, ValueError):
                    raise report
                id_ = receive(store, report, config, once=True)
                what = "known already" if id_ in known else str((public_status(store, id_) or {}).get("status"))
                known.add(id_)
            except ValueError as error:
                print(printable(f"{place}: refused: {error}"), file=sys.stderr)
                what = "refused"
            counts[what] += 1
        if args.dry_run:
            raise _DryRun
    print(", ".join(f"{n} {what}" for what, n in counts.items()) or "no reports")
    if args.dry_run:
        print("nothing was taken in (--dry-run)")
    return ExitCode.IMAGES_FAILED if counts["refused"] else ExitCode.OK


def _fetched(url: str) -> bytes:
    import requests

    data = bytearray()
    try:
        with requests.get(url, timeout=_TIMEOUT_SECONDS, stream=True) as answer:
            answer.raise_for_status()
            for piece in answer.iter_content(1 << 20):
                data += piece
                if len(data) > _MAX_MEGABYTES << 20:
                    raise UsageError(f"{url} has more than {_MAX_MEGABYTES} MB")
    except requests.RequestException as error:
        raise UsageError(f"{url} cannot be fetched: {error}") from error
    return bytes(data)


def _calibrate(args: argparse.Namespace) -> int:
    from anonymise import config as configuration
    from anonymise.core.errors import ImageError
    from anonymise.reports.angles import fitting
    from anonymise.reports.desk import read_picture

    if len(args.place) < 3:
        raise UsageError("name three places or more (--place COLUMN ROW YAW PITCH)")
    try:
        picture, _ = read_picture(
            args.original.read_bytes(), configuration.load(args.config, args.set, has_archive=True)
        )
    except (OSError, ImageError) as error:
        raise UsageError(f"{args.original} cannot be read: {error}") from error
    if (viewer := next(fitting(args.place, picture), None)) is None:
        print("no convention fits all places within 2 pixels")
        return ExitCode.IMAGES_FAILED
    print(f"convention: {viewer.convention}")
    print(f"reports_yaw_offset: {viewer.yaw_offset:g}\nreports_pitch_sign: {viewer.pitch_sign}")
    return ExitCode.OK
