"""Queues, claims, numbers and exports without a server."""

import csv
import io
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from anonymise.commands.cli import main
from anonymise.core.detections import Box
from anonymise.core.errors import UsageError
from anonymise.corrections.store import Correction, Store
from anonymise.review.access import User, read_users
from anonymise.review.decisions import Decision, Decisions
from anonymise.review.numbers import Numbers, numbers_of
from anonymise.review.pictures import Doubt, Picture, Published, Thresholds, base_of
from anonymise.review.queue import ALL, Filters, Queue, QueueOptions, Taken
from tests.fakes import street
from tests.review.published import FLAGS, publish
from tests.review.served import users

ANN, OLE = ("ann", "1"), ("ole", "2")
CAR = Box(40, 40, 90, 80)
VERSIONS: dict[str, str] = {}
"""Path → version of the pictures here."""
NOW = "2026-01-01T00:00:00.000Z"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    cars = {"a/0": [CAR], "a/1": [CAR], "a/2": [], "a/3": [Box(40, 40, 55, 80)], "b/0": [CAR], "b/1": []}
    publish(folder, {f"{name}.jpg": street(cars=some) for name, some in cars.items()}, *FLAGS)
    VERSIONS.update({picture.relative: picture.version for picture in Published(folder / "out")})
    return folder / "out"


@pytest.fixture
def decisions(tmp_path: Path) -> Iterator[Decisions]:
    with Store(tmp_path / "store", create=True) as store:
        yield Decisions(store)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def queue_of(published: Path, decisions: Decisions, clock: Clock | None = None, **options: object) -> Queue:
    return Queue(Published(published), decisions, lambda _: 0.5, QueueOptions(**options), clock or Clock())  # type: ignore[arg-type]


def said(relative: str, who: str = "ann", verdict: str = "good", queue: str = "all") -> Decision:
    values = {"version": VERSIONS.get(relative, "b.v"), "opened": NOW, "decided": NOW, "seconds": 3.0}
    return Decision(relative=relative, who=who, verdict=verdict, queue=queue, **values)  # type: ignore[arg-type]


def claimed(queue: Queue, kind: str, who: tuple[str, str], n: int, filters: Filters = ALL) -> list[str]:
    found = (queue.claim(kind, who, filters) for _ in range(n))
    return [one[0].relative for one in found if one is not None]


def test_doubtful_pictures_come_least_certain_first_once_their_scores_are_read(
    published: Path, decisions: Decisions
) -> None:
    queue = queue_of(published, decisions)
    until = time.monotonic() + 30
    while queue.state("doubtful", "ann", ALL, lead=False)["total"] != 3:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert claimed(queue, "doubtful", ANN, 9) == ["a/2.jpg", "a/3.jpg", "b/1.jpg"]


def test_what_is_doubtful_by_its_scores_alone_is_waited_for_after_a_start(
    published: Path, decisions: Decisions, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a/2.jpg", "b/1.jpg"):
        decisions.add(said(name), [])
    read = Picture.doubt_of_scores

    def slowly(picture: Picture, thresholds: Thresholds) -> Doubt:
        time.sleep(0.1)
        return read(picture, thresholds)

    monkeypatch.setattr(Picture, "doubt_of_scores", slowly)
    assert claimed(queue_of(published, decisions), "doubtful", ANN, 1) == ["a/3.jpg"]


def test_a_claim_is_over_after_a_quarter_of_an_hour_and_work_renews_it(published: Path, decisions: Decisions) -> None:
    clock = Clock()
    queue = queue_of(published, decisions, clock)
    found = queue.claim("all", ANN, ALL)
    assert found is not None
    picture, claim = found
    clock.now += 899
    with pytest.raises(Taken):
        queue.claim("all", OLE, ALL, picture.id)
    again = queue.claim("all", ANN, ALL, picture.id)
    assert again is not None
    assert again[1] == replace(claim, until=claim.until + 899)
    clock.now += 899
    assert queue.held(picture.id, ANN, picture.version)[0] == picture
    with pytest.raises(Taken, match="changed"):
        queue.held(picture.id, ANN, "another")
    with pytest.raises(Taken, match="over"):
        queue.held(picture.id, OLE, picture.version)
    clock.now += 2
    with pytest.raises(Taken, match="over"):
        queue.held(picture.id, ANN, picture.version)
    assert queue.claim("all", OLE, ALL, picture.id) is not None


def test_who_only_looks_takes_no_picture_from_those_who_decide(published: Path, decisions: Decisions) -> None:
    queue = queue_of(published, decisions)
    seen = [queue.claim("all", ("per", "3"), ALL, decides=False) for _ in range(7)]
    assert len({one[0].id for one in seen if one}) == 6
    assert seen[6] is None
    assert len(claimed(queue, "all", ANN, 9)) == 6
    assert seen[0] is not None
    with pytest.raises(Taken):
        queue.held(seen[0][0].id, ("per", "3"), seen[0][0].version)


def test_filters_choose_by_folder_and_class_and_another_queue_gives_claims_up(
    published: Path, decisions: Decisions
) -> None:
    queue = queue_of(published, decisions, listed=["b/1.jpg", "no/such.jpg", "a/0.jpg"])
    assert claimed(queue, "all", ANN, 9, Filters("b/")) == ["b/0.jpg", "b/1.jpg"]
    assert claimed(queue, "all", ANN, 9, Filters("b/", "car")) == ["b/0.jpg"]
    assert claimed(queue, "listed", ANN, 9) == ["b/1.jpg", "a/0.jpg"]
    assert claimed(queue, "all", OLE, 9, Filters(category="bus")) == []
    assert queue.state("all", "ann", Filters("a/"), lead=False) == {
        "counts": {"listed": 2, "doubtful": queue.state("doubtful", "ann", ALL, lead=False)["total"], "sample": 6,
                   "all": 6},
        "done": 0, "total": 4,
    }  # fmt: skip


def test_a_sample_is_the_same_for_a_seed_and_hardly_another_one_with_more_pictures(
    published: Path, decisions: Decisions
) -> None:
    drawn = [claimed(queue_of(published, decisions, seed=seed, sample=3), "sample", ANN, 9) for seed in (7, 7, 8)]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]
    assert len(set(drawn[0])) == 3
    larger = claimed(queue_of(published, decisions, seed=7, sample=4), "sample", ANN, 9)
    assert larger[:3] == drawn[0]


def test_two_people_see_a_part_of_the_sample_and_the_lead_settles_what_they_differ_about(
    published: Path, decisions: Decisions
) -> None:
    queue = queue_of(published, decisions, second=1.0)
    for who, verdict in ((ANN, "good"), (OLE, "missed")):
        for relative in claimed(queue, "sample", who, 9):
            result = verdict if relative == "a/0.jpg" else "good"
            queue.decided(decisions.add(said(relative, who[0], result, "sample"), []))
    assert claimed(queue, "sample", ("kim", "3"), 9) == []
    assert claimed(queue, "lead", ("kim", "3"), 9) == ["a/0.jpg"]
    numbers = numbers_of(queue.bases(), decisions, (0.01, 0.1))
    assert (numbers.gate()["k"], numbers.gate()["n"]) == (1, 6)
    queue.decided(decisions.add(said("a/0.jpg", "kim", "good", "lead"), []))
    assert claimed(queue, "lead", ("kim", "3"), 9) == []
    assert numbers_of(queue.bases(), decisions, (0.01, 0.1)).gate()["k"] == 0


def test_what_is_flagged_goes_to_the_lead_and_is_no_look(published: Path, decisions: Decisions) -> None:
    queue = queue_of(published, decisions)
    queue.decided(decisions.add(said("b/0.jpg", verdict="flagged"), []))
    assert claimed(queue, "lead", OLE, 9) == ["b/0.jpg"]
    assert numbers_of(queue.bases(), decisions, (0.01, 0.1)).looks == {}


@pytest.mark.parametrize(
    ("k", "n", "low", "high"), [(2, 300, 0.0018, 0.0240), (0, 300, 0.0, 0.0126), (0, 400, 0, 0.0095)]
)
def test_the_share_of_pictures_with_a_miss_has_wilsons_interval(k: int, n: int, low: float, high: float) -> None:
    looks = {str(i): [said(str(i), verdict="missed" if i < k else "good", queue="sample")] for i in range(n)}
    missed = Numbers(1000, looks, [], (0.01, 0.1)).gate()
    assert (missed["k"], missed["n"]) == (k, n)
    assert (missed["low"], missed["high"]) == pytest.approx((low, high), abs=5e-5)


def test_only_the_sample_counts_for_the_gate_until_all_were_looked_at() -> None:
    looks = {"a": [said("a", verdict="missed")], "b": [said("b", queue="sample")]}
    assert Numbers(3, looks, [], (0.01, 0.1)).gate()["k"] == 0
    assert Numbers(2, looks, [], (0.01, 0.1)).gate() == Numbers(2, looks, [], (0.01, 0.1)).missed()
    assert Numbers(3, {}, [], (0.01, 0.1)).gate() == {"k": 0, "n": 0, "low": None, "high": None}


def test_agreement_is_beyond_chance_and_needs_enough_pictures() -> None:
    def pair(n: int, first: str, second: str) -> dict[str, list[Decision]]:
        return {f"{first}{second}{i}": [said("x", "ann", first), said("x", "ole", second)] for i in range(n)}

    looks = {**pair(10, "missed", "missed"), **pair(5, "good", "missed"), **pair(15, "good", "good")}
    agreement = Numbers(30, looks, [], (0.01, 0.1)).as_json(by_person=True)["agreement"]
    assert agreement["share"] == pytest.approx(25 / 30)
    assert agreement["kappa"] == pytest.approx((25 / 30 - 0.5) / 0.5)
    few = Numbers(30, pair(19, "good", "missed"), [], (0.01, 0.1)).as_json(by_person=False)
    assert few["agreement"]["kappa"] is None
    assert few["by_person"] == []


def test_misses_are_counted_by_class_and_size(published: Path, decisions: Decisions) -> None:
    sizes = {"face": [5, 5, 10, 10], "person": [5, 5, 40, 40]}
    rows = [
        Correction(
            relative="a/0.jpg", width=160, height=120, kind="add", category=name, shape=json.dumps({"box": box}),
            source="review", batch="review", author="ann",
        )
        for name, box in sizes.items()
    ]  # fmt: skip
    decision = decisions.add(said("a/0.jpg", verdict="missed"), rows)
    paths = {name: base_of(VERSIONS[name]) for name in ("a/0.jpg", "a/1.jpg")}
    numbers = numbers_of(paths, decisions, (0.01, 0.1)).as_json(by_person=True)
    assert numbers["by_class"] == [{"name": name, "missed": 1, "false": 0} for name in ("face", "person")]
    assert numbers["by_size"] == [{"name": name, "missed": 1, "false": 0} for name in ("small", "medium")]
    assert numbers["by_person"] == [{"name": "ann", "n": 1, "share": 1.0}]
    with pytest.raises(UsageError):
        decisions.undo(decision.id, "ole", NOW, others=False)
    decisions.undo(decision.id, "lea", NOW, others=True)
    assert numbers_of(paths, decisions, (0.01, 0.1)).as_json(by_person=True)["by_class"] == []


def test_a_decision_that_somebody_changed_by_hand_closes_the_gate(
    published: Path, decisions: Decisions, capsys: pytest.CaptureFixture[str]
) -> None:
    gate = ["review", "gate", "-i", str(published), "--corrections", str(decisions.store.file.parent)]
    assert main(gate) == 1
    assert "nobody has looked" in capsys.readouterr().out
    for n in range(9):
        decisions.add(said("a/0.jpg", queue="sample") if n == 0 else said(f"x{n}"), [])
    assert main([*gate, "--max-missed", "0.8"]) == 0
    assert "0 of 1 pictures" in capsys.readouterr().out
    with decisions.store.changing() as connection:
        connection.execute("UPDATE review_decision SET verdict = 'good', seconds = 9 WHERE relative = 'x7'")
    assert main([*gate, "--max-missed", "0.8"]) == 2
    assert "is not as its event says" in capsys.readouterr().err


@pytest.mark.slow
def test_exports_are_a_table_json_and_a_truth_that_evaluate_reads(
    published: Path, decisions: Decisions, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shape = json.dumps({"box": [100, 10, 20, 30]})
    missed = Correction(
        relative="a/2.jpg", width=160, height=120, kind="add", category="person", shape=shape, source="review",
        batch="review", author="=ann",
    )  # fmt: skip
    decisions.add(said("a/0.jpg", who="=ann"), [])
    decisions.add(said("a/2.jpg", who="=ann", verdict="missed"), [missed])
    export = ["review", "export", "-i", str(published), "--corrections", str(decisions.store.file.parent), "--format"]
    texts = {}
    for form in ("csv", "json", "coco"):
        assert main([*export, form]) == 0
        texts[form] = capsys.readouterr().out
    rows = sorted(csv.DictReader(io.StringIO(texts["csv"])), key=lambda row: row["relative"])
    assert [(row["relative"], row["verdict"], row["missed"]) for row in rows] == [
        ("a/0.jpg", "good", "0"), ("a/2.jpg", "missed", "1"),
    ]  # fmt: skip
    assert rows[0]["who"] == "'=ann"  # no formula
    assert [one["shape"] for row in json.loads(texts["json"]) for one in row["corrections"]] == [shape]
    (tmp_path / "truth.json").write_text(texts["coco"])
    found = ["--coco", str(tmp_path / "truth.json"), "--instances", str(published), "-o", str(tmp_path / "evaluation")]
    assert main(["evaluate", *found, "--no-html", "--no-curves"]) == 0
    measured = json.loads((tmp_path / "evaluation" / "evaluation.json").read_text())
    assert measured["counts"]["annotated_objects"] == 2
    missing = {
        row["class"]: (row["hit"], row["total"])
        for row in measured["measures"]
        if row["measure"] == "missed_objects" and row["size_group"] == "all" and row["attribute"] is None
    }
    assert missing == {"all": (1, 2), "car": (0, 1), "person": (1, 1)}


def test_roles_are_what_the_file_says(tmp_path: Path) -> None:
    file = tmp_path / "users.txt"
    users(file, ann="reviewer", ole="original", lea="lead", per="viewer", kim="lead,original")
    by_name = {user.name: user for user in read_users(file).values()}
    may = {name: "".join(role[0] for role in ("viewer", "reviewer", "original", "lead") if user.may(role))
           for name, user in by_name.items()}  # fmt: skip
    assert may == {"ann": "vr", "ole": "vro", "lea": "vrl", "per": "v", "kim": "vrol"}
    assert by_name["ann"] == User("ann", frozenset({"reviewer"}))


LINES = ["ann:reviewer", "ann:boss:" + "0" * 64, ":viewer:" + "0" * 64, "ann:viewer:abc"]


def test_a_name_with_two_tokens_would_have_the_rights_of_both(tmp_path: Path) -> None:
    lines = [f"ann:{role}:{digit * 64}" for role, digit in (("viewer", "0"), ("original", "1"))]
    (tmp_path / "users.txt").write_text("\n".join(lines))
    with pytest.raises(UsageError, match="line 2: ann stands there twice"):
        read_users(tmp_path / "users.txt")


@pytest.mark.parametrize("line", LINES)
def test_a_line_of_users_that_makes_no_sense_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "users.txt").write_text(f"# people\n{line}\n")
    with pytest.raises(UsageError, match="line 2"):
        read_users(tmp_path / "users.txt")


def test_a_folder_that_no_run_has_written_to_makes_no_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["review", "-i", str(tmp_path / "typo"), "--corrections", str(tmp_path / "store")]) == 3
    assert "no run has written to" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--corrections FOLDER"),
        (["--corrections", "STORE", "--host", "0.0.0.0"], "review_users"),
        (["--corrections", "STORE", "-a", "nowhere"], "nowhere does not exist"),
        (["--corrections", "STORE", "--queue", "nowhere.txt"], "nowhere.txt cannot be read"),
        (["--corrections", "STORE", "--second", "5"], "--second a fraction"),
        (["gate", "--corrections", "NONE"], "there is no store of corrections"),
    ],
)
def test_what_is_wrong_is_told_in_a_line_before_anything_is_served(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    given = [str(tmp_path / "store") if part == "STORE" else part for part in arguments]
    given = [str(tmp_path / "none") if part == "NONE" else part for part in given]
    assert main(["review", *given, "-i", str(published)]) == 2
    assert message in capsys.readouterr().err
