"""The outbox: a change is remembered until as many as wanted hold it, and so is which changes users were told of."""

from __future__ import annotations

from collections.abc import Callable

from understudy.model.commit import Outcome
from understudy.model.entry import Entry, Key, Role, contains, covers
from understudy.protocol import messages as m
from understudy.protocol.commands import Fact, FactKind
from understudy.sim.checkers.holding import has_all
from understudy.sim.world import Machine, Reply
from understudy.store.memory import MemoryStore

ALONE = (FactKind.MEMBER_LOST, FactKind.ANSWERED_UNPROTECTED)


class Remembered:
    """A change of a primary leaves its outbox when enough others hold it, when users were told of it and a later one of
    the session stands for it, or when the list of backups itself says that copies are lacking."""

    def __init__(self, tell: Callable[[str], None], copies: int) -> None:
        self._tell = tell
        self._copies = copies
        self._known: dict[MemoryStore, dict[int, tuple[Key, Entry]]] = {}
        self._unmarked: dict[MemoryStore, set[int]] = {}
        """Changes that nobody had been answered for after the last turn."""
        self._alone: set[str] = set()
        """Who has lost somebody, or answered without protection, in this turn: these changes are marked by then."""

    def told(self, machine: Machine, fact: Fact) -> None:
        if fact.kind in ALONE:
            self._alone.add(machine.name)

    def stored(self, machine: Machine, key: Key, before: Entry | None, after: Entry | None) -> None:
        if after is not None and after.number and (before is None or after.number > before.number):
            self._known.setdefault(machine.store, {})[after.number] = (key, after)

    def turned(self, machine: Machine) -> None:
        known, is_alone = self._known.get(machine.store), machine.name in self._alone
        self._alone.discard(machine.name)
        if not known:
            return
        rows = machine.store.outbox
        gone = [number for number in known if number not in rows]
        unmarked = self._unmarked.get(machine.store, set())
        self._unmarked[machine.store] = {number for number, row in rows.items() if not row.marked}
        if not gone:
            return
        keys = {row.key for row in rows.values()}
        for number in gone:
            key, entry = known.pop(number)
            if key not in keys or (number in unmarked and not is_alone):
                self._gone(machine, key, number, entry)

    def _gone(self, machine: Machine, key: Key, number: int, entry: Entry) -> None:
        now = machine.store.entries.get(key)
        if now is None or now.ended or now.role is not Role.PRIMARY or now.expired(machine.now_ms()):
            return
        if len(now.backups) < self._copies:
            return
        holders = [o.name for o in machine.world.machines.values() if o is not machine and has_all(o, key, entry)]
        if len(holders) < self._copies:
            self._tell(
                f"{machine.name} has forgotten change {number} of {key.hex()[:6]}: of {now.backups}, {holders} hold it"
            )


class Told:
    """Whoever is answered, the store says so by then: a later life takes back only what its users know nothing of."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell

    def replied(self, machine: Machine, request: m.Request, answer: Reply) -> None:
        if not isinstance(answer, m.CommitAnswer) or not isinstance(request, m.CommitRequest):
            return
        if answer.outcome is not Outcome.COMMITTED or answer.incarnation != machine.me.incarnation:
            return
        row = machine.store.outbox.get(answer.number)
        if row is not None and not row.marked:
            self._tell(f"{machine.name} answers change {answer.number} of {row.key.hex()[:6]}, and has not noted it")


class TakenBack:
    """What somebody was answered for no copy drops that stays one: only what nobody was told of is taken back."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._answered: dict[tuple[Key, int], set[int]] = {}
        """(Key, incarnation) -> numbers of its changes."""

    def replied(self, machine: Machine, request: m.Request, answer: Reply) -> None:
        if not isinstance(answer, m.CommitAnswer) or answer.outcome is not Outcome.COMMITTED or not answer.number:
            return
        dot = answer.incarnation, answer.number
        entries = (other.store.entries.get(request.key) for other in machine.world.machines.values())
        # (A repeated commit is answered with the number of what came last, which may have changed roles only.)
        if any(entry is not None and contains(entry.context, *dot) for entry in entries):
            self._answered.setdefault((request.key, dot[0]), set()).add(dot[1])

    def stored(self, machine: Machine, key: Key, before: Entry | None, after: Entry | None) -> None:
        if before is None or after is None or not before.has_data or not after.has_data:
            return
        if before.context is after.context or covers(after.context, before.context):
            return
        for incarnation, number in before.context.items():
            kept = after.context.get(incarnation, 0)
            answered = self._answered.get((key, incarnation), ())
            dropped = [n for n in answered if kept < n <= number]
            if dropped:
                self._tell(f"{machine.name} took back {dropped} of {key.hex()[:6]}, for which it was answered")
