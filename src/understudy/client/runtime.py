"""Gives an adapter its client: begins and finishes the sessions of requests. Nothing is opened before the first one."""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Callable, MutableMapping
from functools import partial
from typing import Any, Protocol, TypeVar

from understudy import limits
from understudy.client import drivers
from understudy.client.conversation import Answer, Ask, Conversation, commit
from understudy.client.member import member_of
from understudy.client.session import Session
from understudy.client.sizes import largest
from understudy.client.statistics import Statistics
from understudy.client.visit import Opened, Settings, Views, Visit, World
from understudy.config import Config
from understudy.errors import AgentUnavailable, SessionUnavailable, StoreFull
from understudy.model.commit import Outcome
from understudy.model.entry import Role
from understudy.model.ids import Keys
from understudy.protocol.worker_messages import AcknowledgeMode

_Result = TypeVar("_Result")
_LOG = logging.getLogger("understudy")

REFUSALS = (SessionUnavailable, AgentUnavailable, StoreFull)
"""What an adapter answers with 503 and ``Retry-After``, leaving the cookie alone."""
SHOWN_MAX = 5
"""Names in a line of the log."""
RETRY_AFTER_S = SessionUnavailable.retry_after_s
REFUSAL_TEXT = "The session cannot be reached just now. Please try again in a moment.\n"
"""What that answer says: plain text, and nothing of what the application wanted to say."""


class Access(Protocol):
    """A process's way to its member: ``client.member.Member``, or one of ``understudy.testing``."""

    name: str
    keys: Keys

    @property
    def store(self) -> Views: ...

    def lease_until_ms(self, peer: str) -> int: ...

    def ask(self, asked: Ask) -> Answer: ...

    async def aask(self, asked: Ask) -> Answer: ...

    def status(self) -> dict[str, Any] | None:
        """What the agent tells of the cluster; None without an agent."""


class Client:
    """One application's sessions in one process."""

    def __init__(self, config: Config, member: Access) -> None:
        self.config = config
        self.member = member
        self.pid = os.getpid()
        self.world = World(
            store=member.store,
            lease_until_ms=member.lease_until_ms,
            keys=member.keys,
            settings=settings_of(config),
            random_bytes=os.urandom,
        )
        self.statistics = Statistics()
        self._read_only = re.compile(config.read_only_paths) if config.read_only_paths else None
        self._warns_large_ms = 0

    def begin(
        self, cookie: str, request: MutableMapping[str, Any] | None = None, *, path: str | None = None
    ) -> Session:
        """The session of a request that came with this cookie; loaded when it is first used. Cost: about 1 µs.

        Args:
            request: its WSGI environ, ASGI scope or other mapping for attributes, where ``primary_indicator`` is put.
                None: it is no request, and is not counted as one.
            path: for ``read_only_paths``; None: as the environ or scope has it.
        """
        visit = Visit(cookie)
        if request is not None:
            if self._read_only is not None:
                visit.read_only = self.is_read_only(path if path is not None else _path_of(request))
            if self.config.primary_indicator:
                visit.tells = partial(self._indicate, request)
            self.statistics.begun(visit)
        return Session(visit, self)

    def is_read_only(self, path: str) -> bool:
        """True for a path that ``read_only_paths`` names."""
        return self._read_only is not None and self._read_only.fullmatch(path) is not None

    def finish(self, session: Session, *, late: bool = False) -> None:
        """Commit what the request changed, before its response leaves; ``late``: it has left already.

        Raises: as ``conversation.commit``.
        """
        if session.accessed and session.loaded:
            _warn_if_too_late(session, late)
            self.run(self.committing(session, late=late))

    async def afinish(self, session: Session, *, late: bool = False) -> None:
        """The same in an event loop."""
        if session.accessed and session.loaded:
            _warn_if_too_late(session, late)
            await self.arun(self.committing(session, late=late))

    def committing(self, session: Session, *, late: bool = False) -> Conversation[Outcome | None]:
        """``conversation.commit``, counted, and with what the log should have of it."""
        began_s, failed = time.perf_counter(), True
        try:
            outcome = yield from commit(self.world, session.visit, late=late)
            failed = False
        finally:
            self.statistics.finished(session, began_s, failed=failed)
        if session.visit.dropped or session.visit.sizes:
            self._maybe_warn(session.visit)
        return outcome

    def run(self, conversation: Conversation[_Result]) -> _Result:
        return drivers.run(conversation, self.member.ask)

    async def arun(self, conversation: Conversation[_Result]) -> _Result:
        return await drivers.arun(conversation, self.member.aask)

    def _indicate(self, attributes: MutableMapping[str, Any], opened: Opened) -> None:
        """Tell, in an attribute of the request, whether this member is the primary of the session that it opened."""
        if opened.session_id is not None:
            attributes[self.config.primary_indicator or ""] = opened.role is Role.PRIMARY

    def _maybe_warn(self, visit: Visit) -> None:
        if visit.dropped:
            _LOG.warning(
                "a request changed its session under a path of read_only_paths, which was not committed; the"
                " attributes: %s",
                ", ".join(map(repr, visit.dropped[:SHOWN_MAX])),
            )
            visit.dropped = ()
        total, most = sum(visit.sizes.values()), self.config.session_bytes_max
        if total * 100 < most * limits.SESSION_BYTES_WARN_PERCENT:
            return
        now_ms = self.member.store.now_ms()
        if now_ms >= self._warns_large_ms:
            self._warns_large_ms = now_ms + limits.SESSION_BYTES_WARN_EVERY_MS
            _LOG.warning(
                "a session has %d bytes; above %d (session_bytes_max) it is refused. Its largest, in bytes: %s",
                total,
                most,
                largest(visit.sizes),
            )


stand_in: Callable[[Runtime], Client] | None = None
"""What gives clients instead of this process's member: ``understudy.testing`` sets it, nothing else does."""


class Runtime:
    """Makes the client at the first request of each process: importing an application starts nothing."""

    def __init__(self, config: Callable[[], Config]) -> None:
        """``config``: called at the first request of each process, and after ``reset``. Raises: ConfigurationError."""
        self.config = config
        self.generation = object()
        """Another one whenever the configuration is to be read anew."""
        self._client: Client | None = None
        self._client_of = self.generation
        self._lock = threading.Lock()
        self._pid = os.getpid()

    def client(self) -> Client:
        """This process's client. Raises: ConfigurationError, DirectoryError. Cost: well below 1 µs after the first."""
        if stand_in is not None:
            return stand_in(self)
        client = self._client
        if client is not None and client.pid == os.getpid() and self._client_of is self.generation:
            return client
        if self._pid != os.getpid():
            self._pid, self._lock = os.getpid(), threading.Lock()
        with self._lock:
            client = self._client
            if client is None or client.pid != os.getpid() or self._client_of is not self.generation:
                generation = self.generation  # before it is read: what changes meanwhile is read again
                config = self.config()
                made = Client(config, member_of(config))
                if client is not None and client.pid == made.pid:
                    made.statistics = client.statistics
                client, self._client, self._client_of = made, made, generation
            return client

    def reset(self) -> None:
        """Read the configuration anew when the client is next asked for: a framework's settings have changed."""
        self.generation = object()


def _path_of(request: MutableMapping[str, Any]) -> str:
    """The whole path, also below the place where the application is mounted."""
    path = request.get("path")
    return str(path if path is not None else f"{request.get('SCRIPT_NAME', '')}{request.get('PATH_INFO', '')}")


def settings_of(config: Config) -> Settings:
    """What conversations need of the configuration."""
    return Settings(
        member=config.member,
        application=config.application,
        idle_timeout_ms=config.idle_timeout_ms,
        absolute_timeout_ms=config.absolute_timeout_ms or 0,
        acknowledge=AcknowledgeMode[config.acknowledge.upper()],
        unprotected_refused=config.unprotected == "refuse",
        grace_ms=config.rotation_grace_ms,
        touch_every_ms=config.touch_every_ms,
        session_bytes_max=config.session_bytes_max,
        attribute_filter=re.compile(config.attribute_filter) if config.attribute_filter else None,
        copies=config.copies,
    )


def _warn_if_too_late(session: Session, late: bool) -> None:
    visit = session.visit
    if late and not visit.ended and (visit.rotates or (not visit.exists and not visit.draft.changes().empty)):
        _LOG.warning(
            "a session was begun or rotated when no cookie could be sent any more (the response had begun, or its place"
            " was taken by the server's answer to an error): that was not committed; use the session before the first"
            " byte of the response"
        )
