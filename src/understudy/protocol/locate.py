"""Nobody here knows a valid id: one question to all members, bounded in rate, and what their answers mean.

"Unknown" is believed only if all but at most ``copies`` members of everybody's view say so, and none that is alive, and
not the one that the cookie's route names, is merely silent: a protected session has a copy among the rest. Who was lost
a moment ago and has come back with an empty store has said nothing by that. Nobody is logged out by a time-out.
"""

from __future__ import annotations

import enum
from collections import OrderedDict
from typing import NamedTuple

from understudy import limits
from understudy.model.entry import Location
from understudy.protocol import commands as c
from understudy.protocol.core import Core
from understudy.protocol.job import Job
from understudy.protocol.members import Members, Standing
from understudy.protocol.messages import Locate, Located

LOCATE_MS = 200
"""How long silent members are waited for before an answer is drawn from what the others said."""


class Finding(enum.Enum):
    """What is to be done with a job that asked all."""

    ASKED = 1
    """Answers are on their way."""
    LATER = 2
    """Somebody who may know did not answer: try again."""
    UNKNOWN = 3
    ENDED = 4
    HELD = 5
    """``holder`` knows, or holds it."""


class Found(NamedTuple):
    """A finding, with the member to go on to where there is one."""

    finding: Finding
    holder: str = ""


class Locator:
    """The questions to all members of one member."""

    def __init__(self, core: Core, members: Members) -> None:
        self._core = core
        self._members = members
        self._unknown: OrderedDict[bytes, int] = OrderedDict()
        self._left = float(limits.LOCATES_PER_SECOND_MAX)
        self._filled_ms = 0

    def hint(self, job: Job) -> str:
        """Who may hold the session, where places are computed and not told: the member that the cookie names, then
        those that the key gives, each once; "" when all of them were asked, or places are told."""
        presumed = self._members.presumed(job.key)
        named = (getattr(job.request, "route", ""), *presumed) if presumed else ()
        hint = next((n for n in named if self._members.is_alive(n) and n not in job.hinted), "")
        job.hinted.add(hint)
        return hint

    def ask(self, job: Job) -> Found:
        """Ask all members about a job's key, unless it was answered "unknown" a moment ago."""
        now = self._core.now_ms
        if self._unknown.get(job.key, 0) > now:
            return Found(Finding.UNKNOWN)
        if not self._may_ask():
            return Found(Finding.LATER)
        job.locating = set(self._members.reachable())
        job.located = {}
        job.locating_until_ms = now + LOCATE_MS
        for name in sorted(job.locating):
            self._core.send(name, Locate(job.id, job.key))
        return Found(Finding.ASKED) if job.locating else self.conclude(job)

    def _may_ask(self) -> bool:
        now, rate = self._core.now_ms, limits.LOCATES_PER_SECOND_MAX
        self._left = min(rate, self._left + (now - self._filled_ms) * rate / 1000)
        self._filled_ms = now
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def located(self, job: Job, sender: str, message: Located) -> Found:
        """One member's answer. The first by which the job can go on ends the question; so does the last one."""
        if sender not in job.locating:
            return Found(Finding.ASKED)
        job.located[sender] = message
        location = message.location
        if location is not None:
            job.learns(location.epoch)
            if location.ended or self._way(job, sender, location):
                return self.conclude(job)
        return self.silent(job, sender)

    def silent(self, job: Job, name: str) -> Found:
        """A member has nothing (more) to say."""
        job.locating.discard(name)
        return Found(Finding.ASKED) if job.locating else self.conclude(job)

    def conclude(self, job: Job) -> Found:
        """What the answers so far mean."""
        job.locating, job.locating_until_ms = set(), 0
        places = {s: m.location for s, m in job.located.items() if m.location is not None}
        # Where every holder has denied it, the place is that of a session which is over.
        denied = job.denied
        places = {s: p for s, p in places.items() if p.ended or not (s in denied or _holders(p) <= denied)}
        if places:
            return self._follow(job, places)
        # Who was lost a moment ago may have been a holder and cannot be asked: it counts among those that are missed,
        # also when it has come back without what it held.
        told = job.located.values()
        lost = set(self._members.recently_lost()).union(*(m.lost for m in told))
        union = {self._core.me, *self._members.view(), *lost}.union(*(m.view for m in told))
        empty = {name for name, m in job.located.items() if m.empty}
        if self._members.began_empty:
            empty.add(self._core.me)
        said = {self._core.me, *job.located} - (empty & lost)
        route = self._members.get(getattr(job.request, "route", ""))
        is_route_silent = route is not None and route.standing is Standing.SUSPECT and route.name not in said
        # Who is dead to us may be a holder that others hear: a living member whose answer was lost is asked again.
        is_answer_lost = any(name not in job.located for name in self._members.alive())
        if is_answer_lost or self._members.in_minority or self._members.may_be_cut_off:
            return Found(Finding.LATER)
        if len(union - said) <= self._core.settings.copies and not is_route_silent:
            return Found(Finding.UNKNOWN)
        return Found(Finding.LATER)

    def _follow(self, job: Job, places: dict[str, Location]) -> Found:
        """Somebody knows a place: the latest by which somebody can be asked counts, and an end more than any."""
        for sender, location in sorted(places.items(), key=lambda pair: (pair[1].ended, pair[1].epoch), reverse=True):
            way = self._way(job, sender, location)
            if location.ended or way in _holders(location):
                self._core.emit(c.Change(job.key, c.Learn(location, sender)))
            if location.ended:
                return Found(Finding.ENDED)
            if way:
                return Found(Finding.HELD, way)
        named = set().union(*map(_holders, places.values())) - {self._core.me}
        may_return = any(self._members.is_reachable(name) for name in named) or self._members.may_be_cut_off
        return Found(Finding.LATER if may_return else Finding.UNKNOWN)

    def _way(self, job: Job, sender: str, location: Location) -> str:
        """Whom to ask by that word: a living holder; or who gave it, if it is one or sees one that we do not; or ""."""
        if sender in job.denied:
            return ""
        holders = [h for h in (location.primary, *location.backups) if h != self._core.me]
        alive = next((h for h in holders if self._members.is_alive(h) and h not in job.denied), "")
        sees = (sender, *job.located[sender].view)
        return alive or (sender if any(h in sees and h not in job.denied for h in holders) else "")

    def remember_unknown(self, key: bytes) -> None:
        """Nobody knows the key: believe it for a while."""
        self._unknown[key] = self._core.now_ms + limits.UNKNOWN_REMEMBERED_MS
        if len(self._unknown) > limits.UNKNOWN_REMEMBERED_MAX:
            self._unknown.popitem(last=False)

    def appeared(self, key: bytes) -> None:
        """The session is known after all."""
        self._unknown.pop(key, None)


def _holders(location: Location) -> set[str]:
    return {location.primary, *location.backups}
