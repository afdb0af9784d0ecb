"""Django's session: ``SessionStore`` with every method of ``SessionBase``, blocking and for asyncio.

Everything that asks the store is written once, as a conversation (``_loading``, ``_saving`` …), which the blocking
method and its ``a`` twin run. The session key is the cookie's text, ``<id>.<route>``: a load corrects its route, and a
key that we did not mint opens nothing and is never adopted.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

import msgspec
from django.conf import settings
from django.contrib.sessions.backends.base import CreateError, SessionBase, UpdateError
from django.contrib.sessions.exceptions import SessionInterrupted

from understudy.client.conversation import Conversation, commit, open_session, transact
from understudy.client.runtime import REFUSALS
from understudy.client.session import Session
from understudy.client.visit import KEEP, NO_SESSION, Visit
from understudy.django.runtime import RUNTIME
from understudy.model.commit import Opening

_Result = TypeVar("_Result")
_Typed = TypeVar("_Typed")

EXPIRY = "_session_expiry"
"""Django's own attribute for what ``set_expiry`` was given."""
USER = "_auth_user_id"
"""That of ``django.contrib.auth`` for who is logged in."""


def _given_by_session(name: str) -> property:
    return property(lambda self: getattr(self.understudy, name), doc=f"See ``Session.{name}``.")


class SessionStore(SessionBase):  # type: ignore[misc]  # Django has no types
    """One request's session; see ``understudy.client.session.Session`` for what Understudy adds to Django's.

    Raises, at any use: SessionUnavailable while nobody who holds the session answers: the user stays logged in.
    Cost: nothing before the first use; then as ``Session``. A login costs two commits, as Django makes two changes.
    """

    def __init__(self, session_key: str | None = None) -> None:
        self._is_marked = False
        self._waived: object = None
        self._has_cookie = bool(session_key)
        self._is_flushed = False
        self.has_grace = False
        """Set by our middleware, which keeps the old cookie of a rotated id from being sent again."""
        self.request: dict[str, Any] | None = None
        """Set by our middleware: the request's ``META``."""
        self.refusal: Exception | None = None
        """Why this request cannot be served now; the middleware makes it a 503."""
        super().__init__(session_key)
        self._session_key: str | None

    # --- Django's methods --------------------------------------------------------------------------------------------

    def load(self) -> Session:
        """The session as it is now; forgets a key that opens nothing."""
        return self._run(self._loading())

    async def aload(self) -> Session:
        return await self._arun(self._loading())

    def exists(self, session_key: str | None) -> bool:
        """True if the key opens a session."""
        return self._run(self._existing(session_key))

    async def aexists(self, session_key: str | None) -> bool:
        return await self._arun(self._existing(session_key))

    def create(self) -> None:
        """Begin another session, with a new key and what this one holds, and store it at once."""
        self._run(self._creating())

    async def acreate(self) -> None:
        await self._arun(self._creating())

    def save(self, must_create: bool = False) -> None:
        """Commit what was changed. Raises: UpdateError if the session was ended meanwhile; CreateError if it exists."""
        self._run(self._saving(must_create))

    async def asave(self, must_create: bool = False) -> None:
        await self._arun(self._saving(must_create))

    def delete(self, session_key: str | None = None) -> None:
        """End the session of that key (or of this one) for everybody, at once and for good."""
        self._run(self._deleting(session_key))

    async def adelete(self, session_key: str | None = None) -> None:
        await self._arun(self._deleting(session_key))

    def cycle_key(self) -> None:
        """Give the same session a new key, at once; the old one opens nothing any more. Raises: SessionInterrupted."""
        self._run(self._cycling())

    async def acycle_key(self) -> None:
        await self._arun(self._cycling())

    def flush(self) -> None:
        """Log out: end the session. What the request writes afterwards begins a new one."""
        self._run(self._flushing())

    async def aflush(self) -> None:
        await self._arun(self._flushing())

    def clear(self) -> None:
        """Remove everything from the session, which goes on."""
        self._session.clear()
        self.modified = True

    @classmethod
    def clear_expired(cls) -> None:
        """Nothing to do: each session's primary removes it when its time is over."""

    @classmethod
    async def aclear_expired(cls) -> None:
        """As ``clear_expired``."""

    def get_session_cookie_age(self) -> int:
        """Seconds that a session lives when nothing else is said; an application may override it."""
        return RUNTIME.client().config.idle_timeout_ms // 1000

    def is_empty(self) -> bool:
        """True if there is no session, and so no cookie is wanted.

        Not for a cookie that opens nothing any more: the browser may have been given a newer one meanwhile, which
        Django's middleware would take away with it. This request only may do that if it has logged out or written.
        """
        if self.session_key or self.__dict__.get("_session_cache"):
            return False
        return not self._has_cookie or self._is_flushed or self.modified or settings.SESSION_SAVE_EVERY_REQUEST

    @property
    def modified(self) -> bool:
        """True if anything was changed, also inside a value, since the session was loaded or this was set to False."""
        return self._is_marked or self._pending() != self._waived

    @modified.setter
    def modified(self, value: bool) -> None:
        self._is_marked = value
        self._waived = None if value else self._pending()

    # --- Understudy's ------------------------------------------------------------------------------------------------

    @property
    def understudy(self) -> Session:
        """The session as all of Understudy's adapters have it."""
        session: Session = self._session
        return session

    is_new = _given_by_session("is_new")
    created = _given_by_session("created")
    role = _given_by_session("role")
    protected = _given_by_session("protected")
    principal = _given_by_session("principal")

    def rotate(self, *, principal: Any = KEEP) -> None:
        """``cycle_key`` that may also say who is logged in from now on; see ``Session.rotate``.

        The old id of a plain renewal has its grace time only under our middleware: Django's would send it once more.
        """
        self._run(self._cycling(principal, grace=self.has_grace))

    async def arotate(self, *, principal: Any = KEEP) -> None:
        await self._arun(self._cycling(principal, grace=self.has_grace))

    def invalidate(self) -> None:
        """``flush``, as it is called elsewhere."""
        self.flush()

    def transact(self, change: Callable[[Session], _Result]) -> _Result:
        """See ``Session.transact``. Committed when it returns; counters are exact."""
        return self._run(self._transacting(change))

    async def atransact(self, change: Callable[[Session], _Result]) -> _Result:
        return await self._arun(self._transacting(change))

    def as_type(self, type_: type[_Typed]) -> _Typed:
        """See ``Session.as_type``."""
        return self.understudy.as_type(type_)

    def concurrent(self, name: str) -> list[Any]:
        """See ``Session.concurrent``."""
        return self.understudy.concurrent(name)

    @property
    def is_current(self) -> bool:
        """False if another request has renewed the id, as far as the last save has seen."""
        opened = self.held.visit.opened if self.held is not None else None
        return opened is None or opened.opening is not Opening.GRACE

    @property
    def has_acted(self) -> bool:
        """True once this request has committed something itself: a login, a logout, a new session, ``transact``."""
        return self._is_flushed or (self.held is not None and self.held.visit.wrote)

    def drop(self) -> None:
        """Take back what was changed under a path that changes no session; the log has what it was."""
        if self.held is not None and self.held.visit.read_only:
            RUNTIME.client().finish(self.held)

    def finish_late(self) -> None:
        """Commit what was changed after the response's first byte, when no cookie can be sent any more."""
        if "_session_cache" in self.__dict__ and self.session_key is not None:
            RUNTIME.client().finish(self._session, late=True)

    # --- conversations -----------------------------------------------------------------------------------------------

    def _opened(self, key: str | None, request: dict[str, Any] | None = None) -> Conversation[Session]:
        """What the key opens. A value whose commit is not acknowledged yet is not shown before it is."""
        client = RUNTIME.client()
        session = client.begin(key or "", request)
        visit = session.visit
        visit.found((yield from open_session(client.world, visit.cookie)))
        if visit.exists:
            expiry = session.get(EXPIRY)
            if expiry and self.get_expiry_age(expiry=expiry) <= 0:
                visit.found(NO_SESSION)
            elif visit.opened is not None and visit.opened.unsettled:
                yield from commit(client.world, visit)
        return session

    def _loading(self) -> Conversation[Session]:
        session = yield from self._opened(self.session_key, self.request)
        visit, key = session.visit, self.session_key
        visit.confirms = self.has_grace
        if visit.opened is NO_SESSION:
            self._session_key = None
        self._keep_key(session)
        # The browser is to have the new route: a session that has moved is looked for where it is.
        self._is_marked |= visit.cookie_now not in (None, key)
        return session

    def _existing(self, key: str | None) -> Conversation[bool]:
        session = yield from self._opened(key)
        return session.visit.exists

    def _still_exists(self, visit: Visit) -> Conversation[bool]:
        """The same of this request's own session; and whether its id is the current one, its visit knows afterwards."""
        opened = (yield from self._opened(self.session_key)).visit.opened
        assert opened is not None and visit.opened is not None
        visit.opened = msgspec.structs.replace(visit.opened, opening=opened.opening)
        return visit.exists

    def _creating(self, principal: Any = KEEP) -> Conversation[None]:
        client = RUNTIME.client()
        held = self.held
        if held is None or held.visit.opened is not NO_SESSION or held.visit.ended:
            self._session_cache = _fresh()
            self._session_cache.update(held or {})
        session: Session = self._session_cache
        session.visit.creates = True
        if principal is not KEEP:
            session.rotate(principal=principal)
        self._expire(session)
        yield from client.committing(session)
        self._keep_key(session)
        self.modified = True

    def _saving(self, must_create: bool) -> Conversation[None]:
        if self.session_key is None:
            yield from self._creating()
            return
        if must_create:
            if (yield from self._existing(self.session_key)):
                raise CreateError
            yield from self._creating()  # under a key of ours: one that somebody chose is never adopted
            return
        session = yield from self._cached()
        self._expire(session)
        outcome = yield from RUNTIME.client().committing(session)
        # Also where nothing was to be written: the cookie would follow, over that of the next login.
        visit = session.visit
        is_over = outcome is None and not visit.ended and not (yield from self._still_exists(visit))
        if is_over or visit.ended:
            raise UpdateError
        self._keep_key(session)
        self._is_marked, self._waived = self._is_marked or outcome is not None, None

    def _deleting(self, key: str | None) -> Conversation[None]:
        session = yield from self._opened(key or self.session_key)
        session.invalidate()
        yield from commit(RUNTIME.client().world, session.visit)

    def _flushing(self) -> Conversation[None]:
        yield from self._deleting(None)
        self._session_cache, self._session_key = _fresh(), None
        self.accessed = self.modified = self._is_flushed = True

    def _cycling(self, principal: Any = KEEP, *, grace: bool = False) -> Conversation[None]:
        session = yield from self._cached()
        visit = session.visit
        assert visit.opened is not None
        # A key that a login has replaced opens nothing, unless the same person is known to log in once more.
        if visit.opened.opening is Opening.NOTHING or (visit.opened.opening is Opening.FENCED and principal is KEEP):
            yield from self._creating(principal)
            return
        self._expire(session)
        session.rotate(principal=principal, grace=grace)
        yield from commit(RUNTIME.client().world, visit)
        if visit.ended and USER in session:
            raise SessionInterrupted("The session was ended, or given a new key, while this request ran.")
        if visit.ended:  # two logins at once: nobody was logged in yet, so each may have a session of its own
            yield from self._creating(principal)
            return
        self._keep_key(session)
        self.modified = True

    def _transacting(self, change: Callable[[Session], _Result]) -> Conversation[_Result]:
        session = yield from self._cached()
        self._expire(session)
        result = yield from transact(RUNTIME.client().world, session.visit, lambda: change(session))
        self._keep_key(session)
        self.modified = True
        return result

    # --- between -----------------------------------------------------------------------------------------------------

    @property
    def held(self) -> Session | None:
        return self.__dict__.get("_session_cache")

    def _cached(self) -> Conversation[Session]:
        """What ``_get_session`` gives."""
        self.accessed = True
        held = self.held
        if held is None:
            held = self._session_cache = (
                _fresh(self.request) if self.session_key is None else (yield from self._loading())
            )
        return held

    def _get_session(self, no_load: bool = False) -> Session:
        return self._run(self._cached())

    async def _aget_session(self, no_load: bool = False) -> Session:
        return await self._arun(self._cached())

    _session = property(_get_session)

    def _keep_key(self, session: Session) -> None:
        """The key is the cookie that the browser should have."""
        cookie = session.visit.cookie_now
        if cookie:
            self._session_key = cookie

    def _expire(self, session: Session) -> None:
        """Let the session live as long as Django says: from its last change on, or until an instant."""
        visit, expiry = session.visit, session.get(EXPIRY)
        age_ms = max(int(self.get_expiry_age(expiry=expiry) * 1000), 1)
        assert visit.opened is not None
        stored_ms = visit.opened.times.idle_timeout_ms if visit.exists else -1
        # Until an instant less is left each time; that alone is no change, as ``_opened`` ends the session in time.
        is_nearer = isinstance(expiry, str | datetime) and age_ms < stored_ms and self._pending() is None
        if age_ms != stored_ms and not is_nearer:
            visit.idle_timeout_ms = age_ms

    def _pending(self) -> object:
        """What is not saved yet, in a form to compare; None if nothing is."""
        held = self.held
        if held is None or held.visit.draft.pristine:
            return None
        changes = held.visit.draft.changes()
        return None if changes.empty and changes.wrong is None else (changes.sets, changes.deletes, str(changes.wrong))

    def _run(self, conversation: Conversation[_Result]) -> _Result:
        try:
            return RUNTIME.client().run(conversation)
        except REFUSALS as error:
            self.refusal = error
            raise

    async def _arun(self, conversation: Conversation[_Result]) -> _Result:
        try:
            return await RUNTIME.client().arun(conversation)
        except REFUSALS as error:
            self.refusal = error
            raise


def _fresh(request: dict[str, Any] | None = None) -> Session:
    """A session that does not exist yet."""
    session = RUNTIME.client().begin("", request)
    session.visit.found(NO_SESSION)
    return session
