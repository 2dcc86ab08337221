"""Which files of which images are there, and what the journal says: what an operator checks before publishing."""

from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from anonymise import images
from anonymise.batch.journal import Entry, Identity, JournalReader, ResumeStatus, State, has_journal
from anonymise.batch.paths import Paths, all_files, expected_files
from anonymise.batch.storage import is_written
from anonymise.batch.tracked import is_same_input, stray_files
from anonymise.batch.walker import TreeWalker, WalkProblem
from anonymise.config import FileKind, FileOptions, Place
from anonymise.core.errors import UnreadableImage

__all__ = ["Audit", "Doubt", "Status", "audit"]

_PICTURES = frozenset({FileKind.IMAGE, FileKind.PREVIEW, FileKind.MASK, FileKind.COLMAP_MASK})


class Status(Enum):
    """State of one file of one image."""

    OK = "OK"
    MISSING = "Missing"
    NONE = "None"
    """Not there, and not asked for by the configuration."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """An image or file that is not as it should be.

    Attributes:
        path: path of the file that is missing or damaged, else of the input image or folder.
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
        strays: files of images that the configuration does not ask for, such as previews of an earlier one.
        stale: images whose results are of another input, configuration or model, or of an interrupted run.
        problems: folders and files that could not be looked at.
    """

    n_images: int
    counts: Mapping[tuple[FileKind, Place], Mapping[Status, int]]
    missing: tuple[Doubt, ...]
    damaged: tuple[Doubt, ...]
    failed: tuple[Doubt, ...]
    strays: tuple[Doubt, ...]
    stale: tuple[Doubt, ...]
    problems: tuple[WalkProblem, ...]

    @property
    def is_complete(self) -> bool:
        """Whether all is as it should be."""
        hidden = any(problem.hides_images for problem in self.problems)
        return not (self.missing or self.damaged or self.failed or self.strays or self.stale or hidden)


def audit(
    walker: TreeWalker,
    options: FileOptions,
    output: Path,
    *,
    digest: str,
    source: str | None,
    all_kinds: bool = False,
    verify_max_pixels: int | None = None,
    corrected: Collection[str] = (),
) -> Audit:
    """Looks for the files of every image that ``walker`` finds.

    Args:
        walker: over the input folder.
        options: say which files a finished image has.
        output: the output folder, with the journal if there is one.
        digest: fingerprint of the settings that results should be of.
        source: fingerprint of the model that results should be of; None if that is not known.
        all_kinds: ask for every kind of file in every place of the run, whatever ``options`` say.
        verify_max_pixels: decode every picture that is there, up to this size; None does not look into files.
        corrected: `Paths.key` of the finished images whose corrections have changed since.

    Raises:
        StorageError: there is a journal, but it cannot be read.
    """
    counts: dict[tuple[FileKind, Place], dict[Status, int]] = {}
    missing: list[Doubt] = []
    damaged: list[Doubt] = []
    failed: dict[str, Doubt] = {}
    strays: list[Doubt] = []
    stale: list[Doubt] = []
    problems: list[WalkProblem] = []
    n_images = 0
    reading: AbstractContextManager[JournalReader | None] = (
        JournalReader(output) if has_journal(output) else nullcontext()
    )
    with reading as journal:
        for one in journal.entries(State.FAILED) if journal is not None else ():
            failed[one.relative] = Doubt(walker.root / one.relative, f"{one.stage}: {one.reason}")
        for paths in walker.walk():
            if isinstance(paths, WalkProblem):
                problems.append(paths)
                continue
            n_images += 1
            entry = None if journal is None else journal.entry(paths.key)
            expected = {file.path for file in (all_files(paths) if all_kinds else expected_files(paths, options))}
            stray = () if all_kinds else stray_files(paths, options, entry)
            strays += (Doubt(path, "not asked for by the configuration") for path in stray)
            for file in all_files(paths):
                status = Status.NONE
                if is_written(file.path):
                    status = Status.OK
                    if verify_max_pixels is not None and file.kind in _PICTURES:
                        damaged += _verified(file.path, verify_max_pixels)
                elif file.path in expected:
                    status = Status.MISSING
                    missing.append(Doubt(file.path, "missing"))
                counts.setdefault((file.kind, file.place), dict.fromkeys(Status, 0))[status] += 1
            if journal is not None and paths.key not in failed:
                stale += _stale(paths, entry, digest, source)
                if paths.key in corrected:
                    stale.append(Doubt(paths.source, "its corrections have changed since"))
    return Audit(
        n_images,
        counts,
        tuple(missing),
        tuple(damaged),
        tuple(failed.values()),
        tuple(strays),
        tuple(stale),
        tuple(problems),
    )


def _verified(path: Path, max_pixels: int) -> list[Doubt]:
    try:
        images.decode(path.read_bytes(), max_pixels=max_pixels)
    except (OSError, UnreadableImage) as error:
        return [Doubt(path, str(error))]
    return []


def _stale(paths: Paths, entry: Entry | None, digest: str, source: str | None) -> list[Doubt]:
    if entry is None:
        return [] if is_written(paths.output_image) else [Doubt(paths.source, ResumeStatus.UNKNOWN.value)]
    status = paths.source.stat()
    identity = Identity.of(status)
    if entry.identity is not None and entry.identity != identity and is_same_input(entry, paths.source, identity):
        identity = entry.identity  # with another time, such as its copy in the archive
    found = entry.resume_status(identity, digest, source)
    return [] if found is ResumeStatus.FINISHED else [Doubt(paths.source, found.value)]
