"""Members that are configured otherwise: what differs is asked for, told, and refused where sessions could be lost."""

from __future__ import annotations

import pytest
from tests.commands.transcript import TOLD_ALL, Turns
from tests.making import KEY, LIVES

from understudy.protocol import commands as c
from understudy.protocol import messages as m
from understudy.protocol.commands import FactKind
from understudy.protocol.settings import digest_of

OURS = (("copies", "1"), ("forget", "1d"), ("lease_ms", "250ms"))
TWO_COPIES = (("copies", "2"), ("forget", "1d"), ("lease_ms", "250ms"))
LONGER_LEASE = (("copies", "1"), ("forget", "1d"), ("lease_ms", "1s"))
SOONER_FORGOTTEN = (("copies", "1"), ("forget", "1h"), ("lease_ms", "250ms"))


def sent(commands: list[c.Command], to: str) -> list[m.MemberMessage]:
    return [command.message for command in commands if isinstance(command, c.Send) and command.to == to]


def told(commands: list[c.Command]) -> list[c.Fact]:
    return [command.fact for command in commands if isinstance(command, c.Tell)]


def met(is_ready: bool = True) -> Turns:
    """Member a finds b, when it is ready or before."""
    a = Turns(agreed=OURS) if is_ready else Turns("b", joined=False, agreed=OURS)
    if is_ready:
        a.on(c.PeerFound("b", LIVES["b"]))
    return a


def beat(a: Turns, agreed: tuple[tuple[str, str], ...], ready: bool = True) -> list[c.Command]:
    return a.hears("b", m.Heartbeat(a.now_ms, ready=ready, agreed=digest_of(agreed)))


def described(a: Turns) -> tuple[list[str], bool]:
    (b,) = a.engine.describe()["members"]
    return b["differs"], b["unfit"]


def test_who_is_configured_alike_is_answered_at_once() -> None:
    """Nothing is asked, nothing told; and what we say of ourselves is that digest."""
    a = met()
    said = beat(a, OURS)
    assert [type(message) for message in sent(said, "b")] == [m.HeartbeatAck] and not told(said)
    first = sent(a.on(c.PeerFound("c", LIVES["c"])), "c")[0]
    assert isinstance(first, m.Heartbeat) and first.agreed == digest_of(OURS)


def test_a_difference_is_asked_for_and_told_once() -> None:
    """The digest is another one: the settings are asked for, with each heartbeat until they come, and no lease is
    given meanwhile; then both go on as members of one cluster, and people are told what differs."""
    a = met()
    for _ in range(2):
        assert sent(beat(a, TWO_COPIES), "b") == [m.AskSettings()]
    said = a.hears("b", m.ToldSettings(TWO_COPIES))
    (fact,) = told(said)
    assert fact.kind is FactKind.CONFIGURATION_DIFFERS and fact.detail == "copies is 2 there, 1 here"
    assert [type(message) for message in sent(beat(a, TWO_COPIES), "b")] == [m.HeartbeatAck]
    assert not told(a.hears("b", m.ToldSettings(TWO_COPIES))), "once"
    assert described(a) == (["copies is 2 there, 1 here"], False) and not a.engine.refusal


def test_settings_are_told_to_who_asks() -> None:
    """As they are here."""
    a = met()
    assert sent(a.hears("b", m.AskSettings()), "b") == [m.ToldSettings(OURS)]


@pytest.mark.parametrize("theirs", [LONGER_LEASE, SOONER_FORGOTTEN])
def test_who_counts_leases_or_deletions_otherwise_is_no_member_for_us(theirs: tuple[tuple[str, str], ...]) -> None:
    """S04, S25: it would believe in a lease for longer than we promise, or bring back what was ended: it is given no
    lease, its messages are not taken, it becomes suspect, and no copy goes there."""
    a = met()
    beat(a, theirs)
    a.hears("b", m.ToldSettings(theirs))
    assert sent(beat(a, theirs), "b") == []
    assert sent(a.hears("b", m.Locate(7, KEY)), "b") == []
    a.wait(300, hearing=[])
    assert not a.engine.members.place(KEY, 1)
    assert described(a)[1] and not a.engine.refusal, "who was there first stays"


@pytest.mark.parametrize(
    ("was_here", "is_here", "ends"), [(True, False, True), (False, False, False), (True, True, False)]
)
def test_who_joins_configured_that_way_ends(was_here: bool, is_here: bool, ends: bool) -> None:
    """S04, S25: it is not ready when it meets one that is: its agent is told to end, why, and what to do; also when it
    has become ready before the settings have come. Two that are equal stay, and are apart."""
    a = met(is_here)
    beat(a, LONGER_LEASE, ready=was_here)
    a.hears("b", TOLD_ALL)
    assert a.engine.ready
    beat(a, LONGER_LEASE)
    a.hears("b", m.ToldSettings(LONGER_LEASE))
    assert bool(a.engine.refusal) is ends
    if ends:
        assert "lease_ms is 1s there, 250ms here" in a.engine.refusal and "stop all members" in a.engine.refusal


def test_a_next_life_is_asked_anew() -> None:
    """It was started again with our settings: what differed is forgotten."""
    a = met()
    beat(a, LONGER_LEASE)
    a.hears("b", m.ToldSettings(LONGER_LEASE))
    a.on(c.PeerLost("b", LIVES["b"]))
    a.on(c.PeerFound("b", LIVES["b"] + 1))
    a.on(c.Received("b", LIVES["b"] + 1, m.Heartbeat(a.now_ms, agreed=digest_of(OURS))))
    assert described(a) == ([], False)
