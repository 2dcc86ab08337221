"""Two cameras: a plain one that looks along the street, and one that sees 360°.

The world is in metres: x to the right, z ahead, heights above the ground. Both cameras map a column of pixels to one
direction and a row to one slope, so that the place on the ground that a pixel sees is a product of a row and a column:
``x = reach[row] * across[column]``, ``z = reach[row] * along[column]``.
"""

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from anonymise.core.detections import Size

__all__ = ["Camera", "equirectangular", "perspective"]

_Floats: TypeAlias = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Camera:
    """Where pixels look.

    Attributes:
        size: of the image.
        height_m: of the lens above the ground.
        around: whether the image closes at its left and right edge.
        tangents: (height, 1) slope of each row: up 1 for every metre ahead is 1, the horizon 0, downwards negative.
        across: (1, width) x of each column at distance 1.
        along: (1, width) z of each column at distance 1.
        focal_px: pixels per metre at a distance of one metre in the middle of the image.
    """

    size: Size
    height_m: float
    around: bool
    focal_px: float
    tangents: _Floats = field(repr=False)
    across: _Floats = field(repr=False)
    along: _Floats = field(repr=False)

    @property
    def horizon(self) -> int:
        """First row that looks at the ground."""
        return int(np.searchsorted(-self.tangents[:, 0], 0.0, side="right"))


def perspective(size: Size, height_m: float = 1.9) -> Camera:
    """A camera on a car, horizon in the middle."""
    # Cars that cross at 12 m fill about a fifth of the picture's mean side, whatever its shape.
    focal = 0.68 * float(np.sqrt(size.width * size.height))
    rows = np.arange(size.height, dtype=np.float32) + 0.5
    columns = np.arange(size.width, dtype=np.float32) + 0.5
    return Camera(
        size=size,
        height_m=height_m,
        around=False,
        focal_px=focal,
        tangents=((0.5 * size.height - rows) / focal)[:, None],
        across=((columns - size.width / 2) / focal)[None, :],
        along=np.ones((1, size.width), np.float32),
    )


def equirectangular(size: Size, height_m: float = 1.9) -> Camera:
    """A 360° camera: columns are longitude from -180° to 180°, rows latitude from 90° to -90°."""
    latitude = (0.5 - (np.arange(size.height) + 0.5) / size.height) * np.pi
    longitude = ((np.arange(size.width) + 0.5) / size.width - 0.5) * 2 * np.pi
    return Camera(
        size=size,
        height_m=height_m,
        around=True,
        focal_px=size.width / (2 * np.pi),
        tangents=np.tan(latitude).astype(np.float32)[:, None],
        across=np.sin(longitude).astype(np.float32)[None, :],
        along=np.cos(longitude).astype(np.float32)[None, :],
    )
