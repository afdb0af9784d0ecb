"""Gives the figures of a run as a table, with ratios inside the run, and says on what machine they came about."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import statistics
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = ("understudy", "lmdb", "eclipse-zenoh", "msgspec", "redis", "hiredis")
"""redis-py parses answers with hiredis where it is installed."""
PROC = Path("/proc")
QUIET_MAX = 0.05
"""Share of the CPUs that others may take before times mean little."""
NOT_QUIET = ": NOT a quiet machine, so neither times nor ratios are worth much"


class Row(NamedTuple):
    """One operation's times, and the one of redis that it is put beside."""

    name: str
    rounds: list[list[int]]
    """Times in ns, by round."""
    beside: Row | None = None


def median_us(times_ns: Sequence[int]) -> float:
    return statistics.median(times_ns) / 1000


def p99_us(times_ns: Sequence[int]) -> float:
    """The time that one in a hundred exceeds; of fewer than a hundred the longest."""
    ordered = sorted(times_ns)
    return ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)] / 1000


def table(rows: Iterable[Row]) -> list[str]:
    """The lines of the table; a ratio below 1 means that Understudy took less time."""
    lines = [
        f"{'':34}{'median':>10}{'p99':>10}{'count':>8}   {'ratio of medians (rounds)':27}{'of p99':>7}   beside",
        f"{'':34}{'µs':>10}{'µs':>10}",
    ]
    for row in rows:
        times = _all(row)
        line = f"{row.name:34}{median_us(times):>10.1f}{p99_us(times):>10.1f}{len(times):>8}"
        if row.beside is not None:
            low, high = _spread(row, row.beside)
            ratio = f"{ratio_of(row):.2f}  ({low:.2f} to {high:.2f})"
            of_p99 = p99_us(times) / p99_us(_all(row.beside))
            line += f"   {ratio:27}{of_p99:>7.3g}   {row.beside.name}"
        lines.append(line)
    return lines


def ratio_of(row: Row) -> float:
    assert row.beside is not None
    return median_us(_all(row)) / median_us(_all(row.beside))


def slower(rows: Iterable[Row]) -> list[str]:
    """Each row that takes longer than what it stands beside."""
    return [
        f"{row.name} ({ratio_of(row):.2f} x {row.beside.name})"
        for row in rows
        if row.beside is not None and ratio_of(row) > 1
    ]


def cells(row: Row) -> tuple[str | float | None, ...]:
    """The row as the page shows it: name, median, p99, count, ratio, its range, and beside what."""
    times = _all(row)
    found: tuple[str | float | None, ...] = (row.name, median_us(times), p99_us(times), len(times))
    if row.beside is None:
        return (*found, "", "", "")
    low, high = _spread(row, row.beside)
    return (*found, ratio_of(row), f"{low:.2f} to {high:.2f}", row.beside.name)


CELL_NAMES = ("", "median, µs", "p99, µs", "count", "ratio of medians", "in the rounds", "beside")


def _all(row: Row) -> list[int]:
    return [time_ns for round_ in row.rounds for time_ns in round_]


def _spread(row: Row, beside: Row) -> tuple[float, float]:
    """The ratio in the rounds: a tenth of them lie below the first, a tenth above the second."""
    pairs = zip(row.rounds, beside.rounds, strict=True)
    ratios = sorted(median_us(ours) / median_us(theirs) for ours, theirs in pairs if ours and theirs)
    tenth = len(ratios) // 10
    return ratios[tenth], ratios[-1 - tenth]


# --- the machine -----------------------------------------------------------------------------------------------------


def machine(redis_version: str = "") -> list[str]:
    """Machine, versions and commit."""
    versions = [f"Python {platform.python_version()}", *map(_version, LIBRARIES)]
    if redis_version:
        versions.append(f"redis-server {redis_version}")
    return [
        f"machine: {_processor()}, {os.cpu_count()} CPUs, {platform.system()} {platform.release()}",
        f"versions: {', '.join(versions)}",
        f"commit: {commit()}",
    ]


def load() -> str:
    """Processes that run or want to, as the kernel averages them over 1, 5 and 15 minutes."""
    return ", ".join(f"{value:.2f}" for value in os.getloadavg())


class Meter:
    """Tells how much of the CPUs went to processes that are neither this one nor its descendants."""

    def __init__(self) -> None:
        self._busy, self._idle = _cpu_ticks()
        self._own = _ticks_of(os.getpid())

    def others(self) -> float:
        """Their share of all CPU time since this was made, between 0 and 1."""
        busy, idle = _cpu_ticks()
        used, passed = busy - self._busy, busy - self._busy + idle - self._idle
        return max(0.0, (used - (_ticks_of(os.getpid()) - self._own)) / max(1, passed))


def quietness(others: float) -> str:
    """How much of the machine others took, and what that means."""
    return f"other processes took {others:.0%} of all CPU time" + (NOT_QUIET if others > QUIET_MAX else "")


def cpu_us(pids: Iterable[int]) -> int:
    """CPU time of these processes and their children so far. What other programs do meanwhile does not change it much:
    where the machine is not quiet it says more than the clock.
    """
    return sum(_own_cpu_us(pid) + cpu_us(_children(pid)) for pid in pids)


def _own_cpu_us(pid: int) -> int:
    total_ns = 0
    for task in (PROC / str(pid) / "task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # the thread has ended meanwhile
            total_ns += int(task.read_text().split()[0])
    return total_ns // 1000


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(child) for child in (PROC / str(pid) / "task" / str(pid) / "children").read_text().split()]
    return []


def _cpu_ticks() -> tuple[int, int]:
    """Busy and idle time of all CPUs since the start of the machine; time taken by its host is neither."""
    user, nice, system, idle, iowait, irq, softirq = map(int, (PROC / "stat").read_text().split()[1:8])
    return user + nice + system + irq + softirq, idle + iowait


def _ticks_of(pid: int) -> int:
    """Of a process and all that came of it: the living by themselves, those that have ended by who waited for them."""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0  # it ended a moment ago
    return sum(map(int, fields[11:15])) + sum(map(_ticks_of, _children(pid)))


def _processor() -> str:
    for line in (PROC / "cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(library: str) -> str:
    shown = "redis-py" if library == "redis" else library
    try:
        return f"{shown} {importlib.metadata.version(library)}"
    except importlib.metadata.PackageNotFoundError:
        return f"no {shown}"


def commit() -> str:
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--", "src", "bench")
    except (OSError, subprocess.CalledProcessError):
        return "unknown (no git here)"
    return f"{head} with uncommitted changes in src or bench" if changed else head


def _git(*arguments: str) -> str:
    command = ["git", "--no-optional-locks", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
