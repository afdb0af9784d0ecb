"""The simulated cluster: machines with a store, an agent and web workers each, on one virtual clock.

Nothing here decides what production code decides. A machine is an ``Executor`` over a ``MemoryStore`` on a
``MemoryNetwork``, with the agent's own directory of lives and its own way to take a store over; what its workers ask
is answered, asked again when the agent was replaced, and given up, as the worker's link does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from random import Random
from typing import Any, NamedTuple, get_args

import msgspec

from understudy.agent.executor import Executor
from understudy.agent.inbox import Directory, Frame, Seen
from understudy.agent.takeover import chooser_of, first_id, give_back, take_over
from understudy.errors import FrameError
from understudy.model.entry import Attributes, Entry, Key
from understudy.model.ids import Keys
from understudy.protocol import commands as c
from understudy.protocol import messages as m
from understudy.protocol.settings import Agreed
from understudy.store.memory import MemoryStore
from understudy.transport import Peer
from understudy.transport.memory import MemoryNetwork, MemoryTransport

SECRET = b"a secret for simulated clusters"
AGENT_TIMEOUT_MS = 3_000
"""The default of ``agent_timeout_ms``: how long a worker waits for an agent, beyond ``commit_timeout_ms``."""
TIMEOUTS_EVERY_MS = 250
"""How often a machine looks for requests that have waited too long."""

Reply = m.FetchAnswer | m.CommitAnswer
Answered = Callable[[Reply | None], None]
"""Called with the answer, or None if none came in time."""
Stored = Callable[["Machine", bytes, Entry | None, Entry | None], None]
"""Called with what a transaction changed: machine, key, entry before, entry after."""
Sent = Callable[["Machine", str, Any], None]
"""Called with a message of its kind: who sends it, to whom, the message."""


class Clock(NamedTuple):
    """A machine's store clock: it begins somewhere and drifts, and has nothing to do with anybody else's."""

    offset_ms: int
    drift_ppm: int = 0

    def at(self, world_ms: int) -> int:
        return self.offset_ms + world_ms + world_ms * self.drift_ppm // 1_000_000

    def until(self, own_ms: int, world_ms: int) -> int:
        """The world's instant at which this clock shows ``own_ms``, never before the next one."""
        ahead_ms = own_ms - self.at(world_ms)
        return world_ms + max(1, ahead_ms + abs(ahead_ms * self.drift_ppm) // 1_000_000)


class Question:
    """One question of a worker."""

    __slots__ = ("answered", "request", "ticket", "until_ms")

    def __init__(self, request: m.Request, answered: Answered, until_ms: int) -> None:
        self.request = request
        self.answered = answered
        self.until_ms = until_ms
        self.ticket = 0


class Machine:
    """One machine: its store outlives its agent; its agent's life is an incarnation."""

    def __init__(self, world: World, name: str, clock: Clock) -> None:
        self.world = world
        self.name = name
        self.clock = clock
        self.is_on = False
        """Its workers run, as far as a balancer can tell: it does not notice that a machine stands still."""
        self.is_paused = False
        self.turn_ms = 0
        """What a turn of its agent takes; more than nothing on a slow machine."""
        self.leases: dict[str, int] = {}
        self.executor: Executor | None = None
        self.transport: MemoryTransport | None = None
        self.me = Peer(name, 0)
        self.store = self._empty_store()
        self.back_ms = 0
        """When it, or its agent, came back last."""
        self.lost_store: tuple[MemoryStore, int] | None = None
        """The store that it lost last, and when."""
        self.requests: dict[int, Callable[[], None]] = {}
        """The requests that its workers have in hand, each with what ends it when the machine or its worker dies."""
        self._lives = Directory(self.me, frozenset())
        self._asked: dict[int, Question] = {}
        self._frozen: list[Callable[[], None]] = []
        self._turn_due = False
        self._tick_due_ms = -1
        self._tick_at_ms = 0
        """The same instant, by its own clock."""
        self._timeouts_due = False

    def _empty_store(self) -> MemoryStore:
        world, settings = self.world, self.world.settings
        return MemoryStore(
            copies=settings.copies,
            forget_ms=settings.forget_ms,
            bytes_max=world.store_bytes_max,
            clock=self.now_ms,
            member=self.name,
            changed=lambda key, before, after: world.stored(self, key, before, after),
        )

    def now_ms(self) -> int:
        """The store clock of this machine."""
        return self.clock.at(self.world.network.now_ms)

    def lease_until_ms(self, peer: str) -> int:
        return self.leases.get(peer, 0)

    def held_at(self, key: Key, since_ms: int) -> Iterator[Entry]:
        """What its store holds of a session, and what the one held that it has lost since then."""
        lost = self.lost_store[0] if self.lost_store is not None and self.lost_store[1] >= since_ms else None
        for store in (self.store, lost):
            entry = store.entries.get(key) if store is not None else None
            if entry is not None:
                yield entry

    @property
    def is_up(self) -> bool:
        """It serves: its agent is there, and nothing stands still."""
        return self.executor is not None and not self.is_paused

    # --- life ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Turn the machine on and start an agent over whatever the store holds."""
        if self.executor is not None:
            return
        self.is_on = True
        self.back_ms = self.world.network.now_ms
        incarnation = self.world.random.getrandbits(62) + 1
        self.me = Peer(self.name, incarnation)
        taken = take_over(self.store, self.name, incarnation)
        settings = msgspec.structs.replace(
            self.world.settings,
            member=self.name,
            incarnation=incarnation,
            chooser=chooser_of(self.world.keys.link_keys()[0], self.name, incarnation),
            first_id=first_id(incarnation),
            lives=taken.own_lives,
            zone=self.world.zones.get(self.name, ""),
            agreed=self.world.agreed.get(self.name, ()),
        )
        self.leases.clear()
        self._lives = Directory(self.me, taken.own_lives)
        self.executor = Executor(
            self.store,
            settings,
            send=self._send,
            reply=self._reply,
            publish=self._publish,
            tell=self._tell,
            poisoned=taken.poisoned,
        )
        self.transport = self.world.network.transport(self.me)
        self.transport.start(self)
        self._submit(taken.started(len(self.world.machines) > 1))
        asked, self._asked = list(self._asked.values()), {}
        for question in asked:
            self._put(question)
        self.world.note(f"{self.name}: an agent starts")

    def kill_agent(self) -> None:
        """End the agent without a word; workers go on and ask its successor."""
        self.world.network.crash(self.name)
        self.executor = self.transport = None

    def crash(self, with_store: bool = True) -> None:
        """Turn the machine off without a word; ``with_store=False`` loses what it held, too."""
        self.kill_agent()
        self._stop()
        if not with_store:
            with self.store.view() as view:
                is_empty = not view.keys(None, 1)
            if not is_empty:  # it may be off already, with nothing left to lose
                self.lost_store = self.store, self.world.network.now_ms
            self.store = self._empty_store()

    def drain(self) -> None:
        """Begin to leave."""
        self._submit(c.DrainAsked())

    def stop(self) -> None:
        """End cleanly, after a drain."""
        if self.executor is not None and self.transport is not None:
            give_back(self.store)
            self.transport.leave()
            self.transport.close()
        self.executor = self.transport = None
        self._stop()

    def _stop(self) -> None:
        self.is_on, self.is_paused, self.turn_ms = False, False, 0
        self._asked.clear()
        self._frozen.clear()
        self.kill_workers()

    def kill_workers(self) -> None:
        """End every request that is in hand here."""
        for end in list(self.requests.values()):
            end()

    def run(self, action: Callable[[], None]) -> None:
        """What a worker does now, or as soon as the machine stands still no more."""
        if self.is_paused:
            self._frozen.append(action)
        else:
            action()

    def pause(self) -> None:
        """Stop the whole machine, workers too."""
        self.is_paused = True
        self.world.network.pause(self.name)

    def resume(self) -> None:
        if self.is_paused:
            self.is_paused = False
            self.back_ms = self.world.network.now_ms
            self.world.network.resume(self.name)
            self._schedule_turn()
            frozen, self._frozen = self._frozen, []
            for action in frozen:
                action()

    # --- what its workers ask ------------------------------------------------------------------------------

    def ask(self, request: m.Request, answered: Answered) -> Question:
        """Ask the agent, or the next one if it ends before it has answered."""
        wait_ms = AGENT_TIMEOUT_MS + self.world.settings.commit_timeout_ms
        question = Question(request, answered, self.world.network.now_ms + wait_ms)
        self.world.asked(request)
        if isinstance(request, m.TouchRequest):  # is never answered
            self._submit(c.Requested(self.world.next_ticket(), request))
        else:
            self._put(question)
        return question

    def abandon(self, question: Question) -> None:
        """The worker that asked has gone."""
        if self._asked.pop(question.ticket, None) is not None:
            self._submit(c.Abandoned(question.ticket))

    def _put(self, question: Question) -> None:
        question.ticket = self.world.next_ticket()
        self._asked[question.ticket] = question
        self._submit(c.Requested(question.ticket, question.request))
        if not self._timeouts_due:
            self._timeouts_due = True
            self.world.later(TIMEOUTS_EVERY_MS, self._time_out)

    def _time_out(self) -> None:
        self._timeouts_due = False
        now = self.world.network.now_ms
        if not self.is_paused:
            for ticket, question in list(self._asked.items()):
                if now >= question.until_ms and self._asked.pop(ticket, None) is not None:
                    question.answered(None)
        if self._asked and not self._timeouts_due:
            self._timeouts_due = True
            self.world.later(TIMEOUTS_EVERY_MS, self._time_out)

    # --- the listener and the executor's outlets -----------------------------------------------------------

    def peer_found(self, peer: Peer) -> None:
        for event in self._lives.seen(Seen(peer, True)):
            self._submit(event)

    def peer_lost(self, peer: Peer) -> None:
        for event in self._lives.seen(Seen(peer, False)):
            self._submit(event)

    def received(self, sender: Peer, frame: bytes) -> None:
        self._submit(self._lives.read(Frame(sender, frame)))

    def refused(self, reason: str) -> None:
        raise FrameError(reason)

    def _send(self, to: str, message: m.MemberMessage) -> None:
        life = self._lives.life_of(to)
        if life is not None and self.transport is not None:
            self.world.sent(self, to, message)
            self.transport.send(life, m.encode(message))

    def _reply(self, ticket: c.Ticket, answer: Reply) -> None:
        question = self._asked.pop(ticket, None)
        if question is not None:
            self.world.replied(self, question.request, answer)
            question.answered(answer)

    def _publish(self, peer: str, until_ms: int) -> None:
        self.leases[peer] = until_ms
        self.world.published(self, peer, until_ms)

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
            self.world.later(self.turn_ms, self._turn)

    def _turn(self) -> None:
        self._turn_due = False
        executor = self.executor
        if executor is None or self.is_paused:
            return
        more = executor.turn()
        if self.executor is not executor:
            return
        self.world.turned(self)
        if more and not self._turn_due:
            self._turn_due = True
            self.world.later(max(1, self.turn_ms), self._turn)
        self._schedule_tick(executor)

    def _schedule_tick(self, executor: Executor) -> None:
        now, deadline_ms = self.world.network.now_ms, executor.deadline_ms()
        if self._tick_due_ms > now and deadline_ms >= self._tick_at_ms:
            return
        due_ms = self.clock.until(deadline_ms, now)
        if self._tick_due_ms <= now or due_ms < self._tick_due_ms:
            self._tick_due_ms, self._tick_at_ms = due_ms, deadline_ms
            self.world.at(due_ms, self._tick, executor, due_ms)

    def _tick(self, executor: Executor, due_ms: int) -> None:
        if self.executor is not executor or self.is_paused or due_ms != self._tick_due_ms:
            return
        if executor.deadline_ms() <= self.now_ms():
            self._submit(c.Ticked())
        else:
            self._schedule_tick(executor)


class World:
    """All machines, and the network, whose queue tells what happens when; and who looks on."""

    def __init__(
        self,
        seed: int,
        names: tuple[str, ...],
        settings: c.Settings,
        network: MemoryNetwork,
        *,
        clocks: dict[str, tuple[int, int]] | None = None,
        store_bytes_max: int = 1 << 30,
    ) -> None:
        self.random = Random(seed ^ 0x5EED)
        self.keys = Keys.from_secrets([SECRET])
        self.settings = settings
        self.network = network
        self.store_bytes_max = store_bytes_max
        self.agreed: dict[str, Agreed] = {}
        """What single machines are configured otherwise than all others."""
        self.zones: dict[str, str] = {}
        """Machine -> its zone, where they have one."""
        self.facts: dict[str, int] = {}
        self.trace: list[str] | None = None
        self._tickets = count(1)
        self._clocks = clocks or {}
        self.machines: dict[str, Machine] = {}
        self.on_stored: list[Stored] = []
        self.on_sent: dict[type[m.MemberMessage], list[Sent]] = {kind: [] for kind in get_args(m.MemberMessage)}
        """By the kind of the message: most of them are of no kind that anybody but ``Durable`` asks for."""
        self.on_turned: list[Callable[[Machine], None]] = []
        self.on_told: list[Callable[[Machine, c.Fact], None]] = []
        self.on_published: list[Callable[[Machine, str, int], None]] = []
        self.on_replied: list[Callable[[Machine, m.Request, Reply], None]] = []
        self.on_shown: list[Callable[[bytes, Attributes, int, str], None]] = []
        self.on_asked: list[Callable[[m.Request], None]] = []
        self.on_seen: list[Callable[[bytes, Attributes, str], None]] = []
        for name in names:
            self.add(name)

    def add(self, name: str) -> Machine:
        """A machine that is off."""
        clock = self._clocks.get(name) or (self.random.randrange(10**6, 10**9), 0)
        machine = self.machines[name] = Machine(self, name, Clock(*clock))
        return machine

    @property
    def now_ms(self) -> int:
        return self.network.now_ms

    def next_ticket(self) -> int:
        return next(self._tickets)

    def is_held(self, key: Key) -> bool:
        """True if a machine that runs holds a copy of a session whose time is not over."""
        copies = ((machine, machine.store.entries.get(key)) for machine in self.machines.values() if machine.is_up)
        return any(e is not None and e.has_data and not e.expired(machine.now_ms()) for machine, e in copies)

    # --- who looks on --------------------------------------------------------------------------------------

    def stored(self, machine: Machine, key: bytes, before: Entry | None, after: Entry | None) -> None:
        for look in self.on_stored:
            look(machine, key, before, after)

    def sent(self, machine: Machine, to: str, message: m.MemberMessage) -> None:
        for look in self.on_sent[type(message)]:
            look(machine, to, message)

    def turned(self, machine: Machine) -> None:
        for look in self.on_turned:
            look(machine)

    def published(self, machine: Machine, row: str, until_ms: int) -> None:
        """Workers of a machine may read under a lease until then."""
        for look in self.on_published:
            look(machine, row, until_ms)

    def replied(self, machine: Machine, request: m.Request, answer: Reply) -> None:
        for look in self.on_replied:
            look(machine, request, answer)

    def shown(self, key: bytes, attributes: Attributes, began_ms: int, where: str) -> None:
        """A browser was shown this of a session, and told that it is protected."""
        for look in self.on_shown:
            look(key, attributes, began_ms, where)

    def asked(self, request: m.Request) -> None:
        """A worker asks its member."""
        for look in self.on_asked:
            look(request)

    def seen(self, key: bytes, attributes: Attributes, primary: str) -> None:
        """A browser that changed nothing was shown this of that primary, protected or not."""
        for look in self.on_seen:
            look(key, attributes, primary)

    def tell(self, machine: Machine, fact: c.Fact) -> None:
        self.facts[fact.kind] = self.facts.get(fact.kind, 0) + 1
        for look in self.on_told:
            look(machine, fact)
        if self.trace is not None:
            self.note(f"{machine.name}: {fact.kind} {fact.key.hex()[:6]} {fact.member} {fact.detail}")

    def note(self, line: str) -> None:
        """A line of the readable transcript, if one is wanted."""
        if self.trace is not None:
            self.trace.append(f"{self.network.now_ms:7d}  {line.rstrip()}")

    # --- time ----------------------------------------------------------------------------------------------

    def at(self, due_ms: int, action: Callable[..., None], *arguments: Any) -> None:
        self.network.at(due_ms, action, *arguments)

    def later(self, after_ms: int, action: Callable[..., None], *arguments: Any) -> None:
        self.network.at(self.network.now_ms + after_ms, action, *arguments)

    def run_until(self, until_ms: int) -> None:
        """Let everything happen up to an instant, in order."""
        self.network.deliver_until(until_ms)

    def run_for(self, ms: int) -> None:
        self.run_until(self.network.now_ms + ms)
