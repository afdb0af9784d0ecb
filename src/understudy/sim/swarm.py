"""Many histories from successive seeds, on all cores, and what they gave together."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Iterator

from understudy.protocol.commands import FactKind
from understudy.sim.history import Report, run
from understudy.sim.plan import draw

SEEDS_PER_TASK = 4
_LOST = ("was over at", "was not found", "the counter of")
_RESURRECTED = ("which has ended", "which had expired", "back from its tombstone", "replaced at")
"""How the checkers say it."""


class Summary:
    """What a swarm gave."""

    def __init__(self) -> None:
        self.histories = self.operations = self.protected_writes = self.unavailable = 0
        self.facts: Counter[str] = Counter()
        self.profiles: Counter[str] = Counter()
        self.failed: dict[int, list[str]] = {}
        self.lost = self.resurrected = 0
        """Judgements of that kind."""

    def add(self, report: Report) -> None:
        self.histories += 1
        self.operations += report.operations
        self.protected_writes += report.protected_writes
        self.unavailable += report.unavailable
        self.facts.update(report.facts)
        self.profiles[report.profile] += 1
        if report.problems:
            self.failed[report.seed] = report.problems
            self.lost += _count(report.problems, _LOST)
            self.resurrected += _count(report.problems, _RESURRECTED)

    @property
    def missing(self) -> list[str]:
        """Kinds of facts that the engine can emit and that have not occurred."""
        return [kind for kind in FactKind if not self.facts[kind]]


def swarm(first: int, count: int, *, profile: str = "", jobs: int = 1) -> Iterator[Report]:
    """The reports of ``count`` histories, in the order in which they end.

    Cost: below a second of one core each.
    """
    tasks = [(seed, profile) for seed in range(first, first + count)]
    if jobs == 1:
        yield from map(_run, tasks)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(_run, tasks, SEEDS_PER_TASK)


def _run(task: tuple[int, str]) -> Report:
    seed, profile = task
    return run(draw(seed, profile))


def _count(problems: list[str], words: tuple[str, ...]) -> int:
    return sum(any(word in problem for word in words) for problem in problems)
