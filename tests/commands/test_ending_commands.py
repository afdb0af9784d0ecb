"""Who is told that a session has ended, and when: not before the request that ended it."""

from __future__ import annotations

import pytest
from tests.commands.test_reader_commands import COPY, acknowledges, cluster, with_session
from tests.commands.transcript import BACKUP, LOCAL, START_MS, STEP_MS, Turns, committed, sent, writing
from tests.making import KEY, LIVES, SECRET, commit_id, moved, new_session, place, whole

from understudy.model.commit import Commit, Outcome, ended
from understudy.model.entry import Role
from understudy.protocol import commands as c
from understudy.protocol import messages as m

A, B = LIVES["a"], LIVES["b"]
LOGOUT = m.CommitRequest(0, KEY, Commit(commit_id(2), SECRET, ends=True), BACKUP)
"""It becomes change 102 of member a."""
WRITE = writing(3, y=b"3")
WRITTEN_TOO_LATE = m.CommitAnswer(Outcome.ENDED)
GONE = m.FetchAnswer(m.FetchOutcome.ENDED)
STONE = ended(COPY, START_MS)
UNSURE = moved(STONE, unconfirmed=True)
"""What a reader keeps of b's session that it has heard the end of, and does not know who else has."""


def answers(commands: list[c.Command]) -> list[c.Command]:
    return [x for x in commands if isinstance(x, c.Reply) or (isinstance(x, c.Send) and _answers(x.message))]


def _answers(message: m.MemberMessage) -> bool:
    return isinstance(message, m.Fetched | m.Forwarded)


# --- at the primary ---------------------------------------------------------------------------------------------------


def test_a_write_beside_a_logout_is_told_of_it_when_that_is_answered() -> None:
    """S04, S22: if the primary dies before, its backup may never hear of the end, and shows the session."""
    a = Turns("b", "c").with_session()
    a.asked(LOGOUT, 2)
    assert answers(a.asked(WRITE, 3)) == []
    commands = a.hears("b", m.Acknowledge(KEY, 102, {A: 102}))
    assert answers(commands) == [c.Reply(2, committed(102)), c.Reply(3, WRITTEN_TOO_LATE)]
    assert answers(a.asked(WRITE, 4)) == [c.Reply(4, WRITTEN_TOO_LATE)]


def test_a_read_beside_a_logout_is_told_of_it_when_that_is_answered() -> None:
    """S04: a worker's, and that of another member, whose worker is passed on."""
    a = Turns("b", "c").with_session()
    a.asked(LOGOUT, 2)
    assert answers(a.asked(m.FetchRequest(0, KEY), 3)) == []
    assert answers(a.hears("c", m.Fetch(9, KEY, {}, 1))) == []
    assert answers(a.hears("b", m.Acknowledge(KEY, 102, {A: 102}))) == [
        c.Reply(2, committed(102)),
        c.Reply(3, GONE),
        c.Send("c", m.Fetched(9, GONE)),
    ]


def test_a_forwarded_write_beside_a_logout_waits_too() -> None:
    """S04, S10: it came from a worker elsewhere."""
    a = Turns("b", "c").with_session()
    a.asked(LOGOUT, 2)
    assert answers(a.hears("c", m.Forward(9, KEY, WRITE.commit, BACKUP, False, 1, a.now_ms))) == []
    commands = a.hears("b", m.Acknowledge(KEY, 102, {A: 102}))
    assert answers(commands)[1:] == [c.Send("c", m.Forwarded(9, WRITTEN_TOO_LATE))]


def test_the_logout_itself_may_be_repeated() -> None:
    """S04, S23: who ended the session is not told that it had ended."""
    a = Turns("b", "c").with_session()
    a.asked(LOGOUT, 2)
    assert answers(a.asked(LOGOUT, 3)) == []
    commands = a.hears("b", m.Acknowledge(KEY, 102, {A: 102}))
    assert answers(commands) == [c.Reply(2, committed(102)), c.Reply(3, committed(102))]


def test_a_silent_backup_delays_nobody_for_longer_than_the_logout() -> None:
    """S04, S21: that is answered without protection when its time is over, and so are those who wait for it."""
    a = Turns("b", "c").with_session()
    a.asked(LOGOUT, 2)
    a.wait(500, hearing=("b", "c"))
    a.asked(WRITE, 3)
    commands = a.wait(a.settings.commit_timeout_ms - 500, hearing=("b", "c"))
    assert answers(commands) == [c.Reply(2, committed(102, protected=False)), c.Reply(3, WRITTEN_TOO_LATE)]


def test_a_tombstone_that_was_answered_unprotected_is_sent_on() -> None:
    """S04, S21: b was slow, and has lost the news of the end as well: it would go on with the session after a."""
    a = Turns("b", "c").with_session()
    a.asked(LOGOUT, 2)
    commands = a.wait(a.settings.commit_timeout_ms, hearing=("b", "c"))
    assert answers(commands) == [c.Reply(2, committed(102, protected=False))] and not a.outbox
    assert "b" in [to for to, _ in sent(a.wait(1_100, hearing=("b", "c")), m.Replicate)]
    a.hears("b", m.Acknowledge(KEY, 102, {A: 102}))
    assert KEY not in a.engine.replication.flights
    assert not sent(a.wait(1_100, hearing=("b", "c")), m.Replicate)


def test_a_tombstone_is_sent_no_more_to_who_is_lost() -> None:
    """S04, S21: b's next life asks, or is asked about."""
    a = Turns("b", "c").with_session()
    a.asked(LOGOUT, 2)
    a.wait(a.settings.commit_timeout_ms, hearing=("b", "c"))
    a.on(c.PeerLost("b", B))
    a.wait(STEP_MS, hearing=("c",))
    assert KEY not in a.engine.replication.flights


def test_the_loss_of_the_backup_answers_all() -> None:
    """S04, S21: nobody is chosen to hold a tombstone."""
    a = Turns("b", "c").with_session()
    a.asked(LOGOUT, 2)
    a.asked(WRITE, 3)
    a.asked(m.FetchRequest(0, KEY), 4)
    commands = a.on(c.PeerLost("b", B)) + a.wait(STEP_MS, hearing=("c",))
    said = [c.Reply(2, committed(102, protected=False)), c.Reply(3, WRITTEN_TOO_LATE), c.Reply(4, GONE)]
    assert answers(commands) == said


def test_where_a_logout_waits_for_nobody_nobody_waits_for_it() -> None:
    """S04: ``acknowledge = "local"``: its own answer has left already."""
    a = Turns("b", "c").with_session()
    assert answers(a.asked(m.CommitRequest(0, KEY, LOGOUT.commit, LOCAL), 2)) == [
        c.Reply(2, committed(102, protected=False))
    ]
    assert answers(a.asked(WRITE, 3)) == [c.Reply(3, WRITTEN_TOO_LATE)]


def test_an_end_that_an_earlier_life_left_under_way_is_sent_before_it_is_told() -> None:
    """S04, S23: the outbox is not read yet."""
    mine = ended(new_session(1, "a", ("b",), START_MS, x=b"1"), START_MS)
    a = Turns("b", "c", entries={KEY: moved(mine, number=2)}, joined=False)
    a.outbox.add(2)
    commands = a.asked(m.FetchRequest(0, KEY), 3)
    assert [to for to, _ in sent(commands, m.Replicate)] == ["b"] and answers(commands) == []
    assert answers(a.hears("b", m.Acknowledge(KEY, 2, {A: 2}))) == [c.Reply(3, GONE)]


def test_who_asks_all_about_a_key_is_sent_to_the_primary_while_an_end_is_under_way() -> None:
    """S04, S31: there it waits; afterwards everybody is told."""
    a = Turns("b", "c").with_session()
    a.asked(LOGOUT, 2)
    ((_, before),) = sent(a.hears("c", m.Locate(9, KEY)), m.Located)
    a.hears("b", m.Acknowledge(KEY, 102, {A: 102}))
    ((_, later),) = sent(a.hears("c", m.Locate(10, KEY)), m.Located)
    assert before.location == place("a", ("b",)) and later.location == place("a", ("b",), ended=True)


# --- where every member reads -----------------------------------------------------------------------------------------


def test_all_readers_have_a_tombstone_before_anybody_is_told() -> None:
    """S04, S12: one of two is not enough (profile delta, seed 62020); then all members may tell it."""
    a = with_session(cluster("b", "c"))
    for name in ("b", "c"):
        a.hears(name, m.Heartbeat(a.now_ms))
    a.asked(LOGOUT, 2)
    assert answers(a.asked(WRITE, 3) + a.asked(m.FetchRequest(0, KEY), 4)) == []
    assert answers(acknowledges(a, 102, "b")) == []
    commands = acknowledges(a, 102, "c")
    assert answers(commands) == [c.Reply(2, committed(102)), c.Reply(3, WRITTEN_TOO_LATE), c.Reply(4, GONE)]
    assert sent(commands, m.Confirm) == [(name, m.Confirm(((KEY, None),))) for name in ("b", "c")]


def test_the_end_waits_for_a_reader_that_is_lost() -> None:
    """S04, S31: it may be cut off, and shows the session until its lease is over; then one tombstone elsewhere is
    protection."""
    a = with_session(cluster("b", "c"))
    for name in ("b", "c"):
        a.hears(name, m.Heartbeat(a.now_ms))
    a.on(c.PeerLost("c", LIVES["c"]))
    a.asked(LOGOUT, 2)
    assert answers(a.asked(WRITE, 3) + acknowledges(a, 102, "b")) == []
    assert answers(a.wait(a.engine.members.promise_ms - STEP_MS, hearing=("b",))) == []
    commands = a.wait(2 * STEP_MS, hearing=("b",))
    assert answers(commands) == [c.Reply(2, committed(102)), c.Reply(3, WRITTEN_TOO_LATE)]


@pytest.mark.parametrize("is_copy", [False, True], ids=["announced", "copied"])
def test_a_reader_that_has_heard_of_an_end_asks_the_primary(is_copy: bool) -> None:
    """S04, S12: others may still be shown the session. What the primary then says is for everybody."""
    a = Turns("b", "c", entries={KEY: COPY}, everywhere=True)
    a.hears("b", m.Replicate(KEY, 2, whole(STONE, START_MS)) if is_copy else m.Announce(((KEY, STONE.location),)))
    assert a.entry == moved(UNSURE, ended_ms=a.now_ms)
    commands = a.asked(m.FetchRequest(0, KEY), 2)
    ((_, fetch),) = sent(commands, m.Fetch)
    assert answers(commands) == []
    assert answers(a.hears("b", m.Fetched(fetch.request, GONE))) == [c.Reply(2, GONE)]
    assert answers(a.asked(m.FetchRequest(0, KEY), 3)) == [c.Reply(3, GONE)]


def test_a_write_at_such_a_reader_goes_to_the_primary() -> None:
    """S04, S10: as a read does."""
    a = Turns("b", "c", entries={KEY: UNSURE}, everywhere=True)
    commands = a.asked(WRITE, 2)
    ((to, forward),) = sent(commands, m.Forward)
    assert to == "b" and answers(commands) == []
    assert answers(a.hears("b", m.Forwarded(forward.request, WRITTEN_TOO_LATE))) == [c.Reply(2, WRITTEN_TOO_LATE)]


def test_the_primarys_word_makes_an_end_one_for_everybody() -> None:
    """S04, S12: what it said of the session's values before, and came late, does not."""
    a = Turns("b", "c", entries={KEY: UNSURE}, everywhere=True)
    a.hears("b", m.Confirm(((KEY, COPY.context),)))
    assert a.entry.unconfirmed
    a.hears("b", m.Confirm(((KEY, None),)))
    assert answers(a.asked(m.FetchRequest(0, KEY), 2)) == [c.Reply(2, GONE)]


def test_a_word_of_an_end_makes_no_copy_readable() -> None:
    """S12: of one that lives here, because the tombstone is late."""
    a = Turns("b", "c", entries={KEY: moved(COPY, unconfirmed=True)}, everywhere=True)
    a.hears("b", m.Confirm(((KEY, None),)))
    assert a.entry.unconfirmed and not a.entry.ended


@pytest.mark.parametrize("asks_before", [False, True])
def test_when_the_primary_dies_an_end_is_told_when_its_leases_are_over(asks_before: bool) -> None:
    """S04, S22: a third member that has not heard of it may show the session until then; it is told at once."""
    a = Turns("b", "c", entries={KEY: UNSURE}, everywhere=True)
    commands = a.asked(m.FetchRequest(0, KEY), 2) if asks_before else []
    commands = a.on(c.PeerLost("b", B))
    commands += [] if asks_before else a.asked(m.FetchRequest(0, KEY), 2)
    assert sent(commands, m.Announce) == [("c", m.Announce(((KEY, STONE.location),)))]
    assert answers(commands + a.wait(a.engine.members.promise_ms - STEP_MS, hearing=("c",))) == []
    assert answers(a.wait(100, hearing=("c",))) == [c.Reply(2, GONE)]
    assert answers(a.asked(WRITE, 3)) == [c.Reply(3, WRITTEN_TOO_LATE)]


def test_a_primary_that_forgot_the_session_does_not_speak_for_it() -> None:
    """S04, S23: it has come back with an empty store: that is silence, too."""
    a = Turns("b", "c", entries={KEY: UNSURE}, everywhere=True)
    ((_, fetch),) = sent(a.asked(m.FetchRequest(0, KEY), 2), m.Fetch)
    unknown = m.Fetched(fetch.request, m.FetchAnswer(m.FetchOutcome.UNKNOWN))
    assert answers(a.hears("b", unknown)) == []
    assert answers(a.wait(a.engine.members.promise_ms + 100, hearing=("b", "c"))) == [c.Reply(2, GONE)]


def test_a_primary_that_hears_of_an_end_tells_it_when_its_readers_know() -> None:
    """S04: somebody who was primary before has made it."""
    mine = new_session(1, "a", ("b", "c"), START_MS, x=b"1")
    a = Turns("b", "c", entries={KEY: mine}, everywhere=True)
    a.hears("b", m.Announce(((KEY, place("a", ("b", "c"), ended=True)),)))
    assert a.entry.role is Role.PRIMARY and a.entry.ended
    commands = a.asked(WRITE, 2)
    assert answers(commands) == [] and {to for to, _ in sent(commands, m.Announce)} == {"b", "c"}
    assert answers(a.wait(a.engine.members.promise_ms + 100, hearing=("b", "c"))) == [c.Reply(2, WRITTEN_TOO_LATE)]


# --- after the death of the primary ---------------------------------------------------------------------------------


def test_what_a_third_member_has_heard_of_an_end_is_enough() -> None:
    """S04, S22: the tombstone for the backup was lost with the primary. A third member that was told may say so, for
    whoever takes over asks all, and does not show the session."""
    a = Turns("b", "c", entries={KEY: COPY})
    a.on(c.PeerLost("b", B))
    ((_, ask),) = sent(a.asked(m.FetchRequest(0, KEY), 2), m.Ask)
    said = m.Answer(KEY, m.Verdict.ENDED, STONE.location)
    assert answers(a.hears("c", m.Answers(ask.inquiry, (said,)))) == [c.Reply(2, GONE)]
    assert a.entry.ended and a.entry.role is Role.BACKUP
