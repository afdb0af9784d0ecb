"""Claims of ``understudy.pyramid`` beyond those of every adapter: what Pyramid expects of an ``ISession``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPFound
from pyramid.interfaces import ISession
from pyramid.request import Request
from pyramid.response import Response
from webtest import TestApp
from zope.interface.verify import verifyObject

from understudy.client.member import _members
from understudy.errors import SessionUnavailable
from understudy.pyramid import UnderstudySessionFactory


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNDERSTUDY_DIR", str(tmp_path / "m"))
    yield tmp_path / "m"
    for member in list(_members.values()):
        member.close()


class Site:
    """An application whose next request does with its session what it is told."""

    def __init__(self, configure: Callable[[Configurator], None] | None = None, **keywords: Any) -> None:
        self.does: Callable[[Any], Any] = lambda request: ""
        with Configurator() as config:
            config.set_session_factory(UnderstudySessionFactory(**keywords))
            config.add_route("view", "/")
            config.add_view(self._view, route_name="view")
            if configure is not None:
                configure(config)
        self.browser = TestApp(config.make_wsgi_app())

    def __call__(self, does: Callable[[Any], Any], **options: Any) -> Any:
        self.does = does
        return self.browser.get("/", **options)

    def _view(self, request: Any) -> Response:
        result = self.does(request)
        return result if isinstance(result, Response) else Response(str(result))


def test_it_is_an_isession() -> None:
    """By Pyramid's own definition."""
    request = Request.blank("/")
    session = UnderstudySessionFactory()(request)
    assert verifyObject(ISession, session)
    assert repr(session) == "<Session, new>"


def test_flash_messages() -> None:
    """They stay until they are popped, queue by queue, over requests."""
    site = Site()

    def flash(request: Any) -> None:
        request.session.flash("one")
        request.session.flash("one", allow_duplicate=False)
        request.session.flash("one")
        request.session.flash("other", "queue")

    site(flash)
    site(lambda request: request.session.flash("two"))
    assert site(lambda request: request.session.peek_flash()).text == "['one', 'one', 'two']"
    assert site(lambda request: request.session.pop_flash()).text == "['one', 'one', 'two']"
    assert site(lambda request: request.session.pop_flash()).text == "[]"
    assert site(lambda request: request.session.pop_flash("queue")).text == "['other']"


def test_csrf_tokens() -> None:
    """One for the session, until another is made; Pyramid's check accepts it."""
    site = Site(lambda config: config.set_default_csrf_options(require_csrf=True))
    token = site(lambda request: request.session.get_csrf_token()).text
    assert len(token) == 40 and site(lambda request: request.session.get_csrf_token()).text == token
    assert site.browser.post("/", {"csrf_token": token}).status_int == 200
    assert site.browser.post("/", {"csrf_token": "x" * 40}, status=400).status_int == 400
    assert site(lambda request: request.session.new_csrf_token()).text != token


def test_new_and_created_tell_the_truth() -> None:
    """``new`` is what the session was when the request came; ``created`` is in seconds since 1970."""
    site = Site()

    def about(request: Any) -> Any:
        request.session["n"] = 1
        age_s = datetime.now(UTC).timestamp() - request.session.created
        return request.session.new, 0 <= age_s < 60

    assert site(about).text == "(True, True)"
    assert site(about).text == "(False, True)"


def test_after_invalidate_it_is_usable_as_a_new_one() -> None:
    """S04, S11: what is written then is under another id, and the old one opens nothing."""
    site = Site()
    site(lambda request: request.session.update(user="ada"))
    before = site.browser.cookies["session"]

    def leave(request: Any) -> Any:
        request.session.invalidate()
        request.session.flash("bye")
        return request.session.new

    assert site(leave).text == "True"
    assert site.browser.cookies["session"] != before
    assert site(lambda request: dict(request.session)).text == "{'_f_': ['bye']}"
    site.browser.set_cookie("session", before)
    assert site(lambda request: dict(request.session)).text == "{}"


def test_its_keywords_count() -> None:
    """The names are those of Pyramid's own factories."""
    keywords = {"cookie_name": "sid", "max_age": 60, "path": "/", "secure": True, "httponly": False}
    site = Site(timeout=120, samesite="Strict", absolute_timeout="1h", **keywords)
    line = site(lambda request: request.session.update(n=1)).headers["Set-Cookie"]
    for flag in ("sid=", "Max-Age=60", "Path=/", "SameSite=Strict", "Secure"):
        assert flag in line
    assert "HttpOnly" not in line


def test_a_redirect_and_an_exception_view_bring_the_cookie() -> None:
    """S13: what is raised and answered by a view is a response like any other."""

    def configure(config: Configurator) -> None:
        config.add_exception_view(lambda error, request: Response("failed", 500), context=ValueError)

    site = Site(configure)

    def redirect(request: Any) -> None:
        request.session["n"] = 1
        raise HTTPFound("/elsewhere")

    def fail(request: Any) -> None:
        request.session["n"] += 1
        raise ValueError

    assert "Set-Cookie" in site(redirect, status=302).headers
    assert site(fail, status=500).text == "failed"
    assert site(lambda request: request.session["n"]).text == "2"


@pytest.mark.parametrize("answered", [True, False])
@pytest.mark.parametrize("kept", [True, False])
def test_set_on_exception_is_pyramids(kept: bool, answered: bool) -> None:
    """S13, S04: if False, a view that raises changes nothing, whoever answers; but a logout holds."""

    def configure(config: Configurator) -> None:
        if answered:
            config.add_exception_view(lambda error, request: Response("sorry"), context=ZeroDivisionError)

    site = Site(configure, set_on_exception=kept)
    site(lambda request: request.session.update(n=1))

    def fail(change: Callable[[Any], Any]) -> Any:
        def view(request: Any) -> None:
            change(request.session)
            raise ZeroDivisionError

        with contextlib.nullcontext() if answered else pytest.raises(ZeroDivisionError):
            return site(view)

    fail(lambda session: session.update(n=2))
    assert site(lambda request: request.session.get("n")).text == ("2" if kept else "1")
    response = fail(lambda session: session.rotate())
    assert response is None or ("Set-Cookie" in response.headers) is kept
    assert site(lambda request: request.session.get("n")).text == ("2" if kept else "1")
    fail(lambda session: session.invalidate())
    assert site(lambda request: request.session.get("n")).text == "None"


def test_a_refusal_in_the_middle_of_a_view_is_503() -> None:
    """S31: with ``config.include``; without it, only one of ``request.session`` itself."""

    def fail(request: Any) -> None:
        raise SessionUnavailable("nobody answers")

    response = Site(lambda config: config.include("understudy.pyramid"))(fail, status=503)
    assert response.headers["Retry-After"] == "1"
    with pytest.raises(SessionUnavailable):
        Site()(fail)


def test_a_stream_is_watched_without_the_tween() -> None:
    """S12: if the session was used before the first byte, ``set_session_factory`` alone is enough."""
    site = Site()

    def stream(request: Any) -> Response:
        request.session["n"] = 1

        def parts() -> Iterator[bytes]:
            yield b"first"
            request.session["n"] = 2

        return Response(app_iter=parts())

    assert site(stream).text == "first"
    assert site(lambda request: request.session["n"]).text == "2"
