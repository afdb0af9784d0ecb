"""The other ways to hold copies, with real processes: a copy everywhere, and places that nobody is told of."""

from __future__ import annotations

import signal

from tests.system.cluster import Visitor, sessions_cluster, wait_protected

from understudy.demo import processes
from understudy.store.leases import LeaseBoard, reading_row

NAMES = ("a", "b", "c")


def test_delta_manager_reads_in_place_on_every_member() -> None:
    """S07, S12: what was written at one member is shown at each while no agent can be asked: all stand still."""
    leases = {"UNDERSTUDY_LEASE_MS": "20000", "UNDERSTUDY_DEAD_MS": "40000"}  # they outlast the test on any machine
    with sessions_cluster(NAMES, UNDERSTUDY_MANAGER_CLASS="DeltaManager", **leases) as cluster:
        cluster.start()
        cluster.wait_ready()
        visitor = Visitor(cluster)
        visitor.protected("a", "/login", name="anna")
        wait_protected(cluster, NAMES)
        for name in NAMES:
            visitor.values(name)  # and with that each copy is confirmed
        boards = {name: LeaseBoard(cluster[name].directory) for name in ("b", "c")}
        cluster.wait(lambda: all(b.until_ms(reading_row("a")) for b in boards.values()), "b and c have read leases")
        agents = [cluster.agent_pid(name) for name in NAMES]
        for agent in agents:
            assert agent is not None
            processes.send(agent, signal.SIGSTOP)
        try:
            for name in NAMES:
                assert [visitor.values(name) for _ in range(20)] == [{"user": "anna"}] * 20
        finally:
            for agent in agents:
                processes.send(agent, signal.SIGCONT)


def test_rendezvous_finds_sessions_that_nobody_was_told_of() -> None:
    """S31: at each member, also after the death of the one that held it; no member keeps a proxy."""
    with sessions_cluster(NAMES, UNDERSTUDY_PLACEMENT="rendezvous") as cluster:
        cluster.start()
        cluster.wait_ready()
        visitors = [Visitor(cluster) for _ in range(6)]
        for number, visitor in enumerate(visitors):
            visitor.protected("a", "/login", name=f"user{number}")
        wait_protected(cluster, NAMES)
        for name in NAMES:
            assert [v.values(name) for v in visitors] == [{"user": f"user{n}"} for n in range(6)]
            assert cluster.status(name)["sessions"]["proxy"] == 0
        cluster.kill("a")
        for name in ("b", "c"):
            assert [v.values(name) for v in visitors] == [{"user": f"user{n}"} for n in range(6)]
