"""Runs over a folder that kill themselves: ``python -m tests.corrections.killed FOLDER``.

Each line on the standard input is a number n: a run is forked that dies before the n-th time that it changes something
on the disk (0 never); the answer is its number of such steps, or -1 where it was killed.
"""

import os
import signal
import sys
from pathlib import Path
from types import FrameType

from tests.corrections.runs import Folders

_STEPS = frozenset({"execute", "executemany", "replace", "fsync", "write", "unlink"})


def main() -> None:
    folders = Folders(Path(sys.argv[1]))
    for line in sys.stdin:
        reading, writing = os.pipe()
        if (child := os.fork()) == 0:
            n_left, n_done = int(line), 0

            def step(_: FrameType, event: str, function: object) -> None:
                nonlocal n_left, n_done
                if event == "c_call" and getattr(function, "__name__", "") in _STEPS:
                    n_left -= 1
                    n_done += 1
                    if n_left == 0:
                        os.kill(os.getpid(), signal.SIGKILL)

            sys.setprofile(step)
            folders.run()
            sys.setprofile(None)
            os.write(writing, str(n_done).encode())
            os._exit(0)
        os.close(writing)
        os.waitpid(child, 0)
        print(os.read(reading, 99).decode() or -1, flush=True)  # noqa: T201 - the answer
        os.close(reading)


if __name__ == "__main__":
    main()
