"""Gives a test several members in this process: the production engine over a network in memory, on a clock of its own.

The application and its test client stay what they are; ``at`` says which member serves, as a load balancer would.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from datetime import timedelta
from itertools import combinations, product
from string import ascii_lowercase
from types import TracebackType
from typing import Any, Literal

from understudy import limits
from understudy.client.conversation import Answer, Ask
from understudy.config import Config
from understudy.errors import AgentUnavailable, SessionUnavailable
from understudy.model.ids import Keys
from understudy.protocol import commands as c
from understudy.sim.world import Machine, World
from understudy.testing.local import to_ms
from understudy.testing.stage import Clients, LockedStore
from understudy.transport.memory import MemoryNetwork

READY_MS_MAX = 60_000
"""A cluster that is not ready by then, in its own time, never is."""
ANSWER_MS_MAX = 5_000
"""``agent_timeout_ms`` and ``commit_timeout_ms`` by default: what a worker waits for its agent."""


class MemberDown(Exception):
    """A request was to be served by a member that is killed or paused: a load balancer would choose another one."""


class MemoryCluster:
    """Members of one cluster in this process. Use it as a context: within it every application runs on the cluster.

    Args:
        members: how many (``a``, ``b``, ``c`` …), or their names.
        copies: backups of each session.
        manager: "BackupManager", or "DeltaManager" for a copy on every member.
        seed: decides everything that is left to chance; the same test with the same seed takes the same course.

    Time passes only while a request waits for its answer, and in ``advance``. Threads may be used; they take turns.
    Cost: a second of a cluster's time takes some milliseconds of the test's, for each member.
    """

    def __init__(
        self,
        members: int | Sequence[str] = 3,
        *,
        copies: int = 1,
        manager: Literal["BackupManager", "DeltaManager"] = "BackupManager",
        seed: int = 0,
    ) -> None:
        names = tuple(ascii_lowercase[:members]) if isinstance(members, int) else tuple(members)
        if not 1 <= len(names) <= limits.MEMBERS_MAX:
            raise ValueError(f"a cluster has 1 to {limits.MEMBERS_MAX} members, not {members}")
        self.members = names
        self._lock = threading.RLock()
        self._network = MemoryNetwork(seed)
        self._world = World(
            seed, names, c.Settings("", 0, 0, copies=copies, everywhere=manager == "DeltaManager"), self._network
        )
        keys = Keys.from_secrets([seed.to_bytes(32, "big", signed=True)])
        self._access = {name: _Member(self, self._world.machines[name], keys) for name in names}
        self._cuts: set[tuple[str, str]] = set()
        self._present: ContextVar[str] = ContextVar("member", default="")
        self._clients = Clients(manager, self._access_of_request)
        self._exits = ExitStack()

    def __enter__(self) -> MemoryCluster:
        self._exits.enter_context(self._clients.installed())
        for machine in self._world.machines.values():
            machine.start()
        self.settle()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exits.close()

    # --- who serves --------------------------------------------------------------------------------------------------

    @contextmanager
    def at(self, member: str) -> Iterator[None]:
        """Requests within the block are served by this member, in this thread or asyncio task and what it starts.

        Outside of such a block the first living member serves. Raises: MemberDown.
        """
        self._living(member)
        token = self._present.set(member)
        try:
            yield
        finally:
            self._present.reset(token)

    @property
    def here(self) -> str:
        """The member that serves the present block, "" outside of ``at``."""
        return self._present.get()

    @property
    def living(self) -> list[str]:
        """Members that are neither killed nor paused, in order."""
        return [name for name in self.members if self._world.machines[name].is_up]

    @property
    def now_ms(self) -> int:
        """The cluster's time; it begins at 0."""
        return self._network.now_ms

    @property
    def messages(self) -> int:
        """How many messages the members have sent each other so far."""
        return self._network.counters.sent

    # --- what befalls them -------------------------------------------------------------------------------------------

    def kill(self, member: str) -> None:
        """End a machine without a word, and all that it held in memory."""
        with self._lock:
            self._machine(member).crash(with_store=False)

    def start(self, member: str) -> None:
        """Start a killed one again, empty; ``settle`` waits until it is ready."""
        with self._lock:
            self._machine(member).start()

    def pause(self, member: str) -> None:
        """Stop a machine in the middle of what it does, as SIGSTOP or the suspension of a virtual machine would."""
        with self._lock:
            self._machine(member).pause()

    def resume(self, member: str) -> None:
        """Let a paused one go on."""
        with self._lock:
            self._machine(member).resume()

    def partition(self, *sides: Iterable[str]) -> None:
        """Cut every connection between members of different sides: ``partition(["a"], ["b", "c"])``, or ``("a", "bc")``
        where names are single letters. Cuts add up until ``heal``."""
        with self._lock:
            for one, other in combinations([list(side) for side in sides], 2):
                for a, b in product(one, other):
                    self._network.cut(self._machine(a).name, self._machine(b).name)
                    self._cuts |= {(a, b), (b, a)}

    def heal(self) -> None:
        """End every cut."""
        with self._lock:
            self._network.heal_all()
            self._cuts.clear()

    # --- time --------------------------------------------------------------------------------------------------------

    def advance(self, *, hours: float = 0, minutes: float = 0, seconds: float = 0) -> None:
        """Let time pass for all members: they detect, promote, expire as they do."""
        with self._lock:
            span_ms = to_ms(timedelta(hours=hours, minutes=minutes, seconds=seconds))
            self._world.run_until(self._network.now_ms + span_ms)

    def settle(self) -> None:
        """Let time pass until every living member is ready and every session that can has its copies again.

        Raises: AssertionError when that does not come about.
        """
        with self._lock:
            until_ms = self._network.now_ms + READY_MS_MAX
            while not self._is_settled():
                assert self._network.now_ms < until_ms, "the cluster does not come to rest"
                self._world.run_until(self._network.now_ms + 100)

    def _is_settled(self) -> bool:
        living = self.living
        for machine in map(self._machine, living):
            executor = machine.executor
            assert executor is not None
            alive = {told["name"] for told in executor.engine.describe()["members"] if told["standing"] == "alive"}
            wanted = {name for name in living if name != machine.name and (name, machine.name) not in self._cuts}
            if not executor.engine.ready or not wanted <= alive or not alive <= set(living):
                return False
            with machine.store.view() as view:
                if view.outbox(0, 1) or (wanted and view.keys_lacking(None, 1)):
                    return False
        return True

    # --- for its members ---------------------------------------------------------------------------------------------

    def _access_of_request(self, config: Config) -> _Member:
        name = self._present.get()
        if not name:
            name = next(iter(self.living), self.members[0])
            self._living(name)
        return self._access[name]

    def _living(self, name: str) -> None:
        if not self._machine(name).is_up:
            raise MemberDown(f"member {name} is killed or paused; living: {', '.join(self.living) or 'none'}")

    def _machine(self, name: str) -> Machine:
        if name not in self._world.machines:
            raise ValueError(f"there is no member {name!r}; there are {', '.join(self.members)}")
        return self._world.machines[name]

    def _asked(self, machine: Machine, asked: Ask) -> Answer:
        """Let time pass until the agent has answered."""
        with self._lock:
            if not machine.is_up:
                raise AgentUnavailable(f"member {machine.name} was killed or paused while it served this request")
            answers: list[Answer] = []
            machine.ask(asked.request, answers.append)
            if not asked.waits:
                return None
            until_ms = self._network.now_ms + ANSWER_MS_MAX
            while not answers and self._network.now_ms < until_ms:
                self._world.run_until(self._network.now_ms + 1)
            if not answers or answers[0] is None:
                raise SessionUnavailable("the member's agent gave no answer in time; try again")
            return answers[0]


class _Member:
    """What ``client.member.Member`` is for a worker, at one of the machines in memory."""

    def __init__(self, cluster: MemoryCluster, machine: Machine, keys: Keys) -> None:
        self.name = machine.name
        self.keys = keys
        self.store = LockedStore(lambda: machine.store, cluster._lock)
        self._cluster = cluster
        self._machine = machine

    def lease_until_ms(self, peer: str) -> int:
        return self._machine.lease_until_ms(peer)

    def ask(self, asked: Ask) -> Answer:
        return self._cluster._asked(self._machine, asked)

    async def aask(self, asked: Ask) -> Answer:
        return self.ask(asked)

    def status(self) -> dict[str, Any] | None:
        executor = self._machine.executor
        return {"member": self.name, **executor.engine.describe()} if executor is not None else None
