r"""The text form of the record: its keys in order, writing it, and reading it however an earlier program wrote it."""

import json
import re
from collections.abc import Mapping
from types import MappingProxyType

from anonymise.core.errors import RecordError

__all__ = ["KEYS", "Record", "dumps", "flip_wkt", "loads"]

Record = dict[str, str | dict[str, str] | None]
"""Key → text or null, in the order of ``KEYS``; the detected objects are an object of class name → count."""

KEYS = (
    "exif_tid",
    "exif_dato",
    "exif_dataeier",
    "exif_camera",
    "exif_imagetype",
    "exif_imagewidth",
    "exif_imageheight",
    "exif_speed_ms",
    "exif_heading",
    "exif_gpsposisjon",
    "exif_altitude",
    "exif_moh",
    "exif_strekningsnavn",
    "exif_fylke",
    "exif_vegkat",
    "exif_vegstat",
    "exif_vegnr",
    "exif_roadtype",
    "exif_hp",
    "exif_strekning",
    "exif_delstrekning",
    "exif_ankerpunkt",
    "exif_kryssdel",
    "exif_sideanleggsdel",
    "exif_meter",
    "exif_feltkode",
    "exif_mappenavn",
    "exif_filnavn",
    "exif_strekningreferanse",
    "exif_imageproperties",
    "exif_basislinje",
    "exif_reflinkinfo",
    "exif_reflinkid",
    "exif_reflinkposisjon",
    "exif_roadident",
    "exif_roll",
    "exif_pitch",
    "exif_geoidalseparation",
    "exif_northrmserror",
    "exif_eastrmserror",
    "exif_downrmserror",
    "exif_rollrmserror",
    "exif_pitchrmserror",
    "exif_headingrmserror",
    "exif_xptitle",
    "exif_kvalitet",
    "exif_filnavn_preview",
    "bildeid",
    "senterlinjeposisjon",
    "detekterte_objekter",
    "versjon",
    "mappenavn",
)
"""Keys of the record, in their order."""

_EARLIER_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "exif_speed": "exif_speed_ms",
        "exif_preview_filnavn": "exif_filnavn_preview",
        "exif_imagehigh": "exif_imageheight",
        "veglenkeid": "exif_reflinkid",
        "veglenkepos": "exif_reflinkposisjon",
    }
)
"""Key of an earlier record → key of today's."""

_DECIMAL_KEYS = frozenset(
    {
        "exif_speed_ms",
        "exif_heading",
        "exif_gpsposisjon",
        "exif_altitude",
        "exif_moh",
        "exif_meter",
        "exif_basislinje",
        "exif_reflinkposisjon",
        "exif_roll",
        "exif_pitch",
        "exif_geoidalseparation",
        "exif_northrmserror",
        "exif_eastrmserror",
        "exif_downrmserror",
        "exif_rollrmserror",
        "exif_pitchrmserror",
        "exif_headingrmserror",
        "senterlinjeposisjon",
    }
)
"""Keys whose values hold decimal numbers."""

_FOLDER_KEYS = frozenset({"exif_mappenavn", "mappenavn"})
_XML_KEYS = frozenset({"exif_imageproperties", "exif_reflinkinfo"})

_DECIMAL_COMMA = re.compile(r"(?<=[0-9]),(?=[0-9])")
_POINT = re.compile(r"\bPOINT\s*(?:Z\s*)?\(\s*([^\s()]+)(\s+)([^\s()]+)", re.IGNORECASE)

_LONE_BACKSLASH = re.compile(r'\\(?:u[0-9a-fA-F]{4}|["\\/bfnrt])|\\')
_BACKSLASH_AT_END = re.compile(r'(?<!\\)\\"(?=[ \t]*(?:,[ \t]*)?[\r\n])')
_STORED_PATH = re.compile(r"<(ImageName|StorageFile)>[^<]*</\1>")
_MISREAD = MappingProxyType(str.maketrans({"\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t"}))


def dumps(record: Mapping[str, object]) -> str:
    """The record as JSON text, for a file in UTF-8: four spaces, other scripts as they are."""
    return json.dumps(record, indent=4, ensure_ascii=False)


def loads(text: str) -> Record:
    r"""Read a record, of this program or of an earlier one.

    Earlier records have other key names, lack keys, write decimal commas, numbers instead of texts and the text
    ``None``, and leave the backslashes of Windows paths unescaped, also those that make another character
    (``D:\foto\ny``).

    Returns:
        All of ``KEYS`` in their order, then keys that are not known. Numbers are texts to the digit; empty texts
        and NaN are None.

    Raises:
        RecordError: the text is no JSON object.
    """
    content = _parse(text.removeprefix("\ufeff"))
    values: Record = {}
    # Today's names first: a record that has both was converted, and the converted value counts.
    for name in sorted(content, key=_EARLIER_NAMES.__contains__):
        key = _EARLIER_NAMES.get(name, name)
        values.setdefault(key, _read_value(key, content[name]))
    return {key: values.get(key) for key in (*KEYS, *(key for key in values if key not in KEYS))}


def flip_wkt(text: str) -> str:
    """A point as WKT with its first two coordinates exchanged, their digits untouched; other texts stay.

    ``srid=4326;POINT Z( 1.0 2.0 66.08 )`` becomes ``srid=4326;POINT Z( 2.0 1.0 66.08 )``.
    """
    found = _POINT.search(text)
    if not found:
        return text
    return text[: found.start(1)] + found[3] + found[2] + found[1] + text[found.end() :]


def _parse(text: str) -> dict[str, object]:
    problem = "it is no object"
    for attempt in (text, _escape_backslashes(text)):
        try:
            content = json.loads(attempt, parse_float=str, parse_int=str, parse_constant=lambda _: None)
        except (ValueError, RecursionError) as error:
            problem = str(error)
            continue
        if isinstance(content, dict):
            return content
        break
    raise RecordError(f"no record: {problem}")


def _escape_backslashes(text: str) -> str:
    """Escape the backslashes that are no JSON escape."""
    closed = _BACKSLASH_AT_END.sub(r'\\\\"', text)
    return _LONE_BACKSLASH.sub(lambda found: found[0] if len(found[0]) > 1 else r"\\", closed)


def _read_value(key: str, value: object) -> str | dict[str, str] | None:
    if isinstance(value, dict):
        return {str(name): str(count) for name, count in value.items()}
    if value is None or str(value).strip().lower() in {"", "nan", "none"}:
        return None
    text = str(value)
    if key in _FOLDER_KEYS:
        return text.translate(_MISREAD).replace("\\", "/")
    if key == "exif_filnavn":
        return text.translate(_MISREAD)
    if key in _XML_KEYS:
        return _STORED_PATH.sub(lambda found: found[0].translate(_MISREAD), text)
    return _DECIMAL_COMMA.sub(".", text) if key in _DECIMAL_KEYS else text
