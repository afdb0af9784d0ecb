"""Gives a store as an agent fills it: the same functions, 64 entries a transaction, without the network's part."""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from understudy import limits
from understudy.agent.takeover import give_back, take_over
from understudy.model import values
from understudy.model.commit import Commit, Creation
from understudy.model.entry import Entry, Epoch, Location, names_session
from understudy.protocol import commands as c
from understudy.protocol.changes import Environment, perform
from understudy.store import DUE_STEP_MS_MAX, Transaction
from understudy.store.lmdb import LmdbStore
from understudy.store.opening import data_file

IDLE_TIMEOUT_MS = 1_800_000
INCARNATION = 7
KEY_BYTES = 16
SAMPLE = 5_000
"""About so many keys are kept, to be looked up."""
STORE_BYTES_MAX = 8 << 30
"""More than any benchmark fills; the file is sparse."""


class Filling:
    """One member's store, and what is put into it and taken out."""

    def __init__(self, directory: Path, bytes_max: int, member: str = "a") -> None:
        self.directory = directory
        self.store = LmdbStore(directory, copies=0, forget_ms=86_400_000, bytes_max=bytes_max, member=member)
        self._settings = c.Settings(member, INCARNATION, 1, copies=0)
        self._random = random.Random(1)
        self._sample: list[bytes] = []
        """Some of the keys that are there."""
        take_over(self.store, member, INCARNATION)

    def file_bytes(self) -> int:
        """What the file takes on the disk: it is sparse."""
        return data_file(self.directory).stat().st_blocks * 512

    def sessions(self) -> int:
        with self.store.view() as view:
            return view.counts().primary

    def fill(self, count: int, session_bytes: int) -> None:
        """So many new sessions."""
        sets = {
            "user": values.encode("anna@example.org", attribute="user"),
            "cart": values.encode("x" * (session_bytes - 30), attribute="cart"),
        }
        creation = Creation(IDLE_TIMEOUT_MS)

        def one() -> tuple[bytes, c.What]:
            commit = Commit(self._random.randbytes(8), self._random.randbytes(16), sets=sets, creates=creation)
            key = self._key()
            if self._random.random() * count < SAMPLE:
                self._sample.append(key)
            return key, c.DoCommit(0, commit)

        self._each(count, one)

    def look_ups(self, count: int) -> list[int]:
        """The times of so many reads of single sessions, in ns; none of an empty store."""
        times = []
        for key in self._random.choices(self._sample, k=count) if self._sample else ():
            began_ns = time.perf_counter_ns()
            entry = self.store.read(key).entry
            times.append(time.perf_counter_ns() - began_ns)
            assert isinstance(entry, Entry) and entry.attributes, "a session is not where it was put"
        return times

    def learn(self, count: int) -> None:
        """So many sessions of others: proxy entries."""
        location = Location("b", ("c",), Epoch(1, 1, 1))
        self._each(count, lambda: (self._key(), c.Learn(location, "b")))

    def _key(self) -> bytes:
        """A key as a session's id would give it, not one of a dictionary's part."""
        while True:
            key = self._random.randbytes(KEY_BYTES)
            if names_session(key):
                return key

    def _each(self, count: int, one: Callable[[], tuple[bytes, c.What]]) -> None:
        left = count
        while left:
            page = min(left, limits.BATCH_ENTRIES_MAX)
            with self.store.write() as transaction:
                now_ms = self.store.now_ms()
                for _ in range(page):
                    entry = self._change(transaction, *one(), now_ms)
                    assert entry is not None, "the store is full"
            left -= page

    def expire(self) -> int:
        """Everything, as if the idle timeout had passed; gives how many."""
        expired = 0
        self._sample.clear()
        while True:
            with self.store.write() as transaction:
                later_ms = self.store.now_ms() + IDLE_TIMEOUT_MS + DUE_STEP_MS_MAX
                keys = transaction.keys_due(later_ms, limits.BATCH_ENTRIES_MAX)
                for key in keys:
                    self._change(transaction, key, c.Expire(), later_ms)
            if not keys:
                return expired
            expired += len(keys)

    def _change(self, transaction: Transaction, key: bytes, what: c.What, now_ms: int) -> Entry | None:
        environment = Environment(self._settings, now_ms, transaction.next_number, transaction.is_nearly_full)
        return transaction.change(key, lambda entry: perform(what, entry, environment))[1]

    def end(self) -> None:
        """As a clean end of an agent leaves it."""
        give_back(self.store)
        self.store.close()


def proxy_bytes(count: int) -> float:
    """What a store's file grows by for each proxy entry, LMDB's pages included; in a store that holds nothing else."""
    directory = Path(tempfile.mkdtemp(prefix="us-bench-", dir="/tmp"))
    try:
        filling = Filling(directory, STORE_BYTES_MAX)
        before = filling.file_bytes()
        filling.learn(count)
        after = filling.file_bytes()
        filling.end()
    finally:
        shutil.rmtree(directory)
    return (after - before) / count
