"""The judge of "protected": whom it counts as a holder of what was shown."""

from __future__ import annotations

import pytest
from tests.making import IDLE_MS, KEY, SECRET, after, backup_of, commit_id, new_session, sibling

from understudy.model.commit import Commit, Outcome
from understudy.model.entry import Entry
from understudy.protocol import commands as c
from understudy.protocol import messages as m
from understudy.sim.checkers.copies import LOST_A_MOMENT_AGO_MS, RECOVERING_MS, Copies, Current
from understudy.sim.checkers.ledger import Calm
from understudy.sim.plan import Promises
from understudy.sim.world import World
from understudy.transport.memory import MemoryNetwork

HELD = new_session(1, "a", ("b",), x=b"1")
ENDED = after(HELD, Commit(commit_id(2), SECRET, ends=True), 2)
FORGET_MS = 2_500


class Judged:
    """Two machines that are off; a reader was shown HELD, and told that it is protected."""

    def __init__(self) -> None:
        settings = c.Settings("", 0, 0, forget_ms=FORGET_MS)
        self.world = World(1, ("a", "b"), settings, MemoryNetwork(1), clocks={"a": (1_000, 0), "b": (1_000, 0)})
        self.told: list[str] = []
        self.copies = Copies(self.told.append, Calm(Promises()), 1)
        self.world.on_stored.append(self.copies.stored)

    def put(self, name: str, entry: Entry) -> None:
        with self.world.machines[name].store.write() as transaction:
            transaction.put(KEY, entry)

    def drop(self, name: str) -> None:
        with self.world.machines[name].store.write() as transaction:
            transaction.remove(KEY)

    def shown(self) -> list[str]:
        self.copies.shown(self.world, KEY, HELD.attributes, self.world.now_ms, "a reader")
        return self.told


def test_two_machines_are_enough_and_one_is_not() -> None:
    """S12: the copy of a change before this one does not count."""
    judged = Judged()
    judged.put("a", HELD)
    judged.put("b", backup_of(new_session(1, "a", ("b",)), context={}))
    assert len(judged.shown()) == 1
    judged.put("b", backup_of(HELD))
    assert len(judged.shown()) == 1


@pytest.mark.parametrize("had_it", [True, False])
def test_a_lost_store_counts_for_what_was_in_it(had_it: bool) -> None:
    """S12, S22: and for a while: it had been acknowledged, and what is lost is made again."""
    judged = Judged()
    judged.put("a", HELD)
    if had_it:
        judged.put("b", backup_of(HELD))
    judged.world.machines["b"].crash(with_store=False)
    assert len(judged.shown()) == (not had_it)
    judged.world.run_for(RECOVERING_MS + LOST_A_MOMENT_AGO_MS + 1)
    judged.told.clear()
    assert len(judged.shown()) == 1


@pytest.mark.parametrize("was_expired", [True, False])
def test_what_is_gone_everywhere_was_expired_by_somebody(was_expired: bool) -> None:
    """S12, S44: else it is lost."""
    judged = Judged()
    if was_expired:
        judged.copies.told(judged.world.machines["b"], c.Fact(c.FactKind.SESSION_EXPIRED, KEY))
    assert len(judged.shown()) == (not was_expired)
    judged.put("a", HELD)
    judged.told.clear()
    assert (judged.shown() == []) is was_expired  # in this very turn, of which the other has not heard
    judged.world.run_for(1)
    judged.told.clear()
    assert len(judged.shown()) == 1


@pytest.mark.parametrize(
    ("held_ms", "by", "is_well"), [(FORGET_MS, "ab", True), (FORGET_MS - 1, "ab", False), (FORGET_MS, "a", False)]
)
def test_who_held_the_tombstone_for_its_time_has_held_enough(held_ms: int, by: str, is_well: bool) -> None:
    """S12, S04: a request may be answered so late that its session was ended and forgotten meanwhile."""
    judged = Judged()
    for name in by:
        judged.put(name, ENDED)
    judged.world.run_for(held_ms)
    for name in by:
        judged.drop(name)
    assert (judged.shown() == []) is is_well


@pytest.mark.parametrize("before_ms", [None, 0, 2], ids=["never found", "found before", "found after"])
@pytest.mark.parametrize("is_lost", [True, False])
def test_a_lost_store_counts_for_an_answer_until_its_loss_is_noticed(before_ms: int | None, is_lost: bool) -> None:
    """S12, S22: a machine that has acknowledged may be lost a moment later; who knows that calls nothing protected."""
    judged = Judged()
    judged.put("a", HELD)
    judged.put("b", backup_of(HELD))
    a, b = judged.world.machines["a"], judged.world.machines["b"]
    if before_ms == 0:
        judged.copies.told(a, c.Fact(c.FactKind.MEMBER_FOUND, member="b"))
    judged.world.run_for(1)
    b.crash(with_store=False)
    judged.world.run_for(1)
    if before_ms:
        judged.copies.told(a, c.Fact(c.FactKind.MEMBER_FOUND, member="b"))
    if is_lost:
        judged.copies.told(a, c.Fact(c.FactKind.MEMBER_LOST, member="b"))
    request = m.CommitRequest(1, KEY, Commit(commit_id(1), SECRET), m.AcknowledgeMode.BACKUP)
    judged.copies.replied(a, request, m.CommitAnswer(Outcome.COMMITTED, True, "a", a.me.incarnation, HELD.number))
    assert (judged.told == []) is (before_ms == 0 and not is_lost)


@pytest.mark.parametrize("by_another", [True, False])
def test_what_another_member_has_decided_it_may_have_decided_before_the_loss(by_another: bool) -> None:
    """S12, S22: its answer was under way meanwhile."""
    judged = Judged()
    judged.put("a", HELD)
    judged.put("b", backup_of(HELD))
    a = judged.world.machines["a"]
    judged.world.machines["b"].crash(with_store=False)
    request = m.CommitRequest(1, KEY, Commit(commit_id(1), SECRET), m.AcknowledgeMode.BACKUP)
    decided_by = a.me.incarnation + by_another
    judged.copies.replied(a, request, m.CommitAnswer(Outcome.COMMITTED, True, "a", decided_by, HELD.number))
    assert (judged.told == []) is by_another


@pytest.mark.parametrize("passed_ms", [0, IDLE_MS - 1, IDLE_MS])
def test_an_older_state_in_place_is_none_when_its_time_is_over(passed_ms: int) -> None:
    """S12, S44: a primary's workers show it until its last millisecond, and nothing of it after that."""
    judged = Judged()
    a = judged.world.machines["a"]
    a.is_on = True
    judged.put("a", new_session(1, "a", (), a.now_ms(), x=b"1"))
    judged.world.run_for(passed_ms)
    newer = {"x": (sibling("b", 1, b"2"),)}
    Current(judged.told.append, Calm(Promises())).shown(judged.world, KEY, newer, judged.world.now_ms, "a reader")
    assert len(judged.told) == (passed_ms < IDLE_MS)
