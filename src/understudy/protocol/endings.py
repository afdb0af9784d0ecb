"""When a request is told that its session has ended: when nobody is shown it any more, on any member.

Who was told so and asks once more, elsewhere, must not find the session alive. So an end is told to others no sooner
than to the request that made it: at the primary they wait for its flight, as a read waits for a change that it would
show. A tombstone on a second member may be told of, because whoever takes the session over asks that member first.

The smaller side of a cut tells nobody (``partition = "refuse"``): the other one may be showing the session.

Where every member shows its copy in place (``readers``) that is not enough. There a tombstone is *unconfirmed*, as any
news is, until the primary says that all have it, and the primary is asked meanwhile. If that one is silent, all others
are told, and the request waits until no lease can run any more under which they read.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from understudy import limits
from understudy.model.commit import Outcome
from understudy.model.entry import Entry, Location, Role
from understudy.protocol import commands as c
from understudy.protocol.core import Core
from understudy.protocol.job import Job, Jobs
from understudy.protocol.members import Members
from understudy.protocol.messages import Announce, CommitAnswer, FetchOutcome, SettleRequest
from understudy.protocol.replicate import Replication
from understudy.protocol.route import Router


class Endings:
    """How the jobs of one member are told of an end."""

    def __init__(
        self,
        core: Core,
        members: Members,
        replication: Replication,
        jobs: Jobs,
        router: Router,
        refuse: Callable[[Job, Entry | None], None],
    ) -> None:
        self._core = core
        self._members = members
        self._replication = replication
        self._jobs = jobs
        self._router = router
        self._refuse = refuse
        """Called with a job that a minority may not answer, and the entry if there is one."""

    def tell(self, job: Job, entry: Entry) -> None:
        """The session of a job has ended here: say so, or have the job wait until that may be said."""
        if isinstance(job.request, SettleRequest):
            self.answer(job)  # it asks of a change, and is shown nothing
        elif entry.unconfirmed:
            self._confirm(job, entry)
        elif not self._await_flight(job, entry):
            self.answer(job, entry)

    def answer(self, job: Job, entry: Entry | None = None) -> None:
        """Say so."""
        if self._members.in_minority and not isinstance(job.request, SettleRequest):
            self._refuse(job, entry)
        else:
            self._jobs.answer_either(job, CommitAnswer(Outcome.ENDED), FetchOutcome.ENDED)

    def place(self, key: bytes, entry: Entry | None) -> Location | None:
        """What a member that asks all about a key is told: of an end that is not for everybody yet, who knows more."""
        if entry is None:
            return None
        in_flight = entry.role is Role.PRIMARY and self._replication.newest(key) > 0
        is_sure = not entry.ended or not (entry.unconfirmed or in_flight)
        return entry.location if is_sure else replace(entry.location, ended=False)

    def _await_flight(self, job: Job, entry: Entry) -> bool:
        """True if the end was made here and is on its way: the job is looked at again when it has arrived."""
        if entry.role is not Role.PRIMARY:
            return False
        self._replication.take_up(job.key, entry)
        newest = self._replication.newest(job.key)
        job.awaits_end = self._replication.wait(job.id, job.key, newest, job.until_ms)
        return job.awaits_end

    def _confirm(self, job: Job, entry: Entry) -> None:
        """Ask the primary; without one wait for its leases."""
        now, primary, news = self._core.now_ms, entry.primary, Announce(((job.key, entry.location),))
        may_ask = primary != self._core.me and job.hops < limits.LOCATE_HOPS_MAX
        if may_ask and self._router.answers(job, primary):
            job.alone_until_ms = 0
            self._core.send(primary, news)  # it may have taken the session over without having heard of its end
            self._router.pass_on(job, primary)
        elif not job.alone_until_ms:
            job.alone_until_ms = now + self._members.promise_ms
            for name in self._members.reachable():
                self._core.send(name, news)
            self._jobs.retry(job)
        elif now < job.alone_until_ms:
            self._jobs.retry(job)
        else:
            self._core.emit(c.Change(job.key, c.ConfirmCopy(None)))
            self.answer(job, entry)
