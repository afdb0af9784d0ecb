"""Gives the operations that need more than a session at hand: of a new browser, on a proxy, creating, deleting."""

from __future__ import annotations

import time
from collections.abc import Callable

from operations import FIRST_READ, GET, PROXY_READ, SET_WAIT, USER, Failed, Notes, Operation, filler
from understudy.client.runtime import Client
from understudy.client.session import Session

SESSIONS = 8
NEW = 20
"""Sessions that are begun together, to be read for the first time one after another: a processor that has waited for
an agent just before is slower with anything."""
TRIES_MAX = 200
"""Sessions that are begun elsewhere until enough of them have their copies elsewhere, too: every second one has."""

perf_ns = time.perf_counter_ns


class Elsewhere:
    """Sessions whose primary and backup are other members, used at this one; and sessions that begin and end.

    Args:
        here: a client of the member that is measured, which waits for copies.
        there: a client of another member.
    """

    def __init__(self, here: Client, there: Client, size_bytes: int, notes: Notes, settle: Callable[[], None]) -> None:
        self._here = here
        self._notes = notes
        self._settle = settle
        self._filler = filler(size_bytes)
        self._number = 0
        self._remote: list[str] = []
        self._made: list[str] = []
        self._new: list[str] = []
        for _ in range(TRIES_MAX):
            cookie = self._begun(there)
            if len(self._remote) < SESSIONS and here.member.name not in self._backups(there, cookie):
                self._remote.append(cookie)
        if len(self._remote) < SESSIONS:
            raise Failed("no session begun at another member has its copy at a third one")

    def operations(self) -> list[Operation]:
        return [
            Operation(FIRST_READ, self._read_first, self._end_made, GET),
            Operation(PROXY_READ, self._read, self._settle, GET),
            Operation("write on a proxy", self._write, self._settle, SET_WAIT),
            Operation("create", self._create, self._end_made, SET_WAIT),
            Operation("delete", self._delete, self._settle, SET_WAIT),
        ]

    def _read_first(self) -> int:
        """A clean read of a browser whose cookie and entry this worker has not seen yet."""
        if not self._new:
            self._new = [self._begun(self._here) for _ in range(NEW)]
        cookie = self._new.pop()
        self._made.append(cookie)
        began_ns = perf_ns()
        session = self._here.begin(cookie)
        user = session["user"]
        took_ns = perf_ns() - began_ns
        self._here.finish(session)
        if user != USER or session.role != "primary":
            raise Failed(f"a new browser's read gave {user!r}, at a {session.role}")
        return took_ns

    def _read(self) -> int:
        cookie = self._next()
        began_ns = perf_ns()
        session = self._here.begin(cookie)
        user = session["user"]
        self._here.finish(session)
        took_ns = perf_ns() - began_ns
        if user != USER or session.role != "proxy":
            raise Failed(f"a read on a proxy gave {user!r}, at a {session.role}")
        return took_ns

    def _write(self) -> int | None:
        cookie, value = self._next(), self._value()
        began_ns = perf_ns()
        session = self._here.begin(cookie)
        session["cart"] = value
        self._here.finish(session)
        return self._checked(session, perf_ns() - began_ns)

    def _create(self) -> int | None:
        value = self._value()
        began_ns = perf_ns()
        session = self._here.begin("")
        session.update(user=USER, cart=value)
        self._here.finish(session)
        took_ns = perf_ns() - began_ns
        self._made.append(session.visit.cookie_now or "")
        return self._checked(session, took_ns)

    def _delete(self) -> int:
        cookie = self._begun(self._here)
        began_ns = perf_ns()
        session = self._here.begin(cookie)
        session.invalidate()
        self._here.finish(session)
        return perf_ns() - began_ns

    def _end_made(self) -> None:
        """What was created is not wanted any more."""
        while self._made:
            session = self._here.begin(self._made.pop())
            session.invalidate()
            self._here.finish(session)
        self._settle()

    def _begun(self, client: Client) -> str:
        session = client.begin("")
        session.update(user=USER, cart=self._value())
        client.finish(session)
        return session.visit.cookie_now or ""

    def _backups(self, client: Client, cookie: str) -> tuple[str, ...]:
        session = client.begin(cookie)
        assert session["user"] == USER and session.visit.opened is not None
        entry = client.member.store.read(session.visit.opened.key).entry
        return entry.backups if entry is not None else ()

    def _checked(self, session: Session, took_ns: int) -> int | None:
        if session.protected:
            return took_ns
        self._notes.unprotected += 1
        return None

    def _next(self) -> str:
        self._number += 1
        return self._remote[self._number % len(self._remote)]

    def _value(self) -> str:
        self._number += 1
        return f"{self._number:08d}{self._filler[8:]}"
