"""The executor: how much one turn does."""

from __future__ import annotations

from understudy import limits
from understudy.agent.executor import Executor
from understudy.model.entry import Epoch, Location
from understudy.protocol import commands as c
from understudy.protocol import messages as m
from understudy.store.memory import MemoryStore


def executor() -> tuple[Executor, MemoryStore]:
    store = MemoryStore(copies=1, forget_ms=1_000, clock=lambda: 10_000)
    ignore = lambda *told: None  # noqa: E731
    made = Executor(store, c.Settings("a", 1, 1), send=ignore, reply=ignore, publish=ignore, tell=ignore)
    made.submit(c.Started((), False, False))
    while made.turn():
        pass
    return made, store


def page(number: int) -> c.Received:
    """A batch of places that a peer announces."""
    keys = (bytes([number, n]) * 8 for n in range(limits.BATCH_ENTRIES_MAX))
    places = tuple((key, Location("b", (), Epoch(1, 1, 1))) for key in keys)
    return c.Received("b", 7, m.Announce(places))


def test_a_turn_ends_when_it_has_touched_a_batch_of_entries() -> None:
    """S36: twenty full batches that came at once take twenty turns: whatever comes meanwhile waits for one of them."""
    made, store = executor()
    for number in range(20):
        made.submit(page(number))
    for number in range(1, 21):
        made.turn()
        with store.view() as view:
            assert view.counts().proxy == number * limits.BATCH_ENTRIES_MAX


def test_small_events_share_a_turn() -> None:
    """Their transaction is the dearest part of most of them."""
    made, _ = executor()
    for _ in range(50):
        made.submit(c.Abandoned(1))
    assert not made.turn()


def test_a_turn_that_needs_nothing_of_the_store_begins_no_transaction() -> None:
    """S36: heartbeats and their answers never wait for the store, whoever writes there."""
    made, store = executor()
    made.submit(c.PeerFound("b", 7))
    while made.turn():
        pass
    with store.write():  # as another writer would; a second one at once is an error here
        made.submit(c.Received("b", 7, m.Heartbeat(5)))
        made.submit(c.Received("b", 7, m.HeartbeatAck(9_999)))
        assert not made.turn()
    made.submit(page(1))
    made.turn()
    with store.view() as view:
        assert view.counts().proxy == limits.BATCH_ENTRIES_MAX
