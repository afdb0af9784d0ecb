"""Claims of the asyncio link's connection, by what it writes and what it is given: no socket, no agent."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from understudy import limits
from understudy.client import frames
from understudy.client.async_link import _Connection
from understudy.errors import FrameError
from understudy.protocol.messages import (
    FetchAnswer,
    FetchOutcome,
    FetchRequest,
    Reply,
    Welcome,
    decode_worker_message,
)

KEY = b"k" * 16


class Written(asyncio.Transport):
    """A connection's other end: keeps the numbers of the requests in each write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[list[int]] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        messages = [decode_worker_message(body) for body in frames.taken(bytearray(data))]
        self.writes.append([message.request for message in messages if isinstance(message, FetchRequest)])

    def close(self) -> None:
        pass


def test_what_tasks_ask_at_once_leaves_in_one_write() -> None:
    """The first leaves at once, those behind it together when the loop has been around; so does one that is alone."""

    async def main() -> None:
        connection, end = _Connection(), Written()
        connection.connection_made(end)
        connection.data_received(frames.framed(Welcome(limits.FORMAT_VERSION, "a", 1, True)))
        asking = [
            asyncio.create_task(connection.ask(partial(frames.numbered, FetchRequest(0, KEY, {}, f"r{n}"))))
            for n in range(5)
        ]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert end.writes == [[], [1], [2, 3, 4, 5]], "a greeting, then two"
        replies = [Reply(n, answer=FetchAnswer(FetchOutcome.UNKNOWN, f"p{n}")) for n in (5, 3, 1, 2, 4)]
        connection.data_received(b"".join(map(frames.framed, replies)))
        assert [frames.answer_in(await task) for task in asking] == [
            FetchAnswer(FetchOutcome.UNKNOWN, f"p{n}") for n in range(1, 6)
        ]
        alone = asyncio.create_task(connection.ask(partial(frames.numbered, FetchRequest(0, KEY))))
        await asyncio.sleep(0)
        assert end.writes[-1] == [6]
        connection.end()
        with pytest.raises(ConnectionError):
            await alone

    asyncio.run(main())


def test_frames_are_taken_out_wherever_they_are_cut() -> None:
    """What has not come completely stays, and nothing is lost or taken twice."""
    bodies = [b"", b"one", b"x" * 300]
    stream = b"".join(len(body).to_bytes(4, "big") + body for body in bodies)
    for cut in range(len(stream) + 1):
        buffer = bytearray(stream[:cut])
        taken = frames.taken(buffer)
        buffer += stream[cut:]
        assert taken + frames.taken(buffer) == bodies and not buffer
    with pytest.raises(FrameError):
        frames.taken(bytearray(b"\xff\xff\xff\xff"))
