"""Gives what two members prove to each other on a connection of their own, and how frames are sealed on it.

Pure: bytes in, bytes out. Three messages open a connection: a greeting that names both lives, an answer that proves
the secret over it, and a proof in return. The nonces of both sides give each direction a key of its own, so that
nothing of one connection opens in another; on it a frame's MAC covers its place in the row, so nothing can be left out,
repeated or moved. Nothing here hides what a frame says: that is the part of TLS.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

from understudy import limits
from understudy.errors import FormatMismatch, FrameError
from understudy.transport import Peer
from understudy.transport.envelope import member_name

NONCE_BYTES = 16
MAC_BYTES = 16
LENGTH_BYTES = 4
GREETING_BYTES_MAX = 160
"""Of each of the three messages: two names, two lives, a nonce, a proof."""
PAYLOAD_BYTES_MAX = limits.BULK_FRAME_BYTES
"""Larger frames stay with the routed transport: here they would keep heartbeats waiting."""

_MAGIC = b"UNDERSTUDY"
_HEADER = struct.Struct(">10sBBBQQ")  # magic, format version, length of either name, both incarnations
_ANSWER = b"understudy answr"  # BLAKE2b's personalisation, 16 bytes: a MAC made for one purpose serves no other
_PROOF = b"understudy proof"
_DIALED = b"understudy dial>"
_ACCEPTED = b"understudy <acpt"


class Greeting(NamedTuple):
    """Who dials whom."""

    sender: Peer
    receiver: Peer
    nonce: bytes


class SealKeys(NamedTuple):
    """The keys of one connection, by who speaks."""

    dialer: bytes
    acceptor: bytes


def greeting(sender: Peer, receiver: Peer, nonce: bytes) -> bytes:
    """The first message, from who dials. ``nonce``: 16 random bytes."""
    assert len(nonce) == NONCE_BYTES
    names = (sender.name.encode(), receiver.name.encode())
    header = _HEADER.pack(
        _MAGIC, limits.FORMAT_VERSION, len(names[0]), len(names[1]), sender.incarnation, receiver.incarnation
    )
    return b"".join((header, *names, nonce))


def read_greeting(data: bytes) -> Greeting:
    """Raises: FrameError when it is none; FormatMismatch. Guarantee: believes nothing, a stranger may have made it."""
    if len(data) < _HEADER.size or len(data) > GREETING_BYTES_MAX:
        raise FrameError("a connection began with something else than a greeting")
    magic, version, name_len, to_len, incarnation, to_incarnation = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        raise FrameError("a connection began with something else than a greeting")
    if version != limits.FORMAT_VERSION:
        raise FormatMismatch(f"a member dials with format version {version}, this one speaks {limits.FORMAT_VERSION}")
    to_at = _HEADER.size + name_len
    nonce_at = to_at + to_len
    if nonce_at + NONCE_BYTES != len(data):
        raise FrameError("a greeting is shorter or longer than its names")
    sender, receiver = member_name(data[_HEADER.size : to_at]), member_name(data[to_at:nonce_at])
    return Greeting(Peer(sender, incarnation), Peer(receiver, to_incarnation), data[nonce_at:])


def answer(link_key: bytes, greeted: bytes, nonce: bytes) -> bytes:
    """The second message, from who was dialled: its own nonce, and the proof that it has the secret."""
    assert len(nonce) == NONCE_BYTES
    return nonce + _mac(link_key, _ANSWER, greeted + nonce)


def check_answer(link_keys: Sequence[bytes], greeted: bytes, data: bytes) -> bytes:
    """Give the key with which the other side has signed. Raises: FrameError."""
    nonce, proof = data[:NONCE_BYTES], data[NONCE_BYTES:]
    for key in link_keys:
        if hmac.compare_digest(proof, _mac(key, _ANSWER, greeted + nonce)):
            return key
    raise FrameError("who was dialled has another secret, or is no member")


def proof(link_key: bytes, greeted: bytes, answered: bytes) -> bytes:
    """The third message, from who dials: the proof in return, with the key that the other side has used."""
    return _mac(link_key, _PROOF, greeted + answered)


def check_proof(link_key: bytes, greeted: bytes, answered: bytes, data: bytes) -> None:
    """Raises: FrameError."""
    if not hmac.compare_digest(data, proof(link_key, greeted, answered)):
        raise FrameError("who dials has another secret, or is no member")


def seal_keys(link_key: bytes, greeted: bytes, answered: bytes) -> SealKeys:
    """The keys of the connection that these messages have opened."""
    return SealKeys(
        blake2b(greeted + answered, key=link_key, digest_size=32, person=_DIALED).digest(),
        blake2b(greeted + answered, key=link_key, digest_size=32, person=_ACCEPTED).digest(),
    )


class Sealer:
    """Seals one direction of a connection; its twin at the other end opens it, in the same row."""

    def __init__(self, key: bytes) -> None:
        # Copying a hash that has taken in its key is quicker than keying a new one for each frame.
        self._keyed = blake2b(key=key, digest_size=MAC_BYTES)
        self._number = 0

    def seal(self, payload: bytes) -> bytes:
        """The frame on the wire: length, MAC, payload. Cost: one hash over the payload, about 1 µs."""
        return (len(payload) + MAC_BYTES).to_bytes(LENGTH_BYTES, "big") + self._next_mac(payload) + payload

    def open(self, body: bytes) -> bytes:
        """The payload of a frame without its length. Raises: FrameError when it is not the next one of this row."""
        payload = body[MAC_BYTES:]
        if not hmac.compare_digest(body[:MAC_BYTES], self._next_mac(payload)):
            raise FrameError("a frame is not authentic, or not the next one")
        return payload

    def _next_mac(self, payload: bytes) -> bytes:
        hasher = self._keyed.copy()
        hasher.update(self._number.to_bytes(8, "big"))
        self._number += 1
        hasher.update(payload)
        return hasher.digest()


def _mac(link_key: bytes, purpose: bytes, body: bytes) -> bytes:
    return blake2b(body, key=link_key, digest_size=MAC_BYTES, person=purpose).digest()
