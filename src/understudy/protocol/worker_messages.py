"""Every message between a worker, or a tool, and its member's agent. One closed list.

They are apart from those between members because every web worker loads them, and needs none of the others. For both
lists: each message is safe to handle twice, and fields are only ever added, at the end and with a default.
"""

from __future__ import annotations

import enum
from typing import TypeVar

import msgspec

from understudy import limits
from understudy.errors import FrameError
from understudy.model.commit import Commit, Outcome, Replaced
from understudy.model.entry import Context, Entry


class AcknowledgeMode(enum.IntEnum):
    """When a commit is answered; the setting ``acknowledge``."""

    NONE = 0
    LOCAL = 1
    BACKUP = 2


class FetchOutcome(enum.IntEnum):
    """What a fetch found."""

    HERE = 1
    """It is primary here and may be served: read it in the store."""
    FOUND = 2
    """``entry`` is the primary's, as of now."""
    NOT_MODIFIED = 3
    UNKNOWN = 4
    """Nobody holds it: a new session may begin."""
    ENDED = 5
    UNAVAILABLE = 6
    """Nobody who may hold it answers now."""


class FetchAnswer(msgspec.Struct, frozen=True, array_like=True):
    """To FetchRequest, and inside Fetched (then without the entry, which travels as a delta)."""

    outcome: FetchOutcome
    primary: str = ""
    entry: Entry | None = None
    """On the asking member's store clock."""
    unprotected: bool = False
    """It shows a change that somebody was told is not protected, and that still is not."""


class CommitAnswer(msgspec.Struct, frozen=True, array_like=True):
    """To CommitRequest."""

    outcome: Outcome
    """COMMITTED (also for a repeated one), UNKNOWN, ENDED, FENCED, CONFLICT, OUTDATED, TOO_LARGE, STORE_FULL, or
    REFUSED: unprotected and ``unprotected = "refuse"``, or nobody answered. """
    protected: bool = False
    primary: str = ""
    incarnation: int = 0
    number: int = 0
    """With ``incarnation`` the commit's dot: what the values that it wrote now carry."""
    unsure: bool = False
    """With REFUSED: it may have been committed all the same."""
    found: Replaced = {}
    """With OUTDATED: the dots that the entry holds where the commit writes."""


class FetchRequest(msgspec.Struct, frozen=True, array_like=True, tag=65):
    """A session that the worker may not serve from the store by itself."""

    request: int
    key: bytes
    have: Context = {}
    route: str = ""


class CommitRequest(msgspec.Struct, frozen=True, array_like=True, tag=66):
    """What one request changed."""

    request: int
    key: bytes
    commit: Commit
    acknowledge: AcknowledgeMode
    unprotected_refused: bool = False
    route: str = ""


class SettleRequest(msgspec.Struct, frozen=True, array_like=True, tag=67):
    """Answer (with CommitAnswer) when this change of this session is acknowledged: a response shows it."""

    request: int
    key: bytes
    number: int


class TouchRequest(msgspec.Struct, frozen=True, array_like=True, tag=68):
    """The session was used ``age_ms`` ago. Never answered."""

    key: bytes
    age_ms: int = 0
    primary: str = ""
    """As the worker was told: for an agent that keeps no note of the session."""


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=69):
    """A worker's or tool's first frame."""

    format_version: int
    pid: int
    kind: str = "worker"


class Welcome(msgspec.Struct, frozen=True, array_like=True, tag=70):
    """The agent's first frame."""

    format_version: int
    member: str
    incarnation: int
    ready: bool


class ControlRequest(msgspec.Struct, frozen=True, array_like=True, tag=71):
    """What a tool asks: ``status``, ``locate``, ``drain``, ``stop``."""

    request: int
    verb: str
    argument: bytes = b""


class Reply(msgspec.Struct, frozen=True, array_like=True, tag=72):
    """The answer to the request of that number on the same connection; ``control`` is JSON."""

    request: int
    answer: FetchAnswer | None = None
    commit: CommitAnswer | None = None
    control: bytes | None = None


WorkerMessage = FetchRequest | CommitRequest | SettleRequest | TouchRequest | Hello | Welcome | ControlRequest | Reply
Request = FetchRequest | CommitRequest | SettleRequest | TouchRequest

_Message = TypeVar("_Message")
_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[WorkerMessage] = msgspec.msgpack.Decoder(WorkerMessage)


def encode(message: WorkerMessage) -> bytes:
    """The message as bytes. Cost: about 1 µs and its size."""
    return _ENCODER.encode(message)


def decode_worker_message(data: bytes | memoryview) -> WorkerMessage:
    """A message on the member's socket. Raises: FrameError."""
    return decoded(_DECODER, data)


def decoded(decoder: msgspec.msgpack.Decoder[_Message], data: bytes | memoryview) -> _Message:
    """What the decoder makes of a frame. Raises: FrameError if it is too large, malformed or of no known kind."""
    if len(data) > limits.FRAME_BYTES_MAX:
        raise FrameError(f"a frame of {len(data)} bytes exceeds the limit of {limits.FRAME_BYTES_MAX}")
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise FrameError(f"a frame could not be decoded: {error}") from error
