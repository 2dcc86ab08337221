import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anonymise.core.errors import ModelError
from anonymise.models import tfjs
from anonymise.models.quiet_tensorflow import import_tensorflow

pytestmark = pytest.mark.slow

_FLOAT, _INT, _INT64 = 1, 3, 9
_UNUSED: dict[str, Any] = {"floatVal": [], "stringVal": []}


def const(name: str, dtype: int, shape: list[int]) -> dict[str, Any]:
    tensor = {**_UNUSED, "dtype": dtype, "tensorShape": {"dim": [{"size": str(n)} for n in shape]}}
    return {"name": name, "op": "Const", "input": [], "attr": {"dtype": {"type": dtype}, "value": {"tensor": tensor}}}


def op(name: str, kind: str, inputs: list[str], **attr: Any) -> dict[str, Any]:
    return {"name": name, "op": kind, "input": inputs, "attr": attr}


def text(value: str, *, old: bool) -> dict[str, Any]:
    return {"s": list(value.encode()) if old else base64.b64encode(value.encode()).decode()}


def write_model(folder: Path, *, old: bool = True, cut: int = 0) -> Path:
    """y = x * a + b, with a as float32 and b quantised, in two shards that divide a value; z reads a removed part."""
    nodes = [
        op("x", "Placeholder", [], dtype={"type": _FLOAT}, shape={"shape": {"dim": [{"size": "-1"}]}}),
        const("a", _FLOAT, [2]),
        const("b", _FLOAT, [2]),
        op("slow", "Neg", ["x"], T={"type": _FLOAT}),
        op("scaled", "Mul", ["slow", "a"], T={"type": _FLOAT}),
        # Attributes with texts, in the form of older and of newer files.
        op(
            "y", "Add", ["scaled", "b"], T={"type": _FLOAT}, _note=text("æ", old=old),
            _list={"list": {"s": [text("one", old=old)["s"], text("", old=old)["s"]], "i": []}},
            _empty={"list": {"s": [], "i": ["1"]}},
        ),
        op("unused", "Neg", ["y"], T={"type": _FLOAT}),
    ]  # fmt: skip
    a, b = np.array([2, 3], "<f4").tobytes(), np.array([0, 255], "u1").tobytes()
    data = (a + b)[: 10 - cut]
    (folder / "shard1").write_bytes(data[:3])
    (folder / "shard2").write_bytes(data[3:])
    weights = [
        {"name": "a", "dtype": "float32", "shape": [2]},
        {"name": "b", "dtype": "float32", "shape": [2],
         "quantization": {"dtype": "uint8", "scale": 0.1, "min": -5.0, "original_dtype": "float32"}},
    ]  # fmt: skip
    model = {
        "modelTopology": {"node": nodes, "versions": {"badConsumers": []}, "library": {"function": []}},
        "weightsManifest": [{"paths": ["shard1", "shard2"], "weights": weights}],
    }
    (folder / "model.json").write_text(json.dumps(model))
    return folder / "model.json"


def run(graph: bytes, x: Any) -> Any:
    tf = import_tensorflow()
    from tensorflow.core.framework import graph_pb2

    frozen = graph_pb2.GraphDef.FromString(graph)
    function = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(frozen, name=""), []).prune("x:0", "y:0")
    return function(tf.constant(x, tf.float32)).numpy()


@pytest.mark.parametrize("old", [True, False])
def test_a_converted_graph_computes_what_the_model_describes(tmp_path: Path, old: bool) -> None:
    graph = tfjs.convert(write_model(tmp_path, old=old), ["y"], {}, None)
    assert run(graph, [10, 10]) == pytest.approx([-10 * 2 - 5.0, -10 * 3 + 20.5])


def test_rewiring_takes_a_part_out(tmp_path: Path) -> None:
    graph = tfjs.convert(write_model(tmp_path), ["y"], {"slow": "x"}, None)
    assert run(graph, [10, 10]) == pytest.approx([10 * 2 - 5.0, 10 * 3 + 20.5])
    assert b"slow" not in graph
    assert b"unused" not in graph


def test_texts_in_attributes_are_kept(tmp_path: Path) -> None:
    from tensorflow.core.framework import graph_pb2

    converted = [tfjs.convert(write_model(tmp_path, old=old), ["y"], {}, None) for old in (True, False)]
    graphs = [graph_pb2.GraphDef.FromString(graph) for graph in converted]
    assert graphs[0] == graphs[1]
    (y,) = (node for node in graphs[0].node if node.name == "y")
    assert y.attr["_note"].s == "æ".encode()
    assert list(y.attr["_list"].list.s) == [b"one", b""]


@pytest.mark.parametrize("cut", [1, 5])
def test_shards_that_are_too_short_are_refused(tmp_path: Path, cut: int) -> None:
    with pytest.raises(ModelError, match="not a complete TensorFlow"):
        tfjs.convert(write_model(tmp_path, cut=cut), ["y"], {}, None)


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"modelTopology": {"node": [{"op": 3}]}}'])
def test_other_files_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "model.json").write_text(content)
    with pytest.raises(ModelError, match="not a complete TensorFlow"):
        tfjs.convert(tmp_path / "model.json", ["y"], {}, None)


def test_an_output_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no node scores"):
        tfjs.convert(write_model(tmp_path), ["y", "scores"], {}, None)


def write_resizing_model(folder: Path) -> Path:
    """A map of half the size, of a picture (1, 8, 6, 1) as exported."""
    shape = {"shape": {"dim": [{"size": str(n)} for n in (1, 8, 6, 1)]}}
    nodes = [
        op("x", "Placeholder", [], dtype={"type": _FLOAT}, shape=shape),
        const("size", _INT, [2]),
        op("y", "ResizeBilinear", ["x", "size"], T={"type": _FLOAT}, half_pixel_centers={"b": True}),
    ]
    weights = [{"name": "size", "dtype": "int32", "shape": [2]}]
    model = {"modelTopology": {"node": nodes}, "weightsManifest": [{"paths": ["shard"], "weights": weights}]}
    (folder / "shard").write_bytes(np.array([4, 3], "<i4").tobytes())
    (folder / "model.json").write_text(json.dumps(model))
    return folder / "model.json"


@pytest.mark.parametrize(("height", "width"), [(8, 6), (16, 30), (4, 2)])
def test_fixed_sizes_follow_the_picture(tmp_path: Path, height: int, width: int) -> None:
    graph = tfjs.convert(write_resizing_model(tmp_path), ["y"], {}, tfjs.Scalable("x", (1, 2), (8, 6)))
    picture = np.arange(height * width, dtype=np.float32).reshape(1, height, width, 1)
    # Half the size is the mean of two by two pixels.
    expected = picture.reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))
    assert run(graph, picture)[0, ..., 0] == pytest.approx(expected)


@pytest.mark.parametrize("value", [-np.inf, 0.0])
def test_padding_before_max_pooling_becomes_its_own_and_changes_nothing(tmp_path: Path, value: float) -> None:
    from tensorflow.core.framework import graph_pb2

    nodes = [
        op("x", "Placeholder", [], dtype={"type": _FLOAT}, shape={"shape": {"dim": [{"size": "-1"}] * 4}}),
        const("paddings", _INT, [4, 2]),
        const("value", _FLOAT, []),
        const("order", _INT, [4]),
        op("padded", "PadV2", ["x", "paddings", "value"], T={"type": _FLOAT}, Tpaddings={"type": _INT}),
        op("turned", "Transpose", ["padded", "order"], T={"type": _FLOAT}, Tperm={"type": _INT}),
        op("y", "MaxPool", ["turned"], T={"type": _FLOAT}, padding=text("VALID", old=False),
           ksize={"list": {"i": ["1", "3", "3", "1"]}}, strides={"list": {"i": ["1", "2", "2", "1"]}}),
    ]  # fmt: skip
    weights = [
        {"name": "paddings", "dtype": "int32", "shape": [4, 2]},
        {"name": "value", "dtype": "float32", "shape": []},
        {"name": "order", "dtype": "int32", "shape": [4]},
    ]
    data = [np.array([0, 0, 0, 0, 1, 1, 2, 1], "<i4"), np.array([value], "<f4"), np.array([0, 2, 3, 1], "<i4")]
    model = {"modelTopology": {"node": nodes}, "weightsManifest": [{"paths": ["shard"], "weights": weights}]}
    (tmp_path / "shard").write_bytes(b"".join(part.tobytes() for part in data))
    (tmp_path / "model.json").write_text(json.dumps(model))
    graph = tfjs.convert(tmp_path / "model.json", ["y"], {}, None)
    assert ("PadV2" in {node.op for node in graph_pb2.GraphDef.FromString(graph).node}) == (value == 0)

    picture = np.random.default_rng(0).normal(size=(1, 2, 6, 8)).astype(np.float32)
    padded = np.pad(picture, [(0, 0), (0, 0), (1, 1), (2, 1)], constant_values=value).transpose(0, 2, 3, 1)
    expected = [[padded[0, r : r + 3, c : c + 3].max(axis=(0, 1)) for c in range(0, 9, 2)] for r in range(0, 6, 2)]
    assert run(graph, picture)[0] == pytest.approx(np.array(expected))


def test_an_input_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no input image"):
        tfjs.convert(write_resizing_model(tmp_path), ["y"], {}, tfjs.Scalable("image", (1, 2), (8, 6)))


def test_integers_that_are_stored_with_32_bits_get_the_64_that_their_readers_want(tmp_path: Path) -> None:
    from tensorflow.core.framework import graph_pb2

    model = {
        "modelTopology": {"node": [const("n", _INT64, [3])]},
        "weightsManifest": [{"paths": ["shard"], "weights": [{"name": "n", "dtype": "int32", "shape": [3]}]}],
    }
    (tmp_path / "shard").write_bytes(np.array([1, -2, 3], "<i4").tobytes())
    (tmp_path / "model.json").write_text(json.dumps(model))
    frozen = graph_pb2.GraphDef.FromString(tfjs.convert(tmp_path / "model.json", ["n"], {}, None))
    values = import_tensorflow().make_ndarray(frozen.node[0].attr["value"].tensor)
    assert values.dtype == np.int64
    assert values.tolist() == [1, -2, 3]
