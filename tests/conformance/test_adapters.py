"""What every adapter claims, whatever its framework: one suite over all of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.agents import Line, ScriptedAgent
from tests.conformance.app import App, Boom, browse, failing, meanwhile, setting, shown

from understudy.errors import ConfigurationError, ValueNotSupported
from understudy.model.commit import Outcome
from understudy.protocol.messages import (
    CommitAnswer,
    CommitRequest,
    FetchAnswer,
    FetchOutcome,
    FetchRequest,
    Reply,
    WorkerMessage,
)

# --- cookies ---------------------------------------------------------------------------------------------------------


def test_a_request_that_does_not_use_its_session_has_no_part_in_it(app: App) -> None:
    """No cookie, no Vary, nothing stored; also with a cookie that was sent."""
    _, cookie = browse(app, setting(n=1))
    for sent in ("", cookie):
        response = app.get(lambda session: "hello", sent)
        assert (response.status, response.body, response.set_cookie) == (200, "hello", None)
        assert response.header("Vary") == "Accept"


def test_reading_sends_vary_and_no_cookie(app: App) -> None:
    """A cache must not give one user's page to another; an empty session is never begun."""
    response = app.get(shown)
    assert (response.body, response.set_cookie) == ("{}", None)
    assert [part.strip() for part in (response.header("Vary") or "").split(",")] == ["Accept", "Cookie"]


def test_a_new_sessions_cookie_has_its_flags(app: App) -> None:
    """``<id>.<route>`` with one dot, HttpOnly, SameSite=Lax, Path=/, Secure exactly when the request is https."""
    for scheme in ("http", "https"):
        response = app.get(setting(n=1), scheme=scheme)
        session_id, route = (response.cookie or "").split(".")
        assert len(session_id) == 32 and route == "web1"
        flags = {part.strip().lower() for part in (response.set_cookie or "").split(";")[1:]}
        assert flags == {"httponly", "samesite=lax", "path=/"} | ({"secure"} if scheme == "https" else set()) | {
            flag for flag in flags if flag.startswith(("expires=", "max-age="))
        }


def test_the_cookie_is_not_sent_again(app: App) -> None:
    """A later write under the same id and route brings none; a wrong route is corrected."""
    _, cookie = browse(app, setting(n=1))
    assert app.get(setting(n=2), cookie).cookie == (cookie if app.is_django else None)
    assert app.get(shown, cookie).set_cookie is None
    assert app.get(shown, cookie.replace(".web1", ".web9")).cookie == cookie


def test_keywords_name_and_flag_the_cookie(make: Callable[..., App]) -> None:
    """And all flags are repeated when it is taken away."""
    app = make(cookie_path="/shop", cookie_secure=True, cookie_samesite="Strict", cookie_partitioned=True)
    response, cookie = browse(app, setting(n=1))
    gone = app.get(lambda session: session.invalidate() or "out", cookie)
    for line in ((response.set_cookie or "").lower(), (gone.set_cookie or "").lower()):
        for flag in ("path=/shop", "secure", "samesite=strict"):
            assert flag in line
        assert ("httponly" in line) or (app.is_django and "max-age=0" in line)
        assert ("partitioned" in line) is not app.is_django
    assert gone.cookie == "" and "Max-Age=0" in (gone.set_cookie or "")


# --- data ------------------------------------------------------------------------------------------------------------


def test_requests_see_what_earlier_ones_wrote(app: App) -> None:
    """S06: nested changes too, without any flag; deleted attributes are gone."""
    _, cookie = browse(app, setting(cart={"items": [1]}, old=1))

    def change(session: Any) -> str:
        session["cart"]["items"].append(2)
        del session["old"]
        return "changed"

    app.get(change, cookie)
    assert app.get(shown, cookie).body == "{'cart': {'items': [1, 2]}}"


def test_counters_are_exact(app: App) -> None:
    """S03: ``transact`` is there under every adapter."""
    _, cookie = browse(app, setting(n=0))

    def count(session: Any) -> str:
        assert session["n"] >= 0
        return str(session.transact(lambda s: s.update(n=s["n"] + 1) or s["n"]))

    assert [app.get(count, cookie).body for _ in range(3)] == ["1", "2", "3"]


def test_what_cannot_be_stored_is_refused_at_assignment(app: App) -> None:
    """S19: the error names the attribute; what else the request wrote is committed."""
    _, cookie = browse(app, setting(n=1))

    def assign(session: Any) -> str:
        session["n"] = 2
        with pytest.raises(ValueNotSupported, match="widget"):
            session["widget"] = object()
        return "refused"

    assert app.get(assign, cookie).body == "refused"
    assert app.get(shown, cookie).body == "{'n': 2}"


def test_what_a_change_in_place_makes_unstorable_is_an_error(app: App, caplog: pytest.LogCaptureFixture) -> None:
    """S19: it names the attribute; what else the request changed is committed, and the next one goes on."""
    _, cookie = browse(app, setting(n=1, cart=["tea"]))

    def change(session: Any) -> str:
        session["n"] = 2
        session["cart"].append(object())
        return "changed"

    assert any(
        "cart" in str(error) for error in failing(app, change, cookie, caplog) if type(error) is ValueNotSupported
    )
    assert app.get(shown, cookie).body == "{'n': 2, 'cart': ['tea']}"


def test_a_view_that_raises_keeps_what_it_changed_before(app: App) -> None:
    """S13: committed, the same in every adapter but Django's, which says so; the error takes its usual way."""
    _, cookie = browse(app, setting(n=1))

    def fail(session: Any) -> str:
        session["n"] = 2
        raise Boom

    response = app.get(fail, cookie)
    assert response.status == 500
    assert app.get(shown, cookie).body == ("{'n': 1}" if app.is_django else "{'n': 2}")


def test_the_commit_is_made_before_the_first_byte_leaves(app: App) -> None:
    """S12: at that moment any other request sees it; what a stream changes later is committed when it ends."""
    _, cookie = browse(app, setting(n=1))
    sessions = app.cluster().manager.sessions
    seen: list[dict[str, Any]] = []

    def stream(session: Any) -> Iterator[str]:
        session["n"] = 2

        def parts() -> Iterator[str]:
            yield "first"
            session["n"] = 3
            yield " second"

        return parts()

    def look() -> None:
        seen.append(dict(sessions[next(iter(sessions))]))

    response = app.get(stream, cookie, on_first_byte=look)
    assert response.body == "first second"
    assert seen == [{"n": 2}]
    assert app.get(shown, cookie).body == "{'n': 3}"


def test_a_session_that_only_a_stream_uses_is_kept(app: App) -> None:
    """S12: also when the application looks at it for the first time after the first byte."""
    _, cookie = browse(app, setting(n=1))

    def stream(session: Any) -> Iterator[str]:
        yield "first"
        session["n"] += 1
        yield " second"

    assert app.get(stream, cookie).body == "first second"
    assert app.get(shown, cookie).body == "{'n': 2}"


# --- whose session ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("forged", ["a" * 32 + ".web1", "x", "\xff" * 32, "b" * 4000, '"quoted"', "a=b"])
def test_ids_that_we_did_not_mint_are_not_adopted(app: App, forged: str) -> None:
    """S05: the session is empty and new, and a write brings another id."""
    assert app.get(shown, forged).body == "{}"
    response = app.get(setting(n=1), forged)
    assert response.cookie and response.cookie.partition(".")[0] != forged.partition(".")[0]


def test_logout_takes_the_cookie_away_and_ends_the_session(app: App) -> None:
    """S04: nobody comes back with the old cookie; what the request wrote afterwards is in a new session."""
    _, cookie = browse(app, setting(user="ada"))
    assert app.get(lambda session: session.invalidate() or "out", cookie).cookie == ""
    assert app.get(shown, cookie).body == "{}"
    _, cookie = browse(app, setting(user="ada"))

    def leave(session: Any) -> str:
        session.invalidate()
        session["flash"] = "bye"
        return "out"

    response, new = browse(app, leave, cookie)
    assert response.cookie and new != cookie
    assert app.get(shown, new).body == "{'flash': 'bye'}"


def test_a_request_whose_session_ends_while_it_runs_writes_nothing(app: App) -> None:
    """S04: it sends no cookie, so that it cannot overwrite that of the next login."""
    _, cookie = browse(app, setting(user="ada"))

    def slow(session: Any) -> str:
        assert session["user"] == "ada"
        meanwhile(app, lambda s: s.invalidate() or "out", cookie)
        session["user"] = "ghost"
        return "slow"

    response = app.get(slow, cookie)
    assert response.set_cookie is None
    assert response.body == "slow" if not app.is_django else response.status == 400
    assert app.get(shown, cookie).body == "{}"


def test_a_login_changes_the_id_and_the_old_one_opens_nothing(app: App) -> None:
    """S11: the data stays with who logged in."""
    _, fixed = browse(app, setting(cart=[1]))
    _, cookie = browse(app, lambda session: session.rotate(principal="ada") or "in", fixed)
    assert cookie != fixed
    assert app.get(lambda session: f"{session.principal} {session['cart']}", cookie).body == "ada [1]"
    assert app.get(shown, fixed).body == "{}"


# --- when it cannot be -----------------------------------------------------------------------------------------------


class Answering:
    """An agent whose answers a test changes."""

    def __init__(self) -> None:
        self.fetch = FetchAnswer(FetchOutcome.UNAVAILABLE)
        self.commit = CommitAnswer(Outcome.COMMITTED, True, "web1", 1, 1)

    def __call__(self, line: Line, message: WorkerMessage) -> None:
        if isinstance(message, FetchRequest):
            line.reply(Reply(message.request, answer=self.fetch))
        elif isinstance(message, CommitRequest):
            line.reply(Reply(message.request, commit=self.commit))


@pytest.fixture
def agent(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Answering]:
    monkeypatch.setenv("UNDERSTUDY_LISTEN", "127.0.0.1:7400")
    monkeypatch.setenv("UNDERSTUDY_SECRET", "a secret of the tests, long enough")
    monkeypatch.setenv("UNDERSTUDY_AUTOSTART", "false")
    directory.mkdir(mode=0o700)
    answers = Answering()
    with ScriptedAgent(directory / "agent.sock", answers):
        yield answers


def test_while_a_session_cannot_be_reached_the_answer_is_503(app: App, agent: Answering) -> None:
    """S31: with Retry-After, and the cookie is left alone."""
    _, cookie = browse(app, setting(n=1))
    assert cookie.endswith(".web1")
    response = app.get(shown, cookie)
    assert (response.status, response.header("Retry-After"), response.set_cookie) == (503, "1", None)
    assert app.get(lambda session: "hello", cookie).status == 200, "a page without the session needs none"


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.STORE_FULL])
def test_what_cannot_be_committed_is_not_said(app: App, agent: Answering, outcome: Outcome) -> None:
    """S31, S50: 503 takes the place of the response whose change was not committed."""
    agent.commit = CommitAnswer(outcome)
    response = app.get(setting(n=1))
    assert (response.status, response.header("Retry-After"), response.set_cookie) == (503, "1", None)
    assert "set" not in response.body
    assert "again in a moment" in response.body


def test_the_header_for_tests_tells_what_was_protected(make: Callable[..., App], agent: Answering) -> None:
    """Only on responses that committed, and as the commit's answer said."""
    app = make(protected_header=True)
    for protected in (True, False):
        agent.commit = CommitAnswer(Outcome.COMMITTED, protected, "web1", 1, 1)
        assert app.get(setting(n=1)).header("X-Understudy-Protected") == str(int(protected))
    assert app.get(lambda session: "hello").header("X-Understudy-Protected") is None
    assert make().get(setting(n=1)).header("X-Understudy-Protected") is None


# --- starting --------------------------------------------------------------------------------------------------------


def is_the_frameworks(thread: threading.Thread) -> bool:
    """It runs what a framework has taken out of its event loop."""
    return "(join)" in thread.name or "AnyIO" in thread.name


def test_nothing_starts_before_the_first_request(
    make: Callable[..., App], directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S48: importing and configuring an application makes no file, no thread, and reads no configuration."""
    monkeypatch.setenv("UNDERSTUDY_IDLE_TIMEOUT", "nonsense")
    before = set(threading.enumerate())  # one that another test has left may end meanwhile
    app = make()
    assert not directory.exists() and set(threading.enumerate()) <= before
    monkeypatch.setenv("UNDERSTUDY_IDLE_TIMEOUT", "5m")
    assert app.get(setting(n=1)).status == 200
    started = set(threading.enumerate()) - before
    assert directory.exists() and not [thread for thread in started if not is_the_frameworks(thread)]


def test_what_the_agent_must_know_is_no_keyword(make: Callable[..., App]) -> None:
    """The error says where it is set instead."""
    try:
        status = make(copies=2).get(setting(n=1)).status
    except ConfigurationError as error:
        assert "UNDERSTUDY_COPIES" in str(error)
    else:
        assert status == 500  # Flask answers for its application


def test_two_applications_of_a_process_share_one_member(make: Callable[..., App]) -> None:
    """With one name they share their sessions; with two, a cookie of one opens nothing in the other."""
    first, second, other = make(), make(), make(application="admin")
    _, cookie = browse(first, setting(n=1))
    assert second.get(shown, cookie).body == "{'n': 1}"
    assert other.get(shown, cookie).body == "{}"
