"""The judge of what users were shown: each kind of wrong history is found, and no right one is blamed."""

from __future__ import annotations

import pytest
from tests.system.account import Account, Wrong


def account(*acknowledged: int) -> Account:
    """Of anna, whose list has these numbers for good."""
    made = Account("anna")
    for number in acknowledged:
        made.sent(number)
        made.answered(number, protected=True)
    return made


def kinds(made: Account) -> list[Wrong]:
    return [finding.wrong for finding in made.findings]


def test_a_right_history_is_not_blamed() -> None:
    """Answers that only grow, a request without an answer that took effect or not, and a logout: nothing is wrong."""
    made = account(1, 2)
    made.sent(3)
    made.sent(4)
    made.saw("a", "anna", [1, 2])
    made.saw("b", "anna", [1, 2, 4])
    made.ended()
    made.saw("c", None, [])
    assert made.findings == []


@pytest.mark.parametrize(
    ("shown", "wrong"),
    [
        (("anna", [2]), Wrong.LOST),
        (("anna", []), Wrong.LOST),
        ((None, []), Wrong.LOGGED_OUT),
        (("anna", [1, 2, 2]), Wrong.TWICE),
        (("anna", [1, 2, 7]), Wrong.FOREIGN),
        (("otto", [1, 2]), Wrong.FOREIGN),
    ],
)
def test_a_wrong_answer_is_found(shown: tuple[str | None, list[int]], wrong: Wrong) -> None:
    """A lost change, a lost login, a change applied twice and a stranger's data are each found, with the place."""
    made = account(1, 2)
    made.saw("b", *shown)
    assert kinds(made) == [wrong]
    assert made.findings[0].where == "b"


def test_a_reader_who_goes_back_is_found() -> None:
    """What one answer showed is missing in a later one, though nobody had acknowledged it to the writer."""
    made = account(1)
    made.sent(2)
    made.saw("a", "anna", [1, 2])
    made.saw("b", "anna", [1])
    assert kinds(made) == [Wrong.STALE]


def test_what_was_said_to_be_unprotected_may_go() -> None:
    """A number that was answered as unprotected was shown, and a failure took it back: that was said."""
    made = account(1)
    made.sent(2)
    made.answered(2, protected=False)
    made.saw("a", "anna", [1, 2])
    made.saw("b", "anna", [1])
    assert made.findings == []


def test_an_ended_session_that_shows_itself_is_found() -> None:
    """After the logout was answered, the old cookie shows the session again."""
    made = account(1)
    made.ended()
    made.saw("a", "anna", [1])
    assert kinds(made) == [Wrong.RESURRECTED]
