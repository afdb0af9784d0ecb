"""What a member does not do while it doubts what it holds, and which answers do not end its doubt."""

from __future__ import annotations

from tests.commands.transcript import START_MS, Turns, sent, told, writing
from tests.making import KEY, LIVES, backup_of, moved, new_session, place

from understudy.protocol import commands as c
from understudy.protocol import messages as m
from understudy.protocol.commands import FactKind

MINE = moved(new_session(1, "a", ("b",), START_MS, x=b"1"), number=0)
NOTHING = m.Answer(KEY, m.Verdict.NOTHING)
COMPARED = c.Tell(c.Fact(FactKind.COMPARED))
FENCED = m.HeartbeatAck(START_MS, fence=1)


def scan_of(commands: list[c.Command]) -> c.Scan:
    """The scan with which a round of comparisons begins."""
    (scan,) = [x for x in commands if isinstance(x, c.Scan) and x.kind is c.ScanKind.ALL]
    return scan


def batch_of(a: Turns, commands: list[c.Command]) -> int:
    """The store gives the round's entries; the number of the comparison that b and c are asked for."""
    ((_, to_b), (_, to_c)) = sent(a.on(c.Scanned(scan_of(commands), (KEY,), False)), m.Compare)
    assert to_b == to_c
    return int(to_b.comparison)


def returned(a: Turns, name: str) -> list[c.Command]:
    """A member is lost and found again in the same life."""
    return a.on(c.PeerLost(name, LIVES[name])) + a.on(c.PeerFound(name, LIVES[name]))


def answered(a: Turns, comparison: int) -> list[c.Command]:
    return [x for name in "bc" for x in a.hears(name, m.Compared(comparison, (NOTHING,)))]


def test_an_answer_to_an_earlier_round_does_not_end_the_next() -> None:
    """S25, S27: b and c may have promised our session away since they were asked first: a lease behind that fence
    counts when they have answered what they were asked after it."""
    a = Turns("b", "c", entries={KEY: MINE})
    first = batch_of(a, a.hears("b", FENCED))
    again = returned(a, "c")
    assert COMPARED not in a.hears("b", m.Compared(first, (NOTHING,)))
    assert not a.engine.comparisons.is_compared(KEY)
    assert COMPARED in answered(a, batch_of(a, again))


def test_a_round_that_was_under_way_when_a_member_stood_still_ends_nowhere() -> None:
    """S25: the answers lay in the sockets all the while."""
    a = Turns("b", "c", entries={KEY: MINE})
    batch = batch_of(a, a.hears("b", FENCED))
    a.now_ms += 10_000
    a.tick()
    assert COMPARED not in answered(a, batch)
    assert not a.engine.comparisons.complete


def test_no_commit_is_made_unseen_in_doubt() -> None:
    """S25: c has come back and everything was compared, but b has said nothing since we stood still: a commit waits as
    a read does."""
    a = Turns("b", "c", entries={KEY: MINE})
    a.now_ms += 10_000
    a.tick()
    assert COMPARED in answered(a, batch_of(a, returned(a, "c")))
    assert not [x for x in a.asked(writing(2, x=b"2"), 2) if isinstance(x, c.Change | c.Reply)]
    assert a.entry.shown("x") == b"1"


def test_nothing_is_called_unknown_in_doubt() -> None:
    """S25, S29: b was asked before we stood still, has brought us the session meanwhile, and is gone for the moment:
    who asked is told nothing yet, and then looks here once more."""
    a = Turns("b")
    ((_, asked),) = sent(a.asked(m.FetchRequest(0, KEY), 2), m.Locate)
    assert asked.key == KEY
    a.entries[KEY] = backup_of(new_session(1, "b", ("a",), START_MS, x=b"1"))
    a.now_ms += 10_000
    commands = a.tick() + a.on(c.PeerLost("b", LIVES["b"])) + a.wait(100)
    assert not [x for x in commands if isinstance(x, c.Reply)]
    assert c.Read((KEY,), c.ServeJob(asked.request)) in commands


def test_nothing_expires_in_doubt() -> None:
    """S25, S44: its user may have gone on elsewhere while we stood still; that the only member who was asked is gone
    again says nothing."""
    a = Turns("b", entries={KEY: MINE})
    a.now_ms += 70_000
    a.tick()
    a.hears("b", m.Announce(((KEY, place("b", (), 2)),)))
    a.on(c.PeerLost("b", LIVES["b"]))
    due = c.Scanned(c.Scan(c.ScanKind.DUE, c.Reap()), (KEY,), False)
    assert a.on(due) == [c.Read((KEY,), c.Reap())]
    assert COMPARED in a.on(c.Scanned(scan_of(a.wait(3_000)), (KEY,), False))
    a.tick()
    assert told(FactKind.SESSION_EXPIRED) in a.on(due)


# --- members that are lost meanwhile ----------------------------------------------------------------------------------

THEIRS = backup_of(new_session(1, "b", ("a",), START_MS, x=b"1"))


def lost(commands: list[c.Command]) -> list[str]:
    return [x.fact.member for x in commands if isinstance(x, c.Tell) and x.fact.kind is FactKind.MEMBER_LOST]


def promotions(commands: list[c.Command]) -> list[c.Command]:
    return [x for x in commands if isinstance(x, c.Change) and isinstance(x.what, c.Promote)]


def test_who_has_answered_since_we_stood_still_is_not_lost_by_the_networks_word() -> None:
    """S25: the network of a machine that stood still takes all others for lost, somewhat late: what b went on with
    meanwhile would be shown here as it was before. That b is gone its silence shows."""
    a = Turns("b", "c", entries={KEY: THEIRS})
    a.now_ms += 10_000
    a.tick()
    for name in "bc":
        a.hears(name, m.HeartbeatAck(a.now_ms))
    a.now_ms += 30
    commands = [x for name in "bc" for x in a.on(c.PeerLost(name, LIVES[name]))]
    assert lost(commands) == [] and a.engine.members.reachable() == ["b", "c"]
    silent = a.wait(2 * a.settings.dead_ms, hearing=("c",))
    assert lost(silent) == ["b"]
    assert lost(a.on(c.PeerLost("c", LIVES["c"]))) == ["c"], "later its word counts again"


def test_who_has_not_answered_yet_is_lost_by_the_networks_word() -> None:
    """S25: b may have died while we stood still."""
    a = Turns("b", "c", entries={KEY: THEIRS})
    a.now_ms += 10_000
    a.tick()
    a.hears("c", m.HeartbeatAck(a.now_ms))
    assert lost(a.on(c.PeerLost("b", LIVES["b"]))) == ["b"]


def test_who_loses_all_others_before_it_has_compared_waits_again() -> None:
    """S26: b answered, and was gone before it had said what it knows: that nobody answered is no comparison."""
    a = Turns("b", entries={KEY: MINE}, joined=False, last_view=("b",))
    batch = a.on(c.Scanned(scan_of(a.hears("b", m.HeartbeatAck(a.now_ms))), (KEY,), False))
    assert sent(batch, m.Compare)
    assert COMPARED not in a.on(c.PeerLost("b", LIVES["b"])) and not a.engine.ready
    assert not [x for x in a.asked(m.FetchRequest(0, KEY), 2) if isinstance(x, c.Reply)]
    again = a.wait(a.settings.cold_start_ms)
    assert COMPARED in a.on(c.Scanned(scan_of(again), (KEY,), False)) and a.engine.ready


def test_what_was_answered_before_we_stood_still_makes_no_primary() -> None:
    """S25, S31: b was silent and c had been asked; now c is gone, too, and b may have gone on with others."""
    a = Turns("b", "c", entries={KEY: THEIRS})
    a.on(c.PeerLost("b", LIVES["b"]))
    assert sent(a.asked(m.FetchRequest(0, KEY), 2), m.Ask)
    a.now_ms += 10_000
    commands = a.tick() + a.on(c.PeerLost("c", LIVES["c"])) + a.wait(1_000)
    assert promotions(commands) == []
    a.on(c.Scanned(scan_of(a.wait(a.settings.cold_start_ms)), (KEY,), False))
    assert promotions(a.asked(m.FetchRequest(0, KEY), 3) + a.wait(1_000)), "in the end it is alone"
