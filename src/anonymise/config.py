"""The configuration: one value, built once from the defaults, the operator's files and single keys.

`config/default_config.yml` is the one home of the defaults. Each key belongs to one section, which stands beside the
code that it tunes; this module assembles the sections and checks what concerns several keys. Nothing here reads the
command line or the environment.
"""

import contextlib
import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic.fields import FieldInfo

from anonymise.batch.notify import EmailOptions
from anonymise.batch.paths import FileKind, FileOptions
from anonymise.batch.storage import StorageOptions
from anonymise.core import yamlfile
from anonymise.core.detections import Size
from anonymise.core.errors import ConfigError
from anonymise.core.plaintext import did_you_mean, plural, shown
from anonymise.core.resources import CONFIG_FOLDER
from anonymise.database.options import DatabaseOptions
from anonymise.detection.merging import MergeOptions
from anonymise.detection.tiles import WindowOptions
from anonymise.detection.views import ViewOptions
from anonymise.evaluation import EvaluationOptions
from anonymise.images import ImageOptions
from anonymise.metadata.record import RecordOptions
from anonymise.models import ModelOptions
from anonymise.redaction import Appearance, Center, StaticMaskOptions

__all__ = ["Config", "LogOptions", "RunOptions", "load", "read"]


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
    max_image_seconds: float | None = Field(gt=0)
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
        warnings: what the operator set that nobody will see.
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
    warnings: tuple[str, ...] = ()

    @property
    def seconds_per_image(self) -> float | None:
        """Seconds after which a process that works on one image is ended; None is never.

        The time for which it may wait for a share comes on top: that is not the image's fault.
        """
        limit = self.run.max_image_seconds
        return None if limit is None else limit + self.storage.file_access_timeout_seconds

    def as_yaml(self) -> str:
        """All keys with their values, as a configuration file that gives the same configuration."""
        return yamlfile.dump(self._values(), sort_keys=True)

    def settings_fingerprint(self, static_mask: str | None) -> str:
        """A short text that changes when these settings would make other files of the same detections.

        Args:
            static_mask: fingerprint of the content of the file that ``static_mask`` names; None where there is none.
        """
        files = self.files
        left_out = _WITHOUT_EFFECT_ON_RESULTS | _OF_DETECTION | {"static_mask"}
        if static_mask is None:
            left_out |= StaticMaskOptions.model_fields.keys()
        has_preview = files.wants_any(FileKind.PREVIEW)
        if not has_preview:
            left_out |= PreviewOptions.model_fields.keys()
        has_record = files.wants_any(FileKind.JSON)
        if not has_record:
            left_out |= (RecordOptions.model_fields.keys() | {"force_older_exif"}) - {"image_type"}
        values = {key: value for key, value in self._values().items() if key not in left_out}
        # A record names its preview.
        contents = [has_record and has_preview, static_mask]
        return _digest(values, contents)

    def model_fingerprint(self, identity: str) -> str:
        """A short text that changes when these settings or the models would detect something else.

        Args:
            identity: a text that changes with the models and what they look for.
        """
        keys = (_OF_DETECTION | {"image_type"}) - _WITHOUT_EFFECT_ON_RESULTS
        return "model:" + _digest({key: value for key, value in self._values().items() if key in keys}, identity)

    def _values(self) -> dict[str, Any]:
        return {key: value for name in _SECTIONS for key, value in getattr(self, name).model_dump(mode="json").items()}


_SECTIONS: Mapping[str, type[BaseModel]] = {
    field.name: field.type
    for field in fields(Config)
    if isinstance(field.type, type) and field.name not in ("changed", "warnings")
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
            "max_image_seconds",
        ),
        *("copy_originals_to_error_folder", "image_extensions", "max_decoded_pixels"),
        *("model_folder", "batch_size", "runtime", "model_threads"),
        # The identity of the models and the classes covers what these name.
        *("model_type", "targets", "mask_classes"),
        # What is wanted besides: files that are missing are written whatever the journal says.
        *(key for key in FileOptions.model_fields if key.startswith(("remote_", "local_", "archive_"))),
        *("separate_preview_directory", "colmap_mask_directory"),
        # Only the database sees these.
        *("flip_wkt", "table_name", "table_primary_key"),
    }
)
"""Keys whose change does not make finished images stale."""

_OF_DETECTION = frozenset(
    {
        *ModelOptions.model_fields,
        *WindowOptions.model_fields,
        *ViewOptions.model_fields,
        *MergeOptions.model_fields,
        *("mask_dilation_pixels", "outline", "outline_exponent"),
    }
)
"""Keys that say what is detected; saved instances hold the result."""


def _digest(*values: object) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class _Setting:
    """A value from a file or the command line, and where it stands.

    Attributes:
        layer: number of the file, from 0 for the defaults; single keys come after all files.
        is_own: whether the operator wrote it, rather than a file that comes with the program.
    """

    value: Any
    where: str
    layer: int = 0
    is_own: bool = False


@dataclass(frozen=True, slots=True)
class _Rule:
    """A condition that several keys, or a key and the command line, must meet together.

    Attributes:
        keys: those concerned; the problem is reported at the one that was set last, so that nobody is sent to the
            defaults for what the operator's own file has caused.
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


@dataclass(frozen=True, slots=True)
class _Effect:
    """When a key that the operator set does something; where it does not, a warning says so.

    Attributes:
        keys: those concerned.
        seen: whether they have an effect, with these values and whether the run writes a log file.
        otherwise: why they have none.
    """

    keys: tuple[str, ...]
    seen: Callable[["Config", bool], bool]
    otherwise: str


def _is_drawn(*kinds: str) -> Callable[["Config", bool], bool]:
    def seen(config: "Config", _: bool) -> bool:
        return config.appearance.draw_mask and config.appearance.kind in kinds

    return seen


_WEAKEST_BLUR = 15
"""The default. Weaker ones differ from it for objects of a few pixels only: the safe minimum decides for all others."""

_EFFECTS = (
    _Effect(("mask_color", "mask_colors"), _is_drawn("color"), "only appearance: color shows it"),
    _Effect(
        ("blur",),
        lambda c, _: not c.appearance.draw_mask or c.appearance.kind in ("blur", "mosaic") or c.appearance.blur is None,
        "only the appearances blur and mosaic use it",
    ),
    _Effect(
        ("blur",),
        lambda c, _: (
            c.appearance.kind not in ("blur", "mosaic")
            or c.appearance.blur is None
            or c.appearance.blur >= _WEAKEST_BLUR
        ),
        f"so weak a blur would not hide anybody; objects look as with {_WEAKEST_BLUR}",
    ),
    _Effect(("inpaint_radius",), _is_drawn("inpaint"), "only appearance: inpaint uses it"),
    _Effect(
        ("gray_blur", "normalized_gray_blur"),
        _is_drawn("blur", "mosaic", "solid"),
        "only the appearances blur, mosaic and solid use it",
    ),
    _Effect(
        ("outline_exponent",), lambda c, _: c.appearance.outline == "superellipse", "only outline: superellipse uses it"
    ),
    _Effect(
        ("static_mask_resize", "static_mask_appearance", "static_mask_color", "static_mask_blur"),
        lambda c, _: c.static_mask.static_mask is not None,
        "there is no static_mask",
    ),
    _Effect(
        ("cutout_step_factor", "cutout_dim_downscale", "cutout_overlap", "cutout_band"),
        lambda c, _: c.windows.use_cutouts,
        "use_cutouts is False",
    ),
    _Effect(("targets",), lambda c, _: c.model.mask_classes is None, "mask_classes replaces it"),
    _Effect(
        ("merge_min_overlap",), lambda c, _: c.merging.merging_method == "union", "only merging_method: union uses it"
    ),
    _Effect(
        ("merge_iou_threshold", "area_method"),
        lambda c, _: c.merging.merging_method != "union",
        "merging_method: union does not use it",
    ),
    _Effect(("table_primary_key",), lambda c, _: c.record.table_name is not None, "there is no table_name"),
    _Effect(
        ("email_attach_log_file",),
        lambda c, logs: logs and c.email.any_enabled,
        "it needs a log folder (-l) and one of the e-mail keys",
    ),
)


def load(
    files: Sequence[Path] = (), overrides: Sequence[str] = (), *, has_archive: bool = False, has_log: bool = True
) -> Config:
    """The configuration: the defaults, overlaid by each of the files in turn, then by single keys.

    Args:
        files: YAML files with some or all of the keys. A bare name that is not in the current folder may be that of a
            configuration that comes with the program.
        overrides: ``key=value``, the value written as in the files.
        has_archive: whether the run has an archive folder.
        has_log: whether the run writes a log file.

    Raises:
        ConfigError: with all problems at once, each with file and line.
    """
    config, problems = read(files, overrides, has_archive=has_archive, has_log=has_log)
    if problems:
        raise ConfigError(list(problems))
    return config


def read(
    files: Sequence[Path] = (), overrides: Sequence[str] = (), *, has_archive: bool = False, has_log: bool = True
) -> tuple[Config, tuple[str, ...]]:
    """As `load`, for those who have more to check: the configuration with the defaults in place of what is wrong.

    Returns:
        The configuration, and all problems, each with file and line. With problems it is good for looking for more of
        them and for telling somebody, and not for a run.

    Raises:
        ConfigError: the defaults themselves cannot be used.
    """
    layers = [CONFIG_FOLDER / "default_config.yml", *map(_find, files)]
    changed = date.today()  # noqa: DTZ011 - as the operator's calendar has it
    problems: list[str] = []
    settings: dict[str, _Setting] = {}
    defaults: dict[str, _Setting] = {}
    for number, layer in enumerate(layers):
        try:
            text = yamlfile.read(layer)
        except OSError as error:
            problems.append(f"{layer}: cannot be read: {_why_unreadable(error)}")
        except ConfigError as error:
            problems += error.problems
        else:
            is_own = layer.parent != CONFIG_FOLDER
            settings |= _parse(text, str(layer), problems, layer=number, is_own=is_own)
        if number == 0:
            defaults = dict(settings)
    for override in overrides:
        key, sign, value = override.partition("=")
        if sign:
            text = f"{key.strip()}: {value}"
            settings |= _parse(text, f"--set {override}", problems, layer=len(layers), is_own=True, is_file=False)
        else:
            problems.append(f"--set {override}: write it as key=value")

    settings = _with_whole_paths(settings, layers, problems)
    sections: dict[str, Any] = {}
    wrong_keys: set[str] = set()
    for name, section in _SECTIONS.items():
        try:
            sections[name] = _section(section, settings)
        except ValidationError as error:
            described = _described(error, section, settings)
            wrong_keys |= described.keys()
            problems += described.values()
            sections[name] = _without_wrong(section, settings, defaults, described.keys(), problems)
    values = {key: setting.value for key, setting in settings.items()}
    problems += [
        f"{settings[_to_blame(rule.keys, settings)].where}: {rule.key} {rule.message}"
        for rule in _RULES
        if values.keys() >= set(rule.keys) and not wrong_keys & set(rule.keys) and rule.broken(values, has_archive)
    ]
    with contextlib.suppress(OSError):  # one of the problems
        changed = _day_of(layers[-1].stat().st_mtime)
    config = Config(**sections, changed=changed)
    if not problems:
        config = replace(config, warnings=tuple(_without_effect(config, settings, has_log=has_log)))
    return config, tuple(problems)


def _without_wrong(
    section: type[BaseModel],
    settings: Mapping[str, _Setting],
    defaults: Mapping[str, _Setting],
    wrong: Iterable[str],
    problems: list[str],
) -> BaseModel:
    """A section with the defaults for what is wrong, or for all of it where that is not enough."""
    mended = {**settings, **{key: defaults[key] for key in wrong if key in defaults}}
    for attempt in (mended, defaults):
        with contextlib.suppress(ValidationError):
            return _section(section, attempt)
    raise ConfigError(problems)


def _section(section: type[BaseModel], settings: Mapping[str, _Setting]) -> BaseModel:
    """The keys of a section.

    Raises:
        ValidationError: something is wrong with them.
    """
    own = {key: _as_wanted(settings[key].value, section, key) for key in section.model_fields if key in settings}
    # JSON mode is strict about types (no "15" for 15) and yet takes a list for a tuple.
    return section.model_validate_json(json.dumps(own), strict=True)


_PATHS = frozenset({"separate_preview_directory", "colmap_mask_directory", "static_mask", "model_folder"})
_PATHS_OR_NAMES = frozenset({"model_type"})
"""Keys whose values are paths, and those whose values are paths where they have a slash."""


def _with_whole_paths(
    settings: Mapping[str, _Setting], layers: Sequence[Path], problems: list[str]
) -> dict[str, _Setting]:
    """The settings with absolute paths: a relative one begins at the folder of the file that names it.

    What it means must not depend on the folder in which the program happens to be started, so a single key, which
    stands in no file, needs an absolute path.
    """

    def whole(key: str, setting: _Setting, value: Any) -> Any:
        if isinstance(value, list) and key in _PATHS_OR_NAMES:
            return [whole(key, setting, item) for item in value]
        if not isinstance(value, str) or not value or Path(value).is_absolute():
            return value
        if key in _PATHS_OR_NAMES and not {"/", "\\"} & set(value):
            return value
        if setting.layer < len(layers):
            return str(layers[setting.layer].absolute().parent / value)
        problems.append(
            f"{setting.where}: {key} needs an absolute path here, such as {Path(value).absolute()}; a path in a "
            "configuration file may be relative, to the folder of that file"
        )
        return value

    return {
        key: replace(setting, value=whole(key, setting, setting.value)) if key in _PATHS | _PATHS_OR_NAMES else setting
        for key, setting in settings.items()
    }


def _without_effect(config: Config, settings: Mapping[str, _Setting], *, has_log: bool) -> Iterator[str]:
    """What the operator set and nobody will see."""
    defaults = {entry.key: entry.value for entry in _default_entries()}
    for effect in _EFFECTS:
        for key in effect.keys:
            setting = settings[key]
            if setting.is_own and setting.value != defaults[key] and not effect.seen(config, has_log):
                yield f"{setting.where}: {key} has no visible effect: {effect.otherwise}"


def _default_entries() -> list[yamlfile.Entry]:
    file = CONFIG_FOLDER / "default_config.yml"
    return yamlfile.entries(yamlfile.read(file), str(file))


def _day_of(seconds: float) -> date:
    """The day of a file's time, the last one of all where the calendar has no such year."""
    try:
        return date(*time.localtime(seconds)[:3])
    except (OverflowError, ValueError, OSError):
        return date.max


def _find(file: Path) -> Path:
    """The file, or the one of this name that comes with the program; a path with folders only means itself."""
    shipped = CONFIG_FOLDER / file.name
    return shipped if len(file.parts) == 1 and not file.exists() and shipped.is_file() else file


def _why_unreadable(error: OSError) -> str:
    if not isinstance(error, FileNotFoundError):
        return error.strerror or str(error)
    shipped = ", ".join(sorted(file.name for file in CONFIG_FOLDER.glob("*_config.yml") if file.name in _SHIPPED))
    return f"there is no such file. These come with the program, and are meant by their names alone: {shipped}"


_SHIPPED = frozenset({"default_config.yml", "lite_config.yml", "360_default_config.yml", "360_lite_config.yml"})
"""Beside them may be what operators put there: email_config.yml, db_config.yml."""


def _parse(
    text: str, source: str, problems: list[str], *, layer: int, is_own: bool, is_file: bool = True
) -> dict[str, _Setting]:
    """The settings in a YAML text; appends to ``problems`` what is wrong with it."""
    settings: dict[str, _Setting] = {}
    try:
        found = yamlfile.entries(text, source, is_file=is_file)
    except ConfigError as error:
        problems += error.problems
        return {}
    for entry in found:
        where = f"{source}:{entry.line}" if is_file else source
        if entry.key not in _KEYS:
            problems.append(f"{where}: unknown key {entry.key}" + did_you_mean(entry.key, _KEYS))
            continue
        if entry.key in settings:
            problems.append(f"{where}: {entry.key} is set twice, first in {settings[entry.key].where}")
        settings[entry.key] = _Setting(entry.value, where, layer, is_own)
    return settings


_WORDS = {"yes": True, "on": True, "no": False, "off": False}


def _as_wanted(value: Any, section: type[BaseModel], key: str) -> Any:
    """Yes and no are texts in YAML 1.2, and were True and False in 1.1; which of them is meant, the key says."""
    if isinstance(value, str) and section.model_fields[key].annotation is bool:
        return _WORDS.get(value.lower(), value)
    return value


def _to_blame(keys: Iterable[str], settings: Mapping[str, _Setting]) -> str:
    """Of several keys that do not go together, the one that was set last."""
    return max(keys, key=lambda key: settings[key].layer)


def _described(error: ValidationError, section: type[BaseModel], settings: Mapping[str, _Setting]) -> dict[str, str]:
    """Key → what is wrong with it, for the operator."""
    messages: dict[str, list[tuple[int, str]]] = {}
    for detail in error.errors():
        message = detail["msg"].removeprefix("Value error, ").replace("Input should be", "should be")
        depth = 0
        if detail["loc"]:
            key = str(detail["loc"][0])
            if key in settings:
                depth, message = _in_their_words(message, detail, section.model_fields[key], settings[key].value)
        else:  # what a section checks as a whole names the keys that it is about
            named = [k for k in section.model_fields if k in settings and re.search(rf"\b{k}\b", message)]
            key = _to_blame(named, settings)
        # The alternatives of a key that may be one thing or another each give a message.
        if message and (depth, message) not in messages.setdefault(key, []):
            messages[key].append((depth, message))
    return {
        # Those that got furthest into the value are about what was meant.
        key: f"{settings[key].where}: {key} is {shown(settings[key].value)}: "
        + ", or ".join(message for depth, message in found if depth == max(found)[0])
        if key in settings
        else f"default_config.yml lacks the key {key}"
        for key, found in messages.items()
    }


def _in_their_words(message: str, detail: Any, field: FieldInfo, whole: object) -> tuple[int, str]:
    """What pydantic says, for people who write YAML, and how deep in the value; empty for what follows from another."""
    kind, value, names = detail["type"], detail["input"], _names_of_items(field.annotation)
    if kind in ("named_tuple_type", "missing", "too_long", "too_short") and names:
        return 0, f"should be a list [{', '.join(names)}]"
    if kind == "missing":
        return 0, "has too few items"
    if kind in ("too_long", "too_short"):
        least, most = detail["ctx"].get("min_length"), detail["ctx"].get("max_length")
        if (most is None or len(value) <= most) and (least is None or len(value) >= least):
            return 0, ""  # one of the items is wrong, which has a message of its own
        n, word = (least, "at least") if most is None else (most, "at most")
        return 0, f"should have {word} {plural(n, 'item')}, and has {len(value)}"
    message = _THEIR_WORDS.get(kind, message)
    if kind == "string_type" and isinstance(value, int | float):
        message += "; write it in quotes"
    if kind == "literal_error":
        message += did_you_mean(value, re.findall(r"'([^']*)'", str(detail["ctx"]["expected"])))
    depth, subject = 0, ""
    for part in detail["loc"][1:]:
        if isinstance(whole, Mapping) and part in whole:
            depth, subject, whole = depth + 1, str(part), whole[part]
        elif isinstance(whole, list) and isinstance(part, int):
            depth, subject, whole = depth + 1, shown(value), whole[part]
    return depth, f"{subject} {message}" if subject else message


_THEIR_WORDS = {
    "tuple_type": "should be a list, such as [a, b]",
    "list_type": "should be a list, such as [a, b]",
    "dict_type": "should be key: value pairs",
    "bool_type": "should be True or False",
    "int_type": "should be a whole number",
    "int_from_float": "should be a whole number",
}


def _names_of_items(annotation: Any) -> tuple[str, ...]:
    """The names of a pair's items, such as width and height; empty for what is no pair."""
    for one in (annotation, *get_args(annotation)):
        if hasattr(one, "_fields"):
            return tuple(one._fields)
    return ()
