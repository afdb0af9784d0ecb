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
        """The last use of each session, as the member took it that served it."""
        self._touched: set[tuple[str, Key]] = set()
        """Uses without a change of which a worker has told its member."""
        self._changed_ms: dict[tuple[int, int], int] = {}
        """Dot -> when it was made."""

    def touched(self, machine: Machine, key: Key) -> None:
        self._touched.add((machine.name, key))

    def stored(self, machine: Machine, key: Key, before: Entry | None, after: Entry | None) -> None:
        if after is None or not after.has_data:
            return
        me = machine.me.incarnation
        used_ms, dot = _used_ms(machine, after), (me, after.context.get(me, 0))
        is_here = (machine.name, key) in self._touched
        if after.role is Role.PRIMARY and dot[1] and dot not in self._changed_ms:
            is_here, self._changed_ms[dot] = True, machine.world.now_ms
            self._has_heard(machine, key, after, dot)
        if before is not None and before.has_data and before.times.accessed_ms >= after.times.accessed_ms:
            return
        if is_here:
            self._touched.discard((machine.name, key))
            self._used_ms[key] = max(used_ms, self._used_ms.get(key, 0))
        elif used_ms > self._used_ms.get(key, 0) + SLACK_MS:
            self._tell(
                f"{machine.name} takes {key.hex()[:6]} for used at {used_ms} ms, not at {self._used_ms.get(key)}"
            )

    def acknowledges(self, machine: Machine, to: str, message: m.Acknowledge) -> None:
        dot = machine.world.machines[to].me.incarnation, message.number
        copy = machine.store.entries.get(message.key)
        if dot in self._changed_ms and copy is not None and copy.has_data and contains(copy.context, *dot):
            self._has_heard(machine, message.key, copy, dot)

    def _has_heard(self, machine: Machine, key: Key, entry: Entry, dot: tuple[int, int]) -> None:
        used_ms = _used_ms(machine, entry)
        if used_ms < self._changed_ms[dot] - SLACK_MS:
            self._tell(f"{machine.name} has change {dot[1]} of {key.hex()[:6]}, and takes it for used at {used_ms} ms")


def _used_ms(machine: Machine, entry: Entry) -> int:
    """On the cluster's clock."""
    return machine.world.now_ms - (machine.now_ms() - entry.times.accessed_ms)
