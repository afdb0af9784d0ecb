"""Who may be primary: epochs and promises only rise, a promise is kept, and a copy is given up only for better ones."""

from __future__ import annotations

from collections.abc import Callable

from understudy.model.entry import Context, Entry, Epoch, Key, Promise, Role, covers
from understudy.protocol import messages as m
from understudy.protocol.inquire import PROMISES
from understudy.sim.checkers.holding import has_all
from understudy.sim.world import Machine
from understudy.store.memory import MemoryStore


class Rising:
    """What a store knows of a session's reigns never becomes less, while it knows the session at all."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell

    def stored(self, machine: Machine, key: Key, before: Entry | None, after: Entry | None) -> None:
        if before is None or after is None or after.ended:
            return
        for what, earlier, later in (
            ("an epoch", before.epoch, after.epoch),
            ("a promise", before.promised, after.promised),
        ):
            if later < earlier:
                self._tell(f"{machine.name} went back to {what} of {key.hex()[:6]} from {earlier} to {later}")


class Promised:
    """What is acknowledged is in the store, and so is a promise when its answer leaves; nothing is acknowledged under a
    lower reign after it, and it is not given by who hears the primary."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._asked: dict[tuple[str, int, Key], Promise] = {}
        """(asker, its question's number, key) -> the promise that is asked for."""
        self._asks: dict[tuple[Key, Promise], tuple[str, Epoch]] = {}
        """Who asks for a promise, and the epoch that it knows."""
        self._given: dict[tuple[MemoryStore, Key], Promise] = {}
        self._entrusted: dict[tuple[str, int], dict[Key, Context]] = {}
        """(who entrusts, the number of its message) -> what each holder-to-be has to have."""

    def stored(self, machine: Machine, key: Key, before: Entry | None, after: Entry | None) -> None:
        if after is None:
            self._given.pop((machine.store, key), None)
            return
        asked = self._asks.get((key, after.promised))
        if before is None or asked is None or after.role is Role.PRIMARY or after.promised <= before.promised:
            return
        asker, epoch = asked
        if before.epoch.reign >= after.promised.reign and after.has_data:
            self._tell(f"{machine.name} promised {key.hex()[:6]} {after.promised}, and knew of {before.epoch}")
        if before.primary not in (machine.name, asker) and before.epoch >= epoch and _hears(machine, before.primary):
            self._tell(f"{machine.name} promised {key.hex()[:6]} to {asker} and hears its primary {before.primary}")

    def asks(self, machine: Machine, to: str, message: m.Ask) -> None:
        for question in message.questions:
            self._asked[(machine.name, message.inquiry, question.key)] = question.promise
            self._asks[(question.key, question.promise)] = machine.name, question.location.epoch

    def answers(self, machine: Machine, to: str, message: m.Answers) -> None:
        for answer in message.answers:
            promise = self._asked.get((to, message.inquiry, answer.key))
            if answer.verdict in PROMISES and promise is not None:
                self._gives(machine, to, answer.key, promise)

    def _gives(self, machine: Machine, to: str, key: Key, promise: Promise) -> None:
        entry = machine.store.entries.get(key)
        if entry is None or entry.ended:  # a full store, or it is over
            return
        is_stored = max(entry.promised, Promise(entry.epoch.reign, entry.epoch.chooser)) >= promise
        engine = machine.executor.engine if machine.executor is not None else None
        if not is_stored and (engine is None or key not in engine.inquiries.unstored):
            self._tell(f"{machine.name} promised {key.hex()[:6]} to {to} and remembers {entry.promised}")
        self._given[(machine.store, key)] = max(promise, self._given.get((machine.store, key), promise))

    def entrusts(self, machine: Machine, to: str, message: m.Entrust) -> None:
        self._entrusted[(machine.name, message.number)] = {key: delta.context for key, delta in message.copies}

    def took(self, machine: Machine, to: str, message: m.Entrusted) -> None:
        wanted = self._entrusted.get((to, message.number), {})
        for key, _ in message.keys:
            self._has(machine, key, wanted.get(key, {}))
            self._keeps(machine, key)

    def _has(self, machine: Machine, key: Key, context: Context) -> None:
        entry = machine.store.entries.get(key)  # one that was released in the same turn is a proxy by now
        if entry is not None and entry.has_data and not covers(entry.context, context):
            self._tell(f"{machine.name} acknowledged {context} of {key.hex()[:6]} and holds {entry.context}")

    def acknowledges(self, machine: Machine, to: str, message: m.Acknowledge) -> None:
        if message.number <= 0:  # of a contribution
            return
        self._has(machine, message.key, message.context)
        self._keeps(machine, message.key)

    def _keeps(self, machine: Machine, key: Key) -> None:
        given, entry = self._given.get((machine.store, key)), machine.store.entries.get(key)
        if given is None or entry is None or entry.ended:
            return
        if Promise(entry.epoch.reign, entry.epoch.chooser) < given:
            self._tell(f"{machine.name} acknowledged {key.hex()[:6]} under {entry.epoch} and has promised {given}")


class Asked:
    """Whoever promotes itself has the promise of each member that is alive to it, and all that these hold.

    (That one hears the primary is nothing where the primary itself has promised.)
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._alive: dict[str, list[str]] = {}
        """Who was alive to each member after its last turn, while it asks."""
        self._asked: dict[tuple[str, int, Key], Promise] = {}
        self._named: dict[tuple[str, Key, Promise], str] = {}
        """(Who asks, key, promise) -> the primary that it takes the session from."""
        self._promised: dict[tuple[str, Key, Promise], dict[str, Context]] = {}
        """With what each held, when it promised first, beyond the asker."""
        self._heard: dict[tuple[str, Key, Promise], set[str]] = {}

    def turned(self, machine: Machine) -> None:
        if machine.executor is not None and machine.executor.engine.inquiries.open:
            self._alive[machine.name] = machine.executor.engine.members.alive()
        else:
            self._alive.pop(machine.name, None)

    def asks(self, machine: Machine, to: str, message: m.Ask) -> None:
        for question in message.questions:
            self._asked[(machine.name, message.inquiry, question.key)] = question.promise
            self._named[(machine.name, question.key, question.promise)] = question.location.primary

    def answers(self, machine: Machine, to: str, message: m.Answers) -> None:
        for answer in message.answers:
            promise = self._asked.get((to, message.inquiry, answer.key))
            if promise is None:
                continue
            slot = to, answer.key, promise
            if answer.verdict in PROMISES:
                context = answer.delta.context if answer.delta is not None else {}
                self._promised.setdefault(slot, {}).setdefault(machine.name, context)
            elif answer.verdict is m.Verdict.HEARD:
                self._heard.setdefault(slot, set()).add(machine.name)

    def stored(self, machine: Machine, key: Key, before: Entry | None, after: Entry | None) -> None:
        if before is None or before.role is Role.PRIMARY or after is None or after.role is not Role.PRIMARY:
            return
        slot = machine.name, key, Promise(after.epoch.reign, after.epoch.chooser)
        if after.ended or slot not in self._named or machine.executor is None:
            return
        known = self._alive.get(machine.name, machine.executor.engine.members.alive())
        alive = {name for name in known if _stays_alive(machine, name)}
        promised = self._promised.get(slot, {})
        denied = self._heard.get(slot, set()) if self._named[slot] in promised else set()
        for name in alive - denied:
            if not covers(after.context, promised.get(name, {})):
                self._tell(f"{machine.name} took {key.hex()[:6]} over without what {name} held, {promised[name]}")
            elif name not in promised:
                self._tell(f"{machine.name} took {key.hex()[:6]} over without the promise of {name}")


def _stays_alive(machine: Machine, name: str) -> bool:
    """It is alive to that machine, and was not silent for a while, nor another life, in this very turn."""
    assert machine.executor is not None
    members = machine.executor.engine.members
    member = members.get(name)
    if member is None or not members.is_alive(name):
        return False
    return machine.now_ms() not in (member.answered_ms, *member.blips, *member.returns)


class Granted:
    """A lease is given to no member for longer than its granter has noted that it will acknowledge nothing as that
    one's successor."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell

    def published(self, machine: Machine, row: str, until_ms: int) -> None:
        granter = machine.world.machines.get(row)  # a row of another name is a read lease's
        if granter is None or granter.executor is None or machine.executor is None:
            return
        known = machine.executor.engine.members.get(row)
        if known is None or known.incarnation != granter.me.incarnation or known.answered_ms == machine.now_ms():
            return  # of another life of the granter, which may have lost its store; or found in this very turn
        now_ms = machine.world.now_ms
        noted_ms = granter.executor.engine.members.hold_until_ms([machine.name])
        if granter.clock.until(noted_ms, now_ms) < machine.clock.until(until_ms, now_ms):
            self._tell(f"{machine.name} has a lease of {granter.name} that runs longer than that one has noted")


def _hears(machine: Machine, name: str) -> bool:
    """It has answers of that member, and not only since this very instant."""
    if machine.executor is None:
        return False
    members = machine.executor.engine.members
    member = members.get(name)
    return member is not None and members.hears(name) and member.heard_ms < machine.now_ms()


class Covered:
    """Make before break: who leaves the list, or gives its copy up, leaves as many others as there shall be, with all
    that is held."""

    def __init__(self, tell: Callable[[str], None], copies: int) -> None:
        self._tell = tell
        self._copies = copies
        self._relied: dict[tuple[str, Key], Entry] = {}
        """What each machine held when it was primary or listed last."""

    def stored(self, machine: Machine, key: Key, before: Entry | None, after: Entry | None) -> None:
        if before is None or after is None or after.ended:
            return
        if before.role is Role.BACKUP and after.role is Role.PROXY and not before.ended:
            self._gives_up(machine, key, before)
        elif after.role is Role.PRIMARY or machine.name in after.backups:
            self._relied[(machine.name, key)] = after
        if not before.role is after.role is Role.PRIMARY:
            return
        if before.epoch[:2] != after.epoch[:2]:
            return  # a new reign: who answered is listed
        if before.expired(machine.now_ms()):
            return  # its time is over: a later primary, unknown here as yet, may have dropped all copies
        if len(after.backups) < self._copies or set(before.backups) <= set(after.backups):
            return
        lacking = [name for name in after.backups if not has_all(machine.world.machines[name], key, before)]
        if len(after.backups) - len(lacking) < self._copies:
            gone = set(before.backups) - set(after.backups)
            self._tell(f"{machine.name} gave up {sorted(gone)} for {key.hex()[:6]}, and {lacking} lack some of it")

    def _gives_up(self, machine: Machine, key: Key, copy: Entry) -> None:
        if copy.expired(machine.now_ms()):
            return
        others = [other for other in machine.world.machines.values() if other is not machine]
        # What came when it was listed no more is for the others to acknowledge.
        relied = self._relied.pop((machine.name, key), None)
        if relied is None:
            return
        holders = [other.name for other in others if has_all(other, key, relied)]
        if len(holders) <= self._copies:
            self._tell(f"{machine.name} gave its copy of {key.hex()[:6]} up, and {holders} alone hold all of it")
