"""Which incarnations have been over for so long that a session's context need not name them any more.

Each start of an agent that commits adds an incarnation to the contexts of the sessions it writes, and a session or a
part of a dictionary may live for years. An incarnation that the patrol meets in a context, and that is no life of a
reachable member, is noted with the instant and the number; when nothing newer of it was seen for ``forget_ms``, it is
over: copies that could still hold something of it have been compared since, and a store that was away for as long is
discarded. Then the primary's entry says so (``model.entry.finished``), and the copies learn it by merging. Not while a
member is missing: what is out of reach for so long may be cut off, and go on.

The notes outlive the agent, which is replaced more often than once in ``forget_ms`` where a service is deployed daily.
"""

from __future__ import annotations

import msgspec

from understudy import limits
from understudy.model.entry import OVER, Entry
from understudy.protocol import commands as c
from understudy.protocol.core import Core
from understudy.protocol.members import Members

OVER_NOTE = "over"

Seen = dict[int, tuple[int, int]]
"""Incarnation -> since when nothing newer of it was seen, and the number seen last."""

_SEEN = msgspec.msgpack.Decoder(Seen)


class Lives:
    """What one member knows of lives that are over."""

    def __init__(self, core: Core, members: Members) -> None:
        self._core = core
        self._members = members
        self._seen: Seen = {}
        self._is_noted = True

    def start(self, noted: bytes) -> None:
        """What an earlier life of this member knew."""
        self._seen = _SEEN.decode(noted) if noted else {}

    def over_in(self, entry: Entry) -> tuple[int, ...]:
        """The incarnations that may leave the context of an entry. Cost: nothing where it names few."""
        if len(entry.context) < limits.CONTEXT_FINISHED_FROM or not self._members.is_whole():
            return ()
        carried = {s.incarnation for siblings in entry.attributes.values() for s in siblings}
        return tuple(
            incarnation
            for incarnation, number in entry.context.items()
            if number != OVER and self._is_over(incarnation, number) and incarnation not in carried
        )

    def _is_over(self, incarnation: int, number: int) -> bool:
        now = self._core.now_ms
        if incarnation == self._core.settings.incarnation or self._members.lives(incarnation):
            self._is_noted &= self._seen.pop(incarnation, None) is None
            return False
        since_ms, last = self._seen.get(incarnation, (now, -1))
        if number > last:
            self._note(incarnation, now, number)
            return False
        return now - since_ms > self._core.settings.forget_ms

    def _note(self, incarnation: int, now: int, number: int) -> None:
        self._seen.pop(incarnation, None)
        self._seen[incarnation] = (now, number)
        while len(self._seen) > limits.LIVES_OVER_MAX:
            del self._seen[next(iter(self._seen))]
        self._is_noted = False

    def end_page(self) -> None:
        """Keep what has been learnt."""
        if not self._is_noted:
            self._is_noted = True
            self._core.emit(c.Note(OVER_NOTE, msgspec.msgpack.encode(self._seen)))
