"""Vehicles, drawn in metres; side views look to the left."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from samples.canvas import Canvas, Colour, Paint, Point, Sprite, capsule, scaled, smooth

__all__ = ["CAR_SHAPES", "bus", "car_behind", "car_front", "car_side", "truck"]

_TYRE: Colour = (34, 34, 37)
_GLASS: Paint = [(0.85, (38, 46, 54)), (1.15, (62, 76, 88)), (1.5, (122, 144, 158))]
_CAR_COLOURS: tuple[Colour, ...] = (
    (178, 34, 38),
    (38, 88, 168),
    (196, 200, 204),
    (232, 232, 228),
    (128, 134, 142),
    (46, 122, 92),
    (44, 128, 150),
    (206, 142, 44),
)


@dataclass(frozen=True, slots=True)
class CarShape:
    """One kind of car, seen from the left; all in metres, the front bumper at x = 0.

    Attributes:
        length: bumper to bumper.
        lower: outline of the body up to the waist, from the front wheel's side over the bonnet to the back.
        upper: outline of roof and pillars.
        panes: side windows.
        wheels: x of the front and the back axle.
        radius: of a wheel with its tyre.
        pillar: x of the edge between the doors.
    """

    length: float
    lower: tuple[Point, ...]
    upper: tuple[Point, ...]
    panes: tuple[tuple[Point, ...], ...]
    wheels: tuple[float, float]
    radius: float
    pillar: float


CAR_SHAPES: Mapping[str, CarShape] = {
    "hatchback": CarShape(
        length=4.05,
        lower=(
            (0.12, 0.2),
            (0.0, 0.32),
            (0.0, 0.55),
            (0.1, 0.72),
            (0.55, 0.86),
            (1.2, 0.96),
            (2.6, 1.0),
            (3.8, 1.02),
            (4.02, 0.9),
            (4.05, 0.5),
            (4.02, 0.3),
            (3.9, 0.2),
        ),
        upper=(
            (1.0, 0.86),
            (1.25, 1.02),
            (1.82, 1.4),
            (2.1, 1.49),
            (2.9, 1.51),
            (3.45, 1.46),
            (3.72, 1.25),
            (3.97, 0.88),
        ),
        panes=(
            ((1.4, 0.99), (1.88, 1.34), (2.12, 1.41), (2.42, 1.42), (2.42, 1.0)),
            ((2.5, 1.0), (2.5, 1.42), (2.95, 1.42), (3.3, 1.36), (3.42, 1.06)),
        ),
        wheels=(0.76, 3.3),
        radius=0.32,
        pillar=2.46,
    ),
    "saloon": CarShape(
        length=4.6,
        lower=(
            (0.12, 0.2),
            (0.0, 0.32),
            (0.0, 0.54),
            (0.12, 0.7),
            (0.6, 0.82),
            (1.4, 0.93),
            (3.0, 0.97),
            (4.0, 1.02),
            (4.5, 0.99),
            (4.6, 0.8),
            (4.6, 0.4),
            (4.45, 0.2),
        ),
        upper=((1.15, 0.84), (1.45, 0.98), (2.1, 1.36), (2.4, 1.45), (3.0, 1.46), (3.4, 1.4), (4.0, 1.06), (4.15, 0.9)),
        panes=(
            ((1.62, 0.97), (2.15, 1.29), (2.38, 1.37), (2.68, 1.38), (2.68, 0.98)),
            ((2.76, 0.98), (2.76, 1.38), (3.05, 1.37), (3.34, 1.31), (3.74, 1.03)),
        ),
        wheels=(0.86, 3.66),
        radius=0.33,
        pillar=2.72,
    ),
    "estate": CarShape(
        length=4.65,
        lower=(
            (0.12, 0.2),
            (0.0, 0.32),
            (0.0, 0.55),
            (0.12, 0.72),
            (0.6, 0.84),
            (1.4, 0.95),
            (3.0, 0.99),
            (4.4, 1.03),
            (4.62, 0.92),
            (4.65, 0.5),
            (4.62, 0.3),
            (4.48, 0.2),
        ),
        upper=(
            (1.15, 0.86),
            (1.45, 1.0),
            (2.08, 1.38),
            (2.4, 1.47),
            (3.4, 1.5),
            (4.05, 1.45),
            (4.3, 1.28),
            (4.56, 0.9),
        ),
        panes=(
            ((1.62, 0.98), (2.12, 1.31), (2.38, 1.39), (2.66, 1.4), (2.66, 0.99)),
            ((2.74, 0.99), (2.74, 1.4), (3.4, 1.41), (3.4, 1.01)),
            ((3.48, 1.02), (3.48, 1.41), (3.9, 1.38), (4.1, 1.26), (4.2, 1.08)),
        ),
        wheels=(0.86, 3.68),
        radius=0.33,
        pillar=2.7,
    ),
    "suv": CarShape(
        length=4.55,
        lower=(
            (0.12, 0.26),
            (0.0, 0.4),
            (0.0, 0.72),
            (0.08, 0.9),
            (0.5, 1.02),
            (1.25, 1.1),
            (3.0, 1.13),
            (4.3, 1.16),
            (4.52, 1.05),
            (4.55, 0.6),
            (4.52, 0.36),
            (4.4, 0.26),
        ),
        upper=(
            (1.0, 1.0),
            (1.28, 1.14),
            (1.82, 1.56),
            (2.15, 1.67),
            (3.2, 1.69),
            (3.95, 1.64),
            (4.22, 1.42),
            (4.46, 1.02),
        ),
        panes=(
            ((1.45, 1.13), (1.88, 1.49), (2.15, 1.58), (2.56, 1.59), (2.56, 1.14)),
            ((2.64, 1.14), (2.64, 1.59), (3.3, 1.58), (3.3, 1.16)),
            ((3.38, 1.16), (3.38, 1.58), (3.8, 1.55), (4.0, 1.4), (4.08, 1.22)),
        ),
        wheels=(0.84, 3.62),
        radius=0.37,
        pillar=2.6,
    ),
}


def _body(base: Colour, waist: float) -> Paint:
    """Car paint: the sky in the shoulders, the road in the flanks."""
    return [
        (0.2, scaled(base, 0.35)),
        (0.42, scaled(base, 0.62)),
        (0.62 * waist, scaled(base, 0.82)),
        (0.8 * waist, scaled(base, 1.0)),
        (0.95 * waist, scaled(base, 1.3)),
        (1.02 * waist, scaled(base, 1.0)),
        (1.35 * waist, scaled(base, 1.05)),
        (1.5 * waist, scaled(base, 1.5)),
    ]


def _shadow(canvas: Canvas, left: float, right: float) -> None:
    middle, half = (left + right) / 2, (right - left) / 2
    canvas.disc((middle + 0.1, -0.02), (half * 1.04, 0.13), (14, 16, 22), 0.5, blur=0.07)
    canvas.disc((middle, 0.03), (half * 0.94, 0.07), (8, 9, 12), 0.75, blur=0.03)


def _wheel(canvas: Canvas, x: float, radius: float, spokes: int) -> None:
    centre = (x, radius)
    canvas.disc(centre, radius, [(0.0, scaled(_TYRE, 0.6)), (2 * radius, scaled(_TYRE, 1.12))])
    rim = radius * 0.68
    canvas.disc(centre, rim, [(radius - rim, (92, 96, 102)), (radius + rim, (206, 210, 214))])
    canvas.disc(centre, rim * 0.86, (48, 50, 54))
    for spoke in range(spokes):
        angle = 2 * np.pi * spoke / spokes + 0.3
        end = (x + rim * 0.9 * float(np.cos(angle)), radius + rim * 0.9 * float(np.sin(angle)))
        canvas.fill(
            capsule(centre, end, rim * 0.34, rim * 0.24),
            [(radius - rim, (122, 126, 132)), (radius + rim, (222, 225, 228))],
        )
    canvas.disc(centre, rim * 0.24, (84, 88, 94))
    canvas.disc(centre, rim * 0.13, (190, 194, 198))


def car_side(rng: np.random.Generator, scale: float, kind: str | None = None) -> Sprite:
    """A car from the side, its front to the left.

    Args:
        rng: picks the colour, and the kind where none is given.
        scale: pixels per metre.
        kind: a key of `CAR_SHAPES`.
    """
    shape = CAR_SHAPES[kind or str(rng.choice(list(CAR_SHAPES)))]
    base = _CAR_COLOURS[int(rng.integers(len(_CAR_COLOURS)))]
    half = shape.length / 2

    def local(points: tuple[Point, ...]) -> list[Point]:
        return [(x - half, y) for x, y in points]

    waist = max(y for _, y in shape.lower)
    roof = max(y for _, y in shape.upper)
    canvas = Canvas(-half - 0.4, half + 0.4, roof + 0.1, -0.3, scale)
    _shadow(canvas, -half, half)
    lower, upper = smooth(local(shape.lower)), smooth(local(shape.upper), 2)
    paint = _body(base, waist)
    canvas.box(0.15 - half, 0.16, half - 0.15, 0.4, (16, 16, 18))
    canvas.fill(upper, paint)
    canvas.fill(lower, paint)
    # The greenhouse: one dark band with the panes in it, as on real cars with black pillars.
    frame = [point for pane in shape.panes for point in pane]
    hull = np.asarray(local(tuple(frame)))
    order = np.argsort(np.arctan2(hull[:, 1] - hull[:, 1].mean(), hull[:, 0] - hull[:, 0].mean()))
    canvas.fill([(float(x), float(y)) for x, y in hull[order]], (22, 24, 28))
    for pane in shape.panes:
        outline = local(pane)
        canvas.fill(outline, _GLASS)
        left = min(x for x, _ in outline)
        canvas.fill(
            [(left + 0.15, 0.8), (left + 0.3, 0.8), (left + 0.72, roof), (left + 0.5, roof)],
            (225, 236, 242),
            0.2,
            within=outline,
        )
    for x in (shape.pillar - half - 0.28, shape.pillar - half + 0.62):
        head = [
            (x, waist),
            (x + 0.02, waist + 0.2),
            (x + 0.14, waist + 0.26),
            (x + 0.24, waist + 0.2),
            (x + 0.24, waist),
        ]
        canvas.fill(smooth(head, 2), (20, 22, 26), 0.7)
    dark, light = scaled(base, 0.42), scaled(base, 1.4)
    _details(canvas, shape, lower, dark, light, waist)
    for x in shape.wheels:
        arch = (x - half, shape.radius + 0.01)
        canvas.disc(arch, shape.radius + 0.08, scaled(base, 0.3), 0.9, within=lower)
        canvas.disc(arch, shape.radius + 0.055, (12, 12, 14), within=lower)
        _wheel(canvas, x - half, shape.radius, int(5 + shape.radius * 100 % 3))
    return canvas.sprite((-half, roof, half, 0.0))


def _details(canvas: Canvas, shape: CarShape, lower: list[Point], dark: Colour, light: Colour, waist: float) -> None:
    half, pillar = shape.length / 2, shape.pillar - shape.length / 2
    front, back = shape.panes[0][0][0] - half - 0.12, shape.panes[-1][-1][0] - half + 0.05
    canvas.line([(front, 0.32), (front - 0.02, waist * 0.7), (front + 0.1, waist - 0.02)], 0.018, dark, 0.8)
    canvas.line([(pillar, 0.3), (pillar, waist)], 0.018, dark, 0.8)
    canvas.line([(back - 0.25, 0.55), (back, waist * 0.75), (back, waist)], 0.018, dark, 0.6)
    canvas.line([(front - 0.05, 0.3), (pillar, 0.29), (half - 1.35, 0.3)], 0.03, dark, 0.7)
    canvas.line([(-half + 0.35, waist * 0.78), (0.0, waist * 0.83), (half - 0.3, waist * 0.86)], 0.02, light, 0.5)
    for x in (pillar - 0.28, pillar + 0.72):
        canvas.fill(capsule((x, waist - 0.13), (x + 0.17, waist - 0.125), 0.045, 0.045), dark)
        canvas.line([(x, waist - 0.115), (x + 0.17, waist - 0.11)], 0.014, light, 0.9)
    mirror = (front + 0.28, waist + 0.07)
    canvas.fill(
        smooth(
            [
                (mirror[0] - 0.09, mirror[1] - 0.06),
                (mirror[0] + 0.1, mirror[1] - 0.06),
                (mirror[0] + 0.1, mirror[1] + 0.06),
                (mirror[0] - 0.04, mirror[1] + 0.07),
            ],
            2,
        ),
        dark,
    )
    lamp = waist * 0.74
    head = [
        (-half - 0.02, lamp - 0.1),
        (-half + 0.12, lamp - 0.11),
        (-half + 0.52, lamp + 0.07),
        (-half + 0.14, lamp + 0.06),
    ]
    canvas.fill(head, [(lamp - 0.1, (170, 178, 186)), (lamp + 0.1, (248, 250, 252))], within=lower)
    tail = [
        (half + 0.02, lamp - 0.02),
        (half - 0.2, lamp + 0.04),
        (half - 0.26, lamp + 0.2),
        (half + 0.02, lamp + 0.16),
    ]
    canvas.fill(tail, [(lamp, (122, 12, 16)), (lamp + 0.2, (222, 44, 40))], within=lower)
    canvas.box(-half, 0.36, -half + 0.28, 0.42, (24, 24, 26), 0.8)


def _plate_text(rng: np.random.Generator) -> str:
    """Letters and digits of the Norwegian kind; XX is not given to anyone."""
    return f"XX {rng.integers(10000, 100000)}"


def car_behind(rng: np.random.Generator, scale: float) -> Sprite:
    """A car from behind; ``rng`` picks its colour and plate, ``scale`` is in pixels per metre."""
    return _car_end(rng, scale, front=False)


def car_front(rng: np.random.Generator, scale: float) -> Sprite:
    """A car from the front; the arguments are those of `car_behind`."""
    return _car_end(rng, scale, front=True)


def _car_end(rng: np.random.Generator, scale: float, *, front: bool) -> Sprite:
    base = _CAR_COLOURS[int(rng.integers(len(_CAR_COLOURS)))]
    canvas = Canvas(-1.3, 1.3, 1.6, -0.3, scale)
    _shadow(canvas, -0.92, 0.92)
    paint = _body(base, 0.95)
    for side in (-1, 1):
        canvas.fill(smooth([(side * 0.86, 0.0), (side * 0.62, 0.0), (side * 0.62, 0.5), (side * 0.86, 0.5)], 2), _TYRE)
        canvas.fill(
            smooth([(side * 0.8, 0.92), (side * 1.02, 0.93), (side * 1.04, 1.08), (side * 0.86, 1.06)], 2),
            [(0.9, scaled(base, 0.45)), (1.1, scaled(base, 0.9))],
        )
    roof = [
        (-0.86, 0.85),
        (-0.74, 1.15),
        (-0.58, 1.43),
        (-0.3, 1.5),
        (0.3, 1.5),
        (0.58, 1.43),
        (0.74, 1.15),
        (0.86, 0.85),
    ]
    canvas.fill(smooth(roof, 2), paint)
    body = [(-0.84, 0.2), (-0.9, 0.4), (-0.9, 0.8), (-0.82, 1.0), (0.82, 1.0), (0.9, 0.8), (0.9, 0.4), (0.84, 0.2)]
    canvas.fill(smooth(body, 2), paint)
    screen = smooth([(-0.76, 0.97), (-0.58, 1.38), (-0.3, 1.43), (0.3, 1.43), (0.58, 1.38), (0.76, 0.97)], 1)
    canvas.fill(screen, _GLASS)
    for x in (-0.36, 0.36):
        canvas.fill(
            smooth([(x - 0.15, 0.97), (x - 0.13, 1.2), (x + 0.13, 1.2), (x + 0.15, 0.97)], 2),
            (20, 22, 26),
            0.7,
            within=screen,
        )
    canvas.fill([(-0.5, 0.9), (-0.3, 0.9), (0.1, 1.5), (-0.2, 1.5)], (225, 236, 242), 0.2, within=screen)
    canvas.fill(
        smooth([(-0.86, 0.2), (-0.9, 0.44), (0.9, 0.44), (0.86, 0.2)], 1), [(0.2, (26, 26, 28)), (0.45, (56, 57, 60))]
    )
    canvas.line([(-0.8, 0.9), (0.8, 0.9)], 0.02, scaled(base, 1.5), 0.6)
    for side in (-1, 1):
        if front:
            lamp = [(side * 0.86, 0.66), (side * 0.48, 0.62), (side * 0.52, 0.75), (side * 0.84, 0.84)]
            canvas.fill(smooth(lamp, 1), [(0.6, (150, 158, 168)), (0.8, (250, 252, 255))])
            canvas.disc((side * 0.7, 0.71), 0.06, (255, 255, 246))
        else:
            lamp = [(side * 0.88, 0.62), (side * 0.6, 0.66), (side * 0.62, 0.82), (side * 0.88, 0.9)]
            canvas.fill(smooth(lamp, 1), [(0.6, (120, 10, 14)), (0.9, (226, 40, 38))])
            canvas.fill(
                smooth([(side * 0.84, 0.7), (side * 0.66, 0.7), (side * 0.66, 0.76), (side * 0.84, 0.76)], 1),
                (246, 170, 150),
                0.7,
            )
    if front:
        canvas.fill(smooth([(-0.42, 0.5), (-0.46, 0.72), (0.46, 0.72), (0.42, 0.5)], 1), (26, 27, 30))
        for y in (0.56, 0.62, 0.68):
            canvas.line([(-0.4, y), (0.4, y)], 0.015, (120, 124, 130))
    canvas.box(-0.28, 0.45, 0.28, 0.57, (40, 40, 42))
    canvas.box(-0.26, 0.46, 0.26, 0.56, (244, 244, 240))
    canvas.box(-0.26, 0.46, -0.21, 0.56, (38, 70, 150))
    canvas.text(_plate_text(rng), (-0.19, 0.48), 0.065, (20, 20, 22))
    return canvas.sprite((-1.0, 1.5, 1.0, 0.0))


def bus(rng: np.random.Generator, scale: float) -> Sprite:
    """A town bus from the side, its front to the left."""
    base: Colour = [(196, 44, 40), (48, 112, 72), (40, 92, 160)][int(rng.integers(3))]
    half, roof = 5.6, 3.0
    canvas = Canvas(-half - 0.4, half + 0.4, roof + 0.15, -0.35, scale)
    _shadow(canvas, -half, half)
    shell = smooth(
        [
            (-half + 0.1, 0.3),
            (-half, 0.5),
            (-half + 0.02, 1.6),
            (-half + 0.25, roof - 0.1),
            (-half + 0.6, roof),
            (half - 0.4, roof),
            (half, roof - 0.2),
            (half, 0.5),
            (half - 0.1, 0.3),
        ],
        2,
    )
    canvas.fill(
        shell,
        [
            (0.3, scaled(base, 0.4)),
            (0.8, scaled(base, 0.8)),
            (1.25, scaled(base, 1.15)),
            (2.5, scaled(base, 1.0)),
            (3.0, scaled(base, 1.5)),
        ],
    )
    canvas.fill([(-half, 0.85), (half, 0.85), (half, 1.05), (-half, 1.05)], (238, 238, 234), 0.95, within=shell)
    glass: Paint = [(1.2, (34, 42, 50)), (1.9, (70, 88, 100)), (2.55, (140, 162, 176))]
    canvas.fill(
        [(-half + 0.12, 1.25), (half - 0.2, 1.25), (half - 0.2, 2.55), (-half + 0.22, 2.55)], (24, 26, 30), within=shell
    )
    for left, right in ((-5.3, -4.95), (-3.6, -2.45), (-2.35, -1.2), (-1.1, -0.1), (1.4, 2.5), (2.6, 3.7), (3.8, 5.2)):
        canvas.box(left, 1.32, right, 2.48, glass)
        canvas.fill(
            [(left + 0.1, 1.32), (left + 0.3, 1.32), (left + 0.7, 2.48), (left + 0.45, 2.48)],
            (230, 240, 246),
            0.2,
            within=[(left, 1.32), (right, 1.32), (right, 2.48), (left, 2.48)],
        )
    for left in (-4.85, 0.0):
        canvas.box(left, 0.4, left + 1.2, 2.58, (30, 32, 36))
        for door in (left + 0.06, left + 0.64):
            canvas.box(door, 0.5, door + 0.5, 2.5, [(0.5, (44, 54, 62)), (1.6, (78, 96, 108)), (2.5, (142, 164, 178))])
    canvas.box(-half + 0.3, 2.62, -half + 1.9, 2.86, (18, 18, 20))
    canvas.text("6 SENTRUM", (-half + 0.4, 2.67), 0.13, (250, 178, 40))
    canvas.fill(
        smooth([(-half - 0.02, 0.62), (-half + 0.22, 0.6), (-half + 0.24, 0.8), (-half, 0.82)], 1), (246, 248, 250)
    )
    canvas.fill([(half, 0.7), (half - 0.12, 0.7), (half - 0.12, 1.2), (half, 1.2)], (190, 30, 30))
    canvas.line([(-half + 0.05, 2.3), (-half - 0.22, 2.25), (-half - 0.22, 1.9)], 0.09, (22, 22, 24))
    for x in (-3.0, 2.9):
        canvas.disc((x, 0.5), 0.62, (12, 12, 14), within=shell)
        _wheel(canvas, x, 0.48, 8)
    return canvas.sprite((-half, roof, half, 0.0))


def truck(rng: np.random.Generator, scale: float) -> Sprite:
    """A lorry with a box body from the side, its front to the left."""
    base: Colour = [(36, 84, 150), (186, 40, 36), (226, 226, 222)][int(rng.integers(3))]
    half, roof = 4.0, 3.3
    canvas = Canvas(-half - 0.4, half + 0.4, roof + 0.1, -0.35, scale)
    _shadow(canvas, -half, half)
    canvas.box(-half + 1.2, 0.55, half - 0.1, 0.95, (38, 38, 42))
    canvas.box(
        -half + 1.95, 0.95, half, roof, [(0.95, (170, 174, 178)), (2.2, (222, 224, 226)), (roof, (246, 247, 248))]
    )
    canvas.box(-half + 1.95, 2.0, half, 2.35, base, 0.9)
    for x in np.arange(-half + 2.5, half, 0.55):
        canvas.line([(float(x), 1.0), (float(x), roof - 0.05)], 0.015, (120, 124, 128), 0.5)
    canvas.box(-half + 1.95, 0.92, half, 1.02, (84, 86, 90))
    canvas.box(-half + 1.95, roof - 0.07, half, roof, (150, 154, 158))
    cab = smooth(
        [
            (-half + 0.05, 0.4),
            (-half, 0.6),
            (-half, 1.4),
            (-half + 0.2, 2.4),
            (-half + 0.45, 2.65),
            (-half + 1.7, 2.7),
            (-half + 1.85, 2.5),
            (-half + 1.85, 0.4),
        ],
        2,
    )
    canvas.fill(
        cab,
        [
            (0.4, scaled(base, 0.45)),
            (1.0, scaled(base, 0.85)),
            (1.4, scaled(base, 1.25)),
            (1.6, scaled(base, 1.0)),
            (2.7, scaled(base, 1.45)),
        ],
    )
    canvas.fill(
        smooth([(-half + 0.3, 1.55), (-half + 0.52, 2.35), (-half + 1.3, 2.38), (-half + 1.3, 1.5)], 1),
        [(1.5, (36, 44, 52)), (2.4, (128, 150, 164))],
    )
    canvas.line([(-half + 0.25, 0.7), (-half + 0.25, 1.45), (-half + 0.45, 2.45)], 0.03, scaled(base, 0.45))
    canvas.line([(-half + 1.42, 0.7), (-half + 1.42, 2.45)], 0.03, scaled(base, 0.45))
    canvas.fill(capsule((-half + 1.1, 1.38), (-half + 1.3, 1.38), 0.06, 0.06), (26, 26, 28))
    canvas.fill(
        smooth([(-half - 0.05, 2.2), (-half + 0.1, 2.2), (-half + 0.1, 1.6), (-half - 0.05, 1.6)], 1), (22, 22, 24)
    )
    canvas.fill(smooth([(-half, 0.62), (-half + 0.25, 0.62), (-half + 0.25, 0.82), (-half, 0.82)], 1), (246, 248, 250))
    canvas.box(-half, 0.36, -half + 0.5, 0.55, (30, 30, 32))
    canvas.box(half - 0.1, 0.6, half, 0.85, (190, 30, 30))
    for x in (-half + 1.0, half - 2.0, half - 0.95):
        canvas.disc((x, 0.52), 0.6, (12, 12, 14), within=[(-half, 0.3), (half, 0.3), (half, 1.1), (-half, 1.1)])
        _wheel(canvas, x, 0.48, 8)
    return canvas.sprite((-half, roof, half, 0.0))
