"""Who is alive, as this member sees it; and the leases that members grant each other.

A heartbeat asks for a lease; its acknowledgement grants one, counted from when the heartbeat was *sent*. Who grants
it promises to acknowledge no write as a successor in the sender's sessions meanwhile. So a primary that reads its
own clock before it serves knows that nobody has written elsewhere, whatever pause it has been through.

Source: Gray and Cheriton 1989 (leases); the promise counted from the request's sending makes clock rates the only
thing that the two machines must agree on.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable

from understudy import limits
from understudy.protocol import commands as c
from understudy.protocol.core import Core
from understudy.protocol.messages import Heartbeat, HeartbeatAck, MemberMessage
from understudy.protocol.placement import ORDERS, Candidate, chosen, rendezvous
from understudy.protocol.settings import digest_of

TRANSIT_WINDOW_MS = 60_000
"""Clocks drift apart by a few ms in this time."""
CLOCK_DRIFT_PERCENT = 2
"""How much faster than ours another member's clock may run: forty times what clocks are slewed by."""
CLOCK_GRAIN_MS = 2
"""Both clocks are read in whole milliseconds."""
FLAPS_BORNE = 3
"""Times that a member may come back within ``FLAPS_REMEMBERED_MS`` before requests wait for it once more."""
FLAPS_REMEMBERED_MS = 30_000
PATIENCE_MS = 100
"""How long they wait then, from its last word; doubled for each further return."""
PATIENCE_DOUBLINGS_MAX = 3
FLAPS_KEPT = FLAPS_BORNE + PATIENCE_DOUBLINGS_MAX
FORMER_KEPT = 3
CALL_DEAD_MS = 1_000
"""How often a dead member is sent a heartbeat: two may believe it of each other while the network is quiet about it."""
HEARD_HEARTBEATS = 2
"""Heartbeats without an answer before a member is no longer said to be heard: one may be lost."""


class Standing(enum.StrEnum):
    """What this member believes of another."""

    ALIVE = "alive"
    SUSPECT = "suspect"
    """No heartbeat of the last ``lease_ms`` was answered: not waited for, not yet replaced."""
    DEAD = "dead"
    LEFT = "left"


class Member:
    """One life of another member."""

    def __init__(self, name: str, incarnation: int, now_ms: int) -> None:
        self.name = name
        self.incarnation = incarnation
        self.is_shown = False
        """The network shows this life; else it was only heard."""
        self.former: tuple[int, ...] = ()
        """The lives that were known before it."""
        self.standing = Standing.ALIVE
        self.heard_ms = now_ms
        self.answered_ms = now_ms
        """When the newest heartbeat that it has answered was sent: both ways between us worked then."""
        self.leaving = False
        self.ready = False
        self.zone = ""
        self.granted_until_ms = 0
        """Until when it acknowledges no write as a successor of ours."""
        self.reads_until_ms = 0
        """Until when it acknowledges no change of its sessions that we lack."""
        self.fence = 0
        """How often we have promised away, or taken, a session that was its; it learns of that by comparing."""
        self.told_fence = 0
        """The same, of ours, as it has told us."""
        self.known_fence = 0
        """Up to which of those we have compared: a lease of a higher one is none."""
        self.asked_fence = -1
        """The fence that the round of comparisons under way covers; -1: none."""
        self._transit_ms: list[tuple[int, int]] = []
        """(our instant, our clock less theirs) of the quickest heartbeat in each of the last windows."""
        self.promised_until_ms = 0
        """Until when we acknowledge no write as a successor of it."""
        self.remembers_ms = 0
        """How far its memory goes back, see ``absence``."""
        self.gone_ms = 0
        """When this life was lost, if it was."""
        self.lost_ms = 0
        """When an earlier life was heard last that ended without leaving."""
        self.agreed = -1
        """Digest of the settings that it has told us; -1: none yet."""
        self.differs: tuple[str, ...] = ()
        """What is configured otherwise there than here, in words."""
        self.is_unfit = False
        """Sessions could be lost by that: no lease is given, and nothing believed."""
        self.met_ready = False
        """We were ready when we found it."""
        self.was_ready: bool | None = None
        """So was it, by its first heartbeat; None: none has come."""
        self.returns: list[int] = []
        """When it came back from being lost, lately; ``blips``: from being suspect."""
        self.blips: list[int] = []

    def patience_until_ms(self, now_ms: int) -> int:
        """Until when a link that comes and goes is given the time to come back, before anybody takes its sessions."""
        instants = self.blips if self.standing is Standing.SUSPECT else self.returns
        lately = sum(now_ms - instant < FLAPS_REMEMBERED_MS for instant in instants)
        if lately < FLAPS_BORNE:
            return 0
        return self.heard_ms + (PATIENCE_MS << min(lately - FLAPS_BORNE, PATIENCE_DOUBLINGS_MAX))

    def last_lost_ms(self) -> int:
        """When a life that ended without leaving, this one or an earlier one, was heard last; 0: none."""
        return self.heard_ms if self.standing is Standing.DEAD else self.lost_ms

    def note_transit(self, now_ms: int, sent_ms: int) -> None:
        """Learn from a heartbeat how far the two clocks are apart, at most."""
        offset_ms = now_ms - sent_ms
        windows = self._transit_ms
        if not windows or now_ms - windows[-1][0] >= TRANSIT_WINDOW_MS:
            self._transit_ms = [*windows[-1:], (now_ms, offset_ms)]
        elif offset_ms < windows[-1][1]:
            windows[-1] = (windows[-1][0], offset_ms)

    def age_ms(self, now_ms: int, sent_ms: int) -> int:
        """How long a message that was sent at ``sent_ms`` on its clock was under way beyond a heartbeat's transit; 0 if
        nobody knows."""
        if not self._transit_ms or not sent_ms:
            return 0
        return max(0, now_ms - sent_ms - min(offset for _, offset in self._transit_ms))

    def replaces(self, incarnation: int) -> bool:
        """True of a life whose last words may come after this one was shown."""
        return self.is_shown and incarnation in self.former

    def shows_life(self, message: MemberMessage) -> bool:
        """True for the answer to a heartbeat that was sent since this life was lost. Anything else may be from before:
        its last words can come after the news of its end."""
        return isinstance(message, HeartbeatAck) and message.sent_ms > self.gone_ms

    @property
    def is_reachable(self) -> bool:
        return self.standing in (Standing.ALIVE, Standing.SUSPECT)


class Members:
    """The view: members by name, heartbeats, leases, and the round-robin cursor."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.heartbeat_ms = max(1, core.settings.lease_ms // 3)
        self._by_name: dict[str, Member] = {}
        self._next_heartbeat_ms = 0
        self._ticked_ms = 0
        self._cursor = core.settings.chooser % limits.MEMBERS_MAX
        self.leaving = False
        self.ready = False
        self.since_ms = 0
        """Since when this member's memory has no gap longer than ``forget_ms``; see ``absence``."""
        self.outdated = False
        """What it holds is not to be believed yet: it answers no heartbeat, so that nobody waits for it."""
        self._forgotten_until_ms = 0
        """Until when promises of an earlier life of ours may bind us that this one knows nothing of."""
        self._next_call_ms = 0
        self._base_fence = 0
        """1 when an earlier life of ours may have promised or taken what we know nothing of."""
        self.agreed = digest_of(core.settings.agreed)
        self.began_empty = False
        """This life has found nothing in its store: what it does not know an earlier one may have held."""
        self.may_publish = False
        """False until our entries have been compared: workers may not serve them in place before."""

    @property
    def promise_ms(self) -> int:
        """How long a granted lease binds us: the sender's time, on a clock that may run faster than ours."""
        lease_ms = self._core.settings.lease_ms
        return lease_ms + CLOCK_GRAIN_MS + lease_ms * CLOCK_DRIFT_PERCENT // 100

    def all(self) -> Iterable[Member]:
        return self._by_name.values()

    def get(self, name: str) -> Member | None:
        return self._by_name.get(name)

    def reachable(self) -> list[str]:
        """Names of the members that are alive or suspect."""
        return [m.name for m in self._by_name.values() if m.is_reachable]

    def lives(self, incarnation: int) -> bool:
        """True if that life is a reachable member's."""
        return any(m.incarnation == incarnation and m.is_reachable for m in self._by_name.values())

    def alive(self) -> list[str]:
        return [m.name for m in self._by_name.values() if m.standing is Standing.ALIVE]

    @property
    def in_minority(self) -> bool:
        """True if this side must change nothing: ``partition = "refuse"``, and too few members answer."""
        expected = self._core.settings.members_expected
        return expected > 0 and 2 * (1 + len(self.alive())) <= expected

    @property
    def may_be_cut_off(self) -> bool:
        """True if more members are dead than copies would survive, and not fewer than live: perhaps we are cut off, and
        they go on with their sessions. Not for ever: members can really be lost together."""
        settings = self._core.settings
        since_ms = self._core.now_ms - settings.lost_after_ms
        dead = sum(m.standing is Standing.DEAD and m.heard_ms > since_ms for m in self._by_name.values())
        return dead > settings.copies and dead >= 1 + len(self.reachable())

    def is_alive(self, name: str) -> bool:
        member = self._by_name.get(name)
        return member is not None and member.standing is Standing.ALIVE

    def is_reachable(self, name: str) -> bool:
        member = self._by_name.get(name)
        return member is not None and member.is_reachable

    def hears(self, name: str) -> bool:
        """True if a member has answered one of the last heartbeats: what is sent to it now arrives and is answered."""
        member = self._by_name.get(name)
        if member is None or member.standing is not Standing.ALIVE:
            return False
        return self._core.now_ms - member.answered_ms <= HEARD_HEARTBEATS * self.heartbeat_ms

    def patience_until_ms(self, name: str) -> int:
        """Until when nobody takes the sessions of ``name``, because its link comes and goes; 0: no need to wait."""
        member = self._by_name.get(name)
        return member.patience_until_ms(self._core.now_ms) if member is not None else 0

    def gone_ms(self, name: str) -> int:
        """When the life of a member that we know last was lost; 0 if it was not."""
        member = self._by_name.get(name)
        return member.gone_ms if member is not None else 0

    def view(self) -> tuple[str, ...]:
        """The names that this member believes to be in the cluster, itself included, in order."""
        return tuple(sorted([self._core.me, *self.reachable()]))

    def recently_lost(self) -> tuple[str, ...]:
        """Members of which a life was lost so lately that what it held may not have its copies again."""
        settings = self._core.settings
        since_ms = self._core.now_ms - settings.dead_ms - 2 * settings.sweep_delay_ms
        return tuple(m.name for m in self._by_name.values() if m.last_lost_ms() > since_ms)

    # --- membership ----------------------------------------------------------------------------------------

    def found(self, name: str, incarnation: int, shown: bool = False) -> Member | None:
        """Note a life of a member, which the network has ``shown`` or which has written; returns it if it is new or has
        returned, None if it was known and alive."""
        known = self._by_name.get(name)
        now = self._core.now_ms
        if known is not None and known.incarnation == incarnation:
            known.is_shown |= shown
            known.heard_ms = now
            if known.is_reachable:
                return None
            known.standing, known.answered_ms = Standing.ALIVE, now
            known.returns = [*known.returns[-FLAPS_KEPT:], now]
            self._core.tell(c.FactKind.MEMBER_RETURNED, member=name)
        else:
            if len(self._by_name) >= limits.MEMBERS_MAX and known is None:
                return None
            known = self._by_name[name] = self._fresh(known, name, incarnation)
            known.is_shown = shown
            self._core.tell(c.FactKind.MEMBER_FOUND, member=name)
        self._core.send(name, self._heartbeat())
        return known

    def _fresh(self, known: Member | None, name: str, incarnation: int) -> Member:
        member = Member(name, incarnation, self._core.now_ms)
        member.met_ready = self.ready
        if known is not None:
            # The promise was given to the name's workers: they may read on under it after their agent was replaced.
            member.promised_until_ms = known.promised_until_ms
            member.lost_ms = known.last_lost_ms()
            member.former = (*known.former[-FORMER_KEPT:], known.incarnation)
            member.fence = known.fence
            member.known_fence = -1  # what it promised or took in its former life it may not know any more
        return member

    def lost(self, name: str, incarnation: int) -> bool:
        """Note that this life has ended; True if that was news."""
        member = self._by_name.get(name)
        if member is None or member.incarnation != incarnation or not member.is_reachable:
            return False
        member.standing = Standing.LEFT if member.leaving else Standing.DEAD
        member.gone_ms = self._core.now_ms
        self._core.tell(c.FactKind.MEMBER_LOST, member=name, detail=member.standing)
        return True

    def heard(self, name: str) -> None:
        """Anything from a member shows that it is not dead (that it hears us is shown by an answer alone)."""
        self._by_name[name].heard_ms = self._core.now_ms

    # --- heartbeats and leases -----------------------------------------------------------------------------

    def heartbeat(self, sender: Member, message: Heartbeat, reads: bool = False) -> bool:
        """Grant the lease that a heartbeat asks for, with a read lease if ``reads``; True if it begins to leave."""
        sender.promised_until_ms = self._core.now_ms + self.promise_ms
        sender.note_transit(self._core.now_ms, message.sent_ms)
        sender.ready, sender.zone = message.ready, message.zone
        began = message.leaving and not sender.leaving
        sender.leaving = message.leaving
        sender.remembers_ms = message.remembers_ms
        if not self.outdated:
            self._core.send(sender.name, HeartbeatAck(message.sent_ms, reads, sender.fence + self._base_fence))
        if began:
            self._core.tell(c.FactKind.MEMBER_LEAVES, member=sender.name)
        return began

    def granted(self, sender: Member, sent_ms: int, reads: bool = False, fence: int = 0) -> bool:
        """Take the lease that an acknowledgement grants; never one for a heartbeat from the future.

        Returns: False if it grants none, because sessions of ours must be compared first.
        """
        now, lease_ms = self._core.now_ms, self._core.settings.lease_ms
        if sent_ms > now:
            return True
        sender.answered_ms = max(sender.answered_ms, sent_ms)
        if sender.standing is Standing.SUSPECT and now - sender.answered_ms <= lease_ms:
            sender.standing = Standing.ALIVE
            sender.blips = [*sender.blips[-FLAPS_KEPT:], now]
        sender.told_fence = max(sender.told_fence, fence)
        until, is_fenced = sent_ms + lease_ms, sender.told_fence > sender.known_fence
        if not is_fenced and until > sender.granted_until_ms:
            sender.granted_until_ms = until
            if self.may_publish:
                self._core.emit(c.Publish(sender.name, until))
        if reads and until > sender.reads_until_ms:
            sender.reads_until_ms = until
            if self.may_publish:
                self._core.emit(c.Publish(sender.name, until, reads=True))
        return not is_fenced

    def fence(self, name: str) -> None:
        """A session of that member was promised to another, or taken: it gets no lease before it has compared."""
        member = self._by_name.get(name)
        if member is not None:
            member.fence += 1

    def round_begun(self) -> None:
        """All that we hold is being compared with everybody whom we reach."""
        for member in self._by_name.values():
            member.asked_fence = member.told_fence if member.is_reachable else -1

    def left_out(self, name: str) -> None:
        """A member did not answer in that round."""
        member = self._by_name.get(name)
        if member is not None:
            member.asked_fence = -1

    def round_done(self) -> None:
        """We have compared with all that have answered: their leases count up to what they had told us by then."""
        for member in self._by_name.values():
            member.known_fence = max(member.known_fence, member.asked_fence)
            member.asked_fence = -1

    def publish_all(self) -> None:
        """Let workers serve in place from now on."""
        self.may_publish = True
        for member in self._by_name.values():
            if member.granted_until_ms > self._core.now_ms:
                self._core.emit(c.Publish(member.name, member.granted_until_ms))
            if member.reads_until_ms > self._core.now_ms:
                self._core.emit(c.Publish(member.name, member.reads_until_ms, reads=True))

    def has_lease(self, names: Iterable[str]) -> bool:
        """True if each of ``names`` has granted a lease that still runs."""
        now = self._core.now_ms
        for name in names:
            member = self._by_name.get(name)
            if member is None or member.granted_until_ms <= now:
                return False
        return True

    def hold_until_ms(self, names: Iterable[str]) -> int:
        """Until when we have promised to acknowledge no write as a successor of any of ``names``."""
        promised = (m.promised_until_ms for n in names if (m := self._by_name.get(n)) is not None)
        return max((self._forgotten_until_ms, *promised))

    def keep_earlier_promises(self) -> None:
        """An earlier life of ours may have granted leases a moment ago, to anybody."""
        self._forgotten_until_ms = self._core.now_ms + self.promise_ms
        self._base_fence = 1

    def call(self, member: Member) -> None:
        """Ask a member that was lost whether it is there: its answer shows that."""
        self._core.send(member.name, self._heartbeat())

    def announce_leaving(self) -> None:
        self.leaving = True
        for name in self.reachable():
            self._core.send(name, self._heartbeat())

    def tick(self) -> list[Member]:
        """Send heartbeats that are due; suspect the silent. Returns those that have just become dead."""
        now, settings = self._core.now_ms, self._core.settings
        stood_still_ms = now - self._ticked_ms - self.heartbeat_ms if self._ticked_ms else 0
        self._ticked_ms = now
        dead: list[Member] = []
        for member in self._by_name.values():
            if stood_still_ms > self.heartbeat_ms:
                # Our own loop stood still: that is no silence of theirs.
                member.heard_ms = min(now, member.heard_ms + stood_still_ms)
                member.answered_ms = min(now, member.answered_ms + stood_still_ms)
            if member.standing is Standing.ALIVE and now - member.answered_ms > settings.lease_ms:
                member.standing = Standing.SUSPECT
                self._core.tell(c.FactKind.MEMBER_SUSPECTED, member=member.name)
            if member.standing is Standing.SUSPECT and now - member.heard_ms > settings.dead_ms:
                dead.append(member)
        if now >= self._next_heartbeat_ms:
            self._next_heartbeat_ms = now + self.heartbeat_ms
            for name in self.reachable():
                self._core.send(name, self._heartbeat())
        if now >= self._next_call_ms:
            self._next_call_ms = now + CALL_DEAD_MS
            for member in self._by_name.values():
                if member.standing is Standing.DEAD:
                    self.call(member)
        return dead

    def deadline_ms(self) -> int:
        return self._next_heartbeat_ms

    def _heartbeat(self) -> Heartbeat:
        now, zone = self._core.now_ms, self._core.settings.zone
        return Heartbeat(now, self.leaving, self.ready, zone, now - (self.since_ms or now), self.agreed)

    # --- placement -----------------------------------------------------------------------------------------

    def place(self, key: bytes, count: int, exclude: Iterable[str] = ()) -> tuple[str, ...]:
        """``count`` members for copies of a session whose primary is here: alive, staying, not in ``exclude`` (where
        copies are, or may not be), in other zones than the primary and those if that can be; fewer if there are fewer.
        """
        excluded = set(exclude)
        candidates = [c for c in self._candidates() if c.name not in excluded]
        zones = {m.zone for n in excluded if (m := self._by_name.get(n)) is not None and m.standing is Standing.ALIVE}
        self._cursor += 1
        settings = self._core.settings
        return chosen(ORDERS[settings.placement], key, candidates, self._cursor, count, {*zones, settings.zone})

    def can_place(self, exclude: Iterable[str] = ()) -> bool:
        """True if there is a member that could take a copy, beside those in ``exclude``."""
        excluded = set(exclude)
        return any(candidate.name not in excluded for candidate in self._candidates())

    def presumed(self, key: bytes) -> tuple[str, ...]:
        """Where a session is by its key alone, as far as this member's view is everybody's; ``()`` if places are told.

        Guarantee: of these at least one holds it: whoever is primary, its backup is the first of another zone.
        """
        settings = self._core.settings
        if not settings.computes_places:
            return ()
        everybody = [*self._candidates(), Candidate(self._core.me, settings.zone)]
        found = chosen(ORDERS[settings.placement], key, everybody, 0, settings.copies + 1)
        return tuple(name for name in found if name != self._core.me)

    def ranked(self, key: bytes) -> list[str]:
        """Those that are ready and stay, in an order that follows from key and names alone; this one at the latest as
        the last."""
        me = Candidate(self._core.me)
        others = [candidate for candidate in self._candidates() if self._by_name[candidate.name].ready]
        is_staying = self.ready and not self.leaving
        ranked = rendezvous(key, [*others, me], 0) if is_staying else [*rendezvous(key, others, 0), me]
        return [member.name for member in ranked]

    def zones(self) -> dict[str, str]:
        """The zone of each member that may hold a copy."""
        return {candidate.name: candidate.zone for candidate in self._candidates()}

    def is_staying(self, name: str) -> bool:
        """True for a member that is alive and does not leave."""
        member = self._by_name.get(name)
        return member is not None and member.standing is Standing.ALIVE and not member.leaving

    def is_whole(self) -> bool:
        """True if nobody is missing who has not left: none of them can act on what it knew before."""
        return all(member.standing in (Standing.ALIVE, Standing.LEFT) for member in self._by_name.values())

    def _candidates(self) -> list[Candidate]:
        return [
            Candidate(m.name, m.zone) for m in self._by_name.values() if m.standing is Standing.ALIVE and not m.leaving
        ]
