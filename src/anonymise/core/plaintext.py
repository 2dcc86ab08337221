"""Text from outside (names of files, values out of images, answers of servers) on its way to people."""

import difflib
import unicodedata
from collections.abc import Iterable

__all__ = ["csv_cell", "did_you_mean", "is_unicode", "lines_of", "plural", "printable", "shown"]

_MAX_SHOWN = 80
"""Characters of a value that a message quotes."""

_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode's categories of control, format and half characters and of line breaks: none of them is seen, and some forge
lines, move the cursor or turn the direction of what follows."""


def printable(text: object) -> str:
    r"""A text in one line, in which every character that cannot be seen is written as an escape, such as ``\n``."""
    return "".join(
        char.encode("unicode_escape").decode("ascii") if unicodedata.category(char) in _INVISIBLE else char
        for char in str(text)
    )


def lines_of(text: object) -> str:
    """A text of ours that may have several lines, each of them as `printable` has it."""
    return "\n".join(map(printable, str(text).split("\n")))


def is_unicode(text: str, *, of_file: bool = False) -> bool:
    """Whether a text can be written as UTF-8, which a lone surrogate cannot.

    Args:
        text: any text.
        of_file: whether it is the name of a file, whose bytes that are no UTF-8 may stand in it (PEP 383).
    """
    try:
        text.encode("utf-8", "surrogateescape" if of_file else "strict")
    except UnicodeEncodeError:
        return False
    return True


def csv_cell(text: object) -> str:
    """A text as a cell of a CSV file.

    Spreadsheets take a cell that begins with one of ``=+-@`` for a formula, which can send what is in the table to
    others. An apostrophe in front makes it a text.
    """
    cell = printable(text)
    return f"'{cell}" if unicodedata.normalize("NFKC", cell[:1]).startswith(("=", "+", "-", "@")) else cell


def plural(n: int, what: str) -> str:
    """``1 image``, ``2 images``."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def shown(value: object) -> str:
    """A value as a message quotes it: as YAML has it, and not too long."""
    text = "null" if value is None else repr(value)
    return printable(text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…")


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """``; did you mean X?`` for a word that is nearly a known one, else nothing."""
    by_lower = {name.lower(): name for name in reversed(tuple(known))}
    near = difflib.get_close_matches(str(word).lower(), by_lower, n=1)
    return f"; did you mean {by_lower[near[0]]}?" if near else ""
