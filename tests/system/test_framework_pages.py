"""The pages under docs/frameworks, tried as a new user would: pasted, run under each server that they name."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from tests.patience import PATIENCE_S, PATIENT
from tests.system.cluster import free_ports, processes

from understudy.demo.browser import Browser
from understudy.demo.cluster import answers

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(path for path in (ROOT / "docs" / "frameworks").glob("*.md") if path.name != "README.md")
EXAMPLES = sorted((ROOT / "examples").glob("*/app.py"))
VISITS = 6


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page in one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    return blocks(page, "sh")[0].splitlines()


def have_started(command: str, said: str) -> bool:
    """Granian loses a SIGTERM that comes before each of its workers has said that it started, and then never ends."""
    workers = re.search(r"--workers (\d+)", command)
    return "granian" not in command or said.count("Started worker-") >= int(workers[1] if workers else 1)


@contextmanager
def served(
    place: Path,
    command: str,
    port: int,
    directory: Path | None = None,
    *,
    ends_with: int = signal.SIGTERM,
    **variables: str,
) -> Iterator[None]:
    """The command as a user would type it in that directory (else in ``place``), at another port.

    It ends with SIGTERM, as a service manager would do it, or with SIGKILL, which all of its processes are sent.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("UNDERSTUDY_")}
    environment = inherited | {
        "HOME": str(place),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), inherited.get("PATH", "")]),
        "PYTHONPATH": str(ROOT / "src"),
        "PYTHONDONTWRITEBYTECODE": "1",
        **PATIENT,
        **variables,
    }
    assert "8000" in command
    with (place / f"out-{port}").open("ab") as output:
        process = subprocess.Popen(
            shlex.split(command.replace("8000", str(port))),
            cwd=directory or place,
            env=environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        deadline_s = time.monotonic() + PATIENCE_S
        while not (have_started(command, said := (place / f"out-{port}").read_text()) and answers(port)):
            assert process.poll() is None and time.monotonic() < deadline_s, f"{command}: no answer\n{said}"
            time.sleep(0.05)
        yield
    finally:
        if ends_with == signal.SIGKILL:
            os.killpg(process.pid, signal.SIGKILL)
        process.terminate()
        try:
            process.wait(PATIENCE_S)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    processes.kill_below(tmp_path)


def browser_of(framework: str, cookie: str | None = None) -> Browser:
    return Browser("sessionid" if framework == "django" else "session", cookie)


def visit(browser: Browser, port: int) -> int:
    answer = browser.get(port, "/")
    assert answer.status == 200, answer.body
    found = re.search(rb"visit (\d+)", answer.body)
    assert found is not None, answer.body
    return int(found.group(1))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_counter_counts_under_each_server_of_its_page(page: Path, place: Path) -> None:
    """S48, S49: in all workers of two kinds of servers, one after the other, each of which is killed and started again;
    the session outlives that and the change.
    """
    (place / "app.py").write_text(blocks(page, "python")[0])
    servers = commands(page)
    assert len({command.split()[0] for command in servers}) >= 2, "two kinds of servers"
    browser, seen = browser_of(page.stem), []
    for command in servers:
        for ends_with in (signal.SIGKILL, signal.SIGTERM):
            (port,) = free_ports(1)
            with served(place, command, port, ends_with=ends_with, UNDERSTUDY_DIR=str(place / "store")):
                seen += [visit(browser, port) for _ in range(VISITS)]
    assert seen == list(range(1, 2 * len(servers) * VISITS + 1))
    sends_it_after_each_change = page.stem in ("django", "cachelib")  # as Django and Flask-Session do
    assert browser.set_cookies == (len(seen) if sends_it_after_each_change else 1)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_counter_counts_on_three_members(page: Path, place: Path) -> None:
    """S12: a browser that is sent to another member with each request misses no count."""
    (place / "app.py").write_text(blocks(page, "python")[0])
    command = commands(page)[0].replace("--workers 2", "--workers 1")
    addresses = [f"127.0.0.1:{port}" for port in free_ports(3)]
    ports = free_ports(3)
    common = {"UNDERSTUDY_SEEDS": ",".join(addresses), "UNDERSTUDY_SECRET": "a secret of the tests, long enough"}
    browser = browser_of(page.stem)
    with ExitStack() as stack:
        for name, address, port in zip("abc", addresses, ports, strict=True):
            run = f"understudy run --member {name} --listen {address} -- {command}"
            stack.enter_context(served(place, run, port, UNDERSTUDY_DIR=str(place / f"store-{name}"), **common))
        seen = [visit(browser, ports[n % 3]) for n in range(3 * VISITS)]
    assert seen == list(range(1, 3 * VISITS + 1))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.parent.name)
def test_the_example_keeps_a_basket(example: Path, place: Path) -> None:
    """S11, S04: log in (another id), put things in, log out: the basket is gone, also for who has kept a cookie."""
    found = re.search(r"Run it with `(.*?)`", example.read_text("utf-8").replace("\n", " "))
    assert found is not None, "its first lines say how to run it"
    command = found.group(1)
    (port,) = free_ports(1)
    flag = "--port 8000" if command.startswith(("uvicorn", "granian")) else "--bind 127.0.0.1:8000"
    binary, rest = command.split(" ", 1)
    with served(place, f"{binary} {flag} {rest}", port, example.parent, UNDERSTUDY_DIR=str(place / "store")):
        framework = example.parent.name
        browser = browser_of(framework)
        assert browser.get(port, "/").body == b"nobody: nothing\n"
        browser.post(port, "/basket", {"thing": "tea"})
        before = browser.cookie
        browser.post(port, "/login", {"name": "ada"})
        assert browser.cookie not in (None, before)
        browser.post(port, "/basket", {"thing": "milk"})
        assert browser.get(port, "/").body == b"ada: tea, milk\n"
        assert browser_of(framework, before).get(port, "/").body == b"nobody: nothing\n"
        kept = browser.cookie
        browser.post(port, "/logout", {})
        assert browser_of(framework, kept).get(port, "/").body == b"nobody: nothing\n"
