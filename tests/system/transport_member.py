"""One member in a process of its own: joins, prints a line for each call it gets, and waits to be killed."""

from __future__ import annotations

import json
import signal
import sys

from understudy.transport import Peer
from understudy.transport.zenoh import ZenohTransport


class Printer:
    """A listener that prints."""

    def peer_found(self, peer: Peer) -> None:
        print("found", peer.name, flush=True)

    def peer_lost(self, peer: Peer) -> None:
        print("lost", peer.name, flush=True)

    def received(self, sender: Peer, frame: bytes) -> None:
        print("received", sender.name, len(frame), flush=True)

    def refused(self, reason: str) -> None:
        print("refused", reason, flush=True)


if __name__ == "__main__":
    options = json.loads(sys.argv[1])
    transport = ZenohTransport(
        cluster="shop",
        me=Peer(options["name"], options["incarnation"]),
        listen=options["listen"],
        seeds=options["seeds"],
        link_keys=(options["key"].encode(),),
    )
    transport.start(Printer())
    print("started", flush=True)
    if options.get("exit"):
        sys.exit(0)  # without close()
    signal.pause()
