"""Which files of which images are there: what an operator checks before publishing."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from anonymise.paths import FileKind, FileOptions, Place, TreeWalker, WalkProblem, all_files, expected_files

__all__ = ["Audit", "Status", "audit"]


class Status(Enum):
    """Of one file of one image."""

    OK = "OK"
    MISSING = "Missing"
    NONE = "None"
    """Not there, and not asked for by the configuration."""


@dataclass(frozen=True, slots=True)
class Audit:
    """The state of a folder.

    Attributes:
        n_images: images in the input folder.
        counts: (kind, place) → status → number of images.
        missing: the files that should be there.
        problems: folders and files that could not be looked at.
    """

    n_images: int
    counts: dict[tuple[FileKind, Place], dict[Status, int]]
    missing: tuple[Path, ...]
    problems: tuple[WalkProblem, ...]


def audit(walker: TreeWalker, options: FileOptions, *, all_kinds: bool = False) -> Audit:
    """Looks for the files of every image that ``walker`` finds.

    Args:
        walker: over the input folder.
        options: say which files a finished image has.
        all_kinds: ask for every kind of file in every place of the run, whatever ``options`` say.
    """
    counts: dict[tuple[FileKind, Place], dict[Status, int]] = {}
    missing: list[Path] = []
    problems: list[WalkProblem] = []
    n_images = 0
    for paths in walker.walk():
        if isinstance(paths, WalkProblem):
            problems.append(paths)
            continue
        n_images += 1
        expected = {file.path for file in (all_files(paths) if all_kinds else expected_files(paths, options))}
        for file in all_files(paths):
            if file.path.is_file() and file.path.stat().st_size > 0:
                status = Status.OK
            elif file.path in expected:
                status = Status.MISSING
                missing.append(file.path)
            else:
                status = Status.NONE
            counts.setdefault((file.kind, file.place), dict.fromkeys(Status, 0))[status] += 1
    return Audit(n_images, counts, tuple(missing), tuple(problems))
