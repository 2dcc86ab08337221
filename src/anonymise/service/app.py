"""The routes of the service."""

import json
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from importlib.metadata import version
from importlib.resources import files

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from anonymise.config import ServiceOptions
from anonymise.core.classes import LABELS
from anonymise.core.detections import Instance
from anonymise.service.engine import Done, Engine, Refused
from anonymise.service.intake import Intake
from anonymise.service.jobs import Job, Jobs
from anonymise.service.web import HANDLERS, Tokens, body, is_loopback, parts

__all__ = ["Service"]

_MAX_RELATIVE = 1000


class Service:
    """The service as an ASGI app.

    Args:
        engine: does the work.
        tokens: say who may ask.
        jobs: of many images; None has no routes for them.
        intake: takes reports in; None has no routes for them.
        options: limits.

    Attributes:
        app: the app.
        is_stopping: whether new requests are refused.
    """

    def __init__(
        self, engine: Engine, tokens: Tokens, jobs: Jobs | None, intake: Intake | None, options: ServiceOptions
    ) -> None:
        self._engine, self._tokens, self._jobs, self._options = engine, tokens, jobs, options
        self._version = version("anonymise")
        self.is_stopping = False
        self._metrics()
        page = files("anonymise.service") / "page"
        kinds = {"index.html": "text/html", "page.js": "text/javascript", "page.css": "text/css"}
        kinds |= {"icon.svg": "image/svg+xml", "openapi.json": "application/json"}
        static = {name: ((page / name).read_bytes(), kind) for name, kind in kinds.items()}

        async def serve_static(request: Request) -> Response:
            data, kind = static[request.url.path.lstrip("/") or "index.html"]
            return Response(data, media_type=kind)

        routes = [
            *(Route(path, serve_static) for path in ("/", *(f"/{name}" for name in kinds))),
            Route("/anonymize", self._anonymize, methods=["POST"]),
            Route("/blur/", self._blur, methods=["POST"]),
            Route("/blur/", self._health),
            Route("/deblur/", self._deblur, methods=["GET", "POST"]),
            Route("/healthz", self._health),
            Route("/readyz", self._ready),
            Route("/metrics", self._show_metrics),
        ]
        if jobs is not None:
            routes += [
                Route("/v1/jobs", self._new_job, methods=["POST"]),
                Route("/v1/jobs/{id}", self._job),
                Route("/v1/jobs/{id}", self._delete_job, methods=["DELETE"]),
                Route("/v1/jobs/{id}/result", self._result),
                Route("/v1/jobs/{id}/images/{number:int}", self._image),
            ]
        if intake is not None:
            routes += intake.routes()
        self.app = Starlette(routes=routes, lifespan=self._lifespan, exception_handlers=HANDLERS)

    def stop(self) -> None:
        """Takes no further requests."""
        self.is_stopping = True
        if self._jobs is not None:
            self._jobs.pause()

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        if self._jobs is not None:
            self._jobs.start()
        yield
        if self._jobs is not None:
            await self._jobs.stop()

    def _metrics(self) -> None:
        self._registry = registry = CollectorRegistry()
        prefix = "anonymise_service"
        self._requests = Counter(f"{prefix}_requests", "Pictures asked for", ["route", "code"], registry=registry)
        self._objects = Counter(f"{prefix}_objects", "Objects found", ["category"], registry=registry)
        self._times = Histogram(
            f"{prefix}_seconds", "Seconds of a picture, waiting included", registry=registry,
            buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
        )  # fmt: skip
        gauges: dict[str, tuple[str, Callable[[], float]]] = {
            "waiting_or_in_work": ("Pictures that wait or are in work", lambda: self._engine.n_requests),
            "ready": ("Whether pictures are taken", lambda: not self._not_ready()),
        }
        for name, (text, value) in gauges.items():
            Gauge(f"{prefix}_{name}", text, registry=registry).set_function(value)

    def _not_ready(self) -> str:
        if self.is_stopping:
            return "stopping"
        if not self._engine.is_ready:
            return "the model did not pass its test"
        return "the queue is full" if self._engine.is_full else ""

    async def _health(self, _: Request) -> Response:
        return PlainTextResponse("ok")

    async def _ready(self, _: Request) -> Response:
        reason = self._not_ready()
        return PlainTextResponse(reason or "ok", 503 if reason else 200)

    async def _show_metrics(self, request: Request) -> Response:
        if request.client is None or not is_loopback(request.client.host):
            self._tokens.owner(request, right="metrics")
        return Response(generate_latest(self._registry), media_type="text/plain; version=0.0.4")

    async def _deblur(self, _: Request) -> Response:
        return JSONResponse({"detail": "originals are not kept"}, 410)

    async def _anonymize(self, request: Request) -> Response:
        """BlurScene's call: the picture as body."""
        with self._counted("anonymize"):
            self._admit(request)
            if "image" not in request.headers.get("Content-Type", "").lower():
                raise Refused(415, "Unknown content type")
            with self._engine.place():
                done = await self._picture(request, [piece async for piece in self._body(request)])
            ending = "jpeg" if done.kind == "jpeg" else "png"
            return self._answer(done, {"Content-Disposition": f"inline; filename=anon_image.{ending}"})

    async def _blur(self, request: Request) -> Response:
        """Sgblur's call: a form with the field ``picture``."""
        with self._counted("blur"):
            self._admit(request)
            picture: list[bytes] = []
            seen: list[str] = []

            def sink(name: str, _: str) -> Callable[[bytes], None]:
                if name == "picture" and name in seen:
                    raise Refused(400, "There is more than one picture.")
                seen.append(name)
                return picture.append if name == "picture" else lambda _: None

            with self._engine.place():
                await parts(request, self._body(request), sink)
                if "picture" not in seen:
                    raise Refused(400, "There is no picture: the field picture is missing.")
                done = await self._picture(request, picture)
            told = [one for one in done.detections.instances if LABELS[one.label] in self._options.service_annotations]
            if "multipart/form-data" not in request.headers.get("Accept", ""):
                info = {"info": [*map(_info, told)], "model": f"anonymise {self._version}", "salt": None}
                return self._answer(done, {"x-sgblur": json.dumps(info)})
            metadata = json.dumps({"annotations": [*map(_annotation, told)], "service_name": "anonymise"})
            boundary = secrets.token_hex(16)
            content = _multipart(metadata, done, boundary)
            return Response(content, media_type=f"multipart/form-data; boundary={boundary}", headers=self._found(done))

    def _admit(self, request: Request) -> None:
        """Lets a request in before any of its body is read."""
        request.state.owner = self._tokens.owner(request)
        if self.is_stopping:
            raise Refused(503, "The service is stopping.")

    def _body(self, request: Request) -> AsyncIterator[bytes]:
        return body(request, self._options.service_max_bytes, self._options.service_read_seconds)

    async def _picture(self, request: Request, pieces: list[bytes]) -> Done:
        data = b"".join(pieces)
        pieces.clear()
        request.state.n_bytes = len(data)
        if not data:
            raise Refused(400, "Image has 0 Bytes.")

        async def gone() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass

        with self._times.time():
            done = await self._engine.anonymise(
                data, _relative(request), gone=gone, seconds=self._options.request_seconds
            )
        request.state.n_pixels, request.state.objects = done.n_pixels, done.objects
        for name, n in done.objects.items():
            self._objects.labels(name).inc(n)
        return done

    def _answer(self, done: Done, headers: Mapping[str, str]) -> Response:
        return Response(done.data, media_type=done.media_type, headers={**self._found(done), **headers})

    def _found(self, done: Done) -> dict[str, str]:
        objects = ";".join(f"{name}={n}" for name, n in done.objects.items())
        return {"X-Anonymise-Objects": objects, "X-Anonymise-Version": self._version}

    @contextmanager
    def _counted(self, route: str) -> Iterator[None]:
        try:
            yield
        except Refused as error:
            self._requests.labels(route, error.status).inc()
            raise
        except Exception:
            self._requests.labels(route, 500).inc()
            raise
        self._requests.labels(route, 200).inc()

    def _of(self, request: Request) -> tuple[Jobs, Job]:
        assert self._jobs is not None  # else there is no such route
        request.state.owner = owner = self._tokens.owner(request)
        return self._jobs, self._jobs.of(request.path_params["id"], owner)

    async def _new_job(self, request: Request) -> Response:
        assert self._jobs is not None
        self._admit(request)
        key = request.headers.get("Idempotency-Key", "")
        pieces = body(request, self._options.service_jobs_bytes, self._options.service_read_seconds)
        job, is_new = await self._jobs.take(request.state.owner, key, partial(parts, request, pieces))
        url = f"/v1/jobs/{job.id}"
        return JSONResponse({"id": job.id, "status_url": url}, 202 if is_new else 200, {"Location": url})

    async def _job(self, request: Request) -> Response:
        return JSONResponse(self._of(request)[1].status())

    async def _delete_job(self, request: Request) -> Response:
        jobs, job = self._of(request)
        await jobs.delete(job)
        return Response(status_code=204)

    async def _result(self, request: Request) -> Response:
        jobs, job = self._of(request)
        if job.count("pending"):
            raise Refused(409, "The job is not done yet.")
        headers = {"Content-Disposition": f"attachment; filename={job.id}.zip"}
        return StreamingResponse(jobs.archive(job), media_type="application/zip", headers=headers)

    async def _image(self, request: Request) -> Response:
        jobs, job = self._of(request)
        return FileResponse(jobs.result(job, request.path_params["number"]))


def _info(one: Instance) -> dict[str, object]:
    """An object as sgblur's header has it."""
    box = one.box
    return {
        "class": LABELS[one.label],
        "confidence": round(one.score, 3),
        "xywh": [box.left, box.top, box.width, box.height],
        "bbox": [box.left, box.top, box.right, box.bottom],
    }


def _annotation(one: Instance) -> dict[str, object]:
    """An object as Panoramax has it."""
    return {
        "shape": [one.box.left, one.box.top, one.box.right, one.box.bottom],
        "semantics": [{"key": "detection_confidence", "value": f"{one.score:.3f}"}],
    }


def _relative(request: Request) -> str:
    """The name that corrections know the picture by.

    Raises:
        Refused: it is no path below the input folder.
    """
    raw = request.headers.get("X-Anonymise-Relative", "")
    try:
        name = raw.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refused(400, "X-Anonymise-Relative is not UTF-8.") from error
    parts_ = name.split("/")
    if name and (len(name) > _MAX_RELATIVE or "\\" in name or ":" in name or not {"", ".", ".."}.isdisjoint(parts_)):
        raise Refused(400, "X-Anonymise-Relative is no path below the input folder.")
    return name


def _multipart(metadata: str, done: Done, boundary: str) -> bytes:
    heads = (
        'Content-Disposition: form-data; name="metadata"\r\nContent-Type: application/json',
        f'Content-Disposition: form-data; name="image"; filename="blurred.{done.suffix}"\r\n'
        f"Content-Type: {done.media_type}",
    )
    pieces = [f"--{boundary}\r\n{head}\r\n\r\n".encode() for head in heads]
    return b"".join((pieces[0], metadata.encode(), b"\r\n", pieces[1], done.data, f"\r\n--{boundary}--\r\n".encode()))
