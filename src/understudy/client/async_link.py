"""Asks the member's agent over its socket, for asyncio: one connection per event loop, read by a task of that loop."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable

from understudy.client import frames
from understudy.client.agent_link import ENDS_CONNECTIONS, NO_ANSWER, RETRY_S, Connects
from understudy.errors import AgentUnavailable, FrameError, SessionUnavailable
from understudy.protocol.messages import CommitAnswer, FetchAnswer, Reply, Request, TouchRequest


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
            reader, writer = await asyncio.open_unix_connection(sock=opened)
            try:
                writer.write(frames.hello())
                async with asyncio.timeout(max(0.0, deadline_s - time.monotonic())):
                    frames.welcomed(await _next_body(reader))
                return _Connection(reader, writer)
            except (OSError, EOFError, FrameError) as error:
                writer.close()
                if time.monotonic() >= deadline_s:
                    raise AgentUnavailable(f"the member's agent does not greet ({error}); see its log") from error
            await asyncio.sleep(RETRY_S)


class _Connection:
    """One connection after its greeting."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.alive = True
        self._reader = reader
        self._writer = writer
        self._last_number = 0
        self._waiting: dict[int, asyncio.Future[Reply]] = {}
        self._task = asyncio.get_running_loop().create_task(self._read())

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
        if not self.alive or self._writer.is_closing():
            raise ConnectionError("the agent has gone")
        self._last_number += 1
        self._writer.write(frame(self._last_number))
        return self._last_number

    def end(self) -> None:
        if self.alive:
            self.alive = False
            self._task.cancel()
            self._writer.close()
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(ConnectionError("the agent has gone"))

    async def _read(self) -> None:
        try:
            while True:
                reply = frames.replied(await _next_body(self._reader))
                answer = self._waiting.get(reply.request)
                if answer is not None and not answer.done():
                    answer.set_result(reply)
        except (OSError, EOFError, FrameError):
            self.end()


async def _next_body(reader: asyncio.StreamReader) -> bytes:
    """Raises: EOFError (which ``IncompleteReadError`` is), OSError, FrameError."""
    return await reader.readexactly(frames.body_bytes(await reader.readexactly(frames.LENGTH_BYTES)))
