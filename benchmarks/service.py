"""Load on the service against the folder run: ``python -m benchmarks.service [--requests 200] [--clients 32]``.

Both get the same drawn pictures and the same configuration, one after the other in processes of their own; memory is
the sum of the proportional sets of all their processes. Refused requests come again when
the service says so.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from benchmarks.process import Peak, run

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
        done = run(root / "in", root / "out", arguments.config)
        job = (arguments.requests - 1) / (done.wall_s - done.first_s), done.peak_mib
        service = _service(root, drawn, arguments.requests, arguments.clients, arguments.config, scratch)
        left = [path for path in scratch.rglob("*") if path.is_file()]
    print(f"{arguments.requests} pictures of {arguments.size}, {arguments.clients} clients, WORKERS=2\n")
    print(f"{'':20}{'images/s':>10}{'MiB':>8}")
    for name, (pace, memory) in (("folder run", job), ("service", service)):
        print(f"{name:20}{pace:10.2f}{memory:8.0f}")
    print(f"{'service / run':20}{service[0] / job[0]:10.2f}{service[1] / job[1]:8.2f}")
    print(f"files left in the temporary folder: {len(left)}")


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

        peak = Peak(process.pid)
        with ThreadPoolExecutor(n_clients) as clients:
            started = time.perf_counter()
            list(clients.map(ask, range(n_requests)))
            seconds = time.perf_counter() - started
        memory = peak.stop()
        process.kill()
    print(f"answers: {dict(codes)}")
    return n_requests / seconds, memory


if __name__ == "__main__":
    main()
