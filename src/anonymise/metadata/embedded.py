"""The metadata blocks of an image file: what ``images.container`` finds, before anything in them is interpreted."""

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from anonymise.metadata.gpano import read_properties
from anonymise.metadata.tags import ORIENTATION, ExifFields, Field, read_fields

__all__ = ["Embedded"]

_TIFF_NAMESPACE = "http://ns.adobe.com/tiff/1.0/"
_XMP_ORIENTATION = re.compile(rb"tiff:Orientation\s*(?:=\s*[\"']|>)\s*([1-8])\s*[\"'<]")

_SWAPPED_BYTES: Mapping[int, int] = MappingProxyType({3: 2, 4: 4, 5: 4, 8: 2, 9: 4, 10: 4, 11: 4, 12: 8, 13: 4})
"""Bytes of the numbers that change with the byte order, for each TIFF field type that has such numbers."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """The metadata blocks of an image file, undecoded.

    Attributes:
        exif: EXIF blocks (TIFF structures, from their byte-order mark on) in the order in which viewers look for them.
        xmp: XMP packets in the file's order.
        problems: what was found but cannot be used, one line each.
    """

    exif: tuple[bytes, ...] = ()
    xmp: tuple[bytes, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def fields(self) -> ExifFields:
        """The fields of all EXIF blocks: where two have the same field, the first counts.

        The orientation is the exception. Viewers take it from the first block or from nowhere, so that of a later block
        is left out. The fields have the byte order of the first block.
        """
        blocks = [read_fields(block) for block in self.exif]
        if len(blocks) < 2:
            return blocks[0] if blocks else ExifFields()
        order = next((field.order for block in blocks for field in block.ifd0.values()), "<")
        merged = blocks[0]
        for block in blocks[1:]:
            ifd0 = {tag: field for tag, field in block.ifd0.items() if tag != ORIENTATION}
            merged = ExifFields(
                {tag: _in_order(field, order) for tag, field in {**ifd0, **merged.ifd0}.items()},
                {tag: _in_order(field, order) for tag, field in {**block.exif, **merged.exif}.items()},
                {tag: _in_order(field, order) for tag, field in {**block.gps, **merged.gps}.items()},
                (*merged.problems, *block.problems),
            )
        return merged

    @property
    def orientation(self) -> int:
        """How the stored picture is turned to stand upright: EXIF orientation, 1 to 8.

        It is the EXIF block's; where that has no valid one, that of the first XMP packet that has one
        (``tiff:Orientation``); else 1. This is what Pillow and the viewers of Apple do. Browsers do not read XMP: they
        show such a picture as it is stored.
        """
        field = self.fields.ifd0.get(ORIENTATION)
        value = field.integer() if field is not None else None
        if value is not None and 1 <= value <= 8:
            return value
        return next((found for packet in self.xmp if (found := _xmp_orientation(packet))), 1)


def _in_order(field: Field, order: str) -> Field:
    if field.order == order:
        return field
    size = _SWAPPED_BYTES.get(field.kind, 1)
    n_numbers = len(field.data) // size
    numbers = struct.unpack_from(f"{size}s" * n_numbers, field.data)
    return replace(field, data=b"".join(number[::-1] for number in numbers), order=order)


def _xmp_orientation(packet: bytes) -> int | None:
    text = read_properties((packet,), _TIFF_NAMESPACE, "tiff", []).get("Orientation", "")
    if not text:
        # Viewers that look for the text alone find it also where the packet is beyond mending.
        found = _XMP_ORIENTATION.search(packet.replace(b"\0", b""))
        text = found[1].decode("ascii") if found else ""
    return int(text) if re.fullmatch("[1-8]", text) else None
