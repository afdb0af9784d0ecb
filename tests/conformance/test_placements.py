"""What every placement promises, and what each promises beside it."""

from __future__ import annotations

from collections import Counter

import pytest

from understudy.protocol.placement import ORDERS, RENDEZVOUS, ROUND_ROBIN, Candidate, chosen, rendezvous, round_robin

MEMBERS = [Candidate(name) for name in ("d", "b", "a", "c")]
ZONED = [Candidate("a", "x"), Candidate("b", "x"), Candidate("c", "y"), Candidate("d", "y"), Candidate("e", "y")]
KEYS = [number.to_bytes(16, "big") for number in range(2_000)]


@pytest.fixture(params=sorted(ORDERS))
def order(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def picks(order: str, members: list[Candidate], count: int, zones: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Who is chosen for each of many keys, one after the other."""
    return [chosen(ORDERS[order], key, members, cursor, count, zones) for cursor, key in enumerate(KEYS)]


def test_nobody_is_chosen_twice_and_nobody_is_left_out(order: str) -> None:
    """As many distinct members as are wanted, or all there are."""
    for count in range(1, 7):
        for names in picks(order, MEMBERS, count)[:50]:
            assert len(set(names)) == len(names) == min(count, 4)
            assert set(names) <= {"a", "b", "c", "d"}


def test_without_members_or_without_need_nobody_is_chosen(order: str) -> None:
    """A cluster of one has no backups; none are wanted when none are lacking."""
    assert chosen(ORDERS[order], KEYS[0], [], 7, 1) == ()
    assert chosen(ORDERS[order], KEYS[0], MEMBERS, 7, 0) == ()


def test_a_choice_depends_on_names_not_on_their_order(order: str) -> None:
    """Two members with the same view and cursor choose the same."""
    assert picks(order, MEMBERS, 2) == picks(order, sorted(MEMBERS), 2)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_copies_are_even(order: str, count: int) -> None:
    """S37: each member gets its share of many sessions, within a tenth."""
    load = Counter(name for names in picks(order, MEMBERS, count) for name in names)
    fair = len(KEYS) * count / len(MEMBERS)
    assert all(abs(load[member.name] - fair) <= fair / 10 for member in MEMBERS), load


def test_another_zone_comes_first(order: str) -> None:
    """With the primary in zone x the backup is in y, evenly; with two copies each zone has one of the three; more
    copies than zones go on to the rest."""
    one = Counter(name for (name,) in picks(order, ZONED, 1, ("x",)))
    assert set(one) == {"c", "d", "e"}
    assert all(abs(times - len(KEYS) / 3) <= len(KEYS) / 30 for times in one.values()), one
    for first, second in picks(order, ZONED, 2):
        assert (first in "ab") != (second in "ab")
    assert all(names[0] in "cde" and len(set(names)) == 3 for names in picks(order, ZONED, 3, ("x",)))


def test_round_robin_is_exactly_even_over_the_cursors() -> None:
    """S37: over as many cursors as members each is chosen equally often, wherever one begins."""
    for begin in (0, 3, 1_000_003):
        load = Counter(name for i in range(4) for name in chosen(round_robin, b"", MEMBERS, begin + i, 2))
        assert load == dict.fromkeys("abcd", 2)


def test_rendezvous_needs_the_key_alone() -> None:
    """Any member computes the same, whatever it has chosen before."""
    assert all(rendezvous(key, MEMBERS, 1) == rendezvous(key, MEMBERS, 77) for key in KEYS[:100])


def test_rendezvous_moves_no_more_than_it_must() -> None:
    """S37: who comes takes a fair part and nothing else moves; who goes gives its part to all others alike."""
    before = picks(RENDEZVOUS, MEMBERS, 1)
    after = picks(RENDEZVOUS, [*MEMBERS, Candidate("e")], 1)
    moved = [(old, new) for (old,), (new,) in zip(before, after, strict=True) if old != new]
    assert {new for _, new in moved} == {"e"}
    assert abs(len(moved) - len(KEYS) / 5) < len(KEYS) / 25
    assert all(abs(times - len(moved) / 4) < len(moved) / 10 for times in Counter(old for old, _ in moved).values())


def test_rendezvous_is_as_documented() -> None:
    """Members of two releases must compute the same: the order of some keys, for ever."""
    assert "".join(member.name for member in rendezvous(bytes(16), MEMBERS, 0)) == "bcda"
    assert chosen(ORDERS[ROUND_ROBIN], b"", MEMBERS, 5, 2) == ("b", "c")


def test_who_holds_a_session_is_among_the_first_by_key_alone() -> None:
    """Whoever is primary: of the first copies + 1 by key, one is the primary or its backup, zones or none."""
    for members in (MEMBERS, ZONED):
        for primary in members:
            others = [member for member in members if member != primary]
            for key in KEYS[:300]:
                for copies in (1, 2):
                    held = {primary.name, *chosen(rendezvous, key, others, 0, copies, (primary.zone,))}
                    assert held & set(chosen(rendezvous, key, members, 0, copies + 1))
