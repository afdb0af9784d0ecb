"""One small application, written for each adapter, and one way to call it, for the adapters' conformance suite."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from wsgiref.util import setup_testing_defaults

import flask
import litestar
import quart
from aiohttp import web
from aiohttp_session import get_session
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path, set_urlconf
from litestar.response import Stream
from starlette.applications import Starlette
from starlette.requests import Request as StarletteRequest
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route
from tests.django_settings import DJANGO_SETTINGS

from understudy.aiohttp import UnderstudyStorage, setup
from understudy.asgi import SessionMiddleware as AsgiMiddleware
from understudy.cluster import Cluster
from understudy.django import cluster as django_cluster
from understudy.django.runtime import RUNTIME
from understudy.flask import Understudy
from understudy.litestar import UnderstudySessionConfig
from understudy.quart import Understudy as QuartUnderstudy
from understudy.wsgi import SessionMiddleware as WsgiMiddleware

View = Callable[[Any], "str | Iterator[str]"]


class Boom(Exception):
    """What a view raises."""


@dataclass
class Response:
    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: str = ""
    raised: bool = False
    """The application's error reached the server."""

    @property
    def cookie(self) -> str | None:
        """What ``Set-Cookie`` brings: None if there is none, "" if it takes the cookie away."""
        line = self.set_cookie
        return None if line is None else line.partition(";")[0].partition("=")[2].strip('"')

    @property
    def set_cookie(self) -> str | None:
        found = [value for name, value in self.headers if name.lower() == "set-cookie"]
        assert len(found) < 2, "two cookies were sent"
        return found[0] if found else None

    def header(self, name: str) -> str | None:
        found = [value for key, value in self.headers if key.lower() == name.lower()]
        return ", ".join(found) if found else None


@dataclass
class App:
    """An application with an adapter around it. ``view`` is what its next request does with the session."""

    call: Callable[[App, str, str, Callable[[], None]], Response]
    cluster: Callable[[], Cluster]
    view: View = lambda session: "nothing"
    is_django: bool = False
    """Its own rules are others: a status of 500 or more saves nothing; who writes into a session that has ended is
    answered 400; every response that saved sends the cookie again; no cookie is Partitioned."""

    def get(
        self, view: View, cookie: str = "", *, scheme: str = "http", on_first_byte: Callable[[], None] = lambda: None
    ) -> Response:
        self.view = view
        return self.call(self, cookie, scheme, on_first_byte)


def setting(**attributes: Any) -> View:
    """A view that sets attributes."""

    def view(session: Any) -> str:
        session.update(attributes)
        return "set"

    return view


def shown(session: Any) -> str:
    """A view that shows everything."""
    return repr(dict(session.items()))


def browse(app: App, view: View, cookie: str = "", **options: Any) -> tuple[Response, str]:
    """A request of a browser: the response, and the cookie that the browser has afterwards."""
    response = app.get(view, cookie, **options)
    return response, cookie if response.cookie is None else response.cookie


def meanwhile(app: App, view: View, cookie: str) -> Response:
    """Another whole request, which begins and ends while the one that calls this is running."""
    responses: list[Response] = []
    other = threading.Thread(target=lambda: responses.append(app.get(view, cookie)))
    other.start()
    other.join()
    return responses[0]


# --- WSGI, and Flask as what it is for a server ----------------------------------------------------------------------


def _call_wsgi(
    wsgi: Callable[..., Any], cookie: str, scheme: str, on_first_byte: Callable[[], None], name: str = "session"
) -> Response:
    environ: dict[str, Any] = {"wsgi.url_scheme": scheme}
    setup_testing_defaults(environ)
    if cookie:
        environ["HTTP_COOKIE"] = f"other=1; {name}={cookie}"
    response = Response()

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
        response.status, response.headers = int(status.split()[0]), headers
        return write

    def write(data: bytes) -> None:
        if data and not response.body:
            on_first_byte()
        response.body += data.decode()

    parts: Any = []
    try:
        parts = wsgi(environ, start_response)
        for part in parts:
            assert response.status, "a part of the body came before the response began"
            write(part)
    except Boom:
        response.raised, response.status = True, 500
    finally:
        if hasattr(parts, "close"):
            parts.close()
    return response


def wsgi_app(**keywords: Any) -> App:
    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        result = app.view(environ["understudy.session"])
        start_response("200 OK", [("Content-Type", "text/plain"), ("Vary", "Accept")])
        return [result.encode()] if isinstance(result, str) else (part.encode() for part in result)

    middleware = WsgiMiddleware(application, **keywords)
    app = App(
        lambda app, cookie, scheme, on_first_byte: _call_wsgi(middleware, cookie, scheme, on_first_byte),
        lambda: middleware.cluster,
    )
    return app


def wsgi_generator_app(**keywords: Any) -> App:
    """As a generator: nothing of the application runs before the server asks for the first part."""

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain"), ("Vary", "Accept")])
        result = app.view(environ["understudy.session"])
        for part in [result] if isinstance(result, str) else result:
            yield part.encode()

    middleware = WsgiMiddleware(application, **keywords)
    app = App(
        lambda app, cookie, scheme, on_first_byte: _call_wsgi(middleware, cookie, scheme, on_first_byte),
        lambda: middleware.cluster,
    )
    return app


def wsgi_write_app(**keywords: Any) -> App:
    """With the ``write`` that ``start_response`` gives."""

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        write = start_response("200 OK", [("Content-Type", "text/plain"), ("Vary", "Accept")])
        result = app.view(environ["understudy.session"])
        for part in [result] if isinstance(result, str) else result:
            write(part.encode())
        return []

    middleware = WsgiMiddleware(application, **keywords)
    app = App(
        lambda app, cookie, scheme, on_first_byte: _call_wsgi(middleware, cookie, scheme, on_first_byte),
        lambda: middleware.cluster,
    )
    return app


def flask_app(**keywords: Any) -> App:
    application = flask.Flask("shop")
    Understudy(application, **keywords)

    @application.get("/")
    def view() -> Any:
        result = app.view(flask.session)
        if isinstance(result, str):
            body: Any = result
        else:
            body = flask.stream_with_context(result)
        return flask.Response(body, headers={"Vary": "Accept"})

    app = App(
        lambda app, cookie, scheme, on_first_byte: _call_wsgi(application, cookie, scheme, on_first_byte),
        lambda: application.extensions["understudy"],
    )
    return app


def pyramid_app(**keywords: Any) -> App:
    from pyramid.config import Configurator  # here, because it is slow to import
    from pyramid.response import Response as PyramidResponse

    from understudy.pyramid import UnderstudySessionFactory

    factory = UnderstudySessionFactory(**keywords)

    def view(request: Any) -> Any:
        # A view that never asks for its session is not given it here either.
        result = app.view(_Lazily(request))
        response = PyramidResponse(content_type="text/plain", headerlist=[("Vary", "Accept")])
        if isinstance(result, str):
            response.text = result
        else:
            response.app_iter = (part.encode() for part in result)
        return response

    with Configurator() as config:
        config.include("understudy.pyramid")
        config.set_session_factory(factory)
        config.add_route("view", "/")
        config.add_view(view, route_name="view")
    application = config.make_wsgi_app()
    app = App(
        lambda app, cookie, scheme, on_first_byte: _call_wsgi(application, cookie, scheme, on_first_byte),
        lambda: factory.cluster,
    )
    return app


# --- ASGI ------------------------------------------------------------------------------------------------------------


def _call_asgi(asgi: Callable[..., Any], cookie: str, scheme: str, on_first_byte: Callable[[], None]) -> Response:
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
        lambda app, cookie, scheme, on_first_byte: _call_asgi(middleware, cookie, scheme, on_first_byte),
        lambda: middleware.cluster,
    )
    return app


def starlette_app(**keywords: Any) -> App:
    async def view(request: StarletteRequest) -> Any:
        # A view that never asks for its session is not given it here either.
        result = app.view(_Lazily(request))
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
        lambda app, cookie, scheme, on_first_byte: _call_asgi(application, cookie, scheme, on_first_byte),
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
        lambda app, cookie, scheme, on_first_byte: _call_asgi(application, cookie, scheme, on_first_byte),
        lambda: application.extensions["understudy"],
    )
    return app


# --- aiohttp, which speaks HTTP itself -------------------------------------------------------------------------------


class _Wire(asyncio.Transport):
    """What aiohttp's server takes for a connection: one request, and the response's bytes as they are written."""

    def __init__(self, response: Response, on_first_byte: Callable[[], None], *, is_https: bool) -> None:
        super().__init__({"sslcontext": True} if is_https else {})
        self.closed = asyncio.Event()
        self._response = response
        self._on_first_byte = on_first_byte
        self._head = b""
        self._has_head = False

    def write(self, data: Any) -> None:
        if not self._has_head:
            self._head += bytes(data)
            head, separator, data = self._head.partition(b"\r\n\r\n")
            if not separator:
                return
            self._has_head = True
            status, *lines = head.decode("latin-1").split("\r\n")
            self._response.status = int(status.split()[1])
            self._response.headers = [(line.partition(": ")[0], line.partition(": ")[2]) for line in lines]
        if data and not self._response.body:
            self._on_first_byte()
        self._response.body += bytes(data).decode()

    def writelines(self, list_of_data: Any) -> None:
        for data in list_of_data:
            self.write(data)

    def is_closing(self) -> bool:
        return self.closed.is_set()

    def close(self) -> None:
        self.closed.set()

    abort = close
    pause_reading = resume_reading = lambda self: None


def aiohttp_app(**keywords: Any) -> App:
    storage = UnderstudyStorage(**keywords)

    async def view(request: web.Request) -> web.StreamResponse:
        result = app.view(await get_session(request))
        if isinstance(result, str):
            return web.Response(text=result, headers={"Vary": "Accept"})
        response = web.StreamResponse(headers={"Vary": "Accept"})
        for part in result:
            if not response.prepared:
                await response.prepare(request)
            await response.write(part.encode())
        return response

    async def main(cookie: str, response: Response, wire: _Wire) -> None:
        application = web.Application()
        setup(application, storage)
        application.router.add_get("/", view)
        runner = web.AppRunner(application, access_log=None, handle_signals=False)
        await runner.setup()
        assert runner.server is not None
        protocol = runner.server()
        protocol.connection_made(wire)
        line = f"Cookie: other=1; session={cookie}\r\n" if cookie else ""
        protocol.data_received(f"GET / HTTP/1.0\r\nHost: localhost\r\n{line}\r\n".encode("latin-1"))
        await wire.closed.wait()
        protocol.connection_lost(None)
        await runner.cleanup()

    def call(app: App, cookie: str, scheme: str, on_first_byte: Callable[[], None]) -> Response:
        response = Response()

        async def steps() -> None:
            await main(cookie, response, _Wire(response, on_first_byte, is_https=scheme == "https"))

        asyncio.run(steps())
        return response

    app = App(call, lambda: storage.cluster)
    return app


def litestar_app(**keywords: Any) -> App:
    config = UnderstudySessionConfig(**keywords)

    @litestar.get("/", media_type="text/plain")
    async def view(request: litestar.Request[Any, Any, Any]) -> litestar.Response[Any]:
        # A view that never asks for its session is not given it here either.
        result = app.view(_Lazily(request))
        if isinstance(result, str):
            return litestar.Response(result, headers={"Vary": "Accept"})

        async def parts() -> Any:
            for part in result:
                yield part

        return Stream(parts(), headers={"Vary": "Accept"})

    application = litestar.Litestar([view], middleware=[config.middleware], logging_config=None)
    app = App(
        lambda app, cookie, scheme, on_first_byte: _call_asgi(application, cookie, scheme, on_first_byte),
        lambda: config.cluster,
    )
    return app


class _Lazily:
    """``request.session``, asked for when something of it is used."""

    def __init__(self, request: StarletteRequest) -> None:
        self._request = request

    def __getattr__(self, name: str) -> Any:
        return getattr(self._request.session, name)

    def __getitem__(self, name: str) -> Any:
        return self._request.session[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._request.session[name] = value

    def __delitem__(self, name: str) -> None:
        del self._request.session[name]

    def __contains__(self, name: str) -> bool:
        return name in self._request.session

    def __len__(self) -> int:
        return len(self._request.session)


# --- Django ----------------------------------------------------------------------------------------------------------


def django_app(**keywords: Any) -> App:
    return _django_app(_django_view, WSGIHandler, _call_wsgi, keywords)


def django_asgi_app(**keywords: Any) -> App:
    return _django_app(_django_async_view, ASGIHandler, _call_asgi, keywords)


def _django_app(view: Callable[..., Any], handler: Callable[[], Any], call: Any, keywords: dict[str, Any]) -> App:
    options = {name: value for name, value in keywords.items() if not name.startswith("cookie_")}
    cookie = {f"SESSION_{name.upper()}": value for name, value in keywords.items() if name.startswith("cookie_")}
    cookie.pop("SESSION_COOKIE_PARTITIONED", None)
    handlers: list[Any] = []

    def calls(app: App, cookie_text: str, scheme: str, on_first_byte: Callable[[], None]) -> Response:
        if _django_apps[-1:] != [app]:
            _django_apps.append(app)
            for name, value in (DJANGO_SETTINGS | {"ROOT_URLCONF": (path("", view),)} | cookie).items():
                setattr(settings, name, value)
            settings.UNDERSTUDY = options
            # Reading puts a session's end off only if Django is told so.
            settings.SESSION_SAVE_EVERY_REQUEST = "idle_timeout" in options
            RUNTIME.reset()
            set_urlconf(None)
        if not handlers:
            handlers.append(handler())
        return call(handlers[0], cookie_text, scheme, on_first_byte)  # type: ignore[no-any-return]

    return App(calls, lambda: django_cluster, is_django=True)


def _django_view(request: Any) -> Any:
    result = _django_apps[-1].view(request.session)
    if isinstance(result, str):
        return HttpResponse(result, headers={"Vary": "Accept"})
    return StreamingHttpResponse(result, headers={"Vary": "Accept"})


async def _django_async_view(request: Any) -> Any:
    result = _django_apps[-1].view(request.session)
    if isinstance(result, str):
        return HttpResponse(result, headers={"Vary": "Accept"})

    async def parts() -> Any:
        for part in result:
            yield part

    return StreamingHttpResponse(parts(), headers={"Vary": "Accept"})


_django_apps: list[App] = []
"""The last one is the one that the settings, which Django has once in a process, are of."""


ADAPTERS: dict[str, Callable[..., App]] = {
    "flask": flask_app,
    "quart": quart_app,
    "django": django_app,
    "django asgi": django_asgi_app,
    "wsgi": wsgi_app,
    "wsgi generator": wsgi_generator_app,
    "wsgi write": wsgi_write_app,
    "asgi": asgi_app,
    "starlette": starlette_app,
    "litestar": litestar_app,
    "aiohttp": aiohttp_app,
    "pyramid": pyramid_app,
}
