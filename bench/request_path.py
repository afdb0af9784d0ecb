"""Measures what one worker process pays for a session's read and write, beside redis-py in the same run.

    python bench/request_path.py [--rounds N] [--count N] [--seconds S]

Every round measures every operation in a new order, so that whatever else the machine does hits all of them alike.
Exit codes: 0 measured, 1 something failed, 2 redis is not here and there is nothing to compare with.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import statistics
import sys

try:
    import redis
except ImportError:
    print("bench: redis-py is not installed: pip install 'understudy[bench]', or `make venv`", file=sys.stderr)
    sys.exit(2)

from operations import Failed, Notes
from path_section import ON_LOOPBACK, path_section
from report import Row, load, machine, quietness, slower, table
from rounds import MEMBERS, all_operations, client_of, clients, measured, rows, switches
from section import add_option, write_section
from started import REDIS_SERVER, Started, StartError, wait_for_leases
from understudy.errors import UnderstudyError

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
    ours, there, notes = clients(config), client_of(started, MEMBERS[1]), Notes()
    operations = all_operations(their_client, ours, there, notes)
    wait_for_leases(ours["backup"])
    run = measured(operations, notes, rounds=options.rounds, count=options.count, seconds=options.seconds)
    head = (
        *machine(their_client.info("server")["redis_version"]),
        f"load average (1, 5, 15 min): {load_before} before, {load()} after, this run's own processes included",
        quietness(run.others),
        f"run: {run.told}, all on loopback",
    )
    print("\n".join(head))
    found = {size: rows(all_, run.times, size) for size, all_ in operations.items()}
    _print(found, notes)
    if options.json is not None:
        write_section(path_section(ON_LOOPBACK, head, found, run.others, switches(operations)), options.json)
    ours["backup"].member.close()
    return 0


def _print(rows_of: dict[int, dict[str, Row]], notes: Notes) -> None:
    for size, of_size in rows_of.items():
        print(f"\nsessions of {size} bytes; a ratio below 1: Understudy takes less time")
        print("\n".join(table(of_size.values())))
        print("slower than redis: " + (", ".join(slower(of_size.values())) or "none"))
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
