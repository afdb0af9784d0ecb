"""Reads: in place under a lease, fetched from the primary, found by asking all, or not at all."""

from __future__ import annotations

import pytest
from tests.commands.transcript import BACKUP, START_MS, TOLD_ALL, Turns, committed, creation, sent, told, writing
from tests.making import KEY, LIVES, backup_of, moved, new_session, place, proxy, whole

from understudy.model.commit import Outcome
from understudy.model.entry import Epoch, Role
from understudy.protocol import commands as c
from understudy.protocol import messages as m
from understudy.protocol.commands import FactKind
from understudy.protocol.places import LAST_KEY

A = LIVES["a"]
THEIRS = new_session(1, "b", ("c",), START_MS, x=b"1")
FETCH = m.FetchRequest(0, KEY)
HERE = m.FetchAnswer(m.FetchOutcome.HERE, "a")
UNKNOWN = m.FetchAnswer(m.FetchOutcome.UNKNOWN)


def leased(a: Turns, name: str = "b") -> Turns:
    """``name`` has acknowledged a heartbeat that was sent just now."""
    a.hears(name, m.HeartbeatAck(a.now_ms))
    return a


# --- primary here ---------------------------------------------------------------------------------------------------


def test_under_a_lease_the_worker_may_read_here() -> None:
    """S07, S25: no message to anybody."""
    a = leased(Turns("b", "c").with_session())
    assert a.asked(FETCH, 2) == [c.Read((KEY,), c.ServeJob(2)), c.Reply(2, HERE)]


def test_without_a_lease_the_backup_is_asked_first() -> None:
    """S25: the lease has lapsed: what is here is compared with the backup's before anybody is shown it."""
    a = Turns("b", "c").with_session()
    assert a.asked(FETCH, 2) == [
        c.Read((KEY,), c.ServeJob(2)),
        c.Send("b", m.Compare(3, (m.Item(KEY, a.entry.epoch, a.entry.context),))),
    ]
    commands = a.hears("b", m.Compared(3, (m.Answer(KEY, m.Verdict.NOTHING),)))
    assert commands == [c.Read((KEY,), c.ServeJob(2)), c.Reply(2, HERE)]


def test_a_session_without_backups_needs_no_lease() -> None:
    """S42: alone it is served at once."""
    a = Turns()
    a.asked(m.CommitRequest(0, KEY, writing(1).commit, m.AcknowledgeMode.BACKUP))
    a.entries[KEY] = new_session(1, "a", (), START_MS)
    assert a.asked(FETCH, 2)[-1] == c.Reply(2, HERE)


def test_a_reader_waits_for_what_it_would_be_shown() -> None:
    """S12: the newest change is not acknowledged: nobody is shown what a failover could take back."""
    a = leased(Turns("b", "c").with_session())
    a.asked(writing(2, x=b"2"), 2)
    assert a.asked(FETCH, 3) == [c.Read((KEY,), c.ServeJob(3))]
    settle = m.SettleRequest(0, KEY, 102)
    assert a.asked(settle, 4) == [c.Read((KEY,), c.ServeJob(4))]
    assert a.hears("b", m.Acknowledge(KEY, 102, {A: 102})) == [
        c.Settle((102,)),
        c.Reply(2, committed(102)),
        c.Read((KEY,), c.ServeJob(3)),
        c.Reply(3, HERE),
        c.Reply(4, committed(102)),
    ]


def test_a_change_that_is_acknowledged_is_waited_for_by_nobody() -> None:
    """A settle request for it is answered at once, as protected."""
    a = Turns("b", "c").with_session()
    answer = m.CommitAnswer(Outcome.COMMITTED, True, "a")
    assert a.asked(m.SettleRequest(0, KEY, 101), 2) == [c.Read((KEY,), c.ServeJob(2)), c.Reply(2, answer)]


def test_a_change_that_was_answered_unprotected_is_not_called_protected() -> None:
    """S12: nobody waits for it a second time, but who is shown it is told the truth."""
    a = Turns("b", "c").with_session()
    a.asked(writing(2, x=b"2"), 2)
    a.wait(2_100, hearing=("b", "c"))
    assert 102 in a.marked
    unprotected = m.CommitAnswer(Outcome.COMMITTED, False, "a")
    assert a.asked(m.SettleRequest(0, KEY, 102), 3)[-1] == c.Reply(3, unprotected)


def test_a_change_that_another_primary_has_made_void_is_not_called_protected() -> None:
    """S12, S28: b became primary without it; also when the session has come back here since, with later changes, a slow
    request that was shown it is told the truth (profile blink, seed 4013)."""
    a = Turns("b", "c").with_session()
    theirs = moved(a.entry, primary="b", backups=("a",), epoch=Epoch(2, LIVES["b"], 1))
    a.asked(writing(2, x=b"2"), 2)
    a._carry_out([c.Change(KEY, c.StepDown(whole(theirs, a.now_ms)))])
    assert a.entry.primary == "b"
    back = moved(theirs, primary="a", backups=("b",), epoch=Epoch(3, LIVES["b"], 1), number=1)
    a.hears("b", m.Replicate(KEY, 9, whole(back, a.now_ms)))
    assert a.entry.role is Role.PRIMARY
    unprotected = m.CommitAnswer(Outcome.COMMITTED, False, "a")
    assert a.asked(m.SettleRequest(0, KEY, 102), 3)[-1] == c.Reply(3, unprotected)
    protected = m.CommitAnswer(Outcome.COMMITTED, True, "a")
    assert a.asked(m.SettleRequest(0, KEY, 103), 4)[-1] == c.Reply(4, protected)


def test_a_backup_that_is_back_protects_what_it_has_acknowledged_since() -> None:
    """S12: it was away while changes were answered without protection. That it is there again, or that one of its
    frames came late, proves nothing of them, nor does a change of the list (profile pair, seed 3137)."""
    a = Turns("b").with_session()
    a.on(c.PeerLost("b", LIVES["b"]))
    for number in (2, 3):
        a.asked(writing(number, x=b"2"), number)
    scans = [x for x in a.on(c.PeerFound("b", LIVES["b"])) if isinstance(x, c.Scan)]
    for scan in scans:
        a.on(c.Scanned(scan, () if isinstance(scan.purpose, c.CompareAll | c.Recover) else (KEY,), False))
    settle = m.SettleRequest(0, KEY, 102)
    assert a.asked(settle, 4)[-1] == c.Reply(4, m.CommitAnswer(Outcome.COMMITTED, False, "a"))
    a.hears("b", m.Acknowledge(KEY, a.entry.number, dict(a.entry.context)))
    assert a.asked(settle, 5)[-1] == c.Reply(5, m.CommitAnswer(Outcome.COMMITTED, True, "a"))


def test_one_backup_of_two_does_not_protect() -> None:
    """S12: with two copies wanted, a reader is told while only one of the backups is there."""
    a = Turns("b", "c", copies=2, entries={KEY: new_session(1, "a", ("b", "c"), START_MS, x=b"1")})
    settle = m.SettleRequest(0, KEY, 1)
    assert a.asked(settle, 2)[-1] == c.Reply(2, m.CommitAnswer(Outcome.COMMITTED, True, "a"))
    a.on(c.PeerLost("c", LIVES["c"]))
    assert a.asked(settle, 3)[-1] == c.Reply(3, m.CommitAnswer(Outcome.COMMITTED, False, "a"))


def test_a_peer_is_given_the_entry_or_told_that_it_has_it() -> None:
    """A fetch from another member: whole, or "not modified" where its context is the same."""
    a = leased(Turns("b", "c").with_session())
    found = m.Fetched(9, m.FetchAnswer(m.FetchOutcome.FOUND, "a"), a.entry.location, whole(a.entry, a.now_ms))
    same = m.Fetched(9, m.FetchAnswer(m.FetchOutcome.NOT_MODIFIED, "a"), a.entry.location)
    for have in ({}, {A: 100}, {A: 101, 7: 1}):
        assert a.hears("c", m.Fetch(9, KEY, have, 1))[-1] == c.Send("c", found)
    assert a.hears("c", m.Fetch(9, KEY, {A: 101}, 1))[-1] == c.Send("c", same)


def test_an_expired_session_is_removed_not_served() -> None:
    """S44: at its primary, by the first request that finds it so; the rest are told in the same turn."""
    a = leased(Turns("b", "c").with_session())
    a.entries[KEY] = moved(a.entry, times=moved(a.entry.times, accessed_ms=a.now_ms - 60_000))
    epoch = a.entry.epoch
    forget = m.Forget(((KEY, epoch),))
    assert a.asked(FETCH, 2) == [
        c.Read((KEY,), c.ServeJob(2)),
        c.Change(KEY, c.Expire()),
        told(FactKind.SESSION_EXPIRED),
        c.Reply(2, UNKNOWN),
        c.Send("b", forget),
        c.Send("c", forget),
    ]
    assert not a.entries


def test_what_has_expired_here_may_have_been_used_elsewhere() -> None:
    """S25, S44: while its backup's lease does not run another may be primary, and is asked first."""
    a = Turns("b", "c").with_session()
    a.entries[KEY] = moved(a.entry, times=moved(a.entry.times, accessed_ms=a.now_ms - 60_000))
    ((to, compare),) = sent(a.asked(FETCH, 2), m.Compare)
    assert to == "b" and a.entry.role is Role.PRIMARY
    said = a.hears("b", m.Compared(compare.comparison, (m.Answer(KEY, m.Verdict.NOTHING),)))
    assert c.Reply(2, UNKNOWN) in said and not a.entries


# --- primary elsewhere ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("held", [proxy("b", ("c",)), backup_of(new_session(1, "b", ("a",), START_MS))])
def test_a_session_of_another_member_is_fetched_from_its_primary(held) -> None:
    """S31: by proxies and by backups; what comes is given to the worker and not stored."""
    a = Turns("b", "c", entries={KEY: held})
    assert a.asked(FETCH)[-1] == c.Send("b", m.Fetch(1, KEY, {}, 1))
    answer = m.Fetched(1, m.FetchAnswer(m.FetchOutcome.FOUND, "b"), THEIRS.location, whole(THEIRS, START_MS))
    (reply,) = a.hears("b", answer)
    assert isinstance(reply, c.Reply) and isinstance(reply.answer, m.FetchAnswer) and reply.answer.entry is not None
    assert (reply.answer.outcome, reply.answer.primary) == (m.FetchOutcome.FOUND, "b")
    assert reply.answer.entry.attributes == THEIRS.attributes
    assert a.entry is held


def test_when_the_primary_is_gone_the_backup_is_asked() -> None:
    """S31: a proxy finds the session where it is promoted."""
    a = Turns("b", "c", entries={KEY: proxy("b", ("c",))})
    a.on(c.PeerLost("b", LIVES["b"]))
    assert a.asked(FETCH)[-1] == c.Send("c", m.Fetch(1, KEY, {}, 1, "b"))


def test_a_primary_that_does_not_answer_is_asked_again_then_the_request_is_unavailable() -> None:
    """S31: 503, never "unknown", never a new session: nobody is logged out by a time-out."""
    a = Turns("b", "c", entries={KEY: proxy("b", ("c",))})
    a.asked(FETCH)
    commands = a.wait(2_100, hearing=("b", "c"))
    assert {to for to, _ in sent(commands, m.Fetch)} == {"b"} and len(sent(commands, m.Fetch)) > 1
    assert [x for x in commands if isinstance(x, c.Reply | c.Tell)] == [
        told(FactKind.SESSION_UNAVAILABLE),
        c.Reply(1, m.FetchAnswer(m.FetchOutcome.UNAVAILABLE)),
    ]


def test_hops_are_bounded() -> None:
    """A request that has been passed on too often is not passed on again: two members with old hints play no ball."""
    a = Turns("b", "c", entries={KEY: proxy("b", ("c",))})
    assert a.hears("c", m.Fetch(9, KEY, {}, 3))[-1] == c.Send("b", m.Fetch(1, KEY, {}, 4))
    assert not sent(a.hears("c", m.Fetch(10, KEY, {}, 4)), m.Fetch)


# --- nobody here knows it -------------------------------------------------------------------------------------------


def located(location=None, view: tuple[str, ...] = ("a", "b", "c", "d")) -> m.Located:
    return m.Located(1, KEY, location, view)


def test_an_unknown_session_is_asked_for_once_of_all() -> None:
    """S31: one question to each member."""
    a = Turns("b", "c", "d")
    assert a.asked(FETCH) == [
        c.Read((KEY,), c.ServeJob(1)),
        *(c.Send(name, m.Locate(1, KEY)) for name in ("b", "c", "d")),
    ]


def test_what_becomes_known_while_all_are_asked_is_not_unknown() -> None:
    """S31: the question to its primary was lost, and the rest answered before they heard of it; when the time is over
    its place is known here (seed 2296)."""
    a = Turns("b", "c")
    a.asked(FETCH)
    a.hears("b", located(view=("a", "b", "c")))
    a.entries[KEY] = proxy("c", ("b",))
    commands = a.wait(250, hearing=("b", "c"))
    assert sent(commands, m.Fetch)[0] == ("c", m.Fetch(1, KEY, {}, 1))
    assert told(FactKind.SESSION_UNKNOWN) not in commands


def test_a_place_that_is_out_of_reach_is_asked_for_of_who_sees_it() -> None:
    """S31, S40: d is lost to us alone: b, which told of it, passes the request on (profile links, seed 50048)."""
    a = Turns("b", "c", "d")
    a.on(c.PeerLost("d", LIVES["d"]))
    a.asked(FETCH)
    commands = a.hears("b", located(place("d", ("a",))))
    assert sent(commands, m.Fetch) == [("b", m.Fetch(1, KEY, {}, 1))]


def test_an_old_place_whose_holders_are_gone_is_not_the_last_word() -> None:
    """S31: b knows an older place than c, which holds the session: what b says proves nothing while c is asked."""
    a = Turns("b", "c", "d")
    a.on(c.PeerLost("d", LIVES["d"]))
    a.asked(FETCH)
    view = ("a", "b", "c")
    assert a.hears("b", located(place("d"), view)) == []
    commands = a.hears("c", located(place("d", ("c",), list_number=2), view))
    assert sent(commands, m.Fetch) == [("c", m.Fetch(1, KEY, {}, 1))]


def test_unknown_needs_the_word_of_all() -> None:
    """S31: the second of three answers is not enough, the third is."""
    a = Turns("b", "c", "d")
    a.asked(FETCH)
    assert a.hears("b", located()) == a.hears("c", located()) == []
    assert a.hears("d", located()) == [
        c.Read((KEY,), c.ServeJob(1)),  # once more: it may be known here by now
        told(FactKind.SESSION_UNKNOWN),
        c.Reply(1, UNKNOWN),
    ]


def test_one_that_is_silent_may_be_missing_for_one_copy_but_not_two() -> None:
    """S31: a protected session has a copy among the rest: with one copy, one silent member is borne; with two of them
    silent the answer is 503."""
    a = Turns("b", "c", "d")
    a.wait(300, hearing=("b", "c"))
    a.asked(FETCH)
    a.hears("b", located())
    a.hears("c", located())
    assert c.Reply(1, UNKNOWN) in a.wait(220, hearing=("b", "c"))
    a = Turns("b", "c", "d")
    a.asked(FETCH)
    a.hears("b", located())
    replies = [x for x in a.wait(2_100, hearing=("b", "c", "d")) if isinstance(x, c.Reply)]
    assert replies == [c.Reply(1, m.FetchAnswer(m.FetchOutcome.UNAVAILABLE))]


def test_a_living_member_whose_answer_was_lost_is_asked_again() -> None:
    """S31, S40: c is lost to us alone and has made a session with b as its backup. What b said of it was lost: that is
    no word that there is none (seed 1556)."""
    a = Turns("b", "c")
    a.on(c.PeerLost("c", LIVES["c"]))
    a.wait(20_000, hearing=("b",))
    a.asked(FETCH)
    commands = a.wait(300, hearing=("b",))
    assert not [x for x in commands if isinstance(x, c.Reply)]
    assert [to for to, _ in sent(commands, m.Locate)] == ["b"]
    commands = a.hears("b", located(place("c", ("b",)), ("a", "b", "c")))
    assert sent(commands, m.Fetch) == [("b", m.Fetch(1, KEY, {}, 1))]


def test_a_member_that_only_others_see_counts_too() -> None:
    """S31, S40: b sees e and f, which we do not: they may hold it."""
    a = Turns("b", "c")
    a.asked(FETCH)
    a.hears("b", located(view=("a", "b", "c", "e", "f")))
    assert not [x for x in a.hears("c", located(view=("a", "b", "c"))) if isinstance(x, c.Reply)]


@pytest.mark.parametrize(
    ("lost", "empty", "is_believed"),
    [((), False, True), (("a",), False, False), (("c",), True, False), (("c",), False, True)],
    ids=["nobody", "we with our store", "an answerer with its store", "an answerer that has kept its store"],
)
def test_who_has_come_back_with_nothing_denies_nothing(lost: tuple[str, ...], empty: bool, is_believed: bool) -> None:
    """S22, S31: d, which others see, is not found yet: it may be the primary, and whoever was lost with its store the
    backup (profile one with rendezvous, seed 5020)."""
    a = Turns("b", "c")
    a.asked(FETCH)
    a.hears("b", m.Located(1, KEY, None, ("a", "b", "c", "d"), lost))
    commands = a.hears("c", m.Located(1, KEY, None, ("a", "b", "c", "d"), lost, empty))
    assert (c.Reply(1, UNKNOWN) in commands) == is_believed


def test_a_member_whose_earlier_life_was_lost_is_told_of_for_a_while() -> None:
    """S31: until what it held has its copies again, if it has not left by itself."""
    a = Turns("b", "c")
    a.on(c.PeerLost("b", LIVES["b"]))
    a.on(c.PeerFound("b", 999))
    a.hears("c", m.Heartbeat(1, leaving=True))
    a.on(c.PeerLost("c", LIVES["c"]))
    a.on(c.PeerFound("c", 998))
    for after_ms, lost in ((0, ("b",)), (11_100, ())):
        a.now_ms += after_ms
        ((_, answer),) = sent(a.on(c.Received("c", 998, m.Locate(3, KEY))), m.Located)
        assert answer.lost == lost


def test_a_silent_member_that_the_cookie_names_is_waited_for() -> None:
    """S31: the route says where the primary was: while that member is suspect nobody says unknown."""
    a = Turns("b", "c", "d")
    a.wait(300, hearing=("c", "d"))
    a.asked(m.FetchRequest(0, KEY, {}, "b"))
    a.hears("c", located())
    a.hears("d", located())
    assert not [x for x in a.wait(220, hearing=("c", "d")) if isinstance(x, c.Reply)]


def test_a_denial_from_before_a_later_place_denies_nothing() -> None:
    """S31: b said truly that it knows nothing, and was handed the session while that was on its way: it is asked again,
    the place is not forgotten, and nobody is logged out."""
    a = Turns("b", "c", entries={KEY: proxy("b", ())})
    assert sent(a.asked(FETCH), m.Fetch) == [("b", m.Fetch(1, KEY, {}, 1))]
    a.hears("c", m.Announce(((KEY, place("b", ("c",), 2)),)))
    assert sent(a.hears("b", m.Fetched(1, UNKNOWN)), m.Fetch) == [("b", m.Fetch(1, KEY, {}, 1))]
    assert a.entry == proxy("b", ("c",), place("b", (), 2).epoch)
    found = m.FetchAnswer(m.FetchOutcome.NOT_MODIFIED, "b")
    assert c.Reply(1, found) in a.hears("b", m.Fetched(1, found))


def test_who_has_denied_it_is_believed_when_it_tells_a_later_place() -> None:
    """S31: b and c held nothing when they were asked; by the time that all are, b is its primary."""
    a = Turns("b", "c", entries={KEY: proxy("b", ())})
    a.asked(FETCH)
    assert sent(a.hears("b", m.Fetched(1, UNKNOWN)), m.Locate) == [(name, m.Locate(1, KEY)) for name in ("b", "c")]
    a.hears("c", located(view=("a", "b", "c")))
    commands = a.hears("b", located(place("b", ("c",), 2), ("a", "b", "c")))
    assert sent(commands, m.Fetch) == [("b", m.Fetch(1, KEY, {}, 1))]


def test_a_denial_of_the_latest_place_is_believed() -> None:
    """S31: b is asked once more for the later place, and denies that, too: the session is over, and nobody asks on."""
    a = Turns("b", "c", entries={KEY: proxy("b", ())})
    a.asked(FETCH)
    a.hears("c", m.Announce(((KEY, place("b", (), 2)),)))
    a.hears("b", m.Fetched(1, UNKNOWN))
    assert [to for to, _ in sent(a.hears("b", m.Fetched(1, UNKNOWN)), m.Locate)] == ["b", "c"]
    assert KEY not in a.entries
    a.hears("b", located(view=("a", "b", "c")))
    assert c.Reply(1, UNKNOWN) in a.hears("c", located(view=("a", "b", "c")))


def test_an_unknown_key_is_remembered_for_seconds() -> None:
    """S51: a repeated foreign cookie costs no second question; a session that appears is known at once."""
    a = Turns("b")
    a.asked(FETCH)
    a.hears("b", located(view=("a", "b")))
    again = a.asked(FETCH, 2)
    assert again == 2 * [c.Read((KEY,), c.ServeJob(2))] + [told(FactKind.SESSION_UNKNOWN), c.Reply(2, UNKNOWN)]
    a.hears("b", m.Announce(((KEY, place("b")),)))
    assert a.asked(FETCH, 3)[-1] == c.Send("b", m.Fetch(3, KEY, {}, 1))


def test_who_knows_the_place_is_followed() -> None:
    """S31: the first answer with a place is enough: it is learned and the request goes to the primary."""
    a = Turns("b", "c", "d")
    a.asked(FETCH)
    where = place("d", ("b",), 3)
    assert a.hears("c", located(where)) == [
        c.Change(KEY, c.Learn(where, "c")),
        c.Send("d", m.Fetch(1, KEY, {}, 1)),
    ]
    assert a.entry == proxy("d", ("b",), where.epoch)


def test_a_peers_fetch_asks_nobody_else() -> None:
    """S51: what is unknown here is answered at once: only the member with the worker asks all."""
    a = Turns("b", "c")
    assert a.hears("b", m.Fetch(9, KEY, {}, 1)) == [
        c.Read((KEY,), c.ServeJob(1)),
        c.Send("b", m.Fetched(9, UNKNOWN)),
    ]


# --- joining --------------------------------------------------------------------------------------------------------


def test_a_joining_member_calls_nothing_unknown() -> None:
    """S32: it waits until it has heard of everything, then asks."""
    a = Turns("b", "c", joined=False)
    assert a.asked(FETCH) == [c.Read((KEY,), c.ServeJob(1))]
    a.hears("c", TOLD_ALL)
    assert not sent(a.wait(200, hearing=("c",)), m.Locate)
    a.hears("b", m.Places(b"", LAST_KEY, ((KEY, place("b", ("c",))),)))
    assert sent(a.wait(60, hearing=("b", "c")), m.Fetch) == [("b", m.Fetch(1, KEY, {}, 1))]


def test_a_joining_member_creates_no_session_that_nobody_holds() -> None:
    """S12, S32: a first request before anybody was found waits for a backup; then it is protected."""
    a = Turns(joined=False, last_view=("a", "b"))
    assert a.asked(creation(x=b"1")) == []
    a.on(c.PeerFound("b", LIVES["b"]))
    a.hears("b", TOLD_ALL)
    assert [to for to, _ in sent(a.wait(60, hearing=("b",)), m.Replicate)] == ["b"]


def test_a_repeated_forward_is_one_job() -> None:
    """S15: a Forward that comes again while its job is open is not passed on again."""
    turns = Turns("b", "c", entries={KEY: proxy("b", ("c",))})
    forward = m.Forward(55, KEY, writing(2).commit, m.AcknowledgeMode.BACKUP, False, 1, 0)
    assert [len(sent(turns.hears("c", forward), m.Forward)) for _ in range(3)] == [1, 0, 0]
    assert len(turns.engine.service.jobs) == 1


def test_a_commit_that_comes_again_after_its_answer_is_answered_the_same() -> None:
    """S03, S15: the answer was lost, and more commits than an entry remembers have come since."""
    a = Turns("b", "c").with_session()
    forward = m.Forward(9, KEY, writing(2, x=b"2").commit, BACKUP, False, 1)
    a.hears("c", forward)
    answer = [("c", m.Forwarded(9, committed(102)))]
    assert sent(a.hears("b", m.Acknowledge(KEY, 102, {A: 102})), m.Forwarded) == answer
    for number in range(3, 23):
        a.asked(writing(number, x=b"%d" % number), number)
    assert a.hears("c", forward) == [c.Send(to, message) for to, message in answer]


def test_the_answer_of_an_earlier_lifes_request_is_nobody_elses() -> None:
    """S23, S26: c's agent dies while its commit waits here; its next life's request of the same number is another
    session's, and must not be taken for a repetition of that one."""
    a = Turns("b", "c").with_session()
    first = m.Forward(7, KEY, writing(2, x=b"2").commit, BACKUP, False, 1)
    a.hears("c", first)
    a.on(c.PeerLost("c", LIVES["c"]))
    a.hears("b", m.Acknowledge(KEY, 102, {LIVES["a"]: 102}))
    a.on(c.PeerFound("c", 999))
    again = m.Forward(7, KEY, writing(3, x=b"3").commit, BACKUP, False, 1)
    assert sent(a.on(c.Received("c", 999, again)), m.Forwarded) == []
    answered = a.hears("b", m.Acknowledge(KEY, 103, {LIVES["a"]: 103}))
    assert sent(answered, m.Forwarded) == [("c", m.Forwarded(7, committed(103)))]
