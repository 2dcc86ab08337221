"""One correction: what somebody says of a part of a picture. Values only."""

import hashlib
import json
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from anonymise.core.classes import unknown_classes
from anonymise.core.detections import Size
from anonymise.core.plaintext import is_unicode
from anonymise.corrections.shapes import canonical

__all__ = ["IN_FORCE", "SOURCES", "STATUSES", "Correction", "Rows", "checked", "new_id", "sha256_of", "utc_now"]

STATUSES = ("proposed", "accepted", "drawn", "rejected", "unmatched", "stale", "failed", "undone")
"""Of a correction. An undone one is superseded by a row in force; that is no status of its own in the table."""

IN_FORCE = frozenset({"accepted", "drawn", "stale", "failed"})
"""Statuses of corrections that every run applies."""

SOURCES = ("external", "report", "review", "import")
"""Kinds of systems that corrections come from."""

_MAX_TEXT = 4096

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Of a ULID (https://github.com/ulid/spec)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """What somebody says of a part of a picture.

    Attributes:
        relative: path of the image below the input folder, with ``/``; of an unmatched one, how its sender calls it.
        width: width in pixels of the frame that the shape is in: the stored pixels of the original.
        height: height of the same frame.
        kind: "add" hides the shape, "remove" says that a find of the model there is none, None ends another row.
        category: name of a class, or "other".
        shape: JSON text, as in `shapes`; None where ``kind`` is.
        source: one of `SOURCES`.
        batch: name of a group of rows.
        author: pseudonym of a person, or name of a system.
        created: time in UTC, RFC 3339.
        sha256: SHA-256 of the original's bytes, where that is known.
        reason: code of the reason.
        supersedes: id of the row that this one ends.
        padding: whether the margins of the configuration are added.
        id: ULID; the store gives one to a row without.
        status: one of `STATUSES`.
        status_at: when that came about.
        status_by: who says so.
    """

    relative: str
    width: int
    height: int
    kind: str | None
    category: str
    shape: str | None
    source: str
    batch: str
    author: str
    created: str = ""
    sha256: str | None = None
    reason: str | None = None
    supersedes: str | None = None
    padding: bool = True
    id: str = ""
    status: str = "accepted"
    status_at: str = ""
    status_by: str = ""

    @property
    def size(self) -> Size:
        """Size of the frame that the shape is in."""
        return Size(self.width, self.height)

    def fresh(self) -> "Correction":
        """The same as a new row in force."""
        return replace(self, id="", created="", status="accepted", status_at="", status_by="")

    def as_dict(self) -> dict[str, Any]:
        """Name of a field → value, as JSON has it: the shape as an object."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return values | {"shape": None if self.shape is None else json.loads(self.shape)}

    def content(self) -> str:
        """What no one may change, as JSON text."""
        return json.dumps({name: getattr(self, name) for name in self.__slots__ if not name.startswith("status")})


@dataclass(frozen=True, slots=True)
class Rows:
    """The corrections of one image, of one moment.

    Attributes:
        in_force: those that apply, by id.
        waiting: ids of those, undoing ones included, that no run has drawn yet.
    """

    in_force: tuple[Correction, ...] = ()
    waiting: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Changes with what applies; empty where nothing does."""
        return sha256_of("\n".join(row.content() for row in self.in_force))[:32] if self.in_force else ""


def checked(row: Correction) -> Correction:
    """The row with its shape as the store writes it.

    Raises:
        ValueError: it makes no sense.
    """
    texts = (row.relative, row.category, row.source, row.batch, row.author)
    if not all(isinstance(text, str) and text for text in texts):
        raise ValueError("relative, category, source, batch and author are texts")
    others = (row.created, row.id, row.status_at, row.status_by, row.sha256, row.reason, row.supersedes)
    for text in (*texts, *(other for other in others if other is not None)):
        if not isinstance(text, str) or len(text) > _MAX_TEXT:
            raise ValueError(f"no text: {str(text)[:40]!r}, or one of more than {_MAX_TEXT} characters")
        if not is_unicode(text, of_file=text is row.relative):
            raise ValueError(f"no text: {text[:40]!r} is not valid Unicode")
    known: Mapping[str, tuple[object, ...]] = {
        "source": SOURCES,
        "kind": ("add", "remove", None),
        "status": STATUSES[:-1],
        "padding": (True, False),
    }
    for name, values in known.items():
        if (value := getattr(row, name)) not in values:
            raise ValueError(f"{name} {value!r} is not one of {', '.join(map(str, values))}")
    if row.relative.startswith("/") or ".." in row.relative.split("/"):
        raise ValueError(f"no picture: {row.relative} is no path below the input folder")
    if problem := unknown_classes(row.category):
        raise ValueError(problem)
    if not all(isinstance(side, int) and 0 < side < 1 << 31 for side in row.size):
        raise ValueError("width and height are whole numbers above 0")
    if row.sha256 is not None and re.fullmatch("[0-9a-f]{64}", row.sha256) is None:
        raise ValueError("sha256 is 64 hexadecimal digits in lower case")
    if row.kind is None:
        if not row.supersedes:
            raise ValueError("a row without kind supersedes another")
        return replace(row, shape=None)
    shape = json.loads(row.shape) if isinstance(row.shape, str) else row.shape
    return replace(row, shape=canonical(shape, row.size), padding=bool(row.padding))


def sha256_of(text: str) -> str:
    """SHA-256 of a text, in hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def new_id() -> str:
    """A ULID: milliseconds since the epoch, and 80 random bits."""
    number = int(time.time() * 1000) << 80 | secrets.randbits(80)
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))


def utc_now() -> str:
    """The time in UTC, RFC 3339 with milliseconds."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
