"""Fetches the models of the catalog: whole, checked, or not at all."""

import contextlib
import json
import logging
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

from anonymise.core.classes import COCO
from anonymise.core.errors import ModelError
from anonymise.core.resources import IN_CHECKOUT
from anonymise.models import tfjs
from anonymise.models.catalog import DetectorModel, Model, ScalableSize, Source
from anonymise.models.download import NoConnection, download
from anonymise.models.origin import ORIGIN, Origin, damage, fetch_command, network_file, origin_of, sha256

__all__ = ["SMALL_MODELS", "fetch"]

log = logging.getLogger(__name__)

SMALL_MODELS = ("Lite", "Nano")
"""Models of the catalog that run on any computer: what ``make setup`` fetches."""


def fetch(name: str, model: Model, folder: Path, *, progress: bool, repair: bool = False) -> Path:
    """Makes sure that a model of the catalog is in ``folder``, and returns its own folder there.

    The sources are tried in order. Files whose checksum the catalog does not know are accepted once; their checksums
    are then kept in ``<name>.sha256.json`` and hold from then on. Several processes may fetch the same model at once.

    Args:
        name: name of the model in the catalog.
        model: its entry.
        folder: folder of all models. Nothing is written there if the model is there already.
        progress: whether to show progress bars on the terminal.
        repair: whether a model whose files were damaged is fetched again.

    Raises:
        ModelError: no source gave the right files; the message says why for each of them.
    """
    target = folder / name
    recorded = folder / f"{name}.sha256.json"
    expected = {**_recorded(recorded), **{file: known for file, known in model.files.items() if known is not None}}

    def is_there() -> bool:
        return _is_current(target, model, expected) and not (repair and damage(target))

    if is_there():
        return target
    reasons = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for source in model.sources:
            log.info("Fetching model %s from %s", name, source)
            # The temporary folder is next to the target, so that the last step is a rename on one file system.
            with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder, ignore_cleanup_errors=True) as temporary:
                try:
                    _fetch_from(source, model, expected, Path(temporary), progress=progress)
                except ModelError as error:
                    level = logging.INFO if isinstance(error, NoConnection) else logging.WARNING
                    log.log(level, "Model %s is not available from %s: %s", name, source, error)
                    reasons.append(f"{source}: {error}")
                else:
                    _place(Path(temporary), target, recorded, is_there)
                    return target
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
    ways = [
        f"run {fetch_command(folder / name)} where there is a connection and copy the folder {folder / name} from there"
    ]
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


def _fetch_from(source: Source, model: Model, expected: Mapping[str, str], temporary: Path, *, progress: bool) -> None:
    """Makes a complete model folder, ``built``, in a temporary one.

    Raises:
        ModelError: the source does not have the right files, or they cannot be converted.
    """
    raw, built = temporary / "raw", temporary / "built"
    raw.mkdir()
    built.mkdir()
    try:
        download(source, tuple(model.files), raw, progress=progress)
        sums = _checked(raw, tuple(model.files), expected)
        _build(model, raw, built)
        made = [path for path in sorted(built.rglob("*")) if path.is_file()]
        files = {path.relative_to(built).as_posix(): sha256(path) for path in made}
    except ModelError:
        raise
    except (
        OSError,
        subprocess.SubprocessError,
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        KeyError,
        ValueError,
    ) as error:
        raise ModelError(str(error)) from error
    origin = Origin(source=str(source), licence=model.licence, sha256=sums, files=files, conversion=_conversion(model))
    (built / ORIGIN).write_text(origin.model_dump_json(indent=2, exclude_none=True), "utf-8")


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
