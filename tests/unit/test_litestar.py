"""Claims of ``understudy.litestar`` beyond those of every adapter: what Litestar's users expect."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from litestar import Litestar, Request, WebSocket, get, websocket
from litestar.connection import ASGIConnection
from litestar.middleware.session.base import BaseSessionBackend
from litestar.params import FromPath
from litestar.security.session_auth import SessionAuth
from litestar.stores.base import Store
from litestar.testing import TestClient

from understudy.client import lapsing
from understudy.client.member import _members
from understudy.cluster import Cluster
from understudy.litestar import UnderstudySessionConfig, UnderstudyStore

AnyRequest = Request[Any, Any, Any]
AnyWebSocket = WebSocket[Any, Any, Any]


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNDERSTUDY_DIR", str(tmp_path / "m"))
    yield tmp_path / "m"
    for member in list(_members.values()):
        member.close()


@dataclass
class Person:
    name: str
    age: int


@get("/show")
async def show(request: AnyRequest) -> dict[str, Any]:
    return dict(request.session)


@get("/add/{n:int}")
async def add(n: FromPath[int], request: AnyRequest) -> str:
    request.session.setdefault("ns", []).append(n)
    return str(request.get_session_id())


@get("/set")
async def set_(request: AnyRequest) -> str:
    request.set_session({"user": "ada"})
    return "set"


@get("/person")
async def person(request: AnyRequest) -> str:
    request.set_session(Person("ada", 36))
    return "set"


@get("/clear")
async def clear(request: AnyRequest) -> str:
    request.clear_session()
    return "out"


@get("/login")
async def login(request: AnyRequest) -> str:
    request.clear_session()
    request.set_session({"user": "ada"})
    return "in"


@get("/skipped", skip_session=True)
async def skipped(request: AnyRequest) -> bool:
    return "session" in request.scope


@websocket("/socket")
async def socket(socket: AnyWebSocket) -> None:
    socket.session["before"] = socket.session.get("before", 0) + 1
    await socket.accept()
    socket.session["last"] = await socket.receive_text()
    await socket.send_json(dict(socket.session))
    await socket.close()


def client(**keywords: Any) -> TestClient[Litestar]:
    config = UnderstudySessionConfig(**keywords)
    handlers = [show, add, set_, person, clear, login, skipped, socket]
    return TestClient(Litestar(handlers, middleware=[config.middleware]), session_config=config)


def test_the_test_clients_helpers_work() -> None:
    """``set_session_data`` and ``get_session_data``, before and after requests."""
    with client() as browser:
        assert browser.get_session_data() == {}
        browser.set_session_data({"ns": [1], "user": "ada"})
        assert browser.get("/show").json() == {"ns": [1], "user": "ada"}
        browser.get("/add/2")
        assert browser.get_session_data() == {"ns": [1, 2], "user": "ada"}
        browser.set_session_data({"user": "grace"})
        assert browser.get("/show").json() == {"user": "grace"}


def test_set_session_replaces_the_attributes() -> None:
    """Also by a dataclass; what was there and is not named is gone, and the id stays."""
    with client() as browser:
        browser.get("/add/1")
        cookie = browser.cookies["session"]
        browser.get("/set")
        assert browser.get("/show").json() == {"user": "ada"}
        browser.get("/person")
        assert browser.get("/show").json() == {"name": "ada", "age": 36}
        assert browser.cookies["session"] == cookie


def test_clear_session_is_final() -> None:
    """S04: the cookie is taken away, and opens nothing."""
    with client() as browser:
        browser.get("/add/1")
        cookie = browser.cookies["session"]
        assert "Max-Age=0" in browser.get("/clear").headers["Set-Cookie"]
        browser.cookies.set("session", cookie)
        assert browser.get("/show").json() == {}


def test_a_login_that_clears_first_has_another_id() -> None:
    """S11: ``clear_session`` and ``set_session`` in one request; the id before it opens nothing."""
    with client() as browser:
        browser.get("/add/1")
        before = browser.cookies["session"]
        browser.get("/login")
        assert browser.cookies["session"] != before
        assert browser.get("/show").json() == {"user": "ada"}
        browser.cookies.clear()
        browser.cookies.set("session", before)
        assert browser.get("/show").json() == {}


def test_the_id_is_known_once_the_session_exists() -> None:
    """``request.get_session_id``."""
    with client() as browser:
        assert browser.get("/add/1").text == "None"
        assert browser.get("/add/2").text == browser.cookies["session"].partition(".")[0]


def test_its_keywords_count() -> None:
    """The names are Litestar's; ``max_age`` is the idle timeout and the cookie's lifetime."""
    with client(
        key="sid", max_age=60, secure=True, httponly=False, samesite="strict", absolute_timeout="1h"
    ) as browser:
        line = browser.get("/add/1").headers["Set-Cookie"]
        for flag in ("sid=", "Max-Age=60", "Secure", "SameSite=Strict", "Path=/"):
            assert flag in line
        assert "HttpOnly" not in line
    with client() as browser:
        assert "Max-Age=1209600" in browser.get("/add/1").headers["Set-Cookie"]


def test_a_handler_may_skip_the_session() -> None:
    """By Litestar's own option."""
    with client() as browser:
        assert browser.get("/skipped").json() is False


def test_a_websockets_changes_are_kept() -> None:
    """S12: those before it was accepted at once, with a cookie if need be; those after it when it ends."""
    with client() as browser:
        browser.get("/add/1")
        with browser.websocket_connect("/socket") as connected:
            connected.send_text("x")
            assert connected.receive_json() == {"ns": [1], "before": 1, "last": "x"}
        assert browser.get("/show").json() == {"ns": [1], "before": 1, "last": "x"}


def test_litestars_session_authentication_works() -> None:
    """It asks for the session, and clears it when nobody is behind it any more."""
    users = {"1": Person("ada", 36)}

    async def user_of(session: dict[str, Any], connection: ASGIConnection[Any, Any, Any, Any]) -> Person | None:
        return users.get(session.get("user_id", ""))

    @get("/enter")
    async def enter(request: AnyRequest) -> str:
        request.set_session({"user_id": "1"})
        return "in"

    @get("/me")
    async def me(request: AnyRequest) -> str:
        return str(request.user.name)

    config = UnderstudySessionConfig()
    auth = SessionAuth[Person, BaseSessionBackend[Any]](
        retrieve_user_handler=user_of, session_backend_config=config, exclude=["/enter"]
    )
    with TestClient(Litestar([enter, me], on_app_init=[auth.on_app_init])) as browser:
        assert browser.get("/me").status_code == 401
        browser.get("/enter")
        assert browser.get("/me").text == "ada"
        users.clear()
        assert browser.get("/me").status_code == 401
        assert "session" not in browser.cookies


# --- the store -------------------------------------------------------------------------------------------------------


def store() -> UnderstudyStore:
    return UnderstudyStore(Cluster.from_config().map("litestar"))


def test_a_store_keeps_values() -> None:
    """As Litestar's stores do: text becomes bytes, what is not there is None, deleting it is no error."""

    async def steps() -> None:
        kept = store()
        assert isinstance(kept, Store)
        assert await kept.get("k") is None and not await kept.exists("k")
        await kept.set("k", "text")
        await kept.set("k" * 1000, b"long")
        assert (await kept.get("k"), await kept.get("k" * 1000)) == (b"text", b"long")
        assert await kept.exists("k") and await store().get("k") == b"text"
        await kept.delete("k")
        await kept.delete("k")
        assert await kept.get("k") is None

    asyncio.run(steps())


def test_a_stores_values_lapse(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time they were given, unless they are renewed; one without a time never does."""
    now = [1_000_000.0]
    monkeypatch.setattr("understudy.litestar.time.time", lambda: now[0])

    async def steps() -> None:
        entries = Cluster.from_config().map("litestar")
        kept = UnderstudyStore(entries)
        await kept.set("ever", b"1")
        await kept.set("once", b"2", 60)
        await kept.set("other", b"3", timedelta(minutes=1))
        assert await kept.expires_in("ever") == -1 and await kept.expires_in("none") is None
        now[0] += 50
        assert await kept.expires_in("once") == 10
        assert await kept.get("once", renew_for=60) == b"2" and await kept.get("ever", renew_for=60) == b"1"
        now[0] += 20
        assert await kept.get("once") == b"2" and await kept.expires_in("other") is None
        assert not await kept.exists("other") and len(entries) == 3
        assert await kept.get("other") is None and len(entries) == 2
        now[0] += 100
        await kept.delete_expired()
        assert len(entries) == 1 and await kept.get("ever") == b"1"

    asyncio.run(steps())


def test_namespaces_are_apart() -> None:
    """But ``delete_all`` of one deletes its children's keys, and no others."""

    async def steps() -> None:
        parent = store()
        child, like = parent.with_namespace("a"), parent.with_namespace("a/b")
        grandchild = child.with_namespace("b")
        stores = [parent, child, like, grandchild]
        for number, one in enumerate(stores):
            await one.set("k", str(number))
            await one.set("k" * 300, "long")
        assert [await one.get("k") for one in stores] == [b"0", b"1", b"2", b"3"]
        await child.delete_all()
        assert [await one.get("k") for one in stores] == [b"0", None, b"2", None]
        assert [await one.exists("k" * 300) for one in stores] == [True, False, True, False]
        await parent.delete_all()
        assert [await one.get("k") for one in stores] == [None] * 4

    asyncio.run(steps())


def test_keys_of_any_length_have_one_place() -> None:
    """A key that is short enough stands as it is; the others never meet."""
    assert lapsing.key_of("p", "k") == "p:k"
    long = {lapsing.key_of("p", "k" * 300), lapsing.key_of("p", "k" * 301), lapsing.key_of("q", "k" * 300)}
    assert len(long) == 3 and all(len(key) < 100 for key in long)
