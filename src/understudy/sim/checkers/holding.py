"""Whether a machine holds what it is to hold."""

from __future__ import annotations

from understudy.model.entry import Attributes, Context, Entry, Key, covers
from understudy.sim.world import Machine

LOST_A_MOMENT_AGO_MS = 3_000
"""A machine whose store was lost so lately may have acknowledged before, to whoever has not noticed the loss."""


def seen_with(attributes: Attributes) -> Context:
    """What whoever holds these values has seen at least."""
    seen: Context = {}
    for siblings in attributes.values():
        for sibling in siblings:
            if sibling.number > seen.get(sibling.incarnation, 0):
                seen[sibling.incarnation] = sibling.number
    return seen


def has_all(machine: Machine, key: Key, entry: Entry) -> bool:
    """It holds all values of an entry, or has held them until a moment ago."""
    values = seen_with(entry.attributes)
    return any(
        copy.ended
        or (copy.has_data and covers(copy.context, values))
        # It had all of it, and a later primary, of which this one has not heard yet, released it.
        or copy.epoch.reign > entry.epoch.reign
        for copy in machine.held_at(key, machine.world.now_ms - LOST_A_MOMENT_AGO_MS)
    )
