"""The files of an image as the journal notes them ↔ where they stand; which of them a run may replace or remove."""

import contextlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

from anonymise.batch import storage
from anonymise.batch.journal import Entry, Identity, Written
from anonymise.batch.paths import ExpectedFile, Paths, all_files, expected_files
from anonymise.config import FileKind, FileOptions, Place

__all__ = ["input_content", "is_same_file", "is_same_input", "noted", "own_instances", "stray_files", "tracked_path"]


def noted(file: ExpectedFile) -> Written:
    """How the journal notes a file."""
    root = None if file.place is Place.REMOTE else str(file.root)
    return Written(file.place.value, file.kind.value, root)


def tracked_path(paths: Paths, file: Written) -> Path | None:
    """Where a file stands that the journal notes; None if it is out of reach, or no run may remove it."""
    place, kind = Place(file.place), FileKind(file.kind)
    if (kind, place) == (FileKind.IMAGE, Place.ARCHIVE):
        return None  # the original
    root = paths.places.root(place)
    if file.root is not None and file.root != str(root):
        # Another input folder or archive has runs of its own; a folder for previews or masks was this one's.
        root = Path(file.root) if place in (Place.PREVIEWS, Place.COLMAP) else None
    if root is None or not storage.is_root(root):
        return None
    path = paths.below(root, kind)
    return path if place is Place.LOCAL or not path.is_relative_to(paths.places.input) else None


def stray_files(paths: Paths, options: FileOptions, entry: Entry | None) -> Iterator[Path]:
    """The files of a finished image that are there and that the configuration does not ask for.

    In the input folder only what the journal says a run wrote, because everything else there is the operator's. Saved
    instances that somebody corrected are no strays.

    Args:
        paths: paths of the image.
        options: say which files it should have.
        entry: what the journal knows of it.
    """
    expected = expected_files(paths, options)
    found = {
        file.path: file.kind
        for file in all_files(paths)
        if file.place is not Place.LOCAL and (file.kind, file.place) != (FileKind.IMAGE, Place.ARCHIVE)
    }
    for file in () if entry is None else entry.written:
        if (path := tracked_path(paths, file)) is not None:
            found[path] = FileKind(file.kind)
    for path, kind in found.items():
        if not storage.is_written(path) or any(is_same_file(path, file.path) for file in expected):
            continue
        if (
            kind is FileKind.INSTANCES
            and entry is not None
            and storage.sha256_of(path) not in own_instances(paths, entry)
        ):
            continue
        yield path


def own_instances(paths: Paths, entry: Entry) -> Mapping[str, str]:
    """SHA-256 of each file of saved instances that runs wrote for an image → fingerprint of their source."""
    if entry.instances or entry.ended is None:
        return entry.instances
    # Earlier versions did not note the content; what is not younger than the image's entry is theirs.
    noted_kinds = {(file.place, file.kind) for file in entry.written}
    ended = datetime.fromisoformat(entry.ended).timestamp()
    return {
        storage.sha256_of(file.path): ""
        for file in all_files(paths)
        if file.kind is FileKind.INSTANCES
        and (file.place.value, file.kind.value) in noted_kinds
        and storage.is_written(file.path)
        and file.path.stat().st_mtime <= ended
    }


def input_content(sha256: str, time: int | None) -> str:
    """What an image's files depend on of its input, as the journal stores it.

    Args:
        sha256: of the input file.
        time: second of its last change, where the record holds that; else None.
    """
    return sha256 if time is None else f"{sha256} {time}"


def is_same_input(entry: Entry, source: Path, identity: Identity) -> bool:
    """Whether an input image is the one that an entry is of, though its time may be another; reads the file.

    Raises:
        OSError: the image cannot be read.
    """
    if entry.identity is None or entry.content is None or entry.identity.size != identity.size:
        return False
    has_time = " " in entry.content
    return entry.content == input_content(storage.sha256_of(source), identity.mtime_ns // 10**9 if has_time else None)


def is_same_file(path: Path, other: Path) -> bool:
    """Whether two paths are one file, be it by links or by another name of a folder."""
    with contextlib.suppress(OSError):
        return path == other or path.samefile(other)
    return False
