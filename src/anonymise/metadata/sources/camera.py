"""Plain EXIF, as any camera writes it: time, model, title, GPS directory."""

import re
from decimal import Decimal

from anonymise.metadata import gps
from anonymise.metadata.evidence import POSITION, Evidence, Source, Texts, Vendor
from anonymise.metadata.metadata import Origin, iso_time
from anonymise.metadata.values import rounded

__all__ = ["EXIF", "VENDOR"]

EXIF = Origin("EXIF", is_exif=True)

_MODEL = 272
_XP_TITLE = 40091

_TIMES = ((36867, 37521, 36881), (36868, 37522, 36882), (306, 37520, 36880))
"""Original, digitized and last change: the tags of the time, of its fraction and of its zone (EXIF 3.0, 4.6.6.6)."""

_TIME_LENGTH = len("2021-05-04T10:11:12")
_SUBSECONDS = re.compile(r"\d{1,9}", re.ASCII)
_OFFSET = re.compile(r"Z|[+-]\d{1,2}:?\d\d", re.ASCII)


def _model(evidence: Evidence) -> str | None:
    model = evidence.fields.ifd0.get(_MODEL)
    return (model.text() or None) if model else None


def _title(evidence: Evidence) -> str | None:
    title = evidence.fields.ifd0.get(_XP_TITLE)
    return (title.utf16_text() or None) if title else None


def _time(time: int, subseconds: int, offset: int) -> Source:
    """A time of the EXIF block with its fraction and its zone, which have tags of their own."""

    def read(evidence: Evidence) -> str | None:
        def text(tag: int) -> str:
            field = evidence.fields.exif.get(tag) or evidence.fields.ifd0.get(tag)
            return field.text() if field else ""

        written = text(time)
        if not any(digit in written for digit in "123456789"):  # blanks or zeros: not known
            return None
        value = iso_time(written)
        if value is None:
            evidence.notes.append(f"EXIF: the time in tag {time} is left out, it cannot be read")
            return None
        seconds, rest = value[:_TIME_LENGTH], value[_TIME_LENGTH:]
        if not rest.startswith("."):
            rest = _matching(evidence, _SUBSECONDS, subseconds, text(subseconds), ".") + rest
        zoned = seconds + rest + _matching(evidence, _OFFSET, offset, text(offset))
        return value if rest.endswith("Z") or "+" in rest or "-" in rest else iso_time(zoned) or seconds + rest

    return Source(EXIF, read)


def _matching(evidence: Evidence, pattern: re.Pattern[str], tag: int, text: str, before: str = "") -> str:
    """The text of a tag with what goes before it; nothing where it is blank or, with a note, where it does not fit."""
    if pattern.fullmatch(text):
        return before + text
    if text.replace(":", "").strip():
        evidence.notes.append(f"EXIF: tag {tag} is left out, it cannot be read")
    return ""


def _position(evidence: Evidence) -> Texts | None:
    longitude, latitude, altitude = gps.position(evidence.fields.gps, evidence.notes)
    return None if longitude is None or latitude is None else (longitude, latitude, altitude)


def _speed(evidence: Evidence) -> str | None:
    speed = gps.speed_m_s(evidence.fields.gps, evidence.notes, from_recorder=False)
    return None if speed is None else rounded(Decimal(speed.numerator) / Decimal(speed.denominator))


VENDOR = Vendor(
    {
        ("time",): (
            *(_time(*tags) for tags in _TIMES),
            Source(EXIF, lambda evidence: gps.time(evidence.fields.gps, evidence.notes)),
        ),
        ("camera",): (Source(EXIF, _model),),
        ("title",): (Source(EXIF, _title),),
        ("speed",): (Source(EXIF, _speed),),
        ("heading",): (Source(EXIF, lambda evidence: gps.heading(evidence.fields.gps, evidence.notes)),),
        POSITION: (Source(EXIF, _position),),
    }
)
