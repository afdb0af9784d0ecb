"""Gives every application of this process another member than the configured one, for as long as a test wants it."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Literal, NamedTuple

from msgspec.structs import replace

from understudy.client import runtime
from understudy.client.runtime import Access, Client, Runtime
from understudy.client.visit import View, Views
from understudy.config import Config
from understudy.store import Reading


class _Application(NamedTuple):
    """What an application has configured, and its clients by member."""

    config: Config
    generation: object
    clients: dict[str, Client]


class Clients:
    """The clients of applications at members in memory: one for each application and member."""

    def __init__(
        self,
        manager_class: Literal["LocalManager", "BackupManager", "DeltaManager"],
        access: Callable[[Config], Access],
    ):
        """``access``: at which member the present request is; called for each."""
        self._manager_class = manager_class
        self._access = access
        self._made: weakref.WeakKeyDictionary[Runtime, _Application] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()

    def client(self, asking: Runtime) -> Client:
        """The client of an application at the present member. Raises: ConfigurationError."""
        with self._lock:
            made = self._made.get(asking)
            if made is None or made.generation is not asking.generation:
                generation = asking.generation
                made = self._made[asking] = _Application(asking.config(), generation, {})
            member = self._access(made.config)
            if member.name not in made.clients:
                # What is configured counts, but for who the members are.
                config = replace(
                    made.config, member=member.name, listen=None, seeds=(), manager_class=self._manager_class
                )
                made.clients[member.name] = Client(config, member)
            return made.clients[member.name]

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Within the block every application of the process is served by these; blocks may be nested."""
        before, runtime.stand_in = runtime.stand_in, self.client
        try:
            yield
        finally:
            runtime.stand_in = before


class LockedStore:
    """A store in memory for several threads: a look-up never falls into the middle of a transaction."""

    def __init__(self, store: Callable[[], Views], lock: AbstractContextManager[object]) -> None:
        self._store = store
        self._lock = lock

    def read(self, key: bytes) -> Reading:
        with self._lock:
            return self._store().read(key)

    def recall(self, key: bytes) -> Reading:
        return self.read(key)

    def now_ms(self) -> int:
        return self._store().now_ms()

    @contextmanager
    def view(self) -> Iterator[View]:
        with self._lock, self._store().view() as view:
            yield view
