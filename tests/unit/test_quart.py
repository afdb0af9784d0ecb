"""Claims of ``understudy.quart`` beyond those of every adapter: what Quart's users expect of ``quart.session``."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import quart
from quart.sessions import SessionMixin

from understudy.client.member import _members
from understudy.cluster import Cluster
from understudy.errors import SessionUnavailable
from understudy.quart import Understudy, session


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNDERSTUDY_DIR", str(tmp_path / "m"))
    yield tmp_path / "m"
    for member in list(_members.values()):
        member.close()


def made(settings: dict[str, Any] | None = None, **keywords: Any) -> quart.Quart:
    app = quart.Quart("shop")
    app.config.update(settings or {})
    Understudy(app, **keywords)

    @app.get("/set/<int:n>")
    async def set_(n: int) -> str:
        quart.session["n"] = n
        return "set"

    @app.get("/n")
    async def n() -> str:
        return str(quart.session.get("n"))

    @app.get("/permanent")
    async def permanent() -> str:
        quart.session.permanent = True
        return str(quart.session.permanent)

    @app.get("/count")
    async def count() -> str:
        return str(await session.atransact(lambda s: s.update(n=s.get("n", 0) + 1) or s["n"]))

    @app.get("/modified")
    async def modified() -> str:
        before = quart.session.modified
        quart.session["n"] = quart.session.get("n", 0) + 1
        return f"{before} {quart.session.modified} {quart.session.new} {isinstance(quart.session, SessionMixin)}"

    @app.websocket("/socket")
    async def socket() -> None:
        while True:
            quart.session["last"] = await quart.websocket.receive()
            if quart.session["last"] == "bye":
                return
            await quart.websocket.send(str(quart.session.get("n")))

    @app.get("/last")
    async def last() -> str:
        return str(quart.session.get("last"))

    return app


def run(steps: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(steps())  # type: ignore[arg-type]


async def text(client: Any, path: str) -> str:
    return str(await (await client.get(path)).get_data(as_text=True))


def test_a_session_transaction_reads_and_writes() -> None:
    """Quart's test helper works outside of a request."""

    async def steps() -> None:
        client = made().test_client()
        async with client.session_transaction() as opened:
            opened["n"] = 1
        assert await text(client, "/n") == "1"
        await client.get("/set/2")
        async with client.session_transaction() as opened:
            assert opened["n"] == 2

    run(steps)


def test_quarts_settings_count() -> None:
    """Keyword over setting over default."""

    async def steps() -> None:
        settings = {"SESSION_COOKIE_NAME": "sid", "SESSION_COOKIE_SAMESITE": "Strict", "PERMANENT_SESSION_LIFETIME": 60}
        app = made(settings, cookie_samesite="None", cookie_secure=True)
        line = (await app.test_client().get("/set/1")).headers["Set-Cookie"]
        assert line.startswith("sid=") and "SameSite=None" in line and "Secure" in line
        config = app.session_interface._config  # type: ignore[attr-defined]
        assert config.idle_timeout_ms == 60_000
        assert config.source("cookie_name") == "Quart setting SESSION_COOKIE_NAME"

    run(steps)


def test_a_permanent_sessions_cookie_outlives_the_browser() -> None:
    """And is renewed by each response, as Quart does it."""

    async def steps() -> None:
        client = made().test_client()
        assert "Expires" not in (await client.get("/set/1")).headers["Set-Cookie"]
        for path in ("/permanent", "/n"):
            assert "Expires" in (await client.get(path)).headers["Set-Cookie"]

    run(steps)


def test_a_request_that_does_not_use_it_renews_a_permanent_session() -> None:
    """As Quart's ``SESSION_REFRESH_EACH_REQUEST`` says, for 31 days anew; and settings are read at each request."""

    async def steps() -> None:
        app = made()
        client = app.test_client()
        await client.get("/permanent")
        response = await client.get("/static/nothing")
        assert "Expires" in response.headers["Set-Cookie"] and "Cookie" in response.vary
        app.config.update(SESSION_REFRESH_EACH_REQUEST=False, SESSION_COOKIE_SAMESITE=None)
        assert "Set-Cookie" not in (await client.get("/static/nothing")).headers
        assert "SameSite" not in (await app.test_client().get("/set/1")).headers["Set-Cookie"]
        config = app.session_interface._config  # type: ignore[attr-defined]
        assert config.idle_timeout_ms == 31 * 86_400_000

    run(steps)


def test_modified_and_new_tell_the_truth() -> None:
    """Without being set by anybody; the session is one of Quart's kind for those who ask."""

    async def steps() -> None:
        client = made().test_client()
        assert await text(client, "/modified") == "False True True True"
        assert await text(client, "/modified") == "False True False True"

    run(steps)


def test_counters_without_holding_up_the_loop() -> None:
    """S03: ``atransact``."""

    async def steps() -> None:
        client = made().test_client()
        assert [await text(client, "/count") for _ in range(3)] == ["1", "2", "3"]

    run(steps)


@pytest.mark.parametrize("farewell", [True, False], ids=["the view ends", "the client goes away"])
def test_what_a_websocket_changes_is_kept(farewell: bool) -> None:
    """S12: committed when it ends, also when Quart cancels its view."""

    async def steps() -> None:
        client = made().test_client()
        await client.get("/set/7")
        async with client.websocket("/socket") as socket:
            await socket.send("hello")
            assert await socket.receive() == "7"
            if farewell:
                await socket.send("bye")
                with pytest.raises(Exception, match="1000"):
                    await socket.receive()
        assert await text(client, "/last") == ("bye" if farewell else "hello")

    run(steps)


def test_an_application_may_answer_refusals_itself() -> None:
    """Its own error handler goes before ours."""

    async def steps() -> None:
        app = made()

        @app.get("/unavailable")
        async def unavailable() -> str:
            raise SessionUnavailable("nobody answers")

        response = await app.test_client().get("/unavailable")
        assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
        other = made()
        other.get("/unavailable")(unavailable)

        @other.errorhandler(SessionUnavailable)
        async def mine(error: SessionUnavailable) -> tuple[str, int]:
            return "one moment", 503

        assert await text(other.test_client(), "/unavailable") == "one moment"

    run(steps)


def test_init_app_and_the_extension() -> None:
    """The factory pattern; the extension is the cluster, usable before any request."""
    extension = Understudy(idle_timeout="5m")
    app = quart.Quart("shop")
    extension.init_app(app)
    cluster = app.extensions["understudy"]
    assert isinstance(cluster, Cluster) and len(cluster.manager.sessions) == 0
