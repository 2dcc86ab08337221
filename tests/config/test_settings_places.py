"""Where the operator's settings are looked for: ``config`` here, the user's configuration folder, what comes along."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.fakes import street, write_image

ROOT = Path(__file__).parents[2]
TABLE = (ROOT / "config" / "db_tables" / "VEGBILDER.yml").read_text("utf-8")
ROW = ["--set", "write_exif_to_db=True", "--set", "data_eier=x", "--set"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="the user's folder comes from elsewhere there"),
]


class Desk:
    """An operator's current folder, ``here``, and configuration folder, ``own``; neither ``config`` exists yet."""

    def __init__(self, folder: Path) -> None:
        self.here, self.home = folder / "here æøå", folder / "home"
        self.here.mkdir()
        self.home.mkdir()
        hidden = ("HOME", "XDG_", "ANONYMISE_")
        self.environment: Mapping[str, str] = {k: v for k, v in os.environ.items() if not k.startswith(hidden)} | {
            "HOME": str(self.home),
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")]),
        }
        folders = {"linux": ".config/anonymise", "darwin": "Library/Application Support/anonymise"}
        self.own = self.home / folders.get(sys.platform, ".config/anonymise")

    def run(self, *arguments: object) -> "subprocess.CompletedProcess[str]":
        call = [sys.executable, "-m", "anonymise", *map(str, arguments)]
        return subprocess.run(
            call, cwd=self.here, env=self.environment, capture_output=True, encoding="utf-8", check=False, timeout=300
        )

    def anonymise(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        write_image(self.here / "in" / "1.jpg", street())
        return self.run("-i", "in", "-o", "out", "-k", "lite_config.yml", *arguments)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def write(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, "utf-8")
    return file


def test_a_configuration_is_found_by_its_name_in_the_nearest_folder(desk: Desk) -> None:
    # Each place names another key, so that the message tells which file was read.
    places = [desk.here / "mine.yml", desk.here / "config" / "mine.yml", desk.own / "mine.yml"]
    for number, place in enumerate(places):
        write(place, f"blurr{number}: 1\n")
    for number, place in enumerate(places):
        result = desk.run("-i", "in", "-o", "out", "-k", "mine.yml")
        assert result.returncode == 2
        assert f"unknown key blurr{number}" in result.stderr, result.stderr
        place.unlink()
    result = desk.run("-i", "in", "-o", "out", "-k", "mine.yml")
    assert all(str(place.parent) in result.stderr for place in places[1:]), result.stderr
    assert "lite_config.yml" in result.stderr
    write(desk.own / "mine.yml", "blurr: 1\n")
    assert "mine.yml: cannot be read" in desk.run("-i", "in", "-o", "out", "-k", "config/mine.yml").stderr


def test_the_defaults_are_those_of_the_program_whatever_lies_around(desk: Desk) -> None:
    write(desk.here / "config" / "default_config.yml", "blurr: 1\n")
    result = desk.anonymise()
    assert result.returncode == 0, result.stderr


def test_tables_and_database_are_found_in_the_nearest_folder(desk: Desk) -> None:
    for folder, name in ((desk.own, "own"), (desk.here / "config", "here")):
        write(folder / "db_tables" / "MINE.yml", TABLE)
        write(folder / "db_config.yml", f"backend: geopackage\nfile: {name}.gpkg\n")
        result = desk.run("create-table", "MINE")
        assert result.returncode == 0, result.stderr
        assert (folder / f"{name}.gpkg").is_file()
    result = desk.anonymise(*ROW, "table_name=MINE")
    assert result.returncode in (0, 1), result.stderr  # a drawn picture may lack what the table insists on
    assert "table_name" not in result.stderr
    assert not (desk.here / "out" / "MINE.gpkg").exists()  # what a run makes where there is no db_config.yml
    assert "VEGBILDER" in desk.run("create-table", "VEGBILDER", "--dry-run").stdout  # it comes with the program


@pytest.mark.parametrize(
    ("arguments", "file"),
    [
        (["create-table", "VEGBILDER"], "db_config.yml"),
        (["create-table", "VEGBILDE", "--dry-run"], "VEGBILDE.yml"),
        (["-i", "in", "-o", "out", "--set", "finished_email=True"], "email_config.yml"),
        (["-i", "in", "-o", "out", "--set", "table_name=VEGBILDE"], "VEGBILDE.yml"),
    ],
)
def test_messages_say_where_was_looked(desk: Desk, arguments: list[str], file: str) -> None:
    result = desk.run(*arguments)
    assert result.returncode == 2
    (line,) = [line for line in result.stderr.splitlines() if f"there is no {file}" in line]
    places = [str(desk.here / "config"), str(desk.own), str(ROOT / "config")]
    assert [line.index(place) for place in places] == sorted(line.index(place) for place in places)
    assert "Traceback" not in result.stderr


def test_what_is_in_the_nearest_folder_is_not_passed_over_because_it_cannot_be_read(desk: Desk) -> None:
    write(desk.own / "db_config.yml", "backend: geopackage\nfile: own.gpkg\n")
    nearest = desk.here / "config" / "db_config.yml"
    nearest.parent.mkdir()
    nearest.symlink_to("gone.yml")
    result = desk.run("create-table", "VEGBILDER")
    assert result.returncode == 2
    assert str(nearest) in result.stderr


CREATE = ["create-db-config", "geopackage", "--file", "rows.gpkg"]


@pytest.mark.parametrize("nearest", [False, True])
def test_settings_are_written_to_the_nearest_folder_of_the_operator(desk: Desk, nearest: bool) -> None:
    before = sorted((ROOT / "config").iterdir())
    file = desk.own / "db_config.yml"
    if nearest:
        file = desk.here / "config" / "db_config.yml"
        file.parent.mkdir()
    for arguments, is_there in ((["--dry-run"], False), ([], True)):
        result = desk.run(*CREATE, *arguments)
        assert result.returncode == 0, result.stderr
        assert str(file) in result.stdout
        assert file.exists() is is_there
    assert desk.run("create-table", "VEGBILDER").returncode == 0
    assert (desk.here / "rows.gpkg").is_file()
    refused = desk.run(*CREATE)
    assert refused.returncode == 2
    assert f"{file} is there already" in refused.stderr
    (desk.here / "config").mkdir(exist_ok=True)  # what is found is replaced, and not hidden behind another file
    assert str(file) in desk.run(*CREATE, "--force").stdout
    assert sorted((ROOT / "config").iterdir()) == before


def test_a_folder_that_cannot_be_made_is_passed_over(desk: Desk) -> None:
    write(desk.home / desk.own.relative_to(desk.home).parts[0], "a file in the way")
    result = desk.run(*CREATE, "--dry-run")
    assert result.stdout == f"would write {ROOT / 'config' / 'db_config.yml'}\n"
