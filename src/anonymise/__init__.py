"""Finds people and vehicles in street images and 360° panoramas and hides them beyond recovery.

    from anonymise import Anonymiser, load_config

    anonymiser = Anonymiser(load_config("lite_config.yml"))
    image = anonymiser.anonymise(data, name="a.jpg")

Names are loaded when they are first used, so that importing the package takes no time. ``docs/python.md`` shows how to
use them; ``ARCHITECTURE.md`` names the parts.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anonymise.anonymiser import AnonymisedImage, Anonymiser
    from anonymise.batch.outcomes import Done, Failed, Outcome, Progress, Report, Skipped
    from anonymise.batch.session import run_folder
    from anonymise.config import Config, load_config
    from anonymise.core.detections import Box, Detections, Instance, Size
    from anonymise.core.errors import (
        AnonymiseError,
        ConfigError,
        DatabaseError,
        DrawError,
        ExitCode,
        ImageError,
        ModelError,
        RecordError,
        StopError,
        StorageError,
        UnreadableImage,
        UsageError,
        WriteError,
    )
    from anonymise.core.sources import DetectionSource, InputImage, Source

__all__ = [
    "AnonymiseError",
    "AnonymisedImage",
    "Anonymiser",
    "Box",
    "Config",
    "ConfigError",
    "DatabaseError",
    "DetectionSource",
    "Detections",
    "Done",
    "DrawError",
    "ExitCode",
    "Failed",
    "ImageError",
    "InputImage",
    "Instance",
    "ModelError",
    "Outcome",
    "Progress",
    "RecordError",
    "Report",
    "Size",
    "Skipped",
    "Source",
    "StopError",
    "StorageError",
    "UnreadableImage",
    "UsageError",
    "WriteError",
    "load_config",
    "run_folder",
]

_HOMES = {
    "anonymiser": ("AnonymisedImage", "Anonymiser"),
    "batch.outcomes": ("Done", "Failed", "Outcome", "Progress", "Report", "Skipped"),
    "batch.session": ("run_folder",),
    "config": ("Config", "load_config"),
    "core.detections": ("Box", "Detections", "Instance", "Size"),
    "core.sources": ("DetectionSource", "InputImage", "Source"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'anonymise' has no attribute {name!r}")
    value = getattr(import_module(f"anonymise.{_HOME_OF.get(name, 'core.errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
