"""A session that outlives very many agents."""

from __future__ import annotations

import pytest
from tests.history.test_scenarios import SETTLED_MS, Cluster

from understudy import limits
from understudy.model.commit import Commit
from understudy.model.entry import OVER, Role
from understudy.protocol import messages as m

LIVES_MAX = 16
"""The members' own, those within ``forget`` and its notice, and those that are remembered as over."""


def names_of(a: Cluster, name: str) -> int:
    """How many incarnations the context there names."""
    entry = a[name].store.read(a.key).entry
    return len(entry.context) if entry is not None and entry.has_data else 0


def outlives(a: Cluster, restarts: int) -> int:
    """Each agent commits at its member and is killed, one after the other, while an attribute comes and goes. Gives how
    many incarnations a context named at most."""
    most = 0
    for number in range(restarts):
        a.write("abc"[number % 3], b"%d" % number)
        for change in ({"sets": {"y": b"1"}}, {"deletes": ("y",)}):
            done: list[object] = []
            commit = Commit(b"%03d-%4s" % (number, min(change).encode()[:4]), a.secret, **change)  # type: ignore[arg-type]
            a["abc"[number % 3]].ask(m.CommitRequest(0, a.key, commit, m.AcknowledgeMode.BACKUP), done.append)
            while not done:
                a.wait(5)
        a.wait(1_500)
        primary = a.primary()
        a[primary].kill_agent()
        a.wait(50)
        a[primary].start()
        a.wait(1_500)
        most = max(most, *(names_of(a, name) for name in "abc"))
    return most


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CONTEXT_FINISHED_FROM", 4)
    monkeypatch.setattr(limits, "CONTEXT_OVER_MAX", 4)


@pytest.mark.usefixtures("small")
def test_a_context_does_not_grow_with_restarts() -> None:
    """S26: thirty lives of agents commit into one session: its context stays small on all copies, the last
    value is shown everywhere, and what was deleted stays so when other members have died in turn."""
    a = Cluster("abc", forget_ms=6_000, patrol_ms=1_000, sweep_delay_ms=200)
    assert outlives(a, 30) <= LIVES_MAX
    a.wait(SETTLED_MS)
    for name in "abc":
        assert a.read(name) == b"29"
    primary = a[a.primary()].store.read(a.key).entry
    assert primary is not None and OVER in primary.context.values()
    for name in "ab":
        a[name].crash(with_store=False)
        a.wait(SETTLED_MS)
        a[name].start()
        a.wait(SETTLED_MS)
    held = a.roles()
    for name in (*held[Role.PRIMARY], *held[Role.BACKUP]):
        entry = a[name].store.read(a.key).entry
        assert entry is not None and entry.shown("y") is None and entry.shown("x") is not None
    assert len(held[Role.PRIMARY]) == len(held[Role.BACKUP]) == 1


@pytest.mark.usefixtures("small")
def test_that_is_seen_when_nobody_notices(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same lives are more than that when none of them is ever over."""
    monkeypatch.setattr("understudy.protocol.lives.Lives.over_in", lambda *_: ())
    assert outlives(Cluster("abc", forget_ms=6_000, patrol_ms=1_000, sweep_delay_ms=200), 30) > LIVES_MAX
