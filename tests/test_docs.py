"""Every command block of the documents is run, or listed here with the reason why not."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from anonymise import config
from anonymise.core.resources import default_model_folder
from anonymise.models.catalog import load_catalog
from tests.evaluation.scenes import coco_file, write_street

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    *sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/*.md")),
)

NOT_RUN: Mapping[str, str] = {
    "make test": "it runs these tests",
    "make check": "a part of these tests",
    "make lint types layers unit": "the same checks, and these tests",
    "python3 -m venv .venv": "the environment of the scratch checkout stands in for it: the packages take gigabytes",
    ".venv/bin/python -m pip install ": "downloads gigabytes, which make setup does in CI",
    'pip install "anonymise[service]"': "the environment has it",
    "python -m anonymise review ": "it serves until it is stopped; tests/review starts it",
    "python -m script.serve ": "it serves until it is stopped; tests/service starts it",
    "curl --data-binary ": "tests/service/test_deployment.py",
    "podman ": "there is no engine for containers",
    "sbatch ": "tests/cluster runs the file for one task; Slurm is a service",
    "HOSTS=": "machines of the reader",
    "dask ": "machines of the reader; tests/cluster starts such a cluster",
    "python -m anonymise -i /mnt/street/in": "machines of the reader",
    "kubectl ": "a service; tests/cluster reads the file",
    "openssl ": "a certificate of the reader",
    "cp tls/cert.pem": "a certificate of the reader",
    "docker ": "an image of some gigabytes",
    "CREATE USER ": "for the container above",
    "GRANT ": "for the container above",
    "SQL": "for the container above",
    "ANONYMISE_TEST_ORACLE_DSN=": "for the container above",
}
"""Beginnings of lines that are not run, and why. All other lines of command blocks are."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a document."""

    document: str
    line: int
    language: str
    text: str

    @property
    def lines(self) -> list[str]:
        """The commands, those that go on in the next line in one piece, without the comments after them."""
        joined = self.text.replace("\\\n", " ")
        return [re.sub(r"\s{2,}#.*|\s{2,}\(.*\)$", "", line).strip() for line in joined.splitlines() if line.strip()]

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def blocks() -> Iterator[Block]:
    for document in DOCUMENTS:
        text = (ROOT / document).read_text("utf-8")
        for found in re.finditer(r"^```([^\n]*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
            yield Block(document, text.count("\n", 0, found.start()) + 1, found[1].strip(), found[2])


def is_usage(block: Block) -> bool:
    return block.lines[0].startswith("python -m anonymise -i IN -o OUT [-a")


def is_powershell(block: Block) -> bool:
    return block.lines[0].startswith("py -")


def is_command(block: Block) -> bool:
    return block.language in ("", "sh", "bash") and not is_usage(block) and not is_powershell(block)


def is_run(line: str) -> bool:
    return not line.startswith(tuple(NOT_RUN))


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of its own with the folders that the documents name, and an environment that is set up."""
    checkout = tmp_path_factory.mktemp("docs") / "checkout"
    names = shutil.ignore_patterns(".*", "__pycache__", "demo", "dist", "build", "*.egg-info")

    def leave_out(folder: str, found: list[str]) -> set[str]:
        # The weights at the top, not the room of the package with this name.
        return names(folder, found) | ({"models"} if Path(folder) == ROOT else set())

    shutil.copytree(ROOT, checkout, ignore=leave_out)
    (checkout / "config" / "db_config.yml").unlink(missing_ok=True)
    (checkout / "config" / "email_config.yml").unlink(missing_ok=True)
    (checkout / "models").mkdir()
    shutil.copy(ROOT / "models" / "catalog.yml", checkout / "models")
    for name in ("Lite", "Nano"):
        shutil.copytree(default_model_folder() / name, checkout / "models" / name)

    # What `make setup` leaves: an environment, which is the one that runs the tests.
    for python in (checkout / ".venv" / "bin" / "python", checkout / "bin" / "python"):
        python.parent.mkdir(parents=True)
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        python.chmod(0o755)
    (checkout / ".venv" / ".ready").touch()
    (checkout / ".venv" / ".models").touch()

    call = [sys.executable, "-m", "samples", str(checkout / "photos"), "--count", "2", "--size", "640x400"]
    subprocess.run(call, cwd=ROOT, check=True, capture_output=True)
    photos = sorted((checkout / "photos").rglob("*.jpg"))
    coco_file(
        checkout / "annotations.json",
        [{"id": n, "file_name": photo.name, "width": 640, "height": 400} for n, photo in enumerate(photos)],
        [{"image_id": n, "category_id": 1, "bbox": [300, 200, 80, 50], "area": 4000} for n, _ in enumerate(photos)],
        "car",
    )
    write_street(checkout, 2)
    (checkout / "images").rename(checkout / "FRAMES")
    (checkout / "labels").rename(checkout / "LABELS")
    return checkout


BEFORE: Mapping[str, Callable[[Path], object]] = {
    # Two kinds of databases, of which an operator has one.
    "export ANONYMISE_DB_KEY": lambda checkout: (checkout / "config" / "db_config.yml").unlink(),
    "python -m script.validate_json FOLDER": lambda checkout: (checkout / "published").rename(checkout / "FOLDER"),
}
"""First line of a block → what an operator has done before."""


@pytest.mark.skipif(sys.platform == "win32", reason="the blocks are for the shell of Linux and macOS")
def test_the_commands_of_the_documents_work_in_their_order(scratch: Path) -> None:
    path = os.pathsep.join([str(scratch / "bin"), os.environ.get("PATH", os.defpath)])
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "MAKEFLAGS", "MAKELEVEL")}
    environment |= {"PATH": path, "PYTHONPATH": str(scratch / "src"), "ANONYMISE_DB_PASSWORD": "secret"}
    environment |= {name: str(scratch / "home") for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")}
    for block in filter(is_command, blocks()):
        for first, prepare in BEFORE.items():
            if block.lines[0].startswith(first):
                prepare(scratch)
        commands = [line for line in block.lines if is_run(line)]
        if any(line.startswith("make") for line in commands) and shutil.which("make") is None:
            continue
        done = subprocess.run(
            ["sh", "-e", "-c", "\n".join(commands)],
            cwd=scratch, env=environment, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8",
            check=False, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, f"{block}: {commands}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, f"{block}: {done.stderr}"
    assert (scratch / "demo" / "before_after.jpg").is_file()
    assert (scratch / "published").is_dir() or (scratch / "FOLDER").is_dir()


def test_every_line_that_is_not_run_is_there_and_has_a_reason() -> None:
    lines = [line for block in blocks() if is_command(block) for line in block.lines]
    for beginning, reason in NOT_RUN.items():
        assert reason
        assert any(line.startswith(beginning) for line in lines), f"{beginning} is in no document any more"


def test_blocks_are_commands_settings_or_the_usage() -> None:
    for block in blocks():
        assert block.language in ("", "sh", "bash", "yaml", "python"), f"{block}: how is it tested?"


def test_settings_in_the_documents_are_valid(tmp_path: Path) -> None:
    found = [block for block in blocks() if block.language == "yaml"]
    assert found
    for number, block in enumerate(found):
        file = tmp_path / f"{number}.yml"
        file.write_text(block.text, "utf-8")
        if "models" in yaml.safe_load(block.text):
            load_catalog(file)
        else:
            config.load([file])


def test_the_usage_names_the_options_that_there_are() -> None:
    (usage,) = filter(is_usage, blocks())
    text = subprocess.run(
        [sys.executable, "-m", "anonymise", "--help"], cwd=ROOT, capture_output=True, encoding="utf-8", check=True
    ).stdout
    options = re.findall(r"(?<![\w-])--?[a-z][\w-]*", usage.text.replace("-m anonymise", ""))
    assert options
    for option in options:
        assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", text), option


def test_windows_gets_the_same_commands() -> None:
    (windows,) = filter(is_powershell, blocks())
    (linux,) = (block for block in blocks() if block.lines[0] == "python3 -m venv .venv")
    translated = [
        re.sub(r"^py -3\.\d+", "python3", line)
        .replace(".venv\\Scripts", ".venv/bin")
        .replace("C:\\", "")
        .replace("\\", "/")
        for line in windows.lines
    ]
    assert translated == linux.lines


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_and_links_that_documents_name_are_there(document: str) -> None:
    text = (ROOT / document).read_text("utf-8")
    folder = (ROOT / document).parent
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (folder / target).exists(), target
    for name in re.findall(r"`((?:src|config|docs|tests|benchmarks|samples|script|models)/[\w./-]+)`", text):
        made_by_the_operator = ("config/db_config.yml", "config/email_config.yml", "models/Plates")
        assert name in made_by_the_operator or (ROOT / name).exists(), name
    for module in re.findall(r"python -m ((?:script|benchmarks|samples)\.?\w*)", text):
        path = ROOT.joinpath(*module.split("."))
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file() or module == "script.", module
    for module in re.findall(r"`(anonymise(?:\.[a-z_]+)+)", text):
        parts = module.split(".")[1:]
        bases = [ROOT.joinpath("src", "anonymise", *parts[:n]) for n in range(1, len(parts) + 1)]
        assert any(base.with_suffix(".py").is_file() or base.is_dir() for base in bases), module
