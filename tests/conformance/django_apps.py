"""The small application as a Django project, called by either kind of server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path, set_urlconf
from tests.conformance.app import App, Response
from tests.conformance.asgi_apps import call_asgi
from tests.conformance.wsgi_apps import call_wsgi
from tests.django_settings import DJANGO_SETTINGS

from understudy.django import cluster as django_cluster
from understudy.django.runtime import RUNTIME


def django_app(**keywords: Any) -> App:
    return _django_app(_django_view, WSGIHandler, call_wsgi, keywords)


def django_asgi_app(**keywords: Any) -> App:
    return _django_app(_django_async_view, ASGIHandler, call_asgi, keywords)


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
