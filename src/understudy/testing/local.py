"""Gives a test its own sessions in memory, and a clock that moves only when the test says so."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from understudy.client.conversation import Answer, Ask
from understudy.client.store_link import StoreLink
from understudy.config import Config
from understudy.model.ids import Keys
from understudy.store.memory import MemoryStore
from understudy.testing.stage import Clients, LockedStore

FIRST_MS = 1_000_000
"""Any instant will do, but 0, which a store clock never shows."""


class Clock:
    """Time as sessions see it: it stands still between two calls of ``advance``."""

    def __init__(self) -> None:
        self.now_ms = FIRST_MS

    def advance(self, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0) -> None:
        """Let time pass for every session, without waiting. The clocks of the machine and of browsers go their way."""
        self.now_ms += to_ms(timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds))


def to_ms(time: timedelta) -> int:
    """Whole milliseconds of a span. Raises: ValueError for a negative one."""
    if time < timedelta(0):
        raise ValueError(f"time does not go back ({time})")
    return time // timedelta(milliseconds=1)


@contextmanager
def isolated() -> Iterator[Clock]:
    """Within the block every application of this process has its sessions in memory, none at the beginning.

    As on one machine without a cluster: commits are in the store when the response leaves, nothing is ``protected``.
    No file, no agent. What is configured for the application (cookie, timeouts, sizes) counts as ever.
    """
    clock = Clock()
    made: list[_LocalMember] = []

    def access(config: Config) -> _LocalMember:
        if not made:
            made.append(_LocalMember(config, clock))
        return made[0]

    with Clients("LocalManager", access).installed():
        yield clock


class _LocalMember:
    """What ``client.member.Member`` is on one machine, over a store in memory."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self.name = config.member
        self.keys = Keys.from_secrets([secrets.token_bytes(32)])
        memory = MemoryStore(
            copies=0,
            forget_ms=config.forget_ms,
            bytes_max=config.store_bytes_max,
            clock=lambda: clock.now_ms,
            member=config.member,
        )
        self._lock = threading.RLock()
        self.store = LockedStore(lambda: memory, self._lock)
        self._link = StoreLink(
            memory,
            member=config.member,
            grace_ms=config.rotation_grace_ms,
            bytes_max=config.session_bytes_max,
            forget_ms=config.forget_ms,
            boot_id=lambda: "in memory",
        )

    def lease_until_ms(self, peer: str) -> int:
        """Nobody grants any: there are no backups that could be promoted."""
        return 0

    def ask(self, asked: Ask) -> Answer:
        with self._lock:
            return self._link.ask(asked.request)

    async def aask(self, asked: Ask) -> Answer:
        return self.ask(asked)

    def status(self) -> dict[str, Any] | None:
        return None
