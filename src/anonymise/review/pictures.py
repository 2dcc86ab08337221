"""The published pictures of an output folder, and how much each needs somebody's look.

The journal says which pictures there are; their saved instances, where a run wrote them, say how sure the finds are.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from anonymise.batch.journal import Entry, JournalReader, State, journal_file
from anonymise.batch.paths import SUFFIXES
from anonymise.config import FileKind
from anonymise.core import saved_instances
from anonymise.core.detections import MODEL, Detections, Size
from anonymise.core.errors import InstancesError, UnreadableImage
from anonymise.core.sources import uncorrected

__all__ = [
    "HIDDEN_ANYWAY",
    "NO_DOUBT",
    "Doubt",
    "Picture",
    "Published",
    "Thresholds",
    "doubt_of_scores",
    "doubts_by_neighbours",
]

Thresholds = Callable[[int], float]
"""Class id → score from which on finds are hidden."""

_BAND = 0.1
"""Scores that are nearer to the threshold are doubtful."""

HIDDEN_ANYWAY = 0.9
"""Fraction of a doubtful object, such as a driver, from which on another that is hidden, such as the car, covers it."""

_THROWN_OUT = 0.6
"""Doubt about what a second look threw out (key ``keep_doubtful``), whatever its score."""

_PREFERRED = ("remote", "archive", "local")
"""Places of saved instances; those next to the published picture are of the last run."""


class Doubt(NamedTuple):
    """How doubtful a picture is, 0 to 1, and why, for people."""

    degree: float
    reason: str = ""


NO_DOUBT = Doubt(0.0)


@dataclass(frozen=True, slots=True)
class Picture:
    """A published picture.

    Attributes:
        relative: path below the output folder, with ``/``.
        version: changes whenever a run has written the picture again. What stands before the dot, its `base`, changes
            only if something else was found, or in another picture; not with corrections or another appearance.
        objects: class name → number of objects that are hidden.
        output: the output folder.
        instances_in: folders of the trees in which its saved instances may be, the best first.
        id: names it in addresses.
    """

    relative: str
    version: str
    objects: Mapping[str, int]
    output: Path
    instances_in: tuple[Path, ...]
    id: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", _digest(self.relative))

    @property
    def base(self) -> str:
        """What stays the same as long as decisions about the picture count."""
        return base_of(self.version)

    @property
    def file(self) -> Path:
        """The published file."""
        return self.output / self.relative

    @property
    def mask(self) -> Path:
        """Where its mask may be."""
        return self.file.with_name(f"{self.file.stem}{SUFFIXES[FileKind.MASK]}")

    @property
    def folder(self) -> str:
        """The folder that it is in."""
        return self.relative.rpartition("/")[0]

    def read(self) -> bytes:
        """The published file.

        Raises:
            UnreadableImage: it cannot be read.
        """
        try:
            return self.file.read_bytes()
        except OSError as error:
            raise UnreadableImage(f"the published picture cannot be read: {error.strerror or error}") from error

    def detections(self, size: Size) -> Detections | None:
        """What was found in it, in stored pixels; None where nobody wrote that down.

        Args:
            size: of the stored picture.

        Raises:
            InstancesError: the file is damaged, or of another picture.
        """
        saved = self._saved()
        return None if saved is None else saved_instances.parse(saved[1], saved[0], size)

    def doubt_of_scores(self, thresholds: Thresholds) -> Doubt:
        """How doubtful the scores of its finds are. What cannot be read is as doubtful as can be."""
        try:
            saved = self._saved()
            return NO_DOUBT if saved is None else doubt_of_scores(json.loads(saved[1]), thresholds)
        except (InstancesError, ValueError, KeyError, TypeError, RecursionError):
            return Doubt(1.0, "its saved instances are damaged")

    def _saved(self) -> tuple[Path, bytes] | None:
        name = self.relative.rpartition(".")[0] + SUFFIXES[FileKind.INSTANCES]
        for file in (folder / name for folder in self.instances_in):
            try:
                return file, file.read_bytes()
            except FileNotFoundError:
                continue
            except OSError as error:
                raise InstancesError(f"{file} cannot be read: {error.strerror or error}") from error
        return None

    @classmethod
    def of(cls, entry: Entry, output: Path, archive: Path | None) -> "Picture":
        """The picture of an entry in the journal.

        Args:
            entry: of a finished image.
            output: the output folder.
            archive: the archive; None takes the one that the run had.
        """
        roots = {file.place: file.root for file in entry.written if file.kind == "instances"}
        known = {"remote": output, "archive": archive or roots.get("archive"), "local": roots.get("local")}
        folders = (Path(root) for place in _PREFERRED if place in roots and (root := known[place]) is not None)
        base = _digest(f"{uncorrected(entry.source or '')} {entry.content}")
        version = _digest(f"{entry.digest} {entry.source} {entry.content} {entry.ended}")
        return cls(entry.relative, f"{base}.{version}", entry.objects, output, tuple(folders))


def base_of(version: str) -> str:
    """The `Picture.base` of a version."""
    return version.partition(".")[0]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:20]


class Published:
    """The published pictures of an output folder: the finished images of its journal.

    Args:
        output: the output folder.
        archive: the archive; None takes the one that the runs had.
    """

    def __init__(self, output: Path, archive: Path | None = None) -> None:
        self.output, self.archive = output, archive

    def __iter__(self) -> Iterator[Picture]:
        """All of them, by path.

        Raises:
            StorageError: there is no journal, or it cannot be read.
        """
        with JournalReader(self.output) as journal:
            for entry in journal.entries(State.FINISHED):
                yield Picture.of(entry, self.output, self.archive)

    def check(self) -> None:
        """Raises `StorageError` where there is no journal."""
        JournalReader(self.output).close()

    def stamp(self) -> int:
        """Changes when a run has written to the folder; -1 where the journal is out of reach."""
        try:
            return journal_file(self.output).stat().st_mtime_ns
        except OSError:
            return -1

    def now(self, relative: str) -> Picture | None:
        """One of them as it is now; None where it is no longer published.

        Raises:
            StorageError: as above.
        """
        with JournalReader(self.output) as journal:
            entry = journal.entry(relative)
        is_there = entry is not None and entry.state is State.FINISHED
        return Picture.of(entry, self.output, self.archive) if entry is not None and is_there else None


def doubts_by_neighbours(pictures: Sequence[Picture]) -> Iterator[Doubt]:
    """How doubtful each picture is by the ones before and after it in its folder.

    Args:
        pictures: by path; frames of a drive follow each other.
    """
    for n, picture in enumerate(pictures):
        near = [pictures[k] for k in (n - 1, n + 1) if 0 <= k < len(pictures) and pictures[k].folder == picture.folder]
        yield _by_neighbours(picture.objects, [neighbour.objects for neighbour in near])


def _by_neighbours(objects: Mapping[str, int], near: Sequence[Mapping[str, int]]) -> Doubt:
    having = [other for other in near if other]
    if not objects and having:
        names = ", ".join(f"{n} {name}" for name, n in max(having, key=lambda other: sum(other.values())).items())
        return Doubt(1.0 if len(having) == 2 else 0.5, f"nothing found, a neighbour has {names}")
    if len(near) < 2:
        return NO_DOUBT
    if gone := sorted(near[0].keys() & near[1].keys() - objects.keys()):
        return Doubt(0.75, f"no {', '.join(gone)}, both neighbours have some")
    if alone := sorted(objects.keys() - near[0].keys() - near[1].keys()):
        return Doubt(0.25, f"{', '.join(alone)} in this picture only")
    return NO_DOUBT


def doubt_of_scores(content: Mapping[str, Any], thresholds: Thresholds) -> Doubt:
    """How near scores are to the threshold.

    Args:
        content: of a file of saved instances.
        thresholds: class id → score from which on a find is hidden.
    """
    doubt = NO_DOUBT
    hidden = [entry["bbox"] for entry in content.get("instances", ())]
    for name in ("instances", "doubtful"):
        for entry in content.get(name, ()):
            if entry.get("source", MODEL) != MODEL:
                continue
            nearness = 1 - abs(entry["score"] - thresholds(entry["category_id"])) / _BAND
            found = Doubt(max(nearness, 0.0), f"{entry['category']} {entry['score']:.2f}")
            if name == "doubtful":
                if any(_fraction_inside(entry["bbox"], box) >= HIDDEN_ANYWAY for box in hidden):
                    continue
                found = Doubt(max(nearness, _THROWN_OUT), f"{found.reason}, not hidden")
            if found.degree > doubt.degree:
                doubt = found
    return doubt


def _fraction_inside(inner: Sequence[float], outer: Sequence[float]) -> float:
    """Fraction of a box [left, top, width, height] that lies inside another."""
    width = min(inner[0] + inner[2], outer[0] + outer[2]) - max(inner[0], outer[0])
    height = min(inner[1] + inner[3], outer[1] + outer[3]) - max(inner[1], outer[1])
    return max(0.0, width) * max(0.0, height) / (inner[2] * inner[3])
