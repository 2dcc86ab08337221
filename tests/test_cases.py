"""The odd image files of the measuring material, through the command line and the real model.

What is right for each stands in their README. Each folder is a row of the table at the end.
"""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
OLD = 1577836800  # 2020-01-01, which is the date of all files
FAR = 64  # pixels; no block that a mask touches, and no smoothing between blocks, reaches farther

TIME, PLACE = "2023-06-01T12:00:00", "POINT Z( 10.388333333333334 63.41 88.25 )"
TIMES = {
    **dict.fromkeys(("gpsonly", "zeros", "blank"), "2021-05-04T08:11:12Z"),
    **dict.fromkeys(("datetime", "slash"), "2021-05-04T10:11:12"),
    "subsec": "2021-05-04T10:11:12.123+02:00",
}
GPANO = (
    *("FullPanoWidthPixels", "FullPanoHeightPixels", "CroppedAreaImageWidthPixels", "CroppedAreaImageHeightPixels"),
    *("CroppedAreaLeftPixels", "CroppedAreaTopPixels"),
)
PICTURES = frozenset({".jpg", ".png", ".jfif", ".mpo", ".insp", ".jpe"})


@dataclass(frozen=True)
class Ran:
    """What a run over one folder left.

    Attributes:
        source: the folder with the images.
        output: the output folder.
        said: all that was printed.
    """

    source: Path
    output: Path
    said: str

    def images(self) -> Iterator[Path]:
        """The input images that are done."""
        found = [path for path in sorted(self.source.rglob("*")) if self.of(path).is_file() and path.is_file()]
        assert found
        yield from found

    def of(self, source: Path) -> Path:
        return self.output / source.relative_to(self.source)

    def companion(self, source: Path, ending: str) -> Path:
        return self.of(source).with_name(source.stem + ending)

    def record(self, source: Path) -> dict[str, object]:
        record: dict[str, object] = json.loads(self.companion(source, ".json").read_text("utf-8"))
        return record

    def objects(self, source: Path) -> dict[str, str]:
        objects = self.record(source)["detekterte_objekter"]
        assert isinstance(objects, dict)
        return objects

    def notes(self, source: Path) -> str:
        return "\n".join(line for line in self.said.splitlines() if str(source) in line)

    def hidden(self, source: Path) -> NDArray[np.bool_]:
        """What was hidden, on the stored picture."""
        hidden: NDArray[np.bool_] = np.asarray(opened(self.companion(source, "_mask.png"))) == 0
        return hidden


def opened(path: Path) -> Image.Image:
    return Image.open(io.BytesIO(path.read_bytes()))


def shown(path: Path) -> NDArray[np.uint8]:
    """The picture as viewers show it, 8-bit RGB."""
    return np.asarray(ImageOps.exif_transpose(opened(path)).convert("RGBA"))[..., :3]


def assert_same_far_from_masks(ran: Ran, source: Path) -> None:
    far = cv2.dilate(ran.hidden(source).astype(np.uint8), np.ones((2 * FAR + 1, 2 * FAR + 1))) == 0
    before, after = (np.asarray(opened(path).convert("RGB")) for path in (source, ran.of(source)))
    assert before.shape == after.shape
    assert np.array_equal(before[far], after[far]), source


def assert_nothing_personal(ran: Ran) -> None:
    for path in ran.output.rglob("*"):
        if path.is_file() and ".anonymise" not in path.parts:
            data = path.read_bytes()
            assert not any("NORDMANN".encode(form) in data for form in ("ascii", "utf-16-le", "utf-16-be")), path


def structures(ran: Ran) -> None:
    assert "dnl.jpg" not in {path.name for path in ran.images()}
    assert "frame header" in ran.notes(ran.source / "dnl.jpg")
    for source in ran.images():
        if opened(source).mode == "CMYK":
            assert "CMYK" in ran.notes(source)
        else:
            assert "quality" not in ran.notes(source)
            assert_same_far_from_masks(ran, source)
    assert len(list(ran.images())) == len(list(ran.source.iterdir())) - 1


def exif(ran: Ran) -> None:
    assert len(list(ran.images())) == len(list(ran.source.iterdir()))
    plain = ran.objects(ran.source / "fill.jpg")
    for source in ran.images():
        record, out = ran.record(source), opened(ran.of(source)).getexif()
        place = PLACE.replace("88.25", "-88.25") if source.name.startswith("altref") else PLACE
        assert record["exif_tid"] == TIME, source
        assert out.get_ifd(0x8769)[0x9003] == "2023:06:01 12:00:00", source
        if source.name == "null island.jpg":
            assert record["exif_gpsposisjon"] is None
        else:
            assert str(record["exif_gpsposisjon"]).endswith(place), source
            assert float(out.get_ifd(0x8825)[2][0]) == 63, source
        assert ran.objects(source) == plain, source
        assert shown(ran.of(source)).shape == (544, 960, 3), source


def xmp(ran: Ran) -> None:
    assert len(list(ran.images())) == len(list(ran.source.iterdir()))
    for source in ran.images():
        out = ran.of(source).read_bytes().decode("latin-1")
        assert "equirectangular" in out
        assert all(f'GPano:{name}="' in out for name in GPANO), source
    assert_nothing_personal(ran)


def png(ran: Ran) -> None:
    assert "CgBI" in ran.notes(ran.source / "cgbi.png")
    assert len(list(ran.images())) == len(list(ran.source.iterdir())) - 1
    plain = ran.objects(ran.source / "text.png")
    for source in ran.images():
        before, after = source.read_bytes(), ran.of(source).read_bytes()
        assert (after[24] == 16) == (before[24] == 16), "as many bits"
        if opened(source).mode != "I;16":  # of which Pillow does not see the transparent value
            transparent = [np.asarray(opened(path).convert("RGBA"))[..., 3] == 0 for path in (source, ran.of(source))]
            assert transparent[0].any() == transparent[1].any(), source
        if source.name.startswith(("raw", "exif", "text", "xmp")):
            assert ran.record(source)["exif_tid"] == TIME, source
            assert str(ran.record(source)["exif_gpsposisjon"]).endswith(PLACE), source
            assert float(opened(ran.of(source)).getexif().get_ifd(0x8825)[2][0]) == 63, source
            assert ran.objects(source) == plain, source
            assert shown(ran.of(source)).shape == (272, 480, 3)
        if source.name == "xmpz.png":
            assert b"equirectangular" in after
    assert_nothing_personal(ran)


def times(ran: Ran) -> None:
    assert len(list(ran.images())) == len(list(ran.source.iterdir()))
    for source in ran.images():
        time = str(ran.record(source)["exif_tid"])
        if source.stem in TIMES:
            assert time == TIMES[source.stem]
        else:
            assert time.startswith("2021-05-0") or "date of its file" in ran.notes(source), source


def panoramas(ran: Ran) -> None:
    whole = ran.hidden(ran.source / "full.jpg")
    for name in ("crop", "partial", "cropnogpano"):
        source = ran.source / f"{name}.jpg"
        part = ran.hidden(source)
        left, top = 0, (whole.shape[0] - part.shape[0]) // 2
        if name != "cropnogpano":
            left, top = (crop_field(source, field) for field in ("CroppedAreaLeftPixels", "CroppedAreaTopPixels"))
        there = whole[top : top + part.shape[0], left : left + part.shape[1]]
        assert there.any()
        assert (there & part).sum() > 0.9 * there.sum(), name
        if name != "cropnogpano":
            assert crop_field(ran.of(source), "CroppedAreaTopPixels") == top
    for name in ("cropnogpano", "oddratio"):
        assert "not 2:1" in ran.notes(ran.source / f"{name}.jpg")
    assert "not 2:1" not in ran.notes(ran.source / "full.jpg")


def crop_field(path: Path, name: str) -> int:
    found = re.search(rf'GPano:{name}(?:="|>)(\d+)'.encode(), path.read_bytes())
    assert found, (path, name)
    return int(found[1])


def names(ran: Ran) -> None:
    """Each picture has files of its own, or is named as not done; what is left out is counted."""
    found = [path for path in ran.source.rglob("*") if path.suffix.lower() in PICTURES]
    pictures = [path for path in found if not path.name.startswith(".")]  # those are of the system, not the camera
    done = set(ran.images())
    assert len({ran.of(source).as_posix().casefold() for source in done}) == len(done)
    for source in pictures:
        name = source.name.encode("utf-8", "replace").decode().splitlines()[0][:50]
        assert source in done or any(name in line for line in ran.said.splitlines() if "FAILED" in line), source
        if source in done:
            assert ran.record(source)["exif_filnavn"], source
            assert ran.of(source).read_bytes() != source.read_bytes()
    left_out = next(line for line in ran.said.splitlines() if "left out" in line)
    assert all(suffix in left_out for suffix in (".heic", ".dng", ".tif", ".webp"))


def orientations(ran: Ran) -> None:
    assert len(list(ran.images())) == len(list(ran.source.iterdir()))
    upright = [ran.source / f"{name}.jpg" for name in (*(f"o{n}" for n in range(1, 9)), "long6", "byte6")]
    for source in upright:
        out, preview = shown(ran.of(source)), np.asarray(opened(ran.companion(source, "_preview.jpg")))
        assert out.shape == preview.shape == (267, 475, 3), source
        assert np.abs(out.astype(int) - preview).mean() < 5, source
        assert str(opened(ran.of(source)).getexif()[0x0112]) in (source.stem[-1], "6"), source
        assert sum(map(int, ran.objects(source).values())) >= 6, source


def sizes(ran: Ran) -> None:
    failed = [path for path in ran.source.iterdir() if path not in set(ran.images())]
    assert [path.name for path in failed] in ([], ["p1.png"])  # p1.jpg is of the same name
    assert all("p1.jpg" in ran.notes(path) for path in failed)
    for source in ran.images():
        assert opened(ran.of(source)).size == opened(source).size


def hidden_orientations(ran: Ran) -> None:
    for kind in ("base", "prog"):
        late, early = (ran.source / f"{when}_{kind}.jpg" for when in ("aftersof", "before"))
        assert ran.objects(late) == ran.objects(early)
        assert ran.objects(early)
        assert np.array_equal(ran.hidden(late), ran.hidden(early))
        assert np.array_equal(shown(ran.of(late)), shown(ran.of(early)))
    assert_nothing_personal(ran)


CASES: dict[str, Callable[[Ran], None]] = {
    "a": structures,
    "b": exif,
    "c": xmp,
    "d": png,
    "f": times,
    "g": panoramas,
    "h": names,
    "i": orientations,
    "j": sizes,
    "k": hidden_orientations,
}


@pytest.mark.parametrize("name", CASES)
def test_odd_files(shared: Path, tmp_path: Path, name: str) -> None:
    folder = shared / "cases" / "files" / name
    if not folder.is_dir():
        pytest.skip("the odd files are not here (ANONYMISE_SHARED)")
    source = shutil.copytree(folder, tmp_path / "in")
    if name == "h":
        add_name_that_is_no_text(source)
    for path in source.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (OLD, OLD))
    previews = ("remote_preview=True", "preview_dim=[480, 272]", "preview_center=[0.5, 0.5]", "remote_mask=True")
    keys = (word for key in (() if name == "h" else previews) for word in ("--set", key))
    settings = ROOT / "config" / ("360_lite_config.yml" if name == "g" else "lite_config.yml")
    command = [sys.executable, "-m", "anonymise", "-i", source, "-o", tmp_path / "out", "-k", settings, *keys]
    done = subprocess.run(
        list(map(str, command)), cwd=ROOT, capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    assert done.returncode in (0, 1), done.stderr
    CASES[name](Ran(source, tmp_path / "out", done.stdout + done.stderr))


def add_name_that_is_no_text(folder: Path) -> None:
    """A file whose name is no UTF-8, where the file system allows it."""
    if sys.platform == "linux":
        picture = next(path for path in folder.rglob("*.jpg") if path.stat().st_size > 10_000)
        shutil.copyfile(picture, os.fsdecode(os.fsencode(folder) + b"/bad\xff.jpg"))
