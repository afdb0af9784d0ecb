"""From a start, or a long pause, to ready: whom a member must hear before it believes what it holds.

After a start, and after it has stood still for long, a member is *cold*: others may have taken its place, and the
first things that it hears may be old. It serves and promotes nothing until every member that it knew last has
answered a heartbeat sent since, or ``cold_start_ms`` have passed; then it compares its entries, and is *joining*
until its peers have told it of their sessions. Who loses all others before it is ready is cold again.
"""

from __future__ import annotations

from understudy.protocol import commands as c
from understudy.protocol.absence import Absence
from understudy.protocol.compare import Comparisons
from understudy.protocol.core import Core
from understudy.protocol.inquire import Inquiries
from understudy.protocol.members import Members
from understudy.protocol.serve import Service
from understudy.protocol.sweep import Sweeps

STOOD_STILL_LEASES = 2
"""Leases' time without an event after which a member doubts everything that it believed."""


class Joining:
    """How far one member has come."""

    def __init__(
        self,
        core: Core,
        members: Members,
        comparisons: Comparisons,
        inquiries: Inquiries,
        service: Service,
        sweeps: Sweeps,
        absence: Absence,
    ) -> None:
        self._core = core
        self._members = members
        self._comparisons = comparisons
        self._inquiries = inquiries
        self._service = service
        self._sweeps = sweeps
        self._absence = absence
        self._started = self._has_stood_still = False
        self._warm = False
        self._has_entries = False
        self._until_ms = 0
        self._doubted_ms = 0
        self._awaited: set[str] = set()
        """Members that must answer a heartbeat, or be out of time, before anything old is believed; afterwards those
        that have not answered."""
        self._untransferred: set[str] = set()

    def start(self, event: c.Started) -> None:
        """The agent has opened its store."""
        self._started = True
        self._members.began_empty = not event.has_entries
        if event.has_entries or self._core.settings.lives:
            self._members.keep_earlier_promises()
        awaited = set(event.last_view) - {self._core.me}
        self._absence.start(event)
        self._doubt(awaited, event.has_entries, waits=bool(awaited) or event.expects_peers)
        self.go_on()

    def stood_still(self) -> None:
        """No event came for long: this process, or the machine, was stopped."""
        if not self._warm:
            return
        self._members.ready = self._members.may_publish = False
        self._comparisons.set_back()
        awaited = set(self._members.reachable())
        self._has_stood_still = True
        self._doubt(awaited, has_entries=True, waits=bool(awaited))
        self._core.tell(c.FactKind.STOOD_STILL)

    def _doubt(self, awaited: set[str], has_entries: bool, waits: bool) -> None:
        core = self._core
        self._comparisons.complete = False
        self._awaited, self._has_entries = awaited, has_entries
        self._doubted_ms = core.now_ms
        self._until_ms = core.now_ms + (core.settings.cold_start_ms if waits else 0)
        self._be_warm(False)
        self._inquiries.set_back()
        self._service.is_joining = waits

    def _be_warm(self, warm: bool) -> None:
        self._warm = warm
        self._service.is_cold = self._inquiries.is_cold = not warm

    def go_on(self) -> None:
        """Take the next step if its time has come."""
        core = self._core
        if not self._started or self._members.ready:
            return
        over = core.now_ms >= self._until_ms
        if self._absence.is_outdated:
            if not over or self._absence.is_discarding:
                return
            self._absence.believe()
        if not self._warm:
            if not over and (self._awaited or not self._members.reachable()):
                return
            self._be_warm(True)
            if self._has_entries:
                self._comparisons.begin()
            else:
                self._comparisons.complete = True
                self._members.publish_all()
        if self._comparisons.complete and (over or not self._untransferred):
            self._service.is_joining = False
            self._members.ready = True
            core.tell(c.FactKind.READY)
            self._absence.joined()
            self.take_up()
            for name in sorted(self._awaited):
                self._sweeps.recheck_later(name)

    def discarded(self) -> None:
        """What this member held was too old, and is gone: it joins as an empty one."""
        self._has_entries = False
        self._awaited.clear()
        self.go_on()

    def take_up(self) -> None:
        """Give copies to what lacks them, and send what nobody has acknowledged: peers are there now."""
        self._core.emit(c.Scan(c.ScanKind.OUTBOX, c.Recover()))
        self._sweeps.protect_all()

    def found(self, name: str) -> None:
        """A life that was not known before: it will tell us of its sessions, and we take up what waited for peers."""
        if self._members.ready:
            self.take_up()
        else:
            self._untransferred.add(name)

    def transferred(self, name: str) -> None:
        """A member has told us of all its sessions, or is lost."""
        self._untransferred.discard(name)
        self.go_on()

    def lost(self) -> None:
        """A member is lost. Who has lost them all before it is ready has compared with nobody: it waits as before for
        whom it can hear. (The network of a machine that stood still takes the others for lost soon afterwards.)"""
        if self._warm and not self._members.ready and not self._members.reachable():
            self._members.may_publish = False
            self._comparisons.set_back()
            self._inquiries.set_back()
            self._be_warm(False)

    def answered(self, name: str, sent_ms: int) -> None:
        """A member has answered a heartbeat of ``sent_ms``: what it says from now on is not from before that."""
        if sent_ms >= self._doubted_ms and name in self._awaited:
            self._awaited.discard(name)
            self.go_on()

    def is_there(self, name: str) -> bool:
        """True for who has answered since this machine stood still, a moment ago: its network takes all others for
        lost then, somewhat late. Whether they are, their silence shows."""
        until_ms = self._doubted_ms + self._core.settings.dead_ms
        return self._has_stood_still and name not in self._awaited and self._core.now_ms < until_ms
