"""Measures where the agents' own time goes in a protected write: two executors over two LMDB stores in one process.

    python bench/write_parts.py [--writes N]

No sockets and no other process: messages are encoded and decoded, and handed over by hand. A timer of the process' own
CPU time looks at the stack again and again; what it finds is given by part of the code, in µs for each write.
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import time
from collections import Counter, deque
from pathlib import Path
from types import FrameType

from report import load, machine
from understudy.agent.executor import Executor
from understudy.model.commit import Commit, Creation, Outcome
from understudy.model.ids import KEY_BYTES
from understudy.protocol import commands as c
from understudy.protocol import messages as m
from understudy.store.lmdb import LmdbStore

SIZE_BYTES = 190
SESSIONS = 200
LOOK_S = 0.0005
PARTS = (
    ("carrying out: agent/executor", "agent/"),
    ("deciding: protocol", "protocol/"),
    ("merging and checking: model", "model/"),
    ("rows and transactions: store", "store/"),
)
READY_S_MAX = 10.0


class Member:
    """An executor over a store, and what lies before it."""

    def __init__(self, name: str, incarnation: int, directory: Path) -> None:
        self.name, self.incarnation = name, incarnation
        self.answers: list[m.FetchAnswer | m.CommitAnswer] = []
        self.frames: deque[bytes] = deque()
        self.peer = self
        self.turns = 0
        self.has_more = False
        """Work of its own, without anything that has arrived."""
        self.store = LmdbStore(directory / name, copies=1, forget_ms=86_400_000, member=name)
        self.executor = Executor(
            self.store,
            c.Settings(name, incarnation, incarnation),
            send=self._send,
            reply=lambda _, answer: self.answers.append(answer),
            publish=lambda *_: None,
            tell=lambda _: None,
        )

    def go(self, *events: c.Event) -> None:
        """One turn, if there is anything to do."""
        for event in events:
            self.executor.submit(event)
        has_work = bool(events or self.frames or self.has_more)
        while self.frames:
            message = m.decode_member_message(self.frames.popleft())
            self.executor.submit(c.Received(self.peer.name, self.peer.incarnation, message))
        if has_work:
            self.turns += 1
            self.has_more = self.executor.turn()
            self.executor.deadline_ms()

    def _send(self, to: str, message: m.MemberMessage) -> None:
        """As a network: to the peer, if it is that one that is meant; encoded."""
        frame = m.encode(message)
        if to == self.peer.name:
            self.peer.frames.append(frame)


def main() -> None:
    """Measures, prints."""
    parser = argparse.ArgumentParser(description="Where the agents' time goes in a protected write.")
    parser.add_argument("--writes", type=int, default=10_000, help="how many writes are looked at (10000)")
    writes = parser.parse_args().writes
    with tempfile.TemporaryDirectory(prefix="us-bench-", dir="/tmp") as directory:
        a, b = _joined(Path(directory))
        keys = [bytes(1) + os.urandom(KEY_BYTES - 1) for _ in range(SESSIONS)]
        for key in keys:
            _write(a, b, key, Commit(os.urandom(8), b"s" * 8, {"user": b"x" * 20}, creates=Creation(1_800_000)))
        seen: Counter[str] = Counter()
        a.turns = b.turns = 0
        signal.signal(signal.SIGPROF, lambda _, frame: seen.update([part_of(frame)]))
        began_s = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, LOOK_S, LOOK_S)
        for number in range(writes):
            _write(a, b, keys[number % SESSIONS], Commit(os.urandom(8), b"s" * 8, {"cart": os.urandom(SIZE_BYTES)}))
        signal.setitimer(signal.ITIMER_PROF, 0)
        took_us = (time.process_time() - began_s) * 1_000_000 / writes
    print("\n".join(machine()))
    print(f"load average (1, 5, 15 min): {load()}")
    print(f"{writes} protected writes of {SIZE_BYTES} bytes: {took_us:.0f} µs of CPU each at both agents together,")
    print(f"{a.turns / writes:.2f} turns at the primary, {b.turns / writes:.2f} at the backup")
    for part in (*(name for name, _ in PARTS), "the rest"):
        print(f"    {part:34}{took_us * seen[part] / max(1, seen.total()):6.0f} µs")


def _joined(directory: Path) -> tuple[Member, Member]:
    a, b = Member("a", 11, directory), Member("b", 22, directory)
    join(a, b)
    return a, b


def join(a: Member, b: Member) -> None:
    """Let both see each other, and everything that the other tells when it is found."""
    a.peer, b.peer = b, a
    for member in (a, b):
        member.go(c.PeerFound(member.peer.name, member.peer.incarnation), c.Started((), False, True))
    deadline_s = time.monotonic() + READY_S_MAX
    while not (a.executor.engine.ready and b.executor.engine.ready):
        assert time.monotonic() < deadline_s, "the two members do not see each other"
        a.go(c.Ticked())
        b.go(c.Ticked())


def _write(a: Member, b: Member, key: bytes, commit: Commit) -> None:
    a.go(c.Requested(1, m.CommitRequest(1, key, commit, m.AcknowledgeMode.BACKUP)))
    while not a.answers:
        b.go()
        a.go()
    answer = a.answers.pop()
    assert isinstance(answer, m.CommitAnswer) and answer.outcome is Outcome.COMMITTED and answer.protected


def part_of(frame: FrameType | None) -> str:
    """The part that the innermost frame of ours belongs to."""
    while frame is not None:
        _, _, path = frame.f_code.co_filename.rpartition("/understudy/")
        for name, folder in PARTS:
            if path.startswith(folder):
                return name
        frame = frame.f_back
    return "the rest"


if __name__ == "__main__":
    main()
