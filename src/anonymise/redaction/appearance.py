"""The keys of the configuration that say what hidden regions look like."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from anonymise.core.classes import LABELS, unknown_classes

__all__ = ["Appearance", "Kind", "Rgb", "StaticMaskOptions"]

Kind = Literal["blur", "mosaic", "solid", "color", "inpaint"]

_Level = Annotated[int, Field(ge=0, le=255)]
Rgb = tuple[_Level, _Level, _Level]

_NEUTRAL: Rgb = (128, 128, 128)
"""For classes without a colour of their own."""


class Appearance(BaseModel):
    """Keys of the configuration that control the appearance of the anonymised regions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    draw_mask: bool
    appearance: Kind | None
    mask_color: Rgb | None
    mask_colors: Mapping[str, Rgb]
    blur: int | None = Field(ge=1, le=100)
    gray_blur: bool
    normalized_gray_blur: bool
    feather: float = Field(ge=0, le=0.25)
    inpaint_radius: int = Field(ge=1, le=64)

    @field_validator("mask_colors")
    @classmethod
    def _known_classes(cls, colors: Mapping[str, Rgb]) -> Mapping[str, Rgb]:
        if problem := unknown_classes(*colors):
            raise ValueError(problem)
        return colors

    @model_validator(mode="after")
    def _normalized_is_gray(self) -> "Appearance":
        shows_averages = self.kind in ("blur", "mosaic", "solid")
        if shows_averages and self.normalized_gray_blur and not self.gray_blur:
            raise ValueError(
                "normalized_gray_blur: true requires gray_blur: true; "
                "set both to true, or normalized_gray_blur to false"
            )
        return self

    @property
    def kind(self) -> Kind:
        """The appearance; without the key, as older files have it: blur unless ``blur`` is null, then colour."""
        if self.appearance is not None:
            return self.appearance
        return "color" if self.blur is None else "blur"

    def color_of(self, label: int) -> Rgb:
        """The colour of a class: ``mask_color`` if set, else the one of the class, else a neutral grey."""
        return self.mask_color or self.mask_colors.get(LABELS.get(label, ""), _NEUTRAL)


class StaticMaskOptions(BaseModel):
    """Keys of the configuration for a mask that is applied to every image of a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    static_mask: str | None
    static_mask_resize: bool
    static_mask_appearance: Kind | None
    static_mask_color: Rgb | None
    static_mask_blur: int | None = Field(ge=1, le=100)

    def appearance(self, base: Appearance) -> Appearance:
        """How the static mask is drawn: as ``base``, except for what the keys of the static mask say."""
        changes = {
            "appearance": self.static_mask_appearance,
            "mask_color": self.static_mask_color,
            "blur": self.static_mask_blur,
        }
        given = {key: value for key, value in changes.items() if value is not None}
        return Appearance.model_validate(base.model_dump() | given)
