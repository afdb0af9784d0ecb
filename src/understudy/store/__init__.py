"""The store: one member's entries, shared by its agent and all its workers.

Reading is done in place by anybody; writing by one process at a time, in transactions that change entries, number
the changes, and keep the *outbox* (changes that peers have not acknowledged), all or nothing. ``lmdb`` and ``memory``
implement the two protocols here and pass one conformance suite.

The indexes that a store keeps (by member, by deadline) are functions of the entry, see ``rows``: no caller maintains
them, and ``check`` recomputes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from msgspec import Struct

from understudy.model.commit import Outcome
from understudy.model.entry import Entry, Key, Role

DUE_STEPS = 20
"""Steps of an idle timeout in which the index of deadlines moves, as access times do, see ``touch``."""
DUE_STEP_MS_MAX = 60_000

Change = Callable[[Entry | None], tuple[Outcome, Entry | None]]
"""A pure function from what the store holds to what it shall hold; the same object back means "leave it"."""


class OutboxRow(NamedTuple):
    """One change that peers have not acknowledged yet."""

    number: int
    key: Key
    marked: bool
    """An answer has left although no second machine held the change."""


class Reading(NamedTuple):
    """One look-up by a worker."""

    entry: Entry | None
    settled: bool
    """False while the entry's last change has an outbox row: whoever shows it asks the agent before it answers."""


class Counts(NamedTuple):
    """How many entries a member holds, by what they are."""

    primary: int
    backup: int
    proxy: int
    ended: int
    unprotected: int
    """Primaries that list fewer backups than the manager wants (``status`` counts those too that list lost ones only);
    changes under way are in the outbox besides."""
    outbox: int
    quarantined: int
    """Entries that were set aside because agents died of them; they are none of the above."""
    bytes_used: int
    bytes_max: int


class Owner(NamedTuple):
    """Who writes the store: workers themselves (no agent), or the agent of this incarnation."""

    agent: bool
    incarnation: int
    member: str


class Transaction(Protocol):
    """One write transaction. Leaving its block normally makes everything durable at once; an exception undoes it."""

    def get(self, key: Key) -> Entry | None: ...

    def put(self, key: Key, entry: Entry) -> None:
        """Raises: StoreFull above the hard limit (the transaction is undone)."""

    def remove(self, key: Key) -> None: ...

    def set_aside(self, key: Key) -> None:
        """Remove an entry, also one that cannot be decoded, and keep its row where a person can find it."""

    def change(self, key: Key, change: Change) -> tuple[Outcome, Entry | None]:
        """Apply a pure function to one entry; returns its outcome and what the store holds now.

        ``None`` as the new entry removes it.

        Raises: StoreFull if it would grow above the hard limit: then nothing of this change is written, and the
        transaction goes on.
        """

    def next_number(self) -> int:
        """The next commit number: one more than any before in this store, whatever happened since."""

    def outbox_add(self, number: int, key: Key) -> None: ...

    def outbox_remove(self, numbers: Iterable[int]) -> None: ...

    def outbox_mark(self, numbers: Iterable[int]) -> None: ...

    def outbox(self, after: int, limit: int) -> list[OutboxRow]:
        """Rows with a number above ``after``, in order."""

    def keys(self, after: Key | None, limit: int) -> list[Key]:
        """Keys of all entries above ``after``, in order; ``None`` starts at the beginning."""

    def keys_of(self, member: str, after: Key | None, limit: int) -> list[Key]:
        """Keys of live entries that name ``member`` as primary or backup, in order."""

    def keys_lacking(self, after: Key | None, limit: int) -> list[Key]:
        """Keys of primaries here that list fewer backups than ``copies``, in order."""

    def keys_due(self, now_ms: int, limit: int) -> list[Key]:
        """Keys of entries whose deadline (expiry, or a tombstone's end) is not after ``now_ms``, earliest first; some a
        step (see ``rows``) late.

        All roles: a backup's is among them, and is the caller's to leave alone.
        """

    def counts(self) -> Counts: ...

    def is_nearly_full(self) -> bool:
        """True above the soft limit: new sessions are to be refused."""

    def owner(self) -> Owner | None: ...

    def set_owner(self, owner: Owner | None) -> None: ...

    def note(self, name: str) -> bytes | None:
        """A small value of the member's own: its last view, its counters."""

    def set_note(self, name: str, value: bytes) -> None: ...


class Store(Protocol):
    """One member's entries."""

    def read(self, key: Key) -> Reading:
        """One look-up, without waking anybody. Cost: 2-3 µs and the decoding of the entry."""

    def recall(self, key: Key) -> Reading:
        """What one of this process's earlier look-ups gave, however old, or a look-up if none is remembered."""

    def write(self) -> AbstractContextManager[Transaction]:
        """A write transaction; processes and threads take turns. Never nested."""

    def now_ms(self) -> int:
        """The store clock: milliseconds that never jump, run on through reboots, and mean nothing elsewhere."""

    def close(self) -> None: ...


class Row(Struct, frozen=True, gc=False):
    """Where the indexes list an entry."""

    members: tuple[str, ...]
    lacking: bool
    deadline_ms: int | None


def rows(entry: Entry, copies: int, forget_ms: int) -> Row:
    """The index rows of an entry: a pure function, so that every store keeps the same.

    A proxy is listed by its primary alone: of its backups nothing has to be done, see ``Sweeps.tick``. A deadline moves
    in steps, ``DUE_STEPS`` in an idle timeout, so that most changes leave the index of deadlines as it is.
    """
    if entry.ended_ms:
        return Row((), False, entry.deadline_ms(forget_ms))
    if entry.role is Role.PROXY:
        return Row((entry.primary,), False, None)
    primary, backups, times = entry.primary, entry.backups, entry.times
    deadline_ms = times.deadline_ms
    if deadline_ms is not None:
        deadline_ms += -deadline_ms % min(max(times.idle_timeout_ms // DUE_STEPS, 1), DUE_STEP_MS_MAX)
    names = backups if primary in backups else (primary, *backups)
    return Row(names, entry.role is Role.PRIMARY and len(backups) < copies, deadline_ms)
