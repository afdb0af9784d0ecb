"""One random history of a small cluster: users at work, one fault at a time, then quiet; and what must hold.

``run(seed)`` returns what was found wrong (nothing, if all held) and what happened how often.
"""

from __future__ import annotations

from typing import NamedTuple

from understudy.model.entry import Entry, Role
from understudy.protocol import commands as c
from understudy.sim.users import User
from understudy.sim.world import Machine, World
from understudy.transport.memory import MemoryNetwork

QUIET_MS = 9_000
"""After a fault, until the next: enough for the sweep and for new backups."""
BETWEEN_OPERATIONS_MS = (5, 120)


class Report(NamedTuple):
    """What one history gave."""

    seed: int
    problems: list[str]
    operations: int
    protected_writes: int
    unavailable: int
    facts: dict[str, int]
    trace: list[str]


class History:
    """Runs users and faults over a world, and looks at it after every turn."""

    def __init__(
        self, seed: int, *, members: int = 3, users: int = 4, faults: int = 3, trace: bool = False, copies: int = 1
    ) -> None:
        names = tuple("abcdefgh"[:members])
        network = MemoryNetwork(seed, detect_ms=30, found_ms=(1, 40))
        self.world = World(seed, names, c.Settings("", 0, 0, copies=copies), network)
        self.random = self.world.random
        network.loss = self.random.choice((0.0, 0.0, 0.01, 0.05))
        network.repeat = self.random.choice((0.0, 0.02, 0.1))
        network.reorder = self.random.choice((0.0, 0.05, 0.2))
        self.problems: list[str] = []
        self.world.trace = [] if trace else None
        self.users = [User(self.world, n, self.problems) for n in range(users)]
        self.faults = faults
        self.running = True
        self._committers: dict[tuple[bytes, tuple[int, int]], str] = {}
        self.world.after_turn.append(self._observe)

    # --- the run -------------------------------------------------------------------------------------------

    def run(self) -> Report:
        world = self.world
        for machine in world.machines.values():
            machine.start()
        world.run_until(4_000)
        for user in self.users:
            for tab in range(2):
                world.later(self.random.randrange(100), lambda user=user, tab=tab: self._next(user, tab))  # type: ignore[misc]
        self._in(1_500)
        for _ in range(self.faults):
            self._fault()
            self._in(QUIET_MS)
        self.running = False
        world.network.loss = world.network.repeat = world.network.reorder = 0.0
        self._in(10_000)
        self._settle()
        return Report(
            0,
            self.problems,
            sum(u.operations for u in self.users),
            sum(u.protected_writes for u in self.users),
            sum(u.unavailable for u in self.users),
            world.facts,
            world.trace or [],
        )

    def _in(self, ms: int) -> None:
        self.world.run_until(self.world.network.now_ms + ms)

    def _next(self, user: User, tab: int) -> None:
        """The next operation of one tab, at a random machine that is up."""
        if not self.running:
            return
        up = [m for m in self.world.machines.values() if m.is_up]

        def done() -> None:
            self.world.later(self.random.randint(*BETWEEN_OPERATIONS_MS), lambda: self._next(user, tab))

        if not up or not user.alive:
            if up and tab == 0 and not user.may_be_ended:
                user.operations += 1
                user.create(self.random.choice(up), done)
            else:
                done()
            return
        user.operations += 1
        machine = self.random.choice(up)
        draw = self.random.random()
        if draw < 0.45:
            user.read(machine, done)
        elif draw < 0.8:
            user.write(machine, f"a{tab}", done)
        elif draw < 0.998 or tab:
            user.increment(machine, done)
        else:
            user.end(machine, done)

    # --- faults --------------------------------------------------------------------------------------------

    def _fault(self) -> None:
        """One failure: a machine, an agent, a pause, or a clean restart."""
        machine = self.random.choice(list(self.world.machines.values()))
        kind = self.random.choice(("crash", "crash empty", "agent", "pause", "drain", "restart"))
        self.world.note(f"FAULT {kind} {machine.name}")
        if kind in ("crash", "crash empty"):
            machine.crash(with_store=kind == "crash")
            self.world.later(self.random.choice((200, 800, 6_000)), machine.start)
        elif kind in ("agent", "restart"):
            machine.crash()
            self.world.later(self.random.randint(20, 900), machine.start)
        elif kind == "pause":
            machine.pause()
            self.world.later(self.random.choice((300, 2_000, 7_000)), machine.resume)
        else:
            machine.drain()
            self._await_drain(machine)

    def _await_drain(self, machine: Machine) -> None:
        executor = machine.executor
        if executor is not None and not executor.engine.drained:
            self.world.later(50, lambda: self._await_drain(machine))
            return
        machine.stop()
        self.world.later(self.random.choice((100, 3_000)), machine.start)

    # --- what must hold ------------------------------------------------------------------------------------

    def _observe(self, machine: Machine) -> None:
        """After each turn: primary and backups differ, and one epoch has one primary."""
        for user in self.users:
            if not user.key:
                continue
            entry = machine.store.read(user.key).entry
            if entry is None or entry.ended or entry.role is not Role.PRIMARY:
                continue
            if machine.name in entry.backups:
                self.problems.append(user.describe(f"{machine.name} is its own backup"))
            slot = (user.key, entry.epoch[:2])
            other = self._committers.setdefault(slot, machine.name)
            if other != machine.name:
                self.problems.append(user.describe(f"{other} and {machine.name} are primary in one reign {slot[1]}"))

    def _settle(self) -> None:
        """After the faults: one primary, agreeing backups, empty outboxes, and everybody sees everything."""
        for user in self.users:
            if not user.key:
                continue
            entries = {n: m.store.read(user.key).entry for n, m in self.world.machines.items()}
            self._check_roles(user, entries)
            for machine in self.world.machines.values():
                if user.alive and not user.may_be_ended:
                    user.read(machine, lambda: None)
        self._in(8_000)
        for name, machine in self.world.machines.items():
            with machine.store.write() as transaction:
                rows = transaction.outbox(0, 10)
            if rows:
                self.problems.append(f"the outbox of {name} still holds {rows[0]} at the end")
            executor = machine.executor
            if executor is None or not executor.engine.ready:
                self.problems.append(f"{name} is not ready at the end")
            elif executor.engine.replication.flights or executor.engine.service.jobs:
                self.problems.append(f"{name} still has work in flight at the end: {executor.engine.describe()}")

    def _check_roles(self, user: User, entries: dict[str, Entry | None]) -> None:
        live = {n: e for n, e in entries.items() if e is not None and not e.ended}
        primaries = {n: e for n, e in live.items() if e.role is Role.PRIMARY}
        if not user.alive or user.may_be_ended or user.ever_unprotected:
            return
        if len(primaries) != 1:
            self.problems.append(user.describe(f"has the primaries {sorted(primaries)} at the end"))
            return
        name, primary = next(iter(primaries.items()))
        wanted = min(self.world.settings.copies, len(self.world.machines) - 1)
        if len(primary.backups) != wanted:
            self.problems.append(user.describe(f"has the backups {primary.backups} at the end"))
        for backup in primary.backups:
            copy = live.get(backup)
            if copy is None or copy.role is not Role.BACKUP:
                self.problems.append(user.describe(f"{backup} holds no copy for {name} at the end"))
            elif (copy.attributes, copy.context, copy.epoch) != (primary.attributes, primary.context, primary.epoch):
                self.problems.append(user.describe(f"{backup} differs from its primary {name} at the end"))
        for other, entry in live.items():
            if entry.role is Role.BACKUP and other not in primary.backups:
                self.problems.append(user.describe(f"{other} keeps a copy that nobody lists"))


def run(seed: int, *, trace: bool = False, members: int = 3, copies: int = 1, faults: int = 3) -> Report:
    """One history. The same seed gives the same history.

    Cost: about 40 simulated seconds of a few hundred operations, a second or two of one core.
    """
    return History(seed, trace=trace, members=members, copies=copies, faults=faults).run()._replace(seed=seed)
