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
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from anonymise.core.errors import StorageError
from anonymise.core.plaintext import printable
from anonymise.service.engine import Engine, Refused

__all__ = ["Item", "Job", "Jobs", "Upload"]

log = logging.getLogger(__name__)

_SWEEP_SECONDS = 600.0
_MAX_IMAGES = 1000
_ID = re.compile("[0-9a-f]{32}")


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
        is_active: whether one of its images is in work.
    """

    id: str
    owner: str
    key: str
    created: float
    expires: float
    items: list[Item] = field(default_factory=list)
    n_bytes: int = 0
    is_active: bool = False

    def count(self, state: str) -> int:
        """Number of images in a state."""
        return sum(item.state == state for item in self.items)

    @property
    def state(self) -> str:
        """Word for how far it is: pending, active, completed or failed (none of its images succeeded)."""
        if self.count("pending"):
            return "active" if self.is_active or self.count("pending") < len(self.items) else "pending"
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
    """All jobs of a folder. For one event loop.

    Args:
        folder: of the jobs; nobody else may read it.
        engine: does the work.
        hours: how long results stay.
        max_bytes: of all jobs together.
        seconds: that one image may take.

    Raises:
        StorageError: the folder cannot be used.
    """

    def __init__(self, folder: Path, engine: Engine, *, hours: float, max_bytes: int, seconds: float) -> None:
        self._folder, self._engine = folder, engine
        self._hours, self._max_bytes, self._seconds = hours, max_bytes, seconds
        self._jobs: dict[str, Job] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if os.name == "posix":
                folder.chmod(0o700)
            for place in folder.iterdir():
                if _ID.fullmatch(place.name):  # what else is there is not ours to delete
                    self._load(place)
        except OSError as error:
            raise StorageError(f"{folder} cannot be used for jobs: {error.strerror or error}") from error

    def _load(self, place: Path) -> None:
        try:
            values = json.loads((place / "job.json").read_text("utf-8"))
            job = Job(**values | {"items": [Item(**item) for item in values["items"]], "is_active": False})
        except (OSError, ValueError, TypeError, KeyError):
            shutil.rmtree(place, ignore_errors=True)  # it was never accepted
            return
        self._jobs[job.id] = job
        for number, item in enumerate(job.items):
            if item.state != "pending":
                self._original(job, number).unlink(missing_ok=True)

    def start(self) -> None:
        """Goes on with what an earlier server left."""
        for job in self._jobs.values():
            self._begin(job)
        self._tasks[""] = asyncio.create_task(self._sweep())

    async def stop(self) -> None:
        """Stops after the images that are in work; the others wait on disk."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

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

    def known(self, key: str, owner: str) -> Job | None:
        """The job that an Idempotency-Key of its owner has made."""
        same = (job for job in self._jobs.values() if key and job.key == key and job.owner == owner)
        return next(same, None)

    def new(self, owner: str, key: str) -> "Upload":
        """A job whose images are still coming in."""
        now = time.time()
        job = Job(secrets.token_hex(16), owner, key, now, now + 3600 * self._hours)
        (self._folder / job.id / "in").mkdir(mode=0o700, parents=True)
        (self._folder / job.id / "out").mkdir(mode=0o700)
        return Upload(self, job, self._folder / job.id)

    async def delete(self, job: Job) -> None:
        """Takes a job back; its files are gone when this returns."""
        if (task := self._tasks.pop(job.id, None)) is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._jobs.pop(job.id, None)
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
                    packed.write(self.result(job, number), f"{number:04d}_{PurePosixPath(name).stem}.{item.suffix}")
                    yield stream.taken()
            packed.writestr("report.json", json.dumps(job.status() | {"images": [asdict(i) for i in job.items]}))
        yield stream.taken()

    def check_room(self, coming: int) -> None:
        """Looks whether there is room for more bytes.

        Raises:
            Refused: there is none.
        """
        if coming + sum(job.n_bytes for job in self._jobs.values()) > self._max_bytes:
            raise Refused(507, "There is no room for more jobs; delete some.")

    def accept(self, job: Job) -> None:
        """Begins a job that is complete on disk."""
        self._save(job)
        self._jobs[job.id] = job
        self._begin(job)

    def _original(self, job: Job, number: int) -> Path:
        return self._folder / job.id / "in" / str(number)

    def _save(self, job: Job) -> None:
        file = self._folder / job.id / "job.json"
        _write(file, json.dumps(asdict(job)).encode())

    async def _work(self, job: Job) -> None:
        for number, item in enumerate(job.items):
            if item.state == "pending":
                job.is_active = True
                try:
                    await self._one(job, number, item)
                except OSError as error:
                    log.error("job %s stops: %s", job.id, error.strerror)
                    return
                finally:
                    job.is_active = False

    async def _one(self, job: Job, number: int, item: Item) -> None:
        data = await asyncio.to_thread(self._original(job, number).read_bytes)
        while True:
            try:
                with self._engine.place():
                    done = await self._engine.anonymise(data, seconds=self._seconds)
            except Refused as error:
                if error.status == 503:
                    await asyncio.sleep(1)
                    continue
                item.state, item.reason = "failed", error.reason
            except Exception as error:  # noqa: BLE001 - one image must not end the job
                log.error("job %s: %s", job.id, type(error).__name__)
                item.state, item.reason = "failed", "Something went wrong here."
            else:
                suffix = {"jpeg": "jpg"}.get(done.kind, done.kind)
                target = self._folder / job.id / "out" / f"{number}.{suffix}"
                await asyncio.to_thread(_write, target, done.data)
                item.state, item.suffix, item.objects = "done", suffix, done.objects
                job.n_bytes += len(done.data)
            break
        await asyncio.to_thread(self._save, job)
        self._original(job, number).unlink(missing_ok=True)
        job.n_bytes -= len(data)


class Upload:
    """A job whose images are still coming in. Leaving it takes back what was not accepted."""

    def __init__(self, jobs: Jobs, job: Job, folder: Path) -> None:
        self._jobs, self._job, self._folder = jobs, job, folder
        self._file: io.FileIO | None = None
        self._is_accepted = False

    def __enter__(self) -> "Upload":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
        if not self._is_accepted:
            shutil.rmtree(self._folder, ignore_errors=True)

    def part(self, name: str, file_name: str) -> Callable[[bytes], None]:
        """What takes the bytes of a part of the request: an image, or nothing that is kept.

        Raises:
            Refused: there are too many images.
        """
        self._close()
        if name != "image":
            return lambda _: None
        if len(self._job.items) == _MAX_IMAGES:
            raise Refused(413, f"A job has at most {_MAX_IMAGES} images.")
        path = self._folder / "in" / str(len(self._job.items))
        self._file = io.FileIO(os.open(path, os.O_CREAT | os.O_WRONLY | getattr(os, "O_BINARY", 0), 0o600), "w")
        self._job.items.append(Item(file_name))
        return self._write

    def _write(self, data: bytes) -> None:
        assert self._file is not None
        self._jobs.check_room(self._job.n_bytes + len(data))
        self._file.write(data)
        self._job.n_bytes += len(data)

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def accept(self) -> Job:
        """Begins the job.

        Raises:
            Refused: it has no image.
        """
        self._close()
        if not self._job.items:
            raise Refused(400, "There is no image: the field image is missing.")
        self._jobs.accept(self._job)
        self._is_accepted = True
        return self._job


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


def _write(file: Path, data: bytes) -> None:
    """Puts a file in its place as a whole."""
    part = file.with_name(f"{file.name}.part")
    with part.open("wb") as opened:
        opened.write(data)
        opened.flush()
        os.fsync(opened.fileno())
    part.replace(file)


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")
