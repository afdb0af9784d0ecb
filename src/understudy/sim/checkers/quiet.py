"""Whether a cluster has recovered: every session has one primary and equal backups, and nothing is under way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from understudy.model.entry import Entry, Role
from understudy.sim.world import Machine, World


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
        held = [(machine, entry) for machine in machines if (entry := machine.store.read(key).entry) is not None]
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


def unequal(world: World, keys: Iterable[bytes]) -> Iterator[str]:
    """Copies that differ from their primary, or that nobody lists; changes and questions under way."""
    for key in keys:
        entries = {name: machine.store.read(key).entry for name, machine in world.machines.items()}
        live = {name: entry for name, entry in entries.items() if entry is not None and entry.has_data}
        for name, primary in live.items():
            if primary.role is not Role.PRIMARY:
                continue
            for other, entry in live.items():
                if other in primary.backups and (entry.attributes, entry.context) != (
                    primary.attributes,
                    primary.context,
                ):
                    yield f"{other} differs from its primary {name} in {key.hex()[:6]}"
                elif other != name and other not in primary.backups:
                    yield f"{other} keeps a copy of {key.hex()[:6]} that nobody lists"
    for name, machine in world.machines.items():
        yield from _under_way(name, machine)


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
