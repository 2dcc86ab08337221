"""Sections of the configuration about runs, for the rooms that stand above this one."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from anonymise.core.classes import unknown_classes
from anonymise.core.detections import Size
from anonymise.core.section import Section
from anonymise.redaction import Center

__all__ = [
    "DatabaseOptions",
    "EmailOptions",
    "EvaluationOptions",
    "LogOptions",
    "PreviewOptions",
    "ReviewOptions",
    "RunOptions",
    "StorageOptions",
]

_Share = Annotated[float, Field(gt=0, lt=1)]
_ReviewCommand = Literal[
    "decide", "next", "previous", "box", "polygon", "hand", "view", "delete", "outlines", "original", "undo", "redo",
    "flag", "broken", "help", "larger", "smaller", "fit",
]  # fmt: skip
_Level = Annotated[int, Field(ge=0, le=255)]


class RunOptions(Section):
    """Keys of the configuration about the run as a whole."""

    force_remask: bool
    """Process images again that are finished already."""

    lazy_paths: bool
    """Look for images while the run proceeds, which starts at once, instead of before it, which tells the time left."""

    max_failures_in_a_row: int | None = Field(ge=1)
    """Number of images that may fail one after the other before the run stops; null never stops it."""

    copy_originals_to_error_folder: bool
    """Copy the originals of failed images, with the faces in them, to the error folder next to the output folder."""

    enable_async: bool
    """Write results in other processes while the model works on the next image."""

    max_num_async_workers: int | None = Field(ge=1)
    """Number of processes that write results; null is half the number of CPU cores, at least 2."""

    image_memory_megabytes: int = Field(ge=1)
    """Memory for the pixels of all images that are being processed, in megabytes (millions of bytes). One image may be
    larger.
    """

    max_image_seconds: float | None = Field(gt=0)
    """Seconds that a process may take for one image, apart from waiting for a share, before it is ended and the image
    fails; null sets no limit.
    """

    corrections: str | None
    """Folder of the store of corrections: what people and other systems say must be hidden, or need not be; null
    applies none.
    """

    force_older_exif: bool
    """Read all images as those from before 2022: the recorder's ImageProperties take precedence over newer metadata."""


class PreviewOptions(Section):
    """Keys of the configuration about the preview: a part of the anonymised image."""

    preview_dim: Size | None
    """Size of the preview in pixels, [width, height]; null writes no previews."""

    preview_center: Center
    """Centre of the preview, [height, width], as fractions of the image, 0 to 1."""

    @field_validator("preview_dim")
    @classmethod
    def _some_pixels(cls, dim: Size | None) -> Size | None:
        if dim is not None and min(dim) < 1:
            raise ValueError("width and height should be at least 1")
        return dim

    @field_validator("preview_center")
    @classmethod
    def _inside_the_image(cls, center: Center) -> Center:
        if not all(0 <= share <= 1 for share in center):
            raise ValueError("both should be between 0 and 1")
        return center


class LogOptions(Section):
    """Keys of the configuration about the log."""

    datetime_format: str
    """Format of `{datetime}` in `log_file_name`, as in Python's strftime."""

    log_file_name: str
    """Name of the log file in the log folder (`-l`); may contain `{datetime}` and `{hostname}`."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"]
    """Least severe level of messages that are logged."""

    @field_validator("log_file_name")
    @classmethod
    def _fields_known(cls, template: str) -> str:
        try:
            template.format(datetime="", hostname="")
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError("only the fields {datetime} and {hostname} can stand in it") from error
        return template


class StorageOptions(Section):
    """Keys of the configuration about files that cannot be reached, and about deleting the input."""

    delete_input: bool
    """Delete an input image once all its files are written and its copy in the archive is verified. Needs an archive
    folder (`-a`).
    """

    file_access_retry_seconds: float = Field(gt=0)
    """Seconds between attempts to reach a folder, such as a share, that is out of reach."""

    file_access_timeout_seconds: float = Field(ge=0)
    """Seconds after which the run stops if a folder stays out of reach."""

    max_file_megabytes: int = Field(ge=1)
    """Size above which a file is refused before it is read, in megabytes (millions of bytes)."""


class EmailOptions(Section):
    """Keys of the configuration that say which mails are sent."""

    uncaught_exception_email: bool
    """Send an e-mail when the program ends because of an error."""

    processing_error_email: bool
    """Send an e-mail when images fail: the first at once, later ones gathered."""

    finished_email: bool
    """Send an e-mail when a run has ended."""

    email_attach_log_file: bool
    """Attach the end of the log file, compressed. Needs a log folder (`-l`)."""

    @property
    def any_enabled(self) -> bool:
        """Whether any mail is sent at all."""
        return self.uncaught_exception_email or self.processing_error_email or self.finished_email


class DatabaseOptions(Section):
    """Keys of the configuration about the database, whose settings are in ``db_config.yml``."""

    write_exif_to_db: bool
    """Write the record of every finished image to the database. Needs `table_name`."""

    db_max_n_accumulated_rows: int = Field(ge=1, le=10_000)
    """Number of rows that are sent to the database together."""

    db_max_n_errors: int = Field(ge=1)
    """Number of rows that the database may refuse before sending stops."""

    db_max_cache_size: int = Field(ge=1)
    """Number of rows that may wait for a database that is not reachable before the run stops; at least
    `db_max_n_accumulated_rows`.
    """

    @model_validator(mode="after")
    def _a_batch_fits(self) -> Self:
        if self.db_max_cache_size < self.db_max_n_accumulated_rows:
            raise ValueError("db_max_cache_size: should be at least db_max_n_accumulated_rows")
        return self


class EvaluationOptions(Section):
    """Keys of the configuration that say what is counted, and how sure the numbers are."""

    evaluation_label_classes: Mapping[str, _Level]
    """Classes in label images: name and pixel value (0 to 255). The defaults are CamVid's."""

    evaluation_label_void: tuple[_Level, ...]
    """Pixel values (0 to 255) in label images that are unknown and count nowhere."""

    evaluation_class_synonyms: Mapping[str, str | None]
    """Classes of the ground truth that the models do not have, and the class that a model finds them as; null leaves a
    class out.
    """

    evaluation_size_groups: tuple[_Share, _Share]
    """Object size as a fraction of the image's area: small below the first value, large from the second on, medium in
    between.
    """

    evaluation_min_object_pixels: int = Field(ge=1)
    """Smallest number of pixels of a connected area in a label image that counts as an object."""

    evaluation_covered_share: float = Field(gt=0, le=1)
    """Fraction of an object's pixels from which on the object is covered."""

    evaluation_missed_share: float = Field(gt=0, le=1)
    """Fraction of an object's pixels below which the object is missed; at most `evaluation_covered_share`."""

    evaluation_bootstrap_samples: int = Field(ge=100)
    """Number of resamplings of the images from which the confidence intervals are computed."""

    evaluation_bootstrap_seed: int = Field(ge=0)
    """Seed of the random numbers of the resampling."""

    evaluation_confidence: _Share
    """Confidence level of the intervals."""

    evaluation_min_group: int = Field(ge=1)
    """Number of objects below which a group of an attribute is marked, and left out of the largest gap."""

    evaluation_thresholds: tuple[_Share, ...] = Field(min_length=1, max_length=200)
    """Score thresholds of the curves, in ascending order."""

    evaluation_gallery: int = Field(ge=0)
    """Number of the worst misses that the page shows."""

    @field_validator("evaluation_size_groups")
    @classmethod
    def _growing(cls, shares: tuple[float, float]) -> tuple[float, float]:
        if shares[0] >= shares[1]:
            raise ValueError("the second share should be larger than the first")
        return shares

    @field_validator("evaluation_thresholds")
    @classmethod
    def _sorted(cls, thresholds: tuple[float, ...]) -> tuple[float, ...]:
        if list(thresholds) != sorted(set(thresholds)):
            raise ValueError("thresholds should grow")
        return thresholds

    @field_validator("evaluation_class_synonyms")
    @classmethod
    def _known(cls, synonyms: Mapping[str, str | None]) -> Mapping[str, str | None]:
        if problem := unknown_classes(*(name for name in synonyms.values() if name is not None)):
            raise ValueError(problem)
        return {name.lower(): meant for name, meant in synonyms.items()}

    @model_validator(mode="after")
    def _consistent(self) -> "EvaluationOptions":
        if self.evaluation_missed_share > self.evaluation_covered_share:
            raise ValueError("evaluation_missed_share: should not be more than evaluation_covered_share")
        if both := set(self.evaluation_label_classes.values()) & set(self.evaluation_label_void):
            raise ValueError(f"evaluation_label_void: {sorted(both)} are also numbers of classes")
        return self


class ReviewOptions(Section):
    """Keys of the configuration about the review in the browser."""

    review_users: str | None
    """File of the people who review, a line `name:role,role:SHA-256 of the token` for each; null is one person on this
    machine.
    """

    review_originals: bool
    """Show crops of the originals to those with the role `original`."""

    review_accepts: bool
    """What a reviewer draws is hidden by the next run; False lets somebody accept it first (`corrections accept`)."""

    review_remove_by: Literal[1, 2]
    """Number of people who must call a find false before it is no longer hidden."""

    review_keys: Mapping[_ReviewCommand, str | tuple[str, ...]]
    """Other keys for the page of the review: command → key, or list of keys, by their names in browsers."""
