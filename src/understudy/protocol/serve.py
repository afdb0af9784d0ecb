"""Requests: fetches and commits, from this member's workers and from other members, until each is answered.

A *job* is one request on its way. It looks at the entry here and then either is done here, or waits (for a
comparison, an inquiry, a settlement), or goes on to the member that is closer to the session. Every member serves
every session; the number of hops is bounded, and so is the time: a job that has found nobody is answered
"unavailable", never "unknown".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeGuard

import msgspec

from understudy import limits
from understudy.model.commit import Outcome, found_by
from understudy.model.entry import Context, Entry, Role
from understudy.model.roles import copied
from understudy.protocol import commands as c
from understudy.protocol.compare import Comparisons
from understudy.protocol.core import Core
from understudy.protocol.create import Creations
from understudy.protocol.endings import Endings
from understudy.protocol.inquire import Inquiries
from understudy.protocol.job import RETRY_MS, Job, Jobs, Remote, unavailable
from understudy.protocol.locate import Finding, Found, Locator
from understudy.protocol.members import Members
from understudy.protocol.messages import (
    AcknowledgeMode,
    CommitAnswer,
    CommitRequest,
    Fetch,
    FetchAnswer,
    Fetched,
    FetchOutcome,
    FetchRequest,
    Forward,
    Forwarded,
    Located,
    Request,
    SettleRequest,
)
from understudy.protocol.replicate import Replication
from understudy.protocol.route import Router, Way

TICK_MS = RETRY_MS // 2
"""How often jobs are looked at while there are any."""
REFUSALS = {
    Outcome.CONFLICT: c.FactKind.COMMIT_CONFLICTED,
    Outcome.FENCED: c.FactKind.COMMIT_FENCED,
    Outcome.OUTDATED: c.FactKind.COMMIT_OUTDATED,
}


class Service:
    """All jobs of one member."""

    def __init__(
        self,
        core: Core,
        members: Members,
        replication: Replication,
        inquiries: Inquiries,
        comparisons: Comparisons,
        served: Callable[[Job], None],
    ) -> None:
        self._core = core
        self._members = members
        self._replication = replication
        self._inquiries = inquiries
        self._comparisons = comparisons
        self._served = served
        """Called with each request that was served with a session whose primary is here."""
        self._jobs = Jobs(core, members)
        self._locator = Locator(core, members)
        self._router = Router(core, members)
        self._creations = Creations(core, members, self._jobs, self._router, self._refuse)
        self.endings = Endings(core, members, replication, self._jobs, self._router, self._refuse)
        self._next_tick_ms = 0
        self.is_cold = False
        """True until those who were there last have been found: nobody can be asked about an old entry yet."""
        self.is_joining = False
        """True until peers have been found and their announcements heard: "unknown" proves nothing yet."""

    @property
    def jobs(self) -> Mapping[int, Job]:
        """All open requests, by number."""
        return self._jobs.open

    # --- in ------------------------------------------------------------------------------------------------

    def requested(self, ticket: c.Ticket, request: Request) -> None:
        """A worker asks."""
        if len(self.jobs) >= limits.REQUESTS_IN_FLIGHT_MAX:
            self._core.emit(c.Reply(ticket, unavailable(request)))
            return
        job = self._jobs.new(ticket, request, 0)
        self._start(job)

    def fetch(self, sender: str, message: Fetch) -> None:
        """Another member asks for an entry. While this one doubts what it holds it says nothing: it is asked again."""
        origin = Remote(sender, message.request)
        if not self.is_cold and not self._jobs.is_known(origin):
            self._start(
                self._jobs.new(origin, FetchRequest(0, message.key, message.have), message.hops, message.claims)
            )

    def forward(self, sender: str, message: Forward) -> None:
        """Another member passes a commit on; one that comes very late may have been applied elsewhere since."""
        member = self._members.get(sender)
        origin = Remote(sender, message.request)
        is_late = member is not None and member.age_ms(self._core.now_ms, message.sent_ms) > self._late_ms
        if self.is_cold or is_late or self._jobs.is_known(origin):
            return
        request = CommitRequest(0, message.key, message.commit, message.acknowledge, message.unprotected_refused)
        self._start(self._jobs.new(origin, request, message.hops, message.claims))

    def abandoned(self, ticket: c.Ticket) -> None:
        """The worker has gone; what it committed goes on without it."""
        self._jobs.abandoned(ticket)

    def _start(self, job: Job) -> None:
        if len(self.jobs) == 1:
            self._next_tick_ms = self._core.now_ms + TICK_MS
        request = job.request
        if isinstance(request, CommitRequest) and request.commit.creates is not None:
            self._creations.begin(job, request, self.is_joining)
        elif self._may_commit_unseen(request):
            # The common case: one look-up fewer.
            self._core.emit(c.Change(job.key, c.DoCommit(job.id, request.commit)))
        else:
            self._core.emit(c.Read((job.key,), c.ServeJob(job.id)))

    def _may_commit_unseen(self, request: Request) -> TypeGuard[CommitRequest]:
        if not isinstance(request, CommitRequest) or request.unprotected_refused:
            return False
        return self._comparisons.complete and not self.is_cold and not self._members.in_minority

    # --- what the store says -------------------------------------------------------------------------------

    def looked(self, job_id: int, entry: Entry | None) -> None:
        """The entry here: decide."""
        job = self.jobs.get(job_id)
        if job is None:
            return
        if entry is None:
            self._not_here(job)
        elif entry.ended:
            self.endings.tell(job, entry)
        elif entry.has_data and self.is_cold:
            self._jobs.retry(job)
        elif entry.role is Role.PRIMARY:
            self._at_primary(job, entry)
        elif isinstance(job.request, SettleRequest):
            self._jobs.answer_commit(job, CommitAnswer(Outcome.COMMITTED, primary=entry.primary))
        else:
            self._route(job, entry)

    def _at_primary(self, job: Job, entry: Entry) -> None:
        request, key = job.request, job.key
        comparisons = self._comparisons
        if not comparisons.is_compared(key) and comparisons.ask_about(key, entry, self._members.reachable()):
            self._jobs.park(job)
            return
        if isinstance(request, CommitRequest):
            if self._members.in_minority:
                self._refuse(job, entry)
            elif request.unprotected_refused and not self._may_protect(entry):
                self._jobs.answer_commit(job, CommitAnswer(Outcome.REFUSED, unsure=job.may_be_done(entry)))
            else:
                self._core.emit(c.Change(key, c.DoCommit(job.id, request.commit)))
            return
        self._replication.take_up(key, entry)
        if isinstance(request, SettleRequest):
            if not self._replication.wait(job.id, key, request.number, job.until_ms):
                protected = self._replication.is_protected(key, entry, request.number)
                self._jobs.answer_commit(job, CommitAnswer(Outcome.COMMITTED, protected, self._core.me))
            return
        if entry.is_outbid:
            self._jobs.park(job)
            job.retry_ms = self._core.now_ms + RETRY_MS
            self._inquiries.begin(key, entry.promised.reign)
            return
        is_vouched = self._members.has_lease(entry.backups)
        is_sure = is_vouched or comparisons.is_fresh(key, job.since_ms)
        if not is_sure and comparisons.ask_about(key, entry, self._witnesses(entry)):
            self._jobs.park(job)
        elif not is_vouched and self._members.in_minority:
            # Whoever else has answered does not know what a backup on the other side has become.
            self._refuse(job)
        elif entry.expired(self._core.now_ms):
            self._core.emit(c.Change(key, c.Expire()))
            self._jobs.answer_fetch(job, FetchAnswer(FetchOutcome.UNKNOWN))
        elif not self._replication.wait(job.id, key, self._replication.newest(key), job.until_ms):
            self._give(job, entry)

    def _witnesses(self, entry: Entry) -> tuple[str, ...]:
        """Who can say that nobody has taken this session: its backups, or all others while one of them is silent."""
        if all(self._members.is_alive(backup) for backup in entry.backups):
            return entry.backups
        return tuple(self._members.reachable())

    def _refuse(self, job: Job, entry: Entry | None = None) -> None:
        """This side of a cut may change nothing; but a lost heartbeat is no cut: a lease's time is given to it."""
        if self._core.now_ms - job.since_ms < self._core.settings.lease_ms:
            self._jobs.retry(job)
        else:
            refused = CommitAnswer(Outcome.MINORITY, unsure=job.may_be_done(entry))
            self._jobs.answer_either(job, refused, FetchOutcome.UNAVAILABLE)

    def _may_protect(self, entry: Entry) -> bool:
        return any(self._members.is_alive(b) for b in entry.backups) or self._members.can_place()

    def _give(self, job: Job, entry: Entry) -> None:
        """The entry itself, to who asked."""
        request = job.request
        assert isinstance(request, FetchRequest)
        self._served(job)
        if not job.is_remote:
            self._jobs.answer_fetch(job, FetchAnswer(FetchOutcome.HERE, self._core.me))
        else:
            unprotected = not self._replication.is_protected(job.key, entry, entry.number)
            has_it = request.have and request.have == entry.context
            outcome = FetchOutcome.NOT_MODIFIED if has_it else FetchOutcome.FOUND
            self._jobs.answer_fetch(job, FetchAnswer(outcome, self._core.me, unprotected=unprotected), entry)

    def committed(self, event: c.Changed) -> None:
        """The store's word on a commit."""
        what, entry, outcome = event.what, event.entry, event.outcome
        assert isinstance(what, c.DoCommit)
        job = self.jobs.get(what.job)
        if outcome is Outcome.COMMITTED:
            assert entry is not None
            if event.before is None:
                self._core.tell(c.FactKind.SESSION_CREATED, event.key)
            self._core_commit(event.key, entry, event.before, job)
            return
        if job is None:
            return
        if outcome is Outcome.REPEATED:
            assert entry is not None
            self._core.tell(c.FactKind.COMMIT_REPEATED, event.key)
            newest = self._replication.newest(event.key)
            if not self._replication.wait(job.id, event.key, newest, job.until_ms):
                self._replication.track(event.key, entry, event.before, job.id, until_ms=job.until_ms)
        elif outcome is Outcome.NOT_PRIMARY:
            assert entry is not None
            self._route(job, entry)
        elif outcome is Outcome.UNKNOWN:
            self._not_here(job)
        elif entry is not None and entry.ended:
            self.endings.tell(job, entry)
        else:
            if outcome in REFUSALS:
                self._core.tell(REFUSALS[outcome], event.key)
            self._jobs.answer_commit(
                job, CommitAnswer(outcome, primary=self._core.me, found=found_by(entry, what.commit))
            )

    def _core_commit(self, key: bytes, entry: Entry, before: Entry | None, job: Job | None) -> None:
        if job is None:
            self._replication.track(key, entry, before)
            return
        request = job.request
        assert isinstance(request, CommitRequest)
        if not job.is_remote:
            self._served(job)
        if request.acknowledge is AcknowledgeMode.BACKUP:
            self._replication.track(key, entry, before, job.id, until_ms=job.until_ms)
            return
        number = entry.number
        self._replication.track(key, entry, before)
        self._core.emit(c.Mark((number,)))
        flight = self._replication.flights.get(key)
        if flight is not None:
            flight.marked.add(number)
        answer = CommitAnswer(Outcome.COMMITTED, False, self._core.me, self._core.settings.incarnation, number)
        self._jobs.answer_commit(job, answer)

    def settled(self, job_id: int, protected: bool, number: int) -> None:
        """A change that a job waited for is on as many machines as wanted, or its time is over."""
        job = self.jobs.get(job_id)
        if job is None:
            return
        request = job.request
        if isinstance(request, FetchRequest) or job.awaits_end:
            # What it shows has been answered, or marked as unprotected: read it again.
            job.awaits_end = False
            self._core.emit(c.Read((job.key,), c.ServeJob(job.id)))
        elif isinstance(request, CommitRequest) and self._members.in_minority:
            # Stored before the cut was noticed: the other side may know nothing of it.
            self._jobs.answer_commit(job, CommitAnswer(Outcome.MINORITY, unsure=True))
        elif isinstance(request, CommitRequest) and request.unprotected_refused and not protected:
            self._jobs.answer_commit(job, CommitAnswer(Outcome.REFUSED, False, self._core.me, unsure=True))
        else:
            incarnation = self._core.settings.incarnation
            self._jobs.answer_commit(
                job, CommitAnswer(Outcome.COMMITTED, protected, self._core.me, incarnation, number)
            )

    # --- to the member that is closer ----------------------------------------------------------------------

    def _route(self, job: Job, entry: Entry) -> None:
        """This member is a backup or a proxy: who is next?"""
        job.learns(entry.epoch)
        hop = self._router.next(job, entry)
        match hop.way:
            case Way.PASS_ON:
                self._router.pass_on(job, hop.to, hop.claims)
            case Way.CLAIM if self._members.in_minority:
                self._refuse(job)
            case Way.CLAIM:
                self._jobs.park(job)
                job.retry_ms = self._core.now_ms + RETRY_MS
                self._inquiries.begin(job.key)
            case Way.LATER:
                self._jobs.retry(job)
            case Way.LOCATE:
                if self._router.is_disproved(job, entry.location):
                    self._core.emit(c.Change(job.key, c.ForgetCopy(entry.epoch)))
                self._locate(job)

    def fetched(self, sender: str, message: Fetched) -> None:
        """Another member's answer to a fetch."""
        job = self._answered_by(sender, message.request)
        if job is None:
            return
        outcome = message.answer.outcome
        if outcome is FetchOutcome.UNKNOWN:
            self._denied(job, sender)
        elif outcome is FetchOutcome.UNAVAILABLE:
            self._jobs.retry(job)
        elif outcome is FetchOutcome.FOUND and message.delta is not None:
            self._confirm(job, message.delta.context)
            _, entry = copied(None, message.delta, self._core.me, self._core.now_ms)
            self._jobs.relay_fetched(job, msgspec.structs.replace(message.answer, entry=entry), message)
        else:
            if outcome is FetchOutcome.NOT_MODIFIED and isinstance(job.request, FetchRequest):
                self._confirm(job, job.request.have)
            elif outcome is FetchOutcome.ENDED:
                self._confirm(job, None)
            self._jobs.relay_fetched(job, message.answer, message)

    def _confirm(self, job: Job, context: Context | None) -> None:
        """The primary shows this much, so all who read the session have it: our copy may be shown in place again."""
        if self._core.settings.everywhere:
            self._core.emit(c.Change(job.key, c.ConfirmCopy(context)))

    def forwarded(self, sender: str, message: Forwarded) -> None:
        """Another member's answer to a commit."""
        job = self._answered_by(sender, message.request)
        if job is None:
            return
        if message.answer.outcome is Outcome.UNKNOWN:
            self._denied(job, sender)
        elif message.answer.outcome is Outcome.NOT_PRIMARY:
            self._jobs.retry(job)
        else:
            self._jobs.answer_commit(job, message.answer)

    def _answered_by(self, sender: str, request: int) -> Job | None:
        job = self.jobs.get(request)
        if job is None or job.sent_to != sender:
            return None
        job.sent_to = ""
        job.unanswered.discard(sender)
        return job

    def _denied(self, job: Job, sender: str) -> None:
        job.is_denied_by(sender)
        self._core.emit(c.Read((job.key,), c.ServeJob(job.id)))

    # --- nobody here knows it ------------------------------------------------------------------------------

    def _not_here(self, job: Job) -> None:
        if isinstance(job.request, SettleRequest):
            self._jobs.answer_commit(job, CommitAnswer(Outcome.UNKNOWN))
        elif not job.is_remote and (hint := self._locator.hint(job)):
            self._router.pass_on(job, hint)
        else:
            self._locate(job)

    def _locate(self, job: Job) -> None:
        """Ask all members, once, for a valid id that is not where it should be."""
        if job.is_remote or job.is_unknown:
            self._unknown_to_all(job)
        elif self.is_joining:
            self._jobs.retry(job)
        else:
            self._go_on(job, self._locator.ask(job))

    def located(self, sender: str, message: Located) -> None:
        """One member's answer to the question to all."""
        job = self.jobs.get(message.request)
        if job is not None:
            self._go_on(job, self._locator.located(job, sender, message))

    def _go_on(self, job: Job, found: Found) -> None:
        """Do with a job what the question to all came to."""
        match found.finding:
            case Finding.ENDED:
                self.endings.answer(job)
            case Finding.HELD:
                self._router.pass_on(job, found.holder)
            case Finding.UNKNOWN if not self.is_joining:  # else it was asked before we stood still
                job.is_unknown = True
                self._core.emit(c.Read((job.key,), c.ServeJob(job.id)))  # it may be known here by now
            case Finding.UNKNOWN | Finding.LATER:
                self._jobs.retry(job)

    def _unknown_to_all(self, job: Job) -> None:
        if not job.is_remote:
            self._core.tell(c.FactKind.SESSION_UNKNOWN, job.key)
            self._locator.remember_unknown(job.key)
        self._jobs.answer_either(job, CommitAnswer(Outcome.UNKNOWN), FetchOutcome.UNKNOWN)

    def appeared(self, key: bytes) -> None:
        """The session is known after all."""
        self._locator.appeared(key)

    # --- waiting -------------------------------------------------------------------------------------------

    def resume(self, key: bytes, relay: str) -> None:
        """What the jobs of a key waited for has happened."""
        for job in self._jobs.unparked(key):
            job.relay = relay
            job.is_led_by(relay)
            # After a round that changed nothing, time must pass before the next.
            job.retry_ms = self._core.now_ms + RETRY_MS
            self._core.emit(c.Read((key,), c.ServeJob(job.id)))

    def again(self, job_ids: list[int]) -> None:
        """Jobs whose change was taken back by stepping down: they are served where the session is now."""
        for job_id in job_ids:
            if job_id in self.jobs:
                self._core.emit(c.Read((self.jobs[job_id].key,), c.ServeJob(job_id)))

    def silent(self, name: str) -> None:
        """A member was lost: what was asked of it is asked again, elsewhere."""
        self._jobs.forget_sender(name)
        for job in list(self.jobs.values()):
            if job.sent_to == name:
                job.sent_to = ""
                self._core.emit(c.Read((job.key,), c.ServeJob(job.id)))
            elif name in job.locating:
                self._go_on(job, self._locator.silent(job, name))

    @property
    def _late_ms(self) -> int:
        """After so long a commit may have been done elsewhere, and its id may have left the entry's memory."""
        return 2 * self._core.settings.commit_timeout_ms

    def stood_still(self, ms: int) -> None:
        """This member was stopped for so long: workers' requests that lay here meanwhile get their time back."""
        for job in self.jobs.values():
            if not job.is_remote and (isinstance(job.request, FetchRequest) or ms < self._late_ms):
                job.until_ms += ms

    def tick(self) -> None:
        """Try again what waits for time; give up what has waited too long."""
        now = self._core.now_ms
        self._next_tick_ms = now + TICK_MS
        for job in list(self.jobs.values()):
            if now >= job.until_ms + RETRY_MS:
                self._give_up(job)
            elif job.locating_until_ms and now >= job.locating_until_ms:
                self._go_on(job, self._locator.conclude(job))
            elif job.retry_ms and now >= job.retry_ms:
                job.retry_ms = 0
                if job.sent_to and now - job.sent_ms >= self._core.settings.claim_ms:
                    job.unanswered.add(job.sent_to)
                if isinstance(job.request, CommitRequest) and job.request.commit.creates is not None:
                    self._creations.begin(job, job.request, self.is_joining)
                else:
                    self._core.emit(c.Read((job.key,), c.ServeJob(job.id)))

    def deadline_ms(self) -> int | None:
        return self._next_tick_ms if self.jobs else None

    # --- out -----------------------------------------------------------------------------------------------

    def _give_up(self, job: Job) -> None:
        self._core.tell(c.FactKind.SESSION_UNAVAILABLE, job.key)
        self._jobs.answer_either(job, CommitAnswer(Outcome.REFUSED, unsure=True), FetchOutcome.UNAVAILABLE)
