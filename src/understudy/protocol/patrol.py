"""The patrol: a slow walk over the sessions whose primary is here, which finds what nothing else has noticed.

A page of keys at a time, a member tells every other what that one should know of them: how many, and the sum of their
hashes. Who finds something else in its own store for the same range of keys, a moment later, asks for the places and
compares its copies. So the cost is that of reading each entry once a round, one small message a page and peer, and a
repair of a page where something differs; a session that changes in that moment is compared for nothing.
The walk is also where backups are moved: to the member that the key names, to another zone, or from a member that
holds many of ours to one that holds few.

Source: anti-entropy (Demers et al. 1987) by checksums over ranges of keys; a hash tree would save messages where
stores are equal, which cost little, and must be kept up to date by each commit, which costs much.
"""

from __future__ import annotations

from hashlib import blake2b

from understudy import limits
from understudy.model.commit import Outcome
from understudy.model.entry import Context, Entry, Epoch, Role, going
from understudy.protocol import commands as c
from understudy.protocol.compare import Comparisons
from understudy.protocol.core import Core
from understudy.protocol.lives import Lives
from understudy.protocol.members import Members
from understudy.protocol.messages import AskPlaces, Digest, Item
from understudy.protocol.places import LAST_KEY
from understudy.protocol.replicate import Replication
from understudy.protocol.shares import Shares

PAGE_MS = 50
"""Between two pages: 64 entries each, 1,280 a second."""
SUM_MODULUS = 1 << 64


class Tally:
    """How many entries, and the sum of their hashes: the same whatever their order."""

    def __init__(self) -> None:
        self.count = 0
        self.sum = 0

    def add(self, hashed: int, count: int = 1) -> None:
        self.count += count
        self.sum = (self.sum + hashed) % SUM_MODULUS


class Check:
    """A peer's digest of one page, and what we hold of that range."""

    def __init__(self, digest: Digest) -> None:
        self.digest = digest
        self.tally = Tally()
        self.items: list[Item] = []
        self.complete = False


class Patrol:
    """The walk of one member, and its answers to those of the others."""

    def __init__(
        self, core: Core, members: Members, replication: Replication, comparisons: Comparisons, lives: Lives
    ) -> None:
        self._core = core
        self._members = members
        self._replication = replication
        self._comparisons = comparisons
        self._lives = lives
        self._shares = Shares(core, members, replication)
        self._after = b""
        self._upto = b""
        """End of the page that is being read; b"" between pages."""
        self._next_ms = 0
        self._places = Tally()
        self._copies: dict[str, Tally] = {}
        self._checks: dict[str, Check] = {}

    def view_changed(self) -> None:
        """A member came or went: walk again when things have settled."""
        settled_ms = self._core.now_ms + self._core.settings.sweep_delay_ms
        self._shares.begin(settled_ms)
        self._after, self._upto = b"", b""
        self._next_ms = settled_ms + PAGE_MS

    # --- the walk ------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Take the next page if it is due."""
        now = self._core.now_ms
        if now < self._next_ms or not self._core.settings.patrol_ms:
            return
        self._next_ms = now + PAGE_MS
        if not self._members.ready or self._members.leaving or not self._comparisons.complete or self._upto:
            return
        scan = c.Scan(c.ScanKind.MEMBER, c.Patrol(self._after), member=self._core.me, after=self._after or None)
        self._core.emit(scan)

    def deadline_ms(self) -> int | None:
        return self._next_ms if self._core.settings.patrol_ms else None

    def scanned(self, event: c.Scanned, purpose: c.Patrol) -> None:
        """The keys of a page; what was begun before the view changed is dropped."""
        if purpose.after != self._after or self._upto:
            return
        self._upto = event.keys[-1] if event.more else LAST_KEY
        self._shares.next_page()
        self._core.emit(c.Read(event.keys, purpose))

    def looked(self, key: bytes, entry: Entry | None) -> None:
        """One entry of the page."""
        if entry is not None and entry.role is Role.PROXY and entry.primary == self._core.me:
            self._maybe_drop(key, entry)
            return
        if entry is None or entry.role is not Role.PRIMARY or entry.ended or not self._upto:
            return
        place, copy = hash_of(key, entry.epoch), hash_of(key, entry.epoch, entry.context)
        self._places.add(place)
        for name in entry.backups:
            self._copies.setdefault(name, Tally()).add(copy - place if self._tells_places else copy)
        self._shares.look(key, entry)
        over = self._lives.over_in(entry)
        if over:
            self._core.emit(c.Change(key, c.FinishLives(over)))

    def finished(self, event: c.Changed) -> None:
        """Incarnations have left an entry: tell its backups now. Should that be lost, their digests differ."""
        entry = event.entry
        if event.outcome is Outcome.STORED and entry is not None and event.key not in self._replication.flights:
            for backup in entry.backups:
                self._replication.send(backup, event.key, entry)

    @property
    def _tells_places(self) -> bool:
        return not self._core.settings.computes_places

    def _end_page(self) -> None:
        """Tell each member what it should know, and go on."""
        after, upto = self._after, self._upto
        self._lives.end_page()
        for name in self._members.alive():
            copies = self._copies.get(name, Tally())
            told = Tally()
            if self._tells_places:
                told.add(self._places.sum + copies.sum, self._places.count)
            else:
                told = copies
            self._core.send(name, Digest(after, upto, told.count, told.sum))
        self._places, self._copies = Tally(), {}
        self._after, self._upto = upto, b""
        if upto >= LAST_KEY:
            self._after = b""
            if not self._shares.end_round():
                self._next_ms = self._core.now_ms + self._core.settings.patrol_ms

    # --- the others' digests -------------------------------------------------------------------------------

    def told(self, sender: str, digest: Digest) -> None:
        """A peer says what we should know of its sessions: look. A check that is still open makes way."""
        if self._members.ready and self._comparisons.complete:
            self._checks[sender] = Check(digest)
            self._scan(sender, digest, digest.after)

    def _scan(self, sender: str, digest: Digest, after: bytes) -> None:
        purpose = c.CheckDigest(sender, digest.after)
        self._core.emit(c.Scan(c.ScanKind.MEMBER, purpose, member=sender, after=after or None))

    def scanned_to_check(self, event: c.Scanned, purpose: c.CheckDigest) -> None:
        """The next keys that name the sender, in the digest's range."""
        check = self._checks.get(purpose.sender)
        if check is None or check.digest.after != purpose.after or check.complete:
            return
        keys = tuple(key for key in event.keys if key <= check.digest.upto)
        self._core.emit(c.Read(keys, purpose))
        if event.more and len(keys) == len(event.keys):
            self._scan(purpose.sender, check.digest, keys[-1])
        else:
            check.complete = True

    def looked_to_check(self, key: bytes, entry: Entry | None, purpose: c.CheckDigest) -> None:
        """One of them: does it count among what the sender says?"""
        check = self._checks.get(purpose.sender)
        if check is None or entry is None or entry.ended or entry.primary != purpose.sender:
            return
        is_copy = entry.role is Role.BACKUP
        if not is_copy and not self._tells_places:
            self._maybe_drop(key, entry)
            return
        check.tally.add(hash_of(key, entry.epoch, entry.context if is_copy else None))
        if len(check.items) < limits.PATROL_ITEMS_MAX:
            # Of a copy that the list does not name the whole is asked for: what it has must be covered to let it go.
            context = entry.context if self._core.me in entry.backups else {}
            check.items.append(Item(key, entry.epoch, context, holds=is_copy))

    def _maybe_drop(self, key: bytes, entry: Entry) -> None:
        """A note of a place that is computed, or that we are named for and do not hold, is kept only for its promise;
        not when nobody is missing any more who might act under a lower reign."""
        if self._members.is_whole():
            self._core.emit(c.Change(key, c.ForgetCopy(entry.epoch)))

    def _conclude(self, sender: str, check: Check) -> None:
        digest = check.digest
        if (check.tally.count, check.tally.sum) == (digest.count, digest.sum) or not self._members.is_alive(sender):
            return
        self._core.tell(c.FactKind.DIFFERENCE_FOUND, member=sender)
        self._core.send(sender, AskPlaces(digest.after, digest.upto, differs=True))
        self._comparisons.compare_with_primary(sender, check.items)

    def repair(self, key: bytes, entry: Entry | None, to: str) -> None:
        """A listed holder has found a difference in this entry's range: does it have less than we, or more?"""
        if entry is None or entry.role is not Role.PRIMARY or entry.ended or to not in entry.backups:
            return
        if key not in self._replication.flights:
            self._replication.recheck(key, entry, to)
            self._comparisons.ask_about(key, entry, (to,))

    def flush(self) -> None:
        """The pages and checks of this turn."""
        if self._upto:
            self._end_page()
        if not self._checks:
            return
        for sender in [name for name, check in self._checks.items() if check.complete]:
            self._conclude(sender, self._checks.pop(sender))


def hash_of(key: bytes, epoch: Epoch, context: Context | None = None) -> int:
    """What two members compare of one session: where it is, and, if both have its data, what that has seen."""
    seen = going(context) if context is not None else ()
    return int.from_bytes(blake2b(key + repr((tuple(epoch), seen)).encode(), digest_size=8).digest(), "big")
