"""The journal's SQLite file: where it is, its schema, its errors, and waiting while it is out of reach.

Every use opens a connection of its own. So nothing is held open on a share that may go away and come back.

The file keeps SQLite's rollback journal: write-ahead logging needs memory that all users of the file share, which there
is not between the machines of a network share (https://www.sqlite.org/wal.html, "Disadvantages"). The rollback journal
is cut to nothing after each transaction rather than deleted, because deleting is slow on shares and sometimes fails.
"""

import json
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

from anonymise.batch.journal.entries import Written, files_to_text
from anonymise.batch.patience import Patience
from anonymise.batch.shards import Shard, shards_of, state_folder
from anonymise.core.errors import StorageError
from anonymise.database import outbox

__all__ = [
    "as_storage_errors",
    "checked_version",
    "connected",
    "decoded",
    "encoded",
    "has_journal",
    "journal_file",
    "journal_files",
    "prepare",
    "while_reachable",
]

_T = TypeVar("_T")

_APPLICATION_ID = 0x414E4F4E
"""Marks the file as ours; "ANON" in ASCII."""

SCHEMA: tuple[tuple[str, ...], ...] = (
    (
        # Clustered by path, the order of the walk: neighbours are written, and later read, together.
        """CREATE TABLE image (
            relative TEXT PRIMARY KEY,
            size INTEGER,
            mtime_ns INTEGER,
            digest TEXT NOT NULL,
            state TEXT NOT NULL CHECK (state IN ('started', 'finished', 'failed')),
            attempts INTEGER NOT NULL,
            stage TEXT,
            reason TEXT,
            started TEXT NOT NULL,
            ended TEXT,
            written TEXT NOT NULL DEFAULT '[]',
            objects TEXT NOT NULL DEFAULT '{}'
        ) WITHOUT ROWID""",
    ),
    outbox.SCHEMA,
    (
        "ALTER TABLE image ADD COLUMN source TEXT",
        "ALTER TABLE image ADD COLUMN content TEXT",
        "ALTER TABLE image ADD COLUMN instances TEXT NOT NULL DEFAULT '{}'",
        # Before, a file was noted with its name; the kind gives the name, and is the same text for all images.
        "UPDATE image SET written = CAST(as_kinds(CAST(written AS BLOB)) AS TEXT)",
    ),
)
"""Element n brings a file from version n to n + 1. A new version is a new element; those that are out stay as they are.

Other tables about an image, such as rows that wait for a database, refer to ``image(relative)``; their changes are
pending together with the image's own, and so share its transaction.
"""

BUSY_SECONDS = 10.0
"""How long SQLite itself waits for another user of the file, before this module's own waiting begins."""

# By the text, because Python 3.10 does not tell SQLite's error codes.
_STOPS_THE_RUN = {"is full": "the disk is full", "readonly": "the file or its disk is read-only"}


def journal_file(output: Path, shard: Shard | None = None) -> Path:
    """Where the journal of an output folder stands, or that of one of its shards."""
    return state_folder(output, shard) / "journal.sqlite"


def journal_files(output: Path) -> list[Path]:
    """The journals that an output folder has, be they readable or not: its own, and those of its shards.

    Raises:
        StorageError: the folder cannot be looked into.
    """
    files = [journal_file(output), *(journal_file(output, shard) for shard in shards_of(output))]
    found = []
    for file in files:
        try:
            file.stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise StorageError(f"The journal {file} cannot be read: {error.strerror or error}") from error
        found.append(file)
    return found


def has_journal(output: Path) -> bool:
    """Whether an output folder has a journal.

    Raises:
        StorageError: as `journal_files`.
    """
    return bool(journal_files(output))


def connected(file: Path) -> sqlite3.Connection:
    """A connection of its own, without transactions that begin by themselves; text may be undecodable names."""
    connection = sqlite3.connect(file, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        connection.text_factory = decoded
        connection.execute("PRAGMA journal_mode = TRUNCATE")
        connection.execute("PRAGMA synchronous = FULL")
    except BaseException:
        connection.close()
        raise
    return connection


def prepare(file: Path) -> None:
    """Creates the file, or brings it to the current version.

    Raises:
        StorageError: this program cannot read the file.
    """
    with closing(connected(file)) as connection:
        version = checked_version(connection, file)
        if version == len(SCHEMA):
            return
        connection.create_function("as_kinds", 1, _as_kinds, deterministic=True)
        connection.execute("BEGIN EXCLUSIVE")
        for statements in SCHEMA[version:]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(SCHEMA)}")
        connection.execute("COMMIT")


def checked_version(connection: sqlite3.Connection, file: Path) -> int:
    """The version of a journal's schema; 0 is an empty file.

    Raises:
        StorageError: this program cannot read it.
    """
    application_id: int = connection.execute("PRAGMA application_id").fetchone()[0]
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    is_empty: bool = connection.execute("SELECT COUNT(*) = 0 FROM sqlite_master").fetchone()[0]
    if application_id != _APPLICATION_ID and not is_empty:
        raise StorageError(f"{file} is another program's database, not a journal; move it away. {_WITHOUT_JOURNAL}")
    if version > len(SCHEMA):
        raise StorageError(
            f"The journal {file} was written by a newer version of this program (format {version}, this one knows "
            f"{len(SCHEMA)}); update the program, or choose another output folder (-o)."
        )
    return version


def while_reachable(file: Path, operation: Callable[[], _T], *, retry_seconds: float, timeout_seconds: float) -> _T:
    """Runs ``operation``; while the file is out of reach, waits and tries again.

    Raises:
        StorageError: it stayed out of reach, or waiting cannot help.
    """
    patience = Patience(retry_seconds, timeout_seconds)
    while True:
        try:
            return operation()
        except sqlite3.OperationalError as error:
            for text, reason in _STOPS_THE_RUN.items():
                if text in str(error):
                    raise StorageError(f"The journal {file} cannot be written: {reason}.") from error
            if (fault := _why_not_opened(file)) is not None:
                raise StorageError(f"The journal {file} cannot be read or written: {fault}") from error
            if not patience.wait(f"The journal {file}", error):
                since = f"(since {timeout_seconds:g} s: file_access_timeout_seconds)"
                raise StorageError(f"{_out_of_reach(file, error)} {since}") from error
        except (sqlite3.DatabaseError, ValueError, TypeError) as error:
            raise StorageError(_damaged(file, error)) from error


@contextmanager
def as_storage_errors(file: Path) -> Iterator[None]:
    """Turns SQLite's errors into ours."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise StorageError(_out_of_reach(file, error)) from error
    except (sqlite3.DatabaseError, ValueError, TypeError) as error:  # the latter where a value makes no sense
        raise StorageError(_damaged(file, error)) from error


_WITHOUT_JOURNAL = "Without a journal a run does all images again."


def _damaged(file: Path, error: Exception) -> str:
    return (
        f"The journal {file} is damaged ({error}); put back a copy from a backup, or move it away together with "
        f"{file.name}-journal. {_WITHOUT_JOURNAL}"
    )


def _why_not_opened(file: Path) -> str | None:
    """Why a file that is there cannot be opened, so that it is no use to wait for it; None if it can, or is gone."""
    try:
        with file.open("r+b"):
            return None
    except IsADirectoryError as error:
        return error.strerror
    except PermissionError as error:
        # On Windows also while somebody looks at the file, and where it is a folder.
        return error.strerror if sys.platform != "win32" or file.is_dir() else None
    except OSError:
        return None


def _out_of_reach(file: Path, error: sqlite3.OperationalError) -> str:
    hint = (
        "; another program holds it, or the share cannot lock parts of files (a CIFS share on Linux: mount it with "
        "the option nobrl)"
        if "locked" in str(error)
        else ""
    )
    return f"The journal {file} cannot be read or written: {error}{hint}"


_KIND_OF_ENDING = {"_instances.json": "instances", ".json": "json", "_preview.jpg": "preview", "_mask.png": "mask"}
"""How earlier versions named files in the journal → what kind of file it is."""


def _as_kinds(written: bytes) -> bytes:
    """The files of an image as earlier versions noted them (tree, path), as they are noted now (tree, kind)."""
    files = [
        Written(
            place,
            "colmap_mask"
            if place == "colmap"
            else next((kind for ending, kind in _KIND_OF_ENDING.items() if name.endswith(ending)), "image"),
        )
        for place, name in json.loads(decoded(written))
    ]
    return files_to_text(files).encode("ascii")


def encoded(text: str) -> bytes:
    """A path as it is bound: as bytes and cast, because names of old disks are not always Unicode."""
    return text.encode("utf-8", sys.getfilesystemencodeerrors())


def decoded(data: bytes) -> str:
    """What `encoded` was given."""
    return data.decode("utf-8", sys.getfilesystemencodeerrors())
