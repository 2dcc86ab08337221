"""A reviewer's hour, by script: 200 pictures, 10 planted misses, 5 false finds, and a server that is killed."""

from pathlib import Path

import numpy as np
import pytest

from anonymise.commands.cli import main
from anonymise.core.detections import Box
from anonymise.corrections.store import Store
from anonymise.review.decisions import Decisions
from tests.fakes import read_image, street
from tests.review.published import FLAGS, PLAIN, publish
from tests.review.served import serving

pytestmark = pytest.mark.slow

CAR, FALSE = Box(10, 20, 40, 50), Box(60, 20, 90, 50)
MISSED = {n: Box(60, 5 + n % 7, 85, 30 + n % 7) for n in range(3, 200, 20)}
WRONG = range(10, 200, 40)


def name(n: int) -> str:
    return f"{n // 50}/{n:03}.png"


def test_every_decision_survives_and_only_the_pictures_they_concern_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = {
        name(n): street((100, 64), cars=[CAR, FALSE] if n in WRONG else [CAR], seed=n) for n in range(200)
    }  # what was missed is green: the model finds red
    for n, box in MISSED.items():
        pictures[name(n)][box.slices] = (20, 230, 40)
    assert publish(tmp_path, pictures, *FLAGS).failed == []
    files = {name(n): tmp_path / "out" / name(n) for n in range(200)}
    before = {path: file.read_bytes() for path, file in files.items()}
    expected = {}
    said = 0
    while said < 200:
        with serving(tmp_path, *PLAIN, *FLAGS, options=["--user", "ann"]) as server:
            person = server.person()
            while (item := person.claim("all")) is not None:
                n = int(item["relative"][2:5])
                added = [{"category": "person", "shape": {"box": box_of(MISSED[n])}}] if n in MISSED else []
                wrong = [find["id"] for find in item["finds"] if find["box"] == [60, 20, 30, 30]]
                verdict = "missed" if added else "false" if wrong else "good"
                false = [{"find": find, "reason": "reflection"} for find in wrong]
                assert person.decide(item, verdict, added=added, false=false).status_code == 201
                expected[item["relative"]] = verdict
                said += 1
                if said in (67, 134):
                    break  # and the server is killed
            if said == 200:
                assert person.draw() == {"state": "done", "done": 15, "total": 15, "reason": ""}
    with Store(tmp_path / "store") as store:
        decisions = Decisions(store)
        assert {row.relative: row.verdict for row in decisions.in_force()} == expected
        assert list(expected.values()).count("missed") == 10
        assert list(expected.values()).count("false") == 5
        assert decisions.fault() is None
    changed = {path for path, file in files.items() if file.read_bytes() != before[path]}
    assert changed == {name(n) for n in (*MISSED, *WRONG)}
    for n, box in MISSED.items():
        assert np.abs(read_image(files[name(n)])[box.slices].astype(int) - (20, 230, 40)).max(axis=2).min() > 30
    for n in WRONG:
        assert np.array_equal(read_image(files[name(n)])[FALSE.slices], pictures[name(n)][FALSE.slices])
    store_of = ["-i", str(tmp_path / "out"), "--corrections", str(tmp_path / "store")]
    assert main(["review", "gate", *store_of, "--max-missed", "0.05"]) == 1
    assert "10 of 200 pictures have a miss; 95 % interval 2.74 to 8.96 %" in capsys.readouterr().out
    assert main(["review", "gate", *store_of, "--max-missed", "0.09"]) == 0


def box_of(box: Box) -> list[int]:
    return [box.left, box.top, box.width, box.height]
