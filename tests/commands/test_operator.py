"""What an operator sees of a run: what is said before it, during it and after it, and with which exit code."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import numpy as np
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from PIL import Image

from anonymise.batch.paths import Places
from anonymise.batch.preflight import JobKind, problems
from anonymise.commands import cli
from anonymise.config import load
from anonymise.core.resources import CONFIG_FOLDER
from tests.fakes import street, write_image
from tests.roadimages import road_jpeg

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such terminals and streams")


def command(
    *arguments: object, module: str = "anonymise", cwd: Path = ROOT, **environment: str
) -> "subprocess.CompletedProcess[str]":
    call = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(
        call,
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src") + os.pathsep + str(ROOT)} | environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=300,
    )


def run(
    folder: Path, *arguments: object, module: str = "anonymise", **environment: str
) -> "subprocess.CompletedProcess[str]":
    """A run from ``folder/in`` to ``folder/out`` with the small model."""
    lite = ["-k", "lite_config.yml"]
    return command(
        "-i", folder / "in", "-o", folder / "out", *lite, *arguments, module=module, cwd=folder, **environment
    )


def keys(*values: str) -> list[str]:
    return [part for value in values for part in ("--set", value)]


def images(folder: Path, n: int = 1) -> Path:
    for number in range(n):
        write_image(folder / "in" / f"{number}.jpg", street((64, 48), cars=[], seed=number))
    return folder


def assert_refused(result: "subprocess.CompletedProcess[str]", folder: Path, *reasons: str) -> None:
    """Refused as usage, with all reasons, without a traceback, and nothing was created."""
    assert result.returncode == 2, result.stderr
    for reason in reasons:
        assert reason in result.stderr
    assert "Traceback" not in result.stderr
    assert sorted(path.name for path in folder.iterdir() if path.name.startswith("out")) == []


# --- before the first image ---------------------------------------------------------------------------------------


def test_everything_that_can_be_known_is_named_at_once_and_nothing_is_created(tmp_path: Path) -> None:
    images(tmp_path)
    result = run(
        tmp_path,
        *keys("model_type=[Nanoo, Meduim]", "table_name=VEGBILDR", f"static_mask={tmp_path / 'roof.png'}"),
        *keys("finished_email=True", "write_exif_to_db=True", "blurr=3", "targets=[persons]"),
        "-a",
        tmp_path / "out_archive",
    )
    assert_refused(
        result,
        tmp_path,
        "'Nanoo'", "did you mean Nano?", "'Meduim'", "did you mean Medium?",
        "there is no", "did you mean VEGBILDER?",
        "roof.png cannot be read", "email_config.yml", "did you mean blur?", "did you mean person?",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("values", "reasons"),
    [
        (["table_name=VEGBILDER"], ["Dataeier", "set data_eier"]),
        (["table_name=VEGBILDER", "write_exif_to_db=True"], ["Dataeier", "set data_eier"]),
        (["table_name=VEGBILDER", f"data_eier={'x' * 65}"], ["Dataeier", "65 characters", "set data_eier"]),
        (["table_name=VEGBILDER", "data_eier=Vegvesenet", "table_primary_key=Nummer"], ["table_primary_key", "Nummer"]),
        (["table_name=../x", "data_eier=Vegvesenet"], ["table_name"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("module", ["anonymise", "script.create_json"])
def test_what_the_table_insists_on_and_only_the_configuration_gives(
    tmp_path: Path, module: str, values: list[str], reasons: list[str]
) -> None:
    images(tmp_path)
    if module == "script.create_json":
        values = [value for value in values if not value.startswith("write_exif")]
    assert_refused(run(tmp_path, *keys(*values), module=module), tmp_path, *reasons)


def test_the_database_example_of_the_readme_works_as_written(tmp_path: Path) -> None:
    text = " ".join((ROOT / "README.md").read_text("utf-8").split())
    values = re.findall(r"`(\w+: [^`]+)`", text[text.index("## The database") : text.index("## Configuration")])
    (tmp_path / "my.yml").write_text("\n".join(values), "utf-8")
    below = tmp_path / "in" / "tilSladding" / "2020" / "FV00013" / "S1" / "D1"
    below.mkdir(parents=True)
    (below / "FV00013_S1D1_m00014_f1.jpg").write_bytes(road_jpeg())
    result = run(tmp_path, "-k", "my.yml")
    assert result.returncode == 0, result.stderr
    assert "Database rows:       1 inserted" in result.stdout


def settings(folder: Path, **files: str) -> Path:
    """A folder with the settings that come along, and others."""
    (folder / "db_tables").mkdir(parents=True)
    table = CONFIG_FOLDER / "db_tables" / "VEGBILDER.yml"
    (folder / "db_tables" / "VEGBILDER.yml").write_text(table.read_text("utf-8"), "utf-8")
    for name, text in files.items():
        (folder / f"{name}.yml").write_text(text, "utf-8")
    return folder


@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [
        ("db_config", "backend: mysql\n", "should be geopackage, postgis or oracle"),
        ("db_config", "backend: oracle\nhost: h\nuser: u\nservice: s\n", "there is no password for u at h"),
        ("db_config", "backend: geopackage\nfile: gone.gpkg\n", "there is no GeoPackage"),
        ("db_config", "backend: postgis\nhost: [\n", "db_config.yml:3:1: not valid YAML"),
        ("email_config", "from: nobody\n", "'nobody' is no e-mail address"),
        ("email_config", "password: secret\n", "passwords do not stand in files"),
    ],
)
def test_settings_of_mail_and_database_are_read_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, text: str, reason: str
) -> None:
    images(tmp_path)
    values = ["data_eier=x", "table_name=VEGBILDER", "write_exif_to_db=True", "finished_email=True", "model_type=Nano"]
    settings(tmp_path / "config", **{file: text})
    monkeypatch.chdir(tmp_path)
    places = Places(tmp_path / "in", tmp_path / "out")
    found = problems(load(overrides=values), places, "anonymise", environment={})
    assert any(reason in problem for problem in found), found
    assert not any("secret" in problem.replace("secrets", "") for problem in found if file == "email_config")


@pytest.mark.parametrize("kind", ["anonymise", "records"])
def test_a_column_for_previews_needs_a_key_for_previews(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: JobKind
) -> None:
    images(tmp_path)
    folder = settings(tmp_path / "config")
    monkeypatch.chdir(tmp_path)
    table = folder / "db_tables" / "VEGBILDER.yml"
    text = table.read_text("utf-8")
    assert "exif_filnavn_preview\n    extra: null" in text
    table.write_text(text.replace("_preview\n    extra: null", "_preview\n    extra: NOT NULL"), "utf-8")
    places = Places(tmp_path / "in", tmp_path / "out")
    values = ["data_eier=x", "table_name=VEGBILDER"]
    (problem,) = problems(load(overrides=values), places, kind)
    assert "PreviewFilnavn must have a value" in problem
    assert "remote_preview" in problem
    assert problems(load(overrides=[*values, "remote_preview=True"]), places, kind) == []


@pytest.mark.parametrize("content", [None, b"", b"no picture", "folder", pytest.param("pipe", marks=posix_only)])
def test_a_static_mask_that_cannot_be_used_is_found_before_the_run(tmp_path: Path, content: bytes | str | None) -> None:
    images(tmp_path)
    if content == "folder":
        (tmp_path / "mask.png").mkdir()
    elif content == "pipe":
        os.mkfifo(tmp_path / "mask.png")
    elif isinstance(content, bytes):
        (tmp_path / "mask.png").write_bytes(content)
    mask = tmp_path / "mask.png"
    assert_refused(run(tmp_path, *keys(f"static_mask={mask}")), tmp_path, f"static_mask {mask} cannot be read")


@pytest.mark.parametrize("module", ["anonymise", "script.create_json"])
def test_a_position_sidecar_that_cannot_be_used_is_found_before_the_run(tmp_path: Path, module: str) -> None:
    images(tmp_path)
    file = tmp_path / "positions.csv"
    file.write_text("time,lat,lon\n2021-05-04T10:00:00Z,60,200\n")
    result = run(tmp_path, *keys(f"position_sidecar={file}", f"static_mask={tmp_path / 'roof.png'}"), module=module)
    assert result.returncode == 2
    assert f"position_sidecar {file} cannot be read: line 2" in result.stderr
    assert ("roof.png" in result.stderr) is (module == "anonymise")
    assert not (tmp_path / "out").exists()


def test_images_are_done_again_when_the_position_sidecar_says_something_else(tmp_path: Path) -> None:
    images(tmp_path)
    file = tmp_path / "positions.csv"
    for longitude in (10, 11):
        file.write_text(f"file_name,lat,lon\n0.jpg,60,{longitude}\n")
        result = run(tmp_path, *keys(f"position_sidecar={file}"))
        assert result.returncode == 0, result.stderr
        record = json.loads((tmp_path / "out" / "0.json").read_text("utf-8"))
        assert record["exif_gpsposisjon"] == f"srid=4326;POINT( {longitude}.0 60.0 )"


def test_a_static_mask_of_another_size_is_found_before_the_run(tmp_path: Path) -> None:
    images(tmp_path)
    write_image(tmp_path / "mask.png", street((32, 24), cars=[]))
    result = run(tmp_path, *keys(f"static_mask={tmp_path / 'mask.png'}"))
    assert_refused(result, tmp_path, "static_mask_resize")


def test_folders_that_make_no_sense_are_named_with_the_rest(tmp_path: Path) -> None:
    result = run(tmp_path, *keys("model_type=Nanoo"))
    assert_refused(result, tmp_path, "does not exist or is no folder", "did you mean Nano?")


@pytest.mark.parametrize("module", ["script.check_folders", "anonymise"])
def test_a_misspelt_model_is_a_matter_of_configuration_in_every_command(tmp_path: Path, module: str) -> None:
    images(tmp_path)
    assert_refused(run(tmp_path, *keys("model_type=Nanoo"), module=module), tmp_path, "did you mean Nano?")


def test_a_folder_without_a_model_is_found_before_the_run(tmp_path: Path) -> None:
    images(tmp_path)
    result = run(tmp_path, *keys(f"model_type={tmp_path / 'in'}"))
    assert_refused(result, tmp_path, "the folder holds no SavedModel")


def test_a_model_that_would_not_run_is_named(tmp_path: Path) -> None:
    result = run(images(tmp_path), *keys("model_type=[Nano, CenterFace]"))
    assert result.returncode == 0, result.stderr
    assert "CenterFace finds nothing of what is to be hidden" in result.stderr


def test_settings_without_effect_are_warnings_at_the_start(tmp_path: Path) -> None:
    result = run(images(tmp_path), *keys("mask_color=[1, 2, 3]"))
    assert result.returncode == 0, result.stderr
    assert "WARNING: --set mask_color=[1, 2, 3]: mask_color has no visible effect" in result.stderr


# --- nothing to do ------------------------------------------------------------------------------------------------

JOBS = [("anonymise", []), ("script.create_json", []), ("script.redraw", []), ("script.anonymise_old", []),
        ("script.create_preview", ["remote_preview=True"])]  # fmt: skip


@pytest.mark.parametrize(("module", "values"), JOBS, ids=[module for module, _ in JOBS])
def test_an_input_without_images_is_an_error(tmp_path: Path, module: str, values: list[str]) -> None:
    for name in ("a.HEIC", "b.heic", "c.tif", "readme"):
        (tmp_path / "in" / "deep").mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / "deep" / name).write_bytes(b"x")
    result = run(tmp_path, *keys(*values), module=module)
    assert_refused(result, tmp_path, "there is no image in", "2 .heic", "1 .tif", "1 without suffix", "--allow-empty")


@pytest.mark.parametrize(("module", "values"), JOBS, ids=[module for module, _ in JOBS])
def test_an_input_without_images_may_be_allowed(tmp_path: Path, module: str, values: list[str]) -> None:
    (tmp_path / "in").mkdir()
    result = run(tmp_path, *keys(*values), "--allow-empty", module=module)
    assert result.returncode == 0, result.stderr
    assert "Nothing was written: there is no image." in result.stdout
    assert "Found" not in result.stdout


@pytest.mark.parametrize("module", ["script.check_folders", "script.check_images"])
def test_checks_of_nothing_are_errors_too(tmp_path: Path, module: str) -> None:
    (tmp_path / "in").mkdir()
    folders = ["-i", tmp_path / "in", *(["-o", tmp_path / "out"] if module == "script.check_folders" else [])]
    result = command(*folders, "-k", "lite_config.yml", module=module)
    assert_refused(result, tmp_path, "there is no image in")
    assert command(*folders, "-k", "lite_config.yml", "--allow-empty", module=module).returncode == 0


@pytest.mark.parametrize("entry", [["-p"], []])
def test_previews_without_a_key_for_them_say_why_nothing_would_be_written(tmp_path: Path, entry: list[str]) -> None:
    images(tmp_path)
    module = "anonymise" if entry else "script.create_preview"
    assert_refused(run(tmp_path, *entry, module=module), tmp_path, "nothing would be written", "remote_preview=True")


def test_records_without_a_key_for_them_say_why_nothing_would_be_written(tmp_path: Path) -> None:
    images(tmp_path)
    result = run(tmp_path, *keys("remote_json=False"), module="script.create_json")
    assert_refused(result, tmp_path, "nothing would be written: none of remote_json")


def test_previews_and_redraws_of_what_was_never_anonymised_say_so(tmp_path: Path) -> None:
    images(tmp_path, 3)
    result = run(tmp_path, *keys("remote_preview=True"), module="script.create_preview")
    assert_refused(result, tmp_path, "there is no anonymised image in")
    assert_refused(run(tmp_path, module="script.redraw"), tmp_path, "there is no file *_instances.json")


def test_a_run_with_nothing_left_to_do_says_so_and_not_that_nothing_was_found(tmp_path: Path) -> None:
    images(tmp_path)
    assert "Found and hidden:    nothing" in run(tmp_path).stdout
    again = run(tmp_path, "-l", tmp_path / "logs")
    assert again.returncode == 0
    assert "Nothing was written: everything was finished before." in again.stdout
    assert "Found" not in again.stdout
    assert "nothing found" not in again.stderr


def test_jobs_that_do_not_look_do_not_say_what_was_found(tmp_path: Path) -> None:
    images(tmp_path)
    for module, values in (
        ("script.create_json", []),
        ("anonymise", []),
        ("script.create_preview", ["remote_preview=True"]),
    ):
        result = run(tmp_path, *keys(*values), "-l", tmp_path / "logs", module=module)
        assert result.returncode == 0, result.stderr
        assert ("Found" in result.stdout) == (module == "anonymise")
    logs = [log.read_text("utf-8") for log in (tmp_path / "logs").iterdir()]
    assert sum("nothing found" in log for log in logs) == 1


def test_with_draw_mask_off_nothing_is_said_to_be_hidden(tmp_path: Path) -> None:
    result = run(images(tmp_path), *keys("draw_mask=False"))
    assert "hidden:" not in result.stdout.replace("NOT hidden:", "")
    assert "Found, NOT hidden:" in result.stdout
    assert "NOT anonymised" in result.stderr


def test_the_summary_counts_what_was_left_out_by_suffix(tmp_path: Path) -> None:
    images(tmp_path)
    for name in ("a.heic", "b.HEIC", "c.tif", "Thumbs.db", ".DS_Store", "._0.jpg", "0.json", "0_instances.json"):
        (tmp_path / "in" / name).write_bytes(b"x")
    result, again = run(tmp_path), run(tmp_path)
    for output in (result.stdout, again.stdout):
        assert "Other files in the input folder, left out: 2 .heic, 1 .db, 1 .tif\n" in output


# --- during the run -----------------------------------------------------------------------------------------------


def on_a_terminal(call: Sequence[object], cwd: Path) -> tuple[int, str]:
    """Exit code and what a terminal of 100 columns shows."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "COLUMNS": "100"}
    process = subprocess.Popen(
        list(map(str, call)), cwd=cwd, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, close_fds=True
    )
    os.close(theirs)
    shown = bytearray()

    def read() -> None:
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # Linux says so when the other side is closed
                return
            if not data:
                return
            shown.extend(data)

    reader = threading.Thread(target=read)
    reader.start()
    code = process.wait(timeout=300)
    reader.join(timeout=60)
    os.close(ours)
    return code, shown.decode("utf-8", "replace")


@posix_only
def test_a_terminal_shows_the_bar_alone_and_what_went_wrong(tmp_path: Path) -> None:
    images(tmp_path, 4)
    (tmp_path / "in" / "broken.jpg").write_bytes(b"")
    call = [sys.executable, "-m", "anonymise", "-i", "in", "-o", "out", "-k", "lite_config.yml"]
    for expected in ("Done:                4", "Skipped (finished):  4"):
        code, shown = on_a_terminal(call, tmp_path)
        assert code == 1, shown
        assert expected in shown
        assert "5/5" in shown  # the bar
        bar, _, summary = shown.partition("Folders with images")
        assert summary
        assert bar.count("broken.jpg (read): the file is empty") == 1
        notes = [line for line in bar.split("\n") if re.search(r"\d\.jpg", line)]
        assert len(notes) <= 1  # that is true of all four images
        assert not notes or "NOTE (4 images): " in summary
        assert "skipped" not in bar
        assert "INFO" not in bar


def test_a_pipe_gets_a_line_every_so_often_with_the_time_left(tmp_path: Path) -> None:
    images(tmp_path, 6)
    result = run(tmp_path)
    lines = [line for line in result.stderr.splitlines() if re.search(r"image \d+ of 6, 0 failed", line)]
    assert 1 <= len(lines) < 6
    assert re.search(r"image 1 of 6, 0 failed, about \d+:\d\d:\d\d left$", lines[0])
    again = run(tmp_path)
    assert "skipped" not in again.stderr
    assert len([line for line in again.stderr.splitlines() if ".jpg" in line]) <= 1


def test_one_image_is_not_images(tmp_path: Path) -> None:
    result = run(images(tmp_path))
    assert "1 image to look at" in result.stderr


# --- streams ------------------------------------------------------------------------------------------------------


@posix_only
@pytest.mark.parametrize("redirection", ["2>&-", ">&-", ">&- 2>&- <&-", "2>&1 | head -n 1", "2>&1 | true"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_streams_that_are_closed_or_break_end_no_run(tmp_path: Path, redirection: str, unbuffered: str) -> None:
    images(tmp_path, 2)
    call = f"'{sys.executable}' -m anonymise -i in -o out -k lite_config.yml {redirection}; exit ${{PIPESTATUS[0]}}"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(
        ["bash", "-c", call], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
    assert sorted(path.name for path in (tmp_path / "out").glob("*.j*")) == ["0.jpg", "0.json", "1.jpg", "1.json"]
    for path in (tmp_path / "out").glob("*.json"):
        json.loads(path.read_text("utf-8"))  # nothing was written into a file that took the stream's number


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device here")
def test_a_full_disk_at_the_end_is_told_and_changes_no_exit_code_of_a_run(tmp_path: Path) -> None:
    images(tmp_path)
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src") + os.pathsep + str(ROOT)}
    folders = ["-i", "in", "-o", "out", "-k", "lite_config.yml"]
    with Path("/dev/full").open("w") as full:
        for module, code in (("anonymise", 0), ("script.check_folders", 3)):
            call = [sys.executable, "-m", module, *folders]
            done = subprocess.run(
                call, cwd=tmp_path, env=environment, stdout=full, stderr=subprocess.PIPE, text=True, check=False
            )
            assert done.returncode == code, done.stderr
            assert done.stderr.endswith("the standard output is not complete: No space left on device\n")
            assert "Traceback" not in done.stderr


def test_help_and_names_can_be_shown_where_only_ascii_can(tmp_path: Path) -> None:
    helped = command("--help", PYTHONIOENCODING="ascii")
    assert helped.returncode == 0, helped.stderr
    assert "usage: anonymise" in helped.stdout
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "Kåre.jpg").write_bytes(b"")
    result = run(tmp_path, PYTHONIOENCODING="ascii")
    assert result.returncode == 1
    assert "K\\xe5re.jpg" in result.stdout


# --- text from outside --------------------------------------------------------------------------------------------

EVIL = "a\nDone:                999\x1b[2J\u202egnp\u2028.jpg"


@posix_only
def test_names_forge_no_lines_and_no_terminal_commands(tmp_path: Path) -> None:
    images(tmp_path)
    (tmp_path / "in" / EVIL).write_bytes(b"")
    result = run(tmp_path, "-l", tmp_path / "logs")
    (log,) = (tmp_path / "logs").iterdir()
    checked = [
        command("-i", tmp_path / "in", "-k", "lite_config.yml", *form, module="script.check_images")
        for form in ([], ["--csv"])
    ]
    audited = run(tmp_path, module="script.check_folders")
    texts = [result.stdout, result.stderr, log.read_text("utf-8"), audited.stdout, *(done.stdout for done in checked)]
    for text in texts:
        assert "999" in text
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e]", text)
        assert not any(line.lstrip().startswith("Done:                999") for line in text.splitlines())


def test_a_traceback_in_the_log_forges_no_lines(tmp_path: Path) -> None:
    result = broken_run(tmp_path, "-l", str(tmp_path / "logs"))
    (log,) = (tmp_path / "logs").iterdir()
    assert f"is in {log}" in result.stderr
    entries = [line for line in log.read_text("utf-8").splitlines() if line and not line.startswith("    ")]
    assert not any("forged" in line.partition("Ended")[0] for line in entries)


# --- what ends a run ----------------------------------------------------------------------------------------------


def broken_run(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """A run whose command has a fault that nobody expected."""
    images(folder)
    code = (
        "import sys, argparse\nfrom anonymise.commands import cli\n"
        "def command(config, places, workers, progress):\n    raise ZeroDivisionError('by\\n2026-01-01 INFO forged')\n"
        "cli.anonymise_command = command\nsys.exit(cli.main(sys.argv[1:]))\n"
    )
    folders = ["-i", str(folder / "in"), "-o", str(folder / "out"), "-k", "lite_config.yml"]
    call = [sys.executable, "-c", code, *folders, *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "TMPDIR": str(folder), "TEMP": str(folder)}
    return subprocess.run(
        [*call, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def test_a_fault_of_the_program_has_a_code_of_its_own_and_says_where_the_traceback_is(tmp_path: Path) -> None:
    result = broken_run(tmp_path)
    assert result.returncode == 70, result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("anonymise: ")]
    assert "ZeroDivisionError: by\\n2026-01-01 INFO forged" in line
    (file,) = tmp_path.glob("anonymise-traceback-*.txt")
    assert f"The traceback is in {file}" in line
    assert "in command\nZeroDivisionError: by" in file.read_text("utf-8")
    assert "Traceback" not in result.stderr


def test_with_a_log_the_traceback_is_there(tmp_path: Path) -> None:
    result = broken_run(tmp_path, "-l", str(tmp_path / "logs"))
    assert result.returncode == 70, result.stderr
    (log,) = (tmp_path / "logs").iterdir()
    assert f"The traceback is in {log}" in result.stderr
    assert "in command" in log.read_text("utf-8")
    assert not list(tmp_path.glob("anonymise-traceback-*.txt"))


class Mailbox:
    """A mail server that keeps the texts that it gets."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        return "250 OK"


@pytest.fixture
def mailbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mailbox]:
    """Where the mails of the program go; what it reads as its settings besides is what comes along."""
    box = Mailbox()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    folder = tmp_path / "settings" / "config"
    folder.mkdir(parents=True)
    text = (CONFIG_FOLDER / "email_config.example.yml").read_text("utf-8")
    changed = {"host": "127.0.0.1", "port": port, "security": "none"}
    for key, value in changed.items():
        text = re.sub(rf"(?m)^{key}: .*", f"{key}: {value}", text)
    (folder / "email_config.yml").write_text(text, "utf-8")
    monkeypatch.chdir(folder.parent)
    yield box
    controller.stop()


@pytest.mark.parametrize(
    ("broken", "code", "reason"),
    [
        ("output", 3, "cannot be written to"),
        ("input", 2, "does not exist or is no folder"),
        ("empty", 2, "there is no image in"),
        ("model", 2, "did you mean Nano?"),
        ("configuration", 2, "did you mean blur?"),
        ("log", 2, "cannot be written"),
    ],
)
def test_mail_and_log_tell_of_whatever_fails_at_the_start(
    tmp_path: Path, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch, broken: str, code: int, reason: str
) -> None:
    if broken != "input":
        (tmp_path / "in").mkdir()
    if broken not in {"input", "empty"}:
        images(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    output = tmp_path / "file" / "out" if broken == "output" else tmp_path / "out"
    values = {"model": ["model_type=Nanoo"], "configuration": ["blurr=3"]}.get(broken, [])
    monkeypatch.setattr("sys.stdin", None)
    logs = tmp_path / ("file" if broken == "log" else "logs")
    call = ["-i", str(tmp_path / "in"), "-o", str(output), "-k", "lite_config.yml", "-l", str(logs)]
    assert cli.main([*call, *keys("uncaught_exception_email=True", *values)]) == code
    (mail,) = mailbox.mails
    body = mail.get_body()
    assert body is not None
    assert reason in " ".join(body.get_content().split())
    if broken != "log":
        (log,) = logs.iterdir()
        assert reason in log.read_text("utf-8")
    assert not output.exists()


@posix_only
def test_names_forge_no_lines_and_no_headers_in_mails(tmp_path: Path, mailbox: Mailbox) -> None:
    images(tmp_path)
    (tmp_path / "in" / "a\nBcc: everybody@example.org\x1b[2J\u202e.jpg").write_bytes(b"")
    call = ["-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "-k", "lite_config.yml"]
    assert cli.main([*call, *keys("processing_error_email=True", "finished_email=True", "enable_async=False")]) == 1
    assert len(mailbox.mails) == 2
    for mail in mailbox.mails:
        assert mail["Bcc"] is None
        body = mail.get_body()
        assert body is not None
        text = body.get_content()
        assert "a\\nBcc: everybody@example.org\\x1b[2J\\u202e.jpg" in text
        assert not re.search(r"[\x00-\x09\x0b\x0c\x0e-\x1f\u2028-\u202e]", text)


@pytest.mark.parametrize("arguments", [["-k", "nowhere.yml"], ["--set", "model_type=Nanoo"], ["--allow-nothing"]])
def test_what_the_operator_can_mend_is_no_fault_of_the_program(tmp_path: Path, arguments: list[str]) -> None:
    assert run(images(tmp_path), *arguments).returncode == 2


# --- suffixes -----------------------------------------------------------------------------------------------------


def jpeg(seed: int, folder: Path) -> bytes:
    return write_image(folder / f"{seed}.jpg", street((320, 240), cars=[], seed=seed)).read_bytes()


@pytest.mark.parametrize("hidden", [True, False])
def test_other_names_of_jpeg_are_read_and_nothing_behind_the_first_picture_leaves(tmp_path: Path, hidden: bool) -> None:
    first, second = jpeg(1, tmp_path), jpeg(2, tmp_path)
    with Image.open(tmp_path / "1.jpg") as one, Image.open(tmp_path / "2.jpg") as two:
        (tmp_path / "in").mkdir()
        one.save(tmp_path / "in" / "a.mpo", save_all=True, append_images=[two])
    assert (tmp_path / "in" / "a.mpo").read_bytes().count(b"\xff\xd8\xff") == 2
    (tmp_path / "in" / "b.insp").write_bytes(first + b"trailer" + second + b"8db42d694ccc418790edff439fe026bf")
    for name in ("c.jfif", "d.JPE"):
        (tmp_path / "in" / name).write_bytes(first)
    if hidden:
        write_image(tmp_path / "roof.png", np.tile(np.array([[[0], [255]]], np.uint8), (240, 160, 3)))
    result = run(tmp_path, *keys(*([f"static_mask={tmp_path / 'roof.png'}"] if hidden else [])))
    assert result.returncode == 0, result.stderr
    for name in ("a.mpo", "b.insp", "c.jfif", "d.JPE"):
        data = (tmp_path / "out" / name).read_bytes()
        assert data.count(b"\xff\xd8\xff") == 1
        assert data.endswith(b"\xff\xd9")
        assert b"MPF" not in data
        assert b"trailer" not in data
        assert (tmp_path / "out" / name).with_suffix(".json").is_file()
        with Image.open(tmp_path / "out" / name) as image:
            assert (image.format, getattr(image, "n_frames", 1), image.size) == ("JPEG", 1, (320, 240))
