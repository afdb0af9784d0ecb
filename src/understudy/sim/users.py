"""Simulated users and their browsers: each follows its cookie, writes numbered values, and remembers what it was told.

A user's attributes hold numbers that only rise, so that one look tells whether an answer is older than something the
user has seen or was promised.
"""

from __future__ import annotations

from collections.abc import Callable

from understudy.model.commit import Commit, Creation, Outcome
from understudy.model.entry import Entry, Role
from understudy.protocol import messages as m
from understudy.sim.world import Machine, World

TRIES_MAX = 40
RETRY_MS = 60
COUNTER = "counter"


class Known:
    """What a user knows of one attribute."""

    def __init__(self) -> None:
        self.tried = 0
        """The highest value that was sent."""
        self.seen = 0
        """The highest value that was acknowledged as protected, or shown."""


class User:
    """One browser with one session at a time, in several tabs (one operation a tab at once)."""

    def __init__(self, world: World, number: int, problems: list[str]) -> None:
        self.world = world
        self.name = f"user{number}"
        self.problems = problems
        self.key = b""
        self.secret = b"secret--"
        self.known: dict[str, Known] = {}
        self.sure_increments = 0
        self.tried_increments = 0
        self.alive = False
        self.may_be_ended = False
        self.ever_unprotected = False
        self.protected_writes = 0
        self.unavailable = 0
        self.operations = 0

    def describe(self, text: str) -> str:
        return f"at {self.world.network.now_ms} ms, {self.name} ({self.key.hex()[:6]}): {text}"

    # --- operations ----------------------------------------------------------------------------------------

    def create(self, machine: Machine, done: Callable[[], None]) -> None:
        """Log in: a new session with a first value."""
        self.key = self.world.random.randbytes(16)
        self.known = {}
        self.alive = self.may_be_ended = self.ever_unprotected = False
        self.sure_increments = self.tried_increments = 0
        commit = Commit(self.world.random.randbytes(8), self.secret, {"a0": b"1"}, creates=Creation(3_600_000))
        known = self.known.setdefault("a0", Known())
        known.tried = 1

        def answered(answer: m.CommitAnswer) -> None:
            if answer.outcome is Outcome.COMMITTED:
                self.alive = True
                self._acknowledged(answer, {"a0": 1})
            else:
                self.unavailable += 1
            done()

        _Write(self, machine, commit, answered).go()

    def write(self, machine: Machine, attribute: str, done: Callable[[], None]) -> None:
        """Set one attribute to the next number."""
        known = self.known.setdefault(attribute, Known())
        known.tried += 1
        value = known.tried
        commit = Commit(self.world.random.randbytes(8), self.secret, {attribute: b"%d" % value})
        key = self.key

        def answered(answer: m.CommitAnswer) -> None:
            if self.key != key:
                return done()
            if answer.outcome is Outcome.COMMITTED:
                self._acknowledged(answer, {attribute: value})
            elif answer.outcome in (Outcome.ENDED, Outcome.UNKNOWN, Outcome.FENCED):
                self._gone(f"a write was answered {answer.outcome.name}")
            else:
                self.unavailable += 1
            done()

        _Write(self, machine, commit, answered).go()

    def increment(self, machine: Machine, done: Callable[[], None], tries: int = 0) -> None:
        """Add one to the counter, exactly once: read, commit on condition, again on conflict."""
        key = self.key
        if tries == 0:
            self.tried_increments += 1

        def read(entry: Entry | None, outcome: str) -> None:
            if self.key != key or entry is None:
                if outcome == "unavailable":
                    self.unavailable += 1
                elif self.key == key:
                    self._gone("an increment found no session")
                return done()
            siblings = entry.attributes.get(COUNTER, ())
            value = int(siblings[0].value) if siblings else 0
            commit = Commit(
                self.world.random.randbytes(8),
                self.secret,
                {COUNTER: b"%d" % (value + 1)},
                expects={COUNTER: tuple(s.dot for s in siblings)},
            )
            _Write(self, machine, commit, answered).go()

        def answered(answer: m.CommitAnswer) -> None:
            if self.key != key:
                return done()
            if answer.outcome is Outcome.COMMITTED:
                if answer.protected:
                    self.sure_increments += 1
                    self.protected_writes += 1
                else:
                    self.ever_unprotected = True
            elif answer.outcome is Outcome.CONFLICT and tries < TRIES_MAX:
                return self.increment(machine, done, tries + 1)
            elif answer.outcome in (Outcome.ENDED, Outcome.UNKNOWN, Outcome.FENCED):
                self._gone(f"an increment was answered {answer.outcome.name}")
            else:
                self.unavailable += 1
            done()

        self.read_entry(machine, read)

    def read(self, machine: Machine, done: Callable[[], None]) -> None:
        """Look at everything, and compare with what this user knows."""
        key = self.key
        floor = {name: known.seen for name, known in self.known.items()}
        sure = self.sure_increments
        was_ended = self.may_be_ended and not self.alive

        def shown(entry: Entry | None, outcome: str) -> None:
            if self.key != key:
                return done()
            if entry is None:
                if outcome == "unavailable":
                    self.unavailable += 1
                else:
                    self._gone(f"a read at {machine.name} was answered {outcome}")
                return done()
            if was_ended:
                self.problems.append(self.describe("an ended session was served"))
            self.check(entry, floor, sure, machine.name)
            done()

        self.read_entry(machine, shown)

    def end(self, machine: Machine, done: Callable[[], None]) -> None:
        """Log out."""
        commit = Commit(self.world.random.randbytes(8), self.secret, ends=True)
        key = self.key
        self.may_be_ended = True

        def answered(answer: m.CommitAnswer) -> None:
            if self.key == key and answer.outcome in (Outcome.COMMITTED, Outcome.ENDED) and answer.protected:
                self.alive = False
            done()

        _Write(self, machine, commit, answered).go()

    # --- what was learnt -----------------------------------------------------------------------------------

    def _acknowledged(self, answer: m.CommitAnswer, values: dict[str, int]) -> None:
        if not answer.protected:
            self.ever_unprotected = True
            return
        self.protected_writes += 1
        for name, value in values.items():
            self.known[name].seen = max(self.known[name].seen, value)

    def _gone(self, what: str) -> None:
        if self.alive and not self.may_be_ended and not self.ever_unprotected and self.protected_writes:
            self.problems.append(self.describe(f"the session was lost: {what}"))

    def check(self, entry: Entry, floor: dict[str, int], sure: int, where: str) -> None:
        """Nothing older than ``floor``, nothing that was never written."""
        for name, least in floor.items():
            shown = entry.shown(name)
            value = int(shown) if shown is not None else 0
            if value < least and not self.ever_unprotected:
                self.problems.append(self.describe(f"{name} is {value} at {where}, {least} was acknowledged or shown"))
            if value > self.known[name].tried:
                self.problems.append(self.describe(f"{name} is {value}, only {self.known[name].tried} was written"))
            if not self.ever_unprotected:
                self.known[name].seen = max(self.known[name].seen, value)
        shown = entry.shown(COUNTER)
        value = int(shown) if shown is not None else 0
        if not sure <= value <= self.tried_increments and not self.ever_unprotected:
            self.problems.append(
                self.describe(
                    f"the counter is {value} at {where}, between {sure} and {self.tried_increments} were added"
                )
            )

    # --- a worker's read -----------------------------------------------------------------------------------

    def read_entry(self, machine: Machine, done: Callable[[Entry | None, str], None], tries: int = 0) -> None:
        """What a worker does: in place if it may, else by asking its agent."""

        def again() -> None:
            if tries >= TRIES_MAX:
                done(None, "unavailable")
            else:
                self.world.later(RETRY_MS, lambda: self.read_entry(machine, done, tries + 1))

        if machine.paused:
            return again()
        served = self._in_place(machine)
        if served is not None:
            entry, number = served
            if number == 0:
                return done(entry, "here")
            request = m.SettleRequest(0, self.key, number)
            return machine.ask(request, lambda answer: done(entry, "here") if _is_settled(answer) else again())

        def fetched(answer: m.FetchAnswer | m.CommitAnswer | None) -> None:
            if answer is None or not isinstance(answer, m.FetchAnswer) or answer.outcome is m.FetchOutcome.UNAVAILABLE:
                again()
            elif answer.outcome is m.FetchOutcome.FOUND:
                done(answer.entry, "found")
            elif answer.outcome is m.FetchOutcome.HERE:
                entry = machine.store.read(self.key).entry
                if entry is not None and entry.role is Role.PRIMARY and not entry.ended:
                    done(entry, "here")
                else:
                    again()
            else:
                done(None, answer.outcome.name)

        machine.ask(m.FetchRequest(0, self.key), fetched)

    def _in_place(self, machine: Machine) -> tuple[Entry, int] | None:
        reading = machine.store.read(self.key)
        entry = reading.entry
        if entry is None or entry.role is not Role.PRIMARY or entry.ended or entry.expired(machine.now_ms()):
            return None
        if any(machine.leases.get(b, 0) <= machine.now_ms() for b in entry.backups):
            return None
        return entry, 0 if reading.settled else entry.number


class _Write:
    """One commit, repeated under its id until it is answered: what the link does when an agent dies."""

    def __init__(self, user: User, machine: Machine, commit: Commit, done: Callable[[m.CommitAnswer], None]) -> None:
        self.user = user
        self.machine = machine
        self.commit = commit
        self.done = done
        self.tries = 0
        self.key = user.key

    def go(self) -> None:
        request = m.CommitRequest(0, self.key, self.commit, m.AcknowledgeMode.BACKUP)
        self.machine.ask(request, self._answered)

    def _answered(self, answer: m.FetchAnswer | m.CommitAnswer | None) -> None:
        if isinstance(answer, m.CommitAnswer) and answer.outcome is not Outcome.REFUSED:
            self.done(answer)
            return
        self.tries += 1
        if self.tries > TRIES_MAX:
            self.done(m.CommitAnswer(Outcome.REFUSED, unsure=True))
            return
        # A browser that got no answer goes to another machine with the same request, as a balancer would send it.
        self.user.world.later(RETRY_MS, self.go)


def _is_settled(answer: m.FetchAnswer | m.CommitAnswer | None) -> bool:
    return isinstance(answer, m.CommitAnswer) and answer.outcome is Outcome.COMMITTED
