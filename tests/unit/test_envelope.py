"""Sealed frames, replay windows and liveliness tokens: what opens, and everything that must not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy import limits
from understudy.errors import FormatMismatch, FrameError
from understudy.transport import Peer
from understudy.transport.envelope import (
    ENVELOPE_BYTES_MAX,
    INCARNATION_MAX,
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

KEY, OLD_KEY, STRANGE_KEY = b"k" * 32, b"o" * 32, b"s" * 32
A, B = Peer("web1", 7), Peer("web2", INCARNATION_MAX)

peers = st.builds(Peer, st.from_regex(r"[a-z0-9-]{1,32}", fullmatch=True), st.integers(0, INCARNATION_MAX))


@given(peers, peers, st.integers(0, 2**64 - 1), st.binary(max_size=300))
def test_round_trip(sender: Peer, receiver: Peer, sequence: int, payload: bytes) -> None:
    """What was sealed for a life opens there, with its sender, its number and every byte."""
    frame = seal(KEY, sender, receiver, sequence, payload)
    assert open_((KEY,), receiver, frame) == (sender, sequence, payload)
    assert len(frame) <= len(payload) + ENVELOPE_BYTES_MAX


def test_the_largest_payload_passes_and_one_byte_more_is_not_sent() -> None:
    """``FRAME_BYTES_MAX`` bounds the payload on both sides (S52)."""
    payload = bytes(limits.FRAME_BYTES_MAX)
    long = Peer("n" * limits.MEMBER_NAME_CHARS_MAX, 1)
    assert open_((KEY,), long, seal(KEY, long, long, 1, payload)).payload == payload
    with pytest.raises(AssertionError):
        seal(KEY, A, B, 1, payload + b"x")


def test_any_valid_key_opens() -> None:
    """While a secret is being changed a frame that the older one sealed still opens."""
    assert open_((KEY, OLD_KEY), B, seal(OLD_KEY, A, B, 1, b"x")).sender == A


def test_a_frame_of_another_secret_does_not_open() -> None:
    """S53: without the secret nobody is heard."""
    with pytest.raises(FrameError, match="not authentic"):
        open_((KEY, OLD_KEY), B, seal(STRANGE_KEY, A, B, 1, b"x"))


def test_every_bit_is_protected() -> None:
    """A frame in which any one bit was turned over does not open."""
    frame = seal(KEY, A, B, 1, b"payload")
    for changed in _each_bit_turned(frame):
        with pytest.raises(FrameError):
            open_((KEY,), B, changed)


@pytest.mark.parametrize("receiver", [Peer("web2", 8), Peer("web3", INCARNATION_MAX), A])
def test_a_recorded_frame_opens_nowhere_else(receiver: Peer) -> None:
    """S53: a frame replayed to a later life of its receiver, to another member or to its own sender is refused."""
    with pytest.raises(FrameError, match="another life or place"):
        open_((KEY,), receiver, seal(KEY, A, B, 1, b"x"))


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(data: bytes) -> None:
    """S52: whatever arrives, the only error is FrameError."""
    with pytest.raises(FrameError):
        open_((KEY,), B, data)


def test_truncated_and_oversized_frames_are_refused() -> None:
    """S52: no prefix of a frame opens, and one that is too long is refused by its size alone."""
    frame = seal(KEY, A, B, 1, b"payload")
    for length in range(len(frame)):
        with pytest.raises(FrameError):
            open_((KEY,), B, frame[:length])
    with pytest.raises(FrameError, match="cannot be one of ours"):
        open_((KEY,), B, bytes(limits.FRAME_BYTES_MAX + ENVELOPE_BYTES_MAX + 1))


# --- replay ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 60), max_size=80))
def test_each_number_is_accepted_once_in_any_order(numbers: list[int]) -> None:
    """Within the window every frame passes exactly once, however the network mixes and repeats them (S15, S53)."""
    window = ReplayWindow()
    accepted = [number for number in numbers if window.accept(A, number)]
    assert accepted == list(dict.fromkeys(numbers))


def test_numbers_below_the_window_count_as_repeats() -> None:
    """What is older than the window cannot be told from a repeat, and is dropped."""
    window = ReplayWindow()
    top = limits.REPLAY_WINDOW_FRAMES + 10
    assert window.accept(A, top)
    assert window.accept(A, top - limits.REPLAY_WINDOW_FRAMES + 1)
    assert not window.accept(A, top - limits.REPLAY_WINDOW_FRAMES)
    assert window.accept(A, 10 * top) and not window.accept(A, top)


def test_lives_are_told_apart_and_bounded() -> None:
    """Each life of a sender has numbers of its own, and only so many lives are remembered."""
    window = ReplayWindow(lives_max=2)
    first, second, third = Peer("a", 1), Peer("a", 2), Peer("b", 1)
    assert window.accept(first, 1) and window.accept(second, 1)
    assert not window.accept(first, 1)
    assert window.accept(third, 1)  # the second was silent longest and goes
    assert not window.accept(first, 1) and not window.accept(third, 1)
    assert window.accept(second, 1)


def test_sequences_rise_for_each_receiver_also_after_it_was_forgotten() -> None:
    """A receiver never sees a number twice from one life, even when the sender had to forget it meanwhile."""
    sequences = Sequences(lives_max=2)
    a, b, c = Peer("a", 1), Peer("b", 1), Peer("c", 1)
    assert [sequences.next(a), sequences.next(a), sequences.next(b)] == [1, 2, 1]
    assert sequences.next(c) == 1  # a is forgotten, at 2
    assert sequences.next(a) == 3


# --- tokens ----------------------------------------------------------------------------------------------------------


@given(st.builds(Shown, peers, st.integers(0, 1)), st.integers(1, 999_999))
def test_a_token_shows_its_life(shown: Shown, version: int) -> None:
    """Members of one cluster, secret and format version read each other's tokens."""
    assert read_token((OLD_KEY, KEY), "shop", token(KEY, "shop", shown, version), version) == shown


def test_a_token_of_another_secret_or_cluster_is_refused() -> None:
    """S53: a token proves the secret, for one cluster."""
    for shown in (token(STRANGE_KEY, "shop", Shown(A, 0), 1), token(KEY, "other", Shown(A, 0), 1)):
        with pytest.raises(FrameError, match="web1 has another secret"):
            read_token((KEY,), "shop", shown, 1)


def test_a_token_cannot_be_altered() -> None:
    """Name, incarnation, version and turn are all part of the proof."""
    name, incarnation, version, turn, mac = token(KEY, "shop", Shown(A, 0), 1).split("/")
    for altered in (
        ("web2", incarnation, version, turn, mac),
        (name, f"{8:016x}", version, turn, mac),
        (name, incarnation, "v2", turn, mac),
        (name, incarnation, version, "1", mac),
        (name, incarnation, version, turn, mac[::-1]),
    ):
        with pytest.raises(FrameError):
            read_token((KEY,), "shop", "/".join(altered), 1)


@pytest.mark.parametrize(
    "shown", ["", "web1", "web1/1/v1/0/00", "WEB1/" + "0" * 16 + "/v1/0/" + "0" * 32, "a/b/c/d", "/" * 9]
)
def test_what_is_no_token_is_refused(shown: str) -> None:
    """S52: anything may be shown under our prefix."""
    with pytest.raises(FrameError, match="no member of Understudy"):
        read_token((KEY,), "shop", shown, 1)


def test_another_format_version_is_named() -> None:
    """S20: the message names the member and both versions."""
    with pytest.raises(FormatMismatch, match=r"web1 speaks format version 2, this one speaks 1"):
        read_token((KEY,), "shop", token(KEY, "shop", Shown(A, 0), 2), 1)


def test_logins_follow_the_key_and_do_not_show_it() -> None:
    """Two members with one key have one login; another key has another; the key is not in it."""
    user, password = login(KEY)
    assert login(KEY) == (user, password) and ":" not in user
    assert not {user, password} & set(login(OLD_KEY))
    assert KEY.hex() not in user + password and password not in user


def test_cluster_digests_differ() -> None:
    """Two clusters on one network have two prefixes."""
    assert cluster_digest("shop") == cluster_digest("shop") != cluster_digest("shop2")


def _each_bit_turned(frame: bytes) -> Iterator[bytes]:
    for at in range(len(frame)):
        for bit in range(8):
            yield frame[:at] + bytes([frame[at] ^ 1 << bit]) + frame[at + 1 :]
