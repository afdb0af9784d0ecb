"""One request's changes at the primary: every outcome, rotation and login, conditions, repeats, limits, touches."""

from __future__ import annotations

import msgspec
import pytest
from tests.making import (
    CHOOSERS,
    IDLE_MS,
    LIVES,
    SECRET,
    after,
    backup_of,
    commit_id,
    deletes,
    moved,
    new_session,
    proxy,
    sets,
    shown,
    sibling,
    stamp,
    times,
)

from understudy import limits
from understudy.model.commit import (
    Commit,
    Creation,
    Opening,
    Outcome,
    committed,
    created,
    current_secret,
    dots_of,
    ended,
    found_by,
    is_login,
    opening,
    refusal,
    touched,
)
from understudy.model.entry import PRINCIPAL, SECRETS, Entry, Epoch, Role

NEW, NEWER = b"hash of the new one", b"hash of one more"
GRACE_MS = 10_000


def rotation(number: int, to: bytes = NEW, secret: bytes = SECRET, **values: bytes) -> Commit:
    return Commit(commit_id(number), secret, sets=values, rotates_to=to)


def login(number: int, to: bytes = NEW, secret: bytes = SECRET, who: bytes = b"ann") -> Commit:
    return Commit(commit_id(number), secret, sets={PRINCIPAL: who}, rotates_to=to)


# --- creation -------------------------------------------------------------------------------------------------------


def test_a_new_session_has_all_that_its_first_request_wrote() -> None:
    """S05, S54: its member is primary under the first reign, its only cookie is the one that was minted, kept as a
    hash; values carry the commit's dot, the commit is remembered, the times are now."""
    commit = Commit(commit_id(1), SECRET, {"x": b"1"}, creates=Creation(IDLE_MS, 500_000))
    outcome, entry = created(commit, stamp(7, "a", 1_000), ("b", "c"), CHOOSERS["a"])
    assert outcome is Outcome.COMMITTED and entry is not None
    secrets = entry.attributes.pop(SECRETS)
    assert entry == Entry(
        role=Role.PRIMARY,
        primary="a",
        backups=("b", "c"),
        epoch=Epoch(1, CHOOSERS["a"], 1),
        context={LIVES["a"]: 7},
        attributes={"x": (sibling("a", 7, b"1"),)},
        recent=(commit_id(1),),
        times=times(1_000, 1_000, absolute_ms=500_000),
        number=7,
    )
    assert [s.dot for s in secrets] == [(LIVES["a"], 7)]
    assert opening(new_session(), SECRET, 1_000, GRACE_MS) is Opening.CURRENT
    assert opening(new_session(), b"another", 1_000, GRACE_MS) is Opening.NOTHING


def test_a_new_session_that_is_too_large_is_none() -> None:
    """A first request above the limit creates nothing."""
    commit = Commit(commit_id(1), SECRET, {"x": bytes(1_000)}, creates=Creation(IDLE_MS))
    assert created(commit, stamp(1, bytes_max=999), (), 11) == (Outcome.TOO_LARGE, None)


# --- what a commit changes, and what it does not --------------------------------------------------------------------


def test_a_commit_changes_what_it_names_and_nothing_else() -> None:
    """S02, S10: the attributes that it sets and deletes; another's values keep their dots, so requests that change
    different attributes never undo each other."""
    entry = new_session(1, x=b"1", y=b"2", z=b"3")
    changed = after(entry, Commit(commit_id(2), SECRET, {"x": b"new", "w": b"4"}, ("y",)), 2, now_ms=3_000)
    assert shown(changed) == {"x": b"new", "w": b"4", "z": b"3"}
    assert changed.attributes["z"] == entry.attributes["z"]
    assert changed.attributes["x"] == (sibling("a", 2, b"new"),)
    assert (changed.context, changed.number) == ({LIVES["a"]: 2}, 2)
    assert changed.recent == (commit_id(1), commit_id(2))
    assert changed.times == times(1_000, 3_000)
    assert changed.location == entry.location


def test_a_commit_replaces_all_concurrent_values() -> None:
    """S38: values that stood side by side are one again after the next write, and none after a deletion."""
    entry = moved(
        new_session(), attributes={"x": (sibling("b", 3, b"b"), sibling("a", 1, b"a"))}, context={101: 1, 102: 3}
    )
    administrative = Commit(commit_id(2), b"", {"x": b"c"})
    assert after(entry, administrative, 2).attributes["x"] == (sibling("a", 2, b"c"),)
    assert "x" not in after(entry, msgspec.structs.replace(administrative, sets={}, deletes=("x",)), 2).attributes


def test_a_name_that_is_both_deleted_and_set_is_set() -> None:
    """Deleting and setting again in one request leaves the value."""
    changed = after(new_session(x=b"1"), Commit(commit_id(2), SECRET, {"x": b"2"}, ("x",)), 2)
    assert shown(changed) == {"x": b"2"}


def test_deleting_what_is_not_there_is_a_commit() -> None:
    """It changes no value and is remembered as done."""
    changed = after(new_session(x=b"1"), deletes(2, "no such"), 2)
    assert shown(changed) == {"x": b"1"} and changed.recent[-1] == commit_id(2)


def test_a_value_carries_the_reign_it_was_written_under() -> None:
    """The reign ranks concurrent values; it is the writer's at that time."""
    entry = moved(new_session(), epoch=Epoch(5, 11, 1))
    assert after(entry, sets(2, x=b"1"), 2).attributes["x"][0].reign == 5


def test_a_commit_never_sets_the_access_time_back() -> None:
    """A member whose clock reads less than the last access keeps the later."""
    entry = moved(new_session(), times=times(1_000, 9_000))
    assert after(entry, sets(2, x=b"1"), 2, now_ms=5_000).times.accessed_ms == 9_000


def test_a_commit_may_change_the_idle_timeout() -> None:
    """-1 leaves it; 0 means that the session never expires by idleness."""
    assert after(new_session(), sets(2), 2).times.idle_timeout_ms == IDLE_MS
    assert after(new_session(), Commit(commit_id(2), SECRET, idle_timeout_ms=0), 2).times.idle_timeout_ms == 0
    assert after(new_session(), Commit(commit_id(2), SECRET, idle_timeout_ms=5), 2).times.idle_timeout_ms == 5


def test_the_entry_before_is_not_touched() -> None:
    """Entries are values: committing to one leaves it as it was, also its tables."""
    entry = new_session(x=b"1", y=b"2")
    before = msgspec.msgpack.encode(entry)
    after(entry, Commit(commit_id(2), SECRET, {"x": b"9"}, ("y",)), 2)
    assert msgspec.msgpack.encode(entry) == before


# --- refusals -------------------------------------------------------------------------------------------------------

LIVE = new_session(1, x=b"1")
COMMIT = sets(2, x=b"2")


@pytest.mark.parametrize(
    ("entry", "commit", "now_ms", "outcome"),
    [
        (ended(LIVE, 1_500), COMMIT, 2_000, Outcome.ENDED),
        (backup_of(LIVE), COMMIT, 2_000, Outcome.NOT_PRIMARY),
        (proxy(), COMMIT, 2_000, Outcome.NOT_PRIMARY),
        (LIVE, sets(1, x=b"2"), 2_000, Outcome.REPEATED),
        (LIVE, COMMIT, 1_000 + IDLE_MS, Outcome.ENDED),
        (LIVE, sets(2, b"of somebody else", x=b"2"), 2_000, Outcome.FENCED),
        (LIVE, Commit(commit_id(2), SECRET, {"x": b"2"}, expects={"x": ()}), 2_000, Outcome.CONFLICT),
        (LIVE, Commit(commit_id(2), SECRET, {"x": b"2"}, replaces={"x": ()}), 2_000, Outcome.OUTDATED),
        (ended(LIVE, 1_500), sets(1, x=b"2"), 2_000, Outcome.REPEATED),
        (LIVE, sets(1, x=b"2"), 1_000 + IDLE_MS, Outcome.REPEATED),
    ],
    ids=[
        "ended",
        "backup",
        "proxy",
        "repeated",
        "expired",
        "foreign secret",
        "conflict",
        "outdated",
        "repeated before ended",
        "repeated before expired",
    ],
)
def test_a_refused_commit_changes_nothing(entry: Entry, commit: Commit, now_ms: int, outcome: Outcome) -> None:
    """S04, S05, S23: each refusal is a value, the entry stays the very same, no number is used."""
    assert refusal(entry, commit, stamp(2, now_ms=now_ms)) is outcome
    assert committed(entry, commit, stamp(2, now_ms=now_ms)) == (outcome, entry)


def test_what_may_be_committed_is_not_refused() -> None:
    """The millisecond before the deadline; a change without a cookie; a condition that holds."""
    assert refusal(LIVE, COMMIT, stamp(2, now_ms=999 + IDLE_MS)) is None
    assert refusal(LIVE, sets(2, b"", x=b"2"), stamp(2)) is None
    holding = Commit(commit_id(2), SECRET, expects={"x": ((LIVES["a"], 1),), "not there": ()})
    assert refusal(LIVE, holding, stamp(2)) is None


def test_a_repeated_commit_is_applied_once() -> None:
    """S23: sent again under its id after a lost answer, also when others have written since."""
    once = after(LIVE, Commit(commit_id(2), SECRET, {"x": b"2"}), 2)
    later = after(once, sets(3, x=b"3"), 3)
    assert committed(later, COMMIT, stamp(4)) == (Outcome.REPEATED, later)


def test_an_entry_remembers_a_bounded_number_of_commits() -> None:
    """S23: those of the seconds in which one of them may wait for a new agent; the oldest ids leave, and after a pause
    all but the last few."""
    entry = LIVE
    for number in range(2, 100):
        entry = after(entry, sets(number, x=b"%d" % number), number, now_ms=1_000 + 10 * number)
    assert entry.recent == tuple(commit_id(n) for n in range(100 - limits.RECENT_COMMITS_MAX, 100))
    used_ms = entry.times.accessed_ms
    soon = after(entry, sets(100, x=b"y"), 100, now_ms=used_ms + limits.RECENT_PAUSE_MS - 1)
    assert soon.recent == (*entry.recent[1:], commit_id(100))
    late = after(entry, sets(100, x=b"y"), 100, now_ms=used_ms + limits.RECENT_PAUSE_MS)
    assert late.recent == (*entry.recent[1 - limits.RECENT_COMMITS_KEPT :], commit_id(100))


@pytest.mark.parametrize(
    ("others", "is_applied_once"), [(limits.RECENT_COMMITS_MAX - 1, True), (limits.RECENT_COMMITS_MAX, False)]
)
def test_how_many_commits_may_come_before_one_is_repeated(others: int, is_applied_once: bool) -> None:
    """S23: the bound that docs/guarantees.md states."""
    entry = after(LIVE, sets(2, x=b"2"), 2)
    for number in range(3, 3 + others):
        entry = after(entry, sets(number, x=b"%d" % number), number)
    outcome, _ = committed(entry, sets(2, x=b"2"), stamp(3 + others))
    assert (outcome is Outcome.REPEATED) == is_applied_once


def test_of_two_conditional_commits_that_read_the_same_one_wins() -> None:
    """S03: the second is told CONFLICT, reads again, and then both have counted."""
    entry = after(LIVE, sets(2, n=b"0"), 2)

    def add(number: int, seen: Entry) -> Commit:
        value = int(seen.shown("n") or b"0") + 1
        read = tuple(s.dot for s in seen.attributes["n"])
        return Commit(commit_id(number), SECRET, {"n": b"%d" % value}, expects={"n": read})

    first, second = add(3, entry), add(4, entry)
    entry = after(entry, first, 3)
    assert committed(entry, second, stamp(4)) == (Outcome.CONFLICT, entry)
    assert shown(after(entry, add(5, entry), 4))["n"] == b"2"


@pytest.mark.parametrize("expects", [{"x": ()}, {"x": ((101, 9),)}, {"y": ((101, 1),)}, {"x": ((101, 1), (102, 1))}])
def test_a_condition_must_hold_exactly(expects: dict[str, tuple[tuple[int, int], ...]]) -> None:
    """S03: an attribute that appeared, changed, is gone, or was one of several when it was read."""
    assert refusal(LIVE, Commit(commit_id(2), SECRET, expects=expects), stamp(2)) is Outcome.CONFLICT


def test_a_late_commit_of_nobody_undoes_nothing() -> None:
    """S24: a commit that saw an older value of what it writes is told what is there; only who asks again over that
    writes, and a worker that was killed does not."""
    late = Commit(commit_id(2), SECRET, {"x": b"late"}, replaces=dots_of(LIVE.attributes, ("x",)))
    entry = after(LIVE, sets(3, x=b"newer"), 2)
    assert committed(entry, late, stamp(3)) == (Outcome.OUTDATED, entry)
    again = msgspec.structs.replace(late, replaces=found_by(entry, late))
    assert shown(after(entry, again, 3))["x"] == b"late"


def test_a_late_commit_brings_no_deleted_attribute_back() -> None:
    """S18, S24: an attribute that is gone is not what its request saw either; one that was absent and still is, is."""
    gone = after(LIVE, deletes(3, "x"), 2)
    assert refusal(gone, Commit(commit_id(2), SECRET, {"x": b"2"}, replaces={"x": ((101, 1),)}), stamp(3))
    new = Commit(commit_id(2), SECRET, {"y": b"2"}, replaces={"y": ()})
    assert refusal(gone, new, stamp(3)) is None


def test_a_condition_looks_only_at_what_was_read() -> None:
    """S02: a change of another attribute is no conflict."""
    changed = after(LIVE, sets(2, y=b"2"), 2)
    conditional = Commit(commit_id(3), SECRET, {"x": b"3"}, expects={"x": ((LIVES["a"], 1),)})
    assert shown(after(changed, conditional, 3)) == {"x": b"3", "y": b"2"}


# --- size -----------------------------------------------------------------------------------------------------------


def test_a_session_grows_to_its_limit_and_not_beyond() -> None:
    """The limit counts names and values of the whole entry; at the limit is allowed, one byte more changes nothing."""
    size = sum(len(n) + sum(len(s.value) for s in v) for n, v in LIVE.attributes.items())
    bytes_max = size - 1 + 100  # "x" holds one byte before
    fits, exceeds = sets(2, x=bytes(100)), sets(2, x=bytes(101))
    assert committed(LIVE, fits, stamp(2, bytes_max=bytes_max))[0] is Outcome.COMMITTED
    assert committed(LIVE, exceeds, stamp(2, bytes_max=bytes_max)) == (Outcome.TOO_LARGE, LIVE)


def test_a_session_has_a_bounded_number_of_attributes() -> None:
    """4,096, the reserved one included."""
    many = {f"n{i}": b"" for i in range(limits.ATTRIBUTES_MAX - 1)}
    entry = after(new_session(), Commit(commit_id(2), SECRET, many), 2)
    assert len(entry.attributes) == limits.ATTRIBUTES_MAX
    assert committed(entry, sets(3, one_more=b""), stamp(3)) == (Outcome.TOO_LARGE, entry)


# --- the end --------------------------------------------------------------------------------------------------------


def test_the_end_leaves_a_tombstone_that_nobody_writes_to() -> None:
    """S04: no data, its number goes out like any change, every later commit is told ENDED; its own repeat is known."""
    commit = Commit(commit_id(2), SECRET, ends=True)
    stone = after(LIVE, commit, 2, now_ms=3_000)
    assert (stone.ended_ms, stone.attributes, stone.number) == (3_000, {}, 2)
    assert stone.context == {LIVES["a"]: 2} and stone.recent[-1] == commit_id(2)
    assert committed(stone, commit, stamp(5)) == (Outcome.REPEATED, stone)
    for again in (sets(3, x=b"back"), login(4)):
        assert committed(stone, again, stamp(5)) == (Outcome.ENDED, stone)
    assert current_secret(stone) == b""


# --- rotation -------------------------------------------------------------------------------------------------------


def test_a_renewal_opens_to_both_secrets_for_its_grace_time() -> None:
    """S11: the new one at once and for good, the old one until the grace time is over, then nothing."""
    entry = after(LIVE, rotation(2, x=b"2"), 2, now_ms=5_000)
    assert (current_secret(entry), entry.times.rotated_ms) == (NEW, 5_000)
    assert opening(entry, NEW, 10**9, GRACE_MS) is Opening.CURRENT
    assert opening(entry, SECRET, 4_999 + GRACE_MS, GRACE_MS) is Opening.GRACE
    assert opening(entry, SECRET, 5_000 + GRACE_MS, GRACE_MS) is Opening.NOTHING
    in_time, late = stamp(3, now_ms=14_999), stamp(3, now_ms=15_000)
    assert committed(entry, sets(3, y=b"3"), in_time)[0] is Outcome.COMMITTED
    assert committed(entry, sets(3, y=b"3"), late) == (Outcome.FENCED, entry)


def test_a_renewal_in_grace_overwrites_no_cookie() -> None:
    """S11: two parallel requests renew: the second's values are kept, its secret is not, the first one's stays."""
    entry = after(LIVE, rotation(2, NEW), 2, now_ms=5_000)
    entry = after(entry, rotation(3, NEWER, x=b"3"), 3, now_ms=5_100)
    assert current_secret(entry) == NEW and shown(entry)["x"] == b"3"
    assert opening(entry, NEWER, 5_100, GRACE_MS) is Opening.NOTHING
    assert entry.times.rotated_ms == 5_000


def test_after_a_login_the_old_secret_opens_nothing() -> None:
    """S11 (fixation): whoever planted the old id sees nothing and writes nothing, from the login on."""
    entry = after(LIVE, login(2), 2, now_ms=5_000)
    assert opening(entry, NEW, 5_000, GRACE_MS) is Opening.CURRENT
    assert opening(entry, SECRET, 5_000, GRACE_MS) is Opening.FENCED
    for commit in (sets(3, x=b"3"), rotation(3, NEWER), Commit(commit_id(3), SECRET, ends=True)):
        assert committed(entry, commit, stamp(3, now_ms=5_001)) == (Outcome.FENCED, entry)


def test_a_login_whose_answer_was_lost_can_be_repeated() -> None:
    """S11: a new try with the old cookie logs in again within the grace time, and then only its own secret opens."""
    entry = after(LIVE, login(2), 2, now_ms=5_000)
    again = login(3, NEWER)
    assert refusal(entry, again, stamp(3, now_ms=5_000 + GRACE_MS)) is Outcome.FENCED
    entry = after(entry, again, 3, now_ms=5_100)
    assert current_secret(entry) == NEWER
    assert opening(entry, NEW, 5_100, GRACE_MS) is not Opening.CURRENT


def test_a_login_is_a_rotation_that_changes_who_it_is() -> None:
    """Setting or removing the principal with a new secret is one; a renewal, or a principal without one, is not."""
    assert is_login(login(2)) and is_login(Commit(commit_id(2), SECRET, deletes=(PRINCIPAL,), rotates_to=NEW))
    assert not is_login(rotation(2)) and not is_login(Commit(commit_id(2), SECRET, {PRINCIPAL: b"ann"}))


def test_logging_out_ends_both_secrets() -> None:
    """S11: after the end neither the new nor the old secret opens anything."""
    renewed = after(LIVE, rotation(2), 2, now_ms=5_000)
    stone = after(renewed, Commit(commit_id(3), NEW, ends=True), 3, now_ms=5_001)
    assert {opening(stone, secret, 5_002, GRACE_MS) for secret in (SECRET, NEW)} == {Opening.NOTHING}


def test_concurrent_rotations_each_keep_their_secret() -> None:
    """S11, S38: on two sides of a partition; after the merge both cookies open the session, nobody is logged out."""
    left = after(LIVE, rotation(2, NEW), 2, now_ms=5_000).attributes[SECRETS]
    right = after(LIVE, rotation(3, NEWER), 3, "b", now_ms=5_000).attributes[SECRETS]
    both = moved(LIVE, attributes={SECRETS: (*left, *right)})
    assert {opening(both, secret, 5_001, GRACE_MS) for secret in (NEW, NEWER)} == {Opening.CURRENT}


def test_a_session_that_was_never_rotated_has_no_grace() -> None:
    """The empty previous secret of a new session opens nothing, not even for a request without a secret's hash."""
    assert opening(LIVE, b"", 1_000, GRACE_MS) is Opening.NOTHING


# --- touches --------------------------------------------------------------------------------------------------------


def test_a_touch_moves_the_access_time_forward_only() -> None:
    """S44, S45: on a primary and on a backup; the same or an earlier instant changes nothing; no value, number or
    context changes."""
    for entry in (LIVE, backup_of(LIVE)):
        assert touched(entry, 2_000) == (Outcome.STORED, moved(entry, times=times(1_000, 2_000)))
        for earlier in (1_000, 500):
            assert touched(entry, earlier) == (Outcome.UNCHANGED, entry)


def test_use_after_its_time_brings_no_session_back() -> None:
    """S44, S45: the touch of a request that stood still for longer than the idle timeout; only a primary decides that,
    a backup notes what it hears."""
    entry = moved(LIVE, times=moved(times(1_000, 2_000), idle_timeout_ms=5_000))
    assert touched(entry, 6_999)[0] is Outcome.STORED
    assert touched(entry, 7_000) == (Outcome.UNCHANGED, entry)
    assert touched(backup_of(entry), 7_000)[0] is Outcome.STORED


def test_neither_a_proxy_nor_a_tombstone_is_touched() -> None:
    """S04: use keeps no ended session alive."""
    for entry in (proxy(), ended(LIVE, 1_500)):
        assert touched(entry, 10**9) == (Outcome.UNCHANGED, entry)


def test_a_replaced_secret_logs_nobody_else_in() -> None:
    """S11 (fixation): not even who had opened the session before the login and commits after it; the same person may,
    whose login's answer was lost; and nobody may when nobody is logged in."""
    entry = after(LIVE, login(2), 2, now_ms=5_000)
    late = stamp(3, now_ms=5_001)
    other = Commit(commit_id(3), SECRET, {PRINCIPAL: b"mallory"}, rotates_to=NEWER)
    assert committed(entry, other, late) == (Outcome.FENCED, entry)
    nobody = Commit(commit_id(3), SECRET, deletes=(PRINCIPAL,), rotates_to=NEWER)
    assert committed(entry, nobody, late) == (Outcome.FENCED, entry)
    assert committed(entry, login(3, NEWER), late)[0] is Outcome.COMMITTED
    fenced = after(LIVE, Commit(commit_id(2), SECRET, deletes=(PRINCIPAL,), rotates_to=NEW), 2, now_ms=5_000)
    assert opening(fenced, SECRET, 5_001, GRACE_MS) is Opening.FENCED
    assert committed(fenced, nobody, late) == (Outcome.FENCED, fenced)
