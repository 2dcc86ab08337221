"""Which files of which images are there, and what the journal says: what an operator checks before publishing."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from anonymise import images
from anonymise.errors import UnreadableImage
from anonymise.journal import Identity, JournalReader, Standing, State, journal_file
from anonymise.paths import FileKind, FileOptions, Paths, Place, TreeWalker, WalkProblem, all_files, expected_files

__all__ = ["Audit", "Doubt", "Status", "audit"]

_PICTURES = frozenset({FileKind.IMAGE, FileKind.PREVIEW, FileKind.MASK, FileKind.COLMAP_MASK})


class Status(Enum):
    """Of one file of one image."""

    OK = "OK"
    MISSING = "Missing"
    NONE = "None"
    """Not there, and not asked for by the configuration."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """An image or file that is not as it should be.

    Attributes:
        path: of the file that is missing or damaged, else of the input image or folder.
        reason: for the operator.
    """

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Audit:
    """The state of a folder.

    Attributes:
        n_images: images in the input folder.
        counts: (kind, place) → status → number of images.
        missing: files that should be there.
        damaged: files that are there but cannot be decoded; looked for on demand only.
        failed: images that the journal says failed, with the reason; also those that are no longer in the input.
        stale: images whose results are of another input, configuration or model, or of an interrupted run.
        problems: folders and files that could not be looked at.
    """

    n_images: int
    counts: Mapping[tuple[FileKind, Place], Mapping[Status, int]]
    missing: tuple[Doubt, ...]
    damaged: tuple[Doubt, ...]
    failed: tuple[Doubt, ...]
    stale: tuple[Doubt, ...]
    problems: tuple[WalkProblem, ...]

    @property
    def is_complete(self) -> bool:
        """Whether all is as it should be."""
        hidden = any(problem.hides_images for problem in self.problems)
        return not (self.missing or self.damaged or self.failed or self.stale or hidden)


def audit(
    walker: TreeWalker,
    options: FileOptions,
    output: Path,
    *,
    digest: str | None,
    all_kinds: bool = False,
    verify_max_pixels: int | None = None,
) -> Audit:
    """Looks for the files of every image that ``walker`` finds.

    Args:
        walker: over the input folder.
        options: say which files a finished image has.
        output: the output folder, with the journal if there is one.
        digest: of the configuration and the model that results should be of; None if that is not known.
        all_kinds: ask for every kind of file in every place of the run, whatever ``options`` say.
        verify_max_pixels: decode every picture that is there, up to this size; None does not look into files.

    Raises:
        StorageError: there is a journal, but it cannot be read.
    """
    counts: dict[tuple[FileKind, Place], dict[Status, int]] = {}
    missing: list[Doubt] = []
    damaged: list[Doubt] = []
    failed: dict[str, Doubt] = {}
    stale: list[Doubt] = []
    problems: list[WalkProblem] = []
    n_images = 0
    has_journal = journal_file(output).is_file()
    reading: AbstractContextManager[JournalReader | None] = JournalReader(output) if has_journal else nullcontext()
    with reading as journal:
        for entry in journal.entries(State.FAILED) if journal is not None else ():
            failed[entry.relative] = Doubt(walker.root / entry.relative, f"{entry.stage}: {entry.reason}")
        for paths in walker.walk():
            if isinstance(paths, WalkProblem):
                problems.append(paths)
                continue
            n_images += 1
            expected = {file.path for file in (all_files(paths) if all_kinds else expected_files(paths, options))}
            for file in all_files(paths):
                status = Status.NONE
                if file.path.is_file() and file.path.stat().st_size > 0:
                    status = Status.OK
                    if verify_max_pixels is not None and file.kind in _PICTURES:
                        damaged += _verified(file.path, verify_max_pixels)
                elif file.path in expected:
                    status = Status.MISSING
                    missing.append(Doubt(file.path, "missing"))
                counts.setdefault((file.kind, file.place), dict.fromkeys(Status, 0))[status] += 1
            if journal is not None and paths.key not in failed:
                stale += _stale(paths, journal, digest)
    return Audit(
        n_images, counts, tuple(missing), tuple(damaged), tuple(failed.values()), tuple(stale), tuple(problems)
    )


def _verified(path: Path, max_pixels: int) -> list[Doubt]:
    try:
        images.decode(path.read_bytes(), max_pixels=max_pixels)
    except (OSError, UnreadableImage) as error:
        return [Doubt(path, str(error))]
    return []


def _stale(paths: Paths, journal: JournalReader, digest: str | None) -> list[Doubt]:
    entry = journal.entry(paths.key)
    if entry is None:
        return [] if paths.output_image.is_file() else [Doubt(paths.source, Standing.UNKNOWN.value)]
    status = paths.source.stat()
    standing = entry.standing(Identity.of(status), digest or entry.digest)
    return [] if standing is Standing.FINISHED else [Doubt(paths.source, standing.value)]
