"""Finds input images that are empty, truncated or cannot be decoded, before a run does. Nothing is changed."""

import argparse
import contextlib
import csv
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from anonymise.commands.arguments import add_allow_empty, add_config_options, parser
from anonymise.commands.guard import guarded
from anonymise.core.errors import ExitCode, UsageError
from anonymise.core.plaintext import plural, printable

__all__ = ["main"]

_EXAMPLES = """examples:
  {me} -i photos
  {me} -i photos -k {config}360_default_config.yml --csv > broken.csv

exit codes: 0 all images can be read, 1 some cannot, 2 usage or configuration, 3 the input folder is out of reach"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    arguments = parser("check-images", __doc__ or "", _EXAMPLES)
    folders = arguments.add_argument_group("folders")
    folders.add_argument("-i", "--input-folder", type=Path, required=True, metavar="IN", help="images are found here")
    add_allow_empty(folders)
    add_config_options(arguments)
    form = arguments.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON instead of lines")
    form.add_argument("--csv", action="store_true", help="print CSV instead of lines: path, fault, reason")
    args = arguments.parse_args(argv)
    return guarded(lambda: _check(args), prints_result=True)


def _check(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from anonymise import config as configuration
    from anonymise.batch.inputs import check_inputs
    from anonymise.batch.paths import Places
    from anonymise.batch.preflight import no_image
    from anonymise.batch.walker import TreeWalker
    from anonymise.batch.workers import SerialWorkers, new_workers

    # Where results will go is no concern here, so what needs an archive is not complained about.
    config = configuration.load(args.config, args.set, has_archive=True)
    # Nothing is written, but the places of a run have an output folder.
    places = Places(args.input_folder, Path(tempfile.gettempdir(), "anonymise", "no output"))
    walker = TreeWalker(places, config.files)
    found = list(walker.walk())
    if not found and not args.allow_empty:
        raise UsageError(no_image(walker))
    run = config.run
    workers = new_workers(run.max_num_async_workers) if run.enable_async else SerialWorkers()
    with contextlib.closing(workers):
        checked = check_inputs(
            found,
            workers,
            max_pixels=config.images.max_decoded_pixels,
            options=config.storage,
            seconds=config.seconds_per_image,
        )
        bar = tqdm(checked, total=len(found), unit=" images", disable=not sys.stderr.isatty(), dynamic_ncols=True)
        rows = [
            {"path": printable(image.path), "fault": image.fault.value, "reason": printable(image.reason)}
            for image in bar
            if image.fault is not None
        ]
    if args.json:
        print(json.dumps({"checked": len(found), "faulty": rows}, indent=2, ensure_ascii=False))
    elif args.csv:
        table = csv.DictWriter(sys.stdout, ["path", "fault", "reason"], lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    else:
        for row in rows:
            print(f"{row['path']}: {row['reason']}")
        counts = Counter(row["fault"] for row in rows)
        detail = ", ".join(f"{n} {fault}" for fault, n in counts.most_common())
        print(printable(f"{plural(len(found), 'image')} in {places.input}: " + (detail or "all can be read")))
    return ExitCode.IMAGES_FAILED if rows else ExitCode.OK
