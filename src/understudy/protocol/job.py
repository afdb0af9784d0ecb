"""The open requests of one member: what each asked, where it was sent, what it heard; and how it is answered."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

import msgspec

from understudy import limits
from understudy.model.commit import Outcome
from understudy.model.delta import delta_since
from understudy.model.entry import Entry, Epoch
from understudy.protocol import commands as c
from understudy.protocol.core import Core
from understudy.protocol.members import Members
from understudy.protocol.messages import (
    AcknowledgeMode,
    CommitAnswer,
    CommitRequest,
    FetchAnswer,
    Fetched,
    FetchOutcome,
    FetchRequest,
    Forwarded,
    Located,
    Request,
)

RETRY_MS = 50
"""After what time a job is looked at again that waits for time alone."""


class Remote(NamedTuple):
    """A job that came from another member."""

    sender: str
    request: int


class Job:
    """One request on its way."""

    def __init__(
        self, id_: int, origin: c.Ticket | Remote, request: Request, hops: int, now_ms: int, until_ms: int
    ) -> None:
        self.id = id_
        self.origin = origin
        self.request = request
        self.hops = hops
        self.since_ms = now_ms
        self.until_ms = until_ms
        self.retry_ms = 0
        """0: not waiting for time alone."""
        self.sent_to = ""
        self.sent_ms = 0
        self.unanswered: set[str] = set()
        """Members that were asked and said nothing for ``claim_ms``: unless they are heard, others are asked."""
        self.relay = ""
        self.awaits_end = False
        """It waits for the flight of an end that another request has made."""
        self.alone_until_ms = 0
        """Until when others may be shown a session whose end is known here, and whose primary is silent; 0: it is not,
        or nobody has tried."""
        self.known = Epoch(0, 0, 0)
        """The latest place of the session that has become known to this job."""
        self.denied: set[str] = set()
        """Members that have said since then that they hold nothing."""
        self.asked: dict[str, Epoch] = {}
        """Members whose answer may be on its way, each with what was known when it was asked first."""
        self.claimant = ""
        """Who passed it on with a claim: it knew then of others that come before it, which is no word that it holds
        nothing."""
        self.hinted: set[str] = set()
        """Members that were asked because they may well hold it."""
        self.located: dict[str, Located] = {}
        self.locating: set[str] = set()
        self.locating_until_ms = 0
        self.is_unknown = False
        """All were asked, and enough of them know nothing."""

    @property
    def key(self) -> bytes:
        return self.request.key

    @property
    def was_passed_on(self) -> bool:
        """True if another member may have done what it asks for."""
        return self.sent_ms > 0

    def may_be_done(self, entry: Entry | None) -> bool:
        """True if another member may have done what it asks for, or that was done here before."""
        commit = self.request.commit if isinstance(self.request, CommitRequest) else None
        return self.was_passed_on or (commit is not None and entry is not None and commit.id in entry.recent)

    @property
    def is_remote(self) -> bool:
        return isinstance(self.origin, Remote)

    def learns(self, epoch: Epoch) -> None:
        """A place of the session is known. What was denied before a later one says nothing of that: the session may
        have been handed to who had said that it holds nothing."""
        if epoch > self.known:
            self.known = epoch
            self.denied.clear()

    def is_denied_by(self, name: str) -> None:
        """That member says that it holds nothing; it is asked again if that may be of before the place known now."""
        if self.asked.pop(name, self.known) >= self.known:
            self.denied.add(name)

    def was_declined(self, name: str) -> bool:
        """True if that member need not be asked: it holds nothing, or it has passed the request on to us itself."""
        return name in self.denied or name == self.claimant

    def is_led_by(self, name: str) -> None:
        """That member is the primary, or hears it: what it said earlier is of before that."""
        self.denied.discard(name)
        if name == self.claimant:
            self.claimant = ""


def unavailable(request: Request) -> FetchAnswer | CommitAnswer:
    """The answer to a request for which there is no room."""
    if isinstance(request, FetchRequest):
        return FetchAnswer(FetchOutcome.UNAVAILABLE)
    return CommitAnswer(Outcome.REFUSED)


class Jobs:
    """All jobs of one member: by number, by where they came from, and by the key that they wait for."""

    def __init__(self, core: Core, members: Members) -> None:
        self._core = core
        self._members = members
        self.open: dict[int, Job] = {}
        self._parked: dict[bytes, set[int]] = {}
        self._by_origin: dict[c.Ticket | Remote, int] = {}
        """A request that comes again while its job is open opens no second one."""
        self._committed: OrderedDict[Remote, CommitAnswer] = OrderedDict()
        """Answers to commits of other members: one that comes again is answered again, whatever has happened since."""

    def new(self, origin: c.Ticket | Remote, request: Request, hops: int = 0, claims: str = "") -> Job:
        """Open a job; ``claims``: a member that its sender had no answer from. Who passes a claim on does not take the
        session over itself, whatever an older list says of it."""
        now = self._core.now_ms
        job = Job(self._core.next_id(), origin, request, hops, now, now + self._core.settings.commit_timeout_ms)
        if claims:
            assert isinstance(origin, Remote)
            job.unanswered.add(claims)
            job.claimant = origin.sender
        self.open[job.id] = job
        self._by_origin[origin] = job.id
        return job

    def is_known(self, origin: Remote) -> bool:
        """True for a request that came before: its job is open, or its answer is sent once more."""
        answer = self._committed.get(origin)
        if answer is not None:
            self._core.send(origin.sender, Forwarded(origin.request, answer))
        return answer is not None or origin in self._by_origin

    def abandoned(self, ticket: c.Ticket) -> None:
        """The worker has gone; what it committed goes on without it."""
        job = self.open.pop(self._by_origin.pop(ticket, 0), None)
        if job is not None:
            self._unpark(job)

    def forget_sender(self, name: str) -> None:
        """A life of a member has ended: nobody waits for its answers."""
        for origin in [o for o in self._by_origin if isinstance(o, Remote) and o.sender == name]:
            del self._by_origin[origin]
        for origin in [o for o in self._committed if o.sender == name]:
            del self._committed[origin]

    # --- waiting -------------------------------------------------------------------------------------------

    def retry(self, job: Job) -> None:
        """Wait for time alone."""
        job.sent_to = job.relay = ""
        job.retry_ms = self._core.now_ms + RETRY_MS

    def park(self, job: Job) -> None:
        """Wait for a comparison or an inquiry about the key."""
        self._parked.setdefault(job.key, set()).add(job.id)

    def unparked(self, key: bytes) -> list[Job]:
        """The jobs that waited for what has now happened, in order of their arrival."""
        return [job for n in sorted(self._parked.pop(key, ())) if (job := self.open.get(n)) is not None]

    def _unpark(self, job: Job) -> None:
        waiting = self._parked.get(job.key)
        if waiting is not None:
            waiting.discard(job.id)
            if not waiting:
                del self._parked[job.key]

    # --- answers -------------------------------------------------------------------------------------------

    def answer_either(self, job: Job, commit: CommitAnswer, fetch: FetchOutcome) -> None:
        """Answer whatever kind of request it is."""
        if isinstance(job.request, FetchRequest):
            self.answer_fetch(job, FetchAnswer(fetch))
        else:
            self.answer_commit(job, commit)

    def answer_fetch(self, job: Job, answer: FetchAnswer, entry: Entry | None = None) -> None:
        """Answer from this member's own ``entry``, if it has one to tell of."""
        location = entry.location if entry is not None else None
        whole = entry is not None and answer.outcome is FetchOutcome.FOUND
        delta = delta_since(entry, {}, self._core.now_ms) if entry is not None and whole else None
        self.relay_fetched(job, answer, Fetched(0, answer, location, delta))

    def relay_fetched(self, job: Job, answer: FetchAnswer, fetched: Fetched) -> None:
        """Answer a worker with ``answer``, another member with what ``fetched`` holds."""
        is_awaited = self._finish(job)
        if not isinstance(job.origin, Remote):
            self._core.emit(c.Reply(job.origin, answer))
        elif is_awaited and self._members.is_reachable(job.origin.sender):
            bare = msgspec.structs.replace(answer, entry=None)
            message = Fetched(job.origin.request, bare, fetched.location, fetched.delta)
            self._core.send(job.origin.sender, message)

    def answer_commit(self, job: Job, answer: CommitAnswer) -> None:
        """Tell how a commit, or a wait for one, went."""
        is_awaited = self._finish(job)
        if isinstance(job.origin, Remote):
            if not is_awaited:
                return
            if answer.outcome is Outcome.COMMITTED:
                self._committed[job.origin] = answer
                if len(self._committed) > limits.ANSWERS_REMEMBERED_MAX:
                    self._committed.popitem(last=False)
            if self._members.is_reachable(job.origin.sender):
                self._core.send(job.origin.sender, Forwarded(job.origin.request, answer))
        elif isinstance(job.request, CommitRequest) and job.request.acknowledge is AcknowledgeMode.NONE:
            return
        else:
            self._core.emit(c.Reply(job.origin, answer))

    def _finish(self, job: Job) -> bool:
        """Close a job; False if its sender's life has ended meanwhile: the next one means another request by that
        number."""
        self.open.pop(job.id, None)
        self._unpark(job)
        is_awaited = self._by_origin.get(job.origin) == job.id
        if is_awaited:
            del self._by_origin[job.origin]
        return is_awaited
