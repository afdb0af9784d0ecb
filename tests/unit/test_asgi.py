"""Claims of ``understudy.asgi`` beyond those of every adapter: Starlette's keywords, websockets, cookies that last."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request, WebSocket
from starlette.responses import JSONResponse
from starlette.testclient import TestClient

from understudy.asgi import SessionMiddleware
from understudy.client.member import _members


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNDERSTUDY_DIR", str(tmp_path / "m"))
    yield tmp_path / "m"
    for member in list(_members.values()):
        member.close()


def made(**keywords: Any) -> FastAPI:
    app = FastAPI()
    app.add_middleware(SessionMiddleware, **keywords)

    @app.get("/add/{n}")
    async def add(n: int, request: Request) -> list[int]:
        request.session.setdefault("ns", []).append(n)
        return list(request.session["ns"])

    @app.get("/threaded")
    def threaded(request: Request) -> int:
        request.session.transact(lambda s: s.update(n=s.get("n", 0) + 1))  # type: ignore[attr-defined]
        return int(request.session["n"])

    @app.get("/counted")
    async def counted(request: Request) -> int:
        await request.session.atransact(lambda s: s.update(n=s.get("n", 0) + 1))  # type: ignore[attr-defined]
        return int(request.session["n"])

    @app.get("/clear")
    async def clear(request: Request) -> str:
        request.session.clear()
        return "out"

    @app.websocket("/socket")
    async def socket(websocket: WebSocket) -> None:
        websocket.session["before"] = websocket.session.get("before", 0) + 1
        await websocket.accept()
        async for text in websocket.iter_text():
            websocket.session["last"] = text
            await websocket.send_json(dict(websocket.session))

    return app


def test_it_takes_the_place_of_starlettes_own() -> None:
    """The same keywords and the same spelling; the secret key is not needed and harms nothing."""
    app = made(secret_key="not used", session_cookie="sid", max_age=3600, path="/", same_site="strict", https_only=True)
    with TestClient(app, base_url="https://testserver") as client:
        line = client.get("/add/1").headers["Set-Cookie"]
        assert line.startswith("sid=")
        for flag in ("Max-Age=3600", "samesite=strict", "secure", "httponly", "path=/"):
            assert flag in line
        assert client.get("/add/2").json() == [1, 2]


@pytest.mark.parametrize("max_age", [0, -1])
def test_sessions_without_a_time_to_live_end_with_their_request(max_age: int) -> None:
    """As Starlette's: the browser is told so, and the cookie opens nothing even if it comes back at once."""
    with TestClient(made(max_age=max_age)) as client:
        response = client.get("/add/1")
        assert response.json() == [1] and f"; Max-Age={max_age}; " in response.headers["Set-Cookie"]
        cookie = response.headers["Set-Cookie"].partition(";")[0]
        assert client.get("/add/2", headers={"Cookie": cookie}).json() == [2]


@pytest.mark.parametrize(
    ("keywords", "environment", "max_age"),
    [
        ({}, None, "Max-Age=1209600"),
        ({}, "10m", "Max-Age=600"),
        ({"max_age": 60}, "10m", "Max-Age=60"),
        ({"max_age": None}, "10m", None),
        ({"idle_timeout": "5m"}, "10m", "Max-Age=300"),
        ({"idle_timeout_ms": 90_000}, "10m", "Max-Age=90"),
    ],
)
def test_the_cookie_lives_as_long_as_the_session(
    monkeypatch: pytest.MonkeyPatch, keywords: dict[str, Any], environment: str | None, max_age: str | None
) -> None:
    """Keyword over environment over Starlette's 14 days; None ends it with the browser."""
    if environment is not None:
        monkeypatch.setenv("UNDERSTUDY_IDLE_TIMEOUT", environment)
    line = TestClient(made(**keywords)).get("/add/1").headers["Set-Cookie"]
    assert (max_age in line) if max_age is not None else ("Max-Age" not in line)


def test_counters_in_both_kinds_of_endpoints() -> None:
    """S03: in a thread of the pool and in the event loop."""
    client = TestClient(made())
    assert [client.get(path).json() for path in ("/threaded", "/counted", "/threaded")] == [1, 2, 3]


def test_clear_logs_out() -> None:
    """Starlette's idiom for it: the cookie is taken away and opens nothing."""
    client = TestClient(made())
    client.get("/add/1")
    cookie = client.cookies["session"]
    assert "Max-Age=0" in client.get("/clear").headers["Set-Cookie"]
    client.cookies.set("session", cookie)
    assert client.get("/add/5").json() == [5]


def test_a_websockets_changes_are_kept() -> None:
    """S12: those before it was accepted at once, with a cookie if need be; those after it when it ends."""
    with TestClient(made()) as client:
        with client.websocket_connect("/socket") as socket:
            set_cookie = dict(socket.extra_headers or [])[b"set-cookie"].decode()
            socket.send_text("x")
            assert socket.receive_json() == {"before": 1, "last": "x"}
        client.cookies.set("session", set_cookie.partition(";")[0].partition("=")[2])
        with client.websocket_connect("/socket") as socket:
            assert b"set-cookie" not in dict(socket.extra_headers or [])
            socket.send_text("y")
            assert socket.receive_json() == {"before": 2, "last": "y"}


async def _nothing(*_: Any) -> None:
    """An application, a receive or a send that does nothing."""


def test_other_scopes_pass_untouched() -> None:
    """A lifespan has no session, and starts nothing."""
    import asyncio

    scope: dict[str, Any] = {"type": "lifespan"}
    asyncio.run(SessionMiddleware(_nothing)(scope, _nothing, _nothing))  # type: ignore[arg-type]
    assert scope == {"type": "lifespan"} and not _members


def test_the_session_is_a_dict() -> None:
    """As Starlette's: it can be given to any encoder, and has every method of a dict, with what was done to it."""
    app = FastAPI()
    app.add_middleware(SessionMiddleware)

    @app.get("/all")
    async def everything(request: Request) -> JSONResponse:
        session = request.session
        session.update(a=1, b=[2])
        session |= {"c": 3, "d": 4}
        assert session.pop("c") == 3 and session.popitem() == ("d", 4)
        assert (session.setdefault("a", 5), session.get("x")) == (1, None)
        session["b"].append(3)
        assert isinstance(session, dict) and session == {"a": 1, "b": [2, 3]} and session.copy() == session
        assert list(reversed(session)) == ["b", "a"] and session | {"x": 1} == {"a": 1, "b": [2, 3], "x": 1}
        return JSONResponse(session)

    @app.get("/later")
    async def later(request: Request) -> dict[str, Any]:
        return request.session

    @app.get("/transact")
    async def transact(request: Request) -> JSONResponse:
        await request.session.atransact(lambda s: s.update(a=2))  # type: ignore[attr-defined]
        del request.session["b"]
        return JSONResponse(request.session)

    @app.get("/clear")
    async def clear(request: Request) -> JSONResponse:
        request.session.clear()
        return JSONResponse(request.session)

    client = TestClient(app)
    assert client.get("/all").json() == client.get("/later").json() == {"a": 1, "b": [2, 3]}
    assert client.get("/transact").json() == client.get("/later").json() == {"a": 2}
    assert client.get("/clear").json() == client.get("/later").json() == {}
