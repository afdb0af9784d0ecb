"""Measures a store with a million sessions: filled, expired and filled again, and an agent that starts over it.

    python bench/million.py [--sessions N] [--json FILE]

Takes some minutes, and some gigabytes below /tmp; so it is not part of `make bench` (bench/store.py does the same with
a tenth), but a target of its own, `make bench-million`.
"""

from __future__ import annotations

import argparse
import signal
import sys

import redis

from full import full, full_claims, full_prose, full_tables
from report import Meter, load, machine, quietness
from section import Claim, Section, add_option, hand_over
from started import Started, StartError
from understudy.errors import UnderstudyError

SESSIONS = 1_000_000
READY_MS_MAX = 5_000
"""What we want of an agent's start over a full store."""


def main() -> int:
    parser = argparse.ArgumentParser(description="A store with a million sessions.")
    parser.add_argument("--sessions", type=int, default=SESSIONS)
    add_option(parser)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    load_before, meter = load(), Meter()
    try:
        with Started() as started:
            found = full(started, options.sessions)
    except (StartError, UnderstudyError, redis.RedisError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    others = meter.others()
    run = (*machine(), f"load average: {load_before} before, {load()} after", quietness(others))
    empty, start = found.starts
    claims = (
        *full_claims(found),
        Claim(f"an agent over {start.sessions:,} sessions is ready", start.ready_ms, READY_MS_MAX, "ms"),
    )
    worse = (
        f"an agent over {start.sessions:,} sessions takes {start.ready_ms / 1000:.1f} s until it is ready,"
        f" {empty.ready_ms / 1000:.1f} s over an empty store",
    )
    prose = full_prose(options.sessions)
    tables = tuple(full_tables(found))
    section = Section("million", "A million sessions", run, prose, tables, (), claims, worse, others)
    hand_over(section, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
