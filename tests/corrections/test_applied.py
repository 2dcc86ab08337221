"""Whatever was found and whatever people said: additions are hidden, and removals uncover nothing that others hide."""

import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from anonymise import config
from anonymise.core.classes import label_of
from anonymise.core.detections import Box, Detections, Instance, Size, full_mask
from anonymise.core.projection import projection_of
from anonymise.core.sources import InputImage
from anonymise.core.wraparound import split_at_seam
from anonymise.corrections.source import applied
from anonymise.corrections.store import Correction, Rows

SIZE = Size(40, 20)
OUTLINES = config.load(overrides=["mask_dilation_pixels=0"]).outlines
AROUND, _ = projection_of("equirectangular", SIZE, {})
FLAT, _ = projection_of("planar", SIZE, {})
NAMES = st.sampled_from(["person", "car"])


@st.composite
def boxes(draw: st.DrawFn, *, wraps: bool) -> Box:
    left, top = draw(st.integers(0, SIZE.width - 1)), draw(st.integers(0, SIZE.height - 1))
    widest = SIZE.width if wraps else SIZE.width - left
    width, height = draw(st.integers(1, widest)), draw(st.integers(1, SIZE.height - top))
    return Box(left, top, left + width, top + height)


@st.composite
def cases(draw: st.DrawFn) -> tuple[bool, list[tuple[str, Box]], list[tuple[str, str, Box]]]:
    wraps = draw(st.booleans())
    some = boxes(wraps=wraps)
    finds = draw(st.lists(st.tuples(NAMES, some), max_size=4))
    kinds = st.sampled_from(["add", "remove"])
    return wraps, finds, draw(st.lists(st.tuples(kinds, NAMES, some), max_size=4))


def pixels(box: Box) -> "np.ndarray":
    mask = np.zeros((SIZE.height, SIZE.width), bool)
    mask[box.top : box.bottom, np.arange(box.left, box.right) % SIZE.width] = True
    return mask


@settings(deadline=None)
@given(cases())
def test_nothing_is_uncovered_that_others_hide(
    case: tuple[bool, list[tuple[str, Box]], list[tuple[str, str, Box]]],
) -> None:
    wraps, finds, said = case
    rows = tuple(
        Correction(
            relative="1.png", width=40, height=20, kind=kind, category=name, source="review", batch="b", author="a",
            shape=json.dumps({"box": [box.left, box.top, box.width, box.height]}), id=str(n), status="accepted",
        )
        for n, (kind, name, box) in enumerate(said)
    )  # fmt: skip
    image = InputImage(b"", np.zeros((20, 40, 3), np.uint8), projection=AROUND if wraps else FLAT)
    found = [Instance(label_of(name), 0.9, box, full_mask(box)) for name, box in finds]
    result = applied(Detections(SIZE, split_at_seam(found, SIZE.width)), Rows(rows), image, OUTLINES)

    expected = np.zeros((20, 40), bool)
    for kind, _, box in said:
        if kind == "add":
            expected |= pixels(box)
    for name, box in finds:
        mask = pixels(box)
        removals = [pixels(area) for kind, category, area in said if kind == "remove" and category == name]
        if not any((mask & area).sum() >= 0.9 * mask.sum() for area in removals):
            expected |= mask
    assert np.array_equal(result.union(), expected)
    # Drawing what was saved gives the same again, and without the corrections what was found.
    assert np.array_equal(applied(result, Rows(rows), image, OUTLINES).union(), expected)
    bare = np.zeros((20, 40), bool)
    for _, box in finds:
        bare |= pixels(box)
    assert np.array_equal(applied(result, Rows(), image, OUTLINES).union(), bare)
