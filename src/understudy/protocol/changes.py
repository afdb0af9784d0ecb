"""Which pure function of the model each change names: the bridge between the engine and the store.

The executor calls ``perform`` inside the store's transaction. What a change needs from the world (the instant, the
next commit number) comes in through ``Environment``.
"""

from __future__ import annotations

import msgspec

from understudy.model import roles
from understudy.model.commit import Outcome, touched
from understudy.model.delta import Delta
from understudy.model.entry import OVER, Context, Entry, Role, covers
from understudy.protocol import commands as c
from understudy.protocol.local import Environment as Environment
from understudy.protocol.local import do_commit, do_expire

IDLE_SLACK = 10
"""A copy's access time may be later than the primary's by messages' travel: one tenth of the idle timeout is not
taken as use since then."""
ABSOLUTE_SLACK_MS = 1_000
"""A session's beginning is known more exactly."""


def perform(what: c.What, entry: Entry | None, env: Environment) -> tuple[Outcome, Entry | None]:
    """Apply the change that ``what`` names. A number is drawn only if the change is made."""
    outcome, changed = _performed(what, entry, env)
    if changed is not None:
        # Whatever this life commits would be taken for seen and dropped. The next one begins with another number.
        assert changed.context.get(env.settings.incarnation) != OVER, "this life was taken for one that is over"
    if not env.settings.everywhere or changed is None:
        return outcome, changed
    if changed.ended:
        # Who ends it here waits for the others; of an end that was heard of, they may know nothing.
        is_news = not isinstance(what, c.DoCommit) and not (entry is not None and entry.ended)
    else:
        is_news = changed.role is Role.BACKUP and (entry is None or _brings_news(entry, changed))
    if is_news:
        # What it shows from now on, others who read it may lack.
        changed = msgspec.structs.replace(changed, unconfirmed=True)
    return outcome, changed


def _performed(what: c.What, entry: Entry | None, env: Environment) -> tuple[Outcome, Entry | None]:
    me, now = env.settings.member, env.now_ms
    match what:
        case c.DoCommit(commit=commit, backups=backups):
            return do_commit(entry, commit, backups, env)
        case c.CopyIn(delta=delta):
            return _taken_over(entry, delta, roles.copied(entry, delta, me, now), env)
        case c.Learn(location=location):
            if entry is None and env.settings.computes_places:
                return Outcome.UNCHANGED, None
            return roles.learned(entry, me, location, now)
        case c.GivePromise(promise=promise, location=location, heard=heard):
            return roles.promised(entry, promise, me, location, heard)
        case c.Expire():
            return do_expire(entry, env)
        case c.Discard():
            return (Outcome.UNCHANGED, None) if entry is None else (Outcome.REMOVED, None)
        case c.ForgetCopy():
            return _forget(entry, what, now)
        case c.DropLost(epoch=epoch):
            droppable = entry is not None and entry.role is Role.PROXY and not entry.ended and entry.epoch <= epoch
            return (Outcome.REMOVED, None) if droppable else (Outcome.UNCHANGED, entry)
    if entry is None:
        return Outcome.UNKNOWN, None
    match what:
        case c.Touch(age_ms=age_ms):
            return touched(entry, now - age_ms)
        case c.Promote(promise=promise, backups=backups, found=found):
            return roles.promoted(entry, promise, me, backups, found, now, env.next_number())
        case c.SetBackups(backups=backups):
            return roles.listed(entry, backups, env.next_number())
        case c.Relist():
            return roles.relisted(entry, what.backups, what.epoch, what.context, what.times)
        case c.HandOver(to=to):
            return roles.handed_over(entry, to, env.settings.chooser, env.next_number())
        case c.StepDown(whole=whole):
            return roles.stepped_down(
                entry, whole, me, env.unanswered, env.settings.lives | {env.settings.incarnation}, now
            )
        case c.TakeContribution(delta=delta):
            return roles.contributed(entry, delta, env.next_number(), now)
        case c.Outbid(promise=promise):
            return roles.outbid(entry, promise)
        case c.FinishLives(incarnations=incarnations):
            return roles.lives_finished(entry, incarnations)
        case c.ReleaseCopy(epoch=epoch):
            return roles.released(entry, me, epoch)
        case c.ConfirmCopy(context=context):
            return _confirm(entry, context)
    raise AssertionError(f"no such change: {what!r}")


def _taken_over(
    before: Entry | None, delta: Delta, copied: tuple[Outcome, Entry | None], env: Environment
) -> tuple[Outcome, Entry | None]:
    """What was copied; a session that is handed to us by one that has not all that we hold (we were its primary before,
    and our contribution was lost) is our change: the giver is sent it, and waited for."""
    outcome, entry = copied
    if outcome is not Outcome.STORED or entry is None or before is None or entry.ended:
        return copied
    if before.role is Role.PRIMARY or entry.role is not Role.PRIMARY or covers(delta.context, entry.context):
        return copied
    return outcome, msgspec.structs.replace(entry, number=env.next_number())


def _brings_news(entry: Entry, changed: Entry) -> bool:
    """True if a copy shows something else now, or may; which incarnations are over is nothing that anybody is shown."""
    if changed.context == entry.context:
        return False
    numbers = changed.context.items()
    return changed.attributes != entry.attributes or any(n != OVER and entry.context.get(i) != n for i, n in numbers)


def _confirm(entry: Entry, context: Context | None) -> tuple[Outcome, Entry]:
    is_meant = context is None if entry.ended else context is not None and covers(context, entry.context)
    if not entry.unconfirmed or not is_meant:
        return Outcome.UNCHANGED, entry
    return Outcome.STORED, msgspec.structs.replace(entry, unconfirmed=False)


def _forget(entry: Entry | None, what: c.ForgetCopy, now_ms: int) -> tuple[Outcome, Entry | None]:
    if entry is None or entry.ended or entry.role is Role.PRIMARY or entry.epoch > what.epoch:
        return Outcome.UNCHANGED, entry
    if entry.role is Role.BACKUP and what.exactly and not entry.expired(now_ms):
        return Outcome.REFUSED, entry
    times = entry.times
    idle_ms = times.idle_timeout_ms - max(ABSOLUTE_SLACK_MS, times.idle_timeout_ms // IDLE_SLACK)
    is_idle = times.idle_timeout_ms and now_ms >= times.accessed_ms + idle_ms
    is_old = times.absolute_timeout_ms and now_ms >= times.created_ms + times.absolute_timeout_ms - ABSOLUTE_SLACK_MS
    if entry.role is Role.BACKUP and not is_idle and not is_old:
        # Its time is not over, or never will be: nobody has rightly expired it. Who does not know it has lost it.
        return Outcome.REFUSED, entry
    return Outcome.REMOVED, None
