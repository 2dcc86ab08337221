"""Contact sheets: pages without a server that show the doubtful pictures first."""

import re
from html import unescape
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest

from anonymise.commands.cli import main
from anonymise.core.detections import Box
from anonymise.review import sheet as sheets
from anonymise.review.pictures import Doubt, doubt_of_scores
from tests.fakes import street
from tests.review.published import FLAGS, on_its_side, publish

CAR, NARROW = Box(40, 40, 90, 80), Box(40, 40, 55, 80)


def names_on(page: Path) -> list[str]:
    return [unescape(name) for name in re.findall(r'<span class="name">(.*?)</span>', page.read_text("utf-8"))]


def test_the_least_certain_come_first_with_their_reasons(tmp_path: Path) -> None:
    cars = {"1": [CAR], "2": [], "3": [CAR], "4": [CAR], "5": [NARROW], "6": [CAR]}
    publish(tmp_path, {f"a/{n}.jpg": street(cars=some) for n, some in cars.items()}, *FLAGS)
    assert main(["sheet", "-o", str(tmp_path / "out"), "--set", "score_threshold=0.5"]) == 0
    page = tmp_path / "out_sheet" / "index.html"
    assert names_on(page) == ["2.jpg", "5.jpg", "1.jpg", "3.jpg", "4.jpg", "6.jpg"]
    text = page.read_text("utf-8")
    assert "nothing found, a neighbour has 1 car" in text
    assert "car 0.52" in text
    assert text.count('class="vehicle" d="M') == 5 + 1  # and the legend
    assert text.index(">Doubtful <") < text.index("5.jpg") < text.index(">Others <") < text.index("1.jpg")


def test_scores_of_what_is_not_hidden_count_and_corrections_do_not() -> None:
    find = {"category_id": 1, "category": "person", "score": 0.55, "bbox": [10, 10, 20, 20]}
    car = {"category_id": 3, "category": "car", "score": 0.9, "bbox": [0, 0, 100, 50]}

    def doubt(**lists: object) -> Doubt:
        return doubt_of_scores(lists, lambda _: 0.5)

    assert doubt(instances=[find]).degree == pytest.approx(0.5)
    assert doubt(instances=[find | {"source": "review"}]) == Doubt(0.0)
    assert doubt(doubtful=[find]) == Doubt(0.6, "person 0.55, not hidden")
    assert doubt(instances=[car], doubtful=[find]) == Doubt(0.0)  # the car hides its driver
    assert doubt(instances=[car], doubtful=[find | {"bbox": [90, 10, 20, 20]}]).degree == 0.6


@pytest.mark.parametrize("name", ["<script>alert(1)</script>.jpg", "a\"b'&amp;.jpg", "a\nb.jpg", "ø 100%#?.jpg"])
def test_names_are_text_and_links_lead_to_the_files(tmp_path: Path, name: str) -> None:
    publish(tmp_path, {name.replace("/", "∕"): street()}, *FLAGS)
    assert main(["sheet", "-o", str(tmp_path / "out"), "--to", str(tmp_path / "b" / "sheet")]) == 0
    page = tmp_path / "b" / "sheet" / "index.html"
    text = page.read_text("utf-8")
    assert "<script" not in text
    (address,) = re.findall(r'<a href="(.*?)"', text)
    assert (page.parent / unquote_to_bytes(unescape(address)).decode()).resolve().is_file()


def test_without_saved_instances_outlines_come_from_masks_and_without_those_the_page_says_so(tmp_path: Path) -> None:
    for name, override, n_outlines in (("mask", "remote_mask=True", 1), ("none", "remote_mask=False", 0)):
        publish(tmp_path / name, {"1.jpg": street()}, override)
        assert main(["sheet", "-o", str(tmp_path / name / "out")]) == 0
        text = (tmp_path / name / "out_sheet" / "index.html").read_text("utf-8")
        assert text.count('class="other" d="M40,40') == n_outlines
        assert ("remote_instances: True" in text) == (n_outlines == 0)


def test_a_picture_on_its_side_is_shown_upright_with_its_outlines(tmp_path: Path) -> None:
    publish(tmp_path, {"1.jpg": on_its_side(street())}, *FLAGS)
    assert main(["sheet", "-o", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out_sheet" / "index.html").read_text("utf-8")
    assert 'viewBox="0 0 120 160"' in text
    (left, top, right, bottom) = map(int, re.findall(r'class="vehicle" d="M(\d+),(\d+) \d+,\d+ (\d+),(\d+)', text)[0])
    assert (min(left, right), min(top, bottom)) == pytest.approx((40, 40), abs=2)
    assert (max(left, right), max(top, bottom)) == pytest.approx((80, 90), abs=2)


def test_many_pictures_make_several_pages_and_none_of_an_earlier_sheet_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path, {f"{n}.jpg": street() for n in range(5)}, *FLAGS)
    monkeypatch.setattr(sheets, "PER_PAGE", 2)
    assert main(["sheet", "-o", str(tmp_path / "out")]) == 0
    pages = ["index.html", "sheet_2.html", "sheet_3.html"]
    assert sorted(file.name for file in (tmp_path / "out_sheet").iterdir()) == pages
    assert [names_on(tmp_path / "out_sheet" / page) for page in pages] == [
        ["0.jpg", "1.jpg"], ["2.jpg", "3.jpg"], ["4.jpg"],
    ]  # fmt: skip
    assert '<b aria-current="page">2</b>' in (tmp_path / "out_sheet" / "sheet_2.html").read_text("utf-8")
    monkeypatch.undo()
    assert main(["sheet", "-o", str(tmp_path / "out")]) == 0
    assert sorted(file.name for file in (tmp_path / "out_sheet").iterdir()) == ["index.html"]


def test_a_damaged_picture_is_named_and_the_others_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(tmp_path, {"1.jpg": street(), "2.jpg": street()}, *FLAGS)
    (tmp_path / "out" / "1.jpg").write_bytes(b"\xff\xd8\xff")
    assert main(["sheet", "-o", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.startswith("1.jpg: cannot be shown: ")
    text = (tmp_path / "out_sheet" / "index.html").read_text("utf-8")
    assert text.count("<img ") == 1
    assert names_on(tmp_path / "out_sheet" / "index.html") == ["1.jpg", "2.jpg"]


def test_a_folder_without_a_journal_is_an_error_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sheet", "-o", str(tmp_path)]) == 3
    assert "no run has written to" in capsys.readouterr().err
