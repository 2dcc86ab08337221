import json
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.ExifTags import GPS, IFD, Base

from anonymise.core.detections import Box, Size
from samples import demo
from samples.__main__ import main, write_samples
from samples.contact_sheet import contact_sheet
from samples.exif_tags import ADDITIONAL_INFO, IMAGE_PROPERTIES
from samples.scene import BICYCLE, BUS, CAR, PERSON, TRUCK, Scene, draw_panorama, draw_scene, draw_street
from tests.fakes import street, write_image

pytestmark = pytest.mark.slow

STREET = Size(960, 600)
PANORAMA = Size(1024, 512)


def frame(scene: Scene) -> Box:
    height, width = scene.image.shape[:2]
    return Box(0, 0, width, height)


def assert_drawn_inside(scene: Scene, empty: Scene) -> None:
    """What differs from the empty street reaches from edge to edge of the boxes, and not further."""
    change = np.abs(scene.image.astype(int) - empty.image).max(axis=2)
    # The grain of two pictures differs by less than 30, a shadow by less than 60.
    outside = change > 60
    count = outside.sum()
    for drawn in scene.objects:
        for axis, length in ((1, drawn.box.height), (0, drawn.box.width)):
            reached = np.flatnonzero((change[drawn.box.slices] > 30).any(axis=axis))
            assert np.ptp(reached) > 0.85 * length - 2
        outside[drawn.box.grown(3, Size(*scene.image.shape[1::-1])).slices] = False
    assert outside.sum() < 0.02 * count


def test_same_seed_same_picture() -> None:
    first, second = draw_scene(7, STREET), draw_scene(7, STREET)
    assert np.array_equal(first.image, second.image)
    assert first.objects == second.objects
    assert np.array_equal(first.image, draw_street(7, STREET))
    assert not np.array_equal(first.image, draw_street(8, STREET))


def test_same_seed_same_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert main([str(tmp_path / name), "--size", "320x240", "--seed", "5"]) == 0
    first, second = (
        {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.*")}
        for name in ("one", "two")
    )
    assert len(first) == 4
    assert first == second


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 1 << 32),
    width=st.integers(64, 700),
    height=st.integers(64, 500),
    counts=st.tuples(*[st.integers(0, 4)] * 2, *[st.integers(0, 1)] * 3),
)
def test_objects_are_whole_and_apart(seed: int, width: int, height: int, counts: tuple[int, ...]) -> None:
    cars, people, cyclists, buses, trucks = counts
    scene = draw_scene(
        seed, Size(width, height), cars=cars, people=people, cyclists=cyclists, buses=buses, trucks=trucks
    )
    assert scene.image.shape == (height, width, 3)
    assert scene.image.dtype == np.uint8
    found = Counter(drawn.label for drawn in scene.objects)
    wanted = {PERSON: people + cyclists, BICYCLE: cyclists, CAR: cars, BUS: buses, TRUCK: trucks}
    assert all(count <= wanted[label] for label, count in found.items())
    boxes = list(dict.fromkeys(drawn.box for drawn in scene.objects))
    assert all(box.intersection(frame(scene)) == box for box in boxes)
    assert not any(a.intersection(b) for i, a in enumerate(boxes) for b in boxes[:i])


@pytest.mark.parametrize("seed", range(3))
def test_boxes_fit_what_is_drawn(seed: int) -> None:
    scene = draw_scene(seed, STREET, cars=2, people=1)
    assert Counter(drawn.label for drawn in scene.objects) == {CAR: 2, PERSON: 1}
    assert_drawn_inside(scene, draw_scene(seed, STREET, cars=0, people=0))


def test_every_kind_finds_room_in_a_road_image() -> None:
    scene = draw_scene(3, Size(2692, 1032), cars=1, people=1, cyclists=1, buses=1)
    assert Counter(drawn.label for drawn in scene.objects) == {CAR: 1, PERSON: 2, BICYCLE: 1, BUS: 1}


def test_panorama_has_a_car_on_the_seam() -> None:
    scene = draw_panorama(2, PANORAMA, cars=1, people=0)
    first, second = (drawn.box for drawn in scene.objects)
    assert (first.left, second.right) == (0, PANORAMA.width)
    assert abs(first.width - second.width) <= 1
    assert first.right < 100
    assert_drawn_inside(scene, draw_panorama(2, PANORAMA, cars=0, people=0))


def test_panorama_closes_at_its_seam() -> None:
    image = draw_panorama(2, PANORAMA).image.astype(int)
    seam = np.abs(image[:, 0] - image[:, -1]).mean()
    beside = np.abs(image[:, 1] - image[:, 0]).mean()
    assert seam < 2 * beside


def test_panorama_boxes_lie_in_the_image() -> None:
    scene = draw_panorama(4, PANORAMA, cars=7, people=7)
    assert Counter(drawn.label for drawn in scene.objects) == {CAR: 8, PERSON: 7}
    assert all(drawn.box.intersection(frame(scene)) == drawn.box for drawn in scene.objects)


@pytest.mark.parametrize(("size", "cars"), [(Size(100, 60), 1), (PANORAMA, 8), (PANORAMA, -1)])
def test_panorama_that_cannot_be(size: Size, cars: int) -> None:
    with pytest.raises(ValueError, match=r"at most|twice as wide"):
        draw_panorama(1, size, cars=cars)


def xml(blob: bytes) -> ElementTree.Element:
    assert blob.startswith(b"\xef\xbb\xbf<?xml")
    return ElementTree.fromstring(blob.decode("utf-8-sig"))


def test_files_and_their_exif(tmp_path: Path) -> None:
    paths = list(write_samples(tmp_path, size=Size(320, 200)))
    folder = tmp_path / "tilSladding" / "2022" / "EV00006" / "S58" / "D1" / "F1_2022_05_11"
    assert [path.relative_to(folder).as_posix() for path in paths] == [
        "EV00006_S58D1_m01024_f1.jpg",
        "EV00006_S58D1_m01044_f1.jpg",
        "EV00006_S58D1_m01064_f1.png",
        "EV00006_S58D1_m01084_f1.jpg",
    ]
    forms = []
    for path in paths:
        with Image.open(path) as image:
            image.load()
            assert image.size == (320, 200)
            forms.append((image.format, "progressive" in image.info))
            exif = image.getexif()
        assert exif[Base.Model] == "Drawn Street 3"
        assert exif.get_ifd(IFD.Exif)[Base.DateTimeOriginal].startswith("2022:05:11 09:42:")
        properties, info = xml(exif[IMAGE_PROPERTIES]), xml(exif[ADDITIONAL_INFO])
        assert properties.tag == "ImageProperties"
        assert info.tag == "AdditionalInfoNorway2"
        assert (properties.findtext("ImageName") or "").split("\\")[-1] == path.name
        for name in ("Driver", "CarID", "Comment"):
            assert properties.findtext(f"Surroundings/{name}")
        gps = exif.get_ifd(IFD.GPSInfo)
        degrees, minutes, seconds = (float(part) for part in gps[GPS.GPSLatitude])
        latitude = float(info.findtext("GnssInfo/Latitude") or "nan")
        assert degrees + minutes / 60 + seconds / 3600 == pytest.approx(latitude, abs=1e-7)
        assert (gps[GPS.GPSLatitudeRef], gps[GPS.GPSLongitudeRef]) == ("N", "E")
    assert forms == [("JPEG", False), ("JPEG", True), ("PNG", False), ("JPEG", False)]


def test_the_camera_that_hangs_upside_down(tmp_path: Path) -> None:
    *_, path = write_samples(tmp_path, size=Size(320, 200), seed=1)
    with Image.open(path) as image:
        assert image.getexif()[Base.Orientation] == 3
        stored = np.asarray(image.convert("L"), float)
    upright = stored[::-1]
    # The sky is brighter than the road.
    assert upright[:40].mean() > upright[-40:].mean() + 30


def test_panorama_file_says_that_it_is_one(tmp_path: Path) -> None:
    (path,) = write_samples(tmp_path, count=0, panorama=True)
    with Image.open(path) as image:
        assert image.size == (4096, 2048)
        xmp = image.info["xmp"].decode()
        exif = image.getexif()
    assert 'GPano:ProjectionType="equirectangular"' in xmp
    assert 'GPano:FullPanoWidthPixels="4096"' in xmp
    storage = xml(exif[ADDITIONAL_INFO]).findtext("ImageInfo/StorageFile") or ""
    assert storage.endswith("\\".join(path.relative_to(tmp_path).parts))


@pytest.mark.parametrize("arguments", [["--size", "12x12"], ["--size", "big"], ["--count", "-1"]])
def test_wrong_arguments(tmp_path: Path, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([str(tmp_path / "out"), *arguments])
    assert stopped.value.code == 2
    assert not (tmp_path / "out").exists()


def test_contact_sheet_shows_both() -> None:
    before = np.full((90, 160, 3), (200, 30, 30), np.uint8)
    after = np.full((90, 160, 3), (30, 30, 200), np.uint8)
    sheet = contact_sheet([(before, after, "one: 2 car"), (after, before, "two: ingen å finne")], 600)
    assert sheet.shape[1] == 600
    red, blue = (np.all(np.abs(sheet.astype(int) - picture[0, 0]) < 3, axis=2) for picture in (before, after))
    assert red.sum() == blue.sum() > 0.6 * sheet.shape[0] * 600 / 2
    assert red[:, :300].any()
    assert red[:, 300:].any()
    row = np.flatnonzero(red[:, 100])[0]
    assert blue[row, 400]
    caption = contact_sheet([(before, after, "")], 600)
    assert not np.array_equal(caption, contact_sheet([(before, after, "x")], 600))


def test_contact_sheet_that_cannot_be() -> None:
    picture = np.zeros((9, 16, 3), np.uint8)
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([], 600)
    with pytest.raises(ValueError, match="too narrow"):
        contact_sheet([(picture, picture, "")], 100)


def test_the_demo_shows_pictures_whatever_else_is_among_the_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.jpg", "b.png", "unfinished.jpg"):
        write_image(tmp_path / "in" / "x" / name, street())
    for name, found in (("a.jpg", {"car": "2", "person": "1"}), ("b.png", None)):
        write_image(tmp_path / "out" / "x" / name, street())
        record = json.dumps({"detekterte_objekter": found})
        (tmp_path / "out" / "x" / name).with_suffix(".json").write_text(record)
        (tmp_path / "out" / "x" / f"{name[0]}_instances.json").write_text('{"annotations": []}')
    (tmp_path / "out" / ".anonymise").mkdir()
    (tmp_path / "out" / ".anonymise" / "notes.json").write_text("[]")
    demo.main(tmp_path / "sheet.jpg", tmp_path / "in", tmp_path / "out")
    printed = capsys.readouterr().out.splitlines()
    assert [line.replace("\\", "/") for line in printed[:2]] == ["x/a.jpg: 2 car, 1 person", "x/b.png: nothing"]
    assert (tmp_path / "sheet.jpg").is_file()
