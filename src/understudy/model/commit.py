"""What a request does to its session: create, change, rotate, end, touch. Pure functions from entry to entry.

They run inside one store transaction, at the session's primary only; every other member forwards the commit there.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable

import msgspec

from understudy import limits
from understudy.model.entry import (
    PRINCIPAL,
    SECRETS,
    Attributes,
    Entry,
    Epoch,
    Role,
    Sibling,
    Times,
)


class Outcome(enum.IntEnum):
    """How a change went. Expected outcomes are values; none of these is an error of the program."""

    COMMITTED = 1
    REPEATED = 2
    """A commit with this id is in the entry already; nothing was changed."""
    NOT_PRIMARY = 3
    UNKNOWN = 4
    ENDED = 5
    """Deleted or expired: nothing may be written."""
    FENCED = 6
    """The request's secret was replaced: by a login, or longer ago than the grace time."""
    CONFLICT = 7
    """A conditional commit's reads are no longer what the entry holds."""
    TOO_LARGE = 8
    STORED = 9
    NEEDS_WHOLE = 10
    REFUSED = 11
    """A higher epoch or promise is known here."""
    DEPOSED = 12
    """A higher epoch reached a primary: it has to step down."""
    PROMOTED = 13
    UNCHANGED = 14
    REMOVED = 15
    STORE_FULL = 16
    OUTDATED = 17
    """Where the commit writes, the entry holds other values than its request saw: whoever still waits asks again."""
    MINORITY = 18
    """``partition = "refuse"``: this side of a cut lacks the majority of the members that are expected."""


class Opening(enum.IntEnum):
    """What a secret opens."""

    CURRENT = 1
    GRACE = 2
    """The previous secret of a plain renewal, within its grace time."""
    FENCED = 3
    """The previous secret, replaced by a login within the grace time: sees nothing, may only log in again."""
    NOTHING = 4


class Secrets(msgspec.Struct, frozen=True, array_like=True):
    """Value of the reserved attribute ``SECRETS``: hashes only, so that no copy holds a usable cookie."""

    current: bytes
    previous: bytes = b""
    previous_fenced: bool = False
    """The current secret came with a login: the previous one opens nothing."""


class Creation(msgspec.Struct, frozen=True, array_like=True):
    """What a new session starts with."""

    idle_timeout_ms: int
    absolute_timeout_ms: int = 0


Replaced = dict[str, tuple[tuple[int, int], ...]]
"""Attribute -> dots of the values of it that somebody has seen."""


class Commit(msgspec.Struct, frozen=True, array_like=True):
    """Everything one request changes in one session, applied as a whole or not at all."""

    id: bytes
    """8 random bytes; a commit that is sent again keeps its id."""
    secret: bytes
    """Hash of the secret that the request came with; of the new one when it creates the session. b"" for an
    administrative change that comes with no cookie."""
    sets: dict[str, bytes] = {}
    deletes: tuple[str, ...] = ()
    expects: Replaced | None = None
    """Conditional: the dots that the request read for each attribute (empty: it was absent). None: unconditional."""
    creates: Creation | None = None
    rotates_to: bytes = b""
    """Hash of the new secret. It is a login if ``sets`` or ``deletes`` changes the principal."""
    ends: bool = False
    idle_timeout_ms: int = -1
    """A new idle timeout for the session; -1 leaves it."""
    replaces: Replaced | None = None
    """The dots that the request saw of each attribute that it writes (empty: it was absent). While the entry holds
    others the commit is OUTDATED: it may come from a worker that was killed, after its client's next request. None:
    write over whatever is there."""


class Stamp(msgspec.Struct, frozen=True, gc=False):
    """What the committing member gives to a commit: who, which number, which instant."""

    member: str
    incarnation: int
    number: int
    now_ms: int
    grace_ms: int
    bytes_max: int


_decoded_secrets = msgspec.msgpack.Decoder(Secrets).decode
_ENCODER = msgspec.msgpack.Encoder()


def opening(entry: Entry, secret: bytes, now_ms: int, grace_ms: int) -> Opening:
    """What ``secret`` opens. Concurrent rotations (in a partition) each keep their own current secret.

    Cost: siblings of one attribute, about 1 µs.
    """
    best = Opening.NOTHING
    for sibling in entry.attributes.get(SECRETS, ()):
        secrets = _decoded_secrets(sibling.value)
        if secret == secrets.current:
            return Opening.CURRENT
        if secret == secrets.previous and (rotated_ms := entry.times.rotated_ms) and now_ms - rotated_ms < grace_ms:
            best = min(best, Opening.FENCED if secrets.previous_fenced else Opening.GRACE)
    return best


def created(commit: Commit, stamp: Stamp, backups: tuple[str, ...], chooser: int) -> tuple[Outcome, Entry | None]:
    """The first entry of a session, at its primary, with all that its first request wrote."""
    creation = commit.creates
    assert creation is not None
    sets = {SECRETS: _ENCODER.encode(Secrets(commit.secret)), **commit.sets}
    attributes = _with_sets({}, sets, stamp, 1)
    if _exceeds(attributes, stamp):
        return Outcome.TOO_LARGE, None
    return Outcome.COMMITTED, Entry(
        role=Role.PRIMARY,
        primary=stamp.member,
        backups=backups,
        epoch=Epoch(1, chooser, 1),
        context={stamp.incarnation: stamp.number},
        attributes=attributes,
        recent=(commit.id,),
        times=Times(
            created_ms=stamp.now_ms,
            accessed_ms=stamp.now_ms,
            idle_timeout_ms=creation.idle_timeout_ms,
            absolute_timeout_ms=creation.absolute_timeout_ms,
        ),
        number=stamp.number,
    )


def refusal(entry: Entry, commit: Commit, stamp: Stamp) -> Outcome | None:
    """Why ``commit`` may not be applied to ``entry``, or None."""
    if entry.role is Role.PRIMARY and commit.id in entry.recent:
        # Also the commit that ended the session: who repeats it is the one who ended it.
        return Outcome.REPEATED
    if entry.ended:
        return Outcome.ENDED
    if entry.role is not Role.PRIMARY:
        return Outcome.NOT_PRIMARY
    if entry.expired(stamp.now_ms):
        return Outcome.ENDED
    opened = opening(entry, commit.secret, stamp.now_ms, stamp.grace_ms) if commit.secret else Opening.CURRENT
    if opened is Opening.NOTHING or (opened is Opening.FENCED and not _logs_in_again(entry, commit)):
        return Outcome.FENCED
    if commit.expects is not None and not _holds(entry, commit.expects):
        return Outcome.CONFLICT
    if commit.replaces is not None and not _holds(entry, commit.replaces):
        return Outcome.OUTDATED
    return None


def dots_of(attributes: Attributes, names: Iterable[str]) -> Replaced:
    """The dots of the values of some attributes, as a request sees them or an entry holds them."""
    return {name: tuple(s.dot for s in attributes.get(name, ())) for name in names}


def found_by(entry: Entry | None, commit: Commit) -> Replaced:
    """What an OUTDATED commit finds where it writes: who asks again over these has seen them."""
    return dots_of(entry.attributes, commit.replaces or ()) if entry is not None else {}


def _holds(entry: Entry, seen: Replaced) -> bool:
    return all({s.dot for s in entry.attributes.get(name, ())} == set(dots) for name, dots in seen.items())


def is_login(commit: Commit) -> bool:
    """True for a rotation that also changes who is logged in."""
    return bool(commit.rotates_to) and (PRINCIPAL in commit.sets or PRINCIPAL in commit.deletes)


def _logs_in_again(entry: Entry, commit: Commit) -> bool:
    """True for the login of the person who is logged in already: of one whose answer was lost, and of nobody else."""
    principal = commit.sets.get(PRINCIPAL)
    return bool(commit.rotates_to) and principal is not None and principal == entry.shown(PRINCIPAL)


def committed(entry: Entry, commit: Commit, stamp: Stamp) -> tuple[Outcome, Entry]:
    """``entry`` after ``commit`` under the number of ``stamp``, or why not.

    Guarantee: attributes that the commit does not name are untouched; an ended session stays ended.
    Cost: one copy of the attribute table.
    """
    refused = refusal(entry, commit, stamp)
    return applied(entry, commit, stamp) if refused is None else (refused, entry)


def applied(entry: Entry, commit: Commit, stamp: Stamp) -> tuple[Outcome, Entry]:
    """``entry`` after a commit that nothing speaks against, see ``refusal``; TOO_LARGE is found out here."""
    context = {**entry.context, stamp.incarnation: stamp.number}
    if commit.ends:
        return Outcome.COMMITTED, msgspec.structs.replace(
            ended(entry, stamp.now_ms), context=context, recent=_with_id(entry, commit, stamp), number=stamp.number
        )
    sets, times = _secret_sets(entry, commit, stamp)
    kept = {name: value for name, value in entry.attributes.items() if name not in commit.deletes}
    attributes = _with_sets(kept, sets, stamp, entry.epoch.reign)
    if _exceeds(attributes, stamp):
        return Outcome.TOO_LARGE, entry
    if commit.idle_timeout_ms >= 0:
        times = msgspec.structs.replace(times, idle_timeout_ms=commit.idle_timeout_ms)
    return Outcome.COMMITTED, msgspec.structs.replace(
        entry,
        context=context,
        attributes=attributes,
        recent=_with_id(entry, commit, stamp),
        times=times,
        number=stamp.number,
    )


def ended(entry: Entry, now_ms: int) -> Entry:
    """The tombstone of ``entry``: no data, no way back; it keeps the epoch so that roles stay comparable."""
    return msgspec.structs.replace(entry, attributes={}, ended_ms=entry.ended_ms or max(now_ms, 1))


def touched(entry: Entry, accessed_ms: int) -> tuple[Outcome, Entry]:
    """``entry`` with a later access time, on whatever role; never an earlier one, never an ended one.

    At the primary an access after the session's time is none: like a commit it would bring back what has expired, and
    who has taken over meanwhile may have said so already.
    """
    if not entry.has_data or accessed_ms <= entry.times.accessed_ms:
        return Outcome.UNCHANGED, entry
    if entry.role is Role.PRIMARY and entry.expired(accessed_ms):
        return Outcome.UNCHANGED, entry
    return Outcome.STORED, msgspec.structs.replace(
        entry, times=msgspec.structs.replace(entry.times, accessed_ms=accessed_ms)
    )


def _secret_sets(entry: Entry, commit: Commit, stamp: Stamp) -> tuple[dict[str, bytes], Times]:
    """The attributes to set, with the secrets' when the commit rotates; and the times."""
    times = msgspec.structs.replace(entry.times, accessed_ms=max(entry.times.accessed_ms, stamp.now_ms))
    login = is_login(commit)
    if not commit.rotates_to:
        return commit.sets, times
    if not login and opening(entry, commit.secret, stamp.now_ms, stamp.grace_ms) is not Opening.CURRENT:
        # Another request has renewed the secret a moment ago: its cookie is on the way, ours would overwrite it.
        return commit.sets, times
    shown = entry.shown(SECRETS)
    current = _decoded_secrets(shown).current if shown else b""
    secrets = Secrets(current=commit.rotates_to, previous=commit.secret or current, previous_fenced=login)
    return (
        {**commit.sets, SECRETS: _ENCODER.encode(secrets)},
        msgspec.structs.replace(times, rotated_ms=stamp.now_ms),
    )


def current_secret(entry: Entry) -> bytes:
    """Hash of the secret that the entry shows as current, or b"" (an ended session has none)."""
    shown = entry.shown(SECRETS)
    return _decoded_secrets(shown).current if shown else b""


def _with_sets(attributes: Attributes, sets: dict[str, bytes], stamp: Stamp, reign: int) -> Attributes:
    """The table with each set attribute as one value under the commit's dot: what was there has been seen."""
    result = dict(attributes)
    for name, value in sets.items():
        result[name] = (Sibling(stamp.incarnation, stamp.number, reign, value),)
    return result


def _with_id(entry: Entry, commit: Commit, stamp: Stamp) -> tuple[bytes, ...]:
    """The ids of the commits that may come again: many while the session is in use, a few once it has rested."""
    has_rested = stamp.now_ms >= entry.times.accessed_ms + limits.RECENT_PAUSE_MS
    kept = limits.RECENT_COMMITS_KEPT if has_rested else limits.RECENT_COMMITS_MAX
    return (*entry.recent[1 - kept :], commit.id)


def _exceeds(attributes: Attributes, stamp: Stamp) -> bool:
    size = 0
    for name, siblings in attributes.items():
        size += len(name)
        for sibling in siblings:
            size += len(sibling.value)
    return size > stamp.bytes_max or len(attributes) > limits.ATTRIBUTES_MAX
