"""Does to a cluster what the plan says, one fault after the other, and ends each when its time is over."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from understudy.sim.checkers.ledger import Calm
from understudy.sim.plan import SHARP, Fault, FaultKind
from understudy.sim.world import Machine, World

RECOVERED_MS_MAX = 12_000
"""After a fault has ended, every session has its copies again by then, under the load of all users."""
LOOK_MS = 50
SLOW_MS = (5, 40)


class Weather(NamedTuple):
    """What the network does to frames."""

    loss: float
    repeat: float
    reorder: float
    late: float
    late_ms: int


STORM = Weather(0.03, 0.2, 0.1, 0.01, 10_000)
"""Not so much that members take each other for dead, which is a partition."""
GUSTS = Weather(0.03, 0.3, 0.3, 0.1, 300)
"""Around a fault: many frames are late by about as much as the fault lasts, and hardly any is later than that."""
GUSTS_BEFORE_MS, GUSTS_AFTER_MS = 60, 300
FLAP_MS = (40, 600)
SHARP_MS = 200
"""How long a fault waits for a change to be on its way."""
DRAINED_MS_MAX = 40_000
TAKEN_OVER_MS = 5_000
"""Longer than it takes to notice a loss and to sweep after it."""
TWICE_MS = 600
F = FaultKind


class Faults:
    """The plan's faults."""

    def __init__(
        self,
        world: World,
        faults: tuple[Fault, ...],
        calm: Calm,
        unrecovered: Callable[[], Iterable[str]],
        leaderless: Callable[[], Iterable[bytes]],
        tell: Callable[[str], None],
    ) -> None:
        self._world = world
        self._faults = faults
        self._calm = calm
        self._unrecovered = unrecovered
        self._leaderless = leaderless
        self._tell = tell
        self._next = 0
        self._active = 0
        self._ended_ms = 0
        network = world.network
        self._fair = Weather(network.loss, network.repeat, network.reorder, network.late, network.late_ms)
        self._storms = 0
        self.done = not faults

    def begin(self) -> None:
        if self._faults:
            self._plan_next()

    def end_all(self) -> None:
        """Repair everything, and make the network a good one."""
        network = self._world.network
        network.loss = network.repeat = network.reorder = network.late = 0.0
        network.heal_all()
        for machine in self._world.machines.values():
            machine.resume()
            machine.turn_ms = 0
            machine.start()

    # --- one after the other -------------------------------------------------------------------------------

    def _plan_next(self) -> None:
        fault = self._faults[self._next]
        self._next += 1
        self._world.later(fault.after_ms, lambda: self._begin(fault))

    def _begin(self, fault: Fault) -> None:
        if not fault.in_storm:
            self._do(fault)
            return
        self._note_begun()
        self._blow(GUSTS)
        self._world.later(GUSTS_BEFORE_MS, lambda: self._do(fault))

    def _do(self, fault: Fault, patience_ms: int = SHARP_MS) -> None:
        """Strike; where a machine is hit, in the middle of its work if it has any within a while."""
        if (fault.kind in SHARP or fault.at_copies) and patience_ms and not self._is_at_work(fault):
            self._world.later(1, lambda: self._do(fault, patience_ms - 1))
            return
        if not fault.in_storm:
            self._note_begun()
        storm = ", in a storm" if fault.in_storm else ""
        self._world.note(f"FAULT {fault.kind} {' '.join(fault.members)} for {fault.lasts_ms} ms{storm}")
        _DO[fault.kind](self, fault)
        if self._next < len(self._faults) and self._faults[self._next].together:
            self._plan_next()

    def _note_begun(self) -> None:
        self._active += 1
        self._calm.fault()

    def _is_at_work(self, fault: Fault) -> bool:
        """A change is on its way from there, or to there; of all machines, from any."""
        machines = self._world.machines
        if fault.kind is F.POWER:
            return any(_changes(machine) for machine in machines.values())
        struck = machines[fault.members[0]]
        if struck.executor is None:
            return True
        if not fault.at_copies:
            return _changes(struck)
        return any(_awaits(machine, struck.name) for machine in machines.values())

    def _over(self, fault: Fault) -> None:
        if fault.in_storm:
            self._world.later(GUSTS_AFTER_MS, lambda: self._ended(fault))
        else:
            self._ended(fault)

    def _ended(self, fault: Fault) -> None:
        """A fault has ended: wait for the cluster to recover, if the next one wants that."""
        if fault.in_storm:
            self._abate()
        self._world.note(f"FAULT {fault.kind} {' '.join(fault.members)} is over")
        self._active -= 1
        self._ended_ms = self._world.now_ms
        if not self._active:
            self._await_recovery()

    def _await_recovery(self) -> None:
        world = self._world
        left = next(iter(self._unrecovered()), "")
        if self._active:
            return
        if left and world.now_ms - self._ended_ms < RECOVERED_MS_MAX:
            world.later(LOOK_MS, self._await_recovery)
            return
        if left:
            self._tell(f"at {world.now_ms} ms, not recovered {RECOVERED_MS_MAX} ms after the fault: {left}")
        world.note("recovered")
        self._calm.recovered(world.now_ms)
        if self._next < len(self._faults):
            self._plan_next()
        else:
            self.done = True

    def _later(self, fault: Fault, end: Callable[[], None]) -> None:
        def over() -> None:
            end()
            self._over(fault)

        self._world.later(fault.lasts_ms, over)

    def _machine(self, fault: Fault) -> Machine:
        return self._world.machines[fault.members[0]]

    # --- each kind -----------------------------------------------------------------------------------------

    def _crash(self, fault: Fault) -> None:
        machine = self._machine(fault)
        machine.crash(with_store=fault.kind is not F.CRASH_EMPTY)
        if self._active == 1 and fault.lasts_ms >= TAKEN_OVER_MS:
            ended_ms = self._ended_ms
            self._world.later(fault.lasts_ms - TWICE_MS, lambda: self._look_for_primaries(fault, machine, ended_ms))
        self._later(fault, machine.start)

    def _look_for_primaries(self, fault: Fault, machine: Machine, ended_ms: int) -> None:
        """Who is gone for so long has been replaced, also where no request asked for that; unless there was another
        fault meanwhile: whoever was restarted waits for those whom it has never met. Looked at twice, because a
        session that is handed over has no primary while the word of that is under way."""
        first = set(self._leaderless())

        def again() -> None:
            alone = self._active == 1 and machine.executor is None and self._ended_ms == ended_ms
            for key in sorted(first.intersection(self._leaderless())) if alone else ():
                self._tell(f"at {self._world.now_ms} ms, {key.hex()[:6]} has no primary, long after {fault.kind}")

        self._world.later(TWICE_MS // 2, again)

    def _agent(self, fault: Fault) -> None:
        machine = self._machine(fault)
        machine.kill_agent()
        # Its workers start another one, if the machine has not gone down meanwhile.
        self._later(fault, lambda: machine.start() if machine.is_on else None)

    def _workers(self, fault: Fault) -> None:
        self._machine(fault).kill_workers()
        self._over(fault)

    def _pause(self, fault: Fault) -> None:
        machine = self._machine(fault)
        if machine.executor is None:
            return self._over(fault)
        machine.pause()
        self._later(fault, machine.resume)

    def _slow(self, fault: Fault) -> None:
        machine = self._machine(fault)
        machine.turn_ms = self._world.random.randint(*SLOW_MS)

        def quick() -> None:
            machine.turn_ms = 0

        self._later(fault, quick)

    def _full(self, fault: Fault) -> None:
        store = self._machine(fault).store
        store.bytes_max = max(1, store.bytes_used)

        def room() -> None:
            store.bytes_max = self._world.store_bytes_max

        self._later(fault, room)

    def _restart(self, fault: Fault) -> None:
        self._drain(self._machine(fault), fault.lasts_ms, lambda: self._over(fault))

    def _roll(self, fault: Fault) -> None:
        machines = list(self._world.machines.values())

        def go_on() -> None:
            """The next one, as soon as the last is ready and everything has its copies."""
            if next(iter(self._unrecovered()), "") and machines:
                self._world.later(LOOK_MS, go_on)
            elif machines:
                self._drain(machines.pop(0), fault.lasts_ms, go_on)
            else:
                self._over(fault)

        go_on()

    def _drain(self, machine: Machine, off_ms: int, then: Callable[[], None]) -> None:
        world = self._world
        until_ms = world.now_ms + DRAINED_MS_MAX

        def look() -> None:
            executor = machine.executor
            if executor is not None and not executor.engine.drained and world.now_ms < until_ms:
                world.later(LOOK_MS, look)
                return
            machine.stop()
            world.later(off_ms, start)

        def start() -> None:
            machine.start()
            then()

        if machine.executor is None:
            then()
        else:
            machine.drain()
            look()

    def _power(self, fault: Fault) -> None:
        machines = list(self._world.machines.values())
        for machine in machines:
            machine.crash()

        def start() -> None:
            for machine in machines:
                machine.start()

        self._later(fault, start)

    def _join(self, fault: Fault) -> None:
        name = fault.members[0]
        if name not in self._world.machines:
            self._world.add(name).start()
        self._over(fault)

    def _cut(self, fault: Fault) -> None:
        a, b = fault.members
        if fault.kind is F.CUT:
            self._world.network.cut(a, b)
        else:
            self._world.network.cut_one_way(a, b)
        self._later(fault, lambda: self._world.network.heal(a, b))

    def _flap(self, fault: Fault) -> None:
        a, b = fault.members
        network, until_ms = self._world.network, self._world.now_ms + fault.lasts_ms

        def turn(is_cut: bool) -> None:
            if is_cut:
                network.heal(a, b)
            else:
                network.cut(a, b)
            if self._world.now_ms < until_ms:
                self._world.later(self._world.random.randint(*FLAP_MS), lambda: turn(not is_cut))
            else:
                network.heal(a, b)
                self._over(fault)

        turn(False)

    def _partition(self, fault: Fault) -> None:
        pairs = [(a, b) for a in fault.members for b in self._world.machines if b not in fault.members]
        for a, b in pairs:
            self._world.network.cut(a, b)

        def heal() -> None:
            for a, b in pairs:
                self._world.network.heal(a, b)

        self._later(fault, heal)

    def _storm(self, fault: Fault) -> None:
        self._blow(STORM)
        self._later(fault, self._abate)

    def _blow(self, weather: Weather) -> None:
        self._storms += 1
        self._be(weather)

    def _abate(self) -> None:
        self._storms -= 1
        if not self._storms:
            self._be(self._fair)

    def _be(self, weather: Weather) -> None:
        for name, value in weather._asdict().items():
            setattr(self._world.network, name, value)


def _changes(machine: Machine) -> bool:
    """It has changes under way, or copies."""
    if machine.executor is None:
        return False
    engine = machine.executor.engine
    return bool(engine.replication.flights or engine.entrustments.open)


def _awaits(machine: Machine, backup: str) -> bool:
    """It has sent a backup something that is not acknowledged yet."""
    if machine.executor is None:
        return False
    engine = machine.executor.engine
    return any(
        backup in flight.holders(machine.name) and flight.acked.get(backup, 0) < flight.number
        for flight in engine.replication.flights.values()
    ) or any(backup in entrustment.waiting for entrustment in engine.entrustments.open.values())


_DO: dict[FaultKind, Callable[[Faults, Fault], None]] = {
    F.CRASH: Faults._crash,
    F.CRASH_EMPTY: Faults._crash,
    F.AGENT: Faults._agent,
    F.WORKERS: Faults._workers,
    F.PAUSE: Faults._pause,
    F.SLOW: Faults._slow,
    F.FULL: Faults._full,
    F.RESTART: Faults._restart,
    F.ROLL: Faults._roll,
    F.POWER: Faults._power,
    F.JOIN: Faults._join,
    F.CUT: Faults._cut,
    F.CUT_ONE_WAY: Faults._cut,
    F.FLAP: Faults._flap,
    F.PARTITION: Faults._partition,
    F.BLINK: Faults._partition,
    F.STORM: Faults._storm,
}
