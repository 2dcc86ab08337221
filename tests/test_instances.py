import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from anonymise import instances
from anonymise.detections import Box, Detections, Instance, Size, full_mask
from anonymise.errors import InstancesError

SIZE = Size(13, 9)


@st.composite
def detections(draw: st.DrawFn) -> Detections:
    found = []
    for _ in range(draw(st.integers(0, 4))):
        frame = np.random.default_rng(draw(st.integers(0, 99))).random((SIZE.height, SIZE.width))
        mask = frame < draw(st.sampled_from([0.05, 0.5, 0.97, 2]))
        rows, columns = np.nonzero(mask)
        if len(rows):
            box = Box(int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
            box = box.grown(draw(st.integers(0, 2)), SIZE)
            found.append(Instance(draw(st.sampled_from([1, 3, 8])), 0.5, box, mask[box.slices].copy()))
    return Detections(SIZE, tuple(found))


@settings(deadline=None)
@given(detections())
def test_what_was_found_survives_and_the_masks_are_those_of_coco(found: Detections) -> None:
    text = instances.dumps(found, "æ.jpg")
    again = instances.loads(text)
    assert again.size == SIZE
    for before, after, entry in zip(found.instances, again.instances, json.loads(text)["instances"], strict=True):
        assert (before.label, before.score, before.box) == (after.label, after.score, after.box)
        assert np.array_equal(before.mask, after.mask)
        frame = Detections(SIZE, (before,)).union()
        expected = coco.encode(np.asfortranarray(frame.astype(np.uint8)))
        assert entry["segmentation"] == {"size": [9, 13], "counts": expected["counts"].decode()}


def saved() -> dict[str, Any]:
    box = Box(2, 1, 6, 5)
    found = Detections(SIZE, (Instance(3, 0.9, box, full_mask(box)),))
    content: dict[str, Any] = json.loads(instances.dumps(found, "1.jpg"))
    return content


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["version"], 2),
        (["instances", 0, "bbox"], [3, 1, 4, 4]),
        (["instances", 0, "bbox"], [2, 1, 4, 3]),
        (["instances", 0, "bbox"], [-1, 1, 7, 4]),
        (["instances", 0, "bbox"], [2, 1, 12, 4]),
        (["instances", 0, "bbox"], [2, 1]),
        (["instances", 0, "segmentation", "size"], [13, 9]),
        (["instances", 0, "category_id"], 0),
        (["instances", 0, "score"], None),
        (["image", "width"], "wide"),
        (["instances"], 5),
    ],
)
def test_files_that_contradict_themselves_are_refused(path: list[Any], value: object) -> None:
    content = saved()
    at: Any = content
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    with pytest.raises(InstancesError):
        instances.loads(json.dumps(content))


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"version": 1}'])
def test_other_files_are_refused(text: str) -> None:
    with pytest.raises(InstancesError):
        instances.loads(text)
