"""What goes into the engine and what comes out: events (past), commands (imperative), facts (for people).

These lists are closed. The engine never acts: the executor carries commands out, in order, and feeds the results
back as events. Entries appear in events while they are handled and are never kept.

They are structs because millions are made: quicker to make and to read than tuples with names, and nothing for the
garbage collector, as no cycle can go through what never changes.
"""

from __future__ import annotations

import enum

from msgspec import Struct

from understudy.model.commit import Commit, Outcome
from understudy.model.delta import Delta
from understudy.model.entry import Entry, Epoch, Location, Promise, Times
from understudy.protocol.facts import Fact as Fact
from understudy.protocol.facts import FactKind as FactKind
from understudy.protocol.messages import CommitAnswer, FetchAnswer, Item, MemberMessage, Request
from understudy.protocol.settings import Settings as Settings

Ticket = int
"""Names one request of a worker; the executor knows which connection it belongs to."""

# --- changes: pure functions of model, by name and arguments -----------------------------------------------


class DoCommit(Struct, frozen=True, gc=False):
    """commit.committed, or commit.created with ``backups`` for a new session."""

    job: int
    commit: Commit
    backups: tuple[str, ...] = ()


class Touch(Struct, frozen=True, gc=False):
    age_ms: int
    forward: bool = False
    """Came from a worker or a proxy: tell the primary or the backups, too, and ``primary`` if nothing is known here."""
    primary: str = ""


class CopyIn(Struct, frozen=True, gc=False):
    """roles.copied: a Replicate or Entrust from ``sender``."""

    sender: str
    number: int
    delta: Delta
    entrusted: bool = False
    """Came with others in an Entrust of that number, and is answered with them."""


class Learn(Struct, frozen=True, gc=False):
    """roles.learned."""

    location: Location
    sender: str = ""


class GivePromise(Struct, frozen=True, gc=False):
    """roles.promised, for one question of an inquiry of ``sender``."""

    sender: str
    inquiry: int
    promise: Promise
    context: dict[int, int]
    location: Location
    heard: frozenset[str]


class Promote(Struct, frozen=True, gc=False):
    """roles.promoted."""

    promise: Promise
    backups: tuple[str, ...]
    found: tuple[Delta, ...]
    hold_ms: int


class SetBackups(Struct, frozen=True, gc=False):
    """roles.listed; ``released`` are told once the change is stored."""

    backups: tuple[str, ...]
    released: tuple[str, ...] = ()


class Relist(Struct, frozen=True, gc=False):
    """roles.relisted: who was entrusted has everything; ``released`` are told once the change is stored."""

    backups: tuple[str, ...]
    released: tuple[str, ...]
    epoch: Epoch
    context: dict[int, int]
    times: Times
    hold_ms: int
    """How long no change of the session may be acknowledged: one of them had granted a former primary a lease."""


class HandOver(Struct, frozen=True, gc=False):
    """roles.handed_over."""

    to: str
    moves: bool = False
    """To the member that serves the session, not because this one leaves."""


class StepDown(Struct, frozen=True, gc=False):
    """roles.stepped_down; which commits nobody was answered for, the outbox tells."""

    whole: Delta


class TakeContribution(Struct, frozen=True, gc=False):
    """roles.contributed."""

    sender: str
    number: int
    delta: Delta


class Outbid(Struct, frozen=True, gc=False):
    """roles.outbid: a holder has promised ``promise`` to somebody else."""

    promise: Promise


class FinishLives(Struct, frozen=True, gc=False):
    """roles.lives_finished."""

    incarnations: tuple[int, ...]


class ReleaseCopy(Struct, frozen=True, gc=False):
    """roles.released."""

    epoch: Epoch


class ConfirmCopy(Struct, frozen=True, gc=False):
    """A copy that holds no more than ``context`` may be shown in place; None: its end may be told."""

    context: dict[int, int] | None


class Expire(Struct, frozen=True, gc=False):
    """Remove an entry that is due: an expired primary, a tombstone past its time."""


class Discard(Struct, frozen=True, gc=False):
    """Remove an entry of a store that was away for too long."""


class ForgetCopy(Struct, frozen=True, gc=False):
    """Remove a copy or proxy whose primary has expired the session, unless the copy was used since."""

    epoch: Epoch
    exactly: bool = False
    """Its primary may have lost it instead: the copy's own time has to be over."""


class DropLost(Struct, frozen=True, gc=False):
    """Remove a proxy entry none of whose holders lives any more."""

    epoch: Epoch


What = (
    DoCommit
    | Touch
    | CopyIn
    | Learn
    | GivePromise
    | Promote
    | SetBackups
    | Relist
    | FinishLives
    | HandOver
    | StepDown
    | TakeContribution
    | Outbid
    | ReleaseCopy
    | ConfirmCopy
    | Expire
    | Discard
    | ForgetCopy
    | DropLost
)

# --- purposes: why something was read, echoed with the result ----------------------------------------------


class ServeJob(Struct, frozen=True, gc=False):
    job: int


class Resend(Struct, frozen=True, gc=False):
    """Send the entry to ``to`` again, as a delta to what it has acknowledged."""

    to: str


class Recheck(Struct, frozen=True, gc=False):
    """Look at everything that names a member which was lost, came back or leaves."""

    member: str
    is_second: bool = False
    """Whoever comes first has had its time to take these over."""


class Protect(Struct, frozen=True, gc=False):
    """Give a backup to a primary that lacks one."""

    beside: tuple[str, ...] = ()
    """These, in two rounds: they were entrusted with it, and that has failed."""


class TellPlaces(Struct, frozen=True, gc=False):
    """Tell a peer where our sessions of a range are; ``differs``: and see to the copies that it holds."""

    to: str
    after: bytes
    upto: bytes
    differs: bool


class BringAll(Struct, frozen=True, gc=False):
    """Bring every session whose primary is here to a member that shall read them in place."""

    to: str
    number: int


class Patrol(Struct, frozen=True, gc=False):
    """The next page of our own sessions, for digests and fair shares."""

    after: bytes


class CheckDigest(Struct, frozen=True, gc=False):
    """What we hold in the range of a peer's digest that begins after ``after``."""

    sender: str
    after: bytes


class CompareAll(Struct, frozen=True, gc=False):
    """Compare all entries that this member held when it started."""

    round: int


class CompareOne(Struct, frozen=True, gc=False):
    """Compare one key now: a request needs it."""

    asked: tuple[str, ...] = ()
    epoch: Epoch = Epoch(0, 0, 0)
    promised: Promise = Promise(0, 0)
    """The epoch, or the promise, that our copy was refused for, if it was."""


class AnswerCompare(Struct, frozen=True, gc=False):
    """Answer a peer's comparison."""

    sender: str
    comparison: int
    items: tuple[Item, ...]


class Orphan(Struct, frozen=True, gc=False):
    """Ask the primary about a copy that it does not list: its Release may have been lost."""


class Inquire(Struct, frozen=True, gc=False):
    """Begin to ask, promise, promote."""


class Reap(Struct, frozen=True, gc=False):
    """Expire what is due."""


class Recover(Struct, frozen=True, gc=False):
    """Take the outbox of an earlier life up again."""


class Recovered(Struct, frozen=True, gc=False):
    """One row of it."""

    number: int
    marked: bool


class Leave(Struct, frozen=True, gc=False):
    """Hand over what is primary here."""


class DiscardAll(Struct, frozen=True, gc=False):
    """Remove everything that this member held when it started."""


class Moving(Struct, frozen=True, gc=False):
    """Take the next step of a move."""


class Answer(Struct, frozen=True, gc=False):
    """Answer a Locate."""

    sender: str
    request: int


Purpose = (
    ServeJob
    | Resend
    | Recheck
    | Protect
    | TellPlaces
    | BringAll
    | Patrol
    | CheckDigest
    | CompareAll
    | CompareOne
    | AnswerCompare
    | Orphan
    | Inquire
    | Reap
    | Recover
    | Recovered
    | Leave
    | DiscardAll
    | Moving
    | Answer
)


class ScanKind(enum.IntEnum):
    """Which list of the store a Scan reads."""

    ALL = 1
    MEMBER = 2
    LACKING = 3
    DUE = 4
    OUTBOX = 5


# --- commands ---------------------------------------------------------------------------------------------


class Send(Struct, frozen=True, gc=False):
    """Give a message to the network, after the transaction is durable."""

    to: str
    message: MemberMessage


class Change(Struct, frozen=True, gc=False):
    """Apply a pure function to one entry in the transaction; the result comes back as Changed, at once."""

    key: bytes
    what: What


class Read(Struct, frozen=True, gc=False):
    """Read entries; each comes back as Looked, at once."""

    keys: tuple[bytes, ...]
    purpose: Purpose


class Scan(Struct, frozen=True, gc=False):
    """Read the next keys of a list, in a later transaction; they come back as Scanned."""

    kind: ScanKind
    purpose: Purpose
    member: str = ""
    after: bytes | None = None
    after_number: int = 0


class Settle(Struct, frozen=True, gc=False):
    """Remove outbox rows: peers hold these changes."""

    numbers: tuple[int, ...]


class Mark(Struct, frozen=True, gc=False):
    """Mark outbox rows: an answer leaves unprotected."""

    numbers: tuple[int, ...]


class Reply(Struct, frozen=True, gc=False):
    """Answer a worker, after the transaction is durable."""

    ticket: Ticket
    answer: FetchAnswer | CommitAnswer


class Publish(Struct, frozen=True, gc=False):
    """Tell the workers until when ``peer`` has granted a lease, on the store clock."""

    peer: str
    until_ms: int
    reads: bool = False
    """The lease to read its sessions in place, not the one against successors."""


class Note(Struct, frozen=True, gc=False):
    """Keep a small value of the member's own in the store."""

    name: str
    value: bytes


class Tell(Struct, frozen=True, gc=False):
    fact: Fact


Command = Send | Change | Read | Scan | Settle | Mark | Reply | Publish | Note | Tell

# --- events ------------------------------------------------------------------------------------------------


class Started(Struct, frozen=True, gc=False):
    """The agent has opened its store. ``last_view``: the members that an earlier life saw alive."""

    last_view: tuple[str, ...]
    has_entries: bool
    expects_peers: bool
    alive_ms: int = 0
    """When an earlier life was noted to live last, on the store clock; 0: never."""
    since_ms: int = 0
    """Since when there was no gap longer than ``forget_ms`` before that; 0: not known."""
    over: bytes = b""
    """What an earlier life had noted of incarnations that seem over, see ``lives``."""


class PeerFound(Struct, frozen=True, gc=False):
    name: str
    incarnation: int


class PeerLost(Struct, frozen=True, gc=False):
    name: str
    incarnation: int


class Received(Struct, frozen=True, gc=False):
    sender: str
    incarnation: int
    message: MemberMessage


class Requested(Struct, frozen=True, gc=False):
    ticket: Ticket
    request: Request


class Abandoned(Struct, frozen=True, gc=False):
    """The worker that asked has gone."""

    ticket: Ticket


class Changed(Struct, frozen=True, gc=False):
    key: bytes
    what: What
    outcome: Outcome
    entry: Entry | None
    before: Entry | None


class Looked(Struct, frozen=True, gc=False):
    key: bytes
    purpose: Purpose
    entry: Entry | None


class Scanned(Struct, frozen=True, gc=False):
    """The next keys (and, of the outbox, numbers and marks); ``more`` if the list goes on."""

    scan: Scan
    keys: tuple[bytes, ...]
    more: bool
    numbers: tuple[int, ...] = ()
    marked: tuple[bool, ...] = ()


class DrainAsked(Struct, frozen=True, gc=False):
    pass


class Ticked(Struct, frozen=True, gc=False):
    """The instant of ``deadline_ms()`` has come (or any other instant: it does no harm)."""


Event = (
    Started | PeerFound | PeerLost | Received | Requested | Abandoned | Changed | Looked | Scanned | DrainAsked | Ticked
)
