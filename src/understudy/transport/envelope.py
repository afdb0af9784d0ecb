"""Gives what members prove to each other: sealed frames, liveliness tokens, and the memory of what was replayed.

Pure: bytes and names in, bytes and names out. Everything hangs on a *link key*, 16 to 64 bytes derived from the
cluster's secret; the first of several signs and all of them verify, so that a secret can be changed member by member.
A frame names both lives it travels between, so one that was recorded opens in no other life and at no other member;
within one life ``ReplayWindow`` drops it. Nothing here hides what a frame says: that is the link's part.
"""

from __future__ import annotations

import hmac
import re
import struct
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

from understudy import limits
from understudy.errors import FormatMismatch, FrameError
from understudy.transport import Peer

INCARNATION_MAX = (1 << 64) - 1
"""An incarnation is 8 bytes in a frame and 16 hexadecimal digits in a token."""

_MAC_BYTES = 16
_HEADER = struct.Struct(">BBBQQQ")  # format version, length of either name, both incarnations, sequence
_NAMES_AT = _MAC_BYTES + _HEADER.size
ENVELOPE_BYTES_MAX = _NAMES_AT + 2 * limits.MEMBER_NAME_CHARS_MAX
"""What a seal adds to a payload at most."""

_FRAME = b"understudy frame"  # BLAKE2b's personalisation, 16 bytes: a MAC made for one purpose serves no other
_TOKEN = b"understudy token"
_CLUSTER = b"understudy clust"
_LOGIN = b"understudy login"

_NAME_PATTERN = f"[a-z0-9-]{{1,{limits.MEMBER_NAME_CHARS_MAX}}}"
_NAME = re.compile(_NAME_PATTERN)
_TOKEN_TEXT = re.compile(
    rf"(?P<name>{_NAME_PATTERN})/(?P<incarnation>[0-9a-f]{{16}})/v(?P<version>[0-9]{{1,6}})/(?P<turn>[01])"
    r"/(?P<mac>[0-9a-f]{32})"
)


class Opened(NamedTuple):
    """What an authentic frame holds."""

    sender: Peer
    sequence: int
    payload: bytes


class Shown(NamedTuple):
    """What a token shows: a life, and which of the two tokens it is that the life shows in turn."""

    peer: Peer
    turn: int


# --- frames ----------------------------------------------------------------------------------------------------------


def seal(link_key: bytes, sender: Peer, receiver: Peer, sequence: int, payload: bytes) -> bytes:
    """Gives the frame that carries ``payload`` (at most ``FRAME_BYTES_MAX`` bytes) from one life to another.

    ``sequence`` rises with each frame from this sender to this receiver (``Sequences``).
    Cost: one hash over the payload, about 1 µs and 1 µs per kB.
    """
    assert len(payload) <= limits.FRAME_BYTES_MAX, "the protocol bounds what it sends"
    assert 0 <= sender.incarnation <= INCARNATION_MAX and 0 <= receiver.incarnation <= INCARNATION_MAX
    names = (sender.name.encode(), receiver.name.encode())
    header = _HEADER.pack(
        limits.FORMAT_VERSION, len(names[0]), len(names[1]), sender.incarnation, receiver.incarnation, sequence
    )
    body = b"".join((header, *names, payload))
    return _mac(link_key, _FRAME, body) + body


def open_(link_keys: Sequence[bytes], receiver: Peer, data: bytes) -> Opened:
    """Gives sender, sequence and payload of a frame that was sealed for this life of ``receiver``.

    Raises: FrameError for a frame that is malformed, too large, not authentic, or meant for another life or member.
    Guarantee: sizes are checked before anything is hashed or copied, the MAC before anything else is believed.
    """
    if not _NAMES_AT <= len(data) <= limits.FRAME_BYTES_MAX + ENVELOPE_BYTES_MAX:
        raise FrameError(f"a frame of {len(data)} bytes cannot be one of ours")
    body = memoryview(data)[_MAC_BYTES:]
    if not _proved(link_keys, data[:_MAC_BYTES], body):
        raise FrameError("a frame is not authentic: its sender has another secret, or it was changed on the way")
    version, name_len, to_len, incarnation, to_incarnation, sequence = _HEADER.unpack_from(data, _MAC_BYTES)
    if version != limits.FORMAT_VERSION:
        raise FrameError(f"a frame has format version {version}, this release reads {limits.FORMAT_VERSION}")
    to_at = _NAMES_AT + name_len
    payload_at = to_at + to_len
    if payload_at > len(data):
        raise FrameError("a frame is shorter than its names")
    sender = Peer(member_name(data[_NAMES_AT:to_at]), incarnation)
    if to_incarnation != receiver.incarnation or data[to_at:payload_at] != receiver.name.encode():
        raise FrameError(f"a frame from {sender.name} is meant for another life or place than this one")
    return Opened(sender, sequence, data[payload_at:])


class Sequences:
    """Gives the next sequence number towards each receiver.

    Numbers towards one receiver only rise, also when it was forgotten because there were too many. Not thread-safe.
    """

    def __init__(self, lives_max: int = limits.LIVES_REMEMBERED_MAX) -> None:
        self._last: OrderedDict[Peer, int] = OrderedDict()
        self._lives_max = lives_max
        self._floor = 0  # the highest number of any receiver that was forgotten

    def next(self, receiver: Peer) -> int:
        """Gives a number above all that were given for ``receiver`` before."""
        number = self._last.pop(receiver, self._floor) + 1
        self._last[receiver] = number
        if len(self._last) > self._lives_max:
            self._floor = max(self._floor, self._last.popitem(last=False)[1])
        return number


class ReplayWindow:
    """Decides whether a frame comes for the first time, per sender's life. Not thread-safe.

    The last ``REPLAY_WINDOW_FRAMES`` sequence numbers of a sender may come in any order; older ones count as repeats.
    Guarantee: at most ``lives_max`` lives are remembered; of a longer row the one that was silent longest goes.
    """

    def __init__(self, lives_max: int = limits.LIVES_REMEMBERED_MAX) -> None:
        self._seen: OrderedDict[Peer, tuple[int, int]] = OrderedDict()  # highest number, bit i: highest - i came
        self._lives_max = lives_max

    def accept(self, sender: Peer, sequence: int) -> bool:
        """True when this frame was not seen before; it is remembered."""
        highest, bits = self._seen.pop(sender, (sequence, 0))
        new = True
        if sequence > highest:
            bits = (bits << min(sequence - highest, limits.REPLAY_WINDOW_FRAMES) | 1) & _WINDOW_MASK
            highest = sequence
        else:
            bit = 1 << (highest - sequence) if highest - sequence < limits.REPLAY_WINDOW_FRAMES else 0
            new = bit != 0 and not bits & bit
            bits |= bit
        self._seen[sender] = (highest, bits)
        if len(self._seen) > self._lives_max:
            self._seen.popitem(last=False)
        return new


_WINDOW_MASK = (1 << limits.REPLAY_WINDOW_FRAMES) - 1


# --- tokens and logins ---------------------------------------------------------------------------------------------


def cluster_digest(cluster: str) -> str:
    """Gives 16 hexadecimal digits that stand for the cluster's name in keys that strangers may see."""
    return blake2b(cluster.encode(), digest_size=8, person=_CLUSTER).hexdigest()


def token(link_key: bytes, cluster: str, shown: Shown, format_version: int) -> str:
    """Gives the text ``name/incarnation/version/turn/proof`` by which a life shows itself to the others."""
    peer, turn = shown
    assert turn in (0, 1)
    assert 0 <= peer.incarnation <= INCARNATION_MAX
    assert _NAME.fullmatch(peer.name), f"{peer.name!r} is no member's name"
    text = f"{peer.name}/{peer.incarnation:016x}/v{format_version}/{turn}"
    return f"{text}/{_token_mac(link_key, cluster, text)}"


def read_token(link_keys: Sequence[bytes], cluster: str, text: str, format_version: int) -> Shown:
    """Gives the life that a token shows, and which of its two tokens it is.

    Raises: FrameError when it is malformed or its proof was made without our secret; FormatMismatch when its member
    has the secret and speaks another format version than ``format_version``.
    """
    match = _TOKEN_TEXT.fullmatch(text)
    if match is None:
        raise FrameError("something that is no member of Understudy shows itself under this cluster's name")
    name, mac = match["name"], match["mac"]
    signed = text.rpartition("/")[0]
    if not any(hmac.compare_digest(mac, _token_mac(key, cluster, signed)) for key in link_keys):
        raise FrameError(
            f"a process that calls itself {name} has another secret and is ignored; if it is a member of this cluster,"
            " give it the same `secret_file` (or UNDERSTUDY_SECRET) as the others"
        )
    if int(match["version"]) != format_version:
        raise FormatMismatch(
            f"member {name} speaks format version {match['version']}, this one speaks {format_version}, and they do"
            " not work together; run the same release of Understudy on all members"
        )
    return Shown(Peer(name, int(match["incarnation"], 16)), int(match["turn"]))


def login(link_key: bytes) -> tuple[str, str]:
    """Gives user and password that open a link to a member with the same secret; neither reveals the key."""
    digest = blake2b(key=link_key, digest_size=40, person=_LOGIN).hexdigest()
    return digest[:16], digest[16:]


def _token_mac(link_key: bytes, cluster: str, signed: str) -> str:
    return _mac(link_key, _TOKEN, f"{cluster_digest(cluster)}/{signed}".encode()).hex()


def _mac(link_key: bytes, purpose: bytes, body: bytes | memoryview) -> bytes:
    return blake2b(body, key=link_key, digest_size=_MAC_BYTES, person=purpose).digest()


def _proved(link_keys: Sequence[bytes], mac: bytes, body: memoryview) -> bool:
    return any(hmac.compare_digest(mac, _mac(key, _FRAME, body)) for key in link_keys)


def member_name(raw: bytes) -> str:
    """The name that a peer says it bears. Raises: FrameError when it can be no member's."""
    text = raw.decode("ascii", errors="replace")
    if not _NAME.fullmatch(text):
        raise FrameError("a frame names a member by something that is no member's name")
    return text
