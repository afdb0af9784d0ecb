"""Measures a failover as users see it: from a member's loss to the first answer elsewhere, of reads and of writes.

Real members with gunicorn, a steady load on all of them, and for each try new sessions whose primary is the member
that is then lost: killed (SIGKILL of all its processes), silent (SIGSTOP), or cut off (packets dropped both ways). The
moment of the loss is when the first of that is done. Then each session gets one request at another member, all at
once: half of them read, half write. A session's time is from the loss to its complete answer; an answer that lacks
what was acknowledged before, an error page, or none at all fails the run.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import random
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.system import network
from tests.system.cluster import Cluster, Visitor, keep_logs, sessions_cluster, wait_protected
from tests.system.load import Load
from tests.system.network import Network

from report import Meter, machine, quietness
from report import load as load_average
from section import Cell, Claim, Section, add_option, table, write_section

NAMES = ("a", "b", "c")
TRIES = 30
SESSIONS = 8
"""In each try; every second one reads, the others write."""
LOAD_VISITORS = 4
LOAD_PAUSE_S = 0.05
BEFORE_S, UNDER_WAY_S = 1.0, 0.1
"""Requests of so long before a loss are what is normal, but for those that may still be under way."""
LOSS_S = 3.0
"""A silent or cut-off member comes back after so long."""
TIMEOUT_S = 10.0
WAYS = ("kill", "stop", "cut")
SAID = {"kill": "killed", "stop": "silent", "cut": "cut off"}
TARGETS = {"kill": "killed", "stop": "silent", "cut": "silent"}
WANTED_MS = {"kill": (300, 600), "stop": (1000, 1500), "cut": (1000, 1500)}
"""Median and longest that we want."""


class Times(NamedTuple):
    """From the loss to the first answer elsewhere, in ms, one for each session."""

    reads: list[float]
    writes: list[float]
    wrong: list[str]
    periods_s: list[tuple[float, float]]
    """From each loss until all of that is answered."""


class Stage(NamedTuple):
    cluster: Cluster
    cables: Network | None
    load: Load


def main() -> int:
    """Measures and prints; gives 1 when an answer was wrong or a figure is beyond what we want."""
    options = _options()
    reason = network.why_not()
    ways = [way for way in options.ways if way != "cut" or reason is None]
    if "cut" in options.ways and reason is not None:
        print(f"failover: nothing is cut: {reason}", file=sys.stderr)
    chance = random.Random(options.seed)
    results = {way: Times([], [], [], []) for way in ways}
    tries = {way: options.tries if way == "kill" or options.others is None else options.others for way in ways}
    head = [*machine(), f"load average before: {load_average()}", f"seed: {options.seed}", ""]
    meter = Meter()
    with _started() as stage:
        for number in range(max(tries.values(), default=0)):
            for way in (way for way in ways if number < tries[way]):
                _try(stage, way, NAMES[number % len(NAMES)], results[way], chance)
                print(f"\r{number + 1} of {tries[way]}: {way}  ", end="", file=sys.stderr, flush=True)
        with contextlib.suppress(AssertionError):  # told below, without the members' logs
            stage.load.finish(NAMES)
        if failures := stage.load.failures:
            print(f"\nfailover: the members' logs are in {keep_logs(stage.cluster)}", file=sys.stderr)
    print(file=sys.stderr)
    lines, holds = told(results, tries)
    print("\n".join([*head, *lines, *(f"WRONG under load: {failure}" for failure in failures)]))
    if options.json is not None:
        write_section(
            _section(head, results, tries, list(stage.load.took), len(failures), meter.others()), options.json
        )
    return 0 if holds and not failures else 1


def told(results: dict[str, Times], tries: dict[str, int]) -> tuple[list[str], bool]:
    """The figures as lines, and whether all of them are as wanted."""
    lines = [f"{'ms from loss to answer':24}{'tries':>6}{'count':>7}{'median':>9}{'p90':>7}{'longest':>9}   wanted"]
    holds = True
    for way, times in results.items():
        wanted = WANTED_MS[way]
        for what, values in (("read", times.reads), ("write", times.writes)):
            ordered = sorted(values) or [float("inf")]
            median, p90 = statistics.median(ordered), ordered[min(len(ordered) - 1, len(ordered) * 9 // 10)]
            good = median <= wanted[0] and ordered[-1] <= wanted[1]
            verdict = f"{wanted[0]} and {wanted[1]}{'' if good else ': MISSED'}"
            figures = f"{tries[way]:>6}{len(values):>7}{median:>9.0f}{p90:>7.0f}{ordered[-1]:>9.0f}"
            lines.append(f"{way + ', ' + what:24}{figures}   {verdict}")
            holds &= good
        holds &= not times.wrong
    wrong = [f"WRONG: {what}" for times in results.values() for what in times.wrong]
    return [*lines, *wrong[:10], f"{len(wrong)} answers were wrong"], holds


def _section(
    head: list[str],
    results: dict[str, Times],
    tries: dict[str, int],
    took: list[tuple[float, float]],
    failures: int,
    others: float,
) -> Section:
    rows: list[tuple[Cell, ...]] = []
    claims: list[Claim] = []
    for way, times in results.items():
        median_wanted, longest_wanted = WANTED_MS[way]
        for what, values in (("read", times.reads), ("write", times.writes)):
            if not values:
                continue
            ordered = sorted(values)
            median, longest = statistics.median(ordered), ordered[-1]
            p90 = ordered[min(len(ordered) - 1, len(ordered) * 9 // 10)]
            rows.append((f"{SAID[way]}, {what}", len(values), median, p90, longest))
            claims.append(Claim(f"{SAID[way]}: a {what} answered elsewhere, median", median, median_wanted, "ms",
                                target=TARGETS[way]))  # fmt: skip
            claims.append(Claim(f"{SAID[way]}: a {what} answered elsewhere, longest", longest, longest_wanted, "ms",
                                target=TARGETS[way]))  # fmt: skip
    wrong = sum(len(times.wrong) for times in results.values())
    claims.append(Claim("answers that were wrong, unprotected or missing", wrong + failures, 0))
    return Section(
        "failover",
        "Failover",
        (*(line for line in head if line), f"load average after: {load_average()}", quietness(others)),
        (
            "Three real members under load: one of them is killed (SIGKILL of all its processes), made silent"
            " (SIGSTOP), or cut off (its packets are dropped in both directions), "
            + ", ".join(f"{SAID[way]} {count} times" for way, count in tries.items())
            + ". Eight sessions whose primary it was get one request each, at once, at another member. The time is from"
            " the loss to the complete answer. A write waits for what was promised to the lost member's workers, at"
            " most 250 ms from its last heartbeat; a read does not.",
            f"The load: {LOAD_VISITORS} visitors who use all members in turn. Who comes to a living member from the"
            " moment of a loss until those eight requests are answered is compared with who comes in the second before"
            " it. A visitor whose session's primary is the lost one waits as the eight do.",
        ),
        (
            table("From the loss to the answer, in ms", ("", "count", "median", "p90", "longest"), rows),
            table(
                "Requests of the load at living members, in ms",
                ("", "count", "median", "p99", "longest"),
                _of_load(results, took),
            ),
        ),
        (),
        tuple(claims),
        (
            "a session whose member is lost is answered late, once; with a Redis beside the web servers the loss of a"
            " web server delays nobody, and that of the Redis everybody",
        ),
        others,
    )


def _of_load(results: dict[str, Times], took: list[tuple[float, float]]) -> Iterator[tuple[Cell, ...]]:
    losses = {SAID[way]: times.periods_s for way, times in results.items()}
    before = [(lost_s - BEFORE_S, lost_s - UNDER_WAY_S) for of_way in losses.values() for lost_s, _ in of_way]
    for name, periods in {"in the second before a loss": before, **losses}.items():
        ordered = sorted(
            seconds * 1000 for began_s, seconds in took if any(since <= began_s <= until for since, until in periods)
        )
        if ordered:
            p99 = ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
            yield name, len(ordered), statistics.median(ordered), p99, ordered[-1]


@contextlib.contextmanager
def _started() -> Iterator[Stage]:
    with contextlib.ExitStack() as stack:
        cables = stack.enter_context(Network(NAMES)) if network.why_not() is None else None
        cluster = stack.enter_context(sessions_cluster(NAMES, cables.places() if cables else None))
        cluster.start()
        cluster.wait_ready()
        yield Stage(cluster, cables, Load(cluster, NAMES, LOAD_VISITORS, pause_s=LOAD_PAUSE_S))


def _try(stage: Stage, way: str, victim: str, times: Times, chance: random.Random) -> None:
    """One loss, measured, and its end."""
    cluster, load = stage.cluster, stage.load
    others = [name for name in NAMES if name != victim]
    visitors = [Visitor(cluster) for _ in range(SESSIONS)]
    for at, visitor in enumerate(visitors):
        visitor.browser.timeout_s = TIMEOUT_S
        visitor.protected(victim, "/login", name=str(at))
        visitor.protected(victim, "/set", name="x", value="before")
    time.sleep(chance.uniform(0.1, 0.6))
    with load.apart(victim) if way == "cut" else load.losing(victim):
        lost_s = _lose(stage, way, victim)
        askers = [
            threading.Thread(target=_ask, args=(visitor, at, others[at // 2 % 2], lost_s, times))
            for at, visitor in enumerate(visitors)
        ]
        for asker in askers:
            asker.start()
        for asker in askers:
            asker.join()
        times.periods_s.append((lost_s, time.monotonic()))
        time.sleep(max(0.0, lost_s + LOSS_S - time.monotonic()) if way != "kill" else 0.0)
        _end(stage, way, victim)
        cluster.wait_ready()
        wait_protected(cluster, NAMES)


def _lose(stage: Stage, way: str, victim: str) -> float:
    """Gives the moment before which nothing had happened yet."""
    if way == "kill":
        return stage.cluster.kill(victim)
    began_s = time.monotonic()
    if way == "stop":
        stage.cluster.pause(victim)
    else:
        assert stage.cables is not None
        stage.cables.isolate(victim)
    return began_s


def _end(stage: Stage, way: str, victim: str) -> None:
    ends: dict[str, Callable[[], None]] = {
        "kill": lambda: stage.cluster.start(victim),
        "stop": lambda: stage.cluster.resume(victim),
        "cut": lambda: stage.cables.heal() if stage.cables else None,
    }
    ends[way]()


def _ask(visitor: Visitor, at: int, member: str, lost_s: float, times: Times) -> None:
    """One request at another member; what it took."""
    reads = at % 2 == 0
    try:
        answer = visitor.ask(member, "/read") if reads else visitor.ask(member, "/set", name="y", value="after")
    except (OSError, http.client.HTTPException) as error:
        times.wrong.append(f"{member}: {error!r}")
        return
    took_ms = (time.monotonic() - lost_s) * 1000
    if answer.status != 200 or answer.json["before"] != {"user": str(at), "x": "before"}:
        times.wrong.append(f"{member} after {took_ms:.0f} ms: {answer.status} {answer.body[:100]!r}")
    elif not reads and not answer.protected:
        times.wrong.append(f"{member} after {took_ms:.0f} ms: a write without protection")
    else:
        (times.reads if reads else times.writes).append(took_ms)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tries", type=int, default=TRIES, help=f"of each way ({TRIES})")
    parser.add_argument("--others", type=int, help="tries of the ways other than kill, if fewer")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS, help="all of them")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="of the pauses between")
    add_option(parser)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
