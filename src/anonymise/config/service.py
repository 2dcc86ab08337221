"""Section of the configuration about the service, which stands above this room."""

from typing import Literal

from pydantic import Field, field_validator

from anonymise.core.classes import unknown_classes
from anonymise.core.section import Section

__all__ = ["LogLevel", "ServiceOptions"]

LogLevel = Literal["debug", "info", "warning", "error"]


class ServiceOptions(Section):
    """Keys of the configuration about the HTTP service."""

    service_port: int | None = Field(ge=0, le=65535)
    """Port of the service; null takes the environment variable `PORT`, else 5000."""

    service_workers: int | None = Field(ge=1)
    """Pictures in work at once; null takes the environment variable `WORKERS`, else 1."""

    service_waiting: int = Field(ge=0)
    """Requests that may wait; the next one is answered with 503."""

    service_timeout_seconds: float | None = Field(gt=0)
    """Seconds that a request may wait and be in work; null takes the environment variable `WORKER_TIMEOUT`, or 120."""

    service_read_seconds: float = Field(gt=0)
    """Seconds after which a client must have sent 100 kB a second on average, else it is answered with 408."""

    service_max_bytes: int = Field(ge=1)
    """Largest body of a request with one picture, in bytes."""

    service_log_level: LogLevel | None
    """What is logged; null takes the environment variable `LOG_LEVEL`, else info."""

    service_tokens: str | None
    """File of those who may ask, a line `name:SHA-256 of the token` for each, which nobody else may read; null lets
    everybody on this machine ask.
    """

    service_annotations: tuple[str, ...]
    """Classes whose boxes `/blur/` tells."""

    service_jobs_directory: str | None
    """Folder for jobs of many images; null offers no jobs."""

    service_jobs_hours: float = Field(gt=0)
    """Hours that the results of a job stay."""

    service_jobs_bytes: int = Field(ge=1)
    """Bytes of all jobs together; a job that has no room is answered with 507."""

    @property
    def request_seconds(self) -> float:
        """Seconds that a request may wait and be in work."""
        return self.service_timeout_seconds or 120.0

    @field_validator("service_annotations")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if problem := unknown_classes(*names):
            raise ValueError(problem)
        return names
