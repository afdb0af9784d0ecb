"""Work on many sessions, a few at a time: after a loss, at expiry, at leaving.

Every sweep is a scan of one of the store's lists. The executor runs scans between the requests, a bounded number of
entries each, and a list is read on only when most of what it led to is finished, so that a hundred thousand sessions
never stand in anybody's way.
"""

from __future__ import annotations

from collections import deque

import msgspec

from understudy import limits
from understudy.model.commit import Outcome
from understudy.model.entry import Entry, Epoch, Role
from understudy.protocol import commands as c
from understudy.protocol.compare import Comparisons
from understudy.protocol.core import Core
from understudy.protocol.entrust import Entrustments
from understudy.protocol.inquire import Inquiries
from understudy.protocol.members import Members
from understudy.protocol.messages import Accessed, Forget, Item
from understudy.protocol.replicate import Replication

REAP_MS = 1_000
URGENT_MS = 2 * REAP_MS
"""A use that is told with the next batch is known there by then."""
LEAVE_AGAIN_MS = 100
ORPHAN_MS = 2_000
"""How long a Release may be on its way."""


class Sweeps:
    """Losses, expiry and leaving of one member."""

    def __init__(
        self,
        core: Core,
        members: Members,
        replication: Replication,
        entrustments: Entrustments,
        inquiries: Inquiries,
        comparisons: Comparisons,
    ) -> None:
        self._core = core
        self._members = members
        self._replication = replication
        self._entrustments = entrustments
        self._inquiries = inquiries
        self._comparisons = comparisons
        self._recheck_ms: dict[str, int] = {}
        self._second_ms: dict[str, int] = {}
        self._reap_ms = 0
        self._orphans: dict[bytes, int] = {}
        self._ages: dict[str, dict[bytes, int]] = {}
        self._is_urgent = False
        """Some of these uses are of sessions that may be about to expire."""
        self._waiting: deque[c.Scan] = deque()
        self._begun: set[bytes] = set()
        self._forgotten: list[tuple[bytes, Epoch]] = []
        self.drained = False
        self._leave_ms = 0
        self._leave_until_ms = 0
        self._leave_remaining = 0
        self._leave_scanning = False

    # --- use and expiry -------------------------------------------------------------------------------------

    def accessed(self, key: bytes, entry: Entry | None, before: Entry | None, age_ms: int, primary: str = "") -> None:
        """Let those who must know learn that a session was used: its primary, or from there its backups.

        With the next batch; at once where the session may expire there before that one comes. Where places are
        computed, a member that holds no copy keeps no entry either: it tells the ``primary`` that its worker knows of.
        """
        if entry is None:
            to: tuple[str, ...] = (primary,)
        else:
            to = entry.backups if entry.role is Role.PRIMARY else (entry.primary,)
        for name in to:
            if name and name != self._core.me:
                self._ages.setdefault(name, {})[key] = self._core.now_ms - age_ms
        self._is_urgent |= before is None or not before.has_data or before.expired(self._core.now_ms + URGENT_MS)

    def forget(self, key: bytes, before: Entry) -> None:
        """This primary has expired a session: the others drop what they hold of it."""
        self._core.tell(c.FactKind.SESSION_EXPIRED, key)
        self._replication.drop(key)
        self._forgotten.append((key, before.epoch))

    def flush(self) -> None:
        """Send what has gathered in this turn."""
        self._go_on()
        if self._is_urgent:
            self._send_ages()
        if self._forgotten:
            forgotten, self._forgotten = self._forgotten, []
            for name in self._members.reachable():
                self._core.send(name, Forget(tuple(forgotten)))

    # --- losses, returns, new lives ------------------------------------------------------------------------

    def recheck_later(self, name: str) -> None:
        """Look at everything that names a member, when it has had the time to come back."""
        self._recheck_ms.setdefault(name, self._core.now_ms + self._core.settings.sweep_delay_ms)

    def recheck_now(self, name: str) -> None:
        self._recheck_ms.pop(name, None)
        self._core.emit(c.Scan(c.ScanKind.MEMBER, c.Recheck(name), member=name))

    def protect_all(self) -> None:
        """Give backups to all primaries here that lack one."""
        self._core.emit(c.Scan(c.ScanKind.LACKING, c.Protect()))
        self._replication.readers.bring_all()

    def bring(self, key: bytes, entry: Entry | None, to: str) -> None:
        """One session whose primary is here, for a member that shall read it in place."""
        if entry is None or entry.role is not Role.PRIMARY or entry.ended or not self._members.is_reachable(to):
            return
        self.note(key)
        if to in entry.backups:
            self._replication.recheck(key, entry, to)
        else:
            self._replication.protect(key, entry)

    def rechecked(self, key: bytes, purpose: c.Recheck, entry: Entry | None) -> None:
        """One entry that names a lost, returned or leaving member ("" is a retry of an inquiry).

        The first living holder takes over; another one when a second look finds that it has not.
        """
        if entry is None or entry.ended:
            return
        name = purpose.member
        self.note(key)
        if not self._members.ready:
            # What this member believes of the others may be old: nothing is given up or taken over on it.
            if name:
                self._recheck_ms[name] = self._core.now_ms + self._core.settings.sweep_delay_ms
            else:
                self._inquiries.try_again(key)
            return
        if entry.role is Role.PRIMARY:
            if name in entry.backups:
                self._recheck_backup(key, entry, name)
        elif self._members.is_reachable(entry.primary) and entry.primary != name:
            return
        elif entry.role is Role.BACKUP:
            if (name != entry.primary and name) or self._hands_over(name):
                return
            listed = [b for b in entry.backups if b == self._core.me or self._members.is_alive(b)]
            if not listed or listed[0] == self._core.me or purpose.is_second:
                self._inquiries.begin(key)
            elif name:
                # It may have been released since, and the word of that been lost with the primary.
                self._second_ms.setdefault(name, self._core.now_ms + self._core.settings.sweep_delay_ms)
        elif self._members.in_minority or self._members.may_be_cut_off:
            if name:
                self.recheck_later(name)  # they may all be on the other side
        elif not any(self._members.is_reachable(m) for m in (entry.primary, *entry.backups)):
            self._core.emit(c.Change(key, c.DropLost(entry.epoch)))

    def _hands_over(self, name: str) -> bool:
        """A primary that leaves and can be reached names its successor itself."""
        member = self._members.get(name)
        return member is not None and member.is_reachable and member.leaving

    def _recheck_backup(self, key: bytes, entry: Entry, name: str) -> None:
        member = self._members.get(name)
        if member is not None and member.is_reachable and not member.leaving:
            self._replication.recheck(key, entry, name)
        elif self._entrustments.protect(key, entry) or self._members.is_reachable(name):
            return
        elif self._members.in_minority or not self._replication.give_up_dead(key, entry):
            # It may be primary on the other side, or read here under a lease: nothing is shown without its word.
            self.recheck_later(name)

    def lost(self, event: c.Changed) -> None:
        """A proxy entry was dropped: none of its holders lives."""
        if event.outcome is Outcome.REMOVED:
            self._core.tell(c.FactKind.SESSION_LOST, event.key)

    def watch(self, key: bytes, entry: Entry) -> None:
        """Remember a copy that its primary does not list: a Release is on its way, or was lost."""
        if entry.role is Role.BACKUP and self._core.me not in entry.backups and not entry.ended:
            self._orphans.setdefault(key, self._core.now_ms + ORPHAN_MS)
        elif self._orphans:
            self._orphans.pop(key, None)

    def orphan_looked(self, key: bytes, entry: Entry | None) -> None:
        """Take what the primary has and keep nothing that is not ours to keep, see Comparisons.stepped_down."""
        self._orphans.pop(key, None)
        if entry is None or entry.role is not Role.BACKUP or self._core.me in entry.backups or entry.ended:
            return
        self._orphans[key] = self._core.now_ms + ORPHAN_MS
        self._comparisons.ask_about(key, entry, (entry.primary,), whole=True)

    # --- scans ---------------------------------------------------------------------------------------------

    def scanned(self, event: c.Scanned) -> None:
        """The next keys of a sweep: read them, go on."""
        scan, purpose = event.scan, event.scan.purpose
        if event.keys:
            self._core.emit(c.Read(event.keys, purpose))
        if event.more:
            self._waiting.append(msgspec.structs.replace(scan, after=event.keys[-1]))
        elif isinstance(purpose, c.BringAll):
            self._replication.readers.brought(purpose)
        elif isinstance(purpose, c.Leave):
            self._leave_scanning = False

    def note(self, key: bytes) -> None:
        """A sweep has begun something with this session."""
        self._begun.add(key)

    def _go_on(self) -> None:
        """Scan on where enough of what was begun is finished: the others' stores and the network set the pace."""
        if not self._waiting:
            return
        flights, entrusted, inquiries = self._replication.flights, self._entrustments.open, self._inquiries.open
        self._begun = {key for key in self._begun if key in flights or key in entrusted or key in inquiries}
        if len(self._begun) < limits.SWEPT_IN_FLIGHT_MAX:
            self._core.emit(self._waiting.popleft())

    def describe(self) -> dict[str, int]:
        """How much of sweeps is under way: sessions begun and not finished, lists not read to their end."""
        return {"sessions_in_flight": len(self._begun), "lists": len(self._waiting)}

    # --- expiry --------------------------------------------------------------------------------------------

    def reaped(self, key: bytes, entry: Entry | None) -> None:
        """One entry that is due: only a primary expires a session."""
        if entry is None:
            return
        if entry.ended:
            self._core.emit(c.Change(key, c.Expire()))
        elif entry.role is Role.PRIMARY:
            # While this member doubts what it holds, or is cut off, another may be primary, and have seen it used.
            if self._members.ready and self._comparisons.is_compared(key) and not self._members.in_minority:
                self._core.emit(c.Change(key, c.Expire()))
        elif self._members.is_reachable(entry.primary):
            # It may have been used since; or its primary has expired it, and the word of that was lost.
            self._comparisons.compare_with_primary(entry.primary, [Item(key, entry.epoch, {})])
        elif self._members.ready:
            self._inquiries.begin(key)

    # --- leaving -------------------------------------------------------------------------------------------

    def leave(self) -> None:
        """Hand over everything, then be drained."""
        if self._members.leaving:
            return
        self._members.announce_leaving()
        self._leave_until_ms = self._core.now_ms + self._core.settings.drain_timeout_ms
        self._leave_ms = self._core.now_ms

    def left(self, key: bytes, entry: Entry | None) -> None:
        """One entry that names this member, while it leaves."""
        if entry is None or entry.ended:
            return
        if entry.role is Role.BACKUP and self._core.me in entry.backups:
            others = self._members.can_place(exclude=(entry.primary, *entry.backups))
            if others and self._members.is_alive(entry.primary):
                self._leave_remaining += 1
            return
        if entry.role is not Role.PRIMARY:
            return
        self.note(key)
        heirs = [b for b in entry.backups if self._is_heir(b)]
        if key in self._replication.flights:
            self._leave_remaining += 1 if heirs or self._members.can_place() else 0
        elif heirs:
            self._leave_remaining += 1
            self._core.emit(c.Change(key, c.HandOver(heirs[0])))
        elif self._replication.protect(key, entry, widen=True):
            self._leave_remaining += 1

    def _is_heir(self, name: str) -> bool:
        member = self._members.get(name)
        return member is not None and self._members.is_alive(name) and not member.leaving

    def _leave_tick(self) -> None:
        now = self._core.now_ms
        if not self._members.leaving or self.drained or now < self._leave_ms or self._leave_scanning:
            return
        done = (
            self._leave_remaining == 0 and self._leave_ms > self._leave_until_ms - self._core.settings.drain_timeout_ms
        )
        if (done and not self._replication.flights) or now >= self._leave_until_ms:
            self.drained = True
            self._core.tell(c.FactKind.DRAINED, detail="" if done else "the time was over before all was handed over")
            return
        self._leave_remaining = 0
        self._leave_scanning = True
        self._leave_ms = now + LEAVE_AGAIN_MS
        self._core.emit(c.Scan(c.ScanKind.MEMBER, c.Leave(), member=self._core.me))

    # --- time ----------------------------------------------------------------------------------------------

    def tick(self) -> None:
        now = self._core.now_ms
        due_names = [name for name in self._recheck_ms if now >= self._due_ms(self._recheck_ms, name)]
        for name in due_names:
            self.recheck_now(name)
        for name in [name for name in self._second_ms if now >= self._due_ms(self._second_ms, name)]:
            del self._second_ms[name]
            if not self._members.is_reachable(name):
                self._core.emit(c.Scan(c.ScanKind.MEMBER, c.Recheck(name, is_second=True), member=name))
        if due_names:
            # A proxy is listed by its primary alone: these may have been the backups of one that was lost before.
            for member in self._members.all():
                if not member.is_reachable and member.name not in due_names and member.name not in self._recheck_ms:
                    self.recheck_now(member.name)
        if now >= self._reap_ms:
            self._reap_ms = now + REAP_MS
            self._core.emit(c.Scan(c.ScanKind.DUE, c.Reap()))
            self._send_ages()
            due = [key for key, instant in self._orphans.items() if now >= instant][: limits.BATCH_ENTRIES_MAX]
            if due:
                self._core.emit(c.Read(tuple(due), c.Orphan()))
        self._leave_tick()

    def _due_ms(self, planned: dict[str, int], name: str) -> int:
        """When that look at a member is due. One that has come back and is lost again has the time anew."""
        return max(planned[name], self._members.gone_ms(name) + self._core.settings.sweep_delay_ms)

    def _send_ages(self) -> None:
        ages, self._ages, self._is_urgent, now = self._ages, {}, False, self._core.now_ms
        for name, instants in ages.items():
            if self._members.is_reachable(name):
                told = tuple((key, now - instant) for key, instant in instants.items())
                for start in range(0, len(told), limits.BATCH_ENTRIES_MAX):
                    self._core.send(name, Accessed(told[start : start + limits.BATCH_ENTRIES_MAX], now))

    def deadline_ms(self) -> int:
        soonest_ms = self._reap_ms
        for planned in (self._recheck_ms, self._second_ms):
            for name in planned:
                soonest_ms = min(soonest_ms, self._due_ms(planned, name))
        if self._members.leaving and not self.drained and not self._leave_scanning:
            soonest_ms = min(soonest_ms, self._leave_ms)
        return soonest_ms
