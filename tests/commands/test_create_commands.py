"""Where a key's first entry is made: of a session here, of a dictionary's part at one member for all."""

from __future__ import annotations

from tests.commands.transcript import BACKUP, Turns, creation, sent
from tests.making import CHOOSERS, LIVES, commit_id

from understudy import limits
from understudy.model.commit import Commit, Creation
from understudy.model.entry import Epoch, Location, Role
from understudy.protocol import commands as c
from understudy.protocol import messages as m
from understudy.protocol.placement import Candidate, rendezvous

B_FIRST, A_FIRST = b"\xf0" * 16, b"\xf1" * 16
"""Keys of parts of dictionaries, by the member that is first for them; c is the second of the former."""


def part(key: bytes) -> m.CommitRequest:
    """A worker's request that begins a part of a dictionary."""
    return m.CommitRequest(0, key, Commit(commit_id(1), b"", sets={"x": b"1"}, creates=Creation(0)), BACKUP)


def ready(*names: str) -> Turns:
    a = Turns("b", "c")
    for name in names:
        a.hears(name, m.Heartbeat(a.now_ms, ready=True))
    return a


def forwarded(commands: list[c.Command]) -> list[str]:
    return [to for to, _ in sent(commands, m.Forward)]


def test_these_keys_are_whose_the_tests_say() -> None:
    """What the others stand on."""
    order = {key: [n.name for n in rendezvous(key, [*map(Candidate, "abc")], 0)] for key in (B_FIRST, A_FIRST)}
    assert order == {B_FIRST: ["b", "c", "a"], A_FIRST: ["a", "b", "c"]}


def test_a_part_of_a_dictionary_begins_at_the_member_of_its_key() -> None:
    """S03, S09: whoever begins it, so that one member knows who was first."""
    a = ready("b", "c")
    assert forwarded(a.asked(part(B_FIRST))) == ["b"] and B_FIRST not in a.entries
    assert forwarded(a.asked(part(A_FIRST), 2)) == [] and a.entries[A_FIRST].role is Role.PRIMARY


def test_of_two_that_begin_it_the_second_changes_what_the_first_has_made() -> None:
    """S03: a conditional change that saw nothing there is in conflict, and made anew over the first."""
    a = ready("b", "c")
    a.asked(part(A_FIRST))
    second = Commit(commit_id(2), b"", sets={"x": b"1"}, creates=Creation(0), expects={"x": ()})
    a.hears("b", m.Forward(9, A_FIRST, second, BACKUP, False, 1, a.now_ms))
    assert a.entries[A_FIRST].recent == (commit_id(1),)
    third = Commit(commit_id(3), b"", sets={"y": b"1"}, creates=Creation(0), expects={"y": ()})
    a.hears("c", m.Forward(9, A_FIRST, third, BACKUP, False, 1, a.now_ms))
    assert a.entries[A_FIRST].recent == (commit_id(1), commit_id(3))


def test_a_session_begins_where_its_first_request_is() -> None:
    """S09: nobody else has its id."""
    a = ready("b", "c")
    assert forwarded(a.asked(creation(x=b"1"))) == []


def test_who_is_not_ready_begins_nothing_for_others() -> None:
    """S32: it may not know yet what there is."""
    a = ready("c")
    assert forwarded(a.asked(part(B_FIRST))) == ["c"]


def test_who_has_left_the_question_unanswered_is_passed_over() -> None:
    """S21: a request waits for a silent member no longer than for a silent primary; then the next one is asked."""
    a = ready("b", "c")
    a.asked(part(B_FIRST))
    assert forwarded(a.wait(400, hearing=("c",)))[-1] == "c"


def test_who_is_lost_is_asked_for_before_the_part_begins_anew() -> None:
    """S03, S22: it may have made the part, and its backup then holds it."""
    a = ready("b", "c")
    a.asked(part(B_FIRST))
    commands = a.on(c.PeerLost("b", LIVES["b"]))
    ((to, locate),) = sent(commands, m.Locate)
    there = Location("b", ("c",), Epoch(1, CHOOSERS["b"], 1))
    assert to == "c" and forwarded(a.hears("c", m.Located(locate.request, B_FIRST, there, ("a", "b", "c")))) == ["c"]


def test_members_that_disagree_pass_a_part_on_only_so_often() -> None:
    """S31: then it begins where it is."""
    a = ready("b", "c")
    commit = part(B_FIRST).commit
    assert forwarded(a.hears("c", m.Forward(8, B_FIRST, commit, BACKUP, False, 1, a.now_ms))) == ["b"]
    a.hears("c", m.Forward(9, B_FIRST, commit, BACKUP, False, limits.LOCATE_HOPS_MAX, a.now_ms))
    assert a.entries[B_FIRST].role is Role.PRIMARY
