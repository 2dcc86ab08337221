"""The command line as an operator uses it: real processes, the real embedded model, drawn pictures."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anonymise.commands.cli import COMMANDS
from anonymise.core.detections import Size
from samples.scene import CAR, Scene, draw_scene
from tests.fakes import read_image, street, write_image

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
LITE = ["-k", str(ROOT / "config" / "lite_config.yml")]


def command(*arguments: object, module: str = "anonymise", cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    call = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(call, cwd=cwd, capture_output=True, encoding="utf-8", check=False, timeout=300)


def below(folder: Path) -> list[str]:
    """All files below a folder but the journal."""
    files = (p for p in folder.rglob("*") if p.is_file() and ".anonymise" not in p.parts)
    return sorted(p.relative_to(folder).as_posix() for p in files)


def scene(seed: int) -> Scene:
    return draw_scene(seed, Size(1280, 720), cars=2, people=1)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, "subprocess.CompletedProcess[str]"]:
    """A folder after a run over drawn scenes and one broken file, and what the run printed."""
    folder = tmp_path_factory.mktemp("run with spaces æøå")
    for seed in range(2):
        write_image(folder / "in" / "a" / f"{seed}.jpg", scene(seed).image)
    write_image(folder / "in" / "a" / "small.png", street())
    (folder / "in" / "broken.jpg").write_bytes(b"")
    result = command(
        "-i", folder / "in", "-o", folder / "out", "-a", folder / "archive", "--create-archive",
        "-l", folder / "logs", *LITE,
        "--set", "remote_preview=True", "--set", "preview_dim=[400, 300]", "--set", "remote_mask=True",
    )  # fmt: skip
    return folder, result


def test_a_run_ends_with_a_summary_and_names_what_failed(
    done: tuple[Path, "subprocess.CompletedProcess[str]"],
) -> None:
    folder, result = done
    assert result.returncode == 1, result.stderr
    lines = result.stdout.splitlines()
    assert lines[:5] == [
        "Folders with images: 2",
        "Identified images:   4",
        "Skipped (finished):  0",
        "Failed:              1",
        "Done:                3",
    ]
    assert "car" in lines[5]
    assert lines[-1] == f"FAILED {folder / 'in' / 'broken.jpg'} (read): the file is empty"
    assert "Traceback" not in result.stderr


def test_a_run_writes_what_the_configuration_says(done: tuple[Path, "subprocess.CompletedProcess[str]"]) -> None:
    folder, _ = done
    written = below(folder / "out")
    per_image = ["{}.jpg", "{}.json", "{}_mask.png", "{}_preview.jpg"]
    assert written == sorted(
        [f"a/{name}".format(n) for n in "01" for name in per_image]
        + ["a/small.png", "a/small.json", "a/small_mask.png", "a/small_preview.jpg"]
    )
    assert (folder / "archive" / "a" / "0.jpg").read_bytes() == (folder / "in" / "a" / "0.jpg").read_bytes()
    assert read_image(folder / "out" / "a" / "0_preview.jpg").shape == (300, 400, 3)


def test_the_log_has_the_configuration_and_a_line_for_every_image(
    done: tuple[Path, "subprocess.CompletedProcess[str]"],
) -> None:
    folder, result = done
    (log,) = (folder / "logs").iterdir()
    text = log.read_text("utf-8")
    assert "model_type: [Nano, Lite]" in text
    for name in ("0.jpg", "1.jpg", "small.png"):
        assert f"INFO anonymise.commands.progress: {folder / 'in' / 'a' / name}: " in text
    assert f"ERROR anonymise.commands.progress: {folder / 'in' / 'broken.jpg'} (read): the file is empty" in text
    assert "Failed:              1" in text
    assert "\r" not in result.stderr  # plain lines in a pipe, no bar


def test_the_embedded_model_finds_the_drawn_cars_and_they_are_hidden(
    done: tuple[Path, "subprocess.CompletedProcess[str]"],
) -> None:
    folder, _ = done
    for seed in range(2):
        mask = read_image(folder / "out" / "a" / f"{seed}_mask.png")[..., 0] == 0
        cars = [drawn.box for drawn in scene(seed).objects if drawn.label == CAR]
        assert cars
        for box in cars:
            assert mask[box.slices].mean() > 0.9
        record = json.loads((folder / "out" / "a" / f"{seed}.json").read_text("utf-8"))
        assert int(record["detekterte_objekter"]["car"]) >= 1


def test_a_second_run_has_nothing_left_to_do(done: tuple[Path, "subprocess.CompletedProcess[str]"]) -> None:
    folder, _ = done
    before = {name: (folder / "out" / name).stat().st_mtime_ns for name in below(folder / "out")}
    keys = ["--set", "remote_preview=True", "--set", "preview_dim=[400, 300]", "--set", "remote_mask=True"]
    keys += ["--set", "lazy_paths=True"]
    result = command(
        "-i", folder / "in", "-o", folder / "out", "-a", folder / "archive", "--create-archive", *LITE, *keys
    )
    assert "Skipped (finished):  3" in result.stdout
    assert {name: (folder / "out" / name).stat().st_mtime_ns for name in below(folder / "out")} == before


def check(*arguments: object) -> tuple[int, dict[str, Any]]:
    result = command(*arguments, "--json", module="script.check_folders")
    assert "Traceback" not in result.stderr
    return result.returncode, json.loads(result.stdout)


def test_check_folders_counts_and_names_what_is_missing(
    done: tuple[Path, "subprocess.CompletedProcess[str]"], tmp_path: Path
) -> None:
    shutil.copytree(done[0], tmp_path, dirs_exist_ok=True)
    keys = ["--set", "remote_preview=True", "--set", "preview_dim=[400, 300]", "--set", "remote_mask=True"]
    options = ["-i", tmp_path / "in", "-o", tmp_path / "out", *LITE, *keys]
    (tmp_path / "in" / "broken.jpg").unlink()
    code, found = check(*options)
    assert (code, found["images"]) == (1, 3)  # the journal still knows of a failure
    assert [(Path(f["path"]).name, f["reason"]) for f in found["failed"]] == [("broken.jpg", "read: the file is empty")]
    assert found["files"]["image (remote)"] == {"OK": 3, "Missing": 0, "None": 0}
    assert found["files"]["json (local)"] == {"OK": 0, "Missing": 0, "None": 3}
    assert not found["missing"]
    assert not found["stale"]

    (tmp_path / "out" / "a" / "0_mask.png").unlink()
    os.utime(tmp_path / "in" / "a" / "1.jpg", (0, 0))
    whole = tmp_path / "out" / "a" / "1.jpg"
    whole.write_bytes(whole.read_bytes()[:-2000])
    code, found = check(*options, "--verify")
    assert code == 1
    assert [Path(f["path"]).name for f in found["missing"]] == ["0_mask.png"]
    assert [(Path(f["path"]).name, f["reason"]) for f in found["stale"]] == [
        ("1.jpg", "finished, but the input has changed since")
    ]
    assert [Path(f["path"]) for f in found["damaged"]] == [whole]

    assert (
        check(*options, "--set", "blur=50")[1]["stale"][0]["reason"] == "finished with another configuration or model"
    )
    listed = command(*options, "--csv", module="script.check_folders").stdout.splitlines()
    assert listed[0] == "what,path,reason"
    assert f"Missing,{tmp_path / 'out' / 'a' / '0_mask.png'},missing" in listed
    every_kind = command(*options, "--ignore-config", module="script.check_folders")
    assert f"Missing: {tmp_path / 'in' / 'a' / '0.json'}" in every_kind.stdout


@pytest.mark.parametrize("entry", [["-p"], "script.create_preview"])
def test_previews_only(done: tuple[Path, "subprocess.CompletedProcess[str]"], tmp_path: Path, entry: object) -> None:
    folder, _ = done
    keys = ["--set", f"separate_preview_directory={tmp_path.as_posix()}", "--set", "preview_dim=[100, 50]"]
    options = ["-i", folder / "in" / "a", "-o", folder / "out" / "a", *keys]
    result = command(*options, *entry) if isinstance(entry, list) else command(*options, module=str(entry))
    assert result.returncode == 0, result.stderr
    assert read_image(tmp_path / "1_preview.jpg").shape == (50, 100, 3)
    assert below(tmp_path) == ["0_preview.jpg", "1_preview.jpg", "small_preview.jpg"]


def test_records_only(tmp_path: Path) -> None:
    write_image(tmp_path / "in" / "FV00013_S1D1_m00014_f1.jpg", street())
    result = command("-i", tmp_path / "in", "-o", tmp_path / "out", module="script.create_json")
    assert result.returncode == 0, result.stderr
    assert command(tmp_path / "out", module="script.validate_json").returncode == 0
    assert below(tmp_path / "out") == ["FV00013_S1D1_m00014_f1.json"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-i", "nowhere", "-o", "out"], "does not exist"),
        (["-i", ".", "-o", "out"], "inside the other"),
        (["-i", "in", "-o", "out", "--set", "blurr=1"], "did you mean blur?"),
        (["-i", "in", "-o", "out", "-k", "gone.yml"], "gone.yml: cannot be read"),
        (["-i", "in"], "required: -o"),
    ],
)
def test_usage_errors_exit_with_2_and_one_message(tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "in").mkdir()
    result = command(*arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        ("new", "does not exist. If its disk or share is mounted and the archive is to be new"),
        ("mount point", "holds no archive yet"),
        ("gone/new", "does not exist. Is its disk or share mounted?"),
    ],
)
def test_an_archive_that_is_none_yet_is_refused_without_create_archive(
    tmp_path: Path, archive: str, message: str
) -> None:
    write_image(tmp_path / "in" / "1.jpg", street())
    (tmp_path / "mount point").mkdir()  # of a share that is not mounted
    before = sorted(tmp_path.rglob("*"))
    result = command("-i", tmp_path / "in", "-o", tmp_path / "out", "-a", tmp_path / archive, *LITE)
    assert result.returncode == 2, result.stderr
    assert message in result.stderr
    assert str(tmp_path / archive) in result.stderr
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("model", "hint"), [("/no/such/model", "nor the folder of a SavedModel"), ("nanoo", "did you mean Nano?")]
)
def test_a_model_that_does_not_exist_exits_with_2_and_the_way_on(tmp_path: Path, model: str, hint: str) -> None:
    write_image(tmp_path / "in" / "1.jpg", street())
    result = command("-i", tmp_path / "in", "-o", tmp_path / "out", "--set", f"model_type={model}")
    assert result.returncode == 2
    assert "neither a model of the catalog" in result.stderr
    assert hint in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "statement",
    [
        "import anonymise",
        "import anonymise.commands.cli",
        "run('--help')",
        *(f"run('{name}', '--help')" for name in COMMANDS),
    ],
)
def test_nothing_heavy_is_loaded_before_there_is_work(statement: str) -> None:
    heavy = ["tensorflow", "cv2", "numpy", "lxml", "shapely", "pydantic", "yaml", "tqdm", "pooch", "PIL", "jpeglib"]
    heavy += ["jsonschema", "matplotlib", "jinja2", "pycocotools", "openvino", "psycopg", "oracledb", "cryptography"]
    code = (
        "import sys\n"
        "def run(*arguments):\n    from anonymise.commands.cli import main\n"
        "    try:\n        main(arguments)\n    except SystemExit:\n        pass\n"
        f"{statement}\nprint('loaded', [m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded []"


def test_the_commands_are_those_of_the_checkout() -> None:
    scripts = {file.stem for file in (ROOT / "script").glob("[a-z]*.py")}
    assert {name.replace("-", "_") for name in COMMANDS} == scripts
    listed = command("--help").stdout
    assert all(re.search(rf"^  {name} +{re.escape(does)}$", listed, re.MULTILINE) for name, does in COMMANDS.items())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_text_with_an_example_however_it_is_called(name: str) -> None:
    script = name.replace("-", "_")
    texts = [command("--help", module=f"script.{script}"), command(name, "--help"), command(script, "--help")]
    for result in texts:
        assert result.returncode == 0, result.stderr
        assert result.stdout == texts[0].stdout
        assert f"  python -m script.{script}" in result.stdout


def test_a_command_that_does_not_exist_is_a_usage_error() -> None:
    result = command("check_folder", "-i", "in")
    assert result.returncode == 2
    assert result.stderr == (
        "anonymise: there is no command check_folder; did you mean check-folders? (anonymise --help lists them all)\n"
    )


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such signal there")
def test_ctrl_c_keeps_what_is_finished_and_exits_with_130(tmp_path: Path) -> None:
    import signal

    for n in range(400):
        write_image(tmp_path / "in" / f"{n:03}.jpg", street((64, 48), cars=[], seed=n))
    call = [sys.executable, "-m", "anonymise", "-i", tmp_path / "in", "-o", tmp_path / "out", *LITE]
    process = subprocess.Popen(
        list(map(str, call)),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not (tmp_path / "out" / "001.jpg").exists() and process.poll() is None:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Interrupted" in output
    images = {p.stem for p in (tmp_path / "out").glob("*.jpg")}
    assert images == {p.stem for p in (tmp_path / "out").glob("*.json")}
    assert 0 < len(images) < 400
    assert not list((tmp_path / "out").glob("*.part"))


def test_a_second_run_on_the_same_output_is_refused_with_the_first_ones_process(tmp_path: Path) -> None:
    for n in range(200):
        write_image(tmp_path / "in" / f"{n:03}.jpg", street((64, 48), cars=[], seed=n))
    options = ["-i", tmp_path / "in", "-o", tmp_path / "out", *LITE]
    call = [sys.executable, "-m", "anonymise", *map(str, options)]
    first = subprocess.Popen(call, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert first.stderr is not None
    for line in first.stderr:
        if "images to look at" in line:
            break
    second = command(*options)
    first.communicate(timeout=120)
    assert second.returncode == 2
    assert str(first.pid) in second.stderr
    assert first.returncode == 0
    assert len(below(tmp_path / "out")) == 400


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device here")
def test_a_log_that_cannot_be_written_does_not_stop_the_run(tmp_path: Path) -> None:
    write_image(tmp_path / "in" / "1.jpg", street())
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "full").symlink_to("/dev/full")
    options = ["-i", tmp_path / "in", "-o", tmp_path / "out", "-l", tmp_path / "logs", "--set", "log_file_name=full"]
    result = command(*options, *LITE)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("cannot be written") == 1
    assert "Traceback" not in result.stderr
    assert below(tmp_path / "out") == ["1.jpg", "1.json"]


def test_relative_paths_of_a_configuration_begin_at_its_folder(tmp_path: Path) -> None:
    write_image(tmp_path / "in" / "a.jpg", street())
    write_image(tmp_path / "own" / "roof.png", np.full((120, 160), 255, np.uint8))
    (tmp_path / "elsewhere").mkdir()
    text = "separate_preview_directory: previews\npreview_dim: [40, 30]\nstatic_mask: roof.png\n"
    (tmp_path / "own" / "mine.yml").write_text(text, encoding="utf-8")
    keys = ["-k", str(tmp_path / "own" / "mine.yml")]
    result = command("-i", "../in", "-o", "../out", *LITE, *keys, cwd=tmp_path / "elsewhere")
    assert result.returncode == 0, result.stderr
    assert below(tmp_path / "own") == ["mine.yml", "previews/a_preview.jpg", "roof.png"]
    assert below(tmp_path / "elsewhere") == []
