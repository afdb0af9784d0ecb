"""The agent's loop, inbox, log and taking over of a store, with an executor that only records."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from understudy import limits
from understudy.agent.inbox import Directory, Frame, Inbox, Refusal, Seen
from understudy.agent.log import LOG_NAME, Journal, open_log
from understudy.agent.process import Agent, Life, NetworkFailed
from understudy.agent.takeover import Taken, chooser_of, give_back, take_over
from understudy.errors import FrameError, StoreFull
from understudy.model.commit import Outcome
from understudy.model.entry import Entry, Epoch, Role
from understudy.protocol.commands import (
    DrainAsked,
    Event,
    Fact,
    FactKind,
    PeerFound,
    PeerLost,
    Received,
    Started,
    Ticked,
)
from understudy.protocol.messages import ControlRequest, Heartbeat, Hello, Reply, decode_worker_message, encode
from understudy.store import Owner
from understudy.store.memory import MemoryStore
from understudy.transport import Peer

ME = Peer("a", 1)
B1, B2 = Peer("b", 11), Peer("b", 12)


class RecordingEngine:
    """An engine that is drained when it was asked to be."""

    def __init__(self) -> None:
        self.ready = True
        self.drained = False
        self.refusal = ""

    def describe(self) -> dict[str, Any]:
        return {"ready": self.ready, "members": []}


class RecordingExecutor:
    """Keeps every event in the order of its turn; a scene may give it one failure."""

    def __init__(self) -> None:
        self.engine = RecordingEngine()
        self.queued: list[Event] = []
        self.turns: list[list[Event]] = []
        self.failure: Exception | None = None
        self.turned = asyncio.Event()
        self.sends: list[Callable[[], None]] = []
        """What its next turns send."""
        self.due_ms = 1_000_000
        self.clock: Callable[[], int] = lambda: 0

    def submit(self, event: Event) -> None:
        self.queued.append(event)

    def turn(self) -> bool:
        taken, self.queued = self.queued, []
        self.turns.append(taken)
        for send in self.sends:
            send()
        self.turned.set()
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure
        if DrainAsked() in taken:
            self.engine.drained = True
        return False

    def deadline_ms(self) -> int:
        return self.due_ms

    def now_ms(self) -> int:
        return self.clock()

    def events(self) -> list[Event]:
        return [event for turn in self.turns for event in turn]


class NoNetwork:
    """A transport that keeps what it is given."""

    def __init__(self) -> None:
        self.sent: list[tuple[Peer, bytes]] = []
        self.flushed: list[int] = []
        """How much had been sent at each flush."""
        self.failed = ""

    def start(self, listener: object) -> None: ...

    def send(self, to: Peer, frame: bytes) -> None:
        self.sent.append((to, frame))

    def flush(self) -> None:
        self.flushed.append(len(self.sent))

    def failure(self) -> str:
        return self.failed

    def leave(self) -> None: ...

    def close(self) -> None: ...


def journal(tmp_path: Path, clock: Callable[[], float] = lambda: 0.0) -> Journal:
    return Journal("a", open_log(tmp_path, terminal_level=None), clock)


def lines(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / LOG_NAME).read_text().splitlines()]


def scene(
    tmp_path: Path, play: Callable[[Agent, RecordingExecutor, NoNetwork, asyncio.Task[bool]], Awaitable[None]]
) -> None:
    """Run one scene on a serving agent."""

    async def run() -> None:
        agent = Agent(Life(ME, "shop", "0", frozenset({5}), None), Looks(), journal(tmp_path))
        executor, network = RecordingExecutor(), NoNetwork()
        agent.begin(executor, network, Started((), False, False))
        serving = asyncio.create_task(agent.serve())
        await agent.server.start(tmp_path / "s")
        try:
            await asyncio.wait_for(play(agent, executor, network, serving), 30)
        finally:
            serving.cancel()
            await agent.server.close()

    asyncio.run(run())


class Looks:
    """A store in which there is nothing to see."""

    def __init__(self) -> None:
        self._store = MemoryStore(copies=1, forget_ms=1_000)

    def read(self, key: bytes) -> Any:
        return self._store.read(key)

    @contextmanager
    def view(self) -> Iterator[Any]:
        with self._store.view() as view:
            yield view

    def tidy_readers(self) -> int:
        return 0


def test_what_a_turn_sends_leaves_together_at_its_end(tmp_path: Path) -> None:
    """One flush of the network for all messages of a turn: one system call for each member."""

    async def play(agent: Agent, executor: RecordingExecutor, network: NoNetwork, _: asyncio.Task[bool]) -> None:
        await executor.turned.wait()
        agent.inbox.peer_found(B1)
        executor.turned.clear()
        await executor.turned.wait()
        executor.sends = [lambda: agent.send("b", Heartbeat(1)), lambda: agent.send("b", Heartbeat(2))]
        executor.turned.clear()
        agent.inbox.received(B1, encode(Heartbeat(5)))
        await executor.turned.wait()
        assert network.flushed == [0, 0, 2]

    scene(tmp_path, play)


def test_a_deadline_that_was_put_off_costs_no_turn(tmp_path: Path) -> None:
    """A timer stays as it was set when the deadline moves away; it looks again when it goes off, and ticks in time."""

    async def play(agent: Agent, executor: RecordingExecutor, _: NoNetwork, __: asyncio.Task[bool]) -> None:
        await executor.turned.wait()
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        executor.clock = lambda: int((loop.time() - began_s) * 1_000)
        for executor.due_ms in (10, 60):
            executor.turned.clear()
            agent.inbox.peer_found(B1)
            await executor.turned.wait()
        executor.turned.clear()
        await executor.turned.wait()
        assert executor.turns[-1] == [Ticked()]
        assert executor.now_ms() >= 60
        assert executor.events().count(Ticked()) == 1

    scene(tmp_path, play)


def test_arrivals_of_one_moment_are_one_turn(tmp_path: Path) -> None:
    """What the network brought before a turn is handled in one turn, in order; answers go to the life that is shown."""

    async def play(agent: Agent, executor: RecordingExecutor, network: NoNetwork, _: asyncio.Task[bool]) -> None:
        await executor.turned.wait()
        executor.turned.clear()
        agent.inbox.peer_found(B1)
        agent.inbox.received(B1, encode(Heartbeat(5)))
        agent.inbox.received(B1, b"\xc1 no message")
        agent.inbox.peer_lost(Peer("c", 3))
        await executor.turned.wait()
        assert executor.turns[1:] == [[PeerFound("b", 11), Received("b", 11, Heartbeat(5)), PeerLost("c", 3)]]
        agent.send("b", Heartbeat(6))
        agent.send("nobody", Heartbeat(7))
        assert network.sent == [(B1, encode(Heartbeat(6)))]
        assert agent.journal.counts["bad frame"] == 1

    scene(tmp_path, play)


def test_drain_is_answered_when_all_is_handed_over(tmp_path: Path) -> None:
    """A tool that asks to drain hears of it when it is done, and then the agent ends cleanly."""

    async def play(agent: Agent, executor: RecordingExecutor, _: NoNetwork, serving: asyncio.Task[bool]) -> None:
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
        hello = encode_hello()
        ask = encode(ControlRequest(1, "drain"))
        writer.write(hello + len(ask).to_bytes(4, "big") + ask)
        assert await serving is True
        await agent.server.close()
        await receive(reader)
        reply = await receive(reader)
        assert isinstance(reply, Reply) and json.loads(reply.control or b"")["drained"] is True
        assert DrainAsked() in executor.events()
        writer.close()

    scene(tmp_path, play)


def test_a_broken_invariant_ends_the_agent(tmp_path: Path) -> None:
    """An assertion in a turn is not survived: serve raises it, so that the process ends and a new life begins."""

    async def play(agent: Agent, executor: RecordingExecutor, _: NoNetwork, serving: asyncio.Task[bool]) -> None:
        await executor.turned.wait()
        executor.failure = AssertionError("two primaries")
        agent.inbox.peer_found(B1)
        with pytest.raises(AssertionError, match="two primaries"):
            await serving

    scene(tmp_path, play)


def test_a_failed_network_ends_the_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """S23: it is looked at with the other work of each second; no agent goes on that can find no new member."""
    monkeypatch.setattr("understudy.agent.process.TIDY_EVERY_S", 0.01)

    async def play(agent: Agent, executor: RecordingExecutor, network: NoNetwork, serving: asyncio.Task[bool]) -> None:
        await executor.turned.wait()
        network.failed = "it panicked"
        with pytest.raises(NetworkFailed, match=r"\(zenoh\) has failed: it panicked"):
            await serving

    scene(tmp_path, play)


def test_a_failing_store_ends_the_agent(tmp_path: Path) -> None:
    """A turn that the store undid is reported and not survived: the engine believed what is not stored."""

    async def play(agent: Agent, executor: RecordingExecutor, _: NoNetwork, serving: asyncio.Task[bool]) -> None:
        await executor.turned.wait()
        executor.failure = StoreFull("no page is left")
        agent.inbox.peer_found(B1)
        with pytest.raises(StoreFull, match="no page is left"):
            await serving
        assert any(line.get("detail") == "no page is left" for line in lines(tmp_path))

    scene(tmp_path, play)


def test_a_drain_that_left_something_is_not_clean(tmp_path: Path) -> None:
    """When the time was over before all was handed over the end counts as unclean: the store stays the agent's."""

    async def play(agent: Agent, executor: RecordingExecutor, _: NoNetwork, serving: asyncio.Task[bool]) -> None:
        await executor.turned.wait()
        agent.tell(Fact(FactKind.DRAINED, detail="the time was over"))
        agent.drain("test")
        assert await serving is False

    scene(tmp_path, play)


# --- inbox ----------------------------------------------------------------------------------------------------------


def test_the_inbox_is_bounded_and_wakes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """S52: frames beyond the limits are dropped and counted, news of members is not; one wake-up for a batch."""
    monkeypatch.setattr(limits, "INBOX_FRAMES_MAX", 3)
    monkeypatch.setattr(limits, "INBOX_BYTES_MAX", 100)
    woken: list[int] = []
    inbox = Inbox(lambda: woken.append(1))
    for _ in range(5):
        inbox.received(B1, b"x")
    inbox.peer_lost(B1)
    inbox.refused("another secret")
    arrivals, dropped = inbox.take()
    assert arrivals == [Frame(B1, b"x")] * 3 + [Seen(B1, False), Refusal("another secret")]
    assert (dropped, len(woken)) == (2, 1)
    inbox.received(B1, bytes(101))
    inbox.received(B1, bytes(100))
    assert inbox.take() == ([Frame(B1, bytes(100))], 1)
    assert len(woken) == 2


def test_the_last_words_of_a_life_do_not_bring_it_back() -> None:
    """S26: a frame that comes after the news that its sender has gone makes it reachable, but when its next life is
    lost in turn, the earlier one is not taken for there.
    """
    lives = Directory(ME, frozenset())
    earlier, later = Peer("b", 1), Peer("b", 2)
    lives.seen(Seen(earlier, True))
    lives.seen(Seen(earlier, False))
    lives.read(Frame(earlier, encode(Heartbeat(1))))
    assert lives.life_of("b") == earlier
    assert lives.seen(Seen(later, True)) == [PeerFound("b", 2)]
    assert lives.seen(Seen(later, False)) == [PeerLost("b", 2)]
    assert lives.life_of("b") is None


def test_of_two_lives_of_a_name_the_later_is_written_to() -> None:
    """S26: while the network still shows a killed life, messages go to its successor; the one that remains is known."""
    lives = Directory(ME, frozenset())
    assert lives.seen(Seen(B1, True)) == [PeerFound("b", 11)]
    assert lives.seen(Seen(B2, True)) == [PeerFound("b", 12)]
    assert lives.life_of("b") == B2
    assert lives.seen(Seen(B2, False)) == [PeerLost("b", 12), PeerFound("b", 11)]
    assert lives.life_of("b") == B1
    assert lives.seen(Seen(B1, False)) == [PeerLost("b", 11)]
    assert lives.life_of("b") is None


def test_a_stranger_with_our_name_is_noticed_and_an_earlier_life_is_not() -> None:
    """S26: an earlier life of ours that the network still shows is no second member; an unknown one is."""
    lives = Directory(ME, frozenset({5}))
    assert lives.seen(Seen(Peer("a", 5), True)) == [] and not lives.strangers
    assert lives.seen(Seen(Peer("a", 99), True)) == [] and lives.strangers == {Peer("a", 99)}
    with pytest.raises(FrameError):
        lives.read(Frame(Peer("a", 99), encode(Heartbeat(1))))
    lives.seen(Seen(Peer("a", 99), False))
    assert not lives.strangers


def test_a_frame_may_overtake_the_news_of_its_sender() -> None:
    """A message from a life that was not shown yet is read, and can be answered."""
    lives = Directory(ME, frozenset())
    assert lives.read(Frame(B1, encode(Heartbeat(1)))) == Received("b", 11, Heartbeat(1))
    assert lives.life_of("b") == B1


# --- log ------------------------------------------------------------------------------------------------------------


def test_the_log_is_bounded_each_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """S36: a flood of facts is counted whole, written up to the limit, and the rest is told as a number."""
    monkeypatch.setattr(limits, "LOG_LINES_PER_SECOND_MAX", 10)
    now = [0.0]
    log = journal(tmp_path, lambda: now[0])
    for number in range(1_000):
        log.tell(Fact(FactKind.PROMOTED, number.to_bytes(16, "big")))
        log.tell(Fact(FactKind.SESSION_CREATED, number.to_bytes(16, "big")))
    now[0] = 1.0
    log.tell(Fact(FactKind.MEMBER_LOST, member="b", detail='dead "now"\n'))
    written = lines(tmp_path)
    assert [line["fact"] for line in written] == ["promoted"] * 10 + ["facts left out", "member lost"]
    assert written[-1] | {"time": ""} == {
        "time": "",
        "level": "warning",
        "member": "a",
        "fact": "member lost",
        "peer": "b",
        "detail": 'dead "now"\n',
    }
    assert log.counts == {"promoted": 1_000, "session created": 1_000, "member lost": 1}


def test_two_log_files_of_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log never holds more than two files of the limit."""
    monkeypatch.setattr(limits, "LOG_BYTES_MAX", 2_000)
    log = journal(tmp_path)
    for number in range(200):
        log.say("line", str(number))
    logging.getLogger("understudy").handlers[0].close()
    found = sorted(tmp_path.glob("agent.log*"))
    assert [path.name for path in found] == ["agent.log", "agent.log.1"]
    assert all(path.stat().st_size <= 2_000 for path in found)


# --- taking over a store ----------------------------------------------------------------------------------------------


def memory() -> MemoryStore:
    return MemoryStore(copies=1, forget_ms=1_000)


def local_session(store: MemoryStore, key: bytes) -> None:
    """What a worker without an agent writes."""
    with store.write() as transaction:
        number = transaction.next_number()
        entry = Entry(Role.PRIMARY, "a", (), Epoch(1, 1, 1), context={9: number}, number=number)
        transaction.change(key, lambda _: (Outcome.COMMITTED, entry))


def outbox(store: MemoryStore) -> list[tuple[bytes, bool]]:
    with store.write() as transaction:
        return [(row.key, row.marked) for row in transaction.outbox(0, 1_000)]


def test_entries_written_without_an_agent_are_put_in_the_outbox() -> None:
    """The first agent of a store puts every session there in the outbox, marked: its users were answered."""
    store = memory()
    keys = [number.to_bytes(16, "big") for number in range(150)]
    for key in keys:
        local_session(store, key)
    assert take_over(store, "a", 77) == Taken(frozenset(), (), True, 150)
    assert sorted(outbox(store)) == [(key, True) for key in keys]
    with store.write() as transaction:
        assert transaction.owner() == Owner(True, 77, "a")


def test_the_next_life_knows_its_earlier_ones_and_leaves_the_outbox_alone() -> None:
    """S23: after a killed agent the next one adopts nothing again, and knows the last eight incarnations."""
    store = memory()
    local_session(store, bytes(16))
    take_over(store, "a", 100)
    with store.write() as transaction:
        transaction.outbox_remove([row.number for row in transaction.outbox(0, 10)])
        transaction.set_note("view", b"a b c")
    for life in range(101, 115):
        taken = take_over(store, "a", life)
    assert taken == Taken(frozenset(range(106, 114)), ("a", "b", "c"), True, 0)
    assert outbox(store) == []


def test_a_clean_end_gives_the_store_back() -> None:
    """After a clean end workers may write again; the next agent adopts what it finds then, or nothing if none did."""
    store = memory()
    local_session(store, bytes(16))
    take_over(store, "a", 1)
    give_back(store)
    with store.write() as transaction:
        assert transaction.owner() is None
    assert take_over(store, "a", 2).adopted == 0
    give_back(store)
    local_session(store, b"\x01" * 16)
    assert take_over(store, "a", 3).adopted == 2


def test_choosers_differ_by_life_member_and_secret() -> None:
    """Epochs of two lives, members or clusters differ, and fit 63 bits."""
    found = [chooser_of(key, name, life) for key in (b"k" * 32, b"l" * 32) for name in ("a", "b") for life in (1, 2)]
    assert len(set(found)) == len(found)
    assert all(0 <= chooser < 1 << 63 for chooser in found)
    assert found[0] == chooser_of(b"k" * 32, "a", 1)


def encode_hello() -> bytes:
    body = encode(Hello(limits.FORMAT_VERSION, 1, "tool"))
    return len(body).to_bytes(4, "big") + body


async def receive(reader: asyncio.StreamReader) -> object:
    size = int.from_bytes(await reader.readexactly(4), "big")
    return decode_worker_message(await reader.readexactly(size))
