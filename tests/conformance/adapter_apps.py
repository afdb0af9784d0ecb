"""One small application, written for each adapter, for the adapters' conformance suite."""

from __future__ import annotations

from collections.abc import Callable

from tests.conformance.aiohttp_app import aiohttp_app
from tests.conformance.app import App
from tests.conformance.asgi_apps import asgi_app, fastapi_app, litestar_app, quart_app, starlette_app
from tests.conformance.django_apps import django_app, django_asgi_app
from tests.conformance.wsgi_apps import flask_app, pyramid_app, wsgi_app, wsgi_generator_app, wsgi_write_app

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
    "fastapi": fastapi_app,
    "litestar": litestar_app,
    "aiohttp": aiohttp_app,
    "pyramid": pyramid_app,
}
