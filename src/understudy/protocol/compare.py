"""Who knows better? A member that was away, or whose lease has lapsed, compares its entries with its peers.

After a start every entry is compared before workers may serve it in place, in batches, in key order; a request for a
key that its turn has not come to is compared at once. Where a peer is ahead, by epoch or by data, this member takes
or merges what it holds, and passes on what the peer lacks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from understudy import limits
from understudy.model.commit import Outcome
from understudy.model.delta import Delta, delta_since
from understudy.model.entry import NO_PROMISE, Entry, Location, Promise, Role, covers
from understudy.protocol import commands as c
from understudy.protocol.core import Core
from understudy.protocol.members import Members
from understudy.protocol.messages import Acknowledge, Answer, Compare, Compared, Contribute, Item, Verdict
from understudy.protocol.replicate import Replication

RESEND_MS = 100


class Comparison:
    """One batch of keys that peers have been asked about."""

    def __init__(
        self, items: list[Item], waiting: set[str], round_: int, batch: bool, now_ms: int, of_primary: bool
    ) -> None:
        self.items = items
        self.waiting = waiting
        self.round = round_
        """In which it began. When another has begun since, its answers may be from before that, and prove nothing."""
        self.batch = batch
        self.of_primary = of_primary
        """Only the member that we take for their primary is asked: it decides nothing for requests, and what that one
        does not know is gone."""
        self.began_ms = self.asked_ms = now_ms
        self.is_answered = False
        """Somebody has answered: where nobody does, that nobody knows better is not known."""
        self.answers: dict[bytes, list[tuple[str, Answer]]] = {}


class Contribution:
    """What this member still owes to a successor."""

    def __init__(self, key: bytes, base: dict[int, int], location: Location, number: int, now_ms: int) -> None:
        self.key = key
        self.base = base
        self.location = location
        self.number = number
        self.sent_ms = now_ms


class Comparisons:
    """All comparisons of one member, and how far the comparison of its old entries has come."""

    def __init__(
        self, core: Core, members: Members, replication: Replication, resume: Callable[[bytes, str], None]
    ) -> None:
        self._core = core
        self._members = members
        self._replication = replication
        self._resume = resume
        self._inquire: Callable[[bytes], None] = lambda key: None
        self.open: dict[int, Comparison] = {}
        self.complete = True
        self._cursor = b""
        self._cursor_next = b""
        self._round = 0
        self._verified: set[bytes] = set()
        self._asking: dict[bytes, int] = {}
        self._items: list[Item] = []
        self._scan_more = False
        self._contributions: dict[bytes, Contribution] = {}
        self._to_answer: dict[tuple[str, int], list[Answer]] = {}
        self._fresh: dict[bytes, int] = {}
        self._next_tick_ms = 0

    def inquire_with(self, inquire: Callable[[bytes], None]) -> None:
        """Name who opens an inquiry, for entries that are behind although nobody alive is ahead."""
        self._inquire = inquire

    # --- all entries, after a start ------------------------------------------------------------------------

    def begin_if_idle(self) -> None:
        """Compare everything, unless that is being done."""
        if self.complete:
            self.begin()

    def begin(self) -> None:
        """Compare everything held now; until that is complete no entry may be served in place."""
        self.set_back()
        self._members.round_begun()
        self._core.emit(c.Scan(c.ScanKind.ALL, c.CompareAll(self._round)))

    def set_back(self) -> None:
        """Nothing counts as compared, and a round that is under way ends nowhere."""
        self.complete = False
        self._round += 1
        self._cursor = b""
        self._verified.clear()

    def is_compared(self, key: bytes) -> bool:
        return self.complete or key in self._verified or key <= self._cursor

    def scanned(self, event: c.Scanned) -> None:
        """The next keys of the round."""
        purpose = event.scan.purpose
        assert isinstance(purpose, c.CompareAll)
        if purpose.round != self._round:
            return
        self._items = []
        self._scan_more = event.more
        self._cursor_next = event.keys[-1] if event.keys else b"\xff" * 16
        if event.keys and self._members.reachable():
            self._core.emit(c.Read(event.keys, purpose))
        else:
            self._page_done()  # nobody could know better of these: they need not be read

    def looked_in_round(self, key: bytes, entry: Entry | None) -> None:
        """Gather one entry of the batch; the batch goes out when its last key has been read."""
        if entry is not None and entry.has_data:
            self._items.append(Item(key, entry.epoch, entry.context))
        if key == self._cursor_next:
            items, self._items = self._items, []
            self._ask(items, set(self._members.reachable()), batch=True)

    def _page_done(self) -> None:
        self._cursor = self._cursor_next
        if self._scan_more:
            self._core.emit(c.Scan(c.ScanKind.ALL, c.CompareAll(self._round), after=self._cursor))
        else:
            self._finish_round()

    def _finish_round(self) -> None:
        self.complete = True
        self._members.round_done()
        self._verified.clear()
        self._core.tell(c.FactKind.COMPARED)
        self._members.publish_all()

    # --- one entry, for a request --------------------------------------------------------------------------

    def ask_about(self, key: bytes, entry: Entry, peers: Iterable[str], whole: bool = False) -> bool:
        """Compare one entry with ``peers`` now; False if none of them is reachable (then nobody knows better)."""
        if key in self._asking:
            return True
        waiting = {p for p in peers if self._members.is_reachable(p)}
        if not waiting:
            self._verified.add(key)
            return False
        context = {} if whole else entry.context
        self._asking[key] = self._ask([Item(key, entry.epoch, context)], waiting, batch=False)
        return True

    def is_fresh(self, key: bytes, since_ms: int) -> bool:
        """True if a comparison that began after ``since_ms`` is done: nobody was ahead then."""
        return self._fresh.get(key, -1) >= since_ms

    def compare_with_primary(self, primary: str, items: list[Item]) -> None:
        """Mend what we hold of sessions of which that member is, or is not, the primary."""
        for start in range(0, len(items), limits.BATCH_ENTRIES_MAX):
            self._ask(items[start : start + limits.BATCH_ENTRIES_MAX], {primary}, batch=False, of_primary=True)

    def _ask(self, items: list[Item], waiting: set[str], batch: bool, of_primary: bool = False) -> int:
        number = self._core.next_id()
        self._tick_soon()
        comparison = Comparison(items, waiting, self._round, batch, self._core.now_ms, of_primary)
        self.open[number] = comparison
        for name in sorted(waiting):
            self._core.send(name, Compare(number, tuple(items)))
        if not waiting or not items:
            self._conclude(number)
        return number

    # --- answers -------------------------------------------------------------------------------------------

    def compared(self, sender: str, message: Compared) -> None:
        comparison = self.open.get(message.comparison)
        if comparison is None or sender not in comparison.waiting:
            return
        comparison.waiting.discard(sender)
        comparison.is_answered = True
        for answer in message.answers:
            comparison.answers.setdefault(answer.key, []).append((sender, answer))
        if not comparison.waiting:
            self._conclude(message.comparison)

    def silent(self, name: str) -> None:
        """A member is suspect or lost: nobody waits for it."""
        for number, comparison in list(self.open.items()):
            if name in comparison.waiting:
                self._wait_no_more(comparison, name)
                if not comparison.waiting:
                    self._conclude(number)

    def _wait_no_more(self, comparison: Comparison, name: str) -> None:
        comparison.waiting.discard(name)
        if comparison.batch and comparison.round == self._round:
            self._members.left_out(name)

    def _conclude(self, number: int) -> None:
        comparison = self.open.pop(number)
        if comparison.of_primary:
            for item in comparison.items:
                for sender, answer in comparison.answers.get(item.key, ()):
                    self._mend(item, sender, answer)
            return
        is_of_this_round = comparison.round == self._round
        for item in comparison.items:
            self._judge(item, comparison.answers.get(item.key, []))
            if is_of_this_round:
                self._verified.add(item.key)
            if self._asking.get(item.key) == number:
                del self._asking[item.key]
            if comparison.is_answered:
                self._fresh[item.key] = comparison.began_ms
        if len(self._fresh) > limits.ACKNOWLEDGED_CONTEXTS_MAX:
            self._fresh.clear()
        for item in comparison.items:
            self._resume(item.key, "")
        if comparison.batch and is_of_this_round:
            self._page_done()

    def _judge(self, item: Item, answers: list[tuple[str, Answer]]) -> None:
        """Act on what the others know of one key."""
        key = item.key
        ended = [a for _, a in answers if a.verdict is Verdict.ENDED]
        if ended:
            location = ended[0].location
            assert location is not None
            self._core.emit(c.Change(key, c.Learn(Location(location.primary, (), location.epoch, ended=True))))
            return
        holding = [a.delta for _, a in answers if a.verdict is Verdict.HOLDS and a.delta is not None]
        ahead = [d for d in holding if d.location.epoch >= item.epoch]
        if ahead:
            best = max(ahead, key=lambda d: d.location.epoch)
            self._core.emit(c.Change(key, c.StepDown(best)))
        for delta in holding:
            if delta.location.epoch <= item.epoch:
                # Only a primary takes this: its store lost what a backup still has.
                self._core.emit(c.Change(key, c.TakeContribution("", 0, delta)))
        promised = max((a.promised for _, a in answers), default=NO_PROMISE)
        if promised > Promise(item.epoch.reign, item.epoch.chooser):
            # Only a primary takes this: another may be primary already, or be about to.
            self._core.emit(c.Change(key, c.Outbid(promised)))
        refused = [a.location for _, a in answers if a.verdict is Verdict.REFUSED and a.location is not None]
        if refused and not ahead:
            # Somebody knows of a later epoch that nobody alive holds the data of: ours is the newest there is.
            self._inquire(key)

    def _mend(self, item: Item, primary: str, answer: Answer) -> None:
        """Act on what the member that we take for a key's primary knows of it."""
        if answer.verdict is Verdict.UNKNOWN:
            # A life of its that was lost a moment ago may have had it: then this one has expired nothing.
            was_lost = primary in self._members.recently_lost()
            self._core.emit(c.Change(item.key, c.ForgetCopy(item.epoch, was_lost)))
        elif not item.holds and answer.verdict is Verdict.REFUSED and answer.location is not None:
            self._core.emit(c.Change(item.key, c.Learn(answer.location, primary)))
        else:
            self._judge(item, [(primary, answer)])

    def stepped_down(self, event: c.Changed) -> None:
        """The store's word: pass on what the successor lacks, or keep nothing that is not ours to keep."""
        what, entry = event.what, event.entry
        assert isinstance(what, c.StepDown)
        if event.outcome is not Outcome.STORED or entry is None or entry.ended:
            return
        if event.before is not None and event.before.role is Role.PRIMARY:
            self._core.tell(c.FactKind.STEPPED_DOWN, event.key, entry.primary)
        self._contribute(event.key, entry, what.whole)

    def _contribute(self, key: bytes, entry: Entry, whole: Delta) -> None:
        """Bring the successor what it lacks. It answers when our copy is not needed any more; where it lacks nothing it
        is asked for that answer all the same: of what we have acknowledged it may hold the only other copy."""
        if not covers(whole.context, entry.context):
            self._core.tell(c.FactKind.CONTRIBUTED, key, entry.primary)
        self._tick_soon()
        self._contributions[key] = Contribution(key, whole.context, entry.location, self._core.next_id(), 0)
        self.send_contribution(key, entry)

    def send_contribution(self, key: bytes, entry: Entry | None) -> None:
        """Send (again) what is owed for a key; nothing is where we are listed, and have nothing that others lack."""
        owed = self._contributions.pop(key, None)
        if owed is None or entry is None or not entry.has_data or entry.role is Role.PRIMARY:
            return
        if self._core.me in entry.backups and covers(owed.base, entry.context):
            return
        self._contributions[key] = owed  # behind those that wait for their turn
        owed.sent_ms = self._core.now_ms
        if self._members.is_reachable(entry.primary):
            delta = delta_since(entry, owed.base, self._core.now_ms)
            self._core.send(entry.primary, Contribute(key, owed.number, delta))

    def contribution_taken(self, event: c.Changed) -> None:
        """The primary's side: what was merged goes to the backups; the giver is answered when it may forget its copy.

        (It asks again until then, so nothing is noted here.)
        """
        what, entry = event.what, event.entry
        assert isinstance(what, c.TakeContribution)
        if entry is not None and event.outcome is Outcome.STORED:
            self._core.tell_concurrent(event.key, event.before, entry)
            self._replication.track(event.key, entry, event.before)
        if entry is None or not what.sender or event.outcome not in (Outcome.STORED, Outcome.UNCHANGED):
            return
        self._replication.take_up(event.key, entry)
        if self._replication.spares(event.key, entry, what.sender):
            self._core.send(what.sender, Acknowledge(event.key, -what.number, entry.context))

    def contribution_acknowledged(self, message: Acknowledge) -> None:
        owed = self._contributions.get(message.key)
        if owed is not None and owed.number == -message.number:
            del self._contributions[message.key]
            self._core.emit(c.Change(message.key, c.ReleaseCopy(owed.location.epoch)))

    # --- answering -----------------------------------------------------------------------------------------

    def asked(self, sender: str, message: Compare) -> None:
        keys = tuple(item.key for item in message.items)
        self._core.emit(c.Read(keys, c.AnswerCompare(sender, message.comparison, message.items)))

    def looked_to_answer(self, key: bytes, purpose: c.AnswerCompare, entry: Entry | None) -> None:
        item = next(item for item in purpose.items if item.key == key)
        if entry is not None and _is_deposed(entry, item):
            self.ask_about(key, entry, (purpose.sender,))
        answer = _answer(item, entry, self._core.me, self._core.now_ms)
        self._to_answer.setdefault((purpose.sender, purpose.comparison), []).append(answer)

    # --- time and sending ----------------------------------------------------------------------------------

    def _tick_soon(self) -> None:
        """The first thing that is under way sets the clock."""
        if not self.open and not self._contributions:
            self._next_tick_ms = self._core.now_ms + RESEND_MS

    def tick(self) -> None:
        now = self._core.now_ms
        self._next_tick_ms = now + RESEND_MS
        for number, comparison in list(self.open.items()):
            for name in [n for n in comparison.waiting if not self._members.is_alive(n)]:
                self._wait_no_more(comparison, name)
            if not comparison.waiting:
                self._conclude(number)
            elif now - comparison.asked_ms >= RESEND_MS:
                for name in sorted(comparison.waiting):
                    self._core.send(name, Compare(number, tuple(comparison.items)))
                comparison.asked_ms = now
        due = [owed.key for owed in self._contributions.values() if now - owed.sent_ms >= RESEND_MS]
        if due:
            self._core.emit(c.Read(tuple(due[: limits.BATCH_ENTRIES_MAX]), c.Resend("")))

    def deadline_ms(self) -> int | None:
        return self._next_tick_ms if self.open or self._contributions else None

    def flush(self) -> None:
        if not self._to_answer:
            return
        answering, self._to_answer = self._to_answer, {}
        for (name, number), answers in answering.items():
            if self._members.is_reachable(name):
                self._core.send(name, Compared(number, tuple(answers)))


def _answer(item: Item, entry: Entry | None, me: str, now_ms: int) -> Answer:
    """What this member knows of a key beyond a peer's epoch and context."""
    key = item.key
    if entry is None:
        return Answer(key, Verdict.UNKNOWN)
    if entry.ended:
        return Answer(key, Verdict.ENDED, entry.location)
    if entry.role is Role.PROXY and (entry.epoch <= item.epoch or (not item.holds and entry.primary == me)):
        # A note, of a promise or of a place that was told late, which may be all that is left of a session.
        return Answer(key, Verdict.UNKNOWN, promised=entry.promised)
    if entry.has_data and item.holds:
        if _is_deposed(entry, item):
            # Some of what it did may have been answered to nobody, and is repeated where the primary is now: it has to
            # step down first, and then passes on what is left.
            return Answer(key, Verdict.NOTHING, promised=entry.promised)
        if entry.epoch > item.epoch or not covers(item.context, entry.context):
            delta = delta_since(entry, {}, now_ms)
            return Answer(key, Verdict.HOLDS, entry.location, delta, promised=entry.promised)
    elif entry.epoch > item.epoch:
        return Answer(key, Verdict.REFUSED, entry.location, promised=entry.promised)
    return Answer(key, Verdict.NOTHING, promised=entry.promised)


def _is_deposed(entry: Entry, item: Item) -> bool:
    """True for the primary of an earlier reign than the asker knows of."""
    return entry.role is Role.PRIMARY and not entry.ended and item.epoch > entry.epoch
