"""What may happen that people want to know of: one list for the log, for counts, and for what simulations cover."""

from __future__ import annotations

import enum

from msgspec import Struct


class FactKind(enum.StrEnum):
    """Everything that may happen and that people want to know of."""

    MEMBER_FOUND = "member found"
    MEMBER_SUSPECTED = "member suspected"
    MEMBER_LOST = "member lost"
    MEMBER_RETURNED = "member returned"
    MEMBER_LEAVES = "member leaves"
    CONFIGURATION_DIFFERS = "configuration differs"
    SESSION_CREATED = "session created"
    SESSION_ENDED = "session ended"
    SESSION_EXPIRED = "session expired"
    SESSION_LOST = "session lost"
    SESSION_UNKNOWN = "session unknown"
    SESSION_UNAVAILABLE = "session unavailable"
    PROMOTED = "promoted"
    PROMISED = "promised"
    PROMOTION_DROPPED = "promotion dropped"
    STEPPED_DOWN = "stepped down"
    CONTRIBUTED = "contributed"
    HANDED_OVER = "handed over"
    MOVED = "moved"
    BACKUP_CHOSEN = "backup chosen"
    BACKUP_RELEASED = "backup released"
    BACKUP_MOVED = "backup moved"
    DIFFERENCE_FOUND = "difference found"
    ANSWERED_UNPROTECTED = "answered unprotected"
    COMMIT_REPEATED = "commit repeated"
    COMMIT_CONFLICTED = "commit conflicted"
    COMMIT_FENCED = "commit fenced"
    COMMIT_OUTDATED = "commit outdated"
    VALUES_CONCURRENT = "values concurrent"
    NEEDED_WHOLE = "needed whole"
    COPY_REFUSED = "copy refused"
    COMPARED = "compared"
    TRANSFERRED = "transferred"
    READY = "ready"
    STORE_OUTDATED = "store outdated"
    STOOD_STILL = "stood still"
    STORE_REFUSED = "store refused a change"
    DRAINED = "drained"


class Fact(Struct, frozen=True, gc=False):
    """One thing that happened. ``key`` is a hash: no fact holds a usable id."""

    kind: FactKind
    key: bytes = b""
    member: str = ""
    detail: str = ""
