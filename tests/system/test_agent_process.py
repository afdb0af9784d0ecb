"""Real agents: one per member, replaced when killed, ended in order; and `understudy run` around a command."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.patience import LONG_LEASES, PATIENCE_S

from understudy import limits
from understudy.agent.control import Control, ask
from understudy.agent.takeover import LIVES_NOTE, open_store
from understudy.config import load
from understudy.demo.doors import HOST, free_ports
from understudy.errors import AgentUnavailable

POLL_S = 0.02
NEVER_FIRST_MS = "600000"
"""For ``cold_start``: however late it meets the other member, it does not think by then that it is the first one."""
SECRET = "a secret that is long enough for tests"
DIES_OF_ITS_NETWORK = """
import os, sys, threading, time
from understudy.transport import pulse, zenoh
pulse.LOOKS_MAX, zenoh.RENEW_S = 3, 0.2
start = zenoh.ZenohTransport.start
def start_and_die(self, listener):
    start(self, listener)
    threading.Thread(target=die, args=(self._session,), daemon=True).start()
def die(session):
    while not os.path.exists(os.environ["UNDERSTUDY_DIR"] + "/die"):
        time.sleep(0.02)
    session.close()
zenoh.ZenohTransport.start = start_and_die
from understudy.agent.main import main
sys.exit(main([]))
"""
"""An agent that asks after its network's library more often, and whose library dies when the test has made a file."""
WITHOUT_UVLOOP = """
import sys
sys.modules["uvloop"] = None
from understudy.agent.main import main
sys.exit(main([]))
"""
"""An agent where uvloop is not installed."""
RECORDER = "import pathlib, signal, sys, time; {}; p = pathlib.Path(sys.argv[1]); p.touch(); time.sleep(600)"


class Running:
    """One process, and what it says on stderr."""

    def __init__(self, said: Path, command: list[str], environ: dict[str, str], cwd: Path) -> None:
        self._said = said
        with said.open("w") as stderr:
            self._process = subprocess.Popen(command, env=environ, stderr=stderr, cwd=cwd, process_group=0)
        self.pid = self._process.pid
        self.kill = self._process.kill
        self.poll = self._process.poll
        self.send_signal = self._process.send_signal

    def wait(self) -> int:
        """Its exit code, when it has ended."""
        return self._process.wait(PATIENCE_S)

    def said(self) -> str:
        return self._said.read_text()


class Member:
    """One member's directory, environment and processes."""

    def __init__(self, base: Path, name: str, port: int, seeds: list[int]) -> None:
        self.name = name
        self.directory = base / f"{name}-{port}"
        self.processes: list[Running] = []
        self.environ = {key: value for key, value in os.environ.items() if not key.startswith("UNDERSTUDY_")} | {
            "UNDERSTUDY_DIR": str(self.directory),
            "UNDERSTUDY_MEMBER": name,
            "UNDERSTUDY_LISTEN": f"{HOST}:{port}",
            "UNDERSTUDY_SEEDS": ",".join(f"{HOST}:{seed}" for seed in seeds),
            "UNDERSTUDY_SECRET": SECRET,
            "UNDERSTUDY_COLD_START_MS": "300",
            "UNDERSTUDY_LINGER": "5s",
            **LONG_LEASES,
        }

    def start(self, *arguments: str, module: str = "understudy.agent") -> Running:
        """One process of ours, without waiting for it."""
        said = self.directory.parent / f"{self.directory.name}-{len(self.processes)}.said"
        command = [sys.executable, *(("-m", module) if module else ()), *arguments]
        process = Running(said, command, self.environ, self.directory.parent)
        self.processes.append(process)
        return process

    def started(self, *arguments: str, module: str = "understudy.agent") -> Running:
        """An agent that is ready."""
        process = self.start(*arguments, module=module)
        until(lambda: self.status().get("pid") == process.pid and self.status().get("ready"))
        return process

    def status(self) -> dict[str, Any]:
        """What its agent says, nothing if there is none."""
        try:
            return ask(self.directory, "status")
        except AgentUnavailable:
            return {}

    def standing(self, other: str) -> str | None:
        return next((m["standing"] for m in self.status().get("members", ()) if m["name"] == other), None)

    def log(self) -> str:
        return (self.directory / "agent.log").read_text()

    def store_says(self) -> tuple[bool, int]:
        """Whether the store is an agent's, and how many lives it remembers."""
        store = open_store(load(environ=self.environ), self.directory)
        try:
            with store.write() as transaction:
                return transaction.owner() is not None, (transaction.note(LIVES_NOTE) or b"\x90")[0] & 0x0F
        finally:
            store.close()

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


def until(condition: Callable[[], Any]) -> None:
    """Wait for the processes to come to a state."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, "it did not come to this"
        time.sleep(POLL_S)


def gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


@pytest.fixture
def members(tmp_path: Path) -> Iterator[tuple[Member, Member]]:
    """Two members that know each other; neither runs yet."""
    ports = free_ports(2)
    pair = Member(tmp_path, "a", ports[0], ports), Member(tmp_path, "b", ports[1], ports)
    yield pair
    for member in pair:
        member.end()


@pytest.fixture
def a(members: tuple[Member, Member]) -> Member:
    return members[0]


# --- one agent per member -------------------------------------------------------------------------------------------


def test_an_agent_goes_before_workers(a: Member) -> None:
    """S50: it lowers its nice value where the kernel permits that, and starts as ever where not."""
    mine, agents = (os.getpriority(os.PRIO_PROCESS, pid) for pid in (0, a.started().pid))
    soft, _ = resource.getrlimit(resource.RLIMIT_NICE)
    may = os.geteuid() == 0 or soft >= 20 - (mine - limits.AGENT_NICE)
    assert agents == (max(mine - limits.AGENT_NICE, -20) if may else mine)


def test_two_agents_of_one_member_never_run(a: Member) -> None:
    """Of several agents that are started for one directory at once, one runs; the others say so and end."""
    started = [a.start() for _ in range(4)]
    until(lambda: sum(process.poll() is None for process in started) == 1 and a.status())
    [agent] = [process for process in started if process.poll() is None]
    assert a.status()["pid"] == agent.pid == int((a.directory / "agent.pid").read_text())
    for process in started:
        if process is not agent:
            assert process.poll() == 0
            assert "already running" in process.said()


def test_a_killed_agent_is_replaced_at_once(a: Member) -> None:
    """S23, S26: after kill -9 a new agent takes lock, socket, port and store over, as another life, and waits for none
    of the times after which members are taken for dead: they are longer than the test."""
    a.environ |= {"UNDERSTUDY_LEASE_MS": "3600000", "UNDERSTUDY_DEAD_MS": "7200000"}
    first = a.started()
    incarnation = a.status()["incarnation"]
    first.kill()
    first.wait()
    assert a.status() == {}
    second = a.start()
    until(lambda: a.status().get("pid") == second.pid)
    assert a.status()["incarnation"] != incarnation
    assert a.store_says() == (True, 2)


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_sigterm_ends_an_agent_cleanly(members: tuple[Member, Member], loop: str) -> None:
    """SIGTERM hands over and ends with 0: socket and pid file are gone, the store is given back, the peer knows. On
    uvloop's loop, and on asyncio's own beside a peer that has uvloop."""
    a, b = members
    first = a.started() if loop == "uvloop" else a.started("-c", WITHOUT_UVLOOP, module="")
    b.started()
    assert (a.status()["loop"], b.status()["loop"]) == (loop, "uvloop")
    until(lambda: b.standing("a") == "alive")
    first.send_signal(signal.SIGTERM)
    assert first.wait() == 0
    until(lambda: b.standing("a") == "left")
    assert not (a.directory / "agent.sock").exists() and not (a.directory / "agent.pid").exists()
    assert a.store_says()[0] is False
    assert '"fact": "drained"' in a.log()


def test_a_killed_agent_leaves_the_store_to_the_next(a: Member) -> None:
    """After kill -9 the store stays an agent's: a worker without a cluster does not begin to write in it."""
    first = a.started()
    first.kill()
    first.wait()
    assert a.store_says()[0] is True


def test_a_killed_member_is_noticed(members: tuple[Member, Member]) -> None:
    """S22: the other member reports a killed one as dead, and its next life as alive."""
    a, b = members
    first, _ = a.started(), b.started()
    until(lambda: b.standing("a") == "alive" and a.standing("b") == "alive")
    first.kill()
    until(lambda: b.standing("a") == "dead")
    a.started()
    until(lambda: b.standing("a") == "alive" and a.standing("b") == "alive")


def test_an_agent_without_workers_ends_after_its_time(a: Member) -> None:
    """With --linger an agent stays while a worker is attached, and drains when none has been for `linger`."""
    agent = a.started("--linger", "--detach", "--quiet")
    worker = Control(a.directory, kind="worker")
    until(lambda: a.status()["connections"])
    worker.close()
    assert agent.wait() == 0
    assert '"no worker is attached"' in a.log()


def test_a_second_signal_ends_at_once(a: Member) -> None:
    """Who signals twice does not wait for the hand-over; nothing depends on a clean end."""
    agent = a.started()
    os.kill(agent.pid, signal.SIGSTOP)
    os.kill(agent.pid, signal.SIGTERM)
    os.kill(agent.pid, signal.SIGINT)
    os.kill(agent.pid, signal.SIGCONT)
    assert agent.wait() == 0
    assert not (a.directory / "agent.sock").exists()


# --- what cannot start ------------------------------------------------------------------------------------------------


def test_a_port_in_use_is_said(members: tuple[Member, Member]) -> None:
    """An agent whose port somebody else has ends with 2, and says which port, also in the directory."""
    a, b = members
    a.started()
    b.environ["UNDERSTUDY_LISTEN"] = a.environ["UNDERSTUDY_LISTEN"]
    process = b.start()
    assert process.wait() == 2
    error = process.said()
    assert f"cannot listen on {a.environ['UNDERSTUDY_LISTEN']}: the address is in use" in error
    assert "the address is in use" in (b.directory / "agent.error").read_text()
    b.environ["UNDERSTUDY_LISTEN"] = f"{HOST}:{free_ports(1)[0]}"
    b.started()
    assert not (b.directory / "agent.error").exists()


def test_a_name_that_lives_is_refused(members: tuple[Member, Member]) -> None:
    """S26: a second member with the name of a living one does not start; the living one goes on."""
    a, b = members
    a.started()
    b.environ["UNDERSTUDY_MEMBER"] = "a"
    b.environ["UNDERSTUDY_COLD_START_MS"] = NEVER_FIRST_MS
    process = b.start()
    assert process.wait() == 2
    error = process.said()
    assert "another living member" in error and "UNDERSTUDY_MEMBER" in error
    assert a.status()["ready"]


def test_an_agent_whose_network_has_failed_ends_and_is_replaced(members: tuple[Member, Member]) -> None:
    """S23: zenoh ends underneath it: the agent says so in its log and ends by itself, the other member loses it, and
    the next one is found, over the same store."""
    a, b = members
    a.started()
    broken = b.start("-c", DIES_OF_ITS_NETWORK, module="")
    until(lambda: a.standing("b") == "alive")
    (b.directory / "die").touch()
    assert broken.wait() == 1
    assert "the network's library (zenoh) has failed" in b.log() and "did not answer" in broken.said()
    until(lambda: a.standing("b") != "alive")
    b.started()
    until(lambda: a.standing("b") == "alive")


def test_who_counts_leases_otherwise_may_not_join(members: tuple[Member, Member]) -> None:
    """S25: a member with another `lease_ms` ends with a message that names both values and what to do; the other goes
    on, and says in its log why."""
    a, b = members
    a.started()
    b.environ["UNDERSTUDY_LEASE_MS"] = "4000"
    b.environ["UNDERSTUDY_COLD_START_MS"] = NEVER_FIRST_MS
    process = b.start()
    assert process.wait() == 2
    assert "lease_ms is 5s there, 4s here" in process.said() and "stop all members" in process.said()
    assert a.status()["ready"]
    while "lease_ms is 4s there, 5s here" not in a.log():  # b may have ended before a heard it
        assert b.start().wait() == 2


def test_a_member_that_is_configured_otherwise_is_named(members: tuple[Member, Member]) -> None:
    """One that only wants more copies joins; log, `status` and `doctor` of both say what differs."""
    a, b = members
    a.started()
    b.environ["UNDERSTUDY_COPIES"] = "2"
    b.started()
    until(lambda: a.standing("b") == b.standing("a") == "alive")
    until(lambda: "configuration differs" in a.log() and "configuration differs" in b.log())
    for member, other, what in ((a, "b", "copies is 2 there, 1 here"), (b, "a", "copies is 1 there, 2 here")):
        for verb in ("status", "doctor"):
            command = [sys.executable, "-m", "understudy", verb]
            shown = subprocess.run(command, env=member.environ, cwd=member.directory, capture_output=True, text=True)
            assert shown.returncode == 0, shown.stderr
            assert f"member {other} is configured otherwise: {what}; give all members the same values" in shown.stdout


def test_an_unreadable_store_is_said(a: Member) -> None:
    """A store that is no store ends the start with 2 and a message that names the file, not with a traceback."""
    agent = a.started()
    agent.kill()
    agent.wait()
    data = a.directory / "store" / "data.mdb"
    data.write_bytes(b"no store at all" * 1_000)
    process = a.start()
    assert process.wait() == 2
    error = process.said()
    assert str(a.directory / "store") in error and "Traceback" not in error
    assert data.read_bytes().startswith(b"no store at all"), "nothing was lost"


# --- understudy run -------------------------------------------------------------------------------------------------


def run(member: Member, tmp_path: Path, does: str = "pass") -> tuple[Running, Path]:
    """`understudy run` with a command that is up."""
    marker = tmp_path / "up"
    process = member.start("run", "--", sys.executable, "-c", RECORDER.format(does), str(marker), module="understudy")
    until(marker.exists)
    return process, marker


def test_run_starts_the_agent_first_and_ends_it_last(a: Member, tmp_path: Path) -> None:
    """When the command starts the member is ready; SIGTERM ends the command first, then the agent."""
    does = (
        "signal.signal(15, lambda *_: (pathlib.Path(sys.argv[1] + '.sock').write_text("
        f"str(pathlib.Path({str(a.directory / 'agent.sock')!r}).exists())), sys.exit(5)))"
    )
    supervisor, marker = run(a, tmp_path, does)
    assert a.status()["ready"]
    agent = a.status()["pid"]
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait() == 5
    assert Path(f"{marker}.sock").read_text() == "True"
    assert gone(agent)
    assert '"fact": "drained"' in a.log()


def test_run_replaces_a_killed_agent(a: Member, tmp_path: Path) -> None:
    """S23: the agent under `run` is killed: another one is there within a second, and the command never ended."""
    supervisor, _ = run(a, tmp_path)
    first = a.status()["pid"]
    os.kill(first, signal.SIGKILL)
    until(lambda: a.status().get("pid", first) != first)
    assert supervisor.poll() is None
    second = a.status()["pid"]
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait() == 128 + signal.SIGTERM
    assert gone(second)


def test_a_command_is_killed_with_its_workers(a: Member, tmp_path: Path) -> None:
    """S49: a second signal, like a command that does not end in time, has the whole command killed: no worker of a
    server serves on without its parent, and starts an agent again.
    """
    does = (
        "import subprocess; signal.signal(15, signal.SIG_IGN);"
        " worker = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
        " pathlib.Path(sys.argv[1] + '.pid').write_text(str(worker.pid))"
    )
    supervisor, marker = run(a, tmp_path, does)
    worker = int(Path(f"{marker}.pid").read_text())
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            supervisor.send_signal(number)
        assert supervisor.wait() == 128 + signal.SIGKILL
        until(lambda: gone(worker))
    finally:
        if not gone(worker):
            os.kill(worker, signal.SIGKILL)


def test_no_agent_stays_behind_a_killed_supervisor(a: Member, tmp_path: Path) -> None:
    """kill -9 of `understudy run`: its agent, to which no worker is attached, ends by itself after `linger`."""
    supervisor, _ = run(a, tmp_path, "import os; print(os.getpid(), file=open(sys.argv[1] + '.pid', 'w'))")
    agent = a.status()["pid"]
    supervisor.kill()
    try:
        until(lambda: gone(agent))
    finally:
        os.kill(int((tmp_path / "up.pid").read_text()), signal.SIGKILL)


def test_run_does_not_start_its_command_without_an_agent(members: tuple[Member, Member], tmp_path: Path) -> None:
    """When the agent refuses to start, `run` ends with its code and message; the command never ran."""
    a, b = members
    a.started()
    b.environ["UNDERSTUDY_LISTEN"] = a.environ["UNDERSTUDY_LISTEN"]
    marker = tmp_path / "ran"
    process = b.start("run", "--", "touch", str(marker), module="understudy")
    assert process.wait() == 2
    error = process.said()
    assert "the address is in use" in error
    assert not marker.exists()
