"""The HTTP application: routes, who may call them, and errors in the form that OpenAI's clients expect."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from aiohttp import web

from lwasr_edge import __version__
from lwasr_edge.errors import LimitError, LwasrError
from lwasr_edge.serve.http.stream import stream_socket
from lwasr_edge.serve.http.transcriptions import create_transcription, served_models

if TYPE_CHECKING:
    from lwasr_edge.serve.service import Service

log = logging.getLogger("lwasr_edge.serve")

# Other reasons: 503, the service as a whole is busy.
STATUS_OF_REASON = {"files": 429, "size": 413, "audio": 413, "idle": 408}
RETRY_AFTER_S = 2
PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
    "Access-Control-Allow-Headers": "Authorization, Content-Type",
    "Access-Control-Max-Age": "3600",
}
READ_TIMES = 4  # times `idle_s`, in which a response must be read
OPEN_PATHS = ("/health",)  # answer without a token

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Access:
    """Who may use the service.

    Browsers let any web page send requests to a service on the same computer. They name the page in the header
    `Origin`, and such requests are refused unless the page is allowed.
    """

    token: str | None = None  # None for everybody
    origins: frozenset[str] = frozenset()  # of web pages; "*" for all

    def refusal(self, request: web.BaseRequest) -> str | None:
        """Why a request is refused because of the page that it comes from; None if it is not."""
        origin = request.headers.get("Origin")
        if origin is None or "*" in self.origins or origin in self.origins:
            return None
        return f"the web page {origin[:200]!r} may not use this service: start it with --allow-origin"

    def has_token(self, request: web.BaseRequest) -> bool:
        """Whether the request has the token, compared in constant time."""
        if self.token is None:
            return True
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        is_equal = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), self.token.encode())
        return is_equal and scheme.lower() == "bearer"


def make_app(service: Service, access: Access, rules: Any) -> web.Application:
    """The application of one service.

    Args:
        service: recognises.
        access: who may use it.
        rules: default end-points of streams.
    """
    app = web.Application(middlewares=[_middleware(service, access)], client_max_size=65_536)
    app.on_response_prepare.append(partial(_let_pages_read, access))

    async def models(request: web.Request) -> web.StreamResponse:
        return web.json_response({"object": "list", "data": served_models(service)})

    async def model(request: web.Request) -> web.StreamResponse:
        (described, *_) = served_models(service)
        if request.match_info["name"] != described["id"]:
            raise web.HTTPNotFound(text=f"model must be {described['id']}, got another")
        return web.json_response(described)

    async def health(request: web.Request) -> web.StreamResponse:
        status = "stopping" if service.is_stopping else "ok"
        state: dict[str, Any] = {"status": status, "model": service.recognizer.info.name, "version": __version__}
        state |= {"streams": service.open_streams, "files": service.open_files}
        return web.json_response(state, status=503 if service.is_stopping else 200)

    async def metrics(request: web.Request) -> web.StreamResponse:
        headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=service.metrics.text(), headers=headers)

    async def stream(request: web.Request) -> web.StreamResponse:
        return await stream_socket(request, service, rules)

    async def transcriptions(request: web.Request) -> web.StreamResponse:
        return await create_transcription(request, service)

    app.router.add_get("/v1/models", models)
    app.router.add_get("/v1/models/{name}", model)
    app.router.add_get("/health", health)
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/v1/stream", stream)
    app.router.add_post("/v1/audio/transcriptions", transcriptions)
    return app


def _middleware(service: Service, access: Access) -> Any:
    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        refusal = access.refusal(request)
        if refusal is not None:
            service.refused("origin", refusal)
            return error_response(403, refusal, "origin_not_allowed")
        if request.method == "OPTIONS" and "Origin" in request.headers:
            return web.Response(status=204, headers=PREFLIGHT)
        if request.path not in OPEN_PATHS and not access.has_token(request):
            service.refused("token", "a request had no valid token")
            message = "the request must have the header Authorization: Bearer TOKEN, with the token of --token"
            response = error_response(401, message, "invalid_api_key")
            response.headers["WWW-Authenticate"] = "Bearer"
        else:
            response = await _answered(request, handler)
        await _send(response, request, READ_TIMES * service.limits.idle_s)
        return response

    return middleware


async def _send(response: web.StreamResponse, request: web.Request, patience_s: float) -> None:
    """Send a response; a client that does not read it is disconnected."""

    async def send() -> None:
        await response.prepare(request)
        await response.write_eof()

    if response.prepared:  # a WebSocket, or events
        return
    try:
        await asyncio.wait_for(send(), patience_s)
    except asyncio.TimeoutError:
        log.info("http: a response must be read within %g s: the client was disconnected", patience_s)
        if request.transport is not None:
            request.transport.abort()


async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    """What a handler answers; errors in OpenAI's form."""
    try:
        return await handler(request)
    except LimitError as error:
        return error_response(STATUS_OF_REASON.get(error.reason, 503), str(error), error.reason)
    except LwasrError as error:
        return error_response(400, str(error), "invalid_value")
    except web.HTTPException as error:
        if error.status < 400:
            raise
        own = error.text if error.text and not error.text.startswith(f"{error.status}:") else error.reason
        return error_response(error.status, own or "error", _code(error.reason))
    except (ConnectionError, TimeoutError):
        raise
    except Exception:
        log.exception("http: a request could not be answered")
        return error_response(500, "unexpected error: see the log of the service", "internal_error")


def _code(reason: str) -> str:
    return reason.lower().replace(" ", "_")


def error_response(status: int, message: str, code: str) -> web.StreamResponse:
    """An error as OpenAI's clients read it; 429 and 503 say when to try again."""
    kind = "invalid_request_error" if status < 500 and status != 429 else "server_error"
    body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status in (429, 503) else {}
    return web.json_response(body, status=status, headers=headers)


async def _let_pages_read(access: Access, request: web.Request, response: web.StreamResponse) -> None:
    """Let the page that asked, if it is allowed, read the response."""
    origin = request.headers.get("Origin")
    if origin is not None and access.refusal(request) is None:
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Vary"] = "Origin"
