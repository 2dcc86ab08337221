"""Every kind of file in every place that the keys name, written by every job, into folders that nobody has prepared."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from anonymise import config
from anonymise.batch import runs as pipeline
from anonymise.batch.outcomes import Report
from anonymise.batch.paths import Places
from anonymise.batch.workers import SerialWorkers
from anonymise.config import Config
from tests.fakes import RedMasker, street, write_image

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]

ENDINGS = {"json": ".json", "preview": "_preview.jpg", "mask": "_mask.png", "instances": "_instances.json"}
FOLDERS = {"local": "in", "remote": "out", "archive": "raw"}
NOTHING = ["remote_json=False"]
IMAGES = {"out/a/1.jpg", "raw/a/1.jpg"}

_CASES = {
    f"{place}_{kind}": ([f"{place}_{kind}=True"], kind, f"{folder}/a/1{ending}")
    for place, folder in FOLDERS.items()
    for kind, ending in ENDINGS.items()
}
_NEEDS_REMOTE = {"archive_json", "archive_preview", "archive_mask"}


def files(folder: Path) -> set[str]:
    found = (p for p in folder.rglob("*") if p.is_file() and ".anonymise" not in p.parts)
    return {p.relative_to(folder).as_posix() for p in found}


def settings(folder: Path, keys: list[str]) -> tuple[Config, Places]:
    few = ["enable_async=False", "file_access_timeout_seconds=0", "preview_dim=[40, 30]"]
    loaded = config.load(overrides=[*few, *NOTHING, *keys], has_archive=True)
    return loaded, Places.of(folder / "in", folder / "out", folder / "raw", loaded.files)


def main_job(folder: Path, keys: list[str]) -> Report:
    return pipeline.anonymise(*settings(folder, keys), RedMasker(), SerialWorkers())


def create_json(folder: Path, keys: list[str]) -> Report:
    return pipeline.make_records(*settings(folder, keys), SerialWorkers())


def create_preview(folder: Path, keys: list[str]) -> Report:
    return pipeline.make_previews(*settings(folder, keys), SerialWorkers())


def redraw(folder: Path, keys: list[str]) -> Report:
    return pipeline.redraw(*settings(folder, keys), SerialWorkers())


JOBS: dict[Callable[[Path, list[str]], Report], tuple[set[str], set[str]]] = {
    main_job: ({"json", "preview", "mask", "instances", "colmap"}, IMAGES),
    redraw: ({"json", "preview", "mask", "instances", "colmap"}, IMAGES),
    create_json: ({"json"}, set()),
    create_preview: ({"preview"}, set()),
}
"""Job → the kinds of files that it writes as the keys say, and what it always writes."""


def places_of_keys(tmp_path: Path) -> dict[str, tuple[list[str], str, str]]:
    """Key → (what to set, kind, the file that must then be there)."""
    others = {
        "separate_preview_directory": ("preview", "previews/a/1_preview.jpg"),
        "colmap_mask_directory": ("colmap", "colmap/a/1.jpg.png"),
    }
    added = {
        key: ([f"{key}={(tmp_path / Path(name).parts[0]).as_posix()}"], kind, name)
        for key, (kind, name) in others.items()
    }
    return _CASES | added


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("key", [*_CASES, "separate_preview_directory", "colmap_mask_directory"])
def test_every_kind_of_file_in_every_place_by_every_job(
    tmp_path: Path, key: str, job: Callable[[Path, list[str]], Report]
) -> None:
    write_image(tmp_path / "in" / "a" / "1.jpg", street())
    keys, kind, name = places_of_keys(tmp_path)[key]
    before = {"in/a/1.jpg"}
    if job is create_preview:  # which needs the anonymised image
        (tmp_path / "out" / "a").mkdir(parents=True)
        shutil.copy(tmp_path / "in" / "a" / "1.jpg", tmp_path / "out" / "a" / "1.jpg")
        before |= {"out/a/1.jpg"}
    if job is redraw:  # which needs the archive of an earlier run
        assert main_job(tmp_path, ["archive_instances=True"]).failed == ()
        (tmp_path / "in").rename(tmp_path / "first")
        (tmp_path / "raw").rename(tmp_path / "in")
        for folder in ("first", "out"):
            shutil.rmtree(tmp_path / folder)
        before = {"in/a/1.jpg", "in/a/1_instances.json"}
    assert files(tmp_path) == before
    kinds, always = JOBS[job]
    expected = before | always
    if kind in kinds:
        expected |= {name}
        if key in _NEEDS_REMOTE:
            expected |= {name.replace("raw/", "out/")}
    if key in _NEEDS_REMOTE:
        keys = [*keys, f"remote_{kind}=True"]

    report = job(tmp_path, keys)
    assert (report.failed, report.stopped, report.n_done) == ((), None, 1)
    assert files(tmp_path) == expected
    assert job(tmp_path, keys).failed == ()  # also where all that is there already
    assert files(tmp_path) == expected


@pytest.mark.parametrize("module", ["anonymise", "script.create_json", "script.create_preview", "script.redraw"])
def test_the_local_keys_on_the_command_line(tmp_path: Path, module: str) -> None:
    write_image(tmp_path / "in" / "a" / "1.jpg", street())
    keys = ["local_json=True", "local_preview=True", "local_mask=True", "local_instances=True"]
    lite = ["-k", str(ROOT / "config" / "lite_config.yml")]

    def run(name: str, *arguments: object, keys: list[str]) -> None:
        call = [sys.executable, "-m", name, *map(str, arguments), *lite]
        call += [option for key in keys for option in ("--set", key)]
        done = subprocess.run(call, cwd=ROOT, capture_output=True, encoding="utf-8", check=False, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr

    source = "in"
    if module in {"script.create_preview", "script.redraw"}:
        folders = ["-i", tmp_path / "in", "-o", tmp_path / "out", "-a", tmp_path / "raw", "--create-archive"]
        run("anonymise", *folders, keys=["archive_instances=True"])
    if module == "script.redraw":
        source = "raw"
    run(module, "-i", tmp_path / source, "-o", tmp_path / "out", keys=keys)
    expected = {
        "anonymise": set(ENDINGS.values()),
        "script.redraw": set(ENDINGS.values()),
        "script.create_json": {".json"},
        "script.create_preview": {"_preview.jpg"},
    }[module]
    assert files(tmp_path / source) == {"a/1.jpg", *(f"a/1{ending}" for ending in expected)}


def test_an_image_whose_other_files_cannot_be_written_is_not_published(tmp_path: Path) -> None:
    write_image(tmp_path / "in" / "a" / "1.jpg", street())
    (tmp_path / "in" / "a" / "1_preview.jpg").mkdir()  # in the way of the preview
    report = main_job(tmp_path, ["local_preview=True"])
    assert len(report.failed) == 1
    assert files(tmp_path / "out") == set()
