"""Gives the network between members by zenoh: discovery by seeds and gossip, membership by liveliness tokens, frames.

Every member runs zenoh in *router* mode, so that a third member forwards what a cut link between two others no longer
carries. Below one prefix per cluster name a member shows ``live/<name>/<incarnation>/v<version>/<turn>/<proof>``
and hears what is put to ``to/<name>/<incarnation>``; both are declared anew now and then (``_keep_declared`` says why).
Two proofs of the secret: zenoh's own login before a link carries anything (whoever lacks the secret sees neither tokens
nor frames), and a MAC in every token and frame, which also holds where zenoh routers of somebody else lie between.

A call of the agent never waits. Frames that fit one batch go to zenoh directly and are dropped when a link is
congested (a stopped peer costs at most some 2 ms, once, until its link is marked); larger ones, for which zenoh
waits between their parts, are sealed and put by a thread. What was dropped is sent again by the protocol.

Zenoh calls back in its receiving threads (``indirect=False``): a thread between, its default, would have no bound on
what waits in it, would cost a third of the round trip, and would keep an interpreter that forgot ``close`` from ending.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import zenoh

from understudy import limits
from understudy.errors import FormatMismatch, FrameError, TransportError
from understudy.transport import Listener, Peer
from understudy.transport.envelope import (
    ENVELOPE_BYTES_MAX,
    ReplayWindow,
    Sequences,
    Shown,
    cluster_digest,
    login,
    open_,
    read_token,
    seal,
    token,
)
from understudy.transport.pulse import Pulse, is_panic
from understudy.transport.tls import TlsFiles
from understudy.transport.zenoh_config import (
    LINK_LEASE_MS,
    accepts_connections,
    is_own,
    read_address,
    why_not,
    zenoh_config,
)

LONELY_S = 3.0
"""Without any link after so long, a seed that does accept connections is reported; then once a minute."""
LONELY_AGAIN_S = 60.0
SETTLE_S = 0.3
"""After a change of membership zenoh's routers compute their trees anew, 0.1 s later; declarations wait for that, and
then so long again both the former and the new ones stand."""
RENEW_S = 10.0
"""Declarations are renewed so often without a reason that we know of: a few small messages."""
PROOF_S_MAX = 2.0
"""A question that this member's own router answers takes less than a millisecond."""
CLOSE_BROKEN_S = 1.0
"""How long the end of a session is waited for after a panic."""
REFUSALS_INTERVAL_S = 1.0
"""Frames that are not authentic are reported at most so often, with their number."""

_log = logging.getLogger(__name__)


class ZenohTransport:
    """One member's place in a cluster's network; the ``Transport`` of a real agent.

    ``me`` is this life, ``listen`` and ``seeds`` are HOST:PORT, ``link_keys`` are derived from the secrets, the first
    signs. Raises: TransportError for a malformed address. Nothing is opened before ``start``.
    Guarantee: always ``close()`` it (an interpreter that exits without may hang; a normal exit does it for you), and
    not from inside a call to the listener. Calls to the listener come one at a time, from zenoh's threads.
    Not usable after a fork in the child.
    """

    def __init__(
        self,
        *,
        cluster: str,
        me: Peer,
        listen: str,
        seeds: Sequence[str],
        link_keys: tuple[bytes, ...],
        multicast: bool = False,
        tls: TlsFiles | None = None,
        link_lease_ms: int = LINK_LEASE_MS,
        format_version: int = limits.FORMAT_VERSION,
    ) -> None:
        assert link_keys, "a cluster always has a secret"
        self._cluster, self._me, self._keys = cluster, me, link_keys
        self._format_version, self._multicast, self._tls = format_version, multicast, tls
        self._link_lease_ms = link_lease_ms
        self._listen = read_address("listen address", listen)
        self._seeds = [
            seed for seed in (read_address("seed", text) for text in seeds) if not is_own(seed, self._listen)
        ]
        self._prefix = f"understudy/{cluster_digest(cluster)}"
        self._session: zenoh.Session | None = None
        self._declaring = threading.Lock()  # held while the token and the ear are declared, renewed or taken back
        self._tokens: list[zenoh.LivelinessToken] = []
        self._ears: list[zenoh.Subscriber[None]] = []
        self._turn = 0
        self._left = False
        self._bulk = _Bulk(self._put)
        self._closing = threading.Event()
        self._membership_changed = threading.Event()
        self._calls = threading.RLock()  # held while the listener is called, so that close() can end that
        self._sending = threading.Lock()
        self._sequences = Sequences()
        self._window = ReplayWindow()
        self._found = _Found()
        self._refusals = _Refusals()
        self._listener: Listener | None = None
        self._pulse = Pulse()
        self._pid = os.getpid()

    # --- what the agent calls ------------------------------------------------------------------------------------

    def start(self, listener: Listener) -> None:
        """Join. Raises: TransportError when ``listen`` cannot be listened on. Cost: some 10 ms; no seed is awaited."""
        assert self._listener is None, "a transport starts once"
        self._listener = listener
        # Silent unless RUST_LOG says so: what zenoh calls errors (a second link between two members that are each
        # other's seeds, every frame that comes while it closes) is none here, floods, and goes to stdout.
        zenoh.try_init_log_from_env()  # type: ignore[no-untyped-call]  # zenoh's stubs leave results of None open
        atexit.register(self.close)
        self._session = self._open()
        self._declare()
        heard = _direct(self._liveliness)
        self._session.liveliness().declare_subscriber(f"{self._prefix}/live/**", heard, history=True)
        self._bulk.start()
        threading.Thread(target=self._watch_seeds, name="understudy-seeds", daemon=True).start()
        threading.Thread(target=self._keep_declared, name="understudy-renew", daemon=True).start()

    def send(self, to: Peer, frame: bytes) -> None:
        """Give a frame to the network; never waits, never raises for an unreachable peer."""
        if self._session is None or self._closing.is_set():
            return
        if len(frame) < limits.BULK_FRAME_BYTES:
            self._put(to, frame, zenoh.Priority.DATA)
        else:
            self._bulk.offer(to, frame)

    def flush(self) -> None:
        """Nothing was kept back."""

    def failure(self) -> str:
        """Why zenoh does not work any more, or ""; asked once a second."""
        return self._pulse.look() if self._session is not None else ""

    def leave(self) -> None:
        """Take the token back: the others report ``peer_lost``, while frames still go both ways. Idempotent."""
        if self._pulse.is_broken:
            return  # they notice by themselves, as they notice a death
        with self._declaring:
            self._left = True
            self._take_back(self._tokens, keep=0)

    def close(self) -> None:
        """End everything, also after a failed start; nothing is called afterwards. Idempotent; takes some 5 ms."""
        if self._pid != os.getpid():
            return  # a forked child has neither zenoh's threads nor a right to say that the parent leaves
        with self._calls:
            if self._closing.is_set():
                return
            self._closing.set()
        self._membership_changed.set()
        atexit.unregister(self.close)
        self._bulk.stop()
        with self._declaring:
            session, self._session = self._session, None
            self._tokens, self._ears = [], []
        if session is not None:
            _close(session, patiently=not self._pulse.is_broken)

    # --- what zenoh calls, from its own threads ------------------------------------------------------------------

    def _liveliness(self, sample: zenoh.Sample) -> None:
        text = str(sample.key_expr).removeprefix(f"{self._prefix}/live/")
        gone = sample.kind == zenoh.SampleKind.DELETE
        try:
            shown = read_token(self._keys, self._cluster, text, self._format_version)
        except (FrameError, FormatMismatch) as error:
            if not gone and self._refusals.first(text):
                self._refuse(str(error))
            return
        if shown.peer != self._me:
            self._call(partial(self._gone if gone else self._there, shown))

    def _there(self, shown: Shown, listener: Listener) -> None:
        if self._found.add(shown):
            self._membership_changed.set()
            listener.peer_found(shown.peer)

    def _gone(self, shown: Shown, listener: Listener) -> None:
        if self._found.remove(shown):
            self._membership_changed.set()
            listener.peer_lost(shown.peer)

    def _message(self, sample: zenoh.Sample) -> None:
        try:
            if len(sample.payload) > limits.FRAME_BYTES_MAX + ENVELOPE_BYTES_MAX:
                raise FrameError(f"a frame of {len(sample.payload)} bytes is larger than any of ours")
            sender, number, payload = open_(self._keys, self._me, sample.payload.to_bytes())
        except FrameError as error:
            reason = self._refusals.due(str(error))
            if reason is not None:
                self._refuse(reason)
            return
        self._call(partial(self._received, sender, number, payload))

    def _received(self, sender: Peer, number: int, payload: bytes, listener: Listener) -> None:
        if self._window.accept(sender, number):
            listener.received(sender, payload)

    def _refuse(self, reason: str) -> None:
        self._call(lambda listener: listener.refused(reason))

    def _call(self, what: Callable[[Listener], None]) -> None:
        with self._calls:
            if not self._closing.is_set() and self._listener is not None:
                what(self._listener)

    # --- inside --------------------------------------------------------------------------------------------------

    def _open(self) -> zenoh.Session:
        logins = [login(key) for key in self._keys]
        try:
            # zenoh reads the logins from a file, once, while it opens; only this user may read that file.
            with tempfile.NamedTemporaryFile("w", prefix="understudy-", encoding="ascii") as file:
                file.writelines(f"{user}:{password}\n" for user, password in logins)
                file.flush()
                config = zenoh_config(
                    self._listen, self._seeds, self._multicast, logins[0], file.name, self._tls, self._link_lease_ms
                )
                return zenoh.open(zenoh.Config.from_json5(json.dumps(config)))
        except OSError as error:
            raise TransportError(f"the network cannot be started without a temporary file: {error}") from error
        except zenoh.ZError as error:
            raise TransportError(why_not(self._listen, str(error))) from error

    def _declare(self) -> None:
        """Shows this life and listens for what is put to it, under the other one of two keys each.

        Two, because zenoh makes nothing of a key that is declared already, and not more, because it keeps something of
        every key that it ever saw. The former ones are taken back later; what comes twice meanwhile is a repeat.
        """
        with self._declaring:
            if self._session is None or self._closing.is_set():
                return
            to_me = self._key_of(self._me) + ("/**" if self._turn else "")
            self._ears.append(self._session.declare_subscriber(to_me, _direct(self._message)))
            if not self._left:
                shown = token(self._keys[0], self._cluster, Shown(self._me, self._turn), self._format_version)
                self._tokens.append(self._session.liveliness().declare_token(f"{self._prefix}/live/{shown}"))
            self._turn = 1 - self._turn

    def _take_back(self, declared: list[Any], keep: int) -> None:
        while len(declared) > keep:
            former = declared.pop(0)
            if not self._closing.is_set():
                former.undeclare()

    def _keep_declared(self) -> None:
        """Declares again after membership has changed, and now and then.

        zenoh's routers (1.10) can lose declarations for good while links between three or more of them come and go: the
        links are up, but one member neither sees another's token nor sends it anything. What is declared anew once they
        are quiet reaches everybody.
        """
        while not self._closing.is_set():
            self._membership_changed.wait(RENEW_S)
            self._membership_changed.clear()
            if self._closing.wait(SETTLE_S):
                return
            try:
                self._declare()
                if self._closing.wait(SETTLE_S):  # until then the new ones are known everywhere, and no frame is lost
                    return
                with self._declaring:
                    self._take_back(self._tokens, keep=1)
                    self._take_back(self._ears, keep=1)
                self._prove()
            except zenoh.ZError:
                _log.debug("zenoh declares nothing: it is closing, or closed")
            except BaseException as error:
                if not is_panic(error):
                    raise
                self._pulse.panicked(error)
                return

    def _prove(self) -> None:
        """Ask zenoh's router for what it must know: that this life is there."""
        with self._declaring:
            session = None if self._left else self._session
        if session is None:
            return
        shown = f"{self._prefix}/live/{self._me.name}/{self._me.incarnation:016x}/**"
        if any(reply.ok is not None for reply in session.liveliness().get(shown, timeout=PROOF_S_MAX)):
            self._pulse.proved()

    def _key_of(self, peer: Peer) -> str:
        return f"{self._prefix}/to/{peer.name}/{peer.incarnation:016x}"

    def _put(self, to: Peer, frame: bytes, priority: zenoh.Priority) -> None:
        session = self._session
        if session is None:
            return
        with self._sending:
            number = self._sequences.next(to)
        sealed = seal(self._keys[0], self._me, to, number, frame)
        try:
            session.put(
                self._key_of(to),
                sealed,
                congestion_control=zenoh.CongestionControl.DROP,
                priority=priority,
                allowed_destination=zenoh.Locality.REMOTE,
            )
        except zenoh.ZError:
            _log.debug("zenoh took no frame for %s: it is closing", to.name)
        except BaseException as error:
            if not is_panic(error):
                raise
            self._pulse.panicked(error)

    def _watch_seeds(self) -> None:
        """Reports the commonest mistake, which zenoh does not: seeds are there, but take no link from us."""
        wait_s = LONELY_S
        while not self._closing.wait(wait_s):
            try:
                if self._session is None or self._session.info.routers_zid():
                    return
            except zenoh.ZError:
                return  # it closed just now
            for seed in self._seeds:
                if accepts_connections(seed):
                    self._refuse(
                        f"seed {seed} accepts connections, but no link with us: it has another secret, or is no agent"
                        " of Understudy; give all members the same `secret_file` (or UNDERSTUDY_SECRET)"
                        + ("" if self._tls is None else ", and certificates of one `tls_ca` that name their addresses")
                    )
            wait_s = LONELY_AGAIN_S


class _Bulk:
    """Seals and puts large frames in a thread of its own, which may wait; what does not fit its queue is dropped."""

    def __init__(self, put: Callable[[Peer, bytes, zenoh.Priority], None]) -> None:
        self._put = put
        self._frames: deque[tuple[Peer, bytes]] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._ending = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="understudy-bulk", daemon=True)
        self._thread.start()

    def offer(self, to: Peer, frame: bytes) -> None:
        with self._changed:
            if self._ending or self._bytes + len(frame) > limits.BULK_QUEUE_BYTES_MAX:
                return
            self._frames.append((to, frame))
            self._bytes += len(frame)
            self._changed.notify()

    def stop(self) -> None:
        """What waits is still put, for as long as one frame may take."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(limits.BULK_WAIT_MS_MAX / 1000)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._frames or self._ending)
                if not self._frames:
                    return
                to, frame = self._frames.popleft()
                self._bytes -= len(frame)
            # A priority of its own: zenoh makes the frames of one priority wait for each other.
            self._put(to, frame, zenoh.Priority.DATA_LOW)


class _Found:
    """Decides whom to report: a life is there while one of its two tokens is."""

    def __init__(self) -> None:
        self._turns: dict[Peer, set[int]] = {}

    def add(self, shown: Shown) -> bool:
        """True when this life was not there before."""
        new = shown.peer not in self._turns
        self._turns.setdefault(shown.peer, set()).add(shown.turn)
        return new

    def remove(self, shown: Shown) -> bool:
        """True when this life was there and now is not."""
        turns = self._turns.get(shown.peer, set())
        if turns != {shown.turn}:
            turns.discard(shown.turn)
            return False
        del self._turns[shown.peer]
        return True


class _Refusals:
    """Decides which refusals are worth a word: each stranger once, bad frames at most once an interval."""

    def __init__(self) -> None:
        self._strangers: set[str] = set()
        self._untold = 0
        self._told_at_s = float("-inf")
        self._lock = threading.Lock()

    def first(self, stranger: str) -> bool:
        with self._lock:
            if stranger in self._strangers or len(self._strangers) >= limits.REFUSALS_REMEMBERED_MAX:
                return False
            self._strangers.add(stranger)
            return True

    def due(self, reason: str) -> str | None:
        with self._lock:
            now_s = time.monotonic()
            if now_s - self._told_at_s < REFUSALS_INTERVAL_S:
                self._untold += 1
                return None
            untold, self._untold, self._told_at_s = self._untold, 0, now_s
            return f"{reason} (and {untold} more refused frames before it)" if untold else reason


def _close(session: zenoh.Session, *, patiently: bool) -> None:
    """Close a session; not patiently: one whose library has panicked, which may never come back from it."""

    def close() -> None:
        with contextlib.suppress(zenoh.ZError):  # it was closed underneath
            session.close()  # type: ignore[no-untyped-call]  # zenoh's stubs leave results of None open

    if patiently:
        close()
        return
    closing = threading.Thread(target=close, name="understudy-close", daemon=True)
    closing.start()
    closing.join(CLOSE_BROKEN_S)


def _direct(handle: Callable[[zenoh.Sample], None]) -> zenoh.handlers.Callback[zenoh.Sample]:
    """Gives a callback that zenoh's receiving thread calls itself, and into which nothing is raised."""

    def quietly(sample: zenoh.Sample) -> None:
        try:
            handle(sample)
        except Exception:
            _log.exception("what zenoh delivered could not be handled")

    return zenoh.handlers.Callback(quietly, indirect=False)
