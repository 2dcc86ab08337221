"""Measures what is found and hidden against annotated images.

It tells who is missed, how well objects are covered and what is hidden for nothing. Ground truth is a file of
annotations in COCO's format or a folder of label images; what was hidden comes from the configured model, or from the
masks or the saved instances of a finished run.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anonymise.commands.arguments import add_config_options, parser
from anonymise.commands.guard import guarded
from anonymise.core.errors import ExitCode, ImageError, UsageError
from anonymise.core.plaintext import lines_of, printable

if TYPE_CHECKING:
    from anonymise.config import Config
    from anonymise.evaluation.finders import Finder
    from anonymise.evaluation.truth import Annotated, FileIndex, Found, Problem, Truth

__all__ = ["main"]

_EXAMPLES = """examples:
  the configured model on images with annotations in COCO's format:
      {me} -i photos --coco annotations.json -o evaluation -k {config}lite_config.yml
  the same on label images, and which score threshold covers 98 % of all pixels:
      {me} -i photos --labels labels -o evaluation -k {config}lite_config.yml --wanted-recall 0.98
  a finished run with remote_mask: True, without the model:
      {me} --masks published --labels labels -o evaluation

exit codes: 0 all images evaluated, 1 some could not be, 2 usage or configuration, 3 the model cannot be had or run"""

_ENDINGS = {"mask": "_mask.png", "instances": "_instances.json"}

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
    from anonymise.evaluation import page, report
    from anonymise.evaluation.coco_annotations import annotated_by_coco
    from anonymise.evaluation.evaluation import evaluate
    from anonymise.evaluation.gallery import gallery
    from anonymise.evaluation.label_images import annotated_by_labels

    config = configuration.load(args.config, args.set, has_archive=True)
    out = args.output_folder
    _check_output(out)
    if not args.no_html:
        page.require_libraries()
    if args.coco is not None:
        annotated = annotated_by_coco(
            args.coco,
            config.model.hidden,
            config.evaluation,
            max_pixels=config.images.max_decoded_pixels,
            normalised=args.normalised,
        )
    else:
        annotated = annotated_by_labels(args.labels, config.model.hidden, config.evaluation)
    problems: list[Problem] = []
    without: list[str] = []
    images = _images(args.input_folder, config, annotated, problems)
    finder, source = _finder(args, config, images, without)
    _make_folder(args.output_folder)
    evaluation = evaluate(_pairs(annotated, finder, problems), config.evaluation, per_image=args.per_image)
    if not evaluation.images:
        raise UsageError(
            f"None of the {len(annotated)} annotated images could be evaluated. The first: "
            f"{problems[0].name}: {problems[0].reason}"
        )
    if len(without) == len(evaluation.images):
        raise UsageError(
            f"None of the {len(annotated)} annotated images has a result of the run in {args.masks or args.instances}: "
            f"their names do not match. The first annotated image is {without[0]}; its file there must be "
            f"{without[0].rpartition('/')[2]}{_ENDINGS['mask' if args.masks else 'instances']}."
        )
    about = report.About(
        truth=str(args.coco or args.labels),
        found=source,
        configuration=config.as_yaml(),
        problems=tuple(problems),
        without_result=tuple(without),
        wanted=evaluation.threshold_for(args.wanted_recall),
    )
    texts = {"evaluation.json": report.as_json(evaluation, about), "evaluation.csv": report.as_csv(evaluation)}
    if not args.no_html:
        crops = () if args.no_gallery else gallery(evaluation.misses, images, config.images.max_decoded_pixels)
        texts["evaluation.html"] = page.as_html(evaluation, about, config.evaluation, crops)
    _write(out, texts)
    print(lines_of(report.as_text(evaluation, about, config.evaluation)))
    for problem in problems[:_MAX_SHOWN]:
        print(printable(f"NOT EVALUATED {problem.name}: {problem.reason}"))
    if len(problems) > _MAX_SHOWN:
        print(f"… and {len(problems) - _MAX_SHOWN} more, in {out / 'evaluation.json'}")
    return ExitCode.IMAGES_FAILED if problems else ExitCode.OK


def _images(
    folder: Path | None, config: "Config", annotated: "Sequence[Annotated]", problems: "list[Problem]"
) -> "FileIndex[Path]":
    """The images of the folder; those without annotation are problems."""
    import tempfile

    from anonymise.batch.paths import Places
    from anonymise.batch.walker import TreeWalker, WalkProblem
    from anonymise.evaluation.truth import FileIndex, Problem, stem

    if folder is None:
        return FileIndex(())
    # Nothing is written, but the places of a run have an output folder.
    places = Places(folder, Path(tempfile.gettempdir(), "anonymise", "no output"))
    found = []
    for paths in TreeWalker(places, config.files).walk():
        if isinstance(paths, WalkProblem):
            problems.append(Problem(str(paths.path), paths.reason))
        else:
            found.append((stem(paths.relative), paths.source))
    index = FileIndex(found)
    used = {file for one in annotated if (file := index.find(one.name)) is not None}
    problems += [Problem(name, "the image has no annotation") for name in index.without(used)]
    return index


def _finder(
    args: argparse.Namespace, config: "Config", images: "FileIndex[Path]", without: list[str]
) -> "tuple[Finder, str]":
    """What tells what was hidden, and a description of it.

    Raises:
        UsageError: a folder is missing.
        ModelError: the model cannot be had.
    """
    from anonymise.batch.preflight import check_models
    from anonymise.evaluation import finders
    from anonymise.evaluation.truth import index_files

    for kind, folder in (("mask", args.masks), ("instances", args.instances)):
        if folder is None:
            continue
        option = "--masks" if kind == "mask" else "--instances"
        if not folder.is_dir():
            raise UsageError(f"The folder {folder} does not exist or is no folder ({option}).")
        files = index_files(folder, _ENDINGS[kind])
        if not files:
            raise UsageError(
                f"There is no file *{_ENDINGS[kind]} in {folder} ({option}). A run writes them with "
                f"remote_{kind}: True."
            )
        if kind == "mask":
            return finders.by_masks(files, without), f"the masks in {folder}"
        return finders.by_instances(files, config, without), f"the saved instances in {folder}"
    if args.input_folder is None:
        raise UsageError("Without --masks or --instances the model is run, which needs the images (-i).")
    check_models(config)
    names = ", ".join(config.model.models)
    finder = finders.by_model(config, images, curves=not args.no_curves, progress=sys.stderr.isatty())
    return finder, f"{names}, run on {args.input_folder}"


def _pairs(
    annotated: "Sequence[Annotated]", finder: "Finder", problems: "list[Problem]"
) -> "Iterator[tuple[Truth, Found]]":
    """Ground truth of each image and what was hidden there; an image that fails is a problem, and left out."""
    from tqdm import tqdm

    from anonymise.evaluation.truth import Problem

    for one in tqdm(annotated, unit=" images", disable=not sys.stderr.isatty(), dynamic_ncols=True):
        try:
            truth = one.load()
            found = finder(truth)
        except ImageError as error:
            problems.append(Problem(one.name, str(error)))
            continue
        yield truth, found


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"The folder {folder} cannot be made: {error.strerror or error} (-o).") from error


def _check_output(folder: Path) -> None:
    """Makes sure that pictures of people do not land among results that may be published.

    Raises:
        UsageError: the folder is, or lies in, one that holds results of a run.
    """
    from anonymise.batch.storage import result_root_of

    root = result_root_of(folder)
    if root is not None:
        raise UsageError(
            f"{root} holds results of a run, which may be published, but an evaluation shows what was not hidden. "
            "Choose a folder elsewhere (-o)."
        )


def _write(folder: Path, texts: "Mapping[str, str]") -> None:
    """Writes all files completely before any of them takes the place of an earlier one."""
    import tempfile

    try:
        with tempfile.TemporaryDirectory(prefix=".evaluation-", dir=folder) as temporary:
            for name, text in texts.items():
                # Half characters, which stand for bytes of names that are not UTF-8, as JSON escapes them.
                Path(temporary, name).write_bytes(text.encode("utf-8", "backslashreplace"))
            for name in texts:
                Path(temporary, name).replace(folder / name)
    except OSError as error:
        raise UsageError(f"The results cannot be written to {folder}: {error.strerror or error} (-o).") from error
