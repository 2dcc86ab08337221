"""Writes a contact sheet: small pictures of what was published, with outlines, the doubtful ones first.

It is a page, or several, for any browser; no server is needed. After runs with remote_instances: True it has the
outlines of each class and knows how sure the model was; after runs with remote_mask: True it has outlines.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from anonymise.commands.arguments import add_config_options, parser
from anonymise.commands.guard import guarded
from anonymise.core.errors import ExitCode
from anonymise.core.plaintext import plural, printable

_EXAMPLES = """examples:
  {main} -i photos -o published -k {config}lite_config.yml --set remote_instances=True
  {me} -o published
  {me} -o published --to sheets/today --open

exit codes: 0 done, 1 some pictures cannot be shown, 2 usage or configuration, 3 the journal or the disk"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    arguments = parser("sheet", __doc__ or "", _EXAMPLES)
    arguments.add_argument("-o", "--output-folder", type=Path, required=True, metavar="OUT", help="published pictures")
    arguments.add_argument("--to", type=Path, metavar="FOLDER", help="folder for the pages (OUT_sheet)")
    arguments.add_argument("--open", action="store_true", help="open the first page in the browser")
    add_config_options(arguments)
    args = arguments.parse_args(argv)
    return guarded(lambda: _write(args))


def _write(args: argparse.Namespace) -> int:
    from functools import partial

    from anonymise import config as configuration
    from anonymise.models.options import of_class
    from anonymise.review.sheet import write_sheet

    config = configuration.load(args.config, args.set, has_archive=True)
    output = args.output_folder.absolute()
    to = args.to or output.with_name(output.name + "_sheet")
    thresholds = partial(of_class, config.model.score_threshold)
    sheet = write_sheet(output, to, thresholds, config.images.max_decoded_pixels)
    for problem in sheet.problems:
        print(printable(problem), file=sys.stderr)
    pages = plural(sheet.n_pages, "page")
    counted = f"{plural(sheet.n_pictures, 'picture')}, {sheet.n_doubtful} doubtful, on {pages}"
    print(printable(f"Contact sheet: {sheet.page} ({counted})"))
    if args.open:
        import webbrowser

        webbrowser.open(sheet.page.as_uri())
    return ExitCode.IMAGES_FAILED if sheet.problems else ExitCode.OK
