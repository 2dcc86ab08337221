"""One run per output folder: a lock file that names the run, and shows with its time that the run is alive.

Locks of the operating system would be simpler, but shares between machines honour them only sometimes; to make a file
that must not exist yet is atomic everywhere.
"""

import contextlib
import json
import logging
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

import psutil

from anonymise.batch.processes import machine_of, process_space, process_start
from anonymise.batch.shards import Shard, check_count, shards_of, state_folder
from anonymise.core.errors import StorageError, UsageError

__all__ = ["FOREIGN_STALE_SECONDS", "HEARTBEAT_SECONDS", "Holder", "RunLock", "lock_file", "read_holder", "run_lock"]

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 5.0
"""How often a run sets the time of its lock file."""

FOREIGN_STALE_SECONDS = 600.0
"""After this time without a heartbeat, the run of another machine is taken for gone: shares are not away for so long
(file_access_timeout_seconds)."""

_TRIES = 10
"""Between two of them somebody else got or gave back the lock; that happens once or twice, not ten times."""


@dataclass(frozen=True, slots=True)
class Holder:
    """The run that holds a lock.

    Attributes:
        host: name of the machine.
        process_space: tells the sets of processes apart in which a pid has a meaning.
        pid: its process id.
        process_start: when the process started, as its system counts: see `processes.process_start`.
        run_started: when the run started; ISO 8601 in UTC.
        token: a text that only this run has.
    """

    host: str
    process_space: str
    pid: int
    process_start: float
    run_started: str
    token: str

    @classmethod
    def this_run(cls) -> "Holder":
        """The holder that this process is; each call is another run."""
        return cls(
            host=socket.gethostname(),
            process_space=process_space(),
            pid=os.getpid(),
            process_start=process_start(os.getpid()),
            run_started=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            token=uuid.uuid4().hex,
        )

    @property
    def machine(self) -> str:
        """Tells machines apart, and the starts of their kernels; containers on one share it."""
        return machine_of(self.process_space)

    def is_running(self) -> bool | None:
        """Whether there is such a process on this machine, rather than none or another one with its pid.

        Returns:
            None where nobody can tell, because the system reckons the start of a process by a clock that may be set.
        """
        try:
            if psutil.Process(self.pid).status() == psutil.STATUS_ZOMBIE:  # whoever started it has not asked yet
                return False
            if process_start(self.pid) == self.process_start:
                return True
        except psutil.NoSuchProcess:
            return False
        except psutil.Error:
            return True
        return False if sys.platform == "linux" else None

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, started {self.run_started}"


class RunLock:
    """A lock that this run holds.

    Attributes:
        holder: this run.
    """

    def __init__(self, file: Path, holder: Holder, heartbeat_seconds: float) -> None:
        self.holder = holder
        self._file = file
        self._taken_by: Holder | None = None
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._beat, args=(heartbeat_seconds,), name="run lock", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Makes sure that no other run has taken the lock over, as when an operator took this one for dead.

        Raises:
            StorageError: one has.
        """
        if self._taken_by is not None:
            raise StorageError(
                f"Another run ({self._taken_by}) has taken the output folder over: its lock {self._file} replaced this "
                "run's. Two runs would overwrite each other's results."
            )

    def release(self) -> None:
        """Gives the lock back; a lock that is another's by now, or out of reach, stays as it is."""
        self._released.set()
        self._thread.join()
        if (holder := _read(self._file)) is not None and holder.token == self.holder.token:
            with contextlib.suppress(OSError):
                _patiently_unlink(self._file)

    def _beat(self, seconds: float) -> None:
        while not self._released.wait(seconds):
            # What cannot be done now, because the share is away, is done next time.
            with contextlib.suppress(OSError):
                holder = _read(self._file)
                if holder is not None and holder.token != self.holder.token:
                    self._taken_by = holder
                elif holder is not None:
                    os.utime(self._file)
                elif not self._file.exists():
                    _create(self._file, self.holder)


def lock_file(output: Path, shard: Shard | None = None) -> Path:
    """Where the lock of an output folder stands, or that of one of its shards."""
    return state_folder(output, shard) / "lock"


def read_holder(output: Path) -> Holder | None:
    """The run that holds the lock of an output folder, alive or not; None if there is none."""
    return _read(lock_file(output))


@contextlib.contextmanager
def run_lock(
    output: Path, shard: Shard | None = None, *, heartbeat_seconds: float = HEARTBEAT_SECONDS
) -> Iterator[RunLock]:
    """Holds the lock of an output folder, or of one of its shards.

    A run over the whole folder and those of shards exclude each other; shards of the same count do not.

    A lock whose process is gone is taken over: at once where it is certain that the process would be seen if it were
    there. Otherwise (another container, say) if no heartbeat comes while this function waits for two, and for the lock
    of another machine only if there was none for `FOREIGN_STALE_SECONDS` before.

    Args:
        output: the output folder, which exists.
        shard: the shard that the run does; None is the whole folder.
        heartbeat_seconds: how often this run sets the time of the lock file; the same for all runs.

    Raises:
        UsageError: another run holds it, or the folder is divided into another number of shards.
        StorageError: the lock file cannot be written.
    """
    file = lock_file(output, shard)
    holder = Holder.this_run()
    if shard is not None:
        check_count(output, shard)
    try:
        state_folder(output).mkdir(exist_ok=True)
        file.parent.mkdir(exist_ok=True)
        for _ in range(_TRIES):
            if _create(file, holder):
                break
            _clear_if_stale(file, output, heartbeat_seconds)
        else:
            raise StorageError(f"The lock {file} changes all the time; start one run after the other.")
    except OSError as error:
        raise StorageError(f"The lock {file} cannot be written: {error.strerror or error}") from error
    lock = RunLock(file, holder, heartbeat_seconds)
    try:
        _check_others(output, shard, heartbeat_seconds)
        yield lock
    finally:
        lock.release()
        if shard is not None:
            with contextlib.suppress(OSError):  # it holds a journal, unless this run was refused
                file.parent.rmdir()


def _check_others(output: Path, shard: Shard | None, heartbeat_seconds: float) -> None:
    """After a run has its lock: of two that start at the same time, at least one sees the other.

    Raises:
        UsageError: a run holds a lock that excludes this one.
    """
    if shard is not None:
        check_count(output, shard)
    for other in (None,) if shard is not None else shards_of(output):
        if (file := lock_file(output, other)).exists():
            _clear_if_stale(file, output, heartbeat_seconds)


def _clear_if_stale(file: Path, output: Path, heartbeat_seconds: float) -> None:
    """Removes a lock whose run is gone.

    Raises:
        UsageError: its run is not gone, or nobody can tell from here.
    """
    try:
        beat = file.stat().st_mtime_ns
    except FileNotFoundError:
        return
    holder = _read(file)
    if holder is not None:
        own_space = process_space()
        if holder.machine != machine_of(own_space) and holder.host != socket.gethostname():
            if (silence := _silence(file)) < FOREIGN_STALE_SECONDS:
                raise UsageError(_refusal(file, output, holder, wait=FOREIGN_STALE_SECONDS - silence))
        elif holder.process_space == own_space:
            is_running = holder.is_running()
            if is_running:
                raise UsageError(_refusal(file, output, holder))
            if is_running is False:
                _remove(file, holder)
                return
    # Unreadable, because it is being written or its writer was killed then; of another container, or another machine.
    if _beats(file, beat, 2 * heartbeat_seconds):
        if (holder := _read(file)) is not None:
            raise UsageError(_refusal(file, output, holder))
        return
    _remove(file, holder)


def _beats(file: Path, last: int, seconds: float) -> bool:
    """Whether somebody sets the time of the file, or removes it, within some seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(min(0.2, seconds / 4))
        try:
            if file.stat().st_mtime_ns != last:
                return True
        except FileNotFoundError:
            return True
    return False


def _silence(file: Path) -> float:
    """Seconds since the last heartbeat, both by the clock of the machine that has the disk."""
    now = file.with_name(f"lock-{uuid.uuid4().hex}")
    try:
        now.touch()
        return (now.stat().st_mtime_ns - file.stat().st_mtime_ns) / 1e9
    except FileNotFoundError:
        return 0.0
    finally:
        _patiently_unlink(now)


def _refusal(file: Path, output: Path, holder: Holder, wait: float | None = None) -> str:
    refusal = (
        f"Another run works on the output folder {output}: {holder}. Wait for it or stop it, or choose another output "
        "folder (-o)."
    )
    if wait is None:
        return refusal
    return (
        f"{refusal} It is on another machine. If it was killed there, the folder is free when it has given no sign of "
        f"life for {FOREIGN_STALE_SECONDS / 60:.0f} minutes, which is in {wait / 60:.0f} minutes; or delete {file} and "
        "start again."
    )


def _create(file: Path, holder: Holder) -> bool:
    """Makes the lock file; returns False if there is one."""
    try:
        descriptor = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except FileExistsError:
        return False
    except PermissionError:
        # Windows says so while a file by that name is being deleted.
        if file.exists():
            return False
        raise
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(json.dumps(asdict(holder), indent=2).encode("ascii"))
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException:
        with contextlib.suppress(OSError):
            file.unlink()
        raise
    return True


def _read(file: Path) -> Holder | None:
    try:
        return Holder(**json.loads(file.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def _remove(file: Path, stale: Holder | None) -> None:
    """Removes a stale lock, of several runs that try it in one only.

    To rename is atomic: exactly one gets the file. It may be the fresh lock of somebody who was faster, and then goes
    back; should a third have made a lock in that instant, one of the two notices at its next heartbeat.
    """
    aside = file.with_name(f"lock-{uuid.uuid4().hex}")
    try:
        file.rename(aside)
    except FileNotFoundError:
        return
    except PermissionError:  # on Windows, somebody is reading it
        time.sleep(0.05)
        return
    if _read(aside) == stale:
        log.warning("Took over the lock of a run that is gone (%s)", stale or "killed as it began")
        _patiently_unlink(aside)
        return
    try:
        aside.rename(file)
    except FileExistsError:
        _patiently_unlink(aside)


def _patiently_unlink(file: Path) -> None:
    """Removes a file that on Windows somebody may just be reading."""
    for _ in range(20):
        try:
            file.unlink(missing_ok=True)
        except PermissionError:
            time.sleep(0.05)
        else:
            return
    file.unlink(missing_ok=True)
