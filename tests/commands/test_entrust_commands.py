"""A session at rest gets another holder in one round: several in a message, and nothing is listed before its answer."""

from __future__ import annotations

from msgspec.structs import replace
from tests.commands.transcript import START_MS, Turns, sent, told, writing
from tests.making import CHOOSERS, KEY, LIVES, backup_of, moved, new_session, place, proxy, whole

from understudy import limits
from understudy.model.commit import ended
from understudy.model.delta import Delta
from understudy.model.entry import NO_PROMISE, Entry, Promise, Role
from understudy.protocol import commands as c
from understudy.protocol import messages as m
from understudy.protocol.commands import FactKind
from understudy.protocol.entrust import SILENCE_MS

A, B = LIVES["a"], LIVES["b"]
OTHER = b"l" * 16
THEIRS = new_session(1, "b", ("c",), START_MS, x=b"1")
"""What b holds as primary, with a copy at c."""
SCAN = c.Scan(c.ScanKind.MEMBER, c.Recheck("b"), member="b")


def swept(a: Turns, *keys: bytes) -> list[c.Command]:
    """b is lost, and what names it is looked at."""
    a.on(c.PeerLost("b", B))
    return a.on(c.Scanned(SCAN, keys or (KEY,), False))


def listed(entry: Entry, *backups: str, now_ms: int = START_MS) -> Delta:
    """The whole entry under the next list of its primary."""
    return replace(whole(entry, now_ms), location=replace(entry.location, backups=backups, epoch=entry.epoch.next_list))


def changes(commands: list[c.Command]) -> list[c.What]:
    return [command.what for command in commands if isinstance(command, c.Change)]


def entrusted(a: Turns, name: str = "c") -> m.Entrust:
    """What that member was entrusted with by the sweep after b's loss."""
    (message,) = [message for to, message in sent(swept(a), m.Entrust) if to == name]
    return message


# --- the primary's side ---------------------------------------------------------------------------------------------


def test_a_new_holder_is_entrusted_and_the_lost_one_given_up_with_its_answer() -> None:
    """S21, S29: the lost one stays listed, and nothing is stored, until the new one has everything; then the new list
    is stored, which has no number: nobody lacks anything."""
    a = Turns("b", "c").with_session()
    entry = a.entry
    commands = swept(a)
    ((_, message),) = sent(commands, m.Entrust)
    assert commands == [
        c.Read((KEY,), c.Recheck("b")),
        told(FactKind.BACKUP_CHOSEN, "c"),
        c.Send("c", m.Entrust(message.number, ((KEY, listed(entry, "c", now_ms=a.now_ms)),))),
    ]
    assert a.entry is entry
    commands = a.hears("c", m.Entrusted(message.number, ((KEY, 0),)))
    relist = c.Relist(("c",), ("b",), entry.epoch, entry.context, entry.times, 0)
    assert commands == [c.Change(KEY, relist), told(FactKind.BACKUP_RELEASED, "b")]
    assert a.entry.location == place("a", ("c",), list_number=2)
    assert not a.outbox and a.entry.number == entry.number


def test_what_a_page_leads_to_leaves_in_one_message() -> None:
    """S36: all that one member is entrusted with in a turn; its answer may name some of them."""
    a = Turns("b", "c").with_session()
    a.entries[OTHER] = a.entry
    ((to, message),) = sent(swept(a, KEY, OTHER), m.Entrust)
    assert to == "c" and [key for key, _ in message.copies] == [KEY, OTHER]
    a.hears("c", m.Entrusted(message.number, ((OTHER, 0),)))
    assert (a.entries[KEY].backups, a.entries[OTHER].backups) == (("b",), ("c",))


def test_a_message_is_bounded_in_bytes() -> None:
    """S36: large sessions go in several, one that is larger than any in one of its own."""
    large = new_session(1, "a", ("b",), START_MS, x=bytes(limits.ENTRUSTED_BYTES_MAX))
    keys = [bytes([n]) * 16 for n in range(1, 4)]
    a = Turns("b", "c", entries=dict.fromkeys(keys, large))
    messages = [message for _, message in sent(swept(a, *keys), m.Entrust)]
    assert [[key for key, _ in message.copies] for message in messages] == [[key] for key in keys]
    assert len({message.number for message in messages}) == 3


def test_what_the_new_holder_has_acknowledged_is_where_the_next_delta_begins() -> None:
    """S17: one attribute is sent to it, not the entry."""
    a = Turns("b", "c").with_session()
    a.hears("c", m.Entrusted(entrusted(a).number, ((KEY, 0),)))
    ((to, message),) = sent(a.asked(writing(2, y=b"2"), 2), m.Replicate)
    assert to == "c" and message.delta == a.delta({A: 101})


def test_an_old_holder_that_comes_back_in_between_is_not_waited_for_for_ever() -> None:
    """S21, S29: b is asked what it still holds, under the list that names it; stored now, the other list would leave
    that question open."""
    a = Turns("b", "c").with_session()
    message = entrusted(a)
    a.on(c.PeerFound("b", B))
    a.on(c.Scanned(SCAN, (KEY,), False))
    assert KEY in a.engine.replication.flights
    a.hears("c", m.Entrusted(message.number, ((KEY, 0),)))
    assert "b" in a.entry.backups
    for name in ("b", "c", "c"):  # both lists, one after the other
        a.hears(name, m.Acknowledge(KEY, a.entry.number, a.entry.context))
    assert KEY not in a.engine.replication.flights


def test_a_change_in_between_is_protected_in_two_rounds() -> None:
    """S21: what the new holder has said it has is not all any more: the list is that of the change, and both stay on it
    until the change is acknowledged."""
    a = Turns("b", "c").with_session()
    message = entrusted(a)
    a.asked(writing(2, x=b"2"), 2)
    assert a.entry.backups == ("b", "c")
    commands = a.hears("c", m.Entrusted(message.number, ((KEY, 0),)))
    assert a.entry.backups == ("b", "c") and not [x for x in commands if isinstance(x, c.Reply)]
    commands = a.hears("c", m.Acknowledge(KEY, a.entry.number, a.entry.context))
    assert [x.ticket for x in commands if isinstance(x, c.Reply)] == [2]
    assert a.entry.backups == ("c",)


def test_a_use_in_between_is_not_lost() -> None:
    """S44: the new holder would count from the use before; it is sent all in two rounds."""
    a = Turns("b", "c").with_session()
    message = entrusted(a)
    a.now_ms += 50
    a.asked(m.TouchRequest(KEY))
    commands = a.hears("c", m.Entrusted(message.number, ((KEY, 0),)))
    assert c.Change(KEY, c.SetBackups(("b", "c"))) in commands
    ((_, again),) = sent(commands, m.Replicate)
    assert again.delta.accessed_age_ms == 0


def test_an_end_in_between_is_told_to_the_new_holder() -> None:
    """S04: it may have got the copy after the word of the end."""
    a = Turns("b", "c").with_session()
    message = entrusted(a)
    a.entries[KEY] = ended(a.entry, a.now_ms)
    commands = a.hears("c", m.Entrusted(message.number, ((KEY, 0),)))
    assert a.entry.ended
    assert [(to, x.delta.location.ended) for to, x in sent(commands, m.Replicate)] == [("c", True)]


def test_who_is_no_primary_any_more_lists_nobody() -> None:
    """S25: another has taken the session meanwhile."""
    a = Turns("b", "c").with_session()
    message = entrusted(a)
    a.entries[KEY] = held = moved(backup_of(a.entry), primary="c", backups=("a",))
    commands = a.hears("c", m.Entrusted(message.number, ((KEY, 0),)))
    assert len(commands) == 1 and a.entry is held


def test_an_answer_to_an_earlier_message_is_none_to_this_one() -> None:
    """S15, S21: it may have given its copy up since."""
    a = Turns("b", "c").with_session()
    message = entrusted(a)
    assert a.hears("c", m.Entrusted(message.number - 1, ((KEY, 0),))) == []
    assert a.hears("b", m.Entrusted(message.number, ((KEY, 0),)))[-1:] != [told(FactKind.BACKUP_RELEASED, "b")]
    assert a.entry.backups == ("b",)
    a.hears("c", m.Entrusted(message.number, ((KEY, 0),)))
    assert a.hears("c", m.Entrusted(message.number, ((KEY, 0),))) == []
    assert a.entry.location == place("a", ("c",), list_number=2)


def test_who_does_not_answer_is_listed_beside_the_lost_one() -> None:
    """S14, S21: the message, or its answer, was lost: the two rounds send again until it has everything."""
    a = Turns("b", "c").with_session()
    entrusted(a)
    assert changes(a.wait(SILENCE_MS - 20, hearing=("c",))) == []
    commands = a.wait(20, hearing=("c",))
    assert changes(commands) == [c.SetBackups(("b", "c"))]
    assert [to for to, _ in sent(commands, m.Replicate)] == ["c"]


def test_when_the_new_holder_is_lost_another_is_listed() -> None:
    """S29: at once, and in two rounds: the lost one may have the list that would have come next, and return."""
    a = Turns("b", "c", "d", entries={KEY: new_session(1, "a", ("b",), START_MS, x=b"1")})
    ((first, _),) = sent(swept(a), m.Entrust)
    other = "cd".replace(first, "")
    assert changes(a.on(c.PeerLost(first, LIVES[first]))) == [c.SetBackups(("b", other))]
    a.hears(other, m.Acknowledge(KEY, a.entry.number, a.entry.context))
    assert a.entry.location == place("a", (other,), list_number=3)


def test_when_no_other_is_left_the_lost_ones_are_given_up() -> None:
    """S21, S29: as by a sweep: the list says that a copy is lacking, so whoever comes next is given one."""
    a = Turns("b", "c").with_session()
    entrusted(a)
    assert changes(a.on(c.PeerLost("c", LIVES["c"]))) == [c.SetBackups(())]


def test_a_holder_that_returns_does_not_leave_the_new_one_with_a_later_list() -> None:
    """S26, S28: b is back before c has answered: c is listed beside it, and the newer one of both stays."""
    a = Turns("b", "c").with_session()
    entrusted(a)
    a.on(c.PeerFound("b", B))
    a.hears("b", m.HeartbeatAck(a.now_ms))
    assert c.SetBackups(("b", "c")) in changes(a.wait(SILENCE_MS, hearing=("b", "c")))
    for name in ("b", "c"):
        a.hears(name, m.Acknowledge(KEY, a.entry.number, a.entry.context))
    assert a.entry.location == place("a", ("c",), list_number=3)


def test_all_that_will_be_listed_are_asked() -> None:
    """S21: of two backups the one that stays learns the new list, too, and has to say that it has what is known of it;
    it is sent no more than it lacks."""
    a = Turns("b", "c", "d", copies=2, entries={KEY: new_session(1, "a", ("b", "d"), START_MS, x=b"1")})
    a.hears("d", m.Acknowledge(KEY, 1, {A: 1}))
    messages = dict(sent(swept(a), m.Entrust))
    assert sorted(messages) == ["c", "d"]
    assert [messages[name].copies[0][1].is_whole for name in "cd"] == [True, False]
    a.hears("c", m.Entrusted(messages["c"].number, ((KEY, 0),)))
    assert a.entry.backups == ("b", "d")
    a.hears("d", m.Entrusted(messages["d"].number, ((KEY, 0),)))
    assert a.entry.backups == ("d", "c")


def test_where_too_few_are_left_the_lost_ones_stay_listed() -> None:
    """S21: of two copies one can be made: they may hold the only other one."""
    a = Turns("b", "c", "d", copies=2, entries={KEY: new_session(1, "a", ("b", "d"), START_MS, x=b"1")})
    a.on(c.PeerLost("d", LIVES["d"]))
    assert changes(swept(a)) == [c.SetBackups(("b", "d", "c"))]


def test_a_minority_gives_nobody_up() -> None:
    """S39: cut off while the answer was under way; when the others are back, all is done in two rounds."""
    a = Turns("b", "c", "d", members_expected=4, entries={KEY: new_session(1, "a", ("b",), START_MS, x=b"1")})
    message = entrusted(a)
    a.on(c.PeerLost("d", LIVES["d"]))
    assert a.engine.members.in_minority
    assert a.hears("c", m.Entrusted(message.number, ((KEY, 0),))) == []
    assert changes(a.wait(2 * SILENCE_MS, hearing=("c",))) == [] and a.entry.backups == ("b",)
    a.on(c.PeerFound("d", LIVES["d"]))
    a.hears("d", m.HeartbeatAck(a.now_ms))
    assert c.SetBackups(("b", "c")) in changes(a.wait(SILENCE_MS, hearing=("c", "d"))), "it was chosen before, too"


def test_nothing_is_acknowledged_while_a_lease_runs_that_the_new_holder_gave() -> None:
    """S25: to a former primary of which it had heard nothing since: a change waits until that can show nothing more."""
    a = Turns("b", "c").with_session()
    a.hears("c", m.Entrusted(entrusted(a).number, ((KEY, 200),)))
    a.asked(writing(2, x=b"2"), 2)
    commands = a.hears("c", m.Acknowledge(KEY, a.entry.number, a.entry.context))
    assert not [x for x in commands if isinstance(x, c.Reply)]
    assert [x.ticket for x in a.wait(220, hearing=("c",)) if isinstance(x, c.Reply)] == [2]


def test_a_session_in_flight_is_listed_beside() -> None:
    """S21: what the lost one may have been the only other one to hold is not settled yet."""
    a = Turns("b", "c").with_session()
    a.asked(writing(2, x=b"2"), 2)
    a.on(c.PeerLost("b", B))
    assert a.entry.backups == ("b", "c")
    assert not sent(a.on(c.Scanned(SCAN, (KEY,), False)), m.Entrust)


# --- the holder's side ----------------------------------------------------------------------------------------------


def test_a_message_is_answered_once_with_what_was_stored() -> None:
    """S12: of three one is refused, because a higher reign is promised: its sender is told why, as ever."""
    third = b"m" * 16
    known = proxy("b", ("d",), THEIRS.epoch)
    promised = moved(known, promised=Promise(2, CHOOSERS["d"]))
    a = Turns("b", "c", "d", entries={KEY: known, OTHER: promised})
    delta = listed(THEIRS, "a")
    message = m.Entrust(7, ((KEY, delta), (OTHER, delta), (third, delta)))
    commands = a.hears("b", message)
    assert [x for x in commands if isinstance(x, c.Send)] == [
        c.Send("b", m.Refuse(OTHER, 7, promised.location, promised.promised)),
        c.Send("b", m.Entrusted(7, ((KEY, 0), (third, 0)))),
    ]
    for key in (KEY, third):
        entry = a.entries[key]
        assert entry == backup_of(THEIRS, backups=("a",), epoch=THEIRS.epoch.next_list)
    assert a.entries[OTHER] is promised


def test_what_is_new_of_an_entry_that_ended_is_not_taken() -> None:
    """S04: a deletion wins over everything."""
    a = Turns("b", "c", entries={KEY: ended(THEIRS, 500)})
    assert not sent(a.hears("b", m.Entrust(7, ((KEY, listed(THEIRS, "a")),))), m.Entrusted)


# --- a life that ends in between ------------------------------------------------------------------------------------


def test_a_life_that_ended_before_it_stored_the_list_leaves_it_to_the_next() -> None:
    """S21, S26: c holds a later list of ours than we do; a higher reign makes one of both, and nobody is refused."""
    mine = new_session(1, "a", ("b",), START_MS, x=b"1")
    a = Turns("b", "c", entries={KEY: mine})
    a.on(c.PeerLost("b", B))
    theirs = backup_of(mine, backups=("c",), epoch=mine.epoch.next_list)
    commands = a.hears("c", m.Compare(9, (m.Item(KEY, theirs.epoch, theirs.context),)))
    ((_, compare),) = sent(commands, m.Compare)
    answer = m.Answer(KEY, m.Verdict.HOLDS, theirs.location, whole(theirs, a.now_ms), NO_PROMISE)
    ((to, ask),) = sent(a.hears("c", m.Compared(compare.comparison, (answer,))), m.Ask)
    assert to == "c" and ask.questions[0].promise == Promise(2, CHOOSERS["a"])
    a.hears("c", m.Answers(ask.inquiry, (m.Answer(KEY, m.Verdict.NOTHING, theirs.location),)))
    assert a.entry.role is Role.PRIMARY and a.entry.epoch.reign == 2


def test_a_comparison_while_the_answer_is_under_way_changes_nothing() -> None:
    """S21: of course the new holder has the later list; it will be stored here in a moment."""
    a = Turns("b", "c").with_session()
    message = entrusted(a)
    theirs = backup_of(a.entry, backups=("c",), epoch=a.entry.epoch.next_list)
    commands = a.hears("c", m.Compare(9, (m.Item(KEY, theirs.epoch, theirs.context),)))
    ((_, compare),) = sent(commands, m.Compare)
    answer = m.Answer(KEY, m.Verdict.HOLDS, theirs.location, whole(theirs, a.now_ms), NO_PROMISE)
    assert not sent(a.hears("c", m.Compared(compare.comparison, (answer,))), m.Ask)
    a.hears("c", m.Entrusted(message.number, ((KEY, 0),)))
    assert a.entry.location == theirs.location
