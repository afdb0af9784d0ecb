"""What one request knows of its session: what it found, what it wants, how that went. Plain state, no decisions."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from msgspec import Struct, field

from understudy.client.draft import Draft
from understudy.model.commit import Opening
from understudy.model.entry import Attributes, Entry, Key, Role, Times
from understudy.model.ids import Claim, Keys, SessionId, cookie_value
from understudy.protocol.worker_messages import AcknowledgeMode
from understudy.store import Counts, Reading

NO_ATTRIBUTES: Attributes = {}
NO_SIZES: Mapping[str, int] = MappingProxyType({})
KEEP = object()
"""Of a principal: not to be changed."""


class Settings(NamedTuple):
    """What a conversation must know of the configuration."""

    member: str
    application: str
    idle_timeout_ms: int
    absolute_timeout_ms: int
    """0: none."""
    acknowledge: AcknowledgeMode
    unprotected_refused: bool
    grace_ms: int
    touch_every_ms: int
    session_bytes_max: int
    attribute_filter: re.Pattern[str] | None = None
    """Of attributes' whole names: others are not stored. None: all are."""
    copies: int = 1
    """So many backups protect a session."""


class Reads(Protocol):
    """The store, as a conversation sees it."""

    def read(self, key: bytes) -> Reading: ...

    def recall(self, key: bytes) -> Reading: ...

    def now_ms(self) -> int: ...


class View(Protocol):
    """The store at one instant."""

    def get(self, key: Key) -> Entry | None: ...

    def keys(self, after: Key | None, limit: int) -> list[Key]: ...

    def counts(self) -> Counts: ...


class Views(Reads, Protocol):
    """The store, as a client sees it."""

    def view(self) -> AbstractContextManager[View]: ...


class World(Struct):
    """Everything outside of a conversation: the store, the leases, chance, and what is configured."""

    store: Reads
    lease_until_ms: Callable[[str], int]
    """Peer's name -> when its lease ends, on the store clock; 0 if it never granted one."""
    keys: Keys
    settings: Settings
    random_bytes: Callable[[int], bytes]
    remembered: dict[Key, Remembered] = {}
    """What was opened last of each session, see ``conversation.open_in_place``."""


class Opened(Struct, frozen=True):
    """What a cookie opened."""

    session_id: SessionId | None = None
    key: bytes = b""
    secret: bytes = b""
    """Hash of the id's secret."""
    route: str = ""
    """As the cookie had it: a hint."""
    opening: Opening = Opening.NOTHING
    attributes: Attributes = NO_ATTRIBUTES
    times: Times = Times(0, 0)
    primary: str = ""
    role: Role | None = None
    """What this member is for the session; None when it did not know it."""
    reign: int = 1
    unsettled: int = 0
    """Number of the change that was read here and is not acknowledged yet; 0: none."""
    protected: bool = False


NO_SESSION = Opened()


class Remembered(Struct, frozen=True):
    """What a cookie opened, with everything that it follows from: where these are the same objects, it is the same."""

    claim: Claim
    reading: Reading
    settings: Settings
    opened: Opened

    def __repr__(self) -> str:
        """Nothing of a session: a World with all of these may be a local variable in a traceback that is logged."""
        return "<Remembered>"

    def __rich_repr__(self) -> list[tuple[str, str]]:
        return []


class Visit(Struct, eq=False):
    """One request's dealings with its session. (Of a Struct because that makes one in half of the time.)"""

    cookie: str
    """As the browser sent it; "" if it sent none."""
    opened: Opened | None = None
    """None until somebody looked."""
    found_accessed_ms: int = 0
    """When the session was last used before, as far as that is recorded."""
    draft: Draft = field(default_factory=Draft)
    read_only: bool = False
    """Its path is one of ``read_only_paths``: it changes no attribute and records no access."""
    tells: Callable[[Opened], object] | None = None
    """Who is told what was opened."""
    began_s: float = 0.0
    """When the request began, on the clock that times are taken with; 0 once it was counted as one that used it."""

    # What the request wants.
    ends: Opened | None = None
    """The session that it wants to end; what it wrote since then belongs to a new one."""
    rotates: bool = False
    fences: bool = False
    """The old id is to open nothing after the rotation, whoever is logged in."""
    principal: Any = KEEP
    creates: bool = False
    """A session is to exist even without attributes."""
    confirms: bool = False
    """Its cookie may be sent once more: a commit finds out, too, whether its id is still the current one."""
    idle_timeout_ms: int = -1
    """A timeout for this session alone; -1 leaves the one it has."""

    # How it went.
    ended: bool = False
    """The session was ended, or taken over by a login, while the request ran: it writes nothing any more."""
    removed: bool = False
    """This request has ended its session."""
    wrote: bool = False
    """Something was committed."""
    counted: bool = False
    """The statistics know that."""
    dropped: tuple[str, ...] = ()
    """Attributes that it changed although it is ``read_only``; nothing of that was committed."""
    sizes: Mapping[str, int] = NO_SIZES
    """Bytes of each attribute after its last commit; empty if it made none."""

    def __repr__(self) -> str:
        """Neither a cookie nor a value: representations end up in logs and error pages."""
        return f"<Visit, {'not opened yet' if self.opened is None else self.opened.opening.name.lower()}>"

    def __rich_repr__(self) -> list[tuple[str, bool]]:
        return [("opened", self.opened is not None)]

    def found(self, opened: Opened) -> None:
        """Begin to work on what was opened."""
        if self.opened is not None:
            self.draft = Draft()  # at first it is as new
        self.opened = opened
        if self.tells is not None:
            self.tells(opened)
        self.found_accessed_ms = opened.times.accessed_ms
        if opened.opening is not Opening.FENCED:
            self.draft.stored = opened.attributes

    @property
    def exists(self) -> bool:
        """True when there is a session that this request may change."""
        return self.opened is not None and self.opened.opening in (Opening.CURRENT, Opening.GRACE)

    @property
    def renewed_ms(self) -> int:
        """By how much this request has put off the session's end; 0 if it recorded no access."""
        return self.opened.times.accessed_ms - self.found_accessed_ms if self.opened is not None else 0

    @property
    def cookie_now(self) -> str | None:
        """The cookie that the browser should have: None leaves the one it has, "" takes it away."""
        if self.opened is None or self.ended:
            return None
        if self.opened.opening is Opening.CURRENT and self.opened.session_id is not None:
            return cookie_value(self.opened.session_id, self.opened.primary)
        return "" if self.opened.opening is Opening.NOTHING and self.removed else None
