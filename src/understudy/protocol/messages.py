"""Every message: between members, and between a worker and its member's agent. One closed list each.

Messages may be lost, repeated, delayed and reordered; each is safe to handle twice. Fields are only ever added, at
the end and with a default.
"""

from __future__ import annotations

import enum
from typing import TypeVar

import msgspec

from understudy import limits
from understudy.errors import FrameError
from understudy.model.commit import Commit, Outcome, Replaced
from understudy.model.delta import Delta
from understudy.model.entry import NO_PROMISE, Context, Entry, Epoch, Location, Promise

# --- between members ---------------------------------------------------------------------------------------


class Heartbeat(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Says "I am alive": asks for a lease counted from ``sent_ms`` on the sender's clock."""

    sent_ms: int
    leaving: bool = False
    ready: bool = True
    zone: str = ""
    remembers_ms: int = 0
    """How long ago the sender's memory begins: since then it was never away for longer than ``forget_ms``."""
    agreed: int = 0
    """Digest of the settings that all members should have alike, see ``agreement``."""


class HeartbeatAck(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Grants it: until ``sent_ms + lease_ms`` the sender acknowledges no write as a successor of the receiver."""

    sent_ms: int
    reads: bool = False
    """And a read lease: until then it acknowledges no change of its sessions that the receiver lacks."""
    fence: int = 0
    """How often the sender has promised to others, or taken, sessions of which it knew the receiver as primary. While
    that is more than the receiver has learned of by comparing, there is no lease in this answer."""


class Replicate(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """The primary's entry for a holder, as a delta to what that holder has acknowledged."""

    key: bytes
    number: int
    """The primary's change number that this brings; echoed in the answer."""
    delta: Delta


class Acknowledge(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """The holder has everything up to ``number``, in its store; ``context`` is the base for the next delta."""

    key: bytes
    number: int
    context: Context
    hold_ms: int = 0
    """How long a lease runs on that it has granted to a former primary, without having promised not to count on it."""


class AskWhole(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """The holder lacks the delta's base."""

    key: bytes
    number: int


class Refuse(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """The holder knows a higher epoch, a higher promise, or that the session has ended."""

    key: bytes
    number: int
    location: Location
    promised: Promise


class Release(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """The primary needs this copy no longer: every member of the list of ``location`` has the whole entry."""

    key: bytes
    location: Location


class Question(msgspec.Struct, frozen=True, array_like=True):
    """One key of an inquiry: the reign that the asker wants, and what it has."""

    key: bytes
    promise: Promise
    context: Context
    location: Location


class Ask(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """Before a promotion: what do you hold beyond this, and will you acknowledge nothing under a lower reign?"""

    inquiry: int
    questions: tuple[Question, ...]


class Verdict(enum.IntEnum):
    """How a member answers about one key."""

    NOTHING = 1
    """No data beyond what the asker has; in an inquiry: promised."""
    HOLDS = 2
    """``delta`` is what the asker lacks; in an inquiry: promised."""
    PRIMARY = 3
    """I am its primary."""
    HEARD = 4
    """I hear its primary: do not promote, relay through me."""
    REFUSED = 5
    """A higher promise or epoch is known here; ``location`` tells."""
    ENDED = 6
    """The session was deleted."""
    UNKNOWN = 7
    """No entry at all."""


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """One key's answer in Answers and Compared."""

    key: bytes
    verdict: Verdict
    location: Location | None = None
    delta: Delta | None = None
    promised: Promise = NO_PROMISE
    """In a comparison: the highest reign that the answerer has promised; in an inquiry the one that it refuses for."""


class Answers(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """To Ask: one answer a question."""

    inquiry: int
    answers: tuple[Answer, ...]
    holds: dict[str, int] = {}
    """How long the leases run on, in ms, that the answerer has granted to members that may be primary of these keys."""


class Item(msgspec.Struct, frozen=True, array_like=True):
    """One key of a comparison: what the sender holds."""

    key: bytes
    epoch: Epoch
    context: Context
    holds: bool = True
    """False: it knows the place alone, and wants no data."""


class Compare(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """A member that was away, or whose lease lapsed, tells what it holds: who knows better?"""

    comparison: int
    items: tuple[Item, ...]


class Compared(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """To Compare: HOLDS with the whole entry where the answerer is ahead in epoch or data, else what it knows."""

    comparison: int
    answers: tuple[Answer, ...]


class Contribute(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """What a member that stepped down holds and the primary lacks. Answered by Acknowledge."""

    key: bytes
    number: int
    delta: Delta


class Announce(msgspec.Struct, frozen=True, array_like=True, tag=13):
    """Where sessions are, for those who hold no copy; also that they have ended."""

    places: tuple[tuple[bytes, Location], ...]


class Forget(msgspec.Struct, frozen=True, array_like=True, tag=14):
    """Their primary has expired these sessions; a copy that was used since then is kept and said."""

    keys: tuple[tuple[bytes, Epoch], ...]


class AskPlaces(msgspec.Struct, frozen=True, array_like=True, tag=15):
    """Where are your sessions with keys above ``after`` up to ``upto``? Answered by Places, a page at a time."""

    after: bytes
    upto: bytes
    differs: bool = False
    """Your Digest of this range is not what I find: look at the copies that you have given me, too."""


class Accessed(msgspec.Struct, frozen=True, array_like=True, tag=16):
    """Access times as ages in ms, to the primary from who served, and from the primary to its backups."""

    ages: tuple[tuple[bytes, int], ...]
    sent_ms: int = 0
    """On the sender's clock, as in a heartbeat."""


class Fetch(msgspec.Struct, frozen=True, array_like=True, tag=17):
    """Give me the entry, or find it for me: the receiver routes it on if it is not the primary."""

    request: int
    key: bytes
    have: Context
    hops: int
    claims: str = ""
    """The primary that gave the sender no answer: a holder that does not hear it either asks and promotes itself."""


class Fetched(msgspec.Struct, frozen=True, array_like=True, tag=18):
    """To Fetch. ``delta`` is whole, or absent when the asker has it all already."""

    request: int
    answer: FetchAnswer
    location: Location | None = None
    delta: Delta | None = None


class Forward(msgspec.Struct, frozen=True, array_like=True, tag=19):
    """A commit for the session's primary; routed on like Fetch."""

    request: int
    key: bytes
    commit: Commit
    acknowledge: AcknowledgeMode
    unprotected_refused: bool
    hops: int
    sent_ms: int = 0
    """On the sender's clock, as in its heartbeats: one that was under way for too long is not applied any more."""
    claims: str = ""
    """As in Fetch."""


class Forwarded(msgspec.Struct, frozen=True, array_like=True, tag=20):
    """To Forward: how the commit went, after it was protected as asked."""

    request: int
    answer: CommitAnswer


class Locate(msgspec.Struct, frozen=True, array_like=True, tag=21):
    """One question to all members: who knows this valid id?"""

    request: int
    key: bytes


class Located(msgspec.Struct, frozen=True, array_like=True, tag=22):
    """To Locate; ``location`` is None if the answerer knows nothing. ``view``: the members alive as it sees them;
    ``lost``: those of which a life was lost lately; ``empty``: its own has begun with an empty store."""

    request: int
    key: bytes
    location: Location | None
    view: tuple[str, ...]
    lost: tuple[str, ...] = ()
    empty: bool = False


class Places(msgspec.Struct, frozen=True, array_like=True, tag=23):
    """To AskPlaces: those above ``after`` up to ``upto`` of which the asker holds no copy. The next page is above."""

    after: bytes
    upto: bytes
    places: tuple[tuple[bytes, Location], ...]
    differs: bool = False


class Digest(msgspec.Struct, frozen=True, array_like=True, tag=24):
    """Of the sender's sessions with keys above ``after`` up to ``upto`` the receiver should know this."""

    after: bytes
    upto: bytes
    count: int
    sum: int
    """Of the hashes of their keys and epochs, and of the contexts of those that it holds."""


class Confirm(msgspec.Struct, frozen=True, array_like=True, tag=25):
    """Everybody who may read these sessions in place has what these contexts contain; None: knows that it has ended."""

    contexts: tuple[tuple[bytes, Context | None], ...]


# --- between a worker and its agent -----------------------------------------------------------------------


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


class AskSettings(msgspec.Struct, frozen=True, array_like=True, tag=26):
    """Asks for the settings behind a digest that is not the asker's."""


class ToldSettings(msgspec.Struct, frozen=True, array_like=True, tag=27):
    """Their names and values, as people write them."""

    agreed: tuple[tuple[str, str], ...]


MemberMessage = (
    Heartbeat
    | HeartbeatAck
    | Replicate
    | Acknowledge
    | AskWhole
    | Refuse
    | Release
    | Ask
    | Answers
    | Compare
    | Compared
    | Contribute
    | Announce
    | Forget
    | AskPlaces
    | Accessed
    | Fetch
    | Fetched
    | Forward
    | Forwarded
    | Locate
    | Located
    | Places
    | Digest
    | Confirm
    | AskSettings
    | ToldSettings
)
WorkerMessage = FetchRequest | CommitRequest | SettleRequest | TouchRequest | Hello | Welcome | ControlRequest | Reply
Request = FetchRequest | CommitRequest | SettleRequest | TouchRequest

_Message = TypeVar("_Message")
_ENCODER = msgspec.msgpack.Encoder()
_MEMBER_DECODER: msgspec.msgpack.Decoder[MemberMessage] = msgspec.msgpack.Decoder(MemberMessage)
_WORKER_DECODER: msgspec.msgpack.Decoder[WorkerMessage] = msgspec.msgpack.Decoder(WorkerMessage)


def encode(message: MemberMessage | WorkerMessage) -> bytes:
    """The message as bytes. Cost: about 1 µs and its size."""
    return _ENCODER.encode(message)


def decode_member_message(data: bytes | memoryview) -> MemberMessage:
    """A message from a peer. Raises: FrameError if it is too large, malformed or of no known kind."""
    return _checked(_MEMBER_DECODER, data)


def decode_worker_message(data: bytes | memoryview) -> WorkerMessage:
    """A message on the member's socket. Raises: FrameError."""
    return _checked(_WORKER_DECODER, data)


def _checked(decoder: msgspec.msgpack.Decoder[_Message], data: bytes | memoryview) -> _Message:
    if len(data) > limits.FRAME_BYTES_MAX:
        raise FrameError(f"a frame of {len(data)} bytes exceeds the limit of {limits.FRAME_BYTES_MAX}")
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise FrameError(f"a frame could not be decoded: {error}") from error
