"""Decides, before an image is read, whether it is finished or to be done again, and makes room for its new files."""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from anonymise.batch import storage
from anonymise.batch.journal import SAVED, Entry, Identity, Journal, Written
from anonymise.batch.paths import Paths, all_files, expected_files
from anonymise.batch.tracked import is_same_file, is_same_input, noted, own_instances, tracked_path
from anonymise.config import FileKind, FileOptions
from anonymise.core.errors import InstancesError, WriteError
from anonymise.core.resources import command_line
from anonymise.core.sources import DetectionSource, Source

__all__ = ["Begun", "ResumeDecision", "Resumption"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Begun:
    """An image on which work begins.

    Attributes:
        identity: what tells the input image from one that is changed.
        source: what says what must be hidden in it.
        instances: SHA-256 of each file of saved instances that runs wrote for it → fingerprint of their source.
        stays: files of earlier runs that are not for this run to remove.
    """

    identity: Identity
    source: Source
    instances: Mapping[str, str] = field(default_factory=dict)
    stays: tuple[Written, ...] = ()


ResumeDecision = Begun | None
"""What is to be done with an image; None for one that is finished, with all its files there."""


class Resumption:
    """Decides about each image from what the journal knows and what is on the disk.

    A finished image's files are exactly those expected: what an earlier run wrote and this one does not expect is
    removed.

    Args:
        journal: journal of the output folder.
        detections: say what must be hidden in an image.
        files: which files an image has.
        force: whether finished images are done again (``force_remask``).
    """

    def __init__(self, journal: Journal, detections: DetectionSource, files: FileOptions, *, force: bool) -> None:
        self._journal = journal
        self._detections = detections
        self._files = files
        self._force = force
        self._refused: set[Path] = set()

    def decide(self, paths: Paths) -> ResumeDecision:
        """The decision about one image.

        Raises:
            OSError: the input image cannot be looked at.
            InstancesError: its saved instances cannot be read, or a model would undo its corrections.
            WriteError: a file of an earlier run that is to go cannot be removed.
        """
        identity = Identity.of(paths.source.stat())
        source = self._detections.of(paths.key)
        if source.saved is not None and (entry := self._journal.entry(paths.key)) is not None:
            # What a model found, as a run saved it, counts as found by the model.
            known = entry.instances.get(source.saved, source.fingerprint)
            source = replace(source, fingerprint=source.known_as(known))
        if not self._force and self._is_finished(paths, identity, source):
            earlier, stays = self._journal.written(paths.key), self._tidied(paths, source, None)
            now = {*map(noted, expected_files(paths, self._files)), *stays}
            if earlier is not None and now != set(earlier):
                self._journal.wrote(paths.key, tuple(now))
            return None
        entry = self._journal.entry(paths.key)
        if source.saved is None:
            self._keep_corrections(paths, entry)
        stays = self._tidied(paths, source, entry)
        return Begun(identity, source, {} if entry is None else own_instances(paths, entry), stays)

    def was_refused(self, paths: Paths) -> bool:
        """Whether the last decision about an image kept its corrections, so that the journal's entry stays true."""
        return paths.source in self._refused

    def _is_finished(self, paths: Paths, identity: Identity, source: Source) -> bool:
        """Whether all files of an image are there, made with these settings and detections, or with corrections."""
        fingerprints = [source.fingerprint]
        if source.saved is None and (corrections := self._journal.corrected(paths.key)) is not None:
            fingerprints.append(source.known_as(corrections))
        is_known = any(self._journal.finished(paths.key, identity, fingerprint) for fingerprint in fingerprints)
        if not is_known and self._journal.may_be_finished(paths.key):
            # The same picture with another time, such as its copy in the archive.
            entry = self._journal.entry(paths.key)
            is_known = (
                entry is not None and entry.source in fingerprints and is_same_input(entry, paths.source, identity)
            )
            if is_known and entry is not None and entry.source is not None:
                self._journal.seen(paths.key, identity, entry.source)
        return is_known and all(storage.is_written(file.path) for file in expected_files(paths, self._files))

    def _keep_corrections(self, paths: Paths, entry: Entry | None) -> None:
        """Makes sure that no model undoes what somebody corrected.

        Raises:
            InstancesError: it would.
        """
        if entry is None or not entry.is_corrected:
            return
        own = {sha256 for sha256, source in entry.instances.items() if not source.startswith(SAVED)}
        saved = (file.path for file in all_files(paths) if file.kind is FileKind.INSTANCES)
        corrections = [path for path in saved if storage.is_written(path) and storage.sha256_of(path) not in own]
        if corrections or not self._force:
            self._refused.add(paths.source)
            where = f", which {corrections[0]} holds" if corrections else ""
            move = f"move {corrections[0].name} away and " if corrections else ""
            raise InstancesError(
                f"it was finished with corrected instances{where}; what a model finds would undo them. Draw them with "
                f"this configuration: {command_line('redraw')}. To give them up, {move}set force_remask: True"
            )

    def _tidied(self, paths: Paths, source: Source, entry: Entry | None) -> tuple[Written, ...]:
        """Removes the files of earlier runs that this run does not expect; gives those that are not for it to remove.

        Raises:
            WriteError: a file cannot be removed.
        """
        earlier = self._journal.written(paths.key)
        if earlier is None:
            return ()
        expected = expected_files(paths, self._files)
        stays = []
        for file in set(earlier).difference(map(noted, expected)):
            path = tracked_path(paths, file)
            if path is not None and file.kind == FileKind.INSTANCES.value:
                entry = entry or self._journal.entry(paths.key)
                is_own = (
                    entry is not None
                    and storage.is_written(path)
                    and storage.sha256_of(path) in own_instances(paths, entry)
                )
                path = path if is_own and source.saved is None else None
            if path is None:
                stays.append(file)
            elif os.path.lexists(path) and not any(is_same_file(path, other.path) for other in expected):
                try:
                    path.unlink()
                except OSError as error:
                    reason = error.strerror or error
                    raise WriteError(f"{path}, of an earlier run, is to go and cannot be removed: {reason}") from error
                log.info("%s: removed, because the configuration no longer asks for it", path)
        return tuple(stays)
