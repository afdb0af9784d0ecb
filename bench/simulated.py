"""Gives a cluster of any size in this process: the true engine, executor and client, with every message counted.

The network is the simulator's: nothing is lost, and each frame takes a millisecond of a clock that is not ours. So what
is counted is what the protocol sends, exactly, and the same in every run.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from msgspec.structs import replace

from understudy import limits
from understudy.client.conversation import Answer, Ask
from understudy.client.runtime import Client
from understudy.config import load
from understudy.errors import SessionUnavailable
from understudy.model.entry import Entry, Role
from understudy.model.ids import Keys
from understudy.protocol import commands as c
from understudy.protocol import messages as m
from understudy.protocol.placement import RENDEZVOUS, ROUND_ROBIN
from understudy.sim.world import SECRET, Machine, World
from understudy.store import codec, rows
from understudy.transport.memory import MemoryNetwork

LEASE_MS = 250
"""By default."""
READY_MS_MAX = 120_000
ANSWER_MS_MAX = 10_000
STEP_MS = 20
PULSE = (m.Heartbeat, m.HeartbeatAck)
ROUND_ROBIN_NAME, RENDEZVOUS_NAME, DELTA_NAME = "round-robin", "rendezvous", "DeltaManager"
MANAGERS = {
    ROUND_ROBIN_NAME: {"placement": ROUND_ROBIN},
    RENDEZVOUS_NAME: {"placement": RENDEZVOUS},
    DELTA_NAME: {"everywhere": True},
}


class Cost(NamedTuple):
    """What members have sent each other, heartbeats left out: those depend on time alone."""

    messages: float
    sent_bytes: float

    def __sub__(self, other: object) -> Cost:
        assert isinstance(other, Cost)
        return Cost(self.messages - other.messages, self.sent_bytes - other.sent_bytes)


class Simulated:
    """So many members under one manager, ready.

    Args:
        pulse: heartbeats, and all that waits for them, so many times as slow as by default, so that hundreds of
            members, whose heartbeats grow with their number squared, take minutes and not hours. Sessions' messages are
            the same.
    """

    def __init__(self, count: int, manager: str, *, pulse: int = 1) -> None:
        limits.MEMBERS_MAX = max(limits.MEMBERS_MAX, count + 1)  # a mesh ends at 128; we want to see where it leads
        self._lease_ms = LEASE_MS * pulse
        settings = c.Settings(
            "", 0, 0, lease_ms=self._lease_ms, dead_ms=5_000 * pulse, patrol_ms=0,
            **MANAGERS[manager],
        )  # type: ignore[arg-type]  # fmt: skip
        self.manager = manager
        self.network = MemoryNetwork(count, delay_ms=(1, 1), found_ms=(1, 1))
        self.names = tuple(f"m{number:03}" for number in range(count))
        self.world = World(count, self.names, settings, self.network)
        self.kinds: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        for looks in self.world.on_sent.values():
            looks.append(self._sent)
        self._config = load(environ={"UNDERSTUDY_MEMBER": "m000"})
        for name in self.names:
            self.world.machines[name].start()
        self.settle()

    def _sent(self, machine: Machine, to: str, message: m.MemberMessage) -> None:
        kind = type(message).__name__
        self.kinds[kind] += 1
        self.bytes[kind] += len(m.encode(message))

    # --- what it costs ---------------------------------------------------------------------------------------------

    @property
    def cost(self) -> Cost:
        return Cost(*(sum(n for kind, n in counter.items() if kind not in _PULSE) for counter in self._counters))

    @property
    def pulse(self) -> Cost:
        """Of heartbeats alone."""
        return Cost(*(sum(counter[kind] for kind in _PULSE) for counter in self._counters))

    @property
    def _counters(self) -> tuple[Counter[str], Counter[str]]:
        return self.kinds, self.bytes

    def held_bytes(self) -> dict[Role, Counter[str]]:
        """What the stores' rows take for sessions, by role: ``entries`` and ``bytes``."""
        found: dict[Role, Counter[str]] = {role: Counter() for role in Role}
        for machine in self.world.machines.values():
            with machine.store.view() as view:
                state = view.state
                for key, entry in view.entries():
                    assert isinstance(entry, Entry)
                    indexed = codec.index_rows(key, rows(entry, state.copies, state.forget_ms))
                    size = len(key) + len(codec.encode_entry(entry)) + sum(len(row) for _, row in indexed)
                    found[entry.role].update(entries=1, bytes=size)
        return found

    @property
    def primaries(self) -> int:
        """How many there are at members that are on."""
        found = 0
        for machine in self._on:
            with machine.store.view() as view:
                found += view.counts().primary
        return found

    def held_at(self, name: str) -> int:
        """Sessions whose data a member holds."""
        with self.world.machines[name].store.view() as view:
            counts = view.counts()
        return counts.primary + counts.backup

    # --- its members and its time ----------------------------------------------------------------------------------

    def client(self, name: str) -> Client:
        """A worker's client at a member."""
        config = replace(self._config, member=name)
        return Client(config, _Access(self, self.world.machines[name]))

    def run_for(self, ms: int) -> None:
        self.world.run_for(ms)

    def exchange_leases(self) -> None:
        """Let as much time pass as every member needs for a lease from every other: there are three in each lease."""
        self.run_for(self._lease_ms // 2)

    def settle(self) -> int:
        """Let time pass until every member that is on is ready, sees the others, and lacks no copy; gives how much.

        Raises: AssertionError when that does not come about.
        """
        began_ms = self.network.now_ms
        while self._unsettled():
            assert self.network.now_ms < began_ms + READY_MS_MAX, self._unsettled()
            self.run_for(STEP_MS)
        return self.network.now_ms - began_ms

    @property
    def _on(self) -> list[Machine]:
        return [machine for machine in self.world.machines.values() if machine.executor is not None]

    def _unsettled(self) -> str:
        on = self._on
        for machine in on:
            assert machine.executor is not None
            engine = machine.executor.engine
            if not engine.ready:
                return f"{machine.name} is not ready"
            alive = sum(told["standing"] == "alive" for told in engine.describe()["members"])
            if alive != len(on) - 1:
                return f"{machine.name} sees {alive} others"
            with machine.store.view() as view:
                if view.outbox(0, 1) or view.keys_lacking(None, 1):
                    return f"{machine.name} has sessions without their copies"
        return ""


_PULSE = {kind.__name__ for kind in PULSE}


class _Access:
    """What a worker has of its member, with the world's time passing while it waits for an answer."""

    def __init__(self, simulated: Simulated, machine: Machine) -> None:
        self.name = machine.name
        self.keys = Keys.from_secrets([SECRET])
        self.store = machine.store
        self._simulated = simulated
        self._machine = machine

    def lease_until_ms(self, peer: str) -> int:
        return self._machine.lease_until_ms(peer)

    def ask(self, asked: Ask) -> Answer:
        answers: list[Answer] = []
        self._machine.ask(asked.request, answers.append)
        if not asked.waits:
            return None
        until_ms = self._simulated.network.now_ms + ANSWER_MS_MAX
        while not answers and self._simulated.network.now_ms < until_ms:
            self._simulated.run_for(1)
        if not answers or answers[0] is None:
            raise SessionUnavailable("the member's agent gave no answer in time")
        return answers[0]

    async def aask(self, asked: Ask) -> Answer:
        return self.ask(asked)

    def status(self) -> dict[str, Any] | None:
        return None
