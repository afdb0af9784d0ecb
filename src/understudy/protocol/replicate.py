"""From a primary to its backups: deltas out, acknowledgements in, and who holds the copies.

The outbox rows of a flight's numbers (see ``flight``) live as long as it does, and requests wait on it.
Backups are exchanged make before break: the old holders stay in the list until the new ones have everything.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable

from understudy import limits
from understudy.model.delta import Delta, delta_since
from understudy.model.entry import Context, Entry, Location, Role
from understudy.protocol import commands as c
from understudy.protocol.core import Core
from understudy.protocol.flight import NO_BASE, Base, Flight, Waiter
from understudy.protocol.members import Members
from understudy.protocol.messages import Acknowledge, Confirm, Release, Replicate
from understudy.protocol.readers import Readers

TICK_MS = 20
"""How often flights are looked at while there are any: a fraction of ``backup_timeout_ms``."""
RESEND_MAX_MS = 1_000


class Replication:
    """All flights of one member."""

    def __init__(self, core: Core, members: Members, answer: Callable[[int, bool, int], None]) -> None:
        self._core = core
        self._members = members
        self._answer = answer
        """Called with (job, protected, number) when a waiter's change is acknowledged or its time is over."""
        self.flights: dict[bytes, Flight] = {}
        self.readers = Readers(core, members, self._lags)
        self._to_confirm: dict[str, list[tuple[bytes, Context | None]]] = {}
        self._told: set[bytes] = set()
        """Keys of which users were shown, as unprotected, what no second machine has yet."""
        self._taken_up: set[bytes] | None = None
        """Until the outbox of earlier lives has been read, what has no flight may lack its copies all the same: these
        keys were looked after."""
        self._taken_back: OrderedDict[bytes, int] = OrderedDict()
        """Number of the last change of a session that was in flight here when another became its primary."""
        self._next_tick_ms = 0

    # --- a change was stored -------------------------------------------------------------------------------

    def track(
        self,
        key: bytes,
        entry: Entry,
        before: Entry | None,
        job: int | None = None,
        *,
        until_ms: int = 0,
        moves_only: bool = False,
        hold_ms: int = 0,
    ) -> Flight:
        """Send a stored change to its holders; ``job`` is answered when enough of them have it, or at ``until_ms``.

        ``moves_only``: it changed roles, not data (a promotion, a new list): no reader has to wait for it.
        ``hold_ms``: nothing of this session is acknowledged for so long, not even as unprotected.
        """
        flight = self.flights.get(key)
        now = self._core.now_ms
        if flight is None:
            flight = self._begun(key, entry, before)
            if self._taken_up is None and before is not None and before.number and before.number != entry.number:
                # An earlier change was answered unprotected and nobody took it since: this one includes it. (One of an
                # earlier life may have been answered to nobody: it is taken up with the outbox.)
                self._core.emit(c.Settle((before.number,)))
        if not flight.numbers or flight.numbers[-1] != entry.number:
            flight.numbers.append(entry.number)
            if key in self._told:
                # It stands on what users were told of. Were it taken back (by a successor's copy), so would be that.
                self._core.emit(c.Mark((entry.number,)))
        if moves_only:
            flight.moves.add(entry.number)
        flight.follow(entry)
        if job is not None:
            flight.waiters.append(Waiter(job, entry.number, until_ms))
        for holder in flight.holders(self._core.me):
            self.send(holder, key, entry)
        flight.resend_ms = now + self._core.settings.backup_timeout_ms
        self._hold(flight, hold_ms)
        if self._wants_more(entry):
            self.protect(key, entry)
        self._evaluate(flight)
        return flight

    def _begun(self, key: bytes, entry: Entry, before: Entry | None) -> Flight:
        """A new flight. The first one has a tick's time before anybody looks at it: most are over by then.

        ``before``: where nothing else is on its way, the holders have all of that.
        """
        if not self.flights:
            self._next_tick_ms = self._core.now_ms + TICK_MS
        held = before if before is not None and before.role is Role.PRIMARY and self.is_at_rest(key) else None
        flight = self.flights[key] = Flight(key, entry, self._core.now_ms, held)
        if entry.epoch.reign > 1:
            # An earlier life of ours may have been promoted in its last moment, and have waited for the old leases.
            self._hold(flight, self._members.hold_until_ms(()) - self._core.now_ms)
        return flight

    def recheck(self, key: bytes, entry: Entry, member: str) -> None:
        """Make sure that a backup that came back still holds what the list says."""
        flight = self.flights.get(key)
        if flight is None:
            flight = self._begun(key, entry, entry)
            if key not in self._told:
                flight.acked = {b: entry.number for b in entry.backups}
        flight.acked.pop(member, None)
        flight.bases[member] = Base(entry.context)
        flight.newcomers[member] = entry.number
        self.send(member, key, entry)
        flight.resend_ms = self._core.now_ms + self._core.settings.backup_timeout_ms

    def started(self, has_entries: bool) -> None:
        """This life begins with the store of an earlier one, or with an empty one."""
        self._taken_up = set() if has_entries else None

    def recovered(self) -> None:
        """The outbox has been read to its end."""
        self._taken_up = None

    def recover(self, key: bytes, entry: Entry, number: int, marked: bool) -> None:
        """Take up a change of an earlier life that nobody may have acknowledged."""
        mine = entry.role is Role.PRIMARY or (entry.role is Role.BACKUP and entry.number == number)
        if not mine or (entry.role is Role.PRIMARY and not entry.backups):
            self._core.emit(c.Settle((number,)))
            return
        if key not in self.flights:
            self.track(key, entry, None)
        flight = self.flights.get(key)
        if flight is None:
            self._core.emit(c.Settle((number,)))
            return
        if number not in flight.numbers:
            flight.numbers.insert(0, number)
        if marked:
            flight.marked.add(number)

    def take_up(self, key: bytes, entry: Entry) -> None:
        """Send the last change of a session whose primary is here once more, if an earlier life may have left it under
        way: what is shown of it waits for the answer."""
        if self._taken_up is None or key in self._taken_up:
            return
        self._taken_up.add(key)
        if entry.number and key not in self.flights:
            self.track(key, entry, None)

    def wait(self, job: int, key: bytes, number: int, until_ms: int) -> bool:
        """Let ``job`` wait for a change, not longer than until that instant; False if there is nothing to wait for."""
        flight = self.flights.get(key)
        if flight is None:
            return False
        number = self._stood_for(flight, number)
        awaited = [n for n in flight.numbers if n <= number and n not in flight.marked and n not in flight.moves]
        if not awaited:
            return False
        flight.waiters.append(Waiter(job, awaited[-1], until_ms))
        return True

    def _stood_for(self, flight: Flight, number: int) -> int:
        """Until the outbox of earlier lives has been read, the newest change stands for those before it, too."""
        return number if self._taken_up is None else max(number, flight.number)

    def is_protected(self, key: bytes, entry: Entry, number: int) -> bool:
        """False if fewer holders than there shall be have a change that nobody waits for: it was answered without
        protection, or only the list has changed, and those whom it names have not got everything yet.

        Also if it was in flight when another became primary: what a slow request has seen of it may be gone.
        """
        return number > self._taken_back.get(key, 0) and self._is_held(key, entry, number)

    def spares(self, key: bytes, entry: Entry, member: str) -> bool:
        """True if the copy of a member that stepped down is not needed: as many as wanted hold everything that it has,
        or it is one of them."""
        if member in entry.backups and not self._may_lack(key, member, entry.number):
            return True
        return self._is_held(key, entry, entry.number)

    def _is_held(self, key: bytes, entry: Entry, number: int) -> bool:
        flight = self.flights.get(key)
        if flight is not None and any(n <= self._stood_for(flight, number) for n in flight.numbers):
            return False
        holding = (b for b in entry.backups if self._members.is_reachable(b) and not self._may_lack(key, b, number))
        return sum(1 for _ in holding) >= max(1, self._core.settings.copies)

    def _may_lack(self, key: bytes, holder: str, number: int) -> bool:
        """True if a listed holder has not said that it has a change, and was not known to have it before."""
        flight = self.flights.get(key)
        if flight is not None and flight.acked.get(holder, -1) >= number:
            return False
        return key in self._told or (flight is not None and holder in flight.newcomers)

    def newest(self, key: bytes) -> int:
        """Number of the newest change in flight of a session, or 0."""
        flight = self.flights.get(key)
        return flight.number if flight is not None and flight.numbers else 0

    def drop(self, key: bytes) -> list[int]:
        """End a flight because this member is primary no more; returns the jobs that waited on it."""
        flight = self.flights.pop(key, None)
        self._told.discard(key)
        if flight is None:
            return []
        data = [number for number in flight.numbers if number not in flight.moves]
        if data:
            self._taken_back[key] = max(data)
            if len(self._taken_back) > limits.ACKNOWLEDGED_CONTEXTS_MAX:
                self._taken_back.popitem(last=False)
        self._core.emit(c.Settle(tuple(flight.numbers)))
        return [w.job for w in flight.waiters]

    def end_at(self, key: bytes, primary: str) -> None:
        """Another has become primary of a session that was ended here: that one has to have the tombstone."""
        flight = self.flights.get(key)
        if flight is not None and flight.location.primary != primary:
            flight.location = Location(primary, (), flight.location.epoch, ended=True)
            self._core.emit(c.Read((key,), c.Resend(primary)))

    def renew(self, key: bytes) -> None:
        """A new reign begins: what a holder acknowledged in an earlier one it may have given up since."""
        flight = self.flights.get(key)
        if flight is not None:
            flight.acked.clear()

    def _hold(self, flight: Flight, ms: int) -> None:
        """Acknowledge no change of this flight for so long."""
        if ms > 0:
            flight.hold_until_ms = max(flight.hold_until_ms, self._core.now_ms + ms)
            self._next_tick_ms = min(self._next_tick_ms, flight.hold_until_ms)

    # --- who holds the copies ------------------------------------------------------------------------------

    def protect(self, key: bytes, entry: Entry, widen: bool = False) -> bool:
        """Choose another backup if there are too few good ones (or one more, with ``widen``); False if none is there.

        Dead and leaving holders stay listed until the new one has everything.
        """
        chosen = self.choose(key, entry, widen)
        if chosen:
            self._core.emit(c.Change(key, c.SetBackups((*entry.backups, *chosen))))
        return bool(chosen)

    def choose(self, key: bytes, entry: Entry, widen: bool = False) -> tuple[str, ...]:
        """Who shall hold a copy, too: as many as there are good backups too few (or one more, with ``widen``)."""
        good = [b for b in entry.backups if self.is_good(b)]
        lacking = max(self._core.settings.copies_wanted - len(good), 1 if widen else 0)
        if lacking <= 0 or entry.ended or self._members.in_minority:
            return ()
        chosen = self._members.place(key, lacking, exclude=entry.backups)
        for member in chosen:
            self._core.tell(c.FactKind.BACKUP_CHOSEN, key, member)
        return chosen

    def is_at_rest(self, key: bytes) -> bool:
        """True if nothing of a session is on its way, and no user was shown what this member alone has."""
        return self._taken_up is None and key not in self.flights and key not in self._told

    def give_up_dead(self, key: bytes, entry: Entry) -> bool:
        """List no dead holder where nobody else can take the copy: the session counts as unprotected. False if one of
        them may still be showing it, or the others may lack something: the flight that brings it gives the dead one up.
        """
        kept = tuple(b for b in entry.backups if self._members.is_reachable(b))
        good, settings = sum(map(self.is_good, kept)), self._core.settings
        if kept == entry.backups or good >= settings.copies_wanted:
            return True
        may_lack = good >= settings.copies and not self.is_at_rest(key)
        if may_lack or self.readers.awaited(key, set(entry.backups) - set(kept)):
            return False
        self._core.emit(c.Change(key, c.SetBackups(kept)))
        return True

    def is_good(self, name: str) -> bool:
        member = self._members.get(name)
        return member is not None and member.is_reachable and not member.leaving

    def _wants_more(self, entry: Entry) -> bool:
        if entry.role is not Role.PRIMARY or entry.ended:
            return False
        if self._core.settings.everywhere:
            return self._members.can_place(exclude=entry.backups)
        return len([b for b in entry.backups if self.is_good(b)]) < self._core.settings.copies

    def backups_set(self, key: bytes, entry: Entry, before: Entry | None, released: tuple[str, ...]) -> None:
        """A new list is stored: replicate it, release who is not in it."""
        self.release(key, entry, released)
        flight = self.track(key, entry, before, moves_only=True)
        for member in entry.backups:
            if before is None or member not in before.backups:
                flight.newcomers[member] = entry.number

    def release(self, key: bytes, entry: Entry, released: Iterable[str]) -> None:
        """Everybody on the list has everything: who is not on it any more may forget its copy."""
        for member in released:
            self._core.tell(c.FactKind.BACKUP_RELEASED, key, member)
            if self._members.is_reachable(member):
                self._core.send(member, Release(key, entry.location))

    # --- messages ------------------------------------------------------------------------------------------

    def send(self, to: str, key: bytes, entry: Entry) -> None:
        """Send ``entry`` as a delta to what ``to`` has (whole if nothing is known of that)."""
        if not self._members.is_reachable(to):
            return
        flight = self.flights.get(key)
        base = flight.bases.get(to, NO_BASE) if flight is not None else NO_BASE
        self._core.send(to, Replicate(key, entry.number, self.delta(entry, base)))

    def delta(self, entry: Entry, base: Base) -> Delta:
        """What a holder lacks of ``entry`` that has what ``base`` says."""
        return delta_since(entry, base.context, self._core.now_ms, base.commit)

    def acknowledged(self, sender: str, message: Acknowledge) -> None:
        """A holder has everything up to a number."""
        flight = self.flights.get(message.key)
        if flight is None:
            return
        self._hold(flight, message.hold_ms)
        flight.acknowledged(sender, message.number, message.context)
        if 0 < flight.confirmed == flight.number <= message.number:
            self._to_confirm.setdefault(sender, []).append((flight.key, flight.confirmable))
        self._evaluate(flight)

    def lacks_base(self, sender: str, key: bytes) -> None:
        """A holder asks for the whole entry."""
        flight = self.flights.get(key)
        if flight is not None:
            flight.bases.pop(sender, None)
        self._core.tell(c.FactKind.NEEDED_WHOLE, key, sender)
        self._core.emit(c.Read((key,), c.Resend(sender)))

    def forget_member(self, name: str) -> None:
        """A life of a member has ended: nothing that it acknowledged counts for its next one."""
        for flight in list(self.flights.values()):
            flight.forget(name)
            if name in flight.location.backups:
                self._core.emit(c.Read((flight.key,), c.Protect()))

    # --- progress ------------------------------------------------------------------------------------------

    def _lags(self, name: str) -> bool:
        return any(flight.lacks(name, self._core.me) for flight in self.flights.values())

    def _protected_up_to(self, flight: Flight) -> int:
        """The highest number that as many holders have as the manager wants copies, all that may be read among them;
        after a hand-over, that the new primary has."""
        location = flight.location
        if location.primary != self._core.me:
            return flight.acked.get(location.primary, 0)
        need, holders = self._core.settings.copies, location.backups
        acked = sorted([flight.acked.get(h, 0) for h in holders], reverse=True)
        if not 0 < need <= len(acked):
            return 0
        if not self.readers.enabled:
            return acked[need - 1]
        awaited = self.readers.awaited(flight.key, holders)
        return min([acked[need - 1], *(flight.acked.get(name, 0) for name in awaited)])

    def _evaluate(self, flight: Flight) -> None:
        """Answer whom the acknowledgements allow to; end the flight when all holders have everything."""
        if self._core.now_ms < flight.hold_until_ms:
            return
        protected = self._protected_up_to(flight)
        flight.answered = max(flight.answered, protected)
        if self.readers.enabled and protected >= flight.number > flight.confirmed:
            self._confirm(flight)
        done = [w for w in flight.waiters if w.number <= protected]
        if done:
            flight.waiters = [w for w in flight.waiters if w.number > protected]
        settled = [n for n in flight.numbers if n <= protected]
        if settled:
            flight.numbers = [n for n in flight.numbers if n > protected]
            self._core.emit(c.Settle(tuple(settled)))
        for waiter in done:
            self._answer(waiter.job, True, waiter.number)
        if (flight.numbers or flight.waiters) and self._nobody_can_help(flight):
            self._answer_unprotected(flight)
        self._finish(flight, protected)

    def _nobody_can_help(self, flight: Flight) -> bool:
        """True if no acknowledgement is to come any more: of an end none from a holder that is chosen yet, either; and
        nobody who is lost may be showing a session that has ended."""
        location, holders = flight.location, flight.holders(self._core.me)
        reading = self.readers.awaited(flight.key, holders) if location.ended and self.readers.enabled else ()
        for holder in holders:
            is_done = location.ended and flight.acked.get(holder, 0) >= flight.number
            if (self._members.is_reachable(holder) or holder in reading) and not is_done:
                return False
        return location.ended or not self._members.can_place(exclude=location.backups)

    def _finish(self, flight: Flight, protected: int) -> None:
        if flight.numbers or flight.waiters or self.flights.get(flight.key) is not flight:
            return
        if protected >= flight.number:
            self._told.discard(flight.key)
        location, reachable = flight.location, self._reachable(flight)
        is_ours = location.primary == self._core.me
        if (is_ours or location.ended or self.readers.enabled) and self._is_lacked(flight):
            return
        if is_ours and not location.ended:
            good = [b for b in reachable if self.is_good(b) and flight.acked.get(b, 0) >= flight.number]
            # The newest are at the end: they were chosen because the older ones did not do.
            kept = tuple(good[-self._core.settings.copies_wanted :])
            if len(location.backups) > len(kept) >= self._core.settings.copies:
                released = tuple(b for b in location.backups if b not in kept)
                if self._members.in_minority:
                    return  # it may be primary on the other side of a cut: nothing is shown here without its word
                if self.readers.enabled and self.readers.awaited(flight.key, released):
                    return  # it may be showing its copy, and has to be told of changes for so long
                del self.flights[flight.key]
                self._core.emit(c.Change(flight.key, c.SetBackups(kept, released)))
                return
        del self.flights[flight.key]

    def _is_lacked(self, flight: Flight) -> bool:
        """True if it is still to be sent to somebody who can be reached."""
        return any(flight.acked.get(holder, 0) < flight.number for holder in self._reachable(flight))

    def _reachable(self, flight: Flight) -> list[str]:
        return [h for h in flight.holders(self._core.me) if self._members.is_reachable(h)]

    def _confirm(self, flight: Flight) -> None:
        """Everybody who may read this session has all of it: they may show it, and all may tell of its end."""
        flight.confirmed = flight.number
        for name in self._members.reachable() if flight.location.ended else self._reachable(flight):
            self._to_confirm.setdefault(name, []).append((flight.key, flight.confirmable))

    def flush(self) -> None:
        """Send what this turn has confirmed."""
        if not self._to_confirm:
            return
        confirmed, self._to_confirm = self._to_confirm, {}
        for name, contexts in confirmed.items():
            if self._members.is_reachable(name):
                self._core.send(name, Confirm(tuple(contexts)))

    def _answer_unprotected(self, flight: Flight) -> None:
        """No second machine can take it now: say so, and remember that answers have left."""
        flight.answered = flight.number
        waiters, flight.waiters = flight.waiters, []
        unmarked = tuple(n for n in flight.numbers if n not in flight.marked)
        is_told = flight.location.ended and not self._members.in_minority
        if is_told or len(flight.location.backups) < self._core.settings.copies:
            # The list itself says that a copy is lacking; of a tombstone everybody has been told whom we reach.
            self._core.emit(c.Settle(tuple(flight.numbers)))
            flight.numbers = []
        elif unmarked:
            self._core.emit(c.Mark(unmarked))
            flight.marked.update(unmarked)
        if flight.marked and len(self._told) < limits.ACKNOWLEDGED_CONTEXTS_MAX:
            self._told.add(flight.key)
        for waiter in waiters:
            self._core.tell(c.FactKind.ANSWERED_UNPROTECTED, flight.key)
            self._answer(waiter.job, False, waiter.number)
        is_owed = flight.numbers or (flight.location.ended and self._is_lacked(flight))
        if not is_owed or not self._reachable(flight):
            self.flights.pop(flight.key, None)

    def tick(self) -> None:
        """Send again, take another backup, answer whose time is over."""
        now, settings = self._core.now_ms, self._core.settings
        if now < self._next_tick_ms:
            return
        holds = (flight.hold_until_ms for flight in self.flights.values() if flight.hold_until_ms > now)
        self._next_tick_ms = min((now + TICK_MS, *holds))
        self.readers.tick()
        for flight in list(self.flights.values()):
            if flight.hold_until_ms and now >= flight.hold_until_ms:
                flight.hold_until_ms = 0
                self._evaluate(flight)
            if now >= flight.resend_ms:
                flight.attempts += 1
                flight.resend_ms = now + min(settings.backup_timeout_ms << min(flight.attempts, 5), RESEND_MAX_MS)
                for holder in flight.holders(self._core.me):
                    if flight.acked.get(holder, 0) < flight.number:
                        self._core.emit(c.Read((flight.key,), c.Resend(holder)))
            is_late = not flight.widened and now - flight.since_ms >= settings.backup_timeout_ms
            if is_late and flight.numbers and self._protected_up_to(flight) < flight.numbers[-1]:
                flight.widened = True
                self._core.emit(c.Read((flight.key,), c.Protect()))
            if flight.hold_until_ms:
                continue
            if any(now >= w.until_ms for w in flight.waiters):
                self._answer_unprotected(flight)
            else:
                self._evaluate(flight)

    def stood_still(self, ms: int) -> None:
        """This member was stopped for so long: that was no silence of backups."""
        for flight in self.flights.values():
            flight.since_ms += ms
            for waiter in flight.waiters:
                waiter.until_ms += ms

    def deadline_ms(self) -> int | None:
        return self._next_tick_ms if self.flights else None
