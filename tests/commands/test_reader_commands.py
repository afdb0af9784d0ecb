"""DeltaManager: a copy on every member, read in place under a lease of the primary."""

from __future__ import annotations

from tests.commands.transcript import START_MS, STEP_MS, Turns, committed, creation, sent, writing
from tests.making import KEY, LIVES, after, backup_of, moved, new_session, place, sets, whole

from understudy.model.delta import delta_since
from understudy.model.entry import Role
from understudy.protocol import commands as c
from understudy.protocol import messages as m

A, B, C = LIVES["a"], LIVES["b"], LIVES["c"]
THEIRS = new_session(1, "b", ("a", "c"), START_MS, x=b"1")
COPY = backup_of(THEIRS)


def cluster(*peers: str) -> Turns:
    """Member a, which has brought each peer everything (it has nothing yet)."""
    a = Turns(*peers, everywhere=True)
    for name in peers:
        number = a.engine.replication.readers._sweeps[name]
        scan = c.Scan(c.ScanKind.MEMBER, c.BringAll(name, number), member="a")
        a.on(c.Scanned(scan, (), False))
    a.wait(300, hearing=peers)  # until leases of an earlier life are over
    return a


def acknowledges(a: Turns, number: int, *names: str) -> list[c.Command]:
    commands: list[c.Command] = []
    for name in names:
        commands += a.hears(name, m.Acknowledge(KEY, number, {A: number}))
    return commands


def with_session(a: Turns) -> Turns:
    a.asked(creation(x=b"1"))
    acknowledges(a, 101, "b", "c")
    a.wait(STEP_MS)
    assert not a.outbox
    return a


def test_every_other_member_gets_a_copy() -> None:
    """S21: of a new session at once."""
    a = cluster("b", "c", "d")
    assert {to for to, _ in sent(a.asked(creation(x=b"1")), m.Replicate)} == {"b", "c", "d"}
    assert set(a.entry.backups) == {"b", "c", "d"}


def test_a_heartbeat_of_a_current_member_is_answered_with_a_read_lease() -> None:
    """S25: from one that was brought everything; not yet from one that has just been found."""
    a = cluster("b", "c")
    assert a.hears("b", m.Heartbeat(7)) == [c.Send("b", m.HeartbeatAck(7, reads=True))]
    a.on(c.PeerFound("d", LIVES["d"]))
    assert sent(a.hears("d", m.Heartbeat(8)), m.HeartbeatAck) == [("d", m.HeartbeatAck(8))]


def test_without_delta_manager_there_are_no_read_leases() -> None:
    """BackupManager's acknowledgements grant what they always did."""
    assert Turns("b").hears("b", m.Heartbeat(7)) == [c.Send("b", m.HeartbeatAck(7))]


def test_a_change_is_acknowledged_when_all_readers_have_it() -> None:
    """S12: two members hold read leases: one acknowledgement is not enough, two are; then both may show it."""
    a = with_session(cluster("b", "c"))
    for name in ("b", "c"):
        a.hears(name, m.Heartbeat(a.now_ms))
    a.asked(writing(2, x=b"2"))
    assert acknowledges(a, 102, "b") == []
    commands = acknowledges(a, 102, "c")
    assert c.Reply(1, committed(102)) in commands
    assert sent(commands, m.Confirm) == [(name, m.Confirm(((KEY, {A: 102}),))) for name in ("b", "c")]


def test_who_holds_no_lease_is_not_waited_for() -> None:
    """S21: one copy protects; a member whose lease has run out shows nothing in place."""
    a = with_session(cluster("b", "c"))
    a.hears("b", m.Heartbeat(a.now_ms))
    a.asked(writing(2, x=b"2"))
    assert c.Reply(1, committed(102)) in acknowledges(a, 102, "b")


def test_a_silent_reader_is_waited_for_until_its_lease_is_over() -> None:
    """S21, S25: no longer than its lease and what clocks may differ by, and it is given no new one before it has caught
    up."""
    a = with_session(cluster("b", "c"))
    for name in ("b", "c"):
        a.hears(name, m.Heartbeat(a.now_ms))
    a.asked(writing(2, x=b"2"))
    acknowledges(a, 102, "b")
    promise_ms = a.engine.members.promise_ms
    assert not [x for x in a.wait(promise_ms - STEP_MS, hearing=("b", "c")) if isinstance(x, c.Reply)]
    assert c.Reply(1, committed(102)) in a.wait(2 * STEP_MS, hearing=("b", "c"))
    assert sent(a.hears("c", m.Heartbeat(9)), m.HeartbeatAck) == [("c", m.HeartbeatAck(9))]
    assert sent(acknowledges(a, 102, "c"), m.Confirm) == [("c", m.Confirm(((KEY, {A: 102}),)))]
    assert sent(a.hears("c", m.Heartbeat(10)), m.HeartbeatAck) == [("c", m.HeartbeatAck(10, reads=True))]


def test_the_death_of_a_reader_blocks_no_write_beyond_its_lease() -> None:
    """S21, S31: nor does it grant itself more: the next life must be brought everything."""
    a = with_session(cluster("b", "c"))
    a.hears("c", m.Heartbeat(a.now_ms))
    a.on(c.PeerLost("c", C))
    a.asked(writing(2, x=b"2"))
    acknowledges(a, 102, "b")
    assert c.Reply(1, committed(102)) in a.wait(a.engine.members.promise_ms + STEP_MS, hearing=("b",))
    scans = [x for x in a.on(c.PeerFound("c", 999)) if isinstance(x, c.Scan) and isinstance(x.purpose, c.BringAll)]
    assert [scan.purpose.to for scan in scans] == ["c"]


def test_a_joining_member_is_brought_everything_before_it_may_read() -> None:
    """S32: it is made a holder of each session; its lease comes with its last acknowledgement."""
    a = with_session(cluster("b", "c"))
    commands = a.on(c.PeerFound("d", LIVES["d"]))
    (scan,) = [x for x in commands if isinstance(x, c.Scan) and isinstance(x.purpose, c.BringAll)]
    brought = a.on(c.Scanned(scan, (KEY,), False))
    assert "d" in {to for to, _ in sent(brought, m.Replicate)} and "d" in a.entry.backups
    assert sent(a.hears("d", m.Heartbeat(1)), m.HeartbeatAck) == [("d", m.HeartbeatAck(1))]
    a.hears("d", m.Acknowledge(KEY, a.entry.number, a.entry.context))
    assert sent(a.hears("d", m.Heartbeat(2)), m.HeartbeatAck) == [("d", m.HeartbeatAck(2, reads=True))]


def test_a_copy_is_shown_in_place_when_its_primary_has_confirmed_it() -> None:
    """S12: until then others may lack what it holds; a confirmation of less confirms nothing."""
    a = Turns("b", "c", everywhere=True)
    a.hears("b", m.Replicate(KEY, 1, whole(THEIRS, START_MS)))
    assert a.entry.unconfirmed
    a.hears("b", m.Confirm(((KEY, {B: 0}),)))
    assert a.entry.unconfirmed
    a.hears("b", m.Confirm(((KEY, {B: 1}),)))
    assert not a.entry.unconfirmed
    second = after(THEIRS, sets(2, x=b"2"), 2, "b", START_MS)
    a.hears("b", m.Replicate(KEY, 2, delta_since(second, THEIRS.context, START_MS)))
    assert a.entry.unconfirmed


def test_a_lost_confirmation_comes_with_the_next_fetch() -> None:
    """S07: what the primary shows, all readers have: the copy may be shown in place again."""
    a = Turns("b", "c", entries={KEY: moved(COPY, unconfirmed=True)}, everywhere=True)
    ((_, fetch),) = sent(a.asked(m.FetchRequest(0, KEY, COPY.context)), m.Fetch)
    a.hears("b", m.Fetched(fetch.request, m.FetchAnswer(m.FetchOutcome.NOT_MODIFIED, "b"), THEIRS.location))
    assert not a.entry.unconfirmed


def test_workers_are_told_of_the_read_lease_beside_the_other() -> None:
    """S07: two rows; a lease from an answer that came late is as short as if it had come at once."""
    a = Turns("b", everywhere=True)
    sent_ms = a.now_ms - 40
    assert a.hears("b", m.HeartbeatAck(sent_ms, reads=True)) == [
        c.Publish("b", sent_ms + 250),
        c.Publish("b", sent_ms + 250, reads=True),
    ]


def test_after_a_hand_over_the_other_readers_are_told_by_both() -> None:
    """S34: who reads under the giver's lease gets no new one before it knows; who takes over waits for all readers."""
    mine = moved(THEIRS, primary="a", backups=("b", "c"), context={A: 1}, number=1)
    a = cluster("b", "c")
    a.entries[KEY] = mine
    a.hears("c", m.Heartbeat(a.now_ms))
    a.on(c.DrainAsked())
    a.engine.members.leaving = False  # as in a move: the giver stays, and grants
    commands = a._carry_out([c.Change(KEY, c.HandOver("b"))])
    assert {to for to, _ in sent(commands, m.Replicate)} == {"b", "c"}
    a.hears("b", m.Acknowledge(KEY, a.entry.number, {A: 1}))
    assert sent(a.hears("c", m.Heartbeat(5)), m.HeartbeatAck) == [("c", m.HeartbeatAck(5))]
    a.hears("c", m.Acknowledge(KEY, a.entry.number, {A: 1}))
    assert sent(a.hears("c", m.Heartbeat(6)), m.HeartbeatAck) == [("c", m.HeartbeatAck(6, reads=True))]


def test_who_takes_over_waits_for_readers_that_it_has_given_nothing() -> None:
    """S34: their lease is from the primary before: until that is surely over, or they have the change."""
    given = moved(THEIRS, primary="a", backups=("b", "c"), epoch=THEIRS.epoch._replace(reign=2))
    a = Turns("b", "c", entries={KEY: COPY}, everywhere=True)
    a.hears("b", m.Replicate(KEY, 2, delta_since(given, COPY.context, START_MS)))
    assert a.entry.role is Role.PRIMARY
    a.asked(writing(2, x=b"2"))
    number = a.entry.number
    a.hears("b", m.Acknowledge(KEY, number, a.entry.context))
    assert a.outbox
    a.hears("c", m.Acknowledge(KEY, number, a.entry.context))
    assert not a.outbox


def test_a_reader_that_leaves_is_released_when_its_lease_is_over() -> None:
    """S12, S34: until then it shows its copy in place: it stays in the list, and no change is acknowledged without it
    (profile delta, seed 3038)."""
    a = with_session(cluster("b", "c"))
    a.hears("c", m.Heartbeat(a.now_ms))
    a.hears("c", m.Heartbeat(a.now_ms, leaving=True))
    a.asked(writing(2, x=b"2"))
    acknowledges(a, 102, "b", "c")
    a.wait(a.engine.members.promise_ms - STEP_MS, hearing=("b", "c"))
    assert set(a.entry.backups) == {"b", "c"}
    a.wait(2 * STEP_MS, hearing=("b", "c"))
    assert a.entry.backups == ("b",)


def swept(a: Turns, name: str) -> list[c.Command]:
    """What was planned when that member was lost, perhaps in an earlier life, is done."""
    scan = c.Scan(c.ScanKind.MEMBER, c.Recheck(name), member=name)
    return [x for x in a.on(c.Scanned(scan, (KEY,), False)) if isinstance(x, c.Change)]


def test_a_lost_reader_is_given_up_when_its_lease_is_over() -> None:
    """S12, S21: its agent died a moment ago, its workers read on, and the sweep for an earlier loss of it is due: it
    stays in the list, or a change would be answered that it does not show (profile delta, seed 90023)."""
    a = with_session(cluster("b", "c"))
    for name in ("b", "c"):
        a.hears(name, m.Heartbeat(a.now_ms))
    a.on(c.PeerLost("c", C))
    a.asked(writing(2, x=b"2"))
    acknowledges(a, 102, "b")
    assert swept(a, "c") == []
    assert set(a.entry.backups) == {"b", "c"} and a.outbox == {102}
    commands = a.wait(a.engine.members.promise_ms + STEP_MS, hearing=("b",))
    assert c.Reply(1, committed(102)) in commands
    assert a.entry.backups == ("b",)


def test_the_last_reader_is_given_up_when_its_lease_is_over() -> None:
    """S04, S12: nobody else holds the session: a logout that came now would wait for its lease, and so does the list,
    which is looked at again."""
    a = cluster("b")
    a.asked(creation(x=b"1"))
    acknowledges(a, 101, "b")
    a.wait(STEP_MS)
    a.hears("b", m.Heartbeat(a.now_ms))
    a.on(c.PeerLost("b", B))
    assert swept(a, "b") == [] and a.entry.backups == ("b",)
    looks = [x for x in a.wait(a.settings.sweep_delay_ms + STEP_MS) if isinstance(x, c.Scan)]
    assert c.Scan(c.ScanKind.MEMBER, c.Recheck("b"), member="b") in looks
    assert swept(a, "b") == [c.Change(KEY, c.SetBackups(()))]


def test_a_lost_holder_is_given_up_when_all_others_have_everything() -> None:
    """S21: a change is on its way when the sweep for it comes: whoever is left lacks that as yet (profile delta, seed
    90034)."""
    a = with_session(cluster("b", "c"))
    a.on(c.PeerLost("c", C))
    a.asked(writing(2, x=b"2"))
    assert swept(a, "c") == [] and set(a.entry.backups) == {"b", "c"}
    assert c.Change(KEY, c.SetBackups(("b",), ("c",))) in acknowledges(a, 102, "b")
    assert a.entry.backups == ("b",)


def test_places_of_readers_are_not_moved_about() -> None:
    """S37: where everybody holds everything there is nothing to even out."""
    a = with_session(cluster("b", "c"))
    scan = c.Scan(c.ScanKind.MEMBER, c.Patrol(b""), member="a")
    assert not sent(a.on(c.Scanned(scan, (KEY,), False)), m.Replicate)
    assert a.entry.location == place("a", a.entry.backups)


def test_a_minority_gives_no_read_lease() -> None:
    """S39: under ``partition = "refuse"`` its sessions may be another's on the other side."""
    a = Turns("b", "c", "d", "e", everywhere=True, members_expected=5)
    number = a.engine.replication.readers._sweeps["b"]
    a.on(c.Scanned(c.Scan(c.ScanKind.MEMBER, c.BringAll("b", number), member="a"), (), False))
    assert a.hears("b", m.Heartbeat(7)) == [c.Send("b", m.HeartbeatAck(7, reads=True))]
    for name in "cde":
        a.on(c.PeerLost(name, LIVES[name]))
    assert a.hears("b", m.Heartbeat(8)) == [c.Send("b", m.HeartbeatAck(8))]
