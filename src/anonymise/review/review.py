"""What reviewers do, as functions of JSON values: claims, decisions, undo, pictures, numbers. Knows no HTTP."""

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from anonymise import images
from anonymise.config import Config
from anonymise.core.classes import LABELS
from anonymise.core.detections import Size
from anonymise.core.errors import ImageError, UsageError
from anonymise.core.orientation import to_upright
from anonymise.core.plaintext import printable
from anonymise.core.wraparound import Frame
from anonymise.corrections.shapes import canonical
from anonymise.corrections.store import Correction, Store, utc_now
from anonymise.review.access import ROLES, User
from anonymise.review.decisions import VERDICTS, Decision, Decisions
from anonymise.review.drawing import Drawing
from anonymise.review.items import Shown, shown
from anonymise.review.numbers import numbers_of
from anonymise.review.pictures import Picture, Published
from anonymise.review.queue import Filters, Queue, Taken
from anonymise.review.views import decoded, reduced, shrunk

__all__ = ["Denied", "Review", "Served", "Who"]

REASONS = ("sign", "reflection", "poster", "empty")
"""Why a find is false."""

_MAX_OBJECTS = 500
"""Of a decision."""

_MAX_SECONDS = 86_400

_ORIGINAL_SIDE = 1024
"""Longest side in pixels of a crop of the original."""

_SURROUNDINGS = 0.5
"""What such a crop shows around a find, as a fraction of its longer side."""

_QUALITY = 88


class Denied(Exception):
    """Somebody has not the right to do that."""


@dataclass(frozen=True, slots=True)
class Who:
    """Somebody in a tab of a browser."""

    user: User
    tab: str

    @property
    def key(self) -> tuple[str, str]:
        """As the queue knows them."""
        return self.user.name, self.tab


@dataclass(frozen=True, slots=True)
class Served:
    """A file for the browser: its bytes, or where they are, its media type, and whether it may keep it."""

    data: bytes | Path
    media_type: str
    may_keep: bool


class Review:
    """A review of an output folder.

    Args:
        published: the pictures.
        decisions: what was decided.
        queue: which picture comes next.
        config: the configuration.
        drawing: draws corrections; None where there is no archive.
    """

    def __init__(
        self, published: Published, decisions: Decisions, queue: Queue, config: Config, drawing: Drawing | None
    ) -> None:
        self._published, self._decisions, self._queue = published, decisions, queue
        self._store: Store = decisions.store
        self._config = config
        self._drawing = drawing
        self._deciding = threading.Lock()
        self._decoding = threading.Lock()  # pictures of hundreds of megabytes, one at a time

    def session(self, who: Who) -> dict[str, Any]:
        """Who somebody is and what there is to do. A page that begins gives up what it had claimed before."""
        self._queue.release(who.key)
        self._queue.refresh()
        hidden = [LABELS[label] for label in sorted(self._config.model.hidden)]
        return {
            "user": who.user.name,
            "roles": [role for role in ROLES if who.user.may(role)],
            "kinds": self._queue.kinds(lead=who.user.may("lead")),
            "categories": [*dict.fromkeys([*hidden, "face", "plate", "other"])],
            "keys": dict(self._config.review.review_keys),
        }

    def queue(self, who: Who, query: Mapping[str, Any]) -> dict[str, Any]:
        """How much is left in each queue."""
        state = self._queue.state(
            _text(query, "kind") or "all", who.user.name, _filters(query), lead=who.user.may("lead")
        )
        return {**state, "waiting": len(self._store.waiting()) if self._drawing else 0}

    def claim(self, who: Who, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """The next picture, or a certain one."""
        kind, item = _text(body, "kind") or "all", _text(body, "item") or None
        if kind == "lead" and not who.user.may("lead"):
            raise Denied("this needs the role lead")
        found = self._queue.claim(kind, who.key, _filters(body), item, decides=who.user.may("reviewer"))
        if found is None:
            return None
        picture, claim = found
        until = datetime.fromtimestamp(claim.until, timezone.utc).isoformat(timespec="seconds")
        content: dict[str, Any] = {"id": picture.id, "relative": printable(picture.relative), "until": until}
        try:
            seen = shown(picture, self._store, self._config)
        except ImageError as error:  # somebody must say so: broken
            return {**content, **_BLANK, "version": picture.version, "reason": str(error)}
        content |= {**seen.as_json(), "reason": self._queue.doubt(picture).reason}
        if claim.kind == "sample":  # blind: neither the model nor what somebody has just said must lead the eye
            drawn = {row.id for row in seen.corrections if row.status == "drawn"}
            content["finds"] = [{**find, "score": None} for find in content["finds"]]
            content["corrections"] = [row for row in content["corrections"] if row["id"] in drawn]
            content["reason"] = ""
        if seen.finds is None:
            content["reason"] = "what was found is not known (remote_instances: True)"
        return content

    def image(self, id_: str, query: Mapping[str, Any]) -> Served:
        """The published picture, upright, reduced by a power of two."""
        picture = self._picture(id_)
        level = int(_text(query, "level") or 0)
        if not 0 <= level < 16:
            raise ValueError("no such level")
        limit, may_keep = self._config.images.max_decoded_pixels, _text(query, "version") == picture.version
        with self._decoding:
            data = picture.read()
            head = images.header(data, max_pixels=limit)
            if level == 0 and (head.orientation == 1 or head.kind == "jpeg"):
                # Browsers turn JPEGs themselves. The bytes are not kept until a slow browser has them all.
                return Served(picture.file, f"image/{head.kind}", may_keep)
            size = Size(max(1, head.width >> level), max(1, head.height >> level))
            return Served(images.encode_jpeg(reduced(data, size, limit), _QUALITY), "image/jpeg", may_keep)

    def original(self, who: Who, id_: str, query: Mapping[str, Any]) -> Served:
        """The original of a find and of what is around it. That somebody saw it is an event."""
        archive = self._published.archive
        if not who.user.may("original") or not self._config.review.review_originals or archive is None:
            raise Denied("originals are not shown (role original, review_originals: True, -a ARCHIVE)")
        seen = shown(self._picture(id_), self._store, self._config)
        find = seen.find(_text(query, "find"))
        if find is None:
            raise Taken("there is no such find in the picture as it is now")
        frame = Frame(seen.size, seen.wraps)
        part = frame.grown(find.box, round(_SURROUNDINGS * max(find.box.width, find.box.height)))
        with self._store.changing():
            detail = json.dumps(
                {"relative": seen.picture.relative, "box": [part.left, part.top, part.width, part.height]}
            )
            self._store.note(who.user.name, "original", None, detail)
        with self._decoding:
            try:
                data = (archive / seen.picture.relative).read_bytes()
            except OSError as error:
                raise UsageError(f"the archive has no original: {error.strerror or error}") from error
            original = decoded(data, self._config.images.max_decoded_pixels)
            if original.pixels.shape[:2] != (seen.size.height, seen.size.width):
                raise UsageError("the original in the archive has another size than the published picture")
            crop = to_upright(frame.read(original.pixels, part), original.orientation)
        return Served(images.encode_jpeg(shrunk(crop, _ORIGINAL_SIDE), _QUALITY), "image/jpeg", False)

    def decide(self, who: Who, id_: str, body: Mapping[str, Any]) -> dict[str, str]:
        """Stores a decision; gives its id."""
        with self._deciding:  # of two that are sent at once, the second finds the claim over
            return self._decide(who, id_, body)

    def _decide(self, who: Who, id_: str, body: Mapping[str, Any]) -> dict[str, str]:
        picture, claim = self._queue.held(id_, who.key, _text(body, "version"))
        verdict, seconds = _text(body, "verdict"), body.get("seconds", 0)
        added, false = body.get("added") or [], body.get("false") or []
        if verdict not in VERDICTS or not isinstance(seconds, int | float) or not 0 <= seconds < _MAX_SECONDS:
            raise ValueError(f"verdict is one of {', '.join(VERDICTS)}, seconds is a number below {_MAX_SECONDS}")
        if not isinstance(added, list) or not isinstance(false, list) or len(added) + len(false) > _MAX_OBJECTS:
            raise ValueError(f"added and false are lists of at most {_MAX_OBJECTS} objects")
        corrections: list[Correction] = []
        settled: list[tuple[str, str]] = []
        if verdict != "broken" or added or false:
            seen = shown(picture, self._store, self._config)
            rejected = {_text(one, "find") for one in false}
            proposed = {row.id for row in seen.proposed}
            wrong = [one for one in false if _text(one, "find") not in proposed]
            if wrong and not who.user.may("original"):
                raise Denied("only who may see originals can say that a find is false")
            corrections = [self._added(seen, who, one) for one in added]
            corrections += [row for one in wrong for row in self._false(seen, who, one, settled)]
            if verdict in ("good", "missed", "false", "both"):
                expected = {(0, 0): "good", (1, 0): "missed", (0, 1): "false", (1, 1): "both"}
                verdict = expected[bool(added), len(corrections) > len(added) or bool(rejected & proposed)]
                settled += [(one, "rejected" if one in rejected else "accepted") for one in sorted(proposed)]
        decision = Decision(
            relative=picture.relative,
            version=picture.version,
            who=who.user.name,
            verdict=verdict,
            opened=claim.opened,
            decided=utc_now(),
            seconds=float(seconds),
            queue=claim.kind,
            seed=self._queue.options.seed if claim.kind == "sample" else None,
        )
        stored = self._decisions.add(decision, corrections, settled)
        self._queue.decided(stored)
        return {"id": stored.id}

    def _added(self, seen: Shown, who: Who, one: Any) -> Correction:
        shape = one.get("shape") if isinstance(one, dict) else None
        text = canonical(shape, seen.size)
        kind, value = next(iter(json.loads(text).items()))
        if kind == "rle" or (kind == "box" and not seen.wraps and value[0] + value[2] > seen.size.width):
            raise ValueError("the shape reaches beyond the picture, or is neither box nor polygon")
        return self._correction(seen, who, "add", _text(one, "category"), text, None)

    def _false(self, seen: Shown, who: Who, one: Any, settled: list[tuple[str, str]]) -> list[Correction]:
        find, reason = seen.find(_text(one, "find")), _text(one, "reason")
        if find is None or reason not in REASONS:
            raise ValueError(f"there is no such find, or the reason is none of {', '.join(REASONS)}")
        if not find.is_hidden:
            return []  # nothing has to change
        same = [
            row
            for row in self._store.proposed(seen.picture.relative)
            if (row.kind, row.category, row.shape) == ("remove", find.category, find.shape)
            and row.author != who.user.name
        ]
        row = self._correction(seen, who, "remove", find.category, find.shape, reason)
        if self._config.review.review_remove_by > 1 and not same:
            row = replace(row, status="proposed")
        elif row.status == "accepted":
            settled += [(other.id, "accepted") for other in same]
        return [row]

    def _correction(
        self, seen: Shown, who: Who, kind: str, category: str, shape: str, reason: str | None
    ) -> Correction:
        return Correction(
            relative=seen.picture.relative,
            width=seen.size.width,
            height=seen.size.height,
            kind=kind,
            category=category,
            shape=shape,
            source="review",
            batch="review",
            author=who.user.name,
            reason=reason,
            status="accepted" if self._config.review.review_accepts else "proposed",
        )

    def undo(self, who: Who, body: Mapping[str, Any]) -> dict[str, str]:
        """Ends a decision and its corrections; whoever did it has the picture again."""
        row = self._decisions.undo(_text(body, "decision"), who.user.name, utc_now(), others=who.user.may("lead"))
        self._queue.undone(row, who.key)
        return {"id": row.id}

    def numbers(self, who: Who) -> dict[str, Any]:
        """The numbers; those by person for leads only."""
        limits = self._config.evaluation.evaluation_size_groups
        return numbers_of(self._queue.bases(), self._decisions, limits).as_json(by_person=who.user.may("lead"))

    def draw(self, *, start: bool) -> dict[str, Any]:
        """Starts drawing the corrections, or says how far that is."""
        if self._drawing is None:
            raise UsageError("corrections are drawn from the archive: start the review with -a ARCHIVE")
        return self._drawing.start() if start else self._drawing.state()

    def _picture(self, id_: str) -> Picture:
        if (picture := self._queue.picture(id_)) is None:
            raise Taken("there is no such picture any more")
        return picture


_BLANK: Mapping[str, Any] = {
    "width": 1,
    "height": 1,
    "orientation": 1,
    "equirectangular": False,
    "levels": 1,
    "finds": [],
    "corrections": [],
}


def _text(values: Any, key: str) -> str:
    """A text in a JSON object; empty where it is missing.

    Raises:
        ValueError: it is no text, or there is no object.
    """
    value = values.get(key) if isinstance(values, Mapping) else 0
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{key} is no text")
    return value or ""


def _filters(values: Mapping[str, Any]) -> Filters:
    return Filters(_text(values, "folder"), _text(values, "category"))
