"""Members are paused, restarted one after another, and added, while visitors go on."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from tests.system.cluster import Cluster, Visitor, sessions_cluster, wait_protected
from tests.system.load import Load

NAMES = ("a", "b", "c")
PAUSE_S = 10.0


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Of its own for each test; the last member of the names is not started."""
    with sessions_cluster((*NAMES, "d")) as cluster:
        cluster.start(*NAMES)
        cluster.wait_ready()
        yield cluster


def test_a_paused_member_shows_nothing_old(cluster: Cluster) -> None:
    """S25: everything of a member is stopped for ten seconds and goes on, at once under load: nobody is shown what was
    overwritten meanwhile, its own late changes undo nothing, and no error page is seen.
    """
    load = Load(cluster, NAMES, 6)
    load.wait_for(60)
    with load.losing("a"):
        cluster.pause("a")
        time.sleep(PAUSE_S)
        load.wait_for(20)
        cluster.resume("a")
    load.wait_for(200)
    wait_protected(cluster, NAMES)
    load.finish(NAMES)


def test_the_first_request_after_a_pause_is_not_stale(cluster: Cluster) -> None:
    """S25: a session's primary is stopped, others change it, and the first request to the primary when it goes on,
    which no agent has had the time to prepare for, shows the change.
    """
    visitor = Visitor(cluster)
    visitor.protected("a", "/login", name="anna")
    for number in range(4):
        cluster.pause("a")
        time.sleep(0.6 if number % 2 else 1.5)
        visitor.protected("b", "/set", name="x", value=str(number))
        cluster.resume("a")
        assert visitor.values("a")["x"] == str(number)
        cluster.wait_ready(*NAMES)
        visitor.protected("a", "/set", name="y", value=str(number))
        visitor.protected("a", "/set", name="z", value=str(number))  # at home again


def test_a_rolling_restart_under_load(cluster: Cluster) -> None:
    """S34: every member is stopped in order and started again, as fast as readiness allows, twice: no session is lost,
    nobody is logged out, no error page is seen.
    """
    load = Load(cluster, NAMES, 6, logouts=True)
    load.wait_for(60)
    for name in NAMES * 2:
        with load.losing(name):
            cluster.stop(name)
            cluster.start(name)
            cluster.wait_ready(*NAMES)
    load.wait_for(60)
    load.finish(NAMES)


def test_a_member_joins_under_load(cluster: Cluster) -> None:
    """S32: a member that joins while sessions begin and end knows all of them when it says that it is ready: it serves
    each, and gives nobody a second session; it takes its share of copies later.
    """
    load = Load(cluster, NAMES, 6, logouts=True)
    load.wait_for(60)
    known = []
    for number in range(40):
        known.append(Visitor(cluster))
        known[-1].protected(NAMES[number % 3], "/login", name=str(number))
        if number == 10:
            cluster.start("d")
    cluster.wait_ready("d")
    for number, visitor in enumerate(known):
        assert visitor.values("d") == {"user": str(number)}
    load.members = (*NAMES, "d")
    load.wait_for(200)
    load.finish((*NAMES, "d"))


def test_a_join_during_a_loss_and_a_join_that_is_cut_off(cluster: Cluster) -> None:
    """S33: one member joins while another is lost, and is itself killed in the middle and joins again."""
    load = Load(cluster, NAMES, 6)
    load.wait_for(60)
    with load.losing("c"):
        cluster.kill("c")
        cluster.start("d")
        time.sleep(0.4)
        cluster.kill("d")
        cluster.start("c", "d")
        cluster.wait_ready()
    load.members = (*NAMES, "d")
    load.wait_for(120)
    wait_protected(cluster, (*NAMES, "d"))
    load.finish((*NAMES, "d"))
