"""Gives crowds of worker processes on one member, each with a session of its own, at a pace or computing meanwhile.

They are forked here and ended by the closing of a pipe, also when whoever made them is killed.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections.abc import Iterator

from understudy.client.runtime import Client, Runtime
from understudy.config import Config

PACE_S = 0.1
"""Between two requests of a worker: a visitor thinks, and 64 workers are no more than the machine can bear."""
WRITES_EVERY = 5
"""One request of so many writes."""
FILLER = "x" * 900


@contextlib.contextmanager
def crowd(count: int, config: Config | None, computing: int = 0) -> Iterator[list[int]]:
    """So many workers, the first ``computing`` of which compute all the while; gives their process ids.

    ``config`` None: strangers, which compute or sleep and have no sessions.
    """
    ends, end = os.pipe()
    started, told = os.pipe()
    pids = []
    for number in range(count):
        pid = os.fork()
        if pid == 0:
            try:
                os.close(end)
                _live(config, number < computing, told, number)
                os.read(ends, 1)
            finally:
                os._exit(0)
        pids.append(pid)
    os.close(ends)
    try:
        for _ in range(count):
            os.read(started, 1)
        yield pids
    finally:
        os.close(end)
        for pid in pids:
            os.waitpid(pid, 0)
        os.close(started)
        os.close(told)


def _live(config: Config | None, computes: bool, told: int, seed: int) -> None:
    if computes:
        threading.Thread(target=_compute, daemon=True).start()
    if config is not None:
        client = Runtime(lambda: config).client()
        cookie = begin(client)
        threading.Thread(target=_serve, args=(client, cookie, random.Random(seed)), daemon=True).start()
    os.write(told, b"x")


def _compute() -> None:
    value = 0
    while True:
        value = (value * 31 + 7) % 1_000_003


def _serve(client: Client, cookie: str, chance: random.Random) -> None:
    number = 0
    while True:
        time.sleep(chance.uniform(0.5, 1.5) * PACE_S)
        number += 1
        if number % WRITES_EVERY:
            read(client, cookie)
        else:
            write(client, cookie)


def begin(client: Client) -> str:
    """A new session of about 1 kB; its cookie."""
    session = client.begin("")
    session.update(user="anna@example.org", cart=FILLER, number=0)
    client.finish(session)
    return session.visit.cookie_now or ""


def read(client: Client, cookie: str) -> None:
    session = client.begin(cookie)
    assert session["user"]
    client.finish(session)


def write(client: Client, cookie: str) -> None:
    session = client.begin(cookie)
    session["number"] += 1
    client.finish(session)
