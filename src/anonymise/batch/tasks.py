"""Tasks and results about images: what a folder run gives to the runner, and what it makes of the answers."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from anonymise.batch.outcomes import Done, Failed, Outcome, Skipped
from anonymise.batch.runner import Failure, Result, Success, Task
from anonymise.batch.walker import WalkProblem
from anonymise.batch.workers import WorkerDied
from anonymise.core.errors import ImageError, RecordError

__all__ = ["ImageResult", "ImageTask", "Subject", "Work", "outcome_of", "problem_result"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Subject:
    """What a task is about, and what is known of it before the task is done.

    Attributes:
        source: the input image or folder.
        stage: what is done, as messages name it.
        objects: class name → number of objects that were found in the image; None where nobody looked.
        seconds: stage → time that it took so far.
        is_follow_up: whether the image has its outcome already; only a failure changes that.
    """

    source: Path
    stage: str = "write"
    objects: Mapping[str, int] | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    is_follow_up: bool = False


@dataclass(frozen=True, slots=True)
class Work:
    """What a worker did with an image.

    Attributes:
        notes: what the operator should know although it succeeded.
        seconds: stage → time that it took.
        record: the image's record as JSON text, if it is to become a row of the database.
        contents: as in `Done`.
    """

    notes: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    record: str | None = None
    contents: Mapping[str, str] = field(default_factory=dict)


ImageTask = Task[Subject, Work | Outcome]
ImageResult = Result[Subject, Work | Outcome]


def problem_result(problem: WalkProblem) -> Success[Subject, Outcome]:
    """What a problem of the walk means for the run."""
    if problem.hides_images:
        outcome: Outcome = Failed(problem.path, "walk", problem.reason)
    else:
        outcome = Skipped(problem.path, problem.reason, finished=False)
    return Success(Subject(problem.path, "walk"), outcome)


def outcome_of(result: ImageResult) -> Outcome:
    """What a result means for its image."""
    subject = result.item
    if isinstance(result, Failure):
        return _failed(subject, result.error)
    work = result.value
    if not isinstance(work, Work):
        return work
    seconds = {**subject.seconds, **work.seconds}
    return Done(subject.source, subject.objects, work.notes, seconds, work.record, work.contents)


def _failed(subject: Subject, error: Exception) -> Failed:
    record = None
    match error:
        case WorkerDied():
            reason = "the worker process died on it twice: out of memory, or a crash in a library"
        case ImageError():
            reason = str(error)
            record = error.record if isinstance(error, RecordError) else None
        case _:
            log.debug("%s: unexpected error in the stage %s", subject.source, subject.stage, exc_info=error)
            reason = f"unexpected {type(error).__name__}: {error}"
    return Failed(subject.source, subject.stage, reason, record)
