"""Reports: received, decided, drawn, closed; what is refused; what nobody may see."""

import json
import math
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anonymise.config import Config
from anonymise.core.detections import Box
from anonymise.core.errors import UsageError
from anonymise.corrections.store import Correction, Store
from anonymise.reports.desk import decide, forget, open_reports, public_status, receive, report_statistics
from tests.corrections.runs import Folders, noise
from tests.fakes import street, write_image

SIZE = (400, 200)
LEFT, RIGHT = [[[0.1, 0.2], [0.2, 0.2], [0.2, 0.4], [0.1, 0.4]]], [[[0.7, 0.6], [0.8, 0.6], [0.8, 0.8], [0.7, 0.8]]]
LEFT_BOX, RIGHT_BOX = Box(40, 40, 80, 80), Box(280, 120, 320, 160)


class Desk(Folders):
    """Two pictures that are published and archived, and a store for reports."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        for n in (1, 2):
            self.write(f"a/{n}.png", noise(SIZE, seed=n))
        self.store = Store(self.store_folder)
        self.run()
        self.first = self.published()
        self.loaded = self.options()

    def options(self, *overrides: str) -> Config:
        return self.settings(f"reports_originals={json.dumps(str(self.archive))}", *overrides)

    def report(self, *overrides: str, once: bool = False, **values: object) -> str:
        given = {"relative": "a/1.png", "convention": "uv", "shapes": LEFT, **values}
        return receive(self.store, given, self.options(*overrides), once=once)

    def state(self, id_: str) -> str:
        found = public_status(self.store, id_)
        assert found is not None
        assert (found["closed"] is not None) == (found["status"] in ("drawn", "rejected"))
        return str(found["status"])

    def corrections(self, id_: str) -> list[Correction]:
        return self.store.select("batch = ?", [id_])


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    with desk.store:
        yield desk


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """For reports that are refused, which leave nothing."""
    desk = Desk(tmp_path_factory.mktemp("desk"))
    with desk.store:
        yield desk


def test_two_reports_of_one_picture(desk: Desk) -> None:
    """Acceptance 6."""
    first, second = desk.report(shapes=LEFT), desk.report(shapes=RIGHT, category="face", note="my face")
    assert desk.state(first) == "received"
    desk.run()
    assert desk.published() == desk.first
    for id_ in (first, second):
        decide(desk.store, id_, "mari", "accepted", "seen")
        assert desk.state(id_) == "accepted"
    assert [done.source.name for done in desk.run().done] == ["1.png"]
    assert desk.state(first) == desk.state(second) == "drawn"
    assert (desk.n_original("a/1.png", LEFT_BOX), desk.n_original("a/1.png", RIGHT_BOX)) == (0, 0)
    decide(desk.store, first, "mari", "rejected", "no_person")
    assert desk.state(first) == "rejected"
    desk.run()
    assert desk.n_original("a/1.png", LEFT_BOX) == LEFT_BOX.area
    assert desk.n_original("a/1.png", RIGHT_BOX) == 0
    assert desk.state(second) == "drawn"
    decide(desk.store, second, "mari", "rejected", "spam")
    desk.run()
    assert desk.published() == desk.first


def test_spam_changes_nothing_and_nothing_of_it_is_public(desk: Desk) -> None:
    """Acceptance 7."""
    spam = desk.report(note="buy this", reporter="spam@example.org")
    decide(desk.store, spam, "mari", "rejected", "spam")
    desk.run()
    assert desk.published() == desk.first
    shown = public_status(desk.store, spam)
    assert shown is not None
    assert shown.keys() == {"status", "issue", "received", "closed"}
    everything = json.dumps([shown, report_statistics(desk.store), open_reports(desk.store)])
    for secret in ("buy this", "spam@example.org", "a/1.png"):
        assert secret not in everything
    assert b"spam@example.org" not in desk.store.file.read_bytes()
    assert "spam@" not in "".join(str(event) for event in desk.store.read("SELECT * FROM event"))


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"convention": "centre", "shapes": [[[200, 0], [1, 0], [1, 1]]]}, "out of its range"),
        ({"shapes": [[[math.nan, 0], [1, 0], [1, 1]]]}, "no number"),
        ({"shapes": [[[0, 0], [0.5, 0], [0.5, 0.5], [0, 0.5]]]}, "10% is the most"),
        ({"shapes": [[[0.1, 0.1], [0.2, 0.2], [0.3, 0.3]]]}, "no area"),
        ({"shapes": LEFT * 21}, "1 to 20"),
        ({"shapes": []}, "1 to 20"),
        ({"shapes": 3}, "1 to 20"),
        ({"shapes": [{}]}, "1 to 20"),
        ({"relative": "a/3.png"}, "not known"),
        ({"relative": "../in/a/1.png"}, "not known"),
        ({"relative": "/etc/passwd"}, "not known"),
        ({"relative": "a//1.png"}, "not known"),
        ({"relative": "a\\1.png"}, "not known"),
        ({"relative": "a/1.png\0"}, "not known"),
        ({"relative": "a"}, "not known"),
        ({"relative": ""}, "not known"),
        ({"relative": "x" * 5000}, "at most 4096"),
        ({"relative": "a/" + "x" * 400}, "not known|cannot be read"),
        ({"relative": None, "viewpoint": "v"}, "not known"),
        ({"relative": 7}, "relative is a text"),
        ({"note": "x" * 1001}, "at most 1000"),
        ({"note": "\ud800"}, "note is a text"),
        ({"view": {"yaw": 0, "pitch": 0, "fov": 90}}, "convention of angles"),
        ({"shapes": [[[10**400, 0], [1, 0], [1, 1]]]}, "no number"),
        ({"issue": "ugly"}, "issue is one of"),
        ({"category": ["face"]}, "category is one of"),
        ({"issue": "blur_excess"}, "needs the category"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_is_refused(unchanged: Desk, values: dict[str, Any], problem: str) -> None:
    """Acceptance 8, and the list of refusals."""
    desk = unchanged
    with pytest.raises(ValueError, match=problem):
        desk.report(**values)
    assert open_reports(desk.store) == []
    assert desk.store.select() == []


@pytest.mark.parametrize("report", [None, [], "x", 3, {}])
def test_what_is_no_report(unchanged: Desk, report: object) -> None:
    with pytest.raises(ValueError, match=r"a report is|shapes is"):
        receive(unchanged.store, report, unchanged.options())


_WORDS = st.sampled_from(["a/1.png", "uv", "centre", "pixels", "privacy", "blur_excess", "vehicle", "\ud800", "..", ""])
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _WORDS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(_WORDS | st.sampled_from(["yaw", "fov"]), inner, max_size=3)
    ),
    max_leaves=12,
)
_NAMES = ("relative", "viewpoint", "issue", "category", "convention", "view", "shapes", "reporter", "note")


@settings(max_examples=150)
@given(st.dictionaries(st.sampled_from(_NAMES), _VALUES), st.booleans())
def test_whatever_is_sent_is_a_report_or_refused(unchanged: Desk, values: dict[str, object], is_near: bool) -> None:
    given = {"relative": "a/1.png", "shapes": LEFT, **values} if is_near else values
    with suppress(ValueError), unchanged.store.changing():
        receive(unchanged.store, given, unchanged.loaded)
        raise ValueError  # takes it back


def test_hidden_at_once(desk: Desk) -> None:
    """Acceptance 10."""
    at_once = "reports_hide=at_once"
    id_ = desk.report(at_once)
    other = desk.report(at_once, relative="a/2.png", issue="other")
    assert (desk.state(id_), desk.state(other)) == ("hidden", "received")
    assert [done.source.name for done in desk.run().done] == ["1.png"]
    assert desk.n_original("a/1.png", LEFT_BOX) == 0
    assert desk.state(id_) == "hidden"  # until somebody confirms it
    assert [report["id"] for report in open_reports(desk.store)] == [id_, other]
    decide(desk.store, id_, "mari", "accepted", "seen")
    assert desk.state(id_) == "drawn"
    spam = desk.report(at_once, shapes=RIGHT, issue="privacy")
    desk.run()
    assert desk.n_original("a/1.png", RIGHT_BOX) == 0
    decide(desk.store, spam, "mari", "rejected", "nothing_there")
    desk.run()
    assert desk.n_original("a/1.png", RIGHT_BOX) == RIGHT_BOX.area
    assert desk.state(spam) == "rejected"


def test_too_much_blur(tmp_path: Path) -> None:
    folders = Folders(tmp_path)
    folders.write("1.png", street(cars=[Box(40, 40, 90, 80)]))
    folders.run()
    shown = [[[0.2, 0.3], [0.6, 0.3], [0.6, 0.7], [0.2, 0.7]]]
    report = {"relative": "1.png", "convention": "uv", "shapes": shown, "issue": "blur_excess", "category": "vehicle"}
    wanted = [f"reports_originals={json.dumps(str(folders.archive))}", "reports_hide=at_once", "reports_max_share=0.5"]
    with Store(folders.store_folder) as store:
        id_ = receive(store, report, folders.settings(*wanted))
        folders.run()
        assert folders.n_original("1.png", Box(40, 40, 90, 80)) == 0  # never at once
        decide(store, id_, "mari", "accepted", "no_person")
        folders.run()
        assert public_status(store, id_)["status"] == "drawn"  # type: ignore[index]
    assert folders.n_original("1.png", Box(40, 40, 90, 80)) == 2000


def test_across_the_seam(desk: Desk) -> None:
    """Acceptance 5 in a run: hidden on both sides, and nowhere else."""
    view = {"yaw": math.radians(179), "pitch": math.radians(-30), "fov": math.pi / 2}
    shapes = [[[0.45, 0.45], [0.55, 0.45], [0.55, 0.55], [0.45, 0.55]]]
    wanted = "projection=equirectangular"
    desk.run(wanted)
    id_ = desk.report(wanted, convention="centre", view=view, shapes=shapes)
    decide(desk.store, id_, "mari", "accepted", "seen")
    desk.run(wanted)
    # Columns 8027 to 8311 and rows 2598 to 2856 of 8192×4096.
    assert desk.n_original("a/1.png", Box(393, 128, 400, 139)) == 0
    assert desk.n_original("a/1.png", Box(0, 128, 5, 139)) == 0
    assert desk.n_original("a/1.png", Box(15, 0, 380, 200)) == 365 * 200
    hidden = 400 * 200 - desk.n_original("a/1.png", Box(0, 0, 400, 200))
    assert hidden < 0.01 * 400 * 200


def test_the_same_place_again_is_a_duplicate(desk: Desk) -> None:
    first = desk.report()
    near = [[[0.11, 0.21], [0.21, 0.21], [0.21, 0.41], [0.11, 0.41]]]
    second, elsewhere = desk.report(shapes=near), desk.report(shapes=RIGHT)
    both = desk.report(shapes=LEFT + RIGHT)
    other_issue = desk.report(issue="privacy")
    assert [desk.state(id_) for id_ in (second, elsewhere, both, other_issue)] == ["duplicate", *["received"] * 3]
    assert desk.corrections(second) == []
    decide(desk.store, first, "mari", "accepted", "seen")
    desk.run()
    found = public_status(desk.store, second)
    assert found is not None
    assert found["status"] == "duplicate"
    assert found["closed"] is not None
    with pytest.raises(UsageError, match="is duplicate already"):
        decide(desk.store, second, "mari", "accepted", "seen")
    decide(desk.store, both, "mari", "rejected", "already_hidden")
    assert desk.state(desk.report()) == "received"  # it was drawn, and somebody says again that it is visible


def test_an_imported_list_may_be_imported_again(desk: Desk) -> None:
    first = desk.report(once=True)
    assert desk.report(once=True) == first
    decide(desk.store, first, "mari", "rejected", "nothing_there")
    assert desk.report(once=True) == first
    assert desk.report(once=True, relative="a/2.png") != first


def test_what_reviewers_do_on_their_page_counts(desk: Desk) -> None:
    accepted, rejected, redrawn = desk.report(), desk.report(shapes=RIGHT), desk.report(relative="a/2.png")
    (row,), (spam,), (rough,) = (desk.corrections(id_) for id_ in (accepted, rejected, redrawn))
    assert {row.status, row.source, row.batch} == {"proposed", "report", accepted}
    desk.store.decide("mari", [row.id], "accepted")
    desk.store.decide("mari", [spam.id], "rejected", "spam")
    better = rough.fresh()
    desk.store.add([_changed(better, '{"box": [30, 30, 60, 60]}', rough.id)], "mari")
    assert [desk.state(id_) for id_ in (accepted, rejected, redrawn)] == ["accepted", "rejected", "accepted"]
    desk.run()
    assert [desk.state(id_) for id_ in (accepted, rejected, redrawn)] == ["drawn", "rejected", "drawn"]
    assert report_statistics(desk.store)["accepted"] == pytest.approx(2 / 3, abs=0.001)
    assert desk.n_original("a/2.png", Box(30, 30, 90, 90)) == 0


def _changed(row: Correction, shape: str, supersedes: str) -> Correction:
    return replace(row, shape=shape, supersedes=supersedes, source="review", batch="review-1", author="mari")


def test_undoing_the_corrections_of_a_drawn_report(desk: Desk) -> None:
    id_ = desk.report()
    decide(desk.store, id_, "mari", "accepted", "seen")
    desk.run()
    assert desk.state(id_) == "drawn"
    desk.store.undo("mari", batch=id_)
    assert desk.state(id_) == "rejected"


def test_without_the_original_it_is_failed_and_what_is_published_stays(desk: Desk) -> None:
    id_ = desk.report()
    decide(desk.store, id_, "mari", "accepted", "seen")
    (desk.input / "a" / "1.png").unlink()
    (desk.archive / "a" / "1.png").unlink()
    desk.run(only=frozenset({"a/1.png"}))
    assert desk.state(id_) == "failed"
    assert desk.published() == desk.first
    write_image(desk.input / "a" / "1.png", noise(SIZE, seed=1))
    desk.run()
    assert desk.state(id_) == "drawn"


def test_who_reported_is_not_kept_and_notes_are_forgotten(desk: Desk) -> None:
    id_ = desk.report(reporter="Kari@example.org", note="that is me")
    other = desk.report(shapes=RIGHT, note="and I")
    assert [report["note"] for report in open_reports(desk.store)] == ["that is me", "and I"]
    assert b"ari@example" not in desk.store.file.read_bytes()
    decide(desk.store, id_, "mari", "rejected", "spam")
    notes = "SELECT note FROM report WHERE id = ?"
    forget(desk.store, 1)
    assert desk.store.read(notes, [id_]) == [("that is me",)]
    forget(desk.store, 0)
    assert [desk.store.read(notes, [one]) for one in (id_, other)] == [[(None,)], [("and I",)]]
    assert b"that is me" not in desk.store.file.read_bytes()


def test_numbers_and_order(desk: Desk) -> None:
    assert report_statistics(desk.store)["hours_to_drawn_median"] is None
    ids = [desk.report(), desk.report(relative="a/2.png", issue="privacy", category="house"), desk.report(shapes=RIGHT)]
    assert [report["id"] for report in open_reports(desk.store)] == [ids[0], ids[2], ids[1]]
    with desk.store.changing() as connection:
        for id_, days in zip(ids, (0, 3, 8), strict=True):
            moved = "strftime('%Y-%m-%dT%H:%M:%fZ', julianday(received) - ?)"
            connection.execute(f"UPDATE report SET received = {moved} WHERE id = ?", [days, id_])
    numbers = report_statistics(desk.store)
    assert numbers["open_by_days"] == {"0-1": 1, "1-7": 1, ">7": 1}
    assert numbers["issue"] == {"blur_missing": 2, "privacy": 1}
    assert numbers["category"] == {"none": 2, "house": 1}
    for id_ in ids[1:]:
        decide(desk.store, id_, "mari", "accepted", "seen")
    decide(desk.store, ids[0], "mari", "rejected", "spam")
    desk.run()
    numbers = report_statistics(desk.store)
    assert numbers["accepted"] == pytest.approx(2 / 3, abs=0.001)
    assert numbers["hours_to_drawn_median"] == pytest.approx(5.5 * 24, abs=0.2)
    assert numbers["hours_to_drawn_90_percent"] == pytest.approx(8 * 24, abs=0.2)
    assert numbers["status"] == {"drawn": 2, "rejected": 1}


def test_names_of_other_systems(desk: Desk, tmp_path: Path) -> None:
    names = tmp_path / "names.csv"
    names.write_text("id,relative\nview 7,a/2.png\n")
    wanted = f"reports_pictures={json.dumps(str(names))}"
    id_ = desk.report(wanted, relative=None, viewpoint="view 7")
    assert open_reports(desk.store)[0]["relative"] == "a/2.png"
    desk.report(wanted, viewpoint="view 8")  # its path counts
    with pytest.raises(ValueError, match="not known"):
        desk.report(wanted, relative=None, viewpoint="view 8")
    names.write_text("id,relative\nview 7\n")
    with pytest.raises(ValueError, match="not known"):
        desk.report(wanted, relative=None, viewpoint="view 7")
    names.write_text("name\nview 7\n")
    with pytest.raises(UsageError, match="reports_pictures"):
        desk.report(wanted, viewpoint="view 7")
    assert desk.state(id_) == "received"


def test_a_report_whose_letters_are_composed_otherwise(desk: Desk) -> None:
    write_image(desk.archive / "a" / unicodedata.normalize("NFD", "gård.png"), noise(SIZE))
    desk.report(relative=unicodedata.normalize("NFC", "a/gård.png"))
    assert open_reports(desk.store)[0]["relative"] == unicodedata.normalize("NFD", "a/gård.png")


def test_rejecting_a_report_undoes_what_a_reviewer_made_of_it(desk: Desk) -> None:
    id_ = desk.report()
    (row,) = desk.corrections(id_)
    desk.store.add([_changed(row.fresh(), '{"box": [30, 30, 60, 60]}', row.id)], "mari")
    desk.run()
    assert desk.state(id_) == "drawn"
    decide(desk.store, id_, "mari", "rejected", "no_person")
    assert desk.state(id_) == "rejected"
    desk.run()
    assert desk.published() == desk.first


def test_what_the_operator_must_mend(desk: Desk) -> None:
    with pytest.raises(UsageError, match="reports_originals"):
        receive(desk.store, {"relative": "a/1.png", "shapes": LEFT}, desk.settings())
    with pytest.raises(UsageError, match="is no folder"):
        receive(desk.store, {"relative": "a/1.png", "shapes": LEFT}, desk.settings('reports_originals="/nowhere"'))
    with pytest.raises(UsageError, match="there is no report"):
        decide(desk.store, "x", "mari", "accepted", "seen")
    assert public_status(desk.store, "x") is None
    (desk.archive / "a" / "1.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="cannot be read"):
        desk.report()


def test_the_chain_of_events_has_the_decisions(desk: Desk) -> None:
    id_ = desk.report()
    decide(desk.store, id_, "mari", "accepted", "seen")
    desk.run()
    events = desk.store.read("SELECT who, detail FROM event WHERE what = 'report' ORDER BY n")
    assert events == [
        ("public", f"{id_} received"),
        ("mari", f"{id_} accepted seen"),
    ]
    assert desk.store.fault() is None
    assert len(id_) == 32
    assert np.unique([desk.report(shapes=RIGHT), id_]).size == 2
