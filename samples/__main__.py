"""``python -m samples OUT``: draw street pictures to try the program on."""

import argparse
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path, PureWindowsPath

import numpy as np
from PIL import Image

from anonymise.core.detections import RgbImage, Size
from samples.exif_tags import Shot, gpano_xmp, road_exif
from samples.scene import draw_panorama, draw_scene

__all__ = ["main", "write_samples"]

_FOLDER = Path("tilSladding", "2022", "EV00006", "S58", "D1", "F1_2022_05_11")
_PANORAMA_FOLDER = Path("tilSladding", "2022", "360", "EV00006", "S58", "D1", "F1_2022_05_11")
_SIZE = Size(1920, 1080)
_PANORAMA_SIZE = Size(4096, 2048)
_STEP_M = 20.0
_START = Shot(
    # Recorders write local time without a zone, and so does this.
    time=datetime.fromisoformat("2022-05-11T09:42:46.394862"),
    latitude=63.412345,
    longitude=10.398765,
    altitude_m=88.25,
    heading_deg=12.5,
    speed_m_s=13.75,
    meter=1024.25,
    storage="",
    number=1,
)


@dataclass(frozen=True, slots=True)
class _Form:
    """How a picture is stored, and what is in it."""

    suffix: str
    progressive: bool
    orientation: int
    people: int
    cyclists: int = 0
    buses: int = 0
    trucks: int = 0


_FORMS: Sequence[_Form] = (
    _Form(".jpg", progressive=False, orientation=1, people=3),
    _Form(".jpg", progressive=True, orientation=1, people=2, buses=1),
    _Form(".png", progressive=False, orientation=1, people=2, cyclists=1),
    _Form(".jpg", progressive=False, orientation=3, people=2, trucks=1),
)
"""Taken in turn; the last one is from a camera that hangs upside down."""


def write_samples(
    out: Path, *, count: int = 4, size: Size = _SIZE, panorama: bool = False, seed: int = 1
) -> Iterator[Path]:
    """Draw pictures and write them in folders as the road administration has them.

    Args:
        out: folder to write below; it is made where it is missing.
        count: plain pictures.
        size: of the plain pictures in pixels, at least 64 x 64.
        panorama: one 360° picture as well.
        seed: same seed, same pictures.

    Yields:
        Each file when it is complete.
    """
    for index in range(count):
        form = _FORMS[index % len(_FORMS)]
        scene = draw_scene(
            seed + index,
            size,
            cars=3,
            people=form.people,
            cyclists=form.cyclists,
            buses=form.buses,
            trucks=form.trucks,
        )
        shot = replace(_shot(index, _FOLDER, form.suffix), orientation=form.orientation)
        yield _write(out, shot, scene.image, _FOLDER, form)
    if panorama:
        image = draw_panorama(seed, _PANORAMA_SIZE).image
        shot = _shot(0, _PANORAMA_FOLDER, ".jpg")
        yield _write(out, shot, image, _PANORAMA_FOLDER, _FORMS[0], gpano_xmp(_PANORAMA_SIZE))


def _shot(index: int, folder: Path, suffix: str) -> Shot:
    """The exposure ``index`` steps further along the road."""
    meter = _START.meter + index * _STEP_M
    name = f"EV00006_S58D1_m{int(meter):05d}_f1{suffix}"
    return replace(
        _START,
        time=_START.time + timedelta(seconds=index * _STEP_M / _START.speed_m_s),
        # A degree of latitude is 111 km.
        latitude=round(_START.latitude + index * _STEP_M / 111_000, 9),
        meter=meter,
        number=index + 1,
        storage=str(PureWindowsPath("D:\\", "Maalinger", *folder.parts, name)),
    )


def _write(out: Path, shot: Shot, image: RgbImage, folder: Path, form: _Form, xmp: bytes | None = None) -> Path:
    path = out / folder / PureWindowsPath(shot.storage).name
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = image.shape[:2]
    exif = road_exif(shot, Size(width, height), panorama=xmp is not None)
    # Orientation 3 says that the stored picture is to be turned by 180° for viewing.
    picture = Image.fromarray(np.ascontiguousarray(image[::-1, ::-1]) if form.orientation == 3 else image)
    if path.suffix == ".png":
        picture.save(path, exif=exif, compress_level=3)
    elif xmp is not None:
        picture.save(path, quality=90, progressive=form.progressive, exif=exif, xmp=xmp)
    else:
        picture.save(path, quality=90, progressive=form.progressive, exif=exif)
    return path


def _size(text: str) -> Size:
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match or min(int(match[1]), int(match[2])) < 64:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 1920x1080, of at least 64x64 pixels")
    return Size(int(match[1]), int(match[2]))


def main(argv: Sequence[str] | None = None) -> int:
    """Draw what the command line asks for; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m samples", description="Draw street pictures with EXIF.")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write below")
    parser.add_argument("--count", type=int, default=4, help="plain pictures (default %(default)s)")
    parser.add_argument("--size", type=_size, default=_SIZE, metavar="WxH", help="default 1920x1080")
    parser.add_argument("--pano", action="store_true", help="one 360° picture as well, 4096x2048")
    parser.add_argument("--seed", type=int, default=1, help="same seed, same pictures (default %(default)s)")
    options = parser.parse_args(argv)
    if options.count < 0 or options.seed < 0:
        parser.error("--count and --seed are not negative")
    for path in write_samples(
        options.out, count=options.count, size=options.size, panorama=options.pano, seed=options.seed
    ):
        print(path)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
