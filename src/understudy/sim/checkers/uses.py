"""When a session was used last: every change is a use, which its copies know of, and no copy invents one."""

from __future__ import annotations

from collections.abc import Callable

from understudy.model.entry import Entry, Key, Role, contains
from understudy.protocol import messages as m
from understudy.sim.world import Machine

SLACK_MS = 500
"""So much another time a use may be taken to have been, by the way of the message that told it."""


class Uses:
    """Nobody takes a session for used later than a request has used it, nor its change for no use."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._used_ms: dict[Key, int] = {}
        """The last use of each session, as the member took it that heard of it first."""
        self._touched: set[Key] = set()
        """Used without a change, as a worker has told its member: that may hold nothing of it, and stand still."""
        self._changed_ms: dict[tuple[int, int], int] = {}
        """Dot -> when it was made."""

    def asked(self, request: m.Request) -> None:
        if isinstance(request, m.TouchRequest):
            self._touched.add(request.key)

    def stored(self, machine: Machine, key: Key, before: Entry | None, after: Entry | None) -> None:
        if after is None or not after.has_data:
            return
        if before is not None and _revives(before, after):
            self._tell(f"{machine.name} takes {key.hex()[:6]} for used when its time was over")
        me = machine.me.incarnation
        used_ms, dot = _used_ms(machine, after), (me, after.context.get(me, 0))
        if after.role is Role.PRIMARY and dot[1] and dot not in self._changed_ms:
            self._changed_ms[dot] = machine.world.now_ms
            self._has_heard(machine, key, after, dot)
            self._used_ms[key] = max(used_ms, self._used_ms.get(key, 0))
        elif before is not None and before.has_data and before.times.accessed_ms >= after.times.accessed_ms:
            return
        known_ms = self._used_ms.get(key, 0)
        if used_ms <= known_ms + SLACK_MS:
            return
        if key not in self._touched:
            self._tell(f"{machine.name} takes {key.hex()[:6]} for used at {used_ms} ms, not at {known_ms}")
        self._touched.discard(key)
        self._used_ms[key] = used_ms

    def acknowledges(self, machine: Machine, to: str, message: m.Acknowledge) -> None:
        dot = machine.world.machines[to].me.incarnation, message.number
        copy = machine.store.entries.get(message.key)
        if dot in self._changed_ms and copy is not None and copy.has_data and contains(copy.context, *dot):
            self._has_heard(machine, message.key, copy, dot)

    def _has_heard(self, machine: Machine, key: Key, entry: Entry, dot: tuple[int, int]) -> None:
        used_ms = _used_ms(machine, entry)
        if used_ms < self._changed_ms[dot] - SLACK_MS:
            self._tell(f"{machine.name} has change {dot[1]} of {key.hex()[:6]}, and takes it for used at {used_ms} ms")


def _revives(before: Entry, after: Entry) -> bool:
    """A primary takes for a use what came after the session's time. (Others' changes aside.)"""
    if not before.role is after.role is Role.PRIMARY or before.epoch != after.epoch or before.ended:
        return False
    deadline_ms, accessed_ms = before.times.deadline_ms, after.times.accessed_ms
    is_own = before.context.keys() == after.context.keys()
    return is_own and deadline_ms is not None and before.times.accessed_ms < deadline_ms <= accessed_ms


def _used_ms(machine: Machine, entry: Entry) -> int:
    """On the cluster's clock."""
    return machine.world.now_ms - (machine.now_ms() - entry.times.accessed_ms)
