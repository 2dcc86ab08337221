"""Parts of panoramas: what GPano says about them, and that a run hides in them what it hides in the whole."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from anonymise import config
from anonymise.batch import storage
from anonymise.batch.outcomes import Done
from anonymise.batch.paths import Places
from anonymise.batch.runs import anonymise
from anonymise.batch.workers import SerialWorkers
from anonymise.core.detections import Box, Mask, RgbImage, Size
from anonymise.core.projection import PLANAR, Projection, panorama, projection_of
from tests.fakes import Ran, RedMasker, street, write_image

FULL = {
    "ProjectionType": "equirectangular",
    "FullPanoWidthPixels": "3072",
    "FullPanoHeightPixels": "1536",
    "CroppedAreaImageWidthPixels": "3072",
    "CroppedAreaImageHeightPixels": "1536",
    "CroppedAreaLeftPixels": "0",
    "CroppedAreaTopPixels": "0",
}
ROWS = FULL | {"CroppedAreaImageHeightPixels": "615", "CroppedAreaTopPixels": "460"}
PART = ROWS | {"CroppedAreaImageWidthPixels": "1290", "CroppedAreaLeftPixels": "921"}
SHARED = Path(os.environ.get("ANONYMISE_SHARED", Path(__file__).parents[3] / "shared")) / "cases" / "files" / "g"


@pytest.mark.parametrize(
    ("size", "gpano", "expected"),
    [
        ((3072, 1536), {}, Projection((3072, 1536), wraps=True)),
        ((3072, 1536), FULL, Projection((3072, 1536), wraps=True)),
        ((3000, 1500), FULL, Projection((3000, 1500), wraps=True)),
        ((1001, 501), {}, Projection((1001, 501), wraps=True)),
        ((3072, 615), ROWS, Projection((3072, 1536), 0, 460, wraps=True)),
        ((1536, 308), ROWS, Projection((1536, 1536 * 308 / 615), 0, 460 * 308 / 615, wraps=True)),
        ((1290, 615), PART, Projection((3072, 1536), 921, 460)),
        ((645, 307), PART, Projection((1536, 1536 * 307 / 615), 460.5, 460 * 307 / 615)),
        # Whole numbers in other spellings.
        ((1290, 615), PART | {"CroppedAreaTopPixels": "460.0"}, Projection((3072, 1536), 921, 460)),
        ((1290, 615), PART | {"CroppedAreaTopPixels": "920/2"}, Projection((3072, 1536), 921, 460)),
        # A whole turn that begins elsewhere.
        ((3072, 1536), FULL | {"CroppedAreaLeftPixels": "700"}, Projection((3072, 1536), 700, wraps=True)),
    ],
)
def test_gpano_places_a_picture_on_the_sphere(
    size: tuple[int, int], gpano: dict[str, str], expected: Projection
) -> None:
    found, notes = panorama(Size(*size), gpano)
    assert notes == ()
    assert found.wraps == expected.wraps
    assert found.sphere == pytest.approx(expected.sphere)
    assert (found.left, found.top) == pytest.approx((expected.left, expected.top))
    if gpano in ({}, FULL):
        assert found == expected  # not even rounded: a whole panorama is looked at as before


@pytest.mark.parametrize(
    ("changed", "note"),
    [
        ({"CroppedAreaTopPixels": ""}, "not complete"),
        ({"CroppedAreaTopPixels": "many"}, "not complete"),
        ({"CroppedAreaTopPixels": "1/0"}, "not complete"),
        ({"CroppedAreaTopPixels": "nan"}, "not complete"),
        ({"CroppedAreaTopPixels": "-1"}, "negative"),
        ({"FullPanoWidthPixels": "0"}, "negative or zero"),
        ({"CroppedAreaTopPixels": "1000"}, "reach beyond"),
        ({"CroppedAreaImageWidthPixels": "4000"}, "reach beyond"),
        ({"CroppedAreaImageHeightPixels": "400"}, "another shape"),
        ({"FullPanoHeightPixels": "1400"}, "not 2:1"),
        ({"ProjectionType": "cylindrical"}, "not equirectangular"),
    ],
)
def test_crop_fields_that_make_no_sense_are_named_and_not_used(changed: dict[str, str], note: str) -> None:
    found, (first, second) = panorama(Size(3072, 615), ROWS | changed)
    assert note in first
    assert "not 2:1" in second
    assert found == Projection((3072, 1536), 0, 460.5, wraps=True)  # the middle rows


@pytest.mark.parametrize(("size", "top"), [((3072, 615), 460.5), ((3072, 1499), 18.5), ((3072, 1700), 0)])
def test_a_shape_that_nothing_explains_is_named(size: tuple[int, int], top: float) -> None:
    found, (note,) = panorama(Size(*size), {})
    assert "not 2:1" in note
    assert (found.top, found.wraps) == (top, True)
    assert panorama(Size(3072, 1536), {"ProjectionType": "equirectangular"})[1] == ()


@pytest.mark.parametrize(
    ("size", "gpano", "wraps", "note"),
    [
        ((3072, 1536), {}, False, ""),  # 2:1 is no proof
        ((3072, 1536), {"PoseHeadingDegrees": "12"}, False, ""),
        ((3072, 1536), {"ProjectionType": "cylindrical"}, False, ""),
        ((3072, 1536), {"ProjectionType": "equirectangular"}, True, "by its GPano"),
        ((3072, 615), ROWS, True, "by its GPano"),
        ((1536, 308), ROWS, True, "by its GPano"),
        ((800, 600), FULL, False, "another shape"),  # cut out of a panorama, whose metadata were copied
        ((800, 600), {"ProjectionType": "equirectangular"}, False, "not 2:1"),
        ((3072, 1536), FULL | {"CroppedAreaTopPixels": ""}, False, "not complete"),
    ],
)
def test_auto_believes_gpano_that_fits_the_shape(
    size: tuple[int, int], gpano: dict[str, str], wraps: bool, note: str
) -> None:
    found, notes = projection_of("auto", Size(*size), gpano)
    assert (found.sphere is not None, found.wraps) == (wraps, wraps)
    assert len(notes) == bool(note)
    assert all(note in one and "projection" in one for one in notes)
    assert projection_of("planar", Size(*size), gpano) == (PLANAR, ())
    assert projection_of("equirectangular", Size(*size), gpano) == panorama(Size(*size), gpano)


def with_gpano(file: Path, gpano: dict[str, str]) -> None:
    """Puts an XMP packet into a JPEG file."""
    properties = " ".join(f'GPano:{name}="{value}"' for name, value in gpano.items())
    packet = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description xmlns:GPano="http://ns.google.com/photos/1.0/panorama/" {properties}/></rdf:RDF></x:xmpmeta>'
    )
    payload = b"http://ns.adobe.com/xap/1.0/\0" + packet.encode()
    data = file.read_bytes()
    file.write_bytes(data[:2] + b"\xff\xe1" + (len(payload) + 2).to_bytes(2, "big") + payload + data[2:])


SIZE = Size(640, 320)
CARS = [Box(30, 150, 60, 170), Box(200, 100, 260, 125), Box(310, 160, 330, 190), Box(620, 140, 640, 160)]


def run(folder: Path, panorama_picture: RgbImage, where: dict[str, Box], *overrides: str) -> dict[str, Done]:
    """A run over parts of a panorama, as JPEG files with GPano."""
    for name, box in where.items():
        file = write_image(folder / "in" / f"{name}.jpg", panorama_picture[box.slices])
        numbers = (SIZE.width, SIZE.height, box.width, box.height, box.left, box.top)
        with_gpano(file, dict(zip([*FULL], ["equirectangular", *map(str, numbers)], strict=True)))
    keys = ["image_type='360'", "view_fov=[90,55]", "view_side=200", "enable_async=False", "remote_mask=True"]
    loaded = config.load(overrides=[*keys, "merge_min_overlap=0.5", *overrides])
    places = Places.of(folder / "in", folder / "out", None, loaded.files)
    storage.prepare_root(folder / "out")
    ran = Ran()
    report = anonymise(loaded, places, RedMasker(), SerialWorkers(), ran)
    assert report.failed == ()
    return {done.source.stem: done for done in ran.done}


def shape_notes(done: Done) -> list[str]:
    return [note for note in done.notes if "360°" in note]


def hidden(file: Path) -> Mask:
    stored = cv2.imdecode(np.frombuffer(file.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE)
    mask: Mask = np.asarray(stored) == 0
    return mask


@pytest.mark.parametrize("outline", ["box", "superellipse", "ellipse"])
def test_as_much_is_hidden_in_a_part_as_in_the_whole(outline: str, tmp_path: Path) -> None:
    where = {
        "full": Box(0, 0, *SIZE),
        "rows": Box(0, 90, 640, 200),
        "cut": Box(0, 110, 640, 165),  # through three of the cars
        "part": Box(180, 90, 460, 250),
        "corner": Box(220, 108, 320, 180),
        "edge": Box(400, 0, 640, 320),
    }
    done = run(tmp_path, street(SIZE, CARS), where, f"outline={outline}")
    whole = hidden(tmp_path / "out" / "full_mask.png")
    for name, box in where.items():
        assert shape_notes(done[name]) == []
        part = hidden(tmp_path / "out" / f"{name}_mask.png")
        for car in CARS:
            if seen := car.intersection(box):
                wanted = whole[seen.slices]
                share = np.count_nonzero(part[seen.within(box).slices] & wanted) / np.count_nonzero(wanted)
                assert share > 0.97, (name, car)
        # Not much more than that, where no edge cuts a car and goes on in red.
        around = cv2.dilate(whole.astype(np.uint8), np.ones((17, 17), np.uint8))[box.slices] > 0
        assert name in ("cut", "corner", "edge") or not (part & ~around).any(), name


@pytest.mark.parametrize(
    ("keys", "meet", "noted"),
    [
        (["image_type=Planar"], True, True),
        (["image_type=Planar", "projection=planar"], False, False),
        (["image_type=Planar", "projection=equirectangular"], True, False),
        (["image_type='360'", "projection=planar"], False, False),
        (["image_type='360'"], True, False),
    ],
)
@pytest.mark.parametrize("looks", [["view_fov=[]"], ["view_fov=[]", "use_cutouts=True", "cutout_dim_downscale=[2, 4]"]])
def test_whose_edges_meet(keys: list[str], meet: bool, noted: bool, looks: list[str], tmp_path: Path) -> None:
    done = run(tmp_path, street(SIZE, CARS), {"full": Box(0, 0, *SIZE)}, *keys, *looks)
    mask = hidden(tmp_path / "out" / "full_mask.png")
    assert all(mask[car.slices].all() for car in CARS)
    # The margin of the car at the right edge goes on at the left one.
    assert mask[150, :2].all() == meet
    assert not mask[150, 20]
    assert bool(shape_notes(done["full"])) == noted


def test_a_planar_image_that_gpano_calls_a_panorama_is_looked_at_as_a_whole(tmp_path: Path) -> None:
    # Windows show parts of so large an object only.
    picture = street(SIZE, [large := Box(100, 60, 560, 300)])
    keys = [
        "image_type=Planar",
        "use_cutouts=True",
        "cutout_dim_downscale=[4, 4]",
        "cutout_band=[0, 0.1]",
        "view_fov=[]",
    ]
    run(tmp_path, picture, {"full": Box(0, 0, *SIZE)}, *keys)
    assert hidden(tmp_path / "out" / "full_mask.png")[large.slices].all()


def test_images_are_stale_when_their_projection_changes() -> None:
    def fingerprints(*keys: str) -> tuple[str, str]:
        loaded = config.load(overrides=["remote_json=False", *keys])
        return loaded.model_fingerprint("model"), loaded.settings_fingerprint(None)

    plain = fingerprints()
    assert fingerprints("image_type=Dekke") == plain
    for keys in (["projection=planar"], ["projection=equirectangular"], ["image_type='360'"]):
        assert all(map(str.__ne__, fingerprints(*keys), plain))
    assert fingerprints("image_type='360'") == fingerprints("projection=equirectangular")


def test_the_note_of_a_shape_that_nothing_explains_reaches_the_operator(tmp_path: Path) -> None:
    done = run(tmp_path, street(SIZE, CARS), {"full": Box(0, 0, *SIZE), "rows": Box(0, 90, 640, 200)})
    assert shape_notes(done["rows"]) == []
    without = tmp_path / "without"
    write_image(without / "in" / "strip.jpg", street((640, 110)))
    done = run(without, street(SIZE, CARS), {})
    (note,) = shape_notes(done["strip"])
    assert "640×110 pixels, which is not 2:1" in note


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the folder of odd image files is not there (ANONYMISE_SHARED)")
def test_crops_of_the_odd_files_hide_what_the_whole_hides() -> None:
    from anonymise import images
    from anonymise.anonymiser import projection_of
    from anonymise.detection.processor import ImageProcessor
    from anonymise.models import load_masker

    loaded = config.load([Path("360_lite_config.yml")])
    processor = ImageProcessor(load_masker(loaded.model, progress=False), loaded.detection)

    def look(name: str) -> tuple[Mask, tuple[str, ...]]:
        data = (SHARED / f"{name}.jpg").read_bytes()
        projection, notes = projection_of(data, loaded)
        return processor.detect(images.decode(data, max_pixels=10**9).pixels, projection).union(), notes

    whole, notes = look("full")
    assert notes == ()
    for name, left, top, least in (("crop", 0, 460, 0.97), ("cropnogpano", 0, 460, 0.96), ("partial", 921, 460, 0.94)):
        part, notes = look(name)
        assert bool(notes) == (name == "cropnogpano")
        wanted = whole[top : top + part.shape[0], left : left + part.shape[1]]
        assert np.count_nonzero(part & wanted) > least * np.count_nonzero(wanted), name
        assert np.count_nonzero(part & ~wanted) < 0.08 * np.count_nonzero(wanted), name
    assert any("not 2:1" in note for note in look("oddratio")[1])
