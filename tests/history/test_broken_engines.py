"""The checkers, checked: an engine that is broken on purpose is caught, whichever of its rules it is that is broken.

Each is caught within a few of the seeds that follow the one in its row.
"""

from __future__ import annotations

import pytest
from tests.history import broken as b
from tests.history import broken_promises as p
from tests.history.broken import Break

from understudy.sim.history import run
from understudy.sim.plan import draw

SEEDS_TRIED_MAX = 12

BROKEN: list[tuple[Break, str, int]] = [
    (b.acknowledged_before_it_is_applied, "one", 0),
    (b.a_delta_on_a_missing_base_is_taken, "one", 1),
    (b.deleted_names_do_not_travel, "one", 0),
    (b.what_is_still_carried_is_dropped, "one", 0),
    (b.merged_by_arrival, "one", 0),
    (b.merged_by_the_wall_clock, "one", 0),
    (b.numbers_are_reused, "one", 0),
    (b.repeats_are_applied_again, "one", 1),
    (b.conditions_are_merged, "one", 0),
    (b.an_end_is_not_final, "one", 0),
    (b.a_login_fences_nothing, "one", 0),
    (b.grace_never_ends, "one", 0),
    (b.promoted_without_a_higher_reign, "one", 0),
    (b.promoted_without_asking, "links", 1),
    (b.a_hand_over_raises_no_reign, "one", 0),
    (b.stepping_down_gives_everything_up, "one", 2),
    (b.epochs_are_not_compared, "one", 1),
    (b.promises_are_not_kept, "blink", 1),
    (b.answered_without_the_promise, "one", 1),
    (b.promised_while_the_primary_is_heard, "one", 0),
    (b.an_old_backup_is_released_first, "one", 0),
    (b.who_is_entrusted_is_believed_to_have_it, "one", 0),
    (b.a_list_stands_for_another_entry, "one", 0),
    (b.leases_are_ignored, "one", 0),
    (b.leases_are_ignored, "chaos", 0),
    (b.protection_is_promised_too_soon, "partition", 0),
    (b.a_successors_first_write_is_not_held, "blink", 8),
    (b.copies_are_shown_before_they_are_confirmed, "delta", 0),
    (b.a_lease_behind_a_fence_counts, "blink", 2),
    (b.what_is_unanswered_is_shown, "one", 0),
    (b.the_outbox_is_cleared_at_once, "one", 0),
    (b.one_unknown_is_believed, "one", 108),
    (b.protection_is_promised_too_soon, "one", 0),
    (b.tombstones_are_dropped_early, "one", 0),
    (b.a_backup_expires_on_its_own_clock, "one", 0),
    (b.what_has_expired_is_served, "one", 0),
    (b.an_old_store_is_believed, "", 22),
    (b.a_too_old_store_is_merged, "old", 0),
    (b.what_a_deposed_primary_brings_is_dropped, "partition", 0),
    (b.a_place_for_a_copy_may_be_ones_own, "one", 0),
    (p.messages_leave_before_they_are_stored, "one", 0),
    (p.a_full_store_acknowledges, "full", 0),
    (p.no_protection_is_called_protection, "pair", 0),
    (p.what_was_to_be_refused_is_committed, "pair", 7),
    (p.others_are_shown_what_is_under_way, "one", 0),
    (p.a_replaced_secret_writes, "one", 0),
    (p.a_minority_goes_on, "refuse", 0),
    (p.a_copy_begins_its_life_anew, "one", 3),
    (p.readers_are_not_awaited, "delta", 0),
    (p.zones_are_ignored, "one", 7),
    (p.computed_places_stay, "rendezvous", 0),
    (p.a_drain_hands_nothing_over, "one", 16),
    (p.what_nobody_asks_for_has_no_primary, "old", 0),
    (p.late_words_bring_back_who_is_lost, "", 24),
    (p.a_creation_is_not_remembered, "one", 0),
    (p.what_an_earlier_life_left_is_dropped, "quick", 0),
    (p.an_unprotected_answer_is_not_noted, "pair", 0),
    (p.a_lease_counts_from_its_arrival, "one", 0),
    (p.a_grant_is_not_noted, "one", 0),
    (p.that_the_primary_is_heard_is_ignored, "links", 0),
    (p.what_was_answered_is_taken_back, "", 12),
    (p.uses_are_not_told, "", 10),
    (p.a_copy_is_used_when_it_comes, "", 1),
    (p.copies_remember_no_commits, "one", 0),
    (p.what_others_fetch_is_called_protected, "", 5),
    (p.a_reader_waits_for_nothing, "one", 1),
    (p.nobody_hears_where_sessions_are, "one", 0),
    (p.what_waited_goes_on_late, "links", 2),
]
"""What is broken, the kind of history, and the seed from which on it is soon seen."""


@pytest.mark.parametrize(("breaks", "profile", "first"), BROKEN, ids=lambda value: getattr(value, "__name__", None))
def test_a_broken_engine_is_caught(breaks: Break, profile: str, first: int) -> None:
    """Some history has a problem, or breaks an invariant, when one function is replaced by a wrong one, and none with
    the right one."""
    for seed in range(first, first + SEEDS_TRIED_MAX):
        plan = draw(seed, profile)
        with pytest.MonkeyPatch.context() as patch:
            breaks(patch)
            caught = run(plan, problems_max=1).problems
        if caught and not run(plan, problems_max=1).problems:
            return
    pytest.fail(f"{SEEDS_TRIED_MAX} histories of an engine had no problem, in which: {breaks.__doc__}")
