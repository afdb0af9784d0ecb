"""Asks five questions of any session library, each answered by what two browsers' requests are seen to do.

An application under test offers the same few paths whatever its framework is: ``script`` is all of its view. A slow
request reads its session, then stands at a gate until it is let on; so requests overlap in one way and no other, and no
answer depends on speed.
"""

from __future__ import annotations

import json
import random
import string
import threading
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import Any

WAIT_S_MAX = 20.0
"""For a request that should come to its gate, or to its end; none takes a second."""
USER = "ada"


class RaceError(Exception):
    """A question could not be asked: what has to be so before it was not so."""


class Gate:
    """Where a slow request stands until it is let on."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()

    def wait(self) -> None:
        """Called by the request, in a thread."""
        self.reached.set()
        if not self.opened.wait(WAIT_S_MAX):
            raise RaceError("nobody opened the gate")


gates: dict[str, Gate] = {}
"""Name in a slow request's path -> its gate."""


def script(
    path: str, session: MutableMapping[str, Any], end: Callable[[], object], save: Callable[[], object]
) -> Iterator[Gate]:
    """What the application does for a path, up to a gate and on from there; the response's text is its return value.

    ``end`` logs out, in the way that the framework's documentation names; ``save`` is for libraries that want to be
    told of a change.
    """
    action, _, rest = path.strip("/").partition("/")
    seen = json.dumps(dict(session.items()))
    if action == "logout":
        end()
    elif action == "set":
        session[rest] = USER
        save()
    elif action == "slow-set":
        name, _, gate = rest.partition("/")
        yield gates[gate]
        session[name] = USER
        save()
    elif action == "slow-read":
        yield gates[rest]
    return seen  # as a conversation's: the drivers below take it


def run(steps: Iterator[Gate]) -> str:
    """Carry a script out in a thread; gives the text."""
    try:
        while True:
            next(steps).wait()
    except StopIteration as stop:
        return str(stop.value)


async def arun(steps: Iterator[Gate]) -> str:
    """The same in an event loop, which goes on meanwhile."""
    import asyncio

    try:
        while True:
            await asyncio.to_thread(next(steps).wait)
    except StopIteration as stop:
        return str(stop.value)


@dataclass
class Reply:
    """What came back of one request."""

    status: int
    cookies: list[str]
    """Each ``Set-Cookie`` line."""
    body: str


Call = Callable[[str, str], Reply]
"""A request with this path and this ``Cookie`` header; several threads may call at once."""


@dataclass
class Subject:
    """One library in one framework, over one storage."""

    library: str
    framework: str
    storage: str
    call: Call
    at: Callable[[int], AbstractContextManager[Any]] = lambda place: nullcontext()
    """Where requests of the block are served: 0 or 1; the same place for a library on one machine."""


@dataclass
class Browser:
    """Keeps cookies as a browser does: what a response brings counts from the moment it comes."""

    subject: Subject
    place: int = 0
    cookies: dict[str, str] = field(default_factory=dict)

    def get(self, path: str, place: int | None = None) -> str:
        """The text of a whole request. Raises: RaceError for an error that the server would show."""
        reply = self._call(path, self.place if place is None else place)
        self._take(reply)
        return reply.body

    def seen(self, place: int | None = None) -> dict[str, Any]:
        """What a request finds in the session."""
        return _as_seen(self.get("/read", place))

    def twin(self) -> Browser:
        """Another browser with the same cookies."""
        return Browser(self.subject, self.place, dict(self.cookies))

    def _call(self, path: str, place: int) -> Reply:
        header = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        with self.subject.at(place):
            return self.subject.call(path, header)

    def _take(self, reply: Reply) -> None:
        for line in reply.cookies:
            for name, morsel in SimpleCookie(line).items():
                if morsel.coded_value in ("", '""') or morsel["max-age"] == "0" or "1970" in morsel["expires"]:
                    self.cookies.pop(name, None)
                else:
                    self.cookies[name] = morsel.coded_value


class Slow:
    """A request that has read its session and stands at its gate."""

    def __init__(self, browser: Browser, path: str) -> None:
        """Raises: RaceError if it does not come to the gate."""
        self._browser = browser
        self._gate = Gate()
        name = f"g{len(gates)}"
        gates[name] = self._gate
        self._replies: list[Reply | BaseException] = []
        self._thread = threading.Thread(target=self._serve, args=(f"{path}/{name}", dict(browser.cookies)), daemon=True)
        self._thread.start()
        if not self._gate.reached.wait(WAIT_S_MAX) or self._replies:
            raise RaceError(f"{path} did not come to its gate: {self._replies}")

    def finish(self) -> None:
        """Let it on, and give its response to the browser. That may be an error: then nothing came of the request."""
        self._gate.opened.set()
        self._thread.join(WAIT_S_MAX)
        if not self._replies:
            raise RaceError("a slow request did not end")
        reply = self._replies[0]
        if isinstance(reply, BaseException):
            raise RaceError(f"a slow request failed: {reply!r}") from reply
        self._browser._take(reply)

    def _serve(self, path: str, cookies: dict[str, str]) -> None:
        try:
            self._replies.append(
                Browser(self._browser.subject, self._browser.place, cookies)._call(path, self._browser.place)
            )
        except BaseException as error:
            self._replies.append(error)
        finally:
            self._gate.reached.set()  # whoever waits for it need not wait any more


# --- the questions ---------------------------------------------------------------------------------------------------


def reader_keeps_a_write(subject: Subject) -> bool:
    """Does a slow request that only reads keep what another one wrote meanwhile?"""
    browser = _logged_in(subject)
    slow = Slow(browser, "/slow-read")
    browser.get("/set/b", place=1)
    slow.finish()
    return {"user", "b"} <= set(browser.seen())


def both_writers_survive(subject: Subject) -> bool:
    """Do two overlapping requests that write different keys both survive?"""
    browser = _logged_in(subject)
    slow = Slow(browser, "/slow-set/a")
    browser.get("/set/b", place=1)
    slow.finish()
    return {"user", "a", "b"} <= set(browser.seen())


def own_id_is_refused(subject: Subject) -> bool:
    """Is an id that the client made up refused, also when the request writes?"""
    made_up = _logged_in(subject)
    made_up.cookies = {name: mangled(value) for name, value in made_up.cookies.items()}
    attacker = made_up.twin()
    made_up.get("/set/secret", place=1)
    return "secret" not in attacker.seen() and "secret" in made_up.seen()


def logout_beats_a_slow_reader(subject: Subject) -> bool:
    """Is a session gone for good after a logout, though a request that only reads ends after it?"""
    return _stays_out(subject, "/slow-read")


def logout_beats_a_slow_writer(subject: Subject) -> bool:
    """Is it gone for good though a request that began before the logout writes after it?"""
    return _stays_out(subject, "/slow-set/a")


QUESTIONS: dict[str, Callable[[Subject], bool]] = {
    "a slow reader keeps another's write": reader_keeps_a_write,
    "two writers of different keys both survive": both_writers_survive,
    "a client's own id is refused": own_id_is_refused,
    "logout wins over a slow reader": logout_beats_a_slow_reader,
    "logout wins over a slow writer": logout_beats_a_slow_writer,
}
"""In the order of the table."""


def _stays_out(subject: Subject, slow_path: str) -> bool:
    browser = _logged_in(subject)
    thief = browser.twin()
    slow = Slow(browser, slow_path)
    browser.get("/logout", place=1)
    if "user" in browser.seen():
        raise RaceError("a logout without any other request does not log out")
    slow.finish()
    return not any("user" in who.seen(place) for who in (browser, thief) for place in (0, 1))


def _logged_in(subject: Subject) -> Browser:
    browser = Browser(subject)
    browser.get("/set/user")
    if browser.seen().get("user") != USER:
        raise RaceError("a session is not there at the next request")
    return browser


def mangled(value: str) -> str:
    """Another value of the same form: digits stay digits, letters letters, and hexadecimal text hexadecimal."""
    draw = random.Random(value)
    kinds = (string.digits, "abcdef", "ABCDEF", string.ascii_lowercase[6:], string.ascii_uppercase[6:])
    return "".join(draw.choice(next((kind for kind in kinds if sign in kind), sign)) for sign in value)


def _as_seen(text: str) -> dict[str, Any]:
    try:
        seen = json.loads(text)
    except ValueError:
        raise RaceError(f"the application did not answer: {text[:200]!r}") from None
    assert isinstance(seen, dict)
    return seen
