"""Street scenes, drawn from a seed, with the truth about what is in them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from anonymise.core.detections import Box, RgbImage, Size
from samples.camera import Camera, equirectangular, perspective
from samples.canvas import Sprite
from samples.ground import Street, draw_backdrop
from samples.people import cyclist, pedestrian
from samples.scenery import house, lamp_post, tree
from samples.vehicles import bus, car_behind, car_front, car_side, truck

__all__ = [
    "BICYCLE",
    "BUS",
    "CAR",
    "PERSON",
    "TRUCK",
    "DrawnObject",
    "Scene",
    "draw_panorama",
    "draw_scene",
    "draw_street",
]

PERSON, BICYCLE, CAR, BUS, TRUCK = 1, 2, 3, 6, 8
"""Class ids as COCO counts them."""

_Floats: TypeAlias = NDArray[np.floating[Any]]
_Painter: TypeAlias = Callable[[np.random.Generator, float], Sprite]


@dataclass(frozen=True, slots=True)
class DrawnObject:
    """Where something was drawn.

    Attributes:
        label: class id as COCO counts them (1 is person).
        box: around it, without its shadow, cut to the image. What crosses the seam of a panorama is listed twice,
            once with its part at either edge.
    """

    label: int
    box: Box


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture and what is in it.

    Attributes:
        image: uint8 (height, width, 3); read-only.
        objects: people and vehicles, in the order in which they were placed.
    """

    image: RgbImage
    objects: tuple[DrawnObject, ...]


@dataclass(frozen=True, slots=True)
class _Placed:
    """A sprite in the world, upright in a plane that faces the camera.

    Attributes:
        labels: COCO classes of what it shows; none for scenery, two for a bicycle with its rider.
        sprite: what it looks like.
        distance: of the plane, in metres.
        offset: metres to the right of the plane's nearest point.
        yaw: direction of that nearest point, radians to the right of ahead.
    """

    labels: tuple[int, ...]
    sprite: Sprite
    distance: float
    offset: float = 0.0
    yaw: float = 0.0


@dataclass(frozen=True, slots=True)
class _Lane:
    """Where things of one kind move across the picture: metres away, and whether they look to the right."""

    distance: float
    to_right: bool


@dataclass(frozen=True, slots=True)
class _Kind:
    """A row in the table of what can be placed at a junction."""

    labels: tuple[int, ...]
    painter: _Painter
    lanes: tuple[_Lane, ...]


_KINDS: Mapping[str, _Kind] = {
    "bus": _Kind((BUS,), bus, (_Lane(13.8, False),)),
    "truck": _Kind((TRUCK,), truck, (_Lane(13.8, False), _Lane(10.8, True))),
    "car": _Kind((CAR,), car_side, (_Lane(10.8, True), _Lane(13.8, False))),
    "cyclist": _Kind((BICYCLE, PERSON), cyclist, (_Lane(9.7, True),)),
    "pedestrian": _Kind((PERSON,), pedestrian, (_Lane(6.6, False), _Lane(7.4, False), _Lane(8.4, False))),
}
"""The largest come first: they need the most room."""

_PANORAMA_CARS: Sequence[tuple[_Painter, float, float, float]] = (
    (car_front, 180, 6.0, 0.0),
    (car_side, 90, 4.9, -0.6),
    (car_side, -90, 7.4, -3.4),
    (car_behind, 0, 6.4, 0.3),
    (car_side, -90, 7.4, 3.2),
    (car_side, 90, 4.9, 5.4),
    (car_front, 0, 9.0, -4.2),
)
"""Side that is seen, direction in degrees to the right of ahead, distance and offset in metres."""

_PANORAMA_PEOPLE: Sequence[tuple[float, float]] = (
    (31, 4.9),
    (-36, 5.0),
    (139, 5.0),
    (-146, 5.2),
    (119, 5.6),
    (48, 6.0),
    (-49, 6.2),
)
"""Direction in degrees to the right of ahead, distance in metres."""


def draw_street(seed: int, size: Size, *, cars: int = 3, people: int = 3) -> RgbImage:
    """The picture of `draw_scene` alone."""
    return draw_scene(seed, size, cars=cars, people=people).image


def draw_scene(
    seed: int, size: Size, *, cars: int = 3, people: int = 3, cyclists: int = 0, buses: int = 0, trucks: int = 0
) -> Scene:
    """A junction as a camera on a car sees it; the traffic on the other street is seen from the side.

    All objects are whole and apart from each other: what finds no room in the picture is left out, so count
    `Scene.objects` where numbers matter.

    Args:
        seed: same seed, same picture.
        size: of the picture in pixels.
        cars: number of cars that are wanted.
        people: number of people on foot.
        cyclists: number of cyclists; each is a bicycle and a person.
        buses: number of town buses.
        trucks: number of lorries.
    """
    rng = np.random.default_rng(seed)
    camera = perspective(size)
    street = Street(left=-3.6, right=3.6, middle=0.0, pavement=2.4, junction=(9.2, 15.8), crossing=(6.4, 8.2))
    image = draw_backdrop(rng, camera, street)
    wanted = {"bus": buses, "truck": trucks, "car": cars, "cyclist": cyclists, "pedestrian": people}
    things = list(_houses_ahead(rng, camera))
    taken: list[Box] = []
    for name, kind in _KINDS.items():
        for _ in range(wanted[name]):
            placed = _find_room(rng, camera, kind, taken)
            if placed is not None:
                things.append(placed)
                taken += _boxes(camera, placed)
    return _finish(rng, image, camera, things)


def draw_panorama(seed: int, size: Size, *, cars: int = 5, people: int = 5) -> Scene:
    """A 360° equirectangular picture from a car in its lane; one car follows behind it, across the left/right seam.

    Args:
        seed: same seed, same picture.
        size: of the picture in pixels, twice as wide as high.
        cars: 0 to 7, the first one on the seam.
        people: 0 to 7, on foot.

    Raises:
        ValueError: the size is not twice as wide as high, or there are too many objects.
    """
    if size.width != 2 * size.height:
        raise ValueError(f"an equirectangular picture is twice as wide as high, not {size.width} x {size.height}")
    if not (0 <= cars <= len(_PANORAMA_CARS) and 0 <= people <= len(_PANORAMA_PEOPLE)):
        raise ValueError(f"at most {len(_PANORAMA_CARS)} cars and {len(_PANORAMA_PEOPLE)} people, not {cars}, {people}")
    rng = np.random.default_rng(seed)
    camera = equirectangular(size)
    street = Street(left=-8.6, right=6.0, middle=-1.9, pavement=2.6, junction=None, crossing=(17.0, 20.0))
    image = draw_backdrop(rng, camera, street)
    things = list(_houses_beside(rng, camera))
    for painter, degrees, distance, offset in _PANORAMA_CARS[:cars]:
        sprite = painter(rng, _scale(camera, distance))
        # Traffic keeps to the right: cars on the right of the camera look ahead, which is to the left there.
        things.append(_Placed((CAR,), sprite, distance, offset, float(np.radians(degrees))))
    for degrees, distance in _PANORAMA_PEOPLE[:people]:
        sprite = pedestrian(rng, _scale(camera, distance))
        things.append(_Placed((PERSON,), sprite, distance, yaw=float(np.radians(degrees))))
    return _finish(rng, image, camera, things)


def _scale(camera: Camera, distance: float) -> float:
    """Pixels per metre at a distance."""
    return camera.focal_px / distance


def _find_room(rng: np.random.Generator, camera: Camera, kind: _Kind, taken: Sequence[Box]) -> _Placed | None:
    """Something new that is whole and clear of all boxes, None if 150 tries do not find a place."""
    seed = int(rng.integers(1 << 32))
    sprites: dict[float, Sprite] = {}
    for _ in range(150):
        lane = kind.lanes[int(rng.integers(len(kind.lanes)))]
        scale = _scale(camera, lane.distance)
        if lane.distance not in sprites:
            drawn = kind.painter(np.random.default_rng(seed), scale)
            sprites[lane.distance] = drawn.mirrored() if lane.to_right else drawn
        sprite = sprites[lane.distance]
        room = camera.size.width / 2 / scale - sprite.extent[2] - 0.2
        if room <= 0:
            continue
        placed = _Placed(kind.labels, sprite, lane.distance, float(rng.uniform(-room, room)))
        clear = [box.grown(max(2, box.height // 10), camera.size) for box in _boxes(camera, placed)]
        if clear and not any(clear[0].intersection(box) for box in taken):
            return placed
    return None


def _houses_ahead(rng: np.random.Generator, camera: Camera) -> Iterator[_Placed]:
    """A row of houses behind the junction, with trees and lamps before it."""
    edge = camera.size.width / 2 / camera.focal_px
    x = -edge * 22 - float(rng.uniform(0, 6))
    while x < edge * 22:
        width = float(rng.uniform(7.0, 11.0))
        yield _Placed((), house(rng, _scale(camera, 22.0), width), 22.0, x + width / 2)
        x += width + float(rng.uniform(1.2, 3.5))
    for x in np.arange(-edge * 19.6 + float(rng.uniform(0, 5)), edge * 19.6, 8.5):
        if rng.random() < 0.75:
            yield _Placed((), tree(rng, _scale(camera, 19.6)), 19.6, float(x + rng.uniform(-1.5, 1.5)))
    for x in np.arange(-27.0, 28.0, 18.0):
        yield _Placed((), lamp_post(_scale(camera, 18.6)), 18.6, float(x))


def _houses_beside(rng: np.random.Generator, camera: Camera) -> Iterator[_Placed]:
    """Rows of houses and trees on both sides of the street."""
    for degrees, distance in ((90, 13.5), (-90, 16.0)):
        yaw, x = float(np.radians(degrees)), -34.0
        while x < 34.0:
            width = float(rng.uniform(7.0, 11.0))
            yield _Placed((), house(rng, _scale(camera, distance), width), distance, x + width / 2, yaw)
            x += width + float(rng.uniform(1.5, 4.0))
        for x in np.arange(-24.0, 25.0, 9.0):
            place = distance - 3.2
            yield _Placed((), tree(rng, _scale(camera, place)), place, float(x + rng.uniform(-2, 2)), yaw)
    for degrees in (-12, 11, 168, 191):
        yield _Placed((), tree(rng, _scale(camera, 40.0)), 40.0, yaw=float(np.radians(degrees)))


def _finish(rng: np.random.Generator, image: RgbImage, camera: Camera, things: Sequence[_Placed]) -> Scene:
    for placed in sorted(things, key=lambda thing: -thing.distance):
        _paint(image, camera, placed)
    _add_grain(rng, image)
    image.setflags(write=False)
    boxes = [(placed.labels, box) for placed in things if placed.labels for box in _boxes(camera, placed)]
    return Scene(image, tuple(DrawnObject(label, box) for labels, box in boxes for label in labels))


def _runs(columns: NDArray[np.bool_]) -> list[slice]:
    """The stretches of True; what crosses the seam of a panorama has two."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], columns, [False]]).astype(np.int8)))
    return [slice(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


def _plane(camera: Camera, placed: _Placed) -> tuple[_Floats, _Floats, NDArray[np.bool_]]:
    """For each column: metres to the right in the sprite's plane, metres to the plane, and whether it is met at all."""
    sine, cosine = np.float32(np.sin(placed.yaw)), np.float32(np.cos(placed.yaw))
    forward = (camera.across * sine + camera.along * cosine)[0]
    sideways = (camera.across * cosine - camera.along * sine)[0]
    met = forward > 0.05
    distance = np.float32(placed.distance) / np.where(met, forward, 1)
    return distance * sideways - np.float32(placed.offset), distance, met


def _boxes(camera: Camera, placed: _Placed) -> list[Box]:
    """Box of a thing in the image, two where it crosses the seam."""
    across, distance, met = _plane(camera, placed)
    left, top, right, bottom = placed.sprite.extent
    boxes = []
    for run in _runs(met & (across >= left) & (across <= right)):
        slope = -camera.tangents[:, 0]
        reach = distance[run]
        upper = min(float(((camera.height_m - top) / reach).min()), float(((camera.height_m - top) / reach).max()))
        lower = float(((camera.height_m - bottom) / reach).max())
        first, last = np.searchsorted(slope, upper), np.searchsorted(slope, lower)
        if first < last:
            boxes.append(Box(run.start, int(first), run.stop, int(last)))
    return boxes


def _paint(image: RgbImage, camera: Camera, placed: _Placed) -> None:
    """Put a thing into the image, seen in perspective."""
    sprite = placed.sprite
    across, distance, met = _plane(camera, placed)
    rows_m, columns_m = sprite.pixels.shape[0] / sprite.scale, sprite.pixels.shape[1] / sprite.scale
    u_all = (across - np.float32(sprite.left_m)) * np.float32(sprite.scale)
    for run in _runs(met & (u_all > 0) & (u_all < columns_m * sprite.scale)):
        reach = distance[run][None, :]
        slopes = camera.tangents
        top = (sprite.top_m - camera.height_m) / (
            float(reach.min()) if sprite.top_m > camera.height_m else float(reach.max())
        )
        bottom = (sprite.top_m - rows_m - camera.height_m) / float(reach.min())
        visible = _runs((slopes[:, 0] < top) & (slopes[:, 0] > bottom))
        if not visible:
            continue
        rows = visible[0]
        v = (np.float32(sprite.top_m - camera.height_m) - slopes[rows] * reach) * np.float32(sprite.scale) - np.float32(
            0.5
        )
        u = np.broadcast_to(u_all[run][None, :] - np.float32(0.5), v.shape)
        layer = cv2.remap(
            sprite.pixels, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(0, 0, 0, 0)
        )
        patch = image[rows, run]
        mixed = patch * (1 - layer[..., 3:]) + layer[..., :3]
        image[rows, run] = np.clip(mixed + 0.5, 0, 255).astype(np.uint8)


def _add_grain(rng: np.random.Generator, image: RgbImage) -> None:
    """A little of the sensor's noise: without it the flat colours would give the drawing away."""
    height, width = image.shape[:2]
    tile = rng.normal(0, 2.2, (min(height, 512), min(width, 512), 1)).astype(np.float32)
    tile = np.repeat(tile, 3, axis=2)
    for top in range(0, height, 512):
        for left in range(0, width, 512):
            patch = image[top : top + 512, left : left + 512]
            mixed = patch + tile[: patch.shape[0], : patch.shape[1]]
            patch[...] = np.clip(mixed + 0.5, 0, 255).astype(np.uint8)
