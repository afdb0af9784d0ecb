"""The engine: events in, commands out. It holds members, leases and work in flight, never entries.

``handle(event, now_ms)`` returns the commands that the event causes; the executor carries them out in order and
hands their results back as events at once. ``flush`` is called when a turn's events are done, ``deadline_ms`` says
when ``Ticked`` is due. Nothing here reads a clock, draws a random number or touches a socket.
"""

from __future__ import annotations

from typing import Any

import msgspec

from understudy.model.commit import Outcome
from understudy.model.entry import Entry, Role
from understudy.protocol import commands as c
from understudy.protocol import messages as m
from understudy.protocol.join import STOOD_STILL_LEASES
from understudy.protocol.members import Member
from understudy.protocol.parts import Parts
from understudy.protocol.receive import Receiver


class Engine:
    """One member's part in the protocol."""

    def __init__(self, settings: c.Settings) -> None:
        self.parts = Parts(settings)
        self.core = self.parts.core
        self.members = self.parts.members
        self.replication = self.parts.replication
        self.entrustments = self.parts.entrustments
        self.comparisons = self.parts.comparisons
        self.inquiries = self.parts.inquiries
        self.moves = self.parts.moves
        self.refusals = self.parts.refusals
        self.service = self.parts.service
        self.sweeps = self.parts.sweeps
        self.directory = self.parts.directory
        self.patrol = self.parts.patrol
        self.joining = self.parts.joining
        self.absence = self.parts.absence
        self._receiver = Receiver(self.parts)
        self._deadlines = (
            self.replication.deadline_ms,
            self.entrustments.deadline_ms,
            self.inquiries.deadline_ms,
            self.comparisons.deadline_ms,
            self.service.deadline_ms,
            self.moves.deadline_ms,
            self.directory.deadline_ms,
            self.patrol.deadline_ms,
        )
        self._view: tuple[str, ...] = ()

    # --- the interface -------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """True when this member serves everything that its peers do, and while it does not leave."""
        return self.members.ready and not self.members.leaving

    @property
    def drained(self) -> bool:
        return self.sweeps.drained

    @property
    def refusal(self) -> str:
        """Why this member may not be part of the cluster: its agent has to end. Empty if it may."""
        return self.parts.agreement.refusal

    def handle(self, event: c.Event, now_ms: int) -> list[c.Command]:
        """What ``event`` causes. ``now_ms``: the store clock, which never goes back."""
        core = self.core
        if now_ms > core.now_ms:
            self._time_passed(now_ms)
        match event:
            case c.Received():
                self._received(event)
            case c.Changed():
                self._changed(event)
            case c.Looked():
                self._looked(event)
            case c.Scanned():
                self._scanned(event)
            case c.Requested(ticket=ticket, request=request):
                self._requested(ticket, request)
            case c.Abandoned(ticket=ticket):
                self.service.abandoned(ticket)
            case c.Ticked():
                self._ticked()
            case c.PeerFound(name=name, incarnation=incarnation):
                self._found(name, incarnation, shown=True)
            case c.PeerLost(name=name, incarnation=incarnation):
                if not self.joining.is_there(name):
                    self._lost(name, incarnation)
            case c.DrainAsked():
                self.sweeps.leave()
            case c.Started():
                self.replication.started(event.has_entries)
                self.parts.readers.started()
                self.parts.lives.start(event.over)
                self.joining.start(event)
        return core.take()

    def _time_passed(self, now_ms: int) -> None:
        stood_still_ms = now_ms - self.core.now_ms if self.core.now_ms else 0
        self.core.now_ms = now_ms
        if stood_still_ms > STOOD_STILL_LEASES * self.core.settings.lease_ms:
            self.joining.stood_still()
            self.service.stood_still(stood_still_ms)
            self.replication.stood_still(stood_still_ms)

    def flush(self) -> list[c.Command]:
        """What the events of one turn have gathered: batched messages."""
        self.inquiries.flush()
        self.comparisons.flush()
        self.replication.flush()
        self.entrustments.flush()
        self.sweeps.flush()
        self.directory.flush()
        self.patrol.flush()
        return self.core.take()

    def deadline_ms(self) -> int:
        """When ``Ticked`` is due. Events may bring it nearer, but only what it was for being done puts it off: so a
        timer may stay as it is, and look here once more when it goes off."""
        soonest = min(self.members.deadline_ms(), self.sweeps.deadline_ms())
        for deadline_ms in self._deadlines:
            instant = deadline_ms()
            if instant is not None and instant < soonest:
                soonest = instant
        return soonest

    def describe(self) -> dict[str, Any]:
        """What people and tools may know of this engine; no ids, no values."""
        now = self.core.now_ms
        return {
            "ready": self.ready,
            "leaving": self.members.leaving,
            "drained": self.drained,
            "flights": len(self.replication.flights),
            "inquiries": len(self.inquiries.open),
            "jobs": len(self.service.jobs),
            "compared": self.comparisons.complete,
            "sweeping": self.sweeps.describe(),
            "members": [
                {
                    "name": member.name,
                    "standing": str(member.standing),
                    "incarnation": f"{member.incarnation:016x}",
                    "leaving": member.leaving,
                    "ready": member.ready,
                    "differs": list(member.differs),
                    "unfit": member.is_unfit,
                    "lease_ms": max(0, member.granted_until_ms - now),
                }
                for member in sorted(self.members.all(), key=lambda known: known.name)
            ],
        }

    # --- membership ----------------------------------------------------------------------------------------

    def _found(self, name: str, incarnation: int, shown: bool = False) -> None:
        if name == self.core.me:
            return
        known = self.members.get(name)
        if known is not None and known.incarnation != incarnation and known.is_reachable:
            self._lost(name, known.incarnation)
        was_known = known is not None and known.incarnation == incarnation
        found = self.members.found(name, incarnation, shown)
        if found is None:
            return
        if was_known:
            # Cut off for a while: either side may have promoted.
            self.comparisons.begin()
            self.sweeps.recheck_now(name)
        self.inquiries.found(name)
        self.directory.ask(name)
        self.joining.found(name)
        self._note_view()

    def _lost(self, name: str, incarnation: int) -> None:
        if not self.members.lost(name, incarnation):
            return
        self.joining.lost()
        self.replication.forget_member(name)
        self.entrustments.silent(name)
        self.inquiries.silent(name)
        self.comparisons.silent(name)
        self.service.silent(name)
        self.sweeps.recheck_later(name)
        self.directory.lost(name)
        self.replication.readers.lost(name)
        self._note_view()
        self.joining.transferred(name)

    def _note_view(self) -> None:
        self.patrol.view_changed()
        view = self.members.view()
        if view != self._view and len(view) > 1:
            self._view = view
            self.core.emit(c.Note("view", " ".join(view).encode()))

    # --- requests and time ---------------------------------------------------------------------------------

    def _requested(self, ticket: c.Ticket, request: m.Request) -> None:
        if isinstance(request, m.TouchRequest):
            self.moves.used_here(request.key)
            self.core.emit(c.Change(request.key, c.Touch(request.age_ms, forward=True, primary=request.primary)))
        else:
            self.service.requested(ticket, request)

    def _ticked(self) -> None:
        for member in self.members.tick():
            self._lost(member.name, member.incarnation)
        self.replication.tick()
        self.entrustments.tick()
        self.inquiries.tick()
        self.comparisons.tick()
        self.service.tick()
        self.moves.tick()
        self.sweeps.tick()
        self.directory.tick()
        self.patrol.tick()
        self.absence.tick()
        self.joining.go_on()

    # --- messages ------------------------------------------------------------------------------------------

    def _received(self, event: c.Received) -> None:
        """A message of a known life; one of an earlier life is nothing to us."""
        known = self.members.get(event.sender)
        if event.sender == self.core.me:
            return
        if known is None or not known.is_reachable or known.incarnation != event.incarnation:
            if known is not None and not self._shows_life(known, event):
                self._answer_lost(known, event)
                return
            self._found(event.sender, event.incarnation)
            known = self.members.get(event.sender)
            if known is None:
                return
        self.members.heard(event.sender)
        if self.parts.agreement.takes(known, event.message) and self.absence.takes(event.message):
            self._receiver.take(event.sender, known, event.message)

    def _shows_life(self, known: Member, event: c.Received) -> bool:
        """True for what a life that is new, or was lost, has said since; late words of before bring nobody back."""
        if known.incarnation != event.incarnation:
            return isinstance(event.message, m.Heartbeat) and not known.replaces(event.incarnation)
        return known.shows_life(event.message)

    def _answer_lost(self, known: Member, event: c.Received) -> None:
        """Of two that take each other for lost each must answer, or neither would see that the other lives; and who may
        be there after all is asked at once."""
        message = event.message
        if known.incarnation != event.incarnation or not isinstance(message, m.Heartbeat):
            return
        if self.parts.agreement.takes(known, message):
            self.members.heartbeat(known, message)
            self.members.call(known)

    # --- what the store says -------------------------------------------------------------------------------

    def _looked(self, event: c.Looked) -> None:
        key, purpose, entry = event.key, event.purpose, event.entry
        match purpose:
            case c.ServeJob(job=job):
                self.service.looked(job, entry)
            case c.Resend(to=to):
                self._resend(key, to, entry)
            case c.Protect(beside=beside):
                if entry is not None and entry.role is Role.PRIMARY:
                    self.sweeps.note(key)
                    self.entrustments.looked(key, entry, beside)
            case c.Inquire():
                self.inquiries.looked(key, entry)
            case c.Recheck():
                self.sweeps.rechecked(key, purpose, entry)
            case c.TellPlaces(to=to, differs=differs):
                self.directory.looked(key, entry, to)
                if differs:
                    self.patrol.repair(key, entry, to)
            case c.BringAll(to=to):
                self.sweeps.bring(key, entry, to)
            case c.Patrol():
                self.patrol.looked(key, entry)
            case c.CheckDigest():
                self.patrol.looked_to_check(key, entry, purpose)
            case c.CompareAll():
                self.comparisons.looked_in_round(key, entry)
                if entry is not None:
                    self.sweeps.watch(key, entry)
            case c.CompareOne():
                self.refusals.looked(key, entry, purpose)
            case c.Orphan():
                self.sweeps.orphan_looked(key, entry)
            case c.AnswerCompare():
                self.comparisons.looked_to_answer(key, purpose, entry)
            case c.Reap():
                self.sweeps.reaped(key, entry)
            case c.Leave():
                self.sweeps.left(key, entry)
            case c.Moving():
                self.moves.looked(key, entry)
            case c.Recovered(number=number, marked=marked):
                if entry is None:
                    self.core.emit(c.Settle((number,)))
                else:
                    self.replication.recover(key, entry, number, marked)
            case c.Answer(sender=sender, request=request):
                location = self.service.endings.place(key, entry)
                if self.members.is_reachable(sender):
                    known = self.members.view(), self.members.recently_lost(), self.members.began_empty
                    self.core.send(sender, m.Located(request, key, location, *known))

    def _resend(self, key: bytes, to: str, entry: Entry | None) -> None:
        if not to:
            self.comparisons.send_contribution(key, entry)
            return
        if entry is None or to == self.core.me or (not entry.ended and to not in (entry.primary, *entry.backups)):
            return
        if entry.role is Role.PRIMARY or entry.number:
            self.replication.send(to, key, entry)

    def _scanned(self, event: c.Scanned) -> None:
        purpose = event.scan.purpose
        if isinstance(purpose, c.CompareAll):
            self.comparisons.scanned(event)
            self.joining.go_on()
        elif isinstance(purpose, c.Recover):
            for key, number, marked in zip(event.keys, event.numbers, event.marked, strict=True):
                self.core.emit(c.Read((key,), c.Recovered(number, marked)))
            if event.more:
                self.core.emit(msgspec.structs.replace(event.scan, after_number=event.numbers[-1]))
            else:
                self.replication.recovered()
        elif isinstance(purpose, c.DiscardAll):
            if self.absence.scanned(event):
                self.joining.discarded()
        elif isinstance(purpose, c.TellPlaces):
            self.directory.scanned(event, purpose)
        elif isinstance(purpose, c.Patrol):
            self.patrol.scanned(event, purpose)
        elif isinstance(purpose, c.CheckDigest):
            self.patrol.scanned_to_check(event, purpose)
        elif isinstance(purpose, c.Reap):
            self.core.emit(c.Read(event.keys, purpose))
        else:
            self.sweeps.scanned(event)

    def _changed(self, event: c.Changed) -> None:
        key, what, entry = event.key, event.what, event.entry
        if event.outcome is Outcome.STORE_FULL and not isinstance(what, c.DoCommit | c.GivePromise):
            # Not stored, so not answered: who sent it sends it again, or takes another backup.
            self.core.tell(c.FactKind.STORE_REFUSED, key, detail=type(what).__name__)
            return
        if entry is not None:
            self.sweeps.watch(key, entry)
            if event.before is None:
                self.service.appeared(key)
        match what:
            case c.DoCommit():
                self._committed(event)
            case c.CopyIn():
                self._copied(event, what)
            case c.Learn(sender=sender):
                if event.outcome is Outcome.DEPOSED:
                    self.core.emit(c.Read((key,), c.CompareOne((what.location.primary, sender))))
                elif event.outcome is Outcome.ENDED and entry is not None and self.members.is_reachable(sender):
                    # Somebody believes that it lives: what ended it has not reached them.
                    if not what.location.ended:
                        self.core.send(sender, m.Announce(((key, entry.location),)))
                elif entry is not None and entry.ended and event.before is not None and not event.before.ended:
                    self.service.again(self.replication.drop(key))
            case c.GivePromise():
                self.inquiries.promise_given(event)
            case c.Promote():
                self._promoted(event, what)
            case c.SetBackups(released=released):
                if event.outcome is Outcome.STORED and entry is not None:
                    self.replication.backups_set(key, entry, event.before, released)
                    self.directory.announce(key, entry.location)
            case c.Relist():
                self.entrustments.relisted(event)
            case c.FinishLives():
                self.patrol.finished(event)
            case c.HandOver(to=to, moves=moves):
                if event.outcome is Outcome.STORED and entry is not None:
                    self.core.tell(c.FactKind.MOVED if moves else c.FactKind.HANDED_OVER, key, to)
                    self.replication.track(key, entry, event.before, moves_only=True)
            case c.StepDown():
                self._stepped_down(event)
            case c.TakeContribution():
                self.comparisons.contribution_taken(event)
            case c.Touch(age_ms=age_ms, forward=forward, primary=primary):
                is_news = entry is not None and event.outcome is Outcome.STORED and entry.role is Role.PRIMARY
                if forward or is_news:
                    self.sweeps.accessed(key, entry, event.before, age_ms, primary)
            case c.Expire():
                if event.outcome is Outcome.REMOVED and event.before is not None and not event.before.ended:
                    self.sweeps.forget(key, event.before)
            case c.Outbid(promise=promise):
                if event.outcome is Outcome.STORED:
                    self.inquiries.begin(key, promise.reign)
            case c.ReleaseCopy():
                if event.outcome is Outcome.STORED:
                    # Who releases us has everything: a hand-over, too, has arrived, whatever became of its answer.
                    self.service.again(self.replication.drop(key))
            case c.DropLost():
                self.sweeps.lost(event)
            case c.ForgetCopy():
                if event.outcome is Outcome.REFUSED:
                    # It was used since: it lives on, from the copy that knows of that.
                    self.inquiries.begin(key)

    def _committed(self, event: c.Changed) -> None:
        entry = event.entry
        if event.outcome is Outcome.COMMITTED and entry is not None:
            if entry.ended:
                self.core.tell(c.FactKind.SESSION_ENDED, event.key)
            if event.before is None or entry.ended:
                self.directory.announce(event.key, entry.location)
        self.service.committed(event)

    def _copied(self, event: c.Changed, what: c.CopyIn) -> None:
        """Answer a Replicate with what was done, never with what was asked."""
        key, entry, sender = event.key, event.entry, what.sender
        outcome = event.outcome
        if outcome is Outcome.STORED:
            assert entry is not None
            if self.refusals.ends_elsewhere(event, what):
                return
            hold_ms = self._fenced(event.before, entry)
            if what.entrusted:
                self.entrustments.took(sender, what.number, key, hold_ms)
            else:
                self.core.send(sender, m.Acknowledge(key, what.number, entry.context, hold_ms))
            if entry.role is Role.PRIMARY and not entry.ended:
                self._took_over(event, sender)
        elif outcome is Outcome.NEEDS_WHOLE:
            self.core.send(sender, m.AskWhole(key, what.number))
        elif outcome is Outcome.DEPOSED:
            self.core.emit(c.Read((key,), c.CompareOne((sender, what.delta.location.primary))))
        else:
            assert entry is not None
            self.core.send(sender, m.Refuse(key, what.number, entry.location, entry.promised))
            if entry.role is Role.PRIMARY and what.delta.location.epoch > entry.epoch:
                # A hand-over that we had not waited for: a reign above both makes one of them.
                self.inquiries.begin(key, what.delta.location.epoch.reign)

    def _fenced(self, before: Entry | None, entry: Entry) -> int:
        """Grant a primary that was replaced without our promise no lease more; gives how long its last one runs, in ms.

        (One that handed over stays as a backup, and knows.)
        """
        if before is None or entry.ended or before.primary in (self.core.me, entry.primary, *entry.backups):
            return 0
        self.members.fence(before.primary)
        return max(0, self.members.hold_until_ms([before.primary]) - self.core.now_ms)

    def _took_over(self, event: c.Changed, giver: str) -> None:
        """A primary has handed a session to us: it leaves, or we have served it. Its other backups learn it now."""
        entry = event.entry
        assert entry is not None
        if event.before is not None and event.before.role is Role.PRIMARY:
            return
        self.moves.arrived(event.key)
        self.replication.readers.took_over(event.key)
        self.directory.announce(event.key, entry.location)
        if event.before is not None and entry.number > event.before.number:
            self.replication.track(event.key, entry, event.before)  # the giver lacks something
        for backup in entry.backups:
            if backup != giver:
                self.replication.recheck(event.key, entry, backup)
        self.replication.protect(event.key, entry)

    def _promoted(self, event: c.Changed, what: c.Promote) -> None:
        entry = event.entry
        if event.outcome is Outcome.PROMOTED:
            assert entry is not None
            self.core.tell(c.FactKind.PROMOTED, event.key)
            self.core.tell_concurrent(event.key, event.before, entry)
            self.replication.readers.took_over(event.key)
            if event.before is not None:
                self.members.fence(event.before.primary)
            self.replication.renew(event.key)
            self.replication.track(event.key, entry, event.before, moves_only=True, hold_ms=what.hold_ms)
            self.directory.announce(event.key, entry.location)
        self.inquiries.promoted(event.key, entry, event.outcome)

    def _stepped_down(self, event: c.Changed) -> None:
        waiting: list[int] = []
        if event.outcome is Outcome.STORED:
            waiting = self.replication.drop(event.key)
        elif self.entrustments.was_cut_short(event):
            self.inquiries.begin(event.key)
        self.comparisons.stepped_down(event)
        self.service.again(waiting)
