"""A model's folder: where its files came from, and whether they are whole."""

import contextlib
import hashlib
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from anonymise.core.errors import ModelError, UsageError
from anonymise.core.resources import command_line, default_model_folder
from anonymise.models.catalog import DetectorModel

__all__ = [
    "FROZEN_GRAPH",
    "ORIGIN",
    "Origin",
    "damage",
    "fetch_command",
    "network_file",
    "origin_of",
    "sha256",
    "verify",
]

FROZEN_GRAPH = "frozen_graph.pb"
"""What is made of a TensorFlow.js graph model, in its folder."""

ORIGIN = "origin.json"
"""Says where a model folder came from; written last, so a folder that has it is complete."""


class Origin(BaseModel):
    """Where a model folder came from and what it must contain.

    Attributes:
        source: where the files were fetched.
        licence: licence of the model.
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
        folder: folder of the model.

    Raises:
        ModelError: a file is missing, unreadable or has another content, or the folder has no checksums.
    """
    if reason := damage(folder):
        raise ModelError(
            f"The model in {folder} is damaged: {reason}. It would miss what it should find. Ways on: "
            f"{fetch_command(folder)}; or delete this folder and start again, which fetches the model again; or copy "
            "the folder from a computer where it is whole."
        )


def damage(folder: Path) -> str | None:
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


def fetch_command(folder: Path) -> str:
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
