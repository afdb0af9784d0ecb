"""One request in a web worker: the client's own conversations, with pauses between their steps in virtual time.

A *script* is a generator that yields what a conversation asks, and ``Pause`` where the worker or its application
takes time. ``Handling`` is its driver, beside the blocking and the asyncio one of ``client.drivers``.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import NamedTuple

from understudy.client.conversation import Answer, Ask
from understudy.client.visit import Settings
from understudy.client.visit import World as ClientWorld
from understudy.errors import SessionUnavailable, UnderstudyError
from understudy.protocol.worker_messages import AcknowledgeMode
from understudy.sim.plan import UserPlan
from understudy.sim.world import Machine, Question
from understudy.store import Reading
from understudy.store.memory import MemoryStore

TOUCH_SHARE = 20
TOUCH_EVERY_MS = (1_000, 60_000)
"""The defaults of ``touch_every``: a share of the idle timeout, at least and at most."""


class Pause(NamedTuple):
    """The worker, or the application's view, takes its time."""

    ms: int


Script = Generator[Ask | Pause, Answer, None]


class Died(Exception):
    """The worker or its machine ended in the middle of the request: the browser's connection was reset."""


Done = Callable[[Exception | None], None]


class Worlds:
    """What the workers of each machine see of it for one user, made once a store."""

    def __init__(self, user: UserPlan) -> None:
        self.user = user
        self._by_store: dict[MemoryStore, ClientWorld] = {}

    def of(self, machine: Machine) -> ClientWorld:
        world = self._by_store.get(machine.store)
        if world is None:
            world = self._by_store[machine.store] = client_world(machine, self.user)
        return world


def client_world(machine: Machine, user: UserPlan, stalled: _Stalled | None = None) -> ClientWorld:
    """What a worker's conversations see of the machine."""
    settings = machine.world.settings
    least_ms, most_ms = TOUCH_EVERY_MS
    return ClientWorld(
        store=stalled or machine.store,
        lease_until_ms=(stalled or machine).lease_until_ms,
        keys=machine.world.keys,
        settings=Settings(
            member=machine.name,
            application="default",
            idle_timeout_ms=user.idle_timeout_ms,
            absolute_timeout_ms=user.absolute_timeout_ms,
            acknowledge=AcknowledgeMode.BACKUP if user.acknowledges else AcknowledgeMode.LOCAL,
            unprotected_refused=user.refuses,
            grace_ms=settings.grace_ms,
            touch_every_ms=min(most_ms, max(least_ms, user.idle_timeout_ms // TOUCH_SHARE)),
            session_bytes_max=settings.bytes_max,
            copies=settings.copies,
        ),
        random_bytes=machine.world.random.randbytes,
    )


class _Stalled:
    """What a worker has seen that stood still in the middle of serving in place: some of it is from before that.

    ``after`` 1: the first look into the store; 2: that and the leases; 3: that, and the second look. What it looks at
    when it has asked its agent is from after that, also where it did not come to the second look.
    """

    def __init__(self, machine: Machine, key: bytes, after: int) -> None:
        self._machine = machine
        self._readings = [machine.store.read(key)] * (1 if after < 3 else 2)
        self._leases = dict(machine.leases) if after > 1 else machine.leases

    def read(self, key: bytes) -> Reading:
        return self._readings.pop() if self._readings else self._machine.store.read(key)

    def recall(self, key: bytes) -> Reading:
        return self.read(key)

    def lease_until_ms(self, peer: str) -> int:
        return self._leases.get(peer, 0)

    def now_ms(self) -> int:
        return self._machine.now_ms()

    def asked(self) -> None:
        """The worker asks its agent."""
        self._readings.clear()
        self._leases = self._machine.leases


class Handling:
    """One request on its way through a worker: carries its script on whenever something has come."""

    def __init__(self, machine: Machine, done: Done) -> None:
        self.machine = machine
        self._done = done
        self._number = machine.world.next_ticket()
        self._script: Script | None = None
        self._question: Question | None = None
        self._stalled: _Stalled | None = None
        machine.requests[self._number] = self.die

    def begin(self, write: Callable[[ClientWorld], Script], worlds: Worlds) -> None:
        """Run the script that ``write`` makes."""
        self._start(write(worlds.of(self.machine)))

    def begin_stalled(
        self, write: Callable[[ClientWorld], Script], worlds: Worlds, key: bytes, ms: int, after: int
    ) -> None:
        """The same with a worker that stands still for a while, see ``_Stalled``."""
        machine = self.machine
        self._stalled = _Stalled(machine, key, after)
        script = write(client_world(machine, worlds.user, self._stalled))
        machine.world.later(ms, lambda: machine.run(lambda: self._start(script)))

    def die(self) -> None:
        """The worker is killed, or its machine ends."""
        if self._number in self.machine.requests:
            if self._question is not None:
                self.machine.abandon(self._question)
            self._end(Died())

    def _start(self, script: Script) -> None:
        if self._number in self.machine.requests:
            self._script = script
            self._step(None)

    def _step(self, answer: Answer, failure: Exception | None = None) -> None:
        """Carry the script on until it has to wait."""
        self._question = None
        if self._number not in self.machine.requests:
            return
        script, machine = self._script, self.machine
        assert script is not None
        try:
            while True:
                wanted = script.send(answer) if failure is None else script.throw(failure)
                failure = None
                if isinstance(wanted, Pause):
                    machine.world.later(wanted.ms, lambda: machine.run(lambda: self._step(None)))
                    return
                if self._stalled is not None:
                    self._stalled.asked()
                question = machine.ask(wanted.request, self._answered)
                if wanted.waits:
                    self._question = question
                    return
                answer = None
        except StopIteration:
            self._end(None)
        except UnderstudyError as error:
            self._end(error)

    def _answered(self, answer: Answer) -> None:
        late = None if answer is not None else SessionUnavailable("the member's agent gave no answer in time")
        self.machine.run(lambda: self._step(answer, late))

    def _end(self, error: Exception | None) -> None:
        del self.machine.requests[self._number]
        if self._script is not None:
            self._script.close()
        self._done(error)
