"""Which members hold the copies of a session: a function of key, members and cursor."""

from __future__ import annotations

from collections.abc import Sequence


def round_robin(members: Sequence[str], cursor: int, count: int) -> tuple[str, ...]:
    """The next ``count`` of ``members`` (sorted by name) from ``cursor``, fewer if there are fewer.

    Guarantee: over ``len(members)`` successive cursors each member is chosen equally often.
    Source: Tomcat's AbstractReplicatedMap chooses its backup the same way.
    """
    if not members:
        return ()
    ordered = sorted(members)
    return tuple(ordered[(cursor + i) % len(ordered)] for i in range(min(count, len(ordered))))
