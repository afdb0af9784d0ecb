"""Several requests for one session, with real workers and members, all of which live."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.patience import LONG_LEASES
from tests.system.cluster import Cluster, Slow, Visitor, sessions_cluster

from understudy.model.ids import Keys
from understudy.store.lmdb import LmdbStore

NAMES = ("a", "b", "c")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Sessions stay where they begin: that they move to who serves them is shown elsewhere."""
    with sessions_cluster(NAMES, UNDERSTUDY_MOVE_AFTER="0", **LONG_LEASES) as cluster:
        cluster.start()
        cluster.wait_ready()
        yield cluster


@pytest.fixture
def visitor(cluster: Cluster) -> Visitor:
    """Logged in; the session's primary is a."""
    visitor = Visitor(cluster)
    visitor.protected("a", "/login", name="anna")
    return visitor


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    return tmp_path / "gate"


class Where(NamedTuple):
    """Where the short request is served, while the slow one waits on member a."""

    member: str
    same_worker: bool | None
    """None: on another member."""


WHERE = pytest.mark.parametrize(
    "where",
    [Where("a", True), Where("a", False), Where("b", None), Where("c", None)],
    ids=["same worker", "other worker", "member b", "member c"],
)


def short(visitor: Visitor, where: Where, slow: Slow, path: str, **form: str) -> Any:
    """A request beside the slow one, from the same browser, in the worker or on the member that is wanted."""
    tab = visitor.tab()
    if where.same_worker is None:
        return tab.post(where.member, path, **form)
    connection = tab.connection_to(where.member, lambda pid: (pid == slow.pid) == where.same_worker)
    try:
        return tab.post(where.member, path, connection, **form)
    finally:
        connection.close()


@WHERE
def test_a_slow_reader_undoes_nothing(visitor: Visitor, where: Where, gate: Path) -> None:
    """S01: a slow request that only reads does not undo what another request wrote meanwhile, and sets no cookie."""
    visitor.protected("a", "/set", name="x", value="old")
    slow = Slow(visitor, "a", "/read", gate)
    short(visitor, where, slow, "/set", name="x", value="new")
    answer = slow.finish()
    assert answer.status == 200 and slow.visitor.browser.set_cookies == 0
    for member in NAMES:
        assert visitor.values(member) == {"user": "anna", "x": "new"}


@WHERE
def test_two_writers_of_different_attributes_both_survive(visitor: Visitor, where: Where, gate: Path) -> None:
    """S02: two concurrent requests that write different attributes both survive; so does what is in neither."""
    visitor.protected("a", "/set", name="kept", value="as it was")
    slow = Slow(visitor, "a", "/set", gate, name="slow", value="1")
    short(visitor, where, slow, "/set", name="short", value="2")
    assert slow.finish().status == 200
    for member in NAMES:
        assert visitor.values(member) == {"user": "anna", "kept": "as it was", "slow": "1", "short": "2"}


@pytest.mark.parametrize(("slow_at", "short_at"), [("a", "b"), ("b", "a"), ("b", "c")])
@pytest.mark.parametrize("slow_ends_first", [False, True])
def test_a_long_and_a_short_request_on_two_members(
    visitor: Visitor, gate: Path, slow_at: str, short_at: str, slow_ends_first: bool
) -> None:
    """S10: a long request on one member and another one on a second: both changes survive, whichever ends first."""
    slow = Slow(visitor, slow_at, "/set", gate.with_name("slow"), name="slow", value="1")
    other = Slow(visitor, short_at, "/append", gate.with_name("other"), name="other", value="2")
    for request in (slow, other) if slow_ends_first else (other, slow):
        assert request.finish().status == 200
    for member in NAMES:
        assert visitor.values(member) == {"user": "anna", "slow": "1", "other": {"deep": {"list": ["2"]}}}


@pytest.mark.parametrize("writes", ["/set", "/append", "/read"])
@pytest.mark.parametrize("slow_at", NAMES)
def test_logout_is_final(cluster: Cluster, visitor: Visitor, gate: Path, slow_at: str, writes: str) -> None:
    """S04: a slow reader or writer that began before a logout brings the session back nowhere, and sets no cookie
    over that of the next login.
    """
    slow = Slow(visitor, slow_at, writes, gate, name="late", value="1")
    old_cookie = visitor.cookie
    visitor.post("a", "/logout")
    visitor.post("a", "/login", name="berta")
    slow.finish()
    assert slow.visitor.browser.set_cookies == 0
    for member in NAMES:
        assert Visitor(cluster, old_cookie).values(member) == {}, f"the old session is back on {member}"
        assert visitor.values(member) == {"user": "berta"}


def test_an_id_of_the_client_is_never_adopted(cluster: Cluster) -> None:
    """S05: a forged, a foreign and an unknown but valid id give a new session with a new id."""
    foreign = Keys.from_secrets([b"a secret of another cluster"]).mint(bytes(range(16))).text
    unknown = Keys.from_secrets([cluster.secret.encode()]).mint(bytes(range(16))).text
    for given in ("chosen", "a" * 32, foreign, unknown, unknown[:-1] + ("a" if unknown[-1] != "a" else "b")):
        for cookie in (given, f"{given}.a"):
            visitor = Visitor(cluster, cookie)
            assert visitor.values("b") == {}
            visitor.protected("b", "/set", name="x", value="1")
            assert visitor.cookie.split(".")[0] != given
            assert Visitor(cluster, cookie).values("a") == {}
            assert visitor.values("a") == {"x": "1"}


def test_a_change_deep_inside_is_noticed(visitor: Visitor) -> None:
    """S06: a change in a list inside a dict inside an attribute is noticed on every member, without any flag."""
    for number, member in enumerate(("a", "b", "c", "a")):
        visitor.protected(member, "/append", name="nested", value=str(number))
    for member in NAMES:
        assert visitor.values(member)["nested"] == {"deep": {"list": ["0", "1", "2", "3"]}}


def test_what_changes_nothing_writes_nothing(cluster: Cluster, visitor: Visitor) -> None:
    """S06: requests that changed nothing leave the entry on every member as it was, and set no cookie."""
    visitor.protected("a", "/append", name="nested", value="1")
    visitor.protected("a", "/set", name="x", value="same")
    cluster.wait(lambda: all(cluster.status(name)["sessions"]["outbox"] == 0 for name in NAMES), "all is acknowledged")
    for member in NAMES:
        visitor.values(member)
    cookies, before = visitor.browser.set_cookies, _entries(cluster, visitor)
    for member in NAMES:
        for _ in range(5):
            visitor.values(member)
            visitor.post(member, "/set", name="x", value="same")
    assert _entries(cluster, visitor) == before
    assert visitor.browser.set_cookies == cookies


def test_two_first_requests_see_one_session(cluster: Cluster, visitor: Visitor, gate: Path) -> None:
    """S08: two first requests at the same moment on a member that does not hold the session see one session."""
    places = visitor.places("a")
    proxy = next(name for name in NAMES if name not in (places["primary"], *places["backups"]))
    requests = [
        Slow(visitor, proxy, "/set", gate.with_name(name), name=name, value="1") for name in ("first", "second")
    ]
    answers = [request.finish() for request in requests]
    assert [answer.json["before"] for answer in answers] == [{"user": "anna"}] * 2
    for member in NAMES:
        assert visitor.values(member) == {"user": "anna", "first": "1", "second": "1"}
    assert len({visitor.places(name)["primary"] for name in NAMES}) == 1


def test_an_answer_is_seen_by_the_next_request_anywhere(visitor: Visitor) -> None:
    """S12: the answer leaves when the data is protected: the next request, on any member, sees it."""
    for number in range(30):
        member, next_member = NAMES[number % 3], NAMES[(number + 1 + number // 3) % 3]
        visitor.protected(member, "/set", name="number", value=str(number))
        assert visitor.values(next_member)["number"] == str(number)


def test_a_change_in_a_stream_is_seen_by_the_next_request(visitor: Visitor) -> None:
    """S12: also what was changed after the first byte of a streaming response is committed before its end."""
    for number, (member, next_member) in enumerate([("a", "b"), ("b", "c"), ("c", "a")]):
        answer = visitor.ask(member, "/stream", name="streamed", value=str(number))
        assert (answer.status, answer.body) == (200, b"first\nlast\n")
        assert visitor.values(next_member)["streamed"] == str(number)


def test_changes_beside_each_other_are_all_kept(cluster: Cluster, visitor: Visitor) -> None:
    """S16: a change set in the very moment in which others of the session are being sent is not lost."""
    attributes = [f"n{number}" for number in range(24)]
    failures: list[BaseException] = []

    def write(member: str, names: list[str]) -> None:
        try:
            for name in names:
                visitor.tab().protected(member, "/set", name=name, value=name)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(NAMES[at % 3], attributes[at::6])) for at in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    for member in NAMES:
        assert visitor.values(member) == {"user": "anna", **{name: name for name in attributes}}


def test_counters_are_exact(visitor: Visitor) -> None:
    """S03: concurrent increments through `transact` on three members add exactly their number."""
    threads = [
        threading.Thread(target=lambda member=member: [visitor.tab().post(member, "/count") for _ in range(5)])
        for member in NAMES * 2
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert visitor.values("a")["count"] == 5 * len(threads)


def test_one_bad_attribute_harms_no_other(visitor: Visitor) -> None:
    """S19: an attribute that cannot be encoded is named by the error, and takes no other attribute with it."""
    visitor.protected("a", "/set", name="kept", value="1")
    visitor.protected("a", "/append", name="list", value="1")
    answer = visitor.ask("a", "/mixed", value="2")
    assert answer.status == 500
    values = visitor.values("b")
    assert values["kept"] == "1" and values["list"] == {"deep": {"list": ["1"]}}


def _entries(cluster: Cluster, visitor: Visitor) -> list[object]:
    """The visitor's session as each member holds it."""
    key, held = cluster.key(visitor.cookie), list[object]()
    assert key is not None
    for name in NAMES:
        (path,) = cluster[name].directory.rglob("data.mdb")
        store = LmdbStore(path.parents[1], copies=1, forget_ms=86_400_000, member=name, read_only=True)
        with store.view() as view:
            held.append(view.get(key))
        store.close()
    assert all(held)
    return held
