"""A service in a process of its own, and what is sent to it."""

import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from anonymise.core.detections import Box
from anonymise.images import encode_jpeg
from tests.fakes import street

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys, time
import anonymise.models
from anonymise.commands import serve
from tests.fakes import RedMasker

class Slow(RedMasker):
    def detect(self, images):
        time.sleep({seconds})
        return super().detect(images)

anonymise.models.load_masker = lambda options, progress=True: Slow()
sys.exit(serve.main(sys.argv[1:]))
"""
"""The command with a model that finds red rectangles, in a time of its own choice."""


class Serving:
    """A running service.

    Attributes:
        log: what it has written to the standard error so far, line by line.
    """

    def __init__(self, process: "subprocess.Popen[str]", address: str) -> None:
        self.process, self.address = process, address
        self.log: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr:
            self.log.extend(self.process.stderr)

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def client(self, token: str | None = None) -> httpx.Client:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return httpx.Client(base_url=self.address, headers=headers, timeout=60, trust_env=False)

    def post(self, data: bytes, kind: str | None = "image/jpeg", **headers: str) -> httpx.Response:
        given = {} if kind is None else {b"Content-Type": kind.encode()}
        given |= {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
        with self.client() as client:
            return client.post("/anonymize", content=data, headers=given)

    def get(self, path: str) -> httpx.Response:
        with self.client() as client:
            return client.get(path)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def close(self) -> None:
        """Ends it at once."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._reader.join()

    def stop(self) -> int:
        """Asks it to stop; gives its exit code."""
        if os.name == "nt":
            self.process.terminate()
        else:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def start(*keys: str, arguments: Sequence[str] = (), seconds: float = 0, environ: Mapping[str, str] = {}) -> Serving:
    """Starts a service, and waits until it listens."""
    call = [sys.executable, "-c", PROGRAM.format(seconds=seconds), "--port", "0", *arguments]
    call += [part for key in ("mask_dilation_pixels=0", *keys) for part in ("--set", key)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]), **environ}
    process = subprocess.Popen(
        call, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
    )
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    if not address:
        _, error = process.communicate(timeout=60)
        raise AssertionError(error)
    return Serving(process, address)


@contextmanager
def serving(
    *keys: str, arguments: Sequence[str] = (), seconds: float = 0, environ: Mapping[str, str] = {}
) -> Iterator[Serving]:
    served = start(*keys, arguments=arguments, seconds=seconds, environ=environ)
    try:
        yield served
    finally:
        served.close()


def picture(seed: int = 0, size: tuple[int, int] = (160, 120), cars: Sequence[Box] = (Box(40, 40, 90, 80),)) -> bytes:
    return encode_jpeg(street(size, cars, seed), quality=95)


def token_file(file: Path, **tokens: str) -> Path:
    lines = [f"{name}:{hashlib.sha256(token.encode()).hexdigest()}\n" for name, token in tokens.items()]
    file.write_text("".join(lines), "utf-8")
    file.chmod(0o600)
    return file
