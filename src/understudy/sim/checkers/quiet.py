"""Whether a cluster has recovered: every session has one primary, equal backups in their places, nothing under way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from understudy.limits import RECENT_COMMITS_MAX
from understudy.model.entry import Entry, Role
from understudy.protocol.placement import Candidate, chosen, rendezvous
from understudy.protocol.shares import DIFFERENCE_MIN
from understudy.sim.world import Machine, World

ABSOLUTE_SLACK_MS = 1_000
"""An age grows a little on its way to each copy."""
NOTICED_MS = 2_000
"""By then a backup has looked at what is due, and has asked its primary."""


def unready(world: World) -> Iterator[str]:
    """Machines that are not what they should be."""
    for machine in world.machines.values():
        executor = machine.executor
        if executor is None or machine.is_paused:
            yield f"{machine.name} is down"
        elif not executor.engine.ready:
            yield f"{machine.name} is not ready"


def unprotected(world: World, keys: Iterable[bytes]) -> Iterator[str]:
    """Sessions that lack a primary or a copy, in whatever is under way at this moment.

    Cost: one look-up a session and machine.
    """
    machines = list(world.machines.values())
    wanted = min(world.settings.copies_wanted, len(machines) - 1)
    for key in keys:
        held = [(machine, entry) for machine in machines if (entry := machine.store.entries.get(key)) is not None]
        yield from _roles_of(key.hex()[:6], held, wanted)


def _roles_of(name: str, held: list[tuple[Machine, Entry]], wanted: int) -> Iterator[str]:
    ended = [machine.name for machine, entry in held if entry.ended]
    live = [(machine, entry) for machine, entry in held if entry.has_data]
    if ended:
        if live:
            yield f"{name} has ended at {ended} and lives at {[m.name for m, _ in live]}"
        return
    if not held:
        return
    primaries = [(machine, entry) for machine, entry in live if entry.role is Role.PRIMARY]
    if len(primaries) != 1:
        if live or primaries:
            yield f"{name} has the primaries {[m.name for m, _ in primaries]}"
        return
    primary, entry = primaries[0]
    if len(entry.backups) != wanted:
        yield f"{name} at {primary.name} has the backups {entry.backups}"
    copies = {machine.name: copy for machine, copy in live}
    for backup in entry.backups:
        copy = copies.get(backup)
        if copy is None or copy.role is not Role.BACKUP or copy.epoch != entry.epoch:
            yield f"{backup} holds no copy of {name} for {primary.name}"


def leaderless(world: World, keys: Iterable[bytes]) -> Iterator[bytes]:
    """Sessions of which a machine that runs holds a copy, and none that runs is primary."""
    machines = [machine for machine in world.machines.values() if machine.is_up]
    for key in keys:
        held = [(machine, entry) for machine in machines if (entry := machine.store.entries.get(key)) is not None]
        live = [(machine, entry) for machine, entry in held if entry.has_data and not _is_just_over(machine, entry)]
        if live and not any(entry.ended for _, entry in held) and all(e.role is not Role.PRIMARY for _, e in live):
            yield key


def _is_just_over(machine: Machine, copy: Entry) -> bool:
    """Its time is over, and its primary may have expired it: the word of that may have been lost on the way here."""
    return (
        copy.role is Role.BACKUP and copy.expired(machine.now_ms()) and not copy.expired(machine.now_ms() - NOTICED_MS)
    )


def unequal(world: World, keys: Iterable[bytes]) -> Iterator[str]:
    """Copies that differ from their primary, or that nobody lists; changes and questions under way."""
    for key in keys:
        entries = {name: machine.store.entries.get(key) for name, machine in world.machines.items()}
        live = {name: entry for name, entry in entries.items() if entry is not None and entry.has_data}
        for name, primary in live.items():
            if primary.role is not Role.PRIMARY:
                continue
            for other, entry in live.items():
                if other in primary.backups:
                    wrong = _difference(primary, entry, world.machines[name], world.machines[other])
                    if wrong:
                        yield f"{other} differs from its primary {name} in {key.hex()[:6]}, in {wrong}"
                elif other != name and other not in primary.backups:
                    yield f"{other} keeps a copy of {key.hex()[:6]} that nobody lists"
    for name, machine in world.machines.items():
        yield from _under_way(name, machine)


def lost_sight(world: World, keys: Iterable[bytes]) -> Iterator[str]:
    """Members that do not know where a session is, where all are told."""
    if world.settings.computes_places:
        return
    for key, primary, entry in _primaries(world, keys):
        for name, machine in world.machines.items():
            known = machine.store.read(key).entry
            if known is None or known.epoch < entry.epoch:
                yield f"{name} does not know that {key.hex()[:6]} is at {primary}"


def _difference(one: Entry, other: Entry, here: Machine, there: Machine) -> str:
    """In what two copies differ that should be equal."""
    if (one.attributes, one.context) != (other.attributes, other.context):
        return "what it holds"
    if set(one.recent) != set(other.recent) and max(len(one.recent), len(other.recent)) < RECENT_COMMITS_MAX:
        return "the commits that it remembers"  # (what both sides of a cut have brought may be in another order)
    ours, theirs = one.times, other.times
    if (ours.idle_timeout_ms, ours.absolute_timeout_ms) != (theirs.idle_timeout_ms, theirs.absolute_timeout_ms):
        return "its timeouts"
    age_ms, age_there_ms = here.now_ms() - ours.created_ms, there.now_ms() - theirs.created_ms
    return "its age" if abs(age_ms - age_there_ms) > ABSOLUTE_SLACK_MS else ""


def misplaced(world: World, keys: Iterable[bytes]) -> Iterator[str]:
    """Copies in fewer zones than there could be, or, where places are computed, elsewhere than the key says."""
    settings = world.settings
    if settings.everywhere or not (world.zones or settings.computes_places):
        return
    everybody = {name: world.zones.get(name, "") for name in world.machines}
    for key, primary, entry in _primaries(world, keys):
        held = {everybody[primary], *(everybody[b] for b in entry.backups)}
        if len(held) < min(len(set(everybody.values())), 1 + len(entry.backups)):
            yield f"all copies of {key.hex()[:6]}, at {primary} and {entry.backups}, are in {sorted(held)}"
        elif settings.computes_places:
            others = [Candidate(name, zone) for name, zone in everybody.items() if name != primary]
            named = chosen(rendezvous, key, others, 0, settings.copies, {everybody[primary]})
            if set(named) != set(entry.backups):
                yield f"{key.hex()[:6]} at {primary} has the backups {entry.backups}, and its key names {named}"


def uneven(world: World, keys: Iterable[bytes]) -> Iterator[str]:
    """Members that hold far more copies of one member's sessions than others do; looked at where zones are all one."""
    settings = world.settings
    if settings.everywhere or settings.computes_places or len(set(world.zones.values())) != 1:
        return
    loads = {name: Counter(dict.fromkeys(world.machines.keys() - {name}, 0)) for name in world.machines}
    for _, primary, entry in _primaries(world, keys):
        loads[primary].update(entry.backups)
    for name, load in loads.items():
        if max(load.values()) - min(load.values()) > max(DIFFERENCE_MIN, max(load.values()) // 10):
            yield f"the copies of the sessions of {name} are uneven: {dict(load)}"


def _primaries(world: World, keys: Iterable[bytes]) -> Iterator[tuple[bytes, str, Entry]]:
    for key in keys:
        for name, machine in world.machines.items():
            entry = machine.store.entries.get(key)
            if entry is not None and entry.role is Role.PRIMARY and not entry.ended:
                yield key, name, entry


def _under_way(name: str, machine: Machine) -> Iterator[str]:
    with machine.store.view() as transaction:
        rows = transaction.outbox(0, 1)
    if rows:
        yield f"the outbox of {name} holds {rows[0]}"
    if machine.executor is not None:
        engine = machine.executor.engine
        left = {
            "flights": len(engine.replication.flights),
            "jobs": len(engine.service.jobs),
            "inquiries": len(engine.inquiries.open),
            "comparisons": len(engine.comparisons.open),
        }
        if any(left.values()):
            yield f"{name} has {', '.join(f'{size} {what}' for what, size in left.items() if size)} under way"
