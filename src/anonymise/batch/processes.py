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

__all__ = ["is_running", "process_name", "process_space"]


def process_space() -> str:
    """Tells the sets of processes apart in which a pid has a meaning: by machine, and by container where there are."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            # A new one at each start of the kernel; container runtimes share the first, but not the second.
            kernel = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
            return f"{kernel} {Path('/proc/self/ns/pid').readlink()}"
    return f"{uuid.getnode():x} {psutil.boot_time():.0f}"


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


@functools.cache
def _space() -> str:
    return hashlib.sha256(f"{socket.gethostname()} {process_space()}".encode()).hexdigest()[:12]
