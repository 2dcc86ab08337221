"""Dark images are looked at once more, in grey and with more contrast."""

from collections.abc import Iterable, Iterator

import numpy as np
import pytest

from anonymise import config
from anonymise.core.classes import label_of
from anonymise.core.detections import Box, Detections, Instance, RgbImage, full_mask
from anonymise.detection.dark import equalised, is_dark
from anonymise.models import Masker
from tests.fakes import found_in

_CAR = label_of("car")
_PLACE = Box(200, 180, 420, 330)


class Contrasts:
    """A masker that finds a car around all that is bright in each channel, and notes what it sees."""

    identity = "contrasts"
    parts: Masker | None = None

    def __init__(self, score: float = 0.8, verifier: Masker | None = None) -> None:
        self._score = score
        self.verifier = verifier
        self.seen: list[RgbImage] = []

    def detect(self, images: Iterable[RgbImage]) -> Iterator[tuple[tuple[Instance, ...], ...]]:
        for image in images:
            self.seen.append(image)
            rows, columns = np.nonzero(image.min(axis=2) > 60)
            if len(rows) < 50:
                yield ((),)
                continue
            box = Box(int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
            yield ((Instance(_CAR, self._score, box, full_mask(box)),),)


def night(light: tuple[int, int, int] = (0, 0, 0)) -> RgbImage:
    """A car that is a little brighter than the night, and light of a colour over all."""
    grey = np.random.default_rng(0).integers(4, 12, (480, 640, 1), np.uint8)
    grey[_PLACE.slices] += 20
    return grey + np.array(light, np.uint8)


def detect(image: RgbImage, masker: Masker, *overrides: str) -> Detections:
    return found_in(image, masker, config.load(overrides=["mask_dilation_pixels=0", "dark_below=70", *overrides]))


@pytest.mark.parametrize("light", [(0, 0, 0), (200, 0, 90)], ids=["no light", "red light"])
def test_a_car_in_the_dark_is_found_at_its_place(light: tuple[int, int, int]) -> None:
    assert detect(night(light), Contrasts(), "dark_below=null").instances == ()
    (car,) = detect(night(light), Contrasts()).instances
    common = car.box.intersection(_PLACE)
    assert common is not None
    assert common.area > 0.8 * max(car.box.area, _PLACE.area)


def test_bright_images_are_looked_at_once() -> None:
    masker = Contrasts()
    detect(np.full((480, 640, 3), 120, np.uint8), masker)
    assert len(masker.seen) == 1


def test_the_verifier_looks_where_there_is_one_and_takes_close_ups_from_there() -> None:
    masker = Contrasts(verifier=(verifier := Contrasts(0.35)))
    (car,) = detect(night(), masker, "verify_sum=0.6", "score_threshold=0.3").instances
    assert len(masker.seen) == 1
    assert [len(np.unique(picture)) > 2 for picture in verifier.seen] == [True, True]
    assert car.score == 0.35


def test_what_the_verifier_gives_a_low_score_is_dropped() -> None:
    masker = Contrasts(verifier=Contrasts(0.25))
    assert detect(night(), masker, "verify_sum=0.4", "score_threshold=0.3").instances == ()


def test_the_picture_is_grey_and_as_large() -> None:
    shown = equalised(night((90, 0, 0)))
    assert shown.shape == (480, 640, 3)
    assert (shown == shown[..., :1]).all()


def test_coloured_light_is_no_daylight() -> None:
    assert is_dark(night((240, 0, 0)), 70)
    assert not is_dark(night((100, 100, 100)), 70)
