"""Every error that this program raises on purpose, and the exit codes.

Each error answers one question for the caller: skip this image, or stop the run?

    AnonymiseError
    ├── UsageError            before the run starts: exit code 2
    │   ├── ConfigError       the configuration, with all its problems at once
    │   └── CannotStart       configuration and folders together, with all their problems at once
    ├── ImageError            this image only: it is reported, and the run goes on
    │   ├── UnreadableImage   the file is missing, empty, truncated, too large or no picture
    │   ├── InstancesError    a file of saved instances cannot be read
    │   ├── RecordError       the road metadata cannot make a valid record
    │   ├── DrawError         a region cannot be hidden as asked
    │   ├── WriteError        one of its files cannot be written or verified
    │   └── TimeLimitError    it takes too long
    └── StopError             the run cannot go on: exit code 3
        ├── ModelError        the model is not available, or cannot be loaded or run
        ├── StorageError      the disk is full, read-only or out of reach
        └── DatabaseError     the database refuses for a reason that waiting does not change
            └── DatabaseUnavailable   it is away, or asks to come back later
"""

from enum import IntEnum

from anonymise.core.plaintext import printable

__all__ = [
    "AnonymiseError",
    "CannotStart",
    "ConfigError",
    "DatabaseError",
    "DatabaseUnavailable",
    "DrawError",
    "ExitCode",
    "ImageError",
    "InstancesError",
    "ModelError",
    "RecordError",
    "StopError",
    "StorageError",
    "TimeLimitError",
    "UnreadableImage",
    "UsageError",
    "WriteError",
]


class ExitCode(IntEnum):
    """What the process tells the shell."""

    OK = 0
    IMAGES_FAILED = 1
    USAGE = 2
    STOPPED = 3
    FAULT = 70
    """The program itself is at fault; EX_SOFTWARE of sysexits.h."""
    INTERRUPTED = 130


class AnonymiseError(Exception):
    """Base of all errors that are raised on purpose; its text is written for the operator."""


class UsageError(AnonymiseError):
    """The command line or the folders make no sense together."""


class ConfigError(UsageError):
    """The configuration is not valid.

    Attributes:
        problems: one line each, with file and line where they are known.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = tuple(map(printable, problems))
        super().__init__("The configuration is not valid:\n" + "\n".join(f"  - {p}" for p in self.problems))

    def __reduce__(self) -> tuple[type["ConfigError"], tuple[list[str]]]:
        return type(self), (list(self.problems),)


class CannotStart(UsageError):
    """A run cannot succeed, and nothing was created.

    Attributes:
        problems: one line each.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = tuple(map(printable, problems))
        super().__init__("The run cannot start:\n" + "\n".join(f"  - {p}" for p in self.problems))

    def __reduce__(self) -> tuple[type["CannotStart"], tuple[list[str]]]:
        return type(self), (list(self.problems),)


class ImageError(AnonymiseError):
    """One image cannot be finished."""


class UnreadableImage(ImageError):
    """The image file is missing, empty, truncated, too large or no picture."""


class InstancesError(ImageError):
    """A file of saved instances cannot be read, or belongs to another image."""


class RecordError(ImageError):
    """The road metadata cannot make a valid record.

    Attributes:
        record: the incomplete record as JSON text, where there is one.
    """

    def __init__(self, message: str, record: str | None = None) -> None:
        super().__init__(message)
        self.record = record

    def __reduce__(self) -> tuple[type["RecordError"], tuple[str, str | None]]:
        return type(self), (str(self), self.record)  # exceptions travel from the workers by pickling


class DrawError(ImageError):
    """A region cannot be hidden as asked."""


class WriteError(ImageError):
    """A file of this image cannot be written or verified."""


class TimeLimitError(ImageError):
    """A process took too long for one image, and was ended."""

    @classmethod
    def after(cls, seconds: float) -> "TimeLimitError":
        """The error for an image that was given up after some seconds."""
        return cls(f"it took longer than {seconds:g} s, so its process was ended (max_image_seconds)")


class StopError(AnonymiseError):
    """The run cannot go on."""


class ModelError(StopError):
    """The masking model is not available, or cannot be loaded or run."""


class StorageError(StopError):
    """The disk is full, read-only or out of reach."""


class DatabaseError(StopError):
    """The database refuses for a reason that waiting does not change: no such table, wrong password, no permission."""


class DatabaseUnavailable(DatabaseError):
    """The database is away, or asks to come back later; nothing is wrong with the rows."""
