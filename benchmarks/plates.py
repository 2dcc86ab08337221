"""How much of the number plates in photographs of cars is hidden, with their vehicles or alone.

    python -m benchmarks.plates [-k CONFIG.yml] [--set KEY=VALUE] [--width PIXELS] [--shared FOLDER] [--sheet OUT.png]
    python -m benchmarks.plates --elsewhere [-k CONFIG.yml] [--set KEY=VALUE] [--shared FOLDER]

``targets: [plate]`` hides plates that are found within vehicles, and vehicles in which none is found. The cars
fill most of their photographs, as cars on a street do not: with ``--width`` each photograph is laid into a drawn street
without vehicles, so large that its plate has that width. It stands out there: take that for a comparison of settings,
not for what is found on real streets.

``--elsewhere`` counts what is taken for a plate on the sets in which all vehicles are labelled, but no plates: a find
is false if less than half of it lies in a labelled vehicle.

The photographs are looked for in ``images/plates_eu`` of the shared pictures, which are not part of the project: in the
folder of ``--shared``, else where ANONYMISE_SHARED says, else in ``shared`` next to the checkout. Each has a text
of one line: file, left, top, width and height of the plate in pixels, and what is on it, with tabs between.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from anonymise import Anonymiser, config, images
from anonymise.core.classes import label_of
from anonymise.core.detections import Box, Mask, RgbImage, Size
from benchmarks.accuracy import COMPLETE, annotated_of
from benchmarks.shared import SHARED
from samples.scene import draw_street

_TARGETS = ("[plate]", "[vehicle]")
_MODELS = ("Lite", "Nano", "[Lite, Nano]")
_COVERED = 0.95
_IN_VEHICLE = 0.5
_STREET = Size(1280, 720)
_TILE = (320, 240)
_TILES_IN_A_ROW = 5


class Picture(NamedTuple):
    """A photograph and where its plate is."""

    name: str
    image: RgbImage
    plate: Box


def main() -> None:
    """Prints what is hidden, for each of the targets and models."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "-k", "--config", type=Path, action="append", metavar="CONFIG.yml", help="config/lite_config.yml"
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--width", type=int, metavar="PIXELS", help="of the plates, in drawn streets")
    parser.add_argument("--shared", type=Path, default=SHARED, help="the folder of the shared pictures")
    parser.add_argument("--elsewhere", action="store_true", help="count false plates on the other measuring sets")
    parser.add_argument("--sheet", type=Path, help="write a picture of the plates that stay visible, row by row")
    arguments = parser.parse_args()
    files = arguments.config or [Path("lite_config.yml")]
    if arguments.elsewhere:
        _print_elsewhere(files, arguments.set, arguments.shared)
        return
    folder = arguments.shared / "images" / "plates_eu"
    pictures = [_picture(file) for file in sorted(folder.glob("*.txt"))]
    if not pictures:
        raise SystemExit(f"Nothing is measured: {folder} has no photographs with plates (--shared, ANONYMISE_SHARED).")
    if arguments.width is not None:
        pictures = [_in_a_street(picture, arguments.width, seed) for seed, picture in enumerate(pictures)]

    print(f"{len(pictures)} plates; the settings are those of {', '.join(map(str, files))} {' '.join(arguments.set)}")
    heads = ("targets", "model_type", f">= {_COVERED:.0%}", "partly", "not at all", "share of plates", "of pictures")
    print("{:12}{:14}{:>8}{:>8}{:>12}{:>17}{:>13}".format(*heads))
    tiles: list[RgbImage] = []
    for targets in _TARGETS:
        for model in _MODELS:
            overrides = [*arguments.set, f"targets={targets}", f"model_type={model}"]
            hidden = _hidden(pictures, Anonymiser(config.load(files, overrides)))
            shares = [float(mask[p.plate.slices].mean()) for p, mask in zip(pictures, hidden, strict=True)]
            n_covered, n_bare = sum(share >= _COVERED for share in shares), shares.count(0)
            print(
                f"{targets:12}{model:14}{n_covered:>8}{len(shares) - n_covered - n_bare:>8}{n_bare:>12}"
                f"{np.mean(shares):>17.3f}{np.mean([mask.mean() for mask in hidden]):>13.3f}"
            )
            visible = [n for n, share in enumerate(shares) if share < _COVERED]
            print(f"{'':12}visible: {', '.join(pictures[n].name for n in visible) or 'none'}")
            tiles += [_tile(pictures[n], hidden[n]) for n in visible]
    if arguments.sheet is not None and tiles:
        cv2.imwrite(str(arguments.sheet), _sheet(tiles)[..., ::-1])


def _print_elsewhere(files: Sequence[Path], overrides: Sequence[str], shared: Path) -> None:
    """Prints, for each set, the finds of plates in labelled vehicles and outside of them."""
    settings = config.load(files, [*overrides, "targets=[plate]"])
    anonymiser = Anonymiser(settings)
    print("| set | images | plates in vehicles | false plates | false an image |\n| --- | --- | --- | --- | --- |")
    for name in COMPLETE:
        pairs = annotated_of(name, shared, files, overrides)
        inside = outside = 0
        for file, annotated in pairs:
            truth = annotated.load()
            vehicles = [thing.box for thing in truth.objects if thing.label != label_of("person")]
            detections = anonymiser.detect(file.read_bytes())
            for box in (i.box for i in detections.instances if i.label == label_of("plate")):
                common = [found.area / box.area for by in vehicles if (found := box.intersection(by)) is not None]
                inside += max(common, default=0) >= _IN_VEHICLE
                outside += max(common, default=0) < _IN_VEHICLE
        if pairs:
            print(f"| {name} | {len(pairs)} | {inside} | {outside} | {outside / len(pairs):.2f} |", flush=True)


def _picture(annotation: Path) -> Picture:
    file, *place, _ = annotation.read_text("utf-8").rstrip("\n").split("\t")
    left, top, width, height = map(int, place)
    decoded = images.decode((annotation.parent / file).read_bytes(), max_pixels=10**8)
    return Picture(annotation.stem, decoded.pixels, Box(left, top, left + width, top + height))


def _in_a_street(picture: Picture, width: int, seed: int) -> Picture:
    """The photograph on the road of a drawn street, its plate ``width`` pixels wide."""
    scale = width / picture.plate.width
    size = Size(*(round(side * scale) for side in picture.image.shape[1::-1]))
    if size.width > _STREET.width or size.height > _STREET.height:
        raise SystemExit(f"--width {width}: {picture.name} is larger than a street of {_STREET.width}x{_STREET.height}")
    image = draw_street(seed, _STREET, cars=0, people=2).copy()
    left, top = (_STREET.width - size.width) // 2, max(0, _STREET.height * 3 // 4 - size.height)
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    image[top : top + size.height, left : left + size.width] = cv2.resize(
        picture.image, size, interpolation=interpolation
    )
    plate = picture.plate
    corners = (
        left + plate.left * scale,
        top + plate.top * scale,
        left + plate.right * scale,
        top + plate.bottom * scale,
    )
    return Picture(picture.name, image, Box(*(round(corner) for corner in corners)))


def _hidden(pictures: Sequence[Picture], anonymiser: Anonymiser) -> list[Mask]:
    encoded = (cv2.imencode(".png", picture.image[..., ::-1])[1].tobytes() for picture in pictures)
    return [anonymiser.detect(data).union() for data in encoded]


def _tile(picture: Picture, hidden: Mask) -> RgbImage:
    """The surroundings of a plate: what is hidden in red, the plate framed in yellow."""
    shown, plate = picture.image.copy(), picture.plate
    shown[hidden] = shown[hidden] // 2 + np.array([127, 0, 0], np.uint8)
    cv2.rectangle(shown, (plate.left - 2, plate.top - 2), (plate.right + 1, plate.bottom + 1), (255, 255, 0), 1)
    around = plate.grown(3 * plate.width, Size(shown.shape[1], shown.shape[0]))
    tile: RgbImage = cv2.resize(shown[around.slices], _TILE, interpolation=cv2.INTER_AREA)
    return tile


def _sheet(tiles: Sequence[RgbImage]) -> RgbImage:
    filled = [*tiles, *[np.zeros_like(tiles[0])] * (-len(tiles) % _TILES_IN_A_ROW)]
    rows = [np.hstack(filled[start : start + _TILES_IN_A_ROW]) for start in range(0, len(filled), _TILES_IN_A_ROW)]
    return np.vstack(rows)


if __name__ == "__main__":
    main()
