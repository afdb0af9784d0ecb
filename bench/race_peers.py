"""The other libraries' rows, each as its documentation sets it up, with a real redis where it needs one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import race_apps as apps
from race_calls import Loop
from race_questions import Subject

SECRET = "not a secret: for races only, and as long as anybody wants one"


@contextmanager
def subjects(base: Path, redis_url: str) -> Iterator[Iterator[Subject]]:
    """All rows; each is valid until the next one is asked for. Files go below ``base``."""
    with Loop() as loop:
        yield _rows(loop, base, redis_url)


def _rows(loop: Loop, base: Path, redis_url: str) -> Iterator[Subject]:
    yield from _flask(base, redis_url)
    yield from _starlette(loop, redis_url)
    yield from _litestar(loop, base, redis_url)
    yield from _aiohttp(loop, redis_url)
    yield from _beaker(base, redis_url)
    yield from _pyramid()
    yield from _django()


def _flask(base: Path, redis_url: str) -> Iterator[Subject]:
    import flask_session
    import redis
    from cachelib.file import FileSystemCache

    yield Subject("Flask's own", "Flask", "signed cookie", apps.flask_call(lambda app: None))

    def on_redis(app: Any) -> None:
        app.config.update(SESSION_TYPE="redis", SESSION_REDIS=redis.Redis.from_url(redis_url))
        flask_session.Session(app)

    def on_files(app: Any) -> None:
        app.config.update(SESSION_TYPE="cachelib", SESSION_CACHELIB=FileSystemCache(str(base / "flask")))
        flask_session.Session(app)

    yield Subject("Flask-Session", "Flask", "redis", apps.flask_call(on_redis))
    yield Subject("Flask-Session", "Flask", "files (cachelib)", apps.flask_call(on_files))


def _starlette(loop: Loop, redis_url: str) -> Iterator[Subject]:
    import starsessions
    from starlette.middleware.sessions import SessionMiddleware
    from starsessions.stores.redis import RedisStore

    own = apps.starlette_call(loop, lambda app: app.add_middleware(SessionMiddleware, secret_key=SECRET))
    yield Subject("Starlette's own", "Starlette", "signed cookie", own)
    for storage, store in (("redis", RedisStore(redis_url)), ("memory", starsessions.InMemoryStore())):

        def install(app: Any, store: Any = store) -> None:
            app.add_middleware(starsessions.SessionAutoloadMiddleware)
            app.add_middleware(starsessions.SessionMiddleware, store=store, cookie_https_only=False, lifetime=3600)

        yield Subject("starsessions", "Starlette", storage, apps.starlette_call(loop, install))


def _litestar(loop: Loop, base: Path, redis_url: str) -> Iterator[Subject]:
    from litestar.middleware.session.server_side import ServerSideSessionConfig
    from litestar.stores.file import FileStore
    from litestar.stores.redis import RedisStore

    (base / "litestar").mkdir()
    stores = {"redis": RedisStore.with_client(redis_url), "files": FileStore(base / "litestar")}
    for storage, store in stores.items():
        middleware = ServerSideSessionConfig().middleware
        call = apps.litestar_call(loop, middleware=[middleware], stores={"sessions": store})
        yield Subject("Litestar's own", "Litestar", storage, call)


def _aiohttp(loop: Loop, redis_url: str) -> Iterator[Subject]:
    import redis.asyncio
    from aiohttp_session.redis_storage import RedisStorage

    with apps.aiohttp_call(loop, lambda: RedisStorage(redis.asyncio.Redis.from_url(redis_url))) as call:
        yield Subject("aiohttp-session", "aiohttp", "redis", call)


def _beaker(base: Path, redis_url: str) -> Iterator[Subject]:
    from beaker.middleware import SessionMiddleware

    kinds = {
        "redis": {"session.type": "ext:redis", "session.url": redis_url},
        "files": {"session.type": "file", "session.data_dir": str(base / "beaker")},
    }
    for storage, options in kinds.items():
        options = {**options, "session.data_serializer": "json", "session.secret": SECRET}

        def wrap(app: Any, options: dict[str, str] = options) -> Any:
            return SessionMiddleware(app, options)

        call = apps.plain_wsgi_call(wrap, "beaker.session", "delete", "save")
        yield Subject("Beaker", "plain WSGI", storage, call)


def _pyramid() -> Iterator[Subject]:
    from pyramid.session import SignedCookieSessionFactory

    call = apps.pyramid_call(lambda config: config.set_session_factory(SignedCookieSessionFactory(SECRET)))
    yield Subject("Pyramid's own", "Pyramid", "signed cookie", call)


def _django() -> Iterator[Subject]:
    backends = "django.contrib.sessions.backends"
    for storage, engine in {
        "database": "db",
        "cache on redis": "cache",
        "database and cache": "cached_db",
        "files": "file",
        "signed cookie": "signed_cookies",
    }.items():
        with apps.django_call(f"{backends}.{engine}") as call:
            yield Subject("Django's own", "Django", storage, call)
