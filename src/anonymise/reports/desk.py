"""Reports: received, decided, turned into corrections, and closed once these are drawn.

For the service: `receive` takes in one report, and `public_status` is all that may be told about it.
"""

import functools
import hashlib
import json
import math
import secrets
import statistics
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from anonymise.anonymiser import projection_of
from anonymise.config import Config
from anonymise.core.classes import TARGETS
from anonymise.core.detections import Instance, Size
from anonymise.core.errors import ImageError, UsageError
from anonymise.core.orientation import upright_size
from anonymise.core.plaintext import is_unicode
from anonymise.core.wraparound import split_at_seam
from anonymise.corrections.rowfiles import rows_of
from anonymise.corrections.shapes import object_of, polygon_text
from anonymise.corrections.store import ENDED, Correction, Store, utc_now
from anonymise.images import embedded, header
from anonymise.metadata.gpano import read_gpano
from anonymise.reports.angles import Picture, Viewer, outline

__all__ = [
    "REASONS",
    "decide",
    "forget",
    "open_reports",
    "public_status",
    "read_picture",
    "receive",
    "report_statistics",
]

ISSUES = ("blur_missing", "blur_excess", "privacy", "other")
CATEGORIES = ("face", "plate", "person", "vehicle", "house", "other")
REASONS = ("seen", "nothing_there", "already_hidden", "no_person", "spam", "wrong_picture")
"""Codes of the reasons for a decision."""

_KEYS = {"relative", "viewpoint", "issue", "category", "convention", "view", "shapes", "reporter", "note"}
_TEXTS = {"relative": 4096, "viewpoint": 4096, "reporter": 254, "note": 1000, "convention": 20}
_TABLES = (
    """CREATE TABLE IF NOT EXISTS report (
        id TEXT PRIMARY KEY, relative TEXT NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL,
        sha256 TEXT NOT NULL, issue TEXT NOT NULL, category TEXT, sent TEXT NOT NULL, polygons TEXT NOT NULL,
        received TEXT NOT NULL, is_hidden INTEGER NOT NULL, decided_by TEXT, decided TEXT, reason TEXT, note TEXT,
        duplicate_of TEXT) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS report_of_image ON report (relative)",
)
_OWN = """WITH RECURSIVE own(id) AS (SELECT id FROM correction WHERE batch = {report}
    UNION SELECT better.id FROM own JOIN correction better ON better.supersedes = own.id)"""
"""SQL: the corrections of a report, those that superseded them, as a reviewer's better shape does, and so on."""
_COUNTS = f"kind IS NOT NULL AND status <> 'rejected' AND NOT {ENDED}"
_OF_REPORT = f"({_OWN.format(report='report.id')} SELECT {{what}} FROM own JOIN correction USING (id))"  # noqa: S608
_STAGE = f"""MIN(CASE WHEN NOT ({_COUNTS}) THEN NULL WHEN status = 'failed' THEN 1 WHEN status = 'proposed' THEN 2
    WHEN status = 'drawn' THEN 4 ELSE 3 END)"""
_STATES = f"""WITH
    stage AS (SELECT report.*, {_OF_REPORT.format(what=_STAGE)} AS stage,
        {_OF_REPORT.format(what="MAX(status_at)")} AS changed FROM report WHERE {{of}}),
    single AS (SELECT *, CASE WHEN duplicate_of IS NOT NULL THEN 'duplicate' WHEN stage IS NULL THEN 'rejected'
        WHEN stage = 1 THEN 'failed' WHEN stage = 2 THEN 'received' WHEN is_hidden AND decided_by IS NULL THEN 'hidden'
        WHEN stage = 3 THEN 'accepted' ELSE 'drawn' END AS status FROM stage),
    state AS (SELECT one.*, CASE WHEN IFNULL(first.status, one.status) IN ('drawn', 'rejected')
        THEN IFNULL(first.changed, one.changed) END AS closed
        FROM single one LEFT JOIN single first ON first.id = one.duplicate_of)
    SELECT {{columns}} FROM state WHERE {{where}}"""  # noqa: S608 - our own names
"""SQL: reports with the status that their corrections give them. It is stored nowhere, so it cannot contradict them.
Looks at the reports ``of`` alone, as SQLite would work out all of them first."""


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
    store.tables(_TABLES)
    with store.changing() as connection:
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
            "note": values.get("note"),
            "is_hidden": at_once,
            "duplicate_of": twin,
        }
        if not twin:
            store.add(_corrections(row, polygons, "accepted" if at_once else "proposed"), "report")
        marks = ", ".join("?" * len(row))
        connection.execute(f"INSERT INTO report ({', '.join(row)}) VALUES ({marks})", [*row.values()])  # noqa: S608
        store.note("public", "report", None, f"{row['id']} received")
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
        if not isinstance(text, str) or len(text) > longest or not is_unicode(text):
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
            relative = _viewpoints(Path(names), Path(names).stat().st_mtime_ns).get(values["viewpoint"], relative)
        except OSError as error:
            raise UsageError(f"reports_pictures {names} cannot be read: {error.strerror or error}") from error
    try:
        # Systems differ in how they compose letters.
        for spelling in dict.fromkeys((relative, *(unicodedata.normalize(form, relative) for form in ("NFC", "NFD")))):
            parts = spelling.split("/")
            is_below = spelling and not {"", ".", ".."} & set(parts) and not {"\\", ":", "\0"} & set(spelling)
            if is_below and (file := Path(folder, *parts)).is_file():
                return spelling, file.read_bytes()
    except OSError as error:
        raise ValueError(f"the picture cannot be read: {error.strerror}") from error
    raise ValueError("the picture is not known here")


@functools.lru_cache(maxsize=1)
def _viewpoints(file: Path, _: int) -> dict[str, str]:
    """Name of another system → path, as a file says; read again when it has changed."""

    def check(place: str, names: Sequence[str]) -> None:
        if not {"id", "relative"} <= {*names}:
            raise UsageError(f"{place}: reports_pictures has no columns id and relative")

    rows = (row for _, row in rows_of(file, check) if isinstance(row, dict))
    return {str(row["id"]): str(row["relative"]) for row in rows}


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


def _twin(store: Store, relative: str, frame: Size, issue: str, polygons: Sequence[str]) -> str | None:
    """The open report with the same issue that has each of the polygons already."""
    is_open = "(width, height) = (?, ?) AND status IN ('received', 'hidden', 'accepted', 'failed') ORDER BY received"
    found = _states(store, "id polygons", is_open, relative, issue, *frame, of="relative = ? AND issue = ?")
    mine = [_parts(polygon, frame) for polygon in polygons]
    for row in found:
        others = [_parts(polygon, frame) for polygon in json.loads(row["polygons"])]
        if all(any(_iou(a, b) > 0.5 for b in others) for a in mine):
            return str(row["id"])
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


def forget(store: Store, keep_days: int) -> None:
    """Deletes the notes of reports that were closed so many days ago."""
    before = (datetime.now(timezone.utc) - timedelta(days=keep_days)).isoformat(timespec="milliseconds")
    if ids := [(row["id"],) for row in _states(store, "id", "closed <= ? AND note IS NOT NULL", before)]:
        store.read("PRAGMA secure_delete = ON")
        with store.changing() as connection:
            connection.executemany("UPDATE report SET note = NULL WHERE id = ?", ids)


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
    decidable = {"received", "hidden"} | (set() if verdict == "accepted" else {"accepted", "drawn", "failed"})
    own = f"id IN ({_OWN.format(report='?')} SELECT id FROM own) AND {_COUNTS}"  # noqa: S608
    with store.changing() as connection:
        row = public_status(store, id_)
        if row is None:
            raise UsageError(f"there is no report {id_}")
        if row["status"] not in decidable:
            raise UsageError(f"report {id_} is {row['status']} already")
        store.decide(by, [one.id for one in store.select(f"{own} AND status = 'proposed'", [id_])], verdict, reason)
        # Undoing a reviewer's shape brings back the one that it was made of.
        while verdict == "rejected" and (rows := store.select(own, [id_])):
            store.undo(by, ids=[one.id for one in rows])
        connection.execute(
            "UPDATE report SET decided_by = ?, decided = ?, reason = ? WHERE id = ?", [by, utc_now(), reason, id_]
        )
        store.note(by, "report", None, f"{id_} {verdict} {reason}")


def public_status(store: Store, id_: str) -> dict[str, str | None] | None:
    """All that anybody may know of a report: status, issue, when it came and was closed; None if there is none."""
    of = "id = ? OR id = (SELECT duplicate_of FROM report WHERE id = ?)"
    return next(_states(store, "status issue received closed", "id = ?", id_, id_, id_, of=of), None)


def open_reports(store: Store) -> list[dict[str, Any]]:
    """What nobody has decided, the reports of one picture together, the oldest first; for reviewers only."""
    names = "id relative issue category status received note width height polygons"
    found = list(_states(store, names, "status IN ('received', 'hidden') ORDER BY received"))
    first: dict[str, int] = {}
    for number, row in enumerate(found):
        row["polygons"] = [json.loads(text)["polygon"] for text in json.loads(row["polygons"])]
        first.setdefault(row["relative"], number)
    return sorted(found, key=lambda row: first[row["relative"]])


def _states(store: Store, columns: str, where: str, *values: object, of: str = "1") -> Iterator[dict[str, Any]]:
    store.tables(_TABLES)
    names = columns.split()
    for row in store.read(_STATES.format(of=of, columns=", ".join(names), where=where), values):
        yield dict(zip(names, row, strict=True))


def report_statistics(store: Store) -> dict[str, Any]:
    """Numbers of reports: open ones by age in days, hours to drawn, fraction accepted, by status, issue, category."""
    store.tables(_TABLES)
    age = "julianday(IFNULL(closed, 'now')) - julianday(received)"
    columns = f"status, issue, IFNULL(category, 'none'), {age}"
    rows = store.read(_STATES.format(of="1", columns=columns, where="1 ORDER BY 4"))
    ages = [days for status, *_, days in rows if status in ("received", "hidden", "accepted", "failed")]
    hours = [24 * days for status, *_, days in rows if status == "drawn"]
    decided = [status != "rejected" for status, *_ in rows if status in ("accepted", "drawn", "rejected")]
    limits = {"0-1": (-math.inf, 1), "1-7": (1, 7), ">7": (7, math.inf)}
    return {
        "open_by_days": {name: sum(a < age <= b for age in ages) for name, (a, b) in limits.items()},
        "hours_to_drawn_median": round(statistics.median(hours), 1) if hours else None,
        "hours_to_drawn_90_percent": round(hours[math.ceil(0.9 * len(hours)) - 1], 1) if hours else None,
        "accepted": round(sum(decided) / len(decided), 3) if decided else None,
        **{
            key: dict(sorted(Counter(row[n] for row in rows).items()))
            for n, key in enumerate(("status", "issue", "category"))
        },
    }
