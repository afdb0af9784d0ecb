"""Gives a browser for programs: one cookie for all members, plain requests, and how each of them ended."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from http.cookies import SimpleCookie
from typing import Any, NamedTuple
from urllib.parse import urlencode

from understudy.demo.doors import Connection, Door

TIMEOUT_S = 60.0
"""A request that has no answer after so long counts as an error: browsers and balancers give up, too."""
PROTECTED_HEADER = "X-Understudy-Protected"


class Answer(NamedTuple):
    """One response, read to its end."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def protected(self) -> bool | None:
        """What the testing header says; None when the response does not have it."""
        value = self.headers.get(PROTECTED_HEADER.lower())
        return None if value is None else value == "1"


class Browser:
    """Follows its cookie from member to member; not for several threads.

    Each request has a connection of its own, unless it is given one: a connection stays with the worker that took it.
    """

    def __init__(self, cookie_name: str = "session", cookie: str | None = None, timeout_s: float = TIMEOUT_S) -> None:
        self.cookie_name = cookie_name
        self.cookie = cookie
        self.timeout_s = timeout_s
        self.set_cookies = 0
        """How many responses have set or ended the cookie."""

    def get(self, door: Door, path: str, connection: http.client.HTTPConnection | None = None) -> Answer:
        """Raises: OSError, http.client.HTTPException: nobody there, or gone before the answer was complete."""
        return self._request(connection, door, "GET", path, None)

    def post(
        self, door: Door, path: str, form: Mapping[str, str], connection: http.client.HTTPConnection | None = None
    ) -> Answer:
        """Sends a form and asks for JSON. Raises: as ``get``."""
        return self._request(connection, door, "POST", path, urlencode(form).encode())

    def _request(
        self, given: http.client.HTTPConnection | None, door: Door, method: str, path: str, body: bytes | None
    ) -> Answer:
        headers = {"Accept": "application/json"}
        if given is None:
            headers["Connection"] = "close"
        if self.cookie is not None:
            headers["Cookie"] = f"{self.cookie_name}={self.cookie}"
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        connection = given or Connection(door, self.timeout_s)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            data = response.read()
        finally:
            if given is None:
                connection.close()
        for line in response.headers.get_all("Set-Cookie") or []:
            self._keep(line)
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, data)

    def _keep(self, line: str) -> None:
        for name, morsel in SimpleCookie(line).items():
            if name == self.cookie_name:
                self.set_cookies += 1
                ends = morsel["max-age"] == "0" or morsel["expires"].startswith("Thu, 01 Jan 1970")
                self.cookie = None if ends or not morsel.value else morsel.value
