"""What the client's tests share: workers over one store, without servers, processes or time that passes by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, TypeVar

from understudy.client import drivers
from understudy.client.conversation import Answer, Ask, Conversation, commit
from understudy.client.session import Session
from understudy.client.store_link import StoreLink
from understudy.client.visit import Settings, Visit, World
from understudy.model.entry import Entry
from understudy.model.ids import Keys
from understudy.protocol.messages import AcknowledgeMode
from understudy.store import Store
from understudy.store.memory import MemoryStore

SECRET = b"a secret of the tests, long enough"
MINUTE_MS = 60_000
SETTINGS = Settings(
    member="a",
    application="shop",
    idle_timeout_ms=30 * MINUTE_MS,
    absolute_timeout_ms=0,
    acknowledge=AcknowledgeMode.BACKUP,
    unprotected_refused=False,
    grace_ms=10_000,
    touch_every_ms=MINUTE_MS,
    session_bytes_max=100_000,
)

_Result = TypeVar("_Result")


class Clock:
    def __init__(self) -> None:
        self.ms = 1_000_000

    def __call__(self) -> int:
        return self.ms


@dataclass
class Worker:
    """One worker of a machine: requests over a store that it may share with other workers."""

    store: Store
    answer: Callable[[Ask], Answer]
    settings: Settings = SETTINGS
    leases: dict[str, int] = field(default_factory=dict)
    asked: list[Ask] = field(default_factory=list)
    """Everything that the store or the agent was asked to do."""
    random_calls: int = 0

    def __post_init__(self) -> None:
        self.world = World(
            self.store, lambda name: self.leases.get(name, 0), Keys.from_secrets([SECRET]), self.settings, self._random
        )

    def begin(self, cookie: str = "") -> Session:
        return Session(Visit(cookie), self)

    def finish(self, session: Session, *, late: bool = False) -> str | None:
        """Ends a request; gives the cookie that its response brings, if any."""
        if session.loaded:
            self.run(commit(self.world, session.visit, late=late))
        cookie = session.visit.cookie_now
        return None if cookie == session.visit.cookie else cookie

    def request(self, cookie: str = "", **attributes: Any) -> str:
        """A whole request that sets attributes; gives the cookie that the browser has afterwards."""
        session = self.begin(cookie)
        session.update(attributes)
        new = self.finish(session)
        return cookie if new is None else new

    def entry(self, session: Session) -> Entry | None:
        assert session.visit.opened is not None
        return self.store.read(session.visit.opened.key).entry

    def run(self, conversation: Conversation[_Result]) -> _Result:
        return drivers.run(conversation, self._ask)

    async def arun(self, conversation: Conversation[_Result]) -> _Result:
        async def ask(asked: Ask) -> Answer:
            return self._ask(asked)

        return await drivers.arun(conversation, ask)

    def _ask(self, asked: Ask) -> Answer:
        self.asked.append(asked)
        answer = self.answer(asked)
        return answer if asked.waits else None

    def _random(self, count: int) -> bytes:
        self.random_calls += 1
        return blake2b(self.random_calls.to_bytes(8, "big"), digest_size=count).digest()


def store_link(store: Store) -> StoreLink:
    return StoreLink(
        store, member="a", grace_ms=SETTINGS.grace_ms, bytes_max=SETTINGS.session_bytes_max, forget_ms=86_400_000,
        boot_id=lambda: "this boot",
    )  # fmt: skip


def local_worker(clock: Clock, settings: Settings = SETTINGS) -> Worker:
    """A worker without an agent, over a store in memory."""
    store = MemoryStore(copies=0, forget_ms=86_400_000, clock=clock, member="a")
    link = store_link(store)
    return Worker(store, lambda asked: link.ask(asked.request), settings)
