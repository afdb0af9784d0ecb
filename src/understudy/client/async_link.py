"""Asks the member's agent over its socket, for asyncio: one connection per event loop."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from typing import Any, cast

from understudy.client import frames
from understudy.client.agent_link import ENDS_CONNECTIONS, NO_ANSWER, RETRY_S, Connects
from understudy.errors import AgentUnavailable, FormatMismatch, FrameError, SessionUnavailable
from understudy.protocol.worker_messages import CommitAnswer, FetchAnswer, Reply, Request, TouchRequest


class AsyncAgentLink:
    """The link of one event loop."""

    def __init__(self, starter: Connects, *, agent_timeout_ms: int, commit_timeout_ms: int) -> None:
        self._starter = starter
        self._agent_timeout_s = agent_timeout_ms / 1000
        self._answer_timeout_s = (agent_timeout_ms + commit_timeout_ms) / 1000
        self._connection: _Connection | None = None
        self._opening = asyncio.Lock()

    async def ask(self, request: Request, *, waits: bool = True) -> FetchAnswer | CommitAnswer | None:
        """As ``AgentLink.ask``; the loop goes on meanwhile, also while an agent is started."""
        deadline_s = time.monotonic() + self._answer_timeout_s
        for pause_s in itertools.chain((0.0,), itertools.repeat(RETRY_S)):
            connection = await self._connected(deadline_s)
            try:
                if not waits or isinstance(request, TouchRequest):
                    connection.tell(lambda number: frames.numbered(request, number))
                    return None
                async with asyncio.timeout(max(0.0, deadline_s - time.monotonic())):
                    reply = await connection.ask(lambda number: frames.numbered(request, number))
                return frames.answer_in(reply)
            except TimeoutError:
                raise SessionUnavailable(NO_ANSWER) from None
            except (OSError, FrameError):
                connection.end()
            if time.monotonic() >= deadline_s:
                break
            await asyncio.sleep(pause_s)
        raise SessionUnavailable(ENDS_CONNECTIONS)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.end()

    async def _connected(self, deadline_s: float) -> _Connection:
        connection = self._connection
        if connection is not None and connection.alive:
            return connection
        async with self._opening:
            connection = self._connection
            if connection is None or not connection.alive:
                connection = await self._opened(min(deadline_s, time.monotonic() + self._agent_timeout_s))
                self._connection = connection
            return connection

    async def _opened(self, deadline_s: float) -> _Connection:
        loop = asyncio.get_running_loop()
        while True:
            # It may start an agent and wait for it, so it is done in a thread; it happens once in a loop's life.
            opened = await loop.run_in_executor(None, self._starter.connect, deadline_s)
            opened.setblocking(False)
            _, connection = await loop.create_unix_connection(_Connection, sock=opened)
            try:
                async with asyncio.timeout(max(0.0, deadline_s - time.monotonic())):
                    await connection.greeted
                return connection
            except (OSError, FrameError) as error:
                connection.end()
                if time.monotonic() >= deadline_s:
                    raise AgentUnavailable(f"the member's agent does not greet ({error}); see its log") from error
            await asyncio.sleep(RETRY_S)


class _Connection(asyncio.Protocol):
    """One connection, from the greeting to its end.

    While nobody waits for an answer a request leaves at once. Others gather until the loop has been once around: what
    so many tasks ask at the same time leaves in one write, and the agent does it in one turn.
    """

    def __init__(self) -> None:
        self.alive = True
        self.greeted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport | None = None
        self._unread = bytearray()
        self._unsent: list[bytes] = []
        self._last_number = 0
        self._waiting: dict[int, asyncio.Future[Reply]] = {}

    async def ask(self, frame: Callable[[int], bytes]) -> Reply:
        """Raises: OSError when the connection ended."""
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        number = self.tell(frame)
        self._waiting[number] = answer
        try:
            return await answer
        finally:
            self._waiting.pop(number, None)

    def tell(self, frame: Callable[[int], bytes]) -> int:
        """Send without waiting. Raises: OSError."""
        if not self.alive:
            raise ConnectionError("the agent has gone")
        self._last_number += 1
        if self._waiting and not self._unsent:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unsent.append(frame(self._last_number))
        if not self._waiting:
            self._flush()
        return self._last_number

    def end(self, error: Exception | None = None) -> None:
        """Nothing comes any more: everybody who waits asks again elsewhere."""
        if not self.alive:
            return
        self.alive = False
        if self._transport is not None:
            self._transport.close()
        awaited: tuple[asyncio.Future[Any], ...] = (self.greeted, *self._waiting.values())
        for answer in awaited:
            if not answer.done():
                answer.set_exception(error or ConnectionError("the agent has gone"))

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if unsent and self.alive and self._transport is not None:
            self._transport.write(b"".join(unsent))

    # --- asyncio's ---------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is not of that class
        self._transport.write(frames.hello())

    def data_received(self, data: bytes) -> None:
        self._unread += data
        try:
            for body in frames.taken(self._unread):
                if not self.greeted.done():
                    frames.welcomed(body)
                    self.greeted.set_result(None)
                    continue
                reply = frames.replied(body)
                answer = self._waiting.get(reply.request)
                if answer is not None and not answer.done():
                    answer.set_result(reply)
        except (FormatMismatch, FrameError) as error:
            self.end(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self.end()
