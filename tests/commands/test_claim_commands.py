"""Claims: a member with a request in hand does not wait until a silent primary is called dead."""

from __future__ import annotations

from itertools import pairwise

import pytest
from tests.commands.transcript import START_MS, STEP_MS, Turns, sent, told, writing
from tests.making import CHOOSERS, IDLE_MS, KEY, LIVES, backup_of, new_session, proxy

from understudy.model.entry import Promise, Role
from understudy.protocol import commands as c
from understudy.protocol import messages as m
from understudy.protocol.commands import FactKind
from understudy.protocol.inquire import TICK_MS

FETCH = m.FetchRequest(0, KEY)
COPY = backup_of(new_session(1, "b", ("a",), START_MS, x=b"1"))
"""What a, the backup of b, holds."""
PROXY = proxy("b", ("c",))
QUESTION = m.Question(KEY, Promise(2, CHOOSERS["a"]), COPY.context, COPY.location)


def asked_by(commands: list[c.Command]) -> list[tuple[str, str]]:
    """To whom fetches went, and what they claim."""
    return [(to, message.claims) for to, message in sent(commands, m.Fetch)]


def answers(number: int, verdict: m.Verdict) -> m.Answers:
    return m.Answers(number, (m.Answer(KEY, verdict, COPY.location),))


# --- the member with the request --------------------------------------------------------------------------------------


def test_a_primary_that_says_nothing_is_claimed_from_its_backup() -> None:
    """S22: 100 ms after the question, if its heartbeats have gone unanswered, too; two leases before it were dead."""
    a = Turns("b", "c", entries={KEY: PROXY})
    a.wait(100, hearing=("c",))
    assert asked_by(a.asked(FETCH)) == [("b", "")]
    assert asked_by(a.wait(80, hearing=("c",))) == []
    assert asked_by(a.wait(20, hearing=("c",))) == [("c", "b")]


def test_a_primary_that_is_heard_is_asked_again() -> None:
    """S14: it answers heartbeats: a frame was lost, or it has work to do; nobody is troubled."""
    a = Turns("b", "c", entries={KEY: PROXY})
    commands = a.asked(FETCH) + a.wait(1_000, hearing=("b", "c"))
    assert set(asked_by(commands)) == {("b", "")} and len(asked_by(commands)) == 11


def test_a_suspect_is_not_asked_first() -> None:
    """S22: it has been silent for a whole lease already."""
    a = Turns("b", "c", entries={KEY: PROXY})
    a.wait(300, hearing=("c",))
    assert asked_by(a.asked(FETCH)) == [("c", "b")]


def test_an_answer_that_comes_late_is_taken() -> None:
    """S22: the primary was slow: who answers first has answered."""
    a = Turns("b", "c", entries={KEY: PROXY})
    a.wait(100, hearing=("c",))
    a.asked(FETCH)
    a.wait(100, hearing=("c",))
    gone = m.Fetched(1, m.FetchAnswer(m.FetchOutcome.ENDED))
    assert a.hears("b", gone) == [], "it is the backup that is asked now"
    assert a.hears("c", gone) == [c.Reply(1, m.FetchAnswer(m.FetchOutcome.ENDED))]


# --- the backup -------------------------------------------------------------------------------------------------------


def test_a_backup_that_hears_the_primary_relays() -> None:
    """S31, S40: only the claimer does not hear it: nothing is asked, nothing promoted."""
    a = Turns("b", "c", entries={KEY: COPY})
    assert a.hears("c", m.Fetch(9, KEY, {}, 1, "b"))[-1] == c.Send("b", m.Fetch(1, KEY, {}, 2))
    assert a.entry is COPY


def test_a_backup_that_hears_nothing_either_asks_at_once() -> None:
    """S22: it does not wait another 100 ms, nor until its primary is suspect."""
    a = Turns("b", "c", entries={KEY: COPY})
    a.wait(180, hearing=("c",))
    commands = a.hears("c", m.Fetch(9, KEY, {}, 1, "b"))
    assert [message.questions for _, message in sent(commands, m.Ask)] == [(QUESTION,), (QUESTION,)]
    assert [to for to, _ in sent(commands, m.Ask)] == ["b", "c"]


def test_the_backups_own_request_claims_too() -> None:
    """S22: of a suspect at once; of a member that is only silent after 100 ms."""
    a = Turns("b", "c", entries={KEY: COPY})
    a.wait(100, hearing=("c",))
    assert asked_by(a.asked(FETCH)) == [("b", "")]
    assert {to for to, _ in sent(a.wait(100, hearing=("c",)), m.Ask)} == {"b", "c"}
    a = Turns("b", "c", entries={KEY: COPY})
    a.wait(300, hearing=("c",))
    assert {to for to, _ in sent(a.asked(FETCH), m.Ask)} == {"b", "c"}


def test_a_claim_does_not_go_back_to_who_passed_it_on() -> None:
    """S22: c comes first in the list that a knows, but has been released since: it names a, which asks at once. Else
    each would name the other until the request is given up (profile one, seed 61027)."""
    a = Turns("b", "c", "d", entries={KEY: backup_of(new_session(1, "b", ("c", "a"), START_MS))})
    a.on(c.PeerLost("b", LIVES["b"]))
    commands = a.hears("c", m.Fetch(9, KEY, {}, 1, "b"))
    assert asked_by(commands) == []
    assert {to for to, _ in sent(commands, m.Ask)} == {"c", "d"}
    assert asked_by(a.hears("d", m.Fetch(8, KEY, {}, 1, "b"))) == [("c", "b")], "which d may not know of"


@pytest.mark.parametrize(("idle_ms", "claims"), [(0, True), (IDLE_MS - 1, True), (IDLE_MS, False)])
def test_what_its_primary_has_expired_is_not_claimed(idle_ms: int, claims: bool) -> None:
    """S44: its answer "unknown" came before the word of the expiry. Where our copy's time is over as well, nobody asks
    to become primary, who could only expire it again: it is dropped, and the request goes on without it."""
    a = Turns("b", "c", entries={KEY: backup_of(new_session(1, "b", ("a",), START_MS - idle_ms))})
    a.asked(FETCH)
    commands = a.hears("b", m.Fetched(1, m.FetchAnswer(m.FetchOutcome.UNKNOWN)))
    assert bool(sent(commands, m.Ask)) == claims
    assert (KEY in a.entries) == claims
    assert bool(sent(commands, m.Locate)) != claims


def test_a_claim_that_comes_late_from_the_primary_itself_drops_no_copy() -> None:
    """S34, S44: b sent it before it was given the session. That is no word that it knows nothing, and our copy's time
    may be over here a moment before it is there (seed 81095 of the mix)."""
    a = Turns("b", "c", entries={KEY: backup_of(new_session(1, "b", ("a",), START_MS - IDLE_MS))})
    asked = dict(sent(a.hears("b", m.Fetch(9, KEY, {}, 1, "c")), m.Ask))
    assert KEY in a.entries and asked.keys() == {"b", "c"}
    a.hears("c", answers(asked["c"].inquiry, m.Verdict.NOTHING))
    assert asked_by(a.hears("b", answers(asked["b"].inquiry, m.Verdict.PRIMARY))) == [("b", "")]
    assert a.entry.role is Role.BACKUP


def test_the_silent_primary_is_waited_for_until_it_is_suspect_and_no_longer() -> None:
    """S22, S31: c has promised; b may still say that it is there. When its lease is over the successor promotes
    itself, serves the read, and no five seconds have passed."""
    a = Turns("b", "c", entries={KEY: COPY})
    a.wait(180, hearing=("c",))
    asked = dict(sent(a.hears("c", m.Fetch(9, KEY, {}, 1, "b")), m.Ask))
    a.hears("c", answers(asked["c"].inquiry, m.Verdict.NOTHING))
    assert not sent(a.wait(60, hearing=("c",)), m.Fetched)
    commands = a.wait(40, hearing=("c",))
    assert a.entry.role is Role.PRIMARY
    ((to, fetched),) = sent(commands, m.Fetched)
    assert to == "c" and fetched.answer.outcome is m.FetchOutcome.FOUND
    assert a.now_ms - START_MS == 280


def test_the_primary_says_that_it_is_there_after_all() -> None:
    """S31: then nobody promotes and the request goes on to it."""
    a = Turns("b", "c", entries={KEY: COPY})
    a.wait(180, hearing=("c",))
    asked = dict(sent(a.hears("c", m.Fetch(9, KEY, {}, 1, "b")), m.Ask))
    a.hears("c", answers(asked["c"].inquiry, m.Verdict.NOTHING))
    a.hears("b", m.HeartbeatAck(a.now_ms))
    commands = a.hears("b", answers(asked["b"].inquiry, m.Verdict.PRIMARY))
    assert commands[0] == told(FactKind.PROMOTION_DROPPED, "b", "it has a primary")
    assert asked_by(commands) == [("b", "")] and a.entry.role is Role.BACKUP


# --- who is asked -----------------------------------------------------------------------------------------------------


def test_who_denied_a_session_and_is_its_primary_now_is_asked_again() -> None:
    """S31, S34: its new life, empty, was asked before the hand-over to it had arrived."""
    a = Turns("b", "c", entries={KEY: COPY})
    assert asked_by(a.asked(FETCH)) == [("b", "")]
    commands = a.hears("b", m.Fetched(1, m.FetchAnswer(m.FetchOutcome.UNKNOWN)))
    asked = {to: message for to, message in sent(commands, m.Ask)}
    commands = a.hears("c", answers(asked["c"].inquiry, m.Verdict.NOTHING))
    assert asked_by(commands) == []
    commands = a.hears("b", answers(asked["b"].inquiry, m.Verdict.PRIMARY))
    assert asked_by(commands) == [("b", "")]
    assert sent(commands, m.Ask) == [], "nobody is asked who the primary is over and over"


@pytest.mark.parametrize(
    ("silent_ms", "verdict"), [(160, m.Verdict.HEARD), (180, m.Verdict.HOLDS)], ids=["still heard", "not heard"]
)
def test_heard_is_said_only_of_who_answered_just_now(silent_ms: int, verdict: m.Verdict) -> None:
    """S22, S31: "I hear the primary" is not said of one that left two heartbeats unanswered, though it is no suspect
    yet: the asker asks it too, and that is the better proof."""
    a = Turns("b", "c", entries={KEY: COPY})
    a.wait(silent_ms, hearing=("c",))
    ((_, message),) = sent(a.hears("c", m.Ask(7, (m.Question(KEY, Promise(2, 13), {}, COPY.location),))), m.Answers)
    assert message.answers[0].verdict is verdict


def test_one_alone_that_does_not_hear_the_primary_asks_ever_more_rarely() -> None:
    """S40, S41: c hears it; a does not, for minutes: its sessions without requests cost a question now and then, not
    twenty a second each. A request asks at once all the same."""
    a = Turns("b", "c", entries={KEY: COPY})
    a.on(c.PeerLost("b", 102))
    asked = sent(a.asked(writing(2, x=b"2")), m.Ask)
    instants: list[int] = []
    for _ in range(1_000):
        if asked:
            instants.append(a.now_ms)
            a.hears("c", answers(asked[0][1].inquiry, m.Verdict.HEARD))
        asked = sent(a.wait(STEP_MS, hearing=("c",)), m.Ask)
    gaps = [after - before for before, after in pairwise(instants)]
    assert len(instants) < 15 and gaps[-1] > 2_000, gaps
    assert sent(a.asked(FETCH, 2), m.Ask), "after the last answer some time has passed"


def test_no_event_puts_off_the_look_at_what_is_under_way() -> None:
    """S31: a busy member looks at its open requests and inquiries as soon as an idle one."""
    a = Turns("b", "c", entries={KEY: COPY})
    a.wait(180, hearing=("c",))
    assert sent(a.hears("c", m.Fetch(9, KEY, {}, 1, "b")), m.Ask)
    due_ms = a.engine.inquiries.deadline_ms()
    assert due_ms == a.now_ms + TICK_MS
    for _ in range(TICK_MS - 1):
        a.now_ms += 1
        a.hears("c", m.HeartbeatAck(a.now_ms))
        assert a.engine.inquiries.deadline_ms() == due_ms
    a.now_ms += 1
    a.tick()
    assert a.engine.inquiries.deadline_ms() == a.now_ms + TICK_MS
