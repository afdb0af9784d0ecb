"""Gives what tools are told about sessions, by ``status`` and ``locate``: keys and counts, no id and no value."""

from __future__ import annotations

import importlib.metadata
from typing import Any

from understudy.model.entry import RESERVED, Entry
from understudy.store import Counts, Reading
from understudy.store.check import Viewable


def read_counts(store: Viewable) -> Counts:
    """How many entries a store holds, by what they are. Raises: StoreError."""
    with store.view() as view:
        return view.counts()


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


def own_version() -> str:
    """The installed release of this package."""
    try:
        return importlib.metadata.version("understudy")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _own_attributes(entry: Entry) -> int:
    """The application's; those that are reserved do not count."""
    return sum(1 for name in entry.attributes if not name.startswith(RESERVED))
