"""What stands along the street: houses, trees, lamp posts; drawn in metres."""

import numpy as np

from samples.canvas import Canvas, Colour, Paint, Sprite, capsule, scaled, smooth

__all__ = ["house", "lamp_post", "tree"]

_WALLS: tuple[Colour, ...] = (
    (158, 62, 50),
    (226, 222, 210),
    (214, 178, 104),
    (112, 138, 156),
    (132, 148, 118),
    (196, 200, 200),
)
_ROOFS: tuple[Colour, ...] = ((72, 70, 74), (122, 72, 56), (92, 84, 80))
_WHITE: Colour = (240, 240, 236)


def _window(canvas: Canvas, x: float, y: float, width: float, height: float) -> None:
    """A casement window; (x, y) is the lower left corner of its glass."""
    canvas.box(x - 0.16, y - 0.2, x + width + 0.2, y + height + 0.14, (30, 30, 34), 0.18)
    canvas.box(
        x - 0.14, y - 0.14, x + width + 0.14, y + height + 0.14, [(y, scaled(_WHITE, 0.88)), (y + height, _WHITE)]
    )
    glass: Paint = [(y, (58, 68, 78)), (y + height * 0.6, (96, 116, 132)), (y + height, (156, 180, 196))]
    canvas.box(x, y, x + width, y + height, glass)
    pane = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
    for side in (x, x + width):
        inner = x + width / 2 + (side - x - width / 2) * 0.35
        canvas.fill([(side, y), (side, y + height), (inner, y + height)], (236, 232, 222), 0.5, within=pane)
    canvas.box(x + width / 2 - 0.035, y, x + width / 2 + 0.035, y + height, _WHITE)
    canvas.box(x, y + height * 0.66, x + width, y + height * 0.66 + 0.06, _WHITE)


def house(rng: np.random.Generator, scale: float, width: float) -> Sprite:
    """A wooden house, ``width`` metres wide, with its eaves or its gable to the street."""
    wall = _WALLS[int(rng.integers(len(_WALLS)))]
    roof = _ROOFS[int(rng.integers(len(_ROOFS)))]
    storeys, gable = int(rng.integers(2, 4)), bool(rng.integers(2))
    half, eaves = width / 2, 0.5 + 2.8 * storeys
    ridge = eaves + (width * 0.38 if gable else 2.4)
    canvas = Canvas(-half - 0.6, half + 0.6, ridge + 1.4, -0.1, scale)
    facade = [(-half, 0.0), (half, 0.0), (half, eaves), (-half, eaves)]
    if gable:
        facade = [*facade[:3], (0.0, ridge - 0.2), facade[3]]
    canvas.box(
        half * 0.35,
        ridge - 1.2,
        half * 0.35 + 0.7,
        ridge + 0.9,
        [(ridge - 1, (112, 70, 58)), (ridge + 1, (150, 98, 80))],
    )
    canvas.box(half * 0.35 - 0.06, ridge + 0.8, half * 0.35 + 0.76, ridge + 0.95, (86, 84, 84))
    canvas.fill(facade, [(0.0, scaled(wall, 0.8)), (eaves * 0.5, scaled(wall, 0.95)), (ridge, scaled(wall, 1.04))])
    for y in np.arange(0.55, ridge, 0.19):
        canvas.line([(-half, float(y)), (half, float(y))], 0.018, scaled(wall, 0.7), 0.32)
    if gable:
        _clear_beside_gable(canvas, half, eaves, ridge)
        for side in (-1, 1):
            edge = [
                (side * (half + 0.45), eaves - 0.42),
                (side * (half + 0.5), eaves - 0.1),
                (0.0, ridge + 0.25),
                (0.0, ridge - 0.25),
            ]
            canvas.fill(edge, [(eaves, scaled(_WHITE, 0.9)), (ridge, _WHITE)])
            canvas.line([(side * (half + 0.52), eaves - 0.1), (0.0, ridge + 0.27)], 0.16, roof)
    else:
        top = [(-half - 0.5, eaves - 0.05), (half + 0.5, eaves - 0.05), (half + 0.15, ridge), (-half - 0.15, ridge)]
        canvas.fill(top, [(eaves, scaled(roof, 0.9)), (ridge, scaled(roof, 1.18))])
        for y in np.arange(eaves + 0.2, ridge, 0.28):
            reach = half + 0.45 - 0.35 * (float(y) - eaves) / (ridge - eaves)
            canvas.line([(-reach, float(y)), (reach, float(y))], 0.04, scaled(roof, 0.7), 0.45)
        canvas.box(-half - 0.5, eaves - 0.22, half + 0.5, eaves, scaled(_WHITE, 0.92))
        canvas.box(-half, eaves - 0.6, half, eaves - 0.22, (20, 22, 28), 0.22)
    for side in (-1, 1):
        canvas.box(
            min(side * half, side * (half - 0.18)),
            0.4,
            max(side * half, side * (half - 0.18)),
            eaves - 0.2,
            scaled(_WHITE, 0.95),
        )
    canvas.box(-half, 0.0, half, 0.5, [(0.0, (92, 92, 94)), (0.5, (136, 136, 134))])
    columns = max(2, int(width // 2.6))
    door = int(rng.integers(columns))
    for storey in range(storeys):
        for column in range(columns):
            x = -half + width * (column + 0.5) / columns
            if storey == 0 and column == door:
                canvas.box(x - 0.7, 0.25, x + 0.7, 2.75, _WHITE)
                canvas.box(x - 0.52, 0.3, x + 0.52, 2.55, [(0.3, scaled(roof, 0.8)), (2.5, scaled(roof, 1.2))])
                canvas.box(x - 0.3, 1.6, x + 0.3, 2.3, (96, 116, 132))
                canvas.disc((x + 0.4, 1.3), 0.05, (214, 190, 120))
                canvas.box(x - 0.8, 0.0, x + 0.8, 0.25, (150, 150, 148))
            else:
                _window(canvas, x - 0.5, 1.35 + 2.8 * storey, 1.0, 1.25)
    return canvas.sprite((-half, ridge, half, 0.0))


def _clear_beside_gable(canvas: Canvas, half: float, eaves: float, ridge: float) -> None:
    for side in (-1, 1):
        canvas.erase(
            [
                (side * (half + 0.7), eaves),
                (side * half, eaves),
                (0.0, ridge),
                (0.0, ridge + 1),
                (side * (half + 0.7), ridge + 1),
            ]
        )


def tree(rng: np.random.Generator, scale: float) -> Sprite:
    """A birch or a spruce."""
    if rng.random() < 0.3:
        return _spruce(rng, scale)
    height = float(rng.uniform(5.5, 8.0))
    leaf: Colour = (92 + float(rng.uniform(-12, 30)), 132 + float(rng.uniform(-14, 14)), 62)
    canvas = Canvas(-2.8, 2.8, height + 0.4, -0.3, scale)
    canvas.disc((0.3, -0.02), (1.5, 0.16), (16, 20, 22), 0.4, blur=0.1)
    canvas.fill(capsule((0.0, 0.0), (0.1, height * 0.7), 0.3, 0.12), (206, 204, 196))
    canvas.fill(capsule((0.07, 0.0), (0.13, height * 0.7), 0.13, 0.05), (140, 138, 132), 0.7)
    for y in rng.uniform(0.2, height * 0.4, 12):
        canvas.line([(-0.08, float(y)), (0.04, float(y) + 0.02)], 0.04, (48, 46, 44), 0.8)
    # Dark clumps first, light ones above and to the left, where the sun is.
    for layer, (shade, shift) in enumerate(((0.5, 0.0), (0.72, 0.1), (0.95, 0.22), (1.14, 0.38))):
        for _ in range((60, 90, 90, 70)[layer]):
            angle, reach = float(rng.uniform(0, 2 * np.pi)), float(np.sqrt(rng.random()))
            x = reach * float(np.cos(angle)) * height * 0.26 - shift * 0.7
            y = height * 0.63 + reach * float(np.sin(angle)) * height * 0.3 + shift * 0.8
            _leaves(
                canvas,
                rng,
                x,
                min(y, height - 0.5),
                float(rng.uniform(0.2, 0.42)) * (1.15 - 0.2 * layer),
                scaled(leaf, shade),
            )
    return canvas.sprite((-1.8, height, 1.8, 0.0))


def _leaves(canvas: Canvas, rng: np.random.Generator, x: float, y: float, radius: float, colour: Colour) -> None:
    angles = np.linspace(0, 2 * np.pi, 11, endpoint=False)
    reach = radius * rng.uniform(0.6, 1.15, 11)
    canvas.fill(
        [(x + float(r * np.cos(a)), y + float(r * 0.8 * np.sin(a))) for a, r in zip(angles, reach, strict=True)],
        colour,
        0.85,
    )


def _spruce(rng: np.random.Generator, scale: float) -> Sprite:
    height = float(rng.uniform(7.0, 10.0))
    canvas = Canvas(-2.4, 2.4, height + 0.2, -0.3, scale)
    canvas.disc((0.2, -0.02), (1.4, 0.15), (16, 20, 22), 0.4, blur=0.1)
    canvas.fill(capsule((0.0, 0.0), (0.0, 1.2), 0.3, 0.25), (84, 66, 52))
    for share in np.linspace(0.08, 0.94, 15):
        reach = 1.9 * (1 - float(share)) + 0.15
        y = height * float(share)
        ragged = [(float(x), y - 0.3 + float(rng.uniform(-0.2, 0.12))) for x in np.linspace(-reach, reach, 13)]
        outline = [*ragged, (0.0, y + height * 0.13)]
        canvas.fill(outline, [(y - 0.4, (28, 50, 38)), (y + height * 0.12, (66, 100, 70))])
        lit = [(x, level + 0.12) for x, level in ragged[:7]]
        canvas.fill([*lit, (-0.1, y + height * 0.11)], (96, 130, 84), 0.35)
    return canvas.sprite((-1.6, height, 1.6, 0.0))


def lamp_post(scale: float) -> Sprite:
    """A street lamp that leans over to the right."""
    canvas = Canvas(-0.4, 2.2, 6.6, -0.15, scale)
    canvas.disc((0.1, 0.0), (0.3, 0.05), (14, 16, 22), 0.5, blur=0.04)
    canvas.fill(capsule((0.0, 0.02), (0.0, 6.2), 0.16, 0.09), (112, 118, 122))
    canvas.line([(0.03, 0.1), (0.03, 6.2)], 0.03, (160, 166, 170))
    canvas.line([(0.0, 6.15), (0.15, 6.38), (0.5, 6.46), (1.4, 6.46)], 0.08, (112, 118, 122))
    canvas.fill(smooth([(1.2, 6.4), (1.3, 6.54), (2.0, 6.5), (2.05, 6.4)], 1), (86, 90, 94))
    canvas.box(1.3, 6.37, 1.95, 6.41, (250, 246, 226))
    return canvas.sprite((-0.1, 6.5, 2.05, 0.0))
