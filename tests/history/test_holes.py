"""What nobody has noticed: stores are made wrong behind the agents' backs, as lost messages and lost pages leave them,
and within a round of the patrol everything is right again."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from tests.history.test_shares import Cluster

from understudy.model.commit import ended
from understudy.model.entry import Entry, Location, Role
from understudy.sim.checkers import quiet

ROUND_MS = 1_000


@pytest.fixture
def cluster() -> Cluster:
    """Three machines at rest with 20 sessions of a."""
    cluster = Cluster("abc", patrol_ms=ROUND_MS, sweep_delay_ms=200)
    cluster.create(20, "a")
    cluster.wait(3_000)
    assert not wrong(cluster)
    return cluster


def wrong(cluster: Cluster) -> list[str]:
    world, keys = cluster.world, cluster.keys
    unknown = [
        f"{name} does not know {key.hex()[:6]}"
        for name, machine in world.machines.items()
        for key in keys
        if machine.store.read(key).entry is None
    ]
    places = {key: set(map(str, locations(cluster, key))) for key in keys}
    apart = [f"{key.hex()[:6]} is at {found}" for key, found in places.items() if len(found) != 1]
    return [*unknown, *apart, *quiet.unprotected(world, keys), *quiet.unequal(world, keys)]


def locations(cluster: Cluster, key: bytes) -> list[Location | None]:
    held = (machine.store.read(key).entry for machine in cluster.world.machines.values())
    return [entry.location if entry is not None else None for entry in held]


def spoil(cluster: Cluster, name: str, key: bytes, change: Callable[[Entry], Entry | None]) -> None:
    """Change what one machine holds, without its agent."""
    with cluster.world.machines[name].store.write() as transaction:
        entry = transaction.get(key)
        assert entry is not None
        changed = change(entry)
        if changed is None:
            transaction.remove(key)
        else:
            transaction.put(key, changed)


def holder(cluster: Cluster, key: bytes, role: Role) -> str:
    held = ((n, m.store.read(key).entry) for n, m in cluster.world.machines.items())
    return next(name for name, entry in held if entry is not None and entry.role is role)


def test_a_session_that_a_member_never_heard_of(cluster: Cluster) -> None:
    """S32: its announcement was lost."""
    key = cluster.keys[0]
    spoil(cluster, holder(cluster, key, Role.PROXY), key, lambda entry: None)
    assert wrong(cluster)
    cluster.wait(3 * ROUND_MS)
    assert not wrong(cluster)


def test_a_place_that_is_wrong(cluster: Cluster) -> None:
    """S31: a proxy that has missed two moves."""
    key = cluster.keys[0]
    older = lambda entry: msgspec.structs.replace(  # noqa: E731
        entry,
        primary="b" if holder(cluster, key, Role.PROXY) != "b" else "c",
        epoch=entry.epoch._replace(list_number=0),
    )
    spoil(cluster, holder(cluster, key, Role.PROXY), key, older)
    assert wrong(cluster)
    cluster.wait(4 * ROUND_MS)
    assert not wrong(cluster)


def test_a_copy_that_nobody_lists(cluster: Cluster) -> None:
    """S28: the Release was lost, and the announcement, too."""
    key = cluster.keys[0]
    primary = cluster.world.machines["a"].store.read(key).entry
    assert primary is not None
    name = holder(cluster, key, Role.PROXY)
    stale = msgspec.structs.replace(
        primary, role=Role.BACKUP, backups=(name,), epoch=primary.epoch._replace(list_number=0), number=0
    )
    spoil(cluster, name, key, lambda entry: stale)
    assert wrong(cluster)
    cluster.wait(4 * ROUND_MS)
    assert not wrong(cluster)


def test_a_backup_that_has_lost_a_copy_or_a_change(cluster: Cluster) -> None:
    """S18: a page of its store."""
    first, second = cluster.keys[:2]
    spoil(cluster, holder(cluster, first, Role.BACKUP), first, lambda entry: None)
    older = lambda entry: msgspec.structs.replace(entry, attributes={}, context={})  # noqa: E731
    spoil(cluster, holder(cluster, second, Role.BACKUP), second, older)
    assert wrong(cluster)
    cluster.wait(3 * ROUND_MS)
    assert not wrong(cluster)


def test_a_primary_that_has_lost_a_change(cluster: Cluster) -> None:
    """S28: its backup still has it."""
    key = cluster.keys[0]
    spoil(cluster, "a", key, lambda entry: msgspec.structs.replace(entry, attributes={}, context={}))
    cluster.wait(4 * ROUND_MS)
    assert not wrong(cluster)
    entry = cluster.world.machines["a"].store.read(key).entry
    assert entry is not None and entry.shown("x") == b"1"


@pytest.mark.parametrize("is_part", [False, True], ids=["a session", "a part of a dictionary, which never expires"])
def test_a_primary_that_has_lost_a_session(cluster: Cluster, is_part: bool) -> None:
    """S18, S27: it says that it does not know it. Its time is not over, so nobody has expired it: it lives on, from the
    copy."""
    cluster.create(1, "a", is_part)
    key = cluster.keys[-1]
    spoil(cluster, holder(cluster, key, Role.PRIMARY), key, lambda entry: None)
    assert wrong(cluster)
    cluster.wait(4 * ROUND_MS)
    assert not wrong(cluster)
    entry = cluster.world.machines[holder(cluster, key, Role.PRIMARY)].store.read(key).entry
    assert entry is not None and entry.shown("x") == b"1"


def test_an_end_that_was_missed(cluster: Cluster) -> None:
    """S04: by the primary, by the backup, or by both while a proxy has heard of it: the session ends everywhere, and
    nowhere comes back."""
    first, second, third = cluster.keys[:3]
    now_ms = cluster.world.machines["a"].now_ms()
    ends = lambda entry: ended(entry, now_ms)  # noqa: E731
    spoil(cluster, holder(cluster, first, Role.BACKUP), first, ends)
    spoil(cluster, "a", second, ends)
    spoil(cluster, holder(cluster, third, Role.PROXY), third, ends)
    cluster.wait(4 * ROUND_MS)
    for key in (first, second, third):
        held = [machine.store.read(key).entry for machine in cluster.world.machines.values()]
        assert all(entry is not None and entry.ended for entry in held)


def test_notes_of_a_session_that_is_gone(cluster: Cluster) -> None:
    """S44: it has expired, and the word of that was lost on the way to a proxy."""
    key = cluster.keys.pop()
    for role in (Role.PRIMARY, Role.BACKUP):
        spoil(cluster, holder(cluster, key, role), key, lambda entry: None)
    cluster.wait(3 * ROUND_MS)
    assert not any(machine.store.read(key).entry for machine in cluster.world.machines.values())
