"""What every adapter claims about requests that run at the same time, and about a session's end by time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from tests.conformance.app import App, browse, meanwhile, setting, shown

from understudy.model.commit import Outcome
from understudy.model.entry import Entry
from understudy.store import Store

MINUTE_MS = 60_000


def only_key(app: App) -> bytes:
    """The key of the one session that there is."""
    (key,) = app.cluster().manager.sessions
    return bytes.fromhex(key)


def store_of(app: App) -> Store:
    return app.cluster().runtime.client().member.store


def made_older(app: App, *, created_ms: int = 0, accessed_ms: int = 0) -> None:
    """The session began, or was used last, so much earlier."""
    store, key = store_of(app), only_key(app)

    def change(entry: Entry | None) -> tuple[Outcome, Entry | None]:
        assert entry is not None
        times = msgspec.structs.replace(
            entry.times,
            created_ms=entry.times.created_ms - created_ms,
            accessed_ms=entry.times.accessed_ms - accessed_ms,
        )
        return Outcome.COMMITTED, msgspec.structs.replace(entry, times=times)

    with store.write() as transaction:
        transaction.change(key, change)


# --- at the same time ------------------------------------------------------------------------------------------------


def test_a_slow_reader_undoes_nothing(app: App) -> None:
    """S01: also when it has had a list in its hands that another request changed meanwhile."""
    _, cookie = browse(app, setting(n=1, cart=["tea"]))

    def slow(session: Any) -> str:
        before = (session["n"], list(session["cart"]))
        meanwhile(app, setting(n=2, cart=["tea", "milk"]), cookie)
        return repr(before)

    assert app.get(slow, cookie).body == "(1, ['tea'])"
    assert app.get(shown, cookie).body == "{'n': 2, 'cart': ['tea', 'milk']}"


def test_two_writers_of_different_attributes_keep_both(app: App) -> None:
    """S02, S10: whichever of them ends first."""
    _, cookie = browse(app, setting(n=1))

    def slow(session: Any) -> str:
        session["slow"] = 1
        meanwhile(app, setting(quick=2), cookie)
        return "slow"

    app.get(slow, cookie)
    assert app.get(lambda session: repr(sorted(session.items())), cookie).body == repr(
        [("n", 1), ("quick", 2), ("slow", 1)]
    )


def test_two_increments_at_once_add_two(app: App) -> None:
    """S03: the one that came second is run again on what the first one wrote."""
    _, cookie = browse(app, setting(n=0))
    runs: list[int] = []

    def add(session: Any) -> int:
        n = int(session["n"])
        if not runs:
            runs.append(n)
            meanwhile(app, lambda other: str(other.transact(plain)), cookie)
        session["n"] = n + 1
        return n + 1

    def plain(session: Any) -> int:
        session["n"] += 1
        return int(session["n"])

    assert app.get(lambda session: str(session.transact(add)), cookie).body == "2"
    assert app.get(shown, cookie).body == "{'n': 2}"
    assert runs == [0], "the two did not meet"


def test_logout_wins_over_a_slow_reader(app: App) -> None:
    """S04: it sends no cookie and leaves no session behind; the next login's cookie is the browser's only one."""
    _, cookie = browse(app, setting(user="ada"))

    def slow(session: Any) -> str:
        user = session["user"]
        meanwhile(app, lambda other: other.invalidate() or "out", cookie)
        return str(user)

    response = app.get(slow, cookie)
    assert (response.body, response.set_cookie) == ("ada", None)
    assert app.get(shown, cookie).body == "{}"
    assert list(app.cluster().manager.sessions) == []


def test_a_renewed_id_takes_nothing_from_a_request_under_way(app: App) -> None:
    """S11: one session, both changes, and the slow request does not bring the old cookie back."""
    _, cookie = browse(app, setting(n=1))
    renewed: list[str] = []

    def slow(session: Any) -> str:
        session["slow"] = 1
        renewed.append(meanwhile(app, lambda other: other.rotate() or "new", cookie).cookie or "")
        return "slow"

    response = app.get(slow, cookie)
    assert renewed[0] not in ("", cookie)
    assert response.cookie in (None, renewed[0])
    assert app.get(shown, renewed[0]).body == "{'n': 1, 'slow': 1}"
    assert app.get(shown, cookie).body == "{'n': 1, 'slow': 1}", "the old id opens it for its grace time"


# --- nothing to do ---------------------------------------------------------------------------------------------------


def test_a_request_that_changed_nothing_writes_nothing(app: App) -> None:
    """S06, S07: though it had a list in its hands, and though it set an attribute to what it was."""
    _, cookie = browse(app, setting(n=1, cart=[1, [2]]))
    before = store_of(app).read(only_key(app)).entry

    def idle(session: Any) -> str:
        session["n"] = 1
        session["cart"] = [1, [2]]
        return repr(session["cart"][1])

    response = app.get(idle, cookie)
    assert (response.body, response.cookie) == ("[2]", cookie if app.is_django else None)
    assert store_of(app).read(only_key(app)).entry == before


# --- time ------------------------------------------------------------------------------------------------------------


def test_a_session_ends_when_it_was_not_used(make: Callable[..., App]) -> None:
    """S44: after the idle timeout that the adapter was given, and not before; each use puts it off."""
    app = make(idle_timeout="10m")
    _, cookie = browse(app, setting(n=1))
    for _ in range(2):
        made_older(app, accessed_ms=9 * MINUTE_MS)
        assert app.get(shown, cookie).body == "{'n': 1}"
    made_older(app, accessed_ms=11 * MINUTE_MS)
    assert app.get(shown, cookie).body == "{}"
    assert app.get(setting(n=2), cookie).cookie not in (None, "", cookie), "what is written now is another session"


def test_a_session_ends_at_its_absolute_timeout(make: Callable[..., App]) -> None:
    """S46: however active it is."""
    app = make(idle_timeout="10m", absolute_timeout="1h")
    _, cookie = browse(app, setting(n=1))
    made_older(app, created_ms=59 * MINUTE_MS)
    assert app.get(shown, cookie).body == "{'n': 1}"
    made_older(app, created_ms=2 * MINUTE_MS)
    assert app.get(shown, cookie).body == "{}"


@pytest.mark.parametrize("other", ["", "x" * 32 + ".web1"])
def test_a_first_write_beside_another_begins_its_own_session(app: App, other: str) -> None:
    """S05: two browsers without a session never share one."""
    first, second = app.get(setting(n=1), other).cookie, app.get(setting(n=2), other).cookie
    assert first and second and first != second
    assert (app.get(shown, first).body, app.get(shown, second).body) == ("{'n': 1}", "{'n': 2}")
