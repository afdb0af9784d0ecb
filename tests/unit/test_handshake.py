"""Claims of ``transport.handshake``: both sides prove the secret, and a frame opens only where and when it should."""

from __future__ import annotations

import pytest

from understudy import limits
from understudy.errors import FormatMismatch, FrameError
from understudy.transport import Peer, handshake

OLD, NEW, OTHER = b"o" * 32, b"n" * 32, b"x" * 32
A, B = Peer("a", 11), Peer("b", 12)
NONCE, REPLY = b"1" * 16, b"2" * 16


def opened(key: bytes = OLD) -> handshake.SealKeys:
    greeted = handshake.greeting(A, B, NONCE)
    return handshake.seal_keys(key, greeted, handshake.answer(key, greeted, REPLY))


def test_both_sides_prove_the_secret() -> None:
    """S53: greeting, answer, proof; both come to the same keys, one for each direction."""
    greeted = handshake.greeting(A, B, NONCE)
    assert handshake.read_greeting(greeted) == handshake.Greeting(A, B, NONCE)
    answered = handshake.answer(NEW, greeted, REPLY)
    key = handshake.check_answer((OLD, NEW), greeted, answered)
    assert key == NEW
    handshake.check_proof(NEW, greeted, answered, handshake.proof(key, greeted, answered))
    keys = handshake.seal_keys(key, greeted, answered)
    assert keys.dialer != keys.acceptor and keys == handshake.seal_keys(NEW, greeted, answered)


def test_who_lacks_the_secret_proves_nothing() -> None:
    """S53: neither an answer nor a proof under another secret is taken, nor a recorded one for another greeting."""
    greeted, again = handshake.greeting(A, B, NONCE), handshake.greeting(A, B, b"3" * 16)
    answered = handshake.answer(OTHER, greeted, REPLY)
    recorded = handshake.answer(OLD, greeted, REPLY)
    for greeting, answer in ((greeted, answered), (again, recorded), (greeted, b""), (greeted, recorded[:-1])):
        with pytest.raises(FrameError):
            handshake.check_answer((OLD, NEW), greeting, answer)
    for proof in (b"", handshake.proof(OTHER, greeted, recorded), handshake.proof(OLD, again, recorded)):
        with pytest.raises(FrameError):
            handshake.check_proof(OLD, greeted, recorded, proof)


@pytest.mark.parametrize("at", range(0, 70, 3))
def test_a_damaged_greeting_raises_nothing_else(at: int) -> None:
    """S52: whatever byte is changed or missing."""
    whole = handshake.greeting(A, B, NONCE)
    for damaged in (whole[:at], whole[:at] + b"\xff" + whole[at + 1 :], whole + b"x" * (at + 1), b"G" * 200):
        try:
            read = handshake.read_greeting(damaged)
        except (FrameError, FormatMismatch):
            continue
        assert read != handshake.Greeting(A, B, NONCE) or damaged == whole


def test_another_format_version_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """S20: a member of another release learns which versions met."""
    monkeypatch.setattr(limits, "FORMAT_VERSION", 7)
    greeted = handshake.greeting(A, B, NONCE)
    monkeypatch.undo()
    with pytest.raises(FormatMismatch, match="version 7, this one speaks 1"):
        handshake.read_greeting(greeted)


def test_frames_open_in_their_row_only() -> None:
    """S53: none may be left out, repeated, changed, or opened in the other direction or connection."""
    keys = opened()
    sealer = handshake.Sealer(keys.dialer)
    first, second = (sealer.seal(payload)[handshake.LENGTH_BYTES :] for payload in (b"one", b"two"))
    opener = handshake.Sealer(keys.dialer)
    assert (opener.open(first), opener.open(second)) == (b"one", b"two")
    for frames in ((second,), (first, first), (first, second[:-1] + b"x"), (b"",)):
        fresh = handshake.Sealer(keys.dialer)
        with pytest.raises(FrameError):
            for frame in frames:
                fresh.open(frame)
    for key in (keys.acceptor, opened(NEW).dialer):
        with pytest.raises(FrameError):
            handshake.Sealer(key).open(first)
