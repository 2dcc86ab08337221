"""A signal asks a run to end, whatever it interrupts."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

_PROGRAM = '''
import io, logging, signal, sys

from anonymise.commands.interruption import Interruption


class Interrupted(io.RawIOBase):
    """A stream; while its first line is being written, Ctrl-C is pressed."""

    written = b""

    def writable(self):
        return True

    def write(self, data):
        if not self.written:
            signal.raise_signal(signal.SIGINT)
        self.written += bytes(data)
        return len(bytes(data))


raw, stdout = Interrupted(), sys.stdout
sys.stderr = io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", line_buffering=True)
logger = logging.getLogger("anonymise")
logger.addHandler(logging.StreamHandler(sys.stderr))
with Interruption() as interruption:
    logger.warning("an image is done")
    assert interruption.is_asked()
stdout.write(raw.written.decode())
'''


def test_a_signal_in_the_middle_of_a_line_of_the_log_breaks_no_line() -> None:
    # In a process of its own: what a signal does to the process of the tests is nobody's business.
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "an image is done"
    assert lines[1].startswith("Interrupted; finishing what is under way")
    assert len(lines) == 2
