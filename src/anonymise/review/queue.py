"""Which picture comes next, and who has which: queues, filters and claims. Knows no HTTP and no pixels."""

import hashlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from anonymise.corrections.store import utc_now
from anonymise.review.decisions import Decision, Decisions
from anonymise.review.pictures import NO_DOUBT, Doubt, Picture, Published, Thresholds, base_of, doubts_by_neighbours

__all__ = ["ALL", "Claim", "Filters", "Queue", "QueueOptions", "Taken"]

_CLAIM_SECONDS = 15 * 60

_PATIENCE_SECONDS = 10.0
"""How long the first claim after a start waits for doubtful pictures to become known."""

_DECIDES = ""
"""Claims of those who decide share one lane; each of those who only look has its own."""

_PROPOSED_BY: Mapping[str, tuple[str, ...]] = {"reports": ("report",), "regions": ("external", "import")}
"""Queues of what is proposed → sources of the corrections."""


class Taken(Exception):
    """Somebody else has the picture, the claim is over, or the picture has changed."""


@dataclass(frozen=True, slots=True)
class QueueOptions:
    """What is in the queues.

    Attributes:
        seed: of the random sample.
        sample: number of pictures in it.
        second: fraction of the sample that two people look at.
        listed: paths of the pictures in the queue ``listed``; None has no such queue.
    """

    seed: int = 0
    sample: int = 400
    second: float = 0.0
    listed: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class Filters:
    """Which pictures of a queue: beginning of their paths, and a class of objects that are hidden in them."""

    folder: str = ""
    category: str = ""

    def admit(self, picture: Picture) -> bool:
        """Whether a picture is one of them."""
        return picture.relative.startswith(self.folder) and (not self.category or self.category in picture.objects)


ALL = Filters()


@dataclass(frozen=True, slots=True)
class Claim:
    """Somebody looks at a picture.

    Attributes:
        who: user and tab.
        kind: of the queue.
        filters: that the queue had.
        opened: when the picture was claimed first; UTC, RFC 3339.
        until: when the claim is over, in seconds of the queue's clock.
    """

    who: tuple[str, str]
    kind: str
    filters: Filters
    opened: str
    until: float


class Queue:
    """The pictures in the order in which people look at them. May be used from several threads.

    How sure the model was is read from many files, which a thread does; until it is through, the queue ``doubtful`` has
    what is known. Claims are in memory: after a restart everybody claims again.

    Args:
        published: the pictures.
        decisions: what was decided.
        thresholds: class id → score from which on finds are hidden.
        options: what is in the queues.
        clock: seconds, for claims.
    """

    def __init__(
        self,
        published: Published,
        decisions: Decisions,
        thresholds: Thresholds,
        options: QueueOptions,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._published, self._decisions, self._thresholds = published, decisions, thresholds
        self.options = options
        self._clock = clock
        self._lock = threading.RLock()
        self._claims: dict[tuple[str, str], Claim] = {}
        self._by_scores: dict[tuple[str, str], Doubt] = {}
        self._stamp = self._generation = self._revision = 0
        self._doubtful: tuple[int, dict[str, Picture]] = (0, {})
        self.refresh()

    def refresh(self) -> None:
        """Looks which pictures and decisions there are, unless no run has written since the last time."""
        if self._stamp == (stamp := self._published.stamp()):
            return
        self._stamp = stamp
        pictures = list(self._published)
        by_neighbours = dict(zip((picture.id for picture in pictures), doubts_by_neighbours(pictures), strict=True))
        by_draw = sorted(pictures, key=lambda p: hashlib.sha256(self._draw(p)).digest())
        with self._lock:
            self._generation += 1
            self._pictures = {picture.id: picture for picture in pictures}
            self._by_path = {picture.relative: picture for picture in pictures}
            self._by_neighbours = by_neighbours
            self._decided: defaultdict[str, list[Decision]] = defaultdict(list)
            for decision in self._decisions.in_force():
                self._decided[decision.relative].append(decision)
            self._sample = {picture.id: picture for picture in by_draw[: self.options.sample]}
            self._revision += 1
            self._knows_scores = False
            threading.Thread(target=self._read_scores, args=(self._generation, pictures), daemon=True).start()

    def _read_scores(self, generation: int, pictures: Sequence[Picture]) -> None:
        read_at = time.monotonic()
        for picture in pictures:
            if generation != self._generation:
                return
            if (key := (picture.id, picture.version)) not in self._by_scores:
                self._by_scores[key] = picture.doubt_of_scores(self._thresholds)
            if time.monotonic() - read_at > 1:
                read_at = time.monotonic()
                self._revision += 1
        self._revision += 1
        self._knows_scores = True

    def _draw(self, picture: Picture) -> bytes:
        return f"{self.options.seed}:{picture.id}".encode()

    def _is_double(self, picture: Picture) -> bool:
        drawn = hashlib.sha256(b"second:" + self._draw(picture)).digest()
        return int.from_bytes(drawn[:8], "big") < self.options.second * 2**64

    def doubt(self, picture: Picture) -> Doubt:
        """How doubtful a picture is, as far as that is known."""
        by_scores = self._by_scores.get((picture.id, picture.version), NO_DOUBT)
        return max(by_scores, self._by_neighbours.get(picture.id, NO_DOUBT))

    def kinds(self, *, lead: bool) -> list[str]:
        """The queues there are for somebody."""
        sources = {row.source for row in self._decisions.store.proposed() if row.kind == "add"}
        proposed = [kind for kind, of in _PROPOSED_BY.items() if sources.intersection(of)]
        listed = [] if self.options.listed is None else ["listed"]
        return [*proposed, *listed, "doubtful", "sample", "all", *(["lead"] if lead else [])]

    def _order(self, kind: str) -> Mapping[str, Picture]:
        """The pictures of a queue by their ids, in the order in which people look at them."""
        if kind == "all":
            return self._pictures
        if kind == "sample":
            return self._sample
        if kind == "doubtful":
            revision = self._revision  # as it is before the scores are looked at
            if self._doubtful[0] != revision:
                degrees = {picture.id: self.doubt(picture).degree for picture in self._pictures.values()}
                some = (picture for picture in self._pictures.values() if degrees[picture.id] > 0)
                ordered = sorted(some, key=lambda picture: -degrees[picture.id])
                self._doubtful = revision, {picture.id: picture for picture in ordered}
            return self._doubtful[1]
        if kind == "listed":
            paths: Sequence[str] = self.options.listed or ()
        elif kind == "lead":
            paths = [path for path in self._decided if path in self._by_path and _needs_lead(self._about(path))]
        else:
            sources = _PROPOSED_BY.get(kind, ())
            rows = self._decisions.store.proposed()
            paths = [row.relative for row in rows if row.source in sources and row.kind == "add"]
        found = (self._by_path[path] for path in paths if path in self._by_path)
        return {picture.id: picture for picture in found}

    def _about(self, path: str) -> list[Decision]:
        """The decisions about a picture that still count."""
        base = self._by_path[path].base
        return [row for row in self._decided.get(path, ()) if base_of(row.version) == base]

    def _is_done(self, kind: str, picture: Picture, user: str) -> bool:
        if kind == "lead" or kind in _PROPOSED_BY:
            return False  # it leaves the queue when it is settled
        users = {decision.who for decision in self._about(picture.relative)}
        needed = 2 if kind == "sample" and self.options.second and self._is_double(picture) else 1
        return user in users or len(users) >= needed

    def state(self, kind: str, user: str, filters: Filters, *, lead: bool) -> dict[str, object]:
        """How many pictures are left in each queue, and how many of one, filtered, are done."""
        with self._lock:
            left = {name: len(self._order(name)) - self._n_done(name, user, ALL) for name in self.kinds(lead=lead)}
            order = self._order(kind)
            total = len(order) if filters == ALL else sum(filters.admit(picture) for picture in order.values())
            return {"counts": left, "done": self._n_done(kind, user, filters), "total": total}

    def _n_done(self, kind: str, user: str, filters: Filters) -> int:
        order = self._order(kind)
        decided = (self._by_path[relative] for relative in self._decided if relative in self._by_path)
        return sum(p.id in order and filters.admit(p) and self._is_done(kind, p, user) for p in decided)

    def claim(
        self, kind: str, who: tuple[str, str], filters: Filters, item: str | None = None, *, decides: bool = True
    ) -> tuple[Picture, Claim] | None:
        """The next picture, which is then nobody else's for a while; or a certain one, again or for the first time.

        A tab that turns to another queue gives up what it claimed in the last one. Who only looks takes nothing from
        those who decide.

        Returns:
            The picture and the claim; None where none is left.

        Raises:
            Taken: somebody else has the picture that was asked for, or it is no longer published.
        """
        until = time.monotonic() + _PATIENCE_SECONDS
        while True:
            is_complete = kind != "doubtful" or self._knows_scores or time.monotonic() > until
            if (found := self._claim(kind, who, filters, item, decides)) is not None or is_complete:
                return found
            time.sleep(0.1)  # what is left may be doubtful by its scores, which are being read

    def _claim(
        self, kind: str, who: tuple[str, str], filters: Filters, item: str | None, decides: bool
    ) -> tuple[Picture, Claim] | None:
        with self._lock:
            now, lane = self._clock(), _DECIDES if decides else str(who)
            self._claims = {key: claim for key, claim in self._claims.items() if claim.until > now}
            claim = Claim(who, kind, filters, utc_now(), now + _CLAIM_SECONDS)
            if item is not None:
                had = self._claims.get((lane, item))
                found = self.picture(item)
                if found is None or (had is not None and had.who != who):
                    raise Taken("somebody else has this picture, or it is no longer published")
                if item not in self._order(kind):
                    claim = replace(claim, kind="all")  # or a picture that was chosen would count for the sample
                self._claims[lane, item] = claim if had is None else replace(had, until=claim.until)
                return found, self._claims[lane, item]
            self.release(who, but=(kind, filters))
            for picture in self._order(kind).values():
                taken = (lane, picture.id) in self._claims or self._is_done(kind, picture, who[0])
                if taken or not filters.admit(picture):
                    continue
                if (found := self._published.now(picture.relative)) is not None:
                    self._claims[lane, picture.id] = claim
                    return found, claim
            return None

    def release(self, who: tuple[str, str], but: tuple[str, Filters] | None = None) -> None:
        """Gives up what a tab has claimed, but for one queue."""
        with self._lock:
            self._claims = {
                key: claim
                for key, claim in self._claims.items()
                if claim.who != who or (claim.kind, claim.filters) == but
            }

    def bases(self) -> dict[str, str]:
        """Path of each picture → its `Picture.base`."""
        return {picture.relative: picture.base for picture in self._pictures.values()}

    def picture(self, id_: str) -> Picture | None:
        """The picture with an id, as it is now."""
        known = self._pictures.get(id_)
        return None if known is None else self._published.now(known.relative)

    def held(self, id_: str, who: tuple[str, str], version: str) -> tuple[Picture, Claim]:
        """The picture and the claim of somebody who is about to decide.

        Raises:
            Taken: the claim is over, somebody else's, or the picture is no longer of this version.
        """
        with self._lock:
            claim = self._claims.get((_DECIDES, id_))
            if claim is None or claim.who != who or claim.until <= self._clock():
                raise Taken("the claim is over; claim the picture again")
            found = self.picture(id_)
            if found is None or found.version != version:
                raise Taken("the picture has changed since it was claimed; claim it again")
            return found, claim

    def decided(self, decision: Decision) -> None:
        """Takes a decision that was stored into account; the picture is free again."""
        with self._lock:
            self._decided[decision.relative].append(decision)
            if (picture := self._by_path.get(decision.relative)) is not None:
                self._claims.pop((_DECIDES, picture.id), None)

    def undone(self, decision: Decision, who: tuple[str, str]) -> None:
        """Takes into account that a decision was undone; who did it has the picture again, if nobody else has."""
        with self._lock:
            rows = self._decided[decision.relative]
            self._decided[decision.relative] = [row for row in rows if row.id != decision.id]
            if (picture := self._by_path.get(decision.relative)) is not None:
                until = self._clock() + _CLAIM_SECONDS
                claim = Claim(who, decision.queue, ALL, decision.opened, until)
                self._claims.setdefault((_DECIDES, picture.id), claim)


def _needs_lead(rows: Sequence[Decision]) -> bool:
    if any(row.queue == "lead" for row in rows):
        return False
    looks = [row for row in rows if row.is_look]
    return any(row.verdict == "flagged" for row in rows) or len({row.has_miss for row in looks}) > 1
