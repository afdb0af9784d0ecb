"""Moves: the primaryship follows the requests.

A member that serves a session of another one ``move_after`` times in a row is handed its primaryship: first it becomes
a backup like any other (make before break), then the primary hands over and stays as its backup. Members that take
turns move nothing, and a session that has just moved rests for a while, because what the primary's own workers read in
place is seen by nobody.
"""

from __future__ import annotations

from collections import OrderedDict

from understudy import limits
from understudy.model.entry import Entry, Role
from understudy.protocol import commands as c
from understudy.protocol.core import Core
from understudy.protocol.job import Job, Remote
from understudy.protocol.members import Members
from understudy.protocol.replicate import Replication

TICK_MS = 20
"""How often it is looked whether the next step may be taken."""
GIVE_UP_MS = 2_000
"""For one move: a session that is written all the time stays where it is."""
REST_MS = 5_000
"""Between two moves of one session."""


class Row:
    """Who has served a session from elsewhere, how often in a row, and with which request last."""

    def __init__(self, member: str) -> None:
        self.member = member
        self.count = 0
        self.request = 0


class Move:
    """One session on its way."""

    def __init__(self, to: str, now_ms: int) -> None:
        self.to = to
        self.until_ms = now_ms + GIVE_UP_MS
        self.listed = False
        """``to`` was made a backup for this."""


class Moves:
    """What one primary knows of where its sessions are used."""

    def __init__(self, core: Core, members: Members, replication: Replication) -> None:
        self._core = core
        self._members = members
        self._replication = replication
        self._rows: OrderedDict[bytes, Row] = OrderedDict()
        self._moves: dict[bytes, Move] = {}
        self._rests_until_ms: OrderedDict[bytes, int] = OrderedDict()
        self._next_ms = 0

    # --- who uses it ---------------------------------------------------------------------------------------

    def served(self, job: Job) -> None:
        """A request was served with a session whose primary is here: by another member, or by us."""
        after = self._core.settings.move_after
        if not after or not isinstance(job.origin, Remote) or job.hops > 1:  # who relays does not serve
            self._rows.pop(job.key, None)
            return
        row = self._rows.get(job.key)
        if row is None or row.member != job.origin.sender:
            row = self._rows[job.key] = Row(job.origin.sender)
        self._rows.move_to_end(job.key)
        if len(self._rows) > limits.SERVED_ELSEWHERE_MAX:
            self._rows.popitem(last=False)
        if row.request != job.origin.request:
            row.request, row.count = job.origin.request, row.count + 1
        if row.count >= after:
            self._maybe_begin(job.key, row.member)

    def used_here(self, key: bytes) -> None:
        """A worker of this member has used the session: the row is broken."""
        self._rows.pop(key, None)

    def arrived(self, key: bytes) -> None:
        """A session was handed to us: it rests."""
        self._rests_until_ms[key] = self._core.now_ms + REST_MS
        self._rests_until_ms.move_to_end(key)
        if len(self._rests_until_ms) > limits.SERVED_ELSEWHERE_MAX:
            self._rests_until_ms.popitem(last=False)

    def _maybe_begin(self, key: bytes, to: str) -> None:
        rests = self._core.now_ms < self._rests_until_ms.get(key, 0)
        if rests or key in self._moves or len(self._moves) >= limits.MOVES_MAX or not self._may_take(to):
            return
        if not self._moves:
            self._next_ms = self._core.now_ms + TICK_MS
        self._moves[key] = Move(to, self._core.now_ms)

    def _may_take(self, name: str) -> bool:
        member = self._members.get(name)
        return (
            member is not None
            and member.ready
            and not member.leaving
            and not self._members.leaving
            and not self._members.in_minority
            and self._members.hears(name)
        )

    # --- step by step --------------------------------------------------------------------------------------

    def looked(self, key: bytes, entry: Entry | None) -> None:
        """The entry of a session on its way: the next step, if its last one is done."""
        move = self._moves.get(key)
        if move is None:
            return
        if entry is None or entry.ended or entry.role is not Role.PRIMARY or not self._may_take(move.to):
            del self._moves[key]
        elif key in self._replication.flights:
            pass
        elif move.to in entry.backups:
            del self._moves[key]
            self._rows.pop(key, None)
            self._core.emit(c.Change(key, c.HandOver(move.to, moves=True)))
        elif move.listed or self._core.settings.computes_places:
            # It was given up as a backup meanwhile; or a third member would be looked for where it is not.
            del self._moves[key]
        else:
            move.listed = True
            self._core.emit(c.Change(key, c.SetBackups((*entry.backups, move.to))))

    def tick(self) -> None:
        now = self._core.now_ms
        if not self._moves or now < self._next_ms:
            return
        self._next_ms = now + TICK_MS
        for key in [key for key, move in self._moves.items() if now >= move.until_ms]:
            del self._moves[key]
        if self._moves:
            self._core.emit(c.Read(tuple(self._moves), c.Moving()))

    def deadline_ms(self) -> int | None:
        return self._next_ms if self._moves else None
