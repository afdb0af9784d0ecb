"""Entries, commits and deltas for the tests of the pure core: short to write, every field still open."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from understudy.model.commit import Commit, Creation, Outcome, Stamp, committed, created
from understudy.model.delta import Delta, delta_since
from understudy.model.entry import NO_PROMISE, Entry, Epoch, Location, Promise, Role, Sibling, Times

KEY = b"k" * 16
SECRET = b"hash of the secret"
IDLE_MS = 60_000
LIVES = {"a": 101, "b": 102, "c": 103, "d": 104, "e": 105}
"""The incarnation of each member."""
CHOOSERS = {"a": 11, "b": 12, "c": 13, "d": 14, "e": 15}


def stamp(
    number: int, member: str = "a", now_ms: int = 1_000, *, grace_ms: int = 10_000, bytes_max: int = 1 << 20
) -> Stamp:
    """What ``member`` gives to its commit of that number."""
    return Stamp(member, LIVES[member], number, now_ms, grace_ms, bytes_max)


def commit_id(number: int) -> bytes:
    return number.to_bytes(8, "big")


def sets(number: int, secret: bytes = SECRET, **values: bytes) -> Commit:
    """A commit that sets attributes."""
    return Commit(commit_id(number), secret, sets=values)


def deletes(number: int, *names: str) -> Commit:
    """A commit that deletes attributes."""
    return Commit(commit_id(number), SECRET, deletes=names)


def new_session(
    number: int = 1, member: str = "a", backups: Iterable[str] = ("b",), now_ms: int = 1_000, **values: bytes
) -> Entry:
    """The entry of a session that ``member`` has just created."""
    first = Commit(commit_id(number), SECRET, sets=values, creates=Creation(IDLE_MS))
    outcome, entry = created(first, stamp(number, member, now_ms), tuple(backups), CHOOSERS[member])
    assert outcome is Outcome.COMMITTED and entry is not None
    return entry


def after(entry: Entry, commit: Commit, number: int, member: str = "a", now_ms: int = 1_000) -> Entry:
    """The entry after a commit that must succeed."""
    outcome, changed = committed(entry, commit, stamp(number, member, now_ms))
    assert outcome is Outcome.COMMITTED, outcome
    return changed


def backup_of(primary: Entry, **fields: object) -> Entry:
    """The copy that a backup of ``primary`` holds when it has everything."""
    return msgspec.structs.replace(primary, **{"role": Role.BACKUP, "number": 0, **fields})


def proxy(
    primary: str = "b", backups: Iterable[str] = ("c",), epoch: Epoch | None = None, promised: Promise = NO_PROMISE
) -> Entry:
    """What a member that holds no copy knows."""
    return Entry(Role.PROXY, primary, tuple(backups), epoch or Epoch(1, CHOOSERS[primary], 1), promised=promised)


def moved(entry: Entry, **fields: object) -> Entry:
    """The entry with other fields."""
    return msgspec.structs.replace(entry, **fields)


def at_reign(
    entry: Entry, reign: int, primary: str = "b", backups: Iterable[str] = ("c",), list_number: int = 1
) -> Entry:
    """The same data where ``primary`` has taken over under a higher reign."""
    epoch = Epoch(reign, CHOOSERS[primary], list_number)
    return moved(entry, primary=primary, backups=tuple(backups), epoch=epoch)


def whole(entry: Entry, now_ms: int = 1_000) -> Delta:
    """The entry as a message that builds on nothing."""
    return delta_since(entry, {}, now_ms)


def place(
    primary: str, backups: Iterable[str] = (), reign: int = 1, *, list_number: int = 1, ended: bool = False
) -> Location:
    return Location(primary, tuple(backups), Epoch(reign, CHOOSERS[primary], list_number), ended)


def shown(entry: Entry) -> dict[str, bytes]:
    """What an application's reader sees: names without the reserved ones."""
    return {name: value for name in entry.attributes if name[0] != "\x00" and (value := entry.shown(name)) is not None}


def sibling(member: str, number: int, value: bytes, reign: int = 1) -> Sibling:
    return Sibling(LIVES[member], number, reign, value)


def times(
    created_ms: int = 1_000,
    accessed_ms: int = 1_000,
    *,
    idle_ms: int = IDLE_MS,
    absolute_ms: int = 0,
    rotated_ms: int = 0,
) -> Times:
    return Times(created_ms, accessed_ms, rotated_ms, idle_ms, absolute_ms)
