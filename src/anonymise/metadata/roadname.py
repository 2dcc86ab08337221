"""What the standardised names of road images and their folders tell.

``Fy06_Ev134_hp05_f1_m03173.jpg``, ``EV00006_S58D1_m01024_KD2_m00012_f1.jpg``, ``06_Ev134/Hp05_Damåsen/F1_2018_06_21``.
The same patterns read the short texts of the recorder's XML (``FV013``, ``FV13 S1D1 m14``).
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from anonymise.metadata.metadata import iso_time

__all__ = [
    "Junction",
    "Road",
    "Strekning",
    "county",
    "hp",
    "junction",
    "lane",
    "meter",
    "plain_number",
    "reference_folders",
    "road",
    "split_path",
    "strekning",
    "time",
    "without_lane",
]

_COUNTIES = frozenset({*range(1, 21), 50} - {13})
"""Norwegian counties as the folders number them: 01 to 20 (13 was merged into 12 in 1972), and 50."""

# ``(?<![^\W_])`` is a word boundary for which ``_`` is a separator. ``[0-9]``, since \d takes any script's digits.
# Categories and statuses of a road are those of the Norwegian road database. No two neighbouring parts of a pattern
# can take the same character, so that no text makes them try again and again; leading zeros go afterwards.
_ROAD = re.compile(r"(?<![^\W_])([ERFKPSerfkps])([SHWAPEBUQVXMTGshwapebuqvxmtg])([0-9]+)")
_STREKNING = re.compile(r"(?<![^\W_])S([0-9]+)D([0-9]+)", re.IGNORECASE)
_JUNCTION = re.compile(r"(?<![^\W_])S[0-9]+D[0-9]+_m([0-9]+)_([KASkas])D([0-9]+)", re.IGNORECASE)
_HP = re.compile(r"(?<![^\W_])hp([0-9]+)", re.IGNORECASE)
_METER = re.compile(r"(?<![^\W_])m([0-9]+)(?![^\W_])", re.IGNORECASE)
_KILOMETER = re.compile(r"(?<![^\W_])km([0-9]+)[_,.]([0-9]{3})(?![0-9])", re.IGNORECASE)
_LANE = re.compile(r"(?<![^\W_])f([0-9]+)([^\W\d_]*)(?![^\W_])", re.IGNORECASE)
_TIME = re.compile(
    r"(?<![0-9])((?:19|20)[0-9]{2})([-_.]?)([0-9]{2})\2([0-9]{2})[-_.T ]?"
    r"([0-9]{2})([-_.]?)([0-9]{2})\6([0-9]{2})(?:\.?([0-9]{3}))?(?![0-9])"
)
_COUNTY = re.compile(r"([0-9][0-9])(?![0-9])")
_LANE_FOLDER = re.compile(r"f[0-9]+[^\W\d_]*(?![^\W_])", re.IGNORECASE)


class Road(NamedTuple):
    """Category, status and number of a road, each as a text: ``E``, ``V``, ``134``."""

    category: str
    status: str
    number: str


class Strekning(NamedTuple):
    """Numbers of strekning and delstrekning (section and part of section)."""

    strekning: str
    delstrekning: str


class Junction(NamedTuple):
    """A place next to the road's own line: its anchor point, and either a part of a junction or of a side facility."""

    ankerpunkt: str
    kryssdel: str | None
    sideanleggsdel: str | None


def plain_number(digits: str) -> str:
    """Digits without leading zeros."""
    return digits.lstrip("0") or "0"


def split_path(path: str) -> tuple[tuple[str, ...], str]:
    r"""Folders and file name of a path that a recorder wrote, with ``\`` or ``/`` whatever system this is."""
    *folders, name = re.split(r"[\\/]+", path.strip())
    return tuple(folders), name


def road(text: str) -> Road | None:
    """The first road in a text: ``EV134``, ``FV013``, ``Fy06_Ev134_hp05``."""
    found = _ROAD.search(text)
    return Road(found[1].upper(), found[2].upper(), plain_number(found[3])) if found else None


def strekning(text: str) -> Strekning | None:
    """The first ``S<n>D<n>`` in a text."""
    found = _STREKNING.search(text)
    return Strekning(plain_number(found[1]), plain_number(found[2])) if found else None


def junction(name: str) -> Junction | None:
    """``_S<n>D<n>_m<anchor>_KD<n>`` in a file name; ``AD`` or ``SD`` for a side facility."""
    found = _JUNCTION.search(name)
    if not found:
        return None
    anchor, part = plain_number(found[1]), plain_number(found[3])
    return Junction(anchor, part, None) if found[2] in "Kk" else Junction(anchor, None, part)


def hp(name: str) -> str | None:
    """The number of the older HP (hovedparsell, main section) in a file name."""
    found = _HP.search(name)
    return plain_number(found[1]) if found else None


def meter(name: str) -> str | None:
    """Whole meters in a file name: the last ``m<n>`` (before it stands the anchor point), else ``km12,345``."""
    found = _METER.findall(name)
    if found:
        return plain_number(found[-1])
    kilometer = _KILOMETER.search(name)
    return plain_number(kilometer[1] + kilometer[2]) if kilometer else None


def lane(name: str) -> str | None:
    """The lane code in a file name: ``1`` from ``f1_m03173.jpg``, ``5K`` from ``_f5K``."""
    found = _LANE.search(name)
    return plain_number(found[1]) + found[2] if found else None


def time(name: str) -> str | None:
    """The first date with time in a file name, as cameras number their images: ``20210504_101112``, ISO 8601.

    Returns:
        ``YYYY-MM-DDTHH:MM:SS`` with milliseconds where they follow; None where there is no such time.
    """
    found = _TIME.search(name)
    if not found:
        return None
    year, _, month, day, hour, _, minute, second, milliseconds = found.groups()
    fraction = f".{milliseconds}" if milliseconds else ""
    return iso_time(f"{year}-{month}-{day}T{hour}:{minute}:{second}{fraction}")


def without_lane(stem: str) -> str:
    """A file name without extension and without its lane code; a name that is nothing else stays."""
    found = _LANE.search(stem)
    if not found:
        return stem
    before, after = stem[: found.start()], stem[found.end() :]
    rest = before.removesuffix("_") + after if before.endswith("_") else before + after.removeprefix("_")
    return rest or stem


def county(folders: Sequence[str]) -> str | None:
    """The county number with which a folder starts; of several, the one nearest to the image."""
    for folder in reversed(folders):
        found = _COUNTY.match(folder)
        if found and int(found[1]) in _COUNTIES:
            return str(int(found[1]))
    return None


def reference_folders(folders: Sequence[str]) -> str | None:
    """The two folders above the lane folder, with ``/``: ``06_Ev134/Hp05_Damåsen``."""
    for index in range(len(folders) - 1, 1, -1):
        if _LANE_FOLDER.match(folders[index]):
            return "/".join(folders[index - 2 : index])
    return None
