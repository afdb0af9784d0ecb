"""What clocks may decide of a session: when it ends, by each machine's own clock, and nothing else."""

from __future__ import annotations

import pytest
from tests.history.test_partitions import commit_at, shown
from tests.history.test_scenarios import SETTLED_MS, Cluster

from understudy.model import values
from understudy.model.commit import Commit, Creation, Outcome
from understudy.model.entry import Role
from understudy.protocol import messages as m
from understudy.protocol.commands import FactKind

HOUR_MS = 3_600_000
TIMEOUT_MS = 40_000


def begin(a: Cluster, creation: Creation) -> None:
    a.writes += 1
    made = Commit(b"%08d" % a.writes, a.secret, {"x": values.encode(b"1", attribute="x")}, creates=creation)
    assert commit_at(a, "a", made) is Outcome.COMMITTED


def expired(a: Cluster) -> bool:
    """Nobody serves it, and no machine holds any of its data."""
    answers: list[m.FetchAnswer | m.CommitAnswer | None] = []
    for name in a.others():
        if a[name].is_up:
            a[name].ask(m.FetchRequest(0, a.key), answers.append)
    a.wait(6_000)
    gone = all(isinstance(answer, m.FetchAnswer) and answer.entry is None for answer in answers)
    held = a.roles()
    return gone and bool(answers) and not held[Role.PRIMARY] and not held[Role.BACKUP]


@pytest.mark.parametrize("ahead", ["a", "b"])
def test_clocks_that_differ_decide_nothing(ahead: str) -> None:
    """S47: the primary's clock is an hour ahead of all others, or an hour behind one of them; its changes, its death,
    a successor's changes and its return with its store: no later change loses to an earlier one, a session that is used
    outlives several of its timeouts, and the idle one ends in its time."""
    clocks = {name: (10**8 + (HOUR_MS if name == ahead else 0), 0) for name in "abc"}
    a = Cluster("abc", clocks=clocks)
    begin(a, Creation(TIMEOUT_MS))
    a.write("a", b"at a")
    a["a"].crash()
    for round_ in range(3):
        a.write("b", b"later, %d" % round_)
        a.wait(TIMEOUT_MS // 2)
    a["a"].start()
    a.wait(SETTLED_MS)
    for name in "abc":
        assert a.read(name) == b"later, 2"
    a.write("a", b"last")
    a.wait(TIMEOUT_MS - 5_000)
    assert [a.read(name) for name in "abc"] == [b"last"] * 3
    assert FactKind.SESSION_EXPIRED not in a.world.facts
    a.wait(2 * TIMEOUT_MS)
    assert expired(a)


def test_the_absolute_timeout_is_carried_across_moves_and_a_failover() -> None:
    """S46: a session that is changed every few seconds, at one member after the other, and whose primary dies twice,
    ends when the timeout that counts from its beginning is over, and not before; nobody begins that time anew."""
    a = Cluster("abc")
    began_ms = a.now_ms
    begin(a, Creation(10 * TIMEOUT_MS, TIMEOUT_MS))
    for at in ("b", "b", "c", "c"):
        a.write(at, at.encode())
        a.wait(3_000)
    for _ in range(2):  # the last machine's copy was made long after the beginning, from another copy
        a[a.primary()].crash(with_store=False)
        last = next(name for name in "abc" if a[name].is_up)
        a.write(last, b"after")
        a.wait(SETTLED_MS)
    a.wait(began_ms + TIMEOUT_MS - 1_000 - a.now_ms)
    assert shown(a, last, "x") == [values.encode(b"after", attribute="x")]
    a.wait(2_000)
    assert expired(a)
