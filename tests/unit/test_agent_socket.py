"""The agent's Unix socket: frames, tickets, limits, and what hostile or careless processes can do to it."""

from __future__ import annotations

import asyncio
import os
import random
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from understudy import limits
from understudy.agent.socket import Hooks, WorkerServer, json_answer
from understudy.model.commit import Commit, Outcome
from understudy.protocol.commands import Abandoned, Requested
from understudy.protocol.messages import (
    AcknowledgeMode,
    CommitAnswer,
    CommitRequest,
    ControlRequest,
    FetchAnswer,
    FetchOutcome,
    FetchRequest,
    Hello,
    Reply,
    SettleRequest,
    TouchRequest,
    Welcome,
    WorkerMessage,
    decode_worker_message,
    encode,
)

KEY = bytes(range(16))
VERSION = limits.FORMAT_VERSION


class Bench:
    """A server with everything it was told, and clients of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.events: list[Requested | Abandoned] = []
        self.warnings: list[tuple[str, str]] = []
        self.attached: list[int] = []
        self.arrived = asyncio.Event()
        self.server = WorkerServer(Hooks(self._welcome, self._submit, self._control, self.attached.append, self._warn))

    def _welcome(self) -> Welcome:
        return Welcome(VERSION, "a", 7, True)

    def _submit(self, event: Requested | Abandoned) -> None:
        self.events.append(event)
        self.arrived.set()

    def _control(self, request: ControlRequest, answer: Callable[[bytes], None]) -> None:
        answer(json_answer({"verb": request.verb}))

    def _warn(self, what: str, detail: str) -> None:
        self.warnings.append((what, detail))
        self.arrived.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let the loop run until something that was told makes the condition true."""
        while not condition():
            self.arrived.clear()
            await self.arrived.wait()

    async def client(self, hello: WorkerMessage | None = None) -> Client:
        reader, writer = await asyncio.open_unix_connection(str(self.path))
        client = Client(reader, writer)
        if hello is not None:
            client.send(hello)
            assert isinstance(await client.receive(), Welcome)
        return client


class Client:
    """A process at the other end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, *messages: WorkerMessage) -> None:
        self.writer.write(b"".join(framed(encode(message)) for message in messages))

    async def receive(self) -> WorkerMessage:
        size = int.from_bytes(await self.reader.readexactly(4), "big")
        return decode_worker_message(await self.reader.readexactly(size))

    async def ended(self) -> bool:
        """True once the other end is gone; what it still had to say is read and dropped."""
        try:
            while await self.reader.read(65536):
                pass
        except ConnectionError:
            pass
        return True


def framed(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


def on_bench(tmp_path: Path, play: Callable[[Bench], Awaitable[None]]) -> Bench:
    """Run one scene with a listening server."""

    async def scene() -> Bench:
        bench = Bench(tmp_path / "agent.sock")
        await bench.server.start(bench.path)
        try:
            await asyncio.wait_for(play(bench), 30)
        finally:
            await bench.server.close()
        return bench

    return asyncio.run(scene())


def worker(pid: int = 1) -> Hello:
    return Hello(VERSION, pid)


def commit_request(number: int, value: bytes = b"1") -> CommitRequest:
    return CommitRequest(number, KEY, Commit(bytes(8), bytes(16), {"a": value}), AcknowledgeMode.BACKUP)


def test_answers_reach_the_request_that_asked(tmp_path: Path) -> None:
    """Two workers use the same request numbers, and each answer goes to the connection and number that asked."""

    async def play(bench: Bench) -> None:
        one, two = await bench.client(worker(1)), await bench.client(worker(2))
        one.send(FetchRequest(5, KEY), commit_request(6))
        await bench.until(lambda: len(bench.events) == 2)
        two.send(SettleRequest(5, KEY, 9))
        await bench.until(lambda: len(bench.events) == 3)
        fetch, commit, settle = (e.ticket for e in bench.events if isinstance(e, Requested))
        bench.server.reply(settle, CommitAnswer(Outcome.COMMITTED, number=3))
        bench.server.reply(commit, CommitAnswer(Outcome.CONFLICT))
        bench.server.reply(fetch, FetchAnswer(FetchOutcome.HERE))
        bench.server.flush()
        assert await two.receive() == Reply(5, commit=CommitAnswer(Outcome.COMMITTED, number=3))
        assert await one.receive() == Reply(6, commit=CommitAnswer(Outcome.CONFLICT))
        assert await one.receive() == Reply(5, answer=FetchAnswer(FetchOutcome.HERE))
        assert not bench.server.asked and bench.server.asked_bytes == 0

    on_bench(tmp_path, play)


def test_frames_arrive_in_any_pieces(tmp_path: Path) -> None:
    """Frames cut at every byte, and many in one piece, are the same messages."""

    async def play(bench: Bench) -> None:
        client = await bench.client()
        stream = framed(encode(worker())) + b"".join(framed(encode(FetchRequest(n, KEY))) for n in range(1, 4))
        for byte in stream:
            client.writer.write(bytes([byte]))
            await client.writer.drain()
            await asyncio.sleep(0)
        await bench.until(lambda: len(bench.events) == 3)
        client.send(*(FetchRequest(n, KEY) for n in range(4, 100)))
        await bench.until(lambda: len(bench.events) == 99)
        asked = [e.request.request for e in bench.events if isinstance(e, Requested) and hasattr(e.request, "request")]
        assert asked == list(range(1, 100))
        assert bench.server.unread_bytes == 0

    on_bench(tmp_path, play)


HOSTILE: dict[str, bytes] = {
    "a request before Hello": framed(encode(FetchRequest(1, KEY))),
    "a Hello that is too large": framed(encode(Hello(VERSION, 1, "x" * limits.HELLO_BYTES_MAX))),
    "no msgpack at all": framed(b"GET / HTTP/1.1\r\n\r\n"),
    "HTTP": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "an empty frame": framed(b""),
    "deep nesting": framed(b"\x91" * 900),
    "an unknown kind": framed(b"\x91\xcd\x7f\xff"),
}
HOSTILE_LATER: dict[str, bytes] = {
    "a length beyond the limit": (limits.FRAME_BYTES_MAX + 1).to_bytes(4, "big"),
    "the longest length": b"\xff\xff\xff\xff",
    "a message for workers": framed(encode(Welcome(VERSION, "a", 1, True))),
    "a second Hello": framed(encode(Hello(VERSION, 1))),
    "a short key": framed(encode(FetchRequest(1, b"short"))),
    "a truncated message": framed(encode(commit_request(1))[:-3]),
    "very deep nesting": framed(b"\x91" * 1_000_000),
    "noise": framed(random.Random(52).randbytes(5_000)),
}


@pytest.mark.parametrize("what", [*HOSTILE, *HOSTILE_LATER])
def test_a_hostile_connection_ends_alone(tmp_path: Path, what: str) -> None:
    """S52: a malformed, oversized, nested or unexpected frame ends its connection with a reason, and no other."""

    async def play(bench: Bench) -> None:
        good = await bench.client(worker(1))
        bad = await bench.client(None if what in HOSTILE else worker(666))
        bad.writer.write(HOSTILE.get(what) or HOSTILE_LATER[what])
        assert await bad.ended()
        await bench.until(lambda: bool(bench.warnings))
        kind, detail = bench.warnings[0]
        assert kind == "bad frame" and ("stranger" if what in HOSTILE else "worker 666") in detail
        assert not [e for e in bench.events if isinstance(e, Requested)]
        good.send(FetchRequest(1, KEY))
        await bench.until(lambda: len(bench.events) == 1)

    on_bench(tmp_path, play)


def test_another_format_version_is_told_ours(tmp_path: Path) -> None:
    """S20: a worker of another format version reads ours in the Welcome, and then the connection ends."""

    async def play(bench: Bench) -> None:
        client = await bench.client()
        client.send(Hello(VERSION + 1, 12))
        welcome = await client.receive()
        assert isinstance(welcome, Welcome) and welcome.format_version == VERSION
        assert await client.ended()
        assert "restart the older one" in bench.warnings[0][1]
        assert bench.attached == []

    on_bench(tmp_path, play)


def test_too_many_connections_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """S52: beyond the limit a new connection ends at once, and those that are there go on."""
    monkeypatch.setattr(limits, "WORKER_CONNECTIONS_MAX", 2)

    async def play(bench: Bench) -> None:
        first, _ = await bench.client(worker(1)), await bench.client(worker(2))
        third = await bench.client()
        assert await third.ended()
        assert bench.warnings[0][0] == "connection refused"
        first.send(FetchRequest(1, KEY))
        await bench.until(lambda: len(bench.events) == 1)

    on_bench(tmp_path, play)


@pytest.mark.parametrize("limit", ["REQUESTS_IN_FLIGHT_MAX", "REQUESTS_IN_FLIGHT_BYTES_MAX"])
def test_too_many_requests_are_answered_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    """Beyond the number or the bytes of unanswered requests, fetches are unavailable and commits refused, at once."""
    size = len(encode(FetchRequest(1, KEY)))
    monkeypatch.setattr(limits, limit, 1 if limit == "REQUESTS_IN_FLIGHT_MAX" else size)

    async def play(bench: Bench) -> None:
        client = await bench.client(worker())
        client.send(FetchRequest(1, KEY), FetchRequest(2, KEY), commit_request(3))
        assert await client.receive() == Reply(2, answer=FetchAnswer(FetchOutcome.UNAVAILABLE))
        assert await client.receive() == Reply(3, commit=CommitAnswer(Outcome.REFUSED))
        assert len(bench.events) == 1
        [event] = bench.events
        bench.server.reply(event.ticket, FetchAnswer(FetchOutcome.UNKNOWN))
        bench.server.flush()
        assert await client.receive() == Reply(1, answer=FetchAnswer(FetchOutcome.UNKNOWN))

    on_bench(tmp_path, play)


def test_a_slow_reader_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """S52: a process that asks and never reads holds a bounded number of bytes, then loses its connection."""
    monkeypatch.setattr(limits, "SOCKET_UNSENT_BYTES_MAX", 100_000)

    async def play(bench: Bench) -> None:
        client = await bench.client(worker(9))
        client.writer.transport.pause_reading()
        number = 0
        while not bench.warnings:
            number += 1
            client.send(ControlRequest(number, "x" * 1_000))
            await client.writer.drain()
            await asyncio.sleep(0)
        assert bench.warnings[0][0] == "slow reader"
        assert number < 100_000

    on_bench(tmp_path, play)


def test_incomplete_frames_are_bounded_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """S52: many connections that begin large frames and never end them cannot fill the agent's memory."""
    monkeypatch.setattr(limits, "SOCKET_UNREAD_BYTES_MAX", 1_000_000)

    async def play(bench: Bench) -> None:
        clients = [await bench.client(worker(n)) for n in range(4)]
        for client in clients:
            client.writer.write(limits.FRAME_BYTES_MAX.to_bytes(4, "big") + bytes(400_000))
        await bench.until(lambda: bool(bench.warnings))
        assert "incomplete frames" in bench.warnings[0][1]
        assert bench.server.unread_bytes <= 1_000_000

    on_bench(tmp_path, play)


def test_a_worker_that_goes_abandons_its_requests(tmp_path: Path) -> None:
    """S24: when a worker dies its unanswered requests are abandoned, and a late answer harms nobody."""

    async def play(bench: Bench) -> None:
        client, other = await bench.client(worker(1)), await bench.client(worker(2))
        client.send(FetchRequest(1, KEY))
        other.send(FetchRequest(1, KEY))
        await bench.until(lambda: len(bench.events) == 2)
        gone = next(t for t, asked in bench.server.asked.items() if asked.connection.pid == 1)
        client.writer.close()
        await bench.until(lambda: len(bench.events) == 3)
        assert bench.events[2] == Abandoned(gone)
        bench.server.reply(gone, FetchAnswer(FetchOutcome.UNKNOWN))
        bench.server.flush()
        assert len(bench.server.asked) == 1

    on_bench(tmp_path, play)


def test_a_touch_is_passed_on_and_never_answered(tmp_path: Path) -> None:
    """A touch holds no ticket; the next request is answered first."""

    async def play(bench: Bench) -> None:
        client = await bench.client(worker())
        client.send(TouchRequest(KEY, 5), ControlRequest(1, "status"))
        assert await client.receive() == Reply(1, control=b'{"verb":"status"}')
        assert bench.events == [Requested(0, TouchRequest(KEY, 5))]
        assert not bench.server.asked

    on_bench(tmp_path, play)


def test_workers_and_supervisors_keep_an_agent_and_tools_do_not(tmp_path: Path) -> None:
    """The number of connections for whose sake the agent stays follows workers and supervisors only."""

    async def play(bench: Bench) -> None:
        first = await bench.client(worker(1))
        await bench.client(Hello(VERSION, 2, "tool"))
        second = await bench.client(Hello(VERSION, 3, "supervisor"))
        assert bench.attached == [1, 2]
        for client, left in ((first, 1), (second, 0)):
            client.writer.close()
            while bench.attached[-1] != left:
                await asyncio.sleep(0)

    on_bench(tmp_path, play)


def test_the_socket_is_private_and_replaces_a_dead_ones(tmp_path: Path) -> None:
    """S23: the socket file that a killed agent left is replaced; the new one is for this user only."""
    path = tmp_path / "agent.sock"
    path.write_bytes(b"left over")

    async def play(bench: Bench) -> None:
        status = os.stat(bench.path)
        assert stat.S_ISSOCK(status.st_mode) and stat.S_IMODE(status.st_mode) == 0o600
        await bench.client(worker())

    on_bench(tmp_path, play)


def test_the_last_answers_leave_before_the_end(tmp_path: Path) -> None:
    """An answer given in the agent's last moment still reaches the worker."""

    async def scene() -> None:
        bench = Bench(tmp_path / "agent.sock")
        await bench.server.start(bench.path)
        client = await bench.client(worker())
        client.send(FetchRequest(1, KEY))
        await bench.until(lambda: len(bench.events) == 1)
        bench.server.reply(bench.events[0].ticket, FetchAnswer(FetchOutcome.HERE))
        closing = asyncio.create_task(bench.server.close())
        assert await client.receive() == Reply(1, answer=FetchAnswer(FetchOutcome.HERE))
        assert await client.ended()
        client.writer.close()
        await closing

    asyncio.run(asyncio.wait_for(scene(), 30))
