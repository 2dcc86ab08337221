"""The review over HTTP: routes, who asks, and errors as answers. docs/review.md lists the routes."""

import asyncio
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from anonymise.core.errors import AnonymiseError, StopError
from anonymise.core.plaintext import lines_of
from anonymise.review.access import User
from anonymise.review.queue import Taken
from anonymise.review.review import Denied, Review, Served, Who
from anonymise.service.engine import Refused
from anonymise.service.web import HANDLERS, Tokens, body

__all__ = ["review_app"]

_PAGE = Path(__file__).with_name("page")
_KEEP_SECONDS = 900
_THREADS = 3
"""Each keeps the memory of the largest file that it has read."""

_MAX_BYTES = 4 << 20
_READ_SECONDS = 30.0

_Does = Callable[[Who, str, Mapping[str, Any]], Any]
"""Somebody, id of a picture where the address has one, and query or body → JSON value or file."""


def review_app(review: Review, users: Mapping[str, User]) -> Starlette:
    """The pages and routes of a review.

    Args:
        review: does the work.
        users: SHA-256 of a token → the user whose it is.
    """
    threads = ThreadPoolExecutor(_THREADS)
    tokens = Tokens({digest: user.name for digest, user in users.items()})
    by_name = {user.name: user for user in users.values()}

    def route(path: str, role: str, does: _Does, method: str = "GET", status: int = 200) -> Route:
        async def answer(request: Request) -> Response:
            try:
                user = by_name[tokens.owner(request)]
                if not user.may(role):
                    raise Denied(f"this needs the role {role}")
                who = Who(user, request.headers.get("x-review-tab", "")[:64])
                given: Any = dict(request.query_params)
                if method == "POST":
                    sent = b"".join([piece async for piece in body(request, _MAX_BYTES, _READ_SECONDS)])
                    given = json.loads(sent or b"{}")
                if not isinstance(given, dict):
                    raise ValueError("the body is no JSON object")
                # Files and SQLite; what waits for them must not hold up the others.
                work = partial(does, who, request.path_params.get("id", ""), given)
                found = await asyncio.get_running_loop().run_in_executor(threads, work)
            except Refused as error:
                return _json({"detail": error.reason}, error.status)
            except Denied as error:
                return _json({"detail": str(error)}, 403)
            except Taken as error:
                return _json({"detail": str(error)}, 409)
            except StopError as error:
                return _json({"detail": lines_of(error)}, 503)
            except (AnonymiseError, ValueError, RecursionError) as error:
                return _json({"detail": lines_of(error)}, 422)
            if not isinstance(found, Served):
                return _json(found, status)
            kept = f"private, max-age={_KEEP_SECONDS}, immutable" if found.may_keep else "no-store"
            headers = {"Cache-Control": kept}
            if isinstance(found.data, Path):
                return FileResponse(found.data, headers=headers, media_type=found.media_type)
            return Response(found.data, headers=headers, media_type=found.media_type)

        return Route(path, answer, methods=[method])

    return Starlette(
        routes=[
            route("/api/session", "viewer", lambda who, _, __: review.session(who)),
            route("/api/queue", "viewer", lambda who, _, query: review.queue(who, query)),
            route("/api/claim", "viewer", lambda who, _, body: review.claim(who, body), "POST"),
            route("/api/items/{id}/image", "viewer", lambda _, id_, query: review.image(id_, query)),
            route("/api/items/{id}/original", "original", review.original),
            route("/api/items/{id}/decision", "reviewer", review.decide, "POST", 201),
            route("/api/undo", "reviewer", lambda who, _, body: review.undo(who, body), "POST"),
            route("/api/numbers", "viewer", lambda who, _, __: review.numbers(who)),
            route("/api/draw", "reviewer", lambda _, __, ___: review.draw(start=True), "POST"),
            route("/api/draw", "reviewer", lambda _, __, ___: review.draw(start=False)),
            Mount("/", StaticFiles(directory=_PAGE, html=True)),
        ],
        exception_handlers=HANDLERS,
    )


def _json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    # ASCII: names of files may hold what UTF-8 cannot.
    return Response(json.dumps(value), status, {"Cache-Control": "no-store", **(headers or {})}, "application/json")
