"""(image, what was found, appearance) → new image; static masks; previews.

- `appearance`: the keys of the configuration.
- `regions`: which pixels belong to which object, also where masks overlap or cross the seam of a 360° image.
- `fills`: what an object is replaced with, and why it cannot be undone.
- `compose`: puts the fills into the image.

No files, no models. ``docs/appearance.md`` tells the operator what the appearances look like and what survives.
"""

from anonymise.redaction.appearance import Appearance, Kind, Rgb, StaticMaskOptions
from anonymise.redaction.compose import Center, Drawn, Layer, draw, preview
from anonymise.redaction.regions import static_mask

__all__ = [
    "Appearance",
    "Center",
    "Drawn",
    "Kind",
    "Layer",
    "Rgb",
    "StaticMaskOptions",
    "draw",
    "preview",
    "static_mask",
]
