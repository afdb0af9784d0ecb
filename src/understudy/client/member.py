"""What one process shares of its member: store, leases, secrets and links, opened once, at the first request.

A child of ``fork`` opens its own; nothing that was opened before the fork is used in it. All applications of a
process that have the same member's directory share one ``Member``.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from understudy.client.agent_link import AgentLink
from understudy.client.conversation import Answer, Ask
from understudy.client.spawn import Starter
from understudy.client.store_link import StoreLink
from understudy.config import SOCKET_NAME, Config, member_directory, open_directory, read_secrets
from understudy.errors import AgentUnavailable, SessionUnavailable
from understudy.model.ids import Keys
from understudy.protocol.worker_messages import TouchRequest
from understudy.store import clock
from understudy.store.leases import LeaseBoard
from understudy.store.lmdb import LmdbStore

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from understudy.client.async_link import AsyncAgentLink


class Member:
    """This process's access to its member's sessions."""

    def __init__(self, config: Config) -> None:
        """Raises: ConfigurationError, DirectoryError. The store and the agent are opened when first used."""
        directory = open_directory(config)
        self.pid = os.getpid()
        self.name = config.member
        self.directory = directory
        self.keys = Keys.from_secrets(read_secrets(config, directory))
        self.leases = LeaseBoard(directory)
        self.lease_until_ms = self.leases.until_ms
        """When the lease that a peer has granted this member ends, on the store clock."""
        self.store = LmdbStore(
            directory,
            copies=config.copies if config.clustered else 0,
            forget_ms=config.forget_ms,
            bytes_max=config.store_bytes_max,
            sync=config.store_sync,
            member=config.member,
        )
        self._store_link: StoreLink | None = None
        if not config.clustered:
            self._store_link = StoreLink(
                self.store,
                member=config.member,
                grace_ms=config.rotation_grace_ms,
                bytes_max=config.session_bytes_max,
                forget_ms=config.forget_ms,
                boot_id=clock.boot_id,
            )
        self._starter = Starter(directory / SOCKET_NAME, autostart=config.autostart and config.clustered)
        self._timeouts = {"agent_timeout_ms": config.agent_timeout_ms, "commit_timeout_ms": config.commit_timeout_ms}
        self.agent = AgentLink(self._starter, **self._timeouts)
        self._loops: weakref.WeakKeyDictionary[AbstractEventLoop, AsyncAgentLink] = weakref.WeakKeyDictionary()

    def status(self) -> dict[str, Any] | None:
        """What the agent tells; None while workers commit in the store themselves."""
        if self._store_link is not None:
            return None
        told: dict[str, Any] = msgspec.json.decode(self.agent.control("status"))
        return told

    def ask(self, asked: Ask) -> Answer:
        """The answer of whoever writes the store: this process itself, or the agent. Raises: see the links."""
        answer = self._from_store(asked)
        if answer is not None or self._store_link is not None:
            return answer
        if isinstance(asked.request, TouchRequest):
            with contextlib.suppress(AgentUnavailable, SessionUnavailable):  # a response needs none of it
                self.agent.ask(asked.request)
            return None
        return self.agent.ask(asked.request, waits=asked.waits)

    async def aask(self, asked: Ask) -> Answer:
        """The same in an event loop. The store is written in the loop's own thread: it takes microseconds."""
        answer = self._from_store(asked)
        if answer is not None or self._store_link is not None:
            return answer
        link = self._link_of_loop()
        if isinstance(asked.request, TouchRequest):
            with contextlib.suppress(AgentUnavailable, SessionUnavailable):
                await link.ask(asked.request)
            return None
        return await link.ask(asked.request, waits=asked.waits)

    def _link_of_loop(self) -> AsyncAgentLink:
        # Here, because a blocking worker needs no asyncio: it is a third of what our import takes.
        from asyncio import get_running_loop

        from understudy.client.async_link import AsyncAgentLink

        loop = get_running_loop()
        link = self._loops.get(loop)
        if link is None:
            link = self._loops[loop] = AsyncAgentLink(self._starter, **self._timeouts)
        return link

    def close(self) -> None:
        """For tests and tools; a web worker keeps everything until its process ends."""
        _members.pop(self.directory, None)
        self.agent.close()
        for loop, link in self._loops.items():
            if not loop.is_closed():
                loop.call_soon_threadsafe(link.close)
        self.leases.close()
        self.store.close()

    def _from_store(self, asked: Ask) -> Answer:
        if self._store_link is None:
            return None
        answer = self._store_link.ask(asked.request)
        if answer is None:
            self._store_link = None  # an agent owns the store from now on: it may hold what only it can answer
        return answer


_members: dict[Path, Member] = {}
_lock = threading.Lock()
_pid = os.getpid()


def member_of(config: Config) -> Member:
    """This process's ``Member`` for the configured directory, made when it is first asked for."""
    global _lock, _pid
    if _pid != os.getpid():
        # A thread of the parent may have held the lock. What the parent opened is left alone, not closed: it is its.
        _lock, _pid = threading.Lock(), os.getpid()
    directory = member_directory(config)
    with _lock:
        member = _members.get(directory)
        if member is None or member.pid != os.getpid():
            if member is not None:
                _inherited.append(member)
            member = _members[directory] = Member(config)
        return member


_inherited: list[Member] = []
"""Of the parent process: kept, so that nothing of it is closed by the garbage collector."""
