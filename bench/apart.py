"""Measures the same as request_path.py where machines are a millisecond from each other, ours and redis' alike.

    python bench/apart.py [--delay-ms MS] [--rounds N] [--count N] [--seconds S] [--json FILE]

Exit codes: 0 measured, 1 something failed, 2 redis is not here, or machines cannot be put apart (bench/distance.py).
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys

import redis

import distance
from distance import Distance
from operations import GET, Failed, Notes
from path_section import OVER_A_DISTANCE, path_section
from report import load, machine, median_us, quietness
from rounds import MEMBERS, all_operations, client_of, clients, measured, rows
from section import Section, add_option, hand_over
from started import REDIS_SERVER, Started, StartError, wait_for_leases
from understudy.errors import UnderstudyError

DELAY_MS = 1.0


def main() -> int:
    parser = argparse.ArgumentParser(description="A worker's path beside redis-py, over a distance.")
    parser.add_argument("--delay-ms", type=float, default=DELAY_MS, help=f"each way ({DELAY_MS:.0f})")
    parser.add_argument("--rounds", type=int, default=100, help="rounds at most (100)")
    parser.add_argument("--count", type=int, default=15, help="of each operation, size and round (15)")
    parser.add_argument("--seconds", type=float, default=25.0, help="no new round begins after so many (25)")
    add_option(parser)
    options = parser.parse_args()
    missing = distance.why_not()
    if missing is None and shutil.which(REDIS_SERVER) is None:
        missing = "redis-server is not installed: apt-get install redis-server"
    if missing is not None:
        print(f"bench: {missing}; nothing was measured", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        with Distance(MEMBERS, options.delay_ms) as apart:
            here, second, third = (apart.places()[name] for name in MEMBERS)
            places = dict(zip(MEMBERS, (here, second, third), strict=True))
            apart.enter(MEMBERS[0])
            with Started(places | {"redis": second, "redis replica": third}) as started:
                section = _run(started, options)
    except (OSError, StartError, Failed, UnderstudyError, redis.RedisError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    hand_over(section, options.json)
    return 0


def _run(started: Started, options: argparse.Namespace) -> Section:
    load_before = load()
    config = started.members(MEMBERS, move_after="0")  # sessions on a proxy are to stay there
    redis_client = started.redis_pair()
    ours, there, notes = clients(config), client_of(started, MEMBERS[1]), Notes()
    operations = all_operations(redis_client, ours, there, notes)
    wait_for_leases(ours["backup"])
    run = measured(operations, notes, rounds=options.rounds, count=options.count, seconds=options.seconds)
    found = {size: rows(all_, run.times, size) for size, all_ in operations.items()}
    ways_ms = min(median_us([t for round_ in of_size[GET].rounds for t in round_]) for of_size in found.values()) / 1000
    head = (
        *machine(redis_client.info("server")["redis_version"]),
        f"load average: {load_before} before, {load()} after",
        quietness(run.others),
        f"run: {run.told}; {options.delay_ms} ms each way between machines, {ways_ms:.2f} ms there and back as redis-py"
        " sees it",
    )
    ours["backup"].member.close()
    return path_section(OVER_A_DISTANCE, head, found, run.others)


if __name__ == "__main__":
    sys.exit(main())
