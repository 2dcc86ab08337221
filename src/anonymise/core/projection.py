"""How the pixels of an image lie around the camera: planar, or a whole equirectangular panorama or a part of one.

A panorama camera, or whoever cuts a panorama, writes where the picture is on the sphere as GPano's crop fields:
FullPanoWidthPixels and its five companions (developers.google.com/streetview/spherical-metadata).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from anonymise.core.detections import Size

__all__ = ["PLANAR", "Projection", "ProjectionKind", "panorama", "projection_of"]

ProjectionKind = Literal["auto", "planar", "equirectangular"]
"""What is known of the projection of images before they are read; ``auto`` asks each image's GPano."""

_CROP_FIELDS = (
    *("FullPanoWidthPixels", "FullPanoHeightPixels", "CroppedAreaImageWidthPixels", "CroppedAreaImageHeightPixels"),
    *("CroppedAreaLeftPixels", "CroppedAreaTopPixels"),
)

_TOLERANCE = 0.005
"""Fraction by which lengths may differ that should be the same: programs round them."""


@dataclass(frozen=True, slots=True)
class Projection:
    """How the pixels of an upright image lie around the camera.

    Attributes:
        sphere: width and height of the equirectangular panorama of the whole sphere that the image is a part of, in
            pixels of the image; None for a planar image.
        left: column of that panorama in which the image begins.
        top: row of that panorama in which the image begins.
        wraps: whether the left and the right edge of the image meet.
    """

    sphere: tuple[float, float] | None = None
    left: float = 0.0
    top: float = 0.0
    wraps: bool = False

    def wraps_as_stored(self, orientation: int) -> bool:
        """Whether the left and the right edge of the stored pixels meet.

        Args:
            orientation: EXIF orientation of the file, 1 to 8.
        """
        # Of an image that is stored on its side, the edges that meet are the upper and the lower one.
        return self.wraps and orientation < 5

    def scaled(self, size: Size, to: Size) -> "Projection":
        """The projection of the same picture in another size.

        Args:
            size: size of the image that this projection is of.
            to: size of the other image.
        """
        if self.sphere is None:
            return self
        width, height = self.sphere
        return Projection(
            (width * to.width / size.width, height * to.height / size.height),
            self.left * to.width / size.width,
            self.top * to.height / size.height,
            self.wraps,
        )


PLANAR = Projection()


def projection_of(kind: ProjectionKind, size: Size, gpano: Mapping[str, str]) -> tuple[Projection, tuple[str, ...]]:
    """How the pixels of an upright image lie around the camera, and what is odd about that, one line each.

    With ``auto`` an image is equirectangular if its GPano says so and fits its shape. GPano that does not fit is noted,
    and the image is planar: programs that cut a flat picture out of a panorama copy its metadata.

    Args:
        kind: what is known of the projection.
        size: size of the upright image.
        gpano: GPano properties of the image's XMP by their names.
    """
    if kind == "planar":
        return PLANAR, ()
    if kind == "equirectangular":
        return panorama(size, gpano)
    claims = gpano.get("ProjectionType", "").strip().lower() == "equirectangular"
    found, problem = _by_crop_fields(size, gpano)
    if found is None and claims and problem is None:
        if _is_about(size.width, 2 * size.height):
            found = _whole_sphere(size)
        else:
            problem = f"its {size.width}×{size.height} pixels are not 2:1, and it has no GPano crop fields"
    if found is not None:
        return found, (
            "360° image by its GPano: its edges are handled, but the configuration is for planar images; "
            "see the key projection",
        )
    if claims and problem is not None:
        return PLANAR, (
            f"GPano says that this is a 360° image, but {problem}: taken for planar; see the key projection",
        )
    return PLANAR, ()


def panorama(size: Size, gpano: Mapping[str, str]) -> tuple[Projection, tuple[str, ...]]:
    """Where on the sphere an equirectangular image is, and what is odd about that, one line each.

    Without crop fields that make sense, an image of 2:1 is the whole sphere, one that is wider is taken for the middle
    rows of one, and one that is higher for the whole sphere.

    Args:
        size: size of the upright image. It may be scaled: the crop fields count in pixels of their own.
        gpano: the properties of the image's XMP by their names, as `metadata.gpano.read_gpano` gives them.
    """
    by_gpano, problem = _by_crop_fields(size, gpano)
    if by_gpano is not None:
        return by_gpano, ()
    notes = () if problem is None else (f"360° image: {problem}",)
    width, height = size
    if _is_about(width, 2 * height):
        return _whole_sphere(size), notes
    shape = f"360° image of {width}×{height} pixels, which is not 2:1, without GPano crop fields that explain it: "
    if width > 2 * height:
        rows = Projection((float(width), width / 2), top=(width / 2 - height) / 2, wraps=True)
        return rows, (*notes, f"{shape}taken for the middle rows of a whole panorama")
    return _whole_sphere(size), (*notes, f"{shape}taken for a whole panorama")


def _whole_sphere(size: Size) -> Projection:
    return Projection((float(size.width), float(size.height)), wraps=True)


def _by_crop_fields(size: Size, gpano: Mapping[str, str]) -> tuple[Projection | None, str | None]:
    """Where on the sphere the crop fields place an image; None, and if they make no sense, why."""
    texts = [gpano.get(name) for name in _CROP_FIELDS]
    if not any(texts):
        return None, None
    full_width, full_height, width, height, left, top = (_number(text) for text in texts)
    if full_width is None or full_height is None or width is None or height is None or left is None or top is None:
        return None, "its GPano crop fields are not complete"
    kind = gpano.get("ProjectionType", "equirectangular")
    if kind.strip().lower() != "equirectangular":
        return None, "its GPano projection is not equirectangular"
    if min(full_width, full_height, width, height) < 1 or min(left, top) < 0:
        return None, "its GPano crop fields are negative or zero"
    if not _is_about(full_width, 2 * full_height):
        return None, f"its GPano full size {full_width:g}×{full_height:g} is not 2:1"
    slack = 1 + _TOLERANCE
    if width > full_width * slack or top + height > full_height * slack or left > full_width:
        return None, "its GPano crop fields reach beyond the full panorama"
    x, y = size.width / width, size.height / height
    # Of a narrow crop a pixel, which a program may have rounded away, is more than the tolerance.
    if abs(x - y) > max(_TOLERANCE * x, 1 / width, 1 / height):
        return (
            None,
            f"its GPano crop of {width:g}×{height:g} has another shape than its {size.width}×{size.height} pixels",
        )
    # Rounding must not turn a whole panorama into a part of one.
    wraps = abs(full_width * x - size.width) < 1
    sphere_width = float(size.width) if wraps else full_width * x
    if abs(full_height * y - size.height) < 1:
        return Projection((sphere_width, float(size.height)), left * x, 0.0, wraps), None
    return Projection((sphere_width, full_height * y), left * x, top * y, wraps), None


def _is_about(length: float, other: float) -> bool:
    return abs(length - other) <= max(1.0, _TOLERANCE * other)


def _number(text: str | None) -> float | None:
    """A number as XMP writes them: whole, decimal, or a fraction."""
    numerator, _, denominator = (text or "").replace(",", ".").partition("/")
    try:
        value = float(numerator) / float(denominator or 1)
    except (ValueError, ZeroDivisionError):
        return None
    return value if math.isfinite(value) else None
