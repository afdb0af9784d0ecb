"""Gives web servers to measure, gunicorn over one of ``web_apps``, and the client process that measures them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import msgspec

from load_client import Found, Order
from report import ROOT
from started import Started
from understudy.demo.doors import HOST, free_ports

BENCH = ROOT / "bench"
SERVER_WORKERS = 2
SERVER_THREADS = 8
"""So that connections stay open; 64 clients share 16 threads."""


class Summary(NamedTuple):
    """One measurement."""

    per_s: float
    p50_ms: float
    p99_ms: float
    failures: int


def gunicorn(
    started: Started, name: str, kind: str, variables: Mapping[str, str], workers: int = SERVER_WORKERS
) -> int:
    """Starts a server and gives its port. Raises: StartError."""
    (port,) = free_ports(1)
    command = [
        sys.executable, "-m", "gunicorn", "--bind", f"{HOST}:{port}", "--workers", str(workers),
        "--worker-class", "gthread", "--threads", str(SERVER_THREADS), "--keep-alive", "60", "--log-level", "error",
        "--no-control-socket", "--chdir", str(BENCH), "web_apps:make()",
    ]  # fmt: skip
    started.serve(name, command, {"BENCH_KIND": kind, **variables}, port)
    return port


class LoadClient:
    """The client's process."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def run(self, order: Order) -> Found:
        """Raises: RuntimeError when the client ended, which has said why."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(order) + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the load client ended with code {self._process.wait()}")
        return msgspec.json.decode(line, type=Found)


@contextmanager
def load_client() -> Iterator[LoadClient]:
    process = subprocess.Popen(
        [sys.executable, str(BENCH / "load_client.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        yield LoadClient(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


def summary(found: Found) -> Summary:
    times = sorted((*found.reads_us, *found.writes_us))
    if not times:
        return Summary(0.0, 0.0, 0.0, found.failures)
    return Summary(
        len(times) / found.seconds,
        times[len(times) // 2] / 1000,
        times[min(len(times) - 1, len(times) * 99 // 100)] / 1000,
        found.failures,
    )
