"""The application: which path does what."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime
import hashlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import FastAPI, Path, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.routing import Match

from unseen import __version__
from unseen.detect.report import report
from unseen.detect.verdict import Verdict
from unseen.serve.desk import Busy, Desk, Inspection
from unseen.serve.guard import Guard, client_of, refusal_headers
from unseen.serve.metrics import Metrics
from unseen.serve.rate import Rate
from unseen.serve.schema import FILE_BODY, Health, InspectionOut, problems
from unseen.serve.upload import Refused, receive

__all__ = ["create_app"]

PAGE = FilePath(__file__).parent / "page"
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# The report alone in a window: no scripts at all, its own style, pictures that it holds itself.
REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'; sandbox"
)
DESCRIPTION = """Send a picture or a video, fetch a verdict with evidence on the faces in it.

1. `POST /v1/inspections` with the file answers 202 and an id.
2. `GET /v1/inspections/{id}` until `status` is `done` or `failed`; the answer then holds the `verdict`.
3. `GET /v1/inspections/{id}/report` is the same for people to read.
4. `DELETE /v1/inspections/{id}` forgets it; otherwise it expires.

A verdict is evidence, not proof. Files are examined on this server and removed; nothing is sent elsewhere.
"""
Id = Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="From `POST /v1/inspections`.")]


def create_app(desk: Desk) -> Guard:
    """Build the ASGI application.

    Args:
        desk: Takes the files; whoever entered it leaves it. Its settings are the application's.

    Example:
        >>> with Desk(Settings()) as desk:  # doctest: +SKIP
        ...     uvicorn.run(create_app(desk))
    """
    settings = desk.settings
    metrics = Metrics(desk)
    desk.heard = metrics.heard
    uploads = Rate(settings.rate)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        sweeper = asyncio.create_task(_sweep(desk))
        try:
            yield
        finally:
            sweeper.cancel()

    app = FastAPI(
        title="unseen",
        summary="Detects deepfakes made by forgeries that it has never seen.",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # they load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )

    def find(id: str) -> Inspection:
        inspection = desk.get(id)
        if inspection is None:
            raise Refused(404, "unknown", "no such inspection: it never was, was deleted, or has expired")
        return inspection

    @app.post(
        "/v1/inspections",
        status_code=202,
        operation_id="inspect",
        summary="Send a file",
        response_model=InspectionOut,
        openapi_extra=FILE_BODY,
        responses={
            202: {
                "description": "Taken in; ask for the verdict under `Location`.",
                "headers": {
                    "Location": {"schema": {"type": "string"}},
                    "Retry-After": {"schema": {"type": "integer"}},
                },
                "links": {
                    name: {"operationId": name, "parameters": {"id": "$response.body#/id"}}
                    for name in ("status", "report", "forget")
                },
            },
            **problems(400, 401, 403, 408, 413, 415, 422, 429, 503),
        },
    )
    async def inspect(request: Request) -> Response:
        if wait := uploads.wait(client_of(dict(request.scope))):
            raise Refused(
                429, "rate", f"more than {settings.rate} files a minute; try again in {wait} s", wait=wait
            )
        try:
            desk.reserve()
        except Busy:
            raise Refused(503, "busy", "too many files wait already; try again soon", wait=2) from None
        try:
            upload = await receive(
                {name.lower(): value for name, value in request.headers.items()},
                request.stream(),
                desk.spool,
                most=settings.max_bytes,
                seconds=settings.upload_time,
            )
        except BaseException:
            desk.release()
            raise
        inspection = Inspection(upload.name, upload.path, upload.size, upload.sha256)
        desk.add(inspection)
        metrics.uploaded.inc(upload.size)
        headers = {"Location": f"/v1/inspections/{inspection.id}", "Retry-After": "1"}
        return JSONResponse(describe(inspection, desk), 202, headers)

    @app.get(
        "/v1/inspections/{id}",
        operation_id="status",
        summary="Status and verdict",
        response_model=InspectionOut,
        responses=problems(401, 403, 404, 422, 429),
    )
    async def status(id: Id) -> Response:
        return JSONResponse(describe(find(id), desk))

    @app.get(
        "/v1/inspections/{id}/report",
        operation_id="report",
        summary="The report, one self-contained page",
        response_class=Response,
        responses={
            200: {
                "content": {"text/html": {"schema": {"type": "string"}}},
                "description": "HTML without scripts.",
            },
            **problems(401, 403, 404, 409, 422, 429),
        },
    )
    async def read_report(id: Id) -> Response:
        inspection = find(id)
        if not inspection.report:
            raise Refused(
                409, "not_finished", f"the inspection is {inspection.status}; try again soon", wait=1
            )
        headers = {"Content-Security-Policy": REPORT_POLICY}
        return Response(inspection.report, media_type="text/html; charset=utf-8", headers=headers)

    @app.delete(
        "/v1/inspections/{id}",
        status_code=204,
        operation_id="forget",
        summary="Stop it if it runs, and forget it",
        response_class=Response,
        responses={204: {"description": "Forgotten."}, **problems(401, 403, 404, 422, 429)},
    )
    async def forget(id: Id) -> Response:
        find(id)
        desk.delete(id)
        return Response(status_code=204)

    @app.get("/health", operation_id="health", summary="Alive, and what it takes", responses=problems(403))
    async def health() -> Health:
        return Health.model_validate(
            {
                "status": "ok",
                "version": __version__,
                "model": str(desk.facts.get("model", settings.run)),
                "token_required": settings.token is not None,
                "keep_seconds": settings.keep,
                "capacity": {
                    "workers": settings.workers,
                    "running": desk.running,
                    "queued": desk.queued,
                    "places": settings.queue,
                },
                "limits": {
                    "bytes": settings.max_bytes,
                    "pixels": settings.max_pixels,
                    "seconds": settings.max_duration,
                    "examination_seconds": settings.time_limit,
                    "uploads_per_minute": settings.rate,
                },
            }
        )

    @app.get(
        "/metrics",
        operation_id="metrics",
        summary="Counts and times in Prometheus' text format",
        response_class=Response,
        responses={
            200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Version 0.0.4."},
            **problems(401, 403, 429),
        },
    )
    async def read_metrics() -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    add_page(app)
    add_refusals(app, metrics)
    if settings.token is not None:
        require_token(app)
    return Guard(app, settings, lambda reason: metrics.refused.labels(reason).inc())


def describe(inspection: Inspection, desk: Desk) -> dict[str, Any]:
    """An inspection as the API tells it."""
    done = inspection.finished is not None
    return {
        "id": inspection.id,
        "status": inspection.status,
        "file": inspection.name,
        "bytes": inspection.size,
        "sha256": inspection.sha256,
        "ahead": desk.ahead(inspection),
        "created": clock(inspection.created),
        "started": clock(inspection.started),
        "finished": clock(inspection.finished),
        "expires": clock((inspection.finished or 0) + desk.settings.keep) if done else None,
        "report": f"/v1/inspections/{inspection.id}/report" if done else None,
        "verdict": json.loads(inspection.verdict) if inspection.verdict else None,
    }


def clock(seconds: float | None) -> str | None:
    """A moment in ISO 8601.

    >>> clock(0.5)
    '1970-01-01T00:00:00.500Z'
    """
    if seconds is None:
        return None
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def page_policy() -> str:
    """What the page may load: its own files, and the style of the reports it shows, known by its hash."""
    sheet = re.findall(r"<style>(.*?)</style>", report([Verdict("file", "error", "empty")]), re.DOTALL)
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in sheet
    )
    return (
        f"default-src 'none'; script-src 'self'; style-src 'self' {hashes}; style-src-attr 'unsafe-inline'; "
        "img-src 'self' data:; connect-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )


def add_page(app: FastAPI) -> None:
    """Serve the page's files, which are read once."""
    policy = page_policy()
    for name in ("index.html", "page.css", "page.js", "icon.svg"):
        file = PAGE / name
        answer = file.read_bytes(), KINDS[file.suffix]

        async def give(request: Request, answer: tuple[bytes, str] = answer) -> Response:
            headers = {"Content-Security-Policy": policy, "Cache-Control": "no-cache"}
            return Response(answer[0], media_type=answer[1], headers=headers)

        app.add_route(
            "/" if name == "index.html" else f"/{name}", give, methods=["GET"], include_in_schema=False
        )


def add_refusals(app: FastAPI, metrics: Metrics) -> None:
    """Give every refusal the same shape."""

    def answer(refusal: Refused, headers: dict[str, str] | None = None) -> Response:
        metrics.refused.labels(refusal.reason).inc()
        body = {"reason": refusal.reason, "message": refusal.message}
        return JSONResponse(body, refusal.status, {**refusal_headers(refusal), **(headers or {})})

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> Response:
        return answer(error)

    @app.exception_handler(HTTPException)
    async def not_found(request: Request, error: HTTPException) -> Response:
        reason = {404: "unknown", 405: "method"}.get(error.status_code, "bad_request")
        headers = dict(error.headers or {})
        if error.status_code == 405:  # the router names the methods of the first route with this path alone
            same = [route for route in app.routes if route.matches(request.scope)[0] is not Match.NONE]
            headers["Allow"] = ", ".join(sorted({m for route in same for m in getattr(route, "methods", ())}))
        return answer(Refused(error.status_code, reason, str(error.detail)), headers)

    from fastapi.exceptions import RequestValidationError

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return answer(Refused(422, "bad_request", "; ".join(str(e["msg"]) for e in error.errors())[:300]))

    @app.exception_handler(Exception)
    async def internal(request: Request, error: Exception) -> Response:
        return answer(Refused(500, "internal", "the server failed on this request; its log says why"))


def require_token(app: FastAPI) -> None:
    """Say in the description that a token is needed."""
    plain = app.openapi

    def described() -> dict[str, Any]:
        schema = plain()
        schema.setdefault("components", {})["securitySchemes"] = {
            "token": {"type": "http", "scheme": "bearer"}
        }
        for path, methods in schema["paths"].items():
            for method in methods.values():
                method["security"] = [] if path == "/health" else [{"token": []}]
        return schema

    app.openapi = described  # type: ignore[method-assign]


async def _sweep(desk: Desk) -> None:
    """Forget expired results even when nobody asks."""
    while True:
        await asyncio.sleep(min(5.0, desk.settings.keep / 4))
        desk.sweep()
