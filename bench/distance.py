"""Gives machines that are some time apart: network namespaces, joined by a relay that hands each packet on later.

    with Distance(("a", "b"), delay_ms=1.0) as distance:
        subprocess.Popen([*distance.places()["b"].enter, "redis-server", ...])

The relay works on packets, not on connections, so that it is the same for whatever is measured: nobody needs to be told
of it, and what has its own ways of finding the other end (as zenoh has) goes through it, too. It is used everywhere,
also where the kernel could delay packets by itself (netem), so that runs on two machines may be compared. Each machine
has one cable (a TUN device) with an Ethernet's packet size. A packet waits its time and no longer: any number of them
is under way at once, as in a long cable, so nothing but time is taken.

Needs Linux and root. All of it is one process, which ends with its input; the kernel then removes the namespaces.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import select
import shutil
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path

from report import ROOT
from understudy.demo.cluster import Place

ADDRESS = "198.18.1.{}"
"""Of those set aside for testing devices (RFC 2544). No packet can leave."""
PREFIX_BITS = 24
DEVICE = "eth0"
TUN = Path("/dev/net/tun")
PACKET_BYTES_MAX = 65_536
AT_ONCE = 64
"""Packets taken from one machine before the others have their turn."""
PACKETS_MAX = 1 << 16
"""On the way at once; more are lost, as by a router."""

_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
"""Of Linux' <linux/if_tun.h>: packets of IP, and nothing before them."""
_TO = slice(16, 20)
"""Where a packet of IPv4 has the address that it is for."""


class Distance:
    """So many machines, each as far from every other one. Use it as a context: at its end, or ours, nothing is left.

    Raises at its start: OSError.
    """

    def __init__(self, names: Iterable[str], delay_ms: float) -> None:
        self._names = tuple(names)
        self._relay = subprocess.Popen(
            [sys.executable, __file__, str(delay_ms), str(len(self._names))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        )  # fmt: skip
        assert self._relay.stdout is not None
        line = self._relay.stdout.readline()
        if not line:
            self.close()
            raise OSError("the relay between the machines did not start")
        self._namespaces = [f"/proc/{self._relay.pid}/fd/{number}" for number in json.loads(line)]

    def __enter__(self) -> Distance:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def places(self) -> dict[str, Place]:
        """Where each machine's processes belong."""
        return {
            name: Place(_host(number), ("nsenter", f"--net={namespace}"))
            for number, (name, namespace) in enumerate(zip(self._names, self._namespaces, strict=True), 1)
        }

    def enter(self, name: str) -> None:
        """From now on this thread, and what it starts, is on that machine. Raises: OSError."""
        with open(self._namespaces[self._names.index(name)], "rb") as namespace:
            _checked(_LIBC.setns(namespace.fileno(), _CLONE_NEWNET))

    def close(self) -> None:
        """Ends the relay. Who has entered stays on a machine that nobody hears."""
        assert self._relay.stdin is not None and self._relay.stdout is not None
        self._relay.stdin.close()
        self._relay.stdout.close()
        self._relay.wait()


def why_not() -> str | None:
    """Why machines cannot be put apart here; None when they can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "machines that are apart need Linux and root"
    if not TUN.exists():
        return f"machines that are apart need {TUN}, which is not here: modprobe tun"
    if missing := [tool for tool in ("ip", "nsenter") if shutil.which(tool) is None]:
        return f"{', '.join(missing)} not installed: apt-get install iproute2 util-linux"
    return None


# --- the relay's process ---------------------------------------------------------------------------------------------


def main(delay_ms: str, count: str) -> None:
    ends: dict[bytes, int] = {}
    namespaces = []
    for number in range(1, int(count) + 1):
        _checked(_LIBC.unshare(_CLONE_NEWNET))
        namespaces.append(os.open("/proc/self/ns/net", os.O_RDONLY))
        host = _host(number)
        ends[bytes(map(int, host.split(".")))] = _cable(host)
    with contextlib.suppress(OSError):  # a cable waits for no processor
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    print(json.dumps(namespaces), flush=True)
    _relay(ends, float(delay_ms) / 1000)


def _host(number: int) -> str:
    return ADDRESS.format(number)


def _cable(host: str) -> int:
    """The cable of the namespace that this process is in: its end gives what is sent there, and takes what it gets."""
    end = os.open(TUN, os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(end, _TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), _IFF_TUN | _IFF_NO_PI))
    for command in (
        "ip link set lo up",
        f"ip address add {host}/{PREFIX_BITS} dev {DEVICE}",
        f"ip link set {DEVICE} up",
    ):
        subprocess.run(command.split(), check=True, stdin=subprocess.DEVNULL)
    return end


def _relay(ends: Mapping[bytes, int], delay_s: float) -> None:
    """Hands packets on, each ``delay_s`` after it came, until the input ends."""
    under_way: deque[tuple[float, int, bytes]] = deque()
    until = sys.stdin.fileno()
    while True:
        wait_s = max(0.0, under_way[0][0] - time.monotonic()) if under_way else None
        ready = select.select([until, *ends.values()], [], [], wait_s)[0]
        if until in ready:
            return
        for end in ready:
            due_s = time.monotonic() + delay_s
            for packet in _taken(end):
                to = ends.get(packet[_TO])
                if to is not None and len(under_way) < PACKETS_MAX:
                    under_way.append((due_s, to, packet))
        while under_way and under_way[0][0] <= time.monotonic():
            _, to, packet = under_way.popleft()
            with contextlib.suppress(OSError):  # who is gone gets nothing
                os.write(to, packet)


def _taken(end: int) -> Iterable[bytes]:
    """What a machine has sent, some of it at a time."""
    for _ in range(AT_ONCE):
        try:
            yield os.read(end, PACKET_BYTES_MAX)
        except BlockingIOError:
            return


def _checked(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    main(*sys.argv[1:])
