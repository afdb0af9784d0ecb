"""Understudy's rows: every adapter, on one machine with the store on disk, and with the two requests on two members."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any

import race_apps as apps
from race_calls import Loop
from race_questions import Call, Subject
from understudy.testing import MemoryCluster

LIBRARY = "Understudy"
HERE = "one machine"
CROSS = "two machines"
MEMBER_HEADER = "X-Race-Member"


@contextmanager
def subjects() -> Iterator[Iterator[Subject]]:
    """All rows; each is valid until the next one is asked for."""
    with ExitStack() as exits:
        loop = exits.enter_context(Loop())
        exits.enter_context(_own_directory())
        yield _rows(loop)


def _rows(loop: Loop) -> Iterator[Subject]:
    for name, make in _frameworks(loop).items():
        with make(None) as call:
            yield Subject(LIBRARY, name, HERE, call)
        with MemoryCluster(3) as cluster, make(cluster) as call:
            yield Subject(LIBRARY, name, CROSS, call, partial(_place, cluster))


def _place(cluster: MemoryCluster, place: int) -> AbstractContextManager[None]:
    return cluster.at(cluster.members[place])


Make = Callable[[MemoryCluster | None], AbstractContextManager[Call]]


def _frameworks(loop: Loop) -> dict[str, Make]:
    return {
        "Flask": lambda cluster: nullcontext(apps.flask_call(_flask)),
        "Quart": lambda cluster: nullcontext(apps.quart_call(loop, _quart)),
        "Starlette": lambda cluster: nullcontext(apps.starlette_call(loop, _starlette)),
        "Litestar": lambda cluster: nullcontext(_litestar(loop)),
        "Django": lambda cluster: _django(),
        "aiohttp": lambda cluster: _aiohttp(loop, cluster),
        "Pyramid": lambda cluster: nullcontext(apps.pyramid_call(lambda config: config.include("understudy.pyramid"))),
        "plain WSGI": lambda cluster: nullcontext(apps.plain_wsgi_call(_wsgi, "understudy.session", "invalidate")),
    }


def _flask(app: Any) -> None:
    from understudy.flask import Understudy

    Understudy(app)


def _quart(app: Any) -> None:
    from understudy.quart import Understudy

    Understudy(app)


def _starlette(app: Any) -> None:
    from understudy.asgi import SessionMiddleware

    app.add_middleware(SessionMiddleware)


def _litestar(loop: Loop) -> Call:
    from understudy.litestar import UnderstudySessionConfig

    return apps.litestar_call(loop, middleware=[UnderstudySessionConfig().middleware])


def _django() -> AbstractContextManager[Call]:
    apps.configure_django()
    from understudy.django.runtime import RUNTIME

    RUNTIME.reset()  # Django has one for the whole process, which may have served from another directory before
    return apps.django_call("understudy.django", "understudy.django.SessionMiddleware")


def _wsgi(app: Any) -> Any:
    from understudy.wsgi import SessionMiddleware

    return SessionMiddleware(app)


def _aiohttp(loop: Loop, cluster: MemoryCluster | None) -> AbstractContextManager[Call]:
    """The request comes over a socket, so it says itself at which member it is to be served."""
    from aiohttp import web

    from understudy.aiohttp import UnderstudyStorage

    @web.middleware
    async def at_member(request: web.Request, handler: Any) -> Any:
        with cluster.at(request.headers[MEMBER_HEADER]) if cluster is not None else nullcontext():
            return await handler(request)

    def headers() -> dict[str, str]:
        return {MEMBER_HEADER: cluster.here} if cluster is not None else {}

    return apps.aiohttp_call(loop, UnderstudyStorage, [at_member], headers)


@contextmanager
def _own_directory() -> Iterator[None]:
    """A member of its own, whatever this machine has configured."""
    base = tempfile.mkdtemp(prefix="us-race-", dir="/tmp")
    before = {name: value for name, value in os.environ.items() if name.startswith("UNDERSTUDY_")}
    for name in before:
        del os.environ[name]
    os.environ["UNDERSTUDY_DIR"] = f"{base}/member"
    try:
        yield
    finally:
        os.environ.pop("UNDERSTUDY_DIR", None)
        os.environ.update(before)
        shutil.rmtree(base, ignore_errors=True)
