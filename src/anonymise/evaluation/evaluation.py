"""Ground truth and what was hidden, image by image → an `Evaluation`."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray

from anonymise.config import EvaluationOptions
from anonymise.evaluation.average_precision import AveragePrecision, CocoImage, average_precision, coco_image
from anonymise.evaluation.intervals import Interval, bootstrap_ratios, newcombe, wilson
from anonymise.evaluation.tally import (
    ALL,
    SIZE_GROUPS,
    Count,
    CountedObject,
    ImageTally,
    Miss,
    attribute_values,
    tally,
    worst,
)
from anonymise.evaluation.truth import Found, Truth

__all__ = ["MEASURES", "AttributeGap", "Evaluation", "Row", "WantedRecall", "evaluate"]

MEASURES: Mapping[str, str] = {
    "pixel_recall": "covered pixels",
    "over_blur": "background pixels covered",
    "covered_objects": "objects covered",
    "missed_objects": "objects missed",
    "false_negative_rate": "objects missed, by attribute",
    "curve_recall": "covered pixels at a threshold",
    "curve_over_blur": "background pixels covered at a threshold",
}
"""The measures that are shares, and what they are shares of, in words."""

_OF_OBJECTS = ("pixel_recall", "covered_objects", "missed_objects")
"""Measures that are told by class and size group."""

_MAX_VALUES = 30
"""An attribute with more values than this is no group but a name or a number of its own for each object."""


@dataclass(frozen=True, slots=True)
class Row:
    """One number: a share, how sure it is, and what it is about.

    Attributes:
        measure: one of `MEASURES`.
        category: class of the ground truth, or ``all``.
        group: one of `SIZE_GROUPS`, or ``all``.
        hit: pixels or objects that count.
        total: number of all pixels or objects.
        low: lower end of the confidence interval; None where there is none.
        high: its upper end.
        attribute: name of an attribute.
        value: value of the attribute.
        threshold: score from which on objects are hidden.
    """

    measure: str
    category: str
    group: str
    hit: int
    total: int
    low: float | None
    high: float | None
    attribute: str | None = None
    value: str | None = None
    threshold: float | None = None

    @property
    def share(self) -> float | None:
        """The number itself; None of nothing."""
        return self.hit / self.total if self.total else None


@dataclass(frozen=True, slots=True)
class AttributeGap:
    """The largest difference of false-negative rates between the groups of an attribute.

    Attributes:
        category: class of the ground truth.
        attribute: its name.
        most: value of the group that is missed most often.
        least: value of the group that is missed least often.
        difference: difference of their rates.
        interval: interval of the difference, at the confidence divided over all pairs of groups (Bonferroni), as the
            pair was chosen for its difference.
    """

    category: str
    attribute: str
    most: str
    least: str
    difference: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class WantedRecall:
    """Which score threshold gives a class a wanted recall.

    Attributes:
        category: class of the ground truth, or ``all``.
        recall: that is wanted.
        threshold: the highest that reaches it; None if none of ``evaluation_thresholds`` does.
        reached: recall at that threshold, or the best there is.
        over_blur: that comes with it.
    """

    category: str
    recall: float
    threshold: float | None
    reached: float
    over_blur: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was measured.

    Attributes:
        images: counts of each image.
        categories: classes of the ground truth that occur.
        rows: all shares.
        gaps: largest differences between groups, by class and attribute.
        skipped_attributes: (class, attribute) with too many values to be groups.
        precision: COCO's measures of boxes and masks; empty if no scores are known or nothing is annotated.
        misses: the worst ones.
    """

    images: tuple[ImageTally, ...]
    categories: tuple[str, ...]
    rows: tuple[Row, ...]
    gaps: tuple[AttributeGap, ...]
    skipped_attributes: tuple[tuple[str, str], ...]
    precision: tuple[AveragePrecision, ...]
    misses: tuple[Miss, ...]

    def row(self, measure: str, category: str = ALL, group: str = ALL, threshold: float | None = None) -> Row:
        """One of the numbers.

        Raises:
            KeyError: it was not measured.
        """
        for row in self.rows:
            if (row.measure, row.category, row.group, row.threshold) == (measure, category, group, threshold):
                return row
        raise KeyError((measure, category, group, threshold))

    def of_measure(self, measure: str) -> tuple[Row, ...]:
        """All rows of a measure."""
        return tuple(row for row in self.rows if row.measure == measure)

    @property
    def n_objects(self) -> int:
        """Annotated objects."""
        return sum(len(image.objects) for image in self.images)

    @property
    def n_without_annotation(self) -> int:
        """Images in which nothing is annotated."""
        return sum(not image.regions[ALL].total for image in self.images)

    @property
    def n_without_detection(self) -> int:
        """Images in which nothing was hidden."""
        return sum(not (image.regions[ALL].hit or image.background.hit) for image in self.images)

    def threshold_for(self, recall: float) -> tuple[WantedRecall, ...]:
        """For each class and for all, the highest threshold at which so large a share of the pixels is covered."""
        over_blur = {row.threshold: row.share or 0.0 for row in self.of_measure("curve_over_blur")}
        found = []
        for category in (ALL, *self.categories):
            rows = [r for r in self.of_measure("curve_recall") if r.category == category and r.share is not None]
            if not rows:
                continue
            enough = [row for row in rows if row.share is not None and row.share >= recall]
            best = max(enough, key=lambda row: row.threshold or 0) if enough else max(rows, key=lambda r: r.share or 0)
            threshold = best.threshold if enough else None
            found.append(WantedRecall(category, recall, threshold, best.share or 0.0, over_blur[best.threshold]))
        return tuple(found)


def evaluate(
    pairs: Iterable[tuple[Truth, Found]], options: EvaluationOptions, *, precision: bool = True, per_image: bool = False
) -> Evaluation:
    """Measures what was hidden against the ground truth.

    Images are taken one after the other and only their counts are kept.

    Args:
        pairs: ground truth of an image, and what was hidden there.
        options: what is counted.
        precision: whether COCO's measures are wanted; they are left out if an image has no scores.
        per_image: whether they are wanted for each image alone as well.

    Raises:
        ImageError: ground truth and mask of an image are not of one size.
    """
    images: list[ImageTally] = []
    entries: list[CocoImage] | None = [] if precision else None
    misses: tuple[Miss, ...] = ()
    for truth, found in pairs:
        image = tally(truth, found, options)
        images.append(image)
        misses = worst((*misses, *image.misses), options)
        if found.instances is None:
            entries = None
        elif entries is not None:
            entries.append(coco_image(truth, found.instances))
    occurring = {category for image in images for category, pixels in image.regions.items() if pixels.total}
    categories = tuple(sorted(occurring - {ALL}))
    objects = [thing for image in images for thing in image.objects]
    by_attribute, skipped = _attribute_rows(objects, options)
    return Evaluation(
        images=tuple(images),
        categories=categories,
        rows=(*_share_rows(images, categories, options), *by_attribute),
        gaps=_gaps(by_attribute, options),
        skipped_attributes=skipped,
        precision=average_precision(entries, per_image=per_image) if entries else (),
        misses=misses,
    )


class _Columns:
    """Sums per image of many ratios at once, so that all of them are bootstrapped together."""

    def __init__(self, n_images: int, keys: Iterable[tuple[str, str, str]]) -> None:
        self._n = n_images
        self._sums: dict[tuple[str, str, str, float | None], NDArray[np.int64]] = {
            (*key, None): np.zeros((n_images, 2), np.int64) for key in keys
        }

    def add(self, image: int, hit: int, total: int, *key: str, threshold: float | None = None) -> None:
        """Adds to (measure, class, size group)."""
        measure, category, group = key
        full = measure, category, group, threshold
        sums = self._sums.setdefault(full, np.zeros((self._n, 2), np.int64))
        sums[image] += hit, total

    def rows(self, options: EvaluationOptions) -> list[Row]:
        """A row for each ratio, in the order in which they came."""
        sums = np.stack([*self._sums.values()], axis=1).astype(np.float64)  # (images, ratios, 2)
        intervals = bootstrap_ratios(
            sums[..., 0],
            sums[..., 1],
            samples=options.evaluation_bootstrap_samples,
            confidence=options.evaluation_confidence,
            seed=options.evaluation_bootstrap_seed,
        )
        rows = []
        for (measure, category, group, threshold), counts, ends in zip(
            self._sums, self._sums.values(), intervals.tolist(), strict=True
        ):
            hit, total = counts.sum(axis=0).tolist()
            low, high = ends if total else (None, None)
            if total and hit in (0, total) and measure.endswith("_objects"):
                # No sample can differ where all objects are alike, which would look like certainty.
                low, high = wilson(hit, total, options.evaluation_confidence)
            rows.append(Row(measure, category, group, hit, total, low, high, threshold=threshold))
        return rows


def _share_rows(images: Sequence[ImageTally], categories: Sequence[str], options: EvaluationOptions) -> tuple[Row, ...]:
    # All of them exist, in this order, even where nothing adds to them.
    columns = _Columns(len(images), product(_OF_OBJECTS, (ALL, *categories), (ALL, *SIZE_GROUPS)))
    thresholds = _informative(images, options)
    for n, image in enumerate(images):
        columns.add(n, *image.background, "over_blur", ALL, ALL)
        for category in (ALL, *categories):
            columns.add(n, *image.regions.get(category, Count(0, 0)), "pixel_recall", category, ALL)
        for thing in image.objects:
            _add_object(columns, n, thing, options)
        _add_curves(columns, n, image, (ALL, *categories), thresholds)
    return tuple(columns.rows(options))


def _add_object(columns: _Columns, image: int, thing: CountedObject, options: EvaluationOptions) -> None:
    is_covered = int(thing.share >= options.evaluation_covered_share)
    is_missed = int(thing.share < options.evaluation_missed_share)
    for category in (ALL, thing.category):
        columns.add(image, *thing.pixels, "pixel_recall", category, thing.group)
        for group in (ALL, thing.group):
            columns.add(image, is_covered, 1, "covered_objects", category, group)
            columns.add(image, is_missed, 1, "missed_objects", category, group)


def _informative(images: Sequence[ImageTally], options: EvaluationOptions) -> Mapping[int, float]:
    """Position → threshold, without the lowest ones at which all that was found is hidden.

    What a run did not keep, because its own threshold was higher, cannot be told from what is not there.
    """
    totals = np.zeros(len(options.evaluation_thresholds), np.int64)
    for image in images:
        if image.curves is None or image.background_curve is None:
            return {}
        totals += image.curves[ALL] + image.background_curve
    first = int(np.flatnonzero(totals == totals[0])[-1])
    return {n: t for n, t in enumerate(options.evaluation_thresholds) if n >= first}


def _add_curves(
    columns: _Columns, n: int, image: ImageTally, categories: Sequence[str], thresholds: Mapping[int, float]
) -> None:
    if image.curves is None or image.background_curve is None:
        return
    for position, threshold in thresholds.items():
        over = int(image.background_curve[position])
        columns.add(n, over, image.background.total, "curve_over_blur", ALL, ALL, threshold=threshold)
        for category in categories:
            if category in image.curves:
                hit, total = int(image.curves[category][position]), image.regions[category].total
                columns.add(n, hit, total, "curve_recall", category, ALL, threshold=threshold)


def _attribute_rows(
    objects: Sequence[CountedObject], options: EvaluationOptions
) -> tuple[tuple[Row, ...], tuple[tuple[str, str], ...]]:
    """False-negative rates of each class by each of its attributes; and the attributes that make no groups."""
    counts = attribute_values(objects)
    skipped = tuple(sorted(key for key, values in counts.items() if len(values) > _MAX_VALUES))
    missed: defaultdict[tuple[str, str, str], int] = defaultdict(int)
    for thing in objects:
        if thing.share < options.evaluation_missed_share:
            for attribute, value in thing.attributes.items():
                missed[thing.category, attribute, value] += 1
    rows = []
    for (category, attribute), values in sorted(counts.items()):
        if (category, attribute) in skipped:
            continue
        for value, total in sorted(values.items()):
            hit = missed[category, attribute, value]
            ends = wilson(hit, total, options.evaluation_confidence)
            rows.append(Row("false_negative_rate", category, ALL, hit, total, *ends, attribute, value))
    return tuple(rows), skipped


def _gaps(rows: Sequence[Row], options: EvaluationOptions) -> tuple[AttributeGap, ...]:
    """The largest gap of each class and attribute, among groups that are large enough."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row.total >= options.evaluation_min_group and row.attribute is not None:
            groups.setdefault((row.category, row.attribute), []).append(row)
    gaps = []
    for (category, attribute), members in groups.items():
        if len(members) < 2:
            continue
        n_pairs = len([*combinations(members, 2)])
        most = max(members, key=lambda row: row.share or 0.0)
        least = min(members, key=lambda row: row.share or 0.0)
        if most is least:
            most, least = members[:2]
        interval = newcombe(
            (most.hit, most.total), (least.hit, least.total), 1 - (1 - options.evaluation_confidence) / n_pairs
        )
        difference = most.hit / most.total - least.hit / least.total
        gaps.append(AttributeGap(category, attribute, str(most.value), str(least.value), difference, interval))
    return tuple(gaps)
