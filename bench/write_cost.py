"""Measures what one protected write costs, process by process: CPU time, wake-ups, system calls, transactions.

    python bench/write_cost.py [--writes N]

Two real members on loopback and one worker of the first, as in request_path.py; writes follow one another without a
pause. The kernel and LMDB do the counting. System calls are counted by strace, where that is installed, in a run of
their own, because it slows everything down.
Exit codes: 0 measured, 1 something failed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from operations import Failed, Notes, Ours
from report import PROC, load, machine
from started import MEMBERS, Started, StartError, wait_for_leases
from understudy.client.runtime import Client, Runtime
from understudy.errors import UnderstudyError

SIZE_BYTES = 190
WARM_UP = 300
TRACED = 500
_TXNID_AT = 144
"""Where LMDB's meta page, one of the first two of the file, has the number of the transaction that wrote it."""


class Counts(NamedTuple):
    """What one process has used since it began."""

    cpu_ns: int
    wakeups: int
    transactions: int

    def since(self, before: Counts, writes: int) -> list[float]:
        return [
            (self.cpu_ns - before.cpu_ns) / 1000 / writes,
            (self.wakeups - before.wakeups) / writes,
            (self.transactions - before.transactions) / writes,
        ]


def main() -> int:
    """Starts everything, measures, prints."""
    parser = argparse.ArgumentParser(description="What one protected write costs, process by process.")
    parser.add_argument("--writes", type=int, default=4_000, help="how many writes are counted (4000)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        with Started() as started:
            config = started.members()
            client = Runtime(lambda: config.with_overrides("keyword", acknowledge="backup")).client()
            wait_for_leases(client)
            _measure(started, client, options.writes)
            client.member.close()
    except (StartError, Failed, UnderstudyError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


def _measure(started: Started, client: Client, writes: int) -> None:
    ours = Ours({"backup": client}, SIZE_BYTES, Notes())
    for _ in range(WARM_UP):
        ours.write("backup")
    processes = {"worker": os.getpid(), **started.pids}
    places = {f"agent {name}": started.directory(name) for name in MEMBERS}
    before = {name: _counts(pid, places.get(name)) for name, pid in processes.items()}
    times_ns = [time_ns for _ in range(writes) if (time_ns := ours.write("backup")) is not None]
    after = {name: _counts(pid, places.get(name)) for name, pid in processes.items()}
    calls = _system_calls(processes, lambda: [ours.write("backup") for _ in range(TRACED)])
    print("\n".join(machine()))
    print(f"load average (1, 5, 15 min): {load()}")
    print(f"{writes} protected writes of {SIZE_BYTES} bytes, one after the other: {_spread(times_ns)}")
    print(f"\n{'each write':12}{'CPU µs':>10}{'wake-ups':>10}{'transactions':>14}   system calls")
    for name in processes:
        cpu_us, wakeups, transactions = after[name].since(before[name], writes)
        print(f"{name:12}{cpu_us:>10.1f}{wakeups:>10.2f}{transactions:>14.2f}   {calls.get(name, '')}")
    print(calls.get("", ""))


def _spread(times_ns: list[int]) -> str:
    deciles = statistics.quantiles(times_ns, n=10)
    return f"{deciles[0] / 1000:.0f} / {deciles[4] / 1000:.0f} / {deciles[8] / 1000:.0f} µs (p10, median, p90)"


def _counts(pid: int, directory: Path | None) -> Counts:
    cpu_ns = wakeups = 0
    for task in (PROC / str(pid) / "task").iterdir():
        cpu_ns += int((task / "schedstat").read_text().split()[0])
        for line in (task / "status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                wakeups += int(line.split()[1])
    return Counts(cpu_ns, wakeups, _last_transaction(directory) if directory is not None else 0)


def _last_transaction(directory: Path) -> int:
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    with (directory / "store" / "data.mdb").open("rb") as file:
        pages = file.read(2 * page_bytes)
    return max(struct.unpack_from("=Q", pages, at + _TXNID_AT)[0] for at in (0, page_bytes))


def _system_calls(processes: dict[str, int], run: object) -> dict[str, str]:
    """Process -> its system calls by name, for each write; under "" why there are none."""
    if shutil.which("strace") is None:
        return {"": "system calls were not counted: strace is not installed"}
    tracers = {
        name: subprocess.Popen(
            ["strace", "-f", "-c", "-U", "calls,name", "-p", str(pid)], stderr=subprocess.PIPE, text=True
        )
        for name, pid in processes.items()
    }
    time.sleep(1.0)  # until they are attached, which nothing tells
    run()  # type: ignore[operator]
    found: dict[str, str] = {}
    for name, tracer in tracers.items():
        tracer.send_signal(signal.SIGINT)
        rows = [line.split() for line in tracer.communicate()[1].splitlines()]
        counts = {row[1]: int(row[0]) / TRACED for row in rows if len(row) == 2 and row[0].isdigit()}
        calls = {call: count for call, count in counts.items() if call != "total" and count >= 0.05}
        found[name] = f"{sum(calls.values()):.1f}: " + ", ".join(f"{call} {count:.2f}" for call, count in calls.items())
    return found


if __name__ == "__main__":
    sys.exit(main())
