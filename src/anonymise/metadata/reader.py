"""Metadata blocks → Metadata: everything that an image's EXIF, XMP, name and path tell about the road.

``metadata.registry`` says whom to believe. All recorders and eras share it: the forced reading of images before 2022
(``ImageSource.older``) only puts one origin first.

Texts are kept as the source wrote them, to the digit; typed values are properties of ``Metadata``. What cannot be
read is unknown (None) and named in ``Metadata.problems``; bad bytes never raise.
"""

from collections.abc import Iterable

from anonymise.metadata.embedded import Embedded
from anonymise.metadata.evidence import Evidence, Source
from anonymise.metadata.metadata import ImageSource, Metadata, Origin
from anonymise.metadata.recorderxml import scrub, scrub_text
from anonymise.metadata.registry import FIRST_WHEN_OLDER, SOURCES, VENDORS
from anonymise.metadata.sidecar import PositionSidecar

__all__ = ["read_metadata"]

_FREE_TEXTS = frozenset({"title", "camera", "folder", "section_name"})
"""Fields in which a driver's name or a car's id may stand; the others have a fixed form or name the file itself."""


def read_metadata(blocks: Embedded, source: ImageSource, sidecar: PositionSidecar | None = None) -> Metadata:
    """Interpret an image's metadata.

    Args:
        blocks: the metadata blocks of the image file. Without any, the result is what the name and path tell.
        source: what is known besides.
        sidecar: positions for images that have none of their own.
    """
    fields = blocks.fields
    notes = [*blocks.problems, *fields.problems]
    readings = [vendor.read(blocks, fields, notes) for vendor in VENDORS if vendor.read is not None]
    names = frozenset[str]().union(*(reading.names for reading in readings))
    texts = {origin: found for reading in readings for origin, found in reading.texts.items()}

    values: dict[str, str] = {}
    origins: dict[str, Origin] = {}
    evidence = Evidence(source, fields, texts, values, origins, sidecar, notes)
    for row in SOURCES:
        for candidate in _in_order(row.sources, older=source.older):
            found = candidate.read(evidence)
            if found is None:
                continue
            pairs = zip(row.fields, (found,) if isinstance(found, str) else found, strict=True)
            known = {name: text for name, text in pairs if text is not None}
            values |= known
            origins |= dict.fromkeys(known, candidate.origin)
            break
    for name in _FREE_TEXTS & values.keys():
        values[name] = scrub(values[name], names)
    for reading in readings:
        values |= {field: scrub_text(document, names) for field, document in reading.documents.items()}
    return Metadata(
        source=source, has_exif=bool(fields), origins=origins, problems=tuple(dict.fromkeys(notes)), **values
    )


def _in_order(sources: Iterable[Source], *, older: bool) -> Iterable[Source]:
    """The sources in order of trust."""
    if not older:
        return sources
    return sorted(sources, key=lambda source: source.origin != FIRST_WHEN_OLDER)
