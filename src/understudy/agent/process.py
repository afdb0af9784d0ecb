"""The agent's loop: whatever comes from workers, from the network and from the clock becomes events of one turn.

One asyncio loop in one thread. Workers' frames and the network's arrivals are submitted to the executor as they come;
the next turn handles all of them in one transaction and then lets messages and answers go. Nothing is decided here
about sessions; only when the agent ends.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from understudy import limits
from understudy.agent.inbox import Directory, Frame, Inbox, Refusal, Seen
from understudy.agent.log import Journal
from understudy.agent.socket import Hooks, WorkerServer, json_answer
from understudy.agent.status import counted_among, entry_document
from understudy.errors import ConfigurationError, FrameError, StoreError, TransportError
from understudy.model.ids import KEY_BYTES
from understudy.protocol.commands import DrainAsked, Event, Fact, FactKind, Started, Ticked
from understudy.protocol.messages import ControlRequest, MemberMessage, Welcome, encode
from understudy.store import Reading
from understudy.store.check import Viewable
from understudy.transport import Peer, Transport

TIDY_EVERY_S = 1.0
"""How often reader slots of killed workers are freed."""
REACHABLE = ("alive", "suspect")
"""Standings of members whose copies count: a suspect is not given up yet."""
FIRST_WORKER_S_MIN = 10.0
"""An agent that a worker has started waits at least so long for that worker to attach."""


class Engine(Protocol):
    """What the agent reads from the protocol's engine."""

    @property
    def ready(self) -> bool: ...

    @property
    def drained(self) -> bool: ...

    @property
    def refusal(self) -> str: ...

    def describe(self) -> dict[str, Any]: ...


class Turns(Protocol):
    """The executor, as the loop sees it."""

    @property
    def engine(self) -> Engine: ...

    def submit(self, event: Event) -> None: ...

    def turn(self) -> bool: ...

    def deadline_ms(self) -> int: ...

    def now_ms(self) -> int: ...


class Looks(Viewable, Protocol):
    """The store, as ``status`` and ``locate`` see it."""

    def read(self, key: bytes) -> Reading: ...

    def tidy_readers(self) -> int: ...


class Life(NamedTuple):
    """Who this agent is, and what it was told once."""

    me: Peer
    cluster: str
    version: str
    own_lives: frozenset[int]
    linger_s: float | None
    """Ends by itself when no worker has been attached for so long; None: never."""


class NetworkFailed(TransportError):
    """The network's library does not work any more; this process must end without waiting for it."""


class NameTaken(ConfigurationError):
    """Another living member of the cluster bears this member's name."""


class Agent:
    """One life of one member. Made inside a running loop."""

    def __init__(self, life: Life, looks: Looks, journal: Journal) -> None:
        self.life = life
        self.journal = journal
        self.server = WorkerServer(Hooks(self._welcome, self._submit, self._control, self._attached, self._warn))
        self.inbox = Inbox(self._wake_from_anywhere)
        self._looks = looks
        self._lives = Directory(life.me, life.own_lives)
        self._executor: Turns | None = None
        self._transport: Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._turn_is_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._drain_limit: asyncio.TimerHandle | None = None
        self._tidy_timer: asyncio.TimerHandle | None = None
        self._timer_ms = 0
        self._drain_waiters: list[Callable[[bytes], None]] = []
        self._left_over = ""
        self._began_s = time.monotonic()

    # --- life -------------------------------------------------------------------------------------------------------

    def begin(self, executor: Turns, transport: Transport, started: Started) -> None:
        """Take up work; the socket and the network are opened next."""
        self._executor, self._transport = executor, transport
        self._submit(started)
        self._tidy_timer = self._loop.call_later(TIDY_EVERY_S, self._tidy)
        if self.life.linger_s is not None:
            self._linger_for(max(self.life.linger_s, FIRST_WORKER_S_MIN))

    def heed_signals(self) -> None:
        """SIGTERM or SIGINT: drain; the second one: end at once."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._signalled, number)

    async def serve(self) -> bool:
        """Work until the end; True if all was handed over before. Raises: what a turn raised; NameTaken."""
        try:
            await self._ended
            return self.drained
        finally:
            self.rest()

    def rest(self) -> None:
        """Take no further turn: the store and the network close. Also after a start that failed."""
        for handle in (self._timer, self._linger, self._drain_limit, self._tidy_timer):
            if handle is not None:
                handle.cancel()
        self._executor = None

    @property
    def drained(self) -> bool:
        """True when everything has its copies elsewhere, as far as there are others."""
        return self._executor is not None and self._executor.engine.drained and not self._left_over

    def drain(self, why: str) -> None:
        """Hand over what is here, go on serving meanwhile, then end."""
        if self._drain_limit is None:
            self.journal.say("drain begun", why)
            self._drain_limit = self._loop.call_later(limits.DRAIN_MS_MAX / 1000, self._drain_over)
            self._submit(DrainAsked())

    def stop(self, why: str) -> None:
        """End with this turn of the loop; peers take over what was not handed over."""
        if not self._ended.done():
            self.journal.say("stopped", why)
            for answer in self._drain_waiters:
                answer(json_answer({"drained": self.drained, "detail": self._left_over or why}))
            self._drain_waiters.clear()
            self._ended.set_result(None)

    # --- what the executor calls ------------------------------------------------------------------------------------

    def send(self, to: str, message: MemberMessage) -> None:
        """Give a message to the network; one to a member that is not there is lost, as on the network."""
        life = self._lives.life_of(to)
        if life is None or self._transport is None:
            return
        frame = encode(message)
        if len(frame) > limits.FRAME_BYTES_MAX:
            self._warn("message too large", f"{type(message).__name__} of {len(frame)} bytes for {to}")
            return
        self._transport.send(life, frame)

    def tell(self, fact: Fact) -> None:
        self.journal.tell(fact)
        if fact.kind is FactKind.DRAINED:
            self._left_over = fact.detail

    # --- turns ------------------------------------------------------------------------------------------------------

    def _submit(self, event: Event) -> None:
        if self._executor is not None:
            self._executor.submit(event)
            self._wake()

    def _wake(self) -> None:
        if not self._turn_is_due:
            self._turn_is_due = True
            self._loop.call_soon(self._turn)

    def _wake_from_anywhere(self) -> None:
        """The inbox is no longer empty: direct paths say so in the loop, the routed transport from its threads."""
        if threading.get_ident() == self._thread:
            self._wake()
        # The loop has ended when the network's last words come.
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake)

    def _take_arrivals(self, submit: Callable[[Event], None]) -> None:
        """What the network has brought since the last turn."""
        arrivals, dropped = self.inbox.take()
        if dropped:
            self._warn("frames dropped", f"{dropped} came while as many as fit were waiting for a turn")
        for arrival in arrivals:
            match arrival:
                case Frame():
                    try:
                        submit(self._lives.read(arrival))
                    except FrameError as error:
                        self._warn("bad frame", f"from member {arrival.sender.name}: {error}")
                case Seen():
                    for event in self._lives.seen(arrival):
                        submit(event)
                    self._maybe_refuse_name(arrival)
                case Refusal(reason=reason):
                    self._warn("refused", reason)

    def _turn(self) -> None:
        executor, transport = self._executor, self._transport
        if executor is None or transport is None or self._ended.done():
            return
        self._turn_is_due = False
        self._take_arrivals(executor.submit)
        try:
            more = executor.turn()
            self._set_timer(executor)
        except StoreError as error:
            # A failing disk undid the turn, and the engine believes what is not so: the next life reads the store.
            # (A store that is merely full refuses single changes, which is no error here.)
            self._warn("store failed", str(error))
            self._ended.set_exception(error)
            return
        except Exception as error:
            self._ended.set_exception(error)
            return
        transport.flush()
        self.server.flush()
        if more:
            self._wake()
        if executor.engine.refusal and not self._ended.done():
            self._ended.set_exception(ConfigurationError(executor.engine.refusal))
        elif self._drain_limit is not None and executor.engine.drained:
            self.stop("drained")

    def _set_timer(self, executor: Turns) -> None:
        """Look at the deadline again when it has come. A timer that goes off earlier stays: most deadlines are put
        off long before they come, and a timer for each would cost more than that look."""
        deadline_ms = executor.deadline_ms()
        if self._timer is not None:
            if self._timer_ms <= deadline_ms:
                return
            self._timer.cancel()
        self._timer_ms = deadline_ms
        # At least a millisecond: an instant that stays in the past must not keep the loop from all else.
        delay_ms = max(1, deadline_ms - executor.now_ms())
        self._timer = self._loop.call_later(delay_ms / 1000, self._timer_went_off)

    def _timer_went_off(self) -> None:
        self._timer = None
        executor = self._executor
        if executor is None:
            return
        if executor.deadline_ms() <= executor.now_ms():
            self._submit(Ticked())
        else:
            self._set_timer(executor)

    def _drain_over(self) -> None:
        self.stop(f"not all was handed over within {limits.DRAIN_MS_MAX // 1000} s")

    def _tidy(self) -> None:
        try:
            self._looks.tidy_readers()
        except StoreError as error:
            self._warn("reader slots not freed", str(error))
        self._maybe_end_without_network()
        self._tidy_timer = self._loop.call_later(TIDY_EVERY_S, self._tidy)

    # --- why it ends ------------------------------------------------------------------------------------------------

    def _signalled(self, number: int) -> None:
        name = signal.Signals(number).name
        if self._drain_limit is not None:
            self.stop(f"second signal, {name}")
        else:
            self.drain(name)

    def _attached(self, count: int) -> None:
        if self.life.linger_s is None or self._drain_limit is not None:
            return
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        if count == 0:
            self._linger_for(self.life.linger_s)

    def _linger_for(self, seconds: float) -> None:
        self._linger = self._loop.call_later(seconds, self.drain, "no worker is attached")

    def _maybe_end_without_network(self) -> None:
        """Direct paths may go on for long, but nobody new is found: the next agent has a library that works."""
        why = self._transport.failure() if self._transport is not None else ""
        if why and not self._ended.done():
            self._ended.set_exception(NetworkFailed(f"the network's library (zenoh) has failed: {why}"))

    def _maybe_refuse_name(self, seen: Seen) -> None:
        """A living member of our name that was ready before us keeps it; one that joins later refuses itself."""
        if not seen.found or seen.peer not in self._lives.strangers:
            return
        self._warn("name taken", f"another life bears the name {seen.peer.name!r}: {seen.peer.incarnation:016x}")
        if self._executor is not None and not self._executor.engine.ready:
            self._loop.call_later(limits.NAME_TAKEN_MS / 1000, self._refuse_name, seen.peer)

    def _refuse_name(self, peer: Peer) -> None:
        if peer in self._lives.strangers and not self._ended.done():
            self._ended.set_exception(
                NameTaken(
                    f"another living member of cluster {self.life.cluster!r} is called {peer.name!r}; give this one"
                    " another name (`member` in [cluster] or UNDERSTUDY_MEMBER), or end the other one"
                )
            )

    # --- workers and tools ------------------------------------------------------------------------------------------

    def _welcome(self) -> Welcome:
        life = self.life
        ready = self._executor is not None and self._executor.engine.ready
        return Welcome(limits.FORMAT_VERSION, life.me.name, life.me.incarnation, ready)

    def _warn(self, what: str, detail: str) -> None:
        self.journal.warn(what, detail)

    def _control(self, request: ControlRequest, answer: Callable[[bytes], None]) -> None:
        """Answer a tool."""
        try:
            match request.verb:
                case "status":
                    answer(json_answer(self.describe()))
                case "locate" if len(request.argument) == KEY_BYTES:
                    answer(json_answer(self._locate(request.argument)))
                case "drain":
                    self._drain_waiters.append(answer)
                    self.drain("a tool asked for it")
                case "stop":
                    answer(json_answer({"stopping": True}))
                    self.stop("a tool asked for it")
                case _:
                    answer(json_answer({"error": f"no such request: {request.verb[:40]!r}"}))
        except StoreError as error:
            answer(json_answer({"error": str(error)}))

    def describe(self) -> dict[str, Any]:
        """Gives the document that ``understudy status`` shows. Raises: StoreError."""
        life = self.life
        engine = self._executor.engine.describe() if self._executor is not None else {}
        living = {life.me.name, *(m["name"] for m in engine.get("members", ()) if m["standing"] in REACHABLE)}
        return {
            "member": life.me.name,
            "cluster": life.cluster,
            "incarnation": f"{life.me.incarnation:016x}",
            "pid": os.getpid(),
            "version": life.version,
            "loop": type(self._loop).__module__.partition(".")[0],
            "uptime_s": round(time.monotonic() - self._began_s, 3),
            **engine,
            "draining": self._drain_limit is not None,
            "sessions": counted_among(self._looks, living),
            **self.server.describe(),
            "facts": dict(self.journal.counts),
        }

    def _locate(self, key: bytes) -> dict[str, Any]:
        document = entry_document(key, self._looks.read(key), self.life.me.name)
        if document.get("role") != "primary" and self._executor is not None:
            document["members"] = self._executor.engine.describe().get("members", [])
        return document
