"""What reviewers decided: rows that nobody changes, in the store of corrections, each with an event in its chain."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from anonymise.core.errors import UsageError
from anonymise.corrections.store import ENDED, Correction, Store, new_id

__all__ = ["VERDICTS", "Decision", "Decisions"]

VERDICTS = ("good", "missed", "false", "both", "broken", "flagged")

_TABLES = (
    """CREATE TABLE IF NOT EXISTS review_decision (
        id TEXT PRIMARY KEY, relative TEXT NOT NULL, version TEXT NOT NULL, who TEXT NOT NULL, verdict TEXT,
        opened TEXT NOT NULL, decided TEXT NOT NULL, seconds REAL NOT NULL, queue TEXT NOT NULL, seed INTEGER,
        supersedes TEXT) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS review_decision_superseded ON review_decision (supersedes) "
    "WHERE supersedes IS NOT NULL",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What somebody said of a picture.

    Attributes:
        relative: path of the picture, with ``/``.
        version: of the picture that was looked at.
        who: pseudonym.
        verdict: one of `VERDICTS`; None ends another decision.
        opened: when the picture was shown; UTC, RFC 3339.
        decided: when that was decided.
        seconds: of activity.
        queue: kind of the queue that it came from.
        seed: of the random sample; None outside of one.
        supersedes: id of the decision that this one ends.
        id: ULID.
    """

    relative: str
    version: str
    who: str
    verdict: str | None
    opened: str
    decided: str
    seconds: float
    queue: str
    seed: int | None = None
    supersedes: str | None = None
    id: str = ""

    @property
    def batch(self) -> str:
        """Batch of the corrections that came with it."""
        return f"review-{self.id}"

    @property
    def is_look(self) -> bool:
        """Whether somebody looked for what was missed, and said so."""
        return self.verdict in ("good", "missed", "false", "both")

    @property
    def has_miss(self) -> bool:
        """Whether something was missed."""
        return self.verdict in ("missed", "both")

    def digest(self) -> str:
        """SHA-256 of all that it says."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


_COLUMNS = tuple(field.name for field in fields(Decision))


class Decisions:
    """The decisions in a store of corrections. May be used from several threads.

    Args:
        store: of the corrections.

    Raises:
        StorageError: the store cannot be read, or is of a newer version of this program.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        store.tables(_TABLES)

    def add(
        self, decision: Decision, corrections: Iterable[Correction], settled: Sequence[tuple[str, str]] = ()
    ) -> Decision:
        """Stores a decision with its corrections, all or nothing; it is on the disk when this returns.

        Args:
            decision: without id.
            corrections: what was missed and what was false; they get the batch of the decision.
            settled: id → "accepted" or "rejected", of proposed corrections that it settles.

        Returns:
            The decision with its id.

        Raises:
            StorageError: the store cannot be written.
            ValueError: a correction makes no sense; nothing is stored.
        """
        row = replace(decision, id=new_id())
        with self.store.changing():
            self._insert(row)
            self.store.add([replace(one, batch=row.batch) for one in corrections], row.who)
            for id_, status in settled:
                self.store.set_status([id_], status, row.who)
                self.store.note(row.who, "settled", id_, row.id)
        return row

    def undo(self, id_: str, who: str, now: str, *, others: bool) -> Decision:
        """Ends a decision and its corrections by rows that supersede them; gives the decision.

        Args:
            id_: of the decision.
            who: pseudonym of who does it.
            now: the time.
            others: whether decisions of other people may be undone.

        Raises:
            UsageError: there is no such decision in force, or it is somebody else's.
        """
        with self.store.changing():
            found = [row for row in self.in_force() if row.id == id_ and (others or row.who == who)]
            if not found:
                raise UsageError("there is no such decision of yours, or it was undone before")
            row = found[0]
            self._insert(replace(row, id=new_id(), who=who, verdict=None, decided=now, supersedes=row.id))
            self.store.undo(who, batch=row.batch)
            settled = self.store.read("SELECT correction_id FROM event WHERE what = 'settled' AND detail = ?", [row.id])
            self.store.set_status([id_ for (id_,) in settled], "proposed", who)
            return row

    def _insert(self, row: Decision) -> None:
        with self.store.changing() as connection:
            values = [getattr(row, name) for name in _COLUMNS]
            marks = ", ".join("CAST(? AS TEXT)" if name == "relative" else "?" for name in _COLUMNS)
            values[0] = row.relative.encode("utf-8", "surrogateescape")
            connection.execute(f"INSERT INTO review_decision ({', '.join(_COLUMNS)}) VALUES ({marks})", values)  # noqa: S608
            self.store.note(row.who, "decision", None, f"{row.id} {row.digest()}")

    def all(self) -> list[Decision]:
        """All rows, by time."""
        rows = self.store.read(f"SELECT {', '.join(_COLUMNS)} FROM review_decision ORDER BY id")  # noqa: S608
        return [Decision(**dict(zip(_COLUMNS, row, strict=True))) for row in rows]

    def in_force(self) -> list[Decision]:
        """The decisions that count, by time."""
        rows = self.all()
        ended = {row.supersedes for row in rows}
        return [row for row in rows if row.verdict is not None and row.id not in ended]

    def corrections(self) -> dict[str, list[Correction]]:
        """Batch → corrections that came with a decision and count."""
        found: dict[str, list[Correction]] = {}
        for row in self.store.select(f"batch LIKE 'review-%' AND kind IS NOT NULL AND NOT {ENDED} ORDER BY id"):
            found.setdefault(row.batch, []).append(row)
        return found

    def fault(self) -> str | None:
        """What somebody changed behind the store's back; None if decisions and chain fit each other."""
        if (fault := self.store.fault()) is not None:
            return fault
        events: Any = self.store.read("SELECT detail FROM event WHERE what = 'decision'")
        noted = dict(detail.split(" ") for (detail,) in events)
        rows = {row.id: row.digest() for row in self.all()}
        wrong = sorted(id_ for id_ in noted.keys() | rows.keys() if noted.get(id_) != rows.get(id_))
        return f"decision {wrong[0]} is not as its event says" if wrong else None
