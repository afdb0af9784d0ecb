"""More engines that are broken on purpose: what they say, where they put copies, and whom they serve.

As in ``broken.py``, each is broken in one rule, and ``test_broken_engines.py`` shows that the simulator notices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from understudy.agent import executor
from understudy.client import conversation
from understudy.model import commit as commits
from understudy.model import delta as deltas
from understudy.model import roles
from understudy.model.commit import Commit, Outcome
from understudy.model.entry import Entry, Role
from understudy.protocol import commands as c
from understudy.protocol import (
    endings,
    engine,
    inquire,
    job,
    local,
    members,
    patrol,
    places,
    readers,
    replicate,
    serve,
    shares,
    sweep,
)
from understudy.protocol import messages as m
from understudy.store import memory

Patch = pytest.MonkeyPatch


# --- what is said ---------------------------------------------------------------------------------------------------


def messages_leave_before_they_are_stored(patch: Patch) -> None:
    """What a turn has to say leaves inside its transaction."""
    right = executor.Executor._work

    def broken(self: executor.Executor, turn: Any) -> None:
        right(self, turn)
        self._release()

    patch.setattr(executor.Executor, "_work", broken)


def a_full_store_acknowledges(patch: Patch) -> None:
    """A backup for whose copy there is no room says that it has it."""
    right = engine.Engine._changed

    def broken(self: engine.Engine, event: c.Changed) -> None:
        right(self, event)
        if event.outcome is Outcome.STORE_FULL and isinstance(event.what, c.CopyIn):
            self.core.send(event.what.sender, m.Acknowledge(event.key, event.what.number, event.what.delta.context))

    patch.setattr(engine.Engine, "_changed", broken)


def no_protection_is_called_protection(patch: Patch) -> None:
    """When the time is over, the answer says all the same that the change is on two machines."""
    right = replicate.Replication.__init__

    def broken(self: replicate.Replication, core: Any, others: Any, answer: Callable[[int, bool, int], None]) -> None:
        right(self, core, others, lambda job, protected, number: answer(job, True, number))

    patch.setattr(replicate.Replication, "__init__", broken)


def what_was_to_be_refused_is_committed(patch: Patch) -> None:
    """``unprotected = "refuse"`` is read, and not heeded."""
    right = serve.Service._start

    def broken(self: serve.Service, job: Any) -> None:
        wanted, request = job.request, job.request
        if isinstance(request, m.CommitRequest):
            job.request = msgspec.structs.replace(request, unprotected_refused=False)
        right(self, job)
        assert wanted.key == job.key

    patch.setattr(serve.Service, "_start", broken)


def others_are_shown_what_is_under_way(patch: Patch) -> None:
    """A fetch of another member does not wait for the change that it is answered with."""
    right = serve.Service._at_primary

    def broken(self: serve.Service, job: Any, entry: Entry) -> None:
        if job.is_remote and isinstance(job.request, m.FetchRequest) and not entry.is_outbid:
            self._give(job, entry)
        else:
            right(self, job, entry)

    patch.setattr(serve.Service, "_at_primary", broken)


# --- who may write --------------------------------------------------------------------------------------------------


def a_replaced_secret_writes(patch: Patch) -> None:
    """A request that began before a login changes the session after it."""
    right = commits.refusal

    def broken(entry: Entry, commit: Commit, *rest: Any) -> Outcome | None:
        return right(entry, msgspec.structs.replace(commit, secret=b""), *rest)

    for module in (commits, local):
        patch.setattr(module, "refusal", broken)


def a_minority_goes_on(patch: Patch) -> None:
    """``partition = "refuse"``: the smaller side of a cut does not notice that it is one."""
    patch.setattr(members.Members, "in_minority", False)


# --- time and leases ------------------------------------------------------------------------------------------------


def a_copy_begins_its_life_anew(patch: Patch) -> None:
    """A session's absolute timeout counts from when the copy came."""
    right = deltas.times_of

    def broken(delta: Any, now_ms: int) -> Any:
        return msgspec.structs.replace(right(delta, now_ms), created_ms=now_ms)

    patch.setattr(deltas, "times_of", broken)
    patch.setattr(roles, "times_of", broken)


def readers_are_not_awaited(patch: Patch) -> None:
    """A change is acknowledged while a member that reads in place lacks it."""
    patch.setattr(readers.Readers, "awaited", lambda self, key, names: [])


def an_end_is_told_before_all_know_of_it(patch: Patch) -> None:
    """Who meets a tombstone is told so at once, while others are still shown the session."""
    patch.setattr(endings.Endings, "tell", lambda self, job, entry: self.answer(job))
    patch.setattr(conversation, "has_ended", lambda entry, settled: entry.ended)


# --- where copies are -----------------------------------------------------------------------------------------------


def zones_are_ignored(patch: Patch) -> None:
    """Copies go to whoever is next, also where another zone has none."""
    patch.setattr(members, "chosen", _without_zones(members.chosen))
    patch.setattr(shares.Shares, "_evener", lambda self, key, entry: None)


def _without_zones(right: Callable[..., tuple[str, ...]]) -> Callable[..., tuple[str, ...]]:
    def broken(order: Any, key: bytes, candidates: Any, *rest: Any) -> tuple[str, ...]:
        return right(order, key, [candidate._replace(zone="") for candidate in candidates], *rest[:2])

    return broken


def computed_places_stay(patch: Patch) -> None:
    """When members come or go, copies are not brought to where their keys say now."""
    patch.setattr(shares.Shares, "_named", lambda self, key, entry: None)


# --- who leaves, who is lost ----------------------------------------------------------------------------------------


def a_drain_hands_nothing_over(patch: Patch) -> None:
    """A leaving member says that it is done as soon as it has said that it leaves."""

    def broken(self: sweep.Sweeps, key: bytes, entry: Entry | None) -> None:
        self._leave_remaining = 0

    patch.setattr(sweep.Sweeps, "left", broken)


def what_nobody_asks_for_has_no_primary(patch: Patch) -> None:
    """After a loss a session is taken over by a request alone."""
    right = sweep.Sweeps.rechecked

    def broken(self: sweep.Sweeps, key: bytes, purpose: c.Recheck, entry: Entry | None) -> None:
        if entry is None or entry.role is not Role.BACKUP:
            right(self, key, purpose, entry)

    patch.setattr(sweep.Sweeps, "rechecked", broken)


def late_words_bring_back_who_is_lost(patch: Patch) -> None:
    """A frame of a life that the network has reported as gone makes it a member again."""
    patch.setattr(members.Member, "shows_life", lambda self, message: True)


# --- what is remembered, and what is noted --------------------------------------------------------------------------


def a_creation_is_not_remembered(patch: Patch) -> None:
    """The first change of a session leaves no outbox row: a life that ends before it is acknowledged forgets it."""
    right = executor.Executor._change

    def broken(self: executor.Executor, key: bytes, what: c.What, turn: Any) -> c.Changed:
        changed = right(self, key, what, turn)
        if changed.before is None and changed.entry is not None and changed.entry.number:
            turn.transaction.outbox_remove([changed.entry.number])
        return changed

    patch.setattr(executor.Executor, "_change", broken)


def what_an_earlier_life_left_is_dropped(patch: Patch) -> None:
    """A new life clears the outbox instead of taking it up."""

    def broken(self: replicate.Replication, key: bytes, entry: Entry, number: int, marked: bool) -> None:
        self._core.emit(c.Settle((number,)))

    patch.setattr(replicate.Replication, "recover", broken)
    patch.setattr(replicate.Replication, "take_up", lambda self, key, entry: None)


def an_unprotected_answer_is_not_noted(patch: Patch) -> None:
    """The store does not say which changes users were told of: a later life takes them back."""
    patch.setattr(memory.MemoryTransaction, "outbox_mark", lambda self, numbers: None)


def a_lease_counts_from_its_arrival(patch: Patch) -> None:
    """A lease is counted from when its grant came, not from when it was asked for."""
    right = members.Members.granted

    def broken(self: members.Members, sender: members.Member, sent_ms: int, *rest: Any) -> bool:
        return right(self, sender, self._core.now_ms, *rest)

    patch.setattr(members.Members, "granted", broken)


def a_grant_is_not_noted(patch: Patch) -> None:
    """Who grants a lease does not remember that it has promised something with it."""
    patch.setattr(members.Members, "hold_until_ms", lambda self, names: 0)


# --- what is asked before a promotion -------------------------------------------------------------------------------


def _without(patch: Patch, verdict: m.Verdict) -> None:
    """The asker takes one verdict for none."""
    right = inquire.Inquiries._conclude

    def broken(self: inquire.Inquiries, inquiry: inquire.Inquiry) -> None:
        inquiry.answers = {name: a for name, a in inquiry.answers.items() if a.verdict is not verdict}
        right(self, inquiry)

    patch.setattr(inquire.Inquiries, "_conclude", broken)


def that_the_primary_is_heard_is_ignored(patch: Patch) -> None:
    """A member that hears the primary hinders no promotion."""
    _without(patch, m.Verdict.HEARD)


# --- what copies know beside the data -------------------------------------------------------------------------------


def what_was_answered_is_taken_back(patch: Patch) -> None:
    """Who steps down drops all that its successor lacks, whoever was answered for it."""
    patch.setattr(executor._Unanswered, "__contains__", lambda self, number: True)


def uses_are_not_told(patch: Patch) -> None:
    """Only the member that serves a request knows that the session is in use."""
    patch.setattr(sweep.Sweeps, "accessed", lambda self, *use: None)


def a_copy_is_used_when_it_comes(patch: Patch) -> None:
    """A copy that is made anew begins to be idle when it came."""
    right = deltas.times_of

    def broken(delta: Any, now_ms: int) -> Any:
        return msgspec.structs.replace(right(delta, now_ms), accessed_ms=now_ms)

    patch.setattr(deltas, "times_of", broken)
    patch.setattr(roles, "times_of", broken)


def copies_remember_no_commits(patch: Patch) -> None:
    """A copy keeps the ids that it began with: what is sent again after a failover is done twice."""
    for module in (deltas, roles):
        patch.setattr(module, "remembered", lambda entry, delta: entry.recent or delta.recent)


# --- what others are shown ------------------------------------------------------------------------------------------


def what_others_fetch_is_called_protected(patch: Patch) -> None:
    """A member is shown a session of another one as protected, whoever holds it."""
    right = job.Jobs.answer_fetch

    def broken(self: job.Jobs, asked: Any, answer: m.FetchAnswer, entry: Entry | None = None) -> None:
        right(self, asked, msgspec.structs.replace(answer, unprotected=False), entry)

    patch.setattr(job.Jobs, "answer_fetch", broken)


def a_reader_waits_for_nothing(patch: Patch) -> None:
    """Who reads in place is shown what is on its way, and does not wait until it has arrived."""
    right = conversation._opened

    def broken(*arguments: Any) -> Any:
        return msgspec.structs.replace(right(*arguments), unsettled=0)

    patch.setattr(conversation, "_opened", broken)


def nobody_hears_where_sessions_are(patch: Patch) -> None:
    """Places are not announced, and what a patrol finds is not repaired: whoever is asked for a session asks all."""
    patch.setattr(places.Directory, "announce", lambda self, key, location: None)
    patch.setattr(patrol.Patrol, "_conclude", lambda self, sender, check: None)


def what_waited_goes_on_late(patch: Patch) -> None:
    """A request that something has happened for is looked at again when its time is nearly over."""

    def broken(self: serve.Service, key: bytes, relay: str) -> None:
        for parked in self._jobs.unparked(key):
            parked.retry_ms = self._core.now_ms + 1_100

    patch.setattr(serve.Service, "resume", broken)
