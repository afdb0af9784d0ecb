"""A member's own life: starting with an old store, peers that join, standing still, leaving."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from tests.commands.transcript import START_MS, TOLD_ALL, Turns, committed, creation, sent, told, writing
from tests.making import CHOOSERS, KEY, LIVES, after, at_reign, backup_of, moved, new_session, place, sets, whole

from understudy.model.commit import Outcome
from understudy.model.entry import Epoch, Role
from understudy.protocol import commands as c
from understudy.protocol import messages as m
from understudy.protocol.commands import FactKind
from understudy.protocol.places import LAST_KEY

A = LIVES["a"]
MINE = moved(new_session(1, "a", ("b",), START_MS, x=b"1"), number=0)
"""What a, restarted, finds in its store: everything in it was acknowledged."""
OTHER = b"z" * 16
FETCH = m.FetchRequest(0, KEY)
STARTED = c.Scan(c.ScanKind.ALL, c.CompareAll(1))


def event(kind: FactKind, member: str = "", detail: str = "") -> c.Tell:
    return c.Tell(c.Fact(kind, member=member, detail=detail))


def replies(commands: list[c.Command]) -> list[c.Command]:
    return [command for command in commands if isinstance(command, c.Reply)]


def restarted() -> Turns:
    """a is back with its old store; it last saw b and c."""
    return Turns(entries={KEY: MINE}, joined=False, last_view=("a", "b", "c"))


def found(a: Turns, name: str) -> list[c.Command]:
    """A member is found and has answered a heartbeat that was sent after our start."""
    commands = a.on(c.PeerFound(name, LIVES[name]))
    return commands + a.hears(name, m.HeartbeatAck(a.now_ms))


def compared(a: Turns) -> None:
    """Both others are found, and know of nothing beyond what this member holds."""
    for name in ("b", "c"):
        found(a, name)
    a.on(c.Scanned(STARTED, (KEY,), False))
    for name in ("b", "c"):
        a.hears(name, m.Compared(1, (m.Answer(KEY, m.Verdict.NOTHING),)))


# --- starting -------------------------------------------------------------------------------------------------------


def test_a_restarted_member_compares_before_it_serves() -> None:
    """S27, S35: it waits for all that it last saw, then tells them what it holds; only when they know no better are
    its leases published and it is ready."""
    a = restarted()
    assert STARTED not in found(a, "b")
    assert STARTED in found(a, "c")
    commands = a.on(c.Scanned(STARTED, (KEY,), False))
    item = m.Item(KEY, MINE.epoch, MINE.context)
    assert sent(commands, m.Compare) == [("b", m.Compare(1, (item,))), ("c", m.Compare(1, (item,)))]
    a.hears("b", TOLD_ALL)
    a.hears("c", TOLD_ALL)
    assert a.hears("b", m.Compared(1, (m.Answer(KEY, m.Verdict.NOTHING),))) == []
    assert not a.engine.ready
    assert a.hears("c", m.Compared(1, (m.Answer(KEY, m.Verdict.UNKNOWN),))) == [
        event(FactKind.COMPARED),
        c.Publish("b", START_MS + 250),
        c.Publish("c", START_MS + 250),
    ]
    assert event(FactKind.READY) in a.tick() and a.engine.ready


def test_a_request_before_the_comparison_is_not_served_from_the_old_store() -> None:
    """S27: neither shown nor written; it waits, and so do other members' fetches and forwards."""
    a = restarted()
    for ticket, request in ((1, FETCH), (2, writing(2, x=b"2"))):
        commands = a.asked(request, ticket)
        assert not [x for x in commands if isinstance(x, c.Reply | c.Change)]
    found(a, "b")
    assert a.hears("b", m.Fetch(9, KEY, {}, 1)) == []
    assert a.hears("b", m.Forward(9, KEY, writing(3).commit, m.AcknowledgeMode.BACKUP, False, 1, 0)) == []
    assert a.entry is MINE


def test_one_question_about_a_session_is_open_at_a_time() -> None:
    """S27: also when a batch that had the same session in it is done meanwhile: many requests cost no more messages
    than one (profile delta, seed 17)."""
    a = Turns("b", "c", entries={KEY: MINE})
    commands = a.hears("b", m.HeartbeatAck(a.now_ms, fence=1))
    (scan,) = [x for x in commands if isinstance(x, c.Scan)]
    ((_, batch), _) = sent(a.on(c.Scanned(scan, (KEY,), False)), m.Compare)
    a.now_ms += 5
    ((_, single), _) = sent(a.asked(FETCH), m.Compare)
    nothing = m.Answer(KEY, m.Verdict.NOTHING)
    a.hears("b", m.Compared(batch.comparison, (nothing,)))
    assert not sent(a.hears("c", m.Compared(batch.comparison, (nothing,))), m.Compare)
    a.hears("b", m.Compared(single.comparison, (nothing,)))
    commands = a.hears("c", m.Compared(single.comparison, (nothing,)))
    assert replies(commands) == [c.Reply(1, m.FetchAnswer(m.FetchOutcome.HERE, "a"))]


def test_a_restarted_primary_that_was_replaced_steps_down() -> None:
    """S12, S27: b has promoted meanwhile and knows more: its whole entry is taken, ours never wins; and our copy of it
    is kept until b says that enough others have one."""
    a = restarted()
    found(a, "b")
    found(a, "c")
    a.on(c.Scanned(STARTED, (KEY,), False))
    theirs = after(at_reign(MINE, 2, "b", ("c",)), sets(9, x=b"9"), 9, "b", START_MS)
    holds = m.Answer(KEY, m.Verdict.HOLDS, theirs.location, whole(theirs, START_MS))
    a.hears("b", m.Compared(1, (holds,)))
    commands = a.hears("c", m.Compared(1, (m.Answer(KEY, m.Verdict.UNKNOWN),)))
    assert told(FactKind.STEPPED_DOWN, "b") in commands
    assert a.entry == backup_of(theirs)
    ((to, message),) = sent(commands, m.Contribute)
    assert to == "b" and not message.delta.values and event(FactKind.CONTRIBUTED) not in commands
    assert [to for to, _ in sent(a.wait(100, hearing=("b", "c")), m.Contribute)] == ["b"]
    a.hears("b", m.Acknowledge(KEY, -message.number, theirs.context))
    assert (a.entry.role, a.entry.location) == (Role.PROXY, theirs.location)
    assert not sent(a.wait(300, hearing=("b", "c")), m.Contribute)


def test_what_only_the_restarted_member_has_goes_to_the_successor() -> None:
    """S25, S35: a commit of ours that b never saw, and that was answered: b is given it and we keep it until it says
    so."""
    a = restarted()
    a.entries[KEY] = moved(after(MINE, sets(2, y=b"2"), 2, "a", START_MS), number=0)
    found(a, "b")
    found(a, "c")
    a.on(c.Scanned(STARTED, (KEY,), False))
    theirs = after(at_reign(MINE, 2, "b", ("c",)), sets(9, x=b"9"), 9, "b", START_MS)
    holds = m.Answer(KEY, m.Verdict.HOLDS, theirs.location, whole(theirs, START_MS))
    a.hears("b", m.Compared(1, (holds,)))
    commands = a.hears("c", m.Compared(1, ()))
    ((to, message),) = sent(commands, m.Contribute)
    assert to == "b" and set(message.delta.values) == {"y"}
    assert a.entry.role is Role.BACKUP
    a.hears("b", m.Acknowledge(KEY, -message.number, {**theirs.context, A: 2}))
    assert a.entry.role is Role.PROXY


def test_a_member_without_old_peers_waits_its_time_and_serves_what_it_has() -> None:
    """S35: after a stop of everything: for cold_start_ms the others may come; then the sessions are back."""
    a = restarted()
    assert STARTED not in a.wait(2_980)
    commands = a.wait(40)
    assert STARTED in commands and not a.engine.ready
    assert event(FactKind.READY) in a.on(c.Scanned(STARTED, (KEY,), False))
    assert a.asked(writing(2, x=b"2"))[0] == c.Change(KEY, c.DoCommit(1, writing(2, x=b"2").commit))


def test_what_nobody_can_be_asked_about_is_not_read() -> None:
    """S35: of a million sessions, for nobody. The round goes on by pages all the same, and whoever comes meanwhile is
    asked about those that follow."""
    a = restarted()
    a.wait(3_020)
    second = c.Scan(c.ScanKind.ALL, c.CompareAll(1), after=KEY)
    assert a.on(c.Scanned(STARTED, (KEY,), True)) == [second]
    a.on(c.PeerFound("b", LIVES["b"]))
    a.entries[OTHER] = MINE
    commands = a.on(c.Scanned(second, (OTHER,), False))
    assert c.Read((OTHER,), c.CompareAll(1)) in commands
    ((to, message),) = sent(commands, m.Compare)
    assert (to, [item.key for item in message.items]) == ("b", [OTHER]) and not a.engine.ready


def test_an_outbox_of_an_earlier_life_is_sent() -> None:
    """S16, S23: a change that nobody acknowledged goes to the backup; its row stays until it has been."""
    a = Turns("b", "c", entries={KEY: moved(MINE, number=1)})
    scan = c.Scan(c.ScanKind.OUTBOX, c.Recover())
    commands = a.on(c.Scanned(scan, (KEY,), False, (1,), (False,)))
    assert commands[0] == c.Read((KEY,), c.Recovered(1, False))
    assert sent(commands, m.Replicate) == [("b", m.Replicate(KEY, 1, whole(a.entry, a.now_ms)))]
    assert c.Settle((1,)) not in commands
    assert a.hears("b", m.Acknowledge(KEY, 1, {A: 1})) == [c.Settle((1,))]


def test_a_row_of_a_session_that_is_gone_is_settled() -> None:
    """S23: nothing is left to send."""
    a = Turns("b")
    scan = c.Scan(c.ScanKind.OUTBOX, c.Recover())
    assert a.on(c.Scanned(scan, (KEY,), False, (1,), (True,)))[-1] == c.Settle((1,))


@pytest.mark.parametrize("is_read", [False, True], ids=["before the outbox was read", "afterwards"])
def test_what_an_earlier_life_left_under_way_is_not_called_protected(is_read: bool) -> None:
    """S12, S23: a change may be here alone that the outbox still tells of: until that has been read, who fetches the
    session waits until its backup has it (profile copies2, seed 3007)."""
    a = Turns(entries={KEY: moved(MINE, number=1)}, joined=False, last_view=("a", "b", "c"))
    compared(a)
    if is_read:
        a.on(c.Scanned(c.Scan(c.ScanKind.OUTBOX, c.Recover()), (), False))
    commands = a.hears("c", m.Fetch(9, KEY, {}, 1))
    assert len(sent(commands, m.Fetched)) == is_read
    if not is_read:
        assert sent(commands, m.Replicate) == [("b", m.Replicate(KEY, 1, whole(a.entry, a.now_ms)))]
        commands = a.hears("b", m.Acknowledge(KEY, 1, {A: 1}))
    ((_, fetched),) = sent(commands, m.Fetched)
    assert not fetched.answer.unprotected


def test_before_the_outbox_was_read_the_newest_change_stands_for_all() -> None:
    """S12, S23: of an earlier life's two changes only the later one is under way again as yet, because the worker that
    made it asked again; who has seen the earlier one waits for it too (seed 911)."""
    mine = moved(after(MINE, sets(2, y=b"2"), 2, "a", START_MS), number=3)
    a = Turns(entries={KEY: mine}, joined=False, last_view=("a", "b", "c"))
    compared(a)
    a.engine.replication.track(KEY, mine, None)
    assert not replies(a.asked(m.SettleRequest(0, KEY, 2)))
    assert len(replies(a.hears("b", m.Acknowledge(KEY, 3, mine.context)))) == 1


def test_what_an_earlier_life_left_unanswered_is_not_forgotten_for_a_later_change() -> None:
    """S03, S23: before the outbox has been read a session changes once more. That nobody was answered for the change
    before is remembered all the same, until the backup has both (seed 3503)."""
    a = Turns(entries={KEY: moved(MINE, number=1)}, joined=False, last_view=("a", "b", "c"))
    compared(a)
    commands = a.asked(writing(2, x=b"2"))
    number = a.entry.number
    commands += a.on(c.Scanned(c.Scan(c.ScanKind.OUTBOX, c.Recover()), (KEY,), False, (1,), (False,)))
    assert number > 1 and c.Settle((1,)) not in commands
    assert c.Settle((1, number)) in a.hears("b", m.Acknowledge(KEY, number, a.entry.context))


@pytest.mark.parametrize("reign", [1, 2], ids=["its own from the start", "perhaps taken over just before"])
def test_a_new_life_waits_for_the_leases_that_its_promotion_had_waited_for(reign: int) -> None:
    """S25, S23: an agent that was promoted and killed at once: the workers of the primary before may still read in
    place, so its next life acknowledges nothing until every lease that the one before can have granted is over."""
    entry = MINE if reign == 1 else moved(at_reign(MINE, reign, "a", ("b",)), number=0)
    a = Turns(entries={KEY: entry}, joined=False, last_view=("a", "b", "c"))
    promise_ms, began_ms = a.engine.members.promise_ms, a.now_ms
    compared(a)
    commands = a.asked(writing(2, x=b"2"))
    number = a.entry.number
    commands += a.hears("b", m.Acknowledge(KEY, number, a.entry.context))
    if reign > 1:
        assert not replies(commands)
        assert not replies(a.wait(began_ms + promise_ms - 1 - a.now_ms, hearing=("b", "c")))
        commands = a.wait(2, hearing=("b", "c"))
    assert replies(commands) == [c.Reply(1, committed(number))]


# --- peers that join ------------------------------------------------------------------------------------------------


def test_a_joining_member_is_told_of_every_session() -> None:
    """S32, S36: page by page, as it asks; the teller remembers nothing of it."""
    a = Turns("b", "c", "d").with_session(acknowledged_by="d")
    purpose = c.TellPlaces("c", b"", LAST_KEY, differs=False)
    scan = c.Scan(c.ScanKind.MEMBER, purpose, member="a")
    assert a.hears("c", m.AskPlaces(b"", LAST_KEY)) == [scan]
    assert a.on(c.Scanned(scan, (KEY,), True)) == [
        c.Read((KEY,), purpose),
        c.Send("c", m.Places(b"", KEY, ((KEY, a.entry.location),))),
    ]
    rest = replace(purpose, after=KEY)
    scan = c.Scan(c.ScanKind.MEMBER, rest, member="a", after=KEY)
    assert a.hears("c", m.AskPlaces(KEY, LAST_KEY)) == [scan]
    assert a.on(c.Scanned(scan, (), False)) == [c.Read((), rest), c.Send("c", m.Places(KEY, LAST_KEY, ()))]


def test_who_joins_asks_for_all_places_page_by_page() -> None:
    """S32, S33: the next page when this one is stored, again from there when no answer comes; a page that comes twice
    or from an earlier question asks for nothing."""
    a = Turns("b", joined=False)
    place_of_key = place("b", ("c",))
    page = m.Places(b"", KEY, ((KEY, place_of_key),))
    assert a.hears("b", page) == [c.Change(KEY, c.Learn(place_of_key, "b")), c.Send("b", m.AskPlaces(KEY, LAST_KEY))]
    assert sent(a.hears("b", page), m.AskPlaces) == []
    assert not a.engine.ready
    assert sent(a.wait(1_200, hearing=("b",)), m.AskPlaces) == [("b", m.AskPlaces(KEY, LAST_KEY))] * 2
    commands = a.hears("b", m.Places(KEY, LAST_KEY, ()))
    assert event(FactKind.TRANSFERRED, "b", "1") in commands and event(FactKind.READY) in commands


def test_a_join_that_is_cut_begins_anew_with_the_next_life() -> None:
    """S33: what a lost teller had still to tell is waited for by nobody; its next life is asked from the first key."""
    a = Turns("b", joined=False)
    a.hears("b", m.Places(b"", KEY, ()))
    a.on(c.PeerLost("b", LIVES["b"]))
    assert sent(a.on(c.PeerFound("b", 999)), m.AskPlaces) == [("b", m.AskPlaces(b"", LAST_KEY))]


def test_where_places_are_computed_a_join_transfers_none() -> None:
    """S32: with rendezvous the first page is the last, and empty."""
    a = Turns("b", "c", placement="rendezvous", entries={KEY: MINE})
    assert a.hears("c", m.AskPlaces(b"", LAST_KEY)) == [c.Send("c", m.Places(b"", LAST_KEY, ()))]


def test_a_session_that_is_created_during_the_join_is_announced_to_the_joiner() -> None:
    """S32: from the moment it is found it hears of everything that is new."""
    a = Turns("b", "c")
    a.on(c.PeerFound("d", LIVES["d"]))
    keys = [bytes([n]) * 16 for n in range(6)]
    commands = [x for k in keys for x in a.asked(m.CommitRequest(0, k, creation().commit, m.AcknowledgeMode.LOCAL))]
    commands += a.wait(40, hearing=("b", "c", "d"))
    copies = {message.key for to, message in sent(commands, m.Replicate) if to == "d"}
    places = {key for to, message in sent(commands, m.Announce) if to == "d" for key, _ in message.places}
    assert copies | places == set(keys) and len(copies) == 2


# --- standing still -------------------------------------------------------------------------------------------------


def test_after_standing_still_nothing_is_believed() -> None:
    """S25: paused for ten seconds: the first thing said is that; a request is not served before the peers were
    asked."""
    a = Turns("b", "c").with_session()
    a.hears("b", m.HeartbeatAck(a.now_ms))
    a.now_ms += 10_000
    commands = a.asked(FETCH, 2)
    assert commands == [event(FactKind.STOOD_STILL), c.Read((KEY,), c.ServeJob(2))]
    assert not a.engine.ready
    assert a.hears("c", m.Forward(5, KEY, writing(2, x=b"2").commit, m.AcknowledgeMode.BACKUP, False, 1, 0)) == []
    assert a.entry.shown("x") == b"1"


def test_after_standing_still_an_old_acknowledgement_proves_nothing() -> None:
    """S25: answers to heartbeats from before the pause were waiting in the sockets: only new ones count; then
    everything is compared."""
    a = Turns("b", "c").with_session()
    before = a.now_ms
    a.now_ms += 10_000
    a.hears("b", m.HeartbeatAck(before))
    assert STARTED not in a.hears("c", m.HeartbeatAck(before))
    a.tick()
    a.hears("b", m.HeartbeatAck(a.now_ms))
    commands = a.hears("c", m.HeartbeatAck(a.now_ms))
    assert [x.kind for x in commands if isinstance(x, c.Scan)] == [c.ScanKind.ALL]
    assert not [x for x in commands if isinstance(x, c.Publish)]


def test_a_request_that_lay_here_meanwhile_gets_its_time_back() -> None:
    """S25: a request for b's session was under way when everything here was stopped: it is not refused for that."""
    a = Turns("b", "c", entries={KEY: backup_of(new_session(1, "b", ("a",), START_MS, x=b"1"))})
    a.asked(FETCH)
    a.now_ms += 3_000
    assert replies(a.tick()) == []
    assert replies(a.wait(1_900)) == []
    unavailable = c.Reply(1, m.FetchAnswer(m.FetchOutcome.UNAVAILABLE))
    assert replies(a.wait(400)) == [unavailable]


def test_a_commit_that_lay_here_for_long_is_not_repeated() -> None:
    """S25: after ten seconds nobody remembers its id: what became of it is said to be unknown."""
    a = Turns("b", "c", entries={KEY: backup_of(new_session(1, "b", ("a",), START_MS, x=b"1"))})
    a.asked(writing(2, x=b"2"))
    a.now_ms += 10_000
    unknown = c.Reply(1, m.CommitAnswer(Outcome.REFUSED, unsure=True))
    assert replies(a.tick()) == [unknown]


def test_a_short_pause_is_no_standing_still() -> None:
    """A loop that is late by less than two leases goes on."""
    a = Turns("b", "c").with_session()
    a.now_ms += 500
    assert event(FactKind.STOOD_STILL) not in a.tick()
    a.now_ms += 501
    assert event(FactKind.STOOD_STILL) in a.tick()


# --- leaving --------------------------------------------------------------------------------------------------------


LEAVE = c.Scan(c.ScanKind.MEMBER, c.Leave(), member="a")


def leaving() -> Turns:
    """a, with one session, has been asked to leave, and has begun to look at what it holds."""
    a = Turns("b", "c").with_session()
    assert sent(a.on(c.DrainAsked()), m.Heartbeat) == [
        (name, m.Heartbeat(a.now_ms, leaving=True, ready=True, remembers_ms=a.now_ms - START_MS)) for name in ("b", "c")
    ]
    assert LEAVE in a.tick()
    return a


def test_who_leaves_says_so_and_is_not_ready() -> None:
    """S34: no balancer sends it anything new; asked twice it does not begin twice."""
    a = leaving()
    assert not a.engine.ready and not a.engine.drained
    assert a.on(c.DrainAsked()) == []


def test_a_session_is_handed_to_its_backup() -> None:
    """S34: the backup becomes primary under a higher reign; we stay its backup until it says otherwise."""
    a = leaving()
    commands = a.on(c.Scanned(LEAVE, (KEY,), False))
    assert commands[:3] == [
        c.Read((KEY,), c.Leave()),
        c.Change(KEY, c.HandOver("b")),
        told(FactKind.HANDED_OVER, "b"),
    ]
    assert sent(commands, m.Replicate) == [("b", m.Replicate(KEY, 102, a.delta({A: 101})))]
    assert (a.entry.role, a.entry.primary, a.entry.epoch) == (Role.BACKUP, "b", Epoch(2, CHOOSERS["a"], 1))


def test_a_request_after_the_hand_over_goes_to_the_heir() -> None:
    """S34: no error page."""
    a = leaving()
    a.on(c.Scanned(LEAVE, (KEY,), False))
    assert [to for to, _ in sent(a.asked(writing(2, x=b"2"), 2), m.Forward)] == ["b"]


def test_nothing_is_handed_over_while_a_change_is_in_flight() -> None:
    """S34: first the backup has everything."""
    a = leaving()
    a.asked(writing(2, x=b"2"), 2)
    assert a.on(c.Scanned(LEAVE, (KEY,), False)) == [c.Read((KEY,), c.Leave())]
    a.hears("b", m.Acknowledge(KEY, 102, {A: 102}))
    assert c.Change(KEY, c.HandOver("b")) in a.on(c.Scanned(LEAVE, (KEY,), False))


def test_an_heir_that_leaves_too_is_none() -> None:
    """S34: another backup is chosen first."""
    a = leaving()
    a.hears("b", m.Heartbeat(1, leaving=True))
    commands = a.on(c.Scanned(LEAVE, (KEY,), False))
    assert c.Change(KEY, c.SetBackups(("b", "c"))) in commands
    assert a.entry.role is Role.PRIMARY


def test_it_is_drained_when_everything_is_handed_over_and_not_before() -> None:
    """S34: a look that finds nothing left ends it; one that finds something is repeated."""
    a = leaving()
    a.on(c.Scanned(LEAVE, (KEY,), False))
    assert event(FactKind.DRAINED) not in a.wait(120, hearing=("b", "c"))
    a.hears("b", m.Acknowledge(KEY, 102, {A: 101}))
    a.hears("b", m.Release(KEY, place("b", ("c",), 2, list_number=9)))
    a.on(c.Scanned(LEAVE, (), False))
    assert event(FactKind.DRAINED) in a.wait(120, hearing=("b", "c"))
    assert a.engine.drained


def test_a_late_heartbeat_of_an_earlier_life_replaces_nobody_whom_the_network_shows() -> None:
    """S22, S23: it was under way when its machine came back without its store: what that one held counts for nothing.
    (Who was only heard may be the earlier one of two, and is replaced by whoever writes.)"""
    a = Turns("b")
    a.on(c.Received("b", 998, m.Heartbeat(1)))
    assert event(FactKind.MEMBER_FOUND, "b") in a.hears("b", m.Heartbeat(2)), "998 was only heard"
    a.on(c.PeerFound("b", LIVES["b"]))
    assert a.on(c.Received("b", 998, m.Heartbeat(1))) == []
    assert event(FactKind.MEMBER_FOUND, "b") in a.on(c.Received("b", 999, m.Heartbeat(3))), "a life that is new"


@pytest.mark.parametrize("leaving", [True, False], ids=["it has left", "it was killed"])
def test_late_words_of_a_lost_member_bring_it_back_for_nobody(leaving: bool) -> None:
    """S22, S34: they were under way when the network said that it is gone. A write waits for no answer of it; but when
    it answers what was sent to it since then it is there."""
    a = Turns("b").with_session()
    a.hears("b", m.Heartbeat(1, leaving=leaving))
    a.on(c.PeerLost("b", LIVES["b"]))
    for late in (m.HeartbeatAck(a.now_ms), m.Acknowledge(KEY, 101, {A: 101})):
        assert a.hears("b", late) == []
    assert [to for to, _ in sent(a.hears("b", m.Heartbeat(9)), m.HeartbeatAck)] == ["b"], "it may think the same of us"
    assert c.Reply(2, committed(102, protected=False)) in a.asked(writing(2, x=b"2"), 2)
    a.wait(100)
    assert event(FactKind.MEMBER_RETURNED, "b") in a.hears("b", m.HeartbeatAck(a.now_ms))


def test_leaving_ends_although_nobody_can_take_the_sessions() -> None:
    """S34: alone there is nobody to hand to: the store is kept, the agent goes."""
    a = Turns()
    a.asked(creation(x=b"1"))
    a.on(c.DrainAsked())
    a.tick()
    a.on(c.Scanned(LEAVE, (KEY,), False))
    assert event(FactKind.DRAINED) in a.wait(120)


def test_a_peer_that_leaves_is_given_no_new_copy() -> None:
    """S34: and the sessions whose backup it is look for another."""
    a = Turns("b", "c")
    scan = c.Scan(c.ScanKind.MEMBER, c.Recheck("b"), member="b")
    assert scan in a.hears("b", m.Heartbeat(1, leaving=True))
    commands = [
        a.asked(m.CommitRequest(0, bytes([n]) * 16, creation(x=b"1").commit, m.AcknowledgeMode.LOCAL), n)
        for n in range(1, 6)
    ]
    assert {to for turn in commands for to, _ in sent(turn, m.Replicate)} == {"c"}


# --- expiry ---------------------------------------------------------------------------------------------------------


def due(a: Turns) -> list[c.Command]:
    """The store has found the session due."""
    return a.on(c.Scanned(c.Scan(c.ScanKind.DUE, c.Reap()), (KEY,), False))


def test_a_primary_expires_a_session_once() -> None:
    """S44: one fact; everybody who holds something of it is told."""
    a = Turns("b", "c").with_session()
    a.entries[KEY] = moved(a.entry, times=moved(a.entry.times, accessed_ms=a.now_ms - 60_000))
    commands = due(a)
    assert commands[1:3] == [c.Change(KEY, c.Expire()), told(FactKind.SESSION_EXPIRED)]
    assert [to for to, _ in sent(commands, m.Forget)] == ["b", "c"]
    assert due(a) == [c.Read((KEY,), c.Reap())]


def test_a_backup_asks_its_primary_before_it_lets_go() -> None:
    """S45: on its own clock the time is over; the primary may know of later use. Nothing is removed."""
    held = moved(backup_of(new_session(1, "b", ("a",), START_MS)), times=MINE.times)
    a = Turns("b", "c", entries={KEY: held})
    commands = due(a)
    assert [to for to, _ in sent(commands, m.Compare)] == ["b"]
    assert a.entry is held


def test_a_session_that_was_used_meanwhile_does_not_expire() -> None:
    """S44: between the look and the change."""
    a = Turns("b", "c").with_session()
    assert due(a) == [c.Read((KEY,), c.Reap()), c.Change(KEY, c.Expire())]
    assert a.entry.role is Role.PRIMARY
