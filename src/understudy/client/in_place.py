"""May a worker show what its member's store holds, without asking anybody?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from understudy.model.entry import Key, Role
from understudy.store import Reading
from understudy.store.leases import reading_row


class Reads(Protocol):
    """The store, as far as it is needed here."""

    def read(self, key: Key) -> Reading: ...

    def now_ms(self) -> int: ...


def look(store: Reads, key: Key, member: str, lease_until_ms: Callable[[str], int]) -> tuple[Reading, bool]:
    """What the store holds, and whether that may be shown: nothing newer can have been acknowledged when it was read.

    The leases are taken first and the entry is read again after them: one lease then runs from before the look until
    after it. A lease that is only looked at afterwards may have been granted since, to an agent that has found out
    meanwhile that the entry was old; a worker that was stopped in between would not notice.

    Args:
        lease_until_ms: row of the lease board -> until when that lease runs.

    Cost: two look-ups of some microseconds; one where no lease is needed, or none runs.
    """
    reading = store.read(key)
    rows = rows_needed(reading, member)
    if not rows:
        return reading, rows is not None
    until_ms = min(lease_until_ms(row) for row in rows)
    if store.now_ms() >= until_ms:
        return reading, False
    reading = store.read(key)
    return reading, rows_needed(reading, member) == rows and store.now_ms() < until_ms and not _is_over(store, reading)


def rows_needed(reading: Reading, member: str) -> tuple[str, ...] | None:
    """The rows of the lease board that must run; None where it may not be shown at all.

    At the primary those of its backups: while they run none of them can have been promoted. At a backup the read lease
    of its primary, if the entry holds nothing that others who read it may lack.
    """
    entry = reading.entry
    if entry is None or entry.ended or entry.is_outbid:
        return None
    if entry.role is Role.PRIMARY:
        return entry.backups
    if entry.role is not Role.BACKUP or entry.unconfirmed or not reading.settled or member not in entry.backups:
        return None
    return (reading_row(entry.primary),)


def _is_over(store: Reads, reading: Reading) -> bool:
    """Of a backup's copy: its time seems to be over, which only its primary can say."""
    entry = reading.entry
    return entry is not None and entry.role is Role.BACKUP and entry.expired(store.now_ms())
