"""Claims of ``open_in_place``: what it remembers of a cookie follows from nothing that could have changed since."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from tests.workers import SETTINGS, Worker, store_link

from understudy import limits
from understudy.client.conversation import open_in_place
from understudy.client.visit import NO_SESSION, Opened
from understudy.model.commit import Opening
from understudy.store import Reading
from understudy.store.lmdb import LmdbStore


class Later:
    """The same store at another time."""

    def __init__(self, store: LmdbStore, by_ms: int) -> None:
        self._store, self._by_ms = store, by_ms

    def read(self, key: bytes) -> Reading:
        return self._store.read(key)

    def recall(self, key: bytes) -> Reading:
        return self._store.recall(key)

    def now_ms(self) -> int:
        return self._store.now_ms() + self._by_ms


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LmdbStore]:
    opened = LmdbStore(tmp_path, copies=0, forget_ms=1_000, bytes_max=64 << 20)
    yield opened
    opened.close()


@pytest.fixture
def worker(store: LmdbStore) -> Worker:
    link = store_link(store)
    return Worker(store, lambda asked: link.ask(asked.request), SETTINGS._replace(copies=0))


def opened_by(worker: Worker, cookie: str) -> Opened:
    opened = open_in_place(worker.world, cookie)
    assert opened is not None
    return opened


def rotated(worker: Worker, cookie: str, **how: object) -> str:
    session = worker.begin(cookie)
    session.rotate(**how)  # type: ignore[arg-type]
    new = worker.finish(session)
    assert new is not None
    return new


def test_a_session_that_stays_the_same_is_judged_once(worker: Worker) -> None:
    """The second request of a browser is given what the first one was, and the same as a worker that begins."""
    cookie = worker.request(x=1)
    first = opened_by(worker, cookie)
    assert first.opening is Opening.CURRENT and opened_by(worker, cookie) is first
    worker.world.remembered.clear()
    assert opened_by(worker, cookie) == first and opened_by(worker, cookie) is not first


def test_a_change_is_opened_anew(worker: Worker) -> None:
    """By whomever, also where only its acknowledgement has changed."""
    cookie = worker.request(x=1)
    before = opened_by(worker, cookie)
    worker.request(cookie, x=2)
    after = opened_by(worker, cookie)
    assert after.attributes["x"] != before.attributes["x"] and not after.unsettled
    entry = worker.store.read(after.key).entry
    assert entry is not None
    for under_way in (True, False):
        with worker.store.write() as transaction:
            numbered = msgspec.structs.replace(entry, number=7)
            transaction.put(after.key, numbered)
            transaction.outbox_add(7, after.key) if under_way else transaction.outbox_remove([7])
        opened = opened_by(worker, cookie)
        assert (opened.unsettled, opened.protected) == ((7, False) if under_way else (0, True))


def test_another_cookie_of_the_session_opens_what_it_opens(worker: Worker) -> None:
    """S11: a replaced id is not taken for the new one that was opened a moment ago, nor the other way round."""
    old = worker.request(x=1)
    new = rotated(worker, old)
    for _ in range(2):
        assert opened_by(worker, new).opening is Opening.CURRENT
        assert opened_by(worker, old).opening is Opening.GRACE
    fenced = new
    new = rotated(worker, new, principal="anna")
    for _ in range(2):
        assert opened_by(worker, new).opening is Opening.CURRENT
        assert opened_by(worker, fenced).opening is Opening.FENCED
        assert opened_by(worker, old) is NO_SESSION


def test_what_hangs_on_the_time_is_judged_each_time(worker: Worker, store: LmdbStore) -> None:
    """The session's end, and that of an old id's grace."""
    old = worker.request(x=1)
    new = rotated(worker, old)
    assert opened_by(worker, new).opening is Opening.CURRENT and opened_by(worker, old).opening is Opening.GRACE
    world = worker.world
    worker.world = msgspec.structs.replace(world, store=Later(store, SETTINGS.grace_ms))
    assert worker.world.remembered is world.remembered
    assert opened_by(worker, old) is NO_SESSION and opened_by(worker, new).opening is Opening.CURRENT
    worker.world = msgspec.structs.replace(world, store=Later(store, SETTINGS.idle_timeout_ms + 1_000))
    assert opened_by(worker, new) is NO_SESSION


def test_a_lease_that_has_run_out_is_noticed(worker: Worker) -> None:
    """S25: what a cookie opens is remembered; whether it may be shown is not."""
    cookie = worker.request(x=1)
    key = opened_by(worker, cookie).key
    entry = worker.store.read(key).entry
    assert entry is not None
    with worker.store.write() as transaction:
        transaction.put(key, msgspec.structs.replace(entry, backups=("b",)))
    worker.leases["b"] = 1 << 62
    worker.store.read(key)  # so that it is known which lease to take
    assert opened_by(worker, cookie) is opened_by(worker, cookie)
    worker.leases["b"] = 0
    assert open_in_place(worker.world, cookie) is None


def test_other_settings_judge_for_themselves(worker: Worker) -> None:
    """An application that wants two copies does not call protected what has none."""
    cookie = worker.request(x=1)
    assert opened_by(worker, cookie).protected
    worker.world = msgspec.structs.replace(worker.world, settings=SETTINGS._replace(copies=2))
    assert not opened_by(worker, cookie).protected


def test_how_much_is_remembered_is_bounded(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither many sessions nor large ones fill a worker's memory."""
    monkeypatch.setattr(limits, "ENTRIES_REMEMBERED_MAX", 4)
    large = worker.request(x="x" * limits.ENTRY_REMEMBERED_BYTES_MAX)
    assert opened_by(worker, large).opening is Opening.CURRENT and not worker.world.remembered
    for number in range(10):
        opened_by(worker, worker.request(x=number))
        assert 1 <= len(worker.world.remembered) <= 4


def test_what_is_remembered_shows_nothing_in_a_traceback(worker: Worker) -> None:
    """A world is a local variable of every conversation."""
    opened = opened_by(worker, worker.request(x="a value"))
    (remembered,) = worker.world.remembered.values()
    assert opened.session_id is not None
    shown = f"{worker.world.remembered} {remembered}"
    assert "a value" not in shown and opened.session_id.text not in shown
    assert remembered.__rich_repr__() == []
