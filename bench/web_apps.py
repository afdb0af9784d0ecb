"""The page whose sessions are measured, in Flask and in Django, with the session library that ``BENCH_KIND`` names.

``/begin`` makes a session of about 1 kB, ``/read`` shows an attribute of it, ``/write`` counts in it. The page without
a session does the same work with a dictionary of its own. Each library is set up as its documentation has it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, MutableMapping
from typing import Any

KIND = os.environ.get("BENCH_KIND", "flask")
REDIS_URL = os.environ.get("BENCH_REDIS_URL", "")
DATABASE = os.environ.get("BENCH_DATABASE", "")
SECRET = "not a secret: for benchmarks only"
FILLER = "x" * 900

FLASK, FLASK_COOKIE, FLASK_SESSION, FLASK_OURS = "flask", "flask-cookie", "flask-session", "flask-understudy"
DJANGO, DJANGO_OURS = "django", "django-understudy"
DJANGO_ENGINES = {"django-db": "db", "django-cached_db": "cached_db", "django-cache": "cache"}


def answer(path: str, session: MutableMapping[str, Any]) -> str:
    """What the page does, the same in each framework."""
    if path == "read":
        return f"{session['user']} has counted to {session['number']}\n"
    if path == "write":
        session["number"] += 1
        return f"{session['number']}\n"
    if path == "begin":
        session["user"], session["cart"], session["number"] = "anna@example.org", FILLER, 0
    return "ready\n"


def flask_app() -> Any:
    import flask

    app = flask.Flask(__name__)
    app.secret_key = SECRET
    own: dict[str, Any] = {}
    answer("begin", own)
    if KIND == FLASK_SESSION:
        import flask_session
        import redis

        app.config.update(SESSION_TYPE="redis", SESSION_REDIS=redis.Redis.from_url(REDIS_URL))
        flask_session.Session(app)
    elif KIND == FLASK_OURS:
        from understudy.flask import Understudy

        Understudy(app)

    @app.get("/<path>")
    def view(path: str) -> str:
        if path == "ping":
            return "ready\n"
        return answer(path, own if KIND == FLASK else flask.session)

    return app


def django_app() -> Any:
    import django
    from django.conf import settings
    from django.core.wsgi import get_wsgi_application

    ours = KIND == DJANGO_OURS
    middleware = "understudy.django.SessionMiddleware" if ours else None
    middleware = middleware or "django.contrib.sessions.middleware.SessionMiddleware"
    engine = "understudy.django" if ours else f"django.contrib.sessions.backends.{DJANGO_ENGINES.get(KIND, 'cache')}"
    settings.configure(
        SECRET_KEY=SECRET,
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=__name__,
        MIDDLEWARE=[] if KIND == DJANGO else [middleware],
        SESSION_ENGINE=engine,
        INSTALLED_APPS=["django.contrib.sessions"],
        CACHES={"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": REDIS_URL}},
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": DATABASE,
                "CONN_MAX_AGE": None,
                "OPTIONS": {
                    "timeout": 20,
                    "transaction_mode": "IMMEDIATE",
                    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
                },
            }
        },
    )
    django.setup()
    return get_wsgi_application()


def make_tables() -> None:
    """The database in which Django's own engines keep sessions; in a process of its own."""
    from django.core.management import call_command

    django_app()
    call_command("migrate", verbosity=0)


_own: dict[str, Any] = {}


def _django_view(request: Any, path: str) -> Any:
    from django.http import HttpResponse

    if path == "ping":
        return HttpResponse("ready\n")
    if KIND == DJANGO and not _own:
        answer("begin", _own)
    return HttpResponse(answer(path, _own if KIND == DJANGO else request.session))


class _Patterns:
    """Django's ``urlpatterns``, made when Django asks for them."""

    def __iter__(self) -> Any:
        from django.urls import path

        return iter([path("<str:path>", _django_view)])


urlpatterns = _Patterns()

_MAKERS: dict[bool, Callable[[], Any]] = {True: django_app, False: flask_app}


def make() -> Any:
    """gunicorn's factory."""
    return _MAKERS[KIND.startswith("django")]()
