"""A store that was away for longer than deletions are remembered merges nothing.

Tombstones live ``forget_ms``. A member that comes back after a longer time may hold sessions that were ended meanwhile
and whose tombstones are gone. So a member notes in its store, now and then, that it lives, and says in its heartbeats
how far back its memory goes without such a gap. One whose gap was too long is *outdated*: it speaks and listens to
nobody but by heartbeats, and answers none, so that nobody waits for it. When it hears a member that remembers more than
``forget_ms``, it discards what it holds and joins as an empty one: what the others know comes from them, what they do
not know is gone. If there is no such member, nothing was forgotten while it was away: everybody was, and all go on.
"""

from __future__ import annotations

import msgspec

from understudy.protocol import commands as c
from understudy.protocol.core import Core
from understudy.protocol.members import Members
from understudy.protocol.messages import Heartbeat, HeartbeatAck, MemberMessage

ALIVE_NOTE, SINCE_NOTE = "alive", "since"
"""The last instant that is noted, and since when no gap was longer than ``forget_ms``; both on the store clock."""
NOTE_MS = 60_000
"""How exactly the time of a death is known afterwards; one small write a minute."""
NOTES_PER_FORGET = 10
"""Where ``forget_ms`` is short, the time of a death is known to a tenth of it."""


class Absence:
    """How long one member was away, and whether what it holds may still be believed."""

    def __init__(self, core: Core, members: Members) -> None:
        self._core = core
        self._members = members
        self._next_note_ms = 0
        self.is_discarding = False

    @property
    def is_outdated(self) -> bool:
        return self._members.outdated

    def start(self, event: c.Started) -> None:
        """The store has been opened: when did it live last?"""
        now, forget_ms = self._core.now_ms, self._core.settings.forget_ms
        was_away = event.alive_ms > 0 and now - event.alive_ms > forget_ms
        self._members.since_ms = now if was_away or not event.since_ms else event.since_ms
        self._members.outdated = was_away and event.has_entries
        if not self._members.outdated:
            self._note_since()

    def takes(self, message: MemberMessage) -> bool:
        """True if a peer's message may be handled: while the store is outdated, only signs of life."""
        if isinstance(message, Heartbeat):
            self._heard(message)
        return not self.is_outdated or isinstance(message, Heartbeat | HeartbeatAck)

    def _heard(self, message: Heartbeat) -> None:
        """A peer lives: has it forgotten what we may not know?"""
        if self.is_outdated and not self.is_discarding and message.remembers_ms > self._core.settings.forget_ms:
            self.is_discarding = True
            self._core.tell(c.FactKind.STORE_OUTDATED)
            self._core.emit(c.Scan(c.ScanKind.ALL, c.DiscardAll()))

    def scanned(self, event: c.Scanned) -> bool:
        """The next keys to discard; True when there are no more."""
        for key in event.keys:
            self._core.emit(c.Change(key, c.Discard()))
        if event.more:
            self._core.emit(msgspec.structs.replace(event.scan, after=event.keys[-1]))
            return False
        self.is_discarding = False
        self.believe()
        return True

    def believe(self) -> None:
        """What is held now may be served and merged: nobody has forgotten what it lacks."""
        self._members.outdated = False
        self._note_since()

    def joined(self) -> None:
        """This member knows what its peers know: its memory reaches as far back as theirs."""
        now = self._core.now_ms
        furthest_ms = max((member.remembers_ms for member in self._members.all()), default=0)
        if now - furthest_ms < self._members.since_ms:
            self._members.since_ms = now - furthest_ms
            self._note_since()

    def _note_since(self) -> None:
        self._core.emit(c.Note(SINCE_NOTE, str(self._members.since_ms).encode()))

    def tick(self) -> None:
        now = self._core.now_ms
        if now >= self._next_note_ms and not self.is_outdated:
            self._next_note_ms = now + min(NOTE_MS, self._core.settings.forget_ms // NOTES_PER_FORGET)
            self._core.emit(c.Note(ALIVE_NOTE, str(now).encode()))
