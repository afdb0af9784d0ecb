"""A request does once what it does: its commit's id is remembered wherever its change is, and is applied to it once."""

from __future__ import annotations

from collections.abc import Callable

from understudy.model.commit import Replaced
from understudy.model.entry import Entry, Key, Role, contains
from understudy.protocol import messages as m
from understudy.sim.world import Machine


class Once:
    """No commit is applied to an entry that has seen it before, or over values that its request has not seen; and who
    acknowledges one remembers its id."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._first: dict[tuple[Key, bytes], tuple[int, int]] = {}
        """(Key, id) -> the dot of its first application."""
        self._ids: dict[tuple[int, int], bytes] = {}
        """Dot -> id."""
        self._asked: dict[bytes, list[Replaced | None]] = {}
        """Id -> what the requests that came with it had seen where they write or have read."""

    def asked(self, request: m.Request) -> None:
        if isinstance(request, m.CommitRequest):
            commit = request.commit
            seen = commit.replaces if commit.expects is None else commit.expects
            self._asked.setdefault(commit.id, []).append(seen)

    def stored(self, machine: Machine, key: Key, before: Entry | None, after: Entry | None) -> None:
        if after is None or after.role is not Role.PRIMARY or not after.recent:
            return
        me, commit_id = machine.me.incarnation, after.recent[-1]
        number = after.context.get(me, 0)
        if not number or (me, number) in self._ids or (before is not None and before.recent[-1:] == after.recent[-1:]):
            return
        self._ids[(me, number)] = commit_id
        if before is not None and _is_alone(before, after, me) and not after.ended:
            self._has_seen(machine, key, before, commit_id)
        first = self._first.setdefault((key, commit_id), (me, number))
        if before is not None and first != (me, number) and contains(before.context, *first):
            self._tell(f"{machine.name} applied a commit to {key.hex()[:6]} once more, as {number}, after {first}")

    def _has_seen(self, machine: Machine, key: Key, before: Entry, commit_id: bytes) -> None:
        """A commit is applied over the values that its request saw."""
        asked = self._asked.get(commit_id, [])
        if asked and not any(seen is None or _holds(before, seen) for seen in asked):
            self._tell(f"{machine.name} applied a commit to {key.hex()[:6]} over values that its request had not seen")

    def acknowledges(self, machine: Machine, to: str, message: m.Acknowledge) -> None:
        dot = machine.world.machines[to].me.incarnation, message.number
        commit_id = self._ids.get(dot)
        entry = machine.store.entries.get(message.key)
        if commit_id is None or entry is None or not entry.has_data or not contains(entry.context, *dot):
            return
        if commit_id not in entry.recent:
            self._tell(f"{machine.name} acknowledged {dot[1]} of {message.key.hex()[:6]} and does not remember its id")


def _is_alone(before: Entry, after: Entry, me: int) -> bool:
    """One commit is all that has happened in the transaction, as far as the values are concerned."""
    others = {**after.context, me: before.context.get(me, 0)} == {**before.context, me: before.context.get(me, 0)}
    return others and before.role is Role.PRIMARY and before.recent[-1:] == after.recent[-2:-1]


def _holds(entry: Entry, seen: Replaced) -> bool:
    return all({s.dot for s in entry.attributes.get(name, ())} == set(dots) for name, dots in seen.items())
