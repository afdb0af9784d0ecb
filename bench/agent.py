"""Measures the agent by itself: protected commits that come at once, its memory, and what importing an adapter takes.

python bench/agent.py [--seconds S] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from report import ROOT, Meter, cpu_us, load, machine, quietness
from section import Claim, Section, add_option, hand_over, table
from started import Started, StartError, wait_for_leases
from understudy.client.runtime import Client, Runtime
from understudy.errors import UnderstudyError
from workers import begin

AT_ONCE = 128
"""Requests that wait for their copy at the same time, each with a session of its own."""
IMPORTS = 20
STATEMENTS = {
    "Flask": "import flask",
    "Flask and understudy.flask": "import flask, understudy.flask",
    "understudy": "import understudy",
}


class Commits(NamedTuple):
    """What came of so many requests at once."""

    count: int
    seconds: float
    cpu_us: dict[str, float]
    """Process -> CPU time for each commit."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Commits at once, memory, and the time of an import.")
    parser.add_argument("--seconds", type=float, default=5.0, help="of commits (5)")
    add_option(parser)
    options = parser.parse_args()
    load_before, meter = load(), Meter()
    try:
        with Started() as started:
            config = started.members()
            client = Runtime(lambda: config).client()
            wait_for_leases(client)
            idle_bytes = _own_bytes(started.pids["agent a"])
            commits = asyncio.run(_commit(client, started, options.seconds))
            client.member.close()
    except (StartError, UnderstudyError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    imports_ms = _imports_ms()
    others = meter.others()
    run = (*machine(), f"load average: {load_before} before, {load()} after", quietness(others),
           f"run: {commits.count} commits in {commits.seconds:.1f} s, {AT_ONCE} at once")  # fmt: skip
    hand_over(_section(run, commits, idle_bytes, imports_ms, others), options.json)
    return 0


async def _commit(client: Client, started: Started, seconds: float) -> Commits:
    """So many requests at once, each again as soon as it was answered."""
    cookies = [begin(client) for _ in range(AT_ONCE)]
    count = 0

    async def visit(cookie: str, until_s: float) -> None:
        nonlocal count
        while time.monotonic() < until_s:
            session = client.begin(cookie)
            session["number"] += 1
            await client.afinish(session)
            assert session.protected, "a commit has no copy"
            count += 1

    async def all_visit(for_s: float) -> None:
        until_s = time.monotonic() + for_s
        await asyncio.gather(*(visit(cookie, until_s) for cookie in cookies))

    pids = {"the primary's agent": started.pids["agent a"], "the backup's agent": started.pids["agent b"],
            "the worker": os.getpid()}  # fmt: skip
    await all_visit(0.5)
    before = {name: cpu_us([pid]) for name, pid in pids.items() if name != "the worker"}
    before_own_s, count, began_s = time.process_time(), 0, time.monotonic()
    await all_visit(seconds)
    took_s, own_us = time.monotonic() - began_s, (time.process_time() - before_own_s) * 1e6
    spent = {name: (cpu_us([pids[name]]) - was) / count for name, was in before.items()}
    return Commits(count, took_s, {**spent, "the worker": own_us / count})


def _own_bytes(pid: int) -> int:
    """What the process holds in memory, without the pages of the store's file, which it shares with everybody."""
    rss_kb, of_store = 0, False
    for line in Path(f"/proc/{pid}/smaps").read_text("utf-8").splitlines():
        name = line.partition(" ")[0]
        if not name.endswith(":"):
            of_store = line.endswith("data.mdb")
        elif name == "Rss:" and not of_store:
            rss_kb += int(line.split()[1])
    return rss_kb * 1024


def _imports_ms() -> dict[str, float]:
    """CPU time of a new interpreter that does each of ``STATEMENTS`` and no more: medians of several, in turns.

    Everything is compiled beforehand, as it is where it was installed.
    """
    times: dict[str, list[float]] = {what: [] for what in STATEMENTS}
    with tempfile.TemporaryDirectory() as compiled:
        environ = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONPYCACHEPREFIX": compiled}
        environ.pop("PYTHONDONTWRITEBYTECODE", None)
        for turn in range(1 + IMPORTS):
            for what, statement in STATEMENTS.items():
                code = f"{statement}; import time; print(time.process_time())"
                result = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, check=True)
                if turn:  # the first one compiles
                    times[what].append(float(result.stdout) * 1000)
    return {what: statistics.median(taken) for what, taken in times.items()}


def _section(
    run: tuple[str, ...], commits: Commits, idle_bytes: int, imports_ms: dict[str, float], others: float
) -> Section:
    agent_us = commits.cpu_us["the primary's agent"]
    added_ms = imports_ms["Flask and understudy.flask"] - imports_ms["Flask"]
    return Section(
        "agent",
        "The agent by itself",
        run,
        (
            f"{AT_ONCE} requests at once, in one worker with an event loop, change a number in a session of 1 kB each"
            " and wait until a second member has the change. The rate is what all processes together reach on this"
            " machine; CPU time is what one commit costs each of them, and says how many a core could do.",
            "Memory: of an agent with one peer that has just become ready, without the pages of the store's file."
            " Imports: CPU time of a new interpreter; all modules are compiled, as where they were installed.",
        ),
        (
            table(
                "Protected commits at once",
                ("", "µs of CPU a commit", "commits a second of one core"),
                [(name, spent_us, 1e6 / spent_us) for name, spent_us in commits.cpu_us.items()],
                f"All together: {commits.count / commits.seconds:,.0f} commits a second.",
            ),
            table("Importing", ("", "ms"), list(imports_ms.items())),
        ),
        (),
        (
            Claim(
                "protected commits a second on one core of the agent",
                1e6 / agent_us,
                10_000,
                at_least=True,
                target="agent",
            ),
            Claim("an idle agent's own memory", idle_bytes / 1e6, 60, "MB", target="agent"),
            Claim("understudy.flask imported, beyond Flask", added_ms, 60, "ms", target="import"),
        ),
        (),
        others,
    )


if __name__ == "__main__":
    sys.exit(main())
