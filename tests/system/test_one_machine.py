"""The README's ten lines under gunicorn with four workers, without any configuration: sessions are shared and stay."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

import pytest
from tests.system.cluster import free_ports, processes

from understudy.demo.browser import Browser
from understudy.demo.doors import answers

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 30.0

COUNTING_APP = """
from flask import Flask, session
from understudy.flask import Understudy

app = Flask(__name__)
Understudy(app)

@app.get("/")
def count():
    session.transact(lambda current: current.update(visits=current.get("visits", 0) + 1))
    return f"visit {session['visits']}"
"""


class Server:
    """gunicorn with four workers in a directory of its own, with no settings but where the store is."""

    def __init__(self, directory: Path, source: str, *arguments: str) -> None:
        (directory / "app.py").write_text(source)
        self.directory = directory
        self.store = directory / "store"
        self.port = free_ports(1)[0]
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("UNDERSTUDY_")}
        paths = [str(ROOT / "src"), *filter(None, [inherited.get("PYTHONPATH")])]
        home = {"HOME": str(self.directory), "PYTHONPATH": os.pathsep.join(paths)}
        return inherited | home | {"UNDERSTUDY_DIR": str(self.store)}

    def start(self) -> None:
        bind = f"127.0.0.1:{self.port}"
        with (self.directory / "out").open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "--workers", "4", *self._arguments, "--bind", bind, "app:app"],
                cwd=self.directory,
                env=self.environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.wait(lambda: answers(self.port), "the server answers")
        self.wait(lambda: len(self.workers()) == 4, "four workers are there")

    def workers(self) -> list[int]:
        assert self._process is not None
        return processes.children(self._process.pid)

    def stop(self) -> None:
        """As a deployment does it."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(SECONDS)

    def kill(self) -> None:
        """Everything at once, in the middle of whatever it does."""
        processes.kill(self.store)
        if self._process is not None:
            self._process.wait(SECONDS)

    def wait(self, holds: Callable[[], bool], what: str) -> None:
        deadline_s = time.monotonic() + SECONDS
        while not holds():
            assert time.monotonic() < deadline_s, f"not within {SECONDS} s: {what}\n{self.output()}"
            time.sleep(0.02)

    def output(self) -> str:
        return (self.directory / "out").read_text()

    def check(self) -> None:
        """The store passes its check."""
        result = subprocess.run(
            [sys.executable, "-m", "understudy", "check"],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Makes servers that end with the test."""
    made: list[Server] = []

    def make(source: str, *arguments: str) -> Server:
        server = Server(tmp_path, source, *arguments)
        made.append(server)
        server.start()
        return server

    yield make
    for server in made:
        server.kill()


def readme_app() -> str:
    """The first Python block of the README."""
    found = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert found is not None, "the README has no Python block"
    return found.group(1)


def visits(server: Server, browser: Browser) -> int:
    """One more visit; its number."""
    answer = browser.get(server.port, "/")
    assert answer.status == 200, f"{answer.status} {answer.body!r}\n{server.output()}"
    found = re.search(rb"\d+", answer.body)
    assert found is not None
    return int(found.group())


def test_the_readme_app_shares_its_sessions(make: Callable[..., Server]) -> None:
    """The README's application as it stands there: four workers serve one session, and no other process is started."""
    server = make(readme_app())
    anna, berta = Browser(), Browser()
    assert [visits(server, anna) for _ in range(40)] == list(range(1, 41))
    assert visits(server, berta) == 1
    assert anna.set_cookies == 1
    assert len(processes.of_member(server.store)) == 5, "the server and four workers"


def test_sessions_outlive_every_process(make: Callable[..., Server]) -> None:
    """S24, S35: sessions survive kill -9 of each worker, a stop and start, and kill -9 of the whole server."""
    server = make(readme_app())
    browser, number = Browser(), 0
    for _ in range(4):
        number += 1
        assert visits(server, browser) == number
        os.kill(server.workers()[0], signal.SIGKILL)
        server.wait(lambda: len(server.workers()) == 4, "four workers again")
    for end in (server.stop, server.kill, server.kill):
        number += 1
        assert visits(server, browser) == number
        end()
        server.check()
        server.start()
    assert visits(server, browser) == number + 1


def test_sessions_outlive_recycling(make: Callable[..., Server]) -> None:
    """Workers that gunicorn replaces after every few requests take no session with them."""
    server = make(readme_app(), "--max-requests", "5")
    before = set(server.workers())
    browser = Browser()
    assert [visits(server, browser) for _ in range(60)] == list(range(1, 61))
    assert not before & set(server.workers()), "no worker was replaced"


def test_workers_die_in_the_middle_of_writes(make: Callable[..., Server]) -> None:
    """S24, S03: workers that commit in the store themselves are killed at random instants under load: the others go
    on, every answered increment is counted, none twice, and the store passes its check.
    """
    server = make(COUNTING_APP)
    end = threading.Event()
    answered, attempted = [0] * 4, [0] * 4
    browsers = [Browser() for _ in answered]
    for browser in browsers:
        visits(server, browser)

    def visit(at: int) -> None:
        while not end.is_set():
            attempted[at] += 1
            with suppress(OSError, HTTPException):  # the worker that served it was killed
                visits(server, browsers[at])
                answered[at] += 1

    threads = [threading.Thread(target=visit, args=(at,), daemon=True) for at in range(len(browsers))]
    for thread in threads:
        thread.start()
    chance = random.Random(24)
    for _ in range(15):
        before = sum(answered)
        server.wait(lambda before=before: sum(answered) > before + 20, "visitors are served")
        time.sleep(chance.random() * 0.02)
        os.kill(chance.choice(server.workers()), signal.SIGKILL)
        server.wait(lambda: len(server.workers()) == 4, "four workers again")
    end.set()
    for thread in threads:
        thread.join()
    for at, browser in enumerate(browsers):
        # One more for the visit that began the session, and one for this one.
        assert answered[at] + 2 <= visits(server, browser) <= attempted[at] + 2
    server.check()
