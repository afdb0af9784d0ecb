"""`make soak`: random faults from a seed, one at a time, under a bounded load; then an account of what visitors saw.

A fault begins at a random moment and is over when all members are ready and every session has its copies again: so
every promise for one failure at a time must hold, and the account must show nothing lost, stale, doubled, brought back
or refused. ``python -m tests.system.soak --help`` shows what can be chosen.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from tests.system import network
from tests.system.account import Wrong
from tests.system.cluster import Cluster, check_store, keep_logs, replace_agent, sessions_cluster, wait_protected
from tests.system.load import ERROR_PAGE, SILENT, Load
from tests.system.network import Network

NAMES = ("a", "b", "c")
WORKERS = 2
VISITORS = 8
PAUSE_S = 0.02
"""Between two requests of a visitor, on average: some two hundred requests a second in all, which two cores carry."""
SECONDS = 20 * 60.0
CALM_S_MAX = 1.5
SHOWN_MAX = 10


class Stage(NamedTuple):
    """What a fault works on."""

    cluster: Cluster
    cables: Network | None
    load: Load
    chance: random.Random

    def member(self) -> str:
        return self.chance.choice(NAMES)

    def pair(self) -> tuple[str, str]:
        one, other = self.chance.sample(NAMES, 2)
        return one, other

    def sleep(self, least_s: float, most_s: float) -> None:
        time.sleep(self.chance.uniform(least_s, most_s))


# --- faults: each does its harm, and ends it ----------------------------------------------------------------------


def worker_killed(stage: Stage) -> None:
    """kill -9 of one worker; the requests that it was serving have no answer."""
    name = stage.member()
    with stage.load.losing(name, visited=True):
        stage.cluster.kill_worker(name)
        stage.cluster.wait(lambda: len(stage.cluster.worker_pids(name)) == WORKERS, "a new worker is there")


def agent_killed(stage: Stage) -> None:
    """kill -9 of one agent; every request is answered all the same."""
    replace_agent(stage.cluster, stage.member())


def member_killed(stage: Stage) -> None:
    """kill -9 of everything of one member, which starts again at once or later, now and then without its store."""
    name = stage.member()
    with stage.load.losing(name):
        stage.cluster.kill(name)
        stage.sleep(0, stage.chance.choice((0.1, 6)))
        if stage.chance.random() < 0.25:
            stage.cluster.wipe(name)
        stage.cluster.start(name)
        stage.cluster.wait_ready()


def member_restarted(stage: Stage) -> None:
    """An orderly stop of one member under load, and its start."""
    name = stage.member()
    with stage.load.losing(name):
        stage.cluster.stop(name)
        stage.cluster.start(name)
        stage.cluster.wait_ready()


def member_paused(stage: Stage) -> None:
    """SIGSTOP of everything of one member; it is visited again the moment it goes on."""
    name = stage.member()
    with stage.load.losing(name):
        stage.cluster.pause(name)
        stage.sleep(0.1, stage.chance.choice((1, 10)))
        stage.cluster.resume(name)


def pair_cut(stage: Stage) -> None:
    """Two members do not hear each other, the third hears both."""
    assert stage.cables is not None
    stage.cables.cut(*stage.pair())
    stage.sleep(0.1, 6)
    stage.cables.heal()


def one_way_cut(stage: Stage) -> None:
    """One member does not hear another one, which hears it."""
    assert stage.cables is not None
    stage.cables.deafen(*stage.pair())
    stage.sleep(0.1, 6)
    stage.cables.heal()


def link_flapping(stage: Stage) -> None:
    """The link between two members comes and goes."""
    assert stage.cables is not None
    down_s, up_s = stage.chance.uniform(0.05, 0.6), stage.chance.uniform(0.05, 0.6)
    with stage.cables.flapping(*stage.pair(), down_s, up_s):
        stage.sleep(1, 5)


def member_isolated(stage: Stage) -> None:
    """One member hears nobody; visitors stay on the side that serves their session, until the sides have merged."""
    assert stage.cables is not None
    name = stage.member()
    with stage.load.apart(name):
        stage.cables.isolate(name)
        stage.sleep(0.1, 6)
        stage.cables.heal()
        settle(stage)


KILLS: tuple[Callable[[Stage], None], ...] = (worker_killed, agent_killed, member_killed)
STOPS: tuple[Callable[[Stage], None], ...] = (member_restarted, member_paused)
CUTS: tuple[Callable[[Stage], None], ...] = (pair_cut, one_way_cut, link_flapping, member_isolated)
FAULTS = {fault.__name__.replace("_", "-"): fault for fault in (*KILLS, *STOPS, *CUTS)}


def settle(stage: Stage) -> None:
    """Until the fault is over for good: all are ready and every session has its copies."""
    stage.cluster.wait_ready()
    wait_protected(stage.cluster, NAMES)


# --- the run ------------------------------------------------------------------------------------------------------


class Plan(NamedTuple):
    """What a run does. It ends at the first of its limits."""

    seed: int
    chosen: tuple[str, ...]
    """Names of faults."""
    seconds: float
    faults: int
    pause_s: float
    """Between two requests of a visitor, on average."""


def run(plan: Plan) -> int:
    """Gives the exit code: 0 if all held. Prints each fault, and the account."""
    chance, done = random.Random(plan.seed), Counter[str]()
    needs_cables = any(FAULTS[name] in CUTS for name in plan.chosen)
    cables = Network(NAMES) if needs_cables else None
    began_s = time.monotonic()
    try:
        with sessions_cluster(NAMES, cables.places() if cables else None) as cluster:
            cluster.start()
            cluster.wait_ready()
            load = Load(cluster, NAMES, VISITORS, logouts=True, pause_s=plan.pause_s, seed=plan.seed)
            stage = Stage(cluster, cables, load, chance)
            trouble = ""
            try:
                while time.monotonic() - began_s < plan.seconds and done.total() < plan.faults and not load.failures:
                    stage.sleep(0, CALM_S_MAX)
                    fault = chance.choice(plan.chosen)
                    print(f"{time.monotonic() - began_s:7.1f} s  {fault}", flush=True)
                    FAULTS[fault](stage)
                    done[fault] += 1
                    settle(stage)
                load.finish(NAMES)
                for name in NAMES:
                    check_store(cluster, name)
            except (Exception, KeyboardInterrupt) as error:
                # Its other lines are the ends of the logs.
                trouble = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            load.end.set()
            holds = not trouble and not load.failures
            print(describe(plan.seed, time.monotonic() - began_s, done, load, trouble))
            if not holds:
                print(f"The members' logs are in {keep_logs(cluster)}")
            return 0 if holds else 1
    finally:
        if cables is not None:
            cables.close()


def describe(seed: int, seconds: float, done: Counter[str], load: Load, trouble: str) -> str:
    """The account as lines for a person."""
    counts, wrongs = load.counts(), load.wrongs
    lines = [
        "",
        f"    seed {seed}, {seconds:.0f} s, {done.total()} faults: "
        + ", ".join(f"{name} {number}" for name, number in sorted(done.items())),
        "",
        f"    requests                {counts.requests}  ({counts.unanswered} without an answer)",
        f"    sessions                {counts.sessions}, of which {counts.ended} were ended and tried afterwards",
        f"    acknowledged changes    {counts.acknowledged}  (and {counts.unprotected} answered as unprotected)",
        *(f"    {wrong + ':':<40} {wrongs[wrong]}" for wrong in (*Wrong, ERROR_PAGE, SILENT)),
        "",
        *load.failures[:SHOWN_MAX],
        *filter(None, [trouble]),
        "NOT all held." if trouble or load.failures else "All held.",
    ]
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """The command; gives the exit code."""
    parser = argparse.ArgumentParser(prog="soak", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="of all choices; default: any")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"how long; default: {SECONDS:.0f}")
    parser.add_argument("--faults", type=int, default=1_000_000, help="how many at most")
    parser.add_argument("--only", default="", help=f"some of {', '.join(FAULTS)}; or kills; default: all")
    parser.add_argument("--pause", type=float, default=PAUSE_S, help=f"of a visitor between two requests ({PAUSE_S})")
    given = parser.parse_args(arguments)
    only = [fault.__name__.replace("_", "-") for fault in KILLS] if given.only == "kills" else given.only.split(",")
    if given.only and (unknown := set(only) - FAULTS.keys()):
        parser.error(f"no such fault: {', '.join(sorted(unknown))}")
    chosen = tuple(only) if given.only else tuple(FAULTS)
    if any(FAULTS[name] in CUTS for name in chosen) and (reason := network.why_not()) is not None:
        print(f"soak: without cut networks: {reason}", file=sys.stderr)
        chosen = tuple(name for name in chosen if FAULTS[name] not in CUTS)
    print(f"soak: seed {given.seed}, {given.seconds:.0f} s or {given.faults} faults of {', '.join(chosen)}", flush=True)
    return run(Plan(given.seed, chosen, given.seconds, given.faults, given.pause))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
