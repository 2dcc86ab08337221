import logging
import shutil
import threading
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from anonymise.batch.sharing import PixelMemory, SharedPixels
from anonymise.batch.workers import ProcessWorkers
from anonymise.core.detections import Size

SMALL, LARGE = Size(40, 30), Size(400, 300)


def taken(memory: PixelMemory, size: Size = SMALL) -> SharedPixels:
    pixels = memory.take(size)
    assert pixels is not None
    return pixels


def brighten(pixels: SharedPixels) -> int:
    seen = pixels.open()
    seen += 1
    return int(seen.sum())


def test_processes_see_and_change_the_same_pixels() -> None:
    with closing(PixelMemory(10**7)) as memory, closing(ProcessWorkers(1)) as workers:
        pixels = taken(memory)
        memory.view(pixels)[:] = 7
        assert workers.submit(partial(brighten, pixels)).result() == 8 * 40 * 30 * 3
        assert (memory.view(pixels) == 8).all()
        assert memory.view(pixels).shape == (30, 40, 3)


def test_memory_is_used_again_for_images_that_fit_in() -> None:
    with closing(PixelMemory(10**7)) as memory:
        large = taken(memory, LARGE)
        memory.give_back(large)
        small = taken(memory)
        assert small.name == large.name
        memory.give_back(small)
        again = taken(memory, LARGE)
        assert again.name == large.name
        assert taken(memory, LARGE).name != again.name


def test_discarded_memory_is_not_used_again() -> None:
    """A process may still write to it."""
    with closing(PixelMemory(10**7)) as memory:
        first = taken(memory)
        kept = memory.view(first)
        memory.discard(first)
        second = taken(memory)
        memory.view(second)[:] = 0
        kept[:] = 255
        assert not memory.view(second).any()
        with pytest.raises(FileNotFoundError):
            first.open()


def test_who_wants_more_than_there_is_waits() -> None:
    with closing(PixelMemory(1)) as memory:  # one image at a time
        first = taken(memory)
        second: list[SharedPixels | None] = []
        thread = threading.Thread(target=lambda: second.append(memory.take(SMALL)))
        thread.start()
        thread.join(0.3)
        assert second == []
        memory.give_back(first)
        thread.join(10)
        assert second == [first], "the same memory, as soon as it is free"


def test_one_image_may_be_larger_than_what_is_allowed() -> None:
    with closing(PixelMemory(1)) as memory:
        assert memory.view(taken(memory, LARGE)).shape == (300, 400, 3)


def test_nobody_waits_when_the_run_ends() -> None:
    with closing(PixelMemory(1)) as memory:
        pixels = taken(memory)
        waiting: list[SharedPixels | None] = []
        thread = threading.Thread(target=lambda: waiting.append(memory.take(SMALL)))
        thread.start()
        memory.let_go()
        thread.join(10)
        assert waiting == [None]
        memory.view(pixels)[:] = 1  # what is under way goes on


def test_a_system_without_room_is_said_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """As in a container with 64 MiB of shared memory, beyond which a write would end the process."""
    real = shutil.disk_usage("/")
    monkeypatch.setattr("anonymise.core.transient.shared_folder", Path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: real._replace(free=100))
    with closing(PixelMemory(10**7)) as memory, caplog.at_level(logging.WARNING):
        assert memory.take(SMALL) is None
        assert memory.take(SMALL) is None
    assert caplog.text.count("No shared memory for an image") == 1


def test_fresh_memory_is_blank() -> None:
    with closing(PixelMemory(10**7)) as memory:
        assert not np.any(memory.view(taken(memory, LARGE)))
