"""What peers have acknowledged: remembered by member and session, bounded, forgotten with a member's life."""

from __future__ import annotations

import pytest

from understudy import limits
from understudy.protocol.bases import NO_BASE, Base, Bases


def test_what_was_noted_last_is_remembered_until_it_is_dropped() -> None:
    """S17: of each member its own; nothing is the whole."""
    bases = Bases()
    bases.note("b", b"k", Base({1: 1}))
    bases.note("b", b"k", Base({1: 2}, b"id"))
    bases.note("c", b"k", Base({1: 3}))
    assert bases.get("b", b"k") == Base({1: 2}, b"id") and bases.get("c", b"k") == Base({1: 3})
    bases.drop("b", b"k")
    bases.drop("b", b"k")
    bases.drop("d", b"k")
    assert bases.get("b", b"k") is bases.get("b", b"l") is bases.get("d", b"k") is NO_BASE
    assert bases.get("c", b"k") == Base({1: 3})


def test_a_life_that_is_over_has_acknowledged_nothing() -> None:
    """S26: its next one may have an empty store; what others have said stays."""
    bases = Bases()
    for name in ("b", "c"):
        bases.note(name, b"k", Base({1: 1}))
    bases.forget("b")
    bases.forget("b")
    assert bases.get("b", b"k") is NO_BASE and bases.get("c", b"k") == Base({1: 1})


def test_of_whom_most_is_remembered_the_oldest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is for all members together, and counts what was dropped or forgotten no more."""
    monkeypatch.setattr(limits, "ACKNOWLEDGED_CONTEXTS_MAX", 4)
    bases = Bases()

    def remembered() -> list[str]:
        return [
            name + key.decode() for name in "bc" for key in (b"1", b"2", b"3", b"4") if bases.get(name, key).context
        ]

    for name, key in (("b", b"1"), ("c", b"1"), ("b", b"2"), ("b", b"3"), ("b", b"1")):
        bases.note(name, key, Base({1: 1}))
    assert remembered() == ["b1", "b2", "b3", "c1"]
    bases.note("c", b"2", Base({1: 1}))
    assert remembered() == ["b1", "b3", "c1", "c2"]
    bases.drop("c", b"2")
    bases.note("b", b"4", Base({1: 1}))
    assert remembered() == ["b1", "b3", "b4", "c1"]
    bases.forget("b")
    for key in (b"2", b"3", b"4"):
        bases.note("c", key, Base({1: 1}))
    assert remembered() == ["c1", "c2", "c3", "c4"]
