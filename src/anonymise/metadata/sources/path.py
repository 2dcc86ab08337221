"""The image's own path: what the names of the file and its folders tell, and the date of the file."""

from collections.abc import Callable
from datetime import timezone

from anonymise.metadata import roadname
from anonymise.metadata.evidence import JUNCTION, ROAD, STREKNING, Evidence, Source, Texts, Vendor
from anonymise.metadata.metadata import Origin

__all__ = ["FILE", "NAME", "VENDOR"]

NAME = Origin("name")
FILE = Origin("file")


def _own_name(convert: Callable[[str], str | Texts | None]) -> tuple[Source]:
    """What the file name tells, without its suffix."""
    return (Source(NAME, lambda evidence: convert(evidence.source.name.rpartition(".")[0] or evidence.source.name)),)


def _folders(convert: Callable[[tuple[str, ...]], str | None]) -> tuple[Source]:
    return (Source(NAME, lambda evidence: convert(evidence.source.folders)),)


def _road(evidence: Evidence) -> Texts | None:
    places = (evidence.source.name, *reversed(evidence.source.folders))
    return next((road for road in map(roadname.road, places) if road), None)


def _file_time(evidence: Evidence) -> str | None:
    modified = evidence.source.modified
    if modified is None:
        return None
    evidence.notes.append("the image says nowhere when it was taken: the date of its file stands for it")
    if modified.tzinfo is not None:
        modified = modified.astimezone(timezone.utc).replace(tzinfo=None)
    # File systems keep different fractions of a second.
    return modified.isoformat(timespec="seconds")


VENDOR = Vendor(
    {
        ("time",): (*_own_name(roadname.time), Source(FILE, _file_time)),
        ("county",): _folders(roadname.county),
        ROAD: (Source(NAME, _road),),
        ("hp",): _own_name(roadname.hp),
        STREKNING: _own_name(roadname.strekning),
        JUNCTION: _own_name(roadname.junction),
        ("meter",): _own_name(roadname.meter),
        ("lane",): _own_name(roadname.lane),
        ("folder",): _folders(lambda folders: "/".join(folders) or None),
        ("file_name",): (Source(NAME, lambda evidence: evidence.source.name or None),),
        ("strekning_folders",): _folders(roadname.reference_folders),
    }
)
