"""Jobs of many images, in a folder of their own: originals until they are done, results until they expire.

``JOBS/<id>/job.json`` says how far a job is; ``in/<n>`` is an original that waits, ``out/<n>`` an anonymised image. A
server that was killed goes on with what waits. Originals are deleted once their result is in place.
"""

import asyncio
import io
import json
import logging
import os
import re
import secrets
import shutil
import sqlite3
import time
import zipfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from anonymise.batch.storage import clear_temporary_files, prepare_root, write_atomically
from anonymise.config import ServiceOptions, StorageOptions
from anonymise.core.errors import StorageError, WriteError
from anonymise.core.plaintext import printable
from anonymise.service.engine import Busy, Engine, Refused, whole

__all__ = ["Item", "Job", "Jobs"]

log = logging.getLogger(__name__)

_SWEEP_SECONDS = 600.0
_AGAIN_SECONDS = 1.0
_MAX_IMAGES = 1000
_MAX_STEM = 100
_ID = re.compile("[0-9a-f]{32}")

Sink = Callable[[str, str], Callable[[bytes], None]]
"""Name and file name of a part of a request → what takes its bytes."""


@dataclass(slots=True)
class Item:
    """An image of a job.

    Attributes:
        name: file name that the client gave.
        state: "pending", "done" or "failed".
        suffix: of the result.
        objects: class name → number of objects.
        reason: why it failed.
    """

    name: str
    state: str = "pending"
    suffix: str = ""
    objects: dict[str, int] = field(default_factory=dict)
    reason: str = ""


@dataclass(slots=True)
class Job:
    """Images of one request.

    Attributes:
        id: 128 random bits, as hexadecimal digits.
        owner: name of the token that may see it.
        key: the client's Idempotency-Key, or empty.
        created: seconds since 1970.
        expires: when everything of it is deleted.
        items: its images.
        n_bytes: bytes on disk.
    """

    id: str
    owner: str
    key: str
    created: float
    expires: float
    items: list[Item] = field(default_factory=list)
    n_bytes: int = 0

    def count(self, state: str) -> int:
        """Number of images in a state."""
        return sum(item.state == state for item in self.items)

    @property
    def state(self) -> str:
        """Word for how far it is: pending (nothing done yet), active, completed or failed (no image succeeded)."""
        if self.count("pending"):
            return "active" if self.count("pending") < len(self.items) else "pending"
        return "completed" if self.count("done") else "failed"

    def status(self) -> dict[str, object]:
        """What its owner is told."""
        total, pending = len(self.items), self.count("pending")
        return {
            "state": self.state,
            "progress": (total - pending) / total,
            "done": self.count("done"),
            "failed": self.count("failed"),
            "total": total,
            "created": _rfc3339(self.created),
            "expires": _rfc3339(self.expires),
            "failures": [
                {"name": item.name, "stage": "anonymise", "reason": item.reason}
                for item in self.items
                if item.state == "failed"
            ],
        }


class Jobs:
    """All jobs of a folder, which one server at a time uses. For one event loop.

    Args:
        folder: of the jobs; nobody else may read it.
        engine: does the work.
        options: say how many bytes images and jobs may have, how long an image may take, and how long results stay.
        storage: how long to wait for a folder out of reach.

    Raises:
        StorageError: the folder cannot be used.
    """

    def __init__(self, folder: Path, engine: Engine, options: ServiceOptions, storage: StorageOptions) -> None:
        self._folder, self._engine, self._options, self._storage = folder, engine, options, storage
        self._jobs: dict[str, Job] = {}
        self._coming: list[Job] = []
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._is_stopping = False
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if os.name == "posix":
                folder.chmod(0o700)
            prepare_root(folder)
            # SQLite locks a file on every system, and its lock ends with the process.
            self._lock = sqlite3.connect(folder / "lock", timeout=0, isolation_level=None)
            self._lock.execute("BEGIN EXCLUSIVE")
            clear_temporary_files([folder])
            for place in folder.iterdir():
                if _ID.fullmatch(place.name):  # anything else there is not ours
                    self._load(place)
        except OSError as error:
            raise StorageError(f"{folder} cannot be used for jobs: {error.strerror or error}") from error
        except sqlite3.OperationalError as error:
            raise StorageError(f"{folder} is in use by another server: give each its own jobs directory") from error

    def _load(self, place: Path) -> None:
        try:
            values = json.loads((place / "job.json").read_text("utf-8"))
            job = Job(**values | {"id": place.name, "items": [Item(**item) for item in values["items"]]})
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            shutil.rmtree(place, ignore_errors=True)  # it was never accepted
            return
        self._jobs[job.id] = job
        for number, item in enumerate(job.items):
            if item.state != "pending":
                self._original(job, number).unlink(missing_ok=True)
        job.n_bytes = sum(file.stat().st_size for file in place.rglob("*") if file.is_file())

    def start(self) -> None:
        """Goes on with what an earlier server left."""
        for job in self._jobs.values():
            self._begin(job)
        self._tasks[""] = asyncio.create_task(self._sweep())

    def pause(self) -> None:
        """Begins no further image; the others wait on disk."""
        self._is_stopping = True

    async def stop(self) -> None:
        """Stops after the files that are being written."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._lock.close()

    def _begin(self, job: Job) -> None:
        if job.count("pending"):
            self._tasks[job.id] = asyncio.create_task(self._work(job))

    async def _sweep(self) -> None:
        while True:
            for job in [job for job in self._jobs.values() if job.expires < time.time()]:
                await self.delete(job)
            await asyncio.sleep(_SWEEP_SECONDS)

    def of(self, id_: str, owner: str) -> Job:
        """A job of its owner.

        Raises:
            Refused: there is no such job, or it is somebody else's.
        """
        job = self._jobs.get(id_)
        if job is None or job.owner != owner:
            raise Refused(404, "There is no such job.")
        return job

    def _known(self, key: str, owner: str) -> Job | None:
        same = (job for job in self._jobs.values() if key and job.key == key and job.owner == owner)
        return next(same, None)

    async def take(self, owner: str, key: str, read: Callable[[Sink], Awaitable[object]]) -> tuple[Job, bool]:
        """The job of a request, and whether it is new: the same Idempotency-Key of an owner makes one job only.

        Args:
            owner: name of the token.
            key: the Idempotency-Key, or empty.
            read: gives the parts of the request to what it is called with.

        Raises:
            Refused: there is no image, there are too many or too large ones, or no room.
        """
        if (same := self._known(key, owner)) is not None:
            return same, False
        now = time.time()
        job = Job(secrets.token_hex(16), owner, key, now, now + 3600 * self._options.service_jobs_hours)
        self._coming.append(job)
        try:
            for name in ("in", "out"):
                (self._folder / job.id / name).mkdir(mode=0o700, parents=True)
            with ExitStack() as opened:
                await read(partial(self._part, job, opened))
            if not job.items:
                raise Refused(400, "There is no image: the field image is missing.")
            if (same := self._known(key, owner)) is not None:  # the same request was sent twice at once
                return same, False
            self._save(job)
            self._jobs[job.id] = job
        except (OSError, StorageError, WriteError) as error:
            log.error("job %s cannot be stored: %s", job.id, type(error).__name__)
            raise Refused(507, "The images cannot be stored now; send them again later.") from error
        finally:
            self._coming.remove(job)
            if job.id not in self._jobs:
                shutil.rmtree(self._folder / job.id, ignore_errors=True)
        self._begin(job)
        return job, True

    def _part(self, job: Job, opened: ExitStack, name: str, file_name: str) -> Callable[[bytes], None]:
        """What takes the bytes of a part of the request: an image, or nothing that is kept.

        Args:
            job: of the request.
            opened: has the file of the part before, and gets that of this one.
            name: of the part.
            file_name: that the client gave.
        """
        opened.close()
        if name != "image":
            return lambda _: None
        if len(job.items) == _MAX_IMAGES:
            raise Refused(413, f"A job has at most {_MAX_IMAGES} images.")
        file, limit = self._original(job, len(job.items)), self._options.service_max_bytes
        file.touch(mode=0o600)
        stream = opened.enter_context(file.open("ab"))
        job.items.append(Item(file_name))

        def write(data: bytes) -> None:
            if stream.tell() + len(data) > limit:
                raise Refused(413, f"An image has more than {limit} bytes.")
            job.n_bytes += len(data)
            if sum(other.n_bytes for other in (*self._jobs.values(), *self._coming)) > self._options.service_jobs_bytes:
                raise Refused(507, "There is no room for more jobs; delete some.")
            stream.write(data)

        return write

    async def delete(self, job: Job) -> None:
        """Takes a job back; its files are gone when this returns."""
        if (task := self._tasks.pop(job.id, None)) is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._jobs.pop(job.id, None)
        # First what makes it a job: a server that is killed now deletes the rest when it starts again.
        (self._folder / job.id / "job.json").unlink(missing_ok=True)
        await asyncio.to_thread(shutil.rmtree, self._folder / job.id, ignore_errors=True)

    def result(self, job: Job, number: int) -> Path:
        """File of an anonymised image.

        Raises:
            Refused: there is no such image, or it is not done, or has failed.
        """
        if not 0 <= number < len(job.items):
            raise Refused(404, "The job has no such image.")
        item = job.items[number]
        if item.state == "pending":
            raise Refused(409, "The image is not done yet.")
        if item.state == "failed":
            raise Refused(422, item.reason)
        return self._folder / job.id / "out" / f"{number}.{item.suffix}"

    def archive(self, job: Job) -> Iterator[bytes]:
        """A ZIP file of all that succeeded and ``report.json``, piece by piece."""
        stream = _Stream()
        with zipfile.ZipFile(cast(IO[bytes], stream), "w", zipfile.ZIP_STORED) as packed:
            for number, item in enumerate(job.items):
                if item.state == "done":
                    name = PurePosixPath(printable(item.name.replace("\\", "/"))).name or "image"
                    packed.write(
                        self.result(job, number), f"{number:04d}_{PurePosixPath(name).stem[:_MAX_STEM]}.{item.suffix}"
                    )
                    yield stream.taken()
            packed.writestr("report.json", json.dumps(job.status() | {"images": [asdict(i) for i in job.items]}))
        yield stream.taken()

    def _original(self, job: Job, number: int) -> Path:
        return self._folder / job.id / "in" / str(number)

    def _save(self, job: Job) -> None:
        self._write(self._folder / job.id / "job.json", json.dumps(asdict(job)).encode())

    def _write(self, file: Path, data: bytes) -> None:
        write_atomically(file, data, self._folder, self._storage)

    async def _work(self, job: Job) -> None:
        for number, item in enumerate(job.items):
            while item.state == "pending" and not self._is_stopping:
                try:
                    await self._one(job, number, item)
                except (Busy, OSError, StorageError, WriteError) as error:
                    if not isinstance(error, Busy):  # the disk is full, say
                        log.error("job %s waits: %s", job.id, type(error).__name__)
                    await asyncio.sleep(_AGAIN_SECONDS)

    async def _one(self, job: Job, number: int, item: Item) -> None:
        """Anonymises an image; if its result cannot be stored, it is still pending."""
        data, suffix, n_bytes = b"", "", 0
        try:
            data = await whole(asyncio.to_thread(self._original(job, number).read_bytes))
            with self._engine.place():
                done = await self._engine.anonymise(data, seconds=self._options.request_seconds)
        except (Busy, StorageError):
            raise
        except FileNotFoundError:
            state, item.reason = "failed", "The image is no longer here."
        except Refused as error:
            state, item.reason = "failed", error.reason
        except Exception as error:  # noqa: BLE001 - one image must not end the job
            log.error("job %s: %s", job.id, type(error).__name__)
            state, item.reason = "failed", "Something went wrong here."
        else:
            state, suffix, n_bytes = "done", done.suffix, len(done.data)
            item.objects = done.objects
            target = self._folder / job.id / "out" / f"{number}.{suffix}"
            await whole(asyncio.to_thread(self._write, target, done.data))
        item.state, item.suffix = state, suffix
        try:
            await whole(asyncio.to_thread(self._save, job))
        except (StorageError, WriteError):
            item.state = "pending"
            raise
        self._original(job, number).unlink(missing_ok=True)
        job.n_bytes += n_bytes - len(data)


class _Stream(io.RawIOBase):
    """A file that cannot be gone back in, whose content is taken piece by piece."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def taken(self) -> bytes:
        """What was written since the last time."""
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")
