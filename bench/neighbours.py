"""Measures what a worker pays for a busy worker beside it: threads that compute, in a process of the same member.

    python bench/neighbours.py [--rounds N] [--count N]

Another process that computes takes CPU time from everybody, sessions or not. So each operation is measured three times
in every round, in a new order: beside nobody, beside a stranger (the same threads in a process that has no session) and
beside the busy worker, which commits changes all the while. What the last costs more than the second is ours. It is
measured with an agent, who alone writes, and with LocalManager, where a worker that is short of the interpreter may
hold the store's write lock.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from report import Meter, Row, machine, quietness, table
from report import load as load_average
from started import Started, StartError, wait_for_leases
from understudy.client.runtime import Client, Runtime
from understudy.config import Config, load
from understudy.errors import UnderstudyError

BUSY_THREADS = 2
COMMIT_EVERY_S = 0.002
"""Of the busy worker: it is in the store often, but most of what it does is computing."""
SETTLE_S = 0.05
"""After a neighbour has begun or ended, before anything is measured."""
GO, REST, END = b"1", b"0", b"x"
ALONE, STRANGER, WORKER = "alone", "beside a stranger", "beside a busy worker"


class Neighbour:
    """A process that computes while it is told to; with ``config`` it is a worker, too, and commits changes."""

    def __init__(self, config: Config | None) -> None:
        told, self._tell = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._tell)
                _live(config, told)
            finally:
                os._exit(0)
        os.close(told)

    def goes(self, on: bool) -> None:
        os.write(self._tell, GO if on else REST)
        time.sleep(SETTLE_S)

    def end(self) -> None:
        os.write(self._tell, END)  # the other neighbour has this pipe, too: closing it would tell nobody
        os.waitpid(self.pid, 0)


class Operation(NamedTuple):
    name: str
    run: Callable[[], object]


def main() -> int:
    """Starts everything, measures, prints."""
    parser = argparse.ArgumentParser(description="A worker's requests beside a busy worker of the same member.")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--count", type=int, default=100, help="of each operation, neighbour and round (100)")
    options = parser.parse_args()
    print("\n".join(machine("not used")))
    print(f"load average (1, 5, 15 min): {load_average()} before")
    try:
        with Started() as started:
            config = started.members()
            _measure("with an agent, and a copy on a second member", config, options, started)
            os.environ["UNDERSTUDY_DIR"] += "-local"
            _measure("LocalManager", load(environ={"UNDERSTUDY_MEMBER": "a"}), options, started)
    except (StartError, UnderstudyError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


def _measure(title: str, config: Config, options: argparse.Namespace, started: Started) -> None:
    neighbours = {STRANGER: Neighbour(None), WORKER: Neighbour(config)}
    try:
        client = Runtime(lambda: config).client()
        operations = _operations(client)
        if client.config.clustered:
            wait_for_leases(client)
        found: dict[tuple[str, str], list[list[int]]] = {}
        meter = Meter()
        order = random.Random(1)
        for number in range(options.rounds + 1):
            for beside in order.sample((ALONE, STRANGER, WORKER), 3):
                if beside in neighbours:
                    neighbours[beside].goes(True)
                for operation in operations:
                    times = [_time_ns(operation) for _ in range(options.count)]
                    if number > 0:  # the first round warms everybody up
                        found.setdefault((operation.name, beside), []).append(times)
                if beside in neighbours:
                    neighbours[beside].goes(False)
        others = meter.others()
    finally:
        for neighbour in neighbours.values():
            neighbour.end()
    print(f"\n{title}; {quietness(others)}")
    rows = []
    for operation in operations:
        alone, stranger = (Row(f"{operation.name}, {b}", found[operation.name, b]) for b in (ALONE, STRANGER))
        worker = Row(f"{operation.name}, {WORKER}", found[operation.name, WORKER], stranger)
        rows += [alone, stranger._replace(beside=alone), worker]
    print("\n".join(table(rows)))
    client.member.close()


def _operations(client: Client) -> list[Operation]:
    session = client.begin("")
    session.update(user="anna@example.org", number=0)
    client.finish(session)
    cookie = session.visit.cookie_now or ""

    def read() -> None:
        session = client.begin(cookie)
        assert session["user"]
        client.finish(session)

    def write() -> None:
        session = client.begin(cookie)
        session["number"] += 1
        client.finish(session)

    return [Operation("read", read), Operation("write", write)]


def _time_ns(operation: Operation) -> int:
    began_ns = time.perf_counter_ns()
    operation.run()
    return time.perf_counter_ns() - began_ns


def _live(config: Config | None, told: int) -> None:
    on = threading.Event()
    for _ in range(BUSY_THREADS):
        threading.Thread(target=_compute, args=(on,), daemon=True).start()
    if config is not None:
        client = Runtime(lambda: config).client()
        threading.Thread(target=_commit, args=(client, on), daemon=True).start()
    while (command := os.read(told, 1)) not in (END, b""):
        if command == GO:
            on.set()
        else:
            on.clear()


def _compute(on: threading.Event) -> None:
    value = 0
    while True:
        on.wait()
        for _ in range(1_000):
            value = (value * 31 + 7) % 1_000_003


def _commit(client: Client, on: threading.Event) -> None:
    cookie = ""
    while True:
        on.wait()
        session = client.begin(cookie)
        session["number"] = session.get("number", 0) + 1
        client.finish(session)
        cookie = session.visit.cookie_now or ""
        time.sleep(COMMIT_EVERY_S)


if __name__ == "__main__":
    sys.exit(main())
