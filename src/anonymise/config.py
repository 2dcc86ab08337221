"""The configuration: one value, built once from the defaults, the operator's files and single keys.

`config/default_config.yml` is the one home of the defaults. Each key belongs to one section, which stands beside the
code that it tunes; this module assembles the sections and checks what concerns several keys. Nothing here reads the
command line or the environment.
"""

import difflib
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from anonymise.db.options import DatabaseOptions
from anonymise.detections import Size
from anonymise.draw import Appearance, Center, StaticMaskOptions
from anonymise.errors import ConfigError
from anonymise.evaluation import EvaluationOptions
from anonymise.images import ImageOptions
from anonymise.masker import ModelOptions
from anonymise.merging import MergeOptions
from anonymise.notify import EmailOptions
from anonymise.paths import FileOptions
from anonymise.record import RecordOptions
from anonymise.resources import CONFIG_FOLDER
from anonymise.sphere import ViewOptions
from anonymise.storage import StorageOptions
from anonymise.windows import WindowOptions

__all__ = ["Config", "LogOptions", "RunOptions", "load"]


class RunOptions(BaseModel):
    """Keys about the run as a whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    force_remask: bool
    lazy_paths: bool
    max_failures_in_a_row: int | None = Field(ge=1)
    copy_originals_to_error_folder: bool
    enable_async: bool
    max_num_async_workers: int | None = Field(ge=1)
    image_memory_megabytes: int = Field(ge=1)
    force_older_exif: bool
    mask_dilation_pixels: int = Field(ge=0)


class PreviewOptions(BaseModel):
    """Keys about the preview: a part of the anonymised image."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    preview_dim: Size | None
    preview_center: Center

    @field_validator("preview_dim")
    @classmethod
    def _some_pixels(cls, dim: Size | None) -> Size | None:
        if dim is not None and min(dim) < 1:
            raise ValueError("width and height should be at least 1")
        return dim

    @field_validator("preview_center")
    @classmethod
    def _inside_the_image(cls, center: Center) -> Center:
        if not all(0 <= share <= 1 for share in center):
            raise ValueError("both should be between 0 and 1")
        return center


class LogOptions(BaseModel):
    """Keys about the log."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    datetime_format: str
    log_file_name: str
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"]

    @field_validator("log_file_name")
    @classmethod
    def _fields_known(cls, template: str) -> str:
        try:
            template.format(datetime="", hostname="")
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError("only the fields {datetime} and {hostname} can stand in it") from error
        return template


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration.

    Attributes:
        changed: day of the last change of the operator's configuration file, or of the defaults where there is none.
    """

    files: FileOptions
    storage: StorageOptions
    images: ImageOptions
    model: ModelOptions
    windows: WindowOptions
    views: ViewOptions
    merging: MergeOptions
    appearance: Appearance
    static_mask: StaticMaskOptions
    preview: PreviewOptions
    record: RecordOptions
    run: RunOptions
    log: LogOptions
    email: EmailOptions
    database: DatabaseOptions
    evaluation: EvaluationOptions
    changed: date

    def as_yaml(self) -> str:
        """All keys with their values, as a configuration file that gives the same configuration."""
        return yaml.safe_dump(self._values(), allow_unicode=True, sort_keys=True, default_flow_style=None)

    def digest(self, model: str) -> str:
        """A short text that changes when this configuration or the model would give other results.

        Args:
            model: a text that changes with the model.
        """
        values = {key: value for key, value in self._values().items() if key not in _WITHOUT_EFFECT_ON_RESULTS}
        return hashlib.sha256(json.dumps([values, model], sort_keys=True).encode()).hexdigest()[:16]

    def _values(self) -> dict[str, Any]:
        return {key: value for name in _SECTIONS for key, value in getattr(self, name).model_dump(mode="json").items()}


_SECTIONS: Mapping[str, type[BaseModel]] = {
    field.name: field.type for field in fields(Config) if isinstance(field.type, type) and field.name != "changed"
}
_KEYS = tuple(key for section in _SECTIONS.values() for key in section.model_fields)


_WITHOUT_EFFECT_ON_RESULTS = frozenset(
    {
        *StorageOptions.model_fields,
        *LogOptions.model_fields,
        *EmailOptions.model_fields,
        *DatabaseOptions.model_fields,
        *EvaluationOptions.model_fields,
        *(
            "force_remask",
            "lazy_paths",
            "enable_async",
            "max_num_async_workers",
            "image_memory_megabytes",
            "max_failures_in_a_row",
        ),
        *("copy_originals_to_error_folder", "image_extensions", "max_decoded_pixels"),
        *("model_folder", "batch_size", "runtime", "model_threads"),
        # What is wanted besides: files that are missing are written whatever the journal says.
        *(key for key in FileOptions.model_fields if key.startswith(("remote_", "local_", "archive_"))),
        *("separate_preview_directory", "colmap_mask_directory", "flip_wkt"),
    }
)
"""Keys whose change does not make finished images stale."""


@dataclass(frozen=True, slots=True)
class _Setting:
    """A value from a file or the command line, and where it stands."""

    value: Any
    where: str


@dataclass(frozen=True, slots=True)
class _Rule:
    """A condition that several keys, or a key and the command line, must meet together.

    Attributes:
        keys: those concerned; the problem is reported at the first.
        broken: whether the values (and whether the run has an archive folder) break the rule.
        message: why, and the way out.
    """

    keys: tuple[str, ...]
    broken: Callable[[Mapping[str, Any], bool], bool]
    message: str

    @property
    def key(self) -> str:
        return self.keys[0]


def _needs(key: str, other: str) -> _Rule:
    return _Rule((key, other), lambda v, _: bool(v[key]) and not v[other], f"needs {other}")


def _needs_archive(key: str) -> _Rule:
    return _Rule((key,), lambda v, archive: bool(v[key]) and not archive, "needs an archive folder (-a)")


_RULES = (
    _needs_archive("archive_json"),
    _needs_archive("archive_preview"),
    _needs_archive("archive_mask"),
    _needs_archive("archive_instances"),
    _needs_archive("delete_input"),
    _needs("archive_json", "remote_json"),
    _needs("archive_preview", "remote_preview"),
    _needs("archive_mask", "remote_mask"),
    _needs("remote_preview", "preview_dim"),
    _needs("local_preview", "preview_dim"),
    _needs("archive_preview", "preview_dim"),
    _needs("separate_preview_directory", "preview_dim"),
    _needs("force_fylke", "fylkesnummer"),
    _needs("write_exif_to_db", "table_name"),
)


def load(files: Sequence[Path] = (), overrides: Sequence[str] = (), *, has_archive: bool = False) -> Config:
    """The configuration: the defaults, overlaid by each of the files in turn, then by single keys.

    Args:
        files: YAML files with some or all of the keys. One that does not exist is looked for by its name among the
            configurations that come with the program.
        overrides: ``key=value``, the value written as in the files.
        has_archive: whether the run has an archive folder.

    Raises:
        ConfigError: with all problems at once, each with file and line.
    """
    layers = [CONFIG_FOLDER / "default_config.yml", *map(_find, files)]
    problems: list[str] = []
    settings: dict[str, _Setting] = {}
    for layer in layers:
        try:
            settings |= _parse(layer.read_text("utf-8-sig"), str(layer), problems)
        except (OSError, UnicodeDecodeError) as error:
            problems.append(f"{layer}: cannot be read: {error}")
    for override in overrides:
        key, sign, value = override.partition("=")
        if sign:
            settings |= _parse(f"{key.strip()}: {value}", f"--set {override}", problems, with_lines=False)
        else:
            problems.append(f"--set {override}: write it as key=value")

    sections: dict[str, Any] = {}
    wrong_keys: set[str] = set()
    for name, section in _SECTIONS.items():
        own = {key: settings[key].value for key in section.model_fields if key in settings}
        try:
            # JSON mode is strict about types (no "15" for 15) and yet takes a list for a tuple.
            sections[name] = section.model_validate_json(json.dumps(own, default=str), strict=True)
        except ValidationError as error:
            described = _described(error, settings)
            wrong_keys |= described.keys()
            problems += described.values()
    values = {key: setting.value for key, setting in settings.items()}
    problems += [
        f"{settings[rule.key].where}: {rule.key} {rule.message}"
        for rule in _RULES
        if values.keys() >= set(rule.keys) and not wrong_keys & set(rule.keys) and rule.broken(values, has_archive)
    ]
    if problems:
        raise ConfigError(problems)
    changed = date(*time.localtime(layers[-1].stat().st_mtime)[:3])
    return Config(**sections, changed=changed)


def _find(file: Path) -> Path:
    shipped = CONFIG_FOLDER / file.name
    return shipped if not file.exists() and shipped.is_file() else file


def _parse(text: str, source: str, problems: list[str], *, with_lines: bool = True) -> dict[str, _Setting]:
    """The settings in a YAML text; appends to ``problems`` what is wrong with it."""
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        if root is None:
            return {}
        if not isinstance(root, yaml.MappingNode):
            problems.append(f"{source}: not a configuration; it must be lines of the form key: value")
            return {}
        settings: dict[str, _Setting] = {}
        for key_node, value_node in root.value:
            where = f"{source}:{key_node.start_mark.line + 1}" if with_lines else source
            key = str(loader.construct_object(key_node))
            if key not in _KEYS:
                near = difflib.get_close_matches(key, _KEYS, n=1, cutoff=0.5)
                problems.append(f"{where}: unknown key {key}" + (f"; did you mean {near[0]}?" if near else ""))
                continue
            if key in settings:
                problems.append(f"{where}: {key} is set twice, first in {settings[key].where}")
            settings[key] = _Setting(loader.construct_object(value_node, deep=True), where)
    except yaml.YAMLError as error:
        problems.append(f"{source}: not valid YAML: {' '.join(str(error).split())}")
        return {}
    return settings


def _described(error: ValidationError, settings: Mapping[str, _Setting]) -> dict[str, str]:
    """Key → what is wrong with it, for the operator."""
    messages: dict[str, list[str]] = {}
    for detail in error.errors():
        message = detail["msg"].removeprefix("Value error, ").replace("Input should be", "should be")
        # What a section checks as a whole names the key that it is about first.
        key = str(detail["loc"][0]) if detail["loc"] else message.partition(":")[0]
        if detail["type"] == "string_type" and isinstance(detail["input"], int | float):
            message += "; write it in quotes"
        # The alternatives of a key that may be one thing or another each give a message.
        if message not in messages.setdefault(key, []):
            messages[key].append(message)
    return {
        key: f"{settings[key].where}: {key} is {settings[key].value!r}: {', or '.join(found)}"
        if key in settings
        else f"default_config.yml lacks the key {key}"
        for key, found in messages.items()
    }
