"""What every adapter claims when the requests of one session are served by different members of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.conformance.app import App, Boom, browse, meanwhile, setting, shown

from understudy.testing import MemoryCluster

MEMBERS = ("a", "b", "c")
MANY = tuple(f"m{number}" for number in range(20))


@pytest.fixture
def cluster() -> Iterator[MemoryCluster]:
    with MemoryCluster(MEMBERS) as cluster:
        yield cluster


@pytest.fixture
def cookie(cluster: MemoryCluster, app: App) -> str:
    """Of a session that began at a, with ``n`` in it; every member knows of it."""
    with cluster.at("a"):
        _, cookie = browse(app, setting(n=1))
    cluster.settle()
    return cookie


def seen(cluster: MemoryCluster, app: App, cookie: str) -> list[dict[str, Any]]:
    """What a request finds at each member."""
    found: list[dict[str, Any]] = []

    def view(session: Any) -> str:
        found.append(dict(session.items()))
        return "seen"

    for member in cluster.living:
        with cluster.at(member):
            assert app.get(view, cookie).status == 200
    return found


def role(cluster: MemoryCluster, app: App, cookie: str, member: str) -> str:
    """What this member is for the session."""
    with cluster.at(member):
        return app.get(lambda session: str(session.role), cookie).body


# --- requests that overlap -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("slow_at", "quick_at"), [("a", "b"), ("b", "a"), ("b", "c")])
def test_a_slow_reader_at_another_member_undoes_nothing(
    cluster: MemoryCluster, app: App, cookie: str, slow_at: str, quick_at: str
) -> None:
    """S01: whichever of the two members is the session's primary, and if neither is."""

    def slow(session: Any) -> str:
        before = session["n"]
        meanwhile(app, setting(n=2), cookie, at=cluster.at(quick_at))
        return str(before)

    with cluster.at(slow_at):
        assert app.get(slow, cookie).body == "1"
    assert seen(cluster, app, cookie) == [{"n": 2}] * 3


@pytest.mark.parametrize(("slow_at", "quick_at"), [("a", "b"), ("b", "a"), ("b", "c")])
def test_two_members_write_different_attributes(
    cluster: MemoryCluster, app: App, cookie: str, slow_at: str, quick_at: str
) -> None:
    """S02, S10: a long request and a short one that begins and ends within it: both changes are there."""

    def slow(session: Any) -> str:
        session["slow"] = 1
        meanwhile(app, setting(quick=2), cookie, at=cluster.at(quick_at))
        return "slow"

    with cluster.at(slow_at):
        app.get(slow, cookie)
    assert seen(cluster, app, cookie) == [{"n": 1, "slow": 1, "quick": 2}] * 3


def test_increments_at_three_members_are_all_counted(cluster: MemoryCluster, app: App, cookie: str) -> None:
    """S03: each of them meets one at another member, and is run again on what that one wrote."""
    runs: list[int] = []

    def counting(inner: Callable[[], object]) -> Callable[[Any], str]:
        """A view that adds one; while its function runs for the first time, ``inner`` happens."""
        tries: list[int] = []

        def add(session: Any) -> None:
            n = session["n"]
            tries.append(n)
            if len(tries) == 1:
                inner()
            session["n"] = n + 1

        def view(session: Any) -> str:
            session.transact(add)
            runs.append(len(tries))
            return "added"

        return view

    innermost = counting(lambda: None)
    middle = counting(lambda: meanwhile(app, innermost, cookie, at=cluster.at("c")))
    with cluster.at("a"):
        app.get(counting(lambda: meanwhile(app, middle, cookie, at=cluster.at("b"))), cookie)
    assert seen(cluster, app, cookie) == [{"n": 4}] * 3
    assert runs == [1, 2, 2], "they did not meet"


@pytest.mark.parametrize("writes", [False, True], ids=["reader", "writer"])
@pytest.mark.parametrize("slow_at", MEMBERS)
def test_logout_at_one_member_wins_over_a_slow_request_at_another(
    cluster: MemoryCluster, app: App, cookie: str, slow_at: str, writes: bool
) -> None:
    """S04: the session comes back nowhere, and the late answer has no cookie that could take the next login's place."""
    logins: list[str] = []

    def slow(session: Any) -> str:
        assert session["n"] == 1
        meanwhile(app, lambda other: other.invalidate() or "out", cookie, at=cluster.at("b"))
        logins.append(meanwhile(app, setting(user="ada"), "", at=cluster.at("c")).cookie or "")
        if writes:
            session["late"] = 1
        return "slow"

    with cluster.at(slow_at):
        response = app.get(slow, cookie)
    assert response.set_cookie is None
    assert response.status == (400 if writes and app.is_django else 200)
    assert seen(cluster, app, cookie) == [{}] * 3
    assert seen(cluster, app, logins[0]) == [{"user": "ada"}] * 3


@pytest.mark.parametrize("rotated_at", ["a", "b"])
def test_a_new_id_from_one_member_and_a_slow_request_at_another(
    cluster: MemoryCluster, app: App, cookie: str, rotated_at: str
) -> None:
    """S11: one session with both changes; the late answer does not bring the old cookie back."""
    renewed: list[str] = []

    def slow(session: Any) -> str:
        session["slow"] = 1
        rotation = meanwhile(app, lambda other: other.rotate() or "new", cookie, at=cluster.at(rotated_at))
        renewed.append(rotation.cookie or "")
        return "slow"

    with cluster.at("c"):
        response = app.get(slow, cookie)
    assert renewed[0].partition(".")[0] not in ("", cookie.partition(".")[0])
    assert response.cookie is None or response.cookie.partition(".")[0] == renewed[0].partition(".")[0]
    assert seen(cluster, app, renewed[0]) == [{"n": 1, "slow": 1}] * 3


def test_a_login_at_one_member_closes_the_old_id_at_all(cluster: MemoryCluster, app: App, cookie: str) -> None:
    """S11, S05: who has planted the id has nothing from it, wherever he asks; a login whose answer was lost can be
    repeated at another member.
    """
    logged_in: list[str] = []
    for member in ("b", "c"):
        with cluster.at(member):
            _, after = browse(app, lambda session: session.rotate(principal="ada") or "in", cookie)
        assert after.partition(".")[0] not in ("", cookie.partition(".")[0])
        logged_in.append(after)
    assert seen(cluster, app, cookie) == [{}] * 3
    with cluster.at("a"):
        assert app.get(lambda session: str(session.principal), logged_in[1]).body == "ada"


# --- wherever the next request goes ----------------------------------------------------------------------------------


def test_an_answer_is_seen_at_every_member(cluster: MemoryCluster, app: App, cookie: str) -> None:
    """S12: the very next request finds what was changed, also deep inside a list and after the first byte (S06)."""
    for number, (member, next_member) in enumerate([("a", "b"), ("b", "c"), ("c", "a")]):

        def change(session: Any, number: int = number) -> Iterator[str]:
            session.setdefault("list", []).append(number)

            def parts() -> Iterator[str]:
                yield "first"
                session["late"] = number
                yield "second"

            return parts()

        with cluster.at(member):
            assert app.get(change, cookie).status == 200
        with cluster.at(next_member):
            body = app.get(lambda session: f"{session['list']} {session['late']}", cookie).body
        assert body == f"{list(range(number + 1))} {number}"


def test_what_a_view_changed_before_it_raised_is_there_at_every_member(
    cluster: MemoryCluster, app: App, cookie: str
) -> None:
    """S13: as it is at one; Django saves nothing with an answer of 500."""

    def fail(session: Any) -> str:
        session["n"] = 2
        raise Boom

    with cluster.at("b"):
        assert app.get(fail, cookie).status == 500
    assert seen(cluster, app, cookie) == [{"n": 1} if app.is_django else {"n": 2}] * 3


def test_reading_sends_no_message(cluster: MemoryCluster, app: App, cookie: str) -> None:
    """S07: a request at the primary that only reads, or that changes nothing, asks nobody."""
    before, now_ms = cluster.messages, cluster.now_ms
    with cluster.at("a"):
        for view in (shown, setting(n=1), lambda session: "not used"):
            assert app.get(view, cookie).status == 200
    assert (cluster.messages, cluster.now_ms) == (before, now_ms)


def test_a_session_moves_with_the_second_request_in_a_row(cluster: MemoryCluster, app: App, cookie: str) -> None:
    """S28: not with the first, as it would if an adapter asked twice for one request."""

    def change(session: Any) -> str:
        session["n"] += 1
        return "changed"

    roles: list[str] = []
    for requests in (1, 2):
        with cluster.at("b"):
            for _ in range(requests):
                assert app.get(change, cookie).status == 200
        cluster.advance(seconds=1)
        roles.append(role(cluster, app, cookie, "a"))  # which ends the row
    assert roles == ["primary", "backup"]


def test_two_first_requests_at_a_member_see_one_session(cluster: MemoryCluster, app: App, cookie: str) -> None:
    """S08: at one that holds nothing of it: both find what is there, and both changes are kept."""
    (proxy,) = [name for name in MEMBERS if role(cluster, app, cookie, name) == "proxy"]
    found: list[Any] = []

    def first(session: Any) -> str:
        found.append(session["n"])
        meanwhile(app, second, cookie, at=cluster.at(proxy))
        session["first"] = 1
        return "first"

    def second(session: Any) -> str:
        found.append(session["n"])
        session["second"] = 2
        return "second"

    with cluster.at(proxy):
        app.get(first, cookie)
    assert found == [1, 1]
    assert seen(cluster, app, cookie) == [{"n": 1, "first": 1, "second": 2}] * 3
    assert [role(cluster, app, cookie, name) for name in MEMBERS].count("primary") == 1


def test_twenty_members_at_once(app: App) -> None:
    """S09: each has a request of the session under way while the next one begins; afterwards there is one primary, and
    what each of them wrote is there.
    """
    with MemoryCluster(MANY) as cluster:
        with cluster.at(MANY[0]):
            _, cookie = browse(app, setting(n=1))

        def asking(left: tuple[str, ...]) -> Callable[[Any], str]:
            def view(session: Any) -> str:
                session[left[0]] = session["n"]
                if left[1:]:
                    meanwhile(app, asking(left[1:]), cookie, at=cluster.at(left[1]))
                return "asked"

            return view

        with cluster.at(MANY[0]):
            app.get(asking(MANY), cookie)
        cluster.settle()
        for found in seen(cluster, app, cookie):
            assert found == {"n": 1, **dict.fromkeys(MANY, 1)}
        assert [role(cluster, app, cookie, name) for name in MANY].count("primary") == 1


def test_an_id_that_nobody_knows_is_not_adopted(app: App) -> None:
    """S05: though its form is right and it was minted with the cluster's own secret."""
    with MemoryCluster(2, seed=1) as gone, gone.at("a"):
        _, cookie = browse(app, setting(n=1))
    with MemoryCluster(2, seed=1) as cluster:
        assert seen(cluster, app, cookie) == [{}] * 2
        with cluster.at("b"):
            response = app.get(setting(n=2), cookie)
        assert response.cookie and response.cookie.partition(".")[0] != cookie.partition(".")[0]


# --- what time and losses do -----------------------------------------------------------------------------------------


def test_idle_time_is_neither_shortened_nor_renewed_by_a_loss(cluster: MemoryCluster, make: Callable[..., App]) -> None:
    """S44, S45: the session's use is known to who takes it over, and so is the time that nobody used it."""
    app = make(idle_timeout="20s")
    with cluster.at("a"):
        _, cookie = browse(app, setting(n=1))
        cluster.advance(seconds=12)
        assert app.get(shown, cookie).body == "{'n': 1}"
    cluster.advance(seconds=2)
    cluster.kill("a")
    cluster.advance(seconds=10)
    with cluster.at("b"):
        assert app.get(shown, cookie).body == "{'n': 1}", "24 s after it began, 12 s after it was used"
    cluster.advance(seconds=22)
    for member in ("b", "c"):
        with cluster.at(member):
            assert app.get(shown, cookie).body == "{}"


def test_the_absolute_timeout_holds_after_a_loss(cluster: MemoryCluster, make: Callable[..., App]) -> None:
    """S46: however active the session is, and whoever holds it."""
    app = make(idle_timeout="30s", absolute_timeout="30s")
    with cluster.at("a"):
        _, cookie = browse(app, setting(n=1))
    cluster.settle()
    cluster.kill("a")
    for _ in range(2):
        cluster.advance(seconds=12)
        with cluster.at("b"):
            assert app.get(shown, cookie).body == "{'n': 1}"
    cluster.advance(seconds=12)
    with cluster.at("b"):
        assert app.get(shown, cookie).body == "{}"


def test_what_reaches_no_second_machine_is_said(cluster: MemoryCluster, make: Callable[..., App]) -> None:
    """S12: ``protected`` is false then; with ``unprotected = "refuse"`` the answer is a 503, and the cookie is left."""
    app = make(protected_header=True)
    careful = make(protected_header=True, unprotected="refuse")
    with cluster.at("a"):
        response, cookie = browse(app, setting(n=1))
        assert response.header("X-Understudy-Protected") == "1"
        cluster.partition("a", "bc")
        cluster.advance(seconds=10)
        response = app.get(setting(n=2), cookie)
        assert (response.status, response.header("X-Understudy-Protected")) == (200, "0")
        response = careful.get(setting(n=3), cookie)
        assert (response.status, response.header("Retry-After"), response.set_cookie) == (503, "1", None)
        assert "set" not in response.body
    cluster.heal()
    cluster.settle()
    assert seen(cluster, app, cookie) == [{"n": 2}] * 3
