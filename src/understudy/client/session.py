"""Gives an application its session: a mapping that loads itself on first use, and what belongs to a session besides."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeVar

from understudy.client.conversation import Conversation, open_in_place, open_session, transact
from understudy.client.draft import Draft, shown
from understudy.client.visit import KEEP, NO_SESSION, Opened, Visit, World
from understudy.model import values
from understudy.model.commit import Opening
from understudy.model.entry import PRINCIPAL

_Result = TypeVar("_Result")
_Typed = TypeVar("_Typed")


class Runs(Protocol):
    """Who carries a session's conversations out: the client."""

    @property
    def world(self) -> World: ...

    def run(self, conversation: Conversation[_Result]) -> _Result: ...

    async def arun(self, conversation: Conversation[_Result]) -> _Result: ...


class Session(MutableMapping[str, Any]):
    """The session of one request.

    Values are decoded when they are touched, and compared when the request ends: a change inside a list or dict is
    noticed, and a request that changed nothing writes nothing. Each attribute is set or deleted by itself, so that
    requests which change different attributes never undo each other.

    Raises, at any use: SessionUnavailable while nobody who holds the session answers (an adapter makes it a 503).
    Cost: the first use is one look-up in shared memory where the session's primary is here, else one round trip.
    """

    __slots__ = ("_failure", "_runs", "accessed", "visit")

    def __init__(self, visit: Visit, runs: Runs) -> None:
        self.visit = visit
        """What this request found and did; adapters read it."""
        self.accessed = False
        """The application has looked at the session."""
        self._runs = runs
        self._failure: Exception | None = None

    # --- the mapping -------------------------------------------------------------------------------------------------

    def __getitem__(self, name: str) -> Any:
        """Raises: KeyError; ValueUndecodable if this attribute (no other) cannot be decoded."""
        return self._ready().draft.get(name)

    def __setitem__(self, name: str, value: Any) -> None:
        """Raises: ValueNotSupported, naming the attribute, the place inside it and the type."""
        self._ready().draft.set(name, value)

    def __delitem__(self, name: str) -> None:
        self._ready().draft.delete(name)

    def __contains__(self, name: object) -> bool:
        return name in self._ready().draft

    def __iter__(self) -> Iterator[str]:
        return iter(self._ready().draft)

    def __len__(self) -> int:
        return len(self._ready().draft)

    def clear(self) -> None:
        """Delete every attribute; the session goes on. (Where a framework's idiom is so, its adapter's logs out.)"""
        self._ready().draft.clear()

    def __repr__(self) -> str:
        """Neither an id nor a value: representations end up in logs and error pages."""
        opened = self.visit.opened
        return f"<Session, {'not used yet' if opened is None else self.role}>"

    # --- what it is --------------------------------------------------------------------------------------------------

    @property
    def id(self) -> str | None:
        """The id, or None before a new session is committed. Whoever knows it can open the session: log it nowhere."""
        opened = self._ready().opened
        return opened.session_id.text if opened is not None and opened.session_id and self.visit.exists else None

    @property
    def is_new(self) -> bool:
        """True until the session is committed for the first time."""
        return not self._ready().exists

    @property
    def created(self) -> datetime:
        """When the session began, aware, by this machine's wall clock."""
        opened = self._ready().opened
        now = datetime.now(UTC)
        if opened is None or not self.visit.exists:
            return now
        return now - timedelta(milliseconds=self._runs.world.store.now_ms() - opened.times.created_ms)

    @property
    def role(self) -> str:
        """What this member is for the session: "primary", "backup" or "proxy"; "new" before it is committed."""
        opened = self._ready().opened
        if opened is None or not self.visit.exists:
            return "new"
        return opened.role.name.lower() if opened.role is not None else "proxy"

    @property
    def primary(self) -> str:
        """Name of the member that is the session's primary, "" before it is committed."""
        opened = self._ready().opened
        return opened.primary if opened is not None and self.visit.exists else ""

    @property
    def protected(self) -> bool:
        """True when a second machine has everything that this request has seen and committed."""
        opened = self._ready().opened
        return opened is not None and opened.protected

    @property
    def ended(self) -> bool:
        """True when the session was ended while this request ran: nothing of it was written."""
        return self.visit.ended

    @property
    def principal(self) -> Any:
        """Who is logged in, as said to ``rotate``; None if nobody is."""
        visit = self._ready()
        if visit.principal is not KEEP:
            return visit.principal
        siblings = visit.opened.attributes.get(PRINCIPAL) if visit.exists and visit.opened is not None else None
        return values.decode(shown(siblings).value, attribute="principal") if siblings else None

    @property
    def modified(self) -> bool:
        """True if this request has changed the session. Cost: one encoding for each mutable value it has touched."""
        visit = self.visit
        return visit.wrote or visit.rotates or visit.ends is not None or not visit.draft.changes().empty

    # --- what can be done with it ------------------------------------------------------------------------------------

    def rotate(self, *, principal: Any = KEEP, grace: bool = True) -> None:
        """Give the session a new id, at the latest when the response leaves; do it at each login.

        Args:
            principal: who is logged in from now on (any value that an attribute may have), None for nobody. Unless it
                stays the same, the old id opens nothing any more; otherwise it does so for ``rotation_grace``.
            grace: False if the old id is to open nothing any more in any case.

        Raises: ValueNotSupported for a principal that cannot be stored.
        """
        visit = self._ready()
        if principal is not KEEP:
            if principal is not None:
                values.encode(principal, attribute="principal")
            visit.principal = principal
        visit.rotates, visit.fences = True, visit.fences or not grace

    def invalidate(self) -> None:
        """End the session for everybody: requests that began before can write nothing into it any more.

        What this request writes afterwards begins a new session with a new id.
        """
        visit = self._ready()
        assert visit.opened is not None
        if visit.exists:
            visit.ends = visit.opened
        visit.rotates, visit.fences, visit.principal, visit.creates = False, False, KEEP, False
        visit.found(visit.opened if visit.opened.opening is Opening.FENCED else NO_SESSION)

    def transact(self, change: Callable[[Session], _Result]) -> _Result:
        """Read, modify and write as one: ``change(session)`` runs on the session as it is now, and again if another
        request has changed meanwhile what it read. It is committed when this returns; so counters are exact.

        ``change`` may run several times: it should do nothing but work on the session. Under asyncio use ``atransact``.
        Raises: SessionConflict after too many tries; SessionEnded.
        Cost: one commit for each try.
        """
        return self._runs.run(transact(self._runs.world, self._ready(), lambda: change(self)))

    async def atransact(self, change: Callable[[Session], _Result]) -> _Result:
        """``transact`` for asyncio; ``change`` is an ordinary function."""
        return await self._runs.arun(transact(self._runs.world, self._ready(), lambda: change(self)))

    def as_type(self, type_: type[_Typed]) -> _Typed:
        """The session as a dataclass, TypedDict, msgspec Struct or pydantic model; changes in it are the session's.

        Attributes and inner fields that the type does not know stay as they are. Raises: ValueUndecodable.
        """
        return self._ready().draft.as_type(type_)

    def concurrent(self, name: str) -> list[Any]:
        """All values of the attribute that were written on both sides of a partition, the shown one first.

        Raises: KeyError. They stay side by side until the attribute is assigned or deleted.
        """
        return self._ready().draft.concurrent(name)

    # --- for adapters ------------------------------------------------------------------------------------------------

    @property
    def loaded(self) -> bool:
        return self.visit.opened is not None

    def mark_accessed(self) -> None:
        """Called by Starlette when an application asks for its session."""
        self.accessed = True

    async def preload(self) -> None:
        """Look now, without holding up the loop; a failure is kept for whoever uses the session."""
        try:
            if self.glimpse() is None:
                self.visit.found(await self._runs.arun(open_session(self._runs.world, self.visit.cookie)))
        except Exception as error:
            self._failure = error

    def glimpse(self) -> Opened | None:
        """What the cookie opens, if that can be told without asking anybody; it is no use of the session."""
        visit = self.visit
        if visit.opened is None:
            opened = open_in_place(self._runs.world, visit.cookie)
            if opened is not None:
                visit.found(opened)
        return visit.opened

    def forget_changes(self) -> None:
        """Take back what the request has changed, but for a logout."""
        visit = self.visit
        visit.draft = Draft(visit.draft.stored)
        visit.rotates, visit.fences, visit.principal, visit.creates = False, False, KEEP, False

    async def replace(self, cookie: str) -> None:
        """End the session that the browser's cookie opens; this one, which began without it, takes its place.

        Both are done by the commit. Raises: SessionUnavailable.
        """
        visit = self._ready()
        opened = await self._runs.arun(open_session(self._runs.world, cookie))
        visit.cookie = cookie
        if opened.opening in (Opening.CURRENT, Opening.GRACE):
            visit.ends = opened

    def _ready(self) -> Visit:
        self.accessed = True
        visit = self.visit
        if visit.opened is None:
            if self._failure is not None:
                raise self._failure
            if self.glimpse() is None:
                visit.found(self._runs.run(open_session(self._runs.world, visit.cookie)))
        return visit
