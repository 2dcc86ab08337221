"""Reads and decodes images for the model, ahead of it."""

import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

from anonymise.batch.outcomes import Outcome
from anonymise.batch.paths import Paths
from anonymise.batch.sharing import PixelMemory, SharedPixels, decode_into
from anonymise.batch.storage import read_input
from anonymise.batch.tasks import Work
from anonymise.batch.workers import Executor, WorkerDied, has_ended
from anonymise.config import StorageOptions
from anonymise.core.detections import RgbImage, Size
from anonymise.core.errors import TimeLimitError, UnreadableImage
from anonymise.images import check_kind, decode, header

__all__ = ["Loaded", "Loader", "LoaderOptions"]


@dataclass(frozen=True, slots=True)
class LoaderOptions:
    """The options that a loader reads.

    Attributes:
        storage: how long a share is waited for, and how large a file may be.
        max_pixels: number of pixels above which an image is refused.
        seconds: time that another process may take to decode one image; None sets no limit.
    """

    storage: StorageOptions
    max_pixels: int
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Loaded:
    """An image that is ready for the model.

    Attributes:
        paths: paths of the image.
        data: bytes of its file.
        pixels: pixels as they are stored.
        seconds: stage → time that it took.
    """

    paths: Paths
    data: bytes
    pixels: SharedPixels | RgbImage
    seconds: Mapping[str, float]


class Loader:
    """Loads images, and has them decoded in another process that a damaged file may crash.

    Args:
        options: options of the loader.
        reader: decodes.
        memory: takes the pixels, if the reader is another process.
    """

    def __init__(self, options: LoaderOptions, reader: Executor, memory: PixelMemory) -> None:
        self._options = options
        self._reader = reader
        self._memory = memory

    def load(self, paths: Paths) -> Loaded:
        """Reads and decodes one image.

        Raises:
            UnreadableImage: it cannot be read or decoded.
            TimeLimitError: decoding it took too long.
            StorageError: the run cannot go on.
        """
        started = time.perf_counter()
        data = read_input(paths.source, paths.places.input, self._options.storage, check_kind)
        width, height, _, _ = header(data, max_pixels=self._options.max_pixels)
        is_read = time.perf_counter()
        pixels = self._decoded(data, Size(width, height))
        seconds = {"read": is_read - started, "decode": time.perf_counter() - is_read}
        return Loaded(paths, data, pixels, seconds)

    def _decoded(self, data: bytes, size: Size) -> SharedPixels | RgbImage:
        max_pixels = self._options.max_pixels
        shared = None if self._reader.in_process else self._memory.take(size)
        if shared is None:
            return decode(data, max_pixels=max_pixels).pixels
        try:
            future = self._reader.submit(partial(decode_into, shared, data, max_pixels))
            if (seconds := self._options.seconds) is not None and not has_ended(future, seconds):
                self._reader.kill()
                self._reader.restart()
                self._memory.discard(shared)
                raise TimeLimitError.after(seconds)
            future.result()
        except WorkerDied as error:
            self._memory.discard(shared)
            self._reader.restart()
            raise UnreadableImage("the process that decodes it died: out of memory, or a crash in a library") from error
        except BaseException:
            self._memory.give_back(shared)
            raise
        return shared

    def pixels(self, loaded: Loaded) -> RgbImage:
        """The pixels of an image, uint8 (height, width, 3)."""
        return self._memory.view(loaded.pixels) if isinstance(loaded.pixels, SharedPixels) else loaded.pixels

    def release(self, loaded: Loaded, done: "Future[Work | Outcome] | None" = None) -> None:
        """Gives the memory of an image's pixels back.

        Args:
            loaded: the image.
            done: future of what another process did with the pixels; None if there was nothing.
        """
        if not isinstance(loaded.pixels, SharedPixels):
            return
        if done is None or (not done.cancelled() and not isinstance(done.exception(), WorkerDied)):
            self._memory.give_back(loaded.pixels)
        else:
            self._memory.discard(loaded.pixels)
