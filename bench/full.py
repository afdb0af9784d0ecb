"""Gives what becomes of one store that is filled, expired and filled again, and of an agent that starts over it."""

from __future__ import annotations

import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import redis

from filling import STORE_BYTES_MAX, Filling, proxy_bytes
from section import Claim, Table, table
from started import REDIS_SERVER, Started
from understudy.client.runtime import Runtime
from understudy.model import values
from workers import begin

SESSION_BYTES = 1_000
PROXIES_MAX = 100_000
"""So many are enough to know what one takes. Of few the pages that LMDB holds ready for its next change are a part."""
LOOK_UPS = 5_000
REDIS_KEYS = 20_000


class Step(NamedTuple):
    """What was done, and how the store is afterwards."""

    name: str
    sessions: int
    file_bytes: int
    took_s: float
    look_up_us: float | None
    """Median time to read one of the sessions; None where there are none."""


class Start(NamedTuple):
    """Of an agent over a store."""

    sessions: int
    ready_ms: float
    request_ms: float
    """A worker's first request, which makes a session."""


class Full(NamedTuple):
    """All that happened to one store."""

    steps: list[Step]
    proxy_bytes: float
    """What a file grows by for each proxy entry, LMDB's pages included."""
    starts: list[Start]
    redis_bytes: float | None
    """What redis takes for one session of the same size; None where there is no redis."""

    @property
    def copy_bytes(self) -> float:
        return self.steps[1].file_bytes / self.steps[1].sessions

    @property
    def grown(self) -> float:
        """The file after the last filling, beside the first one."""
        return self.steps[-1].file_bytes / self.steps[1].file_bytes


def full(started: Started, count: int) -> Full:
    """Fills a store with so many sessions, three times, and starts agents over it and over an empty one."""
    filling = Filling(started.directory("full"), STORE_BYTES_MAX, member="full")
    steps = [Step("empty", 0, filling.file_bytes(), 0.0, None)]

    def step(name: str, run: Callable[[], object]) -> None:
        began_s = time.monotonic()
        run()
        took_s = time.monotonic() - began_s
        look_ups_ns = filling.look_ups(LOOK_UPS)
        look_up_us = statistics.median(look_ups_ns) / 1000 if look_ups_ns else None
        steps.append(Step(name, filling.sessions(), filling.file_bytes(), took_s, look_up_us))
        print(f"store: {name}, {took_s:.1f} s", file=sys.stderr)

    fill = partial(filling.fill, count, SESSION_BYTES)
    step("filled", fill)
    for again in ("again", "a third time"):
        step("all expired", filling.expire)
        step(f"filled {again}", fill)
    filling.end()
    starts = [_start(started, "empty", 0), _start(started, "full", count)]
    return Full(steps, proxy_bytes(min(PROXIES_MAX, count)), starts, _redis_bytes(started))


def _start(started: Started, name: str, sessions: int) -> Start:
    began_s = time.monotonic()
    config = started.members((name,), store_bytes_max=str(STORE_BYTES_MAX))
    ready_ms = (time.monotonic() - began_s) * 1000
    client = Runtime(lambda: config).client()
    began_s = time.monotonic()
    begin(client)
    request_ms = (time.monotonic() - began_s) * 1000
    client.member.close()
    started.end(f"agent {name}")
    return Start(sessions, ready_ms, request_ms)


def _redis_bytes(started: Started) -> float | None:
    if shutil.which(REDIS_SERVER) is None:
        return None
    client = redis.Redis("127.0.0.1", started.redis_alone())
    before = client.info("memory")["used_memory"]
    value = values.encode("x" * (SESSION_BYTES - 30), attribute="cart")
    pipeline = client.pipeline(transaction=False)
    for number in range(REDIS_KEYS):
        pipeline.set(f"session:{number:032d}", value, ex=1_800)
    pipeline.execute()
    return (client.info("memory")["used_memory"] - before) / REDIS_KEYS


# --- what it says ----------------------------------------------------------------------------------------------------


def full_prose(count: int) -> tuple[str, ...]:
    return (
        f"*Filling*: {count:,} new sessions of {SESSION_BYTES} bytes by the functions of the agent, 64 a transaction;"
        " all of them expire; then twice more. Bytes are those of the file on the disk, all of LMDB's pages included. A"
        " look-up reads one of the sessions, chosen at random, in the store.",
        "*Start*: an agent's process from its start to ready, over an empty store and over the one that was filled.",
    )


def full_tables(found: Full) -> Iterable[Table]:
    yield table(
        "Filled, expired, filled again",
        ("", "sessions", "file, MB", "bytes each", "s", "sessions/s", "a look-up, µs"),
        [
            (step.name, step.sessions, step.file_bytes / 1e6,
             step.file_bytes / step.sessions if step.sessions else None, step.took_s,
             found.steps[1].sessions / step.took_s if step.took_s else None, step.look_up_us)
            for step in found.steps
        ],
    )  # fmt: skip
    yield table(
        f"Bytes for one session of {SESSION_BYTES} bytes",
        ("a copy (LMDB, pages and indexes)", "a proxy entry", "a key in redis, with its time to live"),
        [(found.copy_bytes, found.proxy_bytes, found.redis_bytes)],
    )
    yield table(
        "Start of an agent",
        ("sessions in its store", "ms to ready", "ms of a worker's first request"),
        [(f"{start.sessions:,}", start.ready_ms, start.request_ms) for start in found.starts],
    )


def full_claims(found: Full) -> Iterable[Claim]:
    yield Claim(f"a copy of a session of {SESSION_BYTES} bytes, pages included", found.copy_bytes, 2_200, "bytes",
                target="memory")  # fmt: skip
    yield Claim("a proxy entry, pages included", found.proxy_bytes, 130, "bytes", target="memory")
    yield Claim("the file after filling three times, beside the first time", found.grown, 1.1, "×")
