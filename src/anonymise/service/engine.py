"""One model, several threads: while one image is at the model, others are decoded, drawn on and encoded.

Nothing is written to disk, and every answer is complete before its first byte is sent.
"""

import asyncio
import io
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar

import numpy as np
import PIL.Image
import PIL.ImageOps

from anonymise import images
from anonymise.anonymiser import Redactor, objects_of, read_image
from anonymise.config import Config
from anonymise.core.detections import Detections
from anonymise.core.errors import ImageError, UnreadableImage
from anonymise.core.sources import DetectionSource
from anonymise.redaction.static import StaticMask

__all__ = ["Busy", "Done", "Engine", "Refused", "whole"]

log = logging.getLogger(__name__)

_SIGNATURES = ((b"\xff\xd8\xff", "jpeg"), (b"\x89PNG\r\n\x1a\n", "png"))
_OTHERS = ("WEBP", "BMP", "TIFF")
"""Formats that are read by Pillow and answered as PNG."""

_T = TypeVar("_T")


class Refused(Exception):
    """A picture or request that gets no image for an answer.

    Attributes:
        status: HTTP status.
        reason: one sentence for the client, without any path.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Busy(Refused):
    """There is no room for another request.

    Attributes:
        retry_after: seconds after which it may be worth trying again.
    """

    def __init__(self, retry_after: int, reason: str = "Too many requests are waiting.", status: int = 503) -> None:
        super().__init__(status, reason)
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Done:
    """An anonymised picture.

    Attributes:
        data: bytes of the file.
        kind: of the file.
        detections: what was found.
        n_pixels: number of pixels.
    """

    data: bytes
    kind: Literal["jpeg", "png"]
    detections: Detections
    n_pixels: int

    @property
    def media_type(self) -> str:
        """MIME type of the file."""
        return f"image/{self.kind}"

    @property
    def suffix(self) -> str:
        """Suffix of the file's name, without the dot."""
        return "jpg" if self.kind == "jpeg" else self.kind

    @property
    def objects(self) -> dict[str, int]:
        """Class name → number of objects."""
        return objects_of(self.detections)


class Engine:
    """Anonymises pictures, at most `n_workers` at once. For one event loop.

    Args:
        config: the configuration.
        source: says what must be hidden, by name of the picture where the client gives one.
        anonymous: says so of pictures without a name, which no correction knows.
        n_workers: pictures that are decoded at once.
        n_waiting: requests that may wait.

    Attributes:
        is_ready: whether a picture went through the model, and nothing unexpected has happened since.
        seconds: mean time of a picture.
    """

    def __init__(
        self, config: Config, source: DetectionSource, anonymous: DetectionSource, *, n_workers: int, n_waiting: int
    ) -> None:
        self._config = config
        self._source, self._anonymous = source, anonymous
        self._redactor = Redactor(config)
        self._static = StaticMask.of_options(config.static_mask, config.images.max_decoded_pixels)
        self._n_workers, self._n_waiting = n_workers, n_waiting
        self._threads = ThreadPoolExecutor(n_workers, thread_name_prefix="picture")
        self._slots = asyncio.Semaphore(n_workers)
        self._model = threading.Lock()
        self.n_requests = 0  # waiting or in work
        self.is_ready = False
        self.seconds = 1.0

    @property
    def is_full(self) -> bool:
        """Whether the next request would be refused."""
        return self.n_requests >= self._n_workers + self._n_waiting

    @property
    def retry_after(self) -> int:
        """Seconds until there may be room again, 1 to 60."""
        waiting = max(1, self.n_requests - self._n_workers)
        return max(1, min(60, -int(-waiting * self.seconds / self._n_workers // 1)))

    def close(self) -> None:
        """Ends the threads, once they are done with what they have begun."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def check(self) -> None:
        """Sends a small picture through decoding, model and encoding.

        Raises:
            AnonymiseError: the model cannot be run.
        """
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
        image = read_image(images.encode_jpeg(noise), self._config)
        with self._model:
            found = self._anonymous.of("").find(image)
        self._redactor.redact(image, found)  # a static mask is of other pictures
        self.is_ready = True

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place among those that wait or are in work: whoever sends a picture takes it before the body is read.

        Raises:
            Busy: there is none.
        """
        if self.is_full:
            raise Busy(self.retry_after)
        self.n_requests += 1
        try:
            yield
        finally:
            self.n_requests -= 1

    async def anonymise(
        self, data: bytes, name: str = "", *, gone: Callable[[], Awaitable[None]] | None = None, seconds: float = 120
    ) -> Done:
        """The anonymised picture. Whoever calls this has a `place`.

        Args:
            data: bytes of the file.
            name: path of the picture below the input folder, as corrections know it; empty knows none.
            gone: returns when nobody waits for the picture any more.
            seconds: time that waiting and work may take.

        Raises:
            Refused: the file is no picture, or too large, or damaged; nobody waits any more; the time is over.
        """
        dropped = threading.Event()
        task = asyncio.ensure_future(self._in_turn(data, name, dropped))
        watch = [] if gone is None else [asyncio.ensure_future(gone())]
        try:
            await asyncio.wait([task, *watch], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            if watch and watch[0].done():
                raise Refused(499, "The client has gone.")
            raise Refused(504, f"The picture was not done within {seconds:g} seconds.")
        finally:
            for other in watch:
                other.cancel()
            if not task.done():
                dropped.set()
                task.cancel()
                # A thread that has begun ends its step first: until then the picture is in memory, and has its place.
                self.n_requests += 1
                task.add_done_callback(self._left)

    def _left(self, _: object) -> None:
        self.n_requests -= 1

    async def _in_turn(self, data: bytes, name: str, dropped: threading.Event) -> Done:
        async with self._slots:
            started = time.perf_counter()
            loop = asyncio.get_running_loop()
            if not self.is_ready:  # something unexpected happened to an earlier one
                await whole(loop.run_in_executor(self._threads, self.check))
            # The slot stays taken until its thread is free, so that no more pictures are decoded than allowed.
            done = await whole(loop.run_in_executor(self._threads, partial(self._anonymise, data, name, dropped)))
            self.seconds += 0.1 * (time.perf_counter() - started - self.seconds)
            return done

    def _anonymise(self, data: bytes, name: str, dropped: threading.Event) -> Done:
        """Runs in a thread."""
        try:
            data, kind, n_pixels = self._checked(data)
            image = read_image(data, self._config, name=name)
            with self._model:
                _stop_if(dropped)
                found = (self._source if name else self._anonymous).of(name).find(image)
            _stop_if(dropped)
            static = None if self._static is None else self._static.of(image.size)
            return Done(self._redactor.redact(image, found, static=static).data, kind, found, n_pixels)
        except Refused:
            raise
        except UnreadableImage as error:
            raise Refused(422, f"The picture cannot be read: {error}.") from error
        except ImageError as error:
            raise Refused(422, f"The picture cannot be anonymised: {error}.") from error
        except Exception:
            self.is_ready = False
            raise

    def _checked(self, data: bytes) -> tuple[bytes, Literal["jpeg", "png"], int]:
        """The file as JPEG or PNG, its kind, and its number of pixels; nothing too large is decoded."""
        kind = next((kind for signature, kind in _SIGNATURES if data.startswith(signature)), None)
        limit = self._config.images.max_decoded_pixels
        if kind is None:
            return self._as_png(data, limit)
        header = images.header(data)
        _check_pixels(header.width, header.height, limit)
        return data, header.kind, header.width * header.height

    def _as_png(self, data: bytes, limit: int) -> tuple[bytes, Literal["png"], int]:
        try:
            # Pillow warns of large pictures, and refuses larger ones by a limit of its own; ours is checked below.
            with PIL.Image.open(io.BytesIO(data), formats=_OTHERS) as opened:
                width, height = opened.size
                _check_pixels(width, height, limit)
                if opened.mode.startswith(("I", "F")):  # would be cut off at 255
                    raise Refused(422, "The picture cannot be read: its samples have more than 8 bits.")
                buffer = io.BytesIO()
                PIL.ImageOps.exif_transpose(opened).convert("RGB").save(buffer, "PNG", compress_level=1)
        except PIL.UnidentifiedImageError as error:
            raise Refused(415, "Unknown content type") from error
        except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning) as error:
            raise Refused(413, "The picture has more pixels than are read of its kind; send JPEG or PNG.") from error
        except (OSError, ValueError, SyntaxError) as error:
            raise Refused(422, "The picture cannot be read: it is damaged.") from error
        return buffer.getvalue(), "png", width * height


async def whole(work: Awaitable[_T]) -> _T:
    """The result of a thread; where the waiting is cancelled, the thread still ends first."""
    future = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        future.exception()
        raise


def _check_pixels(width: int, height: int, limit: int) -> None:
    if width * height > limit:
        raise Refused(413, f"The picture has {width}×{height} pixels, more than {limit}.")


def _stop_if(dropped: threading.Event) -> None:
    if dropped.is_set():
        raise Refused(499, "Nobody waits for the picture any more.")
