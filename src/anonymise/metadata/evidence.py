"""What a source of metadata is: where values may be found, how they are read, and what an image says in all.

A vendor's module in ``metadata.sources`` makes a `Vendor` of these parts, and ``metadata.registry`` lists it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from anonymise.metadata.embedded import Embedded
from anonymise.metadata.metadata import ImageSource, Origin
from anonymise.metadata.sidecar import PositionSidecar
from anonymise.metadata.tags import ExifFields
from anonymise.metadata.values import WHOLE_VALUES

__all__ = [
    "JUNCTION",
    "POSITION",
    "ROAD",
    "STREKNING",
    "Evidence",
    "Fields",
    "Reader",
    "Reading",
    "Source",
    "Texts",
    "Vendor",
    "found_at",
]

Texts = tuple[str | None, ...]
Fields = tuple[str, ...]
"""Fields of `Metadata` that are filled together."""

POSITION: Fields = ("longitude", "latitude", "altitude")
ROAD: Fields = ("road_category", "road_status", "road_number")
STREKNING: Fields = ("strekning", "delstrekning")
JUNCTION: Fields = ("ankerpunkt", "kryssdel", "sideanleggsdel")


@dataclass(frozen=True, slots=True)
class Reading:
    """What a vendor's own blocks in one image say.

    Attributes:
        texts: origin → path or name of a value → its text.
        documents: field of `Metadata` → redacted document that is kept whole.
        names: names of persons and cars that the blocks hold. They are removed from all free texts of the image.
    """

    texts: Mapping[Origin, Mapping[str, str]] = field(default_factory=dict)
    documents: Mapping[str, str] = field(default_factory=dict)
    names: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that one image says, before anyone decides what to believe.

    Attributes:
        source: what is known of the file.
        fields: fields of the EXIF blocks.
        texts: origin → path or name of a value → its text, from the vendors' own blocks.
        values: fields that are filled already, in the order of the registry's rows.
        origins: field that is filled already → where its value was found.
        sidecar: positions that stand in a file next to the images; None where there is no such file.
        notes: takes what a reader finds and cannot use, one line each; never quotes the image's texts.
    """

    source: ImageSource
    fields: ExifFields
    texts: Mapping[Origin, Mapping[str, str]]
    values: Mapping[str, str]
    origins: Mapping[str, Origin]
    sidecar: PositionSidecar | None
    notes: list[str]


Reader = Callable[[Evidence], str | Texts | None]


@dataclass(frozen=True, slots=True)
class Source:
    """One place where values may be found.

    Attributes:
        origin: kind of the place.
        read: evidence → the text, or as many texts as there are fields; None where there is nothing usable.
    """

    origin: Origin
    read: Reader


@dataclass(frozen=True, slots=True)
class Vendor:
    """Whoever writes metadata in a way of their own: a recorder, a standard, those who name the files.

    Attributes:
        sources: fields → where this vendor says them, most trusted first.
        read: reads the vendor's own blocks once for each image, from all blocks and the EXIF fields in them; appends
            to its last argument what cannot be used. None where there is nothing but EXIF fields and the name.
    """

    sources: Mapping[Fields, tuple[Source, ...]]
    read: Callable[[Embedded, ExifFields, list[str]], Reading] | None = None


def found_at(
    origin: Origin,
    path: str,
    convert: Callable[[str], str | Texts | None] = lambda text: text,
    *,
    label: str | None = None,
) -> Source:
    """The text at a path of a vendor's `Reading`, converted.

    Args:
        origin: kind of the place.
        path: path or name of the value.
        convert: text → value, None where it says nothing. Where one of `WHOLE_VALUES` gives None, that is noted.
        label: what the place is called in notes; None calls it "<path> of <origin>".
    """
    where = label or f"{path} of {origin.name}"

    def read(evidence: Evidence) -> str | Texts | None:
        text = evidence.texts.get(origin, {}).get(path)
        if text is None:
            return None
        value = convert(text)
        if value is None and convert in WHOLE_VALUES:
            evidence.notes.append(f"{where} is left out, it cannot be read")
        return value

    return Source(origin, read)
