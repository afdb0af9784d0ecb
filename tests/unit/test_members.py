"""Who is alive, the leases that members grant each other, and who may be chosen for a copy."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from understudy import limits
from understudy.protocol import commands as c
from understudy.protocol import messages as m
from understudy.protocol.core import Core
from understudy.protocol.members import Member, Members, Standing

KEY = b"k" * 16
LEASE_MS, DEAD_MS = 250, 5_000
BEAT_MS = LEASE_MS // 3
PROMISE_MS = 257
"""The lease, two percent for a clock that runs fast, and what whole milliseconds leave out."""


class View:
    """One member's view, on a clock that a test moves."""

    def __init__(self, *names: str, now_ms: int = 10_000, **settings: Any) -> None:
        self.core = Core(c.Settings("a", 101, 11, lease_ms=LEASE_MS, dead_ms=DEAD_MS, **settings))
        self.core.now_ms = now_ms
        self.members = Members(self.core)
        for name in names:
            self.members.found(name, 1)
        self.members.tick()
        self.core.take()

    def __getitem__(self, name: str) -> Member:
        member = self.members.get(name)
        assert member is not None
        return member

    def at(self, now_ms: int) -> list[Member]:
        """Move on, tick by tick as a running loop does; returns who has become dead at the last tick."""
        dead: list[Member] = []
        while self.core.now_ms < now_ms:
            self.core.now_ms = min(now_ms, self.core.now_ms + BEAT_MS)
            dead = self.members.tick()
        return dead

    def facts(self) -> list[c.Fact]:
        return [command.fact for command in self.core.take() if isinstance(command, c.Tell)]

    def standings(self) -> dict[str, Standing]:
        return {member.name: member.standing for member in self.members.all()}


# --- standing -------------------------------------------------------------------------------------------------------


def test_a_member_is_found_once() -> None:
    """The first time is news and is greeted; again is not."""
    view = View()
    found = view.members.found("b", 1)
    assert found is view["b"]
    assert view.core.take() == [
        c.Tell(c.Fact(c.FactKind.MEMBER_FOUND, member="b")),
        c.Send("b", m.Heartbeat(10_000, False, False)),
    ]
    assert view.members.found("b", 1) is None and view.core.take() == []


def test_silence_makes_a_member_suspect_after_a_lease_and_dead_after_the_time_for_it() -> None:
    """S22, S31: not a millisecond before either; suspect is reachable, not alive; death is reported at each tick
    until the loss is noted."""
    view = View("b")
    view.at(10_000 + LEASE_MS)
    assert view.standings() == {"b": Standing.ALIVE}
    view.at(10_001 + LEASE_MS)
    assert view.standings() == {"b": Standing.SUSPECT}
    assert view.members.is_reachable("b") and not view.members.is_alive("b")
    assert view.facts() == [c.Fact(c.FactKind.MEMBER_SUSPECTED, member="b")]
    assert view.at(10_000 + DEAD_MS) == []
    assert view.at(10_001 + DEAD_MS) == [view["b"]]


def test_an_answered_heartbeat_makes_a_suspect_alive() -> None:
    """S41: at once, and its silence counts anew, from when that heartbeat was sent; one that is too old does not."""
    view = View("b")
    view.at(10_001 + LEASE_MS)
    view.members.granted(view["b"], 10_000)
    assert not view.members.is_alive("b")
    view.members.granted(view["b"], 10_001 + LEASE_MS)
    assert view.members.is_alive("b")
    view.at(10_001 + 2 * LEASE_MS)
    assert view.members.is_alive("b")


def test_who_is_heard_but_does_not_answer_is_suspect_and_not_dead() -> None:
    """S40: a cut of one direction: its words arrive, ours do not; nobody waits for its answers, and it lives."""
    view = View("b")
    for now_ms in range(10_100, 10_000 + 2 * DEAD_MS, 100):
        view.members.heard("b")
        assert view.at(now_ms) == []
    assert view.standings() == {"b": Standing.SUSPECT}


def test_only_who_answered_a_heartbeat_just_now_is_heard() -> None:
    """S31: one lost answer is borne, two are not, long before the member is suspect."""
    view = View("b", "c")
    view.at(10_000 + 2 * BEAT_MS)
    view.members.granted(view["b"], 10_000 + BEAT_MS)
    assert view.members.hears("b") and view.members.hears("c")
    view.at(10_000 + 3 * BEAT_MS)
    assert view.members.hears("b") and not view.members.hears("c")
    assert view.members.is_alive("c") and not view.members.hears("z")


def test_a_link_that_comes_and_goes_is_given_time() -> None:
    """S41: not after the first and second return within half a minute; after the third a little, then more and more,
    up to a bound; and half a minute later none."""
    view = View("b")
    waits: list[int] = []
    for _ in range(9):
        view.members.lost("b", 1)
        waits.append(max(0, view.members.patience_until_ms("b") - view["b"].heard_ms))
        view.core.now_ms += 10
        view.members.found("b", 1)
    assert waits == [0, 0, 0, 100, 200, 400, 800, 800, 800]
    view.members.lost("b", 1)
    view.core.now_ms += 30_000
    assert view.members.patience_until_ms("b") == view.members.patience_until_ms("z") == 0


def test_the_dead_are_called_once_a_second() -> None:
    """S40: two members may believe each other dead while the network says nothing: each finds out that it is not so."""
    view = View("b")
    view.members.lost("b", 1)
    view.core.take()
    view.at(13_000)
    assert 2 <= len([x for x in view.core.take() if isinstance(x, c.Send)]) <= 3


def test_a_life_that_follows_another_keeps_promises_that_it_does_not_know() -> None:
    """S25, S26: the earlier life may have granted a lease a moment before it died."""
    view = View("b")
    view.members.keep_earlier_promises()
    assert view.members.hold_until_ms(["b"]) == view.members.hold_until_ms([]) == 10_000 + PROMISE_MS


def test_standing_still_is_not_anothers_silence() -> None:
    """S25, S36: our own loop did not run for ten seconds: nobody is suspect for that, but silence goes on counting."""
    view = View("b")
    view.core.now_ms += 10_000
    assert view.members.tick() == [] and view.standings() == {"b": Standing.ALIVE}
    view.at(view.core.now_ms + LEASE_MS + 1)
    assert view.standings() == {"b": Standing.SUSPECT}


def test_late_words_of_a_lost_life_show_no_life() -> None:
    """S22: what was under way when the network said that it is gone: only the answer to a heartbeat that was sent since
    then shows that it is there."""
    view = View("b")
    assert view.members.lost("b", 1)
    b, now = view["b"], view.core.now_ms
    for late in (m.Heartbeat(now + 1), m.HeartbeatAck(now), m.Acknowledge(KEY, 1, {})):
        assert not b.shows_life(late)
    assert b.shows_life(m.HeartbeatAck(now + 1))


def test_a_lost_life_is_dead_and_one_that_left_has_left() -> None:
    """S34: the difference is what it had announced; neither is reachable, a second notice is no news."""
    view = View("b", "c")
    view.members.heartbeat(view["c"], m.Heartbeat(0, leaving=True))
    assert view.members.lost("b", 1) and view.members.lost("c", 1)
    assert view.standings() == {"b": Standing.DEAD, "c": Standing.LEFT}
    assert view.members.reachable() == [] and view.members.view() == ("a",)
    assert not view.members.lost("b", 1)


def test_the_loss_of_an_earlier_life_is_no_loss() -> None:
    """S26: the name has a new incarnation; late news of the old one changes nothing; nor does news of a stranger."""
    view = View("b")
    view.members.found("b", 2)
    assert not view.members.lost("b", 1) and not view.members.lost("z", 1)
    assert view.members.is_alive("b")


def test_a_new_life_begins_anew() -> None:
    """S26: it has granted nothing, is neither ready nor leaving; the promise to its name's workers stands."""
    view = View("b")
    view.members.heartbeat(view["b"], m.Heartbeat(0, leaving=True, ready=True))
    view.members.granted(view["b"], 10_000)
    view.members.found("b", 2)
    new = view["b"]
    assert (new.incarnation, new.granted_until_ms, new.leaving, new.ready) == (2, 0, False, False)
    assert new.promised_until_ms == 10_000 + PROMISE_MS


def test_a_life_that_was_cut_off_returns() -> None:
    """S40: the same incarnation again is alive again, and that is told."""
    view = View("b")
    view.members.lost("b", 1)
    view.core.take()
    assert view.members.found("b", 1) is view["b"]
    assert view.facts() == [c.Fact(c.FactKind.MEMBER_RETURNED, member="b")]


def test_the_view_is_bounded() -> None:
    """More members than the limit are not taken in; those that are known still return and change lives."""
    view = View(*(f"m{i}" for i in range(limits.MEMBERS_MAX)))
    assert view.members.found("one more", 1) is None
    assert view.members.found("m5", 2) is not None


# --- leases ---------------------------------------------------------------------------------------------------------


def test_a_lease_counts_from_when_the_heartbeat_was_sent() -> None:
    """S25: the acknowledgement was long under way: what it grants is the rest."""
    view = View("b")
    view.members.may_publish = True
    view.members.granted(view["b"], 9_900)
    assert view.core.take() == [c.Publish("b", 9_900 + LEASE_MS)]
    view.core.now_ms = 9_899 + LEASE_MS
    assert view.members.has_lease(["b"])
    view.core.now_ms = 9_900 + LEASE_MS
    assert not view.members.has_lease(["b"])


def test_a_lease_is_never_shortened() -> None:
    """S15: an older acknowledgement that comes late changes and publishes nothing."""
    view = View("b")
    view.members.may_publish = True
    view.members.granted(view["b"], 9_990)
    view.core.take()
    view.members.granted(view["b"], 9_900)
    assert view.core.take() == [] and view["b"].granted_until_ms == 9_990 + LEASE_MS


def test_a_heartbeat_from_the_future_grants_nothing() -> None:
    """S47, S53: nobody can answer what was not sent yet."""
    view = View("b")
    view.members.may_publish = True
    view.members.granted(view["b"], 10_001)
    assert view["b"].granted_until_ms == 0 and view.core.take() == []


def test_a_lease_is_needed_from_each_and_from_nobody() -> None:
    """One backup without a lease is enough to ask; a session without backups needs none; a stranger has granted
    none."""
    view = View("b", "c")
    view.members.granted(view["b"], 10_000)
    assert view.members.has_lease(["b"]) and view.members.has_lease([])
    assert not view.members.has_lease(["b", "c"]) and not view.members.has_lease(["z"])


def test_workers_are_told_of_leases_only_when_they_may_serve() -> None:
    """S27: before the comparison nothing is published; then everything that still runs."""
    view = View("b", "c")
    view.members.granted(view["b"], 10_000)
    view.members.granted(view["c"], 9_700)
    assert view.core.take() == []
    view.members.publish_all()
    assert view.core.take() == [c.Publish("b", 10_000 + LEASE_MS)]


def test_who_acknowledges_a_heartbeat_promises_a_lease_long() -> None:
    """S25: counted from now, which is later than when it was sent; the acknowledgement echoes the sender's instant."""
    view = View("b", "c")
    view.members.heartbeat(view["b"], m.Heartbeat(77))
    assert view.core.take() == [c.Send("b", m.HeartbeatAck(77))]
    assert view.members.hold_until_ms(["b"]) == 10_000 + PROMISE_MS
    assert view.members.hold_until_ms(["c"]) == view.members.hold_until_ms(["z"]) == 0
    view.core.now_ms = 10_100
    view.members.heartbeat(view["c"], m.Heartbeat(78))
    assert view.members.hold_until_ms(["b", "c"]) == 10_100 + PROMISE_MS


def test_a_promise_outlives_the_member_it_was_given_to() -> None:
    """S25: the loss of a member is no reason to believe that its workers have stopped reading."""
    view = View("b")
    view.members.heartbeat(view["b"], m.Heartbeat(0))
    view.members.lost("b", 1)
    assert view.members.hold_until_ms(["b"]) == 10_000 + PROMISE_MS


def test_heartbeats_are_sent_three_a_lease_to_whoever_can_be_reached() -> None:
    """S22: also to suspects, never to the dead; between two none."""
    view = View("b", "c", "d")
    view.members.lost("c", 1)
    view.core.take()
    view.core.now_ms = view.members.deadline_ms() - 1
    view.members.tick()
    assert view.core.take() == []
    view.core.now_ms += 1
    view.members.tick()
    beat = m.Heartbeat(10_000 + BEAT_MS, False, False)
    assert view.core.take() == [c.Send("b", beat), c.Send("d", beat)]


def test_leaving_is_news_once() -> None:
    """S34: the first heartbeat that says so; each still gets its lease."""
    view = View("b")
    assert view.members.heartbeat(view["b"], m.Heartbeat(1, leaving=True))
    assert not view.members.heartbeat(view["b"], m.Heartbeat(2, leaving=True))
    assert view["b"].leaving


# --- how long a message was under way -------------------------------------------------------------------------------


def test_the_age_of_a_message_is_told_from_the_quickest_heartbeat() -> None:
    """S15, S47: whatever the two clocks read; without a heartbeat nothing is known and nothing is late."""
    view = View("b")
    assert view["b"].age_ms(10_000, 5) == 0
    view["b"].note_transit(10_000, 500_000)
    view["b"].note_transit(10_100, 500_095)
    assert view["b"].age_ms(12_000, 500_500) == 1_500
    assert view["b"].age_ms(10_500, 500_500) == 0


def test_clocks_that_drift_are_followed() -> None:
    """Of the quickest heartbeats only those of the last two windows count."""
    member = View("b")["b"]
    member.note_transit(0, 0)
    for minute in range(1, 4):
        member.note_transit(60_000 * minute, 60_000 * minute - 10 * minute)
    assert member.age_ms(180_000, 180_000 - 30) == 10


# --- placement ------------------------------------------------------------------------------------------------------


def test_a_copy_is_never_placed_here_nor_where_it_may_not_be() -> None:
    """S21, S34: not on itself, on suspects, the dead, the leaving, or whoever holds one already."""
    view = View("b", "c", "d", "e", "f")
    view.members.lost("b", 1)
    view.members.heartbeat(view["c"], m.Heartbeat(0, leaving=True))
    view["d"].standing = Standing.SUSPECT
    assert {view.members.place(KEY, 5, exclude=("e",)) for _ in range(8)} == {("f",)}
    assert view.members.place(KEY, 1, exclude=("e", "f")) == ()


def test_copies_are_spread_evenly() -> None:
    """S37: three hundred sessions over three peers: a hundred each."""
    view = View("b", "c", "d")
    assert Counter(view.members.place(KEY, 1)[0] for _ in range(300)) == {"b": 100, "c": 100, "d": 100}


@pytest.mark.parametrize(("count", "given"), [(0, 0), (1, 1), (2, 2), (3, 2)])
def test_there_are_no_more_copies_than_peers(count: int, given: int) -> None:
    """Fewer are given where there are fewer."""
    assert len(View("b", "c").members.place(KEY, count)) == given


def test_a_copy_goes_to_another_zone_if_there_is_one() -> None:
    """S37: members say their zones in their heartbeats; a zone that holds a copy already comes last, a dead holder's
    zone is free again."""
    view = View("b", "c", "d", zone="x")
    for name, zone in (("b", "x"), ("c", "y"), ("d", "z")):
        view.members.heartbeat(view[name], m.Heartbeat(0, zone=zone))
    assert {view.members.place(KEY, 1)[0] for _ in range(6)} == {"c", "d"}
    assert {view.members.place(KEY, 1, exclude=("c",))[0] for _ in range(6)} == {"d"}
    view.members.heartbeat(view["d"], m.Heartbeat(0, zone="y"))
    assert {view.members.place(KEY, 1, exclude=("c",))[0] for _ in range(6)} == {"b", "d"}
    view.members.lost("c", 1)
    assert {view.members.place(KEY, 1, exclude=("c",))[0] for _ in range(6)} == {"d"}


def test_a_place_is_presumed_only_where_it_is_computed() -> None:
    """With round-robin somebody must tell; with rendezvous the key gives ``copies`` + 1 members, which may be us."""
    assert View("b", "c", "d").members.presumed(KEY) == ()
    view = View("b", "c", "d", placement="rendezvous")
    everybody = {name for n in range(64) for name in view.members.presumed(bytes([n]) * 16)}
    assert everybody == {"b", "c", "d"}
    assert {len(view.members.presumed(bytes([n]) * 16)) for n in range(64)} == {1, 2}
