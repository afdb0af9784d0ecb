"""The small application under each adapter that an ASGI server calls."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import fastapi
import litestar
import quart
from litestar.response import Stream
from starlette.applications import Starlette
from starlette.requests import Request as StarletteRequest
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route
from tests.conformance.app import App, Boom, Lazily, Response

from understudy.asgi import SessionMiddleware as AsgiMiddleware
from understudy.cluster import Cluster
from understudy.litestar import UnderstudySessionConfig
from understudy.quart import Understudy as QuartUnderstudy


def call_asgi(asgi: Callable[..., Any], cookie: str, scheme: str, on_first_byte: Callable[[], None]) -> Response:
    response = Response()
    headers = [(b"host", b"localhost")]
    if cookie:
        headers.append((b"cookie", f"other=1; session={cookie}".encode("latin-1")))
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": scheme}
    scope |= {"path": "/", "raw_path": b"/", "query_string": b"", "headers": headers, "server": ("localhost", 80)}

    is_complete = asyncio.Event()
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await is_complete.wait()  # the client stays until it has the whole response
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            assert not response.status, "the response began twice"
            response.status = message["status"]
            response.headers = [(name.decode(), value.decode("latin-1")) for name, value in message["headers"]]
        else:
            assert response.status, "a part of the body came before the response began"
            data = message.get("body", b"")
            if data and not response.body:
                on_first_byte()
            response.body += data.decode()
            if not message.get("more_body", False):
                is_complete.set()

    async def main() -> None:
        try:
            await asgi(scope, receive, send)
        except Boom:
            response.raised, response.status = True, response.status or 500

    asyncio.run(main())
    return response


def asgi_app(**keywords: Any) -> App:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        result = app.view(scope["session"])
        start = {"type": "http.response.start", "status": 200}
        await send(start | {"headers": [(b"content-type", b"text/plain"), (b"vary", b"Accept")]})
        for part in [result] if isinstance(result, str) else result:
            await send({"type": "http.response.body", "body": part.encode(), "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    middleware = AsgiMiddleware(application, **keywords)
    app = App(
        lambda app, cookie, scheme, on_first_byte: call_asgi(middleware, cookie, scheme, on_first_byte),
        lambda: middleware.cluster,
    )
    return app


def starlette_app(**keywords: Any) -> App:
    async def view(request: StarletteRequest) -> Any:
        # A view that never asks for its session is not given it here either.
        result = app.view(Lazily(request))
        if isinstance(result, str):
            return PlainTextResponse(result, headers={"vary": "Accept"})

        async def parts() -> Any:
            for part in result:
                yield part

        return StreamingResponse(parts(), headers={"vary": "Accept"})

    application = Starlette(routes=[Route("/", view)])
    clusters: list[Cluster] = []

    def middleware(inner: Any, **given: Any) -> AsgiMiddleware:
        made = AsgiMiddleware(inner, **given)
        clusters.append(made.cluster)
        return made

    application.add_middleware(middleware, **keywords)  # type: ignore[arg-type]
    app = App(
        lambda app, cookie, scheme, on_first_byte: call_asgi(application, cookie, scheme, on_first_byte),
        lambda: clusters[0],
    )
    return app


def fastapi_app(**keywords: Any) -> App:
    """With an ordinary function, which FastAPI calls in a thread."""
    application = fastapi.FastAPI()
    clusters: list[Cluster] = []

    @application.get("/")
    def view(request: StarletteRequest) -> Any:
        result = app.view(Lazily(request))
        if isinstance(result, str):
            return PlainTextResponse(result, headers={"vary": "Accept"})
        return StreamingResponse(result, headers={"vary": "Accept"})

    def middleware(inner: Any, **given: Any) -> AsgiMiddleware:
        made = AsgiMiddleware(inner, **given)
        clusters.append(made.cluster)
        return made

    application.add_middleware(middleware, **keywords)  # type: ignore[arg-type]
    app = App(
        lambda app, cookie, scheme, on_first_byte: call_asgi(application, cookie, scheme, on_first_byte),
        lambda: clusters[0],
    )
    return app


def quart_app(**keywords: Any) -> App:
    application = quart.Quart("shop")
    QuartUnderstudy(application, **keywords)

    @application.get("/")
    async def view() -> Any:
        result = app.view(quart.session)
        if isinstance(result, str):
            return quart.Response(result, headers={"Vary": "Accept"})

        @quart.stream_with_context
        async def parts() -> Any:
            for part in result:
                yield part

        return quart.Response(parts(), headers={"Vary": "Accept"})

    app = App(
        lambda app, cookie, scheme, on_first_byte: call_asgi(application, cookie, scheme, on_first_byte),
        lambda: application.extensions["understudy"],
    )
    return app


def litestar_app(**keywords: Any) -> App:
    config = UnderstudySessionConfig(**keywords)

    @litestar.get("/", media_type="text/plain")
    async def view(request: litestar.Request[Any, Any, Any]) -> litestar.Response[Any]:
        # A view that never asks for its session is not given it here either.
        result = app.view(Lazily(request))
        if isinstance(result, str):
            return litestar.Response(result, headers={"Vary": "Accept"})

        async def parts() -> Any:
            for part in result:
                yield part

        return Stream(parts(), headers={"Vary": "Accept"})

    async def log(error: Exception, scope: Any) -> None:
        """Litestar's own logging is off: it would have a thread of its own."""
        logging.getLogger("litestar").error("the application failed", exc_info=error)

    application = litestar.Litestar([view], middleware=[config.middleware], logging_config=None, after_exception=[log])
    app = App(
        lambda app, cookie, scheme, on_first_byte: call_asgi(application, cookie, scheme, on_first_byte),
        lambda: config.cluster,
    )
    return app
