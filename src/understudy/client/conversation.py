"""What is done for one request, written once: open its session, commit what it changed, and ``transact``.

Flat generators that read the store themselves, yield ``Ask`` and receive the answer. They perform no input or output,
and take the time, chance and settings from the ``World`` that they are given: a blocking driver, an asyncio one and
the simulator run the same lines.

The rules that they keep: an id that is forged or foreign is refused without a look-up; one that is unknown is never
adopted; a request whose session ended while it ran writes nothing; only the request that ended it, or one that began
without a session, mints a new id.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from typing import NamedTuple, TypeVar

import msgspec
from msgspec.structs import replace

from understudy import limits
from understudy.client.answers import DONE, OVER, checked
from understudy.client.draft import Changes, Draft
from understudy.client.in_place import has_ended, has_expired, look
from understudy.client.sizes import too_large
from understudy.client.visit import KEEP, NO_SESSION, Opened, Remembered, Visit, World
from understudy.errors import (
    SessionConflict,
    SessionEnded,
    SessionUnavailable,
)
from understudy.model import values
from understudy.model.commit import Commit, Creation, Opening, Outcome, Replaced, current_secret, dots_of, opening
from understudy.model.entry import PRINCIPAL, SECRETS, Entry, Key, Role, Times
from understudy.model.ids import LOCATOR_BYTES, SECRET_BYTES, Claim, SessionId
from understudy.protocol.worker_messages import (
    AcknowledgeMode,
    CommitAnswer,
    CommitRequest,
    FetchAnswer,
    FetchOutcome,
    FetchRequest,
    Request,
    SettleRequest,
    TouchRequest,
)

COMMIT_ID_BYTES = 8
_Result = TypeVar("_Result")


class Ask(NamedTuple):
    """Something that the agent (or, without one, the store) has to do."""

    request: Request
    """Its number is 0: whoever sends it gives it one."""
    waits: bool = True
    """False: nobody waits for the answer, None is sent back at once."""


class Found(msgspec.Struct, frozen=True):
    """One entry, and how it came here."""

    entry: Entry | None = None
    settled: bool = True
    """False: its last change is not acknowledged yet; who shows it waits, see ``settle``."""
    role: Role | None = None
    """What this member is for it; None when it did not know it."""
    protected: bool = False
    """As many machines as wanted hold what it shows, as far as is known already."""
    now_ms: int = 0
    """The instant of which all this was said, on the store clock."""


NOT_FOUND = Found()
Answer = FetchAnswer | CommitAnswer | None
Conversation = Generator[Ask, Answer, _Result]


def open_in_place(world: World, cookie: str) -> Opened | None:
    """What the cookie opens, if that can be told without asking anybody; None: only ``open_session`` can tell.

    Cost: a look-up in the store, two of a session that was not read here before. Guarantee: as ``open_session``, whose
        first step it is.
    """
    settings = world.settings
    claim = world.keys.claim(settings.application, cookie)
    if claim is None:
        return NO_SESSION
    reading, serves, now_ms = look(world.store, claim.key, settings.member, world.lease_until_ms)
    entry = reading.entry
    if not serves or entry is None:
        return None
    last = world.remembered.get(claim.key)
    if last is not None and last.reading is reading and last.claim is claim and last.settings is settings:
        return NO_SESSION if has_expired(entry, now_ms) else last.opened
    opened = _opened(world, claim, _found(world, entry, reading.settled, entry.role, now_ms))
    if opened.opening is Opening.CURRENT and world.store.recall(claim.key) is reading:
        # Of a current secret only the session's end depends on the time. What the store does not keep is large.
        _remember(world.remembered, Remembered(claim, reading, settings, opened))
    return opened


def _remember(remembered: dict[Key, Remembered], found: Remembered) -> None:
    if len(remembered) >= limits.ENTRIES_REMEMBERED_MAX:
        remembered.clear()
    remembered[found.claim.key] = found


def open_session(world: World, cookie: str) -> Conversation[Opened]:
    """What the cookie opens; ``NO_SESSION`` if it is forged, unknown, ended or expired.

    Raises: SessionUnavailable when nobody who may hold the session answers.
    Cost: two look-ups in the store where the session's primary is here, else one round trip to the agent as well.
    Guarantee: an entry is served in place only if its primary is here and every backup's lease ran before, while and
        after it was read.
    """
    claim = world.keys.claim(world.settings.application, cookie)
    if claim is None:
        return NO_SESSION
    return _opened(world, claim, (yield from read_entry(world, claim.key, claim.route)))


def _opened(world: World, claim: Claim, found: Found) -> Opened:
    """What a cookie opens of an entry."""
    entry = found.entry
    if entry is None:
        return NO_SESSION
    opened = opening(entry, claim.secret, found.now_ms, world.settings.grace_ms)
    if opened is Opening.NOTHING:
        return NO_SESSION
    return Opened(
        session_id=claim.session_id,
        key=claim.key,
        secret=claim.secret,
        route=claim.route,
        opening=opened,
        attributes=entry.attributes,
        times=entry.times,
        primary=entry.primary,
        role=found.role,
        reign=entry.epoch.reign,
        unsettled=0 if found.settled else entry.number,
        protected=found.protected,
    )


def read_entry(world: World, key: Key, route: str = "") -> Conversation[Found]:
    """One entry as its primary has it now; without one where nobody holds it, or it has ended or expired.

    Raises: SessionUnavailable. Cost and guarantee: as ``open_session``.
    """
    (entry, settled), serves, now_ms = look(world.store, key, world.settings.member, world.lease_until_ms)
    role = entry.role if entry is not None else None
    unprotected = False
    for _ in range(limits.LOCATE_HOPS_MAX):
        if serves:
            break
        if entry is not None and has_ended(entry, settled):
            return NOT_FOUND
        have = entry.context if entry is not None and entry.has_data else {}
        answer = yield Ask(FetchRequest(0, key, have, route))
        assert isinstance(answer, FetchAnswer), "a fetch was not answered as one"
        now_ms = world.store.now_ms()
        match answer.outcome:
            case FetchOutcome.HERE:
                entry, settled = world.store.read(key)
                serves = entry is not None and entry.role is Role.PRIMARY and not entry.ended
            case FetchOutcome.FOUND:
                entry, settled, serves, unprotected = answer.entry, True, True, answer.unprotected
            case FetchOutcome.NOT_MODIFIED:
                serves, unprotected = True, answer.unprotected
            case FetchOutcome.UNKNOWN | FetchOutcome.ENDED:
                return NOT_FOUND
            case FetchOutcome.UNAVAILABLE:
                raise SessionUnavailable("the session exists, but no member that holds it answers now; try again")
    else:
        raise SessionUnavailable("the session moves between members just now; try again")
    assert entry is not None, "a session was served of which there is no copy"
    return _found(world, entry, settled, role, now_ms, unprotected=unprotected)


def _found(
    world: World, entry: Entry, settled: bool, role: Role | None, now_ms: int, *, unprotected: bool = False
) -> Found:
    """An entry that may be shown, unless its time is over."""
    if has_expired(entry, now_ms):
        return NOT_FOUND
    protected = settled and not unprotected and len(entry.backups) >= world.settings.copies
    return Found(entry, settled, role, protected, now_ms)


def commit(
    world: World, visit: Visit, *, late: bool = False, conditional: bool = False
) -> Conversation[Outcome | None]:
    """Commit what the request wants; gives the outcome of the session's change, None if nothing was to be changed.

    Args:
        late: the response has begun, so no cookie can be sent: no id is minted or replaced.
        conditional: commit only if everything that the draft has read is still as it was read.

    Raises: SessionTooLarge, StoreFull, SessionUnavailable, SessionUnprotected; ValueNotSupported for an attribute
        that was changed in place into what cannot be stored, after all others were committed.
    Guarantee: a request that changed nothing asks for nothing, but to record its access at the bounded rate and to
        wait for a change that it has shown and that is not acknowledged yet.
    """
    if visit.ended or visit.opened is None:
        return None
    if visit.ends is not None:
        wanted = Commit(world.random_bytes(COMMIT_ID_BYTES), visit.ends.secret, ends=True)
        answer = yield _ask_commit(world, visit.ends, wanted, structural=True)
        outcome = checked(world, answer, {})
        if outcome not in DONE:
            visit.ended = True
            return outcome
        visit.ends, visit.removed, visit.wrote = None, True, True
        visit.opened = replace(visit.opened, protected=isinstance(answer, CommitAnswer) and answer.protected)
    changes = visit.draft.changes()
    if world.settings.attribute_filter is not None:
        changes = _filtered(world.settings.attribute_filter, changes)
    if visit.read_only and not (conditional or visit.rotates or visit.creates):
        visit.dropped = (*changes.sets, *changes.deletes)
        if visit.exists and visit.opened.unsettled:
            yield from _settle(world, visit)
        return None
    planned = _planned(world, visit, changes, late=late, conditional=conditional)
    if planned is None:
        if visit.exists:
            if visit.opened.unsettled:
                yield from _settle(world, visit)
            touched = _touched(world, visit.opened)
            if touched is not visit.opened:
                yield Ask(TouchRequest(touched.key, primary=touched.primary), waits=False)
                visit.opened = touched
        _raise_wrong(changes)
        return None
    wanted, place = planned
    sizes = visit.draft.sizes(changes)
    if changes.sets and (sum(sizes.values()) > world.settings.session_bytes_max or len(sizes) > limits.ATTRIBUTES_MAX):
        raise too_large(sizes, world.settings.session_bytes_max)
    structural = conditional or bool(wanted.creates or wanted.rotates_to)
    answer, replaced = yield from overwrite(world, place, wanted, structural=structural)
    outcome = checked(world, answer, sizes)
    if outcome in OVER:
        visit.ended = True
    if outcome not in DONE:
        return outcome
    is_current = not visit.confirms or _same(wanted.replaces, replaced, SECRETS)
    if wanted.rotates_to:
        is_current = yield from _is_current(world, place, wanted)
    if not is_current:
        # Another rotation came between: its cookie is on the way, ours would overwrite it.
        place = replace(visit.opened, opening=Opening.GRACE)
    _take_in(world, visit, place, wanted, answer)
    visit.sizes = sizes
    if visit.opened.unsettled and world.settings.acknowledge is not AcknowledgeMode.BACKUP:
        yield from _settle(world, visit)
    _raise_wrong(changes)
    return outcome


def transact(world: World, visit: Visit, change: Callable[[], _Result]) -> Conversation[_Result]:
    """Run ``change`` on the session as it is now, and commit what it did if all that it has read is still so.

    The third conversation, because a blocking and an asyncio caller repeat it alike. The request's other changes are
    set aside meanwhile.

    Raises: SessionConflict after ``TRANSACT_TRIES_MAX`` tries, SessionEnded, and as ``commit``.
    """
    if not visit.exists and not visit.ended:
        visit.creates = True
        yield from commit(world, visit)
    outer = visit.draft
    try:
        for _ in range(limits.TRANSACT_TRIES_MAX):
            before = visit.opened
            if before is not None and before.session_id is not None and visit.exists and not visit.ended:
                visit.opened = yield from open_session(world, f"{before.session_id.text}.{before.route}")
            if visit.ended or not visit.exists:
                visit.ended = True
                raise SessionEnded("the session was ended while this request ran; nothing was written")
            opened = visit.opened
            assert opened is not None
            visit.draft = Draft(opened.attributes, read={})
            result = change()
            outcome = yield from commit(world, visit, conditional=True)
            if outcome is None or outcome in DONE:
                outer.refreshed(visit.draft.stored)
                return result
    finally:
        visit.draft = outer
    raise SessionConflict(
        f"transact gave up after {limits.TRANSACT_TRIES_MAX} tries: other requests kept changing what it reads"
    )


# --- committing ------------------------------------------------------------------------------------------------------


def _filtered(wanted: re.Pattern[str], changes: Changes) -> Changes:
    """The changes without attributes that ``attribute_filter`` leaves out."""
    return replace(changes, sets={name: value for name, value in changes.sets.items() if wanted.fullmatch(name)})


def _planned(
    world: World, visit: Visit, changes: Changes, *, late: bool, conditional: bool
) -> tuple[Commit, Opened] | None:
    """The commit that the request needs and the place that it is for, with the id that is valid after it."""
    opened = visit.opened
    assert opened is not None
    if opened.opening is Opening.NOTHING:
        return _creation(world, visit, changes) if not late else None
    rotates = visit.rotates and not late and not conditional
    principal = _principal(visit, opened) if rotates else {}
    if opened.opening is Opening.FENCED:
        if not principal:
            visit.ended = visit.ended or not changes.empty
            return None
        if not _same_principal(opened, principal):
            # Another person logs in with an id that a login has replaced: nothing of that session is theirs.
            return _creation(world, visit, changes)
    if rotates and opened.opening is Opening.GRACE and not principal:
        rotates = False  # another request has renewed the id a moment ago
    if changes.empty and not rotates and visit.idle_timeout_ms < 0:
        return None
    sets, deletes, place = changes.sets, changes.deletes, opened
    if principal:
        sets = {**sets, **{name: value for name, value in principal.items() if value is not None}}
        deletes = (*deletes, *(name for name, value in principal.items() if value is None))
    if rotates:
        assert opened.session_id is not None
        place = _at(world, world.keys.rotated(opened.session_id, world.random_bytes(SECRET_BYTES)), opened)
    names = (*sets, *deletes, *((SECRETS,) if visit.confirms else ()))
    return Commit(
        id=world.random_bytes(COMMIT_ID_BYTES),
        secret=opened.secret,
        sets=sets,
        deletes=deletes,
        expects=visit.draft.read if conditional else None,
        replaces=dots_of(opened.attributes, names) if _waits(world, rotates) and not conditional else None,
        rotates_to=place.secret if rotates else b"",
        idle_timeout_ms=visit.idle_timeout_ms,
    ), place


def _creation(world: World, visit: Visit, changes: Changes) -> tuple[Commit, Opened] | None:
    principal = _principal(visit, NO_SESSION) if visit.rotates else {}
    sets = {**changes.sets, **{name: value for name, value in principal.items() if value is not None}}
    if not sets and not visit.creates:
        return None
    place = _at(world, world.keys.mint(world.random_bytes(LOCATOR_BYTES + SECRET_BYTES)), NO_SESSION)
    idle_timeout_ms = world.settings.idle_timeout_ms if visit.idle_timeout_ms < 0 else visit.idle_timeout_ms
    creation = Creation(idle_timeout_ms, world.settings.absolute_timeout_ms)
    return Commit(world.random_bytes(COMMIT_ID_BYTES), place.secret, sets=sets, creates=creation), place


def _at(world: World, session_id: SessionId, before: Opened) -> Opened:
    """The place of an id that was minted or replaced just now."""
    now_ms = world.store.now_ms()
    return replace(
        before,
        session_id=session_id,
        key=world.keys.key(world.settings.application, session_id),
        secret=world.keys.secret_hash(session_id),
        opening=Opening.CURRENT,
        times=before.times if before.session_id is not None else Times(now_ms, now_ms),
    )


def _principal(visit: Visit, opened: Opened) -> dict[str, bytes | None]:
    """The principal as an attribute to set (or, if None, to delete); nothing if it stays the same."""
    if visit.principal is KEEP:
        # A rotation that names the principal is a login, also when it is the same or nobody.
        return {PRINCIPAL: _stored_principal(opened)} if visit.fences and opened.opening is not Opening.FENCED else {}
    new = None if visit.principal is None else values.encode(visit.principal, attribute="principal")
    if opened.opening is not Opening.FENCED and not visit.fences and _stored_principal(opened) == new:
        return {}
    return {PRINCIPAL: new}


def _same_principal(opened: Opened, principal: dict[str, bytes | None]) -> bool:
    stored = _stored_principal(opened)
    return stored is not None and stored == principal[PRINCIPAL]


def _stored_principal(opened: Opened) -> bytes | None:
    siblings = opened.attributes.get(PRINCIPAL)
    return max(siblings, key=lambda sibling: sibling.rank).value if siblings else None


def overwrite(
    world: World, place: Opened, wanted: Commit, *, structural: bool
) -> Conversation[tuple[Answer, Replaced | None]]:
    """Ask for a commit; where another request's values came between, ask again over those. Gives what it replaced, too.

    So a plain assignment stands over what it overlapped with, but only as long as there is somebody to ask for it:
    the commit of a worker that was killed, which may arrive after its client's next request, undoes nothing.
    """
    for _ in range(limits.OVERWRITE_TRIES_MAX):
        answer = yield _ask_commit(world, place, wanted, structural=structural)
        if not isinstance(answer, CommitAnswer) or answer.outcome is not Outcome.OUTDATED:
            return answer, wanted.replaces
        wanted = replace(wanted, replaces=answer.found)
    answer = yield _ask_commit(world, place, replace(wanted, replaces=None), structural=structural)
    return answer, wanted.replaces


def _same(seen: Replaced | None, replaced: Replaced | None, name: str) -> bool:
    """True if a commit found the attribute as the request had seen it; also where nobody was asked."""
    return seen is None or replaced is None or set(seen.get(name, ())) == set(replaced.get(name, ()))


def _ask_commit(world: World, place: Opened, wanted: Commit, *, structural: bool) -> Ask:
    mode = world.settings.acknowledge if not structural else max(world.settings.acknowledge, AcknowledgeMode.LOCAL)
    request = CommitRequest(0, place.key, wanted, mode, world.settings.unprotected_refused, place.route)
    return Ask(request, waits=_waits(world, structural))


def _waits(world: World, structural: bool) -> bool:
    """A commit that makes, moves or ends an id is waited for, whatever ``acknowledge`` says: the next request may
    come with the new id at once."""
    return structural or world.settings.acknowledge is not AcknowledgeMode.NONE


def _is_current(world: World, place: Opened, wanted: Commit) -> Conversation[bool]:
    """True unless a rotation that ran beside ours has won."""
    entry = world.store.read(place.key).entry
    if entry is None or entry.role is not Role.PRIMARY:
        answer = yield Ask(FetchRequest(0, place.key, {}, place.route))
        assert isinstance(answer, FetchAnswer), "a fetch was not answered as one"
        entry = answer.entry if answer.outcome is FetchOutcome.FOUND else None
    if entry is None or entry.ended:
        return True  # nobody can tell: most likely it was alone
    return current_secret(entry) == wanted.rotates_to


def _take_in(world: World, visit: Visit, place: Opened, wanted: Commit, answer: Answer) -> None:
    """What is stored now is what the request goes on from."""
    said = answer if isinstance(answer, CommitAnswer) else CommitAnswer(Outcome.COMMITTED)
    before = visit.opened
    assert before is not None
    if before.opening is Opening.FENCED and place.key == before.key:
        visit.draft.stored = before.attributes  # hidden until it has logged in again
    done = Changes(wanted.sets, wanted.deletes)
    visit.draft.committed(done, said.incarnation, said.number, place.reign)
    visit.wrote, visit.creates, visit.idle_timeout_ms = True, False, -1
    if wanted.rotates_to or wanted.creates:
        visit.rotates, visit.fences, visit.principal = False, False, KEEP
    primary = said.primary or place.primary or world.settings.member
    idle_timeout_ms = wanted.creates.idle_timeout_ms if wanted.creates else wanted.idle_timeout_ms
    if idle_timeout_ms < 0:
        idle_timeout_ms = place.times.idle_timeout_ms
    visit.opened = replace(
        place,
        attributes=visit.draft.stored,
        times=replace(place.times, accessed_ms=world.store.now_ms(), idle_timeout_ms=idle_timeout_ms),
        primary=primary,
        role=Role.PRIMARY if primary == world.settings.member else place.role or Role.PROXY,
        protected=said.protected,
    )


def _settle(world: World, visit: Visit) -> Conversation[None]:
    """Wait until what the request has shown is acknowledged."""
    opened = visit.opened
    assert opened is not None
    protected = yield from settle(world, opened.key, opened.unsettled)
    if protected is None or (visit.wrote and not opened.protected):
        protected = opened.protected  # what this request has itself changed may be younger than what it has read
    visit.opened = replace(opened, unsettled=0, protected=protected)


def settle(world: World, key: Key, number: int) -> Conversation[bool | None]:
    """Wait until a change that is shown is acknowledged, so that no failover can take it back; True if it was.

    None: ``acknowledge`` is not "backup", so nobody waits for anything.
    """
    if world.settings.acknowledge is not AcknowledgeMode.BACKUP:
        return None
    answer = yield Ask(SettleRequest(0, key, number))
    assert isinstance(answer, CommitAnswer), "a settling was not answered as one"
    checked(world, answer, {})
    return answer.protected


def _touched(world: World, opened: Opened) -> Opened:
    """The session with this access recorded, if the last one that is recorded is old enough; else as it is."""
    now_ms = world.store.now_ms()
    # Never more than half of the session's own timeout, else one in use could expire between two records of it.
    every_ms = min(world.settings.touch_every_ms, opened.times.idle_timeout_ms // 2 or world.settings.touch_every_ms)
    if now_ms - opened.times.accessed_ms < every_ms:
        return opened
    return replace(opened, times=replace(opened.times, accessed_ms=now_ms))


def _raise_wrong(changes: Changes) -> None:
    if changes.wrong is not None:
        raise changes.wrong
