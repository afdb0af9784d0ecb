"""One engine over a dict of entries: events in, and everything that it commands, in order, out.

Changes and reads are carried out at once by the model's own functions, as the executor does, so a transcript shows
the whole turn: what was changed or read, and what that led to. Scans are only listed; a test answers them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from tests.making import CHOOSERS, KEY, LIVES, SECRET, commit_id

from understudy.model.commit import Commit, Creation, Outcome
from understudy.model.delta import Delta, delta_since
from understudy.model.entry import Context, Entry, Role
from understudy.protocol import commands as c
from understudy.protocol import messages as m
from understudy.protocol.changes import Environment, perform
from understudy.protocol.engine import Engine
from understudy.protocol.places import LAST_KEY

START_MS = 100_000
STEP_MS = 20
TOLD_ALL = m.Places(b"", LAST_KEY, ())
"""A peer's answer to being found: it has no sessions."""
BACKUP, LOCAL, NONE = m.AcknowledgeMode.BACKUP, m.AcknowledgeMode.LOCAL, m.AcknowledgeMode.NONE


class Turns:
    """Member a with its peers, joined and ready unless a test asks for the time before; each method is one turn and
    returns its commands."""

    def __init__(
        self,
        *peers: str,
        entries: dict[bytes, Entry] | None = None,
        joined: bool = True,
        last_view: tuple[str, ...] = (),
        copies: int = 1,
        **settings: Any,
    ) -> None:
        self.settings = c.Settings("a", LIVES["a"], CHOOSERS["a"], copies=copies, **settings)
        self.engine = Engine(self.settings)
        self.is_full = False
        """The store has no room for any change."""
        self.entries = dict(entries or {})
        self.outbox: set[int] = set()
        self.marked: set[int] = set()
        self.number = 100
        self.now_ms = START_MS
        self.on(c.Started(last_view, bool(entries) and not joined, bool(peers)))
        for name in peers:
            self.on(c.PeerFound(name, LIVES[name]))
        self.engine.members._cursor = 1  # the next choice begins with the first name
        if joined:
            for name in peers:
                self.hears(name, TOLD_ALL)
            assert self.engine.ready
            self.tick()

    @property
    def entry(self) -> Entry:
        return self.entries[KEY]

    # --- turns ------------------------------------------------------------------------------------------------------

    def on(self, event: c.Event) -> list[c.Command]:
        """One event and what it leads to, to the end of the turn."""
        commands = self._carry_out(self.engine.handle(event, self.now_ms))
        return commands + self._carry_out(self.engine.flush())

    def hears(self, sender: str, message: m.MemberMessage) -> list[c.Command]:
        """A message of a peer's present life."""
        return self.on(c.Received(sender, LIVES[sender], message))

    def asked(self, request: m.Request, ticket: int = 1) -> list[c.Command]:
        """A worker's request."""
        return self.on(c.Requested(ticket, request))

    def tick(self) -> list[c.Command]:
        return self.on(c.Ticked())

    def wait(self, ms: int, hearing: Iterable[str] = ()) -> list[c.Command]:
        """Let time pass as a running loop does; some peers answer heartbeats of half a lease ago, and ask for nothing.

        Left out of what is returned: heartbeats, leases, and the look at what is due, which come at their own times.
        """
        commands: list[c.Command] = []
        until_ms = self.now_ms + ms
        while self.now_ms < until_ms:
            self.now_ms = min(until_ms, self.now_ms + STEP_MS)
            for name in hearing:
                self.hears(name, m.HeartbeatAck(self.now_ms - self.settings.lease_ms // 2))
            commands += self.tick()
        return [command for command in commands if not _comes_by_itself(command)]

    def _carry_out(self, commands: list[c.Command]) -> list[c.Command]:
        done: list[c.Command] = []
        todo = deque(commands)
        while todo:
            command = todo.popleft()
            done.append(command)
            results: list[c.Command] = []
            match command:
                case c.Change(key=key, what=what):
                    results = self.engine.handle(self._change(key, what), self.now_ms)
                case c.Read(keys=keys, purpose=purpose):
                    for key in keys:
                        results += self.engine.handle(c.Looked(key, purpose, self.entries.get(key)), self.now_ms)
                case c.Settle(numbers=numbers):
                    self.outbox -= set(numbers)
                    self.marked -= set(numbers)
                case c.Mark(numbers=numbers):
                    self.marked |= set(numbers)
            todo.extendleft(reversed(results))
        return done

    def _change(self, key: bytes, what: c.What) -> c.Changed:
        before = self.entries.get(key)
        if self.is_full:
            return c.Changed(key, what, Outcome.STORE_FULL, before, before)
        unanswered = self.outbox - self.marked
        environment = Environment(self.settings, self.now_ms, self._next_number, lambda: False, unanswered)
        outcome, entry = perform(what, before, environment)
        if entry is None:
            self.entries.pop(key, None)
        else:
            self.entries[key] = entry
            if entry.number and (before is None or entry.number > before.number):
                self.outbox.add(entry.number)
        return c.Changed(key, what, outcome, entry, before)

    def _next_number(self) -> int:
        self.number += 1
        return self.number

    # --- what a scenario begins with --------------------------------------------------------------------------------

    def with_session(self, *, acknowledged_by: str = "b") -> Turns:
        """A session that a worker here has created, x = 1, with one backup that has acknowledged it: commit 101."""
        self.asked(creation(x=b"1"))
        self.wait(STEP_MS)
        self.hears(acknowledged_by, m.Acknowledge(KEY, 101, {LIVES["a"]: 101}))
        assert self.entry.role is Role.PRIMARY and not self.outbox
        return self

    def delta(self, base: Context) -> Delta:
        """What a copy lacks of the entry as it is now that has acknowledged the session's creation; ``{}``: that has
        nothing."""
        return delta_since(self.entry, base, self.now_ms, commit_id(1))


def creation(**values: bytes) -> m.CommitRequest:
    """A worker's request that begins a session."""
    commit = Commit(commit_id(1), SECRET, sets=values, creates=Creation(60_000))
    return m.CommitRequest(0, KEY, commit, BACKUP)


def writing(number: int, acknowledge: m.AcknowledgeMode = BACKUP, **values: bytes) -> m.CommitRequest:
    """A worker's request that sets attributes."""
    return m.CommitRequest(0, KEY, Commit(commit_id(number), SECRET, sets=values), acknowledge)


def committed(number: int, protected: bool = True) -> m.CommitAnswer:
    """The answer to a commit that became change ``number`` of member a."""
    return m.CommitAnswer(Outcome.COMMITTED, protected, "a", LIVES["a"], number)


def told(kind: c.FactKind, member: str = "", detail: str = "", key: bytes = KEY) -> c.Tell:
    return c.Tell(c.Fact(kind, key, member, detail))


def sent(commands: list[c.Command], kind: type) -> list[tuple[str, m.MemberMessage]]:
    """To whom messages of one kind went, in order."""
    return [(cmd.to, cmd.message) for cmd in commands if isinstance(cmd, c.Send) and isinstance(cmd.message, kind)]


def _comes_by_itself(command: c.Command) -> bool:
    if isinstance(command, c.Send):
        return isinstance(command.message, m.Heartbeat)
    if isinstance(command, c.Publish):
        return True
    return isinstance(command, c.Scan) and (command.kind is c.ScanKind.DUE or isinstance(command.purpose, c.Patrol))
