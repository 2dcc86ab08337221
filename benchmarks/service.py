"""Load on the service against the folder run: ``python -m benchmarks.service [--requests 200] [--clients 32]``.

Both get the same drawn pictures and the same configuration, one after the other in processes of their own; memory is
the sum of the proportional sets of all their processes, looked at every half second. Refused requests come again when
the service says so.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.service", description=__doc__)
    parser.add_argument("--requests", type=int, default=200, help="number of requests (%(default)s)")
    parser.add_argument("--clients", type=int, default=32, help="clients at once (%(default)s)")
    parser.add_argument("--size", default="1280x720", help="size of the pictures (%(default)s)")
    parser.add_argument("-k", "--config", default="config/lite_config.yml", help="configuration (%(default)s)")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        scratch = root / "scratch"
        scratch.mkdir()
        call = [sys.executable, "-m", "samples", str(root / "drawn"), "--count", "8", "--size", arguments.size]
        subprocess.run(call, check=True, capture_output=True)
        drawn = [file.read_bytes() for file in sorted((root / "drawn").rglob("*.jpg"))]
        for n in range(arguments.requests):
            (root / "in").mkdir(exist_ok=True)
            (root / "in" / f"{n:04d}.jpg").write_bytes(drawn[n % len(drawn)])
        job = _folder_run(root, arguments.config)
        service = _service(root, drawn, arguments.requests, arguments.clients, arguments.config, scratch)
        left = [path for path in scratch.rglob("*") if path.is_file()]
    print(f"{arguments.requests} pictures of {arguments.size}, {arguments.clients} clients, WORKERS=2\n")
    print(f"{'':20}{'images/s':>10}{'MiB':>8}")
    for name, (pace, memory) in (("folder run", job), ("service", service)):
        print(f"{name:20}{pace:10.2f}{memory:8.0f}")
    print(f"{'service / run':20}{service[0] / job[0]:10.2f}{service[1] / job[1]:8.2f}")
    print(f"files left in the temporary folder: {len(left)}")


@contextmanager
def _memory(process: "subprocess.Popen[str]") -> Iterator[list[float]]:
    """The largest memory of a process and its children so far, in MiB, as the only element of a list."""
    most, stop = [0.0], threading.Event()

    def look() -> None:
        while not stop.wait(0.5):
            total = 0
            try:
                whole = psutil.Process(process.pid)
                for one in (whole, *whole.children(recursive=True)):
                    total += getattr(one.memory_full_info(), "pss", 0) or one.memory_info().rss
            except psutil.Error:
                continue
            most[0] = max(most[0], total / 2**20)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield most
    finally:
        stop.set()
        thread.join()


def _folder_run(root: Path, config: str) -> tuple[float, float]:
    """Images a second without the start, and MiB."""
    command = [sys.executable, "-m", "anonymise", "-i", str(root / "in"), "-o", str(root / "out"), "-k", config]
    first = None
    with (
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True) as process,
        _memory(process) as memory,
    ):
        while process.poll() is None:
            if first is None and any((root / "out").glob("*.jpg")):
                first = time.perf_counter()
            time.sleep(0.02)
    assert first is not None
    return (len(list((root / "out").glob("*.jpg"))) - 1) / (time.perf_counter() - first), memory[0]


def _service(
    root: Path, drawn: Sequence[bytes], n_requests: int, n_clients: int, config: str, scratch: Path
) -> tuple[float, float]:
    command = [sys.executable, "-m", "anonymise", "serve", "-k", config, "--port", "0"]
    environ = {**os.environ, "WORKERS": "2", "TMPDIR": str(scratch)}
    codes: Counter[int] = Counter()
    with subprocess.Popen(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        url = f"{process.stdout.readline().strip()}/anonymize"

        def ask(number: int) -> None:
            data = drawn[number % len(drawn)]
            while True:
                answer = httpx.post(
                    url, content=data, headers={"Content-Type": "image/jpeg"}, timeout=300, trust_env=False
                )
                codes[answer.status_code] += 1
                if answer.status_code != 503:
                    break
                time.sleep(float(answer.headers["Retry-After"]))
            if answer.content != (root / "out" / f"{number:04d}.jpg").read_bytes():
                sys.exit(f"picture {number}: other bytes than the folder run's")

        with _memory(process) as memory, ThreadPoolExecutor(n_clients) as clients:
            started = time.perf_counter()
            list(clients.map(ask, range(n_requests)))
            seconds = time.perf_counter() - started
        process.kill()
    print(f"answers: {dict(codes)}")
    return n_requests / seconds, memory[0]


if __name__ == "__main__":
    main()
