"""Read leases: which members may show our sessions in place, where every member holds a copy of everything.

A read lease is this member's promise to another: until it runs out, no change of a session whose primary is here is
acknowledged before you have it. It rides on the acknowledgements of heartbeats, counted from when the heartbeat was
*sent*, as the lease against successors does. It is given only to a *current* member: one that has been brought
everything we hold, and lacks nothing that was acknowledged without it since. So a member that was silent is waited for
until its lease runs out and no longer, and reads here again when it has caught up.

Source: Gray and Cheriton 1989 (leases); Moraru, Andersen, Kaminsky 2014 (quorum leases for local reads).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from understudy.protocol import commands as c
from understudy.protocol.core import Core
from understudy.protocol.members import Member, Members


class Readers:
    """The read leases that one member has given."""

    def __init__(self, core: Core, members: Members, lags: Callable[[str], bool]) -> None:
        self._core = core
        self._members = members
        self._lags = lags
        """True while a member lacks a change that was acknowledged without it."""
        self._until_ms: dict[str, int] = {}
        self._unknown_until_ms = 0
        """Until when leases of an earlier life of ours may run, with anybody."""
        self._sweeps: dict[str, int] = {}
        """Number of the sweep that brings a member everything."""
        self._swept: set[str] = set()
        self._taken_ms: dict[bytes, int] = {}
        """Sessions that came from another primary, and until when that one's readers may not know."""

    @property
    def enabled(self) -> bool:
        return self._core.settings.everywhere

    # --- granting ------------------------------------------------------------------------------------------

    def grant(self, member: Member) -> bool:
        """True if the acknowledgement of this member's heartbeat may grant a read lease; then it is counted."""
        if not self.enabled or not self._members.ready or self._members.leaving or member.leaving:
            return False
        if self._members.in_minority:
            return False
        name = member.name
        if name not in self._swept or not self._members.is_alive(name) or self._lags(name):
            return False
        self._until_ms[name] = self._core.now_ms + self._members.promise_ms
        return True

    def awaited(self, key: bytes, names: Iterable[str]) -> list[str]:
        """Those of ``names`` that may be showing a session in place: without them nothing is acknowledged."""
        now = self._core.now_ms
        if now < self._unknown_until_ms or now < self._taken_ms.get(key, 0):
            return list(names)
        return [name for name in names if now < self._until_ms.get(name, 0)]

    # --- who is current ------------------------------------------------------------------------------------

    def started(self) -> None:
        """An earlier life of ours may have given leases a moment ago."""
        if self.enabled:
            self._unknown_until_ms = self._core.now_ms + self._members.promise_ms

    def took_over(self, key: bytes) -> None:
        """A session came from another primary: those who read it under that one's lease are waited for."""
        if self.enabled:
            self._taken_ms[key] = self._core.now_ms + self._members.promise_ms

    def lost(self, name: str) -> None:
        """What that life acknowledged says nothing of the next; its lease runs on."""
        self._swept.discard(name)
        self._sweeps.pop(name, None)

    def bring(self, name: str) -> None:
        """Bring a member everything: it is current when that has been read to the end and nothing lags."""
        self._swept.discard(name)
        self._sweeps[name] = number = self._core.next_id()
        self._core.emit(c.Scan(c.ScanKind.MEMBER, c.BringAll(name, number), member=self._core.me))

    def bring_all(self) -> None:
        """Bring everything to each member that no sweep has begun for."""
        if self.enabled:
            for name in self._members.reachable():
                if name not in self._sweeps:
                    self.bring(name)

    def brought(self, purpose: c.BringAll) -> None:
        """A sweep has read its list to the end."""
        if self._sweeps.get(purpose.to) == purpose.number:
            self._swept.add(purpose.to)

    def tick(self) -> None:
        now = self._core.now_ms
        for key in [key for key, until in self._taken_ms.items() if now >= until]:
            del self._taken_ms[key]
