"""Engines that are broken on purpose, each in one rule, by putting a wrong function in the place of a right one.

The simulator has to notice every one of them, see ``test_broken_engines.py``. They show what a checker is for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from understudy.agent import executor
from understudy.client import conversation, in_place
from understudy.model import commit as commits
from understudy.model import delta as deltas
from understudy.model import entry as entries
from understudy.model import roles
from understudy.model.commit import Commit, Opening, Outcome
from understudy.model.delta import Delta
from understudy.model.entry import NO_PROMISE, Entry, Role
from understudy.protocol import absence, changes, engine, entrust, inquire, local, locate, members, replicate, sweep
from understudy.protocol import commands as c
from understudy.protocol import messages as m
from understudy.store import Reading, memory

Patch = pytest.MonkeyPatch
Break = Callable[[Patch], None]


def everywhere(patch: Patch, name: str, broken: Any, *modules: Any) -> None:
    for module in modules:
        patch.setattr(module, name, broken)


def replaced(entry: Entry | None, **fields: Any) -> Any:
    return None if entry is None else msgspec.structs.replace(entry, **fields)


# --- copies and deltas ----------------------------------------------------------------------------------------------


def acknowledged_before_it_is_applied(patch: Patch) -> None:
    """A backup says that it has a change whatever becomes of it."""
    right = engine.Engine._copied

    def broken(self: engine.Engine, event: c.Changed, what: c.CopyIn) -> None:
        self.core.send(what.sender, m.Acknowledge(event.key, what.number, what.delta.context))
        right(self, event, what)

    patch.setattr(engine.Engine, "_copied", broken)


def a_delta_on_a_missing_base_is_taken(patch: Patch) -> None:
    """A delta is applied to a copy that has not seen what it builds on, as if it were the whole."""
    everywhere(patch, "applies", lambda context, delta: True, deltas, roles)


def deleted_names_do_not_travel(patch: Patch) -> None:
    """What the sender no longer carries stays on the copy."""
    with_merged = deltas.with_merged

    def broken(entry: Entry, delta: Delta, now_ms: int) -> Entry:
        left = [name for name in entry.attributes if name not in delta.values and name not in delta.dots()]
        carried = tuple((*s.dot, (name,)) for name in left for s in entry.attributes[name])
        return with_merged(entry, msgspec.structs.replace(delta, carried=(*delta.carried, *carried)), now_ms)

    everywhere(patch, "with_merged", broken, deltas, roles)


def what_is_still_carried_is_dropped(patch: Patch) -> None:
    """The receiver of a delta deletes everything that the delta does not bring anew."""
    with_merged = deltas.with_merged

    def broken(entry: Entry, delta: Delta, now_ms: int) -> Entry:
        return with_merged(entry, msgspec.structs.replace(delta, carried=()), now_ms)

    everywhere(patch, "with_merged", broken, deltas, roles)


def merged_by_arrival(patch: Patch) -> None:
    """What comes last stands, whatever it has seen."""
    right = deltas.merged_attributes

    def broken(attributes: Any, context: Any, delta: Delta) -> Any:
        return {**right(attributes, context, delta), **delta.values}

    patch.setattr(deltas, "merged_attributes", broken)


def merged_by_the_wall_clock(patch: Patch) -> None:
    """The copy that was used last wins as a whole; the clocks of two machines differ by an hour."""
    right = deltas.with_merged

    def broken(entry: Entry, delta: Delta, now_ms: int) -> Entry:
        merged = right(entry, delta, now_ms)
        if entry.has_data and entry.times.accessed_ms + 3_600_000 > now_ms - delta.accessed_age_ms:
            merged = replaced(merged, attributes=entry.attributes)
        return merged

    everywhere(patch, "with_merged", broken, deltas, roles)


# --- commits --------------------------------------------------------------------------------------------------------


def numbers_are_reused(patch: Patch) -> None:
    """Now and then a commit gets the number of the one before it."""
    right = memory.MemoryTransaction.next_number

    def broken(self: memory.MemoryTransaction) -> int:
        number = right(self)
        if number % 10 == 0:
            self._contents.state.number -= 1
        return number

    patch.setattr(memory.MemoryTransaction, "next_number", broken)


def _refusing(patch: Patch, change: Callable[[Entry, Commit], tuple[Entry, Commit]]) -> None:
    right = commits.refusal

    def broken(entry: Entry, commit: Commit, *rest: Any) -> Outcome | None:
        return right(*change(entry, commit), *rest)

    everywhere(patch, "refusal", broken, commits, local)


def repeats_are_applied_again(patch: Patch) -> None:
    """The ids of recent commits are not looked at."""
    _refusing(patch, lambda entry, commit: (replaced(entry, recent=()), commit))


def conditions_are_merged(patch: Patch) -> None:
    """A conditional commit is applied whatever it has read."""
    _refusing(patch, lambda entry, commit: (entry, msgspec.structs.replace(commit, expects=None)))


def an_end_is_not_final(patch: Patch) -> None:
    """A request that began before the logout writes into the session that has ended."""
    right = commits.refusal

    def broken(entry: Entry, commit: Commit, *rest: Any) -> Outcome | None:
        refused = right(entry, commit, *rest)
        return None if refused is Outcome.ENDED and entry.role is Role.PRIMARY else refused

    applied = commits.applied

    def revive(entry: Entry, commit: Commit, *rest: Any) -> Any:
        return applied(entry if commit.ends else replaced(entry, ended_ms=0), commit, *rest)

    everywhere(patch, "refusal", broken, commits, local)
    everywhere(patch, "applied", revive, commits, local)


def a_login_fences_nothing(patch: Patch) -> None:
    """The id that a login has replaced goes on for its grace time."""
    right = conversation.opening

    def broken(*given: Any) -> Opening:
        opened = right(*given)
        return Opening.GRACE if opened is Opening.FENCED else opened

    everywhere(patch, "opening", broken, commits, conversation)


def grace_never_ends(patch: Patch) -> None:
    """The previous id opens the session for ever."""
    right = conversation.opening
    everywhere(patch, "opening", lambda e, s, now, grace: right(e, s, now, 10**9), commits, conversation)


# --- promotion ------------------------------------------------------------------------------------------------------


def promoted_without_a_higher_reign(patch: Patch) -> None:
    """The successor goes on in the reign of the one before."""
    right = roles.promoted

    def broken(entry: Entry, *rest: Any) -> roles.Changed:
        outcome, changed = right(entry, *rest)
        if outcome is Outcome.PROMOTED and changed is not None:
            changed = replaced(changed, epoch=changed.epoch._replace(reign=entry.epoch.reign))
        return outcome, changed

    patch.setattr(roles, "promoted", broken)


def promoted_without_asking(patch: Patch) -> None:
    """Nobody is asked what it holds, or whether it hears the primary."""
    patch.setattr(inquire.Inquiries, "_ask", lambda self, inquiry, names: None)


def a_hand_over_raises_no_reign(patch: Patch) -> None:
    """Giver and heir are primary under one epoch."""
    right = roles.handed_over

    def broken(entry: Entry, *rest: Any) -> roles.Changed:
        outcome, changed = right(entry, *rest)
        return outcome, replaced(changed, epoch=entry.epoch) if outcome is Outcome.STORED else changed

    patch.setattr(roles, "handed_over", broken)


def stepping_down_gives_everything_up(patch: Patch) -> None:
    """A deposed primary takes the successor's entry, also where its own changes were answered."""
    right = roles.stepped_down

    def broken(entry: Entry, whole: Delta, *rest: Any) -> roles.Changed:
        if not entry.ended and not whole.location.ended:
            entry = replaced(entry, context=whole.context, attributes=whole.values)
        return right(entry, whole, *rest)

    patch.setattr(roles, "stepped_down", broken)


def epochs_are_not_compared(patch: Patch) -> None:
    """A holder takes a copy under an earlier epoch than the one that it knows."""
    right = roles.copied

    def broken(entry: Entry | None, delta: Delta, *rest: Any) -> roles.Changed:
        if entry is not None and entry.role is not Role.PRIMARY and not entry.ended:
            entry = replaced(entry, epoch=min(entry.epoch, delta.location.epoch))
        return right(entry, delta, *rest)

    patch.setattr(roles, "copied", broken)


def promises_are_not_kept(patch: Patch) -> None:
    """A holder takes a copy under a lower reign than the one that it has promised."""
    right = roles.copied

    def broken(entry: Entry | None, delta: Delta, *rest: Any) -> roles.Changed:
        outcome, changed = right(replaced(entry, promised=NO_PROMISE), delta, *rest)
        return outcome, changed if entry is None else replaced(changed, promised=entry.promised)

    patch.setattr(roles, "copied", broken)


def answered_without_the_promise(patch: Patch) -> None:
    """A member answers the question, and does not store what it promises with that."""
    right = roles.promised

    def broken(entry: Entry | None, *rest: Any) -> roles.Changed:
        outcome, changed = right(entry, *rest)
        return outcome, changed if entry is None else replaced(changed, promised=entry.promised)

    patch.setattr(roles, "promised", broken)


def promised_while_the_primary_is_heard(patch: Patch) -> None:
    """A claim is granted by members that hear the primary."""
    right = roles.promised

    def broken(entry: Entry | None, promise: Any, member: str, location: Any, heard: Any) -> roles.Changed:
        return right(entry, promise, member, location, frozenset())

    patch.setattr(roles, "promised", broken)


def an_old_backup_is_released_first(patch: Patch) -> None:
    """The old holder of a copy goes when the new one is chosen, not when it has everything."""

    def broken(self: Any, key: bytes, entry: Entry, widen: bool = False) -> bool:
        chosen = self._members.place(key, self._core.settings.copies_wanted, exclude=entry.backups)
        good = sum(self.is_good(backup) for backup in entry.backups)
        if entry.ended or not chosen or (good >= self._core.settings.copies_wanted and not widen):
            return False
        self._core.emit(c.Change(key, c.SetBackups(chosen, entry.backups)))
        return True

    patch.setattr(replicate.Replication, "protect", broken)
    patch.setattr(entrust.Entrustments, "protect", lambda self, key, entry: self._replication.protect(key, entry))


def who_is_entrusted_is_believed_to_have_it(patch: Patch) -> None:
    """The old holder goes when the new one has been sent everything, not when it has said that it has it."""
    right = entrust.Entrustments._send

    def broken(self: entrust.Entrustments, name: str, copies: entrust.Copies) -> None:
        right(self, name, copies)
        for key, _ in copies:
            if key in self.open:
                self.entrusted(name, m.Entrusted(self.open[key].waiting[name], ((key, 0),)))

    patch.setattr(entrust.Entrustments, "_send", broken)


def a_list_stands_for_another_entry(patch: Patch) -> None:
    """Who was entrusted with a session is listed, though it was changed since."""
    right = roles.relisted
    patch.setattr(
        roles, "relisted", lambda entry, backups, *sent: right(entry, backups, entry.epoch, entry.context, entry.times)
    )
    entrusted = entrust.Entrustments.entrusted

    def broken(self: entrust.Entrustments, sender: str, message: m.Entrusted) -> None:
        with pytest.MonkeyPatch.context() as at_rest:
            at_rest.setattr(self._replication, "is_at_rest", lambda key: True)
            entrusted(self, sender, message)

    patch.setattr(entrust.Entrustments, "entrusted", broken)


def what_a_deposed_primary_brings_is_dropped(patch: Patch) -> None:
    """The successor acknowledges what the one before it still held, and merges nothing of it."""
    patch.setattr(roles, "contributed", lambda entry, *rest: (Outcome.UNCHANGED, entry))


# --- answers, leases, copies ----------------------------------------------------------------------------------------


def leases_are_ignored(patch: Patch) -> None:
    """A worker serves what is primary here, whoever has stopped to answer."""
    right = in_place.look

    def broken(store: Any, key: bytes, member: str, lease_until_ms: Any) -> tuple[Reading, bool, int]:
        return right(store, key, member, lambda row: 1 << 62)

    everywhere(patch, "look", broken, in_place, conversation)


def leases_are_looked_at_last(patch: Patch) -> None:
    """A worker takes a lease that runs now for one that ran when it read."""

    def broken(store: Any, key: bytes, member: str, lease_until_ms: Any) -> tuple[Reading, bool, int]:
        reading = store.read(key)
        rows = in_place.rows_needed(reading, member)
        now_ms = store.now_ms()
        return reading, rows is not None and all(now_ms < lease_until_ms(row) for row in rows), now_ms

    everywhere(patch, "look", broken, in_place, conversation)


def what_is_unanswered_is_shown(patch: Patch) -> None:
    """A reader does not wait for the change that it shows."""
    patch.setattr(replicate.Replication, "wait", lambda self, job, key, number, until_ms: False)
    right = memory.MemoryStore.read
    patch.setattr(memory.MemoryStore, "read", lambda self, key: Reading(right(self, key).entry, True))


def a_successors_first_write_is_not_held(patch: Patch) -> None:
    """It is acknowledged while the old primary's workers may still read under their lease."""
    patch.setattr(replicate.Replication, "_hold", lambda self, flight, ms: None)


def a_lease_behind_a_fence_counts(patch: Patch) -> None:
    """Who has promised a session to another grants its old primary a lease all the same."""
    patch.setattr(members.Members, "fence", lambda self, name: None)


def copies_are_shown_before_they_are_confirmed(patch: Patch) -> None:
    """A reader shows what other readers may lack."""
    patch.setattr(executor, "perform", changes._performed)


def the_outbox_is_cleared_at_once(patch: Patch) -> None:
    """A change leaves the outbox before anybody has acknowledged it."""
    patch.setattr(memory.MemoryTransaction, "outbox_add", lambda self, number, key: None)


def one_unknown_is_believed(patch: Patch) -> None:
    """The first member that does not know a session speaks for all."""

    def broken(self: Any, job: Any, sender: str, message: Any) -> locate.Found:
        if message.location is None:
            return locate.Found(locate.Finding.UNKNOWN)
        job.located[sender] = message
        return self.conclude(job)

    patch.setattr(locate.Locator, "located", broken)


def protection_is_promised_too_soon(patch: Patch) -> None:
    """One acknowledgement fewer is enough."""
    patch.setattr(replicate.Replication, "_protected_up_to", lambda self, flight: flight.number)


# --- ends, time, starts ---------------------------------------------------------------------------------------------


def tombstones_are_dropped_early(patch: Patch) -> None:
    """A tombstone lives for a moment instead of a day."""
    right = entries.Entry.deadline_ms

    def deadline_ms(self: Entry, forget_ms: int) -> int | None:
        return self.ended_ms + 1_000 if self.ended_ms else right(self, forget_ms)

    expire = changes.do_expire

    def broken(entry: Entry | None, env: Any) -> Any:
        return (Outcome.REMOVED, None) if entry is not None and entry.ended else expire(entry, env)

    patch.setattr(entries.Entry, "deadline_ms", deadline_ms)
    patch.setattr(changes, "do_expire", broken)


def a_backup_expires_on_its_own_clock(patch: Patch) -> None:
    """Whoever holds a copy drops it when its time seems to be over there."""
    right = sweep.Sweeps.reaped

    def reaped(self: Any, key: bytes, entry: Entry | None) -> None:
        if entry is not None and entry.role is Role.BACKUP and not entry.ended:
            self._core.emit(c.Change(key, c.Expire()))
        else:
            right(self, key, entry)

    expire = changes.do_expire

    def broken(entry: Entry | None, env: Any) -> Any:
        if entry is not None and entry.role is Role.BACKUP and entry.expired(env.now_ms):
            return Outcome.REMOVED, None
        return expire(entry, env)

    patch.setattr(sweep.Sweeps, "reaped", reaped)
    patch.setattr(changes, "do_expire", broken)


def what_has_expired_is_served(patch: Patch) -> None:
    """Nobody looks at the time when a session is opened."""
    patch.setattr(entries.Entry, "expired", lambda self, now_ms: False)


def an_old_store_is_believed(patch: Patch) -> None:
    """A new life compares nothing with anybody."""

    def broken(self: Any) -> None:
        self._members.round_begun()  # it also calls itself compared, else its fences would keep it from harm
        self._items = []
        self._finish_round()

    patch.setattr("understudy.protocol.compare.Comparisons.begin", broken)


def a_too_old_store_is_merged(patch: Patch) -> None:
    """A member that was away for longer than deletions are remembered joins with what it holds."""
    right = absence.Absence.start

    def broken(self: absence.Absence, event: c.Started) -> None:
        right(self, event)
        self.believe()

    patch.setattr(absence.Absence, "start", broken)


def a_place_for_a_copy_may_be_ones_own(patch: Patch) -> None:
    """The list of backups may name the primary."""
    right = members.Members.place

    def broken(self: Any, key: bytes, count: int, exclude: Any = ()) -> tuple[str, ...]:
        chosen = right(self, key, count, exclude)
        return (self._core.me, *chosen[1:]) if key[0] % 8 == 0 else chosen

    patch.setattr(members.Members, "place", broken)
