"""A small agent for the client's tests: it speaks the socket's protocol and answers as a test says."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from understudy import limits
from understudy.errors import FrameError
from understudy.protocol.messages import (
    Hello,
    Reply,
    Welcome,
    WorkerMessage,
    decode_worker_message,
    encode,
)

Answers = Callable[["Line", WorkerMessage], None]


class Line:
    """One connection, as the agent sees it."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._sending = threading.Lock()
        self.hello: Hello | None = None

    def send(self, message: WorkerMessage) -> None:
        body = encode(message)
        with self._sending:
            self._socket.sendall(len(body).to_bytes(4, "big") + body)

    def reply(self, reply: Reply) -> None:
        self.send(reply)

    def receive(self) -> WorkerMessage | None:
        header = self._exactly(4)
        body = self._exactly(int.from_bytes(header, "big")) if header else b""
        return decode_worker_message(body) if body else None

    def hang_up(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self._socket.recv(count - len(data))
            if not part:
                return b""
            data += part
        return data


class ScriptedAgent:
    """Listens at a path; ``answers(line, message)`` is called for each message after the greeting, in a thread."""

    def __init__(self, path: Path, answers: Answers, *, format_version: int = limits.FORMAT_VERSION) -> None:
        self.received: list[WorkerMessage] = []
        self.pids: list[int] = []
        """Of those who greeted, in order."""
        self._answers = answers
        self._format_version = format_version
        self._lines: list[Line] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(path))
        self._socket.listen(64)
        self._path = path
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def __enter__(self) -> ScriptedAgent:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """As a killed agent: nobody listens, every connection ends, the socket's file stays."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()
        for line in self._lines:
            line.hang_up()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                line = Line(self._socket.accept()[0])
                self._lines.append(line)
                threading.Thread(target=self._serve, args=(line,), daemon=True).start()

    def _serve(self, line: Line) -> None:
        with contextlib.suppress(OSError, FrameError):
            hello = line.receive()
            assert isinstance(hello, Hello), "the first frame is Hello"
            line.hello = hello
            self.pids.append(hello.pid)
            line.send(Welcome(self._format_version, "a", 1, True))
            while (message := line.receive()) is not None:
                self.received.append(message)
                self._answers(line, message)
