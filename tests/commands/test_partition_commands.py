"""``partition = "refuse"``: a side without the majority of the expected members changes nothing, and says so."""

from __future__ import annotations

import pytest
from tests.commands.transcript import START_MS, Turns, committed, creation, sent, told, writing
from tests.making import KEY, LIVES, SECRET, backup_of, commit_id, moved, new_session, place, proxy, sibling

from understudy.model.commit import Commit, Outcome
from understudy.model.entry import Role
from understudy.protocol import commands as c
from understudy.protocol import messages as m
from understudy.protocol.commands import FactKind

A, B = LIVES["a"], LIVES["b"]
FETCH = m.FetchRequest(0, KEY)
MINORITY = m.CommitAnswer(Outcome.MINORITY)
UNAVAILABLE = m.FetchAnswer(m.FetchOutcome.UNAVAILABLE)


def cut_off(a: Turns, *names: str) -> Turns:
    for name in names:
        a.on(c.PeerLost(name, LIVES[name]))
    return a


def replies(commands: list[c.Command]) -> list[object]:
    return [command.answer for command in commands if isinstance(command, c.Reply)]


@pytest.mark.parametrize(
    ("expected", "lost", "refuses"), [(3, "c", False), (3, "bc", True), (4, "bc", True), (0, "bc", False)]
)
def test_a_side_refuses_changes_unless_it_is_the_majority(expected: int, lost: str, refuses: bool) -> None:
    """S39, S42: of three the two go on and the one refuses; half of four is no majority; under "serve" all go on."""
    a = cut_off(Turns("b", "c", members_expected=expected).with_session(), *lost)
    said = replies(a.asked(writing(2, x=b"2"), 2))
    assert MINORITY not in said, "a lost heartbeat is no cut"
    said += replies(a.wait(300, hearing=[name for name in "bc" if name not in lost]))
    assert (MINORITY in said) == refuses
    assert (a.entry.shown("x") == b"1") == refuses


def test_a_new_session_is_refused_too() -> None:
    """S39: also one without `unprotected = "refuse"`."""
    a = cut_off(Turns("b", "c", members_expected=3), "b", "c")
    a.asked(creation(x=b"1"))
    assert replies(a.wait(300)) == [MINORITY] and not a.entries


def test_it_serves_again_when_the_others_are_back() -> None:
    """S39: by itself, from the first answered heartbeat on; a request that waited is committed, not refused."""
    a = cut_off(Turns("b", "c", members_expected=3).with_session(), "b", "c")
    a.asked(writing(2, x=b"2"), 2)
    a.wait(100)
    a.on(c.PeerFound("b", B))
    scan = c.Scan(c.ScanKind.ALL, c.CompareAll(1))
    (compare,) = sent(a.on(c.Scanned(scan, (KEY,), False)), m.Compare)
    a.hears("b", m.Compared(compare[1].comparison, (m.Answer(KEY, m.Verdict.NOTHING),)))
    a.wait(60, hearing=("b",))
    assert replies(a.hears("b", m.Acknowledge(KEY, a.entry.number, {A: a.number}))) == [committed(a.entry.number)]


def test_a_minority_shows_only_what_its_backups_vouch_for() -> None:
    """S39: the majority may have changed it: without the backups' word a read is unavailable, too; under "serve" it is
    shown."""
    a = cut_off(Turns("b", "c", members_expected=3).with_session(), "b", "c")
    a.asked(FETCH, 2)
    assert replies(a.wait(300)) == [UNAVAILABLE]
    a = cut_off(Turns("b", "c", "d", members_expected=5).with_session(acknowledged_by="d"), "b", "c")
    a.hears("d", m.HeartbeatAck(a.now_ms))
    assert replies(a.asked(FETCH, 2)) == [m.FetchAnswer(m.FetchOutcome.HERE, "a")]


def test_a_minority_promotes_nobody() -> None:
    """S39: the primary is on the other side, and stays it; the answer is an error, never "unknown"."""
    held = backup_of(new_session(1, "b", ("a",), START_MS, x=b"1"))
    a = cut_off(Turns("b", "c", "d", entries={KEY: held}, members_expected=5), "b", "c")
    a.asked(writing(2, x=b"2"), 2)
    assert replies(a.wait(300, hearing=("d",))) == [MINORITY]
    a.asked(FETCH, 3)
    assert replies(a.wait(300, hearing=("d",))) == [UNAVAILABLE]
    assert a.entry is held


def test_a_side_that_has_become_a_minority_meanwhile_promotes_nobody() -> None:
    """S39: asked as a majority; then c falls silent, too."""
    held = backup_of(new_session(1, "b", ("a",), START_MS, x=b"1"))
    a = cut_off(Turns("b", "c", entries={KEY: held}, members_expected=3), "b")
    assert sent(a.asked(FETCH, 3), m.Ask)
    assert told(FactKind.PROMOTION_DROPPED, "a", "this side is a minority") in a.wait(300)
    assert a.entry.role is Role.BACKUP


def test_a_minority_believes_nothing_lost() -> None:
    """S29, S39: holders that are all gone may be on the other side: their sessions are neither dropped nor unknown."""
    a = cut_off(Turns("b", "c", entries={KEY: proxy("b", ("c",))}, members_expected=3), "b", "c")
    scan = c.Scan(c.ScanKind.MEMBER, c.Recheck("b"), member="b")
    assert a.on(c.Scanned(scan, (KEY,), False)) == [c.Read((KEY,), c.Recheck("b"))]
    a.asked(FETCH, 2)
    assert replies(a.wait(2_100)) == [UNAVAILABLE]


def test_a_minority_expires_nothing() -> None:
    """S39, S44: its time is over as far as this side knows; on the other side it may have been used since."""
    a = Turns("b", "c", members_expected=3).with_session()
    a.entries[KEY] = moved(a.entry, times=moved(a.entry.times, accessed_ms=a.now_ms - 60_000))
    cut_off(a, "b", "c")
    assert a.on(c.Scanned(c.Scan(c.ScanKind.DUE, c.Reap()), (KEY,), False)) == [c.Read((KEY,), c.Reap())]
    a.asked(FETCH, 2)
    assert replies(a.wait(300)) == [UNAVAILABLE]
    assert a.entry.role is Role.PRIMARY


def test_concurrent_values_are_reported_with_their_number() -> None:
    """S38: what a deposed primary contributes stands beside what was written here: two attributes, told once."""
    a = Turns("b", "c").with_session()
    a.asked(writing(2, x=b"2", y=b"2"), 2)
    a.hears("b", m.Acknowledge(KEY, 102, {A: 102}))
    base = new_session(1, "a", ("b",), START_MS, x=b"1")
    theirs = {name: (sibling("b", 7, b"7"),) for name in ("x", "y")}
    delta = a.delta({})
    delta = type(delta)({A: 101}, {A: 101, B: 7}, place("a", ("b",)), theirs, {}, (), 0, 0, -1, 60_000, 0)
    commands = a.hears("b", m.Contribute(KEY, 9, delta))
    assert told(FactKind.VALUES_CONCURRENT, detail="2 attributes") in commands
    assert a.entry.shown("x") in (b"2", b"7") and len(a.entry.attributes["x"]) == 2 and base
    assert not [x for x in a.hears("b", m.Contribute(KEY, 9, delta)) if isinstance(x, c.Tell)]


def test_a_change_that_was_stored_before_the_cut_was_noticed_is_doubtful() -> None:
    """S39: no answer leaves that the other side may know nothing of, but it may have been written all the same."""
    a = Turns("b", "c", members_expected=3).with_session()
    a.asked(writing(2, x=b"2"), 2)
    said = [x for name in "bc" for x in replies(a.on(c.PeerLost(name, LIVES[name])))] + replies(a.wait(40))
    assert said == [m.CommitAnswer(Outcome.MINORITY, unsure=True)] and a.entry.shown("x") == b"2"


def test_an_end_that_was_stored_before_the_cut_was_noticed_is_doubtful() -> None:
    """S04, S39: the other side goes on with the session until the cut is over, so nobody is told here that it has
    ended: neither who ended it, nor in a request beside that, nor later, nor by a worker that looks itself."""
    a = Turns("b", "c", members_expected=3).with_session()
    a.asked(m.CommitRequest(0, KEY, Commit(commit_id(2), SECRET, ends=True), m.AcknowledgeMode.BACKUP), 2)
    a.asked(FETCH, 3)
    a.asked(writing(3, x=b"2"), 4)
    cut_off(a, "b", "c")
    said = replies(a.wait(300)) + replies(a.asked(FETCH, 5)) + replies(a.wait(300))
    doubtful = m.CommitAnswer(Outcome.MINORITY, unsure=True)
    assert doubtful in said and said.count(UNAVAILABLE) == 2 and said.count(MINORITY) == 1 and len(said) == 4
    assert a.entry.ended and a.outbox == {102}, "who asks the store is sent on to the agent"


def test_an_end_that_a_minority_kept_for_itself_is_told_when_the_cut_is_over() -> None:
    """S04, S39: b takes the tombstone, and everybody is told."""
    a = Turns("b", "c", members_expected=3).with_session()
    a.asked(m.CommitRequest(0, KEY, Commit(commit_id(2), SECRET, ends=True), m.AcknowledgeMode.BACKUP), 2)
    cut_off(a, "b", "c")
    a.wait(300)
    recover = c.Scan(c.ScanKind.OUTBOX, c.Recover())
    assert recover in a.on(c.PeerFound("b", B))
    found = a.on(c.Scanned(recover, (KEY,), False, (102,), (True,)))
    assert [to for to, _ in sent(found, m.Replicate)] == ["b"]
    a.hears("b", m.Acknowledge(KEY, 102, {A: 102}))
    a.wait(60, hearing=("b",))
    assert not a.outbox and replies(a.asked(FETCH, 3)) == [m.FetchAnswer(m.FetchOutcome.ENDED)]


def of_five(copies: int = 1) -> Turns:
    """a with a session, which its backups have acknowledged, in a cluster of five."""
    a = Turns("b", "c", "d", "e", copies=copies, members_expected=5)
    a.asked(creation(x=b"1"))
    for backup in a.entry.backups:
        a.hears(backup, m.Acknowledge(KEY, 101, {A: 101}))
    assert not a.outbox
    return a


def alone_with(a: Turns, name: str) -> Turns:
    return cut_off(a, *(other for other in "bcde" if other != name))


def test_a_minority_needs_the_word_of_every_backup() -> None:
    """S39: one may be primary on the other side, whatever the other says, who is here."""
    a = of_five(copies=2)
    here, _ = a.entry.backups
    alone_with(a, here)
    a.now_ms += 1
    ((to, compare),) = sent(a.asked(FETCH, 2), m.Compare)
    assert to == here
    said = a.hears(here, m.Compared(compare.comparison, (m.Answer(KEY, m.Verdict.NOTHING),)))
    assert replies(said + a.wait(300, hearing=(here,))) == [UNAVAILABLE]


def test_a_minority_gives_up_no_backup() -> None:
    """S39, S42: not by the sweep after its loss, or the entry would be shown without its word; it takes no other one
    either. The entry is looked at again, for the cut may be over."""
    a = of_five()
    (lost,) = a.entry.backups
    alone_with(a, "b" if lost != "b" else "c")
    scan = c.Scan(c.ScanKind.MEMBER, c.Recheck(lost), member=lost)
    a.on(c.Scanned(scan, (KEY,), False))
    assert a.entry.backups == (lost,)
    assert scan in a.wait(3_100, hearing=("b", "c"))


def test_a_minority_releases_nobody_when_a_newer_backup_has_everything() -> None:
    """S39: that one was chosen for the silence of the first, before the cut was noticed: each keeps its place."""
    a = of_five()
    a.asked(writing(2, x=b"2"), 2)
    a.wait(110, hearing="bcde")
    listed = a.entry.backups
    assert len(listed) == 2
    alone_with(a, listed[1])
    a.hears(listed[1], m.Acknowledge(KEY, a.entry.number, a.entry.context))
    a.wait(300, hearing=listed[1:])
    assert set(listed) <= set(a.entry.backups)
