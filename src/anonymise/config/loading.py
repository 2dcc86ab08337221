"""YAML files and single keys → the configuration, or everything that is wrong with them."""

import contextlib
import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from os import PathLike
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from anonymise.config.config import KEYS, SECTIONS, Config
from anonymise.config.rules import EFFECTS, RULES
from anonymise.core import yamlfile
from anonymise.core.errors import ConfigError
from anonymise.core.plaintext import did_you_mean, plural, shown
from anonymise.core.resources import CONFIG_FOLDER, find_settings, settings_folders
from anonymise.core.section import Section

__all__ = ["load", "load_config", "read"]


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


def load(
    files: Sequence[Path] = (), overrides: Sequence[str] = (), *, has_archive: bool = False, has_log: bool = True
) -> Config:
    """The configuration: the defaults, overlaid by each of the files in turn, then by single keys.

    Args:
        files: YAML files with some or all of the keys. A bare name that is not in the current folder is looked for in
            ``config`` there, in the user's configuration folder, and among those that come with the program.
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


def load_config(
    *files: str | PathLike[str], keys: Mapping[str, Any] | None = None, has_archive: bool = False
) -> Config:
    """The configuration for programs: the defaults, overlaid by files, then by single keys.

    Args:
        files: YAML files with some or all of the keys; later ones win. A bare name such as ``lite_config.yml`` may be
            that of a configuration that comes with the program.
        keys: key → value, after all files. A path must be absolute.
        has_archive: whether a folder run will have an archive folder, which some keys need.

    Raises:
        ConfigError: with all problems at once, each with file and line.
    """
    # JSON is YAML that needs no quoting rules.
    overrides = [f"{key}={json.dumps(value)}" for key, value in (keys or {}).items()]
    return load(list(map(Path, files)), overrides, has_archive=has_archive)


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
            problems.append(f"{layer}: cannot be read: {_why_unreadable(layer, error)}")
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
    for name, section in SECTIONS.items():
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
        for rule in RULES
        if values.keys() >= set(rule.keys) and not wrong_keys & set(rule.keys) and rule.broken(values, has_archive)
    ]
    with contextlib.suppress(OSError):  # one of the problems
        changed = _day_of(layers[-1].stat().st_mtime)
    config = Config(**sections, changed=changed)
    if not problems:
        config = replace(config, warnings=tuple(_without_effect(config, settings, has_log=has_log)))
    return config, tuple(problems)


def _without_wrong(
    section: type[Section],
    settings: Mapping[str, _Setting],
    defaults: Mapping[str, _Setting],
    wrong: Iterable[str],
    problems: list[str],
) -> Section:
    """A section with the defaults for what is wrong, or for all of it where that is not enough."""
    mended = {**settings, **{key: defaults[key] for key in wrong if key in defaults}}
    for attempt in (mended, defaults):
        with contextlib.suppress(ValidationError):
            return _section(section, attempt)
    raise ConfigError(problems)


def _section(section: type[Section], settings: Mapping[str, _Setting]) -> Section:
    """The keys of a section.

    Raises:
        ValidationError: something is wrong with them.
    """
    own = {key: _as_wanted(settings[key].value, section, key) for key in section.model_fields if key in settings}
    # JSON mode is strict about types (no "15" for 15) and yet takes a list for a tuple.
    return section.model_validate_json(json.dumps(own), strict=True)


_PATHS = frozenset(
    {
        "separate_preview_directory",
        "colmap_mask_directory",
        "static_mask",
        "position_sidecar",
        "model_folder",
        "corrections",
        "reports_originals",
        "reports_pictures",
        "review_users",
        "service_tokens",
        "service_jobs_directory",
    }
)
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
    for effect in EFFECTS:
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
    """The file, or the one of this name in the folders of settings; a path with folders only means itself."""
    return (find_settings(file.name) if len(file.parts) == 1 and not file.exists() else None) or file


def _why_unreadable(file: Path, error: OSError) -> str:
    if not isinstance(error, FileNotFoundError):
        return error.strerror or str(error)
    where = "" if len(file.parts) > 1 else f", neither here nor in {', '.join(map(str, settings_folders()))}"
    shipped = ", ".join(sorted(file.name for file in CONFIG_FOLDER.glob("*_config.yml") if file.name in _SHIPPED))
    return f"there is no such file{where}. These come with the program, and are meant by their names alone: {shipped}"


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
        if entry.key not in KEYS:
            problems.append(f"{where}: unknown key {entry.key}" + did_you_mean(entry.key, KEYS))
            continue
        if entry.key in settings:
            problems.append(f"{where}: {entry.key} is set twice, first in {settings[entry.key].where}")
        settings[entry.key] = _Setting(entry.value, where, layer, is_own)
    return settings


_WORDS = {"yes": True, "on": True, "no": False, "off": False}


def _as_wanted(value: Any, section: type[Section], key: str) -> Any:
    """Yes and no are texts in YAML 1.2, and were True and False in 1.1; which of them is meant, the key says."""
    if isinstance(value, str) and section.model_fields[key].annotation is bool:
        return _WORDS.get(value.lower(), value)
    return value


def _to_blame(keys: Iterable[str], settings: Mapping[str, _Setting]) -> str:
    """Of several keys that do not go together, the one that was set last."""
    return max(keys, key=lambda key: settings[key].layer)


def _described(error: ValidationError, section: type[Section], settings: Mapping[str, _Setting]) -> dict[str, str]:
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
