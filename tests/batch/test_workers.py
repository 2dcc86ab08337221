"""Other processes where the system has little to give."""

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from anonymise.batch.workers import ProcessWorkers
from tests.fakes import street, write_image

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]

_WITHOUT_SEMAPHORES = """
import _multiprocessing, sys

class SemLock(_multiprocessing.SemLock):
    def __new__(cls, *args):
        raise PermissionError(13, "Permission denied")

_multiprocessing.SemLock = SemLock
import multiprocessing.synchronize
if __name__ == "__main__":
    from importlib import import_module
    sys.exit(import_module(sys.argv[1]).main(sys.argv[2:]))
"""
"""As where /dev/shm is missing, read-only or not for this user."""


@pytest.mark.parametrize("module", ["anonymise.commands.cli", "script.check_images"])
def test_without_semaphores_all_is_done_in_one_process(tmp_path: Path, module: str) -> None:
    write_image(tmp_path / "in" / "1.jpg", street())
    (tmp_path / "in" / "2.jpg").write_bytes(b"")
    folders = ["-i", tmp_path / "in", *(["-o", tmp_path / "out"] if module == "anonymise.commands.cli" else [])]
    call = [sys.executable, "-c", _WITHOUT_SEMAPHORES, module, *folders, "-k", ROOT / "config" / "lite_config.yml"]
    done = subprocess.run(list(map(str, call)), cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("gives no semaphores") == 1
    if module == "anonymise.commands.cli":
        assert {path.name for path in (tmp_path / "out").iterdir() if path.is_file()} == {"1.jpg", "1.json"}


def test_windows_gets_no_more_processes_than_it_can_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(ProcessWorkers(100)) as workers:
        assert workers.n_parallel == 100
    monkeypatch.setattr(sys, "platform", "win32")
    with closing(ProcessWorkers(100)) as workers:
        assert workers.n_parallel == 61


@pytest.mark.skipif(not hasattr(os, "setuid"), reason="there is always a home folder")
def test_a_user_without_a_home_folder_can_run(tmp_path: Path) -> None:
    """As services have it: neither HOME, nor an entry in the list of users."""
    write_image(tmp_path / "in" / "1.jpg", street())
    command = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "del os.environ['HOME']\n"
        "import pwd\n"
        "def getpwuid(uid):\n    raise KeyError(uid)\n"
        "pwd.getpwuid = getpwuid\n"
        "if __name__ == '__main__':\n"
        "    from anonymise.commands.cli import main\n"
        "    sys.exit(main(sys.argv[1:]))\n"
    )
    options = ["-i", tmp_path / "in", "-o", tmp_path / "out", "-k", ROOT / "config" / "lite_config.yml"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("XDG_")} | {"HOME": "/"}
    call = [sys.executable, "-c", command, *map(str, options)]
    done = subprocess.run(call, cwd=ROOT, env=environment, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "out").iterdir() if path.is_file()} == {"1.jpg", "1.json"}
