"""Makes a worker one of a machine called ``full``, whose disk is so as soon as it has joined."""

import errno
import os
import socket

from anonymise.cluster import worker
from anonymise.config import Place

write = worker._Engine.write


def full(self: worker._Engine, place: Place, name: str, data: bytes) -> None:
    if not name.startswith("answer-"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    write(self, place, name, data)


worker._Engine.write = full  # type: ignore[method-assign]
socket.gethostname = lambda: "full"
