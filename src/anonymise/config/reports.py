"""Keys of the configuration about reports by the public, for the room above that takes them in."""

from typing import Literal

from pydantic import Field

from anonymise.core.section import Section

__all__ = ["ReportOptions"]


class ReportOptions(Section):
    """Keys of the configuration about reports by the public of what must be hidden."""

    reports_open: bool
    """Take reports by anybody at the service, without a token."""

    reports_originals: str | None
    """Folder with the originals that reports are about: the archive or the input folder."""

    reports_pictures: str | None
    """CSV file with the columns `id` and `relative`: names of pictures elsewhere, and their paths below that folder."""

    reports_hide: Literal["review", "at_once"]
    """Hide what is reported as not blurred or private once somebody has reviewed it, or in the next run already."""

    reports_max_share: float = Field(gt=0, le=1)
    """Fraction of the sphere, or of a flat picture, above which a report is refused."""

    reports_point_degrees: float = Field(gt=0, le=45)
    """Radius in degrees of the circle around a single point."""

    reports_yaw_offset: float = Field(ge=-360, le=360)
    """Degrees to add to the yaw of viewers that turn panoramas by their pose; see `reports calibrate`."""

    reports_pitch_sign: Literal[1, -1]
    """Sign of the pitch: -1 for viewers in which it grows downwards."""

    reports_keep_days: int = Field(ge=0)
    """Days after which the note of a closed report is deleted."""
