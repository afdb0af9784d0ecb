"""The store in memory: the simulator's, and the reference that the LMDB store is compared with.

The same semantics over dictionaries and sorted lists: one writer, undo on an exception, limits, the same index rows.
It reads no clock of its own and orders everything by bytes, so that a simulated history repeats exactly.
"""

from __future__ import annotations

import copy
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import TypeVar

import msgspec

from understudy import errors, limits
from understudy.model.commit import Outcome
from understudy.model.entry import Entry, Key, Sibling
from understudy.store import Change, Counts, OutboxRow, Owner, Reading, codec, rows
from understudy.store.codec import NO_ROW, Index, State

_ENTRY_BYTES = 256
"""What an entry takes beside its attributes, about as in a file; exact sizes would cost an encoding each time."""
_LAST = b"\xff" * 17
_NOTHING = Reading(None, True)
Changed = Callable[[Key, Entry | None, Entry | None], None]
_K = TypeVar("_K")
_V = TypeVar("_V")


class MemoryStore:
    """One member's entries in one process.

    Args:
        copies: backups that a primary should have.
        forget_ms: life of a tombstone.
        bytes_max: limit of what the entries take, estimated.
        clock: the store clock, in milliseconds, above 0.
        member: this member's name, for the check.
        changed: called after each transaction with each entry that it changed: key, entry before, entry after; twice
            for one that was removed and made again.
    """

    def __init__(
        self,
        copies: int,
        forget_ms: int,
        bytes_max: int = limits.STORE_BYTES_MAX,
        clock: Callable[[], int] = lambda: 1,
        member: str = "",
        changed: Changed | None = None,
    ) -> None:
        self.now_ms = clock
        self.bytes_max = bytes_max
        self._changed = changed
        self._contents = _Contents(State(copies, forget_ms, member))
        self._writing = False

    @property
    def bytes_used(self) -> int:
        """What the entries take, estimated."""
        return self._contents.bytes_used

    @property
    def is_writing(self) -> bool:
        """True inside a write transaction's block: what it has done so far is not durable."""
        return self._writing

    @property
    def entries(self) -> Mapping[Key, Entry]:
        """The entries by their keys, in no order; as ``read``."""
        return self._contents.entries

    @property
    def outbox(self) -> Mapping[int, OutboxRow]:
        """The rows of the outbox by their numbers, in no order; as ``read``."""
        return self._contents.outbox

    def read(self, key: Key) -> Reading:
        """One look-up of what is committed; inside a write transaction's block, of what that has done so far."""
        entry = self._contents.entries.get(key)
        if entry is None:
            return _NOTHING
        return Reading(entry, not entry.number or entry.number not in self._contents.outbox)

    def recall(self, key: Key) -> Reading:
        """Nothing is remembered: a look-up costs less."""
        return self.read(key)

    def write(self) -> _Writing:
        """Raises: AssertionError when nested."""
        return _Writing(self)

    @contextmanager
    def view(self) -> Iterator[MemoryTransaction]:
        """Everything at one instant, for ``check``."""
        yield MemoryTransaction(self._contents, self.bytes_max)

    def copy(self) -> MemoryStore:
        """What a member would find that starts again now: everything committed, the owner's row and numbers included.

        Cost: one copy of each table; entries are shared, they never change.
        """
        assert not self._writing, "a member was restarted in the middle of a transaction: leave its block first"
        again = copy.copy(self)
        again._contents = self._contents.copied()
        return again

    def close(self) -> None:
        """Nothing to give up; the contents stay for ``copy``."""


class _Contents:
    """The tables of one store."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.entries: dict[Key, Entry] = {}
        self.keys: list[Key] = []
        self.indexes: tuple[list[bytes], ...] = tuple([] for _ in Index)
        self.outbox: dict[int, OutboxRow] = {}
        self.numbers: list[int] = []
        self.notes: dict[str, bytes] = {}
        self.aside: dict[Key, bytes] = {}
        self.owner: Owner | None = None
        self.bytes_used = 0

    def copied(self) -> _Contents:
        other = copy.copy(self)
        other.state = msgspec.structs.replace(self.state)
        other.entries = dict(self.entries)
        other.keys = list(self.keys)
        other.indexes = tuple(list(index) for index in self.indexes)
        other.outbox = dict(self.outbox)
        other.numbers = list(self.numbers)
        other.notes = dict(self.notes)
        other.aside = dict(self.aside)
        return other


class _Writing:
    """The block of one write transaction."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def __enter__(self) -> MemoryTransaction:
        store = self._store
        assert not store._writing, "write transactions were nested"
        store._writing = True
        self._transaction = MemoryTransaction(store._contents, store.bytes_max)
        return self._transaction

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._store._writing = False
        failure = self._transaction._failure
        if error is not None or failure is not None:
            self._transaction._undo_all()
        elif self._store._changed is not None:
            for key, before in self._transaction._before.items():
                after = self._transaction.get(key)
                if before is not None and after is not None and key in self._transaction._removed:
                    self._store._changed(key, before, None)
                    before = None
                self._store._changed(key, before, after)
        if error is None and failure is not None:
            raise failure


class MemoryTransaction:
    """One transaction: it writes at once and remembers how to undo."""

    def __init__(self, contents: _Contents, bytes_max: int) -> None:
        self._contents = contents
        self._bytes_max = bytes_max
        self._undo: list[Callable[[], object]] = []
        self._before: dict[Key, Entry | None] = {}
        self._removed: set[Key] = set()
        self._failure: errors.StoreFull | None = None
        self._first_state: State | None = None
        self._first_owner = contents.owner
        self._first_bytes = contents.bytes_used

    # --- entries ---------------------------------------------------------------------------------------------------

    def get(self, key: Key) -> Entry | None:
        return self._contents.entries.get(key)

    def put(self, key: Key, entry: Entry) -> None:
        self._replace(key, self._contents.entries.get(key), entry)

    def remove(self, key: Key) -> None:
        old = self._contents.entries.get(key)
        if old is not None:
            self._replace(key, old, None)

    def set_aside(self, key: Key) -> None:
        entry = self._contents.entries.get(key)
        if entry is not None:
            aside = self._contents.aside
            old = aside.get(key)
            aside[key] = codec.encode_entry(entry)
            self._undo.append(lambda: _restore(aside, key, old))
            self.remove(key)

    def change(self, key: Key, change: Change) -> tuple[Outcome, Entry | None]:
        old = self._contents.entries.get(key)
        outcome, new = change(old)
        if new is not old:
            self._replace(key, old, new)
        return outcome, new

    def _replace(self, key: Key, old: Entry | None, new: Entry | None) -> None:
        contents, state = self._contents, self._state_to_change()
        self._before.setdefault(key, old)
        growth_bytes = _growth_bytes(old, new)
        if new is not None and growth_bytes > 0 and contents.bytes_used + growth_bytes > self._bytes_hard:
            raise errors.StoreFull(f"the store in memory is full: {self._bytes_max} bytes")
        contents.bytes_used += growth_bytes
        if new is None:
            self._removed.add(key)
            del contents.entries[key]
            self._drop_row(contents.keys, key)
        else:
            contents.entries[key] = new
            if old is None:
                self._add_row(contents.keys, key)
        self._undo.append(lambda: _restore(contents.entries, key, old))
        before = NO_ROW if old is None else rows(old, state.copies, state.forget_ms)
        after = NO_ROW if new is None else rows(new, state.copies, state.forget_ms)
        if before != after:
            gone, added = codec.moved_rows(key, before, after)
            for index, row in gone:
                self._drop_row(contents.indexes[index], row)
            for index, row in added:
                self._add_row(contents.indexes[index], row)
        state.count(key, old, -1)
        state.count(key, new, 1)

    def _add_row(self, table: list[bytes], row: bytes) -> None:
        insort(table, row)
        self._undo.append(lambda: _drop(table, row))

    def _drop_row(self, table: list[bytes], row: bytes) -> None:
        if _drop(table, row):
            self._undo.append(lambda: insort(table, row))

    def _undo_all(self) -> None:
        while self._undo:
            self._undo.pop()()
        contents = self._contents
        if self._first_state is not None:
            contents.state = self._first_state
        contents.owner, contents.bytes_used = self._first_owner, self._first_bytes

    def _state_to_change(self) -> State:
        """The store's state, after a copy of it was kept."""
        if self._first_state is None:
            self._first_state = msgspec.structs.replace(self._contents.state)
        return self._contents.state

    # --- numbers and the outbox ------------------------------------------------------------------------------------

    def next_number(self) -> int:
        state = self._state_to_change()
        state.number += 1
        return state.number

    def outbox_add(self, number: int, key: Key) -> None:
        self._set_outbox(number, OutboxRow(number, key, False))

    def outbox_remove(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self._set_outbox(number, None)

    def outbox_mark(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            row = self._contents.outbox.get(number)
            if row is not None:
                self._set_outbox(number, row._replace(marked=True))

    def _set_outbox(self, number: int, row: OutboxRow | None) -> None:
        old = self._contents.outbox.get(number)
        _restore_row(self._contents, number, row)
        self._undo.append(lambda: _restore_row(self._contents, number, old))

    def outbox(self, after: int, limit: int) -> list[OutboxRow]:
        numbers = self._contents.numbers
        start = bisect_left(numbers, after + 1)
        return [self._contents.outbox[number] for number in numbers[start : start + max(limit, 0)]]

    # --- lists of keys ---------------------------------------------------------------------------------------------

    def keys(self, after: Key | None, limit: int) -> list[Key]:
        return _between(self._contents.keys, _above(after), None, limit)

    def keys_of(self, member: str, after: Key | None, limit: int) -> list[Key]:
        prefix = codec.member_row(member)
        return self._keys_in(Index.MEMBERS, prefix + _above(after), prefix + _LAST, limit)

    def keys_lacking(self, after: Key | None, limit: int) -> list[Key]:
        return self._keys_in(Index.LACKING, _above(after), None, limit)

    def keys_due(self, now_ms: int, limit: int) -> list[Key]:
        return self._keys_in(Index.DUE, b"", codec.due_row(now_ms + 1), limit)

    def _keys_in(self, index: Index, start: bytes, end: bytes | None, limit: int) -> list[Key]:
        found = _between(self._contents.indexes[index], start, end, limit)
        return [codec.key_of_row(index, row) for row in found]

    # --- the member ------------------------------------------------------------------------------------------------

    @property
    def _bytes_hard(self) -> int:
        return int(self._bytes_max * (1 - limits.STORE_RESERVE))

    def counts(self) -> Counts:
        state = self._contents.state
        return Counts(
            primary=state.primary,
            backup=state.backup,
            proxy=state.proxy,
            ended=state.ended,
            unprotected=self.index_count(Index.LACKING),
            outbox=len(self._contents.numbers),
            quarantined=len(self._contents.aside),
            bytes_used=self._contents.bytes_used,
            bytes_max=self._bytes_max,
        )

    def is_nearly_full(self) -> bool:
        return self._contents.bytes_used > self._bytes_max * limits.STORE_SOFT_LIMIT

    def owner(self) -> Owner | None:
        return self._contents.owner

    def set_owner(self, owner: Owner | None) -> None:
        self._contents.owner = owner

    def note(self, name: str) -> bytes | None:
        return self._contents.notes.get(name)

    def set_note(self, name: str, value: bytes) -> None:
        notes = self._contents.notes
        old = notes.get(name)
        notes[name] = value
        self._undo.append(lambda: _restore(notes, name, old))

    # --- everything, for the check ---------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        return self._contents.state

    def entries(self) -> Iterator[tuple[Key, Entry | errors.StoreError]]:
        yield from ((key, self._contents.entries[key]) for key in self._contents.keys)

    def index(self, index: Index) -> Iterator[bytes]:
        yield from self._contents.indexes[index]

    def named(self) -> list[str]:
        """The members that live entries name, in order."""
        return sorted({codec.member_of_row(row) for row in self._contents.indexes[Index.MEMBERS]})

    def index_count(self, index: Index) -> int:
        return len(self._contents.indexes[index])

    def in_index(self, index: Index, row: bytes) -> bool:
        return _between(self._contents.indexes[index], row, None, 1) == [row]

    def quarantined(self) -> Iterator[tuple[Key, bytes]]:
        yield from sorted(self._contents.aside.items())

    def strays(self) -> Iterator[str]:
        if sorted(self._contents.entries) != self._contents.keys:
            yield "the list of keys is not that of the entries"
        if sorted(self._contents.outbox) != self._contents.numbers:
            yield "the list of numbers is not that of the outbox"


def _growth_bytes(old: Entry | None, new: Entry | None) -> int:
    """What a change adds to the bytes that the entries take, about. Attributes that it leaves are not looked at."""
    before = old.attributes if old is not None else {}
    after = new.attributes if new is not None else {}
    growth = _ENTRY_BYTES * ((new is not None) - (old is not None))
    if before is after:
        return growth
    for name, siblings in after.items():
        known = before.get(name)
        if known is not siblings:
            growth += _attribute_bytes(name, siblings) - (_attribute_bytes(name, known) if known is not None else 0)
    for name, siblings in before.items():
        if name not in after:
            growth -= _attribute_bytes(name, siblings)
    return growth


def _attribute_bytes(name: str, siblings: tuple[Sibling, ...]) -> int:
    size = len(name)
    for sibling in siblings:
        size += len(sibling.value)
    return size


def _between(table: list[bytes], start: bytes, end: bytes | None, limit: int) -> list[bytes]:
    first = bisect_left(table, start)
    last = len(table) if end is None else bisect_left(table, end)
    return table[first : min(last, first + max(limit, 0))]


def _drop(table: list[bytes], row: bytes) -> bool:
    at = bisect_left(table, row)
    if at == len(table) or table[at] != row:
        return False
    del table[at]
    return True


def _restore(table: dict[_K, _V], key: _K, value: _V | None) -> None:
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value


def _restore_row(contents: _Contents, number: int, row: OutboxRow | None) -> None:
    """Make ``row`` what the outbox holds under ``number``."""
    if row is None:
        if contents.outbox.pop(number, None) is not None:
            del contents.numbers[bisect_left(contents.numbers, number)]
    else:
        if number not in contents.outbox:
            insort(contents.numbers, number)
        contents.outbox[number] = row


def _above(key: Key | None) -> bytes:
    return b"" if key is None else key + b"\x00"
