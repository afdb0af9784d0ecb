"""The demo itself: its check, its pages, and that nothing of it stays behind."""

from __future__ import annotations

import html
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest
from tests.patience import PATIENCE_S
from tests.system.cluster import free_ports, processes

from understudy.demo.browser import Answer, Browser
from understudy.demo.places import COOKIE_NAME

ROOT = Path(__file__).resolve().parents[2]


class Demo:
    """``understudy demo`` in a process of its own, and what it has printed."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        paths = [str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.output = directory / "out"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "understudy", "demo", *arguments],
                cwd=directory,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "TMPDIR": str(directory)},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.directory = directory

    def text(self) -> str:
        return self.output.read_text()

    def wait_text(self, wanted: str) -> str:
        """What it has printed, once that contains this."""
        deadline_s = time.monotonic() + PATIENCE_S
        while wanted not in (text := self.text()):
            assert self.process.poll() is None, f"it has ended with {self.process.returncode}:\n{text}"
            assert time.monotonic() < deadline_s, f"not printed in {PATIENCE_S:.0f} s: {wanted!r}\n{text}"
            time.sleep(0.05)
        return text

    def wait_gone(self) -> None:
        """Until no process and no file of its members is left."""
        deadline_s = time.monotonic() + PATIENCE_S
        while (left := processes.below(self.directory)) or list(self.directory.glob("understudy-*")):
            assert time.monotonic() < deadline_s, f"processes {left}, files {list(self.directory.iterdir())} are left"
            time.sleep(0.05)


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory in which a member's socket has a path that is short enough."""
    with tempfile.TemporaryDirectory(prefix="u-", dir="/tmp") as name:
        yield Path(name)


def press(control: int, browser: Browser, label: str) -> int:
    """Press the button with this label on the control page; gives the answer's status."""
    page = browser.get(control, "/").body.decode()
    for form in re.findall(r"<form.*?</form>", page, re.DOTALL):
        if f">{label}<" in form:
            action = re.search(r'action="(.*?)"', form)
            assert action is not None
            fields = dict(re.findall(r'name="(.*?)" value="(.*?)"', form))
            return browser.post(control, action.group(1), {k: html.unescape(v) for k, v in fields.items()}).status
    raise AssertionError(f"no button {label!r} on the control page:\n{page}")


def wait_answer(browser: Browser, port: int, path: str, wanted: str) -> str:
    """The page, once it shows this."""
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        answer: Answer | None
        try:
            answer = browser.get(port, path)
        except (OSError, http.client.HTTPException):
            answer = None
        if answer is not None and answer.status == 200 and wanted in (page := answer.body.decode()):
            return page
        assert time.monotonic() < deadline_s, f"{path} does not show {wanted!r}: {answer}"
        time.sleep(0.1)


def test_the_check_holds(short_path: Path) -> None:
    """S22: `understudy demo --check` kills a machine under load, loses nothing, ends with 0 and leaves nothing."""
    demo = Demo(short_path, "--check")
    code = demo.process.wait(2 * PATIENCE_S)
    text = demo.text()
    assert code == 0, text
    assert re.search(r"^ *acknowledged changes lost +0 ", text, re.MULTILINE), text
    assert re.search(r"^ *errors +0$", text, re.MULTILINE), text
    demo.wait_gone()


def test_a_person_can_click_through_it(short_path: Path) -> None:
    """What the demo tells a person to try works: log in, hop, kill the primary, go on, start it again, Ctrl-C."""
    demo = Demo(short_path)
    try:
        text = demo.wait_text("Ctrl-C ends everything")
        ports = {name: int(port) for name, port in re.findall(r"shop on (\w) +http://127\.0\.0\.1:(\d+)/", text)}
        found = re.search(r"control page +http://127\.0\.0\.1:(\d+)/", text)
        assert set(ports) == {"a", "b", "c"} and found is not None
        control = int(found.group(1))
        browser = Browser(COOKIE_NAME)

        assert "Log in" in browser.get(ports["a"], "/").body.decode() and browser.cookie is None
        browser.post(ports["a"], "/login", {"name": "<Anna>"})
        page = browser.get(ports["b"], "/").body.decode()
        assert "&lt;Anna&gt;" in page and "<Anna>" not in page
        places = browser.get(ports["c"], "/whoami").json
        assert (places["primary"], len(places["backups"]), len(places["proxies"])) == ("a", 1, 1)
        browser.post(ports["b"], "/add", {"good": "A paper moon", "order": "1"})

        assert "of your session" in browser.get(control, "/").body.decode()
        assert press(control, browser, "Kill a") == 303
        page = browser.get(ports["b"], "/").body.decode()
        assert "&lt;Anna&gt;" in page and page.count("A paper moon</span>") == 2, "one in the shop, one in the cart"
        browser.post(ports["c"], "/add", {"good": "A rubber dagger", "order": "2"})
        with pytest.raises(OSError):
            browser.get(ports["a"], "/")

        assert press(control, browser, "Start a") == 303
        wait_answer(browser, control, "/", "Kill a")
        assert wait_answer(browser, ports["a"], "/whoami", '"orders"')
        assert browser.get(ports["a"], "/whoami").json["orders"] == ["1", "2"]
        browser.post(ports["a"], "/logout", {"": ""})
        assert browser.cookie is None
    finally:
        demo.process.send_signal(signal.SIGINT)
        code = demo.process.wait(PATIENCE_S)
    assert code == 0, demo.text()
    demo.wait_gone()


def test_buttons_are_for_our_own_page_only(short_path: Path) -> None:
    """A form of another page cannot kill a member, and the control page answers to no foreign host name."""
    demo = Demo(short_path)
    try:
        found = re.search(r"control page +(\S+)", demo.wait_text("Ctrl-C ends everything"))
        assert found is not None
        control = urlsplit(found.group(1)).port
        assert control is not None
        for token in ("", "guess"):
            assert Browser().post(control, "/kill", {"member": "a", "token": token}).status == 403
        connection = http.client.HTTPConnection("127.0.0.1", control, timeout=PATIENCE_S)
        connection.request("POST", "/kill", urlencode({"member": "a"}), {"Host": "evil.example"})
        assert connection.getresponse().status == 403
        connection.close()
        connection.request("GET", "/", headers={"Host": "evil.example"})
        assert connection.getresponse().status == 421
        connection.close()
    finally:
        # Its own death with SIGKILL must clear everything away, too.
        demo.process.kill()
        demo.process.wait()
    demo.wait_gone()


def test_a_busy_port_is_said(short_path: Path) -> None:
    """A port that is in use is named, with what to do; nothing is started."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", free_ports(1)[0]))
        listener.listen()
        port = listener.getsockname()[1]
        demo = Demo(short_path, "--port", str(port - 1))
        assert demo.process.wait(PATIENCE_S) == 2
    assert re.search(rf"port {port} .*--port", demo.text()), demo.text()
    assert not list(short_path.glob("understudy-*"))
