"""Claims of ``understudy.flask`` beyond those of every adapter: what Flask's users expect of ``flask.session``."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import flask
import pytest
from markupsafe import Markup

from understudy.client.member import _members
from understudy.cluster import Cluster
from understudy.errors import ConfigurationError, SessionUnavailable
from understudy.flask import Understudy
from understudy.testing import MemoryCluster, isolated


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNDERSTUDY_DIR", str(tmp_path / "m"))
    yield tmp_path / "m"
    for member in list(_members.values()):
        member.close()


def made(**keywords: Any) -> flask.Flask:
    app = flask.Flask("shop")
    Understudy(app, **keywords)

    @app.get("/login")
    def login() -> str:
        flask.session.clear()
        flask.session["user"] = "ada"
        return "in"

    @app.get("/user")
    def user() -> str:
        return str(flask.session.get("user"))

    @app.get("/permanent/<int:on>")
    def permanent(on: int) -> str:
        flask.session.permanent = bool(on)
        return str(flask.session.permanent)

    @app.get("/modified")
    def modified() -> str:
        before = flask.session.modified
        flask.session["n"] = flask.session.get("n", 0) + 1
        return f"{before} {flask.session.modified} {flask.session.new}"

    @app.get("/flash")
    def flash() -> str:
        flask.flash("hello")
        return "flashed"

    @app.get("/flashes")
    def flashes() -> str:
        return repr(flask.get_flashed_messages())

    return app


def test_the_tutorials_login_is_safe_from_fixation() -> None:
    """S11: ``session.clear()`` and a write, as Flask's tutorial does it, is another session with another id."""
    client = made().test_client()
    client.get("/modified")
    before = client.get_cookie("session")
    client.get("/login")
    after = client.get_cookie("session")
    assert before and after and before.value.split(".")[0][:12] != after.value.split(".")[0][:12]
    assert client.get("/user").text == "ada"


def test_a_session_transaction_reads_and_writes() -> None:
    """Flask's test helper works outside of a request."""
    client = made().test_client()
    with client.session_transaction() as session:
        session["user"] = "ada"
    assert client.get("/user").text == "ada"
    with client.session_transaction() as session:
        assert session["user"] == "ada"
        session["user"] = "grace"
    assert client.get("/user").text == "grace"


def test_the_cookie_lives_as_long_as_flask_says() -> None:
    """Until the browser is closed; when permanent for the session's idle timeout, renewed with each use of it."""
    app = made()
    app.config["PERMANENT_SESSION_LIFETIME"] = timedelta(hours=2)
    client = app.test_client()
    assert "Expires" not in client.get("/login").headers["Set-Cookie"]
    for _ in range(2):
        expires = client.get("/permanent/1").headers["Set-Cookie"].split("Expires=")[1].split(";")[0]
        left = parsedate_to_datetime(expires) - datetime.now(UTC)
        assert timedelta(minutes=119) < left < timedelta(minutes=121)
    assert "Set-Cookie" in client.get("/user").headers
    assert "Expires" not in client.get("/permanent/0").headers["Set-Cookie"]
    assert "Set-Cookie" not in client.get("/user").headers
    app.config["SESSION_REFRESH_EACH_REQUEST"] = False
    assert "Expires" in client.get("/permanent/1").headers["Set-Cookie"]
    assert "Set-Cookie" not in client.get("/user").headers


def test_flasks_settings_count_where_they_differ_from_its_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keyword over Flask's setting over environment; Flask's defaults leave ours alone."""
    monkeypatch.setenv("UNDERSTUDY_IDLE_TIMEOUT", "7m")
    monkeypatch.setenv("UNDERSTUDY_COOKIE_NAME", "from-environment")

    def config_of(app: flask.Flask) -> Any:
        extension: Cluster = app.extensions["understudy"]
        return extension.runtime.client().config

    plain = config_of(made())
    assert (plain.idle_timeout_ms, plain.cookie_name, plain.cookie_samesite, plain.cookie_secure) == (
        420_000,
        "from-environment",
        "Lax",
        "auto",
    )
    app = made(cookie_samesite="Strict", idle_timeout=60)
    app.config.update(
        PERMANENT_SESSION_LIFETIME=timedelta(days=1),
        SESSION_COOKIE_NAME="from-flask",
        SESSION_COOKIE_SAMESITE="None",
        SESSION_COOKIE_SECURE=True,
        APPLICATION_ROOT="/shop",
    )
    mixed = config_of(app)
    assert (mixed.idle_timeout_ms, mixed.cookie_name, mixed.cookie_samesite) == (60_000, "from-flask", "Strict")
    assert (mixed.cookie_secure, mixed.cookie_path) == (True, "/shop")
    assert mixed.source("cookie_name") == "Flask setting SESSION_COOKIE_NAME"


def test_a_session_lives_as_long_as_flasks_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """31 days where nothing is said; what the file or the environment says goes before that default."""
    with isolated() as clock:
        client = made().test_client()
        client.get("/login")
        clock.advance(days=30)
        assert client.get("/user").text == "ada"
        clock.advance(days=32)
        assert client.get("/user").text == "None"
        monkeypatch.setenv("UNDERSTUDY_IDLE_TIMEOUT", "1h")
        client = made().test_client()
        client.get("/login")
        clock.advance(hours=2)
        assert client.get("/user").text == "None"


def test_settings_are_read_at_each_request() -> None:
    """As Flask reads them; what was counted until then stays counted. A wrong one is an error that names it."""
    app = made(cookie_path="/shop")
    app.testing = True

    def cookie() -> str:
        return app.test_client().get("/login").headers["Set-Cookie"]

    assert "SameSite=Lax" in cookie() and app.config["SESSION_COOKIE_SAMESITE"] == "Lax"
    app.config.update(SESSION_COOKIE_SAMESITE=None, SESSION_COOKIE_PATH="/elsewhere")
    assert "SameSite" not in cookie() and "Path=/shop" in cookie()
    app.config.update(SESSION_COOKIE_SAMESITE="Strict", SESSION_COOKIE_NAME="visitor", SESSION_COOKIE_HTTPONLY=False)
    assert cookie().startswith("visitor=") and "SameSite=Strict" in cookie() and "HttpOnly" not in cookie()
    app.config["SESSION_COOKIE_SAMESITE"] = "invalid"
    with pytest.raises(ConfigurationError, match="Flask setting SESSION_COOKIE_SAMESITE"):
        cookie()
    app.config["SESSION_COOKIE_SAMESITE"] = "Lax"
    assert "SameSite=Lax" in cookie()
    extension: Cluster = app.extensions["understudy"]
    assert extension.statistics().wrote == 7


@pytest.mark.parametrize("permanent", [True, False])
@pytest.mark.parametrize("refresh", [True, False])
def test_a_permanent_session_is_renewed_by_each_request(permanent: bool, refresh: bool) -> None:
    """``SESSION_REFRESH_EACH_REQUEST``, Flask's default: also by requests that do not use it; its cookie is, too."""
    app = made(idle_timeout="30m")
    app.config["SESSION_REFRESH_EACH_REQUEST"] = refresh
    is_renewed = permanent and refresh
    with isolated() as clock:
        client = app.test_client()
        client.get("/login")
        client.get(f"/permanent/{int(permanent)}")
        clock.advance(minutes=20)
        response = client.get("/static/nothing")
        assert ("Set-Cookie" in response.headers) is ("Cookie" in response.vary) is is_renewed
        clock.advance(minutes=20)
        assert client.get("/user").text == ("ada" if is_renewed else "None")


def test_a_request_that_does_not_use_its_session_asks_nobody() -> None:
    """S07: where another member would have to be asked, it renews nothing; nor under a read-only path."""
    app = made()
    with MemoryCluster(3) as cluster:
        client = app.test_client()
        with cluster.at("a"):
            client.get("/permanent/1")
        with cluster.at("b"):
            assert "Set-Cookie" not in client.get("/static/nothing").headers
        with cluster.at("a"):
            assert "Set-Cookie" in client.get("/static/nothing").headers
    app = made(read_only_paths="/static/.*")
    client = app.test_client()
    client.get("/permanent/1")
    assert "Set-Cookie" not in client.get("/static/nothing").headers


def test_modified_and_new_tell_the_truth() -> None:
    """Without being set by anybody."""
    client = made().test_client()
    assert client.get("/modified").text == "False True True"
    assert client.get("/modified").text == "False True False"


def test_flashed_messages_are_shown_once() -> None:
    """Flask itself changes the list inside the session."""
    client = made().test_client()
    client.get("/flash")
    client.get("/flash")
    assert client.get("/flashes").text == "['hello', 'hello']"
    assert client.get("/flashes").text == "[]"


def test_an_application_may_answer_refusals_itself() -> None:
    """Its own error handler goes before ours."""
    app = made()

    @app.errorhandler(SessionUnavailable)
    def mine(error: SessionUnavailable) -> tuple[str, int]:
        return "one moment", 503

    @app.get("/unavailable")
    def unavailable() -> str:
        raise SessionUnavailable("nobody answers")

    assert app.test_client().get("/unavailable").text == "one moment"
    assert made().test_client().get("/user").status_code == 200


def test_an_unstorable_change_in_place_is_an_error_page_and_harms_nothing_else() -> None:
    """S19: 500, the rest is committed, and a session that began just then is not lost."""
    app = made()

    @app.get("/bad")
    def bad() -> str:
        flask.session["user"] = "ada"
        flask.session["list"] = []
        flask.session["list"].append(object())
        return "bad"

    client = app.test_client()
    assert client.get("/bad").status_code == 500
    assert client.get("/user").text == "ada"


def test_init_app_and_the_extension() -> None:
    """The factory pattern; the extension is the cluster, usable before any request."""
    extension = Understudy(idle_timeout="5m")
    app = flask.Flask("shop")
    extension.init_app(app)
    cluster = app.extensions["understudy"]
    assert isinstance(cluster, Cluster) and len(cluster.manager.sessions) == 0


def test_markup_may_be_flashed() -> None:
    """It comes back as markup: a template does not escape it."""
    app = made()

    @app.get("/flash-markup")
    def flash_markup() -> str:
        flask.flash(Markup("<b>bold</b>"))
        return "flashed"

    @app.get("/page")
    def page() -> str:
        return flask.render_template_string("{% for m in get_flashed_messages() %}{{ m }}{% endfor %}")

    client = app.test_client()
    client.get("/flash-markup")
    assert client.get("/page").text == "<b>bold</b>"


def test_an_application_does_not_keep_itself_alive() -> None:
    """As Flask's own tests ask: it is gone with its last reference, without the garbage collector."""
    app = flask.Flask("shop")
    Understudy(app)
    gone = weakref.ref(app)
    gc.disable()
    try:
        del app
        assert gone() is None
    finally:
        gc.enable()
