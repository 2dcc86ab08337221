"""What all sections of the configuration have in common."""

from pydantic import BaseModel, ConfigDict

__all__ = ["Section"]


class Section(BaseModel):
    """A section of the configuration: frozen, without unknown keys.

    Each key is a field, whose docstring stands in ``docs/configuration.md``. pydantic prepares the validation when the
    first value is made: processes that are sent a configuration never need it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)
