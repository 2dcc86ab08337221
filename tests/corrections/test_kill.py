"""kill -9 between accept and drawn: never does a correction count as drawn whose picture shows what it hides."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from anonymise.core.detections import Box
from anonymise.corrections.store import Store
from tests.corrections.runs import Folders, noise
from tests.fakes import read_image

pytestmark = pytest.mark.slow

N_KILLS = 50
ROOT = Path(__file__).parents[2]
NAMES = ("a/1.png", "a/2.png", "3.png")


def spot(number: int) -> Box:
    left, top = number % 16 * 10, number // 16 * 10
    return Box(left, top, left + 10, top + 10)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork and no kill -9 there")
def test_fifty_kills_between_accept_and_drawn(tmp_path: Path) -> None:
    """Acceptance 5."""
    folders = Folders(tmp_path)
    originals = {name: read_image(folders.write(name, noise(seed=n))) for n, name in enumerate(NAMES)}
    command = [sys.executable, "-W", "ignore", "-m", "tests.corrections.killed", str(tmp_path)]
    rows: dict[str, tuple[str, Box]] = {}
    dice = random.Random(7)

    def shown(name: str, box: Box) -> int:
        published = read_image(folders.output / name)[box.slices]
        return int((published == originals[name][box.slices]).all(axis=2).sum())

    def check() -> tuple[int, int]:
        """No drawn one is visible. Gives the number of drawn ones, and of those that are only hidden so far."""
        with Store(folders.store_folder) as store:
            statuses = {row.id: row.status for row in store.select()}
        drawn = {id_ for id_, status in statuses.items() if status == "drawn"}
        hidden = {id_ for id_ in statuses if not shown(*rows[id_])}
        assert set(statuses.values()) <= {"accepted", "drawn"}
        assert drawn <= hidden
        return len(drawn), len(hidden - drawn)

    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def run(n_steps: int) -> int:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{n_steps}\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        run(0)
        rows[folders.put(NAMES[0], spot(0))] = NAMES[0], spot(0)
        n_steps = run(0)
        assert check() == (1, 0)
        n_killed = 0
        n_between = 0
        for number in range(1, 150):
            name = NAMES[number % 3]
            rows[folders.put(name, spot(number))] = name, spot(number)
            if run(dice.randint(1, n_steps)) == -1:
                n_killed += 1
                n_between += check()[1] > 0
            if n_killed == N_KILLS:
                break
        assert n_killed == N_KILLS
        assert 0 < n_between < N_KILLS  # the kills hit both sides of the new image
        run(0)
        assert check() == (len(rows), 0)
        process.stdin.close()  # type: ignore[union-attr]
    with Store(folders.store_folder) as store:
        assert store.fault() is None
        assert store.counts()["accepted"] == 0
