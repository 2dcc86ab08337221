"""Regions from other systems: from files and tables into corrections and into pictures, and back."""

import csv
import gzip
import json
import logging
import os
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pytest

from anonymise.commands import cli, corrections, regions
from anonymise.core.classes import LABELS
from anonymise.core.detections import Box, Detections, Instance, Size, full_mask
from anonymise.core.wraparound import split_at_seam
from anonymise.corrections.store import Store
from anonymise.regions.exporting import exported, write_table
from tests.corrections.runs import Folders, noise
from tests.fakes import read_image, street

ROOT = Path(__file__).parents[2]

_CORNERS = ("left_top", "right_top", "left_bottom", "right_bottom")
TABLE = ["region_type", *(f"{corner}_{axis}" for corner in _CORNERS for axis in "xy"), "detected_by", "pano_id"]
Capture = pytest.CaptureFixture[str]


def row(
    pano: str, left: int, top: int, right: int, bottom: int, kind: str = "N", by: str = "CTO AI Team"
) -> dict[str, object]:
    corners = dict(zip(TABLE[1:9], (left, top, right, top, left, bottom, right, bottom), strict=True))
    return {"region_type": kind, **corners, "detected_by": "CTO AI Team", "pano_id": pano}


def write(file: Path, rows: list[dict[str, object]], columns: list[str] = TABLE, delimiter: str = ",") -> Path:
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.DictWriter(opened, columns, delimiter=delimiter, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return file


class Case(Folders):
    """Folders, and the command over them. Pictures are 160×120, and so is the frame."""

    def import_(self, *arguments: str | Path, batch: str = "b", frame: str = "160x120") -> int:
        few = ["-i", self.input, "--batch", batch, "--frame", frame, "--by", "tester", *self.named()]
        return regions.main(["import", *map(str, arguments), *map(str, few)])

    def named(self) -> list[str]:
        return ["--set", f"corrections={json.dumps(str(self.store_folder))}"]

    def counts(self, batch: str | None = None) -> dict[str, int]:
        with Store(self.store_folder) as store:
            return {name: n for name, n in store.counts(batch).items() if n}

    def shapes(self) -> set[tuple[str, str, str | None]]:
        with Store(self.store_folder) as store:
            return {(r.relative, r.category, r.shape) for r in store.select()}


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Case]:
    made = Case(tmp_path)
    for n in range(4):
        made.write(f"2020/01/0{n + 1}/M1/pano_{n}.png", noise(seed=n))
    yield made


def test_what_no_model_finds_is_drawn_and_undone(case: Case, tmp_path: Path, capsys: Capture) -> None:
    """Acceptance 7 and 8."""
    case.run()
    before = case.published()
    file = write(tmp_path / "r.csv", [row("M1_pano_1", 5, 5, 55, 55)])
    other = write(tmp_path / "s.csv", [row("M1_pano_1", 80, 40, 120, 90)])
    assert case.import_(file, batch="one") == 0
    assert case.import_(other, batch="two") == 0
    assert len(case.run().done) == 1
    assert case.n_original("2020/01/02/M1/pano_1.png") == 0
    assert case.n_original("2020/01/02/M1/pano_1.png", Box(80, 40, 120, 90)) == 0
    assert regions.main(["undo", "--batch", "one", *case.named()]) == 0
    assert len(case.run().done) == 1
    assert case.n_original("2020/01/02/M1/pano_1.png") == 2500
    assert case.n_original("2020/01/02/M1/pano_1.png", Box(80, 40, 120, 90)) == 0
    assert case.counts("two") == {"drawn": 1}
    capsys.readouterr()
    assert regions.main(["status", "--batch", "two", *case.named()]) == 0
    assert "1 drawn" in capsys.readouterr().out
    regions.main(["undo", "--batch", "two", *case.named()])
    case.run()
    assert case.published() == before


def test_columns_count_by_name(case: Case, tmp_path: Path) -> None:
    """Acceptance 4: the same corrections from both orders, shuffled headers, other separators, BOM, gzip and JSON."""
    rows = [row("M1_pano_0", 5, 6, 50, 60), row("M1_pano_1", 7, 8, 30, 40, kind="G")]
    results = [*TABLE[:5], *TABLE[7:9], *TABLE[5:7], *TABLE[9:]]
    files = [
        write(tmp_path / "a.csv", rows),
        write(tmp_path / "b.txt", rows, results),
        write(tmp_path / "c.csv", rows, TABLE[::-1], ";"),
        write(tmp_path / "d.csv", rows, TABLE, "\t"),
    ]
    upper = tmp_path / "e.csv"
    upper.write_bytes(b"\xef\xbb\xbf" + files[0].read_bytes().replace(b"region_type", b'"REGION_TYPE"'))
    packed = tmp_path / "f.csv.gz"
    packed.write_bytes(gzip.compress(files[1].read_bytes()))
    wide = tmp_path / "unicode text of a spreadsheet.txt"  # with empty columns at the end, of the header or of rows
    text = files[3].read_text("utf-8").splitlines()
    wide.write_text(f"{text[0]}\t\t\r\n{text[1]}\r\n{text[2]}\t\t\t\r\n\t\t\r\n", "utf-16")
    lines = tmp_path / "g.jsonl"
    lines.write_text("".join(json.dumps(entry) + "\n\n" for entry in rows), "utf-8")
    expected = {
        ("2020/01/01/M1/pano_0.png", "plate", '{"box": [5, 6, 45, 54]}'),
        ("2020/01/02/M1/pano_1.png", "face", '{"box": [7, 8, 23, 32]}'),
    }
    for n, file in enumerate([*files, upper, packed, wide, lines]):
        assert case.import_(file, batch=f"b{n}") == 0, file
        assert case.shapes() == expected, file
        assert case.counts(f"b{n}") == {"accepted": 2}


def test_a_folder_of_results_says_kind_and_picture_by_its_paths(case: Case, tmp_path: Path) -> None:
    folder = tmp_path / "results/2020/01/01/M1"
    columns = [name for name in TABLE if name not in ("pano_id", "region_type")]
    for pano, name in (("pano_0", "regions_lp"), ("pano_1", "regions_fd")):
        (folder / pano).mkdir(parents=True)
        write(folder / pano / f"{name}.csv", [row("", 5, 6, 50, 60)], columns)
    assert case.import_(tmp_path / "results") == 0
    assert {(name, category) for name, category, _ in case.shapes()} == {
        ("2020/01/01/M1/pano_0.png", "plate"),
        ("2020/01/02/M1/pano_1.png", "face"),
    }


def test_other_forms_of_boxes_are_in_the_picture_itself(case: Case, tmp_path: Path) -> None:
    first = tmp_path / "a.csv"
    first.write_text("pano_id,region_type,xmin,ymin,xmax,ymax\nM1_pano_0,N,5,6,50,60\n")
    second = tmp_path / "b.csv"
    second.write_text("relative,region_type,x,y,width,height,roll\n2020/01/01/M1/pano_0.png,N,5,6,45,54,\n")
    few = ["-i", case.input, "--batch", "b", *case.named()]
    assert regions.main(["import", *map(str, (first, second, *few))]) == 0
    assert case.shapes() == {("2020/01/01/M1/pano_0.png", "plate", '{"box": [5, 6, 45, 54]}')}


def test_counts_of_a_dry_run_and_of_imports(case: Case, tmp_path: Path, capsys: Capture) -> None:
    """Acceptance 5."""
    good = [row(f"M1_pano_{n % 4}", n % 100, n // 100, n % 100 + 20, 60) for n in range(985)]
    unknown = [row(f"M9_pano_{n}", 1, 2, 30, 40) for n in range(12)]
    bad = [
        row("M1_pano_0", 1, 2, 3, 4, kind="Z"),
        row("M1_pano_0", 5, 5, 5, 5),
        {**row("M1_pano_0", 1, 2, 3, 4), TABLE[1]: "nan"},
    ]
    file = write(tmp_path / "r.csv", good + unknown + bad)
    assert case.import_(file, "--dry-run", "--json") == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["good"], told["doubled"], told["unknown_pictures"], told["errors"]) == (985, 0, 12, 3)
    assert told["pictures"] == 4
    assert told["first_errors"][2] == f"{file}, line 1001: no number: left_top_x is nan"
    assert case.import_(file) == 1
    assert "nothing was imported: 3 rows cannot be used" in capsys.readouterr().err
    assert case.counts() == {}
    assert case.import_(file, "--allow-errors", "3") == 0
    assert case.counts() == {"accepted": 985, "unmatched": 12}
    assert case.import_(file, "--allow-errors", "3") == 0  # acceptance 8 of the corrections: nothing is added
    assert case.counts() == {"accepted": 985, "unmatched": 12}
    case.write("M9/pano_3.png", noise())
    assert case.import_(write(tmp_path / "none.csv", [])) == 0
    assert case.counts() == {"accepted": 986, "unmatched": 11, "rejected": 1}


def test_a_dry_run_says_how_much_more_is_hidden(case: Case, tmp_path: Path, capsys: Capture) -> None:
    case.write("2020/M1/car.png", street(cars=[Box(40, 40, 90, 80)]))
    case.run("archive_instances=False", "remote_instances=True")
    file = write(
        tmp_path / "r.csv",
        [row("M1_car", 80, 40, 100, 80), row("M1_car", 90, 40, 110, 80), row("M1_pano_0", 5, 5, 15, 15)],
    )
    capsys.readouterr()
    assert case.import_(file, "-o", case.output, "--dry-run", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["newly_hidden_pixels"] == 20 * 40 + 100
    assert told["pictures_with_saved_instances"] == 2
    assert case.counts() == {}


def test_only_some_pictures_are_done_again(case: Case, tmp_path: Path) -> None:
    """Acceptance 6, with 5 pictures of which 2 are of 2021."""
    for n in range(2):
        case.write(f"2021/M2/pano_{n}.png", noise(seed=9 + n))
    case.run()
    before = case.published()
    file = write(
        tmp_path / "r.csv", [row(name, 5, 5, 55, 55) for name in ("M1_pano_0", "M1_pano_3", "M2_pano_0", "M2_pano_1")]
    )
    assert case.import_(file, "--only", "2020/*") == 0
    ran = case.run()
    assert (len(ran.done), len(ran.skipped)) == (2, 4)
    changed = {name for name, data in case.published().items() if data != before[name]}
    assert changed == {"2020/01/01/M1/pano_0.png", "2020/01/04/M1/pano_3.png"}


def test_a_region_over_the_seam_is_hidden_on_both_sides(case: Case, tmp_path: Path) -> None:
    case.write("M1/sphere.png", noise((200, 100)))
    file = write(tmp_path / "r.csv", [row("M1_sphere", 7800, 1000, 8200, 2000)])
    assert case.import_(file, "--set", "projection=equirectangular", frame="8000x4000") == 0
    case.run("projection=equirectangular")
    for side in (Box(195, 25, 200, 50), Box(0, 25, 5, 50)):
        assert case.n_original("M1/sphere.png", side) == 0
    assert case.n_original("M1/sphere.png", Box(5, 25, 195, 50)) == 190 * 25


@pytest.mark.slow
def test_regions_of_a_panorama_of_8000_by_4000(case: Case, tmp_path: Path) -> None:
    """Acceptance 1 and 3, in pixels, blurred."""
    grey = np.add.outer(np.arange(4000) * 37, np.arange(8000) * 53).astype(np.uint8)  # its neighbours differ
    case.write("M1/sphere.png", np.repeat(grey[:, :, None], 3, axis=2))
    slanted = row("M1_sphere", 0, 0, 0, 0)
    slanted |= dict(zip(TABLE[1:9], (7990, 130, 8010, 140, 7990, 250, 8010, 230), strict=True))
    boxes = [(-75, 1000, 20, 1040), (4000, 3990, 4040, 4020), (100, 100, 130, 103)]
    file = write(tmp_path / "r.csv", [slanted, *(row("M1_sphere", *box) for box in boxes)])
    keys = ["projection=equirectangular", "appearance=blur"]
    assert case.import_(file, "--set", keys[0], frame="8000x4000") == 0
    case.run(*keys, only=frozenset({"M1/sphere.png"}))
    for box in (
        *(Box(7990, 130, 8000, 250), Box(0, 130, 10, 250)),
        *(Box(7925, 1000, 8000, 1040), Box(0, 1000, 20, 1040)),
        *(Box(4000, 3990, 4040, 4000), Box(100, 100, 130, 103)),
    ):
        assert case.n_original("M1/sphere.png", box) < box.area / 20, box
    assert case.n_original("M1/sphere.png", Box(200, 300, 400, 500)) == 200 * 200


def test_what_is_turned_upright_takes_its_angles_from_columns_or_records(case: Case, tmp_path: Path) -> None:
    case.write("M1/sphere.png", noise((200, 100)))
    file = write(tmp_path / "r.csv", [row("M1_sphere", 150, 40, 160, 50)])
    few = ["--rectified", "--set", "projection=equirectangular"]
    assert case.import_(file, *few, frame="200x100") == 1
    record = case.output / "M1/sphere.json"
    record.parent.mkdir(parents=True)
    record.write_text('{"exif_roll": "NaN", "exif_pitch": 0}')
    assert case.import_(file, *few, "-o", case.output, frame="200x100") == 1
    assert case.counts() == {}
    record.write_text('{"exif_roll": 18.0, "exif_pitch": 0}')
    assert case.import_(file, *few, "-o", case.output, frame="200x100") == 0
    unknown = write(tmp_path / "u.csv", [row("M9_sphere", 150, 40, 160, 50)])  # its record would come too late
    assert case.import_(unknown, *few, "-o", case.output, batch="u", frame="200x100") == 1
    with_columns = write(
        tmp_path / "s.csv", [{**row("M1_sphere", 150, 40, 160, 50), "roll": 18, "pitch": 0}], [*TABLE, "roll", "pitch"]
    )
    assert case.import_(with_columns, *few, frame="200x100") == 0
    ((_, _, shape),) = case.shapes()
    rows = [y for _, y in json.loads(str(shape))["polygon"]]
    assert 29 < min(rows) < max(rows) < 41  # 18 degrees are 10 rows, at the side


@pytest.mark.slow
def test_a_picture_that_comes_later_is_hidden_by_the_next_run(case: Case, tmp_path: Path, capsys: Capture) -> None:
    """Acceptance 8, with a real model, which finds nothing in noise."""
    file = write(tmp_path / "r.csv", [row("M9_pano_0", 5, 5, 55, 55)])
    assert case.import_(file) == 0
    assert case.counts() == {"unmatched": 1}
    case.write("2021/M9/pano_0.png", noise())
    keys = ["-k", str(ROOT / "config/lite_config.yml"), "--set", "remote_preview=False", *case.named()]
    folders = ["-i", str(case.input), "-o", str(case.output)]
    assert cli.main([*folders, *keys]) == 0
    assert case.n_original("2021/M9/pano_0.png") < 25
    assert case.n_original("2021/M9/pano_0.png", Box(100, 20, 150, 100)) == 50 * 80
    assert case.counts()["drawn"] == 1
    capsys.readouterr()
    assert regions.main(["undo", "--batch", "b", *case.named()]) == 0
    assert cli.main([*folders, *keys, "--corrected"]) == 0
    assert case.n_original("2021/M9/pano_0.png") == 2500


def test_what_waits_for_its_picture(case: Case, tmp_path: Path) -> None:
    """Its batch, rule of names and review still count when the picture comes."""
    for batch, names, more in (
        ("undone", "{mission}_{stem}", ()),
        ("review", "stem", ("--review",)),
        ("rule", "{mission}+{stem}", ()),
    ):
        pano = {"undone": "M9_late", "review": "late", "rule": "M9+late"}[batch]
        file = write(tmp_path / f"{batch}.csv", [row(pano, 5, 5, 55, 55)])
        assert case.import_(file, "--names", names, *more, batch=batch) == 0
    assert regions.main(["undo", "--batch", "undone", *case.named()]) == 0
    case.write("M9/late.png", noise())
    assert case.import_(write(tmp_path / "none.csv", []), batch="other") == 0
    assert case.counts("undone") == {"undone": 1}
    assert case.counts("review") == {"proposed": 1, "rejected": 1}
    assert case.counts("rule") == {"accepted": 1, "rejected": 1}


def test_what_waits_keeps_how_it_was_imported_on_another_machine(case: Case, tmp_path: Path, capsys: Capture) -> None:
    file = write(
        tmp_path / "r.csv", [{**row("late", 150, 40, 160, 50), "roll": 18, "pitch": 0}], [*TABLE, "roll", "pitch"]
    )
    around = ["--set", "projection=equirectangular"]
    few = ["--names", "stem", "--review", "--rectified", *around]
    assert case.import_(file, *few, frame="200x100") == 0
    capsys.readouterr()
    assert corrections.main(["export", *case.named()]) == 0
    (tmp_path / "all.jsonl").write_text(capsys.readouterr().out, "utf-8")
    case.store_folder = tmp_path / "elsewhere"
    assert corrections.main(["import", str(tmp_path / "all.jsonl"), *case.named()]) == 0
    case.write("M9/late.png", noise((200, 100)))
    assert case.import_(write(tmp_path / "none.csv", []), *around, batch="other") == 0
    assert case.counts() == {"proposed": 1, "rejected": 1}
    (shape,) = (str(text) for name, _, text in case.shapes() if name == "M9/late.png")
    assert 29 < min(y for _, y in json.loads(shape)["polygon"]) < 41  # as with the picture there from the start


def test_what_waits_is_hidden_as_every_import_said(case: Case, tmp_path: Path) -> None:
    """Somebody forgot how the other system names pictures, or that its frame is upright, and imports once more."""
    file = write(tmp_path / "r.csv", [row("late", 5, 5, 55, 55)])
    for _ in range(2):
        assert case.import_(file) == 0
        assert case.import_(file, "--names", "stem") == 0
        assert case.counts() == {"unmatched": 2}
    case.write("M9/late.png", noise())
    assert case.import_(write(tmp_path / "none.csv", [])) == 0
    assert case.counts() == {"accepted": 1, "unmatched": 1, "rejected": 1}


def test_a_picture_that_came_but_cannot_be_matched_is_told(
    case: Case, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("anonymise"), "propagate", True)  # which runs turn off
    assert case.import_(write(tmp_path / "r.csv", [row("M9_late", 5, 5, 55, 55), row("M8_bad", 5, 5, 55, 55)])) == 0
    for folder in ("a", "b"):
        case.write(f"{folder}/M9/late.png", noise())
    (case.input / "M8").mkdir()
    (case.input / "M8" / "bad.png").write_bytes(b"no picture")
    assert case.import_(write(tmp_path / "none.csv", [])) == 0
    assert case.counts() == {"unmatched": 2}
    told = {record.getMessage() for record in caplog.records}
    several = "M9_late: a region of it is not hidden: several pictures: M9_late may be a/M9/late.png or b/M9/late.png"
    assert several in told
    (broken,) = told - {several}
    assert broken.startswith("M8_bad: a region of it is not hidden: no picture: M8/bad.png cannot be read")


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_case_and_composition_of_names_do_not_count(form: Literal["NFC", "NFD"], case: Case, tmp_path: Path) -> None:
    other: Literal["NFC", "NFD"] = "NFD" if form == "NFC" else "NFC"
    name = unicodedata.normalize(form, "Ærø/gård.png")
    case.write(name, noise())
    rows = [
        row(unicodedata.normalize(other, "ÆRØ_Gård"), 1, 2, 30, 40),
        {**row("", 5, 6, 50, 60), "relative": unicodedata.normalize(other, name)},
    ]
    assert case.import_(write(tmp_path / "r.csv", rows, [*TABLE, "relative"])) == 0
    assert case.counts() == {"accepted": 2}
    assert {relative for relative, *_ in case.shapes()} == {name}


def test_left_of_a_planar_picture_that_comes_later(case: Case, tmp_path: Path) -> None:
    assert case.import_(write(tmp_path / "r.csv", [row("M9_late", -10, 5, 20, 55)]), frame="200x100") == 0
    case.write("M9/late.png", noise((200, 100)))
    assert case.import_(write(tmp_path / "none.csv", [])) == 0
    case.run()
    assert case.n_original("M9/late.png", Box(0, 5, 20, 55)) == 0


def test_undo_leaves_what_people_reported(case: Case, tmp_path: Path, capsys: Capture) -> None:
    case.put("2020/01/01/M1/pano_0.png", source="report", batch="week")
    assert regions.main(["undo", "--batch", "week", *case.named()]) == 2
    assert "nothing in this group is in force" in capsys.readouterr().err
    case.import_(write(tmp_path / "r.csv", [row("M1_pano_0", 1, 2, 30, 40)]), batch="week")
    assert regions.main(["undo", "--batch", "week", *case.named()]) == 0
    assert case.counts("week") == {"accepted": 1, "undone": 1}


HEADER = ",".join(TABLE) + "\n"
BAD: dict[str, tuple[str | bytes, str]] = {
    "no header": ("N,1,2,3,4\n", "line 1: there is no header with the names of the columns"),
    "missing column": ("region_type,pano_id,left_top_x,left_top_y\n", "line 1: there is no column right_top_x"),
    "double column": (",".join((*TABLE, "pano_id")) + "\n", "line 1: the column pano_id is there twice"),
    "no picture": (",".join(TABLE[:-1]) + "\n", "line 1: there is no column pano_id or relative"),
    "not UTF-8": (HEADER.encode() + b"N,1,2,3,2,1,5,3,5,caf\xe9,M1_pano_0\n", "line 2 is not UTF-8"),
    "cut UTF-16": (HEADER.encode("utf-16")[:-1], "is neither UTF-8 nor UTF-16"),
    "NUL": (HEADER.encode() + b"N,1,2,3,2,1,5,3,5,\0,M1_pano_0\n", "line 2: there is a NUL byte in it"),
    "open quotation": (f'{HEADER}N,1,2,3,2,1,5,3,5,"x,M1_pano_0\n{"N,2,2,2,2,2,5,5,5,x,M1_pano_0" * 3}', "end of data"),
    "long line": (HEADER + "N," + "1" * 10_000_000, "line 2: field larger than field limit"),
    "empty": ("", "line 1: there is no header"),
    "header again": (f"{HEADER}N,1,2,3,2,1,5,3,5,x,M1_pano_0\n{HEADER}", "line 3: the header is there again"),
    "no end of line": (f'"{"x" * 200_000}",b', "line 1: field larger than field limit"),
    "cut gzip": (gzip.compress(HEADER.encode())[:-9], "cannot be read"),
    "damaged gzip": (gzip.compress(HEADER.encode())[:10] + b"\xff" * 40, "cannot be read"),
    "no gzip": (HEADER, "cannot be read: Not a gzipped file"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_file_that_is_no_table_changes_nothing(kind: str, case: Case, tmp_path: Path, capsys: Capture) -> None:
    content, message = BAD[kind]
    file = tmp_path / ("bad.csv.gz" if "gzip" in kind else "bad.csv")
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    good = write(tmp_path / "good.csv", [row("M1_pano_0", 1, 2, 30, 40)])
    assert case.import_(good, file) == 2
    error = capsys.readouterr().err
    assert f"{file}" in error
    assert message in error
    assert case.counts() == {}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("N,1,2,3,2,1,5,3,5,x", "number of columns: 10, the header has 11"),
        ("N,1,2,3,2,1,5,3,inf,x,M1_pano_0", "no number: right_bottom_y is inf"),
        ("N,1,2,3,2,1,5,3,,x,M1_pano_0", "no number: right_bottom_y is empty"),
        ("N,1,200,3,200,1,205,3,205,x,M1_pano_0", "outside the picture"),
        ("N,1,2,3,2,1,5,3,5,x,", "no picture: pano_id is empty"),
        ("X,1,2,3,2,1,5,3,5,x,M1_pano_0", "unknown region_type: X; --types X=CLASS names it"),
        ("N,1,2,3,2,1,5,3,5,x,M1_twice", "several pictures: M1_twice may be "),
        ("N,1,2,3,2,1,5,3,5,x,/etc/passwd", "no picture: /etc/passwd is no path below the input folder"),
        ("N,1,2,3,2,1,5,3,5,x,../M1_pano_0", "no picture: ../M1_pano_0 is no path below the input folder"),
    ],
)
def test_a_row_that_is_none_has_its_line(line: str, reason: str, case: Case, tmp_path: Path, capsys: Capture) -> None:
    for folder in ("a", "b"):
        case.write(f"{folder}/M1/twice.png", noise())
    file = tmp_path / "r.csv"
    file.write_text(f"{','.join(TABLE)}\n{line}\n")
    assert case.import_(file) == 1
    assert f"{file}, line 2: {reason}" in capsys.readouterr().err
    assert case.counts() == {}


def test_a_line_that_is_no_json_has_its_number(case: Case, tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "r.jsonl"
    entry = {**row("M1_pano_0", 1, 2, 30, 40), "colour": "red"}
    file.write_text(f"{json.dumps(entry)}\n{'[' * 100_000}\n{{\n[1]\n{json.dumps(entry | {'score': 1})}\n")
    assert case.import_(file, "--dry-run") == 1
    told = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in told[1:]] == [f"{file}, line {n}" for n in (2, 3, 4)]
    assert told[0] == "not used: colour"
    assert case.import_(file, "--allow-errors", "3") == 0
    assert case.counts() == {"accepted": 1}


def test_what_is_wrong_with_the_arguments(case: Case, tmp_path: Path, capsys: Capture) -> None:
    file = write(tmp_path / "r.csv", [row("M1_pano_0", 1, 2, 30, 40)])
    for arguments, message in (
        ([], "name files with regions, or a table"),
        ([file, "--types", "P=persn"], "did you mean person?"),
        ([file, "--names", "{mision}"], "it is made of {mission}"),
        ([tmp_path / "absent.csv"], "absent.csv cannot be read"),
        (["--table", "a;drop table b"], "is no name of a table"),
    ):
        assert case.import_(*arguments) == 2
        assert message in capsys.readouterr().err
    for few in ({"frame": "8000"}, {"batch": ""}):
        with pytest.raises(SystemExit) as stopped:
            case.import_(file, **few)
        assert stopped.value.code == 2


def test_export_and_import_give_the_same_boxes(case: Case, tmp_path: Path, capsys: Capture) -> None:
    case.run()
    rows = [row("M1_pano_0", 5, 6, 50, 60), row("M1_pano_1", 7, 8, 30, 40, kind="G")]
    assert case.import_(write(tmp_path / "r.csv", rows)) == 0
    exported = tmp_path / "out.csv"
    assert (
        regions.main(["export", "--from-corrections", "-o", str(exported), "--frame", "8000x6000", *case.named()]) == 0
    )
    assert "2 regions of 2 pictures" in capsys.readouterr().out
    with exported.open(encoding="utf-8") as opened:
        assert next(csv.reader(opened)) == TABLE
    assert case.import_(exported, batch="again", frame="8000x6000") == 0
    assert len(case.shapes()) == 2


def test_export_of_what_the_model_found(case: Case, tmp_path: Path, capsys: Capture) -> None:
    case.write("2020/M1/car.png", street(cars=[Box(40, 40, 90, 80)]))
    case.run("archive_instances=False", "remote_instances=True")
    exported = tmp_path / "out.csv"
    few = ["export", "--instances", str(case.output), "-o", str(exported), "--frame", "320x240"]
    assert regions.main(few) == 0
    assert "left out, as no type stands for it (--types X=car): 1 car" in capsys.readouterr().out
    assert regions.main([*few, "--types", "V=car"]) == 0
    with exported.open(encoding="utf-8") as opened:
        (found,) = csv.DictReader(opened)
    assert (found["left_top_x"], found["right_bottom_y"], found["pano_id"]) == ("80", "160", "M1_car")
    assert found["detected_by"].startswith("anonymise ")


def test_export_and_import_hide_the_same_pixels(case: Case, tmp_path: Path) -> None:
    """What crosses the seam, what goes all around, and what is at both edges of a picture that is planar."""
    around = [
        Instance(2, 1.0, box, full_mask(box))
        for box in (Box(190, 10, 212, 30), Box(0, 90, 200, 100), Box(20, 50, 160, 60))
    ]
    edges = [Instance(2, 1.0, box, full_mask(box)) for box in (Box(150, 10, 200, 40), Box(0, 10, 30, 40))]
    for name, objects in (("around", split_at_seam(around, 200)), ("planar", edges)):
        found = Detections(Size(200, 100), tuple(objects))
        rows = list(exported([(f"{name}.png", found)], {LABELS[2]: "N"}, Size(333, 111), "me"))
        data = case.write(f"{name}.png", noise((200, 100)))
        write_table(tmp_path / "o.csv", [entry for entry in rows if not isinstance(entry, str)])
        kind = "equirectangular" if name == "around" else "planar"
        assert case.import_(tmp_path / "o.csv", "--set", f"projection={kind}", batch=name, frame="333x111") == 0
        case.run(f"projection={kind}", only=frozenset({data.name}))
        hidden = (read_image(case.output / data.name) != read_image(data)).any(axis=2)
        wanted = found.union()
        assert hidden[wanted].all()
        near = cv2.dilate(wanted.astype(np.uint8), np.ones((3, 3)))
        assert not hidden[:, 3:-3][near[:, 3:-3] == 0].any()


@pytest.mark.slow
def test_a_killed_import_leaves_nothing_or_all(case: Case, tmp_path: Path) -> None:
    """Acceptance 7."""
    n_rows = 3000
    file = write(
        tmp_path / "r.csv", [row(f"M1_pano_{n % 4}", n % 100, n // 100, n % 100 + 20, 90) for n in range(n_rows)]
    )
    command = [sys.executable, "-m", "anonymise", "regions", "import", str(file), "-i", str(case.input), "--batch", "b"]
    command += ["--frame", "160x120", *case.named()]
    journal = case.store_folder / "corrections.sqlite-journal"
    killed = 0
    for delay in range(12):
        process = subprocess.Popen(command, env={**os.environ, "PYTHONUNBUFFERED": "1"}, stdout=subprocess.DEVNULL)
        while process.poll() is None and not (journal.exists() and journal.stat().st_size):
            pass
        for _ in range(delay * 30_000):  # further and further into the transaction
            pass
        process.kill()
        killed += process.wait() != 0
        assert sum(case.counts().values()) in (0, n_rows)
        if case.counts():
            break
    assert killed > 0
