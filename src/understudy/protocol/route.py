"""Where a request goes next, when this member is not the session's primary.

To the primary, while it answers. To the holder that is first in its place, with a *claim*, when the primary is gone or
has said nothing for ``claim_ms``: no request waits for the detector. That holder relays while it hears the primary
itself; else it asks, promises and promotes itself (``inquire``).
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from understudy import limits
from understudy.model.entry import Entry, Location
from understudy.protocol.core import Core
from understudy.protocol.job import Job
from understudy.protocol.members import Members
from understudy.protocol.messages import CommitRequest, Fetch, FetchRequest, Forward


class Way(enum.Enum):
    """What is to be done with a request."""

    PASS_ON = 1
    CLAIM = 2
    """This member is the first living holder: it asks the others."""
    LATER = 3
    """Who holds the session may come back: try again."""
    LOCATE = 4
    """Nobody who holds the session is there: ask all."""


class Hop(NamedTuple):
    """A way, with the member to pass on to and the primary that is claimed from."""

    way: Way
    to: str = ""
    claims: str = ""


class Router:
    """Decides the way of every request of one member, and sends what is passed on."""

    def __init__(self, core: Core, members: Members) -> None:
        self._core = core
        self._members = members

    def next(self, job: Job, entry: Entry) -> Hop:
        """The way of ``job`` from a member that holds ``entry`` as a backup or a proxy."""
        me, primary = self._core.me, entry.primary
        if job.hops >= limits.LOCATE_HOPS_MAX and job.is_remote:
            return Hop(Way.LATER)
        if job.relay and self.answers(job, job.relay):
            return Hop(Way.PASS_ON, job.relay)
        if primary != me and self.answers(job, primary):
            return Hop(Way.PASS_ON, primary)
        if entry.has_data and not self._is_over(job, entry):
            first = next((b for b in entry.backups if b == me or self.answers(job, b)), me)
            if first == me or job.hops >= limits.LOCATE_HOPS_MAX:
                return Hop(Way.CLAIM)
            return Hop(Way.PASS_ON, first, primary)
        holder = next((b for b in entry.backups if self.answers(job, b)), "")
        if holder:
            return Hop(Way.PASS_ON, holder, primary)
        if any(self._members.is_reachable(b) and not job.was_declined(b) for b in (primary, *entry.backups)):
            return Hop(Way.LATER)
        return Hop(Way.LOCATE)

    def _is_over(self, job: Job, entry: Entry) -> bool:
        """Its primary knows nothing, and its time is over here, too: it has expired, and the word of that is on its
        way. Who became primary of it could only expire it once more."""
        return entry.primary in job.denied and entry.expired(self._core.now_ms)

    def is_disproved(self, job: Job, location: Location) -> bool:
        """True when each member that is named as a holder has said that it knows nothing, or is this one, which does
        not: news that the session is over has not come to everybody."""
        return {location.primary, *location.backups} <= job.denied | {self._core.me}

    def answers(self, job: Job, name: str) -> bool:
        """True unless a member is silent, has declined this job, or has left it unanswered while it is not heard (one
        that is heard has work to do, or a frame was lost)."""
        if job.was_declined(name) or not self._members.is_alive(name):
            return False
        return name not in job.unanswered or self._members.hears(name)

    def pass_on(self, job: Job, to: str, claims: str = "") -> None:
        """Send a job to the member that is closer. It is looked at again when no answer has come in ``claim_ms``."""
        core, request = self._core, job.request
        job.sent_to, job.sent_ms = to, core.now_ms
        job.asked.setdefault(to, job.known)
        if isinstance(request, CommitRequest):
            forward = Forward(
                job.id,
                job.key,
                request.commit,
                request.acknowledge,
                request.unprotected_refused,
                job.hops + 1,
                core.now_ms,
                claims,
            )
            core.send(to, forward)
        else:
            assert isinstance(request, FetchRequest)
            core.send(to, Fetch(job.id, job.key, request.have, job.hops + 1, claims))
        job.retry_ms = core.now_ms + core.settings.claim_ms
