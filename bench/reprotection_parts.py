"""Measures where the agents' own time goes when sessions get a new copy: two executors over two LMDB stores in one
process.

    python bench/reprotection_parts.py [--sessions N]

A member holds all of them, and the holder of their copies is lost; the other member here is to take them. No sockets
and no other process, as in ``write_parts.py``: CPU time in µs for each session, of either agent's code and by part.
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path

from msgspec.structs import replace

from report import load, machine
from understudy.model.commit import Commit, Creation, Stamp, created
from understudy.model.ids import KEY_BYTES
from understudy.protocol import commands as c
from understudy.store.lmdb import LmdbStore
from write_parts import LOOK_S, PARTS, Member, join, part_of

SESSION_BYTES = 1_000
LOST, LOST_INCARNATION = "b", 22
PAGE = 64
PROTECTED_S_MAX = 120.0


def main() -> None:
    """Measures, prints."""
    parser = argparse.ArgumentParser(description="Where the agents' time goes when sessions get a new copy.")
    parser.add_argument("--sessions", type=int, default=10_000, help="how many get one (10000)")
    sessions = parser.parse_args().sessions
    with tempfile.TemporaryDirectory(prefix="us-bench-", dir="/tmp") as directory:
        _fill(Path(directory) / "a", sessions)
        holder, new = Member("a", 11, Path(directory)), Member("c", 33, Path(directory))
        holder.go(c.PeerFound(LOST, LOST_INCARNATION))
        join(holder, new)
        holder.go(c.PeerLost(LOST, LOST_INCARNATION))
        seen: Counter[tuple[str, str]] = Counter()
        spent_s = _protect(holder, new, seen)
    print("\n".join(machine()))
    print(f"load average (1, 5, 15 min): {load()}")
    print(f"{sessions} sessions of {SESSION_BYTES} bytes get a new copy; µs of CPU for each:")
    for member, what in ((holder, "at the primary's agent"), (new, "at the new holder's")):
        took_us = spent_s[member.name] * 1_000_000 / sessions
        print(f"{what}: {took_us:.0f} µs, {sessions / member.turns:.1f} in a turn")
        looks = sum(count for (name, _), count in seen.items() if name == member.name)
        for part in (*(name for name, _ in PARTS), "the rest"):
            print(f"    {part:34}{took_us * seen[member.name, part] / max(1, looks):6.0f} µs")


def _fill(directory: Path, sessions: int) -> None:
    """Sessions with a copy at the member that will be lost."""
    store = LmdbStore(directory, copies=1, forget_ms=86_400_000, member="a")
    now_ms = store.now_ms()
    for start in range(0, sessions, PAGE):
        with store.write() as transaction:
            for _ in range(min(PAGE, sessions - start)):
                sets = {"user": b"x" * 20, "cart": os.urandom(SESSION_BYTES - 20)}
                commit = Commit(os.urandom(8), b"s" * 8, sets, creates=Creation(1_800_000))
                stamp = Stamp("a", 11, transaction.next_number(), now_ms, 10_000, 1 << 20)
                _, entry = created(commit, stamp, (LOST,), 1)
                assert entry is not None
                transaction.put(bytes(1) + os.urandom(KEY_BYTES - 1), replace(entry, number=0))
    store.close()


def _protect(holder: Member, new: Member, seen: Counter[tuple[str, str]]) -> dict[str, float]:
    """Until no session names the lost member; gives each member's CPU time."""
    while not holder.executor.engine.describe()["sweeping"]["sessions_in_flight"]:
        for member in (holder, new):
            _go(member)
    spent_s = {holder.name: 0.0, new.name: 0.0}
    holder.turns = new.turns = 0
    now = holder
    signal.signal(signal.SIGPROF, lambda _, frame: seen.update([(now.name, part_of(frame))]))
    signal.setitimer(signal.ITIMER_PROF, LOOK_S, LOOK_S)
    deadline_s = time.monotonic() + PROTECTED_S_MAX
    while _is_named(holder.store, LOST):
        assert time.monotonic() < deadline_s, "not every session has its copy"
        for now in (holder, new):
            began_s = time.process_time()
            _go(now)
            spent_s[now.name] += time.process_time() - began_s
    signal.setitimer(signal.ITIMER_PROF, 0)
    return spent_s


def _go(member: Member) -> None:
    """What has arrived, what is due, and what it has to do by itself."""
    is_due = member.executor.deadline_ms() <= member.executor.now_ms()
    member.go(*([c.Ticked()] if is_due else []))


def _is_named(store: LmdbStore, name: str) -> bool:
    with store.view() as view:
        return bool(view.keys_of(name, None, 1))


if __name__ == "__main__":
    main()
