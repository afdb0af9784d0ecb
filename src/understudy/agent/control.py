"""How tools talk to a member's agent: one blocking connection, one question at a time."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from understudy import limits
from understudy.agent.socket import LENGTH_BYTES
from understudy.config import SOCKET_NAME
from understudy.errors import AgentUnavailable, FormatMismatch, FrameError
from understudy.protocol.worker_messages import (
    ControlRequest,
    Hello,
    Reply,
    Welcome,
    WorkerMessage,
    decode_worker_message,
    encode,
)

ANSWER_S = 5.0
"""How long a tool waits for a plain answer."""
TOOL = "tool"


class Control:
    """A tool's connection to the agent of one directory.

    Raises (also its methods): AgentUnavailable when nobody listens there, or no answer comes in time; FormatMismatch.
    """

    def __init__(self, directory: Path, *, kind: str = TOOL, timeout_s: float = ANSWER_S) -> None:
        self._path = directory / SOCKET_NAME
        self._timeout_s = timeout_s
        self._last = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_s)
        try:
            self._socket.connect(str(self._path))
            self._send(Hello(limits.FORMAT_VERSION, os.getpid(), kind))
            welcome = self._receive()
            if not isinstance(welcome, Welcome):
                raise FrameError(f"its first message is {type(welcome).__name__}")
        except (OSError, FrameError) as error:
            self.close()
            raise AgentUnavailable(f"no agent answers at {self._path} ({_reason(error)})") from error
        self.welcome: Welcome = welcome
        """Who answers; ``ready`` as of the beginning."""
        if welcome.format_version != limits.FORMAT_VERSION:
            self.close()
            raise FormatMismatch(
                f"the agent at {self._path} speaks format version {welcome.format_version}, this tool"
                f" {limits.FORMAT_VERSION}: use the same release for both"
            )

    def __enter__(self) -> Control:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ask(self, verb: str, argument: bytes = b"", timeout_s: float | None = None) -> dict[str, Any]:
        """Gives the agent's answer to ``status``, ``locate`` (a key), ``drain`` or ``stop``."""
        self._last += 1
        try:
            self._socket.settimeout(self._timeout_s if timeout_s is None else timeout_s)
            self._send(ControlRequest(self._last, verb, argument))
            reply = self._receive()
            if not isinstance(reply, Reply) or reply.control is None or reply.request != self._last:
                raise FrameError("it answered something else")
            document = msgspec.json.decode(reply.control)
        except (OSError, FrameError, msgspec.MsgspecError) as error:
            raise AgentUnavailable(f"the agent at {self._path} did not answer {verb!r} ({_reason(error)})") from error
        assert isinstance(document, dict)
        return document

    def wait_for_end(self, timeout_s: float) -> bool:
        """True when the agent ended the connection in that time."""
        self._socket.settimeout(timeout_s)
        try:
            return not self._socket.recv(1)
        except TimeoutError:
            return False
        except OSError:
            return True

    def fileno(self) -> int:
        """The socket, to wait until it can be read: the agent has ended."""
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def _send(self, message: WorkerMessage) -> None:
        frame = encode(message)
        self._socket.sendall(len(frame).to_bytes(LENGTH_BYTES, "big") + frame)

    def _receive(self) -> WorkerMessage:
        size = int.from_bytes(self._exactly(LENGTH_BYTES), "big")
        if size > limits.FRAME_BYTES_MAX:
            raise FrameError(f"it announced a frame of {size} bytes")
        return decode_worker_message(self._exactly(size))

    def _exactly(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            part = self._socket.recv(count - len(data))
            if not part:
                raise FrameError("it ended the connection")
            data += part
        return bytes(data)


def ask(directory: Path, verb: str, argument: bytes = b"", timeout_s: float = ANSWER_S) -> dict[str, Any]:
    """Gives the answer to one question. Raises: AgentUnavailable, FormatMismatch."""
    with Control(directory, timeout_s=timeout_s) as control:
        return control.ask(verb, argument)


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError | ConnectionRefusedError):
        return "it is not running"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
