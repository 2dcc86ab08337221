"""Sections of the configuration about runs, for the rooms that stand above this one."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from typing_extensions import Self

from anonymise.core.classes import unknown_classes
from anonymise.core.detections import Size
from anonymise.redaction import Center

__all__ = [
    "DatabaseOptions",
    "EmailOptions",
    "EvaluationOptions",
    "LogOptions",
    "PreviewOptions",
    "RunOptions",
    "StorageOptions",
]

_Share = Annotated[float, Field(gt=0, lt=1)]
_Level = Annotated[int, Field(ge=0, le=255)]


class RunOptions(BaseModel):
    """Keys about the run as a whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    force_remask: bool
    lazy_paths: bool
    max_failures_in_a_row: int | None = Field(ge=1)
    copy_originals_to_error_folder: bool
    enable_async: bool
    max_num_async_workers: int | None = Field(ge=1)
    image_memory_megabytes: int = Field(ge=1)
    max_image_seconds: float | None = Field(gt=0)
    force_older_exif: bool


class PreviewOptions(BaseModel):
    """Keys about the preview: a part of the anonymised image."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    preview_dim: Size | None
    preview_center: Center

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


class LogOptions(BaseModel):
    """Keys about the log."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    datetime_format: str
    log_file_name: str
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"]

    @field_validator("log_file_name")
    @classmethod
    def _fields_known(cls, template: str) -> str:
        try:
            template.format(datetime="", hostname="")
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError("only the fields {datetime} and {hostname} can stand in it") from error
        return template


class StorageOptions(BaseModel):
    """Keys of the configuration about files that cannot be reached, and about deleting the input."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    delete_input: bool
    file_access_retry_seconds: float = Field(gt=0)
    file_access_timeout_seconds: float = Field(ge=0)
    max_file_megabytes: int = Field(ge=1)


class EmailOptions(BaseModel):
    """Keys of the configuration that say which mails are sent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uncaught_exception_email: bool
    processing_error_email: bool
    finished_email: bool
    email_attach_log_file: bool

    @property
    def any_enabled(self) -> bool:
        """Whether any mail is sent at all."""
        return self.uncaught_exception_email or self.processing_error_email or self.finished_email


class DatabaseOptions(BaseModel):
    """Keys of the configuration about the database; which one it is stands in ``db_config.yml`` (see `settings`).

    Attributes:
        write_exif_to_db: whether the record of every finished image becomes a row.
        db_max_n_accumulated_rows: rows that are gathered before they are sent together.
        db_max_n_errors: rows that the database may refuse before the run stops.
        db_max_cache_size: rows that may wait for a database that is away before the run stops.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    write_exif_to_db: bool
    db_max_n_accumulated_rows: int = Field(ge=1, le=10_000)
    db_max_n_errors: int = Field(ge=1)
    db_max_cache_size: int = Field(ge=1)

    @model_validator(mode="after")
    def _a_batch_fits(self) -> Self:
        if self.db_max_cache_size < self.db_max_n_accumulated_rows:
            raise ValueError("db_max_cache_size: should be at least db_max_n_accumulated_rows")
        return self


class EvaluationOptions(BaseModel):
    """Keys of the configuration that say what is counted, and how sure the numbers are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    evaluation_label_classes: Mapping[str, _Level]
    evaluation_label_void: tuple[_Level, ...]
    evaluation_class_synonyms: Mapping[str, str | None]
    evaluation_size_groups: tuple[_Share, _Share]
    evaluation_min_object_pixels: int = Field(ge=1)
    evaluation_covered_share: float = Field(gt=0, le=1)
    evaluation_missed_share: float = Field(gt=0, le=1)
    evaluation_bootstrap_samples: int = Field(ge=100)
    evaluation_bootstrap_seed: int = Field(ge=0)
    evaluation_confidence: _Share
    evaluation_min_group: int = Field(ge=1)
    evaluation_thresholds: tuple[_Share, ...] = Field(min_length=1, max_length=200)
    evaluation_gallery: int = Field(ge=0)

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
