"""Pixels in memory that processes share, so that they do not travel between them.

The main process owns the memory and uses it again for later images: fresh memory costs the system about as much time as
decoding an image does.
"""

import functools
import logging
import math
import shutil
import threading
from dataclasses import dataclass
from multiprocessing.shared_memory import SharedMemory

import numpy as np

from anonymise.core import transient
from anonymise.core.detections import RgbImage, Size
from anonymise.images import decode

__all__ = ["PixelMemory", "SharedPixels", "decode_into"]

log = logging.getLogger(__name__)

_CHANNELS = 3
_KEPT_OPEN = 8
_STILL_SEEN: list[SharedMemory] = []
"""Memory that was taken back while something in this process still looked at it; it ends with the process."""


@dataclass(frozen=True, slots=True)
class SharedPixels:
    """Where the pixels of an image are. This value goes from process to process, they stay.

    Attributes:
        name: name of the shared memory.
        size: size of the image.
    """

    name: str
    size: Size

    def open(self) -> RgbImage:
        """The pixels, uint8 (height, width, 3), which every process may write.

        Raises:
            OSError: the main process has taken the memory back.
        """
        return _as_image(_opened(self.name), self.size)


@functools.lru_cache(maxsize=_KEPT_OPEN)
def _opened(name: str) -> SharedMemory:
    # Kept open: each page that a process sees for the first time costs it a fault.
    return SharedMemory(name)


def _as_image(memory: SharedMemory, size: Size) -> RgbImage:
    assert memory.buf is not None  # it is not closed
    # frombuffer, unlike np.ndarray, keeps the memory from being unmapped as long as the array is there.
    pixels = np.frombuffer(memory.buf, np.uint8, math.prod(size) * _CHANNELS)
    return pixels.reshape(size.height, size.width, _CHANNELS)


def decode_into(pixels: SharedPixels, data: bytes, max_pixels: int) -> None:
    """Decodes an image file into shared memory.

    Raises:
        UnreadableImage: the image cannot be decoded.
        OSError: the memory is gone.
    """
    np.copyto(pixels.open(), decode(data, max_pixels=max_pixels).pixels)


class PixelMemory:
    """The memory for the images that are under way, of which there are only so many at a time."""

    def __init__(self, max_bytes: int) -> None:
        """Nothing is taken from the system yet.

        Args:
            max_bytes: that images under way may have together; one image may be larger.
        """
        self._max_bytes = max_bytes
        self._changed = threading.Condition()
        self._free: list[SharedMemory] = []
        self._taken: dict[str, SharedMemory] = {}
        self._closed = False
        self._is_short = False

    def take(self, size: Size) -> SharedPixels | None:
        """Room for an image; waits until there is some.

        Returns:
            None where the system has no shared memory to give.
        """
        n_bytes = math.prod(size) * _CHANNELS
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not self._taken or self._has_room(n_bytes))
            if self._closed:
                return None
            memory = self._reused(n_bytes) or self._made(n_bytes)
            if memory is None:
                return None
            self._taken[memory.name] = memory
        return SharedPixels(memory.name, size)

    def view(self, pixels: SharedPixels) -> RgbImage:
        """The pixels of an image whose memory is taken."""
        return _as_image(self._taken[pixels.name], pixels.size)

    def give_back(self, pixels: SharedPixels) -> None:
        """The image is done with: its memory is for another one."""
        with self._changed:
            if memory := self._taken.pop(pixels.name, None):
                self._free.append(memory)
            self._changed.notify_all()

    def discard(self, pixels: SharedPixels) -> None:
        """The image is done with, but a process that nobody waits for may still write to its memory."""
        with self._changed:
            if memory := self._taken.pop(pixels.name, None):
                _end(memory)
            self._changed.notify_all()

    def let_go(self) -> None:
        """Ends all waiting for memory, as the run ends."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def close(self) -> None:
        """Takes back all memory."""
        with self._changed:
            self._closed = True
            for memory in (*self._free, *self._taken.values()):
                _end(memory)
            self._free.clear()
            self._taken.clear()
            self._changed.notify_all()

    def _has_room(self, n_bytes: int) -> bool:
        return sum(memory.size for memory in self._taken.values()) + n_bytes <= self._max_bytes

    def _reused(self, n_bytes: int) -> SharedMemory | None:
        """Free memory that is large enough; what is too small goes back to the system."""
        while self._free:
            memory = self._free.pop()
            if memory.size >= n_bytes:
                return memory
            _end(memory)
        return None

    def _made(self, n_bytes: int) -> SharedMemory | None:
        try:
            # In containers it is often 64 MiB, and whoever writes beyond that is killed.
            folder = transient.shared_folder()
            if folder is not None and shutil.disk_usage(folder).free < n_bytes:
                raise OSError(f"{folder} has less than {n_bytes >> 20} MiB left")
            memory = transient.new_memory(n_bytes)
        except OSError as error:
            if not self._is_short:
                log.warning(
                    "No shared memory for an image: %s. The run goes on, but decodes images twice, here among other "
                    "places, where a picture that crashes its codec ends the run.",
                    error,
                )
            self._is_short = True
            return None
        # The system gives pages when they are first written; this way it is known that there are enough.
        _as_image(memory, Size(n_bytes // _CHANNELS, 1)).fill(0)
        return memory


def _end(memory: SharedMemory) -> None:
    transient.release(memory)
    try:
        memory.close()
    except BufferError:
        _STILL_SEEN.append(memory)
