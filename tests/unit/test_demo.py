"""The parts of the demo that need no processes: where a session is, in words; ports; what its command line refuses."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from understudy.demo import main, places, processes
from understudy.demo.browser import Answer
from understudy.demo.check import Report, describe
from understudy.demo.doors import free_ports, is_free

LOCATED = {"known": True, "ended": False, "primary": "b", "backups": ["c"]}
GOOD = Report(3, 900, 40, [], 2, 500, [], [210.0, 290.0], 2)


def test_each_member_has_a_role_for_a_session() -> None:
    """Primary and backups are those that were located, every other member is a proxy, in the order of the names."""
    shown = places.of_session(LOCATED, {"a": "http://a", "b": "http://b", "c": "http://c"})
    assert [(place.member, place.role, place.url) for place in shown] == [
        ("a", "proxy", "http://a"),
        ("b", "primary", "http://b"),
        ("c", "backup", "http://c"),
    ]
    assert all(place.says for place in shown)


@pytest.mark.parametrize(
    ("located", "role"),
    [(None, "nothing"), ({"known": False}, "nothing"), ({**LOCATED, "ended": True}, "ended")],
)
def test_without_a_session_there_is_no_role(located: dict[str, object] | None, role: str) -> None:
    """No session, an unknown one and an ended one are told apart."""
    assert places.role_of("b", located) == role


def test_a_shop_hears_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `variables` tells is what the shop's process reads; a shop that was told nothing stands alone."""
    assert places.from_environment() == places.Shops({}, "")
    for name, value in places.variables({"a": "http://h:1", "b": "http://h:2"}, "http://h:3").items():
        monkeypatch.setenv(name, value)
    assert places.from_environment() == places.Shops({"a": "http://h:1", "b": "http://h:2"}, "http://h:3")


def test_a_report_holds_only_if_everything_did() -> None:
    """An error, a lost change, no acknowledged change, or a session that nobody answered again: each is enough."""
    assert GOOD.holds
    for worse in (
        GOOD._replace(errors=["x"]),
        GOOD._replace(lost=["x"]),
        GOOD._replace(acknowledged=0),
        GOOD._replace(failover_ms=[210.0]),
        GOOD._replace(failover_ms=[], orphans=0),
    ):
        assert not worse.holds
        assert describe(worse).endswith("NOT all held.")
    assert "median 250 ms, longest 290 ms" in describe(GOOD)


def test_the_protected_header_is_read_as_it_is() -> None:
    """1 is protected, 0 is not, and without the header nothing is known."""
    answers = [
        Answer(200, headers, b"") for headers in ({"x-understudy-protected": "1"}, {"x-understudy-protected": "0"}, {})
    ]
    assert [answer.protected for answer in answers] == [True, False, None]


def test_free_ports_are_free_and_differ() -> None:
    """No port is given twice, nor one on which somebody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        busy = listener.getsockname()[1]
        assert not is_free(busy)
        ports = free_ports(8, [busy, *range(20_000, 21_000)])
    assert len(set(ports)) == 8 and busy not in ports


@pytest.mark.parametrize("port", ["0", "65535"])
def test_ports_that_cannot_be_are_refused(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The range of --port is said, and the exit code is 2."""
    assert main(["--port", port]) == 2
    assert "must be within 1 and 65535" in capsys.readouterr().err


def test_a_members_processes_are_found_and_killed_by_its_directory(tmp_path: Path) -> None:
    """A process, its child in another session, and nobody else's: all end at once."""
    script = (
        "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'input()'], start_new_session=True,"
        " stdin=subprocess.PIPE); print('ready', flush=True); input()"
    )
    mine, other = (
        subprocess.Popen(
            [sys.executable, "-c", script],
            env={**os.environ, "UNDERSTUDY_DIR": str(tmp_path / name)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for name in ("a", "ab")
    )
    try:
        for process in (mine, other):
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        assert len(processes.of_member(tmp_path / "a")) == 2
        assert len(processes.below(tmp_path)) == 4
        processes.kill(tmp_path / "a")
        assert processes.of_member(tmp_path / "a") == []
        assert mine.wait() == -signal.SIGKILL
        assert other.poll() is None and len(processes.of_member(tmp_path / "ab")) == 2
    finally:
        processes.kill_below(tmp_path)
        for process in (mine, other):
            process.wait()
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                pipe.close()


def test_a_process_whose_first_thread_has_ended_runs_until_the_last() -> None:
    """Its sockets are open as long: who is told that it has ended could still reach it."""
    leave = "from threading import Thread as T; T(target=sys.stdin.read).start(); ctypes.CDLL(None).pthread_exit(None)"
    with subprocess.Popen([sys.executable, "-c", f"import ctypes, sys; {leave}"], stdin=subprocess.PIPE) as child:
        while "Z" not in Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0]:
            pass
        assert processes.is_running(child.pid)
        assert child.stdin is not None
        child.stdin.close()
        while processes.is_running(child.pid):
            pass
