"""Members that join at once or during a loss, and the copying of very many sessions beside their requests."""

from __future__ import annotations

from tests.history.test_shares import SETTLED_MS, Cluster

from understudy import limits
from understudy.model.commit import Commit, Outcome
from understudy.model.entry import Role
from understudy.protocol import messages as m
from understudy.protocol.commands import FactKind

MANY = 2_000
TURN_MS = 5
"""As long as a turn takes on a slow machine: meanwhile events gather for the next one."""
ANSWERED_MS = 300


def known(cluster: Cluster, name: str) -> int:
    """Of how many sessions that machine holds anything."""
    return sum(cluster.world.machines[name].store.read(key).entry is not None for key in cluster.keys)


def found_at(cluster: Cluster, name: str) -> int:
    """How many sessions a worker there is shown, whoever has to be asked."""
    answers: list[object] = []
    for key in cluster.keys:
        cluster.world.machines[name].ask(m.FetchRequest(0, key), answers.append)
    for _ in range(1_000):
        if len(answers) == len(cluster.keys):
            break
        cluster.wait(10)
    fetched = [answer for answer in answers if isinstance(answer, m.FetchAnswer)]
    return sum(answer.outcome is m.FetchOutcome.HERE or answer.entry is not None for answer in fetched)


def ready(cluster: Cluster, name: str) -> bool:
    executor = cluster.world.machines[name].executor
    return executor is not None and executor.engine.ready


def wait_until_ready(cluster: Cluster, *names: str) -> None:
    for _ in range(200):
        if all(ready(cluster, name) for name in names):
            return
        cluster.wait(50)
    raise AssertionError(f"not ready: {[name for name in names if not ready(cluster, name)]}")


def copied(cluster: Cluster) -> bool:
    """Every session has one primary and one backup."""
    counts = [sum(map(len, cluster.entries(role).values())) for role in (Role.PRIMARY, Role.BACKUP)]
    return counts == [len(cluster.keys)] * 2


def test_two_members_join_at_once() -> None:
    """S33: two machines start at the same instant: each knows every session when it says that it is ready, of those
    too that begin meanwhile, both know each other, and copies are spread over all four."""
    cluster = Cluster("ab")
    cluster.create(40, "a")
    cluster.join("c")
    cluster.join("d")
    cluster.create(20, "b")
    wait_until_ready(cluster, "c", "d")
    assert known(cluster, "c") == known(cluster, "d") == 60
    cluster.wait(2 * SETTLED_MS)
    assert copied(cluster) and set(cluster.load()) == set("abcd")


def test_a_join_during_a_loss() -> None:
    """S33: one machine dies with its store while another joins, and the joiner is killed before it is ready and joins
    again: as soon as it is ready each session is found there (whose primary is dead nobody may have told of), none is
    lost, all are copied again, and in the end the joiner knows every one of them."""
    cluster = Cluster("abc")
    cluster.create(60, "a")
    cluster.join("d")
    cluster.world.machines["a"].crash(with_store=False)
    cluster.wait(4)
    assert not ready(cluster, "d")
    cluster.world.machines["d"].crash()
    cluster.wait(500)
    cluster.world.machines["d"].start()
    wait_until_ready(cluster, "d")
    assert found_at(cluster, "d") == 60
    cluster.wait(2 * SETTLED_MS)
    assert copied(cluster) and known(cluster, "d") == 60


def test_many_sessions_get_new_copies_beside_the_requests() -> None:
    """S36: a member that held the copies of a thousand sessions dies, on slow machines with a slow network, and every
    twentieth frame is lost: only so many copies are under way at a time, nobody suspects anybody, a request that comes
    meanwhile is answered at once, and what was lost is sent again until everything has its copy."""
    cluster = Cluster("abc")
    for _ in range(MANY // 250):
        cluster.create(250, "a")
    cluster.world.network.loss, cluster.world.network.delay_ms = 0.05, (20, 30)
    for machine in cluster.world.machines.values():
        machine.turn_ms = TURN_MS
    cluster.world.machines["b"].crash(with_store=False)
    suspected = cluster.world.facts.get(FactKind.MEMBER_SUSPECTED, 0)
    slowest_ms = rounds = most = 0
    while not copied(cluster):
        slowest_ms = max(slowest_ms, written_within_ms(cluster, rounds))
        rounds += 1
        most = max(most, under_way(cluster))
        assert rounds < 1_000
        cluster.wait(50)
    assert rounds > 10, "it was over before requests could come between"
    assert slowest_ms <= ANSWERED_MS
    assert 0 < most <= limits.SWEPT_IN_FLIGHT_MAX + limits.SWEPT_PER_TURN_MAX
    assert cluster.world.facts.get(FactKind.MEMBER_SUSPECTED, 0) <= suspected + 2, "only b, by the other two"


def under_way(cluster: Cluster) -> int:
    """How many sessions are on their way to a new backup, or have it beside the dead one until it has everything."""
    executor = cluster.world.machines["a"].executor
    assert executor is not None
    entries = cluster.entries(Role.PRIMARY)["a"]
    return len(executor.engine.entrustments.open) + sum(len(entry.backups) > 1 for entry in entries)


def written_within_ms(cluster: Cluster, number: int) -> int:
    """How long a change of one of the sessions takes now."""
    answers: list[object] = []
    key = cluster.keys[-1 - number]
    commit = Commit(b"w%07d" % number, b"s", {"x": b"2"})
    cluster.world.machines["a"].ask(m.CommitRequest(0, key, commit, m.AcknowledgeMode.BACKUP), answers.append)
    began_ms = cluster.world.network.now_ms
    while not answers:
        cluster.wait(5)
    assert isinstance(answers[0], m.CommitAnswer) and answers[0].outcome is Outcome.COMMITTED
    return cluster.world.network.now_ms - began_ms
