"""The client of the web benchmarks, a process of its own: keeps connections busy, one request at a time on each.

It reads one JSON object a line, what to do, and answers with one, what was measured. Sockets and bytes only: every
microsecond that it takes is missing to the server that it measures. Cookies are kept as a browser would.
"""

from __future__ import annotations

import random
import re
import selectors
import socket
import sys
import time

import msgspec

HOST = "127.0.0.1"
TIMEOUT_S = 10.0
WARM_SHARE = 0.15
"""Of the time, at its beginning, in which nothing is counted."""
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_SET_COOKIE = re.compile(rb"\r\nset-cookie: *([^=;\r\n]+)=([^;\r\n]*)", re.IGNORECASE)


class Order(msgspec.Struct):
    """What to do: so many clients at these ports (or paths of sockets), which share them evenly, for so long."""

    ports: tuple[int | str, ...]
    clients: int
    seconds: float
    writes: float
    """Share of requests that write."""
    hops: bool = False
    """Each request of a client goes to another port than its last one."""
    fresh: bool = False
    """Each request comes without a cookie."""
    key: str = ""
    """Whose cookies: clients of the same key go on with the sessions that they have."""
    read: str = "/read"
    write: str = "/write"
    begin: str = "/begin"


class Found(msgspec.Struct):
    """What came back in the counted time."""

    seconds: float
    reads_us: list[int]
    writes_us: list[int]
    failures: int
    answered: int = 0
    """Of all requests, the uncounted ones at the beginning too."""


class Visitor:
    """One browser: cookies, and a connection to each port."""

    def __init__(self, ports: tuple[int | str, ...], at: int) -> None:
        self.ports = ports
        self.at = at % len(ports)
        self.cookies: dict[bytes, bytes] = {}
        self.sockets: dict[int | str, socket.socket] = {}
        self.began_ns = 0
        self.writes = False
        self.received = b""

    def connect(self) -> None:
        for port in self.ports:
            if isinstance(port, int):
                connection = socket.create_connection((HOST, port), TIMEOUT_S)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            else:
                connection = socket.socket(socket.AF_UNIX)
                connection.settimeout(TIMEOUT_S)
                connection.connect(port)
            self.sockets[port] = connection

    def close(self) -> None:
        for connection in self.sockets.values():
            connection.close()
        self.sockets.clear()

    @property
    def socket(self) -> socket.socket:
        return self.sockets[self.ports[self.at]]

    def ask(self, path: str) -> None:
        cookie = b"; ".join(name + b"=" + value for name, value in self.cookies.items())
        line = b"\r\nCookie: " + cookie if cookie else b""
        self.received = b""
        self.began_ns = time.perf_counter_ns()
        self.socket.sendall(b"GET " + path.encode() + b" HTTP/1.1\r\nHost: bench" + line + b"\r\n\r\n")

    def take(self) -> int | None:
        """What has come; the status when the answer is complete. Raises: OSError when the server hangs up."""
        data = self.socket.recv(65_536)
        if not data:
            raise ConnectionResetError("the server closed the connection")
        self.received += data
        head, found, body = self.received.partition(b"\r\n\r\n")
        if not found:
            return None
        length = _LENGTH.search(head)
        if length is not None:
            if len(body) < int(length[1]):
                return None
        elif not (_CHUNKED.search(head) and body.endswith(b"0\r\n\r\n")):
            return None
        for name, value in _SET_COOKIE.findall(head):
            self.cookies[name] = value
        return int(head[9:12])

    def hop(self) -> None:
        self.at = (self.at + 1) % len(self.ports)


class Crowd:
    """The visitors of one order."""

    def __init__(self, order: Order, visitors: list[Visitor]) -> None:
        self._order = order
        self._visitors = visitors
        self._chance = random.Random(1)
        self._found = Found(0.0, [], [], 0)

    def run(self) -> Found:
        order, found = self._order, self._found
        with selectors.EpollSelector() as selector:
            began_s = time.monotonic()
            counts_s, until_s = began_s + WARM_SHARE * order.seconds, began_s + order.seconds
            for visitor in self._visitors:
                for connection in visitor.sockets.values():
                    selector.register(connection, selectors.EVENT_READ, visitor)
                self._next(visitor)
            busy = len(self._visitors)
            while busy:
                ready = selector.select(TIMEOUT_S)
                now_s = time.monotonic()
                if not ready:
                    found.failures += busy
                    break
                for key, _ in ready:
                    if self._answered(key.data, now_s >= counts_s):
                        if now_s < until_s:
                            self._next(key.data)
                        else:
                            busy -= 1
            found.seconds = time.monotonic() - counts_s
        return found

    def _next(self, visitor: Visitor) -> None:
        visitor.writes = self._chance.random() < self._order.writes
        if self._order.hops:
            visitor.hop()
        if self._order.fresh:
            visitor.cookies.clear()
        visitor.ask(self._order.write if visitor.writes else self._order.read)

    def _answered(self, visitor: Visitor, counts: bool) -> bool:
        status = visitor.take()
        if status is None:
            return False
        self._found.answered += 1
        if status != 200:
            self._found.failures += 1
        elif counts:
            took_us = (time.perf_counter_ns() - visitor.began_ns) // 1000
            (self._found.writes_us if visitor.writes else self._found.reads_us).append(took_us)
        return True


def begin(visitor: Visitor, path: str) -> None:
    """A session for a visitor that has none."""
    visitor.ask(path)
    while (status := visitor.take()) is None:
        pass
    if status != 200:
        raise OSError(f"{path} was answered with {status}: {visitor.received[-300:]!r}")


def main() -> int:
    known: dict[str, list[Visitor]] = {}
    for line in sys.stdin.buffer:
        order = msgspec.json.decode(line, type=Order)
        visitors = known.setdefault(order.key, [])
        while len(visitors) < order.clients:
            visitors.append(Visitor(order.ports, len(visitors)))
        asked = visitors[: order.clients]
        for visitor in asked:
            visitor.connect()
            if not visitor.cookies and not order.fresh:
                begin(visitor, order.begin)
        found = Crowd(order, asked).run()
        for visitor in asked:
            visitor.close()
        sys.stdout.buffer.write(msgspec.json.encode(found) + b"\n")
        sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
