"""The simulated cluster: machines with a store and an agent each, on one virtual clock.

Nothing here decides anything that production code decides: a machine is an ``Executor`` over a ``MemoryStore`` on a
``MemoryNetwork``. A request of a worker is a callback that is called when its agent answers.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from random import Random

from understudy.agent.executor import Executor
from understudy.errors import FrameError
from understudy.protocol import commands as c
from understudy.protocol import messages as m
from understudy.store.memory import MemoryStore
from understudy.transport import Peer
from understudy.transport.memory import MemoryNetwork, MemoryTransport

Answered = Callable[[m.FetchAnswer | m.CommitAnswer | None], None]
"""Called with the answer, or None if the agent died before it gave one."""


class Machine:
    """One machine: its store outlives its agent; its agent's life is an incarnation."""

    def __init__(self, world: World, name: str, clock_offset_ms: int) -> None:
        self.world = world
        self.name = name
        self.offset_ms = clock_offset_ms
        self.leases: dict[str, int] = {}
        self.executor: Executor | None = None
        self.transport: MemoryTransport | None = None
        self.me = Peer(name, 0)
        self.paused = False
        self.lives: list[int] = []
        self.store = self._empty_store()
        self._peers: dict[str, Peer] = {}
        self._asked: dict[int, Answered] = {}
        self._turn_due = False
        self._tick_due_ms = -1

    def _empty_store(self) -> MemoryStore:
        settings = self.world.settings
        return MemoryStore(copies=settings.copies, forget_ms=settings.forget_ms, clock=self.now_ms)

    def now_ms(self) -> int:
        """The store clock of this machine: it has nothing to do with anybody else's."""
        return self.world.network.now_ms + self.offset_ms

    @property
    def is_up(self) -> bool:
        return self.executor is not None and not self.paused

    # --- life ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start an agent over whatever the store holds."""
        assert self.executor is None
        incarnation = self.world.random.getrandbits(62) + 1
        self.me = Peer(self.name, incarnation)
        settings = c.Settings(
            **{
                **{f: getattr(self.world.settings, f) for f in self.world.settings.__struct_fields__},
                "member": self.name,
                "incarnation": incarnation,
                "chooser": self.world.random.getrandbits(62),
                "lives": frozenset(self.lives),
            }
        )
        self.lives.append(incarnation)
        self.leases.clear()
        self._peers.clear()
        self.executor = Executor(
            self.store, settings, send=self._send, reply=self._reply, publish=self._publish, tell=self._tell
        )
        self.transport = self.world.network.transport(self.me)
        with self.store.write() as transaction:
            view = (transaction.note("view") or b"").decode().split()
            has_entries = bool(transaction.keys(None, 1))
        self.transport.start(self)
        self._submit(c.Started(tuple(view), has_entries, len(self.world.machines) > 1))

    def crash(self, with_store: bool = True) -> None:
        """End the agent without a word; ``with_store=False`` loses what the machine held, too."""
        self.world.network.crash(self.name)
        self.executor = None
        self.transport = None
        asked, self._asked = self._asked, {}
        for answered in asked.values():
            answered(None)
        if not with_store:
            self.store = self._empty_store()
            self.leases.clear()

    def drain(self) -> None:
        """Begin to leave."""
        self._submit(c.DrainAsked())

    def stop(self) -> None:
        """End cleanly, after a drain."""
        if self.transport is not None:
            self.transport.leave()
            self.transport.close()
        self.executor = None
        self.transport = None
        asked, self._asked = self._asked, {}
        for answered in asked.values():
            answered(None)

    def pause(self) -> None:
        """Stop the whole machine, workers too."""
        self.paused = True
        self.world.network.pause(self.name)

    def resume(self) -> None:
        self.paused = False
        self.world.network.resume(self.name)
        self._schedule_turn()

    # --- requests ------------------------------------------------------------------------------------------

    def ask(self, request: m.Request, answered: Answered) -> None:
        """What a worker of this machine does over the Unix socket."""
        ticket = self.world.next_ticket()
        self._asked[ticket] = answered
        if self.executor is None:
            self.world.later(1, lambda: self._asked.pop(ticket, _ignore)(None))
            return
        self._submit(c.Requested(ticket, request))

    # --- the listener and the executor's outlets -----------------------------------------------------------

    def peer_found(self, peer: Peer) -> None:
        if peer.name != self.name:
            self._peers[peer.name] = peer
            self._submit(c.PeerFound(peer.name, peer.incarnation))

    def peer_lost(self, peer: Peer) -> None:
        self._submit(c.PeerLost(peer.name, peer.incarnation))

    def received(self, sender: Peer, frame: bytes) -> None:
        if self._peers.get(sender.name, sender).incarnation != sender.incarnation:
            self._peers.setdefault(sender.name, sender)
        else:
            self._peers[sender.name] = sender
        self._submit(c.Received(sender.name, sender.incarnation, m.decode_member_message(frame)))

    def refused(self, reason: str) -> None:
        raise FrameError(reason)

    def _send(self, to: str, message: m.MemberMessage) -> None:
        peer = self._peers.get(to)
        if peer is not None and self.transport is not None:
            self.world.messages += 1
            self.transport.send(peer, m.encode(message))

    def _reply(self, ticket: c.Ticket, answer: m.FetchAnswer | m.CommitAnswer) -> None:
        self._asked.pop(ticket, _ignore)(answer)

    def _publish(self, peer: str, until_ms: int) -> None:
        self.leases[peer] = until_ms

    def _tell(self, fact: c.Fact) -> None:
        self.world.tell(self, fact)

    # --- turns ---------------------------------------------------------------------------------------------

    def _submit(self, event: c.Event) -> None:
        if self.executor is not None:
            self.executor.submit(event)
            self._schedule_turn()

    def _schedule_turn(self) -> None:
        if not self._turn_due:
            self._turn_due = True
            self.world.later(0, self._turn)

    def _turn(self) -> None:
        self._turn_due = False
        executor = self.executor
        if executor is None or self.paused:
            return
        more = executor.turn()
        if self.executor is not executor:
            return
        self.world.turned(self)
        if more:
            self._turn_due = True
            self.world.later(1, self._turn)
        self._schedule_tick(executor)

    def _schedule_tick(self, executor: Executor) -> None:
        due_ms = max(executor.deadline_ms() - self.offset_ms, self.world.network.now_ms + 1)
        if self._tick_due_ms <= self.world.network.now_ms or due_ms < self._tick_due_ms:
            self._tick_due_ms = due_ms
            self.world.at(due_ms, lambda: self._tick(executor))

    def _tick(self, executor: Executor) -> None:
        if self.executor is executor and not self.paused:
            executor.submit(c.Ticked())
            self._schedule_turn()


class World:
    """All machines, the network, and the queue of what happens when."""

    def __init__(self, seed: int, names: tuple[str, ...], settings: c.Settings, network: MemoryNetwork) -> None:
        self.random = Random(seed ^ 0x5EED)
        self.settings = settings
        self.network = network
        self.facts: dict[str, int] = {}
        self.trace: list[str] | None = None
        self.messages = 0
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._order = count()
        self._tickets = count(1)
        self.machines: dict[str, Machine] = {}
        self.after_turn: list[Callable[[Machine], None]] = []
        for name in names:
            self.machines[name] = Machine(self, name, self.random.randrange(10**6, 10**9))

    def next_ticket(self) -> int:
        return next(self._tickets)

    def tell(self, machine: Machine, fact: c.Fact) -> None:
        self.facts[fact.kind] = self.facts.get(fact.kind, 0) + 1
        self.note(f"{machine.name}: {fact.kind} {fact.key.hex()[:6]} {fact.member} {fact.detail}")

    def note(self, line: str) -> None:
        """A line of the readable transcript, if one is wanted."""
        if self.trace is not None:
            self.trace.append(f"{self.network.now_ms:7d}  {line.rstrip()}")

    def turned(self, machine: Machine) -> None:
        for observer in self.after_turn:
            observer(machine)

    def at(self, due_ms: int, action: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (due_ms, next(self._order), action))

    def later(self, after_ms: int, action: Callable[[], None]) -> None:
        self.at(self.network.now_ms + after_ms, action)

    def run_until(self, until_ms: int) -> None:
        """Let everything happen up to an instant, in order."""
        while True:
            network_ms = self.network.next_ms()
            own_ms = self._queue[0][0] if self._queue else None
            due = min((i for i in (network_ms, own_ms) if i is not None), default=None)
            if due is None or due > until_ms:
                break
            if own_ms is not None and own_ms <= due:
                self.network.deliver_until(max(self.network.now_ms, min(due, own_ms)))
                _, _, action = heapq.heappop(self._queue)
                action()
            else:
                self.network.step()
        self.network.deliver_until(max(until_ms, self.network.now_ms))


def _ignore(answer: m.FetchAnswer | m.CommitAnswer | None) -> None:
    """The worker has gone."""
