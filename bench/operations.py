"""Gives the operations that are measured: a worker's requests with Understudy, and redis-py's calls beside them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import msgspec
import redis

from started import has_lease
from understudy.client.runtime import Client

SESSIONS = 16
"""Of each size; operations go round among them."""
SETTLE_S_MAX = 10.0
SETTLE_POLL_S = 0.001
WAIT_MS = 2_000
"""For the replica; as long as Understudy's ``commit_timeout``."""
USER = "anna@example.org"
GET, SET, SET_WAIT, PIPELINE = "redis GET", "redis SET", "redis SET + WAIT 1", "redis SET, WAIT 1 in a pipeline"
CLEAN_READ, PROTECTED, PROXY_READ = "clean read", 'write, "backup"', "read on a proxy"
FIRST_READ = "clean read, a new browser's first"

perf_ns = time.perf_counter_ns


class Failed(Exception):
    """An answer was not what it must be, so that its time means nothing."""


class Notes:
    """What a reader must know beside the times."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """What came before is not part of the run."""
        self.reads = 0
        self.reads_without_lease = 0
        self.unprotected = 0
        self.unreplicated = 0
        self.settled_ns: dict[tuple[int, str], list[int]] = {}
        """Operation -> time until the last of a round's writes was on both machines, for each write of the round."""


class Operation(NamedTuple):
    """One kind of request: ``run`` gives its time in ns, None for one that did not do what its name says."""

    name: str
    run: Callable[[], int | None]
    settle: Callable[[], None]
    """Waits, outside of the measurement, for what the operation has left to others."""
    beside: str = ""


class Ours:
    """Sessions of one size on a member whose agent has a peer, as a worker uses them."""

    def __init__(self, clients: Mapping[str, Client], size_bytes: int, notes: Notes) -> None:
        self._clients = clients
        self._notes = notes
        self._filler = filler(size_bytes)
        self._number = 0
        self._cookies: list[str] = []
        self._written: list[str] = []
        for _ in range(SESSIONS):
            session = clients["backup"].begin("")
            value = self._next_value()
            session.update(user=USER, cart=value)
            clients["backup"].finish(session)
            cookie = session.visit.cookie_now
            if not session.protected or not cookie:
                raise Failed("a new session has no copy on the second member")
            self._cookies.append(cookie)
            self._written.append(value)

    def operations(self) -> list[Operation]:
        return [
            Operation(CLEAN_READ, self._read, self.settle, GET),
            Operation("clean read, whole request", self._read_whole, self.settle, GET),
            *(
                Operation(f'write, "{mode}"', partial(self.write, mode), self.settle, beside)
                for mode, beside in (("none", SET), ("local", SET), ("backup", SET_WAIT))
            ),
        ]

    def settle(self) -> None:
        """Until every session is as it was last written, and all of it is on the second member too."""
        deadline_s = time.monotonic() + SETTLE_S_MAX
        for cookie, value in zip(self._cookies, self._written, strict=True):
            while not self._is_settled(cookie, value):
                if time.monotonic() > deadline_s:
                    raise Failed(f"a write was not on both members after {SETTLE_S_MAX:.0f} s")
                time.sleep(SETTLE_POLL_S)

    def _is_settled(self, cookie: str, value: str) -> bool:
        session = self._clients["backup"].begin(cookie)
        return session["cart"] == value and session.visit.opened is not None and not session.visit.opened.unsettled

    def _read(self) -> int:
        """From the cookie to the first attribute."""
        client, cookie = self._about_to_read()
        began_ns = perf_ns()
        session = client.begin(cookie)
        user = session["user"]
        took_ns = perf_ns() - began_ns
        client.finish(session)
        return self._checked_read(user, took_ns)

    def _read_whole(self) -> int:
        """The same, and the look for changes at the request's end."""
        client, cookie = self._about_to_read()
        began_ns = perf_ns()
        session = client.begin(cookie)
        user = session["user"]
        client.finish(session)
        return self._checked_read(user, perf_ns() - began_ns)

    def write(self, mode: str) -> int | None:
        """From the cookie to the moment at which the response may leave."""
        client = self._clients[mode]
        at = self._next()
        cookie, value = self._cookies[at], self._next_value()
        began_ns = perf_ns()
        session = client.begin(cookie)
        session["cart"] = value
        client.finish(session)
        took_ns = perf_ns() - began_ns
        self._written[at] = value
        if mode == "backup" and not session.protected:
            self._notes.unprotected += 1
            return None
        return took_ns

    def _about_to_read(self) -> tuple[Client, str]:
        client = self._clients["backup"]
        self._notes.reads += 1
        self._notes.reads_without_lease += not has_lease(client)
        return client, self._cookies[self._next()]

    def _checked_read(self, user: object, took_ns: int) -> int:
        if user != USER:
            raise Failed("a read gave another user")
        return took_ns

    def _next(self) -> int:
        self._number += 1
        return self._number % SESSIONS

    def _next_value(self) -> str:
        """Another value each time, of one size: an equal one would be no change and not be written."""
        self._number += 1
        return f"{self._number:08d}{self._filler[8:]}"


class Theirs:
    """Values of one size in redis, each a whole session as a session library would set it."""

    def __init__(self, client: redis.Redis, size_bytes: int, notes: Notes) -> None:
        self._client = client
        self._notes = notes
        self._size_bytes = size_bytes
        self._number = 0
        self._filler = filler(size_bytes)
        for at in range(SESSIONS):
            client.set(self._key(at), self._next_value())
        self.settle()

    def operations(self) -> list[Operation]:
        runs = {
            GET: self._get,
            SET: self._set,
            SET_WAIT: self._set_wait,
            PIPELINE: self._pipeline,
        }
        return [Operation(name, run, self.settle) for name, run in runs.items()]

    def settle(self) -> None:
        if self._client.wait(1, int(SETTLE_S_MAX * 1000)) != 1:
            raise Failed(f"redis' replica was not up to date after {SETTLE_S_MAX:.0f} s")

    def _get(self) -> int:
        key = self._next_key()
        began_ns = perf_ns()
        value = self._client.get(key)
        took_ns = perf_ns() - began_ns
        if value is None or len(value) != self._size_bytes:
            raise Failed("redis GET gave another value")
        return took_ns

    def _set(self) -> int:
        key, value = self._next_key(), self._next_value()
        began_ns = perf_ns()
        self._client.set(key, value)
        return perf_ns() - began_ns

    def _set_wait(self) -> int | None:
        key, value = self._next_key(), self._next_value()
        began_ns = perf_ns()
        self._client.set(key, value)
        replicas = self._client.wait(1, WAIT_MS)
        return self._checked_wait(replicas, perf_ns() - began_ns)

    def _pipeline(self) -> int | None:
        key, value = self._next_key(), self._next_value()
        began_ns = perf_ns()
        pipeline = self._client.pipeline(transaction=False)
        pipeline.set(key, value)
        pipeline.wait(1, WAIT_MS)
        _, replicas = pipeline.execute()
        return self._checked_wait(replicas, perf_ns() - began_ns)

    def _checked_wait(self, replicas: object, took_ns: int) -> int | None:
        if replicas == 1:
            return took_ns
        self._notes.unreplicated += 1
        return None

    def _next_key(self) -> str:
        self._number += 1
        return self._key(self._number % SESSIONS)

    def _key(self, at: int) -> str:
        return f"session:{self._size_bytes}:{at:032d}"

    def _next_value(self) -> bytes:
        self._number += 1
        return _encoded(f"{self._number:08d}{self._filler[8:]}")


def _encoded(cart: str) -> bytes:
    """The session as one value, as a session library would give it to redis; making it is not measured."""
    return msgspec.msgpack.encode({"user": USER, "cart": cart})


def filler(size_bytes: int) -> str:
    """A cart with which a session has the wanted size."""
    beside_bytes = len(_encoded("x" * size_bytes)) - size_bytes
    return "x" * (size_bytes - beside_bytes)
