"""Serves an app to browsers: security headers, limits, start. To be the service's."""

from collections.abc import Callable
from typing import Any

import uvicorn

_LIMIT = 1 << 20

_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def secured(app: Any) -> Any:
    """The app with security headers on each answer."""

    async def run(scope: Any, receive: Any, send: Any) -> None:
        async def send_with(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] += [(k.lower().encode(), v.encode()) for k, v in _HEADERS.items()]
            await send(message)

        await app(scope, receive, send_with)

    return run


def serve(app: Any, host: str, port: int, ready: Callable[[int], None]) -> None:
    """Serves until it is interrupted."""
    import socket

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only where the protocol is named; without it answers wait 40 ms for an acknowledgement.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(128)
        ready(listening.getsockname()[1])
        config = uvicorn.Config(secured(app), log_level="warning", access_log=False, server_header=False)
        uvicorn.Server(config).run(sockets=[listening])
