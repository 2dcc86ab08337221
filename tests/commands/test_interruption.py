"""A signal asks a run to end, whatever it interrupts."""

import io
import logging
import signal
import sys

import pytest

from anonymise.commands.interruption import Interruption


class _Interrupted(io.RawIOBase):
    """A stream; while its first line is being written, Ctrl-C is pressed."""

    def __init__(self) -> None:
        self.written = b""

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:  # type: ignore[no-untyped-def]
        if not self.written:
            signal.raise_signal(signal.SIGINT)
        self.written += bytes(data)
        return len(bytes(data))


def test_a_signal_in_the_middle_of_a_line_of_the_log_breaks_no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = _Interrupted()
    stream = io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", line_buffering=True)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(logging, "raiseExceptions", True)
    handler = logging.StreamHandler(stream)
    logger = logging.getLogger("anonymise")
    logger.addHandler(handler)
    try:
        with Interruption() as interruption:
            logger.warning("an image is done")
            assert interruption.is_asked()
    finally:
        logger.removeHandler(handler)
    lines = raw.written.decode().splitlines()
    assert lines[0] == "an image is done"
    assert lines[1].startswith("Interrupted; finishing what is under way")
    assert len(lines) == 2
