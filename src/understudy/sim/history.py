"""One history: a plan is carried out, its checkers look on, and at the end the cluster has to recover.

``run(plan)`` gives what was found wrong (nothing, if all held) and what happened how often. The same plan is the same
history, event by event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import NamedTuple

from understudy.model.entry import Entry, Role
from understudy.protocol import commands as c
from understudy.protocol import messages as m
from understudy.sim.checkers import quiet
from understudy.sim.checkers.answers import Durable, Known, Refused, Smaller, UnderWay
from understudy.sim.checkers.commits import Once
from understudy.sim.checkers.copies import Copies, Current
from understudy.sim.checkers.entries import Apart, Bounds, Dots, Drained, Gone, OnePrimary
from understudy.sim.checkers.ledger import Calm, Ledger
from understudy.sim.checkers.outboxes import Remembered, TakenBack, Told
from understudy.sim.checkers.reigns import Asked, Covered, Granted, Promised, Rising
from understudy.sim.checkers.uses import Uses
from understudy.sim.faults import Faults
from understudy.sim.plan import Plan
from understudy.sim.users import User
from understudy.sim.world import World
from understudy.transport.memory import MemoryNetwork

START_MS_MAX = 8_000
"""A cluster is ready by then."""
RECOVERED_MS_MAX = 12_000
"""After the last fault has ended, everything has its copies by then, and nothing is under way any more."""
LASTS_MS_MAX = 120_000
"""Longer than the longest plan: a history that is not over by then is stuck."""
LOOK_MS = 100
PROBLEMS_MAX = 50


class Report(NamedTuple):
    """What one history gave."""

    seed: int
    profile: str
    problems: list[str]
    operations: int
    protected_writes: int
    unavailable: int
    facts: dict[str, int]
    trace: list[str]
    lasted_ms: int


class _Enough(Exception):
    """So much is wrong that the rest would only repeat it."""


class _Problems(list[str]):
    """Ends the history when there are too many."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def append(self, text: str) -> None:
        super().append(text)
        if len(self) >= self._most:
            raise _Enough


class History:
    """One plan, carried out."""

    def __init__(self, plan: Plan, *, trace: bool = False, problems_max: int = PROBLEMS_MAX) -> None:
        self.plan = plan
        settings = c.Settings("", 0, 0, **plan.settings)  # type: ignore[arg-type]
        network = MemoryNetwork(plan.seed, found_ms=(1, 40))
        for name in plan.network.__struct_fields__:
            setattr(network, name, getattr(plan.network, name))
        self.world = World(
            plan.seed, plan.members, settings, network, clocks=plan.clocks, store_bytes_max=plan.store_bytes_max
        )
        self.world.zones = dict(plan.zones)
        self.world.agreed = {name: (("told", "otherwise"),) for name in plan.differs}
        self.world.trace = [] if trace else None
        self.problems = _Problems(problems_max)
        self.calm = Calm(plan.promises)
        self.users = [User(self.world, n, user, plan, self.calm, self.problems) for n, user in enumerate(plan.users)]
        self.faults = Faults(
            self.world, plan.faults, self.calm, self.unrecovered, self.leaderless, self.problems.append
        )
        self._look_on()

    def _look_on(self) -> None:
        world, tell = self.world, self._tell
        one, apart, dots, rising, promised = OnePrimary(tell), Apart(tell), Dots(tell), Rising(tell), Promised(tell)
        self.gone = gone = Gone(tell, once=not self.plan.cuts)
        bounds = Bounds(tell, 4 * sum(len(user.tabs) for user in self.plan.users) + 8)
        world.on_stored += [one.stored, apart.stored, dots.stored, gone.stored, bounds.stored]
        world.on_stored += [rising.stored, promised.stored]
        durable, refused = Durable(tell), Refused(tell)
        world.on_sent[m.Ask].append(promised.asks)
        world.on_sent[m.Answers].append(promised.answers)
        world.on_sent[m.Acknowledge].append(promised.acknowledges)
        world.on_sent[m.Entrust].append(promised.entrusts)
        world.on_sent[m.Entrusted].append(promised.took)
        asked = Asked(tell)
        world.on_sent[m.Ask].append(asked.asks)
        world.on_sent[m.Answers].append(asked.answers)
        world.on_stored.append(asked.stored)
        world.on_turned.append(asked.turned)
        for looks in world.on_sent.values():
            looks.append(durable.sent)
        under_way = UnderWay(tell)
        world.on_sent[m.Fetch].append(under_way.asks)
        world.on_sent[m.Fetched].append(under_way.shows)
        world.on_replied += [durable.replied, refused.replied]
        world.on_stored.append(refused.stored)
        world.on_turned += [bounds.turned, gone.turned]
        drained = Drained(tell)
        world.on_stored.append(drained.stored)
        world.on_told += [gone.told, drained.told]
        if world.settings.members_expected:
            smaller = Smaller(tell, world.settings.members_expected)
            world.on_stored.append(smaller.stored)
            world.on_turned.append(smaller.turned)
            world.on_replied.append(smaller.replied)
        if self.plan.promises.nothing_lost:
            # (Where several are cut off at once, dead holders are given up for whoever seems to be left.)
            world.on_stored.append(Covered(tell, world.settings.copies).stored)
        else:
            world.on_replied.append(Known(tell, self.calm).replied)
        remembered = Remembered(tell, world.settings.copies)
        world.on_stored.append(remembered.stored)
        world.on_told.append(remembered.told)
        world.on_turned.append(remembered.turned)
        world.on_replied.append(Told(tell).replied)
        taken_back, once, uses = TakenBack(tell), Once(tell), Uses(tell)
        world.on_replied.append(taken_back.replied)
        world.on_stored += [taken_back.stored, once.stored, uses.stored]
        world.on_asked += [once.asked, uses.asked]
        world.on_sent[m.Acknowledge] += [once.acknowledges, uses.acknowledges]
        world.on_published.append(Granted(tell).published)
        copies, current = Copies(tell, self.calm, world.settings.copies), Current(tell, self.calm)
        world.on_stored.append(copies.stored)
        world.on_told.append(copies.told)
        world.on_sent[m.Replicate].append(copies.sends)
        world.on_sent[m.Fetch].append(copies.asks)
        world.on_sent[m.Fetched].append(copies.shows)
        world.on_seen.append(partial(under_way.seen, world))
        world.on_replied += [copies.replied, current.replied]
        world.on_shown += [partial(copies.shown, world), partial(current.shown, world)]

    def _tell(self, text: str) -> None:
        self.problems.append(f"at {self.world.now_ms} ms, {text}")

    # --- the run -------------------------------------------------------------------------------------------

    def run(self) -> Report:
        try:
            self._run()
        except _Enough:
            pass
        except AssertionError as error:
            super(_Problems, self.problems).append(f"at {self.world.now_ms} ms, an invariant was broken: {error!r}")
        ledgers = self._ledgers()
        return Report(
            self.plan.seed,
            self.plan.profile,
            list(self.problems),
            sum(user.operations for user in self.users),
            sum(ledger.protected_writes for ledger in ledgers),
            sum(user.unavailable for user in self.users),
            self.world.facts,
            self.world.trace or [],
            self.world.now_ms,
        )

    def _run(self) -> None:
        for name in self.plan.members:
            self.world.machines[name].start()
        if not self._until(lambda: not any(quiet.unready(self.world)), START_MS_MAX):
            self._tell(f"the cluster did not start: {list(quiet.unready(self.world))}")
            return
        for user in self.users:
            user.begin()
        self.faults.begin()
        if not self._until(self._is_done, LASTS_MS_MAX):
            self._tell("the history is stuck")
        self.faults.end_all()
        if not self._until(lambda: not any(self._unsettled()), RECOVERED_MS_MAX):
            for text in islice(self._unsettled(), 5):
                self._tell(f"not recovered: {text}")
        self._read_everything()

    def _until(self, holds: Callable[[], bool], within_ms: int) -> bool:
        until_ms = self.world.now_ms + within_ms
        while not holds():
            if self.world.now_ms >= until_ms:
                return False
            self.world.run_for(LOOK_MS)
        return True

    def _is_done(self) -> bool:
        return self.faults.done and not any(user.tabs_left for user in self.users)

    # --- recovering ----------------------------------------------------------------------------------------

    def keys(self) -> list[bytes]:
        """Every session that any store knows: also those of browsers that never got their cookie."""
        found: dict[bytes, None] = {}
        for machine in self.world.machines.values():
            with machine.store.view() as transaction:
                found.update(dict.fromkeys(transaction.keys(None, 1_000)))
        return list(found)

    def unrecovered(self) -> Iterator[str]:
        """What is not as it should be after a fault, whatever users do meanwhile."""
        yield from quiet.unready(self.world)
        yield from quiet.unprotected(self.world, self.keys())

    def leaderless(self) -> Iterator[bytes]:
        """Sessions that nobody leads at this moment."""
        return quiet.leaderless(self.world, self.keys())

    def _unsettled(self) -> Iterator[str]:
        """The same, when nobody does anything any more."""
        yield from self.unrecovered()
        keys = self.keys()
        for wrong in (quiet.unequal, quiet.misplaced, quiet.uneven, quiet.lost_sight):
            yield from wrong(self.world, keys)
        yield from self.gone.alive(self.world)

    def _read_everything(self) -> None:
        """At the end every member shows every session, with everything that was promised."""
        for user in self.users:
            if user.ledger is not None:
                for machine in self.world.machines.values():
                    user.look(machine)
        self._until(lambda: not any(self._unlooked()), RECOVERED_MS_MAX)
        for text in islice(self._unlooked(), 3):
            self._tell(f"after the last looks: {text}")
        for ledger in self._ledgers():
            for text in ledger.lost(self._primary_of(ledger.key)):
                self._tell(f"after the heal, {text}")

    def _ledgers(self) -> list[Ledger]:
        return [ledger for user in self.users for ledger in user.ledgers]

    def _primary_of(self, key: bytes) -> Entry | None:
        entries = (machine.store.entries.get(key) for machine in self.world.machines.values())
        return next((entry for entry in entries if entry is not None and entry.role is Role.PRIMARY), None)

    def _unlooked(self) -> Iterator[str]:
        yield from (f"{user.looks} looks of {user.name} were not answered" for user in self.users if user.looks)
        yield from quiet.unequal(self.world, self.keys())


def run(plan: Plan, *, trace: bool = False, problems_max: int = PROBLEMS_MAX) -> Report:
    """One history, up to its end or its last problem. The same plan gives the same history.

    Cost: about a thousand operations, well below a second of one core.
    """
    return History(plan, trace=trace, problems_max=problems_max).run()
