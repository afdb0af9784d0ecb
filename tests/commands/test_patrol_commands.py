"""The patrol: digests of ranges of keys, what is done where they differ, and backups that are better elsewhere."""

from __future__ import annotations

from collections import Counter

import pytest
from msgspec.structs import replace
from tests.commands.transcript import START_MS, Turns, sent
from tests.making import KEY, LIVES, SECRET, at_reign, backup_of, moved, new_session, place, proxy

from understudy import limits
from understudy.model.commit import ended
from understudy.model.entry import Entry, Role
from understudy.protocol import commands as c
from understudy.protocol import messages as m
from understudy.protocol.commands import FactKind
from understudy.protocol.patrol import SUM_MODULUS, hash_of
from understudy.protocol.places import LAST_KEY

MINE = moved(new_session(1, "a", ("b",), START_MS, x=b"1"), number=1)
THEIRS = new_session(1, "b", ("a",), START_MS, x=b"1")
COPY = backup_of(THEIRS)
BEGINS = c.Scan(c.ScanKind.MEMBER, c.Patrol(b""), member="a")


def walked(a: Turns, *keys: bytes) -> list[c.Command]:
    """One round over ``keys``, in one page."""
    return a.on(c.Scanned(BEGINS, keys or (KEY,), False))


def checked(a: Turns, digest: m.Digest, *keys: bytes, sender: str = "b") -> list[c.Command]:
    """What a peer's digest leads to, where these keys name it."""
    (scan,) = [x for x in a.hears(sender, digest) if isinstance(x, c.Scan)]
    assert scan == c.Scan(c.ScanKind.MEMBER, c.CheckDigest(sender, b""), member=sender)
    return a.on(c.Scanned(scan, keys or (KEY,), False))


def digest_of(*entries: Entry, copies: bool = True) -> m.Digest:
    """What their primary tells a member that holds copies of all of them, or of none."""
    hashes = [hash_of(KEY, entry.epoch, entry.context if copies else None) for entry in entries]
    return m.Digest(b"", LAST_KEY, len(hashes), sum(hashes) % SUM_MODULUS)


# --- digests --------------------------------------------------------------------------------------------------------


def test_each_member_is_told_what_it_should_know() -> None:
    """S32: the backup by place and data, another by place alone; nobody else's sessions count."""
    other = b"o" * 16
    a = Turns("b", "c", entries={KEY: MINE, other: COPY})
    assert sent(walked(a, KEY, other), m.Digest) == [("b", digest_of(MINE)), ("c", digest_of(MINE, copies=False))]


def test_where_places_are_computed_only_copies_are_told_of() -> None:
    """S32: a member that holds none should know of none."""
    a = Turns("b", "c", entries={KEY: MINE}, placement="rendezvous")
    assert dict(sent(walked(a), m.Digest)) == {"b": digest_of(MINE), "c": m.Digest(b"", LAST_KEY, 0, 0)}


def test_a_round_goes_on_from_page_to_page() -> None:
    """S36: the next page after a while, from the last key of this one; the next round after ``patrol_ms``."""
    a = Turns("b", entries={KEY: MINE}, patrol_ms=500)
    settled(a, "b")
    walked(a)  # what is counted first leads to another round at once
    following = c.Scan(c.ScanKind.MEMBER, c.Patrol(KEY), member="a", after=KEY)
    assert [x.message.upto for x in a.on(c.Scanned(BEGINS, (KEY,), True)) if isinstance(x, c.Send)] == [KEY]
    a.now_ms += 50
    assert following in a.tick()
    a.on(c.Scanned(following, (), False))
    a.now_ms += 450
    assert not [x for x in a.tick() if isinstance(x, c.Scan) and isinstance(x.purpose, c.Patrol)]
    a.now_ms += 50
    assert BEGINS in a.tick()


def test_what_is_equal_is_left_alone() -> None:
    """S07: a copy and a place that are right lead to nothing."""
    a = Turns("b", "c", entries={KEY: COPY})
    assert checked(a, digest_of(THEIRS)) == [c.Read((KEY,), c.CheckDigest("b", b""))]
    a.entries[KEY] = proxy("b", ("c",))
    assert len(checked(a, digest_of(a.entry, copies=False))) == 1


@pytest.mark.parametrize(
    ("held", "item"),
    [
        (moved(COPY, context={LIVES["b"]: 9}), m.Item(KEY, COPY.epoch, {LIVES["b"]: 9})),
        (moved(COPY, backups=("c",)), m.Item(KEY, COPY.epoch, {})),
        (proxy("b", ("c",)), m.Item(KEY, COPY.epoch, {}, holds=False)),
    ],
    ids=["other data", "a copy that nobody lists", "a place"],
)
def test_what_differs_is_asked_about(held: Entry, item: m.Item) -> None:
    """S28, S32: of the member that we take for the primary: for its places of that range, and what we hold is compared
    (of an unlisted copy the whole is asked for: only who has seen that may let it go)."""
    a = Turns("b", "c", entries={KEY: held})
    commands = checked(a, m.Digest(b"", LAST_KEY, 1, 1))
    assert sent(commands, m.AskPlaces) == [("b", m.AskPlaces(b"", LAST_KEY, differs=True))]
    ((_, compare),) = sent(commands, m.Compare)
    assert compare.items == (item,)
    assert c.Tell(c.Fact(FactKind.DIFFERENCE_FOUND, member="b")) in commands


def test_a_session_that_was_never_heard_of_is_asked_for() -> None:
    """S32: nothing is held, one should be: the answer is learnt, and asks for no further page."""
    a = Turns("b", "c")
    (scan,) = [x for x in a.hears("b", digest_of(THEIRS, copies=False)) if isinstance(x, c.Scan)]
    assert sent(a.on(c.Scanned(scan, (), False)), m.AskPlaces)
    where = place("b", ("c",))
    answer = m.Places(b"", LAST_KEY, ((KEY, where),), differs=True)
    assert a.hears("b", answer) == [c.Change(KEY, c.Learn(where, "b"))]
    assert a.entry == proxy("b", ("c",))


def test_an_end_that_the_primary_has_missed_is_told() -> None:
    """S04: it lists a session that has ended here."""
    a = Turns("b", "c", entries={KEY: ended(COPY, 500)})
    commands = a.hears("b", m.Places(b"", LAST_KEY, ((KEY, place("b", ("c",))),), differs=True))
    assert sent(commands, m.Announce) == [("b", m.Announce(((KEY, a.entry.location),)))]


# --- repair ---------------------------------------------------------------------------------------------------------


def mended(a: Turns, *answers: m.Answer) -> list[c.Command]:
    ((_, compare),) = sent(checked(a, m.Digest(b"", LAST_KEY, 1, 1)), m.Compare)
    return a.hears("b", m.Compared(compare.comparison, answers))


def test_a_place_that_is_wrong_is_corrected() -> None:
    """S31: who was taken for the primary knows who is."""
    a = Turns("b", "c", entries={KEY: proxy("b", ("c",))})
    later = at_reign(THEIRS, 2, "c", ("b",)).location
    mended(a, m.Answer(KEY, m.Verdict.REFUSED, later))
    assert a.entry.location == later and a.entry.role is Role.PROXY


def test_a_place_of_nothing_is_forgotten() -> None:
    """S29, S44: the session is gone, and the word of it was lost."""
    a = Turns("b", "c", entries={KEY: proxy("b", ("c",))})
    mended(a, m.Answer(KEY, m.Verdict.UNKNOWN))
    assert not a.entries


def test_a_copy_that_its_primary_does_not_know_is_forgotten_when_its_time_is_over() -> None:
    """S44: it has expired there; one that was used since lives on from here."""
    a = Turns("b", "c", entries={KEY: moved(COPY, times=moved(COPY.times, accessed_ms=START_MS - 60_000))})
    mended(a, m.Answer(KEY, m.Verdict.UNKNOWN))
    assert not a.entries
    a.entries[KEY] = COPY
    assert sent(mended(a, m.Answer(KEY, m.Verdict.UNKNOWN)), m.Ask)


@pytest.mark.parametrize(("left_ms", "is_kept"), [(3_000, True), (0, False)])
def test_a_primary_that_was_lost_a_moment_ago_has_expired_nothing(left_ms: int, is_kept: bool) -> None:
    """S22, S44: b is back with an empty store, and the copy here is near its end: it is the last one, and is asked
    about; when its time is over it is forgotten (profile quick, seed 300021)."""
    used = moved(COPY.times, accessed_ms=START_MS - COPY.times.idle_timeout_ms + left_ms)
    a = Turns("b", "c", entries={KEY: moved(COPY, times=used)})
    a.on(c.PeerLost("b", LIVES["b"]))
    a.on(c.PeerFound("b", 999))
    a.on(c.Received("b", 999, m.Digest(b"", LAST_KEY, 1, 1)))
    scan = c.Scan(c.ScanKind.MEMBER, c.CheckDigest("b", b""), member="b")
    ((_, compare),) = sent(a.on(c.Scanned(scan, (KEY,), False)), m.Compare)
    unknown = m.Compared(compare.comparison, (m.Answer(KEY, m.Verdict.UNKNOWN),))
    assert bool(sent(a.on(c.Received("b", 999, unknown)), m.Ask)) is is_kept
    assert (KEY in a.entries) is is_kept


def test_a_long_idle_timeout_is_no_slack_for_the_absolute_one() -> None:
    """S46: a tenth of the idle timeout may be longer than all that is left until the absolute end."""
    times = moved(COPY.times, idle_timeout_ms=3_600_000, absolute_timeout_ms=60_000)
    a = Turns("b", "c", entries={KEY: moved(COPY, times=times)})
    assert sent(mended(a, m.Answer(KEY, m.Verdict.UNKNOWN)), m.Ask)
    a = Turns("b", "c", entries={KEY: moved(COPY, times=moved(times, created_ms=START_MS - 60_000))})
    mended(a, m.Answer(KEY, m.Verdict.UNKNOWN))
    assert not a.entries


def test_the_primary_looks_at_the_copies_of_a_range_that_differs() -> None:
    """S18, S28: a listed holder may have less (it is sent the change, and asks for the whole) or more (it is asked)."""
    a = Turns("b", "c", entries={KEY: MINE})
    (scan,) = a.hears("b", m.AskPlaces(b"", LAST_KEY, differs=True))
    commands = a.on(c.Scanned(scan, (KEY,), False))
    assert [to for to, _ in sent(commands, m.Replicate)] == ["b"]
    assert [to for to, _ in sent(commands, m.Compare)] == ["b"]
    (scan,) = a.hears("c", m.AskPlaces(b"", LAST_KEY, differs=True))
    commands = a.on(c.Scanned(scan, (KEY,), False))
    assert sent(commands, m.Replicate) == []
    assert sent(commands, m.Places) == [("c", m.Places(b"", LAST_KEY, ((KEY, MINE.location),), differs=True))]


def test_who_is_asked_about_a_place_gives_no_data() -> None:
    """S07: the epoch alone decides."""
    a = Turns("b", "c", entries={KEY: MINE})
    older = MINE.epoch._replace(list_number=0)
    for epoch, verdict in ((MINE.epoch, m.Verdict.NOTHING), (older, m.Verdict.REFUSED)):
        commands = a.hears("c", m.Compare(1, (m.Item(KEY, epoch, {}, holds=False),)))
        ((_, answer),) = sent(commands, m.Compared)
        assert (answer.answers[0].verdict, answer.answers[0].delta) == (verdict, None)


def test_a_note_that_is_kept_for_a_promise_goes_when_nobody_is_missing() -> None:
    """S25: with computed places no proxy is needed; a promise is, until the member that it is against is back."""
    a = Turns("b", "c", entries={KEY: proxy("b", ("c",))}, placement="rendezvous")
    a.on(c.PeerLost("c", LIVES["c"]))
    checked(a, m.Digest(b"", LAST_KEY, 0, 0))
    assert KEY in a.entries
    a.on(c.PeerFound("c", LIVES["c"]))
    a.engine.comparisons.complete = True
    checked(a, m.Digest(b"", LAST_KEY, 0, 0))
    assert KEY not in a.entries


def test_a_note_that_names_a_member_which_holds_nothing_is_forgotten_on_both_sides() -> None:
    """S44: the session expired while somebody asked about it: a promise has left notes of it."""
    note = proxy("a", ("b",))
    a = Turns("b", "c", entries={KEY: note})
    ((_, answer),) = sent(a.hears("c", m.Compare(1, (m.Item(KEY, note.epoch, {}, holds=False),))), m.Compared)
    assert answer.answers == (m.Answer(KEY, m.Verdict.UNKNOWN),)
    walked(a)
    assert not a.entries


@pytest.mark.parametrize("holds", [False, True])
def test_who_has_no_more_than_a_note_does_not_know_the_session(holds: bool) -> None:
    """S44: one that was taken over and expired at once may be announced after its end: of notes that name each other
    none is a place, and a copy whose time is over may go; but who knows a later place says so."""
    note = proxy("c", ("b",))
    a = Turns("b", "c", entries={KEY: note})
    later, earlier = (note.epoch._replace(list_number=number) for number in (9, 0))
    for epoch, verdict in ((later, m.Verdict.UNKNOWN), (note.epoch, m.Verdict.UNKNOWN), (earlier, m.Verdict.REFUSED)):
        asked = m.Compare(1, (m.Item(KEY, epoch, {}, holds=holds),))
        ((_, answer),) = sent(a.hears("b", asked), m.Compared)
        assert answer.answers[0].verdict is verdict


# --- fair shares ----------------------------------------------------------------------------------------------------


def sessions(a: Turns, count: int, backup: str = "b") -> tuple[bytes, ...]:
    keys = tuple(bytes([n]) * 16 for n in range(count))
    for number, key in enumerate(keys, 1):
        a.entries[key] = moved(new_session(number, "a", (backup,), START_MS), number=number)
    return keys


def settled(a: Turns, *peers: str) -> None:
    """Long enough after the last member was found."""
    a.wait(4_000, hearing=peers)


def lists(commands: list[c.Command]) -> list[tuple[str, ...]]:
    return [x.what.backups for x in commands if isinstance(x, c.Change) and isinstance(x.what, c.SetBackups)]


def test_nothing_is_moved_before_loads_are_counted_and_members_have_settled() -> None:
    """S37, S41: the first round counts; a member that has just come may go again."""
    a = Turns("b", "c")
    keys = sessions(a, 12)
    assert lists(walked(a, *keys)) == [] and lists(walked(a, *keys)) == []
    settled(a, "b", "c")
    assert lists(walked(a, *keys)) != []


def test_a_loaded_member_gives_to_one_that_holds_little_at_a_limited_rate() -> None:
    """S37, S21: a few each page; the new holder comes before the old one goes, which stands first to be released."""
    a = Turns("b", "c")
    keys = sessions(a, 40)
    settled(a, "b", "c")
    walked(a, *keys)
    commands = walked(a, *keys)
    assert lists(commands) == [("b", "c")] * limits.BACKUPS_MOVED_PER_PAGE_MAX
    assert {to for to, _ in sent(commands, m.Replicate)} == {"b", "c"}


def test_moves_end_where_loads_are_near() -> None:
    """S37: repeated rounds even 40 sessions out to within two, and then move nothing any more."""
    a = Turns("b", "c")
    keys = sessions(a, 40)
    settled(a, "b", "c")
    rounds = 0
    while lists(commands := walked(a, *keys)) or rounds < 2:
        rounds += 1
        assert rounds < 20
        for command in commands:
            if isinstance(command, c.Change) and isinstance(command.what, c.SetBackups):
                entry = a.entries[command.key]
                for name in entry.backups:
                    acknowledged = m.Acknowledge(command.key, entry.number, entry.context)
                    a.on(c.Received(name, LIVES[name], acknowledged))
                entry = a.entries[command.key]
                a.on(
                    c.Received(entry.backups[0], LIVES[entry.backups[0]], m.Acknowledge(command.key, entry.number, {}))
                )
    loads = Counter(backup for key in keys for backup in a.entries[key].backups)
    assert sum(loads.values()) == 40 and abs(loads["b"] - loads["c"]) <= 2


def test_a_backup_in_the_primarys_zone_moves_to_another() -> None:
    """S37: as soon as there is one, whatever the loads."""
    a = Turns("b", "c", zone="x")
    keys = sessions(a, 2)
    for name, zone in (("b", "x"), ("c", "y")):
        a.hears(name, m.Heartbeat(1, zone=zone))
    settled(a, "b", "c")
    assert lists(walked(a, *keys)) == [("b", "c")] * 2


def test_with_computed_places_a_backup_moves_to_where_the_key_says() -> None:
    """S37: those that are there stay."""
    a = Turns("b", "c", placement="rendezvous")
    keys = sessions(a, 4)
    settled(a, "b", "c")
    wanted = {key: a.engine.members.place(key, 1) for key in keys}
    assert set(wanted.values()) == {("b",), ("c",)}
    moved_to = lists(walked(a, *keys))
    assert moved_to == [("b", "c") for key in keys if wanted[key] == ("c",)]


def test_an_exchange_that_an_earlier_life_has_begun_is_brought_to_its_end() -> None:
    """S37, S21: a restart in the middle of it left two in the list, and nothing in the outbox. Who comes first is
    released when both have said that they have everything, as at the end of any exchange (profile one, seed 3149)."""
    a = Turns("b", "c", entries={KEY: moved(MINE, backups=("b", "c"))})
    settled(a, "b", "c")
    assert [to for to, _ in sent(walked(a), m.Replicate)] == ["b", "c"]
    assert not sent(a.hears("c", m.Acknowledge(KEY, 1, a.entry.context)), m.Release)
    commands = a.hears("b", m.Acknowledge(KEY, 1, a.entry.context))
    assert c.Change(KEY, c.SetBackups(("c",), ("b",))) in commands
    assert [to for to, _ in sent(commands, m.Release)] == ["b"]


# --- sweeps ---------------------------------------------------------------------------------------------------------


def test_a_sweep_waits_for_what_it_began() -> None:
    """S36: with as many sessions on their way to a new backup as may be, the list is not read on; each answer makes
    room."""
    a = Turns("b", "c")
    keys = sessions(a, limits.SWEPT_IN_FLIGHT_MAX)
    a.on(c.PeerLost("b", LIVES["b"]))
    scan = c.Scan(c.ScanKind.MEMBER, c.Recheck("b"), member="b")
    half = len(keys) // 2
    commands = a.on(c.Scanned(scan, keys[:half], True))
    (goes_on,) = [x for x in commands if isinstance(x, c.Scan)]
    ((_, entrusted),) = sent(commands, m.Entrust)
    assert goes_on == replace(scan, after=keys[half - 1])
    assert not [x for x in a.on(c.Scanned(goes_on, keys[half:], True)) if isinstance(x, c.Scan)]
    assert a.engine.describe()["sweeping"] == {"sessions_in_flight": len(keys), "lists": 1}
    assert replace(scan, after=keys[-1]) in a.hears("c", m.Entrusted(entrusted.number, ((keys[0], 0),)))


def test_a_backup_whose_time_is_over_is_forgotten_when_its_primary_knows_it_no_more() -> None:
    """S44: the word that it has expired was lost; it must not expire once more from here."""
    a = Turns("b", "c", entries={KEY: moved(COPY, times=moved(COPY.times, accessed_ms=START_MS - 60_000))})
    due = c.Scanned(c.Scan(c.ScanKind.DUE, c.Reap()), (KEY,), False)
    ((_, compare),) = sent(a.on(due), m.Compare)
    commands = a.hears("b", m.Compared(compare.comparison, (m.Answer(KEY, m.Verdict.UNKNOWN),)))
    assert not a.entries and not [x for x in commands if isinstance(x, c.Tell)]
    assert SECRET not in repr(commands).encode()
