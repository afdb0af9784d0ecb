"""Moves: a session's primaryship goes to the member that serves it, make before break."""

from __future__ import annotations

import pytest
from msgspec import structs
from tests.commands.transcript import START_MS, Turns, committed, sent, told, writing
from tests.making import CHOOSERS, KEY, LIVES, SECRET, backup_of, commit_id, new_session, place, whole

from understudy.model.commit import Commit, ended
from understudy.model.entry import Epoch, Location, Promise, Role
from understudy.protocol import commands as c
from understudy.protocol import messages as m
from understudy.protocol.commands import FactKind

A = LIVES["a"]
FETCH = m.FetchRequest(0, KEY)


def primary(*peers: str, **settings: int) -> Turns:
    """a with its session, backup b, and leases from everybody."""
    a = Turns(*peers, **settings).with_session()
    for name in peers:
        a.hears(name, m.Heartbeat(0))  # it is ready
        a.hears(name, m.HeartbeatAck(a.now_ms))
    return a


def served_by(a: Turns, name: str, *requests: int) -> None:
    for request in requests:
        a.hears(name, m.Fetch(request, KEY, {}, 1))


def changes(commands: list[c.Command]) -> list[c.What]:
    return [command.what for command in commands if isinstance(command, c.Change)]


def test_the_backup_that_serves_twice_in_a_row_becomes_primary() -> None:
    """S28: a hand-over under a higher reign; the old primary stays as the backup, and the data is there already."""
    a = primary("b", "c")
    served_by(a, "b", 1)
    assert changes(a.wait(60, hearing=("b", "c"))) == []
    served_by(a, "b", 2)
    commands = a.wait(20, hearing=("b", "c"))
    assert commands[:3] == [
        c.Read((KEY,), c.Moving()),
        c.Change(KEY, c.HandOver("b", moves=True)),
        told(FactKind.MOVED, "b"),
    ]
    assert sent(commands, m.Replicate) == [("b", m.Replicate(KEY, 102, a.delta({A: 101})))]
    assert (a.entry.role, a.entry.primary, a.entry.backups) == (Role.BACKUP, "b", ("a",))
    assert a.entry.epoch == Epoch(2, CHOOSERS["a"], 1)
    assert changes(a.wait(2_000, hearing=("b", "c"))) == []


def test_another_member_becomes_a_backup_first() -> None:
    """S21, S28: c is sent everything; only when it has it b is released, and only then c is handed the session."""
    a = primary("b", "c")
    served_by(a, "c", 1, 2)
    commands = a.wait(20, hearing=("b", "c"))
    assert changes(commands) == [c.SetBackups(("b", "c"))]
    assert [to for to, r in sent(commands, m.Replicate) if r == m.Replicate(KEY, 102, whole(a.entry, a.now_ms))] == [
        "c"
    ]
    assert changes(a.wait(40, hearing=("b", "c"))) == [], "nothing is given up before the answer"
    a.hears("b", m.Acknowledge(KEY, 102, {A: 101}))
    commands = a.hears("c", m.Acknowledge(KEY, 102, {A: 101}))
    assert changes(commands) == [c.SetBackups(("c",), ("b",))]
    assert a.entry.role is Role.PRIMARY
    a.hears("c", m.Acknowledge(KEY, 103, {A: 101}))
    assert changes(a.wait(20, hearing=("b", "c"))) == [c.HandOver("c", moves=True)]
    assert (a.entry.role, a.entry.primary, a.entry.backups) == (Role.BACKUP, "c", ("a",))


def test_members_that_take_turns_move_nothing() -> None:
    """S41: it must be the same one, in a row; use by the primary's own workers breaks the row, too."""
    a = primary("b", "c")
    for request in range(1, 8):
        served_by(a, "bc"[request % 2], request)
    served_by(a, "b", 10)
    a.asked(writing(2, x=b"2"), 2)
    a.hears("b", m.Acknowledge(KEY, 102, {A: 102}))
    served_by(a, "b", 11)
    a.asked(m.TouchRequest(KEY))
    served_by(a, "b", 12)
    a.asked(FETCH, 3)
    served_by(a, "b", 13)
    assert changes(a.wait(100, hearing=("b", "c"))) == []
    served_by(a, "b", 14)
    assert changes(a.wait(20, hearing=("b", "c"))) == [c.HandOver("b", moves=True)]


def test_what_is_asked_again_or_passed_on_counts_not() -> None:
    """S09: one request whose answer was lost is one; who relays for another serves nobody."""
    a = primary("b", "c")
    served_by(a, "b", 1, 1, 1)
    a.hears("c", m.Fetch(2, KEY, {}, 2))
    a.hears("c", m.Fetch(3, KEY, {}, 2))
    assert changes(a.wait(100, hearing=("b", "c"))) == []


def test_a_change_in_flight_is_waited_for_and_not_for_ever() -> None:
    """S21: the hand-over begins when the backup has everything; a session that is always busy stays."""
    a = primary("b", "c")
    a.asked(writing(2, x=b"2"), 2)
    a.hears("b", m.Fetch(1, KEY, {}, 1))
    a.hears("b", m.Fetch(2, KEY, {}, 1))
    a.hears("b", m.Acknowledge(KEY, 102, {A: 102}))
    a.asked(writing(3, x=b"3"), 3)
    assert not [x for x in changes(a.wait(80, hearing=("b", "c"))) if isinstance(x, c.HandOver)]
    a.hears("b", m.Acknowledge(KEY, 103, {A: 103}))
    assert changes(a.wait(20, hearing=("b", "c"))) == [c.HandOver("b", moves=True)]


def test_a_session_that_has_just_moved_rests() -> None:
    """S41: handed over to us a moment ago, it stays for five seconds whoever serves it."""
    theirs = new_session(1, "b", ("a",), START_MS, x=b"1")
    a = Turns("b", "c", entries={KEY: backup_of(theirs)})
    for name in "bc":
        a.hears(name, m.Heartbeat(0))
        a.hears(name, m.HeartbeatAck(a.now_ms))
    ours = whole(theirs, START_MS)
    given = m.Location("a", ("b",), Epoch(2, CHOOSERS["b"], 1))
    a.hears("b", m.Replicate(KEY, 7, structs.replace(ours, location=given)))
    assert a.entry.role is Role.PRIMARY
    served_by(a, "b", 1, 2, 3)
    assert changes(a.wait(4_900, hearing=("b", "c"))) == []
    a.wait(100, hearing=("b", "c"))
    served_by(a, "b", 4)
    assert changes(a.wait(20, hearing=("b", "c"))) == [c.HandOver("b", moves=True)]


@pytest.mark.parametrize("own", [{}, {A: 99}], ids=["all that we hold", "less than we hold"])
def test_who_hands_over_is_sent_what_it_lacks(own: dict[int, int]) -> None:
    """S12, S28: a was primary itself before b, and what it had committed then was lost on its way to b: a alone holds
    it, so it is called protected when b has said that it has it."""
    theirs = new_session(1, "b", ("a",), START_MS, x=b"1")
    a = Turns("b", "c", entries={KEY: structs.replace(backup_of(theirs), context={**theirs.context, **own})})
    for name in "bc":
        a.hears(name, m.Heartbeat(0))
        a.hears(name, m.HeartbeatAck(a.now_ms))
    given = m.Location("a", ("b",), Epoch(2, CHOOSERS["b"], 1))
    commands = a.hears("b", m.Replicate(KEY, 7, structs.replace(whole(theirs, START_MS), location=given)))
    assert a.entry.role is Role.PRIMARY
    assert [to for to, _ in sent(commands, m.Replicate)] == ["b"] * bool(own)
    assert bool([x for x in a.asked(FETCH, 2) if isinstance(x, c.Reply)]) is not bool(own)


def test_it_moves_to_nobody_who_cannot_take_it() -> None:
    """S21: not to one that leaves or is not ready, and never if the option says so."""
    for heartbeat in (m.Heartbeat(0, leaving=True), m.Heartbeat(0, ready=False)):
        a = primary("b", "c")
        a.hears("b", heartbeat)
        served_by(a, "b", 1, 2, 3)
        moves = [x for x in changes(a.wait(60, hearing=("b", "c"))) if isinstance(x, c.HandOver)]
        assert moves == []
    a = primary("b", "c", move_after=0)
    served_by(a, "b", *range(1, 20))
    assert changes(a.wait(60, hearing=("b", "c"))) == []


def test_a_hand_over_that_comes_after_ones_own_promotion_makes_a_higher_reign() -> None:
    """S21, S28: a took the session over because b was silent, while b's hand-over to it was under way under the same
    reign: that list knows nothing of a's backup, which must not be given up for it."""
    theirs = new_session(1, "b", ("a",), START_MS, x=b"1")
    mine = structs.replace(theirs, primary="a", backups=("c",), epoch=Epoch(2, CHOOSERS["a"], 1), number=7)
    a = Turns("b", "c", entries={KEY: mine})
    given = structs.replace(theirs, primary="a", backups=("b",), epoch=Epoch(2, CHOOSERS["b"], 1), number=9)
    commands = a.hears("b", m.Replicate(KEY, 9, whole(given, START_MS)))
    assert sent(commands, m.Refuse) and a.entry is mine
    ((_, ask), *_) = sent(commands, m.Ask)
    assert ask.questions[0].promise.reign == 3


@pytest.mark.parametrize("is_replaced", [True, False])
def test_a_hand_over_by_one_that_is_being_replaced_is_not_taken(is_replaced: bool) -> None:
    """S21, S25, S28: b stood still, c has asked for the next reign and maybe has it, with changes that a never
    saw; then b's hand-over to a under a reign of that number gives no right to be primary: b has asked nobody."""
    theirs = new_session(1, "b", ("a",), START_MS, x=b"1")
    high, low = sorted((CHOOSERS["b"], CHOOSERS["c"]), reverse=True)
    copy = backup_of(structs.replace(theirs, promised=Promise(2, low)))
    if is_replaced:
        copy = structs.replace(copy, primary="c", backups=("d",), epoch=Epoch(2, low, 1))
    a = Turns("b", "c", entries={KEY: copy})
    given = structs.replace(theirs, primary="a", backups=("b",), epoch=Epoch(2, high, 1), number=9)
    commands = a.hears("b", m.Replicate(KEY, 9, whole(given, START_MS)))
    assert sent(commands, m.Refuse) == [("b", m.Refuse(KEY, 9, copy.location, copy.promised))]
    assert a.entry is copy


def test_whose_hand_over_is_not_taken_asks_for_a_reign_above() -> None:
    """S21: so the session is not left without a primary until somebody misses it."""
    a = handing_over(primary("b", "c"))
    refused = m.Refuse(KEY, a.entry.number, place("a", ("b",)), Promise(2, CHOOSERS["c"]))
    ((_, ask), *_) = sent(a.hears("b", refused), m.Ask)
    assert ask.questions[0].promise.reign == 3


def test_whose_hand_over_is_not_taken_asks_later_if_it_asked_a_moment_ago() -> None:
    """S21: a promotion of its own was just dropped: the refusal comes within the pause that keeps two from outbidding
    each other for ever, and is not forgotten for it (seed 1972: each took the other for the primary).
    """
    a = handing_over(primary("b", "c"))
    a.engine.inquiries.try_again(KEY)
    refused = m.Refuse(KEY, a.entry.number, place("a", ("b",)), Promise(2, CHOOSERS["c"]))
    assert not sent(a.hears("b", refused), m.Ask)
    ((_, ask), *_) = sent(a.wait(500, hearing=("b", "c")), m.Ask)
    assert ask.questions[0].promise.reign == 3


def handing_over(a: Turns) -> Turns:
    """a has handed its session over to b, which has not answered yet."""
    served_by(a, "b", 1, 2)
    a.wait(20, hearing=("b", "c"))
    assert (a.entry.role, a.entry.primary, a.entry.epoch.reign) == (Role.BACKUP, "b", 2)
    return a


@pytest.mark.parametrize(
    ("refuser", "location"),
    [
        ("b", place("a", ("b",))),
        ("b", Location("b", ("a",), Epoch(2, CHOOSERS["a"], 1))),
        ("c", place("a", ("b",), list_number=2)),
    ],
    ids=["the heir before it takes over", "the heir afterwards", "a backup that was released"],
)
def test_an_older_copy_that_is_refused_late_is_no_refusal_of_the_hand_over(refuser: str, location: Location) -> None:
    """S21, S28: who gave the session away asks for no reign, which would take it back in the middle of a request (seed
    5016), and sends the hand-over until its heir has it (profile refuse, seed 3015: it was sent once and lost, and
    each of both took the other for the primary)."""
    a = handing_over(primary("b", "c"))
    assert not sent(a.hears(refuser, m.Refuse(KEY, 101, location, Promise(1, CHOOSERS["a"]))), m.Ask)
    repeated = a.wait(120, hearing=("b", "c"))
    assert ("b", a.entry.number) in [(to, copy.number) for to, copy in sent(repeated, m.Replicate)]


def test_a_tombstone_is_sent_whoever_refuses_an_older_copy() -> None:
    """S04, S18: nothing that anybody knows stands against it."""
    a = primary("b", "c")
    ends = Commit(commit_id(2), SECRET, ends=True)
    a.asked(m.CommitRequest(0, KEY, ends, m.AcknowledgeMode.BACKUP), 2)
    a.hears("b", m.Refuse(KEY, 101, place("b", ("c",), reign=2), Promise(0, 0)))
    assert sent(a.wait(120, hearing=("b", "c")), m.Replicate)
    assert c.Reply(2, committed(102)) in a.hears("b", m.Acknowledge(KEY, 102, a.entry.context))


def test_a_tombstone_of_a_former_primary_counts_when_the_present_one_has_it() -> None:
    """S04, S25: b was replaced by c while it was cut off, and its user logged out there: c may show the session until
    it knows. So a, who holds it for c, takes the end, tells c, and says to b who is to be told (profile blink, seed
    4001). From c itself it is acknowledged."""
    theirs = new_session(1, "c", ("a",), START_MS, x=b"1")
    copy = backup_of(structs.replace(theirs, epoch=Epoch(2, CHOOSERS["c"], 1)))
    a = Turns("b", "c", entries={KEY: copy})
    before = new_session(1, "b", ("a",), START_MS, x=b"1")
    tombstone = whole(ended(before, START_MS), START_MS)
    commands = a.hears("b", m.Replicate(KEY, 9, tombstone))
    assert a.entry.ended
    assert sent(commands, m.Refuse) == [("b", m.Refuse(KEY, 9, copy.location, copy.promised))]
    assert sent(commands, m.Announce) == [("c", m.Announce(((KEY, a.entry.location),)))]
    assert not sent(commands, m.Acknowledge)
    assert not sent(a.hears("b", m.Replicate(KEY, 9, tombstone)), m.Acknowledge | m.Announce)
    assert sent(a.hears("c", m.Replicate(KEY, 9, tombstone)), m.Acknowledge)


def test_a_former_primary_waits_until_the_present_one_has_its_tombstone() -> None:
    """S04, S12, S25: the other side of it: the user is answered when c has it, whatever b has acknowledged."""
    a = primary("b", "c")
    ends = Commit(commit_id(2), SECRET, ends=True)
    a.asked(m.CommitRequest(0, KEY, ends, m.AcknowledgeMode.BACKUP), 2)
    commands = a.hears("b", m.Refuse(KEY, 102, place("c", ("b",), reign=2), Promise(0, 0)))
    assert [to for to, _ in sent(commands, m.Replicate)] == ["c"]
    assert "c" in [to for to, _ in sent(a.wait(120, hearing=("b", "c")), m.Replicate)], "and again"
    assert not [x for x in a.hears("b", m.Acknowledge(KEY, 102, a.entry.context)) if isinstance(x, c.Reply)]
    assert c.Reply(2, committed(102)) in a.hears("c", m.Acknowledge(KEY, 102, a.entry.context))


def test_a_session_that_moves_to_who_fetches_it_is_found() -> None:
    """S09, S28: a asks b for it as its proxy; before the answer leaves, b has handed it to a: what comes is the whole
    entry with a as its primary, and that is what the request is shown (seed 5016)."""
    theirs = new_session(1, "b", ("c",), START_MS, x=b"1")
    proxy = structs.replace(theirs, role=Role.PROXY, context={}, attributes={}, recent=(), number=0)
    a = Turns("b", "c", entries={KEY: proxy})
    ((to, fetch),) = sent(a.asked(FETCH), m.Fetch)
    assert to == "b"
    given = structs.replace(theirs, primary="a", backups=("b",), epoch=Epoch(2, CHOOSERS["b"], 1), number=9)
    answer = m.FetchAnswer(m.FetchOutcome.FOUND, "b")
    commands = a.hears("b", m.Fetched(fetch.request, answer, given.location, whole(given, START_MS)))
    (reply,) = [command for command in commands if isinstance(command, c.Reply)]
    assert isinstance(reply.answer, m.FetchAnswer) and reply.answer.entry is not None
    assert reply.answer.entry.shown("x") == b"1"
    assert reply.answer.entry.role is Role.PRIMARY
