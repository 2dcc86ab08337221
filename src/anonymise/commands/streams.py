"""Standard streams that never end the program: closed, broken, on a full disk, or of a terminal that only knows ASCII.

What was done to the images counts, and not whether somebody was there to read about it.
"""

import contextlib
import errno
import io
import os
import sys

__all__ = ["lost_output", "make_safe"]


class _SafeFile(io.FileIO):
    """A standard stream whose errors are kept instead of raised.

    Attributes:
        error: the last one; None while there was none.
    """

    error: OSError | None = None

    def write(self, data) -> int:  # type: ignore[no-untyped-def]
        try:
            return super().write(data)
        except OSError as error:
            self.error = error
            return memoryview(data).nbytes


def make_safe() -> None:
    """Makes the standard streams safe to write to, whatever is at their other end; called again, it changes nothing.

    Characters that a stream cannot show are written as escapes.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # A closed stream's number would be given to the next file that is opened, and errors be written into that.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)))
    sys.stdout = _safe(sys.stdout, 1)
    sys.stderr = _safe(sys.stderr, 2)


def _safe(stream: object, number: int) -> io.TextIOWrapper:
    # With python -u there is no buffer in between.
    if isinstance(stream, io.TextIOWrapper) and type(getattr(stream.buffer, "raw", stream.buffer)) is not io.FileIO:
        # Safe already, a Windows console, or what a test puts there.
        with contextlib.suppress(io.UnsupportedOperation):
            stream.reconfigure(errors="backslashreplace")
        return stream
    encoding, by_line = "utf-8", True
    if isinstance(stream, io.TextIOWrapper):
        encoding, by_line = stream.encoding, stream.line_buffering or stream.write_through
        with contextlib.suppress(OSError):
            stream.flush()
    file = _SafeFile(number, "wb", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(file), encoding=encoding, errors="backslashreplace", line_buffering=by_line
    )


def lost_output() -> str | None:
    """Why the standard output is not complete; None if it is, or if its reader had enough of it (``| head``)."""
    if not isinstance(sys.stdout, io.TextIOWrapper):
        return None
    sys.stdout.flush()
    file = getattr(sys.stdout.buffer, "raw", None)
    error = file.error if isinstance(file, _SafeFile) else None
    return None if error is None or error.errno in {errno.EPIPE, errno.EINVAL} else error.strerror or str(error)
