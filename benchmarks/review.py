"""How fast a review is on a large folder: ``python -m benchmarks.review [--pictures N] [--folder FOLDER]``.

A few drawn street pictures are published, then linked under many names. The server is a process of its own, as for an
operator; pictures are fetched one after the other, as the page does, with the decision of each. With ``--large`` they
are 360° pictures of 33 megapixels, and then several people ask at the same time for pictures of all sizes and for
originals.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import cv2
import numpy as np
import psutil
from PIL import Image

from anonymise import Anonymiser, load_config
from anonymise.batch.journal import Identity, Journal, Written
from anonymise.core import saved_instances
from anonymise.core.detections import Size
from anonymise.testing import FakeModel
from samples.__main__ import write_samples
from samples.scene import draw_panorama

__all__ = ["main"]

_SIZE, _LARGE = Size(1920, 1080), Size(8192, 4096)
_OBJECTS = [
    ("person", (100, 400, 200, 700)),
    ("car", (500, 450, 900, 700)),
    ("car", (1000, 420, 1300, 600)),
    ("bus", (1400, 300, 1800, 700)),
]


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.review", description=__doc__)
    parser.add_argument("--pictures", type=int, default=20_000, help="number of pictures (default: 20000)")
    parser.add_argument("--folder", type=Path, help="where the pictures are written")
    parser.add_argument("--large", action="store_true", help="360° pictures of 8192×4096 pixels")
    parser.add_argument("--sheet", action="store_true", help="measure the contact sheet too")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        drawn = list(_large(folder / "in") if arguments.large else write_samples(folder / "in", count=8))
        _publish(folder, drawn, arguments.pictures, _LARGE if arguments.large else _SIZE)
        for _ in range(2):  # the second time, some are decided
            _look(folder, large=arguments.large)
        if arguments.sheet:
            _sheet(folder)


def _large(folder: Path) -> Iterator[Path]:
    """Writes pictures with the noise of a camera, of all kinds of files that take memory in a way of their own."""
    folder.mkdir()
    small = draw_panorama(1, Size(4096, 2048)).image
    noise = np.random.default_rng(1).normal(0, 3, (_LARGE.height, _LARGE.width, 1)).astype(np.int8)
    pixels = np.clip(cv2.resize(small, _LARGE).astype(np.int16) + noise, 0, 255).astype(np.uint8)
    kinds: dict[str, dict[str, Any]] = {
        "baseline.jpg": {"quality": 90},
        "progressive.jpg": {"quality": 90, "progressive": True},
        "plain.png": {"compress_level": 1},
    }
    for name, options in kinds.items():
        Image.fromarray(pixels).save(folder / name, **options)
        yield folder / name


def _publish(folder: Path, drawn: Sequence[Path], n_pictures: int, size: Size) -> None:
    """Publishes pictures under many names, with originals, saved instances and a journal."""
    config = load_config(keys={"mask_dilation_pixels": 0})
    scale = size.height / _SIZE.height
    objects = [(name, (round(scale * a), round(scale * b), round(scale * c), round(scale * d)))
               for name, (a, b, c, d) in _OBJECTS]  # fmt: skip
    anonymiser = Anonymiser(config, model=FakeModel(objects, score=0.55))
    results = [anonymiser.anonymise(file.read_bytes()) for file in drawn]
    out = folder / "out"
    files = [Written("remote", "image"), Written("remote", "instances")]
    with Journal(_made(out), "digest", usual=files) as journal:
        for n in range(n_pictures):
            result, source = results[n % len(drawn)], drawn[n % len(drawn)]
            name = f"drive {n // 1000:03}/{n:06}"
            image, instances = out / (name + source.suffix), out / f"{name}_instances.json"
            original = folder / "archive" / (name + source.suffix)
            for parent in (image.parent, original.parent):
                _made(parent)
            os.link(source, original)
            if n < len(drawn):
                image.write_bytes(result.data)
                instances.write_text(saved_instances.dumps(result.detections, image.name), "utf-8")
            else:
                first = f"{n % len(drawn):06}"
                os.link(out / "drive 000" / (first + source.suffix), image)
                shutil.copyfile(out / "drive 000" / f"{first}_instances.json", instances)
            relative = image.relative_to(out).as_posix()
            journal.started(relative, Identity(1, n))
            journal.done(relative, files, {} if n % 50 == 7 else result.objects, source="model:x")
    print(f"{n_pictures} pictures of {size.width}×{size.height} pixels")


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _look(folder: Path, *, large: bool) -> None:
    call = [sys.executable, "-m", "anonymise", "review", "-i", str(folder / "out"), "--port", "0"]
    call += ["-a", str(folder / "archive"), "--set", "review_originals=True"]
    call += ["--set", "score_threshold=0.5"]  # near the score of all finds here
    level, n_looked_at = (2, 50) if large else (1, 200)  # as a screen of 1920 pixels has them
    started = time.perf_counter()
    server = subprocess.Popen([*call, "--corrections", str(folder / "store")], stdout=subprocess.PIPE, encoding="utf-8")
    try:
        assert server.stdout is not None
        address, _, token = server.stdout.readline().strip().partition("#")
        serving = time.perf_counter() - started

        def ask(path: str, body: Any = None) -> bytes:
            headers = {"Authorization": f"Bearer {token}", "X-Review-Tab": "1", "Content-Type": "application/json"}
            data = None if body is None else json.dumps(body).encode()
            request = urllib.request.Request(f"{address}api/{path}", data, headers)
            with urllib.request.urlopen(request) as answer:
                return bytes(answer.read())

        def picture() -> Any:
            item = json.loads(ask("claim", {"kind": "doubtful"}))
            ask(f"items/{item['id']}/image?level={level}&version={item['version']}")
            return item

        ask("session")
        item = picture()
        first = time.perf_counter() - started
        cpu = sum(psutil.Process(server.pid).cpu_times()[:2])
        seconds = []
        for _ in range(n_looked_at):
            began = time.perf_counter()
            ask(f"items/{item['id']}/decision", {"verdict": "good", "version": item["version"], "seconds": 1})
            ask("queue?kind=doubtful")
            item = picture()
            seconds.append(time.perf_counter() - began)
        cpu_each = (sum(psutil.Process(server.pid).cpu_times()[:2]) - cpu) / n_looked_at
        print(f"served after {serving:.2f} s, first picture after {first:.2f} s ({cpu:.2f} s of CPU)")
        print(f"decision and next picture: median {median(seconds):.3f} s, 95 % {quantiles(seconds, n=20)[-1]:.3f} s, "
              f"slowest {max(seconds):.3f} s, {cpu_each:.3f} s of CPU")  # fmt: skip
        print(f"memory at most {_peak(server.pid) / 1e6:.0f} MB")
        items = [json.loads(ask("claim", {"kind": "all"})) for _ in range(6)]
        wanted = [f"items/{item['id']}/image?level={level}&version=x" for level in range(4) for item in items]
        wanted += [f"items/{item['id']}/original?find={find['id']}" for item in items for find in item["finds"]]
        began = time.perf_counter()
        with ThreadPoolExecutor(6) as threads:
            sizes = [len(data) for data in threads.map(ask, wanted)]
        print(f"{len(sizes)} pictures of all sizes and originals, 6 asked for at a time: "
              f"{time.perf_counter() - began:.1f} s; memory at most {_peak(server.pid) / 1e6:.0f} MB\n")  # fmt: skip
    finally:
        server.kill()
        server.communicate()


def _peak(pid: int) -> int:
    """The most memory that a process has had, in bytes; where the system does not say, what it has."""
    if (status := Path(f"/proc/{pid}/status")).is_file():
        return 1024 * int(status.read_text().partition("VmHWM:")[2].split()[0])
    info = psutil.Process(pid).memory_info()
    return int(getattr(info, "peak_wset", info.rss))


def _sheet(folder: Path) -> None:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "anonymise", "sheet", "-o", str(folder / "out")], check=True)
    size = sum(file.stat().st_size for file in (folder / "out_sheet").iterdir())
    print(f"contact sheet: {time.perf_counter() - started:.1f} s, {size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
