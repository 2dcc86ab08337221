"""An evaluation as text for the terminal, as JSON, and as tidy CSV with a row for each number."""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from anonymise.config import EvaluationOptions
from anonymise.core import yamlfile
from anonymise.core.plaintext import csv_cell, printable
from anonymise.evaluation.average_precision import AveragePrecision
from anonymise.evaluation.evaluation import Evaluation, Row, WantedRecall
from anonymise.evaluation.tally import ALL, SIZE_GROUPS, Count, ImageTally
from anonymise.evaluation.truth import Problem

__all__ = ["VERSION", "About", "as_csv", "as_json", "as_text", "counts", "number", "with_interval"]

VERSION = 1

_COLUMNS = (
    *("measure", "class", "size_group", "attribute", "attribute_value", "threshold", "image"),
    *("value", "low", "high", "hit", "total"),
)


@dataclass(frozen=True, slots=True)
class About:
    """What was evaluated.

    Attributes:
        truth: where the ground truth is from.
        found: where it is from what was hidden.
        configuration: all keys, as YAML.
        problems: images that could not be evaluated.
        without_result: images of which the finished run has no mask or instances.
        wanted: thresholds for the wanted recall; empty without curves.
    """

    truth: str
    found: str
    configuration: str
    problems: tuple[Problem, ...]
    without_result: tuple[str, ...]
    wanted: tuple[WantedRecall, ...]


def counts(evaluation: Evaluation, about: About) -> Mapping[str, int]:
    """How many images and objects there are, by what the report calls them."""
    found = [image.n_found for image in evaluation.images if image.n_found is not None]
    return {
        "images": len(evaluation.images),
        "annotated objects": evaluation.n_objects,
        **({"found objects": sum(found)} if found else {}),
        "images without any annotation": evaluation.n_without_annotation,
        "images without any detection": evaluation.n_without_detection,
        "images without a result of the run": len(about.without_result),
        "images that could not be evaluated": len(about.problems),
    }


def number(value: float | None) -> str:
    """A share with three digits, a dash for none."""
    return "–" if value is None else f"{value:.3f}"


def with_interval(row: Row) -> str:
    """A share with its interval."""
    if row.share is None:
        return "–"
    return number(row.share) + (f" ({number(row.low)}–{number(row.high)})" if row.low is not None else "")


def as_json(evaluation: Evaluation, about: About) -> str:
    """Everything, for programs."""
    content = {
        "version": VERSION,
        "ground_truth": about.truth,
        "found_by": about.found,
        "counts": {name.replace(" ", "_"): n for name, n in counts(evaluation, about).items()},
        "measures": [_row(row) for row in evaluation.rows],
        "attribute_gaps": [
            {
                "class": gap.category,
                "attribute": gap.attribute,
                "most_missed": gap.most,
                "least_missed": gap.least,
                "difference": gap.difference,
                "low": gap.interval.low,
                "high": gap.interval.high,
            }
            for gap in evaluation.gaps
        ],
        "attributes_with_too_many_values": [
            {"class": category, "attribute": attribute} for category, attribute in evaluation.skipped_attributes
        ],
        "coco": {
            kind.kind: {
                "all": dict(kind.statistics),
                "by_class": _plain(kind.by_class),
                "by_image": _plain(kind.by_image),
            }
            for kind in evaluation.precision
        },
        "wanted_recall": [
            {
                "class": wanted.category,
                "wanted": wanted.recall,
                "threshold": wanted.threshold,
                "recall": wanted.reached,
                "over_blur": wanted.over_blur,
            }
            for wanted in about.wanted
        ],
        "images": [_image(image) for image in evaluation.images],
        "without_result": list(about.without_result),
        "not_evaluated": [{"image": problem.name, "reason": problem.reason} for problem in about.problems],
        "configuration": {e.key: e.value for e in yamlfile.entries(about.configuration, "the configuration")},
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def as_csv(evaluation: Evaluation) -> str:
    """All numbers: one row each, with the same columns."""
    text = io.StringIO()
    table = csv.DictWriter(text, _COLUMNS, restval="", lineterminator="\n")
    table.writeheader()
    table.writerows(_cells(_row(row)) for row in evaluation.rows)
    for kind in evaluation.precision:
        table.writerows(map(_cells, _precision_rows(kind)))
    for image in evaluation.images:
        for measure, pixels in (("pixel_recall", image.regions[ALL]), ("over_blur", image.background)):
            if pixels.total:
                row = {"measure": measure, "class": ALL, "size_group": ALL, "image": image.name}
                table.writerow(_cells(row | {"value": pixels.hit / pixels.total, **pixels._asdict()}))
    return text.getvalue()


def _cells(row: Mapping[str, Any]) -> dict[str, Any]:
    known = {key: value for key, value in row.items() if value is not None}
    return {key: csv_cell(value) if isinstance(value, str) else value for key, value in known.items()}


def as_text(evaluation: Evaluation, about: About, options: EvaluationOptions) -> str:
    """What matters, for the terminal."""
    always = ("images", "annotated objects", "found objects")
    tallies = [f"{n} {name}" for name, n in counts(evaluation, about).items() if n or name in always]
    covered, missed = f"≥ {options.evaluation_covered_share:.0%}", f"< {options.evaluation_missed_share:.0%}"
    lines = [
        f"Ground truth: {about.truth}",
        f"Found by:     {about.found}",
        "; ".join(tallies),
        "",
        f"{'':22}{'pixels covered':26}{f'objects {covered} covered':28}{f'objects missed ({missed})':26}objects",
    ]
    for category in (ALL, *evaluation.categories):
        for group in (ALL, *SIZE_GROUPS):
            rows = [
                evaluation.row(measure, category, group)
                for measure in ("pixel_recall", "covered_objects", "missed_objects")
            ]
            if group != ALL and not rows[0].total:
                continue
            name = category if group == ALL else f"  {group}"
            cells = "".join(f"{with_interval(row):{width}}" for row, width in zip(rows, (26, 28, 26), strict=True))
            lines.append(f"{name:22}{cells}{rows[1].total}")
    lines += ["", f"over-blur             {with_interval(evaluation.row('over_blur'))}"]
    lines.append(f"In brackets: {options.evaluation_confidence:.0%} confidence intervals.")
    lines += ["", *_precision_lines(evaluation)]
    lines += _wanted_lines(about)
    lines += _attribute_lines(evaluation, options)
    return "\n".join(map(printable, lines))


def _precision_lines(evaluation: Evaluation) -> Iterator[str]:
    if not evaluation.precision:
        yield "No AP: it needs scores, which masks alone do not have, and annotated objects."
        return
    names = ("AP", "AP50", "AP75", "AR1", "AR10", "AR100")
    yield f"{'COCO':22}" + "".join(f"{name:>8}" for name in names)
    for kind in evaluation.precision:
        yield f"{kind.kind:22}" + "".join(f"{number(kind.statistics[name]):>8}" for name in names)
        for category, values in kind.by_class.items():
            yield f"  {category:20}" + "".join(f"{number(values[name]):>8}" for name in ("AP", "AP50"))


def _wanted_lines(about: About) -> Iterator[str]:
    if not about.wanted:
        return
    yield ""
    yield f"Score threshold that covers {about.wanted[0].recall:.1%} of the pixels:"
    for wanted in about.wanted:
        threshold = f"{wanted.threshold:g}" if wanted.threshold is not None else "none"
        reached = (
            f"covers {number(wanted.reached)}" if wanted.threshold is not None else f"at most {number(wanted.reached)}"
        )
        yield f"  {wanted.category:20}{threshold:8}{reached} at over-blur {number(wanted.over_blur)}"


def _attribute_lines(evaluation: Evaluation, options: EvaluationOptions) -> Iterator[str]:
    rows = evaluation.of_measure("false_negative_rate")
    if rows:
        yield ""
        yield "Objects missed, by attribute:"
    for row in rows:
        few = f"  few: fewer than {options.evaluation_min_group}" if row.total < options.evaluation_min_group else ""
        yield f"  {f'{row.category}, {row.attribute}: {row.value}':40}{with_interval(row):24}of {row.total}{few}"
    for gap in evaluation.gaps:
        yield (
            f"  largest gap of {gap.category}, {gap.attribute}: {number(gap.difference)} "
            f"({number(gap.interval.low)} to {number(gap.interval.high)}), {gap.most} against {gap.least}"
        )


def _row(row: Row) -> dict[str, Any]:
    return {
        "measure": row.measure,
        "class": row.category,
        "size_group": row.group,
        "attribute": row.attribute,
        "attribute_value": row.value,
        "threshold": row.threshold,
        "value": row.share,
        "low": row.low,
        "high": row.high,
        "hit": row.hit,
        "total": row.total,
    }


def _precision_rows(kind: AveragePrecision) -> Iterator[dict[str, Any]]:
    for name, value in kind.statistics.items():
        if value is not None:
            yield {"measure": f"{kind.kind}_{name}", "class": ALL, "size_group": ALL, "value": value}
    for category, values in kind.by_class.items():
        for name, value in values.items():
            if value is not None:
                yield {"measure": f"{kind.kind}_{name}", "class": category, "size_group": ALL, "value": value}
    for image, statistics in kind.by_image.items():
        for name, value in statistics.items():
            if value is not None:
                row = {"measure": f"{kind.kind}_{name}", "class": ALL, "size_group": ALL}
                yield row | {"image": image, "value": value}


def _image(image: ImageTally) -> dict[str, Any]:
    def share(pixels: Count) -> float | None:
        return pixels.hit / pixels.total if pixels.total else None

    return {
        "image": image.name,
        "width": image.size.width,
        "height": image.size.height,
        "annotated_objects": len(image.objects),
        "found_objects": image.n_found,
        "pixel_recall": {category: share(pixels) for category, pixels in image.regions.items()},
        "over_blur": share(image.background),
        "worst_covered_object": min((thing.share for thing in image.objects), default=None),
    }


def _plain(values: Mapping[str, Mapping[str, float | None]]) -> dict[str, dict[str, float | None]]:
    return {name: dict(numbers) for name, numbers in values.items()}
