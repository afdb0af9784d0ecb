"""Gives the clusters that stand beside each other: Tomcat's and ours, member by member, in networks of their own.

Each member has a network namespace with one cable to a switch, so the kernel's counters of that cable tell exactly
what it says to the others. Browsers come by Unix socket, and are not counted.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

import tomcat
import web_apps
from started import StartError
from understudy.agent import control
from understudy.demo.cluster import Place
from understudy.errors import AgentUnavailable
from understudy.store.opening import data_file
from web import BENCH

NAMES = ("a", "b", "c")
READY_S_MAX = 90.0
MEMBERS_FOUND_S = 2.5
"""Tomcat says nowhere that its members have found each other; a ping interval is one second."""
STOP_S_MAX = 15.0
LISTEN_PORT = 7_400
ANONYMOUS = "Anonymous:"


class Pages(NamedTuple):
    """Where the same pages are on each side."""

    plain: str
    read: str
    write: str
    begin: str


class Traffic(NamedTuple):
    """What all members have sent each other so far, as the kernel counted it."""

    packets: int
    sent_bytes: int


class Cpu(NamedTuple):
    """CPU time that processes have had so far, in µs."""

    asked: float
    """Of the web server at the first member: under Tomcat it speaks to the other members, too."""
    agent: float
    """Of the agent there."""
    others: float
    """Of the other members."""


class Side(Protocol):
    """One cluster."""

    name: str
    pages: Pages

    def start(self, member: str) -> None: ...

    def door(self, member: str) -> str: ...

    def used_bytes(self, member: str) -> int:
        """What the member holds in memory now, with whatever else is there."""

    def traffic(self) -> Traffic: ...

    def cpu_us(self) -> Cpu: ...

    def stop(self) -> None: ...


class _Members:
    """Processes of one cluster, each in its member's network."""

    def __init__(self, base: Path, places: dict[str, Place]) -> None:
        self.base = base
        self.places = places
        self.hosts = {name: place.host for name, place in places.items()}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def run(self, name: str, member: str, command: list[str], variables: dict[str, str]) -> None:
        environ = {key: value for key, value in os.environ.items() if not key.startswith("UNDERSTUDY_")}
        with (self.base / f"{name}.out").open("wb") as output:
            self._processes[name] = subprocess.Popen(
                [*self.places[member].enter, *command], env={**environ, **variables}, stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, cwd=self.base, start_new_session=True,
            )  # fmt: skip

    def pid(self, name: str) -> int:
        return self._processes[name].pid

    def wait(self, name: str, is_ready: Callable[[], bool]) -> None:
        """Raises: StartError."""
        until_s = time.monotonic() + READY_S_MAX
        while not is_ready():
            if self._processes[name].poll() is not None or time.monotonic() > until_s:
                said = (self.base / f"{name}.out").read_bytes()[-1_500:].decode(errors="replace")
                raise StartError(f"{name} did not start: {said}")
            time.sleep(0.05)

    def traffic(self, names: list[str]) -> Traffic:
        """``names``: one process of each member."""
        packets = sent_bytes = 0
        for name in names:
            lines = Path(f"/proc/{self.pid(name)}/net/dev").read_text("utf-8").splitlines()
            fields = next(line for line in lines if line.strip().startswith("eth0:")).partition(":")[2].split()
            sent_bytes, packets = sent_bytes + int(fields[8]), packets + int(fields[9])
        return Traffic(packets, sent_bytes)

    def cpu_us(self, *names: str) -> float:
        """CPU time of processes and of what they have started."""
        sessions = {self.pid(name) for name in names}
        return sum(_cpu_us(pid) for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _is_in(pid, sessions))

    def stop(self) -> None:
        """Web servers first, then what they need."""
        for process in reversed(self._processes.values()):
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(STOP_S_MAX)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


class Tomcat:
    """Members of Tomcat under one of its two cluster managers."""

    pages = Pages("/plain.jsp", "/read.jsp", "/write.jsp", "/begin.jsp")

    def __init__(self, base: Path, places: dict[str, Place], manager: str) -> None:
        self.name = f"Tomcat, {manager}"
        self._manager = manager
        self._members = _Members(base, places)
        self._started: list[str] = []

    def start(self, member: str) -> None:
        members, place = self._members, self._members.base / member
        command = tomcat.prepare(place, member, Path(self.door(member)), self._manager, members.hosts)
        members.run(member, member, command, tomcat.environ(place))
        members.wait(member, lambda: fetched(self.door(member), "/ping.jsp") == b"ready")
        time.sleep(MEMBERS_FOUND_S)
        self._started.append(member)

    def door(self, member: str) -> str:
        return str(self._members.base / f"{member}.sock")

    def used_bytes(self, member: str) -> int:
        return int(fetched(self.door(member), "/heap.jsp") or b"0")

    def traffic(self) -> Traffic:
        return self._members.traffic(self._started)

    def cpu_us(self) -> Cpu:
        first, *others = self._started
        return Cpu(self._members.cpu_us(first), 0, self._members.cpu_us(*others))

    def stop(self) -> None:
        self._members.stop()


class Ours:
    """Members of Understudy, each an agent and gunicorn with one worker."""

    pages = Pages("/plain", "/read", "/write", "/begin")

    def __init__(self, base: Path, places: dict[str, Place], manager: str) -> None:
        self.name = f"Understudy, {manager}"
        self._manager = manager
        self._members = _Members(base, places)
        self._started: list[str] = []

    def start(self, member: str) -> None:
        members, place = self._members, self._members.base / member
        place.mkdir(mode=0o700)
        seeds = [f"{host}:{LISTEN_PORT}" for host in members.hosts.values()]
        variables = {
            "UNDERSTUDY_NAME": f"bench-{os.getpid()}",
            "UNDERSTUDY_MEMBER": member,
            "UNDERSTUDY_LISTEN": f"{members.hosts[member]}:{LISTEN_PORT}",
            "UNDERSTUDY_SEEDS": ",".join(seeds),
            "UNDERSTUDY_SECRET": "a secret of benchmarks, which nobody else needs",
            "UNDERSTUDY_AUTOSTART": "false",
            "UNDERSTUDY_MANAGER_CLASS": self._manager,
            "UNDERSTUDY_DIR": str(place),
            "PYTHONPATH": str(BENCH.parent / "src"),
        }
        members.run(f"agent {member}", member, [sys.executable, "-m", "understudy.agent", "--quiet"], variables)
        members.wait(f"agent {member}", lambda: self._is_ready(member, len(self._started)))
        command = [
            sys.executable, "-m", "gunicorn", "--bind", f"unix:{self.door(member)}", "--worker-class", "gthread",
            "--threads", "16", "--keep-alive", "60", "--log-level", "error", "--no-control-socket", "--chdir",
            str(BENCH), "web_apps:make()",
        ]  # fmt: skip
        members.run(f"web {member}", member, command, {**variables, "BENCH_KIND": web_apps.FLASK_OURS})
        members.wait(f"web {member}", lambda: fetched(self.door(member), "/ping") is not None)
        self._started.append(member)

    def _is_ready(self, member: str, others: int) -> bool:
        try:
            status = control.ask(self._members.base / member, "status")
        except AgentUnavailable:
            return False
        alive = {other["name"] for other in status["members"] if other["standing"] == "alive" and other["ready"]}
        return bool(status["ready"]) and len(alive - {member}) >= others

    def door(self, member: str) -> str:
        return str(self._members.base / f"{member}.sock")

    def used_bytes(self, member: str) -> int:
        """The store's file, which the page cache holds, and the agent's own memory."""
        rollup = Path(f"/proc/{self._members.pid(f'agent {member}')}/smaps_rollup").read_text("utf-8").splitlines()
        anonymous_kb = next(int(line.split()[1]) for line in rollup if line.startswith(ANONYMOUS))
        return data_file(self._members.base / member).stat().st_blocks * 512 + anonymous_kb * 1024

    def traffic(self) -> Traffic:
        return self._members.traffic([f"agent {member}" for member in self._started])

    def cpu_us(self) -> Cpu:
        cpu_us = self._members.cpu_us
        first, *others = self._started
        rest = [f"{what} {member}" for member in others for what in ("agent", "web")]
        return Cpu(cpu_us(f"web {first}"), cpu_us(f"agent {first}"), cpu_us(*rest))

    def stop(self) -> None:
        self._members.stop()


def _is_in(pid: int, sessions: set[int]) -> bool:
    try:
        return os.getsid(pid) in sessions
    except ProcessLookupError:
        return False


def _cpu_us(pid: int) -> float:
    """Of all threads of a process; as exact as the scheduler's own count."""
    found_ns = 0
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            found_ns += int(Path(f"/proc/{pid}/task/{thread}/schedstat").read_text("ascii").split()[0])
    return found_ns / 1_000


def fetched(door: str, path: str) -> bytes | None:
    """The body of a page; None when nobody serves it yet."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(30)
            connection.connect(door)
            connection.sendall(b"GET " + path.encode() + b" HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    except OSError:
        return None
    head, _, body = answer.partition(b"\r\n\r\n")
    return body if head[9:12] == b"200" else None
