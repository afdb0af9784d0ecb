"""Calls an application as its server would: WSGI in the caller's thread, ASGI in one event loop for all."""

from __future__ import annotations

import asyncio
import http.client
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar
from wsgiref.util import setup_testing_defaults

from race_questions import WAIT_S_MAX, Call, Reply

_Result = TypeVar("_Result")
Environ = dict[str, Any]


def wsgi_call(app: Callable[..., Iterable[bytes]]) -> Call:
    """What a WSGI server does with one request."""

    def call(path: str, cookie: str) -> Reply:
        environ: Environ = {"PATH_INFO": path, "QUERY_STRING": "", "SERVER_NAME": "localhost"}
        setup_testing_defaults(environ)
        if cookie:
            environ["HTTP_COOKIE"] = cookie
        begun: list[tuple[str, list[tuple[str, str]]]] = []

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[..., Any]:
            begun.append((status, headers))
            return lambda data: None

        parts = app(environ, start_response)
        try:
            body = b"".join(parts)
        finally:
            close = getattr(parts, "close", None)
            if close is not None:
                close()
        status, headers = begun[-1]
        return Reply(int(status.split()[0]), _lines(headers), body.decode())

    return call


class Loop:
    """One event loop in a thread of its own, as a server's; use it as a context."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Loop:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def run(self, what: Coroutine[Any, Any, _Result]) -> _Result:
        """Its result; it runs in the context of the thread that calls, and so at that one's member."""
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(2 * WAIT_S_MAX)

    def asgi_call(self, app: Callable[..., Awaitable[None]]) -> Call:
        """What an ASGI server does with one request."""

        async def serve(path: str, cookie: str) -> Reply:
            headers = [(b"host", b"localhost"), *([(b"cookie", cookie.encode())] if cookie else [])]
            scope = {
                "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
                "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": headers,
                "server": ("localhost", 80), "client": ("127.0.0.1", 1), "extensions": {}, "state": {},
            }  # fmt: skip
            sent: list[dict[str, Any]] = []
            asked = 0
            over = asyncio.Event()

            async def receive() -> dict[str, Any]:
                nonlocal asked
                asked += 1
                if asked > 1:
                    await over.wait()  # a client that stays until its response has come
                    return {"type": "http.disconnect"}
                return {"type": "http.request", "body": b"", "more_body": False}

            async def send(message: dict[str, Any]) -> None:
                sent.append(message)
                if message["type"] == "http.response.body" and not message.get("more_body", False):
                    over.set()

            await app(scope, receive, send)
            begin = next(message for message in sent if message["type"] == "http.response.start")
            body = b"".join(message.get("body", b"") for message in sent if message["type"] == "http.response.body")
            lines = [(name.decode(), value.decode()) for name, value in begin["headers"]]
            return Reply(begin["status"], _lines(lines), body.decode())

        return lambda path, cookie: self.run(serve(path, cookie))


def http_call(port: int, headers: Callable[[], dict[str, str]] = dict) -> Call:
    """A request over loopback, for servers that are their own framework."""

    def call(path: str, cookie: str) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2 * WAIT_S_MAX)
        try:
            connection.request("GET", path, headers={**headers(), **({"Cookie": cookie} if cookie else {})})
            response = connection.getresponse()
            body = response.read().decode()
            return Reply(response.status, _lines(response.getheaders()), body)
        finally:
            connection.close()

    return call


def _lines(headers: Iterable[tuple[str, str]]) -> list[str]:
    return [value for name, value in headers if name.lower() == "set-cookie"]
