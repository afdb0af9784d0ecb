"""Gives what is measured, as real processes: members with agents, redis with a replica, web servers. They are on
loopback, or on the machines of bench/distance.py.

Everything lives in one temporary directory and ends with whoever made it, also when that is killed: the kernel then
ends the processes, the demo's guard removes the directory. Redis keeps nothing on disk and is seen by nobody but us.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import redis

import understudy
from understudy.agent import control
from understudy.client.runtime import Client
from understudy.config import Config, load
from understudy.demo.cluster import Place
from understudy.demo.doors import HOST, answers, free_ports
from understudy.errors import AgentUnavailable

REDIS_SERVER = "redis-server"
MEMBERS = ("a", "b")
READY_S_MAX = 60.0
"""A bound for what never comes: on a busy machine a start takes many times what it takes on a quiet one."""
STOP_S_MAX = 5.0
POLL_S = 0.01
LOG_TAIL_BYTES = 2_000

_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1
"""Of Linux' <sys/prctl.h>."""


class StartError(Exception):
    """Something that is to be measured did not start; the message holds what it said."""


class Started:
    """The processes of one run. Use it as a context: at its end nothing is left.

    Args:
        places: member, ``redis`` or ``redis replica`` -> the machine that it is on; by default all are on loopback.
    """

    def __init__(self, places: Mapping[str, Place] | None = None) -> None:
        self._places = places or {}
        # Sockets have short paths only, so the place is not TMPDIR's.
        self._base = Path(tempfile.mkdtemp(prefix="us-bench-", dir="/tmp"))
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.variables: dict[str, dict[str, str]] = {}
        """Member -> what an application of it needs in its environment."""
        self._environ = {key: value for key, value in os.environ.items() if not key.startswith("UNDERSTUDY_")}
        root = str(Path(understudy.__file__).parents[1])
        self._environ["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        self._guard = subprocess.Popen(
            [sys.executable, "-m", "understudy.demo.guard", str(self._base)],
            stdin=subprocess.PIPE, env=self._environ, start_new_session=True,
        )  # fmt: skip

    def __enter__(self) -> Started:
        return self

    def __exit__(self, *_: object) -> None:
        os.environ.pop("UNDERSTUDY_DIR", None)
        for process in self._processes.values():
            process.terminate()
        deadline_s = time.monotonic() + STOP_S_MAX
        for process in self._processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline_s - time.monotonic()))
            process.kill()
            process.wait()
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.wait()
        shutil.rmtree(self._base, ignore_errors=True)

    @property
    def pids(self) -> dict[str, int]:
        """Name -> process id."""
        return {name: process.pid for name, process in self._processes.items()}

    def end(self, name: str) -> None:
        """Ends one process in order."""
        process = self._processes.pop(name)
        process.terminate()
        try:
            process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    # --- members ----------------------------------------------------------------------------------------------------

    def directory(self, member: str) -> Path:
        """A member's directory, made if it is not there."""
        path = self._base / member
        path.mkdir(mode=0o700, exist_ok=True)
        return path

    def members(self, names: Sequence[str] = MEMBERS, **settings: str) -> Config:
        """Starts members that see each other; gives the configuration for a worker of the first.

        Args:
            settings: more variables of each of them, without their prefix and in small letters.
        Raises: StartError.
        """
        self._set_up(names, settings)
        for name in names:
            self._agent(name)
        for name in names:
            self._wait(f"agent {name}", partial(self._lacks, name, len(names) - 1))
        return load(environ=self.variables[names[0]], cwd=self._base)

    def grow(self, names: Sequence[str], **settings: str) -> Iterator[Config]:
        """The same one by one: a member is started, and sees the earlier ones, when the next value is taken."""
        self._set_up(names, settings)
        for number, name in enumerate(names):
            self._agent(name)
            for started in names[: number + 1]:
                self._wait(f"agent {started}", partial(self._lacks, started, number))
            yield load(environ=self.variables[names[0]], cwd=self._base)

    def _set_up(self, names: Sequence[str], settings: Mapping[str, str]) -> None:
        listen = dict(zip(names, map("{}:{}".format, map(self._host, names), free_ports(len(names))), strict=True))
        common = {
            "UNDERSTUDY_NAME": f"bench-{secrets.token_hex(6)}",
            "UNDERSTUDY_SEEDS": ",".join(listen.values()),
            "UNDERSTUDY_SECRET": secrets.token_urlsafe(32),
            "UNDERSTUDY_AUTOSTART": "false",
            **{f"UNDERSTUDY_{name.upper()}": value for name, value in settings.items()},
        }
        for name in names:
            own = {"UNDERSTUDY_MEMBER": name, "UNDERSTUDY_LISTEN": listen[name]}
            self.variables[name] = {**common, **own, "UNDERSTUDY_DIR": str(self.directory(name))}
        os.environ["UNDERSTUDY_DIR"] = self.variables[names[0]]["UNDERSTUDY_DIR"]  # where a worker of it looks

    def _agent(self, name: str) -> None:
        command = [sys.executable, "-m", "understudy.agent", "--quiet"]
        self._start(f"agent {name}", command, name, self.variables[name], self._places.get(name))

    def _lacks(self, name: str, others_wanted: int) -> str | None:
        try:
            status = control.ask(self._base / name, "status")
        except AgentUnavailable as error:
            return str(error)
        others = [m for m in status.get("members", ()) if m["name"] != name]
        seen = [m for m in others if m["standing"] == "alive" and m["ready"]]
        return None if status.get("ready") and len(seen) == others_wanted else "the members do not see each other yet"

    # --- redis ------------------------------------------------------------------------------------------------------

    def redis_alone(self) -> int:
        """Starts redis; gives its port. Raises: StartError."""
        (port,) = free_ports(1)
        self._redis("redis", port)
        client = redis.Redis(HOST, port)
        self._wait("redis", lambda: None if _answers(client) else "it does not answer")
        return port

    def redis_pair(self) -> redis.Redis:
        """Starts redis with one replica that follows it; gives a client of the first. Raises: StartError."""
        first, second = free_ports(2)
        host = self._host("redis")
        self._redis("redis", first)
        self._redis("redis replica", second, "--replicaof", f"{host} {first}")
        client = redis.Redis(host, first)
        self._wait("redis", lambda: None if _answers(client) else "it does not answer")
        self._wait("redis replica", lambda: None if _replicates(client) else "it does not follow the first one")
        return client

    def _redis(self, name: str, port: int, *arguments: str) -> None:
        directory = self._base / name.replace(" ", "-")
        directory.mkdir(mode=0o700)
        command = [
            REDIS_SERVER,
            *("--port", str(port), "--bind", self._host(name), "--protected-mode", "no", "--dir", str(directory)),
            *("--save", "", "--appendonly", "no", "--daemonize", "no"),
            *("--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0"),  # so that a replica follows at once
            *arguments,
        ]
        self._start(name, command, directory.name, {}, self._places.get(name))

    # --- web servers ------------------------------------------------------------------------------------------------

    def serve(self, name: str, command: list[str], variables: Mapping[str, str], port: int) -> None:
        """Starts a web server and waits until it answers. ``UNDERSTUDY_DIR`` among the variables: the member's.

        Raises: StartError.
        """
        self._start(name, command, name, dict(variables))
        self._wait(name, lambda: None if answers(port) else "it does not answer")

    # --- processes --------------------------------------------------------------------------------------------------

    def _host(self, name: str) -> str:
        return self._places.get(name, Place()).host

    def _start(
        self, name: str, command: list[str], directory: str, variables: dict[str, str], place: Place | None = None
    ) -> None:
        environ = self._environ | {"UNDERSTUDY_DIR": str(self._base / directory)} | variables
        with (self._base / f"{directory}.out").open("wb") as output:
            self._processes[name] = subprocess.Popen(
                [*(place or Place()).enter, *command], env=environ, cwd=self._base, stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, start_new_session=True, preexec_fn=_end_with_parent,
            )  # fmt: skip

    def _wait(self, name: str, lacks: Callable[[], str | None]) -> None:
        deadline_s = time.monotonic() + READY_S_MAX
        while (what := lacks()) is not None:
            if self._processes[name].poll() is not None:
                raise StartError(f"{name} ended while it started: {self._said(name)}")
            if time.monotonic() > deadline_s:
                raise StartError(f"{name} is not ready after {READY_S_MAX:.0f} s ({what}): {self._said(name)}")
            time.sleep(POLL_S)

    def _said(self, name: str) -> str:
        path = self._base / f"{name.removeprefix('agent ').replace(' ', '-')}.out"
        return path.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace").strip() or "it said nothing"


def wait_for_leases(client: Client) -> None:
    """Waits until the other member has granted its lease, so that reads are served in place. Raises: StartError."""
    deadline_s = time.monotonic() + READY_S_MAX
    while not has_lease(client):
        if time.monotonic() > deadline_s:
            raise StartError(f"member {MEMBERS[1]} has granted no lease after {READY_S_MAX:.0f} s")
        time.sleep(POLL_S)


def has_lease(client: Client) -> bool:
    return client.member.lease_until_ms(MEMBERS[1]) > client.member.store.now_ms()


def _end_with_parent() -> None:
    """Has the kernel kill this process when its parent ends. Redis writes its title over the environment by which the
    guard would find it."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


def _replicates(client: redis.Redis) -> bool:
    client.set("understudy-bench", b"1")
    return client.wait(1, 100) == 1
