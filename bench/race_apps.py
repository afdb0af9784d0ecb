"""One application for each framework, as its documentation would write it; the session library is what is put in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from race_calls import Loop, http_call, wsgi_call
from race_questions import Call, arun, run, script


def nothing() -> None:
    """For libraries that notice a change themselves."""


def flask_call(install: Callable[[Any], object]) -> Call:
    """``session.clear()`` is how Flask's tutorial logs out."""
    import flask

    app = flask.Flask("race")
    app.secret_key = "not a secret: for races only"
    install(app)

    @app.get("/<path:path>")
    def view(path: str) -> str:
        return run(script(path, flask.session, flask.session.clear, nothing))

    return wsgi_call(app)


def quart_call(loop: Loop, install: Callable[[Any], object]) -> Call:
    import quart

    app = quart.Quart("race")
    install(app)

    @app.get("/<path:path>")
    async def view(path: str) -> str:
        return await arun(script(path, quart.session, quart.session.clear, nothing))

    return loop.asgi_call(app)


def starlette_call(loop: Loop, install: Callable[[Any], object]) -> Call:
    """``request.session.clear()`` is how Starlette's users log out."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def view(request: Request) -> PlainTextResponse:
        session = request.session
        return PlainTextResponse(await arun(script(request.url.path, session, session.clear, nothing)))

    app = Starlette(routes=[Route("/{path:path}", view)])
    install(app)
    return loop.asgi_call(app)


def litestar_call(loop: Loop, **options: Any) -> Call:
    from litestar import Litestar, MediaType, Request, get

    @get("/{path:path}", media_type=MediaType.TEXT)
    async def view(request: Request[Any, Any, Any]) -> str:
        if not isinstance(request.scope.get("session"), MutableMapping):
            request.set_session({})
        return await arun(script(request.url.path, request.session, request.clear_session, nothing))

    return loop.asgi_call(Litestar([view], **options))


def plain_wsgi_call(wrap: Callable[[Any], Any], key: str, end: str, save: str = "") -> Call:
    """``end`` and ``save``: methods of the session."""

    def view(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        session = environ[key]
        saving = getattr(session, save) if save else nothing
        text = run(script(environ["PATH_INFO"], session, getattr(session, end), saving))
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [text.encode()]

    return wsgi_call(wrap(view))


def pyramid_call(install: Callable[[Any], object]) -> Call:
    from pyramid.config import Configurator
    from pyramid.response import Response

    def view(request: Any) -> Response:
        return Response(run(script(request.path, request.session, request.session.invalidate, nothing)))

    with Configurator() as config:
        install(config)
        config.add_route("all", "/*path")
        config.add_view(view, route_name="all")
        app = config.make_wsgi_app()
    return wsgi_call(app)


DJANGOS_MIDDLEWARE = "django.contrib.sessions.middleware.SessionMiddleware"


def configure_django(base: Path | None = None, redis_url: str = "") -> None:
    """Once in a process; later calls do nothing. ``base`` and ``redis_url``: for Django's own engines."""
    import django
    from django.conf import settings
    from django.core.management import call_command

    if settings.configured:
        return
    options: dict[str, Any] = {"SECRET_KEY": "not a secret: for races only", "ALLOWED_HOSTS": ["*"]}
    if base is not None:
        (base / "django").mkdir()
        options |= {
            "INSTALLED_APPS": ["django.contrib.sessions"],
            "DATABASES": {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(base / "django.sqlite3")}},
            "CACHES": {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": redis_url}},
            "SESSION_FILE_PATH": str(base / "django"),
        }
    settings.configure(**options)
    django.setup()
    if base is not None:
        call_command("migrate", verbosity=0)


@contextmanager
def django_call(engine: str, middleware: str = DJANGOS_MIDDLEWARE) -> Iterator[Call]:
    """``request.session.flush()`` is what ``django.contrib.auth.logout`` does."""
    from django.core.handlers.wsgi import WSGIHandler
    from django.test import override_settings

    with override_settings(SESSION_ENGINE=engine, MIDDLEWARE=[middleware], ROOT_URLCONF=__name__):
        yield wsgi_call(WSGIHandler())


class _Patterns:
    """Django's ``urlpatterns``, made when Django asks for them."""

    def __iter__(self) -> Iterator[Any]:
        from django.urls import path

        return iter([path("<path:rest>", _django_view)])


urlpatterns = _Patterns()


def _django_view(request: Any, rest: str) -> Any:
    from django.http import HttpResponse

    return HttpResponse(run(script(rest, request.session, request.session.flush, nothing)))


@contextmanager
def aiohttp_call(
    loop: Loop, storage: Callable[[], Any], middlewares: list[Any] | None = None, headers: Callable[[], Any] = dict
) -> Iterator[Call]:
    """aiohttp's own server on loopback. ``session.invalidate()`` logs out."""
    import aiohttp_session
    from aiohttp import web

    async def view(request: web.Request) -> web.Response:
        session = await aiohttp_session.get_session(request)
        return web.Response(text=await arun(script(request.path, session, session.invalidate, nothing)))

    async def start() -> web.AppRunner:
        app = web.Application(middlewares=middlewares or [])
        aiohttp_session.setup(app, storage())
        app.router.add_get("/{path:.*}", view)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner

    runner = loop.run(start())
    try:
        yield http_call(runner.addresses[0][1], headers)
    finally:
        loop.run(runner.cleanup())
