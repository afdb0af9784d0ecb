"""Gives the system tests their cluster of real members (the demo's own class), and visitors who use it.

A visitor is a browser that names members instead of ports. A ``Slow`` request stands still in the middle of its view
until the test lets it go on.
"""

from __future__ import annotations

import http.client
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.patience import PATIENCE_S, PATIENT

from understudy.demo import processes
from understudy.demo.browser import TIMEOUT_S, Answer, Browser
from understudy.demo.cluster import Cluster, ClusterError, Place
from understudy.demo.doors import Connection, free_ports

__all__ = [
    "Cluster",
    "ClusterError",
    "Slow",
    "Visitor",
    "check_store",
    "free_ports",
    "keep_logs",
    "processes",
    "replace_agent",
    "sessions_cluster",
    "wait_protected",
]

HERE = Path(__file__).parent
APPLICATION = "sessions_app:app"


def sessions_cluster(
    names: Iterable[str] = ("a", "b", "c"), places: Mapping[str, Place] | None = None, **variables: str
) -> Cluster:
    """A cluster, not yet started, that serves ``sessions_app`` with these settings."""
    arguments = ("--pythonpath", str(HERE))
    return Cluster(APPLICATION, names, environment=PATIENT | variables, arguments=arguments, places=places)


def wait_protected(cluster: Cluster, names: Iterable[str]) -> None:
    """Every session has its backup, and every change is acknowledged."""
    names = tuple(names)

    def is_so() -> bool:
        counts = [cluster.status(name)["sessions"] for name in names]
        return all(count["unprotected"] == 0 and count["outbox"] == 0 for count in counts)

    cluster.wait(is_so, "every session is protected")


def replace_agent(cluster: Cluster, name: str) -> None:
    """Kills the member's agent alone, and waits until there is another one."""
    old = cluster.kill_agent(name)
    cluster.wait(lambda: cluster.agent_pid(name) not in (None, old), "a new agent is there")


def keep_logs(cluster: Cluster) -> Path:
    """Puts everything that the members wrote into a directory of its own, and gives that."""
    kept = Path(tempfile.mkdtemp(prefix="understudy-logs-"))
    for name, member in cluster.members.items():
        for path in (member.output, member.directory / "agent.log"):
            if path.exists():
                shutil.copy(path, kept / f"{name}-{path.name}")
    return kept


class Visitor:
    """One browser; requests name the member. Every answer but those of ``ask`` must be a 200."""

    def __init__(self, cluster: Cluster, cookie: str | None = None) -> None:
        self.browser = Browser(cookie=cookie)
        self.cluster = cluster

    @property
    def cookie(self) -> str:
        assert self.browser.cookie is not None, "there is no session"
        return self.browser.cookie

    def tab(self) -> Visitor:
        """Another request of the same browser at the same time: the same cookie, as it is now."""
        return Visitor(self.cluster, self.browser.cookie)

    def get(self, member: str, path: str = "/read", connection: http.client.HTTPConnection | None = None) -> Any:
        return self._checked(self.browser.get(self.cluster[member].door, path, connection))

    def post(self, member: str, path: str, connection: http.client.HTTPConnection | None = None, **form: str) -> Any:
        return self._checked(self.browser.post(self.cluster[member].door, path, form, connection))

    def ask(self, member: str, path: str, **form: str) -> Answer:
        """The answer as it comes; a POST if there is a form."""
        door = self.cluster[member].door
        return self.browser.post(door, path, form) if form else self.browser.get(door, path)

    def protected(self, member: str, path: str, **form: str) -> Any:
        """A POST whose answer must say that a second member has the change."""
        answer = self.browser.post(self.cluster[member].door, path, form)
        document = self._checked(answer)
        assert answer.protected, f"{path} on {member} was answered without protection\n{self.cluster.logs()}"
        return document

    def values(self, member: str) -> dict[str, Any]:
        """All attributes, as a request on that member sees them."""
        values = self.get(member)["before"]
        assert isinstance(values, dict)
        return values

    def places(self, member: str) -> dict[str, Any]:
        """What that member's agent holds for the session: role, primary, backups."""
        located = self.cluster.locate(member, self.cookie)
        assert located is not None, "the cookie is not one of this cluster"
        return located

    def connection_to(self, member: str, is_wanted: Callable[[int], bool]) -> http.client.HTTPConnection:
        """A connection that a worker serves whose process id is wanted; it stays with that worker."""
        found: list[http.client.HTTPConnection] = []

        def is_served() -> bool:
            """The kernel chooses among the workers, and one may still be starting."""
            connection = Connection(self.cluster[member].door, TIMEOUT_S)
            connection.request("GET", "/ping")
            if is_wanted(int(connection.getresponse().read())):
                found.append(connection)
            else:
                connection.close()
            return bool(found)

        self.cluster.wait(is_served, f"such a worker of {member} takes a connection")
        return found[0]

    def _checked(self, answer: Answer) -> Any:
        assert answer.status == 200, f"{answer.status}: {answer.body[:500]!r}\n{self.cluster.logs()}"
        return answer.json


class Slow:
    """One request, in a thread, that has read its session and waits before it goes on.

    It has a cookie jar of its own, with what the visitor's holds now; ``visitor`` is that one's.
    """

    def __init__(self, visitor: Visitor, member: str, path: str, gate: Path, **form: str) -> None:
        self.visitor = visitor.tab()
        self._gate = gate
        self._member, self._path, self._form = member, path, form
        self._answer: Answer | None = None
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        reached = Path(f"{gate}.reached")
        visitor.cluster.wait(lambda: reached.exists() or not self._thread.is_alive(), "the slow view has begun")
        assert reached.exists(), f"the slow request has ended at once: {self._answer or self._failure}"
        visitor.cluster.wait(lambda: reached.read_text() != "", "the slow view says who it is")
        self.pid = int(reached.read_text())
        """The worker in which it waits."""

    def finish(self) -> Answer:
        """Lets it go on, and gives its answer."""
        Path(f"{self._gate}.open").touch()
        self._thread.join()
        if self._failure is not None:
            raise self._failure
        assert self._answer is not None
        return self._answer

    def _run(self) -> None:
        door, form = self.visitor.cluster[self._member].door, {**self._form, "gate": str(self._gate)}
        try:
            if self._path == "/read":
                self._answer = self.visitor.browser.get(door, f"/read?gate={self._gate}")
            else:
                self._answer = self.visitor.browser.post(door, self._path, form)
        except Exception as error:
            self._failure = error


def check_store(cluster: Cluster, name: str) -> None:
    """The member's store passes ``understudy check``."""
    environment = cluster.member_environment(name)
    result = subprocess.run(
        [sys.executable, "-m", "understudy", "check"],
        env=environment,
        cwd=cluster.base,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert result.returncode == 0, f"understudy check on {name}: {result.stdout}{result.stderr}"
