"""The small application under aiohttp, which speaks HTTP itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiohttp import web
from aiohttp_session import get_session
from tests.conformance.app import App, Response

from understudy.aiohttp import UnderstudyStorage, setup


class _Wire(asyncio.Transport):
    """What aiohttp's server takes for a connection: one request, and the response's bytes as they are written."""

    def __init__(self, response: Response, on_first_byte: Callable[[], None], *, is_https: bool) -> None:
        super().__init__({"sslcontext": True} if is_https else {})
        self.closed = asyncio.Event()
        self._response = response
        self._on_first_byte = on_first_byte
        self._head = b""
        self._has_head = False

    def write(self, data: Any) -> None:
        if not self._has_head:
            self._head += bytes(data)
            head, separator, data = self._head.partition(b"\r\n\r\n")
            if not separator:
                return
            self._has_head = True
            status, *lines = head.decode("latin-1").split("\r\n")
            self._response.status = int(status.split()[1])
            self._response.headers = [(line.partition(": ")[0], line.partition(": ")[2]) for line in lines]
        if data and not self._response.body:
            self._on_first_byte()
        self._response.body += bytes(data).decode()

    def writelines(self, list_of_data: Any) -> None:
        for data in list_of_data:
            self.write(data)

    def is_closing(self) -> bool:
        return self.closed.is_set()

    def close(self) -> None:
        self.closed.set()

    abort = close
    pause_reading = resume_reading = lambda self: None


def aiohttp_app(**keywords: Any) -> App:
    storage = UnderstudyStorage(**keywords)

    async def view(request: web.Request) -> web.StreamResponse:
        result = app.view(await get_session(request))
        if isinstance(result, str):
            return web.Response(text=result, headers={"Vary": "Accept"})
        response = web.StreamResponse(headers={"Vary": "Accept"})
        for part in result:
            if not response.prepared:
                await response.prepare(request)
            await response.write(part.encode())
        return response

    async def main(cookie: str, response: Response, wire: _Wire) -> None:
        application = web.Application()
        setup(application, storage)
        application.router.add_get("/", view)
        runner = web.AppRunner(application, access_log=None, handle_signals=False)
        await runner.setup()
        assert runner.server is not None
        protocol = runner.server()
        protocol.connection_made(wire)
        line = f"Cookie: other=1; session={cookie}\r\n" if cookie else ""
        protocol.data_received(f"GET / HTTP/1.0\r\nHost: localhost\r\n{line}\r\n".encode("latin-1"))
        await wire.closed.wait()
        protocol.connection_lost(None)
        await runner.cleanup()

    def call(app: App, cookie: str, scheme: str, on_first_byte: Callable[[], None]) -> Response:
        response = Response()

        async def steps() -> None:
            await main(cookie, response, _Wire(response, on_first_byte, is_https=scheme == "https"))

        asyncio.run(steps())
        return response

    app = App(call, lambda: storage.cluster)
    return app
