"""The changes that a member may make by itself: what a request commits, and what has expired.

They are apart from ``changes``, which names these and all others, because a worker without an agent makes them itself:
it loads no engine for them.
"""

from __future__ import annotations

from collections.abc import Callable, Container

import msgspec

from understudy.model.commit import Commit, Outcome, Stamp, applied, created, refusal
from understudy.model.entry import Entry, Role
from understudy.protocol.settings import Settings


class Environment(msgspec.Struct, frozen=True, gc=False):
    """The world, as arguments."""

    settings: Settings
    now_ms: int
    next_number: Callable[[], int]
    is_nearly_full: Callable[[], bool]
    unanswered: Container[int] = frozenset()
    """Numbers of the changes that nobody was answered for: their outbox rows are there and unmarked."""


def do_commit(
    entry: Entry | None, commit: Commit, backups: tuple[str, ...], env: Environment
) -> tuple[Outcome, Entry | None]:
    """What the entry is after a commit; ``backups`` are those of a session that it creates. A number is drawn only if
    the commit is made."""
    settings = env.settings
    if entry is None and commit.creates is None:
        return Outcome.UNKNOWN, None
    if entry is None and env.is_nearly_full():
        return Outcome.STORE_FULL, None
    unnumbered = Stamp(settings.member, settings.incarnation, 0, env.now_ms, settings.grace_ms, settings.bytes_max)
    if entry is not None:
        refused = refusal(entry, commit, unnumbered)
        if refused is not None:
            return refused, entry
        return applied(entry, commit, msgspec.structs.replace(unnumbered, number=env.next_number()))
    return created(commit, msgspec.structs.replace(unnumbered, number=env.next_number()), backups, settings.chooser)


def do_expire(entry: Entry | None, env: Environment) -> tuple[Outcome, Entry | None]:
    """Remove an entry that is due: a primary whose time is over, a tombstone that is old enough."""
    if entry is None:
        return Outcome.UNCHANGED, None
    if entry.ended:
        due = entry.ended_ms + env.settings.forget_ms
        return (Outcome.REMOVED, None) if env.now_ms >= due else (Outcome.UNCHANGED, entry)
    if entry.role is Role.PRIMARY and entry.expired(env.now_ms):
        return Outcome.REMOVED, None
    return Outcome.UNCHANGED, entry
