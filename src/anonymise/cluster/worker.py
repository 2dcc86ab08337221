"""What a worker process does. It reads originals and writes to staging folders, and touches nothing else."""

import contextlib
import hashlib
import os
import pickle
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import NamedTuple

import cv2
import numpy as np

from anonymise.anonymiser import model_source
from anonymise.batch.finishing import Finishing, Prepared
from anonymise.batch.journal import Identity
from anonymise.batch.loader import Loaded, Loader, LoaderOptions
from anonymise.batch.outcomes import Done, Outcome
from anonymise.batch.paths import ExpectedFile, Paths, Places, extended_length
from anonymise.batch.resume import Begun
from anonymise.batch.runner import Failure, Task, attempt
from anonymise.batch.sharing import PixelMemory
from anonymise.batch.storage import read_input, while_reachable
from anonymise.batch.tasks import ImageResult, Subject, outcome_of
from anonymise.batch.workers import SerialWorkers
from anonymise.config import Config, FileKind, Place
from anonymise.core.classes import LABELS
from anonymise.core.detections import Detections
from anonymise.core.errors import AnonymiseError, StopError, UnreadableImage, UsageError
from anonymise.core.sources import InputImage, Source
from anonymise.corrections.source import applied, stale_rows
from anonymise.corrections.store import Rows
from anonymise.images import check_kind, decode, header
from anonymise.metadata.record import read_sidecar
from anonymise.models import Masker
from anonymise.models.selftest import PICTURE
from anonymise.redaction.static import StaticMask

__all__ = ["Answer", "Item", "Joined", "Produced", "Setup", "anonymise", "join", "leave", "mapped", "program_version"]

TOKEN = "token"  # noqa: S105 - a name
"""File in a staging folder by which a worker sees that it is the leader's folder."""


NOT_JOINED = "its process was started again"
"""Trouble of a worker that only has to join again."""


def program_version() -> str:
    """The version of this program."""
    return version("anonymise")


_NO_ROWS = Rows()


@dataclass(frozen=True, slots=True)
class Setup:
    """What a worker needs to know of a run.

    Attributes:
        run: name of the run, and its secret: a worker that reads it in a staging folder is on the leader's disk.
        config: the configuration.
        is_windows: whether the leader's paths are those of Windows.
        roots: place → root folder, as the leader sees it; ``local`` is the input folder.
        staging: place → staging folder of the run, as the leader sees it; empty where bytes are sent instead.
        settings: fingerprint of the settings, with the content of files that they name.
        model: fingerprint of the model.
        load: loads the model.
    """

    run: str
    config: Config
    is_windows: bool
    roots: Mapping[Place, str]
    staging: Mapping[Place, str]
    settings: str
    model: str
    load: Callable[[Config], Masker]


class Joined(NamedTuple):
    """What a worker tells the leader when it joins.

    Attributes:
        host: name of its machine.
        runtimes: what runs the model.
        found: class and score of what the model finds in a reference picture.
        answers: staging place → name of a file that the worker wrote there.
        refusal: why the worker is of no use; None if it is.
    """

    host: str
    runtimes: str = ""
    found: tuple[tuple[str, float], ...] = ()
    answers: Mapping[Place, str] = {}
    refusal: str | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """An image that a worker is to do.

    Attributes:
        relative: path below the input folder, with ``/``.
        number: of the attempt among those of the run.
        identity: of the input image, as the leader saw it.
        corrections: corrections of the image.
    """

    relative: str
    number: int
    identity: Identity
    corrections: Rows = _NO_ROWS


class Produced(NamedTuple):
    """A file of an image, not yet in its place.

    Attributes:
        kind: what it is.
        place: the tree that it belongs to.
        n_bytes: size.
        sha256: of the content, in hexadecimal.
        staged: its name in the staging folder; None where it is in ``data``.
        data: the content; None where it is in the staging folder.
        mtime_ns: time of the last change that it gets in its place; None is when it was written.
    """

    kind: FileKind
    place: Place
    n_bytes: int
    sha256: str
    staged: str | None
    data: bytes | None
    mtime_ns: int | None


class Answer(NamedTuple):
    """What became of an image at a worker.

    Attributes:
        host: name of the machine.
        seconds: time that it took.
        outcome: what became of it; None where the worker is in trouble, which is not the image's fault.
        trouble: what is wrong with the worker.
        files: files of the image, in the order in which they are published.
        stale: ids of corrections that were made for another picture.
    """

    host: str
    seconds: float
    outcome: Outcome | None
    trouble: str = ""
    files: tuple[Produced, ...] = ()
    stale: tuple[str, ...] = ()


def mapped(path: str, paths: Mapping[str, str], *, is_windows: bool) -> str | None:
    """Where a folder of the leader is on a worker, by ``cluster_paths``; None if no key of it leads there.

    Args:
        path: of the folder, as the leader sees it.
        paths: folder of the leader → folder of the worker; the longest that fits counts.
        is_windows: whether the leader's paths are those of Windows.
    """
    here = PureWindowsPath if is_windows else PurePosixPath
    folder = extended_length(here(path))
    known = {extended_length(here(key)): there for key, there in paths.items()}
    fitting = [key for key in known if folder.is_relative_to(key)]
    if not fitting:
        return None
    key = max(fitting, key=lambda key: len(key.parts))
    there = known[key]
    kind = PureWindowsPath if "\\" in there or PureWindowsPath(there).drive else PurePosixPath
    return str(kind(there).joinpath(*folder.relative_to(key).parts))


class _Collected:
    """A writer that keeps files in memory."""

    def __init__(self) -> None:
        self.files: list[tuple[ExpectedFile, bytes, int | None]] = []

    def check(self, file: ExpectedFile, data: bytes, source: Path, own_instances: frozenset[str]) -> None:
        """Nothing: the leader looks what is there."""

    def write(self, file: ExpectedFile, data: bytes, source: Path, mtime_ns: int | None = None) -> None:  # noqa: ARG002
        self.files.append((file, data, mtime_ns))


class _Engine:
    """A run at this worker: the model and the folders. `join` makes it once in a process.

    Raises:
        AnonymiseError: this worker is of no use for the run.
    """

    def __init__(self, setup: Setup) -> None:
        self._config = config = setup.config
        self._setup = setup
        self._places = Places.elsewhere(setup.roots, is_windows=setup.is_windows)
        self.staging = {place: self._there(folder, setup.run) for place, folder in setup.staging.items()}
        self._input = self._there(setup.roots[Place.LOCAL])
        self._static = StaticMask.of_options(config.static_mask, config.images.max_decoded_pixels)
        sidecar = read_sidecar(config.record)
        contents = (None if file is None else file.fingerprint for file in (self._static, sidecar))
        if config.settings_fingerprint(*contents) != setup.settings:
            raise UsageError("files that the configuration names have another content there")
        masker = setup.load(config)
        self._model = model_source(masker, config)
        if self._model.fingerprint != setup.model:
            raise UsageError("its model is another")
        self.found = _found(masker)
        self._turn = threading.Lock()  # networks keep buffers of their own

    def _there(self, folder: str, token: str | None = None) -> Path:
        """A folder of the leader as it is here: by the same path, or by ``cluster_paths``."""
        cluster = self._config.cluster
        other = mapped(folder, cluster.cluster_paths, is_windows=self._setup.is_windows)
        for path in map(Path, filter(None, (folder, other))):
            with contextlib.suppress(OSError, UnicodeDecodeError):
                if cluster.cluster_transfer or (
                    path.is_dir() if token is None else (path / TOKEN).read_text("ascii") == token
                ):
                    return path
        raise UsageError(f"{folder} is not there, or is another folder there (key cluster_paths)")

    def answer(self, item: Item, data: bytes | None) -> Answer:
        """Does an image.

        Raises:
            StopError, OSError: this worker cannot go on.
        """
        started = time.perf_counter()
        collected = _Collected()
        stale: list[str] = []
        result = self._finished(Paths(PurePath(item.relative), self._places), item, data, collected, stale)
        if isinstance(result, Failure) and isinstance(result.error, StopError | OSError):
            raise result.error
        outcome = outcome_of(result)
        written = time.perf_counter()
        files: tuple[Produced, ...] = ()
        if isinstance(outcome, Done):
            files = tuple(self._produced(item, index, *file) for index, file in enumerate(collected.files))
            seconds = {"write": outcome.seconds.get("write", 0.0) + time.perf_counter() - written}
            outcome = replace(outcome, seconds={**outcome.seconds, **seconds})
        return Answer(socket.gethostname(), time.perf_counter() - started, outcome, files=files, stale=tuple(stale))

    def _finished(
        self, paths: Paths, item: Item, data: bytes | None, collected: _Collected, stale: list[str]
    ) -> ImageResult:
        config = self._config
        loading = LoaderOptions(config.storage, config.images.max_decoded_pixels, None)
        loader = Loader(loading, SerialWorkers(), PixelMemory(0))
        finishing = Finishing(config, loader, self._static, in_process=True, writer=collected)
        loaded = attempt(Subject(paths.source, "read"), partial(self._load, paths, item, data), attempts=1)
        if isinstance(loaded, Failure):
            return loaded
        find = partial(self._find, item.corrections, stale)
        begun = Begun(item.identity, Source("", find))
        task = finishing.found(Prepared(begun, loaded.value))
        return attempt(task.item, task.call, attempts=1) if isinstance(task, Task) else task

    def _load(self, paths: Paths, item: Item, data: bytes | None) -> Loaded:
        started = time.perf_counter()
        if data is None:
            data = read_input(self._input / item.relative, self._input, self._config.storage, check_kind)
        if len(data) != item.identity.size:
            raise UnreadableImage(
                f"the file has {len(data)} bytes, and had {item.identity.size} for the leader: it has changed, or the "
                "worker has another input folder"
            )
        check_kind(data[:4096])
        header(data, max_pixels=self._config.images.max_decoded_pixels)
        is_read = time.perf_counter()
        pixels = decode(data, max_pixels=self._config.images.max_decoded_pixels).pixels
        return Loaded(paths, data, pixels, {"read": is_read - started, "decode": time.perf_counter() - is_read})

    def _find(self, rows: Rows, stale: list[str], image: InputImage) -> Detections:
        with self._turn:
            found = self._model.of(image.name).find(image)
        if not rows.in_force:
            return found
        stale[:] = stale_rows(rows, image)
        return applied(found, rows, image, self._config.outlines)

    def _produced(self, item: Item, index: int, file: ExpectedFile, data: bytes, mtime_ns: int | None) -> Produced:
        sha256 = hashlib.sha256(data).hexdigest()
        if file.place not in self.staging:
            return Produced(file.kind, file.place, len(data), sha256, None, data, mtime_ns)
        # A name of its own also where the same attempt is made twice.
        name = f"{item.number}-{uuid.uuid4().hex[:8]}-{index}"
        self.write(file.place, name, data)
        return Produced(file.kind, file.place, len(data), sha256, name, None, mtime_ns)

    def write(self, place: Place, name: str, data: bytes) -> None:
        """Writes a file in a staging folder, which is not made: where it is gone, the run is over."""
        folder = self.staging[place]

        def write() -> None:
            with (folder / name).open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())

        while_reachable(write, folder.parents[2], self._config.storage)


def _found(masker: Masker) -> tuple[tuple[str, float], ...]:
    """Class and score of what a model finds in the reference picture."""
    picture = cv2.cvtColor(
        cv2.imdecode(np.frombuffer(PICTURE.read_bytes(), np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB
    )
    instances = [one for found in next(iter(masker.detect([picture]))) for one in found]
    return tuple(sorted((LABELS[one.label], -round(one.score, 4)) for one in instances))


_engines: dict[str, _Engine] = {}
_joining = threading.Lock()


def join(setup: bytes) -> Joined:
    """Makes this process ready for a run: checks that it is fit for it, and loads the model.

    Args:
        setup: a pickled `Setup`; it is opened only by the same version.
    """
    host = socket.gethostname()
    opened: Setup = pickle.loads(setup)  # noqa: S301 - from the leader, who can have anything called here
    with _joining:
        try:
            if opened.run not in _engines:
                _engines.clear()  # of earlier runs
                cv2.setNumThreads(1)  # the processes are the parallelism
                _engines[opened.run] = _Engine(opened)
            engine = _engines[opened.run]
            answers = {place: f"answer-{uuid.uuid4().hex}" for place in engine.staging}
            for place, name in answers.items():
                engine.write(place, name, opened.run.encode("ascii"))
        except (AnonymiseError, OSError) as error:
            _engines.pop(opened.run, None)
            return Joined(host, refusal=str(error))
    runtimes = "+".join(name for name in ("openvino", "tensorflow") if name in sys.modules)
    return Joined(host, runtimes, engine.found, answers)


def anonymise(run: str, item: Item, data: bytes | None = None) -> Answer:
    """Does one image, up to files in the staging folder.

    Args:
        run: name of the run.
        item: the image.
        data: its file; None reads it.
    """
    started = time.perf_counter()
    try:
        if (engine := _engines.get(run)) is None:
            return Answer(socket.gethostname(), 0.0, None, NOT_JOINED)
        return engine.answer(item, data)
    except (StopError, OSError) as error:
        return Answer(socket.gethostname(), time.perf_counter() - started, None, str(error))


def leave(run: str) -> None:
    """Forgets a run, and with it the model."""
    _engines.pop(run, None)
