"""Serves the member's Unix socket: frames of workers and tools in, answers out; decides nothing about sessions.

A frame is four bytes of length, big-endian, and one message. The first one is Hello, answered by Welcome. Whatever
breaks these rules or a limit ends its connection, with a reason in the log; nobody else notices. Answers of one turn
of the agent leave in one write per connection.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, cast

import msgspec

from understudy import limits
from understudy.errors import FrameError
from understudy.model.commit import Outcome
from understudy.model.ids import KEY_BYTES
from understudy.protocol.commands import Abandoned, Requested, Ticket
from understudy.protocol.worker_messages import (
    CommitAnswer,
    CommitRequest,
    ControlRequest,
    FetchAnswer,
    FetchOutcome,
    FetchRequest,
    Hello,
    Reply,
    Request,
    SettleRequest,
    TouchRequest,
    Welcome,
    decode_worker_message,
    encode,
)

LENGTH_BYTES = 4
SOCKET_BACKLOG = 256
"""Connections that the kernel holds while a turn runs: all workers of a machine reconnect at once to a new agent."""
CLOSE_S_MAX = 1.0
"""How long the last answers may take to leave when the agent ends."""
WORKER = "worker"
SUPERVISOR = "supervisor"
SLOW_READER = "slow reader"
ATTACHED = (WORKER, SUPERVISOR)
"""Kinds of Hello for whose sake an agent stays."""

Answer = FetchAnswer | CommitAnswer


class Asked(NamedTuple):
    """An unanswered request."""

    connection: Connection
    number: int
    """The request's number on its connection."""
    bytes: int
    fetches: bool
    """It is answered by a FetchAnswer, else by a CommitAnswer."""


class Hooks(NamedTuple):
    """What the socket calls; each returns at once."""

    welcome: Callable[[], Welcome]
    submit: Callable[[Requested | Abandoned], None]
    control: Callable[[ControlRequest, Callable[[bytes], None]], None]
    """Answers with JSON, now or later."""
    attached: Callable[[int], None]
    """The number of connections for whose sake the agent stays has changed."""
    warn: Callable[[str, str], None]
    """What happened, and the details, for the log."""


class WorkerServer:
    """All connections of one agent, and the requests that are not answered yet."""

    def __init__(self, hooks: Hooks) -> None:
        self.hooks = hooks
        self.connections: set[Connection] = set()
        self.asked: dict[Ticket, Asked] = {}
        self.asked_bytes = 0
        self.unread_bytes = 0
        """Of frames that have not arrived completely, on all connections."""
        self._last_ticket = 0
        self._server: asyncio.Server | None = None
        self._unsent: set[Connection] = set()
        self._ended: asyncio.Event | None = None

    @property
    def attached(self) -> int:
        return sum(1 for connection in self.connections if connection.kind in ATTACHED)

    async def start(self, path: Path) -> None:
        """Listen at ``path``, for this user only; under the agent's lock, as it removes what was there."""
        path.unlink(missing_ok=True)
        self._ended = asyncio.Event()
        before = os.umask(0o177)
        try:
            self._server = await asyncio.get_running_loop().create_unix_server(
                lambda: Connection(self), str(path), backlog=SOCKET_BACKLOG
            )
        finally:
            os.umask(before)

    async def close(self) -> None:
        """Accept nothing more, let the last answers leave, end all connections."""
        if self._server is not None:
            self._server.close()
        self.flush()
        for connection in tuple(self.connections):
            connection.close()
        if self.connections and self._ended is not None:
            self._ended.clear()
            try:
                await asyncio.wait_for(self._ended.wait(), CLOSE_S_MAX)
            except TimeoutError:
                for connection in tuple(self.connections):
                    connection.abort()

    # --- answers ----------------------------------------------------------------------------------------------------

    def reply(self, ticket: Ticket, answer: Answer) -> None:
        """Answer a request with the next ``flush``; one whose worker has gone is nobody's."""
        asked = self._forget(ticket)
        if asked is not None:
            asked.connection.answer(asked.number, answer)

    def flush(self) -> None:
        """Send what has been answered since the last flush. Cost: one system call for each connection."""
        while self._unsent:
            self._unsent.pop().flush()

    def describe(self) -> dict[str, object]:
        """Gives what ``status`` tells of the socket."""
        return {
            "connections": [{"pid": c.pid, "kind": c.kind} for c in self.connections if c.kind],
            "requests": len(self.asked),
        }

    # --- what connections call --------------------------------------------------------------------------------------

    def made(self, connection: Connection) -> bool:
        """Take a new connection in, or False when there are too many."""
        if len(self.connections) >= limits.WORKER_CONNECTIONS_MAX:
            self.hooks.warn("connection refused", f"there are {len(self.connections)} connections already")
            return False
        self.connections.add(connection)
        return True

    def lost(self, connection: Connection) -> None:
        self.connections.discard(connection)
        self._unsent.discard(connection)
        for ticket in [ticket for ticket, asked in self.asked.items() if asked.connection is connection]:
            self._forget(ticket)
            self.hooks.submit(Abandoned(ticket))
        if connection.kind in ATTACHED:
            self.hooks.attached(self.attached)
        if not self.connections and self._ended is not None:
            self._ended.set()

    def has_unsent(self, connection: Connection) -> None:
        self._unsent.add(connection)

    def request(self, connection: Connection, request: Request, size: int) -> None:
        """Pass a request on under a ticket of its own, or answer at once that there are too many."""
        if isinstance(request, TouchRequest):
            self.hooks.submit(Requested(0, request))
            return
        fetches = isinstance(request, FetchRequest)
        if (
            len(self.asked) >= limits.REQUESTS_IN_FLIGHT_MAX
            or self.asked_bytes + size > limits.REQUESTS_IN_FLIGHT_BYTES_MAX
        ):
            answer = FetchAnswer(FetchOutcome.UNAVAILABLE) if fetches else CommitAnswer(Outcome.REFUSED)
            connection.answer(request.request, answer)
            connection.flush()
            return
        self._last_ticket += 1
        self.asked[self._last_ticket] = Asked(connection, request.request, size, fetches)
        self.asked_bytes += size
        self.hooks.submit(Requested(self._last_ticket, request))

    def _forget(self, ticket: Ticket) -> Asked | None:
        asked = self.asked.pop(ticket, None)
        if asked is not None:
            self.asked_bytes -= asked.bytes
        return asked


class Connection(asyncio.Protocol):
    """One worker or tool."""

    def __init__(self, server: WorkerServer) -> None:
        self.kind = ""
        """"" until its Hello."""
        self.pid = 0
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._unread = bytearray()
        self._out: list[bytes] = []
        self._is_ending = False

    # --- asyncio's --------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast(asyncio.Transport, transport)  # uvloop's is not of that class
        if not self._server.made(self):
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._drop_unread()
        self._is_ending, self._transport = True, None
        self._server.lost(self)

    def data_received(self, data: bytes) -> None:
        if self._is_ending:
            return
        try:
            if self._unread:
                self._unread += data
                self._server.unread_bytes += len(data)
                used = self._take(self._unread)
                if not self._is_ending:
                    del self._unread[:used]
                    self._server.unread_bytes -= used
            elif (used := self._take(data)) < len(data) and not self._is_ending:
                self._unread += data[used:]
                self._server.unread_bytes += len(data) - used
            if self._unread and self._server.unread_bytes > limits.SOCKET_UNREAD_BYTES_MAX:
                raise FrameError(f"incomplete frames hold more than {limits.SOCKET_UNREAD_BYTES_MAX} bytes")
        except FrameError as error:
            self._end("bad frame", str(error))

    # --- in ---------------------------------------------------------------------------------------------------------

    def _take(self, data: bytes | bytearray) -> int:
        """Handle the complete frames of ``data``; gives how many bytes they had. Raises: FrameError."""
        at = 0
        while len(data) - at >= LENGTH_BYTES and not self._is_ending:
            size = int.from_bytes(data[at : at + LENGTH_BYTES], "big")
            size_max = limits.FRAME_BYTES_MAX if self.kind else limits.HELLO_BYTES_MAX
            if size > size_max:
                raise FrameError(f"a frame of {size} bytes exceeds the limit of {size_max}")
            end = at + LENGTH_BYTES + size
            if end > len(data):
                break
            self._frame(bytes(data[at + LENGTH_BYTES : end]))
            at = end
        return at

    def _frame(self, frame: bytes) -> None:
        message = decode_worker_message(frame)
        if not self.kind:
            self._hello(message)
        elif isinstance(message, FetchRequest | CommitRequest | SettleRequest | TouchRequest):
            if len(message.key) != KEY_BYTES:
                raise FrameError(f"a key has {len(message.key)} bytes instead of {KEY_BYTES}")
            self._server.request(self, message, len(frame))
        elif isinstance(message, ControlRequest):
            number = message.request
            self._server.hooks.control(message, lambda json: self._control_answered(number, json))
        else:
            raise FrameError(f"{type(message).__name__} is no message for an agent")

    def _hello(self, message: object) -> None:
        if not isinstance(message, Hello):
            raise FrameError(f"the first message is {type(message).__name__}, not Hello")
        self._write(encode(self._server.hooks.welcome()))
        self.flush()
        if message.format_version != limits.FORMAT_VERSION:
            raise FrameError(
                f"process {message.pid} speaks format version {message.format_version}, this agent"
                f" {limits.FORMAT_VERSION}: restart the older one"
            )
        self.kind, self.pid = message.kind or WORKER, message.pid
        if self.kind in ATTACHED:
            self._server.hooks.attached(self._server.attached)

    def _drop_unread(self) -> None:
        self._server.unread_bytes -= len(self._unread)
        self._unread.clear()

    # --- out --------------------------------------------------------------------------------------------------------

    def answer(self, number: int, answer: Answer) -> None:
        """Answer one request with the next flush."""
        if isinstance(answer, FetchAnswer):
            frame = encode(Reply(number, answer=answer))
            if len(frame) > limits.FRAME_BYTES_MAX:
                self._server.hooks.warn("answer too large", f"an entry of {len(frame)} bytes")
                frame = encode(Reply(number, answer=FetchAnswer(FetchOutcome.UNAVAILABLE)))
        else:
            frame = encode(Reply(number, commit=answer))
        self._write(frame)

    def _control_answered(self, number: int, json: bytes) -> None:
        self._write(encode(Reply(number, control=json)))
        self.flush()

    def _write(self, frame: bytes) -> None:
        if not self._is_ending:
            self._out += (len(frame).to_bytes(LENGTH_BYTES, "big"), frame)
            self._server.has_unsent(self)

    def flush(self) -> None:
        transport, out = self._transport, self._out
        self._out = []
        if transport is None or not out:
            return
        transport.write(b"".join(out))
        if transport.get_write_buffer_size() > limits.SOCKET_UNSENT_BYTES_MAX:
            self._end(SLOW_READER, f"{transport.get_write_buffer_size()} bytes wait to be read")

    # --- the end ----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End it when everything written has left."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _end(self, what: str, why: str) -> None:
        if self._is_ending or self._transport is None:
            return
        whom = f"{self.kind or 'stranger'} {self.pid or ''}".strip()
        self._server.hooks.warn(what, f"connection of {whom} ended: {why}")
        self._is_ending = True
        self._drop_unread()
        # What was written before still leaves (a Welcome that tells our version); a slow reader gets nothing more.
        if what == SLOW_READER:
            self._transport.abort()
        else:
            self._transport.close()


def json_answer(document: object) -> bytes:
    """Gives the answer to a ControlRequest."""
    return msgspec.json.encode(document)
