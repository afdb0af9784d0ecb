"""A holder's side: what a Replicate, a Release, an announcement or a question is answered with."""

from __future__ import annotations

import pytest
from tests.commands.transcript import START_MS, Turns, sent, told
from tests.making import (
    CHOOSERS,
    KEY,
    LIVES,
    after,
    at_reign,
    backup_of,
    commit_id,
    moved,
    new_session,
    place,
    proxy,
    sets,
    whole,
)

from understudy.model.commit import ended
from understudy.model.delta import delta_since
from understudy.model.entry import NO_PROMISE, Entry, Epoch, Promise, Role
from understudy.protocol import commands as c
from understudy.protocol import messages as m
from understudy.protocol.commands import FactKind

A, B = LIVES["a"], LIVES["b"]
THEIRS = new_session(1, "b", ("a",), START_MS, x=b"1")
"""What b holds as primary; a is its backup."""
COPY = backup_of(THEIRS)
SECOND = after(THEIRS, sets(2, x=b"2"), 2, "b", START_MS)
NEXT = Promise(2, CHOOSERS["c"])


def replicate(entry: Entry, base: Entry | None = None) -> m.Replicate:
    return m.Replicate(KEY, entry.number, delta_since(entry, base.context if base else {}, START_MS))


# --- Replicate ------------------------------------------------------------------------------------------------------


def test_a_whole_entry_is_stored_and_acknowledged() -> None:
    """S12, S17: in this order: the acknowledgement tells the context that the store now has."""
    a = Turns("b", "c")
    message = replicate(THEIRS)
    assert a.hears("b", message) == [
        c.Change(KEY, c.CopyIn("b", 1, message.delta)),
        c.Send("b", m.Acknowledge(KEY, 1, {B: 1})),
    ]
    assert a.entry == COPY


def test_a_delta_without_its_base_is_answered_by_asking_for_the_whole() -> None:
    """S17, S18: nothing is stored, nothing acknowledged."""
    a = Turns("b", "c")
    message = replicate(SECOND, THEIRS)
    assert a.hears("b", message) == [
        c.Change(KEY, c.CopyIn("b", 2, message.delta)),
        c.Send("b", m.AskWhole(KEY, 2)),
    ]
    assert not a.entries


@pytest.mark.parametrize(
    "held",
    [backup_of(at_reign(THEIRS, 2, "c", ("a",))), moved(COPY, promised=NEXT), ended(COPY, 500)],
    ids=["a later reign", "a promise", "ended"],
)
def test_a_copy_that_may_not_be_taken_is_refused(held: Entry) -> None:
    """S04, S25, S28: the sender is told what is known here; the entry stays."""
    a = Turns("b", "c", entries={KEY: held})
    message = replicate(SECOND)
    assert a.hears("b", message) == [
        c.Change(KEY, c.CopyIn("b", 2, message.delta)),
        c.Send("b", m.Refuse(KEY, 2, held.location, held.promised)),
    ]
    assert a.entry is held


def test_a_repeated_replicate_is_acknowledged_again() -> None:
    """S15: the first acknowledgement may have been lost."""
    a = Turns("b", "c", entries={KEY: COPY})
    first, again = a.hears("b", replicate(SECOND, THEIRS)), a.hears("b", replicate(SECOND, THEIRS))
    assert first == again and sent(first, m.Acknowledge) == [("b", m.Acknowledge(KEY, 2, {B: 2}))]


def test_a_late_replicate_takes_nothing_back_and_claims_no_more() -> None:
    """S15: an older change that comes last: the copy stays; what is acknowledged is that change, on the context we
    have."""
    a = Turns("b", "c", entries={KEY: backup_of(SECOND)})
    assert a.hears("b", replicate(THEIRS))[-1] == c.Send("b", m.Acknowledge(KEY, 1, {B: 2}))
    assert a.entry.attributes == SECOND.attributes


def test_a_primary_that_is_sent_a_higher_reign_compares_before_it_steps_down() -> None:
    """S25: no acknowledgement and no refusal: it asks the new primary for its whole entry, and is still unchanged."""
    mine = new_session(1, "a", ("b",), START_MS, x=b"mine")
    a = Turns("b", "c", entries={KEY: mine})
    commands = a.hears("b", replicate(at_reign(THEIRS, 2, "b", ("a",))))
    assert commands[1:] == [
        c.Read((KEY,), c.CompareOne(("b", "b"))),
        c.Send("b", m.Compare(1, (m.Item(KEY, mine.epoch, {}),))),
    ]
    assert a.entry is mine


def test_a_hand_over_is_acknowledged_and_announced() -> None:
    """S34: a primary that leaves names us: we say so to it at once and to the rest soon."""
    a = Turns("b", "c", entries={KEY: COPY})
    given = at_reign(SECOND, 2, "a", ("b",))
    commands = a.hears("b", replicate(given, THEIRS))
    assert commands[1:] == [c.Send("b", m.Acknowledge(KEY, 2, {B: 2}))]
    assert a.entry.role is Role.PRIMARY
    assert a.wait(20) == [c.Send("c", m.Announce(((KEY, given.location),)))]


def test_messages_of_an_earlier_life_are_nothing_to_us() -> None:
    """S26: b was started again: a Replicate of its old life that comes late is not even looked at."""
    a = Turns("b", "c")
    a.on(c.PeerFound("b", 999))
    assert a.on(c.Received("b", LIVES["b"], replicate(THEIRS))) == []
    assert not a.entries


# --- Release, announcements, forgetting -----------------------------------------------------------------------------


def test_a_released_backup_forgets_the_data_and_keeps_the_place() -> None:
    """S21, S28: and can never promote old data."""
    a = Turns("b", "c", entries={KEY: COPY})
    release = m.Release(KEY, place("b", ("c",), list_number=2))
    assert a.hears("b", release) == [
        c.Change(KEY, c.Learn(release.location, "b")),
        c.Change(KEY, c.ReleaseCopy(release.location.epoch)),
    ]
    assert a.entry == proxy("b", ("c",), release.location.epoch)


def test_a_release_that_names_us_still_releases_nothing() -> None:
    """S15, S21: an older Release that comes after we were chosen again."""
    listed = moved(COPY, epoch=Epoch(1, CHOOSERS["b"], 3))
    a = Turns("b", "c", entries={KEY: listed})
    a.hears("b", m.Release(KEY, place("b", ("c",), list_number=2)))
    assert a.entry is listed


def test_a_lost_release_is_asked_for() -> None:
    """S28: a copy that its primary does not list is compared with the primary's after a while."""
    a = Turns("b", "c", entries={KEY: COPY})
    a.hears("b", m.Announce(((KEY, place("b", ("c",), list_number=2)),)))
    assert a.entry.role is Role.BACKUP
    compared = sent(a.wait(4_000, hearing=("b", "c")), m.Compare)
    assert compared and {to for to, _ in compared} == {"b"}


def test_an_announcement_makes_proxies_and_is_answered_by_nobody() -> None:
    """S32: many places in one message; no answer."""
    a = Turns("b", "c")
    places = tuple((bytes([n]) * 16, place("b", ("c",))) for n in range(3))
    assert a.hears("b", m.Announce(places)) == [c.Change(key, c.Learn(where, "b")) for key, where in places]
    assert a.entries == {key: proxy("b", ("c",)) for key, _ in places}


def test_an_expired_session_is_forgotten_unless_it_was_used() -> None:
    """S45: the primary says so; a copy that has seen later use is kept, and promoted like any that lost its primary."""
    a = Turns("b", "c", entries={KEY: COPY})
    forget = m.Forget(((KEY, THEIRS.epoch),))
    commands = a.hears("b", forget)
    assert commands[:2] == [c.Change(KEY, c.ForgetCopy(THEIRS.epoch)), c.Read((KEY,), c.Inquire())]
    assert a.entry is COPY and [to for to, _ in sent(commands, m.Ask)] == ["b", "c"]
    a.now_ms += 60
    a.entries[KEY] = moved(COPY, times=moved(COPY.times, accessed_ms=a.now_ms - 60_000))
    a.hears("b", forget)
    assert not a.entries


def test_access_times_go_to_the_primary_in_batches_and_to_nobody_else() -> None:
    """S07: a worker's touch of another member's session is sent on later, as an age; a peer's is only noted."""
    a = Turns("b", "c", entries={KEY: COPY})
    a.now_ms += 100
    assert a.asked(m.TouchRequest(KEY, 10)) == [c.Change(KEY, c.Touch(10, forward=True))]
    assert a.entry.times.accessed_ms == a.now_ms - 10
    ((to, message),) = sent(a.wait(1_000, hearing=("b", "c")), m.Accessed)
    assert to == "b" and message.ages[0][0] == KEY
    assert a.hears("b", m.Accessed(((KEY, 0),))) == [c.Change(KEY, c.Touch(0))]
    assert not sent(a.wait(1_000, hearing=("b", "c")), m.Accessed)


SOON_OVER = moved(THEIRS.times, idle_timeout_ms=1_900)


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(moved(COPY, times=SOON_OVER), id="a backup"),
        pytest.param(moved(new_session(1, "a", ("b",), START_MS), times=SOON_OVER), id="the primary"),
        pytest.param(proxy("b", ("c",)), id="a proxy, which does not know when the end is"),
    ],
)
def test_a_use_shortly_before_the_end_is_told_at_once(entry: Entry) -> None:
    """S44, S45: the session would have expired before the next batch told that it was used."""
    a = Turns("b", "c", entries={KEY: entry})
    a.now_ms += 100
    ((to, message),) = sent(a.asked(m.TouchRequest(KEY, 10)), m.Accessed)
    assert to == "b" and message.ages == ((KEY, 10),)
    assert not sent(a.wait(1_000, hearing=("b", "c")), m.Accessed)


def test_a_use_where_nothing_is_known_of_the_session_is_told_to_the_primary_that_the_worker_knows() -> None:
    """S44, S45: where places are computed, who holds no copy keeps no note; reads there count all the same."""
    a = Turns("b", "c", placement="rendezvous")
    ((to, message),) = sent(a.asked(m.TouchRequest(KEY, 10, "b")), m.Accessed)
    assert to == "b" and message.ages == ((KEY, 10),)
    assert not sent(a.asked(m.TouchRequest(KEY, 10)), m.Accessed) and not a.entries


def test_what_lay_before_a_member_that_stood_still_is_no_news_of_use() -> None:
    """S07, S25: told ages grow by the time on the way, which the sender's clock tells once a heartbeat has come; so a
    copy that was sent before a long pause is no younger than the session that the others have expired meanwhile."""
    a = Turns("b", "c")
    told_ms = 5_000  # the sender's clock has nothing in common with ours
    a.hears("b", m.Heartbeat(told_ms))
    used_ms = a.now_ms - 200
    copy = moved(THEIRS, times=moved(THEIRS.times, created_ms=told_ms - 900, accessed_ms=told_ms - 200))
    message = m.Replicate(KEY, 1, delta_since(copy, {}, told_ms))
    a.now_ms += 6_000
    a.hears("b", message)
    assert (a.entry.times.accessed_ms, a.entry.times.created_ms) == (used_ms, used_ms - 700)
    a.hears("b", m.Accessed(((KEY, 30),), told_ms))
    assert a.entry.times.accessed_ms == used_ms + 170


# --- Ask, Compare, Locate -------------------------------------------------------------------------------------------


def ask(promise: Promise = NEXT, context: dict[int, int] | None = None) -> m.Ask:
    return m.Ask(7, (m.Question(KEY, promise, context or {}, THEIRS.location),))


def answer(commands: list[c.Command]) -> m.Answer:
    ((to, message),) = sent(commands, m.Answers)
    assert to == "c" and message.inquiry == 7
    (one,) = message.answers
    return one


def test_who_hears_the_primary_says_so_and_promises_nothing() -> None:
    """S31: nobody promotes then."""
    a = Turns("b", "c", entries={KEY: COPY})
    assert answer(a.hears("c", ask())) == m.Answer(KEY, m.Verdict.HEARD, COPY.location)
    assert a.entry.promised == NO_PROMISE


def test_a_holder_promises_and_tells_what_the_asker_lacks() -> None:
    """S22: the primary is gone: the promise is stored before the answer leaves, with the values beyond the asker's."""
    a = Turns("b", "c", entries={KEY: backup_of(SECOND)})
    a.on(c.PeerLost("b", B))
    commands = a.hears("c", ask(context=THEIRS.context))
    assert answer(commands) == m.Answer(
        KEY, m.Verdict.HOLDS, SECOND.location, delta_since(a.entry, THEIRS.context, a.now_ms)
    )
    assert told(FactKind.PROMISED, "c") in commands and a.entry.promised == NEXT


@pytest.mark.parametrize(
    ("held", "verdict"),
    [
        (None, m.Verdict.NOTHING),
        (COPY, m.Verdict.NOTHING),
        (moved(COPY, promised=Promise(5, 1)), m.Verdict.REFUSED),
        (backup_of(at_reign(THEIRS, 4, "d", ("a",))), m.Verdict.REFUSED),
        (at_reign(THEIRS, 4, "a", ("c",)), m.Verdict.PRIMARY),
        (ended(COPY, 500), m.Verdict.ENDED),
    ],
    ids=["nothing here", "no more than the asker", "a higher promise", "a later reign", "primary", "ended"],
)
def test_each_answer_to_a_question(held: Entry | None, verdict: m.Verdict) -> None:
    """S04, S22, S28: with the primary lost, an answer says exactly what is so here, and gives no data that the asker
    has."""
    a = Turns("b", "c", entries={KEY: held} if held else None)
    a.on(c.PeerLost("b", B))
    given = answer(a.hears("c", ask(context=THEIRS.context)))
    assert (given.verdict, given.delta) == (verdict, None)


@pytest.mark.parametrize("held", [COPY, proxy("b", ("d",)), None], ids=["a copy", "a place", "nothing"])
def test_a_promise_that_the_store_has_no_room_for_is_kept(held: Entry | None) -> None:
    """S31: the asker counts on it, so no copy of a lower reign is acknowledged, also when there is room again; the old
    primary is told what was promised, and so is who asks for less."""
    a = Turns("b", "c", entries={KEY: held} if held else None)
    a.on(c.PeerLost("b", B))
    a.is_full = True
    assert answer(a.hears("c", ask(context=THEIRS.context))).verdict is m.Verdict.NOTHING
    a.is_full = False
    a.on(c.PeerFound("b", B))
    commands = a.hears("b", m.Replicate(KEY, 2, delta_since(SECOND, {}, START_MS)))
    ((to, refusal),) = sent(commands, m.Refuse)
    assert (to, refusal.promised) == ("b", NEXT) and not sent(commands, m.Acknowledge)
    refused = answer(a.hears("c", ask(promise=Promise(2, NEXT.chooser - 1))))
    assert (refused.verdict, refused.promised) == (m.Verdict.REFUSED, NEXT)


def test_the_copy_of_who_was_promised_is_taken_also_where_the_store_had_no_room() -> None:
    """S31: what the promise was for."""
    a = Turns("b", "c", entries={KEY: COPY})
    a.on(c.PeerLost("b", B))
    a.is_full = True
    a.hears("c", ask())
    a.is_full = False
    theirs = moved(at_reign(SECOND, 2, "c", ("a",)), epoch=Epoch(2, NEXT.chooser, 1))
    assert sent(a.hears("c", replicate(theirs)), m.Acknowledge)


def test_a_promise_tells_how_long_the_old_primarys_lease_runs() -> None:
    """S25: the answerer has granted it a lease a moment ago: the successor must hold its first acknowledgement so
    long."""
    a = Turns("b", "c", entries={KEY: COPY})
    a.hears("b", m.Heartbeat(5))
    a.now_ms += 50
    a.on(c.PeerLost("b", B))
    ((_, answers),) = sent(a.hears("c", ask()), m.Answers)
    assert answers.holds == {"b": 207}


@pytest.mark.parametrize(("asks", "hold_ms", "fence"), [("d", 207, 1), ("c", None, 0)])
def test_who_was_promised_an_earlier_reign_may_be_primary_by_now(asks: str, hold_ms: int | None, fence: int) -> None:
    """S25: c may serve in place under our lease, and we have not heard of it. The next asker waits for that, and c gets
    no other lease before it has compared; unless it is c that asks again."""
    a = Turns("b", "c", "d", entries={KEY: COPY})
    a.on(c.PeerLost("b", B))
    a.hears("c", m.Heartbeat(5))
    a.hears("c", ask())
    a.now_ms += 50
    ((_, answers),) = sent(a.hears(asks, ask(Promise(3, CHOOSERS[asks]))), m.Answers)
    ((_, acknowledged),) = sent(a.hears("c", m.Heartbeat(9)), m.HeartbeatAck)
    assert (answers.holds.get("c"), acknowledged.fence) == (hold_ms, fence)


def test_one_message_answers_all_questions_of_one() -> None:
    """S36: one batched question per lost member, one batched answer."""
    a = Turns("b", "c")
    a.on(c.PeerLost("b", B))
    keys = [bytes([n]) * 16 for n in range(5)]
    commands = a.hears("c", m.Ask(7, tuple(m.Question(k, NEXT, {}, THEIRS.location) for k in keys)))
    ((_, message),) = sent(commands, m.Answers)
    assert [one.key for one in message.answers] == keys


@pytest.mark.parametrize(
    ("held", "verdict"),
    [
        (None, m.Verdict.UNKNOWN),
        (COPY, m.Verdict.NOTHING),
        (backup_of(SECOND), m.Verdict.HOLDS),
        (backup_of(at_reign(THEIRS, 2, "c", ("a",))), m.Verdict.HOLDS),
        (proxy("c", ("d",), Epoch(2, 1, 1)), m.Verdict.REFUSED),
        (proxy("b", ("c",)), m.Verdict.UNKNOWN),
        (ended(COPY, 500), m.Verdict.ENDED),
    ],
    ids=["nothing here", "the same", "newer data", "a later reign", "a later place", "a proxy", "ended"],
)
def test_each_answer_to_a_comparison(held: Entry | None, verdict: m.Verdict) -> None:
    """S26, S27, S35: who is ahead in epoch or data gives the whole entry; a place alone gives no data."""
    a = Turns("b", "c", entries={KEY: held} if held else None)
    commands = a.hears("b", m.Compare(9, (m.Item(KEY, THEIRS.epoch, THEIRS.context),)))
    ((to, message),) = sent(commands, m.Compared)
    (given,) = message.answers
    assert to == "b" and given.verdict is verdict
    assert given.delta == (whole(held, a.now_ms) if held and verdict is m.Verdict.HOLDS else None)


def test_a_deposed_primary_gives_nothing_of_its_own_before_it_has_stepped_down() -> None:
    """S03, S16: what it did for nobody is repeated where the primary is now: given away as well, a counter would have
    two increments from the same number. It asks who knows the later reign, and passes on what is left afterwards."""
    mine = after(new_session(1, "a", ("b",), START_MS, x=b"1"), sets(2, x=b"mine"), 2, "a", START_MS)
    a = Turns("b", "c", entries={KEY: mine})
    commands = a.hears("c", m.Compare(9, (m.Item(KEY, Epoch(2, 1, 1), {LIVES["a"]: 1}),)))
    assert sent(commands, m.Compare) == [("c", m.Compare(1, (m.Item(KEY, mine.epoch, mine.context),)))]
    assert sent(commands, m.Compared) == [("c", m.Compared(9, (m.Answer(KEY, m.Verdict.NOTHING),)))]
    assert a.entry is mine


def test_a_deposed_primary_promises_and_gives_nothing_of_its_own_either() -> None:
    """S03, S16: the same where the asker wants to follow a successor that is lost already: it steps down first, and its
    worker's repeat is not taken for done where another increment has been made from the same number."""
    mine = after(new_session(1, "a", ("b",), START_MS, x=b"1"), sets(2, x=b"mine"), 2, "a", START_MS)
    a = Turns("b", "c", entries={KEY: mine})
    a.outbox.add(2)
    theirs = backup_of(after(at_reign(mine, 2, "b", ("c",)), sets(3, x=b"theirs"), 9, "b", START_MS))
    theirs = moved(theirs, context={A: 1, B: 9}, recent=(commit_id(1), commit_id(3)))
    commands = a.hears("c", m.Ask(7, (m.Question(KEY, Promise(3, 1), theirs.context, theirs.location),)))
    assert answer(commands) == m.Answer(KEY, m.Verdict.NOTHING, mine.location)
    assert a.entry.promised == Promise(3, 1)
    ((to, question),) = sent(commands, m.Compare)
    known = m.Answer(KEY, m.Verdict.HOLDS, theirs.location, whole(theirs, a.now_ms))
    a.hears(to, m.Compared(question.comparison, (known,)))
    assert a.entry.role is Role.BACKUP and a.entry.attributes == theirs.attributes


def test_a_contribution_is_merged_sent_on_and_then_acknowledged() -> None:
    """S12, S25: what a deposed primary still held reaches our backup, too; only then the giver may forget it."""
    mine = moved(at_reign(THEIRS, 2, "a", ("c",)), number=1)
    a = Turns("b", "c", entries={KEY: mine})
    contribution = m.Contribute(KEY, 5, delta_since(SECOND, THEIRS.context, START_MS))
    commands = a.hears("b", contribution)
    assert [to for to, _ in sent(commands, m.Replicate)] == ["c"] and not sent(commands, m.Acknowledge)
    assert a.entry.shown("x") == b"2" and a.entry.role is Role.PRIMARY
    assert not sent(a.hears("b", contribution), m.Acknowledge)
    a.hears("c", m.Acknowledge(KEY, a.number, a.entry.context))
    assert a.hears("b", contribution)[-1] == c.Send("b", m.Acknowledge(KEY, -5, {B: 2}))


def test_who_stepped_down_is_told_that_it_is_not_needed_when_its_copy_is_the_second_no_more() -> None:
    """S12: it lacks nothing and brings nothing; but while nobody else has acknowledged our promotion, its copy is the
    only other one of what it had answered as protected."""
    a = Turns("b", "c", entries={KEY: COPY})
    a.on(c.PeerLost("b", LIVES["b"]))
    ((_, asked),) = sent(a.asked(m.FetchRequest(0, KEY), 2), m.Ask)
    a.hears("c", m.Answers(asked.inquiry, (m.Answer(KEY, m.Verdict.NOTHING),)))
    assert a.entry.role is Role.PRIMARY and a.entry.backups == ("c",)
    a.on(c.PeerFound("b", LIVES["b"]))
    bare = m.Contribute(KEY, 5, delta_since(COPY, COPY.context, START_MS))
    assert not sent(a.hears("b", bare), m.Acknowledge)
    a.hears("c", m.Acknowledge(KEY, a.entry.number, a.entry.context))
    a.wait(1_000, hearing=("b", "c"))  # the lease that was granted to b is over
    assert a.hears("b", bare)[-1] == c.Send("b", m.Acknowledge(KEY, -5, COPY.context))


def test_a_question_to_all_is_answered_with_the_place_and_the_view() -> None:
    """S31: who knows nothing says so, with the members that it sees."""
    a = Turns("b", "c", entries={KEY: COPY})
    for key, location in ((KEY, COPY.location), (bytes(16), None)):
        assert a.hears("c", m.Locate(3, key)) == [
            c.Read((key,), c.Answer("c", 3)),
            c.Send("c", m.Located(3, key, location, ("a", "b", "c"), empty=True)),
        ]
