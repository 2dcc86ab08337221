"""Positions that stand in a file next to the images, see ``metadata.sidecar``."""

from anonymise.metadata.evidence import POSITION, Evidence, Source, Texts, Vendor
from anonymise.metadata.metadata import Origin, parse_time
from anonymise.metadata.sources.path import FILE

__all__ = ["SIDECAR", "VENDOR"]

SIDECAR = Origin("position_sidecar")


def _position(evidence: Evidence) -> Texts | None:
    if evidence.sidecar is None:
        return None
    # Copying a file may change its date, so that date places nothing.
    has_time = "time" in evidence.values and evidence.origins["time"] != FILE
    taken = parse_time(evidence.values["time"]) if has_time else None
    found = evidence.sidecar.position(evidence.source.folders, evidence.source.name, taken)
    if found is None:
        reason = "" if has_time or not evidence.sidecar.segments else ": it does not say when it was taken"
        evidence.notes.append(f"position_sidecar has no position for the image{reason}")
        return None
    return found.texts()


VENDOR = Vendor({POSITION: (Source(SIDECAR, _position),)})
