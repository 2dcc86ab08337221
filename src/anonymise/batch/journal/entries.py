"""What the journal knows of an image, and what that means to a run."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from anonymise.core.sources import uncorrected

__all__ = ["SAVED", "Entry", "Identity", "ResumeStatus", "State", "Written", "files_from_text", "files_to_text"]

SAVED = "saved:"
"""How the fingerprint of a source of detections begins that is a file of instances which no model wrote."""


class State(Enum):
    """State of an image in the journal."""

    STARTED = "started"
    FINISHED = "finished"
    FAILED = "failed"


class ResumeStatus(Enum):
    """What a run with a certain configuration makes of the journal's entry of an image, as the image is now."""

    FINISHED = "finished"
    CHANGED_INPUT = "finished, but the input has changed since"
    OTHER_CONFIGURATION = "finished with another configuration or model"
    FAILED = "failed"
    UNFINISHED = "started, but not finished"
    UNKNOWN = "not in the journal"


class Identity(NamedTuple):
    """What tells, without reading it, that an input image is the one that was seen before; its name is the key.

    Attributes:
        size: in bytes.
        mtime_ns: time of the last change, in nanoseconds since the epoch, of 64 bits with sign.
    """

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Identity":
        """The identity of a file. A time before 1677 or after 2262 becomes the first or the last of these years."""
        return cls(status.st_size, max(-(1 << 63), min((1 << 63) - 1, status.st_mtime_ns)))


class Written(NamedTuple):
    """A file that was written for an image. What kind it is gives its name.

    Attributes:
        place: the tree that it stands in.
        kind: what it is.
        root: absolute path of the tree's root; None is the output folder, or, in entries of earlier versions, unknown.
    """

    place: str
    kind: str
    root: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """What the journal knows of one image.

    Attributes:
        relative: path below the input folder, with ``/``.
        identity: identity of the input image when it was last started; None where it could not even be looked at.
        digest: fingerprint of the settings of that time.
        state: state of the image.
        attempts: how often it was started with this identity and digest.
        stage: in which it failed.
        reason: why it failed.
        started: when it was last started; ISO 8601 in UTC.
        ended: when it was finished or failed.
        written: the files that runs wrote for the image and did not remove.
        objects: name → number of objects found in a finished image.
        source: fingerprint of where the detections came from when the image was last finished; None before that.
        content: what the image's files depended on of its input then.
        instances: SHA-256 of each file of saved instances that runs wrote → fingerprint of the source of its content.
    """

    relative: str
    identity: Identity | None
    digest: str
    state: State
    attempts: int
    stage: str | None
    reason: str | None
    started: str
    ended: str | None
    written: tuple[Written, ...]
    objects: Mapping[str, int]
    source: str | None = None
    content: str | None = None
    instances: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_corrected(self) -> bool:
        """Whether the image was last finished with saved instances that no model wrote."""
        return self.source is not None and self.source.startswith(SAVED)

    def resume_status(self, identity: Identity, digest: str, source: str | None = None) -> ResumeStatus:
        """What this entry means to a run, for an input that is now ``identity``.

        Args:
            identity: identity of the input image.
            digest: fingerprint of the run's settings.
            source: fingerprint of the run's model; None if that is not known. Corrections take the model's place.
        """
        if self.state is State.STARTED:
            return ResumeStatus.UNFINISHED
        if self.state is State.FAILED:
            return ResumeStatus.FAILED
        if self.identity != identity:
            return ResumeStatus.CHANGED_INPUT
        is_same = self.digest == digest and (source in (None, uncorrected(self.source or "")) or self.is_corrected)
        return ResumeStatus.FINISHED if is_same else ResumeStatus.OTHER_CONFIGURATION


def files_to_text(written: Iterable[Written]) -> str:
    """Files as one text, the same for the same files."""
    return json.dumps(sorted(set(written), key=lambda file: (file.place, file.kind, file.root or "")))


def files_from_text(text: str) -> tuple[Written, ...]:
    """The files of a text that `files_to_text` wrote."""
    return tuple(Written(*file) for file in json.loads(text))
