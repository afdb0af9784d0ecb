"""Measures how long it takes until many sessions have a second copy again, and what requests pay meanwhile.

    python bench/reprotection.py [--sessions N] [--json FILE]

Member a holds all sessions and b a copy of each; c joins; then b is killed (SIGKILL), and a gives every session a new
copy at c. A worker of a serves requests all the while, some of them writes that wait for their copy.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable
from typing import NamedTuple

from filling import Filling
from report import Meter, load, machine, median_us, p99_us, quietness
from section import Claim, Section, add_option, hand_over, shown, table
from started import Started, StartError, wait_for_leases
from understudy.client.runtime import Client, Runtime
from understudy.errors import UnderstudyError
from understudy.store.lmdb import LmdbStore
from workers import begin, read, write

SESSION_BYTES = 1_000
STORE_BYTES_MAX = 2 << 30
FORGET_MS = 86_400_000
PAUSE_S = 0.003
NORMAL_S = 3.0
PROTECTED_S_MAX = 120.0
POLL_S = 0.05
HOLDER, LOST, THIRD = "a", "b", "c"


class Times(NamedTuple):
    """Of requests, in ns."""

    reads: list[int]
    writes: list[int]


class Requests:
    """A worker's requests in a thread, one after another, until told to stop."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._cookies = [begin(client) for _ in range(16)]
        self._times = Times([], [])
        self._ended = threading.Event()
        self.failures: list[str] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def taken(self) -> Times:
        """What was measured since the last call."""
        taken, self._times = self._times, Times([], [])
        return taken

    def end(self) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self._ended.is_set():
            number += 1
            cookie = self._cookies[number % len(self._cookies)]
            operation, kept = (write, 1) if number % 2 else (read, 0)
            times = self._times
            began_ns = time.perf_counter_ns()
            try:
                operation(self._client, cookie)
            except UnderstudyError as error:
                self.failures.append(repr(error))
            times[kept].append(time.perf_counter_ns() - began_ns)
            time.sleep(PAUSE_S)


def main() -> int:
    parser = argparse.ArgumentParser(description="Many sessions lose their second copy, and get another one.")
    parser.add_argument("--sessions", type=int, default=100_000)
    add_option(parser)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    load_before = load()
    try:
        with Started() as started:
            section = _run(started, options.sessions, load_before)
    except (StartError, UnderstudyError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    hand_over(section, options.json)
    return 0


def _run(started: Started, sessions: int, load_before: str) -> Section:
    filling = Filling(started.directory(HOLDER), STORE_BYTES_MAX, member=HOLDER)
    filling.fill(sessions, SESSION_BYTES)
    filling.end()
    print("reprotection: filled", file=sys.stderr)
    join = started.grow((HOLDER, LOST, THIRD), store_bytes_max=str(STORE_BYTES_MAX))
    config = next(join)
    began_s = time.monotonic()
    next(join)
    store = LmdbStore(started.directory(HOLDER), copies=1, forget_ms=FORGET_MS, read_only=True)
    first_s = _until_protected(store, began_s)
    print(f"reprotection: protected for the first time after {first_s:.1f} s", file=sys.stderr)
    next(join)
    client = Runtime(lambda: config).client()
    wait_for_leases(client)
    requests = Requests(client)
    time.sleep(0.5)
    requests.taken()
    time.sleep(NORMAL_S)
    normal = requests.taken()
    meter = Meter()
    lost_s = time.monotonic()
    os.kill(started.pids[f"agent {LOST}"], signal.SIGKILL)
    again_s = _until_protected(store, lost_s, without=LOST)
    meanwhile = requests.taken()
    others = meter.others()
    requests.end()
    run = (*machine(), f"load average: {load_before} before, {load()} after",
           quietness(others),
           f"run: {sessions} sessions of {SESSION_BYTES} bytes, one loss")  # fmt: skip
    return _section(run, sessions, first_s, again_s, normal, meanwhile, len(requests.failures), others)


def _until_protected(store: LmdbStore, since_s: float, without: str = "") -> float:
    """Seconds until no session lacks its copy, nor has it at ``without``; seen in the holder's store, so that nobody
    is asked who has something else to do. Raises: StartError when that takes too long.
    """
    while time.monotonic() < since_s + PROTECTED_S_MAX:
        with store.view() as view:
            lacking = view.keys_lacking(None, 1) or (without and view.keys_of(without, None, 1))
        if not lacking:
            return time.monotonic() - since_s
        time.sleep(POLL_S)
    raise StartError(f"not every session has its copy after {PROTECTED_S_MAX:.0f} s")


def _section(
    run: tuple[str, ...],
    sessions: int,
    first_s: float,
    again_s: float,
    normal: Times,
    meanwhile: Times,
    failures: int,
    others: float,
) -> Section:
    rows = [
        (f"{when}, {what}", len(times), median_us(times), p99_us(times), max(times) / 1000)
        for when, both in (("before", normal), ("meanwhile", meanwhile))
        for what, times in (("read", both.reads), ("write", both.writes))
    ]
    everything = [[*both.reads, *both.writes] for both in (normal, meanwhile)]
    times_normal = p99_us(everything[1]) / p99_us(everything[0])
    return Section(
        "reprotection",
        "Re-protection",
        run,
        (
            f"Member a holds {sessions:,} sessions of {SESSION_BYTES} bytes, b a copy of each. When c has joined, b is"
            " killed (SIGKILL), and every session gets a new copy at c. The time is from the kill until no session"
            " lacks its copy. Sessions without a request are left alone for three seconds, so that a member that comes"
            " back at once causes no moves; that is in the time.",
            "Meanwhile a worker of a serves requests, one each 3 ms, every second one a write that is answered when its"
            f" copy is there. Requests that failed: {failures}.",
        ),
        (
            table(
                "Time until every session has its copy",
                ("", "s", "sessions/s"),
                [
                    ("a member joins one that is alone with them", first_s, sessions / first_s),
                    ("the member that holds all copies is killed", again_s, sessions / again_s),
                ],
            ),
            table("A worker's requests, in µs", ("", "count", "median", "p99", "longest"), rows),
        ),
        (),
        (
            Claim(f"{sessions:,} sessions protected again", again_s, 10.0, "s", target="again"),
            Claim("p99 of requests meanwhile, beside that before", times_normal, 3.0, "×", target="again"),
        ),
        tuple(_worse(sessions, times_normal)),
        others,
    )  # fmt: skip


def _worse(sessions: int, times_normal: float) -> Iterable[str]:
    if times_normal > 1.2:
        yield (
            f"while {sessions:,} sessions are protected again, one request in a hundred takes {shown(times_normal)}"
            " times as long as before"
        )


if __name__ == "__main__":
    sys.exit(main())
