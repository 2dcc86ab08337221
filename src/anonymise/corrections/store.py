"""The store of corrections: rows that nobody changes, and a chain of events that shows if somebody did.

SQLite with a rollback journal, in a folder of its own. Every change is one transaction; SQLite's lock admits one writer
at a time, and readers always see whole changes. A crash loses the change that was under way and nothing else.
"""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from anonymise.core.errors import UsageError
from anonymise.corrections.correction import (
    IN_FORCE,
    SOURCES,
    STATUSES,
    Correction,
    Rows,
    checked,
    new_id,
    sha256_of,
    utc_now,
)
from anonymise.corrections.file import StoreFile
from anonymise.corrections.rowfiles import Row

__all__ = ["ENDED", "IN_FORCE", "SOURCES", "STATUSES", "Correction", "Rows", "Store", "new_id", "utc_now"]


_COLUMNS = tuple(field.name for field in fields(Correction))
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM correction"  # noqa: S608 - our own names
_INSERT = (
    f"INSERT INTO correction ({', '.join(_COLUMNS)}) VALUES "  # noqa: S608
    f"({', '.join('CAST(? AS TEXT)' if name == 'relative' else '?' for name in _COLUMNS)})"
)
_BY = "EXISTS (SELECT 1 FROM correction {s} WHERE {s}.supersedes = {of}.id AND {s}.status IN ({statuses})"
_STATUSES = ", ".join(f"'{status}'" for status in sorted(IN_FORCE))
_UNDONE = _BY.format(s="u", of="{of}", statuses=_STATUSES) + " AND u.kind IS NULL)"
_TAKEN_BACK = _UNDONE.format(of="correction")
ENDED = f"{_BY.format(s='s', of='correction', statuses=_STATUSES)} AND NOT {_UNDONE.format(of='s')})"
"""SQL condition: another row in force, which is not undone itself, supersedes this one."""


class Store(StoreFile):
    """The corrections in a folder.

    Raises:
        StorageError: of all methods: the store cannot be read or written.
    """

    def of_image(self, relative: str) -> Rows:
        """The corrections of an image."""
        found = self.select(f"relative = CAST(? AS TEXT) AND NOT {ENDED} ORDER BY id", [_bytes(relative)])
        in_force = tuple(row for row in found if row.kind and row.status in IN_FORCE)
        waiting = (row.id for row in found if row.status in ("accepted", "failed"))
        return Rows(in_force, tuple(waiting))

    def select(self, where: str = "1", values: Sequence[object] = ()) -> list[Correction]:
        """The corrections that meet a condition in SQL."""
        return [_correction(row) for row in self.read(f"{_SELECT} WHERE {where}", values)]

    def digests(self) -> dict[str, str]:
        """`Correction.relative` of each image with corrections in force → `Rows.digest`."""
        return {relative: Rows(tuple(rows)).digest for relative, rows in self.in_force()}

    def in_force(self) -> Iterator[tuple[str, Iterator[Correction]]]:
        """The corrections in force, by `Correction.relative`; those of an image by id.

        As with `itertools.groupby`, those of an image are gone once the next image is asked for.
        """
        found = self.select(f"kind IS NOT NULL AND status IN ({_STATUSES}) AND NOT {ENDED} ORDER BY relative, id")
        return itertools.groupby(found, lambda row: row.relative)

    def proposed(self, relative: str | None = None) -> list[Correction]:
        """What nobody has accepted or rejected, of all images or of one, the oldest first."""
        where = f"status = 'proposed' AND kind IS NOT NULL AND NOT {ENDED}"
        if relative is None:
            return self.select(f"{where} ORDER BY id")
        return self.select(f"relative = CAST(? AS TEXT) AND {where} ORDER BY id", [_bytes(relative)])

    def waiting(self, *statuses: str) -> frozenset[str]:
        """`Correction.relative` of the images that a run has to do because of corrections.

        Args:
            statuses: of the corrections; "accepted" and "failed" if there are none.
        """
        named = ", ".join(f"'{status}'" for status in statuses or ("accepted", "failed"))
        sql = f"SELECT DISTINCT relative FROM correction WHERE status IN ({named}) AND NOT {ENDED}"  # noqa: S608
        return frozenset(relative for (relative,) in self.read(sql))

    def counts(self, batch: str | None = None) -> dict[str, int]:
        """Status → number of corrections, of all or of one batch; those that undo others are not counted."""
        rows = self.read(
            f"SELECT CASE WHEN {ENDED} THEN 'undone' ELSE status END AS s, COUNT(*) FROM correction "  # noqa: S608
            "WHERE kind IS NOT NULL AND (? IS NULL OR batch = ?) GROUP BY s",
            [batch, batch],
        )
        return {status: dict(rows).get(status, 0) for status in STATUSES}

    def add(self, rows: Iterable[Correction], who: str) -> list[str]:
        """Puts corrections in, unless they are there already and not undone; gives the ids of those put in.

        A row with ``supersedes`` ends another one, from when it is accepted.

        Args:
            rows: the corrections. The store gives ids and times to those without.
            who: pseudonym of who does it.

        Raises:
            StorageError: the store cannot be written.
            ValueError: a row makes no sense.
        """
        whole = [checked(row) for row in rows]
        with self.changing() as connection:
            added = []
            for row in whole:
                if self._has(row):
                    continue
                now = utc_now()
                row = replace(
                    row,
                    id=row.id or new_id(),
                    created=row.created or now,
                    status_at=row.status_at or now,
                    status_by=row.status_by or who,
                )
                values = [getattr(row, name) for name in _COLUMNS]
                values[_COLUMNS.index("relative")] = _bytes(row.relative)
                connection.execute(_INSERT, values)
                self.note(who, "put", row.id, f"{row.status} {sha256_of(row.content())}")
                added.append(row.id)
        return added

    def _has(self, row: Correction) -> bool:
        if row.id:
            return bool(self.read("SELECT 1 FROM correction WHERE id = ?", [row.id]))
        sql = (
            "SELECT 1 FROM correction WHERE relative = CAST(? AS TEXT) AND kind IS ? AND category = ? AND shape IS ? "  # noqa: S608
            f"AND source = ? AND batch = ? AND supersedes IS ? AND (status <> 'unmatched' OR reason IS ?) "
            f"AND NOT {_TAKEN_BACK} LIMIT 1"
        )
        same = (row.kind, row.category, row.shape, row.source, row.batch, row.supersedes, row.reason)
        return bool(self.read(sql, [_bytes(row.relative), *same]))

    def undo(self, who: str, *, ids: Sequence[str] = (), batch: str | None = None, source: str | None = None) -> int:
        """Ends corrections by rows that supersede them; gives their number.

        Args:
            who: pseudonym of who does it.
            ids: of the corrections.
            batch: instead of ``ids``, all corrections of this group that were not rejected.
            source: with ``batch``, only those of this source.

        Raises:
            UsageError: there is no such correction, or it was undone before.
        """
        with self.changing():
            where = f"kind IS NOT NULL AND NOT {ENDED} AND "
            rows = [row for id_ in ids for row in self.select(f"{where} id = ?", [id_])]
            if batch is not None:
                which = "status <> 'rejected' AND batch = ? AND source = IFNULL(?, source)"
                rows = self.select(f"{where} {which}", [batch, source])
            if missing := set(ids).difference(row.id for row in rows):
                raise UsageError(f"{min(missing)}: there is no such correction, or it was undone before")
            return len(self.add([_undoing(row, who) for row in rows], who))

    def decide(self, who: str, ids: Sequence[str], status: str, reason: str = "") -> None:
        """Accepts or rejects proposed corrections.

        Args:
            who: pseudonym of who decides.
            ids: of the corrections.
            status: "accepted" or "rejected".
            reason: code of the reason.

        Raises:
            UsageError: one of them is not there or not proposed; none is changed.
        """
        with self.changing():
            for id_ in ids:
                if self.read("SELECT status FROM correction WHERE id = ?", [id_]) != [("proposed",)]:
                    raise UsageError(f"{id_}: there is no such correction that is proposed")
            self.set_status(ids, status, who, reason)

    def set_status(self, ids: Iterable[str], status: str, who: str, detail: str = "") -> None:
        """Gives corrections a status; those that have it already stay as they are."""
        with self.changing() as connection:
            for id_ in ids:
                now = utc_now()
                done = connection.execute(
                    "UPDATE correction SET status = ?, status_at = ?, status_by = ? WHERE id = ? AND status <> ?",
                    [status, now, who, id_, status],
                )
                if done.rowcount:
                    self.note(who, "status", id_, f"{status} {detail}".strip())

    def note(self, who: str, what: str, correction_id: str | None, detail: str = "") -> None:
        """Appends an event to the chain, within `changing`."""
        n, previous = self._last()
        event = (n + 1, utc_now(), who, what, correction_id, detail, previous)
        with self.changing() as connection:
            connection.execute("INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?)", [*event, _event_hash(event)])

    def events(self, correction_id: str) -> list[tuple[str, str, str, str]]:
        """What happened to a correction: when, who, what, and details, in order."""
        return self.read("SELECT at, who, what, detail FROM event WHERE correction_id = ? ORDER BY n", [correction_id])

    def last_hash(self) -> str:
        """Hash of the last event; empty before the first."""
        return self._last()[1]

    def _last(self) -> tuple[int, str]:
        """Number and hash of the last event."""
        last = self.read("SELECT n, hash FROM event ORDER BY n DESC LIMIT 1")
        return (last[0][0], last[0][1]) if last else (0, "")

    def fault(self) -> str | None:
        """What somebody changed in the store behind its back; None if chain and corrections fit each other."""
        with self._lock, self._errors():
            is_changing = self._connection.in_transaction
            if not is_changing:
                self._connection.execute("BEGIN")  # events and corrections of one moment
            try:
                return self._fault()
            finally:
                if not is_changing:
                    self._connection.execute("ROLLBACK")

    def _fault(self) -> str | None:
        previous = ""
        contents: dict[str, str] = {}
        statuses: dict[str, str] = {}
        events = self._connection.execute("SELECT * FROM event ORDER BY n")
        for count, (*event, hash_) in enumerate(events, start=1):
            n, _, _, what, id_, detail, before = event
            if n != count or before != previous or hash_ != _event_hash(event):
                return f"event {n} does not fit the chain"
            previous = hash_
            if what == "put":
                statuses[id_], contents[id_] = detail.split(" ")
            elif what == "status":
                statuses[id_] = detail.partition(" ")[0]
        for row in self.select():
            if contents.pop(row.id, None) != sha256_of(row.content()) or statuses[row.id] != row.status:
                return f"correction {row.id} is not as its events say"
        return f"correction {min(contents)} is gone" if contents else None

    def exported(self) -> Iterator[str]:
        """Each correction as a line of JSON, by id."""
        for row in self.select("1 ORDER BY id"):
            yield json.dumps(row.as_dict(), sort_keys=True)

    def imported(self, rows: Iterable[tuple[str, Row]], who: str) -> int:
        """Takes rows in that `exported` gave; those that are here stay. Gives the number of new ones.

        Args:
            rows: places and rows, as `rowfiles` gives them.
            who: pseudonym of who does it.

        Raises:
            UsageError: a row is no correction; nothing is taken in.
        """
        found = []
        for place, values in rows:
            try:
                if isinstance(values, ValueError):
                    raise values
                row = checked(Correction(**values))
            except (ValueError, TypeError) as error:
                raise UsageError(f"{place}: no correction: {error}") from error
            # What was drawn elsewhere may not be drawn here.
            found.append(replace(row, status="accepted") if row.status in IN_FORCE else row)
        return len(self.add(found, who))


def _undoing(row: Correction, who: str) -> Correction:
    # Of what was never in force there is nothing to draw.
    status = "accepted" if row.status in IN_FORCE else "drawn"
    return replace(row.fresh(), kind=None, shape=None, supersedes=row.id, author=who, reason=None, status=status)


def _correction(row: tuple[Any, ...]) -> Correction:
    values: Mapping[str, Any] = dict(zip(_COLUMNS, row, strict=True))
    return Correction(**{**values, "padding": bool(values["padding"])})


def _event_hash(event: Sequence[object]) -> str:
    return sha256_of(json.dumps(list(event)))


def _bytes(relative: str) -> bytes:
    # Names that are no Unicode come from old disks.
    return relative.encode("utf-8", "surrogateescape")
