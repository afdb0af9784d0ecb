"""Claims of ``understudy.aiohttp`` beyond those of every adapter: what users of ``aiohttp_session`` expect."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp_session
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from aiohttp_session import get_session, new_session

from understudy.aiohttp import UnderstudyStorage, setup
from understudy.client.member import _members
from understudy.testing import isolated, session_of

pytestmark = pytest.mark.filterwarnings("ignore:It is recommended to use web.RequestKey")


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNDERSTUDY_DIR", str(tmp_path / "m"))
    yield tmp_path / "m"
    for member in list(_members.values()):
        member.close()


async def set_(request: web.Request) -> web.Response:
    session = await get_session(request)
    session["n"] = int(request.match_info["n"])
    return web.Response(text="set")


async def show(request: web.Request) -> web.Response:
    return web.Response(text=repr(dict(await get_session(request))))


async def login(request: web.Request) -> web.Response:
    session = await new_session(request)
    assert (len(session), session.new, session.identity) == (0, True, None)
    session["user"] = "ada"
    return web.Response(text="in")


async def fresh(request: web.Request) -> web.Response:
    await new_session(request)
    return web.Response(text="nothing written")


async def redirect(request: web.Request) -> web.Response:
    (await get_session(request))["redirected"] = True
    raise web.HTTPFound("/show")


async def bad(request: web.Request) -> web.Response:
    session = await get_session(request)
    session["user"] = "ada"
    session["list"] = []
    session["list"].append(object())
    return web.Response(text="bad")


async def about(request: web.Request) -> web.Response:
    session = await get_session(request)
    with pytest.raises(RuntimeError, match="mints"):
        session.set_new_identity("mine")
    age_s = datetime.now(UTC).timestamp() - session.created
    told = [session.new, session.identity == session.id, session.empty, session.max_age, 0 <= age_s < 60, session.role]
    return web.Response(text=repr(told))


async def socket(request: web.Request) -> web.WebSocketResponse:
    session = await get_session(request)
    session["before"] = session.get("before", 0) + 1
    response = web.WebSocketResponse()
    await response.prepare(request)
    async for message in response:
        session["last"] = message.data
        if message.data == "fail":
            raise ValueError("as it was told")
        await response.send_str(repr(dict(session)))
    return response


def application(install: Callable[..., None] = setup, **keywords: Any) -> web.Application:
    app = web.Application()
    install(app, UnderstudyStorage(**keywords))
    app.router.add_get("/set/{n}", set_)
    for view in (show, login, fresh, redirect, bad, about, socket):
        app.router.add_get(f"/{view.__name__}", view)
    return app


def browsing(steps: Callable[[TestClient[Any, Any]], Awaitable[None]], app: web.Application | None = None) -> None:
    """Run the steps with a browser at the application."""

    async def main() -> None:
        async with TestClient(TestServer(app or application()), cookie_jar=None) as client:
            await steps(client)

    asyncio.run(main())


async def text(client: TestClient[Any, Any], path: str) -> str:
    return await (await client.get(path)).text()


def cookie(client: TestClient[Any, Any]) -> str:
    found = [morsel.value for morsel in client.session.cookie_jar if morsel.key == "session"]
    return found[0] if found else ""


def test_a_test_clients_session_in_a_line() -> None:
    """``session_of``: looked into, filled, and emptied by a logout, with the client's own cookies."""

    async def steps(client: TestClient[Any, Any]) -> None:
        with session_of(client) as session:
            session["user"] = "ada"
        assert await text(client, "/show") == "{'user': 'ada'}"
        with session_of(client) as session:
            assert session["user"] == "ada"
            session["n"] = 2
        assert await text(client, "/show") == "{'user': 'ada', 'n': 2}"
        with session_of(client) as session:
            session.invalidate()
        assert cookie(client) == "" and await text(client, "/show") == "{}"

    browsing(steps, application(path="/"))


def test_new_session_is_safe_from_fixation() -> None:
    """S11: at a login the session before it ends, and nothing of it is in the new one."""

    async def steps(client: TestClient[Any, Any]) -> None:
        await client.get("/set/1")
        before = cookie(client)
        await client.get("/login")
        assert before and cookie(client) not in ("", before)
        assert await text(client, "/show") == "{'user': 'ada'}"
        client.session.cookie_jar.clear()
        response = await client.get("/show", cookies={"session": before})
        assert await response.text() == "{}"

    browsing(steps)


def test_a_new_session_in_which_nothing_is_written_is_a_logout() -> None:
    """S04: the cookie is taken away."""

    async def steps(client: TestClient[Any, Any]) -> None:
        await client.get("/set/1")
        await client.get("/fresh")
        assert cookie(client) == "" and await text(client, "/show") == "{}"

    browsing(steps)


def test_the_attributes_of_aiohttp_session_tell_the_truth() -> None:
    """And those of Understudy are there as well."""

    async def steps(client: TestClient[Any, Any]) -> None:
        assert await text(client, "/about") == "[True, True, True, None, True, 'new']"
        await client.get("/set/1")
        assert await text(client, "/about") == "[False, True, False, None, True, 'primary']"

    browsing(steps)


def test_its_keywords_count() -> None:
    """The names are aiohttp_session's; ``max_age`` is the idle timeout and the cookie's lifetime."""

    async def steps(client: TestClient[Any, Any]) -> None:
        line = (await client.get("/set/1")).headers["Set-Cookie"]
        for flag in ("sid=", "Max-Age=60", "Path=/", "SameSite=Strict", "Domain=localhost", "Secure"):
            assert flag in line
        assert "HttpOnly" not in line

    keywords = {"cookie_name": "sid", "domain": "localhost", "max_age": 60, "secure": True, "httponly": False}
    app = application(samesite="Strict", absolute_timeout="1h", **keywords)
    browsing(steps, app)


def test_a_session_may_have_a_lifetime_of_its_own() -> None:
    """``session.max_age``, as aiohttp_session has it: the browser is told, and it lives so long unused."""

    async def remember(request: web.Request) -> web.Response:
        session = await get_session(request)
        session.max_age = 60 * int(request.match_info["minutes"])
        return web.Response(text=str(session.max_age))

    app = application(idle_timeout="30m")
    app.router.add_get("/remember/{minutes}", remember)

    async def steps(client: TestClient[Any, Any]) -> None:
        await client.get("/set/1")
        assert "Max-Age=7200" in (await client.get("/remember/120")).headers["Set-Cookie"]
        assert "Set-Cookie" not in (await client.get("/remember/120")).headers
        clock.advance(minutes=119)
        assert await text(client, "/show") == "{'n': 1}"
        clock.advance(minutes=121)
        assert await text(client, "/show") == "{}"

    with isolated() as clock:
        browsing(steps, app)


@pytest.mark.parametrize("install", [setup, aiohttp_session.setup])
def test_a_redirect_brings_its_cookie(install: Callable[..., None]) -> None:
    """What is raised as ``HTTPException`` is a response; also under ``aiohttp_session.setup``."""

    async def steps(client: TestClient[Any, Any]) -> None:
        assert await text(client, "/redirect") == "{'redirected': True}"

    browsing(steps, application(install))


def test_an_unstorable_change_in_place_is_an_error_and_harms_nothing_else() -> None:
    """S19: 500; the rest is committed, and the cookie of a session that began just then is not lost."""

    async def steps(client: TestClient[Any, Any]) -> None:
        response = await client.get("/bad")
        assert response.status == 500
        assert await text(client, "/show") == "{'user': 'ada'}"

    browsing(steps)


@pytest.mark.parametrize("end", ["close", "fail"])
def test_a_websockets_changes_are_kept(end: str) -> None:
    """S12: those before it was accepted at once, with a cookie if need be; those after it when its handler ends."""

    async def steps(client: TestClient[Any, Any]) -> None:
        async with client.ws_connect("/socket") as connected:
            await connected.send_str("x")
            assert await connected.receive_str() == "{'before': 1, 'last': 'x'}"
            assert cookie(client)
            if end == "fail":
                await connected.send_str("fail")
                await connected.receive()
        assert await text(client, "/show") == "{'before': 1, 'last': '%s'}" % ("x" if end == "close" else "fail")

    browsing(steps)


def test_the_storage_is_the_cluster() -> None:
    """Usable before any request."""
    assert len(UnderstudyStorage(idle_timeout="5m").cluster.manager.sessions) == 0
