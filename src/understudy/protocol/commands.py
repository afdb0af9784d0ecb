"""What goes into the engine and what comes out: events (past), commands (imperative), facts (for people).

These lists are closed. The engine never acts: the executor carries commands out, in order, and feeds the results
back as events. Entries appear in events while they are handled and are never kept.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from understudy.model.commit import Commit, Outcome
from understudy.model.delta import Delta
from understudy.model.entry import Entry, Epoch, Location, Promise
from understudy.protocol.facts import Fact as Fact
from understudy.protocol.facts import FactKind as FactKind
from understudy.protocol.messages import CommitAnswer, FetchAnswer, Item, MemberMessage, Request
from understudy.protocol.settings import Settings as Settings

Ticket = int
"""Names one request of a worker; the executor knows which connection it belongs to."""

# --- changes: pure functions of model, by name and arguments -----------------------------------------------


class DoCommit(NamedTuple):
    """commit.committed, or commit.created with ``backups`` for a new session."""

    job: int
    commit: Commit
    backups: tuple[str, ...] = ()


class Touch(NamedTuple):
    age_ms: int
    forward: bool = False
    """Came from a worker or a proxy: tell the primary or the backups, too."""


class CopyIn(NamedTuple):
    """roles.copied: a Replicate from ``sender``."""

    sender: str
    number: int
    delta: Delta


class Learn(NamedTuple):
    """roles.learned."""

    location: Location
    sender: str = ""


class GivePromise(NamedTuple):
    """roles.promised, for one question of an inquiry of ``sender``."""

    sender: str
    inquiry: int
    promise: Promise
    context: dict[int, int]
    location: Location
    heard: frozenset[str]


class Promote(NamedTuple):
    """roles.promoted."""

    promise: Promise
    backups: tuple[str, ...]
    found: tuple[Delta, ...]
    hold_ms: int


class SetBackups(NamedTuple):
    """roles.listed; ``released`` are told once the change is stored."""

    backups: tuple[str, ...]
    released: tuple[str, ...] = ()


class HandOver(NamedTuple):
    """roles.handed_over."""

    to: str
    moves: bool = False
    """To the member that serves the session, not because this one leaves."""


class StepDown(NamedTuple):
    """roles.stepped_down; which commits nobody was answered for, the outbox tells."""

    whole: Delta


class TakeContribution(NamedTuple):
    """roles.contributed."""

    sender: str
    number: int
    delta: Delta


class Outbid(NamedTuple):
    """roles.outbid: a holder has promised ``promise`` to somebody else."""

    promise: Promise


class ReleaseCopy(NamedTuple):
    """roles.released."""

    epoch: Epoch


class ConfirmCopy(NamedTuple):
    """A copy that holds no more than ``context`` may be shown in place."""

    context: dict[int, int]


class Expire(NamedTuple):
    """Remove an entry that is due: an expired primary, a tombstone past its time."""


class Discard(NamedTuple):
    """Remove an entry of a store that was away for too long."""


class ForgetCopy(NamedTuple):
    """Remove a copy or proxy whose primary has expired the session, unless the copy was used since."""

    epoch: Epoch


class DropLost(NamedTuple):
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


class ServeJob(NamedTuple):
    job: int


class Resend(NamedTuple):
    """Send the entry to ``to`` again, as a delta to what it has acknowledged."""

    to: str


class Recheck(NamedTuple):
    """Look at everything that names a member which was lost, came back or leaves."""

    member: str


class Protect(NamedTuple):
    """Give a backup to a primary that lacks one."""


class TellPlaces(NamedTuple):
    """Tell a peer where our sessions of a range are; ``differs``: and see to the copies that it holds."""

    to: str
    after: bytes
    upto: bytes
    differs: bool


class BringAll(NamedTuple):
    """Bring every session whose primary is here to a member that shall read them in place."""

    to: str
    number: int


class Patrol(NamedTuple):
    """The next page of our own sessions, for digests and fair shares."""

    after: bytes


class CheckDigest(NamedTuple):
    """What we hold in the range of a peer's digest that begins after ``after``."""

    sender: str
    after: bytes


class CompareAll(NamedTuple):
    """Compare all entries that this member held when it started."""

    round: int


class CompareOne(NamedTuple):
    """Compare one key now: a request needs it."""

    asked: tuple[str, ...] = ()
    epoch: Epoch = Epoch(0, 0, 0)
    """The epoch that our copy was refused for, if it was."""
    promised: Promise = Promise(0, 0)
    """The promise that it was refused for, if it was."""


class AnswerCompare(NamedTuple):
    """Answer a peer's comparison."""

    sender: str
    comparison: int
    items: tuple[Item, ...]


class Orphan(NamedTuple):
    """Ask the primary about a copy that it does not list: its Release may have been lost."""


class Inquire(NamedTuple):
    """Begin to ask, promise, promote."""


class Reap(NamedTuple):
    """Expire what is due."""


class Recover(NamedTuple):
    """Take the outbox of an earlier life up again."""


class Recovered(NamedTuple):
    """One row of it."""

    number: int
    marked: bool


class Leave(NamedTuple):
    """Hand over what is primary here."""


class DiscardAll(NamedTuple):
    """Remove everything that this member held when it started."""


class Moving(NamedTuple):
    """Take the next step of a move."""


class Answer(NamedTuple):
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


class Send(NamedTuple):
    """Give a message to the network, after the transaction is durable."""

    to: str
    message: MemberMessage


class Change(NamedTuple):
    """Apply a pure function to one entry in the transaction; the result comes back as Changed, at once."""

    key: bytes
    what: What


class Read(NamedTuple):
    """Read entries; each comes back as Looked, at once."""

    keys: tuple[bytes, ...]
    purpose: Purpose


class Scan(NamedTuple):
    """Read the next keys of a list, in a later transaction; they come back as Scanned."""

    kind: ScanKind
    purpose: Purpose
    member: str = ""
    after: bytes | None = None
    after_number: int = 0


class Settle(NamedTuple):
    """Remove outbox rows: peers hold these changes."""

    numbers: tuple[int, ...]


class Mark(NamedTuple):
    """Mark outbox rows: an answer leaves unprotected."""

    numbers: tuple[int, ...]


class Reply(NamedTuple):
    """Answer a worker, after the transaction is durable."""

    ticket: Ticket
    answer: FetchAnswer | CommitAnswer


class Publish(NamedTuple):
    """Tell the workers until when ``peer`` has granted a lease, on the store clock."""

    peer: str
    until_ms: int
    reads: bool = False
    """The lease to read its sessions in place, not the one against successors."""


class Note(NamedTuple):
    """Keep a small value of the member's own in the store."""

    name: str
    value: bytes


class Tell(NamedTuple):
    fact: Fact


Command = Send | Change | Read | Scan | Settle | Mark | Reply | Publish | Note | Tell

# --- events ------------------------------------------------------------------------------------------------


class Started(NamedTuple):
    """The agent has opened its store. ``last_view``: the members that an earlier life saw alive."""

    last_view: tuple[str, ...]
    has_entries: bool
    expects_peers: bool
    alive_ms: int = 0
    """When an earlier life was noted to live last, on the store clock; 0: never."""
    since_ms: int = 0
    """Since when there was no gap longer than ``forget_ms`` before that; 0: not known."""


class PeerFound(NamedTuple):
    name: str
    incarnation: int


class PeerLost(NamedTuple):
    name: str
    incarnation: int


class Received(NamedTuple):
    sender: str
    incarnation: int
    message: MemberMessage


class Requested(NamedTuple):
    ticket: Ticket
    request: Request


class Abandoned(NamedTuple):
    """The worker that asked has gone."""

    ticket: Ticket


class Changed(NamedTuple):
    key: bytes
    what: What
    outcome: Outcome
    entry: Entry | None
    before: Entry | None


class Looked(NamedTuple):
    key: bytes
    purpose: Purpose
    entry: Entry | None


class Scanned(NamedTuple):
    """The next keys (and, of the outbox, numbers and marks); ``more`` if the list goes on."""

    scan: Scan
    keys: tuple[bytes, ...]
    more: bool
    numbers: tuple[int, ...] = ()
    marked: tuple[bool, ...] = ()


class DrainAsked(NamedTuple):
    pass


class Ticked(NamedTuple):
    """The instant of ``deadline_ms()`` has come (or any other instant: it does no harm)."""


Event = (
    Started | PeerFound | PeerLost | Received | Requested | Abandoned | Changed | Looked | Scanned | DrainAsked | Ticked
)
