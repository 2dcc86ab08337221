"""Waiting for a share that is out of reach: one place for both that wait, files (`storage`) and the journal."""

import logging
import time

__all__ = ["Patience"]

log = logging.getLogger(__name__)

_SHORTEST_SECONDS = 0.01


class Patience:
    """How long one operation may wait. The time runs from its first failure: an attempt may itself hang for minutes."""

    def __init__(self, retry_seconds: float, timeout_seconds: float) -> None:
        """Starts no clock yet.

        Args:
            retry_seconds: between two attempts.
            timeout_seconds: after the first failure; then `wait` gives up.
        """
        self._retry_seconds = retry_seconds
        self._timeout_seconds = timeout_seconds
        self._deadline: float | None = None

    def wait(self, what: str, reason: object) -> bool:
        """Waits until the next attempt is due; warns at the first failure. False once the time is over.

        Args:
            what: what is out of reach, for the warning.
            reason: why the attempt failed.
        """
        now = time.monotonic()
        if self._deadline is None:
            self._deadline = now + self._timeout_seconds
            log.warning("%s is out of reach (%s); waiting for it", what, reason)
        if now >= self._deadline:
            return False
        time.sleep(min(self._retry_seconds, max(_SHORTEST_SECONDS, self._deadline - now)))
        return True
