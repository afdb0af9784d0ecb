"""When faults strike, and what the network does around them."""

from __future__ import annotations

import pytest
from tests.history.test_scenarios import Cluster

from understudy.model.commit import Commit
from understudy.model.entry import Role
from understudy.protocol import messages as m
from understudy.sim.checkers.ledger import Calm
from understudy.sim.faults import GUSTS, STORM, Faults
from understudy.sim.plan import PROFILES, Fault, FaultKind, Promises, draw
from understudy.sim.world import World
from understudy.transport.memory import MemoryNetwork

FAIR = (0.0, 0.0, 0.0, 0.0, 10_000)
DRAWN = 40


def weather(world: World) -> tuple[float, ...]:
    network = world.network
    return network.loss, network.repeat, network.reorder, network.late, network.late_ms


def carried_out(world: World, *faults: Fault) -> Faults:
    plan = Faults(world, faults, Calm(Promises()), lambda: (), lambda: (), pytest.fail)
    plan.begin()
    return plan


@pytest.mark.parametrize("at_copies", [True, False])
def test_a_machine_is_struck_while_it_holds_what_it_has_not_acknowledged(at_copies: bool) -> None:
    """Its primary waits for it at that instant; else it is struck in the middle of changes of its own."""
    cluster = Cluster("ab")
    cluster.write("a", b"1")
    assert cluster.roles()[Role.PRIMARY] == ["a"]
    carried_out(cluster.world, Fault(FaultKind.CRASH, ("b",), lasts_ms=5, at_copies=at_copies))
    cluster.wait(20)
    assert cluster["b"].executor is not None
    commit = Commit(b"%08d" % 9, cluster.secret, {"x": b"2"})
    cluster["a"].ask(m.CommitRequest(0, cluster.key, commit, m.AcknowledgeMode.BACKUP), lambda answer: None)
    cluster.wait(1)
    assert bool(cluster["a"].executor and cluster["a"].executor.engine.replication.flights)
    cluster.wait(1)
    assert (cluster["b"].executor is None) is at_copies


def test_all_are_stopped_in_the_middle_of_somebodys_work() -> None:
    """Whichever machine the plan names."""
    cluster = Cluster("abc")
    cluster.write("a", b"1")
    cluster.wait(1_000)
    carried_out(cluster.world, Fault(FaultKind.POWER, ("c",), lasts_ms=5, at_copies=True))
    cluster.wait(20)
    assert cluster["c"].executor is not None
    commit = Commit(b"%08d" % 9, cluster.secret, {"x": b"2"})
    cluster["a"].ask(m.CommitRequest(0, cluster.key, commit, m.AcknowledgeMode.BACKUP), lambda answer: None)
    cluster.wait(2)
    assert [cluster[name].executor for name in "abc"] == [None] * 3


def test_a_storm_begins_before_its_fault_and_ends_after_it() -> None:
    """And where two storms overlap, the network is as it was when both are over."""
    world = World(1, ("a", "b"), Cluster("ab").world.settings, MemoryNetwork(1))
    assert weather(world) == FAIR
    plan = carried_out(
        world,
        Fault(FaultKind.CRASH, ("a",), after_ms=10, lasts_ms=5, in_storm=True),
        Fault(FaultKind.STORM, ("b",), after_ms=100, lasts_ms=1_500, together=True),
    )
    world.run_for(10)
    assert weather(world) == GUSTS
    world.run_for(200)
    assert weather(world) == STORM
    world.run_for(1_000)
    assert weather(world) == STORM and not plan.done
    world.run_for(1_000)
    assert weather(world) == FAIR and plan.done


def test_a_member_may_come_back_empty_before_anybody_has_missed_it() -> None:
    """S22: and in a storm, and while it has not acknowledged a copy; a swarm of all kinds has such histories."""
    assert PROFILES["quick"].promises.nothing_lost
    plans = [plan for plan in map(draw, range(8 * DRAWN)) if plan.profile == "quick"]
    assert len(plans) == DRAWN
    lost = [(plan, fault) for plan in plans for fault in plan.faults if fault.kind is FaultKind.CRASH_EMPTY]
    assert any(fault.lasts_ms < plan.network.detect_ms and fault.at_copies for plan, fault in lost)
    assert any(fault.lasts_ms < plan.network.detect_ms and fault.in_storm for plan, fault in lost)
