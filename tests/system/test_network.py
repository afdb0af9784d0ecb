"""Members in networks of their own, which are cut in every way while visitors go on, and heal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.system import network
from tests.system.cluster import Cluster, Visitor, sessions_cluster, wait_protected
from tests.system.load import Load
from tests.system.network import Network

NAMES = ("a", "b", "c")
CUT_S = 4.0
"""Longer than the network library's own time-out, so that both ways of noticing a cut come into play."""


@pytest.fixture(scope="module", autouse=True)
def _possible() -> None:
    """Without root, or the packages that .ci/run installs, there is no network to cut."""
    if (reason := network.why_not()) is not None:
        pytest.skip(reason)


@pytest.fixture
def cables() -> Iterator[Network]:
    with Network(NAMES) as cables:
        yield cables


@pytest.fixture
def cluster(cables: Network) -> Iterator[Cluster]:
    """Of its own for each test."""
    with sessions_cluster(NAMES, cables.places()) as cluster:
        cluster.start()
        cluster.wait_ready()
        yield cluster


@pytest.fixture
def visitor(cluster: Cluster) -> Visitor:
    """Logged in on a, which is its session's primary."""
    visitor = Visitor(cluster)
    visitor.protected("a", "/login", name="anna")
    return visitor


def sides(visitor: Visitor) -> tuple[str, str]:
    """The session's backup, and the member that is neither that nor its primary, which is a."""
    backups = visitor.places("a")["backups"]
    assert len(backups) == 1
    return backups[0], next(name for name in NAMES if name not in ("a", backups[0]))


def wait_agreed(visitor: Visitor, names: tuple[str, ...] = NAMES) -> dict[str, Any]:
    """Until all members agree on one primary, which has its backup; gives what the primary says."""

    def agree() -> bool:
        places = [visitor.places(name) for name in names]
        roles = sorted(place["role"] for place in places if place["known"])
        return len({place["primary"] for place in places}) == 1 and roles.count("primary") == 1

    visitor.cluster.wait(agree, "all members agree on one primary")
    wait_protected(visitor.cluster, names)
    return visitor.places(str(visitor.places(names[0])["primary"]))


def wait_parted(cluster: Cluster, alone: str) -> None:
    """Until this member and the others have noticed that they do not hear each other."""

    def alive_at(name: str) -> set[str]:
        return {one["name"] for one in cluster.status(name)["members"] if one["standing"] == "alive"} - {name}

    def is_parted() -> bool:
        return not alive_at(alone) and all(alone not in alive_at(name) for name in NAMES if name != alone)

    cluster.wait(is_parted, f"{alone} and the others have noticed the cut")


def test_a_partial_cut_under_load(cluster: Cluster, cables: Network, visitor: Visitor) -> None:
    """S40, S31: primary and backup are cut from each other while both hear the third member: nobody sees an error page,
    nothing is lost or doubled, and members reach each other through the third one.
    """
    backup, _ = sides(visitor)
    load = Load(cluster, NAMES, 6)
    load.wait_for(60)
    cables.cut("a", backup)
    time.sleep(CUT_S)
    for member in NAMES:
        visitor.protected(member, "/set", name=member, value="cut")
    cables.heal()
    load.wait_for(60)
    load.finish(NAMES)
    assert wait_agreed(visitor)["known"]
    for member in NAMES:
        assert visitor.values(member) == {"user": "anna", **{name: "cut" for name in NAMES}}


@pytest.mark.parametrize("deaf", ["primary", "backup"])
def test_a_one_way_cut_under_load(cluster: Cluster, cables: Network, visitor: Visitor, deaf: str) -> None:
    """S40, S31: one of primary and backup hears nothing of the other, which hears it: the same holds."""
    backup, _ = sides(visitor)
    load = Load(cluster, NAMES, 6)
    load.wait_for(60)
    cables.deafen(*(("a", backup) if deaf == "primary" else (backup, "a")))
    time.sleep(CUT_S)
    for member in NAMES:
        visitor.protected(member, "/set", name=member, value="cut")
    cables.heal()
    load.wait_for(60)
    load.finish(NAMES)
    assert wait_agreed(visitor)["known"]


def test_an_isolated_member_under_load(cluster: Cluster, cables: Network) -> None:
    """S42, S38: a member that hears nobody serves the sessions whose primary it is, the others serve all the rest;
    afterwards nothing that was acknowledged on either side is lost, and nobody is logged out.
    """
    load = Load(cluster, NAMES, 9)
    load.wait_for(60)
    with load.apart("a"):
        cables.isolate("a")
        time.sleep(CUT_S)
        cables.heal()
        cluster.wait_ready()
        wait_protected(cluster, NAMES)
    load.wait_for(60)
    load.finish(NAMES)


def test_both_sides_write(cluster: Cluster, cables: Network, visitor: Visitor) -> None:
    """S38: both sides of a cut change one session: afterwards it has one primary, the changes of both sides, and of an
    attribute that both have set one of the two values, the same everywhere.
    """
    others = sides(visitor)
    visitor.protected("a", "/set", name="kept", value="1")
    visitor.protected("a", "/set", name="gone", value="1")
    cables.isolate("a")
    here, there = visitor.tab(), visitor.tab()
    for name, value in (("here", "1"), ("same", "here"), ("same", "here again")):
        assert here.ask("a", "/set", name=name, value=value).status == 200
    wait_parted(cluster, "a")
    assert there.ask(others[0], "/set", name="there", value="1").status == 200
    assert there.ask(others[1], "/set", name="same", value="there").status == 200
    assert there.ask(others[1], "/delete", name="gone").status == 200
    cables.heal()
    cluster.wait_ready()
    wait_agreed(visitor)
    values = visitor.values("a")
    assert values.pop("same") in ("here again", "there")
    assert values == {"user": "anna", "kept": "1", "here": "1", "there": "1"}
    for member in others:
        assert visitor.values(member) == visitor.values("a")


@pytest.mark.parametrize("ends", ["primary", "others"])
def test_logging_out_on_one_side_wins(cluster: Cluster, cables: Network, visitor: Visitor, ends: str) -> None:
    """S38, S04: a session that was ended on one side of a cut and changed on the other is ended after the heal."""
    others = sides(visitor)
    cookie = visitor.cookie
    cables.isolate("a")
    wait_parted(cluster, "a")
    writer, ender = (others[0], "a") if ends == "primary" else ("a", others[0])
    assert visitor.tab().ask(writer, "/set", name="x", value="late").status == 200
    assert visitor.tab().ask(ender, "/logout", really="yes").status == 200
    cables.heal()
    cluster.wait_ready()
    gone = Visitor(cluster, cookie)
    cluster.wait(lambda: all(gone.values(name) == {} for name in NAMES), "the session is ended everywhere")
    for member in NAMES:
        assert Visitor(cluster, cookie).values(member) == {}


@pytest.mark.parametrize("how", ["cut", "unplugged"])
def test_two_members_and_one_cable(how: str) -> None:
    """S43: the only cable between two members is cut or pulled while both change their sessions; after it is back there
    is one primary for each session, with every change of both sides.
    """
    names = ("a", "b")
    with Network(names) as cables, sessions_cluster(names, cables.places()) as cluster:
        cluster.start()
        cluster.wait_ready()
        visitors = [Visitor(cluster) for _ in range(4)]
        for at, visitor in enumerate(visitors):
            visitor.protected(names[at % 2], "/login", name=f"v{at}")
        if how == "cut":
            cables.cut("a", "b")
        else:
            cables.unplug("a")
        deadline_s = time.monotonic() + CUT_S
        for number in range(3):
            for visitor in visitors:
                for name in names:
                    assert visitor.tab().ask(name, "/set", name=f"{name}{number}", value="1").status == 200
        time.sleep(max(0.0, deadline_s - time.monotonic()))
        if how == "cut":
            cables.heal()
        else:
            cables.plug("a")
        cluster.wait_ready()
        for at, visitor in enumerate(visitors):
            wait_agreed(visitor, names)
            expected = {"user": f"v{at}", **{f"{name}{number}": "1" for name in names for number in range(3)}}
            for name in names:
                assert visitor.values(name) == expected


def test_the_smaller_side_refuses(cables: Network) -> None:
    """S39, S42: with `partition = "refuse"` the member that is cut off from the majority refuses changes with 503 and
    leaves the cookie alone, the majority goes on, and after the heal the member serves again and shows its changes.
    """
    settings = {"UNDERSTUDY_PARTITION": "refuse", "UNDERSTUDY_MEMBERS_EXPECTED": "3"}
    with sessions_cluster(NAMES, cables.places(), **settings) as cluster:
        cluster.start()
        cluster.wait_ready()
        visitor = Visitor(cluster)
        visitor.protected("a", "/login", name="anna")
        cables.isolate("a")
        wait_parted(cluster, "a")
        refused = visitor.tab()
        answer = refused.ask("a", "/set", name="x", value="lost side")
        assert answer.status == 503 and "set-cookie" not in answer.headers
        for member in ("b", "c"):
            visitor.protected(member, "/set", name=member, value="1")
        cables.heal()
        cluster.wait_ready()
        for member in NAMES:
            assert visitor.values(member) == {"user": "anna", "b": "1", "c": "1"}
        visitor.protected("a", "/set", name="a", value="1")


def test_a_flapping_link(cables: Network) -> None:
    """S41: the link between primary and backup comes and goes faster and slower than leases last: no visitor sees an
    error page, nothing is lost, and when it is quiet the session stays where it is.
    """
    # So late that a member that is starved for a while is there again: only a link's flapping could move sessions.
    with sessions_cluster(NAMES, cables.places(), UNDERSTUDY_SWEEP_DELAY_MS="600000") as cluster:
        cluster.start()
        cluster.wait_ready()
        visitor = Visitor(cluster)
        visitor.protected("a", "/login", name="anna")
        backup, _ = sides(visitor)
        load = Load(cluster, NAMES, 4)
        for down_s, up_s in ((0.1, 0.1), (0.4, 0.4)):
            with cables.flapping("a", backup, down_s, up_s):
                time.sleep(3)
        load.wait_for(60)
        load.finish(NAMES)
        settled = wait_agreed(visitor)
        time.sleep(2)
        assert {key: wait_agreed(visitor)[key] for key in ("primary", "epoch")} == {
            key: settled[key] for key in ("primary", "epoch")
        }
