"""Models whose files are as they were fetched and that find nothing all the same."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from anonymise import config
from anonymise.core.errors import ExitCode, ModelError
from anonymise.core.resources import default_model_folder
from anonymise.models import load_masker
from anonymise.models.origin import network_file
from anonymise.models.quiet_tensorflow import import_tensorflow
from anonymise.models.selection import models_of_catalog
from tests.fakes import street, write_image
from tests.models.savedmodel import build

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def damaged(folder: Path, name: str, value: float) -> Path:
    """A folder for models with a copy of a fetched one whose weights are all the same and whose checksums fit."""
    import_tensorflow()
    from tensorflow.core.framework import graph_pb2

    entry = models_of_catalog(default_model_folder())[name]
    shutil.copytree(default_model_folder() / name, folder / name)
    file = network_file(folder / name, entry)  # type: ignore[arg-type]
    whole = file.read_bytes()
    graph = graph_pb2.GraphDef.FromString(whole)
    for node in (node for node in graph.node if node.op == "Const"):
        tensor = node.attr["value"].tensor
        if tensor.dtype == 1 and len(tensor.tensor_content) > 256:
            tensor.tensor_content = np.full(len(tensor.tensor_content) // 4, value, np.float32).tobytes()
    file.write_bytes(graph.SerializeToString())
    before, after = (hashlib.sha256(data).hexdigest() for data in (whole, file.read_bytes()))
    for listing in (folder / name).glob("*.json"):
        text = listing.read_text("utf-8")
        listing.write_text(text.replace(before, after), "utf-8")
    return folder


@pytest.mark.parametrize("runtime", ["openvino", "tensorflow"])
@pytest.mark.parametrize("name", ["Lite", "Nano"])
@pytest.mark.parametrize(("value", "message"), [(0.0, "does not find the"), (np.nan, "are none|does not find")])
def test_a_network_that_finds_nothing_is_not_run(
    name: str, runtime: str, value: float, message: str, tmp_path: Path
) -> None:
    folder = damaged(tmp_path, name, value)
    keys = [f"model_folder={folder.as_posix()}", f"model_type={name}", f"runtime={runtime}"]
    with pytest.raises(ModelError, match=message):
        load_masker(config.load(overrides=keys).model, progress=False)


def test_a_run_with_such_a_network_publishes_nothing(tmp_path: Path) -> None:
    folder = damaged(tmp_path / "models", "Nano", 0.0)
    write_image(tmp_path / "in" / "a.jpg", street())
    command = [sys.executable, "-m", "anonymise", "-i", tmp_path / "in", "-o", tmp_path / "out"]
    command += ["-k", "lite_config.yml", "--set", f"model_folder={folder.as_posix()}"]
    done = subprocess.run(
        [*map(str, command)], cwd=ROOT, capture_output=True, encoding="utf-8", timeout=300, check=False
    )
    assert done.returncode == ExitCode.STOPPED, done.stderr
    assert "does not find the" in done.stderr
    assert not [*tmp_path.glob("out/**/a*")]


def test_a_model_of_ones_own_whose_numbers_are_none_is_not_run(tmp_path: Path) -> None:
    folder = build(tmp_path / "own")
    keys = [f"model_type={folder.as_posix()}", "runtime=tensorflow"]
    load_masker(config.load(overrides=keys).model, progress=False)
    variables = folder / "saved_model.pb"
    # Every score of 0.9 in the graph.
    whole = variables.read_bytes()
    score = np.float32(0.9).tobytes()
    assert score in whole
    variables.write_bytes(whole.replace(score, np.float32(np.nan).tobytes()))
    with pytest.raises(ModelError, match="numbers that are none"):
        load_masker(config.load(overrides=keys).model, progress=False)
