"""Reads and decodes images for the model, ahead of it."""

import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

from anonymise.batch.jobs import Work
from anonymise.batch.outcomes import Skipped
from anonymise.batch.paths import Paths
from anonymise.batch.recorder import Begun, JournalBook
from anonymise.batch.sharing import PixelMemory, SharedPixels, decode_into
from anonymise.batch.storage import read_input
from anonymise.batch.workers import WorkerDied, Workers, has_ended
from anonymise.config import Config
from anonymise.core.detections import RgbImage, Size
from anonymise.core.errors import TimeLimitError, UnreadableImage
from anonymise.images import check_kind, decode, header

__all__ = ["Loaded", "Loader"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """An image that is ready for the model.

    Attributes:
        paths: of the image.
        data: its file.
        size: of the picture as it is stored.
        orientation: EXIF orientation, 1 to 8.
        modified: time of the file's last change, in seconds since the epoch.
        pixels: as they are stored.
        seconds: stage → time that it took.
        begun: what the book knows of it.
    """

    paths: Paths
    data: bytes
    size: Size
    orientation: int
    modified: float
    pixels: SharedPixels | RgbImage
    seconds: Mapping[str, float]
    begun: Begun


class Loader:
    """Loads images, those in another process that a damaged file may crash."""

    def __init__(self, config: Config, book: JournalBook, reader: Workers, memory: PixelMemory) -> None:
        """Nothing is loaded yet.

        Args:
            config: the configuration.
            book: knows what need not be loaded.
            reader: decodes.
            memory: takes the pixels, if the reader is another process.
        """
        self._config = config
        self._book = book
        self._reader = reader
        self._memory = memory

    def load(self, paths: Paths) -> Loaded | Skipped:
        """One image, unless it is finished.

        Raises:
            UnreadableImage: it cannot be read or decoded.
            StorageError: the run cannot go on.
        """
        config = self._config
        started = time.perf_counter()
        try:
            begun = self._book.begin(paths)
        except OSError as error:
            raise UnreadableImage(f"the file cannot be read: {error.strerror or error}") from error
        if begun is None:
            return Skipped(paths.source, "finished by an earlier run; force_remask: True does it again")
        data = read_input(paths.source, paths.places.input, config.storage, check_kind)
        width, height, _, orientation = header(data, max_pixels=config.images.max_decoded_pixels)
        size = Size(width, height)
        is_read = time.perf_counter()
        pixels = self._decoded(data, size)
        seconds = {"read": is_read - started, "decode": time.perf_counter() - is_read}
        return Loaded(paths, data, size, orientation, begun.identity.mtime_ns / 1e9, pixels, seconds, begun)

    def _decoded(self, data: bytes, size: Size) -> SharedPixels | RgbImage:
        max_pixels = self._config.images.max_decoded_pixels
        shared = None if self._reader.in_process else self._memory.take(size)
        if shared is None:
            return decode(data, max_pixels=max_pixels).pixels
        try:
            future = self._reader.submit(partial(decode_into, shared, data, max_pixels))
            if (seconds := self._config.seconds_per_image) is not None and not has_ended(future, seconds):
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

    def release(self, loaded: Loaded, done: "Future[Work] | None" = None) -> None:
        """The image is done with.

        Args:
            loaded: the image.
            done: what was done with its pixels in another process; None is nothing.
        """
        if not isinstance(loaded.pixels, SharedPixels):
            return
        if done is None or (not done.cancelled() and not isinstance(done.exception(), WorkerDied)):
            self._memory.give_back(loaded.pixels)
        else:
            self._memory.discard(loaded.pixels)
