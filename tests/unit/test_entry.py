"""The entry: the role table, which value is shown, contexts, epochs, and when a session's time is over."""

from __future__ import annotations

import pytest
from tests.making import IDLE_MS, backup_of, moved, new_session, place, proxy, sibling, times

from understudy.model.commit import ended
from understudy.model.entry import (
    ROLE_CHANGES,
    Epoch,
    Promise,
    Role,
    changed_role,
    contains,
    covers,
    role_at,
    united,
)

FORGET_MS = 86_400_000
ALLOWED = {
    (None, Role.PRIMARY),
    (None, Role.BACKUP),
    (None, Role.PROXY),
    (Role.PRIMARY, Role.BACKUP),
    (Role.BACKUP, Role.PRIMARY),
    (Role.BACKUP, Role.PROXY),
    (Role.PROXY, Role.BACKUP),
    (Role.PROXY, Role.PRIMARY),
}
PAIRS = [(before, role) for before in (None, *Role) for role in Role]


@pytest.mark.parametrize(("before", "role"), PAIRS)
def test_a_role_changes_only_as_the_table_says(before: Role | None, role: Role) -> None:
    """Each pair of the table, and staying what one is, gives the new role; every other pair raises AssertionError. A
    primary never becomes a proxy in one step: it would drop data that nobody may hold."""
    entry = None if before is None else moved(new_session(), role=before)
    if before is role or (before, role) in ALLOWED:
        assert changed_role(entry, role) is role
    else:
        with pytest.raises(AssertionError, match="no role change"):
            changed_role(entry, role)


def test_the_table_is_what_this_test_lists() -> None:
    """The table holds these changes and no other, each with its reason."""
    assert set(ROLE_CHANGES) == ALLOWED
    assert all(ROLE_CHANGES.values())


def test_a_location_gives_each_member_its_role() -> None:
    """The primary, its backups, and everybody else as a proxy."""
    assert [role_at(name, place("a", ("b", "c"))) for name in "abcd"] == [
        Role.PRIMARY,
        Role.BACKUP,
        Role.BACKUP,
        Role.PROXY,
    ]


def test_epochs_are_ordered_by_reign_then_chooser_then_list() -> None:
    """A later reign is higher whatever its chooser and list; a longer list number counts only within one reign."""
    assert Epoch(1, 9, 9) < Epoch(2, 1, 1) < Epoch(2, 2, 1) < Epoch(2, 2, 2)
    assert Promise(1, 9) < Promise(2, 1) < Promise(2, 2)


@pytest.mark.parametrize(
    ("left", "right", "winner"),
    [
        (sibling("a", 9, b"9"), sibling("b", 1, b"reign", reign=2), b"reign"),
        (sibling("a", 3, b"3"), sibling("b", 4, b"4"), b"4"),
        (sibling("a", 4, b"of a"), sibling("b", 4, b"of b"), b"of b"),
    ],
    ids=["the higher reign", "the higher number", "the higher incarnation"],
)
def test_one_of_concurrent_values_is_shown(left, right, winner) -> None:
    """S38: every copy shows the same one of several concurrent values, in whatever order they stand."""
    for siblings in ((left, right), (right, left)):
        assert moved(new_session(), attributes={"x": siblings}).shown("x") == winner


def test_what_is_not_there_is_not_shown() -> None:
    """An attribute that nobody set is None, not an error and not empty bytes."""
    assert new_session(x=b"").shown("x") == b""
    assert new_session(x=b"").shown("y") is None


def test_contexts_contain_cover_and_unite() -> None:
    """A context has seen a dot up to its number of that incarnation, covers what has seen no more, and unites to the
    higher number of each."""
    assert contains({1: 5}, 1, 5) and not contains({1: 5}, 1, 6) and not contains({1: 5}, 2, 1)
    assert covers({1: 5, 2: 1}, {1: 4}) and covers({}, {}) and covers({1: 1}, {})
    assert not covers({1: 5}, {2: 1}) and not covers({1: 5}, {1: 6})
    assert united({1: 5, 2: 1}, {1: 3, 3: 7}) == {1: 5, 2: 1, 3: 7}


def test_uniting_changes_neither_context() -> None:
    """The contexts of stored entries stay as they are."""
    left, right = {1: 1}, {1: 2}
    united(left, right)
    assert (left, right) == ({1: 1}, {1: 2})


@pytest.mark.parametrize(
    ("given", "deadline_ms"),
    [
        (times(1_000, 5_000, idle_ms=100), 5_100),
        (times(1_000, 5_000, idle_ms=0, absolute_ms=300), 1_300),
        (times(1_000, 5_000, idle_ms=100, absolute_ms=9_000), 5_100),
        (times(1_000, 5_000, idle_ms=100, absolute_ms=4_050), 5_050),
        (times(1_000, 5_000, idle_ms=0), None),
    ],
)
def test_a_session_ends_at_the_earlier_of_its_timeouts(given, deadline_ms: int | None) -> None:
    """S44, S46: idleness counts from the last access, the absolute limit from creation; 0 means none."""
    assert given.deadline_ms == deadline_ms


def test_a_session_has_expired_from_its_deadline_on() -> None:
    """S44: not a millisecond before; a session without timeouts never does."""
    entry = new_session(now_ms=1_000)
    assert not entry.expired(1_000 + IDLE_MS - 1)
    assert entry.expired(1_000 + IDLE_MS)
    assert not moved(entry, times=times(idle_ms=0)).expired(10**15)


def test_only_copies_have_data_and_can_expire() -> None:
    """A proxy and a tombstone hold no data and never count as expired sessions."""
    entry = new_session()
    stone = ended(entry, 5_000)
    assert entry.has_data and backup_of(entry).has_data
    assert not proxy().has_data and not stone.has_data
    assert not stone.expired(10**15) and not proxy().expired(10**15)


def test_what_is_due_when() -> None:
    """A copy at its session's deadline, a tombstone when it may be forgotten, a proxy never."""
    entry = new_session(now_ms=1_000)
    assert entry.deadline_ms(FORGET_MS) == backup_of(entry).deadline_ms(FORGET_MS) == 1_000 + IDLE_MS
    assert ended(entry, 5_000).deadline_ms(FORGET_MS) == 5_000 + FORGET_MS
    assert proxy().deadline_ms(FORGET_MS) is None


def test_a_tombstone_keeps_its_place_and_its_first_instant() -> None:
    """S04: it keeps epoch and location, holds no attribute, and dies again at its first instant only; at instant 0,
    too, it is one."""
    entry = new_session(x=b"1")
    stone = ended(entry, 5_000)
    assert stone.attributes == {} and stone.ended and stone.location == place("a", ("b",), ended=True)
    assert ended(stone, 9_000) == stone
    assert ended(entry, 0).ended
