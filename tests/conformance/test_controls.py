"""Per-request controls, the same in every adapter: paths, attribute names, the primary's indicator, figures."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import flask
import pytest
import quart
from aiohttp.test_utils import make_mocked_request
from pyramid.threadlocal import get_current_request
from starlette.testclient import TestClient as AsgiClient
from tests.conformance.adapter_apps import ADAPTERS
from tests.conformance.app import App, browse, setting, shown
from werkzeug.test import Client as WsgiClient

from understudy.aiohttp import UnderstudyStorage
from understudy.asgi import SessionMiddleware as AsgiMiddleware
from understudy.testing import Clock, MemoryCluster, isolated
from understudy.wsgi import SessionMiddleware

INDICATOR = "shop.is_primary"


@pytest.fixture
def clock() -> Iterator[Clock]:
    with isolated() as clock:
        yield clock


@pytest.fixture(params=ADAPTERS)
def make(request: pytest.FixtureRequest) -> Callable[..., App]:
    return ADAPTERS[request.param]


@pytest.mark.parametrize(("paths", "changes"), [("/", False), ("/static/.*|/health", True), ("", True)])
def test_a_read_only_path_changes_nothing(
    make: Callable[..., App], clock: Clock, caplog: pytest.LogCaptureFixture, paths: str, changes: bool
) -> None:
    """The request sees its session; what it writes is not committed, and a line in the log names it."""
    _, cookie = browse(make(), setting(n=1))
    app = make(read_only_paths=paths)
    assert app.get(shown, cookie).body == "{'n': 1}"
    app.get(setting(n=2, m=3), cookie)
    assert make().get(shown, cookie).body == ("{'n': 2, 'm': 3}" if changes else "{'n': 1}")
    assert ("'n', 'm'" in caplog.text) is not changes


def test_a_read_only_path_begins_no_session(make: Callable[..., App], clock: Clock) -> None:
    """No cookie is sent for what is not there."""
    response, cookie = browse(make(read_only_paths="/"), setting(n=1))
    assert response.status == 200 and response.set_cookie is None and cookie == ""


def test_a_read_only_path_renews_nothing(make: Callable[..., App], clock: Clock) -> None:
    """S44: a page that polls under such a path keeps nobody logged in; another one does."""
    _, cookie = browse(make(idle_timeout="30m"), setting(n=1))
    polls, looks = make(idle_timeout="30m", read_only_paths="/"), make(idle_timeout="30m")
    for app, alive in ((looks, True), (polls, True), (polls, False)):
        clock.advance(minutes=20)
        assert (app.get(shown, cookie).body == "{'n': 1}") is alive


def test_a_request_that_does_not_use_its_session_renews_nothing(make: Callable[..., App], clock: Clock) -> None:
    """S44: also where the adapter looks at the session before the application does. Django is told otherwise here."""
    app = make(idle_timeout="30m")
    _, cookie = browse(app, setting(n=1))
    clock.advance(minutes=20)
    app.get(lambda session: "unused", cookie)
    clock.advance(minutes=20)
    assert app.get(shown, cookie).body == ("{'n': 1}" if app.is_django else "{}")


def test_logging_out_works_under_any_path(make: Callable[..., App], clock: Clock) -> None:
    """S04: a rule for paths must not keep anybody logged in."""
    _, cookie = browse(make(), setting(n=1))

    def logout(session: Any) -> str:
        session.invalidate()
        return "out"

    make(read_only_paths="/").get(logout, cookie)
    assert make().get(shown, cookie).body == "{}"


def test_attributes_of_other_names_end_with_their_request(make: Callable[..., App], clock: Clock) -> None:
    """The request itself sees them; the next one does not, and a request that sets nothing else writes nothing."""
    app = make(attribute_filter="user|cart_.*")

    def view(session: Any) -> str:
        session["scratch"] = 1
        session["cart_a"] = session["user"] = "x"
        return shown(session)

    response, cookie = browse(app, view)
    assert "'scratch': 1" in response.body
    assert app.get(shown, cookie).body in ("{'cart_a': 'x', 'user': 'x'}", "{'user': 'x', 'cart_a': 'x'}")
    wrote = app.cluster().statistics().wrote
    app.get(setting(scratch=2), cookie)
    assert app.cluster().statistics().wrote == wrote


def test_figures_tell_what_requests_did(make: Callable[..., App], clock: Clock) -> None:
    """Counts, and times that only grow."""
    app = make()
    _, cookie = browse(app, setting(n=1))
    app.get(shown, cookie)
    app.get(lambda session: "not used", cookie)
    figures = app.cluster().statistics()
    assert (figures.used, figures.wrote, figures.failed) == (1 if app.is_django else 2, 1, 0)
    assert figures.requests in (2, 3), "Pyramid asks for no session where the view does not"
    assert figures.unprotected == 1, "there is one machine"
    assert 0 < figures.commit_ms <= figures.request_ms and 0 < figures.last_commit_ms <= figures.commit_ms
    app.cluster().reset_statistics()
    assert app.cluster().statistics().requests == 0


def test_later_commits_count_in_both_times(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request's time is never less than that of its commits, also where one of them comes after the first byte."""
    now_s = 0.0

    def tick() -> float:
        nonlocal now_s
        now_s += 1.0
        return now_s

    monkeypatch.setattr(time, "perf_counter", tick)
    app = ADAPTERS["wsgi generator"]()

    def stream(session: Any) -> Iterator[str]:
        session["n"] = 1
        yield "first"
        session["n"] = 2

    app.get(stream)
    figures = app.cluster().statistics()
    assert figures.used == 1 and figures.commit_ms > figures.last_commit_ms == 1000.0
    assert figures.request_ms == figures.commit_ms + 1000.0, "the one tick from the beginning to the first commit"


# --- the primary's indicator -----------------------------------------------------------------------------------------

ATTRIBUTES: dict[str, Callable[[Any], Any]] = {
    "flask": lambda session: flask.request.environ,
    "quart": lambda session: quart.request.scope,
    "pyramid": lambda session: get_current_request().environ,
    "starlette": lambda session: session._request.scope,
    "litestar": lambda session: session._request.scope,
    "django": lambda session: session.request,
    "django asgi": lambda session: session.request,
}
"""Adapter -> where the attributes of the request are whose session a view has."""


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_an_attribute_of_the_request_tells_who_is_primary(name: str) -> None:
    """It is there once the session was looked at: true at the primary, false elsewhere, absent without a session."""
    app = ADAPTERS[name](primary_indicator=INDICATOR)
    told: list[Any] = []

    def view(session: Any) -> str:
        told.append(ATTRIBUTES[name](session).get(INDICATOR))
        session.get("n")
        told.append(ATTRIBUTES[name](session).get(INDICATOR))
        return "seen"

    with MemoryCluster(3) as cluster:
        with cluster.at("a"):
            app.get(view)
            _, cookie = browse(app, setting(n=1))
            app.get(view, cookie)
        with cluster.at("b"):
            app.get(view, cookie)
    assert told[:2] == [None, None] and (told[3], told[5]) == (True, False)


def test_the_indicator_is_in_environ_and_scope() -> None:
    """For what has no framework around it, such as the server's access log."""
    told: list[Any] = []

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environ["understudy.session"]["n"] = 1
        told.append(environ.get(INDICATOR))
        start_response("200 OK", [])
        return []

    async def asgi_application(scope: Any, receive: Any, send: Any) -> None:
        scope["session"]["n"] = 1
        told.append(scope.get(INDICATOR))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    with isolated():
        wsgi = WsgiClient(SessionMiddleware(application, primary_indicator=INDICATOR))
        wsgi.get("/")
        wsgi.get("/")
        asgi = AsgiClient(AsgiMiddleware(asgi_application, primary_indicator=INDICATOR))
        asgi.get("/")
        asgi.get("/")
    assert told == [None, True, None, True]


def test_aiohttps_request_has_the_indicator(clock: Clock) -> None:
    """``request["…"]``, as aiohttp's applications share things."""

    async def ask() -> None:
        storage = UnderstudyStorage(primary_indicator=INDICATOR)
        session = storage.cluster.runtime.client().begin("")
        session["n"] = 1
        storage.cluster.runtime.client().finish(session)
        request = make_mocked_request("GET", "/", headers={"Cookie": f"session={session.visit.cookie_now}"})
        found = await storage.load_session(request)
        assert found["n"] == 1 and request[INDICATOR] is True

    asyncio.run(ask())


# --- large sessions --------------------------------------------------------------------------------------------------


def test_a_large_session_is_told_of_before_it_is_refused(
    make: Callable[..., App], clock: Clock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above 80 % of the limit one line names the largest attributes, not one for each request."""
    monkeypatch.setenv("UNDERSTUDY_SESSION_BYTES_MAX", "10000")
    app = make()
    _, cookie = browse(app, setting(small="x", huge="x" * 7_000))
    assert "huge" not in caplog.text
    app.get(setting(large="y" * 1_500), cookie)
    warned = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warned) == 1 and "'huge' with 7" in warned[0].getMessage() and "'large'" in warned[0].getMessage()
    for number in range(3):
        app.get(setting(n=number), cookie)
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1
    clock.advance(minutes=11)
    app.get(setting(n=9), cookie)
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 2
