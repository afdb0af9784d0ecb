"""Incarnations that are over leave a context: nothing grows with the number of restarts, and no merge goes wrong."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.making import LIVES, backup_of, new_session, whole
from tests.property.test_merge_properties import MEMBERS, Copies, dots, histories

from understudy import limits
from understudy.model.commit import Outcome
from understudy.model.delta import delta_since, with_merged
from understudy.model.entry import OVER, Role, bounded, covers, finished, going, united
from understudy.model.roles import lives_finished
from understudy.protocol.changes import Environment, perform
from understudy.protocol.commands import CopyIn, Settings
from understudy.protocol.core import Core
from understudy.protocol.lives import Lives
from understudy.protocol.members import Members

EXCHANGES = [(a, b) for a in MEMBERS for b in MEMBERS if a != b]
FORGET_MS = 1_000


def told_all(copies: Copies) -> None:
    for _ in range(2):
        for sender, to in EXCHANGES:
            copies.send(sender, to, 0)
            copies.deliver(len(copies.sent) - 1)


def finish(copies: Copies, at: str, ended: set[str]) -> None:
    outcome, entry = lives_finished(copies.entries[at], [LIVES[name] for name in ended])
    assert outcome in (Outcome.STORED, Outcome.UNCHANGED) and entry is not None
    copies.entries[at] = entry


_later = st.lists(
    st.tuples(st.sampled_from("ab"), st.dictionaries(st.sampled_from("xyz"), st.binary(max_size=2), max_size=2))
)
_old = st.lists(st.integers(0, 60), max_size=8)


@given(histories(), _later, _old)
def test_copies_converge_when_lives_have_ended(
    copies: Copies, later: list[tuple[str, dict[str, bytes]]], old: list[int]
) -> None:
    """S15, S18: c and d have ended and everybody has heard all of them; one copy says so, others go on writing, and any
    message from before comes again: every attribute has exactly the values that nobody who had seen them replaced."""
    told_all(copies)
    finish(copies, "a", {"c", "d"})
    for at, sets in later:
        copies.commit(at, sets, ())
    for number in old:
        copies.deliver(number)
    told_all(copies)
    for entry in copies.entries.values():
        assert dots(entry) == copies.expected()
        assert going(entry.context) == going(copies.entries["a"].context)


@given(histories(), _later)
def test_copies_converge_when_ended_lives_have_left(copies: Copies, later: list[tuple[str, dict[str, bytes]]]) -> None:
    """S15: they are remembered no more, anywhere or here alone; what is sent from then on changes nothing of that."""
    told_all(copies)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "CONTEXT_OVER_MAX", 0)
        finish(copies, "a", {"c", "d"})
    for at, sets in later:
        copies.commit(at, sets, ())
    for sender, to in (*EXCHANGES, *EXCHANGES):
        delta = delta_since(copies.entries[sender], copies.entries[to].context, 2_000)
        copies.entries[to] = with_merged(copies.entries[to], delta, 2_000)
    for entry in copies.entries.values():
        assert dots(entry) == copies.expected()


_contexts = st.dictionaries(st.integers(1, 9), st.integers(1, 9) | st.just(OVER))


@given(_contexts, _contexts, _contexts)
def test_contexts_are_united_in_any_order(a: dict[int, int], b: dict[int, int], c: dict[int, int]) -> None:
    """S15: commutative, associative, idempotent, and what is united covers both."""
    assert united(a, b) == united(b, a) and united(a, a) == a
    assert united(united(a, b), c) == united(a, united(b, c))
    assert covers(united(a, b), a) and covers(united(a, b), b)


def test_who_has_forgotten_an_ended_life_lacks_nothing() -> None:
    """A context without it covers one that says it is over, and not one that has seen only some of it."""
    assert covers({1: 5}, {1: 5, 2: OVER})
    assert not covers({1: 5}, {1: 5, 2: 3})
    assert not covers({1: 5, 2: 3}, {1: 5, 2: OVER}), "it has something to learn"
    assert covers({1: 5, 2: OVER}, {2: 9})


def test_a_stale_value_of_an_ended_life_is_lost_by_merging() -> None:
    """S18: a copy that still carries what was deleted elsewhere does not bring it back."""
    stale = new_session(1, "c", ("a",), x=b"old", y=b"1")
    now = msgspec.structs.replace(stale, context={LIVES["c"]: OVER, LIVES["a"]: 7}, attributes={})
    assert with_merged(stale, whole(now), 2_000).attributes == with_merged(now, whole(stale), 2_000).attributes == {}


def test_only_lives_of_which_nothing_is_carried_leave() -> None:
    """Those that are asked for, where they are in the context, at the primary of a live session."""
    entry = new_session(3, "a", ("b",), x=b"1")
    entry = msgspec.structs.replace(entry, context={**entry.context, 7: 4, 8: 9})
    outcome, after = lives_finished(entry, (LIVES["a"], 7, 99))
    assert outcome is Outcome.STORED and after is not None
    assert after.context == {LIVES["a"]: 3, 7: OVER, 8: 9} and after.attributes == entry.attributes
    assert lives_finished(after, (7,))[0] is Outcome.UNCHANGED
    assert lives_finished(backup_of(entry), (7,))[0] is Outcome.UNCHANGED


def test_a_context_is_bounded() -> None:
    """Of lives that are over those are remembered that ended last; the others stay whatever their number."""
    context = finished({n: n for n in range(1, 101)}, range(1, 91))
    assert len(context) == 10 + limits.CONTEXT_OVER_MAX
    assert [n for n, number in context.items() if number == OVER] == list(range(91 - limits.CONTEXT_OVER_MAX, 91))
    assert bounded(context) is context
    assert len(united(context, {n: OVER for n in range(200, 300)})) == 10 + limits.CONTEXT_OVER_MAX


class Watch:
    """The lives that one member knows of, and its clock."""

    def __init__(self, noted: bytes = b"") -> None:
        self.core = Core(Settings("a", LIVES["a"], 1, forget_ms=FORGET_MS))
        self.members = Members(self.core)
        self.lives = Lives(self.core, self.members)
        self.lives.start(noted)
        self.core.now_ms = 5_000

    def over(self, **numbers: int) -> set[int]:
        """Which of those incarnations are over, in an entry that names enough."""
        context = {int(name[1:]): number for name, number in numbers.items()}
        filler = {LIVES["a"]: 1, **{10_000 + n: OVER for n in range(limits.CONTEXT_FINISHED_FROM)}}
        entry = msgspec.structs.replace(new_session(1, "a", ("b",), x=b"1"), context={**filler, **context})
        assert entry.role is Role.PRIMARY
        return set(self.lives.over_in(entry))

    def noted(self) -> bytes:
        self.core.take()
        self.lives.end_page()
        (note,) = self.core.take()
        return note.value  # type: ignore[union-attr]


def test_a_life_is_over_when_nothing_was_heard_of_it_for_long() -> None:
    """S26: counted from when it was first met and was nobody's life; a newer number of it begins that anew; neither
    this life nor one of a reachable member is ever over."""
    watch = Watch()
    watch.members.found("b", 50)
    assert watch.over(i7=3, i50=4) == set()
    watch.core.now_ms += FORGET_MS
    assert watch.over(i7=3) == set()
    watch.core.now_ms += 1
    assert watch.over(i7=3, i50=4) == {7}
    assert watch.over(i7=4) == set(), "it has committed since"
    watch.members.lost("b", 50)
    watch.core.now_ms += FORGET_MS + 1
    assert watch.over(i50=4, i7=4) == set(), "b is missing, and may be cut off"
    watch.members.found("b", 51)
    assert watch.over(i50=4, i7=4) == {7}
    watch.core.now_ms += FORGET_MS + 1
    assert watch.over(i50=4) == {50}, "b has begun another life"


def test_what_was_noted_outlives_the_agent() -> None:
    """Deployed daily, a member would never see a whole ``forget`` otherwise."""
    watch = Watch()
    assert watch.over(i7=3) == set()
    later = Watch(watch.noted())
    later.core.now_ms += FORGET_MS + 1
    assert later.over(i7=3) == {7}


def test_a_life_that_others_take_for_over_ends() -> None:
    """It was cut off for longer than anybody remembers: its agent dies of it, before it answers anything that others
    would drop, and its next life is another one."""
    theirs = new_session(1, "b", ("a",), x=b"1")
    theirs = msgspec.structs.replace(theirs, context={**theirs.context, LIVES["a"]: OVER})
    mine = backup_of(new_session(1, "b", ("a",), x=b"1"))
    world = Environment(Settings("a", LIVES["a"], 1), 2_000, lambda: 1, lambda: False)
    with pytest.raises(AssertionError, match="taken for one that is over"):
        perform(CopyIn("b", 1, whole(theirs)), mine, world)
    next_life = msgspec.structs.replace(world, settings=Settings("a", LIVES["a"] + 1, 1))
    assert perform(CopyIn("b", 1, whole(theirs)), mine, next_life)[0] is Outcome.STORED


def test_contexts_with_few_lives_are_left_alone() -> None:
    """No look into the attributes, no note."""
    watch = Watch()
    assert watch.lives.over_in(new_session(1, "a", ("b",), x=b"1")) == ()
    watch.lives.end_page()
    assert watch.core.take() == []
