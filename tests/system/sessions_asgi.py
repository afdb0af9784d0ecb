"""What ``sessions_app`` serves, as far as the tests of servers need it, as an ASGI application."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from understudy.asgi import SessionMiddleware


async def ping(request: Request) -> PlainTextResponse:
    """Which worker this is; looks at no session."""
    return PlainTextResponse(f"{os.getpid()}\n")


async def read(request: Request) -> JSONResponse:
    """All attributes."""
    return _facts(dict(request.session))


async def login(request: Request) -> JSONResponse:
    """Begins a session under a new id."""
    form = await _form(request)
    request.session.rotate(principal=form["name"])
    request.session["user"] = form["name"]
    return _facts({})


async def push(request: Request) -> JSONResponse:
    """Adds a value to a list, as one."""
    form = await _form(request)

    def add(current: Any) -> dict[str, Any]:
        before = dict(current)
        current.setdefault(form["name"], []).append(form["value"])
        return before

    return _facts(await request.session.atransact(add))


async def _form(request: Request) -> dict[str, str]:
    return dict(parse_qsl((await request.body()).decode()))


def _facts(before: dict[str, Any]) -> JSONResponse:
    return JSONResponse({"pid": os.getpid(), "before": before})


app = Starlette(
    routes=[
        Route("/ping", ping),
        Route("/read", read),
        Route("/login", login, methods=["POST"]),
        Route("/push", push, methods=["POST"]),
    ],
    middleware=[Middleware(SessionMiddleware)],
)
