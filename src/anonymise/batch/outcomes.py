"""What became of each image, and of a whole run. Values only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from anonymise.core.errors import StopError

__all__ = ["Done", "Failed", "Outcome", "Progress", "Report", "Skipped"]


@dataclass(frozen=True, slots=True)
class Done:
    """An image that is finished.

    Attributes:
        source: the input image.
        objects: class name (`labels.LABELS`) → number of objects that were found in it; None where nobody looked.
        notes: what the operator should know about it although it succeeded.
        seconds: stage → time that it took.
        record: the image's record as JSON text, if it is to become a row of the database.
        contents: "input" → what the image's files depend on of its input; "instances", where saved instances were
            written → SHA-256 of that file.
    """

    source: Path
    objects: Mapping[str, int] | None = None
    notes: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    record: str | None = None
    contents: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failed:
    """An image, or a folder, that could not be done.

    Attributes:
        source: the input image or folder.
        stage: what was being done.
        reason: for the operator.
        record: the incomplete record, where that is what was wrong.
    """

    source: Path
    stage: str
    reason: str
    record: str | None = None


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something that needed no work.

    Attributes:
        source: the input image or folder.
        reason: for the operator.
        finished: whether it is an image whose files are all there, rather than something that is none.
    """

    source: Path
    reason: str
    finished: bool = True


Outcome = Done | Failed | Skipped


@dataclass(frozen=True, slots=True)
class Report:
    """What a run did. It names what failed, and counts the rest: a run may be over millions of images.

    Attributes:
        n_done: images that were finished by this run.
        n_skipped: images that were finished before.
        failed: images and folders that could not be done, by path.
        objects: class name → number of objects that were found in the images done, the most frequent first.
        has_looked: whether anybody looked for objects.
        stage_seconds: stage → time that it took, summed over all images and workers.
        n_folders: folders with images.
        n_passed_over: previews and masks in the input folder, which are not images to work on.
        seconds: the whole time.
        stopped: why the run could not go on, None if it could.
        interrupted: whether the operator stopped it.
        rows: what became of rows → how many; None where nothing was to go to a database.
        left_out: suffix → number of files in the input folder that are no images, the most frequent first.
        n_stale: images that are not the pictures that corrections were made for. They are hidden all the same.
        n_left: images that a run which ended early did not get to; None where it had not looked for all of them yet.
    """

    n_done: int
    n_skipped: int
    failed: tuple[Failed, ...]
    objects: Mapping[str, int]
    stage_seconds: Mapping[str, float]
    n_folders: int
    n_passed_over: int
    seconds: float
    stopped: StopError | None = None
    interrupted: bool = False
    rows: Mapping[str, int] | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)
    has_looked: bool = False
    n_left: int | None = 0
    n_stale: int = 0


class Progress:
    """Observer of a run, which may also stop it. The base class does nothing and never stops."""

    def wants_to_stop(self) -> bool:
        """Whether the run is to end, with what is under way finished."""
        return False

    def found(self, n_images: int) -> None:
        """All images are known before the work starts."""

    def finished(self, outcome: Outcome) -> None:
        """An image, or a folder with a problem, has its outcome."""

    def changed(self, outcome: Outcome) -> None:
        """An image that had its outcome has another."""

    def ended(self) -> None:
        """All images have their outcomes, or were given up."""
