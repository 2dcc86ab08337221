"""Sky, hills and ground of a street, computed pixel by pixel from where each one looks."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from anonymise.core.detections import RgbImage
from samples.camera import Camera

__all__ = ["Street", "draw_backdrop"]

_Floats: TypeAlias = NDArray[np.floating[Any]]

_TILE = 512
_STRIP_PIXELS = 1 << 20
"""Pixels that are computed at once: the working arrays of a strip stay near the processor's cache."""


@dataclass(frozen=True, slots=True)
class Street:
    """Plan of the ground, in metres.

    Attributes:
        left: x of the left kerb of the street along z.
        right: x of its right kerb.
        middle: x of its dashed line.
        pavement: width of the pavements.
        junction: z of the near and far kerb of a street that crosses; the street along z ends there. None without one.
        crossing: z of the near and far edge of a zebra crossing.
    """

    left: float
    right: float
    middle: float
    pavement: float
    junction: tuple[float, float] | None
    crossing: tuple[float, float]


def draw_backdrop(rng: np.random.Generator, camera: Camera, street: Street) -> RgbImage:
    """Everything behind the objects: uint8 (height, width, 3)."""
    width, height = camera.size
    image = np.empty((height, width, 3), np.uint8)
    noise, clouds = _noise(rng, 0.7), _noise(rng, 1.65)
    phases = rng.uniform(0, 2 * np.pi, 12)
    rows = max(1, _STRIP_PIXELS // width)
    horizon = camera.horizon
    for top, bottom in ((0, horizon), (horizon, height)):
        for start in range(top, bottom, rows):
            part = slice(start, min(start + rows, bottom))
            above = top == 0
            pixels = _sky(camera, part, clouds, phases) if above else _ground(camera, part, noise, clouds, street)
            np.clip(pixels, 0, 255, out=pixels)
            image[part] = pixels.astype(np.uint8)
    return image


def _noise(rng: np.random.Generator, roughness: float) -> _Floats:
    """A square tile that repeats without a seam, mean 0 and deviation 1; power falls with frequency^(2 * roughness)."""
    frequency = np.hypot(np.fft.fftfreq(_TILE)[:, None], np.fft.rfftfreq(_TILE)[None, :])
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal((_TILE, _TILE))) / frequency**roughness
    tile = np.fft.irfft2(spectrum, (_TILE, _TILE))
    return np.asarray(tile / tile.std(), np.float32)


def _sample(tile: _Floats, x: _Floats, z: _Floats, metres: float) -> _Floats:
    """The tile laid out on a plane, ``metres`` wide."""
    scale = np.float32(_TILE / metres)
    # remap counts in 16-bit integers: what lies further away than they reach has no visible texture.
    u, v = (np.clip(values * scale, -30000, 30000) for values in np.broadcast_arrays(x, z))
    return np.asarray(cv2.remap(tile, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP), np.float32)


def _sky(camera: Camera, part: slice, clouds: _Floats, phases: NDArray[np.float64]) -> _Floats:
    slope = camera.tangents[part]
    height = slope / (slope + np.float32(0.55))
    low, high = np.array((214, 226, 234), np.float32), np.array((72, 128, 200), np.float32)
    pixels = np.repeat((low + (high - low) * height)[:, None, :], camera.size.width, axis=1)
    reach = 1 / np.maximum(slope, np.float32(0.02))
    cover = _sample(clouds, reach * camera.across, reach * camera.along, 9.0)
    cover = np.clip(cover * np.float32(0.5) - np.float32(0.1), 0, 1) * (slope / (slope + np.float32(0.12)))
    white = np.array((250, 250, 251), np.float32)
    pixels += np.minimum(cover * 1.5, 0.94)[..., None] * (white - pixels)
    if float(slope.min()) < 0.3:
        _add_hills(pixels, camera, part, phases)
    return pixels


def _add_hills(pixels: _Floats, camera: Camera, part: slice, phases: NDArray[np.float64]) -> None:
    slope = camera.tangents[part]
    step = (
        np.abs(np.gradient(camera.tangents[:, 0])).astype(np.float32)[part, None] if camera.size.height > 1 else slope
    )
    angle = np.arctan2(camera.across, camera.along)
    ridges = (
        (0.115, 0.075, (158, 178, 198), (3, 7, 13, 29)),
        (0.07, 0.045, (122, 146, 158), (5, 11, 23, 47)),
        (0.035, 0.02, (84, 110, 92), (9, 17, 61, 143)),
    )
    for layer, (base, swing, colour, waves) in enumerate(ridges):
        # Whole waves around the circle, so that the skyline closes at the seam of a panorama.
        skyline = base + swing * sum(
            np.sin(wave * angle + phases[4 * layer + i]) / (i + 1.2) for i, wave in enumerate(waves)
        ).astype(np.float32)
        cover = np.clip((skyline - slope) / step + 0.5, 0, 1)[..., None]
        haze = np.clip(1 - slope / 0.12, 0, 1)[..., None] * np.float32(0.35)
        tone = np.array(colour, np.float32)
        pixels += cover * (tone + haze * (np.array((206, 218, 224), np.float32) - tone) - pixels)


def _band(values: _Floats, low: float, high: float, blur: _Floats) -> _Floats:
    """How much of a pixel lies between two lines, 0 to 1; ``blur`` is the pixel's size in the same unit."""
    inverse = 1 / blur
    return np.asarray(np.clip((values - low) * inverse + 0.5, 0, 1) - np.clip((values - high) * inverse + 0.5, 0, 1))


def _ground(camera: Camera, part: slice, noise: _Floats, patches: _Floats, street: Street) -> _Floats:
    height = np.float32(camera.height_m)
    slope = np.minimum(camera.tangents[part], np.float32(-1e-3))
    reach = -height / slope
    reach_step = np.abs(np.gradient(-height / np.minimum(camera.tangents[:, 0], -1e-3))).astype(np.float32)[part, None]
    turn = np.float32(1 / camera.focal_px)
    x, z = reach * camera.across, reach * camera.along
    x_size = reach_step * np.abs(camera.across) + reach * turn * np.abs(camera.along) + np.float32(1e-4)
    z_size = reach_step * np.abs(camera.along) + np.float32(1e-4)
    if camera.around:
        z_size = z_size + reach * turn * np.abs(camera.across)
    asphalt, pavement = _areas(x, z, x_size, z_size, street)
    # Grain finer than a pixel averages out; what is left of it falls with the pixel's size.
    fade = 1 / (1 + np.asarray(z_size, np.float32) / np.float32(0.06))
    grain = _sample(noise, x, z, 6.0) * fade
    worn = _sample(patches, x, z, 38.0)
    tone = np.float32(92) + 9 * grain + 5 * worn
    tone += _markings(x, z, x_size, z_size, street) * (np.float32(206) + 6 * grain - 14 * np.abs(worn) - tone)
    stone = np.float32(160) + 8 * grain + 4 * worn
    joints = _joints(x, x_size, 1.2) + _joints(z, z_size, 1.2)
    stone = stone - 26 * joints
    tone = stone + asphalt * (tone - stone)
    haze = np.clip((reach - 25) / 120, 0, np.float32(0.5))
    tone += haze * (170 - tone)
    lawn = np.array((96, 122, 62), np.float32) + (14 * grain + 8 * worn)[..., None] * np.array((1, 1, 0.7), np.float32)
    lawn += haze[..., None] * (np.array((150, 170, 150), np.float32) - lawn)
    tint = np.array((0.985, 1.0, 1.015), np.float32)
    hard = np.maximum(asphalt, pavement)
    lawn += hard[..., None] * (tone[..., None] * tint - lawn)
    return np.asarray(lawn, np.float32)


def _areas(x: _Floats, z: _Floats, x_size: _Floats, z_size: _Floats, street: Street) -> tuple[_Floats, _Floats]:
    """Coverage of asphalt and of asphalt with pavement."""
    wide = street.pavement
    asphalt = _band(x, street.left, street.right, x_size)
    pavement = _band(x, street.left - wide, street.right + wide, x_size)
    if street.junction is None:
        return asphalt, pavement
    near, far = street.junction
    before = 1 - np.clip((z - far) / z_size + 0.5, 0, 1)
    asphalt = np.maximum(asphalt * before, _band(z, near, far, z_size))
    pavement = np.maximum(pavement * before, _band(z, near - wide, far + wide, z_size))
    return asphalt, pavement


def _joints(values: _Floats, size: _Floats, spacing: float) -> _Floats:
    """Dark lines between the slabs of the pavement, fading where they are thinner than a pixel."""
    place = np.mod(values, np.float32(spacing))
    return np.asarray(_band(place, 0.0, 0.05, np.maximum(size, 0.02)) * np.clip(0.12 / size, 0, 1))


def _markings(x: _Floats, z: _Floats, x_size: _Floats, z_size: _Floats, street: Street) -> _Floats:
    start, end = street.crossing
    dashes = _band(np.mod(z, np.float32(6.0)), 0.0, 2.6, z_size)
    lines = _band(x, street.middle - 0.07, street.middle + 0.07, x_size) * dashes
    for kerb, inwards in ((street.left, 1), (street.right, -1)):
        edge = kerb + inwards * 0.35
        lines = lines + _band(x, edge - 0.06, edge + 0.06, x_size)
    lines = lines * (1 - _band(z, start - 1.2, end + 1.0, z_size))
    bars = _band(np.mod(x - np.float32(street.left), np.float32(1.0)), 0.25, 0.75, x_size)
    bars = bars * _band(x, street.left + 0.2, street.right - 0.2, x_size) * _band(z, start, end, z_size)
    if street.junction is None:
        return np.asarray(np.clip(lines + bars, 0, 1))
    near, far = street.junction
    lines = lines * (1 - np.clip((z - near + 0.3) / z_size + 0.5, 0, 1))
    middle = (near + far) / 2
    cross = _band(z, middle - 0.07, middle + 0.07, z_size) * _band(np.mod(x, np.float32(4.5)), 0.0, 2.2, x_size)
    return np.asarray(np.clip(lines + bars + cross, 0, 1))
