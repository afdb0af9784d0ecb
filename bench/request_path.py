"""Measures what one worker process pays for a session's read and write, beside redis-py in the same run.

    python bench/request_path.py [--rounds N] [--count N] [--seconds S]

Every round measures every operation in a new order, so that whatever else the machine does hits all of them alike.
Exit codes: 0 measured, 1 something failed, 2 redis is not here and there is nothing to compare with.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import statistics
import sys
import time

try:
    import redis
except ImportError:
    print("bench: redis-py is not installed: pip install 'understudy[bench]', or `make venv`", file=sys.stderr)
    sys.exit(2)

from elsewhere import Elsewhere
from operations import Failed, Notes, Operation, Ours, Theirs
from path_section import PIPELINE, PROTECTED, path_section
from report import Meter, Row, load, machine, quietness, slower, table
from section import add_option, write_section
from started import REDIS_SERVER, Started, StartError, wait_for_leases
from understudy.client.runtime import Client, Runtime
from understudy.config import Config
from understudy.config import load as load_config
from understudy.errors import UnderstudyError

MEMBERS = ("a", "b", "c")
PAYLOADS_BYTES = (190, 1_000)
UNAWAITED = ('write, "none"', 'write, "local"', "redis SET")
"""What returns before the second machine has the write."""


def main() -> int:
    """Starts everything, measures, prints."""
    options = _options()
    if shutil.which(REDIS_SERVER) is None:
        print(
            "bench: redis-server is not installed, so there is nothing to compare with, and nothing was measured.\n"
            "Debian, Ubuntu: sudo apt-get install redis-server",
            file=sys.stderr,
        )
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    load_before = load()
    try:
        with Started() as started:
            return _run(started, options, load_before)
    except (StartError, Failed, UnderstudyError, redis.RedisError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="One worker's request path beside redis-py, in one run.")
    parser.add_argument("--rounds", type=_positive, default=100, help="rounds at most (100)")
    parser.add_argument("--count", type=_positive, default=40, help="of each operation, size and round (40)")
    parser.add_argument("--seconds", type=_positive, default=40, help="no new round begins after so many (40)")
    add_option(parser)
    return parser.parse_args()


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _run(started: Started, options: argparse.Namespace, load_before: str) -> int:
    config = started.members(MEMBERS, move_after="0")  # sessions on a proxy are to stay there
    their_client = started.redis_pair()
    clients = {mode: _client(config, mode) for mode in ("none", "local", "backup")}
    notes = Notes()
    there = _client_there(started)
    measured: dict[int, list[Operation]] = {}
    for size in PAYLOADS_BYTES:
        theirs, ours = Theirs(their_client, size, notes), Ours(clients, size, notes)
        elsewhere = Elsewhere(clients["backup"], there, size, notes, ours.settle)
        measured[size] = [*theirs.operations(), *ours.operations(), *elsewhere.operations()]
    wait_for_leases(clients["backup"])
    _round(measured, options.count, random.Random(0), notes)  # warms everybody up, and is not counted
    notes.clear()
    times: dict[tuple[int, str], list[list[int]]] = {
        (size, operation.name): [] for size, operations in measured.items() for operation in operations
    }
    order = random.Random(1)
    meter = Meter()
    began_s = time.monotonic()
    rounds = 0
    while rounds < options.rounds and time.monotonic() - began_s < options.seconds:
        for place, found in _round(measured, options.count, order, notes).items():
            times[place].append(found)
        rounds += 1
    took_s = time.monotonic() - began_s
    others = meter.others()
    head = (
        *machine(their_client.info("server")["redis_version"]),
        f"load average (1, 5, 15 min): {load_before} before, {load()} after, this run's own processes included",
        quietness(others),
        f"run: {rounds} rounds of {options.count} of each operation in {took_s:.1f} s, all on loopback",
    )
    print("\n".join(head))
    rows = {size: _rows(operations, times, size) for size, operations in measured.items()}
    _print(rows, notes)
    if options.json is not None:
        write_section(path_section(head, rows, others), options.json)
    clients["backup"].member.close()
    return 0


def _client(config: Config, mode: str) -> Client:
    """A worker's client; all three share one store and one connection to the agent, as applications of a process do."""
    return Runtime(lambda: config.with_overrides("keyword", acknowledge=mode)).client()


def _client_there(started: Started) -> Client:
    """A worker of the second member, in this process: it makes what is then asked for at the first."""
    here, variables = os.environ["UNDERSTUDY_DIR"], started.variables[MEMBERS[1]]
    os.environ["UNDERSTUDY_DIR"] = variables["UNDERSTUDY_DIR"]
    try:
        config = load_config(environ=variables)
        return Runtime(lambda: config).client()
    finally:
        os.environ["UNDERSTUDY_DIR"] = here


def _round(
    measured: dict[int, list[Operation]], count: int, order: random.Random, notes: Notes
) -> dict[tuple[int, str], list[int]]:
    """Each operation ``count`` times, in a new order; gives the times in ns."""
    found: dict[tuple[int, str], list[int]] = {}
    todo = [(size, operation) for size, operations in measured.items() for operation in operations]
    order.shuffle(todo)
    for size, operation in todo:
        operation.settle()
        began_ns = time.perf_counter_ns()
        times = [operation.run() for _ in range(count)]
        operation.settle()
        notes.settled_ns.setdefault((size, operation.name), []).append((time.perf_counter_ns() - began_ns) // count)
        found[size, operation.name] = [time_ns for time_ns in times if time_ns is not None]
    return found


def _rows(operations: list[Operation], times: dict[tuple[int, str], list[list[int]]], size: int) -> dict[str, Row]:
    """By name; the last one puts a write beside redis' quicker way to the same."""
    rows: dict[str, Row] = {}
    for operation in operations:
        found = times[size, operation.name]
        if not any(found):
            raise Failed(f"{operation.name}: not one of them did what it says")
        rows[operation.name] = Row(operation.name, found, rows.get(operation.beside))
    again = f"{PROTECTED}, same times"
    rows[again] = Row(again, rows[PROTECTED].rounds, rows[PIPELINE])
    return rows


def _print(rows_of: dict[int, dict[str, Row]], notes: Notes) -> None:
    for size, rows in rows_of.items():
        print(f"\nsessions of {size} bytes; a ratio below 1: Understudy takes less time")
        print("\n".join(table(rows.values())))
        print("slower than redis: " + (", ".join(slower(rows.values())) or "none"))
        settled = {name: statistics.median(notes.settled_ns[size, name]) / 1000 for name in UNAWAITED}
        print(
            "per write, until the last of a round was on both machines, in µs: "
            + ", ".join(f"{name} {value:.0f}" for name, value in settled.items())
        )
    print(
        f"\nleft out of the times: {notes.unprotected} writes that came back unprotected, {notes.unreplicated} that"
        f" redis' replica did not confirm; of {notes.reads} reads {notes.reads_without_lease} found no running lease"
    )


if __name__ == "__main__":
    sys.exit(main())
