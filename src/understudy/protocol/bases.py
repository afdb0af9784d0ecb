"""What each peer has acknowledged of each session: where the next delta for it begins."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from understudy import limits
from understudy.model.entry import Context


class Base(NamedTuple):
    """What a holder has acknowledged of a session: the next delta begins there."""

    context: Context
    commit: bytes = b""
    """Id of the last commit that it remembers, as far as that is known."""


NO_BASE = Base({})


class Bases:
    """Those of one member's peers; what was acknowledged longest ago by the one with most of them is forgotten first.

    By member, because all of a member's go at once, when its life ends, and that must cost nothing.
    """

    def __init__(self) -> None:
        self._of: dict[str, OrderedDict[bytes, Base]] = {}
        self._count = 0

    def get(self, member: str, key: bytes) -> Base:
        """``NO_BASE`` if nothing is remembered."""
        known = self._of.get(member)
        return NO_BASE if known is None else known.get(key, NO_BASE)

    def note(self, member: str, key: bytes, base: Base) -> None:
        known = self._of.get(member)
        if known is None:
            known = self._of[member] = OrderedDict()
        self._count += key not in known
        known[key] = base
        known.move_to_end(key)
        if self._count > limits.ACKNOWLEDGED_CONTEXTS_MAX:
            max(self._of.values(), key=len).popitem(last=False)
            self._count -= 1

    def drop(self, member: str, key: bytes) -> None:
        """The next delta is the whole entry."""
        known = self._of.get(member)
        if known is not None and known.pop(key, None) is not None:
            self._count -= 1

    def forget(self, member: str) -> None:
        """Nothing that this life of a member acknowledged counts for its next one."""
        self._count -= len(self._of.pop(member, ()))
