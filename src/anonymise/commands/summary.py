"""What a run did, in lines for the operator."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from anonymise.core.plaintext import plural, printable

if TYPE_CHECKING:
    from pathlib import Path

    from anonymise.batch.outcomes import Report
    from anonymise.batch.shards import Shard

__all__ = ["duration", "shards_summary", "summary"]

_MAX_SUFFIXES = 12
"""Kinds of files that the summary names."""


def summary(report: "Report", notes: Mapping[str, int] = MappingProxyType({}), *, hides: bool = True) -> list[str]:
    """What a run did, for the operator, a line each.

    Args:
        report: report of the run.
        notes: what is worth knowing about images that succeeded, and the number of images that it is true of.
        hides: whether what was found was also hidden (``draw_mask``).
    """
    identified = report.n_done + report.n_skipped + len(report.failed) + (report.n_left or 0)
    rate = f", {report.n_done / report.seconds:.1f} images/s" if report.n_done else ""
    lines = [
        f"Folders with images: {report.n_folders}",
        f"Identified images:   {identified}",
        f"Skipped (finished):  {report.n_skipped}",
        f"Failed:              {len(report.failed)}",
        f"Done:                {report.n_done}",
        *([] if report.n_left == 0 else [f"Not done:            {report.n_left or 'unknown'}"]),
    ]
    if report.has_looked:
        found = ", ".join(f"{n} {name}" for name, n in report.objects.items()) or "nothing"
        lines.append(f"Found and hidden:    {found}" if hides else f"Found, NOT hidden:   {found} (draw_mask is False)")
    lines.append(f"Time:                {duration(report.seconds)}{rate}")
    if report.rows is not None:
        lines.append("Database rows:       " + ", ".join(f"{n} {what}" for what, n in report.rows.items()))
    if report.n_stale:
        lines.append(f"Corrections made for another picture of the same name, to be looked at: {report.n_stale} images")
    if report.n_passed_over:
        lines.append(f"Previews and masks in the input folder, passed over: {report.n_passed_over}")
    if report.left_out:
        counts = [f"{n} {suffix}" for suffix, n in report.left_out.items()]
        more = f" and {len(counts) - _MAX_SUFFIXES} more kinds" if len(counts) > _MAX_SUFFIXES else ""
        lines.append(f"Other files in the input folder, left out: {', '.join(counts[:_MAX_SUFFIXES])}{more}")
    lines += [f"NOTE ({plural(n, 'image')}): {note}" for note, n in notes.items() if n > 1]
    lines += [f"FAILED {failed.source} ({failed.stage}): {failed.reason}" for failed in report.failed]
    if not report.n_done and not report.failed and not report.interrupted and report.stopped is None:
        reason = "everything was finished before" if identified else "there is no image"
        lines.append(f"Nothing was written: {reason}.")
    if report.interrupted:
        lines.append("Interrupted; what is finished stays, and the same command goes on from here.")
    return [printable(line) for line in lines]


def shards_summary(output: "Path", shard: "Shard") -> list[str]:
    """What all shards of an output folder have done so far.

    Args:
        output: the output folder.
        shard: the one that this run did.
    """
    from anonymise.batch.journal import JournalReader, State
    from anonymise.batch.shards import shards_of
    from anonymise.core.errors import StorageError

    try:
        with JournalReader(output) as journal:
            counts = journal.counts()
    except StorageError as error:  # another run may be writing on a share without locks
        return [printable(f"All shards:          {error}")]
    states = f"{counts[State.FINISHED]} finished, {counts[State.FAILED]} failed, {counts[State.STARTED]} not finished"
    return [f"All shards:          {states}; {len(shards_of(output))} of {shard.count} shards have begun"]


def duration(seconds: float) -> str:
    """Seconds as hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
