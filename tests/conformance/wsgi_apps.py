"""The small application under each adapter that a WSGI server calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from wsgiref.util import setup_testing_defaults

import flask
from tests.conformance.app import App, Boom, Lazily, Response

from understudy.flask import Understudy
from understudy.wsgi import SessionMiddleware as WsgiMiddleware


def call_wsgi(
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
        lambda app, cookie, scheme, on_first_byte: call_wsgi(middleware, cookie, scheme, on_first_byte),
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
        lambda app, cookie, scheme, on_first_byte: call_wsgi(middleware, cookie, scheme, on_first_byte),
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
        lambda app, cookie, scheme, on_first_byte: call_wsgi(middleware, cookie, scheme, on_first_byte),
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
        lambda app, cookie, scheme, on_first_byte: call_wsgi(application, cookie, scheme, on_first_byte),
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
        result = app.view(Lazily(request))
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
        lambda app, cookie, scheme, on_first_byte: call_wsgi(application, cookie, scheme, on_first_byte),
        lambda: factory.cluster,
    )
    return app
