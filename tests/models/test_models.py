"""Models as an operator meets them: fetched, damaged, read-only, fetched by two at once. Real processes and weights."""

import functools
import hashlib
import http.server
import io
import json
import os
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from anonymise import config
from anonymise.core.classes import LABELS
from anonymise.core.detections import Size
from anonymise.core.errors import ModelError
from anonymise.core.resources import CATALOG, default_model_folder
from anonymise.models import load_masker, selftest
from anonymise.models.catalog import DetectorModel, InstanceModel, load_catalog
from anonymise.models.fetch import fetch
from anonymise.models.quiet_tensorflow import import_tensorflow
from samples.scene import draw_scene
from tests.commands.test_cli import LITE, below, command
from tests.fakes import read_image, street, write_image
from tests.models import savedmodel

pytestmark = pytest.mark.slow

ENTRY = "{summary: s, licence: MIT, kind: instances, sources: [{path: %s}], files: {%s.tar.gz: null}}"


def anonymise(folder: Path, *settings: str) -> "subprocess.CompletedProcess[str]":
    if not (folder / "in").is_dir():
        write_image(folder / "in" / "1.jpg", street())
    keys = [part for setting in settings for part in ("--set", setting)]
    return command("-i", folder / "in", "-o", folder / "out", *LITE, *keys)


def assert_stopped(result: "subprocess.CompletedProcess[str]", folder: Path, *texts: str) -> None:
    assert result.returncode == 3, result.stdout + result.stderr
    for text in texts:
        assert text in result.stderr
    assert "Traceback" not in result.stderr
    assert [name for name in below(folder / "out") if name.endswith((".jpg", ".json"))] == []


def zero_a_part(file: Path) -> None:
    """What a bad copy does: one block of zeros, the size stays."""
    data = bytearray(file.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4096] = bytes(4096)
    file.write_bytes(data)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "a block of zeros": zero_a_part,
    "cut off": lambda file: os.truncate(file, file.stat().st_size - 1),
    "empty": lambda file: os.truncate(file, 0),
    "missing": lambda file: file.unlink(),
}


@pytest.mark.parametrize(
    ("damage", "runtime"), [*((name, "auto") for name in DAMAGES), ("a block of zeros", "tensorflow")]
)
def test_damaged_weights_stop_the_run_before_an_image_is_published(tmp_path: Path, damage: str, runtime: str) -> None:
    shutil.copytree(default_model_folder() / "Nano", tmp_path / "models" / "Nano")
    DAMAGES[damage](tmp_path / "models" / "Nano" / "frozen_graph.pb")
    result = anonymise(tmp_path, f"model_folder={(tmp_path / 'models').as_posix()}", f"runtime={runtime}")
    assert_stopped(result, tmp_path, "damaged", "frozen_graph.pb", "script.fetch_models Nano", "--model-folder")


def zoo(folder: Path, *names: str) -> Path:
    """A folder for models with a catalog of SavedModels that are packed like those of the detection zoo."""
    savedmodel.build(folder / "packed" / "zoo" / "saved_model")
    models = folder / "models"
    models.mkdir()
    lines = ["models:"]
    for name in names:
        with tarfile.open(folder / f"{name}.tar.gz", "w:gz") as archive:
            archive.add(folder / "packed" / "zoo", name)
        lines.append(f"  {name}: {ENTRY % (json.dumps(folder.as_posix()), name)}")
    (models / "catalog.yml").write_text("\n".join(lines), "utf-8")
    return models


def test_a_model_without_a_known_checksum_is_compared_with_what_was_fetched_and_can_be_repaired(tmp_path: Path) -> None:
    models = zoo(tmp_path, "Mine")
    fetch_models = functools.partial(command, module="script.fetch_models")
    settings = ["model_type=Mine", f"model_folder={models.as_posix()}"]
    assert fetch_models("Mine", "--model-folder", models).returncode == 0
    (weights,) = (models / "Mine" / "variables").glob("*.data*")
    weights.write_bytes(weights.read_bytes() + b"\0")
    assert_stopped(anonymise(tmp_path, *settings), tmp_path, "damaged", "variables/variables.data")
    assert fetch_models("Mine", "--model-folder", models).returncode == 0
    result = anonymise(tmp_path, *settings)
    assert result.returncode == 0, result.stderr
    assert "1 car" in result.stdout


@pytest.mark.parametrize("content", ["{", '{"sha256": {}}'])
def test_a_model_folder_without_its_checksums_is_not_trusted(tmp_path: Path, content: str) -> None:
    models = zoo(tmp_path, "Mine")
    assert command("Mine", "--model-folder", models, module="script.fetch_models").returncode == 0
    (models / "Mine" / "origin.json").write_text(content)
    (tmp_path / "Mine.tar.gz").unlink()
    result = anonymise(tmp_path, "model_type=Mine", f"model_folder={models.as_posix()}")
    assert_stopped(result, tmp_path, "could not be fetched")


def test_another_content_of_a_model_of_ones_own_is_another_model_whatever_its_time(tmp_path: Path) -> None:
    model = savedmodel.build(tmp_path / "mine")
    assert anonymise(tmp_path, f"model_type={model.as_posix()}").returncode == 0
    note = model / "note.txt"
    note.write_text("one")
    first = anonymise(tmp_path, f"model_type={model.as_posix()}")
    assert "Skipped (finished):  0" in first.stdout
    before = note.stat()
    note.write_text("two")
    os.utime(note, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert "Skipped (finished):  0" in anonymise(tmp_path, f"model_type={model.as_posix()}").stdout
    os.utime(note)
    assert "Skipped (finished):  1" in anonymise(tmp_path, f"model_type={model.as_posix()}").stdout


def test_fetching_goes_on_after_a_model_that_fails(tmp_path: Path) -> None:
    models = zoo(tmp_path, "Gone", "Mine")
    (tmp_path / "Gone.tar.gz").unlink()
    result = command("Gone", "Mine", "--model-folder", models, module="script.fetch_models")
    assert result.returncode == 3
    assert "Gone could not be fetched" in result.stderr
    assert f"Mine is in {models / 'Mine'}" in result.stdout
    assert "Traceback" not in result.stderr


def test_an_archive_is_unpacked_without_what_only_later_pythons_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Debian 12's Python 3.11.2 has no argument ``filter``."""

    def extractall(
        self: tarfile.TarFile, path: str = ".", members: object = None, *, numeric_owner: bool = False
    ) -> None:
        raise AssertionError("without a filter it writes wherever the archive says")

    models = zoo(tmp_path, "Mine")
    monkeypatch.setattr(tarfile.TarFile, "extractall", extractall)
    entry = load_catalog(models / "catalog.yml")["Mine"]
    assert (fetch("Mine", entry, models, progress=False) / "saved_model.pb").is_file()


def test_nothing_in_an_archive_gets_out_of_the_model_folder(tmp_path: Path) -> None:
    models = zoo(tmp_path, "Mine")
    secret = tmp_path / "secret"
    secret.write_text("secret")
    with tarfile.open(tmp_path / "Mine.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "packed" / "zoo", "m")
        for name in ("m/saved_model/../../../out", f"{tmp_path.as_posix()}/absolute", "m/saved_model/..\\up"):
            member = tarfile.TarInfo(name)
            member.size = 1
            archive.addfile(member, io.BytesIO(b"x"))
        link = tarfile.TarInfo("m/saved_model/link")
        link.type, link.linkname = tarfile.SYMTYPE, str(secret)
        archive.addfile(link)
    before = {path for path in tmp_path.rglob("*") if models not in path.parents}
    entry = load_catalog(models / "catalog.yml")["Mine"]
    folder = fetch("Mine", entry, models, progress=False)
    assert {path for path in tmp_path.rglob("*") if models not in path.parents} == before
    assert sorted(path.name for path in folder.iterdir() if "\\" not in path.name) == [
        "fingerprint.pb",
        "origin.json",
        "saved_model.pb",
        "variables",
    ]


@pytest.mark.parametrize("kept", [0, 10, 1000])
def test_an_archive_that_is_cut_off_is_a_model_that_could_not_be_fetched(tmp_path: Path, kept: int) -> None:
    models = zoo(tmp_path, "Mine")
    os.truncate(tmp_path / "Mine.tar.gz", kept)
    result = command("Mine", "--model-folder", models, module="script.fetch_models")
    assert result.returncode == 3
    assert "Mine could not be fetched" in result.stderr
    assert "Traceback" not in result.stderr
    assert [path.name for path in models.iterdir()] == ["catalog.yml"]


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="there is no folder that nobody may write to")
def test_a_folder_for_models_that_cannot_be_written_is_named_with_the_way_out() -> None:
    result = command("Lite", "--model-folder", "/sys/kernel", module="script.fetch_models")
    assert result.returncode == 3
    assert "/sys/kernel" in result.stderr
    assert "model_folder" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_model_that_is_there_is_used_without_writing_to_its_folder(tmp_path: Path) -> None:
    folders = [tmp_path / "models"]
    for name in ("Nano", "Lite"):
        folders.append(tmp_path / "models" / name)
        shutil.copytree(default_model_folder() / name, folders[-1])
    before = [(folder, folder.stat().st_mtime_ns, sorted(folder.iterdir())) for folder in folders]
    for folder in folders:
        folder.chmod(0o555)
    try:
        result = anonymise(tmp_path, f"model_folder={(tmp_path / 'models').as_posix()}")
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert result.returncode == 0, result.stderr
    assert [(folder, folder.stat().st_mtime_ns, sorted(folder.iterdir())) for folder in folders] == before


@pytest.fixture
def slow_server(tmp_path: Path) -> Iterator[Callable[[int], str]]:
    """Serves ``mine.onnx`` to a number of clients, who all get it at the same moment."""
    barriers: list[threading.Barrier] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            barriers[0].wait(30)
            self.send_response(200)
            self.send_header("Content-Length", "3")
            self.end_headers()
            self.wfile.write(b"net")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()

        def start(clients: int) -> str:
            barriers[:] = [threading.Barrier(clients)]
            return f"http://127.0.0.1:{httpd.server_port}/"

        yield start
        httpd.shutdown()
        thread.join()


@pytest.mark.parametrize("before", ["nothing", "an older one"])
def test_several_that_fetch_one_model_at_once_all_get_it(
    tmp_path: Path, slow_server: Callable[[int], str], before: str
) -> None:
    n_clients = 12
    url = slow_server(n_clients)
    for attempt in range(10):
        models = tmp_path / str(attempt)
        if before != "nothing":
            (models / "Mine" / "variables").mkdir(parents=True)
            (models / "Mine" / "origin.json").write_text('{"sha256": {}}')
        values = load_catalog(CATALOG)["CenterFace"].model_dump()
        changes = {"sources": [{"url": url}], "files": {"mine.onnx": hashlib.sha256(b"net").hexdigest()}}
        model = DetectorModel.model_validate(values | changes | {"network": "mine.onnx"})
        with ThreadPoolExecutor(n_clients) as threads:
            folders = list(threads.map(lambda _: fetch("Mine", model, models, progress=False), range(n_clients)))  # noqa: B023
        assert set(folders) == {models / "Mine"}
        assert (models / "Mine" / "mine.onnx").read_bytes() == b"net"
        assert sorted(path.name for path in models.iterdir()) == ["Mine", "Mine.sha256.json"]


def without_connection(name: str, models: Path) -> str:
    """What is said about a model of the project's catalog that cannot be fetched."""
    entry = load_catalog(CATALOG)[name].model_copy(update={"sources": load_catalog(CATALOG)["Fast"].sources[:0]})
    with pytest.raises(ModelError) as caught:
        fetch(name, entry, models, progress=False)
    return str(caught.value)


def test_advice_fits_the_model_that_failed(tmp_path: Path) -> None:
    assert "lite_config.yml" not in without_connection("Nano", tmp_path)
    assert "lite_config.yml" in without_connection("Medium", tmp_path)
    assert "lite_config.yml" not in without_connection("CenterFace", tmp_path)
    shutil.copytree(default_model_folder() / "Lite", tmp_path / "Lite")
    assert "--set model_type=Lite" in without_connection("Nano", tmp_path)
    assert "--set model_type=Lite" in without_connection("Medium", tmp_path)


def test_an_entry_of_the_catalog_with_other_checksums_is_another_model(tmp_path: Path) -> None:
    models = zoo(tmp_path, "Mine")
    entry = load_catalog(models / "catalog.yml")["Mine"]
    assert isinstance(entry, InstanceModel)
    fetch("Mine", entry, models, progress=False)
    with pytest.raises(ModelError, match="has the sha256"):
        fetch("Mine", entry.model_copy(update={"files": {"Mine.tar.gz": "0" * 64}}), models, progress=False)


def test_weights_that_find_nothing_stop_the_run_although_their_checksums_fit(tmp_path: Path) -> None:
    """As from a source that has a bad copy, whose checksum nobody knows."""
    folder = tmp_path / "models" / "Nano"
    shutil.copytree(default_model_folder() / "Nano", folder)
    graph, origin = folder / "frozen_graph.pb", json.loads((folder / "origin.json").read_text())
    tf = import_tensorflow()
    network = tf.compat.v1.GraphDef.FromString(graph.read_bytes())
    for node in network.node:
        if len(content := node.attr["value"].tensor.tensor_content) > 10_000:
            node.attr["value"].tensor.tensor_content = bytes(len(content))
    data = network.SerializeToString()
    graph.write_bytes(data)
    origin["files"]["frozen_graph.pb"] = hashlib.sha256(data).hexdigest()
    (folder / "origin.json").write_text(json.dumps(origin))
    result = anonymise(tmp_path, f"model_folder={(tmp_path / 'models').as_posix()}")
    assert_stopped(result, tmp_path, "does not find the")


def test_the_picture_that_models_are_shown_is_drawn() -> None:
    drawn = draw_scene(7, Size(240, 240), cars=1, people=1)
    kept = read_image(selftest.PICTURE)
    assert np.abs(kept.astype(int) - drawn.image).mean() < 4
    boxes = {
        LABELS[thing.label]: (thing.box.top, thing.box.left, thing.box.bottom, thing.box.right)
        for thing in drawn.objects
    }
    assert boxes == selftest.BOXES


@pytest.mark.parametrize("name", ["Lite", "Nano"])
@pytest.mark.parametrize("runtime", ["openvino", "tensorflow"])
def test_small_models_find_the_picture_s_objects_with_a_margin(name: str, runtime: str) -> None:
    """So that another release of a runtime, whose scores differ a little, does not stop anybody."""
    options = config.load(overrides=[f"model_type={name}", f"runtime={runtime}", "score_threshold=0.55"]).model
    masker = load_masker(options, progress=False)
    ((found,),) = masker.detect([read_image(selftest.PICTURE)])
    assert {LABELS[instance.label] for instance in found} >= {"car", "person"}
