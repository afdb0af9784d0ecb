"""Asks the member's agent over its socket, for blocking workers: one connection per process, any number of threads.

A thread that waits for an answer reads for all of them while no other does: alone it is one send and one receive.
Locks and sockets are the ordinary ones, so that gevent's patches make greenlets of the waiting.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Protocol

from understudy.client import frames
from understudy.errors import AgentUnavailable, FrameError, SessionUnavailable
from understudy.protocol.worker_messages import (
    CommitAnswer,
    ControlRequest,
    FetchAnswer,
    Reply,
    Request,
    TouchRequest,
    Welcome,
)

READ_BYTES = 65_536
RETRY_S = 0.01
"""Between two connections that ended at once: an agent that is starting or going."""
DROP_S_MAX = 1.0
"""For the rest of an answer that nobody waits for and whose beginning has come."""
NO_ANSWER = "the member's agent gave no answer in time; try again"
ENDS_CONNECTIONS = "the member's agent ends every connection; see its log"


class Connects(Protocol):
    """Gives a connected socket before a monotonic instant, starting the agent if need be. Raises: AgentUnavailable."""

    def connect(self, deadline_s: float) -> socket.socket: ...


class AgentLink:
    """The worker's link to its agent; opened by the first request, and again in a child of ``fork``."""

    def __init__(self, starter: Connects, *, agent_timeout_ms: int, commit_timeout_ms: int) -> None:
        self._starter = starter
        self._agent_timeout_s = agent_timeout_ms / 1000
        self._answer_timeout_s = (agent_timeout_ms + commit_timeout_ms) / 1000
        self._connection: _Connection | None = None
        self._lock = threading.Lock()
        self._pid = os.getpid()

    def ask(self, request: Request, *, waits: bool = True) -> FetchAnswer | CommitAnswer | None:
        """The answer; None at once if nobody waits for it. An agent that dies meanwhile is replaced and asked again.

        Raises: SessionUnavailable when no answer came within ``agent_timeout_ms`` (and ``commit_timeout_ms``, which
        the agent itself may take); AgentUnavailable; FormatMismatch.
        """
        waits = waits and not isinstance(request, TouchRequest)
        reply = self._exchange(lambda number: frames.numbered(request, number), waits=waits)
        return None if reply is None else frames.answer_in(reply)

    def control(self, verb: str, argument: bytes = b"") -> bytes:
        """The agent's JSON answer to a tool's question."""
        reply = self._exchange(lambda number: frames.framed(ControlRequest(number, verb, argument)), waits=True)
        assert reply is not None
        return reply.control or b"null"

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and connection.pid == os.getpid():
            connection.end()

    def _exchange(self, frame: Callable[[int], bytes], *, waits: bool) -> Reply | None:
        deadline_s = time.monotonic() + self._answer_timeout_s
        for pause_s in itertools.chain((0.0,), itertools.repeat(RETRY_S)):
            connection = self._connected(deadline_s)
            try:
                if not waits:
                    connection.tell(frame)
                    return None
                return connection.ask(frame, deadline_s)
            except TimeoutError:
                raise SessionUnavailable(NO_ANSWER) from None
            except (OSError, FrameError):
                # The agent has gone, with or without having done it: asked again, it applies a commit once, by its id.
                connection.end()
            if time.monotonic() >= deadline_s:
                break
            time.sleep(pause_s)
        raise SessionUnavailable(ENDS_CONNECTIONS)

    def _connected(self, deadline_s: float) -> _Connection:
        connection = self._connection
        if connection is not None and connection.alive and connection.pid == os.getpid():
            return connection
        if self._pid != os.getpid():
            # A child of fork: its parent's threads may have held the lock, and the connection is its parent's.
            self._pid, self._lock, self._connection = os.getpid(), threading.Lock(), None
        with self._lock:
            connection = self._connection
            if connection is None or not connection.alive:
                connection = self._connection = self._opened(min(deadline_s, time.monotonic() + self._agent_timeout_s))
            return connection

    def _opened(self, deadline_s: float) -> _Connection:
        while True:
            opened = self._starter.connect(deadline_s)
            try:
                opened.settimeout(self._answer_timeout_s)
                return _Connection(opened, deadline_s)
            except (OSError, FrameError) as error:
                opened.close()
                if time.monotonic() >= deadline_s:
                    raise AgentUnavailable(f"the member's agent does not greet ({error}); see its log") from error
            time.sleep(RETRY_S)


class _Waiting:
    """One unanswered request."""

    __slots__ = ("_turn", "reply")

    def __init__(self) -> None:
        self.reply: Reply | None = None
        self._turn = threading.Lock()
        """Free when something has happened. An Event would be made of a lock too, in twenty times the time."""
        self._turn.acquire()

    def wake(self) -> None:
        """Something has happened: the answer is here, the connection has ended, or nobody reads."""
        with contextlib.suppress(RuntimeError):  # it was free already
            self._turn.release()

    def wait(self, seconds: float) -> None:
        """Until something has happened since the last time."""
        self._turn.acquire(timeout=seconds)


class _Connection:
    """One socket, from the greeting to its end."""

    def __init__(self, opened: socket.socket, deadline_s: float) -> None:
        """Greets. Raises: OSError, FrameError, FormatMismatch."""
        self.pid = os.getpid()
        self.alive = True
        self._socket = opened
        self._buffer = bytearray()
        self._numbers = itertools.count(1)
        self._waiting: dict[int, _Waiting] = {}
        self._poll = select.poll()
        self._poll.register(opened, select.POLLIN)
        self._sending = threading.Lock()
        self._reading = threading.Lock()
        opened.sendall(frames.hello())
        self.welcome: Welcome = frames.welcomed(self._next_body(deadline_s))

    def ask(self, frame: Callable[[int], bytes], deadline_s: float) -> Reply:
        """Raises: OSError when the connection ended, TimeoutError, FrameError."""
        number = next(self._numbers)
        mine = self._waiting[number] = _Waiting()
        has_read = False
        try:
            self._send(frame(number))
            while mine.reply is None:
                if not self.alive:
                    raise ConnectionError("the agent has gone")
                if self._reading.acquire(blocking=False):
                    has_read = True
                    self._read(lambda: mine.reply is None, deadline_s)
                else:
                    mine.wait(max(0.0, deadline_s - time.monotonic()))
                    if mine.reply is None and time.monotonic() >= deadline_s:
                        raise TimeoutError
            return mine.reply
        finally:
            del self._waiting[number]
            if has_read or mine.reply is None:
                self._wake_one()

    def tell(self, frame: Callable[[int], bytes]) -> None:
        """Send without waiting; answers that nobody waits for are read and dropped, so that none pile up."""
        if self._reading.acquire(blocking=False):
            self._read(self._something_came, time.monotonic() + DROP_S_MAX)
            self._wake_one()
        self._send(frame(next(self._numbers)))

    def end(self) -> None:
        """Nothing comes any more: everybody who waits asks again elsewhere."""
        self.alive = False
        with contextlib.suppress(OSError):  # it has ended already
            self._socket.shutdown(socket.SHUT_RDWR)
        if self._reading.acquire(blocking=False):
            self._stop_reading()
        for waiting in list(self._waiting.values()):
            waiting.wake()

    def _read(self, goes_on: Callable[[], bool], deadline_s: float) -> None:
        """Hand out answers; the caller has become the one who reads."""
        try:
            while self.alive and goes_on():
                self._dispatch(self._next_body(deadline_s))
        finally:
            self._stop_reading()

    def _stop_reading(self) -> None:
        """Only who reads closes: the number of a closed descriptor is soon another file's."""
        if not self.alive:
            with self._sending:
                self._socket.close()
        self._reading.release()

    def _something_came(self) -> bool:
        return bool(self._buffer or self._poll.poll(0))

    def _send(self, data: bytes) -> None:
        with self._sending:
            try:
                self._socket.sendall(data)
            except TimeoutError as error:
                raise ConnectionError("the agent takes nothing any more") from error

    def _wake_one(self) -> None:
        """Somebody stopped reading: one who waits goes on with it."""
        for waiting in list(self._waiting.values()):
            if waiting.reply is None:
                waiting.wake()
                return

    def _dispatch(self, body: bytes) -> None:
        reply = frames.replied(body)
        waiting = self._waiting.get(reply.request)
        if waiting is not None:
            waiting.reply = reply
            waiting.wake()

    def _next_body(self, deadline_s: float) -> bytes:
        """The next frame's body. Raises: TimeoutError, OSError."""
        buffer = self._buffer
        wanted = frames.LENGTH_BYTES
        while len(buffer) < wanted:
            self._receive(deadline_s)
        wanted += frames.body_bytes(bytes(buffer[: frames.LENGTH_BYTES]))
        while len(buffer) < wanted:
            self._receive(deadline_s)
        body = bytes(buffer[frames.LENGTH_BYTES : wanted])
        del buffer[:wanted]
        return body

    def _receive(self, deadline_s: float) -> None:
        if time.monotonic() >= deadline_s:
            raise TimeoutError
        data = self._socket.recv(READ_BYTES)
        if not data:
            raise ConnectionError("the agent has gone")
        self._buffer += data
