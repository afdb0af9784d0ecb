"""``understudy simulate``: random histories of a small cluster, from seeds; says what was wrong and what occurred."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

from understudy.sim.history import run


def main(arguments: Sequence[str]) -> int:
    """Run histories; exit code 0 only if nothing was found wrong in any.

    Cost: about a second of one core a history.
    """
    parser = argparse.ArgumentParser(prog="understudy simulate", description="Run random histories of a small cluster.")
    parser.add_argument("--seeds", type=int, default=20, metavar="N", help="how many seeds, from --first on (20)")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="the first seed (0)")
    parser.add_argument("--seed", type=int, metavar="SEED", help="this one only")
    parser.add_argument("--members", type=int, default=3, choices=range(1, 9), help="members of the cluster (3)")
    parser.add_argument("--copies", type=int, default=1, choices=range(1, 4), help="backups of each session (1)")
    parser.add_argument("--trace", action="store_true", help="print what happened, line by line")
    given = parser.parse_args(arguments)
    seeds = range(given.first, given.first + given.seeds) if given.seed is None else [given.seed]
    began_s = time.monotonic()
    facts: dict[str, int] = {}
    failed = operations = protected = 0
    for seed in seeds:
        report = run(seed, trace=given.trace, members=given.members, copies=given.copies)
        operations += report.operations
        protected += report.protected_writes
        for kind, times in report.facts.items():
            facts[kind] = facts.get(kind, 0) + times
        for line in report.trace:
            print(line)
        if report.problems:
            failed += 1
            print(f"seed {seed}: {len(report.problems)} problems, the first: {report.problems[0]}")
    for kind, times in sorted(facts.items()):
        print(f"    {kind:24} {times}")
    print(
        f"{len(seeds)} histories, {operations} operations, {protected} acknowledged writes, {failed} histories with "
        f"problems, {time.monotonic() - began_s:.0f} s"
    )
    return 1 if failed else 0
