"""What a configuration finds and misses on all measuring sets, as the tables of ``docs/accuracy.md``.

    python -m benchmarks.accuracy [-k CONFIG.yml ...] [--set KEY=VALUE ...] [--only SET ...] [--shared FOLDER]
    python -m benchmarks.accuracy -k config/360_lite_config.yml --only panoramas
    python -m benchmarks.accuracy --set "targets=[plate]" --only romania_plates

The sets are those of ``data`` and ``images/street`` in the shared pictures (ANONYMISE_SHARED), which are not part of
the project; each tells what is labelled in it. Recall is the fraction of the pixels of a class that is hidden. An
object is missed if less than half of its pixels are hidden, and a find is false if less than a tenth of it lies on
anything that is labelled. Intervals (95 %) are from the bootstrap over images, or Wilson's where objects are counted;
the same command gives the same numbers.
"""

import argparse
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from anonymise import config
from anonymise.anonymiser import model_source, read_image
from anonymise.config import Config
from anonymise.core.classes import LABELS, label_of
from anonymise.core.detections import Detections, Instance, Mask
from anonymise.detection.model_source import ModelSource
from anonymise.evaluation.coco_annotations import annotated_by_coco
from anonymise.evaluation.intervals import bootstrap_ratios, wilson
from anonymise.evaluation.label_images import annotated_by_labels
from anonymise.evaluation.synonyms import found_as
from anonymise.evaluation.truth import Annotated, Truth
from anonymise.models import load_masker
from benchmarks.shared import SHARED

_GROUPS = {
    "person": ("person",),
    "car": ("car",),
    "two-wheeler": ("bicycle", "motorcycle"),
    "bus, truck": ("bus", "truck"),
}
"""Column → the classes in it."""

COMPLETE = ("empty_norway", "empty_roads", "kitti_road", "dashcam", "lund", "vistas", "coco_val", "street")
"""Sets in which all people and vehicles are labelled."""

EMPTY = ("empty_norway", "empty_roads")

_PARTS = {"faces": "face", "romania_plates": "plate"}
"""Sets of parts → their class. Where it is not hidden for itself, the person or the vehicle is to cover it."""

_MISSED, _FALSE, _COVERED = 0.5, 0.1, 0.95
_MIN_HEIGHT = 0.01
_HEIGHTS = (0.025, 0.05, 0.1, 1.0)
"""Upper limits of the groups by size, as fractions of the image's height."""

_VEHICLES = tuple(label_of(name) for name in ("bicycle", "car", "motorcycle", "bus", "truck"))


class Thing(NamedTuple):
    """A labelled object: whether it is a person, its height as a fraction of the image's, and what is hidden of it."""

    is_person: bool
    height: float
    hidden: float
    attributes: tuple[tuple[str, str], ...]


@dataclass
class Tally:
    """Counts of one image.

    Attributes:
        pixels: (groups + background, 2): hidden, and all.
        false: false finds of people, and of vehicles.
        things: the labelled objects.
    """

    pixels: np.ndarray = field(default_factory=lambda: np.zeros((len(_GROUPS) + 1, 2)))
    false: np.ndarray = field(default_factory=lambda: np.zeros(2))
    things: list[Thing] = field(default_factory=list)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-k", "--config", type=Path, action="append", metavar="CONFIG.yml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--only", nargs="+", default=[*COMPLETE, *_PARTS], metavar="SET")
    parser.add_argument("--shared", type=Path, default=SHARED, help="the folder of the shared pictures")
    arguments = parser.parse_args()
    files = arguments.config or [Path("lite_config.yml")]
    sets = {name: annotated_of(name, arguments.shared, files, arguments.set) for name in arguments.only}
    sets = {name: found for name, found in sets.items() if found}
    if not sets:
        raise SystemExit(f"Nothing is measured: {arguments.shared} has no measuring sets (--shared, ANONYMISE_SHARED).")
    settings = config.load(files, arguments.set)
    model = model_source(load_masker(settings.model, progress=False), settings)
    started = time.process_time()
    tallies = {name: [_tally(model, settings, *pair) for pair in found] for name, found in sets.items()}
    n_images = sum(map(len, tallies.values()))
    print(f"{n_images} images, {(time.process_time() - started) / n_images * 1000:.0f} ms of CPU time an image\n")
    _print_sets({name: found for name, found in tallies.items() if name not in _PARTS})
    _print_sizes([t for name, found in tallies.items() if name not in (*_PARTS, "street") for t in found])
    _print_attributes({name: found for name, found in tallies.items() if name in _PARTS})


def annotated_of(
    name: str, shared: Path, files: Sequence[Path], overrides: Sequence[str]
) -> list[tuple[Path, Annotated]]:
    """The images of a set and their labels, in the order of their names."""
    if name == "street":
        settings = config.load(files, overrides)
        folder = shared / "images" / "street"
        if not folder.is_dir():
            return []
        annotated = annotated_by_labels(folder / "labels", settings.model.hidden, settings.evaluation)
    else:
        folder = shared / "data" / name
        if not folder.is_dir():
            return []
        meaning = [shared / "data" / ("evaluate_covered.yml" if name in _PARTS else "evaluate.yml")]
        if name in _PARTS and label_of(_PARTS[name]) in config.load(files, overrides).model.hidden:
            overrides = [*overrides, 'evaluation_class_synonyms={"traffic sign": null}']
        settings = config.load([*files, *meaning], overrides)
        annotated = annotated_by_coco(
            folder / "annotations.json", settings.model.hidden, settings.evaluation, max_pixels=10**9
        )
    by_name = {one.name: one for one in annotated}
    return [(file, by_name[file.stem]) for file in sorted((folder / "images").iterdir()) if file.stem in by_name]


def _tally(model: ModelSource, settings: Config, file: Path, annotated: Annotated) -> Tally:
    image = read_image(file.read_bytes(), settings, name=file.name)
    return tally_of(model.of(image.name).find(image), settings, annotated)


def tally_of(detections: Detections, settings: Config, annotated: Annotated) -> Tally:
    """The counts of an image in which something was found."""
    truth = annotated.load()
    hidden = detections.union()
    tally = Tally()
    anything = _anything(truth)
    for row, classes in enumerate(_GROUPS.values()):
        for category, region in truth.regions.items():
            label = found_as(category, settings.evaluation.evaluation_class_synonyms)
            if label is not None and LABELS[label] in classes:
                tally.pixels[row] += np.count_nonzero(hidden & region), np.count_nonzero(region)
    background = ~anything if truth.void is None else ~(anything | truth.void)
    tally.pixels[-1] = np.count_nonzero(hidden & background), np.count_nonzero(background)
    labelled = anything if truth.void is None else anything | truth.void
    for instance in detections.instances:
        if not instance.continues and _is_false(instance, labelled):
            tally.false[int(instance.label in _VEHICLES)] += 1
    for thing in truth.objects:
        if not thing.crowd:
            share = float((hidden[thing.box.slices] & thing.mask).sum() / thing.mask.sum())
            height = thing.box.height / truth.size.height
            attributes = tuple(sorted(thing.attributes.items()))
            tally.things.append(Thing(thing.label == label_of("person"), height, share, attributes))
    return tally


def _anything(truth: Truth) -> Mask:
    union = np.zeros((truth.size.height, truth.size.width), np.bool_)
    for region in truth.regions.values():
        union |= region
    return union


def _is_false(instance: Instance, labelled: Mask) -> bool:
    return bool(np.count_nonzero(labelled[instance.box.slices] & instance.mask) < _FALSE * instance.area())


def _print_sets(sets: dict[str, list[Tally]]) -> None:
    empty = [tally for name in EMPTY for tally in sets.get(name, [])]
    labelled = [tally for name, found in sets.items() if name not in (*EMPTY, "street") for tally in found]
    rows = {**sets, "**empty roads**": empty, "**all but street and empty**": labelled}
    heads = ("set", "images", *_GROUPS, "over-blur", "missed people", "missed vehicles", "false an image (people)")
    print("| " + " | ".join(heads) + " |")
    print("|" + " --- |" * len(heads))
    for name, found in rows.items():
        if not found:
            continue
        pixels = np.stack([tally.pixels for tally in found])
        false = np.stack([tally.false for tally in found])
        ends = bootstrap_ratios(
            np.concatenate([pixels[..., 0], false.sum(axis=1, keepdims=True)], axis=1),
            np.concatenate([pixels[..., 1], np.ones((len(found), 1))], axis=1),
            samples=1000,
            confidence=0.95,
            seed=0,
        )
        cells = []
        for number in range(len(_GROUPS) + 1):
            hit, total = pixels[:, number].sum(axis=0)
            decimals = 3 if number < len(_GROUPS) else 4
            cells.append(f"{hit / total:.{decimals}f} {_interval(ends[number], decimals)}" if total else "")
        for is_person in (True, False):
            shares = [t.hidden for tally in found for t in tally.things if t.is_person is is_person and _counts(t)]
            cells.append(f"{sum(share < _MISSED for share in shares)} of {len(shares)}" if shares else "")
        people, vehicles = false.mean(axis=0)
        cells.append(f"{people + vehicles:.2f} {_interval(ends[-1], 2)} ({people:.2f})")
        print("| " + " | ".join([name, str(len(found)), *cells]) + " |")
    print()


def _counts(thing: Thing) -> bool:
    return thing.height >= _MIN_HEIGHT


def _interval(ends: Sequence[float], decimals: int) -> str:
    low, high = ends
    return f"[{low:.{decimals}f}, {high:.{decimals}f}]"


def _print_sizes(tallies: Sequence[Tally]) -> None:
    things = [thing for tally in tallies for thing in tally.things]
    if not things:
        return
    print("| height of the object | missed people | missed vehicles | of the found ones hidden to 99 % |")
    print("| --- | --- | --- | --- |")
    for low, high in itertools.pairwise((_MIN_HEIGHT, *_HEIGHTS)):
        cells = []
        group = [thing for thing in things if low <= thing.height < high or thing.height == high == 1]
        for is_person in (True, False):
            shares = [thing.hidden for thing in group if thing.is_person is is_person]
            cells.append(_rate(sum(share < _MISSED for share in shares), len(shares)))
        found = [thing.hidden for thing in group if thing.hidden >= _MISSED]
        cells.append(_rate(sum(share >= 0.99 for share in found), len(found)))
        print(f"| {low:.1%} to {high:.1%} | " + " | ".join(cells) + " |")
    print()


def _print_attributes(sets: dict[str, list[Tally]]) -> None:
    if not sets:
        return
    print(f"| set | group | covered to {_COVERED:.0%} |")
    print("| --- | --- | --- |")
    for name, found in sets.items():
        things = [thing for tally in found for thing in tally.things]
        print(f"| {name} | all | {_rate(sum(t.hidden >= _COVERED for t in things), len(things))} |")
        for attribute in sorted({pair for thing in things for pair in thing.attributes}):
            group = [thing for thing in things if attribute in thing.attributes]
            rate = _rate(sum(t.hidden >= _COVERED for t in group), len(group))
            print(f"| {name} | {': '.join(attribute)} | {rate} |")


def _rate(hit: int, total: int) -> str:
    if not total:
        return ""
    low, high = wilson(hit, total, 0.95)
    return f"{hit} of {total} {_interval((low, high), 2)}"


if __name__ == "__main__":
    main()
