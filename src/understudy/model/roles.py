"""How an entry's role, backups and epoch change: copies, promises, promotion, hand-over, stepping down.

Pure functions from entry to (outcome, entry). Roles are compared by epoch, data is merged by causality; no function
here loses data that another copy lacks unless its caller has made sure that nobody was answered for it.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Set

import msgspec

from understudy.model.commit import Outcome, ended
from understudy.model.delta import Delta, applies, remembered, times_of, with_merged
from understudy.model.entry import (
    OVER,
    Context,
    Entry,
    Epoch,
    Location,
    Promise,
    Role,
    Times,
    changed_role,
    contains,
    finished,
    role_at,
)

Changed = tuple[Outcome, Entry | None]


def placed(entry: Entry, member: str, location: Location) -> Entry:
    """``entry`` with ``location`` as its own and the role that it gives to ``member``.

    A backup that is no longer listed keeps its copy, as a backup, until the primary releases it.
    """
    role = role_at(member, location)
    if role is Role.PROXY and entry.role in (Role.BACKUP, Role.PRIMARY) and entry.has_data:
        role = Role.BACKUP
    return msgspec.structs.replace(
        entry,
        role=changed_role(entry, role),
        primary=location.primary,
        backups=location.backups,
        epoch=location.epoch,
    )


def learned(entry: Entry | None, member: str, location: Location, now_ms: int) -> Changed:
    """What a member holds after it was told where the session is; older news changes nothing.

    A primary that hears of a higher epoch is DEPOSED: it may hold what the new primary lacks, so it is not changed
    here.
    """
    if entry is None:
        if role_at(member, location) is not Role.PROXY and not location.ended:
            # We are named as a holder and hold nothing: know the place, and let the data come from the primary.
            location = Location(location.primary, tuple(b for b in location.backups if b != member), location.epoch)
            if location.primary == member:
                return Outcome.UNCHANGED, None
        proxy = Entry(Role.PROXY, location.primary, location.backups, location.epoch)
        return Outcome.STORED, ended(proxy, now_ms) if location.ended else proxy
    if entry.ended:
        return Outcome.ENDED, entry
    if location.ended:
        return Outcome.STORED, ended(entry, now_ms)
    if location.epoch <= entry.epoch:
        return Outcome.UNCHANGED, entry
    if entry.role is Role.PRIMARY and location.primary != member:
        return Outcome.DEPOSED, entry
    if entry.role is not Role.PRIMARY and location.primary == member:
        return Outcome.UNCHANGED, entry
    if entry.role is Role.PROXY and member in location.backups:
        location = Location(location.primary, tuple(b for b in location.backups if b != member), location.epoch)
    return Outcome.STORED, placed(entry, member, location)


def copied(entry: Entry | None, delta: Delta, member: str, now_ms: int) -> Changed:
    """What a holder has after a Replicate: STORED, NEEDS_WHOLE, REFUSED (we know better), DEPOSED or ENDED.

    Guarantee: STORED means that the copy's context now covers the delta's, and its role is what the delta says.
    """
    location = delta.location
    if entry is None:
        if not delta.is_whole:
            return Outcome.NEEDS_WHOLE, None
        entry = Entry(Role.PROXY, location.primary, location.backups, location.epoch)
    if entry.ended and not location.ended:
        return Outcome.ENDED, entry
    if location.ended:
        return Outcome.STORED, _tombstone(entry, delta, now_ms)
    if location.epoch < entry.epoch or Promise(location.epoch.reign, location.epoch.chooser) < entry.promised:
        return Outcome.REFUSED, entry
    if entry.role is Role.PRIMARY and location.primary != member:
        return Outcome.DEPOSED, entry
    if entry.role is Role.PRIMARY and location.epoch > entry.epoch:
        # Handed to us when we had promoted ourselves already: that list knows nothing of our backups.
        return Outcome.REFUSED, entry
    is_handed = bool(entry.context) and entry.role is not Role.PRIMARY and location.primary == member
    if is_handed and location.epoch.reign <= max(entry.epoch.reign, entry.promised.reign):
        # By one that was replaced meanwhile, or is about to be: it has asked nobody.
        return Outcome.REFUSED, entry
    if not applies(entry.context, delta):
        return Outcome.NEEDS_WHOLE, entry
    return Outcome.STORED, placed(with_merged(entry, delta, now_ms), member, location)


def promised(entry: Entry | None, promise: Promise, member: str, location: Location, heard: Set[str]) -> Changed:
    """The answer to a member that wants to become primary under ``promise``.

    Args:
        location: where the asker believes the session is; remembered if we know nothing.
        heard: members that are alive as seen from here (without the asker).

    Returns: STORED with the promise kept in the entry; REFUSED if a higher one was given; UNCHANGED if we are the
    primary, hear it, or the session has ended: then nobody promotes.
    """
    if entry is None:
        others = tuple(b for b in location.backups if b != member)
        return Outcome.STORED, Entry(Role.PROXY, location.primary, others, location.epoch, promised=promise)
    if entry.ended:
        return Outcome.ENDED, entry
    if entry.role is Role.PRIMARY and entry.epoch >= location.epoch:
        return Outcome.UNCHANGED, entry
    if entry.primary != member and entry.primary in heard and entry.epoch >= location.epoch:
        # (Where the asker knows a later place, that we hear the primary before it is nothing.)
        return Outcome.UNCHANGED, entry
    if entry.promised > promise or entry.epoch.reign >= promise.reign:
        return Outcome.REFUSED, entry
    return Outcome.STORED, msgspec.structs.replace(entry, promised=promise)


def outbid(entry: Entry, promise: Promise) -> Changed:
    """A primary that learns of a promise beyond its epoch: it shows nothing in place until it has asked in its turn."""
    if entry.ended or entry.role is not Role.PRIMARY:
        return Outcome.UNCHANGED, entry
    if entry.promised >= promise or promise <= Promise(entry.epoch.reign, entry.epoch.chooser):
        return Outcome.UNCHANGED, entry
    return Outcome.STORED, msgspec.structs.replace(entry, promised=promise)


def promoted(
    entry: Entry,
    promise: Promise,
    member: str,
    backups: tuple[str, ...],
    found: Iterable[Delta],
    now_ms: int,
    number: int,
) -> Changed:
    """This member as the primary under the reign that it asked for, with everything that the others held merged in.

    Returns: PROMOTED; ENDED if one of the answers is a tombstone; REFUSED if meanwhile a higher epoch or promise
    became known here; UNKNOWN if there is no data.
    """
    if entry.ended:
        return Outcome.ENDED, entry
    if entry.promised > promise or entry.epoch.reign >= promise.reign:
        return Outcome.REFUSED, entry
    if not entry.has_data:
        return Outcome.UNKNOWN, entry
    for delta in found:
        if delta.location.ended:
            return Outcome.ENDED, ended(entry, now_ms)
        if delta.location.epoch.reign >= promise.reign:
            return Outcome.REFUSED, entry
        if applies(entry.context, delta):
            entry = with_merged(entry, delta, now_ms)
    location = Location(member, backups, Epoch(promise.reign, promise.chooser, 1))
    return Outcome.PROMOTED, msgspec.structs.replace(placed(entry, member, location), promised=promise, number=number)


def listed(entry: Entry, backups: tuple[str, ...], number: int) -> Changed:
    """The primary with another backup list; the epoch's list number rises, the reign stays."""
    if entry.ended:
        return Outcome.ENDED, entry
    if entry.role is not Role.PRIMARY:
        return Outcome.NOT_PRIMARY, entry
    if set(backups) == set(entry.backups):
        return Outcome.UNCHANGED, entry
    assert entry.primary not in backups, "a primary was named as its own backup"
    return Outcome.STORED, msgspec.structs.replace(entry, backups=backups, epoch=entry.epoch.next_list, number=number)


def relisted(entry: Entry, backups: tuple[str, ...], epoch: Epoch, context: Context, times: Times) -> Changed:
    """The primary with the list that those on it have stored already, with the entry of ``epoch``, ``context`` and
    ``times``: UNCHANGED if it is another one now. Nothing is left to be acknowledged, so it has no number."""
    if entry.ended:
        return Outcome.ENDED, entry
    if entry.role is not Role.PRIMARY:
        return Outcome.NOT_PRIMARY, entry
    if (entry.epoch, entry.context, entry.times) != (epoch, context, times):
        return Outcome.UNCHANGED, entry
    return Outcome.STORED, msgspec.structs.replace(entry, backups=backups, epoch=entry.epoch.next_list)


def handed_over(entry: Entry, to: str, chooser: int, number: int) -> Changed:
    """The primary as a backup of ``to``, which holds everything already; the reign rises."""
    if entry.ended:
        return Outcome.ENDED, entry
    if entry.role is not Role.PRIMARY:
        return Outcome.NOT_PRIMARY, entry
    assert to in entry.backups, "a session was handed to a member that holds no copy"
    backups = (entry.primary, *(b for b in entry.backups if b != to))
    location = Location(to, backups, Epoch(entry.epoch.reign + 1, chooser, 1))
    return Outcome.STORED, msgspec.structs.replace(placed(entry, entry.primary, location), number=number)


def stepped_down(
    entry: Entry, whole: Delta, member: str, unanswered: Container[int], incarnations: Set[int], now_ms: int
) -> Changed:
    """A deposed primary, or a holder whose copy is behind, after it has seen the successor's whole entry.

    If every dot of its own that the successor lacks belongs to a commit that nobody was answered for, the successor's
    entry is taken as it is (the workers repeat those commits there); otherwise both are merged, and the caller passes
    on what the successor lacks. Where that entry names this very member as primary both are merged and no role changes.

    Args:
        unanswered: numbers of this member's commits whose outbox rows are unmarked.
        incarnations: this member's own incarnations that those numbers belong to.
    """
    assert whole.is_whole
    location = whole.location
    if entry.ended:
        return Outcome.ENDED, entry
    if location.ended:
        return Outcome.STORED, _tombstone(entry, whole, now_ms)
    if location.epoch < entry.epoch or (location.epoch == entry.epoch and entry.role is not Role.BACKUP):
        return Outcome.REFUSED, entry
    if role_at(member, location) is Role.PRIMARY:
        # Named as primary by somebody else's copy: of an old life of ours, or of a hand-over that never came. Workers
        # wait here for what nobody was answered for: all data is kept, and the asking decides.
        return Outcome.UNCHANGED, with_merged(entry, whole, now_ms)
    lacking = {
        s.dot
        for siblings in entry.attributes.values()
        for s in siblings
        if not contains(whole.context, s.incarnation, s.number)
    }
    mine = [(i, n) for i, n in entry.context.items() if not contains(whole.context, i, n) and n != OVER]
    nobody_answered = all(i in incarnations and n in unanswered for i, n in [*lacking, *mine])
    if nobody_answered and mine:
        entry = msgspec.structs.replace(
            entry,
            context=whole.context,
            attributes=whole.values,
            recent=whole.recent,
            times=times_of(whole, now_ms),
        )
    else:
        entry = with_merged(entry, whole, now_ms)
    return Outcome.STORED, msgspec.structs.replace(placed(entry, member, location), number=0)


def contributed(entry: Entry, delta: Delta, number: int, now_ms: int) -> Changed:
    """The primary after it has merged what a member that stepped down still held."""
    if entry.ended:
        return Outcome.ENDED, entry
    if entry.role is not Role.PRIMARY:
        return Outcome.NOT_PRIMARY, entry
    if not applies(entry.context, delta):
        return Outcome.NEEDS_WHOLE, entry
    merged = with_merged(entry, delta, now_ms)
    if merged.context == entry.context:
        return Outcome.UNCHANGED, entry
    return Outcome.STORED, msgspec.structs.replace(merged, number=number)


def lives_finished(entry: Entry, incarnations: Iterable[int]) -> Changed:
    """The primary's entry without what it knows of incarnations that are over, as far as it carries nothing of them."""
    if entry.role is not Role.PRIMARY or entry.ended:
        return Outcome.UNCHANGED, entry
    carried = {s.incarnation for siblings in entry.attributes.values() for s in siblings}
    context = finished(entry.context, [i for i in incarnations if i not in carried])
    if context == entry.context:
        return Outcome.UNCHANGED, entry
    return Outcome.STORED, msgspec.structs.replace(entry, context=context)


def released(entry: Entry, member: str, epoch: Epoch) -> Changed:
    """A backup that the primary no longer needs: it forgets the data and keeps the place."""
    if entry.ended or entry.role is not Role.BACKUP or member in entry.backups or entry.epoch > epoch:
        return Outcome.UNCHANGED, entry
    return Outcome.STORED, Entry(
        changed_role(entry, Role.PROXY), entry.primary, entry.backups, entry.epoch, promised=entry.promised
    )


def _tombstone(entry: Entry, delta: Delta, now_ms: int) -> Entry:
    """``entry`` ended, having seen all that the delta has seen."""
    stone = ended(entry, now_ms)
    context = {**entry.context}
    for incarnation, number in delta.context.items():
        context[incarnation] = max(context.get(incarnation, 0), number)
    return msgspec.structs.replace(stone, context=context, recent=remembered(entry, delta))
