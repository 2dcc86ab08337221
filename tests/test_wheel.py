"""The installed program, without a checkout: a wheel in an environment of its own, used in an empty folder."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from anonymise.commands.cli import COMMANDS
from anonymise.core.resources import default_model_folder
from tests.fakes import street, write_image

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


class Installed:
    """The program as an operator has it who got the wheel only; ``here`` is the current folder."""

    def __init__(self, folder: Path) -> None:
        build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder / "dist")]
        built = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
        assert built.returncode == 0, built.stdout + built.stderr
        (wheel,) = (folder / "dist").glob("*.whl")
        environment = folder / "environment"
        venv.create(environment, with_pip=False, symlinks=os.name != "nt")
        bin_folder = environment / ("Scripts" if os.name == "nt" else "bin")
        python = bin_folder / ("python.exe" if os.name == "nt" else "python")
        install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", str(wheel)]
        subprocess.run(install, check=True, capture_output=True)
        ask = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
        self.packages = Path(subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip())
        # The dependencies, gigabytes of them, are those that are installed here. A path in a .pth file comes after the
        # environment's own packages, and .pth files there, such as that of an editable installation, are not read.
        (self.packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", "utf-8")
        self.program = bin_folder / ("anonymise.exe" if os.name == "nt" else "anonymise")
        self.here, home = folder / "here", folder / "home"
        self.here.mkdir()
        home.mkdir()
        hidden = ("PYTHON", "XDG_", "ANONYMISE_")
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
        self.environment |= {"HOME": str(home), "USERPROFILE": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
        self.files = self.shipped()

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [str(self.program), *arguments], cwd=self.here, env=self.environment,
            capture_output=True, encoding="utf-8", check=False, timeout=300,
        )  # fmt: skip

    def shipped(self) -> dict[str, int]:
        """The files of the installed package, and when each was changed."""
        files = (file for file in (self.packages / "anonymise").rglob("*") if file.is_file())
        return {str(file): file.stat().st_mtime_ns for file in files}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(tmp_path_factory.mktemp("wheel"))


def test_the_help_lists_the_commands_as_they_are_called_here(installed: Installed) -> None:
    result = installed.run("--help")
    assert result.returncode == 0, result.stderr
    assert "\n      anonymise -i photos -o published -k lite_config.yml\n" in result.stdout
    for name, does in COMMANDS.items():
        assert f"  {name:21} {does}\n" in result.stdout
        shown = installed.run(name, "--help")
        assert shown.returncode == 0, shown.stderr
        assert f"  anonymise {name} " in shown.stdout.partition("example")[2]
        assert "script" not in shown.stdout
        assert "config/" not in shown.stdout.partition("example")[2]


def test_a_folder_is_anonymised_checked_and_drawn_again(installed: Installed) -> None:
    write_image(installed.here / "in" / "1.jpg", street())
    (installed.here / "config").mkdir()
    models = f"model_folder: {json.dumps(default_model_folder().as_posix())}\narchive_instances: True\n"
    (installed.here / "config" / "mine.yml").write_text(models, "utf-8")
    options = ["-a", "archive", "-k", "lite_config.yml", "-k", "mine.yml"]
    result = installed.run("-i", "in", "-o", "out", *options, "--create-archive")
    assert result.returncode == 0, result.stderr
    assert {file.name for file in (installed.here / "out").iterdir()} == {".anonymise", "1.jpg", "1.json"}
    for spelling in ("check-folders", "check_folders"):
        checked = installed.run(spelling, "-i", "in", "-o", "out", *options, "--json")
        assert checked.returncode == 0, checked.stderr
        assert json.loads(checked.stdout)["images"] == 1
    drawn = installed.run("redraw", "-i", "archive", "-o", "drawn", "--set", "appearance=mosaic")
    assert drawn.returncode == 0, drawn.stderr
    assert (installed.here / "drawn" / "1.jpg").is_file()
    assert installed.run("validate-json", "drawn").returncode == 0
    assert installed.shipped() == installed.files


def test_advice_names_what_works_here_and_settings_are_not_written_next_to_the_code(installed: Installed) -> None:
    result = installed.run("execute-sql", "SELECT 1")
    assert result.returncode == 2
    assert "make it with: anonymise create-db-config" in result.stderr
    made = installed.run("create-db-config", "geopackage", "--file", "rows.gpkg")
    assert made.returncode == 0, made.stderr
    result = installed.run("execute-sql", "SELECT 1")
    assert "make it with: anonymise create-table" in result.stderr
    assert installed.run("create-table", "VEGBILDER").returncode == 0
    assert installed.run("execute-sql", "SELECT 1 AS one").stdout.split() == ["one", "---", "1"]
    assert installed.shipped() == installed.files


def test_the_version_is_that_of_the_wheel(installed: Installed) -> None:
    assert installed.run("--version").stderr.startswith("anonymise ")
