"""Claims of the client's links: the store's own, the agent's for threads, the agent's for asyncio, and the starter."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.agents import Line, ScriptedAgent
from tests.workers import SETTINGS, Clock, Worker, local_worker, store_link

from understudy.client.agent_link import AgentLink
from understudy.client.async_link import AsyncAgentLink
from understudy.client.spawn import Starter, interpreter
from understudy.errors import AgentUnavailable, FormatMismatch, SessionUnavailable
from understudy.model.commit import Commit, Creation, Outcome
from understudy.protocol.messages import (
    AcknowledgeMode,
    CommitAnswer,
    CommitRequest,
    ControlRequest,
    FetchAnswer,
    FetchOutcome,
    FetchRequest,
    Reply,
    TouchRequest,
    WorkerMessage,
)
from understudy.store import Owner
from understudy.store.lmdb import LmdbStore

KEY = b"k" * 16


def commit_request(commit_id: bytes = b"12345678", **sets: bytes) -> CommitRequest:
    return CommitRequest(
        0, KEY, Commit(commit_id, b"s" * 16, sets=sets, creates=Creation(60_000)), AcknowledgeMode.LOCAL
    )


# --- the store's own -------------------------------------------------------------------------------------------------


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[LmdbStore]:
    store = LmdbStore(tmp_path, copies=0, forget_ms=86_400_000, member="a", bytes_max=1 << 24)
    yield store
    store.close()


def on_processes(count: int, work: Callable[[int], None]) -> list[int]:
    """Run ``work(number)`` in children of fork, all at once; gives their exit codes."""
    ready, go = os.pipe()
    children = []
    for number in range(count):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.close(go)
                os.read(ready, 1)
                work(number)
                code = 0
            except Exception:
                traceback.print_exc()
            finally:
                os._exit(code)
        children.append(child)
    os.close(go)
    os.close(ready)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def worker_over(store: LmdbStore) -> Worker:
    link = store_link(store)
    worker = Worker(store, lambda asked: link.ask(asked.request), SETTINGS)
    worker.world = msgspec.structs.replace(worker.world, random_bytes=os.urandom)
    return worker


def test_counters_are_exact_over_processes(shared: LmdbStore) -> None:
    """S03: four processes with twenty increments each add up to eighty, in a store that was opened before the fork."""
    cookie = worker_over(shared).request(n=0)

    def count(number: int) -> None:
        worker = worker_over(shared)
        for _ in range(20):
            session = worker.begin(cookie)
            session.transact(lambda s: s.update(n=s["n"] + 1))
            worker.finish(session)

    assert on_processes(4, count) == [0] * 4
    assert worker_over(shared).begin(cookie)["n"] == 80


def test_processes_that_write_different_attributes_keep_all(shared: LmdbStore) -> None:
    """S02: on several workers of one machine nothing is undone."""
    cookie = worker_over(shared).request(start=1)

    def write(number: int) -> None:
        worker = worker_over(shared)
        for turn in range(10):
            worker.request(cookie, **{f"w{number}": turn})

    assert on_processes(4, write) == [0] * 4
    assert dict(worker_over(shared).begin(cookie)) == {"start": 1, "w0": 9, "w1": 9, "w2": 9, "w3": 9}


def test_once_an_agent_owns_the_store_nothing_is_written(shared: LmdbStore) -> None:
    """The link says so instead of answering, for every kind of request."""
    link = store_link(shared)
    assert link.ask(commit_request(n=b"\x01")) is not None
    with shared.write() as transaction:
        transaction.set_owner(Owner(True, 99, "a"))
    before = shared.read(KEY)
    for request in (commit_request(b"another1", n=b"\x02"), TouchRequest(KEY), FetchRequest(0, KEY)):
        assert link.ask(request) is None
    assert shared.read(KEY) == before
    with shared.write() as transaction:
        assert transaction.owner() == Owner(True, 99, "a")


def test_an_incarnation_lasts_for_a_boot(shared: LmdbStore) -> None:
    """All processes of a boot write under one; after a reboot, which may have lost numbers, under another."""
    first = store_link(shared).ask(commit_request(n=b"\x01"))
    second = store_link(shared).ask(commit_request(b"another1", n=b"\x02"))
    assert isinstance(first, CommitAnswer) and isinstance(second, CommitAnswer)
    assert first.incarnation == second.incarnation > 0 and second.number > first.number
    rebooted = store_link(shared)
    rebooted._boot_id = lambda: "the next boot"
    third = rebooted.ask(commit_request(b"another2", n=b"\x03"))
    assert isinstance(third, CommitAnswer) and third.incarnation != first.incarnation


def test_a_repeated_commit_is_applied_once(shared: LmdbStore) -> None:
    """By its id; it counts as committed."""
    link = store_link(shared)
    link.ask(commit_request(n=b"\x01"))
    link.ask(commit_request(b"another1", n=b"\x02"))
    again = link.ask(commit_request(n=b"\x01"))
    assert isinstance(again, CommitAnswer) and again.outcome is Outcome.COMMITTED
    entry = shared.read(KEY).entry
    assert entry is not None and entry.shown("n") == b"\x02"


def test_expired_sessions_are_removed_a_few_at_a_time() -> None:
    """Every five seconds, with writes that happen anyway, 16 at once; and with each further write, until few are left.
    So a store in which sessions begin at any rate does not fill with those that have expired.
    """
    clock = Clock()
    worker = local_worker(clock)
    for n in range(40):
        worker.request(n=n)
    clock.ms += 31 * 60_000

    def after_a_request() -> int:
        worker.request(n=0)
        with worker.store.write() as transaction:
            return transaction.counts().primary

    assert [after_a_request() for _ in range(4)] == [40 - 16 + 1, 40 - 32 + 2, 3, 4]
    clock.ms += 200_000
    assert after_a_request() == 5
    clock.ms += 30 * 60_000 - 50_000  # deadlines are known to a twentieth of the idle timeout, 90 s
    assert after_a_request() == 1 + 1, "the one of 200 seconds later is still there"
    clock.ms += 2_000
    assert after_a_request() == 3, "nobody looks again within five seconds"
    clock.ms += 140_000
    assert after_a_request() == 3


# --- the agent's, for threads ----------------------------------------------------------------------------------------


def link_to(path: Path, link: Any = AgentLink, agent_timeout_ms: int = 2_000, commit_timeout_ms: int = 0) -> Any:
    starter = Starter(path, autostart=False)
    return link(starter, agent_timeout_ms=agent_timeout_ms, commit_timeout_ms=commit_timeout_ms)


def echo(line: Line, message: WorkerMessage) -> None:
    """Answers a fetch with its own route, and a commit with its own id as a number."""
    if isinstance(message, FetchRequest):
        line.reply(Reply(message.request, answer=FetchAnswer(FetchOutcome.UNKNOWN, message.route)))
    elif isinstance(message, CommitRequest):
        number = int.from_bytes(message.commit.id, "big")
        line.reply(Reply(message.request, commit=CommitAnswer(Outcome.COMMITTED, number=number)))
    elif isinstance(message, ControlRequest):
        line.reply(Reply(message.request, control=b'{"verb":"' + message.verb.encode() + b'"}'))


class Reversed:
    """Answers only when so many requests have come, the last one first."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._held: list[tuple[Line, WorkerMessage]] = []

    def __call__(self, line: Line, message: WorkerMessage) -> None:
        self._held.append((line, message))
        if len(self._held) == self._count:
            for held_line, held in reversed(self._held):
                echo(held_line, held)
            self._held.clear()


def test_threads_share_one_connection_and_each_gets_its_answer(tmp_path: Path) -> None:
    """Answers come in any order; nobody gets another's, and nobody waits for ever."""
    path = tmp_path / "agent.sock"
    with ScriptedAgent(path, Reversed(16)) as agent:
        link = link_to(path)
        got: dict[str, str] = {}

        def ask(route: str) -> None:
            for turn in range(10):
                got[f"{route}.{turn}"] = link.ask(FetchRequest(0, KEY, {}, f"{route}.{turn}")).primary

        threads = [threading.Thread(target=ask, args=(f"r{n}",)) for n in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(got) == 160 and all(sent == received for sent, received in got.items())
        assert len(agent.pids) == 1
        link.close()


def test_what_an_agent_did_not_answer_is_asked_of_the_next_one(tmp_path: Path) -> None:
    """S23: the same commit, with the same id, on a new connection."""
    path = tmp_path / "agent.sock"
    lines: list[Line] = []

    def die_once(line: Line, message: WorkerMessage) -> None:
        lines.append(line)
        line.hang_up() if len(lines) == 1 else echo(line, message)

    with ScriptedAgent(path, die_once) as agent:
        link = link_to(path)
        assert link.ask(commit_request(b"\x00" * 7 + b"\x05")).number == 5
        first, second = agent.received
        assert isinstance(first, CommitRequest) and isinstance(second, CommitRequest)
        assert first.commit == second.commit and len(agent.pids) == 2
        link.close()


def test_many_threads_survive_agents_that_come_and_go(tmp_path: Path) -> None:
    """S23: with connections that end at any moment, every request is answered in the end."""
    path = tmp_path / "agent.sock"
    count = [0]

    def dying(line: Line, message: WorkerMessage) -> None:
        count[0] += 1
        line.hang_up() if count[0] % 7 == 0 else echo(line, message)

    with ScriptedAgent(path, dying):
        link = link_to(path, agent_timeout_ms=20_000)
        results: list[int] = []

        def ask(number: int) -> None:
            for turn in range(10):
                wanted = number * 100 + turn
                results.append(link.ask(commit_request(wanted.to_bytes(8, "big"))).number - wanted)

        threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [0] * 80
        link.close()


def test_no_answer_in_time_is_unavailable(tmp_path: Path) -> None:
    """The connection stays good for others; the late answer is nobody's."""
    path = tmp_path / "agent.sock"
    held: list[tuple[Line, WorkerMessage]] = []

    def hold_first(line: Line, message: WorkerMessage) -> None:
        if not held:
            held.append((line, message))
        else:
            echo(*held[0])
            echo(line, message)

    with ScriptedAgent(path, hold_first) as agent:
        link = link_to(path, agent_timeout_ms=300)
        with pytest.raises(SessionUnavailable, match="in time"):
            link.ask(FetchRequest(0, KEY, {}, "late"))
        assert link.ask(FetchRequest(0, KEY, {}, "next")).primary == "next"
        assert len(agent.pids) == 1
        link.close()


def test_answers_that_nobody_waits_for_do_not_pile_up(tmp_path: Path) -> None:
    """After many commits without a wait the next answer is the right one."""
    path = tmp_path / "agent.sock"
    with ScriptedAgent(path, echo) as agent:
        link = link_to(path)
        for n in range(500):
            assert link.ask(commit_request(n.to_bytes(8, "big")), waits=False) is None
        assert link.ask(TouchRequest(KEY)) is None
        assert link.ask(commit_request((777).to_bytes(8, "big"))).number == 777
        assert len(agent.received) == 502 and len(agent.pids) == 1
        link.close()


def test_a_child_of_fork_opens_its_own_connection(tmp_path: Path) -> None:
    """S48: it never uses its parent's, and the parent's goes on."""
    path = tmp_path / "agent.sock"
    with ScriptedAgent(path, echo) as agent:
        link = link_to(path)
        assert link.ask(FetchRequest(0, KEY, {}, "parent")).primary == "parent"

        def ask(number: int) -> None:
            assert link.ask(FetchRequest(0, KEY, {}, f"child{number}")).primary == f"child{number}"

        assert on_processes(2, ask) == [0, 0]
        assert link.ask(FetchRequest(0, KEY, {}, "parent")).primary == "parent"
        assert len(agent.pids) == 3 and len(set(agent.pids)) == 3
        link.close()


def test_another_format_version_is_refused_with_both_named(tmp_path: Path) -> None:
    """S20: a worker and an agent of different releases do not talk."""
    path = tmp_path / "agent.sock"
    with ScriptedAgent(path, echo, format_version=42), pytest.raises(FormatMismatch, match=r"42.*1"):
        link_to(path).ask(FetchRequest(0, KEY))


def test_without_autostart_the_error_says_how_to_start_an_agent(tmp_path: Path) -> None:
    """Also when a killed agent has left its socket's file."""
    path = tmp_path / "agent.sock"
    with pytest.raises(AgentUnavailable, match="understudy agent"):
        link_to(path, agent_timeout_ms=50).ask(FetchRequest(0, KEY))
    ScriptedAgent(path, echo).stop()
    assert path.exists()
    with pytest.raises(AgentUnavailable, match="understudy run"):
        link_to(path, agent_timeout_ms=50).ask(FetchRequest(0, KEY))


def test_an_agent_that_somebody_else_restarts_is_waited_for(tmp_path: Path) -> None:
    """S23: a supervisor's new agent answers what the killed one did not."""
    path = tmp_path / "agent.sock"
    link = link_to(path, agent_timeout_ms=20_000)
    with ScriptedAgent(path, echo):
        assert link.ask(FetchRequest(0, KEY, {}, "before")).primary == "before"
    got: list[str] = []
    asking = threading.Thread(target=lambda: got.append(link.ask(FetchRequest(0, KEY, {}, "after")).primary))
    asking.start()
    path.unlink()
    with ScriptedAgent(path, echo):
        asking.join()
        link.close()
    assert got == ["after"]


def test_a_tools_question_is_answered_with_json(tmp_path: Path) -> None:
    """On the connection that requests use."""
    path = tmp_path / "agent.sock"
    with ScriptedAgent(path, echo):
        link = link_to(path)
        assert link.control("status") == b'{"verb":"status"}'
        link.close()


# --- the agent's, for asyncio ----------------------------------------------------------------------------------------


def test_tasks_share_one_connection_and_each_gets_its_answer(tmp_path: Path) -> None:
    """Answers come in any order, and the loop goes on meanwhile."""
    path = tmp_path / "agent.sock"

    async def main() -> None:
        link = link_to(path, AsyncAgentLink)
        answers = await asyncio.gather(*(link.ask(FetchRequest(0, KEY, {}, f"r{n}")) for n in range(16)))
        assert [answer.primary for answer in answers] == [f"r{n}" for n in range(16)]
        assert await link.ask(TouchRequest(KEY)) is None
        link.close()

    with ScriptedAgent(path, Reversed(16)) as agent:
        asyncio.run(main())
        assert len(agent.pids) == 1


def test_tasks_ask_the_next_agent_again(tmp_path: Path) -> None:
    """S23: as for threads."""
    path = tmp_path / "agent.sock"
    count = [0]

    def dying(line: Line, message: WorkerMessage) -> None:
        count[0] += 1
        line.hang_up() if count[0] % 5 == 0 else echo(line, message)

    async def main() -> None:
        link = link_to(path, AsyncAgentLink, agent_timeout_ms=20_000)
        answers = await asyncio.gather(*(link.ask(commit_request(n.to_bytes(8, "big"))) for n in range(40)))
        assert [answer.number for answer in answers] == list(range(40))
        link.close()

    with ScriptedAgent(path, dying):
        asyncio.run(main())


def test_tasks_are_told_when_no_answer_comes(tmp_path: Path) -> None:
    """In time, and the connection stays good."""
    path = tmp_path / "agent.sock"

    def only_commits(line: Line, message: WorkerMessage) -> None:
        if isinstance(message, CommitRequest):
            echo(line, message)

    async def main() -> None:
        link = link_to(path, AsyncAgentLink, agent_timeout_ms=300)
        with pytest.raises(SessionUnavailable, match="in time"):
            await link.ask(FetchRequest(0, KEY))
        assert (await link.ask(commit_request((3).to_bytes(8, "big")))).number == 3
        link.close()

    with ScriptedAgent(path, only_commits) as agent:
        asyncio.run(main())
        assert len(agent.pids) == 1


# --- starting one ----------------------------------------------------------------------------------------------------

AGENT = """
import fcntl, os, socket, sys, time
directory = sys.argv[1]
with open(directory + "/started", "a") as file:
    open_files, config = len(os.listdir("/proc/self/fd")), os.environ.get("UNDERSTUDY_CONFIG")
    file.write(f"{os.getpid()} {os.getsid(0)} {open_files} {config}\\n")
lock = os.open(directory + "/agent.lock", os.O_RDWR | os.O_CREAT, 0o600)
fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
listening = socket.socket(socket.AF_UNIX)
listening.bind(directory + "/agent.sock")
listening.listen(64)
listening.settimeout(20)
for connection in [listening.accept()[0] for _ in range(int(sys.argv[2]))]:
    connection.recv(1)
"""


def starter(directory: Path, *arguments: str, script: str = AGENT) -> Starter:
    command = (sys.executable, "-c", script, str(directory), *arguments)
    return Starter(
        directory / "agent.sock", autostart=True, command=command, environ={"UNDERSTUDY_CONFIG": "there.toml"}
    )


def test_of_many_workers_one_starts_the_agent(tmp_path: Path) -> None:
    """Two never run; it has a session of its own, the resolved configuration, and none of the workers' descriptors."""
    descriptors = [os.pipe() for _ in range(20)]
    for read, write in descriptors:
        os.set_inheritable(read, True)
        os.set_inheritable(write, True)

    def connect(number: int) -> None:
        starter(tmp_path, "4").connect(time.monotonic() + 20).sendall(b"x")

    assert on_processes(4, connect) == [0] * 4
    for pair in descriptors:
        os.close(pair[0])
        os.close(pair[1])
    (line,) = (tmp_path / "started").read_text().splitlines()
    pid, session, open_files, config = line.split()
    assert pid == session and int(session) != os.getsid(0)
    assert int(open_files) < 10 and config == "there.toml"


def test_an_agent_that_does_not_start_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    """Within the deadline, and naming the log."""
    with pytest.raises(AgentUnavailable, match=r"port 7400 is in use.*agent\.log"):
        starter(tmp_path, script="print('port 7400 is in use')").connect(time.monotonic() + 0.5)


@pytest.mark.parametrize(
    ("executable", "made", "found"),
    [
        ("venv/bin/python3", ["python3"], "venv/bin/python3"),
        ("bin/uwsgi", ["python3"], "venv/bin/python3"),
        (
            "venv/bin/uwsgi",
            ["python3", f"python3.{sys.version_info.minor}"],
            f"venv/bin/python3.{sys.version_info.minor}",
        ),
        ("elsewhere/bin/python3", ["python3"], "venv/bin/python3"),
        ("elsewhere/bin/python3", [], "elsewhere/bin/python3"),
    ],
)
def test_the_agent_runs_under_this_process_s_python(
    executable: str, made: list[str], found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S48: a server that embeds Python (uWSGI) starts the agent with the interpreter of its virtual environment."""
    scripts = tmp_path / "venv" / "bin"
    scripts.mkdir(parents=True)
    for name in made:
        (scripts / name).touch(0o755)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "venv"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / executable))
    assert interpreter() == str(tmp_path / found)
