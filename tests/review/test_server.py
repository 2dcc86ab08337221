"""A review over HTTP: a real server process, real runs, and people who talk JSON to it."""

import json
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anonymise.core.detections import Box
from anonymise.corrections.store import Correction, Store
from anonymise.review.decisions import Decisions
from tests.fakes import read_image, street
from tests.review.published import FLAGS, PLAIN, on_its_side, publish
from tests.review.served import serving, users

pytestmark = pytest.mark.slow

KEYS = (*PLAIN, *FLAGS)
CAR = Box(40, 40, 90, 80)
SPOT = {"box": [5, 5, 30, 30]}


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five published pictures, in the third of which nothing was found."""
    folder = tmp_path_factory.mktemp("ready")
    publish(folder, {f"a/{n}.png": street(cars=[] if n == 2 else [CAR], seed=n) for n in range(5)}, *FLAGS)
    return folder


@pytest.fixture
def folder(ready: Path, tmp_path: Path) -> Path:
    """A copy of them."""
    return Path(shutil.copytree(ready, tmp_path / "copy"))


def decisions(folder: Path) -> list[tuple[str, str | None]]:
    with Store(folder / "store") as store:
        return [(row.relative, row.verdict) for row in Decisions(store).in_force()]


def corrections(folder: Path) -> list[Correction]:
    with Store(folder / "store") as store:
        return store.select("1 ORDER BY id")


def published(folder: Path) -> dict[str, bytes]:
    out = folder / "out"
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*.??g") if ".anonymise" not in p.parts}


def test_looking_stores_nothing_and_a_decision_sent_twice_at_once_is_one(folder: Path) -> None:
    with serving(folder, *KEYS) as server:
        person = server.person()
        items = [person.claim("doubtful"), person.claim("all"), person.claim("all")]
        for item in items:
            assert person.get(f"items/{item['id']}/image", level=0, version=item["version"]).status_code == 200
        assert person.get("numbers").json()["looked_at"] == 0
        assert person.get("session").status_code == 200  # the page is loaded again
        assert decisions(folder) == []
        item = person.claim("all")
        with ThreadPoolExecutor(2) as threads:
            answers = list(threads.map(lambda _: person.decide(item).status_code, range(2)))
        assert sorted(answers) == [201, 409]
        assert decisions(folder) == [("a/0.png", "good")]


def test_misses_and_false_finds_are_drawn_and_undone_to_the_earlier_bytes(folder: Path) -> None:
    before = published(folder)
    with serving(folder, *KEYS) as server:
        person = server.person()
        missed = person.claim("doubtful")
        assert (missed["relative"], missed["reason"]) == ("a/2.png", "nothing found, a neighbour has 1 car")
        first = person.decide(missed, "missed", added=[{"category": "person", "shape": SPOT}]).json()["id"]
        false = person.claim("all")
        (find,) = false["finds"]
        assert (find["category"], find["box"], find["score"]) == ("car", [40, 40, 50, 40], 0.9)
        second = person.decide(false, "false", false=[{"find": find["id"], "reason": "poster"}]).json()["id"]
        assert person.get("queue", kind="all").json()["waiting"] == 2
        assert person.draw() == {"state": "done", "done": 2, "total": 2, "reason": ""}
        drawn = published(folder)
        assert {name for name in before if before[name] != drawn[name]} == {"a/2.png", "a/0.png"}
        original = read_image(folder / "in" / "a" / "2.png")
        assert (read_image(folder / "out" / "a" / "2.png")[5:35, 5:35] != original[5:35, 5:35]).any(axis=2).mean() > 0.9
        assert drawn["a/0.png"] != before["a/0.png"]
        assert np.array_equal(read_image(folder / "out" / "a" / "0.png"), read_image(folder / "in" / "a" / "0.png"))
        again = person.claim("all", item=false["id"])
        assert again["version"] != false["version"]
        assert again["finds"] == []
        numbers = person.get("numbers").json()
        assert (numbers["looked_at"], numbers["total"], numbers["missed"]["k"]) == (2, 5, 1)
        assert numbers["by_class"] == [
            {"name": "car", "missed": 0, "false": 1}, {"name": "person", "missed": 1, "false": 0},
        ]  # fmt: skip
        for decision in (first, second):
            assert person.post("undo", decision=decision).status_code == 200
        assert person.post("undo", decision=first).status_code == 422
        assert person.draw()["state"] == "done"
        assert published(folder) == before
        assert person.get("numbers").json()["looked_at"] == 0


def test_a_decision_is_on_the_disk_once_it_is_answered(folder: Path) -> None:
    with serving(folder, *KEYS) as server:
        item = server.person().claim("all")
        assert server.person().decide(item, "missed", added=[{"category": "face", "shape": SPOT}]).status_code == 201
        server.process.kill()
        server.process.wait()
    with serving(folder, *KEYS) as server:
        person = server.person()
        assert person.get("numbers").json()["looked_at"] == 1
        assert person.claim("all")["relative"] == "a/1.png"
        assert person.decide(item).status_code == 409  # claims are over, and nobody decides twice
    assert decisions(folder) == [("a/0.png", "missed")]
    assert [(row.category, row.source, row.status) for row in corrections(folder)] == [("face", "review", "accepted")]


OPENS = """
import sys
def _note(event, arguments):
    if event == "open" and "archive" in str(arguments[0]):
        sys.stderr.write(f"OPENED {arguments[0]}\\n")
        with open(LOG, "a") as log:
            log.write(f"{arguments[0]}\\n")
sys.addaudithook(_note)
"""


def test_without_the_role_no_original_is_opened_and_with_it_each_is_an_event(folder: Path, tmp_path: Path) -> None:
    named = users(tmp_path / "users.txt", ann="reviewer", ole="original", kim="viewer,lead", per="viewer")
    log = tmp_path / "opened.txt"
    prelude = f"LOG = {str(log)!r}\n{OPENS}"
    with serving(folder, *KEYS, named, "review_originals=True", prelude=prelude) as server:
        ole = server.person(token="ole")
        item = ole.claim("all")
        find = item["finds"][0]["id"]
        address = f"items/{item['id']}/original"
        for name in ("ann", "kim", "per"):
            person = server.person(token=name)
            for query in ({"find": find}, {"find": "0" * 20}, {}):
                assert person.get(address, **query).status_code == 403
            assert person.http.get("/../archive/a/0.png").status_code == 404
            assert person.get("items/..%2f..%2farchive%2fa%2f0.png/image").status_code in (404, 409)
        assert server.person(token="wrong").get(address, find=find).status_code == 401
        assert not log.exists()
        assert server.person(token="ann").post("claim", kind="lead").status_code == 403
        false = [{"find": find, "reason": "sign"}]
        ann = server.person(token="ann")
        assert ann.decide(ann.claim("sample"), "false", false=false).status_code in (403, 422)
        assert server.person(token="per").decide(item).status_code == 403
        for _ in range(3):
            answer = ole.get(address, find=find)
            assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
        crop = write_bytes(tmp_path / "crop.jpg", answer.content)
        assert read_image(crop).shape == (min(120, 80 + 25) - 15, 90 + 25 - 15, 3)
        assert log.read_text().count("0.png") == 3
    with Store(folder / "store") as store:
        events = store.read("SELECT who, detail FROM event WHERE what = 'original'")
    assert [who for who, _ in events] == ["ole"] * 3
    assert json.loads(events[0][1]) == {"relative": "a/0.png", "box": [15, 15, 100, 90]}


def write_bytes(file: Path, data: bytes) -> Path:
    file.write_bytes(data)
    return file


def test_two_tabs_never_have_the_same_picture(tmp_path: Path) -> None:
    small = street((48, 32), cars=[])
    publish(tmp_path, {f"{n:03}.jpg": small for n in range(100)}, *FLAGS)
    with serving(tmp_path, *KEYS) as server:
        tabs = [server.person(f"tab {n}") for n in range(2)]
        with ThreadPoolExecutor(2) as threads:
            taken = list(threads.map(lambda tab: [tab.claim("all")["id"] for _ in range(50)], tabs))
        assert [len(set(some)) for some in taken] == [50, 50]
        assert not set(taken[0]) & set(taken[1])
        assert tabs[0].claim("all") is None
        assert tabs[1].post("claim", kind="all", item=taken[0][0]).status_code == 409
        tabs[0].get("session")  # loaded again: its pictures are free, and its claims over
        item = tabs[1].claim("all", item=taken[0][0])
        assert tabs[0].decide(item).status_code == 409
        assert tabs[1].decide(item).status_code == 201


def test_a_picture_that_has_changed_since_it_was_claimed_is_looked_at_again(folder: Path) -> None:
    with serving(folder, *KEYS) as server:
        person = server.person()
        item = person.claim("all")
        assert publish(folder, {}, *FLAGS, "appearance=solid").failed == []
        answer = person.decide(item)
        assert (answer.status_code, decisions(folder)) == (409, [])
        fresh = person.claim("all", item=item["id"])
        assert fresh["version"] != item["version"]
        assert person.decide(fresh).status_code == 201
        assert publish(folder, {}, *FLAGS).failed == []  # another appearance again: what was found is the same
        person.get("session")
        assert person.get("numbers").json()["looked_at"] == 1
        assert publish(folder, {}, *FLAGS, model="another").failed == []
        person.get("session")
        assert person.get("numbers").json()["looked_at"] == 0
        assert person.claim("all")["relative"] == "a/0.png"


def test_a_box_over_the_seam_is_one_correction_that_hides_both_sides(tmp_path: Path) -> None:
    around = (*KEYS, "projection=equirectangular")
    publish(tmp_path, {"360.png": street((320, 160), cars=[])}, *around)
    with serving(tmp_path, *around) as server:
        person = server.person()
        item = person.claim("all")
        assert item["equirectangular"] is True
        added = [{"category": "person", "shape": {"box": [300, 60, 50, 40]}}]
        assert person.decide(item, "missed", added=added).status_code == 201
        assert person.draw()["state"] == "done"
    assert len(corrections(tmp_path)) == 1
    same = (read_image(tmp_path / "in" / "360.png") == read_image(tmp_path / "out" / "360.png")).all(axis=2)
    assert same[60:100, 300:].mean() < 0.1
    assert same[60:100, :30].mean() < 0.1
    assert same[:, 31:300].all()


def test_a_find_on_the_seam_is_one_find_whose_two_sides_are_seen_and_called_false_together(tmp_path: Path) -> None:
    around = (*PLAIN, "archive_instances=True", "projection=equirectangular", "review_originals=True")
    publish(tmp_path, {"360.png": street((320, 160), cars=[Box(290, 60, 320, 90), Box(0, 60, 20, 90)])}, *around)
    file = tmp_path / "archive" / "360_instances.json"
    content = json.loads(file.read_text())
    content["instances"].sort(key=lambda one: -one["bbox"][0])
    content["instances"][1]["continues"] = True
    file.write_text(json.dumps(content))
    with serving(tmp_path, *around) as server:
        person = server.person()
        item = person.claim("all")
        assert [find["box"] for find in item["finds"]] == [[290, 60, 50, 30]]
        (find,) = item["finds"]
        assert max(x for ring in find["polygon"] for x, _ in ring) >= 339
        crop = person.get(f"items/{item['id']}/original", find=find["id"]).content
        seen = read_image(write_bytes(tmp_path / "crop.jpg", crop)).astype(int)
        assert seen.shape == (80, 100, 3)
        assert (seen[30:50, 30:70, 0] - seen[30:50, 30:70, 1]).min() > 60  # the whole red car
        false = [{"find": find["id"], "reason": "reflection"}]
        assert person.decide(item, "false", false=false).status_code == 201
        assert person.draw() == {"state": "done", "done": 1, "total": 1, "reason": ""}
    assert len(corrections(tmp_path)) == 1
    assert np.array_equal(read_image(tmp_path / "in" / "360.png"), read_image(tmp_path / "out" / "360.png"))


def test_stored_pixels_of_a_picture_on_its_side_are_those_that_are_hidden(tmp_path: Path) -> None:
    publish(tmp_path, {"1.jpg": on_its_side(street(cars=[]))}, *FLAGS)
    with serving(tmp_path, *KEYS) as server:
        person = server.person()
        item = person.claim("all")
        assert (item["width"], item["height"], item["orientation"]) == (160, 120, 6)
        image = person.get(f"items/{item['id']}/image", level=1, version=item["version"])
        assert read_image(write_bytes(tmp_path / "level.jpg", image.content)).shape == (80, 60, 3)
        shape = {"polygon": [[100, 20], [150, 20], [150, 50], [100, 50]]}
        assert person.decide(item, "missed", added=[{"category": "person", "shape": shape}]).status_code == 201
        assert person.draw()["state"] == "done"
    before, after = (stored(tmp_path / tree / "1.jpg").astype(int) for tree in ("in", "out"))
    changed = np.abs(before - after).max(axis=2) > 12
    assert changed[22:48, 102:148].mean() > 0.5
    assert not changed[64:].any()
    assert not changed[:, :80].any()


def stored(file: Path) -> Any:
    from anonymise import images

    return images.decode(file.read_bytes(), max_pixels=10**6).pixels


NAMES = ["<script>alert(1)</script>.jpg", "a\"b'c.jpg", "new\nline.jpg", os.fsdecode(b"not \xff utf8.jpg")]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_any_name_is_shown_as_text_and_scripts_in_the_page_are_blocked(tmp_path: Path) -> None:
    publish(tmp_path, {name.replace("/", "∕"): street(seed=n) for n, name in enumerate(NAMES)}, *FLAGS)
    with serving(tmp_path, *KEYS) as server:
        person = server.person()
        items = [person.claim("all") for _ in NAMES]
        assert {item["relative"] for item in items} == {
            "<script>alert(1)<∕script>.jpg", "a\"b'c.jpg", "new\\nline.jpg", "not \\udcff utf8.jpg",
        }  # fmt: skip
        for item in items:
            assert person.get(f"items/{item['id']}/image", level=0).status_code == 200
            assert person.decide(item).status_code == 201
        page = person.http.get("/")
        policy = page.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "unsafe-inline" not in policy.partition("style-src")[0]
    assert len(decisions(tmp_path)) == len(NAMES)
    assert {row[0] for row in decisions(tmp_path)} == {name.replace("/", "∕") for name in NAMES}


@pytest.mark.parametrize(
    "body",
    [
        {"verdict": "fine"},
        {"added": [{"category": "person", "shape": {"box": [150, 5, 30, 30]}}]},
        {"added": [{"category": "person", "shape": {"box": [-5, 5, 30, 30]}}]},
        {"added": [{"category": "person", "shape": {"box": [5, 5, 0, 30]}}]},
        {"added": [{"category": "unicorn", "shape": SPOT}]},
        {"added": [{"category": "person", "shape": {"rle": {"size": [120, 160], "counts": "x"}}}]},
        {"added": [{"category": "person", "shape": {"polygon": [[500, 500], [600, 500], [600, 600]]}}]},
        {"added": [7]},
        {"added": {"category": "person"}},
        {"false": [{"find": "0" * 20, "reason": "sign"}]},
        {"seconds": "long"},
        {"seconds": -1},
        {"version": 7},
    ],
)
def test_what_makes_no_sense_is_refused_and_the_picture_stays_claimed(shared: Any, folder_of: Path, body: Any) -> None:
    person = shared
    person.get("session")  # gives up the earlier claims
    item = person.claim("all")
    answer = person.decide(item, **{"verdict": "missed", **body})
    assert answer.status_code == 422, answer.text
    assert answer.json()["detail"]
    assert decisions(folder_of) == []


def test_originals_are_off_by_default(shared: Any) -> None:
    shared.get("session")
    item = shared.claim("all")
    answer = shared.get(f"items/{item['id']}/original", find=item["finds"][0]["id"])
    assert answer.status_code == 403
    assert "review_originals: True" in answer.json()["detail"]


@pytest.fixture(scope="module")
def folder_of(ready: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(ready, tmp_path_factory.mktemp("shared") / "copy"))


@pytest.fixture(scope="module")
def shared(folder_of: Path) -> Any:
    """Somebody at a server that several tests use, as they store nothing."""
    with serving(folder_of, *KEYS) as server:
        yield server.person()


def test_a_proposed_report_is_accepted_by_who_saves_the_picture_and_rejected_by_who_calls_it_false(
    folder: Path,
) -> None:
    with Store(folder / "store", create=True) as store:
        rows = [
            Correction(
                relative=f"a/{n}.png", width=160, height=120, kind="add", category="face", shape=json.dumps(SPOT),
                source="report", batch=f"r{n}", author="form", status="proposed",
            )
            for n in range(2)
        ]  # fmt: skip
        excess = replace(rows[0], relative="a/3.png", kind="remove", batch="r3")  # nobody can judge that on the page
        store.add([*rows, excess], "form")
    with serving(folder, *KEYS) as server:
        person = server.person()
        assert person.get("session").json()["kinds"][0] == "reports"
        assert person.get("queue", kind="reports").json()["counts"]["reports"] == 2
        first, second = person.claim("reports"), person.claim("reports")
        assert [find["source"] for find in first["finds"]] == ["model", "report"]
        done = person.decide(first)
        false = [{"find": second["finds"][1]["id"], "reason": "empty"}]
        assert person.decide(second, "false", false=false).status_code == 201
        assert person.claim("reports") is None
        expected = {first["relative"]: "accepted", second["relative"]: "rejected", "a/3.png": "proposed"}
        assert {row.relative: row.status for row in corrections(folder)} == expected
        assert person.post("undo", decision=done.json()["id"]).status_code == 200
        assert {row.relative: row.status for row in corrections(folder)} == {**expected, first["relative"]: "proposed"}
        assert person.claim("reports", item=first["id"])["finds"][1]["source"] == "report"


def test_with_two_people_for_a_false_find_the_second_puts_it_in_force(folder: Path, tmp_path: Path) -> None:
    named = users(tmp_path / "users.txt", ann="original", ole="original", lea="lead")
    with serving(folder, *KEYS, named, "review_remove_by=2", options=["--second", "1"]) as server:
        for name, status in (("ann", ["proposed"]), ("ole", ["accepted", "accepted"])):
            person = server.person(token=name)
            items = [person.claim("sample") for _ in range(5)]
            item = next(item for item in items if item["relative"] == "a/0.png")
            assert item["finds"][0]["score"] is None
            assert item["corrections"] == []
            false = [{"find": item["finds"][0]["id"], "reason": "sign"}]
            assert person.decide(item, "false", false=false).status_code == 201
            assert [row.status for row in corrections(folder)] == status
        ann = server.person(token="ann")
        left = [ann.claim("sample") for _ in range(5)]
        assert [item["relative"] for item in left if item] == []


def test_damaged_files_and_a_missing_archive_are_told_and_do_not_stop_the_review(folder: Path) -> None:
    (folder / "out" / "a" / "0.png").write_bytes(b"")
    (folder / "out" / "a" / "1_instances.json").write_text("{}")
    with serving(folder, *KEYS, archive=False) as server:
        person = server.person()
        answer = person.post("draw")
        assert (answer.status_code, "-a ARCHIVE" in answer.json()["detail"]) == (422, True)
        items = [person.claim("all") for _ in range(3)]
        assert "empty" in items[0]["reason"]
        assert person.get(f"items/{items[0]['id']}/image", level=0).status_code == 422
        assert "no saved instances" in items[1]["reason"]
        assert items[2]["reason"].startswith("nothing found")
        assert person.decide(items[0], "broken").status_code == 201


def test_a_run_that_cannot_draw_says_why(folder: Path) -> None:
    with serving(folder, *KEYS) as server:
        person = server.person()
        item = person.claim("all")
        person.decide(item, "missed", added=[{"category": "person", "shape": SPOT}])
        (folder / "archive" / "a" / "0_instances.json").write_text("no")
        state = person.draw()
        assert (state["state"], state["done"]) == ("failed", 0)
        assert "0_instances.json" in state["reason"]


def test_a_doubtful_find_that_is_false_needs_no_correction(folder: Path) -> None:
    file = folder / "out" / "a" / "2_instances.json"
    first = json.loads((folder / "out" / "a" / "0_instances.json").read_text())["instances"][0]
    file.write_text(json.dumps(json.loads(file.read_text()) | {"doubtful": [first | {"score": 0.45}]}))
    with serving(folder, *KEYS) as server:
        person = server.person()
        item = person.claim("all", item=next(i for i in iter(person.claim, None) if i["relative"] == "a/2.png")["id"])
        (find,) = item["finds"]
        assert (find["doubtful"], find["score"]) == (True, 0.45)
        false = [{"find": find["id"], "reason": "empty"}]
        assert person.decide(item, "false", false=false).status_code == 201
    assert (decisions(folder), corrections(folder)) == ([("a/2.png", "good")], [])
