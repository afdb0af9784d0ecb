"""Placement: which members hold the copies."""

from __future__ import annotations

from collections import Counter

import pytest

from understudy.protocol.placement import round_robin

MEMBERS = ["d", "b", "a", "c"]


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_placement_is_even_over_the_cursors(count: int) -> None:
    """S37: over as many cursors as members each is chosen equally often, wherever one begins."""
    for begin in (0, 3, 1_000_003):
        chosen = Counter(name for i in range(4) for name in round_robin(MEMBERS, begin + i, count))
        assert chosen == dict.fromkeys(MEMBERS, count)


def test_nobody_is_chosen_twice() -> None:
    """Several copies are on several members, and there are never more than members."""
    for count in range(1, 7):
        for cursor in range(8):
            names = round_robin(MEMBERS, cursor, count)
            assert len(set(names)) == len(names) == min(count, 4)


def test_placement_depends_on_names_not_on_their_order() -> None:
    """Two members with the same view and cursor choose the same."""
    assert round_robin(MEMBERS, 5, 2) == round_robin(sorted(MEMBERS), 5, 2) == ("b", "c")


def test_without_members_or_without_need_nobody_is_chosen() -> None:
    """A cluster of one has no backups; none are wanted when none are lacking."""
    assert round_robin([], 7, 1) == ()
    assert round_robin(MEMBERS, 7, 0) == ()
