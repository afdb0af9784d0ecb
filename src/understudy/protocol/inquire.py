"""Ask, promise, promote: how a holder becomes primary without taking back what a user has seen.

Before a member promotes itself it asks every living member about the key and names the reign that it wants. Each
answers what it holds beyond the asker, with the promise to acknowledge nothing for this key under a lower reign; or
that it is the primary, or hears it, and then nobody promotes. The asker waits for each until it answers or is
suspect, merges, and promotes itself.

Source: the two phases of single-decree Paxos (Lamport 1998), with the difference that values merge.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import NamedTuple

from understudy import limits
from understudy.model.commit import Outcome
from understudy.model.delta import delta_since
from understudy.model.entry import NO_PROMISE, Entry, Location, Promise, Role, covers
from understudy.protocol import commands as c
from understudy.protocol.core import Core
from understudy.protocol.members import Members
from understudy.protocol.messages import Answer, Answers, Ask, Forget, Question, Refuse, Verdict

RESEND_MS = 100
TICK_MS = 20
BACK_OFF_MS = 40
"""After a promotion was dropped; plus a part of the chooser, so that two askers do not meet again and again."""
BACK_OFF_DOUBLINGS_MAX = 6
"""While it is dropped again and again (we alone do not hear the primary) a key is asked about ever more rarely."""
DROPS_REMEMBERED_MS = 10_000
PROMISES = (Verdict.NOTHING, Verdict.HOLDS)
"""Verdicts that come with the promise."""


class Inquiry:
    """One key's question to all, while it is open."""

    def __init__(self, question: Question, now_ms: int) -> None:
        self.question = question
        self.waiting: set[str] = set()
        self.since_ms = self.asked_ms = now_ms
        self.numbers: set[int] = set()
        self.answers: dict[str, Answer] = {}
        self.holds: dict[str, int] = {}
        """How long leases run on that answerers have granted, in ms, by who may read under them."""


class Dropped(NamedTuple):
    """A promotion that was dropped a moment ago."""

    since_ms: int
    due_ms: int
    """When the key is looked at again without a request; 0: not any more."""
    times: int


class Inquiries:
    """All open inquiries of one member."""

    def __init__(self, core: Core, members: Members, resume: Callable[[bytes, str], None]) -> None:
        self._core = core
        self._members = members
        self._resume = resume
        """Called with (key, member to relay through or "") when requests for the key may go on."""
        self.open: dict[bytes, Inquiry] = {}
        self.is_cold = False
        """Nothing is promoted: who lately stood still, or began, may be the one who is missing."""
        self.unstored: OrderedDict[bytes, tuple[Promise, Location]] = OrderedDict()
        """Promises for which the store had no room, and where the session was then."""
        self._promoting: dict[bytes, Inquiry] = {}
        self._dropped: dict[bytes, Dropped] = {}
        self._above: dict[bytes, int] = {}
        self._to_ask: dict[str, list[Question]] = {}
        self._to_answer: dict[tuple[str, int], list[Answer]] = {}
        self._holds: dict[tuple[str, int], dict[str, int]] = {}
        self._next_tick_ms = 0

    # --- asking --------------------------------------------------------------------------------------------

    def begin(self, key: bytes, above: int = 0) -> None:
        """Open an inquiry about a key, unless one is open or was a moment ago; for a reign higher than ``above``."""
        if above:
            self._above[key] = max(above, self._above.get(key, 0))
        dropped = self._dropped.get(key)
        if key not in self.open and (dropped is None or self._core.now_ms >= dropped.since_ms + self._back_off_ms):
            self._core.emit(c.Read((key,), c.Inquire()))

    @property
    def _back_off_ms(self) -> int:
        return BACK_OFF_MS + self._core.settings.chooser % BACK_OFF_MS

    def looked(self, key: bytes, entry: Entry | None) -> None:
        """The entry to ask about. Only a copy of a live session can become primary."""
        if entry is None or not entry.has_data or key in self.open:
            self._resume(key, "")
            return
        patience_ms = self._members.patience_until_ms(entry.primary)
        if self._core.now_ms < patience_ms:
            self._dropped[key] = Dropped(patience_ms - self._back_off_ms, patience_ms, 0)
            return
        unstored, _ = self.unstored.get(key, (NO_PROMISE, None))
        known = max(entry.epoch.reign, entry.promised.reign, unstored.reign, self._above.pop(key, 0))
        promise = Promise(known + 1, self._core.settings.chooser)
        question = Question(key, promise, entry.context, entry.location)
        if not self.open:
            self._next_tick_ms = self._core.now_ms + TICK_MS
        inquiry = self.open[key] = Inquiry(question, self._core.now_ms)
        self._ask(inquiry, self._members.reachable())
        self._maybe_conclude(inquiry)

    def answered(self, sender: str, message: Answers) -> None:
        """One member's answers."""
        for answer in message.answers:
            inquiry = self.open.get(answer.key)
            if inquiry is None or message.inquiry not in inquiry.numbers or sender not in inquiry.waiting:
                continue
            inquiry.waiting.discard(sender)
            inquiry.answers[sender] = answer
            _longest(inquiry.holds, message.holds)
            self._maybe_conclude(inquiry)

    def found(self, name: str) -> None:
        """A member is there (again): what is being asked of the others is asked of it, too."""
        for inquiry in self.open.values():
            self._ask(inquiry, (name,))

    def set_back(self) -> None:
        """This member doubts what it knew: what it was answered before counts for nothing."""
        for key in tuple(self.open):
            del self.open[key]
            self.try_again(key)
            self._resume(key, "")

    def silent(self, name: str) -> None:
        """A member is suspect or lost: nobody waits for it."""
        for inquiry in list(self.open.values()):
            if name in inquiry.waiting:
                inquiry.waiting.discard(name)
                self._maybe_conclude(inquiry)

    def _ask(self, inquiry: Inquiry, names: Iterable[str]) -> None:
        for name in sorted(names):
            inquiry.waiting.add(name)
            self._to_ask.setdefault(name, []).append(inquiry.question)

    def _is_awaited(self, inquiry: Inquiry, name: str) -> bool:
        """Nobody waits for a suspect member; but where no other answers, it may be us who were cut off for a moment."""
        if self._members.is_alive(name):
            return True
        is_other = self._members.is_reachable(name) and name != inquiry.question.location.primary
        return is_other and not inquiry.answers and self._core.now_ms < inquiry.since_ms + self._core.settings.lease_ms

    def _maybe_conclude(self, inquiry: Inquiry) -> None:
        """Conclude when all who are alive now have answered: who was suspect meanwhile may have missed the question."""
        if not inquiry.waiting:
            self._ask(inquiry, set(self._members.alive()) - inquiry.answers.keys())
        if not inquiry.waiting and not self.is_cold:
            self._conclude(inquiry)

    def _conclude(self, inquiry: Inquiry) -> None:
        """Everybody has answered: promote, or do not, and say why."""
        key = inquiry.question.key
        del self.open[key]
        answers = inquiry.answers
        by_verdict = {answer.verdict: (sender, answer) for sender, answer in answers.items()}
        if Verdict.ENDED in by_verdict:
            location = by_verdict[Verdict.ENDED][1].location or inquiry.question.location
            self._core.emit(c.Change(key, c.Learn(Location(location.primary, (), location.epoch, ended=True))))
            self._resume(key, "")
        elif Verdict.PRIMARY in by_verdict:
            self._drop(inquiry, by_verdict[Verdict.PRIMARY], "it has a primary")
        elif Verdict.REFUSED in by_verdict:
            # A hand-over to us that never came is no place to learn: its reign alone shows that it was given.
            known = [a.location.epoch.reign for a in answers.values() if a.location is not None]
            promised = [answer.promised.reign for answer in answers.values()]
            self._above[key] = max(self._above.get(key, 0), *promised, *known)
            self._drop(inquiry, by_verdict[Verdict.REFUSED], "a higher promise is known", retry=True)
        elif Verdict.HEARD in by_verdict and not self._primary_denies(inquiry):
            self._drop(inquiry, by_verdict[Verdict.HEARD], "its primary is heard", retry=True)
        elif self._members.in_minority:
            self._drop(inquiry, (self._core.me, Answer(key, Verdict.NOTHING)), "this side is a minority", retry=True)
        else:
            self._promote(inquiry)

    def _primary_denies(self, inquiry: Inquiry) -> bool:
        """The member that is named as primary has said itself that it is not."""
        said = inquiry.answers.get(inquiry.question.location.primary)
        return said is not None and said.verdict in PROMISES

    def _drop(self, inquiry: Inquiry, why: tuple[str, Answer], detail: str, retry: bool = False) -> None:
        key = inquiry.question.key
        sender, answer = why
        self._core.tell(c.FactKind.PROMOTION_DROPPED, key, sender, detail)
        if answer.location is not None:
            self._core.emit(c.Change(key, c.Learn(answer.location, sender)))
        if retry:
            self.try_again(key)
        self._resume(key, sender if answer.verdict in (Verdict.HEARD, Verdict.PRIMARY) else "")

    def _promote(self, inquiry: Inquiry) -> None:
        question = inquiry.question
        found = tuple(a.delta for a in inquiry.answers.values() if a.delta is not None)
        old = [b for b in question.location.backups if b != self._core.me]
        holders = [n for n in old if n in inquiry.answers and self._members.is_alive(n)]
        lacking = self._core.settings.copies_wanted - len(holders)
        exclude = (*holders, question.location.primary)
        chosen = self._members.place(question.key, lacking, exclude) if lacking > 0 else ()
        if lacking > len(chosen) and self._members.is_alive(question.location.primary):
            chosen = (*chosen, question.location.primary)
        self._promoting[question.key] = inquiry
        what = c.Promote(question.promise, (*holders, *chosen), found, self._hold_ms(inquiry))
        self._core.emit(c.Change(question.key, what))

    def _hold_ms(self, inquiry: Inquiry) -> int:
        """How long somebody may still read as primary under a lease. Who has promised is primary no more, and with that
        its workers read nothing in place: what was granted to it does not count.
        """
        location = inquiry.question.location
        _longest(inquiry.holds, self._holds_for((location.primary, *location.backups)))
        promised = {name for name, answer in inquiry.answers.items() if answer.verdict in PROMISES}
        readers = {name for name in inquiry.question.location.backups if name != self._core.me}
        if self._core.settings.everywhere and not promised >= readers:
            # Who did not answer may be reading under a lease that the old primary gave it in its last moment.
            inquiry.holds.setdefault("", self._members.promise_ms)
        return max(
            (ms for name, ms in inquiry.holds.items() if name not in promised and name != self._core.me), default=0
        )

    def _holds_for(self, names: Iterable[str]) -> dict[str, int]:
        now = self._core.now_ms
        return {name: max(0, self._members.hold_until_ms([name]) - now) for name in names if name != self._core.me}

    def promoted(self, key: bytes, entry: Entry | None, outcome: Outcome) -> None:
        """The store's word on a promotion."""
        inquiry = self._promoting.pop(key, None)
        if entry is None and inquiry is not None:
            # Its primary has expired it meanwhile; whoever has promised something since then keeps a note of it.
            for name in inquiry.answers:
                if self._members.is_reachable(name):
                    self._core.send(name, Forget(((key, inquiry.question.location.epoch),)))
        if outcome is Outcome.REFUSED:
            self._core.tell(c.FactKind.PROMOTION_DROPPED, key, detail="a higher epoch became known here")
            self.try_again(key)
        self._resume(key, "")

    def try_again(self, key: bytes) -> None:
        """Look at the key again after a while: it may still need a primary."""
        before = self._dropped.get(key)
        times = before.times + self._members.ready if before is not None else 0
        now, delay_ms = self._core.now_ms, self._back_off_ms << min(times, BACK_OFF_DOUBLINGS_MAX)
        self._dropped[key] = Dropped(now, now + delay_ms, times)

    # --- answering -----------------------------------------------------------------------------------------

    def asked(self, sender: str, message: Ask) -> None:
        """A member wants to become primary of some sessions."""
        heard = frozenset(n for n in self._members.alive() if n != sender and self._members.hears(n))
        for question in message.questions:
            unstored = self.unstored.get(question.key)
            if unstored is not None and unstored[0] > question.promise:
                refused = Answer(question.key, Verdict.REFUSED, unstored[1], promised=unstored[0])
                self._to_answer.setdefault((sender, message.inquiry), []).append(refused)
                continue
            what = c.GivePromise(sender, message.inquiry, question.promise, question.context, question.location, heard)
            self._core.emit(c.Change(question.key, what))

    def promise_given(self, event: c.Changed) -> None:
        """The store's word on one question: queue its answer."""
        what, entry = event.what, event.entry
        assert isinstance(what, c.GivePromise)
        slot = (what.sender, what.inquiry)
        if event.outcome is Outcome.STORE_FULL:
            self._keep(event.key, what.promise, what.location if entry is None else entry.location)
        if entry is None:
            self._members.fence(what.location.primary)
            self._to_answer.setdefault(slot, []).append(Answer(event.key, Verdict.NOTHING))
            return
        verdict, delta = _verdict_of(event, self._core.me), None
        if verdict in PROMISES:
            self._core.tell(c.FactKind.PROMISED, event.key, what.sender)
            # Who counts is the primary that its asker believes in, and the one that we know of.
            for location in (what.location, entry.location):
                if location.primary != what.sender:
                    self._members.fence(location.primary)
                _longest(self._holds.setdefault(slot, {}), self._holds_for((location.primary, *location.backups)))
            if event.before is not None and event.before.is_outbid:
                self._fence_promised(event.before, what)
        if entry.role is Role.PRIMARY and verdict is Verdict.HOLDS:
            # The asker knows a later reign. What we did for nobody is repeated there: we step down before we give it.
            verdict = Verdict.NOTHING
            self._core.emit(c.Read((event.key,), c.CompareOne((what.sender,))))
        if verdict is Verdict.HOLDS:
            delta = delta_since(entry, what.context, self._core.now_ms)
        promised = entry.promised if verdict is Verdict.REFUSED else NO_PROMISE
        self._to_answer.setdefault(slot, []).append(Answer(event.key, verdict, entry.location, delta, promised))

    def _keep(self, key: bytes, promise: Promise, location: Location) -> None:
        """Remember a promise that the store has no room for: what does not grow, or comes when there is room again,
        could be stored under a lower reign."""
        self.unstored[key] = promise, location
        self.unstored.move_to_end(key)
        if len(self.unstored) > limits.ACKNOWLEDGED_CONTEXTS_MAX:
            self.unstored.popitem(last=False)
        inquiry = self.open.get(key)
        if inquiry is not None and inquiry.question.promise < promise:
            del self.open[key]
            self.try_again(key)
            self._resume(key, "")

    def refusal(self, key: bytes, number: int, location: Location) -> Refuse | None:
        """For a copy under a lower reign than was promised, where the store does not know of that; None: take it."""
        if key not in self.unstored or location.ended:
            return None
        promise, place = self.unstored[key]
        if Promise(location.epoch.reign, location.epoch.chooser) < promise:
            return Refuse(key, number, place, promise)
        del self.unstored[key]
        return None

    def _fence_promised(self, before: Entry, what: c.GivePromise) -> None:
        """Whom an earlier reign was promised may be primary by now, unheard by us: one of the others."""
        if before.promised.chooser == what.promise.chooser:
            return
        others = [member.name for member in self._members.all() if member.name != what.sender]
        for name in others:
            self._members.fence(name)
        _longest(self._holds.setdefault((what.sender, what.inquiry), {}), self._holds_for(others))

    # --- time and sending ----------------------------------------------------------------------------------

    def tick(self) -> None:
        now = self._core.now_ms
        self._next_tick_ms = now + TICK_MS
        for inquiry in list(self.open.values()):
            inquiry.waiting = {name for name in inquiry.waiting if self._is_awaited(inquiry, name)}
            if not inquiry.waiting:
                self._maybe_conclude(inquiry)
            elif now - inquiry.asked_ms >= RESEND_MS:
                inquiry.asked_ms = now
                self._ask(inquiry, inquiry.waiting)
        for key, dropped in list(self._dropped.items()):
            if dropped.due_ms and now >= dropped.due_ms:
                self._dropped[key] = dropped._replace(due_ms=0)
                # Where a reign was refused nobody may have won it: the entry here does not show that.
                self._core.emit(c.Read((key,), c.Inquire() if key in self._above else c.Recheck("")))
            elif not dropped.due_ms and now >= dropped.since_ms + DROPS_REMEMBERED_MS:
                del self._dropped[key]

    def deadline_ms(self) -> int | None:
        """Open inquiries are looked at again soon; retries at their instant."""
        if not self._dropped and not self.open:
            return None
        instants = [dropped.due_ms for dropped in self._dropped.values() if dropped.due_ms]
        if self.open:
            instants.append(self._next_tick_ms)
        return min(instants, default=None)

    def flush(self) -> None:
        """Send what one turn has gathered, a message a member."""
        if not self._to_ask and not self._to_answer:
            return
        asking, self._to_ask = self._to_ask, {}
        for name, questions in asking.items():
            number = self._core.next_id()
            for question in questions:
                inquiry = self.open.get(question.key)
                if inquiry is not None:
                    inquiry.numbers.add(number)
            if self._members.is_reachable(name):
                self._core.send(name, Ask(number, tuple(questions)))
        answering, self._to_answer = self._to_answer, {}
        for (name, number), answers in answering.items():
            self._core.send(name, Answers(number, tuple(answers), self._holds.pop((name, number), {})))


def _longest(holds: dict[str, int], further: dict[str, int]) -> None:
    """Add to the first the longer of both."""
    for name, ms in further.items():
        holds[name] = max(ms, holds.get(name, 0))


def _verdict_of(event: c.Changed, me: str) -> Verdict:
    entry, what = event.entry, event.what
    assert entry is not None and isinstance(what, c.GivePromise)
    if event.outcome is Outcome.ENDED:
        return Verdict.ENDED
    if event.outcome is Outcome.REFUSED:
        return Verdict.REFUSED
    if event.outcome is Outcome.UNCHANGED:
        return Verdict.PRIMARY if entry.role is Role.PRIMARY else Verdict.HEARD
    beyond = not covers(what.context, entry.context)
    return Verdict.HOLDS if entry.has_data and beyond else Verdict.NOTHING
