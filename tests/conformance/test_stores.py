"""Claims that every store makes: the one in LMDB, and the one in memory that simulated histories run on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from understudy import errors
from understudy.model.commit import Outcome
from understudy.model.entry import Entry, Epoch, Role, Sibling, Times
from understudy.store import OutboxRow, Owner, Reading, Transaction, codec, rows
from understudy.store.check import View, check
from understudy.store.codec import Index, decode_entry
from understudy.store.lmdb import LmdbStore
from understudy.store.memory import MemoryStore

COPIES = 1
FORGET_MS = 1_000
BYTES_MAX = 4 << 20


class StoreUnderTest(Protocol):
    """What both stores offer, with what the check needs."""

    def read(self, key: bytes) -> Reading: ...
    def write(self) -> AbstractContextManager[Transaction]: ...
    def view(self) -> AbstractContextManager[View]: ...
    def now_ms(self) -> int: ...
    def close(self) -> None: ...


def lmdb_store(directory: Path, bytes_max: int = BYTES_MAX) -> LmdbStore:
    return LmdbStore(directory, copies=COPIES, forget_ms=FORGET_MS, bytes_max=bytes_max, member="a")


def memory_store(directory: Path, bytes_max: int = BYTES_MAX) -> MemoryStore:
    return MemoryStore(COPIES, FORGET_MS, bytes_max, clock=lambda: 7, member="a")


MAKERS: dict[str, Callable[..., StoreUnderTest]] = {"lmdb": lmdb_store, "memory": memory_store}


@pytest.fixture(params=list(MAKERS))
def make(request: pytest.FixtureRequest) -> Callable[..., StoreUnderTest]:
    return MAKERS[request.param]


@pytest.fixture
def store(make: Callable[..., StoreUnderTest], tmp_path: Path) -> Iterator[StoreUnderTest]:
    made = make(tmp_path)
    yield made
    made.close()


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def primary(backups: tuple[str, ...] = ("b",), number: int = 0, accessed_ms: int = 100, **more: Any) -> Entry:
    fields: dict[str, Any] = {
        "role": Role.PRIMARY,
        "primary": "a",
        "backups": backups,
        "epoch": Epoch(1, 2, 3),
        "context": {9: 4},
        "attributes": {"cart": (Sibling(9, 4, 1, b"\x01"),)},
        "times": Times(50, accessed_ms, 0, 1_000, 0),
        "number": number,
    }
    return Entry(**(fields | more))


def backup_entry() -> Entry:
    return primary(("a",), role=Role.BACKUP, primary="b")


def proxy_entry() -> Entry:
    return Entry(Role.PROXY, "b", ("c",), Epoch(1, 2, 3))


def tombstone(ended_ms: int = 10) -> Entry:
    return primary(attributes={}, ended_ms=ended_ms)


# --- entries ---------------------------------------------------------------------------------------------------------


def test_what_was_put_is_read_equal_and_what_was_not_is_absent(store: StoreUnderTest) -> None:
    """A committed entry is read back field by field the same; another key reads as nothing, settled."""
    entry = primary(promised=(3, 4), recent=(b"12345678",), context={1 << 63: 1 << 40})
    with store.write() as transaction:
        transaction.put(key(1), entry)
        assert transaction.get(key(1)) == entry
    assert store.read(key(1)) == Reading(entry, True)
    assert store.read(key(2)) == Reading(None, True)


def test_a_removed_entry_is_gone_and_removing_nothing_is_nothing(store: StoreUnderTest) -> None:
    """After a removal neither read nor any list names the key."""
    with store.write() as transaction:
        transaction.put(key(1), primary(backups=()))
    with store.write() as transaction:
        transaction.remove(key(1))
        transaction.remove(key(2))
        assert transaction.get(key(1)) is None
        assert transaction.keys(None, 9) == transaction.keys_lacking(None, 9) == transaction.keys_due(9_999, 9) == []
    assert store.read(key(1)).entry is None


def test_change_stores_what_the_function_gives(store: StoreUnderTest) -> None:
    """``change`` hands over what the store holds, stores the result, and None removes the entry."""
    seen: list[Entry | None] = []

    def put(entry: Entry | None) -> tuple[Outcome, Entry | None]:
        seen.append(entry)
        return Outcome.STORED, primary()

    def remove(entry: Entry | None) -> tuple[Outcome, Entry | None]:
        seen.append(entry)
        return Outcome.REMOVED, None

    with store.write() as transaction:
        assert transaction.change(key(1), put) == (Outcome.STORED, primary())
        assert transaction.change(key(1), remove) == (Outcome.REMOVED, None)
        assert transaction.change(key(1), remove) == (Outcome.REMOVED, None)
    assert seen == [None, primary(), None]
    assert store.read(key(1)).entry is None


def test_a_function_that_gives_back_its_entry_changes_nothing(store: StoreUnderTest) -> None:
    """The same object back means "leave it": the entry and all counts stay."""
    with store.write() as transaction:
        transaction.put(key(1), primary())
        before = transaction.counts()
    with store.write() as transaction:
        outcome, entry = transaction.change(key(1), lambda held: (Outcome.UNCHANGED, held))
        assert (outcome, entry) == (Outcome.UNCHANGED, primary())
        assert transaction.counts() == before
    assert store.read(key(1)).entry == primary()


def test_what_is_set_aside_is_kept_and_counted_by_itself(store: StoreUnderTest) -> None:
    """It is no entry any more, in no index and in no role's count; its row is there, as it was; a key that is not there
    is nothing; and a block that raises has set nothing aside."""
    with store.write() as transaction:
        transaction.put(key(1), primary(backups=()))
        transaction.put(key(2), primary())
    with pytest.raises(ZeroDivisionError):
        with store.write() as transaction:
            transaction.set_aside(key(2))
            raise ZeroDivisionError
    with store.write() as transaction:
        transaction.set_aside(key(1))
        transaction.set_aside(key(3))
        assert transaction.keys(None, 9) == [key(2)] and not transaction.keys_lacking(None, 9)
        counts = transaction.counts()
        assert (counts.primary, counts.unprotected, counts.quarantined) == (1, 0, 1)
    with store.view() as view:
        assert [(kept, decode_entry(row)) for kept, row in view.quarantined()] == [(key(1), primary(backups=()))]
    report = check(store)
    assert not report.problems and len(report.quarantined) == 1
    assert (
        report.quarantined[0].startswith(f"entry {key(1).hex()}, ") and "primary, 1 attributes" in report.quarantined[0]
    )


def test_an_exception_undoes_everything(store: StoreUnderTest) -> None:
    """A block that raises leaves entries, indexes, outbox, numbers, notes, owner and counts as they were."""
    with store.write() as transaction:
        transaction.put(key(1), primary(backups=()))
        transaction.put(key(2), primary(number=transaction.next_number()))
        transaction.outbox_add(1, key(2))
        transaction.set_note("view", b"1")
        transaction.set_owner(Owner(True, 5, "a"))
        before = transaction.counts()
    with pytest.raises(ZeroDivisionError):
        with store.write() as transaction:
            transaction.put(key(1), primary(accessed_ms=500))
            transaction.put(key(3), proxy_entry())
            transaction.remove(key(2))
            transaction.outbox_remove([1])
            transaction.outbox_add(transaction.next_number(), key(3))
            transaction.outbox_mark([2])
            transaction.set_note("view", b"2")
            transaction.set_note("other", b"2")
            transaction.set_owner(None)
            raise ZeroDivisionError
    with store.write() as transaction:
        assert transaction.counts() == before
        assert transaction.keys(None, 9) == [key(1), key(2)]
        assert transaction.keys_lacking(None, 9) == [key(1)]
        assert transaction.keys_due(1_100, 9) == [key(1), key(2)]
        assert transaction.outbox(0, 9) == [OutboxRow(1, key(2), False)]
        assert (transaction.note("view"), transaction.note("other")) == (b"1", None)
        assert transaction.owner() == Owner(True, 5, "a")
        assert transaction.next_number() == 2
    assert check(store).problems == ()


def test_write_transactions_are_never_nested(store: StoreUnderTest) -> None:
    """A second transaction inside the first one's block is a defect of the caller, and says so; the first goes on."""
    with store.write() as transaction:
        transaction.put(key(1), primary())
        with pytest.raises(AssertionError, match="nested"), store.write():
            pass
    assert store.read(key(1)).entry == primary()


# --- numbers and the outbox ------------------------------------------------------------------------------------------


def test_numbers_rise_by_one_and_never_return(store: StoreUnderTest) -> None:
    """Each number is one above the last committed one, though its entry and outbox row are removed again."""
    with store.write() as transaction:
        assert [transaction.next_number() for _ in range(3)] == [1, 2, 3]
        transaction.outbox_add(3, key(1))
    with store.write() as transaction:
        transaction.outbox_remove([3])
        assert transaction.next_number() == 4


def test_the_outbox_is_listed_in_order_from_a_number_on(store: StoreUnderTest) -> None:
    """Rows come in the order of their numbers, above ``after``, no more than ``limit``, with their marks."""
    numbers = [300, 2, 255, 256, 1]
    with store.write() as transaction:
        for number in numbers:
            transaction.outbox_add(number, key(number))
        transaction.outbox_mark([256, 999])
        transaction.outbox_mark([256])
        assert [row.number for row in transaction.outbox(0, 99)] == sorted(numbers)
        assert transaction.outbox(2, 2) == [OutboxRow(255, key(255), False), OutboxRow(256, key(256), True)]
        assert transaction.outbox(300, 9) == transaction.outbox(0, 0) == []
        transaction.outbox_remove([1, 255, 999])
        assert [row.number for row in transaction.outbox(0, 99)] == [2, 256, 300]
        assert transaction.counts().outbox == 3


def test_a_reading_is_settled_when_its_last_change_left_the_outbox(store: StoreUnderTest) -> None:
    """S12: while the row of the entry's own number is there, an answer that shows it must wait; older rows do not
    count, and a mark does not settle."""
    with store.write() as transaction:
        transaction.put(key(1), primary(number=transaction.next_number()))
        transaction.outbox_add(1, key(1))
        transaction.next_number()
    assert store.read(key(1)).settled is False
    with store.write() as transaction:
        transaction.outbox_mark([1])
    assert store.read(key(1)).settled is False
    with store.write() as transaction:
        transaction.put(key(1), primary(number=2))
    assert store.read(key(1)).settled is True
    with store.write() as transaction:
        transaction.outbox_add(2, key(1))
        transaction.outbox_remove([1])
    assert store.read(key(1)).settled is False
    with store.write() as transaction:
        transaction.outbox_remove([2])
    assert store.read(key(1)).settled is True


# --- lists of keys ---------------------------------------------------------------------------------------------------


def test_keys_are_paged_in_order(store: StoreUnderTest) -> None:
    """Pages of any length, each begun after the last key, give every key once, in order of their bytes."""
    wanted = [key(n) for n in (0, 1, 255, 256, 1 << 64, (1 << 128) - 1)]
    with store.write() as transaction:
        for k in reversed(wanted):
            transaction.put(k, primary(backups=()))
        for listing in (
            transaction.keys,
            transaction.keys_lacking,
            lambda after, limit: transaction.keys_of("a", after, limit),
        ):
            for limit in (1, 2, 4, 99):
                found: list[bytes] = []
                while page := listing(found[-1] if found else None, limit):
                    assert len(page) <= limit
                    found += page
                assert found == wanted
            assert listing(None, 0) == []
        assert transaction.keys(key(2), 1) == [key(255)]


def test_keys_of_a_member_are_those_of_live_entries_that_name_it(store: StoreUnderTest) -> None:
    """Primary or backup, of a proxy the primary alone; not of ended entries, nor of members whose name begins so."""
    with store.write() as transaction:
        transaction.put(key(1), primary(("b",)))
        transaction.put(key(2), proxy_entry())
        transaction.put(key(3), tombstone())
        transaction.put(key(4), primary(("bb", "b-1")))
        assert transaction.keys_of("b", None, 9) == [key(1), key(2)]
        assert transaction.keys_of("a", None, 9) == [key(1), key(4)]
        assert transaction.keys_of("c", None, 9) == []
        assert transaction.keys_of("x", None, 9) == []
        assert transaction.named() == ["a", "b", "b-1", "bb"]
        transaction.put(key(1), primary(("c",)))
        assert transaction.keys_of("b", None, 9) == [key(2)]
        assert transaction.keys_of("c", None, 9) == [key(1)]


def test_keys_lacking_are_primaries_with_too_few_backups(store: StoreUnderTest) -> None:
    """Only primaries here, only live ones, only while they list fewer than ``copies``."""
    with store.write() as transaction:
        transaction.put(key(1), primary(()))
        transaction.put(key(2), primary(("b",)))
        transaction.put(key(3), primary((), role=Role.BACKUP, primary="b"))
        transaction.put(key(4), Entry(Role.PROXY, "b", (), Epoch(1, 2, 3)))
        transaction.put(key(5), msgspec.structs.replace(tombstone(), backups=()))
        assert transaction.keys_lacking(None, 9) == [key(1)]
        assert transaction.counts().unprotected == 1
        transaction.put(key(1), primary(("b",)))
        assert transaction.keys_lacking(None, 9) == []


def test_keys_due_come_earliest_first_up_to_the_instant(store: StoreUnderTest) -> None:
    """S44: sessions by expiry and tombstones by their end, of all roles; nothing later than asked for, no proxies."""
    with store.write() as transaction:
        transaction.put(key(1), primary(accessed_ms=900))
        transaction.put(key(2), msgspec.structs.replace(backup_entry(), times=Times(0, 50, 0, 1_000)))
        transaction.put(key(3), tombstone(ended_ms=200))
        transaction.put(key(4), proxy_entry())
        transaction.put(key(5), primary(times=Times(1, 1)))
        assert transaction.keys_due(1_049, 9) == []
        assert transaction.keys_due(1_050, 9) == [key(2)]
        assert transaction.keys_due(9_999, 9) == [key(2), key(3), key(1)]
        assert transaction.keys_due(9_999, 2) == [key(2), key(3)]
        transaction.put(key(2), msgspec.structs.replace(backup_entry(), times=Times(0, 5_000, 0, 1_000)))
        assert transaction.keys_due(9_999, 9) == [key(3), key(1), key(2)]


def test_a_deadline_moves_in_steps_of_the_idle_timeout_and_never_comes_early(store: StoreUnderTest) -> None:
    """Most changes leave the list of what is due as it is: a session is on it up to a twentieth of its timeout late."""
    with store.write() as transaction:
        for accessed_ms in (901, 930, 950):
            transaction.put(key(1), primary(accessed_ms=accessed_ms))
            assert transaction.keys_due(1_949, 9) == []
            assert transaction.keys_due(1_950, 9) == [key(1)]
        transaction.put(key(1), primary(accessed_ms=951))
        assert transaction.keys_due(1_999, 9) == []
        transaction.put(key(1), primary(times=Times(0, 70_000, 0, 86_400_000)))
        assert transaction.keys_due(86_470_000, 9) == []
        assert transaction.keys_due(86_520_000, 9) == [key(1)]  # a day's timeout: a minute's step


# --- the member ------------------------------------------------------------------------------------------------------


def test_counts_follow_every_change(store: StoreUnderTest) -> None:
    """An ended entry counts as ended and as nothing else, whatever its role was."""
    with store.write() as transaction:
        empty = transaction.counts()
        assert (empty.primary, empty.backup, empty.proxy, empty.ended, empty.outbox) == (0, 0, 0, 0, 0)
        assert empty.bytes_max == BYTES_MAX
        transaction.put(key(1), primary())
        transaction.put(key(2), backup_entry())
        transaction.put(key(3), proxy_entry())
        transaction.put(key(4), primary())
        transaction.put(key(4), tombstone())
    with store.write() as transaction:
        full = transaction.counts()
        assert (full.primary, full.backup, full.proxy, full.ended) == (1, 1, 1, 1)
        transaction.put(key(1), msgspec.structs.replace(primary(), role=Role.BACKUP, primary="b"))
        transaction.remove(key(3))
        transaction.remove(key(4))
        last = transaction.counts()
        assert (last.primary, last.backup, last.proxy, last.ended) == (0, 2, 0, 0)


def test_the_memory_store_counts_bytes_by_what_it_holds_not_by_how_that_came(tmp_path: Path) -> None:
    """Only changed attributes are measured; the sum is that of a store which was given the last entry alone."""
    kept = Sibling(1, 1, 1, b"k")
    one, two, three = (
        {"kept": (kept,), "grown": (Sibling(1, n, 1, b"v" * 10 * n),), f"only in {n}": (Sibling(1, n, 1, b"w" * n),)}
        for n in (1, 2, 3)
    )
    changed, fresh = memory_store(tmp_path), memory_store(tmp_path)
    for attributes in (one, two, two, three):
        with changed.write() as transaction:
            transaction.put(key(1), primary(attributes=attributes))
    with fresh.write() as transaction:
        transaction.put(key(1), primary(attributes=three))
        expected = transaction.counts().bytes_used
    with changed.write() as transaction:
        assert transaction.counts().bytes_used == expected
        transaction.remove(key(1))
        assert transaction.counts().bytes_used == 0


def test_owner_and_notes_are_kept(store: StoreUnderTest) -> None:
    """They are what was set last; absent ones are None; an owner can be taken away."""
    with store.write() as transaction:
        assert (transaction.owner(), transaction.note("view")) == (None, None)
        transaction.set_owner(Owner(True, (1 << 64) - 1, "a"))
        transaction.set_note("view", b"")
        transaction.set_note("state", b"\x00\xff")
    with store.write() as transaction:
        assert transaction.owner() == Owner(True, (1 << 64) - 1, "a")
        assert (transaction.note("view"), transaction.note("state")) == (b"", b"\x00\xff")
        transaction.set_owner(None)
        assert transaction.owner() is None
    assert check(store).problems == ()


def test_store_time_is_above_zero(store: StoreUnderTest) -> None:
    """0 stands for "never" in entries, so no instant of the store's clock may be 0."""
    assert store.now_ms() > 0


# --- limits ----------------------------------------------------------------------------------------------------------


def large(number: int) -> Entry:
    return primary(attributes={"blob": (Sibling(9, 4, 1, number.to_bytes(8, "big") * 2_500),)})


def fill(store: StoreUnderTest) -> int:
    """Put entries of 20 kB, one in a transaction, until the store refuses; gives how many it took."""
    count = 0
    with pytest.raises(errors.StoreFull):
        while True:
            with store.write() as transaction:
                transaction.put(key(count), large(count))
            count += 1
    return count


def test_a_full_store_says_so_and_goes_on(store: StoreUnderTest) -> None:
    """S50: new entries are refused with an error, reads, shrinking changes and removals go on, and make room again."""
    count = fill(store)
    assert count > 100
    with store.write() as transaction:
        assert transaction.is_nearly_full()
        assert len(transaction.keys(None, 1_000)) == count
    assert store.read(key(count - 1)).entry == large(count - 1)
    assert store.read(key(count)).entry is None
    for n in range(count):
        with store.write() as transaction:
            transaction.put(key(n), tombstone())
    with store.write() as transaction:
        assert not transaction.is_nearly_full()
    for n in range(count):
        with store.write() as transaction:
            transaction.remove(key(n))
    assert fill(store) >= count * 0.8  # LMDB wants several pages in a row for a large entry, and finds fewer such rows
    assert check(store).problems == ()


def test_a_refused_put_leaves_the_rest_of_its_transaction(store: StoreUnderTest) -> None:
    """StoreFull writes nothing of the one change that was refused; the others of the block are kept."""
    count = fill(store)
    with store.write() as transaction:
        transaction.set_note("before", b"1")
        with pytest.raises(errors.StoreFull):
            for n in range(count, count * 2):
                transaction.put(key(n), large(n))
    with store.write() as transaction:
        assert transaction.note("before") == b"1"
        assert transaction.counts().primary == count
    assert check(store).problems == ()


# --- the check -------------------------------------------------------------------------------------------------------


def test_a_whole_store_has_no_problems(store: StoreUnderTest) -> None:
    """The check finds nothing in a store with entries of every kind, and gives its counts."""
    with store.write() as transaction:
        transaction.put(key(1), primary(number=transaction.next_number()))
        transaction.outbox_add(1, key(1))
        transaction.put(key(2), backup_entry())
        transaction.put(key(3), proxy_entry())
        transaction.put(key(4), tombstone())
    report = check(store)
    assert report.problems == ()
    assert report.counts is not None
    assert (report.counts.primary, report.counts.outbox) == (1, 1)


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        (primary(("b", "b")), "named twice"),
        (primary(("a",)), "as primary and as backup"),
        (primary(("c",), primary="b"), "it is primary here"),
        (primary(("b",), role=Role.BACKUP), "it is a backup here"),
        (primary(role=Role.PROXY, primary="b", backups=()), "a proxy and holds attributes"),
        (primary(ended_ms=5), "has ended and still holds attributes"),
        (primary(number=77), "was never given"),
    ],
)
def test_the_check_finds_an_entry_that_cannot_be(store: StoreUnderTest, entry: Entry, says: str) -> None:
    """Each contradiction inside one entry is reported, with the entry's key, and nothing else is."""
    with store.write() as transaction:
        transaction.put(key(5), entry)
    (problem,) = check(store).problems
    assert says in problem
    assert key(5).hex() in problem


def test_the_check_finds_outbox_rows_without_their_change(store: StoreUnderTest) -> None:
    """A row for a missing entry, for a change that the entry does not have, and for a number never given."""
    with store.write() as transaction:
        transaction.put(key(1), primary(number=transaction.next_number()))
        transaction.next_number()
        transaction.outbox_add(1, key(1))
        transaction.outbox_add(2, key(1))
        transaction.outbox_add(3, key(2))
    first, *others = check(store).problems
    assert "outbox row 2" in first and "up to 1 only" in first
    assert ["never given" in others[0], "not there" in others[1], len(others)] == [True, True, 2]


class Damage:
    """Reaches behind a store's back into its tables."""

    def __init__(self, store: Any) -> None:
        self.store = store

    def index(self, index: Index, row: bytes, add: bool) -> None:
        if isinstance(self.store, MemoryStore):
            table = self.store._contents.indexes[index]
            table.append(row) if add else table.remove(row)
            table.sort()
            return
        with self.store.write() as transaction:
            db = transaction._tables.indexes[index]
            transaction._txn.put(row, b"", db=db) if add else transaction._txn.delete(row, db=db)

    def state(self, **changes: int) -> None:
        with self.store.write() as transaction:
            for name, value in changes.items():
                setattr(transaction.state, name, value)


@pytest.mark.parametrize(
    ("index", "row"),
    [
        (Index.MEMBERS, codec.member_row("a", key(1))),
        (Index.LACKING, key(1)),
        (Index.DUE, codec.due_row(1_100, key(1))),
    ],
)
def test_the_check_finds_a_missing_and_a_stray_index_row(store: StoreUnderTest, index: Index, row: bytes) -> None:
    """S24: an index that does not agree with the entries is reported, in either direction."""
    with store.write() as transaction:
        transaction.put(key(1), primary(backups=()))
    damage = Damage(store)
    damage.index(index, row, add=False)
    (problem,) = check(store).problems
    assert f"its row in the index {index.name} is missing" in problem
    damage.index(index, row, add=True)
    assert check(store).problems == ()
    damage.index(index, row[:-1] + b"\x07", add=True)
    (problem,) = check(store).problems
    assert f"the index {index.name} has a row for entry {key(7).hex()}" in problem


@pytest.mark.parametrize("counter", ["primary", "backup", "proxy", "ended"])
def test_the_check_finds_a_wrong_counter(store: StoreUnderTest, counter: str) -> None:
    """Counters are recomputed from the entries."""
    with store.write() as transaction:
        transaction.put(key(1), primary())
    Damage(store).state(**{counter: 5})
    (problem,) = check(store).problems
    assert f"the counter {counter!r} says 5" in problem


# --- any order of anything -------------------------------------------------------------------------------------------

KEYS = st.integers(0, 7).map(key)
ENTRIES = (
    st.builds(
        primary,
        backups=st.sampled_from([(), ("b",), ("c",), ("b", "c")]),
        accessed_ms=st.integers(0, 3_000),
        role=st.just(Role.PRIMARY),
    )
    | st.builds(backup_entry)
    | st.builds(proxy_entry)
    | st.builds(tombstone, ended_ms=st.integers(1, 3_000))
)


class Histories(RuleBasedStateMachine):
    """Random transactions, some of which fail, on both stores and on plain dictionaries."""

    @initialize()
    def begin(self) -> None:
        self.directory = TemporaryDirectory()
        self.stores: list[StoreUnderTest] = [make(Path(self.directory.name)) for make in MAKERS.values()]
        self.entries: dict[bytes, Entry] = {}
        self.rows: dict[int, OutboxRow] = {}
        self.number = 0

    @rule(k=KEYS, entry=ENTRIES, in_outbox=st.booleans(), fails=st.booleans())
    def put(self, k: bytes, entry: Entry, in_outbox: bool, fails: bool) -> None:
        entry = msgspec.structs.replace(entry, number=self.number + 1)

        def work(transaction: Transaction) -> None:
            assert transaction.next_number() == self.number + 1
            transaction.change(k, lambda _: (Outcome.STORED, entry))
            if in_outbox:
                transaction.outbox_add(self.number + 1, k)

        if self.run(work, fails):
            self.number += 1
            self.entries[k] = entry
            if in_outbox:
                self.rows[self.number] = OutboxRow(self.number, k, False)

    @rule(k=KEYS, fails=st.booleans())
    def remove(self, k: bytes, fails: bool) -> None:
        numbers = [row.number for row in self.rows.values() if row.key == k]

        def work(transaction: Transaction) -> None:
            transaction.outbox_remove(numbers)
            transaction.remove(k)

        if self.run(work, fails):
            self.entries.pop(k, None)
            for number in numbers:
                del self.rows[number]

    @precondition(lambda self: self.rows)
    @rule(data=st.data(), fails=st.booleans())
    def acknowledge_or_mark(self, data: st.DataObject, fails: bool) -> None:
        number = data.draw(st.sampled_from(sorted(self.rows)))
        mark = data.draw(st.booleans())
        work = lambda t: t.outbox_mark([number]) if mark else t.outbox_remove([number])  # noqa: E731  # one of two words
        if self.run(work, fails):
            if mark:
                self.rows[number] = self.rows[number]._replace(marked=True)
            else:
                del self.rows[number]

    @rule()
    def start_again(self) -> None:
        lmdb, memory = self.stores
        lmdb.close()
        assert isinstance(memory, MemoryStore)
        self.stores = [lmdb_store(Path(self.directory.name)), memory.copy()]

    def run(self, work: Callable[[Transaction], None], fails: bool) -> bool:
        for store in self.stores:
            try:
                with store.write() as transaction:
                    work(transaction)
                    if fails:
                        raise ZeroDivisionError
            except ZeroDivisionError:
                pass
        return not fails

    @invariant()
    def both_agree_with_the_model(self) -> None:
        listed = {k: rows(e, COPIES, FORGET_MS) for k, e in sorted(self.entries.items())}
        for store in getattr(self, "stores", ()):
            for n in range(8):
                entry = self.entries.get(key(n))
                settled = entry is None or entry.number not in self.rows
                assert store.read(key(n)) == Reading(entry, settled)
            with store.write() as transaction:
                assert transaction.keys(None, 99) == list(listed)
                for member in "abc":
                    assert transaction.keys_of(member, None, 99) == [
                        k for k, r in listed.items() if member in r.members
                    ]
                assert transaction.keys_lacking(None, 99) == [k for k, r in listed.items() if r.lacking]
                due = sorted((r.deadline_ms, k) for k, r in listed.items() if r.deadline_ms is not None)
                assert transaction.keys_due(2_500, 99) == [k for deadline_ms, k in due if deadline_ms <= 2_500]
                assert transaction.outbox(0, 99) == [self.rows[number] for number in sorted(self.rows)]
            assert check(store).problems == ()

    def teardown(self) -> None:
        for store in getattr(self, "stores", ()):
            store.close()
        if hasattr(self, "directory"):
            self.directory.cleanup()


Histories.TestCase.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
test_any_history_gives_what_a_plain_model_gives = Histories.TestCase
