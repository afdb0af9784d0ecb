"""An entry on which agents die is moved aside at the second death, and everything else is served."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.making import CHOOSERS, KEY, LIVES, SECRET, commit_id, new_session, whole

from understudy.agent.executor import Executor
from understudy.agent.takeover import Taken, take_over
from understudy.errors import StoreError
from understudy.model.commit import Commit, Outcome
from understudy.protocol import changes
from understudy.protocol import commands as c
from understudy.protocol import messages as m
from understudy.store import Store
from understudy.store.codec import decode_entry
from understudy.store.lmdb import LmdbStore
from understudy.store.memory import MemoryStore

OTHER = b"o" * 16
FETCH = m.FetchRequest(0, KEY)


class Life:
    """One agent's executor, without a network; each request is a turn."""

    def __init__(self, store: Store, incarnation: int) -> None:
        self.taken: Taken = take_over(store, "a", incarnation)
        self.replies: dict[int, object] = {}
        settings = c.Settings("a", LIVES["a"] + incarnation, CHOOSERS["a"], lives=self.taken.own_lives)
        self.executor = Executor(
            store,
            settings,
            send=lambda to, message: None,
            reply=lambda ticket, answer: self.replies.update({ticket: answer}),
            publish=lambda peer, until_ms: None,
            tell=lambda fact: None,
            poisoned=self.taken.poisoned,
        )
        self.on(self.taken.started(expects_peers=False))

    def on(self, event: c.Event) -> None:
        self.executor.submit(event)
        while self.executor.turn():
            pass

    def ask(self, ticket: int, request: m.Request) -> object:
        self.on(c.Requested(ticket, request))
        return self.replies.get(ticket)


def writing(key: bytes) -> m.CommitRequest:
    return m.CommitRequest(0, key, Commit(commit_id(2), SECRET, {"x": b"2"}), m.AcknowledgeMode.BACKUP)


def filled(store: Store) -> Store:
    with store.write() as transaction:
        for key in (KEY, OTHER):
            transaction.put(key, new_session(1, "a", (), store.now_ms(), x=b"1"))
    return store


def outcome(answer: object) -> Outcome:
    assert isinstance(answer, m.CommitAnswer)
    return answer.outcome


def test_the_second_death_moves_the_entry_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    """An assertion in handling one key: the first time it may be chance; after the second the key is served by nobody
    here, its row is kept, and the other session never noticed."""
    store = filled(MemoryStore(copies=1, forget_ms=1_000_000, clock=lambda: 1_000_000))
    commit = changes.do_commit

    def broken(entry, what, *rest):
        assert entry is None or what.id != commit_id(2) or entry.shown("poison") is None
        return commit(entry, what, *rest)

    monkeypatch.setattr(changes, "do_commit", broken)
    with store.write() as transaction:
        transaction.put(KEY, new_session(1, "a", (), 1_000_000, poison=b"1"))
    for incarnation in (1, 2):
        life = Life(store, incarnation)
        assert not life.taken.poisoned
        with pytest.raises(AssertionError):
            life.ask(1, writing(KEY))
    life = Life(store, 3)
    assert life.taken.poisoned == {KEY}
    assert outcome(life.ask(1, writing(KEY))) is Outcome.STORE_FULL
    assert outcome(life.ask(2, writing(OTHER))) is Outcome.COMMITTED
    with store.write() as transaction:
        assert transaction.get(KEY) is None
    with store.view() as view:
        ((key, row),) = view.quarantined()
    assert key == KEY and decode_entry(row).shown("poison") == b"1"


def test_a_copy_that_comes_again_does_not_kill_again() -> None:
    """Its primary elsewhere sends it: it is not taken, not acknowledged, and asks nobody for anything."""
    store = filled(MemoryStore(copies=1, forget_ms=1_000_000, clock=lambda: 1_000_000))
    with store.write() as transaction:
        transaction.set_note("deaths", b"\x81\xc4\x10" + KEY + b"\x02")
    life = Life(store, 1)
    life.on(c.PeerFound("b", LIVES["b"]))
    theirs = new_session(1, "b", ("a",), 1_000_000, x=b"1")
    copy = m.Replicate(KEY, 1, whole(theirs, 1_000_000))
    question = m.Question(KEY, m.Promise(9, 9), {}, theirs.location)
    for message in (copy, m.Ask(1, (question,)), m.Fetch(1, KEY, {}, 1), m.Locate(2, KEY)):
        life.on(c.Received("b", LIVES["b"], message))
    with store.write() as transaction:
        assert transaction.get(KEY) is None


def test_a_row_that_cannot_be_read_is_moved_aside_too(tmp_path: Path) -> None:
    """A damaged row ends the agent at each look; after two it is gone from the table, and kept as it was."""
    store = filled(LmdbStore(tmp_path, copies=1, forget_ms=1_000_000))
    with store.write() as transaction:
        transaction._txn.put(KEY, b"\x01 no entry")  # type: ignore[attr-defined]
    for incarnation in (1, 2):
        with pytest.raises(StoreError):
            Life(store, incarnation).ask(1, FETCH)
    life = Life(store, 3)
    assert life.taken.poisoned == {KEY}
    assert outcome(life.ask(2, writing(OTHER))) is Outcome.COMMITTED
    with store.view() as view:
        assert list(view.quarantined()) == [(KEY, b"\x01 no entry")]
    store.close()


def test_a_failing_disk_is_no_entrys_fault() -> None:
    """What fails at the commit of a turn names no key."""
    store = filled(MemoryStore(copies=1, forget_ms=1_000_000, clock=lambda: 1_000_000))
    life = Life(store, 1)
    write = store.write

    class Failing:
        def __enter__(self):
            self.block = write()
            return self.block.__enter__()

        def __exit__(self, *error):
            self.block.__exit__(*error)
            raise StoreError("the disk is gone")

    store.write = Failing  # type: ignore[method-assign]
    with pytest.raises(StoreError):
        life.ask(1, writing(OTHER))
    store.write = write  # type: ignore[method-assign]
    with store.write() as transaction:
        assert transaction.note("deaths") is None
