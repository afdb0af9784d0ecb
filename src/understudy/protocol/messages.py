"""Every message between members, one closed list; those between a worker and its agent are named here, too.

Messages may be lost, repeated, delayed and reordered; each is safe to handle twice. Fields are only ever added, at
the end and with a default.
"""

from __future__ import annotations

import enum

import msgspec

from understudy.model.commit import Commit
from understudy.model.delta import Delta
from understudy.model.entry import NO_PROMISE, Context, Epoch, Location, Promise
from understudy.protocol.worker_messages import AcknowledgeMode as AcknowledgeMode
from understudy.protocol.worker_messages import CommitAnswer as CommitAnswer
from understudy.protocol.worker_messages import CommitRequest as CommitRequest
from understudy.protocol.worker_messages import ControlRequest as ControlRequest
from understudy.protocol.worker_messages import FetchAnswer as FetchAnswer
from understudy.protocol.worker_messages import FetchOutcome as FetchOutcome
from understudy.protocol.worker_messages import FetchRequest as FetchRequest
from understudy.protocol.worker_messages import Hello as Hello
from understudy.protocol.worker_messages import Reply as Reply
from understudy.protocol.worker_messages import Request as Request
from understudy.protocol.worker_messages import SettleRequest as SettleRequest
from understudy.protocol.worker_messages import TouchRequest as TouchRequest
from understudy.protocol.worker_messages import Welcome as Welcome
from understudy.protocol.worker_messages import WorkerMessage as WorkerMessage
from understudy.protocol.worker_messages import decode_worker_message as decode_worker_message
from understudy.protocol.worker_messages import decoded


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


class Entrust(msgspec.Struct, frozen=True, array_like=True, tag=28):
    """What the receiver lacks of sessions that it is to hold, under the lists as they will be when it has said so."""

    number: int
    copies: tuple[tuple[bytes, Delta], ...]


class Entrusted(msgspec.Struct, frozen=True, array_like=True, tag=29):
    """To Entrust: of these it has everything, in its store; with each for how long a lease runs on, see Acknowledge."""

    number: int
    keys: tuple[tuple[bytes, int], ...]


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
    | Entrust
    | Entrusted
    | AskSettings
    | ToldSettings
)

_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[MemberMessage] = msgspec.msgpack.Decoder(MemberMessage)


def encode(message: MemberMessage | WorkerMessage) -> bytes:
    """The message as bytes. Cost: about 1 µs and its size."""
    return _ENCODER.encode(message)


def decode_member_message(data: bytes | memoryview) -> MemberMessage:
    """A message from a peer. Raises: FrameError if it is too large, malformed or of no known kind."""
    return decoded(_DECODER, data)
