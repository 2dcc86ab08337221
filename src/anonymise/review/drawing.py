"""Draws the corrections from the archive, in a process of its own: ``anonymise redraw --corrected``."""

import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from anonymise.core.errors import ExitCode
from anonymise.core.plaintext import printable
from anonymise.corrections.store import Store

__all__ = ["Drawing"]

_ARCHIVE_KEYS = ("archive_json", "archive_preview", "archive_mask", "archive_instances", "delete_input")
"""Keys that concern the archive, which is the input here."""


class Drawing:
    """One run at a time. May be used from several threads.

    Args:
        archive: folder of the originals and their saved instances.
        output: folder of the published pictures.
        store: of the corrections.
        options: of the configuration, as for the command line.
        finished: called once a run has ended.
    """

    def __init__(
        self, archive: Path, output: Path, store: Store, options: Sequence[str], finished: Callable[[], None]
    ) -> None:
        keys = (part for key in _ARCHIVE_KEYS for part in ("--set", f"{key}=False"))
        folders = ("-i", str(archive), "-o", str(output), "--corrected")
        self._call = [sys.executable, "-m", "anonymise", "redraw", *folders, *options, *keys]
        self._store, self._finished = store, finished
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._waiting: frozenset[str] = frozenset()
        self._said: IO[bytes] | None = None
        self._ended: dict[str, Any] | None = None

    def start(self) -> dict[str, Any]:
        """Starts a run, unless one is under way; gives its state."""
        with self._lock:
            if self._process is None:
                self._waiting, self._ended = self._store.waiting(), None
                self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the run has ended
                self._process = subprocess.Popen(  # noqa: S603 - our own program
                    self._call, stdin=subprocess.DEVNULL, stdout=self._said, stderr=subprocess.STDOUT
                )
        return self.state()

    def state(self) -> dict[str, Any]:
        """``state`` (running, done, failed), ``done`` of ``total`` pictures, and the ``reason`` of a failure."""
        with self._lock:
            total = len(self._waiting)
            done = total - len(self._waiting & self._store.waiting())
            if self._process is None or self._said is None:
                return self._ended or {"state": "done", "done": 0, "total": 0, "reason": ""}
            if (code := self._process.poll()) is None:
                return {"state": "running", "done": done, "total": total, "reason": ""}
            self._said.seek(0)
            lines = self._said.read().decode("utf-8", "replace").strip().splitlines()
            self._said.close()
            self._process = self._said = None
            state, reason = ("done", "") if code == ExitCode.OK else ("failed", printable(lines[-1] if lines else code))
            self._ended = {"state": state, "done": done, "total": total, "reason": reason}
            self._finished()
            return self._ended
