"""A new copy for a session at rest, in one round, several in a message.

Where something is on its way the new holder is listed beside the old ones first, and they are given up in a second
round, see ``replicate``. A session at rest needs no two lists: its holders-to-be are *entrusted* with what they lack
under the list as it will be. When each of them has said that it has everything, and the entry is what it was, that
list is stored here, and with that the old holders are given up. Until then this member knows of it in memory alone.
Whatever comes between (a change, a silence, a refusal) leaves the session to the two rounds; a life of this member that
ends in between, to the comparison, in which its next one learns of a list of its own that it never stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msgspec.structs import replace

from understudy import limits
from understudy.model.commit import Outcome
from understudy.model.delta import Delta
from understudy.model.entry import Entry, Location, Role
from understudy.protocol import commands as c
from understudy.protocol.core import Core
from understudy.protocol.flight import NO_BASE, Base
from understudy.protocol.members import Members
from understudy.protocol.messages import Entrust, Entrusted
from understudy.protocol.replicate import Replication

SILENCE_MS = 500
"""After so long without an answer it is done in two rounds, which send again. A busy member may take a while."""

Copies = tuple[tuple[bytes, Delta], ...]


class Entrustment:
    """One session's copies on their way, and what its entry was when they left."""

    def __init__(self, entry: Entry, backups: tuple[str, ...], now_ms: int) -> None:
        self.epoch, self.context, self.times = entry.epoch, entry.context, entry.times
        self.backups = backups
        self.released = tuple(b for b in entry.backups if b not in backups)
        self.waiting = dict.fromkeys(backups, 0)
        """Who has not said yet that it has everything, and the message that it was sent."""
        self.hold_ms = 0
        self.since_ms = now_ms


class Entrustments:
    """Those of one member; and what it was entrusted with itself in this turn."""

    def __init__(
        self, core: Core, members: Members, replication: Replication, announce: Callable[[bytes, Location], None]
    ) -> None:
        self._core = core
        self._members = members
        self._replication = replication
        self._announce = announce
        """Called with each new list that is stored."""
        self.open: dict[bytes, Entrustment] = {}
        self._to_send: dict[str, list[tuple[bytes, Delta]]] = {}
        self._taken: dict[tuple[str, int], list[tuple[bytes, int]]] = {}

    # --- the primary's side --------------------------------------------------------------------------------

    def looked(self, key: bytes, entry: Entry, beside: tuple[str, ...]) -> None:
        """The entry of a primary that may lack a backup, see ``Protect``."""
        flight = self._replication.flights.get(key)
        if beside:
            self._list_beside(key, entry, beside)
        elif flight is not None and flight.widened:
            self._replication.protect(key, entry, widen=True)
        else:
            self.protect(key, entry)

    def protect(self, key: bytes, entry: Entry) -> bool:
        """Choose other backups if there are too few good ones; False if none is there."""
        settings, replication = self._core.settings, self._replication
        if key in self.open:
            return True
        if settings.everywhere or self._members.leaving or not replication.is_at_rest(key):
            return replication.protect(key, entry)
        chosen = replication.choose(key, entry)
        backups = (*filter(replication.is_good, entry.backups), *chosen)
        if not chosen:
            return False
        if len(backups) < settings.copies:
            self._core.emit(c.Change(key, c.SetBackups((*entry.backups, *chosen))))
            return True
        self.open[key] = Entrustment(entry, backups, self._core.now_ms)
        location = Location(self._core.me, backups, entry.epoch.next_list)
        for name in backups:
            base = Base.of(entry) if name in entry.backups else NO_BASE
            delta = replace(replication.delta(entry, base), location=location)
            self._to_send.setdefault(name, []).append((key, delta))
        return True

    def entrusted(self, sender: str, message: Entrusted) -> None:
        """A holder-to-be has everything. (On the smaller side of a cut nobody is given up: it may be primary on the
        other one.)"""
        for key, hold_ms in message.keys:
            entrustment = self.open.get(key)
            if entrustment is None or entrustment.waiting.get(sender) != message.number or self._members.in_minority:
                continue
            del entrustment.waiting[sender]
            entrustment.hold_ms = max(entrustment.hold_ms, hold_ms)
            if entrustment.waiting:
                continue
            if not self._replication.is_at_rest(key):
                self._leave([key])  # an old holder has come back, and is asked what it holds: under the list as it is
            else:
                e = self.open.pop(key)
                relist = c.Relist(e.backups, e.released, e.epoch, e.context, e.times, e.hold_ms)
                self._core.emit(c.Change(key, relist))

    def relisted(self, event: c.Changed) -> None:
        """The store's word on the new list."""
        key, what, entry = event.key, event.what, event.entry
        assert isinstance(what, c.Relist)
        if event.outcome is Outcome.STORED and entry is not None:
            self._replication.release(key, entry, what.released)
            self._announce(key, entry.location)
            if what.hold_ms:
                self._replication.track(key, entry, event.before, moves_only=True, hold_ms=what.hold_ms)
        elif event.outcome is Outcome.UNCHANGED:
            self._core.emit(c.Read((key,), c.Protect(what.backups)))
        elif event.outcome is Outcome.ENDED:
            for name in what.backups:
                self._core.emit(c.Read((key,), c.Resend(name)))

    def _list_beside(self, key: bytes, entry: Entry, names: tuple[str, ...]) -> None:
        """In two rounds, because the one has failed. Who may have the later list gets another that is later than that,
        also where the old holders are back; where nobody can be listed those that are dead are given up, as in a sweep.
        """
        further = tuple(n for n in names if n not in entry.backups and self._members.is_reachable(n))
        if further:
            self._core.emit(c.Change(key, c.SetBackups((*entry.backups, *further))))
        elif not self._replication.protect(key, entry) and not self._members.in_minority:
            self._replication.give_up_dead(key, entry)

    def silent(self, name: str) -> None:
        """A member is lost: nobody waits for it."""
        self._leave([key for key, entrustment in self.open.items() if name in entrustment.backups])

    def was_cut_short(self, event: c.Changed) -> bool:
        """True if somebody holds a later list of ours than we do: an earlier life has entrusted it with a copy, and
        ended before it could store that. A higher reign makes one of both."""
        what, entry = event.what, event.entry
        if not isinstance(what, c.StepDown) or entry is None or entry.role is not Role.PRIMARY or entry.ended:
            return False
        location = what.whole.location
        return location.primary == self._core.me and location.epoch > entry.epoch and event.key not in self.open

    def _leave(self, keys: list[bytes]) -> None:
        """Go on in two rounds; on the smaller side of a cut, when the others are back."""
        for key in keys:
            if self._members.in_minority:
                self.open[key].since_ms = self._core.now_ms
            else:
                self._core.emit(c.Read((key,), c.Protect(self.open.pop(key).backups)))

    # --- the holder's side ---------------------------------------------------------------------------------

    def took(self, sender: str, number: int, key: bytes, hold_ms: int) -> None:
        """This member has everything of one session of a message."""
        self._taken.setdefault((sender, number), []).append((key, hold_ms))

    # --- time and sending ----------------------------------------------------------------------------------

    def flush(self) -> None:
        """Send what this turn has gathered."""
        if self._to_send:
            sending, self._to_send = self._to_send, {}
            for name, copies in sending.items():
                for part in _in_parts(copies):
                    self._send(name, part)
        if self._taken:
            taken, self._taken = self._taken, {}
            for (name, number), keys in taken.items():
                if self._members.is_reachable(name):
                    self._core.send(name, Entrusted(number, tuple(keys)))

    def _send(self, name: str, copies: Copies) -> None:
        number = self._core.next_id()
        for key, _ in copies:
            entrustment = self.open.get(key)
            if entrustment is not None:
                entrustment.waiting[name] = number
        if self._members.is_reachable(name):
            self._core.send(name, Entrust(number, copies))

    def tick(self) -> None:
        now = self._core.now_ms
        self._leave([key for key, entrustment in self.open.items() if now - entrustment.since_ms >= SILENCE_MS])

    def deadline_ms(self) -> int | None:
        oldest = next(iter(self.open.values()), None)
        return None if oldest is None else oldest.since_ms + SILENCE_MS


def _in_parts(copies: list[tuple[bytes, Delta]]) -> Iterator[Copies]:
    """As many in each as fit one message; one that is larger goes alone."""
    part: list[tuple[bytes, Delta]] = []
    part_bytes = 0
    for copy in copies:
        size_bytes = _about_bytes(copy[1])
        if part and part_bytes + size_bytes > limits.ENTRUSTED_BYTES_MAX:
            yield tuple(part)
            part, part_bytes = [], 0
        part.append(copy)
        part_bytes += size_bytes
    yield tuple(part)


def _about_bytes(delta: Delta) -> int:
    values = sum(len(s.value) for siblings in delta.values.values() for s in siblings)
    return values + limits.ENTRUSTED_HEAD_BYTES * (1 + len(delta.values))
