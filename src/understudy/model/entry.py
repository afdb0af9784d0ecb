"""What one member holds of one session: the entry, its role table, its contexts and dots.

Everything here is an immutable value. Times are milliseconds on the member's own *store clock* (it runs on through
reboots and never jumps); between members they travel as ages, see ``delta``.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from understudy import limits

Key = bytes
"""16 bytes: keyed hash of application and locator; names a session in stores and messages."""

Context = dict[int, int]
"""Incarnation of a primary -> its highest commit number that a copy has seen."""

OVER = (1 << 63) - 1
"""In place of that number: the incarnation has ended long ago, and all of it has been seen. See ``finished``."""

RESERVED = "\x00"
"""First character of the names that belong to us; an application's attribute name never starts with it."""
SECRETS = RESERVED + "secrets"
"""Attribute that holds the hashes of the current and the previous secret, see ``secrets``."""
PRINCIPAL = RESERVED + "principal"
"""Attribute that holds who is logged in; a rotation that changes it is a login."""


class Role(enum.IntEnum):
    """What this member is for one session."""

    PRIMARY = 1
    BACKUP = 2
    PROXY = 3


ROLE_CHANGES: dict[tuple[Role | None, Role], str] = {
    (None, Role.PRIMARY): "created, or handed over by a primary that leaves",
    (None, Role.BACKUP): "chosen as a backup",
    (None, Role.PROXY): "told where the session is",
    (Role.PRIMARY, Role.BACKUP): "handed over, or stepped down for a higher epoch",
    (Role.BACKUP, Role.PRIMARY): "promoted, or handed over by the primary",
    (Role.BACKUP, Role.PROXY): "released by the primary",
    (Role.PROXY, Role.BACKUP): "chosen as a backup",
    (Role.PROXY, Role.PRIMARY): "handed over by a primary that leaves",
}
"""Every change of role that may happen, and why. A pair that is not here is a broken invariant."""


class Epoch(NamedTuple):
    """Totally ordered: who may be primary. It decides roles, never data."""

    reign: int
    """Raised by every promotion or move."""
    chooser: int
    """Hash of the promoting member's name and incarnation: two promotions of one reign differ."""
    list_number: int
    """Raised by every change of the backup list within a reign."""

    @property
    def next_list(self) -> Epoch:
        return Epoch(self.reign, self.chooser, self.list_number + 1)


class Promise(NamedTuple):
    """A member that gave it acknowledges nothing for the key under a lower reign."""

    reign: int
    chooser: int


NO_PROMISE = Promise(0, 0)


class Location(msgspec.Struct, frozen=True, array_like=True):
    """Where a session is: all that a proxy knows, and what every message about roles carries."""

    primary: str
    backups: tuple[str, ...]
    epoch: Epoch
    ended: bool = False
    """The session was deleted; ``epoch`` no longer matters."""


class Sibling(msgspec.Struct, frozen=True, array_like=True):
    """One value of one attribute with its dot; several stand side by side only while they are concurrent."""

    incarnation: int
    number: int
    reign: int
    value: bytes

    @property
    def dot(self) -> tuple[int, int]:
        return (self.incarnation, self.number)

    @property
    def rank(self) -> tuple[int, int, int]:
        """Which of several concurrent values is shown: the higher reign, then the higher dot."""
        return (self.reign, self.number, self.incarnation)


Attributes = dict[str, tuple[Sibling, ...]]


class Times(msgspec.Struct, frozen=True, array_like=True):
    """When things happened, on the store clock of the member that holds this copy; timeouts are durations."""

    created_ms: int
    accessed_ms: int
    rotated_ms: int = 0
    idle_timeout_ms: int = 0
    """0: never expires by idleness."""
    absolute_timeout_ms: int = 0
    """0: no absolute limit."""

    @property
    def deadline_ms(self) -> int | None:
        """The instant from which the session has expired, or None if it never does."""
        idle_ms = self.accessed_ms + self.idle_timeout_ms if self.idle_timeout_ms else None
        if not self.absolute_timeout_ms:
            return idle_ms
        absolute_ms = self.created_ms + self.absolute_timeout_ms
        return absolute_ms if idle_ms is None else min(idle_ms, absolute_ms)

    def over(self, now_ms: int) -> bool:
        """True from ``deadline_ms`` on. (Each read asks; so it makes nothing to compare with.)"""
        idle_ms, absolute_ms = self.idle_timeout_ms, self.absolute_timeout_ms
        if idle_ms and now_ms >= self.accessed_ms + idle_ms:
            return True
        return absolute_ms != 0 and now_ms >= self.created_ms + absolute_ms


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """What one member holds for one session. A proxy's holds no data: location, epoch, promise."""

    role: Role
    primary: str
    backups: tuple[str, ...]
    epoch: Epoch
    promised: Promise = NO_PROMISE
    context: Context = {}
    attributes: Attributes = {}
    recent: tuple[bytes, ...] = ()
    """Ids of the last commits, oldest first: a commit repeated after a lost answer is applied once."""
    times: Times = Times(0, 0)
    number: int = 0
    """Number of the last change of this entry that peers must acknowledge: its outbox row is there until they did."""
    ended_ms: int = 0
    """Not 0: a tombstone since then; only explicit deletion makes one, and it wins over everything."""
    unconfirmed: bool = False
    """Of a copy that may be read in place: its primary has not said yet that all who read it have these values."""

    @property
    def location(self) -> Location:
        return Location(self.primary, self.backups, self.epoch, self.ended)

    @property
    def ended(self) -> bool:
        return self.ended_ms != 0

    @property
    def is_outbid(self) -> bool:
        """True when a higher reign than this entry's was promised: somebody else may be primary already."""
        return self.promised > self.epoch  # of one reign and chooser the promise is the shorter tuple, so the lower

    @property
    def has_data(self) -> bool:
        """True for a copy of a live session: primary or backup."""
        return self.role is not Role.PROXY and not self.ended_ms

    def deadline_ms(self, forget_ms: int) -> int | None:
        """When this entry is due: a session's expiry, a tombstone's end; a proxy has none."""
        if self.ended_ms:
            return self.ended_ms + forget_ms
        return None if self.role is Role.PROXY else self.times.deadline_ms

    def expired(self, now_ms: int) -> bool:
        """True when the session's time is over at ``now_ms``; only its primary may act on it."""
        return self.times.over(now_ms) and self.has_data

    def shown(self, name: str) -> bytes | None:
        """The encoded value that a reader sees, or None. Cost: siblings of one attribute."""
        siblings = self.attributes.get(name)
        if not siblings:
            return None
        return siblings[0].value if len(siblings) == 1 else max(siblings, key=lambda s: s.rank).value


def names_session(key: Key) -> bool:
    """True for the key of a session, False for a part of a replicated dictionary. Guarantee: all sessions' keys come
    before all others in order."""
    return key[0] < 0x80


def changed_role(entry: Entry | None, role: Role) -> Role:
    """``role``, after checking that the table allows the change from what ``entry`` is now."""
    before = entry.role if entry is not None else None
    assert before is role or (before, role) in ROLE_CHANGES, f"no role change from {before!r} to {role!r}"
    return role


def role_at(member: str, location: Location) -> Role:
    """The role that ``location`` gives to ``member``."""
    if member == location.primary:
        return Role.PRIMARY
    return Role.BACKUP if member in location.backups else Role.PROXY


def contains(context: Context, incarnation: int, number: int) -> bool:
    """True if a copy with ``context`` has seen the dot."""
    return context.get(incarnation, 0) >= number


def covers(context: Context, base: Context) -> bool:
    """True if everything that ``base`` has seen, ``context`` has seen too. (Who names an incarnation no more has seen
    the end of it.)"""
    for incarnation, number in base.items():
        if context.get(incarnation, 0) < number and (number != OVER or incarnation in context):
            return False
    return True


def united(left: Context, right: Context) -> Context:
    """The context of a copy that has seen what either has seen."""
    joined = dict(left)
    for incarnation, number in right.items():
        if joined.get(incarnation, 0) < number:
            joined[incarnation] = number
    return joined if len(joined) <= limits.CONTEXT_OVER_MAX else bounded(joined)


def finished(context: Context, incarnations: Iterable[int]) -> Context:
    """``context`` having seen the last of ``incarnations``: of them nothing is carried, and nothing new can come.

    That they are over is remembered for a while, so that it reaches all copies as any news does, and a copy that still
    carries a value of theirs has lost it by that; then they leave the context.
    """
    return bounded({**context, **dict.fromkeys((i for i in incarnations if i in context), OVER)})


def bounded(context: Context) -> Context:
    """``context`` with no more than ``CONTEXT_OVER_MAX`` incarnations that are over, those that came into it last."""
    over = [incarnation for incarnation, number in context.items() if number == OVER]
    left = set(over[: max(0, len(over) - limits.CONTEXT_OVER_MAX)])
    return {i: n for i, n in context.items() if i not in left} if left else context


def going(context: Context) -> list[tuple[int, int]]:
    """What two copies must agree on, in order: which incarnations are over they tell each other in passing."""
    return sorted(item for item in context.items() if item[1] != OVER)
