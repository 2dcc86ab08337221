"""Reports: received, decided, turned into corrections, and closed once these are drawn.

For the service: `receive` takes in one report, and `public_status` is all that may be told about it.
"""

import csv
import hashlib
import hmac
import itertools
import json
import math
import secrets
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from anonymise.anonymiser import projection_of
from anonymise.config import Config
from anonymise.core.classes import TARGETS
from anonymise.core.detections import Instance, Size
from anonymise.core.errors import ImageError, UsageError
from anonymise.core.orientation import upright_size
from anonymise.core.wraparound import split_at_seam
from anonymise.corrections.shapes import object_of, polygon_text
from anonymise.corrections.store import Correction, Store, utc_now
from anonymise.images import embedded, header
from anonymise.metadata.gpano import read_gpano
from anonymise.reports.angles import Picture, Viewer, outline

__all__ = [
    "REASONS",
    "decide",
    "open_reports",
    "public_status",
    "read_picture",
    "receive",
    "report_statistics",
    "update",
]

ISSUES = ("blur_missing", "blur_excess", "privacy", "other")
CATEGORIES = ("face", "plate", "person", "vehicle", "house", "other")
REASONS = ("seen", "nothing_there", "already_hidden", "no_person", "spam", "wrong_picture")
"""Codes of the reasons for a decision."""

_KEYS = {"relative", "viewpoint", "issue", "category", "convention", "view", "shapes", "reporter", "note"}
_TEXTS = {"relative": 4096, "viewpoint": 4096, "reporter": 254, "note": 1000, "convention": 20}
_OPEN = "('received', 'hidden', 'accepted', 'failed')"
_STEPS = (
    (
        """CREATE TABLE report (
            id TEXT PRIMARY KEY, relative TEXT NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL,
            sha256 TEXT NOT NULL, issue TEXT NOT NULL, category TEXT, sent TEXT NOT NULL, polygons TEXT NOT NULL,
            received TEXT NOT NULL, closed TEXT, reporter TEXT, status TEXT NOT NULL, decided_by TEXT, decided TEXT,
            reason TEXT, note TEXT, duplicate_of TEXT) WITHOUT ROWID""",
        "CREATE INDEX report_of_image ON report (relative)",
        "CREATE INDEX report_duplicate ON report (duplicate_of) WHERE duplicate_of IS NOT NULL",
        "CREATE TABLE report_key AS SELECT hex(randomblob(32)) AS key",
    ),
)


def receive(store: Store, report: object, config: Config, *, once: bool = False) -> str:
    """Takes in a report; gives its id, by which anybody may ask for its state.

    Args:
        store: the corrections; it keeps the reports too.
        report: an object of JSON, as docs/reports.md has it.
        config: names the folder of the originals, and what is hidden at once.
        once: whether the same shapes of the same picture are the same report, as where a list is imported each week.

    Raises:
        ValueError: the report is refused; the text says why and may be shown to the reporter.
        UsageError: the configuration does not say where the originals are.
        StorageError: the store cannot be written.
    """
    options = config.reports
    values = _checked(report)
    relative, data = _original(values, options.reports_originals, options.reports_pictures)
    try:
        picture, frame = read_picture(data, config)
    except ImageError as error:
        raise ValueError(f"the picture cannot be read: {error}") from error
    viewer = Viewer(values["convention"], options.reports_yaw_offset, options.reports_pitch_sign)
    found = [
        outline(shape, viewer, picture, values.get("view"), options.reports_point_degrees) for shape in values["shapes"]
    ]
    if (share := sum(part for _, part in found)) > options.reports_max_share:
        raise ValueError(f"the shapes are {share:.0%} of the picture; {options.reports_max_share:.0%} is the most")
    polygons = [polygon_text(points.tolist()) for points, _ in found]
    sent = json.dumps({key: values.get(key) for key in ("convention", "view", "shapes", "issue")}, sort_keys=True)
    at_once = options.reports_hide == "at_once" and values["issue"] in ("blur_missing", "privacy")
    with store.changing() as connection:
        store.tables("report", _STEPS)
        if once and (known := store.read("SELECT id FROM report WHERE relative = ? AND sent = ?", [relative, sent])):
            return str(known[0][0])
        twin = _twin(store, relative, frame, values["issue"], polygons)
        row = {
            "id": secrets.token_hex(16),
            "relative": relative,
            "width": frame.width,
            "height": frame.height,
            "sha256": hashlib.sha256(data).hexdigest(),
            "issue": values["issue"],
            "category": values.get("category"),
            "sent": sent,
            "polygons": json.dumps(polygons),
            "received": utc_now(),
            "reporter": _hashed(store, values.get("reporter")),
            "note": values.get("note"),
            "status": "duplicate" if twin else "hidden" if at_once else "received",
            "duplicate_of": twin,
        }
        if not twin:
            store.add(_corrections(row, polygons, "accepted" if at_once else "proposed"), "report")
        marks = ", ".join("?" * len(row))
        connection.execute(f"INSERT INTO report ({', '.join(row)}) VALUES ({marks})", [*row.values()])  # noqa: S608
        store.note("public", "report", None, f"{row['id']} {row['status']}")
    return str(row["id"])


def _checked(report: object) -> dict[str, Any]:
    """The values of a report, but for the shapes, which need the picture.

    Raises:
        ValueError: one of them makes no sense.
    """
    if not isinstance(report, Mapping):
        raise ValueError("a report is an object with relative, issue and shapes")
    values = {str(key): value for key, value in report.items() if value is not None}
    if unknown := values.keys() - _KEYS:
        raise ValueError(f"a report has no {min(unknown)!r:.40}; it has {', '.join(sorted(_KEYS))}")
    values = {"issue": "blur_missing", "convention": "centre", **values}
    for key, longest in _TEXTS.items():
        text = values.get(key, "")
        if not isinstance(text, str) or len(text) > longest or any("\ud800" <= char <= "\udfff" for char in text):
            raise ValueError(f"{key} is a text of at most {longest} characters")
    for key, known in (("issue", ISSUES), ("category", CATEGORIES)):
        if key in values and values[key] not in known:
            raise ValueError(f"{key} is one of {', '.join(known)}")
    if values["issue"] == "blur_excess" and TARGETS.get(values.get("category", "")) is None:
        raise ValueError(f"blur_excess needs the category of what is blurred: one of {', '.join(TARGETS)}")
    shapes = values.get("shapes")
    if not isinstance(shapes, list) or not 1 <= len(shapes) <= 20 or not all(isinstance(s, list) for s in shapes):
        raise ValueError("shapes is a list of 1 to 20 lists of corners")
    return values


def _original(values: Mapping[str, Any], folder: str | None, names: str | None) -> tuple[str, bytes]:
    """The path of a picture below the folder of the originals, and its bytes."""
    if folder is None:
        raise UsageError("reports need the folder with the originals (reports_originals: FOLDER)")
    if not Path(folder).is_dir():
        raise UsageError(f"{folder} is no folder (reports_originals)")
    relative = values.get("relative", "")
    if "viewpoint" in values and names is not None:
        try:
            with Path(names).open(encoding="utf-8-sig", newline="") as stream:
                known = {row["id"]: row["relative"] or "" for row in csv.DictReader(stream)}
            relative = known.get(values["viewpoint"], relative)
        except (OSError, UnicodeDecodeError, KeyError, csv.Error) as error:
            raise UsageError(f"reports_pictures {names} is no CSV file with id and relative: {error}") from error
    parts = relative.split("/")
    is_below = relative and not {"", ".", ".."} & set(parts) and not {"\\", ":", "\0"} & set(relative)
    try:
        if is_below and (file := Path(folder, *parts)).is_file():
            return relative, file.read_bytes()
    except OSError as error:
        raise ValueError(f"the picture cannot be read: {error.strerror}") from error
    raise ValueError("the picture is not known here")


def read_picture(data: bytes, config: Config) -> tuple[Picture, Size]:
    """What shapes need to know of an image file, and the size of its stored pixels.

    Raises:
        ImageError: it is no picture.
    """
    found = header(data)
    stored = Size(found.width, found.height)
    try:
        heading = float(read_gpano(embedded(data).xmp, []).get("PoseHeadingDegrees", "nan"))
    except ValueError:
        heading = math.nan
    around = projection_of(data, config)[0]
    known = heading if math.isfinite(heading) else None
    return Picture(upright_size(stored, found.orientation), around, found.orientation, known), stored


def _hashed(store: Store, reporter: str | None) -> str | None:
    """What stays of an address: two reports of one person can be told to be so, and nobody can be written to."""
    ((key,),) = store.read("SELECT key FROM report_key")
    return reporter and hmac.new(key.encode(), reporter.strip().lower().encode(), "sha256").hexdigest()


def _twin(store: Store, relative: str, frame: Size, issue: str, polygons: Sequence[str]) -> str | None:
    """The open report with the same issue that has each of the polygons already."""
    sql = f"SELECT id, polygons, width, height FROM report WHERE relative = ? AND issue = ? AND status IN {_OPEN}"  # noqa: S608
    for id_, texts, *size in store.read(f"{sql} ORDER BY received", [relative, issue]):
        mine = [_parts(polygon, frame) for polygon in polygons]
        others = [_parts(polygon, frame) for polygon in json.loads(texts)] if Size(*size) == frame else []
        if others and all(any(_iou(a, b) > 0.5 for b in others) for a in mine):
            _settle(store, id_)  # it may be drawn meanwhile: somebody who sees it still must be heard
            if store.read(f"SELECT 1 FROM report WHERE id = ? AND status IN {_OPEN}", [id_]):  # noqa: S608
                return str(id_)
    return None


def _parts(polygon: str, frame: Size) -> tuple[Instance, ...]:
    whole = object_of(polygon, frame, frame, 1, "report", wraps=True)
    return () if whole is None else split_at_seam([whole], frame.width)


def _iou(some: Sequence[Instance], others: Sequence[Instance]) -> float:
    common = sum(a.overlap(b) for a in some for b in others)
    return common / max(1, sum(part.area() for part in (*some, *others)) - common)


def _corrections(row: Mapping[str, Any], polygons: Iterable[str], status: str) -> list[Correction]:
    """What a report says, as corrections: to add the polygons, or to take the finds in them out."""
    kind = "remove" if row["issue"] == "blur_excess" else "add"
    category = row["category"] or "other"
    classes = TARGETS.get(category, ("other",)) if kind == "remove" or category != "vehicle" else ("car",)
    return [
        Correction(
            **{key: row[key] for key in ("relative", "width", "height", "sha256")},
            kind=kind,
            category=name,
            shape=polygon,
            status=status,
            source="report",
            batch=row["id"],
            author="report",
        )
        for polygon in polygons
        for name in classes
    ]


def update(store: Store, keep_days: int) -> None:
    """Brings the statuses of all reports up to date with their corrections, and forgets who sent those of long ago.

    Raises:
        StorageError: the store cannot be read or written.
    """
    _settle(store)
    before = (datetime.now(timezone.utc) - timedelta(days=keep_days)).isoformat(timespec="milliseconds")
    old = "closed <= ? AND (reporter IS NOT NULL OR note IS NOT NULL)"
    if store.read(f"SELECT 1 FROM report WHERE {old} LIMIT 1", [before]):  # noqa: S608
        store.read("PRAGMA secure_delete = ON")
        with store.changing() as connection:
            connection.execute(f"UPDATE report SET reporter = NULL, note = NULL WHERE {old}", [before])  # noqa: S608


def _settle(store: Store, only: str | None = None) -> None:
    """The statuses of all reports, or of one, as their corrections say."""
    store.tables("report", _STEPS)
    # A reviewer's own shape supersedes the one that was sent, and speaks for it.
    sql = (
        "SELECT r.id, r.status, r.decided_by, COALESCE(CASE WHEN s.id IS NULL THEN c.status WHEN s.kind IS NOT NULL "
        "THEN s.status END, 'undone'), COALESCE(s.status_at, c.status_at) FROM report r LEFT JOIN correction c "
        "ON c.batch = r.id AND c.kind IS NOT NULL LEFT JOIN correction s ON s.supersedes = c.id AND s.status IN "
        "('accepted', 'drawn', 'stale', 'failed') WHERE r.status NOT IN ('duplicate', 'rejected') "
        "AND (?1 IS NULL OR r.id = ?1) ORDER BY r.id"
    )
    for (id_, old, by), rows in itertools.groupby(store.read(sql, [only]), lambda row: row[:3]):
        states, times = zip(*(row[3:] for row in rows), strict=True)
        if (now := _status(old, by, set(states))) != old:
            with store.changing() as connection:
                if by is None and now != "hidden":
                    connection.execute(
                        "UPDATE report SET (decided_by, decided) = (SELECT who, at FROM event JOIN correction ON id = "
                        "correction_id WHERE batch = report.id AND what = 'status' AND (detail LIKE 'accepted%' OR "
                        "detail LIKE 'rejected%') ORDER BY n DESC LIMIT 1) WHERE id = ?",
                        [id_],
                    )
                closed = max(times) if now in ("drawn", "rejected") else None
                connection.execute("UPDATE report SET status = ?, closed = ? WHERE id = ?", [now, closed, id_])
                connection.execute("UPDATE report SET closed = ? WHERE duplicate_of = ?", [closed, id_])
                store.note("run", "report", None, f"{id_} {now}")


def _status(old: str, by: str | None, states: set[str]) -> str:
    if not (states := states - {"undone", "rejected"}):
        return "rejected"
    if "failed" in states:
        return "failed"
    if "proposed" in states:
        return "received"
    if old == "hidden" and by is None:
        return "hidden"
    return "drawn" if states == {"drawn"} else "accepted"


def decide(store: Store, id_: str, by: str, verdict: str, reason: str) -> None:
    """Accepts a report, whose shapes the next run hides, or rejects it: what was hidden already is undone.

    Args:
        store: has the report.
        id_: of the report.
        by: pseudonym of the reviewer.
        verdict: "accepted" or "rejected".
        reason: one of `REASONS`.

    Raises:
        UsageError: there is no such report, or it was decided before.
        StorageError: the store cannot be written.
    """
    if reason not in REASONS:
        raise UsageError(f"the reason is one of {', '.join(REASONS)}")
    decidable = (
        ("received", "hidden") if verdict == "accepted" else ("received", "hidden", "accepted", "drawn", "failed")
    )
    with store.changing() as connection:
        row = public_status(store, id_)
        if row is None:
            raise UsageError(f"there is no report {id_}")
        if row["status"] not in decidable:
            raise UsageError(f"report {id_} is {row['status']} already")
        proposed = [one.id for one in store.select("batch = ? AND status = 'proposed'", [id_])]
        store.decide(by, proposed, verdict, reason)
        if verdict == "rejected":
            store.undo(by, batch=id_)
        connection.execute(
            "UPDATE report SET decided_by = ?, decided = ?, reason = ? WHERE id = ?", [by, utc_now(), reason, id_]
        )
        store.note(by, "report", None, f"{id_} {verdict} {reason}")


def public_status(store: Store, id_: str) -> dict[str, str | None] | None:
    """All that anybody may know of a report: status, issue, when it came and was closed; None if there is none."""
    _settle(store, id_)
    rows = store.read("SELECT status, issue, received, closed FROM report WHERE id = ?", [id_])
    return dict(zip(("status", "issue", "received", "closed"), rows[0], strict=True)) if rows else None


def open_reports(store: Store) -> list[dict[str, Any]]:
    """What nobody has decided, the reports of one picture together, the oldest first; nothing about the reporters."""
    store.tables("report", _STEPS)
    names = ("id", "relative", "issue", "category", "status", "received", "width", "height", "polygons")
    first = "(SELECT MIN(received) FROM report same WHERE same.relative = report.relative AND same.decided_by IS NULL)"
    undecided = f"status IN ('received', 'hidden') ORDER BY {first}, relative, received"
    rows = store.read(f"SELECT {', '.join(names)} FROM report WHERE {undecided}")  # noqa: S608
    return [
        {
            **dict(zip(names, row, strict=True)),
            "polygons": [json.loads(text)["polygon"] for text in json.loads(row[-1])],
        }
        for row in rows
    ]


def report_statistics(store: Store) -> dict[str, Any]:
    """Numbers of reports: open ones by age in days, hours to drawn, fraction accepted, by status, issue, category."""
    store.tables("report", _STEPS)
    rows = store.read(
        "SELECT status, issue, IFNULL(category, 'none'), decided_by, julianday('now') - julianday(received), "
        "(julianday(closed) - julianday(received)) * 24 FROM report ORDER BY 6"
    )
    days = [days for status, *_, days, _ in rows if status in ("received", "hidden", "accepted", "failed")]
    hours = [hour for status, *_, hour in rows if status == "drawn"]
    decided = [row[0] != "rejected" for row in rows if row[3]]
    limits = {"0-1": (-1, 1), "1-7": (1, 7), ">7": (7, math.inf)}
    return {
        "open_by_days": {name: sum(a < day <= b for day in days) for name, (a, b) in limits.items()},
        "hours_to_drawn_median": round(statistics.median(hours), 1) if hours else None,
        "hours_to_drawn_90_percent": round(hours[math.ceil(0.9 * len(hours)) - 1], 1) if hours else None,
        "accepted": round(sum(decided) / len(decided), 3) if decided else None,
        **{key: dict(Counter(row[n] for row in rows)) for n, key in enumerate(("status", "issue", "category"))},
    }
