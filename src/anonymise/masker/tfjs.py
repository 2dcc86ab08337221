"""Turns a TensorFlow.js graph model into a frozen TensorFlow GraphDef.

A graph model is ``model.json`` (a GraphDef as JSON, its constants empty) and shards that hold the constants one after
the other, in the manifest's order, some of them quantised.
Format: https://github.com/tensorflow/tfjs/blob/master/tfjs-converter/python/tensorflowjs/write_weights.py
"""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anonymise.errors import ModelError
from anonymise.masker.quiet_tensorflow import import_tensorflow

__all__ = ["convert"]

_DTYPES = {"float32": "<f4", "float16": "<f2", "int32": "<i4", "uint8": "u1", "uint16": "<u2", "bool": "?"}


def convert(model_json: Path, outputs: Sequence[str], rewire: Mapping[str, str]) -> bytes:
    """The serialised frozen GraphDef of a graph model, cut down to what its outputs need.

    Args:
        model_json: the model's ``model.json``, its shards beside it.
        outputs: names of the output nodes.
        rewire: node name → node name: what reads the first reads the second instead. This takes out parts of the
            graph that are better done outside, such as resizing the images one at a time.

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
