"""Measures what is found and hidden against annotated images.

It tells who is missed, how well objects are covered and what is hidden for nothing. Ground truth is a file of
annotations in COCO's format or a folder of label images; what was hidden comes from the configured model, or from the
masks or the saved instances of a finished run.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from anonymise.commands.arguments import add_config_options, parser
from anonymise.commands.guard import guarded
from anonymise.core.errors import ExitCode
from anonymise.core.plaintext import lines_of, printable

__all__ = ["main"]

_EXAMPLES = """examples:
  the configured model on images with annotations in COCO's format:
      {me} -i photos --coco annotations.json -o evaluation -k {config}lite_config.yml
  the same on label images, and which score threshold covers 98 % of all pixels:
      {me} -i photos --labels labels -o evaluation -k {config}lite_config.yml --wanted-recall 0.98
  a finished run with remote_mask: True, without the model:
      {me} --masks published --labels labels -o evaluation

exit codes: 0 all images evaluated, 1 some could not be, 2 usage or configuration, 3 the model is
not available or cannot be run"""

_MAX_SHOWN = 20
"""Problems that are named on the terminal; the files name all."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    arguments = parser("evaluate", __doc__ or "", _EXAMPLES)
    folders = arguments.add_argument_group("folders")
    folders.add_argument(
        "-i",
        "--input-folder",
        type=Path,
        metavar="IN",
        help="the images; with --masks or --instances only needed for the gallery",
    )
    folders.add_argument(
        "-o", "--output-folder", type=Path, required=True, metavar="OUT", help="evaluation.json, .csv and .html go here"
    )
    truth = arguments.add_argument_group("ground truth").add_mutually_exclusive_group(required=True)
    truth.add_argument("--coco", type=Path, metavar="FILE", help="annotations in COCO's format (JSON)")
    truth.add_argument(
        "--labels", type=Path, metavar="FOLDER", help="label images: PNG, each pixel the number of its class"
    )
    found = arguments.add_argument_group("what was hidden (default: run the model)").add_mutually_exclusive_group()
    found.add_argument("--masks", type=Path, metavar="FOLDER", help="masks of a finished run (*_mask.png)")
    found.add_argument("--instances", type=Path, metavar="FOLDER", help="its saved instances (*_instances.json)")
    ground = arguments.add_argument_group("how --coco is read")
    ground.add_argument(
        "--normalised",
        action="store_true",
        help="boxes and polygons are fractions of the image's width and height, not pixels",
    )
    add_config_options(arguments)
    wanted = arguments.add_argument_group("measures")
    wanted.add_argument("--per-image", action="store_true", help="COCO's AP and AR of each image too; takes a while")
    wanted.add_argument(
        "--wanted-recall",
        type=_share,
        default=0.95,
        metavar="SHARE",
        help="of pixels, for the threshold (default 0.95)",
    )
    wanted.add_argument("--no-curves", action="store_true", help="no curves over the score threshold; is faster")
    wanted.add_argument("--no-html", action="store_true", help="no page; needs neither matplotlib nor jinja2")
    wanted.add_argument("--no-gallery", action="store_true", help="no crops of the images in the page")
    args = arguments.parse_args(argv)
    if args.normalised and args.coco is None:
        arguments.error("--normalised says how --coco is read")
    return guarded(lambda: _evaluate(args))


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def _evaluate(args: argparse.Namespace) -> int:
    from anonymise import config as configuration
    from anonymise.evaluation import report
    from anonymise.evaluation.job import Request, evaluate_folder

    config = configuration.load(args.config, args.set, has_archive=True)
    request = Request(
        output=args.output_folder,
        coco=args.coco,
        labels=args.labels,
        images=args.input_folder,
        masks=args.masks,
        instances=args.instances,
        normalised=args.normalised,
        per_image=args.per_image,
        curves=not args.no_curves,
        wanted_recall=args.wanted_recall,
        page=not args.no_html,
        gallery=not args.no_gallery,
    )
    evaluation, about = evaluate_folder(config, request)
    print(lines_of(report.as_text(evaluation, about, config.evaluation)))
    for problem in about.problems[:_MAX_SHOWN]:
        print(printable(f"NOT EVALUATED {problem.name}: {problem.reason}"))
    if len(about.problems) > _MAX_SHOWN:
        print(f"… and {len(about.problems) - _MAX_SHOWN} more, in {request.output / 'evaluation.json'}")
    return ExitCode.IMAGES_FAILED if about.problems else ExitCode.OK
