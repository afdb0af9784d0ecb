"""Gives a cluster of real members on this machine, and a hand that kills, pauses and restarts them.

Each member is what a machine would run: ``understudy run`` with an agent and gunicorn with several workers, in a
directory of its own. All of it lives in one temporary directory, and ends with the process that made it. The demo
and the system tests use this same class.
"""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import understudy
from understudy import limits
from understudy.agent import control, files
from understudy.demo import processes
from understudy.demo.doors import HOST, Door, answers, free_ports
from understudy.errors import AgentUnavailable, UnderstudyError
from understudy.model.ids import Keys

NAMES = ("a", "b", "c")
READY_S_MAX = 120.0
STOP_S_MAX = 120.0
"""Only what is broken takes so long, on the slowest machine."""
STATUS_S_MAX = 60.0
POLL_S = 0.02
RUN = (sys.executable, "-m", "understudy", "run")
SERVER = (sys.executable, "-m", "gunicorn")
SERVER_PID_NAME = "gunicorn.pid"
LOG_TAIL_BYTES = 6_000

SERVER_SETTINGS = """\
worker_class = "gthread"
control_socket_disable = True  # its default place is shared by all gunicorns of one user
graceful_timeout = 10
keepalive = 5
"""


class ClusterError(UnderstudyError):
    """A member did not do what was asked of it; the message holds the end of its logs."""


class Place(NamedTuple):
    """Where a member's processes run and what address the others reach it at: by default, beside them on loopback."""

    host: str = HOST
    enter: tuple[str, ...] = ()
    """The command that runs another one there. Its web server is then behind a Unix socket, which is reached from
    everywhere on this machine, whatever becomes of the network between members."""


@dataclass
class Member:
    """One member: where it is reached, and the process that supervises it while it runs."""

    name: str
    port: int
    """Of its web server, if it serves on loopback."""
    listen_port: int
    place: Place
    directory: Path
    output: Path
    """What its supervisor and its web server print."""
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def door(self) -> Door:
        """Where its web server takes requests."""
        return self.directory.with_suffix(".web") if self.place.enter else self.port

    @property
    def listen(self) -> str:
        return f"{self.place.host}:{self.listen_port}"


class Cluster:
    """Members ``names`` that serve one WSGI application.

    Args:
        application: as gunicorn takes it, ``"module:variable"``.
        names: of the members; each seeds the others.
        workers, threads: of each member's web server.
        environment: variables for the members, beside those that make them a cluster; values may use ``{name}``.
        arguments: further ones for gunicorn.
        ports: the members' web ports, in the order of the names; None: free ones.
        places: where members run that do not run on loopback.

    Guarantee: two clusters never meet: name, secret, ports and directory are its own. When the process that made it
    ends, however it ends, all its processes and files go.
    """

    def __init__(
        self,
        application: str,
        names: Iterable[str] = NAMES,
        *,
        workers: int = 2,
        threads: int = 4,
        environment: Mapping[str, str] | None = None,
        arguments: Iterable[str] = (),
        ports: Iterable[int] | None = None,
        places: Mapping[str, Place] | None = None,
    ) -> None:
        places = places or {}
        names = tuple(names)
        self.application = application
        self.base = _temporary_directory()
        self.secret = secrets.token_urlsafe(32)
        self.name = f"demo-{secrets.token_hex(6)}"
        self._workers, self._threads = workers, threads
        self._arguments = tuple(arguments)
        self._environment = dict(environment or {})
        (self.base / "gunicorn.conf.py").write_text(SERVER_SETTINGS)
        free = free_ports(2 * len(names))
        web = list(ports) if ports is not None else free[len(names) :]
        self.members = {
            name: Member(
                name, web[at], free[at], places.get(name, Place()), self.base / name, self.base / f"{name}.out"
            )
            for at, name in enumerate(names)
        }
        self._guard = self._start_guard()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getitem__(self, name: str) -> Member:
        return self.members[name]

    def __iter__(self) -> Iterable[str]:
        return iter(self.members)

    # --- the members' lives -----------------------------------------------------------------------------------------

    def start(self, *names: str) -> None:
        """Starts these members, or all that do not run; does not wait until they are ready. Raises: OSError."""
        for name in names or tuple(name for name in self.members if not self.runs(name)):
            member = self.members[name]
            assert not self.runs(name), f"member {name} runs already"
            member.directory.mkdir(mode=0o700, exist_ok=True)
            # A killed server leaves it, and the process id in it may be somebody else's by now.
            (member.directory / SERVER_PID_NAME).unlink(missing_ok=True)
            with member.output.open("ab") as output:
                member.process = subprocess.Popen(
                    self._command(member),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd=self.base,  # no settings of whoever calls us are read there
                    env=self._environment_of(member),
                    start_new_session=True,  # a Ctrl-C in the terminal is for us, who end them in order
                )

    def stop(self, *names: str) -> None:
        """Ends these members, or all, as ``SIGTERM`` does: requests finish, the agent hands over.

        Raises: ClusterError when one has not ended by itself within ``STOP_S_MAX``; it is killed then.
        """
        chosen = [self.members[name] for name in names or tuple(self.members)]
        for member in chosen:
            if member.process is not None:
                processes.send(member.process.pid, signal.SIGTERM)
        deadline_s = time.monotonic() + STOP_S_MAX
        late = []
        for member in chosen:
            process, member.process = member.process, None
            if process is None:
                continue
            try:
                process.wait(max(0.1, deadline_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                late.append(member.name)
            processes.kill(member.directory)
            process.wait()
        if late:
            raise ClusterError(f"members {', '.join(late)} did not end within {STOP_S_MAX:.0f} s of SIGTERM")

    def kill(self, *names: str) -> float:
        """The loss of these machines, or all: every process of them ends with SIGKILL, at one moment each.

        Gives the moment of the last one, on the monotonic clock in seconds.
        """
        died_s = time.monotonic()
        for name in names or tuple(self.members):
            member = self.members[name]
            died_s = processes.kill(member.directory)
            if member.process is not None:
                member.process.wait()
                member.process = None
        return died_s

    def kill_agent(self, name: str) -> int:
        """Kills the agent alone; gives the process id that it had. Raises: ClusterError when there is none."""
        pid = self.agent_pid(name)
        if pid is None:
            raise self._error(name, "has no agent")
        processes.send(pid, signal.SIGKILL)
        return pid

    def kill_worker(self, name: str, pid: int | None = None) -> int:
        """Kills one worker, that of this process id or any; gives its process id. Raises: ClusterError."""
        pids = self.worker_pids(name)
        if pid is None and pids:
            pid = random.choice(pids)
        if pid not in pids:
            raise self._error(name, f"has no worker {pid or ''}".rstrip())
        assert pid is not None
        processes.send(pid, signal.SIGKILL)
        return pid

    def pause(self, name: str) -> None:
        """Stops all processes of the member where they stand."""
        processes.pause(self.members[name].directory)

    def resume(self, name: str) -> None:
        processes.resume(self.members[name].directory)

    def wipe(self, name: str) -> None:
        """Removes the store of a member that does not run: its next start is that of a new machine."""
        assert not self.runs(name), f"member {name} runs"
        shutil.rmtree(self.members[name].directory, ignore_errors=True)

    def close(self) -> None:
        """Ends everything at once, and removes it."""
        if self._guard is None:
            return
        self.kill()
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.wait()
        self._guard = None
        shutil.rmtree(self.base, ignore_errors=True)  # nothing is left unless somebody has ended the guard

    # --- what they are doing ----------------------------------------------------------------------------------------

    def runs(self, name: str) -> bool:
        """True while the member's supervisor lives, also when paused."""
        process = self.members[name].process
        return process is not None and process.poll() is None

    def pids(self, name: str) -> list[int]:
        """All processes of the member."""
        return processes.of_member(self.members[name].directory)

    def agent_pid(self, name: str) -> int | None:
        """The agent's process, from its file in the member's directory; None when it does not run."""
        pid = files.agent_pid(self.members[name].directory)
        return pid if pid is not None and processes.is_running(pid) else None

    def worker_pids(self, name: str) -> list[int]:
        """The web server's workers; its first process is in its file in the member's directory."""
        try:
            first = int((self.members[name].directory / SERVER_PID_NAME).read_text())
        except (OSError, ValueError):
            return []
        return processes.children(first)

    def status(self, name: str) -> dict[str, Any]:
        """What ``understudy status --json`` says of the member. Raises: AgentUnavailable."""
        return control.ask(self.members[name].directory, "status", timeout_s=STATUS_S_MAX)

    def locate(self, name: str, cookie: str) -> dict[str, Any] | None:
        """What the member holds for the session of this cookie; None for a cookie of no valid id.

        Raises: AgentUnavailable.
        """
        key = self.key(cookie)
        return None if key is None else control.ask(self.members[name].directory, "locate", key, STATUS_S_MAX)

    def key(self, cookie: str) -> bytes | None:
        """The key of this cookie's session in every store; None for a cookie of no valid id."""
        keys = Keys.from_secrets([self.secret.encode()])
        found = keys.read_cookie(cookie)
        return None if found is None else keys.key("default", found[0])

    def member_environment(self, name: str) -> dict[str, str]:
        """The variables with which ``understudy``'s tools find this member."""
        member = self.members[name]
        seeds = ",".join(other.listen for other in self.members.values())
        return self._environment_of(member) | {
            "UNDERSTUDY_MEMBER": name,
            "UNDERSTUDY_LISTEN": member.listen,
            "UNDERSTUDY_SEEDS": seeds,
        }

    def wait_ready(self, *names: str, seconds: float = READY_S_MAX) -> None:
        """Waits until these members, or all, answer requests and see each other as ready. Raises: ClusterError."""
        chosen = names or tuple(name for name in self.members if self.runs(name))
        deadline_s = time.monotonic() + seconds
        for name in chosen:
            while (lacks := self._lacks(name, chosen)) is not None:
                if not self.runs(name):
                    raise self._error(name, "ended while it started")
                if time.monotonic() > deadline_s:
                    raise self._error(name, f"is not ready after {seconds:.0f} s: {lacks}")
                time.sleep(POLL_S)

    def wait(self, holds: Callable[[], bool], what: str, seconds: float = READY_S_MAX) -> None:
        """Waits until ``holds`` gives True; while an agent that it asks is not there, it does not hold.

        Raises: ClusterError that says what did not come, with all logs' ends.
        """
        deadline_s = time.monotonic() + seconds
        while not _holds(holds):
            if time.monotonic() > deadline_s:
                raise ClusterError(f"after {seconds:.0f} s still not: {what}\n{self.logs()}")
            time.sleep(POLL_S)

    def logs(self, *names: str) -> str:
        """The end of what these members, or all, have written."""
        parts = []
        for name in names or tuple(self.members):
            member = self.members[name]
            for path in (member.output, member.directory / "agent.log"):
                with contextlib.suppress(OSError):
                    text = path.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")
                    parts.append(f"--- {name}: {path.name}\n{text}")
        return "\n".join(parts)

    # --- how they are made ------------------------------------------------------------------------------------------

    def _command(self, member: Member) -> list[str]:
        seeds = ",".join(other.listen for other in self.members.values())
        bind = f"unix:{member.door}" if member.place.enter else f"{HOST}:{member.port}"
        return [
            *member.place.enter,
            *RUN,
            *("--member", member.name, "--listen", member.listen, "--seeds", seeds, "--"),
            *SERVER,
            *("--config", str(self.base / "gunicorn.conf.py"), "--bind", bind),
            *("--workers", str(self._workers), "--threads", str(self._threads)),
            *("--pid", str(member.directory / SERVER_PID_NAME), "--name", f"{self.name}-{member.name}"),
            *self._arguments,
            self.application,
        ]

    def _environment_of(self, member: Member) -> dict[str, str]:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("UNDERSTUDY_") and name != "GUNICORN_CMD_ARGS"
        }
        package_root = str(Path(understudy.__file__).parents[1])
        paths = [package_root, *filter(None, [inherited.get("PYTHONPATH")])]
        return inherited | {
            "PYTHONPATH": os.pathsep.join(paths),
            "UNDERSTUDY_NAME": self.name,
            "UNDERSTUDY_DIR": str(member.directory),
            "UNDERSTUDY_SECRET": self.secret,
            "UNDERSTUDY_PROTECTED_HEADER": "true",
            **{key: value.replace("{name}", member.name) for key, value in self._environment.items()},
        }

    def _start_guard(self) -> subprocess.Popen[bytes] | None:
        """The process that clears up after us; the end of our side of its input tells it."""
        root = str(Path(understudy.__file__).parents[1])
        return subprocess.Popen(
            [sys.executable, "-m", "understudy.demo.guard", str(self.base)],
            stdin=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])},
            start_new_session=True,
        )

    def _lacks(self, name: str, others: Iterable[str]) -> str | None:
        """What the member lacks in order to be ready, in words; None when it is."""
        try:
            status = self.status(name)
        except UnderstudyError as error:
            return str(error)
        if not status.get("ready"):
            return "its agent is not ready"
        seen = {one["name"] for one in status["members"] if one["standing"] == "alive" and one["ready"]}
        if missing := set(others) - seen - {name}:
            return f"it does not see {', '.join(sorted(missing))} as ready"
        return None if answers(self.members[name].door) else "its web server does not answer"

    def _error(self, name: str, what: str) -> ClusterError:
        return ClusterError(f"member {name} {what}\n{self.logs(name)}")


def _holds(holds: Callable[[], bool]) -> bool:
    try:
        return holds()
    except AgentUnavailable:
        return False


def _temporary_directory() -> Path:
    """A new directory whose members' sockets have a path that is short enough."""
    given = Path(tempfile.mkdtemp(prefix="understudy-"))
    longest = given / ("m" * limits.MEMBER_NAME_CHARS_MAX) / "agent.sock"
    if len(os.fsencode(longest)) <= limits.SOCKET_PATH_BYTES_MAX:
        return given
    given.rmdir()
    return Path(tempfile.mkdtemp(prefix="understudy-", dir="/tmp"))
