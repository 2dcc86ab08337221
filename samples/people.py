"""People, on foot and on bicycles, drawn in metres."""

import numpy as np

from samples.canvas import Canvas, Colour, Sprite, capsule, scaled, smooth

__all__ = ["cyclist", "pedestrian"]

_SKIN: tuple[Colour, ...] = ((232, 190, 162), (206, 156, 124), (150, 104, 76), (98, 66, 48))
_HAIR: tuple[Colour, ...] = ((52, 38, 30), (28, 24, 24), (150, 112, 64), (120, 118, 116))
_JACKETS: tuple[Colour, ...] = (
    (196, 52, 48),
    (44, 86, 140),
    (58, 112, 78),
    (214, 158, 52),
    (92, 72, 110),
    (70, 74, 82),
)
_TROUSERS: tuple[Colour, ...] = ((44, 54, 82), (52, 50, 52), (98, 88, 74), (34, 36, 40))


def _pick(rng: np.random.Generator, colours: tuple[Colour, ...]) -> Colour:
    return colours[int(rng.integers(len(colours)))]


def _head(canvas: Canvas, x: float, y: float, skin: Colour, hair: Colour) -> None:
    """A head from the front; ``y`` is the chin."""
    canvas.fill(capsule((x, y - 0.08), (x, y + 0.06), 0.11, 0.1), scaled(skin, 0.75))
    canvas.disc((x, y + 0.135), (0.098, 0.135), hair)
    for side in (-1, 1):
        canvas.disc((x + side * 0.083, y + 0.1), (0.016, 0.03), scaled(skin, 0.85))
    face = [
        (x - 0.08, y + 0.17),
        (x - 0.078, y + 0.06),
        (x - 0.035, y),
        (x + 0.035, y),
        (x + 0.078, y + 0.06),
        (x + 0.08, y + 0.17),
        (x, y + 0.21),
    ]
    canvas.fill(smooth(face, 2), [(y, scaled(skin, 0.82)), (y + 0.2, scaled(skin, 1.08))])
    for side in (-1, 1):
        canvas.disc((x + side * 0.033, y + 0.115), (0.011, 0.008), (54, 44, 40))
        canvas.line([(x + side * 0.046, y + 0.138), (x + side * 0.02, y + 0.14)], 0.006, scaled(hair, 0.8), 0.7)
    canvas.line([(x + 0.005, y + 0.11), (x + 0.012, y + 0.075), (x, y + 0.07)], 0.008, scaled(skin, 0.62))
    canvas.line([(x - 0.026, y + 0.042), (x + 0.026, y + 0.042)], 0.009, scaled(skin, 0.6), 0.8)


def pedestrian(rng: np.random.Generator, scale: float) -> Sprite:
    """Someone who walks towards the camera.

    Args:
        rng: picks clothes, hair and how far the step is.
        scale: pixels per metre.
    """
    skin, hair, jacket, trousers = _pick(rng, _SKIN), _pick(rng, _HAIR), _pick(rng, _JACKETS), _pick(rng, _TROUSERS)
    step = float(rng.uniform(0.5, 1.0))
    canvas = Canvas(-0.6, 0.7, 1.9, -0.2, scale)
    canvas.disc((0.1, 0.0), (0.42, 0.06), (14, 16, 22), 0.5, blur=0.04)
    shoe = (38, 34, 34)
    # The back leg first: its knee is bent and its foot is off the ground.
    hips = ((0.085, 0.9), (-0.085, 0.9))
    knees = ((0.1, 0.5 + 0.02 * step), (-0.1, 0.49))
    ankles = ((0.085, 0.1 + 0.09 * step), (-0.11, 0.09))
    for hip, knee, ankle, shade in zip(hips, knees, ankles, (0.72, 1.0), strict=True):
        canvas.fill(
            smooth(
                [
                    (ankle[0] - 0.055, ankle[1] - 0.085),
                    (ankle[0] + 0.055, ankle[1] - 0.085),
                    (ankle[0] + 0.05, ankle[1] + 0.04),
                    (ankle[0] - 0.05, ankle[1] + 0.04),
                ],
                2,
            ),
            scaled(shoe, shade),
        )
        cloth = scaled(trousers, shade)
        canvas.fill(capsule(knee, ankle, 0.135, 0.1), cloth)
        canvas.fill(capsule(hip, knee, 0.185, 0.14), cloth)
        canvas.fill(
            capsule((hip[0] + 0.045, hip[1] - 0.1), (ankle[0] + 0.03, ankle[1]), 0.05, 0.035), scaled(cloth, 0.75), 0.7
        )
        canvas.line([(hip[0] - 0.03, hip[1] - 0.1), (knee[0] - 0.03, knee[1])], 0.02, scaled(cloth, 1.15), 0.6)
    swing = 0.06 * step
    for side, lift in ((1, swing), (-1, -swing)):
        shoulder, elbow = (side * 0.185, 1.39), (side * 0.25, 1.12 + lift / 2)
        hand = (side * 0.245, 0.84 + lift)
        canvas.disc(hand, (0.042, 0.055), scaled(skin, 0.92))
        canvas.fill(capsule(elbow, (hand[0], hand[1] + 0.05), 0.105, 0.085), scaled(jacket, 0.85))
        canvas.fill(capsule(shoulder, elbow, 0.13, 0.11), scaled(jacket, 0.92))
    torso = [
        (-0.16, 0.84),
        (-0.15, 1.05),
        (-0.19, 1.3),
        (-0.2, 1.44),
        (-0.1, 1.5),
        (0.1, 1.5),
        (0.2, 1.44),
        (0.19, 1.3),
        (0.15, 1.05),
        (0.16, 0.84),
    ]
    outline = smooth(torso, 2)
    canvas.fill(outline, [(0.84, scaled(jacket, 0.78)), (1.2, jacket), (1.5, scaled(jacket, 1.15))])
    canvas.fill(
        [(0.08, 0.8), (0.25, 0.8), (0.25, 1.5), (0.13, 1.46)], scaled(jacket, 0.5), 0.4, blur=0.03, within=outline
    )
    canvas.fill([(-0.05, 1.5), (0.0, 1.38), (0.05, 1.5)], (232, 230, 224))
    canvas.line([(0.0, 0.86), (0.0, 1.39)], 0.014, scaled(jacket, 0.5))
    for side in (-1, 1):
        canvas.line([(side * 0.07, 1.0), (side * 0.14, 1.03)], 0.014, scaled(jacket, 0.5))
        canvas.fill([(side * 0.05, 1.5), (side * 0.11, 1.49), (side * 0.01, 1.34)], scaled(jacket, 0.7))
    _head(canvas, 0.0, 1.53, skin, hair)
    return canvas.sprite((-0.3, 1.8, 0.3, 0.0))


def cyclist(rng: np.random.Generator, scale: float) -> Sprite:
    """A bicycle with its rider from the side, to the left."""
    skin, jacket, trousers = _pick(rng, _SKIN), _pick(rng, _JACKETS), _pick(rng, _TROUSERS)
    frame = scaled(_pick(rng, _JACKETS), 0.85)
    canvas = Canvas(-1.15, 1.15, 1.95, -0.2, scale)
    canvas.disc((0.05, 0.0), (0.9, 0.05), (14, 16, 22), 0.5, blur=0.04)
    front, back, radius = (-0.53, 0.34), (0.5, 0.34), 0.34
    crank, seat, head = (0.08, 0.3), (0.24, 0.9), (-0.36, 0.86)
    hip, knee, foot, shoulder, hand = (0.2, 0.98), (-0.12, 0.74), (0.02, 0.2), (-0.12, 1.48), (-0.44, 1.05)
    far_knee, far_foot = (-0.08, 0.86), (0.14, 0.5)
    canvas.fill(capsule(hip, far_knee, 0.17, 0.14), scaled(trousers, 0.6))
    canvas.fill(capsule(far_knee, far_foot, 0.13, 0.09), scaled(trousers, 0.6))
    for centre in (front, back):
        angles = np.linspace(0, 2 * np.pi, 40)
        rim = [(centre[0] + radius * float(np.cos(a)), centre[1] + radius * float(np.sin(a))) for a in angles]
        for angle in np.arange(0, np.pi, np.pi / 8):
            dx, dy = radius * float(np.cos(angle)), radius * float(np.sin(angle))
            canvas.line(
                [(centre[0] - dx, centre[1] - dy), (centre[0] + dx, centre[1] + dy)], 0.006, (160, 164, 168), 0.7
            )
        canvas.line(rim, 0.05, (28, 28, 30))
        canvas.disc(centre, 0.035, (110, 112, 116))
    for start, end in ((back, crank), (back, seat), (crank, seat), (crank, head), (seat, head), (head, front)):
        canvas.line([start, end], 0.042, [(0.2, scaled(frame, 0.8)), (0.9, scaled(frame, 1.15))])
    canvas.line([head, (-0.4, 1.0), (-0.52, 1.03)], 0.032, (40, 40, 42))
    canvas.disc(crank, 0.09, (60, 62, 66))
    canvas.fill(capsule((0.12, 0.93), (0.38, 0.95), 0.05, 0.09), (26, 26, 28))
    canvas.fill(capsule((0.06, 0.16), (-0.13, 0.14), 0.08, 0.07), (232, 232, 230))
    canvas.fill(capsule(hip, knee, 0.19, 0.15), trousers)
    canvas.fill(capsule(knee, foot, 0.14, 0.09), scaled(trousers, 0.95))
    canvas.fill(
        capsule(hip, shoulder, 0.25, 0.26), [(0.9, scaled(jacket, 0.75)), (1.3, jacket), (1.6, scaled(jacket, 1.2))]
    )
    elbow = (-0.2, 1.16)
    canvas.disc(hand, 0.05, skin)
    canvas.fill(capsule(elbow, hand, 0.1, 0.08), scaled(jacket, 0.85))
    canvas.fill(capsule(shoulder, elbow, 0.13, 0.11), scaled(jacket, 0.8))
    canvas.fill(capsule((-0.16, 1.52), (-0.2, 1.62), 0.11, 0.1), scaled(skin, 0.8))
    face = [(-0.3, 1.58), (-0.31, 1.72), (-0.26, 1.8), (-0.14, 1.78), (-0.12, 1.64), (-0.2, 1.56)]
    canvas.fill(smooth(face, 2), skin)
    canvas.fill(
        smooth([(-0.34, 1.72), (-0.3, 1.86), (-0.16, 1.88), (-0.06, 1.76), (-0.07, 1.68)], 2),
        [(1.7, (44, 44, 48)), (1.9, (110, 114, 122))],
    )
    return canvas.sprite((-0.87, 1.86, 0.84, 0.0))
