"""May a worker show what its member's store holds, without asking anybody?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from understudy.model.entry import Entry, Key, Role
from understudy.store import Reading
from understudy.store.leases import reading_row


class Reads(Protocol):
    """The store, as far as it is needed here."""

    def read(self, key: Key) -> Reading: ...

    def recall(self, key: Key) -> Reading: ...

    def now_ms(self) -> int: ...


def look(store: Reads, key: Key, member: str, lease_until_ms: Callable[[str], int]) -> tuple[Reading, bool, int]:
    """What the store holds; whether that may be shown, so that nothing newer can have been acknowledged when it was
    read; and the instant, on the store clock, of which that was said.

    The leases are taken first and the entry is read after them: one lease then runs from before the look until after
    it. A lease that is only looked at afterwards may have been granted since, to an agent that has found out meanwhile
    that the entry was old; a worker that was stopped in between would not notice. Which leases to take says an earlier
    look, however old: they are the right ones if the entry, as it is read then, needs the same.

    Args:
        lease_until_ms: row of the lease board -> until when that lease runs.

    Cost: one look-up of 1 µs if the entry was read before, else two and its decoding.
    """
    before = store.recall(key)
    rows = rows_needed(before, member)
    until_ms = min(map(lease_until_ms, rows)) if rows else 0
    reading = store.read(key)
    now_ms = store.now_ms()
    serves = (
        rows is not None
        and (now_ms < until_ms or not rows)
        and (reading is before or rows_needed(reading, member) == rows)
        and not _is_over(reading, now_ms)
    )
    return reading, serves, now_ms


def rows_needed(reading: Reading, member: str) -> tuple[str, ...] | None:
    """The rows of the lease board that must run; None where it may not be shown at all.

    At the primary those of its backups: while they run none of them can have been promoted. At a backup the read lease
    of its primary, if the entry holds nothing that others who read it may lack.
    """
    entry = reading.entry
    if entry is None or entry.ended_ms or entry.promised > entry.epoch:  # as ``ended`` and ``is_outbid``, without calls
        return None
    if entry.role is Role.PRIMARY:
        return entry.backups
    if entry.role is not Role.BACKUP or entry.unconfirmed or not reading.settled or member not in entry.backups:
        return None
    return (reading_row(entry.primary),)


def has_ended(entry: Entry, settled: bool) -> bool:
    """True if a session has ended and nobody is shown it any more, on any member; else the agent has to be asked."""
    return entry.ended and settled and not entry.unconfirmed


def has_expired(entry: Entry, now_ms: int) -> bool:
    """True if a session's time is over at its primary: nobody is shown what is left of it there, or asked about it."""
    return entry.expired(now_ms) and entry.role is Role.PRIMARY


def _is_over(reading: Reading, now_ms: int) -> bool:
    """Of a backup's copy: its time seems to be over, which only its primary can say."""
    entry = reading.entry
    return entry is not None and entry.role is Role.BACKUP and entry.expired(now_ms)
