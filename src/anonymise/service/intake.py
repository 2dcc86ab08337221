"""Reports by the public over HTTP: who asks too often is told to come again. `reports` does the work."""

import hashlib
import json
import secrets
import time
from collections import deque

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from anonymise.config import Config
from anonymise.corrections.store import Store
from anonymise.reports.desk import public_status, receive
from anonymise.service.engine import Busy, Refused
from anonymise.service.web import body

__all__ = ["Intake"]

_MAX_BYTES = 64 << 10
_PER_ADDRESS, _ADDRESS_SECONDS = 20, 3600.0
_IN_ALL, _DAY_SECONDS = 1000, 86_400.0


class Intake:
    """Takes reports in. For one event loop.

    Args:
        store: of corrections and reports.
        config: says where the originals are, and what is hidden at once.
    """

    def __init__(self, store: Store, config: Config) -> None:
        self._store, self._config = store, config
        # Addresses are known by a hash whose salt is never written, and for a day at most.
        self._salt = secrets.token_bytes(32)
        self._seen: deque[tuple[float, bytes]] = deque()

    def routes(self) -> list[Route]:
        """The routes of reports; nobody needs a token for them."""
        return [Route("/v1/reports", self._receive, methods=["POST"]), Route("/v1/reports/{id}", self._status)]

    def _admit(self, address: str) -> None:
        now = time.time()
        while self._seen and self._seen[0][0] < now - _DAY_SECONDS:
            self._seen.popleft()
        key = hashlib.blake2b(address.encode(), key=self._salt, digest_size=16).digest()
        of_address = [at for at, other in self._seen if other == key and at > now - _ADDRESS_SECONDS]
        if len(of_address) >= _PER_ADDRESS:
            raise Busy(int(of_address[0] + _ADDRESS_SECONDS - now) + 1, "Too many reports within an hour.", 429)
        if len(self._seen) >= _IN_ALL:
            raise Busy(int(self._seen[0][0] + _DAY_SECONDS - now) + 1, "Too many reports today.", 429)
        self._seen.append((now, key))

    async def _receive(self, request: Request) -> Response:
        self._admit(request.client.host if request.client else "")
        pieces = body(request, _MAX_BYTES, self._config.service.service_read_seconds)
        sent = b"".join([piece async for piece in pieces])
        try:
            report = json.loads(sent)
            # Files and SQLite, but of a moment: the pictures' headers and one transaction.
            id_ = receive(self._store, report, self._config)
        except (ValueError, RecursionError) as error:
            raise Refused(422, f"The report cannot be taken: {error}.") from error
        url = f"/v1/reports/{id_}"
        return JSONResponse({"id": id_, "status_url": url}, 201, {"Location": url})

    async def _status(self, request: Request) -> Response:
        found = public_status(self._store, request.path_params["id"])
        if found is None:
            raise Refused(404, "There is no such report.")
        return JSONResponse(found)
