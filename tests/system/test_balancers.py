"""Real HAProxy, nginx, Apache and Caddy before real members, each with what `understudy balancer` prints for it."""

from __future__ import annotations

import http.client
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.system.balancers import KINDS, PACKAGES, Balancer, program
from tests.system.cluster import Cluster, sessions_cluster

from understudy.demo.browser import Answer, Browser

NAMES = ("a", "b", "c")
EACH = pytest.mark.parametrize(
    "kind",
    [
        pytest.param(
            kind,
            marks=pytest.mark.skipif(
                program(kind) is None, reason=f"{kind} is not installed: apt-get install {PACKAGES[kind]}"
            ),
        )
        for kind in KINDS
    ],
)
REPEATING = ("haproxy", "nginx", "caddy")
"""Those that send a GET whose member died once more, to another; Apache cannot."""
CLOSES_BODIES = ("caddy",)
"""Before its release 2.11.3 it cannot send a POST to a second member after it could not connect to the first."""


@pytest.fixture(scope="module")
def running() -> Iterator[Cluster]:
    # As by default: what asks an agent that stands still must come back before all threads of a worker wait for it.
    impatient = {"UNDERSTUDY_AGENT_TIMEOUT_MS": "3000", "UNDERSTUDY_COMMIT_TIMEOUT_MS": "2000"}
    with sessions_cluster(NAMES, **impatient) as cluster:
        cluster.start()
        cluster.wait_ready()
        yield cluster


@pytest.fixture
def cluster(running: Cluster) -> Iterator[Cluster]:
    """All members run before each test, whatever the one before has done."""
    running.start()
    running.wait_ready()
    yield running


class User:
    """One browser that knows the balancer alone; every answer but those of ``ask`` must be a 200."""

    def __init__(self, balancer: Balancer, cookie: str | None = None) -> None:
        self.browser = Browser(cookie=cookie)
        self.balancer = balancer

    @property
    def route(self) -> str:
        assert self.browser.cookie is not None
        _, dot, route = self.browser.cookie.partition(".")
        assert dot and "." not in route, "exactly one dot, for Apache splits at the first"
        return route

    def ask(self, path: str, **form: str) -> Answer:
        port = self.balancer.port
        return self.browser.post(port, path, form) if form else self.browser.get(port, path)

    def get(self, path: str = "/read", **form: str) -> Any:
        answer = self.ask(path, **form)
        assert answer.status == 200, f"{answer.status} {answer.body!r}\n{self.balancer.output()}"
        return answer.json


@EACH
def test_the_printed_configuration_is_accepted(kind: str, cluster: Cluster) -> None:
    """What is printed passes the program's own check without a warning, with and without a path to check."""
    for options in ((), ("--check", "/ready")):
        with Balancer(kind, cluster, *options) as balancer:
            assert "warn" not in balancer.checked.lower(), balancer.checked
            assert User(balancer).get()["member"] in NAMES


@EACH
def test_requests_follow_the_route(kind: str, cluster: Cluster) -> None:
    """Users without a session are spread; one with a session is always served by its primary, which has it at hand."""
    with Balancer(kind, cluster) as balancer:
        assert {User(balancer).get()["member"] for _ in range(12)} == set(NAMES)
        users = [User(balancer) for _ in range(6)]
        for at, user in enumerate(users):
            user.get("/login", name=str(at))
        assert {user.route for user in users} == set(NAMES)
        for _ in range(5):
            for at, user in enumerate(users):
                told = user.get()
                assert (told["member"], told["role"], told["before"]["user"]) == (user.route, "primary", str(at))


@EACH
def test_a_killed_member_is_passed_over_and_the_new_route_followed(kind: str, cluster: Cluster) -> None:
    """S22: the next request after kill -9 of its primary is served, a POST, too, with the session; then the cookie
    names the new primary, and the balancer follows it, also when the killed member is back.
    """
    with Balancer(kind, cluster) as balancer:
        users = [User(balancer) for _ in range(3)]
        for at, user in enumerate(users):
            user.get("/login", name=str(at))
            user.get("/push", name="list", value="before")
        victim = users[0].route
        cluster.kill(victim)
        for at, user in enumerate(users):
            if kind in CLOSES_BODIES:
                user.get()
            assert user.get("/push", name="list", value="after")["before"]["user"] == str(at)
        for at, user in enumerate(users):
            assert user.get()["before"] == {"user": str(at), "list": ["before", "after"]}
            assert user.route != victim
        cluster.start(victim)
        cluster.wait_ready()

        def is_followed() -> bool:
            """Five times by everybody: a health check that a busy machine missed sends one request elsewhere."""
            return all(user.get()["member"] == user.route != victim for _ in range(5) for user in users)

        cluster.wait(is_followed, "the balancer follows the new routes")


@EACH
def test_a_request_in_flight_is_repeated_only_if_that_is_safe(kind: str, cluster: Cluster, tmp_path: Path) -> None:
    """The member dies in the middle of a request: a GET is answered by another one, if the balancer can do that; a POST
    is not sent twice, whoever it came from.
    """
    with Balancer(kind, cluster) as balancer:
        user = User(balancer)
        user.get("/login", name="anna")
        reading, writing = tmp_path / "reading", tmp_path / "writing"
        answers: dict[str, int] = {}

        def ask(method: str, path: str, **form: str) -> None:
            try:
                answers[method] = User(balancer, user.browser.cookie).ask(path, **form).status
            except (OSError, http.client.HTTPException):
                answers[method] = 0  # cut off

        threads = [
            threading.Thread(target=ask, args=("GET", f"/read?gate={reading}")),
            threading.Thread(
                target=ask, args=("POST", "/set"), kwargs={"name": "x", "value": "1", "gate": str(writing)}
            ),
        ]
        for thread in threads:
            thread.start()
        reached = [Path(f"{gate}.reached") for gate in (reading, writing)]
        cluster.wait(lambda: all(path.exists() and path.read_text() for path in reached), "both views have begun")
        before = [path.read_text() for path in reached]
        cluster.kill(user.route)
        for gate in (reading, writing):
            Path(f"{gate}.open").touch()
        for thread in threads:
            thread.join()
        assert answers["GET"] == (200 if kind in REPEATING else 502), balancer.output()
        assert (reached[0].read_text() != before[0]) == (kind in REPEATING)
        assert answers["POST"] not in (200, 503) and reached[1].read_text() == before[1]
        assert user.get()["before"] == {"user": "anna"}, "what was cut off has changed nothing"


@EACH
def test_everything_works_without_stickiness(kind: str, cluster: Cluster) -> None:
    """A balancer that knows nothing of the cookie: each request may go elsewhere, sees what the one before has changed,
    and the loss of a member loses nothing.
    """
    with Balancer(kind, cluster, "--cookie-name", "not-ours") as balancer:
        user = User(balancer)
        user.get("/login", name="anna")
        pushed, seen = [], set()
        for at in range(18):
            pushed.append(str(at))
            member = user.get("/push", name="list", value=str(at))["member"]
            seen.add(member)
            assert user.get()["before"] == {"user": "anna", "list": pushed}
            if at == 11:
                assert seen == set(NAMES)
                cluster.kill(member)
                if kind in CLOSES_BODIES:
                    assert all(user.get()["member"] != member for _ in NAMES)


@pytest.mark.parametrize("kind", [one for one in EACH.args[1] if one.values[0] != "nginx"])
def test_a_member_that_is_not_ready_gets_no_requests(kind: str, cluster: Cluster) -> None:
    """With `--check` on a view that says whether the member is ready: one whose agent stands still gets none, its
    users go on elsewhere; when it is ready again it is back. (nginx cannot check.)
    """
    with Balancer(kind, cluster, "--check", "/ready") as balancer:
        user = User(balancer)
        user.get("/login", name="anna")
        victim = user.route
        agent = cluster.agent_pid(victim)
        assert agent is not None

        def serve() -> set[str]:
            return {User(balancer).get()["member"] for _ in range(6)}

        os.kill(agent, signal.SIGSTOP)
        try:
            cluster.wait(lambda: victim not in serve(), "the member gets no requests")
            told = user.get("/push", name="list", value="1")
            assert told["member"] != victim and told["before"]["user"] == "anna"
        finally:
            os.kill(agent, signal.SIGCONT)
        cluster.wait(lambda: serve() == set(NAMES), "the member is back")
