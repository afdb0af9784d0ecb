"""Gives the doors of the demo's web servers: ports of the loopback interface, or Unix sockets; who answers there."""

from __future__ import annotations

import http.client
import os
import random
import socket
from collections.abc import Iterable
from pathlib import Path

from understudy.errors import UnderstudyError

HOST = "127.0.0.1"
PORTS = range(20_000, 30_000)
"""Below the ports that the kernel gives to outgoing connections, so that a member finds its own free at its restart."""
READY_PATH = "/ping"
"""What the served application answers without a look at any session."""
READY_TIMEOUT_S = 5.0

Door = int | Path
"""A port, or the path of a socket."""


class NoFreePorts(UnderstudyError):
    """Everything between the first and the last of ``PORTS`` is in use."""


class Connection(http.client.HTTPConnection):
    """A connection to the web server behind a door, opened by its first request."""

    def __init__(self, door: Door, timeout_s: float) -> None:
        super().__init__(HOST, door if isinstance(door, int) else None, timeout=timeout_s)
        self._door = door

    def connect(self) -> None:
        """Raises: OSError when nobody listens."""
        if isinstance(self._door, int):
            super().connect()
            return
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(os.fspath(self._door))


def answers(door: Door) -> bool:
    """True when the web server behind this door serves requests."""
    connection = Connection(door, READY_TIMEOUT_S)
    try:
        connection.request("GET", READY_PATH)
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def free_ports(count: int, candidates: Iterable[int] | None = None) -> list[int]:
    """Gives ports of the loopback interface on which nobody listens, from a random start. Raises: NoFreePorts."""
    start = random.randrange(len(PORTS))
    found: list[int] = []
    for port in candidates or (*PORTS[start:], *PORTS[:start]):
        if len(found) == count:
            break
        if is_free(port):
            found.append(port)
    if len(found) < count:
        raise NoFreePorts(f"no {count} free ports between {PORTS.start} and {PORTS.stop} on {HOST}")
    return found


def is_free(port: int) -> bool:
    """True when a server could bind the port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
