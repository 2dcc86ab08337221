"""The keys of the configuration that say what hidden regions look like."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from anonymise.core.classes import LABELS, unknown_classes
from anonymise.core.section import Section

__all__ = ["Appearance", "Kind", "Rgb", "StaticMaskOptions"]

Kind = Literal["blur", "mosaic", "solid", "color", "inpaint"]

_Level = Annotated[int, Field(ge=0, le=255)]
Rgb = tuple[_Level, _Level, _Level]

_NEUTRAL: Rgb = (128, 128, 128)
"""For classes without a colour of their own."""


class Appearance(Section):
    """Keys of the configuration that control the appearance of the anonymised regions."""

    draw_mask: bool
    """Hide what is found. False publishes the pixels as they are; masks and records are still written."""

    appearance: Kind | None
    """How objects are hidden; null is `blur`, or `color` where `blur` is null."""

    mask_color: Rgb | None
    """One colour [red, green, blue], 0 to 255, for all objects; null uses `mask_colors`."""

    mask_colors: Mapping[str, Rgb]
    """Colours [red, green, blue], 0 to 255, of the classes for the appearance `color`."""

    blur: int | None = Field(ge=1, le=100)
    """Strength of the blur: its kernel in thousandths of the image's width. It is never too weak to hide. null uses
    coloured masks.
    """

    gray_blur: bool
    """Take the colour out of hidden objects."""

    normalized_gray_blur: bool
    """Give all hidden objects the same mean grey, so that bright and dark ones cannot be told apart. Needs
    `gray_blur`.
    """

    feather: float = Field(ge=0, le=0.25)
    """Width of a soft edge outside the mask, as a fraction of the object's longer side."""

    inpaint_radius: int = Field(ge=1, le=64)
    """Radius in pixels of the appearance `inpaint`."""

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


class StaticMaskOptions(Section):
    """Keys of the configuration for a mask that is applied to every image of a run."""

    static_mask: str | None
    """PNG (0 hides) that is applied to every image of the run; null has none. A relative path begins at the folder of
    the configuration file.
    """

    static_mask_resize: bool
    """Scale the static mask to images of another size; False makes another size an error."""

    static_mask_appearance: Kind | None
    """Appearance of the static mask; null is the appearance of the objects."""

    static_mask_color: Rgb | None
    """Colour [red, green, blue], 0 to 255, of the static mask; null is the colour of the objects."""

    static_mask_blur: int | None = Field(ge=1, le=100)
    """Strength of the static mask's blur; null is that of the objects."""

    def appearance(self, base: Appearance) -> Appearance:
        """How the static mask is drawn: as ``base``, except for what the keys of the static mask say."""
        changes = {
            "appearance": self.static_mask_appearance,
            "mask_color": self.static_mask_color,
            "blur": self.static_mask_blur,
        }
        given = {key: value for key, value in changes.items() if value is not None}
        return Appearance.model_validate(base.model_dump() | given)
