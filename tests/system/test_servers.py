"""Every kind of Python web server, with sessions of one machine and of two members."""

from __future__ import annotations

import http.client
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.system.cluster import free_ports
from tests.system.servers import CONCURRENT, KINDS, Kind, Server

from understudy.demo.browser import Answer, Browser
from understudy.demo.cluster import HOST

EACH = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name.replace(" ", "-").replace(",", ""))
VISITORS = 4


@pytest.fixture
def ended() -> Iterator[list[Server]]:
    """Servers in this list end with the test."""
    servers: list[Server] = []
    yield servers
    for server in servers:
        server.kill()


class Pushing:
    """Visitors who push numbers into their sessions at one server, until it fails them or ``finish`` is called.

    ``kept`` are the numbers whose answer came (and said "protected", if that is asked for).
    """

    def __init__(self, server: Server, others: Server | None = None) -> None:
        self.kept: list[set[str]] = [set() for _ in range(VISITORS)]
        self.browsers = [Browser() for _ in range(VISITORS)]
        self.pids: set[int] = set()
        self._server, self._needs_protection = server, others is not None
        self._end = threading.Event()
        for at, browser in enumerate(self.browsers):
            checked(server, browser.post(server.port, "/login", {"name": str(at)}))
        self._threads = [threading.Thread(target=self._run, args=(at,), daemon=True) for at in range(VISITORS)]
        for thread in self._threads:
            thread.start()

    @property
    def count(self) -> int:
        return sum(map(len, self.kept))

    def wait_for(self, count: int) -> None:
        wanted = self.count + count
        self._server.wait(lambda: self.count >= wanted, f"{count} further answers")

    def finish(self) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def look(self, server: Server) -> None:
        """Every number that was kept is there, once, and nobody has been logged out."""
        for at, browser in enumerate(self.browsers):
            found = checked(server, browser.get(server.port, "/read"))["before"]
            assert found.get("user") == str(at), f"logged out: {found}"
            lost = self.kept[at] - set(found["numbers"])
            assert not lost, f"lost: {sorted(lost)} of {found['numbers']}\n{server.output()}"
            assert len(set(found["numbers"])) == len(found["numbers"]), f"applied twice: {found['numbers']}"

    def _run(self, at: int) -> None:
        number = 0
        while not self._end.is_set():
            number += 1
            try:
                answer = self.browsers[at].post(self._server.port, "/push", {"name": "numbers", "value": str(number)})
            except (OSError, http.client.HTTPException):
                return
            if answer.status != 200:
                return
            self.pids.add(answer.json["pid"])
            if answer.protected or not self._needs_protection:
                self.kept[at].add(str(number))


def checked(server: Server, answer: Answer) -> dict[str, object]:
    assert answer.status == 200, f"{answer.status} {answer.body[:500]!r}\n{server.output()}"
    document = answer.json
    assert isinstance(document, dict)
    return document


def meet(server: Server, visit: Callable[[], Answer], workers: int) -> None:
    """Visits until so many workers have served: the kernel chooses, and the last may still be starting."""
    seen: set[object] = set()

    def have_served() -> bool:
        seen.add(checked(server, visit())["pid"])
        return len(seen) >= workers

    server.wait(have_served, f"{workers} workers have served")


def assert_nothing_started(server: Server) -> None:
    """Requests that use no session have opened no store and started no agent."""
    made = {path.name for path in server.member.iterdir()}
    assert made <= {"member", "secret"}, f"made before a session was used: {made}"


def test_an_import_leaves_nothing(tmp_path: Path) -> None:
    """S48: an application that is only imported, with a cluster configured, has made no file, process or thread."""
    server = Server(tmp_path / "a", KINDS[0], {"UNDERSTUDY_LISTEN": f"{HOST}:{free_ports(1)[0]}"})
    source = (
        "import os, threading, sessions_app, sessions_asgi\n"
        "children = open(f'/proc/self/task/{os.getpid()}/children').read().split()\n"
        "print(len(os.listdir('/proc/self/task')), children, os.path.exists(os.environ['UNDERSTUDY_DIR']))"
    )
    said = subprocess.run(
        [sys.executable, "-c", source], env=server.environment, cwd=server.directory, capture_output=True, text=True
    )
    assert said.stdout == "1 [] False\n", said.stdout + said.stderr


@EACH
def test_on_one_machine(kind: Kind, tmp_path: Path, ended: list[Server]) -> None:
    """S48, S49: before a session is used nothing is started; all workers share every session; SIGTERM and kill -9 under
    load lose no change that was answered, and log nobody out; the store is whole.
    """
    server = Server(tmp_path / "a", kind)
    ended.append(server)
    server.start()
    if not kind.is_warm:
        assert_nothing_started(server)
    browser = Browser()
    checked(server, browser.post(server.port, "/login", {"name": "anna"}))
    pushed: list[str] = []

    def push() -> Answer:
        pushed.append(str(len(pushed)))
        return browser.post(server.port, "/push", {"name": "list", "value": pushed[-1]})

    meet(server, push, kind.workers + (2 if kind.recycles else 0))
    for end in (server.terminate, server.kill):
        load = Pushing(server)
        load.wait_for(20)
        end()
        server.wait_for_end()
        load.finish()
        assert load.count >= 20
        server.check()
        server.start()
        load.look(server)
    meet(server, lambda: browser.get(server.port, "/read"), kind.workers)
    assert checked(server, browser.get(server.port, "/read"))["before"] == {"user": "anna", "list": pushed}


@EACH
def test_in_a_cluster(kind: Kind, tmp_path: Path, ended: list[Server]) -> None:
    """S48, S49: one member under `understudy run`, one whose workers start the agent, when a session is used: sessions
    are shared, and SIGTERM and kill -9 of a member under load lose nothing that was answered as protected.
    """
    ports = free_ports(2)
    common = {
        "UNDERSTUDY_SEEDS": ",".join(f"{HOST}:{port}" for port in ports),
        "UNDERSTUDY_SECRET": secrets.token_urlsafe(32),
        "UNDERSTUDY_COLD_START_MS": "300",
        "UNDERSTUDY_LINGER": "2s",
    }
    a, b = (
        Server(
            tmp_path / name,
            kind,
            {**common, "UNDERSTUDY_LISTEN": f"{HOST}:{port}"},
            supervised=name == "a",
        )
        for name, port in zip("ab", ports, strict=True)
    )
    ended.extend((a, b))
    a.start()
    b.start()
    if not kind.is_warm:
        assert_nothing_started(b)
    browser = Browser()
    checked(b, browser.post(b.port, "/login", {"name": "anna"}))
    a.wait(lambda: a.sees("b") and b.sees("a"), "the members see each other")
    for server in (a, b):
        meet(server, lambda server=server: browser.get(server.port, "/read"), kind.workers)
    for dying, other, end in ((a, b, a.terminate), (b, a, b.kill)):
        load = Pushing(dying, other)
        load.wait_for(20)
        end()
        dying.wait_for_end()
        load.finish()
        load.look(other)
        dying.start()
        checked(dying, browser.get(dying.port, "/read"))
        a.wait(lambda: a.sees("b") and b.sees("a"), "the members see each other again")
        load.look(dying)
    for server in (a, b):
        assert checked(server, browser.get(server.port, "/read"))["before"] == {"user": "anna"}


@pytest.mark.parametrize("kind", CONCURRENT, ids=lambda kind: kind.name.replace(" ", "-"))
def test_one_that_waits_for_the_agent_holds_up_no_other(kind: Kind, tmp_path: Path, ended: list[Server]) -> None:
    """S48: while a request waits for an agent that stands still, its worker serves others; then it is answered, too.

    With gevent that is so because our sockets and locks are the ones that it has exchanged.
    """
    server = Server(tmp_path / "a", kind, {"UNDERSTUDY_LISTEN": f"{HOST}:{free_ports(1)[0]}"})
    ended.append(server)
    server.start()
    browsers = [Browser() for _ in range(3)]
    for browser in browsers:
        checked(server, browser.post(server.port, "/login", {"name": "anna"}))
    agent = int(server.agent()["pid"])
    answers: list[Answer] = []

    def push(browser: Browser) -> None:
        answers.append(browser.post(server.port, "/push", {"name": "list", "value": "1"}))

    threads = [threading.Thread(target=push, args=(browser,)) for browser in browsers]
    os.kill(agent, signal.SIGSTOP)
    try:
        for thread in threads:
            thread.start()
        for _ in range(20):
            assert Browser().get(server.port, "/ping").status == 200
        assert not answers, "nobody has waited for the agent"
    finally:
        os.kill(agent, signal.SIGCONT)
    for thread in threads:
        thread.join()
    for answer in answers:
        checked(server, answer)
    for browser in browsers:
        assert checked(server, browser.get(server.port, "/read"))["before"] == {"user": "anna", "list": ["1"]}
