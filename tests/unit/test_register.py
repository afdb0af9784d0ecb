"""The simulator's judge of one attribute: which values a request may have been shown."""

from __future__ import annotations

from understudy.sim.checkers.register import Register


def written(register: Register, began_ms: int, answered_ms: int) -> None:
    register.answered(register.write(began_ms), answered_ms)


def test_what_was_replaced_before_the_request_began_is_told() -> None:
    """S25: neither the first absence nor the first value may be shown after the second value was answered."""
    register = Register(0)
    written(register, 10, 20)
    written(register, 30, 40)
    assert register.look(2, 50) == ""
    assert "over at 40" in register.look(1, 50)
    assert "over at" in register.look(None, 50)
    assert register.look(1, 40) == "", "a request that began before may have looked before"


def test_absence_that_may_be_the_first_one_dates_no_deletion() -> None:
    """A request that began before the first write and ended late has seen nothing there; that is no sign of a deletion
    which is under way, so the value may still be shown, and later the absence (profile blink, seed 4022)."""
    register = Register(0)
    written(register, 10, 20)
    deletion = register.write(30, deletes=True)
    register.shown(1, 25, 26)
    register.shown(None, 5, 50)
    register.shown(1, 60, 60)
    register.answered(deletion, 70)
    assert register.look(None, 80) == ""
    assert "over at 70" in register.look(1, 80)
