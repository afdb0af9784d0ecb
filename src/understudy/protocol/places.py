"""Who knows where sessions are: news of places goes out as it happens, and a member that meets another asks it for all.

Whoever has found a peer asks for the places of its sessions page by page, in the order of keys: the next page when it
has stored this one, so that nobody is flooded, and again from there when an answer does not come. What changes
meanwhile is announced to everybody, as always. The teller remembers nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from understudy import limits
from understudy.model.entry import Entry, Location, Role
from understudy.protocol import commands as c
from understudy.protocol.core import Core
from understudy.protocol.members import Members
from understudy.protocol.messages import Announce, AskPlaces, Places

LAST_KEY = b"\xff" * 16
ANNOUNCE_MS = 20
"""How long announcements gather before they go out."""
ASK_AGAIN_MS = 500


class Course:
    """How far one peer has told us of its sessions."""

    def __init__(self, now_ms: int) -> None:
        self.after = b""
        self.asked_ms = now_ms
        self.told = 0


class Directory:
    """What one member tells of places, and what it has asked for."""

    def __init__(self, core: Core, members: Members, told: Callable[[str], None]) -> None:
        self._core = core
        self._members = members
        self._told = told
        """Called with a peer's name when we know of all its sessions."""
        self._courses: dict[str, Course] = {}
        self._news: dict[bytes, Location] = {}
        self._news_ms = 0
        self._page: tuple[c.TellPlaces, bytes] | None = None
        self._places: list[tuple[bytes, Location]] = []

    # --- news ----------------------------------------------------------------------------------------------

    def announce(self, key: bytes, location: Location) -> None:
        """Let everybody know where a session is, soon; where that is computed, only that it has ended."""
        if self._core.settings.computes_places and not location.ended:
            return
        if not self._news:
            self._news_ms = self._core.now_ms + ANNOUNCE_MS
        self._news[key] = location
        if len(self._news) >= limits.BATCH_ENTRIES_MAX or location.ended:
            self._announce_now()

    def _announce_now(self) -> None:
        news, self._news = self._news, {}
        for name in self._members.reachable():
            told = tuple((k, p) for k, p in news.items() if p.ended or name not in (p.primary, *p.backups))
            if told:
                self._core.send(name, Announce(told))

    # --- asking --------------------------------------------------------------------------------------------

    def ask(self, name: str) -> None:
        """Ask a peer that was found for all its places, from the first on."""
        self._courses[name] = Course(self._core.now_ms)
        self._core.send(name, AskPlaces(b"", LAST_KEY))

    def heard(self, sender: str, message: Places) -> None:
        """A page of a peer's places: take it, and ask for the next if it is the one that we wait for."""
        for key, location in message.places:
            self._core.emit(c.Change(key, c.Learn(location, sender)))
        course = self._courses.get(sender)
        if course is None or message.after != course.after or message.differs:
            return
        course.after, course.asked_ms = message.upto, self._core.now_ms
        course.told += len(message.places)
        if message.upto < LAST_KEY:
            self._core.send(sender, AskPlaces(course.after, LAST_KEY))
            return
        del self._courses[sender]
        self._core.tell(c.FactKind.TRANSFERRED, member=sender, detail=str(course.told))
        self._told(sender)

    def lost(self, name: str) -> None:
        """That life tells no more."""
        self._courses.pop(name, None)

    # --- telling -------------------------------------------------------------------------------------------

    def asked(self, sender: str, message: AskPlaces) -> None:
        """A peer wants to know where our sessions of a range of keys are."""
        if self._core.settings.computes_places and not message.differs:
            self._core.send(sender, Places(message.after, LAST_KEY, ()))
            return
        purpose = c.TellPlaces(sender, message.after, message.upto, message.differs)
        self._core.emit(c.Scan(c.ScanKind.MEMBER, purpose, member=self._core.me, after=message.after or None))

    def scanned(self, event: c.Scanned, purpose: c.TellPlaces) -> None:
        """The keys of one page; the page goes out when they have been read, at the end of this turn."""
        keys = tuple(key for key in event.keys if key <= purpose.upto)
        is_last = not event.more or len(keys) < len(event.keys)
        self._page = (purpose, purpose.upto if is_last else keys[-1])
        self._core.emit(c.Read(keys, purpose))

    def looked(self, key: bytes, entry: Entry | None, to: str) -> None:
        """One entry of the page."""
        if entry is not None and entry.role is Role.PRIMARY and not entry.ended and to not in entry.backups:
            self._places.append((key, entry.location))

    def flush(self) -> None:
        """Send the page of this turn."""
        if self._page is None:
            return
        (purpose, upto), self._page = self._page, None
        places, self._places = self._places, []
        if self._members.is_reachable(purpose.to):
            self._core.send(purpose.to, Places(purpose.after, upto, tuple(places), purpose.differs))

    # --- time ----------------------------------------------------------------------------------------------

    def tick(self) -> None:
        now = self._core.now_ms
        if self._news and now >= self._news_ms:
            self._announce_now()
        for name, course in self._courses.items():
            if now - course.asked_ms >= ASK_AGAIN_MS and self._members.is_reachable(name):
                course.asked_ms = now
                self._core.send(name, AskPlaces(course.after, LAST_KEY))

    def deadline_ms(self) -> int | None:
        if not self._courses:
            return self._news_ms if self._news else None
        instants = [course.asked_ms + ASK_AGAIN_MS for course in self._courses.values()]
        if self._news:
            instants.append(self._news_ms)
        return min(instants, default=None)
