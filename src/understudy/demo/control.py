"""Serves the demo's control page: who lives, who holds what, and buttons that kill a member and start it again.

On the loopback interface only. A change needs a token that stands in our own pages, so that no other page in the same
browser can press a button, and requests under a foreign host name are refused.
"""

from __future__ import annotations

import hmac
import secrets
import socket
import threading
from collections.abc import Callable, Mapping
from html import escape
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from understudy.demo import pages
from understudy.demo.cluster import Cluster
from understudy.demo.doors import HOST
from understudy.demo.places import role_of
from understudy.errors import UnderstudyError

FORM_BYTES_MAX = 4_096
SILENT_S_MAX = 10
"""A browser that connects and says nothing gives its thread back after so long."""
HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}


class ControlPage:
    """The page's server, in threads of its own, until ``close``. Raises: OSError when the port is in use."""

    def __init__(self, cluster: Cluster, port: int, cookie_name: str) -> None:
        self.port = port
        self._desk = Desk(cluster, cookie_name)
        self._server = ThreadingHTTPServer((HOST, port), self._handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="control page", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def close(self) -> None:
        """Serve nothing more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self, request: socket.socket, address: tuple[str, int], server: ThreadingHTTPServer) -> Handler:
        return Handler(
            self._desk, frozenset({f"{HOST}:{self.port}", f"localhost:{self.port}"}), request, address, server
        )


class Desk:
    """What the page shows and does; knows no HTTP."""

    def __init__(self, cluster: Cluster, cookie_name: str) -> None:
        self.cookie_name = cookie_name
        self._cluster = cluster
        self._token = secrets.token_urlsafe(16)
        self._lock = threading.Lock()
        """Held while a member is killed or started: a button may be pressed twice."""

    def page(self, cookie: str) -> str:
        """The whole page, for a browser with this session cookie ("" for none)."""
        located = self.located(cookie) if cookie else None
        boxes = "".join(self._box(name, located) for name in self._cluster.members)
        return pages.CONTROL.format(style=pages.STYLE, members=boxes, session=self._session(cookie, located))

    def press(self, verb: str, form: Mapping[str, str]) -> bool:
        """Kill or start the member that the form names; False when the form is not one of ours. Raises: OSError."""
        name = form.get("member", "")
        is_ours = hmac.compare_digest(form.get("token", "").encode(), self._token.encode())
        actions: dict[str, Callable[[str], None]] = {"/kill": self._kill, "/start": self._start}
        if not is_ours or name not in self._cluster.members or verb not in actions:
            return False
        with self._lock:
            actions[verb](name)
        return True

    def located(self, cookie: str) -> dict[str, Any] | None:
        """Where the session is, as the first of the members says that knows it."""
        for name in self._cluster.members:
            try:
                document = self._cluster.locate(name, cookie)
            except UnderstudyError:
                continue
            if document is not None and document.get("known") and self._is_current(document):
                return document
        return None

    def _is_current(self, document: dict[str, Any]) -> bool:
        """A member that has not yet heard of a loss names a primary that is dead."""
        return document["ended"] or self._cluster.runs(document["primary"])

    def _kill(self, name: str) -> None:
        if self._cluster.runs(name):
            self._cluster.kill(name)

    def _start(self, name: str) -> None:
        if not self._cluster.runs(name):
            self._cluster.start(name)

    def _box(self, name: str, located: dict[str, Any] | None) -> str:
        runs = self._cluster.runs(name)
        facts, standing = self._facts(name) if runs else ("<p>All its processes are dead.</p>", "killed")
        role = role_of(name, located) if runs else "gone"
        if role in ("primary", "backup", "proxy"):
            standing += f" · {role} of your session"
        return pages.CONTROL_MEMBER.format(
            role=role,
            standing=escape(standing),
            url=escape(self._cluster[name].url, quote=True),
            name=escape(name, quote=True),
            facts=facts,
            verb="kill" if runs else "start",
            label=f"Kill {escape(name)}" if runs else f"Start {escape(name)}",
            kind="danger" if runs else "quiet",
            token=self._token,
        )

    def _facts(self, name: str) -> tuple[str, str]:
        try:
            status = self._cluster.status(name)
        except UnderstudyError:
            return "<p class='soft'>Its agent does not answer yet.</p>", "starting"
        sessions = status["sessions"]
        others = ", ".join(f"{one['name']} {one['standing']}" for one in status["members"] if one["name"] != name)
        unprotected = f" <strong class='bad'>({sessions['unprotected']} unprotected)</strong>"
        text = (
            f"<p>{sessions['primary']} sessions as primary{unprotected if sessions['unprotected'] else ''},"
            f" {sessions['backup']} as backup, {sessions['proxy']} as proxy</p>"
            f"<p class='soft'>agent {status['pid']}; sees {escape(others) or 'nobody'}</p>"
        )
        return text, "alive" if status["ready"] else "joining"

    def _session(self, cookie: str, located: dict[str, Any] | None) -> str:
        if not cookie:
            first = next(iter(self._cluster.members.values()))
            return f"<p>None yet: <a href='{escape(first.url)}'>log in to the shop</a> first.</p>"
        if located is None:
            return "<p class='soft'>No member that answers knows it now.</p>"
        if located["ended"]:
            return "<p>It has ended: you logged out.</p>"
        backups = escape(", ".join(located["backups"])) or "nobody"
        return (
            f"<p>primary <strong>{escape(located['primary'])}</strong>, backup <strong>{backups}</strong>,"
            f" the others are proxies <span class='soft'>(key {escape(located['key'])})</span></p>"
        )


class Handler(BaseHTTPRequestHandler):
    """One connection of a browser."""

    timeout = SILENT_S_MAX

    def __init__(
        self,
        desk: Desk,
        hosts: frozenset[str],
        request: socket.socket,
        address: tuple[str, int],
        server: ThreadingHTTPServer,
    ) -> None:
        self._desk = desk
        self._hosts = hosts
        super().__init__(request, address, server)

    def do_GET(self) -> None:
        if not self._is_for_us():
            self._send(421, "<p>This page is served on the loopback interface only.</p>")
        elif self.path.split("?")[0] == "/":
            self._send(200, self._desk.page(self._cookie()))
        else:
            self._send(404, "<p>There is only one page: <a href='/'>the control page</a>.</p>")

    def do_POST(self) -> None:
        try:
            done = self._is_for_us() and self._desk.press(self.path, self._form())
        except (OSError, UnderstudyError) as error:
            self._send(500, f"<p>That did not work: {escape(str(error))}</p>")
            return
        if not done:
            self._send(403, "<p>The form is not one of this page: <a href='/'>load it again</a>.</p>")
            return
        self.send_response(303)
        self.send_header("Location", "/")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """The terminal is for the demo's own words."""

    def _is_for_us(self) -> bool:
        return self.headers.get("Host", "") in self._hosts

    def _form(self) -> dict[str, str]:
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > FORM_BYTES_MAX:
            return {}
        fields = parse_qs(self.rfile.read(int(length)).decode(errors="replace"))
        return {name: values[0] for name, values in fields.items()}

    def _cookie(self) -> str:
        try:
            found = SimpleCookie(self.headers.get("Cookie", "")).get(self._desk.cookie_name)
        except CookieError:
            return ""
        return found.value if found is not None else ""

    def _send(self, status: int, page: str) -> None:
        body = page.encode()
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
