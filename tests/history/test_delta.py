"""DeltaManager in the cluster of one thread: all read in place, and never anything older than was acknowledged."""

from __future__ import annotations

import pytest
from tests.history.broken_promises import an_end_is_told_before_all_know_of_it
from tests.history.test_scenarios import Cluster

from understudy.model.commit import Commit, Outcome
from understudy.model.entry import Role
from understudy.protocol import messages as m
from understudy.protocol.readers import Readers
from understudy.sim.history import run
from understudy.sim.plan import draw


def delta(names: str = "abc") -> Cluster:
    return Cluster(names, everywhere=True)


def in_place(a: Cluster) -> dict[str, bytes | None]:
    """What each machine's workers may show without asking."""
    return {name: a.read_in_place(name) for name in a.world.machines if a[name].is_up}


def test_reading_asks_nobody_anywhere() -> None:
    """S07: a copy on each machine, and each shows it in place, for as long as nothing happens."""
    a = delta("abcd")
    assert a.write("b", b"1").protected
    a.wait(200)
    assert {role: len(names) for role, names in a.roles().items() if names} == {Role.PRIMARY: 1, Role.BACKUP: 3}
    for _ in range(20):
        assert set(in_place(a).values()) == {b"1"}
        a.wait(100)


def test_after_the_answer_nobody_shows_the_value_before() -> None:
    """S12: at no instant after a write was acknowledged does any machine show the old value in place; soon all show the
    new one."""
    a = delta()
    a.write("a", b"0")
    a.wait(200)
    for n in range(1, 6):
        value = b"%d" % n
        assert a.write("abc"[n % 3], value).protected
        assert set(in_place(a).values()) <= {value, None}
        a.wait(100)
        assert set(in_place(a).values()) == {value}


def test_a_paused_reader_shows_nothing_stale() -> None:
    """S25: it stood still for ten seconds while others wrote: its copy is not shown until it has caught up, and then
    the new one is, in place again."""
    a = delta()
    a.write("a", b"1")
    a.wait(200)
    a["c"].pause()
    began_ms = a.now_ms
    assert a.write("b", b"2").protected
    assert a.now_ms - began_ms < 400, "a silent reader is waited for as long as its lease runs"
    a.wait(10_000)
    a["c"].resume()
    assert a.read_in_place("c") != b"1"
    assert a.read("c") == b"2"
    a.wait(5_000)
    assert set(in_place(a).values()) == {b"2"}


def test_a_reader_that_is_cut_off_shows_nothing_in_place_when_its_lease_is_over() -> None:
    """S25, S31: from its primary and the other: what they acknowledge waits for it no longer than that."""
    a = delta()
    a.write("a", b"1")
    a.wait(200)
    far = next(name for name in "abc" if name != a.primary())
    near = next(name for name in "abc" if name not in (far, a.primary()))
    for other in a.others(far):
        a.world.network.cut(far, other)
    assert a.write(near, b"2").protected
    assert a.read_in_place(far) is None
    for other in a.others(far):
        a.world.network.heal(far, other)
    a.wait(10_000)
    assert set(in_place(a).values()) == {b"2"}


def test_the_primary_dies_and_all_others_go_on_reading() -> None:
    """S22: the next change waits until leases that it may have given in its last moment are over; then all read in
    place again, and a machine that comes back without its store does when it has everything."""
    a = delta("abcd")
    a.write("a", b"1")
    died = a.primary()
    a[died].crash(with_store=False)
    for name in a.others(died):
        assert a.read(name) == b"1"
    assert a.write(a.others(died)[0], b"2").protected
    a.wait(6_000)
    assert set(in_place(a).values()) == {b"2"}
    a[died].start()
    assert a.read_in_place(died) is None
    a.wait(8_000)
    assert in_place(a) == dict.fromkeys("abcd", b"2")


def test_who_writes_beside_a_logout_is_told_of_it_when_nobody_shows_the_session_any_more() -> None:
    """S04, S12: the end is stored at once, and one of the readers hears of it late. A write that meets the tombstone
    meanwhile is answered when that one shows nothing in place any more either."""
    a = delta()
    a.write("a", b"1")
    a.wait(200)
    a["c"].turn_ms = 60
    answers: dict[str, m.FetchAnswer | m.CommitAnswer | None] = {}

    def ask(what: str, commit: Commit) -> None:
        request = m.CommitRequest(0, a.key, commit, m.AcknowledgeMode.BACKUP)
        a["a"].ask(request, lambda answer: answers.update({what: answer}))

    ask("logout", Commit(b"a logout", a.secret, ends=True))
    a.wait(2)
    ask("write", Commit(b"a write.", a.secret, {"x": b"later"}))
    shown_first = a.read_in_place("c")
    while "write" not in answers:
        a.wait(1)
    answer = answers["write"]
    assert shown_first == b"1" and answer is not None and answer.outcome is Outcome.ENDED
    assert a.read_in_place("c") is None


def test_that_is_seen_when_an_end_is_told_before_all_know_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scenario can fail."""
    an_end_is_told_before_all_know_of_it(monkeypatch)
    with pytest.raises(AssertionError):
        test_who_writes_beside_a_logout_is_told_of_it_when_nobody_shows_the_session_any_more()


@pytest.mark.parametrize("profile", ["delta", "rendezvous"])
def test_random_histories_find_nothing(profile: str) -> None:
    """S02, S03, S12, S14, S15, S22, S25, S26, S27, S33, S34: the same users and faults as under BackupManager."""
    for seed in range(3):
        report = run(draw(seed, profile))
        assert not report.problems, f"seed {seed}: {report.problems[:3]}"
        assert report.protected_writes > 200


def test_a_primary_that_waits_for_no_reader_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkers see it when a change is acknowledged before all readers have it."""
    monkeypatch.setattr(Readers, "awaited", lambda self, key, names: [])
    assert any(run(draw(seed, "delta")).problems for seed in range(4))
