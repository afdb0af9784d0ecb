"""Measures the store: many workers beside busy ones, filling, expiry, filling again, and a start with a full store.

python bench/store.py [--sessions N] [--seconds S] [--json FILE]
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable

import redis

from full import SESSION_BYTES, Full, full, full_claims, full_prose, full_tables
from report import Meter, load, machine, median_us, p99_us, quietness
from section import Claim, Plot, Section, Table, add_option, hand_over, series, shown, table
from started import Started, StartError, wait_for_leases
from understudy.client.runtime import Client, Runtime
from understudy.config import Config
from understudy.config import load as load_config
from understudy.errors import UnderstudyError
from workers import begin, crowd, read, write

WORKERS = (1, 4, 16, 64)
COMPUTING = 2
"""Workers that compute, as many as the smallest machine has processors."""
ALONE, STRANGERS, BUSY = "all at their pace", "beside strangers that compute", "two of them compute"
MANAGERS = {"agent": "with an agent, and a copy on a second member", "local": "LocalManager, no agent"}


Times = dict[tuple[str, int, str], tuple[list[int], list[int]]]
"""(manager, workers, beside whom) -> times of reads and of writes, in ns."""


def main() -> int:
    parser = argparse.ArgumentParser(description="The store under many workers, and filled, emptied and filled again.")
    parser.add_argument("--sessions", type=int, default=100_000, help="in the store (100000)")
    parser.add_argument("--workers", type=int, nargs="+", default=list(WORKERS), help="how many (1 4 16 64)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement beside workers (1)")
    add_option(parser)
    options = parser.parse_args()
    if max(options.workers) <= COMPUTING:
        parser.error(f"more than {COMPUTING} workers: so many of them are to compute beside one that is measured")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    load_before = load()
    try:
        with Started() as started:
            meter = Meter()
            times = _workers(started, options.workers, options.seconds)
            filled = full(started, options.sessions)
            others = meter.others()
    except (StartError, UnderstudyError, redis.RedisError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    run = (
        *machine(),
        f"load average: {load_before} before, {load()} after",
        quietness(others),
        f"run: {options.sessions} sessions of {SESSION_BYTES} bytes",
    )
    hand_over(_section(run, options.sessions, times, filled, others), options.json)
    return 0


# --- many workers ----------------------------------------------------------------------------------------------------


def _workers(started: Started, counts: list[int], seconds: float) -> Times:
    """One worker is measured, without a pause; the others serve at their pace. So it shows what it pays for them."""
    found: Times = {}
    configs = {"agent": started.members()}
    places = {"agent": os.environ["UNDERSTUDY_DIR"], "local": str(started.directory("local"))}
    configs["local"] = load_config(environ={"UNDERSTUDY_MEMBER": "local"})
    for manager, config in configs.items():
        os.environ["UNDERSTUDY_DIR"] = places[manager]
        for count in counts:
            for beside in (ALONE, STRANGERS, BUSY) if count > COMPUTING else (ALONE, STRANGERS):
                found[manager, count, beside] = _beside(config, count, beside, seconds)
                print(f"store: {manager}, {count} workers, {beside}", file=sys.stderr)
    return found


def _beside(config: Config, count: int, beside: str, seconds: float) -> tuple[list[int], list[int]]:
    """In a process of its own, which opens its own store: an environment must not cross a fork."""
    with crowd(count - 1, config, COMPUTING if beside == BUSY else 0):
        with crowd(COMPUTING if beside == STRANGERS else 0, None, COMPUTING):
            receive, send = os.pipe()  # not before: the crowd would hold its other end open
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    os.close(receive)
                    _report(send, *_measure(config, seconds))
                    code = 0
                finally:
                    os._exit(code)
            os.close(send)
            with os.fdopen(receive, "rb") as answers:
                lines = answers.read().decode().splitlines()
            if os.waitpid(pid, 0)[1] != 0:
                raise StartError("the worker that was measured failed")
    reads, writes = ([int(word) for word in line.split()] for line in lines)
    return reads, writes


def _report(descriptor: int, *all_times: list[int]) -> None:
    with os.fdopen(descriptor, "wb") as answers:
        for times in all_times:
            answers.write(" ".join(map(str, times)).encode() + b"\n")


def _measure(config: Config, seconds: float) -> tuple[list[int], list[int]]:
    client = Runtime(lambda: config).client()
    cookie = begin(client)
    if config.clustered:
        wait_for_leases(client)
    reads: list[int] = []
    writes: list[int] = []
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        writes.append(_time_ns(write, client, cookie))
        reads += [_time_ns(read, client, cookie) for _ in range(4)]
    return reads, writes


def _time_ns(operation: Callable[[Client, str], None], client: Client, cookie: str) -> int:
    began_ns = time.perf_counter_ns()
    operation(client, cookie)
    return time.perf_counter_ns() - began_ns


# --- what it says ----------------------------------------------------------------------------------------------------


def _section(run: tuple[str, ...], count: int, times: Times, filled: Full, others: float) -> Section:
    return Section(
        "store",
        "Store",
        run,
        (
            "*Workers*: one worker reads and writes its session without a pause, and is measured, while the others"
            " serve requests at the pace of visitors (one each 50 to 150 ms, a fifth of them writes). Then the same"
            " while two of the others also compute without a pause, and, to tell what the store has to do with that"
            " from what a loaded processor does to everybody, while two strangers compute, processes that have no"
            " session.",
            *full_prose(count),
        ),
        (*_worker_tables(times), *full_tables(filled)),
        tuple(_plots(times)),
        (
            *full_claims(filled),
            *(
                Claim(f"{MANAGERS[manager]}: a read where two of {_most(times)} workers compute, beside the same where"
                      " two strangers do", _ratio(times, manager, 0), 1.5, "×")
                for manager in MANAGERS
            ),
        ),
        tuple(_worse(times, filled)),
        others,
    )  # fmt: skip


def _ratio(times: Times, manager: str, what: int) -> float:
    count = _most(times)
    return median_us(times[manager, count, BUSY][what]) / median_us(times[manager, count, STRANGERS][what])


def _most(times: Times) -> int:
    return max(count for _, count, beside in times if beside == BUSY)


def _worker_tables(times: Times) -> Iterable[Table]:
    for manager, title in MANAGERS.items():
        yield table(
            f"One of so many workers, {title} (µs)",
            ("workers, the others", "read", "read p99", "write", "write p99", "writes"),
            [
                (f"{count}, {beside}", median_us(reads), p99_us(reads), median_us(writes), p99_us(writes), len(writes))
                for (of, count, beside), (reads, writes) in times.items()
                if of == manager
            ],
        )


def _plots(times: Times) -> Iterable[Plot]:
    for what, name in enumerate(("read", "write")):
        yield Plot(
            f"store-{name}s",
            f"A worker's {name} beside other workers, p99",
            "workers",
            "µs",
            tuple(
                series(f"{manager}, {label}", [
                    (count, p99_us(both[what])) for (of, count, where), both in times.items()
                    if of == manager and where == beside])
                for manager in MANAGERS
                for beside, label in ((ALONE, "paced"), (STRANGERS, "strangers"), (BUSY, "two compute"))
            ),
            log_x=True,
            log_y=True,
        )  # fmt: skip


def _worse(times: Times, filled: Full) -> Iterable[str]:
    copy_bytes, redis_bytes = filled.copy_bytes, filled.redis_bytes
    if redis_bytes is not None and copy_bytes > redis_bytes:
        yield (
            f"a session takes {shown(copy_bytes)} bytes in each of its copies, and {shown(redis_bytes)} in redis"
            f" ({copy_bytes / redis_bytes:.1f} times; redis keeps one on each of its machines, too)"
        )
    for manager, title in MANAGERS.items():
        for what, name in enumerate(("read", "write")):
            if (ratio := _ratio(times, manager, what)) > 1.2:
                yield (
                    f"{title}: where two of {_most(times)} workers compute, a {name} takes {ratio:.1f} times as long as"
                    " where two strangers do"
                )
    if filled.steps[2].file_bytes >= filled.steps[1].file_bytes:
        yield "the file never becomes smaller: what expired makes room for new sessions, not for other programs"


if __name__ == "__main__":
    sys.exit(main())
