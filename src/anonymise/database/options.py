"""What the configuration says about sending records to the database."""

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self

__all__ = ["DatabaseOptions"]


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
