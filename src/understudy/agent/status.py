"""Gives what tools are told about sessions, by ``status`` and ``locate``: keys and counts, no id and no value."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Collection
from typing import Any

from understudy import limits
from understudy.model.entry import RESERVED, Entry, Role
from understudy.store import Counts, Reading
from understudy.store.check import Viewable


def read_counts(store: Viewable) -> Counts:
    """How many entries a store holds, by what they are. Raises: StoreError."""
    with store.view() as view:
        return view.counts()


def counted_among(store: Viewable, living: Collection[str]) -> dict[str, Any]:
    """How many sessions this member holds, as ``counts_document``, where backups that do not live protect nothing.

    ``unprotected`` counts every primary that has fewer living backups than the manager wants; ``unprotected_more`` is
    true if there were too many entries to look into, so that there may be more. Raises: StoreError. Cost: one look-up
    for each entry that names a lost member, up to ``UNPROTECTED_COUNTED_MAX``.
    """
    with store.view() as view:
        counts, copies = view.counts(), view.state.copies
        lost = [name for name in view.named() if name not in living]
        seen: set[bytes] = set()
        for name in lost:
            seen.update(view.keys_of(name, None, limits.UNPROTECTED_COUNTED_MAX + 1 - len(seen)))
        more = len(seen) > limits.UNPROTECTED_COUNTED_MAX
        listed = (view.get(key) for key in sorted(seen)[: limits.UNPROTECTED_COUNTED_MAX])
        unprotected = sum(
            entry is not None
            and entry.role is Role.PRIMARY
            and len(entry.backups) >= copies > sum(name in living for name in entry.backups)
            for entry in listed
        )
    counts = counts._replace(unprotected=counts.unprotected + unprotected)
    return {**counts_document(counts), "unprotected_more": more}


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
