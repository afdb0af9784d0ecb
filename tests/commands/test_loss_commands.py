"""A member is lost: ask, promise, promote; new backups; and when nobody promotes."""

from __future__ import annotations

from msgspec.structs import replace
from tests.commands.transcript import START_MS, STEP_MS, Turns, committed, sent, told, writing
from tests.making import CHOOSERS, KEY, LIVES, after, at_reign, backup_of, moved, new_session, place, proxy, sets, whole

from understudy.model.commit import Outcome, ended
from understudy.model.entry import Entry, Promise, Role
from understudy.protocol import commands as c
from understudy.protocol import messages as m
from understudy.protocol.commands import FactKind
from understudy.protocol.places import LAST_KEY

A, B = LIVES["a"], LIVES["b"]
THEIRS = new_session(1, "b", ("a",), START_MS, x=b"1")
"""What b holds as primary; a is its backup."""
COPY = backup_of(THEIRS)
NEXT = Promise(2, CHOOSERS["a"])
SECOND = writing(2, x=b"2")
PEERS = ("c", "d")
"""Who is heard after b is gone."""


def lost(a: Turns, name: str = "b") -> list[c.Command]:
    return a.on(c.PeerLost(name, LIVES[name]))


def answers(verdict: m.Verdict, number: int, held: Entry | None = None, **holds: int) -> m.Answers:
    """One member's answer to the inquiry about KEY."""
    delta = whole(held, START_MS) if held is not None and verdict is m.Verdict.HOLDS else None
    return m.Answers(number, (m.Answer(KEY, verdict, held.location if held else None, delta),), holds)


def claimed(entry: Entry = COPY) -> tuple[Turns, dict[str, int]]:
    """b, the primary, is lost, a request has come: the question is on its way. Gives its number for each member."""
    a = Turns("b", "c", "d", entries={KEY: entry})
    lost(a)
    asked = sent(a.asked(SECOND), m.Ask)
    return a, {to: message.inquiry for to, message in asked}


# --- sweeps ---------------------------------------------------------------------------------------------------------


def test_a_loss_is_swept_after_the_delay_and_not_before() -> None:
    """S22: a restart of one agent within the delay moves nothing; then everything that names it is looked at, in
    batches."""
    a = Turns("b", "c")
    assert lost(a) == [
        c.Tell(c.Fact(FactKind.MEMBER_LOST, member="b", detail="dead")),
        c.Note("view", b"a c"),
    ]
    assert a.wait(2_980, hearing=("c",)) == []
    assert a.wait(20, hearing=("c",)) == [c.Scan(c.ScanKind.MEMBER, c.Recheck("b"), member="b")]


def test_the_loss_of_an_earlier_life_sweeps_nothing() -> None:
    """S26: b is there again under a new incarnation."""
    a = Turns("b", "c")
    a.on(c.PeerFound("b", 999))
    assert lost(a) == []


def test_a_later_loss_has_its_own_delay() -> None:
    """S22, S26: b's next life is lost before the sweep for its earlier one is due: it, too, has the time to come back,
    and is swept then."""
    a = Turns("b", "c")
    sweep = c.Scan(c.ScanKind.MEMBER, c.Recheck("b"), member="b")
    lost(a)
    a.wait(1_000, hearing=("c",))
    a.on(c.PeerFound("b", 999))
    a.wait(1_000, hearing=("c",))
    a.on(c.PeerLost("b", 999))
    assert sweep not in a.wait(2_980, hearing=("c",))
    assert a.engine.deadline_ms() <= a.now_ms + 20
    assert a.wait(20, hearing=("c",)) == [sweep]


def test_a_life_that_has_come_back_does_not_put_the_sweep_off() -> None:
    """S26, S29: its store may have been lost with the earlier one."""
    a = Turns("b", "c")
    lost(a)
    a.wait(2_900, hearing=("c",))
    a.on(c.PeerFound("b", 999))
    assert c.Scan(c.ScanKind.MEMBER, c.Recheck("b"), member="b") in a.wait(100, hearing=("c",))


def test_a_sweep_goes_on_until_the_list_is_read() -> None:
    """S36: never more than a batch of keys at a time."""
    a = Turns("b", "c")
    scan = c.Scan(c.ScanKind.MEMBER, c.Recheck("b"), member="b")
    keys = tuple(bytes([n]) * 16 for n in range(3))
    assert a.on(c.Scanned(scan, keys, True)) == [
        c.Read(keys, c.Recheck("b")),
        replace(scan, after=keys[-1]),
    ]
    assert a.on(c.Scanned(scan, keys, False)) == [c.Read(keys, c.Recheck("b"))]


def swept(a: Turns, name: str = "b") -> list[c.Command]:
    scan = c.Scan(c.ScanKind.MEMBER, c.Recheck(name), member=name)
    return a.on(c.Scanned(scan, (KEY,), False))


def test_a_swept_backup_asks_everybody_before_it_promotes() -> None:
    """S22: the question names the next reign and what is held here; nothing has changed yet."""
    a = Turns("b", "c", "d", entries={KEY: COPY})
    lost(a)
    question = m.Question(KEY, NEXT, COPY.context, COPY.location)
    assert swept(a) == [
        c.Read((KEY,), c.Recheck("b")),
        c.Read((KEY,), c.Inquire()),
        c.Send("c", m.Ask(1, (question,))),
        c.Send("d", m.Ask(2, (question,))),
    ]
    assert a.entry is COPY


def test_a_lost_holder_stays_listed_while_its_successor_lacks_something() -> None:
    """S21, S29: c was chosen in b's place when that was lost, in the middle of a change; the sweep that comes later
    does not give b up before c has everything (profile copies2, seed 3015)."""
    a = Turns("b", "c").with_session()
    a.asked(SECOND)
    lost(a)
    assert a.entry.backups == ("b", "c")
    assert c.Change(KEY, c.SetBackups(("c",))) not in swept(a)
    commands = acknowledged_by_c(a)
    assert c.Change(KEY, c.SetBackups(("c",), ("b",))) in commands and a.entry.backups == ("c",)


def test_a_proxy_whose_holders_are_gone_is_dropped_and_reported() -> None:
    """S29: primary and backup died and most members live: the session is gone, and that is said."""
    a = Turns("b", "c", "d", "e", entries={KEY: proxy("b", ("c",))})
    lost(a, "b")
    assert swept(a) == [c.Read((KEY,), c.Recheck("b"))]
    lost(a, "c")
    assert swept(a, "c") == [
        c.Read((KEY,), c.Recheck("c")),
        c.Change(KEY, c.DropLost(proxy("b", ("c",)).epoch)),
        told(FactKind.SESSION_LOST),
    ]
    assert not a.entries


def test_with_each_loss_the_proxies_of_members_lost_before_are_looked_at() -> None:
    """S29: a proxy is listed by its primary alone, and is dropped when its last holder dies, in whatever order."""
    a = Turns("b", "c", "d", "e", entries={KEY: proxy("b", ("c",))})
    looks = [c.Scan(c.ScanKind.MEMBER, c.Recheck(name), member=name) for name in ("b", "c")]
    lost(a, "b")
    commands = a.wait(4_000, hearing=("c", "d", "e"))
    assert looks[0] in commands and looks[1] not in commands
    lost(a, "c")
    assert [command for command in a.wait(4_000, hearing=("d", "e")) if command in looks] == looks[::-1]


def test_where_as_many_are_gone_as_are_left_nobody_is_given_up() -> None:
    """S31: they may be on the other side of a cut: looked at again, until ``lost_after`` is over."""
    a = Turns("b", "c", "d", entries={KEY: proxy("b", ("c",))}, lost_after_ms=10_000)
    lost(a, "b")
    lost(a, "c")
    assert swept(a, "c") == [c.Read((KEY,), c.Recheck("c"))] and a.entries
    a.wait(10_001, hearing=("d",))
    assert c.Change(KEY, c.DropLost(proxy("b", ("c",)).epoch)) in swept(a, "c")


def test_who_does_not_come_first_looks_a_second_time() -> None:
    """S29: c comes before a in the list that a knows. If b had released c and the word of that is lost with b, then c
    holds nothing, and no request need ask: a does not wait for it for ever (profile one, seed 61027)."""
    held = backup_of(new_session(1, "b", ("c", "a"), START_MS))
    second = c.Scan(c.ScanKind.MEMBER, c.Recheck("b", is_second=True), member="b")
    a = Turns("b", "c", entries={KEY: held})
    lost(a)
    assert swept(a) == [c.Read((KEY,), c.Recheck("b"))]
    delay_ms = a.settings.sweep_delay_ms
    commands = a.wait(delay_ms, hearing=("c",))
    assert commands.count(second) == 1
    assert sent(a.on(c.Scanned(second, (KEY,), False)), m.Ask)
    assert second not in a.wait(2 * delay_ms, hearing=("c",))


def test_who_has_come_back_is_not_looked_at_a_second_time() -> None:
    """S26: its new life compares what it holds."""
    a = Turns("b", "c", entries={KEY: backup_of(new_session(1, "b", ("c", "a"), START_MS))})
    lost(a)
    swept(a)
    a.on(c.PeerFound("b", 999))
    looks = [x for x in a.wait(a.settings.sweep_delay_ms, hearing=("c",)) if isinstance(x, c.Scan)]
    assert c.Scan(c.ScanKind.MEMBER, c.Recheck("b", is_second=True), member="b") not in looks


def test_the_second_look_at_a_member_that_is_lost_again_has_its_own_delay() -> None:
    """S26, S29: it was planned for the earlier life; the next one has the time to come back."""
    a = Turns("b", "c", entries={KEY: backup_of(new_session(1, "b", ("c", "a"), START_MS))})
    second = c.Scan(c.ScanKind.MEMBER, c.Recheck("b", is_second=True), member="b")
    delay_ms = a.settings.sweep_delay_ms
    lost(a)
    swept(a)
    a.on(c.PeerFound("b", 999))
    a.wait(delay_ms - 100, hearing=("c",))
    a.on(c.PeerLost("b", 999))
    assert second not in a.wait(delay_ms - 20, hearing=("c",))
    assert second in a.wait(20, hearing=("c",))


def test_a_swept_session_whose_primary_is_heard_is_left_alone() -> None:
    """S31: b, another's backup, was lost: whoever is not its primary does nothing."""
    held = backup_of(new_session(1, "c", ("a", "b"), START_MS))
    a = Turns("b", "c", entries={KEY: held})
    lost(a)
    assert swept(a) == [c.Read((KEY,), c.Recheck("b"))]


# --- claims ---------------------------------------------------------------------------------------------------------


def test_a_request_claims_at_once() -> None:
    """S22: a request for a session whose primary is gone does not wait for the sweep; it waits for the answers."""
    a = Turns("b", "c", "d", entries={KEY: COPY})
    lost(a)
    question = m.Question(KEY, NEXT, COPY.context, COPY.location)
    assert a.asked(SECOND) == [
        c.Change(KEY, c.DoCommit(1, SECOND.commit)),
        c.Read((KEY,), c.Inquire()),
        c.Send("c", m.Ask(2, (question,))),
        c.Send("d", m.Ask(3, (question,))),
    ]


def test_a_second_request_asks_no_second_question() -> None:
    """S08, S09: it waits for the same answers."""
    a, _ = claimed()
    assert a.asked(writing(3, y=b"3"), 2) == [c.Change(KEY, c.DoCommit(4, writing(3, y=b"3").commit))]


def test_the_successor_promotes_after_the_last_answer_and_commits_then() -> None:
    """S22: one answer is not enough; after both, with what they held merged in, it is primary, chooses a backup, and
    the request is committed under the new reign."""
    a, number = claimed()
    assert a.hears("c", answers(m.Verdict.NOTHING, number["c"])) == []
    assert a.entry is COPY
    ahead = backup_of(after(THEIRS, sets(9, y=b"9"), 9, "b", START_MS))
    commands = a.hears("d", answers(m.Verdict.HOLDS, number["d"], ahead))
    assert commands[:2] == [
        c.Change(KEY, c.Promote(NEXT, ("c",), (whole(ahead, START_MS),), 0)),
        told(FactKind.PROMOTED),
    ]
    assert a.entry.role is Role.PRIMARY and a.entry.epoch[:2] == NEXT
    assert [x.what for x in commands if isinstance(x, c.Change)][1:] == [c.DoCommit(1, SECOND.commit)]
    assert [(to, r.number) for to, r in sent(commands, m.Replicate)] == [("c", 101), ("c", 102)]
    assert (a.entry.shown("x"), a.entry.shown("y")) == (b"2", b"9")
    assert a.entry.attributes["x"][0].reign == 2


def test_a_lost_answer_is_asked_for_again() -> None:
    """S14: only of who has not answered."""
    a, number = claimed()
    a.hears("c", answers(m.Verdict.NOTHING, number["c"]))
    assert [to for to, _ in sent(a.wait(100, hearing=PEERS), m.Ask)] == ["d"]


def test_who_falls_silent_is_not_waited_for() -> None:
    """S22, S29: neither a member that is lost nor one that has become suspect."""
    a, number = claimed()
    a.hears("c", answers(m.Verdict.NOTHING, number["c"]))
    assert any(isinstance(x, c.Change) and isinstance(x.what, c.Promote) for x in lost(a, "d"))
    a, number = claimed()
    a.hears("c", answers(m.Verdict.NOTHING, number["c"]))
    a.wait(300, hearing=("c",))
    assert a.entry.role is Role.PRIMARY


def test_who_comes_back_meanwhile_is_asked_too() -> None:
    """S21, S40: b was the primary and is there again, with changes that a has not seen: a waits for its word, also when
    the others have fallen silent (profile links, seed 3032)."""
    a, _ = claimed()
    ((to, ask),) = sent(a.on(c.PeerFound("b", B)), m.Ask)
    assert to == "b"
    lost(a, "c")
    lost(a, "d")
    assert a.entry is COPY
    a.hears("b", answers(m.Verdict.PRIMARY, ask.inquiry, THEIRS))
    assert a.entry.role is Role.BACKUP


def test_who_was_suspect_meanwhile_is_asked_before_anybody_promotes() -> None:
    """S40: its question was lost in a cut, and nobody waited for it then; when the last answer comes it is heard again
    (profile blink, seed 3456: it held the newest change)."""
    a, inquiries = claimed()
    a.wait(340, hearing=("d",))
    assert not a.engine.members.is_alive("c")
    a.wait(60, hearing=PEERS)
    commands = a.hears("d", answers(m.Verdict.NOTHING, inquiries["d"]))
    ((to, question),) = sent(commands, m.Ask)
    assert to == "c" and a.entry is COPY
    a.hears("c", answers(m.Verdict.NOTHING, question.inquiry))
    assert a.entry.role is Role.PRIMARY


def test_who_hears_nobody_gives_suspect_members_the_time_of_a_lease() -> None:
    """S40: our link to d was cut a moment ago, and b is called lost in the same moment: d may hear it (profile links,
    seed 3562: it had just become its backup)."""
    a = Turns("b", "d", entries={KEY: COPY})
    a.wait(300)
    lost(a)
    ((_, question),) = sent(a.asked(SECOND), m.Ask)
    a.wait(240)
    assert a.entry is COPY
    a.wait(20)
    assert a.entry.role is Role.PRIMARY
    a = Turns("b", "d", entries={KEY: COPY})
    a.wait(300)
    lost(a)
    ((_, question),) = sent(a.asked(SECOND), m.Ask)
    a.wait(40)
    a.hears("d", answers(m.Verdict.HEARD, question.inquiry, COPY))
    assert a.entry is COPY


def test_who_never_got_the_hand_over_to_it_asks_above_that_reign() -> None:
    """S21: the others were told that a is primary under reign 2, and its giver is a new life (seed 4170: a asked
    for reign 2 for ever)."""
    a, number = claimed()
    handed = at_reign(THEIRS, 2, "a", ("b",))
    for name in PEERS:
        a.hears(name, answers(m.Verdict.REFUSED, number[name], handed))
    asked = sent(a.wait(200, hearing=PEERS), m.Ask)
    assert asked and asked[0][1].questions[0].promise.reign == 3


def test_an_answer_counts_once_and_only_to_its_question() -> None:
    """S15: an answer of an earlier inquiry, or the same one twice, does not stand for another member's."""
    a, number = claimed()
    assert a.hears("d", answers(m.Verdict.NOTHING, 999)) == []
    a.hears("c", answers(m.Verdict.NOTHING, number["c"]))
    assert a.hears("c", answers(m.Verdict.NOTHING, number["c"])) == []
    assert a.entry is COPY


def test_nobody_promotes_when_the_primary_is_heard() -> None:
    """S31: b is unreachable from here only: the request is relayed through c, which hears it."""
    a, number = claimed()
    a.hears("d", answers(m.Verdict.NOTHING, number["d"]))
    commands = a.hears("c", answers(m.Verdict.HEARD, number["c"], COPY))
    assert commands[0] == told(FactKind.PROMOTION_DROPPED, "c", "its primary is heard")
    assert [to for to, _ in sent(commands, m.Forward)] == ["c"]
    assert a.entry.role is Role.BACKUP


def test_nobody_promotes_when_another_has() -> None:
    """S09: c says that it is the primary now: the request goes there."""
    a, number = claimed()
    a.hears("d", answers(m.Verdict.NOTHING, number["d"]))
    now = at_reign(THEIRS, 2, "c", ("d",))
    commands = a.hears("c", answers(m.Verdict.PRIMARY, number["c"], now))
    assert commands[:2] == [
        told(FactKind.PROMOTION_DROPPED, "c", "it has a primary"),
        c.Change(KEY, c.Learn(now.location, "c")),
    ]
    assert [to for to, _ in sent(commands, m.Forward)] == ["c"]
    assert (a.entry.role, a.entry.primary) == (Role.BACKUP, "c")


def test_nobody_promotes_against_a_higher_promise() -> None:
    """S22: c has promised to somebody else: this inquiry is dropped, and tried again with a higher reign later."""
    a, number = claimed()
    a.hears("d", answers(m.Verdict.NOTHING, number["d"]))
    commands = a.hears("c", answers(m.Verdict.REFUSED, number["c"], COPY))
    assert commands[0] == told(FactKind.PROMOTION_DROPPED, "c", "a higher promise is known")
    assert not any(isinstance(x, c.Change) and isinstance(x.what, c.Promote) for x in commands)
    assert a.entry.role is Role.BACKUP
    assert {to for to, _ in sent(a.wait(200, hearing=PEERS), m.Ask)} == {"c", "d"}


def test_nobody_promotes_what_has_ended() -> None:
    """S04: one tombstone among the answers ends the copy here, and the request is told."""
    a, number = claimed()
    a.hears("d", answers(m.Verdict.NOTHING, number["d"]))
    commands = a.hears("c", answers(m.Verdict.ENDED, number["c"], ended(COPY, 1)))
    assert a.entry.ended
    assert c.Reply(1, m.CommitAnswer(Outcome.ENDED)) in commands


def test_who_promised_something_for_what_has_expired_is_told() -> None:
    """S44: word that the session has expired comes between question and answer: the promises have left notes of it,
    by which requests with its cookie would be sent in a ring."""
    session = moved(THEIRS, times=moved(THEIRS.times, idle_timeout_ms=1))
    a, number = claimed(backup_of(session))
    a.hears("d", answers(m.Verdict.NOTHING, number["d"]))
    a.hears("d", m.Forget(((KEY, session.epoch),)))
    assert not a.entries
    commands = a.hears("c", answers(m.Verdict.NOTHING, number["c"]))
    assert sent(commands, m.Forget) == [(name, m.Forget(((KEY, session.epoch),))) for name in ("d", "c")]
    assert not a.entries


def test_a_promise_given_meanwhile_stops_the_promotion() -> None:
    """S09, S22: c asked for a higher chooser while our own answers were on their way: ours is not carried out."""
    a, number = claimed()
    theirs = Promise(2, CHOOSERS["c"])
    a.hears("c", m.Ask(5, (m.Question(KEY, theirs, COPY.context, COPY.location),)))
    assert a.entry.promised == theirs
    a.hears("c", answers(m.Verdict.NOTHING, number["c"]))
    commands = a.hears("d", answers(m.Verdict.NOTHING, number["d"]))
    assert told(FactKind.PROMOTION_DROPPED, detail="a higher epoch became known here") in commands
    assert a.entry.role is Role.BACKUP


# --- the old primary's lease ----------------------------------------------------------------------------------------


def acknowledged_by_c(a: Turns) -> list[c.Command]:
    """c has everything that this member has sent."""
    return a.hears("c", m.Acknowledge(KEY, a.number, dict(a.entry.context)))


def test_the_first_acknowledgement_waits_for_our_own_promise() -> None:
    """S25: b was granted a lease a moment ago: its workers may read until then, so nobody is answered before."""
    a = Turns("b", "c", entries={KEY: COPY})
    a.hears("b", m.Heartbeat(5))
    lost(a)
    asked = sent(a.asked(SECOND), m.Ask)
    commands = a.hears("c", answers(m.Verdict.NOTHING, asked[0][1].inquiry))
    (promote,) = [x.what for x in commands if isinstance(x, c.Change) and isinstance(x.what, c.Promote)]
    assert promote.hold_ms == 257
    _answered_only_after(a, 257)


def test_the_first_acknowledgement_waits_for_the_promises_of_others() -> None:
    """S25: c has granted the old primary a lease that runs on for 180 ms."""
    a = Turns("b", "c", entries={KEY: COPY})
    lost(a)
    asked = sent(a.asked(SECOND), m.Ask)
    a.hears("c", answers(m.Verdict.NOTHING, asked[0][1].inquiry, b=180))
    _answered_only_after(a, 180)


def test_a_backup_that_has_acknowledged_is_not_slow_while_leases_run_on() -> None:
    """S21: no other backup is taken beside c for what has to wait for the old primary's leases alone."""
    a = Turns("b", "c", "d", entries={KEY: COPY})
    lost(a)
    asked = {to: message.inquiry for to, message in sent(a.asked(SECOND), m.Ask)}
    a.hears("c", answers(m.Verdict.NOTHING, asked["c"]))
    a.hears("d", answers(m.Verdict.NOTHING, asked["d"], b=200))
    acknowledged_by_c(a)
    commands = a.wait(160, hearing=PEERS)
    assert told(FactKind.BACKUP_CHOSEN, "d") not in commands and a.entry.backups == ("c",) and a.outbox


def test_leases_of_who_has_promised_do_not_count() -> None:
    """S22: c and we have granted each other leases a moment ago, but neither is primary: nobody waits for those."""
    a = Turns("b", "c", entries={KEY: COPY})
    lost(a)
    asked = sent(a.asked(SECOND), m.Ask)
    a.hears("c", m.Heartbeat(5))
    commands = a.hears("c", answers(m.Verdict.NOTHING, asked[0][1].inquiry, a=200))
    (promote,) = [x.what for x in commands if isinstance(x, c.Change) and isinstance(x.what, c.Promote)]
    assert promote.hold_ms == 0


def test_without_a_promise_the_first_acknowledgement_does_not_wait() -> None:
    """S22: nobody has granted anything that still runs."""
    a = Turns("b", "c", entries={KEY: COPY})
    lost(a)
    asked = sent(a.asked(SECOND), m.Ask)
    a.hears("c", answers(m.Verdict.NOTHING, asked[0][1].inquiry))
    a.wait(60, hearing=("c",))
    commands = acknowledged_by_c(a)
    assert [x.ticket for x in commands if isinstance(x, c.Reply)] == [1]


def test_an_answer_without_protection_waits_for_the_promise_too() -> None:
    """S25: of two members one is gone, and its workers may read on: a login that they lack would log its user out
    there (profile pair, seeds 3009 and 3096)."""
    a = Turns("b", entries={KEY: COPY})
    a.hears("b", m.Heartbeat(5))
    lost(a)
    commands = a.asked(SECOND)
    assert a.entry.role is Role.PRIMARY
    assert not [x for x in commands if isinstance(x, c.Reply)]
    _answered_only_after(a, 257, protected=False)


def _answered_only_after(a: Turns, hold_ms: int, protected: bool = True) -> None:
    promoted_ms = a.now_ms
    replies: list[c.Command] = []
    while not replies:
        commands = a.wait(STEP_MS, hearing=("c",) if protected else ())
        commands += acknowledged_by_c(a) if protected else []
        replies = [x for x in commands if isinstance(x, c.Reply)]
        assert a.now_ms < promoted_ms + 1_000, "nobody was answered at all"
    assert a.now_ms >= promoted_ms + hold_ms
    assert replies == [c.Reply(1, committed(a.entry.number, protected))]


# --- the old primary comes back -------------------------------------------------------------------------------------


def test_a_member_that_returns_is_compared_with_and_its_sessions_looked_at() -> None:
    """S26, S40: cut off for a while: either side may have promoted."""
    a = Turns("b", "c")
    lost(a)
    assert a.on(c.PeerFound("b", B)) == [
        c.Tell(c.Fact(FactKind.MEMBER_RETURNED, member="b")),
        c.Send("b", m.Heartbeat(a.now_ms, False, True)),
        c.Scan(c.ScanKind.ALL, c.CompareAll(1)),
        c.Scan(c.ScanKind.MEMBER, c.Recheck("b"), member="b"),
        c.Send("b", m.AskPlaces(b"", LAST_KEY)),
        c.Scan(c.ScanKind.OUTBOX, c.Recover()),
        c.Scan(c.ScanKind.LACKING, c.Protect()),
        c.Note("view", b"a b c"),
    ]


def test_a_backup_that_returned_is_asked_whether_it_still_has_everything() -> None:
    """S26: it is sent what is new, on the context that the list says it has; a new life asks for the whole."""
    a = Turns("b", "c").with_session()
    lost(a)
    a.on(c.PeerFound("b", 999))
    commands = swept(a)
    ((to, message),) = sent(commands, m.Replicate)
    assert to == "b" and message.delta.base == {A: 101}
    a.entries[KEY] = moved(a.entry)
    whole_again = a.on(c.Received("b", 999, m.AskWhole(KEY, 101)))
    assert sent(whole_again, m.Replicate) == [("b", m.Replicate(KEY, 101, whole(a.entry, a.now_ms)))]


def test_a_primary_that_is_asked_says_that_it_is_there() -> None:
    """S31: c cannot hear us and asks: nothing is promised, and the place is told."""
    a = Turns("b", "c").with_session()
    ask = m.Ask(7, (m.Question(KEY, Promise(2, 13), {}, place("a", ("b",))),))
    ((_, message),) = sent(a.hears("c", ask), m.Answers)
    assert message.answers == (m.Answer(KEY, m.Verdict.PRIMARY, a.entry.location),)


def test_a_place_that_became_known_meanwhile_stops_the_promotion() -> None:
    """S09, S22: c's copy of the same reign came while our own question was open: ours is not above it, and is asked
    again above it."""
    a, number = claimed()
    now = at_reign(THEIRS, 2, "c", ("a",))
    a.hears("c", m.Replicate(KEY, 5, whole(now, START_MS)))
    assert a.entry.epoch.reign == 2
    a.hears("d", answers(m.Verdict.NOTHING, number["d"]))
    a.hears("c", answers(m.Verdict.NOTHING, number["c"]))
    assert (a.entry.role, a.entry.primary) == (Role.BACKUP, "c")


def test_who_was_refused_for_a_promise_asks_above_it() -> None:
    """S22, S29: c has promised reign 7 to somebody who died before it was primary: asked below that for ever, it would
    refuse for ever."""
    a, number = claimed()
    a.hears("d", answers(m.Verdict.NOTHING, number["d"]))
    refused = m.Answer(KEY, m.Verdict.REFUSED, COPY.location, None, Promise(7, 1))
    a.hears("c", m.Answers(number["c"], (refused,)))
    asked = [message.questions[0] for _, message in sent(a.wait(200, hearing=PEERS), m.Ask)]
    assert {question.promise.reign for question in asked} == {8}


def test_who_refuses_for_a_promise_says_for_which() -> None:
    """S22: the reign alone."""
    held = moved(COPY, promised=Promise(7, 1))
    a = Turns("b", "c", "d", entries={KEY: held})
    lost(a)
    ((_, message),) = sent(a.hears("c", m.Ask(7, (m.Question(KEY, NEXT, {}, COPY.location),))), m.Answers)
    assert (message.answers[0].verdict, message.answers[0].promised) == (m.Verdict.REFUSED, Promise(7, 1))


def test_a_backup_that_returns_stands_for_no_other() -> None:
    """S21: a change was answered as unprotected, and nobody has it; when one of three backups is back and has taken
    it, the others may lack it still, and none is given up (seed 2687)."""
    a = Turns("b", "c", "d", copies=2, entries={KEY: new_session(1, "a", ("d", "b", "c"), START_MS, x=b"1")})
    for name in ("b", "c", "d"):
        a.on(c.PeerLost(name, LIVES[name]))
    a.asked(SECOND)
    a.wait(2_100)
    for name in ("b", "c"):
        a.on(c.PeerFound(name, LIVES[name]))
        a.hears(name, m.HeartbeatAck(a.now_ms))
    a.engine.replication.recheck(KEY, a.entry, "c")
    commands = a.hears("c", m.Acknowledge(KEY, a.entry.number, a.entry.context))
    assert not [x for x in commands if isinstance(x, c.Change) and isinstance(x.what, c.SetBackups)]
