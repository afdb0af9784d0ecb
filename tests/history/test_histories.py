"""Random histories: the production engine, executor and conversations in one thread, under users and faults.

Each seed draws a plan: members, users with several tabs, a network, clocks, and faults; see ``understudy.sim``. A seed
that once failed stays here, with what it found.
"""

from __future__ import annotations

import pytest

from understudy.protocol.commands import FactKind
from understudy.sim.history import run
from understudy.sim.main import COVERING_SEEDS, exit_code
from understudy.sim.plan import draw
from understudy.sim.swarm import Summary, swarm

SHORT, EACH = 20, 4
"""Histories in every run; ``understudy simulate --seeds 1000`` runs the long swarm."""


@pytest.mark.parametrize("first", range(0, SHORT, EACH))
def test_a_short_swarm_finds_nothing(first: int) -> None:
    """S01, S02, S03, S04, S10, S14, S15, S16, S17, S21, S22, S25, S26, S27, S28, S30, S34, S40, S41: no acknowledged
    change is lost or goes back, every counter is exact, nobody is logged out, and everything recovers in time."""
    summary = Summary()
    for report in swarm(first, EACH):
        summary.add(report)
    assert not summary.failed
    assert summary.protected_writes > 200 * EACH


@pytest.mark.parametrize(
    ("profile", "seed"),
    [
        pytest.param("copies2", 3007, id="S12, S23: what an earlier life had left under way was called protected"),
        pytest.param("copies2", 3015, id="S21: a lost backup was given up before another one had everything"),
        pytest.param(
            "rendezvous", 3007, id="S32: a copy was released and its note forgotten in one turn, which is no loss"
        ),
        pytest.param("one", 3149, id="S37: an exchange of backups in which everything was stopped was never ended"),
        pytest.param("pair", 3137, id="S12: a backup that was away protected what it had never seen"),
        pytest.param("pair", 3096, id="S25: a renewal was answered while the lost primary's workers read on"),
        pytest.param("delta", 3038, id="S12, S34: a leaving reader was released before its lease was over"),
        pytest.param("refuse", 3015, id="S21: a late refusal of an older copy ended a hand-over that had been lost"),
        pytest.param("links", 3032, id="S40: a primary that had come back meanwhile was not asked"),
        pytest.param("blink", 4001, id="S04: a logout was answered before the present primary knew of it"),
        pytest.param("blink", 4013, id="S12: a change that was made void by another primary was called protected"),
        pytest.param(
            "", 689, id="S21: an old holder that came back was asked under a list that was replaced meanwhile"
        ),
        pytest.param(
            "", 100019, id="S12, S28: a session was handed to one that alone held what it had committed before"
        ),
        pytest.param("", 1007, id="S25: who stood still lost all others before it had compared, and was alone"),
        pytest.param("", 923, id="S25: a question from before its doubt made it primary"),
        pytest.param("", 3067, id="S25: who stood still lost all others as soon as it had compared, and was alone"),
        pytest.param("quick", 95039, id="S29: an expired session was not called unknown while lost stores counted"),
        pytest.param("", 981, id="S23: a late heartbeat of the life before hid that a backup had lost its store"),
        pytest.param("", 238, id="S12: a repeated commit was answered with a promotion's number, rightly"),
        pytest.param("", 153, id="S44: a session that is read where nobody keeps a note of it expired while in use"),
        pytest.param("", 333, id="S03: a deposed primary gave away a change that was repeated as well"),
        pytest.param("", 1482, id="S03: an old cookie's counter was compared with the present session's"),
        pytest.param("", 1890, id="S25: an agent that was promoted and killed at once forgot to wait for old leases"),
        pytest.param("", 1972, id="S21: a refused hand-over was forgotten, because its giver had just asked"),
        pytest.param("", 2148, id="S04: an end that one backup had of two was called protected"),
        pytest.param("", 2159, id="S12: a machine that was lost twice had lost nothing the first time"),
        pytest.param("", 2296, id="S31: a session that became known meanwhile was called unknown"),
        pytest.param("", 2687, id="S21: one backup that came back stood for all of them"),
        pytest.param("", 2652, id="S12: what a slow reader was shown had been ended and forgotten, which is no loss"),
        pytest.param("", 3503, id="S44: a change was answered in the turn in which its session was over, rightly"),
        pytest.param("", 911, id="S12: an earlier life's change was called protected before the outbox was read"),
        pytest.param("", 426, id="S44: a backup that knew of a later use took an expired session over, rightly"),
        pytest.param("", 978, id="S44: who stood still gave up a copy of a session that had expired everywhere"),
        pytest.param("", 437, id="S25: a worker that its agent had answered looked into a store of three seconds ago"),
        pytest.param("", 279, id="S12: a deposed primary gave its copy up before its successor had another one"),
        pytest.param("", 3267, id="S44: a use shortly before a session's end was told its primary too late"),
        pytest.param("", 3456, id="S40: a member that was silent for a moment was not asked before a promotion"),
        pytest.param("", 3562, id="S40: who was cut off from one member and then the other asked nobody"),
        pytest.param(
            "links", 50048, id="S31: an old place of which one member knew was taken for the end of a session"
        ),
        pytest.param("links", 50055, id="S11: a renewal whose cookie came after that of a later login, rightly void"),
        pytest.param("", 487, id="S28: a change that was taken back was answered with the number of the next one"),
        pytest.param("", 4170, id="S34: who never got the hand-over to it asked for that same reign for ever"),
        pytest.param("old", 52021, id="S44: who was told by its primary that a session is over expired it once more"),
        pytest.param(
            "rendezvous", 60046, id="S44: the word of an expiry was lost, and its copy had no primary, rightly"
        ),
        pytest.param("", 1556, id="S31: the only answer to a question to all was lost, and taken for unknown"),
        pytest.param("one", 61027, id="S22: two holders each passed the claim on to the other, which came first"),
        pytest.param("one", 61162, id="S23: a commit was repeated when its id had been forgotten, and done twice"),
        pytest.param("one", 61243, id="S12: a login that waited for no backup was lost with its cookie, rightly"),
        pytest.param("delta", 62020, id="S04: a write was told of a parallel logout before all readers knew of it"),
        pytest.param("delta", 90023, id="S12: a lost reader was given up while its workers read on under its lease"),
        pytest.param("delta", 90034, id="S21: a lost holder was given up while the others lacked a change"),
        pytest.param(
            "", 81035, id="S44: the old copy of an expired session, shown to nobody, was called an older state"
        ),
        pytest.param("chaos", 3038, id="S44: an expired copy of a session whose other holders have lost their stores"),
    ],
)
def test_a_history_that_once_failed(profile: str, seed: int) -> None:
    """Each is named after what was wrong in it."""
    report = run(draw(seed, profile))
    assert report.problems == []


def test_a_long_run_that_has_not_seen_everything_fails() -> None:
    """A kind of fact that never occurs in a thousand histories of all kinds makes the exit code 1."""
    summary = Summary()
    summary.histories = COVERING_SEEDS
    summary.facts.update(FactKind)
    assert exit_code(summary, of_all_kinds=True) == 0
    del summary.facts[FactKind.SESSION_LOST]
    assert exit_code(summary, of_all_kinds=True) == 1
    assert exit_code(summary, of_all_kinds=False) == 0
    summary.histories -= 1
    assert exit_code(summary, of_all_kinds=True) == 0


@pytest.mark.parametrize("profile", ["one", "links"])
def test_one_seed_is_one_history(profile: str) -> None:
    """A failing seed can be run again: two runs do the same, line by line."""
    plan = draw(7, profile)
    assert plan == draw(7, profile)
    assert run(plan, trace=True).trace == run(plan, trace=True).trace
