import json
import math
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from anonymise.core import saved_instances as instances
from anonymise.core.detections import Box, Detections, Instance, Size, full_mask
from anonymise.core.errors import InstancesError

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


def test_files_of_version_1_are_read() -> None:
    content = saved()
    content["version"] = 1
    del content["checksum"]
    for entry in content["instances"]:
        del entry["source"]
    old, new = (instances.loads(json.dumps(version)) for version in (content, saved()))
    assert instances.dumps(old, "1.jpg") == instances.dumps(new, "1.jpg")


def test_an_edited_file_is_told_from_one_as_it_was_written() -> None:
    text = instances.dumps(instances.loads(json.dumps(saved())), "a\udcff.jpg")
    assert instances.is_untouched(text.encode("utf-8", "backslashreplace"))
    assert not instances.is_untouched(
        text.replace('"continues": false', '"continues": true').encode("utf-8", "replace")
    )
    for other in (b"", b"[]", b"{}", b"\xff", b'{"checksum": ""}'):
        assert not instances.is_untouched(other)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["version"], 3),
        (["instances", 0, "bbox"], [3, 1, 4, 4]),
        (["instances", 0, "bbox"], [2, 1, 4, 3]),
        (["instances", 0, "bbox"], [-1, 1, 7, 4]),
        (["instances", 0, "bbox"], [2, 1, 12, 4]),
        (["instances", 0, "bbox"], [2, 1]),
        (["instances", 0, "segmentation", "size"], [13, 9]),
        (["instances", 0, "category_id"], 0),
        (["instances", 0, "bbox"], [2.5, 1, 4, 4]),
        (["instances", 0, "bbox"], [math.nan, 1, 4, 4]),
        (["instances", 0, "bbox"], [2, 1, math.inf, 4]),
        (["instances", 0, "bbox"], [2, 1, 10**400, 4]),
        (["instances", 0, "bbox"], ["2", 1, 4, 4]),
        (["instances", 0, "segmentation", "counts"], ""),
        (["instances", 0, "segmentation", "counts"], "e3"),  # background only
        (["instances", 0, "segmentation", "counts"], [117]),
        (["instances", 0, "segmentation", "counts"], [18, 99]),  # more than the box
        (["instances", 0, "segmentation", "counts"], [-1, 118]),
        (["instances", 0, "segmentation", "counts"], [0, 10**30]),
        (["instances", 0, "segmentation", "counts"], [[117]]),
        (["instances", 0, "segmentation", "counts"], [math.nan]),
        (["instances", 0, "segmentation", "counts"], 117),
        (["instances", 0, "segmentation", "counts"], "o" * 99),
        (["instances", 0, "segmentation", "counts"], "æ\ud800"),
        (["instances", 0, "segmentation", "size"], [10**9, 10**9]),
        (["instances", 0, "category_id"], [1]),
        (["instances", 0, "score"], None),
        (["instances", 0, "score"], math.nan),
        (["instances", 0, "score"], 2),
        (["instances", 0, "continues"], "false"),
        (["instances", 0], 5),
        (["image", "width"], 13.5),
        (["image", "width"], 10**18),
        (["image", "width"], -13),
        (["image", "height"], math.inf),
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


TWICE = '{"version": 1, "image": {"width": 1, "height": 1}, "instances": [5], "instances": []}'


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"version": 1}', "[" * 100_000, TWICE])
def test_other_files_are_refused(text: str) -> None:
    with pytest.raises(InstancesError):
        instances.loads(text)


def objects() -> Detections:
    """Three objects with masks of many runs, one of them with runs across columns."""
    rng = np.random.default_rng(7)
    found = []
    for label, box in ((1, Box(2, 1, 12, 8)), (3, Box(0, 0, 13, 9)), (8, Box(5, 2, 9, 6))):
        mask = rng.random((box.height, box.width)) < 0.6
        found.append(Instance(label, 0.9, box, mask))
    return Detections(SIZE, tuple(found))


def test_every_cut_of_the_run_lengths_is_refused() -> None:
    text = instances.dumps(objects(), "1.jpg")
    for number, entry in enumerate(json.loads(text)["instances"]):
        for end in range(len(entry["segmentation"]["counts"])):
            content = json.loads(text)
            rle = content["instances"][number]["segmentation"]
            rle["counts"] = rle["counts"][:end]
            with pytest.raises(InstancesError, match=f"object {number + 1} "):
                instances.loads(json.dumps(content))


@settings(deadline=None, max_examples=400)
@given(st.integers(0, 2), st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=80) | st.text())
def test_no_run_lengths_bring_the_process_down(number: int, counts: str) -> None:
    content = json.loads(instances.dumps(objects(), "1.jpg"))
    entry = content["instances"][number]
    entry["segmentation"]["counts"] = counts
    try:
        found = instances.loads(json.dumps(content)).instances[number]
    except InstancesError:
        return
    # What is accepted is what COCO's own code, which trusts it, makes of it.
    assert coco.area(entry["segmentation"]) == found.area() > 0


@settings(deadline=None, max_examples=300)
@given(st.integers(0, 10**6))
def test_a_damaged_file_is_refused_or_hides_what_it_says(seed: int) -> None:
    """Bytes that are changed, lost or doubled: no error but one, and no mask other than the file's own."""
    rng = random.Random(seed)
    data = list(instances.dumps(objects(), "1.jpg"))
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data))
        data[at : at + rng.randint(0, 3)] = [chr(rng.randint(32, 126)) for _ in range(rng.randint(0, 3))]
    try:
        found = instances.loads("".join(data), SIZE)
    except InstancesError:
        return
    entries = json.loads("".join(data))["instances"]
    for instance, entry in zip(found.instances, entries, strict=True):
        assert instance.area() == coco.area(entry["segmentation"])


@given(st.lists(st.integers(0, 40), max_size=12))
def test_plain_lists_of_run_lengths_are_those_of_coco(runs: list[int]) -> None:
    rest = SIZE.width * SIZE.height - sum(runs)
    content = json.loads(instances.dumps(objects(), "1.jpg"))
    entry = content["instances"][1]  # its box is the whole image
    entry["segmentation"]["counts"] = [*runs, rest]
    if rest < 0 or not sum([*runs, rest][1::2]):
        with pytest.raises(InstancesError):
            instances.loads(json.dumps(content))
        return
    mask = instances.loads(json.dumps(content)).instances[1].mask
    expected = coco.decode(coco.frPyObjects(entry["segmentation"], SIZE.height, SIZE.width))
    assert np.array_equal(mask, expected.astype(bool))


def test_a_small_file_cannot_ask_for_any_amount_of_memory() -> None:
    side = 40_000
    # Two pixels of each object, at the far ends of a large image.
    rle = {"size": [side, side], "counts": [0, 1, side**2 - 2, 1]}
    entry = {"category_id": 1, "score": 1, "bbox": [0, 0, side, side], "segmentation": rle, "continues": False}
    content = {"version": 1, "image": {"width": side, "height": side}, "instances": [entry] * 1000}
    with pytest.raises(InstancesError, match="not 13×9"):
        instances.loads(json.dumps(content), SIZE)
    content["image"] = {"width": 100, "height": 100}
    rle |= {"size": [100, 100], "counts": [0, 1, 9998, 1]}
    entry["bbox"] = [0, 0, 100, 100]
    with pytest.raises(InstancesError, match="as large as the image"):
        instances.loads(json.dumps(content))
