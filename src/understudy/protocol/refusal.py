"""What a primary does when a holder refuses its copy: that one knows better, or the refusal comes too late to matter.

The refusal names the epoch that the holder knows and what it has promised. A primary learns the whole of what the
others hold, or asks for a higher reign; one that has handed its session over asks only if its heir stands against that.
A tombstone is refused by nobody, but who knows of a later primary says so: it is that one which has to be told.
"""

from __future__ import annotations

from msgspec.structs import replace

from understudy.model.entry import Entry, Promise, Role
from understudy.protocol import commands as c
from understudy.protocol.compare import Comparisons
from understudy.protocol.core import Core
from understudy.protocol.inquire import Inquiries
from understudy.protocol.messages import Announce, Refuse
from understudy.protocol.replicate import Replication
from understudy.protocol.serve import Service


class Refusals:
    """Refused copies of one member, and the tombstones that it takes from one that is primary no more."""

    def __init__(
        self,
        core: Core,
        replication: Replication,
        inquiries: Inquiries,
        comparisons: Comparisons,
        service: Service,
    ) -> None:
        self._core = core
        self._replication = replication
        self._inquiries = inquiries
        self._comparisons = comparisons
        self._service = service

    def looked(self, key: bytes, entry: Entry | None, purpose: c.CompareOne) -> None:
        """A copy of ours was refused: learn the whole of what the others hold, or win a higher reign."""
        if entry is None:
            self._service.again(self._replication.drop(key))
        elif entry.ended:
            if purpose.epoch > entry.epoch:
                self._replication.end_at(key, purpose.asked[-1])
        elif entry.role is not Role.PRIMARY:
            if entry.has_data and _is_hand_over_refused(entry, purpose):
                self._service.again(self._replication.drop(key))
                self._inquiries.begin(key, purpose.promised.reign)
        elif purpose.epoch <= entry.epoch and purpose.promised > Promise(entry.epoch.reign, entry.epoch.chooser):
            self._inquiries.begin(key, purpose.promised.reign)
        else:
            peers = [name for name in purpose.asked if name != self._core.me]
            if not self._comparisons.ask_about(key, entry, peers, whole=True):
                self._inquiries.begin(key)

    def ends_elsewhere(self, event: c.Changed, what: c.CopyIn) -> bool:
        """True for a tombstone from one that is primary no more: it counts when that member is told which is, and may
        show the session until then."""
        entry, me, sender = event.entry, self._core.me, what.sender
        if entry is None or not entry.ended or entry.primary in (me, sender):
            return False
        if entry.epoch <= what.delta.location.epoch:
            return False
        if event.before is None or not event.before.ended:
            self._core.send(entry.primary, Announce(((event.key, entry.location),)))
        self._core.send(sender, Refuse(event.key, what.number, replace(entry.location, ended=False), entry.promised))
        return True


def _is_hand_over_refused(entry: Entry, purpose: c.CompareOne) -> bool:
    """True if who refused stands against the hand-over that made us a backup: no reign has been won by it.

    Any other refusal is of an older copy, and came late: the hand-over is under way, and goes on.
    """
    given = Promise(entry.epoch.reign, entry.epoch.chooser)
    theirs = Promise(purpose.epoch.reign, purpose.epoch.chooser)
    known = max(theirs, purpose.promised)
    if purpose.asked[0] == entry.primary:
        return known.reign >= given.reign and theirs != given
    return known > given
