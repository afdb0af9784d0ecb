"""Deltas: what is sent given what the other has seen, what a copy does with it, and how times travel as ages."""

from __future__ import annotations

import pytest
from tests.making import (
    LIVES,
    after,
    backup_of,
    commit_id,
    deletes,
    moved,
    new_session,
    sets,
    shown,
    sibling,
    times,
    whole,
)

from understudy import limits
from understudy.model.commit import Commit
from understudy.model.delta import (
    applies,
    delta_since,
    merged_attributes,
    merged_times,
    times_of,
    with_merged,
)

A, B = LIVES["a"], LIVES["b"]
BASE = new_session(1, x=b"1", y=b"1")
BACKUP = backup_of(BASE)


def test_a_delta_holds_the_new_values_and_the_names_of_the_rest() -> None:
    """A backup that has seen commit 1 is sent what commit 2 wrote, and told that the others are still there."""
    delta = delta_since(after(BASE, sets(2, x=b"2"), 2), BASE.context, 1_000)
    assert delta.values == {"x": (sibling("a", 2, b"2"),)}
    assert delta.carried == ((A, 1, ("\x00secrets", "y")),)
    assert (delta.base, delta.context) == ({A: 1}, {A: 2})
    assert not delta.is_whole


def test_without_a_base_a_delta_is_whole() -> None:
    """It holds every value and carries no other."""
    delta = whole(BASE)
    assert delta.is_whole and delta.carried == () and delta.values == BASE.attributes


def test_a_base_that_the_sender_has_not_seen_itself_is_not_claimed() -> None:
    """The receiver is ahead in an incarnation: the delta does not build on what its sender cannot know."""
    delta = delta_since(BASE, {A: 9, B: 3}, 1_000)
    assert delta.base == {} and delta.values == BASE.attributes


def test_changes_that_travel_one_by_one_give_the_entry() -> None:
    """S16: each delta builds on the one before; the last copy equals the primary in all but its role."""
    entry, copy = BASE, BACKUP
    for number in range(2, 8):
        commit = Commit(commit_id(number), b"", {f"n{number}": b"v"}, (f"n{number - 2}",))
        changed = after(entry, commit, number)
        copy = with_merged(copy, delta_since(changed, entry.context, 1_000), 1_000)
        entry = changed
    assert copy == backup_of(entry)


def test_of_commit_ids_those_travel_that_the_copy_lacks() -> None:
    """S16: it remembers as many as the primary all the same, also when a delta skips one, comes late, or again, or when
    the primary forgets many at once after a pause."""
    entry, copy = BASE, BACKUP
    for number in range(2, 100, 2):
        known = entry.recent[-1]
        second = after(after(entry, sets(number, x=b"v"), number), sets(number + 1, y=b"v"), number + 1)
        first_delta, delta = (
            delta_since(e, entry.context, 1_000, known) for e in (after(entry, sets(number, x=b"v"), number), second)
        )
        assert (first_delta.recent, delta.recent) == (second.recent[-2:-1], second.recent[-2:])
        entry, copy = second, with_merged(copy, delta, 1_000)
        assert copy == backup_of(entry) == with_merged(with_merged(copy, first_delta, 1_000), delta, 1_000)
    assert len(copy.recent) == limits.RECENT_COMMITS_MAX
    late_ms = 1_000 + limits.RECENT_PAUSE_MS
    late = after(entry, sets(100, x=b"v"), 100, now_ms=late_ms)
    copy = with_merged(copy, delta_since(late, entry.context, late_ms, entry.recent[-1]), late_ms)
    assert copy == backup_of(late) and len(copy.recent) == limits.RECENT_COMMITS_KEPT


def test_a_deletion_travels_as_a_name_that_is_missing() -> None:
    """S18: nothing marks it in the entry; the backup drops what it carries and the delta does not."""
    delta = delta_since(after(BASE, deletes(2, "y"), 2), BASE.context, 1_000)
    assert "y" not in delta.dots() and not delta.values
    assert shown(with_merged(BACKUP, delta, 1_000)) == {"x": b"1"}


def test_a_late_delta_brings_nothing_back() -> None:
    """S14, S15: the older of two deltas, delivered last or again, neither restores a deleted attribute nor an old
    value."""
    second = after(BASE, sets(2, x=b"2"), 2)
    third = after(second, deletes(3, "y"), 3)
    copy = with_merged(BACKUP, delta_since(third, BASE.context, 1_000), 1_000)
    for late in (delta_since(second, BASE.context, 1_000), whole(BASE), whole(second)):
        assert with_merged(copy, late, 1_000) == copy
    assert shown(copy) == {"x": b"2"}


def test_an_overwrite_concurrent_with_a_deletion_survives() -> None:
    """S38: one side deletes the attribute, the other writes it: the value is there, on both."""
    left = after(BASE, deletes(2, "x"), 2)
    right = after(BASE, sets(3, x=b"right"), 3, "b")
    assert shown(with_merged(left, whole(right), 1_000))["x"] == b"right"
    assert shown(with_merged(right, whole(left), 1_000))["x"] == b"right"


def test_concurrent_values_stand_side_by_side_the_shown_one_first() -> None:
    """S38: neither side has seen the other's: both are kept, in one order on both sides."""
    left = after(BASE, sets(2, x=b"left"), 2)
    right = after(BASE, sets(3, x=b"right"), 3, "b")
    both = (sibling("b", 3, b"right"), sibling("a", 2, b"left"))
    assert with_merged(left, whole(right), 1_000).attributes["x"] == both
    assert with_merged(right, whole(left), 1_000).attributes["x"] == both


def test_different_attributes_of_two_sides_both_survive() -> None:
    """S02, S43: two members that each wrote another attribute end with both."""
    left = after(BASE, sets(2, x=b"left"), 2)
    right = after(BASE, sets(3, y=b"right"), 3, "b")
    merged = with_merged(left, whole(right), 1_000)
    assert shown(merged) == {"x": b"left", "y": b"right"}
    assert merged.context == {A: 2, B: 3}


def test_concurrent_values_are_bounded() -> None:
    """Of more than the limit the lowest ranked go."""
    many = tuple(sibling("a", n, b"%d" % n) for n in range(2, 2 + limits.SIBLINGS_MAX))
    other = moved(BASE, attributes={"x": many}, context={A: 100})
    mine = moved(BASE, attributes={"x": (sibling("b", 999, b"mine"),)}, context={B: 999})
    siblings = with_merged(mine, whole(other), 1_000).attributes["x"]
    assert len(siblings) == limits.SIBLINGS_MAX and siblings[0].value == b"mine"


def test_a_delta_applies_only_on_its_base() -> None:
    """S17: a copy that has seen more may take it, one that has seen less may not; merging there is a broken
    invariant."""
    delta = delta_since(after(BASE, sets(2, x=b"2"), 2), BASE.context, 1_000)
    assert applies({A: 1}, delta) and applies({A: 5, B: 1}, delta)
    assert not applies({}, delta) and not applies({B: 1}, delta)
    with pytest.raises(AssertionError, match="base"):
        merged_attributes({}, {}, delta)


def test_a_merge_changes_neither_role_nor_place() -> None:
    """Roles are decided by epoch, data by causality: neither follows the other."""
    other = moved(after(BASE, sets(2, x=b"2"), 2), primary="c", backups=("d",))
    merged = with_merged(BACKUP, whole(other), 1_000)
    assert (merged.role, merged.location, merged.promised) == (BACKUP.role, BACKUP.location, BACKUP.promised)


# --- times ----------------------------------------------------------------------------------------------------------


def test_times_travel_as_ages() -> None:
    """S47: two clocks that differ by an hour: the receiver has the same ages on its own clock."""
    entry = moved(BASE, times=times(1_000, 4_000, rotated_ms=3_000, absolute_ms=9))
    hour_ms = 3_600_000
    theirs = times_of(delta_since(entry, {}, 5_000), 5_000 + hour_ms)
    assert theirs == times(1_000 + hour_ms, 4_000 + hour_ms, rotated_ms=3_000 + hour_ms, absolute_ms=9)


def test_a_session_that_was_never_rotated_stays_so() -> None:
    """S11: 0 is not an instant and has no age."""
    assert times_of(whole(BASE, 9_000), 70_000).rotated_ms == 0


def test_merged_times_keep_the_session_alive() -> None:
    """S45, S11: the later access, the earlier creation, the timeouts of the side that was used last; of two words on
    one rotation the earlier, since an age grows on its way, and of two rotations the later."""
    mine = moved(BASE, times=times(2_000, 5_000, idle_ms=10, rotated_ms=4_000))
    theirs = moved(BASE, times=times(1_000, 9_000, idle_ms=20, rotated_ms=3_000))
    merged = merged_times(mine, whole(theirs, 10_000), 10_000)
    assert merged == times(1_000, 9_000, idle_ms=20, rotated_ms=3_000)
    before = moved(mine, attributes={})
    assert merged_times(before, whole(theirs, 10_000), 10_000).rotated_ms == 4_000


def test_a_first_copy_takes_the_times_as_they_are() -> None:
    """A place that held no data has no times of its own to merge."""
    empty = moved(BASE, context={}, attributes={}, times=times(0, 0, idle_ms=0))
    assert with_merged(empty, whole(BASE, 5_000), 5_000).times == BASE.times


# --- recent commits -------------------------------------------------------------------------------------------------


def test_whoever_has_seen_everything_knows_the_commits() -> None:
    """S23: a copy takes the ids of a delta that covers it, and keeps its own over one that it covers: a late message
    makes nobody forget what was committed since, however much that was."""
    entry = BASE
    for number in range(2, 20):
        entry = after(entry, sets(number, x=b"1"), number)
    old = whole(entry)
    for number in range(20, 40):
        entry = after(entry, sets(number, x=b"2"), number)
    assert with_merged(BACKUP, whole(entry), 1_000).recent == entry.recent
    assert with_merged(backup_of(entry), old, 1_000).recent == entry.recent


def test_both_sides_commits_are_remembered() -> None:
    """S23, S38: after a partition a commit repeated at either side is found; ours leave last."""
    left = after(BASE, sets(2, x=b"left"), 2)
    right = after(BASE, sets(3, x=b"right"), 3, "b")
    assert with_merged(left, whole(right), 1_000).recent == (commit_id(3), commit_id(1), commit_id(2))
