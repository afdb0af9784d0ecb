"""Many workers on one machine, many requests at once, and a store without room."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.patience import LONG_LEASES
from tests.system.cluster import free_ports, processes
from tests.system.servers import KINDS, Server

from understudy.demo.browser import Browser
from understudy.demo.doors import HOST

CROWD = Path(__file__).with_name("crowd.py")
WORKERS, THREADS, BUSY, SESSIONS = 100, 10, 4, 100
GTHREAD = next(kind for kind in KINDS if kind.name == "gunicorn gthread")
LARGE = "x" * 20_000


@pytest.fixture
def members(tmp_path: Path) -> Iterator[list[Server]]:
    """Two members, ended with the test; the first serves, the second holds copies."""
    ports = free_ports(2)
    common = {
        "UNDERSTUDY_SEEDS": ",".join(f"{HOST}:{port}" for port in ports),
        "UNDERSTUDY_SECRET": secrets.token_urlsafe(32),
        "UNDERSTUDY_COLD_START_MS": "300",
        **LONG_LEASES,
    }
    made = [
        Server(tmp_path / name, GTHREAD, {**common, "UNDERSTUDY_LISTEN": f"{HOST}:{port}"}, supervised=True)
        for name, port in zip("ab", ports, strict=True)
    ]
    yield made
    for server in made:
        server.kill()


def test_a_hundred_workers_and_a_thousand_requests(members: list[Server]) -> None:
    """S50: a hundred workers of one member, some of them busy with other work, make a thousand requests at once: each
    is answered, protected, and counted exactly once; the agent knows all of them.
    """
    a, b = members
    for server in members:
        server.start()
    a.wait(lambda: a.sees("b") and b.sees("a"), "the members see each other")
    options = {"workers": WORKERS, "threads": THREADS, "busy": BUSY, "sessions": SESSIONS}
    crowd = subprocess.Popen(
        [sys.executable, str(CROWD), json.dumps(options)],
        env=a.environment,
        cwd=a.directory,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert crowd.stdin is not None and crowd.stdout is not None
        cookies = json.loads(crowd.stdout.readline())["cookies"]
        there = [json.loads(crowd.stdout.readline())["worker"] for _ in range(WORKERS)]
        assert sorted(there) == list(range(WORKERS))
        crowd.stdin.write("\n")
        crowd.stdin.flush()
        told = [json.loads(crowd.stdout.readline()) for _ in range(WORKERS)]
        failures = Counter(failure for one in told for failure in one["failures"])
        assert not failures, f"{failures}\n{a.output()}"
        attached = {one["pid"] for one in a.agent()["connections"] if one["kind"] == "worker"}
        assert len(attached & set(processes.children(crowd.pid))) == WORKERS
        crowd.stdin.close()
        crowd.wait()
    finally:
        crowd.kill()
        crowd.wait()
        crowd.stdout.close()
    for server in members:
        counts = [read(server, cookie)["count"] for cookie in cookies]
        assert counts == [WORKERS * THREADS // SESSIONS] * SESSIONS
    a.wait(lambda: len(a.agent()["connections"]) < WORKERS, "the agent has noticed that they went")
    a.check()


@pytest.mark.parametrize("clustered", [False, True], ids=["one machine", "a cluster"])
def test_a_full_store(clustered: bool, tmp_path: Path, members: list[Server]) -> None:
    """S50: a full store refuses new sessions with a 503 that says why in the log; those that exist are read, changed
    and ended; then there is room for new ones.
    """
    small = {"UNDERSTUDY_STORE_BYTES_MAX": "2MiB"}
    if clustered:
        server = members[0]
        server.environment |= small
        for member in members:
            member.start()
        server.wait(lambda: server.sees("b"), "the members see each other")
    else:
        server = Server(tmp_path / "alone", GTHREAD, small)
        members.append(server)
        server.start()
    browsers: list[Browser] = []
    while True:
        browser = Browser()
        answer = browser.post(server.port, "/set", {"name": "large", "value": LARGE})
        if answer.status != 200:
            break
        browsers.append(browser)
        assert len(browsers) < 200, "it never fills"
    assert (answer.status, browser.cookie) == (503, None) and int(answer.headers["retry-after"]) > 0
    assert "store" in server.output() and "full" in server.output()
    for browser in browsers:
        assert browser.get(server.port, "/read").json["before"]["large"] == LARGE
    for browser in browsers[:3]:
        assert browser.post(server.port, "/set", {"name": "small", "value": "1"}).status == 200
        assert browser.get(server.port, "/read").json["before"]["small"] == "1"
    for browser in browsers:
        assert browser.post(server.port, "/logout", {"": ""}).status == 200
        assert browser.get(server.port, "/read").json["before"] == {}
    assert Browser().post(server.port, "/set", {"name": "small", "value": "1"}).status == 200
    server.check()


def read(server: Server, cookie: str) -> dict[str, object]:
    document = Browser(cookie=cookie).get(server.port, "/read").json["before"]
    assert isinstance(document, dict)
    return document
