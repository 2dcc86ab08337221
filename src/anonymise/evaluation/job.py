"""An evaluation from folders to files: reads what was annotated and what was hidden, compares, writes the results."""

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from anonymise.batch.paths import SUFFIXES, Places
from anonymise.batch.preflight import check_models
from anonymise.batch.storage import result_root_of
from anonymise.batch.walker import TreeWalker, WalkProblem
from anonymise.config import Config, FileKind
from anonymise.core.errors import ImageError, UsageError
from anonymise.evaluation import finders, page, report
from anonymise.evaluation.coco_annotations import annotated_by_coco
from anonymise.evaluation.evaluation import Evaluation, evaluate
from anonymise.evaluation.finders import Finder
from anonymise.evaluation.gallery import gallery
from anonymise.evaluation.label_images import annotated_by_labels
from anonymise.evaluation.truth import Annotated, FileIndex, Found, Problem, Truth, index_files, stem

__all__ = ["Request", "Result", "evaluate_folder"]

_SUFFIXES = {kind.value: SUFFIXES[kind] for kind in (FileKind.MASK, FileKind.INSTANCES)}


@dataclass(frozen=True, slots=True)
class Request:
    """What is compared with what, and what is written about it.

    Attributes:
        output: the folder that the results go to; it is made.
        coco: annotations in COCO's format; None with ``labels``.
        labels: folder with label images; None with ``coco``.
        images: folder with the images; None where they are not needed: with ``masks`` or ``instances``.
        masks: folder with the masks of a finished run; None runs the model or takes ``instances``.
        instances: folder with the saved instances of a finished run.
        normalised: whether boxes and polygons of ``coco`` are fractions of the image's width and height.
        per_image: whether COCO's measures are computed for each image too.
        curves: whether the measures are computed at all thresholds of ``evaluation_thresholds``.
        wanted_recall: fraction of pixels for which a threshold is looked for.
        page: whether a page is written.
        gallery: whether the page shows crops of the images.
    """

    output: Path
    coco: Path | None
    labels: Path | None
    images: Path | None = None
    masks: Path | None = None
    instances: Path | None = None
    normalised: bool = False
    per_image: bool = False
    curves: bool = True
    wanted_recall: float = 0.95
    page: bool = True
    gallery: bool = True


class Result(NamedTuple):
    """The numbers, and what they are about."""

    evaluation: Evaluation
    about: report.About


def evaluate_folder(config: Config, request: Request) -> Result:
    """Evaluates, and writes ``evaluation.json``, ``evaluation.csv`` and, where wanted, ``evaluation.html``.

    Args:
        config: which model is run where one is, what counts as hidden, and the measures' options.
        request: what is compared.

    Raises:
        UsageError: a folder or file is missing or does not fit, or no image could be evaluated.
        ModelError: the model is not available.
    """
    _check_output(request.output)
    if request.page:
        page.require_libraries()
    annotated = _annotated(config, request)
    problems: list[Problem] = []
    without: list[str] = []
    images = _images(request.images, config, annotated, problems)
    finder, source = _finder(config, request, images, without)
    try:
        request.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"The folder {request.output} cannot be made: {reason} (-o).") from error
    evaluation = evaluate(_pairs(annotated, finder, problems), config.evaluation, per_image=request.per_image)
    if not evaluation.images:
        raise UsageError(
            f"None of the {len(annotated)} annotated images could be evaluated. The first: "
            f"{problems[0].name}: {problems[0].reason}"
        )
    if len(without) == len(evaluation.images):
        raise UsageError(
            f"None of the {len(annotated)} annotated images has a result of the run in "
            f"{request.masks or request.instances}: their names do not match. The first annotated image is "
            f"{without[0]}; its file there must be "
            f"{without[0].rpartition('/')[2]}{_SUFFIXES['mask' if request.masks else 'instances']}."
        )
    about = report.About(
        truth=str(request.coco or request.labels),
        found=source,
        configuration=config.as_yaml(),
        problems=tuple(problems),
        without_result=tuple(without),
        wanted=evaluation.threshold_for(request.wanted_recall),
    )
    texts = {"evaluation.json": report.as_json(evaluation, about), "evaluation.csv": report.as_csv(evaluation)}
    if request.page:
        crops = gallery(evaluation.misses, images, config.images.max_decoded_pixels) if request.gallery else ()
        texts["evaluation.html"] = page.as_html(evaluation, about, config.evaluation, crops)
    _write(request.output, texts)
    return Result(evaluation, about)


def _annotated(config: Config, request: Request) -> Sequence[Annotated]:
    if request.coco is None:
        assert request.labels is not None
        return annotated_by_labels(request.labels, config.model.hidden, config.evaluation)
    return annotated_by_coco(
        request.coco,
        config.model.hidden,
        config.evaluation,
        max_pixels=config.images.max_decoded_pixels,
        normalised=request.normalised,
    )


def _images(
    folder: Path | None, config: Config, annotated: Sequence[Annotated], problems: list[Problem]
) -> FileIndex[Path]:
    """The images of the folder; those without annotation are problems."""
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


def _finder(config: Config, request: Request, images: FileIndex[Path], without: list[str]) -> tuple[Finder, str]:
    """What tells what was hidden, and a description of it.

    Raises:
        UsageError: a folder is missing.
        ModelError: the model is not available.
    """
    for kind, folder in (("mask", request.masks), ("instances", request.instances)):
        if folder is None:
            continue
        option = "--masks" if kind == "mask" else "--instances"
        if not folder.is_dir():
            raise UsageError(f"The folder {folder} does not exist or is no folder ({option}).")
        files = index_files(folder, _SUFFIXES[kind])
        if not files:
            raise UsageError(
                f"There is no file *{_SUFFIXES[kind]} in {folder} ({option}). A run writes them with "
                f"remote_{kind}: True."
            )
        if kind == "mask":
            return finders.by_masks(files, without), f"the masks in {folder}"
        return finders.by_instances(files, config, without), f"the saved instances in {folder}"
    if request.images is None:
        raise UsageError("Without --masks or --instances the model is run, which needs the images (-i).")
    check_models(config)
    names = ", ".join(config.model.models)
    finder = finders.by_model(config, images, curves=request.curves, progress=sys.stderr.isatty())
    return finder, f"{names}, run on {request.images}"


def _pairs(annotated: Sequence[Annotated], finder: Finder, problems: list[Problem]) -> Iterator[tuple[Truth, Found]]:
    """Ground truth of each image and what was hidden there; an image that fails is a problem, and left out."""
    for one in tqdm(annotated, unit=" images", disable=not sys.stderr.isatty(), dynamic_ncols=True):
        try:
            truth = one.load()
            found = finder(truth)
        except ImageError as error:
            problems.append(Problem(one.name, str(error)))
            continue
        yield truth, found


def _check_output(folder: Path) -> None:
    """Makes sure that pictures of people do not land among results that may be published.

    Raises:
        UsageError: the folder is, or lies in, one that holds results of a run.
    """
    root = result_root_of(folder)
    if root is not None:
        raise UsageError(
            f"{root} holds results of a run, which may be published, but an evaluation shows what was not hidden. "
            "Choose a folder elsewhere (-o)."
        )


def _write(folder: Path, texts: Mapping[str, str]) -> None:
    """Writes all files completely before any of them takes the place of an earlier one."""
    try:
        with tempfile.TemporaryDirectory(prefix=".evaluation-", dir=folder) as temporary:
            for name, text in texts.items():
                # Half characters, which stand for bytes of names that are not UTF-8, as JSON escapes them.
                Path(temporary, name).write_bytes(text.encode("utf-8", "backslashreplace"))
            for name in texts:
                Path(temporary, name).replace(folder / name)
    except OSError as error:
        raise UsageError(f"The results cannot be written to {folder}: {error.strerror or error} (-o).") from error
