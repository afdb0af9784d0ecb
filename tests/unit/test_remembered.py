"""Claims of ``understudy.store.remembered``: a row is decoded once, and nothing is ever older than the store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from tests.making import after, new_session, sets
from tests.workers import Worker, store_link

from understudy import limits
from understudy.client.in_place import look
from understudy.model import values
from understudy.model.entry import Entry
from understudy.store import Reading
from understudy.store.lmdb import LmdbStore


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[tuple[LmdbStore, LmdbStore]]:
    """Who writes, and who reads and remembers."""
    writer, reader = (LmdbStore(tmp_path, copies=1, forget_ms=1_000, bytes_max=16 << 20) for _ in range(2))
    yield writer, reader
    writer.close()
    reader.close()


def put(store: LmdbStore, number: int, entry: Entry) -> None:
    with store.write() as transaction:
        transaction.put(key(number), entry)


def test_a_row_that_stays_the_same_is_decoded_once(stores: tuple[LmdbStore, LmdbStore]) -> None:
    """The second look-up gives the same object."""
    writer, reader = stores
    put(writer, 1, new_session())
    assert reader.read(key(1)) is reader.read(key(1))


def test_what_another_has_written_is_seen_at_once(stores: tuple[LmdbStore, LmdbStore]) -> None:
    """After each change, after a removal, and after the very same bytes have come back."""
    writer, reader = stores
    first = new_session(x=b"1")
    second = after(first, sets(2, x=b"2"), 2)
    for entry in (first, second, first):
        put(writer, 1, entry)
        assert reader.read(key(1)).entry == entry
    with writer.write() as transaction:
        transaction.remove(key(1))
    assert reader.read(key(1)).entry is None
    put(writer, 1, second)
    assert reader.read(key(1)).entry == second


def test_whether_it_is_acknowledged_is_looked_up_each_time(stores: tuple[LmdbStore, LmdbStore]) -> None:
    """The row of the outbox comes and goes while that of the entry stays as it is."""
    writer, reader = stores
    put(writer, 1, new_session(number=7))
    for settled in (True, False, True, False):
        with writer.write() as transaction:
            if settled:
                transaction.outbox_remove([7])
            else:
                transaction.outbox_add(7, key(1))
        assert reader.read(key(1)).settled is settled


def test_how_much_is_remembered_is_bounded(
    stores: tuple[LmdbStore, LmdbStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither many entries nor large ones fill a worker's memory; what is not remembered is read all the same."""
    writer, reader = stores
    monkeypatch.setattr(limits, "ENTRIES_REMEMBERED_MAX", 4)
    large = new_session(x=bytes(limits.ENTRY_REMEMBERED_BYTES_MAX))
    put(writer, 0, large)
    for number in range(1, 10):
        put(writer, number, new_session(x=bytes([number])))
    for number in range(10):
        assert reader.read(key(number)).entry is not None
        assert len(reader._remembered._rows) <= 4
    assert reader.read(key(0)).entry == large
    assert key(0) not in reader._remembered._rows


def test_requests_that_get_one_entry_share_none_of_its_values(stores: tuple[LmdbStore, LmdbStore]) -> None:
    """What one request does to a list in its session, no other sees before it is committed."""
    _, reader = stores
    link = store_link(reader)
    worker = Worker(reader, lambda asked: link.ask(asked.request))
    cookie = worker.request(cart=["book"])
    one, other = worker.begin(cookie), worker.begin(cookie)
    one["cart"].append("pen")
    assert other["cart"] == ["book"]
    assert worker.begin(cookie)["cart"] == ["book"]
    worker.finish(one)
    assert worker.begin(cookie)["cart"] == ["book", "pen"]
    stored = worker.entry(other)
    assert stored is not None and values.decode(stored.shown("cart") or b"", attribute="cart") == ["book", "pen"]


def test_what_is_recalled_may_be_old_and_is_only_a_guess(stores: tuple[LmdbStore, LmdbStore]) -> None:
    """S25: which leases to take is guessed by an earlier look; what is shown, and whether, by one that is made now."""
    writer, reader = stores
    first = new_session(backups=("b",), x=b"1")
    second = after(first, sets(2, x=b"2"), 2)
    moved_away = msgspec.structs.replace(second, backups=("c",))
    leases = {"b": 1 << 62}
    put(writer, 1, first)
    assert reader.recall(key(1)) is reader.read(key(1))
    put(writer, 1, second)
    assert reader.recall(key(1)).entry == first
    reading, serves, _ = look(reader, key(1), "a", lambda name: leases.get(name, 0))
    assert (reading.entry, serves) == (second, True)
    put(writer, 1, moved_away)
    reading, serves, _ = look(reader, key(1), "a", lambda name: leases.get(name, 0))
    assert (reading.entry, serves) == (moved_away, False)
    with writer.write() as transaction:
        transaction.remove(key(1))
    assert look(reader, key(1), "a", lambda name: 1 << 62)[:2] == (Reading(None, True), False)


def test_without_backups_no_lease_is_needed(stores: tuple[LmdbStore, LmdbStore]) -> None:
    """A member alone serves what it holds, at the first look and at later ones."""
    writer, reader = stores
    put(writer, 1, new_session(backups=()))
    for _ in range(2):
        assert look(reader, key(1), "a", lambda name: 0)[1]
