"""A *flight*: one session's changes that its holders have not all acknowledged, and who waits for that.

It starts with a change in the store and ends when every holder has answered.
"""

from __future__ import annotations

from typing import NamedTuple

from understudy.model.entry import Context, Entry, Location


class Base(NamedTuple):
    """What a holder has of a session, as far as is known: the next delta for it begins there. Were it wrong, the holder
    would ask for the whole."""

    context: Context
    commit: bytes = b""
    """Id of the last commit that it remembers."""

    @classmethod
    def of(cls, entry: Entry) -> Base:
        """All of an entry."""
        return cls(entry.context, entry.recent[-1] if entry.recent else b"")


NO_BASE = Base({})


class Waiter:
    """One request that waits until a change is protected."""

    def __init__(self, job: int, number: int, until_ms: int) -> None:
        self.job = job
        self.number = number
        self.until_ms = until_ms


class Flight:
    """One session's unacknowledged changes. ``held``: what all holders of before had, if that is known."""

    def __init__(self, key: bytes, entry: Entry, now_ms: int, held: Entry | None = None) -> None:
        self.key = key
        self.location: Location = entry.location
        self.number = entry.number
        self.since_ms = now_ms
        self.resend_ms = 0
        self.attempts = 0
        self.widened = False
        self.hold_until_ms = 0
        """A successor acknowledges nothing before: its promise to the old primary runs on."""
        self.numbers: list[int] = []
        """Outbox rows to remove."""
        self.marked: set[int] = set()
        self.moves: set[int] = set()
        """Numbers that changed roles only."""
        self.acked: dict[str, int] = {}
        self.bases = {} if held is None else dict.fromkeys(held.backups, Base.of(held))
        """By holder. Beyond a flight none is kept: whoever is listed has everything then."""
        self.answered = 0
        """The highest number that answers may have left for."""
        self.confirmed = 0
        """The highest number that readers were told of."""
        self.context: Context = entry.context
        self.commit = entry.recent[-1] if entry.recent else b""
        """Id of the last commit."""
        self.newcomers: dict[str, int] = {}
        """Holders that lack even what was acknowledged before, and the number with which they are sent all."""
        self.waiters: list[Waiter] = []

    def follow(self, entry: Entry) -> None:
        """A later change is under way, too."""
        self.location = entry.location
        self.number = entry.number
        self.context = entry.context
        self.commit = entry.recent[-1] if entry.recent else b""

    def acknowledged(self, holder: str, number: int, context: Context) -> None:
        """A holder has everything up to a number, and what the context says."""
        commit = self.commit if number == self.number else self.bases.get(holder, NO_BASE).commit
        self.bases[holder] = Base(context, commit)
        self.acked[holder] = max(self.acked.get(holder, 0), number)

    def forget(self, holder: str) -> None:
        """A holder's life has ended, and what it acknowledged may have ended with it."""
        self.acked.pop(holder, None)
        self.bases.pop(holder, None)

    def holders(self, me: str) -> tuple[str, ...]:
        """Who is told: the backups; after a hand-over the new primary, and the other backups of where it is now."""
        if self.location.primary == me:
            return self.location.backups
        return (self.location.primary, *(b for b in self.location.backups if b != me))

    @property
    def confirmable(self) -> Context | None:
        """What readers are told that all of them have; None: the end."""
        return None if self.location.ended else self.context

    def lacks(self, name: str, me: str) -> bool:
        """True if a holder lacks what may have been acknowledged, or, after a hand-over, does not know of that."""
        acked, is_ours = self.acked.get(name, 0), self.location.primary == me
        needed = max(self.answered, self.newcomers.get(name, 0)) if is_ours else self.number
        return name in self.holders(me) and acked < needed
