"""The bytes between a worker and its agent: frames, and the greeting that opens a connection."""

from __future__ import annotations

import os

import msgspec

from understudy import limits
from understudy.errors import FormatMismatch, FrameError
from understudy.protocol.worker_messages import (
    CommitAnswer,
    FetchAnswer,
    Hello,
    Reply,
    Request,
    TouchRequest,
    Welcome,
    WorkerMessage,
    decode_worker_message,
    encode,
)

LENGTH_BYTES = 4


def framed(message: WorkerMessage) -> bytes:
    """The message as a frame: its length in four bytes, big-endian, and its bytes."""
    body = encode(message)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def numbered(request: Request, number: int) -> bytes:
    """The request as a frame under its connection's number."""
    if isinstance(request, TouchRequest):
        return framed(request)
    return framed(msgspec.structs.replace(request, request=number))


def hello() -> bytes:
    return framed(Hello(limits.FORMAT_VERSION, os.getpid()))


def body_bytes(header: bytes | bytearray) -> int:
    """How long the frame's body is. Raises: FrameError beyond the limit."""
    length = int.from_bytes(header, "big")
    if length > limits.FRAME_BYTES_MAX:
        raise FrameError(f"the agent sent a frame of {length} bytes; the most is {limits.FRAME_BYTES_MAX}")
    return length


def taken(buffer: bytearray) -> list[bytes]:
    """The bodies of the frames that have come completely, taken out of ``buffer``. Raises: FrameError."""
    bodies, at = [], 0
    while len(buffer) - at >= LENGTH_BYTES:
        body_at = at + LENGTH_BYTES
        end = body_at + body_bytes(buffer[at:body_at])
        if end > len(buffer):
            break
        bodies.append(bytes(buffer[body_at:end]))
        at = end
    del buffer[:at]
    return bodies


def welcomed(body: bytes) -> Welcome:
    """The agent's first message. Raises: FrameError, FormatMismatch."""
    message = decode_worker_message(body)
    if not isinstance(message, Welcome):
        raise FrameError("the agent's first message was no Welcome; is something else listening on its socket?")
    if message.format_version != limits.FORMAT_VERSION:
        raise FormatMismatch(
            f"the agent of member {message.member!r} speaks format version {message.format_version}, this process"
            f" speaks {limits.FORMAT_VERSION}: both must run the same release; restart whichever is older"
        )
    return message


def replied(body: bytes) -> Reply:
    """A later message. Raises: FrameError."""
    message = decode_worker_message(body)
    if not isinstance(message, Reply):
        raise FrameError(f"the agent sent {type(message).__name__} where only replies may come")
    return message


def answer_in(reply: Reply) -> FetchAnswer | CommitAnswer:
    """Raises: FrameError when the reply holds neither."""
    answer = reply.answer if reply.answer is not None else reply.commit
    if answer is None:
        raise FrameError("the agent's reply holds no answer")
    return answer
