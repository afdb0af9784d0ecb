"""Laws of the merge, over random histories of four copies; and of the codec of everything that is sent.

A history is a list of steps: commits at any copy (as on both sides of a partition), deltas sent to any base that the
receiver has had, deliveries of any message sent so far, in any order and as often as one likes. What must come out
is known without the code under test: an attribute keeps exactly the values that no commit which had seen them replaced.
"""

from __future__ import annotations

import enum
import types
import typing
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.making import LIVES, SECRET, commit_id, new_session, stamp, whole

from understudy import limits
from understudy.errors import FrameError
from understudy.model.commit import Commit, Outcome, committed, ended
from understudy.model.delta import Delta, applies, delta_since, merged_attributes, with_merged
from understudy.model.entry import Context, Entry, Epoch, Location, Promise, Role, covers
from understudy.model.roles import contributed, copied, learned, promoted, stepped_down
from understudy.protocol import messages as m

NAMES = ("x", "y", "z")
MEMBERS = ("a", "b", "c", "d")
NOW_MS = 2_000
Dot = tuple[int, int]


class Copies:
    """Four copies of one session, each written where it stands, and all messages that were ever sent."""

    def __init__(self) -> None:
        first = new_session(1, "a", ("b",), x=b"0", y=b"0")
        self.entries: dict[str, Entry] = {"a": first}
        for name in MEMBERS[1:]:
            empty = msgspec.structs.replace(first, context={}, attributes={})
            self.entries[name] = with_merged(empty, whole(first), NOW_MS)
        self.had = {name: [{}, dict(first.context)] for name in MEMBERS}
        """Every context that a copy has had: what a sender may believe of it."""
        self.acknowledged: dict[tuple[str, str], list[tuple[Context, bytes]]] = defaultdict(list)
        """(sender, receiver) -> contexts that the receiver had with something of the sender's, and the last commit in
        that."""
        self.sent: list[tuple[str, str, Delta, bytes]] = []
        self.number = 1
        self.written: dict[str, set[Dot]] = {"x": {(101, 1)}, "y": {(101, 1)}, "z": set()}
        self.replaced: set[tuple[str, int, int]] = set()

    def commit(self, at: str, sets: dict[str, bytes], deletes: Iterable[str]) -> None:
        """One request's changes at one copy; notes what it has seen and replaced."""
        self.number += 1
        gone = tuple(name for name in deletes if name not in sets)
        entry = self.entries[at]
        for name in (*sets, *gone):
            self.replaced |= {(name, *s.dot) for s in entry.attributes.get(name, ())}
        commit = Commit(commit_id(self.number), SECRET, sets=sets, deletes=gone)
        outcome, self.entries[at] = committed(entry, commit, stamp(self.number, at, NOW_MS))
        assert outcome is Outcome.COMMITTED
        for name in sets:
            self.written[name].add((LIVES[at], self.number))
        self.had[at].append(dict(self.entries[at].context))

    def send(self, sender: str, to: str, base: int) -> None:
        """A delta to one of the contexts that the receiver has had, or to what it has acknowledged of this sender."""
        bases = [(context, b"") for context in self.had[to]] + self.acknowledged[sender, to]
        entry = self.entries[sender]
        context, known = bases[base % len(bases)]
        delta = delta_since(entry, context, NOW_MS, known)
        self.sent.append((sender, to, delta, entry.recent[-1]))

    def deliver(self, message: int) -> None:
        """Any message sent so far, for the first time or again."""
        if self.sent:
            sender, to, delta, last = self.sent[message % len(self.sent)]
            assert applies(self.entries[to].context, delta), "a copy lost something that it had seen"
            self.entries[to] = with_merged(self.entries[to], delta, NOW_MS)
            self.had[to].append(dict(self.entries[to].context))
            self.acknowledged[sender, to].append((dict(self.entries[to].context), last))

    def expected(self) -> dict[str, set[Dot]]:
        """For each attribute the dots that no commit which had seen them replaced."""
        left = {n: {d for d in dots if (n, *d) not in self.replaced} for n, dots in self.written.items()}
        return {name: dots for name, dots in left.items() if dots}


_sets = st.dictionaries(st.sampled_from(NAMES), st.binary(max_size=3), max_size=2)
_members = st.sampled_from(MEMBERS)
_commits = st.tuples(st.just("commit"), _members, _sets, st.lists(st.sampled_from(NAMES), max_size=2))
_sends = st.tuples(st.just("send"), _members, _members, st.integers(0, 20))
_deliveries = st.tuples(st.just("deliver"), st.integers(0, 60))
_steps = st.lists(_commits | _sends | _deliveries, max_size=40)


@st.composite
def histories(draw: st.DrawFn) -> Copies:
    copies = Copies()
    for step in draw(_steps):
        getattr(copies, step[0])(*step[1:])
    return copies


def data(entry: Entry) -> tuple[object, ...]:
    """Everything that must converge; the order of commit ids and the role of a copy need not."""
    return entry.context, entry.attributes, entry.times, set(entry.recent)


def merge(left: Entry, right: Entry) -> Entry:
    return with_merged(left, whole(right, NOW_MS), NOW_MS)


def dots(entry: Entry) -> dict[str, set[Dot]]:
    return {n: {s.dot for s in values} for n, values in entry.attributes.items() if n in NAMES}


@given(histories(), st.permutations([(a, b) for a in MEMBERS for b in MEMBERS if a != b]), st.integers(0, 20))
def test_all_copies_converge(copies: Copies, exchanges: list[tuple[str, str]], base: int) -> None:
    """S15, S18: whatever was lost, repeated and reordered, after each copy has told each other one all are equal, and
    each attribute has exactly the values that nobody who had seen them replaced: a deleted one is gone everywhere, an
    overwrite concurrent with a deletion is there, concurrent values stand side by side."""
    for _ in range(2):
        for sender, to in exchanges:
            copies.send(sender, to, base)
            copies.deliver(len(copies.sent) - 1)
    first = copies.entries["a"]
    for entry in copies.entries.values():
        assert (entry.context, entry.attributes, entry.times) == (first.context, first.attributes, first.times)
    assert dots(first) == copies.expected()


@given(histories())
def test_merging_is_commutative(copies: Copies) -> None:
    """S15: either of two copies, having merged the other, holds the same."""
    for left in copies.entries.values():
        for right in copies.entries.values():
            assert data(merge(left, right)) == data(merge(right, left))


@given(histories())
def test_merging_is_associative(copies: Copies) -> None:
    """S15: of three copies it does not matter which two merge first."""
    a, b, c, _ = copies.entries.values()
    assert data(merge(merge(a, b), c)) == data(merge(a, merge(b, c)))


@given(histories())
def test_merging_is_idempotent(copies: Copies) -> None:
    """S15: a message that comes twice changes nothing the second time, nor does a copy's own."""
    a, b, *_ = copies.entries.values()
    assert data(merge(a, a)) == data(a)
    once = merge(a, b)
    assert merge(once, b) == once


@given(histories(), _members, _members, st.integers(0, 20))
def test_a_delta_gives_what_the_whole_gives(copies: Copies, sender: str, to: str, base: int) -> None:
    """S18: a delta to any context that the receiver has had brings it exactly what the whole entry would, deletions
    included, and never more values."""
    since = copies.had[to][base % len(copies.had[to])]
    delta, everything = delta_since(copies.entries[sender], since, NOW_MS), whole(copies.entries[sender], NOW_MS)
    receiver = copies.entries[to]
    assert with_merged(receiver, delta, NOW_MS) == with_merged(receiver, everything, NOW_MS)
    assert sum(map(len, delta.values.values())) <= sum(map(len, everything.values.values()))


@given(histories(), _members, _members, st.integers(0, 20))
def test_a_delta_on_a_missing_base_is_never_applied(copies: Copies, sender: str, to: str, base: int) -> None:
    """S17, S18: a copy that has not seen a delta's base answers NEEDS_WHOLE and stays as it is; so does no copy at
    all, unless the delta is whole."""
    since = copies.had[to][base % len(copies.had[to])]
    delta = delta_since(copies.entries[sender], since, NOW_MS)
    holder = msgspec.structs.replace(copies.entries["b"], role=Role.BACKUP)
    outcome, entry = copied(holder, delta, "b", NOW_MS)
    if covers(holder.context, delta.base):
        assert outcome is Outcome.STORED and entry is not None
        assert covers(entry.context, delta.context)
    else:
        assert (outcome, entry) == (Outcome.NEEDS_WHOLE, holder)
        with pytest.raises(AssertionError):
            merged_attributes(holder.attributes, holder.context, delta)
    outcome, entry = copied(None, delta, "b", NOW_MS)
    assert outcome is (Outcome.STORED if not delta.base else Outcome.NEEDS_WHOLE)


@given(histories(), _members, _members, st.integers(0, 20))
def test_the_end_of_a_session_wins_over_everything(copies: Copies, ender: str, other: str, base: int) -> None:
    """S04: whichever function brings the two together, a live copy that hears of the tombstone ends, and a tombstone
    that hears of a live copy, even under a higher reign, stays one and holds no data."""
    live = msgspec.structs.replace(copies.entries[other], role=Role.BACKUP, epoch=Epoch(9, 1, 1))
    as_primary = msgspec.structs.replace(live, role=Role.PRIMARY)
    stone = ended(copies.entries[ender], NOW_MS)
    word, news = whole(stone, NOW_MS), whole(live, NOW_MS)
    named = msgspec.structs.replace(live, primary="a", backups=("b",))
    hearing = (
        copied(named, word, "b", NOW_MS),
        learned(named, "b", stone.location, NOW_MS),
        learned(as_primary, "a", stone.location, NOW_MS),
        stepped_down(as_primary, word, "a", frozenset(), frozenset(), NOW_MS),
        promoted(live, Promise(20, 5), "b", (), (word,), NOW_MS, 99),
    )
    for outcome, entry in hearing:
        assert outcome in (Outcome.STORED, Outcome.ENDED)
        assert entry is not None and entry.ended and not entry.attributes
    resisting = (
        copied(stone, news, "b", NOW_MS),
        copied(stone, delta_since(live, copies.had[ender][base % len(copies.had[ender])], NOW_MS), "b", NOW_MS),
        learned(stone, "b", live.location, NOW_MS),
        stepped_down(stone, news, "a", frozenset(), frozenset(), NOW_MS),
        contributed(stone, news, 99, NOW_MS),
        promoted(stone, Promise(20, 5), "a", (), (news,), NOW_MS, 99),
        committed(stone, Commit(commit_id(99), SECRET, {"x": b"back"}), stamp(99, "a", NOW_MS)),
    )
    for outcome, entry in resisting:
        assert (outcome, entry) == (Outcome.ENDED, stone)


# --- the codec ------------------------------------------------------------------------------------------------------

_INTEGERS = st.integers(-(2**63), 2**64 - 1)
_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def anything(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a field's type, down to the last field of the last message."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return st.one_of([anything(argument) for argument in arguments])
    if origin is tuple and arguments[-1] is Ellipsis:
        return st.lists(anything(arguments[0]), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*map(anything, arguments))
    if origin is dict:
        return st.dictionaries(anything(arguments[0]), anything(arguments[1]), max_size=3)
    if issubclass(kind, enum.Enum):
        return st.sampled_from(kind)
    if issubclass(kind, msgspec.Struct):
        return st.builds(kind, *[st.deferred(lambda f=f: anything(f.type)) for f in msgspec.structs.fields(kind)])
    if issubclass(kind, tuple):
        return st.builds(kind, *map(anything, typing.get_type_hints(kind).values()))
    plain = {bool: st.booleans(), int: _INTEGERS, bytes: st.binary(max_size=12), str: _TEXTS, type(None): st.none()}
    return plain[kind]


_member_messages = st.one_of([anything(kind) for kind in typing.get_args(m.MemberMessage)])
_worker_messages = st.one_of([anything(kind) for kind in typing.get_args(m.WorkerMessage)])


@given(st.data(), st.sampled_from([Entry, Delta, Location, Commit]))
def test_entries_deltas_and_commits_come_back_as_they_were(data: st.DataObject, kind: type) -> None:
    """What the model holds is the same after its bytes have been written and read."""
    value = data.draw(anything(kind))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=kind) == value


@pytest.mark.parametrize("kind", typing.get_args(m.MemberMessage), ids=lambda kind: kind.__name__)
def test_each_message_between_members_comes_back_as_it_was(kind: type) -> None:
    """Every message between members decodes to the value that was encoded, of the same kind."""

    @given(anything(kind))
    def law(message: Any) -> None:
        again = m.decode_member_message(m.encode(message))
        assert type(again) is kind and again == message

    law()


@pytest.mark.parametrize("kind", typing.get_args(m.WorkerMessage), ids=lambda kind: kind.__name__)
def test_each_message_of_a_worker_comes_back_as_it_was(kind: type) -> None:
    """Every message between a worker and its agent decodes to the value that was encoded, of the same kind."""

    @given(anything(kind))
    def law(message: Any) -> None:
        again = m.decode_worker_message(m.encode(message))
        assert type(again) is kind and again == message

    law()


def decoded_or_refused(frame: bytes) -> None:
    """Both decoders give a message, or FrameError, and nothing else."""
    for decode in (m.decode_member_message, m.decode_worker_message):
        try:
            decode(frame)
        except FrameError as error:
            assert str(error)


@given(st.binary(max_size=300))
def test_random_bytes_are_decoded_or_refused(frame: bytes) -> None:
    """S52: bytes that nobody of ours has written raise FrameError or happen to be a message; no other error."""
    decoded_or_refused(frame)


@given(_member_messages | _worker_messages, st.data())
def test_damaged_messages_are_decoded_or_refused(message: Any, data: st.DataObject) -> None:
    """S52: a message that was cut off or changed in a few bytes raises FrameError or is another message."""
    frame = bytearray(m.encode(message))
    for _ in range(data.draw(st.integers(0, 3))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    decoded_or_refused(bytes(frame[: data.draw(st.integers(0, len(frame)))]))


@given(_member_messages)
def test_what_follows_a_message_is_refused(message: Any) -> None:
    """S52: a frame is one message; bytes after it raise FrameError."""
    with pytest.raises(FrameError):
        m.decode_member_message(m.encode(message) + b"\x00")


@pytest.mark.parametrize("opening", [b"\x91", b"\x81\x01", b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff"])
def test_deep_nesting_and_false_counts_are_refused(opening: bytes) -> None:
    """S52: a hundred thousand nested arrays or maps, and counts far beyond the frame, raise FrameError."""
    with pytest.raises(FrameError):
        m.decode_member_message(opening * 100_000)


def test_an_oversized_frame_is_refused_unread() -> None:
    """S52: a frame above the limit raises FrameError that names the limit, even if it would be a message."""
    frame = m.encode(m.Forget(tuple((bytes(16), Epoch(1, 1, 1)) for _ in range(limits.FRAME_BYTES_MAX // 20))))
    assert len(frame) > limits.FRAME_BYTES_MAX
    with pytest.raises(FrameError, match=str(limits.FRAME_BYTES_MAX)):
        m.decode_member_message(frame)
