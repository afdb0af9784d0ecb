"""What one copy tells another: the delta between a context and an entry, and the merge by causality.

Of two copies' values of an attribute, one whose dot the other copy's context contains, and which that copy no
longer carries, was seen there and overwritten or deleted: it goes. Values that neither side has seen from the other
are concurrent and are kept side by side. So merging is commutative, associative and idempotent; no clock decides.

Source: optimised observed-remove sets (Bieniusa et al. 2012) and delta-state CRDTs with causal contexts
(Almeida, Shoker, Baquero 2018).
"""

from __future__ import annotations

import msgspec

from understudy import limits
from understudy.model.entry import (
    SECRETS,
    Attributes,
    Context,
    Entry,
    Location,
    Sibling,
    Times,
    contains,
    covers,
    united,
)

Carried = tuple[tuple[int, int, tuple[str, ...]], ...]
"""Dots, each with the names of the attributes that it stands at: most of a session was written by one commit."""


class Delta(msgspec.Struct, frozen=True, array_like=True):
    """An entry as seen from ``base``: the values that a copy with that context lacks, and what is still carried.

    An empty ``base`` makes it whole. Times are ages in ms, because the clocks of two machines have nothing in common.
    """

    base: Context
    context: Context
    location: Location
    values: Attributes
    carried: Carried
    """Dots that the sender carries and the receiver has seen; what the receiver carries beyond them was deleted."""
    recent: tuple[bytes, ...]
    """Of the sender's ids of recent commits those that the receiver lacks, see ``recent_of``."""
    created_age_ms: int
    accessed_age_ms: int
    rotated_age_ms: int
    idle_timeout_ms: int
    absolute_timeout_ms: int
    told_ms: int = 0
    """The sender's clock when these ages were true; who knows how long they were under way adds that, see ``aged``."""
    recent_of: int = -1
    """How many ids the sender remembers, of which ``recent`` are the last; -1: it is all of them."""

    @property
    def is_whole(self) -> bool:
        return not self.base

    def dots(self) -> dict[str, list[tuple[int, int]]]:
        """The dots that are carried, by attribute."""
        found: dict[str, list[tuple[int, int]]] = {}
        for incarnation, number, names in self.carried:
            for name in names:
                found.setdefault(name, []).append((incarnation, number))
        return found


def delta_since(entry: Entry, base: Context, now_ms: int, known: bytes = b"") -> Delta:
    """The delta that brings a copy with context ``base`` to ``entry``.

    Args:
        base: the receiver's acknowledged context; ``{}`` gives the whole entry.
        now_ms: now on the store clock that ``entry.times`` is measured on.
        known: the last commit that it has acknowledged with that context: it remembers the ids up to this one.

    Cost: one pass over the attributes.
    """
    base = {incarnation: n for incarnation, n in base.items() if entry.context.get(incarnation, 0) >= n}
    values: Attributes = {}
    carried: dict[tuple[int, int], list[str]] = {}
    for name, siblings in entry.attributes.items():
        lacking = []
        for sibling in siblings:
            if base.get(sibling.incarnation, 0) >= sibling.number:
                carried.setdefault((sibling.incarnation, sibling.number), []).append(name)
            else:
                lacking.append(sibling)
        if lacking:
            values[name] = tuple(lacking)
    recent, recent_of = entry.recent, -1
    if base and known in recent:
        recent, recent_of = recent[recent.index(known) + 1 :], len(recent)
    times = entry.times
    return Delta(
        base=base,
        context=entry.context,
        location=entry.location,
        values=values,
        carried=tuple([(*dot, tuple(names)) for dot, names in carried.items()]),
        recent=recent,
        created_age_ms=now_ms - times.created_ms,
        accessed_age_ms=now_ms - times.accessed_ms,
        rotated_age_ms=now_ms - times.rotated_ms if times.rotated_ms else -1,
        idle_timeout_ms=times.idle_timeout_ms,
        absolute_timeout_ms=times.absolute_timeout_ms,
        told_ms=now_ms,
        recent_of=recent_of,
    )


def aged(delta: Delta, ms: int) -> Delta:
    """``delta`` after ``ms`` under way: what lay before a member that stood still is no news of use."""
    if ms <= 0:
        return delta
    return msgspec.structs.replace(
        delta,
        created_age_ms=delta.created_age_ms + ms,
        accessed_age_ms=delta.accessed_age_ms + ms,
        rotated_age_ms=delta.rotated_age_ms + ms if delta.rotated_age_ms >= 0 else -1,
    )


def applies(context: Context, delta: Delta) -> bool:
    """True if a copy with ``context`` can take ``delta``; otherwise it needs the whole entry."""
    return covers(context, delta.base)


def merged_attributes(attributes: Attributes, context: Context, delta: Delta) -> Attributes:
    """The attributes of a copy after it has merged ``delta``, which must apply to it.

    Guarantee: commutative, associative and idempotent over entries; a value is dropped only if one side has seen it
    and carries it no more.
    """
    assert applies(context, delta), "a delta was applied to a copy that lacks its base"
    if not attributes and not context:
        # A first copy: nothing has been seen here, so all of it is new.
        return {name: _in_order(list(theirs)) for name, theirs in delta.values.items() if theirs}
    result: Attributes = {}
    carried = delta.dots()
    for name in {**attributes, **delta.values}:
        mine = attributes.get(name, ())
        theirs = delta.values.get(name, ())
        if not theirs and [(s.incarnation, s.number) for s in mine] == carried.get(name):
            result[name] = mine  # most of an entry, most of the time
            continue
        their_dots = {s.dot for s in theirs}
        their_dots.update(carried.get(name, ()))
        kept = [s for s in mine if s.dot in their_dots or not contains(delta.context, s.incarnation, s.number)]
        my_dots = {s.dot for s in mine}
        new = [s for s in theirs if s.dot not in my_dots and not contains(context, s.incarnation, s.number)]
        siblings = _in_order(kept + new)
        if siblings:
            result[name] = siblings
    return result


def merged_times(entry: Entry, delta: Delta, now_ms: int) -> Times:
    """The later access, the earlier creation; timeouts follow the more recent access.

    An age grows on its way, so that what is told looks later than it was. Of two words on one rotation the earlier
    counts, or the grace time of an id that was replaced would begin anew with every message that comes late.
    """
    times, theirs = entry.times, times_of(delta, now_ms)
    later = max(times, theirs, key=lambda t: (t.accessed_ms, t.idle_timeout_ms, t.absolute_timeout_ms))
    return Times(
        created_ms=min(times.created_ms, theirs.created_ms),
        accessed_ms=later.accessed_ms,
        rotated_ms=_rotated_ms(entry, delta, theirs.rotated_ms),
        idle_timeout_ms=later.idle_timeout_ms,
        absolute_timeout_ms=later.absolute_timeout_ms,
    )


def _rotated_ms(entry: Entry, delta: Delta, theirs_ms: int) -> int:
    if entry.times.rotated_ms == theirs_ms:
        return theirs_ms
    mine = {sibling.dot for sibling in entry.attributes.get(SECRETS, ())}
    told = {sibling.dot for sibling in delta.values.get(SECRETS, ())} | set(delta.dots().get(SECRETS, ()))
    if mine == told and entry.times.rotated_ms and theirs_ms:
        return min(entry.times.rotated_ms, theirs_ms)
    return max(entry.times.rotated_ms, theirs_ms)


def times_of(delta: Delta, now_ms: int) -> Times:
    """The times of ``delta`` on the receiver's own clock."""
    return Times(
        created_ms=now_ms - delta.created_age_ms,
        accessed_ms=now_ms - delta.accessed_age_ms,
        rotated_ms=now_ms - delta.rotated_age_ms if delta.rotated_age_ms >= 0 else 0,
        idle_timeout_ms=delta.idle_timeout_ms,
        absolute_timeout_ms=delta.absolute_timeout_ms,
    )


def merged_recent(entry: Entry, delta: Delta) -> tuple[bytes, ...]:
    """The commit ids of a merged copy: of the side that has seen all of the other; of both if neither has.

    Ours come last then, so that they leave last: nothing that was committed here a moment ago is forgotten for
    what another member brings from long ago.
    """
    if covers(delta.context, entry.context):
        return remembered(entry, delta)
    if covers(entry.context, delta.context):
        return entry.recent
    known = set(entry.recent)
    both = tuple([commit_id for commit_id in remembered(entry, delta) if commit_id not in known]) + entry.recent
    return both[-2 * limits.RECENT_COMMITS_MAX :]


def remembered(entry: Entry, delta: Delta) -> tuple[bytes, ...]:
    """All commit ids that the sender of ``delta`` remembers; ``entry`` is the copy that it was made for."""
    if delta.recent_of < 0:
        return delta.recent
    new = set(delta.recent)
    both = tuple([commit_id for commit_id in entry.recent if commit_id not in new]) + delta.recent
    return both[max(0, len(both) - delta.recent_of) :]


def with_merged(entry: Entry, delta: Delta, now_ms: int) -> Entry:
    """``entry`` with the data of ``delta`` merged in; role, location and epoch stay as they are."""
    times = merged_times(entry, delta, now_ms) if entry.context else times_of(delta, now_ms)
    return msgspec.structs.replace(
        entry,
        context=united(entry.context, delta.context),
        attributes=merged_attributes(entry.attributes, entry.context, delta),
        recent=merged_recent(entry, delta),
        times=times,
    )


def _in_order(siblings: list[Sibling]) -> tuple[Sibling, ...]:
    """One order for one set, so that equal copies are equal bytes; the shown value comes first."""
    if len(siblings) < 2:
        return tuple(siblings)
    return tuple(sorted(siblings, key=lambda s: s.rank, reverse=True)[: limits.SIBLINGS_MAX])
