"""The README's ten lines under gunicorn with four workers, without any configuration: sessions are shared and stay."""

from __future__ import annotations

import os
import random
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

import pytest
from tests.system.cluster import processes
from tests.system.servers import Kind, Server, gunicorn

from understudy.demo.browser import Browser

ROOT = Path(__file__).resolve().parents[2]
WORKERS = 4
NO_SETTINGS = {"UNDERSTUDY_MEMBER": "", "UNDERSTUDY_PROTECTED_HEADER": ""}

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


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Makes servers that end with the test: gunicorn, with no settings but where the store is."""
    made: list[Server] = []

    def make(source: str, *arguments: str) -> Server:
        kind = Kind("gunicorn", gunicorn(*arguments, application="app:app", workers=WORKERS))
        server = Server(tmp_path / "s", kind, NO_SETTINGS)
        (server.directory / "app.py").write_text(source)
        made.append(server)
        server.start()
        wait_for_workers(server)
        return server

    yield make
    for server in made:
        server.kill()


def wait_for_workers(server: Server) -> None:
    server.wait(lambda: len(server.children()) == WORKERS, "all workers are there")


def start_again(server: Server) -> None:
    server.start()
    wait_for_workers(server)


def stop(server: Server) -> None:
    """As a deployment does it."""
    server.terminate()
    server.wait_for_end()


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
    assert len(processes.of_member(server.member)) == 1 + WORKERS, "the server and four workers"


def test_sessions_outlive_every_process(make: Callable[..., Server]) -> None:
    """S24, S35: sessions survive kill -9 of each worker, a stop and start, and kill -9 of the whole server."""
    server = make(readme_app())
    browser, number = Browser(), 0
    for _ in range(4):
        number += 1
        assert visits(server, browser) == number
        os.kill(server.children()[0], signal.SIGKILL)
        wait_for_workers(server)
    for end in (stop, Server.kill, Server.kill):
        number += 1
        assert visits(server, browser) == number
        end(server)
        server.check()
        start_again(server)
    assert visits(server, browser) == number + 1


def test_sessions_outlive_recycling(make: Callable[..., Server]) -> None:
    """Workers that gunicorn replaces after every few requests take no session with them."""
    server = make(readme_app(), "--max-requests", "5")
    before = set(server.children())
    browser = Browser()
    assert [visits(server, browser) for _ in range(60)] == list(range(1, 61))
    assert not before & set(server.children()), "no worker was replaced"


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
        os.kill(chance.choice(server.children()), signal.SIGKILL)
        wait_for_workers(server)
    end.set()
    for thread in threads:
        thread.join()
    for at, browser in enumerate(browsers):
        # One more for the visit that began the session, and one for this one.
        assert answered[at] + 2 <= visits(server, browser) <= attempted[at] + 2
    server.check()
