"""Which members hold the copies of a session: an order of the members for its key, and a pick by zones.

A placement is a function ``(key, members, cursor) -> members``, best first. ``round_robin`` deals the sessions out in
turn, so that somebody has to be told where each is. ``rendezvous`` needs nothing but the key and the names: any member
computes who holds a session, no proxy entry is kept and no place is announced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import NamedTuple

ROUND_ROBIN, RENDEZVOUS = "round-robin", "rendezvous"
_WEIGHT_BYTES = 8


class Candidate(NamedTuple):
    """A member that may hold copies."""

    name: str
    zone: str = ""
    """What fails together: a rack, a hall. Members that name none are in one zone."""


Order = Callable[[bytes, Sequence[Candidate], int], list[Candidate]]


def round_robin(key: bytes, members: Sequence[Candidate], cursor: int) -> list[Candidate]:
    """``members`` by name, beginning with the one at ``cursor``; the key does not matter.

    Guarantee: over ``len(members)`` successive cursors each is first, second, … equally often.
    Source: Tomcat's AbstractReplicatedMap chooses its backup the same way.
    """
    ordered = sorted(members)
    at = cursor % len(ordered) if ordered else 0
    return ordered[at:] + ordered[:at]


def rendezvous(key: bytes, members: Sequence[Candidate], cursor: int) -> list[Candidate]:
    """``members`` by the weight that key and name have together, highest first; the cursor does not matter.

    Guarantee: a member that comes takes its part of the keys from all others alike, one that goes leaves its part to
    all others alike, and no key moves between two members that stay.
    Cost: a hash a member, about 1 µs.
    Source: Thaler and Ravishankar 1998 (highest random weight).
    """
    return sorted(members, key=lambda member: (_weight(key, member.name), member.name), reverse=True)


def _weight(key: bytes, name: str) -> bytes:
    return blake2b(key + name.encode(), digest_size=_WEIGHT_BYTES).digest()


ORDERS: dict[str, Order] = {ROUND_ROBIN: round_robin, RENDEZVOUS: rendezvous}
"""The placements by the name that the configuration gives them."""


def chosen(
    order: Order, key: bytes, members: Sequence[Candidate], cursor: int, count: int, zones: Iterable[str] = ()
) -> tuple[str, ...]:
    """``count`` of ``members``, those of a zone that has no copy yet before all others; fewer if there are fewer.

    Args:
        zones: where copies are already, the primary's among them.
    """
    taken = set(zones)
    # Two orders, not one: the turn must go round among those who may be first, or some get more than others.
    left = order(key, [m for m in members if m.zone not in taken], cursor)
    left += order(key, [m for m in members if m.zone in taken], cursor)
    names: list[str] = []
    while left and len(names) < count:
        best = next((member for member in left if member.zone not in taken), left[0])
        left.remove(best)
        taken.add(best.zone)
        names.append(best.name)
    return tuple(names)
