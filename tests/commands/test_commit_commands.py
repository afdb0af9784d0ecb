"""A commit on its way: to the primary, into the store, to the backup, and only then back to the worker."""

from __future__ import annotations

import msgspec
import pytest
from tests.commands.transcript import (
    BACKUP,
    LOCAL,
    NONE,
    START_MS,
    TOLD_ALL,
    Turns,
    committed,
    creation,
    sent,
    told,
    writing,
)
from tests.making import (
    KEY,
    LIVES,
    SECRET,
    after,
    at_reign,
    backup_of,
    commit_id,
    new_session,
    place,
    proxy,
    sets,
    whole,
)

from understudy.model.commit import Commit, Outcome, ended, found_by
from understudy.model.entry import Role
from understudy.protocol import commands as c
from understudy.protocol import messages as m
from understudy.protocol.commands import FactKind

A = LIVES["a"]
SECOND = writing(2, x=b"2")
"""The second request of these transcripts; its change has number 102."""


def test_a_new_session_goes_to_one_backup_and_is_announced_to_the_rest() -> None:
    """S12: two peers: one is chosen and sent the whole entry; the other is told the place a moment later; the worker
    waits."""
    a = Turns("b", "c")
    assert a.asked(creation(x=b"1")) == [
        c.Change(KEY, c.DoCommit(1, creation(x=b"1").commit, ("b",))),
        told(FactKind.SESSION_CREATED),
        c.Send("b", m.Replicate(KEY, 101, whole(a.entry, a.now_ms))),
    ]
    assert a.wait(20) == [c.Send("c", m.Announce(((KEY, place("a", ("b",))),)))]
    assert a.outbox == {101}


def test_the_answer_leaves_after_the_backup_has_acknowledged() -> None:
    """S12, S17: the outbox row goes first, then the reply, which says that the data is protected."""
    a = Turns("b", "c")
    a.asked(creation(x=b"1"))
    assert a.hears("b", m.Acknowledge(KEY, 101, {A: 101})) == [c.Settle((101,)), c.Reply(1, committed(101))]
    assert a.outbox == set()


@pytest.mark.parametrize(
    ("sender", "answer"),
    [
        ("c", m.Acknowledge(KEY, 102, {A: 102})),
        ("b", m.Acknowledge(KEY, 101, {A: 101})),
        ("b", m.Acknowledge(b"other key" + bytes(7), 102, {A: 102})),
        ("b", TOLD_ALL),
    ],
    ids=["not a holder", "an earlier change", "another session", "no acknowledgement"],
)
def test_nothing_else_answers_a_commit(sender: str, answer: m.MemberMessage) -> None:
    """S12, S14: the acknowledgement of this change, of this session, from its backup, or the worker goes on waiting."""
    a = Turns("b", "c").with_session()
    a.asked(SECOND, 2)
    assert a.hears(sender, answer) == []
    assert a.outbox == {102}


def test_a_change_travels_as_a_delta_to_what_the_backup_has() -> None:
    """S16: only what changed since the acknowledged context; what was changed meanwhile comes on top, also while the
    previous change is on its way."""
    a = Turns("b", "c").with_session()
    acknowledged = {A: 101}
    first = a.asked(SECOND, 2)
    assert first[-1] == c.Send("b", m.Replicate(KEY, 102, a.delta(acknowledged)))
    second = a.asked(writing(3, y=b"3"), 3)
    assert second[-1] == c.Send("b", m.Replicate(KEY, 103, a.delta(acknowledged)))
    assert set(a.delta(acknowledged).values) == {"x", "y"}
    assert a.hears("b", m.Acknowledge(KEY, 103, {A: 103})) == [
        c.Settle((102, 103)),
        c.Reply(2, committed(102)),
        c.Reply(3, committed(103)),
    ]


def test_what_the_backup_of_a_session_at_rest_has_is_known_without_being_remembered() -> None:
    """S16: also by a life that has found the session in its store; and a primary keeps nothing of one at rest."""
    before = Turns("b", "c").with_session().entry
    a = Turns("b", "c", entries={KEY: before})
    a.number = before.number
    [(to, message)] = sent(a.asked(SECOND, 2), m.Replicate)
    assert to == "b" and message.delta.base == before.context and set(message.delta.values) == {"x"}
    assert message.delta.recent == (commit_id(2),)
    a.hears("b", m.Acknowledge(KEY, 102, {A: 102}))
    assert a.engine.replication.flights == {}


def test_an_acknowledgement_answers_no_later_change() -> None:
    """S16: of two changes in flight the first is acknowledged: the second request waits on."""
    a = Turns("b", "c").with_session()
    a.asked(SECOND, 2)
    a.asked(writing(3, y=b"3"), 3)
    assert a.hears("b", m.Acknowledge(KEY, 102, {A: 102})) == [c.Settle((102,)), c.Reply(2, committed(102))]
    assert a.outbox == {103}
    [(_, message)] = sent(a.asked(writing(4, z=b"4"), 4), m.Replicate)
    assert set(message.delta.values) == {"y", "z"}
    assert message.delta.recent == tuple(map(commit_id, (2, 3, 4)))  # what it remembered with 101 is sure


def test_a_lost_message_is_sent_again() -> None:
    """S14: nobody acknowledged for backup_timeout_ms: the backup is sent the change again."""
    a = Turns("b", "c").with_session()
    a.asked(SECOND, 2)
    again = sent(a.wait(100, hearing=("b", "c")), m.Replicate)
    assert again[0][0] == "b" and again[0][1].number == 102


def test_a_backup_that_does_not_answer_gets_company() -> None:
    """S21: a second backup is chosen beside the slow one, which stays listed; its acknowledgement answers the
    worker."""
    a = Turns("b", "c").with_session()
    a.asked(SECOND, 2)
    commands = a.wait(100, hearing=("b", "c"))
    assert told(FactKind.BACKUP_CHOSEN, "c") in commands
    assert c.Change(KEY, c.SetBackups(("b", "c"))) in commands
    assert ("c", m.Replicate(KEY, 103, a.delta({}))) in sent(commands, m.Replicate)
    a.hears("c", m.Acknowledge(KEY, 102, {A: 102}))
    assert a.entry.backups == ("b", "c")


def test_the_old_backup_is_released_when_the_new_one_has_everything() -> None:
    """S21, S28: make before break: the worker is answered, the list shrinks to the newer backup, and only then the
    older one is released, with the list that it is not in."""
    a = Turns("b", "c").with_session()
    a.asked(SECOND, 2)
    a.wait(100, hearing=("b", "c"))
    answered = a.hears("c", m.Acknowledge(KEY, 103, {A: 103}))
    assert answered == [c.Settle((102, 103)), c.Reply(2, committed(102))]
    finished = a.hears("b", m.Acknowledge(KEY, 103, {A: 103}))
    assert finished[:3] == [
        c.Change(KEY, c.SetBackups(("c",), ("b",))),
        told(FactKind.BACKUP_RELEASED, "b"),
        c.Send("b", m.Release(KEY, place("a", ("c",), list_number=3))),
    ]


def test_a_backup_that_asks_for_the_whole_is_sent_the_whole() -> None:
    """S17: NEEDS_WHOLE is no acknowledgement: the worker waits until the whole entry has been acknowledged."""
    a = Turns("b", "c").with_session()
    a.asked(SECOND, 2)
    assert a.hears("b", m.AskWhole(KEY, 102)) == [
        told(FactKind.NEEDED_WHOLE, "b"),
        c.Read((KEY,), c.Resend("b")),
        c.Send("b", m.Replicate(KEY, 102, whole(a.entry, a.now_ms))),
    ]


def test_local_answers_at_once_and_says_so() -> None:
    """S21: acknowledge = "local": sent all the same, its outbox row is marked first, the answer is not protected."""
    a = Turns("b", "c").with_session()
    request = writing(2, LOCAL, x=b"2")
    commands = a.asked(request, 2)
    assert commands[0] == c.Change(KEY, c.DoCommit(2, request.commit))
    assert [to for to, _ in sent(commands, m.Replicate)] == ["b"]
    assert commands[-2:] == [c.Mark((102,)), c.Reply(2, committed(102, protected=False))]


def test_none_is_never_answered() -> None:
    """acknowledge = "none": the worker does not wait, so nothing is sent to it."""
    a = Turns("b", "c").with_session()
    commands = a.asked(writing(2, NONE, x=b"2"), 2) + a.hears("b", m.Acknowledge(KEY, 102, {A: 102}))
    assert not [command for command in commands if isinstance(command, c.Reply)]
    assert c.Mark((102,)) in commands and not a.outbox


def test_alone_a_commit_is_answered_unprotected() -> None:
    """S21: nobody else is there: the worker need not wait for a time-out, the truth is in the answer and in a fact."""
    a = Turns()
    commands = a.asked(creation(x=b"1"))
    assert commands[-3:] == [
        c.Settle((101,)),
        told(FactKind.ANSWERED_UNPROTECTED),
        c.Reply(1, committed(101, protected=False)),
    ]


def test_when_the_time_is_over_the_answer_is_unprotected_and_its_row_marked() -> None:
    """S21: the only peer is there and silent: after commit_timeout_ms, not before."""
    a = Turns("b").with_session()
    a.asked(SECOND, 2)
    assert not [x for x in a.wait(1_960, hearing=("b",)) if isinstance(x, c.Reply | c.Mark)]
    late = [x for x in a.wait(60, hearing=("b",)) if isinstance(x, c.Reply | c.Mark | c.Tell)]
    assert late == [
        c.Mark((102,)),
        told(FactKind.ANSWERED_UNPROTECTED),
        c.Reply(2, committed(102, protected=False)),
    ]
    assert a.outbox == a.marked == {102}


def test_who_had_to_wait_before_its_change_was_stored_is_answered_in_its_own_time() -> None:
    """S21: an entry is compared first, and then the peer is silent: the answer is that the change is not protected, and
    not an error."""
    a = Turns("b").with_session()
    a.engine.comparisons.set_back()
    ((_, compare),) = sent(a.asked(SECOND, 2), m.Compare)
    a.wait(1_000, hearing=("b",))
    a.hears("b", m.Compared(compare.comparison, (m.Answer(KEY, m.Verdict.NOTHING),)))
    said = [x for x in a.wait(1_020, hearing=("b",)) if isinstance(x, c.Reply)]
    assert said == [c.Reply(2, committed(102, protected=False))]


def test_who_fetches_what_was_answered_unprotected_is_told_so() -> None:
    """S21: a reader elsewhere is shown the change, and not that it is on two machines; when it is, that is said."""
    a = Turns("b").with_session()
    a.asked(SECOND, 2)
    a.wait(2_020, hearing=("b",))
    fetched = sent(a.hears("b", m.Fetch(7, KEY, {}, 1)), m.Fetched)
    assert [message.answer.unprotected for _, message in fetched] == [True]
    a.hears("b", m.Acknowledge(KEY, 102, {A: 102}))
    fetched = sent(a.hears("b", m.Fetch(8, KEY, {A: 102}, 1)), m.Fetched)
    assert [message.answer.unprotected for _, message in fetched] == [False]


def test_a_backup_that_is_only_named_protects_nothing() -> None:
    """S21: a session that nobody could take a copy of gets a backup: until that one has it, a reader is told."""
    a = Turns()
    a.asked(creation(x=b"1"))
    a.on(c.PeerFound("b", LIVES["b"]))
    a.hears("b", m.HeartbeatAck(a.now_ms))
    swept = a.on(c.Scanned(c.Scan(c.ScanKind.LACKING, c.Protect()), (KEY,), False))
    ((_, entrusted),) = sent(swept, m.Entrust)
    a.now_ms += 1
    a.asked(m.TouchRequest(KEY))  # so that it is listed before it has everything
    a.hears("b", m.Entrusted(entrusted.number, ((KEY, 0),)))
    assert a.entry.backups == ("b",)
    fetched = sent(a.hears("b", m.Fetch(7, KEY, {}, 1)), m.Fetched)
    assert [message.answer.unprotected for _, message in fetched] == [True]
    a.hears("b", m.Acknowledge(KEY, a.entry.number, a.entry.context))
    fetched = sent(a.hears("b", m.Fetch(8, KEY, {}, 1)), m.Fetched)
    assert [message.answer.unprotected for _, message in fetched] == [False]


def test_what_was_passed_on_before_it_was_refused_may_have_been_written() -> None:
    """S21, S22: the primary may have done it before it was lost; that nothing was written is said of nothing else."""
    for entry, unsure in ((backup_of(new_session(1, "b", ("a",), START_MS, x=b"1")), True), (None, False)):
        a = Turns("b", entries={KEY: entry} if entry else None)
        if entry is None:
            a.with_session()
        request = msgspec.structs.replace(writing(2, x=b"2"), unprotected_refused=True)
        asked = sent(a.asked(request, 2), m.Forward) if entry else []
        said = a.on(c.PeerLost("b", LIVES["b"])) + a.wait(400)
        said += a.asked(request, 2) if entry is None else []
        replies = [x for x in said if isinstance(x, c.Reply)]
        assert replies == [c.Reply(2, m.CommitAnswer(Outcome.REFUSED, unsure=unsure))] and bool(asked) == unsure


def test_unprotected_refuse_commits_nothing_without_a_backup() -> None:
    """S21: looked for before the commit: the entry does not change."""
    a = Turns()
    request = msgspec.structs.replace(creation(x=b"1"), unprotected_refused=True)
    assert a.asked(request) == [c.Reply(1, m.CommitAnswer(Outcome.REFUSED))]
    assert not a.entries


@pytest.mark.parametrize(
    ("commit", "outcome", "fact"),
    [
        (Commit(commit_id(2), SECRET, {"x": b"2"}, expects={"x": ()}), Outcome.CONFLICT, FactKind.COMMIT_CONFLICTED),
        (Commit(commit_id(2), b"another", {"x": b"2"}), Outcome.FENCED, FactKind.COMMIT_FENCED),
        (Commit(commit_id(2), SECRET, {"x": b"2"}, replaces={"x": ()}), Outcome.OUTDATED, FactKind.COMMIT_OUTDATED),
        (Commit(commit_id(2), SECRET, {"x": bytes(2_000_000)}), Outcome.TOO_LARGE, None),
    ],
    ids=["conflict", "fenced", "outdated", "too large"],
)
def test_a_refused_commit_is_answered_and_sent_to_nobody(
    commit: Commit, outcome: Outcome, fact: FactKind | None
) -> None:
    """S03, S05: a conditional commit is never merged, a foreign secret never written; nothing leaves for the backup."""
    a = Turns("b", "c").with_session()
    before = a.entry
    assert before is not None
    assert a.asked(m.CommitRequest(0, KEY, commit, BACKUP), 2) == [
        c.Change(KEY, c.DoCommit(2, commit)),
        *([told(fact)] if fact else []),
        c.Reply(2, m.CommitAnswer(outcome, primary="a", found=found_by(before, commit))),
    ]
    assert a.entry is before and not a.outbox


def test_a_repeated_commit_is_applied_once_and_waits_for_the_first() -> None:
    """S23: the worker asked again after its agent's answer was lost: it is answered when the first one is protected."""
    a = Turns("b", "c").with_session()
    a.asked(SECOND, 2)
    entry = a.entry
    assert a.asked(SECOND, 3) == [c.Change(KEY, c.DoCommit(3, SECOND.commit)), told(FactKind.COMMIT_REPEATED)]
    assert a.entry is entry
    answered = a.hears("b", m.Acknowledge(KEY, 102, {A: 102}))
    assert answered == [c.Settle((102,)), c.Reply(2, committed(102)), c.Reply(3, committed(102))]


def test_the_end_is_told_to_everybody_at_once() -> None:
    """S04: the backup is sent the tombstone and the rest hear of it in the same turn; the worker is answered when the
    backup has it."""
    a = Turns("b", "c").with_session()
    commit = Commit(commit_id(2), SECRET, ends=True)
    commands = a.asked(m.CommitRequest(0, KEY, commit, BACKUP), 2)
    gone = place("a", ("b",), ended=True)
    announcement = m.Announce(((KEY, gone),))
    assert commands == [
        c.Change(KEY, c.DoCommit(2, commit)),
        told(FactKind.SESSION_ENDED),
        c.Send("b", announcement),
        c.Send("c", announcement),
        c.Settle((101,)),
        c.Send("b", m.Replicate(KEY, 102, a.delta({A: 101}))),
    ]
    assert a.hears("b", m.Acknowledge(KEY, 102, {A: 102})) == [c.Settle((102,)), c.Reply(2, committed(102))]


def test_an_end_that_too_few_members_have_is_not_called_protected() -> None:
    """S04: two backups were wanted, one was there when the session ended (seed 2148): nobody is chosen for a tombstone,
    so the answer is given at once, and says so."""
    a = Turns("b", "c", copies=2, entries={KEY: new_session(1, "a", ("b",), START_MS, x=b"1")})
    a.asked(m.CommitRequest(0, KEY, Commit(commit_id(2), SECRET, ends=True), BACKUP), 2)
    number = a.entry.number
    commands = a.hears("b", m.Acknowledge(KEY, number, a.entry.context))
    assert [x for x in commands if isinstance(x, c.Reply)] == [c.Reply(2, committed(number, protected=False))]


# --- not the primary ------------------------------------------------------------------------------------------------


def test_a_commit_for_another_members_session_is_forwarded() -> None:
    """S10: a proxy passes it on unchanged, with its id and what it is to be acknowledged by; the answer is passed
    back."""
    a = Turns("b", "c", entries={KEY: proxy("b", ("c",))})
    assert a.asked(SECOND) == [
        c.Change(KEY, c.DoCommit(1, SECOND.commit)),
        c.Send("b", m.Forward(1, KEY, SECOND.commit, BACKUP, False, 1, a.now_ms)),
    ]
    answer = m.CommitAnswer(Outcome.COMMITTED, True, "b", LIVES["b"], 7)
    assert a.hears("b", m.Forwarded(1, answer)) == [c.Reply(1, answer)]


def test_only_who_was_asked_may_answer_a_forward() -> None:
    """S15: an answer of another member, or a second one, answers nobody."""
    a = Turns("b", "c", entries={KEY: proxy("b", ("c",))})
    a.asked(SECOND)
    answer = m.CommitAnswer(Outcome.COMMITTED, True, "b", LIVES["b"], 7)
    assert a.hears("c", m.Forwarded(1, answer)) == []
    a.hears("b", m.Forwarded(1, answer))
    assert a.hears("b", m.Forwarded(1, answer)) == []


def test_a_backup_forwards_too() -> None:
    """S25, S28: whoever holds a copy writes nothing into it while the primary is heard."""
    held = backup_of(new_session(1, "b", ("a",), x=b"1"))
    a = Turns("b", "c", entries={KEY: held})
    assert a.asked(SECOND)[-1] == c.Send("b", m.Forward(1, KEY, SECOND.commit, BACKUP, False, 1, a.now_ms))
    assert a.entry is held


def test_a_forwarded_commit_is_answered_to_its_member_when_protected() -> None:
    """S12: the primary's side: no difference to its own workers' commits, but for whom the answer is for."""
    a = Turns("b", "c").with_session()
    forward = m.Forward(55, KEY, SECOND.commit, BACKUP, False, 1, 0)
    commands = a.hears("c", forward)
    assert commands[0] == c.Change(KEY, c.DoCommit(2, SECOND.commit))
    assert [to for to, _ in sent(commands, m.Replicate)] == ["b"]
    assert not sent(commands, m.Forwarded)
    assert a.hears("b", m.Acknowledge(KEY, 102, {A: 102})) == [
        c.Settle((102,)),
        c.Send("c", m.Forwarded(55, committed(102))),
    ]


def test_a_forward_that_was_under_way_for_too_long_is_dropped() -> None:
    """S15, S38: it may have been given up and written elsewhere since: later than twice the commit's time it is
    nothing."""
    a = Turns("b", "c").with_session()
    a.hears("c", m.Heartbeat(5_000))
    sent_ms = 5_000
    a.wait(4_020, hearing=("b", "c"))
    before = a.entry
    assert a.hears("c", m.Forward(55, KEY, SECOND.commit, BACKUP, False, 1, sent_ms)) == []
    assert a.entry is before


def test_when_the_primary_is_lost_the_forward_goes_to_the_backup() -> None:
    """S22: a proxy whose primary is gone asks the backup in the same turn; the worker knows nothing of it."""
    a = Turns("b", "c", entries={KEY: proxy("b", ("c",))})
    a.asked(SECOND)
    commands = a.on(c.PeerLost("b", LIVES["b"]))
    assert c.Send("c", m.Forward(1, KEY, SECOND.commit, BACKUP, False, 1, a.now_ms, "b")) in commands


def test_a_worker_that_has_gone_is_not_answered() -> None:
    """S24: what it committed goes on to the backup without it."""
    a = Turns("b", "c").with_session()
    a.asked(SECOND, 2)
    assert a.on(c.Abandoned(2)) == []
    assert a.hears("b", m.Acknowledge(KEY, 102, {A: 102})) == [c.Settle((102,))]


# --- a primary that others know better than -------------------------------------------------------------------------


def test_a_refused_primary_asks_for_the_whole_of_what_the_others_hold() -> None:
    """S25: a successor is there: nothing is answered to the worker, everything is compared first."""
    a = Turns("b", "c").with_session()
    a.asked(SECOND, 2)
    later = place("b", ("c",), 2)
    commands = a.hears("b", m.Refuse(KEY, 102, later, a.entry.promised))
    assert commands[:2] == [
        told(FactKind.COPY_REFUSED, "b"),
        c.Read((KEY,), c.CompareOne(("b", "b"), later.epoch, a.entry.promised)),
    ]
    ((to, message),) = sent(commands, m.Compare)
    assert to == "b" and message.items == (m.Item(KEY, a.entry.epoch, {}),)


def test_who_steps_down_takes_unanswered_changes_to_the_successor() -> None:
    """S23, S25: the worker's commit was answered by nobody: the copy is the successor's, the commit is forwarded to
    it."""
    a = Turns("b", "c").with_session()
    base = a.entry
    a.asked(SECOND, 2)
    commands = a.hears("b", m.Refuse(KEY, 102, place("b", ("a",), 2), a.entry.promised))
    ((_, question),) = sent(commands, m.Compare)
    theirs = after(at_reign(base, 2, "b", ("a",)), sets(9, y=b"9"), 9, "b", a.now_ms)
    holds = m.Answer(KEY, m.Verdict.HOLDS, theirs.location, whole(theirs, a.now_ms))
    commands = a.hears("b", m.Compared(question.comparison, (holds,)))
    assert told(FactKind.STEPPED_DOWN, "b") in commands
    assert c.Settle((102,)) in commands and not sent(commands, m.Contribute)
    assert a.entry == backup_of(theirs)
    assert [to for to, _ in sent(commands, m.Forward)] == ["b"]


def test_a_change_on_top_of_one_that_was_told_is_not_taken_back() -> None:
    """S43: x = 2 was answered, without protection, and x = 3 stands on it when the successor is met: both are merged
    into the successor's copy, though nobody was answered for the later one.
    """
    a = Turns("b", "c").with_session()
    base = a.entry
    a.asked(SECOND, 2)
    a.wait(2_100, hearing=("b", "c"))
    assert 102 in a.marked
    a.asked(writing(3, x=b"3"), 3)
    commands = a.hears("b", m.Refuse(KEY, a.number, place("b", ("a",), 2), a.entry.promised))
    ((_, question),) = sent(commands, m.Compare)
    theirs = after(at_reign(base, 2, "b", ("a",)), sets(9, y=b"9"), 9, "b", a.now_ms)
    holds = m.Answer(KEY, m.Verdict.HOLDS, theirs.location, whole(theirs, a.now_ms))
    commands = a.hears("b", m.Compared(question.comparison, (holds,)))
    assert told(FactKind.STEPPED_DOWN, "b") in commands and sent(commands, m.Contribute)
    assert (a.entry.shown("x"), a.entry.shown("y")) == (b"3", b"9")


def test_a_tombstone_at_the_backup_ends_the_session_here() -> None:
    """S04: the backup knows that the session has ended: the worker's write is answered ENDED."""
    a = Turns("b", "c").with_session()
    a.asked(SECOND, 2)
    commands = a.hears("b", m.Refuse(KEY, 102, place("a", (), ended=True), a.entry.promised))
    assert c.Reply(2, m.CommitAnswer(Outcome.ENDED)) in commands
    assert a.entry.ended and a.entry.role is Role.PRIMARY


def test_an_ended_session_answers_ended() -> None:
    """S04: fetch and commit, from a worker and from a member."""
    a = Turns("b", entries={KEY: ended(proxy("b", ()), 1_000)})
    assert a.asked(SECOND, 2)[-1] == c.Reply(2, m.CommitAnswer(Outcome.ENDED))
    assert a.asked(m.FetchRequest(0, KEY), 3)[-1] == c.Reply(3, m.FetchAnswer(m.FetchOutcome.ENDED))
    assert a.hears("b", m.Fetch(9, KEY, {}, 1))[-1] == c.Send("b", m.Fetched(9, m.FetchAnswer(m.FetchOutcome.ENDED)))
