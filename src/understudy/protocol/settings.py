"""What an engine is told once: who it is, and the configuration as far as the protocol must know it."""

from __future__ import annotations

from zlib import crc32

import msgspec

from understudy import limits
from understudy.protocol.placement import RENDEZVOUS, ROUND_ROBIN

Agreed = tuple[tuple[str, str], ...]
"""What all members should have alike: name and value of each setting, as people write them."""


def digest_of(agreed: Agreed) -> int:
    """A number that differs where the settings do; 0 for none."""
    return crc32("\n".join(f"{name}={value}" for name, value in agreed).encode())


class Settings(msgspec.Struct, frozen=True):
    """What an engine is told once."""

    member: str
    incarnation: int
    chooser: int
    """Hash of member and incarnation, for epochs."""
    copies: int = 1
    everywhere: bool = False
    """A copy on every other member, which reads it in place; ``copies`` is the least that protects."""
    placement: str = ROUND_ROBIN
    zone: str = ""
    lease_ms: int = 250
    dead_ms: int = 5_000
    claim_ms: int = 100
    backup_timeout_ms: int = 100
    commit_timeout_ms: int = 2_000
    sweep_delay_ms: int = 3_000
    cold_start_ms: int = 3_000
    lost_after_ms: int = 300_000
    """How long sessions all of whose holders are gone may be on the other side of a cut, where that can be."""
    members_expected: int = 0
    """Not 0 under ``partition = "refuse"``: without a majority of so many this side changes nothing."""
    move_after: int = 2
    """A member that serves a session so often in a row becomes its primary; 0: never."""
    drain_timeout_ms: int = 30_000
    forget_ms: int = 86_400_000
    patrol_ms: int = 60_000
    """From the end of one round of the patrol to the next; 0: none."""
    grace_ms: int = 10_000
    bytes_max: int = 1 << 20
    first_id: int = 0
    """From where this life counts its requests: no answer to an earlier one's fits them."""
    agreed: Agreed = ()
    """Compared with what others were told, see ``agreement``."""
    lives: frozenset[int] = frozenset()
    """Earlier incarnations of this member whose commits its store may still hold unanswered."""

    @property
    def copies_wanted(self) -> int:
        """How many members shall hold a copy beside the primary, if there are as many."""
        return limits.MEMBERS_MAX if self.everywhere else self.copies

    @property
    def computes_places(self) -> bool:
        """True if any member can work out who holds a session: places are not announced, and not kept."""
        return self.placement == RENDEZVOUS
