"""Measures what survives in hidden objects, and draws it: ``python -m benchmarks.strength OUTPUT_FOLDER``.

Synthetic faces, number plates and textures of 8 to 800 pixels are hidden in every appearance, and attacked by one who
knows how they were hidden:

- identification: which of `CANDIDATES` known subjects is it? Best of several matched comparisons; chance is 1 in 20.
- detail: correlation of the original with its Wiener restoration, in detail finer than a third of the object. The best
  of a range of kernels and noise levels is chosen with the originals at hand, as no real attacker can.

Written are ``strength.csv``, ``identification.png``, ``detail.png`` (what survives by size) and ``contact_sheet.png``.
``tests/redaction/test_strength.py`` holds the same measures to bounds.
"""

import argparse
import csv
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from anonymise.core.detections import Box, Detections, Instance, RgbImage, Size, full_mask
from anonymise.redaction import Appearance, draw
from anonymise.redaction.appearance import Kind

__all__ = [
    "APPEARANCES",
    "CANDIDATES",
    "SIZES",
    "SUBJECTS",
    "Hide",
    "detail",
    "hide_with",
    "identification",
    "scene_of",
    "weak_blur",
]

Hide = Callable[[RgbImage, Box], RgbImage]
"""(image, object) → image in which the object is hidden."""

SIZES = (8, 16, 32, 64, 128, 256, 800)
"""Longest side of the subjects in pixels."""

CANDIDATES = 20
"""Subjects that the attacker knows, one of whom is in the picture."""

_Float = NDArray[np.float64]


def face(seed: int, size: int) -> RgbImage:
    """A face-like pattern, all of whose features depend on ``seed``: uint8 (size, 0.8·size, 3)."""
    rng = np.random.default_rng(seed)
    height, width = 400, 320
    skin = np.array([1.0, 0.78, 0.65]) * rng.uniform(90, 235)
    hair = np.array([1.0, 0.8, 0.6]) * rng.uniform(10, 200)
    image = np.empty((height, width, 3), np.uint8)
    image[:] = hair
    middle = (width // 2, int(height * rng.uniform(0.52, 0.6)))
    cv2.ellipse(image, middle, (int(width * rng.uniform(0.36, 0.46)), int(height * 0.44)), 0, 0, 360, skin.tolist(), -1)
    eye_y, spread = int(height * rng.uniform(0.4, 0.5)), int(width * rng.uniform(0.15, 0.22))
    eye, brow = int(width * rng.uniform(0.04, 0.08)), int(rng.integers(6, 18))
    for side in (-1, 1):
        at = (width // 2 + side * spread, eye_y)
        cv2.ellipse(image, at, (eye, eye // 2 + 3), 0, 0, 360, (245, 245, 245), -1)
        cv2.circle(image, at, eye // 2 + 2, (hair * 0.4).tolist(), -1)
        raised = at[1] - int(rng.uniform(22, 40))
        cv2.line(image, (at[0] - 28, raised), (at[0] + 28, raised), (hair * 0.6).tolist(), brow)
    nose = int(height * rng.uniform(0.6, 0.66))
    cv2.line(image, (width // 2, eye_y + 10), (width // 2 + int(rng.integers(-12, 12)), nose), (skin * 0.7).tolist(), 8)
    mouth = (width // 2, int(height * rng.uniform(0.74, 0.82)))
    cv2.ellipse(
        image, mouth, (int(width * rng.uniform(0.1, 0.2)), int(rng.integers(5, 16))), 0, 0, 360, (150, 40, 50), -1
    )
    if rng.random() < 0.3:
        cv2.ellipse(image, (mouth[0], mouth[1] + 15), (90, 60), 0, 0, 180, (hair * 0.7).tolist(), -1)
    return _scaled(image, size)


def plate(seed: int, size: int) -> RgbImage:
    """A number plate with two letters and five digits that depend on ``seed``: uint8 (~size/4.7, size, 3)."""
    rng = np.random.default_rng(seed)
    letters = "".join(rng.choice(list("ABCDEFGHJKLNPRSTUVXYZ"), 2))
    text = f"{letters} {rng.integers(10000, 100000)}"
    image = np.full((112, 520, 3), 240, np.uint8)
    image[:, :44] = (0, 51, 153)
    cv2.putText(image, text, (56, 84), cv2.FONT_HERSHEY_DUPLEX, 2.6, (20, 20, 20), 9, cv2.LINE_AA)
    cv2.rectangle(image, (0, 0), (519, 111), (30, 30, 30), 5)
    return _scaled(image, size)


def texture(seed: int, size: int) -> RgbImage:
    """Noise of several scales that depends on ``seed``: uint8 (size, size, 3)."""
    rng = np.random.default_rng(seed)
    layers = [cv2.resize(rng.normal(0, 30, (n, n, 3)), (256, 256), interpolation=cv2.INTER_CUBIC) for n in (4, 16, 64)]
    return _scaled(np.clip(128 + sum(layers), 0, 255).astype(np.uint8), size)


SUBJECTS: Mapping[str, Callable[[int, int], RgbImage]] = {"face": face, "plate": plate, "texture": texture}


def _scaled(image: RgbImage, size: int) -> RgbImage:
    height, width = image.shape[:2]
    scale = size / max(height, width)
    dim = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(image, dim, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)  # type: ignore[no-any-return]


def scene_of(subject: RgbImage, seed: int) -> tuple[RgbImage, Box]:
    """A photograph of a subject in a larger picture: light and sensor noise depend on ``seed``."""
    rng = np.random.default_rng((seed, 1))
    height, width = subject.shape[:2]
    margin = max(width, height) // 4 + 4
    small = rng.uniform(60, 190, (3, 4, 3)).astype(np.float32)
    scene = cv2.resize(small, (width + 2 * margin, height + 2 * margin), interpolation=cv2.INTER_CUBIC)
    box = Box(margin, margin, margin + width, margin + height)
    scene[box.slices] = subject * np.float32(rng.uniform(0.92, 1.08))
    scene += 3 * rng.standard_normal(scene.shape, np.float32)
    return np.clip(scene, 0, 255).astype(np.uint8), box


def hide_with(appearance: Appearance) -> Hide:
    """Hides an object as the program does; the label is that of a person."""

    def hide(image: RgbImage, box: Box) -> RgbImage:
        size = Size(image.shape[1], image.shape[0])
        return draw(image, Detections(size, (Instance(1, 1.0, box, full_mask(box)),)), appearance).image

    return hide


def weak_blur(share: float) -> Hide:
    """Hides an object by a Gaussian blur with a standard deviation of ``share`` of its longest side; for comparison."""

    def hide(image: RgbImage, box: Box) -> RgbImage:
        blurred = cv2.GaussianBlur(image, (0, 0), max(0.4, share * max(box.width, box.height)))
        hidden = image.copy()
        hidden[box.slices] = blurred[box.slices]
        return hidden

    return hide


def _appearance(**changes: object) -> Appearance:
    plain: dict[str, object] = {
        "draw_mask": True,
        "appearance": "blur",
        "mask_color": None,
        "mask_colors": {},
        "blur": 1,
        "gray_blur": True,
        "normalized_gray_blur": True,
        "feather": 0,
        "inpaint_radius": 16,
    }
    return Appearance.model_validate(plain | changes)


_GRAY: Mapping[str, object] = {"normalized_gray_blur": False}
_COLOUR: Mapping[str, object] = {"gray_blur": False, "normalized_gray_blur": False}

APPEARANCES: Mapping[str, Appearance] = {
    **{kind: _appearance(appearance=kind) for kind in get_args(Kind)},
    "blur gray": _appearance(**_GRAY),
    "blur colour": _appearance(**_COLOUR),
    "blur feather": _appearance(feather=0.1, **_COLOUR),
    "mosaic colour": _appearance(appearance="mosaic", **_COLOUR),
    "solid": _appearance(appearance="solid", **_COLOUR),
}
"""With the weakest ``blur`` there is, so that the strength comes from the size of the object alone."""


def _gray(image: RgbImage) -> _Float:
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64)  # type: ignore[no-any-return]


def _wiener(image: _Float, sigma: float, noise: float) -> _Float:
    """Inverse of a Gaussian blur, by a Wiener filter with the given noise-to-signal ratio."""
    pad = min(max(1, round(3 * sigma)), min(image.shape) - 1) if min(image.shape) > 1 else 0
    padded = np.pad(image, pad, mode="reflect")
    fy = np.fft.fftfreq(padded.shape[0])[:, np.newaxis]
    fx = np.fft.rfftfreq(padded.shape[1])[np.newaxis, :]
    response = np.exp(-2 * (np.pi * sigma) ** 2 * (fx**2 + fy**2))
    restored = np.fft.irfft2(np.fft.rfft2(padded) * response / (response**2 + noise), s=padded.shape)
    return restored[pad : pad + image.shape[0], pad : pad + image.shape[1]]


def _restorations(image: _Float) -> list[_Float]:
    """The image itself and what Wiener filters of many kernels make of it."""
    longest = max(image.shape)
    shares, noises = (0.02, 0.04, 0.08, 0.12, 0.2), (1e-4, 1e-3, 1e-2, 1e-1)
    return [image, *(_wiener(image, share * longest, noise) for share, noise in itertools.product(shares, noises))]


def _fine(image: _Float) -> _Float:
    """The image without its cosines of half a period of a third of its longest side, and longer."""
    rows, columns = (_long_cosines(length, max(image.shape)) for length in image.shape)
    return image - rows @ (rows.T @ image @ columns) @ columns.T


def _long_cosines(length: int, longest: int) -> _Float:
    """Orthonormal columns (length, count): the cosines whose half period is at least ``longest`` / 3."""
    count = 1 + 3 * length // longest
    basis = np.cos(np.pi * np.outer(np.arange(length) + 0.5, np.arange(count)) / length)
    return np.asarray(basis / np.linalg.norm(basis, axis=0))


def detail(subject: Callable[[int, int], RgbImage], size: int, hide: Hide, count: int = 10) -> float:
    """Mean correlation of ``count`` subjects with their restorations, in detail finer than a third of the object.

    It is the detail in which a subject differs from the mean of the candidates, as what all have in common identifies
    nobody. The kernel and the noise level of the restoration are those that work best on the whole. Pictures are
    brought to at most 128 pixels first.
    """
    subjects = [subject(identity, size) for identity in range(CANDIDATES)]
    truths = [_fine(_limited(_gray(each), 128)) for each in subjects]
    common = np.mean(truths, axis=0)
    likeness: list[list[float]] = []
    for identity in range(count):
        image, box = scene_of(subjects[identity], identity)
        seen = _limited(_gray(hide(image, box)[box.slices]), 128)
        own = _unit(truths[identity] - common)
        likeness.append([float(np.sum(own * _unit(_fine(restored)))) for restored in _restorations(seen)])
    return float(np.mean(likeness, axis=0).max())


def _limited(image: _Float, longest: int) -> _Float:
    scale = longest / max(image.shape)
    if scale >= 1:
        return image
    dim = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    return cv2.resize(image, dim, interpolation=cv2.INTER_AREA)  # type: ignore[no-any-return]


def _unit(values: _Float) -> _Float:
    values = values.ravel() - values.mean()
    length = float(np.linalg.norm(values))
    # Less than a hundredth of a grey level is rounding.
    return values / length if length > 0.01 * np.sqrt(values.size) else values * 0


def _fingerprints(image: RgbImage, *, deblurred: bool) -> list[_Float]:
    """What the attacker compares: vectors whose distance tells how unlike two pictures are, for each comparison."""
    gray = _limited(_gray(image), 64)
    cells = [cv2.resize(image.astype(np.float64), (n, n), interpolation=cv2.INTER_AREA) for n in (1, 3)]
    smooth = cv2.GaussianBlur(gray, (0, 0), max(gray.shape) / 8)
    shares = (0.04, 0.08, 0.16)
    sharp = [_wiener(gray, share * max(gray.shape), 1e-3) if deblurred else gray for share in shares]
    return [
        cells[0].ravel(),
        cells[1].ravel(),
        *(_unit(each) for each in (cells[1].mean(axis=2), smooth, gray, *sharp)),
    ]


def identification(subject: Callable[[int, int], RgbImage], size: int, hide: Hide, repeats: int = 5) -> float:
    """Share of hidden subjects that the attacker's best comparison tells from the other candidates.

    With 5 repeats (100 pictures) and eight comparisons, of which the best counts, pure chance reaches about 0.1.
    """
    subjects = [subject(identity, size) for identity in range(CANDIDATES)]
    known = [_fingerprints(each, deblurred=False) for each in subjects]
    right: list[list[bool]] = []
    for identity, repeat in itertools.product(range(CANDIDATES), range(repeats)):
        image, box = scene_of(subjects[identity], 1000 * repeat + identity)
        seen = _fingerprints(hide(image, box)[box.slices], deblurred=True)
        distances = [
            [float(np.linalg.norm(mine - theirs)) for theirs in each]
            for mine, each in zip(seen, zip(*known, strict=True), strict=True)
        ]
        # A tie tells nothing.
        right.append([row.count(min(row)) == 1 and row.index(min(row)) == identity for row in distances])
    return float(np.mean(right, axis=0).max())


def _chart(title: str, curves: Mapping[str, Sequence[float]], path: Path) -> None:
    """Curves over `SIZES`, 0 to 1."""
    width, height, left, top = 1000, 520, 60, 50
    chart = np.full((height, width, 3), 255, np.uint8)
    plot_width, plot_height = 680, 400
    for tenth in range(11):
        y = top + plot_height - plot_height * tenth // 10
        cv2.line(chart, (left, y), (left + plot_width, y), (220, 220, 220), 1)
        cv2.putText(chart, f"{tenth / 10:.1f}", (15, y + 5), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
    xs = [left + plot_width * i // (len(SIZES) - 1) for i in range(len(SIZES))]
    for x, size in zip(xs, SIZES, strict=True):
        at = (x - 12, top + plot_height + 25)
        cv2.putText(chart, str(size), at, cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
    cv2.putText(chart, title, (left, 30), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 0, 0), 1, cv2.LINE_AA)
    for number, (name, values) in enumerate(curves.items()):
        hsv = np.array([[[number * 180 // len(curves), 220, 190]]], np.uint8)
        color = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)[0, 0].tolist()
        points = [(x, top + plot_height - round(plot_height * v)) for x, v in zip(xs, values, strict=True)]
        cv2.polylines(chart, [np.array(points, np.int32)], False, color, 2, cv2.LINE_AA)
        at = (left + plot_width + 20, top + 20 + 28 * number)
        cv2.putText(chart, name, at, cv2.FONT_HERSHEY_SIMPLEX, 0.5, color, 1, cv2.LINE_AA)
    cv2.imwrite(str(path), chart)


def _contact_sheet(methods: Mapping[str, Hide], path: Path) -> None:
    """Per subject and size two rows: before and after; after the best restoration. One column per way to hide."""
    tile, gap, margin = 150, 8, 110
    rows = list(itertools.product((("face", 2 * tile + gap), ("plate", 4 * tile // 3)), (8, 32, 128, 800)))
    height = 30 + sum(pitch for (_, pitch), _ in rows)
    sheet = np.full((height, margin + (len(methods) + 1) * (tile + gap), 3), 255, np.uint8)
    for column, name in enumerate(["before", *methods]):
        at = (margin + column * (tile + gap), 20)
        cv2.putText(sheet, name, at, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    y = 30
    for (kind, pitch), size in rows:
        cv2.putText(sheet, f"{kind} {size}", (5, y + 40), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
        image, box = scene_of(SUBJECTS[kind](3, size), 3)
        truth = _unit(_fine(_gray(image[box.slices])))
        _tile(sheet, image, margin, y, tile)
        for column, hide in enumerate(methods.values(), start=1):
            hidden = hide(image, box)
            best = max(_restorations(_gray(hidden[box.slices])), key=lambda r: float(np.sum(truth * _unit(_fine(r)))))
            restored = cv2.cvtColor(np.clip(best, 0, 255).astype(np.uint8), cv2.COLOR_GRAY2RGB)
            x = margin + column * (tile + gap)
            _tile(sheet, hidden, x, y, tile)
            _tile(sheet, restored, x, y + pitch // 2, tile)
        y += pitch
    cv2.imwrite(str(path), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))


def _tile(sheet: RgbImage, image: RgbImage, x: int, y: int, side: int) -> None:
    scale = side / max(image.shape[:2])
    dim = max(1, int(image.shape[1] * scale)), max(1, int(image.shape[0] * scale))
    shown = cv2.resize(image, dim, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)
    sheet[y : y + dim[1], x : x + dim[0]] = shown


def main() -> None:
    """Measures, prints a table, and writes the files."""
    parser = argparse.ArgumentParser(description="Measures what survives in hidden objects.")
    parser.add_argument("output", type=Path, help="folder for the pictures and the table")
    folder: Path = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    methods = {name: hide_with(appearance) for name, appearance in APPEARANCES.items()}
    methods |= {"gauss 1/25": weak_blur(0.04), "gauss 1/8": weak_blur(0.125)}
    _contact_sheet(methods, folder / "contact_sheet.png")
    rates: dict[str, list[float]] = {name: [] for name in methods}
    details: dict[str, list[float]] = {name: [] for name in methods}
    with (folder / "strength.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("appearance", "subject", "size_px", "identification", "detail"))
        for (name, hide), size in itertools.product(methods.items(), SIZES):
            found: list[tuple[float, float]] = []
            for kind, subject in SUBJECTS.items():
                found.append((identification(subject, size, hide), detail(subject, size, hide)))
                writer.writerow((name, kind, size, f"{found[-1][0]:.3f}", f"{found[-1][1]:.3f}"))
            rates[name].append(max(rate for rate, _ in found))
            details[name].append(max(left for _, left in found))
            print(
                f"{name:14} {size:4} px   identified {rates[name][-1]:.2f}   detail {details[name][-1]:.2f}", flush=True
            )
    _chart(f"identified, 1 of {CANDIDATES} (worst subject)", rates, folder / "identification.png")
    _chart("detail after the best restoration (worst subject)", details, folder / "detail.png")


if __name__ == "__main__":
    main()
