"""The closed lists of messages: tags, and what a member or a worker may send at all."""

from __future__ import annotations

import typing
from collections import Counter

import msgspec
import pytest

from understudy.errors import FrameError
from understudy.protocol import messages as m

MEMBER = typing.get_args(m.MemberMessage)
WORKER = typing.get_args(m.WorkerMessage)


def test_every_message_has_its_own_number() -> None:
    """No two messages of the two lists share a tag, so a frame on the wrong socket is never taken for another one."""
    tags = Counter(kind.__struct_config__.tag for kind in (*MEMBER, *WORKER))
    assert set(tags.values()) == {1}
    assert all(isinstance(tag, int) for tag in tags)


def test_every_message_of_the_module_is_in_a_list() -> None:
    """A message that was defined and forgotten would be refused by its receiver."""
    tagged = {
        v for v in vars(m).values() if isinstance(v, type) and issubclass(v, msgspec.Struct) and v.__struct_config__.tag
    }
    assert tagged == {*MEMBER, *WORKER}


@pytest.mark.parametrize(
    "message",
    [m.FetchRequest(1, b"k"), m.ControlRequest(1, "stop"), m.Hello(1, 2)],
    ids=lambda message: type(message).__name__,
)
def test_a_peer_cannot_send_what_only_workers_may(message: m.WorkerMessage) -> None:
    """S52, S53: a worker's message from the network raises FrameError."""
    with pytest.raises(FrameError):
        m.decode_member_message(m.encode(message))


def test_a_worker_cannot_send_what_only_members_may() -> None:
    """S52: a member's message on the local socket raises FrameError."""
    with pytest.raises(FrameError):
        m.decode_worker_message(m.encode(m.Heartbeat(1)))


@pytest.mark.parametrize(
    "frame",
    [b"", b"\xc0", b"\x90", b"\x91\xcd\xff\xff", b"\x92\x01\xa1x", b"\x91\x03", b"\x93\x04\xc4\x01k\xc0"],
    ids=["empty", "nil", "no tag", "unknown tag", "wrong type", "missing fields", "nil for a number"],
)
def test_malformed_frames_are_refused_with_a_reason(frame: bytes) -> None:
    """S52: each raises FrameError that says why, and nothing else."""
    with pytest.raises(FrameError, match=r"could not be decoded: \w+"):
        m.decode_member_message(frame)


def test_a_field_that_a_later_release_adds_is_ignored() -> None:
    """S20: fields are only added at the end; this release reads what it knows."""
    assert m.decode_member_message(b"\x98\x01\x05\xc2\xc3\xa1z\x00\x07\xa3new") == m.Heartbeat(
        5, False, True, "z", agreed=7
    )


def test_a_field_that_an_earlier_release_left_out_has_its_default() -> None:
    """S20: a heartbeat without its later fields is one that neither leaves nor lacks anything."""
    assert m.decode_member_message(b"\x92\x01\x05") == m.Heartbeat(5, False, True)


def test_a_view_of_a_buffer_is_decoded_like_bytes() -> None:
    """Sockets hand out views; what is decoded keeps nothing of the buffer."""
    buffer = bytearray(m.encode(m.AskWhole(b"k" * 16, 7)))
    message = m.decode_member_message(memoryview(buffer))
    buffer[:] = bytes(len(buffer))
    assert message == m.AskWhole(b"k" * 16, 7)
