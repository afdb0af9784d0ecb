"""Cut networks: what both sides do with a session meanwhile, and what has become of it afterwards."""

from __future__ import annotations

import pytest
from tests.history.test_scenarios import SETTLED_MS, Cluster

from understudy.model.commit import Commit, Creation, Outcome
from understudy.model.entry import Entry, Role
from understudy.protocol import messages as m
from understudy.protocol.commands import FactKind


def entry_at(a: Cluster, at: str) -> Entry:
    """The entry as a worker at that machine is given it."""
    answers: list[m.FetchAnswer | m.CommitAnswer | None] = []
    a[at].ask(m.FetchRequest(0, a.key), answers.append)
    while not answers:
        a.wait(1)
    answer = answers[0]
    assert isinstance(answer, m.FetchAnswer), answer
    entry = a[at].store.read(a.key).entry if answer.outcome is m.FetchOutcome.HERE else answer.entry
    assert entry is not None, f"{at} did not find the session: {answer}"
    return entry


def shown(a: Cluster, at: str, *names: str) -> list[bytes | None]:
    entry = entry_at(a, at)
    return [entry.shown(name) for name in names]


def commit_at(a: Cluster, at: str, commit: Commit) -> Outcome:
    answers: list[m.FetchAnswer | m.CommitAnswer | None] = []
    a[at].ask(m.CommitRequest(0, a.key, commit, m.AcknowledgeMode.BACKUP), answers.append)
    while not answers:
        a.wait(1)
    answer = answers[0]
    assert isinstance(answer, m.CommitAnswer)
    return answer.outcome


def set_at(a: Cluster, at: str, **values: bytes) -> Outcome:
    a.writes += 1
    return commit_at(a, at, Commit(b"%08d" % a.writes, a.secret, values))


def split(names: str, far: str, **settings: int) -> Cluster:
    """A session whose primary is a, and all members of ``far`` cut off from all others with its backup among them."""
    a = Cluster(names, **settings)
    a.write("a", b"1")
    backup = a.roles()[Role.BACKUP][0]
    assert a.primary() == "a" and backup in far, f"the backup is {backup}"
    for one in far:
        for other in a.others(*far):
            a.world.network.cut(one, other)
    return a


def healed(a: Cluster) -> None:
    """One primary, one backup that equals it, everybody shows the same."""
    a.world.network.heal_all()
    a.wait(SETTLED_MS)
    held = a.roles()
    assert len(held[Role.PRIMARY]) == len(held[Role.BACKUP]) == 1
    primary, backup = (a[held[role][0]].store.read(a.key).entry for role in (Role.PRIMARY, Role.BACKUP))
    assert primary is not None and backup is not None
    assert (primary.attributes, primary.context, primary.epoch) == (backup.attributes, backup.context, backup.epoch)


SIDES = [("ab", "b"), ("abcd", "bcd"), ("abcd", "bc")]


@pytest.mark.parametrize(("names", "far"), SIDES)
def test_both_sides_of_a_cut_serve_and_are_merged(names: str, far: str) -> None:
    """S38, S42, S43: each side goes on with the session; afterwards every attribute that only one side changed is
    there, one that both changed has both values, is reported and shows one of them, and there is one primary."""
    a = split(names, far)
    assert set_at(a, "b", theirs=b"b", both=b"b") is Outcome.COMMITTED
    assert set_at(a, "a", ours=b"a", both=b"a") is Outcome.COMMITTED
    a.wait(7_000)
    assert set_at(a, "b", late=b"b") is Outcome.COMMITTED
    assert shown(a, "a", "ours", "both", "theirs") == [b"a", b"a", None]
    assert shown(a, "b", "theirs", "both", "ours") == [b"b", b"b", None]
    healed(a)
    for name in names:
        assert shown(a, name, "ours", "theirs", "late") == [b"a", b"b", b"b"]
    assert len({shown(a, name, "both")[0] for name in names}) == 1
    assert a.world.facts[FactKind.VALUES_CONCURRENT] == 1
    set_at(a, "a", both=b"one")
    assert shown(a, names[-1], "both") == [b"one"]


@pytest.mark.parametrize(("names", "far"), SIDES)
def test_a_logout_on_one_side_of_a_cut_is_final(names: str, far: str) -> None:
    """S04, S38: the other side has gone on writing; after the heal nobody serves it, nor after the loss of anyone."""
    a = split(names, far)
    a.writes += 1
    assert set_at(a, "b", x=b"2") is Outcome.COMMITTED
    assert commit_at(a, "a", Commit(b"%08d" % a.writes, a.secret, ends=True)) is Outcome.COMMITTED
    assert set_at(a, "b", x=b"3") is Outcome.COMMITTED
    a.world.network.heal_all()
    a.wait(SETTLED_MS)
    for name in names:
        entry = a[name].store.read(a.key).entry
        assert entry is None or entry.ended, name
    assert set_at(a, "b", x=b"4") in (Outcome.ENDED, Outcome.UNKNOWN)


def test_the_smaller_side_refuses_and_serves_again_after_the_heal() -> None:
    """S39, S42: `partition = "refuse"`: the primary is alone; the two others go on without it, and what it then shows
    is theirs. During the cut it shows nothing, however long that lasts."""
    a = split("abc", "bc", members_expected=3)
    a.wait(300)  # until then a change may be stored, and its answer says that this is in doubt
    assert set_at(a, "a", ours=b"a") is Outcome.MINORITY
    assert set_at(a, "b", theirs=b"b") is Outcome.COMMITTED
    assert set_at(a, "c", late=b"c") is Outcome.COMMITTED
    for _ in range(6):
        a.wait(1_000)
        assert a.read_in_place("a") is None
    assert set_at(a, "a", ours=b"a") is Outcome.MINORITY
    healed(a)
    assert shown(a, "a", "ours", "theirs", "late") == [None, b"b", b"c"]
    assert set_at(a, "a", ours=b"a") is Outcome.COMMITTED
    assert FactKind.VALUES_CONCURRENT not in a.world.facts


def test_a_session_whose_copies_are_all_on_the_smaller_side_comes_back() -> None:
    """S39: nobody may change it during the cut, the larger side says so, and afterwards it is there."""
    a = Cluster("abcde", members_expected=5)
    a.write("a", b"1")
    set_at(a, "a", y=b"1")
    held = a.roles()
    small = [held[Role.PRIMARY][0], held[Role.BACKUP][0]]
    for one in small:
        for other in a.others(*small):
            a.world.network.cut(one, other)
    a.wait(9_000)
    assert all(set_at(a, name, x=b"2") is Outcome.MINORITY for name in small)
    healed(a)
    assert shown(a, a.others(*small)[0], "y") == [b"1"] and FactKind.PROMOTED not in a.world.facts
    assert set_at(a, a.others(*small)[0], x=b"2") is Outcome.COMMITTED


# --- time during a cut ------------------------------------------------------------------------------------------------

IDLE_MS = 20_000


def touched(a: Cluster, at: str) -> None:
    a[at].ask(m.TouchRequest(a.key), lambda answer: None)
    a.wait(1_500)


def with_idle_timeout(a: Cluster) -> Cluster:
    """The session expires after ``IDLE_MS`` without use from now on."""
    a.write("a", b"1")
    a.writes += 1
    shorter = Commit(b"%08d" % a.writes, a.secret, {"y": b"1"}, idle_timeout_ms=IDLE_MS)
    assert commit_at(a, "a", shorter) is Outcome.COMMITTED
    return a


@pytest.mark.parametrize("active", ["a", "b"])
def test_a_session_that_is_used_on_one_side_of_a_cut_is_alive_afterwards(active: str) -> None:
    """S45: three idle timeouts long only one side uses it, that of the primary or that of the backup: the other side's
    copy expires there, and afterwards everybody shows it, with what was written meanwhile."""
    a = with_idle_timeout(Cluster("ab"))
    a.world.network.cut("a", "b")
    for round_ in range(6):
        assert set_at(a, active, n=b"%d" % round_) is Outcome.COMMITTED
        a.wait(IDLE_MS // 2)
    healed(a)
    assert shown(a, "a", "n", "y") == shown(a, "b", "n", "y") == [b"5", b"1"]


def test_an_idle_session_expires_once_on_both_sides_and_stays_gone() -> None:
    """S44: nobody uses it: the event fires at most once a side, the heal brings nothing back."""
    a = with_idle_timeout(Cluster("abc"))
    holder = a.roles()[Role.BACKUP][0]
    (third,) = a.others("a", holder)
    for other in ("a", third):
        a.world.network.cut(holder, other)
    a.wait(2 * IDLE_MS)
    a.world.network.heal_all()
    a.wait(SETTLED_MS)
    for name in "abc":
        entry = a[name].store.read(a.key).entry
        assert entry is None or not entry.has_data, (name, entry)
    assert 1 <= a.world.facts[FactKind.SESSION_EXPIRED] <= 2


def test_a_shorter_timeout_brings_nothing_back_when_the_former_one_is_over() -> None:
    """S27, S44: its backup was away when a session's timeout was made shorter, and when it expired. The bound that
    docs/guarantees.md states: after the former timeout, from the last use that its copy knows, that copy is nothing."""
    a = Cluster("abc", patrol_ms=2_000)
    a.writes = 1
    former_ms = 3 * IDLE_MS
    made = Commit(b"%08d" % 1, a.secret, {"x": b"1"}, creates=Creation(former_ms))
    assert commit_at(a, "a", made) is Outcome.COMMITTED
    made_ms, holder = a.now_ms, a.roles()[Role.BACKUP][0]
    a[holder].crash()
    shorter = Commit(b"%08d" % 2, a.secret, {"y": b"1"}, idle_timeout_ms=IDLE_MS)
    assert commit_at(a, "a", shorter) is Outcome.COMMITTED
    a.wait(IDLE_MS + 3_000)
    assert not [name for name in a.others(holder) if a[name].store.read(a.key).entry]
    a.wait(made_ms + former_ms - a.now_ms)
    a[holder].start()
    a.wait(SETTLED_MS)
    assert not [name for name in "abc" if a[name].store.read(a.key).entry]


def test_use_is_carried_across_a_failover() -> None:
    """S45: touched, not written, at the primary; it dies; the successor neither expires the session early nor begins
    its idle time anew."""
    a = with_idle_timeout(Cluster("abc"))
    a.wait(IDLE_MS - 5_000)
    touched(a, "a")
    used_ms = a.now_ms - 1_500
    a["a"].crash(with_store=False)
    a.wait(IDLE_MS - 5_000)
    assert shown(a, "b", "y") == [b"1"]
    a.wait(used_ms + IDLE_MS + 3_000 - a.now_ms)
    assert not a.roles()[Role.PRIMARY]
