"""What no store may ever hold, looked at whenever an entry changes: roles, epochs, dots, tombstones, expiry, limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from understudy import limits
from understudy.model.entry import Entry, Promise, Role, covers
from understudy.protocol.commands import Fact, FactKind
from understudy.sim.world import Machine, World
from understudy.transport import Peer

LOOK_EVERY_TURNS = 8
USE_SLACK_MS = 100
"""By so much two members' records of one use may differ, by the way of the message that told it."""
NEARLY_MS, NEARLY_SHARE = 1_000, 10
SETTLED_MS = 3_000
LAST_LOOK_MS = 1_000
KEYS_MAX = 1_000
AWAY_MS = 10_000
"""Who came back later than so long before a session's end may still hold it as it was."""


class OnePrimary:
    """One epoch has one primary; whoever becomes primary does so under a higher reign than it knew, or has promised."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._primaries: dict[tuple[bytes, int, int], str] = {}

    def stored(self, machine: Machine, key: bytes, before: Entry | None, after: Entry | None) -> None:
        if after is None or after.role is not Role.PRIMARY or after.ended:
            return
        if before is not None and before.role is Role.PRIMARY and before.epoch == after.epoch:
            return
        slot = (key, after.epoch.reign, after.epoch.chooser)
        other = self._primaries.setdefault(slot, machine.name)
        if other != machine.name:
            self._tell(f"{other} and {machine.name} are primary of {key.hex()[:6]} in one reign, {after.epoch[:2]}")
        if before is None or before.role is Role.PRIMARY:
            return
        if after.epoch.reign <= before.epoch.reign:
            self._tell(f"{machine.name} became primary of {key.hex()[:6]} without a higher reign: {after.epoch}")
        if before.promised > Promise(after.epoch.reign, after.epoch.chooser):
            self._tell(f"{machine.name} became primary of {key.hex()[:6]}, which it has promised, {before.promised}")


class Apart:
    """Primary and backups are different machines, and a role is what the lists say."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell

    def stored(self, machine: Machine, key: bytes, before: Entry | None, after: Entry | None) -> None:
        if after is None or after.ended or (before is not None and before.backups == after.backups):
            return
        if after.primary in after.backups or len(set(after.backups)) < len(after.backups):
            self._tell(f"{machine.name} lists {key.hex()[:6]} at {after.primary} with the backups {after.backups}")
        if after.role is Role.PRIMARY and after.primary != machine.name:
            self._tell(f"{machine.name} is primary of {key.hex()[:6]} and names {after.primary}")


class Dots:
    """A dot is one commit's, for good: no number is drawn twice, and no value changes under way."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._values: dict[tuple[int, int], tuple[bytes, dict[str, bytes]]] = {}

    def stored(self, machine: Machine, key: bytes, before: Entry | None, after: Entry | None) -> None:
        if after is None or (before is not None and before.attributes is after.attributes):
            return
        known = before.attributes if before is not None else {}
        for name, siblings in after.attributes.items():
            if known.get(name) is siblings:
                continue
            for sibling in siblings:
                place, values = self._values.setdefault(sibling.dot, (key, {}))
                if place != key or values.setdefault(name, sibling.value) != sibling.value:
                    self._tell(f"{machine.name} holds two values under one dot, {name} of {key.hex()[:6]}: {sibling}")


class Gone:
    """A tombstone stays for its time, on every machine; only a primary expires a session, and none that another one
    has expired, unless it was away or cut off meanwhile, or knew of a later use that the other had not heard of."""

    def __init__(self, tell: Callable[[str], None], once: bool) -> None:
        self._tell = tell
        self._once = once
        self._expired: dict[bytes, tuple[str, int]] = {}
        self._used_ms: dict[bytes, list[int]] = {}
        """When each primary that gave a session up took it for used last, on the cluster's clock."""
        self._over: set[bytes] = set()
        """Sessions whose time is over however they are used: who is asked for one at that instant may say so, too."""
        self._dropped: list[tuple[bytes, Entry]] = []
        self._discarding: set[Peer] = set()
        """Lives that found their store too old and gave it up as a whole."""
        self._ended: dict[bytes, None] = {}

    def alive(self, world: World) -> Iterator[str]:
        """Sessions that ended, and that somebody holds now, whether their tombstones are still there or not."""
        for key in self._ended:
            for machine in world.machines.values():
                entry = machine.store.entries.get(key)
                if entry is not None and entry.has_data:
                    yield f"{machine.name} holds {key.hex()[:6]}, which has ended"

    def told(self, machine: Machine, fact: Fact) -> None:
        if fact.kind is FactKind.STORE_OUTDATED:
            self._discarding.add(machine.me)
        if fact.kind is FactKind.SESSION_EXPIRED:
            other, then_ms = self._expired.setdefault(fact.key, (machine.name, machine.world.now_ms))
            first, *later = self._used_ms.get(fact.key, [0])
            was_used = fact.key in self._over or any(used_ms > first + USE_SLACK_MS for used_ms in later)
            if self._once and other != machine.name and machine.back_ms < then_ms - AWAY_MS and not was_used:
                self._tell(f"{other} and {machine.name} have both expired {fact.key.hex()[:6]}")

    def turned(self, machine: Machine) -> None:
        if not self._dropped:
            return
        dropped, self._dropped = self._dropped, []
        for key, copy in dropped:
            if machine.me in self._discarding or _is_let_go(machine, key, copy):
                continue
            if not _is_nearly_over(machine, copy):
                self._tell(f"{machine.name} dropped its copy of {key.hex()[:6]}, whose time is not over")
            elif key not in self._expired and not _is_orphaned(machine, copy):
                self._tell(f"{machine.name} dropped its copy of {key.hex()[:6]}, which no primary has expired")

    def stored(self, machine: Machine, key: bytes, before: Entry | None, after: Entry | None) -> None:
        if after is not None and after.ended:
            self._ended[key] = None
        if before is None:
            return
        if before.ended:
            if after is not None and not after.ended:
                self._tell(f"{machine.name} brought {key.hex()[:6]} back from its tombstone")
            elif after is None and machine.now_ms() < before.ended_ms + machine.world.settings.forget_ms:
                self._tell(f"{machine.name} dropped the tombstone of {key.hex()[:6]} before its time")
        elif after is None and before.role is Role.PRIMARY:
            if _is_at_its_absolute_end(machine, before):
                self._over.add(key)
            idle_ms = machine.now_ms() - before.times.accessed_ms
            self._used_ms.setdefault(key, []).append(machine.world.now_ms - idle_ms)
        elif after is None and before.role is Role.BACKUP:
            self._dropped.append(
                (key, before)
            )  # whether it was promoted and expired it in the same turn, the facts tell


def _is_at_its_absolute_end(machine: Machine, entry: Entry) -> bool:
    times = entry.times
    return bool(times.absolute_timeout_ms) and machine.now_ms() >= times.created_ms + times.absolute_timeout_ms


def _is_nearly_over(machine: Machine, copy: Entry) -> bool:
    """By as much as a copy may be thought to have been used later than it was."""
    return copy.expired(machine.now_ms() + max(NEARLY_MS, copy.times.idle_timeout_ms // NEARLY_SHARE))


def _is_let_go(machine: Machine, key: bytes, copy: Entry) -> bool:
    """Released and forgotten in one turn: others hold all of it, and do not count on this one."""
    entries = (other.store.entries.get(key) for other in machine.world.machines.values())
    return any(
        entry is not None
        and entry.has_data
        and entry.epoch >= copy.epoch
        and machine.name not in (entry.primary, *entry.backups)
        and covers(entry.context, copy.context)
        for entry in entries
    )


def _is_orphaned(machine: Machine, copy: Entry) -> bool:
    """Its time is over, and who was its primary has lost its store: nobody else is left to expire it."""
    return copy.expired(machine.now_ms()) and machine.world.machines[copy.primary].lost_store is not None


class Drained:
    """Who says that it may go has handed over everything that somebody else could take.

    (One that was begun, or taken over, since its last look at them is not.)
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._since_ms: dict[tuple[str, bytes], int] = {}

    def stored(self, machine: Machine, key: bytes, before: Entry | None, after: Entry | None) -> None:
        if after is not None and after.role is Role.PRIMARY and (before is None or before.role is not Role.PRIMARY):
            self._since_ms[(machine.name, key)] = machine.world.now_ms

    def told(self, machine: Machine, fact: Fact) -> None:
        if fact.kind is not FactKind.DRAINED or fact.detail:
            return
        if not any(_takes(machine, other) for other in machine.world.machines.values()):
            return
        looked_ms = machine.world.now_ms - LAST_LOOK_MS
        with machine.store.view() as view:
            for key in view.keys(None, KEYS_MAX):
                entry = view.get(key)
                is_led = entry is not None and entry.role is Role.PRIMARY and not entry.ended
                if entry is not None and is_led and self._since_ms.get((machine.name, key), 0) < looked_ms:
                    self._tell(f"{machine.name} has left and is the primary of {key.hex()[:6]}, with {entry.backups}")


def _takes(machine: Machine, other: Machine) -> bool:
    """It could be handed a session: it is there, stays, and has been so for a while."""
    if other is machine or not other.is_up or other.executor is None or not other.executor.engine.ready:
        return False
    return other.back_ms < machine.world.now_ms - SETTLED_MS


class Bounds:
    """Entries and engines keep within their limits; nothing grows with the length of a history."""

    def __init__(self, tell: Callable[[str], None], requests_max: int) -> None:
        self._tell = tell
        self._requests_max = requests_max
        self._keys: set[bytes] = set()
        self._turns = 0

    def stored(self, machine: Machine, key: bytes, before: Entry | None, after: Entry | None) -> None:
        self._keys.add(key)
        if after is None:
            return
        # A merge keeps the ids of both sides, each of which has kept to the limit.
        if len(after.recent) > 2 * limits.RECENT_COMMITS_MAX:
            self._tell(f"{machine.name} remembers {len(after.recent)} commits of {key.hex()[:6]}")
        if len(after.context) > limits.CONTEXT_INCARNATIONS_MAX:
            self._tell(f"the context of {key.hex()[:6]} at {machine.name} names {len(after.context)} incarnations")

    def turned(self, machine: Machine) -> None:
        executor = machine.executor
        self._turns += 1
        if executor is None or self._turns % LOOK_EVERY_TURNS:
            return
        engine = executor.engine
        sessions = len(self._keys)
        for what, size, most in (
            ("flights", len(engine.replication.flights), sessions),
            ("inquiries", len(engine.inquiries.open), sessions),
            ("jobs", len(engine.service.jobs), self._requests_max),
            ("comparisons", len(engine.comparisons.open), sessions + 2),
        ):
            if size > most:
                self._tell(
                    f"{machine.name} has {size} {what}, of {sessions} sessions and {self._requests_max} requests"
                )
