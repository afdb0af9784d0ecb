"""Gives what tools are told: the documents that answer ``status`` and ``locate``. No id, no value, only keys and counts."""

from __future__ import annotations

from typing import Any

from understudy.model.entry import Entry
from understudy.store import Counts, Reading


def counts_document(counts: Counts) -> dict[str, int]:
    """How many sessions this member holds, by role, and what its store takes."""
    return dict(counts._asdict())


def entry_document(key: bytes, reading: Reading, member: str) -> dict[str, Any]:
    """What ``member`` holds for one key."""
    entry = reading.entry
    document: dict[str, Any] = {"key": key.hex(), "member": member, "known": entry is not None}
    if entry is None:
        return document
    return document | {
        "role": "ended" if entry.ended else entry.role.name.lower(),
        "primary": entry.primary,
        "backups": list(entry.backups),
        "epoch": list(entry.epoch),
        "ended": entry.ended,
        "settled": reading.settled,
        "attributes": 0 if entry.ended else _own_attributes(entry),
    }


def _own_attributes(entry: Entry) -> int:
    """The application's; those that are reserved do not count."""
    return sum(1 for name in entry.attributes if not name.startswith("\x00"))
