"""Gives what is wrong in a store: every entry decodes and fits its role, every index row and counter is recomputed.

It asks a read transaction, so that it may run beside the agent and the workers of a living member.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from understudy import errors, limits
from understudy.model.entry import Entry, Key, Role
from understudy.store import Counts, OutboxRow, rows
from understudy.store.codec import NO_ROW, Index, State, decode_entry, index_rows, key_of_row

_KEY_BYTES = 16
_OUTBOX_PAGE_ROWS = 1000
"""Rows of the outbox held at a time."""


class View(Protocol):
    """Everything in one store at one instant, as it lies there."""

    @property
    def state(self) -> State: ...

    def get(self, key: Key) -> Entry | None: ...

    def entries(self) -> Iterator[tuple[Key, Entry | errors.StoreError]]:
        """All entries in the order of their keys; in place of one that cannot be decoded, why not."""

    def named(self) -> list[str]:
        """The members that live entries name, in order."""

    def keys_of(self, member: str, after: Key | None, limit: int) -> list[Key]:
        """Keys of live entries that name ``member``, in order."""

    def index(self, index: Index) -> Iterator[bytes]: ...

    def index_count(self, index: Index) -> int: ...

    def in_index(self, index: Index, row: bytes) -> bool: ...

    def outbox(self, after: int, limit: int) -> list[OutboxRow]: ...

    def counts(self) -> Counts: ...

    def quarantined(self) -> Iterator[tuple[Key, bytes]]:
        """Key and row of each entry that was set aside."""

    def strays(self) -> Iterator[str]:
        """Descriptions of rows and tables that no release of this format writes."""


class Viewable(Protocol):
    """A store that can be looked at as a whole."""

    def view(self) -> AbstractContextManager[View]: ...


class Report(NamedTuple):
    """What a check found: no problems, and the store is whole."""

    problems: tuple[str, ...]
    counts: Counts | None
    """None when the counters themselves cannot be read."""
    quarantined: tuple[str, ...] = ()
    """What each entry is that was set aside: no problem of the store."""


def check(store: Viewable) -> Report:
    """What is wrong in ``store``, one sentence for each problem, and what it holds.

    Cost: decodes every entry once, and looks up each of its index rows; no more than a page of rows in memory.
    """
    problems = _Problems()
    quarantined: tuple[str, ...] = ()
    with store.view() as view:
        try:
            expected = _check_entries(view, problems)
            _check_indexes(view, expected, problems)
            _check_outbox(view, problems)
            for stray in view.strays():
                problems.add(stray)
            counts = view.counts()
            quarantined = tuple(_described(key, row) for key, row in view.quarantined())
        except errors.StoreError as error:
            problems.add(str(error))
            counts = None
    return Report(problems.listed(), counts, quarantined)


def _described(key: Key, row: bytes) -> str:
    """An entry that was set aside, without its values."""
    what = f"entry {key.hex()}, {len(row)} bytes"
    try:
        entry = decode_entry(row)
    except errors.StoreError as error:
        return f"{what}: {error}"
    holders = ", ".join((entry.primary, *entry.backups))
    return f"{what}: {entry.role.name.lower()}, {len(entry.attributes)} attributes, number {entry.number}, on {holders}"


class _Problems:
    """The first problems in words, the others as a number."""

    def __init__(self) -> None:
        self._described: list[str] = []
        self._others = 0

    def add(self, problem: str) -> None:
        if len(self._described) < limits.STORE_PROBLEMS_MAX:
            self._described.append(problem)
        else:
            self._others += 1

    def listed(self) -> tuple[str, ...]:
        more = (f"and {self._others} more problems",) if self._others else ()
        return (*self._described, *more)


def _check_entries(view: View, problems: _Problems) -> dict[Index, int]:
    """Each entry by itself with its index rows, then the counters; gives how many rows each index should have."""
    state = view.state
    expected = dict.fromkeys(Index, 0)
    counted = State(state.copies, state.forget_ms)
    for key, entry in view.entries():
        if isinstance(entry, errors.StoreError):
            problems.add(f"entry {key.hex()}: {entry}")
            continue
        counted.count(key, entry, 1)
        for problem in _entry_problems(key, entry, state):
            problems.add(f"entry {key.hex()}: {problem}")
        for index, row in sorted(index_rows(key, rows(entry, state.copies, state.forget_ms))):
            expected[index] += 1
            if not view.in_index(index, row):
                problems.add(f"entry {key.hex()}: its row in the index {index.name} is missing")
    for name in ("primary", "backup", "proxy", "ended"):
        stored, found = getattr(state, name), getattr(counted, name)
        if stored != found:
            problems.add(f"the counter {name!r} says {stored}, and there are {found}")
    return expected


def _entry_problems(key: Key, entry: Entry, state: State) -> Iterable[str]:
    """What is wrong with one entry, whatever else the store holds."""
    if len(key) != _KEY_BYTES:
        yield f"its key has {len(key)} bytes instead of {_KEY_BYTES}"
    if entry.number > state.number:
        yield f"its number {entry.number} was never given: the last one is {state.number}"
    if entry.ended:
        if entry.attributes:
            yield "it has ended and still holds attributes"
        return
    if entry.primary in entry.backups:
        yield f"{entry.primary!r} is named as primary and as backup"
    if len(set(entry.backups)) != len(entry.backups):
        yield f"a backup is named twice: {', '.join(entry.backups)}"
    if entry.role is Role.PROXY and entry.attributes:
        yield "it is a proxy and holds attributes"
    if state.member:
        if entry.role is Role.PRIMARY and entry.primary != state.member:
            yield f"it is primary here, on {state.member!r}, and names {entry.primary!r}"
        if entry.role is Role.BACKUP and entry.primary == state.member:
            yield f"it is a backup here, on {state.member!r}, and names this member as primary"


def _check_indexes(view: View, expected: dict[Index, int], problems: _Problems) -> None:
    """No index may hold a row that no entry asks for."""
    state = view.state
    for index in Index:
        # All rows that entries ask for have been looked for one by one: equal numbers mean equal sets.
        if view.index_count(index) == expected[index]:
            continue
        for row in view.index(index):
            key = key_of_row(index, row)
            try:
                entry = view.get(key)
            except errors.StoreError:
                continue  # reported with the entries
            wanted = NO_ROW if entry is None else rows(entry, state.copies, state.forget_ms)
            if (index, row) not in index_rows(key, wanted):
                problems.add(f"the index {index.name} has a row for entry {key.hex()} that should not be there")


def _check_outbox(view: View, problems: _Problems) -> None:
    """Each row names a change that its entry contains."""
    number, last = 0, view.state.number
    while page := view.outbox(number, _OUTBOX_PAGE_ROWS):
        for row in page:
            number = row.number
            if number > last:
                problems.add(f"outbox row {number}: the number was never given, the last one is {last}")
            try:
                entry = view.get(row.key)
            except errors.StoreError:
                continue  # reported with the entries
            if entry is None:
                problems.add(f"outbox row {number}: entry {row.key.hex()} is not there")
            elif entry.number < number:
                problems.add(f"outbox row {number}: entry {row.key.hex()} knows changes up to {entry.number} only")
