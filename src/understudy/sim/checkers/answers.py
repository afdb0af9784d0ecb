"""What may not be said: what is not stored or still under way, what was refused, anything new by a minority."""

from __future__ import annotations

from collections.abc import Callable

from understudy.model.commit import Outcome
from understudy.model.entry import Attributes, Entry, Key, Role
from understudy.protocol import messages as m
from understudy.sim.checkers.ledger import Calm
from understudy.sim.world import Machine, Reply, World

UNKNOWN = (Outcome.UNKNOWN, m.FetchOutcome.UNKNOWN)
NOTICED_LEASES = 2
"""A cut is noticed within a lease; heartbeats and turns are not continuous."""


class Durable:
    """Nothing leaves a member while the transaction that it speaks of is open: a crash could take that back."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell

    def sent(self, machine: Machine, to: str, message: m.MemberMessage) -> None:
        if machine.store.is_writing:
            self._tell(f"{machine.name} sends {type(message).__name__} to {to} before its transaction is over")

    def replied(self, machine: Machine, request: m.Request, answer: Reply) -> None:
        if machine.store.is_writing:
            self._tell(f"{machine.name} answers a {type(request).__name__} before its transaction is over")


class UnderWay:
    """No other member is shown a change that is still on its way to the backups: a failover could take it back."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._asked: dict[tuple[str, int], Key] = {}
        """(asker, its request's number) -> key."""

    def asks(self, machine: Machine, to: str, message: m.Fetch) -> None:
        self._asked[(machine.name, message.request)] = message.key

    def shows(self, machine: Machine, to: str, message: m.Fetched) -> None:
        if message.delta is None or machine.executor is None:
            return
        key = self._asked.get((to, message.request), b"")
        flight = machine.executor.engine.replication.flights.get(key)
        if flight is None or message.delta.location.primary != machine.name:
            return
        shown = message.delta.context.get(machine.me.incarnation, 0)
        unanswered = {row.number for row in machine.store.outbox.values() if not row.marked}
        if any(number <= shown for number in unanswered.intersection(flight.numbers) - flight.moves):
            self._tell(f"{machine.name} shows {to} a change of {key.hex()[:6]} that nobody has acknowledged yet")

    def seen(self, world: World, key: Key, attributes: Attributes, primary: str) -> None:
        """A worker has shown this, and has waited for what was on its way as its writer does."""
        machine = world.machines[primary]
        entry = machine.store.entries.get(key)
        if machine.executor is None or entry is None or entry.role is not Role.PRIMARY:
            return
        others = (other.store.entries.get(key) for other in world.machines.values())
        if any(other is not None and other.epoch.reign > entry.epoch.reign for other in others):
            return  # it is deposed, and was not asked
        shown = {
            s.number for siblings in attributes.values() for s in siblings if s.incarnation == machine.me.incarnation
        }
        if any(row.number in shown and not row.marked for row in machine.store.outbox.values()):
            self._tell(f"a worker shows a change of {key.hex()[:6]} that nobody has acknowledged to {primary}")


class Refused:
    """``unprotected = "refuse"``: no answer says that a change was made and is not protected, and what it calls not
    written is nowhere."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._not_written: set[bytes] = set()

    def stored(self, machine: Machine, key: Key, before: Entry | None, after: Entry | None) -> None:
        if self._not_written and after is not None and not self._not_written.isdisjoint(after.recent):
            self._tell(f"{machine.name} holds a change of {key.hex()[:6]} that was answered as not written")

    def replied(self, machine: Machine, request: m.Request, answer: Reply) -> None:
        if not isinstance(answer, m.CommitAnswer) or not isinstance(request, m.CommitRequest):
            return
        if not request.unprotected_refused or request.acknowledge is not m.AcknowledgeMode.BACKUP:
            return
        if answer.outcome is Outcome.COMMITTED and not answer.protected:
            self._tell(
                f"{machine.name} answers an unprotected change of {request.key.hex()[:6]}, which was to be refused"
            )
        elif answer.outcome is Outcome.REFUSED and not answer.unsure:
            self._not_written.add(request.commit.id)
            for other in machine.world.machines.values():
                self.stored(other, request.key, None, other.store.entries.get(request.key))


class Smaller:
    """``partition = "refuse"``: who has been cut off from a majority for long enough to know it makes, changes and
    takes over nothing, shows nothing whose backups are out of reach, and calls nothing unknown."""

    def __init__(self, tell: Callable[[str], None], expected: int) -> None:
        self._tell = tell
        self._expected = expected
        self._since_ms: dict[str, int] = {}

    def turned(self, machine: Machine) -> None:
        if self._is_small(machine):
            self._since_ms.setdefault(machine.name, machine.world.now_ms)
        else:
            self._since_ms.pop(machine.name, None)

    def stored(self, machine: Machine, key: Key, before: Entry | None, after: Entry | None) -> None:
        if after is None or after.ended or after.role is not Role.PRIMARY or not self._knows(machine):
            return
        if before is None or (before.role, before.epoch, before.context) != (after.role, after.epoch, after.context):
            self._tell(f"{machine.name} changes {key.hex()[:6]} on the smaller side of a cut: {before} -> {after}")

    def replied(self, machine: Machine, request: m.Request, answer: Reply) -> None:
        if not self._knows(machine):
            return
        name, entry = request.key.hex()[:6], machine.store.entries.get(request.key)
        if isinstance(request, m.CommitRequest) and answer.outcome is Outcome.COMMITTED:
            self._tell(f"{machine.name} answers a change of {name} on the smaller side of a cut")
        elif isinstance(request, m.FetchRequest) and answer.outcome is m.FetchOutcome.HERE:
            if entry is not None and entry.role is Role.PRIMARY and entry.backups and not entry.ended:
                self._tell(f"{machine.name} shows {name} on the smaller side of a cut, without {entry.backups}")
        elif answer.outcome is m.FetchOutcome.UNKNOWN and machine.world.is_held(request.key):
            self._tell(f"{machine.name} does not know {name} on the smaller side of a cut")

    def _knows(self, machine: Machine) -> bool:
        since_ms, world = self._since_ms.get(machine.name), machine.world
        if since_ms is None or not self._is_small(machine):
            return False
        return world.now_ms - since_ms > NOTICED_LEASES * world.settings.lease_ms

    def _is_small(self, machine: Machine) -> bool:
        network, machines = machine.world.network, machine.world.machines
        return 2 * sum(not network.is_cut(machine.name, other) for other in machines) <= self._expected


class Known:
    """Where the cluster is whole nobody calls a session unknown that a machine leads (where nothing may be lost, the
    ledger knows more)."""

    def __init__(self, tell: Callable[[str], None], calm: Calm) -> None:
        self._tell = tell
        self._calm = calm

    def replied(self, machine: Machine, request: m.Request, answer: Reply) -> None:
        if answer.outcome not in UNKNOWN or not self._calm.holds(machine.world.now_ms):
            return
        for other in machine.world.machines.values():
            entry = other.store.entries.get(request.key) if other.is_up else None
            if (
                entry is not None
                and entry.role is Role.PRIMARY
                and not entry.ended
                and not entry.expired(other.now_ms())
            ):
                self._tell(f"{machine.name} calls {request.key.hex()[:6]} unknown, and {other.name} is its primary")
