"""How fast a review is on a large folder: ``python -m benchmarks.review [--pictures N] [--folder FOLDER]``.

A few drawn street pictures are published, then copied under many names. The server is a process of its own, as for an
operator; pictures are fetched one after the other, as the page does, with the decision of each.
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
from collections.abc import Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import psutil

from anonymise import Anonymiser, load_config
from anonymise.batch.journal import Identity, Journal, Written
from anonymise.core import saved_instances
from anonymise.testing import FakeModel
from samples.__main__ import write_samples

__all__ = ["main"]

_N_DRAWN = 8
_N_LOOKED_AT = 200
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
    parser.add_argument("--sheet", action="store_true", help="measure the contact sheet too")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        _publish(Path(folder), arguments.pictures)
        for _ in range(2):  # the second time, some are decided
            _look(Path(folder))
        if arguments.sheet:
            _sheet(Path(folder))


def _publish(folder: Path, n_pictures: int) -> None:
    """Publishes pictures under many names, with saved instances and a journal."""
    config = load_config(keys={"mask_dilation_pixels": 0})
    anonymiser = Anonymiser(config, model=FakeModel(_OBJECTS, score=0.55))
    drawn = list(write_samples(folder / "in", count=_N_DRAWN))
    results = [anonymiser.anonymise(file.read_bytes()) for file in drawn]
    out = folder / "out"
    files = [Written("remote", "image"), Written("remote", "instances")]
    with Journal(_made(out), "digest", usual=files) as journal:
        for n in range(n_pictures):
            result, source = results[n % _N_DRAWN], drawn[n % _N_DRAWN]
            name = f"drive {n // 1000:03}/{n:06}"
            image, instances = out / (name + source.suffix), out / f"{name}_instances.json"
            if n < _N_DRAWN:
                _made(image.parent)
                image.write_bytes(result.data)
                instances.write_text(saved_instances.dumps(result.detections, image.name), "utf-8")
            else:
                _made(image.parent)
                first = f"{n % _N_DRAWN:06}"
                os.link(out / "drive 000" / (first + source.suffix), image)
                shutil.copyfile(out / "drive 000" / f"{first}_instances.json", instances)
            relative = image.relative_to(out).as_posix()
            journal.started(relative, Identity(1, n))
            journal.done(relative, files, {} if n % 50 == 7 else result.objects, source="model:x")
    print(f"{n_pictures} pictures of 1920×1080 pixels")


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _look(folder: Path) -> None:
    call = [sys.executable, "-m", "anonymise", "review", "-i", str(folder / "out"), "--port", "0"]
    call += ["--set", "score_threshold=0.5"]  # near the score of all finds here
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
            ask(f"items/{item['id']}/image?level=1&version={item['version']}")
            return item

        ask("session")
        item = picture()
        first = time.perf_counter() - started
        cpu = sum(psutil.Process(server.pid).cpu_times()[:2])
        seconds = []
        for _ in range(_N_LOOKED_AT):
            began = time.perf_counter()
            ask(f"items/{item['id']}/decision", {"verdict": "good", "version": item["version"], "seconds": 1})
            ask("queue?kind=doubtful")
            item = picture()
            seconds.append(time.perf_counter() - began)
        cpu_each = (sum(psutil.Process(server.pid).cpu_times()[:2]) - cpu) / _N_LOOKED_AT
        info = psutil.Process(server.pid).memory_info()
        peak = getattr(info, "peak_wset", info.rss)
        print(f"served after {serving:.2f} s, first picture after {first:.2f} s ({cpu:.2f} s of CPU)")
        print(f"decision and next picture: median {median(seconds):.3f} s, 95 % {quantiles(seconds, n=20)[-1]:.3f} s, "
              f"slowest {max(seconds):.3f} s, {cpu_each:.3f} s of CPU")  # fmt: skip
        print(f"memory {peak / 1e6:.0f} MB\n")
    finally:
        server.kill()
        server.communicate()


def _sheet(folder: Path) -> None:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "anonymise", "sheet", "-o", str(folder / "out")], check=True)
    size = sum(file.stat().st_size for file in (folder / "out_sheet").iterdir())
    print(f"contact sheet: {time.perf_counter() - started:.1f} s, {size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
