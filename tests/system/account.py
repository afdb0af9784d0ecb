"""Judges what one user was shown of one session: nothing promised is lost, nothing goes back, nothing ended returns.

An *account* observes the answers to a user who makes one request after another and follows the cookie. The user adds
numbers to a list in the session, each once. It decides from these answers alone; it knows nothing of members.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple


class Wrong(enum.StrEnum):
    """What must never be seen."""

    LOST = "an acknowledged change is lost"
    STALE = "a reader went back"
    TWICE = "a change was applied twice"
    RESURRECTED = "an ended session came back"
    LOGGED_OUT = "a login is lost"
    FOREIGN = "a change that nobody made"


class Finding(NamedTuple):
    """One thing that was wrong, and where."""

    wrong: Wrong
    where: str
    detail: str

    def __str__(self) -> str:
        return f"{self.wrong}: {self.where}: {self.detail}"


class Account:
    """One session of one user."""

    def __init__(self, user: str) -> None:
        self.user = user
        self.findings: list[Finding] = []
        self.acknowledged: set[int] = set()
        """Numbers whose answer said that a second machine has them."""
        self._sent: set[int] = set()
        self._unprotected: set[int] = set()
        self._shown: set[int] = set()
        self._ended = False

    def sent(self, number: int) -> None:
        """The user asks to add a number; there may never be an answer."""
        assert number not in self._sent, "each number is added once"
        self._sent.add(number)

    def answered(self, number: int, protected: bool) -> None:
        """It was added, and the answer said whether a second machine has it."""
        assert number in self._sent, "only what was sent is answered"
        (self.acknowledged if protected else self._unprotected).add(number)

    def saw(self, where: str, user: str | None, numbers: Iterable[int]) -> None:
        """An answer showed this user and this list, as they were before the request's own change."""
        if self._ended:
            if user is not None:
                self._found(Wrong.RESURRECTED, where, f"{user}'s session")
            return
        if user is None:
            self._found(
                Wrong.LOGGED_OUT, where, f"of {self.user}, who had {len(self.acknowledged)} changes acknowledged"
            )
            return
        times = Counter(numbers)
        shown = set(times)
        if twice := [number for number, count in times.items() if count > 1]:
            self._found(Wrong.TWICE, where, f"numbers {sorted(twice)[:5]}")
        if user != self.user or (foreign := shown - self._sent):
            self._found(Wrong.FOREIGN, where, f"user {user}" if user != self.user else f"numbers {sorted(foreign)[:5]}")
        if lost := self.acknowledged - shown:
            self._found(Wrong.LOST, where, f"numbers {sorted(lost)[:5]} of {len(self.acknowledged)}")
        elif back := self._shown - self._unprotected - shown:
            # What an answer showed had been waited for. A failure may take back only what was said to be unprotected.
            self._found(Wrong.STALE, where, f"numbers {sorted(back)[:5]} were shown before")
        self._shown |= shown

    def ended(self) -> None:
        """The user has logged out, and the answer said so."""
        self._ended = True

    def _found(self, wrong: Wrong, where: str, detail: str) -> None:
        self.findings.append(Finding(wrong, where, detail))
