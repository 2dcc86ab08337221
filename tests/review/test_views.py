"""Pictures made small for a screen."""

import cv2
import numpy as np
import pytest

from anonymise import images
from anonymise.core.detections import Size
from anonymise.core.errors import UnreadableImage
from anonymise.review.views import reduced
from samples.scene import draw_street

_SIZE = Size(640, 400)
_PICTURE = draw_street(3, _SIZE)
_BGR = cv2.cvtColor(_PICTURE, cv2.COLOR_RGB2BGR)


@pytest.mark.parametrize(
    ("suffix", "samples"),
    [
        pytest.param(".jpg", _BGR, id="JPEG"),
        pytest.param(".jpg", cv2.cvtColor(_BGR, cv2.COLOR_BGR2GRAY), id="grey JPEG"),
        pytest.param(".png", _BGR, id="PNG"),
        pytest.param(".png", _BGR.astype(np.uint16) * 257, id="PNG of 16 bits"),
        pytest.param(".png", cv2.cvtColor(_BGR, cv2.COLOR_BGR2GRAY), id="grey PNG"),
        pytest.param(".png", np.dstack((_BGR, np.full(_BGR.shape[:2], 0, np.uint8))), id="transparent PNG"),
    ],
)
@pytest.mark.parametrize("times", [1, 2, 3, 5, 8, 20])
def test_a_picture_made_small_is_the_picture(samples: np.ndarray, suffix: str, times: int) -> None:
    data = cv2.imencode(suffix, samples)[1].tobytes()
    wanted = Size(_SIZE.width // times, _SIZE.height // times)
    small = reduced(data, wanted, max_pixels=10**6)
    whole = images.decode(data, max_pixels=10**6).pixels
    assert small.shape == (wanted.height, wanted.width, 3)
    expected = cv2.resize(whole, (wanted.width, wanted.height), interpolation=cv2.INTER_AREA)
    assert np.abs(small.astype(int) - expected).mean() < 4


def test_a_damaged_picture_is_said_to_be() -> None:
    for suffix in (".jpg", ".png"):
        data = cv2.imencode(suffix, _BGR)[1].tobytes()
        with pytest.raises(UnreadableImage, match=r"damaged|truncated"):
            reduced(data[: len(data) // 3] + b"\0" * 9, Size(64, 40), max_pixels=10**6)
