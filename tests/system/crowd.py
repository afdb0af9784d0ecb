"""A hundred small workers of one member, forked from one process as a server's are; run as ``crowd.py '{...}'``.

Each has some threads, and all of them begin at one moment: every thread reads one session, then adds one to its
counter. Workers numbered below ``busy`` compute beside that, without a pause. Prints a line with the sessions' cookies,
one for each worker that is there, and, after it was given a line, one for each whose requests are answered. All wait
for the end of the input then, so that the whole crowd can be looked at.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any

from understudy.client.runtime import Client, Runtime
from understudy.client.session import Session
from understudy.config import load


def count(client: Client, cookie: str) -> None:
    """One request."""
    session = client.begin(cookie)
    assert session["user"] == "crowd"
    session.transact(add)
    client.finish(session)
    assert session.protected or not client.config.clustered, "answered without protection"


def add(session: Session) -> None:
    session["count"] = session.get("count", 0) + 1


def work(number: int, options: dict[str, Any], gate: int) -> None:
    """One worker's life, up to the end of the input; its requests begin when the gate's other end is closed."""
    client = Runtime(load).client()
    ends = threading.Event()
    if number < options["busy"]:
        threading.Thread(target=compute, args=(ends,), daemon=True).start()
    failures: list[str] = []
    go = threading.Event()

    def request(thread: int) -> None:
        go.wait()
        try:
            count(client, options["cookies"][(number * options["threads"] + thread) % len(options["cookies"])])
        except Exception as error:
            failures.append(f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=request, args=(thread,)) for thread in range(options["threads"])]
    for thread in threads:
        thread.start()
    say({"worker": number})
    os.read(gate, 1)
    go.set()
    for thread in threads:
        thread.join()
    ends.set()
    say({"worker": number, "failures": failures})
    while sys.stdin.buffer.raw.read(1):
        pass


def say(document: dict[str, Any]) -> None:
    os.write(1, (json.dumps(document) + "\n").encode())  # at once, or lines of several workers would mix


def compute(ends: threading.Event) -> None:
    value = 0
    while not ends.is_set():
        value = (value * 31 + 7) % 1_000_003


def main(options: dict[str, Any]) -> None:
    """Makes the sessions, then forks: what this process has opened must serve none of its children."""
    client = Runtime(load).client()
    for _ in range(options["sessions"]):
        session = client.begin("")
        session["user"] = "crowd"
        client.finish(session)
        options.setdefault("cookies", []).append(session.visit.cookie_now)
    say({"cookies": options["cookies"]})
    gate, opener = os.pipe()
    pids = []
    for number in range(options["workers"]):
        pid = os.fork()
        if pid == 0:
            try:
                os.close(opener)
                work(number, options, gate)
            finally:
                os._exit(0)
        pids.append(pid)
    sys.stdin.buffer.raw.read(1)
    os.close(opener)
    for pid in pids:
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
