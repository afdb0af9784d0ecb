"""Measures what it adds when a request comes to another member than the last one, in clusters of 3 to 9 members.

    python bench/hops.py [--members 3 5 7 9] [--rounds N] [--count N] [--json FILE]

Real agents on loopback, one cluster that grows; a worker of each member in this process. In every round the same
sessions are read and written where their primary is, and at another member each time, in a new order.
"""

from __future__ import annotations

import argparse
import random
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from operations import Failed
from report import Meter, load, machine, p99_us, quietness
from rounds import client_of
from section import Claim, Plot, Section, add_option, hand_over, series, shown, table
from started import Started, StartError, wait_for_leases
from understudy.client.runtime import Client
from understudy.client.session import Session
from understudy.errors import UnderstudyError
from workers import begin

MEMBERS = (3, 5, 7, 9)
SESSIONS = 8
FLAT = 1.25
"""A hop among the most members may take so many times what it takes among the fewest, and still count as flat."""
READ, WRITE = "read", "write"


class Hops(NamedTuple):
    """Of one cluster and one kind of request: times in ns, by round."""

    here: list[list[int]]
    elsewhere: list[list[int]]

    @property
    def added_us(self) -> float:
        """What a hop adds; the median of the rounds, each of one moment of the machine."""
        pairs = zip(self.elsewhere, self.here, strict=True)
        return statistics.median(statistics.median(hop) - statistics.median(own) for hop, own in pairs) / 1000


Measured = dict[tuple[int, str], Hops]
"""(members, kind of request) -> what it took."""


def main() -> int:
    parser = argparse.ArgumentParser(description="A session at another member each time, in growing clusters.")
    parser.add_argument("--members", type=int, nargs="+", default=list(MEMBERS), help="numbers of members (3 5 7 9)")
    parser.add_argument("--rounds", type=int, default=15, help="in each cluster (15)")
    parser.add_argument("--count", type=int, default=60, help="of each kind of request in a round (60)")
    add_option(parser)
    options = parser.parse_args()
    sizes = sorted(set(options.members))
    if len(sizes) < 2 or sizes[0] < 3 or sizes[-1] > 26:
        parser.error("two sizes or more, from 3 to 26 members")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    load_before, meter = load(), Meter()
    try:
        with Started() as started:
            measured = _measure(started, sizes, options.rounds, options.count)
    except (StartError, Failed, UnderstudyError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    others = meter.others()
    run = (
        *machine(),
        f"load average: {load_before} before, {load()} after",
        quietness(others),
        f"run: {options.rounds} rounds in each cluster, {options.count} of each kind of request in a round",
    )
    hand_over(_section(run, sizes, measured, others), options.json)
    return 0


# --- measuring -------------------------------------------------------------------------------------------------------


def _measure(started: Started, sizes: list[int], rounds: int, count: int) -> Measured:
    names = [chr(ord("a") + number) for number in range(sizes[-1])]
    growing = started.grow(names, move_after="0")
    clients: dict[str, Client] = {}
    measured: Measured = {}
    for name in names:
        next(growing)
        clients[name] = client_of(started, name)
        if len(clients) in sizes:
            wait_for_leases(clients[names[0]])
            _cluster(clients, rounds, count, measured)
            print(f"hops: {len(clients)} members", file=sys.stderr)
    for client in clients.values():
        client.member.close()
    return measured


def _cluster(clients: dict[str, Client], rounds: int, count: int, measured: Measured) -> None:
    chance = random.Random(1)
    first, *_ = clients
    sessions = [_Visited(clients, first) for _ in range(SESSIONS)]
    runs: dict[str, Callable[[Client, str], Session]] = {READ: _read, WRITE: _write}
    found = {kind: Hops([], []) for kind in runs}
    for number in range(rounds + 1):
        for kind, hops in chance.sample([(kind, hops) for kind in runs for hops in (False, True)], 4):
            times = [sessions[at % SESSIONS].visit(runs[kind], hops, chance) for at in range(count)]
            if number > 0:  # the first one warms everybody up
                (found[kind].elsewhere if hops else found[kind].here).append(times)
    for kind, both in found.items():
        measured[len(clients), kind] = both


class _Visited:
    """A session whose primary is the first member, and stays there (``move_after`` is 0)."""

    def __init__(self, clients: dict[str, Client], home: str) -> None:
        self._clients = clients
        self._home = home
        self._last = home
        self._cookie = begin(clients[home])

    def visit(self, run: Callable[[Client, str], Session], hops: bool, chance: random.Random) -> int:
        """Its time in ns."""
        others = [name for name in self._clients if name not in (self._home, self._last)]
        self._last = chance.choice(others) if hops else self._home
        client = self._clients[self._last]
        began_ns = time.perf_counter_ns()
        session = run(client, self._cookie)
        took_ns = time.perf_counter_ns() - began_ns
        if hops == (session.role == "primary"):
            raise Failed(f"a session of {self._home} was served at {self._last} by a {session.role}")
        self._cookie = session.visit.cookie_now or self._cookie
        return took_ns


def _read(client: Client, cookie: str) -> Session:
    session = client.begin(cookie)
    assert session["user"]
    client.finish(session)
    return session


def _write(client: Client, cookie: str) -> Session:
    session = client.begin(cookie)
    session["number"] += 1
    client.finish(session)
    assert session.protected, "a write has no copy"
    return session


# --- what it says ----------------------------------------------------------------------------------------------------


def _section(run: tuple[str, ...], sizes: list[int], measured: Measured, others: float) -> Section:
    least, most = sizes[0], sizes[-1]
    worst_us = max(measured[n, READ].added_us for n in sizes)
    return Section(
        "hops",
        "Another member each time",
        run,
        (
            "Without a sticky balancer each request of a session comes to another member. Here one cluster grows; a"
            " worker of each member asks for the same sessions of 1 kB, at the member where their primary is and at"
            " another one each time (a proxy or the backup; primaries stay where they are, `move_after` is 0)."
            " *Added* is the difference of the two in the same round. All members are on one machine, so their"
            " heartbeats, which grow with the square of their number, take from the same processors.",
        ),
        (
            table(
                "A request where the primary is, and at another member each time, in µs",
                ("members, request", "at the primary", "elsewhere", "p99 elsewhere", "added by the hop"),
                [
                    (f"{n}, {kind}", _median_us(both.here), _median_us(both.elsewhere),
                     p99_us([time_ns for round_ in both.elsewhere for time_ns in round_]), both.added_us)
                    for (n, kind), both in measured.items()
                ],
            ),
        ),
        (
            Plot(
                "hops", "Time added by a hop to another member", "members", "µs",
                tuple(series(kind, [(n, measured[n, kind].added_us) for n in sizes]) for kind in (READ, WRITE)),
            ),
        ),
        (
            Claim(f"a read at another member, among {least} to {most}, adds", worst_us, 1_000, "µs", target="hop"),
            Claim(f"what it adds among {most} members, beside {least}",
                  measured[most, READ].added_us / measured[least, READ].added_us, FLAT, "×", target="hop"),
        ),
        tuple(_worse(sizes, measured)),
        others,
    )  # fmt: skip


def _median_us(rounds: list[list[int]]) -> float:
    return statistics.median(time_ns for round_ in rounds for time_ns in round_) / 1000


def _worse(sizes: list[int], measured: Measured) -> Iterable[str]:
    added = " and ".join(f"{shown(measured[sizes[-1], kind].added_us)} µs to a {kind}" for kind in (READ, WRITE))
    yield (
        f"among {sizes[-1]} members a hop adds {added}; with sessions in Redis it adds nothing, because there every"
        " request goes to another machine"
    )


if __name__ == "__main__":
    sys.exit(main())
