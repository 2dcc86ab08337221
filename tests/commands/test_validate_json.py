import json
import os
from pathlib import Path

import pytest

from anonymise.commands.validate_json import main
from anonymise.core.detections import Size
from anonymise.images import embedded
from anonymise.metadata import ImageSource, read_metadata
from anonymise.metadata.record import Record, build_record, dumps
from anonymise.metadata.record.schema import problems_of
from tests.roadimages import options, road_jpeg


@pytest.fixture
def record() -> Record:
    source = ImageSource(("tilSladding", "2020"), "FV00013_S1D1_m00014_f1.jpg", Size(64, 48))
    metadata = read_metadata(embedded(road_jpeg()), source)
    return build_record(metadata, detections={"car": 2}, preview_name=None, version=None, options=options())


def test_valid_records(record: Record, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "Damåsen").mkdir()
    (tmp_path / "Damåsen" / "a.json").write_text(dumps(record), encoding="utf-8")
    (tmp_path / "picture.jpg").write_bytes(b"")
    assert main([str(tmp_path)]) == 0
    output = capsys.readouterr()
    assert output.out == ""
    assert "1 record, 1 valid" in output.err


def test_each_problem_is_named_with_file_and_key(
    record: Record, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(dumps(record), encoding="utf-8")
    wrong = dict(record) | {"exif_heading": "281,71", "exif_meter": 14, "extra": None}
    del wrong["bildeid"]
    bad.write_text(json.dumps(wrong), encoding="utf-8")
    (tmp_path / "broken.json").write_text('{\n"exif_tid": }', encoding="utf-8")
    (tmp_path / "latin.json").write_bytes(b'"\xe5"')
    assert main([str(tmp_path)]) == 1
    output = capsys.readouterr()
    assert {line.split(": ", 1)[0] for line in output.out.splitlines()} == {
        str(tmp_path / name) for name in ("bad.json", "broken.json", "latin.json")
    }
    for key in (
        "exif_heading: has not the form",
        "exif_meter: is a number, not string",
        "extra: not a key",
        "bildeid: missing",
    ):
        assert f"{bad}: {key}" in output.out
    assert "broken.json: no JSON: Expecting value in line 2" in output.out
    assert "4 records, 1 valid, 3 with problems" in output.err


def test_a_single_record(record: Record, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(dumps(record), encoding="utf-8")
    assert main([str(file)]) == 0


def test_nothing_to_check_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert main([str(tmp_path / "missing")]) == 2
    assert "has no .json files" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        main([])
    assert stopped.value.code == 2


@pytest.mark.skipif(os.name == "nt", reason="Windows file names are always text")
def test_file_names_that_are_no_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        (tmp_path / os.fsdecode(b"\xff.json")).write_text("[]", encoding="utf-8")
    except OSError:
        pytest.skip("this file system takes text only")
    assert main([str(tmp_path)]) == 1
    assert "record: is an array, not object" in capsys.readouterr().out


@pytest.mark.parametrize("tag", ["Driver", "CarID", "Comment", "v:Driver", 'Driver xmlns="u"'])
def test_a_record_that_names_someone_is_invalid_and_not_quoted(record: Record, tag: str) -> None:
    end = tag.split()[0]
    record["exif_imageproperties"] = f"<a><{tag}>Kari</{end}></a>"
    (problem,) = problems_of(dumps(record))
    assert problem == "exif_imageproperties: names a driver or a car, or holds a comment"
    record["exif_imageproperties"] = f"<a><{tag}>FJERNET</{end}><Comment /><CarID/><Driver></Driver></a>"
    assert problems_of(dumps(record)) == ()


@pytest.mark.parametrize("text", ["3", "null", "[]", '"x"', "[" * 100_000])
def test_what_is_no_object(text: str) -> None:
    assert problems_of(text)


@pytest.mark.parametrize("text", ["1" * 5000, '{"exif_meter": ' + "9" * 5000 + "}", "[" * 100_000])
def test_json_that_python_refuses_is_a_problem_of_the_file(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    assert main([str(tmp_path)]) == 1
    assert "a.json" in capsys.readouterr().out
