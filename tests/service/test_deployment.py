"""What docs/service.md, the Containerfile and the systemd unit say, done here as far as it can be."""

import configparser
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from anonymise.commands import serve
from tests.service.served import ROOT, Serving, picture, serving

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def served() -> Iterator[Serving]:
    with serving() as running:
        yield running


def blocks(language: str) -> list[str]:
    text = (ROOT / "docs" / "service.md").read_text("utf-8")
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [block for name, block in found if name == language]


@pytest.mark.skipif(shutil.which("curl") is None or sys.platform == "win32", reason="curl in a shell")
def test_the_example_with_curl(served: Serving, tmp_path: Path) -> None:
    (command,) = [block for block in blocks("") if block.startswith("curl ")]
    (tmp_path / "street.jpg").write_bytes(picture())
    call = command.replace("http://127.0.0.1:5000", served.address)
    subprocess.run(["sh", "-ec", call], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "anonymised.jpg").read_bytes() == served.post(picture()).content


def test_the_example_with_httpx(
    served: Serving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (program,) = blocks("python")
    (tmp_path / "street.jpg").write_bytes(picture())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "*")
    exec(program.replace("http://127.0.0.1:5000", served.address), {})
    assert (tmp_path / "anonymised.jpg").read_bytes() == served.post(picture()).content
    assert capsys.readouterr().out == "car=1\n"


def test_the_line_that_makes_a_token() -> None:
    (command,) = [block for block in blocks("") if block.startswith("python -c ")]
    program = command.removeprefix('python -c "').rstrip().removesuffix('"')
    made = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, encoding="utf-8").stdout
    token, line = made.split()
    assert re.fullmatch(r"anna:[0-9a-f]{64}", line)
    assert len(token) == 32


def instructions() -> list[tuple[str, str]]:
    text = (ROOT / "Containerfile").read_text("utf-8").replace("\\\n", " ")
    lines = (line.strip() for line in text.splitlines())
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines if line and line[0] != "#")]


def test_the_containerfile_copies_what_there_is_and_runs_without_root() -> None:
    told = instructions()
    for name, rest in told:
        if name == "COPY" and "--from" not in rest:
            assert all((ROOT / source).exists() for source in rest.split()[:-1]), rest
    assert [rest for name, rest in told if name == "USER"] == ["10001"]
    assert [name for name, _ in told].index("USER") < [name for name, _ in told].index("ENTRYPOINT")
    (command,) = [json.loads(rest) for name, rest in told if name == "ENTRYPOINT"]
    # The command's arguments, without listening: a port that is none ends it after everything else was checked.
    assert command[:2] == ["anonymise", "serve"]
    assert serve.main(command[2:]) == 2  # for want of tokens
    assert serve.main([*command[2:], "--without-tokens", "--port", "-1"]) == 2


def test_the_health_check_of_the_container(served: Serving) -> None:
    (check,) = [rest for name, rest in instructions() if name == "HEALTHCHECK"]
    _, program, text = json.loads(check[check.index("[") :])
    environ = {"PORT": str(served.port), "NO_PROXY": "*"}
    assert subprocess.run([sys.executable, program, text], env=environ, check=False).returncode == 0
    environ["PORT"] = "1"
    done = subprocess.run([sys.executable, program, text], env=environ, check=False, capture_output=True)
    assert done.returncode == 1


def test_the_unit_of_systemd(tmp_path: Path) -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[method-assign, assignment]
    unit.read(ROOT / "docs" / "anonymise.service", "utf-8")
    assert set(unit.sections()) == {"Unit", "Service", "Install"}
    command = unit["Service"]["ExecStart"].split()
    assert command[1] == "serve"
    if shutil.which("systemd-analyze") is not None:
        text = (ROOT / "docs" / "anonymise.service").read_text("utf-8").replace(command[0], sys.executable)
        file = tmp_path / "anonymise.service"
        file.write_text(text, "utf-8")
        done = subprocess.run(["systemd-analyze", "verify", file], capture_output=True, encoding="utf-8", check=False)
        assert "anonymise.service" not in done.stderr
