"""What a server here needs: who may ask, bodies within limits, answers to errors, headers, starting and stopping."""

import asyncio
import hashlib
import hmac
import ipaddress
import logging
import os
import re
import secrets
import socket
import stat
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from types import FrameType, MappingProxyType

import uvicorn
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from anonymise.core.errors import UsageError
from anonymise.service.engine import Busy, Refused

__all__ = [
    "HANDLERS",
    "Server",
    "Tokens",
    "address_of",
    "body",
    "is_loopback",
    "listen",
    "parts",
    "read_tokens",
    "secured",
]

log = logging.getLogger(__name__)

_SLOWEST = 100_000
"""Bytes a second that a client must send on average, once the first `service_read_seconds` are over."""

_LAST_SECONDS = 20
"""How long a download or upload may go on once the pictures in work are done and the server stops."""

_MAX_PARTS = 2000
"""Of a form: the largest job, and room for other fields."""

_HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:; frame-ancestors 'none'; base-uri 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_REQUEST_ID = re.compile(r"[A-Za-z0-9-]{1,64}")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address or host name."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_tokens(file: Path, pattern: str, form: str) -> dict[str, tuple[str, ...]]:
    """SHA-256 of each token of a file → name of its owner, and what else its line says.

    Args:
        file: a line for each token; empty lines and those that begin with # are passed over.
        pattern: regular expression of what stands before the SHA-256, with a group for each value.
        form: the same in words.

    Raises:
        UsageError: the file cannot be read, a line has another form, or a name has two lines that say different
            things; names file and line. Or the file has no token.
    """
    try:
        lines = file.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    found: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(pattern + r"\s*([0-9a-fA-F]{64})\s*", line)
        if match is None:
            raise UsageError(f"{file}, line {number}: it is no {form}")
        *said, digest = (value.strip() for value in match.groups())
        if any(other[0] == said[0] and other != (*said,) for other in found.values()):
            raise UsageError(f"{file}, line {number}: {said[0]} stands there twice")
        found[digest.lower()] = (*said,)
    if not found:
        raise UsageError(f"{file} has no token")
    return found


class Tokens:
    """Who may ask. Tokens are known by their SHA-256 only, and compared in constant time.

    Args:
        names: SHA-256 of each token → name of its owner; empty lets everybody ask.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = dict(names)

    @classmethod
    def read(cls, file: Path) -> "Tokens":
        """The tokens of a file with a line ``name:sha256`` for each.

        Raises:
            UsageError: the file cannot be read, others may read it, or a line is none; names file and line.
        """
        try:
            if os.name == "posix" and file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise UsageError(f"{file} may be read by others: chmod 600 {file}")
        except OSError as error:
            raise UsageError(f"{file} cannot be read: {error.strerror or error}") from error
        found = read_tokens(file, r"([^:]+):", "name:SHA-256 of a token")
        return cls({digest: name for digest, (name,) in found.items()})

    def owner(self, request: Request, *, right: str = "anonymise") -> str:
        """Name of whoever asks; empty where there are no tokens. A token named ``metrics`` has that right alone.

        Raises:
            Refused: there is no token, or one without this right.
        """
        if not self._names:
            return ""
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        given = hashlib.sha256(token.strip().encode()).hexdigest()
        found = [name for digest, name in self._names.items() if hmac.compare_digest(digest, given)]
        if kind.lower() != "bearer" or not found:
            raise Refused(401, "A token is needed: Authorization: Bearer TOKEN.")
        if (found[0] == "metrics") != (right == "metrics"):
            raise Refused(403, "This token does not have the right.")
        return found[0]


async def body(request: Request, max_bytes: int, seconds: float) -> AsyncIterator[bytes]:
    """The pieces of a request's body.

    Args:
        request: the request.
        max_bytes: a larger body is refused, where its length is known before any of it is read.
        seconds: time that the client has before it must have sent bytes at a certain rate.

    Raises:
        Refused: the body is too large, or does not come.
    """
    length = request.headers.get("Content-Length")
    if length is None and "Transfer-Encoding" not in request.headers:
        raise Refused(411, "The request says no length.")
    if length is not None and (not length.isdecimal() or int(length) > max_bytes):
        raise Refused(413, f"The body has more than {max_bytes} bytes.")
    started, n_bytes = time.monotonic(), 0
    pieces = request.stream().__aiter__()
    while True:
        left = started + seconds + n_bytes / _SLOWEST - time.monotonic()
        try:
            piece = await asyncio.wait_for(anext(pieces), max(0.0, left))
        except StopAsyncIteration:
            return
        except (asyncio.TimeoutError, TimeoutError) as error:
            raise Refused(408, "The body did not come in time.") from error
        except ClientDisconnect as error:
            raise Refused(499, "The client has gone.") from error
        n_bytes += len(piece)
        if n_bytes > max_bytes:
            raise Refused(413, f"The body has more than {max_bytes} bytes.")
        if piece:
            yield piece


async def parts(
    request: Request, pieces: AsyncIterator[bytes], sink: Callable[[str, str], Callable[[bytes], None]]
) -> None:
    """Takes a multipart body apart while it comes. No part is spooled to a disk.

    Args:
        request: the request, whose header names the boundary.
        pieces: its body.
        sink: called with the name and the file name of each part, gives what takes its bytes.

    Raises:
        Refused: the body is not multipart, or broken, or has too many parts.
    """
    kind, options = parse_options_header(request.headers.get("Content-Type", ""))
    if kind != b"multipart/form-data" or b"boundary" not in options:
        raise Refused(415, "The body must be multipart/form-data.")
    field, header, state = bytearray(), bytearray(), {"n": 0}
    disposition: dict[str, bytes] = {}
    write: list[Callable[[bytes], None]] = []

    def header_end() -> None:
        if bytes(field).lower() == b"content-disposition":
            disposition["value"] = bytes(header)
        field.clear()
        header.clear()

    def headers_finished() -> None:
        _, given = parse_options_header(disposition.pop("value", b""))
        names = (given.get(key, b"").decode("utf-8", "replace") for key in (b"name", b"filename"))
        write[:] = [sink(*names)]
        state["n"] += 1
        if state["n"] > _MAX_PARTS:
            raise Refused(413, f"The form has more than {_MAX_PARTS} parts.")

    try:
        parser = MultipartParser(
            options[b"boundary"],
            {
                "on_header_field": lambda data, start, end: field.extend(data[start:end]),
                "on_header_value": lambda data, start, end: header.extend(data[start:end]),
                "on_header_end": header_end,
                "on_headers_finished": headers_finished,
                "on_part_data": lambda data, start, end: write[0](data[start:end]),
                "on_end": lambda: state.update(ended=1),
            },
        )
        async for piece in pieces:
            parser.write(piece)
        parser.finalize()
    except FormParserError as error:
        raise Refused(400, "The multipart body is broken.") from error
    if "ended" not in state:
        raise Refused(400, "The multipart body is cut off.")


async def _answer(request: Request, error: Exception) -> Response:
    """An error as an answer: ``{"detail"}`` below ``/v1`` and ``/blur``, elsewhere a line of text."""
    if not isinstance(error, Refused):
        status = getattr(error, "status_code", 500)
        reasons = {404: "There is no such route.", 405: "This route does not take this method."}
        error = Refused(
            status, reasons.get(status, f"Something went wrong here; the log has it as {request.state.id}.")
        )
    headers = {}
    if isinstance(error, Busy):
        headers["Retry-After"] = str(error.retry_after)
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if error.status in (408, 411, 413):
        headers["Connection"] = "close"  # the rest of the body is not read
    if request.url.path.startswith(("/v1", "/blur")):
        return JSONResponse({"detail": error.reason}, error.status, headers)
    return PlainTextResponse(error.reason, error.status, headers)


HANDLERS: Mapping[int | type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = MappingProxyType(
    dict.fromkeys((Refused, 404, 405, Exception), _answer)
)
"""Error → what answers it: never with a path or a stack."""


def secured(app: ASGIApp) -> ASGIApp:
    """The app with a request id, security headers and a line in the log for each request."""

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        request = Request(scope)
        given = request.headers.get("X-Request-ID", "")
        scope.setdefault("state", {})["id"] = id_ = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        started, status = time.perf_counter(), [0]

        async def send_with(message: Message) -> None:
            if message["type"] == "http.response.start":
                status[0] = message["status"]
                own = {name.lower() for name, _ in message["headers"]}
                added = {**_HEADERS, "X-Request-ID": id_}.items()
                message["headers"] += [
                    (name.lower().encode(), value.encode()) for name, value in added if name.lower().encode() not in own
                ]
            await send(message)

        try:
            await app(scope, receive, send_with)
        except Exception as error:  # noqa: BLE001 - it was answered; its traceback and message may name a path
            where = error.__traceback__
            while where is not None and where.tb_next is not None:
                where = where.tb_next
            line = "" if where is None else f" at {Path(where.tb_frame.f_code.co_filename).name}:{where.tb_lineno}"
            log.error("%s: %s%s", id_, type(error).__name__, line)
        finally:
            state = scope["state"]
            objects = ",".join(f"{name}={n}" for name, n in state.get("objects", {}).items())
            log.info(
                "%s %s %s %d bytes %d pixels %.3f s %d %s",
                id_, request.method, state.get("owner", "-") or "-", state.get("n_bytes", 0), state.get("n_pixels", 0),
                time.perf_counter() - started, status[0], objects or "-",
            )  # fmt: skip

    return run


def listen(host: str, port: int) -> socket.socket:
    """A socket that is listened at.

    Raises:
        UsageError: the address is not this machine's, or taken.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        made = socket.create_server((host, port), family=family)
        # asyncio sets TCP_NODELAY where a socket names its protocol; without it answers wait 40 ms for the other side.
        return socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, made.detach())
    except OSError as error:
        raise UsageError(f"{host}:{port} cannot be listened at: {error.strerror or error}") from error


def address_of(listening: socket.socket, host: str) -> str:
    """The address of a socket for browsers, such as ``http://127.0.0.1:5000``."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listening.getsockname()[1]}"


class Server(uvicorn.Server):
    """A server that on SIGTERM or Ctrl-C ends what is in work before it goes; a second one ends it at once.

    Args:
        app: what is served.
        drained: whether nothing is in work any more.
        stopping: called when it is to stop.
        seconds: how long what is in work may take.
    """

    def __init__(self, app: ASGIApp, drained: Callable[[], bool], stopping: Callable[[], None], seconds: float) -> None:
        super().__init__(
            uvicorn.Config(
                secured(app),
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="on",
                timeout_graceful_shutdown=_LAST_SECONDS,
            )
        )
        self._drained, self._stopping, self._seconds = drained, stopping, seconds
        self._is_stopping, self._until = False, 0.0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stops; new requests are still answered, with 503, until the last one in work is done."""
        if self._is_stopping:
            super().handle_exit(sig, frame)
            return
        self._is_stopping = True
        self._stopping()
        self._until = time.monotonic() + self._seconds

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second; whether to go."""
        if self._is_stopping and (self._drained() or time.monotonic() > self._until):
            self.should_exit = True
        return await super().on_tick(counter)
