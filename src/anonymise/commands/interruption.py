"""Signals that ask a run to end."""

import logging
import queue
import signal
import threading
import time
from types import FrameType

__all__ = ["Interruption"]

log = logging.getLogger(__name__)

_ONE_REQUEST_SECONDS = 0.2
"""Signals within this time are one request: ``timeout`` sends one to the process, and one to its group."""


class Interruption:
    """Lets Ctrl-C, SIGTERM and a closed terminal ask the run to end.

    The second request ends the run at once. Later ones, and those after the run, change nothing, so that what is under
    way is ended cleanly and the summary is printed.
    """

    def __init__(self) -> None:
        self._asked: list[float] = []
        self._is_over = False
        # A signal may come in the middle of a line that is being written; whoever writes into it then breaks both. Of
        # the ways to pass something on, only this queue may be used anywhere.
        self._news: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._teller = threading.Thread(target=self._tell, name="interruption", daemon=True)

    def is_asked(self) -> bool:
        """Whether the run is to end."""
        return bool(self._asked)

    def over(self) -> None:
        """The run has ended; what follows is not interrupted."""
        self._is_over = True

    def __enter__(self) -> "Interruption":
        from anonymise.batch.workers import STOP_SIGNALS

        self._teller.start()
        # What nohup has switched off stays so.
        numbers = [n for n in STOP_SIGNALS if n == signal.SIGINT or signal.getsignal(n) is not signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._ask) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_IGN if self._asked else handler)  # the process ends very soon
        self._news.put(None)
        self._teller.join()

    def _tell(self) -> None:
        while (line := self._news.get()) is not None:
            log.warning(line)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._is_over or (self._asked and now - self._asked[-1] < _ONE_REQUEST_SECONDS):
            return
        self._asked.append(now)
        if len(self._asked) == 1:
            self._news.put("Interrupted; finishing what is under way. Once more ends at once.")
        elif len(self._asked) == 2:
            signal.default_int_handler(number, frame)
