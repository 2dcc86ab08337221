"""The program's log: on the standard error, and in a file."""

import contextlib
import logging
import socket
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anonymise.core.errors import UsageError
from anonymise.core.plaintext import lines_of, printable

if TYPE_CHECKING:
    from anonymise.config import LogOptions

__all__ = ["AGAIN", "FILE_ONLY", "LINES", "LogFile", "logging_to"]

FILE_ONLY = {"file_only": True}
"""Marks lines of the log that are not for the terminal, because the operator sees them anyway or they are long."""

AGAIN = {"again": True}
"""Marks what was said of an image before and is true of another one too; the summary counts it."""

LINES = {"lines": True}
"""Marks entries of the log that have several lines."""


@contextlib.contextmanager
def logging_to(folder: Path | None, options: "LogOptions") -> Iterator["LogFile | None"]:
    """Sends the program's log to the terminal, or the pipe, and to a file in ``folder`` if there is one: that it gives.

    Raises:
        UsageError: the log file cannot be written.
    """
    # Only our own log: at the level DEBUG the libraries fill pages.
    logger = logging.getLogger("anonymise")
    console = _Console()
    # On a terminal the progress bar says that all is well; in a pipe only lines can, and they may be all that is kept.
    is_terminal = sys.stderr.isatty()
    console.setLevel(logging.WARNING if is_terminal else logging.INFO)
    console.addFilter(
        lambda record: not hasattr(record, "file_only") and not (is_terminal and hasattr(record, "again"))
    )
    console.setFormatter(_Lines("%(levelname)s: %(message)s"))
    handlers: list[logging.Handler] = [console]
    to_file = None
    if folder is not None:
        now = datetime.now().astimezone().strftime(options.datetime_format)
        file = folder / options.log_file_name.format(datetime=now, hostname=socket.gethostname())
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            to_file = LogFile(file, encoding="utf-8", errors="backslashreplace")
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise UsageError(f"The log file {file} cannot be written: {reason or error} (-l)") from error
        to_file.setFormatter(_Lines("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        handlers.append(to_file)
    logger.setLevel(options.log_level)
    logger.propagate = False
    for handler in handlers:
        logger.addHandler(handler)
    try:
        yield to_file
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
            with contextlib.suppress(OSError):  # a log share that is gone
                handler.close()


class _Lines(logging.Formatter):
    """One entry, one line: names and texts from outside cannot begin another."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - as logging has it
        record.message = lines_of(record.message) if hasattr(record, "lines") else printable(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return "\n".join(f"    {printable(line)}" for line in super().formatException(ei).split("\n"))


class _Console(logging.StreamHandler[Any]):
    """Lines on the standard error, above the progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        try:
            tqdm.write(self.format(record), file=sys.stderr)
        except Exception:  # noqa: BLE001 - as every handler of logging does it
            self.handleError(record)


class LogFile(logging.FileHandler):
    """A log file whose loss does not stop the run: lines that cannot be written are only on the terminal."""

    is_lost = False

    @property
    def path(self) -> Path:
        """Path of the file."""
        return Path(self.baseFilename)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - as logging has it
        """Says once that lines are lost."""
        if not self.is_lost:
            self.is_lost = True
            print(f"anonymise: the log file {printable(self.path)} cannot be written", file=sys.stderr)
