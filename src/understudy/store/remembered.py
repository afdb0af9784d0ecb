"""One look-up in a read transaction, which decodes no row twice: the rows that a process has decoded lately, by key.

What is remembered is shown only where the transaction finds the same bytes, so it is never older than the store.
Entries are immutable, so two requests may be given the same one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from understudy import limits
from understudy.model.entry import Key
from understudy.store import Reading, codec

_NOTHING = Reading(None, True)


class _Row(NamedTuple):
    raw: bytes
    outbox_row: bytes | None
    """While it is there the entry's last change is not acknowledged; None: the entry has no number."""
    settled: Reading


class Remembered:
    """Safe for threads, and of use to a child of ``fork``: nothing in it belongs to a process or to a store."""

    __slots__ = ("_rows",)

    def __init__(self) -> None:
        self._rows: dict[Key, _Row] = {}

    def look_up(self, transaction: Any, key: Key, outbox: Any) -> Reading:
        """What the store holds in this transaction, which ends here; the same object while that stays the same.

        Raises: what LMDB raises; StoreError, StoreFormatError. Cost: 1 µs, and that of decoding a new row.
        """
        try:
            raw = transaction.get(key)
            if raw is None:
                return _NOTHING
            row = self._rows.get(key)
            if row is None or row.raw != raw:
                row = self._decoded(key, raw)
            if row.outbox_row is None or transaction.get(row.outbox_row, db=outbox) is None:
                return row.settled
            return Reading(row.settled.entry, False)
        finally:
            transaction.abort()

    def last(self, key: Key) -> Reading | None:
        """What the last look-up gave, as settled; None if it is not remembered. It may be of long ago."""
        row = self._rows.get(key)
        return row.settled if row is not None else None

    def _decoded(self, key: Key, raw: bytes) -> _Row:
        entry = codec.decode_entry(raw)
        row = _Row(raw, codec.number_row(entry.number) if entry.number else None, Reading(entry, True))
        if len(raw) <= limits.ENTRY_REMEMBERED_BYTES_MAX:
            if len(self._rows) >= limits.ENTRIES_REMEMBERED_MAX:
                self._rows.clear()
            self._rows[key] = row
        return row
