"""What the outputs of detectors mean: one function for each layout of the catalog.

Only what reaches its threshold is decoded; that is a handful of the thousands of places that a network looks at.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anonymise.core.detections import Size
from anonymise.core.errors import ModelError
from anonymise.models.catalog import (
    AnchorsOutput,
    CenterFaceOutput,
    NanoDetOutput,
    Output,
    RowsOutput,
    SsdOutput,
    YoloOutput,
)

__all__ = ["Candidates", "Tensors", "decode"]

_Floats = NDArray[np.float32]

Tensors = Sequence[_Floats]
"""The outputs of a network for one picture, in the order of ``Output.names``."""


class Candidates(NamedTuple):
    """Boxes of k objects in a network's picture, before non-maximum suppression.

    Attributes:
        boxes: float (k, 4), [ymin, xmin, ymax, xmax] in pixels of the picture.
        scores: float (k,).
        columns: int (k,), numbers of the classes as the network counts them.
    """

    boxes: _Floats
    scores: _Floats
    columns: NDArray[np.int64]


def decode(output: Output, tensors: Tensors, size: Size, thresholds: _Floats) -> Candidates:
    """What a network found in a picture.

    Args:
        output: the layout of its outputs.
        tensors: the outputs.
        size: size of the picture.
        thresholds: (classes,), the score that a box of each class must reach; infinity for those of no interest.

    Raises:
        ModelError: the shapes of the outputs do not fit the layout.
    """
    return _DECODERS[type(output)](output, tensors, size, thresholds)


def _ssd(output: SsdOutput, tensors: Tensors, size: Size, thresholds: _Floats) -> Candidates:
    scores = _shaped(output, 0, tensors, (1, None, len(thresholds)))[0]
    boxes = (
        tensors[1].reshape(-1, 4) if tensors[1].size == 4 * len(scores) else _misfit(output, 1, tensors, "(1, n, 4)")
    )
    anchors, columns = _reaching(scores, thresholds)
    shares = boxes[anchors] * np.array([size.height, size.width] * 2, np.float32)
    return Candidates(shares, scores[anchors, columns], columns)


def _nanodet(output: NanoDetOutput, tensors: Tensors, size: Size, thresholds: _Floats) -> Candidates:
    n_levels = len(output.strides)
    found = []
    for level, stride in enumerate(output.strides):
        n_rows, n_columns = -(-size.height // stride), -(-size.width // stride)
        scores = _shaped(output, level, tensors, (1, n_rows * n_columns, len(thresholds)))[0]
        distances = _shaped(output, n_levels + level, tensors, (1, n_rows * n_columns, None))[0]
        if distances.shape[1] % 4:
            _misfit(output, n_levels + level, tensors, f"(1, {n_rows * n_columns}, a multiple of 4)")
        cells, columns = _reaching(scores, thresholds)
        # Softmax; the largest is subtracted so that nothing overflows.
        bins = distances[cells].reshape(len(cells), 4, distances.shape[1] // 4)
        weights = np.exp(bins - bins.max(axis=2, keepdims=True))
        weights /= weights.sum(axis=2, keepdims=True)
        left, top, right, bottom = (weights @ np.arange(bins.shape[2], dtype=np.float32)).T * stride
        y, x = (cells // n_columns + 0.5) * stride, (cells % n_columns + 0.5) * stride
        boxes = np.stack([y - top, x - left, y + bottom, x + right], axis=1).astype(np.float32)
        found.append(Candidates(boxes, scores[cells, columns], columns))
    return Candidates(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def _centerface(output: CenterFaceOutput, tensors: Tensors, size: Size, thresholds: _Floats) -> Candidates:
    stride = output.stride
    cells = size.height // stride, size.width // stride
    heatmap = _shaped(output, 0, tensors, (1, len(thresholds), *cells))[0]
    scale = _shaped(output, 1, tensors, (1, 2, *cells))[0]
    offset = _shaped(output, 2, tensors, (1, 2, *cells))[0]
    columns, rows, places = np.nonzero(heatmap >= thresholds[:, np.newaxis, np.newaxis])
    middles = np.stack([rows, places], axis=1) + offset[:, rows, places].T + 0.5
    halves = np.exp(scale[:, rows, places].T) / 2
    boxes = np.concatenate([middles - halves, middles + halves], axis=1) * stride
    return Candidates(boxes.astype(np.float32), heatmap[columns, rows, places], columns)


def _yolo(output: YoloOutput, tensors: Tensors, size: Size, thresholds: _Floats) -> Candidates:  # noqa: ARG001
    width = 4 + output.objectness + len(thresholds)
    shape = (1, width, None) if output.transposed else (1, None, width)
    (table,) = _shaped(output, 0, tensors, shape)
    table = table.T if output.transposed else table
    scores = table[:, -len(thresholds) :]
    if output.objectness:
        scores = scores * table[:, 4:5]
    rows, columns = _reaching(scores, thresholds)
    middles, halves = table[rows, 1::-1], table[rows, 3:1:-1] / 2
    return Candidates(np.concatenate([middles - halves, middles + halves], axis=1), scores[rows, columns], columns)


def _rows(output: RowsOutput, tensors: Tensors, size: Size, thresholds: _Floats) -> Candidates:  # noqa: ARG001
    rows = _shaped(output, 0, tensors, (None, 7))
    columns = rows[:, 5].astype(np.int64)
    if len(columns) and not 0 <= columns.min() <= columns.max() < len(thresholds):
        raise ModelError(f"The model finds class {columns.max()}, but its entry names {len(thresholds)} classes.")
    kept = rows[:, 6] >= thresholds[columns]
    return Candidates(rows[kept][:, [2, 1, 4, 3]], rows[kept, 6], columns[kept])


def _anchors(output: AnchorsOutput, tensors: Tensors, size: Size, thresholds: _Floats) -> Candidates:
    anchors = np.concatenate(
        [
            _anchors_of(size, stride, np.array(sides, np.float32))
            for stride, sides in zip(output.strides, output.sides, strict=True)
        ]
    )
    scores = _shaped(output, 0, tensors, (1, len(anchors), 1 + len(thresholds)))[0, :, 1:]
    offsets = _shaped(output, 1, tensors, (1, len(anchors), 4))[0]
    rows, columns = _reaching(scores, thresholds)
    y, x, side = anchors[rows].T
    right, down, width, height = offsets[rows].T
    x, y = x + right * output.variances[0] * side, y + down * output.variances[0] * side
    width, height = (side * np.exp(length * output.variances[1]) for length in (width, height))
    boxes = np.stack([y - height / 2, x - width / 2, y + height / 2, x + width / 2], axis=1)
    return Candidates(boxes, scores[rows, columns], columns)


def _anchors_of(size: Size, stride: int, sides: _Floats) -> _Floats:
    """The anchors of a stride, (cells × sides, 3): the middle's y and x, and the side."""
    shape = -(-size.height // stride), -(-size.width // stride), len(sides)
    rows, columns, numbers = np.indices(shape).reshape(3, -1)
    return np.stack([(rows + 0.5) * stride, (columns + 0.5) * stride, sides[numbers]], axis=1).astype(np.float32)


_DECODERS: Mapping[type[Any], Callable[[Any, Tensors, Size, _Floats], Candidates]] = MappingProxyType(
    {
        SsdOutput: _ssd,
        NanoDetOutput: _nanodet,
        CenterFaceOutput: _centerface,
        YoloOutput: _yolo,
        RowsOutput: _rows,
        AnchorsOutput: _anchors,
    }
)


def _reaching(scores: _Floats, thresholds: _Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and column of the scores (n, classes) that reach the thresholds of their classes."""
    wanted = np.flatnonzero(np.isfinite(thresholds))
    rows, places = np.nonzero(scores[:, wanted] >= thresholds[wanted])
    return rows, wanted[places]


def _shaped(output: Output, index: int, tensors: Tensors, shape: tuple[int | None, ...]) -> _Floats:
    """An output, whose shape must be as given; None is any length."""
    tensor = tensors[index]
    fits = tensor.ndim == len(shape) and all(n in (None, m) for n, m in zip(shape, tensor.shape, strict=True))
    if not fits:
        _misfit(output, index, tensors, "(" + ", ".join("n" if n is None else str(n) for n in shape) + ")")
    return tensor


def _misfit(output: Output, index: int, tensors: Tensors, expected: str) -> Any:
    name = output.names[index] or "of the model"
    raise ModelError(
        f"The output {name} has the shape {tensors[index].shape}; with its classes and input size the layout "
        f"{output.layout} needs {expected}. Check the model's entry in the catalog."
    )
