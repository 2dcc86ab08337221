"""Runs over some images only: those that a list names, or whose corrections have changed."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePath

from anonymise.batch.journal import JournalReader, State, has_journal
from anonymise.batch.paths import Paths, Places
from anonymise.batch.walker import TreeWalker, WalkProblem, folded
from anonymise.config import FileOptions
from anonymise.core.errors import UsageError
from anonymise.core.sources import uncorrected
from anonymise.corrections.store import Store

__all__ = ["corrected_images", "image_at", "image_of", "names_in", "walker_over"]


def names_in(text: str, name: str) -> frozenset[str]:
    """The images that a list names.

    Args:
        text: paths below the input folder, one a line.
        name: name of the list, for messages.

    Raises:
        UsageError: a line is no such path.
    """
    chosen = set()
    for number, line in enumerate(text.splitlines(), start=1):
        path = PurePath(line.strip().replace("\\", "/"))
        if path.is_absolute() or path.anchor or ".." in path.parts:
            raise UsageError(f"{name}, line {number}: {line.strip()} is no path below the input folder")
        chosen |= {path.as_posix()} - {"."}
    return frozenset(chosen)


def corrected_images(output: Path, folder: str | None) -> frozenset[str]:
    """`Paths.key` of the finished images of an output folder whose corrections have changed since.

    Args:
        output: the output folder.
        folder: folder of the store (key ``corrections``); None has no corrections.

    Raises:
        UsageError: there is no store in the folder.
        StorageError: the journal or the store cannot be read.
    """
    if folder is None or not has_journal(output):
        return frozenset()
    with Store(Path(folder)) as store:
        digests = store.digests()
    with JournalReader(output) as journal:
        return frozenset(
            entry.relative
            for entry in journal.entries()
            if entry.source is not None
            and (entry.state is not State.FINISHED or digests.get(entry.relative, "") != _digest(entry.source))
            and (entry.relative in digests or _digest(entry.source))
        )


def _digest(fingerprint: str) -> str:
    """The digest of the corrections that are in a fingerprint."""
    return fingerprint.removeprefix(uncorrected(fingerprint)).rpartition(":")[2]


def image_of(relative: PurePath, places: Places) -> Paths:
    """An image of the input folder; where a run over some images has it in its archive only, that of the archive."""
    paths = Paths(relative, places)
    if places.only is None or places.archive is None or paths.source.exists():
        return paths
    original = places.archive / relative
    return Paths(relative, replace(places, input=places.archive, archive=None)) if original.is_file() else paths


def image_at(source: Path, places: Places) -> Paths:
    """The image with this input file, as `image_of` gave it."""
    if places.archive is not None and source.is_relative_to(places.archive):
        return image_of(source.relative_to(places.archive), places)
    return Paths(source.relative_to(places.input), places)


def walker_over(places: Places, options: FileOptions) -> TreeWalker:
    """Finds the images of a run: all of the input folder, or those that the run is about."""
    if (only := places.only) is None:
        return TreeWalker(places, options)
    if places.shard is not None:
        only = frozenset(filter(places.shard.has, only))
    return _ChosenWalker(places, options, only)


class _ChosenWalker(TreeWalker):
    """Finds some images. Folders without any of them are not entered."""

    def __init__(self, places: Places, options: FileOptions, only: frozenset[str]) -> None:
        super().__init__(places, options)
        self._only = only
        # Folders whose names differ in case only may be one folder in the output.
        parents = (parent for name in only for parent in PurePath(name).parents)
        self._folders = {folded(parent.as_posix()) for parent in parents}

    def walk(self) -> Iterator[Paths | WalkProblem]:
        """Each of the images, and what keeps any of them from being found."""
        missing = set(self._only)
        for found in super().walk():
            if isinstance(found, Paths):
                if found.key in missing:
                    missing.remove(found.key)
                    yield found
                continue
            key = found.path.relative_to(self.root).as_posix()
            concerned = {name for name in missing if key in (".", name) or name.startswith(key + "/")}
            if concerned:
                missing -= concerned
                yield found
        for key in sorted(missing):
            paths = image_of(PurePath(key), self._places)
            archive = "" if self._places.archive is None else f" nor in the archive {self._places.archive}"
            reason = f"no original: there is no such image in the input folder{archive}"
            is_there = paths.places is not self._places
            yield paths if is_there else WalkProblem(self.root / key, reason, hides_images=True)

    def _enters(self, folder: Path) -> bool:
        return folded(folder.relative_to(self.root).as_posix()) in self._folders
