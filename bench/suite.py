"""Runs the benchmarks one after another, each in a process of its own and short, and writes docs/benchmarks.md anew.

    python bench/suite.py [NAME ...]

What ran leaves its result in bench/results; what did not (a tool is missing, a run failed) keeps the one that is
there, which says itself from which commit and machine it came. Exit codes: 0 all ran, 1 some did not.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import time
from typing import NamedTuple

from page import RESULTS
from report import ROOT

BENCH = ROOT / "bench"
END_S_MAX = 30.0
SUITE_S_MAX = 840.0
"""Less than a quarter of an hour, whatever the machine is like: what has not run by then is named, and not run."""


class Part(NamedTuple):
    """One benchmark: its file, and what makes it short."""

    file: str
    arguments: tuple[str, ...]
    seconds_max: float
    """Ended then: the suite has a bound, whatever goes wrong."""


PARTS = {
    "request_path": Part("request_path.py", ("--seconds", "25"), 90),
    "apart": Part("apart.py", ("--seconds", "18"), 75),
    "hops": Part("hops.py", ("--rounds", "10"), 75),
    "web_tax": Part("web_tax.py", ("--seconds", "0.25"), 240),
    "beside_tomcat": Part("beside_tomcat.py", ("--rounds", "3", "--seconds", "0.3"), 270),
    "failover": Part("failover.py", ("--tries", "30", "--others", "5"), 270),
    "reprotection": Part("reprotection.py", (), 200),
    "agent": Part("agent.py", (), 60),
    "growth": Part("growth.py", (), 150),
    "store": Part("store.py", ("--seconds", "0.5"), 180),
}


def main() -> int:
    parser = argparse.ArgumentParser(description="All benchmarks, and the page that shows them.")
    parser.add_argument("parts", nargs="*", metavar="NAME", help=f"some of: {', '.join(PARTS)}; all of them")
    options = parser.parse_args()
    if unknown := [name for name in options.parts if name not in PARTS]:
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(PARTS)}")
    began_s = time.monotonic()
    parts = options.parts or list(PARTS)
    until_s = began_s + SUITE_S_MAX if len(parts) > 1 else math.inf
    failed = [name for name in parts if not _ran(name, PARTS[name], until_s)]
    subprocess.run([sys.executable, str(BENCH / "page.py")], check=True)
    print(f"bench: {time.monotonic() - began_s:.0f} s" + (f"; did not run: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


def _ran(name: str, part: Part, until_s: float) -> bool:
    """True if it left a new result, whatever it thinks of its figures."""
    seconds_max = min(part.seconds_max, until_s - time.monotonic())
    if seconds_max < part.seconds_max / 2:
        return False
    print(f"\n=== {name} ===", flush=True)
    result, began_s, started_s = RESULTS / f"{name}.json", time.time(), time.monotonic()
    command = [sys.executable, str(BENCH / part.file), *part.arguments, "--json", str(result)]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        process.wait(seconds_max)
    except subprocess.TimeoutExpired:
        print(f"bench: {name} is ended after {seconds_max:.0f} s", file=sys.stderr)
    except BaseException:
        _end(process)
        raise
    _end(process)
    print(f"=== {name}: {time.monotonic() - started_s:.0f} s ===", flush=True)
    return result.exists() and result.stat().st_mtime >= began_s


def _end(process: subprocess.Popen[bytes]) -> None:
    """Asked first: a benchmark ends what it has started."""
    process.terminate()
    try:
        process.wait(END_S_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


if __name__ == "__main__":
    sys.exit(main())
