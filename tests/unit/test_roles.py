"""How roles change, function by function: what must become of an entry, and what must not."""

from __future__ import annotations

import msgspec
import pytest
from tests.making import (
    CHOOSERS,
    LIVES,
    after,
    at_reign,
    backup_of,
    deletes,
    moved,
    new_session,
    place,
    proxy,
    sets,
    shown,
    whole,
)

from understudy.model.commit import Outcome, ended
from understudy.model.delta import delta_since
from understudy.model.entry import NO_PROMISE, Entry, Epoch, Location, Promise, Role, covers
from understudy.model.roles import (
    contributed,
    copied,
    handed_over,
    learned,
    listed,
    placed,
    promised,
    promoted,
    released,
    relisted,
    stepped_down,
)

NOW_MS = 2_000
HERE = new_session(1, "a", ("b",), x=b"1")
"""What its primary, a, holds."""
COPY = backup_of(HERE)
"""What its backup, b, holds."""
SECOND = after(HERE, sets(2, x=b"2"), 2)
NEXT = Promise(2, CHOOSERS["b"])
NOBODY: frozenset[str] = frozenset()
NONE: frozenset[int] = frozenset()


# --- placed ---------------------------------------------------------------------------------------------------------


def test_a_copy_that_is_listed_no_more_stays_a_backup() -> None:
    """S21: the data is kept until the primary releases it, whatever lists come by."""
    for held in (COPY, HERE):
        kept = placed(held, held.primary if held is HERE else "b", place("c", ("d",), 2))
        assert (kept.role, kept.location, kept.attributes) == (Role.BACKUP, place("c", ("d",), 2), HERE.attributes)


def test_a_place_without_data_is_a_proxy() -> None:
    """A proxy that is named nowhere stays one; one that is named becomes what it is named."""
    assert placed(proxy(), "a", place("b", ("d",), 2)).role is Role.PROXY
    assert placed(proxy(), "a", place("b", ("a",), 2)).role is Role.BACKUP


# --- learned --------------------------------------------------------------------------------------------------------


def test_an_unknown_session_becomes_a_proxy() -> None:
    """A member that hears of a session for the first time knows its place and no data."""
    outcome, entry = learned(None, "d", place("a", ("b",)), NOW_MS)
    assert (outcome, entry) == (Outcome.STORED, Entry(Role.PROXY, "a", ("b",), Epoch(1, 11, 1)))


def test_who_is_named_and_holds_nothing_is_no_holder_for_it() -> None:
    """S26: a new life that is listed as a backup knows the place without itself until the data comes; one that is
    named as the primary learns nothing."""
    assert learned(None, "b", place("a", ("b", "c")), NOW_MS)[1] == proxy("a", ("c",))
    assert learned(None, "a", place("a", ("b",)), NOW_MS) == (Outcome.UNCHANGED, None)
    known = proxy("a", ("c",))
    outcome, entry = learned(known, "b", place("a", ("b", "c"), list_number=2), NOW_MS)
    assert (outcome, entry) == (Outcome.STORED, proxy("a", ("c",), Epoch(1, 11, 2)))


@pytest.mark.parametrize("entry", [HERE, COPY, proxy("a", ("b",))], ids=["primary", "backup", "proxy"])
def test_older_news_changes_nothing(entry: Entry) -> None:
    """S27, S28: neither the same epoch nor an older one, with whatever places, changes an entry."""
    entry = moved(entry, epoch=Epoch(3, 11, 3))
    for epoch in (Epoch(3, 11, 3), Epoch(3, 11, 2), Epoch(3, 10, 9), Epoch(2, 99, 9)):
        assert learned(entry, "z", Location("c", ("d",), epoch), NOW_MS) == (Outcome.UNCHANGED, entry)


def test_a_proxy_and_a_backup_follow_a_later_place() -> None:
    """A later epoch is believed; a backup keeps its data."""
    later = place("c", ("d",), 2)
    assert learned(proxy("a", ("b",)), "z", later, NOW_MS) == (Outcome.STORED, proxy("c", ("d",), later.epoch))
    outcome, entry = learned(COPY, "b", later, NOW_MS)
    assert outcome is Outcome.STORED and entry == moved(COPY, primary="c", backups=("d",), epoch=later.epoch)


def test_a_primary_that_hears_of_a_higher_epoch_is_deposed_and_unchanged() -> None:
    """S25: it may hold what the new primary lacks; hearsay alone takes nothing from it."""
    assert learned(HERE, "a", place("b", ("c",), 2), NOW_MS) == (Outcome.DEPOSED, HERE)


def test_hearsay_makes_nobody_primary() -> None:
    """S28: whoever is named as primary by a place, and is not, waits for the data and the asking."""
    for entry in (COPY, proxy("a", ("c",))):
        assert learned(entry, "b", place("b", ("c",), 2), NOW_MS) == (Outcome.UNCHANGED, entry)


@pytest.mark.parametrize("entry", [None, HERE, COPY, proxy("a", ("b",))], ids=["nothing", "primary", "backup", "proxy"])
def test_the_end_is_learned_whatever_the_epoch(entry: Entry | None) -> None:
    """S04: news of the end comes in under a lower epoch, too, and takes the data away."""
    outcome, stone = learned(entry, "b", Location("z", (), Epoch(0, 0, 0), ended=True), NOW_MS)
    assert outcome is Outcome.STORED and stone is not None
    assert stone.ended and not stone.attributes


def test_a_tombstone_learns_nothing_more() -> None:
    """S04: no later place wakes it."""
    stone = ended(HERE, NOW_MS)
    assert learned(stone, "b", place("c", ("b",), 9), NOW_MS) == (Outcome.ENDED, stone)


# --- copied ---------------------------------------------------------------------------------------------------------


def test_the_first_copy_must_be_whole() -> None:
    """S17, S18: a change for a session that is not here is answered NEEDS_WHOLE, never stored as an empty session."""
    assert copied(None, delta_since(SECOND, HERE.context, NOW_MS), "b", NOW_MS) == (Outcome.NEEDS_WHOLE, None)
    outcome, entry = copied(None, whole(SECOND, NOW_MS), "b", NOW_MS)
    assert (outcome, entry) == (Outcome.STORED, backup_of(SECOND))


def test_a_delta_without_its_base_changes_nothing() -> None:
    """S14: a message was lost: the next one is not applied over the hole."""
    third = after(SECOND, sets(3, y=b"3"), 3)
    assert copied(COPY, delta_since(third, SECOND.context, NOW_MS), "b", NOW_MS) == (Outcome.NEEDS_WHOLE, COPY)
    assert copied(proxy("a", ("b",)), delta_since(SECOND, HERE.context, NOW_MS), "b", NOW_MS)[0] is Outcome.NEEDS_WHOLE


def test_what_is_stored_covers_what_was_sent() -> None:
    """S17: STORED is the ground of an acknowledgement: context, values and list are the primary's."""
    entry = after(moved(HERE, backups=("b", "c"), epoch=Epoch(1, 11, 2)), deletes(2, "x"), 2)
    outcome, copy = copied(COPY, delta_since(entry, HERE.context, NOW_MS), "b", NOW_MS)
    assert (outcome, copy) == (Outcome.STORED, backup_of(entry))


def test_a_copy_is_the_same_when_it_comes_twice() -> None:
    """S15: a repeated Replicate is stored again and changes nothing."""
    delta = delta_since(SECOND, HERE.context, NOW_MS)
    once = copied(COPY, delta, "b", NOW_MS)
    assert copied(once[1], delta, "b", NOW_MS) == once


@pytest.mark.parametrize("role", [Role.PRIMARY, Role.BACKUP, Role.PROXY])
def test_an_older_epoch_never_overwrites(role: Role) -> None:
    """S25, S27, S28: a deposed primary that was paused sends what it has, with more commits than we know: REFUSED."""
    entry = moved(at_reign(HERE, 2, "b", ("c",)), role=role)
    assert copied(entry, whole(SECOND, NOW_MS), "b", NOW_MS) == (Outcome.REFUSED, entry)


def test_a_holder_that_has_promised_refuses_a_lower_reign() -> None:
    """S22, S25: between promise and promotion the old primary gets no acknowledgement from it: same reign, same
    choice of a lower chooser; the promised reign itself is let in."""
    holder = moved(COPY, promised=Promise(2, 12))
    for epoch in (Epoch(1, 99, 9), Epoch(2, 11, 9)):
        delta = whole(moved(SECOND, epoch=epoch), NOW_MS)
        assert copied(holder, delta, "b", NOW_MS) == (Outcome.REFUSED, holder)
    outcome, entry = copied(holder, whole(at_reign(SECOND, 2, "c", ("b",)), NOW_MS), "b", NOW_MS)
    assert outcome is Outcome.STORED and entry is not None and entry.primary == "c"


def test_a_promise_binds_a_proxy_too() -> None:
    """S28: who held nothing when it promised refuses the data of the old reign afterwards."""
    bound = proxy("a", ("c",), promised=NEXT)
    assert copied(bound, whole(moved(HERE, backups=("d",)), NOW_MS), "d", NOW_MS) == (Outcome.REFUSED, bound)


def test_a_primary_that_is_sent_a_higher_reign_is_deposed_and_unchanged() -> None:
    """S25: it steps down only after it has seen the successor's whole entry."""
    assert copied(HERE, whole(at_reign(SECOND, 2, "b", ("a",)), NOW_MS), "a", NOW_MS) == (Outcome.DEPOSED, HERE)


def test_a_hand_over_makes_the_backup_primary() -> None:
    """S34: the primary that leaves names us under a higher reign."""
    outcome, gone = handed_over(SECOND, "b", CHOOSERS["a"], 3)
    assert outcome is Outcome.STORED and gone is not None
    outcome, entry = copied(COPY, delta_since(gone, HERE.context, NOW_MS), "b", NOW_MS)
    assert outcome is Outcome.STORED and entry is not None
    assert (entry.role, entry.backups, shown(entry)) == (Role.PRIMARY, ("a",), {"x": b"2"})


def test_a_copy_of_the_end_ends() -> None:
    """S04: the tombstone comes in whatever the epoch or promise, as a delta on nothing, too."""
    word = whole(ended(SECOND, NOW_MS), NOW_MS)
    bound = moved(COPY, promised=Promise(9, 9), epoch=Epoch(9, 9, 9))
    for entry in (None, COPY, bound, HERE):
        outcome, stone = copied(entry, word, "b", NOW_MS)
        assert outcome is Outcome.STORED and stone is not None and stone.ended
        assert stone.context == SECOND.context and stone.recent == SECOND.recent


# --- promised -------------------------------------------------------------------------------------------------------


def test_a_holder_promises_and_remembers_it() -> None:
    """S22: the primary is not heard: the promise is in the entry, the rest stays."""
    outcome, entry = promised(COPY, NEXT, "b", COPY.location, frozenset({"c"}))
    assert (outcome, entry) == (Outcome.STORED, moved(COPY, promised=NEXT))


def test_a_promise_is_given_again_to_the_same_asker() -> None:
    """S15: a repeated question has the same answer."""
    bound = moved(COPY, promised=NEXT)
    assert promised(bound, NEXT, "b", COPY.location, NOBODY) == (Outcome.STORED, bound)


def test_who_knows_nothing_promises_too() -> None:
    """S28: it remembers the place, without itself, and the promise, so that no old data slips in behind it."""
    outcome, entry = promised(None, NEXT, "c", place("a", ("b", "c")), NOBODY)
    assert (outcome, entry) == (Outcome.STORED, proxy("a", ("b",), promised=NEXT))


def test_nobody_promises_while_the_primary_is_heard() -> None:
    """S31: unreachable from the asker only: the answer is to relay, and nothing is promised."""
    for entry in (COPY, proxy("a", ("b",))):
        assert promised(entry, NEXT, "c", entry.location, frozenset({"a"})) == (Outcome.UNCHANGED, entry)


def test_a_primary_promises_nothing() -> None:
    """S31: asked itself, it says that it is there; only if the asker knows a later reign is it asked like anybody."""
    assert promised(HERE, NEXT, "a", HERE.location, NOBODY) == (Outcome.UNCHANGED, HERE)
    later = Promise(3, 12)
    assert promised(HERE, later, "a", place("b", ("c",), 2), NOBODY) == (Outcome.STORED, moved(HERE, promised=later))


@pytest.mark.parametrize("given", [Promise(3, 1), Promise(2, 13)])
def test_a_higher_promise_is_kept(given: Promise) -> None:
    """S22: of two that ask at once only the higher gets it."""
    bound = moved(COPY, promised=given)
    assert promised(bound, NEXT, "b", COPY.location, NOBODY) == (Outcome.REFUSED, bound)


def test_no_promise_is_given_for_a_reign_that_is_over() -> None:
    """S27: the asker is behind: a reign that is here already is not promised once more."""
    for reign in (2, 3):
        entry = backup_of(at_reign(HERE, reign, "b", ("c",)))
        assert promised(entry, NEXT, "c", HERE.location, NOBODY) == (Outcome.REFUSED, entry)


def test_a_tombstone_promises_nothing() -> None:
    """S04: nobody becomes primary of an ended session."""
    stone = ended(COPY, NOW_MS)
    assert promised(stone, NEXT, "b", COPY.location, NOBODY) == (Outcome.ENDED, stone)


# --- promoted -------------------------------------------------------------------------------------------------------


def test_a_promotion_merges_what_the_others_held() -> None:
    """S22: under the reign that was asked for, with the newest values that anybody holds; the promise is its own."""
    outcome, entry = promoted(COPY, NEXT, "b", ("c",), (delta_since(SECOND, COPY.context, NOW_MS),), NOW_MS, 77)
    assert outcome is Outcome.PROMOTED
    assert entry == moved(
        SECOND, primary="b", backups=("c",), epoch=Epoch(2, CHOOSERS["b"], 1), promised=NEXT, number=77
    )


def test_a_promotion_takes_no_answer_that_builds_on_more_than_it_has() -> None:
    """S17: an answer on a missing base is left out, not applied over a hole."""
    third = after(SECOND, sets(3, y=b"3"), 3)
    outcome, entry = promoted(COPY, NEXT, "b", (), (delta_since(third, SECOND.context, NOW_MS),), NOW_MS, 77)
    assert outcome is Outcome.PROMOTED and entry is not None and shown(entry) == {"x": b"1"}


@pytest.mark.parametrize(
    ("entry", "outcome"),
    [
        (moved(COPY, promised=Promise(3, 1)), Outcome.REFUSED),
        (moved(COPY, promised=Promise(2, 13)), Outcome.REFUSED),
        (backup_of(at_reign(HERE, 2, "b", ("c",))), Outcome.REFUSED),
        (backup_of(at_reign(HERE, 3, "c", ("b",))), Outcome.REFUSED),
        (proxy("a", ("c",)), Outcome.UNKNOWN),
        (ended(COPY, NOW_MS), Outcome.ENDED),
    ],
    ids=["a higher promise", "a higher chooser", "the same reign", "a later reign", "no data", "ended"],
)
def test_who_may_not_promote_stays_what_it_is(entry: Entry, outcome: Outcome) -> None:
    """S04, S27, S28: never under a promise given to another, never without data, never what has ended."""
    assert promoted(entry, NEXT, "b", (), (), NOW_MS, 77) == (outcome, entry)


def test_an_answer_of_a_later_reign_stops_a_promotion() -> None:
    """S28: A → B → A: whoever answers with the reign that was asked for, or a later one, is ahead."""
    for reign in (2, 3):
        ahead = whole(at_reign(SECOND, reign, "c", ("d",)), NOW_MS)
        assert promoted(COPY, NEXT, "b", (), (ahead,), NOW_MS, 77) == (Outcome.REFUSED, COPY)


def test_an_answer_of_the_end_ends() -> None:
    """S04: one tombstone among the answers, and there is no promotion."""
    word = whole(ended(SECOND, NOW_MS), NOW_MS)
    outcome, stone = promoted(COPY, NEXT, "b", (), (whole(SECOND, NOW_MS), word), NOW_MS, 77)
    assert outcome is Outcome.ENDED
    assert stone is not None and stone.ended and not stone.attributes and stone.role is Role.BACKUP


# --- listed, handed over --------------------------------------------------------------------------------------------


def test_a_new_list_raises_the_list_number_only() -> None:
    """S21: the reign stays; data and context are untouched."""
    assert listed(HERE, ("b", "c"), 5) == (
        Outcome.STORED,
        moved(HERE, backups=("b", "c"), epoch=Epoch(1, 11, 2), number=5),
    )


def test_the_same_members_are_no_new_list() -> None:
    """In whatever order."""
    entry = moved(HERE, backups=("b", "c"))
    assert listed(entry, ("c", "b"), 5) == (Outcome.UNCHANGED, entry)


def test_a_list_that_is_held_elsewhere_needs_no_number() -> None:
    """S21: nobody has anything to acknowledge: the last change's number stays, whatever it was."""
    outcome, entry = relisted(HERE, ("c",), HERE.epoch, HERE.context, HERE.times)
    assert (outcome, entry) == (Outcome.STORED, moved(HERE, backups=("c",), epoch=Epoch(1, 11, 2)))


def test_a_list_is_for_the_entry_that_was_sent_with_it() -> None:
    """S21, S44: not for one that has changed, was listed otherwise, or was used since."""
    sent = (HERE.epoch, HERE.context, HERE.times)
    for since in (
        after(HERE, sets(2, x=b"2"), 2),
        moved(HERE, epoch=Epoch(1, 11, 2)),
        moved(HERE, times=msgspec.structs.replace(HERE.times, accessed_ms=NOW_MS)),
    ):
        assert relisted(since, ("c",), *sent) == (Outcome.UNCHANGED, since)


def test_only_the_primary_of_a_live_session_changes_the_list_or_hands_over() -> None:
    """S04, S28: a backup, a proxy and a tombstone say no."""
    for change in (
        lambda e: listed(e, ("c",), 5),
        lambda e: relisted(e, ("c",), e.epoch, e.context, e.times),
        lambda e: handed_over(e, "b", 9, 5),
    ):
        assert change(COPY) == (Outcome.NOT_PRIMARY, COPY)
        assert change(proxy()) == (Outcome.NOT_PRIMARY, proxy())
        stone = ended(HERE, NOW_MS)
        assert change(stone) == (Outcome.ENDED, stone)


def test_nobody_is_its_own_backup_or_heir_without_a_copy() -> None:
    """S21: both are broken invariants."""
    with pytest.raises(AssertionError):
        listed(HERE, ("a", "b"), 5)
    with pytest.raises(AssertionError):
        handed_over(HERE, "c", 9, 5)


def test_who_hands_over_stays_as_a_backup() -> None:
    """S34: the heir is primary under a higher reign, the giver its backup with all data, the other backups stay."""
    outcome, entry = handed_over(moved(HERE, backups=("b", "c")), "b", 9, 5)
    assert outcome is Outcome.STORED
    assert entry == moved(HERE, role=Role.BACKUP, primary="b", backups=("a", "c"), epoch=Epoch(2, 9, 1), number=5)


# --- stepped down ---------------------------------------------------------------------------------------------------

SUCCESSOR = after(at_reign(HERE, 2, "b", ("c",)), sets(9, y=b"of b"), 9, "b")


def test_what_nobody_was_answered_for_gives_way() -> None:
    """S23, S25: the successor's entry is taken whole: the workers repeat their commits there."""
    outcome, entry = stepped_down(
        SECOND, whole(SUCCESSOR, NOW_MS), "a", frozenset({2}), frozenset({LIVES["a"]}), NOW_MS
    )
    assert outcome is Outcome.STORED and entry is not None
    assert entry == moved(SUCCESSOR, role=Role.BACKUP, number=0)
    assert shown(entry) == {"x": b"1", "y": b"of b"}


@pytest.mark.parametrize(
    ("unanswered", "lives"), [(frozenset(), frozenset({LIVES["a"]})), (frozenset({2}), frozenset({999}))]
)
def test_what_somebody_was_answered_for_is_merged(unanswered: frozenset[int], lives: frozenset[int]) -> None:
    """S25: an answered commit, or one of a life whose rows we do not know, is kept beside what the successor wrote."""
    outcome, entry = stepped_down(SECOND, whole(SUCCESSOR, NOW_MS), "a", unanswered, lives, NOW_MS)
    assert outcome is Outcome.STORED and entry is not None
    assert shown(entry) == {"x": b"2", "y": b"of b"}
    assert entry.location == SUCCESSOR.location and entry.role is Role.BACKUP
    assert covers(entry.context, SECOND.context) and covers(entry.context, SUCCESSOR.context)


def test_of_two_unseen_commits_one_answered_keeps_both() -> None:
    """S25: all or nothing: the later one may build on the earlier."""
    third = after(SECOND, sets(3, z=b"3"), 3)
    _, entry = stepped_down(third, whole(SUCCESSOR, NOW_MS), "a", frozenset({3}), frozenset({LIVES["a"]}), NOW_MS)
    assert entry is not None and shown(entry) == {"x": b"2", "y": b"of b", "z": b"3"}


def test_an_unseen_deletion_that_was_answered_is_kept() -> None:
    """S18, S27: it has no dot of its own; the context tells that the successor has not seen it."""
    gone = after(HERE, deletes(2, "x"), 2)
    _, entry = stepped_down(gone, whole(SUCCESSOR, NOW_MS), "a", NONE, frozenset({LIVES["a"]}), NOW_MS)
    assert entry is not None and shown(entry) == {"y": b"of b"}


def test_nobody_steps_down_for_an_older_epoch() -> None:
    """S27: the stale one never wins; nor a primary for its own epoch."""
    now = at_reign(HERE, 3, "a", ("b",))
    for older in (SUCCESSOR, now):
        assert stepped_down(now, whole(older, NOW_MS), "a", NONE, NONE, NOW_MS) == (Outcome.REFUSED, now)


def test_a_stale_backup_takes_what_its_primary_has() -> None:
    """S26, S27: a copy that was away follows the whole entry of its own epoch."""
    outcome, entry = stepped_down(COPY, whole(SECOND, NOW_MS), "b", NONE, NONE, NOW_MS)
    assert (outcome, entry) == (Outcome.STORED, backup_of(SECOND))


def test_who_is_named_primary_by_anothers_copy_waits_for_the_asking() -> None:
    """S27, S28: an old life of ours was primary: the data is merged, the role is not taken on hearsay."""
    named = at_reign(SECOND, 2, "b", ("c",))
    outcome, entry = stepped_down(COPY, whole(named, NOW_MS), "b", NONE, NONE, NOW_MS)
    assert outcome is Outcome.UNCHANGED and entry is not None
    assert (entry.role, entry.location, shown(entry)) == (Role.BACKUP, COPY.location, {"x": b"2"})


def test_who_is_named_primary_keeps_what_nobody_was_answered_for() -> None:
    """S28: a hand-over that never came names us: a change that a worker still waits for here is not taken back."""
    named = at_reign(SUCCESSOR, 9, "a", ("b",))
    unanswered, lives = frozenset(SECOND.context.values()), frozenset({LIVES["a"]})
    outcome, entry = stepped_down(SECOND, whole(named, NOW_MS), "a", unanswered, lives, NOW_MS)
    assert outcome is Outcome.UNCHANGED and entry is not None
    assert all(entry.context[i] >= n for i, n in SECOND.context.items())


# --- contributed, released ------------------------------------------------------------------------------------------


def test_a_primary_takes_what_it_lacks() -> None:
    """S25: merged under a number of its own, so that its backups get it, too; what it knows already changes nothing."""
    outcome, entry = contributed(SUCCESSOR, delta_since(SECOND, HERE.context, NOW_MS), 12, NOW_MS)
    assert outcome is Outcome.STORED and entry is not None
    assert (shown(entry), entry.number, entry.location) == ({"x": b"2", "y": b"of b"}, 12, SUCCESSOR.location)
    assert contributed(entry, whole(SECOND, NOW_MS), 13, NOW_MS) == (Outcome.UNCHANGED, entry)


def test_a_contribution_for_anybody_else_changes_nothing() -> None:
    """S17, S28: not a primary, or without its base."""
    assert contributed(COPY, whole(SECOND, NOW_MS), 12, NOW_MS) == (Outcome.NOT_PRIMARY, COPY)
    third = after(SECOND, sets(3, y=b"3"), 3)
    assert contributed(HERE, delta_since(third, SECOND.context, NOW_MS), 12, NOW_MS) == (Outcome.NEEDS_WHOLE, HERE)


def test_a_backup_that_is_listed_no_more_is_released() -> None:
    """S21, S28: it forgets the data, keeps the place and its promise."""
    unlisted = moved(COPY, backups=("c",), epoch=Epoch(1, 11, 2), promised=Promise(1, 5))
    outcome, entry = released(unlisted, "b", Epoch(1, 11, 2))
    assert (outcome, entry) == (Outcome.STORED, proxy("a", ("c",), Epoch(1, 11, 2), promised=Promise(1, 5)))


@pytest.mark.parametrize(
    "entry",
    [
        COPY,
        HERE,
        proxy("a", ("c",)),
        moved(COPY, backups=("c",), epoch=Epoch(1, 11, 3)),
        moved(COPY, backups=("c",), epoch=Epoch(2, 1, 1)),
        ended(moved(COPY, backups=("c",)), NOW_MS),
    ],
    ids=["listed", "primary", "proxy", "a later list", "a later reign", "ended"],
)
def test_nothing_else_is_released(entry: Entry) -> None:
    """S21: a listed backup, a primary, or a copy that knows more than the Release keeps what it has."""
    assert released(entry, "b", Epoch(1, 11, 2)) == (Outcome.UNCHANGED, entry)


def test_a_fresh_entry_has_promised_nothing() -> None:
    """The default promise is below every reign."""
    assert HERE.promised == NO_PROMISE < Promise(1, 0)


def test_hearing_a_primary_of_an_older_place_stops_nobody() -> None:
    """S34: the asker knows a later place: that we hear the primary before it is nothing."""
    outdated = proxy("a", ("c",), promised=Promise(2, 13))
    outcome, _ = promised(outdated, Promise(3, 13), "b", place("c", ("a", "b"), 2), frozenset({"a"}))
    assert outcome is Outcome.STORED
