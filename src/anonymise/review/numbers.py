"""What a review says in numbers: how much was looked at, how much was missed, and how sure that is."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from anonymise.corrections.shapes import object_of
from anonymise.corrections.store import Correction
from anonymise.evaluation.intervals import wilson
from anonymise.evaluation.tally import SIZE_GROUPS
from anonymise.review.decisions import Decision, Decisions
from anonymise.review.pictures import base_of

__all__ = ["Numbers", "numbers_of"]

_CONFIDENCE = 0.95
_MIN_PAIRS = 20
"""Pictures that two people looked at, from which on Cohen's kappa means something."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """The numbers.

    Attributes:
        total: number of published pictures.
        looks: path → the decisions that count, of each published picture that somebody looked at.
        corrections: of these decisions, those that are not undone.
        limits: fractions of the picture's area from which on an object is medium, and large.
    """

    total: int
    looks: dict[str, list[Decision]]
    corrections: Sequence[Correction]
    limits: tuple[float, float]

    def missed(self, queue: str | None = None) -> dict[str, Any]:
        """Pictures with a miss, of those that were looked at in one queue or in any, with Wilson's 95 % interval.

        Returns:
            ``k`` pictures with a miss of ``n``, and ``low`` and ``high`` limits of their fraction, None without any.
        """
        chosen = [rows for rows in self.looks.values() if queue is None or any(row.queue == queue for row in rows)]
        k, n = sum(any(row.has_miss for row in rows) for rows in chosen), len(chosen)
        low, high = wilson(k, n, _CONFIDENCE) if n else (None, None)
        return {"k": k, "n": n, "low": low, "high": high}

    def gate(self) -> dict[str, Any]:
        """`missed` of the pictures that speak for all: all, where all were looked at, else the random sample."""
        return self.missed() if self.total and len(self.looks) == self.total else self.missed("sample")

    def as_json(self, *, by_person: bool) -> dict[str, Any]:
        """All numbers, those by person only where they are asked for."""
        rows = [row for looks in self.looks.values() for row in looks]
        people: defaultdict[str, list[Decision]] = defaultdict(list)
        for row in rows:
            people[row.who].append(row)
        persons = [
            {"name": name, "n": len(own), "share": sum(row.has_miss for row in own) / len(own)}
            for name, own in sorted(people.items())
        ]
        return {
            "looked_at": len(self.looks),
            "total": self.total,
            "missed": self.missed(),
            "sample": self.missed("sample"),
            "median_seconds": median(row.seconds for row in rows) if rows else None,
            "by_class": self._by(lambda row: row.category),
            "by_size": sorted(self._by(self._size), key=lambda line: SIZE_GROUPS.index(line["name"])),
            "by_person": persons if by_person else [],
            "agreement": self._agreement(),
        }

    def _by(self, group: Callable[[Correction], str]) -> list[dict[str, Any]]:
        counts = Counter((group(row), row.kind) for row in self.corrections)
        names = sorted({name for name, _ in counts})
        return [{"name": name, "missed": counts[name, "add"], "false": counts[name, "remove"]} for name in names]

    def _size(self, row: Correction) -> str:
        instance = object_of(row.shape or "", row.size, row.size, 1, "", wraps=True)
        share = 0.0 if instance is None else instance.area() / (row.width * row.height)
        return SIZE_GROUPS[sum(share >= limit for limit in self.limits)]

    def _agreement(self) -> dict[str, Any]:
        """Of pictures that two people looked at: how often both saw a miss, or both none."""
        firsts = (list({row.who: row for row in rows}.values())[:2] for rows in self.looks.values())
        pairs = [(pair[0].has_miss, pair[1].has_miss) for pair in firsts if len(pair) == 2]
        if not pairs:
            return {"n": 0, "share": None, "kappa": None}
        n = len(pairs)
        share = sum(one == other for one, other in pairs) / n
        first, second = sum(one for one, _ in pairs) / n, sum(other for _, other in pairs) / n
        by_chance = first * second + (1 - first) * (1 - second)
        kappa = (share - by_chance) / (1 - by_chance) if n >= _MIN_PAIRS and by_chance < 1 else None
        return {"n": n, "share": share, "kappa": kappa}


def numbers_of(published: Mapping[str, str], decisions: Decisions, limits: tuple[float, float]) -> Numbers:
    """The numbers of the published pictures.

    Args:
        published: path of each → its `Picture.base`; decisions about another one do not count.
        decisions: what was decided.
        limits: as `Numbers` has them.
    """
    found: defaultdict[str, list[Decision]] = defaultdict(list)
    for row in decisions.in_force():
        if row.is_look and published.get(row.relative) == base_of(row.version):
            found[row.relative].append(row)
    # What the lead says settles it.
    looks = {path: [row for row in rows if row.queue == "lead"][-1:] or rows for path, rows in found.items()}
    by_batch = decisions.corrections()
    counted = [one for rows in looks.values() for row in rows for one in by_batch.get(row.batch, ())]
    return Numbers(len(published), looks, counted, limits)
