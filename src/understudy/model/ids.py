"""The id in the cookie: how it is minted and verified, and what is derived from it and from the secret.

An id is 32 characters of base32 over 20 bytes: locator (8) ‖ secret (8) ‖ MAC over both (4). The locator never
changes in a session's life and decides its key; the secret changes with every rotation. An id that we did not mint
is refused here, before anything is looked up. Stores, messages and logs hold keys and hashes, never an id.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import msgspec

from understudy import limits

ID_CHARS = 32
LOCATOR_BYTES = 8
SECRET_BYTES = 8
MAC_BYTES = 4
KEY_BYTES = 16

_BODY_BYTES = LOCATOR_BYTES + SECRET_BYTES
_BASE32_DIGITS = b"abcdefghijklmnopqrstuvwxyz234567"
_PYTHON_DIGITS = b"0123456789abcdefghijklmnopqrstuv"
# Python's int() reads and writes base 32 in C, ten times as fast as base64.b32decode, but with other digits. Every
# byte outside our alphabet becomes "!", which int() refuses: also "_", "+", "-" and blanks, which it would accept.
_FROM_BASE32 = bytes(
    _PYTHON_DIGITS[_BASE32_DIGITS.index(byte)] if byte in _BASE32_DIGITS else ord("!") for byte in range(256)
)
_MEMBER_NAME = re.compile(rf"[a-z0-9-]{{1,{limits.MEMBER_NAME_CHARS_MAX}}}")


class SessionId(msgspec.Struct, frozen=True, gc=False):
    """One id that was minted or verified by ``Keys``; whoever holds its text can open the session."""

    text: str
    """The 32 characters ``[a-z2-7]``."""
    locator: bytes
    """8 bytes; decide the session's key, and stay when the id is rotated."""
    secret: bytes
    """8 bytes; replaced by a rotation."""
    ring: int
    """Index of the configured secret under which it was minted."""

    def __repr__(self) -> str:
        """Nothing from which a cookie could be made: representations end up in logs and error pages."""
        return f"<SessionId under secret {self.ring}>"

    def __rich_repr__(self) -> list[tuple[str, int]]:
        # msgspec gives every Struct one that shows all fields, and pretty tracebacks print local variables with it.
        return [("ring", self.ring)]


class Claim(NamedTuple):
    """What a cookie of ours says: which session it is for, and by what it would open it."""

    session_id: SessionId
    key: bytes
    """See ``Keys.key``."""
    secret: bytes
    """See ``Keys.secret_hash``."""
    route: str
    """A hint, "" without one."""


class _Ring(msgspec.Struct, frozen=True):
    """The keyed hashes under one configured secret, ready to be copied: one label, and so one key, per purpose."""

    mac: hashlib.blake2b
    store_key: hashlib.blake2b
    secret_hash: hashlib.blake2b
    map_key: hashlib.blake2b
    link: bytes


class Keys:
    """Everything that is derived from the configured secrets; the first mints, all of them verify.

    Several secrets are several valid ones, so that a secret can be replaced without logging anybody out: ids stay
    bound to the secret they were minted under.
    """

    def __init__(self, rings: tuple[_Ring, ...]) -> None:
        assert rings, "Keys needs at least one secret"
        self._rings = rings
        self._claim = lru_cache(limits.COOKIES_REMEMBERED_MAX)(self._read_claim)

    @classmethod
    def from_secrets(cls, secrets: Sequence[bytes]) -> Keys:
        """Give the keys for one or more secrets of at least 16 bytes each; blanks around a secret do not count.

        Raises:
            ValueError: no secret, or one that is too short; the message names its position, never its content.
        """
        if not secrets:
            raise ValueError(f"no secret is configured; {_HOW_TO_MAKE_A_SECRET}")
        rings = []
        for position, secret in enumerate(secrets, start=1):
            stripped = secret.strip()
            if len(stripped) < limits.SECRET_BYTES_MIN:
                raise ValueError(
                    f"secret {position} of {len(secrets)} has {len(stripped)} bytes, at least "
                    f"{limits.SECRET_BYTES_MIN} are needed; {_HOW_TO_MAKE_A_SECRET}"
                )
            rings.append(_ring(stripped))
        return cls(tuple(rings))

    def mint(self, random_bytes: bytes) -> SessionId:
        """Give a new id from 16 random bytes, under the first secret."""
        assert len(random_bytes) == _BODY_BYTES, f"an id needs {_BODY_BYTES} random bytes, not {len(random_bytes)}"
        return self._sealed(random_bytes, 0)

    def rotated(self, session_id: SessionId, random_bytes: bytes) -> SessionId:
        """Give the id with the same locator and, as its new secret, 8 random bytes.

        Guarantee: it stays under the secret of the old id, so the session's key is the same.
        """
        assert len(random_bytes) == SECRET_BYTES, f"a rotation needs {SECRET_BYTES} random bytes"
        return self._sealed(session_id.locator + random_bytes, session_id.ring)

    def verify(self, text: str) -> SessionId | None:
        """Give the id if we minted it, else None.

        Guarantee: never raises, whatever the text; the MAC is compared in constant time. Cost: one keyed hash per
        configured secret, no look-up.
        """
        if len(text) != ID_CHARS:
            return None
        try:
            raw = int(text.encode("ascii").translate(_FROM_BASE32), 32).to_bytes(_BODY_BYTES + MAC_BYTES, "big")
        except ValueError:  # a character outside the alphabet; UnicodeEncodeError is one too
            return None
        body, mac = raw[:_BODY_BYTES], raw[_BODY_BYTES:]
        for index, ring in enumerate(self._rings):
            if hmac.compare_digest(_digest(ring.mac, body), mac):
                return SessionId(text, body[:LOCATOR_BYTES], body[LOCATOR_BYTES:], index)
        return None

    def read_cookie(self, value: str) -> tuple[SessionId, str] | None:
        """Give the id and the route of a cookie ``<id>.<route>`` or ``<id>``, or None when the id is not ours.

        The route is only a hint: it is ``""`` when it is absent or cannot be a member's name.
        """
        if len(value) > limits.COOKIE_CHARS_MAX:
            return None
        text, _, route = value.partition(".")
        session_id = self.verify(text)
        if session_id is None:
            return None
        return session_id, route if is_member_name(route) else ""

    def claim(self, application: str, cookie: str) -> Claim | None:
        """Give what a cookie says to one application, or None when its id is not ours.

        Cost: 4 µs, and next to nothing for one of the last ``COOKIES_REMEMBERED_MAX`` cookies: what it says follows
        from its characters alone, and what it opens is asked of the entry each time.
        """
        return self._claim(application, cookie) if len(cookie) <= limits.COOKIE_CHARS_MAX else None

    def _read_claim(self, application: str, cookie: str) -> Claim | None:
        read = self.read_cookie(cookie)
        if read is None:
            return None
        session_id, route = read
        return Claim(session_id, self.key(application, session_id), self.secret_hash(session_id), route)

    def key(self, application: str, session_id: SessionId) -> bytes:
        """Give the 16 bytes under which stores and members know this session of this application."""
        ring = self._rings[session_id.ring]
        return _marked(_digest(ring.store_key, _framed(application, session_id.locator)), 0)

    def secret_hash(self, session_id: SessionId) -> bytes:
        """Give the 16 bytes by which an entry recognises the id's secret without holding it."""
        # The locator goes in too, so that equal secrets of two sessions, however unlikely, have different hashes.
        return _digest(self._rings[session_id.ring].secret_hash, session_id.locator + session_id.secret)

    def link_keys(self) -> tuple[bytes, ...]:
        """Give 32 bytes per configured secret, for MACs between members: the first signs, all of them verify."""
        return tuple(ring.link for ring in self._rings)

    def map_key(self, map_name: str, part: bytes) -> bytes:
        """Give the 16 bytes under which a replicated dictionary keeps one of its parts.

        They depend on the first secret: replacing that one empties the dictionaries, as their keys are not in cookies
        that could say which secret they were made under.
        """
        return _marked(_digest(self._rings[0].map_key, _framed(map_name, part)), 1)

    def _sealed(self, body: bytes, ring_index: int) -> SessionId:
        raw = body + _digest(self._rings[ring_index].mac, body)
        return SessionId(_base32(raw), body[:LOCATOR_BYTES], body[LOCATOR_BYTES:], ring_index)


def cookie_value(session_id: SessionId, route: str) -> str:
    """Give the cookie ``<id>.<route>``: exactly one dot, because Apache splits at the first."""
    assert is_member_name(route), f"{route!r} is not a member's name, so it cannot be a route"
    return f"{session_id.text}.{route}"


def is_member_name(text: str) -> bool:
    """Say whether the text can name a member: 1 to 32 characters of ``[a-z0-9-]``."""
    return _MEMBER_NAME.fullmatch(text) is not None


_HOW_TO_MAKE_A_SECRET = "make one with: python3 -c 'import secrets; print(secrets.token_hex(32))'"


def _ring(secret: bytes) -> _Ring:
    # A configured secret may be longer than a BLAKE2b key (64 bytes), so it is hashed to one first.
    root = hashlib.blake2b(secret, digest_size=64, person=b"understudy root").digest()
    return _Ring(
        mac=hashlib.blake2b(digest_size=MAC_BYTES, key=root, person=b"understudy id"),
        store_key=hashlib.blake2b(digest_size=KEY_BYTES, key=root, person=b"understudy key"),
        secret_hash=hashlib.blake2b(digest_size=16, key=root, person=b"understudy hash"),
        map_key=hashlib.blake2b(digest_size=KEY_BYTES, key=root, person=b"understudy map"),
        link=hashlib.blake2b(digest_size=32, key=root, person=b"understudy link").digest(),
    )


def _digest(keyed: hashlib.blake2b, data: bytes) -> bytes:
    # Copying a hash that has taken in its key is a quarter faster than keying a new one.
    hasher = keyed.copy()
    hasher.update(data)
    return hasher.digest()


def _marked(key: bytes, bit: int) -> bytes:
    """The first bit says what a key names, see ``entry.names_session``: a scan need not read the entry."""
    return bytes((key[0] & 0x7F | bit << 7,)) + key[1:]


def _framed(name: str, rest: bytes) -> bytes:
    """The length goes first, so that no two pairs give the same bytes."""
    encoded = name.encode()
    return len(encoded).to_bytes(4, "big") + encoded + rest


def _base32(raw: bytes) -> str:
    number = int.from_bytes(raw, "big")
    return bytes(_BASE32_DIGITS[number >> shift & 31] for shift in range(5 * (ID_CHARS - 1), -1, -5)).decode()
