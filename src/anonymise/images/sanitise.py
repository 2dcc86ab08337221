"""What of a file's metadata leaves the machine: marker segments of a JPEG, chunks of a PNG.

Works by allow-list: what is not known to be harmless and of use stays behind, and what goes out is built from the
values that were understood. So no hiding place has to be known: previews, multi-picture images, depth maps, Photoshop
resources, comments and everything else unlisted simply have no way out.
"""

import contextlib
import re
import struct
import zlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from lxml import etree

from anonymise.images import container, icc, png
from anonymise.images.exifwriter import MAX_BLOCK_BYTES, OutputMetadata, clean_exif, contains_picture, is_text
from anonymise.images.jpegsegments import APP0, APP1, APP2, APP14, COM, Segment
from anonymise.images.png import Chunk
from anonymise.metadata.gpano import read_gpano
from anonymise.metadata.xmltext import MalformedXmlError, decode_xml, parse_xml

__all__ = ["clean_chunks", "clean_segments", "clean_xmp"]

_EXIF, _XMP, _ICC = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0"
_PNG_XMP = b"XML:com.adobe.xmp\0"
_MAX_SEGMENT_BYTES = 65533

_GPANO = "http://ns.google.com/photos/1.0/panorama/"
_NUMBER, _WORD, _BOOLEAN, _DATE = (
    r"[+-]?([0-9]{1,9}([.,][0-9]{0,20})?|[.,][0-9]{1,20})([eE][+-]?[0-9]{1,3})?|[+-]?[0-9]{1,9}/[0-9]{1,9}",
    r"[A-Za-z]{1,32}",
    r"(?i:true|false|0|1)",
    r"[0-9T:.+Z -]{4,40}",
)
# Photo Sphere XMP metadata (developers.google.com/streetview/spherical-metadata), but for the name of the software.
_GPANO_VALUES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "ProjectionType": _WORD,
        **dict.fromkeys(("UsePanoramaViewer", "ExposureLockUsed"), _BOOLEAN),
        **dict.fromkeys(("FirstPhotoDate", "LastPhotoDate"), _DATE),
        **dict.fromkeys(
            (
                *("PoseHeadingDegrees", "PosePitchDegrees", "PoseRollDegrees"),
                *("InitialViewHeadingDegrees", "InitialViewPitchDegrees", "InitialViewRollDegrees"),
                *("InitialHorizontalFOVDegrees", "InitialVerticalFOVDegrees", "InitialCameraDolly"),
                *("SourcePhotosCount", "FullPanoWidthPixels", "FullPanoHeightPixels"),
                *("CroppedAreaImageWidthPixels", "CroppedAreaImageHeightPixels"),
                *("CroppedAreaLeftPixels", "CroppedAreaTopPixels"),
                *("LargestValidInteriorRectLeft", "LargestValidInteriorRectTop"),
                *("LargestValidInteriorRectWidth", "LargestValidInteriorRectHeight"),
            ),
            _NUMBER,
        ),
    }
)
_PICTURE_NAMESPACES: Final = (
    "http://ns.google.com/photos/1.0/image/",
    "http://ns.google.com/photos/1.0/depthmap/",
    "http://ns.google.com/photos/1.0/container/",
    "http://ns.google.com/photos/1.0/camera/",
    "http://ns.google.com/photos/dd/1.0/",
    "http://ns.apple.com/",
    "http://ns.adobe.com/xap/1.0/g/img/",
    "http://ns.adobe.com/xmp/note/",
    "http://ns.adobe.com/photoshop/1.0/",
    "http://ns.adobe.com/camera-raw-settings/1.0/",
)
_LONGEST_TEXT = 4096
_LONGEST_WORD = 128  # no word or address of a text is longer, and coded binary data is

# Chunks that say how the picture is shown, with the numbers that each of them holds and the largest that these can be
# (PNG, section 11.3): text makes larger ones.
_DISPLAY_CHUNKS: Final[Mapping[bytes, tuple[str, int]]] = MappingProxyType(
    {
        b"gAMA": (">I", 10**7),
        b"cHRM": (">8I", 10**6),
        b"sRGB": (">B", 3),
        b"cICP": (">4B", 22),
        b"cLLI": (">2I", 10**8),
        b"pHYs": (">2IB", 10**7),
    }
)


def clean_segments(
    segments: Sequence[Segment],
    mode: OutputMetadata,
    thumbnail: bytes | None,
    colour_space: bytes,
    keep_transform: bool,
) -> tuple[list[Segment], list[str]]:
    """The APPn and COM segments of the output.

    Args:
        segments: those of the original.
        mode: what goes out.
        thumbnail: a JPEG of the anonymised picture for the EXIF block.
        colour_space: ``b"RGB "`` or ``b"GRAY"``, what the output's samples are; a profile of another space is dropped.
        keep_transform: whether the samples are the original's, so that its colour transform still holds.

    Returns:
        The segments, in the order in which they are to be written, and what the log should know.
    """
    out: list[Segment] = []
    jfif = next((s.payload for s in segments if s.marker == APP0 and s.payload.startswith(b"JFIF\0")), b"")
    if len(jfif) >= 14 and (keep_transform or mode != "none"):
        density = b"\0\0\1\0\1" if mode == "none" else jfif[7:12]
        out.append(Segment(APP0, b"JFIF\0\1\1" + density + b"\0\0"))  # no thumbnail
    found = container.of_segments(segments)
    exif, notes = clean_exif(found, mode, thumbnail, MAX_BLOCK_BYTES)
    if exif is not None:
        out.append(Segment(APP1, _EXIF + exif))
    xmp = clean_xmp(found.xmp, mode, notes)
    if xmp is not None and len(xmp) + len(_XMP) <= _MAX_SEGMENT_BYTES:
        out.append(Segment(APP1, _XMP + xmp))
    profile = _icc_of_segments(segments)
    if profile is not None:
        cleaned = icc.clean_icc(profile, colour_space, notes)
        if cleaned is not None:
            step = _MAX_SEGMENT_BYTES - len(_ICC) - 2
            parts = [cleaned[at : at + step] for at in range(0, len(cleaned), step)]
            out += [Segment(APP2, _ICC + bytes((n, len(parts))) + part) for n, part in enumerate(parts, 1)]
    for segment in segments:
        if (
            keep_transform
            and segment.marker == APP14
            and segment.payload[:5] == b"Adobe"
            and len(segment.payload) >= 12
        ):
            out.append(Segment(APP14, b"Adobe\0\x64\0\0\0\0" + segment.payload[11:12]))
            break
    if mode == "all":
        out += [s for s in segments if s.marker == COM and _plain_text(s.payload)]
    return out, notes


def clean_chunks(
    chunks: Sequence[Chunk], mode: OutputMetadata, thumbnail: bytes | None, colour_space: bytes
) -> tuple[list[Chunk], list[str]]:
    """The chunks of the output that stand between IHDR and the picture.

    Args:
        chunks: those of the original.
        mode: what goes out.
        thumbnail: a JPEG of the anonymised picture for the EXIF block.
        colour_space: ``b"RGB "`` or ``b"GRAY"``, what the output's samples are; a profile of another space is dropped.

    Returns:
        The chunks, and what the log should know.
    """
    first = {chunk.kind: chunk.payload for chunk in reversed(chunks)}
    out = [
        Chunk(kind, first[kind])
        for kind, (form, largest) in _DISPLAY_CHUNKS.items()
        if len(first.get(kind, b"")) == struct.calcsize(form)
        and max(struct.unpack(form, first[kind])) <= largest
        and (kind != b"pHYs" or mode != "none")
    ]
    found = container.of_chunks(chunks)
    exif, notes = clean_exif(found, mode, thumbnail)
    if b"iCCP" in first:
        profile = png.inflated(first[b"iCCP"].partition(b"\0")[2][1:], icc.MAX_BYTES)
        cleaned = icc.clean_icc(profile, colour_space, notes) if profile is not None else None
        if cleaned is not None:
            out.insert(0, Chunk(b"iCCP", b"icc\0\0" + zlib.compress(cleaned)))
    if exif is not None:
        out.append(Chunk(b"eXIf", exif))
    xmp = clean_xmp(found.xmp, mode, notes)
    if xmp is not None:
        out.append(Chunk(b"iTXt", _PNG_XMP + b"\0\0\0\0" + xmp))
    if mode != "none" and len(first.get(b"tIME", b"")) == 7:
        out.append(Chunk(b"tIME", first[b"tIME"]))
    if mode == "all":
        out += [c for c in chunks if c.kind == b"tEXt" and _plain_text(c.payload.replace(b"\0", b" ", 1))]
    return out, notes


def clean_xmp(packets: Sequence[bytes], mode: OutputMetadata, notes: list[str]) -> bytes | None:
    """The XMP packet of the output, None where nothing of it goes out.

    Args:
        packets: the original's.
        mode: ``redacted`` keeps the GPano properties that a viewer needs, ``all`` every short text of the first packet;
            of one that is not well formed, the GPano properties.
        notes: where the reason goes when something is dropped.
    """
    if mode == "none" or not packets:
        return None
    if mode == "all":
        with contextlib.suppress(MalformedXmlError):
            return _short_texts(parse_xml(decode_xml(packets[0]).text))
    gpano = read_gpano(packets, notes)
    kept = {name: gpano[name] for name, form in _GPANO_VALUES.items() if re.fullmatch(form, gpano.get(name, ""))}
    if not kept:
        return None
    # Nothing has to be escaped: the patterns let neither quotes nor markup through.
    properties = "".join(f'\n    GPano:{name}="{value}"' for name, value in kept.items())
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n<x:xmpmeta xmlns:x="adobe:ns:meta/">\n'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\n'
        f'<rdf:Description rdf:about="" xmlns:GPano="{_GPANO}"{properties}/>\n'
        '</rdf:RDF>\n</x:xmpmeta>\n<?xpacket end="r"?>'
    ).encode()


def _short_texts(root: etree._Element) -> bytes:
    """The tree without whatever may hold a picture: its namespaces, long texts, coded data."""
    for element in list(root.iter()):
        for name, value in list(element.attrib.items()):
            if str(name).startswith(tuple("{" + n for n in _PICTURE_NAMESPACES)) or not _plain_text(
                str(value).encode()
            ):
                del element.attrib[name]
        parent = element.getparent()
        if str(element.tag).startswith(tuple("{" + n for n in _PICTURE_NAMESPACES)) and parent is not None:
            parent.remove(element)
            continue
        if element.text and not _plain_text(element.text.encode()):
            element.text = None
        element.tail = None
    return (
        b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        + etree.tostring(root)
        + b'<?xpacket end="r"?>'
    )


def _plain_text(data: bytes) -> bool:
    longest = max((len(word) for word in data.split()), default=0)
    return len(data) <= _LONGEST_TEXT and longest <= _LONGEST_WORD and is_text(data) and not contains_picture(data)


def _icc_of_segments(segments: Sequence[Segment]) -> bytes | None:
    """The profile from its numbered parts (ICC.1:2022, annex B.4)."""
    parts = {
        s.payload[len(_ICC)]: s.payload[len(_ICC) + 2 :]
        for s in reversed(segments)
        if s.marker == APP2 and s.payload.startswith(_ICC) and len(s.payload) > len(_ICC) + 2
    }
    return b"".join(parts[number] for number in sorted(parts)) if parts else None
