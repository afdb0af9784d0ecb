"""Whether a session's backups are where they should be: the key's members, other zones, everybody's fair share.

Each member spreads the backups of its own sessions evenly over the others; then the sum is even, and nobody has to know
another's load. Loads are counted in one round of the patrol and evened out in the next. Every move makes before it
breaks, brings two loads nearer to each other, and is made only where they are far enough apart: so it ends.
"""

from __future__ import annotations

from collections import Counter

from understudy import limits
from understudy.model.entry import Entry
from understudy.protocol import commands as c
from understudy.protocol.core import Core
from understudy.protocol.members import Members
from understudy.protocol.replicate import Replication

DIFFERENCE_MIN = 2
"""Two loads this near are even, and so are two that differ by a tenth: moves cost more than they would gain."""


class Shares:
    """The loads that this member puts on others, and what it moves."""

    def __init__(self, core: Core, members: Members, replication: Replication) -> None:
        self._core = core
        self._members = members
        self._replication = replication
        self._loads: Counter[str] | None = None
        """Copies of our sessions by who holds them, as the last round counted; None: not counted since the view
        changed."""
        self._counting: Counter[str] = Counter()
        self._settled_ms = 0
        self._left = 0
        self._moved = False

    def begin(self, settled_ms: int) -> None:
        """The view has changed: count anew, and move nothing before ``settled_ms``."""
        self._settled_ms = settled_ms
        self._loads, self._counting = None, Counter()

    def next_page(self) -> None:
        """Some moves more."""
        self._left = limits.BACKUPS_MOVED_PER_PAGE_MAX

    def end_round(self) -> bool:
        """All sessions were looked at; True if there is more to do at once."""
        counted_first = self._loads is None and len(self._counting) > 0
        self._loads, self._counting = self._counting, Counter()
        moved, self._moved = self._moved, False
        return moved or counted_first

    def look(self, key: bytes, entry: Entry) -> None:
        """One session whose primary is here: count it, and move a backup if that is better elsewhere."""
        # In the middle of a move those stand last that will stay.
        self._counting.update(entry.backups[-self._core.settings.copies :])
        is_early = self._core.now_ms < self._settled_ms or key in self._replication.flights
        if is_early or self._members.in_minority:
            return
        if not all(self._members.is_staying(name) for name in entry.backups):
            return  # a loss is the sweep's affair
        if self._replication.protect(key, entry):
            self._moved = True
            return
        if self._left <= 0 or self._core.settings.everywhere:
            return
        if len(entry.backups) > self._core.settings.copies:
            # An earlier life ended in the middle of an exchange: when all have everything it is brought to its end.
            self._left -= 1
            for name in entry.backups:
                self._replication.recheck(key, entry, name)
            return
        better = self._named(key, entry) if self._core.settings.computes_places else self._evener(key, entry)
        if better is not None:
            self._left -= 1
            self._moved = True
            self._core.tell(c.FactKind.BACKUP_MOVED, key, better[-1])
            self._core.emit(c.Change(key, c.SetBackups(better)))

    def _named(self, key: bytes, entry: Entry) -> tuple[str, ...] | None:
        """The backups that the key gives, behind those that it gives no more; None if they are these."""
        wanted = self._members.place(key, self._core.settings.copies)
        if set(wanted) == set(entry.backups):
            return None
        return (*(b for b in entry.backups if b not in wanted), *wanted)

    def _evener(self, key: bytes, entry: Entry) -> tuple[str, ...] | None:
        """The backups with one exchanged: for a zone that has no copy, or for a member that holds far fewer."""
        zone_of = self._members.zones()
        others = [name for name in zone_of if name not in entry.backups and self._members.is_staying(name)]
        loads = self._loads
        for leaving in entry.backups:
            kept = {self._core.settings.zone, *(zone_of[b] for b in entry.backups if b != leaving)}
            is_doubled = zone_of[leaving] in kept
            fresh = [name for name in others if zone_of[name] not in kept]
            if is_doubled and fresh:
                return self._exchanged(entry, leaving, min(fresh, key=lambda n: (loads[n] if loads else 0, n)))
            allowed = others if is_doubled else fresh
            if loads is None or not allowed:
                continue
            coming = min(allowed, key=lambda n: (loads[n], n))
            if loads[leaving] - loads[coming] > max(DIFFERENCE_MIN, loads[leaving] // 10):
                return self._exchanged(entry, leaving, coming)
        return None

    def _exchanged(self, entry: Entry, leaving: str, coming: str) -> tuple[str, ...]:
        """The new list: who goes is first, who comes is last, as ``Replication`` gives up surplus from the front."""
        for counted in (self._loads, self._counting):
            if counted is not None:
                counted[leaving] -= 1
                counted[coming] += 1
        return (leaving, *(b for b in entry.backups if b != leaving), coming)
