"""``understudy simulate``: histories of a small cluster from seeds; says what was wrong and what occurred."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from understudy.sim.history import Report, run
from understudy.sim.plan import PROFILES, Plan, draw
from understudy.sim.shrink import shrunk
from understudy.sim.swarm import Summary, swarm

PROBLEMS_SHOWN = 3
COVERING_SEEDS = 1_000
"""A run of so many seeds of all kinds has to have seen every kind of fact that the engine can emit."""


def main(arguments: Sequence[str]) -> int:
    """Run histories; exit code 0 only if all held in each, and a long run has seen everything.

    Cost: below a second of one core a history.
    """
    given = _parser().parse_args(arguments)
    if given.plan is not None:
        return _one(msgspec.json.decode(given.plan.read_bytes(), type=Plan), given)
    if given.seed is not None:
        return _one(draw(given.seed, given.profile), given)
    return _many(given.first, given.seeds, given.profile, given.jobs)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="understudy simulate", description="Run histories of a small cluster.")
    parser.add_argument("--seeds", type=int, default=20, metavar="N", help="how many seeds, from --first on (20)")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="the first seed (0)")
    parser.add_argument("--seed", type=int, metavar="SEED", help="this one only")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="J", help="processes (all cores)")
    parser.add_argument("--profile", default="", choices=["", *PROFILES], help="only this kind of history")
    parser.add_argument("--plan", type=Path, metavar="FILE", help="this history only, as --shrink has written it")
    parser.add_argument("--trace", action="store_true", help="of one history: print what happened, line by line")
    parser.add_argument("--shrink", action="store_true", help="make a failing history as small as it can be")
    return parser


def _one(plan: Plan, given: argparse.Namespace) -> int:
    if given.shrink:
        plan = shrunk(plan, lambda text: print(text, flush=True))
        path = Path(f"understudy-seed-{plan.seed}.json")
        path.write_bytes(msgspec.json.format(msgspec.json.encode(plan)))
        for fault in plan.faults:
            print(f"    fault: {fault}")
        for number, user in enumerate(plan.users):
            for operations in user.tabs:
                for operation in operations:
                    print(f"    user{number}: {operation}")
        print(f"written to {path}; run it again with: understudy simulate --plan {path} --trace")
    return _said(run(plan, trace=given.trace))


def _said(report: Report) -> int:
    for line in report.trace:
        print(line)
    for problem in report.problems:
        print(f"seed {report.seed} ({report.profile}): {problem}")
    print(
        f"seed {report.seed} ({report.profile}): {report.operations} operations, {report.protected_writes} acknowledged"
        f" writes, {report.lasted_ms / 1000:.1f} simulated seconds, {len(report.problems)} problems"
    )
    return 1 if report.problems else 0


def _many(first: int, count: int, profile: str, jobs: int) -> int:
    began_s = time.monotonic()
    summary = Summary()
    for report in swarm(first, count, profile=profile, jobs=jobs):
        summary.add(report)
        for problem in report.problems[:PROBLEMS_SHOWN]:
            print(f"seed {report.seed} ({report.profile}): {problem}", flush=True)
    for kind, times in sorted(summary.facts.items()):
        print(f"    {kind:24} {times}")
    if summary.missing:
        print(f"never occurred: {', '.join(summary.missing)}")
    print(f"histories: {', '.join(f'{times} {name}' for name, times in sorted(summary.profiles.items()))}")
    print(
        f"{summary.histories} histories, {summary.operations} operations, {summary.protected_writes} acknowledged"
        f" writes, lost {summary.lost}, resurrected {summary.resurrected},"
        f" {len(summary.failed)} histories with problems, {time.monotonic() - began_s:.0f} s"
    )
    return exit_code(summary, of_all_kinds=not profile)


def exit_code(summary: Summary, *, of_all_kinds: bool) -> int:
    """0 if all held, and, of a long run of all kinds of histories, if nothing is missing that may happen."""
    is_covering = of_all_kinds and summary.histories >= COVERING_SEEDS
    return 1 if summary.failed or (is_covering and summary.missing) else 0
