"""Corrections in runs: hidden whatever found what, drawn again exactly where they changed, undone to the byte."""

import hashlib
import json
import shutil
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from anonymise.anonymiser import Anonymiser, model_source
from anonymise.core.detections import Box, Detections, Instance, Size, full_mask
from anonymise.core.errors import UsageError
from anonymise.core.saved_instances import dumps
from anonymise.corrections.source import CorrectedSource, corrected
from anonymise.corrections.store import Store
from tests.corrections.runs import SPOT, Folders, noise
from tests.fakes import RedMasker, street


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path)


def test_a_correction_stays_hidden_through_redraw_and_run(folders: Folders) -> None:
    """Acceptance 1."""
    folders.write("a/1.png", noise())
    assert len(folders.run().done) == 1
    assert folders.n_original("a/1.png") == 2500
    spot = folders.put("a/1.png")
    assert len(folders.redraw().done) == 1
    assert folders.n_original("a/1.png") == 0
    assert folders.status(spot) == "drawn"
    again = folders.run()
    assert (len(again.done), len(again.skipped)) == (0, 1)
    assert folders.n_original("a/1.png") == 0
    assert folders.status(spot) == "drawn"


@pytest.mark.slow
def test_exactly_the_images_concerned_are_done_again_and_undo_gives_the_first_bytes_back(folders: Folders) -> None:
    """Acceptance 2 and 3."""
    for n in range(1000):
        folders.write(f"{n}.jpg", street((64, 48), [Box(10, 10, 30, 30)], seed=n))
    folders.run()
    first = folders.published()
    ids = [
        folders.put(name, box, size=(64, 48))
        for name, box in [("3.jpg", Box(40, 20, 60, 40)), ("3.jpg", Box(0, 30, 20, 40)), ("17.jpg", Box(40, 4, 60, 20))]
    ]
    assert len(folders.run(store=False).done) == 0
    ran = folders.run()
    assert [done.source.name for done in ran.done] == ["17.jpg", "3.jpg"]
    assert len(ran.skipped) == 998
    changed = {name for name, data in folders.published().items() if data != first[name]}
    assert changed == {"3.jpg", "17.jpg"}
    folders.undo(*ids)
    assert len(folders.run().done) == 2
    assert folders.published() == first
    assert len(folders.run(store=False).skipped) == 1000


def test_redraw_undoes_too(folders: Folders) -> None:
    folders.write("1.jpg", street())
    folders.run()
    first = folders.published()
    added = folders.put("1.jpg")
    removed = folders.put("1.jpg", Box(30, 30, 100, 90), kind="remove", category="car")
    folders.run()
    assert folders.published() != first
    folders.undo(added, removed)
    assert len(folders.redraw().done) == 1
    assert folders.published() == first
    assert len(folders.run().skipped) == 1


def test_what_is_removed_stays_hidden_where_something_else_is(folders: Folders) -> None:
    """Acceptance 4."""
    folders.write("1.png", street(cars=[Box(40, 40, 90, 80)]))
    folders.run()
    car, person = Box(40, 40, 90, 80), Box(70, 40, 120, 80)
    folders.put("1.png", person, category="person")
    removal = folders.put("1.png", car, kind="remove", category="car")
    folders.run()
    assert folders.status(removal) == "drawn"
    assert folders.n_original("1.png", Box(42, 42, 60, 78)) == 18 * 36
    assert folders.n_original("1.png", person) == 0
    saved = json.loads((folders.archive / "1_instances.json").read_text("utf-8"))
    assert [entry["source"] for entry in saved["instances"]] == ["external"]
    assert [entry["source"] for entry in saved["removed"]] == ["model"]


@pytest.mark.parametrize("removal", [Box(40, 40, 84, 80), Box(0, 0, 40, 40)])
def test_a_find_that_reaches_out_of_the_removal_stays(folders: Folders, removal: Box) -> None:
    folders.write("1.png", street(cars=[Box(40, 40, 90, 80)]))
    folders.put("1.png", removal, kind="remove", category="car")
    folders.run()
    assert folders.n_original("1.png", Box(40, 40, 90, 80)) == 0


def test_a_removal_of_another_class_does_nothing(folders: Folders) -> None:
    folders.write("1.png", street(cars=[Box(40, 40, 90, 80)]))
    folders.put("1.png", Box(0, 0, 160, 120), kind="remove", category="person")
    folders.run()
    assert folders.n_original("1.png", Box(40, 40, 90, 80)) == 0


def test_another_picture_of_the_same_name(folders: Folders) -> None:
    """Acceptance 7."""
    folders.write("1.png", street(cars=[Box(20, 20, 45, 40)]))
    added = folders.put("1.png", Box(80, 80, 100, 100), size=(320, 240))
    removed = folders.put("1.png", Box(0, 0, 320, 240), size=(320, 240), kind="remove", category="car")
    ran = folders.run()
    assert ran.report is not None
    assert ran.report.n_stale == 1
    assert folders.status(added) == folders.status(removed) == "stale"
    assert folders.n_original("1.png", Box(40, 40, 50, 50)) == 0
    assert folders.n_original("1.png", Box(20, 20, 45, 40)) == 0
    folders.run()
    assert folders.status(added) == "stale"


@pytest.mark.parametrize("override", ["force_remask=True", "lazy_paths=True", "outline=superellipse"])
def test_where_the_model_finds_nothing(folders: Folders, override: str) -> None:
    """Acceptance 9."""
    folders.write("1.png", noise())
    folders.put("1.png")
    folders.run(override)
    assert folders.n_original("1.png") == 0


def test_a_run_without_the_store_does_not_uncover(folders: Folders) -> None:
    folders.write("1.png", noise())
    folders.put("1.png")
    folders.run()
    with pytest.raises(UsageError, match="corrections: FOLDER"):
        folders.run(store=False)
    assert folders.n_original("1.png") == 0


def test_another_model_keeps_corrections(folders: Folders) -> None:
    folders.write("1.png", noise())
    folders.put("1.png")
    folders.run()
    assert len(folders.run(masker=RedMasker("other")).done) == 1
    assert folders.n_original("1.png") == 0


def test_only_and_what_is_missing(folders: Folders) -> None:
    for name in ("a/1.jpg", "a/2.jpg", "b/1.jpg"):
        folders.write(name, street())
    gone = folders.put("a/9.jpg")
    ran = folders.run(only=frozenset({"a/2.jpg", "a/9.jpg"}))
    assert [done.source.name for done in ran.done] == ["2.jpg"]
    assert [failed.source.name for failed in ran.failed] == ["9.jpg"]
    assert folders.status(gone) == "failed"
    assert set(folders.published()) == {"a/2.jpg"}


def test_the_library_applies_them_to_an_image_that_it_knows_by_name(folders: Folders) -> None:
    file = folders.write("a/1.png", noise())
    folders.put("a/1.png")
    settings = folders.settings()
    source = corrected(model_source(RedMasker(), settings), settings.run.corrections, settings.outlines)
    assert isinstance(source, CorrectedSource)
    with closing(source):
        anonymiser = Anonymiser(settings, source=source)
        assert [i.box for i in anonymiser.detect(file.read_bytes(), name="a/1.png").instances] == [SPOT]
        assert anonymiser.detect(file.read_bytes()).instances == ()


def test_across_the_seam(folders: Folders) -> None:
    folders.write("1.png", noise((200, 100)))
    folders.put("1.png", Box(180, 40, 220, 60), size=(200, 100), category="plate")
    folders.run("projection=equirectangular")
    for box in (Box(180, 40, 200, 60), Box(0, 40, 20, 60)):
        assert folders.n_original("1.png", box) == 0


def test_other_bytes_of_the_same_size_are_another_picture(folders: Folders) -> None:
    picture = street(cars=[Box(20, 20, 45, 40)])
    file = folders.write("1.png", picture)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    added = folders.put("1.png", Box(80, 80, 100, 100), sha256=sha256)
    removed = folders.put("1.png", Box(0, 0, 160, 120), kind="remove", category="car", sha256=sha256)
    folders.run()
    assert (folders.status(added), folders.status(removed)) == ("drawn", "drawn")
    assert folders.n_original("1.png", Box(20, 20, 45, 40)) == 25 * 20
    folders.write("1.png", street(cars=[Box(20, 20, 45, 40)], seed=9))
    shutil.rmtree(folders.archive)
    ran = folders.run()
    assert (ran.report.n_stale if ran.report else 0) == 1
    assert (folders.status(added), folders.status(removed)) == ("stale", "stale")
    assert folders.n_original("1.png", Box(80, 80, 100, 100)) == 0
    assert folders.n_original("1.png", Box(20, 20, 45, 40)) == 0
    # The picture of before fits again.
    folders.write("1.png", picture)
    shutil.rmtree(folders.archive)
    folders.run()
    assert (folders.status(added), folders.status(removed)) == ("drawn", "drawn")


@pytest.mark.parametrize(("padding", "grown"), [(True, 7), (False, 0)])
def test_the_margins_of_finds_apply_unless_told_otherwise(folders: Folders, *, padding: bool, grown: int) -> None:
    folders.write("1.png", noise())
    folders.put("1.png", Box(40, 40, 60, 60), padding=padding)
    folders.run("mask_dilation_pixels=7")
    whole = Box(0, 0, 160, 120)
    assert folders.n_original("1.png", whole) == whole.area - (20 + 2 * grown) ** 2


def test_a_polygon_and_run_lengths(folders: Folders) -> None:
    folders.write("1.png", noise())
    mask = np.zeros((120, 160), bool)
    mask[90:110, 100:130] = True
    saved = json.loads(dumps(Detections(Size(160, 120), (Instance(1, 1.0, Box(0, 0, 160, 120), mask),)), "1.png"))
    folders.put("1.png", shape={"polygon": [[10, 10], [50, 10], [50, 50], [10, 50]]})
    folders.put("1.png", shape={"rle": saved["instances"][0]["segmentation"]})
    folders.run()
    assert folders.n_original("1.png", Box(10, 10, 50, 50)) == 0
    assert folders.n_original("1.png", Box(100, 90, 130, 110)) == 0
    assert folders.n_original("1.png", Box(60, 60, 90, 80)) == 30 * 20


@pytest.mark.parametrize(
    "corners",
    [
        [[80, 10], [110, 100], [30, 45], [130, 45], [50, 100]],  # a star in one line
        [[30, 30], [130, 30], [130, 90], [30, 90], [30, 30], [130, 30], [130, 90], [30, 90]],  # twice around
    ],
)
def test_a_polygon_that_crosses_itself_has_no_holes(folders: Folders, corners: list[list[int]]) -> None:
    folders.write("1.png", noise())
    folders.put("1.png", shape={"polygon": corners})
    folders.run()
    assert folders.n_original("1.png", Box(72, 50, 88, 62)) == 0


def test_nothing_counts_as_drawn_where_nothing_is_hidden(folders: Folders) -> None:
    folders.write("1.png", noise())
    added = folders.put("1.png")
    folders.run("draw_mask=False")
    assert folders.status(added) == "accepted"
    folders.run()
    assert folders.status(added) == "drawn"
    assert folders.n_original("1.png") == 0


def test_saved_instances_are_no_source_of_corrections(folders: Folders) -> None:
    """What the store takes back, a redraw of instances that still have it takes back too."""
    folders.write("1.png", noise())
    added = folders.put("1.png")
    folders.run()
    saved = json.loads((folders.archive / "1_instances.json").read_text("utf-8"))
    assert [(entry["source"], entry["score"]) for entry in saved["instances"]] == [("external", 1.0)]
    folders.undo(added)
    assert len(folders.redraw().done) == 1
    assert folders.n_original("1.png") == 2500


@pytest.mark.parametrize("source", ["model", "external"])
def test_hand_edited_instances_are_kept_and_the_store_adds_to_them(folders: Folders, source: str) -> None:
    folders.write("1.png", noise())
    folders.run()
    file = folders.archive / "1_instances.json"
    content = json.loads(file.read_text("utf-8"))
    by_hand = Instance(1, 1.0, Box(100, 60, 140, 100), full_mask(Box(100, 60, 140, 100)))
    content["instances"] = json.loads(dumps(Detections(Size(160, 120), (by_hand,)), "1.png"))["instances"]
    content["instances"][0]["source"] = source
    file.write_text(json.dumps(content), "utf-8")
    added = folders.put("1.png")
    (failed,) = folders.run("blur=40").failed
    assert all(part in failed.reason for part in ("1_instances.json", "script.redraw"))
    assert len(folders.redraw().done) == 1
    assert folders.status(added) == "drawn"
    assert folders.n_original("1.png", SPOT) == folders.n_original("1.png", by_hand.box) == 0
    assert json.loads(file.read_text("utf-8")) == content


def test_a_correction_of_an_image_that_is_not_there_is_named(
    folders: Folders, caplog: pytest.LogCaptureFixture
) -> None:
    folders.write("1.png", noise())
    folders.put("1.png")
    folders.run()
    assert "not drawn" not in caplog.text
    folders.put("a/2.png")
    folders.run()
    assert "Corrections of 1 images are not drawn, such as a/2.png" in caplog.text


def test_a_proposed_one_does_nothing(folders: Folders) -> None:
    folders.write("1.png", noise())
    folders.put("1.png", status="proposed")
    folders.run()
    assert folders.n_original("1.png") == 2500
    with Store(folders.store_folder) as store:
        assert store.counts()["proposed"] == 1
        assert store.waiting() == frozenset()
