"""The executor: carries the engine's commands out, in order, over a store. Synchronous; decides nothing.

A turn takes all events that have gathered, feeds them to the engine in one write transaction, and lets messages and
answers go only when that transaction is durable. The simulator runs this very code over a memory store.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType

from understudy import limits
from understudy.agent.quarantine import note_death
from understudy.errors import StoreFull
from understudy.model.commit import Outcome
from understudy.model.entry import Entry
from understudy.protocol import commands as c
from understudy.protocol.changes import Environment, perform
from understudy.protocol.engine import Engine
from understudy.protocol.messages import CommitAnswer, FetchAnswer, MemberMessage
from understudy.store import Store, Transaction
from understudy.store.leases import reading_row

EVENTS_PER_TURN_MAX = 64
"""Bounds, with ``BATCH_ENTRIES_MAX``, how long one transaction holds the store's write lock and other events wait."""


class _Unanswered:
    """The numbers whose outbox rows are there and unmarked: nobody was answered for these changes."""

    __slots__ = ("_transaction",)

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def __contains__(self, number: object) -> bool:
        assert isinstance(number, int)
        rows = self._transaction.outbox(number - 1, 1)
        return bool(rows) and rows[0].number == number and not rows[0].marked


class _Turn:
    """What one turn does with the store: at one instant, in one write transaction. That is begun when something is
    first to be read or written, so heartbeats and answers that change nothing never wait for the store."""

    __slots__ = ("_block", "_settings", "_store", "_transaction", "environment", "now_ms")

    def __init__(self, store: Store, settings: c.Settings) -> None:
        self.now_ms = store.now_ms()
        self._store = store
        self._settings = settings
        self._block: AbstractContextManager[Transaction] | None = None

    @property
    def transaction(self) -> Transaction:
        if self._block is None:
            block = self._store.write()
            begun = self._transaction = block.__enter__()
            self._block = block
            self.environment = Environment(
                self._settings, self.now_ms, begun.next_number, begun.is_nearly_full, _Unanswered(begun)
            )
        return self._transaction

    def __enter__(self) -> _Turn:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._block is not None:
            self._block.__exit__(kind, error, trace)


class Executor:
    """One member's engine over its store.

    Args:
        send: gives a message to the network (member's name, message); must not wait.
        reply: answers a worker's request.
        publish: tells the workers until when a lease runs: a row of the lease board, an instant.
        tell: takes facts, for logs and metrics.
        poisoned: keys for which this member has no room, because agents have died of their entries.
    """

    def __init__(
        self,
        store: Store,
        settings: c.Settings,
        *,
        send: Callable[[str, MemberMessage], None],
        reply: Callable[[c.Ticket, FetchAnswer | CommitAnswer], None],
        publish: Callable[[str, int], None],
        tell: Callable[[c.Fact], None],
        poisoned: frozenset[bytes] = frozenset(),
    ) -> None:
        self.engine = Engine(settings)
        self._store = store
        self._settings = settings
        self._send = send
        self._reply = reply
        self._publish = publish
        self._tell = tell
        self._poisoned = poisoned
        self._under_way = b""
        """The key that is being handled: should that end this agent, the next life must know."""
        self._events: deque[c.Event] = deque()
        self._scans: deque[c.Scan] = deque()
        self._out: list[c.Command] = []
        self._touched = 0
        """Entries that this turn has read or changed."""

    def now_ms(self) -> int:
        """The store clock."""
        return self._store.now_ms()

    def submit(self, event: c.Event) -> None:
        """Queue an event for the next turn."""
        self._events.append(event)

    def deadline_ms(self) -> int:
        """Store-clock instant at which ``Ticked`` is due."""
        return self.engine.deadline_ms()

    def turn(self) -> bool:
        """Handle what is queued, and one piece of background work; True if more of either is left.

        Guarantee: nothing leaves before the transaction that it speaks of is durable.
        Raises: StoreError if the transaction could not be made durable. The engine then believes what is not so: the
        agent has to end, and the next life starts from the store.
        """
        assert not self._out, "a turn after one that failed"
        try:
            with _Turn(self._store, self._settings) as turn:
                self._work(turn)
        except Exception as error:
            if self._under_way and not isinstance(error, StoreFull):
                note_death(self._store, self._under_way)
            raise
        self._release()
        return bool(self._events or self._scans)

    def _work(self, turn: _Turn) -> None:
        self._touched = 0
        for _ in range(min(len(self._events), EVENTS_PER_TURN_MAX)):
            commands = self.engine.handle(self._events.popleft(), turn.now_ms)
            if commands:
                self._carry_out(commands, turn)
            if self._touched >= limits.BATCH_ENTRIES_MAX:
                break
        if not self._events and self._scans:
            self._carry_out(self.engine.handle(_scanned(self._scans.popleft(), turn), turn.now_ms), turn)
        self._carry_out(self.engine.flush(), turn)

    def _release(self) -> None:
        out, self._out = self._out, []
        for command in out:
            match command:
                case c.Send(to=to, message=message):
                    self._send(to, message)
                case c.Reply(ticket=ticket, answer=answer):
                    self._reply(ticket, answer)
                case c.Publish(peer=peer, until_ms=until_ms, reads=reads):
                    self._publish(reading_row(peer) if reads else peer, until_ms)
                case c.Tell(fact=fact):
                    self._tell(fact)

    def _carry_out(self, commands: list[c.Command], turn: _Turn) -> None:
        """Carry out commands in order; a command's results are handled before the next command."""
        todo = commands[::-1]
        while todo:
            command = todo.pop()
            match command:
                case c.Change(key=key, what=what):
                    self._touched += 1
                    self._under_way = key
                    todo += reversed(self.engine.handle(self._change(key, what, turn), turn.now_ms))
                case c.Send() | c.Reply() | c.Publish() | c.Tell():
                    self._out.append(command)
                case c.Read(keys=keys, purpose=purpose):
                    self._touched += len(keys)
                    results: list[c.Command] = []
                    for key in keys:
                        self._under_way = key
                        entry = turn.transaction.get(key) if key not in self._poisoned else None
                        results += self.engine.handle(c.Looked(key, purpose, entry), turn.now_ms)
                    todo += reversed(results)
                case c.Scan():
                    self._scans.append(command)
                case c.Settle(numbers=numbers):
                    turn.transaction.outbox_remove(numbers)
                case c.Mark(numbers=numbers):
                    turn.transaction.outbox_mark(numbers)
                case c.Note(name=name, value=value):
                    turn.transaction.set_note(name, value)
        self._under_way = b""

    def _change(self, key: bytes, what: c.What, turn: _Turn) -> c.Changed:
        before: Entry | None = None
        if key in self._poisoned:
            return c.Changed(key, what, Outcome.STORE_FULL, None, None)
        transaction = turn.transaction

        def function(entry: Entry | None) -> tuple[Outcome, Entry | None]:
            nonlocal before
            before = entry
            return perform(what, entry, turn.environment)

        try:
            outcome, entry = transaction.change(key, function)
        except StoreFull:
            # Refused before anything was written; a failure in mid-write ends the transaction, and this agent.
            outcome, entry = Outcome.STORE_FULL, before
        if entry is not None and entry.number and (before is None or entry.number > before.number):
            transaction.outbox_add(entry.number, key)
        return c.Changed(key, what, outcome, entry, before)


def _scanned(scan: c.Scan, turn: _Turn) -> c.Scanned:
    """The next page of the list that ``scan`` names."""
    limit, transaction = limits.BATCH_ENTRIES_MAX, turn.transaction
    match scan.kind:
        case c.ScanKind.OUTBOX:
            rows = transaction.outbox(scan.after_number, limit)
            return c.Scanned(
                scan,
                tuple(row.key for row in rows),
                len(rows) == limit,
                tuple(row.number for row in rows),
                tuple(row.marked for row in rows),
            )
        case c.ScanKind.ALL:
            keys = transaction.keys(scan.after, limit)
        case c.ScanKind.MEMBER:
            limit = limits.SWEPT_PER_TURN_MAX
            keys = transaction.keys_of(scan.member, scan.after, limit)
        case c.ScanKind.LACKING:
            limit = limits.SWEPT_PER_TURN_MAX
            keys = transaction.keys_lacking(scan.after, limit)
        case c.ScanKind.DUE:
            keys = transaction.keys_due(turn.now_ms, limit)
    return c.Scanned(scan, tuple(keys), len(keys) == limit)
