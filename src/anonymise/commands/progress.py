"""How a run goes: a bar or lines on the terminal, lines in the log, mails about failures."""

import contextlib
import logging
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from anonymise.commands.logs import AGAIN, FILE_ONLY
from anonymise.commands.summary import duration
from anonymise.core.plaintext import plural

if TYPE_CHECKING:
    from anonymise.batch.notify import Notifier
    from anonymise.batch.outcomes import Outcome, Progress
    from anonymise.commands.interruption import Interruption

__all__ = ["shown_progress"]

log = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 20.0
"""Of the progress, where there is no terminal for a bar."""

_MAX_NOTES = 20
"""Different notes that the summary counts."""


@contextlib.contextmanager
def shown_progress(
    notifier: "Notifier", interruption: "Interruption"
) -> Iterator[tuple["Progress", Mapping[str, int]]]:
    """Tells the operator how the run goes: a bar on a terminal, else a line every so often, and a mail if images fail.

    Warnings and failures are lines in both cases. What became of each other image is in the log file only, and images
    that were finished before are counted. Also gives the notes so far, and the number of images with each.
    """
    from tqdm import tqdm

    from anonymise.batch.outcomes import Done, Failed, Progress, Skipped

    notes_seen: Counter[str] = Counter()
    with tqdm(unit=" images", disable=not sys.stderr.isatty(), dynamic_ncols=True) as bar:

        class Shown(Progress):
            n = n_worked = n_failed = 0
            total: int | None = None
            started = 0.0
            next_line = 0.0

            def wants_to_stop(self) -> bool:
                return interruption.is_asked()

            def ended(self) -> None:
                interruption.over()

            def found(self, n_images: int) -> None:
                log.info("%s to look at", plural(n_images, "image"))
                self.total, self.started = n_images, time.monotonic()
                bar.reset(total=n_images)

            def finished(self, outcome: "Outcome") -> None:
                match outcome:
                    case Done(source, objects, notes):
                        found = "done"
                        if objects is not None:
                            found = ", ".join(f"{n} {name}" for name, n in objects.items()) or "nothing found"
                        log.info("%s: %s", source, found, extra=FILE_ONLY)
                        for note in notes:
                            self._note(source, note)
                        self.n_worked += 1
                    case Failed():
                        self._failed(outcome)
                        self.n_worked += 1
                    case Skipped(source, reason, finished) if not finished:
                        log.info("%s: skipped: %s", source, reason)
                self.n += 1
                bar.update()
                self._line(outcome.source)

            def changed(self, outcome: "Outcome") -> None:
                if isinstance(outcome, Failed):
                    self._failed(outcome)

            def _note(self, source: Path, note: str) -> None:
                log.warning("%s: %s", source, note, extra=AGAIN if note in notes_seen else {})
                # Some notes are different for each image: only so many are counted.
                if note in notes_seen or len(notes_seen) < _MAX_NOTES:
                    notes_seen[note] += 1

            def _failed(self, failed: Failed) -> None:
                log.error("%s (%s): %s", failed.source, failed.stage, failed.reason)
                notifier.processing_error(str(failed.source), failed.stage, failed.reason)
                self.n_failed += 1
                bar.set_postfix(failed=self.n_failed, refresh=False)

            def _line(self, source: Path) -> None:
                now = time.monotonic()
                if not bar.disable or now < self.next_line:
                    return
                self.next_line = now + _SECONDS_BETWEEN_LINES
                of, left = "", ""
                if self.total is not None:
                    of = f" of {self.total}"
                    if self.n_worked:  # those that were finished before take no time
                        seconds = (self.total - self.n) * (now - self.started) / self.n_worked
                        left = f", about {duration(seconds)} left"
                log.info("%s: image %d%s, %d failed%s", source, self.n, of, self.n_failed, left)

        yield Shown(), notes_seen
