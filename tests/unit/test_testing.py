"""The helpers for users' tests: isolated sessions, a fake clock, a cluster in memory, the session of a test client."""

from __future__ import annotations

import asyncio
import re
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flask
import litestar
import pytest
import quart
import tests.django_settings  # noqa: F401  # Django is configured once in a process
from django.http import HttpResponse
from django.test import Client as DjangoClient
from django.test import override_settings
from django.urls import path
from litestar.testing import TestClient as LitestarClient
from pyramid.config import Configurator
from pyramid.response import Response as PyramidResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from webtest import TestApp
from werkzeug.test import Client as WerkzeugClient

from understudy.asgi import SessionMiddleware as AsgiMiddleware
from understudy.flask import Understudy
from understudy.litestar import UnderstudySessionConfig
from understudy.pyramid import UnderstudySessionFactory
from understudy.quart import Understudy as QuartUnderstudy
from understudy.testing import Clock, MemberDown, MemoryCluster, isolated, session_of
from understudy.wsgi import SessionMiddleware as WsgiMiddleware

PLUGIN = "understudy.testing.plugin"


def flask_app() -> flask.Flask:
    app = flask.Flask("counter")
    Understudy(app, idle_timeout="30m")

    @app.get("/")
    def count() -> str:
        flask.session["visits"] = flask.session.get("visits", 0) + 1
        return str(flask.session["visits"])

    return app


def starlette_app() -> Starlette:
    async def count(request: Request) -> PlainTextResponse:
        request.session["visits"] = request.session.get("visits", 0) + 1
        return PlainTextResponse(str(request.session["visits"]))

    app = Starlette(routes=[Route("/", count)])
    app.add_middleware(AsgiMiddleware, max_age=30 * 60)
    return app


def wsgi_app() -> WsgiMiddleware:
    def count(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        session = environ["understudy.session"]
        session["visits"] = session.get("visits", 0) + 1
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(session["visits"]).encode()]

    return WsgiMiddleware(count)


def pyramid_app() -> Any:
    def count(request: Any) -> PyramidResponse:
        request.session["visits"] = request.session.get("visits", 0) + 1
        return PyramidResponse(str(request.session["visits"]))

    with Configurator() as config:
        config.set_session_factory(UnderstudySessionFactory())
        config.add_route("count", "/")
        config.add_view(count, route_name="count")
        return config.make_wsgi_app()


async def litestar_count(request: litestar.Request[Any, Any, Any]) -> str:
    request.session["visits"] = request.session.get("visits", 0) + 1
    return str(request.session["visits"])


def litestar_app() -> litestar.Litestar:
    view = litestar.get("/", media_type=litestar.MediaType.TEXT)(litestar_count)
    return litestar.Litestar([view], middleware=[UnderstudySessionConfig(max_age=30 * 60).middleware])


CLIENTS = {
    "flask": lambda: flask_app().test_client(),
    "starlette": lambda: TestClient(starlette_app()),
    "litestar": lambda: LitestarClient(litestar_app()),
    "wsgi": lambda: TestApp(wsgi_app()),
    "werkzeug": lambda: WerkzeugClient(wsgi_app()),
    "pyramid": lambda: TestApp(pyramid_app()),
}


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> Any:
    return CLIENTS[request.param]()


@pytest.fixture
def clock() -> Iterator[Clock]:
    with isolated() as clock:
        yield clock


# --- one member, and time --------------------------------------------------------------------------------------------


def test_time_passes_in_a_line(client: Any, clock: Clock) -> None:
    """S44: a session lives while it is used, and is gone when nobody used it for its idle timeout; nobody waits."""
    assert client.get("/").text == "1"
    clock.advance(minutes=29)
    assert client.get("/").text == "2"
    clock.advance(minutes=29)
    assert client.get("/").text == "3"
    clock.advance(minutes=31)
    assert client.get("/").text == "1"


def test_a_test_has_its_sessions_by_itself(client: Any) -> None:
    """What one block holds is unknown in the next, also where the application and the browser are the same."""
    from understudy.client import runtime

    with isolated():
        assert client.get("/").text == "1"
        with isolated(), session_of(client) as session:
            assert session.is_new and not session
        assert client.get("/").text == "2", "the outer block goes on"
    with isolated():
        assert client.get("/").text == "1"
    assert runtime.stand_in is None


def test_nothing_is_opened(client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No directory is made, and so no file and no agent."""
    monkeypatch.setenv("UNDERSTUDY_DIR", str(tmp_path / "member"))
    monkeypatch.setenv("UNDERSTUDY_LISTEN", "127.0.0.1:7400")
    with isolated():
        assert client.get("/").text == "1"
    assert not list(tmp_path.iterdir())


def test_time_does_not_go_back(clock: Clock) -> None:
    """A clock that went back would bring sessions back."""
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(seconds=-1)


# --- the session of a test client ------------------------------------------------------------------------------------


def test_a_session_is_filled_before_the_first_request(client: Any, clock: Clock) -> None:
    """One line, and the first request finds what the test wants it to find."""
    with session_of(client) as session:
        session["visits"] = 41
    assert client.get("/").text == "42"


def test_a_session_is_looked_into_and_changed_between_requests(client: Any, clock: Clock) -> None:
    """The test sees what requests wrote, and they see what the test wrote."""
    client.get("/")
    with session_of(client) as session:
        assert dict(session) == {"visits": 1}
        session["visits"] = 7
    assert client.get("/").text == "8"


def test_ending_a_session_takes_the_cookie_away(client: Any, clock: Clock) -> None:
    """The client is as a browser that has logged out, and its next session is another one."""
    client.get("/")
    with session_of(client) as session:
        before = session.id
        session.invalidate()
    with session_of(client) as session:
        assert session.is_new and session.id is None
    client.get("/")
    with session_of(client) as session:
        assert session.id not in (before, None)


def test_a_block_that_raises_commits_nothing(client: Any, clock: Clock) -> None:
    """As any other block that raises."""
    with pytest.raises(ZeroDivisionError), session_of(client) as session:
        session["visits"] = 1 / 0
    assert client.get("/").text == "1"


def test_flask_keeps_its_own_way(clock: Clock) -> None:
    """``session_transaction`` works as in Flask's documentation."""
    client = flask_app().test_client()
    with client.session_transaction() as session:
        session["visits"] = 4
    assert client.get("/").text == "5"


def test_quart_keeps_its_own_way(clock: Clock) -> None:
    """``session_transaction`` works as in Quart's documentation."""
    app = quart.Quart("counter")
    QuartUnderstudy(app)

    @app.get("/")
    async def count() -> str:
        quart.session["visits"] = quart.session.get("visits", 0) + 1
        return str(quart.session["visits"])

    async def visit() -> None:
        client = app.test_client()
        async with client.session_transaction() as session:
            session["visits"] = 4
        response = await client.get("/")
        assert await response.get_data(as_text=True) == "5"
        clock.advance(days=32)
        response = await client.get("/")
        assert await response.get_data(as_text=True) == "1"

    asyncio.run(visit())


def django_count(request: Any) -> HttpResponse:
    request.session["visits"] = request.session.get("visits", 0) + 1
    return HttpResponse(str(request.session["visits"]))


urlpatterns = [path("", django_count)]


@override_settings(ROOT_URLCONF=__name__, SESSION_COOKIE_AGE=30 * 60)
def test_django_keeps_its_own_way() -> None:
    """``client.session`` works as in Django's documentation, on a clock and on a cluster."""
    with isolated() as clock:
        client = DjangoClient()
        session = client.session
        session["visits"] = 4
        session.save()
        assert client.get("/").content == b"5"
        clock.advance(minutes=31)
        assert client.get("/").content == b"1"
    with MemoryCluster(3) as cluster:
        client = DjangoClient()
        for number, member in enumerate("abc", 1):
            with cluster.at(member):
                assert client.get("/").content == str(number).encode()
        cluster.kill("a")
        assert client.session["visits"] == 3


@override_settings(ROOT_URLCONF=__name__)
def test_a_session_of_djangos_client_in_one_line(clock: Clock) -> None:
    """It is filled, looked into, given another key and ended; nothing is saved where the block raises."""
    client = DjangoClient()
    with session_of(client) as session:
        session["visits"] = 4
    assert client.get("/").content == b"5"
    with session_of(client) as session:
        assert session["visits"] == 5
        session.cycle_key()
    assert client.get("/").content == b"6"
    with pytest.raises(ZeroDivisionError), session_of(client) as session:
        session["visits"] = 1 / 0
    assert client.get("/").content == b"7"
    with session_of(client) as session:
        session.flush()
    assert client.get("/").content == b"1"


def test_an_application_without_us_is_named(clock: Clock) -> None:
    """A wrong client gives an error that says so, not an empty session."""
    with pytest.raises(LookupError, match="FlaskClient"), session_of(flask.Flask("other").test_client()):
        pass


# --- a cluster in memory ---------------------------------------------------------------------------------------------


def test_any_member_serves_any_session(client: Any) -> None:
    """S12: what one member answered the next one sees."""
    with MemoryCluster(3) as cluster:
        for number, member in enumerate("abcacb", 1):
            with cluster.at(member):
                assert client.get("/").text == str(number)
        with session_of(client) as session:
            assert session.protected


def test_a_killed_member_takes_no_session_with_it(client: Any) -> None:
    """S22: whoever dies, the others go on with all that was answered, also when the next one dies after a rest."""
    with MemoryCluster(3) as cluster:
        with cluster.at("a"):
            assert client.get("/").text == "1"
        cluster.kill("a")
        with cluster.at("c"):
            assert client.get("/").text == "2"
        cluster.settle()
        cluster.kill("c")
        assert cluster.living == ["b"]
        assert client.get("/").text == "3"
        cluster.start("a")
        cluster.settle()
        with cluster.at("a"):
            assert client.get("/").text == "4"


def test_a_killed_member_serves_nothing() -> None:
    """A test that sends a request to it made a mistake; a request that it had in hand is answered by nobody."""
    app = flask_app()

    @app.get("/last")
    def last() -> str:
        flask.session["visits"] = 0
        cluster.kill("a")
        return "done"

    with MemoryCluster(2) as cluster:
        with cluster.at("a"):
            assert app.test_client().get("/last").status_code == 503
        with pytest.raises(MemberDown), cluster.at("a"):
            pass


def test_a_paused_member_comes_back_to_what_others_wrote(client: Any) -> None:
    """S25: it serves nothing that is older than what was answered meanwhile."""
    with MemoryCluster(3) as cluster:
        with cluster.at("a"):
            client.get("/")
        cluster.pause("a")
        assert "a" not in cluster.living
        assert client.get("/").text == "2"
        cluster.advance(seconds=10)
        cluster.resume("a")
        with cluster.at("a"):
            assert client.get("/").text == "3"


def test_a_copy_on_every_member(client: Any) -> None:
    """``manager="DeltaManager"``: of three members two may be lost at once."""
    with MemoryCluster(3, manager="DeltaManager") as cluster:
        with cluster.at("a"):
            assert client.get("/").text == "1"
        cluster.settle()
        cluster.kill("a")
        cluster.kill("b")
        assert client.get("/").text == "2"


def test_a_cut_keeps_sides_apart_until_it_heals() -> None:
    """S38: both sides write, and after the heal the session has both changes."""
    with MemoryCluster(2) as cluster:
        client = TestApp(wsgi_app())
        with session_of(client) as session:
            session["visits"] = 0
        cluster.partition("a", "b")
        cluster.advance(seconds=10)
        for member in cluster.members:
            with cluster.at(member), session_of(client) as session:
                session[member] = True
        for member, other in (("a", "b"), ("b", "a")):
            with cluster.at(member), session_of(client) as session:
                assert member in session and other not in session
        cluster.heal()
        cluster.settle()
        for member in cluster.members:
            with cluster.at(member), session_of(client) as session:
                assert {"a", "b", "visits"} == set(session)


def test_the_same_seed_takes_the_same_course() -> None:
    """Chance comes from the seed alone: the same requests take the same time of the cluster's clock."""

    def course(seed: int) -> tuple[int, int]:
        with MemoryCluster(3, seed=seed) as cluster:
            client = flask_app().test_client()
            for member in "abc":
                with cluster.at(member):
                    client.get("/")
            cluster.kill("b")
            cluster.settle()
            return cluster.now_ms, cluster.messages

    assert course(1) == course(1)
    assert len({course(seed) for seed in range(5)}) > 1


def test_requests_in_threads_take_turns() -> None:
    """S02, S03: threads at different members lose nothing; each stays at its own member."""
    with MemoryCluster(3) as cluster:
        client = TestApp(wsgi_app())
        with session_of(client) as session:
            session["sum"] = 0
        wrong: list[BaseException] = []

        def add(member: str) -> None:
            try:
                own = TestApp(client.app, cookiejar=client.cookiejar)
                for _ in range(5):
                    with cluster.at(member), session_of(own) as session:
                        assert session.role in ("primary", "backup", "proxy")
                        session.transact(lambda session: session.update(sum=session["sum"] + 1))
            except BaseException as error:
                wrong.append(error)

        threads = [threading.Thread(target=add, args=(member,)) for member in cluster.members]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        with session_of(client) as session:
            assert session["sum"] == 15


# --- the plugin ------------------------------------------------------------------------------------------------------

USERS_TEST = """
import flask
from understudy.flask import Understudy

app = flask.Flask("shop")
Understudy(app)

@app.get("/")
def count():
    flask.session["visits"] = flask.session.get("visits", 0) + 1
    return str(flask.session["visits"])

def test_a_session_expires(understudy_clock):
    client = app.test_client()
    assert client.get("/").text == "1"
    understudy_clock.advance(days=32)
    assert client.get("/").text == "1"

def test_a_session_survives(understudy_cluster):
    cluster = understudy_cluster(3, copies=2)
    client = app.test_client()
    assert client.get("/").text == "1"
    cluster.kill("a")
    assert client.get("/").text == "2"

def test_nothing_is_left_of_it(understudy_clock):
    from understudy.client import runtime
    assert runtime.stand_in.__self__._manager_class == "LocalManager"
"""

pytest_plugins = ["pytester"]


def test_the_plugin_offers_its_fixtures(pytester: pytest.Pytester) -> None:
    """In a project of its own, as a user has it."""
    pytester.makepyfile(USERS_TEST)
    pytester.runpytest_inprocess("-p", PLUGIN, "-p", "no:cacheprovider").assert_outcomes(passed=3)


def test_the_plugin_is_found_by_pytest() -> None:
    """The package names it as pytest's entry point, under its module's name, so that ``-p`` does not load it twice."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["pytest11"] == {PLUGIN: PLUGIN}


def test_the_examples_of_its_page_run(pytester: pytest.Pytester) -> None:
    """Each example of docs/testing.md, pasted into a file of its own."""
    page = (Path(__file__).parents[2] / "docs" / "testing.md").read_text("utf-8")
    examples = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    files = {}
    for number, example in enumerate(examples):
        files["conftest" if "autouse" in example else f"test_example_{number}"] = example
    assert "conftest" in files
    pytester.makepyfile(**files)
    tests = sum(len(re.findall(r"^ *def test_", example, re.MULTILINE)) for example in examples)
    assert tests >= 5
    pytester.runpytest_inprocess("-p", PLUGIN, "-p", "no:cacheprovider").assert_outcomes(passed=tests)
