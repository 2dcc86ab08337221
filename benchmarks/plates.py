"""How much of the number plates in photographs of cars is hidden, also where no model finds plates.

    python -m benchmarks.plates [-k CONFIG.yml] [--set KEY=VALUE] [--shared FOLDER] [--sheet SHEET.png]

Without a model for plates, ``targets: [plate]`` hides whole vehicles; `docs/models.md` says how to get one.

The photographs are looked for in ``images/plates_eu`` of the shared pictures, which are not part of the project: in the
folder of ``--shared``, else where ANONYMISE_SHARED says, else in ``shared`` beside the checkout. Each comes with a text
of one line: file, left, top, width and height of the plate in pixels, and what is on it, with tabs between.
"""

import argparse
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from anonymise import config, images
from anonymise.detections import Box, Detections, RgbImage
from anonymise.masker import load_masker
from anonymise.processor import ImageProcessor

_SHARED = Path(os.environ.get("ANONYMISE_SHARED", Path(__file__).parents[2] / "shared"))
_TARGETS = ("[plate]", "[vehicle]")
_MODELS = ("Lite", "Nano", "[Lite, Nano]")
_COVERED = 0.95
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
    parser.add_argument("--shared", type=Path, default=_SHARED, help="the folder of the shared pictures")
    parser.add_argument("--sheet", type=Path, help="write a picture of what the last row leaves visible")
    arguments = parser.parse_args()
    folder = arguments.shared / "images" / "plates_eu"
    pictures = [_picture(file) for file in sorted(folder.glob("*.txt"))]
    if not pictures:
        raise SystemExit(f"Nothing is measured: {folder} has no photographs with plates (--shared, ANONYMISE_SHARED).")
    logging.disable(logging.WARNING)  # that there is no model for plates
    files = arguments.config or [Path("lite_config.yml")]

    print(f"{len(pictures)} plates; the settings are those of {', '.join(map(str, files))} {' '.join(arguments.set)}")
    heads = ("targets", "model_type", f">= {_COVERED:.0%}", "partly", "not at all", "share of plates", "of pictures")
    print("{:12}{:14}{:>8}{:>8}{:>12}{:>17}{:>13}".format(*heads))
    missed: list[tuple[Picture, Detections]] = []
    for targets in _TARGETS:
        for model in _MODELS:
            overrides = [*arguments.set, f"targets={targets}", f"model_type={model}"]
            found = _found(pictures, config.load(files, overrides))
            hidden = [detections.union() for detections in found]
            shares = [float(mask[p.plate.slices].mean()) for p, mask in zip(pictures, hidden, strict=True)]
            n_covered, n_bare = sum(share >= _COVERED for share in shares), shares.count(0)
            print(
                f"{targets:12}{model:14}{n_covered:>8}{len(shares) - n_covered - n_bare:>8}{n_bare:>12}"
                f"{np.mean(shares):>17.3f}{np.mean([mask.mean() for mask in hidden]):>13.3f}"
            )
            missed = [
                (picture, detections)
                for picture, detections, share in zip(pictures, found, shares, strict=True)
                if share < _COVERED
            ]
            print(f"{'':12}visible: {', '.join(picture.name for picture, _ in missed) or 'none'}")
    if arguments.sheet is not None and missed:
        cv2.imwrite(str(arguments.sheet), _sheet(missed)[..., ::-1])


def _picture(annotation: Path) -> Picture:
    file, *place, _ = annotation.read_text("utf-8").rstrip("\n").split("\t")
    left, top, width, height = map(int, place)
    decoded = images.decode((annotation.parent / file).read_bytes(), max_pixels=10**8)
    return Picture(annotation.stem, decoded.pixels, Box(left, top, left + width, top + height))


def _found(pictures: Sequence[Picture], settings: config.Config) -> list[Detections]:
    processor = ImageProcessor(load_masker(settings.model, progress=False), settings)
    return [processor.detect(picture.image) for picture in pictures]


def _sheet(missed: Sequence[tuple[Picture, Detections]]) -> RgbImage:
    """The pictures side by side: what is hidden in red, the plate framed in yellow."""
    tiles = [_tile(picture, detections) for picture, detections in missed]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % _TILES_IN_A_ROW)
    rows = [np.hstack(tiles[start : start + _TILES_IN_A_ROW]) for start in range(0, len(tiles), _TILES_IN_A_ROW)]
    return np.vstack(rows)


def _tile(picture: Picture, detections: Detections) -> RgbImage:
    shown, hidden, plate = picture.image.copy(), detections.union(), picture.plate
    shown[hidden] = shown[hidden] // 2 + np.array([127, 0, 0], np.uint8)
    cv2.rectangle(shown, (plate.left, plate.top), (plate.right, plate.bottom), (255, 255, 0), 3)
    tile: RgbImage = cv2.resize(shown, _TILE, interpolation=cv2.INTER_AREA)
    return tile


if __name__ == "__main__":
    main()
