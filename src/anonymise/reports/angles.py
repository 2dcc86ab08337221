"""What somebody clicked in a viewer → a polygon in the stored pixels of the picture.

A shape is one corner, which becomes a circle, or three and more. Each is two numbers that a convention explains. Shapes
in a 360° picture are made on the sphere, where the seam and the poles are places like others.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from anonymise.core.detections import Size
from anonymise.core.orientation import points_to_stored
from anonymise.core.projection import PLANAR, Projection
from anonymise.detection.gnomonic import View, from_sphere, on_sphere, sphere_of, unrolled

__all__ = ["CONVENTIONS", "Picture", "Viewer", "fitting", "outline", "places"]

_Points = NDArray[np.float64]
_Corners = Sequence[Sequence[object]]

_SLACK = 1e-6
"""By which an angle may be out of its range. One that is farther out is a sign of another convention."""

_MARGIN, _MARGIN_PIXELS = math.radians(0.3), 4.0
"""The larger of the two is added around every shape: people click on outlines."""

_WIDEST = math.radians(75)
"""From the middle of a shape to its farthest corner: a plane that touches the sphere shows less than half of it."""


class _Convention(NamedTuple):
    """What two numbers mean: column ``left + first / turn`` and row ``top + down · second / height``, as fractions."""

    turn: float
    height: float
    left: float
    top: float
    down: int


CONVENTIONS: Mapping[str, _Convention] = {
    "centre": _Convention(2 * math.pi, math.pi, 0.5, 0.5, -1),
    "pannellum": _Convention(360, 180, 0.5, 0.5, -1),
    "scanvan": _Convention(2 * math.pi, math.pi, 0, 0, 1),
    "compass": _Convention(360, 180, 0.5, 0.5, -1),  # bearings, which the picture's heading turns
    "uv": _Convention(1, 1, 0, 0, 1),
    "pixels": _Convention(0, 0, 0, 0, 1),  # of the picture's size
}
_FLAT = ("uv", "pixels")


@dataclass(frozen=True, slots=True)
class Picture:
    """What must be known of a picture to find a place in it.

    Attributes:
        size: of the picture as it is shown.
        projection: how its pixels lie around the camera.
        orientation: EXIF orientation of the file, 1 to 8.
        heading: bearing of the middle of the panorama (GPano's PoseHeadingDegrees), if it is known.
    """

    size: Size
    projection: Projection = PLANAR
    orientation: int = 1
    heading: float | None = None


class Viewer(NamedTuple):
    """How a viewer counts: its convention, degrees to add to its yaw, and -1 where its pitch has the other sign."""

    convention: str
    yaw_offset: float = 0.0
    pitch_sign: int = 1

    def pixel(self, corner: Sequence[object], picture: Picture) -> tuple[float, float]:
        """Column and row of a corner in the picture as it is shown; pixel 0 covers 0 to 1.

        Raises:
            ValueError: the corner is not two numbers in their ranges, or the convention does not fit the picture.
        """
        if self.convention not in CONVENTIONS:
            raise ValueError(f"convention {self.convention!r}: it is one of {', '.join(CONVENTIONS)}")
        turn, height, left, top, down = CONVENTIONS[self.convention]
        if self.convention == "pixels":
            turn, height = picture.size
        if not isinstance(corner, Sequence) or isinstance(corner, str) or len(corner) != 2:
            raise ValueError("a corner is two numbers")
        first, second = map(_number, corner)
        # Viewers that count from the middle begin at minus half a turn, or go on to a whole one.
        for value, low, high in ((first, -left * turn, turn), (second, -top * height, (1 - top) * height)):
            if not low - _SLACK <= value <= high + _SLACK:
                raise ValueError(f"{value:g} is out of its range {low:g} to {high:g}: is the convention right?")
        if self.convention in _FLAT:
            return picture.size.width * first / turn, picture.size.height * second / height
        if picture.projection.sphere is None:
            raise ValueError("this is a flat picture, which has no angles: use the convention uv or pixels")
        if self.convention == "compass":
            if picture.heading is None:
                raise ValueError("the picture has no heading (GPano:PoseHeadingDegrees) for the convention compass")
            first -= picture.heading
        u = left + first / turn + self.yaw_offset / 360
        v = 0.5 + self.pitch_sign * (top + down * second / height - 0.5)
        width, rows = picture.projection.sphere
        return (u * width - picture.projection.left) % width, v * rows - picture.projection.top


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e9:
        raise ValueError(f"{str(value)[:40]!r} is no number")
    return float(value)


def places(corners: _Corners, viewer: Viewer, picture: Picture, view: Mapping[str, Any] | None = None) -> _Points:
    """Columns and rows (n, 2) of corners in the picture as it is shown.

    Args:
        corners: numbers of the viewer, or with ``view`` fractions of a screen's width and height.
        viewer: explains the numbers.
        picture: that they are in.
        view: ``yaw``, ``pitch`` and horizontal ``fov`` of the screen in the viewer's convention, and its ``aspect``
            (width / height; 1) or ``fov_v``.

    Raises:
        ValueError: they make no sense.
    """
    if view is None:
        return np.array([viewer.pixel(corner, picture) for corner in corners])
    if not isinstance(view, Mapping) or not {"yaw", "pitch", "fov"} <= view.keys() or viewer.convention in _FLAT:
        raise ValueError("a view has yaw, pitch and fov, in a convention of angles")
    ((yaw, pitch),) = _angles(np.array([viewer.pixel((view["yaw"], view["pitch"]), picture)]), picture.projection)
    unit = 2 * math.pi / CONVENTIONS[viewer.convention].turn
    fov, aspect = _number(view["fov"]) * unit, _number(view.get("aspect", 1))
    fov_v = _number(view["fov_v"]) * unit if "fov_v" in view else None
    if not (0 < fov < math.pi and aspect > 0 and (fov_v is None or 0 < fov_v < math.pi)):
        raise ValueError("the fov of a view is between 0° and 180°, and its aspect above 0")
    right = math.tan(fov / 2)
    up = right / aspect if fov_v is None else math.tan(fov_v / 2)
    u, v = np.array([Viewer("uv").pixel(corner, Picture(Size(1, 1))) for corner in corners]).T
    longitude, latitude = on_sphere((2 * u - 1) * right, (1 - 2 * v) * up, View(yaw, pitch, fov))
    width, height = sphere_of(picture.projection)
    columns = ((longitude + yaw) / (2 * math.pi) + 0.5) * width - picture.projection.left
    return np.column_stack([columns % width, (0.5 - latitude / math.pi) * height - picture.projection.top])


def outline(
    corners: _Corners, viewer: Viewer, picture: Picture, view: Mapping[str, Any] | None = None, radius: float = 2.0
) -> tuple[_Points, float]:
    """The polygon around a shape, with a margin.

    Viewers join corners by lines that are straight on the screen, or in the picture; what either surround is inside.

    Args:
        corners: as `places` takes them, one or 3 to 100.
        viewer: as there.
        picture: as there.
        view: as there.
        radius: degrees around one corner.

    Returns:
        Its corners (n, 2) in stored pixels, which go on beyond an edge of a 360° picture where the shape does, and the
        fraction of the sphere, or of a flat picture, that it surrounds.

    Raises:
        ValueError: the shape makes no sense, is too large, or nothing of it is in the picture.
    """
    if len(corners) not in (1, *range(3, 101)):
        raise ValueError("a shape has 1 corner, or 3 to 100")
    pixels = places(corners, viewer, picture, view)
    width, height = picture.size
    if picture.projection.sphere is None:
        if len(corners) == 1:
            raise ValueError("a point in a flat picture has no size: send at least 3 corners")
        points = _around(_area(pixels), _MARGIN_PIXELS)
        share = shapely.Polygon(points).area / (width * height)
    else:
        points = _on_sphere(pixels, picture.projection, math.radians(radius), is_view=view is not None)
        longitude, latitude = _angles(points, picture.projection).T
        # Green's theorem: the area is the integral of the sine of the latitude around it.
        sine = np.sin(latitude)
        share = abs(((np.roll(longitude, -1) - longitude) * (sine + np.roll(sine, -1)) / 2).sum()) / (4 * math.pi)
        if not picture.projection.wraps:
            turn = picture.projection.sphere[0]
            points = points - (turn * round((points[:, 0].mean() - width / 2) / turn), 0)
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    if bottom <= 0 or top >= height or (not picture.projection.wraps and (right <= 0 or left >= width)):
        raise ValueError("the shape is outside of the picture")
    return points_to_stored(points, picture.size, picture.orientation), float(share)


def _on_sphere(pixels: _Points, projection: Projection, radius: float, *, is_view: bool) -> _Points:
    """The polygon around corners; made on a plane that touches the sphere there: straight is as on a screen."""
    turn = sphere_of(projection)[0]
    angles = _angles(pixels, projection)
    x, y, z = (float(part.mean()) for part in from_sphere(angles[:, 0], angles[:, 1], View(0, 0, 0)))
    middle = View(math.atan2(x, z), math.atan2(y, math.hypot(x, z)), math.pi / 2)
    area: BaseGeometry = shapely.Point(0, 0).buffer(math.tan(radius), quad_segs=32)
    if len(pixels) > 1:
        area = _area(_on_plane(angles, middle))
        if not is_view:
            area = area.union(_area(_on_plane(_sampled(angles, _MARGIN_PIXELS * 2 * math.pi / turn), middle)))
    margin = max(_MARGIN, _MARGIN_PIXELS * 2 * math.pi / turn)
    farthest = float(np.hypot(*shapely.get_coordinates(area).T).max())
    around = _around(area, margin * (1 + farthest**2))
    side = math.ceil(turn / math.pi)  # so that its pixels, 90° across, are no larger than the picture's
    polygon = unrolled((around * (1, -1) + 1) / 2 * side, middle, side, projection)
    return np.array(shapely.LineString(polygon).simplify(0.1).coords)


def _angles(pixels: _Points, projection: Projection) -> _Points:
    """(longitude, latitude) of points of a picture."""
    width, height = sphere_of(projection)
    u, v = (pixels[:, 0] + projection.left) / width, (pixels[:, 1] + projection.top) / height
    return np.column_stack([(u - 0.5) * 2 * math.pi, (0.5 - v) * math.pi])


def _sampled(angles: _Points, distance: float) -> _Points:
    """Points along lines between corners that are straight in the picture, the short way round."""
    steps = np.roll(angles, -1, axis=0) - angles
    steps[:, 0] = (steps[:, 0] + math.pi) % (2 * math.pi) - math.pi
    counts = np.ceil(np.abs(steps).max(axis=1) / distance).astype(int) + 1
    return np.concatenate([a + np.outer(np.arange(n) / n, s) for a, s, n in zip(angles, steps, counts, strict=True)])


def _on_plane(angles: _Points, middle: View) -> _Points:
    right, up, ahead = from_sphere(angles[:, 0], angles[:, 1], middle)
    if ahead.min() < math.cos(_WIDEST):
        raise ValueError("the shape is too large")
    return np.column_stack([right / ahead, up / ahead])


def _area(points: _Points) -> BaseGeometry:
    """What a line of corners surrounds, also where it crosses itself."""
    area = shapely.make_valid(shapely.Polygon(points))
    if area.area == 0:
        raise ValueError("the shape has no area")
    return area


def _around(area: BaseGeometry, margin: float) -> _Points:
    """The line around an area with a margin, its last corner next to the first."""
    grown = area.buffer(margin)
    return np.array((grown if grown.geom_type == "Polygon" else grown.convex_hull).exterior.coords)[:-1]


def fitting(
    known: Sequence[tuple[float, float, float, float]], picture: Picture, *, tolerance: float = 2.0
) -> Iterator[Viewer]:
    """The viewers that show known places where they are, those without an offset first.

    Args:
        known: column and row in the picture as it is shown, and the two numbers of the viewer, of each place.
        picture: that they are in.
        tolerance: pixels by which each may be off.
    """
    turn = picture.projection.sphere[0] if picture.projection.sphere else 1e9
    for turned, sign, name in ((t, s, n) for t in (False, True) for s in (1, -1) for n in CONVENTIONS):
        try:
            viewer = Viewer(name, 0.0, sign)
            offs = [np.subtract((x, y), viewer.pixel(numbers, picture)) for x, y, *numbers in known]
        except ValueError:
            continue
        shift = offs[0][0] if turned else 0.0
        if all(math.hypot((dx - shift + turn / 2) % turn - turn / 2, dy) <= tolerance for dx, dy in offs):
            yield viewer._replace(yaw_offset=round((shift / turn * 360 + 180) % 360 - 180, 3))
