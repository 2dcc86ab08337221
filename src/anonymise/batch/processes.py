"""Which process something belongs to, as a short text, and whether that process still runs."""

import contextlib
import functools
import hashlib
import os
import socket
import sys
import uuid
from pathlib import Path

import psutil

__all__ = ["is_running", "machine_of", "process_name", "process_space", "process_start"]


def process_space() -> str:
    """Tells the sets of processes apart in which a pid has a meaning: by machine, and by container where there are."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            # A new one at each start of the kernel; container runtimes share the first, but not the second.
            kernel = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
            return f"{kernel} {Path('/proc/self/ns/pid').readlink()}"
    return f"{uuid.getnode():x} {psutil.boot_time():.0f}"


def machine_of(space: str) -> str:
    """The part of a `process_space` that tells machines apart, and the starts of their kernels."""
    return space.partition(" ")[0]


def process_name() -> str:
    """This process's name among those of all machines, for file names: a hash and the pid."""
    return f"{_space()}-{os.getpid()}"


def is_running(name: str) -> bool | None:
    """Whether the process of a `process_name` runs; None if nobody can tell from here."""
    space, _, pid = name.partition("-")
    if space != _space() or not pid.isdecimal():
        return None
    try:
        return bool(psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True


def process_start(pid: int) -> float:
    """When a process started: on Linux in clock ticks since the kernel did, which no setting of a clock moves.

    Elsewhere it is seconds since the epoch.

    Raises:
        psutil.Error: there is no such process, or the system does not tell.
    """
    if sys.platform != "linux":
        return psutil.Process(pid).create_time()
    try:
        status = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        raise psutil.NoSuchProcess(pid) from None
    except OSError:
        raise psutil.AccessDenied(pid) from None
    # Field 22 (man 5 proc_pid_stat); the second is the command in parentheses, which may hold anything.
    return float(status.rpartition(b")")[2].split()[19])


@functools.cache
def _space() -> str:
    return hashlib.sha256(f"{socket.gethostname()} {process_space()}".encode()).hexdigest()[:12]
