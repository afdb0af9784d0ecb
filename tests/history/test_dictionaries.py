"""Parts of dictionaries that several members begin at the same instant: over the memory transport, from seeds."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from msgspec.structs import replace
from tests.history.test_scenarios import USER, Cluster

from understudy.client.answers import DONE
from understudy.client.conversation import overwrite, read_entry, settle
from understudy.client.visit import NO_SESSION
from understudy.client.visit import World as ClientWorld
from understudy.model import values
from understudy.model.commit import Commit, Creation, dots_of
from understudy.model.entry import Entry
from understudy.protocol.messages import CommitAnswer
from understudy.sim.workers import Handling, Script, Worlds

EACH = 4


def count_on(key: bytes) -> Callable[[ClientWorld], Script]:
    """A request that adds one to a counter as ``transact`` does, and begins the part where there is none."""

    def script(world: ClientWorld) -> Script:
        while True:
            found = yield from read_entry(world, key)
            entry = found.entry
            if entry is not None and not found.settled:
                yield from settle(world, key, entry.number)
            wanted = Commit(
                world.random_bytes(8),
                b"",
                {"n": values.encode(counted(entry) + 1, attribute="n")},
                expects=dots_of(entry.attributes if entry is not None else {}, ("n",)),
                creates=Creation(0) if entry is None else None,
            )
            answer, _ = yield from overwrite(world, replace(NO_SESSION, key=key), wanted, structural=True)
            if isinstance(answer, CommitAnswer) and answer.outcome in DONE:
                return

    return script


def counted(entry: Entry | None) -> int:
    shown = entry.shown("n") if entry is not None else None
    return int(msgspec.msgpack.decode(shown)) if shown is not None else 0


@pytest.mark.parametrize(
    ("names", "seed", "apart_ms"),
    [("abc", 2, 0), ("abc", 5, 1), ("abcdef", 3, 2), ("abcdef", 5, 1)],
)
def test_a_counter_that_all_members_begin_at_once_is_exact(names: str, seed: int, apart_ms: int) -> None:
    """S03, S09: one member begins the part for all. (Where each began it by itself these counted up to a fifth less, or
    copies were left over.)"""
    cluster, key = Cluster(names, seed=seed), bytes([0xF0 + seed]) * 16
    ended: list[Exception | None] = []
    for number, name in enumerate(names * EACH):
        Handling(cluster[name], ended.append).begin(count_on(key), Worlds(USER))
        if number < len(names) and apart_ms:
            cluster.wait(apart_ms)
    cluster.wait(3_000)
    assert ended == [None] * (len(names) * EACH)
    held = [entry for name in names if (entry := cluster[name].store.read(key).entry) is not None and entry.has_data]
    assert [counted(entry) for entry in held] == [len(names) * EACH] * 2
