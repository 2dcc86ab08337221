"""Nobody is contacted, and nothing is written to the home folder, whatever the libraries would like to do."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from anonymise.core.resources import default_model_folder
from tests.evaluation.scenes import write_street
from tests.fakes import street, write_image

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]

# Loaded by every Python process whose PYTHONPATH has it, before anything else.
WATCH = """
import os, sys

def note(text):
    # Not open(): that is an event as well.
    file = os.open(os.environ["ANONYMISE_TEST_NOTES"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, (text + "\\n").encode())
    os.close(file)

def hook(event, arguments):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        note(f"{event} {arguments[0]!r}")
    elif event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1] if len(arguments) > 1 else None
        if isinstance(address, tuple):  # not a socket of this machine, which has a path
            note(f"{event} {address!r}")

sys.addaudithook(hook)
"""

TELEMETRY = """
import sitecustomize
sitecustomize.note("openvino_telemetry was imported")
"""

# A user whom the system does not know, as in a container that is started for a number.
WITHOUT_HOME = """
import sys, types
pwd = types.ModuleType("pwd")
def getpwuid(number):
    raise KeyError(number)
pwd.getpwuid = getpwuid
sys.modules["pwd"] = pwd
sys.path.insert(0, lib)
import anonymise.commands.cli
print(anonymise.commands.cli.__file__)
sys.exit(anonymise.commands.cli.main())
"""


class Watched:
    """Runs commands with an empty home folder, and knows whom they contacted and what they left there."""

    def __init__(self, folder: Path) -> None:
        self.home, self.notes, self.code = folder / "home", folder / "notes", folder / "code"
        self.home.mkdir()
        self.notes.write_text("")
        (self.code / "openvino_telemetry").mkdir(parents=True)
        (self.code / "sitecustomize.py").write_text(WATCH)
        (self.code / "openvino_telemetry" / "__init__.py").write_text(TELEMETRY)
        (self.code / "openvino_telemetry" / "backend.py").write_text("backend_ga4 = None\n")

    def run(self, *arguments: object, home: Path | None, cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
        """Runs Python with the arguments."""
        hidden = ("HOME", "USERPROFILE", "XDG_", "APPDATA", "LOCALAPPDATA", "MPLCONFIGDIR", "KERAS_HOME", "CI")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
        path = os.pathsep.join([str(self.code), str(ROOT), str(ROOT / "src")])
        environment |= {"PYTHONPATH": path, "ANONYMISE_TEST_NOTES": str(self.notes)}
        if home is not None:
            environment |= {"HOME": str(home), "USERPROFILE": str(home)}
        call = [sys.executable, *map(str, arguments)]
        return subprocess.run(
            call, cwd=cwd, env=environment, capture_output=True, encoding="utf-8", check=False, timeout=300
        )

    def left(self) -> tuple[Sequence[str], Sequence[str]]:
        """Who was contacted, and what is in the home folder."""
        files = sorted(path.relative_to(self.home).as_posix() for path in self.home.rglob("*"))
        return self.notes.read_text().splitlines(), files


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def test_the_watch_sees_who_is_contacted(watched: Watched) -> None:
    code = "import socket, pathlib; socket.getaddrinfo('localhost', 9); (pathlib.Path.home() / 'x').touch()"
    assert watched.run("-c", code, home=watched.home).returncode == 0
    assert watched.left() == (["socket.getaddrinfo 'localhost'"], ["x"])


@pytest.mark.parametrize("runtime", ["openvino", "tensorflow"])
def test_a_run_contacts_nobody_and_writes_nothing_to_the_home_folder(
    watched: Watched, tmp_path: Path, runtime: str
) -> None:
    write_image(tmp_path / "in" / "1.jpg", street())
    result = watched.run(
        "-m", "anonymise", "-i", tmp_path / "in", "-o", tmp_path / "out", "-a", tmp_path / "archive",
        "--create-archive",
        "-k", "config/lite_config.yml", "--set", f"runtime={runtime}", "--set", "remote_preview=True",
        "--set", "archive_instances=True", home=watched.home,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out" / "1.jpg").is_file()
    assert watched.left() == ([], [])


def test_an_evaluation_contacts_nobody_and_writes_nothing_to_the_home_folder(watched: Watched, tmp_path: Path) -> None:
    write_street(tmp_path, 1)
    result = watched.run(
        "-m", "script.evaluate", "-i", tmp_path / "images", "--labels", tmp_path / "labels",
        "-o", tmp_path / "evaluation", "-k", "config/lite_config.yml",
        "--set", "evaluation_bootstrap_samples=100", home=watched.home,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "evaluation" / "evaluation.html").is_file()
    assert watched.left() == ([], [])


@pytest.mark.parametrize("home", ["missing", "unset", "relative"])
def test_a_run_needs_no_home_folder(watched: Watched, tmp_path: Path, home: str) -> None:
    write_image(tmp_path / "in" / "1.jpg", street())
    before = sorted(ROOT.iterdir())
    result = watched.run(
        "-m", "anonymise", "-i", tmp_path / "in", "-o", tmp_path / "out", "-k", "config/lite_config.yml",
        home={"missing": tmp_path / "gone", "unset": None, "relative": Path("gone")}[home],
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert watched.left() == ([], [])
    assert not (tmp_path / "gone").exists()
    assert sorted(ROOT.iterdir()) == before


@pytest.mark.skipif(sys.platform == "win32", reason="the home folder comes from elsewhere there")
def test_where_there_is_no_home_folder_an_installed_program_asks_for_a_folder_for_models(
    watched: Watched, tmp_path: Path
) -> None:
    """An installed program keeps models in the user's cache folder; it must not make one wherever it runs."""
    lib, work = tmp_path / "lib", tmp_path / "work"
    work.mkdir()
    # What a wheel holds: the package, and the YAML files inside it.
    (lib / "anonymise").mkdir(parents=True)
    for path in (ROOT / "src" / "anonymise").rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
            copy = lib / path.relative_to(ROOT / "src")
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    for path in [*(ROOT / "config").rglob("*.yml"), ROOT / "models" / "catalog.yml"]:
        copy = lib / "anonymise" / "data" / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    write_image(work / "in" / "1.jpg", street())
    call = ["-c", f"lib = {str(lib)!r}\n{WITHOUT_HOME}", "-i", "in", "-o", "out", "-k", "lite_config.yml"]
    result = watched.run(*call, home=None, cwd=work)
    assert result.stdout.startswith(str(lib))
    assert result.returncode == 2, result.stderr
    assert "model_folder" in result.stderr
    assert "Traceback" not in result.stderr
    assert [path.name for path in work.iterdir() if path.name not in ("in", "out")] == []
    folder = json.dumps(default_model_folder().as_posix())
    result = watched.run(*call, "--set", f"model_folder={folder}", home=None, cwd=work)
    assert result.returncode == 0, result.stderr
    assert watched.left() == ([], [])
