"""Turns a TensorFlow.js graph model into a frozen TensorFlow GraphDef.

A graph model is ``model.json`` (a GraphDef as JSON, its constants empty) and shards that hold the constants one after
the other, in the manifest's order, some of them quantised.
Format: https://github.com/tensorflow/tfjs/blob/master/tfjs-converter/python/tensorflowjs/write_weights.py
"""

import base64
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anonymise.core.errors import ModelError
from anonymise.models.quiet_tensorflow import import_tensorflow

__all__ = ["Scalable", "convert"]


class Scalable(NamedTuple):
    """The input of a network that is to take pictures of any size.

    Attributes:
        input: its name.
        axes: axes of its height and width.
        nominal: (height, width) for which the network was exported.
    """

    input: str
    axes: tuple[int, int]
    nominal: tuple[int, int]


_DTYPES = {"float32": "<f4", "float16": "<f2", "int32": "<i4", "uint8": "u1", "uint16": "<u2", "bool": "?"}


def convert(model_json: Path, outputs: Sequence[str], rewire: Mapping[str, str], scalable: Scalable | None) -> bytes:
    """The serialised frozen GraphDef of a graph model, cut down to what its outputs need.

    Args:
        model_json: the model's ``model.json``, its shards next to it.
        outputs: names of the output nodes.
        rewire: node name → node name: what reads the first reads the second instead. This takes out parts of the
            graph that are better done outside, such as resizing the images one at a time.
        scalable: the input of a network that is to take pictures of any size; None leaves its size as it was exported.

    Raises:
        ModelError: a file is missing, too short, or not of this format.
    """
    tf = import_tensorflow()
    from google.protobuf import json_format
    from tensorflow.core.framework import graph_pb2

    try:
        model = json.loads(model_json.read_bytes())
        graph = graph_pb2.GraphDef()
        topology = {"node": [_as_proto_json(node) for node in model["modelTopology"]["node"]]}
        json_format.ParseDict(topology, graph, ignore_unknown_fields=True)
        constants = _constants(model["weightsManifest"], model_json.parent)
    except (OSError, ValueError, KeyError, TypeError, json_format.ParseError) as error:
        raise ModelError(f"{model_json} is not a complete TensorFlow.js graph model: {error}") from error

    for node in graph.node:
        if node.op == "Const" and node.name in constants:
            # JavaScript has no 64-bit integers: they are stored with 32, but what reads them wants what the node says.
            dtype = node.attr["dtype"].type
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(constants[node.name], dtype))
        for index, source in enumerate(node.input):
            node.input[index] = rewire.get(source, source)

    _let_pooling_pad(graph)
    if scalable is not None:
        _let_sizes_follow(scalable, graph)
    nodes = {node.name: node for node in graph.node}
    needed: set[str] = set()
    waiting = list(outputs)
    while waiting:
        name = waiting.pop()
        if name not in nodes:
            raise ModelError(f"{model_json} has no node {name}")
        if name not in needed:
            needed.add(name)
            waiting += [source.lstrip("^").partition(":")[0] for source in nodes[name].input]
    frozen = graph_pb2.GraphDef(node=[node for node in graph.node if node.name in needed])
    return bytes(frozen.SerializeToString(deterministic=True))


def _let_pooling_pad(graph: Any) -> None:
    """Gives max pooling the padding that stands before it, as converters of other formats leave it.

    OpenVINO's own padding takes a twelfth of NanoDet's time.
    """
    tf = import_tensorflow()
    nodes = {node.name: node for node in graph.node}
    n_readers = Counter(source for node in graph.node for source in node.input)

    def value(name: str) -> NDArray[Any]:
        array: NDArray[Any] = tf.make_ndarray(nodes[name].attr["value"].tensor)
        return array

    for pool in graph.node:
        if pool.op != "MaxPool" or pool.attr["padding"].s != b"VALID":
            continue
        reader, order = pool, np.arange(4)
        if nodes[pool.input[0]].op == "Transpose":
            reader = nodes[pool.input[0]]
            order = value(reader.input[1])
        pad = nodes[reader.input[0]]
        is_alone = n_readers[pad.name] == n_readers[pool.input[0]] == 1
        if pad.op == "PadV2" and is_alone and value(pad.input[2]) == -np.inf:
            pool.attr["padding"].s = b"EXPLICIT"
            pool.attr["explicit_paddings"].list.i[:] = value(pad.input[1])[order].ravel().tolist()
            reader.input[0] = pad.input[0]


def _let_sizes_follow(wanted: Scalable, graph: Any) -> None:
    """Takes the fixed sizes out of a graph: of its input, and of feature maps that are resized to constant sizes.

    Raises:
        ModelError: the graph has no such input.
    """
    tf = import_tensorflow()
    placeholders = [node for node in graph.node if node.op == "Placeholder" and node.name == wanted.input]
    if not placeholders:
        raise ModelError(f"the network has no input {wanted.input}")
    dimensions = placeholders[0].attr["shape"].shape.dim
    for axis in wanted.axes:
        dimensions[axis].size = -1

    def add(name: str, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        node = graph.node.add(name=f"sizes_follow/{name}", op=op, input=inputs)
        for key, value in attributes.items():
            if key == "value":
                node.attr[key].tensor.CopyFrom(tf.make_tensor_proto(value, tf.int32))
            else:
                node.attr[key].type = value.as_datatype_enum
        return str(node.name)

    def constant(name: str, value: Sequence[int] | int) -> str:
        return add(name, "Const", [], dtype=tf.int32, value=value)

    shape = add("shape", "Shape", [wanted.input], T=tf.float32, out_type=tf.int32)
    height_and_width = add(
        "height_and_width",
        "GatherV2",
        [shape, constant("axes", wanted.axes), constant("first", 0)],
        Tparams=tf.int32,
        Tindices=tf.int32,
        Taxis=tf.int32,
    )
    nominal = constant("nominal", wanted.nominal)
    sizes = {node.name for node in graph.node if node.op == "Const"}
    for node in list(graph.node):
        if node.op.startswith("Resize") and node.input[1] in sizes:
            # Multiplied first: a map of 13 for an input of 416 has a 32nd of any other input, exactly.
            product = add(f"{node.name}/product", "Mul", [height_and_width, node.input[1]], T=tf.int32)
            node.input[1] = add(f"{node.name}/size", "FloorDiv", [product, nominal], T=tf.int32)


def _as_proto_json(value: Any) -> Any:
    """The same JSON with byte strings as protobuf's JSON mapping wants them.

    Newer files write the bytes of an attribute ``s`` as base64 text, older ones as a list of character codes; in a
    ``list`` of attributes, ``s`` is a list of those.
    """
    if isinstance(value, list):
        return [_as_proto_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    converted = {key: _as_proto_json(item) for key, item in value.items() if key not in ("s", "list")}
    if "s" in value:
        converted["s"] = _base64(value["s"])
    if "list" in value:
        listed = value["list"]
        converted["list"] = listed | {"s": [_base64(item) for item in listed["s"]]} if "s" in listed else listed
    return converted


def _base64(text: str | list[int]) -> str:
    return text if isinstance(text, str) else base64.b64encode(bytes(text)).decode("ascii")


def _constants(manifest: list[dict[str, Any]], folder: Path) -> dict[str, NDArray[Any]]:
    """All constants of the manifest by name.

    Raises:
        OSError: a shard cannot be read.
        ValueError: the shards are shorter or longer than the manifest says.
    """
    constants: dict[str, NDArray[Any]] = {}
    for group in manifest:
        data = b"".join((folder / path).read_bytes() for path in group["paths"])
        offset = 0
        for weight in group["weights"]:
            quantization = weight.get("quantization", {})
            stored = np.dtype(_DTYPES[quantization.get("dtype", weight["dtype"])])
            count = int(np.prod(weight["shape"], dtype=np.int64))
            values = np.frombuffer(data, stored, count, offset).reshape(weight["shape"])
            offset += count * stored.itemsize
            if "scale" in quantization:
                values = values.astype(np.float64) * quantization["scale"] + quantization["min"]
                values = values.round() if weight["dtype"] == "int32" else values
            constants[weight["name"]] = values.astype(_DTYPES[weight["dtype"]])
        if offset != len(data):
            raise ValueError(f"the shards hold {len(data)} bytes, the manifest describes {offset}")
    return constants
