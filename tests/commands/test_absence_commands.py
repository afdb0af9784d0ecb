"""A member whose store was away for longer than deletions are remembered."""

from __future__ import annotations

from msgspec.structs import replace
from tests.commands.transcript import START_MS, Turns, creation, sent
from tests.making import KEY, LIVES, backup_of, new_session

from understudy.protocol import commands as c
from understudy.protocol import messages as m
from understudy.protocol.commands import FactKind

FORGET_MS = 10_000
AWAY = c.Started(("a", "b"), True, True, alive_ms=START_MS - FORGET_MS - 1, since_ms=1)
COPY = backup_of(new_session(1, "b", ("a",), 1_000, x=b"1"))
OTHERS = {bytes([n]) * 16: COPY for n in range(3)}
DISCARD = c.Scan(c.ScanKind.ALL, c.DiscardAll())
OUTDATED = c.Tell(c.Fact(FactKind.STORE_OUTDATED))


def returned(started: c.Started = AWAY, **entries: object) -> Turns:
    """a has just started over its old store; nobody was met yet."""
    a = Turns("b", entries={KEY: COPY, **OTHERS}, joined=False, forget_ms=FORGET_MS)
    a.engine = type(a.engine)(a.settings)
    a.on(started)
    a.on(c.PeerFound("b", LIVES["b"]))
    return a


def remembers(ms: int) -> m.Heartbeat:
    return m.Heartbeat(7, remembers_ms=ms)


def scanned(a: Turns, scan: c.Scan, more: bool = False) -> list[c.Command]:
    return a.on(c.Scanned(scan, tuple(sorted(a.entries))[:2] if more else tuple(sorted(a.entries)), more))


def test_what_is_too_old_is_discarded_before_anything_is_said() -> None:
    """S04: b was there all the time: everything here goes, in batches, then a joins as an empty member."""
    a = returned()
    assert a.hears("b", remembers(FORGET_MS + 1)) == [OUTDATED, DISCARD], "and the heartbeat is not answered"
    assert scanned(a, DISCARD, more=True)[-1] == replace(DISCARD, after=sorted([KEY, *OTHERS])[1])
    assert len(a.entries) == 2
    commands = scanned(a, DISCARD)
    assert not a.entries and a.engine.comparisons.complete
    assert c.Note("since", b"%d" % START_MS) in commands
    assert [to for to, _ in sent(a.hears("b", remembers(FORGET_MS + 1)), m.HeartbeatAck)] == ["b"]


def test_until_then_nothing_is_answered_and_nothing_taken() -> None:
    """S04: no peer learns of an old entry, none of what they send is merged with one, no new session falls to it."""
    a = returned()
    assert a.hears("b", m.Ask(7, (m.Question(KEY, m.Promise(2, 12), {}, COPY.location),))) == []
    assert a.hears("b", m.Compare(8, (m.Item(KEY, COPY.epoch, {}),))) == []
    assert a.hears("b", m.Announce(((KEY, COPY.location),))) == []
    assert a.asked(creation(x=b"1")) == []
    assert not [x for x in a.wait(100) if isinstance(x, c.Reply | c.Change)]


def test_a_peer_that_was_away_as_long_has_forgotten_nothing_else() -> None:
    """S35: everything had stopped: after the cold start a believes its store, and compares it as ever."""
    a = returned()
    a.hears("b", remembers(FORGET_MS - 1))
    a.hears("b", m.HeartbeatAck(a.now_ms))
    assert c.Scan(c.ScanKind.ALL, c.CompareAll(1)) not in a.wait(2_980)
    assert c.Scan(c.ScanKind.ALL, c.CompareAll(1)) in a.wait(40)
    assert len(a.entries) == 4


def test_a_shorter_absence_is_none() -> None:
    """S27: as after any restart: the store is compared; memory goes on from where it began."""
    a = returned(replace(AWAY, alive_ms=START_MS - FORGET_MS))
    assert OUTDATED not in a.hears("b", remembers(10 * FORGET_MS))
    a.hears("b", m.HeartbeatAck(a.now_ms))
    assert a.engine.members.since_ms == 1 and not a.engine.members.outdated


def test_it_is_noted_once_a_minute_that_a_member_lives() -> None:
    """S04, S07: not more often; and not while its store is not believed: its next life must not believe it either."""
    a = Turns("b")
    notes = [x for x in a.wait(180_000, hearing=("b",)) if isinstance(x, c.Note) and x.name == "alive"]
    assert len(notes) == 3
    a = returned()
    assert not [x for x in a.wait(2_000) if isinstance(x, c.Note)]


def test_who_has_joined_remembers_as_far_as_its_peers() -> None:
    """S04: a new member is told everything: it may say that it remembers what they do."""
    a = Turns("b", joined=False)
    a.hears("b", remembers(5_000))
    a.hears("b", m.HeartbeatAck(a.now_ms))
    a.wait(3_100, hearing=("b",))
    assert a.engine.ready and a.now_ms - a.engine.members.since_ms >= 5_000
