"""Runs of the whole program as an operator starts it, and what they cost."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

__all__ = ["Peak", "Run", "run"]

_ROOT = Path(__file__).parents[1]
_EVERY_S = 1.0
"""Telling how much memory is shared takes the system so long that ten times a second cost a run a sixth of its time."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a run of n images took.

    Attributes:
        wall_s: of the whole process.
        first_s: until the first anonymised image was there.
        cpu_s: of all processes together.
        peak_mib: memory of all processes together at its highest; what they share counts once where the system tells.
    """

    wall_s: float
    first_s: float
    cpu_s: float
    peak_mib: float


def run(source: Path, output: Path, config: str, overrides: Sequence[str] = ()) -> Run:
    """One run of ``python -m anonymise`` over a folder, into a new one."""
    command = [sys.executable, "-m", "anonymise", "-i", str(source), "-o", str(output), "-k", config]
    command += ["-l", str(output.with_name(f"{output.name}_log"))]
    command += [part for override in overrides for part in ("--set", override)]
    before, started, started_at = os.times(), time.perf_counter(), time.time()
    process = subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    peak = Peak(process.pid)
    printed, _ = process.communicate()
    wall_s, after = time.perf_counter() - started, os.times()
    if process.returncode != 0:
        sys.exit(f"{' '.join(command)} failed with exit code {process.returncode}:\n{printed}")
    done = sorted(path.stat().st_mtime for path in output.rglob("*.jpg"))
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return Run(wall_s, done[0] - started_at, cpu_s, peak.stop())


class Peak:
    """Watches the memory of a process and all its children, from when it is made.

    Args:
        pid: of the process.
    """

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._highest = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stopped.wait(_EVERY_S):
            try:
                tree = [self._process, *self._process.children(recursive=True)]
                self._highest = max(self._highest, sum(map(_memory, tree)))
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue

    def stop(self) -> float:
        """Ends the watch; the highest sum in MiB."""
        self._stopped.set()
        self._thread.join()
        return self._highest / 2**20


def _memory(process: psutil.Process) -> int:
    """Of a process in bytes; of pages that several see, its share where the system tells (PSS), else all (RSS)."""
    full = process.memory_full_info()
    return int(getattr(full, "pss", full.rss))
