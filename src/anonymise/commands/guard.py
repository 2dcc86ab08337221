"""Errors of commands → a message and an exit code."""

import contextlib
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

from anonymise.commands import streams
from anonymise.core.errors import AnonymiseError, ExitCode, StopError, UsageError
from anonymise.core.plaintext import lines_of, printable

__all__ = ["Fault", "guarded"]


class Fault(Exception):
    """An unexpected error.

    Attributes:
        log_file: the file that has its traceback.
    """

    def __init__(self, log_file: Path) -> None:
        super().__init__()
        self.log_file = log_file


def guarded(command: Callable[[], int], *, prints_result: bool = False) -> int:
    """The exit code of a command, whose errors become a message instead of a traceback.

    Args:
        command: gives the exit code.
        prints_result: whether what it prints is what it is for, so that losing that is an error.
    """
    streams.make_safe()
    try:
        code = command()
    except UsageError as error:
        return _complain(error, ExitCode.USAGE)
    except StopError as error:
        return _complain(error, ExitCode.STOPPED)
    except AnonymiseError as error:
        return _complain(error, ExitCode.IMAGES_FAILED)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return ExitCode.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - what nobody expected
        return _apologise(error)
    if (lost := streams.lost_output()) is not None:
        print(f"anonymise: the standard output is not complete: {lost}", file=sys.stderr)
        return ExitCode.STOPPED if prints_result else code
    return code


def _apologise(error: Exception) -> int:
    """Says in one line what happened and where the traceback is."""
    cause, file = error, None
    if isinstance(error, Fault):
        assert isinstance(error.__cause__, Exception)  # it is raised from nothing else
        cause, file = error.__cause__, error.log_file
    else:
        text = "".join(traceback.format_exception(cause))
        with contextlib.suppress(OSError):
            handle, name = tempfile.mkstemp(prefix="anonymise-traceback-", suffix=".txt")
            with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as stream:
                stream.write(text)
            file = Path(name)
        if file is None:
            print(text, file=sys.stderr)
    where = "stands above" if file is None else f"is in {file}"
    reason = printable(f"{type(cause).__name__}: {cause}")
    print(
        f"anonymise: a fault of the program: {reason}. What is finished stays. The traceback {printable(where)}; "
        "please send it to the developers",
        file=sys.stderr,
    )
    return ExitCode.FAULT


def _complain(error: AnonymiseError, code: ExitCode) -> ExitCode:
    # Several lines where several things are wrong; what is foreign in them is escaped already.
    print(f"anonymise: {lines_of(error)}", file=sys.stderr)
    return code
