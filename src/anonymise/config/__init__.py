"""The configuration: one value, built once from the defaults, the operator's files and single keys.

`config/default_config.yml` is the one home of the defaults. Each key belongs to one section. Sections of the rooms
below stand next to the code that they tune; those of the rooms above stand here. Nothing here reads the command line or
the environment.

- `files`, `sections`, `reports`: the sections of the rooms above.
- `config`: all sections together, and the fingerprints of what depends on them.
- `rules`: what concerns several keys.
- `loading`: files and single keys → the configuration.
"""

from anonymise.config.cluster import ClusterOptions
from anonymise.config.config import Config
from anonymise.config.files import FileKind, FileOptions, Place
from anonymise.config.loading import load, load_config, read
from anonymise.config.reports import ReportOptions
from anonymise.config.sections import (
    DatabaseOptions,
    EmailOptions,
    EvaluationOptions,
    LogOptions,
    PreviewOptions,
    ReviewOptions,
    RunOptions,
    StorageOptions,
)
from anonymise.config.service import ServiceOptions

__all__ = [
    "ClusterOptions",
    "Config",
    "DatabaseOptions",
    "EmailOptions",
    "EvaluationOptions",
    "FileKind",
    "FileOptions",
    "LogOptions",
    "Place",
    "PreviewOptions",
    "ReportOptions",
    "ReviewOptions",
    "RunOptions",
    "ServiceOptions",
    "StorageOptions",
    "load",
    "load_config",
    "read",
]
