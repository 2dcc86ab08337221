"""How much of faces of known place and size the models for the class face cover.

    python -m benchmarks.faces [--set KEY=VALUE] [--sheet SHEET.png]
    python -m benchmarks.faces --shrunk-to HEIGHT [--set KEY=VALUE] [--shared FOLDER]

The faces are those of portraits that Python packages carry: matplotlib's sample portrait and scikit-image's astronaut.
Each is laid, in several sizes and mirrored as well, into drawn street images. A package that is not installed is left
out; ``pip install --no-deps scikit-image`` brings the second picture without anything else.

With ``--shrunk-to`` they are the faces of the shared set ``faces`` (ANONYMISE_SHARED), which is not part of the
project: each photograph is made so small, for each of its faces, that this face has the given height in pixels.
"""

import argparse
import importlib.util
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from anonymise import Anonymiser, config
from anonymise.core.detections import Box, Mask, RgbImage, Size
from benchmarks.shared import SHARED
from samples.scene import draw_street

_HEIGHTS = (20, 24, 32, 48, 64, 96, 128, 200)
_SIZE = Size(1280, 720)
_COVERED = 0.9
_BOX_COVERED = 0.95


@dataclass(frozen=True, slots=True)
class Portrait:
    """A picture of one person.

    Attributes:
        package: that carries it.
        file: in the package.
        face: from the hairline to the chin and between the ears, measured by hand.
    """

    package: str
    file: str
    face: Box


_PORTRAITS = (
    Portrait("matplotlib", "mpl-data/sample_data/grace_hopper.jpg", Box(170, 130, 352, 330)),
    Portrait("skimage", "data/astronaut.png", Box(184, 70, 271, 178)),
)


@dataclass(frozen=True, slots=True)
class Scene:
    """A street image with one face.

    Attributes:
        image: the pixels.
        face: the ellipse in the face's box.
    """

    image: RgbImage
    face: Mask


def main() -> None:
    """Prints the share of each face that is covered, by the face's height in pixels."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--sheet", type=Path, help="write a picture of all scenes with what was found")
    parser.add_argument("--shrunk-to", type=int, metavar="HEIGHT", help="of the faces of the shared set, in pixels")
    parser.add_argument("--shared", type=Path, default=SHARED, help="the folder of the shared pictures")
    arguments = parser.parse_args()
    if arguments.shrunk_to:
        settings = config.load(overrides=["targets=[face]", *arguments.set])
        _print_shrunk(arguments.shrunk_to, Anonymiser(settings), arguments.shared / "data" / "faces")
        return
    # What the model covers, without the growth that comes on top.
    anonymiser = Anonymiser(config.load(overrides=["targets=[face]", "mask_dilation_pixels=0", *arguments.set]))
    print(f"{'share of the face that is covered':36}" + "".join(f"{height:>8}" for height in _HEIGHTS) + "  px")
    shares: list[float] = []
    rows: list[RgbImage] = []
    for portrait, picture in _pictures():
        for mirrored in (False, True):
            scenes = [_scene(picture, portrait.face, height, seed, mirrored) for seed, height in enumerate(_HEIGHTS)]
            found = [_hidden(anonymiser, scene.image) for scene in scenes]
            line = [float(hidden[scene.face].mean()) for scene, hidden in zip(scenes, found, strict=True)]
            shares += line
            name = f"{portrait.package}{', mirrored' if mirrored else ''}"
            print(f"{name:36}" + "".join(f"{share:>8.3f}" for share in line))
            rows.append(np.hstack([_thumbnail(*pair) for pair in zip(scenes, found, strict=True)]))
    n_covered = sum(share >= _COVERED for share in shares)
    print(f"{n_covered} of {len(shares)} faces are covered to {_COVERED:.0%} or more, the least to {min(shares):.3f}")
    if arguments.sheet is not None:
        cv2.imwrite(str(arguments.sheet), np.vstack(rows)[..., ::-1])


def _print_shrunk(height: int, anonymiser: Anonymiser, folder: Path) -> None:
    if not folder.is_dir():
        raise SystemExit(f"Nothing is measured: there is no folder {folder} (--shared, ANONYMISE_SHARED).")
    content = json.loads((folder / "annotations.json").read_text("utf-8"))
    names = {image["id"]: image["file_name"] for image in content["images"]}
    (category,) = (one["id"] for one in content["categories"] if one["name"] == "face")
    shares = []
    for face in content["annotations"]:
        if face["category_id"] != category:
            continue
        photograph = cv2.imread(str(folder / "images" / names[face["image_id"]]))
        if photograph is None:
            raise SystemExit(f"{names[face['image_id']]} cannot be read")
        scale = height / face["bbox"][3]
        size = [max(8, round(length * scale)) for length in photograph.shape[1::-1]]
        hidden = _hidden(anonymiser, cv2.resize(photograph, size, interpolation=cv2.INTER_AREA)[..., ::-1])
        left, top, width, tall = (round(length * scale) for length in face["bbox"])
        shares.append(float(hidden[top : top + tall, left : left + width].mean()))
    n_covered = sum(share >= _BOX_COVERED for share in shares)
    print(f"{n_covered} of {len(shares)} faces of {height} pixels are covered to {_BOX_COVERED:.0%} of their boxes")


def _pictures() -> Iterator[tuple[Portrait, RgbImage]]:
    n_found = 0
    for portrait in _PORTRAITS:
        package = importlib.util.find_spec(portrait.package)
        if package is None or not package.submodule_search_locations:
            print(f"(without {portrait.package}, which is not installed)")
            continue
        decoded = cv2.imread(str(Path(package.submodule_search_locations[0], portrait.file)))
        if decoded is None:
            raise SystemExit(f"{portrait.package} does not carry {portrait.file}")
        n_found += 1
        yield portrait, cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
    if not n_found:
        raise SystemExit("Neither matplotlib nor scikit-image is installed.")


def _scene(picture: RgbImage, face: Box, height: int, seed: int, mirrored: bool) -> Scene:
    """A street image in which the portrait stands, its face of the given height."""
    scale = height / face.height
    size = Size(round(picture.shape[1] * scale), round(picture.shape[0] * scale))
    person = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    ellipse = np.zeros(picture.shape[:2], np.uint8)
    middle = (face.left + face.right) // 2, (face.top + face.bottom) // 2
    cv2.ellipse(ellipse, middle, (face.width // 2, face.height // 2), 0, 0, 360, 1, cv2.FILLED)
    ellipse = cv2.resize(ellipse, size, interpolation=cv2.INTER_AREA)
    if mirrored:
        person, ellipse = person[:, ::-1], ellipse[:, ::-1]
    image = draw_street(seed, _SIZE, cars=3, people=2).copy()
    person, ellipse = person[: _SIZE.height], ellipse[: _SIZE.height]  # feet first
    left, top = min(137 + 41 * seed, _SIZE.width - size.width), max(0, _SIZE.height - 60 - person.shape[0])
    place = slice(top, top + person.shape[0]), slice(left, left + person.shape[1])
    image[place] = person
    shown = np.zeros(image.shape[:2], np.bool_)
    shown[place] = ellipse > 0
    return Scene(image, shown)


def _hidden(anonymiser: Anonymiser, image: RgbImage) -> Mask:
    return anonymiser.detect(cv2.imencode(".png", image[..., ::-1])[1].tobytes()).union()


def _thumbnail(scene: Scene, hidden: Mask) -> RgbImage:
    """The part of the scene around the face; what is hidden in red."""
    rows, columns = np.nonzero(scene.face)
    side = max(int(np.ptp(rows)) * 2, 60)
    top, left = max(0, int(rows.mean()) - side // 2), max(0, int(columns.mean()) - side // 2)
    shown = scene.image.copy()
    shown[hidden] = shown[hidden] // 2 + np.array([127, 0, 0], np.uint8)
    part: RgbImage = cv2.resize(shown[top : top + side, left : left + side], (200, 200))
    return part


if __name__ == "__main__":
    main()
