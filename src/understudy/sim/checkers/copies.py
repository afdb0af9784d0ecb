"""An answer that says "protected" leaves when as many machines as it says hold the change, and nobody shows less."""

from __future__ import annotations

from collections.abc import Callable

from understudy.client import in_place
from understudy.model.commit import Outcome
from understudy.model.entry import Attributes, Context, Entry, Key, Role, contains, covers
from understudy.protocol import messages as m
from understudy.protocol.commands import Fact, FactKind
from understudy.sim.checkers.holding import LOST_A_MOMENT_AGO_MS, seen_with
from understudy.sim.checkers.ledger import Calm
from understudy.sim.world import Machine, Reply, World

NEVER_MS = 1 << 60
RECOVERING_MS = 12_000
"""After the loss of a store, until everything has its copies again: what was protected may be read meanwhile."""
ENDED = (Outcome.ENDED, m.FetchOutcome.ENDED)
SHOWN = (m.FetchOutcome.FOUND, m.FetchOutcome.NOT_MODIFIED)
ASKED_MS = 3_000
"""By then a machine that was met has been asked what it holds."""


class Copies:
    """Looks into all stores whenever a commit is answered."""

    def __init__(self, tell: Callable[[str], None], calm: Calm, copies: int) -> None:
        self._tell = tell
        self._calm = calm
        self._copies = copies
        self._expired: dict[Key, tuple[str, int]] = {}
        """Who has expired a session last, as its primary, and when."""
        self._forgot: dict[Key, set[str]] = {}
        """Machines that have held a session's tombstone until its time was over."""
        self._asked: dict[tuple[str, int], tuple[Key, Context]] = {}
        """(Who asks another member for a session, its request's number) -> its key, and what is known of it there."""
        self._sent: dict[tuple[str, str, Key], int] = {}
        """(Who, to whom, key) -> when a copy was last sent."""
        self._met: dict[tuple[str, str], int] = {}
        """(Who, whom) -> since when the first takes the second for present."""

    def stored(self, machine: Machine, key: Key, before: Entry | None, after: Entry | None) -> None:
        if before is None or after is not None:
            return
        if before.role is Role.PRIMARY and before.expired(machine.now_ms()):
            # In a turn in which it was changed, too, the fact is told after the answer.
            self._expired[key] = machine.name, machine.world.now_ms
        if not before.ended:
            return
        if machine.now_ms() >= before.ended_ms + machine.world.settings.forget_ms:
            self._forgot.setdefault(key, set()).add(machine.name)

    def told(self, machine: Machine, fact: Fact) -> None:
        if fact.kind is FactKind.SESSION_EXPIRED:
            self._expired[fact.key] = machine.name, machine.world.now_ms
        elif fact.kind is FactKind.MEMBER_FOUND or fact.kind is FactKind.MEMBER_RETURNED:
            self._met[machine.name, fact.member] = machine.world.now_ms
        elif fact.kind is FactKind.MEMBER_LOST:
            self._met.pop((machine.name, fact.member), None)

    def sends(self, machine: Machine, to: str, message: m.Replicate) -> None:
        self._sent[(machine.name, to, message.key)] = machine.world.now_ms

    def asks(self, machine: Machine, to: str, message: m.Fetch) -> None:
        self._asked[(machine.name, message.request)] = message.key, message.have

    def shows(self, machine: Machine, to: str, message: m.Fetched) -> None:
        """Another member is shown a session, and told that it is protected."""
        key, have = self._asked.pop((to, message.request), (b"", {}))
        if key and message.answer.outcome in SHOWN and not message.answer.unprotected:
            self._vouches(machine, key, message.delta.context if message.delta is not None else have)

    def _vouches(self, machine: Machine, key: Key, context: Context) -> None:
        """A primary says that all of this is protected. (Who has met a machine a moment ago asks it soon what it holds:
        until then that one counts as it was.)"""
        entry, now_ms = machine.store.entries.get(key), machine.world.now_ms
        if entry is None or entry.role is not Role.PRIMARY or not self._calm.holds(now_ms):
            return
        for name in entry.backups:
            met_ms = self._met.get((machine.name, name), -ASKED_MS)
            if now_ms - met_ms < ASKED_MS and self._sent.get((machine.name, name, key), -1) < met_ms:
                return
        holders = self._holders(machine.world, lambda copy: covers(copy.context, context), key, decided=machine)
        if holders <= self._copies:
            self._tell(f"{machine.name} shows {key.hex()[:6]} and calls it protected; {holders} hold it")

    def replied(self, machine: Machine, request: m.Request, answer: Reply) -> None:
        if isinstance(request, m.SettleRequest) and isinstance(answer, m.CommitAnswer) and answer.protected:
            entry = machine.store.entries.get(request.key)
            if entry is not None and entry.number == request.number:
                self._vouches(machine, request.key, entry.context)
        if not isinstance(answer, m.CommitAnswer) or not isinstance(request, m.CommitRequest):
            return
        if answer.outcome is not Outcome.COMMITTED or not answer.protected or not answer.number:
            return
        if not self._calm.holds(machine.world.now_ms):
            return
        # (What another member has told us, that one may have decided before a loss of which we know.)
        decided_here = machine if answer.incarnation == machine.me.incarnation else None
        holders = self._holders(
            machine.world, lambda entry: _has(entry, request, answer), request.key, decided=decided_here
        )
        if holders <= self._copies:
            self._tell(f"{machine.name}: a change of {request.key.hex()[:6]} is called protected; {holders} hold it")

    def shown(self, world: World, key: Key, attributes: Attributes, began_ms: int, where: str) -> None:
        """What a reader was shown and told to be protected; nobody may be shown what a failure could take back."""
        if not self._calm.holds(began_ms):
            return
        seen = seen_with(attributes)
        holders = self._holders(world, lambda entry: covers(entry.context, seen), key, began_ms - RECOVERING_MS)
        if holders <= self._copies:
            self._tell(f"{where}: what is shown of {key.hex()[:6]} is called protected; {holders} hold it")

    def _holders(
        self,
        world: World,
        has: Callable[[Entry], bool],
        key: Key,
        since_ms: int = NEVER_MS,
        decided: Machine | None = None,
    ) -> int:
        """How many machines hold it, or held it in a store that was lost since then, and whose loss the machine that
        ``decided`` has not noticed; all, if the session is over.

        (Who acknowledged a change may have expired the session since, as its next primary; then nothing is left of it
        whose time is not over. Or in the turn in which it answers, while its copies have not heard of that. And a
        request may be answered so late that the session was ended and its tombstone forgotten: who has held that for
        its time has held more than was shown.)
        """
        machines = world.machines.values()
        holding = sum(
            entry.ended or has(entry) for machine in machines if (entry := machine.store.entries.get(key)) is not None
        )
        if holding > self._copies:
            return holding
        since_ms = min(since_ms, world.now_ms - LOST_A_MOMENT_AGO_MS)
        if key in self._expired and not any(
            entry.has_data and not entry.expired(machine.now_ms())
            for machine in machines
            if (entry := machine.store.entries.get(key)) is not None
        ):
            return len(machines)
        forgot = self._forgot.get(key, ())
        just_expired = self._expired.get(key)
        return sum(
            machine.name in forgot
            or just_expired == (machine.name, world.now_ms)
            or any(
                entry.ended or has(entry)
                for entry in machine.held_at(key, NEVER_MS if self._has_missed(decided, machine) else since_ms)
            )
            for machine in machines
        )

    def _has_missed(self, who: Machine | None, whom: Machine) -> bool:
        """True if the first knows that the second's store is lost: it has lost it, or has met its next life."""
        if who is None or whom.lost_store is None:
            return False
        met_ms = self._met.get((who.name, whom.name))
        return met_ms is None or met_ms > whom.lost_store[1]


class Current:
    """Whatever has been answered as protected, no worker anywhere may show an older state in place from then on.

    (A request may be answered so late that its session has expired meanwhile. A machine that was away has then been
    told that nobody knows it, and is the primary of its own old copy until that is swept: it shows nothing of it.)
    """

    def __init__(self, tell: Callable[[str], None], calm: Calm) -> None:
        self._tell = tell
        self._calm = calm

    def replied(self, machine: Machine, request: m.Request, answer: Reply) -> None:
        if not self._calm.holds(machine.world.now_ms) or isinstance(request, m.SettleRequest):
            return
        if answer.outcome in ENDED:
            self._look(machine.world, request.key, lambda entry: False, "called ended")
        if not isinstance(answer, m.CommitAnswer) or not isinstance(request, m.CommitRequest):
            return
        if answer.outcome is Outcome.COMMITTED and answer.protected and answer.number:
            self._look(machine.world, request.key, lambda entry: _has(entry, request, answer), "answered")

    def shown(self, world: World, key: Key, attributes: Attributes, began_ms: int, where: str) -> None:
        if not self._calm.holds(began_ms):
            return
        seen = seen_with(attributes)
        self._look(world, key, lambda entry: covers(entry.context, seen), "shown")

    def _look(self, world: World, key: Key, has: Callable[[Entry], bool], what: str) -> None:
        for machine in world.machines.values():
            held = machine.store.entries.get(key)
            if not machine.is_on or held is None or has(held):
                continue
            reading, serves, now_ms = in_place.look(machine.store, key, machine.name, machine.lease_until_ms)
            entry = reading.entry
            if serves and entry is not None and not in_place.has_expired(entry, now_ms) and not has(entry):
                self._tell(f"{machine.name} shows {key.hex()[:6]} in place without what was {what} before")


def _has(entry: Entry, request: m.CommitRequest, answer: m.CommitAnswer) -> bool:
    """By the commit's id, which is soon forgotten, or by its dot, which a repeated commit's answer does not name."""
    return request.commit.id in entry.recent or contains(entry.context, answer.incarnation, answer.number)
