"""The colour profile of an output file, built from the numbers that say how its samples look.

Descriptions and copyrights carry names of people and devices, and a tag can hold anything whatever it is called. So the
texts are replaced, the header is written from scratch, and a tag goes out only if its value is what the tag promises.
"ICC.1" in the comments is ICC.1:2022, the profile specification.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from anonymise.images.exifwriter import contains_picture

__all__ = ["MAX_BYTES", "clean_icc"]

MAX_BYTES: Final = 1 << 20
"""Longest profile that is kept: those of displays and cameras have some kB; only printers' tables are larger."""

_HEADER_BYTES = 128
_CLASSES: Final = frozenset({b"mntr", b"scnr", b"spac", b"prtr"})
_D50 = struct.pack(">3I", 0xF6D6, 0x10000, 0xD32D)
_DATE = struct.pack(">6H", 2000, 1, 1, 0, 0, 0)
_COPYRIGHT = "not kept"

# Some programs know a space by its name.
_KNOWN_NAMES: Final = (
    "sRGB IEC61966-2.1",
    "sRGB built-in",
    "sRGB",
    "Adobe RGB (1998)",
    "Display P3",
    "ProPhoto RGB",
    "Rec. ITU-R BT.2020-1",
    "Dot Gain 20%",
    "Gray Gamma 2.2",
)
_OTHER_NAMES: Final[Mapping[bytes, str]] = MappingProxyType({b"RGB ": "RGB", b"GRAY": "Grey"})

_LARGEST = 16 * 65536  # of an XYZ value, a matrix element or a parameter of a curve, in s15Fixed16; text is larger
_PARAMETERS = (1, 3, 4, 5, 7)  # of each type of parametric curve (ICC.1, table 68)


def clean_icc(profile: bytes, colour_space: bytes, notes: list[str]) -> bytes | None:
    """The colour profile of the output, None where the original is no profile for these samples.

    Args:
        profile: an ICC profile, or what pretends to be one.
        colour_space: colour space of the samples, ``b"RGB "`` or ``b"GRAY"``.
        notes: where the reason goes when it is dropped.
    """
    tags: dict[bytes, bytes] = {}
    reason = ""
    if len(profile) < _HEADER_BYTES + 4 or profile[36:40] != b"acsp":
        reason = "it is none"
    elif int.from_bytes(profile[:4], "big") != len(profile) or len(profile) > MAX_BYTES:
        reason = "its length is wrong"
    elif profile[16:20] != colour_space or profile[12:16] not in _CLASSES or profile[20:24] not in (b"XYZ ", b"Lab "):
        reason = "it does not describe these samples"
    elif contains_picture(profile):
        reason = "it holds a picture"
    else:
        tags = _tags(profile)
        if not any(tags.keys() >= needed for needed in _SUFFICIENT[colour_space]):
            reason = "it has tables of a kind that is not read"
    if reason:
        notes.append(f"colour profile: left out, {reason}")
        return None
    is_v4 = profile[8] >= 4
    values = {kind: value for kind, check in _TAGS.items() if (value := check(tags.get(kind, b"")))}
    text = _localised if is_v4 else _description
    values[b"desc"] = text(_name(tags.get(b"desc", b""), colour_space))
    values[b"cprt"] = _localised(_COPYRIGHT) if is_v4 else b"text\0\0\0\0" + _COPYRIGHT.encode() + b"\0"
    return _assembled(profile, values)


def _tags(profile: bytes) -> dict[bytes, bytes]:
    """The tags whose values are what they promise, and the description."""
    tags: dict[bytes, bytes] = {}
    for number in range(min(int.from_bytes(profile[128:132], "big"), 100)):
        entry = profile[132 + 12 * number : 144 + 12 * number]
        at, size = int.from_bytes(entry[4:8], "big"), int.from_bytes(entry[8:12], "big")
        kind, value = entry[:4], profile[at : at + size]
        if len(value) == size and (kind == b"desc" or (kind in _TAGS and _TAGS[kind](value))):
            tags.setdefault(kind, value)
    return tags


# Values as they go out, without what may follow; nothing (b"") where the value is not what its tag promises.


def _xyz(value: bytes) -> bytes:
    return value[:20] if value.startswith(b"XYZ \0\0\0\0") and _are_small(value[8:20], 3) else b""


def _matrix(value: bytes) -> bytes:
    return value[:44] if value.startswith(b"sf32\0\0\0\0") and _are_small(value[8:44], 9) else b""


def _curve(value: bytes) -> bytes:
    """A curve that rises, by points or by parameters (ICC.1, 10.6 and 10.18)."""
    if value.startswith(b"para\0\0\0\0") and len(value) >= 12:
        kind = int.from_bytes(value[8:10], "big")
        count = _PARAMETERS[kind] if kind < len(_PARAMETERS) else 0
        return (
            value[:10] + b"\0\0" + value[12 : 12 + 4 * count] if _are_small(value[12 : 12 + 4 * count], count) else b""
        )
    if not value.startswith(b"curv\0\0\0\0") or len(value) < 12:
        return b""
    count = int.from_bytes(value[8:12], "big")
    end = 12 + 2 * count
    if end > len(value):
        return b""
    points = struct.unpack(f">{count}H", value[12:end])
    rises = (count == 1 and points[0] <= 16 << 8) or list(points) == sorted(points)
    return value[:end] if rises else b""


def _table(value: bytes) -> bytes:
    """A table of 8 or 16 bits (ICC.1, 10.10 and 10.11)."""
    if value[:8] not in (b"mft1\0\0\0\0", b"mft2\0\0\0\0") or len(value) < 52:
        return b""
    inputs, outputs, grid = value[8:11]
    if not (inputs in (1, 3) and outputs == 3 and grid >= 2 and _are_small(value[12:48], 9)):
        return b""
    if value[:4] == b"mft1":
        size = 48 + 256 * inputs + grid**inputs * outputs + 256 * outputs
    else:
        entries_in, entries_out = struct.unpack(">2H", value[48:52])
        size = 52 + 2 * (entries_in * inputs + grid**inputs * outputs + entries_out * outputs)
    return value[:11] + b"\0" + value[12:size] if size <= len(value) else b""


def _code_points(value: bytes) -> bytes:
    """Primaries, transfer function, matrix, range (ITU-T H.273)."""
    fits = len(value) >= 12 and value.startswith(b"cicp\0\0\0\0") and max(value[8:11]) <= 22 and value[11] <= 1
    return value[:12] if fits else b""


def _are_small(data: bytes, count: int) -> bool:
    return count > 0 and len(data) == 4 * count and all(abs(n) <= _LARGEST for n in struct.unpack(f">{count}i", data))


_TAGS: Final[Mapping[bytes, Callable[[bytes], bytes]]] = MappingProxyType(
    {
        **dict.fromkeys((b"rXYZ", b"gXYZ", b"bXYZ", b"wtpt"), _xyz),
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC", b"kTRC"), _curve),
        **dict.fromkeys((b"A2B0", b"A2B1", b"A2B2"), _table),
        b"chad": _matrix,
        b"cicp": _code_points,
    }
)
"""Tags that say how samples look, and what checks their values."""

_SUFFICIENT: Final[Mapping[bytes, Sequence[frozenset[bytes]]]] = MappingProxyType(
    {
        b"RGB ": (frozenset({b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC", b"gTRC", b"bTRC"}), frozenset({b"A2B0"})),
        b"GRAY": (frozenset({b"kTRC"}), frozenset({b"A2B0"})),
    }
)


def _name(value: bytes, colour_space: bytes) -> str:
    """The profile's description if it is one of the known ones, else the name of the colour space."""
    if value.startswith(b"mluc") and len(value) >= 28:
        size, at = struct.unpack(">2I", value[20:28])
        name = value[at : at + size].decode("utf-16-be", "replace")
    else:
        name = value[12:].split(b"\0", 1)[0].decode("latin-1")
    return name if name in _KNOWN_NAMES else _OTHER_NAMES[colour_space]


def _description(text: str) -> bytes:
    """A description as version 2 has it (ICC.1:2001, 6.5.17), without its forms in Unicode and for Macintosh."""
    ascii_text = text.encode("ascii") + b"\0"
    return b"desc\0\0\0\0" + struct.pack(">I", len(ascii_text)) + ascii_text + bytes(4 + 4 + 2 + 1 + 67)


def _localised(text: str) -> bytes:
    """A text as version 4 has it (ICC.1, 10.15)."""
    encoded = text.encode("utf-16-be")
    return b"mluc\0\0\0\0" + struct.pack(">2I", 1, 12) + b"enUS" + struct.pack(">2I", len(encoded), 28) + encoded


def _assembled(profile: bytes, values: Mapping[bytes, bytes]) -> bytes:
    """A profile of these values, with what counts of the original's header; equal values are stored once."""
    table, data, where = [], b"", dict[bytes, int]()
    start = _HEADER_BYTES + 4 + 12 * len(values)
    for kind, value in values.items():
        if value not in where:
            where[value] = start + len(data)
            data += value + b"\0" * (-len(value) % 4)
        table.append(kind + struct.pack(">II", where[value], len(value)))
    body = struct.pack(">I", len(values)) + b"".join(table) + data
    intent = struct.pack(">I", min(3, int.from_bytes(profile[64:68], "big")))
    # ICC.1, 7.2: size; no preferred software; version, class and spaces; date; signature; no platform, flags, device;
    # intent; illuminant; no creator and checksum; reserved.
    header = (
        struct.pack(">I", _HEADER_BYTES + len(body))
        + bytes(4)
        + profile[8:10]
        + bytes(2)
        + profile[12:24]
        + _DATE
        + b"acsp"
        + bytes(24)
        + intent
        + _D50
        + bytes(48)
    )
    return header + body
