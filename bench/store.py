"""Measures the store: many workers beside busy ones, filling, expiry, filling again, and a start with a full store.

python bench/store.py [--sessions N] [--seconds S] [--json FILE]
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import redis

from filling import STORE_BYTES_MAX, Filling, proxy_bytes
from report import Meter, load, machine, median_us, p99_us, quietness
from section import Claim, Plot, Section, Table, add_option, hand_over, series, shown, table
from started import REDIS_SERVER, Started, StartError, wait_for_leases
from understudy.client.runtime import Client, Runtime
from understudy.config import Config
from understudy.config import load as load_config
from understudy.errors import UnderstudyError
from understudy.model import values
from workers import begin, crowd, read, write

WORKERS = (1, 4, 16, 64)
COMPUTING = 2
"""Workers that compute, as many as the smallest machine has processors."""
SESSION_BYTES = 1_000
PROXIES_SHARE = 4
"""One proxy for so many sessions is enough to know what one takes."""
REDIS_KEYS = 20_000
ALONE, STRANGERS, BUSY = "all at their pace", "beside strangers that compute", "two of them compute"
MANAGERS = {"agent": "with an agent, and a copy on a second member", "local": "LocalManager, no agent"}


class Filled(NamedTuple):
    """What happened to one store."""

    steps: list[tuple[str, int, int, float]]
    """What was done; sessions and bytes of the file afterwards; how long it took, in s."""
    proxy_bytes: float
    """What the file grows by for each proxy entry, LMDB's pages included."""


Times = dict[tuple[str, int, str], tuple[list[int], list[int]]]
"""(manager, workers, beside whom) -> times of reads and of writes, in ns."""


def main() -> int:
    parser = argparse.ArgumentParser(description="The store under many workers, and filled, emptied and filled again.")
    parser.add_argument("--sessions", type=int, default=100_000, help="in the store (100000; a million is fine)")
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
            filled = _fill(options.sessions)
            starts = _starts(started, options.sessions)
            redis_bytes = _redis_bytes(started)
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
    hand_over(_section(run, options.sessions, times, filled, starts, redis_bytes, others), options.json)
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


# --- full and empty --------------------------------------------------------------------------------------------------


def _fill(count: int) -> Filled:
    directory = Path(tempfile.mkdtemp(prefix="us-bench-", dir="/tmp"))
    try:
        filling = Filling(directory, STORE_BYTES_MAX)
        steps = [("empty", 0, filling.file_bytes(), 0.0)]

        def step(name: str, run: Callable[[], object]) -> None:
            began_s = time.monotonic()
            run()
            took_s = time.monotonic() - began_s
            steps.append((name, filling.sessions(), filling.file_bytes(), took_s))

        fill = partial(filling.fill, count, SESSION_BYTES)
        step("filled", fill)
        for again in ("again", "a third time"):
            step("all expired", filling.expire)
            step(f"filled {again}", fill)
        filling.end()
    finally:
        shutil.rmtree(directory)
    return Filled(steps, proxy_bytes(max(1_000, count // PROXIES_SHARE)))


def _starts(started: Started, count: int) -> dict[str, tuple[float, float]]:
    """Time from an agent's start to ready, and a worker's first read, in ms: with an empty and with a full store."""
    found = {}
    for name, sessions in (("empty", 0), ("full", count)):
        filling = Filling(started.directory(name), STORE_BYTES_MAX, member=name)
        filling.fill(sessions, SESSION_BYTES)
        filling.end()
        began_s = time.monotonic()
        config = started.members((name,), store_bytes_max=str(STORE_BYTES_MAX))
        ready_ms = (time.monotonic() - began_s) * 1000
        client = Runtime(lambda config=config: config).client()
        began_s = time.monotonic()
        client.begin("").get("user")
        begin(client)
        found[name] = ready_ms, (time.monotonic() - began_s) * 1000
        client.member.close()
        started.end(f"agent {name}")
    return found


def _redis_bytes(started: Started) -> float | None:
    """What redis takes for one session of the same size; None where there is no redis."""
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


def _section(
    run: tuple[str, ...],
    count: int,
    times: Times,
    filled: Filled,
    starts: dict[str, tuple[float, float]],
    redis_bytes: float | None,
    others: float,
) -> Section:
    copy_bytes = filled.steps[1][2] / count
    again = filled.steps[-1][2] / filled.steps[1][2]
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
            f"*Filling*: {count:,} new sessions of {SESSION_BYTES} bytes by the functions of the agent, 64 a"
            " transaction; all of them expire; then twice more. Bytes are those of the file on the disk, all of LMDB's"
            " pages included.",
            "*Start*: an agent's process from its start to ready, over an empty and over a full store.",
        ),
        (
            *_worker_tables(times),
            table(
                "Filled, expired, filled again",
                ("", "sessions", "file, MB", "bytes each", "s", "sessions/s"),
                [
                    (name, sessions, size / 1e6, size / sessions if sessions else None, took_s,
                     count / took_s if took_s else None)
                    for name, sessions, size, took_s in filled.steps
                ],
            ),
            table(
                f"Bytes for one session of {SESSION_BYTES} bytes",
                ("a copy (LMDB, pages and indexes)", "a proxy entry", "a key in redis, with its time to live"),
                [(copy_bytes, filled.proxy_bytes, redis_bytes)],
            ),
            table(
                "Start of an agent",
                ("store", "ms to ready", "ms of a worker's first request"),
                [(f"{name}, {count if name == 'full' else 0:,} sessions", *both) for name, both in starts.items()],
            ),
        ),
        tuple(_plots(times)),
        (
            Claim(f"a copy of a session of {SESSION_BYTES} bytes, pages included", copy_bytes, 2_200, "bytes"),
            Claim("a proxy entry, pages included", filled.proxy_bytes, 130, "bytes"),
            Claim("the file after filling three times, beside the first time", again, 1.1, "×"),
            *(
                Claim(f"{MANAGERS[manager]}: a read where two of {_most(times)} workers compute, beside the same where"
                      " two strangers do", _ratio(times, manager, 0), 1.5, "×")
                for manager in MANAGERS
            ),
        ),
        tuple(_worse(times, copy_bytes, filled, redis_bytes)),
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


def _worse(times: Times, copy_bytes: float, filled: Filled, redis_bytes: float | None) -> Iterable[str]:
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
    if filled.steps[2][2] >= filled.steps[1][2]:
        yield "the file never becomes smaller: what expired makes room for new sessions, not for other programs"


if __name__ == "__main__":
    sys.exit(main())
