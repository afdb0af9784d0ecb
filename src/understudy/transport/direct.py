"""Direct paths: TCP connections between pairs of members, beside a transport that finds members and routes.

The routed transport (zenoh) keeps what it is good at: discovery, membership, and ways around a cut link. Small frames
between two members that can reach each other go over a connection of their own, which costs a fraction. Each member
*offers* its address to the others through the routed transport; of two, the one with the lesser name dials, again and
again while there is no path: where it was told once, for after a cut the routed transport may take seconds until it
carries an offer. While a pair has no proved connection, for frames of bulk size, and once a connection has broken,
frames are routed.

A connection breaks when bytes that were sent stay unacknowledged by the other machine for ``UNACKNOWLEDGED_MS``: the
kernel sees that, in either direction, whether there is an error or only silence; heartbeats keep bytes under way. Where
one end alone has given it up its offers tell the other. What was under way then may be lost, and what is routed may be
overtaken, as the seam allows: the protocol sends it again.

A new path begins in order: its first frames wait until a *mark*, routed behind all earlier frames, is answered.

Everything here runs in the agent's loop but the calls of the routed transport, which come from its threads.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import ssl
from collections.abc import Callable
from typing import cast

from understudy import limits
from understudy.config.parse import Address, parse_address
from understudy.errors import FormatMismatch, FrameError, TransportError
from understudy.transport import Listener, Peer, Transport, handshake
from understudy.transport.tls import TlsFiles, accepting, dialling
from understudy.transport.zenoh_config import why_not

OFFER_S = 0.25
"""Between two offers to a member that has no direct path yet, and at least between two tries to dial it."""
UNACKNOWLEDGED_MS = 500
"""Two retransmissions of a lost packet; then the path counts as cut."""
DIAL_S_MAX = UNACKNOWLEDGED_MS / 1000
"""A connection that is not made by then is tried anew, and a cut that healed is used again after so long. Left alone
the kernel repeats a first packet that was lost after one second, and then after two; and to a connection that came by
such a repetition, because the answer was lost, Linux (6.18) does not apply the time-out above: it hung for seconds."""
STALE_S = 3.0
"""Nor is an offer under way for so long (zenoh ends a link that stands still): its sender gave up an older path."""
PROVE_S_MAX = 3.0
"""A connection that has not proved the secret by then gives its place to another."""
STRANGERS_MAX = 64
"""Connections that have not proved anything yet; further ones are closed at once."""
UNSENT_BYTES_MAX = 4 << 20
"""A peer that reads nothing is given up, as the network would drop what does not fit."""

HOLD_S_MAX = 0.15
"""How long frames of a new path wait for those that were routed before them: a lost mark costs so much, once. Less than
a lease without a heartbeat's interval, so that nobody is suspected for it."""

_DATA, _OFFER, _MARK, _SEEN = b"\0", b"\1", b"\2", b"\3"
"""First byte of every frame. An offer and a mark are routed, "seen" answers a mark on the path itself."""


class DirectPaths:
    """A ``Transport`` that sends small frames directly where it can, over ``routed`` where it cannot.

    Args:
        me: this life.
        listen: where this member is dialled; port 0 takes a free one.
        link_keys: derived from the secrets; the first signs.
        tls: encrypt the paths, and let both ends show certificates.
        dials: False sends everything over ``routed``; the others are told of no address.

    ``start`` and ``send`` are called in a running asyncio loop. Raises at start: TransportError.
    """

    def __init__(
        self,
        routed: Transport,
        *,
        me: Peer,
        listen: Address,
        link_keys: tuple[bytes, ...],
        dials: bool = True,
        tls: TlsFiles | None = None,
    ) -> None:
        self._routed = routed
        self._dials = dials
        self._tls = tls
        self._client_context: ssl.SSLContext | None = None
        self._server_context: ssl.SSLContext | None = None
        self.me = me
        self.link_keys = link_keys
        self._listen = listen
        self._offer = b""
        self._listener: Listener | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._socket: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._found: set[Peer] = set()
        self._addresses: dict[Peer, list[Address]] = {}
        """Where those of them can be dialled whom it is our part to dial."""
        self._paths: dict[Peer, Connection] = {}
        self._unsent: set[Connection] = set()
        self._dialling: set[Peer] = set()
        self._marks: dict[Peer, bytes] = {}
        """Marks of members whose path has not been proved here yet."""
        self._strangers: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    # --- what the agent calls ------------------------------------------------------------------------------------

    def start(self, listener: Listener) -> None:
        self._listener, self._loop = listener, asyncio.get_running_loop()
        if self._tls is not None:  # where nothing is dialled, too: what is wrong with a file is said here
            self._client_context, self._server_context = dialling(self._tls), accepting(self._tls)
        if self._dials:
            self._open()
            self._timer = self._loop.call_later(OFFER_S, self._offer_again)
        self._routed.start(_Routed(self, listener))

    def send(self, to: Peer, frame: bytes) -> None:
        path = self._paths.get(to)
        if path is not None and len(frame) < handshake.PAYLOAD_BYTES_MAX:
            path.send(frame)
            self._unsent.add(path)
        else:
            self._routed.send(to, _DATA + frame)

    def flush(self) -> None:
        """Cost: one system call for each member that something was sent to."""
        while self._unsent:
            self._unsent.pop().flush()

    def failure(self) -> str:
        return self._routed.failure()

    def leave(self) -> None:
        self._routed.leave()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        for connection in (*self._paths.values(), *self._strangers):
            connection.abort()
        self._paths.clear()
        if self._server is not None:
            self._server.close()
        elif self._socket is not None:
            self._socket.close()
        self._listener = None
        self._routed.close()

    def has_path(self, to: Peer) -> bool:
        """True while frames to ``to`` go directly."""
        return to in self._paths

    # --- membership and offers -----------------------------------------------------------------------------------

    def in_loop(self, call: Callable[[], None]) -> None:
        """Let the loop do what a thread of the routed transport brings."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(call)

    def found(self, peer: Peer) -> None:
        self._found.add(peer)
        if self._offer:
            self._routed.send(peer, _OFFER + self._offer)

    def lost(self, peer: Peer) -> None:
        """The path of a life that has ended goes; one that only the routed transport has lost sight of stays."""
        self._found.discard(peer)
        self._addresses.pop(peer, None)
        self._marks.pop(peer, None)

    def offered(self, peer: Peer, offer: bytes) -> None:
        """A member says where it can be dialled: it has no path with us."""
        path = self._paths.get(peer)
        if path is not None and path.age_s() > STALE_S:
            path.abort()
        if self._dials and self.me.name < peer.name and peer in self._found:
            try:
                self._addresses[peer] = [parse_address(text) for text in offer.decode("ascii").split()[:8]]
            except ValueError:
                return  # it says nothing that we understand: frames go on being routed
            self._maybe_dial(peer)

    def marked(self, peer: Peer, mark: bytes) -> None:
        """Everything that was routed before the peer's new path has come."""
        path = self._paths.get(peer)
        if path is not None:
            path.tell_seen(mark)
        elif peer in self._found:
            self._marks[peer] = mark

    def _offer_again(self) -> None:
        assert self._loop is not None
        for peer in self._found:
            if peer not in self._paths:
                self._routed.send(peer, _OFFER + self._offer)
                self._maybe_dial(peer)
        self._timer = self._loop.call_later(OFFER_S, self._offer_again)

    def _open(self) -> None:
        try:
            self._socket = socket.create_server((self._listen.host, self._listen.port), backlog=limits.MEMBERS_MAX)
        except OSError as error:
            raise TransportError(why_not(self._listen, str(error))) from error
        port = self._socket.getsockname()[1]
        self._offer = " ".join(str(Address(host, port)) for host in _reachable_hosts(self._listen)).encode()
        self._spawn(self._accept(self._socket))

    # --- connections ---------------------------------------------------------------------------------------------

    async def _accept(self, listening: socket.socket) -> None:
        assert self._loop is not None
        self._server = await self._loop.create_server(
            lambda: Connection(self, None), sock=listening, ssl=self._server_context
        )

    def _maybe_dial(self, peer: Peer) -> None:
        if peer in self._addresses and peer not in self._paths and peer not in self._dialling:
            self._dialling.add(peer)
            self._spawn(self._dial(peer))

    async def _dial(self, peer: Peer) -> None:
        """Until there is a path, or the peer is gone."""
        assert self._loop is not None
        try:
            while peer in self._addresses and peer not in self._paths:
                began_s = self._loop.time()
                for address in self._addresses[peer]:
                    if await self._try(peer, address):
                        return
                await asyncio.sleep(began_s + OFFER_S - self._loop.time())
        finally:
            self._dialling.discard(peer)

    async def _try(self, peer: Peer, address: Address) -> bool:
        """True when the two have proved themselves to each other."""
        assert self._loop is not None
        try:
            async with asyncio.timeout(DIAL_S_MAX):
                _, connection = await self._loop.create_connection(
                    lambda: Connection(self, peer), address.host, address.port, ssl=self._client_context
                )
        except (OSError, TimeoutError):
            return False
        return await connection.proved

    def _spawn(self, coroutine: object) -> None:
        assert self._loop is not None
        task: asyncio.Task[None] = self._loop.create_task(coroutine)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def arrived(self, connection: Connection) -> bool:
        """A connection that has proved nothing yet; False when there are too many of them."""
        if self._listener is None or len(self._strangers) >= STRANGERS_MAX:
            return False
        self._strangers.add(connection)
        return True

    def opened(self, peer: Peer, connection: Connection) -> None:
        """Both sides have proved the secret: frames go this way from now on."""
        self._strangers.discard(connection)
        former = self._paths.get(peer)
        self._paths[peer] = connection
        if former is not None:
            former.abort()
        self._routed.send(peer, _MARK + connection.hold())
        mark = self._marks.pop(peer, None)
        if mark is not None:
            connection.tell_seen(mark)

    def ended(self, connection: Connection) -> None:
        self._strangers.discard(connection)
        if connection.peer is not None and self._paths.get(connection.peer) is connection:
            del self._paths[connection.peer]

    def received(self, sender: Peer, frame: bytes) -> None:
        if self._listener is not None:
            self._listener.received(sender, frame)

    def refused(self, reason: str) -> None:
        if self._listener is not None:
            self._listener.refused(reason)


class _Routed:
    """The routed transport's listener: tells offers from the frames that are for the agent."""

    def __init__(self, paths: DirectPaths, listener: Listener) -> None:
        self._paths = paths
        self._listener = listener

    def peer_found(self, peer: Peer) -> None:
        self._listener.peer_found(peer)
        self._paths.in_loop(lambda: self._paths.found(peer))

    def peer_lost(self, peer: Peer) -> None:
        self._listener.peer_lost(peer)
        self._paths.in_loop(lambda: self._paths.lost(peer))

    def received(self, sender: Peer, frame: bytes) -> None:
        if frame[:1] == _DATA:
            self._listener.received(sender, frame[1:])
        elif frame[:1] == _OFFER:
            self._paths.in_loop(lambda: self._paths.offered(sender, frame[1:]))
        elif frame[:1] == _MARK:
            self._paths.in_loop(lambda: self._paths.marked(sender, frame[1:]))
        else:
            self._listener.refused(f"member {sender.name} sends frames of a kind that this release does not know")

    def refused(self, reason: str) -> None:
        self._listener.refused(reason)


class Connection(asyncio.Protocol):
    """One TCP connection: the three messages of the handshake, then sealed frames."""

    def __init__(self, paths: DirectPaths, dialled: Peer | None) -> None:
        self.peer = dialled
        """Who is at the other end; of a connection that was accepted, when that is proved."""
        self.proved: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._paths = paths
        self._dials = dialled is not None
        self._transport: asyncio.Transport | None = None
        self._unread = b""
        self._greeted = b""
        self._answered = b""
        self._sealer: handshake.Sealer | None = None
        self._opener: handshake.Sealer | None = None
        self._out: list[bytes] = []
        self._held: list[bytes] | None = None
        self._mark = b""
        self._opened_s = 0.0
        self._limit: asyncio.TimerHandle | None = None

    # --- asyncio's -----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast(asyncio.Transport, transport)  # uvloop's is not of that class
        if not self._paths.arrived(self):
            transport.abort()
            return
        _tune(transport.get_extra_info("socket"))
        self._limit = asyncio.get_running_loop().call_later(PROVE_S_MAX, transport.abort)
        if self._dials:
            assert self.peer is not None
            nonce = secrets.token_bytes(handshake.NONCE_BYTES)
            self._greeted = handshake.greeting(self._paths.me, self.peer, nonce)
            self._write_plain(self._greeted)

    def data_received(self, data: bytes) -> None:
        unread = self._unread + data if self._unread else data
        at = 0
        try:
            while len(unread) - at >= handshake.LENGTH_BYTES:
                size = int.from_bytes(unread[at : at + handshake.LENGTH_BYTES], "big")
                if size > self._size_max:
                    raise FrameError(f"a frame of {size} bytes exceeds the limit of {self._size_max}")
                end = at + handshake.LENGTH_BYTES + size
                if end > len(unread):
                    break
                self._body(unread[at + handshake.LENGTH_BYTES : end])
                at = end
        except (FrameError, FormatMismatch) as error:
            whom = self.peer.name if self.peer is not None else "a stranger"
            self._paths.refused(f"the connection of {whom} was ended: {error}")
            self.abort()
            return
        self._unread = unread[at:]

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._limit is not None:
            self._limit.cancel()
        if not self.proved.done():
            self.proved.set_result(False)
        self._paths.ended(self)

    # --- in ------------------------------------------------------------------------------------------------------

    @property
    def _size_max(self) -> int:
        if self._opener is None:
            return handshake.GREETING_BYTES_MAX
        return handshake.PAYLOAD_BYTES_MAX + handshake.MAC_BYTES

    def _body(self, body: bytes) -> None:
        if self._opener is not None:
            self._frame(self._opener.open(body))
        elif self._dials:
            key = handshake.check_answer(self._paths.link_keys, self._greeted, body)
            self._write_plain(handshake.proof(key, self._greeted, body))
            self._open(handshake.seal_keys(key, self._greeted, body))
        elif not self._greeted:
            self._greeting(body)
        else:
            key = self._paths.link_keys[0]
            handshake.check_proof(key, self._greeted, self._answered, body)
            self.peer = handshake.read_greeting(self._greeted).sender
            self._open(handshake.seal_keys(key, self._greeted, self._answered))

    def _frame(self, frame: bytes) -> None:
        assert self.peer is not None
        if frame[:1] == _DATA:
            self._paths.received(self.peer, frame[1:])
        elif frame[:1] == _SEEN and frame[1:] == self._mark:
            self._release()

    def _greeting(self, body: bytes) -> None:
        greeted = handshake.read_greeting(body)
        if greeted.receiver != self._paths.me:
            raise FrameError("it looks for another life or another member than this one")
        self._greeted = body
        nonce = secrets.token_bytes(handshake.NONCE_BYTES)
        self._answered = handshake.answer(self._paths.link_keys[0], body, nonce)
        self._write_plain(self._answered)

    def _open(self, keys: handshake.SealKeys) -> None:
        assert self.peer is not None and self._limit is not None
        self._limit.cancel()
        ours, theirs = (keys.dialer, keys.acceptor) if self._dials else (keys.acceptor, keys.dialer)
        self._sealer, self._opener = handshake.Sealer(ours), handshake.Sealer(theirs)
        self._opened_s = asyncio.get_running_loop().time()
        self.proved.set_result(True)
        self._paths.opened(self.peer, self)

    def age_s(self) -> float:
        """Since when both sides have proved themselves."""
        return asyncio.get_running_loop().time() - self._opened_s

    # --- out -----------------------------------------------------------------------------------------------------

    def send(self, frame: bytes) -> None:
        """Send with the next flush."""
        if self._held is None:
            self._seal(_DATA + frame)
        else:
            self._held.append(frame)

    def hold(self) -> bytes:
        """Keep frames back from now on; gives the mark that releases them."""
        self._held, self._mark = [], secrets.token_bytes(8)
        asyncio.get_running_loop().call_later(HOLD_S_MAX, self._release)
        return self._mark

    def tell_seen(self, mark: bytes) -> None:
        """The other side may begin: what it has routed is here."""
        self._seal(_SEEN + mark)
        self.flush()

    def _release(self) -> None:
        held, self._held = self._held, None
        for frame in held or ():
            self.send(frame)
        self.flush()

    def _seal(self, frame: bytes) -> None:
        assert self._sealer is not None
        self._out.append(self._sealer.seal(frame))

    def abort(self) -> None:
        """End it now; what it had not sent is lost."""
        if self._transport is not None:
            self._transport.abort()
        self._paths.ended(self)

    def flush(self) -> None:
        """Let what was sent since the last time leave in one system call."""
        out, self._out = self._out, []
        if not out or self._transport is None or self._transport.is_closing():
            return
        self._transport.write(b"".join(out))
        if self._transport.get_write_buffer_size() > UNSENT_BYTES_MAX:
            self.abort()

    def _write_plain(self, message: bytes) -> None:
        assert self._transport is not None
        self._transport.write(len(message).to_bytes(handshake.LENGTH_BYTES, "big") + message)


def _tune(opened: socket.socket) -> None:
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; elsewhere a silent cut is noticed by the members' own silence
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)


def _reachable_hosts(listen: Address) -> list[str]:
    """The addresses to offer: the one that is configured, or those of the host's name where that is a wildcard."""
    if not listen.wildcard:
        return [listen.host]
    try:
        found = socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))
