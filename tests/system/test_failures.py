"""Members, agents and workers die, stand still and come back, one at a time, while visitors go on."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.system.cluster import (
    Cluster,
    Slow,
    Visitor,
    check_store,
    processes,
    replace_agent,
    sessions_cluster,
    wait_protected,
)
from tests.system.load import Load

from understudy.client.named_map import part_of

NAMES = ("a", "b", "c")


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Of its own for each test: what one does to its members is not the beginning of the next."""
    with sessions_cluster(NAMES) as cluster:
        cluster.start()
        cluster.wait_ready()
        yield cluster


@pytest.fixture
def visitor(cluster: Cluster) -> Visitor:
    """Logged in on a, which is its session's primary."""
    visitor = Visitor(cluster)
    visitor.protected("a", "/login", name="anna")
    return visitor


def backup_of(visitor: Visitor, at: str) -> str:
    """The name of the session's backup."""
    backups = visitor.places(at)["backups"]
    assert len(backups) == 1
    return str(backups[0])


def others(*names: str) -> tuple[str, ...]:
    return tuple(name for name in NAMES if name not in names)


# --- the loss of a machine --------------------------------------------------------------------------------


def test_the_primary_dies_and_the_change_is_there(cluster: Cluster, visitor: Visitor) -> None:
    """S22: what was acknowledged before kill -9 of the primary's machine is served by every other member."""
    visitor.protected("a", "/set", name="x", value="1")
    visitor.protected("a", "/append", name="nested", value="2")
    cluster.kill("a")
    for member in others("a"):
        assert visitor.values(member) == {"user": "anna", "x": "1", "nested": {"deep": {"list": ["2"]}}}
    visitor.protected("b", "/set", name="y", value="3")
    assert visitor.values("c")["y"] == "3"


def test_a_dictionary_of_the_cluster_survives_a_machine(cluster: Cluster) -> None:
    """S02, S03, S22: what one member sets every other reads at once, counters are exact over members, and the death of
    the machine that had most of it loses nothing; a removed key stays removed and can be used again."""
    visitor = Visitor(cluster)
    for number in range(20):
        visitor.post("a", "/flag", name=f"k{number}", value=str(number))
    assert visitor.get("b", "/flags?name=k7")["one"] == "7"
    threads = [threading.Thread(target=lambda at=at: Visitor(cluster).post(at, "/flag", name="n")) for at in NAMES * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    visitor.post("b", "/flag", name="k3", value="-")
    wait_protected(cluster, NAMES)
    cluster.kill("a")
    expected = {f"k{number}": str(number) for number in range(20) if number != 3} | {"n": 12}
    for member in others("a"):
        assert visitor.get(member, "/flags")["flags"] == expected
    visitor.post("c", "/flag", name="k3", value="again")
    assert visitor.get("b", "/flags?name=k3")["one"] == "again"


def test_members_that_begin_the_same_part_at_once_lose_nothing(cluster: Cluster) -> None:
    """S02, S09: nobody has heard of the dictionary's part yet, so all members begin it; it becomes one, with one
    primary, and every key that was set."""
    names = [name for number in range(9_000) if part_of((name := f"k{number}").encode()) == 7][:12]
    threads = [
        threading.Thread(target=lambda n=n, at=at: Visitor(cluster).post(at, "/flag", name=n, value=n))
        for n, at in zip(names, NAMES * 4, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    visitor, expected = Visitor(cluster), {name: name for name in names}
    for member in NAMES:
        cluster.wait(lambda at=member: visitor.get(at, "/flags")["flags"] == expected, f"{member} shows every key")  # type: ignore[misc]
    wait_protected(cluster, NAMES)


def test_the_death_of_a_machine_under_load(cluster: Cluster) -> None:
    """S22: kill -9 of a machine under load loses no acknowledged change and no login; others show no error page."""
    for victim in ("b", "c"):
        load = Load(cluster, NAMES)
        load.wait_for(100)
        with load.losing(victim):
            cluster.kill(victim)
            load.wait_for(200)
        load.finish(others(victim))
        cluster.start(victim)
        cluster.wait_ready()
        wait_protected(cluster, NAMES)


def test_a_lost_message_then_the_loss_of_the_primary(cluster: Cluster, visitor: Visitor) -> None:
    """S14: the backup hears nothing of a change (it stands still), and the primary dies later: the value is right."""
    backup = backup_of(visitor, "a")
    third = others("a", backup)[0]
    visitor.protected("a", "/set", name="x", value="old")
    cluster.pause(backup)
    visitor.protected("a", "/set", name="x", value="new")
    cluster.resume(backup)
    cluster.wait_ready()
    wait_protected(cluster, NAMES)
    cluster.kill("a")
    for member in (third, backup):
        assert visitor.values(member)["x"] == "new"


# --- logging out, deleting --------------------------------------------------------------------------------


def test_logout_reaches_who_was_away(cluster: Cluster, visitor: Visitor) -> None:
    """S04: a member that was dead during the logout does not bring the session back from its old store, and neither
    does a stop and start of everything.
    """
    backup = backup_of(visitor, "a")
    visitor.protected("a", "/set", name="x", value="1")
    cookie = visitor.cookie
    cluster.kill(backup)
    visitor.post("a", "/logout")
    cluster.start(backup)
    cluster.wait_ready()
    for member in NAMES:
        assert Visitor(cluster, cookie).values(member) == {}
    cluster.kill()
    cluster.start()
    cluster.wait_ready()
    for member in NAMES:
        assert Visitor(cluster, cookie).values(member) == {}


def test_a_deleted_attribute_stays_deleted(cluster: Cluster, visitor: Visitor) -> None:
    """S18: a deletion reaches every copy, also when it is made while the backup's agent restarts."""
    backup = backup_of(visitor, "a")
    visitor.protected("a", "/set", name="kept", value="1")
    visitor.protected("a", "/set", name="gone", value="1")
    cluster.kill_agent(backup)
    visitor.post("a", "/delete", name="gone")
    cluster.wait_ready()
    wait_protected(cluster, NAMES)
    for member in NAMES:
        assert visitor.values(member) == {"user": "anna", "kept": "1"}
    cluster.kill("a")
    for member in others("a"):
        assert visitor.values(member) == {"user": "anna", "kept": "1"}


def test_a_backup_without_the_entry_is_sent_all(cluster: Cluster, visitor: Visitor) -> None:
    """S18: a change for an entry that the backup lacks (its store is new) never becomes an empty session."""
    visitor.protected("a", "/set", name="x", value="1")
    backup = backup_of(visitor, "a")
    cluster.kill(backup)
    cluster.wipe(backup)
    cluster.start(backup)
    cluster.wait_ready()
    visitor.protected("a", "/set", name="y", value="2")
    wait_protected(cluster, NAMES)
    cluster.kill("a")
    for member in others("a"):
        assert visitor.values(member) == {"user": "anna", "x": "1", "y": "2"}


# --- the agent alone, one worker --------------------------------------------------------------------------------


@pytest.mark.parametrize("victim", ["a", "b"])
def test_a_killed_agent_is_replaced_under_load(cluster: Cluster, victim: str) -> None:
    """S23: kill -9 of an agent under load: a new one comes, no visitor sees an error page, nothing is lost, and a
    commit under way is applied once.
    """
    load = Load(cluster, NAMES)
    for _ in range(3):
        load.wait_for(50)
        replace_agent(cluster, victim)
    load.wait_for(100)
    load.finish(NAMES)
    wait_protected(cluster, NAMES)


def test_reading_asks_nobody() -> None:
    """S07, S23: while the primary's agent, which alone talks to the network, stands still, its workers serve reads
    for as long as the leases last: so a read sends no packet.
    """
    # Leases that outlast the test on any machine.
    with sessions_cluster(NAMES, UNDERSTUDY_LEASE_MS="20000", UNDERSTUDY_DEAD_MS="40000") as cluster:
        cluster.start()
        cluster.wait_ready()
        visitor = Visitor(cluster)
        visitor.protected("a", "/login", name="anna")
        wait_protected(cluster, NAMES)
        agent = cluster.agent_pid("a")
        assert agent is not None
        processes.send(agent, signal.SIGSTOP)
        for _ in range(100):
            assert visitor.values("a") == {"user": "anna"}
        assert visitor.browser.set_cookies == 1


def test_an_unanswered_commit_is_applied_once(cluster: Cluster, visitor: Visitor) -> None:
    """S23: counting goes on while the agent is killed again and again; each answered increment is counted once."""
    answered = 0
    for round_number in range(20):
        if round_number % 5 == 2:
            cluster.kill_agent("a")
        counted = visitor.post("a", "/count")["count"]
        answered += 1
        assert counted == answered
        cluster.wait(lambda: cluster.agent_pid("a") is not None, "the agent is there")
    assert visitor.values("b")["count"] == answered


def test_workers_and_agents_die_at_any_instant(cluster: Cluster) -> None:
    """S24: kill -9 of workers and agents at random moments under load: the others go on, and every store passes its
    check afterwards.
    """
    chance = random.Random(24)
    load = Load(cluster, NAMES)
    with load.losing(*NAMES, visited=True):  # a worker that is killed in the middle of a request cannot answer it
        for _ in range(12):
            load.wait_for(20)
            time.sleep(chance.random() * 0.05)
            name = chance.choice(NAMES)
            cluster.wait(lambda name=name: len(cluster.worker_pids(name)) == 2, "two workers are there")
            if chance.random() < 0.3:
                replace_agent(cluster, name)
                cluster.wait_ready()
            else:
                cluster.kill_worker(name)
        load.wait_for(50)
    load.finish(NAMES)
    wait_protected(cluster, NAMES)
    for name in NAMES:
        check_store(cluster, name)
    cluster.kill()
    for name in NAMES:
        check_store(cluster, name)


# --- coming back --------------------------------------------------------------------------------


@pytest.mark.parametrize("store", ["old", "wiped"])
@pytest.mark.parametrize("who", ["primary", "backup"])
def test_a_restart_at_once_is_a_new_life(cluster: Cluster, visitor: Visitor, who: str, store: str) -> None:
    """S26: a member that is killed and starts again at once under its name is a new life: what it had held is compared
    or sent again, and survives the next loss.
    """
    visitor.protected("a", "/set", name="x", value="1")
    name = "a" if who == "primary" else backup_of(visitor, "a")
    cluster.kill(name)
    if store == "wiped":
        cluster.wipe(name)
    cluster.start(name)
    for member in others(name):
        visitor.protected(member, "/set", name=member, value="2")
    cluster.wait_ready()
    wait_protected(cluster, NAMES)
    expected = {"user": "anna", "x": "1", **{member: "2" for member in others(name)}}
    for member in NAMES:
        assert visitor.values(member) == expected
    primary = str(visitor.places("a")["primary"])
    cluster.kill(primary)
    for member in others(primary):
        assert visitor.values(member) == expected


def test_an_old_store_steps_down(cluster: Cluster, visitor: Visitor) -> None:
    """S27: a member restarts with its old store after others have changed the session: its entry steps down, shows the
    newest values, and never wins, also not after the next loss.
    """
    visitor.protected("a", "/set", name="x", value="old")
    visitor.protected("a", "/set", name="gone", value="old")
    cluster.kill("a")
    visitor.protected("b", "/set", name="x", value="new")
    visitor.protected("c", "/delete", name="gone")
    cluster.start("a")
    cluster.wait_ready()
    wait_protected(cluster, NAMES)
    expected = {"user": "anna", "x": "new"}
    for member in NAMES:
        assert visitor.values(member) == expected
    primary = str(visitor.places("b")["primary"])
    cluster.kill(primary)
    for member in others(primary):
        assert visitor.values(member) == expected


def test_the_bounce(cluster: Cluster, visitor: Visitor) -> None:
    """S28: a session that moved to another member and came back shows the newest state: each primary dies in its turn,
    and comes back with a store that is older each time.
    """
    expected = {"user": "anna"}
    seen = []
    for number in range(4):
        primary = str(visitor.places(NAMES[number % 3])["primary"])
        seen.append(primary)
        visitor.protected(primary, "/set", name="x", value=f"before {number}")
        cluster.kill(primary)
        elsewhere = others(primary)
        visitor.protected(elsewhere[0], "/set", name="x", value=f"after {number}")
        expected["x"] = f"after {number}"
        for member in elsewhere:
            assert visitor.values(member) == expected
        cluster.start(primary)
        cluster.wait_ready()
        wait_protected(cluster, NAMES)
        for member in NAMES:
            assert visitor.values(member) == expected
    assert len(set(seen)) < len(seen), "it never came back"


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_everything_stops_and_starts_again(cluster: Cluster, how: str) -> None:
    """S35: after a stop of all members the sessions are back from their stores."""
    visitors = []
    for at in range(9):
        visitor = Visitor(cluster)
        visitor.protected(NAMES[at % 3], "/login", name=f"v{at}")
        visitor.protected(NAMES[(at + 1) % 3], "/append", name="nested", value=str(at))
        visitors.append(visitor)
    if how == "stopped":
        cluster.stop()
    else:
        cluster.kill()
    cluster.start()
    cluster.wait_ready()
    for at, visitor in enumerate(visitors):
        for member in NAMES:
            assert visitor.values(member) == {"user": f"v{at}", "nested": {"deep": {"list": [str(at)]}}}


def test_a_request_under_way_survives_the_primary(cluster: Cluster, visitor: Visitor, tmp_path: Path) -> None:
    """S10, S22: a slow request on one member, whose session's primary dies meanwhile on another, still writes."""
    slow = Slow(visitor, "b", "/set", tmp_path / "gate", name="slow", value="1")
    visitor.protected("a", "/set", name="short", value="2")
    cluster.kill("a")
    assert slow.finish().status == 200
    for member in others("a"):
        assert visitor.values(member) == {"user": "anna", "slow": "1", "short": "2"}
